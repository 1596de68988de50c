//! A lock for a few dozen instructions: what primitives, scopes, the timers and the injector's ends keep their state under. It is taken with one locked instruction and given
//! back with a plain store.
//!
//! A mutex takes another locked instruction to be given back, for it must find out whether somebody sleeps. Here nobody does. Who finds the lock
//! taken goes away for a while before it looks again, then for longer: two workers that look all the time pull the lines of what is inside
//! to and fro, and each of their sections takes three times as long, while one that is left alone gets several done out of its own cache.
//! If that does not help the holder may have been preempted, perhaps by who looks: that one lets other threads run, and naps in the end. So it is
//! for sections that wait for nothing, and call no code of others but to clone a waker. (A mutex's queue waits for another thread, some 10 ms at the
//! most, if that was preempted between two instructions: `Word::holder`.)
//!
//! **L1** What is inside is touched by the holder alone: who set `taken`, until it clears it again.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use crate::loom::sync::atomic::AtomicBool;
use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::{self, thread};

/// A model of anything else has a mutex in its place: it has few enough steps of its own, and what is here has a model for itself.
#[cfg(loom)]
pub(crate) use self::stand_in::{Guard, Lock};
#[cfg(not(loom))]
pub(crate) use self::{NapGuard as Guard, NapLock as Lock};

/// A thread looks again after so many pauses, of 3 to 40 ns each.
const PAUSES: [u32; 2] = if cfg!(loom) { [1, 1] } else { [64, 128] };
/// How often it lets others run in between, before it naps instead.
const YIELDS: u32 = 16;
pub(crate) const NAP: Duration = Duration::from_micros(50);

pub(crate) struct NapLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
    /// Touched with the value: loom sees whether holders are ordered.
    #[cfg(loom)]
    seen: ::loom::cell::UnsafeCell<()>,
}

// SAFETY: (L1) the value is touched by one thread at a time, each after the one before.
unsafe impl<T: Send> Sync for NapLock<T> {}
// Whoever panics in it leaves the value whole.
impl<T> UnwindSafe for NapLock<T> {}
impl<T> RefUnwindSafe for NapLock<T> {}

impl<T> NapLock<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> NapLock<T> {
        NapLock { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> NapLock<T> {
        NapLock {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
            seen: ::loom::cell::UnsafeCell::new(()),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> NapGuard<'_, T> {
        if !self.try_take() {
            self.take_slowly();
        }
        self.touch();
        NapGuard { lock: self, stays: PhantomData }
    }

    #[inline]
    fn try_take(&self) -> bool {
        // Acquire: pairs with the release of the holder before, so that we find what it left.
        self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(&self) {
        let mut rounds = 0;
        loop {
            for pauses in PAUSES {
                (0..pauses).for_each(|_| loom::spin_loop());
                if self.try_take() {
                    return;
                }
            }
            if rounds < YIELDS {
                rounds += 1;
                thread::yield_now();
            } else {
                thread::sleep(NAP);
            }
        }
    }

    #[inline]
    fn touch(&self) {
        #[cfg(loom)]
        self.seen.with_mut(|_| ());
    }
}

impl<T: Default> Default for NapLock<T> {
    fn default() -> NapLock<T> {
        NapLock::new(T::default())
    }
}

impl<T> fmt::Debug for NapLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// Holds the lock, panic or not: whoever panics leaves the value whole.
pub(crate) struct NapGuard<'a, T> {
    lock: &'a NapLock<T>,
    /// On its thread: a section held across an await would not compile.
    stays: PhantomData<*const ()>,
}

impl<T> Deref for NapGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: (L1) we are the holder.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for NapGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: (L1) we are the holder.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for NapGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.touch();
        // Release: pairs with the acquire of the next holder.
        self.lock.taken.store(false, Release);
    }
}

#[cfg(loom)]
mod stand_in {
    use crate::loom::sync::{Mutex, PoisonError};

    pub(crate) use crate::loom::sync::MutexGuard as Guard;

    #[derive(Debug)]
    pub(crate) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Lock<T> {
            Lock(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl<T: Default> Default for Lock<T> {
        fn default() -> Lock<T> {
            Lock::new(T::default())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let lock = NapLock::new((0_u64, 0_u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        pair.1 = pair.1.max(pair.0);
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (40_000, 40_000));
    }

    #[test]
    fn a_panic_gives_it_back() {
        let lock = NapLock::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *lock.lock() = 2;
            let _held = lock.lock();
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
