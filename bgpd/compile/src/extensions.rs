//! Settings of a session that Calico's BGPPeer has no field for: `spec.extensions`, by name.
//!
//! The field is Calico Enterprise's; the names are ours. A name that is not known, or a value that cannot be used, is
//! reported and left out.

use std::collections::BTreeMap;
use std::str::FromStr;

use caracal_api::v3::{BGPPeerSpec, GoDuration, RestartMode};
use caracal_bgpd_core::config::{AddPath, Peer, Role};
use ipnet::IpNet;

use crate::problem::Problems;

/// Stale time of RestartMode LongLivedGracefulRestart without `longLivedStaleTime`.
const LONG_LIVED_SECONDS: u32 = 3600;
/// Longest stale time (RFC 9494 §3.1: 24 bits).
const LONG_LIVED_SECONDS_MAX: u64 = 0x00ff_ffff;

/// The network that many peers connect from, instead of an address.
pub(crate) const LISTEN_RANGE: &str = "listenRange";
/// The peer is whatever the node's default route leads to.
pub(crate) const DEFAULT_GATEWAY: &str = "peerDefaultGateway";

/// All names, for the error that lists them.
const NAMES: [&str; 14] = [
    "addPath",
    "connectRetryTime",
    "gracefulShutdown",
    "holdTime",
    "listenLimit",
    LISTEN_RANGE,
    "longLivedPartial",
    "longLivedStaleTime",
    "passive",
    DEFAULT_GATEWAY,
    "prefixLimit",
    "role",
    "sendHoldTime",
    "strictRole",
];

/// Reads settings of one object.
pub(crate) struct Extensions<'a> {
    values: &'a BTreeMap<String, String>,
    object: &'a str,
    problems: &'a mut Problems,
}

impl<'a> Extensions<'a> {
    pub(crate) fn new(spec: &'a BGPPeerSpec, object: &'a str, problems: &'a mut Problems) -> Self {
        Self {
            values: &spec.extensions,
            object,
            problems,
        }
    }

    fn refuse(&mut self, name: &str, problem: &str, remedy: &str) {
        let value = self.values.get(name).cloned().unwrap_or_default();
        let field = format!("spec.extensions[{name}]");
        self.problems.add(
            self.object,
            &field,
            value,
            problem,
            format!("{remedy}; it is left out meanwhile"),
        );
    }

    fn parsed<T: FromStr>(&mut self, name: &str, remedy: &str) -> Option<T> {
        let parsed = self.values.get(name)?.trim().parse();
        if parsed.is_err() {
            self.refuse(name, "cannot be read", remedy);
        }
        parsed.ok()
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "use true or false")
    }

    fn seconds(&mut self, name: &str, min: u64, max: u64) -> Option<u64> {
        let text = self.values.get(name)?;
        let value = text.trim().parse::<GoDuration>().ok();
        let duration = value.and_then(|value| value.duration());
        let seconds = duration.map(|duration| duration.as_secs());
        let found = seconds.filter(|seconds| (min..=max).contains(seconds));
        if found.is_none() {
            let remedy = format!("use {min}s to {max}s, as in 90s");
            self.refuse(name, "is no usable duration", &remedy);
        }
        found
    }

    fn short_seconds(&mut self, name: &str, min: u64) -> Option<u16> {
        let seconds = self.seconds(name, min, u64::from(u16::MAX))?;
        u16::try_from(seconds).ok()
    }

    fn one_of<T: Copy>(&mut self, name: &str, values: &[(&str, T)]) -> Option<T> {
        let text = self.values.get(name)?.trim();
        let found = values.iter().find(|(known, _)| *known == text);
        if found.is_none() {
            let names: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
            self.refuse(
                name,
                "is none of the values",
                &format!("use {}", names.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// The network that many peers connect from.
    pub(crate) fn listen_range(&mut self) -> Option<IpNet> {
        let net: IpNet = self.parsed(LISTEN_RANGE, "use a CIDR, as in 10.0.0.0/16")?;
        Some(net.trunc())
    }

    /// Puts all settings into a session.
    pub(crate) fn apply(mut self, spec: &BGPPeerSpec, peer: &mut Peer) {
        let unknown = self
            .values
            .iter()
            .filter(|(name, _)| !NAMES.contains(&name.as_str()));
        for (name, value) in unknown {
            let field = format!("spec.extensions[{name}]");
            let remedy = format!("use one of {}", NAMES.join(", "));
            self.problems
                .add(self.object, &field, value, "is no setting", remedy);
        }
        self.apply_timers(peer);
        if let Some(passive) = self.flag("passive") {
            peer.passive = passive;
        }
        if let Some(limit) = self.parsed("prefixLimit", "use a number from 1 on") {
            peer.prefix_limit = Some(limit);
        }
        if let Some(limit) = self.parsed("listenLimit", "use a number from 1 on") {
            peer.listen_limit = limit;
        }
        let paths = [
            ("off", AddPath::Off),
            ("receive", AddPath::Receive),
            ("send", AddPath::Send),
            ("both", AddPath::Both),
        ];
        if let Some(paths) = self.one_of("addPath", &paths) {
            peer.add_path = paths;
        }
        if let Some(on) = self.flag("gracefulShutdown") {
            peer.graceful_shutdown = on;
        }
        self.apply_long_lived(spec, peer);
        self.apply_role(peer);
    }

    fn apply_timers(&mut self, peer: &mut Peer) {
        if let Some(hold) = self.short_seconds("holdTime", 0) {
            // RFC 4271 §4.2.
            if matches!(hold, 1 | 2) {
                self.refuse("holdTime", "is too short", "use 0s (off) or 3s and more");
            } else {
                peer.timers.hold_seconds = hold;
            }
        }
        if let Some(seconds) = self.short_seconds("connectRetryTime", 1) {
            peer.timers.connect_retry_seconds = seconds;
        }
        if let Some(seconds) = self.short_seconds("sendHoldTime", 1) {
            peer.timers.send_hold_seconds = Some(seconds);
        }
    }

    fn apply_long_lived(&mut self, spec: &BGPPeerSpec, peer: &mut Peer) {
        let time = self.seconds("longLivedStaleTime", 0, LONG_LIVED_SECONDS_MAX);
        let time = time.and_then(|seconds| u32::try_from(seconds).ok());
        if spec.restart_mode == Some(RestartMode::LongLivedGracefulRestart) {
            if peer.graceful_restart_seconds == 0 {
                let remedy = "set maxRestartTime above 0s; routes go with the session meanwhile";
                let value = "LongLivedGracefulRestart";
                self.problems.add(
                    self.object,
                    "spec.restartMode",
                    value,
                    "needs graceful restart",
                    remedy,
                );
                return;
            }
            peer.long_lived_seconds = Some(time.unwrap_or(LONG_LIVED_SECONDS));
        } else if time.is_some() {
            let remedy = "set restartMode: LongLivedGracefulRestart too";
            self.refuse("longLivedStaleTime", "has nothing to set", remedy);
        }
        if let Some(on) = self.flag("longLivedPartial") {
            peer.long_lived_partial = on;
        }
    }

    fn apply_role(&mut self, peer: &mut Peer) {
        let roles = [
            Role::Provider,
            Role::RouteServer,
            Role::RouteServerClient,
            Role::Customer,
            Role::Peer,
        ];
        let named = roles.map(|role| (role.name(), role));
        peer.role = self.one_of("role", &named);
        let strict = self.flag("strictRole");
        if strict == Some(true) && peer.role.is_none() {
            self.refuse("strictRole", "has no role to insist on", "set role too");
        } else {
            peer.strict_role = strict.unwrap_or(false);
        }
    }
}
