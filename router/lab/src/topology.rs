//! The networks of the three forwarding methods, as one draws them on a board.
//!
//! Addresses and MACs are fixed and readable: `10.0.0.11` on segment 1 has `02:00:00:01:00:11`. The director's
//! kernel has no address at all: a bridge joins its network card and the TAP of `uvs run`, which does the rest.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use uvs_director::spec::{MacAddr, Prefix};

use crate::host::Host;
use crate::net::{End, connect};

/// The address that clients know.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The port that clients know, TCP and UDP.
pub const SERVICE_PORT: u16 = 80;
/// Where the director's metrics are, reachable from its own host only.
pub const METRICS: &str = "127.0.0.1:9100";
/// The director's own address among the clients.
pub const DIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The most clients that a segment has room for.
pub const CLIENTS_MAX: usize = 9;
/// The most real servers that a segment has room for.
pub const REAL_SERVERS_MAX: usize = 80;

/// Segments: the third and fourth byte of their MAC addresses.
const CLIENT_SEGMENT: u8 = 1;
const SERVER_SEGMENT: u8 = 2;

/// A forwarding method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Network address translation.
    Nat,
    /// Direct routing.
    Direct,
    /// IP tunnelling.
    Tunnel,
}

impl Method {
    /// All of them, in the order in which they are taught.
    pub const ALL: [Self; 3] = [Self::Nat, Self::Direct, Self::Tunnel];

    /// The word of command lines and configs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Direct => "dr",
            Self::Tunnel => "tun",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| format!("{text:?} is no forwarding method; there are nat, dr and tun"))
    }
}

/// What may vary in a topology.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many clients, 1 to [`CLIENTS_MAX`].
    pub clients: usize,
    /// How many real servers, 1 to [`REAL_SERVERS_MAX`].
    pub real_servers: usize,
    /// The port on which real servers listen; other than [`SERVICE_PORT`] with NAT only.
    pub real_port: u16,
    /// The scheduler's name or the absolute path of a component.
    pub scheduler: String,
    /// Whether real servers keep quiet about the VIP they hold (`arp_ignore`, `arp_announce`), as they must.
    pub suppress_arp: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 1,
            real_servers: 3,
            real_port: SERVICE_PORT,
            scheduler: "rr".to_owned(),
            suppress_arp: true,
        }
    }
}

/// A network with everything in place but the director's process (and, for TUN, `uvs realserver`).
#[derive(Debug)]
pub struct Topology {
    /// The forwarding method it is made for.
    pub method: Method,
    /// Where clients ask.
    pub service: SocketAddr,
    /// Where `uvs run` has to run.
    pub director: Host,
    /// Clients; the first has 10.0.0.2.
    pub clients: Vec<Client>,
    /// Real servers, `rs1`, `rs2`...
    pub real_servers: Vec<RealServer>,
    /// The router between the subnets (TUN).
    pub router: Option<Host>,
    /// The switches, last so that they go last.
    pub switches: Vec<Host>,
    /// The config for `uvs run`.
    pub config: String,
}

/// A client's host.
#[derive(Debug)]
pub struct Client {
    /// The host; its interface is `eth0`.
    pub host: Host,
    /// CIP.
    pub address: Ipv4Addr,
}

/// A real server's host.
#[derive(Debug)]
pub struct RealServer {
    /// The host; its interface is `eth0`.
    pub host: Host,
    /// RIP.
    pub address: Ipv4Addr,
    /// Where its server has to listen: on the RIP with NAT, on the VIP otherwise.
    pub listen: SocketAddr,
}

impl Topology {
    /// Builds the network of `method`.
    ///
    /// # Errors
    /// The plan is out of range, or the kernel refuses something.
    pub fn build(method: Method, plan: &Plan) -> Result<Self> {
        match method {
            Method::Nat => nat(plan),
            Method::Direct => direct(plan),
            Method::Tunnel => tunnel(plan),
        }
    }

    /// All hosts but the switches, clients first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let clients = self.clients.iter().map(|client| &client.host);
        let servers = self.real_servers.iter().map(|server| &server.host);
        clients.chain([&self.director]).chain(&self.router).chain(servers)
    }
}

/// The MAC address of the host whose IPv4 address ends in `last`, on a segment: `02:00:00:SEGMENT:0h:tu`, where the
/// digits of `last` can be read off.
pub const fn mac(segment: u8, last: u8) -> MacAddr {
    MacAddr([2, 0, 0, decimal(segment), last / 100, decimal(last % 100)])
}

/// The digits of a number under 100 as hexadecimal digits.
const fn decimal(number: u8) -> u8 {
    number / 10 * 16 + number % 10
}

/// NAT: real servers in a subnet of their own, with the director as their gateway.
///
/// ```text
///  client 10.0.0.2 --- switch --- director --- switch --- rs1 192.168.10.11
///                                 c0 10.0.0.1             rs2 192.168.10.12
///                                 VIP 10.0.0.100          rs3 192.168.10.13
///                                 r0 192.168.10.1         (default gateway 192.168.10.1)
/// ```
///
/// # Errors
/// The plan is out of range, or the kernel refuses something.
pub fn nat(plan: &Plan) -> Result<Topology> {
    check(plan, Method::Nat)?;
    let mut build = Builder::new(plan)?;
    let gateway = Ipv4Addr::new(192, 168, 10, 1);
    let servers = Segment::new(SERVER_SEGMENT, Ipv4Addr::new(192, 168, 10, 0))?;
    build.join_director(&servers, "eth1")?;
    for number in 0..plan.real_servers {
        let (host, address) = build.real_server(&servers, number)?;
        host.net().add_default_route(gateway.into())?;
        build.real_servers.push(RealServer { host, address, listen: (address, plan.real_port).into() });
    }
    let mut config = head();
    interface(&mut config, "c0", CLIENT_SEGMENT, DIP, "eth0")?;
    interface(&mut config, "r0", SERVER_SEGMENT, gateway, "eth1")?;
    build.finish(Method::Nat, config, [servers])
}

/// Direct routing: one segment, and real servers that hold the VIP but say nothing about it.
///
/// ```text
///  client 10.0.0.2 --- switch --- director c0 10.0.0.1, VIP 10.0.0.100
///                        |------- rs1 10.0.0.11, VIP on lo
///                        |------- rs2 10.0.0.12, VIP on lo
///                        `------- rs3 10.0.0.13, VIP on lo
/// ```
///
/// # Errors
/// The plan is out of range, or the kernel refuses something.
pub fn direct(plan: &Plan) -> Result<Topology> {
    check(plan, Method::Direct)?;
    let mut build = Builder::new(plan)?;
    for number in 0..plan.real_servers {
        let (host, address) = build.real_server(&build.segment, number)?;
        hold_vip(&host, plan)?;
        build.real_servers.push(RealServer { host, address, listen: (VIP, plan.real_port).into() });
    }
    let mut config = head();
    interface(&mut config, "c0", CLIENT_SEGMENT, DIP, "eth0")?;
    build.finish(Method::Direct, config, [])
}

/// IP tunnelling: real servers anywhere, here in two other subnets behind a router.
///
/// ```text
///  client 10.0.0.2 --- switch --- director c0 10.0.0.1, VIP 10.0.0.100
///                        |
///                      router 10.0.0.254 --- switch --- rs1 10.1.0.11, rs3 10.1.0.13   (VIP on lo,
///                             10.1.0.254                                                uvs realserver)
///                             10.2.0.254 --- switch --- rs2 10.2.0.12
/// ```
///
/// # Errors
/// The plan is out of range, or the kernel refuses something.
pub fn tunnel(plan: &Plan) -> Result<Topology> {
    check(plan, Method::Tunnel)?;
    let mut build = Builder::new(plan)?;
    let router = Host::new("router")?;
    router.set_sysctl("net.ipv4.ip_forward", "1")?;
    // Replies come from the VIP, whose subnet is on another side of the router.
    accept_any_source(&router)?;
    build.segment.join(&router, "eth0", 254, 24)?;
    let mut config = head();
    interface(&mut config, "c0", CLIENT_SEGMENT, DIP, "eth0")?;
    let mut subnets = Vec::new();
    for (number, network) in [(3, Ipv4Addr::new(10, 1, 0, 0)), (4, Ipv4Addr::new(10, 2, 0, 0))] {
        let subnet = Segment::new(number, network)?;
        let gateway = subnet.join(&router, &format!("eth{}", number - 2), 254, 24)?;
        write!(config, "\n[[route]]\nto = \"{network}/24\"\nvia = \"10.0.0.254\"\n")?;
        subnets.push((subnet, gateway));
    }
    for number in 0..plan.real_servers {
        let (subnet, gateway) = &subnets[number % subnets.len()];
        let (host, address) = build.real_server(subnet, number)?;
        host.net().add_default_route((*gateway).into())?;
        hold_vip(&host, plan)?;
        build.real_servers.push(RealServer { host, address, listen: (VIP, plan.real_port).into() });
    }
    let mut topology = build.finish(Method::Tunnel, config, subnets.into_iter().map(|(subnet, _)| subnet))?;
    topology.router = Some(router);
    Ok(topology)
}

fn check(plan: &Plan, method: Method) -> Result<()> {
    ensure!((1..=CLIENTS_MAX).contains(&plan.clients), "{} clients: 1 to {CLIENTS_MAX} fit", plan.clients);
    ensure!(
        (1..=REAL_SERVERS_MAX).contains(&plan.real_servers),
        "{} real servers: 1 to {REAL_SERVERS_MAX} fit",
        plan.real_servers
    );
    ensure!(
        plan.real_port == SERVICE_PORT || method == Method::Nat,
        "only NAT can map port {SERVICE_PORT} to {}",
        plan.real_port
    );
    Ok(())
}

/// Gives `lo` the VIP, and keeps the kernel from telling the neighbours.
fn hold_vip(host: &Host, plan: &Plan) -> Result<()> {
    host.net().add_address("lo", Prefix::host(VIP.into()))?;
    if plan.suppress_arp {
        host.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        host.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    }
    Ok(())
}

/// Turns the reverse path filter off. What the system gives new namespaces differs from one to the next.
fn accept_any_source(host: &Host) -> Result<()> {
    for which in ["all", "default"] {
        host.set_sysctl(&format!("net.ipv4.conf.{which}.rp_filter"), "0")?;
    }
    Ok(())
}

/// A switch with what is plugged into it.
struct Segment {
    number: u8,
    network: Ipv4Addr,
    switch: Host,
}

impl Segment {
    fn new(number: u8, network: Ipv4Addr) -> Result<Self> {
        let switch = Host::new(&format!("switch{number}"))?;
        switch.net().add_bridge("br0", MacAddr([2, 0, 0, decimal(number), 0xff, 0xff]))?;
        Ok(Self { number, network, switch })
    }

    /// Lays a cable from `name` on `host` and gives it the address that ends in `last`.
    fn join(&self, host: &Host, name: &str, last: u8, prefix_len: u8) -> Result<Ipv4Addr> {
        self.cable(host, name, mac(self.number, last), last)?;
        let [a, b, c, _] = self.network.octets();
        let address = Ipv4Addr::new(a, b, c, last);
        let prefix = Prefix::new(address.into(), prefix_len).context("a prefix length is 32 at most")?;
        host.net().add_address(name, prefix)?;
        Ok(address)
    }

    fn cable(&self, host: &Host, name: &str, mac: MacAddr, port: u8) -> Result<()> {
        let port_name = format!("port{port}");
        // Beginning with fe: a bridge port that never sends of its own.
        let port_mac = MacAddr([0xfe, 0, 0, decimal(self.number), 0, port]);
        connect(End { host, name, mac }, End { host: &self.switch, name: &port_name, mac: port_mac })?;
        self.switch.net().plug(&port_name, "br0")
    }
}

/// What the three topologies have in common.
struct Builder<'p> {
    plan: &'p Plan,
    director: Host,
    clients: Vec<Client>,
    real_servers: Vec<RealServer>,
    /// Where the clients are.
    segment: Segment,
}

impl<'p> Builder<'p> {
    fn new(plan: &'p Plan) -> Result<Self> {
        let segment = Segment::new(CLIENT_SEGMENT, Ipv4Addr::new(10, 0, 0, 0))?;
        let mut clients = Vec::new();
        for number in 0..plan.clients {
            let name = if number == 0 { "client".to_owned() } else { format!("client{}", number + 1) };
            let host = Host::new(&name)?;
            let address = segment.join(&host, "eth0", small(2 + number), 24)?;
            clients.push(Client { host, address });
        }
        let director = Host::new("director")?;
        let build = Self { plan, director, clients, real_servers: Vec::new(), segment };
        build.join_director(&build.segment, "eth0")?;
        Ok(build)
    }

    /// Plugs a network card of the director into a segment, without an address.
    fn join_director(&self, segment: &Segment, name: &str) -> Result<()> {
        segment.cable(&self.director, name, MacAddr([0xfe, 0, 0, decimal(segment.number), 0xff, 1]), 1)
    }

    fn real_server(&self, segment: &Segment, number: usize) -> Result<(Host, Ipv4Addr)> {
        let host = Host::new(&format!("rs{}", number + 1))?;
        accept_any_source(&host)?;
        let address = segment.join(&host, "eth0", small(11 + number), 24)?;
        Ok((host, address))
    }

    fn finish(
        self,
        method: Method,
        mut config: String,
        segments: impl IntoIterator<Item = Segment>,
    ) -> Result<Topology> {
        for protocol in ["tcp", "udp"] {
            write!(
                config,
                "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{VIP}:{SERVICE_PORT}\"\n\
                 scheduler = {:?}\nforward = \"{method}\"\n",
                self.plan.scheduler
            )?;
            for server in &self.real_servers {
                let port = self.plan.real_port;
                write!(
                    config,
                    "[[service.destination]]\naddress = \"{}:{port}\"\nweight = 1\n",
                    server.address
                )?;
            }
        }
        let segments = [self.segment].into_iter().chain(segments);
        Ok(Topology {
            method,
            service: (VIP, SERVICE_PORT).into(),
            director: self.director,
            clients: self.clients,
            real_servers: self.real_servers,
            router: None,
            switches: segments.map(|segment| segment.switch).collect(),
            config,
        })
    }
}

/// The last part of an address; plans are checked to keep within it.
fn small(number: usize) -> u8 {
    u8::try_from(number).expect("a checked plan has fewer hosts than a subnet has addresses")
}

fn head() -> String {
    format!("[metrics]\nlisten = \"{METRICS}\"\n")
}

/// An `[[interface]]` table.
fn interface(config: &mut String, name: &str, segment: u8, address: Ipv4Addr, port: &str) -> fmt::Result {
    write!(
        config,
        "\n[[interface]]\nname = \"{name}\"\ndevice = \"tap\"\nmac = \"{}\"\naddresses = [\"{address}/24\"]\n\
         bridge = {{ name = \"br-{name}\", ports = [\"{port}\"] }}\n",
        mac(segment, 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_can_be_read() {
        let cases = [
            (1, 1, "02:00:00:01:00:01"),
            (1, 11, "02:00:00:01:00:11"),
            (2, 254, "02:00:00:02:02:54"),
            (12, 100, "02:00:00:12:01:00"),
        ];
        for (segment, last, want) in cases {
            assert_eq!(mac(segment, last).to_string(), want);
        }
    }

    #[test]
    fn plans_out_of_range_are_refused_before_anything_is_made() {
        let plan = Plan::default();
        let cases = [
            (Method::Nat, Plan { clients: 0, ..plan.clone() }, "0 clients"),
            (Method::Nat, Plan { clients: 10, ..plan.clone() }, "10 clients"),
            (Method::Tunnel, Plan { real_servers: 81, ..plan.clone() }, "81 real servers"),
            (Method::Direct, Plan { real_port: 8080, ..plan.clone() }, "only NAT"),
            (Method::Tunnel, Plan { real_port: 8080, ..plan }, "only NAT"),
        ];
        for (method, plan, want) in cases {
            let error = Topology::build(method, &plan).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
