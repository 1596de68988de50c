//! `timeout`: a future with a deadline.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Instant;
use super::sleep::Timer;
use crate::task::wait::{Leaf, Object, WaitReason};

/// Runs `future`, at most for `duration`. The future is polled first: one that is ready at once is never
/// too late.
///
/// # Errors
/// [`Elapsed`] if the time was up first. The future is dropped with the `Timeout`, as tokio users know it; a
/// scope that it leaves behind is cancelled, and the next scope out waits for it.
///
/// # Panics
/// Outside a leakfree runtime.
///
/// # Cancel safety
/// As the future's.
#[track_caller]
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: future.into_future(),
        timer: Timer::after("leakfree::time::timeout", duration),
        leaf: Leaf::new(WaitReason::Timeout, Object::None),
    }
}

/// Runs `future` until `deadline`; see [`timeout`].
///
/// # Errors
/// As [`timeout`].
///
/// # Panics
/// Outside a leakfree runtime.
///
/// # Cancel safety
/// As the future's.
#[track_caller]
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: future.into_future(),
        timer: Timer::at("leakfree::time::timeout_at", deadline),
        leaf: Leaf::new(WaitReason::Timeout, Object::None),
    }
}

/// The future of [`timeout`] and [`timeout_at`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Timeout<F> {
    future: F,
    timer: Timer,
    leaf: Leaf,
}

impl<F> Timeout<F> {
    /// As part of a call that the user wrote there.
    #[cfg(feature = "http")]
    pub(crate) fn for_call_at(mut self, place: &'static std::panic::Location<'static>) -> Self {
        self.leaf.set_call(place);
        self
    }

    /// The future.
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// The future.
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// The future, without the deadline.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is the only field that is pinned: nothing here moves it; `into_inner` takes the whole
        // by value and `get_mut` by `&mut`, which a pinned one allows only if it is `Unpin`.
        let (future, timer, leaf) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.timer, &mut this.leaf)
        };
        if let Poll::Ready(output) = future.poll(cx) {
            leaf.ready();
            return Poll::Ready(Ok(output));
        }
        if timer.poll(cx) {
            leaf.ready();
            return Poll::Ready(Err(Elapsed(())));
        }
        leaf.pending(cx);
        Poll::Pending
    }
}

/// The time was up before the future was ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
