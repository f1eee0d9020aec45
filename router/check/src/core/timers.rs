//! Deadlines, the earliest first. One that was moved stays until it comes up, and is then seen to be old by its stamp.
//!
//! Most are set in the order in which they come up, as of all that take as long: they wait in queues, each in order.
//! What fits behind none waits in a heap.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use uvs_director::Instant;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The probe of that index: it is due, or its result is.
    Probe(usize),
    /// The destination of that index: a slow start, or the end of damping.
    Destination(usize),
}

/// How many queues there are: intervals and timeouts that most checks share.
const QUEUES: usize = 4;

type Deadline = (Instant, u64, Owner);

/// One deadline for each owner.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queues: [VecDeque<Deadline>; QUEUES],
    heap: BinaryHeap<Reverse<Deadline>>,
    stamp: u64,
}

impl Timers {
    /// Sets a deadline and returns its stamp, by which its owner knows it again.
    pub(crate) fn set(&mut self, at: Instant, owner: Owner) -> u64 {
        self.stamp += 1;
        let deadline = (at, self.stamp, owner);
        // Behind the latest that is earlier, so that a late one keeps those of shorter terms out of no other queue.
        let last = |queue: &VecDeque<Deadline>| queue.back().map_or(Instant::ZERO, |(at, ..)| *at);
        let fits = self.queues.iter_mut().filter(|queue| last(queue) <= at);
        match fits.max_by_key(|queue| last(queue)) {
            Some(queue) => queue.push_back(deadline),
            None => self.heap.push(Reverse(deadline)),
        }
        self.stamp
    }

    /// The queue that begins with the earliest; none: it is in the heap.
    fn first(&self) -> Option<(Deadline, Option<usize>)> {
        let queues = self.queues.iter().enumerate();
        let queues = queues.filter_map(|(at, queue)| queue.front().map(|first| (*first, Some(at))));
        queues.chain(self.heap.peek().map(|Reverse(first)| (*first, None))).min()
    }

    /// The earliest, moved ones included: who comes for nothing comes again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first().map(|((at, ..), _)| at)
    }

    /// Takes the next one that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(u64, Owner)> {
        let ((at, stamp, owner), queue) = self.first()?;
        if at > now {
            return None;
        }
        match queue {
            Some(queue) => drop(self.queues[queue].pop_front()),
            None => drop(self.heap.pop()),
        }
        Some((stamp, owner))
    }

    /// How many are there, moved ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.queues.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Drops those that `current` does not know.
    pub(crate) fn retain(&mut self, mut current: impl FnMut(u64, Owner) -> bool) {
        self.heap.retain(|Reverse((_, stamp, owner))| current(*stamp, *owner));
        for queue in &mut self.queues {
            queue.retain(|(_, stamp, owner)| current(*stamp, *owner));
        }
    }

    /// Drops all. Stamps go on, so that none comes twice.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.queues.iter_mut().for_each(VecDeque::clear);
    }
}

#[cfg(test)]
mod tests {
    use uvs_director::Duration;

    use super::*;

    #[test]
    fn deadlines_come_in_order_whatever_order_they_were_set_in() {
        let ms = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let mut random = crate::core::random::Random(7);
        let mut wanted = Vec::new();
        for index in 0..2000 {
            // Some in order, some far ahead, some anyhow.
            let at = match index % 3 {
                0 => ms(index as u64),
                1 => ms(5000 + index as u64),
                _ => ms(random.next() % 10_000),
            };
            let stamp = timers.set(at, Owner::Probe(index));
            wanted.push((at, stamp, Owner::Probe(index)));
        }
        wanted.sort_unstable();
        timers.retain(|stamp, _| stamp % 5 != 0);
        wanted.retain(|(_, stamp, _)| stamp % 5 != 0);
        assert_eq!(timers.len(), wanted.len());
        for (at, stamp, owner) in wanted {
            assert_eq!(timers.next(), Some(at));
            assert_eq!(timers.due(at), Some((stamp, owner)));
        }
        assert_eq!((timers.len(), timers.next()), (0, None));
    }
}
