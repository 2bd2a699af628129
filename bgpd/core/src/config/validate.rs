//! The checks that types cannot make: ranges, uniqueness, references. Each error names field, value and remedy.
//! Those of one peer are in `validate_peer`.

use std::collections::BTreeSet;

use thiserror::Error;

use super::Config;

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {value} {problem}; {remedy}")]
pub struct ConfigError {
    /// Path of the field, as in `peers[tor].timers.holdSeconds`.
    pub field: String,
    /// The value that was found.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What would be right.
    pub remedy: &'static str,
}

impl ConfigError {
    pub(super) fn new(
        field: impl Into<String>,
        value: impl ToString,
        problem: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.to_string(),
            problem,
            remedy,
        }
    }
}

/// 23456, which stands for any 4-octet AS in 2-octet fields (RFC 6793 §9) and is nobody's own.
const AS_TRANS: u32 = 23456;

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first field that cannot be used, in the order of the file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_as("localAs", self.local_as)?;
        // RFC 6286 §2.1: the identifier is any non-zero 4-octet number.
        if self.router_id.is_unspecified() {
            return Err(ConfigError::new(
                "routerId",
                self.router_id,
                "is zero",
                "use an address of this host",
            ));
        }
        if self.multipath_max == 0 {
            return Err(ConfigError::new(
                "multipathMax",
                0,
                "allows no next hop",
                "use 1 to turn multipath off",
            ));
        }
        let mut names = BTreeSet::new();
        let mut ends = BTreeSet::new();
        for peer in &self.peers {
            if peer.name.is_empty() {
                return Err(ConfigError::new(
                    "peers[].name",
                    "\"\"",
                    "is empty",
                    "give every peer a name",
                ));
            }
            if !names.insert(&peer.name) {
                return Err(ConfigError::new(
                    "peers[].name",
                    &peer.name,
                    "is used twice",
                    "rename one of the peers",
                ));
            }
            if !ends.insert((peer.address, peer.listen_range, peer.port)) {
                let (field, value) = match peer.listen_range {
                    Some(range) => ("listenRange", range.to_string()),
                    None => ("address", peer.address.to_string()),
                };
                let field = format!("peers[{}].{field}", peer.name);
                return Err(ConfigError::new(
                    field,
                    value,
                    "has two peers",
                    "remove one of them",
                ));
            }
            self.validate_peer(peer)?;
        }
        self.check_policies("kernelExport", &self.kernel_export)?;
        let mut prefixes = BTreeSet::new();
        for route in &self.routes {
            if route.prefix != route.prefix.trunc() {
                return Err(ConfigError::new(
                    "routes[].prefix",
                    route.prefix,
                    "has host bits set",
                    "clear them",
                ));
            }
            if !prefixes.insert(route.prefix) {
                return Err(ConfigError::new(
                    "routes[].prefix",
                    route.prefix,
                    "is there twice",
                    "remove one",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn check_policies(&self, field: &str, names: &[String]) -> Result<(), ConfigError> {
        match names.iter().find(|name| !self.policies.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(ConfigError::new(
                field,
                name,
                "is not defined",
                "add it under policies",
            )),
        }
    }
}

pub(super) fn check_as(field: &str, number: u32) -> Result<(), ConfigError> {
    // RFC 7607: AS 0 must not be used; RFC 7300: the last number is reserved.
    match number {
        0 | AS_TRANS | u32::MAX => Err(ConfigError::new(
            field,
            number,
            "is a reserved AS number",
            "use 1 to 4294967294, but not 23456",
        )),
        _ => Ok(()),
    }
}
