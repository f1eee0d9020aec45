//! Rise and fall: when results in a row change the mind of a check.

/// What a check holds a server for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// It has had no result yet.
    #[default]
    Unchecked,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// Results in a row that speak against what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    health: Health,
    against: u32,
}

impl Streak {
    /// What is held.
    pub const fn health(self) -> Health {
        self.health
    }

    /// How many results in a row speak against it.
    pub const fn against(self) -> u32 {
        self.against
    }

    /// Counts one result. The first of all decides alone. Says whether the mind has changed.
    pub const fn count(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        let (other, needed) = match (self.health, passed) {
            (Health::Unchecked, true) => (Health::Up, 1),
            (Health::Unchecked, false) => (Health::Down, 1),
            (Health::Up, false) => (Health::Down, fall),
            (Health::Down, true) => (Health::Up, rise),
            (Health::Up, true) | (Health::Down, false) => {
                self.against = 0;
                return false;
            }
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return false;
        }
        *self = Self { health: other, against: 0 };
        true
    }

    /// Changes the mind whatever was counted, as an agent's word does. Says whether it has changed.
    pub fn decide(&mut self, health: Health) -> bool {
        let changed = self.health != health;
        *self = Self { health, against: 0 };
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn results_in_a_row_change_it_and_the_first_does_so_alone() {
        use Health::{Down, Up};
        let cases = [
            ("up at once", vec![(true, Up, 0), (false, Up, 1), (false, Up, 2), (false, Down, 0)]),
            ("down at once", vec![(false, Down, 0), (true, Down, 1), (true, Up, 0)]),
            ("a success in between", vec![(true, Up, 0), (false, Up, 1), (true, Up, 0), (false, Up, 1)]),
            (
                "a failure in between",
                vec![(false, Down, 0), (true, Down, 1), (false, Down, 0), (true, Down, 1)],
            ),
        ];
        for (name, results) in cases {
            let mut streak = Streak::default();
            for (passed, health, against) in results {
                streak.count(passed, 2, 3);
                assert_eq!((streak.health(), streak.against()), (health, against), "{name}");
            }
        }
    }

    proptest! {
        /// Whatever came before, and whatever `rise` and `fall` were then.
        #[test]
        fn a_streak_of_successes_ends_up_and_one_of_failures_down(
            before in prop::collection::vec((any::<bool>(), 1_u32..10, 1_u32..10), 0..100),
            rise in 1_u32..10,
            fall in 1_u32..10,
        ) {
            let mut streak = Streak::default();
            for (passed, rise, fall) in before {
                streak.count(passed, rise, fall);
            }
            let mut up = streak;
            (0..rise).for_each(|_| { up.count(true, rise, fall); });
            prop_assert_eq!(up.health(), Health::Up);
            let mut down = streak;
            (0..fall).for_each(|_| { down.count(false, rise, fall); });
            prop_assert_eq!(down.health(), Health::Down);
        }
    }
}
