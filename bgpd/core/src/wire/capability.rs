//! Capabilities of an OPEN (RFC 5492 §4): the ones in use here parsed, the others known by their code only.

use super::cursor::Cursor;
use crate::family::Family;

/// Code of Multiprotocol Extensions (RFC 4760 §8).
pub const MULTIPROTOCOL: u8 = 1;
/// Code of Route Refresh (RFC 2918).
pub const ROUTE_REFRESH: u8 = 2;
/// Code of Extended Next Hop Encoding (RFC 8950).
pub const EXTENDED_NEXT_HOP: u8 = 5;
/// Code of Extended Message (RFC 8654).
pub const EXTENDED_MESSAGE: u8 = 6;
/// Code of BGP Role (RFC 9234).
pub const ROLE: u8 = 9;
/// Code of Graceful Restart (RFC 4724).
pub const GRACEFUL_RESTART: u8 = 64;
/// Code of four-octet AS numbers (RFC 6793).
pub const FOUR_OCTET_AS: u8 = 65;
/// Code of ADD-PATH (RFC 7911).
pub const ADD_PATH: u8 = 69;
/// Code of Enhanced Route Refresh (RFC 7313).
pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
/// Code of Long-Lived Graceful Restart (RFC 9494).
pub const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;

const GR_RESTARTING: u8 = 0x80;
const GR_NOTIFICATION: u8 = 0x40;
const GR_FORWARDING: u8 = 0x80;
const UNKNOWN_MAX: usize = 32;

/// Graceful restart as a speaker announces it (RFC 4724 §3, RFC 8538 §2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// The sender has restarted and its peer shall not wait for its End-of-RIB (R bit).
    pub restarting: bool,
    /// NOTIFICATIONs and hold timers are survived too (N bit).
    pub notification: bool,
    /// Seconds until the session is back, at most.
    pub restart_seconds: u16,
    /// Families, and whether forwarding state was kept through the restart (F bit).
    pub families: Vec<(Family, bool)>,
}

/// Long-lived graceful restart of one family as a speaker announces it (RFC 9494 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLived {
    /// The family.
    pub family: Family,
    /// Forwarding state was kept through the restart (F bit).
    pub forwarding: bool,
    /// Seconds that its routes may be kept as stale after the restart time: 24 bits.
    pub stale_seconds: u32,
}

/// The set of capabilities in an OPEN. One that comes twice is taken once; the last of differing ones counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Families of RFC 4760.
    pub families: Vec<Family>,
    /// An AFI/SAFI that is not carried here was announced: without any of ours there is nothing in common.
    pub other_families: bool,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_refresh: bool,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 8950: IPv4 routes may have IPv6 next hops.
    pub extended_next_hop: bool,
    /// RFC 6793: the sender's AS number.
    pub as4: Option<u32>,
    /// RFC 4724.
    pub graceful_restart: Option<GracefulRestart>,
    /// RFC 9494; empty when it came without a family, which says that the sender knows what stale routes are.
    pub long_lived: Option<Vec<LongLived>>,
    /// RFC 9234: what the sender is in its relation to the receiver.
    pub role: Option<u8>,
    /// RFC 9234 §4.2: different roles came in one OPEN.
    pub role_conflict: bool,
    /// RFC 7911: per family whether the sender receives (1) and sends (2) several paths.
    pub add_path: Vec<(Family, u8)>,
    /// Codes of the others, in the order of arrival, the first 32.
    pub unknown: Vec<u8>,
}

impl Capabilities {
    /// Adds what one optional parameter carries. `None` when lengths contradict each other. A capability whose own
    /// length is wrong is ignored, as one that is not known (RFC 5492 §3).
    pub(super) fn parse(&mut self, parameter: &[u8]) -> Option<()> {
        let mut cursor = Cursor::new(parameter);
        while !cursor.is_empty() {
            let code = cursor.u8()?;
            let length = cursor.u8()?;
            let value = cursor.take(usize::from(length))?;
            self.parse_one(code, value);
        }
        Some(())
    }

    fn parse_one(&mut self, code: u8, value: &[u8]) {
        match (code, value) {
            (MULTIPROTOCOL, &[high, low, _, safi]) => {
                match Family::from_afi_safi(u16::from_be_bytes([high, low]), safi) {
                    Some(family) if !self.families.contains(&family) => self.families.push(family),
                    Some(_) => {}
                    None => self.other_families = true,
                }
            }
            (ROUTE_REFRESH, _) => self.route_refresh = true,
            (ENHANCED_ROUTE_REFRESH, _) => self.enhanced_refresh = true,
            (EXTENDED_MESSAGE, _) => self.extended_message = true,
            (EXTENDED_NEXT_HOP, _) => {
                // AFI 1, SAFI 1 with a next hop of AFI 2.
                self.extended_next_hop |= value.chunks_exact(6).any(|entry| *entry == [0, 1, 0, 1, 0, 2]);
            }
            (FOUR_OCTET_AS, &[a, b, c, d]) => self.as4 = Some(u32::from_be_bytes([a, b, c, d])),
            (GRACEFUL_RESTART, _) => self.graceful_restart = graceful_restart(value),
            (ADD_PATH, _) => self.add_path = add_path(value),
            (LONG_LIVED_GRACEFUL_RESTART, _) => self.long_lived = Some(long_lived(value)),
            (ROLE, &[role]) => {
                self.role_conflict |= self.role.is_some_and(|before| before != role);
                self.role = Some(role);
            }
            _ if self.unknown.len() < UNKNOWN_MAX && !self.unknown.contains(&code) => self.unknown.push(code),
            _ => {}
        }
    }

    /// Appends all but `unknown`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for family in &self.families {
            let [high, low] = family.afi().to_be_bytes();
            out.extend([MULTIPROTOCOL, 4, high, low, 0, 1]);
        }
        if self.route_refresh {
            out.extend([ROUTE_REFRESH, 0]);
        }
        if self.extended_next_hop {
            out.extend([EXTENDED_NEXT_HOP, 6, 0, 1, 0, 1, 0, 2]);
        }
        if self.extended_message {
            out.extend([EXTENDED_MESSAGE, 0]);
        }
        if let Some(role) = self.role {
            out.extend([ROLE, 1, role]);
        }
        if let Some(restart) = &self.graceful_restart {
            restart.encode(out);
        }
        if let Some(number) = self.as4 {
            out.extend([FOUR_OCTET_AS, 4]);
            out.extend(number.to_be_bytes());
        }
        if !self.add_path.is_empty() {
            out.extend([ADD_PATH, list_len(self.add_path.len(), 4)]);
            for (family, mode) in &self.add_path {
                let [high, low] = family.afi().to_be_bytes();
                out.extend([high, low, 1, *mode]);
            }
        }
        if self.enhanced_refresh {
            out.extend([ENHANCED_ROUTE_REFRESH, 0]);
        }
        if let Some(families) = &self.long_lived {
            out.extend([LONG_LIVED_GRACEFUL_RESTART, list_len(families.len(), 7)]);
            for entry in families {
                let [high, low] = entry.family.afi().to_be_bytes();
                let [_, a, b, c] = entry.stale_seconds.to_be_bytes();
                let flags = if entry.forwarding { GR_FORWARDING } else { 0 };
                out.extend([high, low, 1, flags, a, b, c]);
            }
        }
    }
}

impl GracefulRestart {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([GRACEFUL_RESTART, list_len(self.families.len(), 4) + 2]);
        let [high, low] = (self.restart_seconds & 0x0fff).to_be_bytes();
        let restarting = if self.restarting { GR_RESTARTING } else { 0 };
        let notification = if self.notification { GR_NOTIFICATION } else { 0 };
        out.extend([high | restarting | notification, low]);
        for (family, forwarding) in &self.families {
            let [high, low] = family.afi().to_be_bytes();
            out.extend([high, low, 1, if *forwarding { GR_FORWARDING } else { 0 }]);
        }
    }
}

/// Octets of a list that holds each of the two families at most once.
fn list_len(count: usize, each: u8) -> u8 {
    u8::try_from(count).unwrap_or(2).min(2) * each
}

fn graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut cursor = Cursor::new(value);
    let head = cursor.u16()?;
    let [first, _] = head.to_be_bytes();
    let mut restart = GracefulRestart {
        restarting: first & GR_RESTARTING != 0,
        notification: first & GR_NOTIFICATION != 0,
        restart_seconds: head & 0x0fff,
        families: Vec::new(),
    };
    while let Some([high, low, safi, flags]) = cursor.array() {
        if let Some(family) = Family::from_afi_safi(u16::from_be_bytes([high, low]), safi) {
            restart.families.retain(|(known, _)| *known != family);
            restart.families.push((family, flags & GR_FORWARDING != 0));
        }
    }
    cursor.is_empty().then_some(restart)
}

fn add_path(value: &[u8]) -> Vec<(Family, u8)> {
    let mut list: Vec<(Family, u8)> = Vec::new();
    for entry in value.chunks_exact(4) {
        let &[high, low, safi, mode] = entry else { continue };
        // RFC 7911 §4: an entry with another value is ignored.
        if let Some(family) = Family::from_afi_safi(u16::from_be_bytes([high, low]), safi)
            && (1..=3).contains(&mode)
        {
            list.retain(|(known, _)| *known != family);
            list.push((family, mode));
        }
    }
    list
}

fn long_lived(value: &[u8]) -> Vec<LongLived> {
    let mut list: Vec<LongLived> = Vec::new();
    let (entries, _) = value.as_chunks::<7>();
    for &[high, low, safi, flags, a, b, c] in entries {
        if let Some(family) = Family::from_afi_safi(u16::from_be_bytes([high, low]), safi) {
            list.retain(|known| known.family != family);
            list.push(LongLived {
                family,
                forwarding: flags & GR_FORWARDING != 0,
                stale_seconds: u32::from_be_bytes([0, a, b, c]),
            });
        }
    }
    list
}
