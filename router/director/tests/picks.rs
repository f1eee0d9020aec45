//! What the engine tells a scheduler, and which of its picks it takes.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

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

/// Notes what it hears of loads, and picks the destination added last.
#[derive(Debug, Default)]
struct Listener(Arc<Mutex<Vec<Load>>>);

impl Scheduler for Listener {
    fn update(&mut self, candidates: &[Candidate]) {
        *self.0.lock().unwrap() = candidates.iter().map(|candidate| candidate.load).collect();
    }

    fn schedule(&mut self, _: &Flow, changed: &[(u32, Load)], _: Instant) -> Option<u32> {
        let mut loads = self.0.lock().unwrap();
        let mut positions: Vec<u32> = changed.iter().map(|(position, _)| *position).collect();
        positions.sort_unstable();
        positions.dedup();
        assert_eq!(positions.len(), changed.len(), "each is told once");
        changed.iter().for_each(|(position, load)| loads[*position as usize] = *load);
        Some(0)
    }
}

impl SchedulerFactory for Listener {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

/// Whatever is removed, added again and edited in between: what the scheduler was told is what the destinations carry.
#[test]
fn a_scheduler_goes_on_hearing_of_a_destination_that_comes_back() {
    for service_too in [false, true] {
        let listener = Listener::default();
        let told = Arc::clone(&listener.0);
        let bench = Bench::with_schedulers(Limits::default(), Arc::new(listener));
        let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
        let segment = |port: u16, flags: &str| {
            bench.send(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), flags, b""));
        };
        let addr = "192.168.10.11:80".parse().unwrap();
        let spec = DestinationSpec::new(addr, Forwarding::Nat);
        (1001..=1003).for_each(|port| segment(port, "S"));
        if service_too {
            bench.apply(Change::RemoveService(key));
            bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        } else {
            bench.apply(Change::RemoveDestination(key, addr));
        }
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1001), "R", b""));
        // A pick in vain, and one of somebody else.
        segment(2000, "S");
        let other = DestinationSpec::new("192.168.10.12:80".parse().unwrap(), Forwarding::Nat);
        bench.apply(Change::AddDestination(key, other));
        segment(2001, "S");
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1002), "R", b""));
        bench.apply(Change::AddDestination(key, spec));
        assert_eq!(told.lock().unwrap()[0], Load { active: 1, inactive: 2, unavailable: false });
        for port in 3000..3005 {
            segment(port, "S");
        }
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1003), "R", b""));
        segment(3005, "S");
        let before_the_last = Load { active: 5, inactive: 3, unavailable: false };
        assert_eq!(told.lock().unwrap()[0], before_the_last, "with its service: {service_too}");
    }
}
