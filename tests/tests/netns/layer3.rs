//! A director on a TUN device: the host's kernel routes the VIP in, and requests and replies out.
//!
//! ```text
//!   client 172.20.0.2 --- eth0 [ the host's kernel ] eth1 --- rs1 192.168.20.11, rs2 192.168.20.12
//!                               |  10.255.0.1  ^
//!                               v              |
//!                         t0: the director, 10.255.0.2, VIP 10.0.0.100
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, mac};

use crate::peer::{Peer, Talk, ask_datagram, stream_both_ways};
use crate::stage::{NAT_PORT, Running, eventually, turn};

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

/// As `config/examples/nat-on-tun-device.toml` has it.
pub(crate) fn config() -> String {
    let service = |protocol: &str| {
        format!(
            "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"10.0.0.100:80\"\nscheduler = \"rr\"\n\
             forward = \"nat\"\n\
             destination = [{{ address = \"192.168.20.11:{NAT_PORT}\" }}, {{ address = \"192.168.20.12:{NAT_PORT}\" }}]\n"
        )
    };
    format!(
        "[metrics]\nlisten = \"{METRICS}\"\n\n\
         [[interface]]\nname = \"t0\"\ndevice = \"tun\"\naddresses = [\"10.255.0.2/30\", \"10.0.0.100/32\"]\n\
         host = {{ addresses = [\"10.255.0.1/30\"], routes = [\"10.0.0.100/32\"], replies_from = [\"eth1\"], \
         forwarding = true }}\n\n\
         [[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.255.0.1\"\n{}{}",
        service("tcp"),
        service("udp")
    )
}

#[test]
fn nat_on_a_tun_device() {
    let Some(_turn) = turn() else { return };
    // A reverse path filter: none, and the strict one that many systems start with.
    for filter in ["0", "1"] {
        nat_with_filter(filter);
    }
}

/// The hosts of the picture.
pub(crate) struct Hosts {
    pub(crate) client: Host,
    pub(crate) director: Host,
    /// rs1 and rs2.
    pub(crate) servers: [Host; 2],
    _switch: Host,
}

/// Connects them, with addresses and routes.
pub(crate) fn hosts() -> Hosts {
    let [client, director, switch, one, two] =
        ["client", "director", "switch", "rs1", "rs2"].map(|name| Host::new(name).unwrap());
    let end = |host, name, segment, last| End { host, name, mac: mac(segment, last) };
    let address = |host: &Host, name: &str, address: &str| {
        host.net().add_address(name, address.parse().unwrap()).unwrap();
    };
    connect(end(&client, "eth0", 1, 2), end(&director, "eth0", 1, 1)).unwrap();
    switch.net().add_bridge("br0", mac(2, 200)).unwrap();
    for (host, name, port, last) in
        [(&director, "eth1", "port1", 1), (&one, "eth0", "port11", 11), (&two, "eth0", "port12", 12)]
    {
        connect(end(host, name, 2, last), end(&switch, port, 2, last + 100)).unwrap();
        switch.net().plug(port, "br0").unwrap();
    }
    address(&client, "eth0", "172.20.0.2/24");
    address(&director, "eth0", "172.20.0.1/24");
    address(&director, "eth1", "192.168.20.1/24");
    address(&one, "eth0", "192.168.20.11/24");
    address(&two, "eth0", "192.168.20.12/24");
    client.net().add_default_route("172.20.0.1".parse().unwrap()).unwrap();
    for host in [&one, &two] {
        host.net().add_default_route("192.168.20.1".parse().unwrap()).unwrap();
    }
    Hosts { client, director, servers: [one, two], _switch: switch }
}

fn nat_with_filter(filter: &str) {
    let Hosts { client, director, servers: [one, two], _switch } = hosts();
    for name in ["all", "default", "eth0", "eth1"] {
        director.set_sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), filter).unwrap();
    }
    let peers = [(&one, 11), (&two, 12)]
        .map(|(host, last)| Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT))));
    let running = Running::start(&director, &config());

    let service: SocketAddr = (Ipv4Addr::new(10, 0, 0, 100), 80).into();
    client.run(|| stream_both_ways(service, 11, 10 << 20, || ()).unwrap()).unwrap();
    let streams = eventually("the real server has compared all", || {
        Some(peers.iter().flat_map(Peer::streams).collect::<Vec<_>>()).filter(|streams| !streams.is_empty())
    });
    assert_eq!(streams, [Ok(())]);

    for number in 0..29_u8 {
        client.run(|| Talk::open(service).unwrap().say(&[number]).unwrap()).unwrap();
    }
    let seen = peers.each_ref().map(Peer::clients);
    assert_eq!(seen.each_ref().map(Vec::len), [15, 15], "rr gives equal shares");
    assert!(seen.iter().flatten().all(|seen| seen.ip() == IpAddr::from(CLIENT)), "{seen:?}");

    for size in [0, 1, 700, 1472] {
        client.run(|| ask_datagram(service, size).unwrap()).unwrap();
    }
    assert_eq!(peers.each_ref().map(|peer| peer.datagrams().len()), [2, 2]);
    // A client's packet to a real server itself, here the answer to its ping. With the strict filter on the link of the
    // clients the kernel drops it: it asks for the way back as from the real servers' link, which our rule leads into
    // the device. Known to be wrong: real servers cannot talk to the outside on such a host.
    let pinged = one.run(|| uvs_lab::server::ping(CLIENT, Duration::from_secs(2)).unwrap()).unwrap();
    assert_eq!(pinged, filter == "0", "rs1 pings the client with rp_filter = {filter}");
    assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
}
