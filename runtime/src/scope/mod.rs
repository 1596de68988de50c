//! Scopes: each bounds the life of its tasks to a block.
//!
//! [`scope`] ends only when its body **and every child** have ended. A child that panics cancels its
//! siblings and the body, and the panic goes on in the scope's caller once all are gone. A scope whose
//! future is dropped half-way cancels its children at once; the next scope out waits for them.

mod cancel;
mod children;
pub(crate) mod cleanup;
mod count;
mod error;
mod failure;
mod future;
pub(crate) mod join_scope;
mod join_set;
mod limit;
pub(crate) mod owner;
mod place;
pub(crate) mod scope_blocking;
pub(crate) mod scope_with;
mod shield;
pub(crate) mod tree;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

pub use self::children::{Children, NextChild};
pub use self::cleanup::{DeferAsync, OnCancel, RunCleanup, defer_async, on_cancel};
pub use self::error::{ScopeError, ScopeFailure, TryHandle};
pub use self::future::{OnStuck, ScopeBuilder, ScopeFuture, TryScopeFuture};
pub use self::join_set::{JoinAll, JoinNext, JoinNextWithId, JoinSet, Shutdown};
pub use self::shield::{Shield, deadline, shield, shield_for};

use self::error::TryChild;
use self::limit::Free;
use self::owner::{Home, OnPool, OnThread, OnWorkers, Refused};
use self::tree::{ScopeInner, Side, innermost_of};
use crate::report::snapshot::TaskKind;
use crate::scheduler::context;
use crate::scheduler::shared;
use crate::scheduler::worker::Worker;
use crate::task::cell::{self, OnItsWay, Spawn};
use crate::task::frame;
use crate::task::hooks::{Bound, Cause, Owner};
use crate::task::join::JoinHandle;
use crate::task::local;
use crate::task::meta::Time;
use crate::task::raw::TaskRef;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::runnable::Runnable;
use crate::task::wait::{Leaf, Object, WaitReason};

#[cfg(loom)]
pub(crate) use self::count::ChildCount;

/// A handle to an open scope: spawn into it, cancel it. Owned and cheap to clone; children can be given
/// one, and spawn siblings with it.
///
/// Holding a `Scope` does not keep the scope open. What is spawned after its end, or after a cancel, is
/// not run: the handle is that of a cancelled task, and the future is dropped unpolled.
///
/// `E` is the error of a [`try_scope`]'s children; other scopes have none.
pub struct Scope<E = Infallible> {
    inner: Arc<ScopeInner>,
    error: PhantomData<fn(E)>,
}

/// Somebody who was counted in, and leaves when this is dropped. A child is this until it is a task: making one may panic, for it
/// calls the subscriber of `tracing`.
struct CountedIn<'a> {
    scope: &'a Arc<ScopeInner>,
    granted: bool,
}

impl Drop for CountedIn<'_> {
    fn drop(&mut self) {
        if let (true, Some(limit)) = (self.granted, &self.scope.options.limit) {
            limit.leave();
        }
        // SAFETY: (S1) counted in by whoever made this, and no task leaves for it.
        unsafe { ScopeInner::leave(tree::address(self.scope)) };
    }
}

impl<E> Clone for Scope<E> {
    fn clone(&self) -> Self {
        Scope::from_inner(Arc::clone(&self.inner))
    }
}

impl<E> Scope<E> {
    pub(crate) fn from_inner(inner: Arc<ScopeInner>) -> Scope<E> {
        Scope { inner, error: PhantomData }
    }

    /// Spawns a child. It runs in parallel, on any worker, and the scope does not end before it.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.task().spawn(future)
    }

    /// Spawns a child whose error ends the whole [`try_scope`]. Awaiting the handle gives the value itself.
    #[track_caller]
    pub fn spawn_try<F, T>(&self, future: F) -> TryHandle<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.task().spawn_try(future)
    }

    /// Spawns a child that the scope does not wait for at first: it is cancelled when the body and all children that are no
    /// daemons are done, and the scope ends when it is gone. A daemon that is alive at shutdown is no leak.
    #[track_caller]
    pub fn spawn_daemon<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.task().spawn_daemon(future)
    }

    /// Runs a closure that blocks, on a thread of its own kind. The scope does not end before it: a closure cannot be
    /// stopped once it runs, only before.
    ///
    /// # Panics
    /// If no thread can be started and none runs.
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.task().spawn_blocking(f)
    }

    /// Waits until the scope's bound on concurrent children lets one more run, then spawns. Without a bound, and after a
    /// cancel, it does not wait. See [`ScopeBuilder::max_concurrent`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it has spawned nothing: the future is dropped, and the place in the line is lost.
    #[track_caller]
    pub fn spawn_when_free<F>(&self, future: F) -> SpawnWhenFree<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        SpawnWhenFree {
            free: Free::new(Arc::clone(&self.inner), Free::leaf(&self.inner)),
            future: Some(future),
            spawned_at: Location::caller(),
        }
    }

    /// A task with options: so far, a name.
    ///
    /// ```
    /// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
    /// leakfree::scope(async |s| {
    ///     s.task().name("flush").spawn(async {});
    /// })
    /// .await;
    /// # });
    /// ```
    pub fn task(&self) -> TaskBuilder<'_, E> {
        TaskBuilder { scope: self, name: None }
    }

    /// A set that hands out its children's results in the order in which they end; see [`Children`].
    pub fn children<T>(&self) -> Children<T>
    where
        T: Send + 'static,
    {
        Children::new(Arc::clone(&self.inner))
    }

    /// Counts a child in and schedules it, or refuses it. A place under the scope's bound was granted before, or not. `worker` is this
    /// thread.
    fn admit<F: Future, O: Owner>(
        &self,
        spawn: Spawn,
        future: OnItsWay<'_, F>,
        owner: impl FnOnce(&Arc<ScopeInner>) -> O,
        granted: bool,
        worker: Option<&Worker>,
    ) -> JoinHandle<F::Output> {
        if self.inner.bound() != Bound::Open || !self.inner.enter_on(worker.map(Worker::index)) {
            return self.refuse(spawn, future, granted);
        }
        // Nothing panics from here on but a subscriber of `tracing`.
        let counted = cfg!(feature = "tracing").then(|| CountedIn { scope: &self.inner, granted });
        let owner = owner(&self.inner);
        // SAFETY: the callers answer for `Send` and `'static`, or for the owner's thread.
        let (task, handle) = unsafe { cell::new(spawn, owner, future) };
        // From before it is scheduled it is the task that leaves.
        mem::forget(counted);
        // A subscriber may have given the worker's role away.
        match &self.inner.options.limit {
            None => owner.schedule(task, Cause::Spawned),
            Some(limit) => limit.admit(task, granted),
        }
        handle
    }

    /// The scope is cancelled, or has ended: the task completes without being polled.
    #[cold]
    fn refuse<F: Future>(
        &self,
        spawn: Spawn,
        future: OnItsWay<'_, F>,
        granted: bool,
    ) -> JoinHandle<F::Output> {
        if let (true, Some(limit)) = (granted, &self.inner.options.limit) {
            limit.leave();
        }
        // SAFETY: run at once, on this thread, and completed by it.
        let (task, handle) = unsafe { cell::new(spawn, Refused::new(&self.inner), future) };
        task.run();
        handle
    }

    #[inline]
    fn new_spawn(
        &self,
        kind: TaskKind,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        worker: Option<&Worker>,
    ) -> Spawn {
        let now = if worker.is_some() {
            frame::now()
        } else {
            Time::new(self.inner.shared.driver.clock().rough_now().as_millis() as u64)
        };
        Spawn { kind, spawned_at, now, name, locals: local::to_inherit() }
    }

    pub(crate) fn spawn_task<F>(
        &self,
        kind: TaskKind,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut future = ManuallyDrop::new(future);
        // SAFETY: not used any more.
        let future = unsafe { OnItsWay::new(&mut future) };
        // SAFETY: until the task is pushed no code of the user's runs.
        let worker = unsafe { self.inner.worker_here() };
        match worker {
            // As nearly always; what `admit` does, and no more.
            Some(worker)
                if kind == TaskKind::Async
                    && name.is_none()
                    && self.inner.options.limit.is_none()
                    && !cfg!(feature = "tracing")
                    && !frame::may_have_locals()
                    && self.inner.bound() == Bound::Open
                    && self.inner.enter_on(Some(worker.index())) =>
            {
                let spawn = Spawn { kind, spawned_at, now: frame::now(), name: None, locals: None };
                // SAFETY: (S1) counted in just now; future and output are `Send` and `'static`.
                let (task, handle) = unsafe { cell::new(spawn, OnWorkers::new(&self.inner), future) };
                // What is dropped if a call unwinds lies in memory: this one does not.
                let handle = ManuallyDrop::new(handle);
                worker.push_spawned(task);
                ManuallyDrop::into_inner(handle)
            }
            _ => self.spawn_slowly(kind, spawned_at, name, future),
        }
    }

    /// See [`spawn_task`](Scope::spawn_task).
    #[cold]
    #[inline(never)]
    fn spawn_slowly<F>(
        &self,
        kind: TaskKind,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: OnItsWay<'_, F>,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // SAFETY: `admit` sees to it.
        let worker = unsafe { self.inner.worker_here() };
        let spawn = self.new_spawn(kind, spawned_at, name, worker);
        match kind {
            TaskKind::Blocking => {
                // SAFETY: counted in by `admit`; future and output are `Send` and `'static`.
                self.admit(spawn, future, |scope| unsafe { OnPool::new(scope) }, false, worker)
            }
            // SAFETY: as above.
            _ => self.admit(spawn, future, |scope| unsafe { OnWorkers::new(scope) }, false, worker),
        }
    }

    /// See [`Scope::spawn_daemon`].
    fn daemon<F>(
        &self,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if !self.inner.enter() {
            // Refused by the scope itself.
            return self.spawn_task(TaskKind::Async, spawned_at, name, future);
        }
        let _counted = CountedIn { scope: &self.inner, granted: false };
        let daemons = Scope::<Infallible>::from_inner(self.inner.side(Side::Daemons));
        daemons.spawn_task(TaskKind::Async, spawned_at, name, future)
    }

    /// [`Scope::spawn_daemon`] on behalf of a place in the user's code.
    pub(crate) fn spawn_daemon_at<F>(&self, spawned_at: &'static Location<'static>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.daemon(spawned_at, None, future));
    }

    /// Cancels every child and everything below them, and says why: what is parked is dropped at once, what runs is dropped
    /// at its next suspension, unless the scope has a grace or a shield holds it off. The body of a [`try_scope`] is
    /// dropped, too; any other goes on. The first cancel's reason stands; later ones do nothing.
    #[track_caller]
    pub fn cancel(&self, message: impl Into<Arc<str>>) {
        self.inner.cancel_all(CancelReason::here(CancelKind::Explicit).because(message), false);
    }

    /// Whether the scope has been cancelled, by whomever. Does not wait.
    pub fn is_cancelled(&self) -> bool {
        self.inner.bound() != Bound::Open
    }

    /// Waits until the scope is cancelled. It ends with the reason.
    ///
    /// # Cancel safety
    /// Cancel safe: it holds no value.
    #[track_caller]
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(&self.inner)
    }

    /// Why the scope was cancelled, if it was.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.is_cancelled().then(|| self.inner.cancel_reason())
    }

    /// A view of the scope that can see and ask for its cancellation, and nothing else.
    pub fn token(&self) -> CancelToken {
        CancelToken(Arc::clone(&self.inner))
    }

    /// The scope's id, as snapshots show it.
    pub fn id(&self) -> u64 {
        self.inner.id
    }
}

impl<E> fmt::Debug for Scope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for ScopeInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("name", &self.options.name)
            .field("children", &self.count.live())
            .field("bound", &self.bound())
            .finish()
    }
}

/// A child with options, made by [`Scope::task`].
#[derive(Debug)]
#[must_use = "a builder spawns nothing by itself"]
pub struct TaskBuilder<'a, E = Infallible> {
    scope: &'a Scope<E>,
    name: Option<Arc<str>>,
}

impl<E> TaskBuilder<'_, E> {
    /// A name, which reports show.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// As [`Scope::spawn`].
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.scope.spawn_task(TaskKind::Async, Location::caller(), self.name, future)
    }

    /// As [`Scope::spawn_try`].
    #[track_caller]
    pub fn spawn_try<F, T>(self, future: F) -> TryHandle<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let scope = &self.scope.inner;
        let child = TryChild { future, scope: Arc::clone(scope) };
        let handle = self.scope.spawn_task(TaskKind::Async, Location::caller(), self.name, child);
        TryHandle { handle, scope: Arc::clone(scope), failed: false }
    }

    /// As [`Scope::spawn_daemon`].
    #[track_caller]
    pub fn spawn_daemon<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.scope.daemon(Location::caller(), self.name, future)
    }

    /// As [`Scope::spawn_blocking`].
    ///
    /// # Panics
    /// As [`Scope::spawn_blocking`].
    #[track_caller]
    pub fn spawn_blocking<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let future = BlockingCall { f: Some(f) };
        self.scope.spawn_task(TaskKind::Blocking, Location::caller(), self.name, future)
    }
}

/// The future of [`Scope::spawn_when_free`]: ends with the child's handle.
#[must_use = "nothing is spawned before it is awaited"]
pub struct SpawnWhenFree<F> {
    free: Free,
    future: Option<F>,
    spawned_at: &'static Location<'static>,
}

impl<F> Unpin for SpawnWhenFree<F> {}

impl<F> Future for SpawnWhenFree<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = JoinHandle<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let granted = ready!(Pin::new(&mut self.free).poll(cx));
        let future = self.future.take().expect("`spawn_when_free` was polled after it was ready");
        let scope = Scope::<Infallible>::from_inner(Arc::clone(self.free.scope()));
        let mut future = ManuallyDrop::new(future);
        // SAFETY: not used any more.
        let future = unsafe { OnItsWay::new(&mut future) };
        // SAFETY: `admit` sees to it.
        let worker = unsafe { scope.inner.worker_here() };
        let spawn = scope.new_spawn(TaskKind::Async, self.spawned_at, None, worker);
        // SAFETY: counted in by `admit`; future and output are `Send` and `'static`.
        Poll::Ready(scope.admit(spawn, future, |scope| unsafe { OnWorkers::new(scope) }, granted, worker))
    }
}

impl<F> fmt::Debug for SpawnWhenFree<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnWhenFree").field("spawned_at", &self.spawned_at).finish_non_exhaustive()
    }
}

/// A closure as a future: ready at its first poll, which the blocking pool makes.
struct BlockingCall<F> {
    f: Option<F>,
}

impl<F> Unpin for BlockingCall<F> {}

impl<F: FnOnce() -> T, T> Future for BlockingCall<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<T> {
        let f = self.f.take().expect("a blocking call is polled once");
        link_polled();
        Poll::Ready(f())
    }
}

/// Puts the polled task into the tree, if it is not there yet.
fn link_polled() {
    let Some(task) = TaskRef::polled() else { return };
    if !task.header().is_linked() {
        if let Some(owner) = task.owner_if_polled() {
            owner.link(task.as_ptr());
        }
    }
}

/// Runs a task on this thread to its end.
pub(crate) fn block_on<F: Future>(
    root: &Arc<ScopeInner>,
    spawned_at: &'static Location<'static>,
    future: F,
) -> JoinHandle<F::Output> {
    let scope = Scope::<Infallible>::from_inner(Arc::clone(root));
    let home = Home::new(Arc::clone(root));
    let mut future = ManuallyDrop::new(future);
    // SAFETY: not used any more.
    let future = unsafe { OnItsWay::new(&mut future) };
    // SAFETY: `admit` sees to it.
    let worker = unsafe { root.worker_here() };
    let spawn = scope.new_spawn(TaskKind::Main, spawned_at, None, worker);
    // SAFETY: counted in by `admit`. The task runs on this thread only, and is complete before this
    // function returns, so neither `Send` nor `'static` is needed.
    let handle = scope.admit(spawn, future, |_| unsafe { OnThread::new(&home) }, false, worker);
    while !handle.is_finished() {
        let task: Runnable = home.next();
        frame::set_now_ms(shared::now_ms(&root.shared.driver));
        task.run();
    }
    handle
}

// ---- scope() ------------------------------------------------------------------------------------

/// Opens a scope: runs `body` with a [`Scope`] to spawn into, and returns its output once the body **and every child**
/// have ended.
///
/// `body` is an async closure, or any function from a `Scope` to a future. It runs in the caller's task
/// and may borrow from its surroundings; children are tasks of their own and must be `'static`.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let total = leakfree::scope(async |s| {
///     let a = s.spawn(async { 1 });
///     let b = s.spawn(async { 2 });
///     a.await.unwrap() + b.await.unwrap()
/// })
/// .await;
/// assert_eq!(total, 3);
/// # });
/// ```
///
/// # Panics
/// With the first panic of a child or of the body, after all children have ended. When polled outside a
/// task of a leakfree runtime.
///
/// # Cancel safety
/// Dropped before its end, it cancels its children at once. The next scope out, or the task if there is none, does
/// not end before they have.
#[track_caller]
pub fn scope<F, Fut>(body: F) -> ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    Scope::builder().scope(body)
}

/// Opens a scope that fails as a whole: at the first error that a child ([`Scope::spawn_try`]) or the body returns, and at
/// the first panic, all children are cancelled and the body is dropped at its next suspension. So the body only ever sees
/// values, never a sibling's cancellation.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let total = leakfree::try_scope(async |s| {
///     let a = s.spawn_try(async { "1".parse::<i32>() });
///     let b = s.spawn_try(async { "two".parse::<i32>() });
///     Ok(a.await + b.await)
/// })
/// .await;
/// assert_eq!(total.unwrap_err().to_string(), "invalid digit found in string");
/// # });
/// ```
///
/// # Errors
/// Always a [`ScopeError`]: with the first error and those that came after it; or with the reason, if the scope was
/// cancelled before its body had ended. A body that has returned its value before a cancel keeps it.
///
/// # Panics
/// As [`scope`].
///
/// # Cancel safety
/// As [`scope`].
#[track_caller]
pub fn try_scope<F, Fut, T, E>(body: F) -> TryScopeFuture<F, Fut, T, E>
where
    F: FnOnce(Scope<E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Send + 'static,
{
    Scope::builder().try_scope(body)
}

/// Opens a scope whose children fail alone: a panic arrives at the child's handle, as
/// [`JoinError::is_panic`](crate::JoinError::is_panic), and disturbs neither siblings nor body.
///
/// # Panics
/// With the panic of the body, after all children have been cancelled and have ended. When polled outside a task of a
/// leakfree runtime.
///
/// # Cancel safety
/// As [`scope`].
#[track_caller]
pub fn supervisor_scope<F, Fut>(body: F) -> ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    Scope::builder().supervisor_scope(body)
}

// ---- the current task ---------------------------------------------------------------------------

/// Sees whether a scope is cancelled, and can ask for it: what to hand to code that is to know no more. Cheap to clone; it
/// keeps nothing open.
#[derive(Clone)]
pub struct CancelToken(Arc<ScopeInner>);

impl CancelToken {
    /// As [`Scope::cancel`].
    #[track_caller]
    pub fn cancel(&self, message: impl Into<Arc<str>>) {
        self.0.cancel_all(CancelReason::here(CancelKind::Explicit).because(message), false);
    }

    /// As [`Scope::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.bound() != Bound::Open
    }

    /// As [`Scope::cancelled`].
    ///
    /// # Cancel safety
    /// Cancel safe: it holds no value.
    #[track_caller]
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(&self.0)
    }

    /// As [`Scope::cancel_reason`].
    pub fn reason(&self) -> Option<CancelReason> {
        self.is_cancelled().then(|| self.0.cancel_reason())
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.0.id).field(&self.0.bound()).finish()
    }
}

/// Waits until a scope is cancelled; see [`cancelled`] and [`Scope::cancelled`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Cancelled {
    inner: Arc<ScopeInner>,
    key: Option<usize>,
    leaf: Leaf,
}

impl Cancelled {
    #[track_caller]
    fn new(scope: &Arc<ScopeInner>) -> Cancelled {
        let leaf = Leaf::new(WaitReason::Cancelled, Object::Scope(scope.id));
        Cancelled { inner: Arc::clone(scope), key: None, leaf }
    }

    /// As part of a call that the user wrote there.
    #[cfg(feature = "http")]
    pub(crate) fn for_call_at(mut self, place: &'static Location<'static>) -> Self {
        self.leaf.set_call(place);
        self
    }
}

impl Future for Cancelled {
    type Output = CancelReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CancelReason> {
        let this = &mut *self;
        this.key = this.inner.register_cancelled(cx, this.key);
        match this.key {
            Some(_) => {
                this.leaf.pending(cx);
                Poll::Pending
            }
            None => {
                this.leaf.ready();
                Poll::Ready(this.inner.cancel_reason())
            }
        }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inner.deregister_cancelled(key);
        }
    }
}

/// The innermost scope around the code that is running: the one whose body this is, or the one that
/// bounds the task.
///
/// # Panics
/// Outside a task of a leakfree runtime.
#[track_caller]
pub fn current() -> Scope {
    let task = TaskRef::polled().expect("`leakfree::scope::current` was called outside a task");
    let owner = task.owner_if_polled().expect("the task is the one being polled");
    Scope::from_inner(innermost_of(owner))
}

/// Waits until the current task is asked to end, that is until the innermost scope around it is cancelled. It ends
/// with the reason.
///
/// The task has the scope's grace from that moment to end by itself, at shutdown the runtime's. Without a grace it is
/// dropped where it waits.
///
/// # Panics
/// Outside a task of a leakfree runtime.
///
/// # Cancel safety
/// Cancel safe: it holds no value.
#[track_caller]
pub fn cancelled() -> Cancelled {
    Cancelled::new(&current().inner)
}

/// Whether the current task has been asked to end. Does not wait.
///
/// # Panics
/// Outside a task of a leakfree runtime.
#[track_caller]
pub fn is_cancelled() -> bool {
    let task = TaskRef::polled().expect("`leakfree::is_cancelled` was called outside a task");
    task.header().state.load().is_cancelled() || current().is_cancelled()
}

/// Spawns a task that no scope of yours bounds: a child of the root scope, which ends with the runtime.
///
/// This is the escape hatch. Each such task that is alive when main's body returns is reported. Its panics
/// stay in its handle.
///
/// # Panics
/// Outside a leakfree runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let spawned_at = Location::caller();
    // No closure, into which the future would be moved.
    // SAFETY: used within this call.
    let root = unsafe { root_here("leakfree::spawn") };
    root.spawn_task(TaskKind::Async, spawned_at, None, future)
}

/// Runs a closure that blocks, as a child of the root scope; see [`Scope::spawn_blocking`].
///
/// # Panics
/// Outside a leakfree runtime; if no thread can be started and none runs.
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let spawned_at = Location::caller();
    with_root("leakfree::spawn_blocking", |root| {
        root.spawn_task(TaskKind::Blocking, spawned_at, None, BlockingCall { f: Some(f) })
    })
}

/// Runs a closure that blocks in the current task, on this thread. If that is a worker, another thread takes the worker's place
/// first, with the tasks that wait for it; so it costs a thread's start. The task itself does nothing else meanwhile: its
/// other branches, in a [`select!`](crate::select) or a [`join!`](crate::join), wait. Prefer
/// [`spawn_blocking`] where the closure can be `'static`.
///
/// Inside, the thread may block, also in [`Handle::block_on`](crate::runtime::Handle::block_on). Reports show the task as parked in
/// `block_in_place`, and a cancel waits for the closure's end. Outside of a task it only calls the closure.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let text = String::from("borrowed");
/// let length = leakfree::task::block_in_place(|| text.len());
/// assert_eq!(length, 8);
/// # });
/// ```
///
/// # Panics
/// If no thread can be started to take the worker's place. On a worker, if it is called by no task: in a waker or a hook.
#[track_caller]
pub fn block_in_place<F, R>(f: F) -> R
where
    F: FnOnce() -> R,
{
    /// Ends the call for the records, panic or not.
    struct Inside {
        task: Option<TaskRef>,
        before: Option<(&'static Location<'static>, u64)>,
        polling: bool,
    }
    impl Drop for Inside {
        fn drop(&mut self) {
            context::replace_polling(self.polling);
            if let Some(task) = &self.task {
                task.header().extra().in_place = self.before;
            }
        }
    }
    context::hand_over("leakfree::task::block_in_place");
    link_polled();
    let task = TaskRef::polled();
    let here = (Location::caller(), frame::now_ms());
    let before = task.as_ref().and_then(|task| task.header().extra().in_place.replace(here));
    let _inside = Inside { task, before, polling: context::replace_polling(false) };
    f()
}

/// The innermost scope around the code that is running; outside of a task, the root scope of this thread's runtime.
#[track_caller]
fn with_nearest<T>(what: &str, f: impl FnOnce(&Scope) -> T) -> T {
    let task = TaskRef::polled();
    match task.as_ref().and_then(TaskRef::owner_if_polled) {
        Some(owner) => f(&Scope::from_inner(innermost_of(owner))),
        None => with_root(what, f),
    }
}

/// The root scope of this thread's runtime, borrowed.
#[track_caller]
fn with_root<T>(what: &str, f: impl FnOnce(&Scope) -> T) -> T {
    // SAFETY: used within this call.
    let root = unsafe { root_here(what) };
    f(&root)
}

/// The root scope of this thread's runtime, borrowed.
///
/// # Safety
/// It is used no longer than the thread's context is the one that it is now.
#[track_caller]
#[inline]
unsafe fn root_here(what: &str) -> ManuallyDrop<Scope> {
    let root = context::with_shared(what, shared::Shared::root);
    // SAFETY: the runtime owns the root scope and outlives every thread that has it as its context.
    let inner = unsafe { tree::borrow(root.as_ptr()) };
    ManuallyDrop::new(Scope::from_inner(ManuallyDrop::into_inner(inner)))
}
