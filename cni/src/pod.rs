//! What the cluster says about the workload: the Pod, its Namespace, their annotations, whether the datastore is
//! open; and what is written back.
//!
//! Nothing but annotations of the Pod's status is ever written. Sources: Calico's `cni-plugin/pkg/k8s/k8s.go`,
//! `libcalico-go/lib/backend/k8s/resources/workloadendpoint.go`.

use std::collections::BTreeMap;

use caracal_api::meta;
use caracal_api::v3::ClusterInformation;
use caracal_datastore::{Client, ConnectOptions};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::cluster::Cluster;
use crate::conf::Conf;
use crate::error::{Code, Error, Result, chain};

/// How an error ends that another account might not have met.
pub(crate) const MISSING_RIGHT: &str = "give the plugin's account this right";
/// How often taking the address from the Pod is tried again when the Pod changed meanwhile.
const CONFLICT_RETRIES: usize = 6;

impl From<caracal_datastore::Error> for Error {
    fn from(error: caracal_datastore::Error) -> Self {
        let text = chain(&error);
        if error.is_forbidden() {
            return Self::new(Code::Plugin, text).hint(format_args!(
                "{MISSING_RIGHT}; see the ClusterRole calico-cni-plugin"
            ));
        }
        if error.is_transient() || error.is_conflict() {
            return Self::new(Code::TryAgainLater, text)
                .hint("check that the Kubernetes API answers at the address in the kubeconfig; the runtime may call again");
        }
        if error.is_not_found() || error.is_invalid() || error.is_already_exists() {
            return Self::new(Code::Plugin, text);
        }
        Self::new(Code::InvalidConfig, text).hint("check kubernetes.kubeconfig in the network configuration")
    }
}

/// Connects as the configuration says.
///
/// # Errors
/// When the kubeconfig cannot be used. No request is made.
pub async fn connect(conf: &Conf, program: &str) -> Result<Client> {
    let options = ConnectOptions {
        kubeconfig: conf.api.kubeconfig.clone(),
        server: conf.api.server.clone(),
        user_agent: format!("{program}/{}", env!("CARGO_PKG_VERSION")),
        ..ConnectOptions::default()
    };
    Ok(Client::connect(&options).await?)
}

/// Refuses to work while the datastore is closed, as during a migration.
///
/// # Errors
/// Code 11 when it is closed, or cannot be asked.
pub async fn check_ready(cluster: &Cluster, client: &Client) -> Result<()> {
    let information: Option<ClusterInformation> = cluster.information(client).await?;
    let Some(information) = information else {
        return Err(
            Error::new(Code::TryAgainLater, "ClusterInformation default does not exist")
                .hint("it appears when the first node agent has started"),
        );
    };
    match information.spec.datastore_ready {
        Some(true) => Ok(()),
        Some(false) | None => Err(Error::new(
            Code::TryAgainLater,
            "Calico is currently not ready to process requests",
        )
        .hint("spec.datastoreReady of ClusterInformation default must be true; a migration clears it for a while")),
    }
}

/// True when the API answers at all.
pub async fn is_reachable(client: &Client) -> bool {
    match client.get::<ClusterInformation>(None, "default").await {
        Ok(_) => true,
        Err(error) => !error.is_transient(),
    }
}

/// Undoes [`write_addresses`] of a call that failed: only what this container wrote.
///
/// # Errors
/// When a request fails.
pub async fn forget_addresses(client: &Client, pod: &Pod, container_id: &str) -> Result<()> {
    let (namespace, name) = names(pod);
    clear_addresses(client, namespace, name, container_id, None)
        .await
        .map(drop)
}

/// A Pod and the annotations of its Namespace.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The Pod.
    pub pod: Pod,
    /// Annotations of the Namespace.
    pub namespace_annotations: BTreeMap<String, String>,
}

impl Workload {
    /// Reads both at once.
    ///
    /// # Errors
    /// When one is missing or cannot be read.
    pub async fn read(
        cluster: &Cluster,
        client: &Client,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<Self> {
        let (pod, space) = futures::join!(
            cluster.pod(client, namespace, name, uid),
            cluster.namespace(client, namespace),
        );
        let missing = |what: String| {
            Error::new(Code::Plugin, format!("{what} does not exist"))
                .hint("it was deleted while its container started, or the runtime talks to another cluster")
        };
        Ok(Self {
            pod: pod?.ok_or_else(|| missing(format!("Pod {namespace}/{name}")))?,
            namespace_annotations: space?
                .ok_or_else(|| missing(format!("Namespace {namespace}")))?
                .metadata
                .annotations
                .unwrap_or_default(),
        })
    }

    /// An annotation of the Pod.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.pod, key)
    }

    /// An annotation of the Pod, else of its Namespace.
    #[must_use]
    pub fn inherited(&self, key: &str) -> Option<&str> {
        self.annotation(key)
            .or_else(|| self.namespace_annotations.get(key).map(String::as_str))
    }
}

/// An annotation of a Pod; empty ones count as missing.
#[must_use]
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let value = pod.metadata.annotations.as_ref()?.get(key)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

/// Writes the addresses to the Pod. Without a resourceVersion: the kubelet writes the same object all the time.
///
/// # Errors
/// When the request fails.
pub async fn write_addresses(
    client: &Client,
    pod: &Pod,
    addresses: &[IpNet],
    container_id: &str,
) -> Result<(), caracal_datastore::Error> {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "annotations": {
            meta::POD_IP: texts.first().map_or("", String::as_str),
            meta::POD_IPS: texts.join(","),
            meta::POD_CONTAINER_ID: container_id,
        },
    }});
    let (namespace, name) = names(pod);
    client.patch_status::<Pod>(Some(namespace), name, &patch).await?;
    Ok(())
}

fn names(pod: &Pod) -> (&str, &str) {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Takes the addresses from the Pod, unless a newer container holds them. Returns whether this container did. `known`
/// is the Pod as it was lately, to save a request.
///
/// # Errors
/// When the Pod keeps changing, or a request fails. A Pod that is gone is success.
pub async fn clear_addresses(
    client: &Client,
    namespace: &str,
    name: &str,
    container_id: &str,
    mut known: Option<Pod>,
) -> Result<bool> {
    // Only one that says that there is something to take away: whatever else it says may have changed.
    known = known.filter(|pod| {
        annotation(pod, meta::POD_CONTAINER_ID) == Some(container_id)
            && annotation(pod, meta::POD_IPS).is_some()
    });
    let patch_of = |pod: &Pod| {
        json!({"metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "annotations": {meta::POD_IP: "", meta::POD_IPS: ""},
        }})
    };
    for _ in 0..CONFLICT_RETRIES {
        let pod = match known.take() {
            Some(pod) => Some(pod),
            None => client.get::<Pod>(Some(namespace), name).await?,
        };
        let Some(pod) = pod else {
            return Ok(true);
        };
        let owner = annotation(&pod, meta::POD_CONTAINER_ID);
        if owner.is_some_and(|owner| owner != container_id) {
            tracing::info!(pod = %format_args!("{namespace}/{name}"), "a newer container holds the pod's address");
            return Ok(false);
        }
        if annotation(&pod, meta::POD_IP).is_none() && annotation(&pod, meta::POD_IPS).is_none() {
            // Never plugged in, or cleared already: nothing to write.
            return Ok(owner.is_some());
        }
        match client
            .patch_status::<Pod>(Some(namespace), name, &patch_of(&pod))
            .await
        {
            Ok(_) => return Ok(true),
            Err(error) if error.is_not_found() => return Ok(true),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(
        Code::TryAgainLater,
        "error deleting endpoint: endpoint was modified before it could be deleted",
    ))
}
