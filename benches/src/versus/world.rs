//! The network that a contestant is measured in. Every contestant has one of its own, of the same shape.
//!
//! ```text
//!   client                        director                    real servers
//!   eth0 10.0.0.2 to .9 --------- eth0 10.0.0.1    eth1 ------ eth0 192.168.10.11, .12, .13
//!   eth1 10.9.0.2 -----------.    VIP 10.0.0.100   192.168.10.1
//!                             `------------------------------- eth1 10.9.0.11   (answers of DR and TUN)
//! ```
//! Cables are veth pairs without a switch in between, so that what lies between client and real server is the
//! contestant and nothing else. The three real servers are three addresses of one host: there are fewer cores than
//! hosts anyway, and nobody on the way can tell.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use uvs_director::spec::{MacAddr, Prefix};
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::mac;

/// The address that clients ask.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The director's address among the clients.
pub(crate) const DIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The director's address among the real servers.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);
/// The addresses of the real servers.
pub(crate) const RIPS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 168, 10, 11), Ipv4Addr::new(192, 168, 10, 12), Ipv4Addr::new(192, 168, 10, 13)];
/// Real servers send back every message, on TCP and UDP.
pub(crate) const ECHO: u16 = 7;
/// Real servers swallow what comes, on TCP and UDP.
pub(crate) const DISCARD: u16 = 9;
/// Real servers compare a stream, and send another (TCP).
pub(crate) const COMPARE: u16 = 19;
/// TCP ports of the service.
pub(crate) const TCP_PORTS: [u16; 3] = [ECHO, DISCARD, COMPARE];
/// UDP ports of the service.
pub(crate) const UDP_PORTS: [u16; 2] = [ECHO, DISCARD];

const CLIENT_ON_WAY_BACK: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const SERVERS_ON_WAY_BACK: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 11);
/// The last bytes of the client's addresses: many, so that no port is needed again while an old connection lingers.
const CLIENTS: std::ops::RangeInclusive<u8> = 2..=9;
/// Ports of the client that connections are opened from.
const CLIENT_PORTS: std::ops::RangeInclusive<u16> = 1024..=65_000;

/// How answers get from the real servers to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayBack {
    /// Past the director.
    Director,
    /// Over a cable of their own; the real servers hold the VIP.
    Direct,
}

/// A client, a director and real servers, cables and addresses in place.
#[derive(Debug)]
pub(crate) struct World {
    /// The client.
    pub(crate) client: Host,
    /// Where the contestant runs.
    pub(crate) director: Host,
    /// All three real servers.
    pub(crate) servers: Host,
    /// What the client talks to.
    pub(crate) target: Ipv4Addr,
    /// Addresses on which real servers answer.
    pub(crate) listen: Vec<Ipv4Addr>,
    /// How many ports of each of the client's addresses [`World::next_source`] takes.
    pub(crate) ports: usize,
    /// How many connections have been given an address and a port.
    opened: AtomicU32,
}

impl World {
    /// Builds it. The kernel of the director has no address yet and forwards nothing.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(crate) fn new(way_back: WayBack) -> Result<Self> {
        let [client, director, servers] =
            [Host::new("client")?, Host::new("director")?, Host::new("servers")?];
        for host in [&client, &director, &servers] {
            for (key, value) in [
                // Answers may come another way than requests go.
                ("net.ipv4.conf.all.rp_filter", "0"),
                ("net.ipv4.conf.default.rp_filter", "0"),
                ("net.ipv4.ip_local_port_range", "1024 65000"),
                ("net.ipv4.tcp_tw_reuse", "1"),
                // A run must not begin with what the one before learned about the way.
                ("net.ipv4.tcp_no_metrics_save", "1"),
            ] {
                host.set_sysctl(key, value)?;
            }
        }
        director.plain_bridges()?;
        connect(end(&client, "eth0", mac(1, 2)), end(&director, "eth0", director_mac(1)))?;
        connect(end(&servers, "eth0", mac(2, 11)), end(&director, "eth1", director_mac(2)))?;
        for last in CLIENTS {
            client.net().add_address("eth0", subnet(Ipv4Addr::new(10, 0, 0, last)))?;
        }
        for address in RIPS {
            servers.net().add_address("eth0", subnet(address))?;
        }
        client.net().add_default_route(DIP.into())?;
        // Nobody answers ARP for the VIP where the kernel routes it into a TUN device.
        client.net().add_route(Prefix::host(VIP.into()), DIP.into())?;
        let mut listen = RIPS.to_vec();
        match way_back {
            WayBack::Director => servers.net().add_default_route(GATEWAY.into())?,
            WayBack::Direct => {
                connect(end(&servers, "eth1", mac(3, 11)), end(&client, "eth1", mac(3, 2)))?;
                servers.net().add_address("eth1", subnet(SERVERS_ON_WAY_BACK))?;
                client.net().add_address("eth1", subnet(CLIENT_ON_WAY_BACK))?;
                servers.net().add_route(subnet(Ipv4Addr::new(10, 0, 0, 0)), CLIENT_ON_WAY_BACK.into())?;
                servers.net().add_address("lo", Prefix::host(VIP.into()))?;
                // As any real server of DR: nobody is told about the VIP.
                servers.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
                servers.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
                listen = vec![VIP];
            }
        }
        let (ports, opened) = (CLIENT_PORTS.len(), AtomicU32::new(0));
        Ok(Self { client, director, servers, target: VIP, listen, ports, opened })
    }

    /// Gives the director's kernel its addresses, and has it forward.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(crate) fn let_kernel_forward(&self) -> Result<()> {
        self.director.net().add_address("eth0", subnet(DIP))?;
        self.director.net().add_address("eth1", subnet(GATEWAY))?;
        self.director.set_sysctl("net.ipv4.ip_forward", "1")
    }

    /// A port of what the client talks to.
    pub(crate) fn target(&self, port: u16) -> SocketAddr {
        (self.target, port).into()
    }

    /// An address and a port of the client for a new connection, other ones each time.
    pub(crate) fn next_source(&self) -> SocketAddrV4 {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let hosts = u32::from(CLIENTS.end() - CLIENTS.start()) + 1;
        let last = CLIENTS.start() + u8::try_from(number % hosts).expect("there are fewer than 256");
        let offset = (number / hosts) as usize % self.ports;
        let port = CLIENT_PORTS.start() + u16::try_from(offset).expect("an offset in a range of ports");
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
    }
}

/// The MAC address of a network card of the director: another one than that of the TAP behind it.
const fn director_mac(segment: u8) -> MacAddr {
    MacAddr([2, 0, 0, segment, 0xff, 1])
}

fn end<'a>(host: &'a Host, name: &'a str, mac: MacAddr) -> End<'a> {
    End { host, name, mac }
}

fn subnet(address: Ipv4Addr) -> Prefix {
    Prefix::new(address.into(), 24).expect("24 is a prefix length")
}

/// Does `work` on the calling thread after moving it to `host` for good.
///
/// # Errors
/// The host is gone, or what `work` says.
pub(crate) fn in_host<T>(host: &Host, work: impl FnOnce() -> Result<T>) -> Result<T> {
    host.enter().context("cannot enter a host of the bench")?;
    work()
}
