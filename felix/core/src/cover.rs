//! Which prefixes of a changing collection no other prefix of it contains.
//!
//! For sets that may not hold one prefix within another, as nftables' interval sets. Owns the bookkeeping alone: each
//! change of the collection gives the changes of what is to be written.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// The collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    nets: BTreeSet<IpNet>,
}

/// What is to be written after a change. Removals must come first: what is added may lie within what is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// No longer to be written.
    pub removed: Vec<IpNet>,
    /// To be written.
    pub added: Vec<IpNet>,
}

impl Cover {
    /// Adds a prefix. Adding what is there changes nothing.
    pub fn insert(&mut self, net: IpNet) -> Changes {
        let net = net.trunc();
        if !self.nets.insert(net) || self.is_covered(&net) {
            return Changes::default();
        }
        Changes {
            removed: self.outermost_within(&net),
            added: vec![net],
        }
    }

    /// Removes a prefix. Removing what is not there changes nothing.
    pub fn remove(&mut self, net: IpNet) -> Changes {
        let net = net.trunc();
        if !self.nets.remove(&net) || self.is_covered(&net) {
            return Changes::default();
        }
        Changes {
            removed: vec![net],
            added: self.outermost_within(&net),
        }
    }

    /// The prefixes that no other contains, in order.
    pub fn outermost(&self) -> impl Iterator<Item = &IpNet> {
        self.nets.iter().filter(|net| !self.is_covered(net))
    }

    /// Some other prefix contains this one.
    fn is_covered(&self, net: &IpNet) -> bool {
        let mut around = net.supernet();
        while let Some(outer) = around {
            if self.nets.contains(&outer) {
                return true;
            }
            around = outer.supernet();
        }
        false
    }

    /// The outermost of the prefixes within this one, itself left out.
    fn outermost_within(&self, net: &IpNet) -> Vec<IpNet> {
        let mut found: Vec<IpNet> = Vec::new();
        // In order, a prefix comes before those it contains.
        for inner in self.nets.range(net..) {
            if !net.contains(inner) {
                break;
            }
            if inner != net && found.last().is_none_or(|last| !last.contains(inner)) {
                found.push(*inner);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(nets: &BTreeSet<IpNet>) -> BTreeSet<IpNet> {
        let is_outermost = |net: &&IpNet| !nets.iter().any(|other| other != *net && other.contains(*net));
        nets.iter().filter(is_outermost).copied().collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_no_other_contains(
            steps in prop::collection::vec((any::<bool>(), 0u8..16, 24u8..=32, any::<bool>()), 0..60),
        ) {
            let (mut cover, mut nets, mut written) = (Cover::default(), BTreeSet::new(), BTreeSet::new());
            for (is_insert, byte, length, is_v6) in steps {
                let net: IpNet = if is_v6 {
                    format!("fd00::{byte:x}/{}", length + 96).parse().unwrap()
                } else {
                    format!("10.0.0.{byte}/{length}").parse().unwrap()
                };
                let changes = if is_insert {
                    nets.insert(net.trunc());
                    cover.insert(net)
                } else {
                    nets.remove(&net.trunc());
                    cover.remove(net)
                };
                for net in &changes.removed {
                    prop_assert!(written.remove(net));
                }
                for net in &changes.added {
                    prop_assert!(written.insert(*net));
                }
                prop_assert_eq!(&written, &naive(&nets));
                prop_assert_eq!(cover.outermost().copied().collect::<BTreeSet<_>>(), naive(&nets));
            }
        }
    }
}
