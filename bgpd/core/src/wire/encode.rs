//! Encoders for what is the same for every session: headers, KEEPALIVE, attributes, prefixes, UPDATE (RFC 4271 §4).
//!
//! An UPDATE is written once for all peers that get the same; `crate::rib::pack` groups routes for it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::{self, FLAG_EXTENDED_LENGTH};
use super::framing::HEADER_LEN;
use super::message::{TYPE_KEEPALIVE, TYPE_UPDATE};
use super::mp::NextHop;
use crate::family::Family;

/// Appends a message of this type; `body` appends what follows the header.
pub fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind]);
    body(out);
    let length = out.len() - start;
    patch_u16(out, start + 16, length);
}

/// Appends a KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    message(out, TYPE_KEEPALIVE, |_| ());
}

/// Appends one attribute, with a length of two octets where one is too short.
pub fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags & !FLAG_EXTENDED_LENGTH, kind, length]),
        Err(_) => {
            out.extend([flags | FLAG_EXTENDED_LENGTH, kind]);
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(value);
}

/// Octets that a prefix takes in an NLRI field.
pub fn prefix_len(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len()).div_ceil(8)
}

/// Appends a prefix in NLRI form (RFC 4271 §4.3).
pub fn prefix(out: &mut Vec<u8>, prefix: &IpNet) {
    out.push(prefix.prefix_len());
    let used = prefix_len(prefix) - 1;
    match prefix.network() {
        IpAddr::V4(address) => out.extend(address.octets().get(..used).unwrap_or_default()),
        IpAddr::V6(address) => out.extend(address.octets().get(..used).unwrap_or_default()),
    }
}

/// A route in an NLRI field: a prefix, or one with a path identifier in front (RFC 7911 §3).
pub trait Route: Copy {
    /// The route to a prefix; the identifier counts only where it is written.
    fn of(prefix: IpNet, path_id: Option<u32>) -> Self;
    /// The prefix.
    fn prefix(&self) -> IpNet;
    /// Octets that it takes.
    fn octets(&self) -> usize;
    /// Appends it.
    fn append(&self, out: &mut Vec<u8>);
}

impl Route for IpNet {
    fn of(prefix: IpNet, _path_id: Option<u32>) -> Self {
        prefix
    }

    fn prefix(&self) -> IpNet {
        *self
    }

    fn octets(&self) -> usize {
        prefix_len(self)
    }

    fn append(&self, out: &mut Vec<u8>) {
        prefix(out, self);
    }
}

/// One of several paths to a prefix, or the only one where the family has no identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRoute {
    prefix: IpNet,
    path_id: Option<u32>,
}

impl Route for PathRoute {
    fn of(prefix: IpNet, path_id: Option<u32>) -> Self {
        Self { prefix, path_id }
    }

    fn prefix(&self) -> IpNet {
        self.prefix
    }

    fn octets(&self) -> usize {
        prefix_len(&self.prefix) + self.path_id.map_or(0, |_| 4)
    }

    fn append(&self, out: &mut Vec<u8>) {
        out.extend(self.path_id.into_iter().flat_map(u32::to_be_bytes));
        prefix(out, &self.prefix);
    }
}

/// Where the routes of an UPDATE stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The fields of RFC 4271, for IPv4 with an IPv4 next hop.
    Classic,
    /// MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760).
    Multiprotocol,
}

/// Writes the UPDATEs that announce `prefixes` with these attributes, as few and as long as `limit` octets allow.
///
/// `attributes` is the block for this kind of session without NEXT_HOP and MP attributes, ascending by type. Calls
/// `emit` with each message and the number of prefixes in it. Returns false, having written nothing, when the
/// attributes leave no room for even one prefix (RFC 4271 §9.2: such a route is not advertised).
pub fn announce<R: Route>(
    family: Family,
    attributes: &[u8],
    next_hop: NextHop,
    prefixes: &[R],
    limit: usize,
    mut emit: impl FnMut(&[u8], usize),
) -> bool {
    let place = if family == Family::Ipv4 && next_hop.address.is_ipv4() {
        Place::Classic
    } else {
        Place::Multiprotocol
    };
    let mut head = Vec::with_capacity(attributes.len() + 64);
    write_announce_head(&mut head, family, place, attributes, next_hop);
    let room = limit.saturating_sub(head.len());
    if prefixes.iter().any(|route| route.octets() > room) {
        return false;
    }
    let mut message = Vec::with_capacity(limit.min(4096));
    let mut rest = prefixes;
    while !rest.is_empty() {
        message.clear();
        message.extend(&head);
        let count = fill(&mut message, rest, limit);
        finish(&mut message, place);
        emit(&message, count);
        rest = rest.get(count..).unwrap_or_default();
    }
    true
}

/// Writes the UPDATEs that withdraw `prefixes`, like [`announce`].
pub fn withdraw<R: Route>(family: Family, prefixes: &[R], limit: usize, mut emit: impl FnMut(&[u8], usize)) {
    let mut message = Vec::with_capacity(limit.min(4096));
    let mut rest = prefixes;
    while !rest.is_empty() {
        message.clear();
        start_update(&mut message);
        match family {
            Family::Ipv4 => {
                message.extend([0, 0]);
                // Room for the length of the attributes, which follows.
                let count = fill(&mut message, rest, limit - 2);
                let length = message.len() - HEADER_LEN - 2;
                patch_u16(&mut message, HEADER_LEN, length);
                message.extend([0, 0]);
                rest = rest.get(count..).unwrap_or_default();
                close(&mut message);
                emit(&message, count);
            }
            Family::Ipv6 => {
                write_unreach_head(&mut message, family);
                let count = fill(&mut message, rest, limit);
                finish(&mut message, Place::Multiprotocol);
                rest = rest.get(count..).unwrap_or_default();
                emit(&message, count);
            }
        }
    }
}

/// Appends the End-of-RIB marker of a family (RFC 4724 §2).
pub fn end_of_rib(family: Family, out: &mut Vec<u8>) {
    let mut message = Vec::new();
    start_update(&mut message);
    match family {
        Family::Ipv4 => {
            message.extend([0, 0, 0, 0]);
            close(&mut message);
        }
        Family::Ipv6 => {
            write_unreach_head(&mut message, family);
            finish(&mut message, Place::Multiprotocol);
        }
    }
    out.extend(message);
}

/// Where the length of the first attribute stands in an UPDATE without withdrawn routes, if it is an extended one.
const FIRST_ATTRIBUTE: usize = HEADER_LEN + 4;

fn start_update(message: &mut Vec<u8>) {
    message.extend([0xff; 16]);
    message.extend([0, 0, TYPE_UPDATE]);
}

fn write_announce_head(
    head: &mut Vec<u8>,
    family: Family,
    place: Place,
    attributes: &[u8],
    next_hop: NextHop,
) {
    start_update(head);
    head.extend([0, 0, 0, 0]);
    match place {
        Place::Classic => {
            let (before, after) = attribute::split_before(attributes, attribute::NEXT_HOP);
            head.extend(before);
            if let IpAddr::V4(address) = next_hop.address {
                let flags = attribute::FLAG_TRANSITIVE;
                attribute(head, flags, attribute::NEXT_HOP, &address.octets());
            }
            head.extend(after);
            let length = head.len() - FIRST_ATTRIBUTE;
            patch_u16(head, HEADER_LEN + 2, length);
        }
        Place::Multiprotocol => {
            // Prefixes have to be the end of the message while it is filled, so MP_REACH_NLRI comes last. RFC 7606 §5.1
            // wants it first: `finish` turns the two around.
            head.extend(attributes);
            let length = attributes.len();
            patch_u16(head, HEADER_LEN + 2, length);
            let flags = attribute::FLAG_OPTIONAL | FLAG_EXTENDED_LENGTH;
            head.extend([flags, attribute::MP_REACH_NLRI, 0, 0]);
            head.extend(family.afi().to_be_bytes());
            head.push(1);
            next_hop.encode(head);
            head.push(0);
        }
    }
}

fn write_unreach_head(message: &mut Vec<u8>, family: Family) {
    message.extend([0, 0, 0, 0]);
    let flags = attribute::FLAG_OPTIONAL | FLAG_EXTENDED_LENGTH;
    message.extend([flags, attribute::MP_UNREACH_NLRI, 0, 0]);
    message.extend(family.afi().to_be_bytes());
    message.push(1);
}

/// Appends prefixes while they fit and returns how many, at least one.
fn fill<R: Route>(message: &mut Vec<u8>, routes: &[R], limit: usize) -> usize {
    let mut count = 0;
    for next in routes {
        if count > 0 && message.len() + next.octets() > limit {
            break;
        }
        next.append(message);
        count += 1;
    }
    count
}

/// Sets the lengths after the prefixes are in, and moves the MP attribute to the front.
fn finish(message: &mut [u8], place: Place) {
    if place == Place::Multiprotocol {
        let others = message
            .get(HEADER_LEN + 2..FIRST_ATTRIBUTE)
            .and_then(|field| field.try_into().ok())
            .map_or(0, |field| usize::from(u16::from_be_bytes(field)));
        let whole = message.len() - FIRST_ATTRIBUTE;
        patch_u16(message, FIRST_ATTRIBUTE + others + 2, whole - others - 4);
        patch_u16(message, HEADER_LEN + 2, whole);
        if let Some(block) = message.get_mut(FIRST_ATTRIBUTE..) {
            block.rotate_left(others);
        }
    }
    close(message);
}

fn close(message: &mut [u8]) {
    let length = message.len();
    patch_u16(message, 16, length);
}

fn patch_u16(out: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&value);
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
