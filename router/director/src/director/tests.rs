//! How often a packet takes the lock of its connection's shard, and that a hit takes no other.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::{ethernet, ipv4, tcp};

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::lock::taken;
use crate::base::scheduler::NativeOnly;
use crate::base::spec::{
    Change, DestinationSpec, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Protocol, SchedulerSpec,
    ServiceKey, ServiceSpec, SourceCheck, Tunnel,
};
use crate::base::time::Instant;
use crate::base::verdict::Verdict;
use crate::director::Director;
use crate::flow_cache::{Flow, FlowCache, FlowEvent, FlowKey, NextHop, NotPlaced, Passed, Progress};
use crate::scene::outbox::Outbox;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 2), 40000);
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 100), 80);
const RIP: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 10, 11), 80);
const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 1, 1])];
const NOW: Instant = Instant::from_secs(1);

/// A cache that takes everything, and counts.
#[derive(Default)]
struct Taker(AtomicUsize);

impl FlowCache for Taker {
    fn place(&self, _: &Flow<'_>) -> Result<(), NotPlaced> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
    fn remove(&self, _: &FlowKey, _: Option<&FlowKey>) {}
    fn shut(&self, _: &FlowKey, _: Option<&FlowKey>) {}
    fn progress(&self, _: &FlowKey) -> Progress {
        Progress::default()
    }
    fn last_seen(&self, _: &FlowKey, _: Option<&FlowKey>) -> Option<Instant> {
        None
    }
    fn events(&self, _: &mut dyn FnMut(FlowEvent)) {}
    fn through(&self, _: &Passed) {}
    fn withdraw(&self, _: Option<u32>) {}
    fn count(&self) {}

    fn displaced(&self) -> u64 {
        0
    }
    fn refresh_next_hops(&self, _: usize, _: &mut dyn FnMut(&NextHop) -> Option<MacAddr>) -> Option<usize> {
        None
    }
}

fn set_up(director: &Director, forwarding: Forwarding) {
    let interface = |n: u16, addresses: &[&str]| InterfaceSpec {
        port: PortId(n),
        name: format!("eth{n}"),
        link: Link::Ethernet(MACS[usize::from(n)]),
        mtu: 1500,
        addresses: addresses.iter().map(|addr| addr.parse().expect("a prefix")).collect(),
        source_check: SourceCheck::Loose,
    };
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.0.into(), VIP.1));
    let neighbor = |port, addr: Ipv4Addr| Change::SetNeighbor {
        port: PortId(port),
        addr: IpAddr::V4(addr),
        mac: MacAddr([2, 0, 0, 0, 9, 9]),
    };
    let rip = SocketAddr::new(RIP.0.into(), RIP.1);
    for change in [
        Change::SetNetwork {
            interfaces: vec![
                interface(0, &["10.0.0.1/24", "10.0.0.100/32"]),
                interface(1, &["192.168.10.1/24"]),
            ],
            routes: vec![],
        },
        neighbor(0, CLIENT.0),
        neighbor(1, RIP.0),
        Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))),
        Change::AddDestination(key, DestinationSpec::new(rip, forwarding)),
    ] {
        director.apply(change, NOW).expect("a valid change");
    }
}

/// The locks that a segment takes, which is sent on.
fn locks_of(
    director: &Director,
    out: &mut Outbox,
    from: u16,
    (src, dst): ((Ipv4Addr, u16), (Ipv4Addr, u16)),
    flags: u8,
) -> Vec<&'static str> {
    const IP: usize = ethernet::HEADER_LEN;
    const TCP: usize = IP + ipv4::HEADER_LEN;
    let mut bytes = [0; TCP + tcp::HEADER_LEN];
    let (to, other) = (MACS[usize::from(from)].0, [2, 0, 0, 0, 9, 9]);
    ethernet::write(&mut bytes, to, other, ethernet::ETHERTYPE_IPV4);
    let header = Ipv4Repr {
        src: src.0,
        dst: dst.0,
        protocol: tcp::PROTOCOL,
        ttl: 64,
        tos: 0,
        id: 1,
        dont_fragment: true,
        payload_len: 20,
    };
    header.emit(&mut bytes[IP..]);
    bytes[TCP..TCP + 2].copy_from_slice(&src.1.to_be_bytes());
    bytes[TCP + 2..TCP + 4].copy_from_slice(&dst.1.to_be_bytes());
    bytes[TCP + 12] = 5 << 4;
    bytes[TCP + 13] = flags;
    let mut frame = Frame::from_bytes(&bytes);
    let (verdict, locks) = taken::by(|| director.handle(PortId(from), &mut frame, NOW, out));
    assert_eq!(verdict, Verdict::Transmit(PortId(1 - from)));
    locks
}

fn of_shards(locks: &[&str]) -> usize {
    locks.iter().filter(|lock| **lock == "Shard").count()
}

#[test]
fn a_hit_takes_its_shards_lock_once_and_no_other() {
    for forwarding in [Forwarding::Nat, Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip)] {
        let director = Director::new(Limits::default(), 1, Arc::new(NativeOnly));
        set_up(&director, forwarding);
        let mut out = Outbox::new();
        let first = locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::SYN);
        assert_eq!(
            of_shards(&first),
            2,
            "{forwarding:?}: once to find nothing, and once to enter: {first:?}"
        );
        if forwarding == Forwarding::Nat {
            let locks = locks_of(&director, &mut out, 1, (RIP, CLIENT), tcp::SYN | tcp::ACK);
            assert_eq!(of_shards(&locks), 1, "the first reply: {locks:?}");
            assert_eq!(locks_of(&director, &mut out, 1, (RIP, CLIENT), tcp::ACK), ["Shard"], "a reply");
        }
        for _ in 0..3 {
            let locks = locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::ACK);
            assert_eq!(of_shards(&locks), 1, "{forwarding:?}: {locks:?}");
        }
        assert_eq!(locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::ACK), ["Shard"], "{forwarding:?}");
    }
}

#[test]
fn a_connection_is_placed_under_one_lock_more() {
    let cache = Arc::new(Taker::default());
    let director = Director::new(Limits::default(), 1, Arc::new(NativeOnly))
        .with_flow_cache(Arc::<Taker>::clone(&cache));
    set_up(&director, Forwarding::Nat);
    let mut out = Outbox::new();
    let first = locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::SYN);
    assert_eq!((of_shards(&first), cache.0.load(Relaxed)), (3, 1), "to find, to enter, to place: {first:?}");
    locks_of(&director, &mut out, 1, (RIP, CLIENT), tcp::SYN | tcp::ACK);
    locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::ACK);
    let hit = locks_of(&director, &mut out, 0, (CLIENT, VIP), tcp::ACK);
    assert_eq!((of_shards(&hit), cache.0.load(Relaxed)), (1, 1), "what is placed already: {hit:?}");
}
