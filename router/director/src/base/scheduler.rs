//! The seam between the engine and whoever picks destinations.
//!
//! The engine calls a scheduler once for each *new* connection, never per packet, one call at a time
//! per service. It mirrors the kernel's `struct ip_vs_scheduler`, with two differences: the set of
//! destinations is pushed whole after each change, and only loads that changed travel with a pick.

use core::net::IpAddr;

use crate::base::spec::{Protocol, SchedulerSpec};
use crate::base::time::{Duration, Instant};

/// A new connection, as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// CIP.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// VIP, or for a firewall-mark service the address the client asked for.
    pub virtual_addr: IpAddr,
    /// The port the client asked for.
    pub virtual_port: u16,
    /// The firewall mark; 0 is none.
    pub mark: u32,
}

/// One destination as a scheduler sees it; its position is its index in the last `update`.
///
/// The order is the kernel's list order: the destination added last comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Stable for as long as the destination belongs to the service.
    pub id: u32,
    /// 0 quiesces: nothing new is scheduled to it.
    pub weight: u32,
    /// RIP.
    pub address: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// What it carries now.
    pub load: Load,
}

/// The load of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections in an active state (ESTABLISHED, SYN_*).
    pub active: u32,
    /// Connections in any other state; all of UDP.
    pub inactive: u32,
    /// Overloaded by its upper threshold: nothing new may be scheduled to it.
    pub unavailable: bool,
}

/// How a destination took a connection that was placed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// It answered: SYN-ACK.
    Answered,
    /// It refused: RST.
    Refused,
    /// Nothing came so far: the client repeated its SYN after a second or more, or the connection expired.
    Unanswered,
}

/// What was seen of a connection: TCP, forwarded by NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The destination's position in the last `update`.
    pub position: u32,
    /// What it did.
    pub response: Response,
    /// Since the first SYN that was forwarded.
    pub elapsed: Duration,
}

/// Who made a pick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Picked {
    /// The scheduler itself.
    #[default]
    Own,
    /// Its fallback, since it failed or is not asked any more.
    Fallback,
    /// Another one on trial, whose share the connection is in.
    Canary,
}

/// Picks a destination for each new connection of one service.
pub trait Scheduler: Send {
    /// The whole set, after every change of it (destination added, removed, or its weight edited), or after some
    /// hundred that come together.
    /// Loads are current as of this call.
    fn update(&mut self, candidates: &[Candidate]);

    /// One pick: a position in the last `update`, or `None` when nothing can take the connection.
    ///
    /// `changed` holds position and load of the destinations whose load changed since the previous call of
    /// `update` or `schedule`. A pick that is out of range, quiesced or unavailable counts as no pick.
    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32>;

    /// Who made the last pick of [`schedule`](Self::schedule); asked right after it.
    fn picked(&self) -> Picked {
        Picked::Own
    }

    /// Whether [`observe`](Self::observe) is to be called. Asked before each pick; until it says so, nothing is
    /// measured.
    fn wants_feedback(&self) -> bool {
        false
    }

    /// What was seen since the last pick, the oldest first; comes right before a pick, and never empty.
    fn observe(&mut self, events: &[Event], now: Instant) {
        let _ = (events, now);
    }
}

/// Makes schedulers by name; the engine calls it from [`crate::Director::apply`], off the packet path.
pub trait SchedulerFactory: Send + Sync {
    /// A scheduler for the service that `service` names (text for logs, such as `tcp 192.0.2.10:443`).
    ///
    /// # Errors
    /// A sentence for the operator: unknown name, module that does not load, options it refuses.
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String>;
}

/// Weighted least connection, in native code: what picks when a module fails.
///
/// Cost is `active * 256 + inactive`; the destination with the least cost per weight wins, the first in
/// list order among equals (kernel `wlc`).
#[derive(Debug, Default)]
pub struct Wlc {
    candidates: Vec<Candidate>,
}

impl Scheduler for Wlc {
    fn update(&mut self, candidates: &[Candidate]) {
        self.candidates.clear();
        self.candidates.extend_from_slice(candidates);
    }

    fn schedule(&mut self, _: &Flow, changed: &[(u32, Load)], _: Instant) -> Option<u32> {
        for &(position, load) in changed {
            if let Some(candidate) = self.candidates.get_mut(position as usize) {
                candidate.load = load;
            }
        }
        let mut best: Option<(u32, u64, u64)> = None;
        for (position, candidate) in (0u32..).zip(&self.candidates) {
            if candidate.weight == 0 || candidate.load.unavailable {
                continue;
            }
            let cost = (u64::from(candidate.load.active) << 8) + u64::from(candidate.load.inactive);
            let weight = u64::from(candidate.weight);
            if best.is_none_or(|(_, least, its_weight)| least * weight > cost * its_weight) {
                best = Some((position, cost, weight));
            }
        }
        best.map(|(position, ..)| position)
    }
}

/// A factory for tests and tools that need no modules: it knows `wlc` only.
#[derive(Debug, Default)]
pub struct NativeOnly;

impl SchedulerFactory for NativeOnly {
    fn create(&self, spec: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        match spec.name.as_str() {
            "wlc" => Ok(Box::new(Wlc::default())),
            other => Err(format!("unknown scheduler {other:?}; this build of the engine knows only wlc")),
        }
    }
}
