//! What holds a [`Mutex`]. A mapped guard holds it, too, and points at a part of its value.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Mutex, Raw};

/// Holds a [`Mutex`]; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

// SAFETY: (M1) a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// For whoever has the lock.
    pub(super) fn new(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        MutexGuard { mutex }
    }

    /// A guard of a part of the value. (A function of the type, so as not to hide a method of the value's.)
    pub fn map<U: ?Sized>(mut this: Self, f: impl FnOnce(&mut T) -> &mut U) -> MappedMutexGuard<'a, U> {
        let data = NonNull::from(f(&mut *this));
        MappedMutexGuard { raw: &this.into_mutex().raw, data, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(MappedMutexGuard { raw: &this.into_mutex().raw, data, _value: PhantomData }),
            None => Err(this),
        }
    }

    /// The lock that this guard holds.
    pub fn mutex(this: &Self) -> &'a Mutex<T> {
        this.mutex
    }

    /// The lock goes on being held.
    fn into_mutex(self) -> &'a Mutex<T> {
        let mutex = self.mutex;
        mem::forget(self);
        mutex
    }
}

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
        self.mutex.raw.unlock();
    }
}

/// Holds a [`Mutex`] and keeps it alive; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct OwnedMutexGuard<T: ?Sized> {
    /// `None` only while it is taken apart.
    mutex: Option<Arc<Mutex<T>>>,
}

// SAFETY: (M1) a shared guard gives shared access to the value; the lock that it shares, too, moves it at most, which needs `Send`.
unsafe impl<T: ?Sized + Send + Sync> Sync for OwnedMutexGuard<T> {}

impl<T: ?Sized> OwnedMutexGuard<T> {
    /// For whoever has the lock.
    pub(super) fn new(mutex: Arc<Mutex<T>>) -> OwnedMutexGuard<T> {
        OwnedMutexGuard { mutex: Some(mutex) }
    }

    /// A guard of a part of the value.
    pub fn map<U: ?Sized>(mut this: Self, f: impl FnOnce(&mut T) -> &mut U) -> OwnedMappedMutexGuard<T, U> {
        let data = NonNull::from(f(&mut *this));
        OwnedMappedMutexGuard { data, mutex: this.into_mutex(), _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<OwnedMappedMutexGuard<T, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(OwnedMappedMutexGuard { data, mutex: this.into_mutex(), _value: PhantomData }),
            None => Err(this),
        }
    }

    /// The lock that this guard holds.
    pub fn mutex(this: &Self) -> &Arc<Mutex<T>> {
        this.mutex.as_ref().expect("present until the guard is taken apart")
    }

    /// The lock goes on being held.
    fn into_mutex(mut self) -> Arc<Mutex<T>> {
        self.mutex.take().expect("present until the guard is taken apart")
    }
}

impl<T: ?Sized> Deref for OwnedMutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: (M1) we hold the lock.
        unsafe { &*OwnedMutexGuard::mutex(self).value.get() }
    }
}

impl<T: ?Sized> DerefMut for OwnedMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: (M1) we hold the lock, and are borrowed mutably.
        unsafe { &mut *OwnedMutexGuard::mutex(self).value.get() }
    }
}

impl<T: ?Sized> Drop for OwnedMutexGuard<T> {
    fn drop(&mut self) {
        if let Some(mutex) = &self.mutex {
            mutex.raw.unlock();
        }
    }
}

/// Holds a [`Mutex`] for a part of its value; see [`MutexGuard::map`].
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct MappedMutexGuard<'a, T: ?Sized> {
    raw: &'a Raw,
    /// A part of the lock's value.
    data: NonNull<T>,
    _value: PhantomData<&'a mut T>,
}

// SAFETY: (M1) the guard is as good as a `&mut T`, and the lock without its value goes anywhere.
unsafe impl<T: ?Sized + Send> Send for MappedMutexGuard<'_, T> {}
// SAFETY: (M1) a shared guard gives shared access to the part only.
unsafe impl<T: ?Sized + Sync> Sync for MappedMutexGuard<'_, T> {}

impl<'a, T: ?Sized> MappedMutexGuard<'a, T> {
    /// A guard of a part of the part.
    pub fn map<U: ?Sized>(mut this: Self, f: impl FnOnce(&mut T) -> &mut U) -> MappedMutexGuard<'a, U> {
        let data = NonNull::from(f(&mut *this));
        let raw = this.raw;
        mem::forget(this);
        MappedMutexGuard { raw, data, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => {
                let raw = this.raw;
                mem::forget(this);
                Ok(MappedMutexGuard { raw, data, _value: PhantomData })
            }
            None => Err(this),
        }
    }
}

impl<T: ?Sized> Deref for MappedMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: (M1) we hold the lock; `data` was borrowed from its value, for as long as that is locked.
        unsafe { self.data.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for MappedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: (M1) as above, and we are borrowed mutably.
        unsafe { self.data.as_mut() }
    }
}

impl<T: ?Sized> Drop for MappedMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.raw.unlock();
    }
}

/// Holds a [`Mutex`] for a part of its value, and keeps it alive; see [`OwnedMutexGuard::map`].
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct OwnedMappedMutexGuard<T: ?Sized, U: ?Sized = T> {
    /// A part of the lock's value.
    data: NonNull<U>,
    mutex: Arc<Mutex<T>>,
    /// Invariant: the part is written through `data`.
    _value: PhantomData<*mut U>,
}

/// Of a part that is written the type cannot be shortened, or the lock's value would come to borrow what is gone:
///
/// ```compile_fail
/// use leakfree::sync::OwnedMappedMutexGuard as Guard;
/// fn shorten<'a>(guard: Guard<&'static str>, _: &'a str) -> Guard<&'static str, &'a str> { guard }
/// ```
///
/// Of one that is read it can:
///
/// ```
/// use leakfree::sync::OwnedRwLockReadGuard as Guard;
/// fn shorten<'a>(guard: Guard<&'static str>, _: &'a str) -> Guard<&'static str, &'a str> { guard }
/// ```
#[cfg(doctest)]
struct Invariance;

// SAFETY: (M1) the guard is as good as an `Arc` of the lock and a `&mut U`.
unsafe impl<T: ?Sized + Send, U: ?Sized + Send> Send for OwnedMappedMutexGuard<T, U> {}
// SAFETY: (M1) a shared guard gives shared access to the part only.
unsafe impl<T: ?Sized + Send, U: ?Sized + Sync> Sync for OwnedMappedMutexGuard<T, U> {}

impl<T: ?Sized, U: ?Sized> Deref for OwnedMappedMutexGuard<T, U> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: (M1) we hold the lock and keep it alive; `data` was borrowed from its value.
        unsafe { self.data.as_ref() }
    }
}

impl<T: ?Sized, U: ?Sized> DerefMut for OwnedMappedMutexGuard<T, U> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: (M1) as above, and we are borrowed mutably.
        unsafe { self.data.as_mut() }
    }
}

impl<T: ?Sized, U: ?Sized> Drop for OwnedMappedMutexGuard<T, U> {
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

macro_rules! show {
    ($([$($generics:tt)*] $guard:ty, $target:ident;)+) => {$(
        impl<$($generics)* $target: ?Sized + fmt::Debug> fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<$($generics)* $target: ?Sized + fmt::Display> fmt::Display for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )+};
}

show! {
    [] MutexGuard<'_, T>, T;
    [] OwnedMutexGuard<T>, T;
    [] MappedMutexGuard<'_, T>, T;
    [T: ?Sized,] OwnedMappedMutexGuard<T, U>, U;
}
