//! Every option of a runtime, with its default and the reason for it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::report::snapshot::Site;
use crate::runtime::Runtime;
use crate::scheduler::shared::Hook;
use crate::task::meta::TaskId;

/// What a leak at the end of `main` or of a test does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OnLeak {
    /// The report is printed. The default of `#[leakfree::main]`.
    Report,
    /// The report is printed, and the test fails or the process exits with status 1. The default of
    /// `#[leakfree::test]`.
    Fail,
}

pub(crate) struct Options {
    pub(crate) workers: usize,
    pub(crate) name: String,
    pub(crate) grace: Duration,
    pub(crate) settle: Duration,
    pub(crate) blocking_threads_max: usize,
    pub(crate) start_paused: bool,
    pub(crate) tokio_compat: bool,
    /// Of a simulation.
    pub(crate) seed: Option<u64>,
    #[cfg(feature = "test-util")]
    pub(crate) steps_max: u64,
    #[cfg(feature = "test-util")]
    pub(crate) keep_trace: bool,
    /// Taken by the runtime when it starts.
    #[cfg(feature = "test-util")]
    pub(crate) on_step: Mutex<Option<crate::scheduler::sim::OnStep>>,
    /// Taken by the runtime when it starts.
    pub(crate) on_unwakeable: Mutex<Option<Hook>>,
}

/// Configures a [`Runtime`].
pub struct Builder {
    workers: Option<usize>,
    grace: Option<Duration>,
    on_leak: Option<OnLeak>,
    quiescence: Option<Duration>,
    quiescence_said: bool,
    baseline: Option<PathBuf>,
    options: Options,
}

/// What the hook of [`Builder::on_unwakeable`] is told of a task that nothing can wake any more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnwakeableTask {
    /// The task.
    pub id: TaskId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawned_at: Site,
}

impl Builder {
    /// The defaults.
    pub fn new() -> Builder {
        Builder {
            workers: None,
            grace: None,
            on_leak: None,
            quiescence: None,
            quiescence_said: false,
            baseline: None,
            options: Options {
                workers: 0,
                name: "leakfree".into(),
                // Long enough for a request in flight, short enough for an orchestrator's patience (often 30 s).
                grace: Duration::from_secs(5),
                // What was about to end anyway needs microseconds; a busy machine may need more.
                settle: Duration::from_millis(100),
                // Blocking calls mostly sleep in the kernel; the limit is there for the memory of their stacks.
                blocking_threads_max: 512,
                start_paused: false,
                tokio_compat: true,
                seed: None,
                // A second or a few; a test that is well takes a few thousand.
                #[cfg(feature = "test-util")]
                steps_max: 10_000_000,
                #[cfg(feature = "test-util")]
                keep_trace: false,
                #[cfg(feature = "test-util")]
                on_step: Mutex::new(None),
                on_unwakeable: Mutex::new(None),
            },
        }
    }

    /// The number of worker threads. Default: as many as the machine has cores for this process. Zero is refused by
    /// [`build`](Builder::build).
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = Some(workers);
        self
    }

    /// The name that threads begin with. Default: `leakfree`.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.options.name = name.into();
        self
    }

    /// How long a shutdown waits for tasks that were asked to end. Default: 5 s; in tests zero.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = Some(grace);
        self
    }

    /// How long a shutdown lets runnable tasks go on before it takes its snapshot. It is over sooner when
    /// nothing is runnable. Default: 100 ms.
    pub fn settle(mut self, settle: Duration) -> Builder {
        self.options.settle = settle;
        self
    }

    /// How many threads blocking calls may use at a time; further calls queue. Default: 512. Zero is refused
    /// by [`build`](Builder::build).
    pub fn blocking_threads_max(mut self, threads: usize) -> Builder {
        self.options.blocking_threads_max = threads;
        self
    }

    /// Whether the runtime has a paused clock, for tests: time stands still while anything can run, and jumps to the next
    /// timer when nothing can. A test that sleeps for hours ends at once, and at the exact time. Default: no.
    ///
    /// The clock jumps when every worker sleeps, no task waits to be run, no call of [`spawn_blocking`](crate::spawn_blocking)
    /// is queued or running, and every thread inside [`block_on`](Runtime::block_on) waits; at least one must be inside: it
    /// stands still between two `block_on`s, and when a shutdown looks for leaks. It jumps again in the shutdown's
    /// [`grace`](Builder::grace). The grace is in the clock's time; the other waits of the shutdown are in real time.
    ///
    /// [`Instant::now`](crate::time::Instant::now) follows the paused clock on the threads of the runtime: in tasks,
    /// blocking calls and `block_on`. The standard library's does not.
    ///
    /// What goes on outside the runtime does not hold the clock: other threads, processes, the network. Events that the operating
    /// system has ready come before a jump, but the clock may jump while a peer's answer is still on its way, so that
    /// a timeout around I/O may end at once.
    ///
    /// ```
    /// use leakfree::time::{Duration, Instant, sleep};
    ///
    /// let runtime = leakfree::runtime::Builder::new().workers(1).start_paused(true).build()?;
    /// runtime.block_on(async {
    ///     let start = Instant::now();
    ///     sleep(Duration::from_secs(3600)).await;
    ///     assert_eq!(start.elapsed(), Duration::from_secs(3600));
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_paused(mut self, start_paused: bool) -> Builder {
        self.options.start_paused = start_paused;
        self
    }

    /// Makes the runtime a *simulation*, for tests: no worker thread is started. The thread in [`block_on`](Runtime::block_on) plays all workers, the
    /// pool of blocking calls and its own future, one step after another, in an order that the seed chooses among those that the real
    /// scheduler may come to. The same program with the same seed does the same, step for step; with another seed it runs in another
    /// order. Default: none.
    ///
    /// The clock is a [paused](Builder::start_paused) one. Nothing runs between two `block_on`s, but a shutdown lets everything settle, as ever; see
    /// also [`testing::run_until_stalled`](crate::testing::run_until_stalled). A step is a whole poll, so races within a poll are not
    /// explored. A blocking call is one step: while it waits by this crate's means (`blocking_recv`, `block_on`) others take theirs, but on top
    /// of it, so that calls which wait for each other wait for ever; so does one that waits for a task by other means.
    ///
    /// What comes from outside is not in the seed's power: other threads, sockets, processes. Sockets work, events are looked at without
    /// waiting while anything can run; but such a test is no longer deterministic.
    /// [`Event::Wait`](crate::testing::Event::Wait) in the trace shows where the simulation had to wait for the outside.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// let order = |seed| {
    ///     let runtime = leakfree::runtime::Builder::new().workers(2).seed(seed).build().unwrap();
    ///     let order = Arc::new(Mutex::new(Vec::new()));
    ///     runtime.block_on(leakfree::scope(async |s| {
    ///         for n in 0..5 {
    ///             let order = Arc::clone(&order);
    ///             s.spawn(async move { order.lock().unwrap().push(n) });
    ///         }
    ///     }));
    ///     let trace = runtime.handle().trace().unwrap();
    ///     (order.lock().unwrap().clone(), trace)
    /// };
    /// assert_eq!(order(7), order(7));
    /// assert!((0..20).any(|seed| order(seed).0 != order(7).0));
    /// ```
    #[cfg(feature = "test-util")]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.options.seed = Some(seed);
        self
    }

    /// Whether a [simulation](Builder::seed) keeps all its steps for [`Handle::trace`](crate::runtime::Handle::trace), 40 bytes each, and not only
    /// their hash. Default: no.
    #[cfg(feature = "test-util")]
    pub fn keep_trace(mut self, keep: bool) -> Builder {
        self.options.keep_trace = keep;
        self
    }

    /// After how many steps a test that is a [simulation](Builder::seed) fails for not coming to an end. A [`block_on`](Runtime::block_on) of your own goes
    /// on; a shutdown stops waiting for what runs on and on. Default: 10 million. Zero counts as one.
    #[cfg(feature = "test-util")]
    pub fn steps_max(mut self, steps: u64) -> Builder {
        self.options.steps_max = steps.max(1);
        self
    }

    /// A hook that a [simulation](Builder::seed) calls after each step, outside all locks, on the thread that plays: a place to take
    /// snapshots at every moment there is. A panic in it is printed and otherwise ignored.
    #[cfg(feature = "test-util")]
    pub fn on_step(self, hook: impl Fn(&crate::testing::Step) + Send + Sync + 'static) -> Builder {
        *self.options.on_step.lock().unwrap_or_else(|e| e.into_inner()) = Some(Box::new(hook));
        self
    }

    /// Whether the runtime keeps one of tokio's beside it, as the current one of all its threads, so that libraries that need tokio run unchanged in
    /// tasks, blocking calls and `block_on`: reqwest, sqlx, redis and others. Default with feature `tokio-compat`: yes. It has a
    /// thread and its own timers, which a [paused clock](Builder::start_paused) does not move.
    ///
    /// What is spawned there, with `tokio::spawn` say, is outside all scopes: nobody waits for it, a shutdown drops it when our own
    /// tasks are gone, and a report has but its number.
    #[cfg(feature = "tokio-compat")]
    pub fn tokio_compat(mut self, tokio_compat: bool) -> Builder {
        self.options.tokio_compat = tokio_compat;
        self
    }

    /// What a leak at the end does. Default: [`OnLeak::Report`]; in tests [`OnLeak::Fail`].
    pub fn on_leak(mut self, on_leak: OnLeak) -> Builder {
        self.on_leak = Some(on_leak);
        self
    }

    /// Ends the body of `#[leakfree::main]` or of a test when nothing has been able to run for that long: no runnable task, no timer, no
    /// I/O, no blocking call and no foreign waker is left, yet tasks are parked; see
    /// [`Snapshot::is_quiescent`](crate::report::snapshot::Snapshot::is_quiescent). A test fails with the report in place of hanging; a
    /// program prints it and exits with status 1. A thread outside the runtime that holds the other end of something does not
    /// count: give it longer, or say `None`.
    ///
    /// Default: in tests 1 s, else `None`, which is never. It needs a thread of its own.
    pub fn quiescence(mut self, patience: impl Into<Option<Duration>>) -> Builder {
        self.quiescence = patience.into();
        self.quiescence_said = true;
        self
    }

    /// A file of known leaks, for `#[leakfree::main]` and tests: exactly these are let pass. A leak that is not in it fails, and so does
    /// one in it that is gone; see [`baseline`](crate::report::baseline). Default: none, and every leak counts.
    pub fn baseline(mut self, file: impl Into<PathBuf>) -> Builder {
        self.baseline = Some(file.into());
        self
    }

    /// A hook for the moment a task becomes unwakeable: parked, and no waker of it exists. It is called by a worker soon
    /// after, outside all locks, and not for tasks that have been cancelled by then. A panic in it is
    /// printed and otherwise ignored.
    pub fn on_unwakeable(self, hook: impl Fn(&UnwakeableTask) + Send + Sync + 'static) -> Builder {
        let hook: Hook = Box::new(move |task| {
            let header = task.header();
            let name = header.existing_extra().and_then(|extra| extra.name.clone());
            hook(&UnwakeableTask {
                id: header.record.id(),
                name: name.map(|name| name.to_string()),
                spawned_at: header.record.spawned_at().into(),
            });
        });
        *self.options.on_unwakeable.lock().unwrap_or_else(|e| e.into_inner()) = Some(hook);
        self
    }

    pub(crate) fn baseline_option(&self) -> Option<PathBuf> {
        self.baseline.clone()
    }

    pub(crate) fn quiescence_option(&self) -> Option<Duration> {
        self.quiescence
    }

    pub(crate) fn on_leak_option(&self) -> OnLeak {
        self.on_leak.unwrap_or(OnLeak::Report)
    }

    /// What was not said is as in a test: one worker, no grace, a leak fails, and so does a second in which nothing can run.
    pub(crate) fn or_test_defaults(mut self) -> Builder {
        // A simulation of one worker has little to choose from.
        self.workers.get_or_insert(if self.options.seed.is_some() { 3 } else { 1 });
        self.grace.get_or_insert(Duration::ZERO);
        self.on_leak.get_or_insert(OnLeak::Fail);
        if !self.quiescence_said {
            self.quiescence = Some(Duration::from_secs(1));
        }
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// `InvalidInput` for zero workers, zero blocking threads or a zero byte in the name; else what the operating system says if it gives no thread, or
    /// no descriptor for the I/O driver.
    pub fn build(mut self) -> io::Result<Runtime> {
        let invalid = |message: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        self.options.workers = match self.workers {
            Some(0) => {
                return invalid(
                    "a runtime needs at least one worker: call `Builder::workers` with 1 or more, or leave it \
                     out to have one per core",
                );
            }
            Some(workers) => workers,
            None => thread::available_parallelism().map_or(1, Into::into),
        };
        if self.options.workers > usize::from(u16::MAX) - 1 {
            return invalid("a runtime has at most 65,534 workers: ask `Builder::workers` for fewer");
        }
        if let Some(grace) = self.grace {
            self.options.grace = grace;
        }
        if self.options.name.contains('\0') {
            return invalid(
                "threads cannot bear a name with a zero byte in it: `Builder::name` was given one",
            );
        }
        if self.options.blocking_threads_max == 0 {
            return invalid("blocking calls need at least one thread: `Builder::blocking_threads_max` was 0");
        }
        Runtime::start(self.options)
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("workers", &self.workers)
            .field("grace", &self.grace)
            .field("options", &self.options)
            .field("on_leak", &self.on_leak)
            .field("quiescence", &self.quiescence)
            .field("baseline", &self.baseline)
            .finish()
    }
}
