//! Reads test vectors: included by the vector tests of packages, so that all of them follow one rule.
//!
//! The folder is the one that `CARACAL_VECTORS` names, or else this one. Every `*.json` in it is read, and belongs to
//! the family that its `family` field says, so a file of any name is picked up. A family that the folder has no file of
//! is an error here, and is said and passed over in a folder that was named.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// One case.
pub(crate) struct Case {
    /// File and number, to find it again.
    pub(crate) place: String,
    /// The whole case; most have `in` and `out`.
    pub(crate) value: Value,
}

/// All cases of a family.
pub(crate) fn cases(family: &str) -> Vec<Case> {
    let named = std::env::var_os("CARACAL_VECTORS").map(PathBuf::from);
    let is_named = named.is_some();
    let folder = named.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/")).join(match env!("CARGO_PKG_NAME") {
            "caracal-felix-core" | "caracal-bgpd-core" | "caracal-bgpd-compile" => "../../tests/vectors",
            _ => "../tests/vectors",
        })
    });
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.display();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if file["family"] != family {
            continue;
        }
        let cases = file["cases"].as_array();
        let cases = cases.filter(|cases| !cases.is_empty());
        let cases = cases.unwrap_or_else(|| panic!("{name}: no cases"));
        found.extend(cases.iter().enumerate().map(|(index, case)| Case {
            place: format!("{name} case {index}"),
            value: case.clone(),
        }));
    }
    let has_cases = !found.is_empty();
    assert!(has_cases || is_named, "{}: no family {family}", folder.display());
    if !has_cases {
        say(&format!(
            "NOT RUN: {} has no cases of family {family}",
            folder.display()
        ));
    }
    found
}

/// Prints a line beside the test's own.
#[expect(clippy::print_stderr, reason = "a test that runs nothing says so")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
