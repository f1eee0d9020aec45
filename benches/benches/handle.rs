//! What one packet costs in `Director::handle`: `handle/hit/METHOD/FAMILY/CONNECTIONS`, `handle/reply/...` and
//! `handle/miss/METHOD/FAMILY/SCHEDULER`; and what parsing alone costs. Copying the frame into its buffer is part of
//! it, as it is of reading from a device; `handle/copy` says how much that is.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use uvs_bench::{
    CLIENT_SIDE, FAMILIES, METHODS, SERVER_SIDE, director_with, establish_of, reply_of, request_of, shuffled,
};
use uvs_director::scheduler::{NativeOnly, SchedulerFactory};
use uvs_director::spec::Forwarding;
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_plugin::{Host, Policy, Schedulers};
use uvs_wire::tcp::{ACK, SYN};
use uvs_wire::{Packet, ethernet};

/// Frames that are prepared; more would measure how fast they are read.
const FRAMES: usize = 65_536;

fn parse(c: &mut Criterion) {
    for (family_name, family) in FAMILIES {
        let frame = request_of(family, 1, ACK, 64);
        let ip = &frame[ethernet::HEADER_LEN..];
        c.bench_function(&format!("parse/{family_name}"), |b| b.iter(|| Packet::parse(black_box(ip))));
    }
}

fn hit(c: &mut Criterion) {
    for connections in [1, 1_000, 1_000_000] {
        for (name, forwarding) in METHODS {
            for (family_name, family) in FAMILIES {
                let director = director_with(family, forwarding, connections, Arc::new(NativeOnly));
                establish_of(family, &director, connections);
                let clients = shuffled(connections).take(FRAMES);
                let frames: Vec<Vec<u8>> = clients.map(|i| request_of(family, i, ACK, 64)).collect();
                let (mut frame, mut out, mut next) = (Frame::new(), Outbox::new(), 0);
                c.bench_function(&format!("handle/hit/{name}/{family_name}/{connections}"), |b| {
                    b.iter(|| {
                        next = (next + 1) % frames.len();
                        frame.fill(&frames[next]);
                        director.handle(CLIENT_SIDE, black_box(&mut frame), Instant::ZERO, &mut out)
                    });
                });
                assert!(out.is_empty(), "nothing but the packets themselves went out");
                if forwarding != Forwarding::Nat {
                    continue;
                }
                let clients = shuffled(connections).take(FRAMES);
                let frames: Vec<Vec<u8>> = clients.map(|i| reply_of(family, i, ACK, 64)).collect();
                c.bench_function(&format!("handle/reply/{name}/{family_name}/{connections}"), |b| {
                    b.iter(|| {
                        next = (next + 1) % frames.len();
                        frame.fill(&frames[next]);
                        director.handle(SERVER_SIDE, black_box(&mut frame), Instant::ZERO, &mut out)
                    });
                });
                if connections > 1 {
                    c.bench_function(&format!("handle/copy/{family_name}/{connections}"), |b| {
                        b.iter(|| {
                            next = (next + 1) % frames.len();
                            frame.fill(black_box(&frames[next]));
                        });
                    });
                }
            }
        }
    }
}

fn miss(c: &mut Criterion) {
    const BATCH: usize = 10_000;
    let wasm = Schedulers::with_seed(Host::new(Policy::default()).expect("an engine"), 1);
    let schedulers: [(&str, Arc<dyn SchedulerFactory>); 2] =
        [("native", Arc::new(NativeOnly)), ("wasm", Arc::new(wasm))];
    let mut group = c.benchmark_group("handle/miss");
    group.sample_size(20).throughput(Throughput::Elements(BATCH as u64));
    for (name, forwarding) in METHODS {
        for (family_name, family) in FAMILIES {
            for (kind, schedulers) in &schedulers {
                let frames: Vec<Vec<u8>> = (0..BATCH).map(|i| request_of(family, i, SYN, 0)).collect();
                let (mut frame, mut out) = (Frame::new(), Outbox::new());
                group.bench_function(format!("{name}/{family_name}/{kind} (x{BATCH})"), |b| {
                    b.iter_batched_ref(
                        || director_with(family, forwarding, BATCH, Arc::clone(schedulers)),
                        |director| {
                            for bytes in &frames {
                                frame.fill(bytes);
                                let verdict =
                                    director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
                                assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE));
                            }
                        },
                        BatchSize::PerIteration,
                    );
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, parse, hit, miss);
criterion_main!(benches);
