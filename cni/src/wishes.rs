//! What annotations ask for, and how that changes the request for addresses.
//!
//! Pure: annotations in, wishes out. A wish that cannot be read fails the pod, naming annotation, value and remedy.
//! Source: Calico's `cni-plugin/pkg/k8s/k8s.go`.

use std::net::IpAddr;

use caracal_api::meta;
use caracal_linux::netlink::MacAddr;
use serde_json::{Map, Value, json};

use crate::conf::{Conf, Features};
use crate::error::{Code, Error, Result};
use crate::pod::Workload;

/// Pod or namespace: families to take addresses of, JSON list.
const IP_FAMILIES: &str = "cni.projectcalico.org/ipFamilies";

/// Where a pod's addresses come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The address plugin chooses.
    #[default]
    Automatic,
    /// The address plugin assigns exactly these.
    Given(Vec<IpAddr>),
    /// These, and no address plugin is asked.
    Unmanaged(Vec<IpAddr>),
}

/// What annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Where addresses come from.
    pub source: Source,
    /// Pools in place of the configured ones.
    pub ipv4_pools: Option<Vec<String>>,
    /// Pools in place of the configured ones.
    pub ipv6_pools: Option<Vec<String>>,
    /// Families in place of the configured ones: IPv4, IPv6.
    pub families: Option<(bool, bool)>,
    /// Hardware address in the container.
    pub mac: Option<MacAddr>,
}

impl Wishes {
    /// Reads the annotations.
    ///
    /// # Errors
    /// Code 7 for an annotation that cannot be read, is not permitted here, or contradicts another.
    pub fn read(workload: &Workload, conf: &Conf) -> Result<Self> {
        let own = |key| workload.annotation(key);
        let mut wishes = Self {
            source: source(own(meta::IP_ADDRS), own(meta::IP_ADDRS_NO_IPAM), conf)?,
            ..Self::default()
        };
        if conf.is_calico_ipam() {
            wishes.ipv4_pools = pools(workload, meta::IPV4_POOLS)?;
            wishes.ipv6_pools = pools(workload, meta::IPV6_POOLS)?;
            wishes.families = workload.inherited(IP_FAMILIES).map(families).transpose()?;
        }
        if let Some(text) = own(meta::HW_ADDR) {
            let mac = text.parse();
            wishes.mac = Some(
                mac.map_err(|_| wrong(meta::HW_ADDR, text, "a hardware address, as 02:00:00:00:00:01"))?,
            );
        }
        check_floating(own(meta::FLOATING_IPS), conf.features)?;
        Ok(wishes)
    }

    /// Changes the `ipam` object for the address plugin.
    pub fn apply(&self, ipam: &mut Map<String, Value>) {
        let pools = [("ipv4_pools", &self.ipv4_pools), ("ipv6_pools", &self.ipv6_pools)];
        for (key, pools) in pools {
            if let Some(pools) = pools {
                ipam.insert(key.to_owned(), json!(pools));
            }
        }
        if let Some((v4, v6)) = self.families {
            // Strings: that is the form which every version of the address plugin reads.
            ipam.insert("assign_ipv4".to_owned(), json!(v4.to_string()));
            ipam.insert("assign_ipv6".to_owned(), json!(v6.to_string()));
        }
    }
}

fn wrong(key: &str, value: &str, right: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("annotation {key} is {value:?}")).hint(format!("write {right}"))
}

fn list(key: &str, value: &str) -> Result<Vec<String>> {
    serde_json::from_str(value).map_err(|_| wrong(key, value, "a JSON list of strings, as [\"a\"]"))
}

fn pools(workload: &Workload, key: &str) -> Result<Option<Vec<String>>> {
    workload.inherited(key).map(|value| list(key, value)).transpose()
}

fn families(value: &str) -> Result<(bool, bool)> {
    let refused = || {
        wrong(
            IP_FAMILIES,
            value,
            "[\"IPv4\"], [\"IPv6\"] or [\"IPv4\",\"IPv6\"]",
        )
    };
    let names = list(IP_FAMILIES, value)?;
    if names.is_empty() || names.iter().any(|name| name != "IPv4" && name != "IPv6") {
        return Err(refused());
    }
    Ok((
        names.iter().any(|name| name == "IPv4"),
        names.iter().any(|name| name == "IPv6"),
    ))
}

fn addresses(key: &str, value: &str) -> Result<Vec<IpAddr>> {
    let right = "a JSON list with at most one address of each family, as [\"10.0.0.1\"]";
    let texts = list(key, value)?;
    let parsed: Option<Vec<IpAddr>> = texts.iter().map(|text| text.parse().ok()).collect();
    let parsed = parsed.ok_or_else(|| wrong(key, value, right))?;
    let count = |v6: bool| parsed.iter().filter(|ip| ip.is_ipv6() == v6).count();
    for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
        if count(v6) > 1 {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("cannot have more than one {family} address for {key:?} annotation"),
            ));
        }
    }
    if parsed.is_empty() {
        return Err(wrong(key, value, right));
    }
    Ok(parsed)
}

fn source(given: Option<&str>, unmanaged: Option<&str>, conf: &Conf) -> Result<Source> {
    let needs_calico_ipam = |key: &str| {
        Error::new(
            Code::InvalidConfig,
            format!(
                "annotation {key} needs ipam.type calico-ipam, not {:?}",
                conf.ipam.kind
            ),
        )
    };
    match (given, unmanaged) {
        (None, None) => Ok(Source::Automatic),
        (Some(_), Some(_)) => Err(Error::new(
            Code::InvalidConfig,
            "can't have both annotations: 'ipAddrs' and 'ipAddrsNoIpam' in use at the same time",
        )),
        (Some(_), None) if !conf.is_calico_ipam() => Err(needs_calico_ipam(meta::IP_ADDRS)),
        (Some(value), None) => Ok(Source::Given(addresses(meta::IP_ADDRS, value)?)),
        (None, Some(_)) if !conf.features.ip_addrs_no_ipam => Err(Error::new(
            Code::InvalidConfig,
            "requested feature is not enabled: ip_addrs_no_ipam",
        )
        .hint("set feature_control.ip_addrs_no_ipam in the network configuration")),
        (None, Some(_)) if !conf.is_calico_ipam() => Err(needs_calico_ipam(meta::IP_ADDRS_NO_IPAM)),
        (None, Some(value)) => Ok(Source::Unmanaged(addresses(meta::IP_ADDRS_NO_IPAM, value)?)),
    }
}

fn check_floating(value: Option<&str>, features: Features) -> Result<()> {
    let Some(value) = value else {
        return Ok(());
    };
    if !features.floating_ips {
        return Err(Error::new(
            Code::InvalidConfig,
            "requested feature is not enabled: floating_ips",
        )
        .hint("set feature_control.floating_ips in the network configuration"));
    }
    let texts = list(meta::FLOATING_IPS, value)?;
    if texts.iter().any(|text| text.parse::<IpAddr>().is_err()) {
        return Err(wrong(meta::FLOATING_IPS, value, "a JSON list of addresses"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pod: &[(&str, &str)], namespace: &[(&str, &str)], extra: &Value) -> Result<Wishes> {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| (format!("cni.projectcalico.org/{key}"), (*value).to_owned()));
            pairs.collect::<std::collections::BTreeMap<String, String>>()
        };
        let mut workload = Workload {
            pod: k8s_openapi::api::core::v1::Pod::default(),
            namespace_annotations: map(namespace),
        };
        workload.pod.metadata.annotations = Some(map(pod));
        let mut document = json!({"name": "n", "ipam": {"type": "calico-ipam"}});
        if let (Some(document), Some(extra)) = (document.as_object_mut(), extra.as_object()) {
            document.extend(extra.clone());
        }
        Wishes::read(&workload, &Conf::parse(document.to_string().as_bytes())?)
    }

    #[test]
    fn the_pod_beats_its_namespace() {
        let wishes = read(
            &[("ipv4pools", "[\"a\"]")],
            &[
                ("ipv4pools", "[\"b\"]"),
                ("ipv6pools", "[\"c\"]"),
                ("ipFamilies", "[\"IPv6\"]"),
            ],
            &json!({}),
        )
        .unwrap();
        assert_eq!(wishes.ipv4_pools, Some(vec!["a".to_owned()]));
        assert_eq!(wishes.ipv6_pools, Some(vec!["c".to_owned()]));
        let mut ipam = Map::new();
        wishes.apply(&mut ipam);
        assert_eq!(
            Value::Object(ipam),
            json!({"ipv4_pools": ["a"], "ipv6_pools": ["c"], "assign_ipv4": "false", "assign_ipv6": "true"})
        );
    }

    #[test]
    fn malformed_and_contradicting_annotations_are_refused() {
        let on = json!({"feature_control": {"ip_addrs_no_ipam": true}});
        for (pod, extra, part) in [
            (vec![("ipv4pools", "blue")], json!({}), "ipv4pools"),
            (vec![("ipFamilies", "[\"v4\"]")], json!({}), "ipFamilies"),
            (vec![("ipAddrs", "[\"10.0.0.300\"]")], json!({}), "10.0.0.300"),
            (
                vec![("ipAddrs", "[\"10.0.0.1\",\"10.0.0.2\"]")],
                json!({}),
                "more than one IPv4",
            ),
            (
                vec![("ipAddrsNoIpam", "[\"10.0.0.1\"]")],
                json!({}),
                "ip_addrs_no_ipam",
            ),
            (
                vec![("ipAddrs", "[\"10.0.0.1\"]"), ("ipAddrsNoIpam", "[\"10.0.0.1\"]")],
                on,
                "both annotations",
            ),
            (
                vec![("ipAddrs", "[\"10.0.0.1\"]")],
                json!({"ipam": {"type": "host-local"}}),
                "calico-ipam",
            ),
            (vec![("hwAddr", "02:00")], json!({}), "hwAddr"),
            (vec![("floatingIPs", "[\"1.1.1.1\"]")], json!({}), "floating_ips"),
        ] {
            let error = read(&pod, &[], &extra).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{pod:?}");
            assert!(error.message.contains(part), "{pod:?}: {error}");
        }
    }

    #[test]
    fn given_addresses_are_read() {
        let wishes = read(
            &[
                ("ipAddrs", "[\"10.0.0.1\",\"fd00::1\"]"),
                ("hwAddr", "02:00:00:00:00:01"),
            ],
            &[],
            &json!({}),
        )
        .unwrap();
        assert!(matches!(&wishes.source, Source::Given(ips) if ips.len() == 2));
        assert!(wishes.mac.is_some());
    }
}
