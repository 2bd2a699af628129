//! Reading back what one table holds.

use super::expression::Verdict;
use super::numbers::*;
use super::{Base, Element, Key, Nftables, TableId, message};
use crate::nfnetlink::{Attributes, Request, attribute, attributes, be32};
use crate::{Error, Result};

/// A chain as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainInfo {
    /// Its name.
    pub name: String,
    /// How it hangs in the path of packets, if it does.
    pub base: Option<Base>,
}

/// A rule as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleInfo {
    /// Name of its chain.
    pub chain: String,
    /// Number by which the kernel knows it.
    pub handle: u64,
    /// What was given with it.
    pub userdata: Vec<u8>,
}

/// A set or map as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetInfo {
    /// Its name.
    pub name: String,
    /// Flags of its kind.
    pub flags: u32,
    /// Type of its key.
    pub key_type: u32,
    /// Length of its key.
    pub key_len: u32,
}

impl SetInfo {
    /// True when it is what a specification says.
    #[must_use]
    pub fn matches(&self, spec: &super::SetSpec) -> bool {
        (self.flags, self.key_type, self.key_len) == (spec.flags(), spec.key_type, spec.key_len)
    }
}

impl Nftables {
    /// True when a table is there.
    ///
    /// # Errors
    /// `is_unsupported` when the kernel has no nftables.
    pub fn has_table(&mut self, table: TableId<'_>) -> Result<bool> {
        let what = "look for an nftables table";
        let mut payload = Attributes::new();
        payload.put_text(TABLE_NAME, table.name);
        match self.connection.get(what, &request(GET_TABLE, table, &payload))? {
            Ok(_) => Ok(true),
            Err(libc::ENOENT | libc::EAFNOSUPPORT) => Ok(false),
            // No subsystem of this number.
            Err(libc::EINVAL) => Err(Error::kernel(what, libc::EOPNOTSUPP)),
            Err(errno) => Err(Error::kernel(what, errno)),
        }
    }

    /// The chains of a table; none when the table is not there.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn chains(&mut self, table: TableId<'_>) -> Result<Vec<ChainInfo>> {
        let what = "list nftables chains";
        let payload = Attributes::new();
        let listed = self
            .connection
            .dump_into(what, &request(GET_CHAIN, table, &payload), |payload| {
                is_of(payload, CHAIN_TABLE, table)
                    .then(|| chain(payload))
                    .flatten()
            })?;
        found(what, listed)
    }

    /// The rules of a table, or of one chain of it, in order; none when it is not there.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn rules(&mut self, table: TableId<'_>, chain: Option<&str>) -> Result<Vec<RuleInfo>> {
        let what = "list nftables rules";
        let mut payload = Attributes::new();
        payload.put_text(RULE_TABLE, table.name);
        if let Some(chain) = chain {
            payload.put_text(RULE_CHAIN, chain);
        }
        let listed = self
            .connection
            .dump_into(what, &request(GET_RULE, table, &payload), |payload| {
                is_of(payload, RULE_TABLE, table).then(|| rule(payload)).flatten()
            })?;
        found(what, listed)
    }

    /// A chain, if it is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn chain(&mut self, table: TableId<'_>, name: &str) -> Result<Option<ChainInfo>> {
        let what = "look for an nftables chain";
        let mut payload = Attributes::new();
        payload
            .put_text(CHAIN_TABLE, table.name)
            .put_text(CHAIN_NAME, name);
        match self.connection.get(what, &request(GET_CHAIN, table, &payload))? {
            Ok(answer) => Ok(chain(&answer)),
            Err(libc::ENOENT) => Ok(None),
            Err(errno) => Err(Error::kernel(what, errno)),
        }
    }

    /// A set or map, if it is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn set(&mut self, table: TableId<'_>, name: &str) -> Result<Option<SetInfo>> {
        let what = "look for an nftables set";
        let mut payload = Attributes::new();
        payload.put_text(SET_TABLE, table.name).put_text(SET_NAME, name);
        match self.connection.get(what, &request(GET_SET, table, &payload))? {
            Ok(answer) => Ok(set(&answer)),
            Err(libc::ENOENT) => Ok(None),
            Err(errno) => Err(Error::kernel(what, errno)),
        }
    }

    /// The sets and maps of a table, without their elements; none when the table is not there.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn sets(&mut self, table: TableId<'_>) -> Result<Vec<SetInfo>> {
        let what = "list nftables sets";
        let mut payload = Attributes::new();
        payload.put_text(SET_TABLE, table.name);
        let listed = self
            .connection
            .dump_into(what, &request(GET_SET, table, &payload), |payload| {
                is_of(payload, SET_TABLE, table).then(|| set(payload)).flatten()
            })?;
        found(what, listed)
    }

    /// The elements of a set or map; none when it is not there.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn elements(&mut self, table: TableId<'_>, set: &str) -> Result<Vec<Element>> {
        let what = "list an nftables set";
        let mut payload = Attributes::new();
        payload
            .put_text(ELEMENTS_TABLE, table.name)
            .put_text(ELEMENTS_SET, set);
        let listed = self
            .connection
            .dump_into(what, &request(GET_ELEMENT, table, &payload), |payload| {
                let list = attribute(payload, ELEMENTS_LIST).unwrap_or_default();
                Some(
                    attributes(list)
                        .filter_map(|(_, item)| element(item))
                        .collect::<Vec<_>>(),
                )
            })?;
        Ok(found(what, listed)?.into_iter().flatten().collect())
    }
}

fn request<'a>(number: u16, table: TableId<'_>, payload: &'a Attributes) -> Request<'a> {
    Request {
        kind: message(number),
        flags: 0,
        family: table.family.number(),
        payload: payload.bytes(),
    }
}

/// What is not there is empty.
fn found<T>(what: &str, listed: Result<Vec<T>, i32>) -> Result<Vec<T>> {
    match listed {
        Ok(listed) => Ok(listed),
        Err(libc::ENOENT | libc::EAFNOSUPPORT) => Ok(Vec::new()),
        Err(errno) => Err(Error::kernel(what, errno)),
    }
}

/// A text without its terminating zero.
pub(super) fn text(payload: &[u8], kind: u16) -> Option<String> {
    let bytes = attribute(payload, kind)?;
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).ok()
}

fn is_of(payload: &[u8], kind: u16, table: TableId<'_>) -> bool {
    let name = attribute(payload, kind).and_then(|name| name.strip_suffix(&[0]));
    name == Some(table.name.as_bytes())
}

fn chain(payload: &[u8]) -> Option<ChainInfo> {
    let base = attribute(payload, CHAIN_HOOK).and_then(|hook| {
        Some(Base {
            kind: text(payload, CHAIN_TYPE)?,
            hook: be32(attribute(hook, HOOK_NUMBER)?)?,
            priority: i32::from_be_bytes(*attribute(hook, HOOK_PRIORITY)?.first_chunk()?),
        })
    });
    Some(ChainInfo {
        name: text(payload, CHAIN_NAME)?,
        base,
    })
}

fn rule(payload: &[u8]) -> Option<RuleInfo> {
    Some(RuleInfo {
        chain: text(payload, RULE_CHAIN)?,
        handle: u64::from_be_bytes(*attribute(payload, RULE_HANDLE)?.first_chunk()?),
        userdata: attribute(payload, RULE_USERDATA).unwrap_or_default().to_vec(),
    })
}

fn set(payload: &[u8]) -> Option<SetInfo> {
    let number = |kind| attribute(payload, kind).and_then(be32);
    Some(SetInfo {
        name: text(payload, SET_NAME)?,
        flags: number(SET_FLAGS).unwrap_or(0),
        key_type: number(SET_KEY_TYPE).unwrap_or(0),
        key_len: number(SET_KEY_LEN)?,
    })
}

fn element(item: &[u8]) -> Option<Element> {
    let key = |kind| Key::new(attribute(attribute(item, kind)?, DATA_VALUE)?);
    let flags = attribute(item, ELEMENT_FLAGS).and_then(be32).unwrap_or(0);
    let verdict = attribute(item, ELEMENT_DATA)
        .and_then(|data| attribute(data, DATA_VERDICT))
        .and_then(verdict);
    Some(Element {
        key: key(ELEMENT_KEY)?,
        key_end: key(ELEMENT_KEY_END),
        is_end: flags & FLAG_INTERVAL_END != 0,
        verdict,
    })
}

fn verdict(payload: &[u8]) -> Option<Verdict> {
    let chain = || text(payload, VERDICT_CHAIN);
    match be32(attribute(payload, VERDICT_CODE)?)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => Some(Verdict::Jump(chain()?)),
        -4 => Some(Verdict::Goto(chain()?)),
        -5 => Some(Verdict::Return),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_an_object_is_none() {
        for garbage in [&[][..], &[0; 40], &[0xff; 40], &[8, 0, 3, 0, b'x', 0, 0, 0]] {
            assert_eq!(rule(garbage), None);
            assert_eq!(set(garbage), None);
            assert_eq!(element(garbage), None);
            assert_eq!(verdict(garbage), None);
        }
        assert_eq!(chain(&[0xff; 40]), None);
    }
}
