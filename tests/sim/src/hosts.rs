//! Clients and real servers: their sockets, their MAC addresses, and what they do about frames.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use uvs_director::Instant;
use uvs_director::spec::{Family, MacAddr, Protocol};
use uvs_wire::arp::{self, ArpRepr, Operation};
use uvs_wire::ndp::{self, NdpRepr};
use uvs_wire::{Packet, ethernet, icmp, tcp, udp};

use crate::event::{Event, Side};
use crate::ledger::Incarnation;
use crate::packet::{self, Content, Segment};
use crate::plan::{self, CLIENTS, SERVERS, Slot};
use crate::tcp::Tcp;
use crate::world::{Flying, Kind, Outcome, World, ip_of};

/// The router of clients that are not on the link; servers have numbers from [`SERVER`] on.
const ROUTER: u32 = 100;
const SERVER: u32 = 200;
const EVERYBODY: u32 = 300;
const NOBODY: u32 = 999;
/// Data and datagrams of one event.
const COUNT_MAX: u32 = 40;

/// A client's socket.
struct ClientSocket {
    incarnation: u32,
    /// The numbers of client, port and slot that it was opened by.
    origin: [u32; 3],
    /// `None`: of UDP.
    tcp: Option<Tcp>,
}

/// A server's connection.
struct ServerSocket {
    incarnation: Option<u32>,
    tcp: Tcp,
}

type ClientKey = (u8, SocketAddr, SocketAddr);
/// The server, its end, and the client's.
type ServerKey = (u32, SocketAddr, SocketAddr);

/// All of them.
#[derive(Default)]
pub(crate) struct Hosts {
    clients: BTreeMap<ClientKey, ClientSocket>,
    servers: BTreeMap<ServerKey, ServerSocket>,
    /// How often each server's MAC address has changed.
    generations: [u8; SERVERS as usize],
    muted: [bool; SERVERS as usize],
    /// Connections so far: their first sequence numbers are far apart.
    opened: u32,
}

impl Hosts {
    /// The station with that MAC address.
    pub(crate) fn station(&self, mac: [u8; 6]) -> u32 {
        if ethernet::is_multicast(mac) {
            return EVERYBODY;
        }
        if let Some(client) = (0..CLIENTS).find(|client| plan::client_mac(*client) == mac) {
            return if plan::client_mac(CLIENTS - 1) == mac { ROUTER } else { client };
        }
        (0..SERVERS).find(|server| self.mac(*server) == mac).map_or(NOBODY, |server| SERVER + server)
    }

    /// Which server that station is.
    pub(crate) fn server_at(&self, station: u32) -> Option<u32> {
        station.checked_sub(SERVER).filter(|server| *server < SERVERS)
    }

    fn mac(&self, server: u32) -> [u8; 6] {
        plan::server_mac(server, self.generations[server as usize])
    }

    pub(crate) fn remac(&mut self, server: u32) -> [u8; 6] {
        let generation = &mut self.generations[server as usize];
        *generation = generation.wrapping_add(1);
        self.mac(server)
    }

    pub(crate) fn mute(&mut self, server: u32, on: bool) {
        self.muted[server as usize] = on;
    }

    /// Client, port and slot of each socket that is in use.
    pub(crate) fn in_use(&self) -> Vec<[u32; 3]> {
        let in_use = |socket: &&ClientSocket| socket.tcp.as_ref().is_none_or(|tcp| !tcp.is_over());
        self.clients.values().filter(in_use).map(|socket| socket.origin).collect()
    }

    /// When the next timer of a connection is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let clients = self.clients.values().filter_map(|socket| socket.tcp.as_ref()?.due());
        let servers = self.servers.values().filter_map(|socket| socket.tcp.due());
        clients.chain(servers).min()
    }

    /// Forgets all connections without a word.
    pub(crate) fn stop(&mut self) {
        self.clients.clear();
        self.servers.clear();
        self.muted = [false; SERVERS as usize];
    }

    fn first_sequence(&mut self) -> u32 {
        self.opened += 1;
        self.opened.wrapping_mul(10_000_000)
    }
}

/// A client's local port, by number. The last two are the ends of the range; 0 is for UDP alone (RFC 768).
fn local_port(number: u32, protocol: u8) -> u16 {
    match number % 10 {
        9 if protocol == udp::PROTOCOL => 0,
        8 => 65_535,
        number => 40_000 + u16::try_from(number).expect("below 10"),
    }
}

fn size_of(size: u32) -> u16 {
    u16::try_from(size.clamp(4, 1400)).expect("in range")
}

impl World {
    /// What clients and servers do by themselves. False: the event is none of theirs.
    pub(crate) fn host_event(&mut self, event: &Event) -> bool {
        match *event {
            Event::Connect { client, port, slot: number, size, count } => {
                let slot = Slot::of(number).1;
                if slot.protocol == Protocol::Udp {
                    self.send_datagrams([client, port, number], size, count);
                } else {
                    self.connect([client, port, number]);
                    self.queue(client, port, &slot, size, count);
                }
            }
            Event::Send { client, port, slot: number, size, count } => match Slot::of(number).1 {
                slot if slot.protocol == Protocol::Udp => {
                    self.send_datagrams([client, port, number], size, count);
                }
                slot => self.queue(client, port, &slot, size, count),
            },
            Event::Close { client, port, slot } => {
                let now = self.now;
                self.with_client(client, port, slot, |tcp| tcp.close(now));
            }
            Event::Reset { client, port, slot } => {
                self.with_client(client, port, slot, |tcp| tcp.reset().into_iter().collect());
            }
            Event::Stray { client, port, slot, flags } => {
                let flags = u8::try_from(flags & 0x3f).expect("6 bits");
                let slot = Slot::of(slot).1;
                let key = client_key(client, port, &slot, tcp::PROTOCOL);
                let segment = Segment { flags, seq: 77, ack: 88, len: 0 };
                self.client_sends(key.1, key.2, Content::Tcp(segment), None);
            }
            Event::Flood { slot, first, count, .. } => self.flood(&Slot::of(slot).1, first, count),
            Event::Push { server, nth, size, count } => {
                let now = self.now;
                let count = count.min(COUNT_MAX);
                self.with_server(server, nth, |tcp| tcp.queue(size_of(size), count, now));
            }
            Event::Shut { server, nth } => {
                let now = self.now;
                self.with_server(server, nth, |tcp| tcp.close(now));
            }
            _ => return false,
        }
        true
    }

    fn connect(&mut self, origin: [u32; 3]) {
        let [client, port, slot] = origin;
        let key = client_key(client, port, &Slot::of(slot).1, tcp::PROTOCOL);
        let of_port = self
            .hosts
            .clients
            .iter()
            .filter(|((protocol, local, _), _)| (*protocol, *local) == (key.0, key.1));
        // A port is used again once its last connection is over, as systems do.
        if of_port.into_iter().any(|(_, socket)| socket.tcp.as_ref().is_some_and(|tcp| !tcp.is_over())) {
            return;
        }
        let (tcp, syn) = Tcp::connect(self.hosts.first_sequence(), self.now);
        let incarnation = self.ledger.begin(Incarnation { client: key.1, virtual_addr: key.2 });
        self.hosts.clients.insert(key, ClientSocket { incarnation, origin, tcp: Some(tcp) });
        self.client_sends(key.1, key.2, Content::Tcp(syn), Some(incarnation));
    }

    fn queue(&mut self, client: u32, port: u32, slot: &Slot, size: u32, count: u32) {
        let now = self.now;
        let key = client_key(client, port, slot, tcp::PROTOCOL);
        let count = count.min(COUNT_MAX);
        self.with_socket(key, |tcp| tcp.queue(size_of(size), count, now));
    }

    fn send_datagrams(&mut self, origin: [u32; 3], size: u32, count: u32) {
        let [client, port, slot] = origin;
        let key = client_key(client, port, &Slot::of(slot).1, udp::PROTOCOL);
        let known = self.hosts.clients.get(&key).map(|socket| socket.incarnation);
        let incarnation =
            known.unwrap_or_else(|| self.ledger.begin(Incarnation { client: key.1, virtual_addr: key.2 }));
        self.hosts.clients.insert(key, ClientSocket { incarnation, origin, tcp: None });
        for _ in 0..count.min(COUNT_MAX) {
            self.client_sends(key.1, key.2, Content::Udp(size_of(size)), Some(incarnation));
        }
    }

    fn flood(&mut self, slot: &Slot, first: u32, count: u32) {
        for number in (first..).take(count.min(COUNT_MAX) as usize) {
            let addr = plan::stranger_addr(number, slot.family);
            let from = SocketAddr::new(addr, 2000 + u16::try_from(number % 1000).expect("below 1000"));
            let to = slot.target(number);
            let content = if slot.protocol == Protocol::Udp {
                Content::Udp(40)
            } else {
                let syn = Segment { flags: tcp::SYN, seq: self.hosts.first_sequence(), ack: 0, len: 0 };
                Content::Tcp(syn)
            };
            let incarnation = self.ledger.begin(Incarnation { client: from, virtual_addr: to });
            self.client_sends(from, to, content, Some(incarnation));
        }
    }

    fn with_client(&mut self, client: u32, port: u32, slot: u32, act: impl FnOnce(&mut Tcp) -> Vec<Segment>) {
        let key = client_key(client, port, &Slot::of(slot).1, tcp::PROTOCOL);
        self.with_socket(key, act);
    }

    fn with_socket(&mut self, key: ClientKey, act: impl FnOnce(&mut Tcp) -> Vec<Segment>) {
        let Some(socket) = self.hosts.clients.get_mut(&key) else { return };
        let (Some(tcp), incarnation) = (&mut socket.tcp, socket.incarnation) else { return };
        let segments = act(tcp);
        for segment in segments {
            self.client_sends(key.1, key.2, Content::Tcp(segment), Some(incarnation));
        }
    }

    fn with_server(&mut self, server: u32, nth: u32, act: impl FnOnce(&mut Tcp) -> Vec<Segment>) {
        let server = server % SERVERS;
        let mut keys = self.hosts.servers.keys().filter(|key| key.0 == server).copied();
        let count = keys.clone().count();
        let Some(key) = keys.nth(nth as usize % count.max(1)) else { return };
        self.with_connection(key, act);
    }

    fn with_connection(&mut self, key: ServerKey, act: impl FnOnce(&mut Tcp) -> Vec<Segment>) {
        let Some(socket) = self.hosts.servers.get_mut(&key) else { return };
        let incarnation = socket.incarnation;
        let segments = act(&mut socket.tcp);
        for segment in segments {
            self.server_sends(key, Content::Tcp(segment), incarnation);
        }
    }

    fn client_sends(&mut self, from: SocketAddr, to: SocketAddr, content: Content, incarnation: Option<u32>) {
        // Strangers are behind the router, as the last of the clients is.
        let client = plan::client_of(from.ip()).unwrap_or(CLIENTS - 1);
        let ip = packet::write(from, to, content);
        let frame = packet::frame(plan::director_mac(Side::Client), plan::client_mac(client), &ip);
        self.send(Side::Client, Flying { frame, incarnation, is_reply: false });
    }

    fn server_sends(&mut self, (server, from, to): ServerKey, content: Content, incarnation: Option<u32>) {
        let ip = packet::write(from, to, content);
        let mac = self.hosts.mac(server);
        if plan::is_vip(from.ip()) {
            // Past the director: the server has a link to the clients.
            let client = plan::client_of(to.ip()).unwrap_or(CLIENTS - 1);
            self.egress[Side::Client as usize].push_back(packet::frame(plan::client_mac(client), mac, &ip));
        } else {
            let frame = packet::frame(plan::director_mac(Side::Server), mac, &ip);
            self.send(Side::Server, Flying { frame, incarnation, is_reply: true });
        }
    }

    /// A frame comes to a station.
    pub(crate) fn receive(&mut self, side: Side, frame: &[u8]) -> Outcome {
        let station = self.hosts.station(ethernet::destination(frame));
        if ethernet::ethertype(frame) == ethernet::ETHERTYPE_ARP {
            self.receive_arp(side, station, &frame[ethernet::HEADER_LEN..]);
            return Ok(());
        }
        let Some((ip, packet)) = ip_of(frame).and_then(|ip| Some((ip, Packet::parse(ip).ok()?))) else {
            return Ok(());
        };
        if let Ok(NdpRepr::Solicitation { target, .. }) = NdpRepr::parse(ip, &packet) {
            self.receive_solicitation(side, station, target.into(), packet.src.to_ip());
            return Ok(());
        }
        match (self.hosts.server_at(station), packet::decapsulated(ip, &packet)) {
            (Some(server), None) => self.receive_at_server(server, ip, &packet),
            (Some(server), Some(inner)) => {
                if let Ok(packet) = Packet::parse(inner) {
                    self.receive_at_server(server, inner, &packet);
                }
            }
            (None, _) if station <= ROUTER => {
                return self.receive_at_client(ip, &packet);
            }
            (None, _) => {}
        }
        Ok(())
    }

    fn receive_at_client(&mut self, ip: &[u8], packet: &Packet) -> Outcome {
        let (from, to) = packet::ends(packet);
        if packet.protocol == icmp::PROTOCOL_V4 || packet.protocol == icmp::PROTOCOL_V6 {
            return self.receive_error(ip, packet);
        }
        let Some(segment) = packet::segment(ip, packet) else { return Ok(()) };
        let key = (tcp::PROTOCOL, to, from);
        let now = self.now;
        if self.hosts.clients.contains_key(&key) {
            self.with_socket(key, |tcp| tcp.on_segment(&segment, now).0);
        } else if plan::client_of(to.ip()).is_some()
            && plan::is_vip(from.ip())
            && segment.flags & tcp::RST == 0
        {
            // Of what a server sends for a connection that the director knows nothing of, it takes no notice.
            let reset = Segment { flags: tcp::RST, seq: segment.ack, ack: 0, len: 0 };
            self.client_sends(to, from, Content::Tcp(reset), None);
        }
        Ok(())
    }

    /// An error: it is about a packet of this client's, to a VIP.
    fn receive_error(&mut self, ip: &[u8], packet: &Packet) -> Outcome {
        let Ok(message) = icmp::IcmpMessage::parse(packet.transport(ip)) else { return Ok(()) };
        if !icmp::is_error(packet.protocol, message.kind()) {
            return Ok(());
        }
        let Ok(quoted) = Packet::parse_quoted(message.payload()) else { return Ok(()) };
        let (from, to) = packet::ends(&quoted);
        if quoted.src != packet.dst || !plan::is_vip(to.ip()) {
            let receiver = packet.dst.to_ip();
            return self.violates(Kind::WrongClient, || {
                let said = (message.kind(), message.code());
                format!("{receiver} is told {said:?} of a packet from {from} to {to}")
            });
        }
        let too_big = match packet.protocol {
            icmp::PROTOCOL_V4 => (message.kind(), message.code()) == (3, 4),
            _ => message.kind() == 2,
        };
        if too_big && let Some(socket) = self.hosts.clients.get_mut(&(quoted.protocol, from, to)) {
            let room = (message.rest() & 0xffff).saturating_sub(100);
            if let Some(tcp) = &mut socket.tcp {
                tcp.size = tcp.size.min(size_of(room));
            }
        }
        Ok(())
    }

    fn receive_at_server(&mut self, server: u32, ip: &[u8], packet: &Packet) {
        let (from, to) = packet::ends(packet);
        if plan::server_of(to.ip()) != Some(server) && !plan::is_vip(to.ip()) {
            return;
        }
        let key = (server, to, from);
        let stamp = packet::stamp(ip, packet).and_then(|stamp| self.ledger.stamp(stamp));
        let incarnation = stamp.and_then(|stamp| stamp.incarnation);
        if packet.protocol == udp::PROTOCOL {
            let length = packet.transport(ip).len().saturating_sub(udp::HEADER_LEN).max(4);
            self.server_sends(key, Content::Udp(size_of(u32::try_from(length).unwrap_or(4))), incarnation);
            return;
        }
        let (Some(segment), now) = (packet::segment(ip, packet), self.now) else { return };
        let is_syn = segment.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN;
        let known = self.hosts.servers.get(&key);
        if is_syn && known.is_none_or(|socket| socket.tcp.yields_to(&segment)) {
            let (tcp, answer) = Tcp::accept(self.hosts.first_sequence(), &segment, now);
            self.hosts.servers.insert(key, ServerSocket { incarnation, tcp });
            self.server_sends(key, Content::Tcp(answer), incarnation);
        } else if known.is_some() {
            self.with_connection(key, |tcp| {
                let (mut segments, received) = tcp.on_segment(&segment, now);
                if received > 0 {
                    segments.extend(tcp.queue(size_of(received), 1, now));
                }
                if tcp.peer_has_closed() && !tcp.is_over() {
                    segments.extend(tcp.close(now));
                }
                segments
            });
        } else if segment.flags & tcp::RST == 0 {
            let reset = Segment { flags: tcp::RST, seq: segment.ack, ack: 0, len: 0 };
            self.server_sends(key, Content::Tcp(reset), incarnation);
        }
    }

    /// Connections whose time has come send again, or end.
    pub(crate) fn host_timers(&mut self) {
        let now = self.now;
        let due = |tcp: &Tcp| tcp.due().is_some_and(|due| due <= now);
        let clients = self.hosts.clients.iter().filter(|(_, socket)| socket.tcp.as_ref().is_some_and(due));
        let clients: Vec<_> = clients.map(|(key, _)| *key).collect();
        let servers = self.hosts.servers.iter().filter(|(_, socket)| due(&socket.tcp));
        let servers: Vec<_> = servers.map(|(key, _)| *key).collect();
        clients.into_iter().for_each(|key| self.with_socket(key, |tcp| tcp.on_time(now)));
        servers.into_iter().for_each(|key| self.with_connection(key, |tcp| tcp.on_time(now)));
        self.hosts.servers.retain(|_, socket| socket.tcp.state != crate::tcp::State::Closed);
    }

    /// Who has that address on that side, of those who answer.
    fn owner(&self, side: Side, addr: IpAddr) -> Option<[u8; 6]> {
        match side {
            Side::Server => {
                let server = plan::server_of(addr).filter(|server| !self.hosts.muted[*server as usize])?;
                Some(self.hosts.mac(server))
            }
            Side::Client if addr == plan::router_addr(Family::of(addr)) => {
                Some(plan::client_mac(CLIENTS - 1))
            }
            Side::Client => {
                let client = plan::client_of(addr)?;
                let mac = plan::client_mac(client);
                (mac != plan::client_mac(CLIENTS - 1)).then_some(mac)
            }
        }
    }

    fn receive_arp(&mut self, side: Side, station: u32, message: &[u8]) {
        let Ok(asked) = ArpRepr::parse(message) else { return };
        let Some(mac) = self.owner(side, asked.target_ip.into()) else { return };
        let is_mine = station == EVERYBODY || station == self.hosts.station(mac);
        if asked.operation != Operation::Request || !is_mine {
            return;
        }
        let answer = ArpRepr {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: asked.target_ip,
            target_mac: asked.sender_mac,
            target_ip: asked.sender_ip,
        };
        self.send_arp(side, asked.sender_mac, &answer);
    }

    fn send_arp(&mut self, side: Side, to: [u8; 6], message: &ArpRepr) {
        let mut frame = vec![0; ethernet::HEADER_LEN + arp::LEN];
        ethernet::write(&mut frame, to, message.sender_mac, ethernet::ETHERTYPE_ARP);
        message.emit(&mut frame[ethernet::HEADER_LEN..]);
        self.send(side, Flying { frame, incarnation: None, is_reply: false });
    }

    fn receive_solicitation(&mut self, side: Side, station: u32, target: IpAddr, asker: IpAddr) {
        let Some(mac) = self.owner(side, target) else { return };
        let (IpAddr::V6(target), IpAddr::V6(asker)) = (target, asker) else { return };
        if station != EVERYBODY && station != self.hosts.station(mac) {
            return;
        }
        let answer = NdpRepr::Advertisement {
            target,
            target_mac: Some(mac),
            router: false,
            solicited: true,
            overrides: true,
        };
        let mut ip = [0; ndp::LEN];
        let length = answer.emit(&mut ip, target, asker);
        let frame = packet::frame(plan::director_mac(side), mac, &ip[..length]);
        self.send(side, Flying { frame, incarnation: None, is_reply: false });
    }

    /// A server says what its MAC address is, unasked.
    pub(crate) fn announce(&mut self, server: u32, mac: MacAddr) {
        if let IpAddr::V4(addr) = plan::server_addr(server, Family::V4) {
            let message = ArpRepr {
                operation: Operation::Request,
                sender_mac: mac.0,
                sender_ip: addr,
                target_mac: [0; 6],
                target_ip: addr,
            };
            self.send_arp(Side::Server, ethernet::BROADCAST, &message);
        }
    }

    /// A station that nobody knows asks for an address of the director.
    pub(crate) fn ask(&mut self, side: Side, number: u32) {
        let (net, target) = match side {
            Side::Client => ([10, 0, 0], [10, 0, 0, 100]),
            Side::Server => ([192, 168, 10], [192, 168, 10, 1]),
        };
        let host = 120 + u8::try_from(number % 120).expect("below 120");
        let message = ArpRepr {
            operation: Operation::Request,
            sender_mac: [2, 0, 0, 9, side as u8, host],
            sender_ip: [net[0], net[1], net[2], host].into(),
            target_mac: [0; 6],
            target_ip: target.into(),
        };
        self.send_arp(side, ethernet::BROADCAST, &message);
    }
}

fn client_key(client: u32, port: u32, slot: &Slot, protocol: u8) -> ClientKey {
    let local = SocketAddr::new(plan::client_addr(client, slot.family), local_port(port, protocol));
    (protocol, local, slot.target(port))
}
