//! What one pick costs, native and in WebAssembly: `pick/SCHEDULER/native|wasm/DESTINATIONS`. The load of one
//! destination changes before each pick, as it does when connections come and go.

use std::net::Ipv4Addr;

use criterion::{Criterion, criterion_group, criterion_main};
use uvs_bench::flow;
use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Load, Scheduler, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;
use uvs_plugin::{Host, Policy, Schedulers, native};

fn candidates(n: u32) -> Vec<Candidate> {
    let candidate = |id: u32| Candidate {
        id,
        weight: 1 + id % 3,
        address: Ipv4Addr::from_bits(0xc0a8_0a00 + id).into(),
        port: 80,
        load: Load::default(),
    };
    (0..n).map(candidate).collect()
}

fn pick(c: &mut Criterion) {
    let host = Host::new(Policy::default()).expect("an engine");
    let schedulers = Schedulers::with_seed(host, 1);
    for name in ["rr", "wrr", "lc"] {
        for n in [3, 10, 100, 1000] {
            let wasm = schedulers.create(&SchedulerSpec::named(name), "tcp 10.0.0.100:80").expect("shipped");
            let twin = native(name, "tcp 10.0.0.100:80", "", 1).expect("has a native twin");
            for (kind, mut scheduler) in [("native", twin), ("wasm", wasm)] {
                scheduler.update(&candidates(n));
                bench(c, &format!("pick/{name}/{kind}/{n}"), &mut *scheduler, n);
            }
        }
    }
}

fn bench(c: &mut Criterion, name: &str, scheduler: &mut dyn Scheduler, n: u32) {
    let flow = flow(1);
    let mut turn = 0;
    c.bench_function(name, |b| {
        b.iter(|| {
            turn += 1;
            let load = Load { active: turn / n % 64, inactive: 0, unavailable: false };
            scheduler.schedule(&flow, &[(turn % n, load)], Instant::ZERO).expect("all are eligible")
        });
    });
}

criterion_group!(benches, pick);
criterion_main!(benches);
