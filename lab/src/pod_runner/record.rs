//! What the runner keeps about a pod in the lab's directory: enough for other verbs to find the pod, and for a later
//! runner to take down what an earlier one left.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use caracal_linux::netns::NetNs;
use serde::{Deserialize, Serialize};

use crate::enter::{Namespaces, Place};
use crate::error::{Error, Result};
use crate::state::{Layout, read_json, write_json};
use crate::topology::{Machine, Plan};

/// A pod that has a place on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Identity of the pod object.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
    /// The sandbox's id, as the CNI plugins were told; empty for a pod in its node's network.
    pub container_id: String,
    /// Path of the pod's network namespace within the node's mount namespace; none in the node's network.
    pub netns: Option<PathBuf>,
    /// Inode of that namespace, or of the node's: tells it from another one that came to the same path.
    pub netns_inode: u64,
    /// The process that keeps the node's namespaces.
    pub anchor: u32,
    /// Addresses, once the chain has given them.
    pub addresses: Vec<IpAddr>,
    /// Host name inside the pod.
    pub hostname: String,
}

impl PodRecord {
    /// Where the pod's processes run.
    ///
    /// # Errors
    /// The pod is gone.
    pub fn place(&self) -> Result<Place> {
        let place = match &self.netns {
            None => Place::Machine(Namespaces::of_process(self.anchor)?),
            Some(path) => Place::pod(&self.seen_from_host(path), self.hostname.clone())?,
        };
        if place.network_inode()? == self.netns_inode {
            return Ok(place);
        }
        Err(self.gone())
    }

    /// The network namespace that the pod lives in.
    ///
    /// # Errors
    /// The pod is gone.
    pub fn network(&self) -> Result<NetNs> {
        let path = match &self.netns {
            None => Path::new("/proc").join(self.anchor.to_string()).join("ns/net"),
            Some(path) => self.seen_from_host(path),
        };
        let found = NetNs::open(&path).and_then(|netns| netns.id().map(|(_, inode)| (netns, inode)));
        match found {
            Ok((netns, inode)) if inode == self.netns_inode => Ok(netns),
            _ => Err(self.gone()),
        }
    }

    fn gone(&self) -> Error {
        Error::refused(format!(
            "pod {}/{}: its network namespace is gone; see `caracal-lab status`",
            self.namespace, self.name
        ))
    }

    /// A path of the node's mount namespace as the host reaches it.
    fn seen_from_host(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc")
            .join(self.anchor.to_string())
            .join("root")
            .join(relative)
    }
}

/// Every pod that has a place in the lab.
///
/// # Errors
/// The lab's files cannot be read.
pub fn all(layout: &Layout, plan: &Plan) -> Result<Vec<PodRecord>> {
    let mut records = Vec::new();
    for node in plan.nodes() {
        records.extend(on_node(layout, node)?);
    }
    Ok(records)
}

/// The pods that have a place on a node.
///
/// # Errors
/// The lab's files cannot be read.
pub fn on_node(layout: &Layout, node: &Machine) -> Result<Vec<PodRecord>> {
    let folder = layout.pods(node);
    let failed = |e| Error::io(format!("list {}", folder.display()), e);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "json") {
            match read_json(&path) {
                Ok(record) => records.push(record),
                // A pod may leave between listing and reading.
                Err(crate::state::StateError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(records)
}

/// The pod of a name, wherever it runs.
///
/// # Errors
/// There is none, or the lab's files cannot be read.
pub fn find(layout: &Layout, plan: &Plan, namespace: &str, name: &str) -> Result<PodRecord> {
    all(layout, plan)?
        .into_iter()
        .find(|record| record.namespace == namespace && record.name == name)
        .ok_or_else(|| {
            Error::refused(format!(
                "no pod {namespace}/{name} runs in the lab; `caracal-lab status` lists those that do"
            ))
        })
}

/// The file of a pod's record. Namespaces have no dots, so two pods never share a file.
fn file(layout: &Layout, node: &Machine, namespace: &str, name: &str) -> PathBuf {
    layout.pods(node).join(format!("{namespace}.{name}.json"))
}

pub(super) fn load(layout: &Layout, node: &Machine, namespace: &str, name: &str) -> Option<PodRecord> {
    read_json(&file(layout, node, namespace, name)).ok()
}

pub(super) fn store(layout: &Layout, node: &Machine, record: &PodRecord) -> Result<()> {
    let path = file(layout, node, &record.namespace, &record.name);
    fs::create_dir_all(layout.pods(node))
        .map_err(|e| Error::io(format!("create {}", layout.pods(node).display()), e))?;
    Ok(write_json(&path, record)?)
}

pub(super) fn remove(layout: &Layout, node: &Machine, namespace: &str, name: &str) -> Result<()> {
    let path = file(layout, node, namespace, name);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

impl Place {
    /// Inode of the network namespace.
    pub(crate) fn network_inode(&self) -> Result<u64> {
        self.network_file()
            .metadata()
            .map(|meta| meta.ino())
            .map_err(|e| Error::io("look at the network namespace", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    fn record(namespace: &str, name: &str) -> PodRecord {
        PodRecord {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
            node: "node-1".to_owned(),
            container_id: "c".to_owned(),
            netns: None,
            netns_inode: 0,
            anchor: std::process::id(),
            addresses: Vec::new(),
            hostname: name.to_owned(),
        }
    }

    #[test]
    fn pods_are_found_by_name_on_any_node_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let plan = Plan::new(dir.path(), &Options::default()).unwrap();
        let node = plan.machine("node-2").unwrap();
        assert!(all(&layout, &plan).unwrap().is_empty());
        store(&layout, node, &record("a", "b.c")).unwrap();
        store(&layout, node, &record("default", "web")).unwrap();
        assert_eq!(find(&layout, &plan, "a", "b.c").unwrap(), record("a", "b.c"));
        let message = find(&layout, &plan, "a", "web").unwrap_err().to_string();
        assert!(message.contains("no pod a/web"), "{message}");
        remove(&layout, node, "a", "b.c").unwrap();
        remove(&layout, node, "a", "b.c").unwrap();
        assert_eq!(all(&layout, &plan).unwrap(), [record("default", "web")]);
    }

    #[test]
    fn a_namespace_that_is_not_the_recorded_one_is_not_entered() {
        let message = record("default", "web").place().unwrap_err().to_string();
        assert!(message.contains("is gone"), "{message}");
    }
}
