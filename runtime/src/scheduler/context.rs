//! The thread's runtime, and its worker if it is one.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::compat;
use super::shared::Shared;
use super::worker::Worker;
use crate::driver::{Driver, Local};
use crate::task::frame;
use crate::task::runnable::Runnable;

struct Context {
    shared: Cell<*const Shared>,
    /// Null on threads that are no workers: those in `block_on` and on the blocking pool.
    worker: Cell<*const Worker>,
    /// The thread is inside a future of the runtime, where it must not block.
    polling: Cell<bool>,
    /// The thread was a worker, and another one is that now.
    handed_over: Cell<bool>,
    /// Which entering made the context what it is; every one has a number of its own.
    entry: Cell<u64>,
    entries: Cell<u64>,
}

#[cfg(not(loom))]
thread_local! {
    static CONTEXT: Context = const { Context::new() };
}

#[cfg(loom)]
loom::thread_local! {
    static CONTEXT: Context = Context::new();
}

impl Context {
    const fn new() -> Context {
        Context {
            shared: Cell::new(ptr::null()),
            worker: Cell::new(ptr::null()),
            polling: Cell::new(false),
            handed_over: Cell::new(false),
            entry: Cell::new(0),
            entries: Cell::new(0),
        }
    }

    fn next_entry(&self) -> u64 {
        self.entries.set(self.entries.get() + 1);
        self.entries.get()
    }
}

/// Puts the thread's context back when dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    shared: *const Shared,
    worker: *const Worker,
    polling: bool,
    entry: u64,
    _compat: compat::Entered<'a>,
}

/// Makes `shared` the runtime of this thread. `polling`: the thread will run futures.
pub(crate) fn enter<'a>(
    shared: &'a Arc<Shared>,
    worker: Option<&'a Arc<Worker>>,
    polling: bool,
) -> Entered<'a> {
    CONTEXT.with(|context| Entered {
        shared: context.shared.replace(Arc::as_ptr(shared)),
        worker: context.worker.replace(worker.map_or(ptr::null(), Arc::as_ptr)),
        polling: context.polling.replace(polling),
        entry: context.entry.replace(context.next_entry()),
        _compat: shared.compat.enter(),
    })
}

impl Entered<'_> {
    /// Whether the thread was in the same runtime before: then it is in a blocking call of it.
    pub(crate) fn was_inside(&self) -> bool {
        CONTEXT.with(|context| ptr::eq(context.shared.get(), self.shared))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let _ = CONTEXT.try_with(|context| {
            context.shared.set(self.shared);
            context.worker.set(self.worker);
            context.polling.set(self.polling);
            context.entry.set(self.entry);
        });
    }
}

/// What the thread's context was before [`enter_kept`].
#[derive(Debug)]
pub(crate) struct Before {
    shared: *const Shared,
    worker: *const Worker,
    entry: u64,
    /// The entry that came in its place.
    ours: u64,
}

/// As [`enter`], for guards that may be dropped in any order or forgotten: the caller keeps `shared` and its root scope until
/// [`Before::restore`] has said yes, for ever if it never does. Whether the thread runs futures stays as it is.
pub(crate) fn enter_kept(shared: &Arc<Shared>) -> Before {
    CONTEXT.with(|context| {
        let ours = context.next_entry();
        Before {
            shared: context.shared.replace(Arc::as_ptr(shared)),
            worker: context.worker.replace(ptr::null()),
            entry: context.entry.replace(ours),
            ours,
        }
    })
}

impl Before {
    /// Puts the context back, if it is still the one that this entering made; else nothing changes. So a context is only put
    /// back while whoever made it is still there.
    #[must_use]
    pub(crate) fn restore(&self) -> bool {
        let restored = CONTEXT.try_with(|context| {
            let latest = context.entry.get() == self.ours;
            if latest {
                context.entry.set(self.entry);
                context.shared.set(self.shared);
                context.worker.set(self.worker);
            }
            latest
        });
        restored.unwrap_or(false)
    }
}

/// Whether this thread is in some runtime.
pub(crate) fn is_inside() -> bool {
    CONTEXT.try_with(|context| !context.shared.get().is_null()).unwrap_or(false)
}

/// This thread is about to block inside a future of a runtime. If it is a worker, another thread takes its role, and the rest of
/// the task's turn is run on a thread that is none.
///
/// # Panics
/// If it is a worker that runs no task now (a waker or a hook is called), or if no thread can be started.
#[track_caller]
pub(crate) fn hand_over(what: &str) {
    CONTEXT.with(|context| {
        let worker = context.worker.get();
        if worker.is_null() {
            return;
        }
        assert!(
            !frame::header().is_null(),
            "{what} was called on a worker thread, but not by a task: a waker or a hook cannot block its worker"
        );
        // SAFETY: the context names a worker while its thread is inside `Worker::run`, which borrows the `Arc`.
        let worker = unsafe {
            Arc::increment_strong_count(worker);
            Arc::from_raw(worker)
        };
        // SAFETY: (W1) the context names the worker, so this thread has the role; a task is polled, and on a worker that is
        // in `Worker::run`. The context forgets the worker next.
        if let Err(error) = unsafe { worker.hand_over() } {
            panic!(
                "{what} could not start a thread to take this worker's place: {error}. Raise the thread limit, or use \
                 `spawn_blocking`"
            );
        }
        context.worker.set(ptr::null());
        context.handed_over.set(true);
    });
}

/// Whether this thread was a worker and is none any more.
#[inline]
pub(crate) fn has_handed_over() -> bool {
    CONTEXT.try_with(|context| context.handed_over.get()).unwrap_or(false)
}

/// Says whether this thread has handed a worker's role over, and returns what was said before: for a simulation, whose thread goes on.
#[cfg(feature = "test-util")]
pub(crate) fn replace_handed_over(handed_over: bool) -> bool {
    CONTEXT.with(|context| context.handed_over.replace(handed_over))
}

/// Says that this thread runs a future of some runtime, or does not, and returns what was said before.
pub(crate) fn replace_polling(polling: bool) -> bool {
    CONTEXT.try_with(|context| context.polling.replace(polling)).unwrap_or(false)
}

/// Whether this thread is running a future of some runtime.
pub(crate) fn is_polling() -> bool {
    CONTEXT.try_with(|context| context.polling.get()).unwrap_or(false)
}

/// The shared part of this thread's runtime.
///
/// # Panics
/// Outside a runtime, with a message that names `what` and says what to do.
#[track_caller]
#[inline]
pub(crate) fn with_shared<T>(what: &str, f: impl FnOnce(&Shared) -> T) -> T {
    match try_with_shared(f) {
        Some(out) => out,
        None => outside(what),
    }
}

#[track_caller]
#[cold]
fn outside(what: &str) -> ! {
    panic!(
        "{what} was called outside a leakfree runtime: call it from within `#[leakfree::main]`, \
         `#[leakfree::test]` or `Runtime::block_on`, or use a `runtime::Handle`"
    )
}

#[inline]
fn as_ptr() -> *const Shared {
    CONTEXT.try_with(|context| context.shared.get()).unwrap_or(ptr::null())
}

#[inline]
pub(crate) fn try_with_shared<T>(f: impl FnOnce(&Shared) -> T) -> Option<T> {
    // SAFETY: whoever set the pointer borrows the `Arc` until the context is put back, and that happens on this
    // thread, so not while `f` runs.
    unsafe { as_ptr().as_ref() }.map(f)
}

/// The shared part, counted.
#[track_caller]
pub(crate) fn shared(what: &str) -> Arc<Shared> {
    let shared = as_ptr();
    if shared.is_null() {
        outside(what);
    }
    // SAFETY: the pointer came from an `Arc`, which is alive, as in `try_with_shared`.
    unsafe {
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    }
}

/// The shared part, counted, if the thread is in a runtime.
#[cfg(feature = "test-util")]
pub(crate) fn try_shared() -> Option<Arc<Shared>> {
    is_inside().then(|| shared("the simulation"))
}

/// The driver of the runtime this thread belongs to.
///
/// # Panics
/// Outside a runtime, with a message that names `what` and says what to do.
#[track_caller]
pub(crate) fn driver(what: &str) -> Arc<Driver> {
    with_shared(what, |shared| Arc::clone(&shared.driver))
}

/// The same, as this thread's worker has it.
#[track_caller]
pub(crate) fn local(what: &str) -> Arc<Local> {
    with_shared(what, |shared| Arc::clone(shared.local()))
}

/// Has this thread's worker `push` the task, if it is one of `shared`. If not, gives the task back, and whether `shared` is the thread's
/// context: then whoever made it that keeps it while this thread is here, as in [`try_with_shared`].
#[inline]
pub(crate) fn schedule_local(
    shared: *const Shared,
    task: Runnable,
    push: impl FnOnce(&Worker, Runnable),
) -> Result<(), (Runnable, bool)> {
    with_worker_in(shared, |worker| match worker {
        Some(worker) => {
            push(worker, task);
            Ok(())
        }
        None => Err((task, is_inside_of(shared))),
    })
}

#[cold]
fn is_inside_of(shared: *const Shared) -> bool {
    CONTEXT.try_with(|context| ptr::eq(context.shared.get(), shared)).unwrap_or(false)
}

/// This thread's worker, if it is one of `shared`.
#[inline]
pub(crate) fn with_worker_in<T>(shared: *const Shared, f: impl FnOnce(Option<&Worker>) -> T) -> T {
    // SAFETY: whatever `f` is, it is through with the worker before it runs code of the user's.
    f(unsafe { worker_in(shared) })
}

/// The same.
///
/// # Safety
/// No code of the user's runs before it is used for the last time: that may give the worker's role away.
#[inline]
pub(crate) unsafe fn worker_in<'a>(shared: *const Shared) -> Option<&'a Worker> {
    let worker = CONTEXT.try_with(|context| context.worker.get()).unwrap_or(ptr::null());
    // SAFETY: a worker lives for as long as the context names it; (W1) this thread has its role.
    unsafe { worker.as_ref() }.filter(|worker| worker.is_of(shared))
}
