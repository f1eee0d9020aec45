//! Which of the numbered places of a map are free, and who gives one up when none is.

/// So many places one search looks at: each is a read from the kernel.
const LOOKS: usize = 16;
/// About a second. Who was in use so lately keeps its place.
const IDLE_TICKS: u32 = 60;

/// The places of a map.
pub(super) struct Places {
    /// The next one to be taken is the last.
    free: Vec<usize>,
    len: usize,
    /// Where the next search for somebody who leaves begins.
    hand: usize,
}

impl Places {
    /// So many, all of them free.
    pub(super) fn new(len: usize) -> Self {
        Self { free: (0..len).rev().collect(), len, hand: 0 }
    }

    /// A place for a newcomer: a free one, or that of whom nobody has needed for longest among the next few, and for a
    /// second. `idle` says for how many ticks of a place; `None` keeps it.
    pub(super) fn take(&mut self, mut idle: impl FnMut(usize) -> Option<u32>) -> Option<usize> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let looks = LOOKS.min(self.len);
        let candidates = (self.hand..self.hand + looks).map(|index| index % self.len);
        let idlest = candidates.filter_map(|index| Some((idle(index)?, index))).max_by_key(|(idle, _)| *idle);
        self.hand = (self.hand + looks).checked_rem(self.len).unwrap_or(0);
        idlest.filter(|(idle, _)| *idle >= IDLE_TICKS).map(|(_, index)| index)
    }

    /// Nobody has this place any more.
    pub(super) fn give_back(&mut self, index: usize) {
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_places_go_first_then_that_of_the_idlest_of_a_few() {
        let mut places = Places::new(40);
        for want in 0..40 {
            assert_eq!(places.take(|_| panic!("some are free")), Some(want));
        }
        places.give_back(7);
        assert_eq!(places.take(|_| panic!("one is free")), Some(7));
        let mut looked = Vec::new();
        let idle = |index: usize| u32::try_from(index).unwrap() + 100;
        assert_eq!(
            places.take(|index| {
                looked.push(index);
                Some(idle(index))
            }),
            Some(15)
        );
        assert_eq!(looked, (0..16).collect::<Vec<_>>(), "no more than these");
        assert_eq!(places.take(|index| Some(idle(index))), Some(31), "the next ones");
        assert_eq!(places.take(|index| Some(idle(index))), Some(39), "around the end");
    }

    #[test]
    fn who_is_in_use_or_cannot_be_asked_keeps_its_place() {
        let mut places = Places::new(3);
        for _ in 0..3 {
            let _ = places.take(|_| None);
        }
        assert_eq!(places.take(|_| Some(IDLE_TICKS - 1)), None);
        assert_eq!(places.take(|_| None), None);
        assert_eq!(places.take(|index| Some(IDLE_TICKS).filter(|_| index == 1)), Some(1));
        assert_eq!(Places::new(0).take(|_| None), None);
    }
}
