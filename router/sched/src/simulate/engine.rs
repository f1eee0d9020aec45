//! One policy through one plan, in virtual time.

use std::collections::{BinaryHeap, HashMap};

use uvs_director::scheduler::{Candidate, Event as Answer, Flow, Load, Response, Scheduler};
use uvs_director::{Duration, Instant};

use super::plan::{Change, Plan, What};
use crate::service::{Random, destination, flow};

/// How often the imbalance is looked at in a run.
pub(crate) const SAMPLES: u32 = 480;

/// What became of the plan.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Where each connection went, in order of arrival: a destination from 0.
    pub(crate) picks: Vec<Option<u32>>,
    /// What the shadow would have done.
    pub(crate) shadow: Vec<Option<u32>>,
    /// Connections each destination got.
    pub(crate) placed: Vec<u64>,
    /// What each should have got by weight, given which were eligible at each arrival.
    pub(crate) ideal: Vec<f64>,
    pub(crate) refused: u64,
    /// Cut off by a failing destination.
    pub(crate) lost: u64,
    /// How long each connection waited for its answer, in seconds.
    pub(crate) waits: Vec<f64>,
    pub(crate) samples: Vec<Sample>,
    /// For each change of the plan.
    pub(crate) disruptions: Vec<Disruption>,
    /// Of connections of a client that came before, with no change of the set between: all, and those that went
    /// elsewhere.
    pub(crate) calm: (u64, u64),
}

/// The load at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: f64,
    /// Standard deviation of active connections per weight, over their mean; 0 when there are none.
    pub(crate) cv: f64,
    /// The largest of them over the mean.
    pub(crate) peak: f64,
    pub(crate) active: Vec<u32>,
}

/// What a change of the set did to clients that came before and after it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disruption {
    /// Clients whose destination could still serve them.
    pub(crate) could_stay: u64,
    /// Of them, those that went elsewhere all the same.
    pub(crate) moved: u64,
    /// Clients whose destination was gone.
    pub(crate) had_to_move: u64,
}

/// What is due, by time, then in order of entry.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: u64,
    order: u64,
    what: Event,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// Of a connection on this destination in this life of it.
    Ends(usize, u32),
    Forgotten(usize, u32),
    /// The destination answers, so many nanoseconds after it was asked.
    Answers(usize, u32, u64),
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order)) // the earliest on top
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Server {
    weight: u32,
    present: bool,
    quiesced: bool,
    /// Counts how often it died: what happens to connections of an earlier life is past.
    life: u32,
    load: Load,
    /// It takes longer to answer.
    slow: bool,
}

/// How many times as long a destination takes that has slowed down.
const SLOWDOWN: f64 = 100.0;

/// The director's part.
struct Run<'a> {
    plan: &'a Plan,
    servers: Vec<Server>,
    /// Positions: which destination, the one added last first.
    list: Vec<usize>,
    /// Where each destination is in `list`, if it is there.
    positions: Vec<u32>,
    /// Those whose load the scheduler does not know, and whether each is among them.
    dirty: Vec<usize>,
    is_dirty: Vec<bool>,
    /// Answers since the last pick: by whom, and after how many nanoseconds.
    heard: Vec<(usize, u64)>,
    /// Connections asked for since the last change of the set.
    asked: u64,
    due: BinaryHeap<Due>,
    order: u64,
    /// Where each client went last, and after how many changes of the set.
    last: HashMap<u32, (usize, usize)>,
    done_changes: usize,
    out: Outcome,
}

/// Runs `scheduler` through the plan; `shadow` is asked the same questions, and what it answers is only noted.
pub(crate) fn run(plan: &Plan, scheduler: &mut dyn Scheduler, shadow: Option<&mut dyn Scheduler>) -> Outcome {
    let count = plan.weights.len();
    let server = |&weight: &u32| Server {
        weight,
        present: true,
        quiesced: false,
        life: 0,
        load: Load::default(),
        slow: false,
    };
    let mut run = Run {
        plan,
        servers: plan.weights.iter().map(server).collect(),
        list: (0..count).rev().collect(),
        positions: vec![0; count],
        dirty: Vec::new(),
        is_dirty: vec![false; count],
        heard: Vec::new(),
        asked: 0,
        due: BinaryHeap::new(),
        order: 0,
        last: HashMap::new(),
        done_changes: 0,
        out: Outcome {
            placed: vec![0; count],
            ideal: vec![0.0; count],
            disruptions: vec![Disruption::default(); plan.changes.len()],
            ..Outcome::default()
        },
    };
    let mut everybody: Vec<&mut dyn Scheduler> = vec![scheduler];
    everybody.extend(shadow.map(|shadow| shadow as &mut dyn Scheduler));
    run.tell(&mut everybody);

    let mut arrivals = plan.arrivals.iter().enumerate().peekable();
    let mut changes = plan.changes.iter().filter(|change| change.at < plan.end).peekable();
    let mut samples = (0..=SAMPLES).map(|n| plan.end * f64::from(n) / f64::from(SAMPLES)).peekable();
    loop {
        let arrival = arrivals.peek().map_or(f64::INFINITY, |(_, arrival)| arrival.at);
        let change = changes.peek().map_or(f64::INFINITY, |change| change.at);
        let sample = samples.peek().copied().unwrap_or(f64::INFINITY);
        let next = arrival.min(change).min(sample);
        if next.is_infinite() {
            run.credit();
            return run.out;
        }
        run.settle(instant(next));
        if change <= next {
            run.credit();
            let change = changes.next().expect("it was peeked at");
            run.change(change);
            if change.what.changes_the_set() {
                run.tell(&mut everybody);
            }
        } else if arrival <= next {
            let (n, _) = arrivals.next().expect("it was peeked at");
            run.arrive(n, &mut everybody);
        } else {
            samples.next();
            run.sample(next);
        }
    }
}

impl Run<'_> {
    /// Divides what was asked for since the last change by weight, as an ideal policy would.
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    fn credit(&mut self) {
        let eligible: Vec<usize> = (0..self.servers.len()).filter(|&number| self.eligible(number)).collect();
        let total: f64 = eligible.iter().map(|&number| self.weight(number)).sum();
        for number in eligible {
            self.out.ideal[number] += self.asked as f64 * self.weight(number) / total;
        }
        self.asked = 0;
    }

    /// Passes the whole set.
    fn tell(&mut self, everybody: &mut [&mut dyn Scheduler]) {
        let candidates: Vec<Candidate> = self.list.iter().map(|&number| self.candidate(number)).collect();
        for (position, &number) in (0u32..).zip(&self.list) {
            self.positions[number] = position;
        }
        self.dirty.clear();
        self.is_dirty.fill(false);
        for scheduler in everybody {
            scheduler.update(&candidates);
        }
    }

    fn candidate(&self, number: usize) -> Candidate {
        let server = &self.servers[number];
        let weight = if server.quiesced { 0 } else { server.weight };
        let count = self.servers.len();
        let index = u32::try_from(number).expect("destinations are few");
        let generation = u32::try_from(count).expect("destinations are few").wrapping_mul(server.life);
        // One that comes back is another to the director, at the same address.
        Candidate { id: index.wrapping_add(generation), load: server.load, ..destination(index, weight) }
    }

    /// Does what is due up to a moment.
    fn settle(&mut self, now: Instant) {
        while self.due.peek().is_some_and(|due| due.at <= now.as_nanos()) {
            let Some(Due { at, what, .. }) = self.due.pop() else { return };
            match what {
                Event::Ends(number, life) if self.servers[number].life == life => {
                    let load = &mut self.servers[number].load;
                    load.active -= 1;
                    load.inactive += 1;
                    let forgotten = at.saturating_add(nanos(self.plan.linger));
                    self.later(forgotten, Event::Forgotten(number, life));
                    self.touch(number);
                }
                Event::Forgotten(number, life) if self.servers[number].life == life => {
                    self.servers[number].load.inactive -= 1;
                    self.touch(number);
                }
                Event::Answers(number, life, took) if self.servers[number].life == life => {
                    self.heard.push((number, took));
                }
                Event::Ends(..) | Event::Forgotten(..) | Event::Answers(..) => {}
            }
        }
    }

    fn later(&mut self, at: u64, what: Event) {
        self.order += 1;
        self.due.push(Due { at, order: self.order, what });
    }

    fn touch(&mut self, number: usize) {
        if self.servers[number].present && !core::mem::replace(&mut self.is_dirty[number], true) {
            self.dirty.push(number);
        }
    }

    fn eligible(&self, number: usize) -> bool {
        let server = &self.servers[number];
        server.present && !server.quiesced && server.weight > 0
    }

    fn change(&mut self, change: &Change) {
        let number = change.destination;
        let server = &mut self.servers[number];
        match change.what {
            What::Fails => {
                self.out.lost += u64::from(server.load.active);
                server.present = false;
                server.life += 1;
                server.load = Load::default();
                self.list.retain(|&other| other != number);
            }
            What::Returns => {
                server.present = true;
                self.list.insert(0, number);
            }
            What::Quiesced => server.quiesced = true,
            What::Resumes => server.quiesced = false,
            What::Slows => server.slow = true,
            What::Recovers => server.slow = false,
        }
        self.done_changes += 1;
    }

    fn arrive(&mut self, n: usize, everybody: &mut [&mut dyn Scheduler]) {
        let arrival = self.plan.arrivals[n];
        let now = instant(arrival.at);
        self.asked += 1;
        let mut changed: Vec<(u32, Load)> = Vec::with_capacity(self.dirty.len());
        for number in self.dirty.drain(..) {
            self.is_dirty[number] = false;
            changed.push((self.positions[number], self.servers[number].load));
        }
        let flow = arrival_flow(self.plan, n);
        let answers: Vec<Answer> = self
            .heard
            .drain(..)
            .filter(|&(number, _)| self.servers[number].present)
            .map(|(number, took)| Answer {
                position: self.positions[number],
                response: Response::Answered,
                elapsed: Duration::from_nanos(took),
            })
            .collect();
        if !answers.is_empty() {
            let listeners = everybody.iter_mut().filter(|scheduler| scheduler.wants_feedback());
            listeners.for_each(|scheduler| scheduler.observe(&answers, now));
        }
        let mut picks = everybody.iter_mut().map(|scheduler| scheduler.schedule(&flow, &changed, now));
        let pick = picks.next().flatten().and_then(|position| self.list.get(position as usize).copied());
        let shadow =
            picks.next().map(|pick| pick.and_then(|position| self.list.get(position as usize).copied()));
        let index = |number: usize| u32::try_from(number).expect("destinations are few");
        self.out.shadow.extend(shadow.map(|pick| pick.map(index)));
        self.out.picks.push(pick.map(index));
        match pick.filter(|&number| self.eligible(number)) {
            Some(number) => self.place(n, number),
            None => self.out.refused += 1,
        }
    }

    fn place(&mut self, n: usize, number: usize) {
        let arrival = self.plan.arrivals[n];
        self.out.placed[number] += 1;
        self.servers[number].load.active += 1;
        self.touch(number);
        let ends = nanos(arrival.at + arrival.seconds);
        let life = self.servers[number].life;
        self.later(ends, Event::Ends(number, life));
        // Half of it is sure, half of it chance: the same for each policy.
        let chance = -(1.0 - Random::new(self.plan.seed ^ (n as u64) << 20).unit()).ln();
        let factor = if self.servers[number].slow { SLOWDOWN } else { 1.0 };
        let wait = self.plan.answers[number] * factor * (0.5 + 0.5 * chance);
        self.out.waits.push(wait);
        self.later(nanos(arrival.at + wait), Event::Answers(number, life, nanos(wait)));

        let Some((before, changes)) = self.last.insert(arrival.client, (number, self.done_changes)) else {
            return;
        };
        let moved = u64::from(before != number);
        if changes == self.done_changes {
            self.out.calm.0 += 1;
            self.out.calm.1 += moved;
        } else if changes + 1 == self.done_changes {
            // Its first connection since the last change; those who slept through several tell nothing of any.
            let could_stay = self.eligible(before);
            let disruption = &mut self.out.disruptions[changes];
            if could_stay {
                disruption.could_stay += 1;
                disruption.moved += moved;
            } else {
                disruption.had_to_move += 1;
            }
        }
    }

    fn sample(&mut self, at: f64) {
        let active = |number: usize| f64::from(self.servers[number].load.active);
        let numbers: Vec<usize> = (0..self.servers.len()).filter(|&number| self.eligible(number)).collect();
        let weight: f64 = numbers.iter().map(|&number| self.weight(number)).sum();
        let mean = numbers.iter().map(|&number| active(number)).sum::<f64>() / weight;
        let (mut cv, mut peak) = (0.0, 0.0);
        if mean > 0.0 {
            let each = |number: usize| active(number) / self.weight(number) / mean;
            let variance =
                numbers.iter().map(|&n| self.weight(n) * (each(n) - 1.0).powi(2)).sum::<f64>() / weight;
            cv = variance.sqrt();
            peak = numbers.iter().map(|&number| each(number)).fold(0.0, f64::max);
        }
        let active = self.servers.iter().map(|server| server.load.active).collect();
        self.out.samples.push(Sample { at, cv, peak, active });
    }

    fn weight(&self, number: usize) -> f64 {
        f64::from(self.servers[number].weight)
    }
}

/// What the `n`th connection looks like.
pub(crate) fn arrival_flow(plan: &Plan, n: usize) -> Flow {
    let client = plan.arrivals[n].client;
    let port = u16::try_from(1024 + n % 60_000).expect("it is a port");
    let asked = 0xc000_020a + client % plan.addresses;
    Flow { virtual_addr: core::net::Ipv4Addr::from_bits(asked).into(), ..flow(client, port) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds are neither negative nor many"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn instant(seconds: f64) -> Instant {
    Instant::from_nanos(nanos(seconds))
}
