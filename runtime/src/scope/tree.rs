//! The one registry: scopes, the tasks in them, and the scopes below those.
//!
//! ```text
//!  root scope (the runtime's)
//!    +-- task          linked at its first park, or when it opens a scope
//!    |     +-- scope   in the task's branches; `enclosing` says which scope of the same task is around it
//!    |     |     +-- task ...
//!    +-- task ...
//! ```
//!
//! **S1** A scope's memory lives while anybody holds an `Arc` of it. It holds one of itself from its opening until
//! its count has reached zero; a child counts, so a child may use the bare pointer until it has left.
//!
//! **S2** Who cancels sets the flag first and walks the lists after. Who links takes a list's lock and looks at
//! the flag under it. So a task is found by the walk, or finds the flag. The same holds for branches and the
//! lock of a task's `extra`.
//!
//! **S3** A scope that moves to another task is that one's first, and what is in its body after, from the outside in, one
//! move at a time. The task before closes it only while it has it still: so all that is in the body was in that task, too,
//! when it looked, and had ended.

use std::any::Any;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::count::ChildCount;
use super::future::OnStuck;
use super::limit::Limit;
use super::place::Place;
use crate::driver::Key;
use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use crate::loom::sync::{Mutex, MutexGuard, PoisonError};
use crate::report::snapshot::{IncidentKind, ScopeKind};
use crate::scheduler::context;
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::task::frame;
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch, Cause, OwnerLink};
use crate::task::join::panic_message;
use crate::task::raw::{Flagged, TaskRef};
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::waker;
use crate::util::linked_list::{Cursor, Links, List};
use crate::util::lock::Lock;

/// Elements that a walk looks at under one lock.
const BATCH: usize = 128;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of the user's runs under our locks, so a poisoned one is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct ScopeInner {
    pub(crate) id: u64,
    pub(crate) kind: ScopeKind,
    /// `None` for the root.
    pub(crate) opened_at: Option<&'static Location<'static>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    pub(super) place: Mutex<Place>,
    /// Opened inside a shield, or in the body of such a scope, which has ended: a cancellation from further out ends here.
    /// Written under the lock of `place`.
    sealed: AtomicBool,
    pub(crate) count: ChildCount,
    lists: Lists,
    pub(super) bound: AtomicU8,
    pub(super) reason: OnceLock<CancelReason>,
    /// A child, or the body, has panicked or returned an error: the body is over.
    pub(super) failed: AtomicBool,
    /// Pending shields in the body.
    pub(super) shields: AtomicU32,
    /// A scope was opened in the body, or in a child.
    pub(super) encloses: AtomicBool,
    /// The body has ended, and the scope waits for its children.
    pub(crate) closing: AtomicBool,
    /// It was its task that closed it, for the scope's future was elsewhere. There the body may go on.
    closed_by_task: AtomicBool,
    /// The scope's future has been dropped, or has returned.
    pub(super) abandoned: AtomicBool,
    /// Nothing is left. Written under the lock of `end`.
    over: AtomicBool,
    pub(super) end: Mutex<End>,
    pub(super) cancel_waiters: Mutex<CancelWaiters>,
}

/// What a scope is opened with.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) grace: Option<Duration>,
    /// On the runtime's clock.
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) limit: Option<Arc<Limit>>,
    pub(crate) on_stuck: OnStuck,
}

/// What happens at the end, and what it waits for.
#[derive(Default)]
pub(super) struct End {
    /// The owner's registration.
    pub(super) waker: Option<Waker>,
    /// The address of the task that made it.
    waiting: usize,
    /// What polls the body, if that is no task but a future which polls by need: a set of futures.
    pub(super) body_waker: Option<Waker>,
    pub(super) then: Option<Then>,
    /// The first panic, and where the task that panicked was spawned.
    pub(super) panic: Option<Panic>,
    /// The scope's future was dropped before it had the panic: nobody comes for it.
    pub(super) unwanted: bool,
    /// Errors of a try scope's children and body, in their order.
    pub(super) errors: Vec<Box<dyn Any + Send>>,
    /// The scopes at this one's side: see [`Side`].
    sides: [Option<Arc<ScopeInner>>; 2],
    /// Timers on the driver: the deadline's, and that of the end of the grace.
    pub(super) timers: [Option<Key>; 2],
}

pub(super) type Panic = (Box<dyn Any + Send>, Option<&'static Location<'static>>);

/// What follows the end of a scope.
pub(super) enum Then {
    /// A scope further out that may not end before this one: counted in there.
    Leave(Arc<ScopeInner>),
    /// This scope is at the other's side, and that one's end goes on behind it.
    EndOf(Arc<ScopeInner>, Side),
}

/// A scope at another's side bounds tasks that the other's end does not wait for at first: when its count has come to
/// zero, one side is closed after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Cancelled, then waited for.
    Daemons = 0,
    /// Not reached by a cancellation, and waited for: each cleanup has a budget of its own.
    Cleanups = 1,
}

#[derive(Default)]
pub(super) struct CancelWaiters {
    pub(super) cancelled: bool,
    pub(super) wakers: slab::Slab<Waker>,
}

/// Child lists: one, and one for each worker once the scope is known to be large.
#[derive(Default)]
struct Lists {
    first: Lock<List>,
    more: OnceLock<Box<[CachePadded<Lock<List>>]>>,
}

impl Lists {
    /// List 0 is the first; list `i + 1` is worker i's.
    fn get(&self, list: u16) -> &Lock<List> {
        match (list.checked_sub(1), self.more.get()) {
            (Some(worker), Some(more)) => &more[usize::from(worker)],
            _ => &self.first,
        }
    }

    /// The list that a worker links in, and its number.
    fn for_worker(&self, worker: Option<usize>) -> (u16, &Lock<List>) {
        match (worker, self.more.get()) {
            (Some(worker), Some(more)) => (worker as u16 + 1, &more[worker]),
            _ => (0, &self.first),
        }
    }

    fn len(&self) -> u16 {
        1 + self.more.get().map_or(0, |more| more.len() as u16)
    }
}

fn next_scope_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl ScopeInner {
    /// A scope that holds itself open (S1).
    fn open(
        shared: Arc<Shared>,
        kind: ScopeKind,
        options: Options,
        opened_at: Option<&'static Location<'static>>,
        place: Place,
        sealed: bool,
    ) -> Arc<ScopeInner> {
        let count = match kind {
            ScopeKind::Root => ChildCount::with_own(shared.remotes.len()),
            _ => ChildCount::new(),
        };
        if options.on_stuck != OnStuck::Report {
            shared.acts_on_proofs.store(true, Release);
        }
        let scope = Arc::new(ScopeInner {
            id: next_scope_id(),
            kind,
            opened_at,
            shared,
            options,
            place: Mutex::new(place),
            sealed: AtomicBool::new(sealed),
            count,
            lists: Lists::default(),
            bound: AtomicU8::new(Bound::Open as u8),
            reason: OnceLock::new(),
            failed: AtomicBool::new(false),
            shields: AtomicU32::new(0),
            encloses: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed_by_task: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            over: AtomicBool::new(false),
            end: Mutex::new(End::default()),
            cancel_waiters: Mutex::new(CancelWaiters::default()),
        });
        let _ = Arc::into_raw(Arc::clone(&scope));
        scope
    }

    /// The root scope of a runtime; its grace is the shutdown's.
    pub(crate) fn root(shared: Arc<Shared>, grace: Duration) -> Arc<ScopeInner> {
        let options = Options { grace: Some(grace), ..Options::default() };
        let root = ScopeInner::open(shared, ScopeKind::Root, options, None, Place::default(), false);
        root.inflate();
        root
    }

    /// A scope in the task that this thread is polling.
    ///
    /// # Panics
    /// If that is no task of ours; `what` says who asked.
    #[track_caller]
    pub(crate) fn open_here(
        what: &str,
        kind: ScopeKind,
        options: Options,
        opened_at: &'static Location<'static>,
        task: TaskRef,
    ) -> Arc<ScopeInner> {
        let shared = context::shared(what);
        let sealed = frame::is_shielded();
        let scope = ScopeInner::open(shared, kind, options, Some(opened_at), Place::default(), sealed);
        scope.settle_in(task);
        scope.arm_deadline();
        scope
    }

    /// A child is proven stuck, at this moment.
    pub(super) fn child_stuck(self: &Arc<ScopeInner>, task: TaskRef) {
        self.act_on_proof(&task);
        self.shared.note_unwakeable(task);
    }

    /// A child is proven stuck.
    pub(crate) fn act_on_proof(self: &Arc<ScopeInner>, task: &TaskRef) {
        let reason = || CancelReason::of(CancelKind::Stuck).site(Some(task.header().record.spawned_at()));
        match self.options.on_stuck {
            OnStuck::Report => {}
            OnStuck::DropChild => task.cancel(reason()),
            OnStuck::CancelScope => self.cancel_all(reason(), false),
            OnStuck::FailTest => self.shared.fail_test.store(true, Release),
        }
    }

    /// The scope at this one's side, made at first use. The caller is counted in here, so that this one's end has not
    /// come.
    pub(super) fn side(self: &Arc<ScopeInner>, side: Side) -> Arc<ScopeInner> {
        let kind = match side {
            Side::Daemons => ScopeKind::Daemons,
            Side::Cleanups => ScopeKind::Cleanups,
        };
        if self.kind == kind {
            return Arc::clone(self);
        }
        let mut end = lock(&self.end);
        if let Some(scope) = &end.sides[side as usize] {
            return Arc::clone(scope);
        }
        let depth = lock(&self.place).depth + 1;
        let place = Place { owner: None, enclosing: Some(Arc::clone(self)), inside: false, depth };
        let shared = Arc::clone(&self.shared);
        let sealed = side == Side::Cleanups;
        let scope = ScopeInner::open(shared, kind, Options::default(), self.opened_at, place, sealed);
        end.sides[side as usize] = Some(Arc::clone(&scope));
        drop(end);
        // (S2) Published first, flags after.
        if !sealed && self.bound() != Bound::Open {
            scope.cancel_all(self.cancel_reason(), self.bound() == Bound::Forced);
        }
        scope
    }

    /// The scopes at this one's side that have been made and are not over.
    pub(crate) fn sides(&self) -> Vec<Arc<ScopeInner>> {
        lock(&self.end).sides.iter().flatten().cloned().collect()
    }

    pub(crate) fn inflate(&self) {
        let workers = self.shared.remotes.len();
        self.lists.more.get_or_init(|| (0..workers).map(|_| CachePadded::default()).collect());
        self.count.inflate(workers);
    }

    /// Which worker of this runtime's the thread is.
    #[inline]
    fn worker(&self) -> Option<usize> {
        context::with_worker_in(Arc::as_ptr(&self.shared), |worker| worker.map(Worker::index))
    }

    /// The worker of this runtime's that the thread is.
    ///
    /// # Safety
    /// As [`context::worker_in`].
    #[inline]
    pub(super) unsafe fn worker_here<'a>(&self) -> Option<&'a Worker> {
        // SAFETY: passed on.
        unsafe { context::worker_in(Arc::as_ptr(&self.shared)) }
    }

    // ---- children ---------------------------------------------------------------------------

    /// Counts a child in. False if the scope has ended.
    #[must_use]
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        self.enter_on(self.worker())
    }

    /// The same, on a thread that is this worker.
    #[must_use]
    #[inline]
    pub(super) fn enter_on(&self, worker: Option<usize>) -> bool {
        match self.count.enter(worker) {
            Some(shards_would_pay) => {
                if shards_would_pay {
                    self.inflate();
                }
                true
            }
            None => false,
        }
    }

    /// Counts a child out. The scope may be gone when this returns (S1).
    ///
    /// # Safety
    /// The caller was counted in, and does not use the pointer again.
    #[inline]
    pub(crate) unsafe fn leave(scope: NonNull<ScopeInner>) {
        // SAFETY: (S1) the child still counts; passed on.
        unsafe { ScopeInner::leave_on(scope, scope.as_ref().worker(), 1) };
    }

    /// The same of so many, on a thread that is this worker.
    ///
    /// # Safety
    /// As [`leave`](ScopeInner::leave), for each.
    #[inline]
    pub(super) unsafe fn leave_on(scope: NonNull<ScopeInner>, worker: Option<usize>, children: u64) {
        // SAFETY: (S1) they still count.
        let last = unsafe { scope.as_ref() }.count.leave(worker, children);
        if last {
            // SAFETY: (S1) the count was brought to zero by us.
            unsafe { ScopeInner::end_here(scope) };
        }
    }

    /// # Safety
    /// (S1) The caller has brought the count to zero: the reference that the scope holds to itself is the caller's to give up, and
    /// keeps it up to then.
    #[cold]
    unsafe fn end_here(scope: NonNull<ScopeInner>) {
        // SAFETY: passed on.
        unsafe { Arc::from_raw(scope.as_ptr()) }.end(Some(Side::Daemons));
    }

    /// The body has ended, one way or another: no more waiting for it. True if nothing is left.
    pub(crate) fn close(self: &Arc<ScopeInner>) -> bool {
        if !self.closing.swap(true, AcqRel) {
            self.close_count();
        }
        self.is_over()
    }

    /// Whoever set `closing` goes on with this.
    fn close_count(self: &Arc<ScopeInner>) {
        if self.count.close() {
            // SAFETY: (S1) as in `leave_on`.
            unsafe { ScopeInner::end_here(address(self)) };
        } else if self.kind == ScopeKind::Root {
            self.shared.close();
        }
    }

    /// The root's end, as far as it waits for a worker: that one counts for itself no more.
    ///
    /// # Safety
    /// `root` is a root scope that begins to close, and the caller has the worker's role and does this once.
    pub(crate) unsafe fn retire(root: NonNull<()>, worker: usize) {
        let root = root.cast::<ScopeInner>();
        // SAFETY: (S1) the count is not zero before this worker has retired.
        if unsafe { root.as_ref() }.count.retire(worker) {
            // SAFETY: (S1) as in `leave_on`.
            unsafe { ScopeInner::end_here(root) };
        }
    }

    /// Nothing is left of the scope, and it has told whoever waited.
    pub(crate) fn is_over(&self) -> bool {
        // Acquire: pairs with the release in `end`.
        self.over.load(Acquire)
    }

    /// The count has reached zero, and all sides before `side` are over.
    fn end(self: Arc<ScopeInner>, mut side: Option<Side>) {
        while let Some(now) = side {
            let next = (now == Side::Daemons).then_some(Side::Cleanups);
            let scope = lock(&self.end).sides[now as usize].clone();
            if let Some(scope) = scope {
                if now == Side::Daemons {
                    scope.cancel_all(CancelReason::of(CancelKind::DaemonsEnd), false);
                }
                lock(&scope.end).then = Some(Then::EndOf(self, now));
                // Its end, now or later, goes on with ours.
                scope.close();
                return;
            }
            side = next;
        }
        let (waker, then, sides, timers, lost) = {
            let mut end = lock(&self.end);
            let lost = if end.unwanted { end.panic.take() } else { None };
            if let (Some((payload, site)), true) = (&end.panic, self.abandoned.load(Acquire)) {
                // Forgotten; or, what looks the same from here, on its way to another task, which may come for it yet.
                self.shared.incidents.note(IncidentKind::SparePanic, *site, panic_message(&**payload));
            }
            self.over.store(true, Release);
            (
                end.waker.take().map(waker::fire),
                end.then.take(),
                std::mem::take(&mut end.sides),
                std::mem::take(&mut end.timers),
                lost,
            )
        };
        self.tell_lost(lost);
        timers.into_iter().flatten().for_each(|key| self.shared.driver.disarm(key));
        drop(sides);
        match then {
            None => {}
            Some(Then::Leave(adopter)) => {
                self.unbranch();
                // SAFETY: (S1) adoption counted it in.
                unsafe { ScopeInner::leave(address(&adopter)) };
            }
            Some(Then::EndOf(scope, side)) => {
                scope.end((side == Side::Daemons).then_some(Side::Cleanups));
            }
        }
        drop(waker);
    }

    /// Registers the polled task to be woken at the end. False if the end has come.
    pub(crate) fn register_end(&self, cx: &Context<'_>) -> bool {
        if self.is_over() {
            return false;
        }
        self.register_end_if(cx, || true)
    }

    /// The same for the end of a scope that was dropped half-way in our body and that we could not adopt, being over already.
    /// False if there is none.
    pub(super) fn register_end_inside(self: &Arc<ScopeInner>, cx: &Context<'_>) -> bool {
        let is_dropped = |scope: &Arc<ScopeInner>| scope.abandoned.load(Acquire);
        self.closed_by_task.load(Acquire)
            && self.inner_scopes().iter().any(|scope| is_dropped(scope) && scope.register_end(cx))
    }

    /// The same, as long as `wanted` holds under the lock.
    fn register_end_if(&self, cx: &Context<'_>, wanted: impl FnOnce() -> bool) -> bool {
        let polled = frame::header().addr();
        let (old, other) = {
            let mut end = lock(&self.end);
            if self.is_over() || !wanted() {
                return false;
            }
            let old = match &end.waker {
                Some(waker) if waker::will_wake(waker, cx) => None,
                _ => end.waker.replace(waker::register(cx)),
            };
            // A waker that cannot be told from this one, or is made anew in each poll, would wake us for ever.
            if end.waiting == polled {
                (old, None)
            } else {
                end.waiting = polled;
                (None, old.map(waker::fire))
            }
        };
        // A task that waited here before, for the scope has moved from it to us: it looks again, and goes on.
        drop((old, other));
        true
    }

    /// Gives the registration up, and wakes who has it: it may be the task that the scope lives in, which waits for our end
    /// and registers again, while another task drops our future.
    pub(crate) fn wake_waiting(&self) {
        let waiting = lock(&self.end).waker.take().map(waker::fire);
        drop(waiting);
    }

    /// The scope's future was dropped: the nearest enclosing scope of the same task that has not ended waits for it. (If
    /// there is none the task itself does, for the scope stays among its branches.)
    pub(crate) fn adopt(&self) {
        let mut next = self.around();
        while let Some(scope) = next {
            if scope.count.enter(None).is_some() {
                let mut end = lock(&self.end);
                if self.is_over() {
                    drop(end);
                    self.unbranch();
                    // SAFETY: (S1) counted in above.
                    unsafe { ScopeInner::leave(address(&scope)) };
                } else {
                    end.then = Some(Then::Leave(scope));
                }
                return;
            }
            next = scope.around();
        }
    }

    /// Takes the scope out of its task's branches. What it enclosed there is enclosed by the scope around it now.
    pub(crate) fn unbranch(&self) {
        let (owner, enclosing, inside) = lock(&self.place).parts();
        let Some(owner) = owner else { return };
        let this: *const ScopeInner = self;
        let taken = self.take_from(&owner);
        for scope in scopes_of(&owner) {
            let mut place = lock(&scope.place);
            if place.enclosing.as_ref().is_some_and(|around| std::ptr::eq(Arc::as_ptr(around), this)) {
                // Before the place changes: who finds us in the new one sees it.
                scope.sealed.fetch_or(self.is_sealed(), AcqRel);
                let old = std::mem::replace(&mut place.enclosing, enclosing.clone());
                place.inside = inside;
                drop(place);
                drop(old);
                scope.heed();
            }
        }
        // Dropped outside the lock: it may be the last one.
        drop(taken);
    }

    /// Takes the scope out of a task's branches. What is returned may be the last of it.
    pub(super) fn take_from(&self, task: &TaskRef) -> Option<Arc<dyn Branch>> {
        let this: *const ScopeInner = self;
        let branches = &mut task.header().existing_extra()?.branches;
        let found = branches.iter().rposition(|branch| std::ptr::eq(Arc::as_ptr(branch).cast(), this));
        found.map(|at| branches.swap_remove(at))
    }

    /// Links a task, and looks at the flag under the lock (S2).
    /// In line, as in [`OwnerLink`](crate::task::hooks::OwnerLink).
    #[inline(always)]
    pub(crate) fn link(&self, task: NonNull<Header>) -> Bound {
        let (list, nodes) = self.lists.for_worker(self.worker());
        let mut nodes = nodes.lock();
        // SAFETY: the runner calls this for a task that is not linked; it is unlinked before it completes.
        unsafe {
            task.as_ref().set_linked(list);
            nodes.push_front(links(task));
        }
        let bound = self.bound();
        drop(nodes);
        bound
    }

    pub(crate) fn unlink(&self, list: u16, tasks: &[NonNull<Header>]) {
        let mut nodes = self.lists.get(list).lock();
        // SAFETY: the runner calls this for linked tasks, with the list they were linked in.
        tasks.iter().for_each(|&task| unsafe { nodes.remove(links(task)) });
    }

    /// How many children are linked: the others are newborn.
    pub(crate) fn linked(&self) -> u64 {
        (0..self.lists.len()).map(|list| self.lists.get(list).lock().len() as u64).sum()
    }

    /// Calls `visit` with each linked child, but for those that have been dropped and are about to leave together. No lock is held meanwhile.
    pub(crate) fn for_each_child(&self, mut visit: impl FnMut(&TaskRef)) {
        self.walk(
            Vec::with_capacity(BATCH),
            // SAFETY: (I1) alive, for it is linked.
            |tasks, task| unsafe {
                if !task.as_ref().is_leaving() {
                    tasks.push(TaskRef::new(task));
                }
            },
            |tasks| tasks.drain(..).for_each(|task| visit(&task)),
        );
    }

    /// Flags the linked children as cancelled, has them polled, and calls `visit` with what is below each. No lock is held meanwhile.
    pub(super) fn flag_children(&self, drop: bool, mut visit: impl FnMut(Vec<Arc<dyn Branch>>)) {
        self.walk(
            Flagged::new(BATCH),
            // SAFETY: (I1) alive, for it is linked.
            |flagged, task| unsafe { flagged.add(task, drop) },
            |flagged| {
                flagged.look_below(&mut visit);
                let parked = flagged.parked.drain(..);
                context::with_worker_in(Arc::as_ptr(&self.shared), |worker| match worker {
                    Some(worker) => worker.push_woken(parked),
                    None => parked.for_each(|task| task.schedule(Cause::Woken)),
                });
            },
        );
    }

    /// Walks over the linked children: has `see` note some of them in a batch under their list's lock, and hands that to `visit` without
    /// it.
    fn walk<T>(
        &self,
        mut batch: T,
        mut see: impl FnMut(&mut T, NonNull<Header>),
        mut visit: impl FnMut(&mut T),
    ) {
        for list in 0..self.lists.len() {
            let mut cursor = Box::new(Cursor::new());
            loop {
                // SAFETY: the cursor is boxed and the walk goes on to its end. What is linked is not
                // complete, hence alive under the lock (I1).
                let more = unsafe {
                    self.lists
                        .get(list)
                        .lock()
                        .walk(&mut cursor, BATCH, |node| see(&mut batch, header_of(node)))
                };
                visit(&mut batch);
                if !more {
                    break;
                }
            }
        }
    }

    /// The scopes that this one encloses directly: in the same task, and those at its side.
    pub(super) fn inner_scopes(self: &Arc<ScopeInner>) -> Vec<Arc<ScopeInner>> {
        let owner = lock(&self.place).owner.clone();
        let mut scopes = owner.as_ref().map(scopes_of).unwrap_or_default();
        scopes.retain(|scope| {
            let place = lock(&scope.place);
            place.enclosing.as_ref().is_some_and(|around| Arc::ptr_eq(around, self))
        });
        scopes.extend(self.sides());
        scopes
    }

    /// Whether the scope may come to drop its body without any waker; see [`verdict`](crate::report::verdict).
    pub(crate) fn may_end_body(self: &Arc<ScopeInner>) -> bool {
        !self.closing.load(Acquire) && matches!(self.kind, ScopeKind::Plain | ScopeKind::Try)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Acquire)
    }

    /// Whether what cancels the scope's task reaches the scope as such: not if it is sealed, and not if it is in the body of
    /// another one of that task, through which it is reached, or not.
    pub(super) fn is_reached_first(&self) -> bool {
        !self.is_sealed() && !lock(&self.place).inside
    }

    /// The scope of the same task around it.
    pub(super) fn around(&self) -> Option<Arc<ScopeInner>> {
        let place = lock(&self.place);
        place.enclosing.clone().filter(|_| place.inside)
    }

    /// The scope of the same task whose cancellation reaches this one with the grace that it is due.
    fn reached_from(self: &Arc<ScopeInner>) -> Arc<ScopeInner> {
        let mut scope = Arc::clone(self);
        while !scope.is_sealed() {
            let Some(around) = scope.around() else { break };
            scope = around;
        }
        scope
    }

    /// Children of this scope and of those at its side, a moment's truth: no fewer than those that lived when the look began.
    pub(crate) fn live(&self) -> u64 {
        self.count.live() + self.sides().iter().map(|side| side.count.live()).sum::<u64>()
    }
}

impl Branch for ScopeInner {
    fn close_branch(self: Arc<Self>, cx: &Context<'_>, reason: CancelReason) -> bool {
        // It may have moved on since its task looked.
        let is_ours = || self.lives_in(frame::header());
        if !is_ours() {
            return true;
        }
        let inner_reason = reason.clone();
        if reason.kind() == CancelKind::ScopeForgotten {
            if !self.abandoned.swap(true, AcqRel) {
                let live = self.live();
                let what = format!("{live} live {}", if live == 1 { "child" } else { "children" });
                self.shared.incidents.note(IncidentKind::ScopeForgotten, self.opened_at, &what);
            }
            self.reached_from().cancel_all(reason, false);
        } else {
            self.reached_from().cancel_all(reason.inherited(), false);
        }
        // What is in our body ends before us: our grace is theirs, too, and who polls us next relies on it.
        if self.encloses.load(Acquire) {
            for scope in TaskRef::polled().iter().flat_map(scopes_of) {
                let inside = scope.enclosing().is_some_and(|around| Arc::ptr_eq(&around, &self));
                if inside && !scope.is_over() && !Branch::close_branch(scope, cx, inner_reason.clone()) {
                    return false;
                }
            }
        }
        // (S3) Looked at again: on its way to another task it may have taken with it what is in our body before we found it.
        let closes = {
            let place = lock(&self.place);
            if !place.is_in(frame::header()) {
                return true;
            }
            !self.closing.swap(true, AcqRel)
        };
        if closes {
            self.closed_by_task.store(true, Release);
            self.close_count();
        }
        self.is_over() || !self.register_end_if(cx, is_ours)
    }

    fn cancel_branch(self: Arc<Self>, reason: CancelReason) {
        if self.is_reached_first() {
            self.cancel_all(reason.inherited(), false);
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for ScopeInner {
    fn drop(&mut self) {
        // What nobody came for may panic as it is dropped: not in whoever happens to be the last.
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut end.errors).into_iter().for_each(|error| waker::forgive(|| drop(error)));
        end.panic.take().into_iter().for_each(|panic| waker::forgive(|| drop(panic)));
        // A scope holds the one around it, and so on up: take the chain apart here, not by recursion.
        let enclosing = |scope: &mut ScopeInner| {
            scope.place.get_mut().unwrap_or_else(PoisonError::into_inner).enclosing.take()
        };
        let mut next = enclosing(self);
        while let Some(scope) = next {
            next = Arc::into_inner(scope).and_then(|mut scope| enclosing(&mut scope));
        }
    }
}

/// A task's branch, as the scope that it is.
pub(super) fn as_scope(branch: Arc<dyn Branch>) -> Option<Arc<ScopeInner>> {
    branch.as_any().downcast().ok()
}

/// The scopes that live in a task.
pub(crate) fn scopes_of(task: &TaskRef) -> Vec<Arc<ScopeInner>> {
    let branches = task.header().existing_extra().map(|extra| extra.branches.clone());
    branches.into_iter().flatten().filter_map(as_scope).collect()
}

/// Whether something that is no waker may let an unwakeable task go on, or end: a deadline further out; a scope in it whose
/// body ends when a child fails, or at its deadline. Such a task is not *proven*.
#[cold]
pub(crate) fn may_go_on(bounding: &Arc<ScopeInner>, task: &TaskRef) -> bool {
    bounding.deadline_ns().is_some() || scopes_of(task).iter().any(ScopeInner::may_end_body)
}

/// The innermost scope around the code that is running: that of the body that is polled, or the one that bounds the
/// task, whose owner part this is.
pub(super) fn innermost_of(owner: &dyn OwnerLink) -> Arc<ScopeInner> {
    let around = frame::scope();
    let innermost = if around.is_null() { owner.scope() } else { around };
    // SAFETY: (S1) the polled task has not left its scope; the other is set by the poll of a scope's body around us,
    // which holds the scope.
    unsafe { Arc::clone(&borrow(innermost)) }
}

/// A scope's pointer, from which its `Arc` may be made again: one that comes from a reference reaches less far.
#[inline]
pub(crate) fn address(scope: &Arc<ScopeInner>) -> NonNull<ScopeInner> {
    // SAFETY: an `Arc` is not null.
    unsafe { NonNull::new_unchecked(Arc::as_ptr(scope).cast_mut()) }
}

/// The scope behind a bare pointer.
///
/// # Safety
/// It points to a scope that is alive (S1) while the result is used.
pub(crate) unsafe fn borrow(scope: *const ()) -> std::mem::ManuallyDrop<Arc<ScopeInner>> {
    // SAFETY: scopes are only ever made in an `Arc`; the count is not given up.
    std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(scope.cast()) })
}

/// A header's place in a list.
fn links(task: NonNull<Header>) -> NonNull<Links> {
    // SAFETY: in bounds of the header.
    unsafe { task.byte_add(std::mem::offset_of!(Header, links)).cast() }
}

/// The header around a place in a list.
fn header_of(links: NonNull<Links>) -> NonNull<Header> {
    // SAFETY: every node of a child list is the `links` of a header; cursors are not visited.
    unsafe { links.byte_sub(std::mem::offset_of!(Header, links)).cast() }
}
