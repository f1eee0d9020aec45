//! Expiry of 1M connections on one thread while another handles packets of connections that stay: how long it takes,
//! and how long the slowest calls of `handle` took meanwhile, beside those with nothing to expire.

#![allow(clippy::cast_possible_truncation, reason = "counts and times of a bench are far from their bounds")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant as Clock};

use uvs_bench::{CLIENT_SIDE, METHODS, SERVER_SIDE, director, request};
use uvs_director::{Director, Frame, Instant, Outbox, Verdict};
use uvs_wire::tcp::{ACK, SYN};

/// Connections that stay.
const STAYING: usize = 1000;

/// Handles packets of staying connections until told to stop; nanoseconds of each, sorted.
fn serve(director: &Director, now: Instant, until: impl Fn() -> bool) -> Vec<u64> {
    let frames: Vec<Vec<u8>> = (0..STAYING).map(|n| request(n, ACK, 64)).collect();
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    let mut nanos = Vec::with_capacity(1 << 22);
    while !until() && nanos.len() < nanos.capacity() {
        frame.fill(&frames[nanos.len() % STAYING]);
        let start = Clock::now();
        let verdict = director.handle(CLIENT_SIDE, &mut frame, now, &mut out);
        nanos.push(start.elapsed().as_nanos() as u64);
        assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE));
    }
    nanos.sort_unstable();
    nanos
}

fn tell(what: &str, nanos: &[u64]) {
    let at = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize] as f64 / 1000.0;
    println!(
        "{what}: {} packets, median {:.2} us, p99 {:.2} us, p99.9 {:.2} us, longest {:.0} us",
        nanos.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn main() {
    let expiring = if std::env::args().any(|arg| arg == "--bench") { 1_000_000 } else { 10_000 };
    for (name, forwarding) in METHODS {
        let director = director(forwarding, STAYING + expiring);
        let (mut frame, mut out) = (Frame::new(), Outbox::new());
        for client in 0..STAYING + expiring {
            let flags: &[u8] = if client < STAYING { &[SYN, ACK] } else { &[SYN] };
            for &flags in flags {
                frame.fill(&request(client, flags, 0));
                director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
            }
        }
        let quiet = Clock::now();
        let before = serve(&director, Instant::ZERO, || quiet.elapsed() > Duration::from_millis(500));
        tell(&format!("expiry/{name}/nothing"), &before);
        // SYN_RECV ends after 60 s.
        let now = Instant::from_secs(100);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&director, now, || done.load(Relaxed)));
            let start = Clock::now();
            let mut out = Outbox::new();
            director.handle_timeout(now, &mut out);
            let took = start.elapsed();
            done.store(true, Relaxed);
            let during = serving.join().expect("it serves");
            tell(&format!("expiry/{name}/{expiring}"), &during);
            println!(
                "expiry/{name}/{expiring}: {:.0} ns for each that expired",
                took.as_nanos() as f64 / expiring as f64
            );
        });
        assert_eq!(director.status().connections, STAYING, "all others are gone");
    }
}
