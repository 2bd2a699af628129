//! The messages of the BGP Monitoring Protocol (RFC 7854): written only, Adj-RIB-In before the import policy.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::tap::{Peer, Session};

const VERSION: u8 = 3;
const ROUTE_MONITORING: u8 = 0;
const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;
/// Per-peer flags (§4.2).
const FLAG_IPV6: u8 = 0x80;
const FLAG_TWO_OCTET_AS: u8 = 0x20;

/// Who said that a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This speaker.
    Local,
    /// The peer.
    Remote,
}

/// The message that comes first (§4.3).
#[must_use]
pub fn initiation(name: &str) -> Bytes {
    message(INITIATION, |out| {
        information(
            out,
            1,
            concat!("caracal-bgpd ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        information(out, 2, name.as_bytes());
    })
}

/// The message that comes last: closed by an operator (§4.5).
#[must_use]
pub fn termination() -> Bytes {
    message(TERMINATION, |out| information(out, 1, &[0, 0]))
}

/// A session is up (§4.10).
#[must_use]
pub fn peer_up(at: SystemTime, session: &Session) -> Bytes {
    message(PEER_UP, |out| {
        header(out, at, &session.peer);
        address(out, session.peer.local.ip());
        out.extend(session.peer.local.port().to_be_bytes());
        out.extend(session.peer.remote.port().to_be_bytes());
        out.extend(&session.sent_open);
        out.extend(&session.received_open);
    })
}

/// A session is down (§4.9), with the NOTIFICATION that ended it, if one did.
#[must_use]
pub fn peer_down(at: SystemTime, peer: &Peer, notification: Option<&(Side, Bytes)>) -> Bytes {
    message(PEER_DOWN, |out| {
        header(out, at, peer);
        match notification {
            Some((Side::Local, bytes)) => {
                out.push(1);
                out.extend(bytes);
            }
            Some((Side::Remote, bytes)) => {
                out.push(3);
                out.extend(bytes);
            }
            None => out.push(4),
        }
    })
}

/// An UPDATE of a peer (§4.6).
#[must_use]
pub fn route_monitoring(at: SystemTime, peer: &Peer, update: &[u8]) -> Bytes {
    message(ROUTE_MONITORING, |out| {
        header(out, at, peer);
        out.extend(update);
    })
}

fn message(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = vec![VERSION, 0, 0, 0, 0, kind];
    body(&mut out);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX).to_be_bytes();
    for (place, octet) in out.iter_mut().skip(1).zip(length) {
        *place = octet;
    }
    out.into()
}

fn information(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
}

/// The per-peer header (§4.2) of a global instance peer.
fn header(out: &mut Vec<u8>, at: SystemTime, peer: &Peer) {
    let is_v6 = peer.remote.is_ipv6();
    let flags = if is_v6 { FLAG_IPV6 } else { 0 } | if peer.as4 { 0 } else { FLAG_TWO_OCTET_AS };
    out.extend([0, flags]);
    out.extend([0; 8]);
    address(out, peer.remote.ip());
    out.extend(peer.remote_as.to_be_bytes());
    out.extend(peer.router_id.octets());
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.extend(u32::try_from(since.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(since.subsec_micros().to_be_bytes());
}

/// Sixteen octets; IPv4 in the last four.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.extend([0; 12]);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}
