//! What `status` and `doctor` look at: objects, read once.
//!
//! A kind that may not be read is named and passed over, so that a user with few rights learns what can be known.

use caracal_api::v3::{
    BGPConfiguration, BGPPeer, BlockAffinity, CalicoNodeStatus, ClusterInformation, GlobalNetworkPolicy,
    IPPool, NetworkPolicy, Tier,
};
use caracal_datastore::{Client, Error, ListOptions, Object};
use caracal_ipam::check::{Report, Snapshot, check};
use k8s_openapi::api::core::v1::{Node, Pod};

/// Label of the node agent's pods, by which Calico's are found too.
const AGENT_LABEL: &str = "k8s-app=calico-node";

/// The objects.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Nodes.
    pub(super) nodes: Vec<Node>,
    /// Pods of the node agent.
    pub(super) agents: Vec<Pod>,
    /// Pools.
    pub(super) pools: Vec<IPPool>,
    /// Who has which block.
    pub(super) affinities: Vec<BlockAffinity>,
    /// BGP: configurations, peers, and what nodes say of their sessions.
    pub(super) bgp: Vec<BGPConfiguration>,
    /// See `bgp`.
    pub(super) peers: Vec<BGPPeer>,
    /// See `bgp`.
    pub(super) statuses: Vec<CalicoNodeStatus>,
    /// The state of the datastore.
    pub(super) cluster: Vec<ClusterInformation>,
    /// Policies and tiers.
    pub(super) tiers: Vec<Tier>,
    /// See `tiers`.
    pub(super) policies: Vec<NetworkPolicy>,
    /// See `tiers`.
    pub(super) global_policies: Vec<GlobalNetworkPolicy>,
    /// Addresses, checked; `None` when that was not possible.
    pub(super) addresses: Option<Report>,
    /// The definitions of `projectcalico.org/v3` are not served.
    pub(super) is_undefined: bool,
    /// What could not be read, and why.
    pub(super) not_seen: Vec<String>,
}

impl Seen {
    /// Reads everything.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(super) async fn load(client: &Client) -> Result<Self, Error> {
        let mut seen = Self {
            nodes: client.list(None, &ListOptions::default()).await?,
            ..Self::default()
        };
        let agents = ListOptions {
            labels: Some(AGENT_LABEL.to_owned()),
            ..ListOptions::default()
        };
        seen.agents = seen.list(client, &agents).await?;
        let all = ListOptions::default();
        seen.pools = seen.list(client, &all).await?;
        if seen.is_undefined {
            return Ok(seen);
        }
        seen.affinities = seen.list(client, &all).await?;
        seen.bgp = seen.list(client, &all).await?;
        seen.peers = seen.list(client, &all).await?;
        seen.statuses = seen.list(client, &all).await?;
        seen.cluster = seen.list(client, &all).await?;
        seen.tiers = seen.list(client, &all).await?;
        seen.policies = seen.list(client, &all).await?;
        seen.global_policies = seen.list(client, &all).await?;
        seen.addresses = match Snapshot::load(client).await {
            Ok(snapshot) => Some(check(&snapshot)),
            Err(error) => {
                seen.not_seen.push(format!("addresses ({error})"));
                None
            }
        };
        Ok(seen)
    }

    async fn list<K: Object>(&mut self, client: &Client, options: &ListOptions) -> Result<Vec<K>, Error> {
        match client.list(None, options).await {
            Ok(objects) => Ok(objects),
            Err(error) if error.is_unknown_kind() => {
                self.is_undefined = true;
                Ok(Vec::new())
            }
            Err(error) if error.is_forbidden() => {
                self.not_seen.push(format!("{} ({error})", K::plural(&())));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Names of the nodes.
    pub(super) fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| node.metadata.name.as_deref())
    }

    /// The agent's pod on a node.
    pub(super) fn agent(&self, node: &str) -> Option<&Pod> {
        let on = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        self.agents.iter().find(on)
    }

    /// What kubelet says of a node.
    pub(super) fn is_node_ready(&self, node: &str) -> bool {
        let named = self
            .nodes
            .iter()
            .find(|one| one.metadata.name.as_deref() == Some(node));
        named.is_some_and(|node| condition(node, "Ready").is_some_and(|(status, ..)| status == "True"))
    }

    /// Sessions of a node that are up, and addresses of the peers whose are not; `None` when nobody asked it.
    pub(super) fn sessions(&self, node: &str) -> Option<(usize, Vec<&str>)> {
        let of_node = |status: &&CalicoNodeStatus| status.spec.node == node;
        let bgp = self
            .statuses
            .iter()
            .filter(of_node)
            .find_map(|status| status.status.as_ref()?.bgp.as_ref())?;
        let all = || bgp.peers_v4.iter().chain(&bgp.peers_v6);
        let is_up = |state: &str| state == "Established";
        let down = all()
            .filter(|peer| !is_up(&peer.state))
            .map(|peer| peer.peer_ip.as_str())
            .collect();
        Some((all().filter(|peer| is_up(&peer.state)).count(), down))
    }
}

/// A node's condition: status, reason, message.
pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    Some((found.status.as_str(), text(&found.reason), text(&found.message)))
}

/// A pod's containers are ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}
