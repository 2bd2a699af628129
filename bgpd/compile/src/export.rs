//! What is told to peers, and what is done to what they tell: the policies that every session has.
//!
//! Order and meaning follow Calico `bird_ipam.cfg.template` and `bird_aggr.cfg.template`: own blocks and addresses
//! outside of own blocks go out, nothing else of the host does.

use std::collections::BTreeMap;

use caracal_api::routing::{PoolClass, RouteOwner, cluster_route_owner};
use caracal_bgpd_core::policy::{
    Action, Community, Match, MetricScale, Policy, PrefixMatch, PrefixOperator, Range, Source, Term, Verdict,
};
use ipnet::IpNet;

use crate::local::{Local, program_cluster_routes};
use crate::originate::Own;
use crate::problem::Problems;
use crate::services::Advertised;
use crate::session;
use crate::snapshot::Snapshot;

/// Export policy of all sessions, first: LOCAL_PREF and kernel metric mirror one another.
pub(crate) const PRIORITY: &str = "priority";
/// Export policy of sessions inside the AS, last.
pub(crate) const INTERNAL: &str = "export-internal";
/// Export policy of sessions with another AS, last.
pub(crate) const EXTERNAL: &str = "export-external";
/// Sum of LOCAL_PREF and kernel metric.
pub(crate) const PRIORITY_BASE: u32 = 2_147_483_647;
/// LOCAL_PREF of a route that came without one.
const LOCAL_PREF_DEFAULT: u32 = 100;
/// Preference of a BGP route that overrides one of the host's own.
const PREFERENCE_ELEVATED: u32 = 200;

/// A term from its parts.
pub(crate) fn term(name: impl Into<String>, matches: Match, actions: Vec<Action>, then: Verdict) -> Term {
    Term {
        name: name.into(),
        matches,
        actions,
        then,
    }
}

/// Matches prefixes within one of these.
pub(crate) fn within(nets: &[IpNet]) -> Match {
    compared(nets, PrefixOperator::In)
}

fn compared(nets: &[IpNet], operator: PrefixOperator) -> Match {
    let prefixes = nets
        .iter()
        .map(|cidr| PrefixMatch {
            cidr: *cidr,
            operator,
            min_length: None,
            max_length: None,
        })
        .collect();
    Match {
        prefixes,
        ..Match::default()
    }
}

pub(crate) fn scale(local: &Local<'_>, v4: bool) -> MetricScale {
    MetricScale {
        base: PRIORITY_BASE,
        default: local.priority(v4),
    }
}

/// The built-in policies of sessions, by name.
pub(crate) fn policies(
    snapshot: &Snapshot,
    local: &Local<'_>,
    own: &Own,
    advertised: &Advertised,
    problems: &mut Problems,
) -> BTreeMap<String, Policy> {
    let attach = communities(local, problems);
    let policy = |terms| Policy { terms };
    BTreeMap::from([
        (PRIORITY.to_owned(), policy(priority(local))),
        (
            INTERNAL.to_owned(),
            policy(last(snapshot, local, own, advertised, &attach, true)),
        ),
        (
            EXTERNAL.to_owned(),
            policy(last(snapshot, local, own, advertised, &attach, false)),
        ),
        (session::IMPORT.to_owned(), policy(import(local))),
        (
            session::IMPORT_EBGP.to_owned(),
            policy(vec![term(
                "LOCAL_PREF that BIRD takes when there is none",
                Match::default(),
                vec![Action::SetLocalPref(LOCAL_PREF_DEFAULT)],
                Verdict::Next,
            )]),
        ),
    ])
}

/// LOCAL_PREF := base − metric; what came by BGP keeps the LOCAL_PREF it has and gets the metric from it first.
fn priority(local: &Local<'_>) -> Vec<Term> {
    let mut terms = Vec::new();
    for (family, v4) in families() {
        let scale = scale(local, v4);
        let of = |sources: &[Source]| Match {
            family: Some(family),
            sources: sources.to_vec(),
            ..Match::default()
        };
        terms.push(term(
            "metric from LOCAL_PREF",
            of(&[Source::Bgp]),
            vec![
                Action::MetricFromLocalPref(scale),
                Action::LocalPrefFromMetric(scale),
            ],
            Verdict::Next,
        ));
        terms.push(term(
            "LOCAL_PREF from metric",
            of(&[Source::Static, Source::Direct, Source::Kernel]),
            vec![Action::LocalPrefFromMetric(scale)],
            Verdict::Next,
        ));
    }
    terms
}

/// A peer's route of a better priority than ordinary overrides one of this host for the same prefix.
fn import(local: &Local<'_>) -> Vec<Term> {
    families()
        .into_iter()
        .map(|(family, v4)| {
            let elevated = Match {
                family: Some(family),
                local_pref: Some(Range {
                    min: PRIORITY_BASE - local.priority(v4) + 1,
                    max: u32::MAX,
                }),
                ..Match::default()
            };
            let actions = vec![Action::SetPreference(PREFERENCE_ELEVATED)];
            term(
                "better than ordinary priority",
                elevated,
                actions,
                Verdict::Accept,
            )
        })
        .collect()
}

fn last(
    snapshot: &Snapshot,
    local: &Local<'_>,
    own: &Own,
    advertised: &Advertised,
    attach: &[(IpNet, Vec<Community>)],
    is_internal: bool,
) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut add = |name: &str, matches: Match, then| terms.push(term(name, matches, Vec::new(), then));
    let pools = |exported: bool| -> Vec<IpNet> {
        let of = snapshot.pools.values();
        of.filter(|pool| pool.disable_bgp_export != exported)
            .filter_map(|pool| pool.network())
            .collect()
    };
    let hidden = pools(false);
    if !hidden.is_empty() {
        add("pools with disableBGPExport", within(&hidden), Verdict::Reject);
    }
    let on = |interfaces: &[&str]| Match {
        interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
        ..Match::default()
    };
    if is_internal {
        let mut tunnels = vec!["*.cali", "*.calico"];
        let (felix, bgp) = program_cluster_routes(snapshot, local.name);
        if cluster_route_owner(PoolClass::Ipip, felix.as_ref(), bgp.as_ref()) == RouteOwner::Felix {
            tunnels.push("tunl0");
        }
        add("routes over tunnels of this node", on(&tunnels), Verdict::Reject);
    }
    add("routes over devices of eBPF", on(&["bpf*.cali"]), Verdict::Reject);
    for (net, communities) in attach {
        terms.push(term(
            format!("prefixAdvertisements {net}"),
            within(&[*net]),
            vec![Action::AddCommunities(communities.clone())],
            Verdict::Next,
        ));
    }
    terms.extend(own.blocks.iter().flat_map(|block| aggregate(local, *block)));
    let mut add = |name: &str, nets: &[IpNet], then| {
        if !nets.is_empty() {
            terms.push(term(name, within(nets), Vec::new(), then));
        }
    };
    let services: Vec<IpNet> = advertised.routes.iter().copied().collect();
    add("service addresses", &services, Verdict::Accept);
    if local.cluster_id.is_some() {
        add(
            "service addresses of other nodes",
            &advertised.reflected,
            Verdict::Accept,
        );
    }
    add("pools", &pools(true), Verdict::Accept);
    terms.push(term(
        "everything else",
        Match::default(),
        Vec::new(),
        Verdict::Reject,
    ));
    terms
}

/// A block goes out as one; of the addresses in it only those of a better priority than ordinary.
fn aggregate(local: &Local<'_>, block: IpNet) -> [Term; 3] {
    let v4 = matches!(block, IpNet::V4(_));
    let mut elevated = within(&[block]);
    elevated.metric = Some(Range {
        min: 0,
        max: local.priority(v4).saturating_sub(1),
    });
    let name = |what: &str| format!("own block {block}{what}");
    [
        term(
            name(""),
            compared(&[block], PrefixOperator::Equal),
            Vec::new(),
            Verdict::Accept,
        ),
        term(name(", better priority"), elevated, Vec::new(), Verdict::Accept),
        term(name(", the rest"), within(&[block]), Vec::new(), Verdict::Reject),
    ]
}

/// Communities by prefix. A node's own list replaces the one of all nodes.
fn communities(local: &Local<'_>, problems: &mut Problems) -> Vec<(IpNet, Vec<Community>)> {
    let (object, spec) = match local.own.filter(|own| !own.prefix_advertisements.is_empty()) {
        Some(own) => (format!("BGPConfiguration node.{}", local.name), own),
        None => ("BGPConfiguration default".to_owned(), local.global),
    };
    let named = |name: &str| {
        let lists = [&spec.communities, &local.global.communities];
        lists
            .into_iter()
            .flatten()
            .find(|community| community.name == name)
            .map(|community| community.value.as_str())
    };
    let mut found = Vec::new();
    for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let path = format!("spec.prefixAdvertisements[{index}]");
        let Ok(net) = advertisement.cidr.parse::<IpNet>() else {
            let field = format!("{path}.cidr");
            problems.add(
                &object,
                &field,
                &advertisement.cidr,
                "is no CIDR",
                "use one as 10.0.0.0/8",
            );
            continue;
        };
        let mut values = Vec::new();
        for text in &advertisement.communities {
            match named(text).unwrap_or(text).parse() {
                Ok(community) => values.push(community),
                Err(_) => {
                    let field = format!("{path}.communities");
                    let remedy = "use a name of spec.communities, aa:nn or aa:nn:mm";
                    problems.add(&object, &field, text, "is no community", remedy);
                }
            }
        }
        if !values.is_empty() {
            found.push((net.trunc(), values));
        }
    }
    found
}

pub(crate) fn families() -> [(caracal_bgpd_core::Family, bool); 2] {
    [
        (caracal_bgpd_core::Family::Ipv4, true),
        (caracal_bgpd_core::Family::Ipv6, false),
    ]
}
