//! What holds an [`RwLock`]. Each guard is a [`Hold`], which lets go, and a pointer to the value or to a part of it.
//!
//! A mapped write guard cannot be downgraded: the part may have been reached through `&mut` past a lock of its own, which
//! readers of the whole could then take.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::RwLock;
use crate::sync::permits::{Hold, Permits};

/// Reads the value of an [`RwLock`]; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    data: NonNull<T>,
    hold: Hold<&'a Permits>,
    _value: PhantomData<&'a T>,
}

/// Writes the value of an [`RwLock`]; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    data: NonNull<T>,
    hold: Hold<&'a Permits>,
    _value: PhantomData<&'a mut T>,
}

/// Writes a part of the value of an [`RwLock`]; see [`RwLockWriteGuard::map`].
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct RwLockMappedWriteGuard<'a, T: ?Sized> {
    data: NonNull<T>,
    hold: Hold<&'a Permits>,
    _value: PhantomData<&'a mut T>,
}

/// Reads the value of an [`RwLock`], or a part of it, and keeps the lock alive; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct OwnedRwLockReadGuard<T: ?Sized, U: ?Sized = T> {
    data: NonNull<U>,
    hold: Hold<Arc<RwLock<T>>>,
}

/// Writes the value of an [`RwLock`] and keeps the lock alive; dropping it lets go.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct OwnedRwLockWriteGuard<T: ?Sized> {
    data: NonNull<T>,
    hold: Hold<Arc<RwLock<T>>>,
    _value: PhantomData<*mut T>,
}

/// Writes a part of the value of an [`RwLock`] and keeps the lock alive; see [`OwnedRwLockWriteGuard::map`].
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct OwnedRwLockMappedWriteGuard<T: ?Sized, U: ?Sized = T> {
    data: NonNull<U>,
    hold: Hold<Arc<RwLock<T>>>,
    _value: PhantomData<*mut U>,
}

// SAFETY: (R1) the guard is as good as a `&T`, and its hold goes anywhere.
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}
// SAFETY: (R1) as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: (R1) the guard is as good as a `&mut T`; downgraded, as a `&T` beside those of other threads.
unsafe impl<T: ?Sized + Send + Sync> Send for RwLockWriteGuard<'_, T> {}
// SAFETY: (R1) a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLockWriteGuard<'_, T> {}
// SAFETY: (R1) the guard is as good as a `&mut T`.
unsafe impl<T: ?Sized + Send + Sync> Send for RwLockMappedWriteGuard<'_, T> {}
// SAFETY: (R1) a shared guard gives shared access to the part only.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLockMappedWriteGuard<'_, T> {}
// SAFETY: (R1) the guard is as good as a `&U` and an `Arc` of the lock, which may drop the value where the guard is dropped.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Sync> Send for OwnedRwLockReadGuard<T, U> {}
// SAFETY: (R1) as above.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Sync> Sync for OwnedRwLockReadGuard<T, U> {}
// SAFETY: (R1) the guard is as good as a `&mut T` and an `Arc` of the lock.
unsafe impl<T: ?Sized + Send + Sync> Send for OwnedRwLockWriteGuard<T> {}
// SAFETY: (R1) a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Send + Sync> Sync for OwnedRwLockWriteGuard<T> {}
// SAFETY: (R1) the guard is as good as a `&mut U` and an `Arc` of the lock.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Send + Sync> Send for OwnedRwLockMappedWriteGuard<T, U> {}
// SAFETY: (R1) a shared guard gives shared access to the part only.
unsafe impl<T: ?Sized + Send + Sync, U: ?Sized + Send + Sync> Sync for OwnedRwLockMappedWriteGuard<T, U> {}

fn data<T: ?Sized>(lock: &RwLock<T>) -> NonNull<T> {
    NonNull::new(lock.value.get()).expect("a cell is never at null")
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// For whoever reads: `hold` is of `lock`.
    pub(super) fn new(lock: &'a RwLock<T>, hold: Hold<&'a Permits>) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { data: data(lock), hold, _value: PhantomData }
    }

    /// A guard of a part of the value. (A function of the type, so as not to hide a method of the value's.)
    pub fn map<U: ?Sized>(this: Self, f: impl FnOnce(&T) -> &U) -> RwLockReadGuard<'a, U> {
        let data = NonNull::from(f(&*this));
        RwLockReadGuard { data, hold: this.hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        this: Self,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<RwLockReadGuard<'a, U>, Self> {
        match f(&*this).map(NonNull::from) {
            Some(data) => Ok(RwLockReadGuard { data, hold: this.hold, _value: PhantomData }),
            None => Err(this),
        }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// For whoever writes: `hold` is of `lock`, and has all its permits.
    pub(super) fn new(lock: &'a RwLock<T>, hold: Hold<&'a Permits>) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard { data: data(lock), hold, _value: PhantomData }
    }

    /// Reads on, and lets others read: nobody writes in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        RwLockWriteGuard::downgrade_map(self, |value| value)
    }

    /// Reads a part on, and lets others read.
    pub fn downgrade_map<U: ?Sized>(this: Self, f: impl FnOnce(&T) -> &U) -> RwLockReadGuard<'a, U> {
        let data = NonNull::from(f(&*this));
        let mut hold = this.hold;
        hold.reduce_to_one();
        RwLockReadGuard { data, hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none: it writes still.
    pub fn try_downgrade_map<U: ?Sized>(
        this: Self,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<RwLockReadGuard<'a, U>, Self> {
        let Some(data) = f(&*this).map(NonNull::from) else { return Err(this) };
        let mut hold = this.hold;
        hold.reduce_to_one();
        Ok(RwLockReadGuard { data, hold, _value: PhantomData })
    }

    /// A guard of a part of the value.
    pub fn map<U: ?Sized>(mut this: Self, f: impl FnOnce(&mut T) -> &mut U) -> RwLockMappedWriteGuard<'a, U> {
        let data = NonNull::from(f(&mut *this));
        RwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<RwLockMappedWriteGuard<'a, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(RwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }),
            None => Err(this),
        }
    }

    /// The same guard as one of a part that is the whole.
    pub fn into_mapped(this: Self) -> RwLockMappedWriteGuard<'a, T> {
        RwLockWriteGuard::map(this, |value| value)
    }
}

impl<'a, T: ?Sized> RwLockMappedWriteGuard<'a, T> {
    /// A guard of a part of the part.
    pub fn map<U: ?Sized>(mut this: Self, f: impl FnOnce(&mut T) -> &mut U) -> RwLockMappedWriteGuard<'a, U> {
        let data = NonNull::from(f(&mut *this));
        RwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<RwLockMappedWriteGuard<'a, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(RwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }),
            None => Err(this),
        }
    }
}

impl<T: ?Sized> OwnedRwLockReadGuard<T> {
    /// For whoever reads.
    pub(super) fn new(hold: Hold<Arc<RwLock<T>>>) -> OwnedRwLockReadGuard<T> {
        OwnedRwLockReadGuard { data: data(hold.source()), hold }
    }
}

impl<T: ?Sized, U: ?Sized> OwnedRwLockReadGuard<T, U> {
    /// A guard of a part of the value.
    pub fn map<V: ?Sized>(this: Self, f: impl FnOnce(&U) -> &V) -> OwnedRwLockReadGuard<T, V> {
        let data = NonNull::from(f(&*this));
        OwnedRwLockReadGuard { data, hold: this.hold }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<V: ?Sized>(
        this: Self,
        f: impl FnOnce(&U) -> Option<&V>,
    ) -> Result<OwnedRwLockReadGuard<T, V>, Self> {
        match f(&*this).map(NonNull::from) {
            Some(data) => Ok(OwnedRwLockReadGuard { data, hold: this.hold }),
            None => Err(this),
        }
    }

    /// The lock that this guard holds.
    pub fn rwlock(this: &Self) -> &Arc<RwLock<T>> {
        this.hold.source()
    }
}

impl<T: ?Sized> OwnedRwLockWriteGuard<T> {
    /// For whoever writes: `hold` has all permits.
    pub(super) fn new(hold: Hold<Arc<RwLock<T>>>) -> OwnedRwLockWriteGuard<T> {
        OwnedRwLockWriteGuard { data: data(hold.source()), hold, _value: PhantomData }
    }

    /// Reads on, and lets others read: nobody writes in between.
    pub fn downgrade(self) -> OwnedRwLockReadGuard<T> {
        OwnedRwLockWriteGuard::downgrade_map(self, |value| value)
    }

    /// Reads a part on, and lets others read.
    pub fn downgrade_map<U: ?Sized>(this: Self, f: impl FnOnce(&T) -> &U) -> OwnedRwLockReadGuard<T, U> {
        let data = NonNull::from(f(&*this));
        let mut hold = this.hold;
        hold.reduce_to_one();
        OwnedRwLockReadGuard { data, hold }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none: it writes still.
    pub fn try_downgrade_map<U: ?Sized>(
        this: Self,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<OwnedRwLockReadGuard<T, U>, Self> {
        let Some(data) = f(&*this).map(NonNull::from) else { return Err(this) };
        let mut hold = this.hold;
        hold.reduce_to_one();
        Ok(OwnedRwLockReadGuard { data, hold })
    }

    /// A guard of a part of the value.
    pub fn map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> OwnedRwLockMappedWriteGuard<T, U> {
        let data = NonNull::from(f(&mut *this));
        OwnedRwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<U: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<OwnedRwLockMappedWriteGuard<T, U>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(OwnedRwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }),
            None => Err(this),
        }
    }

    /// The same guard as one of a part that is the whole.
    pub fn into_mapped(this: Self) -> OwnedRwLockMappedWriteGuard<T> {
        OwnedRwLockWriteGuard::map(this, |value| value)
    }

    /// The lock that this guard holds.
    pub fn rwlock(this: &Self) -> &Arc<RwLock<T>> {
        this.hold.source()
    }
}

impl<T: ?Sized, U: ?Sized> OwnedRwLockMappedWriteGuard<T, U> {
    /// A guard of a part of the part.
    pub fn map<V: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut U) -> &mut V,
    ) -> OwnedRwLockMappedWriteGuard<T, V> {
        let data = NonNull::from(f(&mut *this));
        OwnedRwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }
    }

    /// The same, if there is such a part.
    ///
    /// # Errors
    /// The guard, if there is none.
    pub fn try_map<V: ?Sized>(
        mut this: Self,
        f: impl FnOnce(&mut U) -> Option<&mut V>,
    ) -> Result<OwnedRwLockMappedWriteGuard<T, V>, Self> {
        match f(&mut *this).map(NonNull::from) {
            Some(data) => Ok(OwnedRwLockMappedWriteGuard { data, hold: this.hold, _value: PhantomData }),
            None => Err(this),
        }
    }

    /// The lock that this guard holds.
    pub fn rwlock(this: &Self) -> &Arc<RwLock<T>> {
        this.hold.source()
    }
}

macro_rules! reads {
    ($([$($generics:tt)*] $guard:ty, $target:ident;)+) => {$(
        impl<$($generics)* $target: ?Sized> Deref for $guard {
            type Target = $target;

            fn deref(&self) -> &$target {
                // SAFETY: (R1) we hold the lock, and keep it borrowed or alive; `data` is its value, or was borrowed from it for
                // as long as it is locked.
                unsafe { self.data.as_ref() }
            }
        }

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

macro_rules! writes {
    ($([$($generics:tt)*] $guard:ty, $target:ident;)+) => {$(
        impl<$($generics)* $target: ?Sized> DerefMut for $guard {
            fn deref_mut(&mut self) -> &mut $target {
                // SAFETY: (R1) as in `deref`; we have all permits, and are borrowed mutably.
                unsafe { self.data.as_mut() }
            }
        }
    )+};
}

reads! {
    [] RwLockReadGuard<'_, T>, T;
    [] RwLockWriteGuard<'_, T>, T;
    [] RwLockMappedWriteGuard<'_, T>, T;
    [T: ?Sized,] OwnedRwLockReadGuard<T, U>, U;
    [] OwnedRwLockWriteGuard<T>, T;
    [T: ?Sized,] OwnedRwLockMappedWriteGuard<T, U>, U;
}

writes! {
    [] RwLockWriteGuard<'_, T>, T;
    [] RwLockMappedWriteGuard<'_, T>, T;
    [] OwnedRwLockWriteGuard<T>, T;
    [T: ?Sized,] OwnedRwLockMappedWriteGuard<T, U>, U;
}
