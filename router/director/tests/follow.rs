//! A director that is told of another's connections, snapshot first and then what changes, has the same ones and goes
//! on with them.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use proptest::prelude::*;
use uvs_director::record::Record;
use uvs_director::spec::*;
use uvs_director::trace::Filter;
use uvs_director::{Duration, Followed, Follower, Outbox, Refusal, Taken, Taker};

/// Changes that wait for a follower who is not to miss any.
const MANY: usize = 1 << 20;

/// One director that is told of another's connections.
struct Pair {
    told: Bench,
    teller: Bench,
    follower: Option<Follower>,
    taker: Taker,
    limit: usize,
    /// How often all was told anew.
    lost: usize,
}

impl Pair {
    /// `configure` is done to both.
    fn new(limit: usize, configure: impl Fn(&Bench)) -> Self {
        let (told, teller) = (Bench::new(), Bench::new());
        configure(&told);
        configure(&teller);
        Self { told, teller, follower: None, taker: Taker::new(), limit, lost: 0 }
    }

    fn apply(&self, change: &Change) {
        for bench in [&self.told, &self.teller] {
            // What is refused here is refused there.
            let _ = bench.director.apply(change.clone(), bench.now);
        }
    }

    /// Time passes, and timers run once, as late as that.
    fn advance(&mut self, by: Duration) {
        for bench in [&mut self.teller, &mut self.told] {
            bench.now = bench.now + by;
            bench.director.handle_timeout(bench.now, &mut Outbox::new());
        }
    }

    fn take(taker: &mut Taker, told: &Bench, record: &Record) {
        let taken = told.director.take(taker, record, told.now);
        assert!(taken.is_ok(), "{taken:?}: {record:?}");
    }

    /// Some more is told.
    fn follow_some(&mut self) -> Followed {
        let (teller, now) = (&self.teller.director, self.teller.now);
        let follower = self.follower.get_or_insert_with(|| teller.follow(self.limit, now));
        let followed =
            teller.follow_some(follower, now, |record| Self::take(&mut self.taker, &self.told, &record));
        if followed == Followed::Lost {
            teller.unfollow(self.follower.take().unwrap());
            self.told.director.forget_connections();
            self.taker = Taker::new();
            self.lost += 1;
        }
        followed
    }

    /// All is told, deadlines included.
    fn settle(&mut self) {
        while self.follow_some() != Followed::Quiet {}
        let (teller, now) = (&self.teller.director, self.teller.now);
        let follower = self.follower.as_mut().unwrap();
        teller.begin_refresh(follower, now);
        while teller.refresh_some(follower, now, |record| Self::take(&mut self.taker, &self.told, &record)) {}
    }

    /// What the follower's director has is what the other one has.
    fn compare(&self) {
        let (want, got) = (facts(&self.teller), facts(&self.told));
        for (key, facts) in &want {
            assert_eq!(got.get(key), Some(facts), "{key:?}");
        }
        assert_eq!(want.len(), got.len(), "{got:#?}");
        assert_eq!(loads(&self.teller), loads(&self.told));
        let states = |bench: &Bench| bench.director.status().connections_by_state;
        assert_eq!(states(&self.teller), states(&self.told));
    }
}

type Key = (String, SocketAddr, SocketAddr, bool);

/// All that is known of each entry, but for templates that are invalid.
fn facts(bench: &Bench) -> BTreeMap<Key, String> {
    let (facts, total) = bench.director.explain(&Filter::default(), None, usize::MAX, bench.now);
    assert_eq!(facts.len(), total);
    let valid = facts.into_iter().filter(|it| !it.is_invalid);
    valid
        .map(|it| {
            let view = &it.view;
            let key = (format!("{:?}", view.protocol), view.client, view.virtual_addr, view.template);
            let text = format!(
                "{:?} {} {:?} in {:?} of {:?}; {:?}, {} packets, answered {}, {}, ftp {}, controls {:?}, {}",
                view.destination,
                view.state,
                it.forwarding,
                view.expires_in,
                it.timeout,
                it.origin,
                it.packets_in,
                it.answered,
                it.class,
                it.is_ftp,
                it.controlled,
                it.standing,
            );
            (key, text)
        })
        .collect()
}

/// Active and inactive connections of each destination. (Of templates those that are invalid are not told.)
fn loads(bench: &Bench) -> Vec<(ServiceKey, SocketAddr, [u32; 2])> {
    let services = bench.director.services();
    let of = |service: &uvs_director::view::ServiceView| {
        let key = service.spec.key;
        service
            .destinations
            .iter()
            .map(move |it| (key, it.spec.addr, [it.active, it.inactive]))
            .collect::<Vec<_>>()
    };
    services.iter().flat_map(of).collect()
}

const FTP: u16 = 21;
const STICKY: u16 = 443;
const DIRECT: u16 = 8080;
const ALONE: u16 = 5353;
const REALS: [Ipv4Addr; 2] = [RS1, RS2];

fn key(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey::new(protocol, SocketAddr::new(VIP.into(), port))
}

/// NAT over TCP and UDP, persistence, one-packet scheduling under templates, direct routing, FTP.
fn configure(bench: &Bench) {
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80", "192.168.10.12:80"]);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53", "192.168.10.12:53"]);
    bench.apply(Change::SetOptions(Options { ftp: true, ..Options::default() }));
    let persistence = Persistence { timeout: Duration::from_secs(30), prefix_len: 24, engine: None };
    for (protocol, port, forwarding, sticks, one_packet) in [
        (Protocol::Tcp, STICKY, Forwarding::Nat, true, false),
        (Protocol::Tcp, FTP, Forwarding::Nat, true, false),
        (Protocol::Tcp, DIRECT, Forwarding::Direct, false, false),
        (Protocol::Udp, ALONE, Forwarding::Nat, true, true),
    ] {
        let spec = ServiceSpec::new(key(protocol, port), SchedulerSpec::named("wlc"));
        let persistence = sticks.then_some(persistence);
        bench.apply(Change::AddService(ServiceSpec { persistence, one_packet, ..spec }));
        for real in REALS {
            let spec = DestinationSpec::new(SocketAddr::new(real.into(), port), forwarding);
            bench.apply(Change::AddDestination(key(protocol, port), spec));
        }
    }
}

/// What happens, one thing after the other.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends: its port, the service, flags.
    Request(u16, u16, &'static str),
    Reply(u16, u16, &'static str, usize),
    Datagram(u16, u16),
    Answer(u16, usize),
    /// A client says what it wants of FTP, or a server offers it.
    Passive(u16),
    Offer(u16, usize),
    Data(u16),
    /// So many eighths of a second pass.
    Wait(u64),
    Weight(usize, u32),
    Remove(usize),
    Add(usize),
    Follow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let port = 4000u16..4006;
    let tcp_port = prop::sample::select(vec![80, STICKY, DIRECT, FTP]);
    let flags = prop::sample::select(vec!["S", "A", "A", "FA", "R", "PA"]);
    let replies = prop::sample::select(vec!["SA", "SA", "A", "FA", "R"]);
    let real = 0usize..REALS.len();
    let step = prop_oneof![
        6 => (port.clone(), tcp_port.clone(), flags).prop_map(|(port, to, flags)| Step::Request(port, to, flags)),
        4 => (port.clone(), tcp_port, replies, real.clone()).prop_map(|(port, of, flags, real)| Step::Reply(port, of, flags, real)),
        3 => (port.clone(), prop::sample::select(vec![53, ALONE])).prop_map(|(port, to)| Step::Datagram(port, to)),
        2 => (port.clone(), real.clone()).prop_map(|(port, real)| Step::Answer(port, real)),
        2 => port.clone().prop_map(Step::Passive),
        2 => (port.clone(), real.clone()).prop_map(|(port, real)| Step::Offer(port, real)),
        2 => port.prop_map(Step::Data),
        3 => prop_oneof![3 => 0u64..20, 1 => 0u64..3000].prop_map(Step::Wait),
        1 => (real.clone(), 0u32..2).prop_map(|(real, weight)| Step::Weight(real, weight)),
        1 => real.clone().prop_map(Step::Remove),
        1 => real.prop_map(Step::Add),
        8 => Just(Step::Follow),
    ];
    prop::collection::vec(step, 1..120)
}

const SERVICES: [(Protocol, u16); 4] =
    [(Protocol::Tcp, 80), (Protocol::Tcp, STICKY), (Protocol::Udp, 53), (Protocol::Tcp, FTP)];

fn take_step(pair: &mut Pair, step: &Step) {
    let teller = &pair.teller;
    match *step {
        Step::Request(from, to, flags) => {
            teller.send(CLIENT_SIDE, &tcp((CLIENT, from), (VIP, to), flags, b""));
        }
        Step::Reply(to, of, flags, real) => {
            teller.send(SERVER_SIDE, &tcp((REALS[real], of), (CLIENT, to), flags, b""));
        }
        Step::Datagram(from, to) => {
            teller.send(CLIENT_SIDE, &udp((CLIENT, from), (VIP, to), b"?"));
        }
        Step::Answer(to, real) => {
            teller.send(SERVER_SIDE, &udp((REALS[real], 53), (CLIENT, to), b"!"));
        }
        Step::Passive(from) => {
            teller.send(CLIENT_SIDE, &tcp((CLIENT, from), (VIP, FTP), "PA", b"PASV\r\n"));
        }
        Step::Offer(to, real) => {
            let offer = format!("227 Entering Passive Mode (192,168,10,{},195,80).\r\n", 11 + real);
            teller.send(SERVER_SIDE, &tcp((REALS[real], FTP), (CLIENT, to), "PA", offer.as_bytes()));
        }
        Step::Data(from) => {
            teller.send(CLIENT_SIDE, &tcp((CLIENT, from), (VIP, 195 * 256 + 80), "S", b""));
        }
        Step::Wait(eighths) => pair.advance(Duration::from_millis(125 * eighths)),
        Step::Weight(real, weight) => {
            for (protocol, port) in SERVICES {
                let addr = SocketAddr::new(REALS[real].into(), port);
                pair.apply(&Change::SetWeight(key(protocol, port), addr, weight));
            }
        }
        Step::Remove(real) => {
            for (protocol, port) in SERVICES {
                let addr = SocketAddr::new(REALS[real].into(), port);
                pair.apply(&Change::RemoveDestination(key(protocol, port), addr));
            }
        }
        Step::Add(real) => {
            for (protocol, port) in SERVICES {
                let addr = SocketAddr::new(REALS[real].into(), port);
                pair.apply(&Change::AddDestination(
                    key(protocol, port),
                    DestinationSpec::new(addr, Forwarding::Nat),
                ));
            }
        }
        Step::Follow => {
            pair.follow_some();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever passes meanwhile, snapshot and log give the table; and so does beginning anew where the log was too
    /// short.
    #[test]
    fn snapshot_and_log_give_the_table(steps in steps(), limit in prop_oneof![Just(MANY), Just(64)]) {
        let mut pair = Pair::new(limit, configure);
        for step in &steps {
            take_step(&mut pair, step);
        }
        // What expires does so within a sixteenth of a second: no deadline lies in the one before the comparison.
        pair.advance(Duration::from_millis(63));
        pair.settle();
        pair.compare();
        prop_assert!(limit < MANY || pair.lost == 0);
        (0..80).for_each(|_| pair.advance(Duration::from_secs(60)));
        prop_assert_eq!(pair.told.director.connection_count(), 0, "what was taken over ends as everything does");
    }
}

#[test]
fn an_established_connection_goes_on_at_the_same_destination() {
    let mut pair = Pair::new(MANY, configure);
    let mut went = Vec::new();
    for port in 4000..4100 {
        let (_, syn) = pair.teller.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
        went.push((port, read(&syn).to));
    }
    pair.settle();
    pair.compare();
    for (port, to) in went {
        let (side, sent) = pair.told.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "A", b"more"));
        assert_eq!((side, read(&sent).to), (SERVER_SIDE, to));
        let std::net::IpAddr::V4(real) = to.0 else { panic!("IPv4") };
        let (side, sent) = pair.told.pass(SERVER_SIDE, &tcp((real, to.1), (CLIENT, port), "A", b"back"));
        assert_eq!((side, read(&sent).from), (CLIENT_SIDE, (VIP.into(), 80)));
    }
}

#[test]
fn a_log_that_was_too_short_says_so_and_holds_nothing_more() {
    let mut pair = Pair::new(64, configure);
    pair.settle();
    for port in 1000..3000 {
        pair.teller.send(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?"));
    }
    assert_eq!(pair.follow_some(), Followed::Lost);
    assert_eq!(pair.told.director.connection_count(), 0);
    pair.settle();
    pair.compare();
    assert_eq!(pair.told.director.connection_count(), 2000);
}

#[test]
fn two_followers_do_not_mind_each_other() {
    let (mut first, mut second) = (Pair::new(MANY, configure), Pair::new(MANY, configure));
    std::mem::swap(&mut first.told, &mut second.told);
    for port in 4000..4010 {
        first.teller.send(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, STICKY), "S", b""));
    }
    first.follow_some();
    let director = &first.teller.director;
    let mut other = director.follow(MANY, first.teller.now);
    let mut taker = Taker::new();
    loop {
        let told = &second.told;
        let followed = director.follow_some(&mut other, first.teller.now, |record| {
            assert_eq!(told.director.take(&mut taker, &record, told.now), Ok(Taken::Entered), "{record:?}");
        });
        if followed == Followed::Quiet {
            break;
        }
    }
    director.unfollow(other);
    first.settle();
    first.compare();
    assert_eq!(facts(&second.told), facts(&first.teller));
}

#[test]
fn a_connection_of_a_destination_that_is_unknown_here_is_refused() {
    let mut pair = Pair::new(MANY, configure);
    pair.teller.send(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "S", b""));
    pair.told.apply(Change::RemoveService(key(Protocol::Tcp, 80)));
    let mut follower = pair.teller.director.follow(MANY, pair.teller.now);
    let mut refused = Vec::new();
    while pair.teller.director.follow_some(&mut follower, pair.teller.now, |record| {
        refused.extend(pair.told.director.take(&mut pair.taker, &record, pair.told.now).err());
    }) != Followed::Quiet
    {}
    pair.teller.director.unfollow(follower);
    assert!(matches!(refused[..], [Refusal::NoDestination(..)]), "{refused:?}");
    assert_eq!(pair.told.director.connection_count(), 0);
}

#[test]
fn counts_go_on_and_are_in_no_rate() {
    let mut pair = Pair::new(MANY, configure);
    let (gone, stays) = ("192.168.10.11:53".parse().unwrap(), key(Protocol::Udp, 53));
    for port in 4000..4010 {
        pair.teller.send(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
        pair.teller.send(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?"));
        pair.teller.send(CLIENT_SIDE, &udp((CLIENT, port), (VIP, ALONE), b"?"));
    }
    // What these have counted is left to their service, and to the sum of all.
    pair.apply(&Change::RemoveDestination(stays, gone));
    pair.apply(&Change::RemoveService(key(Protocol::Udp, ALONE)));
    pair.apply(&Change::ZeroCounters(Some(key(Protocol::Tcp, 80))));
    pair.teller.send(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "S", b""));
    for record in pair.teller.director.counts() {
        assert!(pair.told.director.add_counts(&record), "{record:?}");
    }
    let counted = |bench: &Bench| {
        let services = bench.director.services();
        let of = services.iter().map(|it| {
            (it.spec.key, it.counters, it.destinations.iter().map(|it| it.counters).collect::<Vec<_>>())
        });
        (of.collect::<Vec<_>>(), bench.director.status().total)
    };
    assert_eq!(counted(&pair.told), counted(&pair.teller));
    assert!(counted(&pair.told).1.packets_in > 20);
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.told.director.status().rates.packets_in, 0);
    let unknown = uvs_director::record::CountsRecord {
        of: uvs_director::record::Counted::Destination(stays, gone),
        counters: counted(&pair.told).1,
    };
    assert!(!pair.told.director.add_counts(&unknown));
}
