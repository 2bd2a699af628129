//! Which node this is: configuration, else the node agent's file, else the host's name.
//!
//! The name must be the Kubernetes Node's: addresses, routes and endpoints hang on it.
//! Source: Calico's `cni-plugin/internal/pkg/utils/utils.go` (DetermineNodename).

use std::fs;
use std::io::ErrorKind;

use crate::conf::NodeConf;
use crate::error::{Code, Error, Result};

/// The node's name.
///
/// # Errors
/// Code 11 when the node agent has not written its file yet and it is not optional; code 5 when it cannot be read.
pub fn name(conf: &NodeConf) -> Result<String> {
    if !conf.name.is_empty() {
        return Ok(conf.name.clone());
    }
    let file = conf.file.display();
    match fs::read_to_string(&conf.file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) if !conf.file_optional => {
            return Err(Error::new(Code::TryAgainLater, format!("{file} is empty"))
                .hint("the node agent writes the node's name there; restart it, or set nodename"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && conf.file_optional => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::new(
                Code::TryAgainLater,
                format!("stat {file}: no such file or directory: check that the calico/node container is running and has mounted /var/lib/calico/"),
            )
            .hint("or set nodename in the network configuration"));
        }
        Err(error) => return Err(Error::new(Code::Io, format!("read {file}: {error}"))),
    }
    if !conf.hostname.is_empty() {
        return Ok(conf.hostname.clone());
    }
    host_name()
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .map(|name| name.trim().to_lowercase())
        .filter(|name| !name.is_empty());
    name.ok_or_else(|| Error::new(Code::InvalidConfig, "the node's name is not known").hint("set nodename"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_beats_file_beats_host_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "from-file\n").unwrap();
        let mut conf = NodeConf {
            name: "from-conf".into(),
            file: file.path().to_owned(),
            hostname: "from-hostname".into(),
            ..NodeConf::default()
        };
        assert_eq!(name(&conf).unwrap(), "from-conf");
        conf.name.clear();
        assert_eq!(name(&conf).unwrap(), "from-file");
        conf.file = "/nonexistent/nodename".into();
        let error = name(&conf).unwrap_err();
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.message.contains("/nonexistent/nodename"), "{error}");
        conf.file_optional = true;
        assert_eq!(name(&conf).unwrap(), "from-hostname");
        conf.hostname.clear();
        assert!(!name(&conf).unwrap().is_empty());
    }
}
