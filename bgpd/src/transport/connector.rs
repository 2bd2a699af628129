//! Dialling a peer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::output::Transport;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Event;
use super::options::{set_dialling, stream_socket};

/// A peer that does not answer within this time counts as away. A wrong MD5 key looks the same: nothing comes back.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Dials in a task of its own, which reports how it went.
pub(super) fn dial(
    conn: ConnId,
    port: u16,
    transport: Transport,
    events: mpsc::Sender<Event>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let peer = SocketAddr::new(transport.address, port);
        let result = tokio::time::timeout(TIMEOUT, connect(peer, &transport)).await;
        let event = match result {
            Ok(Ok(stream)) => Event::Dialled {
                conn,
                stream,
                transport: Box::new(transport),
            },
            Ok(Err(error)) => Event::DialFailed {
                conn,
                reason: reason(peer, &transport, &error),
            },
            Err(_) => Event::DialFailed {
                conn,
                reason: format!(
                    "connect to {peer}: no answer within {TIMEOUT:?}{}",
                    md5_hint(&transport)
                ),
            },
        };
        // The owner is gone: so is the reason to dial.
        let _ = events.send(event).await;
    })
}

async fn connect(peer: SocketAddr, transport: &Transport) -> io::Result<TcpStream> {
    let socket = stream_socket(peer.ip())?;
    set_dialling(&socket, transport)?;
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

fn reason(peer: SocketAddr, transport: &Transport, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; does the peer's speaker run, and listen on this port?",
        io::ErrorKind::AddrNotAvailable => "; the source address is not on this host",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "; there is no route to the peer"
        }
        io::ErrorKind::TimedOut => md5_hint(transport),
        _ => "",
    };
    format!("connect to {peer}: {error}{hint}")
}

fn md5_hint(transport: &Transport) -> &'static str {
    if transport.md5.is_some() {
        "; is the peer up, and does it have the same password?"
    } else {
        "; is the peer up, and does it expect a password?"
    }
}
