//! Facts to findings: a function for each kind, pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use uvs_control::inspect::{Conflict, Interface};

use crate::facts::{Director, Facts};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something may not work, or will not later.
    Warning,
    /// Worth knowing; no fault.
    Note,
}

/// What is wrong, how that is known, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For programs: the kind of finding.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// In a sentence.
    pub what: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do.
    pub fix: String,
}

fn finding(
    kind: &'static str,
    severity: Severity,
    what: impl Into<String>,
    evidence: Vec<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding { kind, severity, what: what.into(), evidence, fix: fix.into() }
}

/// All that can be found, the worst first.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let look: [fn(&Facts) -> Vec<Finding>; 18] = [
        tun,
        capabilities,
        interfaces,
        owners,
        neighbours,
        one_way,
        hairpin,
        vips,
        availability,
        bridge_netfilter,
        firewall,
        forwarding,
        tunnels,
        offloads,
        flow_cache,
        limits,
        module_cache,
        clock,
    ];
    let mut found: Vec<Finding> = look.iter().flat_map(|look| look(facts)).collect();
    found.sort_by_key(|it| it.severity);
    found
}

/// Some of many, in words.
fn some(all: &[String]) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = all.iter().take(SHOWN).cloned().collect();
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown
}

fn tun(facts: &Facts) -> Vec<Finding> {
    let Some(why) = &facts.host.tun else { return vec![] };
    let fix = "modprobe tun; mknod /dev/net/tun c 10 200; in a container: --device /dev/net/tun";
    vec![finding("tun", Severity::Error, "/dev/net/tun cannot be opened", vec![why.clone()], fix)]
}

/// Bits of `linux/capability.h`.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

fn capabilities(facts: &Facts) -> Vec<Finding> {
    let Some(bits) = facts.host.capabilities else { return vec![] };
    let has = |bit: u32| bits & 1 << bit != 0;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    let links: Vec<&String> = facts.network.interfaces.iter().filter_map(|it| it.link.as_ref()).collect();
    if !links.is_empty() && !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    // To have a card take frames to the director's MAC address.
    if links.iter().any(|link| !facts.host.take_all.contains(*link)) && !has(NET_RAW) {
        missing.push("CAP_NET_RAW");
    }
    if missing.is_empty() {
        return vec![];
    }
    let whose = if facts.host.capabilities_of_director { "the director" } else { "whoever runs this" };
    let what = format!("{whose} lacks {}", missing.join(" and "));
    let fix =
        format!("run the director as root, or with AmbientCapabilities={} in its unit", missing.join(" "));
    vec![finding("capabilities", Severity::Error, what, vec![format!("CapEff: {bits:016x}")], fix)]
}

fn interfaces(facts: &Facts) -> Vec<Finding> {
    let Some(Director { status, .. }) = &facts.director else { return vec![] };
    let of = status.interfaces.iter().filter(|it| it.state != "up" && !it.state.is_empty()).map(|it| {
        let severity = if it.state == "down" { Severity::Error } else { Severity::Warning };
        let fix = "bring the link up, or correct the names of bridge, ports and link in the configuration";
        finding(
            "interface",
            severity,
            format!("interface {} is {}", it.name, it.state),
            it.reasons.clone(),
            fix,
        )
    });
    let notices = status.notices.iter().map(|it| {
        finding("director", Severity::Error, it.clone(), vec![], "see the director's log, and start it anew")
    });
    of.chain(notices).collect()
}

/// Others that have an address of the director's.
fn owners(facts: &Facts) -> Vec<Finding> {
    let servers: BTreeMap<&str, &str> =
        facts.network.servers.iter().map(|it| (it.mac.as_str(), it.address.as_str())).collect();
    // A station that has one address of the director's may well have all of them, which is one thing to mend.
    let mut stations: Vec<(&str, Vec<&Conflict>)> = Vec::new();
    for it in facts.network.conflicts.iter().filter(|it| it.now) {
        match stations.iter_mut().find(|(mac, _)| *mac == it.mac) {
            Some((_, of)) => of.push(it),
            None => stations.push((&it.mac, vec![it])),
        }
    }
    let of = |(mac, of): (&str, Vec<&Conflict>)| {
        let probe = |it: &&Conflict| {
            format!("{} answered an ARP probe for {} on {}", it.mac, it.address, it.interface)
        };
        let evidence = some(&of.iter().map(probe).collect::<Vec<_>>());
        let addresses = some(&of.iter().map(|it| it.address.clone()).collect::<Vec<_>>()).join(", ");
        let (is, an_address) = if of.len() == 1 {
            ("which is the director's", "an address of the director's")
        } else {
            ("which are the director's", "addresses of the director's")
        };
        match servers.get(mac) {
            Some(server) => finding(
                "server-answers-arp",
                Severity::Error,
                format!("real server {server} answers ARP for {addresses}, {is}"),
                evidence,
                format!(
                    "on {server}: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and the VIP \
                     on lo"
                ),
            ),
            None => finding(
                "two-owners",
                Severity::Error,
                format!("another station has {addresses}, {an_address}"),
                evidence,
                format!("take {addresses} away from the station {mac}, or give the director another one"),
            ),
        }
    };
    stations.into_iter().map(of).collect()
}

fn neighbours(facts: &Facts) -> Vec<Finding> {
    if facts.network.unresolved.is_empty() {
        return vec![];
    }
    let what = "next hops do not say what their MAC address is: nothing can be sent to them";
    let fix = "are they up, on that link, with that address and subnet? uvs probe tcp ADDRESS:PORT asks one";
    vec![finding("next-hop", Severity::Error, what, some(&facts.network.unresolved), fix)]
}

/// Packets to a destination by NAT, and none back.
fn one_way(facts: &Facts) -> Vec<Finding> {
    /// Fewer may just be on their way.
    const PACKETS: u64 = 3;
    let Some(Director { sample, .. }) = &facts.director else { return vec![] };
    let unresolved = |name: &str| {
        let addr = address_of(name);
        addr.is_some_and(|addr| facts.network.unresolved.iter().any(|it| it.starts_with(&format!("{addr} "))))
    };
    let mut silent = Vec::new();
    for service in &sample.services {
        for it in &service.destinations {
            let (sent, back) = (it.counters.packets_in, it.counters.packets_out);
            if it.forwarding == "nat" && sent >= PACKETS && back == 0 && !unresolved(&it.name) {
                silent.push(format!("{} of {}: {sent} packets there, none back", it.name, service.name));
            }
        }
    }
    if silent.is_empty() {
        return vec![];
    }
    let what = "answers by NAT do not come back through the director";
    let fix = "make the director's address the real servers' gateway to the clients (ip route replace default via \
               DIRECTOR), and see that the servers answer at all: uvs probe tcp SERVER:PORT";
    vec![finding("one-way", Severity::Error, what, some(&silent), fix)]
}

fn address_of(name: &str) -> Option<IpAddr> {
    name.parse::<std::net::SocketAddr>().ok().map(|it| it.ip())
}

fn hairpin(facts: &Facts) -> Vec<Finding> {
    if facts.network.hairpins == 0 {
        return vec![];
    }
    let what = "clients are in the subnet of their real servers: by NAT such connections hang";
    let evidence = vec![format!("{} connections so far", facts.network.hairpins)];
    let fix = "put the real servers into a subnet of their own, or use direct routing for these clients";
    vec![finding("hairpin", Severity::Warning, what, evidence, fix)]
}

/// VIPs that nobody on a link can find.
fn vips(facts: &Facts) -> Vec<Finding> {
    let Some(Director { sample, .. }) = &facts.director else { return vec![] };
    let inside = |vip: IpAddr| {
        let all = facts.network.interfaces.iter().flat_map(|it| &it.addresses);
        all.filter_map(|text| subnet(text)).any(|(net, bits)| bits < width(net) && contains(net, bits, vip))
    };
    let host = |vip: IpAddr| {
        let all = facts.network.interfaces.iter().flat_map(|it| &it.addresses);
        all.filter_map(|text| subnet(text)).any(|(addr, bits)| bits == width(addr) && addr == vip)
    };
    let vips: BTreeSet<IpAddr> =
        sample.services.iter().filter_map(|it| address_of(it.name.split_once(' ')?.1)).collect();
    let nowhere: Vec<String> =
        vips.into_iter().filter(|vip| !inside(*vip) && !host(*vip)).map(|vip| vip.to_string()).collect();
    if nowhere.is_empty() {
        return vec![];
    }
    let what = "VIPs lie in no subnet of an interface: nobody finds them by ARP";
    let fix = "add VIP/32 to the addresses of an interface and route the VIP to the director, or use one in a subnet";
    vec![finding("vip-nowhere", Severity::Error, what, some(&nowhere), fix)]
}

const fn width(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn subnet(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, bits) = text.split_once('/')?;
    let (addr, bits): (IpAddr, u8) = (addr.parse().ok()?, bits.parse().ok()?);
    (bits <= width(addr)).then_some((addr, bits))
}

fn contains(net: IpAddr, bits: u8, addr: IpAddr) -> bool {
    let number = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    };
    let rest = u32::from(width(net) - bits);
    let shift = |addr| number(addr).checked_shr(rest).unwrap_or(0);
    net.is_ipv4() == addr.is_ipv4() && shift(net) == shift(addr)
}

fn availability(facts: &Facts) -> Vec<Finding> {
    let Some(Director { sample, .. }) = &facts.director else { return vec![] };
    let out: Vec<String> = sample
        .services
        .iter()
        .filter(|it| it.available == 0)
        .map(|it| match it.destinations_total {
            0 => format!("{} has no destination", it.name),
            all => format!(
                "{}: none of {all} destinations (weight 0, down, drained or over its threshold)",
                it.name
            ),
        })
        .collect();
    if out.is_empty() {
        return vec![];
    }
    let what = "services take no new connections";
    let fix = "uvs explain destination NAME says who set a weight to 0; uvs status has what checks say";
    vec![finding("no-destination", Severity::Error, what, some(&out), fix)]
}

/// Interfaces whose frames cross a bridge of the host.
fn bridged(facts: &Facts) -> Vec<&Interface> {
    facts.network.interfaces.iter().filter(|it| it.bridge.is_some()).collect()
}

fn bridge_netfilter(facts: &Facts) -> Vec<Finding> {
    let on: Vec<String> = facts
        .host
        .sysctls
        .iter()
        .filter(|(key, value)| key.starts_with("net.bridge.bridge-nf-call-") && value.as_str() == "1")
        .map(|(key, _)| format!("{key} = 1"))
        .collect();
    if on.is_empty() || bridged(facts).is_empty() {
        return vec![];
    }
    let what = "the host's firewall sees each frame on the director's bridges (br_netfilter)";
    let fix =
        format!("sysctl -w {}", on.iter().map(|it| it.replace(" = 1", "=0")).collect::<Vec<_>>().join(" "));
    vec![finding("bridge-netfilter", Severity::Warning, what, on, fix)]
}

/// Rules that see the director's packets, and may drop them.
fn firewall(facts: &Facts) -> Vec<Finding> {
    let filters_bridges = facts
        .host
        .sysctls
        .iter()
        .any(|(key, value)| key.starts_with("net.bridge.bridge-nf-call-") && value == "1");
    let forwards = facts.network.interfaces.iter().any(|it| it.device == "tun");
    let ours = |device: &str| {
        let mut all = facts.network.interfaces.iter().flat_map(|it| {
            [Some(&it.name), it.bridge.as_ref(), it.link.as_ref()].into_iter().flatten().chain(&it.ports)
        });
        all.any(|name| name == device)
    };
    let in_the_way = |family: &str, hook: &str, device: &str| match family {
        "netdev" => ours(device),
        "bridge" => !bridged(facts).is_empty() && hook != "output" && hook != "input",
        _ => hook == "forward" && (forwards || filters_bridges && !bridged(facts).is_empty()),
    };
    let found: Vec<String> = facts
        .host
        .drops
        .iter()
        .filter(|it| in_the_way(&it.family, &it.hook, &it.device))
        .map(|it| format!("table {}, hook {}: {}", it.chain, it.hook, it.what))
        .collect();
    let mut findings = Vec::new();
    if !found.is_empty() {
        let what = "a firewall stands where the director's packets pass, and may drop them";
        let fix = "nft list ruleset shows it: accept the services' packets there, for VIPs and real servers";
        findings.push(finding("firewall", Severity::Warning, what, some(&found), fix));
    }
    if let Some(why) = &facts.host.firewall_unseen {
        let what = "the firewall's rules could not be looked at";
        findings.push(finding(
            "firewall-unseen",
            Severity::Note,
            what,
            vec![why.clone()],
            "run uvs doctor as root, with nft",
        ));
    }
    findings
}

/// What a TUN device needs of the host's kernel.
fn forwarding(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let value = |key: &str| facts.host.sysctls.get(key).map(String::as_str);
    let runs = facts.director.is_some();
    for it in facts.network.interfaces.iter().filter(|it| it.device == "tun") {
        // A director that is not there yet sets them itself.
        if it.forwarding && runs && value("net.ipv4.ip_forward") == Some("0") {
            let what = format!("the kernel does not forward to and from {}", it.name);
            let evidence = vec!["net.ipv4.ip_forward = 0".to_owned()];
            findings.push(finding(
                "ip-forward",
                Severity::Error,
                what,
                evidence,
                "sysctl -w net.ipv4.ip_forward=1",
            ));
        }
        let key = format!("net.ipv4.conf.{}.rp_filter", it.name);
        let strict = ["net.ipv4.conf.all.rp_filter", key.as_str()]
            .into_iter()
            .filter_map(|key| Some((key, value(key)?.parse::<u8>().ok()?)))
            .max_by_key(|(_, value)| *value);
        if let Some((key, 1)) = strict
            && runs
        {
            let what =
                format!("the kernel drops clients' packets that come out of {}: strict rp_filter", it.name);
            let fix = format!("sysctl -w {key}=0");
            findings.push(finding("rp-filter", Severity::Error, what, vec![format!("{key} = 1")], fix));
        }
    }
    findings
}

/// Packets too big for a tunnel, and links smaller than what is configured.
fn tunnels(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for it in &facts.network.interfaces {
        let below = it.ports.iter().chain(&it.bridge).chain(&it.link).chain([&it.name]);
        let small: Vec<String> = below
            .filter_map(|name| Some((name, *facts.host.mtus.get(name)?)))
            .filter(|(_, mtu)| *mtu < it.mtu)
            .map(|(name, mtu)| format!("{name} takes {mtu} bytes, {} is configured for {}", it.name, it.mtu))
            .collect();
        if !small.is_empty() {
            let what = format!("the link of {} takes smaller packets than its mtu says", it.name);
            let fix = format!("set mtu of interface {} to the link's, or raise the link's", it.name);
            findings.push(finding("mtu", Severity::Warning, what, small, fix));
        }
    }
    let Some(Director { sample, .. }) = &facts.director else { return findings };
    let tunnelled = sample.services.iter().flat_map(|it| &it.destinations).any(|it| it.forwarding == "tun");
    let refused =
        sample.drops.iter().find(|it| it.reason == "fragmentation_needed").map_or(0, |it| it.frames);
    if tunnelled && refused > 0 {
        let what = "clients send packets that do not fit into a tunnel, and have to be told so";
        let evidence = vec![format!("{refused} packets refused with ICMP \"fragmentation needed\"")];
        let fix = "let that ICMP pass to the clients; better: raise the MTU towards the real servers by 20 to 40 bytes, \
                   or lower the MSS that the real servers announce (ip route ... advmss)";
        findings.push(finding("tunnel-mtu", Severity::Warning, what, evidence, fix));
    }
    findings
}

fn offloads(facts: &Facts) -> Vec<Finding> {
    let of = |(device, on): (&String, &Vec<String>)| {
        let what = format!("{device} merges packets for good, which must not be forwarded so");
        let flags: Vec<&str> =
            on.iter().map(|it| if it == "large-receive-offload" { "lro" } else { it }).collect();
        let fix = format!("ethtool -K {device} {} off", flags.join(" off "));
        finding("offload", Severity::Warning, what, on.iter().map(|it| format!("{it}: on")).collect(), fix)
    };
    facts.host.offloads.iter().filter(|(_, on)| !on.is_empty()).map(of).collect()
}

fn flow_cache(facts: &Facts) -> Vec<Finding> {
    let Some(Director { status, .. }) = &facts.director else { return vec![] };
    let of = status.not_accelerated.iter().map(|it| {
        let what = format!("the flow cache is not used on {}: all packets pass the director", it.interface);
        let fix = "provide what is missing, or say accelerate = \"off\" for that interface";
        finding("flow-cache", Severity::Warning, what, vec![it.why.clone()], fix)
    });
    let full = status.flow_cache.as_ref().filter(|cache| cache.refused > 0).map(|cache| {
        let what = "the flow cache had no room for connections, which pass the director";
        let evidence =
            vec![format!("{} refused; {} flows of {}", cache.refused, cache.flows, cache.flows_max)];
        finding("flow-cache-full", Severity::Warning, what, evidence, "raise flows under [limits]")
    });
    of.chain(full).collect()
}

fn limits(facts: &Facts) -> Vec<Finding> {
    /// Of any bound so much may be used before it is told.
    const FULL: u64 = 90;
    let mut findings = Vec::new();
    if let (Some(used), Some(max)) = (facts.host.open_files, facts.host.open_files_max)
        && used * 100 >= max * FULL
    {
        let what = "the director has nearly as many files open as it may";
        let evidence = vec![format!("{used} of {max} (ulimit -n)")];
        findings.push(finding(
            "open-files",
            Severity::Error,
            what,
            evidence,
            "LimitNOFILE=65536 in its unit, or ulimit -n",
        ));
    }
    if let Some(max) = facts.host.address_space_max {
        let what = "the director's address space is limited: modules of schedulers need much of it, though little memory";
        let evidence = vec![format!("{} MiB (ulimit -v)", max >> 20)];
        let fix = "ulimit -v unlimited; limit memory by a cgroup (MemoryMax=) instead";
        findings.push(finding("address-space", Severity::Warning, what, evidence, fix));
    }
    let Some(Director { status, .. }) = &facts.director else { return findings };
    for it in status.limits.iter().filter(|it| it.max > 0) {
        let is_full = it.is_nearly_full();
        let came = [
            (it.made_room, "made room for new ones since the start, and what still came of them was lost"),
            (it.refused, "packets of new ones were refused since the start"),
        ];
        let came: Vec<String> = came
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let (severity, what) = match (is_full, came.is_empty()) {
            (false, true) => continue,
            (false, false) => (Severity::Note, format!("{} were at their limit", it.name)),
            (true, true) => (
                Severity::Warning,
                format!("{} are nearly at their limit: old ones make room for new ones", it.name),
            ),
            (true, false) => (Severity::Error, format!("{} are at their limit, and it costs some", it.name)),
        };
        let fix = format!("raise {} under [limits], or find out who needs so many: uvs adm -Lnc", it.name);
        let evidence = [vec![it.shown()], came].concat();
        findings.push(finding("limit", severity, what, evidence, fix));
    }
    if let Some(lowered) = &status.limits_lowered {
        let what = "limits follow the memory that there is";
        let fix = "set them under [limits], or give the director more memory";
        findings.push(finding("memory", Severity::Note, what, vec![lowered.clone()], fix));
    }
    findings
}

fn module_cache(facts: &Facts) -> Vec<Finding> {
    let Some(why) = &facts.host.module_cache else { return vec![] };
    let what = "compiled modules cannot be kept: each start compiles them anew";
    let fix =
        "make the folder of cache under [modules] one that the director may write to, or cache = \"none\"";
    vec![finding("module-cache", Severity::Warning, what, vec![why.clone()], fix)]
}

fn clock(facts: &Facts) -> Vec<Finding> {
    /// A start takes less, and so does an adjustment that is none to speak of.
    const STEP_S: f64 = 5.0;
    let mut findings = Vec::new();
    if let Some(stepped) = facts.director.as_ref().and_then(stepped).filter(|by| by.abs() > STEP_S) {
        let what = "the clock was set since the director's start";
        let evidence = vec![format!("by {stepped:.0} s")];
        let fix = "checks and timeouts do not mind; times of logs and events before are not to be compared. Have the clock \
                   set before the director starts (After=time-sync.target)";
        findings.push(finding("clock-step", Severity::Warning, what, evidence, fix));
    }
    if facts.host.clock_daemons.as_ref().is_some_and(Vec::is_empty) {
        let what = "no program that keeps the clock right was seen";
        let evidence = vec!["no chronyd, ntpd, ntpsec, systemd-timesyncd or ptp4l runs".to_owned()];
        let fix = "run one, so that times of logs, events and certificates are right; where the host of a container or \
                   of a virtual machine does it, nothing is to be done";
        findings.push(finding("clock", Severity::Note, what, evidence, fix));
    }
    findings
}

/// By how many seconds the clock was set forward, since the director said that it is ready.
fn stepped(director: &Director) -> Option<f64> {
    let first = director.first_event.as_ref().filter(|it| it.number == 1)?;
    // It is ready some seconds after its start at most: what is more was set.
    let since = crate::time::unix(&director.sample.time)? - crate::time::unix(&first.time)?;
    let by = since - director.sample.uptime_s;
    // Of a slow start it is less than nothing.
    Some(if by < 0.0 { (by + START_S).min(0.0) } else { by })
}

/// A start takes at most so long.
const START_S: f64 = 60.0;

#[cfg(test)]
mod tests;
