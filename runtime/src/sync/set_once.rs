//! A value that is set once, and waited for.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::util::lock::{Guard, Lock};

/// A cell that is given its value once, and lets tasks wait until it has it.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// static READY: leakfree::sync::SetOnce<u32> = leakfree::sync::SetOnce::const_new();
/// let waits = leakfree::spawn(async { *READY.wait().await });
/// READY.set(4).unwrap();
/// assert_eq!(waits.await.unwrap(), 4);
/// assert!(READY.set(5).is_err());
/// # });
/// ```
pub struct SetOnce<T> {
    value: OnceLock<T>,
    waiters: Lock<Waiters>,
    created: &'static Location<'static>,
}

impl<T> SetOnce<T> {
    /// An empty cell.
    #[track_caller]
    pub const fn new() -> SetOnce<T> {
        SetOnce { value: OnceLock::new(), waiters: Lock::new(Waiters::new()), created: Location::caller() }
    }

    /// As [`new`](SetOnce::new), which can be called in a `static`, too.
    #[track_caller]
    pub const fn const_new() -> SetOnce<T> {
        SetOnce::new()
    }

    /// A cell with that value, or an empty one.
    #[track_caller]
    pub fn new_with(value: Option<T>) -> SetOnce<T> {
        let cell = SetOnce::new();
        if let Some(value) = value {
            let _ = cell.value.set(value);
        }
        cell
    }

    fn waiters(&self) -> Guard<'_, Waiters> {
        self.waiters.lock()
    }

    /// Whether the cell has its value.
    pub fn initialized(&self) -> bool {
        self.value.get().is_some()
    }

    /// The value, if it is there. Does not wait.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Gives the cell its value, and wakes all who wait for it.
    ///
    /// # Errors
    /// The value, if the cell has one already.
    pub fn set(&self, value: T) -> Result<(), SetOnceError<T>> {
        self.value.set(value).map_err(SetOnceError)?;
        let woken = self.waiters().grant_all();
        drop(woken);
        Ok(())
    }

    /// The value, if it is there.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Waits until the cell has its value.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn wait(&self) -> SetOnceWait<'_, T> {
        let leaf = Leaf::new(WaitReason::SetOnceWait, Object::Created(self.created));
        SetOnceWait { cell: self, place: None, leaf }
    }
}

/// The future of [`SetOnce::wait`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct SetOnceWait<'a, T> {
    cell: &'a SetOnce<T>,
    place: Option<Place>,
    leaf: Leaf,
}

impl<'a, T> Future for SetOnceWait<'a, T> {
    type Output = &'a T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'a T> {
        let this = &mut *self;
        if let Some(value) = this.cell.get() {
            this.leaf.ready();
            return Poll::Ready(value);
        }
        let mut waiters = this.cell.waiters();
        // The value is set before the lock is taken to wake: if it is not here yet, we are woken.
        if let Some(value) = this.cell.get() {
            drop(waiters);
            this.leaf.ready();
            return Poll::Ready(value);
        }
        let old = match this.place {
            Some(place) => waiters.poll(place, cx, ()).err().flatten(),
            None => {
                this.place = Some(waiters.join(cx, ()));
                None
            }
        };
        drop(waiters);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T> Drop for SetOnceWait<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.cell.waiters().leave(place);
            drop(waker);
        }
    }
}

impl<T> Default for SetOnce<T> {
    #[track_caller]
    fn default() -> SetOnce<T> {
        SetOnce::new()
    }
}

impl<T> From<T> for SetOnce<T> {
    #[track_caller]
    fn from(value: T) -> SetOnce<T> {
        SetOnce::new_with(Some(value))
    }
}

impl<T: fmt::Debug> fmt::Debug for SetOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetOnce").field("value", &self.get()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SetOnceWait<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetOnceWait").finish_non_exhaustive()
    }
}

/// The cell has a value already; this is the one that was to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetOnceError<T>(pub T);

impl<T> fmt::Display for SetOnceError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cell has a value already")
    }
}

impl<T: fmt::Debug> std::error::Error for SetOnceError<T> {}
