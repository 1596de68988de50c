//! `waiting`: a name for what a future of another crate waits for.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::wait::{Leaf, Object, WaitReason};

/// Runs `future` under a label: while it is pending, reports say that the task waits for `label`, here.
///
/// Use it around futures of other crates, whose waits leakfree cannot see into. The label is a literal or a
/// `static`.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let answer = leakfree::waiting(&"redis.get", async { 42 }).await;
/// assert_eq!(answer, 42);
/// # });
/// ```
///
/// # Cancel safety
/// As the future's.
#[track_caller]
pub fn waiting<F: IntoFuture>(label: &'static &'static str, future: F) -> Waiting<F::IntoFuture> {
    let leaf = Leaf::new(WaitReason::Labelled, Object::Label(label));
    Waiting { future: future.into_future(), leaf }
}

/// The future of [`waiting`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Waiting<F> {
    future: F,
    leaf: Leaf,
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is the only field that is pinned, and is never moved.
        let (future, leaf) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.leaf)
        };
        let polled = future.poll(cx);
        match polled {
            Poll::Ready(_) => leaf.ready(),
            Poll::Pending => leaf.pending(cx),
        }
        polled
    }
}
