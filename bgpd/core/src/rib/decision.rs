//! The decision process (RFC 4271 §9.1.2.2, RFC 4456 §9), as elimination: what is best does not depend on the order in
//! which paths came, MED included.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::path::Path;
use super::way::Way;
use crate::policy::Source;
use crate::wire::canonical::DEFAULT_LOCAL_PREF;

/// What the decision process chose, as positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) best: usize,
    /// The best and those as good as it up to the tie-breaks (RFC 4271 §9.1.2.2 f): next hops of one kernel route.
    pub(crate) equals: SmallVec<[usize; 2]>,
}

/// Settings of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) always_compare_med: bool,
    pub(crate) multipath_max: usize,
}

type Candidates<'a> = SmallVec<[(usize, &'a Path, u32); 4]>;

/// Chooses among paths. `cost` is the metric of the way to a path's next hop, `None` where there is no way.
pub(crate) fn select(paths: &[Path], rules: Rules, cost: impl Fn(&Way) -> Option<u32>) -> Option<Selection> {
    if let [only] = paths {
        let is_usable = only.is_usable() && cost(&only.used).is_some();
        return is_usable.then(|| Selection {
            best: 0,
            equals: smallvec::smallvec![0],
        });
    }
    let mut left: Candidates<'_> = paths
        .iter()
        .enumerate()
        .filter(|(_, path)| path.is_usable())
        .filter_map(|(index, path)| Some((index, path, cost(&path.used)?)))
        .collect();
    // RFC 9494 §4.3: behind every other route, whoever kept it for so long.
    keep_least(&mut left, |(_, path, _)| path.used.attrs.is_long_lived_stale());
    keep_least(&mut left, |(_, path, _)| Reverse(path.used.preference));
    // Sources without BGP attributes, when preferences are the same.
    keep_least(&mut left, |(_, path, _)| match path.used.source {
        Source::Static => 0,
        Source::Direct => 1,
        Source::Kernel => 2,
        Source::Bgp => 3_u8,
    });
    keep_least(&mut left, |(_, path, _)| {
        Reverse(path.used.attrs.local_pref().unwrap_or(DEFAULT_LOCAL_PREF))
    });
    // a, b.
    keep_least(&mut left, |(_, path, _)| path.used.attrs.path_len);
    keep_least(&mut left, |(_, path, _)| path.used.attrs.origin);
    compare_med(&mut left, rules.always_compare_med);
    // d, e.
    keep_least(&mut left, |(_, path, _)| {
        !path.used.peer().is_some_and(|peer| peer.ebgp)
    });
    keep_least(&mut left, |(_, _, cost)| *cost);
    let mut equals: SmallVec<[usize; 2]> = left.iter().map(|(index, ..)| *index).collect();
    // f with RFC 4456 §9: ORIGINATOR_ID stands for the identifier, then the shorter CLUSTER_LIST; g.
    left.sort_by_key(|(_, path, _)| {
        let identifier = path.used.peer().map(|peer| peer.router_id);
        let identifier = path.used.attrs.originator().or(identifier);
        (
            identifier.unwrap_or(Ipv4Addr::UNSPECIFIED),
            path.used.attrs.cluster_len,
            path.used.peer().map(|peer| peer.address),
            path.path_id,
        )
    });
    let best = left.first()?.0;
    if equals.len() > 1 {
        equals.clear();
        equals.extend(left.iter().take(rules.multipath_max).map(|(index, ..)| *index));
    }
    Some(Selection { best, equals })
}

fn keep_least<'a, K: Ord>(left: &mut Candidates<'a>, key: impl Fn(&(usize, &'a Path, u32)) -> K) {
    if left.len() > 1
        && let Some(least) = left.iter().map(&key).min()
    {
        left.retain(|candidate| key(candidate) == least);
    }
}

/// c: MED counts between paths of one neighbouring AS; a missing one is the lowest.
fn compare_med(left: &mut Candidates<'_>, always: bool) {
    if left.len() < 2 {
        return;
    }
    let group = |path: &Path| {
        if always {
            None
        } else {
            path.used.attrs.neighbor_as()
        }
    };
    let mut least: BTreeMap<Option<u32>, u32> = BTreeMap::new();
    for (_, path, _) in left.iter() {
        let med = path.used.attrs.med().unwrap_or(0);
        let entry = least.entry(group(path)).or_insert(med);
        *entry = med.min(*entry);
    }
    left.retain(|(_, path, _)| least.get(&group(path)) == Some(&path.used.attrs.med().unwrap_or(0)));
}

#[cfg(test)]
mod tests;
