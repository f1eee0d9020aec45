//! The alert rules and the dashboard of `config/monitoring`, with a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use uvs_lab::Host;
use uvs_lab::topology::{METRICS, Method, Plan};

use crate::peer::Talk;
use crate::stage::{Stage, skip, topology, turn};

const PORT: u16 = 9090;
/// For a Prometheus that starts on a busy machine, and reads and evaluates once a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a director without a certificate, without anything out of order or without a flow cache has no series of.
const MAY_BE_EMPTY: [&str; 5] = [
    "uvs_check_certificate_expiry_timestamp_seconds",
    "uvs_flow_cache_",
    "outcome!=\"passed\"",
    "uvs_drops_total",
    "changes(",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/monitoring")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Every string under a key, anywhere in a document.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    other => strings(other, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        _ => {}
    }
}

/// The queries of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("uvs-dashboard.json")).unwrap();
    let mut found = Vec::new();
    strings(&dashboard, "expr", &mut found);
    let filled = |query: &str| {
        query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$service", ".*")
    };
    found.into_iter().map(filled).collect()
}

fn alerts() -> Vec<String> {
    let rules = read("uvs.rules.yml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect()
}

/// The names of metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("uvs_")).map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

/// A metric that was renamed would leave an alert that never fires.
#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let reference = fs::read_to_string(folder().join("../../router/METRICS.md")).unwrap();
    let known: BTreeSet<&str> =
        reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let asked = [queries(), alerts()].concat();
    assert!(asked.len() > 50, "{}", asked.len());
    for query in &asked {
        for name in metrics(query) {
            assert!(known.contains(name), "{name} of {query:?} is not in router/METRICS.md");
        }
    }
}

/// The rules are sound, and fire when they should and only then.
#[test]
fn the_rules_pass_their_own_tests() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skip("promtool (apt-get install prometheus)");
    }
    for arguments in [["check", "rules", "uvs.rules.yml"], ["test", "rules", "uvs.rules.test.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(folder()).output().unwrap();
        assert!(output.status.success(), "promtool {arguments:?}: {output:?}");
    }
}

/// Asks Prometheus.
fn get(host: &Host, path: &str) -> Option<Value> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = host.run(ask).unwrap().ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// The series that a query has, or why Prometheus refuses it.
fn query(host: &Host, query: &str) -> Result<usize, String> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = get(host, &format!("/api/v1/query?query={encoded}")).ok_or("no answer")?;
    match answer["data"]["result"].as_array() {
        Some(series) if answer["status"] == "success" => Ok(series.len()),
        _ => Err(answer["error"].to_string()),
    }
}

#[test]
fn prometheus_takes_the_metrics_the_rules_and_every_query() {
    let Some(_turn) = turn() else { return };
    if Command::new("prometheus").arg("--version").output().is_err() {
        return skip("prometheus (apt-get install prometheus)");
    }
    let topology = topology(Method::Nat, &Plan::default());
    let check = "[[check]]\nname = \"tcp\"\ntype = \"tcp\"\ninterval = 1\n\n[[service]]\nchecks = [\"tcp\"]";
    let config = topology.config.replacen("[[service]]", check, 1);
    let stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    // Nobody takes connections before his first check.
    let talk = || Talk::open(service).and_then(|mut talk| talk.say(b"hello"));
    eventually("a server is in service", || stage.client().run(talk).unwrap().ok());
    let folder_of_data = tempfile::tempdir().unwrap();
    let file = folder_of_data.path().join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  \
         - {{job_name: uvs, static_configs: [{{targets: ['{METRICS}']}}]}}\n",
        folder().join("uvs.rules.yml").display()
    );
    fs::write(&file, settings).unwrap();
    let host = stage.topology.director.clone();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder_of_data.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{PORT}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let prometheus = host.exec(command).unwrap();
    let up = || (query(&host, "count_over_time(up{job=\"uvs\"}[1m]) > 4 and up == 1") == Ok(1)).then_some(());
    eventually("Prometheus has read the metrics some times", up);
    let asked = [queries(), alerts()].concat();
    for text in &asked {
        query(&host, text).unwrap_or_else(|error| panic!("{text:?}: {error}\n{}", prometheus.log()));
    }
    for text in queries().iter().filter(|text| !MAY_BE_EMPTY.iter().any(|part| text.contains(part))) {
        // A rate takes two readings of a series that has just come.
        eventually(text, || query(&host, text).is_ok_and(|series| series > 0).then_some(()));
    }
    let rules = get(&host, "/api/v1/rules").unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_eq!(rule["state"], "inactive", "all is well: {rule}");
    }
    stage.topology.real_servers[0].host.net().down("eth0").unwrap();
    eventually("Prometheus is about to wake somebody", || {
        let alerts = get(&host, "/api/v1/alerts")?;
        let alerts = alerts["data"]["alerts"].as_array()?;
        alerts.iter().any(|alert| alert["labels"]["alertname"] == "UvsDestinationDown").then_some(())
    });
}
