//! The path attributes block of an UPDATE: walking it, type codes and flags (RFC 4271 §4.3, §5).

use super::cursor::Cursor;

/// ORIGIN.
pub const ORIGIN: u8 = 1;
/// AS_PATH.
pub const AS_PATH: u8 = 2;
/// NEXT_HOP.
pub const NEXT_HOP: u8 = 3;
/// MULTI_EXIT_DISC.
pub const MULTI_EXIT_DISC: u8 = 4;
/// LOCAL_PREF.
pub const LOCAL_PREF: u8 = 5;
/// ATOMIC_AGGREGATE.
pub const ATOMIC_AGGREGATE: u8 = 6;
/// AGGREGATOR.
pub const AGGREGATOR: u8 = 7;
/// COMMUNITIES (RFC 1997).
pub const COMMUNITIES: u8 = 8;
/// ORIGINATOR_ID (RFC 4456).
pub const ORIGINATOR_ID: u8 = 9;
/// CLUSTER_LIST (RFC 4456).
pub const CLUSTER_LIST: u8 = 10;
/// MP_REACH_NLRI (RFC 4760).
pub const MP_REACH_NLRI: u8 = 14;
/// MP_UNREACH_NLRI (RFC 4760).
pub const MP_UNREACH_NLRI: u8 = 15;
/// EXTENDED COMMUNITIES (RFC 4360).
pub const EXTENDED_COMMUNITIES: u8 = 16;
/// AS4_PATH (RFC 6793).
pub const AS4_PATH: u8 = 17;
/// AS4_AGGREGATOR (RFC 6793).
pub const AS4_AGGREGATOR: u8 = 18;
/// LARGE_COMMUNITY (RFC 8092).
pub const LARGE_COMMUNITY: u8 = 32;
/// ONLY_TO_CUSTOMER (RFC 9234).
pub const ONLY_TO_CUSTOMER: u8 = 35;

/// Not every speaker knows it.
pub const FLAG_OPTIONAL: u8 = 0x80;
/// It goes on to other speakers.
pub const FLAG_TRANSITIVE: u8 = 0x40;
/// A speaker on the way did not know it.
pub const FLAG_PARTIAL: u8 = 0x20;
/// Its length takes two octets.
pub const FLAG_EXTENDED_LENGTH: u8 = 0x10;

/// Returns the Optional and Transitive flags of an attribute that is known here.
pub fn category(kind: u8) -> Option<u8> {
    match kind {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => Some(FLAG_TRANSITIVE),
        MULTI_EXIT_DISC | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH_NLRI | MP_UNREACH_NLRI => {
            Some(FLAG_OPTIONAL)
        }
        AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR | LARGE_COMMUNITY
        | ONLY_TO_CUSTOMER => Some(FLAG_OPTIONAL | FLAG_TRANSITIVE),
        _ => None,
    }
}

/// One attribute as it stands in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Flags.
    pub flags: u8,
    /// Type code.
    pub kind: u8,
    /// Value.
    pub value: &'a [u8],
    /// The whole of it, for the data of a NOTIFICATION.
    pub octets: &'a [u8],
}

/// The end of a block does not coincide with the end of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// Walks a block; after an [`Overrun`] it ends.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    cursor: Cursor<'a>,
}

/// Returns a walk over a block.
pub fn walk(block: &[u8]) -> Walk<'_> {
    Walk {
        cursor: Cursor::new(block),
    }
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Option<Attribute<'a>> {
        let before = self.cursor.rest();
        let flags = self.cursor.u8()?;
        let kind = self.cursor.u8()?;
        let length = if flags & FLAG_EXTENDED_LENGTH == 0 {
            usize::from(self.cursor.u8()?)
        } else {
            usize::from(self.cursor.u16()?)
        };
        let value = self.cursor.take(length)?;
        let used = before.len() - self.cursor.rest().len();
        Some(Attribute {
            flags,
            kind,
            value,
            octets: before.get(..used)?,
        })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Attribute<'a>, Overrun>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let attribute = self.step();
        if attribute.is_none() {
            self.cursor = Cursor::new(&[]);
        }
        Some(attribute.ok_or(Overrun))
    }
}

/// Splits a well-formed ascending block before the first attribute whose type is not below `kind`.
pub fn split_before(block: &[u8], kind: u8) -> (&[u8], &[u8]) {
    let before: usize = walk(block)
        .map_while(Result::ok)
        .take_while(|attribute| attribute.kind < kind)
        .map(|attribute| attribute.octets.len())
        .sum();
    block.split_at_checked(before).unwrap_or((block, &[]))
}

/// Returns the value of an attribute in a well-formed block.
pub fn find(block: &[u8], kind: u8) -> Option<&[u8]> {
    walk(block)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind == kind)
        .map(|attribute| attribute.value)
}
