//! A cluster of an embedded API server, nodes, and the allocator over it.

use caracal_api::meta::{LABEL_AFFINITY_TYPE, LABEL_HOSTNAME_HASH};
use caracal_api::names::{affinity_name, hostname_hash};
use caracal_api::v3::{
    AffinityState, BlockAffinity, BlockAffinitySpec, IPAMConfiguration, IPAMConfigurationSpec, IPPool,
    IPReservation,
};
use caracal_apiserver::ApiServer;
use caracal_datastore::{Client, ListOptions, Object};
use caracal_ipam::Ipam;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) ipam: Ipam,
}

impl Cluster {
    pub(crate) async fn new(nodes: &[&str]) -> Self {
        Self::over(&ApiServer::in_memory(), nodes).await
    }

    pub(crate) async fn over(server: &ApiServer, nodes: &[&str]) -> Self {
        let client = Client::from_service(server.service(), "default");
        for name in nodes {
            let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            client.create(&node).await.unwrap();
        }
        let ipam = Ipam::new(client.clone());
        Self { client, ipam }
    }

    pub(crate) async fn pool(&self, name: &str, spec: Value) {
        let pool = IPPool::new(name, serde_json::from_value(spec).unwrap());
        self.client.create(&pool).await.unwrap();
    }

    pub(crate) async fn reserve(&self, cidrs: &[&str]) {
        let object: IPReservation =
            serde_json::from_value(json!({"metadata": {"name": "kept"}, "spec": {"reservedCIDRs": cidrs}}))
                .unwrap();
        self.client.create(&object).await.unwrap();
    }

    pub(crate) async fn configure(&self, spec: IPAMConfigurationSpec) {
        let stored: Option<IPAMConfiguration> = self.client.get(None, "default").await.unwrap();
        match stored {
            None => {
                let object = IPAMConfiguration::new("default", spec);
                self.client.create(&object).await.unwrap();
            }
            Some(stored) => {
                self.client
                    .update(&IPAMConfiguration { spec, ..stored })
                    .await
                    .unwrap();
            }
        }
    }

    pub(crate) async fn pending_affinity(&self, node: &str, cidr: &str) {
        let spec = BlockAffinitySpec {
            state: AffinityState::Pending,
            node: node.to_owned(),
            type_: "host".to_owned(),
            cidr: cidr.to_owned(),
            deleted: false,
        };
        let mut object = BlockAffinity::new(&affinity_name(node, &cidr.parse().unwrap()), spec);
        object.metadata.labels = Some(
            [
                (LABEL_HOSTNAME_HASH.to_owned(), hostname_hash(node)),
                (LABEL_AFFINITY_TYPE.to_owned(), "host".to_owned()),
            ]
            .into(),
        );
        self.client.create(&object).await.unwrap();
    }

    pub(crate) async fn all<K: Object>(&self) -> Vec<K> {
        self.client.list(None, &ListOptions::default()).await.unwrap()
    }
}
