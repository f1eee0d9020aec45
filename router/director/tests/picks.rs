//! What the engine tells a scheduler, and which of its picks it takes.

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler, SchedulerFactory};
use uvs_director::spec::*;
use uvs_director::{DropReason, Instant};

/// Notes the weights of each update, and picks the first destination whatever it carries.
#[derive(Debug, Default)]
struct First {
    updates: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Scheduler for First {
    fn update(&mut self, candidates: &[Candidate]) {
        let weights = candidates.iter().map(|c| c.weight).collect();
        self.updates.lock().expect("no test panics while it writes").push(weights);
    }

    fn schedule(&mut self, _: &Flow, _: &[(u32, Load)], _: Instant) -> Option<u32> {
        Some(0)
    }
}

/// Makes them, all with one notebook.
#[derive(Default)]
struct Factory(Arc<Mutex<Vec<Vec<u32>>>>);

impl SchedulerFactory for Factory {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(First { updates: Arc::clone(&self.0) }))
    }
}

#[test]
fn a_new_scheduler_hears_of_the_weights_before_quiesce() {
    let factory = Factory::default();
    let updates = Arc::clone(&factory.0);
    let heard = || std::mem::take(&mut *updates.lock().unwrap());
    let bench = Bench::with_schedulers(Limits::default(), Arc::new(factory));
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80", "192.168.10.12:80"]);
    let weigh = |addr: &str, weight| {
        let spec = DestinationSpec { weight, ..DestinationSpec::new(addr.parse().unwrap(), Forwarding::Nat) };
        bench.apply(Change::EditDestination(key, spec));
    };
    bench.apply(Change::RenewScheduler(key));
    assert_eq!(heard()[2..], [[1, 1]], "one update tells it all");

    weigh("192.168.10.11:80", 7);
    weigh("192.168.10.11:80", 0);
    heard();
    bench.apply(Change::RenewScheduler(key));
    assert_eq!(heard(), [[1, 7], [1, 0]], "the one added last comes first; then what holds now");

    // The kernel forgets it with the destination.
    let addr = "192.168.10.11:80".parse().unwrap();
    bench.apply(Change::RemoveDestination(key, addr));
    let spec = DestinationSpec { weight: 0, ..DestinationSpec::new(addr, Forwarding::Nat) };
    bench.apply(Change::AddDestination(key, spec));
    heard();
    bench.apply(Change::RenewScheduler(key));
    assert_eq!(heard(), [[0, 1]]);
}

#[test]
fn a_pick_over_the_upper_threshold_counts_as_the_kernel_counts_it_and_else_not() {
    for compat_ipvs in [false, true] {
        let bench = Bench::with_schedulers(Limits::default(), Arc::new(Factory::default()));
        bench.apply(Change::SetOptions(Options { compat_ipvs, ..Options::default() }));
        let key = bench.service(Protocol::Tcp, Forwarding::Nat, &[]);
        let one = "192.168.10.11:80".parse().unwrap();
        let spec = DestinationSpec { upper_threshold: 1, ..DestinationSpec::new(one, Forwarding::Nat) };
        bench.apply(Change::AddDestination(key, spec));
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4001), (VIP, 80), "S", b""));
        let second = tcp((CLIENT, 4002), (VIP, 80), "S", b"");
        if compat_ipvs {
            assert_eq!(bench.pass(CLIENT_SIDE, &second).0, SERVER_SIDE);
        } else {
            bench.refused(CLIENT_SIDE, &second, DropReason::NoDestination);
        }
        bench.apply(Change::EditDestination(key, DestinationSpec { weight: 0, ..spec }));
        bench.refused(CLIENT_SIDE, &tcp((CLIENT, 4003), (VIP, 80), "S", b""), DropReason::NoDestination);
    }
}
