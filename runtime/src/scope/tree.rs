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

use std::any::Any;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use crossbeam_utils::CachePadded;

use super::count::ChildCount;
use crate::scheduler::context;
use crate::scheduler::shared::Shared;
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch};
use crate::task::join::{CancelKind, CancelReason};
use crate::task::raw::TaskRef;
use crate::task::waker;
use crate::util::linked_list::{Cursor, Links, List};

/// Elements that a walk looks at under one lock.
const BATCH: usize = 128;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of the user's runs under our locks, so a poisoned one is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct ScopeInner {
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
    /// `None` for the root.
    pub(crate) opened_at: Option<&'static Location<'static>>,
    pub(crate) shared: Arc<Shared>,
    /// The task that the scope lives in; `None` for the root.
    pub(crate) owner: Option<TaskRef>,
    /// The scope around it, in the same task or the one that bounds that task; `None` for the root.
    pub(crate) enclosing: Option<Arc<ScopeInner>>,
    /// Panics stay in the handles, and the others run on. So it is for the root.
    supervises: bool,
    pub(crate) count: ChildCount,
    lists: Lists,
    bound: AtomicU8,
    reason: OnceLock<CancelReason>,
    pub(crate) panicked: AtomicBool,
    /// The body has ended, and the scope waits for its children.
    pub(crate) closing: AtomicBool,
    end: Mutex<End>,
    cancel_waiters: Mutex<CancelWaiters>,
}

/// What happens at the end.
#[derive(Default)]
struct End {
    /// The owner's registration.
    waker: Option<Waker>,
    /// A scope further out that may not end before this one.
    adopter: Option<Arc<ScopeInner>>,
    over: bool,
    panic: Option<Box<dyn Any + Send>>,
}

#[derive(Default)]
struct CancelWaiters {
    cancelled: bool,
    wakers: slab::Slab<Waker>,
}

/// Child lists: one, and one for each worker once the scope is known to be large.
#[derive(Default)]
struct Lists {
    first: Mutex<List>,
    more: OnceLock<Box<[CachePadded<Mutex<List>>]>>,
}

impl Lists {
    /// List 0 is the first; list `i + 1` is worker i's.
    fn get(&self, list: u16) -> &Mutex<List> {
        match (list.checked_sub(1), self.more.get()) {
            (Some(worker), Some(more)) => &more[usize::from(worker)],
            _ => &self.first,
        }
    }

    fn for_worker(&self, worker: Option<usize>) -> u16 {
        match (worker, self.more.get()) {
            (Some(worker), Some(_)) => worker as u16 + 1,
            _ => 0,
        }
    }

    fn len(&self) -> u16 {
        1 + self.more.get().map_or(0, |more| more.len() as u16)
    }
}

fn next_scope_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl ScopeInner {
    /// A scope that holds itself open (S1).
    fn open(
        shared: Arc<Shared>,
        name: Option<Arc<str>>,
        opened_at: Option<&'static Location<'static>>,
        owner: Option<TaskRef>,
        enclosing: Option<Arc<ScopeInner>>,
    ) -> Arc<ScopeInner> {
        let scope = Arc::new(ScopeInner {
            id: next_scope_id(),
            name,
            opened_at,
            shared,
            supervises: owner.is_none(),
            owner,
            enclosing,
            count: ChildCount::new(),
            lists: Lists::default(),
            bound: AtomicU8::new(Bound::Open as u8),
            reason: OnceLock::new(),
            panicked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            end: Mutex::new(End::default()),
            cancel_waiters: Mutex::new(CancelWaiters::default()),
        });
        let _ = Arc::into_raw(Arc::clone(&scope));
        scope
    }

    /// The root scope of a runtime.
    pub(crate) fn root(shared: Arc<Shared>) -> Arc<ScopeInner> {
        let root = ScopeInner::open(shared, None, None, None, None);
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
        name: Option<Arc<str>>,
        opened_at: &'static Location<'static>,
        task: TaskRef,
        around: Option<Arc<ScopeInner>>,
    ) -> Arc<ScopeInner> {
        let shared = context::shared(what);
        let owner = task.owner_if_polled().expect("the task is the one being polled");
        // SAFETY: (S1) the polled task has not left its scope.
        let bounding = unsafe { Arc::clone(&borrow(owner.scope())) };
        let enclosing = around.unwrap_or(bounding);
        // In the tree from now on, so that a cancellation finds what will be below it.
        if !task.header().is_linked() {
            let bound = owner.link(task.as_ptr());
            if bound != Bound::Open {
                let _ = task.header().state.cancel(bound == Bound::Dropping);
            }
        }
        let scope = ScopeInner::open(shared, name, Some(opened_at), Some(task.clone()), Some(enclosing));
        task.header().extra().branches.push(Arc::clone(&scope) as Arc<dyn Branch>);
        // (S2) Branch first, flags after.
        let enclosing = scope.enclosing.as_ref().expect("just set");
        if enclosing.bound() != Bound::Open {
            scope.cancel_all(enclosing.cancel_reason(), enclosing.bound() == Bound::Dropping);
        } else if task.header().state.load().is_cancelled() {
            let own = task.header().existing_extra().and_then(|extra| extra.cancel);
            let reason = own.unwrap_or_else(|| enclosing.cancel_reason());
            scope.cancel_all(reason, task.header().state.load().is_dropping());
        }
        scope
    }

    pub(crate) fn inflate(&self) {
        let workers = self.shared.remotes.len();
        self.lists.more.get_or_init(|| (0..workers).map(|_| CachePadded::default()).collect());
        self.count.inflate(workers);
    }

    fn worker(&self) -> Option<usize> {
        context::worker_index_in(Arc::as_ptr(&self.shared))
    }

    // ---- children ---------------------------------------------------------------------------

    /// Counts a child in. False if the scope has ended.
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        match self.count.enter(self.worker()) {
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
    pub(crate) unsafe fn leave(scope: NonNull<ScopeInner>) {
        // SAFETY: (S1) the child still counts.
        let last = unsafe {
            let this = scope.as_ref();
            this.count.leave(this.worker())
        };
        if last {
            // SAFETY: (S1) the count was brought to zero by us: the reference that the scope holds to itself
            // is ours to give up, and keeps it up to then.
            unsafe { Arc::from_raw(scope.as_ptr()) }.end();
        }
    }

    /// The body has ended, one way or another: no more waiting for it. True if no child is left.
    pub(crate) fn close(self: &Arc<ScopeInner>) -> bool {
        if self.closing.swap(true, AcqRel) {
            return self.count.is_zero();
        }
        if self.count.close() {
            // SAFETY: (S1) as in `leave`.
            unsafe { Arc::from_raw(Arc::as_ptr(self)) }.end();
            return true;
        }
        false
    }

    /// The count has reached zero. Called once.
    fn end(self: Arc<ScopeInner>) {
        let (waker, adopter) = {
            let mut end = lock(&self.end);
            end.over = true;
            (end.waker.take().map(waker::fire), end.adopter.take())
        };
        if let Some(adopter) = adopter {
            self.unbranch();
            // SAFETY: (S1) adoption counted it in.
            unsafe { ScopeInner::leave(NonNull::from(&*adopter)) };
        }
        drop(waker);
    }

    /// Registers the polled task to be woken at the end. False if the end has come.
    pub(crate) fn register_end(&self, cx: &Context<'_>) -> bool {
        if self.count.is_zero() && lock(&self.end).over {
            return false;
        }
        let old = {
            let mut end = lock(&self.end);
            if end.over {
                return false;
            }
            match &end.waker {
                Some(waker) if waker::will_wake(waker, cx) => None,
                _ => end.waker.replace(waker::register(cx)),
            }
        };
        drop(old);
        true
    }

    /// Gives the owner's registration up.
    pub(crate) fn deregister_end(&self) {
        let old = lock(&self.end).waker.take();
        drop(old);
    }

    /// The scope's future was dropped: the nearest enclosing scope of the same task that has not ended waits for it. (If
    /// there is none the task itself does, for the scope stays among its branches.)
    pub(crate) fn adopt(&self) {
        let mut next = self.enclosing.as_ref();
        while let Some(scope) = next {
            let same_task = match (&scope.owner, &self.owner) {
                (Some(a), Some(b)) => a.as_ptr() == b.as_ptr(),
                _ => false,
            };
            if !same_task {
                return;
            }
            if scope.count.enter(None).is_some() {
                let mut end = lock(&self.end);
                if end.over {
                    drop(end);
                    self.unbranch();
                    // SAFETY: (S1) counted in above.
                    unsafe { ScopeInner::leave(NonNull::from(&**scope)) };
                } else {
                    end.adopter = Some(Arc::clone(scope));
                }
                return;
            }
            next = scope.enclosing.as_ref();
        }
    }

    /// Takes the scope out of its task's branches.
    pub(crate) fn unbranch(&self) {
        let Some(owner) = &self.owner else { return };
        let mut taken = None;
        if let Some(mut extra) = owner.header().existing_extra() {
            let branches = &mut extra.branches;
            let this: *const ScopeInner = self;
            let found = branches.iter().rposition(|branch| std::ptr::eq(Arc::as_ptr(branch).cast(), this));
            taken = found.map(|at| branches.swap_remove(at));
        }
        // Dropped outside the lock: it may be the last one.
        drop(taken);
    }

    /// Links a task, and looks at the flag under the lock (S2).
    pub(crate) fn link(&self, task: NonNull<Header>) -> Bound {
        let list = self.lists.for_worker(self.worker());
        let mut nodes = lock(self.lists.get(list));
        // SAFETY: the runner calls this for a task that is not linked; it is unlinked before it completes.
        unsafe {
            task.as_ref().set_linked(list);
            nodes.push_front(links(task));
        }
        let bound = self.bound();
        drop(nodes);
        bound
    }

    pub(crate) fn unlink(&self, task: NonNull<Header>) {
        // SAFETY: the runner calls this for a linked task, in the list it was linked in.
        unsafe {
            let list = task.as_ref().list();
            lock(self.lists.get(list)).remove(links(task));
        }
    }

    /// How many children are linked: the others are newborn.
    pub(crate) fn linked(&self) -> u64 {
        (0..self.lists.len()).map(|list| lock(self.lists.get(list)).len() as u64).sum()
    }

    /// Calls `visit` with batches of the linked children. No lock is held during `visit`.
    pub(crate) fn for_each_child(&self, mut visit: impl FnMut(&TaskRef)) {
        let mut batch = Vec::with_capacity(BATCH);
        for list in 0..self.lists.len() {
            let mut cursor = Box::new(Cursor::new());
            loop {
                // SAFETY: the cursor is boxed and the walk goes on to its end. What is linked is not
                // complete, hence alive under the lock (I1).
                let more = unsafe {
                    lock(self.lists.get(list)).walk(&mut cursor, BATCH, |node| {
                        batch.push(TaskRef::new(header_of(node)));
                    })
                };
                batch.iter().for_each(&mut visit);
                batch.clear();
                if !more {
                    break;
                }
            }
        }
    }

    /// The scopes in this one's owner that it encloses directly.
    fn inner_scopes(self: &Arc<ScopeInner>) -> Vec<Arc<ScopeInner>> {
        let Some(owner) = &self.owner else { return Vec::new() };
        let mut scopes = scopes_of(owner);
        scopes.retain(|scope| scope.enclosing.as_ref().is_some_and(|around| Arc::ptr_eq(around, self)));
        scopes
    }

    // ---- cancellation -----------------------------------------------------------------------

    pub(crate) fn bound(&self) -> Bound {
        // Acquire: pairs with the release in `flag`, for the reason.
        match self.bound.load(Acquire) {
            0 => Bound::Open,
            1 => Bound::Cancelled,
            _ => Bound::Dropping,
        }
    }

    pub(crate) fn cancel_reason(&self) -> CancelReason {
        self.reason.get().copied().unwrap_or_else(|| CancelReason::of(CancelKind::ScopeClosed))
    }

    /// Flags the scope. False if it was flagged as far before.
    fn flag(&self, reason: CancelReason, drop: bool) -> bool {
        let _ = self.reason.set(reason);
        let bound = if drop { Bound::Dropping } else { Bound::Cancelled } as u8;
        if self.bound.fetch_max(bound, AcqRel) >= bound {
            return false;
        }
        let wakers = {
            let mut waiters = lock(&self.cancel_waiters);
            waiters.cancelled = true;
            let wakers: Vec<_> = waiters.wakers.drain().map(waker::fire).collect();
            wakers
        };
        std::mem::drop(wakers);
        true
    }

    /// Cancels everything below: flags first, then the walk (S2). `drop`: without grace. Does not recurse.
    pub(crate) fn cancel_all(self: &Arc<ScopeInner>, reason: CancelReason, drop: bool) {
        let mut scopes = vec![Arc::clone(self)];
        while let Some(scope) = scopes.pop() {
            if !scope.flag(reason, drop) {
                continue;
            }
            scopes.extend(scope.inner_scopes());
            scope.for_each_child(|task| {
                let below = task.flag_cancelled(drop);
                scopes.extend(below.into_iter().filter_map(as_scope));
            });
        }
    }

    /// Registers a waiter for the cancellation. `None` if it has come.
    pub(crate) fn register_cancelled(&self, cx: &Context<'_>, key: Option<usize>) -> Option<usize> {
        let mut waiters = lock(&self.cancel_waiters);
        if waiters.cancelled {
            return None;
        }
        let old;
        let key = match key {
            Some(key) => {
                old = if waker::will_wake(&waiters.wakers[key], cx) {
                    None
                } else {
                    Some(std::mem::replace(&mut waiters.wakers[key], waker::register(cx)))
                };
                key
            }
            None => {
                old = None;
                waiters.wakers.insert(waker::register(cx))
            }
        };
        std::mem::drop(waiters);
        std::mem::drop(old);
        Some(key)
    }

    pub(crate) fn deregister_cancelled(&self, key: usize) {
        let old = {
            let mut waiters = lock(&self.cancel_waiters);
            if waiters.cancelled { None } else { waiters.wakers.try_remove(key) }
        };
        std::mem::drop(old);
    }

    // ---- panics -----------------------------------------------------------------------------

    /// A child panicked. A supervising scope leaves the payload to the handle; any other keeps the first, cancels
    /// what it bounds, and has its owner polled so that the body ends.
    pub(crate) fn child_panicked(
        self: &Arc<ScopeInner>,
        payload: Box<dyn Any + Send>,
    ) -> Box<dyn Any + Send> {
        if self.supervises {
            return payload;
        }
        let message = crate::task::join::panic_message(&*payload).to_owned();
        self.keep_panic(payload);
        Box::new(message)
    }

    pub(crate) fn keep_panic(self: &Arc<ScopeInner>, payload: Box<dyn Any + Send>) {
        let spare = {
            let mut end = lock(&self.end);
            match end.panic {
                Some(_) => Some(payload),
                None => {
                    end.panic = Some(payload);
                    None
                }
            }
        };
        // A payload's own drop may panic; the first panic is the one that is told.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(spare)));
        self.panicked.store(true, std::sync::atomic::Ordering::Release);
        self.cancel_all(CancelReason::of(CancelKind::SiblingPanicked), true);
        if let Some(owner) = &self.owner {
            owner.nudge();
        }
    }

    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.end).panic.take()
    }
}

impl Branch for ScopeInner {
    fn close(&self, cx: &Context<'_>, reason: CancelReason) -> bool {
        // SAFETY: (S1) a branch is an `Arc` of its task's list; the count taken here keeps it for the call.
        let this = unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        };
        this.cancel_all(reason, true);
        ScopeInner::close(&this) || !this.register_end(cx)
    }

    fn cancel(&self, reason: CancelReason, drop: bool) {
        // SAFETY: (S1) as above.
        let this = unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        };
        this.cancel_all(reason, drop);
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for ScopeInner {
    fn drop(&mut self) {
        // A scope holds the one around it, and so on up: take the chain apart here, not by recursion.
        let mut next = self.enclosing.take();
        while let Some(scope) = next {
            next = Arc::into_inner(scope).and_then(|mut scope| scope.enclosing.take());
        }
    }
}

/// A task's branch, as the scope that it is.
fn as_scope(branch: Arc<dyn Branch>) -> Option<Arc<ScopeInner>> {
    branch.as_any().downcast().ok()
}

/// The scopes that live in a task.
pub(crate) fn scopes_of(task: &TaskRef) -> Vec<Arc<ScopeInner>> {
    let branches = task.header().existing_extra().map(|extra| extra.branches.clone());
    branches.into_iter().flatten().filter_map(as_scope).collect()
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
