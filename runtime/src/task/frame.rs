//! What this thread is polling, and the waits that the poll has noted so far.
//!
//! There is one [`Frame`] per thread. [`enter`] puts a task into it for one poll and puts back what was
//! there, so that a `block_on` inside a blocking call nests.

use std::cell::Cell;
use std::num::NonZero;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::header::Header;
use super::local::Locals;
use super::wait::{Object, Wait, WaitReason};
use crate::report::snapshot::TaskKind;

/// How many waits of one poll are recorded. A poll with more is shown with the first ones, and its wait
/// set counts as incomplete.
const WAITS_MAX: usize = 16;

/// Poll numbers leave room for the place of a wait.
const POLL: u64 = WAITS_MAX as u64;
/// A thread takes poll numbers in ranges of two to the power of this, of [`POLL`] numbers a poll: days of polls. After 65,536 ranges they
/// begin anew.
const RANGE: u32 = 48;

/// How many operations of ours may be ready at once in one poll, before the task has to let others run.
const BUDGET: u8 = 128;
/// No bound: outside of tasks, and in [`unconstrained`](super::coop::unconstrained).
const UNCONSTRAINED: u8 = u8::MAX;

pub(crate) struct Frame {
    header: Cell<*const Header>,
    /// Tells the polls of all threads apart: a multiple of [`POLL`].
    poll: Cell<u64>,
    last_poll: Cell<u64>,
    /// The runtime clock of this thread's last turn, in milliseconds.
    now_ms: Cell<u64>,
    yielded: Cell<bool>,
    /// The registration that is counted for the poll is taken: see `state`.
    registered: Cell<bool>,
    /// Operations left in this poll.
    budget: Cell<u8>,
    /// The innermost scope whose body is being polled; owned and read by `scope`.
    scope: Cell<*const ()>,
    /// A shield is being polled inside of that body.
    shielded: Cell<bool>,
    /// Where the arm of a `select!` or `join!` stands that is being polled.
    arm: Cell<Option<&'static Location<'static>>>,
    /// Task-local values that are bound for the task being polled; see `local`.
    locals: Cell<usize>,
    base: Cell<usize>,
    len: Cell<usize>,
    waits: [Cell<Option<Wait>>; WAITS_MAX],
    /// The last caller of a poll function that was found to be the user's own code, for a loop calls from one place.
    users: Cell<*const Location<'static>>,
}

impl Frame {
    const fn new() -> Frame {
        Frame {
            header: Cell::new(ptr::null()),
            poll: Cell::new(0),
            last_poll: Cell::new(0),
            now_ms: Cell::new(0),
            yielded: Cell::new(false),
            registered: Cell::new(false),
            budget: Cell::new(UNCONSTRAINED),
            scope: Cell::new(ptr::null()),
            shielded: Cell::new(false),
            arm: Cell::new(None),
            locals: Cell::new(0),
            base: Cell::new(0),
            len: Cell::new(0),
            waits: [const { Cell::new(None) }; WAITS_MAX],
            users: Cell::new(ptr::null()),
        }
    }
}

impl Frame {
    /// The current poll's notes on an object.
    fn find(&self, reason: WaitReason, object: Object) -> impl Iterator<Item = &Cell<Option<Wait>>> {
        self.waits[self.base.get()..self.len.get()]
            .iter()
            .filter(move |slot| slot.get().is_some_and(|wait| wait.reason == reason && wait.object == object))
    }
}

#[cfg(not(loom))]
thread_local! {
    static FRAME: Frame = const { Frame::new() };
}

#[cfg(loom)]
loom::thread_local! {
    static FRAME: Frame = Frame::new();
}

#[inline]
fn with<T>(f: impl FnOnce(&Frame) -> T) -> Option<T> {
    #[cfg(not(loom))]
    return Some(FRAME.with(f));
    #[cfg(loom)]
    return FRAME.try_with(f).ok();
}

/// The header of the task that this thread is polling, or null.
#[inline]
pub(crate) fn header() -> *const Header {
    with(|frame| frame.header.get()).unwrap_or(ptr::null())
}

/// Whether this thread may block: it polls no task, or one that is a blocking call.
pub(crate) fn may_block() -> bool {
    // SAFETY: (I1) a task that is being polled is alive.
    unsafe { header().as_ref() }.is_none_or(|header| header.kind() == TaskKind::Blocking)
}

/// Where the task that this thread is polling was spawned.
pub(crate) fn spawned_at() -> Option<&'static Location<'static>> {
    // SAFETY: (I1) a task that is being polled is alive.
    unsafe { header().as_ref() }.map(|header| header.record.spawned_at())
}

#[inline]
pub(crate) fn now_ms() -> u64 {
    with(|frame| frame.now_ms.get()).unwrap_or(0)
}

pub(crate) fn set_now_ms(now_ms: u64) {
    with(|frame| frame.now_ms.set(now_ms));
}

/// The current poll yields: its task goes to the back of the run queue when it returns `Pending`.
pub(crate) fn set_yielded() {
    with(|frame| frame.yielded.set(true));
}

/// Takes the registration that is counted for the current poll. False if it is taken.
#[inline]
pub(crate) fn take_registration() -> bool {
    with(|frame| !frame.registered.replace(true)).unwrap_or(false)
}

/// A registration was given up by the current poll's task: it is the poll's again. False if the poll has one.
#[inline]
pub(crate) fn give_registration_back() -> bool {
    with(|frame| frame.registered.replace(false)).unwrap_or(false)
}

/// Takes one operation off the poll's budget. False if nothing is left.
#[inline]
pub(crate) fn spend() -> bool {
    with(|frame| match frame.budget.get() {
        0 => false,
        UNCONSTRAINED => true,
        left => {
            frame.budget.set(left - 1);
            true
        }
    })
    .unwrap_or(true)
}

/// Gives back what an operation took that was not ready.
#[inline]
pub(crate) fn give_back() {
    with(|frame| {
        let left = frame.budget.get();
        if left < BUDGET {
            frame.budget.set(left + 1);
        }
    });
}

/// Whether an operation may go on that is ready.
pub(crate) fn has_budget() -> bool {
    with(|frame| frame.budget.get() > 0).unwrap_or(true)
}

/// The budget begins anew.
pub(crate) fn refill() {
    with(|frame| frame.budget.set(BUDGET));
}

/// Lifts the bound, and returns the budget for [`set_budget`].
pub(crate) fn lift_budget() -> u8 {
    with(|frame| frame.budget.replace(UNCONSTRAINED)).unwrap_or(UNCONSTRAINED)
}

pub(crate) fn set_budget(budget: u8) {
    with(|frame| frame.budget.set(budget));
}

pub(crate) fn scope() -> *const () {
    with(|frame| frame.scope.get()).unwrap_or(ptr::null())
}

/// Sets the innermost scope and returns the one before.
pub(crate) fn replace_scope(scope: *const ()) -> *const () {
    with(|frame| frame.scope.replace(scope)).unwrap_or(ptr::null())
}

/// Whether a shield is being polled inside of the innermost body.
pub(crate) fn is_shielded() -> bool {
    with(|frame| frame.shielded.get()).unwrap_or(false)
}

/// Says so, or not, and returns what was said before.
pub(crate) fn replace_shielded(shielded: bool) -> bool {
    with(|frame| frame.shielded.replace(shielded)).unwrap_or(false)
}

/// The arm of a `select!` or `join!` that is being polled.
pub(crate) fn arm() -> Option<&'static Location<'static>> {
    with(|frame| frame.arm.get()).flatten()
}

/// Sets it and returns the one before.
#[inline]
pub(crate) fn replace_arm(arm: Option<&'static Location<'static>>) -> Option<&'static Location<'static>> {
    with(|frame| frame.arm.replace(arm)).flatten()
}

/// Whether that place was found to be the user's own code, the last time that a poll function on this thread wanted to know.
#[inline]
pub(crate) fn is_users(location: &'static Location<'static>) -> bool {
    with(|frame| ptr::eq(frame.users.get(), location)).unwrap_or(false)
}

pub(crate) fn set_users(location: &'static Location<'static>) {
    with(|frame| frame.users.set(location));
}

/// How many task-local values are bound for the task being polled.
pub(crate) fn locals() -> usize {
    with(|frame| frame.locals.get()).unwrap_or(0)
}

pub(crate) fn add_local() {
    with(|frame| frame.locals.set(frame.locals.get() + 1));
}

pub(crate) fn remove_local() {
    with(|frame| frame.locals.set(frame.locals.get() - 1));
}

/// Whether the task being polled has bound or inherited any task-local value.
#[inline]
pub(crate) fn may_have_locals() -> bool {
    with(|frame| {
        // SAFETY: (I1) a task that is being polled is alive.
        let header = unsafe { frame.header.get().as_ref() };
        frame.locals.get() > 0 || header.is_some_and(Header::has_locals)
    })
    .unwrap_or(false)
}

/// What the task being polled has inherited.
pub(crate) fn inherited_locals() -> Option<Arc<Locals>> {
    // SAFETY: (I1) as above.
    let header = unsafe { header().as_ref() }.filter(|header| header.has_locals())?;
    header.existing_extra()?.locals.clone()
}

thread_local! {
    /// Where the user wrote the operation whose poll functions are being called; see [`polling_for`].
    static SITE: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// Runs `poll` on behalf of an operation that was begun at `site`: poll functions of ours that it calls from within other crates'
/// combinators note their waits there.
#[inline]
pub(crate) fn polling_for<T>(site: &'static Location<'static>, poll: impl FnOnce() -> T) -> T {
    struct Restore(Option<&'static Location<'static>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SITE.set(self.0);
        }
    }
    let _restore = Restore(SITE.replace(Some(site)));
    poll()
}

/// The place of a poll function's wait: where the operation was begun that it is called for, else its caller.
#[track_caller]
#[inline]
pub(crate) fn poll_site() -> &'static Location<'static> {
    SITE.get().unwrap_or(Location::caller())
}

/// A stamp of a noted wait: which poll, and below [`POLL`] which place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp(NonZero<u64>);

impl Stamp {
    /// No poll's: for whoever keeps something else to remember in the place of a stamp.
    pub(crate) const NONE: Stamp = Stamp(NonZero::<u64>::MIN);

    #[inline]
    fn new(poll: u64, index: usize) -> Option<Stamp> {
        NonZero::new(poll | index as u64).map(Stamp)
    }

    #[inline]
    fn is_of(self, poll: u64) -> bool {
        self.0.get() & !(POLL - 1) == poll
    }

    #[inline]
    fn index(self) -> usize {
        (self.0.get() & (POLL - 1)) as usize
    }
}

/// Notes that the current poll waits for `wait`. `again` is the stamp of an earlier note by the same leaf:
/// within one poll a leaf has one entry.
#[inline]
pub(crate) fn note(wait: Wait, again: Option<Stamp>) -> Option<Stamp> {
    if cfg!(leakfree_norecord) {
        return None;
    }
    with(|frame| {
        if frame.header.get().is_null() {
            return None;
        }
        let poll = frame.poll.get();
        let index = match again {
            Some(stamp) if stamp.is_of(poll) => stamp.index(),
            _ => {
                let len = frame.len.get();
                if len == WAITS_MAX {
                    return None;
                }
                frame.len.set(len + 1);
                len
            }
        };
        frame.waits[index].set(Some(wait));
        Stamp::new(poll, index)
    })?
}

/// The note of a poll function, which has no leaf to keep a stamp in: one entry for each reason and object in a
/// poll, however often it was called.
#[inline]
pub(crate) fn note_once(wait: Wait) {
    with(|frame| {
        if !frame.find(wait.reason, wait.object).any(|_| true) {
            note(wait, None);
        }
    });
}

/// Whether the current poll has noted any wait.
#[inline]
pub(crate) fn has_notes() -> bool {
    with(|frame| frame.len.get() > frame.base.get()).unwrap_or(false)
}

/// Takes the note of a poll function back: a later call in the same poll did not have to wait.
#[inline]
pub(crate) fn take_back_once(reason: WaitReason, object: Object) {
    with(|frame| {
        for slot in frame.find(reason, object) {
            slot.set(None);
        }
    });
}

/// Takes a note back, if it is of the current poll; those of earlier polls went with them.
#[inline]
pub(crate) fn take_back(stamp: Stamp) {
    with(|frame| {
        if stamp.is_of(frame.poll.get()) && !frame.header.get().is_null() {
            frame.waits[stamp.index()].set(None);
            if stamp.index() + 1 == frame.len.get() {
                frame.len.set(stamp.index());
            }
        }
    });
}

/// A task in this thread's frame; dropping it puts back what was there before.
pub(crate) struct Entered {
    /// Of the poll that this one is inside of: a task in a `block_on` in a blocking call. A worker has none.
    outer: Option<Box<Outer>>,
}

struct Outer {
    header: *const Header,
    poll: u64,
    scope: *const (),
    shielded: bool,
    arm: Option<&'static Location<'static>>,
    locals: usize,
    base: usize,
    yielded: bool,
    registered: bool,
    budget: u8,
}

/// Makes `header` the task that this thread polls.
#[inline]
pub(crate) fn enter(header: NonNull<Header>) -> Entered {
    with(|frame| {
        let outer = if frame.is_at_rest() { None } else { Some(frame.save()) };
        frame.header.set(header.as_ptr());
        frame.poll.set(next_poll(frame));
        frame.yielded.set(false);
        frame.registered.set(false);
        frame.budget.set(BUDGET);
        Entered { outer }
    })
    .expect("a thread polls no task while its locals are destroyed")
}

impl Frame {
    /// The thread polls no task, and no combinator of ours on behalf of another executor. Whoever changes the frame inside of a
    /// poll puts it back before the poll ends, and [`Entered`] does the rest.
    #[inline]
    fn is_at_rest(&self) -> bool {
        // One jump for all.
        let arm = self.arm.get().map_or(ptr::null(), ptr::from_ref);
        let at_rest =
            self.header.get().addr() | self.scope.get().addr() | arm.addr() | self.locals.get() == 0;
        debug_assert!(!at_rest || !self.shielded.get() && (self.base.get(), self.len.get()) == (0, 0));
        at_rest
    }

    #[cold]
    fn save(&self) -> Box<Outer> {
        Box::new(Outer {
            header: self.header.get(),
            poll: self.poll.get(),
            scope: self.scope.replace(ptr::null()),
            shielded: self.shielded.replace(false),
            arm: self.arm.replace(None),
            locals: self.locals.replace(0),
            base: self.base.replace(self.len.get()),
            yielded: self.yielded.get(),
            registered: self.registered.get(),
            budget: self.budget.get(),
        })
    }

    #[cold]
    fn restore(&self, outer: &Outer) {
        self.header.set(outer.header);
        self.poll.set(outer.poll);
        self.scope.set(outer.scope);
        self.shielded.set(outer.shielded);
        self.arm.set(outer.arm);
        self.locals.set(outer.locals);
        self.yielded.set(outer.yielded);
        self.registered.set(outer.registered);
        self.budget.set(outer.budget);
        self.base.set(outer.base);
    }
}

impl Entered {
    /// The poll asked to go to the back of the run queue.
    #[inline]
    pub(crate) fn yielded(&self) -> bool {
        with(|frame| frame.yielded.get()).unwrap_or(false)
    }

    /// The poll took the registration that was counted for it.
    #[inline]
    pub(crate) fn registered(&self) -> bool {
        with(|frame| frame.registered.get()).unwrap_or(false)
    }

    /// The one wait that the poll left, if it left no more.
    #[inline]
    pub(crate) fn one_wait(&self) -> Waits {
        with(|frame| match frame.len.get() - frame.base.get() {
            0 => Waits::One(None),
            1 => Waits::One(frame.waits[frame.base.get()].get()),
            _ => Waits::Several,
        })
        .unwrap_or(Waits::One(None))
    }

    /// All waits that the poll left.
    #[cold]
    pub(crate) fn waits(&self) -> Vec<Wait> {
        with(|frame| frame.waits[frame.base.get()..frame.len.get()].iter().filter_map(Cell::get).collect())
            .unwrap_or_default()
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        with(|frame| {
            frame.header.set(ptr::null());
            frame.poll.set(0);
            frame.budget.set(UNCONSTRAINED);
            frame.len.set(frame.base.get());
            if let Some(outer) = &self.outer {
                frame.restore(outer);
            }
        });
    }
}

/// What a poll left.
pub(crate) enum Waits {
    One(Option<Wait>),
    /// Perhaps: some may have been taken back.
    Several,
}

#[inline]
fn next_poll(frame: &Frame) -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static RANGES: AtomicU64 = AtomicU64::new(1);
    let mut last = frame.last_poll.get();
    if last % (1 << RANGE) == 0 {
        last = RANGES.fetch_add(1, Relaxed) << RANGE;
    }
    let poll = last.wrapping_add(POLL);
    frame.last_poll.set(poll);
    poll
}
