//! `JoinSet`: tasks that belong to a value, and go with it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::children::Line;
use super::{BlockingCall, with_nearest};
use crate::report::snapshot::TaskKind;
use crate::task::cell::Isolated;
use crate::task::join::{AbortHandle, JoinError, JoinHandle};
use crate::task::meta::TaskId;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::wait::{Leaf, Object, WaitReason};

/// A task's output, or its panic.
type Ended<T> = Result<T, Box<dyn Any + Send>>;

/// Tasks whose results come out in the order in which they end. Dropping the set aborts those that are left.
///
/// # What bounds its tasks
/// A task belongs to the set, and is bounded by the scope that is nearest around the code that spawns it: the innermost one
/// whose body this is, or the one that bounds the task. Outside of a task it is the root scope. So an aborted task that
/// takes its time, or a set that is forgotten, cannot outlive that scope, and a cancel of the scope ends the tasks. A panic
/// stays in the set: it arrives at [`join_next`](JoinSet::join_next) and disturbs neither siblings nor scope.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::task::JoinSet;
///
/// let mut set = JoinSet::new();
/// for n in 1..=3 {
///     set.spawn(async move { n * n });
/// }
/// let mut sum = 0;
/// while let Some(square) = set.join_next().await {
///     sum += square.unwrap();
/// }
/// assert_eq!(sum, 14);
/// # });
/// ```
pub struct JoinSet<T> {
    line: Line<Ended<T>>,
    created: &'static Location<'static>,
    /// The wait of `poll_join_next`, which has no future of its own.
    polled: Leaf,
}

impl<T> JoinSet<T> {
    /// An empty set.
    #[track_caller]
    pub fn new() -> JoinSet<T> {
        let created = Location::caller();
        let polled = Leaf::new(WaitReason::JoinSetNext, Object::Created(created));
        JoinSet { line: Line::new(), created, polled }
    }

    /// How many tasks are in the set: their results have not been taken.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether every result has been taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[track_caller]
    fn leaf(&self) -> Leaf {
        Leaf::new(WaitReason::JoinSetNext, Object::Created(self.created))
    }

    fn abort_because(&self, reason: &CancelReason) {
        for handle in self.line.handles() {
            handle.task().cancel(reason.clone());
        }
    }
}

impl<T: 'static> JoinSet<T> {
    /// Spawns a task into the set; see [`JoinSet`] for what bounds it.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        let spawned_at = Location::caller();
        self.insert(with_nearest("JoinSet::spawn", |scope| {
            scope.spawn_task(TaskKind::Async, spawned_at, None, Isolated::new(future))
        }))
    }

    /// Runs a closure that blocks, on a thread of its own kind, as a task of the set. It cannot be stopped once it runs.
    ///
    /// # Panics
    /// Outside a leakfree runtime; if no thread can be started and none runs.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, f: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        let spawned_at = Location::caller();
        let caught = || catch_unwind(AssertUnwindSafe(f));
        self.insert(with_nearest("JoinSet::spawn_blocking", |scope| {
            scope.spawn_task(TaskKind::Blocking, spawned_at, None, BlockingCall { f: Some(caught) })
        }))
    }

    fn insert(&mut self, handle: JoinHandle<Ended<T>>) -> AbortHandle {
        let abort = handle.abort_handle();
        self.line.insert(handle);
        abort
    }

    /// Waits for the next task to end. It ends with the task's result, or with `None` if the set is empty.
    ///
    /// # Cancel safety
    /// Cancel safe: a result that was not returned is still there.
    #[track_caller]
    pub fn join_next(&mut self) -> JoinNext<'_, T> {
        JoinNext { inner: self.join_next_with_id() }
    }

    /// As [`join_next`](JoinSet::join_next), with the task's id; an error has its own.
    ///
    /// # Cancel safety
    /// Cancel safe: a result that was not returned is still there.
    #[track_caller]
    pub fn join_next_with_id(&mut self) -> JoinNextWithId<'_, T> {
        let leaf = self.leaf();
        JoinNextWithId { set: self, leaf }
    }

    /// The result of a task that has ended, if there is one now. Does not wait.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        Some(self.try_join_next_with_id()?.map(|(_, output)| output))
    }

    /// As [`try_join_next`](JoinSet::try_join_next), with the task's id.
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(TaskId, T), JoinError>> {
        self.line.try_next().map(result)
    }

    /// [`join_next`](JoinSet::join_next) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.poll_join_next_with_id(cx).map(|next| next.map(|result| result.map(|(_, output)| output)))
    }

    /// As [`poll_join_next`](JoinSet::poll_join_next), with the task's id.
    #[track_caller]
    pub fn poll_join_next_with_id(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(TaskId, T), JoinError>>> {
        self.polled.set_location(Location::caller());
        poll_next(&mut self.line, &mut self.polled, cx)
    }

    /// Waits for all tasks, and returns their outputs in the order in which they ended. When one of them fails, the others
    /// are aborted.
    ///
    /// # Panics
    /// With the panic of a task; if a task was cancelled.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, the tasks are aborted and the outputs lost.
    #[track_caller]
    pub fn join_all(self) -> JoinAll<T> {
        let leaf = self.leaf();
        JoinAll { outputs: Vec::with_capacity(self.len()), set: self, leaf }
    }

    /// Aborts every task in the set. Their results still come out of [`join_next`](JoinSet::join_next).
    #[track_caller]
    pub fn abort_all(&mut self) {
        self.abort_because(&CancelReason::here(CancelKind::Aborted));
    }

    /// Aborts every task and waits until all are gone; their results are dropped.
    ///
    /// # Cancel safety
    /// Cancel safe, once polled: the tasks are aborted, and those that have not ended are still in the set.
    #[track_caller]
    pub fn shutdown(&mut self) -> Shutdown<'_, T> {
        let leaf = self.leaf();
        Shutdown { set: self, leaf, aborted: false }
    }

    /// Takes every task out of the set: they run on, bounded by their scopes, and their results are freed.
    pub fn detach_all(&mut self) {
        self.line.clear();
    }
}

fn result<T>(mut handle: JoinHandle<Ended<T>>) -> Result<(TaskId, T), JoinError> {
    let id = handle.id();
    match handle.take_output()? {
        Ok(output) => Ok((id, output)),
        Err(payload) => Err(JoinError::panicked(id, payload)),
    }
}

fn poll_next<T>(
    line: &mut Line<Ended<T>>,
    leaf: &mut Leaf,
    cx: &Context<'_>,
) -> Poll<Option<Result<(TaskId, T), JoinError>>> {
    ready!(leaf.proceed(cx));
    match line.poll_next(cx) {
        Poll::Ready(handle) => {
            leaf.ready();
            Poll::Ready(handle.map(result))
        }
        Poll::Pending => {
            leaf.pending(cx);
            Poll::Pending
        }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        if self.line.len() > 0 {
            self.abort_because(&CancelReason::of(CancelKind::Aborted).because("its JoinSet was dropped"));
        }
    }
}

impl<T> Default for JoinSet<T> {
    #[track_caller]
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// Spawns each future.
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        set.extend(futures);
        set
    }
}

impl<T, F> Extend<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// Spawns each future.
    #[track_caller]
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
    }
}

/// The future of [`JoinSet::join_next`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct JoinNext<'a, T> {
    inner: JoinNextWithId<'a, T>,
}

impl<T: 'static> Future for JoinNext<'_, T> {
    type Output = Option<Result<T, JoinError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let next = ready!(Pin::new(&mut self.inner).poll(cx));
        Poll::Ready(next.map(|result| result.map(|(_, output)| output)))
    }
}

/// The future of [`JoinSet::join_next_with_id`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct JoinNextWithId<'a, T> {
    set: &'a mut JoinSet<T>,
    leaf: Leaf,
}

impl<T: 'static> Future for JoinNextWithId<'_, T> {
    type Output = Option<Result<(TaskId, T), JoinError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let JoinNextWithId { set, leaf } = &mut *self;
        poll_next(&mut set.line, leaf, cx)
    }
}

impl<T> Drop for JoinNextWithId<'_, T> {
    fn drop(&mut self) {
        self.set.line.stop_waiting();
    }
}

/// The future of [`JoinSet::join_all`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct JoinAll<T> {
    set: JoinSet<T>,
    leaf: Leaf,
    outputs: Vec<T>,
}

impl<T> Unpin for JoinAll<T> {}

impl<T: 'static> Future for JoinAll<T> {
    type Output = Vec<T>;

    /// # Panics
    /// As [`JoinSet::join_all`] says.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<T>> {
        let JoinAll { set, leaf, outputs } = &mut *self;
        loop {
            match ready!(poll_next(&mut set.line, leaf, cx)) {
                None => return Poll::Ready(std::mem::take(outputs)),
                Some(Ok((_, output))) => outputs.push(output),
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(payload) => resume_unwind(payload),
                    Err(error) => panic!("a task of the set, {}, gave no output: {error}", error.id()),
                },
            }
        }
    }
}

/// The future of [`JoinSet::shutdown`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Shutdown<'a, T> {
    set: &'a mut JoinSet<T>,
    leaf: Leaf,
    aborted: bool,
}

impl<T: 'static> Future for Shutdown<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Shutdown { set, leaf, aborted } = &mut *self;
        if !std::mem::replace(aborted, true) {
            set.abort_because(&CancelReason::of(CancelKind::Aborted).site(Some(leaf.location())));
        }
        while let Some(result) = ready!(poll_next(&mut set.line, leaf, cx)) {
            drop(result);
        }
        Poll::Ready(())
    }
}

impl<T> Drop for Shutdown<'_, T> {
    fn drop(&mut self) {
        self.set.line.stop_waiting();
    }
}

impl<T> fmt::Debug for JoinNext<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinNext").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for JoinNextWithId<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinNextWithId").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for JoinAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("set", &self.set).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Shutdown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").finish_non_exhaustive()
    }
}
