//! What all workers share: how a task gets into a queue from anywhere.

use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::blocking::Pool;
use super::context;
use super::idle::{Idle, Searching};
use super::injector::Injector;
use super::park::Parker;
use super::queue::Stealer;
use super::sites::Sites;
use super::worker::Worker;
use crate::driver::{Driver, Local};
use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::{AtomicBool, AtomicU8};
use crate::loom::thread;
use crate::report::snapshot::{Incident, IncidentKind};
use crate::task::hooks::Cause;
use crate::task::meta::TaskId;
use crate::task::raw::TaskRef;
use crate::task::runnable::Runnable;
use crate::task::watched::Window;
use crate::task::{trace, waker};

/// One worker as the others see it.
pub(crate) struct Remote {
    pub(crate) stealer: Stealer,
    pub(crate) parker: Parker,
    /// On a line of its own: who looks for work reads the stealer all the time.
    pub(super) seen: Arc<CachePadded<Seen>>,
    /// What the worker polls. Its line is written by who looks.
    pub(super) window: CachePadded<Window>,
}

/// As many are left to their worker, while that moves on: see `PROTOCOL.md`.
pub(super) const FEW: u64 = 8;

/// What a worker says of itself.
#[derive(Default)]
pub(crate) struct Seen {
    /// Tasks that completed on this worker; written by it alone.
    finished: AtomicU64,
    /// When its turn began; written by it alone, for reports.
    turn_ms: AtomicU64,
}

/// What a worker does, as another thread sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Polled {
    pub(crate) worker: usize,
    pub(crate) id: TaskId,
    /// When its turn began at the latest look at the clock.
    pub(crate) turn_ms: u64,
    /// Where the task was spawned, if it has never parked.
    pub(crate) newborn: Option<&'static Location<'static>>,
}

impl Seen {
    pub(crate) fn set_turn(&self, now_ms: u64) {
        self.turn_ms.store(now_ms, Relaxed);
    }

    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Relaxed)
    }

    /// A task has completed on the worker.
    #[inline]
    pub(crate) fn count_finished(&self) {
        self.finished.store(self.finished() + 1, Relaxed);
    }
}

impl Remote {
    fn polled(&self, worker: usize) -> Option<Polled> {
        let (id, newborn) = self.window.look()?;
        Some(Polled { worker, id, turn_ms: self.seen.turn_ms.load(Relaxed), newborn })
    }

    pub(crate) fn new(stealer: Stealer) -> Remote {
        Remote {
            stealer,
            parker: Parker::new(),
            seen: Arc::default(),
            window: CachePadded::new(Window::new()),
        }
    }
}

/// The scheduler's shared part.
pub(crate) struct Shared {
    pub(crate) injector: Injector,
    pub(crate) remotes: Box<[CachePadded<Remote>]>,
    pub(crate) idle: Idle,
    pub(crate) driver: Arc<Driver>,
    /// One for each worker, and one for all other threads.
    locals: Box<[Arc<Local>]>,
    pub(crate) blocking: Pool,
    pub(crate) compat: super::compat::Compat,
    pub(crate) sim: super::sim::Sim,
    phase: AtomicU8,
    /// Threads that took a worker's role over.
    spares: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Tasks that completed on no worker.
    finished_outside: AtomicU64,
    unwakeable: Unwakeable,
    pub(crate) incidents: Incidents,
    pub(crate) sites: Sites,
    /// A scope with `OnStuck::FailTest` has a stuck child.
    pub(crate) fail_test: AtomicBool,
    /// A scope with another `OnStuck` than `Report` was opened.
    pub(crate) acts_on_proofs: AtomicBool,
    /// Cleanups (`defer_async`) under way: a shutdown waits for them.
    pub(crate) cleanups: AtomicUsize,
    /// The root scope, owned by the runtime; here so that `leakfree::spawn` finds it.
    root: AtomicRoot,
    /// What a worker calls once, with the root scope and its index, when that scope closes.
    retire: OnceLock<Retire>,
}

struct AtomicRoot(std::sync::atomic::AtomicPtr<()>);

/// See [`Shared::set_root`].
pub(crate) type Retire = unsafe fn(NonNull<()>, usize);

/// Nothing special.
const RUNNING: u8 = 0;
/// The root scope closes: each worker retires from its count.
const CLOSING: u8 = 1;
/// Each worker stops, and retires if it has not.
const SHUT_DOWN: u8 = 2;

/// What a worker finds when it looks how things are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Phase(u8);

impl Phase {
    #[inline]
    pub(crate) fn is_running(self) -> bool {
        self.0 == RUNNING
    }
    pub(crate) fn is_shut_down(self) -> bool {
        self.0 == SHUT_DOWN
    }
}

/// What the owner of a hook is told: see `Builder::on_unwakeable`.
pub(crate) type Hook = Box<dyn Fn(&TaskRef) + Send + Sync>;

/// Tasks whose unwakeable edge has been written down and not been looked at by a worker yet.
struct Unwakeable {
    pending: AtomicBool,
    tasks: Mutex<Vec<TaskRef>>,
    total: AtomicU64,
    hook: Option<Hook>,
}

/// What went wrong and is told in the report.
#[derive(Debug, Default)]
pub(crate) struct Incidents(Mutex<Vec<Incident>>);

/// More than these would be told by nobody to the end.
const INCIDENTS_MAX: usize = 1000;

impl Incidents {
    #[cold]
    pub(crate) fn note(&self, kind: IncidentKind, site: Option<&'static Location<'static>>, message: &str) {
        let mut incidents = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if incidents.len() < INCIDENTS_MAX {
            incidents.push(Incident { kind, site: site.map(Into::into), message: message.to_owned() });
        }
    }

    pub(crate) fn copy(&self) -> Vec<Incident> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl Shared {
    pub(crate) fn new(
        remotes: Vec<Remote>,
        driver: Arc<Driver>,
        blocking: Pool,
        hook: Option<Hook>,
    ) -> Shared {
        Shared {
            injector: Injector::default(),
            idle: Idle::new(remotes.len()),
            locals: (0..=remotes.len()).map(|worker| Local::new(&driver, worker)).collect(),
            remotes: remotes.into_iter().map(CachePadded::new).collect(),
            driver,
            blocking,
            compat: super::compat::Compat::default(),
            sim: super::sim::Sim::default(),
            phase: AtomicU8::new(RUNNING),
            spares: Mutex::new(Vec::new()),
            finished_outside: AtomicU64::new(0),
            unwakeable: Unwakeable {
                pending: AtomicBool::new(false),
                tasks: Mutex::new(Vec::new()),
                total: AtomicU64::new(0),
                hook,
            },
            incidents: Incidents::default(),
            sites: Sites::default(),
            fail_test: AtomicBool::new(false),
            acts_on_proofs: AtomicBool::new(false),
            cleanups: AtomicUsize::new(0),
            root: AtomicRoot(std::sync::atomic::AtomicPtr::new(std::ptr::null_mut())),
            retire: OnceLock::new(),
        }
    }

    /// The driver, as this thread has it.
    #[inline]
    pub(crate) fn local(&self) -> &Arc<Local> {
        let index = context::with_worker_in(self, |worker| worker.map(Worker::index));
        &self.locals[index.unwrap_or(self.remotes.len())]
    }

    /// Set once, by the runtime, before anything runs. `retire` is called by each worker, once, after the root scope has begun to
    /// close: up to then the root is there.
    pub(crate) fn set_root(&self, root: NonNull<()>, retire: Retire) {
        let _ = self.retire.set(retire);
        self.root.0.store(root.as_ptr(), Release);
    }

    /// The root scope closes: every worker takes notice.
    pub(crate) fn close(&self) {
        // Release: pairs with the acquire in `phase`. Called once, before `shut_down` or after.
        if self.phase.compare_exchange(RUNNING, CLOSING, AcqRel, Acquire).is_ok() {
            for worker in 0..self.remotes.len() {
                self.unpark(worker);
            }
        }
    }

    /// A worker takes notice.
    ///
    /// # Safety
    /// (W1) The caller has the worker's role, and does this once.
    pub(crate) unsafe fn retire(&self, worker: usize) {
        if let Some(retire) = self.retire.get() {
            // SAFETY: the root's count waits for this worker, so the root is there.
            unsafe { retire(self.root(), worker) };
        }
    }

    pub(crate) fn root(&self) -> NonNull<()> {
        NonNull::new(self.root.0.load(Acquire)).expect("the root scope is set before anything runs")
    }

    /// Enqueues from a thread that is no worker of ours.
    pub(crate) fn schedule_from_outside(&self, task: Runnable) {
        self.injector.push(task);
        self.wake_from_outside();
    }

    /// Behind the injector's section: wakes a sleeper, if nobody searches.
    #[inline]
    fn wake_from_outside(&self) {
        if self.idle.needs_waking() {
            self.wake_another();
        }
    }

    /// Has a sleeper search, unless somebody does.
    #[cold]
    pub(crate) fn wake_another(&self) {
        if let Some(worker) = self.idle.take_sleeper() {
            self.unpark(worker);
        }
    }

    pub(crate) fn unpark(&self, worker: usize) {
        self.remotes[worker].parker.unpark(|| self.driver.unpark());
        self.sim.nudge(&self.driver);
    }

    /// Whether a task seems to wait in a queue that others than its owner may take it from.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.injector.seems_empty() || self.has_stealable()
    }

    pub(super) fn has_stealable(&self) -> bool {
        self.remotes.iter().any(|remote| !remote.stealer.is_empty())
    }

    /// Whether a worker's queue holds more than it is left to work off by itself.
    pub(crate) fn has_plenty(&self) -> bool {
        self.remotes.iter().any(|remote| remote.stealer.holds_more_than(FEW))
    }

    /// Whether nothing is left to anybody: in the models, and in a simulation, which knows no time.
    pub(super) fn offers_all(&self) -> bool {
        cfg!(loom) || self.sim.is_on()
    }

    /// Whether a thief takes from that queue, be it that it comes on.
    pub(super) fn offers(&self, stealer: &Stealer) -> bool {
        self.offers_all() || stealer.holds_more_than(FEW)
    }

    /// A searcher has found work. If it was the last one, whoever pushed meanwhile, or noted an edge, has relied on it: another is woken for
    /// that.
    pub(crate) fn end_search(&self, searching: Searching) {
        // The injector's section comes first, as in a sleeper's last look.
        if self.idle.end_search(searching)
            && (!self.injector.is_empty() || self.has_stealable() || self.has_unwakeable())
        {
            self.wake_another();
        }
    }

    /// Whether something waits that no worker has in its hands, and that one will be unparked for.
    pub(crate) fn has_work_outside(&self) -> bool {
        !self.injector.is_empty() || self.has_unwakeable()
    }

    /// Every worker sleeps and nothing waits for one.
    pub(crate) fn is_quiet(&self) -> bool {
        self.idle.all_asleep() && self.injector.is_empty()
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        // Acquire: pairs with the releases in `close` and `shut_down`.
        Phase(self.phase.load(Acquire))
    }

    /// Tells every worker to stop: all of them, not only the sleepers.
    pub(crate) fn shut_down(&self) {
        self.phase.store(SHUT_DOWN, Release);
        for worker in 0..self.remotes.len() {
            self.unpark(worker);
        }
        self.blocking.shut_down();
    }

    /// Keeps the thread for the shutdown to join. Those that have ended are let go.
    pub(crate) fn add_spare(&self, thread: thread::JoinHandle<()>) {
        let mut spares = self.spares.lock().unwrap_or_else(|e| e.into_inner());
        spares.retain(|spare| !spare.is_finished());
        spares.push(thread);
    }

    pub(crate) fn take_spares(&self) -> Vec<thread::JoinHandle<()>> {
        std::mem::take(&mut *self.spares.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Counts a task that has completed on this thread, which is that worker of ours, if any.
    #[inline]
    pub(crate) fn count_finished(&self, worker: Option<&Worker>) {
        match worker {
            Some(worker) => worker.seen().count_finished(),
            None => _ = self.finished_outside.fetch_add(1, Relaxed),
        }
    }

    pub(crate) fn finished(&self) -> u64 {
        let inside: u64 = self.remotes.iter().map(|remote| remote.seen.finished()).sum();
        inside + self.finished_outside.load(Relaxed)
    }

    /// Which worker polls which task now.
    pub(crate) fn running(&self) -> Vec<Polled> {
        self.remotes.iter().enumerate().filter_map(|(worker, remote)| remote.polled(worker)).collect()
    }

    // ---- unwakeable edges -------------------------------------------------------------------

    /// Takes note of an edge. Cold, called outside all locks, on any thread.
    pub(crate) fn note_unwakeable(&self, task: TaskRef) {
        self.unwakeable.total.fetch_add(1, Relaxed);
        trace::unwakeable(task.header());
        if self.unwakeable.hook.is_none() {
            return;
        }
        self.unwakeable.tasks.lock().unwrap_or_else(|e| e.into_inner()).push(task);
        // Release: pairs with the acquire in `tell_unwakeable`.
        self.unwakeable.pending.store(true, Release);
        // A sleeper looks at the flag after its section: if that comes before ours, we see it asleep.
        self.injector.pass();
        self.wake_from_outside();
    }

    #[inline]
    pub(crate) fn has_unwakeable(&self) -> bool {
        self.unwakeable.pending.load(Acquire)
    }

    /// Calls the hook for each edge noted and not told yet, unless the task has been cancelled since.
    #[cold]
    pub(crate) fn tell_unwakeable(&self) {
        self.unwakeable.pending.store(false, Release);
        let tasks = std::mem::take(&mut *self.unwakeable.tasks.lock().unwrap_or_else(|e| e.into_inner()));
        let Some(hook) = &self.unwakeable.hook else { return };
        for task in tasks {
            if !task.header().state.load().is_cancelled() {
                // A hook that panics must not take the worker along; its message has been printed.
                waker::forgive(|| hook(&task));
            }
        }
    }

    pub(crate) fn unwakeable_total(&self) -> u64 {
        self.unwakeable.total.load(Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("workers", &self.remotes.len()).finish_non_exhaustive()
    }
}

/// Enqueues a task that became runnable, from any thread.
///
/// # Safety
/// `shared` is alive when the call begins. (The task may complete, and its runtime go, while the call is
/// still under way: an outside thread takes its own count before it pushes.)
#[inline(never)]
pub(crate) unsafe fn schedule(shared: *const Shared, task: Runnable, cause: Cause) {
    let kept = context::schedule_local(shared, task, |worker, task| worker.push(task, cause));
    if let Err((task, is_inside)) = kept {
        // SAFETY: passed on.
        unsafe { schedule_elsewhere(shared, task, is_inside) };
    }
}

/// # Safety
/// As [`schedule`]; `is_inside`: the thread's context keeps `shared`.
#[inline(never)]
unsafe fn schedule_elsewhere(shared: *const Shared, task: Runnable, is_inside: bool) {
    if is_inside {
        // SAFETY: the thread's context keeps it.
        return unsafe { (*shared).schedule_from_outside(task) };
    }
    // SAFETY: `Shared` is only ever made in an `Arc`; the caller keeps it alive up to here.
    let shared = unsafe {
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    };
    shared.schedule_from_outside(task);
}

/// Wakes what came out of a driver's turn, and forgives wakers that panic.
pub(crate) fn wake_all(woken: &mut Vec<Waker>) {
    for waker in woken.drain(..) {
        waker::forgive(|| waker.wake());
    }
}

/// The runtime's clock in milliseconds.
pub(crate) fn now_ms(driver: &Driver) -> u64 {
    let now: Duration = driver.clock().now();
    now.as_millis() as u64
}
