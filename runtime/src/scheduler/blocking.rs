//! Threads for closures that block. A closure is a task like any other, polled once, here; so it is in the
//! tree and in the report.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::context;
use super::shared::Shared;
use crate::loom::sync::{Condvar, Mutex, MutexGuard};
use crate::loom::thread;
use crate::task::frame;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::runnable::Runnable;

/// How long a thread without work stays.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(crate) struct Pool {
    state: Mutex<State>,
    work: Condvar,
    threads_max: usize,
    name: String,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Runnable>,
    threads: usize,
    idle: usize,
    /// Threads that were notified and have not taken their task yet.
    notified: usize,
    shutdown: bool,
}

impl Pool {
    pub(crate) fn new(threads_max: usize, name: String) -> Pool {
        Pool { state: Mutex::new(State::default()), work: Condvar::new(), threads_max, name }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The name that the runtime's threads begin with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn threads(&self) -> usize {
        self.lock().threads
    }

    #[cfg(feature = "test-util")]
    pub(super) fn has_queued(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    pub(crate) fn shut_down(&self) {
        self.lock().shutdown = true;
        self.work.notify_all();
    }
}

/// Queues a closure's task, and starts a thread for it if none is free.
pub(crate) fn push(shared: &Arc<Shared>, task: Runnable) {
    let pool = &shared.blocking;
    // A call holds a paused clock until it has returned and its joiner is woken.
    shared.driver.hold();
    let mut state = pool.lock();
    state.queue.push_back(task);
    if shared.sim.is_on() {
        return shared.sim.nudge(&shared.driver);
    }
    if state.idle > state.notified {
        state.notified += 1;
        drop(state);
        pool.work.notify_one();
        return;
    }
    if state.threads >= pool.threads_max {
        return;
    }
    state.threads += 1;
    drop(state);
    // A thread without work must not keep the runtime's descriptors open.
    let weak = Arc::downgrade(shared);
    let spawned = thread::Builder::new().name(format!("{}-blocking", pool.name)).spawn(move || run(&weak));
    if let Err(error) = spawned {
        let mut state = pool.lock();
        state.threads -= 1;
        if state.threads > 0 {
            // The call waits its turn.
            return;
        }
        let queued = std::mem::take(&mut state.queue);
        drop(state);
        // Nobody is there to run what is queued: a worker drops it, for it is cancelled.
        for task in queued {
            let reason = CancelReason::of(CancelKind::Aborted).at(super::shared::now_ms(&shared.driver));
            // It is queued already: the cancel only flags it.
            task.task_ref().cancel(reason);
            shared.schedule_from_outside(task);
            shared.driver.let_go();
        }
        panic!(
            "leakfree could not start a thread for a blocking call: {error}. Raise the thread limit, or \
             lower `Builder::blocking_threads_max`"
        );
    }
}

fn run(weak: &Weak<Shared>) {
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let mut state = shared.blocking.lock();
        if let Some(task) = state.queue.pop_front() {
            drop(state);
            call(&shared, task);
            continue;
        }
        if state.shutdown {
            state.threads -= 1;
            return;
        }
        state.idle += 1;
        let (mut state, timeout) =
            shared.blocking.work.wait_timeout(state, KEEP_ALIVE).unwrap_or_else(|e| e.into_inner());
        state.idle -= 1;
        if state.notified > 0 {
            state.notified -= 1;
        } else if timeout.timed_out() && state.queue.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}

fn call(shared: &Arc<Shared>, task: Runnable) {
    let _entered = context::enter(shared, None, false);
    frame::set_now_ms(super::shared::now_ms(&shared.driver));
    task.run();
    shared.driver.let_go();
}

/// Runs one of the queued calls on this thread, whichever `choose` says of so many. The id of its task.
#[cfg(feature = "test-util")]
pub(super) fn call_one(shared: &Arc<Shared>, choose: impl FnOnce(usize) -> usize) -> Option<u64> {
    let mut state = shared.blocking.lock();
    let place = match state.queue.len() {
        0 => return None,
        calls => choose(calls),
    };
    let task = state.queue.remove(place)?;
    drop(state);
    let id = task.header().record.id().0;
    call(shared, task);
    Some(id)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}
