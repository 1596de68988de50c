//! `waiting`: a name for what a future of another crate waits for.

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::task::wait::{Leaf, Object, WaitReason};

/// Runs `future` under a label: while it is pending, reports say that the task waits for `label`, here.
///
/// Use it around futures of other crates, whose waits leakfree cannot see into. Each distinct label is
/// kept for the life of the process.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let answer = leakfree::waiting("redis.get", async { 42 }).await;
/// assert_eq!(answer, 42);
/// # });
/// ```
///
/// # Cancel safety
/// As the future's.
#[track_caller]
pub fn waiting<F: IntoFuture>(label: &'static str, future: F) -> Waiting<F::IntoFuture> {
    Waiting { future: future.into_future(), label, location: Location::caller(), leaf: None }
}

/// A label in one word, which is all the room that a record has for it.
fn intern(label: &'static str) -> &'static &'static str {
    static LABELS: Mutex<Option<HashMap<&'static str, &'static &'static str>>> = Mutex::new(None);
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    labels.get_or_insert_default().entry(label).or_insert_with(|| Box::leak(Box::new(label)))
}

/// The future of [`waiting`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Waiting<F> {
    future: F,
    label: &'static str,
    location: &'static Location<'static>,
    /// Made when the future is first pending: one that never waits pays nothing for its label.
    leaf: Option<Leaf>,
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is the only field that is pinned, and is never moved.
        let (future, leaf, label, location) = unsafe {
            let this = self.get_unchecked_mut();
            let future = Pin::new_unchecked(&mut this.future);
            (future, &mut this.leaf, this.label, this.location)
        };
        let polled = future.poll(cx);
        match polled {
            Poll::Ready(_) => *leaf = None,
            Poll::Pending => {
                let object = || Object::Label(intern(label));
                leaf.get_or_insert_with(|| Leaf::at(WaitReason::Labelled, object(), location)).pending(cx);
            }
        }
        polled
    }
}
