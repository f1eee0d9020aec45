//! simulate and compare: the figures are right, and a seed repeats them.

use serde_json::Value;

use crate::guest::Guest;
use crate::{sched, sched_in};

fn simulate(arguments: &[&str]) -> Value {
    let told = sched(&[&["simulate", "--json"], arguments].concat());
    assert_eq!(told.status, 0, "{told:?}");
    told.json()
}

fn policy<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["policies"].as_array().unwrap().iter().find(|policy| policy["policy"] == name).unwrap()
}

fn connections(policy: &Value) -> Vec<u64> {
    let destinations = policy["destinations"].as_array().unwrap();
    destinations.iter().map(|destination| destination["connections"].as_u64().unwrap()).collect()
}

#[test]
fn round_robin_gives_everybody_the_same_and_weighted_what_the_weights_say() {
    let report = simulate(&["rr", "wrr", "--destinations", "4", "--weights", "1,2,3,4", "--duration", "30s"]);
    let total = report["connections"].as_u64().unwrap();
    assert!(total > 2_700, "{total}");
    let rr = connections(policy(&report, "rr"));
    assert!(rr.iter().all(|&n| n == total / 4 || n == total / 4 + 1), "{rr:?} of {total}");
    // A cycle of wrr is as many picks as the weights come to, and gives each destination its weight.
    let wrr = connections(policy(&report, "wrr"));
    for (weight, n) in (1..).zip(&wrr) {
        let least = total / 10 * weight;
        assert!((least..=least + weight).contains(n), "weight {weight}: {wrr:?} of {total}");
    }
    for policy in report["policies"].as_array().unwrap() {
        assert_eq!(connections(policy).iter().sum::<u64>(), total);
        assert_eq!((&policy["refused"], &policy["failures"]), (&Value::from(0), &Value::from(0)));
    }
    assert!(policy(&report, "wrr")["off_weight"].as_f64().unwrap() < 0.005);
    assert!(
        (policy(&report, "rr")["off_weight"].as_f64().unwrap() - 0.2).abs() < 0.01,
        "0.15 + 0.05 too much"
    );
}

#[test]
fn hashing_keeps_clients_and_moves_few_of_them_when_a_destination_goes() {
    let report = simulate(&[
        "mh",
        "rr",
        "--destinations",
        "5",
        "--fail",
        "2@20s-40s",
        "--clients",
        "500",
        "--seed",
        "4",
    ]);
    let (mh, rr) = (policy(&report, "mh"), policy(&report, "rr"));
    assert_eq!(mh["calm_moves"], 0.0, "a client's connections all go to one destination");
    assert!(rr["calm_moves"].as_f64().unwrap() > 0.7, "4 of 5 go elsewhere");
    let change = |policy: &Value, n: usize| policy["changes"][n].clone();
    let (gone, back) = (change(mh, 0), change(mh, 1));
    assert_eq!((&gone["what"], &back["what"]), (&Value::from("rs2 fails"), &Value::from("rs2 returns")));
    assert!(gone["moved_share"].as_f64().unwrap() < 0.05, "{gone}");
    assert!(
        gone["could_stay"].as_u64().unwrap() > 300 && gone["had_to_move"].as_u64().unwrap() > 50,
        "{gone}"
    );
    assert!(back["moved_share"].as_f64().unwrap() < 0.3, "its fifth and a few: {back}");
    assert!(change(rr, 0)["moved_share"].as_f64().unwrap() > 0.6);
    let lost = mh["lost"].as_u64().unwrap();
    assert!((15..80).contains(&lost), "about 40 were active on it: {lost}");

    // dh hashes the address that is asked for.
    let report = simulate(&["dh", "--destinations", "5", "--addresses", "200", "--clients", "500"]);
    let dh = policy(&report, "dh");
    assert_eq!(dh["calm_moves"], 0.0);
    assert!(connections(dh).iter().all(|&n| n > 300), "{:?}", connections(dh));
    let one = simulate(&["dh", "--destinations", "5"]);
    assert_eq!(
        connections(policy(&one, "dh")).iter().filter(|&&n| n > 0).count(),
        1,
        "one address, one destination"
    );
}

#[test]
fn least_response_time_leaves_the_slow_alone_and_comes_back() {
    let report = simulate(&[
        "lrt",
        "wlc",
        "--destinations",
        "3",
        "--answers",
        "1ms,1ms,20ms",
        "--slow",
        "1@20s-40s",
        "--duration",
        "3m",
    ]);
    let answers = |name| policy(&report, name)["answer_ms_mean"].as_f64().unwrap();
    assert!(answers("lrt") < answers("wlc") / 4.0, "{} and {} ms", answers("lrt"), answers("wlc"));
    let got = connections(policy(&report, "lrt"));
    assert!(got[2] > 0 && got[2] * 10 < got[1], "always slow, but tried now and then: {got:?}");
    assert!(got[0] * 4 > got[1], "slow for a ninth of the time, and forgiven: {got:?}");
}

#[test]
fn limits_are_those_of_the_configuration() {
    let fuel = |arguments: &[&str]| sched(arguments).json()[0]["fuel_budget"].as_u64().unwrap();
    let usual = fuel(&["bench", "rr", "--destinations", "3", "--json"]);
    assert_eq!(fuel(&["bench", "rr", "--destinations", "3", "--fuel", "16", "--json"]), usual * 16);
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    file.as_file().set_len(17 << 20).unwrap();
    let name = file.path().to_str().unwrap();
    let told = sched(&["test", name]);
    assert!(told.err.contains("the limit is 16777216") && told.err.contains("--module-mib"), "{told:?}");
    let told = sched(&["test", name, "--module-mib", "32"]);
    assert!(told.status == 1 && told.err.contains("is not WebAssembly"), "{told:?}");
    assert_eq!(sched(&["simulate", "rr", "--fuel", "0"]).status, 2);
}

#[test]
fn a_quiesced_destination_gets_nothing_and_loses_nothing() {
    let report = simulate(&["wlc", "rr", "--destinations", "3", "--quiesce", "1@0s", "--duration", "10s"]);
    for policy in report["policies"].as_array().unwrap() {
        assert_eq!(connections(policy)[0], 0);
        assert_eq!(
            (&policy["lost"], &policy["destinations"][0]["ideal"]),
            (&Value::from(0), &Value::from(0.0))
        );
    }
}

#[test]
fn a_seed_repeats_every_output_byte_for_byte() {
    let run = |seed: &str| {
        let folder = tempfile::tempdir().unwrap();
        let files = ["--csv", "x.csv", "--svg", "x.svg"];
        let scenario = ["--fail", "3@5s-9s", "--duration", "20s", "--durations", "pareto:1s", "--seed", seed];
        let told = sched_in(
            folder.path(),
            &[&["simulate", "twos", "lblc", "mh"], &files[..], &scenario[..]].concat(),
        );
        assert_eq!(told.status, 0, "{told:?}");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        (told.out, read("x.csv"), read("x.svg"))
    };
    let first = run("1");
    assert_eq!(first, run("1"));
    let (_, csv, svg) = first;
    assert_ne!(csv, run("2").1);

    let mut lines = csv.lines();
    let head = lines.next().unwrap();
    assert!(
        head.starts_with("policy,seconds,imbalance,peak,active_1,") && head.ends_with(",active_10"),
        "{head}"
    );
    assert_eq!(lines.clone().count(), 3 * 481, "a line for each policy and sample");
    assert!(lines.all(|line| line.split(',').count() == 14));

    assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<polyline").count(), 3, "a line for each policy");
    for word in ["rs3 fails", "rs3 returns", ">lblc<", "Share of connections"] {
        assert!(svg.contains(word), "{word:?} is not in the picture");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "every number is one");
}

#[test]
fn a_trace_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let trace: String = (0..90).map(|n| format!("{},client-{},1\n", f64::from(n) / 10.0, n % 7)).collect();
    std::fs::write(folder.path().join("t.csv"), format!("seconds,client,duration\n{trace}")).unwrap();
    let told =
        sched_in(folder.path(), &["simulate", "rr", "--json", "--destinations", "9", "--arrivals", "t.csv"]);
    let report = told.json();
    assert_eq!(report["connections"], 90, "{told:?}");
    assert_eq!(connections(&report["policies"][0]), [10; 9]);
    std::fs::write(folder.path().join("t.csv"), "1,a\nlater,b\n").unwrap();
    let told = sched_in(folder.path(), &["simulate", "rr", "--arrivals", "t.csv"]);
    assert!(told.status == 1 && told.err.contains("t.csv:2"), "{told:?}");
}

#[test]
fn a_module_that_fails_shows_as_such_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("bad.wasm"),
        Guest { schedule: "unreachable", ..Guest::GOOD }.component(),
    )
    .unwrap();
    let told = sched_in(folder.path(), &["simulate", "bad.wasm", "wlc", "--duration", "10s", "--json"]);
    assert_eq!(told.status, 1, "{told:?}");
    let report = told.json();
    let bad = policy(&report, "bad");
    assert!(bad["failures"].as_u64().unwrap() > 0 && bad["last_failure"].as_str().unwrap().contains("trap"));
    assert_eq!(bad["refused"], 0, "the fallback picks");
    assert_eq!(connections(bad), connections(policy(&report, "wlc")), "and it is wlc");
}

#[test]
fn compare_finds_no_difference_between_equals_and_those_there_are() {
    let scenario = ["--destinations", "3", "--weights", "1,2,3", "--duration", "20s"];
    let compare = |a: &str, b: &str| {
        let told = sched(&[&["compare", a, b, "--json"], &scenario[..]].concat());
        assert_eq!(told.status, 0, "{told:?}");
        told.json()
    };
    for name in ["rr", "wlc", "twos", "lblcr"] {
        let same = compare(name, name);
        assert_eq!(same["different"], 0, "{name}");
        assert_eq!(same["a"]["connections"], same["b"]["connections"], "{name}");
        assert!(same["first_differences"].as_array().unwrap().is_empty());
    }
    let report = compare("wrr", "rr");
    assert!(report["different_share"].as_f64().unwrap() > 0.3, "{report}");
    let placed = |side: &str| -> Vec<u64> {
        report[side]["connections"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
    };
    let (a, b) = (placed("a"), placed("b"));
    assert!(a[2] > a[0] * 29 / 10 && b[2].abs_diff(b[0]) <= 1, "{a:?} {b:?}");
    let first = &report["first_differences"][0];
    assert!(first["a"] != first["b"] && first["client"].as_str().unwrap().starts_with("100."), "{first}");

    let text = sched(&[&["compare", "wrr", "rr", "--show", "2"], &scenario[..]].concat()).out;
    for want in ["rr differs in", "Each by itself", "imbalance mean", "rs3"] {
        assert!(text.contains(want), "{want:?} is not in:\n{text}");
    }
}
