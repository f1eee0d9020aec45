//! What a scheduler is to hear about how its destinations take connections, until its next pick.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::collections::VecDeque;
use std::sync::Mutex;

use crate::base::lock::lock;
use crate::base::scheduler::Response;
use crate::base::time::{Duration, Instant};

/// Events that wait for the next pick of their service; the oldest make room.
const WAITING_MAX: usize = 1024;

/// Another worker may have read its clock before the one that saw the SYN, and have got hold of the answer after it: by
/// no more than that, in microseconds.
const SKEW_MAX: u32 = 60_000_000;

/// When a destination was asked: microseconds of the engine's time, of which 32 bits are enough for the longest wait
/// and a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedAt(NonZeroU32);

impl AskedAt {
    pub(crate) fn new(now: Instant) -> Self {
        Self(NonZeroU32::new(micros(now)).unwrap_or(NonZeroU32::MIN))
    }

    pub(crate) fn elapsed(self, now: Instant) -> Duration {
        let micros = micros(now).wrapping_sub(self.0.get());
        Duration::from_micros(if micros > u32::MAX - SKEW_MAX { 0 } else { micros.into() })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "it wraps, and differences do not mind")]
fn micros(now: Instant) -> u32 {
    (now.as_nanos() / 1000) as u32
}

/// What the scheduler of a service is to hear with its next pick.
#[derive(Debug, Default)]
pub(crate) struct Feedback {
    wanted: AtomicBool,
    /// Ids of destinations.
    waiting: Mutex<VecDeque<(u32, Response, Duration)>>,
    lost: AtomicU64,
}

impl Feedback {
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    pub(crate) fn put(&self, id: u32, response: Response, elapsed: Duration) {
        if !self.is_wanted() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
            self.lost.fetch_add(1, Relaxed);
        }
        waiting.push_back((id, response, elapsed));
    }

    /// Says whether there is somebody to tell, and tells: `each` gets what waits, the oldest first.
    #[inline]
    pub(crate) fn collect(&self, wanted: bool, mut each: impl FnMut(u32, Response, Duration)) {
        if wanted != self.is_wanted() {
            self.wanted.store(wanted, Relaxed);
            lock(&self.waiting).clear();
        } else if wanted {
            lock(&self.waiting).drain(..).for_each(|(id, response, elapsed)| each(id, response, elapsed));
        }
    }

    /// Events that were left out because no pick came in time.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wrap_of_their_32_bits() {
        for start in [0, 1, 4_294_967_295_000, 4_294_967_296_000, 77_000_000_000_000] {
            let start = Instant::from_nanos(start);
            let elapsed = AskedAt::new(start).elapsed(start + Duration::from_secs(3));
            assert!(elapsed.abs_diff(Duration::from_secs(3)) <= Duration::from_micros(1), "{elapsed:?}");
        }
    }

    #[test]
    fn long_waits_are_long() {
        let start = Instant::from_secs(5_000);
        for minutes in [1, 30, 35, 36, 60, 70] {
            let waited = Duration::from_secs(minutes * 60);
            let elapsed = AskedAt::new(start).elapsed(start + waited);
            assert!(
                elapsed.abs_diff(waited) <= Duration::from_micros(1),
                "{minutes} minutes read as {elapsed:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_another_workers_clock_puts_before_the_question_took_no_time() {
        let asked_at = AskedAt::new(Instant::from_millis(5_000));
        assert_eq!(asked_at.elapsed(Instant::from_millis(4_999)), Duration::ZERO);
    }

    #[test]
    fn the_oldest_events_make_room_and_are_counted() {
        let feedback = Feedback::default();
        feedback.put(1, Response::Answered, Duration::ZERO);
        let mut told = Vec::new();
        feedback.collect(true, |id, _, _| told.push(id));
        assert!(told.is_empty(), "nobody wanted it");
        let many = u32::try_from(WAITING_MAX).unwrap() + 5;
        (0..many).for_each(|id| feedback.put(id, Response::Refused, Duration::ZERO));
        feedback.collect(true, |id, _, _| told.push(id));
        assert_eq!((told.first(), told.last(), feedback.lost()), (Some(&5), Some(&(many - 1)), 5));
        feedback.put(1, Response::Answered, Duration::ZERO);
        feedback.collect(false, |id, _, _| told.push(id));
        feedback.collect(true, |id, _, _| told.push(id));
        assert_eq!(told.len(), WAITING_MAX, "what nobody wants any more is forgotten");
    }
}
