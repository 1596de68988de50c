//! std or loom: every atomic, cell and thread of the lock-free parts comes from here.

#[cfg(not(loom))]
pub(crate) use std::{cell::UnsafeCell, hint, sync, thread};

#[cfg(loom)]
pub(crate) use loom::{cell::UnsafeCell, hint, sync, thread};
