//! What two OPENs agree on: capabilities, hold time, identity (RFC 4271 §4.2, §6.2; RFC 5492 §3).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Identity;
use crate::config::{self, Role};
use crate::family::Family;
use crate::wire::capability::{Capabilities, GracefulRestart, LongLived, MULTIPROTOCOL};
use crate::wire::framing::{EXTENDED_LEN_MAX, MESSAGE_LEN_MAX};
use crate::wire::mp::MpContext;
use crate::wire::notification::{Notification, OPEN_MESSAGE_ERROR};
use crate::wire::open::Open;
use crate::wire::update::UpdateContext;

/// What holds for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) remote_as: u32,
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
    /// Path identifiers go with IPv4, with IPv6.
    pub(crate) add_path_send: [bool; 2],
    /// What the peer said, when both do graceful restart; the N bit when both have set it.
    pub(crate) graceful: Option<GracefulRestart>,
    /// What the peer said for families that are carried, when both do long-lived graceful restart.
    pub(crate) long_lived: Option<Vec<LongLived>>,
    /// The role that the peer said.
    pub(crate) has_role: bool,
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

    /// Whether routes outlive NOTIFICATIONs and hold timers (RFC 8538 §2).
    pub(crate) fn survives_notification(&self) -> bool {
        self.graceful
            .as_ref()
            .is_some_and(|graceful| graceful.notification)
    }

    /// Seconds for which routes of a family may be kept after the restart time.
    pub(crate) fn stale_seconds(&self, family: Family) -> u32 {
        let entries = self.long_lived.iter().flatten();
        let mut of_family = entries.filter(|entry| entry.family == family);
        of_family.next().map_or(0, |entry| entry.stale_seconds)
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
            (self.add_path_send.contains(&true), "add-path-send"),
            (self.graceful.is_some(), "graceful-restart"),
            (self.survives_notification(), "graceful-notification"),
            (self.long_lived.is_some(), "long-lived-graceful-restart"),
            (self.has_role, "role"),
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
        notification: true,
        restart_seconds: peer.graceful_restart_seconds,
        families: families
            .iter()
            .map(|family| (*family, identity.forwarding))
            .collect(),
    });
    let add_path = match peer.add_path.code() {
        0 => Vec::new(),
        code => families.iter().map(|family| (*family, code)).collect(),
    };
    let long_lived = peer.long_lived_seconds.map(|stale_seconds| {
        let entry = |family: &Family| LongLived {
            family: *family,
            forwarding: identity.forwarding,
            stale_seconds,
        };
        families.iter().map(entry).collect()
    });
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
            long_lived,
            role: peer.role.map(|role| role as u8),
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
    let remote_as = received.as_number;
    let in_range = || {
        peer.remote_as_ranges
            .iter()
            .any(|range| range.contains(remote_as))
    };
    if remote_as != peer.remote_as && !in_range() {
        return refuse(2, &[], wrong_as(peer, remote_as));
    }
    let ebgp = remote_as != sent.as_number;
    // RFC 6286 §2.1: unique inside the AS.
    if !ebgp && received.router_id == sent.router_id {
        let reason = format!(
            "the peer has our own BGP identifier {}: give one of the two another routerId",
            received.router_id
        );
        return refuse(3, &[], reason);
    }
    let (mine, theirs) = (&sent.capabilities, &received.capabilities);
    if ebgp && let Some(reason) = role_fault(peer, theirs) {
        // RFC 9234 §4.2: Role Mismatch.
        return refuse(11, &[], reason);
    }
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
    // RFC 7911 §4: 1 is able to receive, 2 is able to send.
    let says = |side: &Capabilities, bit: u8| {
        Family::ALL.map(|family| {
            let mut entries = side.add_path.iter();
            entries.any(|(found, mode)| *found == family && mode & bit != 0)
        })
    };
    let both = |a: [bool; 2], b: [bool; 2]| [a[0] && b[0], a[1] && b[1]];
    let graceful = theirs
        .graceful_restart
        .clone()
        .zip(mine.graceful_restart.as_ref());
    let graceful = graceful.map(|(theirs, mine)| GracefulRestart {
        notification: theirs.notification && mine.notification,
        ..theirs
    });
    // RFC 9494 §4.1: without graceful restart it is ignored.
    let long_lived = theirs
        .long_lived
        .as_ref()
        .filter(|_| graceful.is_some() && mine.long_lived.is_some());
    let long_lived = long_lived.map(|entries| {
        let carried = entries.iter().filter(|entry| families.contains(&entry.family));
        carried.copied().collect()
    });
    Ok(Agreed {
        router_id: received.router_id,
        remote_as,
        ebgp,
        families,
        hold_seconds,
        keepalive: keepalive(peer, hold_seconds),
        as4: theirs.as4.is_some(),
        route_refresh: theirs.route_refresh,
        enhanced_refresh: theirs.route_refresh && theirs.enhanced_refresh,
        extended_message: theirs.extended_message,
        extended_next_hop: mine.extended_next_hop && theirs.extended_next_hop,
        add_path: both(says(theirs, 2), says(mine, 1)),
        add_path_send: both(says(mine, 2), says(theirs, 1)),
        graceful,
        long_lived,
        has_role: ebgp && mine.role.is_some() && theirs.role.is_some(),
    })
}

fn wrong_as(peer: &config::Peer, found: u32) -> String {
    if peer.remote_as == 0 {
        return format!("the peer is AS {found}, which is in none of remoteAsRanges: correct one of the two");
    }
    let expected = peer.remote_as;
    format!("the peer is AS {found} where remoteAs says {expected}: correct one of the two")
}

/// RFC 9234 §4.2: what the two are to one another must fit; a peer that says nothing is refused when that is wanted.
fn role_fault(peer: &config::Peer, theirs: &Capabilities) -> Option<String> {
    let own = peer.role?;
    let expected = own.counterpart();
    match theirs.role {
        _ if theirs.role_conflict => {
            Some("the peer says different roles at once: correct its role".to_owned())
        }
        Some(role) if role == expected as u8 => None,
        Some(role) => {
            let names = [
                Role::Provider,
                Role::RouteServer,
                Role::RouteServerClient,
                Role::Customer,
                Role::Peer,
            ];
            let name = names.into_iter().find(|name| *name as u8 == role);
            let found = name.map_or_else(|| format!("number {role}"), |name| name.name().to_owned());
            Some(format!(
                "the peer's role is {found} where our role {} needs {}: correct one of the two",
                own.name(),
                expected.name()
            ))
        }
        None if peer.strict_role => Some(format!(
            "the peer says no role and strictRole is set: give it the role {}, or turn strictRole off",
            expected.name()
        )),
        None => None,
    }
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
