//! Automatic host endpoints: one for all interfaces of each node, and further ones by templates.
//!
//! # Ownership
//! HostEndpoints with the label `projectcalico.org/created-by: calico-kube-controllers`. One that is not labelled so is
//! left alone, also when its name is in the way.
//!
//! Source: Calico's `kube-controllers/pkg/controllers/node/hostendpoints.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use caracal_api::meta::{LABEL_CREATED_BY, PROFILE_DEFAULT_ALLOW};
use caracal_api::names::hostname_hash;
use caracal_api::net::parse_cidr_or_address;
use caracal_api::selector::Selector;
use caracal_api::v3::{HostEndpoint, HostEndpointSpec, HostEndpointTemplate};
use caracal_api::virtual_::node::{self, Node};
use caracal_datastore::Preconditions;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ipnet::IpNet;
use regex::Regex;

use crate::cluster::{Cluster, Kind, address_of};
use crate::context::{Again, Context, Controller};
use crate::lease::Error;
use crate::settings::HostEndpointSettings;

const CREATED_BY: &str = "calico-kube-controllers";
const SUFFIX: &str = "auto-hep";
/// Longest name of a Kubernetes object.
const NAME_MAX: usize = 253;
/// What counts as a regular expression of reasonable size.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Something to do for the host endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it.
    Create(Box<HostEndpoint>),
    /// Write it, if it has not changed.
    Update(Box<HostEndpoint>),
    /// Take it away, if it has not changed.
    Delete {
        /// Its name.
        name: String,
        /// The version that this was planned for.
        version: Option<String>,
        /// The very object that this was planned for.
        uid: Option<String>,
    },
}

/// What is to be done for the host endpoints, and what is wrong with templates or in the way. `None` = none are wanted.
#[must_use]
pub fn plan(cluster: &Cluster, settings: Option<&HostEndpointSettings>) -> (Vec<Action>, Vec<String>) {
    let mut problems = Vec::new();
    let wanted = settings.map_or_else(BTreeMap::new, |settings| wanted(cluster, settings, &mut problems));
    let mut actions = Vec::new();
    for (name, stored) in &cluster.host_endpoints {
        if is_ours(stored) && !wanted.contains_key(name) {
            actions.push(Action::Delete {
                name: name.clone(),
                version: stored.metadata.resource_version.clone(),
                uid: stored.metadata.uid.clone(),
            });
        }
    }
    for (name, wanted) in wanted {
        match cluster.host_endpoints.get(&name) {
            None => actions.push(Action::Create(Box::new(wanted))),
            Some(stored) if !is_ours(stored) => problems.push(format!(
                "HostEndpoint {name} exists without the label {LABEL_CREATED_BY}={CREATED_BY} and is left alone; rename \
                 or delete it to have the automatic one"
            )),
            Some(stored) => actions.extend(updated(stored, wanted).map(|object| Action::Update(Box::new(object)))),
        }
    }
    (actions, problems)
}

fn is_ours(endpoint: &HostEndpoint) -> bool {
    let labels = endpoint.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(LABEL_CREATED_BY))
        .map(String::as_str)
        == Some(CREATED_BY)
}

/// The stored object as it should be; `None` when it is so.
fn updated(stored: &HostEndpoint, wanted: HostEndpoint) -> Option<HostEndpoint> {
    let texts = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    let same = stored.spec == wanted.spec
        && texts(&stored.metadata.labels) == texts(&wanted.metadata.labels)
        && texts(&stored.metadata.annotations) == texts(&wanted.metadata.annotations);
    (!same).then(|| {
        let mut object = stored.clone();
        object.spec = wanted.spec;
        object.metadata.labels = wanted.metadata.labels;
        object.metadata.annotations = wanted.metadata.annotations;
        object
    })
}

/// A template that can be used.
struct Template<'a> {
    given: &'a HostEndpointTemplate,
    selector: Option<Selector>,
    networks: Vec<IpNet>,
    pattern: Option<Regex>,
}

fn wanted(
    cluster: &Cluster,
    settings: &HostEndpointSettings,
    problems: &mut Vec<String>,
) -> BTreeMap<String, HostEndpoint> {
    let templates: Vec<Template<'_>> = settings
        .templates
        .iter()
        .enumerate()
        .filter_map(|(index, given)| match template(given) {
            Ok(template) => Some(template),
            Err(problem) => {
                problems.push(format!(
                    "controllers.node.hostEndpoint.templates[{index}].{problem}"
                ));
                None
            }
        })
        .collect();
    let mut endpoints = BTreeMap::new();
    for node in cluster.nodes.values().filter_map(node::from_k8s) {
        let mut made = Vec::new();
        if settings.default {
            let addresses = addresses(&node).into_iter().map(|ip| ip.to_string()).collect();
            made.push(endpoint(&node, &[], "*", addresses, None));
        }
        for template in &templates {
            made.extend(of_template(&node, template));
        }
        for endpoint in made {
            endpoints.insert(endpoint.metadata.name.clone().unwrap_or_default(), endpoint);
        }
    }
    endpoints
}

fn template(given: &HostEndpointTemplate) -> Result<Template<'_>, String> {
    if given.generate_name.is_empty() {
        return Err("generateName is empty: give a part of the names of what is made".to_owned());
    }
    if given.interface_cidrs.is_empty() && given.interface_pattern.is_empty() {
        return Err("interfaceCIDRs and interfacePattern are empty: give one of them".to_owned());
    }
    let networks = given
        .interface_cidrs
        .iter()
        .map(|text| {
            parse_cidr_or_address(text)
                .ok_or_else(|| format!("interfaceCIDRs {text:?} is no CIDR: write one as 10.0.0.0/8"))
        })
        .collect::<Result<_, _>>()?;
    let pattern = if given.interface_pattern.is_empty() {
        None
    } else {
        let pattern = regex::RegexBuilder::new(&given.interface_pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        Some(pattern.map_err(|error| {
            format!(
                "interfacePattern {:?} is no regular expression: {error}",
                given.interface_pattern
            )
        })?)
    };
    let selector = if given.node_selector.is_empty() {
        None
    } else {
        Some(
            Selector::parse(&given.node_selector)
                .map_err(|error| format!("nodeSelector {:?} is no selector: {error}", given.node_selector))?,
        )
    };
    Ok(Template {
        given,
        selector,
        networks,
        pattern,
    })
}

/// What a template makes of a node: one for each interface that its pattern names, or one for all addresses.
fn of_template(node: &Node, template: &Template<'_>) -> Vec<HostEndpoint> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = template
        .selector
        .as_ref()
        .is_none_or(|selector| selector.matches(&labels));
    if !selected {
        return Vec::new();
    }
    let within =
        |ip: &IpAddr| template.networks.is_empty() || template.networks.iter().any(|net| net.contains(ip));
    let name = template.given.generate_name.as_str();
    let Some(pattern) = &template.pattern else {
        let matching: Vec<String> = addresses(node)
            .iter()
            .filter(|ip| within(ip))
            .map(ToString::to_string)
            .collect();
        // Without an address it would be an endpoint of nothing.
        if matching.is_empty() {
            return Vec::new();
        }
        return vec![endpoint(node, &[name], "", matching, Some(template.given))];
    };
    node.spec
        .interfaces
        .iter()
        .filter(|interface| pattern.is_match(&interface.name))
        .filter_map(|interface| {
            let all = interface.addresses.iter();
            let matching: Vec<String> = all
                .filter_map(|text| address_of(text))
                .filter(|ip| within(ip))
                .map(|ip| ip.to_string())
                .collect();
            let fits = template.networks.is_empty() || !matching.is_empty();
            fits.then(|| {
                endpoint(
                    node,
                    &[name, &interface.name],
                    &interface.name,
                    matching,
                    Some(template.given),
                )
            })
        })
        .collect()
}

fn endpoint(
    node: &Node,
    parts: &[&str],
    interface: &str,
    addresses: Vec<String>,
    template: Option<&HostEndpointTemplate>,
) -> HostEndpoint {
    let spec = HostEndpointSpec {
        node: node.name().to_owned(),
        interface_name: interface.to_owned(),
        expected_ips: addresses,
        profiles: vec![PROFILE_DEFAULT_ALLOW.to_owned()],
        ports: Vec::new(),
    };
    let mut labels = node.metadata.labels.clone().unwrap_or_default();
    if let Some(template) = template {
        labels.extend(template.labels.clone());
    }
    labels.insert(LABEL_CREATED_BY.to_owned(), CREATED_BY.to_owned());
    let mut endpoint = HostEndpoint::new(&name(node.name(), parts), spec);
    endpoint.metadata.labels = Some(labels);
    endpoint.metadata.annotations = template
        .map(|template| template.annotations.clone())
        .filter(|annotations| !annotations.is_empty());
    endpoint
}

/// `<node>[-<template>[-<interface>]]-auto-hep`; what an object's name cannot hold becomes a hash.
fn name(node: &str, parts: &[&str]) -> String {
    let stem = std::iter::once(node)
        .chain(parts.iter().copied())
        .collect::<Vec<_>>()
        .join("-");
    let name = format!("{stem}-{SUFFIX}");
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    // Names of interfaces may have characters that names of objects may not.
    if name.len() <= NAME_MAX && name.bytes().all(plain) {
        return name;
    }
    format!("{}-{SUFFIX}", hostname_hash(&stem).to_lowercase())
}

/// All addresses of a node, each once, tunnel devices' too.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let spec = &node.spec;
    let bgp = spec.bgp.iter();
    let own = bgp.flat_map(|bgp| [&bgp.ipv4_address, &bgp.ipv6_address, &bgp.ipv4_ipip_tunnel_addr]);
    let listed = spec.addresses.iter().map(|address| &address.address);
    let wireguard = spec.wireguard.iter();
    let wireguard = wireguard.flat_map(|one| [&one.interface_ipv4_address, &one.interface_ipv6_address]);
    let vxlan = [&spec.ipv4_vxlan_tunnel_addr, &spec.ipv6_vxlan_tunnel_addr];
    let mut seen = BTreeSet::new();
    own.chain(listed)
        .chain(vxlan)
        .chain(wireguard)
        .filter_map(|text| address_of(text))
        .filter(|ip| seen.insert(*ip))
        .collect()
}

/// The controller.
#[derive(Debug, Default)]
pub struct HostEndpoints {
    told: Vec<String>,
}

impl Controller for HostEndpoints {
    fn name(&self) -> &'static str {
        "hostendpoint"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Node | Kind::HostEndpoint)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            let Some(node) = &context.effective.settings.node else {
                return Ok(None);
            };
            let (actions, problems) = plan(context.cluster, node.host_endpoints.as_ref());
            for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
                tracing::warn!(problem, "host endpoints not made as asked");
            }
            self.told = problems;
            for action in actions {
                apply(context, action).await?;
            }
            Ok(Some(node.period.max(Duration::from_secs(1))))
        }
        .boxed()
    }
}

async fn apply(context: &Context<'_>, action: Action) -> Result<(), Error> {
    let client = context.client;
    match action {
        Action::Create(object) => match context.fence.write(client.create(&*object)).await {
            Err(Error::Datastore(error)) if error.is_already_exists() => Ok(()),
            outcome => outcome.map(drop),
        },
        Action::Update(object) => context
            .settled(context.fence.write(client.update(&*object)).await)
            .map(drop),
        Action::Delete { name, version, uid } => {
            let preconditions = Preconditions {
                uid,
                resource_version: version,
            };
            let delete = client.delete::<HostEndpoint>(None, &name, preconditions);
            context.settled(context.fence.write(delete).await).map(drop)
        }
    }
}

#[cfg(test)]
mod tests;
