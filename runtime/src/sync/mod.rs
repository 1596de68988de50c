//! Channels and locks. Every wait here records what it waits on and where.

mod mutex;

pub mod mpsc;
pub mod oneshot;

pub use mutex::{Lock, Mutex, MutexGuard, TryLockError};
