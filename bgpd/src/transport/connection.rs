//! One connection: a task that reads and frames, and one that writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use caracal_bgpd_core::config::Password;
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::wire::framing::{Frame, frame};
use caracal_linux::sys;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Event, Queued};

/// Octets read at once; room for the longest message is made when one comes.
const READ_LEN: usize = 16 * 1024;
/// Octets queued at which the speaker is asked to pause.
const BLOCK_LEN: usize = 256 * 1024;
/// Octets queued at which it may go on.
const READY_LEN: usize = 64 * 1024;
/// Octets queued at which a connection is given up. Only small messages are sent past the pause.
const GIVE_UP_LEN: usize = 4 * 1024 * 1024;
/// How long what was queued before a close may take.
const LINGER: Duration = Duration::from_secs(5);
/// Buffers handed to the kernel in one call.
const SLICES_MAX: usize = 32;

/// The owner's end.
#[derive(Debug)]
pub(super) struct Connection {
    queue: mpsc::UnboundedSender<Bytes>,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    peer: IpAddr,
    key: Option<Password>,
    /// A second handle of the socket, for its options.
    socket: Option<Socket>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Octets queued and not yet given to the kernel.
    queued: AtomicUsize,
    /// The speaker was asked to pause.
    blocked: AtomicBool,
}

impl Connection {
    /// `peer` and `key` are the other end and its MD5 key.
    pub(super) fn start(
        conn: ConnId,
        stream: TcpStream,
        (peer, key): (IpAddr, Option<Password>),
        events: mpsc::Sender<Event>,
    ) -> Self {
        let socket = SockRef::from(&stream).try_clone().ok();
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared::default());
        // The queue is bounded by octets (`GIVE_UP_LEN`), which a channel cannot count.
        let (queue, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write_all(
            conn,
            write,
            receiver,
            Arc::clone(&shared),
            events.clone(),
        ));
        let reader = tokio::spawn(read_all(conn, read, events));
        Self {
            queue,
            shared,
            reader,
            peer,
            key,
            socket,
        }
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Puts another key in the place of the one in use. The session goes on when the peer does the same within the
    /// time that TCP tries for, and ends by its timers otherwise.
    pub(super) fn set_key(&mut self, key: Option<Password>) {
        let (Some(_), Some(new), Some(socket)) = (&self.key, &key, &self.socket) else {
            return;
        };
        if self.key == key {
            return;
        }
        match sys::set_tcp_md5(socket, self.peer, new.reveal().as_bytes()) {
            Ok(()) => {
                tracing::info!(peer = %self.peer, "password changed while the session is up");
                self.key = key;
            }
            Err(error) => {
                tracing::error!(peer = %self.peer, error = %error, "the new password counts from the next connection on");
            }
        }
    }

    pub(super) fn send(&mut self, bytes: Bytes) -> Queued {
        let length = bytes.len();
        let queued = self.shared.queued.fetch_add(length, Ordering::Relaxed) + length;
        if queued > GIVE_UP_LEN {
            return Queued::TooMuch;
        }
        if self.queue.send(bytes).is_err() {
            return Queued::Gone;
        }
        if queued > BLOCK_LEN && !self.shared.blocked.swap(true, Ordering::Relaxed) {
            return Queued::Full;
        }
        Queued::Yes
    }

    /// Stops reading at once; what is queued still goes out, then the connection ends.
    pub(super) fn close(self) {
        self.reader.abort();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_all(conn: ConnId, mut read: OwnedReadHalf, events: mpsc::Sender<Event>) {
    let mut buffer = BytesMut::new();
    let reason = loop {
        buffer.reserve(READ_LEN);
        match read.read_buf(&mut buffer).await {
            Ok(0) => break "the peer closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => break format!("read: {error}"),
        }
        let (messages, is_malformed) = cut(&mut buffer);
        if !messages.is_empty() && events.send(Event::Messages { conn, messages }).await.is_err() {
            return;
        }
        if is_malformed {
            // The speaker answers with a NOTIFICATION and closes; nothing more can be made sense of.
            std::future::pending::<()>().await;
        }
    };
    let _ = events.send(Event::Closed { conn, reason }).await;
}

/// Takes whole messages off the front. After a header that cannot be right comes nothing more.
fn cut(buffer: &mut BytesMut) -> (Vec<Bytes>, bool) {
    let mut messages = Vec::new();
    loop {
        match frame(buffer) {
            Frame::Partial(needed) => {
                buffer.reserve(needed.saturating_sub(buffer.len()));
                return (messages, false);
            }
            Frame::Message(length) => messages.push(buffer.split_to(length).freeze()),
            Frame::Malformed(length) => {
                messages.push(buffer.split_to(length.min(buffer.len())).freeze());
                return (messages, true);
            }
        }
    }
}

async fn write_all(
    conn: ConnId,
    mut write: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
) {
    let mut batch = Vec::new();
    loop {
        let count = queue.recv_many(&mut batch, SLICES_MAX).await;
        if count == 0 {
            break;
        }
        let result = if queue.is_closed() {
            let written = tokio::time::timeout(LINGER, write_batch(&mut write, &mut batch)).await;
            written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            write_batch(&mut write, &mut batch).await
        };
        match result {
            Ok(length) => {
                let left = shared.queued.fetch_sub(length, Ordering::Relaxed) - length;
                if left < READY_LEN && shared.blocked.swap(false, Ordering::Relaxed) {
                    let _ = events.send(Event::SendReady { conn }).await;
                }
            }
            Err(error) => {
                let reason = format!("write: {error}");
                let _ = events.send(Event::Closed { conn, reason }).await;
                return;
            }
        }
    }
    // The owner closed it. The peer learns by the end of the stream.
    let _ = tokio::time::timeout(LINGER, write.shutdown()).await;
}

/// Writes buffers in as few calls as the kernel takes, and returns the octets written.
async fn write_batch(write: &mut OwnedWriteHalf, batch: &mut Vec<Bytes>) -> io::Result<usize> {
    let mut queue: VecDeque<Bytes> = batch.drain(..).collect();
    let total = queue.iter().map(Bytes::len).sum();
    while !queue.is_empty() {
        let slices: Vec<IoSlice<'_>> = queue.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut written = write.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            queue.pop_front();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive() -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend([0, 19, 4]);
        bytes
    }

    #[test]
    fn messages_are_cut_wherever_the_stream_is_split() {
        let stream = [keepalive(), keepalive(), keepalive()].concat();
        for split in 0..stream.len() {
            let mut buffer = BytesMut::from(&stream[..split]);
            let (mut messages, malformed) = cut(&mut buffer);
            assert!(!malformed);
            buffer.extend_from_slice(&stream[split..]);
            messages.extend(cut(&mut buffer).0);
            assert_eq!(messages, vec![Bytes::from(keepalive()); 3], "split at {split}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_broken_header_is_handed_over_once_with_what_came_before() {
        let mut buffer = BytesMut::from(&keepalive()[..]);
        buffer.extend_from_slice(&[0; 64]);
        let (messages, malformed) = cut(&mut buffer);
        assert!(malformed);
        assert_eq!(messages, [Bytes::from(keepalive()), Bytes::from(vec![0; 19])]);
    }
}
