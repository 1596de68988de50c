//! A thread of its own that looks at a runtime from time to time: for growth, and for quiescence.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle as Thread};
use std::time::{Duration, Instant};

use crate::report::suspect::{Change, Growth};
use crate::report::verdict::{Occasion, Report, judge};
use crate::runtime::Handle;

/// Looks in one quiescence.
const LOOKS: u32 = 4;

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

/// Looks out for a runtime in which nothing has been able to run for `patience`: then what its main bodies are in is cancelled, and
/// the report on it is what is found.
pub(crate) fn for_quiescence(handle: Handle, patience: Duration) -> io::Result<Lookout<Report>> {
    // Who was parked, polled how often, and since when.
    let mut seen: Option<(Vec<(u64, u64)>, Instant)> = None;
    let interval = (patience / LOOKS).max(Duration::from_millis(1));
    Lookout::start("leakfree-lookout", interval, move || {
        if !handle.seems_quiet() {
            seen = None;
            return ControlFlow::Continue(());
        }
        let snapshot = handle.snapshot();
        if !snapshot.is_quiescent() {
            seen = None;
            return ControlFlow::Continue(());
        }
        let polls: Vec<(u64, u64)> = snapshot.tasks.iter().map(|task| (task.id, task.polls)).collect();
        match &seen {
            Some((before, since)) if *before == polls => {
                if since.elapsed() < patience {
                    return ControlFlow::Continue(());
                }
            }
            _ => {
                seen = Some((polls, Instant::now()));
                return ControlFlow::Continue(());
            }
        }
        let report = judge(snapshot, Occasion::Quiescent);
        handle.cancel_mains();
        ControlFlow::Break(report)
    })
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
