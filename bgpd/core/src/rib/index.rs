//! The hash table from prefixes to their numbers.
//!
//! Neighbours mostly come and go together, so sixteen of them lie in one cache line; where such a line lies, nobody
//! outside can tell, as the hash has a key of its own in each process.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::IpNet;

/// Numbers by prefix. The prefixes themselves are kept elsewhere, by number.
#[derive(Debug, Default)]
pub(crate) struct Index {
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Neighbours that lie together, as bits of the last part of their number.
const TOGETHER: u32 = 4;

impl Index {
    fn hash(&self, prefix: &IpNet) -> u64 {
        // The prefix as a number: without the bits that belong to hosts.
        let (number, kept) = match prefix {
            IpNet::V4(net) => {
                let host_bits = 32 - u32::from(net.prefix_len());
                let number = net.addr().to_bits().checked_shr(host_bits).unwrap_or(0);
                let hash = u64::from(number >> TOGETHER) << 8 | u64::from(net.prefix_len());
                (number, self.hasher.hash_one(hash))
            }
            IpNet::V6(net) => {
                let host_bits = 128 - u32::from(net.prefix_len());
                let number = net.addr().to_bits().checked_shr(host_bits).unwrap_or(0);
                let low = (number & u128::from(u32::MAX)) as u32;
                (low, self.hasher.hash_one((number >> TOGETHER, net.prefix_len())))
            }
        };
        let last = u64::from(number & ((1 << TOGETHER) - 1));
        // The low bits say where it lies; the high ones are what neighbours there are told apart by.
        (kept & !((1 << TOGETHER) - 1) | last) ^ last << 58
    }

    /// Returns the number of a prefix; `of` tells the prefix of a number.
    pub(crate) fn find(&self, prefix: &IpNet, of: impl Fn(u32) -> Option<IpNet>) -> Option<u32> {
        let is_it = |number: &u32| of(*number).as_ref() == Some(prefix);
        self.numbers.find(self.hash(prefix), is_it).copied()
    }

    /// Adds a prefix that is not there.
    pub(crate) fn insert(&mut self, prefix: &IpNet, number: u32, of: impl Fn(u32) -> Option<IpNet>) {
        let hash = self.hash(prefix);
        let mut numbers = std::mem::take(&mut self.numbers);
        let rehash = |number: &u32| of(*number).map_or(0, |prefix| self.hash(&prefix));
        numbers.insert_unique(hash, number, rehash);
        self.numbers = numbers;
    }

    /// Takes a prefix out.
    pub(crate) fn remove(&mut self, prefix: &IpNet, number: u32) {
        let hash = self.hash(prefix);
        if let Ok(found) = self.numbers.find_entry(hash, |known| *known == number) {
            found.remove();
        }
    }

    /// Gives back the memory; there is nothing left in it.
    pub(crate) fn clear(&mut self) {
        self.numbers = HashTable::new();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn prefixes() -> Vec<IpNet> {
        let v4 = (0..600_u32).map(|at| format!("10.{}.{}.0/24", at >> 8, at & 255));
        let others = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/16",
            "::/0",
            "fd00::/8",
            "10.0.0.1/32",
        ];
        let v6 = (0..600_u32).map(|at| format!("fd00:0:0:{at:x}::/64"));
        let all = v4.chain(others.map(str::to_owned)).chain(v6);
        all.map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_prefix_is_found_until_it_is_taken_out() {
        let prefixes = prefixes();
        let of = |number: u32| prefixes.get(number as usize).copied();
        let mut index = Index::default();
        for (number, prefix) in (0..).zip(&prefixes) {
            assert_eq!(index.find(prefix, of), None);
            index.insert(prefix, number, of);
        }
        for (number, prefix) in (0..).zip(&prefixes) {
            assert_eq!(index.find(prefix, of), Some(number), "{prefix}");
        }
        for (number, prefix) in (0..).zip(&prefixes).step_by(2) {
            index.remove(prefix, number);
        }
        for (number, prefix) in (0..).zip(&prefixes) {
            let expected = (number % 2 == 1).then_some(number);
            assert_eq!(index.find(prefix, of), expected, "{prefix}");
        }
    }

    #[test]
    fn neighbours_lie_together_and_differ_in_what_they_are_told_apart_by() {
        let index = Index::default();
        let hashes: Vec<u64> = (0..16)
            .map(|at| index.hash(&format!("192.0.{at}.0/24").parse().unwrap()))
            .collect();
        let lines: BTreeSet<u64> = hashes.iter().map(|hash| (hash << 7 >> 7) >> TOGETHER).collect();
        let marks: BTreeSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!((lines.len(), marks.len()), (1, 16));
    }
}
