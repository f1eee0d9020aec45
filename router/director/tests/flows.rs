//! What the director asks of a flow cache, and what it makes of what the cache tells.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use common::*;
use uvs_director::flow_cache::{
    Act, Direction, Flow, FlowCache, FlowEvent, FlowKey, Method, NextHop, NotPlaced, Orphan, Passed, Progress,
};
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Frame, Instant, Outbox};

/// A cache that keeps what it is told, and tells what the test puts in.
#[derive(Default)]
struct Fake(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The directions of each connection, by the key of its request.
    placed: HashMap<FlowKey, (Direction, Option<Direction>, bool)>,
    /// How often something was placed.
    times: usize,
    events: Vec<FlowEvent>,
    seen: Option<Instant>,
    withdrawn: Vec<Option<u32>>,
    through: Vec<Passed>,
    progress: Progress,
    answer: Option<NotPlaced>,
    refreshed: Vec<Option<MacAddr>>,
    /// Where each call to refresh began, and how many next hops there are.
    slices: Vec<usize>,
    next_hops: usize,
    /// What had to leave its place to others.
    displaced: u64,
    /// Connections that have room, if that is bounded.
    room: Option<usize>,
}

impl Fake {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn len(&self) -> usize {
        self.inner().placed.len()
    }
}

impl FlowCache for Fake {
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let inner = &mut *self.inner();
        inner.times += 1;
        if let Some(why) = inner.answer {
            return Err(why);
        }
        if inner.room.is_some_and(|room| inner.placed.len() >= room)
            && !inner.placed.contains_key(&flow.request.key)
        {
            return Err(NotPlaced::Full);
        }
        inner.placed.insert(flow.request.key, (flow.request, flow.reply, flow.is_embryonic));
        Ok(())
    }

    fn shut(&self, request: &FlowKey, _: Option<&FlowKey>) {
        if let Some((request, reply, _)) = self.inner().placed.get_mut(request) {
            request.waits = true;
            reply.iter_mut().for_each(|reply| reply.waits = true);
        }
    }

    fn remove(&self, request: &FlowKey, _: Option<&FlowKey>) {
        self.inner().placed.remove(request);
    }

    fn progress(&self, _: &FlowKey) -> Progress {
        self.inner().progress
    }

    fn last_seen(&self, request: &FlowKey, _: Option<&FlowKey>) -> Option<Instant> {
        let inner = self.inner();
        inner.placed.contains_key(request).then_some(inner.seen).flatten()
    }

    fn events(&self, each: &mut dyn FnMut(FlowEvent)) {
        let events = std::mem::take(&mut self.inner().events);
        events.into_iter().for_each(each);
    }

    fn through(&self, last: &Passed) {
        self.inner().through.push(*last);
    }

    fn withdraw(&self, destination: Option<u32>) {
        self.inner().withdrawn.push(destination);
    }

    fn count(&self) {}

    fn displaced(&self) -> u64 {
        self.inner().displaced
    }

    fn refresh_next_hops(
        &self,
        from: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        let next_hops: Vec<NextHop> =
            self.inner().placed.values().map(|(request, ..)| request.next_hop).collect();
        let answers = next_hops.iter().map(address_of).collect();
        let inner = &mut *self.inner();
        inner.refreshed = answers;
        inner.slices.push(from);
        Some(from + 64).filter(|next| *next < inner.next_hops)
    }
}

const CLIENT_AT: (std::net::Ipv4Addr, u16) = (CLIENT, 40_000);
const SERVICE: (std::net::Ipv4Addr, u16) = (VIP, 80);

fn bench() -> (Bench, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let mut bench = Bench::new();
    bench.director = bench.director.with_flow_cache(Arc::clone(&fake) as Arc<dyn FlowCache>);
    (bench, fake)
}

fn key(from: (std::net::Ipv4Addr, u16), to: (std::net::Ipv4Addr, u16)) -> FlowKey {
    FlowKey { protocol: 6, source: (from.0.into_addr(), from.1), destination: (to.0.into_addr(), to.1) }
}

trait IntoAddr {
    fn into_addr(self) -> uvs_wire::Address;
}

impl IntoAddr for std::net::Ipv4Addr {
    fn into_addr(self) -> uvs_wire::Address {
        uvs_wire::Address::v4(self)
    }
}

/// A segment that passed in the cache `after` the bench's now.
fn passed(bench: &Bench, fake: &Fake, is_reply: bool, flags: u8, after: Duration) {
    let key = if is_reply { key((RS1, 8080), CLIENT_AT) } else { key(CLIENT_AT, SERVICE) };
    fake.inner().events.push(FlowEvent { key, is_reply, tcp_flags: flags, at: bench.now + after });
    bench.director.catch_up(bench.now + after, &mut Outbox::new());
}

const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn state(bench: &Bench) -> &'static str {
    bench.connections()[0].state
}

#[test]
fn a_connection_is_placed_before_its_first_packet_leaves() {
    for (forwarding, act, answers) in [
        (Forwarding::Nat, Act::NewDestination(RS1.into_addr(), 8080), true),
        (Forwarding::Direct, Act::AsIs, false),
        (
            Forwarding::Tunnel(Tunnel::Ipip),
            Act::Tunnel {
                source: std::net::Ipv4Addr::new(192, 168, 10, 1).into_addr(),
                destination: RS1.into_addr(),
            },
            false,
        ),
    ] {
        let (bench, fake) = bench();
        let to = if forwarding == Forwarding::Nat { "192.168.10.11:8080" } else { "192.168.10.11:80" };
        bench.service(Protocol::Tcp, forwarding, &[to]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        let inner = fake.inner();
        let (request, reply, is_embryonic) = inner.placed[&key(CLIENT_AT, SERVICE)];
        assert!(is_embryonic);
        assert_eq!(request.act, act);
        let next_hop = request.next_hop;
        assert_eq!(
            (next_hop.port, next_hop.to, next_hop.from, next_hop.mtu),
            (SERVER_SIDE, MacAddr(RS1_MAC), MacAddr(R0_MAC), 1500)
        );
        assert_eq!(reply.is_some(), answers);
        if let Some(reply) = reply {
            assert_eq!(reply.key, key((RS1, 8080), CLIENT_AT));
            assert_eq!(reply.act, Act::NewSource(VIP.into_addr(), 80));
            assert_eq!((reply.next_hop.port, reply.next_hop.to), (CLIENT_SIDE, MacAddr(CLIENT_MAC)));
        }
    }
}

#[test]
fn what_cannot_pass_by_is_not_placed() {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
    for forwarding in [Forwarding::Tunnel(gue), Forwarding::Tunnel(Tunnel::Gre { checksum: false })] {
        let (bench, fake) = bench();
        bench.service(Protocol::Tcp, forwarding, &["192.168.10.11:80"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
        assert_eq!(fake.inner().times, 0, "{forwarding:?}");
    }
    // A datagram alone is no flow.
    let (bench, fake) = bench();
    let service = ServiceKey::new(Protocol::Udp, "10.0.0.100:53".parse().unwrap());
    let spec = ServiceSpec { one_packet: true, ..ServiceSpec::new(service, SchedulerSpec::named("wlc")) };
    bench.apply(Change::AddService(spec));
    let to = DestinationSpec::new("192.168.10.11:53".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(service, to));
    bench.pass(CLIENT_SIDE, &udp((CLIENT, 5000), (VIP, 53), b"x"));
    assert_eq!(fake.inner().times, 0);
}

#[test]
fn states_follow_what_passed_and_what_is_over_leaves_the_cache() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let ms = Duration::from_millis;
    for (is_reply, flags, want) in [
        (true, SYN | ACK, "SYN_RECV"),
        (false, ACK, "ESTABLISHED"),
        (true, FIN | ACK, "FIN_WAIT"),
        (false, FIN | ACK, "TIME_WAIT"),
    ] {
        passed(&bench, &fake, is_reply, flags, ms(1));
        assert_eq!(state(&bench), want, "after {flags:02x}");
        assert_eq!(fake.len(), 1, "it is still there for the last acknowledgements");
    }
    assert_eq!(bench.load("192.168.10.11:8080"), (0, 1));
    bench.advance(ms(200));
    assert_eq!((fake.len(), state(&bench)), (0, "TIME_WAIT"));
    // What comes late is handled here, and does not bring it back.
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
    assert_eq!(fake.len(), 0);
    // Another connection of the same client does.
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!((fake.len(), state(&bench)), (1, "SYN_RECV"));
}

#[test]
fn a_handshake_that_stays_open_comes_back_to_the_director() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    // The kernel's table leaves the state where it was, and the cache tells of one segment only.
    passed(&bench, &fake, false, RST, Duration::from_millis(1));
    let waits = || fake.inner().placed[&key(CLIENT_AT, SERVICE)].0.waits;
    assert_eq!((state(&bench), waits()), ("SYN_RECV", true));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "A", b""), 1));
    assert_eq!((state(&bench), fake.len()), ("ESTABLISHED", 1));
}

#[test]
fn a_connection_lives_as_long_as_its_packets_pass() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    let last = bench.now + Duration::from_secs(800);
    fake.inner().seen = Some(last);
    bench.advance(Duration::from_secs(850));
    assert_eq!(bench.connections()[0].expires_in, Duration::from_secs(850), "900 s from the last packet");
    bench.advance(Duration::from_secs(100));
    assert_eq!(bench.connections().len(), 1, "it had a packet 150 s ago");
    bench.advance(Duration::from_secs(751));
    assert_eq!((bench.connections().len(), fake.len()), (0, 0));
}

#[test]
fn a_packet_that_meets_an_old_deadline_asks_the_cache_first() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    // The timer has not looked yet; the packet did not pass in the cache for some reason of its own.
    fake.inner().seen = Some(bench.now + Duration::from_secs(900));
    let late = bench.now + Duration::from_secs(950);
    let mut frame = Frame::from_bytes(&tcp(CLIENT_AT, SERVICE, "A", b"x"));
    let verdict = bench.director.handle(CLIENT_SIDE, &mut frame, late, &mut Outbox::new());
    assert_eq!(verdict, uvs_director::Verdict::Transmit(SERVER_SIDE), "no other connection, no refusal");
}

#[test]
fn a_change_withdraws_and_the_next_packet_places_anew() {
    let (bench, fake) = bench();
    let service = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "A", b""), 1));
    assert_eq!(fake.inner().times, 1, "once is enough");
    fake.inner().withdrawn.clear();
    let spec = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::EditDestination(service, DestinationSpec { weight: 5, upper_threshold: 9, ..spec }));
    assert_eq!(fake.inner().withdrawn, [], "flows go on as they are");
    let edit = Change::EditDestination(service, DestinationSpec { weight: 0, ..spec });
    let remove = Change::RemoveDestination(service, "192.168.10.11:8080".parse().unwrap());
    let add = Change::AddDestination(service, spec);
    for (change, withdrawn, placed) in [(edit, 1, 2), (remove, 2, 2), (add, 2, 3)] {
        bench.apply(change);
        assert_eq!(fake.inner().withdrawn.len(), withdrawn);
        bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
        assert_eq!(fake.inner().times, placed);
    }
    bench.apply(Change::SetOptions(Options { nat_icmp_send: true, ..bench.director.options() }));
    assert_eq!(fake.inner().withdrawn.last(), Some(&None), "of all");
    fake.inner().withdrawn.clear();
    bench.apply(Change::SetTimeouts(bench.director.timeouts()));
    assert_eq!(fake.inner().withdrawn, [None], "the next packet of each takes the new ones");
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
    assert_eq!(fake.inner().times, 4);
}

#[test]
fn a_cache_without_room_is_asked_again_and_one_elsewhere_is_not() {
    for (answer, at_once, want) in [(NotPlaced::Full, 2, 4), (NotPlaced::Elsewhere, 1, 1)] {
        let (mut bench, fake) = bench();
        fake.inner().answer = Some(answer);
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        for flags in ["S", "A", "A"] {
            bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, flags, b""));
        }
        assert_eq!(
            fake.inner().times,
            at_once,
            "{answer:?}: as an embryonic connection, then as one that is established"
        );
        for _ in 0..2 {
            bench.advance(Duration::from_millis(25));
            for _ in 0..10 {
                bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
            }
        }
        assert_eq!(fake.inner().times, want, "{answer:?}: now and then");
    }
}

#[test]
fn what_had_to_leave_its_place_in_the_cache_has_flows_placed_anew() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let more = || {
        bench.director.catch_up(bench.now, &mut Outbox::new());
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
        fake.inner().times
    };
    assert_eq!(more(), 1);
    fake.inner().displaced = 1;
    assert_eq!((more(), more()), (2, 2), "once for each time");
    fake.inner().displaced = 3;
    assert_eq!((more(), more()), (3, 3));
    assert!(fake.inner().withdrawn.is_empty(), "others go on to pass");
}

#[test]
fn what_was_placed_before_leaves_when_it_may_not_be_placed_again() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(fake.len(), 1);
    fake.inner().answer = Some(NotPlaced::Elsewhere);
    bench.director.links_moved();
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
    assert_eq!(fake.len(), 0, "nobody else would take it out");
}

#[test]
fn neighbours_of_ways_are_looked_after() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let moved = MacAddr([2, 0, 0, 0, 9, 9]);
    bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: RS1.into(), mac: moved });
    bench.director.catch_up(bench.now, &mut Outbox::new());
    assert_eq!(fake.inner().refreshed, [Some(moved)]);
}

#[test]
fn a_removed_connection_leaves_the_cache_with_it() {
    let (bench, fake) = bench();
    let service = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.apply(Change::SetOptions(Options { expire_nodest_conn: true, ..bench.director.options() }));
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(fake.len(), 1);
    bench.apply(Change::RemoveDestination(service, "192.168.10.11:8080".parse().unwrap()));
    assert_eq!((bench.connections().len(), fake.len()), (0, 0));
}

#[test]
fn of_two_connections_with_one_reply_only_the_newer_is_in_the_cache() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let other = ServiceKey::new(Protocol::Tcp, "10.0.0.100:81".parse().unwrap());
    bench.apply(Change::AddService(ServiceSpec::new(other, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(other, to));
    let newer = key(CLIENT_AT, (VIP, 81));
    let placed = |fake: &Fake| {
        let mut keys: Vec<u16> = fake.inner().placed.keys().map(|key| key.destination.1).collect();
        keys.sort_unstable();
        keys
    };
    for (flags, service) in [("S", 80), ("A", 80)] {
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, service), flags, b""));
    }
    assert_eq!(placed(&fake), [80]);
    // The older one is out of the way even if the newer one finds no room.
    fake.inner().answer = Some(NotPlaced::Full);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, 81), "S", b""));
    assert!(placed(&fake).is_empty());
    fake.inner().answer = None;
    for (service, want) in [(80, vec![]), (81, vec![81]), (80, vec![81])] {
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, service), "A", b"x"));
        assert_eq!(placed(&fake), want, "after a packet to {service}");
    }
    let reply = fake.inner().placed[&newer].1.unwrap();
    assert_eq!(reply.act, Act::NewSource(VIP.into_addr(), 81));
}

#[test]
fn drop_entry_leaves_alone_what_passes_in_the_cache_and_takes_what_is_silent_there_too() {
    for (passes_on, want) in [(true, 1), (false, 0)] {
        let (mut bench, fake) = bench();
        bench.apply(Change::SetOptions(Options { drop_entry: 3, ..Options::default() }));
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        for (is_reply, flags) in [(true, SYN | ACK), (false, ACK)] {
            passed(&bench, &fake, is_reply, flags, Duration::from_millis(1));
        }
        // The cache's clock is coarse.
        fake.inner().seen = Some(bench.now + Duration::from_millis(21));
        for _ in 0..600 {
            bench.advance(Duration::from_secs(1));
            if passes_on {
                fake.inner().seen = Some(bench.now);
            }
        }
        assert_eq!(bench.connections().len(), want, "packets pass: {passes_on}");
        // Having said much it may rest, as if its packets had come here.
        bench.advance(Duration::from_secs(600));
        assert_eq!(bench.connections().len(), want, "packets passed: {passes_on}");
        bench.advance(Duration::from_secs(301));
        assert_eq!(bench.connections().len(), 0);
    }
}

/// The frame with the number that a cache gives to what it does not let pass for the sake of order.
fn numbered(frame: &[u8], ticket: u16) -> Vec<u8> {
    [&frame[..12], &[0x88, 0xa8], &ticket.to_be_bytes(), &frame[12..]].concat()
}

#[test]
fn what_leaves_the_director_with_a_ticket_is_told_once_it_is_sent() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let mut out = Outbox::new();
    let mut handle = |bytes: &[u8]| {
        let mut frame = Frame::from_bytes(bytes);
        let verdict = bench.director.handle(CLIENT_SIDE, &mut frame, bench.now, &mut out);
        assert_eq!(verdict, uvs_director::Verdict::Transmit(SERVER_SIDE));
        assert_eq!(frame.bytes()[12..14], [8, 0], "it leaves without");
    };
    let other = (CLIENT, 40_001);
    handle(&numbered(&tcp(other, SERVICE, "S", b""), 7));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"x"), 8));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"xx"), 9));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"xxx"), 9));
    let told = |source, ticket, frames| Passed { key: key(source, SERVICE), ticket, frames, is_whole: false };
    assert_eq!(fake.inner().through, [told(other, 7, 1)], "of another flow, for that was sent before");
    bench.director.sent(&mut out);
    bench.director.sent(&mut out);
    assert_eq!(fake.inner().through[1..], [told(CLIENT_AT, 9, 2)], "once, and the last one alone");
}

#[test]
fn a_direction_of_which_packets_may_be_here_waits() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let waits = |key| {
        let (request, reply, _) = fake.inner().placed[&key];
        (request.waits, reply.unwrap().waits)
    };
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(waits(key(CLIENT_AT, SERVICE)), (false, false), "the client waits for an answer by itself");
    bench.director.links_moved();
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
    assert_eq!(waits(key(CLIENT_AT, SERVICE)), (true, true), "both have had packets before");
    let datagrams = ServiceKey::new(Protocol::Udp, "10.0.0.100:80".parse().unwrap());
    bench.apply(Change::AddService(ServiceSpec::new(datagrams, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(datagrams, to));
    bench.pass(CLIENT_SIDE, &udp(CLIENT_AT, SERVICE, b"x"));
    let of = FlowKey { protocol: 17, ..key(CLIENT_AT, SERVICE) };
    assert_eq!(waits(of), (true, false), "the next datagrams may be here already");
}

#[test]
fn ways_are_tended_some_at_a_time_and_the_timer_goes_on_at_once() {
    let (mut bench, fake) = bench();
    fake.inner().next_hops = 150;
    bench.now = bench.now + Duration::from_secs(2);
    let mut out = Outbox::new();
    bench.director.catch_up(bench.now, &mut out);
    assert_eq!(fake.inner().slices, [0]);
    assert_eq!(bench.director.poll_at(), Some(Instant::ZERO), "there are more");
    bench.director.catch_up(bench.now, &mut out);
    bench.director.handle_timeout(bench.now, &mut out);
    bench.director.catch_up(bench.now, &mut out);
    assert_eq!(fake.inner().slices, [0, 64, 128], "and then no more for a second");
    assert_ne!(bench.director.poll_at(), Some(Instant::ZERO));
}

#[test]
fn who_is_idle_leaves_a_full_cache_for_who_is_not() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    fake.inner().room = Some(2);
    let open = |port: u16| {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "S", b""));
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "A", b""));
    };
    let has = |port: u16| fake.inner().placed.contains_key(&key((CLIENT, port), SERVICE));
    open(40_000);
    open(40_001);
    // Of those that are there a packet has just passed.
    fake.inner().seen = Some(bench.now);
    open(40_002);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b"x"));
    assert_eq!((has(40_000), has(40_001), has(40_002)), (true, true, false));
    let mut bench = bench;
    bench.advance(Duration::from_secs(2));
    let more = |payload| bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", payload));
    // The first makes room, the second takes it.
    more(b"xx");
    assert_eq!(fake.len(), 1);
    more(b"xxx");
    assert_eq!((has(40_002), fake.len()), (true, 2));
}

#[test]
fn who_leaves_the_cache_has_the_time_that_its_last_packet_there_gave_it() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    fake.inner().room = Some(1);
    let open = |bench: &Bench, port: u16| {
        for flags in ["S", "A"] {
            bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, flags, b""));
        }
    };
    open(&bench, 40_000);
    bench.advance(Duration::from_secs(100));
    fake.inner().seen = Some(bench.now);
    bench.advance(Duration::from_secs(2));
    open(&bench, 40_001);
    assert_eq!(fake.len(), 0, "the other one has made room");
    let left = bench.connections().iter().find(|it| it.client.port() == 40_000).unwrap().expires_in;
    assert!(left > Duration::from_secs(890), "{left:?} of 900 s, 2 s after its last packet");
}

#[test]
fn a_connection_whose_first_packet_waited_for_a_neighbour_is_placed_with_it() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.99:8080"]);
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!((sent.len(), fake.len()), (1, 0), "a question goes out");
    let rip = std::net::Ipv4Addr::new(192, 168, 10, 99);
    let answer = arp(2, (RS1_MAC, rip), (R0_MAC, std::net::Ipv4Addr::new(192, 168, 10, 1)), R0_MAC);
    let (_, sent) = bench.send(SERVER_SIDE, &answer);
    assert_eq!(sent.len(), 1, "the SYN leaves");
    let (request, reply, _) = fake.inner().placed[&key(CLIENT_AT, SERVICE)];
    assert_eq!((request.waits, reply.unwrap().waits), (false, false));
}

#[test]
fn what_waited_while_later_packets_passed_is_not_sent_on() {
    let (request, answer) = (tcp(CLIENT_AT, SERVICE, "S", b""), tcp((RS1, 8080), CLIENT_AT, "FA", b""));
    let [passed, shut, both] = [(true, false), (false, true), (true, true)]
        .map(|(has_passed, is_shut)| Progress { has_passed, is_shut, ticket: 9 });
    // What came with a ticket came after the connection was placed, and has shut the direction, or was of one before.
    for (port, late, ticket, progress, sent, waits) in [
        (CLIENT_SIDE, &request, None, Progress::default(), true, true),
        (CLIENT_SIDE, &request, None, passed, false, false),
        (CLIENT_SIDE, &request, None, both, false, false),
        (CLIENT_SIDE, &request, Some(7), both, true, false),
        (CLIENT_SIDE, &request, Some(7), shut, true, false),
        (CLIENT_SIDE, &request, Some(7), passed, false, false),
        (CLIENT_SIDE, &request, Some(10), both, false, false),
        (SERVER_SIDE, &answer, None, Progress::default(), true, true),
        (SERVER_SIDE, &answer, None, passed, false, false),
        (SERVER_SIDE, &answer, Some(7), passed, false, false),
        (SERVER_SIDE, &answer, Some(7), both, true, false),
    ] {
        let (bench, fake) = bench();
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        fake.inner().progress = progress;
        let late = ticket.map_or(late.clone(), |ticket| numbered(late, ticket));
        if sent {
            bench.pass(port, &late);
        } else {
            bench.refused(port, &late, DropReason::Overtaken);
        }
        let placed = fake.inner().placed.get(&key(CLIENT_AT, SERVICE)).copied();
        assert_eq!(placed.map(|(request, ..)| request.waits), Some(waits), "{ticket:?} {progress:?}");
    }
}

/// An ICMP error from the way to a real server about the tunnel packet in `frame`.
fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let (router, own) =
        (std::net::Ipv4Addr::new(192, 168, 10, 254), std::net::Ipv4Addr::new(192, 168, 10, 1));
    let mut buffer = vec![0; 600];
    let len = uvs_wire::icmp::emit_error_v4(&mut buffer, router, own, 3, 4, mtu, 1, &frame[14..]);
    [&R0_MAC[..], &RS1_MAC, &[8, 0], &buffer[..len]].concat()
}

#[test]
fn only_flows_whose_path_gets_narrower_are_withdrawn() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Tunnel(Tunnel::Ipip), &["192.168.10.11:80", "192.168.10.12:80"]);
    let (_, sent) = bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let mut forged = too_big(&sent, 1300);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    fake.inner().withdrawn.clear();
    for (error, want) in [
        (forged, 0),
        (too_big(&sent, 1500), 0),
        (too_big(&sent, 1400), 1),
        (too_big(&sent, 1400), 1),
        (too_big(&sent, 1450), 1),
        (too_big(&sent, 1300), 2),
    ] {
        bench.send(SERVER_SIDE, &error);
        let withdrawn = fake.inner().withdrawn.clone();
        assert_eq!(withdrawn.len(), want, "{withdrawn:?}");
        assert!(withdrawn.iter().all(Option::is_some), "those of one destination alone: {withdrawn:?}");
    }
}

#[test]
fn a_full_cache_is_asked_again_when_room_was_made_and_by_those_it_still_takes() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let open = |port: u16| bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "S", b""));
    open(40_000);
    fake.inner().answer = Some(NotPlaced::Full);
    // Nobody is idle.
    fake.inner().seen = Some(bench.now);
    open(40_001);
    open(40_002);
    assert_eq!(fake.inner().times, 2, "one was placed, one refused, one not tried");
    // What is established has more room than what is not.
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_001), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 3);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 3, "now that is full, too");
    fake.inner().answer = None;
    // A connection that is over makes room for the next one between the same ends.
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    passed(&bench, &fake, false, RST, Duration::from_millis(1));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "S", b""), 1));
    assert_eq!(fake.inner().times, 4);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 5);
}

#[test]
fn a_connection_of_a_service_named_by_a_mark_is_adopted() {
    let (bench, _) = bench();
    let marked = ServiceKey::Mark { mark: 7, family: Family::V4 };
    bench.apply(Change::AddService(ServiceSpec::new(marked, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Direct);
    bench.apply(Change::AddDestination(marked, to));
    let rule = |mark, ports| MarkRule {
        // Where packets come in, a flow does not say.
        port: Some(CLIENT_SIDE),
        protocol: Some(Protocol::Tcp),
        destination_ports: Some(ports),
        ..MarkRule::new(mark)
    };
    bench.apply(Change::SetMarks(vec![rule(9, (80, 80)), rule(7, (80, 90)), rule(8, (0, 65_535))]));
    let orphan = |port| Orphan {
        request: key(CLIENT_AT, (VIP, port)),
        destination: (RS1.into_addr(), port),
        method: Method::Direct,
        idle: Duration::from_secs(1),
        is_established: true,
        finished: [false; 2],
        is_reset: false,
    };
    assert!(!bench.director.adopt(&orphan(91), bench.now), "nothing gives it the mark");
    assert!(!bench.director.adopt(&Orphan { method: Method::Nat, ..orphan(80) }, bench.now));
    assert!(bench.director.adopt(&Orphan { destination: (RS1.into_addr(), 80), ..orphan(80) }, bench.now));
    assert_eq!((bench.connections().len(), state(&bench)), (1, "ESTABLISHED"));
}

/// Segments of a destination that is to be rid of its connections come to the director, and what passed in the cache
/// before does not make them late.
#[test]
fn connections_that_are_ended_leave_the_cache() {
    let (bench, fake) = bench();
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, true, SYN | ACK, Duration::from_millis(1));
    passed(&bench, &fake, false, ACK, Duration::from_millis(2));
    assert_eq!((state(&bench), fake.len()), ("ESTABLISHED", 1));
    fake.inner().progress = Progress { has_passed: true, ..Progress::default() };
    let withdrawn = fake.inner().withdrawn.len();
    assert!(bench.director.end_connections(&key, "192.168.10.11:8080".parse().unwrap(), true));
    assert_eq!(fake.inner().withdrawn.len(), withdrawn + 1);
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "PA", b"more"));
    assert_eq!(sent.len(), 2, "a reset for each end");
    assert_eq!((state(&bench), fake.len()), ("CLOSE", 0));
}
