//! Everything that the calculation needs to know of the cluster, as one stream.
//!
//! Nothing is buffered between the API server and the calculation: a watch is read when its turn comes, and the
//! server's own flow control does the rest.

use caracal_api::k8s_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy};
use caracal_api::v3;
use caracal_datastore::{Client, Event, Object, WatchScope};
use caracal_felix_core::Update;
use caracal_felix_core::update::Key;
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;

/// What the watches tell.
#[derive(Debug)]
pub enum Message {
    /// An object appeared, changed or went.
    Update(Update),
    /// The cluster's data may be used, or is being moved and must not be.
    Released(bool),
    /// One more kind is listed completely.
    InSync(String),
    /// A kind cannot be followed at the moment; its watch tries again by itself.
    Trouble {
        /// The kind.
        kind: String,
        /// What happened.
        problem: String,
    },
}

/// All watches.
pub type Stream = SelectAll<BoxStream<'static, Message>>;

/// Follows all kinds. The stream never ends; its length is the number of kinds.
pub fn all(client: &Client) -> Stream {
    futures::stream::select_all([
        follow::<Namespace>(client, Update::Namespace),
        follow::<ServiceAccount>(client, Update::ServiceAccount),
        follow::<Node>(client, Update::Node),
        follow::<Pod>(client, Update::Pod),
        follow::<Service>(client, Update::Service),
        follow::<EndpointSlice>(client, Update::EndpointSlice),
        follow::<NetworkPolicy>(client, Update::KubernetesNetworkPolicy),
        follow::<v3::NetworkPolicy>(client, Update::NetworkPolicy),
        follow::<v3::GlobalNetworkPolicy>(client, Update::GlobalNetworkPolicy),
        follow_optional::<ClusterNetworkPolicy>(client, Update::ClusterNetworkPolicy),
        follow_optional::<AdminNetworkPolicy>(client, Update::AdminNetworkPolicy),
        follow_optional::<BaselineAdminNetworkPolicy>(client, Update::BaselineAdminNetworkPolicy),
        follow::<v3::StagedNetworkPolicy>(client, Update::StagedNetworkPolicy),
        follow::<v3::StagedGlobalNetworkPolicy>(client, Update::StagedGlobalNetworkPolicy),
        follow::<v3::StagedKubernetesNetworkPolicy>(client, Update::StagedKubernetesNetworkPolicy),
        follow::<v3::HostEndpoint>(client, Update::HostEndpoint),
        follow::<v3::Tier>(client, Update::Tier),
        follow::<v3::NetworkSet>(client, Update::NetworkSet),
        follow::<v3::GlobalNetworkSet>(client, Update::GlobalNetworkSet),
        follow::<v3::IPPool>(client, Update::IpPool),
        follow::<v3::BlockAffinity>(client, Update::BlockAffinity),
        follow::<v3::FelixConfiguration>(client, Update::FelixConfiguration),
        follow::<v3::BGPConfiguration>(client, Update::BgpConfiguration),
        released(client),
    ])
}

fn follow<K: Object>(
    client: &Client,
    update: fn(Key, Option<Box<K>>) -> Update,
) -> BoxStream<'static, Message> {
    let events = client.watch::<K>(WatchScope::default());
    events.map(messages(update)).boxed()
}

/// Follows whether the cluster's data may be used.
fn released(client: &Client) -> BoxStream<'static, Message> {
    let events = client.watch::<v3::ClusterInformation>(WatchScope::default());
    let messages = events.map(|event| match event {
        Event::Applied(object) => Message::Released(object.spec.datastore_ready != Some(false)),
        Event::Deleted(_) => Message::Released(true),
        Event::InSync => Message::InSync("ClusterInformation".to_owned()),
        Event::Trouble(problem) => Message::Trouble {
            kind: "ClusterInformation".to_owned(),
            problem,
        },
    });
    messages.boxed()
}

/// Follows a kind that a cluster need not have.
fn follow_optional<K: Object>(
    client: &Client,
    update: fn(Key, Option<Box<K>>) -> Update,
) -> BoxStream<'static, Message> {
    let events = client.watch_optional::<K>(WatchScope::default());
    events.map(messages(update)).boxed()
}

fn messages<K: Object>(update: fn(Key, Option<Box<K>>) -> Update) -> impl Fn(Event<K>) -> Message {
    let kind = K::kind(&()).into_owned();
    let group = K::group(&()).into_owned();
    let kind = if group.is_empty() {
        kind
    } else {
        format!("{kind}.{group}")
    };
    move |event| match event {
        Event::Applied(object) => {
            let key = key(caracal_datastore::Key::of(&object));
            Message::Update(update(key, Some(Box::new(object))))
        }
        Event::Deleted(gone) => Message::Update(update(key(gone), None)),
        Event::InSync => Message::InSync(kind.clone()),
        Event::Trouble(problem) => Message::Trouble {
            kind: kind.clone(),
            problem,
        },
    }
}

fn key(key: caracal_datastore::Key) -> Key {
    Key {
        namespace: key.namespace.unwrap_or_default(),
        name: key.name,
    }
}
