//! What a task asks of whoever owns it. The two traits are all that the task module knows of schedulers
//! and scopes; the loom models implement them with a few lines.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use super::header::Header;
use super::raw::TaskRef;
use super::reason::CancelReason;
use super::runnable::Runnable;

/// How far a bound has been cancelled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Bound {
    Open,
    /// Asked to end; the grace runs.
    Cancelled,
    /// What is suspended is dropped.
    Dropping,
    /// The same, and so is everything below, whatever grace it was given there.
    Forced,
}

/// Why a task comes to a run queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Woken,
    /// A task that it waits for has completed.
    Joined,
    Spawned,
    /// It yielded, or was woken during its own poll: others first.
    Yielded,
}

/// The bound and the queue of a task: a pointer, a copy of which lies in each task behind the header. Its methods are called only while the
/// task has not *left*: from its creation up to and including [`Owner::leave`], which is called
/// once for each, last, for it alone or with others that [`Owner::next_if`] gave.
pub(crate) trait Owner: Copy + OwnerLink + Send + 'static {
    /// Any worker may run it: who spawns it on one may queue it there.
    const ON_WORKERS: bool = false;

    /// Enqueues a task that became runnable.
    fn schedule(&self, task: Runnable, cause: Cause);

    /// Whether the bound has been cancelled; asked before the first poll.
    fn bound(&self) -> Bound;

    /// Takes linked tasks out of the tree, all of them from the list of that number.
    fn unlink(&self, list: u16, tasks: &[NonNull<Header>]);

    /// The reason a cancelled task shows.
    fn cancel_reason(&self) -> CancelReason;

    /// A child panicked. The owner may keep the payload; what it returns goes to the join handle.
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send>;

    /// So many tasks of its own are complete; nothing of them but their output is left. All but one have been [counted](Owner::count_finished).
    fn leave(&self, tasks: u64);

    /// One of those that will leave together has been dropped: a shutdown waits as long as there are more and more.
    fn count_finished(&self) {}

    /// The task that this thread would run next, if it `fits`.
    fn next_if(&self, fits: impl FnOnce(&Runnable) -> bool) -> Option<Runnable> {
        let _ = fits;
        None
    }
}

/// The part of [`Owner`] that is reached without knowing its type.
pub(crate) trait OwnerLink {
    /// Links a task that is about to park for the first time (or opens a scope). If the bound has been
    /// cancelled, the answer says so, and no cancel walk will have missed the task.
    fn link(&self, task: NonNull<Header>) -> Bound;

    /// The task has become unwakeable and the fact is written into its record. Called outside all locks;
    /// cold.
    fn unwakeable(&self, task: TaskRef);

    /// The scope that bounds the task, as `scope` knows it.
    fn scope(&self) -> *const ();

    /// Whether the task is somewhere below `other`, whose branches are these, so that `other` cannot complete before it.
    fn is_below(&self, other: &Header, branches: &[Arc<dyn Branch>]) -> bool;

    /// A panic that nobody will be handed, because another one came first.
    fn spare_panic(&self, message: &str);
}

/// Something below a task in the tree: a scope that lives in it.
pub(crate) trait Branch: Any + Send + Sync {
    /// The task's future is gone, or about to be dropped: nothing more may come below, and what is there is cancelled
    /// for `reason`. True if nothing is left there; if not, the polled task is woken when the last one leaves.
    fn close_branch(self: Arc<Self>, cx: &std::task::Context<'_>, reason: CancelReason) -> bool;

    /// Cancels everything below, with the grace that it has there.
    fn cancel_branch(self: Arc<Self>, reason: CancelReason);

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}
