//! A lock with many readers or one writer. Fair: first come, first served, so that a writer who waits holds up the readers
//! who come after.
//!
//! **R1** It is a semaphore: a reader has one permit, a writer all. The value is touched only through a guard; who has one permit
//! shares it, who has all has it alone.

mod guards;

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use self::guards::{
    OwnedRwLockMappedWriteGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLockMappedWriteGuard,
    RwLockReadGuard, RwLockWriteGuard,
};
use super::blocking;
use super::mutex::TryLockError;
use super::permits::{Claim, Hold, Permits, Source};
use super::semaphore::AcquireError;
use crate::task::facts::Hand;
use crate::task::wait::WaitReason;

const MAX_READERS: u32 = u32::MAX >> 3;

/// An asynchronous lock that many may read, or one may write.
///
/// Guards may be held across an await. It has no poisoning: a panic releases it. A writer who waits is not overtaken: a reader who
/// comes after waits behind. So a task that has a read guard and asks for a second one may deadlock; the report then says so.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let lock = leakfree::sync::RwLock::new(5);
/// {
///     let (one, two) = (lock.read().await, lock.read().await);
///     assert_eq!(*one + *two, 10);
/// }
/// *lock.write().await += 1;
/// assert_eq!(*lock.read().await, 6);
/// # });
/// ```
pub struct RwLock<T: ?Sized> {
    permits: Permits,
    max_readers: u32,
    value: UnsafeCell<T>,
}

// SAFETY: (R1) the value moves with the lock.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: (R1) readers share the value, writers move it between threads.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> Source for Arc<RwLock<T>> {
    const OWNED: bool = true;

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl<T> RwLock<T> {
    /// An unlocked lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock::with_max_readers(value, MAX_READERS)
    }

    /// The same, for at most `max_readers` at a time.
    ///
    /// # Panics
    /// If that is zero, or more than `u32::MAX >> 3`.
    #[track_caller]
    pub const fn with_max_readers(value: T, max_readers: u32) -> RwLock<T> {
        assert!(
            max_readers > 0 && max_readers <= MAX_READERS,
            "an RwLock can have between 1 and u32::MAX >> 3 readers at a time"
        );
        RwLock {
            permits: Permits::new(max_readers as usize, Location::caller()),
            max_readers,
            value: UnsafeCell::new(value),
        }
    }

    /// As [`new`](RwLock::new), which can be called in a `static`, too.
    #[track_caller]
    pub const fn const_new(value: T) -> RwLock<T> {
        RwLock::new(value)
    }

    /// As [`with_max_readers`](RwLock::with_max_readers), which can be called in a `static`, too.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub const fn const_with_max_readers(value: T, max_readers: u32) -> RwLock<T> {
        RwLock::with_max_readers(value, max_readers)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and nobody who came before waits, and returns a guard that reads.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost.
    #[track_caller]
    pub fn read(&self) -> Read<'_, T> {
        Read { lock: self, claim: Claim::new(&self.permits, 1, WaitReason::RwLockRead) }
    }

    /// Waits until nobody reads or writes, and nobody who came before waits, and returns a guard that writes.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost.
    #[track_caller]
    pub fn write(&self) -> Write<'_, T> {
        let all = self.max_readers as usize;
        Write { lock: self, claim: Claim::new(&self.permits, all, WaitReason::RwLockWrite) }
    }

    /// As [`read`](RwLock::read), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn read_owned(self: Arc<Self>) -> ReadOwned<T> {
        ReadOwned(Claim::new(self, 1, WaitReason::RwLockRead))
    }

    /// As [`write`](RwLock::write), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn write_owned(self: Arc<Self>) -> WriteOwned<T> {
        let all = self.max_readers as usize;
        WriteOwned(Claim::new(self, all, WaitReason::RwLockWrite))
    }

    /// A guard that reads, if nobody writes and nobody waits. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError`] if not.
    #[track_caller]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, TryLockError> {
        let held =
            self.permits.try_take(1, Hand::polled(Location::caller())).map_err(|_| TryLockError(()))?;
        Ok(RwLockReadGuard::new(self, Hold::new(&self.permits, 1, held)))
    }

    /// A guard that writes, if nobody reads, writes or waits. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError`] if not.
    #[track_caller]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, TryLockError> {
        let all = self.max_readers as usize;
        let held =
            self.permits.try_take(all, Hand::polled(Location::caller())).map_err(|_| TryLockError(()))?;
        Ok(RwLockWriteGuard::new(self, Hold::new(&self.permits, all, held)))
    }

    /// As [`try_read`](RwLock::try_read), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_read_owned(self: Arc<Self>) -> Result<OwnedRwLockReadGuard<T>, TryLockError> {
        let held = self
            .permits
            .try_take(1, Hand::polled(Location::caller()).owned())
            .map_err(|_| TryLockError(()))?;
        Ok(OwnedRwLockReadGuard::new(Hold::new(self, 1, held)))
    }

    /// As [`try_write`](RwLock::try_write), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_write_owned(self: Arc<Self>) -> Result<OwnedRwLockWriteGuard<T>, TryLockError> {
        let all = self.max_readers as usize;
        let held = self
            .permits
            .try_take(all, Hand::polled(Location::caller()).owned())
            .map_err(|_| TryLockError(()))?;
        Ok(OwnedRwLockWriteGuard::new(Hold::new(self, all, held)))
    }

    /// Blocks the thread until it may read: for code outside of tasks, and for blocking calls.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_read(&self) -> RwLockReadGuard<'_, T> {
        blocking::wait("RwLock::blocking_read", "read", self.read())
    }

    /// Blocks the thread until it may write: for code outside of tasks, and for blocking calls.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_write(&self) -> RwLockWriteGuard<'_, T> {
        blocking::wait("RwLock::blocking_write", "write", self.write())
    }

    /// The value; the borrow proves that nobody has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

fn never_closed<T>(result: Result<T, AcquireError>) -> T {
    result.expect("the semaphore of an RwLock is never closed")
}

/// The future of [`RwLock::read`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Read<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    claim: Claim<&'a Permits>,
}

impl<'a, T: ?Sized> Future for Read<'a, T> {
    type Output = RwLockReadGuard<'a, T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.claim).poll(cx).map(|hold| RwLockReadGuard::new(self.lock, never_closed(hold)))
    }
}

/// The future of [`RwLock::write`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Write<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    claim: Claim<&'a Permits>,
}

impl<'a, T: ?Sized> Future for Write<'a, T> {
    type Output = RwLockWriteGuard<'a, T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.claim).poll(cx).map(|hold| RwLockWriteGuard::new(self.lock, never_closed(hold)))
    }
}

/// The future of [`RwLock::read_owned`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct ReadOwned<T: ?Sized>(Claim<Arc<RwLock<T>>>);

impl<T: ?Sized> Future for ReadOwned<T> {
    type Output = OwnedRwLockReadGuard<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|hold| OwnedRwLockReadGuard::new(never_closed(hold)))
    }
}

/// The future of [`RwLock::write_owned`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct WriteOwned<T: ?Sized>(Claim<Arc<RwLock<T>>>);

impl<T: ?Sized> Future for WriteOwned<T> {
    type Output = OwnedRwLockWriteGuard<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|hold| OwnedRwLockWriteGuard::new(never_closed(hold)))
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("value", &&*guard).finish(),
            Err(_) => debug.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

opaque! {
    [T: ?Sized] Read<'_, T>, "Read";
    [T: ?Sized] Write<'_, T>, "Write";
    [T: ?Sized] ReadOwned<T>, "ReadOwned";
    [T: ?Sized] WriteOwned<T>, "WriteOwned";
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[track_caller]
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}
