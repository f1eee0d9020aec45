//! From a frame to what it is about: Ethernet, ARP, and the order in which IP packets are classified.

use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::{Address, Packet, ParseError, ethernet, icmp, ipv4, ipv6, rewrite};

use crate::base::frame::{FRAME_MAX, Frame, Outbox};
use crate::base::spec::{Family, Link, MacAddr, Protocol};
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::flow_cache::{FlowKey, Passed};
use crate::net::discovery::{announce_v6, is_discovery, join_groups};
use crate::net::neighbor::{Claim, arp_frame};
use crate::net::network::{Owner, is_impossible_source};
use crate::path::ip_options::{self, Options};
use crate::path::marks::mark_of;
use crate::path::report::Report;

/// Protocol numbers the classifier looks at.
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

/// Whether the packet is ICMP of its own IP version; that of the other is a protocol nobody knows.
#[inline]
pub(crate) fn is_icmp(packet: &Packet) -> bool {
    packet.protocol == if packet.is_v4() { ICMP } else { ICMPV6 }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Truncated => Self::Truncated,
            ParseError::Malformed => Self::Malformed,
        }
    }
}

impl Director {
    /// The whole way of one frame.
    pub(crate) fn input(&self, scene: &mut Scene<'_>, frame: &mut Frame) -> Verdict {
        let Some(interface) = scene.snapshot.network.interface(scene.port) else {
            return Verdict::Drop(DropReason::UnknownPort);
        };
        if frame.len() > FRAME_MAX {
            return Verdict::Drop(DropReason::Oversized);
        }
        match interface.link {
            Link::Ethernet(mac) => self.ethernet_input(scene, mac, frame),
            Link::Ip => self.ip_input(scene, frame, false),
        }
    }

    fn ethernet_input(&self, scene: &mut Scene<'_>, own: MacAddr, frame: &mut Frame) -> Verdict {
        if frame.len() < ethernet::HEADER_LEN {
            return Verdict::Drop(DropReason::Truncated);
        }
        let to = MacAddr(ethernet::destination(frame.bytes()));
        if to != own && !to.is_multicast() {
            return Verdict::Drop(DropReason::NotForUs);
        }
        scene.source_mac = Some(MacAddr(ethernet::source(frame.bytes())));
        if self.flows.is_some() {
            scene.ticket = frame.take_tag();
        }
        match ethernet::ethertype(frame.bytes()) {
            ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6 => {
                frame.strip_front(ethernet::HEADER_LEN);
                self.ip_input(scene, frame, to.is_multicast())
            }
            ethernet::ETHERTYPE_ARP => self.arp_input(scene, own, frame.bytes()),
            _ => Verdict::Drop(DropReason::UnknownEtherType),
        }
    }

    /// Answers for our addresses and for nothing else; learns from answers to our questions and from those who
    /// ask for us.
    #[cold]
    fn arp_input(&self, scene: &mut Scene<'_>, own: MacAddr, frame: &[u8]) -> Verdict {
        let arp = match ArpRepr::parse(&frame[ethernet::HEADER_LEN..]) {
            Ok(arp) => arp,
            Err(error) => return Verdict::Drop(error.into()),
        };
        let network = &scene.snapshot.network;
        let (sender, target) = (Address::v4(arp.sender_ip), Address::v4(arp.target_ip));
        let sender_mac = MacAddr(arp.sender_mac);
        if network.is_local(sender) {
            // Somebody else claims an address of ours: in direct routing usually a real server that holds the VIP
            // without ARP suppression.
            if sender_mac != own {
                self.note_conflict(scene, sender, sender_mac);
            }
            return Verdict::Drop(DropReason::ArpIgnored);
        }
        let for_us = network.is_local_on(target, scene.port);
        if !is_impossible_source(sender) {
            let is_request = arp.operation == Operation::Request;
            // Who announces itself is believed at once, as in Linux.
            let announces = sender == target && (is_request || arp.target_mac == arp.sender_mac);
            let claim = Claim { mac: sender_mac, asks_for_us: for_us && is_request, overrides: announces };
            self.neighbors.learn(network, (scene.port, sender), claim, scene.now, scene.out);
        }
        match arp.operation {
            Operation::Request if for_us => {
                let reply = ArpRepr {
                    operation: Operation::Reply,
                    sender_mac: own.0,
                    sender_ip: arp.target_ip,
                    target_mac: arp.sender_mac,
                    target_ip: arp.sender_ip,
                };
                scene.out.push(scene.port, arp_frame(&reply, sender_mac, own));
                Verdict::Consume
            }
            Operation::Reply if for_us => Verdict::Consume,
            _ => Verdict::Drop(DropReason::ArpIgnored),
        }
    }

    /// An IP packet. `group`: its frame went to a group of stations.
    pub(crate) fn ip_input(&self, scene: &mut Scene<'_>, frame: &mut Frame, group: bool) -> Verdict {
        let mut packet = match Packet::parse(frame.bytes()) {
            Ok(packet) => packet,
            Err(error) => return Verdict::Drop(error.into()),
        };
        frame.truncate(packet.total_len as usize);
        if let Some(ticket) = scene.ticket {
            scene.passed = Some(Passed {
                key: FlowKey {
                    protocol: packet.protocol,
                    source: (packet.src, packet.src_port),
                    destination: (packet.dst, packet.dst_port),
                },
                ticket,
                frames: 1,
                is_whole: frame.offload.gso_type != 0,
            });
        }
        if packet.is_v4() && !ipv4::header_checksum_ok(frame.bytes()) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        match ip_options::check(frame.bytes(), &packet) {
            Options::Fine => {}
            Options::SourceRoute => return Verdict::Drop(DropReason::SourceRoute),
            Options::Bad(pointer) => {
                self.report(scene, frame.bytes(), &packet, Report::BadOption(pointer));
                return Verdict::Drop(DropReason::Malformed);
            }
        }
        if is_discovery(frame.bytes(), &packet) {
            return self.discovery_input(scene, frame.bytes(), &packet);
        }
        let network = &scene.snapshot.network;
        if is_impossible_source(packet.src)
            || network.owner(packet.src, scene.port) != Owner::Other
            || packet.dst.is_loopback()
            || packet.dst.is_unspecified()
        {
            return Verdict::Drop(DropReason::Martian);
        }
        let owner = network.owner(packet.dst, scene.port);
        if group || owner == Owner::Broadcast || packet.dst.is_multicast() {
            return Verdict::Drop(DropReason::Multicast);
        }
        if packet.is_fragment() {
            packet = match self.gather(scene, frame, packet) {
                Ok(packet) => packet,
                Err(verdict) => return verdict,
            };
        }
        let marks = &scene.snapshot.marks;
        if !marks.is_empty() {
            scene.mark = mark_of(marks, scene.port, scene.source_mac, &packet);
        }
        let family = if packet.is_v4() { Family::V4 } else { Family::V6 };
        if owner == Owner::Local || scene.mark != 0 && scene.snapshot.services.has_mark(scene.mark, family) {
            self.local_input(scene, frame, &mut packet)
        } else {
            self.transit(scene, frame, &mut packet)
        }
    }

    /// A packet to an address of ours: ICMP errors first, then requests, then the director as a host.
    #[inline]
    fn local_input(&self, scene: &mut Scene<'_>, frame: &mut Frame, packet: &mut Packet) -> Verdict {
        if !packet.is_v4()
            && let Some(field) = ipv6::waypoint_field(frame.bytes(), packet)
        {
            self.report(scene, frame.bytes(), packet, Report::NoWaypoint { field });
            return Verdict::Drop(DropReason::NotHandled);
        }
        if packet.is_fragment() {
            // By its mark, but nobody was there to gather it.
            return Verdict::Drop(DropReason::Fragment);
        }
        match packet.protocol {
            _ if is_icmp(packet) => {
                if icmp::is_error(packet.protocol, frame.bytes()[usize::from(packet.header_len)]) {
                    return self.related_to_request(scene, frame, packet);
                }
                self.icmp_to_us(scene, frame, packet)
            }
            number => match Protocol::from_number(number) {
                Some(protocol) => {
                    ip_options::record_route(frame.bytes_mut(), packet, packet.dst);
                    self.request(scene, frame, packet, protocol)
                }
                None => self.refuse(scene, frame, packet),
            },
        }
    }

    /// A packet for somebody else: a reply from a destination, or plain routing. As in the kernel, TTL and MTU
    /// come first.
    pub(crate) fn transit(&self, scene: &mut Scene<'_>, frame: &mut Frame, packet: &mut Packet) -> Verdict {
        let Some(hop) = scene.snapshot.network.route(packet.dst) else {
            self.report(scene, frame.bytes(), packet, Report::NetUnreachable);
            return Verdict::Drop(DropReason::NoRoute);
        };
        if let Err(verdict) = self.check_scope(scene, frame, packet, None) {
            return verdict;
        }
        if let Err(verdict) = self.check_ttl(scene, frame, packet) {
            return verdict;
        }
        if let Err(verdict) = self.check_mtu(scene, frame, packet, hop.mtu) {
            return verdict;
        }
        rewrite::decrement_ttl(frame.bytes_mut(), packet);
        let whole = !packet.is_fragment();
        if is_icmp(packet) {
            if whole
                && icmp::is_error(packet.protocol, frame.bytes()[usize::from(packet.header_len)])
                && let Some(reason) = self.related_to_reply(scene, frame, packet)
            {
                return Verdict::Drop(reason);
            }
        } else if let Some(protocol) = Protocol::from_number(packet.protocol)
            && whole
            && let Err(reason) = self.reply(scene, frame, packet, protocol)
        {
            return Verdict::Drop(reason);
        }
        // As the address we have on that way: the VIP, if the packet was translated.
        if ip_options::present(packet) {
            let own = Some(packet.src).filter(|src| scene.snapshot.network.is_local(*src));
            if let Some(own) = own.or(hop.source) {
                ip_options::record_route(frame.bytes_mut(), packet, own);
            }
        }
        self.output(scene, frame, &hop, None)
    }

    /// Announces our addresses and VIPs (gratuitous ARP, RFC 5227; unsolicited advertisements, RFC 4861) on every
    /// layer 2 interface, so that caches that hold another owner's MAC address are corrected.
    pub fn announce(&self, out: &mut Outbox) {
        let snapshot = self.snapshot.load();
        for interface in snapshot.network.interfaces() {
            let Link::Ethernet(own) = interface.link else { continue };
            join_groups(&snapshot.network, interface.port, out);
            for addr in snapshot.network.addresses_on(interface.port) {
                let Some(addr) = addr.to_v4() else {
                    announce_v6(interface.port, addr.to_v6(), own, out);
                    continue;
                };
                let repr = ArpRepr {
                    operation: Operation::Request,
                    sender_mac: own.0,
                    sender_ip: addr,
                    target_mac: [0; 6],
                    target_ip: addr,
                };
                out.push(interface.port, arp_frame(&repr, MacAddr::BROADCAST, own));
            }
        }
    }
}
