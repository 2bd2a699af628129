//! The control socket: one JSON request a line, one JSON answer a line, on a unix socket.
//!
//! `{"request":"status"}` answers the speaker's status; `{"request":"routes","query":{"table":"locRib"}}` a list of
//! routes; `{"request":"config"}` the configuration in use (passwords hidden); `{"request":"problems"}` what could not
//! be used of the resources; `{"request":"whyNot","prefix":"10.0.0.0/24","peer":"tor"}` why the peer does not get the
//! prefix; `{"request":"drain","on":true}` tells peers to go other ways; `{"request":"mrt","file":"/tmp/rib.mrt"}` writes
//! an MRT file. Errors are `{"error":"..."}`. Everything about a client is bounded.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use caracal_bgpd_core::snapshot::RouteQuery;
use ipnet::IpNet;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Clients at once.
const CLIENTS_MAX: usize = 16;
/// Longest request line.
const REQUEST_LEN_MAX: u64 = 64 * 1024;
/// A client that neither asks nor takes its answer within this time is dropped.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Questions waiting for the owner.
const QUESTIONS_MAX: usize = 16;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// The speaker's status.
    Status,
    /// Routes of a table.
    Routes {
        /// Which.
        query: RouteQuery,
    },
    /// Writes an MRT file of what peers have sent (RFC 6396), and answers with the number of prefixes.
    Mrt {
        /// Its path.
        file: PathBuf,
    },
    /// The configuration in use.
    Config,
    /// What could not be used of the resources.
    Problems,
    /// Why a peer does not get a prefix.
    WhyNot {
        /// The prefix.
        prefix: IpNet,
        /// The peer's name.
        peer: String,
    },
    /// Tell peers that this speaker is about to go (RFC 8326), or that it is not. It holds until the process ends.
    Drain {
        /// Which of the two.
        on: bool,
    },
}

/// A request with the way back for its answer, which is a line of JSON.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<String>,
}

/// A running control socket; its file goes when this value is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

/// Listens. A socket that a dead process left behind is replaced; one that answers is not.
///
/// # Errors
/// When the socket cannot be made, or another process serves it.
pub async fn serve(path: &Path) -> io::Result<(Control, mpsc::Receiver<Question>)> {
    if UnixStream::connect(path).await.is_ok() {
        let text = format!(
            "{} is served by another process: end it, or use --control",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let (questions, receiver) = mpsc::channel(QUESTIONS_MAX);
    let control = Control {
        path: path.to_owned(),
        task: tokio::spawn(accept(listener, questions)),
    };
    Ok((control, receiver))
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The answer to a request that cannot be served.
#[must_use]
pub fn error(text: impl Into<String>) -> String {
    serde_json::json!({ "error": text.into() }).to_string()
}

async fn accept(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let questions = questions.clone();
                clients.spawn(async move {
                    let _slot = slot;
                    if let Err(error) = client(stream, questions).await {
                        tracing::debug!(error = %error, "control client ended");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(error = %error, "accepting a control client failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(stream: UnixStream, questions: mpsc::Sender<Question>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut read).take(REQUEST_LEN_MAX);
        let count = tokio::time::timeout(TIMEOUT, bounded.read_until(b'\n', &mut line)).await??;
        if count == 0 {
            return Ok(());
        }
        let is_whole =
            line.last() == Some(&b'\n') || line.len() < usize::try_from(REQUEST_LEN_MAX).unwrap_or(0);
        let mut answer = if is_whole {
            ask(&line, &questions).await
        } else {
            error("the request is too long; use one line of at most 64 KiB")
        };
        answer.push('\n');
        tokio::time::timeout(TIMEOUT, write.write_all(answer.as_bytes())).await??;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn ask(line: &[u8], questions: &mpsc::Sender<Question>) -> String {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(problem) => {
            return error(format!(
                "{problem}; use {{\"request\":\"status\"}}, \"config\", \"problems\", \"mrt\" with a file, \"routes\" with \
                 a query, \"whyNot\" with prefix and peer, or \"drain\" with on"
            ));
        }
    };
    let (answer, receiver) = oneshot::channel();
    if questions.send(Question { request, answer }).await.is_err() {
        return error("the speaker is ending");
    }
    receiver.await.unwrap_or_else(|_| error("the speaker is ending"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#"{"request":"status"}"#).unwrap(), Request::Status);
        assert_eq!(
            read(r#"{"request":"routes","query":{"table":"adjRibIn","peer":"tor"}}"#).unwrap(),
            Request::Routes {
                query: RouteQuery::AdjRibIn {
                    peer: "tor".to_owned()
                }
            }
        );
        for bad in [
            "",
            "{}",
            r#"{"request":"reboot"}"#,
            r#"{"request":"routes"}"#,
            r#"{"request":"routes","query":{"table":"x"}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
