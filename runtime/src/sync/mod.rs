//! Channels and locks, with tokio's names and semantics. Every wait here records what it waits on and where.

mod blocking;
mod mutex;
mod permits;
mod rwlock;
mod semaphore;

pub mod mpsc;
pub mod oneshot;

pub use mutex::{
    Lock, MappedMutexGuard, Mutex, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard, TryLockError,
};
pub use rwlock::{
    OwnedRwLockMappedWriteGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockMappedWriteGuard,
    RwLockReadGuard, RwLockWriteGuard,
};
pub use semaphore::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};

/// The futures of the methods in [`sync`](crate::sync), for who has to name them.
pub mod futures {
    pub use super::mutex::{Lock, LockOwned};
    pub use super::rwlock::{Read, ReadOwned, Write, WriteOwned};
    pub use super::semaphore::{Acquire, AcquireOwned};
}
