//! The fuzz targets of `fuzz/` on the stable compiler: their corpus as it is, and a stated number of mutations of it
//! from a seed. `CARACAL_FUZZ_RUNS` sets the number, `CARACAL_FUZZ_SEED` the seed; a failure prints its input.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests"
)]

mod messages;
mod sessions;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Octets of an input at most: one message of the extended length, and one after it.
const INPUT_LEN_MAX: usize = 2 * 65_535;
/// Memory that a run may come to need at most, beside what the corpus takes.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// The inputs in the repository, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, std::fs::read(path).ok()?))
        })
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{folder} has {} files", files.len());
    files
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().unwrap_or(default)
}

/// One change of an input, as fuzzers make them.
fn mutate(input: &mut Vec<u8>, others: &[(String, Vec<u8>)], rng: &mut SmallRng) {
    let at = |rng: &mut SmallRng, length: usize| rng.random_range(0..length.max(1));
    let position = at(rng, input.len());
    match rng.random_range(0..8) {
        0 if !input.is_empty() => input[position] ^= 1 << rng.random_range(0..8),
        1 if !input.is_empty() => input[position] = rng.random(),
        2 if !input.is_empty() => {
            const TELLING: [u8; 8] = [0, 1, 2, 4, 32, 33, 0x7f, 0xff];
            input[position] = TELLING.choose(rng).copied().unwrap_or(0);
        }
        3 => input.insert(position.min(input.len()), rng.random()),
        4 if !input.is_empty() => drop(input.remove(position)),
        5 => input.truncate(position),
        6 => {
            let end = (position + at(rng, 64)).min(input.len());
            let part = input.get(position..end).unwrap_or_default().to_vec();
            let to = at(rng, input.len());
            input.splice(to.min(input.len())..to.min(input.len()), part);
        }
        _ => {
            let other = others.choose(rng).map_or(&[][..], |(_, other)| other);
            let from = at(rng, other.len());
            input.truncate(position);
            input.extend(other.get(from..).unwrap_or_default());
        }
    }
    input.truncate(INPUT_LEN_MAX);
}

fn try_input(target: fn(&[u8]), what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|octet| format!("{octet:02x}")).collect();
        panic!("{what} fails; put it into the corpus as a file of these octets: {hex}");
    }
}

/// The largest amount of memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn run(name: &str, target: fn(&[u8]), default_runs: u64) {
    let corpus = corpus(name);
    for (file, input) in &corpus {
        try_input(target, &format!("{name}/{file}"), input);
    }
    let before = peak_kib();
    let seed = number("CARACAL_FUZZ_SEED", 1);
    let runs = number("CARACAL_FUZZ_RUNS", default_runs);
    let mut rng = SmallRng::seed_from_u64(seed);
    for run in 0..runs {
        let mut input = corpus
            .choose(&mut rng)
            .map_or(Vec::new(), |(_, input)| input.clone());
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut input, &corpus, &mut rng);
        }
        try_input(target, &format!("{name}, seed {seed}, run {run}"), &input);
    }
    let growth = peak_kib().saturating_sub(before);
    assert!(
        growth < GROWTH_KIB_MAX,
        "{growth} KiB for inputs of {INPUT_LEN_MAX} octets"
    );
}

#[test]
fn any_message_is_read_or_refused() {
    run("messages", messages::run, 60_000);
}

#[test]
fn no_session_takes_anything_from_another() {
    run("sessions", sessions::run, 1_500);
}
