//! The cluster as a call sees it: asked over the API, or known to the daemon already.
//!
//! The one seam between the two ways of working; everything above is the same code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caracal_api::v3::{ClusterInformation, IPPool};
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{AutoAssign, Express, Ipam, Known, Quick};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use tokio::sync::OnceCell;

use crate::aside::Store;
use crate::board::Board;
use crate::conf::Conf;
use crate::error::{Code, Error, Result};
use crate::mirror::Mirror;
use crate::pod;

/// How long the API server is waited for, where something else can be done.
const PATIENCE: Duration = Duration::from_secs(3);

/// How soon after a block was claimed ahead of need, or could not be, another one may be.
const CLAIM_PAUSE: Duration = Duration::from_secs(2);

/// A way to the cluster. Clones share connection and knowledge.
#[derive(Clone, Debug, Default)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Asked(Asked),
    Near(Near),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Asked(Asked::default())
    }
}

/// A connection that is made when it is first needed, and answers that two parts of one call need.
#[derive(Debug, Default)]
struct Asked {
    client: OnceCell<Client>,
    namespaces: Mutex<BTreeMap<String, Namespace>>,
}

/// What a daemon has at hand.
#[derive(Debug)]
pub struct Near {
    /// The warm connection.
    pub client: Client,
    /// What is known of the cluster.
    pub mirror: Arc<Mirror>,
    /// The short way to addresses.
    pub express: Express,
    /// Whose policy is in the kernel; `None` when nobody tells.
    pub board: Option<Board>,
    /// Addresses for the time when the API server is away.
    pub store: Option<Arc<Store>>,
    /// A block is being claimed ahead of need.
    pub claiming: AtomicBool,
}

impl Cluster {
    /// The daemon's way.
    #[must_use]
    pub fn near(near: Near) -> Self {
        Self(Arc::new(Inner::Near(near)))
    }

    /// What the daemon has at hand; `None` in a plugin's own process.
    #[must_use]
    pub fn at_hand(&self) -> Option<&Near> {
        match &*self.0 {
            Inner::Near(near) => Some(near),
            Inner::Asked(_) => None,
        }
    }

    /// The connection.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used. No request is made.
    pub async fn client(&self, conf: &Conf, program: &str) -> Result<Client> {
        match &*self.0 {
            Inner::Near(near) => Ok(near.client.clone()),
            Inner::Asked(asked) => {
                let made = asked.client.get_or_try_init(|| pod::connect(conf, program));
                Ok(made.await?.clone())
            }
        }
    }

    /// ClusterInformation `default`.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn information(&self, client: &Client) -> Result<Option<ClusterInformation>> {
        match &*self.0 {
            Inner::Near(near) => Ok(near.mirror.information()),
            Inner::Asked(_) => Ok(client.get(None, "default").await?),
        }
    }

    /// A Pod. What the daemon knows is believed when the runtime says the UID and it is this one: a pod that was made
    /// anew under its name is not confused with the former.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn pod(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<Option<Pod>> {
        if let (Some(near), Some(_)) = (self.at_hand(), uid)
            && let Some(pod) = near.mirror.pod(namespace, name, uid)
        {
            return Ok(Some(pod));
        }
        let Some(near) = self.at_hand() else {
            return Ok(client.get(Some(namespace), name).await?);
        };
        let asked = tokio::time::timeout(PATIENCE, client.get(Some(namespace), name)).await;
        match (asked, near.mirror.pod(namespace, name, None)) {
            // With the API server away no kubelet has heard of a newer pod of that name either.
            (Err(_), Some(pod)) => Ok(Some(pod)),
            (Ok(Err(error)), Some(pod)) if error.is_transient() => Ok(Some(pod)),
            (Ok(answer), _) => Ok(answer?),
            (Err(_), None) => Err(Error::new(
                Code::TryAgainLater,
                format!("the API server does not answer, and Pod {namespace}/{name} is not known here yet"),
            )),
        }
    }

    /// A Namespace; asked for once a call.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn namespace(&self, client: &Client, name: &str) -> Result<Option<Namespace>> {
        let found = match &*self.0 {
            Inner::Near(near) => near.mirror.namespace(name),
            Inner::Asked(asked) => {
                let namespaces = asked.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
                namespaces.get(name).cloned()
            }
        };
        if found.is_some() {
            return Ok(found);
        }
        let object: Option<Namespace> = client.get(None, name).await?;
        if let (Inner::Asked(asked), Some(object)) = (&*self.0, &object) {
            let mut namespaces = asked.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            namespaces.insert(name.to_owned(), object.clone());
        }
        Ok(object)
    }

    /// All pools.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pools(&self, client: &Client) -> Result<Vec<IPPool>> {
        match &*self.0 {
            Inner::Near(near) => Ok(near.mirror.pools()),
            Inner::Asked(_) => Ok(client.list(None, &ListOptions::default()).await?),
        }
    }

    /// Addresses for a handle that holds none, where that can be had without asking; see [`Express::assign`].
    pub async fn assign_at_hand(&self, request: &AutoAssign) -> Quick {
        let Some(near) = self.at_hand() else {
            return Quick::LongWay;
        };
        let Some(known) = near.mirror.known() else {
            return Quick::LongWay;
        };
        let quick = near.express.assign(&known, request).await;
        if matches!(quick, Quick::Assigned(_)) {
            self.claim_ahead(&known, request);
        }
        quick
    }

    /// Claims the next block in the background when those of the node are almost full: no pod waits for it.
    fn claim_ahead(&self, known: &Known, request: &AutoAssign) {
        let Some(near) = self.at_hand() else { return };
        for (v6, wanted) in [(false, request.v4), (true, request.v6)] {
            if wanted == 0 || !near.express.runs_short(known, request, v6) {
                continue;
            }
            // One at a time; the claim shows in the watch a moment later, so it is not tried again at once.
            if near.claiming.swap(true, Ordering::AcqRel) {
                return;
            }
            let (cluster, request) = (self.clone(), request.clone());
            tokio::spawn(async move {
                let Some(near) = cluster.at_hand() else { return };
                let claimed = Ipam::new(near.client.clone()).claim_ahead(&request, v6).await;
                match claimed {
                    Ok(Some(block)) => tracing::info!(block = %block, "claimed the next block ahead of need"),
                    Ok(None) => {
                        tracing::debug!(node = request.host, "there is no block to claim ahead of need")
                    }
                    Err(error) => {
                        tracing::debug!(error = %error, "the next block is not claimed ahead of need")
                    }
                }
                tokio::time::sleep(CLAIM_PAUSE).await;
                near.claiming.store(false, Ordering::Release);
            });
            return;
        }
    }

    /// What this node has set aside; `None` in a plugin's own process.
    #[must_use]
    pub fn set_aside(&self) -> Option<&Store> {
        self.at_hand()?.store.as_deref()
    }

    /// Releases a handle that was assigned at hand; false: go the long way.
    pub async fn release_at_hand(&self, handle: &str) -> bool {
        let Some(near) = self.at_hand() else {
            return false;
        };
        let Some(known) = near.mirror.known() else {
            return false;
        };
        near.express.release(&known, handle).await
    }

    /// Waits until the pod's policy holds, as far as anybody here knows. False: not in time.
    pub async fn wait_for_policy(&self, pod: &Pod, limit: Duration) -> Option<bool> {
        let board = self.at_hand()?.board.as_ref()?;
        let uid = pod.metadata.uid.as_deref()?;
        Some(board.wait_for(uid, limit).await)
    }
}
