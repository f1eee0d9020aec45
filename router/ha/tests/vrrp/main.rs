//! The state machine of one node, in virtual time: what it does with what arrives.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod commands;
mod groups;
mod hearing;
mod properties;
mod reload;
mod timing;
mod tracking;

use core::net::IpAddr;
use core::time::Duration;

use uvs_director::Instant;
use uvs_ha::plan::{AnnouncePlan, GroupPlan, Plan, RouterPlan, TrackPlan};
use uvs_ha::vrrp::{Counters, Event, Output, State, Vrrp};
use uvs_ha::wire::{Advertisement, ChecksumForm, Datagram, Family, Interval, Refusal, TTL, Version};

const OWN: &str = "192.0.2.2";
const LOWER: &str = "192.0.2.1";
const HIGHER: &str = "192.0.2.3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Version 3, VRID 1, 1 s, 10.0.0.100.
fn router(name: &str, priority: u8) -> RouterPlan {
    RouterPlan {
        name: name.into(),
        interface: "eth0".into(),
        vrid: 1,
        version: Version::V3,
        priority,
        interval: Interval::DEFAULT,
        source: ip(OWN),
        addresses: vec![ip("10.0.0.100")],
        unadvertised: vec![],
        preempt: true,
        preempt_delay: Duration::ZERO,
        peers: vec![],
        ttl_min: TTL,
        password: None,
        checksum: ChecksumForm::Rfc9568,
        announce: AnnouncePlan {
            repeat: 1,
            gap: Duration::ZERO,
            delay: Duration::ZERO,
            refresh: Duration::ZERO,
        },
        track: vec![],
    }
}

fn plan(routers: impl IntoIterator<Item = RouterPlan>) -> Plan {
    Plan { routers: routers.into_iter().collect(), groups: vec![] }
}

fn track(name: &str, weight: i16) -> TrackPlan {
    TrackPlan { name: name.into(), weight, reverse: false, presumed_up: true }
}

/// What another node would send.
fn advert(priority: u8) -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: 1,
        priority,
        interval: Interval::DEFAULT,
        password: None,
        addresses: vec![ip("10.0.0.100")],
    }
}

/// A node, its clock, and what it said.
struct Node {
    vrrp: Vrrp,
    now: Instant,
    outputs: Vec<Output>,
}

impl Node {
    fn new(plan: Plan) -> Self {
        let mut node = Self { vrrp: Vrrp::new(Instant::ZERO), now: Instant::ZERO, outputs: vec![] };
        node.apply(plan);
        node
    }

    /// Active, by silence, at the moment that this returns; outputs are those since.
    fn active(plan: Plan) -> Self {
        let mut node = Self::new(plan);
        node.run(ms(4000));
        node.outputs.clear();
        node
    }

    fn apply(&mut self, plan: Plan) {
        self.vrrp.apply(plan, self.now).unwrap();
        self.collect();
    }

    fn collect(&mut self) {
        self.outputs.extend(self.vrrp.take_outputs());
    }

    /// Lets time pass, as a process that runs does.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.vrrp.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.vrrp.tick(self.now);
            self.collect();
        }
        self.now = until;
    }

    /// Lets time pass, as a process that does not run does.
    fn sleep(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn tick(&mut self) {
        self.vrrp.tick(self.now);
        self.collect();
    }

    fn hear_on(&mut self, interface: &str, src: &str, message: &Advertisement) -> Result<(), Refusal> {
        let (src, dst) = (ip(src), Family::of(ip(src)).group());
        self.hear_datagram(interface, src, dst, 255, &message.emit(src, dst, ChecksumForm::Rfc9568))
    }

    fn hear_datagram(
        &mut self,
        interface: &str,
        src: IpAddr,
        dst: IpAddr,
        ttl: u8,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let heard = self.vrrp.receive(interface, &Datagram { src, dst, ttl, payload }, self.now);
        self.collect();
        heard
    }

    fn hear(&mut self, src: &str, message: &Advertisement) {
        self.hear_on("eth0", src, message).unwrap();
    }

    fn state(&self) -> State {
        self.vrrp.view()[0].state
    }

    fn counters(&self) -> Counters {
        self.vrrp.view()[0].routers[0].counters.clone()
    }

    /// Priorities of the advertisements that were sent since the last call, and the other outputs thrown away.
    fn sent(&mut self) -> Vec<u8> {
        let sent = |output: Output| match output {
            Output::Send { message, .. } => Some(message[2]),
            _ => None,
        };
        core::mem::take(&mut self.outputs).into_iter().filter_map(sent).collect()
    }

    /// Outputs since the last call, a word each.
    fn done(&mut self) -> Vec<String> {
        let list =
            |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let word = |output: Output| match output {
            Output::Send { router, message, .. } => Some(format!("{router} sends {}", message[2])),
            Output::Own { router, addresses } => Some(format!("{router} owns {}", list(&addresses))),
            Output::Disown { router, addresses } => Some(format!("{router} disowns {}", list(&addresses))),
            Output::Announce { router, addresses, .. } => {
                Some(format!("{router} announces {}", list(&addresses)))
            }
            Output::Notify(notification) => Some(notification.arguments().join(" ")),
            Output::Event(_) => None,
        };
        core::mem::take(&mut self.outputs).into_iter().filter_map(word).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        let event = |output: Output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        };
        core::mem::take(&mut self.outputs).into_iter().filter_map(event).collect()
    }

    /// For how long, in milliseconds, it is Backup from now on if nothing is heard.
    fn takes_over_in(&mut self) -> u64 {
        let from = self.now;
        while self.state() != State::Active {
            let due = self.vrrp.next_due().unwrap();
            assert!(due > self.now, "time goes on");
            self.now = due;
            self.tick();
        }
        self.now.since(from).as_millis().try_into().unwrap()
    }
}
