//! The addresses of this node's tunnel devices: one of a pool for each kind of tunnel that pools ask for.
//!
//! # Ownership
//! Allocations under the handles `KIND-tunnel-addr-NODE`, and the Node's annotations with the addresses.
//! An address is assigned before it is written to the Node; a crash in between leaves an allocation that the next run
//! finds by its handle and releases. Source: Calico's `node/pkg/allocateip/allocateip.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::meta;
use caracal_api::selector::Selector;
use caracal_api::v3::{EncapsulationMode, FelixConfiguration, IPPool, IPPoolAllowedUse};
use caracal_api::virtual_::node::from_k8s;
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{AutoAssign, Ipam};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};

use crate::detect::Family;

/// A kind of tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// IP-in-IP.
    Ipip,
    /// VXLAN for IPv4 pods.
    Vxlan,
    /// VXLAN for IPv6 pods.
    VxlanV6,
    /// WireGuard for IPv4 pods.
    Wireguard,
    /// WireGuard for IPv6 pods.
    WireguardV6,
}

impl Tunnel {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Ipip,
        Self::Vxlan,
        Self::VxlanV6,
        Self::Wireguard,
        Self::WireguardV6,
    ];

    const fn family(self) -> Family {
        match self {
            Self::Ipip | Self::Vxlan | Self::Wireguard => Family::V4,
            Self::VxlanV6 | Self::WireguardV6 => Family::V6,
        }
    }

    /// The handle of the allocation.
    #[must_use]
    pub fn handle(self, node: &str) -> String {
        let kind = match self {
            Self::Ipip => "ipip",
            Self::Vxlan => "vxlan",
            Self::VxlanV6 => "vxlan-v6",
            Self::Wireguard => "wireguard",
            Self::WireguardV6 => "wireguard-v6",
        };
        format!("{kind}-tunnel-addr-{node}")
    }

    /// The `type` attribute of the allocation.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Ipip => "ipipTunnelAddress",
            Self::Vxlan => "vxlanTunnelAddress",
            Self::VxlanV6 => "vxlanV6TunnelAddress",
            Self::Wireguard => "wireguardTunnelAddress",
            Self::WireguardV6 => "wireguardV6TunnelAddress",
        }
    }

    /// The Node's annotation with the address.
    #[must_use]
    pub const fn annotation(self) -> &'static str {
        match self {
            Self::Ipip => meta::NODE_IPV4_IPIP_TUNNEL_ADDR,
            Self::Vxlan => meta::NODE_IPV4_VXLAN_TUNNEL_ADDR,
            Self::VxlanV6 => meta::NODE_IPV6_VXLAN_TUNNEL_ADDR,
            Self::Wireguard => meta::NODE_IPV4_WIREGUARD_INTERFACE_ADDR,
            Self::WireguardV6 => meta::NODE_IPV6_WIREGUARD_INTERFACE_ADDR,
        }
    }
}

/// What decides about a node's tunnels.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It has a WireGuard key of IPv4.
    pub key_v4: bool,
    /// It has a WireGuard key of IPv6.
    pub key_v6: bool,
    /// WireGuard is for the machine's own traffic too, and then needs no address of its own.
    pub host_encryption: bool,
}

/// The pools that ask for a tunnel on a node. Pure.
#[must_use]
pub fn pools_for(tunnel: Tunnel, facts: &Facts, pools: &[IPPool]) -> Vec<IpNet> {
    pools
        .iter()
        .filter_map(|pool| {
            let net = pool.spec.network()?;
            let spec = &pool.spec;
            let usable = !spec.disabled
                && pool.metadata.deletion_timestamp.is_none()
                && (spec.allowed_uses.is_empty() || spec.allowed_uses.contains(&IPPoolAllowedUse::Tunnel))
                && selects(&spec.node_selector, &facts.labels);
            let on = |mode: Option<&EncapsulationMode>| {
                matches!(
                    mode,
                    Some(EncapsulationMode::Always | EncapsulationMode::CrossSubnet)
                )
            };
            let asks = match tunnel {
                Tunnel::Ipip => on(spec.ipip_mode.as_ref()),
                Tunnel::Vxlan | Tunnel::VxlanV6 => on(spec.vxlan_mode.as_ref()),
                Tunnel::Wireguard => facts.key_v4 && !facts.host_encryption,
                Tunnel::WireguardV6 => facts.key_v6 && !facts.host_encryption,
            };
            (usable && asks && tunnel.family().has(net.addr())).then_some(net)
        })
        .collect()
}

/// A selector that cannot be read selects nothing.
fn selects(selector: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.trim().is_empty() || Selector::parse(selector).is_ok_and(|selector| selector.matches(labels))
}

/// What decides about the tunnels of a Node.
#[must_use]
pub fn facts(node: &Node, configuration: Option<&FelixConfiguration>) -> Facts {
    let Some(known) = from_k8s(node) else {
        return Facts::default();
    };
    Facts {
        labels: known.metadata.labels.unwrap_or_default(),
        key_v4: !known.status.wireguard_public_key.is_empty(),
        key_v6: !known.status.wireguard_public_key_v6.is_empty(),
        host_encryption: configuration
            .and_then(|configuration| configuration.spec.wireguard_host_encryption_enabled)
            .unwrap_or(false),
    }
}

/// Makes the node's tunnel addresses as the pools ask for them.
#[derive(Clone, Debug)]
pub struct Tunnels {
    client: Client,
    ipam: Ipam,
    node: String,
    kubernetes_node: String,
}

/// Why the tunnel addresses are not as asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API refused or did not answer.
    #[error(transparent)]
    Api(#[from] caracal_datastore::Error),
    /// No address was assigned or released.
    #[error("{tunnel}: {source}")]
    Ipam {
        /// Which address.
        tunnel: &'static str,
        /// Why.
        source: caracal_ipam::Error,
    },
    /// The pools have no address left.
    #[error("{tunnel}: no address is free in {pools}; add an IPPool, or allow the use Tunnel in another")]
    NoAddress {
        /// Which address.
        tunnel: &'static str,
        /// The pools.
        pools: String,
    },
}

impl Tunnels {
    /// Of a node, by its name here and as a Kubernetes Node.
    #[must_use]
    pub fn new(client: Client, node: &str, kubernetes_node: &str) -> Self {
        Self {
            ipam: Ipam::new(client.clone()),
            client,
            node: node.to_owned(),
            kubernetes_node: kubernetes_node.to_owned(),
        }
    }

    /// Brings addresses and annotations into order. True when something was changed.
    ///
    /// # Errors
    /// When a request fails, or no address is free; what was done stays done.
    pub async fn ensure(&self) -> Result<bool, Error> {
        let Some(node) = self.client.get::<Node>(None, &self.kubernetes_node).await? else {
            return Ok(false);
        };
        let configuration: Option<FelixConfiguration> = self.client.get(None, "default").await?;
        let pools: Vec<IPPool> = self.client.list(None, &ListOptions::default()).await?;
        let facts = facts(&node, configuration.as_ref());
        let annotations = node.metadata.annotations.unwrap_or_default();
        let mut changed = false;
        for tunnel in Tunnel::ALL {
            let stored = annotations.get(tunnel.annotation()).map(String::as_str);
            let stored = stored.filter(|text| !text.is_empty());
            let wanted = self
                .address(tunnel, stored, &pools_for(tunnel, &facts, &pools))
                .await?;
            if wanted.map(|address| address.to_string()).as_deref() != stored {
                self.annotate(tunnel, wanted).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The address of a tunnel: the stored one while it is this node's and in a pool, another one, or none.
    async fn address(
        &self,
        tunnel: Tunnel,
        stored: Option<&str>,
        pools: &[IpNet],
    ) -> Result<Option<IpAddr>, Error> {
        let failed = |source| Error::Ipam {
            tunnel: tunnel.attribute(),
            source,
        };
        if pools.is_empty() {
            if stored.is_some() {
                self.release(tunnel).await?;
            }
            return Ok(None);
        }
        if let Some(address) = stored.and_then(|text| text.parse::<IpAddr>().ok())
            && pools.iter().any(|pool| pool.contains(&address))
            && let Some(owner) = self.ipam.assignment_of(address).await.map_err(failed)?
        {
            let is = |key: &str, value: &str| owner.attributes.get(key).map(String::as_str) == Some(value);
            if owner.released_at.is_none() && is("type", tunnel.attribute()) && is("node", &self.node) {
                return Ok(Some(address));
            }
        }
        // What a crash left behind, or an address outside of the pools.
        self.release(tunnel).await?;
        self.assign(tunnel, pools).await.map(Some)
    }

    async fn assign(&self, tunnel: Tunnel, pools: &[IpNet]) -> Result<IpAddr, Error> {
        let names: Vec<String> = pools.iter().map(ToString::to_string).collect();
        let is_v4 = tunnel.family() == Family::V4;
        let request = AutoAssign {
            v4: usize::from(is_v4),
            v6: usize::from(!is_v4),
            attributes: BTreeMap::from([
                ("node".to_owned(), self.node.clone()),
                ("type".to_owned(), tunnel.attribute().to_owned()),
            ]),
            v4_pools: if is_v4 { names.clone() } else { Vec::new() },
            v6_pools: if is_v4 { Vec::new() } else { names.clone() },
            use_: IPPoolAllowedUse::Tunnel,
            ..AutoAssign::workload(&self.node, &tunnel.handle(&self.node))
        };
        let assigned = self
            .ipam
            .auto_assign(&request)
            .await
            .map_err(|source| Error::Ipam {
                tunnel: tunnel.attribute(),
                source,
            })?;
        let address = assigned.all().next().ok_or_else(|| Error::NoAddress {
            tunnel: tunnel.attribute(),
            pools: names.join(", "),
        })?;
        tracing::info!(address = %address.addr(), tunnel = tunnel.attribute(), "tunnel address assigned");
        Ok(address.addr())
    }

    async fn release(&self, tunnel: Tunnel) -> Result<(), Error> {
        match self.ipam.release_by_handle(&tunnel.handle(&self.node)).await {
            Err(source) if !source.is_not_found() => Err(Error::Ipam {
                tunnel: tunnel.attribute(),
                source,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn annotate(&self, tunnel: Tunnel, address: Option<IpAddr>) -> Result<(), Error> {
        let value = address.map_or(Value::Null, |address| json!(address.to_string()));
        let annotations = Map::from_iter([(tunnel.annotation().to_owned(), value)]);
        let patch = json!({"metadata": {"annotations": annotations}});
        self.client
            .patch_status::<Node>(None, &self.kubernetes_node, &patch)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> IPPool {
        let spec = serde_json::from_str(text).unwrap();
        IPPool::new("p", spec)
    }

    fn check(tunnel: Tunnel, facts: &Facts, pools: &[&str]) -> Vec<String> {
        let pools: Vec<IPPool> = pools.iter().map(|text| pool(text)).collect();
        pools_for(tunnel, facts, &pools)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn pools_ask_for_the_tunnels_of_their_mode_and_family() {
        let none = Facts::default();
        let pools = [
            r#"{"cidr":"10.1.0.0/16","ipipMode":"CrossSubnet"}"#,
            r#"{"cidr":"10.2.0.0/16","vxlanMode":"Always"}"#,
            r#"{"cidr":"fd00::/48","vxlanMode":"Always"}"#,
            r#"{"cidr":"10.3.0.0/16","ipipMode":"Always","disabled":true}"#,
            r#"{"cidr":"10.4.0.0/16","ipipMode":"Always","allowedUses":["Workload"]}"#,
            r#"{"cidr":"10.5.0.0/16","ipipMode":"Always","nodeSelector":"rack == 'b'"}"#,
            r#"{"cidr":"10.6.0.0/16","ipipMode":"Never"}"#,
            r#"{"cidr":"10.7.0.0/16","ipipMode":"Always","nodeSelector":"rack =="}"#,
        ];
        assert_eq!(check(Tunnel::Ipip, &none, &pools), ["10.1.0.0/16"]);
        assert_eq!(check(Tunnel::Vxlan, &none, &pools), ["10.2.0.0/16"]);
        assert_eq!(check(Tunnel::VxlanV6, &none, &pools), ["fd00::/48"]);
        assert!(check(Tunnel::Wireguard, &none, &pools).is_empty());
        let rack_b = Facts {
            labels: BTreeMap::from([("rack".to_owned(), "b".to_owned())]),
            key_v6: true,
            ..Facts::default()
        };
        assert_eq!(
            check(Tunnel::Ipip, &rack_b, &pools),
            ["10.1.0.0/16", "10.5.0.0/16"]
        );
        assert_eq!(check(Tunnel::WireguardV6, &rack_b, &pools), ["fd00::/48"]);
        let encrypted = Facts {
            host_encryption: true,
            ..rack_b
        };
        assert!(check(Tunnel::WireguardV6, &encrypted, &pools).is_empty());
    }
}
