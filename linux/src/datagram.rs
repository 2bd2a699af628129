//! UDP datagrams together with the TTL or hop limit that they came with, which tells whether they crossed a router.
//!
//! Sources: `ip(7)` (IP_RECVTTL), `ipv6(7)` (IPV6_RECVHOPLIMIT).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::{Error, Result};

/// Room for one control message with an integer.
const CONTROL_LEN: usize = 64;

/// What is known of a datagram besides its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Octets of it that are in the buffer.
    pub length: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// TTL or hop limit, where [`receive_ttl`] was called for the socket.
    pub ttl: Option<u8>,
}

/// Lets a UDP socket tell the TTL or hop limit of what it receives.
///
/// # Errors
/// When the kernel refuses.
pub fn receive_ttl<F: AsFd>(socket: &F, is_ipv4: bool) -> Result<()> {
    let result = if is_ipv4 {
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true)
    } else {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)
    };
    result.map_err(|errno| Error::io("ask for the TTL of datagrams", errno.into()))
}

/// Receives one datagram. What does not fit the buffer is lost, as with `recv(2)`.
///
/// # Errors
/// `WouldBlock` when there is none; what the kernel says otherwise.
pub fn receive<F: AsFd>(socket: &F, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0; CONTROL_LEN];
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let ttl = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    let source = message
        .address
        .as_ref()
        .and_then(socket_address)
        .ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Received {
        length: message.bytes,
        source,
        ttl,
    })
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|address| SocketAddr::V6((*address).into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_come_with_sender_and_ttl() {
        for (address, is_ipv4) in [("127.0.0.1:0", true), ("[::1]:0", false)] {
            let receiver = UdpSocket::bind(address).unwrap();
            receive_ttl(&receiver, is_ipv4).unwrap();
            let sender = UdpSocket::bind(address).unwrap();
            if is_ipv4 {
                sender.set_ttl(254).unwrap();
            } else {
                socket2::SockRef::from(&sender).set_unicast_hops_v6(254).unwrap();
            }
            sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 16];
            let received = receive(&receiver, &mut buffer).unwrap();
            assert_eq!(&buffer[..received.length], b"hello");
            assert_eq!(received.source, sender.local_addr().unwrap());
            assert_eq!(received.ttl, Some(254));
            receiver.set_nonblocking(true).unwrap();
            let error = receive(&receiver, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
