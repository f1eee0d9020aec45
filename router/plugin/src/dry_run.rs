//! Trying a module on instances that are thrown away, before it may serve.

use std::sync::Arc;

use uvs_director::Instant;
use uvs_director::scheduler::Flow;
use uvs_director::spec::Protocol;

use crate::binding::Binding;
use crate::catalogue::Source;
use crate::dump::Role;
use crate::error::StartError;
use crate::history::Pick;
use crate::load::{By, Refusal, Step};
use crate::module::Module;
use crate::plugin::Handover;
use crate::slot::Slot;
use crate::stats::SchedulerStats;
use crate::translate::unword;

/// A module that is to come in.
pub(crate) struct Replacement {
    pub(crate) module: Module,
    pub(crate) options: Arc<str>,
    pub(crate) source: Source,
    /// To be tried when the state of the incumbent is of no use to it.
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) seed: u64,
    pub(crate) by: By,
}

/// An instance that is ready to serve, and whether it goes on from an earlier one's state.
pub(crate) fn prepare(
    binding: Binding,
    handover: &Handover,
    replacement: &Replacement,
) -> Result<(Slot, bool), Refusal> {
    let stats = Arc::<SchedulerStats>::default();
    let name = binding.module.name().to_owned();
    let failed = |step: Step| match stats.last_failure() {
        Some(failure) => Err(Refusal::new(
            step,
            format!("{name} fails in {} ({}): {}", failure.call, failure.cause, failure.message),
        )),
        None => Ok(()),
    };
    let mut slot = Slot::start(binding, replacement.seed, Arc::clone(&stats))
        .map_err(|error| start_refusal(&name, &error))?;
    if let Some(before) = &handover.before {
        slot.update(before, handover.now);
        failed(Step::Update)?;
    }
    slot.update(&handover.candidates, handover.now);
    failed(Step::Update)?;
    let states = [&handover.state, &replacement.state];
    let restored = states.into_iter().flatten().any(|state| {
        // After a crash nobody is there to be asked again.
        slot.is_live() && slot.restore(state, &handover.candidates, handover.now)
    });
    failed(Step::Restore)?;
    Ok((slot, restored))
}

fn start_refusal(name: &str, error: &StartError) -> Refusal {
    Refusal::new(Step::Start, format!("{name} {error}"))
}

/// Tries a replacement on instances that are thrown away: the latest picks, or some made up where there were none.
/// How many there were, and in how many the incumbent answers the same from the same start.
pub(crate) fn dry_run(
    binding: &Binding,
    handover: &Handover,
    replacement: &Replacement,
) -> Result<(u64, u64), Refusal> {
    let made_up;
    let picks = if handover.picks.is_empty() {
        // Without destinations there is nothing to pick.
        made_up = if handover.candidates.is_empty() { Vec::new() } else { imagined(handover.now) };
        &made_up
    } else {
        &handover.picks
    };
    let quiet = |binding: &Binding| Binding { role: Role::DryRun, dumps: None, ..binding.clone() };
    let (slot, _) = prepare(quiet(binding), handover, replacement)?;
    let answers = put_picks(slot, handover, picks).map_err(|reason| Refusal::new(Step::Replay, reason))?;
    let incumbent = prepare(quiet(&handover.binding), handover, replacement)
        .ok()
        .and_then(|(slot, _)| put_picks(slot, handover, picks).ok())
        .unwrap_or_default();
    let same = answers.iter().zip(&incumbent).filter(|(new, old)| new == old).count();
    Ok((answers.len() as u64, same as u64))
}

/// Puts picks to an instance; its answers, or how it failed.
fn put_picks(mut slot: Slot, handover: &Handover, picks: &[Pick]) -> Result<Vec<Option<u32>>, String> {
    let mut candidates = handover.candidates.clone();
    let mut answers = Vec::with_capacity(picks.len());
    for (number, pick) in (1..).zip(picks) {
        let changed: Vec<_> = pick.words.iter().map(|&word| unword(word)).collect();
        for &(position, load) in &changed {
            if let Some(candidate) = candidates.get_mut(position as usize) {
                candidate.load = load;
            }
        }
        slot.repeat(&pick.events, &candidates, pick.now);
        let Some(answer) = slot.ask(&pick.flow, &changed, &candidates, pick.now) else {
            let of = picks.len();
            let why = slot.stats.last_failure().map_or_else(
                || "it is not alive".to_owned(),
                |failure| format!("{}: {}", failure.cause, failure.message),
            );
            return Err(format!(
                "{} fails at pick {number} of the latest {of}: {why}",
                slot.binding.module.name()
            ));
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// Picks for a service that has had none: clients of the documentation's networks (RFC 5737).
fn imagined(now: Instant) -> Vec<Pick> {
    let pick = |n: u8| Pick {
        flow: Flow {
            protocol: Protocol::Tcp,
            client: [192, 0, 2, n].into(),
            client_port: 40_000 + u16::from(n),
            virtual_addr: [198, 51, 100, 1].into(),
            virtual_port: 80,
            mark: 0,
        },
        now,
        random: 0,
        events: Vec::new(),
        words: Vec::new(),
        answer: None,
    };
    (1..=8).map(pick).collect()
}
