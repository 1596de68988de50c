//! A task's budget: a task that always finds its channel, socket or timer ready must not starve the others.
//!
//! In one poll, 128 operations of this crate may be ready at once: receiving from a channel, locking, reading, writing,
//! accepting, joining, sleeping. The next one returns `Pending` though it could go on, and the task goes to the back of its
//! worker's queue, as by [`yield_now`](super::yield_now). An operation that has to wait anyway costs nothing.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::frame;
use super::wait::{Leaf, Object, WaitReason};

/// Runs `future` without a budget: its operations go on for as long as they are ready, and so may keep others from
/// running. What it does is not taken off the budget of the code around it.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::{sync::mpsc, task};
///
/// let (tx, mut rx) = mpsc::unbounded_channel();
/// (0..1000).for_each(|n| tx.send(n).unwrap());
/// drop(tx);
/// let all = task::unconstrained(async {
///     let mut sum = 0;
///     while let Some(n) = rx.recv().await {
///         sum += n;
///     }
///     sum
/// });
/// assert_eq!(all.await, 499_500); // in a single poll
/// # });
/// ```
///
/// # Cancel safety
/// As the future's.
pub fn unconstrained<F: Future>(future: F) -> Unconstrained<F> {
    Unconstrained { future }
}

/// The future of [`unconstrained`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Unconstrained<F> {
    future: F,
}

/// Puts the budget back, panic or not.
struct Restore(frame::Budget);

impl Drop for Restore {
    fn drop(&mut self) {
        frame::set_budget(self.0);
    }
}

impl<F: Future> Future for Unconstrained<F> {
    type Output = F::Output;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is the only field, and is never moved.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        let _restore = Restore(frame::lift_budget());
        future.poll(cx)
    }
}

/// Takes one operation off the task's budget, and lets others run if nothing is left. For loops that do long work without any
/// wait.
///
/// # Cancel safety
/// Cancel safe: it holds no value.
#[track_caller]
pub fn consume_budget() -> ConsumeBudget {
    ConsumeBudget { leaf: Leaf::at(WaitReason::CoopYield, Object::None, Location::caller()) }
}

/// The future of [`consume_budget`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ConsumeBudget {
    leaf: Leaf,
}

impl Future for ConsumeBudget {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let proceed = self.leaf.proceed(cx);
        if proceed.is_ready() {
            self.leaf.ready();
        }
        proceed
    }
}

/// Whether the current task's budget has anything left. Always true outside of a task.
pub fn has_budget_remaining() -> bool {
    frame::has_budget()
}
