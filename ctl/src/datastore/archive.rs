//! The form of an export: three sections between lines `===`, as `calicoctl datastore migrate` writes them.
//!
//! Resources as YAML documents; the ClusterInformation as JSON; what address management stores as JSON, each entry with
//! the key that it has in etcd. Source: `calicoctl/calicoctl/commands/datastore/migrate`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The line between sections.
pub(super) const SEPARATOR: &str = "===";

/// Kinds in the order in which they are written and applied, by their plural.
pub(super) const ORDER: &[&str] = &[
    "IPPool",
    "BGPPeer",
    "Tier",
    "GlobalNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "KubeControllersConfiguration",
    "NetworkPolicy",
    "StagedNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "NetworkSet",
    "Node",
    "BGPConfiguration",
    "FelixConfiguration",
    "IPReservation",
    "BGPFilter",
];

/// What address management stores.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Addresses {
    pub(super) block_affinities: Vec<Entry>,
    pub(super) blocks: Vec<Entry>,
    pub(super) handles: Vec<Entry>,
    pub(super) config: Option<Entry>,
}

/// One object with its key in etcd.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    #[serde(rename = "TTL")]
    pub(super) ttl: i64,
}

/// An export as its three texts.
pub(super) struct Sections<'a> {
    pub(super) resources: &'a str,
    pub(super) information: &'a str,
    pub(super) addresses: &'a str,
}

/// The sections of a text; `None` when they are not three.
pub(super) fn sections(text: &str) -> Option<Sections<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    // Without resources the text begins with the line that ends them.
    if let Some(after) = text.strip_prefix("===\n") {
        parts.push("");
        rest = after;
    }
    while let Some((before, after)) = rest.split_once("\n===\n") {
        parts.push(before);
        rest = after;
    }
    parts.push(rest);
    match parts.as_slice() {
        [resources, information, addresses] => Some(Sections {
            resources,
            information,
            addresses,
        }),
        _ => None,
    }
}

/// The owner and block of an affinity's key: `/calico/ipam/v2/host/<host>/ipv4/block/10.0.0.0-26`.
pub(super) fn affinity_of_key(key: &str) -> Option<(String, String)> {
    let (_, rest) = key.split_once("/host/").or_else(|| key.split_once("/virtual/"))?;
    let (host, rest) = rest.split_once("/ipv")?;
    let (_, block) = rest.split_once("/block/")?;
    Some((host.to_owned(), cidr_of_key(block)))
}

/// A CIDR in a key, whose slash is a dash.
fn cidr_of_key(text: &str) -> String {
    match text.rsplit_once('-') {
        Some((address, length)) => format!("{address}/{length}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_three() {
        let it = sections("a: 1\n---\nb: 2\n===\n{}\n===\n{\"blocks\": []}\n").unwrap();
        assert_eq!((it.resources, it.information), ("a: 1\n---\nb: 2", "{}"));
        assert_eq!(sections("===\n{}\n===\n{}\n").unwrap().resources, "");
        for text in ["", "a\n===\nb\n", "a\n===\nb\n===\nc\n===\nd\n"] {
            assert!(sections(text).is_none(), "{text}");
        }
    }

    #[test]
    fn keys_name_owner_and_block() {
        assert_eq!(
            affinity_of_key("/calico/ipam/v2/host/n-1/ipv4/block/10.0.0.0-26"),
            Some(("n-1".to_owned(), "10.0.0.0/26".to_owned()))
        );
        assert_eq!(
            affinity_of_key("/calico/ipam/v2/virtual/load-balancer/ipv6/block/fd00::-122"),
            Some(("load-balancer".to_owned(), "fd00::/122".to_owned()))
        );
        assert_eq!(affinity_of_key("/x"), None);
    }
}
