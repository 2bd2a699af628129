//! Many route changes in one message to the kernel, each with a verdict of its own.
//!
//! A table of a hundred thousand routes is written with a system call for some hundreds of them instead of one for
//! each. The kernel works while a batch is being sent, so the socket is a blocking one: a batch takes a millisecond.
//! Source: `linux/netlink.h`; measured in docs/performance.md.

use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::Route;
use super::routes::route_message;
use crate::{Error, Result};

/// Changes in one message; their verdicts must fit the receive buffer.
const BATCH_MAX: usize = 256;
const SEND_BUFFER_BYTES: usize = 1 << 20;
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const NLMSG_ERROR: u16 = 2;
const HEADER_LEN: usize = 16;

/// One change.
#[derive(Clone, Copy, Debug)]
pub enum RouteChange<'a> {
    /// Refused when the table has a route with this prefix and metric (`is_exists`).
    Add(&'a Route),
    /// Takes the place of a route with the same prefix and metric, whoever made it.
    Replace(&'a Route),
    /// Exactly this route.
    Delete(&'a Route),
}

impl RouteChange<'_> {
    fn name(&self) -> String {
        let (verb, route) = match self {
            Self::Add(route) => ("add", route),
            Self::Replace(route) => ("replace", route),
            Self::Delete(route) => ("delete", route),
        };
        format!("{verb} route {} in table {}", route.destination, route.table)
    }

    fn message(&self, sequence: u32) -> NetlinkMessage<RouteNetlinkMessage> {
        let (message, flags) = match self {
            Self::Add(route) => {
                let message = RouteNetlinkMessage::NewRoute(route_message(route));
                (message, NLM_F_CREATE | NLM_F_EXCL)
            }
            Self::Replace(route) => {
                let message = RouteNetlinkMessage::NewRoute(route_message(route));
                (message, NLM_F_CREATE | NLM_F_REPLACE)
            }
            Self::Delete(route) => (RouteNetlinkMessage::DelRoute(route_message(route)), 0),
        };
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = sequence;
        message.finalize();
        message
    }
}

/// A socket for batches, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct RouteBatch {
    socket: Socket,
    port: u32,
    sequence: u32,
}

impl RouteBatch {
    /// Connects.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        let failed = |e| Error::io("open a netlink socket", e);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        let port = socket.bind_auto().map_err(failed)?.port_number();
        // Best effort: smaller buffers only mean smaller batches, which the kernel asks for by itself.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        let _ = socket.set_cap_ack(true);
        let seconds = i64::try_from(ANSWER_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))
            .map_err(|e| Error::kernel("set the timeout of a netlink socket", e as i32))?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
        })
    }

    /// The number under which notifications tell of changes made here.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries out changes in order and returns the verdict on each. One that is refused does not stop those after it.
    pub fn apply(&mut self, changes: &[RouteChange<'_>]) -> Vec<Result<()>> {
        let mut verdicts = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH_MAX) {
            match self.apply_batch(batch) {
                Ok(codes) => verdicts.extend(batch.iter().zip(codes).map(|(change, code)| match code {
                    Some(0) => Ok(()),
                    Some(code) => Err(Error::kernel(change.name(), code)),
                    None => Err(Error::protocol(change.name(), "the kernel did not answer")),
                })),
                Err(error) => {
                    let text = error.to_string();
                    let lost = |change: &RouteChange<'_>| Err(Error::protocol(change.name(), &text));
                    verdicts.extend(batch.iter().map(lost));
                }
            }
        }
        verdicts
    }

    /// Sends one batch; a verdict is the kernel's error number, negative as it has it, or 0.
    fn apply_batch(&mut self, batch: &[RouteChange<'_>]) -> Result<Vec<Option<i32>>> {
        let failed = |e| Error::io("write routes", e);
        let first = self.sequence.wrapping_add(1);
        let mut octets = Vec::new();
        for change in batch {
            self.sequence = self.sequence.wrapping_add(1);
            let message = change.message(self.sequence);
            let start = octets.len();
            octets.resize(start + message.buffer_len().next_multiple_of(4), 0);
            if let Some(room) = octets.get_mut(start..) {
                message.serialize(room);
            }
        }
        self.socket
            .send_to(&octets, &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        let mut verdicts = vec![None; batch.len()];
        let mut left = batch.len();
        while left > 0 {
            let (datagram, _) = self.socket.recv_from_full().map_err(failed)?;
            for (sequence, code) in answers(&datagram) {
                let at = usize::try_from(sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Some(verdict @ None) = verdicts.get_mut(at) {
                    *verdict = Some(code);
                    left -= 1;
                }
            }
        }
        Ok(verdicts)
    }
}

/// Sequence number and error number of each acknowledgement in a datagram.
fn answers(mut datagram: &[u8]) -> Vec<(u32, i32)> {
    let word = |octets: &[u8], at: usize| {
        let octets: Option<[u8; 4]> = octets.get(at..at + 4).and_then(|octets| octets.try_into().ok());
        octets.map(u32::from_ne_bytes)
    };
    let mut found = Vec::new();
    while let (Some(length), Some(sequence)) = (word(datagram, 0), word(datagram, 8)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let kind = datagram.get(4..6).and_then(|octets| octets.try_into().ok());
        if kind.map(u16::from_ne_bytes) == Some(NLMSG_ERROR)
            && let Some(code) = word(datagram, HEADER_LEN)
        {
            found.push((sequence, code.cast_signed()));
        }
        if length < HEADER_LEN {
            break;
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_garbage_ends_them() {
        let mut datagram = Vec::new();
        for (sequence, code) in [(7_u32, 0_i32), (8, -17)] {
            datagram.extend(36_u32.to_ne_bytes());
            datagram.extend([2, 0, 0, 0]);
            datagram.extend(sequence.to_ne_bytes());
            datagram.extend([0; 4]);
            datagram.extend(code.to_ne_bytes());
            datagram.extend([0; 16]);
        }
        assert_eq!(answers(&datagram), [(7, 0), (8, -17)]);
        assert_eq!(answers(&[0; 20]), []);
        assert_eq!(answers(&[0xff; 64]), []);
    }
}
