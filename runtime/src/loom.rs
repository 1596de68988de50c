//! std or loom: every atomic and lock of the lock-free protocols comes from here.

#[cfg(not(loom))]
pub(crate) use std::sync;

#[cfg(loom)]
pub(crate) use loom::{sync, thread};
