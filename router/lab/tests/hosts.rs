//! Hosts and topologies on the kernel alone, no director.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::server::{self, Server, ask_tcp, ask_udp};
use uvs_lab::topology::{Method, Plan, Topology, mac};

use common::root;

const SHORT: Duration = Duration::from_secs(2);

fn ping(from: &Host, to: IpAddr) -> bool {
    let IpAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    from.run(|| server::ping(to, Duration::from_millis(700))).unwrap().unwrap()
}

/// Processes and threads that are in one of the namespaces, or hold one open.
fn holders(namespaces: &[u64]) -> Vec<String> {
    let names: Vec<_> = namespaces.iter().map(|id| format!("net:[{id}]")).collect();
    let held = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|to| names.iter().any(|name| to.as_os_str() == name.as_str()))
    };
    let list =
        |path: std::path::PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    list("/proc".into())
        .filter(|process| process.join("task").exists())
        .flat_map(|process| {
            let tasks = list(process.join("task")).map(|task| task.join("ns/net"));
            tasks.chain(list(process.join("fd"))).collect::<Vec<_>>()
        })
        .filter(|path| held(path))
        .map(|path| path.display().to_string())
        .collect()
}

fn assert_gone(namespaces: &[u64]) {
    let deadline = std::time::Instant::now() + SHORT;
    loop {
        let left = holders(namespaces);
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "still held by {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pair() -> (Host, Host) {
    let (a, b) = (Host::new("a").unwrap(), Host::new("b").unwrap());
    connect(End { host: &a, name: "eth0", mac: mac(1, 1) }, End { host: &b, name: "eth0", mac: mac(1, 2) })
        .unwrap();
    a.net().add_address("eth0", "10.0.0.1/24".parse().unwrap()).unwrap();
    b.net().add_address("eth0", "10.0.0.2/24".parse().unwrap()).unwrap();
    (a, b)
}

#[test]
fn two_hosts_reach_each_other_and_nobody_else() {
    if !root() {
        return;
    }
    let (a, b) = pair();
    let macs =
        |host: &Host| host.net().links().unwrap().into_iter().find(|link| link.name == "eth0").unwrap().mac;
    assert_eq!((macs(&a), macs(&b)), (Some(mac(1, 1)), Some(mac(1, 2))));
    assert!(ping(&a, "10.0.0.2".parse().unwrap()), "a pings b");
    assert!(!ping(&a, "10.0.0.3".parse().unwrap()), "nobody is 10.0.0.3");
    let server = Server::start(&b, "10.0.0.2:53".parse::<SocketAddr>().unwrap()).unwrap();
    let service = "10.0.0.2:53".parse().unwrap();
    let (tcp, udp) = a
        .run(|| {
            let tcp = ask_tcp(service, "/x", SHORT).unwrap();
            let request = ask_udp(service, "x").unwrap();
            let udp = request.answer(SHORT).unwrap();
            request.check_no_more().unwrap();
            (tcp, udp)
        })
        .unwrap();
    assert_eq!((tcp.server.as_str(), udp.server.as_str()), ("b", "b"));
    assert_eq!(tcp.client.ip(), "10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(server.served(), (1, 1));
    a.run(|| ask_tcp("10.0.0.2:54".parse().unwrap(), "/", SHORT).unwrap_err()).unwrap();
}

#[test]
fn a_pulled_cable_and_an_answer_from_the_wrong_place_are_noticed() {
    if !root() {
        return;
    }
    let (a, b) = pair();
    // A server that answers with somebody else's answer.
    let liar = b.run(|| UdpSocket::bind("10.0.0.2:7")).unwrap().unwrap();
    let request = a.run(|| ask_udp("10.0.0.2:7".parse().unwrap(), "mine")).unwrap().unwrap();
    let mut buffer = [0; 64];
    let (_, client) = liar.recv_from(&mut buffer).unwrap();
    for _ in 0..2 {
        liar.send_to(b"b answers 10.0.0.9:1 who asked for yours\n", client).unwrap();
    }
    let error = request.answer(SHORT).unwrap_err().to_string();
    assert!(error.contains("wrong answer"), "{error}");
    let error = request.check_no_more().unwrap_err().to_string();
    assert!(error.contains("second answer"), "{error}");
    b.net().down("eth0").unwrap();
    assert!(!ping(&a, "10.0.0.2".parse().unwrap()), "the cable is pulled");
}

#[test]
fn nothing_is_left_when_hosts_are_dropped() {
    if !root() {
        return;
    }
    let (a, b) = pair();
    let ids = [a.namespace_id().unwrap(), b.namespace_id().unwrap()];
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut sleep = a.exec(sleep).unwrap();
    assert!(!holders(&ids).is_empty());
    drop((a, b));
    // Killed by the kernel, not by us.
    let status = sleep.wait(SHORT).unwrap();
    assert!(!status.success(), "{status}");
    assert_gone(&ids);
}

#[test]
fn nothing_is_left_when_the_owner_is_killed() {
    if !root() {
        return;
    }
    // This very test program, running `a_lab_to_be_killed` only.
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_lab_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    let line = lines
        .find_map(|line| line.unwrap().split("lab: ").nth(1).map(str::to_owned))
        .expect("it tells its ids");
    let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let (sleep, ids) = numbers.split_first().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{sleep}")).exists());
    assert!(holders(ids).len() > 2, "the lab is up");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_gone(ids);
    assert!(!std::path::Path::new(&format!("/proc/{sleep}/ns/net")).exists(), "its process is gone");
}

#[test]
#[ignore = "run and killed by nothing_is_left_when_the_owner_is_killed"]
fn a_lab_to_be_killed() {
    let topology = Topology::build(Method::Nat, &Plan::default()).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let sleep = topology.director.exec(sleep).unwrap();
    let ids: Vec<_> = topology
        .hosts()
        .chain(&topology.switches)
        .map(|host| host.namespace_id().unwrap().to_string())
        .collect();
    println!("lab: {} {}", sleep.id(), ids.join(" "));
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn topologies_are_wired_as_drawn_and_their_configs_are_valid() {
    if !root() {
        return;
    }
    for method in Method::ALL {
        for (clients, real_servers) in [(1, 3), (3, 1)] {
            let plan = Plan { clients, real_servers, ..Plan::default() };
            let topology = Topology::build(method, &plan).unwrap();
            assert_eq!((topology.clients.len(), topology.real_servers.len()), (clients, real_servers));
            if let Err(problems) = uvs_config::Config::parse(&topology.config, "topology.toml") {
                panic!("{method}: {problems}\n{}", topology.config);
            }
            // Without a director only what is on one segment, or behind the router, is reached.
            let first = &topology.clients[0].host;
            for server in &topology.real_servers {
                if method == Method::Tunnel {
                    first.net().add_route("10.0.0.0/8".parse().unwrap(), "10.0.0.254".parse().unwrap()).ok();
                }
                assert_eq!(
                    ping(first, server.address.into()),
                    method != Method::Nat,
                    "{method}: {}",
                    server.address
                );
            }
            let vip_owners = ping(first, topology.service.ip());
            assert!(!vip_owners, "{method}: somebody answers ARP for the VIP");
        }
    }
}

#[test]
fn real_servers_that_do_not_suppress_arp_take_the_vip() {
    if !root() {
        return;
    }
    let plan = Plan { suppress_arp: false, ..Plan::default() };
    let topology = Topology::build(Method::Direct, &plan).unwrap();
    assert!(ping(&topology.clients[0].host, topology.service.ip()), "that is what ARP suppression is for");
}
