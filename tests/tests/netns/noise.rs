//! Frames that nobody should send, on the client's wire while a client is served.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use uvs_director::DropReason;
use uvs_director::spec::MacAddr;
use uvs_lab::topology::{Method, Plan, VIP, mac};
use uvs_wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

use crate::packet::{arp_request, frame, ipv4, udp};
use crate::peer::{Talk, stream_both_ways};
use crate::stage::{Stage, eventually, topology, turn};
use crate::station::Station;

const DIRECTOR: MacAddr = mac(1, 1);
const STRANGER: MacAddr = mac(1, 99);
const STRANGER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame and the reason for which it is dropped; "": it has none, but does no harm.
type Bad = (&'static str, Vec<u8>);

fn bad_frames() -> Vec<Bad> {
    let to_director = |ethertype, payload: &[u8]| frame(DIRECTOR, STRANGER, ethertype, payload);
    let packet = |bytes: &[u8]| to_director(ETHERTYPE_IPV4, bytes);
    let good = ipv4(UDP, STRANGER_IP, VIP, 64, &udp(9, 80, b"payload"));
    let from = |source: [u8; 4]| packet(&ipv4(UDP, source.into(), VIP, 64, &udp(9, 80, b"x")));
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut bad: Vec<Bad> = vec![
        ("unknown_ether_type", to_director(0x88b5, &[0; 64])),
        ("unknown_ether_type", to_director(0x8100, &[0; 64])),
        ("truncated", to_director(ETHERTYPE_ARP, &[0, 1, 8, 0])),
        ("malformed", to_director(ETHERTYPE_ARP, &[0xff; 28])),
        ("truncated", to_director(ETHERTYPE_IPV6, &[0x60; 12])),
        ("", to_director(ETHERTYPE_IPV6, &[0xff; 60])),
        ("", to_director(0x0003, &[0; 46])),
        ("malformed", packet(&with(0, 0x35))),
        ("malformed", packet(&with(0, 0x44))),
        ("malformed", packet(&with(0, 0x4f)[..24])),
        ("truncated", packet(&with(2, 0xff))),
        (
            "malformed",
            packet(
                &with(2, 0)
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if at == 3 { 4 } else { *byte })
                    .collect::<Vec<_>>(),
            ),
        ),
        ("bad_checksum", packet(&with(10, 0x5a))),
        ("martian", from([127, 0, 0, 1])),
        ("martian", from([224, 0, 0, 5])),
        ("martian", from([255, 255, 255, 255])),
        ("martian", from(VIP.octets())),
        ("martian", from([10, 0, 0, 255])),
        ("multicast", packet(&ipv4(UDP, STRANGER_IP, Ipv4Addr::new(224, 0, 0, 251), 1, &udp(9, 9, b"x")))),
        ("multicast", frame(MacAddr::BROADCAST, STRANGER, ETHERTYPE_IPV4, &good)),
        ("bad_checksum", packet(&ipv4(TCP, STRANGER_IP, VIP, 64, &tcp_header(0x10)))),
        ("", packet(&ipv4(TCP, STRANGER_IP, VIP, 64, &tcp_header(0x3f)))),
        ("", packet(&ipv4(TCP, STRANGER_IP, VIP, 64, &[0; 7]))),
        ("bad_checksum", packet(&ipv4(ICMP, STRANGER_IP, VIP, 64, &[8, 0, 1, 2, 3, 4, 5, 6]))),
        ("icmp_unrelated", packet(&ipv4(ICMP, STRANGER_IP, VIP, 64, &[3, 4, 0, 0, 0, 0, 0, 0, 0x45]))),
        ("ttl_exceeded", packet(&ipv4(UDP, STRANGER_IP, VIP, 0, &udp(9, 80, b"x")))),
        ("not_handled", packet(&ipv4(99, STRANGER_IP, VIP, 64, &[0; 40]))),
        (
            "arp_ignored",
            arp_request(MacAddr::BROADCAST, (STRANGER, STRANGER_IP), Ipv4Addr::new(10, 0, 0, 77)),
        ),
        // An IP packet inside another, inside another: what a loop of tunnels looks like.
        ("not_handled", packet(&ipv4(4, STRANGER_IP, VIP, 64, &ipv4(4, STRANGER_IP, VIP, 64, &good)))),
    ];
    // A good packet cut off everywhere.
    bad.extend((1..good.len()).map(|length| ("truncated", packet(&good[..length]))));
    bad
}

/// A TCP header from port 9 to port 80 with these flags, without a right checksum.
fn tcp_header(flags: u8) -> [u8; 20] {
    let mut header = [0; 20];
    (header[1], header[3], header[12], header[13]) = (9, 80, 0x50, flags);
    header
}

/// A network whose bridges pass on what is no good IP packet, or the director would never see it.
fn with_plain_bridges() -> Stage {
    let topology = topology(Method::Nat, &Plan::default());
    for host in topology.switches.iter().chain([&topology.director]) {
        host.plain_bridges().unwrap();
    }
    let config = topology.config.clone();
    Stage::on(topology, &config)
}

#[test]
fn a_transfer_survives_noise_on_the_wire() {
    let Some(_turn) = turn() else { return };
    let mut stage = with_plain_bridges();
    let service = stage.topology.service;
    let station = Station::plug_in(&stage.topology.switches[0], STRANGER);
    let frames = bad_frames();
    let reasons = [
        "truncated",
        "malformed",
        "bad_checksum",
        "martian",
        "multicast",
        "unknown_ether_type",
        "icmp_unrelated",
        "ttl_exceeded",
        "arp_ignored",
        "not_handled",
    ];
    let before = reasons.map(|reason| stage.director().drops(reason));
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            // A round is the least; the transfer decides how many more there are.
            while !done.load(Ordering::Relaxed) || rounds.load(Ordering::Relaxed) == 0 {
                for (_, frame) in &frames {
                    station.send(frame);
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let transfers = stage
            .client()
            .run(|| (0..3).map(|seed| stream_both_ways(service, seed, 10 << 20, || ())).collect::<Vec<_>>());
        done.store(true, Ordering::Relaxed);
        for transfer in transfers.unwrap() {
            transfer.unwrap();
        }
    });
    let streams = eventually("the servers have compared all", || {
        let streams: Vec<_> = stage.peers.iter().flat_map(|peer| peer.streams()).collect();
        (streams.len() == 3).then_some(streams)
    });
    assert_eq!(streams, [Ok(()), Ok(()), Ok(())]);
    // Under load not every frame gets to the director.
    let after = reasons.map(|reason| stage.director().drops(reason));
    for ((reason, before), after) in reasons.iter().zip(before).zip(after) {
        assert!(
            after > before,
            "{reason} is counted: {before} before, {after} after {} rounds",
            rounds.load(Ordering::Relaxed)
        );
    }
    stage.client().run(|| Talk::open(service).unwrap().say(b"all is well").unwrap()).unwrap();
}

/// Each kind of frame alone, so that what it is counted as can be told.
#[test]
fn each_bad_frame_has_the_reason_that_fits() {
    let Some(_turn) = turn() else { return };
    let mut stage = with_plain_bridges();
    let station = Station::plug_in(&stage.topology.switches[0], STRANGER);
    let mut wrong = Vec::new();
    for (number, (reason, frame)) in bad_frames().iter().enumerate() {
        let before = drops(&mut stage);
        station.send(frame);
        if reason.is_empty() {
            continue;
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        let counted = loop {
            let after = drops(&mut stage);
            let counted: Vec<&str> = (DropReason::ALL.iter().zip(before.iter().zip(&after)))
                .filter_map(|(reason, (before, after))| (after > before).then_some(reason.label()))
                .collect();
            if counted.contains(reason) || Instant::now() > deadline {
                break counted;
            }
        };
        if !counted.contains(reason) {
            wrong.push(format!("frame {number} is counted as {counted:?}, not as {reason}: {frame:02x?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn drops(stage: &mut Stage) -> Vec<u64> {
    let page = stage.director().get().metrics().unwrap();
    let count = |reason: &DropReason| {
        let series = format!("uvs_drops_total{{reason=\"{reason}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    };
    DropReason::ALL.iter().map(count).collect()
}
