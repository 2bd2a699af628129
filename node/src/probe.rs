//! Asking a daemon of this node how it is: its probes over HTTP, bgpd's sessions over its socket. All bounded in time
//! and size.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest answer that is read.
const ANSWER_LEN_MAX: u64 = 4 << 20;

/// Which of a daemon's probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// It works.
    Liveness,
    /// It does its job.
    Readiness,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Liveness => "/liveness",
            Self::Readiness => "/readiness",
        }
    }
}

/// Asks a probe. `Err` says why the answer is no, in one line.
///
/// # Errors
/// When nobody answers in time, or the answer is no.
pub async fn http(address: SocketAddr, probe: Probe, patience: Duration) -> Result<(), String> {
    let answer = timeout(patience, get(address, probe.path())).await;
    match answer {
        Err(_) => Err(format!(
            "{address} does not answer within {} s",
            patience.as_secs_f32()
        )),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(format!("nothing listens on {address}"))
        }
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Ok(Ok((200 | 204, _))) => Ok(()),
        Ok(Ok((_, body))) => Err(reason(&body)),
    }
}

async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))?;
    Ok((status, body.to_owned()))
}

/// The lines of a table of reporters that say no, without its head.
fn reason(body: &str) -> String {
    let bad: Vec<String> = body
        .lines()
        .filter(|line| line.contains("not ready") || line.contains("not live") || line.contains("timed out"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    if bad.is_empty() {
        body.lines().next().unwrap_or("no reason given").trim().to_owned()
    } else {
        bad.join("; ")
    }
}

/// What bgpd says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Speaker {
    /// It waits for its peers' routes after a start.
    #[serde(default)]
    pub restarting: bool,
    /// Its peers.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// A peer of bgpd.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: std::net::IpAddr,
    /// The session's state.
    pub state: String,
    /// Its routes are kept while it restarts.
    #[serde(default)]
    pub routes_stale: bool,
    /// It is only waited for.
    #[serde(default)]
    pub passive: bool,
    /// The last error.
    #[serde(default)]
    pub last_error: Option<String>,
}

impl Peer {
    /// Routes are exchanged, or kept while the peer restarts.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == "Established" || self.routes_stale
    }
}

/// Asks bgpd for its sessions.
///
/// # Errors
/// When it does not answer in time, or not as expected.
pub async fn speaker(socket: &Path, patience: Duration) -> Result<Speaker, String> {
    let answer = ask(socket, "{\"request\":\"status\"}\n", patience).await?;
    serde_json::from_str(&answer).map_err(|error| format!("{}: {error}", socket.display()))
}

/// Sends bgpd a request, and gives its answer.
///
/// # Errors
/// When it does not answer in time, or with an error.
pub async fn ask(socket: &Path, request: &str, patience: Duration) -> Result<String, String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_LEN_MAX))
            .read_line(&mut answer)
            .await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = match timeout(patience, exchange).await {
        Err(_) => return Err(format!("bgpd does not answer on {}", socket.display())),
        Ok(Err(error)) => return Err(format!("bgpd cannot be asked on {}: {error}", socket.display())),
        Ok(Ok(answer)) => answer,
    };
    match serde_json::from_str::<serde_json::Value>(&answer) {
        Ok(value) => match value.get("error").and_then(serde_json::Value::as_str) {
            Some(error) => Err(format!("bgpd: {error}")),
            None => Ok(answer),
        },
        Err(error) => Err(format!("bgpd's answer cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn check(answer: &'static str) -> Result<(), String> {
        http(server(answer).await, Probe::Readiness, Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn a_no_comes_with_the_reporters_that_say_it() {
        assert_eq!(check("HTTP/1.1 200 OK\r\n\r\nfine").await, Ok(()));
        assert_eq!(check("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        let table = "HTTP/1.1 503 Service Unavailable\r\n\r\nCOMPONENT TIMEOUT LIVENESS READINESS DETAIL\n\
                     Loop 90s reporting live reporting ready\nSync   -  reporting live   not ready  0 of 3 kinds\n";
        assert_eq!(
            check(table).await.unwrap_err(),
            "Sync - reporting live not ready 0 of 3 kinds"
        );
        assert!(check("rubbish").await.unwrap_err().contains("not HTTP"));
        assert!(check("").await.unwrap_err().contains("not HTTP"));
    }

    #[tokio::test]
    async fn a_daemon_that_is_away_is_named_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = http(address, Probe::Liveness, Duration::from_millis(50)).await;
        assert!(silent.unwrap_err().contains("does not answer"));
        drop(listener);
        let gone = http(address, Probe::Liveness, Duration::from_secs(20)).await;
        assert_eq!(gone.unwrap_err(), format!("nothing listens on {address}"));
    }

    #[test]
    fn bgpds_status_is_read_as_far_as_it_is_needed() {
        let text = r#"{"localAs":64512,"restarting":false,"peers":[{"name":"tor","address":"10.0.0.1","state":"Active",
            "lastError":"hold timer expired","counters":{}},{"name":"b","address":"::1","state":"Idle","routesStale":true}]}"#;
        let speaker: Speaker = serde_json::from_str(text).unwrap();
        assert!(!speaker.peers[0].is_up() && speaker.peers[1].is_up());
    }
}
