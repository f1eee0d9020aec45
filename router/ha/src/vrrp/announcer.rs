//! When addresses are announced: rounds of several after a takeover, and now and then while it lasts.

use uvs_director::Instant;

use crate::plan::AnnouncePlan;

/// Deadlines of one virtual router.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announcer {
    /// Of the round that goes on: how many are left, and when the next is due.
    round: Option<(u8, Instant)>,
    second: Option<Instant>,
    refresh: Option<Instant>,
    /// When the last round began.
    began: Option<Instant>,
}

impl Announcer {
    /// It has taken over: both rounds, and then refreshes.
    pub(crate) fn start(&mut self, plan: AnnouncePlan, now: Instant) {
        self.round = Some((plan.repeat, now));
        self.second = (!plan.delay.is_zero()).then(|| now + plan.delay);
        self.refresh = (!plan.refresh.is_zero()).then(|| now + plan.refresh);
        self.began = Some(now);
    }

    /// Somebody else has announced them. No sooner after the last round than `least`: who sends garbage is not to make
    /// a storm.
    pub(crate) fn again(&mut self, plan: AnnouncePlan, least: core::time::Duration, now: Instant) {
        if self.began.is_some_and(|began| now < began + least) {
            return;
        }
        self.start(plan, now);
    }

    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// How many are due now.
    pub(crate) fn due(&mut self, plan: AnnouncePlan, now: Instant) -> u32 {
        if self.second.is_some_and(|at| at <= now) {
            self.second = None;
            self.round = Some((plan.repeat, now));
            self.began = Some(now);
        }
        let mut count = 0;
        if let Some((left, at)) = self.round.filter(|(_, at)| *at <= now) {
            // After a pause the rest of a round is not made up for: each is as good as many at once.
            let all_at_once = plan.gap.is_zero();
            count = if all_at_once { u32::from(left) } else { 1 };
            self.round = (!all_at_once && left > 1).then(|| (left - 1, at.max(now) + plan.gap));
        }
        if self.refresh.is_some_and(|at| at <= now) {
            self.refresh = (!plan.refresh.is_zero()).then(|| now + plan.refresh);
            count = count.max(1);
        }
        count
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        [self.round.map(|(_, at)| at), self.second, self.refresh].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn plan(repeat: u8, gap: u64, delay: u64, refresh: u64) -> AnnouncePlan {
        let ms = Duration::from_millis;
        AnnouncePlan { repeat, gap: ms(gap), delay: ms(delay), refresh: ms(refresh) }
    }

    /// Moments, in milliseconds, and how many are due at each.
    fn run(announcer: &mut Announcer, plan: AnnouncePlan, until: u64) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        while let Some(at) = announcer.next().filter(|at| at.as_millis() <= until) {
            match announcer.due(plan, at) {
                0 => {}
                count => found.push((at.as_millis(), count)),
            }
        }
        found
    }

    #[test]
    fn there_are_two_rounds_and_then_refreshes() {
        let started = |plan| {
            let mut announcer = Announcer::default();
            announcer.start(plan, Instant::ZERO);
            run(&mut announcer, plan, 130_000)
        };
        assert_eq!(started(plan(5, 0, 5000, 60_000)), [(0, 5), (5000, 5), (60_000, 1), (120_000, 1)]);
        assert_eq!(started(plan(3, 100, 0, 0)), [(0, 1), (100, 1), (200, 1)]);
        assert_eq!(started(plan(1, 100, 1000, 0)), [(0, 1), (1000, 1)]);
    }

    #[test]
    fn it_is_done_again_but_not_in_a_storm_and_a_stop_ends_it() {
        let plan = plan(2, 0, 0, 0);
        let mut announcer = Announcer::default();
        announcer.start(plan, Instant::ZERO);
        assert_eq!(run(&mut announcer, plan, 10_000), [(0, 2)]);
        let second = Duration::from_secs(1);
        for ms in (100..3050).step_by(100) {
            announcer.again(plan, second, Instant::from_millis(ms));
            announcer.due(plan, Instant::from_millis(ms));
        }
        assert_eq!(announcer.began, Some(Instant::from_millis(3000)), "once a second");
        announcer.again(plan, second, Instant::from_millis(9000));
        announcer.stop();
        assert_eq!(announcer.next(), None);
    }

    #[test]
    fn what_a_pause_has_passed_over_is_not_made_up_for() {
        let plan = plan(200, 10, 0, 1000);
        let mut announcer = Announcer::default();
        announcer.start(plan, Instant::ZERO);
        assert_eq!(announcer.due(plan, Instant::from_secs(100)), 1);
        assert_eq!(announcer.due(plan, Instant::from_secs(100)), 0);
    }
}
