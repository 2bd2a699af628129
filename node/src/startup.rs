//! What is done once, before this node can be said to work: addresses, default objects, the node's name for the CNI
//! plugins. Every step may be done again, so all are, until all have succeeded.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use caracal_api::meta;
use caracal_api::virtual_::node::{NodeInterface, from_k8s};
use caracal_datastore::{Client, ListOptions, init};
use caracal_ipam::Ipam;
use caracal_linux::netlink::{Netlink, RouteKind, TABLE_MAIN};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use serde_json::{Map, Value, json};

use crate::address::{self, Decision, NotFound};
use crate::defaults::{self, Hints};
use crate::detect::{Family, Interface, is_internal, useless};
use crate::environment::{Backend, Environment, Range, Source};
use crate::{files, host};

const KUBE_SYSTEM: &str = "kube-system";
const KUBEADM_CONFIG: &str = "kubeadm-config";

/// Why a step cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API refused or did not answer.
    #[error(transparent)]
    Api(#[from] caracal_datastore::Error),
    /// IPAM's objects could not be brought up to date.
    #[error(transparent)]
    Ipam(#[from] caracal_ipam::Error),
    /// The kernel did not answer.
    #[error(transparent)]
    Kernel(#[from] caracal_linux::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// No address was found.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// There is no address at all.
    #[error(
        "this node has neither an IPv4 nor an IPv6 address; set IP or IP6 to autodetect or to an address"
    )]
    NoAddress,
    /// Another node has the address.
    #[error(
        "node {node} has the address {address} too; give this node another one (IP, IP_AUTODETECTION_METHOD), or set DISABLE_NODE_IP_CHECK=true"
    )]
    Conflict {
        /// The other node.
        node: String,
        /// The address.
        address: IpAddr,
    },
    /// There is no such Node.
    #[error("there is no Node named {0:?}; set NODENAME to the name of this machine's Node object")]
    NoNode(String),
}

/// Everything the steps work with.
#[derive(Clone, Debug)]
pub struct Startup {
    /// The API.
    pub client: Client,
    /// The kernel.
    pub netlink: Netlink,
    /// What the environment says.
    pub environment: Environment,
    /// Where the CNI plugins read the node's name.
    pub nodename_file: PathBuf,
}

impl Startup {
    /// Does every step.
    ///
    /// # Errors
    /// With the first step that cannot be done.
    pub async fn run(&self) -> Result<(), Error> {
        init::ensure_defaults(&self.client).await?;
        Ipam::new(self.client.clone())
            .upgrade_host(&self.environment.node)
            .await?;
        self.addresses().await?;
        self.objects().await?;
        write_nodename(&self.nodename_file, &self.environment.node)?;
        tracing::info!(node = %self.environment.node, "start-up steps done");
        Ok(())
    }

    /// Finds the node's addresses and writes those that changed.
    ///
    /// # Errors
    /// When none is found, another node has it, or the API refuses.
    pub async fn addresses(&self) -> Result<(), Error> {
        let name = &self.environment.kubernetes_node;
        let node: Option<Node> = self.client.get(None, name).await?;
        let node = node.ok_or_else(|| Error::NoNode(name.clone()))?;
        let mut wanted = Map::new();
        if self.environment.backend != Backend::None {
            let interfaces = host::interfaces(&self.netlink).await?;
            let decided = self.decide(&node, &interfaces)?;
            let addresses: Vec<IpNet> = decided.iter().filter_map(|(_, one)| one.address).collect();
            if addresses.is_empty() {
                return Err(Error::NoAddress);
            }
            if self.environment.check_conflicts && decided.iter().any(|(_, one)| one.changes) {
                self.check_conflicts(&addresses).await?;
            }
            for (family, decision) in &decided {
                if let (true, Some(address)) = (decision.changes, decision.address) {
                    wanted.insert(annotation(*family).to_owned(), json!(address.to_string()));
                }
            }
            if let Some(text) = self.interfaces_text(&interfaces) {
                wanted.insert(meta::NODE_INTERFACES.to_owned(), json!(text));
            }
        }
        if let (Some(number), true) = (
            self.environment.as_number,
            self.environment.backend != Backend::None,
        ) {
            wanted.insert(meta::NODE_AS_NUMBER.to_owned(), json!(number.0.to_string()));
        }
        self.annotate(&node, wanted).await
    }

    fn decide(&self, node: &Node, interfaces: &[Interface]) -> Result<Vec<(Family, Decision)>, Error> {
        let internal_ips = internal_ips(node);
        let mut decided = Vec::new();
        for family in Family::ALL {
            let wish = self.environment.wish(family);
            let machine = host::machine(interfaces, &internal_ips, &wish.method, family);
            let stored = stored(node, annotation(family));
            match address::decide(family, wish, stored, &machine) {
                Ok(decision) => {
                    tell(family, stored, &decision);
                    decided.push((family, decision));
                }
                Err(error) => {
                    for candidate in &error.candidates {
                        tracing::warn!(candidate = %candidate, "address looked at");
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(decided)
    }

    async fn check_conflicts(&self, addresses: &[IpNet]) -> Result<(), Error> {
        let nodes: Vec<Node> = self.client.list(None, &ListOptions::default()).await?;
        let nodes: Vec<_> = nodes.iter().filter_map(from_k8s).collect();
        let others = nodes
            .iter()
            .map(|node| (node.name(), node.ipv4().into_iter().chain(node.ipv6()).collect()));
        let own = &self.environment.kubernetes_node;
        match address::conflicts(own, addresses, others).into_iter().next() {
            Some((node, address)) => Err(Error::Conflict { node, address }),
            None => Ok(()),
        }
    }

    /// The interfaces of the machine itself, as Calico lists them when an address is asked for.
    fn interfaces_text(&self, interfaces: &[Interface]) -> Option<String> {
        let asked = |family| !matches!(self.environment.wish(family).source, Source::Unset | Source::Off);
        if !Family::ALL.into_iter().any(asked) {
            return None;
        }
        let mut listed: Vec<NodeInterface> = interfaces
            .iter()
            .filter(|interface| !is_internal(&interface.name))
            .map(|interface| NodeInterface {
                name: interface.name.clone(),
                addresses: interface
                    .addresses
                    .iter()
                    .map(IpNet::addr)
                    .filter(|address| Family::ALL.into_iter().any(|one| asked(one) && one.has(*address)))
                    // They come and go with the link, and nobody elsewhere can use them.
                    .filter(|address| useless(*address).is_none())
                    .map(|address| address.to_string())
                    .collect(),
            })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        serde_json::to_string(&listed).ok()
    }

    /// Writes annotations that differ, through the status as Calico does: that needs the right to it alone.
    async fn annotate(&self, node: &Node, mut wanted: Map<String, Value>) -> Result<(), Error> {
        wanted.retain(|key, value| stored(node, key) != value.as_str());
        if wanted.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": wanted}});
        let name = &self.environment.kubernetes_node;
        self.client.patch_status::<Node>(None, name, &patch).await?;
        Ok(())
    }

    /// Pools and configuration, where a cluster has none.
    async fn objects(&self) -> Result<(), Error> {
        let kubeadm = self.kubeadm().await?;
        let mut words: Vec<&str> = self.environment.cluster_type.split(',').collect();
        if kubeadm.is_some() {
            words.push("kubeadm");
        }
        defaults::ensure_cluster_type(&self.client, &words).await?;
        let pools = &self.environment.pools;
        // A cluster whose pools come from elsewhere need not let its nodes read them for that.
        if pools.v4.range != Range::None || pools.v6.range != Range::None {
            let hints = Hints {
                kubeadm: kubeadm.unwrap_or_default(),
                in_use: in_use(&self.netlink).await?,
                no_ipv6: !Path::new("/proc/sys/net/ipv6").exists(),
            };
            for pool in defaults::ensure_pools(&self.client, pools, &hints).await? {
                tracing::info!(pool, "default pool made");
            }
        }
        defaults::ensure_configuration(&self.client).await?;
        Ok(())
    }

    /// kubeadm's podSubnet, in a cluster that kubeadm made and where this account may read it.
    async fn kubeadm(&self) -> Result<Option<Vec<IpNet>>, Error> {
        let found = self
            .client
            .get::<ConfigMap>(Some(KUBE_SYSTEM), KUBEADM_CONFIG)
            .await;
        match found {
            Ok(map) => Ok(map.map(|map| defaults::pod_subnets(&map.data.unwrap_or_default()))),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the CNI plugins read the node's name; without line end, as they take it whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_nodename(path: &Path, node: &str) -> Result<bool, files::Error> {
    files::replace(path, node.as_bytes(), 0o644)
}

/// Networks that pods must not be given: those of the own addresses and of routes that other programs made.
async fn in_use(netlink: &Netlink) -> Result<Vec<IpNet>, Error> {
    let routes = netlink.routes_of(false).await?;
    Ok(routes
        .into_iter()
        .filter(|route| route.table == TABLE_MAIN && route.kind == RouteKind::Unicast)
        .map(|route| route.destination)
        .filter(|net| net.prefix_len() > 0)
        .collect())
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    addresses
        .into_iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

fn stored<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

const fn annotation(family: Family) -> &'static str {
    match family {
        Family::V4 => meta::NODE_IPV4_ADDRESS,
        Family::V6 => meta::NODE_IPV6_ADDRESS,
    }
}

/// Tells what was chosen and why; a change of an address that was in use is a warning.
fn tell(family: Family, stored: Option<&str>, decision: &Decision) {
    for warning in &decision.warnings {
        tracing::warn!(family = %family, warning, "address of this node");
    }
    let Some(address) = decision.address else {
        return;
    };
    for candidate in &decision.candidates {
        tracing::debug!(family = %family, candidate = %candidate, "address looked at");
    }
    match (decision.changes, stored.filter(|old| !old.is_empty())) {
        (true, Some(old)) => tracing::warn!(
            family = %family, old, new = %address, because = %decision.because,
            candidates = %listed(decision), "the address of this node changes"
        ),
        (true, None) => tracing::info!(
            family = %family, address = %address, because = %decision.because,
            candidates = %listed(decision), "address of this node"
        ),
        (false, _) => {
            tracing::debug!(family = %family, address = %address, because = %decision.because, "address kept");
        }
    }
}

fn listed(decision: &Decision) -> String {
    let all: Vec<String> = decision.candidates.iter().map(ToString::to_string).collect();
    all.join(" | ")
}
