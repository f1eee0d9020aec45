//! `uvs doctor` in labs with one fault each, and in labs with none.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use uvs_lab::Host;
use uvs_lab::director::Director;
use uvs_lab::topology::{Method, Plan, SERVICE_PORT, VIP};

use crate::attach::{Lab, V4, at, with_capabilities};
use crate::layer3;
use crate::peer::{Peer, Talk};
use crate::stage::{NAT_PORT, Running, Stage, eventually, topology, turn, uvs, with_keys};

/// What it says of a director's host: the kinds of its findings but for notes, all of it, and its exit status.
struct Report {
    kinds: Vec<String>,
    text: String,
    code: Option<i32>,
}

fn doctor(stage: &mut Stage) -> Report {
    let socket = stage.director().get().socket().to_owned();
    doctor_on(&stage.topology.director, &["--socket", socket.to_str().unwrap()])
}

fn doctor_on(host: &Host, words: &[&str]) -> Report {
    doctor_by(host, Command::new(uvs()), words)
}

/// The same, where `command` becomes `uvs` in the end.
fn doctor_by(host: &Host, mut command: Command, words: &[&str]) -> Report {
    let output = host.run(|| command.args(["doctor", "--json"]).args(words).output().unwrap()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let found = report["findings"].as_array().unwrap();
    let ill = found.iter().filter(|it| it["severity"] != "note");
    let kinds = ill.map(|it| it["kind"].as_str().unwrap().to_owned()).collect();
    Report { kinds, text, code: output.status.code() }
}

/// `uvs`, started by the words of a line.
fn through(line: &[&str]) -> Command {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).arg(uvs());
    command
}

/// It finds just that, soon.
fn finds(stage: &mut Stage, kind: &str) -> String {
    finds_by(kind, || doctor(stage))
}

fn finds_by(kind: &str, mut doctor: impl FnMut() -> Report) -> String {
    let mut last = String::new();
    for _ in 0..20 {
        let report = doctor();
        if report.kinds == [kind] {
            assert_eq!(report.code, Some(1), "{}", report.text);
            return report.text;
        }
        last = report.text;
    }
    panic!("it does not find {kind}, and nothing beside:\n{last}");
}

fn is_well(stage: &mut Stage) {
    let report = doctor(stage);
    assert!(report.kinds.is_empty() && report.code == Some(0), "{}", report.text);
}

/// A network whose bridges no firewall looks at, as it should be, and everything on it.
fn stage(method: Method, plan: &Plan) -> Stage {
    let topology = topology(method, plan);
    topology.director.plain_bridges().unwrap();
    let config = topology.config.clone();
    Stage::on(topology, &config)
}

fn run(host: &Host, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = host.run(|| Command::new(words[0]).args(&words[1..]).output().unwrap()).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Tries to speak with the service, in vain perhaps.
fn knock(host: &Host, service: std::net::SocketAddr) {
    let _ =
        host.run(|| std::net::TcpStream::connect_timeout(&service, Duration::from_millis(1500)).map(drop));
}

#[test]
fn healthy_labs_have_no_findings() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let mut stage = stage(method, &Plan::default());
        let service = stage.topology.service;
        for _ in 0..6 {
            let served = stage.client().run(|| Talk::open(service).map(|talk| talk.server)).unwrap();
            served.unwrap();
        }
        is_well(&mut stage);
    }
}

#[test]
fn faults_of_a_nat_lab_are_named() {
    let Some(_turn) = turn() else { return };
    let mut stage = stage(Method::Nat, &Plan::default());
    let director = stage.topology.director.clone();
    let service = stage.topology.service;

    // Another station has the VIP.
    let other = stage.topology.real_servers[0].host.clone();
    let client = stage.client().clone();
    run(&client, &format!("ip address add {VIP}/32 dev eth0"));
    let text = finds(&mut stage, "two-owners");
    assert!(text.contains(&VIP.to_string()), "{text}");
    run(&client, &format!("ip address del {VIP}/32 dev eth0"));
    is_well(&mut stage);

    // A service whose VIP nobody can find, and one without destinations that take connections.
    let server = stage.topology.real_servers[0].listen;
    assert_eq!(stage.director().adm_with("-A -t 203.0.113.9:80 -s rr", "").code, Some(0));
    stage.director().adm(&format!("-a -t 203.0.113.9:80 -r {server} -m"));
    finds(&mut stage, "vip-nowhere");
    stage.director().adm("-D -t 203.0.113.9:80");
    stage.director().adm(&format!("-A -t {VIP}:81 -s rr"));
    stage.director().adm(&format!("-a -t {VIP}:81 -r {server} -m -w 0"));
    finds(&mut stage, "no-destination");
    stage.director().adm(&format!("-D -t {VIP}:81"));
    is_well(&mut stage);

    // A destination that is not there.
    let mut nobody = server;
    nobody.set_ip(Ipv4Addr::new(10, 0, 1, 99).into());
    if let (std::net::IpAddr::V4(real), std::net::IpAddr::V4(mut none)) = (server.ip(), nobody.ip()) {
        let [a, b, c, _] = real.octets();
        none = Ipv4Addr::new(a, b, c, none.octets()[3]);
        nobody.set_ip(none.into());
    }
    stage.director().adm(&format!("-A -t {VIP}:82 -s rr"));
    stage.director().adm(&format!("-a -t {VIP}:82 -r {nobody} -m"));
    let (client, vip) = (stage.client().clone(), VIP);
    let knocking = std::thread::spawn(move || {
        for _ in 0..12 {
            knock(&client, (vip, 82).into());
        }
    });
    let text = finds(&mut stage, "next-hop");
    assert!(text.contains(&nobody.ip().to_string()), "{text}");
    knocking.join().unwrap();
    stage.director().adm(&format!("-D -t {VIP}:82"));

    // The firewall of the host looks at the bridges, and one of its own is in the way. (With `attach` there are none.)
    let has_bridges = fs::read_to_string(stage.director().file()).unwrap().contains("\nbridge = ");
    if has_bridges {
        let key = "net.bridge.bridge-nf-call-iptables";
        if director.sysctl(key).unwrap().is_some() {
            director.set_sysctl(key, "1").unwrap();
            finds(&mut stage, "bridge-netfilter");
            director.set_sysctl(key, "0").unwrap();
        }
        run(&director, "nft add table bridge lab");
        run(
            &director,
            "nft add chain bridge lab pass { type filter hook forward priority 0 ; policy drop ; }",
        );
        finds(&mut stage, "firewall");
        run(&director, "nft delete table bridge lab");
    }

    // A real server as client of its own service.
    let hairpins = || knock(&other, service);
    hairpins();
    hairpins();
    hairpins();
    hairpins();
    let report = doctor(&mut stage);
    assert!(report.kinds.contains(&"hairpin".to_owned()), "{}", report.text);

    // A link that is gone.
    run(&director, "ip link del eth0");
    eventually("the interface is not well", || {
        doctor(&mut stage).kinds.contains(&"interface".to_owned()).then_some(())
    });
}

#[test]
fn answers_by_nat_that_pass_the_director_by_are_named() {
    let Some(_turn) = turn() else { return };
    let mut stage = stage(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let server = stage.topology.real_servers[0].host.clone();
    // It has no way back to the clients.
    run(&server, "ip route del default");
    let service = stage.topology.service;
    for _ in 0..2 {
        knock(stage.client(), service);
        let client = stage.client().clone();
        client
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for _ in 0..5 {
                    socket.send_to(b"hello", service).unwrap();
                }
            })
            .unwrap();
    }
    finds(&mut stage, "one-way");
}

#[test]
fn a_real_server_that_answers_arp_is_named() {
    let Some(_turn) = turn() else { return };
    let mut stage = stage(Method::Direct, &Plan { suppress_arp: false, ..Plan::default() });
    let servers: Vec<String> =
        stage.topology.real_servers.iter().map(|server| server.address.to_string()).collect();
    // It knows them by their addresses once it has sent something to each.
    let service = stage.topology.service;
    let client = stage.client().clone();
    // Clients find whoever answers first: the director has to be it.
    let mac = "02:00:00:01:00:01";
    let _ = client.run(|| {
        Command::new("ip").args(["neigh", "replace", &VIP.to_string(), "lladdr", mac, "dev", "eth0"]).status()
    });
    for _ in 0..6 {
        knock(&client, service);
    }
    let mut report = doctor(&mut stage);
    for _ in 0..10 {
        if report.kinds.iter().any(|kind| kind == "server-answers-arp") {
            break;
        }
        report = doctor(&mut stage);
    }
    assert!(report.kinds.iter().any(|kind| kind == "server-answers-arp"), "{}", report.text);
    assert!(servers.iter().any(|server| report.text.contains(server)), "{}", report.text);
}

#[test]
fn packets_that_do_not_fit_into_a_tunnel_are_named() {
    let Some(_turn) = turn() else { return };
    let mut stage = stage(Method::Tunnel, &Plan::default());
    let client = stage.client().clone();
    client
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // The kernel forbids to cut them, until it is told of a smaller MTU.
            for _ in 0..3 {
                let _ = socket.send_to(&[0; 1472], (VIP, SERVICE_PORT));
            }
        })
        .unwrap();
    finds(&mut stage, "tunnel-mtu");
}

#[test]
fn without_a_director_the_host_is_looked_at() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    topology.director.plain_bridges().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uvs.toml");
    fs::write(&file, &topology.config).unwrap();
    let nothing = folder.path().join("nothing.sock");
    let (file, nothing) = (file.to_str().unwrap(), nothing.to_str().unwrap());
    let words = ["--socket", nothing, "--config", file];
    let report = doctor_on(&topology.director, &words);
    assert!(report.kinds.is_empty() && report.code == Some(0), "{}", report.text);
    assert!(report.text.contains("no director answers at"), "{}", report.text);
    fs::write(file, format!("[modules]\ncache = \"{file}\"\n\n{}", topology.config)).unwrap();
    assert_eq!(doctor_on(&topology.director, &words).kinds, ["module-cache"]);
    run(&topology.director, "ip link set eth0 mtu 1400");
    assert_eq!(doctor_on(&topology.director, &words).kinds, ["mtu", "module-cache"]);
    fs::write(file, "nonsense").unwrap();
    let said = Command::new(uvs()).args(["doctor", "--socket", nothing, "--config", file]).output().unwrap();
    assert_eq!(said.status.code(), Some(2), "it could not look: {said:?}");
}

/// What of the host itself is not as a director needs it, one after the other in the same lab.
#[test]
fn what_the_host_lacks_is_named() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    topology.director.plain_bridges().unwrap();
    let config = topology.config.clone();
    let mut stage = Stage::on(topology, &config);
    let host = stage.topology.director.clone();
    let pid = stage.director().get().id();
    let socket = stage.director().get().socket().to_str().unwrap().to_owned();
    let file = stage.director().file().to_str().unwrap().to_owned();
    let asked = ["--socket", &socket];
    is_well(&mut stage);

    // No device file, as in a container that was not given it.
    let hidden = "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", hidden];
    let text = finds_by("tun", || doctor_by(&host, through(&without), &asked));
    assert!(text.contains("No such file or directory"), "{text}");

    // Somebody who may not be a director.
    let poor = ["setpriv", "--bounding-set", "-net_admin"];
    let alone = ["--socket", "/nonexistent/uvs.sock", "--config", &file];
    let text = finds_by("capabilities", || doctor_by(&host, through(&poor), &alone));
    assert!(text.contains("whoever runs this lacks CAP_NET_ADMIN"), "{text}");

    // No device of a namespace can merge packets for good: what `ethtool` says of a card that does.
    let folder = tempfile::tempdir().unwrap();
    let ethtool = folder.path().join("ethtool");
    fs::write(&ethtool, "#!/bin/sh\ncase $2 in eth0) echo large-receive-offload: on;; esac\n").unwrap();
    fs::set_permissions(&ethtool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let text = finds_by("offload", || doctor_by(&host, through(&["env", &path]), &asked));
    assert!(text.contains("ethtool -K eth0 lro off"), "{text}");

    // Bounds of its process.
    let limit = |what: &str| run(&host, &format!("prlimit --pid {pid} {what}"));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(&format!("--nofile={}:", open + 3));
    finds(&mut stage, "open-files");
    limit(&format!("--nofile={}:", open + 1000));
    limit("--as=70368744177664:");
    finds(&mut stage, "address-space");
    limit("--as=unlimited:");
    is_well(&mut stage);
}

#[test]
fn interfaces_that_are_not_accelerated_are_named() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    topology.director.plain_bridges().unwrap();
    let config = with_keys(&topology.config, "accelerate=auto");
    let mut stage = Stage::on(topology, &config);
    let report = doctor(&mut stage);
    assert_eq!(report.kinds, ["flow-cache", "flow-cache"], "{}", report.text);
    assert!(report.text.contains("no link of its own"), "{}", report.text);
}

/// A veth takes all frames, so that nobody misses CAP_NET_RAW.
#[test]
fn a_director_that_has_what_it_needs_lacks_nothing() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let uvs = with_capabilities(&folder, "-all,+net_admin,+bpf");
    let lab = Lab::new(&V4);
    let _server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let director = Director::start(&lab.director, &uvs, &lab.config()).unwrap();
    let report = doctor_on(&lab.director, &["--socket", director.socket().to_str().unwrap()]);
    assert!(report.kinds.is_empty() && report.code == Some(0), "{}", report.text);
}

/// Somebody else on the host goes on setting what the director goes on mending.
#[test]
fn a_kernel_that_does_not_route_to_a_tun_device_is_named() {
    let Some(_turn) = turn() else { return };
    let layer3::Hosts { director: host, servers: [one, two], .. } = &layer3::hosts();
    for name in ["all", "default"] {
        host.set_sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "0").unwrap();
    }
    let _peers = [(one, 11), (two, 12)]
        .map(|(host, last)| Peer::start(host, std::net::SocketAddr::from(([192, 168, 20, last], NAT_PORT))));
    let running = Running::start(host, &layer3::config());
    let socket = running.get().socket().to_str().unwrap().to_owned();
    let look = || doctor_on(host, &["--socket", &socket]);
    let report = look();
    assert!(report.kinds.is_empty(), "{}", report.text);
    for (kind, key, value) in
        [("ip-forward", "net/ipv4/ip_forward", "0"), ("rp-filter", "net/ipv4/conf/t0/rp_filter", "1")]
    {
        let mut other = Command::new("sh");
        other.args(["-c", "while :; do echo $1 > /proc/sys/$0; sleep 0.01; done", key, value]);
        let _other = host.exec(other).unwrap();
        let text = finds_by(kind, look);
        assert!(text.contains(&format!("sysctl -w {}=", key.replace('/', "."))), "{text}");
    }
}
