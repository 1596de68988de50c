//! Children in the order in which they end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use slab::Slab;

use super::Scope;
use super::tree::{ScopeInner, lock};
use crate::loom::sync::Mutex;
use crate::report::snapshot::TaskKind;
use crate::task::join::{JoinError, JoinHandle};
use crate::task::meta::TaskId;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker::{self, Woken};

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
    line: Line<T>,
}

/// Handles that come out in the order in which their tasks end.
pub(super) struct Line<T> {
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
        drop(woken.map(Woken::by_end));
    }
}

impl<T> Line<T> {
    pub(super) fn new() -> Line<T> {
        Line { handles: Slab::new(), ended: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = &JoinHandle<T>> {
        self.handles.iter().map(|(_, handle)| handle)
    }

    /// Puts a task in line for its end. One that has ended is there at once.
    pub(super) fn insert(&mut self, handle: JoinHandle<T>) {
        let place = self.handles.insert(handle);
        let waker = Waker::from(Arc::new(Place { ended: Arc::clone(&self.ended), place }));
        if self.handles[place].tell_end(&mut Context::from_waker(&waker)) {
            waker.wake();
        }
    }

    /// The next task that has ended, or `None` if there is no task at all. Else the polled one is woken at the next end.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<JoinHandle<T>>> {
        if self.handles.is_empty() {
            return Poll::Ready(None);
        }
        let mut state = lock(&self.ended.state);
        if let Some(place) = state.places.pop_front() {
            let old = state.waiting.take();
            drop(state);
            waker::discard(old);
            return Poll::Ready(Some(self.handles.remove(place)));
        }
        let old = match &state.waiting {
            Some(waker) if waker::will_wake(waker, cx) => None,
            _ => state.waiting.replace(waker::register(cx)),
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// The next task that has ended, if there is one now.
    pub(super) fn try_next(&mut self) -> Option<JoinHandle<T>> {
        let place = lock(&self.ended.state).places.pop_front()?;
        Some(self.handles.remove(place))
    }

    /// Nobody waits any more.
    pub(super) fn stop_waiting(&self) {
        let waiting = lock(&self.ended.state).waiting.take();
        drop(waiting);
    }

    /// Lets go of every task.
    pub(super) fn clear(&mut self) {
        // Who is ending right now tells the line of before.
        self.ended = Arc::default();
        self.handles.clear();
    }
}

impl<T: Send + 'static> Children<T> {
    pub(super) fn new(scope: Arc<ScopeInner>) -> Children<T> {
        Children { scope: Scope::from_inner(scope), line: Line::new() }
    }

    /// Spawns a child of the scope into the set. Returns its id.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> TaskId
    where
        F: Future<Output = T> + Send + 'static,
    {
        let handle = self.scope.spawn_task(TaskKind::Async, Location::caller(), None, future);
        let id = handle.id();
        self.line.insert(handle);
        id
    }

    /// How many children are in the set: their results have not been taken.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether every result has been taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Aborts every child in the set. Their results still come out of [`join_next`](Children::join_next).
    #[track_caller]
    pub fn abort_all(&self) {
        for handle in self.line.handles() {
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
        f.debug_struct("Children").field("len", &self.line.len()).finish_non_exhaustive()
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
        let NextChild { children, leaf } = &mut *self;
        ready!(leaf.proceed(cx));
        match children.line.poll_next(cx) {
            Poll::Ready(handle) => {
                leaf.ready();
                Poll::Ready(handle.map(|mut handle| (handle.id(), handle.take_output())))
            }
            Poll::Pending => {
                leaf.pending(cx);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for NextChild<'_, T> {
    fn drop(&mut self) {
        self.children.line.stop_waiting();
    }
}

impl<T> fmt::Debug for NextChild<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextChild").finish_non_exhaustive()
    }
}
