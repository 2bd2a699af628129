//! A transaction under construction: messages that the kernel carries out together or not at all.

use super::expression::Expression;
use super::numbers::*;
use super::set::{Element, SetSpec};
use super::{Family, message};
use crate::nfnetlink::{Attributes, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Bytes of elements in one message: a nested list cannot be longer than 65,535.
const ELEMENTS_MAX: usize = 48 << 10;
/// Number by which the `nft` program knows names of interfaces.
const TYPE_INTERFACE: u32 = 41;
/// What the program keeps with a set: in which order the bytes of its keys are.
const USERDATA_KEY_ORDER: u8 = 0;
const HOST_ORDER: u32 = 1;
/// NF_ACCEPT.
const POLICY_ACCEPT: u32 = 1;

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableId<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// How a chain hangs in the kernel's path of packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Number of the hook: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub hook: u32,
    /// Its place among the chains of the hook.
    pub priority: i32,
}

/// Where a rule goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Behind the last one.
    End,
    /// Before the rule with this handle.
    Before(u64),
    /// In place of the rule with this handle.
    Replace(u64),
}

/// Messages in the order in which the kernel takes them. Every method gives the number of its (last) message, by which
/// a refusal names it; methods that write several messages number them in a row.
#[derive(Debug)]
pub struct Batch {
    messages: Attributes,
    count: usize,
    /// Where the last message begins, and its flags.
    last: Option<(usize, u16)>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// A batch without messages.
    #[must_use]
    pub fn new() -> Self {
        let mut messages = Attributes::new();
        let start = messages.open_message(BATCH_BEGIN, NLM_F_REQUEST, 0, super::NFNL_SUBSYS_NFTABLES);
        messages.close_message(start);
        Self {
            messages,
            count: 0,
            last: None,
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True without messages.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number that the next message will have.
    #[must_use]
    pub const fn next_message(&self) -> usize {
        self.count
    }

    fn message(
        &mut self,
        number: u16,
        flags: u16,
        family: Family,
        write: impl FnOnce(&mut Attributes),
    ) -> usize {
        let flags = NLM_F_REQUEST | flags;
        let start = self
            .messages
            .open_message(message(number), flags, family.number(), 0);
        write(&mut self.messages);
        self.messages.close_message(start);
        self.last = Some((start, flags));
        self.count += 1;
        self.count - 1
    }

    /// The whole transaction, ready to be numbered and sent; none without messages.
    pub(super) fn finish(mut self) -> Option<Attributes> {
        let (start, flags) = self.last?;
        self.messages.set_flags(start, flags | NLM_F_ACK);
        let end = self
            .messages
            .open_message(BATCH_END, NLM_F_REQUEST, 0, super::NFNL_SUBSYS_NFTABLES);
        self.messages.close_message(end);
        Some(self.messages)
    }

    /// A table is there.
    pub fn add_table(&mut self, table: TableId<'_>) -> usize {
        self.message(NEW_TABLE, NLM_F_CREATE, table.family, |out| {
            out.put_text(TABLE_NAME, table.name);
        })
    }

    /// A table goes with all that is in it. It must be there.
    pub fn delete_table(&mut self, table: TableId<'_>) -> usize {
        self.message(DEL_TABLE, 0, table.family, |out| {
            out.put_text(TABLE_NAME, table.name);
        })
    }

    /// A chain is there; a base chain lets pass what no rule decides.
    pub fn add_chain(&mut self, table: TableId<'_>, name: &str, base: Option<&Base>) -> usize {
        self.message(NEW_CHAIN, NLM_F_CREATE, table.family, |out| {
            out.put_text(CHAIN_TABLE, table.name).put_text(CHAIN_NAME, name);
            let Some(base) = base else { return };
            let hook = out.open(CHAIN_HOOK);
            out.put_u32(HOOK_NUMBER, base.hook);
            out.put(HOOK_PRIORITY, &base.priority.to_be_bytes());
            out.close(hook);
            out.put_u32(CHAIN_POLICY, POLICY_ACCEPT);
            out.put_text(CHAIN_TYPE, &base.kind);
        })
    }

    /// A chain goes. Nothing may refer to it, and its rules must be gone.
    pub fn delete_chain(&mut self, table: TableId<'_>, name: &str) -> usize {
        self.message(DEL_CHAIN, 0, table.family, |out| {
            out.put_text(CHAIN_TABLE, table.name).put_text(CHAIN_NAME, name);
        })
    }

    /// A rule is written. `userdata` is kept with it: at most 255 bytes.
    pub fn add_rule(
        &mut self,
        table: TableId<'_>,
        chain: &str,
        place: Place,
        expressions: &[Expression],
        userdata: &[u8],
    ) -> usize {
        let flags = match place {
            Place::End => NLM_F_CREATE | NLM_F_APPEND,
            Place::Before(_) => NLM_F_CREATE,
            Place::Replace(_) => NLM_F_REPLACE,
        };
        self.message(NEW_RULE, flags, table.family, |out| {
            out.put_text(RULE_TABLE, table.name).put_text(RULE_CHAIN, chain);
            match place {
                Place::End => {}
                Place::Before(handle) => drop(out.put_u64(RULE_POSITION, handle)),
                Place::Replace(handle) => drop(out.put_u64(RULE_HANDLE, handle)),
            }
            let list = out.open(RULE_EXPRESSIONS);
            expressions.iter().for_each(|expression| expression.put(out));
            out.close(list);
            out.put(RULE_USERDATA, userdata);
        })
    }

    /// A rule goes.
    pub fn delete_rule(&mut self, table: TableId<'_>, chain: &str, handle: u64) -> usize {
        self.message(DEL_RULE, 0, table.family, |out| {
            out.put_text(RULE_TABLE, table.name).put_text(RULE_CHAIN, chain);
            out.put_u64(RULE_HANDLE, handle);
        })
    }

    /// All rules of a chain go.
    pub fn flush_chain(&mut self, table: TableId<'_>, chain: &str) -> usize {
        self.message(DEL_RULE, 0, table.family, |out| {
            out.put_text(RULE_TABLE, table.name).put_text(RULE_CHAIN, chain);
        })
    }

    /// A set or map is there. One of the same name must be of the same kind.
    pub fn add_set(&mut self, table: TableId<'_>, name: &str, spec: &SetSpec) -> usize {
        let id = u32::try_from(self.count + 1).unwrap_or(u32::MAX);
        self.message(NEW_SET, NLM_F_CREATE, table.family, |out| {
            out.put_text(SET_TABLE, table.name).put_text(SET_NAME, name);
            out.put_u32(SET_FLAGS, spec.flags());
            out.put_u32(SET_KEY_TYPE, spec.key_type)
                .put_u32(SET_KEY_LEN, spec.key_len);
            if spec.is_verdict_map {
                out.put_u32(SET_DATA_TYPE, TYPE_VERDICT).put_u32(SET_DATA_LEN, 0);
            }
            if spec.key_type == TYPE_INTERFACE {
                // For readers: names are not numbers of the network.
                let mut userdata = vec![USERDATA_KEY_ORDER, 4];
                userdata.extend(HOST_ORDER.to_ne_bytes());
                out.put(SET_USERDATA, &userdata);
            }
            // The kernel wants a number for what a batch may refer to; nothing of ours does.
            out.put_u32(SET_ID, id);
            if spec.flags() & SET_CONCAT != 0 {
                let desc = out.open(SET_DESC);
                let concat = out.open(DESC_CONCAT);
                for len in &spec.fields {
                    let field = out.open(LIST_ITEM);
                    out.put_u32(FIELD_LEN, *len);
                    out.close(field);
                }
                out.close(concat);
                out.close(desc);
            }
        })
    }

    /// A set or map goes with its elements. No rule may refer to it.
    pub fn delete_set(&mut self, table: TableId<'_>, name: &str) -> usize {
        self.message(DEL_SET, 0, table.family, |out| {
            out.put_text(SET_TABLE, table.name).put_text(SET_NAME, name);
        })
    }

    /// Elements are in a set or map.
    pub fn add_elements(&mut self, table: TableId<'_>, set: &str, elements: &[Element]) -> usize {
        self.elements(NEW_ELEMENT, NLM_F_CREATE, table, set, elements)
    }

    /// Elements go. They must be there.
    pub fn delete_elements(&mut self, table: TableId<'_>, set: &str, elements: &[Element]) -> usize {
        self.elements(DEL_ELEMENT, 0, table, set, elements)
    }

    fn elements(
        &mut self,
        number: u16,
        flags: u16,
        table: TableId<'_>,
        set: &str,
        elements: &[Element],
    ) -> usize {
        let mut rest = elements;
        while !rest.is_empty() {
            self.message(number, flags, table.family, |out| {
                out.put_text(ELEMENTS_TABLE, table.name)
                    .put_text(ELEMENTS_SET, set);
                let list = out.open(ELEMENTS_LIST);
                let start = out.len();
                while let Some((first, others)) = rest.split_first() {
                    first.put(out);
                    rest = others;
                    if out.len() - start >= ELEMENTS_MAX {
                        break;
                    }
                }
                out.close(list);
            });
        }
        self.count.saturating_sub(1)
    }
}
