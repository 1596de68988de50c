//! The typed allocation, and a task's one turn.

use std::alloc::Layout;
use std::any::Any;
use std::cell::UnsafeCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::block;
use super::frame;
use super::header::{Header, LastWaker, Note, Stage};
use super::hooks::{Bound, Cause, Owner, OwnerLink};
use super::join::{JoinError, JoinHandle, panic_message};
use super::local::Locals;
use super::meta::Time;
use super::raw::{self, Vtable};
use super::reason::{CancelKind, CancelReason};
use super::runnable::Runnable;
use super::state::{OnComplete, OnPollEnd, PollStart};
use super::trace::{self, Traced};
use super::waker::{self, PackedWaker};
use crate::loom::sync::atomic::Ordering::Relaxed;
use crate::report::snapshot::TaskKind;

/// The file whose locations are the runtime's own: it polls the futures that were spawned.
pub(crate) const FILE: &str = file!();

#[repr(C)]
struct Cell<F: Future, O: Owner> {
    header: Header,
    owner: O,
    /// `future` until the stage is `Ending`, then `output` until it is taken or dropped (I2, I3).
    slot: UnsafeCell<Slot<F>>,
}

/// As in C: both begin where it does, and a join handle finds the output there without knowing the future.
#[repr(C)]
union Slot<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, JoinError>>,
}

/// A future on its way into its task. It stays where it is until its place in there is known: each function that it is passed through
/// would copy it.
pub(crate) struct OnItsWay<'a, F>(&'a mut ManuallyDrop<F>);

impl<'a, F> OnItsWay<'a, F> {
    /// # Safety
    /// `future` is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn new(future: &'a mut ManuallyDrop<F>) -> OnItsWay<'a, F> {
        OnItsWay(future)
    }

    #[inline(always)]
    fn take(self) -> F {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: nobody else uses it, as `new` demands, and this is the end of `self`, whose drop does not come.
        unsafe { ManuallyDrop::take(this.0) }
    }
}

impl<F> Drop for OnItsWay<'_, F> {
    fn drop(&mut self) {
        // SAFETY: nobody else uses it, and it was not taken.
        unsafe { ManuallyDrop::drop(self.0) };
    }
}

/// What a new task is told about itself.
pub(crate) struct Spawn {
    pub(crate) kind: TaskKind,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) now: Time,
    pub(crate) name: Option<Arc<str>>,
    /// See `local`.
    pub(crate) locals: Option<Arc<Locals>>,
}

/// Makes a task. It is not scheduled yet: the caller schedules the `Runnable`.
///
/// # Safety
/// If the future or its output is not `Send` or not `'static`, the owner's `schedule` must see to it that
/// the task is only ever run and dropped on the thread, and within the lifetime, that may do so.
#[inline(always)]
pub(crate) unsafe fn new<F: Future, O: Owner>(
    spawn: Spawn,
    owner: O,
    future: OnItsWay<'_, F>,
) -> (Runnable, JoinHandle<F::Output>) {
    // SAFETY: passed on. (I2) A new state word counts one wake and a join handle: these are they.
    unsafe {
        let header = make(spawn, owner, future);
        (Runnable::from_raw(header), JoinHandle::from_raw(header))
    }
}

/// # Safety
/// As [`new`]. The caller owns the one wake and the join handle that a new state word counts.
#[inline(always)]
unsafe fn make<F: Future, O: Owner>(spawn: Spawn, owner: O, future: OnItsWay<'_, F>) -> NonNull<Header> {
    let cell = block::alloc(Layout::new::<Cell<Traced<F>, O>>()).cast::<Cell<Traced<F>, O>>();
    let Spawn { kind, spawned_at, now, name, locals } = spawn;
    let vtable = const { &vtable::<Traced<F>, O>() };
    let header = cell.cast::<Header>();
    // SAFETY: fresh memory of the right layout, whose fields are written one after the other, in place. Should `traced` panic,
    // which calls the user's subscriber, there is no more than the header, and nobody knows of it.
    unsafe {
        header.write(Header::new(vtable, kind, spawned_at, now));
        let half_made = cfg!(feature = "tracing")
            .then(|| HalfMade { header, layout: Layout::new::<Cell<Traced<F>, O>>() });
        if name.is_some() || locals.is_some() {
            header.as_ref().dress(name, locals);
        }
        let future = trace::traced(future.take(), header.as_ref());
        std::mem::forget(half_made);
        (&raw mut (*cell.as_ptr()).owner).write(owner);
        (&raw mut (*cell.as_ptr()).slot).write(UnsafeCell::new(Slot { future: ManuallyDrop::new(future) }));
        header
    }
}

/// A task of which there is only the header: it goes again if the rest cannot be made.
struct HalfMade {
    header: NonNull<Header>,
    layout: Layout,
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        // SAFETY: the header was written by `new`, which has not given it to anybody; the layout is that of the block.
        unsafe {
            dealloc_slowly(self.header, self.layout);
        }
    }
}

const fn vtable<F: Future, O: Owner>() -> Vtable {
    Vtable {
        run: run::<F, O>,
        schedule: schedule::<F, O>,
        owner: owner::<F, O>,
        drop_output: drop_output::<F, O>,
        dealloc: dealloc::<F, O>,
        output: std::mem::offset_of!(Cell<F, O>, slot),
        on_workers: O::ON_WORKERS,
        bytes: size_of::<Cell<F, O>>(),
    }
}

/// # Safety
/// (I2) The caller holds the `Runnable`.
unsafe fn schedule<F: Future, O: Owner>(header: NonNull<Header>, cause: Cause) {
    // SAFETY: (I2) the `Runnable` goes with the call. Another thread may complete and free the task before
    // `schedule` returns: the owner is copied out first.
    unsafe {
        let owner = (*header.cast::<Cell<F, O>>().as_ptr()).owner;
        owner.schedule(Runnable::from_raw(header), cause);
    }
}

/// # Safety
/// (I2) The caller holds the `Runnable`, or is the code that is being polled.
unsafe fn owner<F: Future, O: Owner>(header: NonNull<Header>) -> *const dyn OwnerLink {
    let cell = header.cast::<Cell<F, O>>().as_ptr();
    // SAFETY: (I2) alive.
    unsafe { &raw const (*cell).owner }
}

/// # Safety
/// (I3) The output is stored and the caller's.
unsafe fn drop_output<F: Future, O: Owner>(header: NonNull<Header>) {
    // SAFETY: passed on.
    unsafe {
        let slot = (*header.cast::<Cell<F, O>>().as_ptr()).slot.get();
        ManuallyDrop::drop(&mut (*slot).output);
    }
}

/// # Safety
/// (I4) The state word answered `Free` to the caller; future and output are gone by (I3).
unsafe fn dealloc<F: Future, O: Owner>(header: NonNull<Header>) {
    // SAFETY: passed on.
    unsafe {
        // Apart, so that what nearly all tasks go through calls nothing.
        if header.as_ref().has_extra() {
            return dealloc_slowly(header, Layout::new::<Cell<F, O>>());
        }
        block::dealloc(header.cast(), Layout::new::<Cell<F, O>>());
    }
}

/// # Safety
/// As [`dealloc`], for a task of that layout.
#[cold]
#[inline(never)]
unsafe fn dealloc_slowly(header: NonNull<Header>, layout: Layout) {
    // SAFETY: passed on.
    unsafe {
        ptr::drop_in_place(header.as_ptr());
        block::dealloc(header.cast(), layout);
    }
}

/// Runs `f`, and turns a panic into its payload. The state that a panic may leave broken is dropped by
/// the caller at once.
fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// A future whose panic is its output, and no failure of its task.
///
/// It lies in this file because it polls on the task's behalf: see [`FILE`].
pub(crate) struct Isolated<F>(Option<F>);

impl<F> Isolated<F> {
    pub(crate) fn new(future: F) -> Isolated<F> {
        Isolated(Some(future))
    }
}

impl<F: Future> Future for Isolated<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the only field, which is pinned: it is dropped in place and never moved.
        let mut future = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        let polled = catch(|| {
            let future = future.as_mut().as_pin_mut().expect("`Isolated` was polled after it was ready");
            future.poll(cx)
        });
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        let dropped = catch(|| future.set(None));
        Poll::Ready(ended.and_then(|output| dropped.map(|()| output)))
    }
}

/// One turn of a task: poll it, drop it, or see whether those below it have left. If it is to have another one next, behind the others, the
/// answer is the `Runnable`.
///
/// What is seldom is apart: in line it would take registers, which each turn saves, from what is not.
///
/// # Safety
/// (I2) The caller gives its `Runnable` up. The thread is at [rest](frame::rest).
unsafe fn run<F: Future, O: Owner>(ptr: NonNull<Header>) -> Option<Runnable> {
    let cell = ptr.cast::<Cell<F, O>>().as_ptr();
    // SAFETY: (I2) alive and ours to run; the reference is not used after the `Runnable` is given up.
    let (header, slot) = unsafe { (&(*cell).header, (*cell).slot.get()) };
    // Loaded where it is wanted: kept, it would lie on the stack meanwhile.
    // SAFETY: (I2) as above.
    let owner = || unsafe { (*cell).owner };

    let mut start = header.state.start_poll();
    let mut entered = frame::enter(ptr);
    let note = header.note();
    if !note.is_linked() {
        entered.show_place(&header.record);
        let bound = owner().bound();
        if bound != Bound::Open && heed(header, bound) {
            start.set_drops();
        }
    }
    // Whatever is noted in this turn is of it.
    header.record.start_poll();
    entered.show(&header.record);
    // SAFETY: (I1) the task outlives its poll.
    let waker = unsafe { waker::borrowed(ptr) };
    let mut cx = Context::from_waker(&waker);

    if note.is_seldom() || start.drops() {
        // SAFETY: (I2) passed on.
        match unsafe { run_slowly::<F, O>(ptr, start, entered, &mut cx) } {
            Ok(polls) => entered = polls,
            Err(ended) => return ended,
        }
    }
    trace::woken(header);
    // SAFETY: (I2) the future is there, and only the runner touches it; it never moves: it is dropped in place.
    let polled = catch(|| unsafe { Pin::new_unchecked(&mut *(*slot).future).poll(&mut cx) });
    let output = match polled {
        // Polled behind a shield that is gone now: dropped in the next turn.
        Ok(Poll::Pending) if entered.yielded() || start.drops() && !is_shielded(header) => {
            trace::parks(header);
            if entered.registered() {
                header.state.count_spare();
            }
            drop(entered);
            // (I2) no wake was taken away, so the `Runnable` is still ours to hand on.
            // SAFETY: as said.
            return Some(unsafe { Runnable::from_raw(ptr) });
        }
        Ok(Poll::Pending) => return park(ptr, owner(), start, entered),
        Ok(Poll::Ready(output)) => output,
        // SAFETY: (I2) passed on.
        Err(payload) => return unsafe { end_panicked::<F, O>(ptr, start, entered, payload, &mut cx) },
    };
    // SAFETY: (I2) as above.
    let ended = match catch(|| unsafe { ManuallyDrop::drop(&mut (*slot).future) }) {
        Ok(()) => Ok(output),
        Err(payload) => Err(spoilt::<_, O>(ptr, owner(), output, payload)),
    };
    // SAFETY: (I2) the future is gone; the slot holds the output from here on.
    unsafe { (*slot).output = ManuallyDrop::new(ended) };
    if header.has_extra() {
        // SAFETY: (I2) passed on; the output is stored.
        return unsafe { end_slowly::<F, O>(ptr, start, entered, &mut cx) };
    }
    let registered = entered.registered();
    drop(entered);
    // SAFETY: (I2) given up here.
    unsafe { end(ptr, owner(), header.note(), registered) };
    None
}

/// The turn of a task that is one of few: it is dropped, or its output is stored. Or it is polled next: it has inherited task-local values, or
/// a shield holds its drop off.
///
/// # Safety
/// As [`run`].
#[cold]
#[inline(never)]
unsafe fn run_slowly<F: Future, O: Owner>(
    ptr: NonNull<Header>,
    start: PollStart,
    entered: frame::Entered,
    cx: &mut Context<'_>,
) -> Result<frame::Entered, Option<Runnable>> {
    let cell = ptr.cast::<Cell<F, O>>().as_ptr();
    // SAFETY: (I2) as in `run`.
    let (header, slot, owner) = unsafe { (&(*cell).header, (*cell).slot.get(), (*cell).owner) };
    let note = header.note();
    if note.has_locals() {
        entered.inherits();
    }
    if note.stage() == Stage::Future {
        if !start.drops() {
            return Ok(entered);
        }
        if is_shielded(header) {
            header.remind_shields();
            return Ok(entered);
        }
        if !close_branches(header, cx, || reason(header, owner)) {
            return Err(park_slowly(ptr, owner, start, entered));
        }
        // SAFETY: (I2) the future is there and only the runner touches it.
        let dropped = catch(|| unsafe { ManuallyDrop::drop(&mut (*slot).future) });
        // A handle that is gone does not come back: nobody will ask why. And nothing is below.
        if dropped.is_ok() && !header.has_extra() && !header.state.load().has_join_handle() {
            let registered = entered.registered();
            drop(entered);
            // SAFETY: (I2) given up here; there is no output, for nobody takes one.
            return Err(unsafe { end_dropped::<F, O>(ptr, registered) });
        }
        let error = match dropped {
            Ok(()) => JoinError::cancelled(header.record.id(), reason(header, owner)),
            Err(payload) => JoinError::panicked(header.record.id(), owner.panicked(payload)),
        };
        // SAFETY: (I2) the future is gone; the slot holds the output from here on.
        unsafe { (*slot).output = ManuallyDrop::new(Err(error)) };
    }
    // SAFETY: (I2) passed on; the output is stored.
    Err(unsafe { end_slowly::<F, O>(ptr, start, entered, cx) })
}

/// The future has panicked.
///
/// # Safety
/// As [`run`].
#[cold]
#[inline(never)]
unsafe fn end_panicked<F: Future, O: Owner>(
    ptr: NonNull<Header>,
    start: PollStart,
    entered: frame::Entered,
    payload: Box<dyn Any + Send>,
    cx: &mut Context<'_>,
) -> Option<Runnable> {
    let cell = ptr.cast::<Cell<F, O>>().as_ptr();
    // SAFETY: (I2) as in `run`.
    let (header, slot, owner) = unsafe { (&(*cell).header, (*cell).slot.get(), (*cell).owner) };
    // SAFETY: (I2) the future is there and only the runner touches it.
    spare(owner, catch(|| unsafe { ManuallyDrop::drop(&mut (*slot).future) }));
    let error = JoinError::panicked(header.record.id(), owner.panicked(payload));
    // SAFETY: (I2) the future is gone; the slot holds the output from here on. It is stored.
    unsafe {
        (*slot).output = ManuallyDrop::new(Err(error));
        end_slowly::<F, O>(ptr, start, entered, cx)
    }
}

/// The future has returned, and its drop has panicked.
#[cold]
#[inline(never)]
fn spoilt<T, O: Owner>(ptr: NonNull<Header>, owner: O, output: T, payload: Box<dyn Any + Send>) -> JoinError {
    spare(owner, catch(|| drop(output)));
    // SAFETY: (I2) the caller runs it.
    JoinError::panicked(unsafe { ptr.as_ref() }.record.id(), owner.panicked(payload))
}

/// The end of a turn whose output is stored: of the task's last one, unless something is left below it.
///
/// # Safety
/// As [`run`].
#[inline(never)]
unsafe fn end_slowly<F: Future, O: Owner>(
    ptr: NonNull<Header>,
    start: PollStart,
    entered: frame::Entered,
    cx: &mut Context<'_>,
) -> Option<Runnable> {
    let cell = ptr.cast::<Cell<F, O>>().as_ptr();
    // SAFETY: (I2) as in `run`.
    let (header, owner) = unsafe { (&(*cell).header, (*cell).owner) };
    if !close_branches(header, cx, || CancelReason::of(CancelKind::ScopeForgotten)) {
        header.set_ending();
        return park_slowly(ptr, owner, start, entered);
    }
    let registered = entered.registered();
    drop(entered);
    let note = header.note();
    if note.has_locals() {
        let locals = header.extra().locals.take();
        spare(owner, catch(|| drop(locals)));
    }
    // SAFETY: (I2) given up here.
    unsafe { end(ptr, owner, note, registered) };
    None
}

/// The end of the last turn. `note`: as it is since the task was polled, for nobody puts it in a list after.
///
/// # Safety
/// (I2) The caller gives its `Runnable` up; the output is stored.
#[inline(always)]
unsafe fn end<O: Owner>(ptr: NonNull<Header>, owner: O, note: Note, registered: bool) {
    if note.is_linked() {
        owner.unlink(note.list(), &[ptr]);
    }
    // SAFETY: (I2) passed on.
    let joiner = unsafe { complete(ptr, registered, true) };
    owner.leave(1);
    // Last, for it may be code of the user's, which takes its time or panics; the task has completed all the same.
    waker::forgive(|| joiner.into_iter().for_each(PackedWaker::wake_joiner));
}

/// Tasks that are dropped together, at most.
const TOGETHER: usize = 16;

/// The end of a task that was dropped and leaves no output. Those like it that this thread would run next are dropped in the same turn, then all are
/// taken out of their list under one lock, and counted out at once: two workers that drop a scope's children would else meet at the lock for each.
/// Up to its drop each is in the tree and is found by whoever looks; from there on it is said to be leaving, for the next one's drop may take its time.
///
/// # Safety
/// (I2) The caller gives its `Runnable` up; the future is gone, nothing is below, and there is no join handle. The answer is as that of [`run`].
#[inline(never)]
unsafe fn end_dropped<F: Future, O: Owner>(ptr: NonNull<Header>, registered: bool) -> Option<Runnable> {
    // SAFETY: (I2) alive up to its end, below.
    let (header, owner) = unsafe { (ptr.as_ref(), (*ptr.cast::<Cell<F, O>>().as_ptr()).owner) };
    let note = header.note();
    let fits = |task: &Runnable| {
        let (other, bits) = (task.header(), task.header().state.load());
        ptr::eq(header.vtable, other.vtable)
            // SAFETY: (I2) alive, and a cell like ours, for its functions are the same.
            && unsafe { (*task.as_ptr().cast::<Cell<F, O>>().as_ptr()).owner.scope() } == owner.scope()
            && note == other.note()
            && bits.is_dropping()
            && !bits.is_watched()
            && !other.has_extra()
    };
    let mut dropped = [ptr; TOGETHER];
    let mut count = 1;
    let mut again = None;
    if registered {
        header.state.count_spare();
    }
    header.set_ending();
    // Who is watched may be waited for by another one's drop.
    let goes_first = note.is_linked() && !header.state.load().is_watched();
    while goes_first && count < TOGETHER {
        let Some(task) = owner.next_if(fits) else { break };
        // SAFETY: (I2) ours to run, and its future is there, for its note says so.
        if !unsafe { drop_next::<F, O>(task.as_ptr(), owner) } {
            again = Some(task);
            break;
        }
        owner.count_finished();
        dropped[count] = task.into_raw();
        count += 1;
    }
    // SAFETY: (I2) given up here.
    unsafe { leave_together(&dropped[..count], owner) };
    again
}

/// # Safety
/// (I2) The caller gives the `Runnable` of each up. They have been dropped, have no output and no join handle, and are in one list, if in any.
#[inline(never)]
unsafe fn leave_together<O: Owner>(dropped: &[NonNull<Header>], owner: O) {
    // SAFETY: (I2) alive up to its end, below.
    let note = unsafe { dropped[0].as_ref() }.note();
    if note.is_linked() {
        owner.unlink(note.list(), dropped);
    }
    for &ptr in dropped {
        // SAFETY: (I2) given up here; there is no output, and nobody to take it.
        let joiner = unsafe { complete(ptr, false, false) };
        debug_assert!(joiner.is_none(), "a join handle takes its joiner along");
    }
    owner.leave(dropped.len() as u64);
}

/// Drops the future of a task that `fits`. False if there is more to it: then it goes on in a turn of its own.
///
/// # Safety
/// (I2) The caller holds the `Runnable`; the future, of that type, is there.
#[inline(always)]
unsafe fn drop_next<F: Future, O: Owner>(ptr: NonNull<Header>, owner: O) -> bool {
    // SAFETY: (I2) as said.
    let (header, slot) = unsafe { (ptr.as_ref(), (*ptr.cast::<Cell<F, O>>().as_ptr()).slot.get()) };
    let entered = frame::enter(ptr);
    header.record.start_poll();
    entered.show(&header.record);
    // SAFETY: (I2) only the runner touches it.
    let dropped = catch(|| unsafe { ManuallyDrop::drop(&mut (*slot).future) });
    if entered.registered() {
        header.state.count_spare();
    }
    if let Err(payload) = dropped {
        // Nobody takes an output: what the owner leaves of this goes.
        waker::forgive(|| drop(owner.panicked(payload)));
    }
    header.set_ending();
    if !header.has_extra() {
        return true;
    }
    let error = JoinError::cancelled(header.record.id(), reason(header, owner));
    // SAFETY: (I2) the future is gone; the slot holds the output from here on.
    unsafe { (*slot).output = ManuallyDrop::new(Err(error)) };
    false
}

/// Flags a task whose bound was found cancelled. True if it is to be dropped.
#[cold]
fn heed(header: &Header, bound: Bound) -> bool {
    // We hold wakes, so the answer is never `Enqueue`.
    let _ = header.state.cancel(bound >= Bound::Dropping);
    bound >= Bound::Dropping
}

/// A second panic in one task: the first one is told to whoever waits, this one to the report.
fn spare<O: Owner>(owner: O, caught: Result<(), Box<dyn Any + Send>>) {
    if let Err(payload) = caught {
        owner.spare_panic(panic_message(&*payload));
        // The payload may be of a type that panics again.
        waker::forgive(|| drop(payload));
    }
}

fn is_shielded(header: &Header) -> bool {
    header.existing_extra().is_some_and(|extra| !extra.shields.is_empty())
}

fn reason<O: Owner>(header: &Header, owner: O) -> CancelReason {
    let own = header.existing_extra().and_then(|extra| extra.cancel.clone());
    own.unwrap_or_else(|| owner.cancel_reason())
}

/// Closes what is below the task. False if something is left there; it will wake the task.
fn close_branches(header: &Header, cx: &mut Context<'_>, reason: impl Fn() -> CancelReason) -> bool {
    let Some(extra) = header.existing_extra() else { return true };
    if extra.branches.is_empty() {
        return true;
    }
    let branches = extra.branches.clone();
    drop(extra);
    for branch in branches {
        if !branch.close_branch(cx, reason()) {
            return false;
        }
    }
    // Dropped outside the lock: the last of a scope drops errors of the user's.
    let closed = std::mem::take(&mut header.extra().branches);
    drop(closed);
    true
}

/// The turn ends and the task is not complete: it goes idle, unless it was woken meanwhile. Apart, for in line with the poll
/// its words take registers from there.
#[inline(never)]
fn park<O: Owner>(
    ptr: NonNull<Header>,
    owner: O,
    start: PollStart,
    entered: frame::Entered,
) -> Option<Runnable> {
    // SAFETY: (I2) we hold the `Runnable` up to `end_poll`.
    let header = unsafe { ptr.as_ref() };
    // In this order: the other way round both would be worked out before either is looked at.
    if !entered.park_plainly(header) {
        return park_slowly(ptr, owner, start, entered);
    }
    if !header.is_linked() {
        return park_first(ptr, owner, start, entered);
    }
    let registered = entered.leave();
    trace::parks(header);
    if header.state.end_poll_idle(start, registered) {
        return None;
    }
    // SAFETY: (I2) passed on.
    unsafe { end_turn(ptr, start, registered) }
}

/// The same of any task, as of one that parks in several waits.
#[inline(never)]
fn park_slowly<O: Owner>(
    ptr: NonNull<Header>,
    owner: O,
    start: PollStart,
    entered: frame::Entered,
) -> Option<Runnable> {
    // SAFETY: (I2) we hold the `Runnable` up to `end_poll`.
    let header = unsafe { ptr.as_ref() };
    entered.park(header);
    park_first(ptr, owner, start, entered)
}

/// The same where the waits are written down, of a task that parks for the first time, or of any; apart, for whoever parks again makes no
/// call but its exchange.
#[inline(never)]
fn park_first<O: Owner>(
    ptr: NonNull<Header>,
    owner: O,
    start: PollStart,
    entered: frame::Entered,
) -> Option<Runnable> {
    // SAFETY: (I2) we hold the `Runnable` up to `end_poll`.
    let header = unsafe { ptr.as_ref() };
    let registered = entered.registered();
    drop(entered);
    if !header.is_linked() {
        let bound = owner.link(ptr);
        if bound != Bound::Open {
            heed(header, bound);
        }
    }
    trace::parks(header);
    if header.state.end_poll_idle(start, registered) {
        return None;
    }
    // SAFETY: (I2) passed on.
    unsafe { end_turn(ptr, start, registered) }
}

/// The end of a turn after which the task does not go idle, perhaps. Apart, so that who parks calls nothing.
///
/// # Safety
/// (I2) The caller gives its `Runnable` up.
#[inline(never)]
unsafe fn end_turn(ptr: NonNull<Header>, start: PollStart, registered: bool) -> Option<Runnable> {
    // SAFETY: (I2) we hold the `Runnable` up to `end_poll`, and each of its other answers leaves it to us.
    let (header, task) = unsafe { (ptr.as_ref(), || Runnable::from_raw(ptr)) };
    match header.state.end_poll(start, registered) {
        OnPollEnd::Idle => return None,
        OnPollEnd::Reschedule => return Some(task()),
        OnPollEnd::Unwakeable => waker::record_unwakeable(task(), LastWaker::NeverRegistered),
        OnPollEnd::Stuck => waker::end_grace(task()),
    }
    None
}

/// # Safety
/// As [`end`]. Returns the joiner to wake.
#[inline(always)]
unsafe fn complete(ptr: NonNull<Header>, registered: bool, mut has_output: bool) -> Option<PackedWaker> {
    // SAFETY: (I2) alive at least until the word is told.
    let header = unsafe { ptr.as_ref() };
    let mut joiner = ptr::null_mut();
    loop {
        // Relaxed: the handle filled the slot before the word said so, which is acquired.
        match header.state.complete(has_output, registered, || joiner = header.joiner.load(Relaxed)) {
            OnComplete::DropOutput => {
                // SAFETY: (I3) no join handle: the output is the runner's.
                waker::forgive(|| unsafe { (header.vtable.drop_output)(ptr) });
                has_output = false;
            }
            OnComplete::Complete => return None,
            // SAFETY: (I7) `JOINER` was set at completion, and what was seen is what the slot held then.
            OnComplete::WakeSeen => return Some(unsafe { PackedWaker::from_raw(joiner) }),
            OnComplete::WakeJoiner => {
                // SAFETY: (I7) `JOINER` was set at completion: the slot is ours.
                let joiner = unsafe { PackedWaker::from_raw(header.joiner.load(Relaxed)) };
                if header.state.ref_dec() {
                    // SAFETY: (I4) the state word said so.
                    unsafe { raw::free(ptr) };
                }
                return Some(joiner);
            }
            OnComplete::Free => {
                // SAFETY: (I4) as above.
                unsafe { raw::free(ptr) };
                return None;
            }
        }
    }
}
