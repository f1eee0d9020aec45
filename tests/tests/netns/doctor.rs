//! `uvs doctor` in labs with one fault each, and in labs with none.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use uvs_lab::Host;
use uvs_lab::topology::{Method, Plan, SERVICE_PORT, VIP};

use crate::peer::Talk;
use crate::stage::{Stage, eventually, topology, turn, uvs};

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
    let output =
        host.run(|| Command::new(uvs()).args(["doctor", "--json"]).args(words).output().unwrap()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let found = report["findings"].as_array().unwrap();
    let ill = found.iter().filter(|it| it["severity"] != "note");
    let kinds = ill.map(|it| it["kind"].as_str().unwrap().to_owned()).collect();
    Report { kinds, text, code: output.status.code() }
}

/// It finds just that, soon.
fn finds(stage: &mut Stage, kind: &str) -> String {
    let mut last = String::new();
    for _ in 0..20 {
        let report = doctor(stage);
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
