//! The runtime's clock.

use std::time::{Duration, Instant};

/// Time since the runtime's start.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        saturating_ns(self.start.elapsed())
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The runtime's start, as the operating system's clock has it.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }
}

/// A duration in nanoseconds; 584 years if it is longer.
pub(crate) fn saturating_ns(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
