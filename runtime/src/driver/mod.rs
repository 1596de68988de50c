//! What the operating system and the clock tell: I/O readiness through mio, timers through the wheel.
//!
//! The driver knows no tasks. It takes plain wakers, and hands those that are due to whoever turns it, who
//! wakes them outside all locks. One thread at a time is inside: it has the [`Seat`].

pub(crate) mod clock;
#[cfg_attr(loom, path = "events_model.rs")]
mod events;
mod exact;
pub(crate) mod io;
pub(crate) mod readiness;
pub(crate) mod wheel;

use std::fmt;
use std::io as std_io;
use std::task::Waker;
use std::time::Duration;

use self::clock::Clock;
use self::events::{Poll, Waker as PollWaker};
use self::exact::Exact;
use self::io::{Sources, WAKE};
use self::wheel::{Key, Wheel};
use crate::loom::sync::atomic::AtomicU64;
use crate::loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::loom::sync::{TryLockError, TryMutex, TryMutexGuard};
use crate::util::lock::{Guard, Lock};

/// Nobody sleeps in the driver, or not for a timer's sake.
const NO_DEADLINE: u64 = u64::MAX;

pub(crate) struct Driver {
    clock: Clock,
    poll: TryMutex<Poll>,
    waker: PollWaker,
    sources: Sources,
    timers: Lock<Timers>,
    /// The tick up to which the thread in the driver sleeps; 0 while nobody sleeps there.
    sleeps_to: AtomicU64,
    /// See [`Driver::is_lively`]. A hint: all orders are relaxed.
    lively: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Timers {
    queue: Queue,
    shut_down: bool,
}

/// The armed timers. Their tick is the wheel's, or one nanosecond.
#[derive(Debug)]
enum Queue {
    Wheel(Wheel),
    /// Of a paused clock.
    Exact(Exact),
}

/// Calls the method of whichever it is.
macro_rules! either {
    ($queue:expr, $timers:ident => $call:expr) => {
        match $queue {
            Queue::Wheel($timers) => $call,
            Queue::Exact($timers) => $call,
        }
    };
}

impl Queue {
    fn len(&self) -> usize {
        either!(self, timers => timers.len())
    }

    /// The first tick at which a deadline has passed.
    fn tick_after(&self, deadline_ns: u64) -> u64 {
        match self {
            Queue::Wheel(_) => wheel::tick_after(deadline_ns),
            Queue::Exact(_) => deadline_ns,
        }
    }

    fn advance(&mut self, now_ns: u64, fired: &mut Vec<Waker>) {
        match self {
            Queue::Wheel(wheel) => wheel.advance(wheel::tick_of(now_ns), fired),
            Queue::Exact(exact) => exact.advance(now_ns, fired),
        }
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
        driver.sleeps_to.store(0, SeqCst);
        poll.for_each(|event| driver.sources.dispatch(event, woken));
        driver.lively.store(woken.len() > 1, Relaxed);
        drop(poll);
        driver.fire_timers(woken);
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
        // Before the look at the timers: as in `announce_sleep`. Whatever is armed from now on ends the sleep.
        driver.sleeps_to.store(NO_DEADLINE, SeqCst);
        // Events that are there already come before a jump.
        let any = self.look(Some(Duration::ZERO), woken);
        let jumped = woken.is_empty() && driver.jump(woken, can_run);
        // A look that saw events may have taken an unpark that was meant for us: no sleep then.
        if !jumped && !any {
            self.look(timeout, woken);
        }
        driver.sleeps_to.store(0, SeqCst);
        if !jumped {
            driver.clock.hold();
        }
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
    pub(crate) fn new(clock: Clock) -> std_io::Result<Driver> {
        let poll = Poll::new()?;
        let waker = poll.waker(WAKE)?;
        let sources = Sources::new(poll.registry().try_clone()?);
        let queue = match clock.is_paused() {
            false => Queue::Wheel(Wheel::new()),
            true => Queue::Exact(Exact::default()),
        };
        Ok(Driver {
            clock,
            poll: TryMutex::new(poll),
            waker,
            sources,
            timers: Lock::new(Timers { queue, shut_down: false }),
            sleeps_to: AtomicU64::new(0),
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
        self.timers.lock().queue.len()
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

    /// Says how long this thread will sleep, clipped to the next timer.
    ///
    /// The announcement comes before the look at the wheel, and who arms a timer looks at the announcement
    /// after it has put the timer in, both under the wheel's lock. So the sleeper sees the timer, or the
    /// other sees the sleeper.
    fn announce_sleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        let timers = self.timers.lock();
        let next = match &timers.queue {
            Queue::Wheel(wheel) => wheel.next_tick(),
            // Its timers fire in jumps.
            Queue::Exact(_) => None,
        };
        self.sleeps_to.store(next.unwrap_or(NO_DEADLINE), SeqCst);
        drop(timers);
        let until_next = next
            .map(|tick| Duration::from_nanos(wheel::tick_start(tick).saturating_sub(self.clock.now_ns())));
        match (timeout, until_next) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn fire_timers(&self, woken: &mut Vec<Waker>) {
        let mut timers = self.timers.lock();
        if timers.queue.len() > 0 {
            timers.queue.advance(self.clock.now_ns(), woken);
        }
    }

    // ---- a paused clock -----------------------------------------------------------------------

    /// If nothing can run, moves the clock to the next timer and takes out who is due. The caller holds the clock then.
    pub(crate) fn jump(&self, woken: &mut Vec<Waker>, can_run: impl Fn() -> bool) -> bool {
        let mut timers = self.timers.lock();
        let Queue::Exact(exact) = &mut timers.queue else { return false };
        let jumped = self.clock.jump(|| if can_run() { None } else { exact.next_ns() });
        if jumped {
            exact.advance(self.clock.now_ns(), woken);
        }
        jumped
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

    /// Arms a timer for `deadline_ns` on the runtime's clock. `None` if the runtime has been shut down.
    pub(crate) fn arm(&self, deadline_ns: u64, waker: Waker) -> Option<Key> {
        let mut timers = self.timers.lock();
        if timers.shut_down {
            drop(timers);
            drop(waker);
            return None;
        }
        if timers.queue.len() == 0 {
            // An empty wheel may be far behind: nothing to fire on the way.
            timers.queue.advance(self.clock.now_ns(), &mut Vec::new());
        }
        Some(self.insert(timers, deadline_ns, waker))
    }

    /// Arms a timer, and ends a sleep that would last beyond it.
    #[inline]
    fn insert(&self, mut timers: Guard<'_, Timers>, deadline_ns: u64, waker: Waker) -> Key {
        let tick = timers.queue.tick_after(deadline_ns);
        let key = either!(&mut timers.queue, timers => timers.insert(tick, waker));
        let sleeps_to = self.sleeps_to.load(SeqCst);
        drop(timers);
        if sleeps_to != 0 && tick < sleeps_to {
            self.unpark();
        }
        key
    }

    /// Has another waker woken in place of the one before, if they differ. False if the timer has fired.
    pub(crate) fn rearm(
        &self,
        key: Key,
        keep: impl FnOnce(&Waker) -> bool,
        new: impl FnOnce() -> Waker,
    ) -> bool {
        let mut timers = self.timers.lock();
        let old = match either!(&mut timers.queue, timers => timers.waker_mut(key)) {
            None => return false,
            Some(waker) if keep(waker) => None,
            Some(waker) => Some(std::mem::replace(waker, new())),
        };
        drop(timers);
        drop(old);
        true
    }

    /// Arms a timer for another time, and has the same waker woken then. `None` if it has fired.
    pub(crate) fn move_to(&self, key: Key, deadline_ns: u64) -> Option<Key> {
        let mut timers = self.timers.lock();
        let waker = either!(&mut timers.queue, timers => timers.remove(key))?;
        Some(self.insert(timers, deadline_ns, waker))
    }

    /// Disarms a timer, if it has not fired.
    pub(crate) fn disarm(&self, key: Key) {
        let waker = either!(&mut self.timers.lock().queue, timers => timers.remove(key));
        drop(waker);
    }

    /// Nothing can be registered or armed any more. Returns every waker that was, for the caller to drop
    /// or wake outside all locks.
    pub(crate) fn shutdown(&self) -> Vec<Waker> {
        let mut wakers = self.sources.shut_down();
        let mut timers = self.timers.lock();
        timers.shut_down = true;
        wakers.extend(either!(&mut timers.queue, timers => timers.clear()));
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
