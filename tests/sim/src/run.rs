//! Runs: of a seed, and of a script.

use crate::event::Script;
use crate::generate::Generator;
use crate::world::{Kind, Outcome, Violation, World};

/// A script that violates something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What led there.
    pub script: Script,
    /// What was violated by its last event.
    pub violation: Violation,
}

/// What a seed came to.
pub struct Explored {
    /// Steps that were taken.
    pub steps: usize,
    /// Packets, picks, flows that were placed, packets that the flow cache took.
    pub counts: [u64; 4],
    /// Violations that were tolerated.
    pub tolerated: Vec<(Kind, u64)>,
    /// What ended it, if anything did.
    pub failure: Option<Failure>,
}

/// Takes so many steps from a seed, until something is violated that is not tolerated. `each` sees the number of each
/// step before it is taken.
pub fn explore(
    seed: u64,
    steps: usize,
    (workers, cache): (u32, bool),
    tolerated: &[Kind],
    mut each: impl FnMut(usize),
) -> Explored {
    let mut generator = Generator::new(seed, workers, cache);
    let mut script = Script { setup: generator.setup(), events: Vec::with_capacity(steps) };
    let mut world = World::new(script.setup);
    world.tolerate(tolerated);
    let mut violation = None;
    while script.events.len() < steps && violation.is_none() {
        each(script.events.len());
        let event = generator.next(&world);
        script.events.push(event);
        violation = world.step(&event).err();
    }
    Explored {
        steps: script.events.len(),
        counts: world.counts(),
        tolerated: world.tolerated().to_vec(),
        failure: violation.map(|violation| Failure { script, violation }),
    }
}

/// Runs a script, to its end or to the first violation. The world as it is then, the number of events that happened,
/// and the violation.
pub fn replay(script: &Script, tolerated: &[Kind], capture: bool) -> (World, usize, Outcome) {
    let mut world = World::new(script.setup);
    world.tolerate(tolerated);
    if capture {
        world.capture();
    }
    for (number, event) in (1..).zip(&script.events) {
        if let Err(violation) = world.step(event) {
            return (world, number, Err(violation));
        }
    }
    (world, script.events.len(), Ok(()))
}

/// Makes the script of a failure shorter, as long as it violates the same: see `shrink.rs`.
pub use crate::shrink::shrink;
