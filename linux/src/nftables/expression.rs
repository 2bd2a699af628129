//! Expressions: the steps of a rule, as the kernel's small machine runs them.
//!
//! Values are loaded into registers and compared or looked up there; a comparison that fails ends the rule. Source:
//! `linux/netfilter/nf_tables.h`, attributes `NFTA_*` of each expression.

mod keys;

use super::Family;
use super::numbers::{DATA_VALUE, LIST_ITEM};
use crate::nfnetlink::Attributes;

/// Place for values, in units of four bytes; there are sixteen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u8);

impl Register {
    /// NFT_REG32_00.
    const FIRST: u32 = 8;

    fn number(self) -> u32 {
        Self::FIRST + u32::from(self.0 % 16)
    }
}

pub use keys::{CtKey, FibResult, MetaKey, NatKind, PayloadBase, RejectWith, Verdict};

/// One step of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    missing_docs,
    reason = "the fields' names say it; registers are given by whoever composes a rule"
)]
pub enum Expression {
    /// Loads what is known of the packet.
    Meta { key: MetaKey, into: Register },
    /// Sets the packet's mark.
    SetMark { from: Register },
    /// Loads bytes of the packet; one too short for them ends the rule.
    Payload {
        base: PayloadBase,
        offset: u32,
        len: u32,
        into: Register,
    },
    /// Loads what is known of the connection.
    Ct { key: CtKey, into: Register },
    /// Asks the routing tables. Flags: 1 source address, 2 destination address, 4 mark, 8 incoming interface,
    /// 16 outgoing interface.
    Fib {
        result: FibResult,
        flags: u32,
        into: Register,
    },
    /// `register = register & mask ^ xor`; both of the same length.
    Bitwise {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Goes on if the register's first bytes are (or are not) these.
    Compare {
        register: Register,
        is_not: bool,
        value: Vec<u8>,
    },
    /// Goes on if the register's bytes lie (or do not lie) between these, both included.
    Range {
        register: Register,
        is_not: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Goes on if a set has (or has not) what the registers hold from here on.
    Lookup {
        set: String,
        register: Register,
        is_not: bool,
    },
    /// Takes the verdict that a map has for what the registers hold; without one the rule ends.
    VerdictMap { map: String, register: Register },
    /// Puts a value into registers.
    Immediate { value: Vec<u8>, into: Register },
    /// Decides.
    Verdict(Verdict),
    /// Counts packets and bytes.
    Counter,
    /// Goes on within a rate (or above it).
    Limit {
        packets: u64,
        per_seconds: u64,
        burst: u32,
        is_above: bool,
    },
    /// Goes on if more connections than this came through here.
    ConnectionsAbove { count: u32 },
    /// Writes to the kernel's log.
    Log { prefix: String, level: u32 },
    /// Sends to a group of netlink.
    NetlinkLog { group: u16, prefix: String },
    /// Drops and tells the sender.
    Reject(RejectWith),
    /// Leaves the connection untracked.
    NoTrack,
    /// Source becomes the address of the outgoing interface. Ports in registers of two bytes.
    Masquerade {
        flags: u32,
        ports: Option<(Register, Register)>,
    },
    /// Source or destination becomes the address in a register.
    Nat {
        kind: NatKind,
        family: Family,
        address: Register,
        ports: Option<(Register, Register)>,
        flags: u32,
    },
}

impl Expression {
    /// Appends the expression as an item of a rule's list.
    pub(super) fn put(&self, out: &mut Attributes) {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        let item = out.open(LIST_ITEM);
        out.put_text(NAME, self.name());
        let data = out.open(DATA);
        self.put_data(out);
        out.close(data);
        out.close(item);
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetMark { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Lookup { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Counter => "counter",
            Self::Limit { .. } => "limit",
            Self::ConnectionsAbove { .. } => "connlimit",
            Self::Log { .. } | Self::NetlinkLog { .. } => "log",
            Self::Reject(_) => "reject",
            Self::NoTrack => "notrack",
            Self::Masquerade { .. } => "masq",
            Self::Nat { .. } => "nat",
        }
    }

    /// Numbers of attributes are those of each expression's own list in the kernel's header.
    fn put_data(&self, out: &mut Attributes) {
        match self {
            Self::Meta { key, into } => {
                out.put_u32(1, into.number()).put_u32(2, key.number());
            }
            Self::SetMark { from } => {
                out.put_u32(2, MetaKey::Mark.number()).put_u32(3, from.number());
            }
            Self::Payload {
                base,
                offset,
                len,
                into,
            } => {
                out.put_u32(1, into.number()).put_u32(2, base.number());
                out.put_u32(3, *offset).put_u32(4, *len);
            }
            Self::Ct { key, into } => {
                out.put_u32(1, into.number()).put_u32(2, key.number());
            }
            Self::Fib { result, flags, into } => {
                out.put_u32(1, into.number()).put_u32(2, result.number());
                out.put_u32(3, *flags);
            }
            Self::Bitwise { register, mask, xor } => {
                out.put_u32(1, register.number()).put_u32(2, register.number());
                out.put_u32(3, u32::try_from(mask.len()).unwrap_or_default());
                put_value(out, 4, mask);
                put_value(out, 5, xor);
            }
            Self::Compare {
                register,
                is_not,
                value,
            } => {
                out.put_u32(1, register.number()).put_u32(2, u32::from(*is_not));
                put_value(out, 3, value);
            }
            Self::Range {
                register,
                is_not,
                from,
                to,
            } => {
                out.put_u32(1, register.number()).put_u32(2, u32::from(*is_not));
                put_value(out, 3, from);
                put_value(out, 4, to);
            }
            Self::Lookup {
                set,
                register,
                is_not,
            } => {
                out.put_text(1, set).put_u32(2, register.number());
                if *is_not {
                    out.put_u32(5, 1);
                }
            }
            Self::VerdictMap { map, register } => {
                // The register of verdicts has number 0.
                out.put_text(1, map).put_u32(2, register.number()).put_u32(3, 0);
            }
            Self::Immediate { value, into } => {
                out.put_u32(1, into.number());
                put_value(out, 2, value);
            }
            Self::Verdict(verdict) => {
                out.put_u32(1, 0);
                let data = out.open(2);
                verdict.put(out);
                out.close(data);
            }
            Self::Counter | Self::NoTrack => {}
            Self::Limit { .. }
            | Self::ConnectionsAbove { .. }
            | Self::Log { .. }
            | Self::NetlinkLog { .. }
            | Self::Reject(_)
            | Self::Masquerade { .. }
            | Self::Nat { .. } => self.put_statement(out),
        }
    }

    /// The data of expressions that do something.
    fn put_statement(&self, out: &mut Attributes) {
        match self {
            Self::Limit {
                packets,
                per_seconds,
                burst,
                is_above,
            } => {
                out.put_u64(1, *packets).put_u64(2, *per_seconds);
                // Type 0: packets.
                out.put_u32(3, *burst)
                    .put_u32(4, 0)
                    .put_u32(5, u32::from(*is_above));
            }
            Self::ConnectionsAbove { count } => {
                out.put_u32(1, *count).put_u32(2, 1);
            }
            Self::Log { prefix, level } => {
                out.put_text(2, prefix).put_u32(5, *level);
            }
            Self::NetlinkLog { group, prefix } => {
                out.put(1, &group.to_be_bytes()).put_text(2, prefix);
            }
            Self::Reject(with) => {
                let (kind, code) = match with {
                    RejectWith::Unreachable(code) => (0, *code),
                    RejectWith::Reset => (1, 0),
                };
                out.put_u32(1, kind).put(2, &[code]);
            }
            Self::Masquerade { flags, ports } => {
                if *flags != 0 {
                    out.put_u32(1, *flags);
                }
                if let Some((min, max)) = ports {
                    out.put_u32(2, min.number()).put_u32(3, max.number());
                }
            }
            Self::Nat {
                kind,
                family,
                address,
                ports,
                flags,
            } => {
                let kind = match kind {
                    NatKind::Source => 0,
                    NatKind::Destination => 1,
                };
                out.put_u32(1, kind).put_u32(2, family.number().into());
                out.put_u32(3, address.number());
                if let Some((min, max)) = ports {
                    out.put_u32(5, min.number()).put_u32(6, max.number());
                }
                if *flags != 0 {
                    out.put_u32(7, *flags);
                }
            }
            _ => {}
        }
    }
}

/// An attribute of type "data" with a value.
fn put_value(out: &mut Attributes, kind: u16, value: &[u8]) {
    let data = out.open(kind);
    out.put(DATA_VALUE, value);
    out.close(data);
}
