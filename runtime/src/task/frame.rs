//! What this thread is polling, and the waits that the poll has noted so far.
//!
//! There is one [`Frame`] per thread. [`enter`] puts a task into it for one poll. Before that the thread is brought to [rest](rest), and what was
//! there is put back after, so that a `block_on` inside a blocking call nests; a worker does so once for all its polls.

use std::cell::Cell;
use std::marker::PhantomData;
use std::num::NonZero;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::header::Header;
use super::local::Locals;
use super::meta::{Record, TaskWord, Time};
use super::wait::{Entry, Object, WaitReason};
use super::watched::Words;
use crate::report::snapshot::TaskKind;

/// How many waits of one poll are recorded. A poll with more is shown with the first ones, and its wait
/// set counts as incomplete.
const WAITS_MAX: usize = 16;

/// A poll's number: `[count: 44 | the thread's range: 16 | 4 for the place of a wait]`. A count lasts for days of polls; past its half a thread
/// takes another range. After 65,536 ranges they begin anew.
const POLL: u64 = RANGE << 16;
const RANGE: u64 = WAITS_MAX as u64;
const HALF: u64 = 1 << 63;

/// How many operations of ours may be ready at once in one poll, before the task has to let others run.
const BUDGET: u8 = 128;
/// Outside of tasks, where there is no bound: as in [`unconstrained`](super::coop::unconstrained) it is taken from, and begins anew.
const UNCONSTRAINED: u8 = u8::MAX;

/// With the number of task-local values that are bound: the task has inherited some.
const INHERITS: u32 = 1 << 31;

pub(crate) struct Frame {
    header: Cell<*const Header>,
    /// The number of the current poll or, outside of any, the last one: the stamp of its first note. It tells the polls of all threads apart.
    poll: Cell<u64>,
    /// The number of the last poll inside of another; 0 if it needs a range.
    inner_poll: Cell<u64>,
    /// What the current poll is inside of, or null.
    outer: Cell<*mut Outer>,
    /// The runtime clock of this thread's last turn.
    now: Cell<Time>,
    /// See [`meta`](super::meta).
    last_id: Cell<u64>,
    own: Own,
    /// The innermost scope whose body is being polled; owned and read by `scope`.
    scope: Cell<*const ()>,
    /// A shield is being polled inside of that body.
    shielded: Cell<bool>,
    /// Where the arm of a `select!` or `join!` stands that is being polled.
    arm: Cell<Option<&'static Location<'static>>>,
    /// The budget has no bound.
    unconstrained: Cell<bool>,
    /// The notes of this poll but for the first one.
    waits: [Cell<Option<Entry>>; WAITS_MAX - 1],
    /// The last caller of a poll function that was found to be the user's own code, for a loop calls from one place.
    users: Cell<*const Location<'static>>,
    /// The polled task, for whoever puts it on record, and what else others may see. On a line of its own, for they do look.
    words: CachePadded<Words>,
}

/// What each poll has of its own; side by side, so that they begin anew in one store.
#[derive(Clone)]
#[repr(C, align(8))]
struct Own {
    yielded: Cell<bool>,
    /// Operations left.
    budget: Cell<u8>,
    taken: Taken,
    /// Task-local values that are bound for the task, and [`INHERITS`]; see `local`.
    locals: Cell<u32>,
}

/// What the poll has taken; side by side, so that a first wait looks at both in one load.
#[derive(Clone)]
#[repr(C, align(2))]
struct Taken {
    /// The registration that is counted for the poll: see `state`.
    registered: Cell<bool>,
    /// Places of notes that are taken, or were. Outside of a poll they all are.
    places: Cell<u8>,
}

impl Taken {
    /// Neither of the two is.
    #[inline(always)]
    fn is_nothing(&self) -> bool {
        // SAFETY: two bytes, aligned as such and both initialised; they are this thread's own.
        unsafe { ptr::from_ref(self).cast::<u16>().read() == 0 }
    }
}

impl Own {
    #[inline]
    fn begin(&self, budget: u8, places: usize) {
        self.yielded.set(false);
        self.budget.set(budget);
        self.taken.registered.set(false);
        self.taken.places.set(places as u8);
        self.locals.set(0);
    }
}

impl Frame {
    const fn new() -> Frame {
        Frame {
            header: Cell::new(ptr::null()),
            poll: Cell::new(0),
            inner_poll: Cell::new(0),
            outer: Cell::new(ptr::null_mut()),
            now: Cell::new(Time::new(0)),
            last_id: Cell::new(0),
            own: Own {
                yielded: Cell::new(false),
                budget: Cell::new(UNCONSTRAINED),
                taken: Taken { registered: Cell::new(false), places: Cell::new(WAITS_MAX as u8) },
                locals: Cell::new(0),
            },
            scope: Cell::new(ptr::null()),
            shielded: Cell::new(false),
            arm: Cell::new(None),
            unconstrained: Cell::new(false),
            waits: [const { Cell::new(None) }; WAITS_MAX - 1],
            users: Cell::new(ptr::null()),
            words: CachePadded::new(Words::new()),
        }
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

/// The task that this thread is polling; none outside of a poll, and without records. A load, right before [`spend`]; anywhere else the
/// frame has to be found first, which is a call that may change all registers. So it is passed on from there.
#[inline]
pub(crate) fn task() -> TaskWord {
    let none = TaskWord::NONE;
    if cfg!(leakfree_norecord) { none } else { with(|frame| frame.words.task()).unwrap_or(none) }
}

/// What others may see of this thread. It is there as long as the thread's locals are.
pub(super) fn words() -> *const Words {
    with(|frame| &raw const *frame.words).unwrap_or(ptr::null())
}

#[cfg(test)]
pub(super) fn words_of_this_thread(f: impl FnOnce(&Words)) {
    with(|frame| f(&frame.words));
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
pub(crate) fn now() -> Time {
    with(|frame| frame.now.get()).unwrap_or(Time::new(0))
}

#[inline]
pub(crate) fn now_ms() -> u64 {
    now().ms()
}

/// The last id that was given out on this thread, for whoever gives out the next.
#[inline]
pub(super) fn with_last_id<T>(f: impl FnOnce(&Cell<u64>) -> T) -> Option<T> {
    with(|frame| f(&frame.last_id))
}

pub(crate) fn set_now_ms(now_ms: u64) {
    with(|frame| {
        frame.now.set(Time::new(now_ms));
        // Not in a poll: that one's number has to stay.
        if frame.poll.get() >= HALF && frame.header.get().is_null() {
            frame.poll.set(new_range());
        }
    });
}

/// The current poll yields: its task goes to the back of the run queue when it returns `Pending`.
#[inline]
pub(crate) fn set_yielded() {
    with(|frame| frame.own.yielded.set(true));
}

/// Takes the registration that is counted for the current poll. False if it is taken.
#[inline]
pub(crate) fn take_registration() -> bool {
    with(|frame| !frame.own.taken.registered.replace(true)).unwrap_or(false)
}

/// A registration was given up by the current poll's task: it is the poll's again. False if the poll has one.
#[inline]
pub(crate) fn give_registration_back() -> bool {
    with(|frame| frame.own.taken.registered.replace(false)).unwrap_or(false)
}

/// Takes one operation off the poll's budget. False if nothing is left.
#[inline]
pub(crate) fn spend() -> bool {
    with(|frame| {
        let (left, spent) = frame.own.budget.get().overflowing_sub(1);
        frame.own.budget.set(left);
        !spent || frame.goes_on()
    })
    .unwrap_or(true)
}

/// Gives back what an operation took that was not ready.
#[inline]
pub(crate) fn give_back() {
    with(|frame| {
        let left = frame.own.budget.get();
        if left < BUDGET {
            frame.own.budget.set(left + 1);
        }
    });
}

/// Whether an operation may go on that is ready.
pub(crate) fn has_budget() -> bool {
    with(|frame| frame.own.budget.get() > 0 || frame.is_unconstrained()).unwrap_or(true)
}

/// The budget begins anew.
pub(crate) fn refill() {
    with(|frame| frame.own.budget.set(BUDGET));
}

/// What is left of a budget, and whether it has no bound.
#[derive(Clone, Copy, Default)]
pub(crate) struct Budget {
    left: u8,
    unconstrained: bool,
}

/// Lifts the bound, and returns the budget for [`set_budget`].
pub(crate) fn lift_budget() -> Budget {
    with(|frame| Budget { left: frame.own.budget.get(), unconstrained: frame.unconstrained.replace(true) })
        .unwrap_or_default()
}

pub(crate) fn set_budget(budget: Budget) {
    with(|frame| {
        frame.own.budget.set(budget.left);
        frame.unconstrained.set(budget.unconstrained);
    });
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
    with(|frame| (frame.own.locals.get() & !INHERITS) as usize).unwrap_or(0)
}

pub(crate) fn add_local() {
    with(|frame| frame.own.locals.set(frame.own.locals.get() + 1));
}

pub(crate) fn remove_local() {
    with(|frame| frame.own.locals.set(frame.own.locals.get() - 1));
}

/// Whether the task being polled has bound or inherited any task-local value.
#[inline]
pub(crate) fn may_have_locals() -> bool {
    with(|frame| frame.own.locals.get() != 0).unwrap_or(false)
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

    /// The place, if it is of that poll.
    #[inline]
    fn place(self, poll: u64) -> Option<usize> {
        let place = self.0.get() ^ poll;
        (place < RANGE).then_some(place as usize)
    }
}

/// The first note of a poll lies in its task's record already, the others here.
impl Frame {
    /// Places of the current poll that are taken, or were. Outside of a poll they all are.
    #[inline]
    fn places(&self) -> usize {
        self.own.taken.places.get().into()
    }

    #[inline]
    fn record(&self) -> Option<&Record> {
        // SAFETY: (I1) a task that is being polled is alive.
        unsafe { self.header.get().as_ref() }.map(|header| &header.record)
    }

    fn set_entry(&self, place: usize, entry: Option<Entry>) {
        if place > 0 {
            self.waits[place - 1].set(entry);
        } else if let Some(record) = self.record() {
            match entry {
                Some(entry) => record.park(self.now.get(), entry),
                None => record.park_unknown(self.now.get()),
            }
        }
    }

    fn entry(&self, place: usize) -> Option<Entry> {
        if place > 0 { self.waits[place - 1].get() } else { self.record()?.noted() }
    }

    /// The notes of the current poll, with their places.
    fn entries(&self) -> impl Iterator<Item = (usize, Entry)> {
        let places = if self.header.get().is_null() { 0 } else { self.places() };
        (0..places).filter_map(|place| Some((place, self.entry(place)?)))
    }
}

/// Notes that the current poll waits. `again` is the stamp of an earlier note by the same leaf:
/// within one poll a leaf has one entry. In line at any rate: an entry that is passed on lies in memory.
#[inline(always)]
pub(crate) fn note(entry: Entry, again: Option<Stamp>) -> Option<Stamp> {
    if cfg!(leakfree_norecord) {
        return None;
    }
    // In small closures: in one it would often be a call of its own.
    if !is_next_note_first() {
        let Entry { head, object, location } = entry;
        return note_another(head, object, location, again);
    }
    let (header, now, poll) = with(|frame| {
        frame.own.taken.places.set(1);
        (frame.header.get(), frame.now.get(), frame.poll.get())
    })?;
    // SAFETY: (I1) a task is being polled, for outside of polls there is no free place.
    unsafe { &*header }.record.park(now, entry);
    NonZero::new(poll).map(Stamp)
}

/// Whether the current poll has noted no wait yet, nor taken the registration that is counted for it; false outside of polls.
#[inline(always)]
pub(crate) fn is_untouched() -> bool {
    with(|frame| frame.own.taken.is_nothing()).unwrap_or(false)
}

/// Does both: `task` is the one that is being polled, in a poll that [is untouched](is_untouched).
#[inline(always)]
pub(crate) fn touch(task: &Header, entry: Entry) -> Option<Stamp> {
    let (now, poll) = with(|frame| {
        debug_assert!(ptr::eq(frame.header.get(), task) && is_untouched());
        frame.own.taken.registered.set(true);
        if !cfg!(leakfree_norecord) {
            frame.own.taken.places.set(1);
        }
        (frame.now.get(), frame.poll.get())
    })?;
    if cfg!(leakfree_norecord) {
        return None;
    }
    task.record.park(now, entry);
    NonZero::new(poll).map(Stamp)
}

/// Not the first note of the poll, or of the leaf, or of no poll.
#[inline(never)]
fn note_another(
    head: u32,
    object: u64,
    location: &'static Location<'static>,
    again: Option<Stamp>,
) -> Option<Stamp> {
    with(|frame| {
        let (poll, places) = (frame.poll.get(), frame.places());
        if frame.header.get().is_null() {
            return None;
        }
        let stamp = match again.filter(|stamp| stamp.place(poll).is_some()) {
            Some(stamp) => stamp,
            None if places >= WAITS_MAX => return None,
            None => {
                frame.own.taken.places.set(places as u8 + 1);
                Stamp(NonZero::new(poll + places as u64)?)
            }
        };
        frame.set_entry(stamp.place(poll)?, Some(Entry { head, object, location }));
        Some(stamp)
    })?
}

/// The note of a poll function, which has no leaf to keep a stamp in: one entry for each reason and object in a
/// poll, however often it was called.
#[inline]
pub(crate) fn note_once(entry: Entry) {
    with(|frame| {
        if !frame.entries().any(|(_, noted)| noted.is_alike(entry)) {
            note(entry, None);
        }
    });
}

/// Whether the next note is the first one of this poll; without records any is as good.
#[inline]
pub(crate) fn is_next_note_first() -> bool {
    cfg!(leakfree_norecord) || with(|frame| frame.places() == 0).unwrap_or(true)
}

/// Whether one more wait of this poll can be noted.
#[inline]
pub(crate) fn has_place() -> bool {
    with(|frame| frame.places() < WAITS_MAX).unwrap_or(false)
}

/// Whether the current poll has noted any wait.
#[inline]
pub(crate) fn has_notes() -> bool {
    with(|frame| !frame.header.get().is_null() && frame.places() > 0).unwrap_or(false)
}

/// Takes the note of a poll function back: a later call in the same poll did not have to wait.
#[inline]
pub(crate) fn take_back_once(reason: WaitReason, object: Object) {
    with(|frame| {
        let alike = Entry::new(reason, object, Location::caller());
        for (place, noted) in frame.entries() {
            if noted.is_alike(alike) {
                frame.set_entry(place, None);
            }
        }
    });
}

/// Takes a note back, if it is of the current poll; those of earlier polls went with them.
#[inline]
pub(crate) fn take_back(stamp: Stamp) {
    with(|frame| {
        if let Some(place) = stamp.place(frame.poll.get()) {
            take_back_at(place);
        }
    });
}

/// The poll may be over: then there is no place to be given back.
#[inline(never)]
fn take_back_at(place: usize) {
    with(|frame| {
        if frame.header.get().is_null() {
            return;
        }
        frame.set_entry(place, None);
        if place + 1 == frame.places() {
            frame.own.taken.places.set(place as u8);
        }
    });
}

/// A task in this thread's frame, up to its drop. It is of this thread.
pub(crate) struct Entered(PhantomData<*const ()>);

/// This thread polls no task, and no combinator of ours on behalf of another executor, but for those that are [entered](enter) and have left.
/// Dropping it puts back what was there before; if there was something, one poll comes meanwhile at the most.
pub(crate) struct AtRest {
    /// There was something.
    saved: bool,
    this_thread: PhantomData<*const ()>,
}

/// Lays what this thread is polling aside.
pub(crate) fn rest() -> AtRest {
    let saved = with(|frame| {
        // No number yet.
        if frame.poll.get() == 0 {
            frame.poll.set(new_range());
        }
        let saves = !frame.is_at_rest();
        if saves {
            frame.save();
        }
        saves
    });
    AtRest {
        saved: saved.expect("a thread polls no task while its locals are destroyed"),
        this_thread: PhantomData,
    }
}

impl AtRest {
    /// Nothing was laid aside: any number of polls may come.
    pub(crate) fn is_outermost(&self) -> bool {
        !self.saved
    }
}

impl Drop for AtRest {
    fn drop(&mut self) {
        if self.saved {
            with(Frame::restore);
        }
    }
}

/// A poll that another one is inside of: a task in a `block_on` in a blocking call.
struct Outer {
    outer: *mut Outer,
    header: *const Header,
    poll: u64,
    waits: [Option<Entry>; WAITS_MAX - 1],
    scope: *const (),
    shielded: bool,
    arm: Option<&'static Location<'static>>,
    unconstrained: bool,
    own: Own,
}

/// Makes `header` the task that this thread, which is [at rest](rest), polls. Next comes [`Entered::show`].
#[inline]
pub(crate) fn enter(header: NonNull<Header>) -> Entered {
    with(|frame| {
        debug_assert!(frame.is_at_rest(), "whoever changes the frame inside of a poll puts it back");
        frame.header.set(header.as_ptr());
        if !cfg!(leakfree_norecord) {
            frame.poll.set(frame.poll.get().wrapping_add(POLL));
        }
        frame.own.begin(BUDGET, 0);
        Entered(PhantomData)
    })
    .expect("a thread polls no task while its locals are destroyed")
}

impl Frame {
    /// See [`rest`]. Whoever changes the frame inside of a poll puts it back before the poll ends, and [`Entered`] does the rest.
    fn is_at_rest(&self) -> bool {
        let at_rest = self.header.get().is_null()
            && self.scope.get().is_null()
            && self.arm.get().is_none()
            && self.own.locals.get() == 0
            && !self.unconstrained.get();
        debug_assert!(!at_rest || !self.shielded.get() && self.places() == WAITS_MAX);
        at_rest
    }

    fn save(&self) {
        self.words.end();
        let outer = Outer {
            outer: self.outer.get(),
            header: self.header.get(),
            poll: self.poll.get(),
            waits: std::array::from_fn(|place| self.waits[place].get()),
            scope: self.scope.replace(ptr::null()),
            shielded: self.shielded.replace(false),
            arm: self.arm.replace(None),
            unconstrained: self.unconstrained.replace(false),
            own: self.own.clone(),
        };
        self.outer.set(Box::into_raw(Box::new(outer)));
        let last = self.inner_poll.get();
        let last = if last == 0 || last >= HALF { new_range() } else { last };
        // That poll's number will be the next one.
        self.poll.set(last);
        self.inner_poll.set(last + POLL);
        self.header.set(ptr::null());
        self.own.begin(UNCONSTRAINED, WAITS_MAX);
    }

    /// Nothing is left of the budget. True if it has no bound, and has begun anew by being taken from.
    #[cold]
    #[inline(never)]
    fn goes_on(&self) -> bool {
        let goes_on = self.is_unconstrained();
        if !goes_on {
            self.own.budget.set(0);
        }
        goes_on
    }

    #[cold]
    fn is_unconstrained(&self) -> bool {
        self.unconstrained.get() || self.header.get().is_null()
    }

    /// There may be less: some may have been taken back.
    #[inline(never)]
    fn park_in_several(&self, header: &Header) {
        let entries: Vec<Entry> = self.entries().map(|(_, entry)| entry).collect();
        match entries.first() {
            None => header.record.park_unknown(self.now.get()),
            Some(first) => header.record.park_in_several(self.now.get(), *first, entries.len()),
        }
        if entries.len() > 1 {
            // SAFETY: (I6) each is an entry that was noted in one piece.
            header.extra().waits =
                entries.into_iter().filter_map(|entry| unsafe { entry.unpack() }).collect();
        }
    }

    /// The thread polls no task.
    #[inline]
    fn clear(&self) {
        self.header.set(ptr::null());
        if !cfg!(leakfree_norecord) {
            self.words.end();
        }
        self.own.begin(UNCONSTRAINED, WAITS_MAX);
    }

    #[cold]
    fn restore(&self) {
        debug_assert!(self.is_at_rest());
        // SAFETY: not null, for the caller has saved; it came from a box, and is not found here again.
        let outer = unsafe { Box::from_raw(self.outer.get()) };
        self.outer.set(outer.outer);
        self.header.set(outer.header);
        if let Some(record) = self.record().filter(|_| !cfg!(leakfree_norecord)) {
            self.words.set_place(record.spawned_at());
            self.words.begin(record);
        }
        self.poll.set(outer.poll);
        self.waits.iter().zip(outer.waits).for_each(|(slot, entry)| slot.set(entry));
        self.scope.set(outer.scope);
        self.shielded.set(outer.shielded);
        self.arm.set(outer.arm);
        self.unconstrained.set(outer.unconstrained);
        let Own { yielded, budget, taken, locals } = outer.own;
        self.own.yielded.set(yielded.get());
        self.own.taken.registered.set(taken.registered.get());
        self.own.budget.set(budget.get());
        self.own.taken.places.set(taken.places.get());
        self.own.locals.set(locals.get());
    }
}

impl Entered {
    /// For a task that is in no list, before [`show`](Entered::show).
    #[inline]
    pub(crate) fn show_place(&self, record: &Record) {
        if !cfg!(leakfree_norecord) {
            with(|frame| frame.words.set_place(record.spawned_at()));
        }
    }

    /// Others may see which task this is.
    #[inline]
    pub(crate) fn show(&self, record: &Record) {
        if !cfg!(leakfree_norecord) {
            with(|frame| frame.words.begin(record));
        }
    }

    /// The task has inherited task-local values.
    pub(crate) fn inherits(&self) {
        with(|frame| frame.own.locals.set(INHERITS));
    }

    /// The poll asked to go to the back of the run queue.
    #[inline]
    pub(crate) fn yielded(&self) -> bool {
        with(|frame| frame.own.yielded.get()).unwrap_or(false)
    }

    /// The poll took the registration that was counted for it.
    #[inline]
    pub(crate) fn registered(&self) -> bool {
        with(|frame| frame.own.taken.registered.get()).unwrap_or(false)
    }

    /// As [`park`](Entered::park), if the poll has left one wait at the most. Else false, and nothing is written.
    #[inline]
    pub(crate) fn park_plainly(&self, header: &Header) -> bool {
        with(|frame| match frame.places() {
            // It is in the record.
            1 => true,
            0 => {
                if !cfg!(leakfree_norecord) {
                    header.record.park_unknown(frame.now.get());
                }
                true
            }
            _ => false,
        })
        .unwrap_or(false)
    }

    /// As [`registered`](Entered::registered) and a drop.
    #[inline]
    pub(crate) fn leave(self) -> bool {
        std::mem::forget(self);
        with(|frame| {
            let registered = frame.own.taken.registered.get();
            frame.clear();
            registered
        })
        .unwrap_or(false)
    }

    /// Writes the park down, with the waits that the poll left.
    #[inline]
    pub(crate) fn park(&self, header: &Header) {
        with(|frame| {
            if cfg!(leakfree_norecord) {
                return;
            }
            match frame.places() {
                0 => header.record.park_unknown(frame.now.get()),
                // It is in the record.
                1 => (),
                _ => frame.park_in_several(header),
            }
        });
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        with(Frame::clear);
    }
}

/// The number before the first one of a new range.
fn new_range() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static RANGES: AtomicU64 = AtomicU64::new(0);
    RANGES.fetch_add(1, Relaxed) % (POLL / RANGE) * RANGE
}

#[cfg(all(test, not(loom), not(leakfree_norecord)))]
mod tests {
    use super::*;
    use crate::runtime::Builder;
    use crate::task;

    fn number() -> u64 {
        with(|frame| frame.poll.get()).unwrap()
    }

    fn range(number: u64) -> u64 {
        number % POLL
    }

    #[test]
    fn a_poll_inside_of_another_has_a_number_of_its_own() {
        let runtime = Builder::new().workers(1).build().unwrap();
        let inner = runtime.handle();
        runtime.block_on(async {
            let polls = task::spawn_blocking(move || {
                let outer = number();
                let inside: Vec<u64> = (0..3).map(|_| inner.block_on(async { number() })).collect();
                assert_eq!(number(), outer, "its own, again");
                [inside, vec![outer]].concat()
            });
            let mut polls = polls.await.unwrap();
            polls.sort_unstable();
            polls.dedup();
            assert_eq!(polls.len(), 4);
        });
    }

    #[test]
    fn a_thread_that_has_used_its_range_up_takes_another() {
        let runtime = Builder::new().workers(1).build().unwrap();
        runtime.block_on(async {
            let first = number();
            task::yield_now().await;
            assert_eq!(number(), first + POLL);
            with(|frame| frame.poll.set(HALF - POLL + range(first)));
            task::yield_now().await;
            assert_eq!(number(), HALF + range(first));
            task::yield_now().await;
            assert_ne!(range(number()), range(first), "the turn between has seen it");
            assert!(number() < HALF);
        });
    }
}
