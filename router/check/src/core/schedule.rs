//! When probes are made, and what their results do.

use uvs_director::{Duration, Instant};

use super::event::{Event, What};
use super::streak::Health;
use super::table::{Check, Last, Phase, Probe};
use super::timers::Owner;
use super::{Core, Edit, Run, Start};
use crate::outcome::{Outcome, Verdict};
use crate::spec::Kind;
use crate::weight::{Admin, Slots, put, replace};

/// So much after its deadline a probe is given up: whoever makes it does not any more.
const GRACE: Duration = Duration::from_secs(1);
/// What cannot be made is tried again after twice the time, up to so many times its interval...
const BACK_OFF_MAX: u32 = 16;
/// ...or, of short intervals, up to this.
const BACK_OFF: Duration = Duration::from_secs(30);

/// Probes are started no more often than this, of many several at a time: each wake costs more than a start. It is this
/// share of the shortest interval...
const SLICE: u32 = 100;
/// ...within these bounds.
const SLICE_MIN: Duration = Duration::from_millis(2);
pub(super) const SLICE_MAX: Duration = Duration::from_millis(20);

/// The slice of those probes.
pub(super) fn slice(probes: &[Probe]) -> Duration {
    let intervals = probes.iter().map(|probe| probe.spec.schedule.fast.min(probe.spec.schedule.interval));
    intervals.min().map_or(SLICE_MAX, |shortest| (shortest / SLICE).clamp(SLICE_MIN, SLICE_MAX))
}

impl Core {
    /// From one start of probes to the next, so long may pass: 1 % of the shortest interval, 2 to 20 ms. Whoever drives
    /// the probes need not wake more often.
    pub fn slice(&self) -> Duration {
        self.slice
    }

    /// The next moment at which [`Core::poll`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let dirty = self.dirty.iter().map(|service| self.settles_at(*service));
        dirty.chain(self.timers.next()).min()
    }

    /// Gives up what is overdue, and says which probes are to be made now. Early or repeated calls are harmless.
    pub fn poll(&mut self, now: Instant, starts: &mut Vec<Start>) {
        while let Some((stamp, owner)) = self.timers.due(now) {
            match owner {
                Owner::Probe(index) if self.probes[index].stamp == stamp => self.probe_due(index, now),
                Owner::Destination(index) if self.destinations[index].stamp == stamp => {
                    self.destinations[index].stamp = 0;
                    self.judge(index, now);
                }
                Owner::Probe(_) | Owner::Destination(_) => {}
            }
        }
        self.settle_all(now);
        for kind in 0..self.queues.len() {
            self.fill(kind, now, starts);
        }
    }

    fn probe_due(&mut self, index: usize, now: Instant) {
        let probe = &mut self.probes[index];
        match probe.phase {
            Phase::Due(at) => {
                probe.phase = Phase::Waiting(at);
                self.queues[usize::from(self.probes[index].is_process())].waiting.push_back(index);
            }
            Phase::Running(run, _) => self.give_up(index, run, now),
            Phase::Idle | Phase::Waiting(_) => {}
        }
    }

    /// The watchdog: whoever makes that probe has not come back with a result.
    fn give_up(&mut self, index: usize, run: u64, now: Instant) {
        self.cancelled.push(Run(run));
        for check in 0..self.probes[index].checks.len() {
            let check = &mut self.checks[self.probes[index].checks[check]];
            check.outcomes.overdue += 1;
            let destination = &self.destinations[check.destination];
            self.events.push(Event {
                at: now,
                service: self.services[destination.service].key,
                what: What::Overdue { destination: destination.addr, check: check.name.clone() },
            });
        }
        let took = self.probes[index].started.map_or(Duration::ZERO, |started| now.since(started));
        let verdict = Verdict::Unmade("its checker gave no result in time".into());
        self.finish(Run(run), Outcome::plain(verdict, took), now);
    }

    fn fill(&mut self, kind: usize, now: Instant, starts: &mut Vec<Start>) {
        let bound = [self.bounds.probes, self.bounds.processes][kind];
        while self.queues[kind].running < bound {
            let Some(index) = self.queues[kind].waiting.pop_front() else { return };
            let Phase::Waiting(due) = self.probes[index].phase else { continue };
            self.queues[kind].running += 1;
            self.last_run += 1;
            let probe = &mut self.probes[index];
            let end = now + probe.spec.schedule.timeout + GRACE;
            probe.phase = Phase::Running(self.last_run, end);
            probe.started = Some(now);
            probe.late = now.since(due);
            probe.stamp = self.timers.set(end, Owner::Probe(index));
            self.runs.insert(self.last_run, index);
            starts.push(Start { run: Run(self.last_run), probe: probe.spec.clone() });
        }
    }

    /// Takes the result of a run. One that nobody waits for (any more) is ignored.
    pub fn finish(&mut self, run: Run, outcome: Outcome, now: Instant) {
        let Some(index) = self.runs.remove(&run.0) else { return };
        let probe = &mut self.probes[index];
        self.queues[usize::from(probe.is_process())].running -= 1;
        probe.phase = Phase::Idle;
        probe.stamp = 0;
        probe.unmade = match outcome.verdict {
            Verdict::Unmade(_) => probe.unmade.saturating_add(1),
            _ => 0,
        };
        let (spec, started) = (probe.spec.clone(), probe.started.unwrap_or(now));
        let mut is_old = false;
        for check in 0..probe.checks.len() {
            let at = self.probes[index].checks[check];
            if started < self.checks[at].renewed {
                is_old = true;
                continue;
            }
            let destination = self.checks[at].destination;
            let before = self.checks[at].state();
            let flapped = self.count(at, &spec.kind, &outcome, now);
            self.tell_of(at, before, outcome.verdict.text(), now);
            let may_weigh = self.may_weigh(at, &spec.kind, &outcome);
            self.says(at, &spec.kind, &outcome, now);
            if flapped {
                self.checks[at].flaps += 1;
            }
            // Most results are as those before, and then nothing depends on them but when the next one is due.
            if self.checks[at].state() != before || may_weigh {
                self.judge(destination, now);
            }
        }
        self.plan(index, now);
        if is_old && matches!(self.probes[index].phase, Phase::Due(_)) {
            self.due_at(index, now);
        }
    }

    /// Whether a result that leaves a check's state as it was can mean something for its destination even so: agents,
    /// programs and files say weights, and a passive check knows more than its state.
    fn may_weigh(&self, at: usize, kind: &Kind, outcome: &Outcome) -> bool {
        matches!(kind, Kind::Agent { .. } | Kind::Passive(_))
            || outcome.says.share.is_some()
            || self.checks[at].script.is_some()
    }

    /// Counts a result for one check. Says whether that made it go down.
    fn count(&mut self, at: usize, kind: &Kind, outcome: &Outcome, now: Instant) -> bool {
        let check = &mut self.checks[at];
        let Check { rise, fall, .. } = *check;
        check.last = Some(Last { at: now, took: outcome.took, text: outcome.verdict.text().clone() });
        let before = check.streak.health();
        let passed = match &outcome.verdict {
            Verdict::Unmade(why) => {
                check.outcomes.unmade += 1;
                check.cannot = Some(why.clone());
                if let Kind::Passive(spec) = kind {
                    check.inhibition.unmade(spec, now);
                }
                return false;
            }
            Verdict::Pass(_) => true,
            Verdict::Fail(_) => false,
        };
        check.cannot = None;
        *(if passed { &mut check.outcomes.passed } else { &mut check.outcomes.failed }) += 1;
        match kind {
            Kind::Agent { .. } => {
                // An agent that is not reached changes nothing; one that says nothing of health does not keep it
                // unchecked.
                match outcome.says.up {
                    Some(up) => check.streak.decide(if up { Health::Up } else { Health::Down }),
                    None if passed && before == Health::Unchecked => check.streak.decide(Health::Up),
                    None => false,
                };
            }
            Kind::Passive(spec) => check.judge_passive(spec, passed, now),
            _ => {
                check.streak.count(passed, rise, fall);
            }
        }
        before == Health::Up && check.streak.health() == Health::Down
    }

    /// What the server says of itself goes into the slots of the destination.
    fn says(&mut self, at: usize, kind: &Kind, outcome: &Outcome, now: Instant) {
        let check = &mut self.checks[at];
        let destination = &mut self.destinations[check.destination];
        if let Some(expires) = outcome.says.expires {
            check.expires = Some(expires);
            if outcome.says.expires_soon && check.told_expires != Some(expires) {
                check.told_expires = Some(expires);
                let what =
                    What::Certificate { destination: destination.addr, check: check.name.clone(), expires };
                let service = self.services[destination.service].key;
                self.events.push(Event { at: now, service, what });
            }
        }
        match (kind, &outcome.verdict) {
            // What it does not mention stays.
            (Kind::Agent { .. }, _) => {
                if let Some(share) = outcome.says.share {
                    put(&mut destination.slots.agent, Some(share), now);
                }
                if let Some(admin) = outcome.says.admin {
                    let before = destination.slots.admin();
                    put(&mut destination.slots.agent_admin, Some(admin), now);
                    let index = check.destination;
                    self.admin_changed(index, before, now);
                }
            }
            (_, Verdict::Unmade(_)) => {}
            // A result without a weight takes back the one before.
            _ if check.script.is_none() && outcome.says.share.is_none() => {}
            _ => {
                check.script = outcome.says.share;
                let destination = check.destination;
                self.weigh(destination, now);
            }
        }
    }

    /// The lowest weight that checks of a destination say goes into its slot.
    pub(super) fn weigh(&mut self, index: usize, now: Instant) {
        let destination = &mut self.destinations[index];
        let (base, _) = Slots { script: None, ..destination.slots }.wanted();
        let said = destination.checks.iter().filter_map(|check| self.checks[*check].script);
        put(&mut destination.slots.script, said.min_by_key(|share| share.of(base)), now);
    }

    /// Says what people want of a destination: weights in the slots of `uvs adm` and the operator, and its
    /// administrative state. Says whether there is such a destination.
    pub fn edit(&mut self, destination: usize, edit: Edit, now: Instant) -> bool {
        let Some(known) = self.destinations.get_mut(destination) else { return false };
        let before = known.slots.admin();
        match edit {
            Edit::Adm(weight) => {
                put(&mut known.slots.adm, weight, now);
                // Whoever set it has set it in the director as well, whatever it is to weigh.
                (known.told, known.settled) = (None, None);
            }
            Edit::Operator(weight) => put(&mut known.slots.operator, weight, now),
            Edit::Admin(admin) => {
                replace(&mut known.slots.admin, admin, now);
            }
        }
        self.admin_changed(destination, before, now);
        self.judge(destination, now);
        true
    }

    /// Its administrative state may be another than it was. Who is back from maintenance was not looked at meanwhile,
    /// and may be another server by now: its checks know nothing until their next results, which are wanted at once.
    pub(super) fn admin_changed(&mut self, index: usize, before: Admin, now: Instant) {
        let destination = &self.destinations[index];
        let is_back = before == Admin::Maint && destination.slots.admin() != Admin::Maint;
        let start_up = self.services[destination.service].policy.start_up;
        for at in destination.checks.clone() {
            let probe = self.checks[at].probe;
            if is_back {
                let state = self.checks[at].state();
                self.checks[at].renew(&self.probes[probe].spec.kind, start_up, now);
                self.tell_of(at, state, "back from maintenance", now);
            }
            if matches!(self.probes[probe].phase, Phase::Idle | Phase::Due(_)) {
                self.plan(probe, now);
                if is_back && matches!(self.probes[probe].phase, Phase::Due(_)) {
                    self.due_at(probe, now);
                }
            }
        }
        if is_back {
            self.weigh(index, now);
        }
    }

    /// Says when a probe that does not run is due, as its checks want it.
    pub(super) fn plan(&mut self, index: usize, now: Instant) {
        let wish = self.probes[index].checks.iter().filter_map(|at| self.wish(*at)).min();
        let probe = &mut self.probes[index];
        let Some(wish) = wish else {
            (probe.phase, probe.stamp) = (Phase::Idle, 0);
            return;
        };
        let at = match wish {
            Wish::At(at) => at,
            Wish::Every(interval) => {
                let interval = back_off(interval, probe.unmade);
                match probe.started {
                    Some(started) => started + self.random.around(interval, probe.spec.schedule.jitter),
                    None => now,
                }
            }
        };
        self.due_at(index, at.max(now));
    }

    pub(super) fn due_at(&mut self, index: usize, at: Instant) {
        let probe = &mut self.probes[index];
        probe.phase = Phase::Due(at);
        probe.stamp = self.timers.set(at, Owner::Probe(index));
        self.compact();
    }

    /// Drops deadlines that were moved, before they outnumber the others.
    pub(super) fn compact(&mut self) {
        if self.timers.len() > 2 * (self.probes.len() + self.destinations.len()) + 64 {
            let (probes, destinations): (&[Probe], _) = (&self.probes, &self.destinations);
            self.timers.retain(|stamp, owner| match owner {
                Owner::Probe(index) => probes[index].stamp == stamp,
                Owner::Destination(index) => destinations[index].stamp == stamp,
            });
        }
    }

    /// When a check wants its probe to be made; `None`: not at all.
    fn wish(&self, at: usize) -> Option<Wish> {
        let check = &self.checks[at];
        let slots = &self.destinations[check.destination].slots;
        let spec = &self.probes[check.probe].spec;
        let maint = match spec.kind {
            // Only the agent takes back what it said.
            Kind::Agent { .. } => slots.admin.value == Admin::Maint,
            _ => slots.admin() == Admin::Maint,
        };
        if maint {
            return None;
        }
        if let Kind::Passive(_) = spec.kind {
            let is_wanted = check.inhibition.asked || check.streak.health() == Health::Down;
            return is_wanted.then_some(Wish::At(check.inhibition.until));
        }
        let schedule = &spec.schedule;
        Some(Wish::Every(match check.streak.health() {
            _ if check.in_transition() => schedule.fast,
            Health::Down => schedule.down,
            _ => schedule.interval,
        }))
    }
}

/// The sooner, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Every(Duration),
    At(Instant),
}

fn back_off(interval: Duration, unmade: u32) -> Duration {
    let longest = (interval * BACK_OFF_MAX).min(BACK_OFF).max(interval);
    let doubled = interval.saturating_mul(1_u32.checked_shl(unmade.saturating_sub(1)).unwrap_or(u32::MAX));
    if unmade == 0 { interval } else { doubled.min(longest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_tried_less_and_less_often_but_always() {
        let (fast, slow) = (Duration::from_secs(1), Duration::from_secs(120));
        let cases = [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 16), (40, 16), (u32::MAX, 16)];
        for (unmade, secs) in cases {
            assert_eq!(back_off(fast, unmade), Duration::from_secs(secs), "{unmade} times");
        }
        assert_eq!(back_off(slow, 10), slow, "never more often than it should");
    }
}
