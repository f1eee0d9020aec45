//! What the engine measures of handshakes, and when it tells.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps, helpers included")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::*;
use uvs_director::scheduler::Response::{Answered, Refused, Unanswered};
use uvs_director::scheduler::{Candidate, Event, Flow, Load, Response, Scheduler, SchedulerFactory};
use uvs_director::spec::*;
use uvs_director::{Duration, Instant};

/// What was heard: destination, response, microseconds; and `None` for each pick.
type Heard = Arc<Mutex<Vec<Option<(String, Response, u64)>>>>;

/// Picks in turn and notes what it hears.
struct Listener {
    heard: Heard,
    wants: Arc<AtomicBool>,
    set: Vec<Candidate>,
    turn: usize,
}

impl Scheduler for Listener {
    fn update(&mut self, candidates: &[Candidate]) {
        self.set = candidates.to_vec();
    }

    fn schedule(&mut self, _: &Flow, _: &[(u32, Load)], _: Instant) -> Option<u32> {
        self.heard.lock().unwrap().push(None);
        self.turn += 1;
        u32::try_from(self.turn % self.set.len()).ok()
    }

    fn wants_feedback(&self) -> bool {
        self.wants.load(Relaxed)
    }

    fn observe(&mut self, events: &[Event], _: Instant) {
        let told = events.iter().map(|event| {
            let it = &self.set[event.position as usize];
            let micros = u64::try_from(event.elapsed.as_micros()).unwrap();
            Some((it.address.to_string(), event.response, micros))
        });
        self.heard.lock().unwrap().extend(told);
    }
}

#[derive(Default)]
struct Factory {
    heard: Heard,
    wants: Arc<AtomicBool>,
}

impl SchedulerFactory for Factory {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        let (heard, wants) = (Arc::clone(&self.heard), Arc::clone(&self.wants));
        Ok(Box::new(Listener { heard, wants, set: Vec::new(), turn: 0 }))
    }
}

struct Scene {
    bench: Bench,
    heard: Heard,
    wants: Arc<AtomicBool>,
    key: ServiceKey,
}

const REAL: &str = "192.168.10.11:80";

impl Scene {
    /// One real server; the first pick is over, from which on is measured.
    fn new(forwarding: Forwarding, wants: bool) -> Self {
        let factory = Factory::default();
        factory.wants.store(wants, Relaxed);
        let (heard, wants) = (Arc::clone(&factory.heard), Arc::clone(&factory.wants));
        let bench = Bench::with_schedulers(Limits::default(), Arc::new(factory));
        let key = bench.service(Protocol::Tcp, forwarding, &[REAL]);
        let scene = Self { bench, heard, wants, key };
        scene.client(3999, "S");
        scene
    }

    fn client(&self, port: u16, flags: &str) {
        self.bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), flags, b""));
    }

    fn server(&self, port: u16, flags: &str) {
        self.bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, port), flags, b""));
    }

    fn wait(&mut self, millis: u64) {
        self.bench.advance(Duration::from_millis(millis));
    }

    /// What is told with the next pick.
    fn hear(&self) -> Vec<(Response, u64)> {
        self.heard.lock().unwrap().clear();
        static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(9000);
        let port = PORT.fetch_add(1, Relaxed);
        self.client(port, "S");
        // It gives up, so that it says nothing later.
        self.client(port, "R");
        let mut heard = std::mem::take(&mut *self.heard.lock().unwrap());
        assert_eq!(heard.pop(), Some(None), "the pick comes last");
        heard
            .into_iter()
            .map(|event| event.map(|(_, response, micros)| (response, micros)).unwrap())
            .collect()
    }
}

#[test]
fn what_becomes_of_a_handshake_is_told_with_the_next_pick() {
    type Case = (&'static str, fn(&mut Scene), &'static [(Response, u64)]);
    let cases: [Case; 9] = [
        (
            "answered",
            |scene| {
                scene.client(4001, "S");
                scene.wait(7);
                scene.server(4001, "SA");
                scene.wait(1);
                scene.server(4001, "SA");
                scene.client(4001, "A");
                scene.server(4001, "A");
            },
            &[(Answered, 7_000)],
        ),
        (
            "refused",
            |scene| {
                scene.client(4001, "S");
                scene.wait(3);
                scene.server(4001, "RA");
                scene.server(4001, "RA");
            },
            &[(Refused, 3_000)],
        ),
        (
            "the first SYN was lost: the client waited for all of it",
            |scene| {
                scene.client(4001, "S");
                scene.wait(1_000);
                scene.client(4001, "S");
                scene.wait(5);
                scene.server(4001, "SA");
            },
            &[(Unanswered, 1_000_000), (Answered, 1_005_000)],
        ),
        (
            "a flood of one SYN says nothing",
            |scene| {
                for _ in 0..10 {
                    scene.client(4001, "S");
                    scene.wait(200);
                }
            },
            &[],
        ),
        (
            "silence to the end",
            |scene| {
                scene.client(4001, "S");
                scene.wait(30_000);
                scene.client(4001, "S");
                scene.wait(75_000);
            },
            &[(Unanswered, 30_000_000), (Unanswered, 90_000_000)],
        ),
        (
            "a client that gave up",
            |scene| {
                scene.client(4001, "S");
                scene.wait(3);
                scene.client(4001, "R");
                scene.wait(70_000);
            },
            &[],
        ),
        (
            "an answered one that the client leaves half open",
            |scene| {
                scene.client(4001, "S");
                scene.server(4001, "SA");
                scene.wait(70_000);
            },
            &[(Answered, 0)],
        ),
        (
            "a reset of an established one",
            |scene| {
                scene.client(4001, "S");
                scene.server(4001, "SA");
                scene.client(4001, "A");
                scene.server(4001, "R");
            },
            &[(Answered, 0)],
        ),
        (
            "the same ports again: another connection, whose pick heard of the first",
            |scene| {
                for millis in [2, 4] {
                    scene.client(4001, "S");
                    scene.wait(millis);
                    scene.server(4001, "SA");
                    scene.client(4001, "A");
                    scene.client(4001, "FA");
                    scene.server(4001, "FA");
                    scene.client(4001, "A");
                }
            },
            &[(Answered, 4_000)],
        ),
    ];
    for (name, steps, want) in cases {
        let mut scene = Scene::new(Forwarding::Nat, true);
        // The one of the beginning is answered, so that it says nothing later.
        scene.server(3999, "SA");
        scene.hear();
        steps(&mut scene);
        assert_eq!(scene.hear(), want, "{name}");
    }
}

#[test]
fn nothing_is_measured_for_who_does_not_want_it_and_where_it_cannot_be_seen() {
    for (forwarding, wants) in [(Forwarding::Nat, false), (Forwarding::Direct, true)] {
        let mut scene = Scene::new(forwarding, wants);
        scene.client(4001, "S");
        scene.wait(1_000);
        scene.client(4001, "S");
        if forwarding == Forwarding::Nat {
            scene.server(4001, "SA");
        }
        scene.client(4002, "S");
        scene.wait(70_000);
        scene.wants.store(true, Relaxed);
        scene.hear();
        assert_eq!(scene.hear(), [], "{forwarding:?}, {wants}");
        assert_eq!(scene.bench.director.services()[0].feedback_lost, 0);
    }
}

#[test]
fn what_waits_for_a_pick_is_bounded_and_what_is_gone_is_not_told() {
    let scene = Scene::new(Forwarding::Nat, true);
    for port in 0..1100 {
        scene.client(10_000 + port, "S");
    }
    scene.heard.lock().unwrap().clear();
    for port in 0..1100 {
        scene.server(10_000 + port, "SA");
    }
    assert_eq!(scene.bench.director.services()[0].feedback_lost, 76, "1024 of 1100 are kept");
    assert_eq!(scene.hear().len(), 1024);

    scene.server(10_000, "SA");
    scene.client(4001, "S");
    scene.server(4001, "SA");
    let other = "192.168.10.12:80".parse().unwrap();
    scene.bench.apply(Change::AddDestination(scene.key, DestinationSpec::new(other, Forwarding::Nat)));
    scene.bench.apply(Change::RemoveDestination(scene.key, REAL.parse().unwrap()));
    assert_eq!(scene.hear(), [], "of a destination that was removed");

    // With two in the list, the event names the one that answered, wherever it is now.
    let scene = Scene::new(Forwarding::Nat, true);
    scene.client(4001, "S");
    scene.server(4001, "SA");
    scene.bench.apply(Change::AddDestination(scene.key, DestinationSpec::new(other, Forwarding::Nat)));
    scene.heard.lock().unwrap().clear();
    scene.client(4002, "S");
    let heard = scene.heard.lock().unwrap().clone();
    assert_eq!(heard, [Some(("192.168.10.11".to_owned(), Answered, 0)), None]);
}
