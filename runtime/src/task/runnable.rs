//! The single reference that may poll.

use std::fmt;
use std::ptr::NonNull;

use super::frame::{self, AtRest};
use super::header::Header;
use super::hooks::Cause;
use super::raw::TaskRef;

/// The right to poll a task, to drop its future and to complete it (I2). It is one word, and is what lies
/// in a run queue.
#[must_use = "a runnable that is dropped takes its task out of the world"]
pub(crate) struct Runnable(NonNull<Header>);

// SAFETY: tasks are spawned with `Send` futures; those that are not are scheduled by an owner that hands
// them to one thread only.
unsafe impl Send for Runnable {}

impl Runnable {
    /// # Safety
    /// (I2) The state word has just given the caller this right, or `into_raw` did.
    #[inline]
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Runnable {
        Runnable(header)
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: (I2) a task with a `Runnable` is not complete, hence alive.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }

    /// For [`from_raw`](Runnable::from_raw): the right goes with it.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<Header> {
        self.0
    }

    /// Polls the task once, or drops its future if it has been cancelled. One that yields, or was woken meanwhile, comes back: it is to go
    /// behind the others.
    #[inline]
    pub(crate) fn poll(self, _: &AtRest) -> Option<Runnable> {
        let run = self.header().vtable.run;
        // SAFETY: (I2) we give our right up to the call.
        unsafe { run(self.into_raw()) }
    }

    /// The same; one that comes back goes to its owner's queue.
    pub(crate) fn run(self) {
        let again = self.poll(&frame::rest());
        if let Some(task) = again {
            task.schedule(Cause::Yielded);
        }
    }

    /// Puts the task in its owner's queue.
    #[inline]
    pub(crate) fn schedule(self, cause: Cause) {
        let schedule = self.header().vtable.schedule;
        // SAFETY: (I2) as above.
        unsafe { schedule(self.into_raw(), cause) }
    }

    /// A reference that looks and cancels.
    pub(crate) fn task_ref(&self) -> TaskRef {
        // SAFETY: (I1) a task with a `Runnable` is alive.
        unsafe { TaskRef::new(self.0) }
    }

    /// Tells the owner that the task is unwakeable.
    pub(crate) fn report_unwakeable(&self) {
        let task = self.task_ref();
        // SAFETY: (I2) the task is alive, and its owner with it.
        unsafe {
            let owner = (self.header().vtable.owner)(self.0);
            (*owner).unwakeable(task);
        }
    }

    /// Gives back the wake that an unwakeable edge kept.
    pub(crate) fn end_record(self) {
        if self.header().state.end_record() {
            self.schedule(Cause::Woken);
        }
    }
}

impl fmt::Debug for Runnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runnable").field(&self.header().record.id()).finish()
    }
}
