//! A moment on the runtime's clock.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use crate::driver::clock::saturating_ns;
use crate::scheduler::context;

/// A moment on the runtime's clock, which follows the operating system's monotonic clock, unless it is
/// [paused](crate::runtime::Builder::start_paused).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// Now, on the clock of the runtime that this thread is in; outside, on the operating system's.
    pub fn now() -> Instant {
        Instant(
            context::try_with_shared(|shared| shared.driver.clock().instant())
                .unwrap_or_else(std::time::Instant::now),
        )
    }

    /// Time since `earlier`; zero if that is later.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Time since this moment; zero if it is still to come.
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(*self)
    }

    /// Time since `earlier`; zero if that is later. The same as [`duration_since`](Instant::duration_since).
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }

    /// Time since `earlier`; `None` if that is later.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// The moment `duration` later, or `None` if the clock does not reach that far.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    /// The moment `duration` earlier, or `None` if the clock does not reach back that far.
    pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(duration).map(Instant)
    }

    /// As the standard library's instant.
    pub fn into_std(self) -> std::time::Instant {
        self.0
    }

    /// From the standard library's instant.
    pub fn from_std(instant: std::time::Instant) -> Instant {
        Instant(instant)
    }

    /// That many nanoseconds after a runtime's start, or as far as the clock reaches.
    pub(crate) fn from_start(start: std::time::Instant, ns: u64) -> Instant {
        let far = || start + Duration::from_secs(u64::from(u32::MAX));
        Instant(start.checked_add(Duration::from_nanos(ns)).unwrap_or_else(far))
    }

    /// Nanoseconds since a runtime's start; zero before it.
    pub(crate) fn since_start_ns(self, start: std::time::Instant) -> u64 {
        saturating_ns(self.0.saturating_duration_since(start))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// # Panics
    /// If the clock does not reach that far.
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// # Panics
    /// If the clock does not reach back that far.
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl From<std::time::Instant> for Instant {
    fn from(instant: std::time::Instant) -> Instant {
        Instant(instant)
    }
}

impl From<Instant> for std::time::Instant {
    fn from(instant: Instant) -> std::time::Instant {
        instant.0
    }
}
