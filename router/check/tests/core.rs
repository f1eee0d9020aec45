//! The core in virtual time: a world of servers that answer as they are told to.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_check::core::{Bounds, Core, Event, Order, Run, Start, State, What};
use uvs_check::net::Target;
use uvs_check::outcome::{Outcome, Says, Verdict};
use uvs_check::spec::{CheckPlan, DestinationPlan, Kind, Plan, ProbeSpec, Schedule, ServicePlan, Talk};
use uvs_check::weight::Admin;
use uvs_director::spec::{Protocol, ServiceKey};
use uvs_director::{Duration, Instant};

mod core_tests {
    mod agents;
    mod passive;
    mod pools;
    mod properties;
    mod reload;
    mod states;
    mod timing;
}

const SECOND: Duration = Duration::from_secs(1);

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, addr: SocketAddr::from(([192, 0, 2, 80], port)) }
}

fn addr(host: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 8080))
}

/// Every second, without jitter, within half a second.
const SCHEDULE: Schedule =
    Schedule { interval: SECOND, fast: SECOND, down: SECOND, timeout: Duration::from_millis(500), jitter: 0 };

fn probe(kind: Kind, host: u16) -> Arc<ProbeSpec> {
    Arc::new(ProbeSpec { kind, target: Target::direct(addr(host)), schedule: SCHEDULE })
}

fn check_of(name: &str, probe: Arc<ProbeSpec>) -> CheckPlan {
    CheckPlan { name: name.into(), probe, rise: 2, fall: 3, unmade: Default::default() }
}

fn tcp(host: u16) -> CheckPlan {
    check_of("tcp", probe(Kind::Tcp(Talk::default()), host))
}

fn destination(host: u16, checks: Vec<CheckPlan>) -> DestinationPlan {
    DestinationPlan {
        addr: addr(host),
        weight: Some(10),
        adm: None,
        admin: Admin::Ready,
        backup: false,
        serves: false,
        checks,
    }
}

fn service(port: u16, destinations: Vec<DestinationPlan>) -> ServicePlan {
    let (quorum, policy) = Default::default();
    ServicePlan { key: key(port), quorum, policy, judged: true, destinations }
}

/// Hosts 1 to `count`, each with a TCP check.
fn plain(count: u16) -> ServicePlan {
    service(80, (1..=count).map(|host| destination(host, vec![tcp(host)])).collect())
}

fn plan(services: impl Into<Vec<ServicePlan>>) -> Plan {
    Plan { services: services.into(), drain: None }
}

/// How a host answers.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Pass,
    Fail,
    Unmade,
    /// A result never comes.
    Stuck,
    Says(Says),
}

struct World {
    core: Core,
    now: Instant,
    /// How hosts answer; the others pass.
    answers: HashMap<u16, Answer>,
    /// How long a probe takes.
    takes: Duration,
    running: Vec<(Instant, Start)>,
    /// When which host was probed.
    probed: Vec<(Instant, u16)>,
    events: Vec<Event>,
    weights: HashMap<(ServiceKey, SocketAddr), u32>,
    orders: Vec<Order>,
    most: usize,
}

impl World {
    fn new(plan: Plan) -> Self {
        Self::bounded(plan, Bounds::default())
    }

    fn bounded(plan: Plan, bounds: Bounds) -> Self {
        let mut world = Self {
            core: Core::new(bounds, 7),
            now: Instant::ZERO,
            answers: HashMap::new(),
            takes: Duration::from_millis(10),
            running: Vec::new(),
            probed: Vec::new(),
            events: Vec::new(),
            weights: HashMap::new(),
            orders: Vec::new(),
            most: 0,
        };
        world.apply(plan);
        world
    }

    fn apply(&mut self, plan: Plan) {
        self.core.apply(plan, self.now);
        self.listen();
    }

    fn answers(&mut self, host: u16, answer: Answer) {
        self.answers.insert(host, answer);
    }

    fn listen(&mut self) {
        self.events.extend(self.core.take_events());
        for run in self.core.take_cancelled() {
            self.running.retain(|(_, start)| start.run != run);
        }
        let orders = self.core.take_orders();
        for order in &orders {
            self.weights.insert((order.service, order.destination), order.weight);
        }
        self.orders.extend(orders);
    }

    fn poll(&mut self) {
        let mut starts = Vec::new();
        self.core.poll(self.now, &mut starts);
        for start in starts {
            self.probed.push((self.now, host(&start)));
            self.running.push((self.now + self.takes, start));
        }
        self.most = self.most.max(self.core.running());
        self.listen();
    }

    /// Goes on until `end`.
    fn run_until(&mut self, end: Instant) {
        loop {
            self.poll();
            let stuck = |start: &Start| self.answers.get(&host(start)) == Some(&Answer::Stuck);
            let result = self.running.iter().filter(|(_, start)| !stuck(start)).map(|(at, _)| *at).min();
            let next = result.into_iter().chain(self.core.next_due()).min().unwrap_or(Instant::MAX);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            let due: Vec<Run> = self
                .running
                .iter()
                .filter(|(at, start)| *at <= self.now && !stuck(start))
                .map(|(_, start)| start.run)
                .collect();
            for run in due {
                self.finish(run);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn finish(&mut self, run: Run) {
        let Some(at) = self.running.iter().position(|(_, start)| start.run == run) else { return };
        let (_, start) = self.running.swap_remove(at);
        let (verdict, says) = match self.answers.get(&host(&start)).cloned().unwrap_or(Answer::Pass) {
            Answer::Pass => (Verdict::Pass("fine".into()), Says::default()),
            Answer::Fail | Answer::Stuck => (Verdict::Fail("refused".into()), Says::default()),
            Answer::Unmade => (Verdict::Unmade("no route".into()), Says::default()),
            Answer::Says(says) => (Verdict::Pass("said".into()), says),
        };
        self.core.finish(run, Outcome { verdict, took: self.takes, says }, self.now);
    }

    fn weight(&self, port: u16, host: u16) -> u32 {
        self.weights.get(&(key(port), addr(host))).copied().unwrap_or_default()
    }

    fn weights(&self, hosts: impl IntoIterator<Item = u16>) -> Vec<u32> {
        hosts.into_iter().map(|host| self.weight(80, host)).collect()
    }

    fn state(&self, port: u16, host: u16) -> State {
        let view =
            self.core.view().into_iter().find(|service| service.key == key(port)).expect("it is in the plan");
        let destination =
            view.destinations.into_iter().find(|known| known.addr == addr(host)).expect("it is in the plan");
        destination.checks[0].state
    }

    /// Events of this kind, since the last call.
    fn told(&mut self) -> Vec<What> {
        self.events.drain(..).map(|event| event.what).collect()
    }
}

fn host(start: &Start) -> u16 {
    let core::net::IpAddr::V4(address) = start.probe.target.address else { unreachable!("all are IPv4") };
    let [.., high, low] = address.octets();
    u16::from_be_bytes([high, low])
}
