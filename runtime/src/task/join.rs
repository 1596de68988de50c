//! `JoinHandle`, and how a task can fail to return.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, ready};

use super::frame::{self, Stamp};
use super::header::Header;
use super::meta::TaskId;
use super::raw::{self, TaskRef};
use super::reason::{CancelKind, CancelReason};
use super::state::OnHandleDrop;
use super::wait::{self, Entry, Leaf, Object, WaitReason};
use super::waker::{self, Asker, PackedWaker};
use crate::loom::sync::atomic::Ordering::Relaxed;

/// Owns a task's result: await it to get that.
///
/// Dropping the handle neither cancels the task nor lets it outlive its scope; a result that nobody can
/// await any more is freed at once.
///
/// # Cancel safety
/// Awaiting `&mut handle` is cancel safe: a result that was not returned is still there.
pub struct JoinHandle<T> {
    header: NonNull<Header>,
    /// Of the last wait's entry; or [`TAKEN`]. Two words are returned in registers, three are not.
    stamp: Option<Stamp>,
    output: PhantomData<T>,
}

/// In the place of a stamp: the output has been taken, or there was none to take.
const TAKEN: Option<Stamp> = Some(Stamp::NONE);

// SAFETY: the handle gives access to the output by value only, and to the header, which is shared.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to the output.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    /// The state word of the task counts this handle, and the task's output is a `T`.
    #[inline]
    pub(super) unsafe fn from_raw(header: NonNull<Header>) -> JoinHandle<T> {
        JoinHandle { header, stamp: None, output: PhantomData }
    }

    #[inline]
    fn has_output(&self) -> bool {
        self.stamp != TAKEN
    }

    /// Takes the note of this poll back, if there is one. The stamp is not used again.
    #[inline]
    fn forget_note(&self) {
        if let Some(stamp) = self.stamp.filter(|_| self.has_output()) {
            frame::take_back(stamp);
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: (I1) the handle keeps the header.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn task(&self) -> TaskRef {
        // SAFETY: (I1) as above.
        unsafe { TaskRef::new(self.header) }
    }

    /// The task's id, as reports show it.
    pub fn id(&self) -> TaskId {
        self.header().record.id()
    }

    /// Whether the task has completed, and everything below it. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.header().state.load().is_complete()
    }

    /// Cancels the task and everything below it. It has no grace: at its next suspension, or at once if it is parked, its
    /// future is dropped, unless a shield holds that off. Does not wait; await the handle to know it gone. A task that
    /// completes first is not disturbed.
    #[track_caller]
    pub fn abort(&self) {
        self.task().cancel(CancelReason::here(CancelKind::Aborted));
    }

    /// A handle that can cancel the task from elsewhere, and sees whether it is complete. It may outlive this one.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(self.task())
    }

    #[inline]
    pub(crate) fn take_output(&mut self) -> Result<T, JoinError> {
        debug_assert!(self.has_output());
        self.stamp = TAKEN;
        // SAFETY: (I3) the task is complete, and the handle has not taken the output before: a `Result<T, JoinError>`, as in the cell that
        // the handle was made for.
        unsafe { self.header.byte_add(self.header().vtable.output).cast::<Result<T, JoinError>>().read() }
    }

    /// Whether the task is complete; if not, it wakes `cx` when it is.
    #[inline]
    pub(crate) fn tell_end(&mut self, cx: &mut Context<'_>) -> bool {
        self.tell_end_to(cx, Asker::of(cx))
    }

    /// The same.
    #[inline]
    fn tell_end_to(&mut self, cx: &mut Context<'_>, asker: Asker<'_>) -> bool {
        let state = self.header().state.load();
        if state.is_complete() {
            return true;
        }
        let joiner = if state.has_joiner() {
            // Ours, and looked at only: the task may complete and fire it meanwhile.
            if PackedWaker::is_kept(self.header().joiner.load(Relaxed), asker) {
                return false;
            }
            // Not ours any more: the task is complete, and its runner may be looking into the slot just now.
            let Some(joiner) = self.take_joiner() else { return true };
            let waker = joiner.into_waker();
            if waker::will_wake(&waker, cx) { PackedWaker::new(waker) } else { asker.register_packed() }
        } else {
            asker.register_packed()
        };
        !self.leave_joiner(joiner)
    }

    /// Hands a joiner over; there is none, or it has been taken back. False if the task is complete by now.
    #[inline]
    fn leave_joiner(&self, joiner: PackedWaker) -> bool {
        // (I7) `JOINER` is clear, for we took it back, or it was never set: nobody looks into the slot.
        let joiner = joiner.into_raw();
        self.header().joiner.store(joiner, Relaxed);
        if self.header().state.set_joiner() {
            return true;
        }
        // SAFETY: (I7) the slot stays ours, and nobody reads it any more.
        drop(unsafe { PackedWaker::from_raw(joiner) }.into_waker());
        false
    }

    /// The task may not be complete, or its joiner's budget is used up. Says whether there is an output now, if there is anything to say.
    #[inline(never)]
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        site: &'static Location<'static>,
    ) -> Poll<Result<(), JoinError>> {
        if !frame::is_users(site) {
            return self.wait_elsewhere(cx, site);
        }
        if self.wait_first(cx, site) { Poll::Pending } else { self.wait_slowly(cx, site) }
    }

    /// The place has to be looked into.
    #[inline(never)]
    fn wait_elsewhere(
        &mut self,
        cx: &mut Context<'_>,
        site: &'static Location<'static>,
    ) -> Poll<Result<(), JoinError>> {
        let place = wait::place(site, self.header().record.spawned_at());
        if self.wait_first(cx, place) { Poll::Pending } else { self.wait_slowly(cx, site) }
    }

    /// The first look of a task at another one that goes on, as the only thing that it waits for: as nearly every wait begins. As a leaf would,
    /// step by step, but for what is seldom: so it calls nothing. If it says no, nothing was done.
    #[inline(always)]
    fn wait_first(&mut self, cx: &Context<'_>, place: &'static Location<'static>) -> bool {
        let asker = Asker::of(cx);
        let Some((joiner, polled)) = asker.first_packed() else { return false };
        let header = self.header();
        // Nothing is below the task, so it is not above us.
        if asker.is_of(header) || header.has_extra() {
            return false;
        }
        let Some(seen) = header.state.without_joiner() else { return false };
        // (I7) `JOINER` is clear: nobody looks into the slot.
        header.joiner.store(joiner.into_raw(), Relaxed);
        if !header.state.set_first_joiner(seen) {
            return false;
        }
        let entry = Entry::new(WaitReason::Join, Object::Task(header.record.task()), place).polled_by(asker);
        // The task may fire the joiner before this: of what is counted for the poll only the poll's end is told.
        self.stamp = frame::touch(polled, entry);
        true
    }

    #[inline(never)]
    fn wait_slowly(
        &mut self,
        cx: &mut Context<'_>,
        site: &'static Location<'static>,
    ) -> Poll<Result<(), JoinError>> {
        let record = &self.header().record;
        let (object, spawned_at) = (Object::Task(record.task()), record.spawned_at());
        let mut leaf = Leaf::resume(WaitReason::Join, object, spawned_at, self.stamp.take());
        let polled = self.wait_in(cx, &mut leaf, site);
        self.stamp = if polled.is_pending() { leaf.suspend() } else { None };
        polled
    }

    #[inline]
    fn wait_in(
        &mut self,
        cx: &mut Context<'_>,
        leaf: &mut Leaf,
        site: &'static Location<'static>,
    ) -> Poll<Result<(), JoinError>> {
        ready!(leaf.proceed_at(cx, site));
        if !self.header().state.load().is_complete() {
            if self.header().is_at_or_above_polled() {
                return Poll::Ready(Err(JoinError::would_deadlock(self.id())));
            }
            let asker = Asker::of(cx);
            if !self.tell_end_to(cx, asker) {
                leaf.set_location(site);
                leaf.pending_as(asker);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes back a joiner that was left in the slot, if the task is not complete.
    fn take_joiner(&self) -> Option<PackedWaker> {
        if !self.header().state.take_joiner() {
            return None;
        }
        // SAFETY: (I7) `take_joiner` said yes: the slot is filled, and ours.
        Some(unsafe { PackedWaker::from_raw(self.header().joiner.load(Relaxed)) })
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// An error that says `is_would_deadlock`, at once, if the awaited task cannot complete before the asker has. The
    /// handle is as good as before then.
    ///
    /// # Panics
    /// When polled again after it has returned the task's result.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.has_output(), "a JoinHandle was polled after it had returned its result");
        if self.header().state.load().is_complete() && frame::spend() {
            self.forget_note();
        } else {
            ready!(self.wait(cx, Location::caller()))?;
        }
        Poll::Ready(self.take_output())
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.has_output() && self.header().state.is_handles_alone() {
            // SAFETY: (I4) the state word said so.
            return unsafe { raw::free(self.header) };
        }
        self.forget_note();
        if self.header().state.detach() {
            return;
        }
        // SAFETY: the handle is going.
        unsafe { let_go(self.header, self.has_output()) };
    }
}

/// A handle that is dropped gives its task up.
///
/// # Safety
/// The caller has the task's join handle, and does not use it again; it has taken the output unless it says otherwise.
#[inline(never)]
unsafe fn let_go(task: NonNull<Header>, mut has_output: bool) {
    loop {
        // SAFETY: (I1) the handle keeps the header up to the transition that gives it up.
        let header = unsafe { task.as_ref() };
        match header.state.drop_handle(has_output) {
            OnHandleDrop::Nothing => return,
            OnHandleDrop::DropOutput => {
                has_output = false;
                // An output's panic stays with the output, whoever comes to drop it, handle or runner: else it would depend
                // on a race whom it hits, and abort in a drop during unwinding.
                // SAFETY: (I3) complete, and the output is the handle's.
                let drop_output = || unsafe { (header.vtable.drop_output)(task) };
                waker::forgive(drop_output);
            }
            OnHandleDrop::DropJoiner => {
                // SAFETY: (I7) the transition cleared `JOINER`, and (I1) gave us a reference.
                drop(unsafe { PackedWaker::from_raw(header.joiner.load(Relaxed)) }.into_waker());
                if header.state.ref_dec() {
                    // SAFETY: (I4) the state word said so.
                    unsafe { raw::free(task) };
                }
                return;
            }
            OnHandleDrop::Free => {
                // SAFETY: (I4) as above.
                unsafe { raw::free(task) };
                return;
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id().0).field("finished", &self.is_finished()).finish()
    }
}

/// The id of the task that runs this code.
///
/// # Panics
/// Outside a task of a leakfree runtime.
#[track_caller]
pub fn id() -> TaskId {
    try_id().expect("`leakfree::task::id` was called outside a task")
}

/// The id of the task that runs this code; `None` outside of one.
pub fn try_id() -> Option<TaskId> {
    TaskRef::polled().map(|task| task.header().record.id())
}

/// Cancels a task from anywhere; made by [`JoinHandle::abort_handle`]. Cheap to clone. It keeps neither the task running nor its
/// result.
#[derive(Clone)]
pub struct AbortHandle(TaskRef);

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    #[track_caller]
    pub fn abort(&self) {
        self.0.cancel(CancelReason::here(CancelKind::Aborted));
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.0.header().state.load().is_complete()
    }

    /// The task's id, as reports show it.
    pub fn id(&self) -> TaskId {
        self.0.header().record.id()
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.id().0)
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A task did not return: it was cancelled, or it panicked. Or it never can, because it waits for the asker.
pub struct JoinError(Box<Failure>);

/// Out of line: every task has room for its output, and few fail.
struct Failure {
    task: TaskId,
    kind: Kind,
}

enum Kind {
    Cancelled(CancelReason),
    WouldDeadlock,
    Panicked(std::sync::Mutex<Box<dyn Any + Send>>),
}

impl JoinError {
    #[cold]
    fn new(task: TaskId, kind: Kind) -> JoinError {
        JoinError(Box::new(Failure { task, kind }))
    }

    pub(crate) fn cancelled(task: TaskId, reason: CancelReason) -> JoinError {
        JoinError::new(task, Kind::Cancelled(reason))
    }

    pub(crate) fn would_deadlock(task: TaskId) -> JoinError {
        JoinError::new(task, Kind::WouldDeadlock)
    }

    pub(crate) fn panicked(task: TaskId, payload: Box<dyn Any + Send>) -> JoinError {
        JoinError::new(task, Kind::Panicked(std::sync::Mutex::new(payload)))
    }

    /// The task that was awaited.
    pub fn id(&self) -> TaskId {
        self.0.task
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled(_))
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0.kind, Kind::Panicked(_))
    }

    /// Whether the task that was awaited is the asker itself, or one that cannot complete before the asker has: it waits for
    /// the end of a scope that the asker is below.
    pub fn is_would_deadlock(&self) -> bool {
        matches!(self.0.kind, Kind::WouldDeadlock)
    }

    /// Why the task was cancelled, if it was.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        match &self.0.kind {
            Kind::Cancelled(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// The panic's payload. In a `scope` the payload itself is resumed in the scope's owner, and the handle
    /// gets the panic's message as a `String`.
    ///
    /// # Errors
    /// The error itself, if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        let Failure { task, kind } = *self.0;
        match kind {
            Kind::Panicked(payload) => {
                Ok(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
            }
            kind => Err(JoinError::new(task, kind)),
        }
    }

    /// The panic's payload.
    ///
    /// # Panics
    /// If the task did not panic but was cancelled; ask [`is_panic`](JoinError::is_panic) first.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("`into_panic` was called on the error of a cancelled task")
    }
}

/// The message of a panic payload, if it is a string.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "(a payload that is no string)"
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Cancelled(reason) => write!(f, "task was cancelled: {reason}"),
            Kind::WouldDeadlock => write!(
                f,
                "waiting for task {} would never end: it completes only after everything below it has, and that \
                 includes the task that asks",
                self.0.task
            ),
            Kind::Panicked(payload) => {
                let payload = payload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                write!(f, "task panicked: {}", panic_message(&**payload))
            }
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}
