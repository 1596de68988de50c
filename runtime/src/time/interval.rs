//! `interval`: a ticker.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Instant;
use super::sleep::Timer;
use crate::driver::clock::saturating_ns;
use crate::task::wait::{Leaf, Object, WaitReason};

/// A tick that is taken this late at most was taken in time: timers and queues are not exact.
const IN_TIME_NS: u64 = 5_000_000;

/// What an [`Interval`] does when a tick is taken late (by more than 5 ms), because nobody waited when it came due.
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
/// ```
/// # leakfree::runtime::Builder::new().start_paused(true).build().unwrap().block_on(async {
/// use leakfree::time::{self, Duration, Instant};
///
/// let start = Instant::now();
/// let mut interval = time::interval(Duration::from_secs(10));
/// interval.tick().await; // at once
/// interval.tick().await;
/// assert_eq!(start.elapsed(), Duration::from_secs(10));
/// # });
/// ```
///
/// # Panics
/// Outside a leakfree runtime; if `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval::new(Timer::after("leakfree::time::interval", Duration::ZERO), period)
}

/// A ticker whose first tick is due at `start`; see [`interval`].
///
/// # Panics
/// Outside a leakfree runtime; if `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval::new(Timer::at("leakfree::time::interval_at", start), period)
}

/// A ticker; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    timer: Timer,
    period: Duration,
    missed: MissedTickBehavior,
    /// The wait of `poll_tick`, which has no future of its own.
    polled: Leaf,
}

impl Interval {
    #[track_caller]
    fn new(timer: Timer, period: Duration) -> Interval {
        assert!(!period.is_zero(), "an interval's period must be longer than zero");
        let polled = Leaf::new(WaitReason::Interval, Object::None);
        Interval { timer, period, missed: MissedTickBehavior::default(), polled }
    }

    /// Waits for the next tick, and returns when it was due.
    ///
    /// # Cancel safety
    /// Cancel safe: a tick that was not returned is not lost.
    #[track_caller]
    pub fn tick(&mut self) -> Tick<'_> {
        Tick { interval: self, leaf: Leaf::new(WaitReason::Interval, Object::None) }
    }

    /// [`tick`](Interval::tick) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        self.polled.set_location(Location::caller());
        poll(&mut self.timer, &mut self.polled, self.period, self.missed, cx)
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Has the next tick due a period from now.
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// Has the next tick due at once.
    pub fn reset_immediately(&mut self) {
        self.reset_after(Duration::ZERO);
    }

    /// Has the next tick due that much from now.
    pub fn reset_after(&mut self, after: Duration) {
        self.timer.reset(self.timer.now_ns().saturating_add(saturating_ns(after)));
    }

    /// Has the next tick due then.
    pub fn reset_at(&mut self, deadline: Instant) {
        self.timer.reset(self.timer.ns_of(deadline));
    }

    /// What is done about missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what is done about missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }
}

impl MissedTickBehavior {
    /// When the tick after one that was due at `due` and is taken at `now` is due.
    fn next_due(self, due: u64, now: u64, period: u64) -> u64 {
        let late = now.saturating_sub(due);
        match self {
            // A tick that is taken in time leaves the rhythm alone.
            _ if late <= IN_TIME_NS => due.saturating_add(period),
            MissedTickBehavior::Burst => due.saturating_add(period),
            MissedTickBehavior::Delay => now.saturating_add(period),
            MissedTickBehavior::Skip => now.saturating_add(period - late % period),
        }
    }
}

fn poll(
    timer: &mut Timer,
    leaf: &mut Leaf,
    period: Duration,
    missed: MissedTickBehavior,
    cx: &Context<'_>,
) -> Poll<Instant> {
    ready!(leaf.proceed(cx));
    if !timer.poll(cx) {
        leaf.pending(cx);
        return Poll::Pending;
    }
    leaf.ready();
    let due = timer.deadline();
    timer.reset(missed.next_due(timer.deadline_ns(), timer.now_ns(), saturating_ns(period)));
    Poll::Ready(due)
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
        let Tick { interval, leaf } = &mut *self;
        poll(&mut interval.timer, leaf, interval.period, interval.missed, cx)
    }
}

impl Drop for Tick<'_> {
    fn drop(&mut self) {
        // Nobody waits any more. The tick is still due when it was.
        self.interval.timer.disarm();
    }
}
