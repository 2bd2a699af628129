//! What the daemon knows of the cluster without asking: kept by watches, of this node where that is enough.
//!
//! Only a picture: it may be a moment old, and every write that follows from it is a compare-and-swap or names the UID
//! of what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use caracal_api::v3::{BlockAffinity, ClusterInformation, IPAMConfiguration, IPPool, IPReservation};
use caracal_datastore::{Client, Event, Key, Object, WatchScope};
use caracal_ipam::{Known, Snapshot};
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

/// Name of the objects of which there is one.
const DEFAULT: &str = "default";

/// Changes one object, or takes it away.
type Change = Box<dyn FnOnce(&mut State) + Send>;

/// The picture. Shared by all calls.
#[derive(Debug)]
pub struct Mirror {
    node: String,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    missing: BTreeSet<&'static str>,
    information: Option<ClusterInformation>,
    configuration: Option<IPAMConfiguration>,
    pools: BTreeMap<String, IPPool>,
    reservations: BTreeMap<String, IPReservation>,
    affinities: BTreeMap<String, BlockAffinity>,
    node: Option<Node>,
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<(String, String), Pod>,
    /// Made from the above when first asked for after a change.
    known: Option<Arc<Known>>,
}

/// The kinds that are followed.
const KINDS: [&str; 8] = [
    "ClusterInformation",
    "IPAMConfiguration",
    "IPPool",
    "IPReservation",
    "BlockAffinity",
    "Node",
    "Namespace",
    "Pod",
];

impl Mirror {
    /// Nothing known yet.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let state = State {
            missing: KINDS.into(),
            ..State::default()
        };
        Self {
            node: node.to_owned(),
            state: RwLock::new(state),
        }
    }

    /// Follows the datastore, for ever.
    pub async fn follow(&self, client: &Client) {
        let scope = |fields: String| WatchScope {
            fields: Some(fields),
            ..WatchScope::default()
        };
        let all = WatchScope::default;
        let mine = scope(format!("spec.nodeName={}", self.node));
        let me = scope(format!("metadata.name={}", self.node));
        let own = WatchScope {
            labels: Some(format!(
                "{}={}",
                caracal_api::meta::LABEL_HOSTNAME_HASH,
                caracal_api::names::hostname_hash(&self.node)
            )),
            ..WatchScope::default()
        };
        let mut changes = futures::stream::select_all([
            watch::<ClusterInformation>(client, "ClusterInformation", all(), |state, key, object| {
                if key.name == DEFAULT {
                    state.information = object;
                }
            }),
            watch::<IPAMConfiguration>(client, "IPAMConfiguration", all(), |state, key, object| {
                if key.name == DEFAULT {
                    state.configuration = object;
                }
            }),
            watch::<IPPool>(client, "IPPool", all(), |state, key, object| {
                put(&mut state.pools, key.name, object);
            }),
            watch::<IPReservation>(client, "IPReservation", all(), |state, key, object| {
                put(&mut state.reservations, key.name, object);
            }),
            watch::<BlockAffinity>(client, "BlockAffinity", own, |state, key, object| {
                put(&mut state.affinities, key.name, object);
            }),
            watch::<Node>(client, "Node", me, |state, _, object| {
                state.node = object.map(slim_node)
            }),
            watch::<Namespace>(client, "Namespace", all(), |state, key, object| {
                put(&mut state.namespaces, key.name, object);
            }),
            watch::<Pod>(client, "Pod", mine, |state, key, object| {
                let key = (key.namespace.unwrap_or_default(), key.name);
                put(&mut state.pods, key, object.map(slim_pod));
            }),
        ]);
        while let Some(change) = changes.next().await {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node that this is the picture of.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Which kinds have not been listed yet; empty = all is known.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.read(|state| state.missing.iter().copied().collect())
    }

    /// ClusterInformation `default`.
    #[must_use]
    pub fn information(&self) -> Option<ClusterInformation> {
        self.read(|state| state.information.clone())
    }

    /// A Pod of this node, if it is the one with this UID.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Pod> {
        let key = (namespace.to_owned(), name.to_owned());
        let pod = self.read(|state| state.pods.get(&key).cloned())?;
        let same = uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid));
        same.then_some(pod)
    }

    /// A Namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<Namespace> {
        self.read(|state| state.namespaces.get(name).cloned())
    }

    /// All pools.
    #[must_use]
    pub fn pools(&self) -> Vec<IPPool> {
        self.read(|state| state.pools.values().cloned().collect())
    }

    /// Whether this node has blocks of IPv4, and of IPv6.
    #[must_use]
    pub fn families_of_own_blocks(&self) -> (bool, bool) {
        let has = |v6: bool| {
            self.read(|state| {
                let own = state.affinities.values().filter(|one| one.spec.node == self.node);
                own.filter_map(|one| one.spec.cidr.parse::<ipnet::IpNet>().ok())
                    .any(|cidr| cidr.addr().is_ipv6() == v6)
            })
        };
        (has(false), has(true))
    }

    /// What decides about addresses; `None` as long as it is not complete.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        let ready = self.read(|state| (state.known.clone(), state.missing.is_empty()));
        match ready {
            (Some(known), true) => return Some(known),
            (_, false) => return None,
            (None, true) => {}
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Snapshot {
            configuration: state
                .configuration
                .as_ref()
                .map(|object| object.spec.clone())
                .unwrap_or_default(),
            pools: state.pools.values().cloned().collect(),
            reservations: state.reservations.values().cloned().collect(),
            affinities: state.affinities.values().cloned().collect(),
            node: state.node.clone()?,
        };
        let known = Arc::new(Known::new(&self.node, &snapshot));
        state.known = Some(Arc::clone(&known));
        Some(known)
    }
}

fn watch<K: Object>(
    client: &Client,
    kind: &'static str,
    scope: WatchScope,
    set: fn(&mut State, Key, Option<K>),
) -> BoxStream<'static, Change> {
    // Pods and namespaces decide nothing about blocks, and change all the time.
    let decides = !matches!(kind, "Pod" | "Namespace" | "ClusterInformation");
    let change = move |event| -> Change {
        match event {
            Event::Applied(object) => Box::new(move |state| {
                set(state, Key::of(&object), Some(object));
                state.known = state.known.take().filter(|_| !decides);
            }),
            Event::Deleted(key) => Box::new(move |state| {
                set(state, key, None);
                state.known = state.known.take().filter(|_| !decides);
            }),
            Event::InSync => Box::new(move |state| {
                state.missing.remove(kind);
            }),
            Event::Trouble(problem) => {
                tracing::debug!(kind, problem, "objects cannot be followed, what is known stays");
                Box::new(|_| {})
            }
        }
    };
    client.watch::<K>(scope).map(change).boxed()
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// Nodes report their status all the time; nothing of it matters here.
fn slim_node(mut node: Node) -> Node {
    node.status = None;
    node.metadata.managed_fields = None;
    node
}

/// What a call reads of a Pod.
fn slim_pod(pod: Pod) -> Pod {
    let spec = pod.spec.map(|spec| k8s_openapi::api::core::v1::PodSpec {
        node_name: spec.node_name,
        host_network: spec.host_network,
        ..Default::default()
    });
    let mut metadata = pod.metadata;
    metadata.managed_fields = None;
    Pod {
        metadata,
        spec,
        status: None,
    }
}
