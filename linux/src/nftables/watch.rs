//! Notifications: who changed what of which table.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};

use super::Family;
use super::numbers::*;
use super::read::text;
use crate::nfnetlink::{Message, messages};
use crate::{Error, Result};

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;
/// Enough for what a first programming of a large node says.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
const NFGENMSG_LEN: usize = 4;
/// Datagrams read in a row before others get their turn.
const DATAGRAMS_MAX: usize = 4_096;

/// What was changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Touched {
    /// The table itself appeared or went.
    Table,
    /// A chain or rules of it.
    Chain(String),
    /// A set or map, or elements of it.
    Set(String),
}

/// A change that somebody made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Family of the table.
    pub family: Family,
    /// Name of the table.
    pub table: String,
    /// Who made it: the number of a connection ([`Nftables::port`](super::Nftables::port)).
    pub port: u32,
    /// What was changed.
    pub touched: Touched,
}

/// Hears of every transaction in one network namespace.
pub struct Watch {
    socket: TokioSocket,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// What was heard; [`Lost`](Self::Lost) when everything must be read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Changes, in order.
    Notices(Vec<Notice>),
    /// Some notifications did not fit.
    Lost,
}

impl Watch {
    /// Listens in the calling thread's namespace, from now on; within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        let failed = |e| Error::io("listen to changes of nftables", e);
        let mut socket = TokioSocket::new(NETLINK_NETFILTER).map_err(failed)?;
        socket.socket_mut().bind_auto().map_err(failed)?;
        // Best effort: a burst that does not fit shows as lost.
        let _ = setsockopt(socket.socket_ref(), sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        socket.socket_mut().add_membership(GROUP).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Waits for changes.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn next(&mut self) -> Result<Heard> {
        match self.socket.recv_from_full().await {
            Ok((datagram, _)) => Ok(Heard::Notices(notices(&datagram).collect())),
            Err(error) if is_lost(&error) => Ok(Heard::Lost),
            Err(error) => Err(Error::io("wait for changes of nftables", error)),
        }
    }

    /// What is there to read, without waiting.
    pub fn read(&mut self) -> Heard {
        let mut found = Vec::new();
        let mut lost = false;
        for _ in 0..DATAGRAMS_MAX {
            match self.socket.socket_ref().recv_from_full() {
                Ok((datagram, _)) => found.extend(notices(&datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => lost |= error.kind() != io::ErrorKind::Interrupted,
            }
        }
        if lost { Heard::Lost } else { Heard::Notices(found) }
    }
}

fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

fn notices(datagram: &[u8]) -> impl Iterator<Item = Notice> {
    messages(datagram).filter_map(|message| notice(&message))
}

fn notice(message: &Message<'_>) -> Option<Notice> {
    let (header, payload) = message.payload.split_at_checked(NFGENMSG_LEN)?;
    let touched = match message.kind & 0xff {
        NEW_TABLE | DEL_TABLE => Touched::Table,
        NEW_CHAIN | DEL_CHAIN => Touched::Chain(text(payload, CHAIN_NAME)?),
        NEW_RULE | DEL_RULE => Touched::Chain(text(payload, RULE_CHAIN)?),
        NEW_SET | DEL_SET => Touched::Set(text(payload, SET_NAME)?),
        NEW_ELEMENT | DEL_ELEMENT => Touched::Set(text(payload, ELEMENTS_SET)?),
        _ => return None,
    };
    Some(Notice {
        family: Family::of(*header.first()?)?,
        // The table's name is the first attribute of every object.
        table: text(payload, TABLE_NAME)?,
        port: message.port,
        touched,
    })
}
