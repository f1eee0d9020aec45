//! The rules.

use uvs_director::Duration;
use uvs_director::scheduler::{Load, Scheduler as _};
use uvs_plugin::StartError;

use super::trial::{Broken, Trial, any_flow, new_client};
use super::{Context, Good, Outcome};
use crate::service::{Random, destination, flow};
use crate::subject;
use crate::text::{grouped, size};

type Case = (&'static str, &'static str, fn(&Context<'_>) -> Outcome);

/// Name, rule, check.
pub(super) const CASES: [Case; 13] = [
    ("options", "init takes its options, and refuses others with a sentence or not at all", options),
    ("serves", "with every destination free, none is refused", serves),
    ("picks", "every pick is a destination of the set, whatever the loads, clients and set", picks),
    ("zero-weight", "a quiesced destination gets nothing", zero_weight),
    ("unavailable", "an overloaded destination gets nothing", unavailable),
    ("none", "where nothing is eligible it answers none, and goes on when something is", none),
    (
        "updates",
        "it lives through 0, 1 and 1000 destinations, additions, removals, edits and another order",
        updates,
    ),
    ("save-restore", "a successor that restores goes on as the predecessor would", save_restore),
    ("restore-any", "a state it cannot use does no harm", restore_any),
    ("determinism", "the same calls with the same random numbers give the same picks", determinism),
    ("time", "long pauses and none at all do no harm", time),
    ("fuel", "with 1000 destinations every call stays within its fuel", fuel),
    ("memory", "100 000 picks for new clients do not take more memory after 100 000 others", memory),
];

fn pass(detail: impl Into<String>) -> Outcome {
    Ok(Good::Pass(detail.into()))
}

fn note(detail: impl Into<String>) -> Outcome {
    Ok(Good::Note(detail.into()))
}

fn options(context: &Context<'_>) -> Outcome {
    let try_with = |options: &str| match subject::start(context.module, options, context.seed) {
        Ok(_) => Ok(None),
        Err(StartError::Refused { message, .. }) => Ok(Some(message)),
        Err(failed) => {
            let mut broken = Broken::new(format!("it {failed}"));
            let shown: String = options.chars().take(60).collect();
            broken.how.push(format!("options, {} bytes: {shown:?}", options.len()));
            Err(broken)
        }
    };
    if let Some(message) = try_with(context.options)? {
        let what = if context.options.is_empty() { "it wants options" } else { "it refuses these options" };
        return Err(Broken::new(format!("{what}: {message}; give good ones with --options")));
    }
    let long = "x".repeat(60_000);
    let strange = ["", "no-such-option", "a=1,b=,=,,;\u{0}\"", "größe=\u{1f980}", &long];
    let mut refusals = Vec::new();
    for options in strange {
        match try_with(options)? {
            Some(message) if message.trim().is_empty() => {
                return Err(Broken::new(format!("it refuses {options:?} without a word")));
            }
            Some(message) => refusals.push((options, message)),
            None => {}
        }
    }
    match refusals.iter().find(|(options, _)| *options == "no-such-option") {
        Some((options, message)) => {
            pass(format!("{options:?}: {}", message.chars().take(120).collect::<String>()))
        }
        None => note("it takes \"no-such-option\": a misspelt option will not be noticed"),
    }
}

fn serves(context: &Context<'_>) -> Outcome {
    let mut random = Random::new(context.seed);
    let mut picks = 0;
    for count in [1, 2, 3, 10, 100] {
        let mut trial = Trial::with(context, context.seed, count)?;
        for n in 0..200 {
            let flow = if n % 2 == 0 { flow(n, 1024) } else { any_flow(&mut random) };
            if trial.pick(&flow)?.is_none() {
                return Err(trial.broken("it refused a connection though every destination was free"));
            }
        }
        picks += trial.picks;
    }
    pass(format!("{} picks over 1, 2, 3, 10 and 100 idle destinations", grouped(picks)))
}

fn picks(context: &Context<'_>) -> Outcome {
    let (mut picks, mut refused) = (0, 0);
    for round in 0..10 {
        let mut random = Random::new(context.seed ^ round << 32);
        let mut trial = Trial::with(context, context.seed, random.below(8))?;
        for _ in 0..600 {
            trial.step(&mut random)?;
        }
        picks += trial.picks;
        refused += trial.refused;
    }
    if refused > 0 {
        let share = refused * 100 / picks;
        return note(format!(
            "{} picks are good; {} more ({share} %) were refused though some destination was eligible",
            grouped(picks - refused),
            grouped(refused)
        ));
    }
    pass(format!("{} picks", grouped(picks)))
}

/// Picks while all but some destinations may not be taken; `spoil` makes one so.
fn avoid(context: &Context<'_>, spoil: fn(&mut Trial, u32)) -> Result<(u64, u64), Broken> {
    const COUNT: u32 = 8;
    let (mut picks, mut refused) = (0, 0);
    for mask in 0u32..(1 << COUNT) - 1 {
        // Every third mask is enough to have each destination alone, in pairs, at both ends.
        if mask % 3 != 0 {
            continue;
        }
        let mut trial = Trial::with(context, context.seed, COUNT)?;
        for position in (0..COUNT).filter(|position| mask >> position & 1 == 1) {
            spoil(&mut trial, position);
        }
        for n in 0..24 {
            trial.pick(&flow(n * 37 + mask, 1024))?;
        }
        picks += trial.picks;
        refused += trial.refused;
    }
    Ok((picks, refused))
}

fn told(picks: u64, refused: u64) -> Outcome {
    if refused == 0 {
        pass(format!("{} picks in 85 sets, each went to an eligible one", grouped(picks)))
    } else {
        let share = refused * 100 / picks;
        note(format!(
            "none got any; it refuses {share} % of connections rather than take another destination"
        ))
    }
}

fn zero_weight(context: &Context<'_>) -> Outcome {
    let (picks, refused) = avoid(context, |trial, position| {
        trial.set[position as usize].weight = 0;
        // A failure shows in the first pick, with the whole case.
        let _ = trial.update();
    })?;
    told(picks, refused)
}

fn unavailable(context: &Context<'_>) -> Outcome {
    let (picks, refused) = avoid(context, |trial, position| {
        trial.load(position, Load { active: 5, inactive: 0, unavailable: true });
    })?;
    told(picks, refused)
}

fn none(context: &Context<'_>) -> Outcome {
    let mut trial = Trial::new(context, context.seed)?;
    let expect_none = |trial: &mut Trial, what: &str| match trial.pick(&flow(1, 1024))? {
        None => Ok(()),
        Some(position) => Err(trial.broken(&format!("{what}, and it picked position {position}"))),
    };
    expect_none(&mut trial, "no update has come yet")?;
    trial.update()?;
    expect_none(&mut trial, "there is no destination")?;
    trial.set = (0..3).map(|id| destination(id, 0)).collect();
    trial.update()?;
    expect_none(&mut trial, "all are quiesced")?;
    trial.set.iter_mut().for_each(|candidate| candidate.weight = 2);
    trial.update()?;
    for position in 0..3 {
        trial.load(position, Load { active: 1, inactive: 0, unavailable: true });
    }
    expect_none(&mut trial, "all are overloaded")?;
    for position in 0..3 {
        trial.load(position, Load::default());
    }
    if trial.pick(&flow(1, 1024))?.is_none() {
        return Err(trial.broken("all are free again, and it still refuses"));
    }
    pass("before the first update, with an empty set, all quiesced, all overloaded")
}

fn updates(context: &Context<'_>) -> Outcome {
    let mut random = Random::new(context.seed);
    let mut trial = Trial::new(context, context.seed)?;
    let mut sizes = 0;
    for count in [0, 1, 2, 1000, 3, 0, 1000, 1, 999, 10, 0] {
        trial.set = (0..count).map(|id| destination(id, 1 + id % 5)).collect();
        trial.update()?;
        sizes += 1;
        for _ in 0..10 {
            trial.busy_pick(&mut random)?;
        }
        // Nothing changed, backwards, all new: each with picks between.
        trial.update()?;
        trial.busy_pick(&mut random)?;
        trial.set.reverse();
        trial.update()?;
        trial.busy_pick(&mut random)?;
        trial.set = (0..count).map(|id| destination(5000 + id, 1)).collect();
        trial.update()?;
        trial.busy_pick(&mut random)?;
    }
    for _ in 0..1500 {
        trial.step(&mut random)?;
    }
    pass(format!("{sizes} sizes of set, then 1500 random steps; {} picks", grouped(trial.picks)))
}

fn save_restore(context: &Context<'_>) -> Outcome {
    let mut largest = 0;
    for round in 0..8 {
        let mut random = Random::new(context.seed ^ round << 40);
        let mut first = Trial::with(context, context.seed, 2 + random.below(7))?;
        for _ in 0..150 {
            first.step(&mut random)?;
        }
        // Several changes of the set in a row, with nothing asked between them: the state is of the last set.
        for _ in 0..random.below(6) {
            let kind = random.below(4);
            first.change(kind, &mut random)?;
        }
        largest = largest.max(first.save()?.len());
        let (mut second, used) = first.successor(context)?;
        for after in 1..=150 {
            let mut same = random.clone();
            let (want, got) = (first.step(&mut random)?, second.step(&mut same)?);
            if want != got {
                let said = if used { "restore said true" } else { "restore said it could not use the state" };
                let [want, got] = [want, got].map(|pick| match pick.flatten() {
                    Some(position) => format!("position {position}"),
                    None => "none".to_owned(),
                });
                return Err(second.broken(&format!(
                    "{after} steps after the hand-over the predecessor picks {want} and the successor {got}; {said}"
                )));
            }
        }
    }
    pass(format!(
        "8 hand-overs with 150 steps before and after, and up to 5 changes of the set between; the largest state has {} bytes",
        grouped(largest as u64)
    ))
}

fn restore_any(context: &Context<'_>) -> Outcome {
    let mut random = Random::new(context.seed);
    let mut first = Trial::with(context, context.seed, 20)?;
    for _ in 0..100 {
        first.busy_pick(&mut random)?;
    }
    let state = first.save()?;
    let mut states = vec![
        Vec::new(),
        vec![0],
        vec![0xff; 64],
        vec![0; 100_000],
        state[..state.len() / 2].to_vec(),
        state[..state.len().saturating_sub(1)].to_vec(),
        [&state[..], &[7]].concat(),
        state.clone(),
    ];
    for _ in 0..24.min(state.len()) {
        let mut flipped = state.clone();
        let at = random.below(u32::try_from(state.len()).unwrap_or(u32::MAX)) as usize;
        flipped[at] ^= 1 << random.below(8);
        states.push(flipped);
    }
    for state in &states {
        // Fewer destinations than the state may speak of.
        let mut trial = Trial::with(context, context.seed, 3)?;
        trial.restore(state)?;
        for n in 0..20 {
            trial.pick(&flow(n, 1024))?;
        }
    }
    pass(format!("{} states: empty, cut, flipped, foreign, of another set", states.len()))
}

fn determinism(context: &Context<'_>) -> Outcome {
    determinism_of(context, context.seed, context.seed)
}

/// Two runs with random numbers that start at these seeds. They are the same, so a difference is a fault of the module
/// or of uvs.
fn determinism_of(context: &Context<'_>, one: u64, another: u64) -> Outcome {
    type Picks = Vec<Option<Option<u32>>>;
    let run = |seed: u64| -> Result<(Picks, Trial), Broken> {
        let mut random = Random::new(context.seed);
        let mut trial = Trial::with(context, seed, 6)?;
        let picks = (0..1000).map(|_| trial.step(&mut random)).collect::<Result<_, _>>()?;
        Ok((picks, trial))
    };
    let (first, _) = run(one)?;
    let (second, trial) = run(another)?;
    if let Some(at) = (0..first.len()).find(|&at| first[at] != second[at]) {
        return Err(
            trial.broken(&format!("step {at} of two equal runs: {:?} and {:?}", first[at], second[at]))
        );
    }
    let (other, _) = run(context.seed.wrapping_add(1))?;
    pass(if other == first { "1000 steps; it draws no random numbers that matter" } else { "1000 steps" })
}

fn time(context: &Context<'_>) -> Outcome {
    let mut random = Random::new(context.seed);
    let mut trial = Trial::with(context, context.seed, 5)?;
    for day in [0, 0, 1, 40, 0, 4000] {
        trial.now = trial.now + Duration::from_secs(day * 86_400);
        for n in 0..50 {
            if trial.pick(&new_client(n + random.below(5)))?.is_none() {
                return Err(trial.broken("it refused a connection though every destination was free"));
            }
        }
    }
    pass("pauses of 0, 1, 40 and 4000 days")
}

fn fuel(context: &Context<'_>) -> Outcome {
    const COUNT: u32 = 1000;
    let policy = *context.module.host().policy();
    let budget = |base: u64, each: u64| base + each * u64::from(COUNT);
    let for_pick = budget(policy.fuel_schedule, policy.fuel_schedule_per_destination);
    let for_update = budget(policy.fuel_setup, policy.fuel_setup_per_destination);

    let mut random = Random::new(context.seed);
    let mut trial = Trial::with(context, context.seed, COUNT)?;
    let update = trial.plugin.fuel_used().unwrap_or_default();
    let (mut dearest, mut heard) = (0, 0);
    for n in 0..600 {
        let words = match n % 6 {
            0 => COUNT,
            1 => 10,
            2 => 0,
            _ => 1,
        };
        for _ in 0..words {
            let position = if words == COUNT { random.below(COUNT) } else { random.below(COUNT / 2) };
            trial.load(
                position,
                Load { active: random.below(50), inactive: random.below(50), unavailable: n % 100 == 99 },
            );
        }
        if trial.plugin.wants_feedback() {
            // As many as a director keeps.
            trial.hear(&mut random, if n % 100 == 0 { 1024 } else { 3 })?;
            heard = heard.max(trial.plugin.fuel_used().unwrap_or_default());
        }
        trial.pick(&any_flow(&mut random))?;
        dearest = dearest.max(trial.plugin.fuel_used().unwrap_or_default());
    }
    trial.save()?;
    let save = trial.plugin.fuel_used().unwrap_or_default();
    let hearing =
        if heard > 0 { format!("{} to hear of 1024 events, ", grouped(heard)) } else { String::new() };
    let told = format!(
        "{hearing}at most {} of {} a pick, {} of {} an update, {} to save",
        grouped(dearest),
        grouped(for_pick),
        grouped(update),
        grouped(for_update),
        grouped(save)
    );
    if dearest.max(heard) > for_pick / 3 || update > for_update / 3 {
        return note(format!("{told}: more than a third, which leaves little for bad days"));
    }
    pass(told)
}

fn memory(context: &Context<'_>) -> Outcome {
    const PICKS: u32 = 100_000;
    let mut random = Random::new(context.seed);
    let mut trial = Trial::with(context, context.seed, 8)?;
    let mut run = |trial: &mut Trial, from: u32| -> Result<usize, Broken> {
        for n in from..from + PICKS {
            trial.now = trial.now + Duration::from_millis(1);
            trial.load(n % 8, Load { active: random.below(50), inactive: 0, unavailable: false });
            trial.pick(&new_client(n))?;
        }
        Ok(trial.plugin.memory_bytes().unwrap_or_default())
    };
    let before = run(&mut trial, 0)?;
    let after = run(&mut trial, PICKS)?;
    let allowed = context.module.host().policy().memory_bytes;
    let limit = size(allowed as u64);
    let [held, then] = [before, after].map(|bytes| size(bytes as u64));
    if after > before {
        return Err(trial.broken(&format!(
            "it held {held} after {PICKS} picks and {then} after as many more: it will reach its limit of {limit}"
        )));
    }
    if after > allowed / 4 * 3 {
        // One that has come to its limit grows no more, and fails soon.
        return Err(trial.broken(&format!("it holds {then}, and the limit is {limit}")));
    }
    pass(format!("it holds {then} of {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module can have nothing of chance but the host's numbers, so no module of the same seed differs. With other
    /// numbers one that draws does: that is what the case would say if uvs broke its word.
    #[test]
    fn runs_that_differ_are_told_as_such() {
        let host = subject::host(true, &subject::LimitArgs::default()).unwrap();
        let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "twos").unwrap();
        let module = host.compile("twos", bytes).unwrap();
        let context = Context { module: &module, options: "", seed: 1 };
        assert!(determinism(&context).is_ok());
        let Err(broken) = determinism_of(&context, 1, 2) else { panic!("the runs were the same") };
        assert!(broken.what.contains("of two equal runs"), "{}", broken.what);
    }
}
