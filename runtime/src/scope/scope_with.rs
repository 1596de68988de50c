//! [`scope_with`]: parallel children that borrow from data which the scope owns.
//!
//! A future can be dropped half-way or forgotten, so children that run in parallel must not borrow from its frame.
//! Here they borrow from the heap: the data moves into an allocation that is freed after the last
//! who may hold a borrow is gone, whoever that is, or never.
//!
//! # Proof obligations
//!
//! The body is `for<'scope>`: it must be right for every `'scope`, also for one that never ends. So nothing but the data
//! and what is `'static` is known to live for `'scope`. To show: no code runs on a value with
//! `'scope` in its type, its drop included, after the data was moved out or freed.
//!
//! 1. **Only the data gives borrows for `'scope`.** A bound `'a: 'scope` for some `'a` of the caller's could only come from the signature of
//!    the body. Its parameters are `DataScope<'scope>`, which bounds nothing, and `&'scope mut D`, which implies `D: 'scope`:
//!    `D: 'static` makes that empty. The output `T` is chosen outside the `for`, so it cannot name `'scope`.
//! 2. **`'scope` is invariant** in `DataScope` and in the handles. Else a child could have it shortened to a borrow of the body's
//!    own frame.
//! 3. **Each value that may hold a borrow lies next to a count of the data and is dropped before it**: the body's future ([`Body`]), a child's future ([`Held`]), a child's output until it is taken ([`Output`]). An output that is taken goes to the
//!    body or to a child, for a handle has `'scope` in its type and can lie nowhere else. So while any of them runs
//!    or is dropped, the data is there. This holds for a scope dropped half-way or cancelled, for one whose task was left behind by a
//!    shutdown, and for a forgotten one, whose counts are never given up.
//! 4. **The data is moved out only when nobody can run any more**: after the scope's future has returned, that is after
//!    the body's future was dropped and all children have left it, which is after their futures were dropped (`cell::run`) and outputs
//!    without a handle, too. Outputs that are still stored then belong to handles that were forgotten or lie in leaked cycles: what has
//!    `'scope` in its type is reached from the body or a child only, and these are gone.
//! 5. **There is one `&mut` to the data.** It is made once, before the body's first poll. Counts reach the data only to drop it.
//! 6. **The data may be dropped on any thread**, by the last count: `D: Send`.

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::scope_blocking::spawn_borrowing;
use super::{Scope, scope};
use crate::task::join::{JoinError, JoinHandle};

/// The data's place. Counted by an `Arc`; dropped with the last count, unless it was moved out.
struct Data<D> {
    value: UnsafeCell<ManuallyDrop<D>>,
    taken: std::sync::atomic::AtomicBool,
}

// SAFETY: (5, 6) a shared reference gives access to the value only through the unsafe `take` and through the one pointer that
// the body gets; else it is dropped by the last count, on whichever thread that is.
unsafe impl<D: Send> Sync for Data<D> {}

impl<D> Data<D> {
    fn new(value: D) -> Data<D> {
        Data { value: UnsafeCell::new(ManuallyDrop::new(value)), taken: false.into() }
    }

    /// # Safety
    /// (4) Called once, when no borrow of the data can be used any more.
    unsafe fn take(&self) -> D {
        // Not left to the caller, for it costs nothing to know.
        assert!(!self.taken.swap(true, std::sync::atomic::Ordering::AcqRel), "the data is moved out once");
        // SAFETY: the caller's word; `taken` keeps the drop away.
        unsafe { ManuallyDrop::take(&mut *self.value.get()) }
    }
}

impl<D> Drop for Data<D> {
    fn drop(&mut self) {
        if !*self.taken.get_mut() {
            // SAFETY: (3) the last count: nobody who may hold a borrow is left. It was not moved out.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

/// A count of the data, whatever its type.
type Count = Arc<dyn Send + Sync>;

/// A child's future, with a count (3).
struct Held<F> {
    /// Dropped first: fields are dropped in their order, also when one of them panics.
    future: F,
    data: Count,
}

impl<F: Future> Future for Held<F> {
    type Output = Output<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output<F::Output>> {
        // SAFETY: `future` is pinned with us and never moved; `data` is not pinned.
        let (future, data) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &this.data)
        };
        future.poll(cx).map(|value| Output { value, _data: Arc::clone(data) })
    }
}

/// A child's output, with a count (3).
struct Output<T> {
    /// Dropped first.
    value: T,
    _data: Count,
}

/// A handle to an open [`scope_with`]: spawn into it, cancel it. Owned and cheap to clone; children can be given one, and spawn
/// siblings with it.
pub struct DataScope<'scope> {
    scope: Scope,
    data: Count,
    /// Invariant (2).
    within: PhantomData<&'scope mut &'scope ()>,
}

impl<'scope> DataScope<'scope> {
    /// Spawns a child. It runs in parallel, on any worker, and may borrow from the scope's data; the scope does not end
    /// before it.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> DataJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        self.spawn_at(Location::caller(), None, future)
    }

    /// [`spawn`](DataScope::spawn) with a name, which reports show.
    #[track_caller]
    pub fn spawn_named<F>(&self, name: impl Into<Arc<str>>, future: F) -> DataJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        self.spawn_at(Location::caller(), Some(name.into()), future)
    }

    fn spawn_at<F>(
        &self,
        spawned_at: &'static Location<'static>,
        name: Option<Arc<str>>,
        future: F,
    ) -> DataJoinHandle<'scope, F::Output>
    where
        F: Future + Send + 'scope,
        F::Output: Send + 'scope,
    {
        let held = Held { future, data: Arc::clone(&self.data) };
        // SAFETY: (1, 2) the child borrows from the data only; (3) future and output keep it.
        let handle = unsafe { spawn_borrowing(&self.scope, spawned_at, name, held) };
        DataJoinHandle { handle, within: PhantomData }
    }

    /// Cancels every child and everything below them, and says why. The body goes on.
    #[track_caller]
    pub fn cancel(&self, message: impl Into<Arc<str>>) {
        self.scope.cancel(message);
    }

    /// Whether the scope has been cancelled, by whomever. Does not wait.
    pub fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }
}

impl Clone for DataScope<'_> {
    fn clone(&self) -> Self {
        DataScope { scope: self.scope.clone(), data: Arc::clone(&self.data), within: PhantomData }
    }
}

impl fmt::Debug for DataScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataScope").field(&self.scope).finish()
    }
}

/// Owns the result of a child of a [`scope_with`]: await it to get that. What it returns may borrow from the scope's data, so neither
/// leaves the scope.
///
/// # Cancel safety
/// Awaiting `&mut handle` is cancel safe: a result that was not returned is still there.
pub struct DataJoinHandle<'scope, T> {
    handle: JoinHandle<Output<T>>,
    within: PhantomData<&'scope mut &'scope ()>,
}

impl<T> DataJoinHandle<'_, T> {
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

impl<T> Future for DataJoinHandle<'_, T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // (3) Who polls is the body or a child, and has a count of its own.
        Pin::new(&mut self.handle).poll(cx).map(|result| result.map(|output| output.value))
    }
}

impl<T> fmt::Debug for DataJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// Opens a scope that owns `data`: runs `body` with a [`DataScope`] to spawn into and a `&mut` to the data, and returns the
/// body's output and the data once the body **and every child** have ended.
///
/// The children run in parallel and may borrow from the data, each a part of it; from elsewhere they may
/// only take what is `'static`. The body runs in the caller's task and may borrow from its surroundings.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (sum, numbers) = leakfree::scope_with(vec![1, 2, 3, 4], async |s, numbers| {
///     let (left, right) = numbers.split_at_mut(2);
///     let left = s.spawn(async move { left.iter_mut().map(|n| { *n *= 10; *n }).sum::<i32>() });
///     let right = s.spawn(async move { right.iter().sum::<i32>() });
///     left.await.unwrap() + right.await.unwrap()
/// })
/// .await;
/// assert_eq!(sum, 37);
/// assert_eq!(numbers, [10, 20, 3, 4]);
/// # });
/// ```
///
/// # Panics
/// As [`scope`](crate::scope()). The data is dropped then.
///
/// # Cancel safety
/// Dropped before its end, it cancels its children at once. The next scope out, or the task if there is none, does
/// not end before they have, and the data is dropped with the last of them. If the future is forgotten, so is the
/// data.
#[track_caller]
pub fn scope_with<D, T, F>(data: D, body: F) -> impl Future<Output = (T, D)>
where
    D: Send + 'static,
    F: for<'scope> AsyncFnOnce(DataScope<'scope>, &'scope mut D) -> T,
{
    let data = Arc::new(Data::new(data));
    let theirs = Arc::clone(&data);
    // No async blocks here: what one of them holds is `Send` only if it is for any lifetimes that the compiler makes
    // up for it. The lifetime that we give the body is 'static, and the types below say so.
    let scoped = scope(move |scope: Scope| {
        let data: Count = theirs.clone();
        let s = DataScope::<'static> { scope, data: Arc::clone(&data), within: PhantomData };
        // SAFETY: (5) the only reference, made once; (3, 4) the data stays as long as the body, and whoever it hands
        // parts to. (1) The body must be right for every lifetime, so it cannot use that this one is 'static.
        let borrowed: &'static mut D = unsafe { &mut *theirs.value.get().cast::<D>() };
        Body { future: body(s, borrowed), _data: data }
    });
    ScopeWith { scoped, data }
}

/// The body's future, with a count (3).
struct Body<F> {
    /// Dropped first.
    future: F,
    _data: Count,
}

impl<F: Future> Future for Body<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is pinned with us and never moved.
        unsafe { self.map_unchecked_mut(|this| &mut this.future) }.poll(cx)
    }
}

/// Takes the data back at the end.
struct ScopeWith<S, D> {
    scoped: S,
    data: Arc<Data<D>>,
}

impl<S: Future, D> Future for ScopeWith<S, D> {
    type Output = (S::Output, D);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `scoped` is pinned with us and never moved; `data` is not pinned.
        let (scoped, data) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.scoped), &this.data)
        };
        // SAFETY: (4) the scope has ended without a panic; polled once more, it panics, and so would `take`.
        scoped.poll(cx).map(|value| (value, unsafe { data.take() }))
    }
}
