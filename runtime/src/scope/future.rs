//! The futures of `scope`, `supervisor_scope` and `try_scope`, and the builder that opens them.
//!
//! All three run one [`Engine`]: open, poll the body, drop it, close, wait for the end. They differ in what becomes of a
//! failure, and in what the body's output is turned into.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Scope;
use super::error::{ScopeError, ScopeFailure};
use super::limit::Limit;
use super::tree::{Options, ScopeInner};
use crate::driver::clock::saturating_ns;
use crate::report::snapshot::ScopeKind;
use crate::scheduler::context;
use crate::task::frame;
use crate::task::hooks::Bound;
use crate::task::join::panic_message;
use crate::task::raw::TaskRef;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker;
use crate::time::Instant;

/// Sets the innermost scope for the time of a body's poll or drop.
pub(super) struct Within {
    scope: *const (),
    shielded: bool,
}

impl Within {
    pub(super) fn new(scope: &Arc<ScopeInner>) -> Within {
        Within {
            scope: frame::replace_scope(Arc::as_ptr(scope).cast()),
            shielded: frame::replace_shielded(false),
        }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        frame::replace_scope(self.scope);
        frame::replace_shielded(self.shielded);
    }
}

/// What all scopes' futures do alike. `T` is what is kept of the body's output.
pub(super) struct Engine<F, Fut, T> {
    opened_at: &'static Location<'static>,
    kind: ScopeKind,
    options: Settings,
    state: State<F, Fut, T>,
    inner: Option<Arc<ScopeInner>>,
    leaf: Leaf,
}

enum State<F, Fut, T> {
    New(F),
    /// The body runs.
    Body(Fut),
    /// The body has ended; `None` if it was cut off or has panicked.
    Closing(Option<T>),
    Done,
}

impl<F, Fut: Future, T> Engine<F, Fut, T> {
    #[track_caller]
    pub(super) fn new(kind: ScopeKind, options: Settings, body: F) -> Engine<F, Fut, T> {
        Engine {
            opened_at: Location::caller(),
            kind,
            options,
            state: State::New(body),
            inner: None,
            leaf: Leaf::new(WaitReason::ScopeEnd, Object::None),
        }
    }

    pub(super) fn opened_at(&self) -> &'static Location<'static> {
        self.opened_at
    }

    /// The scope of this engine, opened or followed, in the polled task.
    fn enter(&mut self) -> Arc<ScopeInner> {
        const OUTSIDE: &str = "`leakfree::scope` and its kin must be awaited in a task of a leakfree runtime";
        const BELOW: &str = "waiting for this scope would never end: it ends only after everything below it has, and that \
                             includes the task that asks";
        match &self.inner {
            None => {
                let task = TaskRef::polled().expect(OUTSIDE);
                let options = std::mem::take(&mut self.options).resolve();
                let inner =
                    ScopeInner::open_here("a leakfree scope", self.kind, options, self.opened_at, task);
                self.leaf = Leaf::at(WaitReason::ScopeEnd, Object::Scope(inner.id), self.opened_at);
                Arc::clone(self.inner.insert(inner))
            }
            Some(inner) => {
                // Also one that is over, for its task before has closed it: its body may go on, and is in this task.
                if !inner.lives_in(frame::header()) {
                    match TaskRef::polled() {
                        Some(task) => {
                            assert!(!inner.is_above(&task), "{BELOW}");
                            inner.follow(task);
                        }
                        None => assert!(inner.is_over(), "{OUTSIDE}"),
                    }
                }
                Arc::clone(inner)
            }
        }
    }

    /// Whether the body is to be dropped now.
    fn must_cut(&self, inner: &ScopeInner) -> bool {
        let ends =
            inner.failed.load(Acquire) || self.kind == ScopeKind::Try && inner.bound() >= Bound::Dropping;
        if ends && inner.shields.load(Acquire) > 0 {
            if let Some(task) = TaskRef::polled() {
                task.header().remind_shields();
            }
            return false;
        }
        ends
    }

    /// Polls the scope. `begin` calls the body; `keep` takes its output, at once, and what it returns comes back when all
    /// children have ended: `None` if the body was cut off.
    ///
    /// # Panics
    /// With the first panic of the body or a child, once all have ended.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        begin: impl FnOnce(F, Arc<ScopeInner>) -> Fut,
        keep: impl FnOnce(&Arc<ScopeInner>, Fut::Output) -> Option<T>,
    ) -> Poll<(Arc<ScopeInner>, Option<T>)> {
        // SAFETY: the body in `state` is the only part that is pinned; it is not moved out of while it is `Body`, and
        // assigning to `state` drops a body in place.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(!matches!(this.state, State::Done), "a scope was polled after it had ended");
        let inner = this.enter();

        if let State::New(_) = this.state {
            let State::New(body) = std::mem::replace(&mut this.state, State::Closing(None)) else {
                unreachable!()
            };
            match panic::catch_unwind(AssertUnwindSafe(|| begin(body, Arc::clone(&inner)))) {
                Ok(body) => this.state = State::Body(body),
                Err(payload) => inner.keep_panic(payload),
            }
        }

        if matches!(this.state, State::Body(_)) {
            let mut kept = None;
            // Noted before the look: whoever fails the scope after it finds the note.
            inner.note_body(cx);
            if !this.must_cut(&inner) {
                let State::Body(body) = &mut this.state else { unreachable!() };
                let within = Within::new(&inner);
                // SAFETY: the body is pinned with us, see above.
                let body = unsafe { Pin::new_unchecked(body) };
                let polled = panic::catch_unwind(AssertUnwindSafe(|| body.poll(cx)));
                drop(within);
                match polled {
                    Ok(Poll::Ready(output)) => kept = keep(&inner, output),
                    Err(payload) => inner.keep_panic(payload),
                    // Looked at again: the poll may have brought the end itself, or given up the last shield.
                    Ok(Poll::Pending) if this.must_cut(&inner) => {}
                    Ok(Poll::Pending) => return Poll::Pending,
                }
            }
            this.drop_body(&inner, kept);
        }

        if !inner.close() && inner.register_end(cx) || inner.register_end_inside(cx) {
            this.leaf.pending(cx);
            return Poll::Pending;
        }
        this.leaf.ready();
        // Release: pairs with the acquire where a branch is closed.
        inner.abandoned.store(true, Release);
        inner.unbranch();
        let State::Closing(kept) = std::mem::replace(&mut this.state, State::Done) else { unreachable!() };
        this.inner = None;
        if let Some(payload) = inner.take_panic() {
            // The output's own panic must not hide the first.
            if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(kept))) {
                inner.spare_panic(panic_message(&*second));
                waker::forgive(|| drop(second));
            }
            panic::resume_unwind(payload);
        }
        Poll::Ready((inner, kept))
    }

    fn drop_body(&mut self, inner: &Arc<ScopeInner>, kept: Option<T>) {
        inner.forget_body();
        let within = Within::new(inner);
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| self.state = State::Closing(kept)));
        drop(within);
        if let Err(payload) = dropped {
            inner.keep_panic(payload);
        }
    }
}

impl<F, Fut, T> Drop for Engine<F, Fut, T> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        inner.abandon();
        inner.cancel_all(CancelReason::of(CancelKind::ScopeDropped).site(Some(self.opened_at)), false);
        // The body goes first, while the scope is still there for what it drops.
        let within = Within::new(&inner);
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| self.state = State::Done));
        drop(within);
        inner.wake_waiting();
        inner.forget_body();
        if inner.close() {
            inner.unbranch();
        } else {
            inner.adopt();
        }
        if let Err(payload) = dropped {
            if std::thread::panicking() {
                inner.spare_panic(panic_message(&*payload));
            } else {
                panic::resume_unwind(payload);
            }
        }
    }
}

// ---- the three kinds ----------------------------------------------------------------------------

/// The future of [`scope`](super::scope) and [`supervisor_scope`](super::supervisor_scope).
#[must_use = "a scope does nothing unless it is awaited"]
pub struct ScopeFuture<F, Fut: Future>(Engine<F, Fut, Fut::Output>);

impl<F, Fut> ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    #[track_caller]
    pub(super) fn new(kind: ScopeKind, options: Settings, body: F) -> ScopeFuture<F, Fut> {
        ScopeFuture(Engine::new(kind, options, body))
    }

    /// The same, opened on behalf of a place in the user's code.
    #[cfg_attr(not(feature = "http"), allow(dead_code))]
    pub(crate) fn opened_for(mut self, place: &'static Location<'static>) -> Self {
        self.0.opened_at = place;
        self
    }
}

impl<F, Fut> Future for ScopeFuture<F, Fut>
where
    F: FnOnce(Scope) -> Fut,
    Fut: Future,
{
    type Output = Fut::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fut::Output> {
        // SAFETY: the engine is the only field, and pinned with us.
        let engine = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        let begin = |body: F, inner| body(Scope::from_inner(inner));
        engine.poll(cx, begin, |_, output| Some(output)).map(|(_, kept)| {
            // Only a failure cuts this body off, and a failure here is a panic, which went on above.
            kept.expect("a scope without a panic has its body's output")
        })
    }
}

impl<F, Fut: Future> fmt::Debug for ScopeFuture<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeFuture").field("opened_at", &self.0.opened_at()).finish_non_exhaustive()
    }
}

/// The future of [`try_scope`](super::try_scope).
#[must_use = "a scope does nothing unless it is awaited"]
pub struct TryScopeFuture<F, Fut, T, E> {
    engine: Engine<F, Fut, T>,
    error: PhantomData<fn() -> E>,
}

impl<F, Fut, T, E> TryScopeFuture<F, Fut, T, E>
where
    F: FnOnce(Scope<E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    #[track_caller]
    pub(super) fn new(options: Settings, body: F) -> TryScopeFuture<F, Fut, T, E> {
        TryScopeFuture { engine: Engine::new(ScopeKind::Try, options, body), error: PhantomData }
    }
}

impl<F, Fut, T, E> Future for TryScopeFuture<F, Fut, T, E>
where
    F: FnOnce(Scope<E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Send + 'static,
{
    type Output = Result<T, ScopeError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the engine is the only field that is pinned.
        let engine = unsafe { self.map_unchecked_mut(|this| &mut this.engine) };
        let begin = |body: F, inner| body(Scope::from_inner(inner));
        let keep = |inner: &Arc<ScopeInner>, output: Result<T, E>| match output {
            Ok(value) => Some(value),
            Err(error) => {
                inner.keep_error(Box::new(error));
                None
            }
        };
        engine.poll(cx, begin, keep).map(|(inner, kept)| {
            let errors = inner.take_errors().into_iter().filter_map(|error| error.downcast::<E>().ok());
            let mut errors = errors.map(|error| *error);
            match (errors.next(), kept) {
                (Some(first), _) => {
                    Err(ScopeError { first: ScopeFailure::Error(first), rest: errors.collect() })
                }
                (None, Some(value)) => Ok(value),
                (None, None) => Err(ScopeError {
                    first: ScopeFailure::Cancelled(inner.cancel_reason()),
                    rest: Vec::new(),
                }),
            }
        })
    }
}

impl<F, Fut, T, E> fmt::Debug for TryScopeFuture<F, Fut, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScopeFuture").field("opened_at", &self.engine.opened_at).finish_non_exhaustive()
    }
}

// ---- options ------------------------------------------------------------------------------------

/// What a scope is to be opened with, as the user said it.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    name: Option<Arc<str>>,
    grace: Option<Duration>,
    deadline: Option<Deadline>,
    max_concurrent: Option<usize>,
    on_stuck: OnStuck,
}

/// What a scope does about a child when it is proven that it can never go on: at the moment when nothing can wake it any
/// more; or, for a child that waits for others that are stuck, when
/// [`Handle::act_on_proofs`](crate::runtime::Handle::act_on_proofs) finds it. Tests do that by themselves, a few times a second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum OnStuck {
    /// It stays, and is reported. A program that waits for it waits for ever.
    #[default]
    Report,
    /// It is dropped, as if it was aborted; its handle's error says why.
    DropChild,
    /// The whole scope is cancelled.
    CancelScope,
    /// The test fails at once, with the report. Elsewhere it stays, as with `Report`: a program that is to end decides so
    /// on a report.
    FailTest,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    At(Instant),
    /// From the first poll.
    After(Duration),
}

impl Settings {
    fn resolve(self) -> Options {
        let deadline_ns = self.deadline.map(|deadline| {
            context::with_shared("a leakfree scope", |shared| {
                let clock = shared.driver.clock();
                match deadline {
                    Deadline::At(instant) => instant.since_start_ns(clock.start()),
                    Deadline::After(duration) => clock.now_ns().saturating_add(saturating_ns(duration)),
                }
            })
        });
        let limit = self.max_concurrent.map(|most| Arc::new(Limit::new(most)));
        Options { name: self.name, grace: self.grace, deadline_ns, limit, on_stuck: self.on_stuck }
    }
}

/// Opens a scope with options; made by [`Scope::builder`].
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use std::time::Duration;
/// use leakfree::Scope;
///
/// let builder = Scope::builder().name("lookups").timeout(Duration::from_secs(5)).max_concurrent(8);
/// let sum: Result<u32, leakfree::ScopeError<std::io::Error>> = builder
///     .try_scope(async |s| {
///         let a = s.spawn_try(async { Ok(1) });
///         let b = s.spawn_try(async { Ok(2) });
///         Ok(a.await + b.await)
///     })
///     .await;
/// assert_eq!(sum.unwrap(), 3);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder opens nothing by itself: end with `scope`, `try_scope` or `supervisor_scope`"]
pub struct ScopeBuilder(Settings);

impl ScopeBuilder {
    /// A name, which reports show.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// After a cancel, lets the tasks in the scope and below run on for as long, to end by themselves; then they are
    /// dropped. Without it they are dropped at once. The grace ends early for a task that nothing can wake. When something
    /// further out is cancelled, the scope keeps its grace, unless one further out on the way has a shorter one.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.0.grace = Some(grace);
        self
    }

    /// Cancels the scope at `deadline`, unless it has ended before. In a `try_scope` the body is dropped then, too, and the
    /// error says so; another scope's body goes on, and sees it in [`Scope::is_cancelled`] and in its handles. The last of
    /// `deadline` and `timeout` counts.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.0.deadline = Some(Deadline::At(deadline));
        self
    }

    /// A deadline that lies so far behind the scope's first poll.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.deadline = Some(Deadline::After(timeout));
        self
    }

    /// At most so many children run at once: `spawn` holds the others back, and runs them in their order as places come
    /// free; [`Scope::spawn_when_free`] waits for one. A child that waits for one that is held back keeps its own place
    /// meanwhile.
    ///
    /// # Panics
    /// If `children` is zero.
    #[track_caller]
    pub fn max_concurrent(mut self, children: usize) -> Self {
        assert!(children > 0, "a scope must let at least one child run: `max_concurrent` was 0");
        self.0.max_concurrent = Some(children);
        self
    }

    /// What to do about a child that is proven stuck; without it, it is only reported. It is about the scope's own
    /// children, not about what is further down.
    pub fn on_stuck(mut self, on_stuck: OnStuck) -> Self {
        self.0.on_stuck = on_stuck;
        self
    }

    /// Opens it as [`scope`](super::scope) does.
    ///
    /// # Panics
    /// As [`scope`](super::scope).
    ///
    /// # Cancel safety
    /// As [`scope`](super::scope).
    #[track_caller]
    pub fn scope<F, Fut>(self, body: F) -> ScopeFuture<F, Fut>
    where
        F: FnOnce(Scope) -> Fut,
        Fut: Future,
    {
        ScopeFuture::new(ScopeKind::Plain, self.0, body)
    }

    /// Opens it as [`supervisor_scope`](super::supervisor_scope) does.
    ///
    /// # Panics
    /// As [`supervisor_scope`](super::supervisor_scope).
    ///
    /// # Cancel safety
    /// As [`scope`](super::scope).
    #[track_caller]
    pub fn supervisor_scope<F, Fut>(self, body: F) -> ScopeFuture<F, Fut>
    where
        F: FnOnce(Scope) -> Fut,
        Fut: Future,
    {
        ScopeFuture::new(ScopeKind::Supervisor, self.0, body)
    }

    /// Opens it as [`try_scope`](super::try_scope) does.
    ///
    /// # Panics
    /// As [`try_scope`](super::try_scope).
    ///
    /// # Cancel safety
    /// As [`scope`](super::scope).
    #[track_caller]
    pub fn try_scope<F, Fut, T, E>(self, body: F) -> TryScopeFuture<F, Fut, T, E>
    where
        F: FnOnce(Scope<E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Send + 'static,
    {
        TryScopeFuture::new(self.0, body)
    }
}

impl Scope<Infallible> {
    /// Options for a scope: a name, a deadline, a grace, a bound on its children.
    pub fn builder() -> ScopeBuilder {
        ScopeBuilder::default()
    }
}
