//! `interval`: a ticker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Instant;
use super::sleep::Timer;
use crate::driver::clock::saturating_ns;
use crate::task::wait::{Leaf, Object, WaitReason};

/// What an [`Interval`] does about ticks that came due while nobody waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum MissedTickBehavior {
    /// Ticks at once until it has caught up.
    #[default]
    Burst,
    /// Ticks at once, and a period after that again.
    Delay,
    /// Ticks at once, and then at the next multiple of the period.
    Skip,
}

/// A ticker: its first tick is due at once, the others `period` apart.
///
/// # Panics
/// Outside a leakfree runtime; if `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval's period must be longer than zero");
    let timer = Timer::after("leakfree::time::interval", Duration::ZERO);
    Interval { timer, period_ns: saturating_ns(period), missed: MissedTickBehavior::default() }
}

/// A ticker whose first tick is due at `start`; see [`interval`].
///
/// # Panics
/// Outside a leakfree runtime; if `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval's period must be longer than zero");
    let timer = Timer::at("leakfree::time::interval_at", start);
    Interval { timer, period_ns: saturating_ns(period), missed: MissedTickBehavior::default() }
}

/// A ticker; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    timer: Timer,
    period_ns: u64,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns when it was due.
    ///
    /// # Cancel safety
    /// Cancel safe: a tick that was not returned is not lost.
    #[track_caller]
    pub fn tick(&mut self) -> Tick<'_> {
        Tick { interval: self, leaf: Leaf::new(WaitReason::Interval, Object::None) }
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period_ns)
    }

    /// Has the next tick due a period from now.
    pub fn reset(&mut self) {
        self.timer.reset(self.timer.now_ns().saturating_add(self.period_ns));
    }

    /// What is done about missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what is done about missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// When the tick after one that was due at `due` and is taken at `now` is due.
    fn next_due(&self, due: u64, now: u64) -> u64 {
        match self.missed {
            MissedTickBehavior::Burst => due.saturating_add(self.period_ns),
            // A tick that is taken in time leaves the rhythm alone.
            _ if now < due.saturating_add(self.period_ns) => due.saturating_add(self.period_ns),
            MissedTickBehavior::Delay => now.saturating_add(self.period_ns),
            MissedTickBehavior::Skip => {
                let late = (now - due) % self.period_ns;
                now.saturating_add(self.period_ns - late)
            }
        }
    }
}

/// The future of [`Interval::tick`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Tick<'a> {
    interval: &'a mut Interval,
    leaf: Leaf,
}

impl Future for Tick<'_> {
    type Output = Instant;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Instant> {
        let this = &mut *self;
        if !this.interval.timer.poll(cx) {
            this.leaf.pending(cx);
            return Poll::Pending;
        }
        this.leaf.ready();
        let timer = &mut this.interval.timer;
        let due = timer.deadline().unwrap_or_else(Instant::now);
        let (due_ns, now_ns) = (timer.deadline_ns(), timer.now_ns());
        let next = this.interval.next_due(due_ns, now_ns);
        this.interval.timer.reset(next);
        Poll::Ready(due)
    }
}
