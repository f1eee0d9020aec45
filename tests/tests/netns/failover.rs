//! Two directors of which one is active, and what becomes of the other when that one leaves, dies or stands still.
//!
//! ```text
//!   client 10.0.0.2 --- switch --- A 10.0.0.1      c0 02:00:00:01:00:01
//!   station    ------------|------- B 10.0.0.4      c0 02:00:00:01:00:04
//!                          `------- rs1 10.0.0.11   VIP 10.0.0.100 on lo
//! ```

mod keepalived;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use uvs_director::spec::MacAddr;
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, mac};

use crate::peer::{Peer, Talk};
use crate::stage::{Running, eventually, turn, uvs};
use crate::station::Station;

const VIP: &str = "10.0.0.100";
const DIRECTORS: [u8; 2] = [1, 4];
const STATION: MacAddr = MacAddr([2, 0, 0, 1, 0, 77]);

fn service() -> SocketAddr {
    SocketAddr::new(VIP.parse().unwrap(), 80)
}

/// A switch with nobody at it.
fn switch() -> Host {
    let switch = Host::new("switch").unwrap();
    switch.net().add_bridge("br0", mac(1, 200)).unwrap();
    switch
}

/// A host at the switch, without an address.
fn plugged(switch: &Host, name: &str, last: u8, card: MacAddr) -> Host {
    let host = Host::new(name).unwrap();
    let port = format!("port{last}");
    let far = End { host: switch, name: &port, mac: MacAddr([0xfe, 0, 0, 1, 0, last]) };
    connect(End { host: &host, name: "eth0", mac: card }, far).unwrap();
    switch.net().plug(&port, "br0").unwrap();
    host
}

struct Lab {
    client: Host,
    directors: [Host; 2],
    peer: Peer,
    station: Station,
    _server: Host,
    switch: Host,
}

impl Lab {
    fn new() -> Self {
        let switch = switch();
        let at = |name: &str, last: u8| {
            let host = plugged(&switch, name, last, mac(1, last));
            host.net().add_address("eth0", format!("10.0.0.{last}/24").parse().unwrap()).unwrap();
            host
        };
        let (client, server) = (at("client", 2), at("rs1", 11));
        server.net().add_address("lo", format!("{VIP}/32").parse().unwrap()).unwrap();
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
            server.set_sysctl(&format!("net.ipv4.conf.all.{key}"), value).unwrap();
        }
        let directors = DIRECTORS.map(|last| {
            let name = if last == DIRECTORS[0] { "A" } else { "B" };
            plugged(&switch, name, last, MacAddr([0xfe, 0, 0, 1, 0xff, last]))
        });
        let peer = Peer::start(&server, service());
        let station = Station::plug_in(&switch, STATION);
        Self { client, directors, peer, station, _server: server, switch }
    }

    fn start(&self, number: usize, priority: u8, more: &str) -> Running {
        Running::start(&self.directors[number], &config(number, priority, more))
    }

    /// The stations that answer ARP for the VIP.
    fn owners(&self) -> BTreeSet<MacAddr> {
        let mut asked = [&[0xff; 6], &STATION.0[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &STATION.0].concat();
        asked.extend([10, 0, 0, 77, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100]);
        self.station.send(&asked);
        let mut owners = BTreeSet::new();
        self.station.hear_until(Duration::from_millis(300), |frame| {
            let is_answer = frame.len() >= 42 && frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
            if is_answer && frame[28..32] == [10, 0, 0, 100] {
                owners.insert(MacAddr(frame[22..28].try_into().unwrap()));
            }
            false
        });
        owners
    }

    /// The client gets an answer on a new connection.
    fn is_served(&self) -> bool {
        let served = self.peer.clients().len();
        let ask = || Talk::open(service()).and_then(|mut talk| talk.say(b"hello"));
        self.client.run(ask).unwrap().is_ok() && self.peer.clients().len() > served
    }
}

fn config(number: usize, priority: u8, more: &str) -> String {
    let own = DIRECTORS[number];
    format!(
        "[metrics]\nlisten = \"{METRICS}\"\n\n\
         [[interface]]\nname = \"c0\"\ndevice = \"tap\"\nmac = \"{}\"\naddresses = [\"10.0.0.{own}/24\"]\n\
         bridge = {{ name = \"br0\", ports = [\"eth0\"] }}\n\n\
         [[vrrp]]\nname = \"web\"\ninterface = \"c0\"\nvrid = 51\npriority = {priority}\nadvert_int = \"500ms\"\n\
         addresses = [\"{VIP}\"]\n{more}\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"{VIP}:80\"\nforward = \"dr\"\n\
         destination = [{{ address = \"10.0.0.11\" }}]\n",
        mac(1, own)
    )
}

fn ha(director: &Running, words: &[&str]) -> Output {
    let mut command = Command::new(uvs());
    command.arg("ha").args(words).arg("--socket").arg(director.get().socket());
    command.output().unwrap()
}

/// How the virtual routers of a director stand.
fn status(director: &Running) -> Value {
    let output = ha(director, &["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn state(director: &Running) -> String {
    status(director)["groups"][0]["state"].as_str().unwrap().to_owned()
}

fn reason(director: &Running) -> String {
    status(director)["groups"][0]["reason"].as_str().unwrap().to_owned()
}

fn becomes(director: &Running, wanted: &str) {
    eventually(wanted, || (state(director) == wanted).then_some(()));
}

fn mac_of(number: usize) -> BTreeSet<MacAddr> {
    BTreeSet::from([mac(1, DIRECTORS[number])])
}

#[test]
fn one_of_two_directors_answers_until_it_leaves_dies_or_stands_still() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new();
    let mut a = lab.start(0, 150, "");
    assert_eq!(lab.owners(), BTreeSet::new(), "nobody before it has listened");
    becomes(&a, "active");
    let mut b = lab.start(1, 100, "");
    becomes(&b, "backup");
    eventually("B hears A", || {
        let heard = &status(&b)["groups"][0]["routers"][0]["heard"][0];
        (heard["from"] == "10.0.0.1" && heard["priority"] == 150).then_some(())
    });
    assert_eq!(lab.owners(), mac_of(0));
    assert!(lab.is_served());

    // Handed over, and not taken back although the priority is higher.
    let handed = ha(&a, &["failover"]);
    assert!(handed.status.success(), "{handed:?}");
    assert!(String::from_utf8_lossy(&handed.stdout).contains("web: backup"), "{handed:?}");
    becomes(&b, "active");
    assert_eq!(lab.owners(), mac_of(1));
    assert!(lab.is_served());
    assert_eq!(reason(&b), "10.0.0.1 left");
    let refused = ha(&a, &["failover", "wep"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("did you mean \"web\""), "{said}");

    // Killed: nobody says anything.
    b.stop(Signal::SIGKILL);
    becomes(&a, "active");
    assert_eq!(lab.owners(), mac_of(0));
    assert!(lab.is_served());
    assert_eq!(reason(&a), "no advertisement from an Active router");

    // Stopped: it says that it leaves.
    b.start_again();
    becomes(&b, "backup");
    eventually("B hears A", || {
        status(&b)["groups"][0]["routers"][0]["heard"][0]["from"].is_string().then_some(())
    });
    a.stop(Signal::SIGTERM);
    becomes(&b, "active");
    assert_eq!(reason(&b), "10.0.0.1 left");
    assert_eq!(lab.owners(), mac_of(1));

    // It stands still, and goes on when the other has taken over: as a backup, without a word of its own.
    a.start_again();
    becomes(&a, "backup");
    eventually("A hears B", || {
        status(&a)["groups"][0]["routers"][0]["heard"][0]["from"].is_string().then_some(())
    });
    b.signal(Signal::SIGSTOP);
    becomes(&a, "active");
    b.signal(Signal::SIGCONT);
    becomes(&b, "backup");
    becomes(&a, "active");
    assert_eq!(lab.owners(), mac_of(0));
    assert!(lab.is_served());

    // Maintenance: it takes no part until that is over.
    assert!(ha(&a, &["maint", "on"]).status.success());
    becomes(&a, "initialize");
    becomes(&b, "active");
    assert_eq!(lab.owners(), mac_of(1));
    assert!(ha(&a, &["maint", "off", "web"]).status.success());
    becomes(&a, "backup");
    assert_eq!(state(&b), "active", "who is active stays so");
}

#[test]
fn a_reload_keeps_who_is_active_and_priorities_follow_what_they_are_told_to() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let well = folder.path().join("well");
    let script = format!(
        "track = [{{ script = \"well\" }}]\n\n[[vrrp_script]]\nname = \"well\"\ncommand = [\"/usr/bin/test\", \"-e\", \
         \"{}\"]\ninterval = \"100ms\"\n",
        well.display()
    );
    std::fs::write(&well, "").unwrap();
    let mut a = lab.start(0, 150, &script);
    becomes(&a, "active");
    let b = lab.start(1, 100, "");
    becomes(&b, "backup");

    // Another priority, and an address more, which A alone answers for.
    let more = format!("excluded_addresses = [\"10.0.0.101\"]\n{script}");
    let takeovers = || status(&a)["groups"][0]["routers"][0]["counts"]["takeovers"].clone();
    let before = takeovers();
    a.reload(&config(0, 200, &more));
    let after = status(&a);
    let group = &after["groups"][0];
    assert_eq!((&group["state"], &group["priority"]), (&"active".into(), &200.into()), "{after}");
    assert_eq!(group["routers"][0]["counts"]["takeovers"], before, "nothing was left and taken again");
    assert_eq!(lab.owners(), mac_of(0));
    let plan = Command::new(uvs()).args(["plan", "--socket"]).arg(a.get().socket()).output().unwrap();
    assert!(plan.status.success(), "{plan:?}");
    eventually("the new address is there", || lab.pings("10.0.0.101").then_some(()));

    // What is down without which A takes no part.
    std::fs::remove_file(&well).unwrap();
    becomes(&b, "active");
    becomes(&a, "initialize");
    assert_eq!(reason(&a), "script well is down");
    assert_eq!(lab.owners(), mac_of(1));
    std::fs::write(&well, "").unwrap();
    becomes(&a, "backup");

    // The link of the active one is cut, at its far end: it finds out by itself.
    lab.switch.net().down("port4").unwrap();
    becomes(&b, "initialize");
    assert_eq!(reason(&b), "interface c0 is down");
    becomes(&a, "active");
    lab.switch.net().up("port4").unwrap();
    becomes(&b, "backup");
    assert_eq!(lab.owners(), mac_of(0));
    assert!(lab.is_served());
}

impl Lab {
    fn pings(&self, address: &str) -> bool {
        let to = address.parse().unwrap();
        self.client.run(|| uvs_lab::server::ping(to, Duration::from_millis(500))).unwrap().unwrap_or(false)
    }
}

/// Waits longer than [`eventually`]: for timers of others, of seconds each.
fn in_time<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
