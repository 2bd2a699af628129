//! Sessions with workloads of the node (`localWorkloadSelector`): they dial, over their own interface.
//!
//! Source: Calico `confd/pkg/backends/calico/local_bgp_peer_watcher.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::selector::Selector;

/// A workload of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Labels that selectors see.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of the workloads that a selector means, in the order of the workloads' names.
pub(crate) fn addresses(workloads: &BTreeMap<String, Workload>, selector: &Selector) -> Vec<IpAddr> {
    let selected = workloads
        .values()
        .filter(|workload| selector.matches(&Some(&workload.labels)));
    selected
        .flat_map(|workload| workload.addresses.iter().copied())
        .collect()
}
