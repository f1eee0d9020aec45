//! The only clock of the director: monotonic time, handed to the engine as a number.

use std::time;

use uvs_director::Instant;

/// Counts from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        Self { start: time::Instant::now() }
    }

    /// The time now, in the engine's terms.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }
}
