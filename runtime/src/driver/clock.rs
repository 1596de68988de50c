//! The runtime's clock: the operating system's, or, for tests, one that stands still while anything can run.

use std::time::{Duration, Instant};

use crate::loom::sync::atomic::AtomicU64;
use crate::loom::sync::atomic::Ordering::SeqCst;

/// Time since the runtime's start.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The same on the clock behind [`rough`].
    rough_start: Duration,
    paused: Option<Paused>,
}

/// A clock that only jumps, and the count of those who hold it still. The argument is in
/// `scheduler/PROTOCOL.md`, "A paused clock"; all orders are `SeqCst`, for nobody is in a hurry here.
#[derive(Debug)]
struct Paused {
    ns: AtomicU64,
    word: AtomicU64,
}

/// One who runs, or has been handed something to run: the low 24 bits.
const HOLD: u64 = 1;
/// A thread inside `block_on`, or a shutdown in its grace: 16 bits.
const INSIDE: u64 = 1 << 24;
/// How often anybody took a hold, in the high 24 bits, wrapping: it makes the exchange in `Clock::jump` fail if the
/// clock was held in between.
const EPOCH: u64 = 1 << 40;

/// The clock may jump: nobody holds it, and somebody waits inside.
fn is_free(word: u64) -> bool {
    word & (INSIDE - 1) == 0 && word & (EPOCH - INSIDE) != 0
}

/// The time of the kernel's last tick: 5 ns to read where the exact time takes 25.
#[cfg(all(target_os = "linux", not(miri)))]
fn rough() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is the kernel's to write for the length of the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    debug_assert_eq!(failed, 0, "every Linux that this crate runs on has that clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn rough() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now(), rough_start: rough(), paused: None }
    }

    /// A paused clock that `holds` threads hold from the beginning.
    pub(crate) fn paused(holds: usize) -> Clock {
        let paused = Paused { ns: AtomicU64::new(0), word: AtomicU64::new(HOLD * holds as u64) };
        Clock { start: Instant::now(), rough_start: rough(), paused: Some(paused) }
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match &self.paused {
            None => saturating_ns(self.start.elapsed()),
            Some(paused) => paused.ns.load(SeqCst),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        match &self.paused {
            None => self.start.elapsed(),
            Some(_) => Duration::from_nanos(self.now_ns()),
        }
    }

    /// Now, to a few milliseconds, for a fraction of the price: for a record that may err by as much.
    pub(crate) fn rough_now(&self) -> Duration {
        match &self.paused {
            None => rough().saturating_sub(self.rough_start),
            Some(_) => self.now(),
        }
    }

    /// Now, as the operating system's clock would have it.
    pub(crate) fn instant(&self) -> Instant {
        match &self.paused {
            None => Instant::now(),
            Some(_) => self.start + self.now(),
        }
    }

    /// The runtime's start, as the operating system's clock has it.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Holds a paused clock still, on behalf of this thread or of one that is about to be handed something.
    #[inline]
    pub(crate) fn hold(&self) {
        if let Some(paused) = &self.paused {
            paused.word.fetch_add(HOLD + EPOCH, SeqCst);
        }
    }

    /// Gives a hold up. True if the clock may jump now: somebody must look.
    #[inline]
    #[must_use]
    pub(crate) fn let_go(&self) -> bool {
        match &self.paused {
            None => false,
            Some(paused) => is_free(paused.word.fetch_sub(HOLD, SeqCst) - HOLD),
        }
    }

    /// A thread goes inside, with a hold of its own unless it brings one along.
    pub(super) fn enter(&self, has_hold: bool) {
        if let Some(paused) = &self.paused {
            paused.word.fetch_add(if has_hold { INSIDE } else { INSIDE + HOLD + EPOCH }, SeqCst);
        }
    }

    /// The thread is back outside: in one step with its hold, so that the clock stands if it was the last one. True as
    /// in `let_go`.
    #[must_use]
    pub(super) fn leave(&self, keeps_hold: bool) -> bool {
        let sub = if keeps_hold { INSIDE } else { INSIDE + HOLD };
        self.paused.as_ref().is_some_and(|paused| is_free(paused.word.fetch_sub(sub, SeqCst) - sub))
    }

    /// Moves a paused clock on to what `next` says, if nobody holds it and nobody did while `next` looked. The
    /// caller holds it then.
    pub(super) fn jump(&self, mut next: impl FnMut() -> Option<u64>) -> bool {
        let Some(paused) = &self.paused else { return false };
        loop {
            let word = paused.word.load(SeqCst);
            if !is_free(word) {
                return false;
            }
            let Some(next) = next() else { return false };
            if paused.word.compare_exchange(word, word.wrapping_add(HOLD + EPOCH), SeqCst, SeqCst).is_ok() {
                paused.ns.fetch_max(next, SeqCst);
                return true;
            }
        }
    }
}

/// A duration in nanoseconds; 584 years if it is longer.
pub(crate) fn saturating_ns(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_paused_clock_jumps_when_nobody_holds_it_and_somebody_is_inside() {
        let clock = Clock::paused(1);
        assert!(!clock.let_go(), "nobody is inside");
        assert!(!clock.jump(|| Some(5)));
        clock.enter(false);
        assert!(!clock.jump(|| Some(5)), "held");
        assert!(clock.let_go());
        assert!(!clock.jump(|| None));
        assert!(clock.jump(|| Some(7)));
        assert_eq!((clock.now_ns(), clock.now()), (7, Duration::from_nanos(7)));
        assert_eq!(clock.instant(), clock.start() + Duration::from_nanos(7));
        assert!(!clock.jump(|| Some(9)), "the jump holds it");
        assert!(!clock.leave(false), "nobody is inside any more");
    }

    #[test]
    fn a_hold_that_came_and_went_while_the_jumper_looked_makes_it_look_again() {
        let clock = Clock::paused(0);
        clock.enter(true);
        let mut looks = 0;
        let jumped = clock.jump(|| {
            looks += 1;
            if looks == 1 {
                clock.hold();
                assert!(clock.let_go());
            }
            Some(looks)
        });
        assert!(jumped);
        assert_eq!((looks, clock.now_ns()), (2, 2));
    }

    #[test]
    fn the_count_of_holds_wraps_into_nothing_else() {
        let clock = Clock::paused(0);
        clock.paused.as_ref().unwrap().word.store(INSIDE + (u64::MAX - (EPOCH - 1)), SeqCst);
        clock.hold();
        assert!(clock.let_go());
        assert!(clock.jump(|| Some(1)));
    }
}
