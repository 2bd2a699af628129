//! The server a pod without a command runs, and which probes start where nothing listens: it says its name.
//!
//! TCP: an HTTP request gets an HTTP answer, anything else (or silence) the name, a line end and a close.
//! UDP: each datagram gets the name back, from the address that was asked; a server with several addresses that
//! answered from another would make nonsense of connection tracking.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// How long a silent client is waited for before the name is said unasked.
const SILENCE: Duration = Duration::from_millis(200);
/// Longest request that is read before answering.
const REQUEST_LEN_MAX: usize = 4096;

/// A transport protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A bound server that does not answer yet.
#[derive(Debug)]
pub struct Bound {
    name: Arc<str>,
    socket: Socket,
    transport: Transport,
}

/// Binds a server in the calling thread's network namespace.
///
/// The unspecified IPv6 address listens for both families.
///
/// # Errors
/// The address or port is taken, or not of this machine.
pub fn bind(name: &str, transport: Transport, address: SocketAddr) -> io::Result<Bound> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    match transport {
        // Connections of an earlier server that wind down do not count as taking the port.
        Transport::Tcp => socket.set_reuse_address(true)?,
        Transport::Udp => {
            if address.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
    }
    socket.bind(&address.into())?;
    if transport == Transport::Tcp {
        socket.listen(1024)?;
    }
    Ok(Bound {
        name: name.into(),
        socket,
        transport,
    })
}

impl Bound {
    /// The address it is bound to.
    ///
    /// # Errors
    /// The socket has none.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("no internet address"))
    }

    /// Answers on a thread of its own for as long as the process lives or until the handle is dropped.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn serve(self) -> io::Result<Running> {
        let Self {
            name,
            socket,
            transport,
        } = self;
        let handle = socket.try_clone()?;
        thread::Builder::new()
            .name("pod-server".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || match transport {
                Transport::Tcp => serve_tcp(&name, &socket.into()),
                Transport::Udp => serve_udp(&name, &socket),
            })?;
        Ok(Running { socket: handle })
    }
}

/// A server at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    socket: Socket,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Wakes the serving thread out of accept or recvmsg; it then sees the error and leaves.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn serve_tcp(name: &Arc<str>, listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let name = Arc::clone(name);
                let answer = move || {
                    let _ = answer_tcp(&name, stream);
                };
                // Without a thread to spare the connection is dropped, as an overloaded server would.
                let _ = thread::Builder::new().stack_size(64 * 1024).spawn(answer);
            }
            Err(error) if is_passing(&error) => thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

/// Errors of accept that concern one connection or a shortage, not the listening socket.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EPROTO)
    )
}

fn answer_tcp(name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let request = read_request(&mut stream);
    stream.write_all(&tcp_answer(name, &request))?;
    stream.shutdown(Shutdown::Write)?;
    // Unread input at close would make the kernel send a reset, which may overtake the answer.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        match stream.read(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}

fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    while request.len() < REQUEST_LEN_MAX {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => request.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
        let http = is_http(&request);
        if (http && request.windows(4).any(|w| w == b"\r\n\r\n")) || (!http && request.contains(&b'\n')) {
            break;
        }
    }
    request
}

fn is_http(request: &[u8]) -> bool {
    let line = request
        .split(|&b| b == b'\r' || b == b'\n')
        .next()
        .unwrap_or_default();
    let methods: [&[u8]; 7] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
    ];
    methods.iter().any(|method| line.starts_with(method)) && line.windows(6).any(|w| w == b" HTTP/")
}

fn tcp_answer(name: &str, request: &[u8]) -> Vec<u8> {
    let body = format!("{name}\n");
    if !is_http(request) {
        return body.into_bytes();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if request.starts_with(b"HEAD ") {
        head.into_bytes()
    } else {
        format!("{head}{body}").into_bytes()
    }
}

fn serve_udp(name: &str, socket: &Socket) {
    let answer = format!("{name}\n");
    loop {
        match receive(socket) {
            Ok(Some((peer, asked))) => {
                let _ = reply(socket, answer.as_bytes(), &peer, asked);
            }
            Ok(None) => return,
            // An ICMP error about an earlier answer is reported once, and is not ours to care for.
            Err(error) if error == nix::Error::EINTR || error == nix::Error::ECONNREFUSED => {}
            Err(_) => return,
        }
    }
}

/// Waits for a datagram: who sent it and which of our addresses was asked. `None` when the socket was shut down.
fn receive(socket: &Socket) -> nix::Result<Option<(SockaddrStorage, Option<IpAddr>)>> {
    let mut buffer = [0; 2048];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let Some(peer) = message.address else {
        return Ok(None);
    };
    if peer.as_sockaddr_in().is_none() && peer.as_sockaddr_in6().is_none() {
        return Ok(None);
    }
    let asked = message.cmsgs()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(u32::from_be(info.ipi_addr.s_addr).to_be_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    Ok(Some((peer, asked)))
}

fn reply(socket: &Socket, answer: &[u8], peer: &SockaddrStorage, from: Option<IpAddr>) -> nix::Result<usize> {
    let slices = [IoSlice::new(answer)];
    let fd = socket.as_fd().as_raw_fd();
    let send = |control: &[ControlMessage<'_>]| sendmsg(fd, &slices, control, MsgFlags::empty(), Some(peer));
    match from {
        Some(IpAddr::V4(address)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send(&[ControlMessage::Ipv4PacketInfo(&info)])
        }
        Some(IpAddr::V6(address)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: 0,
            };
            send(&[ControlMessage::Ipv6PacketInfo(&info)])
        }
        None => send(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn start(transport: Transport, address: &str) -> (SocketAddr, Running) {
        let bound = bind("web-0", transport, address.parse().unwrap()).unwrap();
        let address = bound.local_address().unwrap();
        (address, bound.serve().unwrap())
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn tcp_says_its_name_and_closes() {
        let (address, _running) = start(Transport::Tcp, "127.0.0.1:0");
        assert_eq!(ask(address, b"hello\n"), "web-0\n");
        assert_eq!(ask(address, b""), "web-0\n");
    }

    #[test]
    fn http_requests_get_http_answers() {
        let (address, _running) = start(Transport::Tcp, "127.0.0.1:0");
        let answer = ask(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nweb-0\n"), "{answer}");
        assert!(!ask(address, b"HEAD / HTTP/1.1\r\n\r\n").contains("web-0"));
    }

    #[test]
    fn udp_answers_from_the_address_that_was_asked() {
        let (address, _running) = start(Transport::Udp, "[::]:0");
        for target in ["127.0.0.1", "127.0.0.77", "::1"] {
            let target: IpAddr = target.parse().unwrap();
            let client = UdpSocket::bind(if target.is_ipv4() {
                "127.0.0.1:0"
            } else {
                "[::1]:0"
            })
            .unwrap();
            client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            // A connected socket only takes answers from the address it asked.
            client.connect((target, address.port())).unwrap();
            client.send(b"?").unwrap();
            let mut buffer = [0; 64];
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"web-0\n", "{target}");
        }
    }

    #[test]
    fn a_dropped_server_frees_its_port() {
        let (address, running) = start(Transport::Tcp, "127.0.0.1:0");
        drop(running);
        thread::sleep(Duration::from_millis(50));
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_err());
    }
}
