//! Every recorded scenario of this project is answered as the kernel answered it.
//!
//! `golden/KNOWN.txt` lists the exceptions, a name and the reason a line; one that passes must leave the list.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use uvs_director::scheduler::SchedulerFactory;
use uvs_plugin::{Catalogue, Host, Policy, Schedulers};
use uvs_tests::golden::{Action, Outcome, Scenario, Side, load, replay, scenarios_under};

fn schedulers() -> Arc<dyn SchedulerFactory> {
    let schedulers = Schedulers::with_seed(Host::new(Policy::default()).expect("a wasm engine"), 1);
    schedulers.accept(Catalogue::default().with_compat_ipvs(true));
    Arc::new(schedulers)
}

#[test]
fn a_recording_that_was_changed_is_noticed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let fresh = || load(&golden.join("tcp_dr_session.json")).expect("a scenario");
    let passes = |scenario: &Scenario| matches!(replay(scenario, schedulers()), Outcome::Pass);
    assert!(passes(&fresh()), "it passes as it was recorded");

    /// Changes a step when it is of the right kind.
    type Change = fn(&mut Action) -> bool;
    let changes: [(&str, Change); 7] = [
        ("a frame that did not come", |action| match action {
            Action::Packet { out, .. } => out.pop().is_some(),
            _ => false,
        }),
        ("another byte in a frame", |action| match action {
            Action::Packet { out, .. } => out.first_mut().is_some_and(|sent| {
                let last = sent.hex.pop();
                sent.hex.push(if last == Some('0') { '1' } else { '0' });
                true
            }),
            _ => false,
        }),
        ("another wire", |action| match action {
            Action::Packet { out, .. } => out.first_mut().is_some_and(|sent| {
                sent.side = Side::Client;
                true
            }),
            _ => false,
        }),
        ("another state", |action| match action {
            Action::Packet { conns: Some(conns), .. } => conns.first_mut().is_some_and(|line| {
                *line = line.replace("SYN_RECV", "FIN_WAIT");
                true
            }),
            _ => false,
        }),
        ("another exit status", |action| match action {
            Action::Command { rc, .. } => {
                *rc = 2;
                true
            }
            _ => false,
        }),
        ("another listing", |action| match action {
            Action::Snapshot(snapshot) => {
                snapshot.Ln = snapshot.Ln.replacen("rr", "wrr", 1);
                true
            }
            _ => false,
        }),
        ("another saved rule", |action| match action {
            Action::Snapshot(snapshot) => {
                snapshot.save.push('\n');
                true
            }
            _ => false,
        }),
    ];
    for (what, change) in changes {
        let mut scenario = fresh();
        let changed = scenario.steps.iter_mut().any(|step| change(&mut step.action));
        assert!(changed, "{what}: there is no such step");
        assert!(!passes(&scenario), "{what} goes unnoticed");
    }
}

#[test]
fn the_director_answers_as_the_kernel_did() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let known = std::fs::read_to_string(golden.join("KNOWN.txt")).expect("the list of exceptions");
    let mut known: BTreeMap<&str, &str> = known
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(char::is_whitespace).expect("a name and a reason"))
        .collect();
    let schedulers = schedulers();
    let files = scenarios_under(&golden).expect("the recordings");
    assert!(files.len() >= 142, "only {} recordings", files.len());

    let mut wrong = Vec::new();
    for file in files {
        let scenario = load(&file).expect("a scenario");
        let name = scenario.scenario.as_str();
        let outcome = replay(&scenario, Arc::clone(&schedulers));
        match (outcome, known.remove(name)) {
            (Outcome::Pass, None) | (Outcome::Fail(_) | Outcome::Unsupported(_), Some(_)) => {}
            (Outcome::Pass, Some(_)) => wrong.push(format!("{name} passes: take it out of KNOWN.txt")),
            (Outcome::Fail(failure), None) => wrong.push(format!(
                "{name}: step {} ({}): {}\n{}",
                failure.step, failure.what, failure.difference, failure.details
            )),
            (Outcome::Unsupported(reason), None) => wrong.push(format!("{name} is unsupported: {reason}")),
        }
    }
    wrong.extend(known.into_keys().map(|name| format!("KNOWN.txt names {name}, which does not exist")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
