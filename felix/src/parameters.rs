//! Parameters given on the node itself: `FELIX_*` in the environment, and a file.
//!
//! Pure but for reading the file. What the parameters mean is `felix_core`'s. Source: Calico
//! `felix/config/{env_vars,config_file}.go`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the file is unless said.
pub const DEFAULT_FILE: &str = "/etc/calico/felix.cfg";
const ENV_PREFIX: &str = "FELIX_";
/// Parameters of the start, not of the configuration: who and where the datastore is.
const NOT_CONFIGURATION: [&str; 3] = ["felixhostname", "datastoretype", "calicodir"];

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A line is not understood.
    #[error("{path} line {line}: {text:?} is not understood; write Name = value")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number.
        line: usize,
        /// Its text.
        text: String,
    },
}

/// Parameters of the environment: names without `FELIX_`.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables
        .filter_map(|(name, value)| Some((name.strip_prefix(ENV_PREFIX)?.to_owned(), value)))
        .filter(|(name, _)| !NOT_CONFIGURATION.contains(&name.to_ascii_lowercase().as_str()))
        .collect()
}

/// Parameters of a file. The default file need not exist.
///
/// # Errors
/// When the file cannot be read or a line of it is not understood.
pub fn from_file(path: Option<&Path>) -> Result<BTreeMap<String, String>, Error> {
    let file = path.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text, file),
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(Error::Read {
            path: file.to_owned(),
            source,
        }),
    }
}

/// `Name = value` or `Name: value` in each line; sections have no meaning, `#` and `;` begin comments.
fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let is_section = line.starts_with('[') && line.ends_with(']');
        if line.is_empty() || line.starts_with(['#', ';']) || is_section {
            continue;
        }
        let (name, value) = line.split_once(['=', ':']).ok_or_else(|| Error::Line {
            path: path.to_owned(),
            line: number + 1,
            text: line.to_owned(),
        })?;
        found.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_felix_variables_are_parameters() {
        let variables = [
            ("FELIX_HEALTHPORT", "1"),
            ("HOME", "/"),
            ("FELIX_FELIXHOSTNAME", "n"),
        ];
        let found = from_environment(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        assert_eq!(found, BTreeMap::from([("HEALTHPORT".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn a_file_has_names_and_values() {
        let path = Path::new("felix.cfg");
        let found = parse("[global]\n# text\nIpv6Support = false\nHealthHost: ::1\n\n", path).unwrap();
        assert_eq!(found["Ipv6Support"], "false");
        assert_eq!(found["HealthHost"], "::1");
        assert_eq!(
            parse("[global]\nnonsense\n", path).unwrap_err().to_string(),
            "felix.cfg line 2: \"nonsense\" is not understood; write Name = value"
        );
        assert!(from_file(Some(Path::new("/nonexistent/felix.cfg"))).is_err());
    }
}
