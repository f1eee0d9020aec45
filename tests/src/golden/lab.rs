//! The director of the recordings: two wires, its addresses, routes and neighbours (tests/golden/README.md).
//!
//! ```text
//!   client wire --- ethc (port 0) [director] ethr (port 1) --- rs wire
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use uvs_director::scheduler::SchedulerFactory;
use uvs_director::spec::{
    Change, InterfaceSpec, Limits, Link, MacAddr, MarkRule, Options, Prefix, Protocol, RouteSpec,
    SourceCheck, Transit,
};
use uvs_director::{Director, Frame, Instant, Outbox, PortId, Verdict};

use super::scenario::Side;
use super::wires::{Passed, Wires};

/// Real servers that have a static neighbour; the recordings use fewer.
const REAL_SERVERS: u8 = 30;

/// A frame that left, and through which wire.
pub(crate) type Egress = (Side, Vec<u8>);

/// A director wired as in the recordings, and the time there.
pub(crate) struct Lab {
    pub(crate) director: Director,
    pub(crate) now: Instant,
    interfaces: Vec<InterfaceSpec>,
    routes: Vec<RouteSpec>,
    neighbors: Vec<(PortId, IpAddr, MacAddr)>,
    marks: Vec<MarkRule>,
    outbox: Outbox,
    /// What frames pass on their way to the director, if anything.
    wires: Option<Box<dyn Wires>>,
}

impl Lab {
    pub(crate) fn new(
        schedulers: Arc<dyn SchedulerFactory>,
        wires: Option<Box<dyn Wires>>,
    ) -> anyhow::Result<Self> {
        let interface = |port, name: &str, mac, addresses: &[&str]| {
            let addresses =
                addresses.iter().map(|text| text.parse::<Prefix>().map_err(|error| anyhow!(error)));
            anyhow::Ok(InterfaceSpec {
                port: PortId(port),
                name: name.to_owned(),
                link: Link::Ethernet(MacAddr(mac)),
                mtu: 1500,
                addresses: addresses.collect::<Result<_, _>>()?,
                source_check: SourceCheck::Off,
            })
        };
        let client_side = ["10.0.0.1/24", "10.0.0.100/32", "fd00:1::1/64", "fd00:1::100/128"];
        let interfaces = vec![
            interface(0, "ethc", [2, 0, 0, 0, 0, 1], &client_side)?,
            interface(1, "ethr", [2, 0, 0, 0, 1, 1], &["192.168.10.1/24", "fd00:2::1/64"])?,
        ];
        let gateways: [IpAddr; 2] = [Ipv4Addr::new(10, 0, 0, 254).into(), "fd00:1::fe".parse()?];
        // The clients are the only others: whatever else is asked for has no route.
        let route = |to: &str, gateway: IpAddr| {
            let to = to.parse::<Prefix>().map_err(|error| anyhow!(error))?;
            anyhow::Ok(RouteSpec { to, via: Some(gateway), port: PortId(0) })
        };
        let routes = vec![route("10.1.0.0/16", gateways[0])?, route("fd00:c::/64", gateways[1])?];
        // The recordings had icmp_ratelimit=0.
        let limits = Limits { icmp_errors_per_second: 0, ..Limits::default() };
        // Each recording had a fresh director, so one seed does for all.
        let director = Director::new(limits, 1, schedulers);
        let mut lab = Self {
            director: match &wires {
                Some(wires) => director.with_flow_cache(wires.cache()),
                None => director,
            },
            wires,
            now: Instant::ZERO,
            interfaces,
            routes,
            neighbors: Vec::new(),
            marks: Vec::new(),
            outbox: Outbox::new(),
        };
        lab.set_network()?;
        lab.apply(Change::SetOptions(Options {
            compat_ipvs: true,
            transit: Transit::Any,
            ..Options::default()
        }))?;
        for gateway in gateways {
            lab.set_neighbor(PortId(0), gateway, MacAddr([2, 0, 0, 0, 0, 0xfe]))?;
        }
        for index in 1..=REAL_SERVERS {
            let mac = MacAddr([2, 0, 0, 0, 1, 0x10 + index]);
            lab.set_neighbor(PortId(1), Ipv4Addr::new(192, 168, 10, 10 + index).into(), mac)?;
            let v6 = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x10 + u16::from(index));
            lab.set_neighbor(PortId(1), v6.into(), mac)?;
        }
        Ok(lab)
    }

    fn set_network(&mut self) -> anyhow::Result<()> {
        let change = Change::SetNetwork { interfaces: self.interfaces.clone(), routes: self.routes.clone() };
        self.apply(change)?;
        // A director's neighbours go with its interfaces; in the recordings only one thing changed.
        let neighbors = self.neighbors.clone();
        neighbors
            .into_iter()
            .try_for_each(|(port, addr, mac)| self.apply(Change::SetNeighbor { port, addr, mac }))
    }

    fn set_neighbor(&mut self, port: PortId, addr: IpAddr, mac: MacAddr) -> anyhow::Result<()> {
        self.neighbors.push((port, addr, mac));
        self.apply(Change::SetNeighbor { port, addr, mac })
    }

    fn apply(&mut self, change: Change) -> anyhow::Result<()> {
        self.director.apply(change, self.now).context("the director refuses its own lab")
    }

    /// Lets time pass, each deadline at its moment, and returns what the director sent meanwhile.
    pub(crate) fn advance(&mut self, to: Instant) -> Vec<Egress> {
        let to = to.max(self.now);
        let mut last = None;
        while let Some(next) = self.director.poll_at() {
            // A deadline that does not move on would be worked off for ever.
            if next > to || last.is_some_and(|last| next <= last) {
                break;
            }
            last = Some(next);
            self.director.handle_timeout(next.max(self.now), &mut self.outbox);
        }
        self.now = to;
        self.director.handle_timeout(to, &mut self.outbox);
        self.drain()
    }

    /// Hands one frame to the director and returns what it sent, in order.
    pub(crate) fn send(&mut self, side: Side, bytes: &[u8]) -> Vec<Egress> {
        let port = match side {
            Side::Client => PortId(0),
            Side::Rs => PortId(1),
        };
        let mut came = None;
        if let Some(wires) = &mut self.wires {
            let passed = wires.pass(side, bytes, self.now);
            self.director.catch_up(self.now, &mut self.outbox);
            match passed {
                Passed::Came(bytes) => came = Some(bytes),
                Passed::Flew(side, bytes) => {
                    let mut sent = vec![(side, bytes)];
                    sent.extend(self.drain());
                    return sent;
                }
                Passed::Lost => return Vec::new(),
            }
        }
        let mut frame = Frame::from_bytes(came.as_deref().unwrap_or(bytes));
        let verdict = self.director.handle(port, &mut frame, self.now, &mut self.outbox);
        let mut sent = Vec::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push((side_of(port), frame.bytes().to_vec()));
        }
        sent.extend(self.drain());
        self.director.sent(&mut self.outbox);
        sent
    }

    fn drain(&mut self) -> Vec<Egress> {
        self.outbox.drain().map(|(port, frame)| (side_of(port), frame.bytes().to_vec())).collect()
    }

    /// Writes a kernel setting. `Err` is the reason why a scenario that needs it cannot be replayed.
    pub(crate) fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = name.rsplit('.').next().unwrap_or(name);
        let mut options = self.director.options();
        let number = value.parse::<u32>().map_err(|_| format!("setting {name} = {value:?} is no number"));
        match name {
            // Connection tracking, synchronisation and estimation are other parts of the kernel; nothing that a
            // scenario records shows their settings.
            "conntrack"
            | "sync_threshold"
            | "sync_period"
            | "sync_refresh_period"
            | "sync_retries"
            | "sync_version"
            | "sync_persist_mode"
            | "sync_ports"
            | "run_estimation" => return Ok(()),
            _ => {}
        }
        let number = number?;
        let level = u8::try_from(number).unwrap_or(u8::MAX);
        match name {
            "conn_reuse_mode" => options.conn_reuse_mode = level,
            "expire_nodest_conn" => options.expire_nodest_conn = number != 0,
            "expire_quiescent_template" => options.expire_quiescent_template = number != 0,
            "sloppy_tcp" => options.sloppy_tcp = number != 0,
            "sloppy_sctp" => options.sloppy_sctp = number != 0,
            "secure_tcp" => options.secure_tcp = level,
            "drop_entry" => options.drop_entry = level,
            "drop_packet" => options.drop_packet = level,
            "am_droprate" => options.am_droprate = number,
            "nat_icmp_send" => options.nat_icmp_send = number != 0,
            "schedule_icmp" => options.schedule_icmp = number != 0,
            "cache_bypass" => options.cache_bypass = number != 0,
            "ignore_tunneled" => options.ignore_tunneled = number != 0,
            "pmtu_disc" => options.pmtu_disc = number != 0,
            other => return Err(format!("the director has no setting {other}")),
        }
        self.director
            .apply(Change::SetOptions(options), self.now)
            .map_err(|error| format!("setting {name} = {value}: {error}"))
    }

    /// The settings as `name=value` lines, in alphabetical order.
    pub(crate) fn settings(&self) -> String {
        let Options {
            conn_reuse_mode,
            expire_nodest_conn,
            expire_quiescent_template,
            sloppy_tcp,
            sloppy_sctp,
            secure_tcp,
            drop_entry,
            drop_packet,
            am_droprate,
            nat_icmp_send,
            schedule_icmp,
            cache_bypass,
            ignore_tunneled,
            pmtu_disc,
            ..
        } = self.director.options();
        [
            ("am_droprate", am_droprate),
            ("cache_bypass", u32::from(cache_bypass)),
            ("conn_reuse_mode", u32::from(conn_reuse_mode)),
            ("drop_entry", u32::from(drop_entry)),
            ("drop_packet", u32::from(drop_packet)),
            ("expire_nodest_conn", u32::from(expire_nodest_conn)),
            ("expire_quiescent_template", u32::from(expire_quiescent_template)),
            ("ignore_tunneled", u32::from(ignore_tunneled)),
            ("nat_icmp_send", u32::from(nat_icmp_send)),
            ("pmtu_disc", u32::from(pmtu_disc)),
            ("schedule_icmp", u32::from(schedule_icmp)),
            ("secure_tcp", u32::from(secure_tcp)),
            ("sloppy_sctp", u32::from(sloppy_sctp)),
            ("sloppy_tcp", u32::from(sloppy_tcp)),
        ]
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
    }

    /// `ip`: `route add TO via GATEWAY`, `link set DEVICE mtu N`, `neigh replace ADDR lladdr MAC dev DEVICE ...`.
    pub(crate) fn ip(&mut self, words: &[&str]) -> anyhow::Result<()> {
        match words {
            // A mark brings packets to a service whatever their address, so the subnet need not be ours as well.
            ["route", "add", "local", _, "dev", "lo"] => Ok(()),
            ["route", "add", to, "via", gateway] => {
                let gateway: IpAddr = gateway.parse()?;
                let port = self
                    .interfaces
                    .iter()
                    .find(|interface| interface.addresses.iter().any(|prefix| prefix.contains(gateway)))
                    .with_context(|| format!("no interface reaches {gateway}"))?
                    .port;
                let to = to.parse().map_err(|error: String| anyhow!(error))?;
                self.routes.push(RouteSpec { to, via: Some(gateway), port });
                self.set_network()
            }
            ["link", "set", device, "mtu", mtu] => {
                let mtu = mtu.parse()?;
                self.interface(device)?.mtu = mtu;
                self.set_network()
            }
            ["neigh", "replace", addr, "lladdr", mac, "dev", device, ..] => {
                let port = self.interface(device)?.port;
                let mac = mac.parse().map_err(|error: String| anyhow!(error))?;
                self.set_neighbor(port, addr.parse()?, mac)
            }
            _ => bail!("the replayer does not know ip {}", words.join(" ")),
        }
    }

    /// `nft`: rules that give packets marks by destination address, protocol and ports.
    pub(crate) fn nft(&mut self, script: &str) -> anyhow::Result<()> {
        for statement in script.split(';').map(str::trim) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            if let ["add", "rule", _, _, _, conditions @ ..] = words.as_slice() {
                let rules = mark_rules(conditions)
                    .with_context(|| format!("the replayer does not know the nft rule {statement:?}"))?;
                self.marks.extend(rules);
            }
        }
        self.apply(Change::SetMarks(self.marks.clone()))
    }

    fn interface(&mut self, name: &str) -> anyhow::Result<&mut InterfaceSpec> {
        self.interfaces
            .iter_mut()
            .find(|interface| interface.name == name)
            .with_context(|| format!("no interface {name}"))
    }
}

/// `[ip daddr PREFIX] [tcp|udp dport PORTS] meta mark set MARK`; a set of ports makes a rule for each.
fn mark_rules(conditions: &[&str]) -> Option<Vec<MarkRule>> {
    let mut rule = MarkRule::new(1);
    let mut ports = Vec::new();
    let mut rest = conditions;
    loop {
        rest = match rest {
            ["ip" | "ip6", "daddr", addr, rest @ ..] => {
                let host = || addr.parse().ok().map(Prefix::host);
                rule.destination = Some(addr.parse().ok().or_else(host)?);
                rest
            }
            [protocol @ ("tcp" | "udp" | "sctp"), "dport", list, rest @ ..] => {
                rule.protocol = Some(match *protocol {
                    "tcp" => Protocol::Tcp,
                    "udp" => Protocol::Udp,
                    _ => Protocol::Sctp,
                });
                for range in list.trim_matches(['{', '}']).split(',') {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    ports.push((first.parse().ok()?, last.parse().ok()?));
                }
                rest
            }
            ["meta", "mark", "set", mark] => {
                rule.mark = mark.parse().ok()?;
                let each = ports.iter().map(|&range| MarkRule { destination_ports: Some(range), ..rule });
                return Some(if ports.is_empty() { vec![rule] } else { each.collect() });
            }
            _ => return None,
        };
    }
}

fn side_of(port: PortId) -> Side {
    if port == PortId(0) { Side::Client } else { Side::Rs }
}

/// Bytes out of hex digits.
pub(crate) fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "odd hex");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}
