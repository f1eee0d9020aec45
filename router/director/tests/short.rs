//! Requests that end within their transport header, and the quotation of a packet in which our address was recorded:
//! as recorded from the kernel (random_5056, random_5313, random_5207).

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration};
use uvs_wire::ipv4;

const PORT: u16 = 40_000;

fn compat(compat_ipvs: bool) -> Change {
    Change::SetOptions(Options { compat_ipvs, ..Options::default() })
}

/// Makes an IPv4 packet in a frame end after so many bytes behind its IP header.
fn cut(mut frame: Vec<u8>, transport: u16) -> Vec<u8> {
    let total = 20 + transport;
    frame.truncate(14 + usize::from(total));
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    ipv4::fill_checksum(&mut frame[14..34]);
    frame
}

fn segment(flags: &str) -> Vec<u8> {
    tcp((CLIENT, PORT), (VIP, 80), flags, b"")
}

#[test]
fn under_compat_a_request_too_short_for_its_header_follows_its_connection_where_it_is_not_translated() {
    let tunnel = Forwarding::Tunnel(Tunnel::Ipip);
    for (forwarding, compatible, passes) in [
        (Forwarding::Direct, true, true),
        (tunnel, true, true),
        (Forwarding::Nat, true, false),
        (Forwarding::Direct, false, false),
    ] {
        for len in [4, 12, 19] {
            let case = format!("{forwarding:?}, compat {compatible}, {len} bytes");
            let mut bench = Bench::new();
            bench.apply(compat(compatible));
            bench.service(Protocol::Tcp, forwarding, &["192.168.10.11:80"]);
            bench.refused(CLIENT_SIDE, &cut(segment("S"), len), DropReason::Truncated);
            assert!(bench.connections().is_empty(), "{case}: none begins so");
            bench.pass(CLIENT_SIDE, &segment("S"));
            bench.pass(CLIENT_SIDE, &segment("A"));
            let seen = |bench: &Bench| bench.connections()[0].state.to_string();
            let before = seen(&bench);
            bench.advance(Duration::from_secs(5));
            let short = cut(segment("R"), len);
            if !passes {
                bench.refused(CLIENT_SIDE, &short, DropReason::Truncated);
                continue;
            }
            let (port, sent) = bench.pass(CLIENT_SIDE, &short);
            let inner = if forwarding == tunnel { 34 } else { 14 };
            assert_eq!((port, &sent[..6]), (SERVER_SIDE, &RS1_MAC[..]), "{case}");
            assert!(ipv4::header_checksum_ok(&sent[inner..]), "{case}");
            assert_eq!((sent[inner + 8], &sent[inner + 20..]), (63, &short[34..]), "{case}");
            // It is not looked at: a reset would have ended the connection. Its time begins anew.
            assert_eq!(seen(&bench), before, "{case}");
            assert!(bench.connections()[0].expires_in > Duration::from_secs(899), "{case}");
            let services = bench.director.services();
            assert_eq!(services[0].destinations[0].counters.packets_in, 3, "{case}");
        }
    }
}

#[test]
fn a_short_datagram_follows_its_connection_and_nothing_else_does() {
    let bench = Bench::new();
    bench.apply(compat(true));
    bench.service(Protocol::Udp, Forwarding::Direct, &["192.168.10.11:53"]);
    let datagram = || udp((CLIENT, PORT), (VIP, 53), b"what");
    bench.pass(CLIENT_SIDE, &datagram());
    bench.pass(CLIENT_SIDE, &cut(datagram(), 6));
    let mut wrong = cut(datagram(), 6);
    wrong[24] ^= 1;
    bench.refused(CLIENT_SIDE, &wrong, DropReason::BadChecksum);
    bench.refused(CLIENT_SIDE, &cut(datagram(), 3), DropReason::Truncated);
    let mut to_all = cut(datagram(), 6);
    to_all[..6].fill(0xff);
    bench.refused(CLIENT_SIDE, &to_all, DropReason::Truncated);
    let other = udp((CLIENT, PORT + 1), (VIP, 53), b"what");
    bench.refused(CLIENT_SIDE, &cut(other, 6), DropReason::Truncated);
    let through = udp((CLIENT, PORT), (Ipv4Addr::new(192, 168, 10, 11), 53), b"what");
    bench.refused(CLIENT_SIDE, &cut(through, 6), DropReason::Truncated);
    bench
        .director
        .apply(Change::RemoveService(ServiceKey::new(Protocol::Udp, (VIP, 53).into())), bench.now)
        .unwrap();
    bench.refused(CLIENT_SIDE, &cut(datagram(), 6), DropReason::Truncated);
}

#[test]
fn a_packet_in_which_our_address_was_recorded_is_quoted_under_compat_with_the_checksum_it_came_with() {
    for compatible in [true, false] {
        let bench = Bench::new();
        bench.apply(compat(compatible));
        bench.service(Protocol::Udp, Forwarding::Nat, &[]);
        let plain = udp((CLIENT, PORT), (VIP, 53), b"what");
        let mut frame = [&plain[..34], &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0], &plain[34..]].concat();
        frame[14] = 0x48;
        let total = u16::try_from(frame.len() - 14).unwrap();
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        ipv4::fill_checksum(&mut frame[14..46]);
        let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::NoDestination);
        let (.., quoted) = read_icmp(&sent[0].1);
        assert_eq!(quoted[20..28], [7, 11, 8, 10, 0, 0, 100, 0], "recorded");
        assert_eq!(quoted[10..12] == frame[24..26], compatible, "the checksum it came with");
        assert_eq!(ipv4::header_checksum_ok(&quoted), !compatible);
    }
}
