//! Workload endpoints: what policy and routing see of a Pod.

mod qos;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

pub use qos::QosControls;

use crate::meta;
use crate::names;
use crate::v3::Protocol;

/// Name of the interface inside every pod.
const ENDPOINT: &str = "eth0";
/// Service accounts with longer names get no label.
const SERVICE_ACCOUNT_LABEL_LENGTH_END: usize = 63;
/// Annotation of other CNI plugins that is passed on.
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A workload endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadEndpoint {
    /// Name (`<node>-k8s-<pod>-eth0`), namespace and labels.
    pub metadata: ObjectMeta,
    /// The endpoint.
    pub spec: WorkloadEndpointSpec,
}

/// What is known of a workload endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// `k8s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// Workload name of orchestrators without pods.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The node that the pod is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Container id of the sandbox.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Name of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Name of the interface inside the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Service account of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Addresses, as /32 and /128; none for pods that have finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<String>,
    /// Floating addresses.
    #[serde(rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// IPv4 gateway.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv4_gateway: String,
    /// IPv6 gateway.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv6_gateway: String,
    /// Profiles, first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Name of the host's end of the veth pair.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Hardware address inside the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Prefixes that the pod may send from beside its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Limits of bandwidth, packets and connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<QosControls>,
}

/// A floating address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNat {
    /// The pod's own address.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The floating address.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A named port, or one with a port on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointPort {
    /// Name of the port; may be empty for host ports.
    pub name: String,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Port number inside the pod.
    pub port: u16,
    /// Port number on the host; 0 = none.
    #[serde(default)]
    pub host_port: u16,
    /// Address on the host; empty = all.
    #[serde(rename = "hostIP", default)]
    pub host_ip: String,
}

/// Why a pod's endpoint cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// An address does not parse.
    #[error("pod address {0:?} is neither an address nor a CIDR")]
    Address(String),
    /// An annotation is not the JSON that it should be.
    #[error("annotation {annotation} has value {value:?}: write a JSON list of strings")]
    AnnotationJson {
        /// Name of the annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
    },
    /// An annotation has an entry that is no CIDR.
    #[error("annotation {annotation} has entry {value:?}: write a CIDR")]
    AnnotationCidr {
        /// Name of the annotation.
        annotation: &'static str,
        /// The entry.
        value: String,
    },
    /// A floating address needs a pod address of full length.
    #[error("pod address {0} has a mask: floating addresses need a single address")]
    FloatingNeedsAddress(String),
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// True when the pod is an endpoint at all: scheduled, and not in the host's network.
#[must_use]
pub fn is_endpoint(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        spec.host_network != Some(true) && spec.node_name.as_ref().is_some_and(|node| !node.is_empty())
    })
}

/// True when the pod has an address, by its status or by the CNI plugin's annotation.
#[must_use]
pub fn has_address(pod: &Pod) -> bool {
    let in_status = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref())
        .is_some_and(|ip| !ip.is_empty());
    let annotated = |name| annotation(pod, name).is_some_and(|ip| !ip.is_empty());
    in_status || annotated(meta::POD_IP) || annotated(meta::POD_IPS_AWS)
}

/// True when the pod no longer owns its address: it has ended, or it is being deleted and the CNI plugin has taken
/// the address away.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    let is_emptied = |name| annotation(pod, name).is_some_and(str::is_empty);
    if pod.metadata.deletion_timestamp.is_some()
        && (is_emptied(meta::POD_IP) || is_emptied(meta::POD_IPS_AWS))
    {
        return true;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded" | "Completed"))
}

/// The endpoint of a pod; `None` when the pod is none ([`is_endpoint`]).
///
/// # Errors
/// When an address or annotation of the pod does not parse. Such a pod must not carry traffic.
pub fn from_pod(pod: &Pod) -> Result<Option<WorkloadEndpoint>, PodError> {
    let Some(spec) = pod.spec.as_ref().filter(|_| is_endpoint(pod)) else {
        return Ok(None);
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let node = spec.node_name.clone().unwrap_or_default();
    let account = spec.service_account_name.clone().unwrap_or_default();
    let mut addresses = addresses(pod)?;
    if is_finished(pod) {
        addresses.clear();
    }
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    let endpoint_spec = WorkloadEndpointSpec {
        orchestrator: meta::ORCHESTRATOR_K8S.to_owned(),
        container_id: annotation(pod, meta::POD_CONTAINER_ID)
            .unwrap_or_default()
            .to_owned(),
        endpoint: ENDPOINT.to_owned(),
        ip_networks: addresses.iter().map(ToString::to_string).collect(),
        ip_nats: floating_addresses(pod, &addresses)?,
        profiles: profiles(&namespace, &account),
        interface_name: names::veth_name(&namespace, &name),
        ports: spec
            .containers
            .iter()
            .chain(init_containers)
            .flat_map(ports)
            .collect(),
        allow_spoofed_source_prefixes: source_prefixes(pod)?,
        qos_controls: qos::from_annotations(pod.metadata.annotations.as_ref()),
        node: node.clone(),
        pod: name.clone(),
        service_account_name: account.clone(),
        ..WorkloadEndpointSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(names::workload_endpoint_name(&node, &name)),
        labels: Some(labels(pod, &namespace, &account)),
        namespace: Some(namespace),
        generate_name: pod
            .metadata
            .generate_name
            .clone()
            .filter(|prefix| !prefix.is_empty()),
        uid: pod.metadata.uid.clone(),
        creation_timestamp: pod.metadata.creation_timestamp.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        annotations: annotation(pod, NETWORK_STATUS)
            .map(|status| [(NETWORK_STATUS.to_owned(), status.to_owned())].into()),
        ..ObjectMeta::default()
    };
    Ok(Some(WorkloadEndpoint {
        metadata,
        spec: endpoint_spec,
    }))
}

fn profiles(namespace: &str, account: &str) -> Vec<String> {
    let mut profiles = vec![format!("{}{namespace}", meta::NAMESPACE_PROFILE_PREFIX)];
    if !account.is_empty() {
        profiles.push(format!(
            "{}{namespace}.{account}",
            meta::SERVICE_ACCOUNT_PROFILE_PREFIX
        ));
    }
    profiles
}

fn labels(pod: &Pod, namespace: &str, account: &str) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(meta::LABEL_NAMESPACE.to_owned(), namespace.to_owned());
    labels.insert(
        meta::LABEL_ORCHESTRATOR.to_owned(),
        meta::ORCHESTRATOR_K8S.to_owned(),
    );
    if !account.is_empty() && account.len() < SERVICE_ACCOUNT_LABEL_LENGTH_END {
        labels.insert(meta::LABEL_SERVICE_ACCOUNT.to_owned(), account.to_owned());
    }
    labels
}

/// Addresses from the first source that has any: status, our annotations, the AWS plugin's annotation.
fn addresses(pod: &Pod) -> Result<Vec<IpNet>, PodError> {
    let status = pod.status.as_ref();
    let from_list: Vec<&str> = status
        .and_then(|status| status.pod_ips.as_ref())
        .into_iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .collect();
    let sources = [
        from_list,
        status
            .and_then(|status| status.pod_ip.as_deref())
            .into_iter()
            .filter(|ip| !ip.is_empty())
            .collect(),
        list(annotation(pod, meta::POD_IPS)),
        list(annotation(pod, meta::POD_IP)),
        list(annotation(pod, meta::POD_IPS_AWS)),
    ];
    let texts = sources
        .into_iter()
        .find(|source| !source.is_empty())
        .unwrap_or_default();
    texts.into_iter().map(parse_address).collect()
}

fn list(text: Option<&str>) -> Vec<&str> {
    text.filter(|text| !text.is_empty())
        .into_iter()
        .flat_map(|text| text.split(','))
        .collect()
}

fn parse_address(text: &str) -> Result<IpNet, PodError> {
    let net = text.parse::<IpNet>().map(|net| net.trunc());
    net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| PodError::Address(text.to_owned()))
}

fn json_list(annotation: &'static str, value: &str) -> Result<Vec<String>, PodError> {
    serde_json::from_str(value).map_err(|_| PodError::AnnotationJson {
        annotation,
        value: value.to_owned(),
    })
}

fn floating_addresses(pod: &Pod, addresses: &[IpNet]) -> Result<Vec<IpNat>, PodError> {
    let Some(value) = annotation(pod, meta::FLOATING_IPS).filter(|_| !addresses.is_empty()) else {
        return Ok(Vec::new());
    };
    let floating = json_list(meta::FLOATING_IPS, value)?;
    if let Some(masked) = addresses
        .iter()
        .find(|net| net.prefix_len() != net.max_prefix_len())
    {
        return Err(PodError::FloatingNeedsAddress(masked.to_string()));
    }
    // The last address of a family counts.
    let own = |v6: bool| {
        addresses
            .iter()
            .rev()
            .map(IpNet::addr)
            .find(|address| address.is_ipv6() == v6)
    };
    let pairs = floating.into_iter().filter_map(|external_ip| {
        let internal_ip = own(external_ip.contains(':'))?.to_string();
        Some(IpNat {
            internal_ip,
            external_ip,
        })
    });
    Ok(pairs.collect())
}

fn source_prefixes(pod: &Pod) -> Result<Vec<String>, PodError> {
    let Some(value) = annotation(pod, meta::ALLOWED_SOURCE_PREFIXES).filter(|value| !value.is_empty()) else {
        return Ok(Vec::new());
    };
    let prefixes = json_list(meta::ALLOWED_SOURCE_PREFIXES, value)?;
    let parse = |text: String| match text.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc().to_string()),
        Err(_) => Err(PodError::AnnotationCidr {
            annotation: meta::ALLOWED_SOURCE_PREFIXES,
            value: text,
        }),
    };
    prefixes.into_iter().map(parse).collect()
}

/// The ports of a container that policy can refer to: those with a name or a port on the host.
fn ports(container: &Container) -> Vec<WorkloadEndpointPort> {
    let number = |port: i32| u16::try_from(port).unwrap_or(0);
    let mut ports = Vec::new();
    for port in container.ports.iter().flatten() {
        let name = port.name.clone().unwrap_or_default();
        let host_port = port.host_port.map_or(0, number);
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => "TCP",
            Some(protocol @ ("UDP" | "SCTP")) => protocol,
            Some(_) => continue,
        };
        let container_port = number(port.container_port);
        if container_port != 0 && (host_port != 0 || !name.is_empty()) {
            let host_ip = port.host_ip.clone().unwrap_or_default();
            let protocol = Protocol::named(protocol);
            ports.push(WorkloadEndpointPort {
                name,
                protocol,
                port: container_port,
                host_port,
                host_ip,
            });
        }
    }
    ports
}
