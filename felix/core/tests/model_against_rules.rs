//! Random policies, random packets: what is meant (the evaluator) against what is compiled (the interpreter), for both
//! backends, and what came by changes against what was computed from nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test, whose number of cases the environment tells"
)]

mod random;

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::desired::Backend;
use caracal_felix_core::eval::{Packet, Place, Verdict};
use caracal_felix_core::interpret::{self, Flight, Outcome};
use caracal_felix_core::rules::{End, Match};
use caracal_felix_core::{Core, Options, Update};
use proptest::prelude::*;
use random::{
    NODE, absent, first, host_endpoint, host_forwards, host_policy, host_says, interface, is_here, packet,
    plain_policy, plain_update, policy, update, world,
};

fn core(backend: Backend) -> Core {
    let mut core = Core::new(Options {
        node: NODE.to_owned(),
        ..Options::default()
    });
    core.set_backend(backend);
    core.on_in_sync();
    core
}

/// iptables refuses a whole table for one rule with two prefixes of an end.
fn check_sayable(core: &Core, backend: Backend) -> Result<(), TestCaseError> {
    let tables = core.desired().tables.values();
    let rules = tables.flat_map(|table| table.chains.values().flatten());
    for rule in rules.filter(|_| backend != Backend::Nftables) {
        for wanted in [End::Source, End::Destination] {
            let of_end = |one: &&Match| matches!(one, Match::Nets { end, .. } if *end == wanted);
            let count = rule.matches.iter().filter(of_end).count();
            prop_assert!(count <= 1, "{rule:?}");
        }
    }
    Ok(())
}

fn check(core: &Core, packet: &Packet) -> Result<(), TestCaseError> {
    let trace = core.trace(packet);
    // This node sees what its own workloads send and get.
    let sides = [
        trace.source.as_ref().filter(|_| is_here(packet.source)),
        trace.destination.as_ref().filter(|_| is_here(packet.destination)),
    ];
    let is_denied = sides
        .into_iter()
        .flatten()
        .any(|side| side.verdict == Verdict::Deny);
    let mut flight = Flight::new(
        *packet,
        Some(&interface(packet.source)),
        Some(&interface(packet.destination)),
    );
    let outcome = interpret::forwarded(core.desired(), &mut flight);
    prop_assert_eq!(
        outcome == Outcome::Dropped,
        is_denied,
        "{:?} {:?}\n{:#?}",
        packet,
        core.config().backend,
        trace
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn chains_do_what_policies_mean(
        policies in prop::collection::vec(policy(), 0..8),
        plain in prop::collection::vec(plain_policy(), 0..24),
        packets in prop::collection::vec(packet(), 40),
        backend in prop::sample::select(vec![Backend::Iptables, Backend::Nftables]),
    ) {
        let mut core = core(backend);
        world().into_iter().for_each(|update| core.on_update(update));
        for (index, policy) in policies.iter().enumerate() {
            core.on_update(update(index, policy, true));
        }
        for (index, spec) in plain.iter().enumerate() {
            core.on_update(plain_update(index, spec));
        }
        core.flush();
        check_sayable(&core, backend)?;
        for packet in &packets {
            check(&core, packet)?;
        }
    }

    #[test]
    fn chains_of_host_endpoints_do_what_policies_mean(
        policies in prop::collection::vec((policy(), 0u8..5), 0..7),
        packets in prop::collection::vec(packet(), 30),
        interface in prop::sample::select(vec!["*", "eth0"]),
        has_profile in any::<bool>(),
    ) {
        let mut core = core(Backend::Iptables);
        world().into_iter().for_each(|update| core.on_update(update));
        core.on_update(host_endpoint(interface, has_profile));
        for (index, ((_, spec, _), flags)) in policies.iter().enumerate() {
            core.on_update(host_policy(index, spec, *flags, true));
        }
        core.flush();
        // An answer to a failsafe port is let through untracked policies by its source port, which the model of single
        // packets does not know.
        for packet in packets.iter().filter(|packet| packet.source_port != 53) {
            check_host(&core, packet)?;
        }
    }

    #[test]
    fn changes_lead_where_starting_anew_leads(
        policies in prop::collection::vec(policy(), 6),
        others in prop::collection::vec(policy(), 6),
        plain in prop::collection::vec(plain_policy(), 14),
        steps in prop::collection::vec((0usize..60, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut all: Vec<(Update, Update)> = Vec::new();
        for (index, (one, other)) in policies.iter().zip(&others).enumerate() {
            let one = (0, one.1.clone(), false);
            all.push((update(index, &one, true), update(index, &(0, other.1.clone(), false), true)));
        }
        for (index, spec) in plain.iter().enumerate() {
            let other = plain_update(index, &plain[(index + 1) % plain.len()]);
            all.push((plain_update(index, spec), other));
        }
        all.extend(world().into_iter().map(|update| (update.clone(), absent(&update))));
        let mut incremental = core(Backend::Iptables);
        let mut kernel = caracal_felix_core::Desired::default();
        let mut last: Vec<Option<Update>> = vec![None; all.len()];
        for (step, is_first, is_flushed) in steps {
            let index = step % all.len();
            let (one, other) = &all[index];
            let update = if is_first { one } else { other };
            last[index] = Some(update.clone());
            incremental.on_update(update.clone());
            if is_flushed {
                let dirty = incremental.flush();
                follow(&mut kernel, incremental.desired(), &dirty);
                prop_assert_eq!(&kernel, incremental.desired());
            }
        }
        let dirty = incremental.flush();
        follow(&mut kernel, incremental.desired(), &dirty);
        prop_assert_eq!(&kernel, incremental.desired());
        let mut scratch = core(Backend::Iptables);
        for update in last.into_iter().rev().flatten() {
            scratch.on_update(update);
        }
        scratch.flush();
        prop_assert_eq!(incremental.desired(), scratch.desired());
    }
}

/// A way through the tables.
type Way = fn(&caracal_felix_core::Desired, &mut Flight) -> Outcome;

fn check_host(core: &Core, packet: &Packet) -> Result<(), TestCaseError> {
    let asked = |direction, place| host_says(core, direction, place, packet);
    let early = [
        asked(Direction::Ingress, Place::Untracked),
        asked(Direction::Ingress, Place::PreDnat),
    ];
    let received = first(&[early[0], early[1], asked(Direction::Ingress, Place::Own)]);
    let sent = first(&[
        asked(Direction::Egress, Place::Untracked),
        asked(Direction::Egress, Place::Own),
    ]);
    let forwarded = host_forwards(core, packet);
    let ways = [
        (
            "received",
            interpret::received as Way,
            Some("eth0"),
            None,
            received,
        ),
        ("sent", interpret::sent, None, Some("eth0"), sent),
        (
            "forwarded",
            interpret::forwarded,
            Some("eth0"),
            Some("eth0"),
            forwarded,
        ),
    ];
    for (name, way, came_in, leaves, expected) in ways {
        let mut flight = Flight::new(*packet, came_in, leaves);
        let outcome = way(core.desired(), &mut flight);
        let is_denied = expected == Some(Verdict::Deny);
        prop_assert_eq!(outcome == Outcome::Dropped, is_denied, "{} {:?}", name, packet);
    }
    Ok(())
}

fn cases() -> u32 {
    let wanted = std::env::var("CARACAL_PROPERTY_CASES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(64)
}

/// What a driver does that trusts what it is told of changes, and looks at nothing else.
fn follow(
    kernel: &mut caracal_felix_core::Desired,
    desired: &caracal_felix_core::Desired,
    dirty: &caracal_felix_core::Dirty,
) {
    use caracal_felix_core::desired::IpSetChange;
    for (name, change) in &dirty.ip_sets {
        match (change, kernel.ip_sets.get_mut(name)) {
            (IpSetChange::Removed, _) => drop(kernel.ip_sets.remove(name)),
            (IpSetChange::Members { added, removed }, Some(set)) => {
                set.members.extend(added);
                set.members.retain(|member| !removed.contains(member));
            }
            (IpSetChange::Members { .. }, None) => panic!("members of a set that is not there: {name}"),
            (IpSetChange::Replaced, _) => {
                kernel.ip_sets.insert(name.clone(), desired.ip_sets[name].clone());
            }
        }
    }
    for key in desired.tables.keys() {
        kernel.tables.entry(*key).or_default();
    }
    for (key, chains) in &dirty.chains {
        for name in chains {
            let table = kernel.tables.get_mut(key).unwrap();
            match desired.tables[key].chains.get(name) {
                Some(rules) => table.chains.insert(name.clone(), rules.clone()),
                None => table.chains.remove(name),
            };
        }
    }
    for (key, chains) in &dirty.kernel_chains {
        for name in chains {
            let table = kernel.tables.get_mut(key).unwrap();
            let chain = desired.tables[key].kernel_chains[name].clone();
            table.kernel_chains.insert(name.clone(), chain);
        }
    }
    for net in &dirty.routes {
        match desired.routes.get(net) {
            Some(route) => kernel.routes.insert(*net, route.clone()),
            None => kernel.routes.remove(net),
        };
    }
    for name in &dirty.interfaces {
        match desired.interfaces.get(name) {
            Some(interface) => kernel.interfaces.insert(name.clone(), interface.clone()),
            None => kernel.interfaces.remove(name),
        };
    }
    for name in &dirty.endpoint_statuses {
        match desired.endpoint_statuses.get(name) {
            Some(status) => kernel.endpoint_statuses.insert(name.clone(), status.clone()),
            None => kernel.endpoint_statuses.remove(name),
        };
    }
    if dirty.sysctls {
        kernel.sysctls.clone_from(&desired.sysctls);
    }
}
