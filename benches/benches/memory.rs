//! The table at 1M and 10M connections: bytes of heap for each (entry, both indexes, timers, as the allocator counts
//! them), how much of it is left once all have expired, how long the slowest calls of `handle` took while it grew, and
//! what a hit costs then (processor time, with the reading of it; of new connections the least of three rounds).
//!
//! `cargo bench -p uvs-bench --bench memory [-- METHOD]`

#![allow(clippy::cast_possible_truncation, reason = "counts and times of a bench are far from their bounds")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::time::{ClockId, clock_gettime};
use uvs_bench::{CLIENT_SIDE, METHODS, SERVER_SIDE, director, request, shuffled};
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_wire::tcp::{ACK, SYN};

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[allow(unsafe_code, reason = "an allocator that counts can be written in no other way")]
// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many of the connections are served again at the end, at random.
const SAMPLE: usize = 1_000_000;
/// How often a table is filled.
const ROUNDS: u32 = 3;

/// Nanoseconds, in steps of an eighth of a power of two.
struct Histogram([u64; 512]);

impl Histogram {
    fn add(&mut self, nanos: u64) {
        let nanos = nanos.max(8);
        let log = nanos.ilog2();
        let step = (nanos >> (log - 3)) & 7;
        self.0[(log as u64 * 8 + step) as usize] += 1;
    }

    /// The lower bound of the step that holds this part of all.
    fn at(&self, part: f64) -> u64 {
        let all: u64 = self.0.iter().sum();
        let mut left = (all as f64 * (1.0 - part)) as u64;
        for (index, count) in self.0.iter().enumerate().rev() {
            if *count > left {
                return (8 + index as u64 % 8) << (index / 8 - 3);
            }
            left -= count;
        }
        0
    }
}

/// What this thread has used of a processor, in nanoseconds: what others on the machine take is not in it.
fn used() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    std::time::Duration::from(time).as_nanos() as u64
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs this too; a smaller table will do there.
    let sizes: &[usize] =
        if args.iter().any(|arg| arg == "--bench") { &[1_000_000, 10_000_000] } else { &[10_000] };
    let wanted = args.iter().skip(1).find(|arg| !arg.starts_with('-'));
    for &connections in sizes {
        for (name, forwarding) in METHODS {
            if wanted.is_some_and(|wanted| wanted != name) {
                continue;
            }
            // What the table does comes at the same connection in each round; what others on the machine do, does not.
            let mut nanos = vec![u32::MAX; connections];
            let (mut bytes, mut left, mut serving) = (0, 0, Histogram([0; 512]));
            for round in 1..=ROUNDS {
                let before = LIVE.load(Relaxed);
                let director = director(forwarding, connections);
                let (mut frame, mut out) = (Frame::new(), Outbox::new());
                let mut handle = |bytes: &[u8]| {
                    frame.fill(bytes);
                    let start = used();
                    let verdict = director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
                    let nanos = used() - start;
                    assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE));
                    nanos
                };
                for (client, least) in nanos.iter_mut().enumerate() {
                    let took = handle(&request(client, SYN, 0));
                    *least = (*least).min(u32::try_from(took).unwrap_or(u32::MAX));
                    handle(&request(client, ACK, 0));
                }
                bytes = LIVE.load(Relaxed) - before;
                if round == ROUNDS {
                    for client in shuffled(connections).take(SAMPLE) {
                        serving.add(handle(&request(client, ACK, 64)));
                    }
                }
                assert_eq!(director.status().connections, connections, "all are held");
                director.handle_timeout(Instant::from_secs(24 * 3600), &mut out);
                assert_eq!(director.status().connections, 0, "all have expired");
                left = LIVE.load(Relaxed) - before;
            }
            let mut growing = Histogram([0; 512]);
            nanos.iter().for_each(|&nanos| growing.add(nanos.into()));
            let longest = u64::from(nanos.iter().copied().max().unwrap_or(0));
            println!(
                "memory/{name}/{connections}: {:.0} B per connection, {left} B of all once they are gone; new: median \
                 {} ns, p99.9 {} us, longest {} us; hit, each timed alone: median {} ns",
                bytes as f64 / connections as f64,
                growing.at(0.5),
                growing.at(0.999) / 1000,
                longest / 1000,
                serving.at(0.5),
            );
        }
    }
}
