//! The only clock of the director: monotonic time, handed to the engine as a number; and the time of day.

use std::time::{self, SystemTime, UNIX_EPOCH};

use uvs_director::Instant;

/// The time of day, in seconds since 1970, for what people read.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

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
