//! Two directors, each a destination of the other, and what keeps them from tossing a packet to and fro.
//!
//! ```text
//!   client1 10.0.0.2 --- switch --- A 10.0.0.1      c0 02:00:00:01:00:01
//!   client2 10.0.0.3 ------|------- B 10.0.0.4      c0 02:00:00:01:00:04
//!                          |------- rs1 10.0.0.11   A's, VIP on lo
//!                          `------- rs2 10.0.0.12   B's, VIP on lo
//!   the way to the VIP 10.9.9.9: client1 by A, client2 by B
//! ```

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use uvs_director::spec::MacAddr;
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, mac};

use crate::peer::{Peer, Talk, stream_both_ways};
use crate::stage::{Running, turn};

const VIP: &str = "10.9.9.9";
const DIRECTORS: [u8; 2] = [1, 4];
const CLIENTS: [u8; 2] = [2, 3];
const REAL_SERVERS: [u8; 2] = [11, 12];

struct Lab {
    clients: [Host; 2],
    directors: [Host; 2],
    peers: [Peer; 2],
    _real_servers: [Host; 2],
    _switch: Host,
}

fn service() -> SocketAddr {
    SocketAddr::new(VIP.parse().unwrap(), 80)
}

impl Lab {
    fn new() -> Self {
        let switch = Host::new("switch").unwrap();
        switch.net().add_bridge("br0", mac(1, 200)).unwrap();
        let host = |name: &str, last: u8, card: MacAddr| {
            let host = Host::new(name).unwrap();
            let port = format!("port{last}");
            let far = End { host: &switch, name: &port, mac: MacAddr([0xfe, 0, 0, 1, 0, last]) };
            connect(End { host: &host, name: "eth0", mac: card }, far).unwrap();
            switch.net().plug(&port, "br0").unwrap();
            host
        };
        let station = |name: &str, last: u8| {
            let host = host(name, last, mac(1, last));
            host.net().add_address("eth0", format!("10.0.0.{last}/24").parse().unwrap()).unwrap();
            host
        };
        let clients = [0, 1].map(|number: usize| {
            let host = station(["client1", "client2"][number], CLIENTS[number]);
            let way = Ipv4Addr::new(10, 0, 0, DIRECTORS[number]);
            host.net().add_route(format!("{VIP}/32").parse().unwrap(), way.into()).unwrap();
            host
        });
        let real_servers = [0, 1].map(|number: usize| {
            let host = station(["rs1", "rs2"][number], REAL_SERVERS[number]);
            host.net().add_address("lo", format!("{VIP}/32").parse().unwrap()).unwrap();
            for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")] {
                host.set_sysctl(&format!("net.ipv4.conf.all.{key}"), value).unwrap();
            }
            host
        });
        // The cards of a director's host are ports of a bridge and have no address to tell.
        let directors = DIRECTORS.map(|last| {
            host(if last == DIRECTORS[0] { "A" } else { "B" }, last, MacAddr([0xfe, 0, 0, 1, 0xff, last]))
        });
        let peers = real_servers.each_ref().map(|host| Peer::start(host, service()));
        Self { clients, directors, peers, _real_servers: real_servers, _switch: switch }
    }

    /// Starts both, each with what `rest` says for its number.
    fn start(&self, addresses: &str, rest: impl Fn(usize) -> String) -> [Running; 2] {
        [0, 1].map(|number| {
            let own = DIRECTORS[number];
            let config = format!(
                "[metrics]\nlisten = \"{METRICS}\"\n\n\
                 [[interface]]\nname = \"c0\"\ndevice = \"tap\"\nmac = \"{}\"\n\
                 addresses = [\"10.0.0.{own}/24\"{addresses}]\nbridge = {{ name = \"br0\", ports = [\"eth0\"] }}\n\n{}\n\
                 scheduler = \"rr\"\nforward = \"dr\"\n\
                 destination = [{{ address = \"10.0.0.{}\" }}, {{ address = \"10.0.0.{}\" }}]\n",
                mac(1, own),
                rest(number),
                REAL_SERVERS[number],
                DIRECTORS[1 - number],
            );
            Running::start(&self.directors[number], &config)
        })
    }
}

fn expired(directors: &[Running; 2]) -> u64 {
    directors.iter().map(|director| director.drops("ttl_exceeded")).sum()
}

#[test]
fn without_marks_packets_are_tossed_to_and_fro_until_they_expire() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new();
    let directors = lab.start(&format!(", \"{VIP}/32\""), |_| {
        format!("[[service]]\nprotocol = \"tcp\"\naddress = \"{VIP}:80\"")
    });
    // rr on both: of four connections one goes to A's own, one to B and its own, and one to B and back.
    let answered = (0..8)
        .filter(|_| {
            let connected = || TcpStream::connect_timeout(&service(), Duration::from_millis(700)).is_ok();
            lab.clients[0].run(connected).unwrap()
        })
        .count();
    assert_eq!(answered, 6, "one of four is lost");
    assert!(expired(&directors) >= 2, "each of the lost ones went to and fro until its TTL was used up");
}

#[test]
fn with_a_mark_for_what_is_not_the_other_directors_every_request_is_answered() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new();
    // As config/examples/two-directors.toml has it.
    let directors = lab.start("", |number| {
        let (own, other) = (REAL_SERVERS[number], mac(1, DIRECTORS[1 - number]));
        format!(
            "[[route]]\nto = \"{VIP}/32\"\nvia = \"10.0.0.{own}\"\n\n\
             [[mark]]\nmark = 1\ninterface = \"c0\"\nsource_mac = \"!{other}\"\ndestination = \"{VIP}/32\"\n\
             protocol = \"tcp\"\ndestination_ports = 80\n\n[[service]]\nmark = 1"
        )
    });
    for number in 0..20_u8 {
        for client in &lab.clients {
            client.run(|| Talk::open(service()).unwrap().say(&[number]).unwrap()).unwrap();
        }
    }
    let shares = lab.peers.each_ref().map(|peer| peer.clients().len());
    assert_eq!(shares, [20, 20], "each director balances over its own real server and that of the other");
    for client in &lab.clients {
        // One by the client's director alone, one by both.
        for seed in 0..2 {
            client.run(|| stream_both_ways(service(), seed, 2 << 20, || ()).unwrap()).unwrap();
        }
    }
    assert_eq!(expired(&directors), 0, "no packet goes to and fro");
}
