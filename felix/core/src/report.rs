//! What can be said of policies as a whole: whom they select, and which of their rules do nothing.
//!
//! Owns the form of the report, and when one rule leaves nothing for another ([`covers`]). Put together by
//! [`Core::report`](crate::Core::report).

use ipnet::IpNet;

use crate::calc::model::{Direction, Peer, PolicyId, RuleAction, RuleModel};
use crate::calc::sets::Item;
use crate::eval::Criterion;
use crate::rules::PortRange;

/// All policies, and endpoints without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Policies by tier and order.
    pub policies: Vec<PolicyReport>,
    /// Workloads that no enforced policy has a say about in a direction: their profiles decide.
    pub unselected: Vec<(Item, Direction)>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyReport {
    /// The policy.
    pub id: PolicyId,
    /// Its tier.
    pub tier: String,
    /// Its place in the tier; last if absent.
    pub order: Option<f64>,
    /// Whom it selects.
    pub selector: String,
    /// Directions in which it has a say.
    pub directions: Vec<Direction>,
    /// The endpoints that it selects.
    pub endpoints: Vec<Item>,
    /// What is odd about it.
    pub findings: Vec<Finding>,
}

/// Something that does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The policy selects no endpoint.
    Unused,
    /// Every packet that a rule could match was decided by an earlier one.
    Shadowed {
        /// Direction of the rule.
        direction: Direction,
        /// Number of the rule in its direction, from 0.
        rule: usize,
        /// The policy of the earlier rule.
        by: PolicyId,
        /// The earlier rule.
        by_rule: usize,
    },
    /// A rule demands an end that nothing is.
    Empty {
        /// Direction of the rule.
        direction: Direction,
        /// Number of the rule in its direction, from 0.
        rule: usize,
        /// Source or destination.
        end: Criterion,
        /// What is demanded.
        wanted: String,
    },
}

/// True when every packet that `later` matches is matched by `earlier` too, by what the rules say; false when that
/// cannot be told without looking at members of sets.
#[must_use]
pub fn covers(earlier: &RuleModel, later: &RuleModel) -> bool {
    if earlier.action == RuleAction::Log {
        return false;
    }
    let version = earlier.version.is_none() || earlier.version == later.version;
    let protocol = earlier.protocol.is_none() || earlier.protocol == later.protocol;
    let not_protocol = earlier.not_protocol.is_none_or(|excluded| {
        later.not_protocol == Some(excluded) || later.protocol.is_some_and(|own| own != excluded)
    });
    let icmp = earlier.icmp.is_none_or(|(type_, code)| {
        let fits = |own: (u8, Option<u8>)| own.0 == type_ && (code.is_none() || own.1 == code);
        later.icmp.is_some_and(fits)
    });
    let not_icmp = earlier.not_icmp.is_none() || earlier.not_icmp == later.not_icmp;
    version
        && protocol
        && not_protocol
        && icmp
        && not_icmp
        && covers_peer(&earlier.source, &later.source)
        && covers_peer(&earlier.destination, &later.destination)
}

fn covers_peer(earlier: &Peer, later: &Peer) -> bool {
    let within = |net: &IpNet, nets: &[IpNet]| nets.iter().any(|outer| outer.contains(net));
    let nets = earlier.nets.is_empty()
        || (!later.nets.is_empty() && later.nets.iter().all(|net| within(net, &earlier.nets)));
    let is_apart = |hole: &IpNet| {
        let touches = |net: &IpNet| net.contains(hole) || hole.contains(net);
        !later.nets.is_empty() && !later.nets.iter().any(touches)
    };
    let mut holes = earlier.not_nets.iter();
    let not_nets = holes.all(|hole| within(hole, &later.not_nets) || is_apart(hole));
    let mut sets = earlier.sets.iter();
    let sets = sets.all(|set| later.sets.iter().any(|own| own.id == set.id));
    let mut not_sets = earlier.not_sets.iter();
    let not_sets = not_sets.all(|set| later.not_sets.iter().any(|own| own.id == set.id));
    nets && not_nets && sets && not_sets && covers_ports(earlier, later)
}

fn covers_ports(earlier: &Peer, later: &Peer) -> bool {
    let within = |range: &PortRange, ranges: &[PortRange]| {
        let mut outer = ranges.iter();
        outer.any(|outer| outer.min <= range.min && range.max <= outer.max)
    };
    let is_open = earlier.ports.is_empty() && earlier.named_ports.is_empty();
    let is_demanding = !later.ports.is_empty() || !later.named_ports.is_empty();
    let mut named = later.named_ports.iter();
    let ports = is_open
        || (is_demanding
            && later.ports.iter().all(|range| within(range, &earlier.ports))
            && named.all(|set| earlier.named_ports.iter().any(|own| own.id == set.id)));
    let mut holes = earlier.not_ports.iter();
    let not_ports = holes.all(|range| within(range, &later.not_ports));
    let mut named_holes = earlier.not_named_ports.iter();
    ports && not_ports && named_holes.all(|set| later.not_named_ports.iter().any(|own| own.id == set.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ports: &[(u16, u16)], nets: &[&str]) -> RuleModel {
        let mut rule = RuleModel::any(0, RuleAction::Allow);
        rule.protocol = (!ports.is_empty()).then_some(6);
        rule.destination.ports = ports
            .iter()
            .map(|(min, max)| PortRange { min: *min, max: *max })
            .collect();
        rule.source.nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        rule
    }

    #[test]
    fn a_wider_rule_leaves_nothing_for_a_narrower_one() {
        let all = RuleModel::any(0, RuleAction::Deny);
        let web = rule(&[(80, 80)], &["10.0.0.0/8"]);
        assert!(covers(&all, &web) && !covers(&web, &all));
        assert!(covers(&rule(&[(1, 100)], &[]), &web));
        assert!(!covers(&rule(&[(1, 79)], &[]), &web));
        assert!(covers(&rule(&[], &["10.0.0.0/7"]), &web));
        assert!(!covers(&rule(&[], &["10.0.0.0/9"]), &web));
    }

    #[test]
    fn what_a_rule_excludes_is_left_for_later_ones() {
        let mut holed = rule(&[], &["10.0.0.0/8"]);
        holed.source.not_nets = vec!["10.1.0.0/16".parse().unwrap()];
        assert!(!covers(&holed, &rule(&[], &["10.1.1.0/24"])));
        assert!(!covers(&holed, &rule(&[], &["10.0.0.0/8"])));
        assert!(covers(&holed, &rule(&[], &["10.2.0.0/16"])));
        let mut log = RuleModel::any(0, RuleAction::Log);
        log.index = 1;
        assert!(!covers(&log, &holed));
    }
}
