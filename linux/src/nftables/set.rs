//! Sets and maps: their kinds, keys and elements.

use std::cmp::Ordering;

use super::expression::Verdict;
use super::numbers::*;
use crate::nfnetlink::Attributes;

/// What a set or map holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetSpec {
    /// Number by which the `nft` program knows the key's type; six bits for each part of a concatenation.
    pub key_type: u32,
    /// Length of the key, parts padded to four bytes each.
    pub key_len: u32,
    /// Lengths of the parts of a concatenation; empty for a key of one part.
    pub fields: Vec<u32>,
    /// Elements are intervals.
    pub is_interval: bool,
    /// Elements have verdicts.
    pub is_verdict_map: bool,
}

impl SetSpec {
    pub(super) fn flags(&self) -> u32 {
        let interval = if self.is_interval { SET_INTERVAL } else { 0 };
        let concat = if self.is_interval && !self.fields.is_empty() {
            SET_CONCAT
        } else {
            0
        };
        let map = if self.is_verdict_map { SET_MAP } else { 0 };
        interval | concat | map
    }
}

/// Longest key: an IPv6 address with protocol and port.
const KEY_MAX: usize = 24;

/// The bytes of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    bytes: [u8; KEY_MAX],
    len: u8,
}

impl Key {
    /// A key of at most 24 bytes; what is longer is not one that a set of this crate can have.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        let len = u8::try_from(value.len()).ok()?;
        Some(Self { bytes, len })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// An element of a set or map. In order, the end of an interval comes before the beginning of one that touches it: the
/// kernel takes neighbours in no other order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The key, or the first of an interval.
    pub key: Key,
    /// The last of an interval of concatenated keys.
    pub key_end: Option<Key>,
    /// The key is the first behind an interval that begins at the element before it.
    pub is_end: bool,
    /// What a map has for the key.
    pub verdict: Option<Verdict>,
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |element: &Self| (element.key, !element.is_end, element.key_end);
        place(self)
            .cmp(&place(other))
            .then_with(|| self.verdict.cmp(&other.verdict))
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Element {
    /// An element of a key alone.
    #[must_use]
    pub const fn of(key: Key) -> Self {
        Self {
            key,
            key_end: None,
            is_end: false,
            verdict: None,
        }
    }

    pub(super) fn put(&self, out: &mut Attributes) {
        let item = out.open(LIST_ITEM);
        if self.is_end {
            out.put_u32(ELEMENT_FLAGS, FLAG_INTERVAL_END);
        }
        let key = out.open(ELEMENT_KEY);
        out.put(DATA_VALUE, self.key.bytes());
        out.close(key);
        if let Some(end) = &self.key_end {
            let key = out.open(ELEMENT_KEY_END);
            out.put(DATA_VALUE, end.bytes());
            out.close(key);
        }
        if let Some(verdict) = &self.verdict {
            let data = out.open(ELEMENT_DATA);
            verdict.put(out);
            out.close(data);
        }
        out.close(item);
    }
}
