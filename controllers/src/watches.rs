//! The watches of everything that controllers look at, as one stream of changes to the [`Cluster`].
//!
//! Nothing is buffered between the API server and the snapshot. A change that touches only what no controller reads
//! (a heartbeat in a Node's status, a container's state) is taken in without waking anybody.

use std::collections::BTreeMap;

use caracal_api::v3;
use caracal_datastore::{Client, Event, Key, Object, WatchScope};
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::cluster::{Cluster, Kind, PodView, PolicyKey, tier_of};

/// What the watches tell.
pub enum Message {
    /// A change to take in.
    Change(Change),
    /// One more kind is listed completely.
    InSync,
    /// A kind cannot be followed at the moment; its watch tries again by itself.
    Trouble {
        /// The kind.
        kind: &'static str,
        /// What happened.
        problem: String,
    },
}

/// One change.
pub struct Change {
    kind: Kind,
    apply: Box<dyn FnOnce(&mut Cluster) -> bool + Send>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Change(change) => write!(f, "Change({:?})", change.kind),
            Self::InSync => f.write_str("InSync"),
            Self::Trouble { kind, problem } => write!(f, "Trouble({kind}, {problem})"),
        }
    }
}

impl Change {
    /// Takes the change in; the kind to wake for, if it says anything new.
    pub fn take_in(self, cluster: &mut Cluster) -> Option<Kind> {
        (self.apply)(cluster).then_some(self.kind)
    }
}

/// All watches. The stream never ends; its length is the number of kinds.
pub type Stream = SelectAll<BoxStream<'static, Message>>;

/// Follows all kinds.
pub fn all(client: &Client) -> Stream {
    futures::stream::select_all([
        follow(client, "Pod", Kind::Pod, |cluster, key, pod: Option<Pod>| {
            put(&mut cluster.pods, key, pod.as_ref().map(PodView::of))
        }),
        follow(client, "Node", Kind::Node, |cluster, key, node: Option<Node>| {
            put(&mut cluster.nodes, key.name, node.map(without_heartbeats))
        }),
        follow(client, "IPAMBlock", Kind::Block, |cluster, key, object| {
            put(&mut cluster.blocks, key.name, object)
        }),
        follow(client, "BlockAffinity", Kind::Affinity, |cluster, key, object| {
            put(&mut cluster.affinities, key.name, object)
        }),
        follow(client, "IPPool", Kind::Pool, |cluster, key, object| {
            put(&mut cluster.pools, key.name, object)
        }),
        follow(
            client,
            "IPReservation",
            Kind::Reservation,
            |cluster, key, object| put(&mut cluster.reservations, key.name, object),
        ),
        follow(
            client,
            "IPAMConfiguration",
            Kind::IpamConfiguration,
            |cluster, key, object| single(&mut cluster.ipam_configuration, &key, object),
        ),
        follow(
            client,
            "HostEndpoint",
            Kind::HostEndpoint,
            |cluster, key, object| put(&mut cluster.host_endpoints, key.name, object),
        ),
        follow(client, "Tier", Kind::Tier, |cluster, key, object| {
            put(&mut cluster.tiers, key.name, object)
        }),
        follow(
            client,
            "CalicoNodeStatus",
            Kind::NodeStatus,
            |cluster, key, object| put(&mut cluster.node_statuses, key.name, object),
        ),
        follow(
            client,
            "ClusterInformation",
            Kind::ClusterInformation,
            |cluster, key, object| single(&mut cluster.cluster_information, &key, object),
        ),
        follow(
            client,
            "KubeControllersConfiguration",
            Kind::Configuration,
            |cluster, key, object| single(&mut cluster.configuration, &key, object),
        ),
        policies::<v3::NetworkPolicy>(client, "NetworkPolicy", |policy| &policy.spec.tier),
        policies::<v3::GlobalNetworkPolicy>(client, "GlobalNetworkPolicy", |policy| &policy.spec.tier),
        policies::<v3::StagedNetworkPolicy>(client, "StagedNetworkPolicy", |policy| &policy.spec.tier),
        policies::<v3::StagedGlobalNetworkPolicy>(client, "StagedGlobalNetworkPolicy", |policy| {
            &policy.spec.tier
        }),
    ])
}

fn policies<K: Object>(
    client: &Client,
    kind: &'static str,
    tier: fn(&K) -> &String,
) -> BoxStream<'static, Message> {
    follow(
        client,
        kind,
        Kind::Policy,
        move |cluster, key, policy: Option<K>| {
            let tier = policy.as_ref().map(|policy| tier_of(tier(policy)));
            put(&mut cluster.policies, PolicyKey { kind, key }, tier)
        },
    )
}

fn follow<K: Object>(
    client: &Client,
    name: &'static str,
    kind: Kind,
    apply: impl Fn(&mut Cluster, Key, Option<K>) -> bool + Clone + Send + 'static,
) -> BoxStream<'static, Message> {
    let change = move |key, object| {
        let apply = apply.clone();
        Message::Change(Change {
            kind,
            apply: Box::new(move |cluster| apply(cluster, key, object)),
        })
    };
    let message = move |event| match event {
        Event::Applied(object) => change(Key::of(&object), Some(object)),
        Event::Deleted(key) => change(key, None),
        Event::InSync => Message::InSync,
        Event::Trouble(problem) => Message::Trouble { kind: name, problem },
    };
    client.watch::<K>(WatchScope::default()).map(message).boxed()
}

/// Puts a value in its place or takes it away; true when that changes anything.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        None => map.remove(&key).is_some(),
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
    }
}

/// As [`put`] for kinds of which only the object `default` counts.
fn single<V: PartialEq>(place: &mut Option<V>, key: &Key, value: Option<V>) -> bool {
    if key.name != "default" || *place == value {
        return false;
    }
    *place = value;
    true
}

/// A node without what changes every few seconds and nobody here reads.
fn without_heartbeats(mut node: Node) -> Node {
    node.metadata.resource_version = None;
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
    }
    node
}
