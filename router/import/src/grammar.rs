//! From blocks to what a keepalived.conf says of LVS.

use core::net::IpAddr;

use uvs_director::spec::{Family, Protocol};

use crate::checker;
use crate::group;
use crate::method::{self, Given};
use crate::model::{Conf, Hint, Kind, Name, Real, Script, Sorry, Timing, TrackFile, Virtual};
use crate::remark::{At, Remarks};
use crate::scripts::run_as;
use crate::tree::Node;
use crate::value::{address, flag, number, number_of, port, required, switch, unknown};
use crate::words::shell_words;

const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"];

/// Blocks that are about something else than LVS, as their names begin.
const OTHERS: [&str; 7] = ["vrrp_", "static_", "track_", "garp_", "linkbeat_", "bfd_", "SSL"];
/// Single statements at the top.
const BARE: [&str; 7] = [
    "net_namespace",
    "net_namespace_ipvs",
    "instance",
    "use_pid_dir",
    "child_wait_time",
    "namespace_with_ipsets",
    "random_seed",
];

/// Of another program that took over the language: what has no meaning in keepalived.
const DIALECT: [&str; 22] = [
    "local_address_group",
    "laddr_group_name",
    "deny_address_group",
    "allow_address_group",
    "daddr_group_name",
    "waddr_group_name",
    "syn_proxy",
    "establish_timeout",
    "expire_quiescent_conn",
    "bps",
    "limit_proportion",
    "proxy_protocol",
    "quic",
    "hash_target",
    "src-range",
    "dst-range",
    "iif",
    "oif",
    "vip_bind_dev",
    "tunnel_entry",
    "announce_group",
    "dynamic_weight_enable",
];

pub(crate) fn conf(nodes: &[Node], remarks: &mut Remarks) -> Conf {
    let mut conf = Conf::default();
    for node in nodes {
        match node.keyword() {
            "virtual_server" => {
                if let Some(server) = virtual_server(node, remarks) {
                    conf.virtuals.push(server);
                }
            }
            "virtual_server_group" => {
                if let Some(name) = required(node, remarks) {
                    let group = group::read(node, remarks);
                    if conf.groups.insert(name.to_owned(), group).is_some() {
                        remarks.source(
                            &node.at,
                            format!("a second virtual_server_group {name}: the last one counts"),
                        );
                    }
                }
            }
            "global_defs" => global(&mut conf, node, remarks),
            "track_file" | "vrrp_track_file" => track_file(&mut conf, node, remarks),
            "static_ipaddress" => {
                addresses(&mut conf, node.children(), None);
                remarks.left_out(&node.at, "static_ipaddress: addresses of the host stay the host's");
            }
            keyword if OTHERS.iter().any(|name| keyword.starts_with(name)) => {
                let device = node.children().iter().find(|child| child.keyword() == "interface");
                let device = device.and_then(|line| line.argument(0));
                for list in
                    node.children().iter().filter(|child| child.keyword().starts_with("virtual_ipaddress"))
                {
                    addresses(&mut conf, list.children(), device);
                }
                let name = node.words.join(" ");
                let why = if keyword.starts_with("vrrp_") {
                    "uvs has no VRRP yet; keepalived without its virtual servers may go on to do this"
                } else if keyword == "SSL" {
                    "checks over TLS show no certificate of their own"
                } else {
                    "it is not about virtual servers"
                };
                remarks.left_out(&node.at, format!("{name}: {why}"));
            }
            keyword if BARE.contains(&keyword) => {
                remarks.left_out(&node.at, format!("{keyword}: it is about keepalived's own process"));
            }
            keyword if DIALECT.contains(&keyword) => dialect(node, remarks),
            _ => unknown(node, "keepalived.conf", remarks),
        }
    }
    own_users(&mut conf);
    conf
}

/// Programs that name nobody have `script_user`, wherever that stands in the file.
fn own_users(conf: &mut Conf) {
    let Some(usual) = &conf.script_user else { return };
    for server in &mut conf.virtuals {
        for script in server.scripts.iter_mut().chain(server.reals.iter_mut().flat_map(|it| &mut it.scripts))
        {
            script.user.get_or_insert_with(|| usual.clone());
        }
        for checker in server.reals.iter_mut().flat_map(|real| &mut real.checkers) {
            if let Kind::Misc(misc) = &mut checker.kind {
                misc.user.get_or_insert_with(|| usual.clone());
            }
        }
    }
}

fn dialect(node: &Node, remarks: &mut Remarks) {
    let text = format!(
        "{}: of a dialect (DPVS, monalive), not of keepalived; it has no counterpart",
        node.keyword()
    );
    remarks.left_out(&node.at, text);
}

fn global(conf: &mut Conf, node: &Node, remarks: &mut Remarks) {
    let mut others = Vec::new();
    for child in node.children() {
        match child.keyword() {
            "lvs_timeouts" => {
                let words: Vec<&str> = child.words.iter().skip(1).map(String::as_str).collect();
                for pair in words.chunks(2) {
                    let index = match pair[0] {
                        "tcp" => 0,
                        "tcpfin" | "tcp_fin" => 1,
                        "udp" => 2,
                        other => {
                            remarks.source(&child.at, format!("lvs_timeouts knows no {other}"));
                            continue;
                        }
                    };
                    let seconds = pair.get(1).and_then(|text| number_of(child, text, 0, 2_147_483, remarks));
                    conf.timeouts[index] = seconds.filter(|seconds| *seconds > 0);
                }
            }
            "script_user" => {
                if required(child, remarks).is_some() {
                    conf.script_user = run_as(shell_words(child.rest()).into_iter(), &child.at, remarks);
                }
            }
            "lvs_sync_daemon" | "lvs_sync_daemon_interface" => {
                remarks.left_out(
                    &child.at,
                    "lvs_sync_daemon: connections are not synchronised between directors",
                );
            }
            keyword => others.push(keyword.to_owned()),
        }
    }
    if !others.is_empty() {
        others.sort();
        others.dedup();
        let text = format!(
            "global_defs: {}: mail, SNMP, scripts and processes are keepalived's own",
            others.join(", ")
        );
        remarks.left_out(&node.at, text);
    }
}

fn track_file(conf: &mut Conf, node: &Node, remarks: &mut Remarks) {
    let Some(name) = required(node, remarks) else { return };
    let mut file = TrackFile::default();
    for child in node.children() {
        match child.keyword() {
            "file" => file.path = required(child, remarks).map(str::to_owned),
            "weight" => file.weight = required(child, remarks).and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
    conf.track_files.insert(name.to_owned(), file);
}

/// Addresses with the lengths of their subnets, a line each.
/// `device`: where those are that do not say so.
fn addresses(conf: &mut Conf, lines: &[Node], device: Option<&str>) {
    /// Hints, and no more of them than are looked through quickly.
    const MAX: usize = 4096;
    for line in lines {
        if let Some((address, len)) = line.keyword().split_once('/')
            && let (Ok(address), Ok(len)) = (address.parse::<IpAddr>(), len.parse::<u8>())
            && len <= if address.is_ipv4() { 32 } else { 128 }
            && conf.addresses.len() < MAX
        {
            let own = line.words.iter().position(|word| word == "dev").and_then(|at| line.words.get(at + 1));
            let device = own.map(String::as_str).or(device).map(str::to_owned);
            conf.addresses.push(Hint { address, len, device });
        }
    }
}

fn virtual_server(node: &Node, remarks: &mut Remarks) -> Option<Virtual> {
    if node.block.is_none() {
        remarks.source(&node.at, "virtual_server has no block: it is ignored");
        return None;
    }
    let name = match required(node, remarks)? {
        "fwmark" => Name::Mark(u32::try_from(nth_number(node, 1, remarks)?).ok()?),
        "group" => Name::Group(node.argument(1)?.to_owned()),
        text => {
            let ip = address(node, text, remarks)?;
            let port = match node.argument(1) {
                Some(text) => port(node, text, remarks)?,
                None => 0,
            };
            Name::Address(ip, port)
        }
    };
    let mut server = Virtual {
        at: node.at.clone(),
        name,
        protocol: None,
        family: None,
        scheduler: None,
        flags: [false; 3],
        method: None,
        persistence: None,
        prefix_len: None,
        one_packet: None,
        timing: Timing::default(),
        quorum: None,
        hysteresis: None,
        inhibit: false,
        weight: None,
        host: None,
        sorry: None,
        scripts: Vec::new(),
        omega: false,
        reals: Vec::new(),
    };
    for child in node.children() {
        in_virtual(&mut server, child, remarks);
    }
    Some(server)
}

fn nth_number(node: &Node, index: usize, remarks: &mut Remarks) -> Option<u64> {
    let text = node.argument(index).unwrap_or_default();
    number_of(node, text, 0, u32::MAX.into(), remarks)
}

fn in_virtual(server: &mut Virtual, node: &Node, remarks: &mut Remarks) {
    // `alpha off` is alpha here.
    if checker::timing(&mut server.timing, node, 1, remarks) {
        return;
    }
    match node.keyword() {
        "lvs_sched" | "lb_algo" => scheduler(server, node, remarks),
        "lvs_method" | "lb_kind" => server.method = way(node, remarks).or(server.method),
        "flag-1" => server.flags[0] = true,
        "flag-2" => server.flags[1] = true,
        "flag-3" => server.flags[2] = true,
        keyword @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback") => {
            let (of, name) = keyword.split_at(2);
            if server.scheduler.as_deref() == Some(of) {
                server.flags[usize::from(name == "-port")] = true;
            } else {
                let text = format!("{keyword} counts only behind lvs_sched {of}: it is ignored");
                remarks.source(&node.at, text);
            }
        }
        "ops" => server.one_packet = Some(node.at.clone()),
        "hashed" => {}
        "persistence_timeout" => {
            let seconds = match node.argument(0) {
                None => Some(360),
                Some(_) => number(node, 1, 2_678_400, remarks),
            };
            server.persistence = seconds.or(server.persistence);
        }
        "persistence_granularity" => granularity(server, node, remarks),
        "persistence_engine" => {
            remarks.left_out(&node.at, "persistence_engine: clients stick by their address, not by Call-ID");
        }
        "protocol" => protocol(server, node, remarks),
        "ip_family" => match required(node, remarks) {
            Some("inet") => server.family = Some(Family::V4),
            Some("inet6") => server.family = Some(Family::V6),
            Some(other) => remarks.source(&node.at, format!("ip_family {other} is none: it is ignored")),
            None => {}
        },
        "ha_suspend" => {
            let _ = flag(node, remarks);
            remarks.left_out(&node.at, "ha_suspend: checks run whether this host has the VIP or not");
        }
        "alpha" => server.timing.alpha = Some(flag(node, remarks)),
        "omega" => server.omega = flag(node, remarks),
        "quorum" => {
            if let Some(quorum) = number(node, 0, u32::MAX.into(), remarks) {
                if quorum == 0 {
                    remarks.source(&node.at, "quorum 0 is taken for 1");
                }
                server.quorum = Some((node.at.clone(), quorum.max(1)));
            }
        }
        "hysteresis" => {
            let value = number(node, 0, u32::MAX.into(), remarks);
            server.hysteresis = value.map(|value| (node.at.clone(), value));
        }
        "quorum_up" | "quorum_down" => server.scripts.extend(script(node, remarks)),
        "sorry_server" => sorry_server(server, node, remarks),
        "sorry_server_inhibit" if server.sorry.is_some() => {}
        "sorry_server_lvs_method" => {
            let method = way(node, remarks);
            match &mut server.sorry {
                Some(sorry) => sorry.method = method,
                None => {
                    remarks.source(&node.at, "sorry_server_lvs_method before sorry_server: it is ignored")
                }
            }
        }
        "inhibit_on_failure" => server.inhibit = flag(node, remarks),
        "weight" => server.weight = number(node, 1, 2_147_483_647, remarks).or(server.weight),
        "smtp_alert" | "snmp_name" => mail(node, remarks),
        "virtualhost" => server.host = required(node, remarks).map(str::to_owned),
        "nat_mask" | "net_mask" => {
            remarks.source(&node.at, format!("{}: no keepalived of today reads it", node.keyword()))
        }
        "real_server" => server.reals.extend(real_server(node, remarks)),
        keyword if DIALECT.contains(&keyword) => dialect(node, remarks),
        _ => unknown(node, "virtual_server", remarks),
    }
}

fn scheduler(server: &mut Virtual, node: &Node, remarks: &mut Remarks) {
    let Some(name) = required(node, remarks) else { return };
    if SCHEDULERS.contains(&name) {
        server.scheduler = Some(name.to_owned());
    } else {
        remarks.source(&node.at, format!("{} {name} is no scheduler: wlc runs", node.keyword()));
        server.scheduler = Some("wlc".to_owned());
    }
}

fn way(node: &Node, remarks: &mut Remarks) -> Option<uvs_director::spec::Forwarding> {
    let words: Vec<&str> = node.words.iter().skip(1).map(String::as_str).collect();
    if words.is_empty() {
        let _ = required(node, remarks);
        return None;
    }
    match method::parse(&words) {
        Given::Known(forwarding) => Some(forwarding),
        Given::Wrong(fault) => {
            remarks.source(&node.at, format!("{} {}: {fault}", node.keyword(), node.rest()));
            None
        }
        Given::Dialect => {
            dialect(node, remarks);
            None
        }
    }
}

fn protocol(server: &mut Virtual, node: &Node, remarks: &mut Remarks) {
    let Some(text) = required(node, remarks) else { return };
    let protocol = match text.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => {
            remarks.source(&node.at, format!("protocol {text} is none of TCP, UDP and SCTP: it is ignored"));
            return;
        }
    };
    if matches!(server.name, Name::Mark(_)) {
        remarks.source(&node.at, "protocol: a firewall mark has packets of all protocols, and it is ignored");
    }
    server.protocol = Some(protocol);
}

fn granularity(server: &mut Virtual, node: &Node, remarks: &mut Remarks) {
    let Some(text) = required(node, remarks) else { return };
    if let Ok(mask) = text.parse::<core::net::Ipv4Addr>() {
        let bits = mask.to_bits();
        if bits.leading_ones() == bits.count_ones() {
            server.prefix_len = u8::try_from(bits.leading_ones()).ok();
        } else {
            let text = format!("persistence_granularity {text} has a hole: clients stick one by one");
            remarks.left_out(&node.at, text);
        }
    } else {
        let len = number(node, 1, 128, remarks);
        server.prefix_len = len.and_then(|len| u8::try_from(len).ok());
        if server.prefix_len.is_none() {
            return;
        }
    }
    if server.persistence.is_none() {
        let text = "persistence_granularity without persistence_timeout: clients stick for 360 s";
        remarks.source(&node.at, text);
        server.persistence = Some(360);
    }
}

fn sorry_server(server: &mut Virtual, node: &Node, remarks: &mut Remarks) {
    let Some(text) = required(node, remarks) else { return };
    if server.sorry.is_some() {
        remarks.source(&node.at, "a second sorry_server: the last one counts");
    }
    let Some(ip) = address(node, text, remarks) else { return };
    let port = match node.argument(1) {
        Some(text) => match port(node, text, remarks) {
            Some(port) => Some(port),
            None => return,
        },
        None => None,
    };
    server.sorry = Some(Sorry { at: node.at.clone(), ip, port, method: None });
}

fn script(node: &Node, remarks: &mut Remarks) -> Option<Script> {
    required(node, remarks)?;
    // The first word is the command with its arguments; a user may follow.
    let mut words = shell_words(node.rest()).into_iter();
    let command = words.next()?;
    let user = run_as(words, &node.at, remarks);
    Some(Script { at: node.at.clone(), keyword: node.keyword().to_owned(), command, user })
}

fn mail(node: &Node, remarks: &mut Remarks) {
    remarks.left_out(
        &node.at,
        format!("{}: there is no mail and no SNMP; metrics and the log tell", node.keyword()),
    );
}

fn real_server(node: &Node, remarks: &mut Remarks) -> Option<Real> {
    let ip = required(node, remarks).and_then(|text| address(node, text, remarks))?;
    let port = match node.argument(1) {
        Some(text) => Some(port(node, text, remarks)?),
        None => None,
    };
    let at: At = node.at.clone();
    let mut real = Real {
        at,
        ip,
        port: port.filter(|port| *port != 0),
        weight: None,
        method: None,
        upper: 0,
        lower: 0,
        inhibit: None,
        host: None,
        timing: Timing::default(),
        checkers: Vec::new(),
        scripts: Vec::new(),
    };
    for child in node.children() {
        if let Some(checkers) = checker::checkers(child, remarks) {
            real.checkers.extend(checkers);
            continue;
        }
        if checker::timing(&mut real.timing, child, 1, remarks) {
            continue;
        }
        match child.keyword() {
            "weight" => real.weight = number(child, 0, 2_147_483_647, remarks).or(real.weight),
            "lvs_method" => real.method = way(child, remarks).or(real.method),
            "uthreshold" => real.upper = number(child, 0, u32::MAX.into(), remarks).unwrap_or(real.upper),
            "lthreshold" => real.lower = number(child, 0, u32::MAX.into(), remarks).unwrap_or(real.lower),
            "inhibit_on_failure" => real.inhibit = switch(child, remarks).or(real.inhibit),
            "alpha" => real.timing.alpha = switch(child, remarks).or(real.timing.alpha),
            "notify_up" | "notify_down" => real.scripts.extend(script(child, remarks)),
            "smtp_alert" | "snmp_name" => mail(child, remarks),
            "virtualhost" => real.host = required(child, remarks).map(str::to_owned),
            keyword if DIALECT.contains(&keyword) => dialect(child, remarks),
            _ => unknown(child, "real_server", remarks),
        }
    }
    Some(real)
}
