//! Real servers and clients on the director's own host, by way of a TUN device.
//!
//! ```text
//!   client --- eth0 [ the host's kernel: processes at H ] eth1 --- rs1
//!                          |  H   ^
//!                          v      |
//!                    t0: the director, VIP
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nix::sys::signal::Signal;
use uvs_device::net::{Net, RouteState, read_sysctl};
use uvs_director::spec::{Family, Prefix};
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, mac};

use crate::peer::{Peer, Talk, ask_datagram, stream_both_ways};
use crate::stage::{NAT_PORT, Running, eventually, turn};

const LENGTH: u64 = 2 << 20;

/// The addresses of the drawing.
struct Plan {
    family: Family,
    prefix_len: u8,
    client: &'static str,
    /// The host's on eth0 and eth1.
    gateways: [&'static str; 2],
    real_server: &'static str,
    /// H, on the device.
    host: &'static str,
    /// The director's own.
    director: &'static str,
    vip: &'static str,
}

const V4: Plan = Plan {
    family: Family::V4,
    prefix_len: 24,
    client: "172.20.0.2",
    gateways: ["172.20.0.1", "192.168.20.1"],
    real_server: "192.168.20.11",
    host: "10.255.0.1",
    director: "10.255.0.2",
    vip: "10.0.0.100",
};

const V6: Plan = Plan {
    family: Family::V6,
    prefix_len: 64,
    client: "2001:db8:1::2",
    gateways: ["2001:db8:1::1", "2001:db8:2::1"],
    real_server: "2001:db8:2::11",
    host: "2001:db8:ff::1",
    director: "2001:db8:ff::2",
    vip: "2001:db8:a::100",
};

/// Its hosts, and what the director's was like before the director ran.
struct Lab {
    plan: &'static Plan,
    client: Host,
    director: Host,
    real_server: Host,
    before: Snapshot,
}

impl Lab {
    fn new(plan: &'static Plan) -> Self {
        let [client, director, real_server] =
            ["client", "director", "rs1"].map(|name| Host::new(name).unwrap());
        if plan.family == Family::V6 {
            for host in [&client, &director, &real_server] {
                for which in ["all", "default"] {
                    host.set_sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "0").unwrap();
                    // Addresses work at once.
                    host.set_sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "0").unwrap();
                }
            }
        }
        let end = |host, name, segment, last| End { host, name, mac: mac(segment, last) };
        connect(end(&client, "eth0", 1, 2), end(&director, "eth0", 1, 1)).unwrap();
        connect(end(&real_server, "eth0", 2, 11), end(&director, "eth1", 2, 1)).unwrap();
        let give = |host: &Host, name: &str, address: &str| {
            let prefix = Prefix::new(address.parse().unwrap(), plan.prefix_len).unwrap();
            host.net().add_address(name, prefix).unwrap();
        };
        give(&client, "eth0", plan.client);
        give(&director, "eth0", plan.gateways[0]);
        give(&director, "eth1", plan.gateways[1]);
        give(&real_server, "eth0", plan.real_server);
        client.net().add_default_route(plan.gateways[0].parse().unwrap()).unwrap();
        real_server.net().add_default_route(plan.gateways[1].parse().unwrap()).unwrap();
        // The strict filter is what many systems start with.
        for name in ["all", "default", "eth0", "eth1"] {
            director.set_sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "1").unwrap();
        }
        for host in [&client, &director, &real_server] {
            eventually("the kernel has taken its addresses", || has_its_addresses(host).then_some(()));
        }
        let before = snapshot(&director);
        Self { plan, client, director, real_server, before }
    }

    /// A director whose host has these keys too, and which balances over these destinations, host by host.
    fn start(&self, keys: &str, destinations: &[&str]) -> Running {
        let Plan { host, director, vip, .. } = self.plan;
        let (subnet, own, any) = match self.plan.family {
            Family::V4 => (30, 32, "0.0.0.0/0"),
            Family::V6 => (64, 128, "::/0"),
        };
        let list: Vec<_> = destinations
            .iter()
            .map(|destination| format!("{{ address = \"{}\" }}", at(destination, NAT_PORT)))
            .collect();
        let list = list.join(", ");
        let service = |protocol: &str| {
            format!(
                "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{}\"\nscheduler = \"rr\"\n\
                 forward = \"nat\"\ndestination = [{list}]\n",
                at(vip, 80)
            )
        };
        let config = format!(
            "[metrics]\nlisten = \"{METRICS}\"\n\n\
             [[interface]]\nname = \"t0\"\ndevice = \"tun\"\naddresses = [\"{director}/{subnet}\", \"{vip}/{own}\"]\n\
             [interface.host]\naddresses = [\"{host}/{subnet}\"]\nroutes = [\"{vip}/{own}\"]\n\
             replies_from = [\"eth1\"]\nforwarding = true\n{keys}\n\n\
             [[route]]\nto = \"{any}\"\nvia = \"{host}\"\n{}{}",
            service("tcp"),
            service("udp")
        );
        Running::start(&self.director, &config)
    }

    fn service(&self) -> SocketAddr {
        at(self.plan.vip, 80)
    }

    /// Starts a server on the host: its address is there once the director runs.
    fn serve_here(&self) -> Peer {
        eventually("the host has taken its address", || has_its_addresses(&self.director).then_some(()));
        Peer::start(&self.director, at(self.plan.host, NAT_PORT))
    }

    fn serve_there(&self) -> Peer {
        Peer::start(&self.real_server, at(self.plan.real_server, NAT_PORT))
    }

    /// Streams, connections and datagrams from `host` under rr, each checked to the last byte; the servers have equal
    /// shares of them and see `client`.
    fn exercise(&self, host: &Host, client: &str, servers: &[&Peer]) {
        let service = self.service();
        let client: IpAddr = client.parse().unwrap();
        for seed in 0..servers.len() as u64 {
            let own = host.run(|| stream_both_ways(service, seed, LENGTH, || ()).unwrap()).unwrap();
            assert_eq!(own.ip(), client);
        }
        for server in servers {
            let streams = eventually("the real server has compared all", || {
                Some(server.streams()).filter(|it| !it.is_empty())
            });
            assert_eq!(streams, [Ok(())]);
        }
        for number in 0..4 * servers.len() {
            host.run(|| Talk::open(service).unwrap().say(&number.to_be_bytes()).unwrap()).unwrap();
        }
        // A datagram's socket is of IPv4.
        let sizes = [0, 1, 700, 1472].repeat(servers.len());
        let sizes = if service.is_ipv4() { &sizes[..] } else { &[] };
        for &size in sizes {
            host.run(|| ask_datagram(service, size).unwrap()).unwrap();
        }
        for server in servers {
            assert_eq!(server.clients().len(), 5, "rr gives equal shares");
            assert_eq!(server.datagrams().len() * servers.len(), sizes.len(), "rr gives equal shares");
            let seen = [server.clients(), server.datagrams()].concat();
            assert!(seen.iter().all(|seen| seen.ip() == client), "{seen:?}");
        }
    }

    /// Stops the director; its host has to be what it was.
    fn stop(&self, mut running: Running) {
        assert_ne!(
            snapshot(&self.director),
            self.before,
            "the snapshot sees what the director does to its host"
        );
        assert!(running.stop(Signal::SIGTERM).success());
        let after = snapshot(&self.director);
        assert_eq!(after, self.before);
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Whether its addresses can be used, which takes those of IPv6 a moment.
pub(crate) fn has_its_addresses(host: &Host) -> bool {
    let (addresses, routes) =
        ask(host, async |net| (net.addresses().await.unwrap(), net.routes().await.unwrap()));
    addresses.iter().all(|(_, address)| routes.iter().any(|route| route.to == Prefix::host(address.addr())))
}

fn ask<T: Send>(host: &Host, question: impl AsyncFnOnce(&Net) -> T + Send) -> T {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async { question(&Net::new().unwrap()).await })
    };
    host.run(work).unwrap()
}

/// What the director may change of its host.
#[derive(Debug, PartialEq)]
struct Snapshot {
    rules: Vec<String>,
    routes: Vec<RouteState>,
    sysctls: BTreeMap<String, String>,
}

fn snapshot(host: &Host) -> Snapshot {
    let (rules, mut routes) = ask(host, async |net| {
        let mut rules = net.rules(Family::V4).await.unwrap();
        rules.extend(net.rules(Family::V6).await.unwrap());
        (rules, net.routes().await.unwrap())
    });
    routes.sort();
    let rules = rules.iter().map(|rule| format!("{rule:?}")).collect();
    let look = || {
        let mut sysctls = BTreeMap::new();
        let settings = [
            ("ipv4", &["forwarding", "rp_filter", "send_redirects", "accept_redirects", "accept_local"][..]),
            ("ipv6", &["forwarding", "accept_ra"][..]),
        ];
        for (family, settings) in settings {
            for entry in std::fs::read_dir(format!("/proc/sys/net/{family}/conf")).unwrap() {
                let link = entry.unwrap().file_name().into_string().unwrap();
                for setting in settings {
                    let path = format!("net/{family}/conf/{link}/{setting}");
                    let value = read_sysctl(&path).unwrap();
                    sysctls.insert(path, value);
                }
            }
        }
        sysctls
    };
    Snapshot { rules, routes, sysctls: host.run(look).unwrap() }
}

#[test]
fn a_real_server_on_the_directors_host() {
    let Some(_turn) = turn() else { return };
    for plan in [&V4, &V6] {
        let lab = Lab::new(plan);
        let running = lab.start("local_servers = true", &[plan.host, plan.real_server]);
        let (here, there) = (lab.serve_here(), lab.serve_there());
        lab.exercise(&lab.client, plan.client, &[&here, &there]);
        // Asked directly, the server's answers are routed by the director and no more. To the strict filter such
        // requests come in where answers do not go out.
        let filter = |value| lab.director.set_sysctl("net.ipv4.conf.eth0.rp_filter", value).unwrap();
        filter("2");
        let direct = at(plan.host, NAT_PORT);
        lab.client.run(|| Talk::open(direct).unwrap().say(b"not balanced").unwrap()).unwrap();
        filter("1");
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
        lab.stop(running);
    }
}

#[test]
fn a_client_on_the_directors_host() {
    let Some(_turn) = turn() else { return };
    for plan in [&V4, &V6] {
        let lab = Lab::new(plan);
        let there = lab.serve_there();
        let running = lab.start("local_clients = true", &[plan.real_server]);
        lab.exercise(&lab.director, plan.host, &[&there]);
        lab.client.run(|| Talk::open(lab.service()).unwrap().say(b"from elsewhere").unwrap()).unwrap();
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
        lab.stop(running);
    }
}

#[test]
fn clients_and_real_servers_on_the_directors_host() {
    let Some(_turn) = turn() else { return };
    for plan in [&V4, &V6] {
        let lab = Lab::new(plan);
        let running = lab.start("local_servers = true\nlocal_clients = true", &[plan.host, plan.real_server]);
        let (here, there) = (lab.serve_here(), lab.serve_there());
        lab.exercise(&lab.director, plan.host, &[&here, &there]);
        // Within the host, by the director, and back.
        let direct = at(plan.host, NAT_PORT);
        lab.director.run(|| Talk::open(direct).unwrap().say(b"not balanced").unwrap()).unwrap();
        lab.client.run(|| Talk::open(lab.service()).unwrap().say(b"from elsewhere").unwrap()).unwrap();
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
        lab.stop(running);
    }
}
