//! What reloads of a module cost those who connect meanwhile: one thread hands the director the SYNs of new
//! connections, as fast as it takes them, another exchanges the module that places them 100 times. Prints percentiles
//! of `Director::handle` with and without the reloads, in turns. No criterion bench, for it is the tail that counts and
//! not the mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant as Clock};

use uvs_bench::{CLIENT_SIDE, SERVER_SIDE, director_with, request};
use uvs_director::spec::{Family, Forwarding};
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_plugin::{Host, Policy, SHIPPED, Schedulers};
use uvs_wire::tcp::SYN;

const SERVICE: &str = "tcp 10.0.0.100:80";
const RELOADS: usize = 100;
const CONNECTIONS: usize = 300_000;

/// Two files with modules that differ.
fn modules() -> (tempfile::TempDir, [PathBuf; 2]) {
    let dir = tempfile::tempdir().expect("a folder");
    let paths = ["lc", "wlc"].map(|name| {
        let bytes = SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("it ships").1;
        let path = dir.path().join(format!("{name}.wasm"));
        std::fs::write(&path, bytes).expect("a file");
        path
    });
    (dir, paths)
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // `cargo test` starts benches, too
    }
    let (_dir, paths) = modules();
    let frames: Vec<Vec<u8>> = (0..CONNECTIONS).map(|n| request(n, SYN, 0)).collect();
    let host = Host::new(Policy::default()).expect("an engine");
    for with_reloads in [false, true, false, true, false, true] {
        let schedulers = Arc::new(Schedulers::with_seed(host.clone(), 1));
        let director = director_with(Family::V4, Forwarding::Nat, 2 * CONNECTIONS, schedulers.clone());
        // Both are compiled by then, as with a cache on disk.
        for path in &paths {
            schedulers.load(SERVICE, path, None).expect("it fits");
        }
        let stop = AtomicBool::new(false);
        let (mut times, mut swaps) = std::thread::scope(|scope| {
            let reloads = scope.spawn(|| {
                let mut swaps = Vec::new();
                while with_reloads && swaps.len() < RELOADS && !stop.load(Relaxed) {
                    let report = schedulers.load(SERVICE, &paths[swaps.len() % 2], None).expect("it fits");
                    swaps.push(report.swap_ns);
                    std::thread::sleep(Duration::from_millis(2));
                }
                swaps
            });
            let (mut frame, mut out) = (Frame::new(), Outbox::new());
            let mut times = Vec::with_capacity(CONNECTIONS);
            for bytes in &frames {
                frame.fill(bytes);
                let start = Clock::now();
                let verdict = director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
                times.push(start.elapsed().as_nanos());
                assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE), "a pick is lost");
            }
            stop.store(true, Relaxed);
            (times, reloads.join().expect("the reloads"))
        });
        times.sort_unstable();
        swaps.sort_unstable();
        let at = |thousandths: usize| times[(times.len() * thousandths / 1000).min(times.len() - 1)];
        println!(
            "{:>3} reloads, {CONNECTIONS} connections, none lost: handle p50 {} p99 {} p99.9 {} max {} ns; exchange p50 {:?} max {:?} ns",
            swaps.len(),
            at(500),
            at(990),
            at(999),
            at(1000),
            swaps.get(swaps.len() / 2),
            swaps.last(),
        );
        let status = schedulers.status_of(SERVICE).expect("it runs");
        assert_eq!((status.work.fallbacks, status.work.none), (0, 0), "the module placed all of them");
    }
}
