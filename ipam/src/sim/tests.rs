//! The runs: all of small scenes, many of larger ones, and each with a step of the protocol taken out.
#![cfg(test)]

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::explore::{Scope, all, by_chance};
use super::node::Action;
use super::world::{Fault, Scene, node_name};
use crate::step::Step;

fn assign(handle: &str) -> Action {
    Action::Assign {
        handle: handle.to_owned(),
        count: 1,
    }
}

fn release(handle: &str) -> Action {
    Action::Release {
        handle: handle.to_owned(),
    }
}

const RECONCILE: Action = Action::Reconcile { target: 1 };

fn take(handle: &str) -> Action {
    Action::Take {
        handle: handle.to_owned(),
    }
}

/// Three nodes want an address each of a pool of two blocks.
fn three_claim() -> Scene {
    Scene {
        pool: "10.0.0.0/30",
        block_size: 31,
        actions: (0..3).map(|node| vec![assign(&format!("net.{node}"))]).collect(),
        ..Scene::default()
    }
}

/// Two nodes want the same block, which has two addresses.
fn two_claim() -> Scene {
    Scene {
        pool: "10.0.0.0/31",
        block_size: 31,
        actions: (0..2).map(|node| vec![assign(&format!("net.{node}"))]).collect(),
        ..Scene::default()
    }
}

/// A block that its node left empty is wanted by another one, and by its node.
fn reclaim() -> Scene {
    Scene {
        before: vec![vec![assign("net.old"), release("net.old")]],
        pause_seconds: 120,
        ..two_claim()
    }
}

/// One node releases while another one takes what is left.
fn release_and_borrow() -> Scene {
    Scene {
        before: vec![vec![assign("net.0"), assign("net.1")]],
        actions: vec![vec![release("net.0")], vec![assign("net.2")]],
        ..two_claim()
    }
}

/// A node with a reserve takes from it while another one wants every address.
fn reserve() -> Scene {
    Scene {
        pool: "10.0.0.0/31",
        block_size: 31,
        before: vec![vec![RECONCILE]],
        actions: vec![
            vec![take("net.0"), RECONCILE, release("net.0")],
            vec![assign("net.2")],
        ],
        ..Scene::default()
    }
}

/// Nodes that do everything.
fn crowd(seed: u64, nodes: usize, actions: usize) -> Scene {
    let mut random = SmallRng::seed_from_u64(seed);
    let strict = random.random_range(0..4) == 0;
    let cooldown = if random.random_range(0..4) == 0 { 1 } else { 0 };
    Scene {
        pool: "10.0.0.0/29",
        block_size: 31,
        configuration: json!({"strictAffinity": strict, "autoAllocateBlocks": true, "ipCooldownSeconds": cooldown}),
        before: (0..nodes)
            .map(|node| vec![assign(&format!("old.{node}")), release(&format!("old.{node}"))])
            .collect(),
        pause_seconds: 120,
        actions: (0..nodes)
            .map(|node| programs(&mut random, node, nodes, actions))
            .collect(),
    }
}

fn programs(random: &mut SmallRng, node: usize, nodes: usize, count: usize) -> Vec<Action> {
    let mut handles: Vec<String> = Vec::new();
    let mut actions = Vec::new();
    for index in 0..count {
        let new = format!("net.{node}-{index}");
        let old = handles.get(random.random_range(0..handles.len().max(1))).cloned();
        let action = match (random.random_range(0..16), old) {
            (0..3, Some(handle)) => Action::Release { handle },
            (3..5, Some(handle)) => Action::ReleaseAddresses { handle },
            (5, Some(handle)) => Action::GiveBack { handle },
            (6, _) => Action::LeaveBlocks {
                node: node_name(random.random_range(0..nodes)),
            },
            (7..9, _) => RECONCILE,
            (9..11, _) => take(&new),
            (11, _) => Action::AssignThis {
                handle: new.clone(),
                address: format!("10.0.0.{}", random.random_range(0..8)).parse().unwrap(),
            },
            (12, _) => Action::LoseJournal,
            _ => Action::Assign {
                handle: new.clone(),
                count: random.random_range(1..3),
            },
        };
        if matches!(
            action,
            Action::Assign { .. } | Action::AssignThis { .. } | Action::Take { .. }
        ) {
            handles.push(new);
        }
        actions.push(action);
    }
    actions
}

/// How much to do: 1 in a test run, more by `CARACAL_IPAM_EXPLORE`.
pub(super) fn factor() -> u64 {
    std::env::var("CARACAL_IPAM_EXPLORE").map_or(1, |text| text.parse().unwrap())
}

#[track_caller]
fn explore(name: &str, scene: &Scene, scope: Scope) {
    let started = std::time::Instant::now();
    match all(scene, scope, None) {
        Ok(done) => println!("{name} {scope:?}: {done:?} in {:?}", started.elapsed()),
        Err(wrong) => panic!("{name}: {wrong}"),
    }
}

/// Wide scopes take minutes; `CARACAL_IPAM_EXPLORE` asks for them.
fn scope(faults: usize, switches: usize, wide: (usize, usize)) -> Scope {
    let (faults, switches) = if factor() > 1 { wide } else { (faults, switches) };
    Scope {
        faults,
        switches,
        only: None,
    }
}

#[test]
fn two_nodes_claim_one_block_in_every_order() {
    explore("two_claim", &two_claim(), scope(0, 2, (0, 6)));
    explore("two_claim", &two_claim(), scope(1, 0, (1, 2)));
}

#[test]
fn three_nodes_claim_two_blocks_in_every_order() {
    explore("three_claim", &three_claim(), scope(0, 1, (0, 2)));
    if factor() > 1 {
        explore(
            "three_claim",
            &three_claim(),
            Scope {
                faults: 1,
                switches: 1,
                only: None,
            },
        );
    }
}

#[test]
fn an_empty_block_changes_hands_in_every_order() {
    explore("reclaim", &reclaim(), scope(1, 0, (1, 2)));
}

#[test]
fn release_and_borrow_in_every_order() {
    explore("release_and_borrow", &release_and_borrow(), scope(1, 1, (2, 2)));
}

#[test]
fn a_reserve_is_used_in_every_order() {
    explore("reserve", &reserve(), scope(1, 0, (1, 1)));
}

#[test]
fn crowds_by_chance() {
    let seeds = 8 * factor();
    let mut given = 0;
    for seed in 0..seeds {
        given += by_chance(&crowd(seed, 3, 10), seed, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    println!("{seeds} seeds: {given} addresses given");
    assert!(given > 30, "too little happened: {given} addresses given");
}

fn scene(pool: &'static str, block_size: u8, before: Vec<Vec<Action>>, actions: Vec<Vec<Action>>) -> Scene {
    Scene {
        pool,
        block_size,
        before,
        actions,
        ..Scene::default()
    }
}

fn leave(node: usize) -> Action {
    Action::LeaveBlocks {
        node: node_name(node),
    }
}

fn release_address(handle: &str) -> Action {
    Action::ReleaseAddresses {
        handle: handle.to_owned(),
    }
}

/// A scene and a scope in which it is noticed that a step is left out.
fn revealing(step: Step) -> (Scene, Scope) {
    let two = Action::Reconcile { target: 2 };
    let only = match step {
        Step::LookForLost | Step::NoticeReassigned | Step::FenceHandle => Some(Fault::Lose),
        Step::DeleteByUid => Some(Fault::Delay),
        Step::CountFirst => Some(Fault::Kill),
        Step::ProveUnknown | Step::ProveMissing => Some(Fault::Old),
        _ => None,
    };
    let (scene, faults, switches) = match step {
        // Both take from a block that both have read.
        Step::CompareBlock => (release_and_borrow_both(), 0, 1),
        // Both count under one handle.
        Step::CompareHandle => {
            let both = vec![vec![assign("net.x")], vec![assign("net.x")]];
            let before = vec![vec![assign("net.x")], vec![assign("net.1"), release("net.1")]];
            (scene("10.0.0.0/30", 31, before, both), 0, 2)
        }
        Step::CountFirst | Step::LookForLost => (
            scene("10.0.0.0/30", 30, vec![], vec![vec![assign("net.0")], vec![]]),
            1,
            0,
        ),
        // The address that was released is another's when the release is repeated.
        Step::NoticeReassigned => {
            let before = vec![vec![assign("net.0")]];
            let actions = vec![vec![release_address("net.0")], vec![assign("net.1")]];
            (scene("10.0.0.0/32", 32, before, actions), 1, 2)
        }
        // A count is corrected while somebody counts.
        Step::FenceHandle => {
            let before = vec![vec![assign("net.x")]];
            let actions = vec![vec![release_address("net.x")], vec![assign("net.x")]];
            (scene("10.0.0.0/30", 30, before, actions), 1, 2)
        }
        // A block is deleted that somebody has taken from since it was read.
        Step::MarkFirst => {
            let before = vec![vec![assign("net.0"), release("net.0")]];
            (
                scene(
                    "10.0.0.0/31",
                    31,
                    before,
                    vec![vec![leave(0)], vec![assign("net.1")]],
                ),
                0,
                2,
            )
        }
        // A deletion comes late, when another block has the name.
        Step::DeleteByUid => {
            let before = vec![vec![assign("net.0"), release("net.0")]];
            (
                scene(
                    "10.0.0.0/31",
                    31,
                    before,
                    vec![vec![leave(0)], vec![assign("net.1")]],
                ),
                1,
                1,
            )
        }
        Step::AnnounceRelease => {
            let before = vec![vec![assign("net.0"), release("net.0")]];
            (
                scene("10.0.0.0/31", 31, before, vec![vec![leave(0)], vec![]]),
                0,
                0,
            )
        }
        // While one process claims, an old answer tells another one that the block has no affinity.
        Step::ProveMissing => {
            let actions = vec![vec![assign("net.0")], vec![leave(0)]];
            (scene("10.0.0.0/31", 31, vec![], actions), 1, 3)
        }
        // One process of a node claims what another one gives up.
        Step::FenceClaim => {
            let before = vec![vec![assign("net.0"), release("net.0")]];
            (
                scene(
                    "10.0.0.0/31",
                    31,
                    before,
                    vec![vec![assign("net.1")], vec![leave(0)]],
                ),
                0,
                3,
            )
        }
        Step::JournalFirst => {
            let actions = vec![vec![take("net.0"), take("net.1")], vec![]];
            (scene("10.0.0.0/31", 31, vec![vec![RECONCILE]], actions), 0, 0)
        }
        Step::OwnHandle => {
            let actions = vec![
                vec![take("net.0"), Action::LoseJournal, RECONCILE, take("net.1")],
                vec![],
            ];
            (scene("10.0.0.0/31", 31, vec![vec![RECONCILE]], actions), 0, 0)
        }
        // An old answer says that an address is still set aside.
        Step::ProveUnknown => {
            let before = vec![vec![two.clone(), take("net.0"), two]];
            let three = Action::Reconcile { target: 3 };
            let actions = vec![three, take("net.1"), take("net.2"), take("net.3")];
            (scene("10.0.0.0/30", 31, before, vec![actions, vec![]]), 2, 0)
        }
    };
    let scope = Scope {
        faults,
        switches,
        only,
    };
    (scene, scope)
}

/// Two nodes take from one block.
fn release_and_borrow_both() -> Scene {
    let before = vec![vec![assign("net.0"), release("net.0")]];
    scene(
        "10.0.0.0/31",
        31,
        before,
        vec![vec![assign("net.1")], vec![assign("net.2")]],
    )
}

#[test]
fn every_step_is_needed() {
    let mut missed = Vec::new();
    for step in Step::ALL.iter().copied() {
        let (scene, scope) = revealing(step);
        match all(&scene, scope, Some(step)) {
            Err(wrong) => println!("without {step:?}: {}", wrong.lines().next().unwrap_or_default()),
            Ok(done) => missed.push((step, done)),
        }
        // With the step, the same runs are right.
        if factor() > 1 {
            explore(&format!("with {step:?}"), &scene, scope);
        }
    }
    assert_eq!(missed, [], "nobody noticed");
}
