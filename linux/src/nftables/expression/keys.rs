//! What expressions load, ask, and decide.

use crate::nfnetlink::Attributes;
use crate::nftables::numbers::{DATA_VERDICT, VERDICT_CHAIN, VERDICT_CODE};

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaKey {
    /// Its mark; four bytes in the machine's order.
    Mark,
    /// Name of the interface it came in by; 16 bytes, padded with zeros.
    InInterfaceName,
    /// Name of the interface it leaves by; 16 bytes, padded with zeros.
    OutInterfaceName,
    /// Protocol of its transport header; one byte.
    TransportProtocol,
}

impl MetaKey {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::InInterfaceName => 6,
            Self::OutInterfaceName => 7,
            Self::TransportProtocol => 16,
        }
    }
}

/// Where an offset into a packet counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadBase {
    /// The network header.
    Network,
    /// The transport header.
    Transport,
}

impl PayloadBase {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Transport => 2,
        }
    }
}

/// What is known of a packet's connection. Four bytes in the machine's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtKey {
    /// State bits; also known for packets without a connection.
    State,
    /// Status bits; a packet without a connection ends the rule.
    Status,
}

impl CtKey {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Status => 2,
        }
    }
}

/// What is asked of the routing tables. Four bytes in the machine's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibResult {
    /// Index of the interface of the route, 0 if there is none.
    Interface,
    /// Type of the address (2 = one of the host's own).
    AddressType,
}

impl FibResult {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Interface => 1,
            Self::AddressType => 3,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It passes this base chain.
    Accept,
    /// It is gone.
    Drop,
    /// It goes on in the calling chain.
    Return,
    /// It goes through a chain and comes back.
    Jump(String),
    /// It goes through a chain and does not come back.
    Goto(String),
}

impl Verdict {
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    const RETURN: i32 = -5;

    /// As a value of data: within an attribute of type "data".
    pub(in crate::nftables) fn put(&self, out: &mut Attributes) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (Self::JUMP, Some(chain)),
            Self::Goto(chain) => (Self::GOTO, Some(chain)),
            Self::Return => (Self::RETURN, None),
        };
        let verdict = out.open(DATA_VERDICT);
        out.put(VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            out.put_text(VERDICT_CHAIN, chain);
        }
        out.close(verdict);
    }
}

/// How a sender is told that its packet is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectWith {
    /// An ICMP (or ICMPv6) message "unreachable" with this code.
    Unreachable(u8),
    /// A TCP reset.
    Reset,
}

/// What is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
}
