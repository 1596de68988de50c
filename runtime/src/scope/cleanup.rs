//! Cleanup that runs when its owner is dropped: `defer_async`, and `on_cancel` for what need not wait.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::AcqRel;
use std::task::{Context, Poll};
use std::time::Duration;

use super::tree::{ScopeInner, Side, borrow, innermost_of};
use super::{BlockingCall, Scope};
use crate::report::snapshot::{IncidentKind, TaskKind};
use crate::scheduler::context;
use crate::scheduler::shared::Shared;
use crate::task::join::JoinHandle;
use crate::task::raw::TaskRef;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::time::sleep::Timer;

/// How long a deferred cleanup may take that outlives its owner.
pub(crate) const BUDGET: Duration = Duration::from_secs(1);

/// Defers `cleanup` to the end of its owner. On the normal way out, await the guard: the cleanup runs there and then. If the
/// guard is dropped in place of that (an early return, a cancel, a panic), the cleanup becomes a task of the nearest scope that
/// has not ended, cancelled or not. No cancel reaches it there, and the scope does not end before it. It has one second; what
/// does not end by then is dropped and told in the report.
///
/// Dropped outside a runtime, or when that has ended, it cannot run: a line on standard error says so.
///
/// # Cancel safety
/// Awaited and dropped on the way, the rest of the cleanup is run like one that had not begun.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::sync::oneshot;
///
/// let (begin, begun) = oneshot::channel();
/// let (done, cleaned) = oneshot::channel();
/// let task = leakfree::spawn(async move {
///     let cleanup = leakfree::defer_async(async move {
///         leakfree::yield_now().await; // say good-bye, roll back
///         let _ = done.send("clean");
///     });
///     let _ = begin.send(());
///     std::future::pending::<()>().await;
///     cleanup.await;
/// });
/// begun.await.unwrap();
/// task.abort();
/// assert_eq!(cleaned.await, Ok("clean"));
/// # });
/// ```
#[track_caller]
pub fn defer_async<F>(cleanup: F) -> DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    DeferAsync { cleanup: Some(cleanup), site: Location::caller() }
}

/// The guard of [`defer_async`].
#[must_use = "dropped at once, the cleanup runs at once; keep it, and await it on the normal way out"]
pub struct DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    cleanup: Option<F>,
    site: &'static Location<'static>,
}

impl<F> DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    /// Gives the cleanup up: it does not run.
    pub fn disarm(mut self) {
        self.cleanup = None;
    }
}

impl<F> IntoFuture for DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    type Output = ();
    type IntoFuture = RunCleanup<F>;

    fn into_future(mut self) -> RunCleanup<F> {
        let cleanup = self.cleanup.take().expect("taken only here, by `disarm` and by the drop");
        RunCleanup { cleanup: Some(Box::pin(cleanup)), site: self.site }
    }
}

impl<F> Drop for DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(cleanup) = self.cleanup.take() {
            hand_over(cleanup, self.site);
        }
    }
}

impl<F> fmt::Debug for DeferAsync<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferAsync").field("site", &self.site).finish_non_exhaustive()
    }
}

/// The cleanup as its owner runs it. Dropped on the way, the rest of it is handed over like one that had not begun.
#[must_use = "futures do nothing unless they are awaited"]
pub struct RunCleanup<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    cleanup: Option<Pin<Box<F>>>,
    site: &'static Location<'static>,
}

impl<F> Future for RunCleanup<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let cleanup = self.cleanup.as_mut().expect("a cleanup was polled after it had ended");
        // One that panics is not handed over: it is broken.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cleanup.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.cleanup = None;
                Poll::Ready(())
            }
            Err(payload) => {
                self.cleanup = None;
                std::panic::resume_unwind(payload)
            }
        }
    }
}

impl<F> Drop for RunCleanup<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(cleanup) = self.cleanup.take() {
            hand_over(cleanup, self.site);
        }
    }
}

impl<F> fmt::Debug for RunCleanup<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunCleanup").field("site", &self.site).finish_non_exhaustive()
    }
}

/// Spawns a cleanup at the side of the nearest scope that has not ended.
fn hand_over<F>(cleanup: F, site: &'static Location<'static>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = aside(|side| {
        let shared = Arc::clone(&side.inner.shared);
        shared.cleanups.fetch_add(1, AcqRel);
        let timer = Timer::on(Arc::clone(shared.local()), BUDGET);
        let leaf = Leaf::at(WaitReason::Timeout, Object::None, site);
        let task = Cleanup { cleanup: Some(cleanup), timer, leaf, site, shared };
        drop(side.spawn_task(TaskKind::Async, site, None, task));
    });
    if begun.is_none() {
        let why = "its owner was dropped outside a running leakfree runtime";
        crate::util::stderr::say_captured(format_args!(
            "leakfree: the cleanup deferred at {site} was skipped: {why}\n"
        ));
    }
}

/// Makes a call on the blocking pool that no cancel reaches, and that the nearest scope that has not ended waits for; `None` if
/// there is none.
pub(crate) fn call_aside<F, T>(site: &'static Location<'static>, call: F) -> Option<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    aside(|side| side.spawn_task(TaskKind::Blocking, site, None, BlockingCall { f: Some(call) }))
}

/// Spawns at the side of the nearest scope that has not ended; `None` if there is none.
fn aside<T>(spawn: impl FnOnce(&Scope) -> T) -> Option<T> {
    let mut next = nearest();
    while let Some(scope) = next {
        if scope.enter() {
            let _counted = super::CountedIn { scope: &scope, granted: false };
            return Some(spawn(&Scope::from_inner(scope.side(Side::Cleanups))));
        }
        next = scope.enclosing();
    }
    None
}

/// The innermost scope around the code that is running, or the root scope of this thread's runtime.
fn nearest() -> Option<Arc<ScopeInner>> {
    if let Some(task) = TaskRef::polled() {
        return task.owner_if_polled().map(innermost_of);
    }
    context::try_with_shared(|shared| {
        // SAFETY: the runtime owns the root scope and outlives every thread that has it as its context.
        unsafe { Arc::clone(&borrow(shared.root().as_ptr())) }
    })
}

/// A cleanup within its budget.
struct Cleanup<F> {
    cleanup: Option<F>,
    timer: Timer,
    leaf: Leaf,
    site: &'static Location<'static>,
    shared: Arc<Shared>,
}

impl<F: Future<Output = ()>> Future for Cleanup<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `cleanup` is the only field that is pinned: it is dropped in place.
        let this = unsafe { self.get_unchecked_mut() };
        let Some(cleanup) = &mut this.cleanup else { return Poll::Ready(()) };
        // SAFETY: as above.
        if unsafe { Pin::new_unchecked(cleanup) }.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.timer.poll(cx) {
            let message = format!("it had {BUDGET:?}");
            this.shared.incidents.note(IncidentKind::CleanupCut, Some(this.site), &message);
            this.cleanup = None;
            this.leaf.ready();
            return Poll::Ready(());
        }
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<F> Drop for Cleanup<F> {
    fn drop(&mut self) {
        self.shared.cleanups.fetch_sub(1, AcqRel);
    }
}

/// Runs `f` when the guard is dropped, unless [`OnCancel::disarm`] was called before: on a cancel, an early return, a
/// panic. The synchronous sister of [`defer_async`]; it needs no runtime.
///
/// ```
/// let undo = leakfree::on_cancel(|| println!("rolled back"));
/// // ... do it ...
/// undo.disarm(); // done: nothing to undo
/// ```
pub fn on_cancel<F: FnOnce()>(f: F) -> OnCancel<F> {
    OnCancel(Some(f))
}

/// The guard of [`on_cancel`].
#[must_use = "dropped at once, the closure runs at once"]
pub struct OnCancel<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnCancel<F> {
    /// Gives the closure up: it does not run.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnCancel<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

impl<F: FnOnce()> fmt::Debug for OnCancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnCancel").field("armed", &self.0.is_some()).finish()
    }
}
