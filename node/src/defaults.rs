//! What a cluster is given at its first start: pools, and configuration with Calico's defaults for a node container.
//!
//! Never changes what exists. Source: Calico's `startup.go` (configureIPPools, ensureDefaultConfig) and
//! `autodetection/ipv4/poolselector.go`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caracal_api::net::overlaps;
use caracal_api::v3::{
    BGPConfiguration, BGPConfigurationSpec, ClusterInformation, FelixConfiguration, FelixConfigurationSpec,
    GoDuration, IPPool, IPPoolSpec,
};
use caracal_datastore::{Client, Error, ListOptions, Object};
use ipnet::{IpNet, Ipv4Net};

use crate::detect::Family;
use crate::environment::{PoolWish, PoolWishes, Range};

/// Names of the pools.
const POOL_V4: &str = "default-ipv4-ippool";
const POOL_V6: &str = "default-ipv6-ippool";
/// Name of the configuration that counts for all nodes.
const GLOBAL: &str = "default";
/// Attempts against other nodes that start at the same time.
const CONFLICTS_MAX: usize = 10;

/// Where the ranges of pools may come from, beside the environment.
#[derive(Clone, Default, Debug)]
pub struct Hints {
    /// kubeadm's podSubnet.
    pub kubeadm: Vec<IpNet>,
    /// Networks that this machine uses itself.
    pub in_use: Vec<IpNet>,
    /// This machine has no IPv6.
    pub no_ipv6: bool,
}

/// The `podSubnet` of kubeadm's configuration, by family in its order.
#[must_use]
pub fn pod_subnets(kubeadm: &BTreeMap<String, String>) -> Vec<IpNet> {
    kubeadm
        .values()
        .flat_map(|text| text.lines())
        .find_map(|line| line.trim().strip_prefix("podSubnet:"))
        .unwrap_or_default()
        .split(',')
        .filter_map(|range| range.trim().trim_matches('"').parse().ok())
        .collect()
}

/// The pools that are missing, of those that are wanted. `random` makes a unique local range.
#[must_use]
pub fn missing_pools(
    wishes: &PoolWishes,
    existing: &[IPPool],
    hints: &Hints,
    random: [u8; 5],
) -> Vec<IPPool> {
    let has = |family: Family| {
        existing
            .iter()
            .filter_map(|pool| pool.spec.network())
            .any(|net| family.has(net.addr()))
    };
    // As Calico: IPv6 has a pool wherever the machine has IPv6; one that nobody takes addresses from harms nobody.
    [
        (Family::V4, POOL_V4, &wishes.v4),
        (Family::V6, POOL_V6, &wishes.v6),
    ]
    .into_iter()
    .filter(|(family, _, _)| !(has(*family) || hints.no_ipv6 && *family == Family::V6))
    .filter_map(|(family, name, wish)| {
        let range = range(family, wish, hints, random)?;
        Some(IPPool::new(name, spec(range, wish)))
    })
    .collect()
}

fn range(family: Family, wish: &PoolWish, hints: &Hints, random: [u8; 5]) -> Option<IpNet> {
    match (&wish.range, family) {
        (Range::None, _) => None,
        (Range::Given(net), _) => Some(*net),
        (Range::Choose, _) if hints.kubeadm.iter().any(|net| family.has(net.addr())) => {
            hints.kubeadm.iter().find(|net| family.has(net.addr())).copied()
        }
        (Range::Choose, Family::V4) => Some(free_v4(&hints.in_use)),
        (Range::Choose, Family::V6) => Some(unique_local(random)),
    }
}

fn spec(range: IpNet, wish: &PoolWish) -> IPPoolSpec {
    IPPoolSpec {
        cidr: range.to_string(),
        ipip_mode: Some(wish.ipip.clone()),
        vxlan_mode: Some(wish.vxlan.clone()),
        nat_outgoing: wish.nat_outgoing,
        block_size: Some(i32::from(wish.block_size)),
        node_selector: wish.node_selector.clone(),
        disable_bgp_export: wish.disable_bgp_export,
        ..IPPoolSpec::default()
    }
}

/// 192.168.0.0/16, or the first private /16 that this machine does not use itself.
fn free_v4(in_use: &[IpNet]) -> IpNet {
    let net = |a, b| Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), 16).ok().map(IpNet::V4);
    let preferred = net(192, 168);
    let others = (16..32)
        .filter_map(|b| net(172, b))
        .chain((0..=255).filter_map(|b| net(10, b)));
    preferred
        .into_iter()
        .chain(others)
        .find(|range| !in_use.iter().any(|used| overlaps(used, range)))
        .or(preferred)
        .unwrap_or_else(|| IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)))
}

/// A range of RFC 4193.
fn unique_local(random: [u8; 5]) -> IpNet {
    let [a, b, c, d, e] = random;
    let address = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    IpNet::new(address.into(), 48).unwrap_or_else(|_| IpNet::from(IpAddr::from(address)))
}

/// Makes the pools that are missing, and tells which were made.
///
/// # Errors
/// Any failed request.
pub async fn ensure_pools(client: &Client, wishes: &PoolWishes, hints: &Hints) -> Result<Vec<String>, Error> {
    let existing: Vec<IPPool> = client.list(None, &ListOptions::default()).await?;
    let mut made = Vec::new();
    for pool in missing_pools(wishes, &existing, hints, rand::random()) {
        if create(client, &pool).await? {
            made.push(format!(
                "{} ({})",
                pool.metadata.name.unwrap_or_default(),
                pool.spec.cidr
            ));
        }
    }
    Ok(made)
}

/// Makes the configuration objects named `default` where there are none.
///
/// # Errors
/// Any failed request.
pub async fn ensure_configuration(client: &Client) -> Result<(), Error> {
    let felix = FelixConfigurationSpec {
        log_severity_screen: Some("Info".to_owned()),
        reporting_interval: Some(GoDuration::Nanoseconds(0)),
        // Pods talk to services of their own node, the API server first; Calico's manifests say so in the environment,
        // where nobody can change it.
        default_endpoint_to_host_action: Some("Return".to_owned()),
        ..FelixConfigurationSpec::default()
    };
    ensure(client, &FelixConfiguration::new(GLOBAL, felix)).await?;
    ensure(
        client,
        &BGPConfiguration::new(GLOBAL, BGPConfigurationSpec::default()),
    )
    .await
}

/// Adds words to the ClusterInformation's `clusterType`, by which tools tell what a cluster is made of.
///
/// # Errors
/// Any failed request.
pub async fn ensure_cluster_type(client: &Client, words: &[&str]) -> Result<(), Error> {
    for _ in 0..CONFLICTS_MAX {
        let Some(mut information) = client.get::<ClusterInformation>(None, GLOBAL).await? else {
            return Ok(());
        };
        let Some(cluster_type) = with_words(&information.spec.cluster_type, words) else {
            return Ok(());
        };
        information.spec.cluster_type = cluster_type;
        match client.update(&information).await {
            // Another node was first: it may have added the words.
            Err(error) if error.is_conflict() => {}
            result => return result.map(drop),
        }
    }
    Ok(())
}

/// The list with the words that it lacks; `None` when it lacks none.
fn with_words(list: &str, words: &[&str]) -> Option<String> {
    let mut all: Vec<&str> = list.split(',').filter(|word| !word.is_empty()).collect();
    let before = all.len();
    for word in words
        .iter()
        .map(|word| word.trim())
        .filter(|word| !word.is_empty())
    {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    (all.len() > before).then(|| all.join(","))
}

async fn ensure<K: Object>(client: &Client, object: &K) -> Result<(), Error> {
    if client.get::<K>(None, GLOBAL).await?.is_none() {
        create(client, object).await?;
    }
    Ok(())
}

/// False when another node was first.
async fn create<K: Object>(client: &Client, object: &K) -> Result<bool, Error> {
    match client.create(object).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn pools(variables: &[(&str, &str)], existing: &[IPPool], hints: &Hints) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let wishes = Environment::read(&variables, "n1").unwrap().pools;
        missing_pools(&wishes, existing, hints, [1, 2, 3, 4, 5])
            .into_iter()
            .map(|pool| format!("{} {}", pool.metadata.name.unwrap(), pool.spec.cidr))
            .collect()
    }

    #[test]
    fn ranges_come_from_the_environment_kubeadm_or_what_is_free() {
        let hints = Hints::default();
        assert_eq!(
            pools(&[], &[], &hints),
            [
                "default-ipv4-ippool 192.168.0.0/16",
                "default-ipv6-ippool fd01:203:405::/48"
            ]
        );
        let busy = Hints {
            in_use: nets(&["192.168.1.7/24", "172.16.0.0/15", "fe80::1/64"]),
            ..Hints::default()
        };
        assert_eq!(pools(&[], &[], &busy)[0], "default-ipv4-ippool 172.18.0.0/16");
        let kubeadm = Hints {
            kubeadm: nets(&["10.244.0.0/16", "fd00:244::/48"]),
            ..busy
        };
        assert_eq!(
            pools(&[], &[], &kubeadm),
            [
                "default-ipv4-ippool 10.244.0.0/16",
                "default-ipv6-ippool fd00:244::/48"
            ]
        );
        assert_eq!(
            pools(
                &[
                    ("CALICO_IPV4POOL_CIDR", "10.9.0.0/16"),
                    ("CALICO_IPV6POOL_CIDR", "none")
                ],
                &[],
                &kubeadm
            ),
            ["default-ipv4-ippool 10.9.0.0/16"]
        );
        let full = Hints {
            in_use: nets(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]),
            ..Hints::default()
        };
        assert_eq!(pools(&[], &[], &full)[0], "default-ipv4-ippool 192.168.0.0/16");
    }

    #[test]
    fn a_family_that_has_a_pool_gets_none() {
        let spec = IPPoolSpec {
            cidr: "10.1.0.0/16".to_owned(),
            ..IPPoolSpec::default()
        };
        let existing = [IPPool::new("mine", spec)];
        assert_eq!(
            pools(&[], &existing, &Hints::default()),
            ["default-ipv6-ippool fd01:203:405::/48"]
        );
        let no_ipv6 = Hints {
            no_ipv6: true,
            ..Hints::default()
        };
        assert!(pools(&[], &existing, &no_ipv6).is_empty());
        assert!(pools(&[("NO_DEFAULT_POOLS", "true")], &[], &Hints::default()).is_empty());
    }

    #[test]
    fn words_are_added_once() {
        assert_eq!(
            with_words("k8s,kdd", &["bgp", "k8s", " "]).unwrap(),
            "k8s,kdd,bgp"
        );
        assert_eq!(with_words("k8s,bgp", &["bgp"]), None);
        assert_eq!(with_words("", &["k8s"]).unwrap(), "k8s");
    }

    #[test]
    fn kubeadms_pod_subnet_is_found() {
        let text = "networking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16,fd00::/48\n  serviceSubnet: 10.96.0.0/12\n";
        let data = BTreeMap::from([("ClusterConfiguration".to_owned(), text.to_owned())]);
        assert_eq!(pod_subnets(&data), nets(&["10.244.0.0/16", "fd00::/48"]));
        assert!(pod_subnets(&BTreeMap::new()).is_empty());
    }
}
