//! A value that is made once, by whoever needs it first.
//!
//! Whoever makes it holds the one permit; once it is there the permits are closed, which wakes all who wait.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::OnceLock;

use super::permits::{Claim, Hold, Permits};
use super::semaphore::TryAcquireError;
use crate::task::facts::Hand;
use crate::task::wait::WaitReason;

/// A cell that is given its value once, perhaps by a future.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// static CELL: leakfree::sync::OnceCell<u32> = leakfree::sync::OnceCell::const_new();
/// assert_eq!(CELL.get(), None);
/// assert_eq!(*CELL.get_or_init(|| async { 7 }).await, 7);
/// assert_eq!(*CELL.get_or_init(|| async { 8 }).await, 7, "made once");
/// # });
/// ```
pub struct OnceCell<T> {
    value: OnceLock<T>,
    permits: Permits,
}

impl<T> OnceCell<T> {
    /// An empty cell.
    #[track_caller]
    pub const fn new() -> OnceCell<T> {
        OnceCell { value: OnceLock::new(), permits: Permits::new(1, Location::caller()) }
    }

    /// As [`new`](OnceCell::new), which can be called in a `static`, too.
    #[track_caller]
    pub const fn const_new() -> OnceCell<T> {
        OnceCell::new()
    }

    /// A cell with that value, or an empty one.
    #[track_caller]
    pub fn new_with(value: Option<T>) -> OnceCell<T> {
        let cell = OnceCell::new();
        if let Some(value) = value {
            cell.fill(value);
        }
        cell
    }

    /// The cell's value, which it does not have yet; the caller holds the permit, or is alone.
    fn fill(&self, value: T) -> &T {
        let set = self.value.set(value).is_ok();
        assert!(set, "whoever holds the permit finds the cell empty");
        self.permits.close();
        self.value.get().expect("set above")
    }

    /// Whether the cell has its value.
    pub fn initialized(&self) -> bool {
        self.value.get().is_some()
    }

    /// The value, if it is there. Does not wait.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Gives the cell its value. Does not wait.
    ///
    /// # Errors
    /// The value, if the cell has one already, or somebody is making one.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), SetError<T>> {
        if self.initialized() {
            return Err(SetError::AlreadyInitializedError(value));
        }
        match self.permits.try_take(1, Hand::polled(Location::caller())) {
            Ok(held) => {
                let _hold = Hold::new(&self.permits, 1, held);
                self.fill(value);
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(SetError::InitializingError(value)),
            Err(TryAcquireError::Closed) => Err(SetError::AlreadyInitializedError(value)),
        }
    }

    /// The value; if there is none, the one that the future of `f` makes. Who comes while somebody makes it waits.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped while it makes the value, the next who waits does so with its own `f`. The same holds if `f`
    /// panics.
    #[track_caller]
    pub fn get_or_init<F, Fut>(&self, f: F) -> impl Future<Output = &T>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let claim = Claim::new(&self.permits, 1, WaitReason::OnceCellInit);
        async move {
            if let Some(value) = self.value.get() {
                return value;
            }
            match claim.await {
                Ok(_hold) => self.fill(f().await),
                Err(_) => self.value.get().expect("closed once it has its value"),
            }
        }
    }

    /// As [`get_or_init`](OnceCell::get_or_init), with a future that may fail.
    ///
    /// # Errors
    /// The future's error. The cell stays empty, and the next who waits makes the value.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn get_or_try_init<E, F, Fut>(&self, f: F) -> impl Future<Output = Result<&T, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let claim = Claim::new(&self.permits, 1, WaitReason::OnceCellInit);
        async move {
            if let Some(value) = self.value.get() {
                return Ok(value);
            }
            match claim.await {
                Ok(_hold) => f().await.map(|value| self.fill(value)),
                Err(_) => Ok(self.value.get().expect("closed once it has its value")),
            }
        }
    }

    /// The value, if it is there.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out; the cell is empty again.
    #[track_caller]
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    #[track_caller]
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    #[track_caller]
    fn from(value: T) -> OnceCell<T> {
        OnceCell::new_with(Some(value))
    }
}

impl<T: Clone> Clone for OnceCell<T> {
    #[track_caller]
    fn clone(&self) -> OnceCell<T> {
        OnceCell::new_with(self.get().cloned())
    }
}

impl<T: PartialEq> PartialEq for OnceCell<T> {
    fn eq(&self, other: &OnceCell<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceCell<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceCell").field("value", &self.get()).finish_non_exhaustive()
    }
}

/// The cell was not given its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetError<T> {
    /// It has one already.
    AlreadyInitializedError(T),
    /// Somebody is making one.
    InitializingError(T),
}

impl<T> SetError<T> {
    /// Whether the cell has a value already.
    pub fn is_already_init_err(&self) -> bool {
        matches!(self, SetError::AlreadyInitializedError(_))
    }

    /// Whether somebody is making the value.
    pub fn is_initializing_err(&self) -> bool {
        matches!(self, SetError::InitializingError(_))
    }
}

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::AlreadyInitializedError(_) => "the cell has a value already",
            SetError::InitializingError(_) => "the cell's value is being made",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for SetError<T> {}
