//! Starting and stopping: [`Runtime`], [`Handle`], and the shutdown that ends in a report.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::panic::{self, Location};
use std::process::Termination;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::builder::Options;
pub use crate::builder::{Builder, OnLeak};
use crate::driver::Driver;
use crate::driver::clock::Clock;
pub use crate::lookout::GrowthWatch;
use crate::lookout::{self, GivenUp, Lookout};
use crate::loom::thread::{self, JoinHandle as Thread};
use crate::report::collect;
use crate::report::snapshot::{Snapshot, TaskKind};
use crate::report::suspect::Change;
use crate::report::verdict::{Occasion, Report, Verdict, judge};
use crate::scheduler::blocking::Pool;
use crate::scheduler::compat::Compat;
use crate::scheduler::context;
use crate::scheduler::queue::Worker as Queue;
use crate::scheduler::shared::{Remote, Shared};
#[cfg(feature = "test-util")]
use crate::scheduler::sim;
use crate::scheduler::worker::Worker;
use crate::scope::Scope;
use crate::scope::cleanup::BUDGET;
use crate::scope::tree::{ScopeInner, address};
use crate::task::join::{JoinError, JoinHandle};
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::waker;
use crate::util::stderr;

/// How long the workers may stand still, after everything was cancelled, before the report calls the rest unresponsive.
///
/// A model has no time, and its workers never stand still.
const DROP_WAIT: Duration = Duration::from_millis(if cfg!(loom) { 3_600_000 } else { 75 });
/// How long the end of threads is waited for, when some task does not let go of its thread. Both together are less than the 100 ms
/// after its grace within which a shutdown ends.
const THREADS_WAIT: Duration = Duration::from_millis(15);
/// How often a shutdown looks again.
const LOOK_AGAIN: Duration = Duration::from_micros(500);
/// Looks in a row that find nothing runnable before the shutdown believes it.
const QUIET_LOOKS: u32 = 4;

/// A runtime: worker threads, the driver, the blocking pool, and the tree of scopes.
///
/// Most programs start it with `#[leakfree::main]`.
///
/// ```
/// let runtime = leakfree::runtime::Runtime::new()?;
/// let three = runtime.block_on(async { leakfree::spawn(async { 3 }).await.unwrap() });
/// assert_eq!(three, 3);
/// let report = runtime.shutdown();
/// assert!(report.is_clean());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping a runtime shuts it down as [`shutdown`](Runtime::shutdown) does, and prints the report if anything leaked.
#[derive(Debug)]
pub struct Runtime {
    inner: Option<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    root: Arc<ScopeInner>,
    threads: Vec<Thread<()>>,
    options: Options,
}

impl Runtime {
    /// A runtime with the default options: as many workers as the machine has cores.
    ///
    /// # Errors
    /// If the operating system gives no thread, or no descriptor for the I/O driver.
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    pub(crate) fn start(options: Options) -> io::Result<Runtime> {
        // Each worker holds it from the start.
        let clock = match (options.seed, options.start_paused) {
            // In a simulation nobody holds it but who is inside.
            (Some(_), _) => Clock::paused(0),
            (None, true) => Clock::paused(options.workers),
            (None, false) => Clock::new(),
        };
        let driver = Arc::new(Driver::new(clock, options.workers)?);
        let queues: Vec<_> = (0..options.workers).map(|_| Queue::new_fifo()).collect();
        let remotes = queues.iter().map(|queue| Remote::new(queue.stealer())).collect();
        let pool = Pool::new(options.blocking_threads_max, options.name.clone());
        let hook = options.on_unwakeable.lock().unwrap_or_else(|e| e.into_inner()).take();
        let mut shared = Shared::new(remotes, driver, pool, hook);
        shared.compat = Compat::start(options.tokio_compat, &options.name)?;
        #[cfg(feature = "test-util")]
        if let Some(seed) = options.seed {
            let on_step = options.on_step.lock().unwrap_or_else(|e| e.into_inner()).take();
            shared.sim = sim::Sim::new(seed, options.steps_max, options.keep_trace, on_step);
        }
        let shared = Arc::new(shared);
        let root = ScopeInner::root(Arc::clone(&shared), options.grace);
        shared.set_root(address(&root).cast(), ScopeInner::retire);

        let mut running = Running { shared, root, threads: Vec::with_capacity(options.workers), options };
        #[cfg(feature = "test-util")]
        if running.shared.sim.is_on() {
            let worker = |(index, queue)| Arc::new(Worker::new(Arc::clone(&running.shared), index, queue));
            running.shared.sim.install(queues.into_iter().enumerate().map(worker).collect());
            return Ok(Runtime { inner: Some(running) });
        }
        for (index, queue) in queues.into_iter().enumerate() {
            let shared = Arc::clone(&running.shared);
            let name = format!("{}-{index}", running.options.name);
            let spawned = thread::Builder::new()
                .name(name)
                .spawn(move || Arc::new(Worker::new(shared, index, queue)).run());
            match spawned {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    let workers = running.options.workers;
                    running.root.close();
                    for worker in index..workers {
                        // SAFETY: (W1) nobody has this worker's role, and nobody ever will.
                        unsafe { running.shared.retire(worker) };
                    }
                    running.stop();
                    return Err(io::Error::new(
                        error.kind(),
                        format!(
                            "leakfree could not start worker {index} of {workers}: {error}. Raise the limit of \
                             threads, or ask for fewer workers"
                        ),
                    ));
                }
            }
        }
        Ok(Runtime { inner: Some(running) })
    }

    pub(crate) fn is_simulation(&self) -> bool {
        self.running().shared.sim.is_on()
    }

    fn running(&self) -> &Running {
        self.inner.as_ref().expect("present until the runtime is dropped")
    }

    /// A handle that spawns into this runtime, and looks at it, from any thread.
    pub fn handle(&self) -> Handle {
        let running = self.running();
        Handle { shared: Arc::clone(&running.shared), root: Arc::clone(&running.root) }
    }

    /// Makes this the current runtime of this thread, for as long as the guard lives; see [`Handle::enter`].
    ///
    /// # Panics
    /// The guard, when it is dropped while one that was made after it is still there.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle().entered()
    }

    /// As [`Handle::spawn`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle().spawn(future)
    }

    /// As [`Handle::spawn_blocking`].
    ///
    /// # Panics
    /// If no thread can be started and none runs.
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.handle().spawn_blocking(f)
    }

    /// Runs a future on this thread to its end, as a task of its own in the tree, and returns its output. The
    /// future need not be `Send`, and may borrow.
    ///
    /// # Panics
    /// If the future panics, with that panic. If it is called from within a future of a runtime: there,
    /// await, or use `spawn_blocking`.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle().block_on_at(Location::caller(), future)
    }

    /// Stops, and returns the final report.
    ///
    /// In order: what is about to finish settles; a snapshot is taken and judged while the evidence is
    /// whole; everything is cancelled; what observes the cancellation has the grace to end; the rest is
    /// dropped; who is still there is added to the report as unresponsive, and left behind.
    ///
    /// # Panics
    /// If it is called from within a future of a runtime.
    pub fn shutdown(mut self) -> Report {
        assert_not_polling("Runtime::shutdown");
        self.inner.take().expect("present until the runtime is dropped").shut_down(Occasion::Shutdown)
    }

    pub(crate) fn shutdown_as(mut self, occasion: Occasion) -> Report {
        self.inner.take().expect("present until the runtime is dropped").shut_down(occasion)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let Some(running) = self.inner.take() else { return };
        if context::is_polling() {
            // A worker cannot wait for itself. The shutdown goes on elsewhere, and so does its report.
            let finish = move || crate::report::emit_if_leaked(&running.shut_down(Occasion::Shutdown));
            if thread::Builder::new().name("leakfree-shutdown".into()).spawn(finish).is_err() {
                stderr::say_captured(format_args!(
                    "leakfree: a runtime was dropped inside an async context and no thread could be started \
                     to shut it down; its workers were left running\n"
                ));
            }
            return;
        }
        crate::report::emit_if_leaked(&running.shut_down(Occasion::Shutdown));
    }
}

pub(crate) fn assert_not_polling(what: &str) {
    assert!(
        !context::is_polling(),
        "{what} was called from within a future of a leakfree runtime, whose thread it would block. \
         Await the future instead, or call it on a thread of its own (`leakfree::spawn_blocking`)"
    );
}

impl Running {
    fn shut_down(self, occasion: Occasion) -> Report {
        self.settle();
        let mut report = judge(collect::snapshot(&self.shared, &self.root), occasion);

        let now_ms = crate::scheduler::shared::now_ms(&self.shared.driver);
        let reason = CancelReason::of(CancelKind::Shutdown).at(now_ms);
        // Who cleans up may need timers: a paused clock jumps again. But only when all are asked, and the grace has its timer.
        let inside = self.shared.driver.enter(false);
        let grace = self.options.grace;
        self.root.cancel_all(reason.clone(), grace.is_zero());
        self.shared.driver.let_go();
        if !grace.is_zero() {
            self.wait_until_empty(grace);
            self.root.cancel_all(reason, true);
        }
        let dropped = self.wait_until_dropped();
        self.shared.driver.hold();
        drop(inside);
        if !dropped {
            let after = collect::snapshot(&self.shared, &self.root);
            report.add_unresponsive(&after);
        }
        self.stop();
        report
    }

    /// Waits while something is runnable, at most for the settle time.
    fn settle(&self) {
        #[cfg(feature = "test-util")]
        if self.shared.sim.is_on() {
            sim::play_while(&self.shared, false, self.options.steps_max, || self.root.live() > 0);
            return;
        }
        let until = Instant::now().checked_add(self.options.settle);
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && self.root.live() > 0 && !is_over() {
            // A look on the driver's behalf: what the kernel has ready is about to be runnable.
            self.shared.driver.unpark();
            thread::sleep(LOOK_AGAIN);
            quiet = if self.shared.is_quiet() { quiet + 1 } else { 0 };
        }
    }

    fn wait_until_empty(&self, most: Duration) -> bool {
        #[cfg(feature = "test-util")]
        if self.shared.sim.is_on() {
            let clock = self.shared.driver.clock();
            let until = clock.now().saturating_add(most);
            let goes_on = || self.root.live() > 0 && clock.now() <= until;
            sim::play_while(&self.shared, true, self.options.steps_max, goes_on);
            return self.root.live() == 0;
        }
        let until = Instant::now().checked_add(most);
        loop {
            if self.root.live() == 0 {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits while tasks end, for many of them take their time, and while cleanups have a budget left.
    fn wait_until_dropped(&self) -> bool {
        let cleanups_until = Instant::now() + BUDGET;
        loop {
            let finished = self.shared.finished();
            #[cfg(feature = "test-util")]
            if self.shared.sim.is_on() {
                return self.wait_until_empty(BUDGET);
            }
            if self.wait_until_empty(DROP_WAIT) {
                return true;
            }
            let cleaning = self.shared.cleanups.load(Acquire) > 0 && Instant::now() < cleanups_until;
            if self.shared.finished() == finished && !cleaning {
                return false;
            }
        }
    }

    /// Ends the workers. Those that are inside a poll which does not return are left behind.
    fn stop(self) {
        let empty = self.root.live() == 0;
        self.root.close();
        self.shared.shut_down();
        #[cfg(feature = "test-util")]
        sim::stop(&self.shared);
        if self.shared.has_unwakeable() {
            self.shared.tell_unwakeable();
        }
        let until = Instant::now() + THREADS_WAIT;
        for thread in self.threads.into_iter().chain(self.shared.take_spares()) {
            while !empty && !thread.is_finished() && Instant::now() < until {
                thread::sleep(LOOK_AGAIN);
            }
            if empty || thread.is_finished() {
                let _ = thread.join();
            }
        }
        self.shared.compat.shut_down();
        // Wakers are the user's code: called here, outside all locks.
        self.shared.driver.shutdown().into_iter().for_each(waker::give_up);
    }
}

/// Spawns into a runtime, and looks at it, from any thread. Cheap to clone. It does not keep the runtime
/// running: what is spawned after the shutdown is not run, and its handle says cancelled.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    root: Arc<ScopeInner>,
}

impl Handle {
    /// The handle of the runtime that this code runs in.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn current() -> Handle {
        let shared = context::shared("leakfree::runtime::Handle::current");
        // SAFETY: the runtime owns the root scope and outlives every thread that has it as its context.
        let root = unsafe { Arc::clone(&crate::scope::tree::borrow(shared.root().as_ptr())) };
        Handle { shared, root }
    }

    /// The handle of the runtime that this code runs in.
    ///
    /// # Errors
    /// [`TryCurrentError`] outside a leakfree runtime.
    pub fn try_current() -> Result<Handle, TryCurrentError> {
        match context::is_inside() {
            true => Ok(Handle::current()),
            false => Err(TryCurrentError(())),
        }
    }

    /// Makes the runtime this thread's, until the guard is dropped: what needs a runtime, such as
    /// [`spawn`](crate::spawn) or [`sleep`](crate::time::sleep), finds this one. It runs nothing on this thread, which may block.
    /// The tokio runtime of `tokio-compat` is not made the current one: tokio's guards must be dropped in order, these need not be.
    ///
    /// ```
    /// let runtime = leakfree::runtime::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let entered = handle.enter();
    /// let task = leakfree::spawn(async { 3 }); // outside of any task
    /// drop(entered);
    /// assert_eq!(runtime.block_on(task).unwrap(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// The guard, when it is dropped while one that was made after it is still there.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.clone().entered()
    }

    fn entered<'a>(self) -> EnterGuard<'a> {
        // The guard may be forgotten: what the thread points at is kept by the guard, not borrowed.
        let before = context::enter_kept(&self.shared);
        let kept = std::mem::ManuallyDrop::new(self);
        EnterGuard { before, kept, handle: PhantomData }
    }

    pub(crate) fn root_scope(&self) -> Scope {
        Scope::from_inner(Arc::clone(&self.root))
    }

    /// Has a dropped child process looked after, by a daemon that was asked for at `site`.
    pub(crate) fn reap(
        &self,
        site: &'static Location<'static>,
        reaper: impl Future<Output = ()> + Send + 'static,
    ) {
        self.root_scope().spawn_daemon_at(site, reaper);
    }

    /// Spawns a child of the root scope, as [`leakfree::spawn`](crate::spawn) does.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.root_scope().spawn(future)
    }

    /// Runs a closure that blocks, as [`leakfree::spawn_blocking`](crate::spawn_blocking) does.
    ///
    /// # Panics
    /// If no thread can be started and none runs.
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.root_scope().spawn_blocking(f)
    }

    /// As [`Runtime::block_on`].
    ///
    /// # Panics
    /// As [`Runtime::block_on`]; also if the runtime has been shut down.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.block_on_at(Location::caller(), future)
    }

    #[track_caller]
    pub(crate) fn block_on_at<F: Future>(
        &self,
        spawned_at: &'static Location<'static>,
        future: F,
    ) -> F::Output {
        self.try_block_on_at(spawned_at, future).unwrap_or_else(|error| match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            Err(error) => panic!("the runtime was shut down: {error}"),
        })
    }

    fn try_block_on_at<F: Future>(
        &self,
        spawned_at: &'static Location<'static>,
        future: F,
    ) -> Result<F::Output, JoinError> {
        assert_not_polling("`block_on`");
        let entered = context::enter(&self.shared, None, true);
        // A blocking call has a hold already.
        let _inside = self.shared.driver.enter(entered.was_inside());
        crate::scope::block_on(&self.root, spawned_at, future).take_output()
    }

    /// What the runtime looks like now: every parked task, where it was spawned, what it waits for, since when. Polls
    /// nothing, wakes nothing, stops no worker; takes time in proportion to the live tasks.
    pub fn snapshot(&self) -> Snapshot {
        collect::snapshot(&self.shared, &self.root)
    }

    /// A report on the live runtime: the tasks that are proven unwakeable now.
    pub fn report(&self) -> Report {
        judge(self.snapshot(), Occasion::Live)
    }

    /// Takes a snapshot at an interval, on a thread of its own, and calls `tell` with the places whose population keeps growing:
    /// that has not fallen over the last `rounds` intervals, and has risen in at least half of them. The watch ends when what is returned
    /// is dropped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let runtime = leakfree::runtime::Runtime::new()?;
    /// let watch = runtime.handle().watch_growth(Duration::from_secs(60), 10, |growing| {
    ///     for change in growing {
    ///         eprintln!("keeps growing: {change}");
    ///     }
    /// })?;
    /// # drop(watch);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the operating system gives no thread.
    ///
    /// # Panics
    /// If `interval` is zero or `rounds` less than 2. A panic of `tell` ends the watch.
    pub fn watch_growth(
        &self,
        interval: Duration,
        rounds: usize,
        tell: impl FnMut(&[Change]) + Send + 'static,
    ) -> io::Result<GrowthWatch> {
        assert!(!interval.is_zero(), "growth is seen over time: `interval` was zero");
        GrowthWatch::start(self.clone(), interval, rounds, tell)
    }

    /// A report on the live runtime, as [`report`](Handle::report) gives; and each scope whose
    /// [`on_stuck`](crate::scope::ScopeBuilder::on_stuck) says so acts on its children that are proven stuck or deadlocked. A
    /// deadlock that locks are part of rests on an assumption, which the report states: act on it where that holds.
    pub fn act_on_proofs(&self) -> Report {
        let report = self.report();
        let proven = report.findings.iter().filter(|finding| finding.verdict <= Verdict::Deadlocked);
        let ids: HashSet<u64> = proven.flat_map(|finding| finding.ids.iter().copied()).collect();
        if !ids.is_empty() {
            collect::for_each_task(&self.root, |task, scope| {
                if ids.contains(&task.header().record.id().get()) {
                    scope.act_on_proof(task);
                }
            });
        }
        report
    }

    /// Looks after scopes that act on proofs. True if the test is to fail.
    pub(crate) fn must_fail_test(&self) -> bool {
        if self.shared.acts_on_proofs.load(Acquire) {
            self.act_on_proofs();
        }
        self.shared.fail_test.load(Acquire)
    }

    /// A cheap first look: nothing is runnable, and no timer is armed.
    pub(crate) fn seems_quiet(&self) -> bool {
        self.shared.is_quiet() && self.shared.driver.timers_len() == 0 && self.shared.compat.is_idle()
    }

    /// Cancels what `block_on` runs.
    pub(crate) fn cancel_mains(&self, kind: CancelKind) {
        let at_ms = crate::scheduler::shared::now_ms(&self.shared.driver);
        self.root.for_each_child(|task| {
            if task.header().kind() == TaskKind::Main {
                task.cancel(CancelReason::of(kind).at(at_ms));
            }
        });
    }

    /// What a simulation did up to now; `None` if the runtime has no [seed](Builder::seed).
    #[cfg(feature = "test-util")]
    pub fn trace(&self) -> Option<crate::testing::Trace> {
        self.shared.sim.trace()
    }

    /// Takes steps of a simulation until none is left, or until `most` were taken. The clock stands still. Whether none is left.
    #[cfg(feature = "test-util")]
    pub(crate) fn play(&self, most: u64) -> bool {
        assert_not_polling("`testing::run_until_stalled`");
        !sim::play_while(&self.shared, false, most, || true)
    }

    /// How often a task has become unwakeable since the start.
    pub fn unwakeable_total(&self) -> u64 {
        self.shared.unwakeable_total()
    }
}

/// The runtime is this thread's as long as this lives; made by [`Handle::enter`].
#[must_use = "the runtime is this thread's only as long as the guard lives"]
pub struct EnterGuard<'a> {
    before: context::Before,
    /// Keeps the runtime's memory for as long as the thread points at it. Leaked if guards are dropped out of order, for
    /// then a later guard comes back to it.
    kept: std::mem::ManuallyDrop<Handle>,
    /// Not `Send`: it belongs to the thread.
    handle: PhantomData<(&'a Handle, *const ())>,
}

impl Drop for EnterGuard<'_> {
    fn drop(&mut self) {
        if self.before.restore() {
            // SAFETY: dropped once, here.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.kept) };
        } else if !std::thread::panicking() {
            panic!(
                "an `EnterGuard` was dropped while one that was made after it is still there: drop them in the opposite \
                 order of their making"
            );
        }
    }
}

impl fmt::Debug for EnterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnterGuard").field(&*self.kept).finish()
    }
}

/// There is no runtime here; see [`Handle::try_current`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TryCurrentError(());

impl fmt::Display for TryCurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this thread is in no leakfree runtime")
    }
}

impl std::error::Error for TryCurrentError {}

/// A body's outcome; and why it was given up, if it was.
type Outcome<T> = (std::thread::Result<T>, Option<GivenUp>);

/// Runs a body to its end, or until the lookout gives it up.
fn run_body<F: Future>(
    runtime: &Runtime,
    patience: Option<Duration>,
    is_test: bool,
    location: &'static Location<'static>,
    body: F,
) -> Outcome<F::Output> {
    // Without a thread for it, the body runs all the same.
    #[cfg(feature = "test-util")]
    if runtime.running().shared.sim.is_on() {
        return run_body_seeded(runtime, patience.is_some(), is_test, location, body);
    }
    let lookout = (is_test || patience.is_some())
        .then(|| lookout::on_body(runtime.handle(), patience, is_test).ok())
        .flatten();
    let output = catch_body(runtime, location, body);
    // A body that got its value all the same, at the last moment, has it.
    let given_up = lookout.and_then(Lookout::finish).filter(|_| output.is_err());
    (output, given_up)
}

fn catch_body<F: Future>(
    runtime: &Runtime,
    location: &'static Location<'static>,
    body: F,
) -> std::thread::Result<F::Output> {
    let output = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let output = runtime.handle().try_block_on_at(location, body);
        output.map_err(|error| error.try_into_panic().unwrap_or_else(|error| Box::new(error.to_string())))
    }));
    output.and_then(|output| output)
}

/// As [`run_body`], in a simulation: it is looked at when no step is left, and patience is not waited for.
#[cfg(feature = "test-util")]
pub(crate) fn run_body_seeded<F: Future>(
    runtime: &Runtime,
    gives_up: bool,
    is_test: bool,
    location: &'static Location<'static>,
    body: F,
) -> Outcome<F::Output> {
    use std::sync::{Mutex, PoisonError};

    let found = Arc::new(Mutex::new(None));
    let (handle, finds) = (runtime.handle(), Arc::clone(&found));
    let on_quiet = move |waits| {
        let (why, kind) = if is_test && handle.must_fail_test() {
            (lookout::Why::Stuck, CancelKind::Stuck)
        } else {
            match waits {
                sim::Waits::Outside if gives_up && handle.snapshot().is_quiescent() => {
                    (lookout::Why::NoStepLeft, CancelKind::Quiescent)
                }
                sim::Waits::Endless(steps) => (lookout::Why::Endless(steps), CancelKind::Quiescent),
                sim::Waits::Outside | sim::Waits::Timer => return false,
            }
        };
        let mut found = finds.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_some() {
            return false;
        }
        let occasion = if why == lookout::Why::NoStepLeft { Occasion::Quiescent } else { Occasion::Live };
        *found = Some(GivenUp { report: judge(handle.snapshot(), occasion), why });
        if matches!(waits, sim::Waits::Endless(_)) {
            // The body may never have parked, and is not found in the tree then.
            let at_ms = crate::scheduler::shared::now_ms(&handle.shared.driver);
            handle.root.cancel_all(CancelReason::of(kind).at(at_ms), true);
        } else {
            handle.cancel_mains(kind);
        }
        true
    };
    let sim = &runtime.running().shared.sim;
    sim.set_on_quiet(Some(Box::new(on_quiet)));
    let output = catch_body(runtime, location, body);
    sim.set_on_quiet(None);
    let given_up = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    let given_up = given_up.filter(|_| output.is_err());
    (output, given_up)
}

/// Runs a program's main body; `#[leakfree::main]` expands to a call of this.
#[track_caller]
pub(crate) fn run_main<F>(builder: Builder, body: F) -> F::Output
where
    F: Future,
    F::Output: Termination,
{
    let (on_leak, patience) = (builder.on_leak_option(), builder.quiescence_option());
    let baseline = builder.baseline_option();
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stderr::say(format_args!("leakfree: the runtime could not be started: {error}\n"));
            std::process::exit(1);
        }
    };
    let location = Location::caller();
    let (output, given_up) = run_body(&runtime, patience, false, location, body);
    let report = runtime.shutdown_as(Occasion::Shutdown);
    if let Some(GivenUp { report, why }) = given_up {
        stderr::say(format_args!("leakfree: main{why}\n"));
        crate::report::emit_final(&report);
        std::process::exit(1);
    }
    crate::report::emit_final(&report);
    let output = output.unwrap_or_else(|payload| panic::resume_unwind(payload));
    let fails = match baseline.map(|file| crate::report::baseline::check(&file, "main", &report)) {
        Some(Some(differs)) => {
            stderr::say(format_args!("leakfree: main {differs}"));
            true
        }
        Some(None) => false,
        None => on_leak == OnLeak::Fail && !report.is_clean(),
    };
    if fails {
        // An error of main's own is told all the same: it may be why there are leaks.
        output.report();
        std::process::exit(1);
    }
    output
}

/// Runs a test's body; `#[leakfree::test]` expands to a call of this. `over` is called when it has ended.
#[track_caller]
pub(crate) fn run_test<F>(name: &str, builder: Builder, body: F, over: impl FnOnce(&Runtime)) -> F::Output
where
    F: Future,
    F::Output: Termination,
{
    let (on_leak, patience) = (builder.on_leak_option(), builder.quiescence_option());
    let baseline = builder.baseline_option();
    let runtime = builder.build().expect("the runtime of a test starts");
    let location = Location::caller();
    let (output, given_up) = run_body(&runtime, patience, true, location, body);
    over(&runtime);
    let report = runtime.shutdown_as(Occasion::TestEnd);
    if let Some(GivenUp { report, why }) = given_up {
        panic!("test {name}{why}\n{report}");
    }
    // The test's own panic or error comes first; what it left behind may say why.
    let output = match output {
        Ok(output) => output,
        Err(payload) => {
            if !report.is_empty() {
                stderr::say_captured(format_args!("test {name}:\n{report}\n"));
            }
            panic::resume_unwind(payload)
        }
    };
    let fails = match baseline.map(|file| crate::report::baseline::check(&file, name, &report)) {
        Some(None) => return output,
        Some(differs) => differs,
        None => (on_leak == OnLeak::Fail && !report.is_clean()).then(|| "leaked:".to_owned()),
    };
    if let Some(how) = fails {
        output.report();
        panic!("test {name} {how}\n{report}");
    }
    if !report.is_empty() {
        stderr::say_captured(format_args!("test {name}:\n{report}\n"));
    }
    output
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("grace", &self.grace)
            .field("settle", &self.settle)
            .field("start_paused", &self.start_paused)
            .finish_non_exhaustive()
    }
}
