//! What the loom models may touch: the real task, idle, park and count code, on a test bed in place of a
//! scheduler and scopes. Compiled under `--cfg loom` only.

#![allow(missing_docs, missing_debug_implementations)]

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};
use loom::sync::atomic::{AtomicU64, AtomicUsize};
use loom::sync::{Condvar, Mutex};

use crate::driver::clock::Clock;
use crate::driver::io::ScheduledIo;
use crate::driver::readiness::{Direction, GONE, READ_CLOSED, READABLE, Readiness};
use crate::driver::{Driver, Local};
use crate::report::snapshot::TaskKind;
use crate::scheduler::blocking::Pool;
use crate::scheduler::context;
use crate::scheduler::queue::Worker as Queue;
use crate::scheduler::ring::{Owner as Owned, Steal, Thief};
use crate::scheduler::shared::{Hook, Remote, Shared};
use crate::scheduler::worker::Worker;
use crate::scope::Scope;
use crate::scope::tree::ScopeInner;
use crate::sync::mutex::word::{OnQueue, Word};
use crate::task::cell::{self, Spawn};
use crate::task::channel_facts::{self, ChannelRecord, End};
use crate::task::facts::{self, Hand, Holder, LockRecord, SharedRecord};
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch, Cause, Owner, OwnerLink};
use crate::task::join::JoinHandle;
use crate::task::meta::{Record, TaskId, TaskWord, Time};
use crate::task::raw::TaskRef;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::runnable::Runnable;
use crate::task::wait::{Entry, Object, WaitReason};
use crate::task::watched::Words;

use crate::scheduler::idle::{Idle as RealIdle, Searching};
use crate::scheduler::injector::Injector as RealInjector;
use crate::scheduler::park::Parker as RealParker;

/// Which of the two stand-ins the queues of runtimes are that this thread's models start: see `scheduler/queue.rs`.
pub fn set_queues_with_lock(lock: bool) {
    crate::scheduler::queue::WITH_LOCK.set(lock);
}

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
            now: Time::new(0),
            name: None,
            locals: None,
        };
        // SAFETY: `Send` and `'static`.
        let (task, handle) = unsafe {
            let mut future = std::mem::ManuallyDrop::new(future);
            cell::new(spawn, OnBed(self), cell::OnItsWay::new(&mut future))
        };
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
    fn unlink(&self, _list: u16, tasks: &[NonNull<Header>]) {
        let mut children = self.0.children.lock().unwrap();
        tasks.iter().for_each(|task| children.retain(|&address| address != task.as_ptr().addr()));
    }
    fn cancel_reason(&self) -> CancelReason {
        CancelReason::of(CancelKind::Explicit)
    }
    fn panicked(&self, payload: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
        payload
    }
    fn leave(&self, tasks: u64) {
        self.0.left.fetch_add(tasks as usize, SeqCst);
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
    /// The root's.
    pub fn with_own(workers: usize) -> Count {
        Count(crate::scope::ChildCount::with_own(workers))
    }
    pub fn retire(&self, worker: usize) -> bool {
        self.0.retire(worker)
    }
    pub fn live(&self) -> u64 {
        self.0.live()
    }
    pub fn inflate(&self, shards: usize) {
        self.0.inflate(shards);
    }
    pub fn enter(&self, worker: Option<usize>) -> bool {
        self.0.enter(worker).is_some()
    }
    pub fn leave(&self, worker: Option<usize>, children: u64) -> bool {
        self.0.leave(worker, children)
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
    /// Each task blocks its worker until so many have begun.
    block_until: AtomicUsize,
    begun: (Mutex<usize>, Condvar),
}

impl Workers {
    pub fn new(workers: usize) -> Workers {
        Workers {
            idle: RealIdle::new(workers),
            parkers: (0..workers).map(|_| Parker::new()).collect(),
            injector: Mutex::new(0),
            ran: AtomicUsize::new(0),
            shutdown: AtomicUsize::new(0),
            block_until: AtomicUsize::new(0),
            begun: (Mutex::new(0), Condvar::new()),
        }
    }

    /// Each task blocks its worker until so many have begun. Before the first push.
    pub fn block_until(&self, tasks: usize) {
        self.block_until.store(tasks, SeqCst);
    }

    /// Blocks this thread until so many tasks have begun.
    pub fn wait_for(&self, tasks: usize) {
        let mut begun = self.begun.0.lock().unwrap();
        while *begun < tasks {
            begun = self.begun.1.wait(begun).unwrap();
        }
    }

    pub fn push(&self) {
        *self.injector.lock().unwrap() += 1;
        if self.idle.needs_waking() {
            self.wake_another();
        }
    }

    fn wake_another(&self) {
        if let Some(worker) = self.idle.take_sleeper() {
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
                        self.wake_another();
                    }
                }
                self.ran.fetch_add(1, SeqCst);
                *self.begun.0.lock().unwrap() += 1;
                self.begun.1.notify_all();
                self.wait_for(self.block_until.load(SeqCst));
                continue;
            }
            if searching.is_none() {
                searching = self.idle.try_search();
                if searching.is_some() {
                    continue;
                }
            }
            // Time does not pass in a model: the watcher sleeps as deep as the others.
            let _ = self.idle.sleep(index, searching.take(), None);
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

/// A number behind a lock for short sections.
#[derive(Debug, Default)]
pub struct Lock(crate::util::lock::NapLock<usize>);

impl Lock {
    /// Adds one, and returns how many that makes.
    pub fn add(&self) -> usize {
        let mut number = self.0.lock();
        *number += 1;
        *number
    }
}

/// The queue for what comes from outside, of numbers in place of tasks.
#[derive(Default)]
pub struct Injector(RealInjector);

impl Injector {
    pub fn push(&self, task: usize) {
        let header = std::ptr::without_provenance_mut::<Header>(task * align_of::<Header>());
        // SAFETY: (I2) it is a number; nobody looks at it as a task.
        self.0.push(unsafe { Runnable::from_raw(NonNull::new(header).unwrap()) });
    }

    /// All that a worker takes at once, in order.
    pub fn take(&self) -> Vec<usize> {
        let queue = Queue::new_fifo();
        let first = self.0.take(&queue);
        let tasks = first.into_iter().chain(std::iter::from_fn(|| queue.pop()));
        tasks.map(|task| task.into_raw().addr().get() / align_of::<Header>()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A worker's search.
pub struct Search(Searching);

/// A scheduler and its root scope, all real, whose threads are the model's: no thread but those that call
/// [`work`](Engine::work).
pub struct Engine {
    shared: Arc<Shared>,
    root: Arc<ScopeInner>,
    workers: Vec<Arc<Worker>>,
}

impl Engine {
    pub fn new(workers: usize) -> Arc<Engine> {
        Engine::build(workers, None)
    }

    /// With workers that tell `hook` of each unwakeable edge.
    pub fn with_hook(workers: usize, hook: impl Fn() + Send + Sync + 'static) -> Arc<Engine> {
        Engine::build(workers, Some(Box::new(move |_| hook())))
    }

    fn build(workers: usize, hook: Option<Hook>) -> Arc<Engine> {
        let driver = Arc::new(Driver::new(Clock::new(), workers).unwrap());
        let queues: Vec<_> = (0..workers).map(|_| Queue::new_fifo()).collect();
        let remotes = queues.iter().map(|queue| Remote::new(queue.stealer())).collect();
        let pool = Pool::new(1, String::new());
        let shared = Arc::new(Shared::new(remotes, driver, pool, hook));
        let root = ScopeInner::root(Arc::clone(&shared), Duration::ZERO);
        shared.set_root(crate::scope::tree::address(&root).cast(), ScopeInner::retire);
        let worker = |(index, queue)| Arc::new(Worker::new(Arc::clone(&shared), index, queue));
        let workers = queues.into_iter().enumerate().map(worker).collect();
        Arc::new(Engine { shared, root, workers })
    }

    /// This thread is a worker up to the shutdown.
    pub fn work(&self, index: usize) {
        self.workers[index].run();
    }

    /// No thread is a worker, and none will be one: they count for themselves no more. After the end of all that `park`, or look
    /// into the driver.
    pub fn nobody_works(&self) {
        for index in 0..self.workers.len() {
            // SAFETY: (W1) nobody has the role; the root closes after this, or waits for it.
            unsafe { self.shared.retire(index) };
        }
    }

    /// As `work` does without anything to run: blocks this thread until somebody unparks the worker, or for a reason of
    /// the driver's. True if it was an unpark.
    pub fn park(&self, index: usize) -> bool {
        self.workers[index].park(None)
    }

    /// What a worker does at the end of a turn: looks into the driver and waits for nothing.
    pub fn look_into_driver(&self, index: usize) {
        let seat = self.shared.driver.try_enter();
        self.workers[index].turn_driver(seat);
    }

    pub fn unpark(&self, index: usize) {
        self.shared.unpark(index);
    }

    /// As a worker that goes to sleep, up to its park.
    pub fn lie_down(&self, index: usize) {
        let _ = self.shared.idle.sleep(index, None, None);
    }

    /// As a worker that wakes up, and finds something.
    pub fn get_up(&self, index: usize) {
        self.shared.end_search(self.shared.idle.awake(index));
    }

    /// Whether every worker but one sleeps.
    pub fn others_sleep(&self) -> bool {
        self.shared.idle.others_sleep()
    }

    /// As a worker that begins to search.
    pub fn search(&self) -> Search {
        Search(self.shared.idle.try_search().expect("nobody else searches"))
    }

    /// It has found something.
    pub fn end_search(&self, search: Search) {
        self.shared.end_search(search.0);
    }

    /// Runs the first task that came from outside, on this thread, which is no worker.
    pub fn run_injected(&self) {
        let queue = Queue::new_fifo();
        self.shared.injector.take(&queue).expect("one is there").run();
        assert!(queue.is_empty(), "there was one");
    }

    /// Takes note of an unwakeable edge, be it one or not.
    pub fn note_unwakeable<T>(&self, task: &JoinHandle<T>) {
        self.shared.note_unwakeable(task.task());
    }

    /// Tells the workers to stop, whatever is left: for a task that knows that nothing is.
    pub fn stop_workers(&self) {
        self.shared.shut_down();
    }

    /// Cancels everything. 0 to 2: asks, drops where nothing is in the way, forces.
    pub fn cancel(&self, message: &'static str) {
        let reason = CancelReason::of(CancelKind::Explicit);
        self.root.cancel_all(reason.because(message), true);
    }

    /// How many children of the root a snapshot would show.
    pub fn look(&self) -> usize {
        let mut seen = 0;
        self.root.for_each_child(|_| seen += 1);
        seen
    }

    /// What the root scope was cancelled for.
    pub fn cancelled_for(&self) -> String {
        self.root.cancel_reason().message().unwrap_or_default().to_owned()
    }

    /// Threads of the blocking pool.
    pub fn blocking_threads(&self) -> usize {
        self.shared.blocking.threads()
    }

    /// The root scope.
    pub fn root(&self) -> Scope {
        Scope::from_inner(Arc::clone(&self.root))
    }

    /// Makes the runtime this thread's while `f` runs, as `Handle::enter` does.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        let _entered = context::enter(&self.shared, None, false);
        f()
    }

    /// Cancels everything, waits until all is gone, and stops the workers, as the shutdown of a runtime does.
    pub fn shut_down(&self) {
        self.root.cancel_all(CancelReason::of(CancelKind::Shutdown), true);
        self.stop();
    }

    /// The same, and cancels nothing.
    pub fn stop(&self) {
        let over = self.root.close();
        let wait = |cx: &mut Context<'_>| match self.root.register_end(cx) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        };
        if !over {
            loom::future::block_on(poll_fn(wait));
        }
        self.shared.shut_down();
    }

    /// After the end of all threads: nothing is left anywhere.
    pub fn check(self: Arc<Engine>) {
        let engine = Arc::into_inner(self).expect("no other thread has it");
        assert!(engine.root.is_over() && engine.root.live() == 0 && engine.root.linked() == 0);
        assert!(!engine.shared.has_backlog(), "nothing is queued");
        assert!(engine.shared.take_spares().into_iter().all(|thread| thread.join().is_ok()));
        drop(engine.shared.driver.shutdown());
        drop(engine.workers);
        while engine.shared.blocking.threads() > 0 {
            loom::thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&engine.root), 1, "nobody holds the root scope");
        drop(engine.root);
    }
}

/// The idle protocol alone.
pub struct Idle(RealIdle);

impl Idle {
    pub fn new(workers: usize) -> Idle {
        Idle(RealIdle::new(workers))
    }

    /// A worker goes to sleep and wakes up at once: something was there. It is counted as searching then, and finds it.
    pub fn nap(&self, worker: usize) {
        let searching = self.0.try_search();
        let _ = self.0.sleep(worker, searching, None);
        let searching = self.0.awake(worker);
        let _ = self.0.end_search(searching);
    }

    /// It wakes up, and finds work.
    pub fn awake(&self, worker: usize) {
        let _ = self.0.end_search(self.0.awake(worker));
    }

    pub fn to_wake(&self) -> Option<usize> {
        self.0.needs_waking().then(|| self.0.take_sleeper()).flatten()
    }

    pub fn is_consistent(&self, searching: usize) -> bool {
        self.0.is_consistent(searching)
    }

    /// What queues have outgrown is freed.
    pub fn keeps_nothing(&self) -> bool {
        self.0.keeps_nothing()
    }
}

// ---- records ------------------------------------------------------------------------------------

const REASONS: [WaitReason; 3] = [WaitReason::Sleep, WaitReason::MutexLock, WaitReason::Join];

fn places() -> [&'static Location<'static>; 3] {
    static PLACES: std::sync::OnceLock<[&'static Location<'static>; 3]> = std::sync::OnceLock::new();
    let here = Location::caller();
    *PLACES.get_or_init(|| [here, Box::leak(Box::new(*here)), Box::leak(Box::new(*here))])
}

fn entry(n: usize) -> Entry {
    Entry::new(REASONS[n], Object::Scope(n as u64), places()[n])
}

/// Notes the `n`-th wait of a task in its poll: reason, object and location say `n` each.
pub fn note_wait(n: usize) {
    crate::task::frame::note(entry(n), None);
}

impl Bed {
    /// What a snapshot reads of the first child: polls, and the number that reason, object and location agree on.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn read_record(&self) -> Option<(u64, Option<usize>)> {
        let children = self.children();
        let header = children.first()?.header();
        let copy = header.record.read(|| header.state.load().is_idle())?;
        let n = copy.first.map(|wait| {
            let Object::Scope(n) = wait.object else { panic!("an object of another kind") };
            let n = n as usize;
            assert_eq!(wait.reason, REASONS[n], "reason and object are of one wait");
            assert!(std::ptr::eq(wait.location, places()[n]), "location and object are of one wait");
            n
        });
        Some((copy.polls, n))
    }
}

/// A task's record alone, with a flag for its state word: parked or not.
pub struct LoneRecord {
    record: Record,
    idle: AtomicUsize,
}

impl LoneRecord {
    /// Parked after its first poll, whose wait says 0.
    pub fn parked() -> LoneRecord {
        let lone =
            LoneRecord { record: Record::new(places()[0], Time::new(0), 0), idle: AtomicUsize::new(0) };
        lone.poll(0);
        lone
    }
    /// A wake, and the poll that answers it, which parks with a wait that says `n`.
    pub fn poll(&self, n: usize) {
        self.idle.swap(0, AcqRel);
        self.record.start_poll();
        self.record.park(Time::new(0), entry(n));
        self.idle.store(1, Release);
    }
    /// What a snapshot reads: polls, and the number that the wait says.
    pub fn read(&self) -> Option<(u64, usize)> {
        let copy = self.record.read(|| self.idle.load(Acquire) == 1)?;
        let wait = copy.first.expect("each park has a wait");
        let Object::Scope(n) = wait.object else { panic!("an object of another kind") };
        assert_eq!(wait.reason, REASONS[n as usize], "reason and object are of one wait");
        assert!(std::ptr::eq(wait.location, places()[n as usize]), "location and object are of one wait");
        Some((copy.polls, n as usize))
    }
}

/// What others see of a thread that polls: a task that is in a list is polled next, then one that is not, then another such.
pub struct PolledWords(Words<AtomicU64>);

impl PolledWords {
    pub fn new() -> PolledWords {
        PolledWords(Words::of(AtomicU64::new(TaskWord::NONE.0), AtomicU64::new(0)))
    }

    /// Polls task `n`. It is in a list, or it was spawned at the place of that number.
    pub fn poll(&self, n: usize, listed: bool) {
        let task = TaskWord::of(n as u64 + 1);
        if listed {
            self.0.set_task(task);
        } else {
            self.0.set_place(places()[n]);
            self.0.set_task(task.newborn());
        }
        self.0.end();
    }

    /// The task that is polled, and the place that is shown with it.
    pub fn read(&self) -> Option<(usize, Option<usize>)> {
        let (task, place) = self.0.read()?;
        let place = place
            .map(|place| places().iter().position(|other| std::ptr::eq(*other, place)).expect("one of them"));
        Some((task.id() as usize - 1, place))
    }
}

/// The record of a lock with one holder, and of one with several.
pub struct LockRecords {
    one: Mutex<LockRecord>,
    many: Mutex<SharedRecord>,
    ids: (u64, u64),
}

impl LockRecords {
    pub fn new() -> LockRecords {
        let (mut one, mut many) = (LockRecord::new(), SharedRecord::new());
        let ids = (one.contended(places()[0], 1), many.contended(places()[0], 1));
        LockRecords { one: Mutex::new(one), many: Mutex::new(many), ids }
    }

    fn holder(n: usize) -> Hand {
        Holder::Task { id: TaskId(n as u64 + 1), site: places()[n], owned: n % 2 == 1 }.into()
    }

    /// Task `n` takes the lock while `n` others wait.
    pub fn take(&self, n: usize) {
        self.one.lock().unwrap().set(LockRecords::holder(n), n);
    }

    /// Who has it, and the count of changes, both read without the lock.
    pub fn read(&self) -> Option<usize> {
        let copy = facts::copy(self.ids.0).expect("published");
        match copy.holders[..] {
            [] => None,
            // The words did not come to rest.
            [Holder::Unknown] => None,
            [Holder::Task { id, site, owned }] => {
                let n = id.0 as usize - 1;
                assert_eq!(owned, n % 2 == 1, "and the kind of guard");
                assert!(std::ptr::eq(site, places()[n]), "task and site are of one holder");
                assert_eq!(copy.waiters, n as u64, "and so is the number of waiters");
                Some(n)
            }
            _ => panic!("one holder"),
        }
    }

    /// Task `n` holds a permit, hands it to `m`, and that one gives it back.
    pub fn share(&self, n: usize, m: usize) {
        let held = self.many.lock().unwrap().edit(|holders| holders.enter(LockRecords::holder(n)));
        self.many.lock().unwrap().edit(|holders| holders.rename(held, LockRecords::holder(m)));
        self.many.lock().unwrap().edit(|holders| holders.exit(held));
    }

    /// Task `n` holds a permit. Returns what hands it to `m`, in one edit.
    pub fn hand_on(self: Arc<Self>, n: usize, m: usize) -> impl FnOnce() + Send + 'static {
        let held = self.many.lock().unwrap().edit(|holders| holders.enter(LockRecords::holder(n)));
        move || {
            self.many.lock().unwrap().edit(|holders| {
                holders.exit(held);
                holders.set_waiters(m);
                assert_eq!(holders.enter(LockRecords::holder(m)), held);
            });
        }
    }

    /// Who holds a permit, and the version before and after that was read; `None` if the words did not come to rest.
    pub fn read_shared(&self) -> Option<(Vec<usize>, [u64; 2])> {
        let version = || facts::version(self.ids.1).filter(|version| *version < facts::UNSETTLED);
        let before = version()?;
        let copy = facts::copy(self.ids.1).expect("published");
        let holder = |holder: &Holder| match *holder {
            Holder::Unknown => None,
            Holder::Task { id, site, owned } => {
                let n = id.0 as usize - 1;
                assert_eq!(owned, n % 2 == 1, "and the kind of guard");
                assert!(std::ptr::eq(site, places()[n]), "task and site are of one holder");
                Some(n)
            }
        };
        let holders = copy.holders.iter().map(holder).collect::<Option<Vec<usize>>>()?;
        if let [n] = holders[..] {
            assert!(copy.waiters == 1 || copy.waiters == n as u64, "{} wait for {n}", copy.waiters);
        }
        Some((holders, [before, version()?]))
    }
}

/// The word of a mutex, and the mutex of its queue.
pub struct LockWord(Word, Mutex<()>);

impl LockWord {
    pub fn new() -> LockWord {
        let word = Word::new();
        assert!(word.try_take(Hand::UNKNOWN) && word.try_free());
        LockWord(word, Mutex::new(()))
    }

    /// Task `n` takes the lock and lets it go.
    pub fn hold(&self, n: usize) -> bool {
        let taken = self.0.try_take(LockRecords::holder(n));
        if taken && !self.0.try_free() {
            // As if nobody were in the queue any more.
            let _queue = self.1.lock().unwrap();
            self.0.free();
        }
        taken
    }

    /// Somebody queues: the number of the task that is told to have it.
    pub fn queue(&self) -> Option<usize> {
        let _queue = self.1.lock().unwrap();
        match self.0.queue() {
            OnQueue::Taken => {
                self.0.free();
                None
            }
            OnQueue::HeldBy(hand) => match hand.holder() {
                Some(Holder::Task { id, site, owned }) => {
                    let n = id.0 as usize - 1;
                    assert_eq!(owned, n % 2 == 1, "and the kind of guard");
                    assert!(std::ptr::eq(site, places()[n]), "task and site are of one hold");
                    Some(n)
                }
                Some(Holder::Unknown) => None,
                None => panic!("somebody has it"),
            },
            OnQueue::OnRecord => panic!("nobody else queues"),
        }
    }
}

/// The queues of workers, of numbers from 1. Who takes one sees what was done before it was pushed.
pub struct RingNumbers(Vec<loom::cell::UnsafeCell<usize>>);

// SAFETY: loom checks each access.
unsafe impl Sync for RingNumbers {}

/// One of them, at its owner's end.
pub struct Ring(Owned, Arc<RingNumbers>);

/// The same, where a thief looks into it.
pub struct RingThief(Thief);

impl Ring {
    /// So many queues for so many numbers.
    pub fn several(queues: usize, numbers: usize) -> Vec<Ring> {
        let cells = (0..=numbers).map(|_| loom::cell::UnsafeCell::new(0)).collect();
        let numbers = Arc::new(RingNumbers(cells));
        (0..queues).map(|_| Ring(Owned::new(), Arc::clone(&numbers))).collect()
    }

    pub fn thief(&self) -> RingThief {
        RingThief(self.0.thief())
    }

    pub fn push(&self, n: usize) {
        // SAFETY: nobody knows of the number yet.
        self.1.0[n].with_mut(|cell| unsafe { *cell = n });
        self.0.push(NonNull::new(std::ptr::without_provenance_mut(n)).expect("from 1"));
    }

    pub fn pop(&self) -> Option<usize> {
        self.0.pop().map(|item| self.took(item))
    }

    /// What is taken besides is in this queue then. `None`: nothing, or somebody was faster. The thief is counted meanwhile in an `Idle` that nobody
    /// else has.
    pub fn steal(&self, thief: &RingThief) -> Option<usize> {
        self.steal_counted(thief, &Idle::new(2))
    }

    /// As [`steal`](Ring::steal), counted in `idle`.
    pub fn steal_counted(&self, thief: &RingThief, idle: &Idle) -> Option<usize> {
        let searching = idle.0.try_search()?;
        let stolen = thief.0.steal(&self.0, &searching);
        let _ = idle.0.end_search(searching);
        match stolen {
            Steal::Success(item) => Some(self.took(item)),
            Steal::Empty | Steal::Retry => None,
        }
    }

    /// The owner goes to sleep.
    pub fn sleep(&self, worker: usize, idle: &Idle) {
        // SAFETY: (Q1) thieves are counted in `idle`.
        let outgrown = unsafe { self.0.shrink() };
        let _ = idle.0.sleep(worker, None, outgrown);
    }

    fn took(&self, item: NonNull<()>) -> usize {
        let n = item.addr().get();
        // SAFETY: only who has taken the number comes here, and once.
        let was = self.1.0[n].with_mut(|cell| unsafe { std::mem::replace(&mut *cell, usize::MAX) });
        assert_eq!(was, n, "taken once");
        n
    }
}

/// The record of a channel.
pub struct ChannelRecords {
    record: Mutex<ChannelRecord>,
    id: u64,
}

impl ChannelRecords {
    pub fn new() -> ChannelRecords {
        let mut record = ChannelRecord::new();
        let Object::Channel(id) = record.parked(places()[0], [0, 0]) else { panic!("published") };
        ChannelRecords { record: Mutex::new(record), id }
    }

    /// `n` senders from now on.
    pub fn set(&self, n: usize) {
        self.record.lock().unwrap().set_handles(End::Sender, n);
    }

    /// How many senders, and how many changes after the first.
    pub fn read(&self) -> Option<(u64, u64)> {
        channel_facts::copy(self.id).map(|copy| (copy.senders, copy.version))
    }
}

// ---- timers and readiness -----------------------------------------------------------------------

/// A driver with a paused clock that this model lets jump, or with a running one.
pub struct Timers([Arc<Local>; 2]);

const MINUTE_NS: u64 = 60_000_000_000;

pub struct TimerKey(crate::driver::Key);

impl Timers {
    fn of(clock: Clock) -> Timers {
        let driver = Arc::new(Driver::new(clock, 2).unwrap());
        Timers([0, 1].map(|worker| Local::new(&driver, worker)))
    }
    fn driver(&self) -> &Driver {
        self.0[0].driver()
    }
    pub fn paused() -> Timers {
        let timers = Timers::of(Clock::paused(0));
        std::mem::forget(timers.driver().enter(true));
        timers
    }
    pub fn running() -> Timers {
        Timers::of(Clock::new())
    }
    pub fn arm(&self, waker: Waker) -> Option<TimerKey> {
        self.arm_on(0, 60, waker)
    }
    /// As that worker, for so many minutes after the start.
    pub fn arm_on(&self, worker: usize, minutes: u64, waker: Waker) -> Option<TimerKey> {
        self.0[worker].arm(0, minutes * MINUTE_NS, waker).map(TimerKey)
    }
    pub fn disarm(&self, key: TimerKey) {
        self.driver().disarm(key.0);
    }
    /// False if it has fired.
    pub fn rearm(&self, key: TimerKey, waker: Waker) -> bool {
        self.driver().rearm(key.0, |_| false, || waker)
    }
    /// A sleeper's turn under a paused clock: jumps to the next timer. It holds the clock afterwards, and lets go of it.
    pub fn jump(&self) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.driver().hold();
        self.driver().try_enter().unwrap().turn_paused(Some(Duration::ZERO), &mut woken, || false);
        self.driver().let_go();
        woken
    }
    /// Takes out who is due, as at the end of a turn so many minutes after the start.
    pub fn fire(&self, minutes: u64) -> Vec<Waker> {
        self.driver().try_enter().unwrap().fire_at(minutes * MINUTE_NS)
    }
    /// The minute up to which the next turn would sleep.
    pub fn first(&self) -> Option<u64> {
        self.driver().try_enter().unwrap().first_ns().map(|ns| ns / MINUTE_NS)
    }
    /// Sleeps in the driver until something ends it.
    pub fn sleep(&self) {
        self.driver().try_enter().unwrap().turn(None, &mut Vec::new());
    }
    pub fn shut_down(&self) -> Vec<Waker> {
        self.driver().shutdown()
    }
    pub fn len(&self) -> usize {
        self.driver().timers_len()
    }
}

/// A source, whose operations are the model's: it reads.
pub struct Source(ScheduledIo);

/// A waiter's place at a source.
#[derive(Default)]
pub struct SourcePlace(crate::driver::io::Place);

impl Source {
    /// Not tried yet: the first operation finds out.
    pub fn untried() -> Source {
        Source(ScheduledIo::new(Readiness::untried()))
    }
    /// Not ready.
    pub fn not_ready() -> Source {
        Source(ScheduledIo::new(Readiness::none()))
    }
    /// What the driver does when the kernel reports an edge.
    pub fn readable(&self) {
        let mut woken = Vec::new();
        self.0.set(READABLE, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }
    /// What it does when the kernel reports an end.
    pub fn closed(&self) {
        let mut woken = Vec::new();
        self.0.set(READ_CLOSED, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }
    /// What it does at the shutdown; whoever waits is woken to see it.
    pub fn gone(&self) {
        let mut woken = Vec::new();
        self.0.set(GONE | READ_CLOSED, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }
    pub fn poll_read<T>(
        &self,
        cx: &Context<'_>,
        place: &mut SourcePlace,
        mut read: impl FnMut() -> std::io::Result<T>,
    ) -> Poll<std::io::Result<T>> {
        self.poll_draining(cx, place, |_| read())
    }
    /// The operation may say that it has taken all there was.
    pub fn poll_draining<T>(
        &self,
        cx: &Context<'_>,
        place: &mut SourcePlace,
        read: impl FnMut(&mut bool) -> std::io::Result<T>,
    ) -> Poll<std::io::Result<T>> {
        let will_wake = |waker: &Waker, cx: &Context<'_>| waker.will_wake(cx.waker());
        self.0.poll(cx, Direction::Read, &mut place.0, |cx| cx.waker().clone(), will_wake, read)
    }
    pub fn release(&self, place: &mut SourcePlace) {
        self.0.release(Direction::Read, &mut place.0);
    }
    /// One try that does not wait, as `try_io`.
    pub fn try_read<T>(&self, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let seen = self.0.readiness();
        let done = read();
        if done.is_none() {
            self.0.clear(seen, Direction::Read);
        }
        done
    }
}
