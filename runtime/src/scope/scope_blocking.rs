//! [`Runtime::scope_blocking`]: parallel children that borrow from a thread's stack, which waits for them.
//!
//! A thread that blocks cannot lose its frame half-way, as a future can be dropped or forgotten. So the children may
//! borrow from it, as those of `std::thread::scope` may. A *keeper*, a task in the root scope, opens a plain scope
//! for the children, where reports and cancellation find them; the closure runs on the calling thread
//! and spawns into that scope from outside; the thread then waits until the keeper has completed.
//!
//! # Proof obligations
//!
//! Everything that may hold a borrow has `'scope` in its type: futures and outputs of children, handles, and what the
//! closure makes of them. `'scope` is picked by `scope_blocking` and ends when that returns. To show: no code runs on
//! such a value, its drop included, after the return.
//!
//! 1. **The return waits for the keeper's completion**, however the closure ends: its panic is caught, and the wait
//!    neither panics nor gives up. A keeper that cannot be waited for is an abort, not a return.
//! 2. **The keeper completes after every child has left its scope.** It is a task with the scope among its branches:
//!    it completes when the scope's future has ended, which is at a count of zero, or, if that future was dropped by a
//!    cancel from above, when `close_branches` finds the count at zero. A count at zero stays there.
//! 3. **A child leaves after its future is gone.** `cell::run` drops the future in place before it stores the
//!    output, completes, and leaves last. A child that the scope refuses is dropped inside `spawn`.
//! 4. **An output is dropped or taken by someone who has not left**, or never. Without a handle the runner drops it in
//!    `complete`, before the child leaves (task I3). With one it is the handle's, and a handle has `'scope` in its type: it
//!    lies in the closure's frame or in a sibling's future or output, and each of these is gone before the return
//!    by 1 and 3, in turn. A handle that was forgotten, or lies in a leaked cycle, touches its output no more.
//! 5. **What outlives the return touches headers only.** Wakers, `TaskRef`s of snapshots, of cancel walks and of unwakeable edges keep the memory of a
//!    task. On a complete task they read the header and at last free the block: its slot is a union without drop glue.
//!    None of them can make it run: its *wakes* stay above zero (`task/state.rs`), and `cancel` and `nudge` stop at `COMPLETE`.
//!    The joiner that is woken after the leave is a `Waker`, which is `'static` by nature. So are panic payloads.
//! 6. **`'scope` is invariant and the children are `Send + 'scope`**, so a child can neither shorten `'scope` to borrow from a
//!    frame below, nor carry what must stay on its thread.
//! 7. **The runtime runs meanwhile.** Its workers are told to stop by `Running::shut_down` alone, which takes the
//!    `Running` by value out of an owned or dropped `Runtime`; `&self` forbids both until the return. (A runtime in an
//!    `Arc` is dropped after the call, for the call borrows from a count. A `Handle` can start no shutdown.) This
//!    is for the wait to end; were it wrong, the call would hang, not return early.
//! 8. **The thread may block**: it runs no future, which `assert_not_polling` finds out for workers, for `block_on`
//!    and for other runtimes of ours. (Again only for the wait to end.)

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::owner::OnWorkers;
use super::{Scope, scope};
use crate::report::snapshot::TaskKind;
use crate::runtime::{Runtime, assert_not_polling};
use crate::sync::oneshot;
use crate::task::cell::OnItsWay;
use crate::task::join::{JoinError, JoinHandle};
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::waker;

/// Spawns a child that may borrow.
///
/// # Safety
/// Nothing that the future or its output borrows may end before the child has left the scope and its output has been
/// dropped, taken through the handle, or put out of everybody's reach.
pub(super) unsafe fn spawn_borrowing<F>(
    scope: &Scope,
    spawned_at: &'static Location<'static>,
    name: Option<Arc<str>>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let mut future = ManuallyDrop::new(future);
    // SAFETY: not used any more.
    let future = unsafe { OnItsWay::new(&mut future) };
    // SAFETY: `admit` sees to it.
    let worker = unsafe { scope.inner.worker_here() };
    let spawn = scope.new_spawn(TaskKind::Async, spawned_at, name, worker);
    // SAFETY: counted in by `admit`; future and output are `Send`, and the caller answers for their lifetime.
    scope.admit(spawn, future, |scope| unsafe { OnWorkers::new(scope) }, false, worker)
}

/// A scope whose children may borrow from the frame of [`Runtime::scope_blocking`]'s caller.
pub struct BlockingScope<'scope, 'env: 'scope> {
    scope: Scope,
    /// Invariant (6).
    within: PhantomData<&'scope mut &'scope ()>,
    around: PhantomData<&'env mut &'env ()>,
}

impl<'scope> BlockingScope<'scope, '_> {
    /// Spawns a child. It runs in parallel, on any worker, and `scope_blocking` does not return before it has ended.
    ///
    /// Once the scope is cancelled, or a child has panicked, the future is dropped unpolled, and the handle is that of a
    /// cancelled task.
    #[track_caller]
    pub fn spawn<F>(&'scope self, future: F) -> ScopedJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        self.spawn_at(Location::caller(), None, future)
    }

    /// [`spawn`](BlockingScope::spawn) with a name, which reports show.
    #[track_caller]
    pub fn spawn_named<F>(
        &'scope self,
        name: impl Into<Arc<str>>,
        future: F,
    ) -> ScopedJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        self.spawn_at(Location::caller(), Some(name.into()), future)
    }

    fn spawn_at<F>(
        &'scope self,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: F,
    ) -> ScopedJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        // SAFETY: (1 to 5) `'scope` lasts until every child has left and every output is gone; (6) it cannot be shortened.
        let handle = unsafe { spawn_borrowing(&self.scope, spawned_at, name, future) };
        ScopedJoinHandle { handle, within: PhantomData }
    }

    /// Cancels every child and everything below them, and says why. The closure goes on; what it spawns from here on is not run.
    #[track_caller]
    pub fn cancel(&self, message: impl Into<Arc<str>>) {
        self.scope.cancel(message);
    }

    /// Whether the scope has been cancelled, by whomever.
    pub fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }
}

impl fmt::Debug for BlockingScope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingScope").field(&self.scope).finish()
    }
}

/// Owns the result of a child that may borrow: [`join`](ScopedJoinHandle::join) it on the scope's thread, or await it in
/// a sibling.
///
/// # Cancel safety
/// Awaiting `&mut handle` is cancel safe: a result that was not returned is still there.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    within: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Blocks this thread until the child has ended.
    ///
    /// # Errors
    /// If the child was cancelled or panicked. The panic's payload goes on in `scope_blocking`'s caller; here it is its message.
    ///
    /// # Panics
    /// If it is called from within a future of a runtime: there, await the handle.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        assert_not_polling("`ScopedJoinHandle::join`");
        wait(self.handle)
    }

    /// Cancels the child; see [`JoinHandle::abort`].
    #[track_caller]
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether the child has ended. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for ScopedJoinHandle<'_, T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// Wakes a thread that blocks.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Release);
        self.thread.unpark();
    }
}

/// Blocks this thread until a task has completed.
#[track_caller]
fn wait<T>(mut handle: JoinHandle<T>) -> Result<T, JoinError> {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = Pin::new(&mut handle).poll(&mut cx) {
            return result;
        }
        // A token of another's unpark may be there: only our own flag counts.
        while !unpark.woken.swap(false, Acquire) {
            thread::park();
        }
    }
}

/// Turns an unwinding out of the wait into an abort (1).
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl Runtime {
    /// Opens a scope for children that run in parallel on the workers **and borrow** from this thread's frame, runs `f`
    /// on this thread, and returns its output once every child has ended: `std::thread::scope` with tasks for threads.
    ///
    /// ```
    /// let runtime = leakfree::runtime::Runtime::new()?;
    /// let mut numbers = vec![1, 2, 3, 4];
    /// let (left, right) = numbers.split_at_mut(2);
    /// let sum: i32 = runtime.scope_blocking(|s| {
    ///     let left = s.spawn(async { left.iter_mut().map(|n| { *n *= 10; *n }).sum::<i32>() });
    ///     let right = s.spawn(async { right.iter().sum::<i32>() });
    ///     left.join().unwrap() + right.join().unwrap()
    /// });
    /// assert_eq!(sum, 37);
    /// assert_eq!(numbers, [10, 20, 3, 4]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// A child that panics cancels its siblings; the closure goes on. A closure that panics cancels the children.
    ///
    /// # Panics
    /// With the first panic of a child or of the closure, after all children have ended. If it is called from within a future
    /// of a runtime: there, use [`scope_with`](crate::scope_with) or [`join_scope`](crate::join_scope), or call it in
    /// `spawn_blocking`. If the root scope has been cancelled. In a simulation, where only `block_on` runs tasks.
    ///
    /// # Cancel safety
    /// It is no future, and is never dropped half-way.
    #[track_caller]
    pub fn scope_blocking<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope BlockingScope<'scope, 'env>) -> T,
    {
        assert_not_polling("`Runtime::scope_blocking`");
        assert!(
            !self.is_simulation(),
            "`Runtime::scope_blocking` blocks its thread, and in a simulation (`Builder::seed`) no other one runs tasks. Use \
             `scope_with` or `join_scope` within `block_on`"
        );
        let (opened, is_opened) = mpsc::sync_channel(1);
        let (closed, is_closed) = oneshot::channel::<()>();
        let keeper = self.handle().root_scope().spawn_task(
            TaskKind::Async,
            Location::caller(),
            Some("scope_blocking".into()),
            scope(async move |s| {
                let _ = opened.send(s);
                let _ = crate::waiting("the closure of `scope_blocking`", is_closed).await;
            }),
        );
        let Ok(inner) = is_opened.recv() else {
            // Nothing was spawned yet, so there is nothing to wait for.
            panic!("`Runtime::scope_blocking` cannot open a scope: the root scope has been cancelled");
        };
        let s = BlockingScope { scope: inner, within: PhantomData, around: PhantomData };

        let result = panic::catch_unwind(AssertUnwindSafe(|| f(&s)));

        // (1) From here to the end of `wait` nothing may unwind.
        let guard = AbortOnUnwind;
        let child_panicked = s.scope.inner.failed.load(Acquire);
        if result.is_err() {
            s.scope.inner.cancel_all(CancelReason::of(CancelKind::SiblingFailed), false);
        }
        drop(closed);
        let kept = wait(keeper);
        std::mem::forget(guard);

        let child = kept.err().and_then(|error| error.try_into_panic().ok());
        match (result, child) {
            // The first panic is the one that is told: the closure's may be about a child's.
            (Err(own), child) => panic::resume_unwind(child.filter(|_| child_panicked).unwrap_or(own)),
            (Ok(output), Some(child)) => {
                // An output's own panic must not hide the child's.
                waker::forgive(|| drop(output));
                panic::resume_unwind(child)
            }
            (Ok(output), None) => output,
        }
    }
}
