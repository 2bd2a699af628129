//! The ends of a packet as people write them, and the packets that follow.

use std::net::IpAddr;

use caracal_api::v3::Protocol;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::eval::Packet;
use caracal_felix_core::update::Key;

use crate::error::Failure;
use crate::snapshot::{ServicePort, Snapshot, Workload};

/// Source port of packets when none is asked for: one of those that kernels choose from.
const SOURCE_PORT: u16 = 40_000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Where packets come from.
    pub(crate) from: String,
    /// Where they go to.
    pub(crate) to: String,
    /// Number or name of the port.
    pub(crate) port: Option<String>,
    /// Name or number of the protocol.
    pub(crate) protocol: String,
    /// Namespace of names without one.
    pub(crate) namespace: String,
    /// ICMP type and code.
    pub(crate) icmp: Option<(u8, u8)>,
    /// Prefer IPv6 where both ends have both.
    pub(crate) is_v6: bool,
}

/// One end, found.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// As it is shown.
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// The workload, if policies for workloads are about it.
    pub(crate) item: Option<Item>,
    /// The node that it is on, or is.
    pub(crate) node: Option<String>,
}

/// A packet and its ends.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) packet: Packet,
    pub(crate) source: Side,
    pub(crate) destination: Side,
    /// The Service that the packet was sent to.
    pub(crate) service: Option<String>,
}

enum End<'a> {
    Workload(Item, &'a Workload),
    Node(String),
    Service(Key),
    Address(IpAddr),
}

/// A question that cannot be asked.
fn usage(text: impl Into<String>) -> Failure {
    Failure::new(text).with_code(2)
}

/// The packets that a question is about: one, or one for each endpoint of a Service.
pub(crate) fn flows(snapshot: &Snapshot, query: &Query) -> Result<Vec<Flow>, Failure> {
    let protocol = protocol(&query.protocol)?;
    let source = end(snapshot, &query.from, &query.namespace)?;
    if let End::Service(key) = &source {
        return Err(usage(format!(
            "Service {key} sends nothing: name a pod, a node or an address as the source"
        )));
    }
    let target = end(snapshot, &query.to, &query.namespace)?;
    let key = match &target {
        End::Service(key) => Some(key.clone()),
        End::Address(address) => service_at(snapshot, *address),
        End::Workload(..) | End::Node(_) => None,
    };
    let Some(key) = key else {
        let number = port(&target, query, protocol)?;
        let sides = pair(&source, &target, query, snapshot)?;
        return Ok(vec![flow(sides, protocol, number, query, None)]);
    };
    let wanted = service_port(snapshot, &key, query, protocol)?;
    let backends = snapshot.backends.get(&key).into_iter().flatten();
    let backends: Vec<(IpAddr, u16)> = backends
        .filter(|(_, name, own, _)| *own == protocol && *name == wanted.name)
        .map(|(address, _, _, number)| (*address, *number))
        .collect();
    if backends.is_empty() {
        return Err(Failure::new(format!(
            "Service {key} has no ready endpoint for port {}: see `kubectl get endpointslices -n {} -l kubernetes.io/service-name={}`",
            wanted.port, key.namespace, key.name
        )));
    }
    let mut flows = Vec::new();
    for (address, number) in backends {
        let target = End::Address(address);
        if let Ok(sides) = pair(&source, &target, query, snapshot) {
            flows.push(flow(
                sides,
                protocol,
                number,
                query,
                Some(format!("{key}:{}", wanted.port)),
            ));
        }
    }
    if flows.is_empty() {
        let text = "its endpoints are of an IP family that the source has no address of";
        return Err(Failure::new(format!("Service {key}: {text}")));
    }
    Ok(flows)
}

fn protocol(text: &str) -> Result<u8, Failure> {
    let parsed = text.parse::<u8>().ok().or_else(|| Protocol::from(text).number());
    parsed.ok_or_else(|| {
        let names: Vec<&str> = Protocol::NAMES.iter().map(|(name, _)| *name).collect();
        usage(format!(
            "protocol {text:?}: write one of {}, or a number to 255",
            names.join(", ")
        ))
    })
}

fn end<'a>(snapshot: &'a Snapshot, text: &str, namespace: &str) -> Result<End<'a>, Failure> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(End::Address(address));
    }
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(usage(format!(
            "{text:?}: write NAMESPACE/POD, service/NAME, node/NAME or an address"
        )));
    }
    let (kind, key) = match parts.as_slice() {
        [name] => ("pod", Key::new(namespace, *name)),
        ["node" | "nodes" | "no", name] => ("node", Key::cluster(*name)),
        ["pod" | "pods" | "po", name] => ("pod", Key::new(namespace, *name)),
        ["service" | "services" | "svc", name] => ("service", Key::new(namespace, *name)),
        ["workload", name] => ("workload", Key::new(namespace, *name)),
        [namespace, name] => ("pod", Key::new(*namespace, *name)),
        ["pod" | "pods" | "po", namespace, name] => ("pod", Key::new(*namespace, *name)),
        ["service" | "services" | "svc", namespace, name] => ("service", Key::new(*namespace, *name)),
        ["workload", namespace, name] => ("workload", Key::new(*namespace, *name)),
        _ => {
            return Err(usage(format!(
                "{text:?}: write [pod/|service/|node/][NAMESPACE/]NAME or an address"
            )));
        }
    };
    match kind {
        "node" if snapshot.nodes.contains_key(&key.name) => Ok(End::Node(key.name)),
        "service" if snapshot.services.contains_key(&key) => Ok(End::Service(key)),
        "node" | "service" => Err(absent(kind, &key, snapshot)),
        _ => {
            let pod = Some(Item::Pod(key.clone())).filter(|_| kind == "pod");
            let items = pod.into_iter().chain([Item::Workload(key.clone())]);
            let mut found = items.filter_map(|item| {
                let workload = snapshot.workloads.get(&item)?;
                Some(End::Workload(item, workload))
            });
            found.next().ok_or_else(|| absent(kind, &key, snapshot))
        }
    }
}

/// What is not there, with what is nearest to it.
fn absent(kind: &str, key: &Key, snapshot: &Snapshot) -> Failure {
    if kind != "node" && !snapshot.namespaces.contains(&key.namespace) {
        let known: Vec<&str> = snapshot.namespaces.iter().map(String::as_str).take(8).collect();
        return Failure::new(format!(
            "no {kind} {key}: there is no namespace {:?}; namespaces: {}",
            key.namespace,
            known.join(", ")
        ));
    }
    let names: Vec<&str> = match kind {
        "node" => snapshot.nodes.keys().map(String::as_str).collect(),
        "service" => names_in(snapshot.services.keys(), &key.namespace),
        _ => {
            let keys = snapshot.workloads.keys().filter_map(|item| match item {
                Item::Pod(key) | Item::Workload(key) => Some(key),
                Item::Host(_) | Item::NetworkSet(_) => None,
            });
            names_in(keys, &key.namespace)
        }
    };
    let known = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Failure::new(format!("no {kind} {key}; there: {known}"))
}

fn names_in<'a>(keys: impl Iterator<Item = &'a Key>, namespace: &str) -> Vec<&'a str> {
    const SHOWN_MAX: usize = 8;
    let own = keys.filter(|key| key.namespace == namespace);
    own.map(|key| key.name.as_str()).take(SHOWN_MAX).collect()
}

fn service_at(snapshot: &Snapshot, address: IpAddr) -> Option<Key> {
    let mut services = snapshot.services.iter();
    let found = services.find(|(_, facts)| facts.addresses.contains(&address));
    found.map(|(key, _)| key.clone())
}

fn port(target: &End<'_>, query: &Query, protocol: u8) -> Result<u16, Failure> {
    let has_ports = matches!(protocol, 6 | 17 | 132 | 136);
    let Some(text) = &query.port else {
        return if has_ports {
            Err(usage(format!(
                "{} needs a port: write it behind the target",
                query.protocol
            )))
        } else {
            Ok(0)
        };
    };
    if !has_ports {
        return Err(usage(format!(
            "{} has no ports: leave {text} away",
            query.protocol
        )));
    }
    if let Some(number) = text.parse::<u16>().ok().filter(|number| *number > 0) {
        return Ok(number);
    }
    let ports = match target {
        End::Workload(_, workload) => workload.ports.as_slice(),
        End::Node(_) | End::Service(_) | End::Address(_) => &[],
    };
    let mut named = ports
        .iter()
        .filter(|(name, own, _)| name == text && *own == protocol);
    named.next().map(|(_, _, number)| *number).ok_or_else(|| {
        let names: Vec<String> = ports
            .iter()
            .map(|(name, _, number)| format!("{name} ({number})"))
            .collect();
        let known = if names.is_empty() {
            "the target names none".to_owned()
        } else {
            names.join(", ")
        };
        usage(format!(
            "port {text:?}: write a number from 1 to 65535, or a name of the target's ports: {known}"
        ))
    })
}

fn service_port<'a>(
    snapshot: &'a Snapshot,
    key: &Key,
    query: &Query,
    protocol: u8,
) -> Result<&'a ServicePort, Failure> {
    let facts = snapshot.services.get(key);
    let ports = facts.map(|facts| facts.ports.as_slice()).unwrap_or_default();
    let mut own = ports.iter().filter(|port| port.protocol == protocol);
    let found = match &query.port {
        None => own.next(),
        Some(text) => own.find(|port| port.name == *text || port.port.to_string() == *text),
    };
    found.ok_or_else(|| {
        let shown = ports
            .iter()
            .map(|port| format!("{} {}", port.port, port.name).trim().to_owned());
        let shown: Vec<String> = shown.collect();
        let asked = query.port.as_deref().unwrap_or("any");
        usage(format!(
            "Service {key} has no port {asked} of {}: it has {}",
            query.protocol,
            shown.join(", ")
        ))
    })
}

/// Both ends, with addresses of one family.
fn pair(
    source: &End<'_>,
    target: &End<'_>,
    query: &Query,
    snapshot: &Snapshot,
) -> Result<(Side, Side), Failure> {
    let (from, to) = (addresses(source, snapshot), addresses(target, snapshot));
    for (text, end, own) in [(&query.from, source, &from), (&query.to, target, &to)] {
        if let End::Workload(_, workload) = end {
            if workload.is_finished {
                return Err(Failure::new(format!(
                    "{text} has ended: it neither sends nor receives"
                )));
            }
            if own.is_empty() {
                let node = if workload.node.is_empty() {
                    "it is on no node yet"
                } else {
                    "it has no address yet"
                };
                return Err(Failure::new(format!(
                    "{text}: {node}, see `kubectl describe pod`"
                )));
            }
        }
    }
    let families = if query.is_v6 { [true, false] } else { [false, true] };
    for is_v6 in families {
        let of = |own: &[IpAddr]| own.iter().copied().find(|address| address.is_ipv6() == is_v6);
        if let (Some(from), Some(to)) = (of(&from), of(&to)) {
            return Ok((side(source, from, snapshot), side(target, to, snapshot)));
        }
    }
    Err(Failure::new(format!(
        "{} and {} have no addresses of one IP family",
        query.from, query.to
    )))
}

fn addresses(end: &End<'_>, snapshot: &Snapshot) -> Vec<IpAddr> {
    match end {
        End::Workload(_, workload) => workload.addresses.clone(),
        End::Node(name) => snapshot.nodes.get(name).cloned().unwrap_or_default(),
        End::Address(address) => vec![*address],
        End::Service(_) => Vec::new(),
    }
}

fn side(end: &End<'_>, address: IpAddr, snapshot: &Snapshot) -> Side {
    let of_item = |item: &Item, workload: &Workload| Side {
        name: shown(item),
        address,
        item: Some(item.clone()).filter(|_| !workload.is_host_network),
        node: Some(workload.node.clone()).filter(|node| !node.is_empty()),
    };
    match end {
        End::Workload(item, workload) => of_item(item, workload),
        End::Node(_) | End::Address(_) | End::Service(_) => {
            let found = snapshot.workloads_at(address).into_iter().next();
            let found = found.and_then(|item| Some((item, snapshot.workloads.get(item)?)));
            if let Some((item, workload)) = found {
                return of_item(item, workload);
            }
            let node = snapshot.node_at(address);
            Side {
                name: node.map_or_else(|| "outside".to_owned(), |node| format!("node {node}")),
                address,
                item: None,
                node: node.map(str::to_owned),
            }
        }
    }
}

/// An endpoint's name for people.
pub(crate) fn shown(item: &Item) -> String {
    match item {
        Item::Pod(key) => key.to_string(),
        Item::Workload(key) => format!("workload {key}"),
        Item::Host(key) => format!("HostEndpoint {key}"),
        Item::NetworkSet(key) => format!("NetworkSet {key}"),
    }
}

fn flow(
    (source, destination): (Side, Side),
    protocol: u8,
    port: u16,
    query: &Query,
    service: Option<String>,
) -> Flow {
    let has_ports = port > 0;
    let is_icmp = matches!(protocol, 1 | 58);
    // An echo request is what people try with.
    let echo = if protocol == 58 { (128, 0) } else { (8, 0) };
    let packet = Packet {
        source: source.address,
        destination: destination.address,
        protocol,
        source_port: if has_ports { SOURCE_PORT } else { 0 },
        destination_port: port,
        icmp: is_icmp.then(|| query.icmp.unwrap_or(echo)),
    };
    Flow {
        packet,
        source,
        destination,
        service,
    }
}
