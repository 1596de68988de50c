//! The armed timers: a wheel for each worker, so that those who arm and disarm on different workers share no line, and one word in which
//! who sleeps in the driver and who arms the first timer of all find each other.
//!
//! The word is a tick at which no timer's time has come before (the first one's, or an earlier one, for who disarms leaves it alone), and
//! whether a thread sleeps up to then.
//!
//! - *Who arms* puts the timer into a wheel, under its lock, and then looks at the word. If the timer's tick is the earlier one, it lowers the
//!   word to it, and if that took a sleeper's bit down, it unparks.
//! - *Who sleeps* sets the bit, and learns in the same step up to when.
//! - *Who fires*, if the word's tick has come, raises it to never; then it goes to each wheel, takes out who is due and learns when the next one
//!   is; then it lowers the word to the least of these.
//!
//! The seat is held by who sleeps and by who fires, so that these come one after the other.
//!
//! **No timer is slept through.** Who arms is at its wheel before who fires comes by, or after. Before: the timer is fired, or its tick is among
//! those that the word is lowered to. After: that the word was raised happened before, by way of the wheel's lock, so who arms sees it
//! raised or what came later, and lowers it, or finds an earlier tick: that stays there or gets less until the next round. So a round leaves a word
//! that is no later than any timer, but for those whose threads are about to lower it. A thread that lowers it does so before the sleeper
//! sets its bit, and the sleeper learns of that tick; or after, and takes the bit down and unparks; or it is not the first to
//! lower it since, and who was has taken the bit down and unparks, as soon as it runs.
//!
//! All orders are relaxed: this is one word, whose changes every thread sees in one order, and what lies in the wheels is under their locks.
//!
//! A worker's look costs a load and the time, whatever is armed, a sleep two exchanges; a round costs a lock for each wheel, and comes once in a
//! tick, if something is due there or was before it was disarmed, and once more for a timer that is moved to a time that has passed.

use std::task::Waker;

use crossbeam_utils::CachePadded;

use super::clock::Clock;
use super::exact::Exact;
use super::wheel::{self, Wheel};
use crate::loom::sync::atomic::AtomicU64;
use crate::loom::sync::atomic::Ordering::Relaxed;
use crate::util::lock::{Guard, Lock};

/// More workers than that share wheels: a round is not to take long.
const SHARDS_MAX: usize = 16;

/// The word's low bit: a thread sleeps in the driver. The tick is above it.
const ASLEEP: u64 = 1;
const NEVER: u64 = u64::MAX >> 1;

/// An armed timer. Good until it fires or is disarmed; after that it names nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    shard: u32,
    at: wheel::Key,
}

#[derive(Debug)]
pub(super) struct Timers {
    shards: Box<[CachePadded<Lock<Shard>>]>,
    first: CachePadded<First>,
}

#[derive(Debug)]
struct Shard {
    queue: Queue,
    shut_down: bool,
}

/// Armed timers. Their tick is the wheel's, or one nanosecond.
#[derive(Debug)]
enum Queue {
    Wheel(Wheel),
    /// Of a paused clock: there is one. It fires in jumps, so the word holds no tick then.
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

/// The word.
#[derive(Debug)]
struct First(AtomicU64);

impl First {
    fn tick(&self) -> u64 {
        self.0.load(Relaxed) >> 1
    }

    fn is_awaited(&self) -> bool {
        self.0.load(Relaxed) & ASLEEP != 0
    }

    /// With the seat, and awake.
    fn raise(&self) {
        self.0.store(NEVER << 1, Relaxed);
    }

    /// True if somebody slept beyond that, who must be unparked.
    #[inline]
    fn lower(&self, tick: u64) -> bool {
        tick < self.tick() && self.lower_now(tick)
    }

    #[cold]
    fn lower_now(&self, tick: u64) -> bool {
        let word = self.0.fetch_min(tick << 1, Relaxed);
        // Of two that lower it one takes the bit down.
        word > tick << 1 && word & ASLEEP != 0
    }
}

impl Timers {
    pub(super) fn new(workers: usize, is_paused: bool) -> Timers {
        let queue = || match is_paused {
            false => Queue::Wheel(Wheel::new()),
            true => Queue::Exact(Exact::new()),
        };
        let shards = if is_paused { 1 } else { workers.clamp(1, SHARDS_MAX) };
        let shard = |_| CachePadded::new(Lock::new(Shard { queue: queue(), shut_down: false }));
        Timers {
            shards: (0..shards).map(shard).collect(),
            first: CachePadded::new(First(AtomicU64::new(NEVER << 1))),
        }
    }

    /// Not those of one moment, if others arm and disarm meanwhile.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| either!(&shard.lock().queue, timers => timers.len())).sum()
    }

    /// Where that worker arms.
    pub(super) fn shard_of(&self, worker: usize) -> u32 {
        (worker % self.shards.len()) as u32
    }

    fn shard(&self, key: Key) -> Guard<'_, Shard> {
        self.shards[key.shard as usize].lock()
    }

    /// As [`Local::arm`](super::Local::arm); `unpark` is called if somebody sleeps too long.
    #[inline]
    pub(super) fn arm(
        &self,
        index: u32,
        now_ns: u64,
        deadline_ns: u64,
        waker: Waker,
        unpark: impl FnOnce(),
    ) -> Option<Key> {
        let mut shard = self.shards[index as usize].lock();
        if shard.shut_down {
            drop(shard);
            drop(waker);
            return None;
        }
        if let Queue::Wheel(wheel) = &mut shard.queue {
            wheel.catch_up(wheel::tick_of(now_ns));
        }
        Some(self.insert(shard, index, deadline_ns, waker, unpark))
    }

    #[inline]
    fn insert(
        &self,
        mut shard: Guard<'_, Shard>,
        index: u32,
        deadline_ns: u64,
        waker: Waker,
        unpark: impl FnOnce(),
    ) -> Key {
        let (at, sleeps_too_long) = match &mut shard.queue {
            Queue::Wheel(wheel) => {
                let tick = wheel::tick_after(deadline_ns);
                let at = wheel.insert(tick, waker);
                drop(shard);
                (at, self.first.lower(tick))
            }
            Queue::Exact(exact) => {
                let at = exact.insert(deadline_ns, waker);
                drop(shard);
                // Who goes to sleep sets the bit before it looks at the timers, under their lock: it sees this one, or we see the bit.
                (at, self.first.is_awaited())
            }
        };
        if sleeps_too_long {
            unpark();
        }
        Key { shard: index, at }
    }

    /// As [`Driver::rearm`](super::Driver::rearm).
    #[inline]
    pub(super) fn rearm(
        &self,
        key: Key,
        keep: impl FnOnce(&Waker) -> bool,
        new: impl FnOnce() -> Waker,
    ) -> bool {
        let mut shard = self.shard(key);
        let old = match either!(&mut shard.queue, timers => timers.waker_mut(key.at)) {
            None => return false,
            Some(waker) if keep(waker) => None,
            Some(waker) => Some(std::mem::replace(waker, new())),
        };
        drop(shard);
        drop(old);
        true
    }

    /// As [`Driver::move_to`](super::Driver::move_to). It stays in its wheel.
    pub(super) fn move_to(&self, key: Key, deadline_ns: u64, unpark: impl FnOnce()) -> Option<Key> {
        let mut shard = self.shard(key);
        let waker = either!(&mut shard.queue, timers => timers.remove(key.at))?;
        Some(self.insert(shard, key.shard, deadline_ns, waker, unpark))
    }

    #[inline]
    pub(super) fn disarm(&self, key: Key) {
        let waker = either!(&mut self.shard(key).queue, timers => timers.remove(key.at));
        drop(waker);
    }

    /// Nothing can be armed any more. Adds every waker that was.
    pub(super) fn shut_down(&self, wakers: &mut Vec<Waker>) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.shut_down = true;
            wakers.extend(either!(&mut shard.queue, timers => timers.clear()));
        }
    }

    // ---- with the seat ------------------------------------------------------------------------

    /// From now on who arms a timer that is due before all others unparks. When these others are due, in nanoseconds.
    pub(super) fn fall_asleep(&self) -> Option<u64> {
        let tick = self.first.0.fetch_or(ASLEEP, Relaxed) >> 1;
        (tick != NEVER).then(|| wheel::tick_start(tick))
    }

    pub(super) fn wake_up(&self) {
        self.first.0.fetch_and(!ASLEEP, Relaxed);
    }

    /// Takes out who is due.
    pub(super) fn fire(&self, clock: &Clock, woken: &mut Vec<Waker>) {
        let first = self.first.tick();
        if first == NEVER && !clock.is_paused() {
            return;
        }
        let now_ns = clock.now_ns();
        if first <= wheel::tick_of(now_ns) || clock.is_paused() {
            self.go_round(now_ns, woken);
        }
    }

    #[inline(never)]
    pub(super) fn go_round(&self, now_ns: u64, woken: &mut Vec<Waker>) {
        self.first.raise();
        let mut next = NEVER;
        for shard in &self.shards {
            match &mut shard.lock().queue {
                Queue::Wheel(wheel) => {
                    wheel.advance(wheel::tick_of(now_ns), woken);
                    next = next.min(wheel.next_tick().unwrap_or(NEVER));
                }
                Queue::Exact(exact) => exact.advance(now_ns, woken),
            }
        }
        // Nobody sleeps: we have the seat.
        let _ = self.first.lower(next);
    }

    // ---- a paused clock -----------------------------------------------------------------------

    /// As [`Driver::jump`](super::Driver::jump).
    pub(super) fn jump(&self, clock: &Clock, woken: &mut Vec<Waker>, can_run: impl Fn() -> bool) -> bool {
        let mut shard = self.shards[0].lock();
        let Queue::Exact(exact) = &mut shard.queue else { return false };
        let jumped = clock.jump(|| if can_run() { None } else { exact.next_ns() });
        if jumped {
            exact.advance(clock.now_ns(), woken);
        }
        jumped
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Whether it was armed, and unparked somebody.
    fn arm(timers: &Timers, shard: u32, deadline_ns: u64) -> (bool, bool) {
        let mut unparked = false;
        let key = timers.arm(shard, 0, deadline_ns, Waker::noop().clone(), || unparked = true);
        (key.is_some(), unparked)
    }

    #[test]
    fn a_sleeper_is_unparked_for_an_earlier_timer_only_and_one_round_fires_those_of_all_workers() {
        let timers = Timers::new(3, false);
        assert_eq!(arm(&timers, 0, 1_000 * MS), (true, false), "nobody sleeps");
        let sleeps_to = timers.fall_asleep();
        assert!(sleeps_to.is_some_and(|ns| (1_000 * MS..1_001 * MS).contains(&ns)), "{sleeps_to:?}");
        assert_eq!(arm(&timers, 1, 2_000 * MS), (true, false));
        assert_eq!(arm(&timers, 1, 20 * MS), (true, true));
        assert_eq!(arm(&timers, 2, 10 * MS), (true, false), "it is on its way");
        timers.wake_up();
        let mut woken = Vec::new();
        timers.go_round(30 * MS, &mut woken);
        assert_eq!((woken.len(), timers.len()), (2, 2));
        let sleeps_to = timers.fall_asleep();
        assert!(sleeps_to.is_some_and(|ns| (30 * MS..1_001 * MS).contains(&ns)), "{sleeps_to:?}");
    }

    #[test]
    fn a_look_while_nobody_is_due_goes_to_no_wheel() {
        let timers = Timers::new(2, false);
        arm(&timers, 0, u64::MAX);
        let _held = [0, 1].map(|shard: usize| timers.shards[shard].lock());
        timers.fire(&Clock::new(), &mut Vec::new());
    }

    #[test]
    fn the_shutdown_hands_out_the_timers_of_all_workers_and_nothing_can_be_armed_then() {
        for paused in [false, true] {
            let timers = Timers::new(SHARDS_MAX + 1, paused);
            let shards: Vec<u32> = (0..=SHARDS_MAX).map(|worker| timers.shard_of(worker)).collect();
            shards.iter().for_each(|shard| assert!(arm(&timers, *shard, MS).0));
            let mut wakers = Vec::new();
            timers.shut_down(&mut wakers);
            assert_eq!((wakers.len(), timers.len()), (SHARDS_MAX + 1, 0));
            shards.iter().for_each(|shard| assert!(!arm(&timers, *shard, MS).0));
        }
    }
}
