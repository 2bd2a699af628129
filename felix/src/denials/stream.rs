//! The records as a stream of JSON lines on a unix socket: first those that are kept, then each as it comes.
//!
//! A reader that does not keep up loses records, and is told how many; it never holds up the others.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::{JoinHandle, JoinSet};

use super::Kept;

/// Readers at once.
const READERS_MAX: usize = 16;
/// Records that a reader may be behind.
const BEHIND_MAX: usize = 256;
/// A reader that takes nothing for this long is dropped.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<str>>,
}

/// Where records go.
#[derive(Clone, Debug)]
pub struct Stream(Arc<Shared>);

impl Default for Stream {
    fn default() -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            live: broadcast::channel(BEHIND_MAX).0,
        }))
    }
}

impl Stream {
    /// Adds a record.
    pub fn write(&self, line: String) {
        let line: Arc<str> = line.into();
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Arc::clone(&line));
        // Nobody reads: it is kept all the same.
        let _ = self.0.live.send(line);
    }

    fn subscribe(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        // Under the lock, so that no record is given twice or left out.
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.lines(), self.0.live.subscribe())
    }
}

/// A socket that serves readers; its file goes when this value is dropped.
#[derive(Debug)]
#[must_use = "readers are served as long as this value lives"]
pub struct Serving {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves readers on a socket, for root and its group. A file that a dead process left behind is replaced.
///
/// # Errors
/// When the socket cannot be made, or another process serves it.
pub async fn serve(path: &Path, stream: Stream) -> io::Result<Serving> {
    if UnixStream::connect(path).await.is_ok() {
        let text = format!("{} is served by another process", path.display());
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
    Ok(Serving {
        path: path.to_owned(),
        task: tokio::spawn(accept(listener, stream)),
    })
}

async fn accept(listener: UnixListener, stream: Stream) {
    let mut readers = JoinSet::new();
    loop {
        while readers.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((reader, _)) if readers.len() < READERS_MAX => {
                let stream = stream.clone();
                readers.spawn(async move {
                    if let Err(error) = feed(reader, &stream).await {
                        tracing::debug!(error = %error, "reader of denials ended");
                    }
                });
            }
            // One too many: the connection is closed.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = %error, "accepting a reader of denials failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn feed(mut reader: UnixStream, stream: &Stream) -> io::Result<()> {
    let (kept, mut live) = stream.subscribe();
    for line in kept {
        write(&mut reader, &line).await?;
    }
    loop {
        match live.recv().await {
            Ok(line) => write(&mut reader, &line).await?,
            Err(RecvError::Lagged(count)) => {
                let line = serde_json::json!({"lost": count, "reason": "this reader is too slow"});
                write(&mut reader, &line.to_string()).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn write(reader: &mut UnixStream, line: &str) -> io::Result<()> {
    let text = format!("{line}\n");
    tokio::time::timeout(TIMEOUT, reader.write_all(text.as_bytes())).await?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    #[tokio::test]
    async fn a_reader_gets_what_is_kept_and_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denials.sock");
        let stream = Stream::default();
        stream.write("1".to_owned());
        let serving = serve(&path, stream.clone()).await.unwrap();
        assert!(serve(&path, stream.clone()).await.is_err());
        let mut lines = BufReader::new(UnixStream::connect(&path).await.unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("1"));
        stream.write("2".to_owned());
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("2"));
        drop(serving);
        assert!(!path.exists());
    }
}
