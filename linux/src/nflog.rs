//! Packets that rules send to user space: the groups of nfnetlink_log.
//!
//! Owns the subscription and the parsing of what the kernel sends. Decides nothing and keeps nothing: what the packets
//! mean is the caller's business. The kernel drops what nobody reads in time, and says so; a rule that logs never holds
//! up its packet. Source: `linux/netfilter/nfnetlink_log.h`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::conntrack::Tuple;
use crate::nfnetlink::{Attributes, NLM_F_ACK, NLM_F_REQUEST, Request, attribute, frame, messages, verdict};
use crate::{Error, Result};

const NFNL_SUBSYS_ULOG: u16 = 4;
const MSG_PACKET: u16 = 0;
const MSG_CONFIG: u16 = 1;
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const ATTR_PAYLOAD: u16 = 9;
const ATTR_PREFIX: u16 = 10;
/// The group stands in the generic header, in network byte order, behind netlink's header, family and version.
const GROUP_OFFSET: usize = 18;
const NFGENMSG_LEN: usize = 4;
const NLMSG_ERROR: u16 = 2;

/// Bytes of a packet that are of interest: addresses and ports, behind a few extension headers.
const SNAP_LEN: u32 = 128;
/// What the kernel may hold for a reader that is busy.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// IPv6 extension headers that are gone through.
const EXTENSIONS_MAX: usize = 8;

/// A packet that a rule logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logged {
    /// The group that the rule named.
    pub group: u16,
    /// The text that the rule named.
    pub prefix: String,
    /// Its addresses and ports.
    pub tuple: Tuple,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
}

/// What one read gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The packets.
    pub packets: Vec<Logged>,
    /// Messages that are no packet, or one that cannot be read.
    pub unreadable: usize,
    /// Packets were lost before this read: they came faster than they were read.
    pub is_overrun: bool,
}

/// A subscription to groups, in one network namespace.
pub struct Listener {
    socket: TokioSocket,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// Subscribes in the calling thread's namespace. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink_log, or a group has a reader already.
    pub fn open(groups: &[u16]) -> Result<Self> {
        const WHAT: &str = "open a netfilter log socket";
        let failed = |e| Error::io(WHAT, e);
        let mut asynchronous = TokioSocket::new(NETLINK_NETFILTER).map_err(failed)?;
        let socket = asynchronous.socket_mut();
        socket.bind_auto().map_err(failed)?;
        // Best effort: without the right to it the kernel's default holds less.
        let _ = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        // Acknowledgements come at once; a longer silence means that one was lost.
        setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::new(10, 0))
            .map_err(|e| Error::kernel(WHAT, e as i32))?;
        socket.set_non_blocking(false).map_err(failed)?;
        for group in groups {
            let mut bind = Attributes::new();
            bind.put(CFG_CMD, &[CMD_BIND]);
            configure(socket, *group, &bind)?;
            let mut mode = Attributes::new();
            let mut value = SNAP_LEN.to_be_bytes().to_vec();
            value.extend([COPY_PACKET, 0]);
            mode.put(CFG_MODE, &value);
            configure(socket, *group, &mode)?;
        }
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self { socket: asynchronous })
    }

    /// Waits for packets.
    ///
    /// # Errors
    /// When the socket can no longer be read.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Batch> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) => return Ok(batch(&datagram)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Batch {
                        is_overrun: true,
                        ..Batch::default()
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read logged packets", error)),
            }
        }
    }
}

/// Sends one configuration message about a group and waits for its acknowledgement.
fn configure(socket: &Socket, group: u16, attributes: &Attributes) -> Result<()> {
    let what = "subscribe to logged packets";
    let request = Request {
        kind: (NFNL_SUBSYS_ULOG << 8) | MSG_CONFIG,
        flags: 0,
        family: 0,
        payload: attributes.bytes(),
    };
    let sequence = u32::from(group) + 1;
    let mut bytes = frame(&request, NLM_F_REQUEST | NLM_F_ACK, sequence)
        .ok_or_else(|| Error::invalid(what, "the message is larger than netlink can carry"))?;
    if let Some(place) = bytes.get_mut(GROUP_OFFSET..GROUP_OFFSET + 2) {
        place.copy_from_slice(&group.to_be_bytes());
    }
    socket
        .send_to(&bytes, &SocketAddr::new(0, 0), 0)
        .map_err(|e| Error::io(what, e))?;
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(|e| Error::io(what, e))?;
        // Packets of a group that is bound already may come in between: they are let go.
        for message in messages(&datagram) {
            if message.kind == NLMSG_ERROR && message.sequence == sequence {
                return verdict(message.payload).map_err(|errno| Error::kernel(what, errno));
            }
        }
    }
}

/// The packets of a datagram.
fn batch(datagram: &[u8]) -> Batch {
    let mut batch = Batch::default();
    for message in messages(datagram) {
        if message.kind != (NFNL_SUBSYS_ULOG << 8) | MSG_PACKET {
            continue;
        }
        match logged(message.payload) {
            Some(packet) => batch.packets.push(packet),
            None => batch.unreadable += 1,
        }
    }
    batch
}

fn logged(message: &[u8]) -> Option<Logged> {
    let group = u16::from_be_bytes(*message.get(2..)?.first_chunk()?);
    let attributes = message.get(NFGENMSG_LEN..)?;
    let prefix = attribute(attributes, ATTR_PREFIX).unwrap_or_default();
    let prefix = prefix.split(|byte| *byte == 0).next().unwrap_or_default();
    let (tuple, icmp) = parse(attribute(attributes, ATTR_PAYLOAD)?)?;
    Some(Logged {
        group,
        prefix: String::from_utf8_lossy(prefix).into_owned(),
        tuple,
        icmp,
    })
}

/// Addresses, ports and ICMP type of an IP packet; `None` for what is none.
fn parse(packet: &[u8]) -> Option<(Tuple, Option<(u8, u8)>)> {
    match packet.first()? >> 4 {
        4 => {
            let length = usize::from(packet.first()? & 0xf) * 4;
            let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
            // Later fragments have no ports.
            let offset = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
            let rest = packet.get(length..).filter(|_| length >= 20 && offset == 0);
            let ends = (IpAddr::from(address(12)?), IpAddr::from(address(16)?));
            Some(upper(ends, *packet.get(9)?, rest.unwrap_or_default()))
        }
        6 => {
            let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
            let ends = (IpAddr::from(address(8)?), IpAddr::from(address(24)?));
            let (mut protocol, mut rest) = (*packet.get(6)?, packet.get(40..).unwrap_or_default());
            for _ in 0..EXTENSIONS_MAX {
                let length = match protocol {
                    // Hop-by-hop, routing and destination options: in units of eight bytes, the first not counted.
                    0 | 43 | 60 => rest.get(1).map(|length| (usize::from(*length) + 1) * 8),
                    44 => {
                        let offset = rest.get(2..).and_then(|rest| rest.first_chunk::<2>());
                        let is_first = offset.is_some_and(|bytes| u16::from_be_bytes(*bytes) >> 3 == 0);
                        is_first.then_some(8)
                    }
                    _ => break,
                };
                let (Some(length), Some(next)) = (length, rest.first().copied()) else {
                    rest = &[];
                    break;
                };
                protocol = next;
                rest = rest.get(length..).unwrap_or_default();
            }
            Some(upper(ends, protocol, rest))
        }
        _ => None,
    }
}

fn upper((source, destination): (IpAddr, IpAddr), protocol: u8, rest: &[u8]) -> (Tuple, Option<(u8, u8)>) {
    let mut tuple = Tuple {
        source,
        destination,
        protocol,
        source_port: 0,
        destination_port: 0,
    };
    let mut icmp = None;
    match (protocol, rest) {
        (6 | 17 | 33 | 132 | 136, [a, b, c, d, ..]) => {
            tuple.source_port = u16::from_be_bytes([*a, *b]);
            tuple.destination_port = u16::from_be_bytes([*c, *d]);
        }
        (1 | 58, [type_, code, ..]) => icmp = Some((*type_, *code)),
        _ => {}
    }
    (tuple, icmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(rest);
        packet
    }

    #[test]
    fn addresses_and_ports_are_read() {
        let (tuple, icmp) = parse(&v4(6, 0, &[0x9c, 0x40, 0, 80, 0])).unwrap();
        assert_eq!(
            (tuple.source_port, tuple.destination_port, icmp),
            (40_000, 80, None)
        );
        assert_eq!(tuple.destination.to_string(), "10.0.0.2");
        assert_eq!(parse(&v4(1, 0, &[8, 0])).unwrap().1, Some((8, 0)));
        // A later fragment begins with data, not with ports.
        assert_eq!(
            parse(&v4(17, 0x2001, &[1, 2, 3, 4])).unwrap().0.destination_port,
            0
        );
        assert_eq!(
            parse(&v4(17, 0x2000, &[1, 2, 3, 4])).unwrap().0.destination_port,
            0x0304
        );
    }

    #[test]
    fn extension_headers_are_gone_through() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend([60, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([0, 1, 0, 2]);
        let (tuple, _) = parse(&packet).unwrap();
        assert_eq!(
            (tuple.protocol, tuple.source_port, tuple.destination_port),
            (6, 1, 2)
        );
    }

    #[test]
    fn what_is_cut_short_is_no_panic() {
        let whole = v4(6, 0, &[1, 2, 3, 4]);
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert!(parse(cut).is_none_or(|(tuple, _)| tuple.destination_port == 0 || length >= 24));
        }
        let mut endless = vec![0x60, 0, 0, 0, 0, 0, 60, 0];
        endless.extend([0; 32]);
        endless.extend([60, 0, 0, 0, 0, 0, 0, 0].repeat(20));
        assert!(parse(&endless).is_some());
        for byte in 0..=255 {
            let _ = batch(&[byte; 64]);
            let _ = parse(&[byte; 41]);
        }
    }
}
