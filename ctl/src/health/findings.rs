//! What is wrong, from what was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::meta::{NODE_IPV4_ADDRESS, NODE_IPV6_ADDRESS};
use caracal_api::selector::Selector;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::catalogue::Severity::{Fail, Warn};
use super::catalogue::{CATALOGUE, Severity};
use super::seen::{Seen, condition, is_ready};

/// The condition in which a node's agent says what is wrong while it forwards.
const DEGRADED: &str = "CaracalDegraded";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// The node that it concerns; none = the cluster.
    pub(super) node: Option<String>,
    pub(super) subject: String,
    pub(super) reason: String,
    /// The command that looks further or mends it.
    pub(super) next: String,
}

impl Finding {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "severity": match self.severity { Fail => "fail", Warn => "warn" },
            "node": self.node,
            "subject": self.subject,
            "reason": self.reason,
            "next": self.next,
        })
    }
}

/// Everything that is wrong: failures first, then by identifier and subject.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let mut found = Found::default();
    if seen.is_undefined {
        let reason = "the API server does not serve projectcalico.org/v3";
        found.cluster(
            "CRC-API-001",
            "definitions",
            reason,
            "helm install caracal-crds charts/caracal-crds",
        );
        return found.0;
    }
    datastore(seen, &mut found);
    for node in &seen.nodes {
        of_node(seen, node, &mut found);
    }
    shared_addresses(seen, &mut found);
    pools(seen, &mut found);
    addresses(seen, &mut found);
    peers(seen, &mut found);
    policies(seen, &mut found);
    let mut found = found.0;
    found.sort_by(|a, b| (a.severity, a.id, &a.subject).cmp(&(b.severity, b.id, &b.subject)));
    found
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, id: &'static str, node: Option<&str>, subject: String, reason: String, next: String) {
        let severity = CATALOGUE
            .iter()
            .find(|known| known.id == id)
            .map_or(Fail, |known| known.severity);
        self.0.push(Finding {
            id,
            severity,
            node: node.map(str::to_owned),
            subject,
            reason,
            next,
        });
    }

    fn node(&mut self, id: &'static str, node: &str, reason: impl Into<String>, next: impl Into<String>) {
        self.add(id, Some(node), format!("node {node}"), reason.into(), next.into());
    }

    fn cluster(
        &mut self,
        id: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(id, None, subject.into(), reason.into(), next.into());
    }
}

fn datastore(seen: &Seen, found: &mut Found) {
    let locked = seen
        .cluster
        .iter()
        .any(|cluster| cluster.spec.datastore_ready == Some(false));
    if locked {
        let reason = "datastoreReady is false: agents hold what they have, and no pod gets an address";
        found.cluster(
            "CRC-API-002",
            "ClusterInformation default",
            reason,
            "caracalctl datastore migrate unlock",
        );
    }
}

fn of_node(seen: &Seen, node: &Node, found: &mut Found) {
    let Some(name) = node.metadata.name.as_deref() else {
        return;
    };
    match seen.agent(name) {
        None => found.node(
            "CRC-NODE-001",
            name,
            "no agent runs on it: pods do not start, and policy is as it was",
            "kubectl get daemonset -A -l app.kubernetes.io/part-of=caracal; kubectl describe node "
                .to_owned()
                + name,
        ),
        Some(pod) if !is_ready(pod) => found.node("CRC-NODE-002", name, why(pod), logs(pod)),
        Some(_) => {
            if address(node).is_none() {
                let reason =
                    format!("no address is known ({NODE_IPV4_ADDRESS}): it has no BGP session and no tunnel");
                let pod = seen.agent(name).map(logs).unwrap_or_default();
                found.node("CRC-NODE-003", name, reason, pod);
            }
        }
    }
    if let Some(("True", reason, message)) = condition(node, "NetworkUnavailable") {
        found.node(
            "CRC-NODE-005",
            name,
            joined(reason, message),
            format!("kubectl describe node {name}"),
        );
    }
    if let Some(("True", reason, message)) = condition(node, DEGRADED) {
        found.node(
            "CRC-NODE-007",
            name,
            joined(reason, message),
            format!("kubectl describe node {name}"),
        );
    }
    if let Some((status, reason, message)) = condition(node, "Ready")
        && status != "True"
    {
        found.node(
            "CRC-NODE-006",
            name,
            joined(reason, message),
            format!("kubectl describe node {name}"),
        );
    }
    if let Some((up, down)) = seen.sessions(name)
        && !down.is_empty()
    {
        let id = if up == 0 { "CRC-BGP-002" } else { "CRC-BGP-003" };
        let reason = format!(
            "{up} of {} BGP sessions are up; not up: {}",
            up + down.len(),
            down.join(", ")
        );
        found.node(id, name, reason, format!("caracalctl bgp peers --node {name}"));
    }
}

fn joined(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Why an agent's pod is not ready: the first container that says so.
fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let lists = [
        status.and_then(|status| status.init_container_statuses.as_ref()),
        status.and_then(|status| status.container_statuses.as_ref()),
    ];
    for container in lists.into_iter().flatten().flatten() {
        let state = container.state.as_ref();
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            if reason != "PodInitializing" {
                let message = waiting.message.as_deref().unwrap_or_default();
                return format!("{} waits: {}", container.name, joined(reason, message));
            }
        }
    }
    let conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .find_map(|condition| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            Some(joined(&text(&condition.reason), &text(&condition.message))).filter(|text| !text.is_empty())
        });
    ready.unwrap_or_else(|| "its agent is not ready".to_owned())
}

fn logs(pod: &Pod) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    format!("kubectl -n {namespace} logs {name} --all-containers")
}

fn address(node: &Node) -> Option<&str> {
    let annotations = node.metadata.annotations.as_ref()?;
    let of = |key: &str| {
        annotations
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    of(NODE_IPV4_ADDRESS).or_else(|| of(NODE_IPV6_ADDRESS))
}

fn shared_addresses(seen: &Seen, found: &mut Found) {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &seen.nodes {
        if let (Some(name), Some(address)) = (node.metadata.name.as_deref(), address(node)) {
            let address = address.split('/').next().unwrap_or_default();
            nodes.entry(address).or_default().push(name);
        }
    }
    for (address, names) in nodes.iter().filter(|(_, names)| names.len() > 1) {
        let reason = format!(
            "{} have one address: routes to their pods go to only one of them",
            names.join(" and ")
        );
        found.cluster(
            "CRC-NODE-004",
            format!("address {address}"),
            reason,
            format!("kubectl get nodes {} -o wide", names.join(" ")),
        );
    }
}

fn pools(seen: &Seen, found: &mut Found) {
    let next = "kubectl get ippools.projectcalico.org -o yaml";
    let mut usable = 0;
    for pool in &seen.pools {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        let conditions = pool
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        let of = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let refused = of("Allocatable").filter(|condition| condition.status == "False");
        if pool.spec.disabled {
            continue;
        }
        match refused {
            Some(condition) => {
                let reason = joined(&condition.reason, &condition.message);
                found.cluster("CRC-IPAM-002", format!("pool {name}"), reason, next);
            }
            None => usable += 1,
        }
        if let Some(condition) = of("AddressesRunningOut").filter(|condition| condition.status == "True") {
            let reason = joined(&condition.reason, &condition.message);
            found.cluster(
                "CRC-IPAM-003",
                format!("pool {name}"),
                reason,
                "caracalctl ipam show --show-blocks",
            );
        }
    }
    let is_seen = !seen.not_seen.iter().any(|kind| kind.starts_with("ippools"));
    if usable == 0 && is_seen {
        let reason = "pods get no address: there is no IPPool, or none that addresses are assigned from";
        found.cluster("CRC-IPAM-001", "pools", reason, next);
    }
}

fn addresses(seen: &Seen, found: &mut Found) {
    let count = seen
        .addresses
        .as_ref()
        .map_or(0, |report| report.problems().count());
    if count > 0 {
        let reason = format!("{count} problems: leaks, doubles, or miscounts");
        found.cluster(
            "CRC-IPAM-004",
            "addresses",
            reason,
            "caracalctl ipam check --show-problem-ips",
        );
    }
}

fn peers(seen: &Seen, found: &mut Found) {
    for peer in &seen.peers {
        let name = peer.metadata.name.as_deref().unwrap_or_default();
        if let Some(reason) = has_no_node(seen, &peer.spec.node, &peer.spec.node_selector) {
            found.cluster(
                "CRC-BGP-001",
                format!("BGPPeer {name}"),
                reason,
                "kubectl get nodes --show-labels",
            );
        }
    }
    let mesh = seen
        .bgp
        .iter()
        .find(|configuration| configuration.metadata.name.as_deref() == Some("default"));
    let is_off =
        mesh.is_some_and(|configuration| configuration.spec.node_to_node_mesh_enabled == Some(false));
    let is_seen = !seen.not_seen.iter().any(|kind| kind.starts_with("bgppeers"));
    if is_off && seen.peers.is_empty() && seen.nodes.len() > 1 && is_seen {
        let reason =
            "nodeToNodeMeshEnabled is false and there is no BGPPeer: nodes do not learn each other's blocks";
        found.cluster(
            "CRC-BGP-004",
            "BGPConfiguration default",
            reason,
            "caracalctl get bgppeer",
        );
    }
}

/// Why no node has a peer; `None` when some has.
fn has_no_node(seen: &Seen, node: &str, text: &str) -> Option<String> {
    if !node.is_empty() {
        return (!seen.node_names().any(|name| name == node))
            .then(|| format!("its node {node} is not there"));
    }
    if text.is_empty() {
        return None;
    }
    let Ok(selector) = Selector::parse(text) else {
        return Some(format!("its nodeSelector {text:?} cannot be read"));
    };
    let labels = |node: &Node| node.metadata.labels.clone().unwrap_or_default();
    let any = seen.nodes.iter().any(|node| selector.matches(&labels(node)));
    (!any).then(|| format!("its nodeSelector {text:?} selects no node"))
}

fn policies(seen: &Seen, found: &mut Found) {
    if seen.tiers.is_empty() {
        return;
    }
    let tiers: BTreeSet<&str> = seen
        .tiers
        .iter()
        .filter_map(|tier| tier.metadata.name.as_deref())
        .collect();
    let missing = |tier: &str| !tier.is_empty() && !tiers.contains(tier);
    let named = seen
        .policies
        .iter()
        .map(|policy| (&policy.metadata, "NetworkPolicy", policy.spec.tier.as_str()));
    let global = seen
        .global_policies
        .iter()
        .map(|policy| (&policy.metadata, "GlobalNetworkPolicy", policy.spec.tier.as_str()));
    for (metadata, kind, tier) in named.chain(global).filter(|(_, _, tier)| missing(tier)) {
        let name = metadata.name.as_deref().unwrap_or_default();
        let subject = match metadata.namespace.as_deref() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        let reason = format!("its tier {tier} is not there, so it is never asked");
        found.cluster("CRC-POL-001", subject, reason, "caracalctl get tier");
    }
}
