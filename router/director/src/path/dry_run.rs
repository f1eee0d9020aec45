//! What would become of the first packet of a client: the questions of the stages, asked without moving anything. No
//! scheduler is asked, no template renewed, no neighbour asked for, nothing counted.
//!
//! `tests/dry_run.rs` holds what is said here against what `handle` then does.

use core::net::SocketAddr;

use uvs_wire::{Address, Packet, sctp, tcp};

use crate::base::ids::PortId;
use crate::base::spec::{Family, Forwarding, Link, Protocol, ServiceKey};
use crate::base::verdict::DropReason;
use crate::base::view::{CaughtBy, Choice, Outlook, Prospect};
use crate::choose::schedule::{is_left_alone, placed_by_template};
use crate::choose::service::FTP_DATA_PORT;
use crate::net::network::{Owner, is_impossible_source};
use crate::path::marks::mark_of;
use crate::path::transit::judge;
use crate::scene::Scene;
use crate::track::connection::{ReplyKey, RequestKey};
use crate::track::destination::Destination;

/// Who asks for what. `port`: where the packet would come in; without it, where the way back to the client leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) protocol: Protocol,
    pub(crate) client: SocketAddr,
    pub(crate) asked_for: SocketAddr,
    pub(crate) port: Option<PortId>,
}

/// What would become of it. `scene`: of now; where the packet comes in is found out here.
pub(crate) fn dry_run(scene: Scene<'_>, question: &Question) -> Prospect {
    let client = Address::from(question.client.ip());
    let network = &scene.snapshot.network;
    let port = question.port.or_else(|| network.route(client).filter(|hop| !hop.local).map(|hop| hop.port));
    let mut prospect = Prospect {
        port,
        mark: 0,
        service: None,
        caught_by: None,
        choices: Vec::new(),
        outlook: Outlook::Dropped(DropReason::NoRoute),
    };
    // Without a way to the client nobody can say where its packets come from.
    let Some(port) = port else { return prospect };
    let mut scene = Scene { port, ..scene };
    let ip = first_packet(question);
    prospect.outlook = match Packet::parse(&ip) {
        Ok(packet) if packet.is_v4() == question.asked_for.is_ipv4() => {
            judge_packet(&mut scene, &ip, &packet, question.protocol, &mut prospect)
        }
        _ => Outlook::Dropped(DropReason::Malformed),
    };
    prospect
}

fn judge_packet(
    scene: &mut Scene<'_>,
    ip: &[u8],
    packet: &Packet,
    protocol: Protocol,
    prospect: &mut Prospect,
) -> Outlook {
    let (snapshot, tables) = (scene.snapshot, scene.tables);
    let network = &snapshot.network;
    if network.interface(scene.port).is_none() {
        return Outlook::Dropped(DropReason::UnknownPort);
    }
    if is_impossible_source(packet.src)
        || network.owner(packet.src, scene.port) != Owner::Other
        || !packet.dst.is_ordinary() && (packet.dst.is_loopback() || packet.dst.is_unspecified())
    {
        return Outlook::Dropped(DropReason::Martian);
    }
    if !network.admits(packet.src, scene.port) {
        return Outlook::Dropped(DropReason::SpoofedSource);
    }
    let owner = network.owner(packet.dst, scene.port);
    if owner == Owner::Broadcast || !packet.dst.is_ordinary() && packet.dst.is_multicast() {
        return Outlook::Dropped(DropReason::Multicast);
    }
    scene.mark = mark_of(&snapshot.marks, scene.port, None, packet);
    prospect.mark = scene.mark;
    let family = if packet.is_v4() { Family::V4 } else { Family::V6 };
    let has_mark = scene.mark != 0 && snapshot.services.has_mark(scene.mark, family);
    if owner != Owner::Local && !has_mark {
        return transit(scene, ip, packet);
    }
    let unwanted = |scene: &Scene<'_>| match owner {
        Owner::Local => Outlook::Refused(refusal(protocol)),
        _ => transit(scene, ip, packet),
    };
    if !snapshot.services.balance(packet) {
        return Outlook::Refused(refusal(protocol));
    }
    let key = RequestKey::of(packet);
    if let Some(outlook) = known(scene, &key, prospect) {
        return outlook;
    }
    let found = snapshot.services.find(protocol, packet.dst, packet.dst_port, scene.mark);
    let Some(service) = found else { return unwanted(scene) };
    prospect.service = Some(service.key);
    prospect.caught_by = Some(caught_by(service.key, packet));
    prospect.choices = service.destinations().iter().map(|it| choice(scene, packet, it)).collect();
    let left_alone = || is_left_alone(service.key, packet, &snapshot.options, || owner == Owner::Local);
    let nobody = |scene: &Scene<'_>| {
        if left_alone() { unwanted(scene) } else { Outlook::Dropped(DropReason::NoDestination) }
    };
    if packet.src_port == FTP_DATA_PORT {
        return nobody(scene);
    }
    let refused = || tables.table.refuses(&service.shared);
    if let Some(persistence) = service.with_spec(|spec| spec.persistence)
        && let Some(destination) =
            placed_by_template(&tables.table, &snapshot.options, packet, service.key, persistence)
    {
        if refused() {
            return Outlook::Dropped(DropReason::ConnectionLimit);
        }
        let of = choice(scene, packet, &destination);
        let addr = of.addr;
        let outlook = of.way.err().map_or(Outlook::Template(addr), Outlook::Dropped);
        if !prospect.choices.iter().any(|it| it.addr == addr) {
            prospect.choices.push(of);
        }
        return outlook;
    }
    let is_persistent = service.with_spec(|spec| spec.persistence.is_some());
    let other_port =
        matches!(service.key, ServiceKey::Address { addr, .. } if addr.port() != packet.dst_port);
    if other_port && !is_persistent
        || !prospect.choices.iter().any(|it| is_open(it, snapshot.options.compat_ipvs))
    {
        return nobody(scene);
    }
    if refused() { Outlook::Dropped(DropReason::ConnectionLimit) } else { Outlook::Scheduled }
}

/// Whether a pick of it is taken.
fn is_open(choice: &Choice, compat_ipvs: bool) -> bool {
    choice.weight > 0 && (!choice.overloaded || compat_ipvs)
}

/// A connection is there, or was announced.
fn known(scene: &Scene<'_>, key: &RequestKey, prospect: &mut Prospect) -> Option<Outlook> {
    let announced = RequestKey { client_port: 0, announced: true, ..*key };
    for key in [*key, announced] {
        let shard = scene.shard(key.protocol, key.client, key.client_port);
        let found = shard.request(&key).map(|id| shard.get(id));
        if let Some(connection) = found.filter(|it| scene.tables.deadline(it) > scene.now) {
            let addr = SocketAddr::new(connection.destination_addr.to_ip(), connection.destination_port);
            prospect.service = scene.snapshot.service_of(connection).map(|service| service.key);
            return Some(Outlook::Known(addr));
        }
    }
    None
}

fn caught_by(service: ServiceKey, packet: &Packet) -> CaughtBy {
    match service {
        ServiceKey::Mark { .. } => CaughtBy::Mark,
        ServiceKey::Address { addr, .. } if addr.port() == packet.dst_port => CaughtBy::Address,
        ServiceKey::Address { addr, .. } if addr.port() == 0 => CaughtBy::AllPorts,
        ServiceKey::Address { .. } => CaughtBy::FtpData,
    }
}

/// What the director as a host says of a packet that nobody takes.
fn refusal(protocol: Protocol) -> DropReason {
    match protocol {
        Protocol::Udp => DropReason::NotHandled,
        Protocol::Tcp | Protocol::Sctp => DropReason::NoConnection,
    }
}

/// A packet to somebody else.
fn transit(scene: &Scene<'_>, ip: &[u8], packet: &Packet) -> Outlook {
    let Some(hop) = scene.snapshot.network.route(packet.dst) else {
        return Outlook::Dropped(DropReason::NoRoute);
    };
    if packet.src.is_v6_link_local() {
        return Outlook::Dropped(DropReason::NoRoute);
    }
    let key = ReplyKey::of(packet);
    let shard = scene.shard(key.protocol, key.client, key.client_port);
    if shard.reply(&key).is_some() {
        return Outlook::Passes;
    }
    drop(shard);
    if judge(scene, ip, packet, &hop).passes {
        Outlook::Passes
    } else {
        Outlook::Dropped(DropReason::Transit)
    }
}

/// A destination, and whether a packet would get there.
fn choice(scene: &Scene<'_>, packet: &Packet, destination: &Destination) -> Choice {
    let network = &scene.snapshot.network;
    let view = destination.view();
    let way = match network.route(destination.addr) {
        None => Err(DropReason::NoRoute),
        Some(hop) if hop.local => Err(match Protocol::from_number(packet.protocol) {
            Some(protocol) => refusal(protocol),
            None => DropReason::NotHandled,
        }),
        Some(hop) if packet.src.is_v6_link_local() && hop.port != scene.port => Err(DropReason::NoRoute),
        Some(hop) => match view.spec.forwarding {
            Forwarding::Direct
                if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) =>
            {
                Err(DropReason::WrongLink)
            }
            Forwarding::Tunnel(_) if hop.source.is_none() => Err(DropReason::NoRoute),
            _ => Ok(scene.tables.way(&hop)),
        },
    };
    Choice {
        addr: view.spec.addr,
        forwarding: view.spec.forwarding,
        weight: if destination.is_serving() { view.spec.weight } else { 0 },
        overloaded: view.overloaded,
        active: view.active,
        inactive: view.inactive,
        way,
    }
}

/// The first packet of a client: a SYN, a datagram, an INIT.
fn first_packet(question: &Question) -> Vec<u8> {
    let Question { protocol, client, asked_for, .. } = *question;
    let ports = [client.port().to_be_bytes(), asked_for.port().to_be_bytes()].concat();
    let mut transport = ports;
    match protocol {
        Protocol::Tcp => {
            transport.extend([0; 8]);
            transport.extend([5 << 4, tcp::SYN]);
            transport.extend([0; 6]);
        }
        Protocol::Udp => transport.extend([0, 8, 0, 0]),
        Protocol::Sctp => {
            transport.extend([0; 8]);
            transport.extend([sctp::INIT, 0, 0, 20]);
            transport.extend([0; 16]);
        }
    }
    let mut ip = Vec::new();
    let len = u16::try_from(transport.len()).unwrap_or(u16::MAX);
    match (client, asked_for) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ip.extend([0x45, 0]);
            ip.extend((20 + len).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, 64, protocol.number(), 0, 0]);
            ip.extend(from.ip().octets().iter().chain(&to.ip().octets()));
        }
        (from, to) => {
            let octets = |addr: SocketAddr| Address::from(addr.ip()).octets();
            ip.extend([0x60, 0, 0, 0]);
            ip.extend(len.to_be_bytes());
            ip.extend([protocol.number(), 64]);
            ip.extend(octets(from).iter().chain(&octets(to)));
        }
    }
    ip.extend(transport);
    ip
}
