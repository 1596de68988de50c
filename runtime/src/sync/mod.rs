//! Channels and locks, with the names, shapes and semantics of tokio's. Every wait here records what it waits on and where.
//!
//! | | |
//! |---|---|
//! | [`oneshot`], [`mpsc`], [`broadcast`], [`watch`] | channels: one value, many to one, many to many, the last value |
//! | [`Mutex`], [`RwLock`], [`Semaphore`] | locks that wait in line |
//! | [`Notify`], [`Barrier`] | wakes without a value |
//! | [`OnceCell`], [`SetOnce`] | values that are made once |
//!
//! They need no runtime: their futures can be polled anywhere, and the `blocking_` methods wait on plain threads.

/// `Debug` for types of which it tells the name, for what they hold is nobody's to look at: generics in brackets, type, name.
macro_rules! opaque {
    ($([$($generics:tt)*] $type:ty, $name:literal;)+) => {$(
        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )+};
}

mod barrier;
mod blocking;
mod closed;
pub(crate) mod mutex;
mod notify;
mod once_cell;
mod permits;
mod rwlock;
mod semaphore;
mod set_once;

pub mod broadcast;
pub mod mpsc;
pub mod oneshot;
pub mod watch;

pub use barrier::{Barrier, BarrierWaitResult};
pub use mutex::{
    Lock, MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard, TryLockError,
};
pub use notify::Notify;
pub use once_cell::{OnceCell, SetError};
pub use rwlock::{
    OwnedRwLockMappedWriteGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockMappedWriteGuard,
    RwLockReadGuard, RwLockWriteGuard,
};
pub use semaphore::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};
pub use set_once::{SetOnce, SetOnceError};

/// The futures of the methods in [`sync`](crate::sync), for who has to name them.
pub mod futures {
    pub use super::barrier::BarrierWait;
    pub use super::mutex::{Lock, LockOwned};
    pub use super::notify::{Notified, OwnedNotified};
    pub use super::rwlock::{Read, ReadOwned, Write, WriteOwned};
    pub use super::semaphore::{Acquire, AcquireOwned};
    pub use super::set_once::SetOnceWait;
}
