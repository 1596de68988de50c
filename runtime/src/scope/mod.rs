//! Scopes: each bounds the life of its tasks to a block.
//!
//! [`scope`] ends only when its body **and every child** have ended. A child that panics cancels its
//! siblings and the body, and the panic goes on in the scope's caller once all are gone. A scope whose
//! future is dropped half-way cancels its children at once; the next scope out waits for them.

mod count;
pub(crate) mod join_scope;
pub(crate) mod owner;
pub(crate) mod scope_blocking;
pub(crate) mod scope_with;
pub(crate) mod tree;

use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};

use self::owner::{Home, OnPool, OnThread, OnWorkers, Refused};
use self::tree::ScopeInner;
use crate::report::snapshot::TaskKind;
use crate::scheduler::context;
use crate::scheduler::shared;
use crate::task::cell::{self, Spawn};
use crate::task::frame;
use crate::task::hooks::{Bound, Cause, Owner};
use crate::task::join::{CancelKind, CancelReason, JoinHandle};
use crate::task::raw::TaskRef;
use crate::task::runnable::Runnable;
use crate::task::wait::{Leaf, Object, WaitReason};

#[cfg(loom)]
pub(crate) use self::count::ChildCount;

/// A handle to an open scope: spawn into it, cancel it. Owned and cheap to clone; children can be given
/// one, and spawn siblings with it.
///
/// Holding a `Scope` does not keep the scope open. What is spawned after its end, or after a cancel, is
/// not run: the handle is that of a cancelled task, and the future is dropped unpolled.
#[derive(Clone)]
pub struct Scope {
    inner: Arc<ScopeInner>,
}

impl Scope {
    pub(crate) fn from_inner(inner: Arc<ScopeInner>) -> Scope {
        Scope { inner }
    }

    /// Spawns a child. It runs in parallel, on any worker, and the scope does not end before it.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), None, future)
    }

    /// Spawns a child with a name, which reports show.
    #[track_caller]
    pub fn spawn_named<F>(&self, name: impl Into<Arc<str>>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(Location::caller(), Some(name.into()), future)
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
        self.spawn_blocking_at(Location::caller(), f)
    }

    pub(crate) fn spawn_blocking_at<F, T>(
        &self,
        spawned_at: &'static Location<'static>,
        f: F,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let future = BlockingCall { f: Some(f) };
        let spawn = self.new_spawn(TaskKind::Blocking, spawned_at, None);
        // SAFETY: counted in by `admit`; future and output are `Send` and `'static`.
        self.admit(spawn, future, |scope| unsafe { OnPool::new(scope) })
    }

    pub(crate) fn spawn_at<F>(
        &self,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let spawn = self.new_spawn(TaskKind::Async, spawned_at, name);
        // SAFETY: counted in by `admit`; future and output are `Send` and `'static`.
        self.admit(spawn, future, |scope| unsafe { OnWorkers::new(scope) })
    }

    fn new_spawn(
        &self,
        kind: TaskKind,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> Spawn {
        let inside = context::worker_index_in(Arc::as_ptr(&self.inner.shared)).is_some();
        let now_ms = if inside { frame::now_ms() } else { shared::now_ms(&self.inner.shared.driver) };
        Spawn { kind, spawned_at, now_ms, name }
    }

    /// Counts a child in and schedules it, or refuses it.
    fn admit<F: Future, O: Owner>(
        &self,
        spawn: Spawn,
        future: F,
        owner: impl FnOnce(&Arc<ScopeInner>) -> O,
    ) -> JoinHandle<F::Output> {
        let open = self.inner.bound() == Bound::Open;
        if !open || !self.inner.enter() {
            let reason =
                if open { CancelReason::of(CancelKind::ScopeClosed) } else { self.inner.cancel_reason() };
            // SAFETY: run at once, on this thread, and completed by it.
            let (task, handle) = unsafe { cell::new(spawn, Refused(reason), future) };
            task.run();
            return handle;
        }
        // SAFETY: the callers answer for `Send` and `'static`, or for the owner's thread.
        let (task, handle) = unsafe { cell::new(spawn, owner(&self.inner), future) };
        task.schedule(Cause::Spawned);
        handle
    }

    /// Cancels every child and everything below them, at once: what is parked is dropped, what runs is
    /// dropped at its next suspension. The body goes on. The first cancel wins; later ones do nothing.
    #[track_caller]
    pub fn cancel(&self) {
        self.inner.cancel_all(CancelReason::here(CancelKind::Explicit), true);
    }

    /// Whether the scope has been cancelled, by whomever. Does not wait.
    pub fn is_cancelled(&self) -> bool {
        self.inner.bound() != Bound::Open
    }

    /// Waits until the scope is cancelled.
    ///
    /// # Cancel safety
    /// Cancel safe: it holds no value.
    #[track_caller]
    pub fn cancelled(&self) -> Cancelled {
        let object = Object::Scope(self.inner.id);
        Cancelled {
            inner: Arc::clone(&self.inner),
            key: None,
            leaf: Leaf::new(WaitReason::Cancelled, object),
        }
    }

    /// Why the scope was cancelled, if it was.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.is_cancelled().then(|| self.inner.cancel_reason())
    }

    /// The scope's id, as snapshots show it.
    pub fn id(&self) -> u64 {
        self.inner.id
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for ScopeInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("children", &self.count.live())
            .field("bound", &self.bound())
            .finish()
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
    let scope = Scope::from_inner(Arc::clone(root));
    let home = Home::new(Arc::clone(root));
    let spawn = scope.new_spawn(TaskKind::Main, spawned_at, None);
    // SAFETY: counted in by `admit`. The task runs on this thread only, and is complete before this
    // function returns, so neither `Send` nor `'static` is needed.
    let handle = scope.admit(spawn, future, |_| unsafe { OnThread::new(&home) });
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
    ScopeFuture::new(None, body)
}

/// [`scope`] with a name, which reports show.
///
/// # Panics
/// As [`scope`].
///
/// # Cancel safety
/// As [`scope`].
#[track_caller]
pub fn scope_named<F, Fut>(name: impl Into<Arc<str>>, body: F) -> ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    ScopeFuture::new(Some(name.into()), body)
}

/// The future of [`scope`].
#[must_use = "a scope does nothing unless it is awaited"]
pub struct ScopeFuture<F, Fut: Future> {
    opened_at: &'static Location<'static>,
    name: Option<Arc<str>>,
    state: State<F, Fut>,
    inner: Option<Arc<ScopeInner>>,
    leaf: Leaf,
}

enum State<F, Fut: Future> {
    New(F),
    /// The body runs.
    Body(Fut),
    /// The body has ended; `None` if it panicked or a child did.
    Closing(Option<Fut::Output>),
    Done,
}

impl<F, Fut> ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    #[track_caller]
    fn new(name: Option<Arc<str>>, body: F) -> ScopeFuture<F, Fut> {
        ScopeFuture {
            opened_at: Location::caller(),
            name,
            state: State::New(body),
            inner: None,
            leaf: Leaf::new(WaitReason::ScopeEnd, Object::None),
        }
    }
}

/// Sets the innermost scope for the time of a body's poll.
struct Within(*const ());

impl Within {
    fn new(scope: &Arc<ScopeInner>) -> Within {
        Within(frame::replace_scope(Arc::as_ptr(scope).cast()))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        frame::replace_scope(self.0);
    }
}

impl<F, Fut> Future for ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    type Output = Fut::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fut::Output> {
        // SAFETY: `state` is the only field that is pinned; it is not moved out of while it is `Body`, and
        // assigning to it drops a body in place.
        let this = unsafe { self.get_unchecked_mut() };
        if let State::New(_) = this.state {
            let task =
                TaskRef::polled().expect("`leakfree::scope` must be awaited in a task of a leakfree runtime");
            let around = frame::scope();
            // SAFETY: set by the poll of a scope's body around us, which holds the scope.
            let around = (!around.is_null()).then(|| unsafe { Arc::clone(&tree::borrow(around)) });
            let name = this.name.take();
            let inner = ScopeInner::open_here("leakfree::scope", name, this.opened_at, task, around);
            this.leaf = Leaf::at(WaitReason::ScopeEnd, Object::Scope(inner.id), this.opened_at);
            this.inner = Some(Arc::clone(&inner));
            let State::New(body) = std::mem::replace(&mut this.state, State::Closing(None)) else {
                unreachable!()
            };
            let scope = Scope::from_inner(Arc::clone(&inner));
            match panic::catch_unwind(AssertUnwindSafe(|| body(scope))) {
                Ok(body) => this.state = State::Body(body),
                Err(payload) => inner.keep_panic(payload),
            }
        }
        let inner = Arc::clone(this.inner.as_ref().expect("set at the first poll"));

        if let State::Body(body) = &mut this.state {
            let ended = if inner.panicked.load(Acquire) {
                Some(None)
            } else {
                let within = Within::new(&inner);
                // SAFETY: the body is pinned with us, see above.
                let body = unsafe { Pin::new_unchecked(body) };
                let polled = panic::catch_unwind(AssertUnwindSafe(|| body.poll(cx)));
                drop(within);
                match polled {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(output)) => Some(Some(output)),
                    Err(payload) => {
                        inner.keep_panic(payload);
                        Some(None)
                    }
                }
            };
            let Some(output) = ended else { return Poll::Pending };
            let within = Within::new(&inner);
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| this.state = State::Closing(output)));
            drop(within);
            if let Err(payload) = dropped {
                inner.keep_panic(payload);
            }
        }

        if !inner.close() && inner.register_end(cx) {
            this.leaf.pending(cx);
            return Poll::Pending;
        }
        this.leaf.ready();
        inner.unbranch();
        let State::Closing(output) = std::mem::replace(&mut this.state, State::Done) else {
            panic!("a scope was polled after it had ended");
        };
        this.inner = None;
        if let Some(payload) = inner.take_panic() {
            drop(output);
            panic::resume_unwind(payload);
        }
        Poll::Ready(output.expect("a scope without a panic has its body's output"))
    }
}

impl<F, Fut: Future> Drop for ScopeFuture<F, Fut> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        inner.cancel_all(CancelReason::of(CancelKind::ScopeDropped), true);
        // The body goes first, while the scope is still there for what it drops.
        let within = Within::new(&inner);
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| self.state = State::Done));
        drop(within);
        inner.deregister_end();
        if inner.close() {
            inner.unbranch();
        } else {
            inner.adopt();
        }
        if let Err(payload) = dropped {
            if !std::thread::panicking() {
                panic::resume_unwind(payload);
            }
        }
    }
}

impl<F, Fut: Future> fmt::Debug for ScopeFuture<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeFuture").field("opened_at", &self.opened_at).finish_non_exhaustive()
    }
}

// ---- the current task ---------------------------------------------------------------------------

/// Waits until a scope is cancelled; see [`cancelled`] and [`Scope::cancelled`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Cancelled {
    inner: Arc<ScopeInner>,
    key: Option<usize>,
    leaf: Leaf,
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
    let around = frame::scope();
    if !around.is_null() {
        // SAFETY: set by the poll of a scope's body around us, which holds the scope.
        return Scope::from_inner(unsafe { Arc::clone(&tree::borrow(around)) });
    }
    let task = TaskRef::polled().expect("`leakfree::scope::current` was called outside a task");
    let owner = task.owner_if_polled().expect("the task is the one being polled");
    // SAFETY: (S1) the polled task has not left its scope.
    Scope::from_inner(unsafe { Arc::clone(&tree::borrow(owner.scope())) })
}

/// Waits until the current task is asked to end, that is until the innermost scope around it is cancelled. It ends
/// with the reason.
///
/// At shutdown, tasks have the runtime's grace from that moment to end by themselves. A `Scope::cancel` has
/// no grace: the task is dropped where it waits.
///
/// # Panics
/// Outside a task of a leakfree runtime.
///
/// # Cancel safety
/// Cancel safe: it holds no value.
#[track_caller]
pub fn cancelled() -> Cancelled {
    let scope = current();
    let object = Object::Scope(scope.id());
    Cancelled { inner: scope.inner, key: None, leaf: Leaf::new(WaitReason::Cancelled, object) }
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
    with_root("leakfree::spawn", |root| root.spawn_at(spawned_at, None, future))
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
    with_root("leakfree::spawn_blocking", |root| root.spawn_blocking_at(spawned_at, f))
}

/// The root scope of this thread's runtime, borrowed.
#[track_caller]
fn with_root<T>(what: &str, f: impl FnOnce(&Scope) -> T) -> T {
    context::with_shared(what, |shared| {
        // SAFETY: the runtime owns the root scope and outlives every thread that has it as its context.
        let inner = unsafe { tree::borrow(shared.root().as_ptr()) };
        let scope = ManuallyDrop::new(Scope { inner: ManuallyDrop::into_inner(inner) });
        f(&scope)
    })
}
