//! BGPFilters as policies: each filter becomes one policy for import and one for export, of both families.
//!
//! Source: Calico `confd/pkg/resource/template/template_funcs.go`.

use std::collections::BTreeMap;

use caracal_api::v3::{
    BGPFilterAction, BGPFilterMatchOperator, BGPFilterMatchSource, BGPFilterOperation, BGPFilterPeerType,
    BGPFilterRule, BGPFilterSpec,
};
use caracal_bgpd_core::Family;
use caracal_bgpd_core::policy::{
    Action, Community, Match, PeerType, Policy, PrefixMatch, PrefixOperator, Range, Source, Term, Verdict,
};
use ipnet::IpNet;

use crate::export::PRIORITY_BASE;
use crate::problem::Problems;

/// The filters that peers refer to, compiled when the first peer asks.
pub(crate) struct Filters<'a> {
    specs: &'a BTreeMap<String, BGPFilterSpec>,
    compiled: BTreeMap<String, Policy>,
}

impl<'a> Filters<'a> {
    pub(crate) fn new(specs: &'a BTreeMap<String, BGPFilterSpec>) -> Self {
        Self {
            specs,
            compiled: BTreeMap::new(),
        }
    }

    /// Names of the import and of the export policies for a peer's filters, in order.
    pub(crate) fn for_peer(
        &mut self,
        object: &str,
        names: &[String],
        problems: &mut Problems,
    ) -> (Vec<String>, Vec<String>) {
        let (mut import, mut export) = (Vec::new(), Vec::new());
        for name in names {
            let Some(spec) = self.specs.get(name) else {
                let remedy = "create the BGPFilter or remove the name; it is left out meanwhile";
                problems.add(object, "spec.filters", name, "is no BGPFilter", remedy);
                continue;
            };
            let filter = format!("BGPFilter {name}");
            let lists = [("importV4", &spec.import_v4), ("importV6", &spec.import_v6)];
            import.push(self.compile(format!("filter-{name}-import"), &filter, &lists, problems));
            let lists = [("exportV4", &spec.export_v4), ("exportV6", &spec.export_v6)];
            export.push(self.compile(format!("filter-{name}-export"), &filter, &lists, problems));
        }
        (import, export)
    }

    /// The policies that were asked for.
    pub(crate) fn into_policies(self) -> BTreeMap<String, Policy> {
        self.compiled
    }

    fn compile(
        &mut self,
        policy: String,
        object: &str,
        lists: &[(&str, &Vec<BGPFilterRule>); 2],
        problems: &mut Problems,
    ) -> String {
        if !self.compiled.contains_key(&policy) {
            let mut terms = Vec::new();
            for ((list, rules), family) in lists.iter().zip(Family::ALL) {
                for (index, rule) in rules.iter().enumerate() {
                    let at = format!("spec.{list}[{index}]");
                    let mut at = At {
                        object,
                        path: &at,
                        problems,
                    };
                    terms.extend(term(rule, family, &mut at));
                }
            }
            self.compiled.insert(policy.clone(), Policy { terms });
        }
        policy
    }
}

/// Where in an object we are.
struct At<'a> {
    object: &'a str,
    path: &'a str,
    problems: &'a mut Problems,
}

impl At<'_> {
    fn add(&mut self, field: &str, value: impl std::fmt::Display, problem: &str, remedy: &str) {
        let field = format!("{}.{field}", self.path);
        self.problems.add(
            self.object,
            &field,
            value,
            problem,
            format!("{remedy}; the rule is left out"),
        );
    }
}

/// A rule as a term. A rule with a value that cannot be used is left out as a whole: half a rule would match more
/// than was meant.
fn term(rule: &BGPFilterRule, family: Family, at: &mut At<'_>) -> Option<Term> {
    let then = match &rule.action {
        Some(BGPFilterAction::Accept) => Verdict::Accept,
        Some(BGPFilterAction::Reject) => Verdict::Reject,
        other => {
            let value = other.as_ref().map_or("", |action| action.as_str());
            at.add("action", value, "is no action", "use Accept or Reject");
            return None;
        }
    };
    let matches = Match {
        family: Some(family),
        prefixes: prefix(rule, family, at)?,
        sources: match &rule.source {
            None => Vec::new(),
            Some(BGPFilterMatchSource::RemotePeers) => vec![Source::Bgp],
            Some(BGPFilterMatchSource::Other(other)) => {
                at.add("source", other, "is no source", "use RemotePeers or leave it out");
                return None;
            }
        },
        peer_type: match &rule.peer_type {
            None => None,
            Some(BGPFilterPeerType::IBgp) => Some(PeerType::Ibgp),
            Some(BGPFilterPeerType::EBgp) => Some(PeerType::Ebgp),
            Some(BGPFilterPeerType::Other(other)) => {
                at.add("peerType", other, "is no type of session", "use iBGP or eBGP");
                return None;
            }
        },
        interfaces: Some(rule.interface.clone())
            .filter(|interface| !interface.is_empty())
            .into_iter()
            .collect(),
        communities: communities(rule, at)?,
        as_path_prefix: rule.as_path_prefix.iter().map(|number| number.0).collect(),
        local_pref: match rule.priority {
            None => None,
            Some(value) => Some(Range::exactly(local_pref("priority", value, at)?)),
        },
        ..Match::default()
    };
    let operations = if then == Verdict::Accept {
        rule.operations.as_slice()
    } else {
        &[]
    };
    let mut actions = Vec::new();
    for operation in operations {
        actions.extend(self::actions(operation, at)?);
    }
    Some(Term {
        name: at.path.to_owned(),
        matches,
        actions,
        then,
    })
}

fn prefix(rule: &BGPFilterRule, family: Family, at: &mut At<'_>) -> Option<Vec<PrefixMatch>> {
    if rule.cidr.is_empty() {
        return Some(Vec::new());
    }
    let Some(cidr) = rule
        .cidr
        .parse::<IpNet>()
        .ok()
        .filter(|net| Family::of_prefix(net) == family)
    else {
        let remedy = if family == Family::Ipv4 {
            "use one as 10.0.0.0/8"
        } else {
            "use one as fd00::/8"
        };
        at.add("cidr", &rule.cidr, "is no CIDR of this family", remedy);
        return None;
    };
    let operator = match &rule.match_operator {
        Some(BGPFilterMatchOperator::Equal) => PrefixOperator::Equal,
        Some(BGPFilterMatchOperator::NotEqual) => PrefixOperator::NotEqual,
        Some(BGPFilterMatchOperator::In) => PrefixOperator::In,
        Some(BGPFilterMatchOperator::NotIn) => PrefixOperator::NotIn,
        other => {
            let value = other.as_ref().map_or("", |operator| operator.as_str());
            at.add(
                "matchOperator",
                value,
                "is no operator",
                "use Equal, NotEqual, In or NotIn",
            );
            return None;
        }
    };
    let mut length = |field: &str, value: Option<i32>, lowest: u8, highest: u8| match value {
        None => Some(None),
        Some(value) => match u8::try_from(value) {
            Ok(number) if number <= family.max_prefix_len() => Some(Some(number.clamp(lowest, highest))),
            _ => {
                let remedy = "use a length of this family's prefixes";
                at.add(&format!("prefixLength.{field}"), value, "is out of range", remedy);
                None
            }
        },
    };
    let lengths = rule.prefix_length.clone().unwrap_or_default();
    // A shorter length than the CIDR's own cannot be within it.
    let min_length = length("min", lengths.min, cidr.prefix_len(), family.max_prefix_len())?;
    let max_length = length("max", lengths.max, 0, family.max_prefix_len())?;
    Some(vec![PrefixMatch {
        cidr: cidr.trunc(),
        operator,
        min_length,
        max_length,
    }])
}

fn communities(rule: &BGPFilterRule, at: &mut At<'_>) -> Option<Vec<Community>> {
    let Some(wanted) = &rule.communities else {
        return Some(Vec::new());
    };
    wanted
        .values
        .iter()
        .map(|text| community("communities.values", text, at))
        .collect()
}

fn community(field: &str, text: &str, at: &mut At<'_>) -> Option<Community> {
    match text.parse() {
        Ok(community) => Some(community),
        Err(_) => {
            at.add(
                field,
                text,
                "is no community",
                "use aa:nn, or aa:nn:mm for a large one",
            );
            None
        }
    }
}

/// Priorities are kernel metrics; on the wire they are LOCAL_PREF counted down from the base.
fn local_pref(field: &str, value: i32, at: &mut At<'_>) -> Option<u32> {
    match u32::try_from(value) {
        Ok(metric @ 1..PRIORITY_BASE) => Some(PRIORITY_BASE - metric),
        _ => {
            at.add(field, value, "is no priority", "use 1 to 2147483646");
            None
        }
    }
}

fn actions(operation: &BGPFilterOperation, at: &mut At<'_>) -> Option<Vec<Action>> {
    let mut actions = Vec::new();
    if let Some(add) = &operation.add_community {
        actions.push(Action::AddCommunities(vec![community(
            "operations.addCommunity.value",
            &add.value,
            at,
        )?]));
    }
    if let Some(prepend) = &operation.prepend_as_path {
        actions.push(Action::PrependAsPath(
            prepend.prefix.iter().map(|number| number.0).collect(),
        ));
    }
    if let Some(set) = &operation.set_priority {
        let value = set.value.unwrap_or_default();
        actions.push(Action::SetLocalPref(local_pref(
            "operations.setPriority.value",
            value,
            at,
        )?));
    }
    Some(actions)
}
