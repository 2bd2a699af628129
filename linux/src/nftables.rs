//! nftables by netlink: tables, chains, rules, sets and maps of one table at a time, in transactions.
//!
//! Owns how objects are written as messages and read back ([`Batch`], [`Nftables`]), and notifications ([`Watch`]).
//! Only ever speaks of the table that it is told; what belongs to others is neither read nor changed. Knows nothing of
//! what rules are for. Source: `linux/netfilter/nf_tables.h`.

mod batch;
mod expression;
mod generation;
mod read;
mod set;
mod watch;

pub use batch::{Base, Batch, Place, TableId};
pub use expression::{
    CtKey, Expression, FibResult, MetaKey, NatKind, PayloadBase, Register, RejectWith, Verdict,
};
pub use generation::Generation;
pub use read::{ChainInfo, RuleInfo, SetInfo};
pub use set::{Element, Key, SetSpec};
pub use watch::{Heard, Notice, Touched, Watch};

use crate::netns::NetNs;
use crate::nfnetlink::Connection;
use crate::{Error, Result};

const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// Numbers of messages and attributes, as the kernel's header has them.
mod numbers {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DEL_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const GET_CHAIN: u16 = 4;
    pub(super) const DEL_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const GET_RULE: u16 = 7;
    pub(super) const DEL_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const GET_SET: u16 = 10;
    pub(super) const DEL_SET: u16 = 11;
    pub(super) const NEW_ELEMENT: u16 = 12;
    pub(super) const GET_ELEMENT: u16 = 13;
    pub(super) const DEL_ELEMENT: u16 = 14;
    pub(super) const GET_GENERATION: u16 = 16;

    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_HANDLE: u16 = 3;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const RULE_POSITION: u16 = 6;
    pub(super) const RULE_USERDATA: u16 = 7;
    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LEN: u16 = 5;
    pub(super) const SET_DATA_TYPE: u16 = 6;
    pub(super) const SET_DATA_LEN: u16 = 7;
    pub(super) const SET_DESC: u16 = 9;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const SET_USERDATA: u16 = 13;
    pub(super) const DESC_CONCAT: u16 = 2;
    pub(super) const FIELD_LEN: u16 = 1;
    pub(super) const ELEMENTS_TABLE: u16 = 1;
    pub(super) const ELEMENTS_SET: u16 = 2;
    pub(super) const ELEMENTS_LIST: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_DATA: u16 = 2;
    pub(super) const ELEMENT_FLAGS: u16 = 3;
    pub(super) const ELEMENT_KEY_END: u16 = 10;
    pub(super) const LIST_ITEM: u16 = 1;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const VERDICT_CHAIN: u16 = 2;

    /// The element ends an interval, itself not included.
    pub(super) const FLAG_INTERVAL_END: u32 = 1;
    pub(super) const SET_INTERVAL: u32 = 4;
    pub(super) const SET_MAP: u32 = 8;
    pub(super) const SET_CONCAT: u32 = 0x80;
    /// "Type" of a map's data when these are verdicts.
    pub(super) const TYPE_VERDICT: u32 = 0xffff_ff00;
}

const fn message(number: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | number
}

/// Address family of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Address resolution of IPv4.
    Arp,
}

impl Family {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Arp => 3,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Ip),
            10 => Some(Self::Ip6),
            3 => Some(Self::Arp),
            _ => None,
        }
    }
}

/// Most bytes of a comment, with its terminating zero.
const COMMENT_MAX: usize = 128;
/// Kind of a comment among what is kept with a rule.
const USERDATA_COMMENT: u8 = 0;

/// What is kept with a rule so that programs show it as its comment. Texts longer than 127 bytes are cut.
#[must_use]
pub fn comment(text: &str) -> Vec<u8> {
    let text = text.bytes().filter(|byte| *byte != 0).take(COMMENT_MAX - 1);
    let mut userdata = vec![USERDATA_COMMENT, 0];
    userdata.extend(text);
    userdata.push(0);
    let len = u8::try_from(userdata.len() - 2).unwrap_or(u8::MAX);
    if let Some(place) = userdata.get_mut(1) {
        *place = len;
    }
    userdata
}

/// The comment in what is kept with a rule.
#[must_use]
pub fn comment_of(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == USERDATA_COMMENT {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        userdata = rest.get(usize::from(*len)..)?;
    }
    None
}

/// A message of a batch that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What [`Batch`] gave for the message; none when no single message is to blame.
    pub message: Option<usize>,
    /// The kernel's error number.
    pub errno: i32,
}

/// A connection to the kernel's nftables in one network namespace.
#[derive(Debug)]
pub struct Nftables {
    connection: Connection,
}

impl Nftables {
    /// Connects in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self {
            connection: Connection::open()?,
        })
    }

    /// Connects in another namespace, and stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        Ok(Self {
            connection: Connection::open_in(netns)?,
        })
    }

    /// The number that notifications of this connection's own changes have ([`Notice::port`]).
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.connection.port()
    }

    /// Carries out a batch as one transaction: everything of it takes effect in one instant, or nothing does and the
    /// refused messages are named. An empty batch is success.
    ///
    /// # Errors
    /// When the kernel could not be spoken to; what became of the batch is then not known. A batch larger than the
    /// socket admits gives EMSGSIZE.
    pub fn commit(&mut self, batch: Batch) -> Result<Vec<Refusal>> {
        let Some(mut bytes) = batch.finish() else {
            return Ok(Vec::new());
        };
        let what = "write nftables";
        let refused = self.connection.batch(what, bytes.bytes_mut())?;
        if refused
            .iter()
            .any(|one| matches!(one.errno, libc::EPERM | libc::EACCES))
        {
            return Err(Error::kernel(what, libc::EPERM));
        }
        let refusals = refused.into_iter().map(|one| Refusal {
            message: one.index,
            errno: one.errno,
        });
        Ok(refusals.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_round_trip_and_garbage_has_none() {
        assert_eq!(comment_of(&comment("cali:abc; text")), Some("cali:abc; text"));
        assert_eq!(comment_of(&comment(&"x".repeat(300))).map(str::len), Some(127));
        for garbage in [&[][..], &[0], &[0, 9, b'x'], &[7, 200, 1], &[7, 1, 1, 0]] {
            assert_eq!(comment_of(garbage), None);
        }
    }
}
