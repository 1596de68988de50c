//! What the operating system and the clock tell: I/O readiness through mio, timers through wheels.
//!
//! The driver knows no tasks. It takes plain wakers, and hands those that are due to whoever turns it, who
//! wakes them outside all locks. One thread at a time is inside: it has the [`Seat`].

pub(crate) mod clock;
#[cfg_attr(loom, path = "events_model.rs")]
mod events;
mod exact;
pub(crate) mod io;
pub(crate) mod readiness;
mod timers;
mod wheel;

use std::fmt;
use std::io as std_io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use self::clock::Clock;
use self::events::{Poll, Waker as PollWaker};
use self::io::{Sources, WAKE};
pub(crate) use self::timers::Key;
use self::timers::Timers;
use crate::loom::sync::atomic::Ordering::Relaxed;
use crate::loom::sync::{TryLockError, TryMutex, TryMutexGuard};

pub(crate) struct Driver {
    clock: Clock,
    poll: TryMutex<Poll>,
    waker: PollWaker,
    sources: Sources,
    timers: Timers,
    /// See [`Driver::is_lively`]. A hint: all orders are relaxed.
    lively: std::sync::atomic::AtomicBool,
}

/// The driver, as one worker has it: timers that are made there count their references to it here, and are armed in a wheel that
/// is the worker's as far as there are enough. So those of different workers share no line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Local {
    driver: Arc<Driver>,
    shard: u32,
}

impl Local {
    /// A number beyond those of workers is one for threads that are none.
    pub(crate) fn new(driver: &Arc<Driver>, worker: usize) -> Arc<Local> {
        Arc::new(Local { driver: Arc::clone(driver), shard: driver.timers.shard_of(worker) })
    }

    #[inline]
    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Arms a timer for `deadline_ns` on the runtime's clock; `now_ns` is what that says, or said lately. `None` if the runtime
    /// has been shut down. Ends a sleep that would last beyond that time.
    #[inline]
    pub(crate) fn arm(&self, now_ns: u64, deadline_ns: u64, waker: Waker) -> Option<Key> {
        let driver = &*self.driver;
        driver.timers.arm(self.shard, now_ns, deadline_ns, waker, || driver.unpark())
    }
}

/// The one place inside the driver.
///
/// Whoever parks here takes it *before* it says so to those who unpark: [`Driver::unpark`] wakes the next turn,
/// whosever it is, so nobody else's may come between.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    driver: &'a Driver,
    poll: TryMutexGuard<'a, Poll>,
}

impl Seat<'_> {
    /// Waits for events, at most for `timeout` (`None`: as long as it takes, zero: not at all) and not beyond the
    /// next timer, and adds to `woken` whoever is due.
    pub(crate) fn turn(self, timeout: Option<Duration>, woken: &mut Vec<Waker>) {
        let Seat { driver, mut poll } = self;
        let wait = if timeout == Some(Duration::ZERO) {
            timeout
        } else {
            driver.lively.store(false, Relaxed);
            driver.announce_sleep(timeout)
        };
        // An error leaves no events; the next turn looks again.
        let _ = poll.wait(wait);
        if timeout != Some(Duration::ZERO) {
            driver.timers.wake_up();
        }
        poll.for_each(|event| driver.sources.dispatch(event, woken));
        driver.lively.store(woken.len() > 1, Relaxed);
        driver.timers.fire(&driver.clock, woken);
    }

    /// As [`turn`](Seat::turn), of a worker that goes to sleep under a paused clock and holds it: gives the hold up,
    /// has the clock jump if nothing runs, and takes a hold again before the seat is free and anybody is woken.
    /// `can_run`: something waits that a worker will be unparked for.
    ///
    /// Who gives the last hold up unparks the driver, and that ends this turn or the next. Each turn of a sleeper begins
    /// with a look at the clock, so none is missed.
    #[cold]
    pub(crate) fn turn_paused(
        mut self,
        timeout: Option<Duration>,
        woken: &mut Vec<Waker>,
        can_run: impl Fn() -> bool,
    ) {
        let driver = self.driver;
        // Nobody need be told: we look ourselves.
        let _ = driver.clock.let_go();
        // Before the look at the timers: whatever is armed from now on ends the sleep.
        let _ = driver.timers.fall_asleep();
        // Events that are there already come before a jump.
        let any = self.look(Some(Duration::ZERO), woken);
        let jumped = woken.is_empty() && driver.jump(woken, can_run);
        // A look that saw events may have taken an unpark that was meant for us: no sleep then.
        if !jumped && !any {
            self.look(timeout, woken);
        }
        driver.timers.wake_up();
        if !jumped {
            driver.clock.hold();
        }
    }

    /// Of a model, where no time passes.
    #[cfg(loom)]
    pub(crate) fn fire_at(&self, now_ns: u64) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.driver.timers.go_round(now_ns, &mut woken);
        woken
    }

    #[cfg(loom)]
    pub(crate) fn first_ns(&self) -> Option<u64> {
        let first_ns = self.driver.timers.fall_asleep();
        self.driver.timers.wake_up();
        first_ns
    }

    /// Whether there was any event, be it an unpark.
    fn look(&mut self, wait: Option<Duration>, woken: &mut Vec<Waker>) -> bool {
        let mut any = false;
        // As in `turn`.
        let _ = self.poll.wait(wait);
        self.poll.for_each(|event| {
            any = true;
            self.driver.sources.dispatch(event, woken);
        });
        any
    }
}

/// A thread inside `block_on`, or a shutdown in its grace: a paused clock jumps while somebody is.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    driver: &'a Driver,
    keeps_hold: bool,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.driver.clock.leave(self.keeps_hold) {
            self.driver.unpark();
        }
    }
}

impl Driver {
    /// # Errors
    /// If the operating system gives no descriptor.
    pub(crate) fn new(clock: Clock, workers: usize) -> std_io::Result<Driver> {
        let poll = Poll::new()?;
        let waker = poll.waker(WAKE)?;
        let sources = Sources::new(poll.registry().try_clone()?);
        Ok(Driver {
            timers: Timers::new(workers, clock.is_paused()),
            clock,
            poll: TryMutex::new(poll),
            waker,
            sources,
            lively: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Whether the last turn brought several events and nobody sleeps inside: another turn may well bring more.
    #[inline]
    pub(crate) fn is_lively(&self) -> bool {
        self.lively.load(Relaxed)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn timers_len(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn io_len(&self) -> usize {
        self.sources.len()
    }

    /// Goes inside. `None` if another thread is there.
    pub(crate) fn try_enter(&self) -> Option<Seat<'_>> {
        match self.poll.try_lock() {
            Ok(poll) => Some(Seat { driver: self, poll }),
            Err(TryLockError::Poisoned(poisoned)) => Some(Seat { driver: self, poll: poisoned.into_inner() }),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Says that this thread is about to sleep, and how long: up to the first timer at the most.
    fn announce_sleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        let next_ns = self.timers.fall_asleep();
        let until_next = next_ns.map(|ns| Duration::from_nanos(ns.saturating_sub(self.clock.now_ns())));
        match (timeout, until_next) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    // ---- a paused clock -----------------------------------------------------------------------

    /// If nothing can run, moves the clock to the next timer and takes out who is due. The caller holds the clock then.
    pub(crate) fn jump(&self, woken: &mut Vec<Waker>, can_run: impl Fn() -> bool) -> bool {
        self.timers.jump(&self.clock, woken, can_run)
    }

    /// Holds a paused clock still until [`let_go`](Driver::let_go).
    #[inline]
    pub(crate) fn hold(&self) {
        self.clock.hold();
    }

    /// Gives a hold up, and has the clock looked at if it was the last.
    #[inline]
    pub(crate) fn let_go(&self) {
        if self.clock.let_go() {
            self.unpark();
        }
    }

    /// This thread goes into `block_on`, or waits for what others do. It holds a paused clock; `has_hold`: it did so
    /// already, and does so afterwards.
    pub(crate) fn enter(&self, has_hold: bool) -> Inside<'_> {
        self.clock.enter(has_hold);
        Inside { driver: self, keeps_hold: has_hold }
    }

    /// Wakes the thread that is inside, or the next one that goes in to sleep: the wake is kept.
    pub(crate) fn unpark(&self) {
        // It fails only when the kernel is out of memory for an eight-byte counter.
        let _ = self.waker.wake();
    }

    /// Has another waker woken in place of the one before, if they differ. False if the timer has fired.
    #[inline]
    pub(crate) fn rearm(
        &self,
        key: Key,
        keep: impl FnOnce(&Waker) -> bool,
        new: impl FnOnce() -> Waker,
    ) -> bool {
        self.timers.rearm(key, keep, new)
    }

    /// Arms a timer for another time, and has the same waker woken then. `None` if it has fired.
    pub(crate) fn move_to(&self, key: Key, deadline_ns: u64) -> Option<Key> {
        self.timers.move_to(key, deadline_ns, || self.unpark())
    }

    /// Disarms a timer, if it has not fired.
    #[inline]
    pub(crate) fn disarm(&self, key: Key) {
        self.timers.disarm(key);
    }

    /// Nothing can be registered or armed any more. Returns every waker that was, for the caller to drop
    /// or wake outside all locks.
    pub(crate) fn shutdown(&self) -> Vec<Waker> {
        let mut wakers = self.sources.shut_down();
        self.timers.shut_down(&mut wakers);
        wakers
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("io", &self.io_len())
            .field("timers", &self.timers_len())
            .finish_non_exhaustive()
    }
}
