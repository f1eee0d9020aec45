//! A million steps: every mode, and as many seeds as it takes. Built without optimisation, which checks for overflow, a
//! fiftieth of them.

use std::fmt::Write as _;

use uvs_sim::known::Known;
use uvs_sim::run::{Explored, Failure, explore, shrink};
use uvs_sim::world::Kind;

/// Steps of all seeds together.
const STEPS: usize = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
/// Steps of one seed.
const EACH: usize = 10_000;
/// Workers, and whether there is a flow cache.
const MODES: [(u32, bool); 4] = [(1, false), (2, true), (1, true), (3, true)];

/// Explores every second seed from `first` on; what it says of each.
fn explored(first: usize, known: &[Kind]) -> Vec<(u64, (u32, bool), Explored)> {
    let seeds = (first..STEPS.div_ceil(EACH)).step_by(2);
    let explore = |number: usize| {
        let (seed, mode) = (number as u64 + 1, MODES[number % MODES.len()]);
        (seed, mode, explore(seed, EACH, mode, known, |_| {}))
    };
    seeds.map(explore).collect()
}

fn told(seed: u64, (workers, cache): (u32, bool), failure: &Failure, known: &[Kind]) -> String {
    let short = shrink(failure, known);
    let cache = if cache { " --cache" } else { "" };
    let step = failure.script.events.len();
    format!(
        "sim --seed {seed} --steps {EACH} --workers {workers}{cache}: step {step}: {}\nmade shorter: {}\n{}",
        failure.violation, short.violation, short.script
    )
}

#[test]
fn a_million_steps_violate_nothing() {
    let known = Known::load().expect("KNOWN.txt can be read");
    let kinds: Vec<Kind> = known.kinds.keys().copied().collect();
    // A panic of the director is a violation, and is told as such.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut seeds = std::thread::scope(|scope| {
        let other = scope.spawn(|| explored(1, &kinds));
        let mut seeds = explored(0, &kinds);
        seeds.extend(other.join().expect("it does not panic"));
        seeds
    });
    seeds.sort_by_key(|(seed, ..)| *seed);
    let failed = seeds.iter().find_map(|(seed, mode, it)| Some((*seed, *mode, it.failure.as_ref()?)));
    let failed = failed.map(|(seed, mode, failure)| told(seed, mode, failure, &kinds));
    std::panic::set_hook(hook);
    let steps: usize = seeds.iter().map(|(.., it)| it.steps).sum();
    let mut sums = [0u64; 4];
    for (.., it) in &seeds {
        sums.iter_mut().zip(it.counts).for_each(|(sum, count)| *sum += count);
    }
    let [packets, picks, placed, passed] = sums;
    let mut text = format!(
        "{steps} steps of seeds 1 to {}: {packets} packets, {picks} picks, {placed} flows placed, {passed} packets \
         passed in the cache",
        seeds.len()
    );
    let mut unseen = Vec::new();
    for kind in &kinds {
        let of_kind = |(of, times): &(Kind, u64)| if of == kind { *times } else { 0 };
        let times: u64 = seeds.iter().flat_map(|(.., it)| &it.tolerated).map(of_kind).sum();
        write!(text, "; {kind}, which is known: {times}").expect("a string takes it");
        if times == 0 {
            unseen.push(kind.to_string());
        }
    }
    println!("{text}");
    if let Some(failed) = failed {
        panic!("{failed}");
    }
    assert_eq!(steps, STEPS, "all steps were taken");
    assert!(packets > steps as u64 / 5 && picks > steps as u64 / 200, "there was something to see: {text}");
    assert!(placed > 0 && passed > 0, "there was something to see: {text}");
    // Of fewer steps nobody would expect it.
    if !cfg!(debug_assertions) {
        assert!(
            placed > steps as u64 / 500 && passed > steps as u64 / 50,
            "there was something to see: {text}"
        );
        assert!(unseen.is_empty(), "not seen any more, take it out of KNOWN.txt: {}", unseen.join(", "));
    }
}
