//! For whom an allocation was made, by its attributes, and whether he still has it.
//!
//! Source: `kube-controllers/pkg/controllers/node/ipam.go` (allocationIsValid). What cannot be judged is valid: nobody
//! must lose an address because somebody could not be asked.

use std::fmt;
use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use caracal_api::virtual_::workload_endpoint::has_address;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::users::pod_addresses;
use crate::block::{handle_of, is_windows};
use crate::reserve::NOTE;

/// `type` of service addresses.
const LOAD_BALANCER: &str = "LoadBalancer";

/// For whom an allocation was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Claimant {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A virtual machine, which keeps its address while pods come and go.
    Machine {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A tunnel device of the allocation's node.
    Tunnel {
        /// The allocation's `type`.
        device: String,
    },
    /// A Service of type LoadBalancer.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The node itself, for pods that start while the API server is away.
    Reserve,
    /// A Windows node, for its own use of the block.
    Windows,
    /// Nobody that the attributes tell.
    Unknown,
}

impl Claimant {
    /// Reads the attributes of an allocation.
    #[must_use]
    pub fn of(attribute: &AllocationAttribute) -> Self {
        let handle = handle_of(attribute).unwrap_or_default();
        if is_windows(attribute) {
            return Self::Windows;
        }
        let text = |name: &str| attribute.secondary.get(name).cloned().unwrap_or_default();
        let alternate = |name: &str| attribute.alternate_owner_attrs.contains_key(name);
        let namespace = text("namespace");
        if attribute.secondary.contains_key("vmi-name") || alternate("vmi-name") || handle.contains(".vmi.") {
            return Self::Machine {
                namespace,
                name: text("vmi-name"),
            };
        }
        let (pod, service, type_) = (text("pod"), text("service"), text("type"));
        if !pod.is_empty() && !namespace.is_empty() {
            return Self::Pod { namespace, name: pod };
        }
        match type_.as_str() {
            LOAD_BALANCER if !service.is_empty() => Self::Service {
                namespace,
                name: service,
            },
            _ if text("note").starts_with(NOTE) => Self::Reserve,
            device if device.ends_with("TunnelAddress") => Self::Tunnel { device: type_ },
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::Machine { namespace, name } => write!(f, "virtual machine {namespace}/{name}"),
            Self::Tunnel { device } => f.write_str(device),
            Self::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
            Self::Reserve => f.write_str("the node's reserve"),
            Self::Windows => f.write_str("Windows"),
            Self::Unknown => f.write_str("nobody known"),
        }
    }
}

/// Why nobody has an allocated address any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "camelCase")]
pub enum LeakReason {
    /// The pod does not exist.
    PodNotFound,
    /// The pod was evicted.
    PodEvicted,
    /// The pod of that name is on another node.
    PodMoved {
        /// That node.
        node: String,
    },
    /// The pod has other addresses, or has ended.
    PodHasNotThis {
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// The node is not in the cluster.
    NodeGone,
    /// The node names no such tunnel address.
    TunnelUnused,
    /// The Service does not exist or is not of type LoadBalancer.
    ServiceGone,
}

impl fmt::Display for LeakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodNotFound => f.write_str("the pod does not exist"),
            Self::PodEvicted => f.write_str("the pod was evicted"),
            Self::PodMoved { node } => write!(f, "the pod of that name is on node {node}"),
            Self::PodHasNotThis { addresses } if addresses.is_empty() => f.write_str("the pod has ended"),
            Self::PodHasNotThis { addresses } => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "the pod has {}", texts.join(", "))
            }
            Self::NodeGone => f.write_str("the node is not in the cluster"),
            Self::TunnelUnused => f.write_str("the node has another tunnel address or none"),
            Self::ServiceGone => f.write_str("there is no such Service of type LoadBalancer"),
        }
    }
}

/// Whether a pod still has an address that was allocated to it on a node.
pub(super) fn judge_pod(pod: Option<&Pod>, node: Option<&str>, address: IpAddr) -> Option<LeakReason> {
    let Some(pod) = pod else {
        return Some(LeakReason::PodNotFound);
    };
    let addresses = pod_addresses(pod)?;
    if addresses.contains(&address) {
        return None;
    }
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let why = status.and_then(|status| status.reason.as_deref());
    if phase == Some("Failed") && why == Some("Evicted") {
        return Some(LeakReason::PodEvicted);
    }
    let now_on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    if let (Some(now_on), Some(node)) = (now_on.filter(|name| !name.is_empty()), node)
        && now_on != node
    {
        return Some(LeakReason::PodMoved {
            node: now_on.to_owned(),
        });
    }
    // Its address may be on the way.
    has_address(pod).then_some(LeakReason::PodHasNotThis { addresses })
}

/// When an allocation was made: the `timestamp` attribute, a time as Go prints it.
pub(super) fn made_at(attribute: &AllocationAttribute) -> Option<Timestamp> {
    let text = attribute.secondary.get("timestamp")?;
    let mut words = text.split_whitespace();
    let (date, time) = (words.next()?, words.next()?);
    format!("{date}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_prints_them() {
        for (text, seconds) in [
            ("2026-08-22 06:33:20.123456789 +0000 UTC", Some(1_787_380_400)),
            ("2026-08-22 06:33:20 +0000 UTC", Some(1_787_380_400)),
            ("yesterday", None),
            ("", None),
        ] {
            let attribute = AllocationAttribute {
                secondary: [("timestamp".to_owned(), text.to_owned())].into(),
                ..AllocationAttribute::default()
            };
            assert_eq!(made_at(&attribute).map(Timestamp::as_second), seconds, "{text}");
        }
    }
}
