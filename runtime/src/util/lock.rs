//! A lock for a few dozen instructions: one locked instruction to take it, a plain store to give it back.
//!
//! A mutex takes another locked instruction to be given back, for it must find out whether somebody sleeps. Here nobody does: who finds the
//! lock taken looks again, lets other threads run after a while, and naps after a longer one, for the holder may have been preempted by who
//! looks. So it is for sections that wait for nothing, and in which a thread is seldom met by another.
//!
//! **L1** What is inside is touched by the holder alone: who set `taken`, until it clears it again.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::loom::sync::atomic::AtomicBool;
use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::{self, thread};

/// Looks in a row before others run, and how often those may run before a nap.
const LOOKS: u32 = 64;
const YIELDS: u32 = 16;
const NAP: Duration = Duration::from_micros(50);

pub(crate) struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
    /// Touched with the value: loom sees whether holders are ordered.
    #[cfg(loom)]
    seen: ::loom::cell::UnsafeCell<()>,
}

// SAFETY: (L1) the value is touched by one thread at a time, each after the one before.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Lock<T> {
        Lock {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
            #[cfg(loom)]
            seen: ::loom::cell::UnsafeCell::new(()),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if !self.try_take() {
            self.take_slowly();
        }
        self.touch();
        Guard { lock: self }
    }

    #[inline]
    fn try_take(&self) -> bool {
        // Acquire: pairs with the release of the holder before, so that we find what it left.
        self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    #[cold]
    fn take_slowly(&self) {
        let mut looks = 0;
        while !self.try_take() {
            // Loads: an attempt would take the line away from the holder. (A model's loads may be of the past for ever.)
            loop {
                looks += 1;
                if looks % LOOKS != 0 {
                    loom::spin_loop();
                } else if looks <= LOOKS * YIELDS {
                    thread::yield_now();
                } else {
                    thread::sleep(NAP);
                }
                if cfg!(loom) || !self.taken.load(Relaxed) {
                    break;
                }
            }
        }
    }

    #[inline]
    fn touch(&self) {
        #[cfg(loom)]
        self.seen.with_mut(|_| ());
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Lock<T> {
        Lock::new(T::default())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// Holds the lock, panic or not: whoever panics leaves the value whole.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: (L1) we are the holder.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: (L1) we are the holder.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.touch();
        // Release: pairs with the acquire of the next holder.
        self.lock.taken.store(false, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let lock = Lock::new((0_u64, 0_u64));
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
        let lock = Lock::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *lock.lock() = 2;
            let _held = lock.lock();
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
