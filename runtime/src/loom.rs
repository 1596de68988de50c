//! std or loom: every atomic, lock and thread of the protocols comes from here.
//!
//! Under loom a `Mutex` and a `StaticAtomicU64` can be made in a `const fn`, as std's can: loom's own is made at its first use. What is only
//! reference-counted or set once (`Arc`, `OnceLock`) stays std's: their orders are not ours to check.

#[cfg(not(loom))]
pub(crate) use std::thread;

#[cfg(not(loom))]
pub(crate) mod sync {
    pub(crate) use std::sync::{
        Condvar, Mutex, Mutex as TryMutex, MutexGuard, MutexGuard as TryMutexGuard, PoisonError, RwLock,
        RwLockReadGuard, TryLockError, atomic, atomic::AtomicU64 as StaticAtomicU64,
    };
}

#[cfg(loom)]
pub(crate) mod thread {
    use std::io;
    use std::time::Duration;

    pub(crate) use ::loom::thread::yield_now;

    /// Time does not pass in a model: others run.
    pub(crate) fn sleep(_: Duration) {
        yield_now();
    }

    #[derive(Debug)]
    pub(crate) struct Builder(::loom::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(::loom::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            f: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            self.0.spawn(f).map(JoinHandle)
        }
    }

    #[derive(Debug)]
    pub(crate) struct JoinHandle<T>(::loom::thread::JoinHandle<T>);

    impl<T> JoinHandle<T> {
        pub(crate) fn join(self) -> std::thread::Result<T> {
            self.0.join()
        }

        /// loom does not tell; who asks joins in the end.
        pub(crate) fn is_finished(&self) -> bool {
            false
        }
    }
}

/// Waits a little in a loop that looks again. A model lets another thread run.
#[inline]
pub(crate) fn spin_loop() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    ::loom::thread::yield_now();
}

/// A word that only the caller stores to, read by it before it stores. Of an object's accesses loom remembers the last one: a load of
/// one's own would hide a reader's from the store behind it, and no model would try that reader after the store.
///
/// # Safety
/// No other thread stores to it, or all its stores happen before this, and loom can see that.
#[inline]
#[cfg_attr(leakfree_norecord, allow(dead_code))]
pub(crate) unsafe fn own_load(word: &sync::atomic::AtomicU64) -> u64 {
    #[cfg(not(loom))]
    return word.load(sync::atomic::Ordering::Relaxed);
    #[cfg(loom)]
    // SAFETY: passed on.
    return unsafe { word.unsync_load() };
}

#[cfg(loom)]
pub(crate) mod sync {
    pub(crate) use std::sync::{PoisonError, TryLockError};

    pub(crate) use ::loom::sync::{Condvar, MutexGuard, RwLock, RwLockReadGuard};

    pub(crate) use super::stand_in::{Mutex, StaticAtomicU64, TryMutex, TryMutexGuard};

    pub(crate) mod atomic {
        pub(crate) use ::loom::sync::atomic::*;
    }
}

#[cfg(loom)]
mod stand_in {
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, OnceLock, TryLockError, TryLockResult};

    use ::loom::sync::MutexGuard;
    use ::loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
    use ::loom::sync::atomic::{AtomicBool, AtomicU64};

    pub(crate) struct Mutex<T> {
        inner: OnceLock<::loom::sync::Mutex<T>>,
        /// The value, up to the first use.
        seed: std::sync::Mutex<Option<T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Mutex<T> {
            Mutex { inner: OnceLock::new(), seed: std::sync::Mutex::new(Some(value)) }
        }

        fn inner(&self) -> &::loom::sync::Mutex<T> {
            let seed = || self.seed.lock().unwrap().take().expect("there up to the first use");
            self.inner.get_or_init(|| ::loom::sync::Mutex::new(seed()))
        }

        #[track_caller]
        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.inner().lock()
        }

        pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
            self.inner();
            self.inner.get_mut().expect("made above").get_mut()
        }
    }

    /// Loom wants to see it made before other threads use it: a model uses it once before it shares it.
    pub(crate) struct StaticAtomicU64 {
        inner: OnceLock<AtomicU64>,
        /// The value, up to the first use.
        seed: u64,
    }

    impl StaticAtomicU64 {
        pub(crate) const fn new(value: u64) -> StaticAtomicU64 {
            StaticAtomicU64 { inner: OnceLock::new(), seed: value }
        }

        fn inner(&self) -> &AtomicU64 {
            self.inner.get_or_init(|| AtomicU64::new(self.seed))
        }

        #[track_caller]
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.inner().load(order)
        }

        #[track_caller]
        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.inner().store(value, order);
        }

        #[track_caller]
        pub(crate) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.inner().compare_exchange(current, new, success, failure)
        }
    }

    /// A lock that is only tried. (A thread that is about to try loom's own is blocked while another has it.)
    #[derive(Debug)]
    pub(crate) struct TryMutex<T> {
        taken: AtomicBool,
        value: std::sync::Mutex<T>,
    }

    #[derive(Debug)]
    pub(crate) struct TryMutexGuard<'a, T> {
        mutex: &'a TryMutex<T>,
        /// `None` while it is dropped.
        value: Option<std::sync::MutexGuard<'a, T>>,
    }

    impl<T> TryMutex<T> {
        pub(crate) fn new(value: T) -> TryMutex<T> {
            TryMutex { taken: AtomicBool::new(false), value: std::sync::Mutex::new(value) }
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<TryMutexGuard<'_, T>> {
            match self.taken.compare_exchange(false, true, Acquire, Relaxed) {
                Ok(_) => Ok(TryMutexGuard { mutex: self, value: Some(self.value.lock().unwrap()) }),
                Err(_) => Err(TryLockError::WouldBlock),
            }
        }
    }

    impl<T> Deref for TryMutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.value.as_ref().expect("there up to the drop")
        }
    }

    impl<T> DerefMut for TryMutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_mut().expect("there up to the drop")
        }
    }

    impl<T> Drop for TryMutexGuard<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            self.mutex.taken.store(false, Release);
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Mutex<T> {
            Mutex::new(T::default())
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Mutex").finish_non_exhaustive()
        }
    }
}
