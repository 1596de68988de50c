//! A mutual exclusion lock that waits without blocking its thread. Fair: first come, first served.
//!
//! **M1** The value is touched only through a [`MutexGuard`], and there is one while `State::locked`: a
//! guard is made by whoever set it, or was granted it, and clears it or grants it on.

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};

use crate::task::facts::{Holder, LockRecord};
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};

/// An asynchronous lock around a value.
///
/// It may be held across an await. It has no poisoning: a panic releases it. A lock that comes free goes to
/// the task that has waited longest.
pub struct Mutex<T: ?Sized> {
    state: std::sync::Mutex<State>,
    created: &'static Location<'static>,
    value: UnsafeCell<T>,
}

struct State {
    locked: bool,
    waiters: Waiters<Holder>,
    record: LockRecord,
}

// SAFETY: (M1) the value is moved between threads, never shared by two at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: (M1) as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            state: std::sync::Mutex::new(State {
                locked: false,
                waiters: Waiters::new(),
                record: LockRecord::new(),
            }),
            created: Location::caller(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the lock, and returns the guard that holds it.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost. A lock that was granted to it goes to the next in
    /// line.
    #[track_caller]
    pub fn lock(&self) -> Lock<'_, T> {
        let leaf = Leaf::new(WaitReason::MutexLock, Object::Created(self.created));
        Lock { mutex: self, place: None, leaf }
    }

    /// The guard, if the lock is free and nobody waits for it. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError`] if it is not free.
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        let mut state = self.state();
        if state.locked {
            return Err(TryLockError(()));
        }
        state.locked = true;
        state.record.set(Holder::polled(Location::caller()));
        Ok(MutexGuard { mutex: self })
    }

    /// The value; the borrow proves that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn unlock(&self) {
        let woken = {
            let mut state = self.state();
            let granted = state.waiters.grant();
            state.locked = granted.is_some();
            state.record.set(granted.as_ref().map_or(Holder::Free, |(_, holder)| *holder));
            granted
        };
        drop(woken);
    }
}

/// The future of [`Mutex::lock`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Lock<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    place: Option<Place>,
    leaf: Leaf,
}

impl<'a, T: ?Sized> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MutexGuard<'a, T>> {
        let this = &mut *self;
        std::task::ready!(this.leaf.proceed(cx));
        let site = this.leaf.location();
        let mut state = this.mutex.state();
        let mut old = None;
        match this.place {
            None if !state.locked => {
                state.locked = true;
                state.record.set(Holder::polled(site));
                drop(state);
                return Poll::Ready(MutexGuard { mutex: this.mutex });
            }
            None => {
                this.place = Some(state.waiters.join(cx, Holder::woken_by(cx, site)));
                let id = state.record.contended(this.mutex.created);
                this.leaf.set_object(Object::Lock(id));
            }
            Some(place) => match state.waiters.poll(place, cx, Holder::woken_by(cx, site)) {
                Ok(()) => {
                    state.waiters.leave(place);
                    state.record.set(Holder::polled(site));
                    drop(state);
                    this.place = None;
                    this.leaf.ready();
                    return Poll::Ready(MutexGuard { mutex: this.mutex });
                }
                Err(replaced) => old = replaced,
            },
        }
        drop(state);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T: ?Sized> Drop for Lock<'_, T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let waker = self.mutex.state().waiters.leave(place);
        if waker.is_none() {
            // Granted and not taken: the lock is ours to give on.
            self.mutex.unlock();
        }
        drop(waker);
    }
}

/// Holds a [`Mutex`]; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

// SAFETY: (M1) a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: (M1) we hold the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: (M1) we hold the lock, and are borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("value", &&*guard).finish(),
            Err(_) => debug.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

/// The lock is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TryLockError(());

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is held")
    }
}

impl std::error::Error for TryLockError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn the_lock_goes_to_who_waited_longest() {
        let mutex = Mutex::new(0);
        let guard = mutex.try_lock().unwrap();
        let (mut a, mut b) = (pin!(mutex.lock()), pin!(mutex.lock()));
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        drop(guard);
        assert!(mutex.try_lock().is_err(), "handed over, not free");
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        let Poll::Ready(mut guard) = a.as_mut().poll(&mut cx()) else { panic!("granted") };
        *guard += 1;
        drop(guard);
        let Poll::Ready(guard) = b.as_mut().poll(&mut cx()) else { panic!("granted") };
        assert_eq!(*guard, 1);
        drop(guard);
        assert!(mutex.try_lock().is_ok());
    }

    #[test]
    fn a_granted_waiter_that_is_dropped_hands_the_lock_on() {
        let mutex = Mutex::new(());
        let guard = mutex.try_lock().unwrap();
        let mut a = Box::pin(mutex.lock());
        let mut b = pin!(mutex.lock());
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        drop(guard);
        drop(a);
        assert!(b.as_mut().poll(&mut cx()).is_ready());
        assert!(mutex.try_lock().is_ok(), "b's guard was dropped");
    }

    #[test]
    fn a_static_lock_is_possible() {
        static LOCK: Mutex<u32> = Mutex::new(7);
        assert_eq!(*LOCK.try_lock().unwrap(), 7);
    }
}
