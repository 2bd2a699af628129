//! What happens to a packet on its way, place by place. Pure: a snapshot and a packet in, hops out.

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::config::{Config, EndpointToHostAction};
use caracal_felix_core::eval::{Evaluation, Place, Reason, Verdict};
use caracal_felix_core::update::Key;
use caracal_felix_core::way::Way;

use super::ends::Flow;
use crate::snapshot::Snapshot;

/// Whose policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    SourceHost,
    DestinationHost,
    Destination,
}

/// One place on the way.
#[derive(Clone, Debug)]
pub(crate) enum Hop {
    /// Policies are asked.
    Asked {
        role: Role,
        place: Place,
        node: String,
        evaluation: Evaluation,
    },
    /// No policy is asked.
    Free { role: Role, why: String },
    /// From the node of the source on.
    Routed { node: String, way: Way },
    /// From a workload to its own node: the node's configuration decides.
    ToHost {
        node: String,
        action: &'static str,
        verdict: Verdict,
    },
}

/// The whole way.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) hops: Vec<Hop>,
    pub(crate) verdict: Verdict,
    /// Things to know that do not change the verdict.
    pub(crate) notes: Vec<String>,
}

impl Path {
    /// The place where the packet ends, if it does.
    pub(crate) fn denied_at(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.verdict() == Verdict::Deny)
    }
}

impl Hop {
    pub(crate) const fn verdict(&self) -> Verdict {
        match self {
            Self::Asked { evaluation, .. } => evaluation.verdict,
            Self::ToHost { verdict, .. } => *verdict,
            Self::Routed {
                way: Way::Nowhere, ..
            } => Verdict::Deny,
            Self::Free { .. } | Self::Routed { .. } => Verdict::Allow,
        }
    }
}

/// Goes the way of a packet.
pub(crate) fn go(snapshot: &Snapshot, flow: &Flow) -> Path {
    let mut walk = Walk {
        snapshot,
        flow,
        hops: Vec::new(),
        notes: Vec::new(),
    };
    walk.all();
    let Walk { hops, notes, .. } = walk;
    let denied = hops.iter().any(|hop| hop.verdict() == Verdict::Deny);
    let verdict = if denied { Verdict::Deny } else { Verdict::Allow };
    Path { hops, verdict, notes }
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    flow: &'a Flow,
    hops: Vec<Hop>,
    notes: Vec<String>,
}

impl Walk<'_> {
    fn all(&mut self) {
        let (source, destination) = (&self.flow.source, &self.flow.destination);
        if source.address == destination.address {
            self.free(
                Role::Source,
                "what reaches its own address never leaves it: no policy is asked",
            );
            return;
        }
        let same_node = source.node.is_some() && source.node == destination.node;
        let (from, to) = (
            source.node.clone().unwrap_or_default(),
            destination.node.clone().unwrap_or_default(),
        );
        match (&source.item, source.node.is_some()) {
            (Some(item), _) => {
                self.ask(Role::Source, item, &from, Direction::Egress, Place::Own);
                if !same_node {
                    self.hosts(Role::SourceHost, &from, &[Place::Forward]);
                }
            }
            (None, true) if same_node && destination.item.is_some() => {
                self.free(Role::Source, "a node may always reach its own workloads");
                return;
            }
            (None, true) => self.hosts(Role::SourceHost, &from, &[Place::Own]),
            (None, false) => self.free(
                Role::Source,
                "no endpoint of this cluster: nothing is asked where it comes from",
            ),
        }
        if let Some(node) = &source.node {
            let to_workload = destination.item.as_ref().map(|_| to.as_str());
            let way = self
                .snapshot
                .core
                .way(node, source.address, destination.address, to_workload);
            let way = if destination.item.is_none()
                && destination.node.is_some()
                && matches!(way, Way::Nowhere | Way::Outside { .. })
            {
                // An address that the node has beside the one by which the others know it.
                if same_node {
                    Way::Host
                } else {
                    Way::OtherHost { node: to.clone() }
                }
            } else {
                way
            };
            self.hops.push(Hop::Routed {
                node: node.clone(),
                way,
            });
        }
        match (&destination.item, destination.node.is_some()) {
            (Some(item), _) => {
                if !same_node {
                    self.hosts(
                        Role::DestinationHost,
                        &to,
                        &[Place::Untracked, Place::PreDnat, Place::Forward],
                    );
                }
                self.ask(Role::Destination, item, &to, Direction::Ingress, Place::Own);
            }
            (None, true) if same_node && source.item.is_some() => self.reach_host(&to),
            (None, true) if same_node => {}
            (None, true) => self.hosts(
                Role::DestinationHost,
                &to,
                &[Place::Untracked, Place::PreDnat, Place::Own],
            ),
            (None, false) => self.free(
                Role::Destination,
                "outside of the cluster: no policy of ours is asked there",
            ),
        }
    }

    fn free(&mut self, role: Role, why: &str) {
        let why = why.to_owned();
        self.hops.push(Hop::Free { role, why });
    }

    fn config(&self, node: &str) -> Config {
        self.snapshot.core.config_of(node)
    }

    fn ask(&mut self, role: Role, item: &Item, node: &str, direction: Direction, place: Place) -> Verdict {
        let config = self.config(node);
        let core = &self.snapshot.core;
        let evaluation = core.evaluate_with(&config, item, direction, place, &self.flow.packet);
        let verdict = evaluation.verdict;
        let is_silent = evaluation.reason == Reason::NotConcerned && evaluation.steps.is_empty();
        if !is_silent {
            let node = node.to_owned();
            self.hops.push(Hop::Asked {
                role,
                place,
                node,
                evaluation,
            });
        }
        verdict
    }

    /// Asks the host endpoint of a node at places in the order in which packets come to them.
    fn hosts(&mut self, role: Role, node: &str, places: &[Place]) {
        let direction = if role == Role::SourceHost {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let own = self.snapshot.nodes.get(node).cloned().unwrap_or_default();
        let of_node = || self.snapshot.hosts.iter().filter(|host| host.node == node);
        let by_address = of_node().find(|host| host.expected.iter().any(|address| own.contains(address)));
        let found = by_address.or_else(|| of_node().find(|host| host.interface == "*"));
        let named = of_node()
            .filter(|host| host.expected.is_empty() && host.interface != "*" && !host.interface.is_empty());
        for host in named {
            let text = format!(
                "HostEndpoint {} is about interface {} of {node}: which interface the packet takes is not known here",
                host.name, host.interface
            );
            self.notes.push(text);
        }
        let Some(host) = found else {
            if places.contains(&Place::Own) {
                let why = format!("node {node} has no host endpoint: its own firewall alone decides");
                self.free(role, &why);
            }
            return;
        };
        let item = Item::Host(Key::cluster(&host.name));
        for place in places {
            let verdict = self.ask(role, &item, node, direction, *place);
            let decided = self.hops.last().is_some_and(|hop| {
                matches!(hop, Hop::Asked { place: own, evaluation, .. }
                    if own == place && matches!(evaluation.reason, Reason::Policy { .. } | Reason::Failsafe))
            });
            // What is let pass before is not asked again.
            let is_early = matches!(place, Place::Untracked | Place::PreDnat);
            if verdict == Verdict::Deny || (is_early && decided) {
                return;
            }
        }
    }

    fn reach_host(&mut self, node: &str) {
        let (action, verdict) = match self.config(node).endpoint_to_host_action {
            EndpointToHostAction::Drop => ("Drop", Verdict::Deny),
            EndpointToHostAction::Accept => ("Accept", Verdict::Allow),
            EndpointToHostAction::Return => ("Return", Verdict::Allow),
        };
        let node = node.to_owned();
        self.hops.push(Hop::ToHost {
            node,
            action,
            verdict,
        });
    }
}
