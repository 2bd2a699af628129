//! What the tables of `get` show of each kind. Source of headings and cells: calicoctl's resource managers.

use caracal_api::kinds::Kind;
use serde_json::Value;

use crate::error::Failure;

/// Longest text of a list of networks.
const JOINED_LEN_MAX: usize = 80;

/// Headings of a kind's tables.
fn headings(kind: &str, wide: bool) -> &'static [&'static str] {
    match (kind, wide) {
        ("BGPConfiguration", _) => &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
        ("BGPFilter", _) => &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"],
        ("BGPPeer", _) => &["NAME", "PEERIP", "NODE", "ASN"],
        ("CalicoNodeStatus", false) | ("HostEndpoint", false) => &["NAME", "NODE"],
        ("CalicoNodeStatus", true) => &["NAME", "NODE", "CLASSES"],
        ("ClusterInformation", _) => &[
            "NAME",
            "CLUSTERGUID",
            "CLUSTERTYPE",
            "CALICOVERSION",
            "DATASTOREREADY",
        ],
        ("HostEndpoint", true) => &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
        ("IPAMConfiguration", false) => &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
        ("IPAMConfiguration", true) => &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
        ("IPPool", false) => &["NAME", "CIDR", "SELECTOR"],
        ("IPPool", true) => &[
            "NAME",
            "CIDR",
            "NAT",
            "IPIPMODE",
            "VXLANMODE",
            "DISABLED",
            "DISABLEBGPEXPORT",
            "SELECTOR",
            "ASSIGNMENTMODE",
        ],
        ("IPReservation", true) => &["NAME", "CIDRS"],
        ("GlobalNetworkSet" | "NetworkSet", true) => &["NAME", "NETS"],
        ("Node", true) => &["NAME", "ASN", "IPV4", "IPV6"],
        ("Profile", true) => &["NAME", "LABELS"],
        ("StagedKubernetesNetworkPolicy", true) => &["NAME", "PODSELECTOR"],
        (
            "GlobalNetworkPolicy" | "NetworkPolicy" | "StagedGlobalNetworkPolicy" | "StagedNetworkPolicy",
            false,
        ) => &["NAME", "TIER"],
        (
            "GlobalNetworkPolicy" | "NetworkPolicy" | "StagedGlobalNetworkPolicy" | "StagedNetworkPolicy",
            true,
        ) => &["NAME", "TIER", "ORDER", "SELECTOR"],
        ("Tier", _) => &["NAME", "ORDER"],
        ("WorkloadEndpoint", false) => &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
        ("WorkloadEndpoint", true) => &[
            "NAME",
            "WORKLOAD",
            "NODE",
            "NETWORKS",
            "INTERFACE",
            "PROFILES",
            "NATS",
        ],
        ("BlockAffinity", _) => &["NAME", "CIDR", "NODE", "STATE"],
        ("IPAMBlock", _) => &["NAME", "CIDR", "AFFINITY"],
        _ => &["NAME"],
    }
}

/// Headings of a table, with NAMESPACE first when asked for.
pub(crate) fn select(kind: &Kind, wide: bool, with_namespace: bool) -> Vec<&'static str> {
    let mut selected = Vec::new();
    if with_namespace && kind.namespaced {
        selected.push("NAMESPACE");
    }
    selected.extend(headings(kind.kind, wide));
    selected
}

/// The headings that a user chose.
pub(crate) fn custom(kind: &Kind, names: &str) -> Result<Vec<&'static str>, Failure> {
    let mut valid: Vec<&'static str> = headings(kind.kind, true).to_vec();
    if kind.namespaced {
        valid.push("NAMESPACE");
    }
    if kind.kind == "WorkloadEndpoint" {
        valid.push("ORCHESTRATOR");
    }
    names
        .split(',')
        .map(|name| {
            valid
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))
                .copied()
                .ok_or_else(|| {
                    Failure::new(format!(
                        "unknown heading {name}, valid values are: {}",
                        valid.join(", ")
                    ))
                })
        })
        .collect()
}

/// What stands under a heading for an object. `default_as` is the AS number of nodes without one.
pub(crate) fn cell(kind: &str, heading: &str, object: &Value, default_as: &str) -> String {
    let at = |pointer: &str| plain(object.pointer(pointer));
    let or = |text: String, otherwise: &str| {
        if text.is_empty() {
            otherwise.to_owned()
        } else {
            text
        }
    };
    match (kind, heading) {
        (_, "NAME") => at("/metadata/name"),
        (_, "NAMESPACE") => at("/metadata/namespace"),
        ("BGPConfiguration", "LOGSEVERITY") => at("/spec/logSeverityScreen"),
        ("BGPConfiguration", "MESHENABLED") => or(at("/spec/nodeToNodeMeshEnabled"), "-"),
        ("BGPConfiguration", "ASNUMBER") => or(at("/spec/asNumber"), "-"),
        ("BGPFilter", heading) => {
            let list = match heading {
                "NUMEXPORTV4" => "/spec/exportV4",
                "NUMIMPORTV4" => "/spec/importV4",
                "NUMEXPORTV6" => "/spec/exportV6",
                _ => "/spec/importV6",
            };
            object
                .pointer(list)
                .and_then(Value::as_array)
                .map_or(0, Vec::len)
                .to_string()
        }
        ("BGPPeer", "PEERIP") => at("/spec/peerIP"),
        ("BGPPeer", "NODE") => or(or(at("/spec/node"), &at("/spec/nodeSelector")), "(global)"),
        ("BGPPeer", "ASN") => or(at("/spec/asNumber"), "0"),
        ("Node", "ASN") => match object.pointer("/spec/bgp") {
            Some(_) => or(at("/spec/bgp/asNumber"), &format!("({default_as})")),
            None => String::new(),
        },
        ("Node", "IPV4") => at("/spec/bgp/ipv4Address"),
        ("Node", "IPV6") => at("/spec/bgp/ipv6Address"),
        ("IPPool", "IPIPMODE") => or(at("/spec/ipipMode"), "Never"),
        ("IPPool", "VXLANMODE") => or(at("/spec/vxlanMode"), "Never"),
        ("IPPool", "NAT") => or(at("/spec/natOutgoing"), "false"),
        ("IPPool", "DISABLED") => or(at("/spec/disabled"), "false"),
        ("IPPool", "DISABLEBGPEXPORT") => or(at("/spec/disableBGPExport"), "false"),
        ("IPPool", "SELECTOR") => or(at("/spec/nodeSelector"), "all()"),
        ("IPPool", "ASSIGNMENTMODE") => or(at("/spec/assignmentMode"), "Automatic"),
        ("IPAMConfiguration", heading @ ("STRICTAFFINITY" | "AUTOALLOCATEBLOCKS")) => or(
            at(if heading == "STRICTAFFINITY" {
                "/spec/strictAffinity"
            } else {
                "/spec/autoAllocateBlocks"
            }),
            "false",
        ),
        ("IPAMConfiguration", _) => or(at("/spec/maxBlocksPerHost"), "0"),
        ("ClusterInformation", "DATASTOREREADY") => or(at("/spec/datastoreReady"), "<nil>"),
        ("ClusterInformation", "CLUSTERGUID") => at("/spec/clusterGUID"),
        ("ClusterInformation", "CLUSTERTYPE") => at("/spec/clusterType"),
        ("ClusterInformation", _) => at("/spec/calicoVersion"),
        ("Profile", "LABELS") => labels(object.pointer("/spec/labelsToApply")),
        ("StagedKubernetesNetworkPolicy", "PODSELECTOR") => {
            labels(object.pointer("/spec/podSelector/matchLabels"))
        }
        ("WorkloadEndpoint", "WORKLOAD") => or(at("/spec/workload"), &at("/spec/pod")),
        ("WorkloadEndpoint", "NETWORKS") => at("/spec/ipNetworks"),
        ("WorkloadEndpoint", "INTERFACE") => at("/spec/interfaceName"),
        ("WorkloadEndpoint", "NATS") => natted(object),
        ("WorkloadEndpoint", "ORCHESTRATOR") => at("/spec/orchestrator"),
        (_, "ORDER") => or(at("/spec/order"), "<nil>"),
        (_, "TIER") => or(at("/spec/tier"), "default"),
        (_, "NETS") => shortened(&at("/spec/nets")),
        (_, "CIDRS") => shortened(&at("/spec/reservedCIDRs")),
        (_, "IPS") => at("/spec/expectedIPs"),
        (_, "INTERFACE") => at("/spec/interfaceName"),
        // The remaining headings are named as their fields.
        (_, heading) => at(&format!("/spec/{}", heading.to_ascii_lowercase())),
    }
}

/// A value as a cell: lists joined by commas.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null | Value::Object(_)) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| plain(Some(item)))
            .collect::<Vec<_>>()
            .join(","),
        Some(other) => other.to_string(),
    }
}

fn labels(map: Option<&Value>) -> String {
    let mut pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", plain(Some(value))))
        .collect();
    pairs.sort();
    pairs.join(",")
}

fn natted(object: &Value) -> String {
    let pairs = object
        .pointer("/spec/ipNATs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    pairs
        .map(|pair| plain(pair.get("externalIP")))
        .collect::<Vec<_>>()
        .join(",")
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= JOINED_LEN_MAX {
        return text.to_owned();
    }
    let kept: String = text.chars().take(JOINED_LEN_MAX - 3).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_api::kinds;
    use serde_json::json;

    #[test]
    fn cells_have_calicoctls_stand_ins_for_what_is_absent() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"bgp": {}}});
        for (kind, heading, expected) in [
            ("BGPPeer", "NODE", "(global)"),
            ("BGPPeer", "ASN", "0"),
            ("IPPool", "IPIPMODE", "Never"),
            ("Node", "ASN", "(64512)"),
            ("Tier", "ORDER", "<nil>"),
            ("ClusterInformation", "DATASTOREREADY", "<nil>"),
            ("BGPConfiguration", "MESHENABLED", "-"),
        ] {
            assert_eq!(
                cell(kind, heading, &object, "64512"),
                expected,
                "{kind} {heading}"
            );
        }
    }

    #[test]
    fn every_kind_has_cells_for_its_headings() {
        for kind in kinds::ALL {
            for heading in select(kind, true, true) {
                assert!(!heading.is_empty());
                let _ = cell(kind.kind, heading, &json!({}), "");
            }
        }
    }

    #[test]
    fn an_unknown_heading_lists_the_known_ones() {
        let pool = kinds::of_manifest("IPPool").unwrap();
        assert_eq!(custom(pool, "name,CIDR").unwrap(), ["NAME", "CIDR"]);
        let message = custom(pool, "COLOUR").unwrap_err().to_string();
        assert!(
            message.starts_with("unknown heading COLOUR, valid values are: NAME, CIDR"),
            "{message}"
        );
    }
}
