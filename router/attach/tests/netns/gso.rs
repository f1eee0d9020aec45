//! GSO packets of segments and partial checksums pass whole, both ways.

use std::net::UdpSocket;

use nix::sys::socket::{setsockopt, sockopt};
use uvs_director::Frame;
use uvs_wire::ethernet;

use crate::lab::{DIRECTOR, DIRECTOR_IP, HOST, HOST_IP, SOON, attach, hear_until, in_lab};

const SEGMENT: usize = 1000;
const SEGMENTS: usize = 10;
const PORT: u16 = 7000;

/// What is in the n-th segment.
fn segment(number: usize) -> Vec<u8> {
    (0..SEGMENT).map(|index| u8::try_from((index + number) % 251).unwrap()).collect()
}

/// Swaps MAC addresses, IPv4 addresses and UDP ports, which no checksum minds.
fn turn_round(frame: &mut Frame) {
    let bytes = frame.bytes_mut();
    for (one, other, length) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        for index in 0..length {
            bytes.swap(one + index, other + index);
        }
    }
}

#[test]
fn a_gso_packet_passes_whole_there_and_back() {
    in_lab(true, async |lab| {
        let _attached = attach().await;
        let socket = UdpSocket::bind((HOST_IP, PORT)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(SEGMENT).unwrap()).unwrap();
        let gso_packet: Vec<u8> = (0..SEGMENTS).flat_map(segment).collect();
        // The host has to learn the director's MAC address first.
        socket.send_to(b"?", (DIRECTOR_IP, PORT)).unwrap();
        let question =
            hear_until(&lab.tap, |frame| ethernet::ethertype(frame.bytes()) == ethernet::ETHERTYPE_ARP);
        let mut answer = question.last().unwrap().bytes().to_vec();
        // The request, turned into its reply.
        answer[21] = 2;
        let (sender, target) = (answer[22..32].to_vec(), [&DIRECTOR.0[..], &DIRECTOR_IP.octets()].concat());
        answer[22..32].copy_from_slice(&target);
        answer[32..42].copy_from_slice(&sender);
        answer[..12].copy_from_slice(&[HOST.0, DIRECTOR.0].concat());
        crate::lab::send(&lab.tap, &answer);

        socket.send_to(&gso_packet, (DIRECTOR_IP, PORT)).unwrap();
        let mut heard = hear_until(&lab.tap, |frame| frame.len() > 2 * SEGMENT);
        let mut whole = heard.pop().unwrap();
        assert_eq!(whole.len(), 14 + 20 + 8 + SEGMENT * SEGMENTS, "one frame");
        assert_eq!(usize::from(whole.offload.segment_size), SEGMENT);
        assert!(whole.offload.needs_checksum, "its checksum is partial");
        assert_eq!(whole.bytes()[42..], gso_packet);

        turn_round(&mut whole);
        lab.tap.queues()[0].send(&whole).unwrap();
        let mut buffer = [0; 2 * SEGMENT];
        for number in 0..SEGMENTS {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((length, from), (SEGMENT, (DIRECTOR_IP, PORT).into()), "segment {number}");
            assert_eq!(buffer[..length], segment(number), "segment {number}");
        }
    });
}
