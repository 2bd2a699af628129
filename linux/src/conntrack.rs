//! Connection tracking: list flows, delete those of an address.
//!
//! Owns the messages of the conntrack subsystem that felix needs. Decides nothing: which flows go is the caller's
//! choice. Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netns::NetNs;
use crate::nfnetlink::{Attributes, Connection, Request, attribute};
use crate::{Error, Result};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const MSG_GET: u16 = 1;
const MSG_DELETE: u16 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

/// One direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 for protocols without ports.
    pub source_port: u16,
    /// Destination port; 0 for protocols without ports.
    pub destination_port: u16,
}

/// A tracked flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// As the first packet went.
    pub original: Tuple,
    /// As answers come; differs from the mirror image when addresses are translated.
    pub reply: Tuple,
    /// What the kernel needs to find the very same flow again.
    identity: Vec<u8>,
}

impl Flow {
    /// An address takes part in the flow, before or after translation.
    pub fn involves(&self, address: IpAddr) -> bool {
        [self.original, self.reply]
            .iter()
            .any(|tuple| tuple.source == address || tuple.destination == address)
    }
}

/// The connection tracking table of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    connection: Connection,
}

impl Conntrack {
    /// Connects in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self {
            connection: Connection::open()?,
        })
    }

    /// Connects in another namespace, and stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        Ok(Self {
            connection: Connection::open_in(netns)?,
        })
    }

    /// All flows of a family.
    ///
    /// # Errors
    /// When the listing fails; `is_unsupported` when the kernel cannot list them.
    pub fn flows(&mut self, v6: bool) -> Result<Vec<Flow>> {
        let what = "list tracked connections";
        let dump = self.connection.dump(what, &request(MSG_GET, v6, &[]))?;
        let dump = dump.map_err(|code| match code {
            libc::EINVAL => Error::kernel(what, libc::EOPNOTSUPP),
            code => Error::kernel(what, code),
        })?;
        Ok(dump.iter().filter_map(|payload| flow_from(payload)).collect())
    }

    /// Deletes one flow. A flow that has ended meanwhile is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let v6 = flow.original.source.is_ipv6();
        let what = "delete a tracked connection";
        match self
            .connection
            .request(what, &request(MSG_DELETE, v6, &flow.identity))?
        {
            Ok(()) | Err(libc::ENOENT) => Ok(()),
            Err(code) => Err(Error::kernel(what, code)),
        }
    }

    /// Deletes the flows that a test picks; one listing per family. Returns how many went.
    ///
    /// # Errors
    /// When a listing or a deletion fails; flows before it are gone.
    pub fn delete_where(&mut self, v6: bool, mut test: impl FnMut(&Flow) -> bool) -> Result<usize> {
        let mut count = 0;
        for flow in self.flows(v6)?.iter().filter(|flow| test(flow)) {
            self.delete(flow)?;
            count += 1;
        }
        Ok(count)
    }

    /// Deletes every flow that an address takes part in. Returns how many went.
    ///
    /// # Errors
    /// As [`Conntrack::delete_where`].
    pub fn delete_by_address(&mut self, address: IpAddr) -> Result<usize> {
        self.delete_where(address.is_ipv6(), |flow| flow.involves(address))
    }
}

fn request(message: u16, v6: bool, payload: &[u8]) -> Request<'_> {
    Request {
        kind: NFNL_SUBSYS_CTNETLINK << 8 | message,
        flags: 0,
        family: if v6 { 10 } else { 2 },
        payload,
    }
}

fn flow_from(payload: &[u8]) -> Option<Flow> {
    let original = attribute(payload, CTA_TUPLE_ORIG)?;
    let mut identity = Attributes::new();
    identity.put(CTA_TUPLE_ORIG | 0x8000, original);
    // The id tells this flow from a later one between the same ends.
    for kind in [CTA_ZONE, CTA_ID] {
        if let Some(value) = attribute(payload, kind) {
            identity.put(kind, value);
        }
    }
    Some(Flow {
        original: tuple_from(original)?,
        reply: tuple_from(attribute(payload, CTA_TUPLE_REPLY)?)?,
        identity: identity.bytes().to_vec(),
    })
}

fn tuple_from(payload: &[u8]) -> Option<Tuple> {
    let ip = attribute(payload, CTA_TUPLE_IP)?;
    let protocol = attribute(payload, CTA_TUPLE_PROTO)?;
    let port = |kind| {
        attribute(protocol, kind)
            .and_then(|bytes| bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)))
            .unwrap_or(0)
    };
    Some(Tuple {
        source: address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    })
}

fn address(payload: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(octets) = attribute(payload, v4) {
        return Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).into());
    }
    let octets = attribute(payload, v6)?;
    Some(Ipv6Addr::from(*octets.first_chunk::<16>()?).into())
}
