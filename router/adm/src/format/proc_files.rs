//! The files under `/proc/net`: `ip_vs`, `ip_vs_conn`, `ip_vs_conn_sync`, `ip_vs_stats`,
//! `ip_vs_stats_percpu`, `ip_vs_app`.

use core::net::{IpAddr, SocketAddr};
use std::fmt::Write as _;

use uvs_director::spec::{Family, Persistence, Protocol, ServiceKey};
use uvs_director::view::{ConnectionView, Counters, Rates, ServiceView, Status};

use super::{connection_protocol_name, forward_name, headline, protocol_name};

/// The kernel counts persistence in ticks; the recorded one made 250 of them a second.
const TICKS_PER_SECOND: u64 = 250;

/// `/proc/net/ip_vs`: services in the order given, destinations in list order, numbers in hex.
pub fn proc_services(services: &[ServiceView]) -> String {
    let mut text = headline();
    text.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    text.push_str("  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n");
    for service in services {
        let spec = &service.spec;
        let scheduler = &spec.scheduler.name;
        let ops = if spec.one_packet { "ops " } else { "" };
        match spec.key {
            ServiceKey::Address { protocol, addr } => {
                push(&mut text, format_args!("{}  {} {scheduler} ", protocol_name(protocol), endpoint(addr)));
                // The kernel prints the one-packet flag of IPv4 services only.
                if addr.is_ipv4() {
                    push(&mut text, format_args!("{ops} "));
                }
            }
            ServiceKey::Mark { mark, .. } => {
                push(&mut text, format_args!("FWM  {mark:08X} {scheduler} {ops}"));
            }
        }
        if let Some(persistence) = &spec.persistence {
            let ticks = persistence.timeout.as_secs() * TICKS_PER_SECOND;
            push(&mut text, format_args!("persistent {ticks} {:08X}", mask(persistence, spec.key.family())));
        }
        text.push('\n');
        for destination in &service.destinations {
            push(
                &mut text,
                format_args!(
                    "  -> {}      {:<7} {:<6} {:<10} {:<10}\n",
                    endpoint(destination.spec.addr),
                    forward_name(destination),
                    destination.spec.weight,
                    destination.active,
                    destination.inactive
                ),
            );
        }
    }
    text
}

/// The mask as the kernel keeps it: IPv4 as an address; of IPv6 the length, with its bytes swapped on the way out.
fn mask(persistence: &Persistence, family: Family) -> u32 {
    let len = u32::from(persistence.prefix_len);
    match family {
        Family::V4 => u32::MAX.checked_shl(32_u32.saturating_sub(len)).unwrap_or(0),
        Family::V6 => len.swap_bytes(),
    }
}

/// `/proc/net/ip_vs_conn`, in the order given. The time left is in whole seconds, rounded down.
pub fn proc_connections(connections: &[ConnectionView]) -> String {
    let mut text =
        String::from("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n");
    for connection in connections {
        push_ends(&mut text, connection);
        push(&mut text, format_args!(" {:<11} {:>7}\n", connection.state, connection.expires_in.as_secs()));
    }
    text
}

/// `/proc/net/ip_vs_conn_sync`: the same with the entry's origin. All are our own; none came from a peer.
pub fn proc_connections_sync(connections: &[ConnectionView]) -> String {
    let mut text = String::from("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n");
    for connection in connections {
        push_ends(&mut text, connection);
        push(
            &mut text,
            format_args!(" {:<11} LOCAL  {:>7}\n", connection.state, connection.expires_in.as_secs()),
        );
    }
    text
}

fn push_ends(text: &mut String, connection: &ConnectionView) {
    push(text, format_args!("{:<3}", connection_protocol_name(connection.protocol)));
    for end in [connection.client, connection.virtual_addr, connection.destination] {
        push(text, format_args!(" {} {:04X}", address(end.ip()), end.port()));
    }
}

/// `/proc/net/ip_vs_stats`: totals in hex, then rates.
pub fn proc_stats(status: &Status) -> String {
    let mut text = String::from(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   Conns  Packets  Packets            Bytes            Bytes\n",
    );
    push_counters(&mut text, &status.total);
    text.push_str("\n\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    push_rates(&mut text, &status.rates);
    text.push('\n');
    text
}

/// `/proc/net/ip_vs_stats_percpu`: a line for each worker, then their sum and the rates.
pub fn proc_stats_percpu(workers: &[Counters], status: &Status) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\nCPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (index, counters) in workers.iter().enumerate() {
        push(&mut text, format_args!("{index:>3X} "));
        push_counters(&mut text, counters);
        text.push('\n');
    }
    text.push_str("  ~ ");
    push_counters(&mut text, &status.total);
    text.push_str("\n\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    ");
    push_rates(&mut text, &status.rates);
    text.push('\n');
    text
}

fn push_counters(text: &mut String, counters: &Counters) {
    push(
        text,
        format_args!(
            "{:>8X} {:>8X} {:>8X} {:>16X} {:>16X}",
            counters.connections,
            counters.packets_in,
            counters.packets_out,
            counters.bytes_in,
            counters.bytes_out
        ),
    );
}

fn push_rates(text: &mut String, rates: &Rates) {
    push(
        text,
        format_args!(
            "{:>8X} {:>8X} {:>8X} {:>16X} {:>16X}",
            rates.connections, rates.packets_in, rates.packets_out, rates.bytes_in, rates.bytes_out
        ),
    );
}

/// A helper that looks into payloads, as `/proc/net/ip_vs_app` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App {
    /// Whose ports.
    pub protocol: Protocol,
    /// On which port of the service.
    pub port: u16,
    /// Connections that use it now.
    pub users: u32,
    /// Its name.
    pub name: &'static str,
}

/// `/proc/net/ip_vs_app`.
pub fn proc_apps(apps: &[App]) -> String {
    let mut text = String::from("prot port    usecnt name\n");
    for app in apps {
        push(
            &mut text,
            format_args!(
                "{:<3}  {:<7} {:<6} {:<17}\n",
                protocol_name(app.protocol),
                app.port,
                app.users,
                app.name
            ),
        );
    }
    text
}

/// Eight hex digits, or the full form of IPv6 in lower case.
fn address(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => format!("{:08X}", addr.to_bits()),
        IpAddr::V6(addr) => addr.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}

fn endpoint(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(_) => format!("{}:{:04X}", address(addr.ip()), addr.port()),
        SocketAddr::V6(_) => format!("[{}]:{:04X}", address(addr.ip()), addr.port()),
    }
}

fn push(text: &mut String, arguments: core::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
