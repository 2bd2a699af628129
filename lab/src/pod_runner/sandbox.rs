//! A pod's sandbox: its network namespace on the node, plugged in through the CNI chain, and taken down again.
//!
//! A sandbox that could not be plugged in is taken down before the error is told; the next attempt has a new id, as
//! kubelet and container runtime do it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caracal_linux::netlink::Netlink;
use caracal_linux::netns::{self, NetNs};
use k8s_openapi::api::core::v1::Pod;
use nix::unistd::Pid;
use rand::RngCore as _;
use tokio::time::sleep;

use super::record::{self, PodRecord};
use super::{Context, spec};
use crate::cni_chain::{Attachment, ChainError};
use crate::enter::Place;
use crate::error::{Error, Result};
use crate::sweep;

/// Where container runtimes bind the namespaces of sandboxes.
const NETNS_DIR: &str = "/run/netns";
/// Marks every process of a pod.
pub(super) const POD_MARK: &str = "CARACAL_POD_UID";
const TEARDOWN_PAUSE_FIRST: Duration = Duration::from_millis(500);
const TEARDOWN_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A pod's place on the node.
pub(super) struct Sandbox {
    pub(super) record: PodRecord,
    pub(super) place: Arc<Place>,
}

impl Context {
    /// Makes a pod's sandbox.
    ///
    /// # Errors
    /// Whatever could not be made; nothing of it is left unless taking it down failed too, which is tried again
    /// before the next attempt.
    pub(super) async fn create_sandbox(&self, pod: &Pod) -> Result<Sandbox, ChainError> {
        let mut record = self.new_record(pod)?;
        if record.netns.is_none() {
            record.addresses = vec![self.config.node.address.into()];
            record::store(&self.config.layout, &self.config.node, &record)?;
            let place = Arc::clone(&self.place);
            return Ok(Sandbox { record, place });
        }
        let made = self.plug_in(pod, &mut record).await;
        if made.is_err() {
            self.remove_sandbox(&record, 1).await;
        }
        made
    }

    async fn plug_in(&self, pod: &Pod, record: &mut PodRecord) -> Result<Sandbox, ChainError> {
        let path = record.netns.clone().unwrap_or_default();
        // Written first: whatever is made from here on will be found again.
        record::store(&self.config.layout, &self.config.node, record)?;
        let made = self.place.run(|| {
            fs::create_dir_all(NETNS_DIR).map_err(|e| Error::io(format!("create {NETNS_DIR}"), e))?;
            NetNs::create_at(&path).map_err(|e| Error::kernel("make the pod's network namespace", e))
        })??;
        record.netns_inode = made.id().map_err(|e| Error::kernel("look at it", e))?.1;
        set_up_loopback(&made)
            .await
            .map_err(|e| Error::kernel("set the pod's loopback up", e))?;
        record::store(&self.config.layout, &self.config.node, record)?;
        // The semaphore is never closed; without a permit the chain would run all the same.
        let permit = self.plugins.acquire().await.ok();
        let added = self
            .chain
            .add(&attachment(record, spec::port_mappings(pod)))
            .await?;
        drop(permit);
        if added.addresses.is_empty() {
            return Err(Error::refused("the CNI chain gave the pod no address; its last plugin must").into());
        }
        record.addresses = added.addresses;
        record::store(&self.config.layout, &self.config.node, record)?;
        let place = Arc::new(record.place()?);
        Ok(Sandbox {
            record: record.clone(),
            place,
        })
    }

    fn new_record(&self, pod: &Pod) -> Result<PodRecord> {
        let meta = &pod.metadata;
        let mut id = [0; 32];
        rand::rng().fill_bytes(&mut id);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let host_network = spec::host_network(pod);
        let name = meta.name.clone().unwrap_or_default();
        let wanted = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
        let hostname = wanted
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| name.clone());
        let short = id.get(..16).unwrap_or(&id);
        Ok(PodRecord {
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            node: self.config.node.name.clone(),
            netns: (!host_network).then(|| Path::new(NETNS_DIR).join(format!("cni-{short}"))),
            netns_inode: if host_network {
                self.place.network_inode()?
            } else {
                0
            },
            container_id: id,
            anchor: self.config.anchor,
            addresses: Vec::new(),
            // The kernel's limit for a host name.
            hostname: if host_network {
                self.config.node.name.clone()
            } else {
                hostname.chars().take(63).collect()
            },
            name,
        })
    }

    /// Takes a sandbox down: processes, CNI DEL, namespace, record. Tries again until it is done, the attempts are
    /// used up or the runner stops; what is left then stays recorded.
    pub(super) async fn remove_sandbox(&self, record: &PodRecord, attempts: u32) -> bool {
        let mut pause = TEARDOWN_PAUSE_FIRST;
        let mut stopping = self.stopping.clone();
        for attempt in 1..=attempts {
            match self.try_remove(record).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::warn!(pod = %record.name, namespace = %record.namespace, error = %error,
                        "pod could not be taken down");
                }
            }
            if attempt == attempts || *stopping.borrow() {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            pause = (pause * 2).min(TEARDOWN_PAUSE_MAX);
        }
        false
    }

    async fn try_remove(&self, record: &PodRecord) -> Result<(), ChainError> {
        let uid = record.uid.clone();
        // Inodes are used again: only that of a namespace which is still there counts.
        let own = record.netns.is_some() && record.place().is_ok();
        let inode = own.then_some(record.netns_inode);
        tokio::task::spawn_blocking(move || end_processes(&uid, inode))
            .await
            .map_err(|e| Error::io("end the pod's processes", std::io::Error::other(e)))??;
        if let Some(path) = &record.netns {
            let permit = self.plugins.acquire().await.ok();
            self.chain.delete(&attachment(record, None)).await?;
            drop(permit);
            self.place
                .run(|| netns::delete_at(path))?
                .map_err(|e| Error::kernel("remove the pod's network namespace", e))?;
        }
        record::remove(
            &self.config.layout,
            &self.config.node,
            &record.namespace,
            &record.name,
        )?;
        Ok(())
    }

    /// Takes down what an earlier runner left of a pod.
    pub(super) async fn remove_leftover(&self, namespace: &str, name: &str) {
        if let Some(record) = record::load(&self.config.layout, &self.config.node, namespace, name) {
            self.remove_sandbox(&record, u32::MAX).await;
        }
    }
}

fn attachment(record: &PodRecord, port_mappings: Option<serde_json::Value>) -> Attachment {
    let mappings = port_mappings.map(|value| ("portMappings".to_owned(), value));
    Attachment {
        container_id: record.container_id.clone(),
        netns: record.netns.clone().unwrap_or_default(),
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        uid: record.uid.clone(),
        capabilities: BTreeMap::from_iter(mappings),
    }
}

async fn set_up_loopback(netns: &NetNs) -> caracal_linux::Result<()> {
    let netlink = Netlink::open_in(netns)?;
    let lo = netlink.link_by_name("lo").await?;
    netlink.set_up(lo.index).await
}

/// Ends what runs in the pod, also what left its process group or its network.
fn end_processes(uid: &str, inode: Option<u64>) -> Result<()> {
    sweep::end(|| {
        let mut found: Vec<Pid> = sweep::with_variable(POD_MARK, uid)?;
        if let Some(inode) = inode {
            found.extend(sweep::in_network(inode)?);
        }
        Ok(found)
    })
}
