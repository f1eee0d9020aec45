//! The nodes, the link between them, and what happens to both.

use core::cmp::{Ordering, Reverse};
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use uvs_director::Instant;
use uvs_ha::plan::{AnnouncePlan, GroupPlan, Plan, RouterPlan, TrackPlan};
use uvs_ha::vrrp::{Command, Output, State, Vrrp};
use uvs_ha::wire::{ChecksumForm, Datagram, Interval, LEAVING, OWNER, TTL, Version};

use crate::check::Pair;
use crate::faults::Fault;
use crate::node::{Node, Summary, WEIGHT};
use crate::random::Random;

/// What is done wrong on purpose, outside of the state machine, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Nothing.
    None,
    /// The clock of a node stands still with it, so that it cannot know that it slept.
    FrozenClock,
    /// Messages with other addresses than a node's own are dropped, as by keepalived up to 2.3.2.
    AddressCheck,
    /// Messages with another interval than a node's own are dropped, as RFC 3768 asks.
    IntervalCheck,
    /// The first node, while Backup, does not come back at the moment that it is told.
    Sleepy,
}

/// Messages that wait for a process that stands still; more are lost.
const INBOX: usize = 64;

#[derive(Clone, Debug)]
enum What {
    Deliver { from: usize, to: usize, router: usize, message: Rc<[u8]> },
    Tick { node: usize, stamp: u64 },
    Fault(Fault),
    Undo(Undo),
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    Cut {
        from: usize,
        to: usize,
    },
    Loss(u8),
    Pause(usize),
    Death(usize),
    Reload(usize),
    Weight(usize),
    Plug(usize),
    Maintenance(usize),
    /// What happened to a node is over only now.
    Disturbed(usize),
    /// From now on nothing is lost.
    Calm,
}

struct Timed {
    at: Instant,
    number: u64,
    what: What,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub(crate) struct World {
    random: Random,
    plant: Plant,
    trace: bool,
    pub(crate) now: Instant,
    end: Instant,
    pub(crate) nodes: Vec<Node>,
    /// How many virtual routers each node has.
    pub(crate) routers: usize,
    /// Whether these are one sync group.
    pub(crate) grouped: bool,
    names: Vec<Arc<str>>,
    interfaces: Vec<String>,
    pub(crate) version: Version,
    unicast: bool,
    /// The longest interval.
    unit: Duration,
    /// The shortest one.
    shortest: Duration,
    pub(crate) delay_max: Duration,
    pub(crate) late_max: Duration,
    /// In percent.
    loss: u8,
    copies: u8,
    cuts: Vec<Vec<u32>>,
    events: BinaryHeap<Reverse<Timed>>,
    numbers: u64,
    pub(crate) pairs: Vec<Vec<Vec<Pair>>>,
    pub(crate) none_since: Vec<Option<Instant>>,
    /// Whether all nodes preempt and nobody was asked to hand over.
    pub(crate) all_preempt: bool,
    error: Option<String>,
    pub(crate) summary: Summary,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Plant, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let version = if random.percent(25) { Version::V2 } else { Version::V3 };
        let is_v6 = version == Version::V3 && random.percent(30);
        let longest = if version == Version::V2 { 200 } else { random.pick(&[100, 100, 50, 10]) };
        let differ = random.percent(25);
        let count = 2 + random.below(3);
        let routers = 1 + random.below(2);
        let grouped = routers > 1 && random.percent(70);
        let has_owner = random.percent(10);
        let same = random.percent(25);
        let nopreempt = random.percent(25);
        let delays = random.percent(20);
        let unit = Interval::from_centis(longest).unwrap().duration();
        let source = |node: usize, router: usize| {
            // On the second link addresses are in the other order, where that must not matter.
            let host = u8::try_from(if router == 1 && grouped { 9 - node } else { node + 1 }).unwrap();
            match is_v6 {
                true => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, u16::try_from(router).unwrap(), host.into()]),
                false => IpAddr::from([192, 0, u8::try_from(router).unwrap() + 2, host]),
            }
        };
        let nodes = (0..count).map(|index| {
            let configured = match (has_owner && index == 0, same) {
                (true, _) => OWNER,
                (false, true) => 100,
                (false, false) => u8::try_from(1 + random.below(254)).unwrap(),
            };
            let half = differ && random.percent(50);
            Node {
                vrrp: None,
                configured,
                interval: Interval::from_centis(if half { longest / 2 } else { longest }).unwrap(),
                preempt: !(nopreempt && random.percent(50)),
                preempt_delay: if delays { unit * 3 } else { Duration::ZERO },
                sources: (0..routers).map(|router| source(index, router)).collect(),
                reloaded: false,
                weighed: false,
                unplugged: false,
                maintained: false,
                awaits: Instant::ZERO,
                paused_until: None,
                dead_until: None,
                ahead: i128::from(100_000 + random.below(1_000_000) as u64) * 1_000_000_000,
                misled: false,
                inbox: VecDeque::new(),
                owns: vec![BTreeSet::new(); routers],
                stamp: 0,
                undisturbed: Instant::ZERO,
                listens_until: None,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let all_preempt = nodes.iter().all(|node| node.preempt);
        let shortest = nodes.iter().map(|node| node.interval.duration()).min().unwrap();
        let delay_max = random.pick(&[unit / 100, unit / 20, unit / 5]);
        let loss = random.pick(&[0, 0, 1, 5]);
        let mut world = Self {
            plant,
            trace,
            now: Instant::ZERO,
            end: Instant::ZERO + unit * 75,
            routers,
            grouped,
            names: (0..routers).map(|router| format!("r{router}").into()).collect(),
            interfaces: (0..routers).map(|router| format!("eth{router}")).collect(),
            version,
            unicast: random.percent(20),
            unit,
            shortest,
            delay_max,
            late_max: unit / 50,
            loss,
            copies: random.pick(&[0, 2, 10]),
            cuts: vec![vec![0; count]; count],
            events: BinaryHeap::new(),
            numbers: 0,
            pairs: vec![vec![vec![Pair::default(); count]; count]; routers],
            none_since: vec![None; routers],
            all_preempt,
            error: None,
            summary: Summary::default(),
            nodes,
            random,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        for _ in 0..3 + self.random.below(10) {
            let at = Instant::ZERO + self.random.between(Duration::ZERO, self.unit * 40);
            let fault = Fault::any(&mut self.random, self.nodes.len(), self.unit);
            self.at(at, What::Fault(fault));
        }
        self.at(Instant::ZERO + self.unit * 60, What::Undo(Undo::Calm));
        for node in 0..self.nodes.len() {
            // Some start together, some apart.
            let time = self.random.pick(&[Duration::ZERO, self.unit * 2, self.unit * 9]);
            self.nodes[node].dead_until = Some(Instant::ZERO + time);
            self.at(Instant::ZERO + time, What::Undo(Undo::Death(node)));
        }
    }

    fn at(&mut self, at: Instant, what: What) {
        self.numbers += 1;
        self.events.push(Reverse(Timed { at, number: self.numbers, what }));
    }

    fn after(&mut self, time: Duration, undo: Undo) {
        self.at(self.now + time, What::Undo(undo));
    }

    /// Whether a node that runs has the addresses of a virtual router.
    pub(crate) fn has(&self, node: usize, router: usize) -> bool {
        self.nodes[node].runs() && !self.nodes[node].owns[router].is_empty()
    }

    /// By what the better one of two is told.
    pub(crate) fn rank(&self, node: usize) -> (u8, IpAddr) {
        (self.nodes[node].priority(), self.nodes[node].sources[0])
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(mut self) -> Result<Summary, String> {
        while let Some(Reverse(Timed { at, what, .. })) = self.events.pop() {
            if at > self.end {
                break;
            }
            self.now = at;
            match what {
                What::Deliver { from, to, router, message } => self.deliver(from, to, router, message),
                What::Tick { node, stamp } if self.nodes[node].stamp == stamp && self.nodes[node].runs() => {
                    self.tick(node);
                }
                What::Tick { .. } => {}
                What::Fault(fault) => self.strike(fault),
                What::Undo(undo) => self.undo(undo),
            }
            let error = self.error.take();
            if let Err(violation) = error.map_or(Ok(()), Err).and_then(|()| self.check()) {
                return Err(format!("at {} ms: {violation}", self.now.as_millis()));
            }
        }
        self.now = self.end;
        self.check_end()?;
        Ok(self.summary)
    }

    fn told(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} ms  {}", self.now.as_millis(), what());
        }
    }

    fn plan(&self, index: usize) -> Plan {
        let node = &self.nodes[index];
        let track =
            |name: &str, weight| TrackPlan { name: name.into(), weight, reverse: false, presumed_up: true };
        let routers = (0..self.routers).map(|router| RouterPlan {
            name: Arc::clone(&self.names[router]),
            interface: self.interfaces[router].as_str().into(),
            vrid: 7,
            version: self.version,
            priority: node.configured,
            interval: node.interval,
            source: node.sources[router],
            addresses: self.addresses(index, router),
            unadvertised: vec![],
            preempt: node.preempt,
            preempt_delay: node.preempt_delay,
            peers: match self.unicast {
                true => self.peers(index).map(|peer| self.nodes[peer].sources[router]).collect(),
                false => vec![],
            },
            ttl_min: TTL,
            password: None,
            checksum: if index == 0 { ChecksumForm::Rfc5798 } else { ChecksumForm::Rfc9568 },
            announce: AnnouncePlan { repeat: 1, delay: Duration::ZERO, ..AnnouncePlan::default() },
            track: vec![track("web", WEIGHT), track("link", 0)],
        });
        let group = GroupPlan { name: "group".into(), members: self.names.clone(), track: vec![] };
        let groups = self.grouped.then_some(group).into_iter().collect();
        Plan { routers: routers.collect(), groups }
    }

    fn peers(&self, of: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |peer| *peer != of)
    }

    fn addresses(&self, node: usize, router: usize) -> Vec<IpAddr> {
        let router = u8::try_from(router).unwrap();
        let address = |host: u8| match self.nodes[node].sources[0] {
            IpAddr::V4(_) => IpAddr::from([10, 0, router, host]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, router.into(), host.into()]),
        };
        let count = if self.nodes[node].reloaded { 2 } else { 1 };
        (100..100 + count).map(address).collect()
    }

    /// Lets a node do something at the moment that its clock says, and does what it wants done.
    fn call(&mut self, index: usize, act: impl FnOnce(&mut Vrrp, Instant)) {
        let now = self.clock(index);
        self.nodes[index].misled = false;
        let Some(vrrp) = self.nodes[index].vrrp.as_mut() else { return };
        act(vrrp, now);
        let outputs = vrrp.take_outputs();
        let due = vrrp.next_due();
        for output in outputs {
            self.obey(index, output);
        }
        self.nodes[index].stamp += 1;
        if let Some(due) = due {
            // It sleeps for so long, whatever is done to its clock meanwhile.
            let late = self.random.between(Duration::ZERO, self.late_max);
            let at = self.now + due.since(now) + late;
            let stamp = self.nodes[index].stamp;
            let sleeps_on = self.plant == Plant::Sleepy
                && index == 0
                && self.nodes[0].owns.iter().all(BTreeSet::is_empty);
            if !sleeps_on {
                self.at(at, What::Tick { node: index, stamp });
            }
        }
        self.compare(index);
    }

    fn clock(&self, index: usize) -> Instant {
        let nanos = i128::from(self.now.as_nanos()) + self.nodes[index].ahead;
        Instant::from_nanos(u64::try_from(nanos.max(0)).unwrap())
    }

    fn obey(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { router, to, message, .. } => {
                let at = self.names.iter().position(|name| *name == router).unwrap();
                let message: Rc<[u8]> = message.into();
                for peer in self.peers(index) {
                    if !self.unicast || self.nodes[peer].sources[at] == to {
                        self.send(index, peer, at, &message);
                    }
                }
            }
            Output::Own { router, addresses } => {
                let at = self.names.iter().position(|name| *name == router).unwrap();
                if self.now < self.nodes[index].awaits {
                    self.error.get_or_insert(format!("node {index} does not wait for its snapshot"));
                }
                let owned = &mut self.nodes[index].owns[at];
                self.summary.takeovers += u64::from(owned.is_empty());
                owned.extend(addresses);
                self.told(|| format!("{index} owns {router}"));
            }
            Output::Disown { router, addresses } => {
                let at = self.names.iter().position(|name| *name == router).unwrap();
                self.nodes[index].owns[at].retain(|ip| !addresses.contains(ip));
                self.told(|| format!("{index} disowns {router} {addresses:?}"));
            }
            Output::Announce { router, addresses, .. } => {
                let at = self.names.iter().position(|name| *name == router).unwrap();
                if !addresses.iter().all(|ip| self.nodes[index].owns[at].contains(ip)) {
                    self.error.get_or_insert(format!("node {index} announces what it has not"));
                }
            }
            Output::Event(event) => self.told(|| format!("{index} {event:?}")),
            Output::Notify(_) => {}
        }
    }

    /// What a node has is what its state and its plan say.
    fn compare(&mut self, index: usize) {
        let node = &self.nodes[index];
        let Some(vrrp) = &node.vrrp else { return };
        for router in 0..self.routers {
            let wanted: BTreeSet<IpAddr> = match vrrp.state(&self.names[router]) {
                Some(State::Active) => self.addresses(index, router).into_iter().collect(),
                _ => BTreeSet::new(),
            };
            if wanted != node.owns[router] {
                let owns = &node.owns[router];
                self.error.get_or_insert(format!("node {index} has {owns:?} of {router}, not {wanted:?}"));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, router: usize, message: &Rc<[u8]>) {
        self.summary.messages += 1;
        if self.cuts[from][to] > 0 || self.random.percent(self.loss.min(90)) {
            self.summary.lost += 1;
            self.excuse(from, to);
            return;
        }
        for _ in 0..1 + usize::from(self.random.percent(self.copies)) {
            let at = self.now + self.random.between(self.delay_max / 10, self.delay_max);
            self.at(at, What::Deliver { from, to, router, message: Rc::clone(message) });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, router: usize, message: Rc<[u8]>) {
        if self.nodes[to].paused_until.is_some() {
            if self.nodes[to].inbox.len() < INBOX {
                self.nodes[to].inbox.push_back((from, router, message));
            }
            return;
        }
        self.receive(from, to, router, &message);
    }

    fn receive(&mut self, from: usize, to: usize, router: usize, message: &[u8]) {
        let src = self.nodes[from].sources[router];
        let group = uvs_ha::wire::Family::of(src).group();
        let dst = if self.unicast { self.nodes[to].sources[router] } else { group };
        let datagram = Datagram { src, dst, ttl: TTL, payload: message };
        let (advertisement, _) = datagram.parse(TTL).expect("nodes send what can be read");
        let node = &mut self.nodes[to];
        if advertisement.priority == LEAVING {
            node.listens_until = None;
        }
        let dropped = match self.plant {
            Plant::AddressCheck => advertisement.addresses != self.addresses(to, router),
            Plant::IntervalCheck => advertisement.interval != node.interval,
            _ => false,
        };
        if dropped {
            return;
        }
        let interface = self.interfaces[router].clone();
        self.call(to, |vrrp, now| vrrp.receive(&interface, &datagram, now).expect("it is for this node"));
    }

    fn tick(&mut self, node: usize) {
        self.call(node, |vrrp, now| vrrp.tick(now));
    }

    fn active(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.has(*node, 0))
    }

    fn strike(&mut self, fault: Fault) {
        self.summary.faults += 1;
        self.told(|| format!("{fault:?}"));
        match fault {
            Fault::Cut { from, to, time } => self.cut(from, to, time),
            Fault::Split { one, other, time } => {
                self.cut(one, other, time);
                self.cut(other, one, time);
            }
            Fault::Lossy { percent, time } => {
                self.loss += percent;
                self.after(time, Undo::Loss(percent));
            }
            Fault::Pause { node, time } => self.pause(node, time),
            Fault::PauseActive { time } => {
                if let Some(node) = self.active() {
                    self.pause(node, time);
                }
            }
            Fault::Kill { node, time } => self.die(node, time),
            Fault::Stop { node, time } => {
                if self.nodes[node].runs() {
                    self.call_to_stop(node);
                    self.die(node, time);
                }
            }
            Fault::Step { node, forward, by } => self.step(node, forward, by),
            Fault::Reload { node, time } => {
                self.reload(node, true);
                self.after(time, Undo::Reload(node));
            }
            Fault::Weigh { node, time } => {
                self.follow(node, "web", false);
                self.after(time, Undo::Weight(node));
            }
            Fault::Unplug { node, time } => {
                self.follow(node, "link", false);
                self.after(time, Undo::Plug(node));
            }
            Fault::Maintain { node, time } => {
                self.maintain(node, true);
                self.after(time, Undo::Maintenance(node));
            }
            Fault::Failover => {
                let Some(node) = self.active() else { return };
                self.all_preempt = false;
                self.disturb(node);
                let name = Arc::clone(&self.names[0]);
                self.call(node, |vrrp, now| drop(vrrp.command(&name, Command::Failover, now)));
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        self.told(|| format!("over: {undo:?}"));
        match undo {
            Undo::Cut { from, to } => self.cuts[from][to] -= 1,
            Undo::Loss(percent) => self.loss = self.loss.saturating_sub(percent),
            Undo::Pause(node) if self.nodes[node].paused_until == Some(self.now) => self.resume(node),
            Undo::Death(node) if self.nodes[node].dead_until == Some(self.now) => self.start(node),
            Undo::Pause(_) | Undo::Death(_) => {}
            Undo::Reload(node) => self.reload(node, false),
            Undo::Weight(node) => self.follow(node, "web", true),
            Undo::Plug(node) => self.follow(node, "link", true),
            Undo::Maintenance(node) => self.maintain(node, false),
            Undo::Disturbed(node) => self.disturb(node),
            Undo::Calm => self.loss = 0,
        }
    }

    fn cut(&mut self, from: usize, to: usize, time: Duration) {
        self.cuts[from][to] += 1;
        self.after(time, Undo::Cut { from, to });
    }

    fn pause(&mut self, node: usize, time: Duration) {
        if !self.nodes[node].runs() {
            return;
        }
        self.disturb(node);
        self.nodes[node].paused_until = Some(self.now + time);
        if self.plant == Plant::FrozenClock {
            self.nodes[node].ahead -= i128::try_from(time.as_nanos()).unwrap();
        }
        if time >= self.unit * 3 && !self.nodes[node].misled {
            self.summary.late_wakes += u64::from(!self.nodes[node].owns[0].is_empty());
            self.nodes[node].listens_until = Some(self.now + time + self.shortest * 3);
        }
        self.after(time, Undo::Pause(node));
    }

    fn resume(&mut self, node: usize) {
        self.nodes[node].paused_until = None;
        self.disturb(node);
        for router in 0..self.routers {
            // It has them again, be it for a moment.
            if self.has(node, router) {
                self.none_since[router] = None;
            }
        }
        // Whichever it sees first, the time or its messages.
        if self.random.percent(50) {
            self.tick(node);
        }
        for (from, router, message) in core::mem::take(&mut self.nodes[node].inbox) {
            self.receive(from, node, router, &message);
        }
        self.tick(node);
    }

    fn call_to_stop(&mut self, node: usize) {
        let now = self.clock(node);
        let Some(mut vrrp) = self.nodes[node].vrrp.take() else { return };
        vrrp.stop(now);
        for output in vrrp.take_outputs() {
            self.obey(node, output);
        }
        if self.nodes[node].owns.iter().any(|owned| !owned.is_empty()) {
            self.error.get_or_insert(format!("node {node} has ended and left addresses behind"));
        }
    }

    fn die(&mut self, node: usize, time: Duration) {
        self.disturb(node);
        let dead = &mut self.nodes[node];
        (dead.vrrp, dead.paused_until, dead.listens_until) = (None, None, None);
        dead.owns.iter_mut().for_each(BTreeSet::clear);
        dead.inbox.clear();
        dead.dead_until = Some(self.now + time);
        self.after(time, Undo::Death(node));
    }

    fn start(&mut self, node: usize) {
        let now = self.clock(node);
        self.nodes[node].dead_until = None;
        self.nodes[node].maintained = false;
        self.nodes[node].awaits = self.now;
        self.disturb(node);
        let mut vrrp = Vrrp::new(now);
        if self.random.percent(30) {
            let wait = self.random.between(Duration::ZERO, self.unit * 8);
            vrrp.await_snapshot(wait, now);
            self.nodes[node].awaits = self.now + wait;
            self.after(wait, Undo::Disturbed(node));
        }
        for (name, up) in [("web", !self.nodes[node].weighed), ("link", !self.nodes[node].unplugged)] {
            vrrp.track(name, up, now);
        }
        self.nodes[node].vrrp = Some(vrrp);
        let plan = self.plan(node);
        self.call(node, |vrrp, now| vrrp.apply(plan, now).expect("a plan that can be"));
    }

    fn step(&mut self, node: usize, forward: bool, by: Duration) {
        let stepped = &mut self.nodes[node];
        // What waits by its clock would not be over when it should.
        if self.now < stepped.awaits {
            return;
        }
        let by = i128::try_from(by.as_nanos()).unwrap();
        stepped.ahead += if forward { by } else { -by };
        stepped.misled |= !forward;
        if stepped.paused_until.is_some() && !forward {
            stepped.listens_until = None;
        }
        self.disturb(node);
        // Set back, it loses what it has waited since it last looked.
        self.after(self.unit / 4 + self.late_max, Undo::Disturbed(node));
    }

    fn reload(&mut self, node: usize, reloaded: bool) {
        if self.nodes[node].paused_until.is_some() {
            return;
        }
        self.nodes[node].reloaded = reloaded;
        let plan = self.plan(node);
        self.call(node, |vrrp, now| vrrp.apply(plan, now).expect("a plan that can be"));
    }

    fn follow(&mut self, node: usize, what: &str, up: bool) {
        if self.nodes[node].paused_until.is_some() {
            return;
        }
        match what {
            "web" => self.nodes[node].weighed = !up,
            _ => self.nodes[node].unplugged = !up,
        }
        self.disturb(node);
        self.call(node, |vrrp, now| vrrp.track(what, up, now));
    }

    fn maintain(&mut self, node: usize, on: bool) {
        if !self.nodes[node].runs() {
            return;
        }
        self.nodes[node].maintained = on;
        self.disturb(node);
        for name in self.names.clone() {
            let command = Command::Maintenance(on);
            self.call(node, |vrrp, now| vrrp.command(&name, command, now).expect("it is there"));
        }
    }
}
