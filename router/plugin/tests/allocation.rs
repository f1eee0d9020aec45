//! A pick that a module serves allocates nothing on the host.

#![allow(unsafe_code, reason = "an allocator that counts has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, SchedulerFactory};
use uvs_director::spec::{Protocol, SchedulerSpec};
use uvs_plugin::{Host, Policy, SHIPPED, Schedulers};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a thread-local without a
// destructor, so counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_pick_allocates_nothing() {
    let schedulers = Schedulers::with_seed(Host::new(Policy::default()).expect("an engine"), 1);
    let flow = Flow {
        protocol: Protocol::Tcp,
        client: "198.51.100.7".parse().expect("an address"),
        client_port: 40_000,
        virtual_addr: "192.0.2.10".parse().expect("an address"),
        virtual_port: 443,
        mark: 0,
    };
    let address = |id: u32| format!("10.0.0.{id}").parse().expect("an address");
    for (name, _) in SHIPPED {
        let mut scheduler = schedulers.create(&SchedulerSpec::named(name), "service").expect("it ships");
        let set: Vec<_> = (0..100)
            .map(|id| Candidate { id, weight: 1, address: address(id), port: 80, load: Load::default() })
            .collect();
        scheduler.update(&set);
        let all: Vec<_> = (0..100).map(|i| (i, Load { active: i % 7, ..Load::default() })).collect();
        scheduler.schedule(&flow, &all, Instant::ZERO); // the buffers grow here
        let before = COUNT.get();
        for changed in [&[][..], &all[..1], &all] {
            for _ in 0..20 {
                assert!(scheduler.schedule(&flow, changed, Instant::ZERO).is_some());
            }
        }
        assert_eq!(COUNT.get() - before, 0, "{name}: allocations in 60 picks");
    }
    let before = COUNT.get();
    drop(std::hint::black_box(vec![0u8; std::hint::black_box(9)]));
    assert!(COUNT.get() > before, "the counter counts");
}
