//! Which nodes a `peerSelector` means, and what when it suddenly means none.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::selector::Selector;

use crate::problem::Problems;
use crate::snapshot::Snapshot;

/// Nodes by BGPPeer and text of its peerSelector.
pub type Selected = BTreeMap<(String, String), BTreeSet<String>>;

/// The nodes that a selector means.
///
/// A selector that means nobody any more, while those that it meant are still there, looks like a label that was
/// removed by mistake: a cluster whose reflectors lose their label would lose all its routes at once. The nodes that it
/// last meant stay, and that is said.
pub(crate) fn nodes(
    snapshot: &Snapshot,
    object: &str,
    text: &str,
    selector: &Selector,
    selected: &mut Selected,
    problems: &mut Problems,
) -> BTreeSet<String> {
    let key = (object.to_owned(), text.to_owned());
    let all = snapshot.nodes.iter();
    let mut found: BTreeSet<String> = all
        .filter(|(_, node)| selector.matches(&node.metadata.labels.as_ref()))
        .map(|(name, _)| name.clone())
        .collect();
    if found.is_empty()
        && let Some(before) = snapshot.selected.get(&key)
    {
        let still_there = before.iter().filter(|name| snapshot.nodes.contains_key(*name));
        found = still_there.cloned().collect();
        if !found.is_empty() {
            let names: Vec<&str> = found.iter().map(String::as_str).collect();
            let remedy = format!(
                "label the nodes again, or delete the BGPPeer to end these sessions; those with {} stay meanwhile",
                names.join(", ")
            );
            problems.add(
                object,
                "spec.peerSelector",
                text,
                "selects no node any more",
                remedy,
            );
        }
    }
    if !found.is_empty() {
        selected.insert(key, found.clone());
    }
    found
}
