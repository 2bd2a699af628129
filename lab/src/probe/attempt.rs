//! One probe on the wire: what is sent, how long is waited, and what an error of the kernel means.
//!
//! TCP: a connection, and a second one a moment later because one lost packet must not look like a policy. UDP:
//! datagrams until one is answered. Source: RFC 9293 §3.10.7.3, RFC 1122 §3.2.2.1, `ip(7)` (IP_RECVERR).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use caracal_linux::netns::NetNs;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};

use super::Outcome;
use crate::error::{Error, Result};
use crate::pod_server::Transport;

/// What does not answer within this time is dropped.
const PATIENCE: Duration = Duration::from_secs(1);
/// When TCP tries a second time.
const SECOND: Duration = Duration::from_millis(350);
/// How often UDP sends.
const RESEND: Duration = Duration::from_millis(250);
/// How long a server may take to say its name.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
const ANSWER_LEN_MAX: u64 = 4096;
/// Works with HTTP servers and with servers that speak first or at any request.
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n";

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived and was answered.
    Allowed,
    /// Nothing came back.
    Dropped,
    /// A reset or an ICMP error came back.
    Refused,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
        }
    }

    /// As the program's exit status.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Dropped => 1,
            Self::Refused => 2,
        }
    }
}

/// Where a probe starts.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) network: Arc<NetNs>,
    /// The address it is sent from; the kernel's choice when absent.
    pub(super) address: Option<IpAddr>,
}

/// How many probes are made at the same time: each has two sockets.
pub(super) fn at_once() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max open files")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(1024_usize);
    (files.saturating_sub(256) / 3).clamp(16, 512)
}

/// Makes one probe.
///
/// # Errors
/// It could not be made.
pub(super) async fn probe(source: &Source, to: IpAddr, transport: Transport, port: u16) -> Result<Outcome> {
    let to = SocketAddr::new(to, port);
    match transport {
        Transport::Tcp => tcp(source, to).await,
        Transport::Udp => udp(source, to).await,
    }
}

async fn tcp(source: &Source, to: SocketAddr) -> Result<Outcome> {
    let deadline = Instant::now() + PATIENCE;
    let first = connect(source, to);
    let second = async {
        sleep(SECOND).await;
        connect(source, to).await
    };
    tokio::pin!(first, second);
    let decided = async {
        // The first that says something decides; one that ends without a word leaves it to the other.
        let (result, first_done) = tokio::select! {
            result = &mut first => (result, true),
            result = &mut second => (result, false),
        };
        match result {
            Err(Silence::Dropped) if first_done => second.await,
            Err(Silence::Dropped) => first.await,
            other => other,
        }
    };
    match timeout_at(deadline, decided).await {
        Ok(Ok(Some(stream))) => Ok(Outcome {
            verdict: Verdict::Allowed,
            server: ask_name(stream).await,
        }),
        Ok(Ok(None)) => Ok(without_answer(Verdict::Refused)),
        Err(_) | Ok(Err(Silence::Dropped)) => Ok(without_answer(Verdict::Dropped)),
        Ok(Err(Silence::NotMade(error))) => Err(error),
    }
}

/// Why a packet said nothing.
enum Silence {
    /// It was thrown away on the way out.
    Dropped,
    /// It could not be sent.
    NotMade(Error),
}

/// A connection, or `None` when it is refused.
async fn connect(source: &Source, to: SocketAddr) -> Result<Option<TcpStream>, Silence> {
    let not_made = |e| Silence::NotMade(Error::io(format!("connect to {to}"), e));
    let socket = open(source, to, Transport::Tcp).map_err(Silence::NotMade)?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return judge(e, to),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into()).map_err(not_made)?;
    stream.writable().await.map_err(not_made)?;
    match stream.take_error().map_err(not_made)? {
        None => Ok(Some(stream)),
        Some(error) => judge(error, to),
    }
}

/// What an error says about the way: refused (`None`), dropped, or nothing.
fn judge(error: io::Error, to: SocketAddr) -> Result<Option<TcpStream>, Silence> {
    match meaning(&error) {
        Some(Verdict::Refused) => Ok(None),
        Some(_) => Err(Silence::Dropped),
        None => Err(Silence::NotMade(Error::io(format!("send to {to}"), error))),
    }
}

fn meaning(error: &io::Error) -> Option<Verdict> {
    match error.raw_os_error()? {
        // A reset, and the errors that ICMP's kinds of "unreachable" become (net/ipv4/icmp.c, icmp_err_convert). A
        // route of type "unreachable" or "prohibit" on the way out gives the same.
        libc::ECONNREFUSED
        | libc::ECONNRESET
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::ENONET
        | libc::ENOPROTOOPT
        | libc::EACCES => Some(Verdict::Refused),
        // A rule that drops on the way out, and a route of type "blackhole".
        libc::EPERM | libc::EINVAL | libc::ETIMEDOUT => Some(Verdict::Dropped),
        _ => None,
    }
}

async fn udp(source: &Source, to: SocketAddr) -> Result<Outcome> {
    let failed = |e| Error::io(format!("send to {to}"), e);
    let socket = open(source, to, Transport::Udp)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) => return meaning(&error).map(without_answer).ok_or_else(|| failed(error)),
    }
    let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    let mut beat = interval(RESEND);
    let mut answer = vec![0; 2048];
    loop {
        let result = tokio::select! {
            result = socket.recv(&mut answer) => result.map(Some),
            _ = beat.tick() => match socket.send(b"probe\n").await {
                Err(error) => Err(error),
                Ok(_) => Ok(None),
            },
            () = tokio::time::sleep_until(deadline) => return Ok(without_answer(Verdict::Dropped)),
        };
        match result {
            Ok(None) => {}
            Ok(Some(len)) => {
                return Ok(Outcome {
                    verdict: Verdict::Allowed,
                    server: name_in(answer.get(..len).unwrap_or_default()),
                });
            }
            Err(error) => match meaning(&error) {
                Some(Verdict::Refused) => return Ok(without_answer(Verdict::Refused)),
                // A full queue or a dropping rule: a later datagram may pass.
                Some(_) => {}
                None if error.kind() == io::ErrorKind::WouldBlock => {}
                None if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                None => return Err(failed(error)),
            },
        }
    }
}

const fn without_answer(verdict: Verdict) -> Outcome {
    Outcome {
        verdict,
        server: None,
    }
}

/// A socket of the source's network, bound to the source's address.
fn open(source: &Source, to: SocketAddr, transport: Transport) -> Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), kind.nonblocking(), Some(protocol))?;
        if transport == Transport::Udp {
            // Without it the kernel keeps to itself the ICMP errors that it takes for passing ones.
            if to.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            }
        }
        if let Some(address) = source.address {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        Ok(socket)
    };
    let from = source.address.unwrap_or(match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    source
        .network
        .run(make)
        .map_err(|e| Error::kernel("enter the source's network", e))?
        .map_err(|e| Error::io(format!("open a socket from {from} to {to}"), e))
}

/// What the server at the other end calls itself, if it says something that can be a name.
async fn ask_name(mut stream: TcpStream) -> Option<String> {
    let mut answer = Vec::new();
    let exchange = async {
        // A server that speaks first and closes may not read: its answer counts all the same.
        let _ = stream.write_all(REQUEST).await;
        let mut limited = (&mut stream).take(ANSWER_LEN_MAX);
        let _ = limited.read_to_end(&mut answer).await;
    };
    // What arrived before the time was up counts.
    let _ = timeout(NAME_PATIENCE, exchange).await;
    name_in(&answer)
}

fn name_in(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let body = if text.starts_with("HTTP/") {
        text.split_once("\r\n\r\n")?.1
    } else {
        text
    };
    let name = body.lines().next()?.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '/');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(allowed)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_plain_and_http_answers() {
        for (answer, name) in [
            ("web-0\n", Some("web-0")),
            ("HTTP/1.1 200 OK\r\nX: y\r\n\r\nweb-0\n", Some("web-0")),
            ("HTTP/1.1 200 OK\r\n", None),
            ("<html>hello</html>", None),
            ("", None),
            ("hello there\n", None),
        ] {
            assert_eq!(name_in(answer.as_bytes()).as_deref(), name, "{answer:?}");
        }
        assert_eq!(name_in(&[0xff, 0xfe]), None);
    }

    #[test]
    fn errors_of_the_kernel_are_told_apart() {
        let verdict = |code| meaning(&io::Error::from_raw_os_error(code));
        assert_eq!(verdict(libc::ECONNREFUSED), Some(Verdict::Refused));
        assert_eq!(verdict(libc::EHOSTUNREACH), Some(Verdict::Refused));
        assert_eq!(verdict(libc::EPERM), Some(Verdict::Dropped));
        assert_eq!(verdict(libc::EADDRNOTAVAIL), None);
        assert_eq!(verdict(libc::EMFILE), None);
    }
}
