//! [`join_scope`]: children that are polled inside the caller's own task, and so may borrow from its frame.
//!
//! A child is a boxed future in the scope's future, not a task: it runs where the body runs, when the body
//! does not. So it needs neither `Send` nor `'static`, and there is no `unsafe` here; the borrow checker
//! proves all of it. What remains to be argued is no matter of soundness but of behaviour:
//!
//! 1. **No child is lost.** A child that nobody polls again would hang its scope. New children come in
//!    while the scope is being polled, by the thread that polls it, and are taken in before that poll ends;
//!    anywhere else `spawn` panics. To accept them from elsewhere the scope would have to keep a waker of
//!    its task at hand, and a task that holds its own waker could never be proven unwakeable.
//! 2. **The scope keeps no spare waker.** Few children are polled with the task's own waker, all of them at
//!    each wake, so their waits are recorded as the body's are. Many get a waker each, which holds one of the task
//!    only as long as somebody holds a clone of it. (`FuturesUnordered` keeps the task's waker for good, which is
//!    why it is not used here.) Who awaits a child's handle leaves a waker with the child, though: such a wait among
//!    the children of one scope is not proven unwakeable.
//! 3. **Nothing of the user's runs under a lock.** Children lie in the scope's future, which is polled by
//!    `&mut`; shared are only the list of new ones and, for each child, the place of its output. Futures and outputs
//!    are dropped after the lock is released.
//! 4. **No cycle outlives the scope.** Children hold handles of the scope, and these hold the list of new
//!    children. The end of the scope, or its drop, closes that list for ever and empties it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use slab::Slab;

use super::tree::lock;
use crate::loom::sync::Mutex;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker;

/// Up to this many children are polled at every wake, with the task's own waker. Beyond it, only those that
/// were woken: it is also the number of waits that a poll can record.
const FEW: usize = 16;

/// A child of a [`join_scope`].
pub type LocalChild<'env> = Pin<Box<dyn Future<Output = ()> + 'env>>;
/// A child of a [`join_scope_send`].
pub type SendChild<'env> = Pin<Box<dyn Future<Output = ()> + Send + 'env>>;

// ---- handles of the scope -----------------------------------------------------------------------

struct Shared<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    phase: Phase,
    incoming: Vec<C>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not polled yet.
    New,
    Polled(ThreadId),
    /// Between two polls.
    Parked,
    Ended,
}

impl<C> Shared<C> {
    /// Takes a child in, or drops it if the scope has ended.
    #[track_caller]
    fn admit(&self, child: C) {
        let mut state = lock(&self.state);
        match state.phase {
            Phase::New => state.incoming.push(child),
            Phase::Polled(thread) if thread == thread::current().id() => state.incoming.push(child),
            Phase::Ended => {
                drop(state);
                drop(child);
            }
            Phase::Polled(_) | Phase::Parked => {
                drop(state);
                drop(child);
                panic!(
                    "a child was spawned into a `join_scope` from outside it: only its body and its children \
                     may, while they run, for nothing would poll the new child"
                );
            }
        }
    }

    fn set_phase(&self, phase: Phase) {
        lock(&self.state).phase = phase;
    }

    fn take_incoming(&self) -> Vec<C> {
        std::mem::take(&mut lock(&self.state).incoming)
    }
}

/// A handle to an open [`join_scope`]: spawn into it. Owned and cheap to clone; children can be given one,
/// and spawn siblings with it.
pub struct JoinScope<'env> {
    shared: Arc<Shared<LocalChild<'env>>>,
}

impl<'env> JoinScope<'env> {
    /// Spawns a child. It runs inside this task, whenever the body and the other children wait, and the scope
    /// does not end before it.
    ///
    /// After the scope's end the future is dropped unpolled.
    ///
    /// # Panics
    /// When called from anywhere but the body or the children of the scope, while they run.
    #[track_caller]
    pub fn spawn<F: Future + 'env>(&self, future: F) -> JoinScopeHandle<F::Output> {
        let (put, handle) = place();
        self.shared.admit(Box::pin(async move { put.output(future.await) }));
        handle
    }
}

/// As [`JoinScope`], with children that are `Send`; see [`join_scope_send`].
pub struct JoinScopeSend<'env> {
    shared: Arc<Shared<SendChild<'env>>>,
}

impl<'env> JoinScopeSend<'env> {
    /// As [`JoinScope::spawn`].
    ///
    /// # Panics
    /// As [`JoinScope::spawn`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinScopeHandle<F::Output>
    where
        F: Future + Send + 'env,
        F::Output: Send,
    {
        let (put, handle) = place();
        self.shared.admit(Box::pin(async move { put.output(future.await) }));
        handle
    }
}

impl Clone for JoinScope<'_> {
    fn clone(&self) -> Self {
        JoinScope { shared: Arc::clone(&self.shared) }
    }
}

impl Clone for JoinScopeSend<'_> {
    fn clone(&self) -> Self {
        JoinScopeSend { shared: Arc::clone(&self.shared) }
    }
}

impl fmt::Debug for JoinScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinScope").finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinScopeSend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinScopeSend").finish_non_exhaustive()
    }
}

// ---- handles of children ------------------------------------------------------------------------

/// Where a child leaves its output.
struct Place<T> {
    output: Option<T>,
    waker: Option<Waker>,
    /// The child has ended or was dropped: nothing more comes.
    over: bool,
    /// The handle is gone: nobody takes an output.
    unwanted: bool,
}

/// The child's side.
struct Put<T>(Arc<Mutex<Place<T>>>);

#[track_caller]
fn place<T>() -> (Put<T>, JoinScopeHandle<T>) {
    let place = Place { output: None, waker: None, over: false, unwanted: false };
    let place = Arc::new(Mutex::new(place));
    let leaf = Leaf::new(WaitReason::Join, Object::Created(Location::caller()));
    (Put(Arc::clone(&place)), JoinScopeHandle { place, leaf })
}

impl<T> Put<T> {
    fn output(self, output: T) {
        let mut place = lock(&self.0);
        if place.unwanted {
            drop(place);
            drop(output);
        } else {
            place.output = Some(output);
        }
        // The drop of `self` says that it is there.
    }
}

impl<T> Drop for Put<T> {
    fn drop(&mut self) {
        let woken = {
            let mut place = lock(&self.0);
            place.over = true;
            place.waker.take().map(waker::fire)
        };
        drop(woken);
    }
}

/// The output of a child of a [`join_scope`]: await it to get that. It waits for a child that panics as long as
/// the scope takes to end, for the panic goes on in the scope's caller.
///
/// Dropping the handle does not stop the child.
///
/// # Panics
/// When it is polled, if the scope ended without the child's output: it was dropped half-way, or had ended before
/// the child was spawned. Only a handle that has left its scope can come to know. Also when it is polled after it has
/// returned the output.
///
/// # Cancel safety
/// Awaiting `&mut handle` is cancel safe: an output that was not returned is still there.
#[must_use = "a handle that is dropped gives the child's output away; the child runs all the same"]
pub struct JoinScopeHandle<T> {
    place: Arc<Mutex<Place<T>>>,
    leaf: Leaf,
}

impl<T> JoinScopeHandle<T> {
    /// Whether the child has ended. Does not wait.
    pub fn is_finished(&self) -> bool {
        lock(&self.place).over
    }
}

impl<T> Unpin for JoinScopeHandle<T> {}

impl<T> Future for JoinScopeHandle<T> {
    type Output = T;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let old = {
            let mut place = lock(&this.place);
            if let Some(output) = place.output.take() {
                drop(place);
                this.leaf.ready();
                return Poll::Ready(output);
            }
            if place.over {
                drop(place);
                panic!(
                    "the child of a `join_scope` left no output: it was dropped, or its output was taken before"
                );
            }
            match &place.waker {
                Some(waker) if waker::will_wake(waker, cx) => None,
                _ => place.waker.replace(waker::register(cx)),
            }
        };
        drop(old);
        this.leaf.set_location(Location::caller());
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T> Drop for JoinScopeHandle<T> {
    fn drop(&mut self) {
        let (output, waker) = {
            let mut place = lock(&self.place);
            place.unwanted = true;
            (place.output.take(), place.waker.take())
        };
        drop(waker);
        drop(output);
    }
}

impl<T> fmt::Debug for JoinScopeHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinScopeHandle").field("finished", &self.is_finished()).finish()
    }
}

// ---- wakers of children -------------------------------------------------------------------------

/// Keys of children that were woken.
type Ready = Mutex<Vec<usize>>;

/// The waker of one child among many.
struct ChildWaker {
    key: usize,
    /// In `ready`, and not polled since.
    queued: AtomicBool,
    ready: Arc<Ready>,
    task: Waker,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: the poll that takes the flag back sees what the waker wrote.
        if !self.queued.swap(true, AcqRel) {
            lock(&self.ready).push(self.key);
        }
        self.task.wake_by_ref();
    }
}

// ---- the scope's future -------------------------------------------------------------------------

/// Opens a scope inside this task: runs `body` with a [`JoinScope`] to spawn into, and returns its output once the body
/// **and every child** have ended.
///
/// The children are polled in turn by the task that awaits the scope, never in parallel. So they may borrow
/// from the caller's frame and need not be `Send`. For children that run in parallel see [`scope`](crate::scope())
/// and [`scope_with`](crate::scope_with).
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let words = ["one".to_string(), "three".to_string()];
/// let total = std::cell::Cell::new(0);
/// leakfree::join_scope(async |j| {
///     for word in &words {
///         let total = &total;
///         j.spawn(async move { total.set(total.get() + word.len()) });
///     }
/// })
/// .await;
/// assert_eq!(total.get(), 8);
/// # });
/// ```
///
/// An async closure lends what it captures by `&mut` to its own future only. To hand a `&mut` on to a child, move
/// it: `let count = &mut count; join_scope(async move |j| ...)`.
///
/// The scope's future is not `Send`, for nothing is known of its children. Inside a task that is spawned use
/// [`join_scope_send`].
///
/// # Panics
/// With the first panic of a child or of the body, at once, after all other children and the body have been dropped.
///
/// # Cancel safety
/// Dropped before its end, it drops the body and all children at once.
pub fn join_scope<'env, F, Fut>(body: F) -> JoinScopeFuture<LocalChild<'env>, Fut>
where
    F: FnOnce(JoinScope<'env>) -> Fut,
    Fut: Future,
{
    let shared = new_shared();
    let body = body(JoinScope { shared: Arc::clone(&shared) });
    JoinScopeFuture::new(shared, body)
}

/// [`join_scope`] with children that are `Send`, so that its future is `Send` if the body is.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let task = leakfree::spawn(async {
///     let text = "borrowed".to_string();
///     leakfree::join_scope_send(async |j| j.spawn(async { text.len() }).await).await
/// });
/// assert_eq!(task.await.unwrap(), 8);
/// # });
/// ```
///
/// # Panics
/// As [`join_scope`].
///
/// # Cancel safety
/// As [`join_scope`].
pub fn join_scope_send<'env, F, Fut>(body: F) -> JoinScopeFuture<SendChild<'env>, Fut>
where
    F: FnOnce(JoinScopeSend<'env>) -> Fut,
    Fut: Future,
{
    let shared = new_shared();
    let body = body(JoinScopeSend { shared: Arc::clone(&shared) });
    JoinScopeFuture::new(shared, body)
}

fn new_shared<C>() -> Arc<Shared<C>> {
    Arc::new(Shared { state: Mutex::new(State { phase: Phase::New, incoming: Vec::new() }) })
}

/// The future of [`join_scope`] and [`join_scope_send`].
#[must_use = "a scope does nothing unless it is awaited"]
pub struct JoinScopeFuture<C, Fut: Future> {
    shared: Arc<Shared<C>>,
    body: Option<Pin<Box<Fut>>>,
    output: Option<Fut::Output>,
    children: Slab<Child<C>>,
    ready: Arc<Ready>,
    /// The children to poll in this turn; kept for its memory.
    due: Vec<usize>,
    /// The children have wakers of their own.
    many: bool,
    /// Who polled last: the parts of its waker, which keep nothing alive.
    polled_by: (usize, usize),
    ended: bool,
}

struct Child<C> {
    future: C,
    /// Its waker while somebody holds a clone.
    waker: Weak<ChildWaker>,
}

impl<C, Fut: Future> Unpin for JoinScopeFuture<C, Fut> {}

type Payload = Box<dyn Any + Send>;

fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Payload> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

impl<C, Fut: Future> JoinScopeFuture<C, Fut> {
    fn new(shared: Arc<Shared<C>>, body: Fut) -> JoinScopeFuture<C, Fut> {
        JoinScopeFuture {
            shared,
            body: Some(Box::pin(body)),
            output: None,
            children: Slab::new(),
            ready: Arc::default(),
            due: Vec::new(),
            many: false,
            polled_by: (0, 0),
            ended: false,
        }
    }

    /// Drops everything, whatever panics on the way, and returns the first panic.
    fn tear_down(&mut self) -> Result<(), Payload> {
        self.ended = true;
        let incoming = {
            let mut state = lock(&self.shared.state);
            state.phase = Phase::Ended;
            std::mem::take(&mut state.incoming)
        };
        let mut result = catch(|| self.body = None);
        result = result.and(catch(|| self.output = None));
        let children = std::mem::take(&mut self.children).into_iter().map(|(_, child)| child.future);
        for child in children.chain(incoming) {
            result = result.and(catch(|| drop(child)));
        }
        result
    }
}

impl<C: Future<Output = ()> + Unpin, Fut: Future> JoinScopeFuture<C, Fut> {
    /// One turn. An error is a panic of the user's code.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Payload> {
        if let Some(body) = &mut self.body {
            if let Poll::Ready(output) = catch(|| body.as_mut().poll(cx))? {
                self.output = Some(output);
                catch(|| self.body = None)?;
            }
        }
        let polled_by = (cx.waker().data().addr(), std::ptr::from_ref(cx.waker().vtable()).addr());
        let moved = std::mem::replace(&mut self.polled_by, polled_by) != polled_by;

        self.due.clear();
        self.due.append(&mut lock(&self.ready));
        for future in self.shared.take_incoming() {
            self.due.push(self.children.insert(Child { future, waker: Weak::new() }));
        }
        let many = self.children.len() > FEW;
        if !many || moved || !self.many {
            self.due.clear();
            self.due.extend(self.children.iter().map(|(key, _)| key));
        }
        self.many = many;
        for at in 0..self.due.len() {
            self.poll_child(self.due[at], cx)?;
        }
        Ok(())
    }

    fn poll_child(&mut self, key: usize, cx: &mut Context<'_>) -> Result<(), Payload> {
        // A waker of a child that has ended may have been called.
        let Some(child) = self.children.get_mut(key) else { return Ok(()) };
        let polled = if self.many {
            let kept = child.waker.upgrade().filter(|kept| kept.task.will_wake(cx.waker()));
            let waker = kept.unwrap_or_else(|| {
                let (ready, task) = (Arc::clone(&self.ready), cx.waker().clone());
                Arc::new(ChildWaker { key, queued: AtomicBool::new(false), ready, task })
            });
            child.waker = Arc::downgrade(&waker);
            // Before the poll: a wake from here on counts for the next one.
            waker.queued.swap(false, AcqRel);
            let waker = Waker::from(waker);
            catch(|| Pin::new(&mut child.future).poll(&mut Context::from_waker(&waker)))?
        } else {
            catch(|| Pin::new(&mut child.future).poll(cx))?
        };
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                let child = self.children.remove(key);
                catch(|| drop(child))
            }
        }
    }
}

impl<C: Future<Output = ()> + Unpin, Fut: Future> Future for JoinScopeFuture<C, Fut> {
    type Output = Fut::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fut::Output> {
        let this = &mut *self;
        assert!(!this.ended, "a join_scope was polled after it had ended");
        this.shared.set_phase(Phase::Polled(thread::current().id()));
        if let Err(payload) = this.turn(cx) {
            // The first panic is the one that is told.
            let _ = this.tear_down();
            panic::resume_unwind(payload);
        }
        let mut state = lock(&this.shared.state);
        let more = !state.incoming.is_empty();
        if this.body.is_none() && this.children.is_empty() && !more {
            state.phase = Phase::Ended;
            drop(state);
            this.ended = true;
            return Poll::Ready(
                this.output.take().expect("a body that ended without a panic left its output"),
            );
        }
        state.phase = Phase::Parked;
        drop(state);
        if more {
            // Children of children begin in the next turn: others may want the thread, too.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<C, Fut: Future> Drop for JoinScopeFuture<C, Fut> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(payload) = self.tear_down() {
            if !thread::panicking() {
                panic::resume_unwind(payload);
            }
        }
    }
}

impl<C, Fut: Future> fmt::Debug for JoinScopeFuture<C, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinScopeFuture").field("children", &self.children.len()).finish_non_exhaustive()
    }
}
