//! `ipvsadm -Ln` with all its columns, and `-S -n`.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::fmt::Write as _;

use uvs_director::spec::{
    Family, Forwarding, Persistence, PersistenceEngine, Protocol, ServiceKey, Timeouts, Tunnel,
    TunnelChecksum,
};
use uvs_director::view::{Counters, DestinationView, Rates, ServiceView};

use super::{endpoint, forward_name, headline, protocol_name};

/// Which columns a listing has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Forwarding method, weight, active and inactive connections.
    #[default]
    Plain,
    /// `--stats`: counters.
    Stats,
    /// `--rate`: rates.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    PersistentConnections,
    /// `--tun-info`.
    TunnelInfo,
    /// `-S`: commands that restore the table. ipvsadm leaves the thresholds out, and so do we.
    Rules,
}

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ports by number (`-n`); addresses are always numbers, nothing is asked of DNS.
    pub numeric: bool,
    /// Services and destinations sorted (else list order, `--nosort`).
    pub sorted: bool,
    /// Large numbers in full (`--exact`).
    pub exact: bool,
    /// The columns.
    pub columns: Columns,
}

impl Default for Layout {
    fn default() -> Self {
        Self { numeric: true, sorted: true, exact: false, columns: Columns::Plain }
    }
}

/// The services as `ipvsadm -Ln` prints them.
pub fn services(services: &[ServiceView]) -> String {
    services_as(services, Layout::default())
}

/// The whole table in any layout.
pub fn services_as(services: &[ServiceView], layout: Layout) -> String {
    let mut text = String::new();
    if layout.columns != Columns::Rules {
        text.push_str(&headline());
    }
    text.push_str(title(layout.columns));
    let mut order: Vec<&ServiceView> = services.iter().collect();
    if layout.sorted {
        order = merge_sort(order, |a, b| compare_services(&a.spec.key, &b.spec.key));
    }
    for service in order {
        write_service(&mut text, service, layout);
    }
    text
}

/// One service (`ipvsadm -Ln -t ...`): without the version line.
pub fn service_as(service: &ServiceView, layout: Layout) -> String {
    let mut text = title(layout.columns).to_owned();
    write_service(&mut text, service, layout);
    text
}

/// `ipvsadm -L --timeout`.
pub fn timeouts(timeouts: Timeouts) -> String {
    format!(
        "Timeout (tcp tcpfin udp): {} {} {}\n",
        timeouts.tcp.as_secs(),
        timeouts.tcp_fin.as_secs(),
        timeouts.udp.as_secs()
    )
}

/// How ipvsadm orders services: by mark, family, protocol, address, port.
fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    match (a, b) {
        (ServiceKey::Address { protocol: p, addr: a }, ServiceKey::Address { protocol: q, addr: b }) => {
            (Family::of(a.ip()) as i32 - Family::of(b.ip()) as i32)
                .first_of(|| i32::from(p.number()) - i32::from(q.number()))
                .first_of(|| compare_addresses(*a, *b))
        }
        (ServiceKey::Mark { mark: m, family: a }, ServiceKey::Mark { mark: n, family: b }) => {
            wrapped(*m, *n).first_of(|| *a as i32 - *b as i32)
        }
        (ServiceKey::Address { .. }, ServiceKey::Mark { mark, .. }) => wrapped(0, *mark),
        (ServiceKey::Mark { mark, .. }, ServiceKey::Address { .. }) => wrapped(*mark, 0),
    }
}

/// Addresses, 32 bits at a time, then ports.
fn compare_addresses(a: SocketAddr, b: SocketAddr) -> i32 {
    let order = match (a.ip(), b.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => wrapped(a.to_bits(), b.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => [96, 64, 32, 0]
            .into_iter()
            .map(|shift| wrapped(word(a, shift), word(b, shift)))
            .find(|order| *order != 0)
            .unwrap_or(0),
        (a, b) => Family::of(a) as i32 - Family::of(b) as i32,
    };
    order.first_of(|| i32::from(a.port()) - i32::from(b.port()))
}

#[expect(clippy::cast_possible_truncation, reason = "32 of the 128 bits are asked for")]
fn word(addr: Ipv6Addr, shift: u32) -> u32 {
    (addr.to_bits() >> shift) as u32
}

/// The difference as ipvsadm takes it: in 32 bits with a sign, so that 192.168.0.0 comes before 10.0.0.0.
fn wrapped(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

trait FirstOf {
    /// This order, or the next criterion's when it says equal.
    fn first_of(self, next: impl FnOnce() -> i32) -> i32;
}

impl FirstOf for i32 {
    fn first_of(self, next: impl FnOnce() -> i32) -> i32 {
        if self == 0 { next() } else { self }
    }
}

/// Sorts by halves. The comparison above is no total order, which the standard library's sort refuses, and with
/// which the result depends on the algorithm: the C library merges halves, so does this.
fn merge_sort<T: Copy>(items: Vec<T>, compare: impl Fn(T, T) -> i32 + Copy) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let (first, second) = items.split_at(items.len() / 2);
    let first = merge_sort(first.to_vec(), compare);
    let second = merge_sort(second.to_vec(), compare);
    let mut sorted = Vec::with_capacity(items.len());
    let (mut left, mut right) = (first.as_slice(), second.as_slice());
    while let (Some((a, rest_a)), Some((b, rest_b))) = (left.split_first(), right.split_first()) {
        if compare(*a, *b) <= 0 {
            sorted.push(*a);
            left = rest_a;
        } else {
            sorted.push(*b);
            right = rest_b;
        }
    }
    sorted.extend_from_slice(left);
    sorted.extend_from_slice(right);
    sorted
}

const fn title(columns: Columns) -> &'static str {
    match columns {
        Columns::Plain => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
        Columns::Stats => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  -> RemoteAddress:Port\n"
        }
        Columns::Rate => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  -> RemoteAddress:Port\n"
        }
        Columns::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Columns::PersistentConnections => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Columns::TunnelInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
        Columns::Rules => "",
    }
}

/// How the service is called in this layout: `TCP  192.0.2.1:80` or `-t 192.0.2.1:80`.
fn service_name(key: &ServiceKey, layout: Layout) -> String {
    let rules = layout.columns == Columns::Rules;
    match key {
        ServiceKey::Address { protocol, addr } => {
            let addr = endpoint(*addr, Some(*protocol), layout.numeric);
            match (rules, protocol) {
                (false, _) => format!("{:<4} {addr}", protocol_name(*protocol)),
                (true, Protocol::Tcp) => format!("-t {addr}"),
                (true, Protocol::Udp) => format!("-u {addr}"),
                (true, Protocol::Sctp) => format!("--sctp-service {addr}"),
            }
        }
        ServiceKey::Mark { mark, family } => match (rules, family) {
            (false, Family::V4) => format!("FWM  {mark}"),
            (false, Family::V6) => format!("FWM  {mark} IPv6"),
            (true, Family::V4) => format!("-f {mark}"),
            (true, Family::V6) => format!("-f {mark} -6"),
        },
    }
}

/// The mask of a persistent service, when it is not the whole address: dotted for IPv4, a length for IPv6.
fn mask(persistence: &Persistence, family: Family) -> Option<String> {
    match family {
        Family::V4 if persistence.prefix_len < 32 => {
            let bits = u32::MAX.checked_shl(32 - u32::from(persistence.prefix_len)).unwrap_or(0);
            Some(core::net::Ipv4Addr::from_bits(bits).to_string())
        }
        Family::V6 if persistence.prefix_len < 128 => Some(persistence.prefix_len.to_string()),
        _ => None,
    }
}

fn write_service(text: &mut String, service: &ServiceView, layout: Layout) {
    let name = service_name(&service.spec.key, layout);
    match layout.columns {
        Columns::Rules => write_service_rule(text, service, &name),
        Columns::Stats => {
            push(text, format_args!("{name:<33}"));
            push_numbers(text, counter_values(&service.counters), layout.exact);
        }
        Columns::Rate => {
            push(text, format_args!("{name:<33}"));
            push_numbers(text, rate_values(&service.rates), layout.exact);
        }
        _ => write_service_head(text, service, &name),
    }
    text.push('\n');

    let mut order: Vec<&DestinationView> = service.destinations.iter().collect();
    if layout.sorted {
        order = merge_sort(order, |a, b| compare_addresses(a.spec.addr, b.spec.addr));
    }
    let protocol = match service.spec.key {
        ServiceKey::Address { protocol, .. } => protocol,
        // ipvsadm looks ports of marked services up as if they were TCP's.
        ServiceKey::Mark { .. } => Protocol::Tcp,
    };
    for destination in order {
        let addr = endpoint(destination.spec.addr, Some(protocol), layout.numeric);
        write_destination(text, destination, &name, &addr, layout);
    }
}

fn write_service_head(text: &mut String, service: &ServiceView, name: &str) {
    let spec = &service.spec;
    push(text, format_args!("{name} {}", spec.scheduler.name));
    if !spec.scheduler.options.is_empty() {
        push(text, format_args!(" ({})", spec.scheduler.options));
    }
    if let Some(persistence) = &spec.persistence {
        push(text, format_args!(" persistent {}", persistence.timeout.as_secs()));
        if let Some(mask) = mask(persistence, spec.key.family()) {
            push(text, format_args!(" mask {mask}"));
        }
        if let Some(PersistenceEngine::Sip) = persistence.engine {
            text.push_str(" pe sip");
        }
    }
    if spec.one_packet {
        text.push_str(" ops");
    }
}

fn write_service_rule(text: &mut String, service: &ServiceView, name: &str) {
    let spec = &service.spec;
    push(text, format_args!("-A {name} -s {}", spec.scheduler.name));
    if let Some(persistence) = &spec.persistence {
        push(text, format_args!(" -p {}", persistence.timeout.as_secs()));
        if let Some(mask) = mask(persistence, spec.key.family()) {
            push(text, format_args!(" -M {mask}"));
        }
        if let Some(PersistenceEngine::Sip) = persistence.engine {
            text.push_str(" --pe sip");
        }
    }
    if spec.one_packet {
        text.push_str(" -o");
    }
    if !spec.scheduler.options.is_empty() {
        push(text, format_args!(" -b {}", spec.scheduler.options));
    }
}

fn write_destination(text: &mut String, view: &DestinationView, service: &str, addr: &str, layout: Layout) {
    let spec = &view.spec;
    match layout.columns {
        Columns::Plain => push(
            text,
            format_args!(
                "  -> {addr:<28} {:<7} {:<6} {:<10} {:<10}",
                forward_name(view),
                spec.weight,
                view.active,
                view.inactive
            ),
        ),
        Columns::Stats => {
            push(text, format_args!("  -> {addr:<28}"));
            push_numbers(text, counter_values(&view.counters), layout.exact);
        }
        Columns::Rate => {
            // Connections and packets are never abbreviated here, unlike in the service's own line.
            let [connections, packets_in, packets_out, bytes_in, bytes_out] = rate_values(&view.rates);
            push(text, format_args!("  -> {addr:<28} {connections:>8} {packets_in:>8} {packets_out:>8}"));
            push_numbers(text, [bytes_in, bytes_out], layout.exact);
        }
        Columns::Thresholds => push(
            text,
            format_args!(
                "  -> {addr:<28} {:<10} {:<10} {:<10} {:<10}",
                spec.upper_threshold, spec.lower_threshold, view.active, view.inactive
            ),
        ),
        Columns::PersistentConnections => push(
            text,
            format_args!(
                "  -> {addr:<28} {:<9} {:<11} {:<10} {:<10}",
                spec.weight, view.persistent, view.active, view.inactive
            ),
        ),
        Columns::TunnelInfo => push(
            text,
            format_args!(
                "  -> {addr:<28} {:<7} {:<13} {:<6} {:<10} {:<10}",
                forward_name(view),
                tunnel_info(view),
                spec.weight,
                view.active,
                view.inactive
            ),
        ),
        Columns::Rules => {
            push(text, format_args!("-a {service} -r {addr} {} -w {}", forward_switch(view), spec.weight));
            if let Forwarding::Tunnel(tunnel) = spec.forwarding {
                push_tunnel_rule(text, tunnel);
            }
        }
    }
    text.push('\n');
}

const fn forward_switch(view: &DestinationView) -> &'static str {
    match view.spec.forwarding {
        Forwarding::Nat => "-m",
        Forwarding::Direct => "-g",
        Forwarding::Tunnel(_) => "-i",
    }
}

fn tunnel_info(view: &DestinationView) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match view.spec.forwarding {
        Forwarding::Tunnel(tunnel) => match tunnel {
            Tunnel::Ipip => "ipip".to_owned(),
            Tunnel::Gue { port, checksum: sum } => format!("gue:{port}:{}", checksum(sum)),
            Tunnel::Gre { checksum: true } => "gre:+c".to_owned(),
            Tunnel::Gre { checksum: false } => "gre:-c".to_owned(),
        },
        Forwarding::Nat | Forwarding::Direct => "n/a".to_owned(),
    }
}

fn push_tunnel_rule(text: &mut String, tunnel: Tunnel) {
    match tunnel {
        Tunnel::Ipip => text.push_str(" --tun-type ipip"),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                TunnelChecksum::None => "--tun-nocsum",
                TunnelChecksum::Full => "--tun-csum",
                TunnelChecksum::Remote => "--tun-remcsum",
            };
            push(text, format_args!(" --tun-type gue --tun-port {port} {checksum}"));
        }
        Tunnel::Gre { checksum: true } => text.push_str(" --tun-type gre --tun-csum"),
        Tunnel::Gre { checksum: false } => text.push_str(" --tun-type gre --tun-nocsum"),
    }
}

const fn counter_values(counters: &Counters) -> [u64; 5] {
    [counters.connections, counters.packets_in, counters.packets_out, counters.bytes_in, counters.bytes_out]
}

const fn rate_values(rates: &Rates) -> [u64; 5] {
    [rates.connections, rates.packets_in, rates.packets_out, rates.bytes_in, rates.bytes_out]
}

/// Numbers in columns of nine; over eight digits they are cut to a unit (K, M, G, T) unless `exact`.
fn push_numbers<const N: usize>(text: &mut String, numbers: [u64; N], exact: bool) {
    const UNITS: [(u64, u64, char); 3] = [
        (1_000_000_000, 1_000, 'K'),
        (100_000_000_000, 1_000_000, 'M'),
        (100_000_000_000_000, 1_000_000_000, 'G'),
    ];
    for number in numbers {
        if exact || number < 100_000_000 {
            push(text, format_args!(" {number:>8}"));
        } else {
            let (unit, letter) = UNITS
                .iter()
                .find(|(below, ..)| number < *below)
                .map_or((1_000_000_000_000, 'T'), |&(_, unit, letter)| (unit, letter));
            push(text, format_args!("{:>8}{letter}", number / unit));
        }
    }
}

fn push(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
