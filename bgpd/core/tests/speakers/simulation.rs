//! Random faults from a seed; when they stop, every speaker knows every route, its kernel nothing else, and what one
//! says it sent is what the other says it got.
//!
//! `CARACAL_SIM_SEEDS=3000 cargo test …` (`make sim-bgpd`) runs more seeds than every test run does.

use std::collections::{BTreeMap, BTreeSet};

use caracal_bgpd_core::config::{AddPath, Config};
use caracal_bgpd_core::output::Target;
use caracal_bgpd_core::snapshot::{RouteQuery, RouteStatus};
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::net::{Net, address, config, join, name, originate, peer};

const NODES: usize = 4;

/// Kinds of topologies.
const KINDS: u64 = 5;

/// Full mesh of one AS, ring of different ones, star around a reflector, the last two with all paths.
fn topology(kind: u64) -> Vec<Config> {
    let local_as = |index: usize| {
        if matches!(kind, 1 | 4) {
            64600 + u32::try_from(index).unwrap()
        } else {
            64512
        }
    };
    let mut configs: Vec<Config> = (0..NODES).map(|index| config(index, local_as(index))).collect();
    for a in 0..NODES {
        for b in a + 1..NODES {
            let ring = b == a + 1 || (a == 0 && b == NODES - 1);
            if kind == 0 || (matches!(kind, 1 | 4) && ring) || (matches!(kind, 2 | 3) && a == 0) {
                join(&mut configs, a, b);
            }
        }
    }
    if kind > 2 {
        for peer in configs.iter_mut().flat_map(|config| &mut config.peers) {
            peer.add_path = AddPath::Both;
        }
    }
    if matches!(kind, 2 | 3) {
        for other in 1..NODES {
            peer(&mut configs[0], other).reflector_client = Some(address(0));
        }
    }
    configs
}

fn step(net: &mut Net, rng: &mut SmallRng) {
    let node = rng.random_range(0..NODES);
    let other = rng.random_range(0..NODES);
    match rng.random_range(0..10) {
        0 if node != other => net.cut(node, other),
        1 if net.nodes[node].speaker.is_some() => net.kill(node),
        2 | 3 if net.nodes[node].speaker.is_none() => {
            let restarting = rng.random_bool(0.5);
            net.start(node, restarting);
        }
        4..=7 => {
            // Some prefixes are everybody's.
            let owner = if rng.random_bool(0.3) { 99 } else { node };
            let prefix = format!("10.{owner}.{}.0/24", rng.random_range(0..8));
            let change = |config: &mut Config| {
                let before = config.routes.len();
                config.routes.retain(|route| route.prefix.to_string() != prefix);
                if config.routes.len() == before {
                    config.routes.push(originate(&prefix));
                }
            };
            if net.nodes[node].speaker.is_some() {
                net.configure(node, change);
            } else {
                change(&mut net.nodes[node].config);
            }
        }
        _ => net.pass(rng.random_range(0..40)),
    }
    net.pump();
}

fn check_converged(net: &Net, seed: u64) {
    let mut owners: BTreeMap<IpNet, BTreeSet<usize>> = BTreeMap::new();
    for (index, node) in net.nodes.iter().enumerate() {
        for route in &node.config.routes {
            owners.entry(route.prefix).or_default().insert(index);
        }
    }
    for (index, node) in net.nodes.iter().enumerate() {
        let others = owners.iter().filter(|(_, owners)| !owners.contains(&index));
        let expected: BTreeSet<IpNet> = others.map(|(prefix, _)| *prefix).collect();
        let found: BTreeSet<IpNet> = node.kernel.keys().copied().collect();
        assert_eq!(found, expected, "seed {seed}, node {index}");
        for (prefix, route) in &node.kernel {
            check_forwarding(net, index, *prefix, &owners[prefix], seed);
            assert!(matches!(route.target, Target::NextHops(_)));
        }
        let status = node.speaker.as_ref().unwrap().status(net.now);
        assert!(status.peers.iter().all(|peer| !peer.routes_stale), "seed {seed}");
        for peer in &status.peers {
            let other = (0..NODES).find(|other| name(*other) == peer.name).unwrap();
            let sent = net.routes(index, &RouteQuery::AdjRibOut { peer: name(other) });
            let got = net.routes(other, &RouteQuery::AdjRibIn { peer: name(index) });
            assert_eq!(told(&sent), told(&got), "seed {seed}: {index} to {other}");
        }
    }
}

/// What both ends see of routes.
fn told(routes: &[RouteStatus]) -> BTreeSet<(IpNet, u32, String, String)> {
    let of = |route: &RouteStatus| {
        let path = route.as_path.clone();
        (route.prefix, route.path_id, format!("{:?}", route.next_hop), path)
    };
    routes.iter().map(of).collect()
}

/// Following next hops leads to an owner, without a loop.
fn check_forwarding(net: &Net, from: usize, prefix: IpNet, owners: &BTreeSet<usize>, seed: u64) {
    let mut at = from;
    for _ in 0..NODES {
        if owners.contains(&at) {
            return;
        }
        let Target::NextHops(hops) = &net.nodes[at].kernel[&prefix].target else {
            panic!("seed {seed}: no next hop");
        };
        let next = hops[0].address;
        at = net.nodes.iter().position(|node| node.address == next).unwrap();
    }
    panic!("seed {seed}: {prefix} loops from node {from}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how many seeds is up to whoever runs it"
)]
fn speakers_converge_after_random_faults() {
    let seeds = std::env::var("CARACAL_SIM_SEEDS").ok();
    let seeds = seeds.map_or(90, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut net = Net::new(topology(seed % KINDS));
        net.shuffle = (seed / KINDS % 2 == 1).then(|| SmallRng::seed_from_u64(seed));
        for _ in 0..60 {
            step(&mut net, &mut rng);
        }
        for index in 0..NODES {
            if net.nodes[index].speaker.is_none() {
                net.start(index, true);
            }
        }
        net.pump();
        net.pass(600);
        check_converged(&net, seed);
    }
    println!("{seeds} seeds passed");
}
