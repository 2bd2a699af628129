//! What a change of an item's addresses comes down to.
//!
//! A set of a hundred thousand prefixes with one more is written out as that one: the rest is the same list as before.

use std::borrow::Cow;

use ipnet::IpNet;

use super::Addresses;

/// Changed prefixes up to which each is looked up in the whole list.
const FEW: usize = 64;

/// The addresses before and after, without what both have where that is cheap to see.
pub(super) fn changed<'a>(
    before: &'a Addresses,
    after: &'a Addresses,
) -> (Cow<'a, Addresses>, Cow<'a, Addresses>) {
    let whole = (Cow::Borrowed(before), Cow::Borrowed(after));
    if before.ports != after.ports {
        return whole;
    }
    let (old, new) = (before.nets.as_slice(), after.nets.as_slice());
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (
        old.get(start..).unwrap_or_default(),
        new.get(start..).unwrap_or_default(),
    );
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let end = pairs.take_while(|(old, new)| old == new).count();
    let middle = |rest: &'a [IpNet]| rest.get(..rest.len().saturating_sub(end)).unwrap_or_default();
    let (gone, come) = (middle(old_rest), middle(new_rest));
    // Everything is written as two halves, of which another prefix may be one.
    let is_plain = |net: &IpNet| net.prefix_len() > 1;
    if gone.len() + come.len() > FEW || !gone.iter().chain(come).all(is_plain) {
        return whole;
    }
    let without = |nets: &[IpNet], other: &[IpNet]| {
        let nets = nets.iter().filter(|net| !other.contains(net));
        Cow::Owned(Addresses {
            nets: nets.copied().collect(),
            ports: before.ports.clone(),
        })
    };
    (without(gone, new), without(come, old))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn addresses(bytes: &[u8]) -> Addresses {
        let nets = bytes
            .iter()
            .map(|byte| format!("10.0.0.{byte}/32").parse().unwrap());
        Addresses {
            nets: nets.collect(),
            ports: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_the_same_before_and_after(
            before in prop::collection::vec(0u8..8, 0..12),
            after in prop::collection::vec(0u8..8, 0..12),
        ) {
            let (before, after) = (addresses(&before), addresses(&after));
            let (old, new) = changed(&before, &after);
            let set = |addresses: &Addresses| addresses.nets.iter().copied().collect::<BTreeSet<IpNet>>();
            let difference = |a: &Addresses, b: &Addresses| &set(a) - &set(b);
            prop_assert_eq!(difference(&old, &new), difference(&before, &after));
            prop_assert_eq!(difference(&new, &old), difference(&after, &before));
        }
    }

    #[test]
    fn one_more_of_many_is_that_one() {
        let many: Vec<u8> = (0..200).collect();
        let (before, mut after) = (addresses(&many), addresses(&many));
        after.nets.insert(100, "192.0.2.1/32".parse().unwrap());
        let (old, new) = changed(&before, &after);
        assert_eq!((old.nets.len(), new.nets.len()), (0, 1));
    }
}
