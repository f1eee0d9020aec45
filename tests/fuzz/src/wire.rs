//! Parsing, every view, edits there and back, fragmentation and segmentation of one packet.
//!
//! ```text
//!   | control (8 bytes) | packet |
//! ```
//!
//! What holds: nothing panics; an edit keeps a checksum as right or wrong as it was, and its reversal gives the
//! packet back; fragments and segments put together again are the packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use uvs_wire::rewrite::L4Sum;
use uvs_wire::segment::Segments;
use uvs_wire::{
    Address, Packet, arp, ethernet, fragment, gre, gue, icmp, ipv4, ipv6, mld, ndp, rewrite, sctp, tcp, udp,
    vnet,
};

use crate::check;
use crate::script::Script;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let control = Control {
        size: script.word(),
        port: script.word(),
        address: [script.byte(), script.byte()],
        cut: script.word(),
    };
    let ip = script.rest();
    views(ip);
    if let Ok(quoted) = Packet::parse_quoted(ip) {
        quoted_there_and_back(ip, &quoted, &control);
    }
    let _ = Packet::parse_quoted(&ip[..ip.len().min(usize::from(control.cut))]);
    let Ok(packet) = Packet::parse(ip) else { return };
    packet_views(ip, &packet);
    let quoted = Packet::parse_quoted(ip).expect("a whole packet can be quoted");
    assert_eq!(quoted, packet, "quoted whole it is the same packet");
    there_and_back(ip, &packet, &control);
    partial(ip, &packet, &control);
    answers(ip, &packet);
    if packet.is_v4() {
        fragments_v4(ip, &packet, &control);
    } else {
        fragments_v6(ip, &packet, &control);
    }
    segments(ip, &packet, &control);
}

/// What is done with the packet.
struct Control {
    size: u16,
    port: u16,
    address: [u8; 2],
    cut: u16,
}

impl Control {
    fn address(&self, packet: &Packet) -> Address {
        let [a, b] = self.address;
        match (packet.is_v4(), a, b) {
            (true, 0, 0) => Ipv4Addr::UNSPECIFIED.into(),
            (true, 255, 255) => Ipv4Addr::BROADCAST.into(),
            (true, ..) => Ipv4Addr::new(a, 0, b, 1).into(),
            (false, 255, 255) => Ipv6Addr::from([0xff; 16]).into(),
            (false, ..) => Ipv6Addr::new(0xfd00 + u16::from(a), 0, 0, 0, 0, 0, 0, u16::from(b)).into(),
        }
    }
}

/// Everything that reads bytes without a [`Packet`].
fn views(bytes: &[u8]) {
    if let Ok(repr) = arp::ArpRepr::parse(bytes) {
        let mut emitted = [0; arp::LEN];
        repr.emit(&mut emitted);
        assert_eq!(arp::ArpRepr::parse(&emitted), Ok(repr), "ARP written and read again");
    }
    if let Ok(header) = ipv4::Ipv4Header::parse(bytes) {
        let options: usize = header.options().map(|option| option.bytes.len()).sum();
        assert!(options <= header.header_len() - ipv4::HEADER_LEN, "options lie inside the header");
        let _ = (header.src(), header.dst(), header.checksum(), header.id(), header.fragment_offset());
        assert_eq!(ipv4::header_checksum_ok(bytes), check::header_ok(bytes), "the header's checksum");
    }
    if let Ok(repr) = ipv4::Ipv4Repr::parse(bytes) {
        let mut emitted = [0; ipv4::HEADER_LEN];
        if usize::from(repr.payload_len) + ipv4::HEADER_LEN <= 0xffff {
            repr.emit(&mut emitted);
            assert!(check::header_ok(&emitted), "a header of ours has its checksum");
        }
    }
    if let Ok(repr) = ipv6::Ipv6Repr::parse(bytes) {
        let mut emitted = [0; ipv6::HEADER_LEN];
        repr.emit(&mut emitted);
        assert_eq!(ipv6::Ipv6Repr::parse(&emitted), Ok(repr), "an IPv6 header written and read again");
    }
    if let Ok(header) = ipv6::Ipv6Header::parse(bytes) {
        let _ = (header.flow_label(), header.src(), header.dst());
    }
    if let Ok((_, length)) = gre::parse(bytes) {
        assert!(length <= bytes.len(), "a GRE header lies inside the bytes");
    }
    if let Ok((_, length)) = gue::parse(bytes) {
        assert!(length <= bytes.len(), "a GUE header lies inside the bytes");
    }
    let _ = gue::remote_checksum(bytes);
    transport_views(bytes);
    if let Ok(mut header) = vnet::VnetHeader::parse(bytes) {
        let mut emitted = [0; vnet::LEN];
        header.emit(&mut emitted);
        assert_eq!(emitted, bytes[..vnet::LEN], "a virtio header written again");
        let _ = (header.shifted(-14), header.shifted(50), header.is_gso());
        let _ = header.complete_checksum(&mut bytes[vnet::LEN..].to_vec());
    }
    if bytes.len() >= ethernet::HEADER_LEN {
        let (to, from, kind) =
            (ethernet::destination(bytes), ethernet::source(bytes), ethernet::ethertype(bytes));
        let mut copy = [0; ethernet::HEADER_LEN];
        ethernet::write(&mut copy, to, from, kind);
        assert_eq!(copy, bytes[..ethernet::HEADER_LEN], "an Ethernet header written again");
    }
}

fn transport_views(bytes: &[u8]) {
    if let Ok(segment) = tcp::TcpSegment::parse(bytes) {
        let lengths = segment.header_len() + segment.payload().len();
        assert_eq!(lengths, bytes.len(), "header and payload are all of a segment");
        assert_eq!(
            segment.options().len(),
            segment.header_len() - tcp::HEADER_LEN,
            "options fill the header"
        );
        let _ = (segment.seq(), segment.ack(), segment.window(), segment.checksum());
    }
    if let Ok(datagram) = udp::UdpDatagram::parse(bytes) {
        let length = usize::from(datagram.length());
        assert_eq!(datagram.payload().len() + udp::HEADER_LEN, length, "a datagram is as long as it says");
    }
    if let Ok(packet) = sctp::SctpPacket::parse(bytes) {
        assert!(packet.chunks().count() <= bytes.len() / 4, "chunks move on");
        let _ = (packet.first_chunk_type(), packet.verification_tag(), packet.checksum_ok());
    }
    if let Ok(message) = icmp::IcmpMessage::parse(bytes) {
        assert_eq!(message.payload().len() + icmp::HEADER_LEN, bytes.len(), "an ICMP message is all of it");
        let _ = (message.kind(), message.code(), message.rest(), message.echo_id());
    }
}

/// Everything that reads a parsed packet.
fn packet_views(ip: &[u8], packet: &Packet) {
    assert!(packet.total_len as usize <= ip.len(), "a packet lies inside the bytes");
    assert!(u32::from(packet.header_len) <= packet.total_len, "a header lies inside the packet");
    assert!(!packet.is_first_fragment() || packet.is_fragment(), "a first fragment is one");
    transport_views(packet.transport(ip));
    if let Ok(message) = ndp::NdpRepr::parse(ip, packet) {
        let mut buffer = [0; ndp::LEN];
        let length = message.emit(&mut buffer, packet.src.to_v6(), packet.dst.to_v6());
        let again = Packet::parse(&buffer[..length]).expect("ND of ours is a packet");
        assert_eq!(ndp::NdpRepr::parse(&buffer[..length], &again), Ok(message), "ND written and read again");
    }
    let _ = mld::MldQuery::parse(ip, packet);
    if !packet.is_v4() {
        let at = ipv6::protocol_field(ip, packet);
        assert!(at < usize::from(packet.header_len), "the protocol is told in the header");
        assert_eq!(ip[at], packet.protocol, "and there it is");
        let waypoint = ipv6::waypoint_field(ip, packet);
        assert!(waypoint.is_none_or(|at| at < usize::from(packet.header_len)), "a waypoint is in the header");
    }
    if let Some(ok) = check::transport_ok(ip, packet).filter(|_| packet.protocol != sctp::PROTOCOL) {
        let ours = packet.transport_sum(ip).finish() == 0;
        assert_eq!(ours, ok, "the sum of the transport");
    }
}

/// The state of every checksum: IPv4 header, transport.
fn checksums(ip: &[u8], packet: &Packet) -> (bool, Option<bool>) {
    (!packet.is_v4() || check::header_ok(ip), check::transport_ok(ip, packet))
}

/// Zero and 0xffff are the same number to a sum: bytes with the fields of checksums made canonical.
fn canonical(ip: &[u8], packet: &Packet, quoted: bool) -> Vec<u8> {
    let mut bytes = ip.to_vec();
    let mut fields = Vec::new();
    if packet.is_v4() {
        fields.push(10);
    }
    // In a first fragment it is there and edited as well.
    let whole = Packet { more_fragments: false, ..*packet };
    if let Some(at) = check::field(&whole).filter(|_| packet.protocol != sctp::PROTOCOL && !quoted) {
        fields.push(usize::from(packet.header_len) + at);
    }
    for at in fields {
        if at + 2 <= bytes.len() && bytes[at..at + 2] == [0xff, 0xff] {
            bytes[at..at + 2].fill(0);
        }
    }
    bytes
}

/// An edit of one end of a packet.
type Edit = fn(&mut [u8], &mut Packet, Address, u16, L4Sum);

fn there_and_back(ip: &[u8], packet: &Packet, control: &Control) {
    let (before, addr) = (checksums(ip, packet), control.address(packet));
    let edits: [(&str, Edit); 2] = [("source", rewrite::source), ("destination", rewrite::destination)];
    for (end, edit) in edits {
        let (old, old_port) =
            if end == "source" { (packet.src, packet.src_port) } else { (packet.dst, packet.dst_port) };
        let (mut bytes, mut edited) = (ip.to_vec(), *packet);
        edit(&mut bytes, &mut edited, addr, control.port, L4Sum::Complete);
        assert_eq!(Packet::parse(&bytes), Ok(edited), "{end}: the packet mirrors its bytes");
        assert_eq!(checksums(&bytes, &edited), before, "{end}: checksums are as right as they were");
        edit(&mut bytes, &mut edited, old, old_port, L4Sum::Complete);
        assert_eq!(edited, *packet, "{end}: there and back");
        assert_eq!(
            canonical(&bytes, packet, false),
            canonical(ip, packet, false),
            "{end}: bytes there and back"
        );
    }
    let (mut bytes, mut edited) = (ip.to_vec(), *packet);
    rewrite::decrement_ttl(&mut bytes, &mut edited);
    assert_eq!(Packet::parse(&bytes), Ok(edited), "TTL: the packet mirrors its bytes");
    assert_eq!(checksums(&bytes, &edited), before, "TTL: checksums are as right as they were");
}

/// A partial checksum, edited and then completed, is right.
fn partial(ip: &[u8], packet: &Packet, control: &Control) {
    if packet.is_fragment()
        || !matches!(packet.protocol, tcp::PROTOCOL | udp::PROTOCOL)
        || !packet.has_ports()
    {
        return;
    }
    let at = usize::from(packet.header_len) + check::field(packet).expect("TCP and UDP have one");
    let (mut bytes, mut edited) = (ip.to_vec(), *packet);
    let sum = check::fold(check::pseudo(packet, check::covered(ip, packet).len()));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    rewrite::source(&mut bytes, &mut edited, control.address(packet), control.port, L4Sum::Partial);
    rewrite::complete_checksum(&mut bytes, &edited);
    assert_eq!(check::transport_ok(&bytes, &edited), Some(true), "a completed checksum is right");
}

fn quoted_there_and_back(ip: &[u8], packet: &Packet, control: &Control) {
    let (mut bytes, mut edited) = (ip.to_vec(), *packet);
    let addr = control.address(packet);
    let forth = rewrite::quoted_source(&mut bytes, &mut edited, addr, control.port);
    let changed = bytes.clone();
    // The edit carries the sum of the message from one to the other. What lies at an odd place at the end cannot.
    let sums = (check::fold(check::sum(ip)), check::fold(check::sum(&changed)));
    assert_eq!(forth.apply(!sums.0) % 0xffff, !sums.1 % 0xffff, "the difference is that of the bytes");
    let _ = rewrite::quoted_source(&mut bytes, &mut edited, packet.src, packet.src_port);
    assert_eq!(edited, *packet, "quoted: there and back");
    assert_eq!(canonical(&bytes, packet, true), canonical(ip, packet, true), "quoted: bytes there and back");
}

/// What the director answers a packet with.
fn answers(ip: &[u8], packet: &Packet) {
    let mut buffer = [0; icmp::MAX_ERROR_V6];
    let whole = &ip[..packet.total_len as usize];
    let length = match (packet.dst.to_v4(), packet.src.to_v4()) {
        (Some(src), Some(dst)) => icmp::emit_error_v4(&mut buffer, src, dst, 3, 3, 0, 7, whole),
        _ => icmp::emit_error_v6(&mut buffer, packet.dst.to_v6(), packet.src.to_v6(), 1, 4, 0, 64, whole),
    };
    let error = &buffer[..length];
    let parsed = Packet::parse(error).expect("an error of ours is a packet");
    assert_eq!(checksums(error, &parsed), (true, Some(true)), "an error of ours has its checksums");
    assert!(icmp::checksum_ok(error, &parsed), "and our own check sees it");
    let quoted = Packet::parse_quoted(&error[usize::from(parsed.header_len) + icmp::HEADER_LEN..]);
    if usize::from(packet.header_len) + 8 < 500 {
        let quoted = quoted.expect("the quoted packet is one");
        assert_eq!((quoted.src, quoted.dst, quoted.protocol), (packet.src, packet.dst, packet.protocol));
    }
    let length = tcp::emit_reset(&mut buffer, ip, packet);
    if length > 0 {
        let reset = Packet::parse(&buffer[..length]).expect("a reset of ours is a packet");
        assert_eq!(checksums(&buffer[..length], &reset), (true, Some(true)), "a reset has its checksums");
    }
    let mut bytes = ip.to_vec();
    if icmp::reply_echo_in_place(&mut bytes, packet) {
        let reply = Packet::parse(&bytes).expect("a reply is a packet");
        assert_eq!((reply.src, reply.dst), (packet.dst, packet.src), "a reply goes back");
        assert_eq!(
            checksums(&bytes, &reply),
            checksums(ip, packet),
            "a reply is as right as the request was"
        );
    }
}

fn fragments_v4(ip: &[u8], packet: &Packet, control: &Control) {
    let mtu = usize::from(control.size % 2048);
    let whole = &ip[..packet.total_len as usize];
    let mut buffer = vec![0; mtu];
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    let count = match fragment::split_v4(ip, mtu, None, &mut buffer, |bytes| fragments.push(bytes.to_vec())) {
        Ok(count) => count,
        Err(error) => {
            assert!(fragments.is_empty(), "{error}: nothing was handed over");
            assert!(mtu < usize::from(packet.header_len) + 8, "{error}: 8 bytes fit into {mtu}");
            return;
        }
    };
    assert_eq!(count, fragments.len(), "the number of fragments");
    if count == 1 {
        assert_eq!(fragments[0], whole, "what fits is not touched");
        return;
    }
    let mut data = Vec::new();
    for (index, bytes) in fragments.iter().enumerate() {
        assert!(bytes.len() <= mtu, "a fragment fits");
        let one = Packet::parse(bytes).expect("a fragment is a packet");
        assert!(check::header_ok(bytes), "a fragment has its checksum");
        assert_eq!(one.total_len as usize, bytes.len(), "a fragment is as long as it says");
        let offset = usize::from(packet.fragment_offset) + data.len();
        assert_eq!(usize::from(one.fragment_offset), offset, "fragments follow one another");
        assert_eq!(one.more_fragments, packet.more_fragments || index + 1 < count, "more follow");
        assert_eq!((one.src, one.dst, one.id), (packet.src, packet.dst, packet.id), "of the same packet");
        data.extend_from_slice(one.transport(bytes));
    }
    assert_eq!(data, packet.transport(ip), "no byte is lost");
    if packet.is_fragment() {
        return;
    }
    let first = Packet::parse(&fragments[0]).expect("seen above");
    let again = join(&fragments[0], &first, packet, &data);
    assert!(check::header_ok(&again), "put together it has its checksum");
    // Flags but DF go, and a checksum that was wrong.
    let plain = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[6] &= 0x40;
        bytes[10..12].fill(0);
        bytes
    };
    assert_eq!(plain(&again), plain(whole), "put together it is the packet");
    let lengths: Vec<u16> = fragments
        .iter()
        .map(|bytes| {
            u16::try_from(bytes.len() - usize::from(bytes[0] & 0xf) * 4).expect("a fragment is small")
        })
        .collect();
    let mut same = Vec::new();
    fragment::refragment_v4(&again, mtu, &lengths, false, &mut buffer, |bytes| same.push(bytes.to_vec()))
        .expect("it was cut before");
    assert_eq!(same, fragments, "cut again it is the same fragments");
}

fn join(first: &[u8], parsed: &Packet, packet: &Packet, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0; first.len()];
    let (tos, df) = (packet.tos, packet.is_v4() && packet.dont_fragment);
    let length = fragment::emit_whole_header(first, parsed, tos, df, data.len(), &mut header)
        .expect("it is no longer than it was");
    header.truncate(length);
    header.extend_from_slice(data);
    header
}

fn fragments_v6(ip: &[u8], packet: &Packet, control: &Control) {
    let mtu = usize::from(control.size % 2048);
    let whole = &ip[..packet.total_len as usize];
    let mut buffer = vec![0; mtu];
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    let result =
        fragment::split_v6(ip, mtu, 0xabcd_0123, &mut buffer, |bytes| fragments.push(bytes.to_vec()));
    let Ok(count) = result else {
        assert!(fragments.is_empty(), "nothing was handed over");
        return;
    };
    assert_eq!(count, fragments.len(), "the number of fragments");
    if count == 1 {
        assert_eq!(fragments[0], whole, "what fits is not touched");
        return;
    }
    // A first fragment that does not hold all headers is none that our parser takes (RFC 7112).
    let Ok(first) = Packet::parse(&fragments[0]) else {
        assert!(
            usize::from(packet.header_len) + 8 > fragments[0].len() || packet.header_len > 48,
            "a first fragment is a packet"
        );
        return;
    };
    let mut data = Vec::new();
    for (index, bytes) in fragments.iter().enumerate() {
        assert!(bytes.len() <= mtu, "a fragment fits");
        let one = Packet::parse(bytes).expect("a fragment is a packet");
        assert_eq!(one.total_len as usize, bytes.len(), "a fragment is as long as it says");
        assert_eq!(usize::from(one.fragment_offset), data.len(), "fragments follow one another");
        assert_eq!(one.more_fragments, index + 1 < count, "more follow");
        assert_eq!((one.src, one.dst, one.id), (packet.src, packet.dst, 0xabcd_0123), "of the same packet");
        data.extend_from_slice(&bytes[fragment::data_start(&one)..]);
    }
    let again = join(&fragments[0], &first, packet, &data);
    assert_eq!(again, whole, "put together it is the packet");
}

fn segments(ip: &[u8], packet: &Packet, control: &Control) {
    let size = control.size % 2048;
    let Ok(mut gso_packet) = Segments::new(ip, packet, size) else { return };
    let count = gso_packet.count();
    let mut buffer = vec![0; gso_packet.max_len()];
    let (mut data, mut seen) = (Vec::new(), 0);
    let length = |bytes: &[u8], packet: &Packet| match packet.protocol {
        tcp::PROTOCOL => usize::from(bytes[usize::from(packet.header_len) + 12] >> 4) * 4,
        _ => udp::HEADER_LEN,
    };
    let headers = usize::from(packet.header_len) + length(ip, packet);
    while let Some(end) = gso_packet.write_next(&mut buffer) {
        let bytes = &buffer[..end];
        let one = Packet::parse(bytes).expect("a segment is a packet");
        assert_eq!(one.total_len as usize, end, "a segment is as long as it says");
        let (header, transport) = checksums(bytes, &one);
        assert!(header && transport != Some(false), "a segment has its checksums");
        assert_eq!((one.src_port, one.dst_port), (packet.src_port, packet.dst_port), "of the same flow");
        let payload = &bytes[usize::from(one.header_len) + length(bytes, &one)..];
        assert!(payload.len() <= usize::from(size), "a segment is no longer than asked for");
        data.extend_from_slice(payload);
        seen += 1;
    }
    assert_eq!(seen, count, "the number of segments");
    assert_eq!(data, &ip[headers..packet.total_len as usize], "no byte is lost");
}
