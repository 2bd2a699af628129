//! The result, and the order in which it is made.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caracal_api::v3::{BGPBindMode, BGPConfigurationSpec, LogLevel};
use caracal_bgpd_core::Config;
use caracal_bgpd_core::config::{Listen, Peer};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::export;
use crate::filters::Filters;
use crate::kernel;
use crate::local::Local;
use crate::mesh;
use crate::originate::{self, Own};
use crate::peers;
use crate::problem::{Problem, Problems};
use crate::selection::Selected;
use crate::services::Advertised;
use crate::snapshot::Snapshot;

/// What a node's speaker is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// The configuration; `None` when the node itself is not known or cannot be a speaker. It validates.
    pub config: Option<Config>,
    /// What the shell needs beside it.
    pub host: Host,
    /// What could not be used.
    pub problems: Vec<Problem>,
    /// What selectors mean: to be handed back in `Snapshot::selected`.
    pub selected: Selected,
}

/// Settings of the host rather than of BGP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Interfaces whose networks are not taken up as routes; `*` stands for any text.
    pub ignored_interfaces: Vec<String>,
    /// Routes that lead to peers (`reachableBy`).
    pub static_routes: Vec<StaticRoute>,
    /// Log level of the speaker (`logSeverityScreen`).
    pub log_level: Option<String>,
}

/// A route of the kernel that is neither learned nor originated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Where to.
    pub gateway: IpAddr,
}

/// Works out what the speaker of `node` is to be. The same snapshot gives the same result.
#[must_use]
pub fn compile(snapshot: &Snapshot, node: &str) -> Compiled {
    let mut problems = Problems::default();
    let empty = BGPConfigurationSpec::default();
    let Some(local) = Local::new(snapshot, node, &empty, &mut problems) else {
        let remedy = "start with the name of a Node object (--node-name or NODENAME)";
        problems.add(
            &format!("Node {node}"),
            "metadata.name",
            node,
            "is not there",
            remedy,
        );
        return Compiled {
            config: None,
            host: Host::default(),
            problems: problems.into_vec(),
            selected: snapshot.selected.clone(),
        };
    };
    if local.network(true).is_none() && local.network(false).is_none() {
        let object = format!("Node {node}");
        let field = "metadata.annotations[projectcalico.org/IPv4Address]";
        let remedy = "annotate the Node with its address and prefix length, as 192.0.2.1/24; no session is held \
                      meanwhile";
        problems.add(&object, field, "", "is missing", remedy);
    }
    let own = Own::new(snapshot, &local, &mut problems);
    let advertised = Advertised::new(snapshot, &local, &mut problems);
    let mut filters = Filters::new(&snapshot.filters);
    let mut selected = Selected::new();
    let explicit = peers::peers(snapshot, &local, &mut filters, &mut selected, &mut problems);
    let mut config = Config::new(local.local_as, local.router_id);
    config.peers = merge(explicit.peers, mesh::peers(snapshot, &local, &mut problems));
    config.listen = listen(snapshot, &local);
    config.track_next_hops = true;
    config.drain = local.is_draining(&mut problems);
    config.routes = originate::routes(snapshot, &local, &own, &advertised);
    config.policies = export::policies(snapshot, &local, &own, &advertised, &mut problems);
    config.policies.extend(filters.into_policies());
    config.policies.insert(
        kernel::KERNEL.to_owned(),
        kernel::policy(snapshot, &local, &advertised),
    );
    config.kernel_export = vec![kernel::KERNEL.to_owned()];
    let host = Host {
        ignored_interfaces: local
            .own
            .map_or(&[][..], |own| &own.ignored_interfaces)
            .iter()
            .chain(&local.global.ignored_interfaces)
            .cloned()
            .collect(),
        static_routes: explicit.routes,
        log_level: log_level(&local).map(|level| level.as_str().to_ascii_lowercase()),
    };
    let config = usable(&local, config, &mut problems);
    Compiled {
        config,
        host,
        problems: problems.into_vec(),
        selected,
    }
}

/// Explicit peers, then those of the mesh that nobody asked for explicitly. Sorted by name, so that the order of
/// objects does not show.
fn merge(explicit: Vec<Peer>, mesh: Vec<Peer>) -> Vec<Peer> {
    let mut seen = BTreeSet::new();
    let mut peers: Vec<Peer> = explicit
        .into_iter()
        .chain(mesh)
        .filter(|peer| seen.insert((peer.address, peer.listen_range, peer.port)))
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

fn listen(snapshot: &Snapshot, local: &Local<'_>) -> Vec<Listen> {
    let port = local.port_of(snapshot, local.name);
    let mode = local
        .own
        .and_then(|own| own.bind_mode.as_ref())
        .or(local.global.bind_mode.as_ref());
    let any = |v4: bool| -> IpAddr {
        if v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    };
    [true, false]
        .into_iter()
        .filter_map(|v4| Some((v4, local.address(v4)?)))
        .map(|(v4, own)| Listen {
            address: if mode == Some(&BGPBindMode::NodeIP) {
                own
            } else {
                any(v4)
            },
            port,
        })
        .collect()
}

fn log_level<'a>(local: &Local<'a>) -> Option<&'a LogLevel> {
    let own = local.own.and_then(|own| own.log_severity_screen.as_ref());
    own.or(local.global.log_severity_screen.as_ref())
        .filter(|level| level.is_known())
}

/// Leaves out peers that the speaker would refuse, so that one bad object does not cost all sessions.
fn usable(local: &Local<'_>, mut config: Config, problems: &mut Problems) -> Option<Config> {
    let peers = std::mem::take(&mut config.peers);
    if let Err(error) = config.validate() {
        let object = format!("Node {}", local.name);
        problems.add(&object, &error.field, &error.value, error.problem, error.remedy);
        return None;
    }
    for peer in peers {
        config.peers.push(peer);
        if let Err(error) = config.validate()
            && let Some(peer) = config.peers.pop()
        {
            let object = format!("peer {}", peer.name);
            problems.add(&object, &error.field, &error.value, error.problem, error.remedy);
        }
    }
    Some(config)
}
