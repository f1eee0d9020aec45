//! Programs that are told what happens.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{ONE, SERVICE, Scene, TWO, checked, listens};
use crate::stage::{eventually, turn};

/// A program that writes down what it hears, of what `more` says.
fn notify(name: &str, heard: &Path, more: &str) -> String {
    format!(
        "\n[[notify]]\nname = \"{name}\"\n{more}\ncommand = [\"/bin/sh\", \"-c\", \
         \"echo $1 $2 $UVS_DESTINATION >> {}\", \"sh\", \"{{event}}\", \"{{vip}}\"]\n",
        heard.display()
    )
}

fn says(heard: &Path, line: &str) {
    eventually(&format!("it is told: {line}"), || {
        let text = fs::read_to_string(heard).unwrap_or_default();
        text.lines().any(|said| said.trim_end() == line).then_some(())
    });
}

#[test]
fn programs_are_told_what_happens_until_the_end() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [usual, end, later] = ["usual", "end", "later"].map(|name| folder.path().join(name));
    let patient = checked("").replace("timeout = \"90ms\"", "timeout = \"3s\"");
    let stuck = "\n[[notify]]\nname = \"stuck\"\ncommand = [\"/bin/sleep\", \"3600\"]\nevents = [\"quorum_down\"]\n\
                 timeout = \"1s\"\n";
    let missing = "\n[[notify]]\nname = \"missing\"\ncommand = [\"/nonexistent/told\"]\n";
    let config = format!(
        "{patient}{}{}{stuck}{missing}",
        notify("usual", &usual, &format!("services = [\"tcp/{SERVICE}\"]")),
        notify("end", &end, "events = [\"ready\", \"stopping\"]")
    );
    let mut scene = Scene::new(&config);
    let vip = SERVICE.ip();
    says(&end, "ready");
    says(&usual, &format!("destination_up {vip} {ONE}"));
    says(&usual, &format!("quorum_up {vip}"));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    scene.peers[0] = None;
    says(&usual, &format!("destination_down {vip} {ONE}"));
    scene.all_served(5);
    scene.peers[1] = None;
    says(&usual, &format!("quorum_down {vip}"));
    let runs = |notify: &str, outcome: &str| {
        scene.running.metric("uvs_notify_runs_total", &[("notify", notify), ("outcome", outcome)])
    };
    eventually("one that hangs is killed", || (runs("stuck", "overdue") == 1).then_some(()));
    eventually("one is not there", || (runs("missing", "unmade") > 0).then_some(()));
    let log = scene.running.get().log();
    assert!(log.contains("/nonexistent/told cannot be run"), "{log}");
    assert!(log.contains("notify usual of quorum_down: exit status 0, after "), "{log}");

    // Another program from the next reload on.
    scene.running.reload(&format!("{patient}{}", notify("later", &later, "")));
    scene.peers[1] = listens(&scene.hosts.servers[1], 12);
    says(&later, &format!("quorum_up {vip}"));
    let quorums = fs::read_to_string(&usual).unwrap().matches("quorum_up").count();
    assert_eq!(quorums, 1, "the one before is told no longer");
    scene.running.reload(&config);
    assert!(scene.running.stop(Signal::SIGTERM).success());
    says(&end, "stopping");
}
