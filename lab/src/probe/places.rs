//! The ends of probes in the lab: from names to namespaces and addresses, and the servers that listen meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use caracal_api::v3::IPPool;
use caracal_datastore::{Client, ConnectOptions, ListOptions};
use caracal_linux::netns::NetNs;
use ipnet::IpNet;
use tokio::time::timeout;

use super::attempt::Source;
use super::names::Side;
use crate::error::{Error, Result};
use crate::fabric;
use crate::pod_runner::{self, PodRecord, bind_everywhere};
use crate::pod_server::{Running, Transport};
use crate::state::Layout;
use crate::topology::{Machine, POD_POOL, Plan, Role, refuse_outside_address};

/// The API is asked for its pools for this long; it may be away while probes go on.
const API_PATIENCE: Duration = Duration::from_secs(2);

/// Where a probe goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    owner: Option<Owner>,
}

/// Something of the lab that has addresses.
#[derive(Clone, Debug)]
struct Owner {
    name: String,
    network: Arc<NetNs>,
    /// `None` for a pod.
    role: Option<Role>,
    address: IpAddr,
}

/// Looks up ends and keeps servers for as long as it lives.
pub(super) struct Places<'a> {
    layout: &'a Layout,
    plan: &'a Plan,
    pods: Vec<PodRecord>,
    owners: BTreeMap<Side, Owner>,
    refused: BTreeMap<Side, String>,
    servers: BTreeMap<(u64, Transport, u16), Option<Running>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(layout: &'a Layout, plan: &'a Plan) -> Result<Self> {
        let pods = pod_runner::all(layout, plan)?;
        Ok(Self {
            layout,
            plan,
            pods,
            owners: BTreeMap::new(),
            refused: BTreeMap::new(),
            servers: BTreeMap::new(),
        })
    }

    /// Finds ends, and gives the outside host the addresses that it is to have.
    pub(super) async fn prepare(&mut self, sides: &[&Side]) -> Result<()> {
        self.prepare_each(sides).await;
        match sides.iter().find_map(|side| self.refused.get(side)) {
            Some(reason) => Err(Error::refused(reason.clone())),
            None => Ok(()),
        }
    }

    /// The same, where one that cannot be had is told when it is used.
    pub(super) async fn prepare_each(&mut self, sides: &[&Side]) {
        let mut pools = None;
        for &side in sides {
            if self.owners.contains_key(side) || self.refused.contains_key(side) {
                continue;
            }
            let given = match side {
                Side::Outside(Some(address)) => {
                    if pools.is_none() {
                        pools = Some(self.pools().await);
                    }
                    self.give_outside(*address, pools.as_deref().unwrap_or_default())
                        .await
                }
                Side::Pod { .. } | Side::Node(_) | Side::Outside(None) | Side::Address(_) => Ok(()),
            };
            match given.and_then(|()| self.owner(side)) {
                Ok(Some(owner)) => {
                    self.owners.insert(side.clone(), owner);
                }
                Ok(None) => {}
                Err(error) => {
                    self.refused.insert(side.clone(), error.to_string());
                }
            }
        }
    }

    /// A prepared end as a source.
    pub(super) fn source(&self, side: &Side) -> Result<Source> {
        self.check(side)?;
        let owner = self.owners.get(side).ok_or_else(|| {
            Error::refused(format!(
                "from: nothing in the lab has the address {side}; give outside:ADDRESS for a host behind the router"
            ))
        })?;
        let own = match side {
            Side::Outside(Some(address)) | Side::Address(address) => Some(*address),
            Side::Pod { .. } | Side::Node(_) | Side::Outside(None) => None,
        };
        Ok(Source {
            network: Arc::clone(&owner.network),
            address: own,
        })
    }

    /// A prepared end as a target.
    pub(super) fn target(&self, side: &Side) -> Result<Target> {
        self.check(side)?;
        let owner = self.owners.get(side).cloned();
        let address = match (side, &owner) {
            (Side::Address(address) | Side::Outside(Some(address)), _) => *address,
            (_, Some(owner)) => owner.address,
            (Side::Pod { .. } | Side::Node(_) | Side::Outside(None), None) => {
                return Err(Error::refused(format!("to: {side} was not prepared")));
            }
        };
        Ok(Target { address, owner })
    }

    fn check(&self, side: &Side) -> Result<()> {
        self.refused
            .get(side)
            .map_or(Ok(()), |reason| Err(Error::refused(reason.clone())))
    }

    /// Starts a server where nothing listens and only an answer can tell that something arrived.
    pub(super) fn listen(&mut self, target: &Target, transport: Transport, port: u16) -> Result<()> {
        let Some(owner) = &target.owner else { return Ok(()) };
        if transport == Transport::Tcp && owner.role != Some(Role::Outside) {
            return Ok(());
        }
        let network = owner
            .network
            .id()
            .map_err(|e| Error::kernel("look at the network", e))?
            .1;
        let key = (network, transport, port);
        if self.servers.contains_key(&key) {
            return Ok(());
        }
        let failed = |e| Error::io(format!("listen on port {port} of {}", owner.name), e);
        let bound = owner
            .network
            .run(|| bind_everywhere(&owner.name, transport, port))
            .map_err(|e| Error::kernel(format!("enter the network of {}", owner.name), e))?;
        let server = match bound {
            Ok(bound) => Some(bound.serve().map_err(failed)?),
            // Somebody listens already.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err(failed(error)),
        };
        self.servers.insert(key, server);
        Ok(())
    }

    /// What an end is in the lab; `None` for an address of nobody here.
    fn owner(&self, side: &Side) -> Result<Option<Owner>> {
        match side {
            Side::Pod { namespace, name } => {
                let found = self
                    .pods
                    .iter()
                    .find(|pod| pod.namespace == *namespace && pod.name == *name);
                let pod = found.ok_or_else(|| {
                    Error::refused(format!(
                        "no pod {namespace}/{name} runs in the lab; `caracal-lab status` lists those that do"
                    ))
                })?;
                Owner::pod(pod).map(Some)
            }
            Side::Node(name) => {
                let machine = self.plan.machine(name).ok_or_else(|| {
                    let names: Vec<&str> = self.plan.nodes().map(|node| node.name.as_str()).collect();
                    Error::refused(format!("no node {name} in the lab; it has {}", names.join(", ")))
                })?;
                Owner::machine(machine).map(Some)
            }
            Side::Outside(_) => Owner::machine(self.outside()?).map(Some),
            Side::Address(address) => self.owner_of(*address),
        }
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Owner>> {
        let pod = self
            .pods
            .iter()
            .find(|pod| pod.netns.is_some() && pod.addresses.contains(&address));
        if let Some(pod) = pod {
            return Owner::pod(pod).map(Some);
        }
        if let Some(machine) = self.plan.machine_at(address) {
            return Owner::machine(machine).map(Some);
        }
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Ok(None);
        }
        let outside = Owner::machine(self.outside()?)?;
        let has = outside
            .network
            .run(|| std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok())
            .map_err(|e| Error::kernel("enter the outside host's network", e))?;
        Ok(has.then_some(outside))
    }

    fn outside(&self) -> Result<&Machine> {
        let mut machines = self.plan.machines.iter();
        machines
            .find(|machine| machine.role == Role::Outside)
            .ok_or_else(|| {
                Error::refused("the lab has no outside host; run `caracal-lab down` and `up` again")
            })
    }

    async fn give_outside(&self, address: IpAddr, pools: &[IpNet]) -> Result<()> {
        if let Some(reason) = refuse_outside_address(address, pools) {
            return Err(Error::refused(reason));
        }
        match address {
            IpAddr::V4(address) => fabric::add_outside_address(self.plan, address).await,
            // Refused above.
            IpAddr::V6(_) => Ok(()),
        }
    }

    /// The pools whose addresses belong to pods. Without an API, the one that a lab begins with.
    async fn pools(&self) -> Vec<IpNet> {
        let options = ConnectOptions {
            kubeconfig: Some(self.layout.kubeconfig()),
            user_agent: "caracal-lab".to_owned(),
            ..ConnectOptions::default()
        };
        let ask = async {
            let client = Client::connect(&options).await?;
            client.list::<IPPool>(None, &ListOptions::default()).await
        };
        let mut pools: Vec<IpNet> = POD_POOL.parse().into_iter().collect();
        if let Ok(Ok(found)) = timeout(API_PATIENCE, ask).await {
            pools.extend(
                found
                    .iter()
                    .filter_map(|pool| pool.spec.cidr.parse::<IpNet>().ok()),
            );
        }
        pools
    }
}

impl Owner {
    fn pod(pod: &PodRecord) -> Result<Self> {
        let address = pod.addresses.first().ok_or_else(|| {
            Error::refused(format!(
                "pod {}/{} has no address yet; wait until it is Ready",
                pod.namespace, pod.name
            ))
        })?;
        Ok(Self {
            name: pod.name.clone(),
            network: Arc::new(pod.network()?),
            role: None,
            address: *address,
        })
    }

    fn machine(machine: &Machine) -> Result<Self> {
        let network = NetNs::open_named(&machine.netns).map_err(|error| {
            Error::refused(format!(
                "{}: the lab is not up; run `caracal-lab up` ({error})",
                machine.name
            ))
        })?;
        Ok(Self {
            name: machine.name.clone(),
            network: Arc::new(network),
            role: Some(machine.role),
            address: machine.address.into(),
        })
    }
}
