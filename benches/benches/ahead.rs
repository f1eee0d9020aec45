//! A hit at many connections by the number of frames that are looked at together (1: one after the other, as with a
//! small table), the clients in random order: `cargo bench -p uvs-bench --bench ahead`. Least of some rounds, wall
//! clock.

use std::hint::black_box;
use std::time::Instant as Clock;

use uvs_bench::{CLIENT_SIDE, SERVER_SIDE, director, establish, reply, request, shuffled};
use uvs_director::spec::Forwarding;
use uvs_director::{Director, Frame, Instant, Outbox, PortId};
use uvs_wire::tcp::ACK;

/// Frames that are prepared.
const FRAMES: usize = 600_000;
const ROUNDS: usize = 4;
const GROUPS: [usize; 4] = [1, 4, 8, 16];

#[cfg(target_arch = "x86_64")]
fn fetch(at: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    #[expect(unsafe_code, reason = "the compiler offers no other way to say so")]
    // SAFETY: it is a hint, which reads nothing and faults at no address; every x86-64 has it (SSE).
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch(_: *const u8) {}

fn main() {
    // `cargo test --benches` runs this too; a smaller table will do there.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let sizes: &[usize] = if is_bench { &[1_000, 100_000, 1_000_000, 10_000_000] } else { &[1_000] };
    for &connections in sizes {
        let director = director(Forwarding::Nat, connections);
        establish(&director, connections);
        let clients = || shuffled(connections).take(FRAMES);
        let requests: Vec<Vec<u8>> = clients().map(|client| request(client, ACK, 64)).collect();
        let replies: Vec<Vec<u8>> = clients().map(|client| reply(client, ACK, 64)).collect();
        for (what, port, frames) in [("hit", CLIENT_SIDE, requests), ("reply", SERVER_SIDE, replies)] {
            for group in GROUPS {
                let nanos = (0..ROUNDS).map(|_| nanos_each(&director, port, &frames, group));
                let least = nanos.fold(f64::MAX, f64::min);
                println!("ahead/{what}/nat/v4/{connections}: groups of {group}: {least:.0} ns");
            }
        }
    }
}

/// What one of the frames takes, copying it into its buffer included.
fn nanos_each(director: &Director, port: PortId, frames: &[Vec<u8>], group: usize) -> f64 {
    let mut buffers: Vec<Frame> = (0..group).map(|_| Frame::new()).collect();
    let (mut out, mut ahead) = (Outbox::new(), Vec::with_capacity(group));
    let start = Clock::now();
    for frames in frames.chunks_exact(group) {
        for (buffer, bytes) in buffers.iter_mut().zip(frames) {
            buffer.fill(bytes);
        }
        if group > 1 && director.wants_ahead() {
            ahead.clear();
            ahead
                .extend(buffers.iter().filter_map(|frame| director.look_ahead(port, frame, &mut out, fetch)));
            ahead.iter().for_each(|&ahead| director.look_further(ahead, fetch));
        }
        for buffer in &mut buffers {
            black_box(director.handle(port, buffer, Instant::ZERO, &mut out));
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / frames.len() as f64
}
