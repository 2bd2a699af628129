//! Whether an allocation is still somebody's. Pure.

use std::net::IpAddr;

use caracal_datastore::Key;

use super::allocations::{Allocation, Holder};
use crate::cluster::{Cluster, PodView};

/// Whether an allocation is still somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Valid,
    /// It may be, and nobody here can tell: it is left alone, and keeps its node from being cleaned up.
    Unknown,
    /// It is its node's own: it goes when the node is gone and nothing else is left of it.
    OfNode,
    /// It is not set aside for anybody that could leave: it counts as nothing.
    Nobody,
    /// It is nobody's any more; why.
    Leaked(&'static str),
}

/// The verdict on an allocation.
#[must_use]
pub fn verdict(cluster: &Cluster, allocation: &Allocation) -> Verdict {
    match &allocation.holder {
        Holder::Windows => Verdict::Nobody,
        Holder::Other | Holder::Machine => Verdict::Unknown,
        Holder::Node => Verdict::OfNode,
        Holder::Pod { namespace, name } => {
            let pod = cluster.pods.get(&Key::namespaced(namespace, name));
            of_pod(pod, &allocation.node, allocation.id.address)
        }
    }
}

/// The verdict on an address of a pod.
#[must_use]
pub(super) fn of_pod(pod: Option<&PodView>, node: &str, address: IpAddr) -> Verdict {
    let Some(pod) = pod else {
        return Verdict::Leaked("the pod does not exist");
    };
    if !node.is_empty() && pod.node != node {
        return Verdict::Leaked("the pod is on another node");
    }
    if pod.evicted {
        return Verdict::Leaked("the pod was evicted");
    }
    match &pod.addresses {
        // Its annotations cannot be read: nothing is concluded.
        None => Verdict::Valid,
        // It is being plugged in.
        Some(_) if !pod.has_address => Verdict::Valid,
        Some(addresses) if addresses.contains(&address) => Verdict::Valid,
        Some(addresses) if addresses.is_empty() => Verdict::Leaked("the pod has ended"),
        Some(_) => Verdict::Leaked("the pod has other addresses"),
    }
}
