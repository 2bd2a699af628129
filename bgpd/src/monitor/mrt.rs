//! MRT files (RFC 6396, RFC 8050): messages as they come, and the table as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use caracal_bgpd_core::snapshot::SpeakerStatus;
use caracal_bgpd_core::wire::attribute::{FLAG_OPTIONAL, FLAG_TRANSITIVE, MP_REACH_NLRI, NEXT_HOP};
use caracal_bgpd_core::wire::encode;
use caracal_bgpd_core::wire::mp::NextHop;
use caracal_bgpd_core::{Family, Speaker};
use ipnet::IpNet;

use super::tap::Peer;

/// Types and subtypes (RFC 6396 §4, RFC 8050 §4).
const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;
const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
const BGP4MP: u16 = 16;
const BGP4MP_MESSAGE: u16 = 1;
const BGP4MP_MESSAGE_AS4: u16 = 4;
const BGP4MP_STATE_CHANGE_AS4: u16 = 5;
const BGP4MP_MESSAGE_ADDPATH: u16 = 8;
const BGP4MP_MESSAGE_AS4_ADDPATH: u16 = 9;
/// Idle in a state change (RFC 6396 §4.4.1).
pub(super) const IDLE: u16 = 1;
/// OpenConfirm.
pub(super) const OPEN_CONFIRM: u16 = 5;
/// Established.
pub(super) const ESTABLISHED: u16 = 6;
/// AS_TRANS, where a number does not fit (RFC 6793).
const AS_TRANS: u16 = 23456;

/// A file of messages, until it cannot be written any more.
#[derive(Debug)]
pub struct Writer {
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

impl Writer {
    /// Appends to a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self {
            file: Some(BufWriter::new(file)),
            path: path.to_owned(),
        })
    }

    pub(super) fn message(&mut self, at: SystemTime, peer: &Peer, bytes: &[u8]) {
        let subtype = match (peer.as4, peer.add_path.contains(&true)) {
            (true, false) => BGP4MP_MESSAGE_AS4,
            (true, true) => BGP4MP_MESSAGE_AS4_ADDPATH,
            (false, false) => BGP4MP_MESSAGE,
            (false, true) => BGP4MP_MESSAGE_ADDPATH,
        };
        let mut body = Vec::with_capacity(bytes.len() + 64);
        ends(&mut body, peer, peer.as4);
        body.extend(bytes);
        self.write(at, subtype, &body);
    }

    pub(super) fn state(&mut self, at: SystemTime, peer: &Peer, from: u16, to: u16) {
        let mut body = Vec::new();
        ends(&mut body, peer, true);
        body.extend(from.to_be_bytes());
        body.extend(to.to_be_bytes());
        self.write(at, BGP4MP_STATE_CHANGE_AS4, &body);
    }

    fn write(&mut self, at: SystemTime, subtype: u16, body: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let written = record(file, at, BGP4MP, subtype, body).and_then(|()| file.flush());
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), error = %error, "MRT messages end");
            self.file = None;
        }
    }
}

/// Writes all that peers have sent, and returns how many prefixes that were. The time of each route is that of the dump:
/// the speaker does not keep when a route came.
///
/// # Errors
/// When the file cannot be written.
pub fn write_table(path: &Path, speaker: &Speaker, status: &SpeakerStatus) -> io::Result<usize> {
    let at = SystemTime::now();
    let mut file = BufWriter::new(File::create(path)?);
    let index: BTreeMap<&str, u16> = status
        .peers
        .iter()
        .zip(0..)
        .map(|(peer, number)| (peer.name.as_str(), number))
        .collect();
    record(
        &mut file,
        at,
        TABLE_DUMP_V2,
        PEER_INDEX_TABLE,
        &peer_index(status),
    )?;
    let mut sequence: u32 = 0;
    let mut result = Ok(());
    speaker.visit_received(|prefix, paths| {
        if result.is_err() {
            return;
        }
        let has_ids = paths.iter().any(|path| path.path_id != 0);
        let subtype = match (Family::of_prefix(&prefix), has_ids) {
            (Family::Ipv4, false) => RIB_IPV4_UNICAST,
            (Family::Ipv4, true) => RIB_IPV4_UNICAST_ADDPATH,
            (Family::Ipv6, false) => RIB_IPV6_UNICAST,
            (Family::Ipv6, true) => RIB_IPV6_UNICAST_ADDPATH,
        };
        let mut body = sequence.to_be_bytes().to_vec();
        encode::prefix(&mut body, &prefix);
        body.extend(u16::try_from(paths.len()).unwrap_or(u16::MAX).to_be_bytes());
        for path in paths {
            body.extend(index.get(path.peer).copied().unwrap_or(u16::MAX).to_be_bytes());
            body.extend(seconds(at).to_be_bytes());
            if has_ids {
                body.extend(path.path_id.to_be_bytes());
            }
            let attributes = attributes(&prefix, path.attributes, path.next_hop);
            body.extend(u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(attributes);
        }
        sequence += 1;
        result = record(&mut file, at, TABLE_DUMP_V2, subtype, &body);
    });
    result?;
    file.flush()?;
    Ok(usize::try_from(sequence).unwrap_or(usize::MAX))
}

/// RFC 6396 §4.3.1.
fn peer_index(status: &SpeakerStatus) -> Vec<u8> {
    let mut body = status.router_id.octets().to_vec();
    body.extend([0, 0]);
    body.extend(
        u16::try_from(status.peers.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    for peer in &status.peers {
        // Bit 1: the AS number takes four octets; bit 0: the address is of IPv6.
        body.push(2 | u8::from(peer.address.is_ipv6()));
        body.extend(peer.router_id.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        push_address(&mut body, peer.address);
        body.extend(peer.remote_as.to_be_bytes());
    }
    body
}

/// The attributes with the next hop, which for IPv6 stands alone in MP_REACH_NLRI (RFC 6396 §4.3.4).
fn attributes(prefix: &IpNet, block: &[u8], next_hop: Option<NextHop>) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 24);
    let Some(next_hop) = next_hop else {
        return block.to_vec();
    };
    match (prefix, next_hop.address) {
        (IpNet::V4(_), IpAddr::V4(address)) => {
            let is_before = |kind: u8| kind < NEXT_HOP;
            let mut rest = block;
            while let [_, kind, ..] = rest
                && is_before(*kind)
                && let Some(length) = attribute_len(rest)
            {
                let (one, after) = rest.split_at(length.min(rest.len()));
                out.extend(one);
                rest = after;
            }
            encode::attribute(&mut out, FLAG_TRANSITIVE, NEXT_HOP, &address.octets());
            out.extend(rest);
        }
        (_, address) => {
            out.extend(block);
            let mut value = Vec::new();
            let mut addresses = vec![address];
            addresses.extend(next_hop.link_local.map(IpAddr::V6));
            addresses
                .iter()
                .for_each(|address| push_address(&mut value, *address));
            value.insert(0, u8::try_from(value.len()).unwrap_or(u8::MAX));
            encode::attribute(&mut out, FLAG_OPTIONAL, MP_REACH_NLRI, &value);
        }
    }
    out
}

/// Octets that the attribute at the beginning takes.
fn attribute_len(block: &[u8]) -> Option<usize> {
    let is_extended = block.first()? & 0x10 != 0;
    Some(if is_extended {
        4 + usize::from(u16::from_be_bytes([*block.get(2)?, *block.get(3)?]))
    } else {
        3 + usize::from(*block.get(2)?)
    })
}

/// AS numbers, interface, family and addresses of a BGP4MP record (§4.4).
fn ends(out: &mut Vec<u8>, peer: &Peer, as4: bool) {
    for number in [peer.remote_as, peer.local_as] {
        if as4 {
            out.extend(number.to_be_bytes());
        } else {
            out.extend(u16::try_from(number).unwrap_or(AS_TRANS).to_be_bytes());
        }
    }
    out.extend([0, 0]);
    out.extend(Family::of_address(peer.remote.ip()).afi().to_be_bytes());
    push_address(out, peer.remote.ip());
    push_address(out, peer.local.ip());
}

fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

/// A record with its header (§2).
fn record(out: &mut impl Write, at: SystemTime, kind: u16, subtype: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.write_all(&seconds(at).to_be_bytes())?;
    out.write_all(&kind.to_be_bytes())?;
    out.write_all(&subtype.to_be_bytes())?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(body)
}

fn seconds(at: SystemTime) -> u32 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
