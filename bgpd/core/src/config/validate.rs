//! The checks that types cannot make: ranges, uniqueness, references. Each error names field, value and remedy.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;

use super::{Config, Peer};

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
    fn new(
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
            if !ends.insert((peer.address, peer.port)) {
                let field = format!("peers[{}].address", peer.name);
                return Err(ConfigError::new(
                    field,
                    peer.address,
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

    fn validate_peer(&self, peer: &Peer) -> Result<(), ConfigError> {
        let field = |name: &str| format!("peers[{}].{name}", peer.name);
        check_as(&field("remoteAs"), peer.remote_as)?;
        if let Some(local_as) = peer.local_as {
            check_as(&field("localAs"), local_as)?;
        }
        if unusable(peer.address) {
            let remedy = "use the peer's unicast address";
            return Err(ConfigError::new(
                field("address"),
                peer.address,
                "is not a host's address",
                remedy,
            ));
        }
        if let Some(local) = peer.local_address
            && local.is_ipv4() != peer.address.is_ipv4()
        {
            let remedy = "use an own address of the peer's family, or leave it out";
            return Err(ConfigError::new(
                field("localAddress"),
                local,
                "is of another family",
                remedy,
            ));
        }
        if peer.port == 0 {
            return Err(ConfigError::new(
                field("port"),
                0,
                "is not a port",
                "use 1 to 65535; BGP's is 179",
            ));
        }
        // RFC 4271 §4.2: the Hold Time is zero or at least three seconds.
        if matches!(peer.timers.hold_seconds, 1 | 2) {
            let hold = peer.timers.hold_seconds;
            return Err(ConfigError::new(
                field("timers.holdSeconds"),
                hold,
                "is too short",
                "use 0 (off) or 3 and more",
            ));
        }
        if peer.timers.connect_retry_seconds == 0 {
            return Err(ConfigError::new(
                field("timers.connectRetrySeconds"),
                0,
                "would dial without pause",
                "use 1 or more",
            ));
        }
        if peer.timers.error_wait_min_seconds > peer.timers.error_wait_max_seconds {
            let value = peer.timers.error_wait_min_seconds;
            let remedy = "use at most errorWaitMaxSeconds";
            return Err(ConfigError::new(
                field("timers.errorWaitMinSeconds"),
                value,
                "is above the longest wait",
                remedy,
            ));
        }
        if peer.families.is_empty() {
            return Err(ConfigError::new(
                field("families"),
                "[]",
                "carries no routes",
                "use [ipv4], [ipv6] or both",
            ));
        }
        // RFC 4724 §3: twelve bits.
        if peer.graceful_restart_seconds > 4095 {
            let value = peer.graceful_restart_seconds;
            return Err(ConfigError::new(
                field("gracefulRestartSeconds"),
                value,
                "does not fit",
                "use 0 to 4095",
            ));
        }
        if peer.ttl_security_hops == Some(0) {
            return Err(ConfigError::new(
                field("ttlSecurityHops"),
                0,
                "lets nothing through",
                "use 1 to 254, or leave it out",
            ));
        }
        if let Some(password) = &peer.password
            && !(1..=80).contains(&password.reveal().len())
        {
            // TCP_MD5SIG_MAXKEYLEN of Linux.
            return Err(ConfigError::new(
                field("password"),
                "***",
                "has a wrong length",
                "use 1 to 80 octets",
            ));
        }
        if peer.reflector_client.is_some() && peer.remote_as != self.as_towards(peer) {
            let remedy = "reflection is for peers of the own AS: remove it or correct remoteAs";
            return Err(ConfigError::new(
                field("reflectorClient"),
                peer.remote_as,
                "is another AS",
                remedy,
            ));
        }
        self.check_policies(&field("import"), &peer.import)?;
        self.check_policies(&field("export"), &peer.export)
    }

    fn check_policies(&self, field: &str, names: &[String]) -> Result<(), ConfigError> {
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

fn check_as(field: &str, number: u32) -> Result<(), ConfigError> {
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

fn unusable(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast()
}
