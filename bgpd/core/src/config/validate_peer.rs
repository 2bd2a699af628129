//! The checks of one peer.

use std::net::IpAddr;

use super::validate::{ConfigError, check_as};
use super::{Config, Peer, Role};

/// Longest stale time: 24 bits (RFC 9494 §3.1).
const LONG_LIVED_MAX: u32 = 0x00ff_ffff;

/// Makes the error of a field of a peer.
struct Field<'a>(&'a Peer);

impl Field<'_> {
    fn path(&self, name: &str) -> String {
        format!("peers[{}].{name}", self.0.name)
    }

    fn error(
        &self,
        name: &str,
        value: impl ToString,
        problem: &'static str,
        remedy: &'static str,
    ) -> Result<(), ConfigError> {
        Err(ConfigError::new(self.path(name), value, problem, remedy))
    }
}

impl Config {
    pub(super) fn validate_peer(&self, peer: &Peer) -> Result<(), ConfigError> {
        let field = Field(peer);
        check_numbers(peer, &field)?;
        check_address(peer, &field)?;
        check_timers(peer, &field)?;
        check_restart(peer, &field)?;
        if peer.families.is_empty() {
            return field.error(
                "families",
                "[]",
                "carries no routes",
                "use [ipv4], [ipv6] or both",
            );
        }
        if peer.ttl_security_hops == Some(0) {
            let remedy = "use 1 to 254, or leave it out";
            return field.error("ttlSecurityHops", 0, "lets nothing through", remedy);
        }
        if let Some(password) = &peer.password
            && !(1..=80).contains(&password.reveal().len())
        {
            // TCP_MD5SIG_MAXKEYLEN of Linux.
            return field.error("password", "***", "has a wrong length", "use 1 to 80 octets");
        }
        let is_internal = peer.remote_as == self.as_towards(peer);
        if peer.reflector_client.is_some() && !is_internal {
            let remedy = "reflection is for peers of the own AS: remove it or correct remoteAs";
            return field.error("reflectorClient", peer.remote_as, "is another AS", remedy);
        }
        if is_internal && let Some(role) = peer.role {
            return field.error(
                "role",
                role.name(),
                "is for peers of another AS",
                "remove it or correct remoteAs",
            );
        }
        if peer.strict_role && peer.role.is_none() {
            return field.error("strictRole", true, "has no role to insist on", "set role too");
        }
        check_bfd(peer, &field)?;
        self.check_policies(&field.path("import"), &peer.import)?;
        self.check_policies(&field.path("export"), &peer.export)
    }
}

impl Role {
    /// The name that the configuration has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "route-server",
            Self::RouteServerClient => "route-server-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }
}

fn check_numbers(peer: &Peer, field: &Field<'_>) -> Result<(), ConfigError> {
    if peer.remote_as_ranges.is_empty() || peer.remote_as != 0 {
        check_as(&field.path("remoteAs"), peer.remote_as)?;
    }
    for range in &peer.remote_as_ranges {
        if range.min > range.max || range.min == 0 {
            let value = format!("{}-{}", range.min, range.max);
            let remedy = "use min and max from 1 on, min not above max";
            return field.error("remoteAsRanges", value, "is no range", remedy);
        }
    }
    match peer.local_as {
        Some(local_as) => check_as(&field.path("localAs"), local_as),
        None => Ok(()),
    }
}

fn check_address(peer: &Peer, field: &Field<'_>) -> Result<(), ConfigError> {
    let family = match peer.listen_range {
        Some(range) => {
            if !peer.address.is_unspecified() {
                let remedy = "use address for one peer or listenRange for many, not both";
                return field.error("address", peer.address, "goes with listenRange", remedy);
            }
            if range != range.trunc() {
                return field.error("listenRange", range, "has host bits set", "clear them");
            }
            range.addr()
        }
        None if unusable(peer.address) => {
            let remedy = "use the peer's unicast address";
            return field.error("address", peer.address, "is not a host's address", remedy);
        }
        None => peer.address,
    };
    if let Some(local) = peer.local_address
        && local.is_ipv4() != family.is_ipv4()
    {
        let remedy = "use an own address of the peer's family, or leave it out";
        return field.error("localAddress", local, "is of another family", remedy);
    }
    if peer.port == 0 {
        return field.error("port", 0, "is not a port", "use 1 to 65535; BGP's is 179");
    }
    Ok(())
}

fn check_bfd(peer: &Peer, field: &Field<'_>) -> Result<(), ConfigError> {
    let Some(bfd) = &peer.bfd else { return Ok(()) };
    if peer.listen_range.is_some() {
        let remedy = "give the peers that BFD is to watch entries with addresses";
        return field.error("bfd", "", "goes with listenRange", remedy);
    }
    for (name, millis) in [
        ("bfd.receiveMillis", bfd.receive_millis),
        ("bfd.transmitMillis", bfd.transmit_millis),
    ] {
        if !(10..=60_000).contains(&millis) {
            return field.error(name, millis, "is no interval that works", "use 10 to 60000");
        }
    }
    if bfd.multiplier == 0 {
        return field.error(
            "bfd.multiplier",
            0,
            "allows no packet at all",
            "use 1 to 255; 3 is usual",
        );
    }
    Ok(())
}

fn check_timers(peer: &Peer, field: &Field<'_>) -> Result<(), ConfigError> {
    // RFC 4271 §4.2: the Hold Time is zero or at least three seconds.
    if matches!(peer.timers.hold_seconds, 1 | 2) {
        let remedy = "use 0 (off) or 3 and more";
        return field.error(
            "timers.holdSeconds",
            peer.timers.hold_seconds,
            "is too short",
            remedy,
        );
    }
    if peer.timers.connect_retry_seconds == 0 {
        let name = "timers.connectRetrySeconds";
        return field.error(name, 0, "would dial without pause", "use 1 or more");
    }
    if peer.timers.error_wait_min_seconds > peer.timers.error_wait_max_seconds {
        let value = peer.timers.error_wait_min_seconds;
        let remedy = "use at most errorWaitMaxSeconds";
        return field.error(
            "timers.errorWaitMinSeconds",
            value,
            "is above the longest wait",
            remedy,
        );
    }
    Ok(())
}

fn check_restart(peer: &Peer, field: &Field<'_>) -> Result<(), ConfigError> {
    // RFC 4724 §3: twelve bits.
    if peer.graceful_restart_seconds > 4095 {
        let value = peer.graceful_restart_seconds;
        return field.error("gracefulRestartSeconds", value, "does not fit", "use 0 to 4095");
    }
    match peer.long_lived_seconds {
        Some(seconds) if seconds > LONG_LIVED_MAX => {
            field.error("longLivedSeconds", seconds, "does not fit", "use 0 to 16777215")
        }
        // RFC 9494 §4.1: it goes with graceful restart only.
        Some(seconds) if peer.graceful_restart_seconds == 0 => {
            let remedy = "set gracefulRestartSeconds too, or leave it out";
            field.error("longLivedSeconds", seconds, "needs graceful restart", remedy)
        }
        _ => Ok(()),
    }
}

fn unusable(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast()
}
