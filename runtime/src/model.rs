//! What the loom models may touch: the real task, idle, park and count code, on a test bed in place of a
//! scheduler and scopes. Compiled under `--cfg loom` only.

#![allow(missing_docs, missing_debug_implementations)]

use std::any::Any;
use std::future::Future;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::{Context, Waker};

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::report::snapshot::TaskKind;
use crate::task::cell::{self, Spawn};
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch, Cause, Outcome, Owner, OwnerLink};
use crate::task::join::JoinHandle;
use crate::task::raw::TaskRef;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::runnable::Runnable;

use crate::scheduler::idle::Idle as RealIdle;
use crate::scheduler::park::Parker as RealParker;

/// Stands for a scheduler and a scope. Leaked by each execution of a model.
pub struct Bed {
    queue: Mutex<Vec<Runnable>>,
    /// Children that are linked, as in a scope's list.
    children: Mutex<Vec<usize>>,
    bound: AtomicUsize,
    unwakeable: AtomicUsize,
    left: AtomicUsize,
}

impl Bed {
    pub fn new() -> &'static Bed {
        Box::leak(Box::new(Bed {
            queue: Mutex::new(Vec::new()),
            children: Mutex::new(Vec::new()),
            bound: AtomicUsize::new(0),
            unwakeable: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
        }))
    }

    pub fn spawn<F: Future + Send + 'static>(&'static self, future: F) -> JoinHandle<F::Output> {
        let spawn = Spawn {
            kind: TaskKind::Async,
            spawned_at: Location::caller(),
            now_ms: 0,
            name: None,
            locals: None,
        };
        // SAFETY: `Send` and `'static`.
        let (task, handle) = unsafe { cell::new(spawn, OnBed(self), future) };
        task.schedule(Cause::Spawned);
        handle
    }

    /// Runs the next task. False if none is in the queue.
    pub fn run_one(&self) -> bool {
        let task = {
            let mut queue = self.queue.lock().unwrap();
            assert!(queue.len() <= 1, "a task is in the queue at most once");
            queue.pop()
        };
        match task {
            Some(task) => {
                task.run();
                true
            }
            None => false,
        }
    }

    pub fn run_all(&self) {
        while self.run_one() {}
    }

    /// How often a task was called unwakeable.
    pub fn unwakeable(&self) -> usize {
        self.unwakeable.load(SeqCst)
    }

    /// How many tasks have completed.
    pub fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    /// As a scope's cancel does: flag, then walk.
    pub fn cancel(&self) {
        self.bound.store(2, SeqCst);
        let children: Vec<TaskRef> = self.children();
        for child in children {
            child.flag_cancelled(true);
        }
    }

    /// As a cancel with a grace does.
    pub fn ask(&self) {
        self.bound.fetch_max(1, SeqCst);
        for child in self.children() {
            child.flag_cancelled(false);
        }
    }

    fn children(&self) -> Vec<TaskRef> {
        let children = self.children.lock().unwrap();
        let header = |&address: &usize| {
            let header: *mut Header = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: linked, and the list's lock is held: not complete, hence alive.
            unsafe { TaskRef::new(NonNull::new(header).unwrap()) }
        };
        children.iter().map(header).collect()
    }

    /// As a snapshot does: takes references under the lock, reads without it. Returns, of each child, whether
    /// its word said unwakeable.
    pub fn look(&self) -> Vec<bool> {
        let children = self.children();
        children
            .iter()
            .map(|child| {
                let header = child.header();
                let bits = header.state.load();
                let copy = header.record.read(|| header.state.load().is_idle());
                copy.is_some() && bits.is_unwakeable()
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
struct OnBed(&'static Bed);

impl OwnerLink for OnBed {
    fn link(&self, task: NonNull<Header>) -> Bound {
        let mut children = self.0.children.lock().unwrap();
        // SAFETY: the runner links its own task.
        unsafe { task.as_ref() }.set_linked(0);
        children.push(task.as_ptr().expose_provenance());
        self.bound()
    }
    fn unwakeable(&self, _task: TaskRef) {
        self.0.unwakeable.fetch_add(1, SeqCst);
    }
    fn scope(&self) -> *const () {
        std::ptr::null()
    }
    fn is_below(&self, _other: &Header, _branches: &[std::sync::Arc<dyn Branch>]) -> bool {
        false
    }
    fn spare_panic(&self, _message: &str) {}
}

impl Owner for OnBed {
    fn schedule(&self, task: Runnable, _cause: Cause) {
        self.0.queue.lock().unwrap().push(task);
    }
    fn bound(&self) -> Bound {
        match self.0.bound.load(SeqCst) {
            0 => Bound::Open,
            1 => Bound::Cancelled,
            _ => Bound::Dropping,
        }
    }
    fn unlink(&self, task: NonNull<Header>) {
        self.0.children.lock().unwrap().retain(|&address| address != task.as_ptr().addr());
    }
    fn cancel_reason(&self) -> CancelReason {
        CancelReason::of(CancelKind::Explicit)
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        payload
    }
    fn leave(&self, _outcome: Outcome) {
        self.0.left.fetch_add(1, SeqCst);
    }
}

/// A leaf's registration and its end, as `sync` uses them.
pub fn register(cx: &Context<'_>) -> Waker {
    crate::task::waker::register(cx)
}

pub fn fire(waker: Waker) {
    drop(crate::task::waker::fire(waker));
}

/// The children of a scope.
pub struct Count(crate::scope::ChildCount);

impl Count {
    pub fn new(shards: Option<usize>) -> Count {
        let count = crate::scope::ChildCount::new();
        if let Some(shards) = shards {
            count.inflate(shards);
        }
        Count(count)
    }
    pub fn inflate(&self, shards: usize) {
        self.0.inflate(shards);
    }
    pub fn enter(&self, worker: Option<usize>) -> bool {
        self.0.enter(worker).is_some()
    }
    pub fn leave(&self, worker: Option<usize>) -> bool {
        self.0.leave(worker)
    }
    pub fn close(&self) -> bool {
        self.0.close()
    }
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

pub struct Parker(RealParker);

impl Parker {
    pub fn new() -> Parker {
        Parker(RealParker::new())
    }
    pub fn park(&self) -> bool {
        self.0.park(None)
    }
    pub fn unpark(&self) {
        self.0.unpark(|| {});
    }
}

/// The scheduler's idle protocol with a mutex for an injector: workers that only count what they run.
pub struct Workers {
    idle: RealIdle,
    parkers: Vec<Parker>,
    injector: Mutex<usize>,
    ran: AtomicUsize,
    shutdown: AtomicUsize,
}

impl Workers {
    pub fn new(workers: usize) -> Workers {
        Workers {
            idle: RealIdle::new(workers),
            parkers: (0..workers).map(|_| Parker::new()).collect(),
            injector: Mutex::new(0),
            ran: AtomicUsize::new(0),
            shutdown: AtomicUsize::new(0),
        }
    }

    pub fn push(&self) {
        *self.injector.lock().unwrap() += 1;
        if let Some(worker) = self.idle.to_wake_from_outside() {
            self.parkers[worker].unpark();
        }
    }

    pub fn shut_down(&self) {
        self.shutdown.store(1, SeqCst);
        for parker in &self.parkers {
            parker.unpark();
        }
    }

    pub fn ran(&self) -> usize {
        self.ran.load(SeqCst)
    }

    fn take(&self) -> bool {
        let mut injector = self.injector.lock().unwrap();
        let some = *injector > 0;
        *injector -= usize::from(some);
        some
    }

    /// A worker's loop: find, run, search, sleep, as in `worker.rs`. It ends at the shutdown, or when `enough`
    /// tasks have run.
    pub fn work(&self, index: usize) {
        let mut searching = None;
        while self.shutdown.load(SeqCst) == 0 {
            if self.take() {
                if let Some(searching) = searching.take() {
                    if self.idle.end_search(searching) && *self.injector.lock().unwrap() > 0 {
                        if let Some(worker) = self.idle.take_sleeper() {
                            self.parkers[worker].unpark();
                        }
                    }
                }
                self.ran.fetch_add(1, SeqCst);
                continue;
            }
            if searching.is_none() {
                searching = self.idle.try_search();
                if searching.is_some() {
                    continue;
                }
            }
            // Time does not pass in a model: the watcher sleeps as deep as the others.
            let _ = self.idle.sleep(index, searching.take());
            if *self.injector.lock().unwrap() == 0 && self.shutdown.load(SeqCst) == 0 {
                self.parkers[index].park();
            }
            searching = Some(self.idle.awake(index));
        }
    }
}

/// A sequence counter, as locks and channels have it for snapshots.
#[derive(Debug, Default)]
pub struct Seq(crate::task::seq::Seq);

impl Seq {
    pub fn write(&self, stores: impl FnOnce()) {
        self.0.write(stores);
    }

    pub fn read<T>(&self, loads: impl FnMut() -> T) -> Option<(T, u64)> {
        self.0.read(loads)
    }
}
