//! (stub) How a leaf stores and fires wakers.
use std::task::{Context, Waker};

/// The waker to store in a wait queue of ours. If `cx` carries the waker of the task that this
/// thread is polling, it is counted as *own*; any other is a plain clone.
pub(crate) fn register(cx: &Context<'_>) -> Waker {
    cx.waker().clone()
}

/// Gives up a registration at its removal from the queue. Call it **under the queue's lock**, and
/// [`Woken::wake`] the result after the lock is released.
pub(crate) fn fire(waker: Waker) -> Woken {
    Woken(Some(waker))
}

/// A wake that has been decided under a lock and lands when this is used or dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Woken(Option<Waker>);

impl Woken {
    /// Lets the wake land. Never call it under a lock.
    pub(crate) fn wake(self) {}
}
impl Drop for Woken {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}
