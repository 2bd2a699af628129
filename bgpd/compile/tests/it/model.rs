//! A naive reading of policies, to ask what becomes of a route: the tests' own, independent of the speaker's.

use std::net::IpAddr;

use caracal_bgpd_core::Config;
use caracal_bgpd_core::policy::{
    Action, Community, Match, PeerType, PrefixMatch, PrefixOperator, Source, Term, Verdict,
};
use ipnet::IpNet;

/// A route as policies see it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) prefix: IpNet,
    pub(crate) source: Source,
    pub(crate) interface: Option<String>,
    pub(crate) metric: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) communities: Vec<Community>,
    pub(crate) as_path: Vec<u32>,
    pub(crate) device: Option<String>,
    pub(crate) preference: Option<u32>,
}

pub(crate) fn route(prefix: &str, source: Source) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        source,
        interface: None,
        metric: None,
        local_pref: None,
        next_hop: None,
        communities: Vec::new(),
        as_path: Vec::new(),
        device: None,
        preference: None,
    }
}

impl Route {
    pub(crate) fn dev(mut self, name: &str) -> Self {
        self.interface = Some(name.to_owned());
        self
    }

    pub(crate) fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    pub(crate) fn local_pref(mut self, value: u32) -> Self {
        self.local_pref = Some(value);
        self
    }

    pub(crate) fn via(mut self, address: &str) -> Self {
        self.next_hop = Some(address.parse().unwrap());
        self
    }
}

/// Runs a chain of policies; `None` is rejected.
pub(crate) fn run(
    config: &Config,
    chain: &[String],
    peer: Option<PeerType>,
    mut route: Route,
) -> Option<Route> {
    let terms: Vec<&Term> = chain
        .iter()
        .flat_map(|name| &config.policies[name].terms)
        .collect();
    for term in terms {
        if !matches(&term.matches, peer, &route) {
            continue;
        }
        for action in &term.actions {
            act(action, &mut route);
        }
        match term.then {
            Verdict::Accept => return Some(route),
            Verdict::Reject => return None,
            Verdict::Next => {}
        }
    }
    Some(route)
}

fn matches(wanted: &Match, peer: Option<PeerType>, route: &Route) -> bool {
    let name = route.interface.clone().unwrap_or_default();
    wanted
        .family
        .is_none_or(|family| family == caracal_bgpd_core::Family::of_prefix(&route.prefix))
        && (wanted.prefixes.is_empty() || wanted.prefixes.iter().any(|item| prefix(item, route.prefix)))
        && (wanted.sources.is_empty() || wanted.sources.contains(&route.source))
        && wanted.peer_type.is_none_or(|wanted| Some(wanted) == peer)
        && (wanted.interfaces.is_empty() || wanted.interfaces.iter().any(|pattern| glob(pattern, &name)))
        && wanted
            .communities
            .iter()
            .all(|item| route.communities.contains(item))
        && route.as_path.starts_with(&wanted.as_path_prefix)
        && wanted
            .local_pref
            .is_none_or(|range| route.local_pref.is_some_and(|value| range.contains(value)))
        && wanted
            .metric
            .is_none_or(|range| route.metric.is_some_and(|value| range.contains(value)))
        && (wanted.next_hops.is_empty()
            || wanted
                .next_hops
                .iter()
                .any(|net| route.next_hop.is_some_and(|hop| net.contains(&hop))))
}

fn prefix(wanted: &PrefixMatch, net: IpNet) -> bool {
    let within = wanted.cidr.contains(&net)
        && wanted.min_length.is_none_or(|length| net.prefix_len() >= length)
        && wanted.max_length.is_none_or(|length| net.prefix_len() <= length);
    match wanted.operator {
        PrefixOperator::Equal => wanted.cidr == net,
        PrefixOperator::NotEqual => wanted.cidr != net,
        PrefixOperator::In => within,
        PrefixOperator::NotIn => !within,
    }
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

fn act(action: &Action, route: &mut Route) {
    match action {
        Action::SetLocalPref(value) => route.local_pref = Some(*value),
        Action::LocalPrefFromMetric(scale) => {
            route.local_pref = Some(scale.base - route.metric.unwrap_or(scale.default));
        }
        Action::MetricFromLocalPref(scale) => {
            route.metric = Some(route.local_pref.map_or(scale.default, |value| scale.base - value));
        }
        Action::AddCommunities(list) => route.communities.extend(list),
        Action::PrependAsPath(list) => {
            route.as_path = list.iter().chain(&route.as_path).copied().collect();
        }
        Action::SetMetric(value) => route.metric = Some(*value),
        Action::SetPreference(value) => route.preference = Some(*value),
        Action::SetDevice(name) => route.device = Some(name.clone()),
        Action::SetMed(_) | Action::SetNextHop(_) => {}
    }
}
