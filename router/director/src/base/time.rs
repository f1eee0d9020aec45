//! Time as the engine sees it: a parameter, never a clock.

use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A moment, in nanoseconds since a start that the caller chose (0 is a fine start).
///
/// The engine only compares moments and adds durations, so tests, replays and simulation can start at
/// zero and jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The moment `secs` seconds after the start.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the start, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to `self`, or zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A timeout in a connection entry: milliseconds, 49 days at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(u32);

impl Timeout {
    #[inline]
    fn as_nanos(self) -> u64 {
        u64::from(self.0) * 1_000_000
    }
}

impl From<Duration> for Timeout {
    #[inline]
    fn from(duration: Duration) -> Self {
        let millis =
            duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()));
        Self(u32::try_from(millis).unwrap_or(u32::MAX))
    }
}

impl Add<Timeout> for Instant {
    type Output = Self;
    #[inline]
    fn add(self, rhs: Timeout) -> Self {
        Self(self.0.saturating_add(rhs.as_nanos()))
    }
}

impl Sub<Timeout> for Instant {
    type Output = Self;
    #[inline]
    fn sub(self, rhs: Timeout) -> Self {
        Self(self.0.saturating_sub(rhs.as_nanos()))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}
