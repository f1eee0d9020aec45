//! The texts of ipvsadm's listings and of the files under `/proc/net`, column for column.
//!
//! ```text
//!   ServiceView[]     --> services (-Ln), services_as, service_as, rules (-S -n), proc_services
//!   ConnectionView[]  --> connections (-Lnc), connections_as, proc_connections, proc_connections_sync
//!   Status            --> proc_stats, proc_stats_percpu
//! ```
//!
//! Everything here is a pure function from a snapshot to text; each text ends with a line feed.

mod connections;
mod listing;
mod names;
mod proc_files;
mod usage;

pub use connections::{connections, connections_as, connections_heading, push_connections};
pub use listing::{Columns, Layout, service_as, services, services_as, timeouts};
pub use proc_files::{
    App, proc_apps, proc_connections, proc_connections_sync, proc_services, proc_stats, proc_stats_percpu,
};
pub use usage::{daemons, usage, version};

pub(crate) use names::{port_number, scheduler_flags};

use core::net::SocketAddr;
use std::borrow::Cow;

use uvs_director::spec::{Forwarding, Protocol};
use uvs_director::view::{ConnectionProtocol, DestinationView};

/// What ipvsadm prints for the number of buckets: the kernel's default. Our table grows as it needs to.
pub const TABLE_SIZE: usize = 4096;

/// The first line of the listings and of `/proc/net/ip_vs`.
fn headline() -> String {
    format!("IP Virtual Server version 1.2.1 (size={TABLE_SIZE})\n")
}

/// The protocol's name in upper case, as listings begin their lines.
const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

const fn connection_protocol_name(protocol: ConnectionProtocol) -> &'static str {
    match protocol {
        ConnectionProtocol::Transport(protocol) => protocol_name(protocol),
        ConnectionProtocol::Ip => "IP",
    }
}

/// `address:port`, IPv6 in brackets; the port by name when `numeric` is off and it has one.
fn endpoint(addr: SocketAddr, protocol: Option<Protocol>, numeric: bool) -> String {
    let port: Cow<'static, str> = match protocol.and_then(|protocol| names::port_name(addr.port(), protocol))
    {
        Some(name) if !numeric => Cow::Borrowed(name),
        _ => Cow::Owned(addr.port().to_string()),
    };
    match addr {
        SocketAddr::V4(addr) => format!("{}:{port}", addr.ip()),
        SocketAddr::V6(addr) => format!("[{}]:{port}", addr.ip()),
    }
}

/// The word in the column `Forward`.
const fn forward_name(destination: &DestinationView) -> &'static str {
    match destination.spec.forwarding {
        Forwarding::Nat => "Masq",
        Forwarding::Direct => "Route",
        Forwarding::Tunnel(_) => "Tunnel",
    }
}
