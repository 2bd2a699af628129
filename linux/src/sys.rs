//! Socket options that no safe interface has (TCP-MD5 keys, the least TTL to accept, the TTL of a connection's first
//! packet), tun devices, and owning received descriptors.
//!
//! The only unsafe code of the project: calls of `setsockopt(2)`, `getsockopt(2)` and `ioctl(2)` with plain data of known
//! size, and taking ownership of a descriptor that `recvmsg(2)` has just made. Sources: `linux/tcp.h` (TCP_MD5SIG_EXT),
//! `ip(7)` (IP_MINTTL), `ipv6(7)` (IPV6_MINHOPCOUNT), `linux/if_tun.h`.
#![expect(
    unsafe_code,
    reason = "setsockopt and ioctl with structures that the safe wrappers do not know; descriptors received as numbers"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;

use ipnet::IpNet;

use crate::{Error, Result};

/// Longest TCP-MD5 key (TCP_MD5SIG_MAXKEYLEN).
pub const MD5_KEY_LEN_MAX: usize = 80;

/// The storage of a socket address, as the kernel lays it out.
const SOCKADDR_STORAGE_LEN: usize = 128;

/// `linux/tcp.h`; not in every version of libc's bindings.
const TCP_MD5SIG_EXT: i32 = 32;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const MD5_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig`.
#[repr(C)]
struct TcpMd5Sig {
    address: [u8; SOCKADDR_STORAGE_LEN],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: i32,
    key: [u8; MD5_KEY_LEN_MAX],
}

/// Sets the TCP-MD5 key (RFC 2385) for segments from and to a peer, or removes it with an empty key. On a listener it
/// applies to the connections accepted later.
///
/// # Errors
/// `Invalid` for a key that is too long; `is_not_found` when there was no key to remove; `is_unsupported` in a kernel
/// without TCP-MD5.
pub fn set_tcp_md5<F: AsFd>(socket: &F, peer: IpAddr, key: &[u8]) -> Result<()> {
    set_md5(socket, peer, None, key)
}

/// Does the same for all peers of a network; a key for one of them alone goes before it.
///
/// # Errors
/// As [`set_tcp_md5`].
pub fn set_tcp_md5_of_network<F: AsFd>(socket: &F, network: IpNet, key: &[u8]) -> Result<()> {
    set_md5(socket, network.network(), Some(network.prefix_len()), key)
}

fn set_md5<F: AsFd>(socket: &F, peer: IpAddr, prefix_len: Option<u8>, key: &[u8]) -> Result<()> {
    let what = || format!("set the TCP-MD5 key for {peer}");
    if key.len() > MD5_KEY_LEN_MAX {
        return Err(Error::invalid(
            what(),
            format!("a key has at most {MD5_KEY_LEN_MAX} octets"),
        ));
    }
    let mut request = TcpMd5Sig {
        address: sockaddr(peer),
        flags: prefix_len.map_or(0, |_| MD5_FLAG_PREFIX),
        prefix_len: prefix_len.unwrap_or_default(),
        key_len: u16::try_from(key.len()).unwrap_or_default(),
        ifindex: 0,
        key: [0; MD5_KEY_LEN_MAX],
    };
    for (octet, value) in request.key.iter_mut().zip(key) {
        *octet = *value;
    }
    let option = prefix_len.map_or(libc::TCP_MD5SIG, |_| TCP_MD5SIG_EXT);
    set(socket, libc::IPPROTO_TCP, option, &request).map_err(|error| Error::io(what(), error))
}

/// Drops received packets whose TTL or hop limit is below `least` (RFC 5082); 0 drops none.
///
/// # Errors
/// When the kernel refuses.
pub fn set_min_ttl<F: AsFd>(socket: &F, is_ipv4: bool, least: u8) -> Result<()> {
    let (level, option) = if is_ipv4 {
        (libc::IPPROTO_IP, libc::IP_MINTTL)
    } else {
        (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT)
    };
    set(socket, level, option, &i32::from(least))
        .map_err(|error| Error::io(format!("set the least TTL to accept to {least}"), error))
}

/// Keeps the first packet of every connection that this listener accepts from now on, for [`syn_ttl`].
///
/// # Errors
/// When the kernel refuses.
pub fn save_syn<F: AsFd>(listener: &F) -> Result<()> {
    set(listener, libc::IPPROTO_TCP, TCP_SAVE_SYN, &1_i32)
        .map_err(|error| Error::io("keep the first packets of connections", error))
}

/// TTL or hop limit that the first packet of an accepted connection came with; `None` when its listener did not keep
/// it. It is asked once: the kernel forgets the packet with the answer.
///
/// # Errors
/// When the kernel refuses.
pub fn syn_ttl<F: AsFd>(stream: &F) -> Result<Option<u8>> {
    // An IPv6 header takes 40 octets, and what is asked for is in the first ten.
    let mut packet = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(packet.len()).unwrap_or_default();
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `length` octets into `packet`,
    // which is as long, and the new length into `length`. Both live until the call is over.
    let code = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVED_SYN,
            packet.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if code != 0 {
        let error = io::Error::last_os_error();
        return Err(Error::io("look at the first packet of a connection", error));
    }
    let packet = usize::try_from(length)
        .ok()
        .and_then(|length| packet.get(..length));
    Ok(packet.and_then(ttl_of))
}

/// TTL or hop limit of an IP packet.
fn ttl_of(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => packet.get(8).copied(),
        6 => packet.get(7).copied(),
        _ => None,
    }
}

/// `linux/tcp.h`.
const TCP_SAVE_SYN: i32 = 27;
/// `linux/tcp.h`.
const TCP_SAVED_SYN: i32 = 28;

/// `linux/in6.h`; not in every version of libc's bindings.
const IPV6_MINHOPCOUNT: i32 = 73;

/// A `sockaddr_in` or `sockaddr_in6` without a port, in storage of the full size.
fn sockaddr(address: IpAddr) -> [u8; SOCKADDR_STORAGE_LEN] {
    let (family, offset) = match address {
        IpAddr::V4(_) => (libc::AF_INET, 4),
        // Behind family, port and flow information.
        IpAddr::V6(_) => (libc::AF_INET6, 8),
    };
    let mut storage = [0; SOCKADDR_STORAGE_LEN];
    let family = u16::try_from(family).unwrap_or_default().to_ne_bytes();
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    for (place, value) in storage.iter_mut().zip(family) {
        *place = value;
    }
    for (place, value) in storage.iter_mut().skip(offset).zip(octets) {
        *place = value;
    }
    storage
}

fn set<F: AsFd, T>(socket: &F, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while it is borrowed, and the pointer and length are those of `value`, a live
    // plain value that the kernel only reads.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct ifreq` as TUNSETIFF reads it: a name, flags, and room.
#[repr(C)]
struct TunRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// TUNSETIFF of `linux/if_tun.h`.
const TUN_SET_INTERFACE: libc::Ioctl = 0x4004_54ca;
/// IFF_TUN and IFF_NO_PI: whole IP packets and nothing before them.
const TUN_FLAGS: u16 = 0x1001;

/// Makes a device in the calling thread's namespace whose other end is the returned file: each write is one IP packet
/// that comes in by the device, each read one that left by it, and none waiting is `WouldBlock`. It lives as long as the
/// file.
///
/// # Errors
/// `Invalid` for a name that no device can have; `is_exists` or `is_busy` when the name is taken; `is_not_found` in a
/// kernel without such devices.
pub fn open_tun(name: &str) -> Result<File> {
    let what = || format!("make the tun device {name}");
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(Error::invalid(what(), "a name has 1 to 15 bytes"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options
        .open("/dev/net/tun")
        .map_err(|error| Error::io(what(), error))?;
    let mut request = TunRequest {
        name: [0; libc::IFNAMSIZ],
        flags: TUN_FLAGS,
        rest: [0; 22],
    };
    for (place, byte) in request.name.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads and writes one `struct ifreq`, which
    // `request` is in size and layout.
    let code = unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            TUN_SET_INTERFACE,
            std::ptr::from_mut(&mut request),
        )
    };
    if code == 0 {
        Ok(file)
    } else {
        Err(Error::io(what(), io::Error::last_os_error()))
    }
}

/// Owns a descriptor that the kernel has just put into this process by SCM_RIGHTS. Nobody else may have seen it.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) made this descriptor for this process, and its only other copy is the number in the control
    // message that the caller is reading.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<TcpMd5Sig>(), 216);
        assert_eq!(size_of::<TunRequest>(), 40);
    }

    #[test]
    fn the_ttl_of_a_connections_first_packet_is_known() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            save_syn(&listener).unwrap();
            let to = listener.local_addr().unwrap();
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
            if to.is_ipv4() {
                socket.set_ttl_v4(77).unwrap();
            } else {
                socket.set_unicast_hops_v6(77).unwrap();
            }
            socket.connect(&to.into()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(syn_ttl(&stream).unwrap(), Some(77));
            assert_eq!(syn_ttl(&stream).unwrap(), None);
        }
    }

    #[test]
    fn keys_are_set_changed_and_removed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        match set_tcp_md5(&listener, peer, b"secret") {
            Err(error) if error.is_unsupported() || error.errno() == Some(libc::ENOPROTOOPT) => {
                println!("skipped: this kernel has no TCP-MD5");
                return;
            }
            other => other.unwrap(),
        }
        set_tcp_md5(&listener, peer, b"another").unwrap();
        let network = IpNet::new(peer, 24).unwrap().trunc();
        set_tcp_md5_of_network(&listener, network, b"all").unwrap();
        set_tcp_md5_of_network(&listener, network, b"").unwrap();
        set_tcp_md5(&listener, peer, b"").unwrap();
        assert!(set_tcp_md5(&listener, peer, b"").unwrap_err().is_not_found());
        assert!(set_tcp_md5(&listener, peer, &[b'x'; 81]).is_err());
        set_min_ttl(&listener, true, 255).unwrap();
    }
}
