//! The supervisor's socket: one JSON request line, one JSON answer line.
//!
//! Owns the wire form on both sides. Only the user who owns the socket's directory can reach it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::error::{Error, Result};
use crate::process::Report;
use crate::state::Layout;

/// Longest request and answer in bytes.
const LINE_LEN_MAX: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    /// What runs?
    Status,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// `starting` or `up`.
    pub state: String,
    /// The supervisor's process id.
    pub pid: u32,
    /// Every program it keeps running.
    pub components: Vec<Report>,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Running(Running),
    Error { error: String },
}

/// Answers until it is dropped.
pub async fn serve(listener: UnixListener, running: impl Fn() -> Running) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = tokio::time::timeout(PATIENCE, answer(stream, &running)).await;
                if let Ok(Err(error)) = served {
                    tracing::debug!(%error, "a client of the control socket went away");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: tokio::net::UnixStream, running: &impl Fn() -> Running) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_LEN_MAX))
        .read_line(&mut line)
        .await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Status) => Answer::Running(running()),
        Err(error) => Answer::Error {
            error: format!("request: {error}; send {{\"request\":\"status\"}} and a line end"),
        },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks the supervisor of a lab; `None` when there is none.
///
/// # Errors
/// It is there, but does not answer as it should.
pub fn status(layout: &Layout) -> Result<Option<Running>> {
    let path = layout.control_socket();
    let Ok(stream) = UnixStream::connect(&path) else {
        return Ok(None);
    };
    let failed = |e| Error::io(format!("ask the supervisor at {}", path.display()), e);
    let text = match ask(stream) {
        // It ended while it was asked.
        Ok(text) if text.is_empty() => return Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return Ok(None),
        other => other.map_err(failed)?,
    };
    match serde_json::from_str(&text) {
        Ok(Answer::Running(running)) => Ok(Some(running)),
        Ok(Answer::Error { error }) => Err(Error::refused(format!("the supervisor refuses: {error}"))),
        Err(error) => Err(failed(error.into())),
    }
}

fn ask(mut stream: UnixStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = serde_json::to_vec(&Request::Status)?;
    request.push(b'\n');
    stream.write_all(&request)?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_LEN_MAX)).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        Running {
            state: "up".to_owned(),
            pid: 7,
            components: vec![Report {
                name: "node-1/felix".to_owned(),
                state: "running".to_owned(),
                pid: Some(12),
                restarts: 0,
                last_exit: None,
                log: "/x".into(),
            }],
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn status_is_answered_and_nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        assert_eq!(status(&layout).unwrap(), None, "nobody listens");
        let listener = UnixListener::bind(layout.control_socket()).unwrap();
        let server = tokio::spawn(serve(listener, running));
        assert_eq!(status(&layout).unwrap(), Some(running()));

        let mut stream = UnixStream::connect(layout.control_socket()).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"error\"") && text.contains("status"), "{text}");
        assert!(status(&layout).unwrap().is_some(), "the next one is answered");
        server.abort();
    }

    #[test]
    fn a_supervisor_that_ends_while_it_is_asked_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(layout.control_socket()).unwrap();
        let ending = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert_eq!(status(&layout).unwrap(), None);
        ending.join().unwrap();
    }
}
