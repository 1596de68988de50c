//! `sleep`, and the timer that all of `time` is made of.

use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::Instant;
use crate::driver::clock::{Clock, saturating_ns};
use crate::driver::{Key, Local};
use crate::scheduler::context;
use crate::scheduler::shared::Shared;
use crate::task::frame;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker;

/// One deadline on the runtime's clock, with the registration of who waits for it.
#[derive(Debug)]
pub(crate) struct Timer {
    local: Arc<Local>,
    deadline_ns: u64,
    key: Option<Key>,
}

impl Timer {
    #[track_caller]
    #[inline]
    pub(crate) fn after(what: &str, duration: Duration) -> Timer {
        Timer::on(context::local(what), duration)
    }

    #[inline]
    pub(crate) fn on(local: Arc<Local>, duration: Duration) -> Timer {
        let deadline_ns = local.driver().clock().now_ns().saturating_add(saturating_ns(duration));
        Timer { local, deadline_ns, key: None }
    }

    #[track_caller]
    pub(super) fn at(what: &str, deadline: Instant) -> Timer {
        let local = context::local(what);
        let deadline_ns = deadline.since_start_ns(local.driver().clock().start());
        Timer { local, deadline_ns, key: None }
    }

    fn clock(&self) -> &Clock {
        self.local.driver().clock()
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock().now_ns()
    }

    pub(super) fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// The deadline; one beyond the runtime's reach of 584 years is at its end.
    pub(super) fn deadline(&self) -> Instant {
        Instant::from_start(self.clock().start(), self.deadline_ns)
    }

    /// That moment as the timer counts.
    pub(super) fn ns_of(&self, moment: Instant) -> u64 {
        moment.since_start_ns(self.clock().start())
    }

    pub(super) fn is_elapsed(&self) -> bool {
        self.now_ns() >= self.deadline_ns
    }

    /// Sets another deadline. Who waits for the one before is woken at this one.
    pub(super) fn reset(&mut self, deadline_ns: u64) {
        self.deadline_ns = deadline_ns;
        if let Some(key) = self.key {
            self.key = self.local.driver().move_to(key, deadline_ns);
        }
    }

    /// Nobody is woken any more.
    pub(super) fn disarm(&mut self) {
        if let Some(key) = self.key.take() {
            self.local.driver().disarm(key);
        }
    }

    /// Whether the deadline has passed; if not, the polled task is woken when it has. After the runtime's end nobody is.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> bool {
        if let Some(key) = self.key {
            let will_wake = |old: &Waker| waker::will_wake(old, cx);
            if self.local.driver().rearm(key, will_wake, || waker::register(cx)) {
                return false;
            }
            self.key = None;
        }
        let now_ns = self.now_ns();
        if now_ns >= self.deadline_ns {
            return true;
        }
        self.key = self.local.arm(now_ns, self.deadline_ns, waker::register(cx));
        if self.key.is_none() {
            self.assert_has_report();
        }
        false
    }

    /// A task of the runtime that has ended is in its report. Anybody else would wait for ever, and nothing would say so.
    #[cold]
    fn assert_has_report(&self) {
        let is_here = |shared: &Shared| ptr::eq(&*shared.driver, self.local.driver());
        let is_told = !frame::header().is_null() && context::try_with_shared(is_here).unwrap_or(false);
        assert!(
            is_told,
            "a sleep, timeout or interval of a leakfree runtime was polled after that runtime's end: nothing would wake \
             who waits for it. Keep the runtime for as long as its timers are in use"
        );
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Waits for `duration`. It is over no earlier, and as a rule less than 0.2 ms later; under a paused clock exactly then.
/// `Duration::MAX` is for ever.
///
/// # Panics
/// Outside a leakfree runtime. The future, when another executor polls it after its runtime has ended and before its time.
///
/// # Cancel safety
/// Cancel safe: dropped, the timer is disarmed.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    let timer = Timer::after("leakfree::time::sleep", duration);
    Sleep { timer, leaf: Leaf::new(WaitReason::Sleep, Object::None) }
}

/// Waits until `deadline`; see [`sleep`].
///
/// # Panics
/// Outside a leakfree runtime.
///
/// # Cancel safety
/// Cancel safe: dropped, the timer is disarmed.
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    let timer = Timer::at("leakfree::time::sleep_until", deadline);
    Sleep { timer, leaf: Leaf::new(WaitReason::Sleep, Object::None) }
}

/// Moves a paused clock on: waits until it has jumped that far. Timers on the way fire, each at its time and before this ends.
///
/// # Panics
/// Outside a leakfree runtime; if its clock is not [paused](crate::runtime::Builder::start_paused).
///
/// # Cancel safety
/// Cancel safe. Dropped, the clock stays where it is.
#[track_caller]
pub fn advance(duration: Duration) -> Sleep {
    let timer = Timer::after("leakfree::time::advance", duration);
    assert!(
        timer.clock().is_paused(),
        "`leakfree::time::advance` moves a paused clock only: use `#[leakfree::test(paused)]` or `Builder::start_paused`"
    );
    Sleep { timer, leaf: Leaf::new(WaitReason::Sleep, Object::None) }
}

/// The future of [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    timer: Timer,
    leaf: Leaf,
}

impl Sleep {
    /// As part of a call that the user wrote there.
    #[cfg(feature = "http")]
    pub(crate) fn for_call_at(mut self, place: &'static std::panic::Location<'static>) -> Self {
        self.leaf.set_call(place);
        self
    }

    /// When it is over. For ever is 584 years after the runtime's start.
    pub fn deadline(&self) -> Instant {
        self.timer.deadline()
    }

    /// Whether it is over. Does not wait.
    pub fn is_elapsed(&self) -> bool {
        self.timer.is_elapsed()
    }

    /// Sets another deadline, be it over or not. Who waits for it already is woken at the new one.
    ///
    /// ```
    /// # leakfree::runtime::Builder::new().start_paused(true).build().unwrap().block_on(async {
    /// use leakfree::time::{self, Duration, Instant};
    ///
    /// let (start, second) = (Instant::now(), Duration::from_secs(1));
    /// let mut sleep = time::sleep(Duration::MAX);
    /// sleep.reset(start + second);
    /// (&mut sleep).await;
    /// assert!(sleep.is_elapsed() && start.elapsed() == second);
    /// # });
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.timer.reset(self.timer.ns_of(deadline));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.leaf.proceed(cx));
        if self.timer.poll(cx) {
            self.leaf.ready();
            Poll::Ready(())
        } else {
            self.leaf.pending(cx);
            Poll::Pending
        }
    }
}
