//! What a machine can watch of the house style: a doc on each module, no forgotten notes, generated lists in step.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Lines above which a file is named in the report. A report, not a failure: no one splits a file to please a number.
const LONG_FILE_LINES: usize = 400;

/// Fails on what is never right; prints what deserves a look.
///
/// # Errors
/// With one line a finding, or when a source file cannot be read.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    for file in sources(root)? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        findings.extend(findings_in(&name, &text));
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{}", findings.join("\n"))
    }
}

/// The production lines of files that are longer than one sitting, longest first.
///
/// # Errors
/// When a source file cannot be read.
pub(crate) fn long_files(root: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let mut long = Vec::new();
    for file in sources(root)? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let lines = production_lines(&text);
        if lines > LONG_FILE_LINES && !file.components().any(|part| part.as_os_str() == "tests") {
            long.push((lines, file));
        }
    }
    long.sort_by(|a, b| b.cmp(a));
    Ok(long)
}

fn findings_in(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let is_test_part = name.ends_with("/tests.rs");
    if !is_test_part && !text.trim_start().starts_with("//!") {
        findings.push(format!("{name}: no module doc (`//!`) that says what it owns"));
    }
    for (index, line) in text.lines().enumerate() {
        let note = ["TO", "DO"].concat();
        if line.contains(&format!("{note}:")) || line.contains(&format!("{note}(")) {
            findings.push(format!(
                "{name}:{}: a {note}: make it an issue or do it",
                index + 1
            ));
        }
        // One with a reason is run by a target of its own.
        if line.contains("#[ignore]") || line.contains("#[should_panic") {
            findings.push(format!(
                "{name}:{}: a test that is skipped without a reason or expects a panic",
                index + 1
            ));
        }
    }
    findings
}

fn production_lines(text: &str) -> usize {
    text.split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .lines()
        .count()
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | "xtask") && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        check(root).unwrap();
    }

    #[test]
    fn a_module_without_a_doc_and_a_note_are_found() {
        let note = ["// TO", "DO: later"].concat();
        let findings = findings_in("x/src/a.rs", &format!("use std::fmt;\n{note}\n"));
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
