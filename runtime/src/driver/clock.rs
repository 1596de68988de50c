//! The runtime's clock: real, or paused and moved by hand.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

/// Time since the runtime's start.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// A paused clock's time in nanoseconds; a real one has none.
    paused: Option<AtomicU64>,
}

impl Clock {
    pub(crate) fn real() -> Clock {
        Clock { start: Instant::now(), paused: None }
    }

    /// A clock that only `advance_to` moves.
    pub(crate) fn paused() -> Clock {
        Clock { start: Instant::now(), paused: Some(AtomicU64::new(0)) }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match &self.paused {
            // Acquire: pairs with the release in `advance_to`, so that who sees the time sees what was done before.
            Some(now) => now.load(Acquire),
            None => saturating_ns(self.start.elapsed()),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    /// Moves a paused clock on; never back.
    pub(crate) fn advance_to(&self, ns: u64) {
        if let Some(now) = &self.paused {
            now.fetch_max(ns, AcqRel);
        }
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
