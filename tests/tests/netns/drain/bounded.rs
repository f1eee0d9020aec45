//! Destinations that lose their weight or their place have so long for their connections as `drain` says.

use super::*;
use crate::stage::in_mode;

/// With so long for them.
fn bounded(drain: &str) -> String {
    format!("[timeouts]\ndrain = \"{drain}\"\n\n{}", config())
}

/// What a scene's file says of rs1, in every service.
const RS1: &str = "{ address = \"192.168.20.11:8080\" }";

/// Events of drains of the TCP service, oldest first: kind, who, left, reset.
fn drains(scene: &Scene) -> Vec<(String, String, u64, Option<u64>)> {
    let text = scene.says(&["events", "--json", "--last", "8192"]);
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ours = events.filter(|event| {
        event["type"].as_str().is_some_and(|kind| kind.starts_with("drain_"))
            && event["service"] == "tcp 10.0.0.100:80"
            && event["destination"] == "192.168.20.11:8080"
    });
    let told = |event: serde_json::Value| {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (text("type"), text("by"), event["left"].as_u64().unwrap(), event["reset"].as_u64())
    };
    ours.map(told).collect()
}

fn is_reset(scene: &Scene, mut talk: Talk) {
    let error = talk.hear(b"?", Duration::from_secs(20)).unwrap_err();
    assert_eq!(kind_of(&error), Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
    eventually("the server has lost it, too", || (scene.of_one() == 0).then_some(()));
}

fn told(scene: &Scene, by: &str) {
    eventually("its begin and its end are told", || {
        let drains = drains(scene);
        let [.., (begun, who, left, None), (ended, whose, 0, Some(reset))] = &drains[..] else { return None };
        assert_eq!((&**begun, &**ended), ("drain_started", "drain_ended"), "{drains:?}");
        assert_eq!((&**who, &**whose), (by, by), "{drains:?}");
        assert!(*left >= 1 && *reset >= 1, "{drains:?}");
        Some(())
    });
}

#[test]
fn a_weight_of_0_in_the_file_or_by_adm_gives_connections_a_deadline() {
    let Some(_turn) = turn() else { return };
    let file = bounded("1s");
    let mut scene = Scene::with(&file);
    let mut talk = scene.talk_with_one();
    let without_weight = file.replace(RS1, "{ address = \"192.168.20.11:8080\", weight = 0 }");
    scene.running.reload(&without_weight);
    scene.weighs(0);
    scene.avoids_one();
    is_reset(&scene, talk);
    told(&scene, "weight");
    assert!(scene.says(&["explain", "destination", ONE]).contains("drained"), "and it says so");
    scene.running.reload(&file);
    scene.weighs(1);
    talk = scene.talk_with_one();
    assert!(!scene.says(&["explain", "destination", ONE]).contains("drained"));

    scene.running.adm(&format!("-e -t {SERVICE} -r 192.168.20.11:8080 -m -w 0"));
    scene.weighs(0);
    is_reset(&scene, talk);
    told(&scene, "weight");
    scene.running.adm(&format!("-e -t {SERVICE} -r 192.168.20.11:8080 -m -w 2"));
    scene.weighs(2);

    // One that is taken back does not come.
    let long = bounded("3s");
    scene.running.reload(&long);
    scene.weighs(1);
    talk = scene.talk_with_one();
    scene.running.adm(&format!("-e -t {SERVICE} -r 192.168.20.11:8080 -m -w 0"));
    scene.weighs(0);
    scene.running.reload(&format!("{long}# again\n"));
    scene.weighs(1);
    std::thread::sleep(Duration::from_secs(5));
    talk.say(b"it goes on").unwrap();
}

#[test]
fn what_is_removed_by_a_reload_or_by_adm_stays_for_its_connections() {
    let Some(_turn) = turn() else { return };
    let file = bounded("2s");
    let mut scene = Scene::with(&file);
    let mut talk = scene.talk_with_one();
    let without = file.replace(&format!("{RS1}, "), "");
    std::fs::write(scene.running.file(), in_mode(&without)).unwrap();
    let plan = String::from_utf8(scene.uvs(&["plan"]).stdout).unwrap();
    assert!(plan.contains("gets no new connections and is removed"), "{plan}");
    assert!(plan.contains("have 2s to end") || plan.contains("has 2s to end"), "{plan}");

    scene.running.reload(&without);
    scene.weighs(0);
    assert!(scene.says(&["explain", "destination", ONE]).contains("since it was removed"));
    assert!(!scene.running.adm("--export").contains("192.168.20.11"), "it is not in what is exported");
    scene.avoids_one();
    talk.say(b"it goes on").unwrap();
    is_reset(&scene, talk);
    told(&scene, "removal");
    eventually("it is gone", || (!scene.running.adm("-Ln").contains("192.168.20.11")).then_some(()));

    scene.running.reload(&file);
    scene.weighs(1);
    talk = scene.talk_with_one();
    scene.running.adm(&format!("-d -t {SERVICE} -r 192.168.20.11:8080"));
    scene.avoids_one();
    talk.say(b"it goes on").unwrap();
    is_reset(&scene, talk);
    let listing = || scene.running.adm(&format!("-Ln -t {SERVICE}"));
    eventually("it is gone", || (!listing().contains("192.168.20.11")).then_some(()));

    // Who adds it again meanwhile has it stay.
    scene.running.adm(&format!("-a -t {SERVICE} -r 192.168.20.11:8080 -m"));
    scene.weighs(1);
    talk = scene.talk_with_one();
    scene.running.adm(&format!("-d -t {SERVICE} -r 192.168.20.11:8080"));
    scene.running.adm(&format!("-a -t {SERVICE} -r 192.168.20.11:8080 -m -w 3"));
    scene.weighs(3);
    std::thread::sleep(Duration::from_secs(4));
    talk.say(b"it goes on").unwrap();
    scene.talk_with_one().say(b"and gets more").unwrap();
}
