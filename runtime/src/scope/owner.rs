//! The three kinds of owner that a task can have: all bound it to a scope, they differ in who runs it.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use super::tree::{ScopeInner, address, lock};
use crate::loom::sync::Mutex;
use crate::scheduler::park::Parker;
use crate::scheduler::worker::Worker;
use crate::scheduler::{blocking, shared};
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch, Cause, Owner, OwnerLink};
use crate::task::join::panic_message;
use crate::task::raw::TaskRef;
use crate::task::reason::CancelReason;
use crate::task::runnable::Runnable;

/// A child of a scope, counted in and not yet out: so the scope is alive (S1).
#[derive(Clone, Copy)]
struct Child(NonNull<ScopeInner>);

// SAFETY: a scope is shared between threads by design.
unsafe impl Send for Child {}

impl Child {
    fn scope(&self) -> &ScopeInner {
        // SAFETY: (S1) the child has not left.
        unsafe { self.0.as_ref() }
    }

    fn arc(&self) -> std::mem::ManuallyDrop<Arc<ScopeInner>> {
        // SAFETY: (S1) the child has not left.
        unsafe { super::tree::borrow(self.0.as_ptr().cast()) }
    }

    /// In line: where one leaves, as nearly always, a call would be a fifth of it.
    #[inline(always)]
    fn leave(self, children: u64) {
        // SAFETY: it is used for the last time before a waker of others may be called.
        let worker = unsafe { self.scope().worker_here() };
        match worker {
            Some(worker) if self.scope().options.limit.is_none() => {
                worker.seen().count_finished();
                // SAFETY: (S1) counted in when the tasks were made; `Owner::leave` comes once for each, last.
                unsafe { ScopeInner::leave_on(self.0, Some(worker.index()), children) };
            }
            worker => self.leave_slowly(worker, children),
        }
    }

    /// The same, of children on no worker, or of a scope with a bound on its children.
    #[inline(never)]
    fn leave_slowly(self, worker: Option<&Worker>, children: u64) {
        self.scope().shared.count_finished(worker);
        let worker = worker.map(Worker::index);
        if let Some(limit) = &self.scope().options.limit {
            (0..children).for_each(|_| limit.leave());
        }
        // SAFETY: as in `leave`.
        unsafe { ScopeInner::leave_on(self.0, worker, children) };
    }
}

/// What all owners do alike.
macro_rules! bound_to_scope {
    ($owner:ident) => {
        impl OwnerLink for $owner {
            /// In line: for a first park a call would be a fifth of it.
            #[inline(always)]
            fn link(&self, task: NonNull<Header>) -> Bound {
                self.child().scope().link(task)
            }
            fn unwakeable(&self, task: TaskRef) {
                let scope = self.child().arc();
                if !super::tree::may_go_on(&scope, &task) {
                    scope.child_stuck(task);
                }
            }
            fn scope(&self) -> *const () {
                self.child().0.as_ptr().cast()
            }
            fn is_below(&self, other: &Header, branches: &[Arc<dyn Branch>]) -> bool {
                self.child().scope().is_below(other, branches)
            }
            fn spare_panic(&self, message: &str) {
                self.child().scope().spare_panic(message);
            }
        }
    };
}

// ---- on the workers -----------------------------------------------------------------------------

/// Runs on the workers.
#[derive(Clone, Copy)]
pub(super) struct OnWorkers(Child);

impl OnWorkers {
    /// # Safety
    /// (S1) A child was counted in for it.
    pub(super) unsafe fn new(scope: &Arc<ScopeInner>) -> OnWorkers {
        OnWorkers(Child(address(scope)))
    }

    fn child(&self) -> Child {
        self.0
    }
}

bound_to_scope!(OnWorkers);

impl Owner for OnWorkers {
    const ON_WORKERS: bool = true;

    #[inline]
    fn schedule(&self, task: Runnable, cause: Cause) {
        let shared = Arc::as_ptr(&self.0.scope().shared);
        // SAFETY: (S1) the scope, which holds the shared part, is alive while the task has not left, and we
        // hold its `Runnable`.
        unsafe { shared::schedule(shared, task, cause) };
    }
    #[inline]
    fn bound(&self) -> Bound {
        self.0.scope().bound()
    }
    fn unlink(&self, list: u16, tasks: &[NonNull<Header>]) {
        self.0.scope().unlink(list, tasks);
    }
    fn cancel_reason(&self) -> CancelReason {
        self.0.scope().cancel_reason()
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        self.0.arc().child_panicked(payload)
    }
    #[inline]
    fn leave(&self, tasks: u64) {
        self.0.leave(tasks);
    }
    fn count_finished(&self) {
        let scope = self.0.scope();
        // SAFETY: no code of the user's runs here.
        scope.shared.count_finished(unsafe { scope.worker_here() });
    }
    fn next_if(&self, fits: impl FnOnce(&Runnable) -> bool) -> Option<Runnable> {
        // SAFETY: up to its answer no code of the user's runs.
        unsafe { self.0.scope().worker_here() }?.next_if(fits)
    }
}

// ---- on the blocking pool -----------------------------------------------------------------------

/// Runs on the blocking pool.
#[derive(Clone, Copy)]
pub(super) struct OnPool(Child);

impl OnPool {
    /// # Safety
    /// (S1) A child was counted in for it.
    pub(super) unsafe fn new(scope: &Arc<ScopeInner>) -> OnPool {
        OnPool(Child(address(scope)))
    }

    fn child(&self) -> Child {
        self.0
    }
}

bound_to_scope!(OnPool);

impl Owner for OnPool {
    fn schedule(&self, task: Runnable, _cause: Cause) {
        let shared = Arc::clone(&self.0.scope().shared);
        blocking::push(&shared, task);
    }
    fn bound(&self) -> Bound {
        self.0.scope().bound()
    }
    fn unlink(&self, list: u16, tasks: &[NonNull<Header>]) {
        self.0.scope().unlink(list, tasks);
    }
    fn cancel_reason(&self) -> CancelReason {
        self.0.scope().cancel_reason()
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        self.0.arc().child_panicked(payload)
    }
    #[inline]
    fn leave(&self, tasks: u64) {
        self.0.leave(tasks);
    }
}

// ---- on one thread ------------------------------------------------------------------------------

/// A thread in `block_on`: where its task waits to be run.
#[derive(Debug)]
pub(crate) struct Home {
    scope: Arc<ScopeInner>,
    ready: Mutex<Option<Runnable>>,
    parker: Parker,
}

impl Home {
    pub(crate) fn new(scope: Arc<ScopeInner>) -> Arc<Home> {
        Arc::new(Home { scope, ready: Mutex::new(None), parker: Parker::new() })
    }

    /// The task, as soon as it is runnable. The thread gives its hold on a paused clock up, and gets another with the
    /// task.
    pub(crate) fn next(&self) -> Runnable {
        self.scope.shared.driver.let_go();
        #[cfg(feature = "test-util")]
        crate::scheduler::sim::next(&self.scope.shared, || lock(&self.ready).is_some());
        loop {
            if let Some(task) = lock(&self.ready).take() {
                return task;
            }
            self.parker.park(None);
        }
    }
}

/// Runs on the thread that called `block_on`. It holds one count of its `Home` until it leaves.
#[derive(Clone, Copy)]
pub(super) struct OnThread(NonNull<Home>);

// SAFETY: a `Home` is shared between threads by design.
unsafe impl Send for OnThread {}

impl OnThread {
    /// # Safety
    /// (S1) A child was counted in for it in `home`'s scope.
    pub(super) unsafe fn new(home: &Arc<Home>) -> OnThread {
        let home = Arc::into_raw(Arc::clone(home));
        OnThread(NonNull::new(home.cast_mut()).expect("an `Arc` is not null"))
    }

    fn home(&self) -> &Home {
        // SAFETY: we hold a count until `leave`.
        unsafe { self.0.as_ref() }
    }

    fn child(&self) -> Child {
        Child(address(&self.home().scope))
    }
}

bound_to_scope!(OnThread);

impl Owner for OnThread {
    fn schedule(&self, task: Runnable, _cause: Cause) {
        // The thread may run the task to its end before we have unparked it: a count of our own.
        // SAFETY: `Home` is only ever made in an `Arc`, alive up to here.
        let home = unsafe {
            Arc::increment_strong_count(self.0.as_ptr());
            Arc::from_raw(self.0.as_ptr())
        };
        // On behalf of the thread, before it can be seen to run.
        home.scope.shared.driver.hold();
        *lock(&home.ready) = Some(task);
        home.parker.unpark(|| {});
        home.scope.shared.sim.nudge(&home.scope.shared.driver);
    }
    fn bound(&self) -> Bound {
        self.home().scope.bound()
    }
    fn unlink(&self, list: u16, tasks: &[NonNull<Header>]) {
        self.home().scope.unlink(list, tasks);
    }
    fn cancel_reason(&self) -> CancelReason {
        self.home().scope.cancel_reason()
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        // `block_on` resumes it in its caller.
        payload
    }
    #[inline]
    fn leave(&self, tasks: u64) {
        debug_assert_eq!(tasks, 1, "the thread has this task only: there is no next one");
        self.child().leave(tasks);
        // SAFETY: the count that `new` took; `leave` comes once, last.
        drop(unsafe { Arc::from_raw(self.0.as_ptr()) });
    }
}

// ---- refused ------------------------------------------------------------------------------------

/// The owner of a task that its scope did not take: it is dropped unpolled, for the scope's reason.
#[derive(Clone, Copy)]
pub(super) struct Refused(*const ScopeInner);

// SAFETY: a scope is shared between threads by design.
unsafe impl Send for Refused {}

impl Refused {
    /// # Safety
    /// The task is run to its end before `scope` goes.
    pub(super) unsafe fn new(scope: &ScopeInner) -> Refused {
        Refused(scope)
    }
}

impl OwnerLink for Refused {
    fn link(&self, _task: NonNull<Header>) -> Bound {
        unreachable!("a refused task never parks")
    }
    fn unwakeable(&self, _task: TaskRef) {}
    fn scope(&self) -> *const () {
        std::ptr::null()
    }
    fn is_below(&self, _other: &Header, _branches: &[Arc<dyn Branch>]) -> bool {
        false
    }
    fn spare_panic(&self, _message: &str) {}
}

impl Owner for Refused {
    fn schedule(&self, task: Runnable, _cause: Cause) {
        // Woken while it is being dropped: it completes in the same turn.
        let _ = task;
    }
    fn bound(&self) -> Bound {
        Bound::Dropping
    }
    fn unlink(&self, _list: u16, _tasks: &[NonNull<Header>]) {}
    fn cancel_reason(&self) -> CancelReason {
        // SAFETY: as `new` demands.
        unsafe { &*self.0 }.cancel_reason()
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        Box::new(panic_message(&*payload).to_owned())
    }
    fn leave(&self, _tasks: u64) {}
}
