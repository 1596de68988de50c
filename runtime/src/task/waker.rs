//! `RawWakerVTable`s over a header, and how a leaf stores and fires wakers.
//!
//! A waker of ours is the header's address and one of two vtables, which say which count it holds. A task
//! is polled with a *borrowed* waker of the foreign vtable that holds no count. Cloning any waker of ours
//! makes a foreign one; only [`register`] makes own ones.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::backtrace;
use super::frame;
use super::header::{Header, LastWaker};
use super::hooks::Cause;
use super::raw::{self, TaskRef};
use super::runnable::Runnable;
use super::state::{Count, OnWake, OnWakerDrop};

static FOREIGN: RawWakerVTable = RawWakerVTable::new(
    clone,
    |data| wake(data, Count::Foreign),
    wake_by_ref,
    |data| drop_waker(data, Count::Foreign),
);

static OWN: RawWakerVTable = RawWakerVTable::new(
    clone,
    |data| wake(data, Count::Own),
    wake_by_ref,
    |data| drop_waker(data, Count::Own),
);

/// Which count a waker holds, if it is one of ours.
fn count_of(waker: &Waker) -> Option<Count> {
    // Vtables are statics of this file; two with the same content cannot be merged, for they are distinct
    // statics with distinct functions.
    if std::ptr::eq(waker.vtable(), &FOREIGN) {
        Some(Count::Foreign)
    } else if std::ptr::eq(waker.vtable(), &OWN) {
        Some(Count::Own)
    } else {
        None
    }
}

/// The borrowed waker of a poll: no count, never dropped.
///
/// # Safety
/// The task must outlive the result, as it does while it is being polled (I1).
#[inline]
pub(crate) unsafe fn borrowed(header: NonNull<Header>) -> ManuallyDrop<Waker> {
    // SAFETY: the vtable's functions fit the data pointer; the caller keeps the task alive.
    ManuallyDrop::new(unsafe { Waker::new(header.as_ptr().cast(), &FOREIGN) })
}

fn header<'a>(data: *const ()) -> &'a Header {
    // SAFETY: (I1) a waker holds a count, or is the borrowed one of a running poll; either keeps the
    // header alive until the operation that gives it up, and `'a` is not used beyond that.
    unsafe { &*data.cast::<Header>() }
}

fn clone(data: *const ()) -> RawWaker {
    header(data).state.clone_waker(Count::Foreign);
    backtrace::waker_made(header(data));
    RawWaker::new(data, &FOREIGN)
}

fn wake(data: *const (), count: Count) {
    let on_wake = header(data).state.wake(count);
    act(data, on_wake, Cause::Woken);
}

#[inline]
fn wake_joined(data: *const (), count: Count) {
    match header(data).state.wake_idle(count) {
        Ok(on_wake) => act(data, on_wake, Cause::Joined),
        Err(seen) => wake_joined_other(data, seen, count),
    }
}

/// Apart, so that who wakes an idle task keeps nothing in registers.
#[cold]
#[inline(never)]
fn wake_joined_other(data: *const (), seen: u64, count: Count) {
    act(data, header(data).state.wake_other(seen, count), Cause::Joined);
}

fn wake_by_ref(data: *const ()) {
    let on_wake = header(data).state.wake_by_ref();
    act(data, on_wake, Cause::Woken);
}

#[inline]
fn act(data: *const (), on_wake: OnWake, cause: Cause) {
    match on_wake {
        OnWake::Enqueue => runnable(data).schedule(cause),
        OnWake::Nothing => {}
        OnWake::Free => free(data),
    }
}

fn runnable(data: *const ()) -> Runnable {
    // SAFETY: (I2) only called where the state word said `Enqueue`, which makes us the one owner of the
    // `Runnable`.
    unsafe { Runnable::from_raw(NonNull::new_unchecked(data.cast_mut().cast())) }
}

#[cold]
fn free(data: *const ()) {
    // SAFETY: (I4) the state word said `Free` to us alone.
    unsafe { raw::free(NonNull::new_unchecked(data.cast_mut().cast())) }
}

fn drop_waker(data: *const (), count: Count) {
    let elsewhere = !std::ptr::eq(data.cast(), frame::header());
    if count == Count::Own && !elsewhere && frame::give_registration_back() {
        return;
    }
    match header(data).state.drop_waker(count, elsewhere) {
        OnWakerDrop::Nothing => {}
        OnWakerDrop::Free => free(data),
        OnWakerDrop::Stuck => end_grace(runnable(data)),
        OnWakerDrop::Unwakeable => {
            let by = match TaskRef::polled() {
                Some(task) => LastWaker::Task {
                    id: task.header().record.id().0,
                    spawned_at: task.header().record.spawned_at(),
                    last_wait: task.header().record.last_wait(),
                },
                None => LastWaker::Thread,
            };
            record_unwakeable(runnable(data), by);
        }
    }
}

/// Writes an unwakeable edge down. The caller holds the wake that the edge kept, as `task`.
#[cold]
pub(crate) fn record_unwakeable(task: Runnable, by: LastWaker) {
    task.header().extra().last_waker = Some(by);
    task.report_unwakeable();
    task.end_record();
}

/// A task in its grace that nothing can wake: the grace ends for it. The caller holds the wake that the edge kept, as
/// `task`.
#[cold]
pub(crate) fn end_grace(task: Runnable) {
    // A wake is held, so the answer is never `Enqueue`.
    let _ = task.header().state.cancel(true);
    task.schedule(Cause::Woken);
}

// ---- for leaves ---------------------------------------------------------------------------------

/// The waker to store in a wait queue of ours. If `cx` carries the waker of the task that this
/// thread is polling, it is counted as *own*; any other is a plain clone.
#[inline]
pub(crate) fn register(cx: &Context<'_>) -> Waker {
    Asker::of(cx).register()
}

/// The waker of a poll, and whether it is that of the task that this thread is polling: found out once for all that want to know.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    waker: &'a Waker,
    own: bool,
}

impl<'a> Asker<'a> {
    #[inline]
    pub(crate) fn of(cx: &Context<'a>) -> Asker<'a> {
        Asker { waker: cx.waker(), own: is_polled_task(cx) }
    }

    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.own
    }

    /// See [`register`].
    #[inline]
    pub(crate) fn register(self) -> Waker {
        match self.register_own() {
            // SAFETY: the vtable's functions fit the data pointer, and the count just taken is the waker's.
            Some(data) => unsafe { Waker::new(data, &OWN) },
            None => self.waker.clone(),
        }
    }

    /// The same in one word.
    #[inline(always)]
    pub(crate) fn register_packed(self) -> PackedWaker {
        match self.register_own() {
            Some(data) => PackedWaker::tagged(data, TAG_OWN),
            None => self.clone_packed(),
        }
    }

    /// The same where the registration that is counted for the poll is still there, and no wait is noted, with the polled task. It counts as
    /// taken when [`frame::touch`] is called; before that the answer may be forgotten.
    #[inline(always)]
    pub(crate) fn first_packed(self) -> Option<(PackedWaker, &'a Header)> {
        let first = self.own && frame::is_untouched() && backtrace::is_off();
        let data = self.waker.data();
        first.then(|| (PackedWaker::tagged(data, TAG_OWN), header(data)))
    }

    /// Whether it would wake that task.
    #[inline]
    pub(crate) fn is_of(self, task: &Header) -> bool {
        std::ptr::eq(self.waker.data().cast(), task)
    }

    #[cold]
    fn clone_packed(self) -> PackedWaker {
        PackedWaker::new(self.waker.clone())
    }

    /// Counts an own registration of the polled task, if the waker is its own, and returns its address, with which the count goes.
    #[inline(always)]
    fn register_own(self) -> Option<*const ()> {
        if !self.own {
            return None;
        }
        let data = self.waker.data();
        // The poll's first is counted already: see `state`.
        if !frame::take_registration() {
            header(data).state.clone_waker(Count::Own);
        }
        backtrace::waker_made(header(data));
        Some(data)
    }
}

/// Whether `cx` carries the waker of the task that this thread is polling: the [borrowed](borrowed) one, or a clone. (An own one, which no
/// poll has, would be taken for somebody else's.)
#[inline]
pub(crate) fn is_polled_task(cx: &Context<'_>) -> bool {
    let waker = cx.waker();
    std::ptr::eq(waker.vtable(), &FOREIGN) && std::ptr::eq(waker.data().cast(), frame::header())
}

/// Whether a stored waker stands for this poll, too: it would wake the task that `cx` polls, and is counted as one would be that is
/// registered now. An entry in the record speaks of an *own* registration: one that is counted as foreign would go without a trace in the
/// record, and an own one is for the task's own polls to keep. (`Waker::will_wake` compares vtables, and would call an own registration and
/// the borrowed waker different.)
#[inline]
pub(crate) fn will_wake(stored: &Waker, cx: &Context<'_>) -> bool {
    let waker = cx.waker();
    match count_of(stored) {
        Some(count) => {
            std::ptr::eq(stored.data(), waker.data())
                && count_of(waker).is_some()
                && is_polled_task(cx) == (count == Count::Own)
        }
        None => stored.will_wake(waker),
    }
}

/// Gives up a registration at its removal from the queue. Call it **under the queue's lock**, and
/// drop the result after the lock is released.
///
/// For a waker of ours the count turns into a wake here, in one addition, so that a snapshot never finds a
/// registration counted that no queue holds any more. Only the enqueueing is left for later.
#[inline]
pub(crate) fn fire(waker: Waker) -> Woken {
    match count_of(&waker) {
        Some(count) => {
            let data = waker.data();
            std::mem::forget(waker);
            match header(data).state.wake(count) {
                OnWake::Enqueue => Woken(Landing::Run(runnable(data), Cause::Woken)),
                OnWake::Nothing => Woken(Landing::Nothing),
                OnWake::Free => {
                    free(data);
                    Woken(Landing::Nothing)
                }
            }
        }
        None => Woken(Landing::Wake(waker)),
    }
}

/// A wake that has been decided under a lock and lands when this is dropped: never under a lock.
#[must_use]
#[derive(Debug)]
pub(crate) struct Woken(Landing);

#[derive(Debug)]
enum Landing {
    Nothing,
    Run(Runnable, Cause),
    Wake(Waker),
}

impl Woken {
    /// Who is woken waits for the ends of tasks, and one has ended.
    pub(crate) fn by_end(mut self) -> Woken {
        if let Landing::Run(_, cause) = &mut self.0 {
            *cause = Cause::Joined;
        }
        self
    }
}

impl Drop for Woken {
    #[inline]
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Landing::Nothing) {
            Landing::Nothing => {}
            Landing::Run(task, cause) => task.schedule(cause),
            Landing::Wake(waker) => wake_foreign(waker),
        }
    }
}

/// Wakes by a waker of somebody else's, and forgives it if it panics: who wakes may have a value in hand, or others to wake.
#[cold]
pub(crate) fn wake_foreign(waker: Waker) {
    forgive(|| waker.wake());
}

/// Nothing will come any more for who registered this. A task of ours is in a report, if nothing else can wake it; anybody else is woken, to find
/// that out.
pub(crate) fn give_up(waker: Waker) {
    match count_of(&waker) {
        Some(_) => drop(waker),
        None => wake_foreign(waker),
    }
}

/// Drops a waker that was taken out of a queue, where a value or a place is in hand that must not be lost if its drop panics.
#[inline]
pub(crate) fn discard(waker: Option<Waker>) {
    if let Some(waker) = waker {
        match count_of(&waker) {
            Some(_) => drop(waker),
            None => forgive(|| drop(waker)),
        }
    }
}

/// A panic of the user's code is printed by the hook, and ends here.
#[inline]
pub(crate) fn forgive(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        // A payload's own drop may panic; what that one throws is given up.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
    }
}

// ---- one word -----------------------------------------------------------------------------------

/// A waker in one word: ours as the header's address with the count in the low bits, others boxed.
#[derive(Debug)]
pub(crate) struct PackedWaker(NonNull<u8>);

const TAG_OWN: usize = 1;
const TAG_FOREIGN: usize = 2;
const TAG_BOXED: usize = 3;
const TAGS: usize = 3;

impl PackedWaker {
    /// As [`will_wake`]. False for one that is not ours, which is in a box: whoever asks may share the word with who takes it.
    #[inline]
    pub(crate) fn is_kept(address: *mut u8, asker: Asker<'_>) -> bool {
        let (data, tag) = (address.map_addr(|addr| addr & !TAGS), address.addr() & TAGS);
        std::ptr::eq(data.cast(), asker.waker.data())
            && tag == if asker.own { TAG_OWN } else { TAG_FOREIGN }
            && count_of(asker.waker).is_some()
    }

    /// As one word, which owns what the waker did.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// # Safety
    /// The word came from `into_raw`, and nobody else takes it.
    #[inline]
    pub(crate) unsafe fn from_raw(word: *mut u8) -> PackedWaker {
        // SAFETY: `into_raw` gave a word that is not null.
        PackedWaker(unsafe { NonNull::new_unchecked(word) })
    }

    #[inline]
    pub(crate) fn new(waker: Waker) -> PackedWaker {
        match count_of(&waker) {
            Some(count) => {
                let data = waker.data();
                std::mem::forget(waker);
                PackedWaker::tagged(data, if count == Count::Own { TAG_OWN } else { TAG_FOREIGN })
            }
            None => PackedWaker::tagged(Box::into_raw(Box::new(waker)).cast::<()>(), TAG_BOXED),
        }
    }

    #[inline]
    fn tagged(data: *const (), tag: usize) -> PackedWaker {
        let word = data.cast_mut().cast::<u8>().map_addr(|addr| addr | tag);
        PackedWaker(NonNull::new(word).expect("a header or a box is never null"))
    }

    /// Wakes who waits for a task that has completed.
    #[inline]
    pub(crate) fn wake_joiner(self) {
        match self.unpack() {
            (data, TAG_OWN) => wake_joined(data.cast(), Count::Own),
            (data, TAG_FOREIGN) => wake_joined(data.cast(), Count::Foreign),
            _ => self.into_waker().wake(),
        }
    }

    fn unpack(&self) -> (*mut u8, usize) {
        (self.0.as_ptr().map_addr(|addr| addr & !TAGS), self.0.as_ptr().addr() & TAGS)
    }

    #[inline]
    pub(crate) fn into_waker(self) -> Waker {
        let (data, tag) = self.unpack();
        match tag {
            // SAFETY: `new` took the count over from a waker with just these parts.
            TAG_OWN => unsafe { Waker::new(data.cast(), &OWN) },
            // SAFETY: as above.
            TAG_FOREIGN => unsafe { Waker::new(data.cast(), &FOREIGN) },
            // SAFETY: with this tag it came from a box in `new`; `self` is consumed.
            _ => *unsafe { Box::from_raw(data.cast::<Waker>()) },
        }
    }
}
