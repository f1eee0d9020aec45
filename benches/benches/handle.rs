//! What one packet costs in `Director::handle`: `handle/hit/METHOD/v4/CONNECTIONS` and
//! `handle/miss/METHOD/v4`. Copying the frame into its buffer is part of it, as it is of reading from a device.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use uvs_bench::{CLIENT_SIDE, METHODS, SERVER_SIDE, director, establish, reply, request};
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_wire::tcp::{ACK, SYN};

fn hit(c: &mut Criterion) {
    for connections in [1, 1_000, 1_000_000] {
        for (name, forwarding) in METHODS {
            let director = director(forwarding, connections);
            establish(&director, connections);
            // Clients in an order that no cache can guess.
            let step = 611_953;
            let frames: Vec<Vec<u8>> =
                (0..connections.min(65_536)).map(|i| request(i * step % connections, ACK, 64)).collect();
            let (mut frame, mut out, mut next) = (Frame::new(), Outbox::new(), 0);
            c.bench_function(&format!("handle/hit/{name}/v4/{connections}"), |b| {
                b.iter(|| {
                    next = (next + 1) % frames.len();
                    frame.fill(&frames[next]);
                    director.handle(CLIENT_SIDE, black_box(&mut frame), Instant::ZERO, &mut out)
                });
            });
            assert!(out.is_empty(), "nothing but the packets themselves went out");
        }
    }
    let director = director(METHODS[0].1, 1_000);
    establish(&director, 1_000);
    let frames: Vec<Vec<u8>> = (0..1_000).map(|i| reply(i, ACK, 64)).collect();
    let (mut frame, mut out, mut next) = (Frame::new(), Outbox::new(), 0);
    c.bench_function("handle/reply/nat/v4/1000", |b| {
        b.iter(|| {
            next = (next + 1) % frames.len();
            frame.fill(&frames[next]);
            director.handle(SERVER_SIDE, black_box(&mut frame), Instant::ZERO, &mut out)
        });
    });
    // The copy alone, to be taken off the figures above.
    c.bench_function("handle/copy", |b| b.iter(|| frame.fill(black_box(&frames[0]))));
}

fn miss(c: &mut Criterion) {
    const BATCH: usize = 10_000;
    for (name, forwarding) in METHODS {
        let frames: Vec<Vec<u8>> = (0..BATCH).map(|i| request(i, SYN, 0)).collect();
        let (mut frame, mut out) = (Frame::new(), Outbox::new());
        c.bench_function(&format!("handle/miss/{name}/v4 (x{BATCH})"), |b| {
            b.iter_batched_ref(
                || director(forwarding, BATCH),
                |director| {
                    for bytes in &frames {
                        frame.fill(bytes);
                        let verdict = director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
                        assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE));
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(benches, hit, miss);
criterion_main!(benches);
