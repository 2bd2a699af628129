//! What two OPENs agree on: capabilities, hold time, identity (RFC 4271 §4.2, §6.2; RFC 5492 §3).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Identity;
use crate::config::{self, AddPath};
use crate::family::Family;
use crate::wire::capability::{Capabilities, GracefulRestart, MULTIPROTOCOL};
use crate::wire::framing::{EXTENDED_LEN_MAX, MESSAGE_LEN_MAX};
use crate::wire::mp::MpContext;
use crate::wire::notification::{Notification, OPEN_MESSAGE_ERROR};
use crate::wire::open::Open;
use crate::wire::update::UpdateContext;

/// What holds for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) ebgp: bool,
    pub(crate) families: Vec<Family>,
    pub(crate) hold_seconds: u16,
    /// Interval of KEEPALIVEs; none without a hold time.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) as4: bool,
    pub(crate) route_refresh: bool,
    pub(crate) enhanced_refresh: bool,
    pub(crate) extended_message: bool,
    pub(crate) extended_next_hop: bool,
    /// Path identifiers come with IPv4, with IPv6.
    pub(crate) add_path: [bool; 2],
    /// What the peer said, when both do graceful restart.
    pub(crate) graceful: Option<GracefulRestart>,
}

impl Agreed {
    pub(crate) fn update_context(&self) -> UpdateContext {
        UpdateContext {
            ebgp: self.ebgp,
            as4: self.as4,
            mp: MpContext {
                extended_next_hop: self.extended_next_hop,
                add_path: self.add_path,
            },
        }
    }

    /// Longest message that may be sent.
    pub(crate) fn message_limit(&self) -> usize {
        if self.extended_message {
            EXTENDED_LEN_MAX
        } else {
            MESSAGE_LEN_MAX
        }
    }

    /// Names for status.
    pub(crate) fn names(&self) -> Vec<String> {
        let family = |family: &Family| match family {
            Family::Ipv4 => "ipv4-unicast",
            Family::Ipv6 => "ipv6-unicast",
        };
        let mut names: Vec<&str> = self.families.iter().map(family).collect();
        let others = [
            (self.as4, "four-octet-as"),
            (self.route_refresh, "route-refresh"),
            (self.enhanced_refresh, "enhanced-route-refresh"),
            (self.extended_message, "extended-message"),
            (self.extended_next_hop, "extended-next-hop"),
            (self.add_path.contains(&true), "add-path-receive"),
            (self.graceful.is_some(), "graceful-restart"),
        ];
        names.extend(others.iter().filter(|(on, _)| *on).map(|(_, name)| *name));
        names.into_iter().map(str::to_owned).collect()
    }
}

/// Returns the OPEN for a peer.
pub(crate) fn open(peer: &config::Peer, local_as: u32, identity: Identity) -> Open {
    let families = peer.families.clone();
    let graceful_restart = (peer.graceful_restart_seconds > 0).then(|| GracefulRestart {
        restarting: identity.restarting,
        notification: false,
        restart_seconds: peer.graceful_restart_seconds,
        families: families
            .iter()
            .map(|family| (*family, identity.forwarding))
            .collect(),
    });
    let add_path = match peer.add_path {
        AddPath::Off => Vec::new(),
        // RFC 7911 §4: 1 is "able to receive".
        AddPath::Receive => families.iter().map(|family| (*family, 1)).collect(),
    };
    Open {
        as_number: local_as,
        hold_seconds: peer.timers.hold_seconds,
        router_id: identity.router_id,
        capabilities: Capabilities {
            route_refresh: true,
            enhanced_refresh: true,
            extended_message: true,
            // RFC 8950 §4, where the session itself shows that there is IPv6 between the two.
            extended_next_hop: peer.address.is_ipv6() && families.contains(&Family::Ipv4),
            as4: Some(local_as),
            graceful_restart,
            add_path,
            families,
            ..Capabilities::default()
        },
    }
}

/// Compares what was sent with what was received.
///
/// # Errors
/// The NOTIFICATION to answer with, and the reason and remedy for people.
pub(crate) fn agree(
    peer: &config::Peer,
    sent: &Open,
    received: &Open,
) -> Result<Agreed, (Notification, String)> {
    let refuse =
        |subcode, data: &[u8], reason| Err((Notification::new(OPEN_MESSAGE_ERROR, subcode, data), reason));
    if received.as_number != peer.remote_as {
        let found = received.as_number;
        let expected = peer.remote_as;
        let reason = format!("the peer is AS {found} where remoteAs says {expected}: correct one of the two");
        return refuse(2, &[], reason);
    }
    let ebgp = peer.remote_as != sent.as_number;
    // RFC 6286 §2.1: unique inside the AS.
    if !ebgp && received.router_id == sent.router_id {
        let reason = format!(
            "the peer has our own BGP identifier {}: give one of the two another routerId",
            received.router_id
        );
        return refuse(3, &[], reason);
    }
    let (mine, theirs) = (&sent.capabilities, &received.capabilities);
    let common = |family: &&Family| theirs.families.contains(family);
    let mut families: Vec<Family> = mine.families.iter().filter(common).copied().collect();
    // RFC 4760 §8: who announces no family at all carries IPv4 unicast.
    if theirs.families.is_empty() && !theirs.other_families && mine.families.contains(&Family::Ipv4) {
        families.push(Family::Ipv4);
    }
    if families.is_empty() {
        // RFC 5492 §3, §5: the data lists what is missing.
        let data: Vec<u8> = mine.families.iter().flat_map(missing).collect();
        let reason = "no address family in common: compare families on both sides".to_owned();
        return refuse(7, &data, reason);
    }
    let hold_seconds = sent.hold_seconds.min(received.hold_seconds);
    let sends = |family| {
        theirs
            .add_path
            .iter()
            .any(|(found, mode)| *found == family && mode & 2 != 0)
    };
    let receives = |family| mine.add_path.iter().any(|(found, _)| *found == family);
    Ok(Agreed {
        router_id: received.router_id,
        ebgp,
        families,
        hold_seconds,
        keepalive: keepalive(peer, hold_seconds),
        as4: theirs.as4.is_some(),
        route_refresh: theirs.route_refresh,
        enhanced_refresh: theirs.route_refresh && theirs.enhanced_refresh,
        extended_message: theirs.extended_message,
        extended_next_hop: mine.extended_next_hop && theirs.extended_next_hop,
        add_path: Family::ALL.map(|family| sends(family) && receives(family)),
        graceful: theirs
            .graceful_restart
            .clone()
            .filter(|_| mine.graceful_restart.is_some()),
    })
}

fn missing(family: &Family) -> [u8; 6] {
    let [high, low] = family.afi().to_be_bytes();
    [MULTIPROTOCOL, 4, high, low, 0, 1]
}

/// RFC 4271 §4.4: a third of the hold time, and never more than one a second.
fn keepalive(peer: &config::Peer, hold_seconds: u16) -> Option<Duration> {
    let third = (hold_seconds / 3).max(1);
    let seconds = peer
        .timers
        .keepalive_seconds
        .map_or(third, |wanted| wanted.clamp(1, third));
    (hold_seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}
