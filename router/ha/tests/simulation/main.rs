//! Nodes on a link that loses, copies, delays and reorders, that works in one direction only or not at all; nodes that
//! stand still, die, are restarted and reloaded, whose clocks are set, and of whom people ask things. All in virtual
//! time, and all by one seed.
//!
//! What holds is in `check.rs`. `UVS_HA_SEED=7 cargo nextest run -p uvs-ha --test simulation --no-capture seeds` runs
//! one seed and tells what happened; `UVS_HA_SEEDS` is how many there are.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod check;
mod faults;
mod node;
mod random;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use node::Summary;
use world::{Plant, World};

/// Seeds, fewer of them where the code is not optimised.
const SEEDS: u64 = if cfg!(debug_assertions) { 1500 } else { 100_000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs seeds on all cores; the sums, or the first seed that violates something, by its number.
fn explore(seeds: u64, plant: Plant) -> Result<Summary, (u64, String)> {
    let next = AtomicU64::new(1);
    let failed = AtomicU64::new(u64::MAX);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let work = || {
        let mut sum = Summary::default();
        let mut failure = None;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds || seed > failed.load(Ordering::Relaxed) {
                return (sum, failure);
            }
            match World::new(seed, plant, false).run() {
                Ok(of_seed) => sum.add(&of_seed),
                Err(violation) => {
                    failed.fetch_min(seed, Ordering::Relaxed);
                    failure = Some((seed, violation));
                    return (sum, failure);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut sum = Summary::default();
        done.iter().for_each(|(of_thread, _)| sum.add(of_thread));
        match done.into_iter().filter_map(|(_, failure)| failure).min() {
            Some(failure) => Err(failure),
            None => Ok(sum),
        }
    })
}

#[test]
fn seeds_violate_nothing() {
    if let Some(seed) = number("UVS_HA_SEED") {
        match World::new(seed, Plant::None, true).run() {
            Ok(summary) => println!("{summary}"),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
        return;
    }
    let seeds = number("UVS_HA_SEEDS").unwrap_or(SEEDS);
    match explore(seeds, Plant::None) {
        Ok(summary) => {
            println!("{seeds} seeds: {summary}");
            assert!(summary.takeovers > seeds && summary.overlaps > seeds / 10, "there was something to see");
            assert!(summary.late_wakes > seeds / 10 && summary.lost > seeds, "there was something to see");
        }
        Err((seed, violation)) => panic!("UVS_HA_SEED={seed}: {violation}"),
    }
}

/// What must be found, and in how many seeds.
fn finds(plant: Plant, what: &str) {
    match explore(2000, plant) {
        Ok(summary) => panic!("nothing was found: {summary}"),
        Err((seed, violation)) => {
            println!("{plant:?}: seed {seed}: {violation}");
            assert!(violation.contains(what), "seed {seed}: another one was found: {violation}");
        }
    }
}

#[test]
fn it_finds_a_node_that_does_not_notice_that_it_slept() {
    finds(Plant::FrozenClock, "has addresses straight after a pause");
}

#[test]
fn it_finds_nodes_that_drop_other_address_lists() {
    finds(Plant::AddressCheck, "two owners");
}

#[test]
fn it_finds_nodes_that_drop_other_intervals() {
    finds(Plant::IntervalCheck, "two owners");
}

#[test]
fn it_finds_a_node_that_never_takes_over() {
    finds(Plant::Sleepy, "no owner");
}

#[test]
fn a_seed_is_the_same_run_again() {
    for seed in 1..50 {
        let run = || World::new(seed, Plant::None, false).run().unwrap().to_string();
        assert_eq!(run(), run(), "seed {seed}");
    }
}
