//! A timer wheel over the slots of a slab: O(1) to arm, to move and to expire.
//!
//! ```text
//!   fine:   256 slots of 1/16 s        coarse: 256 slots of 16 s
//!   [a]-[b]-[c]                        [d]-[e]    moved to fine when their slot comes up
//! ```
//!
//! Each armed entry is a link of the doubly linked list of one slot; the links lie in the slab's entries. A deadline
//! that moves away (each packet moves it) costs nothing: the entry is re-armed when its old slot comes up.
//! Only one that moves nearer is linked anew.

use crate::base::time::Instant;

const SLOTS: usize = 256;
const FINE_NANOS: u64 = 62_500_000;
const NONE: u32 = u32::MAX;
/// Not linked anywhere.
pub(crate) const UNARMED: u16 = u16::MAX;

/// The links of one entry. Packed, for every byte of an entry counts; they are only copied and assigned.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub(crate) struct Links {
    previous: u32,
    next: u32,
    slot: u16,
}

impl Default for Links {
    fn default() -> Self {
        Self { previous: NONE, next: NONE, slot: UNARMED }
    }
}

/// Gives the wheel the links of the entry at an index.
pub(crate) trait Linked {
    fn links(&mut self, index: u32) -> &mut Links;
}

/// The wheel of one shard.
pub(crate) struct Wheel {
    /// The tick up to which everything was expired; ticks are of [`FINE_NANOS`].
    tick: u64,
    heads: Box<[u32; 2 * SLOTS]>,
    /// One bit for each slot that holds anything.
    occupied: [u64; 2 * SLOTS / 64],
}

fn tick_of(at: Instant) -> u64 {
    at.as_nanos() / FINE_NANOS
}

#[allow(clippy::cast_possible_truncation, reason = "a slot number is below 512")]
fn fine_slot(tick: u64) -> u16 {
    (tick % SLOTS as u64) as u16
}

#[allow(clippy::cast_possible_truncation, reason = "a slot number is below 512")]
fn coarse_slot(coarse: u64) -> u16 {
    (SLOTS as u64 + coarse % SLOTS as u64) as u16
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { tick: 0, heads: Box::new([NONE; 2 * SLOTS]), occupied: [0; 2 * SLOTS / 64] }
    }

    fn place(&self, deadline: Instant) -> u16 {
        // The tick after the deadline: what is popped is due.
        let tick = (tick_of(deadline) + 1).max(self.tick + 1);
        if tick - self.tick < SLOTS as u64 {
            return fine_slot(tick);
        }
        let (coarse, now) = (tick / SLOTS as u64, self.tick / SLOTS as u64);
        // Beyond the horizon of 68 minutes it waits in the last slot and is looked at again from there.
        coarse_slot(coarse.min(now + SLOTS as u64 - 1))
    }

    /// Arms an entry that is not armed.
    pub(crate) fn arm(&mut self, slab: &mut impl Linked, index: u32, deadline: Instant) {
        let slot = self.place(deadline);
        let head = self.heads[usize::from(slot)];
        *slab.links(index) = Links { previous: NONE, next: head, slot };
        if head != NONE {
            slab.links(head).previous = index;
        }
        self.heads[usize::from(slot)] = index;
        self.occupied[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    /// Takes an entry off its slot, if it is on one.
    pub(crate) fn disarm(&mut self, slab: &mut impl Linked, index: u32) {
        let Links { previous, next, slot } = core::mem::take(slab.links(index));
        if slot == UNARMED {
            return;
        }
        if next != NONE {
            slab.links(next).previous = previous;
        }
        if previous != NONE {
            slab.links(previous).next = next;
        } else {
            self.heads[usize::from(slot)] = next;
            if next == NONE {
                self.occupied[usize::from(slot) / 64] &= !(1 << (slot % 64));
            }
        }
    }

    /// Arms an armed entry anew if its deadline has come nearer than the slot it is on.
    pub(crate) fn nearer(&mut self, slab: &mut impl Linked, index: u32, before: Instant, deadline: Instant) {
        if deadline < before {
            self.disarm(slab, index);
            self.arm(slab, index, deadline);
        }
    }

    /// Takes the next entry off whose slot has come up by `now`; the caller expires it or arms it anew.
    /// `None` when there is none left.
    pub(crate) fn pop(&mut self, slab: &mut impl Linked, now: Instant) -> Option<u32> {
        let until = tick_of(now);
        loop {
            let index = self.heads[usize::from(fine_slot(self.tick))];
            if index != NONE {
                self.disarm(slab, index);
                return Some(index);
            }
            if self.tick.is_multiple_of(SLOTS as u64) {
                let index = self.heads[usize::from(coarse_slot(self.tick / SLOTS as u64))];
                if index != NONE {
                    self.disarm(slab, index);
                    return Some(index);
                }
            }
            if self.tick >= until {
                return None;
            }
            self.tick = self.next_tick().unwrap_or(until).min(until);
        }
    }

    /// The next tick after this one at which a slot comes up.
    fn next_tick(&self) -> Option<u64> {
        let fine = self.next_occupied(0, self.tick).map(|distance| self.tick + distance);
        let coarse_now = self.tick / SLOTS as u64;
        let coarse =
            self.next_occupied(SLOTS / 64, coarse_now).map(|distance| (coarse_now + distance) * SLOTS as u64);
        match (fine, coarse) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How many slots after `from` the next occupied one comes, around the ring (1 to 256).
    fn next_occupied(&self, first_word: usize, from: u64) -> Option<u64> {
        let words = &self.occupied[first_word..first_word + SLOTS / 64];
        let start = (from + 1) % SLOTS as u64;
        let mut i = 0;
        while i < SLOTS as u64 {
            let slot = (start + i) % SLOTS as u64;
            let rest = words[(slot / 64) as usize] >> (slot % 64);
            if rest != 0 {
                let found = i + u64::from(rest.trailing_zeros());
                return (found < SLOTS as u64).then_some(found + 1);
            }
            i += 64 - slot % 64;
        }
        None
    }

    /// When the next slot comes up.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next_tick().map(|tick| Instant::from_nanos(tick.saturating_mul(FINE_NANOS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use proptest::prelude::*;

    struct Slab(Vec<Links>);
    impl Linked for Slab {
        fn links(&mut self, index: u32) -> &mut Links {
            &mut self.0[index as usize]
        }
    }

    #[test]
    fn an_entry_comes_up_within_a_tick_of_its_deadline_and_never_before() {
        for millis in [0, 1, 62, 63, 1000, 15_999, 16_000, 16_001, 60_000, 900_000, 5_000_000] {
            let (mut wheel, mut slab) = (Wheel::new(), Slab(vec![Links::default()]));
            let deadline = Instant::from_millis(millis);
            wheel.arm(&mut slab, 0, deadline);
            let mut came = None;
            while came.is_none() {
                let at = wheel.next_due().expect("armed");
                while let Some(index) = wheel.pop(&mut slab, at) {
                    if at >= deadline {
                        came = Some(at);
                        break;
                    }
                    wheel.arm(&mut slab, index, deadline);
                }
            }
            let late = came.expect("came up").since(deadline);
            assert!(late <= Duration::from_micros(62_500), "{millis} ms came up {late:?} late");
        }
    }

    proptest! {
        /// Whatever is armed, moved and disarmed in whatever order: all that is due comes up, once.
        #[test]
        fn nothing_is_lost(ops in prop::collection::vec((0u32..40, 0u64..2_000_000, 0u8..4), 1..200)) {
            let (mut wheel, mut slab) = (Wheel::new(), Slab(vec![Links::default(); 40]));
            let mut deadlines = [None; 40];
            let mut now = Instant::ZERO;
            for (index, millis, op) in ops {
                let i = index as usize;
                match op {
                    0 | 1 => {
                        let deadline = now + Duration::from_millis(millis);
                        match deadlines[i] {
                            None => wheel.arm(&mut slab, index, deadline),
                            Some(before) => wheel.nearer(&mut slab, index, before, deadline),
                        }
                        // As the table does it: a later deadline is only written down.
                        deadlines[i] = Some(deadline);
                    }
                    2 => {
                        wheel.disarm(&mut slab, index);
                        deadlines[i] = None;
                    }
                    _ => {
                        now = now + Duration::from_millis(millis / 10);
                        while let Some(index) = wheel.pop(&mut slab, now) {
                            let i = index as usize;
                            let deadline = deadlines[i].expect("only armed entries come up");
                            if deadline <= now {
                                deadlines[i] = None;
                            } else {
                                wheel.arm(&mut slab, index, deadline);
                            }
                        }
                        let slack = Duration::from_millis(63);
                        for deadline in deadlines.into_iter().flatten() {
                            prop_assert!(deadline + slack >= now, "{deadline:?} is overdue at {now:?}");
                        }
                    }
                }
            }
        }
    }
}
