//! A point that a number of tasks reach together.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::util::lock::{Guard, Lock};

/// Lets tasks wait for each other: as many as it was made for go on together, and it is ready for the next round.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let barrier = std::sync::Arc::new(leakfree::sync::Barrier::new(2));
/// let theirs = std::sync::Arc::clone(&barrier);
/// let other = leakfree::spawn(async move { theirs.wait().await.is_leader() });
/// let leader = barrier.wait().await.is_leader();
/// assert_ne!(leader, other.await.unwrap(), "one of them");
/// # });
/// ```
pub struct Barrier {
    state: Lock<State>,
    n: usize,
    created: &'static Location<'static>,
}

struct State {
    arrived: usize,
    waiters: Waiters,
}

impl Barrier {
    /// A barrier for `n` tasks. One for none is as one for one.
    #[track_caller]
    pub const fn new(n: usize) -> Barrier {
        let state = State { arrived: 0, waiters: Waiters::new() };
        Barrier { state: Lock::new(state), n: if n == 0 { 1 } else { n }, created: Location::caller() }
    }

    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Waits until as many have come as the barrier is for. It has come at its first poll.
    ///
    /// # Cancel safety
    /// Not cancel safe: who has come counts, although it is dropped.
    #[track_caller]
    pub fn wait(&self) -> BarrierWait<'_> {
        let leaf = Leaf::new(WaitReason::BarrierWait, Object::Created(self.created));
        BarrierWait { barrier: self, place: None, leaf }
    }
}

/// The future of [`Barrier::wait`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct BarrierWait<'a> {
    barrier: &'a Barrier,
    place: Option<Place>,
    leaf: Leaf,
}

impl Future for BarrierWait<'_> {
    type Output = BarrierWaitResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BarrierWaitResult> {
        let this = &mut *self;
        let mut state = this.barrier.state();
        let mut old = None;
        match this.place {
            None => {
                state.arrived += 1;
                if state.arrived == this.barrier.n {
                    state.arrived = 0;
                    let woken = state.waiters.grant_all();
                    drop(state);
                    drop(woken);
                    return Poll::Ready(BarrierWaitResult { leader: true });
                }
                this.place = Some(state.waiters.join(cx, ()));
            }
            Some(place) => match state.waiters.poll(place, cx, ()) {
                Ok(()) => {
                    state.waiters.leave(place);
                    drop(state);
                    this.place = None;
                    this.leaf.ready();
                    return Poll::Ready(BarrierWaitResult { leader: false });
                }
                Err(replaced) => old = replaced,
            },
        }
        drop(state);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl Drop for BarrierWait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.barrier.state().waiters.leave(place);
            drop(waker);
        }
    }
}

/// How one came past a [`Barrier`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult {
    leader: bool,
}

impl BarrierWaitResult {
    /// Whether it was the last to come: exactly one of a round is.
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("n", &self.n).finish_non_exhaustive()
    }
}
