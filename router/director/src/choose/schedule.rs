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

use crate::base::frame::Frame;
use crate::base::spec::{Family, Persistence, Protocol, ServiceKey};
use crate::base::verdict::DropReason;
use crate::choose::scheduler::Flow;
use crate::choose::service::{Counted, Destination, FTP_DATA_PORT, FTP_PORT, Service};
use crate::director::{Director, Scene, Snapshot};
use crate::path::report::Report;
use crate::track::connection::{Connection, Control, PROTOCOL_IP, RequestKey, Tallied};
use crate::track::table::{Class, Neighbours};
use crate::track::tcp::TcpState;
use crate::track::wheel::Links;

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
}

impl Director {
    /// Decides where a new connection goes. `None`: the packet is left to the director as a host.
    pub(crate) fn schedule(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        protocol: Protocol,
        service: &Arc<Service>,
    ) -> Result<Option<Placement>, DropReason> {
        match self.place(scene, packet, protocol, service)? {
            Some(placement) => Ok(Some(placement)),
            // What an FTP service catches beside its own port may be anything.
            None if packet.src_port == FTP_DATA_PORT
                || own_port(service.key) == Some(FTP_PORT) && packet.dst_port != FTP_PORT =>
            {
                Ok(None)
            }
            // With `cache_bypass` a transparent cache that is gone is gone around.
            None if scene.snapshot.options.cache_bypass
                && matches!(service.key, ServiceKey::Mark { .. })
                && !scene.snapshot.network.is_local(packet.dst) =>
            {
                Ok(None)
            }
            None => {
                self.report(scene, frame.bytes(), packet, Report::PortUnreachable);
                Err(DropReason::NoDestination)
            }
        }
    }

    /// The decision alone. `None`: there is no destination for it.
    pub(crate) fn place(
        &self,
        scene: &Scene<'_>,
        packet: &Packet,
        protocol: Protocol,
        service: &Service,
    ) -> Result<Option<Placement>, DropReason> {
        // Active FTP's data connections come from the server's side; they are known already or not ours.
        if packet.src_port == FTP_DATA_PORT {
            return Ok(None);
        }
        let flow = Flow {
            protocol,
            client: packet.src.to_ip(),
            client_port: packet.src_port,
            virtual_addr: packet.dst.to_ip(),
            virtual_port: packet.dst_port,
            mark: scene.mark,
        };
        if let Some(persistence) = service.with_spec(|spec| spec.persistence) {
            return self.place_by_template(scene, packet, &flow, service, persistence);
        }
        // A service that caught a port which is not its own places connections by its templates only.
        if own_port(service.key).is_some_and(|port| port != packet.dst_port) {
            return Ok(None);
        }
        Ok(service.pick(&flow, scene.now, scene.snapshot.options.compat_ipvs).map(|destination| Placement {
            port: if destination.port == 0 { packet.dst_port } else { destination.port },
            destination,
            control: None,
        }))
    }

    fn place_by_template(
        &self,
        scene: &Scene<'_>,
        packet: &Packet,
        flow: &Flow,
        service: &Service,
        persistence: Persistence,
    ) -> Result<Option<Placement>, DropReason> {
        let (key, own_port) = template_key(service.key, packet, persistence);
        for _ in 0..TEMPLATE_ROUNDS {
            if let Some((destination, control)) = self.use_template(scene, &key, persistence) {
                let port = if own_port && destination.port != 0 { destination.port } else { packet.dst_port };
                return Ok(Some(Placement { destination, port, control }));
            }
            let compat_ipvs = scene.snapshot.options.compat_ipvs;
            let Some(destination) = service.pick(flow, scene.now, compat_ipvs) else { return Ok(None) };
            let one_packet = service.with_spec(|spec| spec.one_packet);
            let template = Connection {
                request: key,
                destination_addr: destination.addr,
                destination_port: if own_port && key.virtual_port != 0 { destination.port } else { 0 },
                forwarding: destination.forwarding(),
                state: TcpState::None.number(),
                no_output: true,
                is_invalid: false,
                counted: Counted::Persistent,
                timeout: persistence.timeout.into(),
                expires_at: scene.now + persistence.timeout,
                asked_at: None,
                destination,
                in_packets: 0,
                control: Some(Arc::new(Control { one_packet, ..Control::default() })),
                ftp: None,
                links: Links::default(),
                queued: Neighbours::default(),
                cached: crate::flows::Cached::default(),
                tallied: Tallied::default(),
                class: Class::default(),
            };
            // Whoever was faster, the template that is there now decides.
            if self.insert(template).is_err() {
                return Err(DropReason::ConnectionLimit);
            }
        }
        Err(DropReason::ConnectionLimit)
    }

    /// The destination that a client's template names, for one more connection that hangs on it. `None`: there is no
    /// template, or the one there was has just become invalid.
    fn use_template(
        &self,
        scene: &Scene<'_>,
        key: &RequestKey,
        persistence: Persistence,
    ) -> Option<(Arc<Destination>, Option<Arc<Control>>)> {
        let mut shard = self.table.shard(key.protocol, key.client, 0);
        let id = shard.request(key)?;
        if !is_usable(scene.snapshot, shard.get(id)) {
            shard.invalidate(id);
            return None;
        }
        let template = shard.get_mut(id);
        // Renewed for a moment it had a shorter timeout; the kernel leaves it at that.
        if !scene.snapshot.options.compat_ipvs {
            template.timeout = persistence.timeout.into();
        }
        let found = (Arc::clone(&template.destination), template.control.clone());
        if let Some(control) = &found.1 {
            control.controlled.fetch_add(1, Relaxed);
        }
        shard.touch(id, scene.now);
        shard.renew(id);
        Some(found)
    }

    /// Whether `drop_packet` sheds this new connection: one in `am_droprate`, always (3) or under pressure.
    pub(crate) fn sheds(&self, snapshot: &Snapshot) -> bool {
        let options = &snapshot.options;
        let active = match options.drop_packet {
            0 => false,
            3 => true,
            _ => self.is_under_pressure(),
        };
        active && {
            let rate = u64::from(options.am_droprate.max(1));
            (self.shed_counter.fetch_add(1, Relaxed) + 1).is_multiple_of(rate)
        }
    }

    /// Whether the connection table is nearly full: what "memory is short" is to the kernel's defences.
    pub(crate) fn is_under_pressure(&self) -> bool {
        self.table.is_nearly_full()
    }
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
    };
    (key, own_port)
}

fn masked(addr: Address, prefix_len: u8) -> Address {
    crate::base::spec::Prefix::new(addr.to_ip(), prefix_len).map_or(addr, |prefix| prefix.network().into())
}

fn is_usable(snapshot: &Snapshot, template: &Connection) -> bool {
    let destination = &template.destination;
    let quiesced = snapshot.options.expire_quiescent_template && destination.weight() == 0;
    destination.is_available() && !quiesced
}
