//! The configuration file of a speaker without Kubernetes: YAML, read strictly.

use std::path::{Path, PathBuf};

use caracal_api::yaml;
use caracal_bgpd_core::Config;
use caracal_bgpd_core::config::{ConfigError, Listen, Originate, Peer};
use caracal_bgpd_core::policy::Policy;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("{path}: {source}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: yaml::YamlError,
    },
    /// A field is unknown, missing or of a wrong type.
    #[error("{path}: {field}: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Which.
        field: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A value cannot be used.
    #[error("{path}: {source}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Field, value and remedy.
        source: ConfigError,
    },
}

/// Reads and checks a configuration file.
///
/// # Errors
/// The first thing that is wrong, with its path in the document.
pub fn load(path: &Path) -> Result<Config, Error> {
    let at = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: at(), source })?;
    let document = yaml::document(&text).map_err(|source| Error::Yaml { path: at(), source })?;
    let config = read(&document).map_err(|(field, problem)| Error::Field {
        path: at(),
        field,
        problem,
    })?;
    config
        .validate()
        .map_err(|source| Error::Value { path: at(), source })?;
    Ok(config)
}

/// The configuration as YAML, passwords hidden.
///
/// # Errors
/// Never in practice.
pub fn render(config: &Config) -> Result<String, String> {
    let value = serde_json::to_value(config).map_err(|error| error.to_string())?;
    yaml::to_string(&value).map_err(|error| error.to_string())
}

/// Reads the whole; when that fails, its parts one by one, to say where.
fn read(document: &Value) -> Result<Config, (String, String)> {
    let error = match serde_json::from_value::<Config>(document.clone()) {
        Ok(config) => return Ok(config),
        Err(error) => error.to_string(),
    };
    each::<Listen>(document, "listen")?;
    each::<Peer>(document, "peers")?;
    each::<Originate>(document, "routes")?;
    each::<Policy>(document, "policies")?;
    Err(("document".to_owned(), error))
}

/// Checks each element of a list or mapping at the top level.
fn each<T: DeserializeOwned>(document: &Value, name: &str) -> Result<(), (String, String)> {
    let check = |field: String, value: &Value| match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err((field, error.to_string())),
    };
    match document.get(name) {
        Some(Value::Array(list)) => list.iter().enumerate().try_for_each(|(index, value)| {
            let label = value.get("name").and_then(Value::as_str);
            check(
                format!(
                    "{name}[{}]",
                    label.map_or_else(|| index.to_string(), str::to_owned)
                ),
                value,
            )
        }),
        Some(Value::Object(map)) => map
            .iter()
            .try_for_each(|(key, value)| check(format!("{name}.{key}"), value)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bgpd.yaml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|error| error.to_string().replace(&format!("{}: ", path.display()), ""))
    }

    const GOOD: &str = "localAs: 65000\nrouterId: 10.0.0.1\npeers:\n- name: tor\n  address: 10.0.0.2\n  remoteAs: 65001\n  password: secret\n";

    #[test]
    fn what_is_printed_reads_as_what_was_read_but_for_passwords() {
        let config = load_text(GOOD).unwrap();
        let printed = render(&config).unwrap();
        assert!(!printed.contains("secret"), "{printed}");
        let again = load_text(&printed).unwrap();
        assert_eq!(again.peers[0].address, config.peers[0].address);
        assert_eq!(again.local_as, 65000);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("localAs: 65000\n", "document: missing field `routerId`"),
            (
                "localAs: 65000\nrouterId: 10.0.0.1\nholdTime: 3\n",
                "document: unknown field `holdTime`",
            ),
            (
                "localAs: 65000\nrouterId: 10.0.0.1\npeers:\n- name: tor\n  address: 10.0.0.2\n  remoteAs: x\n",
                "peers[tor]: invalid type: string \"x\", expected u32",
            ),
            (
                &format!("{GOOD}  timers: {{holdSeconds: 1}}\n"),
                "peers[tor].timers.holdSeconds: 1 is too short",
            ),
            ("localAs: 65000\nlocalAs: 65001\n", "document 1: "),
        ] {
            let error = load_text(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
