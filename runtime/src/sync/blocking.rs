//! Waiting on a thread that runs no task, or whose task blocks in place.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::task::frame;
use crate::task::raw::TaskRef;

struct Parked {
    thread: Thread,
    /// A wake that the thread has not seen: an unpark may be meant for other code on it.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the swap in `wait`, so that the thread sees what was done before.
        self.woken.store(true, Release);
        self.thread.unpark();
    }
}

/// Whether this thread is inside of `block_in_place` of the task that it polls.
fn is_in_place() -> bool {
    TaskRef::polled().is_some_and(|task| {
        let extra = task.header().existing_extra();
        extra.is_some_and(|extra| extra.in_place.is_some())
    })
}

/// Runs `future` to its end on this thread, which sleeps meanwhile.
///
/// # Panics
/// Within a task, but in `block_in_place`. The message names `what` was called, and what to `await` in its place.
#[track_caller]
pub(super) fn wait<F: Future>(what: &str, await_this: &str, future: F) -> F::Output {
    assert!(
        frame::may_block() || is_in_place(),
        "`{what}` was called within a task, whose thread it would block: await `{await_this}` there, or call it on a \
         thread of its own (`leakfree::spawn_blocking`), or in `leakfree::task::block_in_place`"
    );
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        #[cfg(feature = "test-util")]
        crate::testing::play_until(|| parked.woken.load(Acquire));
        while !parked.woken.swap(false, Acquire) {
            thread::park();
        }
    }
}
