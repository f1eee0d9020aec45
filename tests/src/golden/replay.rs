//! Step by step through a scenario.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use uvs_director::Instant;
use uvs_director::scheduler::SchedulerFactory;

use super::compare::{self, Difference};
use super::decode::summary;
use super::lab::{Lab, unhex};
use super::matrix;
use super::scenario::{Action, Scenario, Step};
use super::shell::Shell;
use super::wires::Wires;

/// How a scenario went.
#[derive(Debug)]
pub enum Outcome {
    /// The director answered as recorded.
    Pass,
    /// It did not.
    Fail(Failure),
    /// It needs what is not built; the reason.
    Unsupported(String),
}

/// The first difference.
#[derive(Debug)]
pub struct Failure {
    /// Index of the step.
    pub step: usize,
    /// What the step is, in a few words.
    pub what: String,
    /// The difference in a line.
    pub difference: String,
    /// The same at length, side by side.
    pub details: String,
}

/// Replays a scenario against a fresh director whose schedulers `schedulers` makes.
///
/// A panic of the director is a failure like another.
pub fn replay(scenario: &Scenario, schedulers: Arc<dyn SchedulerFactory>) -> Outcome {
    judge(scenario, schedulers, None)
}

/// The same where frames pass wires on their way.
pub fn replay_over(
    scenario: &Scenario,
    schedulers: Arc<dyn SchedulerFactory>,
    wires: Box<dyn Wires>,
) -> Outcome {
    judge(scenario, schedulers, Some(wires))
}

fn judge(
    scenario: &Scenario,
    schedulers: Arc<dyn SchedulerFactory>,
    wires: Option<Box<dyn Wires>>,
) -> Outcome {
    let mut at = 0;
    let run = panic::catch_unwind(AssertUnwindSafe(|| steps(scenario, schedulers, wires, &mut at)));
    let what = || scenario.steps.get(at).map_or_else(String::new, describe);
    match run {
        Ok(Ok(())) => Outcome::Pass,
        Ok(Err(Stop::Unsupported(reason))) => Outcome::Unsupported(reason),
        Ok(Err(Stop::Different(difference))) => Outcome::Fail(Failure {
            step: at,
            what: what(),
            difference: difference.line,
            details: difference.details,
        }),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("without a message");
            Outcome::Fail(Failure {
                step: at,
                what: what(),
                difference: format!("the director panicked: {}", message.replace('\n', " ")),
                details: String::new(),
            })
        }
    }
}

enum Stop {
    Different(Difference),
    Unsupported(String),
}

impl From<Difference> for Stop {
    fn from(difference: Difference) -> Self {
        Self::Different(difference)
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Different(Difference::new(format!("{error:#}")))
    }
}

/// A few words about a step.
fn describe(step: &Step) -> String {
    match &step.action {
        Action::Command { cmd, .. } => cmd.trim().to_owned(),
        Action::Sysctl { name, value } => format!("sysctl {name}={value}"),
        Action::Sleep { .. } => "sleep".to_owned(),
        Action::Packet { input, .. } => format!("packet {}", input.note),
        Action::Tables { label, .. } => format!("tables {label}"),
        Action::Matrix { .. } => "matrix".to_owned(),
        Action::Snapshot(_) => "snapshot".to_owned(),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "recordings last minutes")]
fn instant(seconds: f64) -> Instant {
    Instant::from_nanos((seconds.max(0.0) * 1e9) as u64)
}

fn steps(
    scenario: &Scenario,
    schedulers: Arc<dyn SchedulerFactory>,
    wires: Option<Box<dyn Wires>>,
    at: &mut usize,
) -> Result<(), Stop> {
    let mut lab = Lab::new(schedulers, wires)?;
    let mut shell = Shell::default();
    if let Some(mtu) = scenario.rs_side_mtu() {
        lab.ip(&["link", "set", "ethr", "mtu", mtu])?;
    }
    for (name, value) in &scenario.sysctls {
        lab.set_option(name, &value.to_string()).map_err(Stop::Unsupported)?;
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        *at = index;
        let now = instant(step.t);
        if let Action::Matrix { rows } = &step.action {
            let snapshot = scenario.steps[index..].iter().find_map(|step| match &step.action {
                Action::Snapshot(snapshot) => Some(&**snapshot),
                _ => None,
            });
            matrix::replay(rows, now, snapshot, &mut lab)?;
            continue;
        }
        let mut sent = lab.advance(now);
        match &step.action {
            Action::Packet { input, out, conns, dests_after } => {
                let bytes = unhex(&input.hex)?;
                sent.extend(lab.send(input.side, &bytes));
                compare::frames(&compare::recorded(out)?, &sent).map_err(|difference| Difference {
                    details: format!(
                        "    in        {} {}\n{}",
                        input.side.name(),
                        summary(&bytes),
                        difference.details
                    ),
                    ..difference
                })?;
                if let Some(conns) = conns {
                    compare::proc_connections(conns.iter().map(String::as_str), &lab)?;
                }
                if let Some(dests) = dests_after {
                    compare::proc_services(dests.iter().map(String::as_str), &lab)?;
                }
                continue;
            }
            Action::Sleep { out } => {
                compare::frames(&compare::recorded(out)?, &sent)?;
                continue;
            }
            _ => compare::frames(&[], &sent)?,
        }
        match &step.action {
            Action::Command { cmd, rc, output } => {
                let ran = shell.run(cmd, &mut lab).map_err(|reason| Stop::Unsupported(reason.0))?;
                if *rc == 0 && ran.output.starts_with("Scheduler or persistence engine not found") {
                    return Err(Stop::Unsupported(format!("no scheduler for {}", cmd.trim())));
                }
                if *rc == 0 && ran.output.contains("has no master sync daemon") {
                    return Err(Stop::Unsupported(ran.output.trim().to_owned()));
                }
                if ran.code != *rc {
                    let said = ran.output.trim();
                    return Err(
                        Difference::new(format!("exit status {} ({said}), recorded {rc}", ran.code)).into()
                    );
                }
                compare::command_output(cmd, output, &ran.output, scenario.counters_are_exact())?;
            }
            Action::Sysctl { name, value } => {
                lab.set_option(name, &value.to_string()).map_err(Stop::Unsupported)?
            }
            Action::Tables { dests, conns, .. } => {
                compare::proc_services(dests.iter().map(String::as_str), &lab)?;
                compare::proc_connections(conns.iter().map(String::as_str), &lab)?;
            }
            Action::Snapshot(snapshot) => {
                compare::snapshot(snapshot, &mut lab, scenario.counters_are_exact())?;
            }
            Action::Packet { .. } | Action::Sleep { .. } | Action::Matrix { .. } => {}
        }
    }
    Ok(())
}
