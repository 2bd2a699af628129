//! Many policies in a few rules.
//!
//! A packet that passes through a thousand chains pays for each. The order of rules matters only where verdicts differ:
//! between two Denies, or with no Deny at all, a packet that any of the Allows lets pass is let pass. So each run of
//! rules of one verdict becomes a few rules that look up merged sets. What a rule says beyond addresses, protocol and
//! destination ports is left as it is, after the merged ones of its run. A Log ends a run: it must see what no rule
//! before it decided, and nothing else.
//!
//! The verdict is that of the chains one by one; only counters are per run instead of per policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caracal_api::names;
use ipnet::IpNet;

use super::policy::{expand, normal, split_ports, verdict};
use super::{End, Match, PortRange, Rule};
use crate::calc::model::{Direction, Peer, RuleAction, RuleModel, SetSource, SetSpec, version_of};
use crate::calc::sets::{Base, Part};
use crate::config::Config;
use crate::desired::{IpSetKind, IpVersion};

/// Rules of one kind that may stay apart.
const FEW: usize = 8;
/// Ports of one rule that are written out one by one.
const PORTS_MAX: usize = 16;
/// Prefixes that one net with holes may become.
const PIECES_MAX: usize = 128;

/// What merging gives.
#[derive(Debug, Default, PartialEq)]
pub struct Merged {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Sets that the rules name.
    pub sets: Vec<Arc<SetSpec>>,
    /// Merged sets that the rules name: kind and parts by id.
    pub unions: BTreeMap<String, (IpSetKind, Vec<Part>)>,
}

/// Where and how rules are merged.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Direction of the rules.
    pub direction: Direction,
    /// What the ids of merged sets are made of.
    pub id: &'a str,
    /// Family of the table.
    pub version: IpVersion,
    /// Parameters.
    pub config: &'a Config,
    /// Sets with so many members that they are not written out once for each port.
    pub large: &'a BTreeSet<String>,
}

/// A rule that says addresses of the far end, protocol and destination ports, and nothing else.
#[derive(Clone, Debug)]
struct Flat {
    protocol: Option<u8>,
    ports: Vec<PortRange>,
    far: Far,
}

#[derive(Clone, Debug)]
enum Far {
    Any,
    Set(Arc<SetSpec>),
    Nets(Vec<IpNet>),
}

/// Protocol and ports.
type Signature = (Option<u8>, Vec<PortRange>);

/// Merges the rules of policies in their order.
#[must_use]
pub fn chain<'a>(rules: impl IntoIterator<Item = &'a RuleModel>, context: &Context<'_>) -> Merged {
    let mut merged = Merged::default();
    let mut run: Vec<&RuleModel> = Vec::new();
    let mut number = 0;
    for rule in rules {
        let is_same = run.last().is_none_or(|last| last.action == rule.action);
        if !is_same || rule.action == RuleAction::Log {
            write_run(&run, number, context, &mut merged);
            run.clear();
            number += 1;
        }
        run.push(rule);
    }
    write_run(&run, number, context, &mut merged);
    merged
}

fn write_run(run: &[&RuleModel], number: usize, context: &Context<'_>, out: &mut Merged) {
    let Some(action) = run.first().map(|rule| rule.action) else {
        return;
    };
    let (mut flats, mut others) = (Vec::new(), Vec::new());
    for rule in run {
        match flatten(rule, context.direction).filter(|_| action != RuleAction::Log) {
            Some(flat) => flats.push(flat),
            None => others.push(*rule),
        }
    }
    let mut writer = Writer {
        action,
        number,
        context,
        out,
    };
    writer.flats(&flats);
    for rule in others {
        out.sets.extend(rule.sets().cloned());
        if rule.applies_to(context.version) {
            expand(rule, context.version, context.config, &mut out.rules);
        }
    }
}

struct Writer<'a, 'b> {
    action: RuleAction,
    number: usize,
    context: &'a Context<'a>,
    out: &'b mut Merged,
}

impl Writer<'_, '_> {
    fn flats(&mut self, flats: &[Flat]) {
        let mut groups: BTreeMap<Signature, Vec<&Far>> = BTreeMap::new();
        for flat in flats {
            let key = (flat.protocol, flat.ports.clone());
            groups.entry(key).or_default().push(&flat.far);
        }
        // Any address: the rest of the group says nothing more. Ports of one protocol go together.
        let mut open: BTreeMap<Option<u8>, Vec<PortRange>> = BTreeMap::new();
        groups.retain(|(protocol, ports), fars| {
            let is_open = fars.iter().any(|far| matches!(far, Far::Any));
            if is_open && !ports.is_empty() {
                open.entry(*protocol).or_default().extend(ports);
            }
            !is_open || ports.is_empty()
        });
        for (protocol, ports) in open {
            self.rule(protocol, &normal(ports), None);
        }
        let (with_ports, without): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|((_, ports), _)| !ports.is_empty());
        for ((protocol, _), fars) in without {
            self.group(protocol, &[], &fars);
        }
        let fars: BTreeSet<(Option<u8>, String)> = with_ports
            .iter()
            .flat_map(|((protocol, _), fars)| fars.iter().map(|far| (*protocol, far.text())))
            .collect();
        if with_ports.len() <= FEW {
            for ((protocol, ports), fars) in with_ports {
                self.group(protocol, &ports, &fars);
            }
        } else if fars.len() <= FEW {
            self.by_far(&with_ports);
        } else {
            self.by_address_and_port(with_ports);
        }
    }

    /// One rule for each far end, with all its ports.
    fn by_far(&mut self, groups: &[(Signature, Vec<&Far>)]) {
        let mut ports_of: BTreeMap<(Option<u8>, String), (Far, Vec<PortRange>)> = BTreeMap::new();
        for ((protocol, ports), fars) in groups {
            for far in fars {
                let entry = ports_of.entry((*protocol, far.text()));
                let (_, all) = entry.or_insert_with(|| ((*far).clone(), Vec::new()));
                all.extend(ports);
            }
        }
        for ((protocol, _), (far, ports)) in ports_of {
            self.group(protocol, &normal(ports), &[&far]);
        }
    }

    /// One lookup of address, protocol and port. What would be written out too often stays apart.
    fn by_address_and_port(&mut self, groups: Vec<(Signature, Vec<&Far>)>) {
        let mut parts = Vec::new();
        for ((protocol, ports), fars) in groups {
            let single: Option<Vec<(u8, u16)>> = protocol.and_then(|protocol| {
                let count: usize = ports
                    .iter()
                    .map(|range| usize::from(range.max - range.min) + 1)
                    .sum();
                let numbers = ports.iter().flat_map(|range| range.min..=range.max);
                (count <= PORTS_MAX).then(|| numbers.map(|port| (protocol, port)).collect())
            });
            let Some(single) = single else {
                self.group(protocol, &ports, &fars);
                continue;
            };
            let is_large =
                |far: &&Far| matches!(far, Far::Set(spec) if self.context.large.contains(&spec.id));
            let (large, small): (Vec<&Far>, Vec<&Far>) = fars.into_iter().partition(is_large);
            if !large.is_empty() {
                self.group(protocol, &ports, &large);
            }
            for far in small {
                parts.extend(far.bases().into_iter().map(|base| Part {
                    base,
                    ports: single.clone(),
                }));
            }
        }
        if parts.is_empty() {
            return;
        }
        let id = self.id("ports");
        let far = far_end(self.context.direction);
        let matches = vec![self.set(&id, far, Some(End::Destination))];
        self.out.unions.insert(id, (IpSetKind::HashNetPort, parts));
        verdict(matches, self.action, self.context.config, &mut self.out.rules);
    }

    /// One rule for several far ends of the same ports.
    fn group(&mut self, protocol: Option<u8>, ports: &[PortRange], fars: &[&Far]) {
        if fars.iter().any(|far| matches!(far, Far::Any)) {
            self.rule(protocol, ports, None);
            return;
        }
        let far = far_end(self.context.direction);
        if let [Far::Set(spec)] = fars {
            let criterion = self.set(&spec.id, far, None);
            self.out.sets.push(Arc::clone(spec));
            self.rule(protocol, ports, Some(criterion));
            return;
        }
        let texts: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let id = self.id(&format!("{protocol:?}:{}", texts.join(",")));
        let bases = fars.iter().flat_map(|far| far.bases());
        let parts = bases.map(|base| Part {
            base,
            ports: Vec::new(),
        });
        let parts = parts.collect();
        self.out.unions.insert(id.clone(), (IpSetKind::HashNet, parts));
        let criterion = self.set(&id, far, None);
        self.rule(protocol, ports, Some(criterion));
    }

    fn rule(&mut self, protocol: Option<u8>, ports: &[PortRange], far: Option<Match>) {
        let protocol = protocol.map(|number| Match::Protocol {
            number,
            negated: false,
        });
        let config = self.context.config;
        let lists = if ports.is_empty() {
            vec![Vec::new()]
        } else {
            split_ports(ports, config.backend.port_slots())
        };
        for ports in lists {
            let ports = (!ports.is_empty()).then_some(Match::Ports {
                end: End::Destination,
                ports,
                negated: false,
            });
            let matches = protocol.iter().cloned().chain(ports).chain(far.clone()).collect();
            verdict(matches, self.action, config, &mut self.out.rules);
        }
    }

    fn set(&self, id: &str, end: End, port: Option<End>) -> Match {
        Match::Set {
            end,
            set: names::ip_set_name(self.context.version, id),
            port,
            negated: false,
        }
    }

    fn id(&self, what: &str) -> String {
        names::unique_id("u", &format!("{}/{}/{what}", self.context.id, self.number))
    }
}

impl Far {
    fn text(&self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Set(spec) => spec.id.clone(),
            Self::Nets(nets) => format!("{nets:?}"),
        }
    }

    fn bases(&self) -> Vec<Base> {
        match self {
            Self::Any => Vec::new(),
            Self::Set(spec) => vec![Base::Set(Arc::clone(spec))],
            Self::Nets(nets) => nets.iter().copied().map(Base::Net).collect(),
        }
    }
}

const fn far_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::Source,
        Direction::Egress => End::Destination,
    }
}

/// The rule in its simple form, if it has one.
fn flatten(rule: &RuleModel, direction: Direction) -> Option<Flat> {
    let (far, near) = match direction {
        Direction::Ingress => (&rule.source, &rule.destination),
        Direction::Egress => (&rule.destination, &rule.source),
    };
    let no_addresses = |peer: &Peer| peer.nets.is_empty() && peer.not_nets.is_empty() && peer.sets.is_empty();
    let no_ports = |peer: &Peer| peer.ports.is_empty();
    let is_plain = |peer: &Peer| {
        peer.not_sets.is_empty()
            && peer.named_ports.is_empty()
            && peer.not_ports.is_empty()
            && peer.not_named_ports.is_empty()
    };
    let is_simple = rule.not_protocol.is_none()
        && rule.icmp.is_none()
        && rule.not_icmp.is_none()
        && is_plain(far)
        && is_plain(near)
        && no_addresses(near)
        && no_ports(&rule.source);
    if !is_simple {
        return None;
    }
    let is_of_version = |nets: &[IpNet]| {
        !nets.is_empty()
            && rule
                .version
                .is_none_or(|version| nets.iter().all(|net| version_of(net) == version))
    };
    let far = match (far.sets.as_slice(), far.nets.is_empty(), far.not_nets.is_empty()) {
        ([], true, true) if rule.version.is_none() => Far::Any,
        ([set], true, true) => {
            let is_fixed = matches!(&set.source, SetSource::Nets(nets) if is_of_version(nets));
            if rule.version.is_some() && !is_fixed {
                return None;
            }
            Far::Set(Arc::clone(set))
        }
        ([], false, _) if is_of_version(&far.nets) => Far::Nets(subtract(&far.nets, &far.not_nets)?),
        _ => return None,
    };
    Some(Flat {
        protocol: rule.protocol,
        ports: normal(rule.destination.ports.clone()),
        far,
    })
}

/// Prefixes without holes; `None` when that would be too many.
fn subtract(nets: &[IpNet], holes: &[IpNet]) -> Option<Vec<IpNet>> {
    let mut pieces: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    for hole in holes {
        let mut left = Vec::new();
        for piece in pieces {
            if hole.contains(&piece) {
                continue;
            }
            let mut rest = piece;
            while rest.contains(hole) && rest != hole.trunc() {
                let mut subnets = rest.subnets(rest.prefix_len() + 1).ok()?;
                let (first, second) = (subnets.next()?, subnets.next()?);
                let (kept, narrowed) = if first.contains(hole) {
                    (second, first)
                } else {
                    (first, second)
                };
                left.push(kept);
                rest = narrowed;
            }
            if rest == piece {
                left.push(piece);
            }
        }
        pieces = left;
        if pieces.len() > PIECES_MAX {
            return None;
        }
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_with_holes_is_what_is_left() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let left = subtract(&[net("10.0.0.0/30")], &[net("10.0.0.1/32")]).unwrap();
        assert_eq!(left, [net("10.0.0.2/31"), net("10.0.0.0/32")]);
        assert_eq!(
            subtract(&[net("10.0.0.0/30")], &[net("10.0.0.0/8")]),
            Some(vec![])
        );
        assert_eq!(
            subtract(&[net("10.0.0.0/30")], &[net("10.1.0.0/16")]),
            Some(vec![net("10.0.0.0/30")])
        );
    }
}
