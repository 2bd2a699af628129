//! One end of a rule.

use std::sync::Arc;

use caracal_api::policy_selector;
use caracal_api::selector::Selector;
use caracal_api::v3::{EntityRule, Port, ServiceMatch};
use caracal_api::{names, net};
use ipnet::IpNet;

use super::super::model::{Peer, SetSource, SetSpec, version_of};
use super::{parse, text};
use crate::rules::PortRange;
use crate::update::Key;

/// Prefixes that rules compare one by one; a longer list is looked up.
const NETS_MAX: usize = 4;

fn nets(field: &str, texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts
        .iter()
        .map(|text| net::parse_cidr_or_address(text).ok_or_else(|| format!("{field}: {text:?} is no CIDR")))
        .collect()
}

pub(super) fn compile_peer(
    entity: &EntityRule,
    namespace: &str,
    protocol: Option<u8>,
    with_ports: bool,
) -> Result<Peer, String> {
    let selector_text = text(policy_selector::entity_selector(entity, namespace))?;
    let selector = (!selector_text.is_empty())
        .then(|| parse(&selector_text))
        .transpose()?;
    if !entity.selector.is_empty() {
        parse(&entity.selector)?;
    }
    let set = |selector: Selector| {
        Arc::new(SetSpec {
            id: selector.unique_id(),
            source: SetSource::Selector(selector),
        })
    };
    let mut sets: Vec<Arc<SetSpec>> = selector.iter().cloned().map(set).collect();
    let not_sets = match entity.not_selector.as_str() {
        "" => Vec::new(),
        text => vec![set(parse(text)?)],
    };
    let port_selector = selector.map_or_else(|| parse(""), Ok)?;
    let (ports, mut named_ports) = compile_ports("ports", &entity.ports, &port_selector, protocol)?;
    let (not_ports, not_named_ports) =
        compile_ports("notPorts", &entity.not_ports, &port_selector, protocol)?;
    if let Some(service) = &entity.services {
        let spec = service_set(service, namespace, with_ports)?;
        // A destination is reached by a port of the Service; a source is any of its addresses.
        if with_ports {
            if !entity.ports.is_empty() {
                return Err("services: the ports are the Service's; write no ports beside it".to_owned());
            }
            named_ports.push(spec);
        } else {
            sets.push(spec);
        }
    }
    let listed = nets("nets", &entity.nets)?;
    let not_listed = nets("notNets", &entity.not_nets)?;
    let mut families = listed.iter().chain(&not_listed).map(version_of);
    let version = families.next();
    if families.any(|family| Some(family) != version) {
        return Err("nets: write one rule for each IP version".to_owned());
    }
    let mut not_sets = not_sets;
    let in_set = |nets: &[IpNet], sets: &mut Vec<Arc<SetSpec>>| {
        let is_long = nets.len() > NETS_MAX;
        if is_long {
            sets.push(net_set(nets));
        }
        if is_long { Vec::new() } else { nets.to_vec() }
    };
    Ok(Peer {
        nets: in_set(&listed, &mut sets),
        not_nets: in_set(&not_listed, &mut not_sets),
        version,
        sets,
        not_sets,
        ports,
        named_ports,
        not_ports,
        not_named_ports,
    })
}

/// A long list of prefixes as a set: rules that list the same share it.
fn net_set(nets: &[IpNet]) -> Arc<SetSpec> {
    let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    nets.sort();
    nets.dedup();
    let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
    Arc::new(SetSpec {
        id: names::unique_id("nets", &texts.join(",")),
        source: SetSource::Nets(nets),
    })
}

fn service_set(service: &ServiceMatch, namespace: &str, with_ports: bool) -> Result<Arc<SetSpec>, String> {
    let owner = if service.namespace.is_empty() {
        namespace
    } else {
        &service.namespace
    };
    if owner.is_empty() || service.name.is_empty() {
        return Err("services: name and namespace are needed".to_owned());
    }
    Ok(Arc::new(SetSpec {
        id: names::service_ip_set_id(owner, &service.name, with_ports),
        source: SetSource::Service {
            service: Key::new(owner, &service.name),
            with_ports,
        },
    }))
}

type Ports = (Vec<PortRange>, Vec<Arc<SetSpec>>);

fn compile_ports(
    field: &str,
    ports: &[Port],
    selector: &Selector,
    protocol: Option<u8>,
) -> Result<Ports, String> {
    let (mut ranges, mut named) = (Vec::new(), Vec::new());
    let named_of = |protocol: u8, word: &str, name: &str| {
        Arc::new(SetSpec {
            id: names::named_port_ip_set_id(selector.canonical(), word, name),
            source: SetSource::NamedPort {
                selector: selector.clone(),
                protocol,
                port: name.to_owned(),
            },
        })
    };
    let protocols: Vec<(u8, &str)> = WITH_PORTS
        .into_iter()
        .filter(|(number, _)| protocol.is_none_or(|wanted| wanted == *number))
        .collect();
    for port in ports {
        match port {
            Port::Invalid(text) => return Err(format!("{field}: {text:?} is no port")),
            Port::Range { .. } | Port::Named(_) if protocols.is_empty() => {
                return Err(format!("{field}: need protocol TCP, UDP or SCTP"));
            }
            Port::Range { .. } if protocol.is_none() => {
                return Err(format!("{field}: numbers need protocol TCP, UDP or SCTP"));
            }
            Port::Range { min, max } => ranges.push(PortRange { min: *min, max: *max }),
            // Without a protocol, the port of that name with whatever protocol it has.
            Port::Named(name) => {
                named.extend(
                    protocols
                        .iter()
                        .map(|(number, word)| named_of(*number, word, name)),
                );
            }
        }
    }
    Ok((ranges, named))
}

/// Protocols with ports that sets can hold, with their names in set ids.
const WITH_PORTS: [(u8, &str); 4] = [(6, "tcp"), (17, "udp"), (132, "sctp"), (136, "udplite")];
