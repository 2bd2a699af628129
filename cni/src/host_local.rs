//! What host-local needs of the cluster: `usePodCidr` replaced by the Node's ranges, and its routes.
//!
//! Source: Calico's `cni-plugin/pkg/k8s/k8s.go` and `internal/pkg/utils/utils.go` (ReplaceHostLocalIPAMPodCIDRs).

use caracal_datastore::Client;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};

const USE_POD_CIDR: &str = "usepodcidr";
const USE_POD_CIDR_IPV6: &str = "usepodcidripv6";

/// True when the Node's ranges are wanted anywhere.
#[must_use]
pub fn wants_pod_cidr(ipam: &Map<String, Value>) -> bool {
    let mut found = false;
    each_subnet(ipam, &mut |text| found |= placeholder(text).is_some());
    found
}

/// Replaces the placeholders by the Node's ranges.
///
/// # Errors
/// When the Node is not there or has no range of that family.
pub async fn replace_pod_cidrs(client: &Client, node: &str, ipam: &mut Map<String, Value>) -> Result<()> {
    let object: Option<Node> = client.get(None, node).await?;
    let object = object.ok_or_else(|| {
        Error::new(Code::InvalidConfig, format!("Node {node} does not exist"))
            .hint("set nodename or kubernetes.node_name to the Node's name")
    })?;
    let spec = object.spec.unwrap_or_default();
    let mut texts = spec.pod_cidrs.unwrap_or_default();
    if texts.is_empty() {
        texts.extend(spec.pod_cidr);
    }
    let cidrs: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    substitute(ipam, &cidrs, node)
}

fn placeholder(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        USE_POD_CIDR => Some(false),
        USE_POD_CIDR_IPV6 => Some(true),
        _ => None,
    }
}

fn each_subnet(ipam: &Map<String, Value>, see: &mut impl FnMut(&str)) {
    let own = ipam.get("subnet").into_iter();
    let ranges = ipam.get("ranges").and_then(Value::as_array).into_iter().flatten();
    let nested = ranges
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|range| range.get("subnet"));
    own.chain(nested).filter_map(Value::as_str).for_each(see);
}

fn substitute(ipam: &mut Map<String, Value>, cidrs: &[IpNet], node: &str) -> Result<()> {
    let replace = |subnet: &mut Value| -> Result<()> {
        let Some(v6) = subnet.as_str().and_then(placeholder) else {
            return Ok(());
        };
        let cidr = cidrs
            .iter()
            .find(|cidr| cidr.addr().is_ipv6() == v6)
            .ok_or_else(|| {
                let family = if v6 { "IPv6" } else { "IPv4" };
                Error::new(
                    Code::InvalidConfig,
                    format!("Node {node} has no {family} range in spec.podCIDRs"),
                )
                .hint("let the controller manager allocate node ranges, or write a subnet in ipam")
            })?;
        *subnet = json!(cidr.to_string());
        Ok(())
    };
    if let Some(subnet) = ipam.get_mut("subnet") {
        replace(subnet)?;
    }
    let ranges = ipam.get_mut("ranges").and_then(Value::as_array_mut);
    for range in ranges
        .into_iter()
        .flatten()
        .filter_map(Value::as_array_mut)
        .flatten()
    {
        if let Some(subnet) = range.get_mut("subnet") {
            replace(subnet)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_the_nodes_ranges() {
        let mut document = json!({
            "subnet": "usePodCidr",
            "ranges": [[{"subnet": "USEPODCIDR"}], [{"subnet": "usePodCidrIPv6"}, {"subnet": "10.9.0.0/24"}]],
        });
        let ipam = document.as_object_mut().unwrap();
        assert!(wants_pod_cidr(ipam));
        let cidrs = ["10.0.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        substitute(ipam, &cidrs, "n").unwrap();
        assert!(!wants_pod_cidr(ipam));
        assert_eq!(
            document,
            json!({
                "subnet": "10.0.1.0/24",
                "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:1::/64"}, {"subnet": "10.9.0.0/24"}]],
            })
        );
    }

    #[test]
    fn a_missing_range_is_said() {
        let mut document = json!({"subnet": "usePodCidr"});
        let error = substitute(document.as_object_mut().unwrap(), &[], "node-1").unwrap_err();
        assert!(
            error.message.contains("node-1") && error.message.contains("IPv4"),
            "{error}"
        );
    }
}
