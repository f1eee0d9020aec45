//! Where a new connection goes: by a persistence template, else by the service's scheduler.
//!
//! ```text
//!   service without persistence:   scheduler --> destination
//!   service with persistence:      template of the client's prefix --> its destination
//!                                     | none, or its destination is gone or quiesced
//!                                     `--> scheduler --> destination, and a new template
//! ```
//!
//! A template is an entry of the connection table with client port 0. Its key has the service's port; port 0 where
//! one template stands for several ports (all-port and FTP services); and for a firewall mark the protocol IP and the
//! mark in place of the VIP.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::{Address, Packet};

use crate::base::scheduler::Flow;
use crate::base::spec::{Family, Options, Persistence, Prefix, Protocol, ServiceKey};
use crate::base::time::Instant;
use crate::base::verdict::DropReason;
use crate::base::view::Origin;
use crate::choose::service::{FTP_DATA_PORT, FTP_PORT, Service};
use crate::track::connection::{Connection, PROTOCOL_IP, RequestKey};
use crate::track::control::Control;
use crate::track::destination::{Counted, Destination};
use crate::track::past::Past;
use crate::track::table::Table;

/// How often a connection asks for its client's template. The second time finds the one that the first has made, unless
/// other workers remove destinations, or the table is so full that it had to make room, in between.
const TEMPLATE_ROUNDS: usize = 4;

/// What was decided for a new connection.
pub(crate) struct Placement {
    pub(crate) destination: Arc<Destination>,
    /// The port at the destination.
    pub(crate) port: u16,
    /// Of the template that decided; it counts this connection already.
    pub(crate) control: Option<Arc<Control>>,
    pub(crate) origin: Origin,
}

impl Placement {
    /// The connection that goes there.
    #[inline(always)]
    pub(crate) fn connection(self, key: RequestKey, now: Instant) -> Connection {
        let past = Past::new(self.origin);
        Connection { past, ..Connection::new(key, self.destination, self.port, self.control, now) }
    }
}

/// A new connection as its scheduler sees it.
pub(crate) fn flow_of(packet: &Packet, protocol: Protocol, mark: u32) -> Flow {
    Flow {
        protocol,
        client: packet.src.to_ip(),
        client_port: packet.src_port,
        virtual_addr: packet.dst.to_ip(),
        virtual_port: packet.dst_port,
        mark,
    }
}

/// Whether a packet that a service catches, but finds no place for, is left to the director as a host, or to plain
/// routing. `is_local`: whether it is to an address of ours.
pub(crate) fn is_left_alone(
    service: ServiceKey,
    packet: &Packet,
    options: &Options,
    is_local: impl FnOnce() -> bool,
) -> bool {
    // What an FTP service catches beside its own port may be anything.
    packet.src_port == FTP_DATA_PORT
        || own_port(service) == Some(FTP_PORT) && packet.dst_port != FTP_PORT
        // With `cache_bypass` a transparent cache that is gone is gone around.
        || options.cache_bypass && matches!(service, ServiceKey::Mark { .. }) && !is_local()
}

/// Decides where a new connection goes. `None`: there is no destination for it.
///
/// # Errors
/// The table has no room for a template.
pub(crate) fn place(
    table: &Table,
    options: &Options,
    packet: &Packet,
    flow: &Flow,
    service: &Service,
    now: Instant,
) -> Result<Option<Placement>, DropReason> {
    // Active FTP's data connections come from the server's side; they are known already or not ours.
    if packet.src_port == FTP_DATA_PORT {
        return Ok(None);
    }
    if let Some(persistence) = service.with_spec(|spec| spec.persistence) {
        return place_by_template(table, options, packet, flow, service, (persistence, now));
    }
    // A service that caught a port which is not its own places connections by its templates only.
    if own_port(service.key).is_some_and(|port| port != packet.dst_port) {
        return Ok(None);
    }
    Ok(service.pick(flow, now, options.compat_ipvs).map(|(destination, picked)| Placement {
        port: if destination.port == 0 { packet.dst_port } else { destination.port },
        destination,
        control: None,
        origin: picked.into(),
    }))
}

fn place_by_template(
    table: &Table,
    options: &Options,
    packet: &Packet,
    flow: &Flow,
    service: &Service,
    (persistence, now): (Persistence, Instant),
) -> Result<Option<Placement>, DropReason> {
    let (key, own_port) = template_key(service.key, packet, persistence);
    for _ in 0..TEMPLATE_ROUNDS {
        if let Some((destination, control)) = use_template(table, options, &key, (persistence, now)) {
            let port = if own_port && destination.port != 0 { destination.port } else { packet.dst_port };
            let origin = Origin::Template;
            return Ok(Some(Placement { destination, port, control, origin }));
        }
        let Some((destination, picked)) = service.pick(flow, now, options.compat_ipvs) else {
            return Ok(None);
        };
        let one_packet = service.with_spec(|spec| spec.one_packet);
        let port = if own_port && key.virtual_port != 0 { destination.port } else { 0 };
        let control = table.control(one_packet);
        let template = Connection {
            no_output: true,
            counted: Counted::Persistent,
            past: Past::new(picked.into()),
            ..Connection::new(key, destination, port, Some(control), now).lasting(persistence.timeout, now)
        };
        // Whoever was faster, the template that is there now decides.
        if table.insert(template, false, Connection::release).is_err() {
            return Err(DropReason::ConnectionLimit);
        }
    }
    Err(DropReason::ConnectionLimit)
}

/// The destination that a client's template names, for one more connection that hangs on it. `None`: there is no
/// template, or the one there was has just become invalid.
fn use_template(
    table: &Table,
    options: &Options,
    key: &RequestKey,
    (persistence, now): (Persistence, Instant),
) -> Option<(Arc<Destination>, Option<Arc<Control>>)> {
    let mut shard = table.shard(key.protocol, key.client, 0);
    let id = shard.request(key)?;
    if !is_usable(options, shard.get(id)) {
        shard.invalidate(id);
        return None;
    }
    let template = shard.get_mut(id);
    // Renewed for a moment it had a shorter timeout; the kernel leaves it at that.
    if !options.compat_ipvs {
        template.timeout = persistence.timeout.into();
    }
    let found = (Arc::clone(&template.destination), template.control.clone());
    if let Some(control) = &found.1 {
        control.controlled.fetch_add(1, Relaxed);
    }
    shard.touch(id, now);
    shard.renew(id);
    Some(found)
}

/// The destination that a client's template would name for one more connection, if there is one; nothing is changed.
pub(crate) fn placed_by_template(
    table: &Table,
    options: &Options,
    packet: &Packet,
    service: ServiceKey,
    persistence: Persistence,
) -> Option<Arc<Destination>> {
    let (key, _) = template_key(service, packet, persistence);
    let shard = table.shard(key.protocol, key.client, 0);
    let template = shard.request(&key).map(|id| shard.get(id))?;
    is_usable(options, template).then(|| Arc::clone(&template.destination))
}

/// The port a service is named by, if any.
fn own_port(service: ServiceKey) -> Option<u16> {
    match service {
        ServiceKey::Address { addr, .. } => Some(addr.port()),
        ServiceKey::Mark { .. } => None,
    }
}

/// The key of a client's template, and whether the packet asks for the service's own port.
fn template_key(service: ServiceKey, packet: &Packet, persistence: Persistence) -> (RequestKey, bool) {
    let (protocol, virtual_addr, port, own_port) = match service {
        ServiceKey::Address { addr, .. } => {
            let own = addr.port() == packet.dst_port;
            let port = if own && addr.port() != FTP_PORT { packet.dst_port } else { 0 };
            (packet.protocol, packet.dst, port, own)
        }
        ServiceKey::Mark { mark, family } => {
            let addr = match family {
                Family::V4 => Address::v4(Ipv4Addr::from_bits(mark)),
                Family::V6 => Address::v6(Ipv6Addr::from_bits(u128::from(mark) << 96)),
            };
            (PROTOCOL_IP, addr, 0, false)
        }
    };
    let key = RequestKey {
        client: masked(packet.src, persistence.prefix_len),
        virtual_addr,
        client_port: 0,
        virtual_port: port,
        protocol,
        template: true,
        announced: false,
    };
    (key, own_port)
}

fn masked(addr: Address, prefix_len: u8) -> Address {
    Prefix::new(addr.to_ip(), prefix_len).map_or(addr, |prefix| prefix.network().into())
}

fn is_usable(options: &Options, template: &Connection) -> bool {
    let destination = &template.destination;
    let quiesced = options.expire_quiescent_template && destination.weight() == 0;
    destination.is_available() && !quiesced
}
