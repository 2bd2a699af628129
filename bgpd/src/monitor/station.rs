//! The connection to a BMP station: dialled, kept, dialled again (RFC 7854 §3.2).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bmp;

/// Octets waiting for the station. One that is farther behind is left and begins anew.
const QUEUE_LEN_MAX: usize = 256 * 1024 * 1024;
/// Pauses between attempts.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The owner's end.
#[derive(Debug)]
pub struct Station {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Bytes>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// It has been reached and has not been told anything yet.
    is_new: AtomicBool,
    is_up: AtomicBool,
    queued: AtomicUsize,
}

impl Station {
    /// Begins to dial.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        // Bounded by octets, which a channel cannot count.
        let (queue, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(keep(address, Arc::clone(&shared), receiver));
        Self { shared, queue, task }
    }

    /// Whether it has just been reached, once for each time: it is to be told all that there is.
    pub(super) fn is_new(&self) -> bool {
        self.shared.is_new.swap(false, Ordering::Relaxed)
    }

    pub(super) fn send(&mut self, message: Bytes) {
        if !self.shared.is_up.load(Ordering::Relaxed) || self.shared.is_new.load(Ordering::Relaxed) {
            return;
        }
        let queued = self.shared.queued.fetch_add(message.len(), Ordering::Relaxed);
        if queued > QUEUE_LEN_MAX {
            // The task sees it, leaves the station and begins anew.
            self.shared.is_up.store(false, Ordering::Relaxed);
            tracing::warn!(octets = queued, "the BMP station does not read, it is left");
        }
        let _ = self.queue.send(message);
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(address: SocketAddr, shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Bytes>) {
    let mut pause = RETRY_MIN;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tracing::info!(station = %address, "BMP station reached");
                pause = RETRY_MIN;
                while queue.try_recv().is_ok() {}
                shared.queued.store(0, Ordering::Relaxed);
                shared.is_new.store(true, Ordering::Relaxed);
                shared.is_up.store(true, Ordering::Relaxed);
                let reason = serve(stream, &shared, &mut queue).await;
                shared.is_up.store(false, Ordering::Relaxed);
                match reason {
                    Some(error) => tracing::warn!(station = %address, error = %error, "BMP station lost"),
                    None => return,
                }
            }
            Err(error) => tracing::debug!(station = %address, error = %error, "BMP station not reached"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Writes until the station is lost; `None` when the owner is gone.
async fn serve(
    mut stream: TcpStream,
    shared: &Shared,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
) -> Option<std::io::Error> {
    loop {
        // A station says nothing; what can be read is its end.
        tokio::select! {
            message = queue.recv() => {
                let Some(message) = message else {
                    let _ = stream.write_all(&bmp::termination()).await;
                    return None;
                };
                if let Err(error) = stream.write_all(&message).await {
                    return Some(error);
                }
                shared.queued.fetch_sub(message.len(), Ordering::Relaxed);
                if !shared.is_up.load(Ordering::Relaxed) {
                    return Some(std::io::Error::other("it is too far behind"));
                }
            }
            ended = stream.readable() => {
                let mut octet = [0; 16];
                match ended.and_then(|()| stream.try_read(&mut octet)) {
                    Ok(0) => return Some(std::io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Some(error),
                }
            }
        }
    }
}
