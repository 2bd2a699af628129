//! Netfilter's netlink: one socket, length-checked attributes, acknowledged requests, dumps.
//!
//! Owns framing only; what a message means is the business of [`ipset`](crate::ipset),
//! [`nftables`](crate::nftables) and [`conntrack`](crate::conntrack). The kernel answers these requests while they are being sent, so the socket is a
//! blocking one with a timeout, and no task waits longer than the kernel works.
//! Source: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::netns::NetNs;
use crate::{Error, Result};

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_LEN: usize = 16;
/// `struct nfgenmsg`: family, version, resource id.
const NFGENMSG_LEN: usize = 4;

/// The attribute's payload is a list of attributes.
const NLA_F_NESTED: u16 = 0x8000;
/// The attribute's payload is in network byte order.
pub(crate) const NLA_F_NET_BYTEORDER: u16 = 0x4000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_HEADER_LEN: usize = 4;

/// The kernel answers within microseconds; a longer silence means that the answer was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches are sent whole; the default send buffer is smaller than a large set or rule set.
const SEND_BUFFER_BYTES: usize = 32 << 20;
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// How often an interrupted dump is tried again before it is reported.
const DUMP_ATTEMPTS: usize = 10;

/// One request without its header.
pub(crate) struct Request<'a> {
    /// Subsystem (high byte) and message (low byte).
    pub kind: u16,
    /// Flags beside REQUEST and ACK.
    pub flags: u16,
    /// Address family of the generic header.
    pub family: u8,
    /// Attributes.
    pub payload: &'a [u8],
}

/// A connection to one netfilter subsystem in one network namespace.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    port: u32,
}

/// A message of a batch that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its place in the batch, counted from zero; none when the batch as a whole was refused.
    pub index: Option<usize>,
    /// The kernel's verdict.
    pub errno: i32,
}

impl Connection {
    /// Connects in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        let failed = |e| Error::io("open a netfilter netlink socket", e);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
        let port = socket.bind_auto().map_err(failed)?.port_number();
        // Best effort: without CAP_NET_ADMIN every request is refused anyway.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        // Acknowledgements need not repeat the request.
        let _ = socket.set_cap_ack(true);
        let seconds = i64::try_from(ANSWER_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))
            .map_err(|e| Error::kernel("set the timeout of a netlink socket", e as i32))?;
        Ok(Self {
            socket,
            sequence: 0,
            port,
        })
    }

    /// Connects in another namespace, and stays there.
    pub(crate) fn open_in(netns: &NetNs) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// The number by which the kernel names this connection in notifications of what it did.
    pub(crate) const fn port(&self) -> u32 {
        self.port
    }

    /// Sends messages that take effect together or not at all: `bytes` are whole messages, of which the first begins
    /// and the last ends the batch, and the last but one asks for an acknowledgement. An empty answer is success.
    pub(crate) fn batch(&mut self, what: &str, bytes: &mut [u8]) -> Result<Vec<Refused>> {
        let first = self.sequence.wrapping_add(1);
        let count = number(bytes, first);
        self.sequence = self.sequence.wrapping_add(count);
        let awaited = self.sequence.wrapping_sub(1);
        self.socket
            .send_to(bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|e| Error::io(what, e))?;
        let mut refused = Vec::new();
        loop {
            let datagram = self.receive(what)?;
            for message in messages(&datagram).filter(|message| message.kind == NLMSG_ERROR) {
                let place = message.sequence.wrapping_sub(first);
                if place >= count {
                    continue;
                }
                if let Err(errno) = verdict(message.payload) {
                    let index = (place as usize).checked_sub(1);
                    refused.push(Refused { index, errno });
                }
                // The verdict on the whole batch comes under the name of its beginning.
                if message.sequence == awaited || place == 0 {
                    return Ok(refused);
                }
            }
        }
    }

    /// Sends a request and waits for the kernel's verdict. The error is the raw number, for the caller to read.
    pub(crate) fn request(&mut self, what: &str, request: &Request<'_>) -> Result<Result<(), i32>> {
        let sequence = self.send(what, request, NLM_F_REQUEST | NLM_F_ACK)?;
        loop {
            let datagram = self.receive(what)?;
            for message in messages(&datagram) {
                if message.sequence == sequence && message.kind == NLMSG_ERROR {
                    return Ok(verdict(message.payload));
                }
            }
        }
    }

    /// Lists; each element is the payload of one message behind the generic header.
    pub(crate) fn dump(&mut self, what: &str, request: &Request<'_>) -> Result<Result<Vec<Vec<u8>>, i32>> {
        self.dump_into(what, request, |payload| Some(payload.to_vec()))
    }

    /// Lists what `read` makes of the payloads of messages; what it does not want is left out at once.
    pub(crate) fn dump_into<T>(
        &mut self,
        what: &str,
        request: &Request<'_>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Result<Vec<T>, i32>> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.dump_once(what, request, &read)? {
                Ok(Some(found)) => return Ok(Ok(found)),
                Ok(None) => {}
                Err(errno) => return Ok(Err(errno)),
            }
        }
        Err(Error::protocol(
            what,
            "the listing kept changing while it was read",
        ))
    }

    fn dump_once<T>(
        &mut self,
        what: &str,
        request: &Request<'_>,
        read: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Result<Option<Vec<T>>, i32>> {
        let sequence = self.send(what, request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let datagram = self.receive(what)?;
            for message in messages(&datagram).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => return Ok(Ok((!interrupted).then_some(found))),
                    NLMSG_ERROR => {
                        if let Err(errno) = verdict(message.payload) {
                            return Ok(Err(errno));
                        }
                    }
                    _ => found.extend(read(message.payload.get(NFGENMSG_LEN..).unwrap_or_default())),
                }
            }
        }
    }

    /// Asks for one object; the payload behind the generic header.
    pub(crate) fn get(&mut self, what: &str, request: &Request<'_>) -> Result<Result<Vec<u8>, i32>> {
        let sequence = self.send(what, request, NLM_F_REQUEST)?;
        loop {
            let datagram = self.receive(what)?;
            for message in messages(&datagram).filter(|message| message.sequence == sequence) {
                if message.kind == NLMSG_ERROR {
                    if let Err(errno) = verdict(message.payload) {
                        return Ok(Err(errno));
                    }
                } else {
                    return Ok(Ok(message
                        .payload
                        .get(NFGENMSG_LEN..)
                        .unwrap_or_default()
                        .to_vec()));
                }
            }
        }
    }

    fn send(&mut self, what: &str, request: &Request<'_>, flags: u16) -> Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = frame(request, flags, self.sequence)
            .ok_or_else(|| Error::invalid(what, "the message is larger than netlink can carry"))?;
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|e| Error::io(what, e))?;
        Ok(self.sequence)
    }

    fn receive(&self, what: &str) -> Result<Vec<u8>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(format!("{what}: wait for the kernel's answer"), error)),
            }
        }
    }
}

pub(crate) fn frame(request: &Request<'_>, flags: u16, sequence: u32) -> Option<Vec<u8>> {
    let length = HEADER_LEN + NFGENMSG_LEN + request.payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).ok()?.to_ne_bytes());
    bytes.extend(request.kind.to_ne_bytes());
    bytes.extend((flags | request.flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([request.family, 0, 0, 0]);
    bytes.extend(request.payload);
    Some(bytes)
}

/// Writes sequence numbers into whole messages, and counts them.
fn number(mut rest: &mut [u8], first: u32) -> u32 {
    let mut count = 0;
    while let Some(length) = rest
        .first_chunk::<4>()
        .map(|bytes| u32::from_ne_bytes(*bytes) as usize)
    {
        let Some(place) = rest.get_mut(8..12).filter(|_| length >= HEADER_LEN) else {
            break;
        };
        place.copy_from_slice(&first.wrapping_add(count).to_ne_bytes());
        count += 1;
        rest = rest.get_mut(length.next_multiple_of(4)..).unwrap_or_default();
    }
    count
}

/// The verdict of an NLMSG_ERROR: zero is success.
pub(crate) fn verdict(payload: &[u8]) -> Result<(), i32> {
    match payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(errno.saturating_abs()),
        None => Err(libc::EPROTO),
    }
}

/// A received message.
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Who sent it or, in a notification, who made the change.
    pub port: u32,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

/// The messages of a datagram; a length that cannot be ends the iteration.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk::<4>()?) as usize;
        let bytes = rest.get(..length).filter(|bytes| bytes.len() >= HEADER_LEN)?;
        let (header, payload) = bytes.split_at_checked(HEADER_LEN)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes(*header.get(4..)?.first_chunk()?),
            flags: u16::from_ne_bytes(*header.get(6..)?.first_chunk()?),
            sequence: u32::from_ne_bytes(*header.get(8..)?.first_chunk()?),
            port: u32::from_ne_bytes(*header.get(12..)?.first_chunk()?),
            payload,
        })
    })
}

/// The attributes of a payload as (type without flags, payload); a length that cannot be ends the iteration.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk::<2>()?));
        let bytes = rest.get(..length)?;
        let (header, payload) = bytes.split_at_checked(NLA_HEADER_LEN)?;
        let kind = u16::from_ne_bytes(*header.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The first attribute of a type.
pub(crate) fn attribute(payload: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(payload).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A number of four bytes in network byte order.
pub(crate) fn be32(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A list of attributes under construction.
#[derive(Default, Debug)]
pub(crate) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a message; what is appended until [`close_message`](Self::close_message) belongs to it.
    pub(crate) fn open_message(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        // Sequence number and sender, written when it is sent.
        self.bytes.extend([0; 8]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        start
    }

    /// Ends a message.
    pub(crate) fn close_message(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Sets flags of a message that was begun at `start`.
    pub(crate) fn set_flags(&mut self, start: usize, flags: u16) {
        if let Some(place) = self.bytes.get_mut(start + 6..start + 8) {
            place.copy_from_slice(&flags.to_ne_bytes());
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Begins a nested list in place.
    pub(crate) fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(0u16.to_ne_bytes());
        self.bytes.extend((kind | NLA_F_NESTED).to_ne_bytes());
        start
    }

    /// Ends a nested list. Lists of this crate are far below the limit of 65,535 bytes.
    pub(crate) fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Appends a number in network byte order, as nftables wants it.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a long number in network byte order.
    pub(crate) fn put_u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute. Values come from this crate and are far below the limit of 65,531 bytes.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(NLA_HEADER_LEN + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes
            .extend(value.get(..usize::from(length) - NLA_HEADER_LEN).unwrap_or(value));
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a text with its terminating zero.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value)
    }

    /// Appends a number in network byte order, marked so.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind | NLA_F_NET_BYTEORDER, &value.to_be_bytes())
    }

    /// Appends a nested list.
    pub(crate) fn nest(&mut self, kind: u16, inner: &Self) -> &mut Self {
        self.put(kind | NLA_F_NESTED, &inner.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        let mut inner = Attributes::new();
        inner.put_be32(1, 7).put_text(2, "abc");
        let mut outer = Attributes::new();
        outer.put(9, &[1]).nest(4, &inner);
        let nested = attribute(outer.bytes(), 4).unwrap();
        assert_eq!(attribute(nested, 1).and_then(be32), Some(7));
        assert_eq!(attribute(nested, 2), Some(&b"abc\0"[..]));
        assert_eq!(attribute(outer.bytes(), 9), Some(&[1][..]));
        assert_eq!(attribute(outer.bytes(), 5), None);
    }

    #[test]
    fn lengths_that_cannot_be_end_the_iteration() {
        for garbage in [&[0u8; 64][..], &[0xff; 64], &[3, 0, 1, 0], &[1], &[]] {
            assert_eq!(attributes(garbage).count(), 0);
            assert_eq!(messages(garbage).count(), 0);
        }
    }
}
