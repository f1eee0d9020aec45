//! The director as a host at work: connections of its own a second, through the engine and back, and what they cost
//! without devices.
//!
//! `cargo run --release -p uvs-bench --example host [CONNECTIONS]`. Each is what a check of TCP is: connect by way of a
//! service's destination (NAT, DR, TUN), then let go, which resets. The real server is in this process and answers each
//! SYN.
//!
//! With `--tail` in place of a number: how long `Director::handle` takes for a packet of a client, at its slowest too,
//! while another thread makes 5000 such connections a second and while it makes none. What a packet waits for a core is
//! not in it, unless that is one in a thousand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use uvs_bench::{CLIENT_SIDE, METHODS, SERVER_SIDE, director, establish, request};
use uvs_director::local::{Binding, LocalLimits, OpenError, Received, SocketSpec, Transport, Way};
use uvs_director::spec::{Forwarding, ServiceKey};
use uvs_director::{Director, DropReason, Frame, Outbox, Verdict};
use uvs_host::{Buffers, Host, Link, Peer};
use uvs_wire::{Packet, ethernet, ipv4, tcp};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const RIP: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 11);
/// As many checks are under way at a time.
const AT_ONCE: usize = 64;

/// A director whose frames reach a real server at once.
struct Wire {
    director: Director,
    started: Instant,
    out: Mutex<Outbox>,
}

impl Wire {
    /// What the real server does with a frame: answers a SYN.
    fn serve(&self, frame: &[u8], now: uvs_director::Instant) {
        let Ok(outer) = Packet::parse(&frame[ethernet::HEADER_LEN..]) else { return };
        let is_tunnel = outer.protocol == ipv4::PROTOCOL_IPIP;
        let at = ethernet::HEADER_LEN + if is_tunnel { usize::from(outer.header_len) } else { 0 };
        let Ok(packet) = Packet::parse(&frame[at..]) else { return };
        if packet.tcp_flags & (tcp::SYN | tcp::RST) != tcp::SYN {
            return;
        }
        let mut answer = [&frame[6..12], &frame[..6], &frame[12..14], &frame[at..]].concat();
        let (head, ip) = answer.split_at_mut(ethernet::HEADER_LEN);
        debug_assert_eq!(head.len(), ethernet::HEADER_LEN);
        let (addresses, start) = (ip[12..20].to_vec(), usize::from(packet.header_len));
        ip[12..16].copy_from_slice(&addresses[4..]);
        ip[16..20].copy_from_slice(&addresses[..4]);
        let segment = &mut ip[start..];
        let (ports, sequence) = (segment[..4].to_vec(), segment[4..8].to_vec());
        segment[..2].copy_from_slice(&ports[2..]);
        segment[2..4].copy_from_slice(&ports[..2]);
        let next = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]).wrapping_add(1);
        segment[8..12].copy_from_slice(&next.to_be_bytes());
        segment[13] |= tcp::ACK;
        segment[16..18].fill(0);
        if let Ok(answered) = Packet::parse(ip) {
            let sum = answered.transport_sum(ip).finish();
            ip[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        }
        let mut out = Outbox::new();
        self.director.handle(SERVER_SIDE, &mut Frame::from_bytes(&answer), now, &mut out);
    }
}

impl Link for Wire {
    fn now(&self) -> uvs_director::Instant {
        uvs_director::Instant::from_secs(1) + self.started.elapsed()
    }

    fn open(&self, spec: &SocketSpec) -> Result<Binding, OpenError> {
        self.director.open_local(spec, self.now())
    }

    fn close(&self, transport: Transport, port: u16) {
        self.director.close_local(transport, port);
    }

    fn mtu(&self, transport: Transport, port: u16, now: uvs_director::Instant) -> Option<u32> {
        self.director.local_mtu(transport, port, now)
    }

    fn way_to(&self, service: ServiceKey, destination: SocketAddr) -> Option<Way> {
        self.director.way_to(service, destination)
    }

    fn send(&self, packet: &mut Frame, now: uvs_director::Instant) -> Result<(), DropReason> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match self.director.send_local(packet, now, &mut out) {
            Verdict::Drop(reason) => return Err(reason),
            Verdict::Transmit(_) => self.serve(packet.bytes(), now),
            Verdict::Consume => {}
        }
        Ok(())
    }

    fn receive(&self) -> Option<Received> {
        self.director.receive_local()
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel knows it");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).expect("it is not negative"))
}

/// p50, p99, p99.9 and p99.99.
const PARTS: [(&str, usize); 4] = [("p50", 5000), ("p99", 9900), ("p99.9", 9990), ("p99.99", 9999)];
/// How long packets are handled in each of [`ROUNDS`], with and without connections in turn.
const WINDOW: Duration = Duration::from_secs(2);
const ROUNDS: usize = 4;
const CONNECTIONS: usize = 1000;

/// Makes 5000 connections a second until it is told to stop; how many it made.
fn connect(wire: Arc<Wire>, work: Arc<Notify>, peer: Peer, stop: &AtomicBool) -> usize {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (host, driver) = Host::new(wire, 64 << 20, work);
        let driver = tokio::spawn(driver.run());
        let (mut tasks, began) = (JoinSet::new(), Instant::now());
        let (mut begun, mut made) = (0, 0);
        while !stop.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while begun < began.elapsed().as_micros() / 200 {
                let host = host.clone();
                tasks.spawn(async move { host.connect(peer, Buffers::default()).await.map(drop) });
                begun += 1;
            }
            while let Some(done) = tasks.try_join_next() {
                done.expect("none of them panics").expect("the real server answers");
                made += 1;
            }
        }
        driver.abort();
        made
    })
}

/// How long packets that hit take, in order.
fn hits(wire: &Wire) -> Vec<u32> {
    let frames: Vec<Vec<u8>> = (0..CONNECTIONS).map(|n| request(n, tcp::ACK, 64)).collect();
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    let (began, mut times) = (Instant::now(), Vec::with_capacity(1 << 24));
    while began.elapsed() < WINDOW {
        let now = wire.now();
        for bytes in &frames {
            frame.fill(bytes);
            let begun = Instant::now();
            let verdict = wire.director.handle(CLIENT_SIDE, &mut frame, now, &mut out);
            times.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
            assert!(matches!(verdict, Verdict::Transmit(_)), "a client's packet is sent on: {verdict:?}");
        }
    }
    times.sort_unstable();
    times
}

/// What other connections a second do to the packets of clients.
fn tail(forwarding: Forwarding) -> [[u32; PARTS.len()]; 2] {
    let work = Arc::new(Notify::new());
    let woken = Arc::clone(&work);
    let director =
        director(forwarding, CONNECTIONS).with_local(LocalLimits::default(), move || woken.notify_one());
    let wire = Arc::new(Wire { director, started: Instant::now(), out: Mutex::default() });
    establish(&wire.director, CONNECTIONS);
    let way = Way::Destination { addr: RIP.into(), port: 80, forwarding };
    let peer = Peer { addr: SocketAddr::from((VIP, 80)), way, source: None };
    let mut found = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            let is_beside = round % 2 == 1;
            let (to, told) = (Arc::clone(&wire), Arc::clone(&work));
            let made = is_beside.then(|| scope.spawn(|| connect(to, told, peer, &stop)));
            let times = hits(&wire);
            stop.store(true, Relaxed);
            if let Some(made) = made {
                let made = made.join().expect("it does not panic");
                assert!(made > 0, "connections were made");
            }
            times
        });
        found[round % 2].extend(times);
    }
    found.map(|mut times| {
        times.sort_unstable();
        PARTS.map(|(_, part)| times[(times.len() - 1) * part / 10_000])
    })
}

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "--tail") {
        for (method, forwarding) in METHODS {
            let [without, with] = tail(forwarding);
            for ((part, _), (without, with)) in PARTS.iter().zip(without.iter().zip(with)) {
                println!("{method:4} {part:6} {without:>6} ns alone, {with:>6} beside 5000 connections/s");
            }
        }
        return;
    }
    let count =
        std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number of connections"));
    for (method, forwarding) in METHODS {
        let (elapsed, used) = run(forwarding, count);
        let each = used / u32::try_from(count).expect("fewer than 4 billion");
        println!(
            "{method:4} {:>8.0} connections/s, {:>5.1} us of CPU each: 5000/s take {:.1} % of a core",
            count as f64 / elapsed.as_secs_f64(),
            each.as_nanos() as f64 / 1000.0,
            each.as_secs_f64() * 5000.0 * 100.0
        );
    }
}

/// Makes so many connections, each let go of once it stands; how long that took, and the processor's time.
fn run(forwarding: Forwarding, count: usize) -> (Duration, Duration) {
    let work = Arc::new(Notify::new());
    let woken = Arc::clone(&work);
    let director = director(forwarding, 1000).with_local(LocalLimits::default(), move || woken.notify_one());
    let wire = Wire { director, started: Instant::now(), out: Mutex::default() };
    let way = Way::Destination { addr: RIP.into(), port: 80, forwarding };
    let peer = Peer { addr: SocketAddr::from((VIP, 80)), way, source: None };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (began, before) = (Instant::now(), cpu());
    runtime.block_on(async {
        let (host, driver) = Host::new(Arc::new(wire), 64 << 20, work);
        let driver = tokio::spawn(driver.run());
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let host = host.clone();
            tasks.spawn(async move {
                for _ in 0..count / AT_ONCE {
                    host.connect(peer, Buffers::default()).await.expect("the real server answers");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("none of them fails");
        }
        assert_eq!(host.usage().sockets, 0, "all of them are let go of");
        driver.abort();
    });
    (began.elapsed(), cpu() - before)
}
