//! BFD's sockets: one to receive for each port and family, one to send for each session (RFC 5881 §4, RFC 5883 §5).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use caracal_bgpd_core::bfd::{Mode, PACKET_LEN, PORT_MULTIHOP, PORT_SINGLE_HOP, TTL};
use caracal_linux::datagram;
use rand::Rng;
use rand::rngs::SmallRng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Wanted;

/// Room for a packet with the longest authentication section.
const BUFFER_LEN: usize = 128;
/// Source ports of RFC 5881 §4.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Source ports tried before giving up.
const TRIES: usize = 64;
/// Control traffic of the network: what a full queue drops last.
const TOS: u32 = 0xc0;

/// A port to receive on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) is_ipv4: bool,
    pub(super) number: u16,
}

impl Port {
    pub(super) fn of(wanted: &Wanted) -> Self {
        let number = match wanted.settings.mode {
            Mode::SingleHop | Mode::IfDirect => PORT_SINGLE_HOP,
            Mode::Multihop => PORT_MULTIHOP,
        };
        Self {
            is_ipv4: wanted.address.is_ipv4(),
            number,
        }
    }
}

/// A datagram that may be a packet.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) port: Port,
    pub(super) source: IpAddr,
    pub(super) bytes: Vec<u8>,
}

/// A socket that receives until it is dropped.
#[derive(Debug)]
pub(super) struct Receiver(JoinHandle<()>);

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receiver {
    pub(super) fn open(port: Port, datagrams: mpsc::Sender<Datagram>) -> io::Result<Self> {
        let any: IpAddr = if port.is_ipv4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = datagram_socket(any)?;
        datagram::receive_ttl(&socket, port.is_ipv4).map_err(io::Error::other)?;
        socket.bind(&SocketAddr::new(any, port.number).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self(tokio::spawn(receive(socket, port, datagrams))))
    }
}

async fn receive(socket: UdpSocket, port: Port, datagrams: mpsc::Sender<Datagram>) {
    let mut buffer = [0; BUFFER_LEN];
    loop {
        let read = || datagram::receive(&socket, &mut buffer);
        let received = match socket.async_io(Interest::READABLE, read).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of something sent before; the socket goes on.
                tracing::debug!(error = %error, "receiving BFD packets failed");
                continue;
            }
        };
        // RFC 5881 §5: anything else has crossed a router.
        if port.number == PORT_SINGLE_HOP && received.ttl != Some(TTL) {
            continue;
        }
        let datagram = Datagram {
            port,
            source: received.source.ip().to_canonical(),
            bytes: buffer.get(..received.length).unwrap_or_default().to_vec(),
        };
        if datagrams.send(datagram).await.is_err() {
            return;
        }
    }
}

/// The sending side of a session.
#[derive(Debug)]
pub(super) struct Sender {
    socket: std::net::UdpSocket,
    to: SocketAddr,
}

impl Sender {
    pub(super) fn open(wanted: &Wanted, rng: &mut SmallRng) -> io::Result<Self> {
        let any: IpAddr = if wanted.address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let from = wanted.local.unwrap_or(any);
        let socket = datagram_socket(wanted.address)?;
        let mut result = Ok(());
        for _ in 0..TRIES {
            let port = rng.random_range(SOURCE_PORTS);
            result = socket.bind(&SocketAddr::new(from, port).into());
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        result?;
        let to = SocketAddr::new(wanted.address, Port::of(wanted).number);
        Ok(Self {
            socket: socket.into(),
            to,
        })
    }

    /// Sends; a packet that cannot be sent now counts as lost.
    pub(super) fn send(&self, packet: &[u8; PACKET_LEN]) -> io::Result<()> {
        self.socket.send_to(packet, self.to).map(drop)
    }
}

fn datagram_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv4() {
        socket.set_ttl_v4(u32::from(TTL))?;
        let _ = socket.set_tos_v4(TOS);
    } else {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(u32::from(TTL))?;
        let _ = socket.set_tclass_v6(TOS);
    }
    Ok(socket)
}
