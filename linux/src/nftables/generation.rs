//! The generation of the nftables rule set: a number that changes with every transaction, whoever made it.
//!
//! Owns the cheap question whether anybody changed tables, chains or rules (also those of `iptables-nft`). Never reads
//! or writes rules. Source: `linux/netfilter/nf_tables.h`, `nft_gen_info`.

use super::{message, numbers};
use crate::nfnetlink::{Connection, Request, attribute, be32};
use crate::{Error, Result};

const ATTR_GENERATION: u16 = 1;

/// Asks for the generation in one network namespace.
#[derive(Debug)]
pub struct Generation {
    connection: Connection,
}

impl Generation {
    /// Connects in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self {
            connection: Connection::open()?,
        })
    }

    /// The present number.
    ///
    /// # Errors
    /// `is_unsupported` when the kernel has no nftables.
    pub fn current(&mut self) -> Result<u32> {
        let what = "ask for the generation of the nftables rule set";
        let request = Request {
            kind: message(numbers::GET_GENERATION),
            flags: 0,
            family: 0,
            payload: &[],
        };
        let answer = self.connection.get(what, &request)?.map_err(|code| match code {
            libc::EINVAL | libc::ENOENT => Error::kernel(what, libc::EOPNOTSUPP),
            code => Error::kernel(what, code),
        })?;
        attribute(&answer, ATTR_GENERATION)
            .and_then(be32)
            .ok_or_else(|| Error::protocol(what, "the answer has no number"))
    }
}
