//! Socket options by peer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use caracal_bgpd_core::output::Transport;
use caracal_linux::sys;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// What listeners and dialling sockets have in common.
pub(super) fn stream_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // BGP's packets are network control (RFC 4271 appendix E): precedence 6. A kernel that refuses costs nothing.
    if address.is_ipv4() {
        let _ = socket.set_tos_v4(0xc0);
    } else {
        let _ = socket.set_only_v6(true);
    }
    Ok(socket)
}

pub(super) fn set_ttl(socket: &SockRef<'_>, address: IpAddr, ttl: u8) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_ttl_v4(u32::from(ttl))
    } else {
        socket.set_unicast_hops_v6(u32::from(ttl))
    }
}

/// Options of a socket that will dial a peer. They must be there before the first packet.
pub(super) fn set_dialling(socket: &Socket, transport: &Transport) -> io::Result<()> {
    let address = transport.address;
    set_ttl(&SockRef::from(socket), address, transport.ttl)?;
    if let Some(least) = transport.min_ttl {
        sys::set_min_ttl(socket, address.is_ipv4(), least).map_err(io::Error::other)?;
    }
    if let Some(key) = &transport.md5 {
        sys::set_tcp_md5(socket, address, key.reveal().as_bytes()).map_err(io::Error::other)?;
    }
    if let Some(source) = transport.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(())
}

/// TTL of an accepted connection's first packet and the least that its peer may have, where it is below that (RFC 5082).
pub(super) fn came_from_afar(stream: &TcpStream, transport: &Transport) -> Option<(u8, u8)> {
    let least = transport.min_ttl?;
    let ttl = sys::syn_ttl(stream).ok().flatten()?;
    (ttl < least).then_some((ttl, least))
}

/// Options of a connection that stands.
pub(super) fn set_established(stream: &TcpStream, transport: &Transport) -> io::Result<()> {
    // Messages are batched before they get here; waiting for an acknowledgement would only add delay.
    stream.set_nodelay(true)?;
    let address = transport.address;
    set_ttl(&SockRef::from(stream), address, transport.ttl)?;
    if let Some(least) = transport.min_ttl {
        sys::set_min_ttl(stream, address.is_ipv4(), least).map_err(io::Error::other)?;
    }
    Ok(())
}
