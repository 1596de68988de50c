//! A thread of its own that looks at a runtime from time to time: for growth, and for quiescence.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle as Thread};
use std::time::{Duration, Instant};

use crate::report::snapshot::Snapshot;
use crate::report::suspect::{Change, Growth};
use crate::report::verdict::{Occasion, Report, judge};
use crate::runtime::Handle;
use crate::task::reason::CancelKind;

/// Looks in the time after which a body is given up, ...
const LOOKS: u32 = 4;
/// ... and the longest time between two.
const LOOK: Duration = Duration::from_millis(250);

/// A thread that calls a closure at an interval, until that says `Break` or the lookout is dropped.
pub(crate) struct Lookout<T> {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<Thread<Option<T>>>,
}

impl<T: Send + 'static> Lookout<T> {
    fn start(
        name: &str,
        interval: Duration,
        mut look: impl FnMut() -> ControlFlow<T> + Send + 'static,
    ) -> io::Result<Lookout<T>> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let stopped = told.0.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = told.1.wait_timeout_while(stopped, interval, |stopped| !*stopped);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return None;
                }
                if let ControlFlow::Break(found) = look() {
                    return Some(found);
                }
            }
        })?;
        Ok(Lookout { stop, thread: Some(thread) })
    }

    /// Stops, and returns what was found.
    pub(crate) fn finish(mut self) -> Option<T> {
        self.stop_and_join()
    }
}

impl<T> Lookout<T> {
    fn stop_and_join(&mut self) -> Option<T> {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        // Dropped by its own closure, it ends when that returns.
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id())?;
        thread.join().ok().flatten()
    }
}

impl<T> Drop for Lookout<T> {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// Why a body was given up.
pub(crate) struct GivenUp {
    pub(crate) report: Report,
    pub(crate) why: Why,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// Nothing could run for so long.
    Quiet(Duration),
    /// A scope has the test fail.
    Stuck,
    /// In a simulation: nothing can run.
    #[cfg(feature = "test-util")]
    NoStepLeft,
    /// In a simulation: it has gone on for so many steps.
    #[cfg(feature = "test-util")]
    Endless(u64),
}

/// What follows the name of the test.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Quiet(lasted) => write!(f, " hangs: nothing could run for {lasted:?}"),
            Why::Stuck => f.write_str(": a child is stuck whose scope says `OnStuck::FailTest`"),
            #[cfg(feature = "test-util")]
            Why::NoStepLeft => f.write_str(" hangs: nothing can run, and no timer is armed"),
            #[cfg(feature = "test-util")]
            Why::Endless(steps) => write!(f, " does not end: {steps} steps were taken"),
        }
    }
}

/// Looks after the body of a program or a test. When nothing has been able to run for `patience`, or a scope has the test fail,
/// what `block_on` runs is cancelled.
pub(crate) fn on_body(
    handle: Handle,
    patience: Option<Duration>,
    is_test: bool,
) -> io::Result<Lookout<GivenUp>> {
    let interval = patience.map_or(LOOK, |patience| patience / LOOKS).clamp(Duration::from_millis(1), LOOK);
    let mut quiet = Quiet(None);
    Lookout::start("leakfree-lookout", interval, move || {
        if is_test && handle.must_fail_test() {
            let report = handle.report();
            handle.cancel_mains(CancelKind::Stuck);
            return ControlFlow::Break(GivenUp { report, why: Why::Stuck });
        }
        let Some(patience) = patience else { return ControlFlow::Continue(()) };
        match quiet.lasts(&handle, patience) {
            None => ControlFlow::Continue(()),
            Some(snapshot) => {
                let report = judge(snapshot, Occasion::Quiescent);
                handle.cancel_mains(CancelKind::Quiescent);
                ControlFlow::Break(GivenUp { report, why: Why::Quiet(patience) })
            }
        }
    })
}

/// Since when nothing can run, and who was polled how often then.
struct Quiet(Option<(Instant, Vec<(u64, u64)>)>);

impl Quiet {
    /// Looks again. The snapshot, if it has lasted long enough.
    fn lasts(&mut self, handle: &Handle, patience: Duration) -> Option<Snapshot> {
        let before = self.0.take();
        let snapshot = handle.seems_quiet().then(|| handle.snapshot()).filter(Snapshot::is_quiescent)?;
        let polls: Vec<(u64, u64)> = snapshot.tasks.iter().map(|task| (task.id, task.polls)).collect();
        let (since, _) = self.0.insert(match before {
            Some((since, before)) if before == polls => (since, polls),
            _ => (Instant::now(), polls),
        });
        (since.elapsed() >= patience).then_some(snapshot)
    }
}

/// Looks at a runtime's population at an interval, until it is dropped. Made by
/// [`Handle::watch_growth`](crate::runtime::Handle::watch_growth).
#[must_use = "the watch ends when it is dropped"]
pub struct GrowthWatch {
    _lookout: Lookout<()>,
}

impl GrowthWatch {
    pub(crate) fn start(
        handle: Handle,
        interval: Duration,
        rounds: usize,
        mut tell: impl FnMut(&[Change]) + Send + 'static,
    ) -> io::Result<GrowthWatch> {
        let mut growth = Growth::new(rounds);
        let look = move || {
            let growing = growth.add(&handle.snapshot());
            if !growing.is_empty() {
                tell(&growing);
            }
            ControlFlow::Continue(())
        };
        Ok(GrowthWatch { _lookout: Lookout::start("leakfree-watch", interval, look)? })
    }
}

impl fmt::Debug for GrowthWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrowthWatch").finish_non_exhaustive()
    }
}
