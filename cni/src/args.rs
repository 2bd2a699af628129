//! `CNI_ARGS`: what the runtime says about the container beside the standard variables.
//!
//! Keys that nobody here knows are ignored, as with Calico, which prepends `IgnoreUnknown=1`.
//! Source: CNI specification, "Parameters"; Calico's `cni-plugin/pkg/types/types.go` (K8sArgs).

use std::fmt;
use std::net::IpAddr;

use crate::error::{Code, Error, Result};

/// The pairs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    pairs: Vec<(String, String)>,
}

impl Args {
    /// Reads `KEY=VALUE;KEY=VALUE`.
    ///
    /// # Errors
    /// When a part has no `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::new(
                    Code::InvalidEnvironment,
                    format!("CNI_ARGS: invalid pair {part:?}"),
                )
                .hint("write KEY=VALUE;KEY=VALUE"));
            };
            pairs.push((key.trim().to_owned(), value.to_owned()));
        }
        Ok(Self { pairs })
    }

    /// The value of a key; empty ones count as missing, the last one of several counts.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().rev().find(|(name, _)| name == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Namespace and name of the pod, when the runtime is a Kubernetes one.
    #[must_use]
    pub fn pod(&self) -> Option<(&str, &str)> {
        Some((self.get("K8S_POD_NAMESPACE")?, self.get("K8S_POD_NAME")?))
    }

    /// The address that is asked for.
    ///
    /// # Errors
    /// When it is no address.
    pub fn ip(&self) -> Result<Option<IpAddr>> {
        let Some(text) = self.get("IP") else {
            return Ok(None);
        };
        // Calico takes an address with a mask too.
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse().map(Some).map_err(|_| {
            Error::new(Code::InvalidEnvironment, format!("CNI_ARGS: IP is {text:?}"))
                .hint("write an address, as IP=10.0.0.1")
        })
    }

    /// The text for another plugin, with one pair set.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> String {
        let mut args = self.clone();
        args.pairs.retain(|(name, _)| name != key);
        args.pairs.push((key.to_owned(), value.to_owned()));
        args.to_string()
    }
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.pairs.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_unknown_ones_do_no_harm() {
        let args = Args::parse("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;X=a=b;;").unwrap();
        assert_eq!(args.pod(), Some(("shop", "web-0")));
        assert_eq!(args.get("X"), Some("a=b"));
        assert_eq!(args.get("Y"), None);
        assert_eq!(args.ip().unwrap(), None);
        assert_eq!(Args::parse("").unwrap(), Args::default());
        assert_eq!(
            Args::parse("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=").unwrap().pod(),
            None
        );
    }

    #[test]
    fn wrong_ones_are_refused() {
        let error = Args::parse("A=1;B").unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.message.contains("\"B\""), "{error}");
        assert!(Args::parse("IP=10.0.0").unwrap().ip().is_err());
        assert!(Args::parse("IP=10.0.0.1/24").unwrap().ip().is_ok());
    }

    #[test]
    fn a_pair_is_set_for_another_plugin() {
        let args = Args::parse("A=1;IP=10.0.0.1").unwrap();
        assert_eq!(args.with("IP", "10.0.0.2"), "A=1;IP=10.0.0.2");
    }
}
