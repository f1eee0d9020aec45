//! When to probe and what a result means: no I/O and no clock, so that all of it can be tested in virtual time.
//!
//! ```text
//!   Plan --> apply --.                                          .--> orders (weights for the director)
//!                    |--> services > destinations > checks --> judge
//!   poll --> Start --|                                 |        `--> events
//!   finish <- result-'                              probes (each made once, told to all that asked)
//! ```
//! Whoever drives it makes the probes that [`Core::poll`] starts, brings their results to [`Core::finish`], and calls
//! again at [`Core::next_due`]. What results mean for services comes out of the next poll: many at a time are settled
//! together.

mod apply;
mod damping;
mod event;
mod judge;
mod passive;
mod random;
mod schedule;
mod streak;
mod table;
mod timers;
mod view;

use core::net::SocketAddr;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use uvs_director::Duration;
use uvs_director::spec::ServiceKey;

pub use event::{Event, Order, State, What};
pub use streak::{Health, Streak};
pub use table::{Last, Outcomes};
pub use view::{CheckView, DestinationView, ServiceView};

use self::random::Random;
use self::table::{Check, Destination, Probe, Service};
use self::timers::Timers;
use crate::spec::ProbeSpec;

/// How many probes run at once; those beyond it wait their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Over the network, and files.
    pub probes: usize,
    /// Programs.
    pub processes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { probes: 512, processes: 16 }
    }
}

/// The number of one run of a probe. None comes twice, so a result that is late finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(u64);

/// A probe that is to be made now.
#[derive(Clone, Debug)]
pub struct Start {
    /// What [`Core::finish`] wants to hear with its result.
    pub run: Run,
    /// What to do.
    pub probe: Arc<ProbeSpec>,
}

/// Those of one kind that run, and those that wait to.
#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<usize>,
}

/// All checks, and what they come to.
#[derive(Debug)]
pub struct Core {
    bounds: Bounds,
    services: Vec<Service>,
    destinations: Vec<Destination>,
    checks: Vec<Check>,
    probes: Vec<Probe>,
    by_name: HashMap<(ServiceKey, SocketAddr), usize>,
    /// Which probe a run is of.
    runs: HashMap<u64, usize, FixedState>,
    timers: Timers,
    /// Of probes over the network, and of processes.
    queues: [Queue; 2],
    random: Random,
    last_run: u64,
    events: Vec<Event>,
    orders: Vec<Order>,
    cancelled: Vec<Run>,
    /// Services with passive checks.
    watched: Vec<ServiceKey>,
    /// What [`Core::slice`] says.
    slice: Duration,
    /// Services of which something has changed that is not settled yet.
    dirty: Vec<usize>,
}

impl Core {
    /// Checks nothing yet. The seed spreads probes in time.
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds: Bounds { probes: bounds.probes.max(1), processes: bounds.processes.max(1) },
            services: Vec::new(),
            destinations: Vec::new(),
            checks: Vec::new(),
            probes: Vec::new(),
            by_name: HashMap::new(),
            runs: HashMap::default(),
            timers: Timers::default(),
            queues: Default::default(),
            random: Random(seed),
            last_run: 0,
            events: Vec::new(),
            orders: Vec::new(),
            cancelled: Vec::new(),
            watched: Vec::new(),
            slice: schedule::SLICE_MAX,
            dirty: Vec::new(),
        }
    }

    /// The services with passive checks: what is seen of connections to their destinations is for [`Core::observe`].
    pub fn watched(&self) -> &[ServiceKey] {
        &self.watched
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// The weights that changed since the last call, in the order in which they are to be set.
    pub fn take_orders(&mut self) -> Vec<Order> {
        let mut orders = core::mem::take(&mut self.orders);
        orders.sort_by_key(|order| order.weight == 0);
        orders
    }

    /// Runs whose results nobody waits for any more. They do not count among those that run.
    pub fn take_cancelled(&mut self) -> Vec<Run> {
        core::mem::take(&mut self.cancelled)
    }

    /// How many different probes there are for all checks.
    pub fn probes(&self) -> usize {
        self.probes.len()
    }

    /// How many checks there are.
    pub fn checks(&self) -> usize {
        self.checks.len()
    }

    /// How many probes run.
    pub fn running(&self) -> usize {
        self.runs.len()
    }
}

/// What people, or the program on their behalf, set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The weight that `uvs adm` gave; `None` takes it back.
    Adm(Option<u32>),
    /// The weight that a person gave; `None` takes it back.
    Operator(Option<u32>),
    /// The administrative state.
    Admin(crate::weight::Admin),
}

impl Core {
    /// The index of a destination, by its service and its name within it. It holds until the next plan.
    pub fn find(&self, service: &ServiceKey, destination: SocketAddr) -> Option<usize> {
        self.by_name.get(&(*service, destination)).copied()
    }
}
