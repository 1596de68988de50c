//! Children in the order in which they end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};

use slab::Slab;

use super::Scope;
use super::tree::{ScopeInner, lock};
use crate::report::snapshot::TaskKind;
use crate::task::join::{JoinError, JoinHandle};
use crate::task::meta::TaskId;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker;

/// Some of a scope's children, whose results come out in the order in which they end; made by [`Scope::children`].
///
/// Dropping the set lets the children run on in their scope; results that were not taken are freed.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// leakfree::scope(async |s| {
///     let mut squares = s.children();
///     for n in 1..=3 {
///         squares.spawn(async move { n * n });
///     }
///     let mut sum = 0;
///     while let Some((_id, square)) = squares.join_next().await {
///         sum += square.unwrap();
///     }
///     assert_eq!(sum, 14);
/// })
/// .await;
/// # });
/// ```
pub struct Children<T> {
    scope: Scope<Infallible>,
    handles: Slab<JoinHandle<T>>,
    ended: Arc<Ended>,
}

/// Places in `handles` whose child has ended, or is to be polled for the first time.
#[derive(Default)]
struct Ended {
    state: Mutex<EndedState>,
}

#[derive(Default)]
struct EndedState {
    places: VecDeque<usize>,
    waiting: Option<Waker>,
}

/// What a child's end wakes.
struct Place {
    ended: Arc<Ended>,
    place: usize,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        let woken = {
            let mut state = lock(&self.ended.state);
            state.places.push_back(self.place);
            state.waiting.take().map(waker::fire)
        };
        drop(woken);
    }
}

impl<T: Send + 'static> Children<T> {
    pub(super) fn new(scope: Arc<ScopeInner>) -> Children<T> {
        Children { scope: Scope::from_inner(scope), handles: Slab::new(), ended: Arc::default() }
    }

    /// Spawns a child of the scope into the set. Returns its id.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> TaskId
    where
        F: Future<Output = T> + Send + 'static,
    {
        let handle = self.scope.spawn_task(TaskKind::Async, Location::caller(), None, future);
        let id = handle.id();
        let place = self.handles.insert(handle);
        self.look(place);
        id
    }

    /// Asks a child to tell when it ends. One that has ended is put in line at once.
    fn look(&mut self, place: usize) {
        let handle = &mut self.handles[place];
        let waker = Waker::from(Arc::new(Place { ended: Arc::clone(&self.ended), place }));
        if handle.tell_end(&mut Context::from_waker(&waker)) {
            waker.wake();
        }
    }

    /// How many children are in the set: their results have not been taken.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether every result has been taken.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Aborts every child in the set. Their results still come out of [`join_next`](Children::join_next).
    #[track_caller]
    pub fn abort_all(&self) {
        for (_, handle) in &self.handles {
            handle.abort();
        }
    }

    /// Waits for the next child to end. It ends with the child's id and result, or with `None` if the set is empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a result that was not returned is still there.
    #[track_caller]
    pub fn join_next(&mut self) -> NextChild<'_, T> {
        let leaf = Leaf::new(WaitReason::NextChild, Object::Scope(self.scope.id()));
        NextChild { children: self, leaf }
    }
}

impl<T> fmt::Debug for Children<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children").field("len", &self.handles.len()).finish_non_exhaustive()
    }
}

/// The future of [`Children::join_next`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct NextChild<'a, T> {
    children: &'a mut Children<T>,
    leaf: Leaf,
}

impl<T: Send + 'static> Future for NextChild<'_, T> {
    type Output = Option<(TaskId, Result<T, JoinError>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.children.handles.is_empty() {
            return Poll::Ready(None);
        }
        ready!(this.leaf.proceed(cx));
        let mut state = lock(&this.children.ended.state);
        if let Some(place) = state.places.pop_front() {
            let old = state.waiting.take();
            drop(state);
            drop(old);
            this.leaf.ready();
            let mut handle = this.children.handles.remove(place);
            return Poll::Ready(Some((handle.id(), handle.take_output())));
        }
        let old = match &state.waiting {
            Some(waker) if waker::will_wake(waker, cx) => None,
            _ => state.waiting.replace(waker::register(cx)),
        };
        drop(state);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T> Drop for NextChild<'_, T> {
    fn drop(&mut self) {
        let waiting = lock(&self.children.ended.state).waiting.take();
        drop(waiting);
    }
}

impl<T> fmt::Debug for NextChild<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt(f)
    }
}
