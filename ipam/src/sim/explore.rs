//! Going through all runs of a scene, or through many by chance.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::LeftOut;
use super::world::{Choice, Fault, Scene, World};
use crate::step::Step;

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Faults in one run: lost, late and old answers, and deaths.
    pub(super) faults: usize,
    /// How often the scheduler may leave a program that could go on.
    pub(super) switches: usize,
    /// Only faults of this kind.
    pub(super) only: Option<Fault>,
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Explored {
    /// Different states: of the store, and of all that programs know.
    pub(super) states: usize,
    /// Different orders of requests and faults that lead through them.
    pub(super) interleavings: u128,
    /// Ends that were reached and collected.
    pub(super) ends: usize,
}

/// A choice, and what is left of faults and switches after it.
#[derive(Clone, Copy, Debug)]
struct Move {
    choice: Choice,
    left: Scope,
}

/// What names a place in the search.
type Place = (u64, usize, usize, Option<usize>);

struct Search<'a> {
    scene: &'a Scene,
    /// The places that follow each place.
    after: HashMap<Place, Vec<Place>>,
    open: Vec<Vec<Move>>,
    done: Explored,
}

/// Goes through all runs of a scene within a scope, with a step taken out or none.
///
/// A state that was reached before is not gone through again: what follows from it is known. Interleavings are counted
/// as the paths through the states, so that the number is that of all runs.
pub(super) fn all(scene: &Scene, scope: Scope, step: Option<Step>) -> Result<Explored, String> {
    let runtime = runtime();
    let _left_out = LeftOut::step(step);
    let mut search = Search {
        scene,
        after: HashMap::new(),
        open: vec![Vec::new()],
        done: Explored::default(),
    };
    let mut first = None;
    while let Some(path) = search.open.pop() {
        let start = runtime.block_on(search.run(path, scope))?;
        first.get_or_insert(start);
    }
    search.done.states = search.after.len();
    if let Some(first) = first {
        search.done.interleavings = paths(&search.after, first);
    }
    Ok(search.done)
}

impl Search<'_> {
    /// Repeats a path, and goes on by first choices to a place that is known or an end. Returns where it began.
    async fn run(&mut self, mut path: Vec<Move>, scope: Scope) -> Result<Place, String> {
        let mut world = World::new(self.scene).await;
        let start = place(&world, scope, None);
        let mut at = start;
        let mut known = path.len();
        for index in 0usize.. {
            let mut left = scope;
            let mut last = None;
            if let Some(before) = index.checked_sub(1).and_then(|index| path.get(index)) {
                (left, last) = (before.left, running(before.choice));
            }
            if index >= known {
                if self.after.contains_key(&at) {
                    return Ok(start);
                }
                let moves = moves(&world, left, last);
                self.after.insert(at, Vec::new());
                let Some((first, others)) = moves.split_first() else {
                    self.done.ends += 1;
                    let trace = world.trace.clone();
                    world.end().await.map_err(|wrong| told(&trace, &wrong))?;
                    return Ok(start);
                };
                for other in others {
                    let mut branch = path.clone();
                    branch.push(*other);
                    self.open.push(branch);
                }
                path.push(*first);
                known = path.len();
            }
            let step = path[index];
            let is_new = index + 1 == path.len();
            let wrong = world.step(step.choice, is_new).await;
            wrong.map_err(|wrong| told(&world.trace, &wrong))?;
            // Up to the place where the last branch begins, everything is known.
            if index + 2 < path.len() {
                continue;
            }
            let next = place(&world, step.left, running(step.choice));
            let after = self.after.entry(at).or_default();
            // The last move of a path is a new arrow; those before it were drawn when they were made.
            if is_new {
                after.push(next);
            }
            at = next;
        }
        Ok(start)
    }
}

fn place(world: &World, left: Scope, last: Option<usize>) -> Place {
    (world.hash(), left.faults, left.switches, last)
}

const fn running(choice: Choice) -> Option<usize> {
    match choice {
        Choice::Run(program)
        | Choice::RunOld(program)
        | Choice::Lose(program)
        | Choice::Drop(program)
        | Choice::Delay(program)
        | Choice::Kill(program) => Some(program),
        Choice::Late(_) => None,
    }
}

/// What can be chosen within what is left. Leaving a program that could go on costs a switch.
fn moves(world: &World, left: Scope, last: Option<usize>) -> Vec<Move> {
    let choices = world.choices(left.faults > 0);
    let goes_on = last.is_some_and(|last| choices.contains(&Choice::Run(last)));
    choices
        .into_iter()
        .filter_map(|choice| {
            let mut left = left;
            if goes_on && running(choice) != last {
                left.switches = left.switches.checked_sub(1)?;
            }
            if let Some(fault) = choice.fault() {
                if left.only.is_some_and(|only| only != fault) {
                    return None;
                }
                left.faults = left.faults.checked_sub(1)?;
            }
            Some(Move { choice, left })
        })
        .collect()
}

fn paths(after: &HashMap<Place, Vec<Place>>, first: Place) -> u128 {
    let mut counted: HashMap<Place, u128> = HashMap::new();
    let mut stack = vec![(first, false)];
    while let Some((at, expanded)) = stack.pop() {
        if counted.contains_key(&at) {
            continue;
        }
        let next = after.get(&at).map(Vec::as_slice).unwrap_or_default();
        if expanded || next.is_empty() {
            let sum: u128 = next
                .iter()
                .map(|next| counted.get(next).copied().unwrap_or(1))
                .sum();
            counted.insert(at, sum.max(1));
        } else {
            stack.push((at, true));
            stack.extend(next.iter().map(|next| (*next, false)));
        }
    }
    counted.get(&first).copied().unwrap_or_default()
}

/// One run by chance. The seed decides everything. Returns how many addresses were given.
pub(super) fn by_chance(scene: &Scene, seed: u64, step: Option<Step>) -> Result<usize, String> {
    let runtime = runtime();
    let _left_out = LeftOut::step(step);
    let mut random = SmallRng::seed_from_u64(seed);
    runtime.block_on(async {
        let mut world = World::new(scene).await;
        loop {
            let faults = random.random_range(0..100) < 15;
            let choices = world.choices(faults);
            if choices.is_empty() {
                break;
            }
            let choice = choices[random.random_range(0..choices.len())];
            let wrong = world.step(choice, true).await;
            wrong.map_err(|wrong| format!("seed {seed}: {}", told(&world.trace, &wrong)))?;
        }
        let trace = world.trace.clone();
        let ended = world.end().await;
        ended.map_err(|wrong| format!("seed {seed}: {}", told(&trace, &wrong)))
    })
}

fn told(trace: &[String], wrong: &str) -> String {
    let tail = trace.len().saturating_sub(120);
    format!("{wrong}\nafter:\n{}", trace[tail..].join("\n"))
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
