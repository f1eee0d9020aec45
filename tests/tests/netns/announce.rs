//! Three directors that announce one VIP by a kernel route each, which BIRD, FRR and ExaBGP tell a router, and what
//! connections survive.
//!
//! ```text
//!   client 172.20.0.2 --- router 10.0.0.254 (BIRD, ECMP) --- switch --- d1, d2, d3 10.0.0.101 ..: BIRD, FRR, ExaBGP
//!                                                              |          `- c0: uvs 10.0.0.1 .., VIP 10.9.9.9
//!                                                              `------- rs1, rs2, rs3 10.0.0.11 .., VIP on lo (DR)
//! ```

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, mac};
use uvs_lab::{Host, Process};

use crate::peer::{Peer, Talk};
use crate::stage::{Running, skip, turn, uvs};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const REAL_SERVERS: [u8; 3] = [11, 12, 13];
/// A session has to come up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 120;

/// Where Debian has what is started here.
const BIRD: &str = "/usr/sbin/bird";
const ZEBRA: &str = "/usr/lib/frr/zebra";
const BGPD: &str = "/usr/lib/frr/bgpd";
const EXABGP: &str = "/usr/sbin/exabgp";

fn service() -> SocketAddr {
    (VIP, 80).into()
}

fn until<T>(what: &str, mut ready: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ready() {
            Ok(answer) => return answer,
            Err(now) => assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; it is {now}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program on a host and returns what it wrote.
fn output(host: &Host, program: impl AsRef<Path>, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).env("NO_COLOR", "1");
    let output = host.run(move || command.output().unwrap()).unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn start(host: &Host, program: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    host.exec(command).unwrap()
}

/// A director and the daemon that speaks for it.
struct Node {
    number: u8,
    running: Running,
    _daemons: Vec<Process>,
    host: Host,
}

impl Node {
    fn host(switch: &Host, number: u8) -> Host {
        let name = format!("d{number}");
        let host = Host::new(&name).unwrap();
        let port = format!("port{number}");
        let far = End { host: switch, name: &port, mac: mac(1, 150 + number) };
        connect(End { host: &host, name: "eth0", mac: mac(1, 110 + number) }, far).unwrap();
        switch.net().plug(&port, "br0").unwrap();
        host.net().add_bridge("br0", mac(1, 110 + number)).unwrap();
        host.net().plug("eth0", "br0").unwrap();
        host.net().add_address("br0", format!("10.0.0.{}/24", 100 + number).parse().unwrap()).unwrap();
        host.plain_bridges().unwrap();
        router_of(&host);
        host
    }

    fn config(number: u8) -> String {
        let destinations: Vec<String> =
            // Each has its own order.
            (0..3).map(|at| format!("{{ address = \"10.0.0.{}\" }}", REAL_SERVERS[(at + usize::from(number)) % 3])).collect();
        format!(
            "[metrics]\nlisten = \"{METRICS}\"\n\n\
             [[interface]]\nname = \"c0\"\ndevice = \"tap\"\naddresses = [\"10.0.0.{number}/24\", \"{VIP}/32\"]\n  \
             bridge = {{ name = \"br0\", ports = [\"eth0\"] }}\naccelerate = \"off\"\n\n\
             [[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.0.0.254\"\n\n\
             [announce]\nhold = 0\nlinger = 1\n\n\
             [[service]]\nprotocol = \"tcp\"\naddress = \"{VIP}:80\"\nscheduler = \"maglev\"\noptions = \"port\"\n\
             sloppy_tcp = true\nforward = \"dr\"\ndestination = [{}]\n",
            destinations.join(", ")
        )
    }

    fn start(host: Host, number: u8, folder: &Path) -> Self {
        let running = Running::start(&host, &Self::config(number));
        let daemons = match number {
            1 => vec![bird_of_director(&host, number, folder)],
            2 => frr(&host, number, folder),
            _ => vec![exabgp(&host, number, folder, running.get().socket())],
        };
        Self { number, running, _daemons: daemons, host }
    }

    /// `uvs announce WHAT`: whether it was done, and what it says.
    fn announce(&self, what: &str) -> (bool, String) {
        let socket = self.running.get().socket().display().to_string();
        output(&self.host, uvs(), &["announce", what, "--socket", &socket])
    }

    fn adm(&self, line: &str) {
        let socket = self.running.get().socket().display().to_string();
        let words: Vec<&str> = ["adm", "--socket", &socket].into_iter().chain(line.split(' ')).collect();
        let (done, said) = output(&self.host, uvs(), &words);
        assert!(done, "d{}: {line}: {said}", self.number);
    }

    /// The route that announces the VIP, as `ip route` has it.
    fn route(&self) -> String {
        output(&self.host, "ip", &["route", "show", "proto", "199"]).1
    }
}

fn router_of(host: &Host) {
    for (key, value) in [
        ("ip_forward", "1"),
        ("conf.all.rp_filter", "0"),
        ("conf.default.rp_filter", "0"),
        ("conf.all.send_redirects", "0"),
        ("fib_multipath_hash_policy", "1"),
    ] {
        host.set_sysctl(&format!("net.ipv4.{key}"), value).unwrap();
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn bird(host: &Host, name: &str, folder: &Path, config: &str) -> Process {
    let file = write(folder, &format!("{name}.conf"), config);
    let socket = folder.join(format!("{name}.ctl")).display().to_string();
    start(host, BIRD, &["-f", "-c", &file, "-s", &socket])
}

fn bird_of_router(host: &Host, folder: &Path) -> Process {
    let mut config = "router id 10.0.0.254;\nprotocol device {}\n\
        protocol kernel { merge paths on; ipv4 { import none; export all; }; }\n"
        .to_owned();
    for number in 1..=3 {
        config += &format!(
            "protocol bgp d{number} {{ local 10.0.0.254 as 65000; neighbor 10.0.0.{} as 65010; passive on; \
             ipv4 {{ import all; export none; }}; }}\n",
            100 + number
        );
    }
    bird(host, "router", folder, &config)
}

fn bird_of_director(host: &Host, number: u8, folder: &Path) -> Process {
    let own = 100 + number;
    let config = format!(
        "router id 10.0.0.{own};\nprotocol device {{}}\n\
         protocol kernel {{ learn; ipv4 {{ import where krt_source = 199; export none; }}; }}\n\
         protocol bgp up {{ local 10.0.0.{own} as 65010; neighbor 10.0.0.254 as 65000; connect delay time 1; \
         connect retry time 1; error wait time 1, 2; ipv4 {{ import none; export filter {{ bgp_origin = ORIGIN_IGP; accept; }}; \
         next hop self; }}; }}\n"
    );
    bird(host, "director", folder, &config)
}

fn frr(host: &Host, number: u8, folder: &Path) -> Vec<Process> {
    let own = 100 + number;
    let zebra = write(folder, "zebra.conf", "hostname director\n");
    let bgpd = write(
        folder,
        "bgpd.conf",
        &format!(
            "router bgp 65010\n bgp router-id 10.0.0.{own}\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.0.254 remote-as 65000\n neighbor 10.0.0.254 timers connect 1\n \
             address-family ipv4 unicast\n  redistribute kernel route-map VIPS\n exit-address-family\n\
             ip prefix-list VIPS permit {VIP}/32\nroute-map VIPS permit 10\n match ip address prefix-list VIPS\n \
             set origin igp\n set metric 0\n"
        ),
    );
    let path = |name: &str| folder.join(name).display().to_string();
    let (sockets, zserv) = (folder.display().to_string(), path("zserv.api"));
    // They give up root for a user of their own.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    let common = ["--vty_socket", &sockets, "-z", &zserv];
    let of = |config: &str, pid: &str, more: &[&str]| -> Vec<String> {
        let own = ["-f", config, "-i", pid].into_iter().chain(more.iter().copied());
        common.into_iter().chain(own).map(str::to_owned).collect()
    };
    let run = |program: &str, arguments: Vec<String>| {
        start(host, program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let zebra = run(ZEBRA, of(&zebra, &path("zebra.pid"), &[]));
    until("zebra listens", || if folder.join("zserv.api").exists() { Ok(()) } else { Err(zebra.log()) });
    vec![zebra, run(BGPD, of(&bgpd, &path("bgpd.pid"), &["-p", "0"]))]
}

fn exabgp(host: &Host, number: u8, folder: &Path, socket: &Path) -> Process {
    let own = 100 + number;
    let config = format!(
        "process uvs {{\n  run {} announce exabgp --socket {};\n  encoder text;\n}}\n\
         neighbor 10.0.0.254 {{\n  router-id 10.0.0.{own};\n  local-address 10.0.0.{own};\n  local-as 65010;\n  \
         peer-as 65000;\n  family {{ ipv4 unicast; }}\n  api {{ processes [ uvs ]; }}\n}}\n",
        uvs().display(),
        socket.display()
    );
    let file = write(folder, "exabgp.conf", &config);
    let mut command = Command::new(EXABGP);
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("exabgp.daemon.user", "root").env("exabgp.api.cli", "false");
    host.exec(command).unwrap()
}

struct Lab {
    client: Host,
    router: Host,
    nodes: Vec<Node>,
    _peers: Vec<Peer>,
    _hosts: Vec<Host>,
    _bird: Process,
    _folders: Vec<TempDir>,
}

impl Lab {
    fn new() -> Self {
        let [client, router, switch] = ["client", "router", "switch"].map(|name| Host::new(name).unwrap());
        switch.net().add_bridge("br0", mac(1, 200)).unwrap();
        connect(
            End { host: &client, name: "eth0", mac: mac(2, 2) },
            End { host: &router, name: "eth1", mac: mac(2, 1) },
        )
        .unwrap();
        client.net().add_address("eth0", "172.20.0.2/24".parse().unwrap()).unwrap();
        client.net().add_default_route("172.20.0.1".parse().unwrap()).unwrap();
        router.net().add_address("eth1", "172.20.0.1/24".parse().unwrap()).unwrap();
        let plug = |host: &Host, last: u8| {
            let port = format!("port{last}");
            let far = End { host: &switch, name: &port, mac: mac(1, last ^ 0x80) };
            connect(End { host, name: "eth0", mac: mac(1, last) }, far).unwrap();
            switch.net().plug(&port, "br0").unwrap();
            host.net().add_address("eth0", format!("10.0.0.{last}/24").parse().unwrap()).unwrap();
        };
        plug(&router, 254);
        router_of(&router);
        let (mut hosts, mut peers) = (Vec::new(), Vec::new());
        for last in REAL_SERVERS {
            let host = Host::new(&format!("rs{last}")).unwrap();
            plug(&host, last);
            host.net().add_default_route("10.0.0.254".parse().unwrap()).unwrap();
            host.net().add_address("lo", format!("{VIP}/32").parse().unwrap()).unwrap();
            for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
                host.set_sysctl(&format!("net.ipv4.conf.all.{key}"), value).unwrap();
            }
            peers.push(Peer::start(&host, service()));
            hosts.push(host);
        }
        let folders: Vec<TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let bird = bird_of_router(&router, folders[0].path());
        let nodes = (1..=3)
            .map(|number: u8| {
                let host = Node::host(&switch, number);
                Node::start(host, number, folders[usize::from(number)].path())
            })
            .collect();
        hosts.push(switch);
        Self { client, router, nodes, _peers: peers, _hosts: hosts, _bird: bird, _folders: folders }
    }

    /// Waits until the router's route to the VIP has these directors as next hops, and no others.
    fn wait_for(&self, directors: &[u8]) {
        until(&format!("the router has next hops {directors:?}"), || {
            let text = output(&self.router, "ip", &["route", "show", &format!("{VIP}/32")]).1;
            // The daemon names the host's address, or that of the director beside it.
            let has = |number: u8| {
                text.contains(&format!("via 10.0.0.{} ", 100 + number))
                    || text.contains(&format!("via 10.0.0.{number} "))
            };
            match (1..=3).all(|number| has(number) == directors.contains(&number)) {
                true => Ok(()),
                false => {
                    let logs: Vec<String> =
                        self.nodes.iter().flat_map(|it| &it._daemons).map(Process::log).collect();
                    Err(format!("{text}\n{}", logs.join("\n--\n")))
                }
            }
        });
    }

    fn open(&self, talks: &mut Vec<Talk>) {
        while talks.len() < CONNECTIONS {
            talks.push(self.client.run(|| Talk::open(service())).unwrap().unwrap());
        }
    }
}

/// How many connections still talk, in per cent; the others are given up.
fn surviving(talks: &mut Vec<Talk>) -> f64 {
    let all = talks.len();
    let sent: Vec<bool> = talks.iter_mut().map(|talk| talk.send(b"on").is_ok()).collect();
    let mut sent = sent.into_iter();
    talks.retain_mut(|talk| sent.next().unwrap() && talk.hear(b"on", Duration::from_secs(10)).is_ok());
    100.0 * talks.len() as f64 / all as f64
}

#[test]
fn directors_come_and_go_and_connections_stay() {
    let Some(_turn) = turn() else { return };
    for program in [BIRD, ZEBRA, BGPD, EXABGP] {
        if !Path::new(program).exists() {
            return skip(&format!("{program} (apt-get install bird2 frr exabgp)"));
        }
    }
    let mut lab = Lab::new();
    lab.wait_for(&[1, 2, 3]);
    for node in &lab.nodes {
        let route = node.route();
        let want = format!("{VIP} via 10.0.0.{} dev c0 metric 50 onlink", node.number);
        assert!(route.starts_with(&want), "{route}");
        let (all, said) = node.announce("status");
        assert!(all && said.contains("10.9.9.9") && said.contains("yes"), "{said}");
        assert_eq!(node.running.metric("uvs_vip_announced", &[("vip", "10.9.9.9")]), 1);
    }

    let mut talks = Vec::new();
    let mut table = Vec::new();
    lab.open(&mut talks);
    assert!(surviving(&mut talks) >= 100.0);

    assert!(lab.nodes[0].announce("off").0);
    assert_eq!(lab.nodes[0].route(), "");
    lab.wait_for(&[2, 3]);
    table.push(("a director is withdrawn (BIRD)", surviving(&mut talks)));
    lab.open(&mut talks);
    assert!(lab.nodes[0].announce("on").0);
    lab.wait_for(&[1, 2, 3]);
    table.push(("it is announced again", surviving(&mut talks)));

    lab.open(&mut talks);
    lab.nodes[1].running.stop(Signal::SIGTERM);
    lab.wait_for(&[1, 3]);
    table.push(("a director ends (FRR)", surviving(&mut talks)));
    lab.open(&mut talks);
    lab.nodes[1].running.start_again();
    lab.wait_for(&[1, 2, 3]);
    table.push(("it has begun anew", surviving(&mut talks)));

    lab.open(&mut talks);
    lab.nodes[0].running.stop(Signal::SIGKILL);
    lab.wait_for(&[2, 3]);
    table.push(("a director is killed (BIRD)", surviving(&mut talks)));
    lab.nodes[0].running.start_again();
    lab.wait_for(&[1, 2, 3]);

    lab.open(&mut talks);
    lab.nodes[2].running.stop(Signal::SIGKILL);
    lab.wait_for(&[1, 2]);
    table.push(("a director is killed (ExaBGP)", surviving(&mut talks)));
    lab.open(&mut talks);
    for node in &lab.nodes[..2] {
        node.adm(&format!("-e -t {VIP}:80 -r 10.0.0.12:80 -g -w 0"));
    }
    table.push(("a destination is drained", surviving(&mut talks)));

    // One that has nobody to send new connections to is not for the router.
    for last in [11, 13] {
        lab.nodes[1].adm(&format!("-e -t {VIP}:80 -r 10.0.0.{last}:80 -g -w 0"));
    }
    lab.wait_for(&[1]);
    let (all, said) = lab.nodes[1].announce("status");
    assert!(!all && said.contains("no destination takes new connections"), "{said}");
    lab.nodes[1].adm(&format!("-e -t {VIP}:80 -r 10.0.0.11:80 -g -w 1"));
    lab.wait_for(&[1, 2]);

    println!(
        "share of {CONNECTIONS} connections that survive, in %; 3 directors, 3 real servers, maglev, sloppy_tcp"
    );
    for (event, share) in &table {
        println!("  {event:<40} {share:>6.1}");
    }
    for (event, share) in table {
        assert!(share >= 100.0, "{event}: {share} %");
    }
}
