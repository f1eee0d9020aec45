//! Debian's keepalived is the other router: version 2 as it has it, version 3 for IPv4 and IPv6, and unicast, all at
//! once; it takes over from the director, and the director from it.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use uvs_director::spec::Prefix;
use uvs_lab::Host;
use uvs_lab::topology::{METRICS, mac};

use super::{in_time, plugged, status, switch};
use crate::stage::{Running, turn};

/// Name, VRID, what uvs is told, what keepalived is told, and an address of it.
const ROUTERS: [(&str, u8, &str, &str, &str); 5] = [
    ("v2", 51, "version = 2\naddresses = [\"10.0.0.100\"]", "", "10.0.0.100"),
    (
        "v2-password",
        52,
        "version = 2\npassword = \"secret12\"\naddresses = [\"10.0.0.101\", \"10.0.0.102\"]",
        "authentication { auth_type PASS\n auth_pass secret12 }",
        "10.0.0.101",
    ),
    ("v3", 53, "addresses = [\"10.0.0.103\"]", "version 3", "10.0.0.103"),
    ("v6", 54, "addresses = [\"fe80::100\", \"2001:db8::100\"]", "version 3", "2001:db8::100"),
    (
        "unicast",
        55,
        "version = 2\naddresses = [\"10.0.0.104\"]\npeers = [\"10.0.0.5\"]",
        "unicast_src_ip 10.0.0.5\n unicast_peer { 10.0.0.1 }",
        "10.0.0.104",
    ),
];

fn director() -> String {
    let mut config = format!(
        "[metrics]\nlisten = \"{METRICS}\"\n\n\
         [[interface]]\nname = \"c0\"\ndevice = \"tap\"\nmac = \"{}\"\n\
         addresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\n\
         bridge = {{ name = \"br0\", ports = [\"eth0\"] }}\n",
        mac(1, 1)
    );
    for (name, vrid, keys, ..) in ROUTERS {
        config.push_str(&format!(
            "\n[[vrrp]]\nname = \"{name}\"\ninterface = \"c0\"\nvrid = {vrid}\npriority = 100\n{keys}\n"
        ));
    }
    config
}

fn keepalived() -> String {
    let mut config = "global_defs {\n router_id k\n vrrp_version 2\n}\n".to_owned();
    for (name, vrid, keys, told, _) in ROUTERS {
        let list = keys.lines().find_map(|line| line.strip_prefix("addresses = [")).unwrap();
        let addresses = list.replace([']', '"', ','], " ");
        let addresses = addresses.split_whitespace().map(|it| match it.contains(':') {
            true => format!("{it}/64\n"),
            false => format!("{it}/32\n"),
        });
        config.push_str(&format!(
            "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {vrid}\n priority 150\n \
             advert_int 1\n {told}\n virtual_ipaddress {{\n{} }}\n}}\n",
            addresses.collect::<String>()
        ));
    }
    config
}

fn has(host: &Host, address: &str) -> bool {
    let addresses = host.net().addresses().unwrap();
    addresses.iter().any(|(_, prefix)| prefix.addr().to_string() == address)
}

#[test]
fn keepalived_takes_over_and_is_taken_over_from() {
    let Some(_turn) = turn() else { return };
    let switch = switch();
    let at = |name: &str, last: u8| plugged(&switch, name, last, mac(1, last));
    let (ours, theirs) = (at("A", 9), at("keepalived", 5));
    // Its addresses are to be there at once.
    for (key, value) in [("disable_ipv6", "0"), ("accept_dad", "0")] {
        theirs.set_sysctl(&format!("net.ipv6.conf.eth0.{key}"), value).unwrap();
    }
    for address in ["10.0.0.5/24", "2001:db8::5/64"] {
        theirs.net().add_address("eth0", address.parse::<Prefix>().unwrap()).unwrap();
    }
    let uvs = Running::start(&ours, &director());
    let states = || -> Vec<(String, String)> {
        let status = status(&uvs);
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let groups = status["groups"].as_array().unwrap().clone();
        groups.iter().map(|group| (word(&group["name"]), word(&group["state"]))).collect()
    };
    let are = |wanted: &str| states().iter().all(|(_, state)| state == wanted).then_some(());
    in_time("the director is active", || are("active"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keepalived.conf");
    std::fs::write(&file, keepalived()).unwrap();
    let mut command = Command::new("keepalived");
    command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(&file);
    command.arg("--pid").arg(folder.path().join("pid")).arg("--vrrp_pid").arg(folder.path().join("vrrp"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut keepalived = theirs.exec(command).unwrap();
    let all_there = |wanted: bool| ROUTERS.iter().all(|(.., address)| has(&theirs, address) == wanted);
    let told = |what: &str, keepalived: &uvs_lab::Process| {
        format!("{what}: {:?}\n{}", status(&uvs), keepalived.log())
    };
    // It has the higher priority, and preempts.
    let deadline = std::time::Instant::now() + Duration::from_secs(40);
    while are("backup").is_none() || !all_there(true) {
        assert!(std::time::Instant::now() < deadline, "{}", told("keepalived is master", &keepalived));
        std::thread::sleep(Duration::from_millis(100));
    }
    // Both have the same in mind: nobody complains, and nothing is refused.
    let now = status(&uvs);
    for group in now["groups"].as_array().unwrap() {
        let router = &group["routers"][0];
        assert_eq!(router["refused"], serde_json::json!([]), "{now}");
        assert_eq!(router["counts"]["other_addresses"], 0, "{now}");
        assert_eq!(router["counts"]["other_interval"], 0, "{now}");
        assert!(router["heard"][0]["priority"] == 150, "{now}");
    }
    // It ends, and says so.
    keepalived.signal(Signal::SIGTERM).unwrap();
    in_time("the director has taken over", || are("active"));
    keepalived.wait(Duration::from_secs(20)).unwrap();
    assert!(all_there(false));
}
