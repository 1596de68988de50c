//! `yield_now`: to the back of the queue, without touching the state word.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{frame, waker};

/// Lets other tasks run: the current one goes to the back of its worker's queue.
///
/// # Cancel safety
/// Cancel safe.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        if waker::is_polled_task(cx) {
            frame::set_yielded();
        } else {
            // Inside a combinator with wakers of its own, which must hear of it.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
