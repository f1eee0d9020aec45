//! `uvs sched bench`: what a pick costs as the director makes it.
//!
//! A batch of picks lies between two readings of the clock, whose own cost is taken off; batches of the module and of
//! the native scheduler alternate, so that both see the same machine.

use core::hint::black_box;
use std::process::ExitCode;
use std::time::Instant as Clock;

use anyhow::{Result, bail};
use serde::Serialize;
use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Event, Flow, Load, Response, Scheduler};
use uvs_plugin::{MAX_DESTINATIONS, Plugin};

use crate::service::{Random, destination, flow};
use crate::subject::{self, Subject};
use crate::text::{Table, grouped};

/// A batch is to last about this long, so that the clock's steps do not matter.
const BATCH_NS: f64 = 20_000.0;
const BATCHES: usize = 1_000;
/// Batches at least, however slow the module is.
const BATCHES_MIN: usize = 20;
/// Time for one size.
const TIME_NS: f64 = 1.5e9;

/// `uvs sched bench`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Before each pick the load of one destination has changed, that of the last pick, as when connections come and go. One that
wants to hear of answers (the interface feedback) hears of one before each pick, and that is part of the cost.
The native scheduler is the twin of a shipped module, else rr; both run in turn in the same process.
Compare figures of one run only, and of a release build on a quiet machine.")]
pub struct Args {
    /// A component's file, or the name of a shipped scheduler
    #[arg(value_name = "FILE")]
    pub file: String,
    /// How many destinations, one or more numbers
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [3, 10, 100, 1000],
          value_parser = clap::value_parser!(u32).range(1..=MAX_DESTINATIONS as i64))]
    pub destinations: Vec<u32>,
    /// The options of the scheduler
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub options: String,
    #[command(flatten)]
    pub limits: subject::LimitArgs,
    /// Print JSON: a list with an object for each number of destinations
    #[arg(long)]
    pub json: bool,
}

/// What was measured with one number of destinations.
#[derive(Debug, Serialize)]
struct Row {
    destinations: u32,
    /// Median over batches.
    ns_per_pick_p50: f64,
    /// The native scheduler's median.
    native_ns: f64,
    /// Of a pick, median.
    fuel: u64,
    /// Over batches of `batch_picks`.
    ns_per_pick_p99: f64,
    native_ns_p99: f64,
    fuel_max: u64,
    fuel_budget: u64,
    native: &'static str,
    batches: usize,
    batch_picks: u32,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let host = subject::host(true, &args.limits)?;
    let (subject, module) = Subject::load(&args.file, &host)?;
    let clock_ns = clock_cost();
    let mut rows = Vec::new();
    for &count in &args.destinations {
        let mut plugin = subject::must_start(&module, &args.options, 1)?;
        let (name, mut twin) = subject::native_of(&subject, &args.options, 1)?;
        let mut row = measure(&mut plugin, &mut *twin, count, clock_ns)?;
        row.native = name;
        let policy = host.policy();
        row.fuel_budget = policy.fuel_schedule + policy.fuel_schedule_per_destination * u64::from(count);
        rows.push(row);
    }
    if args.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        let native = rows.first().map_or("", |row| row.native);
        println!("{}, {} bytes, beside native {native}; ns per pick\n", subject.name, grouped(subject.size));
        print!("{}", table(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(["destinations", "median", "p99", "native", "native p99", "fuel", "of the budget"]);
    for row in rows {
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = row.fuel_max as f64 / row.fuel_budget as f64 * 100.0;
        table.row([
            row.destinations.to_string(),
            format!("{:.0}", row.ns_per_pick_p50),
            format!("{:.0}", row.ns_per_pick_p99),
            format!("{:.1}", row.native_ns),
            format!("{:.1}", row.native_ns_p99),
            grouped(row.fuel),
            format!("{share:.2} %"),
        ]);
    }
    table
}

fn measure(plugin: &mut Plugin, twin: &mut dyn Scheduler, count: u32, clock_ns: f64) -> Result<Row> {
    // Different weights, as in the field, and in no order.
    let set: Vec<Candidate> = (0..count).map(|id| destination(id, 1 + id % 3)).collect();
    plugin.update(&set);
    twin.update(&set);
    let (mut ours, mut theirs) = (Traffic::new(), Traffic::new());
    let picks = calibrate(plugin, &mut ours, clock_ns);
    let twin_picks = calibrate(twin, &mut theirs, clock_ns);
    complain(plugin)?;

    let (mut module_ns, mut native_ns) = (Vec::new(), Vec::new());
    let started = Clock::now();
    while module_ns.len() < BATCHES {
        module_ns.push(batch(plugin, &mut ours, picks, clock_ns));
        native_ns.push(batch(twin, &mut theirs, twin_picks, clock_ns));
        if module_ns.len() >= BATCHES_MIN && nanos(started) > TIME_NS {
            break;
        }
    }
    let mut fuel = Vec::new();
    for _ in 0..501 {
        ours.pick(plugin);
        fuel.extend(plugin.fuel_used());
    }
    complain(plugin)?;
    fuel.sort_unstable();
    module_ns.sort_by(f64::total_cmp);
    native_ns.sort_by(f64::total_cmp);
    Ok(Row {
        destinations: count,
        ns_per_pick_p50: quantile(&module_ns, 50),
        native_ns: quantile(&native_ns, 50),
        fuel: fuel[fuel.len() / 2],
        ns_per_pick_p99: quantile(&module_ns, 99),
        native_ns_p99: quantile(&native_ns, 99),
        fuel_max: fuel[fuel.len() - 1],
        fuel_budget: 0,
        native: "",
        batches: module_ns.len(),
        batch_picks: picks,
    })
}

/// Of a sorted list, rounded to a tenth.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
    (sorted[at] * 10.0).round() / 10.0
}

/// A module that fails is not measured: its fallback would be.
fn complain(plugin: &Plugin) -> Result<()> {
    if plugin.stats().snapshot().failures_total() == 0 {
        return Ok(());
    }
    let failure = plugin.stats().last_failure();
    let said = failure.map(|failure| format!(" in {}, {}: {}", failure.call, failure.cause, failure.message));
    bail!(
        "{} fails{}\n  fix:   `uvs sched test {0}` shows the case",
        plugin.module().name(),
        said.unwrap_or_default()
    )
}

/// Connections, one after the other.
struct Traffic {
    flows: Vec<Flow>,
    random: Random,
    turn: usize,
    last: u32,
    now: Instant,
}

impl Traffic {
    fn new() -> Self {
        let flows = (0..1024u16).map(|n| flow(u32::from(n) * 7919 % 4096, 1024 + n)).collect();
        Self { flows, random: Random::new(1), turn: 0, last: 0, now: Instant::ZERO }
    }

    #[inline]
    fn pick(&mut self, scheduler: &mut dyn Scheduler) {
        self.turn += 1;
        self.now = self.now + uvs_director::Duration::from_micros(10);
        // Connections come and go at the same pace, so its load stays around a mean.
        let active = 16 + u32::from((self.random.next() >> 60).to_le_bytes()[0]);
        let load = Load { active, inactive: 0, unavailable: false };
        if scheduler.wants_feedback() {
            let elapsed = uvs_director::Duration::from_micros(500 + 16 * u64::from(active));
            let event = Event { position: self.last, response: Response::Answered, elapsed };
            scheduler.observe(&[event], self.now);
        }
        let pick = scheduler.schedule(&self.flows[self.turn % 1024], &[(self.last, load)], self.now);
        self.last = black_box(pick).unwrap_or(self.last);
    }
}

/// Nanoseconds a pick, over a batch.
fn batch(scheduler: &mut dyn Scheduler, traffic: &mut Traffic, picks: u32, clock_ns: f64) -> f64 {
    let started = Clock::now();
    for _ in 0..picks {
        traffic.pick(scheduler);
    }
    (nanos(started) - clock_ns).max(0.0) / f64::from(picks)
}

/// How many picks last [`BATCH_NS`]; warms up, too.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn calibrate(scheduler: &mut dyn Scheduler, traffic: &mut Traffic, clock_ns: f64) -> u32 {
    let mut picks = 8;
    for _ in 0..6 {
        let each = batch(scheduler, traffic, picks, clock_ns).max(0.5);
        picks = (BATCH_NS / each).clamp(8.0, 10_000.0) as u32;
    }
    picks
}

/// What two readings of the clock cost, the median.
fn clock_cost() -> f64 {
    let mut costs: Vec<f64> = (0..1001).map(|_| nanos(Clock::now())).collect();
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "times of seconds")]
fn nanos(since: Clock) -> f64 {
    since.elapsed().as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_list() {
        let list: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!([quantile(&list, 50), quantile(&list, 99), quantile(&[4.26], 99)], [50.0, 99.0, 4.3]);
    }
}
