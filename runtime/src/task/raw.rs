//! Type erasure: the vtable, and references that look but do not wake.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::frame;
use super::header::Header;
use super::hooks::{Branch, Cause, OwnerLink};
use super::reason::CancelReason;
use super::runnable::Runnable;
use super::state::OnWake;

/// What a header can do without knowing its future. Each function's precondition is in its name's comment.
pub(crate) struct Vtable {
    /// Runs the task once, on a thread that is [at rest](frame::rest). (I2) The caller gives its `Runnable` up; if it comes back, it is to go
    /// behind the others.
    pub(crate) run: unsafe fn(NonNull<Header>) -> Option<Runnable>,
    /// Hands a runnable task to its owner. (I2) The caller gives its `Runnable` up.
    pub(crate) schedule: unsafe fn(NonNull<Header>, Cause),
    /// The owner. (I2) Valid while the caller holds the `Runnable`, or polls the task.
    pub(crate) owner: unsafe fn(NonNull<Header>) -> *const dyn OwnerLink,
    /// Drops the stored output. (I3)
    pub(crate) drop_output: unsafe fn(NonNull<Header>),
    /// Where the output is, in bytes from the header: a `Result<T, JoinError>`, once it is stored. (I3)
    pub(crate) output: usize,
    /// Any worker may run it, and may queue it itself.
    pub(crate) on_workers: bool,
    /// Frees the allocation. (I4)
    pub(crate) dealloc: unsafe fn(NonNull<Header>),
    /// Size of the allocation.
    pub(crate) bytes: usize,
}

/// Frees a task.
///
/// # Safety
/// (I4) The state word answered `Free` to the caller.
#[inline]
pub(crate) unsafe fn free(header: NonNull<Header>) {
    // SAFETY: passed on.
    unsafe {
        let dealloc = header.as_ref().vtable.dealloc;
        dealloc(header);
    }
}

/// A counted reference that can look at a task and cancel it, but not wake it.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: a header is shared between threads by design; what only the runner may touch needs a `Runnable`.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// # Safety
    /// The task is alive for the length of the call: linked, under its list's lock, or otherwise kept (I1).
    pub(crate) unsafe fn new(header: NonNull<Header>) -> TaskRef {
        // SAFETY: the caller's word.
        unsafe { header.as_ref() }.state.ref_inc();
        TaskRef(header)
    }

    /// The task that this thread is polling.
    pub(crate) fn polled() -> Option<TaskRef> {
        let header = NonNull::new(frame::header().cast_mut())?;
        // SAFETY: (I1) a task that is being polled is alive.
        Some(unsafe { TaskRef::new(header) })
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: (I1) we hold a reference.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }

    /// Has the task dropped, and cancels everything below it.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        self.header().extra().cancel.get_or_insert_with(|| reason.clone());
        for branch in self.flag_cancelled(true) {
            branch.cancel_branch(reason.clone());
        }
    }

    /// Flags and wakes this task only, and returns what is below it.
    ///
    /// The flag is set before the branches are read under their lock; whoever opens a branch adds it
    /// under that lock before it looks at the flag. So one of the two sees the other.
    pub(crate) fn flag_cancelled(&self, drop: bool) -> Vec<Arc<dyn Branch>> {
        if self.header().state.cancel(drop) == OnWake::Enqueue {
            // SAFETY: (I2) `Enqueue` makes us the owner of the `Runnable`.
            unsafe { Runnable::from_raw(self.0) }.schedule(Cause::Woken);
        }
        self.header().existing_extra().map(|extra| extra.branches.clone()).unwrap_or_default()
    }
}

impl TaskRef {
    /// Has the task polled, because something in its body is cancelled.
    pub(crate) fn nudge(&self) {
        if self.header().state.nudge() == OnWake::Enqueue {
            // SAFETY: (I2) `Enqueue` makes us the owner of the `Runnable`.
            unsafe { Runnable::from_raw(self.0) }.schedule(Cause::Woken);
        }
    }

    /// The owner of the task that this thread is polling; `None` if this is another one.
    pub(crate) fn owner_if_polled(&self) -> Option<&dyn OwnerLink> {
        if !std::ptr::eq(frame::header(), self.0.as_ptr()) {
            return None;
        }
        // SAFETY: (I2) the task is being polled, by this thread: its owner is there.
        Some(unsafe { &*(self.header().vtable.owner)(self.0) })
    }
}

/// Tasks that have been flagged as cancelled, and what keeps them until what is below them has been looked at.
pub(crate) struct Flagged {
    /// Those that were parked. Nobody else has the right to run them, so they are there. They are to be scheduled.
    pub(crate) parked: Vec<Runnable>,
    /// Others, but for those that have nothing below them: who opens something below one of these from now on finds the flag.
    kept: Vec<TaskRef>,
}

impl Flagged {
    /// With room for so many.
    pub(crate) fn new(most: usize) -> Flagged {
        Flagged { parked: Vec::with_capacity(most), kept: Vec::new() }
    }

    /// Flags a task.
    ///
    /// # Safety
    /// (I1) The task is alive for the length of the call: linked, under its list's lock.
    #[inline]
    pub(crate) unsafe fn add(&mut self, task: NonNull<Header>, drop: bool) {
        // SAFETY: the caller's word.
        let header = unsafe { task.as_ref() };
        if header.state.cancel(drop) == OnWake::Enqueue {
            // SAFETY: (I2) `Enqueue` makes us the owner of the `Runnable`.
            self.parked.push(unsafe { Runnable::from_raw(task) });
        } else if header.has_extra() {
            // SAFETY: (I1) the caller's word.
            self.kept.push(unsafe { TaskRef::new(task) });
        }
    }

    /// Calls `visit` with what is below each, if anything is. Those that were not parked are done with.
    pub(crate) fn look_below(&mut self, mut visit: impl FnMut(Vec<Arc<dyn Branch>>)) {
        let branches = |header: &Header| header.existing_extra().map(|extra| extra.branches.clone());
        self.parked.iter().filter(|task| task.header().has_extra()).for_each(|task| {
            branches(task.header()).into_iter().for_each(&mut visit);
        });
        self.kept.drain(..).for_each(|task| branches(task.header()).into_iter().for_each(&mut visit));
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> TaskRef {
        // SAFETY: (I1) we hold a reference.
        unsafe { TaskRef::new(self.0) }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        if self.header().state.ref_dec() {
            // SAFETY: (I4) the state word said so.
            unsafe { free(self.0) };
        }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskRef").field(&self.header().record.id()).finish()
    }
}
