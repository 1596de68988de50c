//! A mutex that is held for a few dozen instructions, and never across a call of user code: what primitives and scopes keep their state under.
//!
//! Two workers that want it at once would pull its lines to and fro with each look and each step, and take three times as long as one
//! after the other. So who finds it held goes away for longer and longer before it looks again, and meanwhile the other gets several turns
//! out of its own cache. If that lasts, it sleeps until it is woken, as with any mutex. Whoever panicked in it has left it as it was.

use crate::loom::sync::{Mutex, MutexGuard, PoisonError};

/// How often the processor is told to pause before the first look, and before the last: each time twice as often. A pause takes 3 to 40 ns, so it is
/// a few microseconds in all.
#[cfg(not(loom))]
const PAUSES: std::ops::RangeInclusive<u32> = 6..=7;

#[derive(Debug)]
pub(crate) struct ShortLock<T>(Mutex<T>);

impl<T> ShortLock<T> {
    pub(crate) const fn new(value: T) -> ShortLock<T> {
        ShortLock(Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(not(loom))]
        if let Ok(guard) = self.0.try_lock() {
            return guard;
        }
        self.lock_held()
    }

    #[cold]
    #[inline(never)]
    fn lock_held(&self) -> MutexGuard<'_, T> {
        #[cfg(not(loom))]
        for pauses in PAUSES {
            for _ in 0..1 << pauses {
                std::hint::spin_loop();
            }
            if let Ok(guard) = self.0.try_lock() {
                return guard;
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
