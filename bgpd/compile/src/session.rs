//! What mesh sessions and those of BGPPeers have in common: names, timers, passwords, policies.
//!
//! Values are those of Calico's BIRD template (`confd/templates/bird.cfg.template`), except that a session is dialled
//! without BIRD's initial delay of two seconds.

use std::net::IpAddr;

use caracal_api::v3::{BGPPassword, GoDuration};
use caracal_bgpd_core::config::{AddPath, Peer, Timers};

use crate::export;
use crate::local::Local;
use crate::problem::Problems;
use crate::snapshot::Snapshot;

/// BIRD's default, which Calico keeps.
const HOLD_SECONDS: u16 = 240;
/// Longest restart time that fits (RFC 4724 §3: twelve bits).
const RESTART_SECONDS_MAX: u64 = 4095;
/// Import policy of sessions with another AS: they carry no LOCAL_PREF, and BIRD takes 100.
pub(crate) const IMPORT_EBGP: &str = "import-ebgp";
/// Import policy of all sessions.
pub(crate) const IMPORT: &str = "import";

/// A name in the form of Calico's protocols: `Mesh_10_0_0_1`.
pub(crate) fn name(class: &str, address: IpAddr, port: Option<u16>) -> String {
    let address = address.to_string().replace(['.', ':'], "_");
    port.map_or_else(
        || format!("{class}_{address}"),
        |port| format!("{class}_{address}_port_{port}"),
    )
}

/// A peer with what all sessions share. `filters` are the names of user policies that were compiled.
pub(crate) fn peer(local: &Local<'_>, name: String, address: IpAddr, port: u16, remote_as: u32) -> Peer {
    let mut peer = Peer::new(name, address, remote_as);
    peer.port = port;
    peer.local_address = local.address(address.is_ipv4());
    peer.multihop = true;
    peer.add_path = AddPath::Both;
    peer.timers = Timers {
        hold_seconds: HOLD_SECONDS,
        ..Timers::default()
    };
    peer
}

/// Sets the policies: LOCAL_PREF convention, the user's filters in order, then what Calico does by itself.
pub(crate) fn set_policies(local: &Local<'_>, peer: &mut Peer, import: Vec<String>, export: Vec<String>) {
    let is_internal = peer.local_as.unwrap_or(local.local_as) == peer.remote_as;
    peer.import.clear();
    if !is_internal {
        peer.import.push(IMPORT_EBGP.to_owned());
    }
    peer.import.extend(import);
    peer.import.push(IMPORT.to_owned());
    peer.export = vec![export::PRIORITY.to_owned()];
    peer.export.extend(export);
    let last = if is_internal {
        export::INTERNAL
    } else {
        export::EXTERNAL
    };
    peer.export.push(last.to_owned());
}

/// A duration field in whole seconds, at most `max`.
pub(crate) fn seconds(
    value: Option<&GoDuration>,
    max: u64,
    object: &str,
    field: &str,
    problems: &mut Problems,
) -> Option<u16> {
    let value = value?;
    let found = value.duration().map(|duration| duration.as_secs());
    match found.filter(|seconds| *seconds <= max) {
        Some(seconds) => u16::try_from(seconds).ok(),
        None => {
            let remedy = format!("use 0s to {max}s, as in 120s; the default is used meanwhile");
            problems.add(object, field, value, "is no usable duration", remedy);
            None
        }
    }
}

/// The restart time that a session announces.
pub(crate) fn restart_seconds(
    value: Option<&GoDuration>,
    object: &str,
    field: &str,
    problems: &mut Problems,
) -> Option<u16> {
    seconds(value, RESTART_SECONDS_MAX, object, field, problems)
}

/// Puts the password in. A peer whose password is not known stays down: a session without it would be open to
/// anybody who can send from the peer's address.
pub(crate) fn set_password(
    snapshot: &Snapshot,
    peer: &mut Peer,
    password: Option<&BGPPassword>,
    at: (&str, &str),
    problems: &mut Problems,
) {
    let Some(reference) = password.and_then(|password| password.secret_key_ref.as_ref()) else {
        return;
    };
    let key = (reference.name.clone(), reference.key.clone());
    let (object, field) = at;
    let value = format!("{}/{}", reference.name, reference.key);
    match snapshot.passwords.get(&key) {
        Some(password) if (1..=80).contains(&password.reveal().len()) => {
            peer.password = Some(password.clone())
        }
        Some(_) => {
            let remedy = "store 1 to 80 octets under this key; the session stays down meanwhile";
            problems.add(
                object,
                field,
                value,
                "has a password of a length that TCP-MD5 does not take",
                remedy,
            );
            peer.shutdown = true;
        }
        None => {
            let remedy = "create the Secret with this key in the namespace of the node agent, and allow it to read \
                          Secrets there; the session stays down meanwhile";
            problems.add(object, field, value, "is not there", remedy);
            peer.shutdown = true;
        }
    }
}
