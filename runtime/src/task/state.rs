//! The state word of a task: flags, references and both waker counts in one atomic `u64`.
//!
//! ```text
//!  63        48 47        32 31      20 19      8 7        0
//! |   wakes    |  foreign   |   own    |  refs   |  flags   |
//! ```
//!
//! | phase     | `COMPLETE` | wakes | in a run queue | who may touch the future        |
//! |-----------|------------|-------|----------------|---------------------------------|
//! | scheduled |     0      |  > 0  | yes, once      | the holder of the one `Runnable`|
//! | running   |     0      |  > 0  | no             | the worker that polls           |
//! | idle      |     0      |  = 0  | no             | nobody                          |
//! | complete  |     1      |  > 0  | no             | join handle (the output)        |
//!
//! *wakes* counts wakes that no poll has answered. Whoever raises it from 0 owns the `Runnable`; the
//! runner reads the count `c` before it polls and takes `c` away when the poll ends `Pending`: what is
//! left came during the poll, and the task runs again. Completion leaves *wakes* above 0 for ever, so that
//! a late wake finds a number that is not 0 and does nothing.
//!
//! *refs* counts handles that cannot wake: abort handles, snapshots, pending detection events. The join
//! handle is the flag `JOIN_HANDLE`. The tree holds no reference: a task is unlinked before `COMPLETE`
//! is set, and nothing frees a task that is not complete.
//!
//! *own* is one more than there are registrations, until the task is complete: that one is in the hands of the next poll, whose first
//! registration is counted already. The poll's end, which writes the word at any rate, puts another in its place. So *own* is exact
//! whenever the task is idle, and a poll that registers once, as nearly all do that park, pays nothing for it.
//!
//! **Unwakeable** is read off one load: not complete, not cancelled, and no wakes, registrations or foreign wakers. It becomes
//! true on two edges, [`State::end_poll`] and [`State::drop_waker`], and both *keep one wake* while the
//! event is written down ([`OnPollEnd::Unwakeable`], [`OnWakerDrop::Unwakeable`]): the recorder is then in
//! the place of a runner, so the task and its scope cannot go away under it. [`State::end_record`] gives
//! that wake back. Nothing but a cancellation can have come in between, for no waker exists.
//!
//! **Stuck** is the same of a task that is cancelled and in its grace: it cannot end by itself, so the grace is over. Both
//! edges keep one wake here, too, and it becomes the one that drops the task.
//!
//! **Saturation.** A count that reaches half of its field sets `STUCK` for good and puts all three counts in the
//! middle of their fields. From then on they are only held still (each add is undone): the task is never
//! freed and never called unwakeable. Wakes need no such flag: who wakes by reference, or clones, takes one back where there are too
//! many. Who wakes by value has nothing left that keeps the task, and must not come back to the word: its wake stays. There are no more of
//! those than counts, and for both together the field has room.

use crate::loom::sync::atomic::AtomicU64;
use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

const COMPLETE: u64 = 1 << 0;
/// Cancellation has been asked for.
const CANCELLED: u64 = 1 << 1;
/// The grace is over: the future is dropped at its next suspension.
const DROP: u64 = 1 << 2;
const JOIN_HANDLE: u64 = 1 << 3;
/// The joiner slot is filled and belongs to whoever completes the task.
const JOINER: u64 = 1 << 4;
/// A count reached its bound; counts are void.
const STUCK: u64 = 1 << 5;
/// An own registration was given up elsewhere than in a poll of the task, and not by a wake: its wait entry may still
/// stand, so entries and registrations need not match any more. Never cleared.
const ASTRAY: u64 = 1 << 6;
/// The handle has taken a joiner back at least once. Never cleared.
const REJOINED: u64 = 1 << 7;

const REF: u64 = 1 << 8;
const OWN: u64 = 1 << 20;
const FOREIGN: u64 = 1 << 32;
const WAKE: u64 = 1 << 48;

const REFS: u64 = OWN - REF;
const OWNS: u64 = FOREIGN - OWN;
const FOREIGNS: u64 = WAKE - FOREIGN;
const WAKES: u64 = !(WAKE - 1);

/// From here on a wake is undone, so that the field, which is the topmost, never wraps.
const WAKES_HIGH: u64 = 1 << 62;
/// A runner that finds as many wakes, half of that, first takes them down to one. A power of two is soon compared with.
const WAKES_HALF: u64 = WAKES_HIGH / 2;
const HALVES: u64 = ((REFS / 2) & REFS) | ((OWNS / 2) & OWNS) | ((FOREIGNS / 2) & FOREIGNS);

// Each count may become a wake that is not undone: an eighth of the field is left for threads that are about to undo theirs.
const _: () = assert!(
    WAKES_HIGH / WAKE + (HALVES & OWNS) / OWN + (HALVES & FOREIGNS) / FOREIGN
        < WAKES / WAKE - WAKES_HIGH / WAKE / 2
);

/// Which of the two counts a waker holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    /// A registration in one of our own wait queues.
    Own,
    /// Every other clone.
    Foreign,
}

impl Count {
    fn unit(self) -> u64 {
        match self {
            Count::Own => OWN,
            Count::Foreign => FOREIGN,
        }
    }
}

/// What the caller of a wake must do next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnWake {
    /// Was idle: the caller now owns the `Runnable` and must enqueue it.
    Enqueue,
    /// Running, already scheduled, or complete.
    Nothing,
    /// The waker was the last thing that kept a complete task: free it.
    Free,
}

/// What the runner finds when it begins.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollStart(u64);

impl PollStart {
    /// The wakes that this poll answers.
    #[inline]
    fn wakes(self) -> u64 {
        self.0 & WAKES
    }

    /// The future is to be dropped instead of polled.
    #[inline]
    pub(crate) fn drops(self) -> bool {
        self.0 & DROP != 0
    }

    /// The same: the bound was found cancelled.
    pub(crate) fn set_drops(&mut self) {
        self.0 |= DROP;
    }
}

/// What the runner must do after a poll that ended `Pending`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnPollEnd {
    /// Idle; the runner must not touch the task again.
    Idle,
    /// Woken during the poll: the runner keeps the `Runnable` and must enqueue it.
    Reschedule,
    /// No waker exists. The runner keeps one wake: write it down, then call `end_record`.
    Unwakeable,
    /// No waker exists, and the task was asked to end: it cannot do that by itself. The runner keeps one wake: end
    /// the grace, and enqueue it to be dropped.
    Stuck,
}

/// What must be done after a waker was dropped.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnWakerDrop {
    Nothing,
    /// It was the last thing that kept a complete task: free it.
    Free,
    /// It was the last waker of an idle task. The caller now holds one wake: write it down, then call
    /// `end_record`.
    Unwakeable,
    /// The same of a task that was asked to end, see [`OnPollEnd::Stuck`]. The caller now holds one wake.
    Stuck,
}

/// What the runner must do to complete a task.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnComplete {
    /// Nobody will take the output: drop it and call again.
    DropOutput,
    /// Complete; others keep the memory. The runner must not touch the task again.
    Complete,
    /// Complete, and the joiner that was seen is the runner's to fire. The runner must not touch the task again.
    WakeSeen,
    /// Complete, and the runner holds a reference: take the joiner, give the reference up, fire the joiner.
    WakeJoiner,
    /// Complete and nothing keeps the memory: free it.
    Free,
}

/// What the dropped join handle must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnHandleDrop {
    Nothing,
    /// The joiner slot is the handle's again: drop what is in it.
    DropJoiner,
    /// The output is still there and is the handle's: drop it, then call again.
    DropOutput,
    Free,
}

/// A copy of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits(u64);

impl Bits {
    #[inline]
    pub(crate) fn is_complete(self) -> bool {
        self.0 & COMPLETE != 0
    }
    pub(crate) fn is_idle(self) -> bool {
        self.0 & (COMPLETE | WAKES) == 0
    }
    pub(crate) fn is_cancelled(self) -> bool {
        self.0 & CANCELLED != 0
    }
    /// The grace is over.
    pub(crate) fn is_dropping(self) -> bool {
        self.0 & DROP != 0
    }
    /// Registrations, of an idle task.
    pub(crate) fn own(self) -> u32 {
        (((self.0 & OWNS) / OWN) as u32).saturating_sub(1)
    }
    pub(crate) fn foreign(self) -> u32 {
        ((self.0 & FOREIGNS) / FOREIGN) as u32
    }
    /// The theorem: parked, not cancelled, and no waker exists anywhere.
    #[inline]
    pub(crate) fn is_unwakeable(self) -> bool {
        self.0 & (COMPLETE | CANCELLED | STUCK | WAKES | OWNS | FOREIGNS) == OWN
    }
    /// The same of a task that was asked to end, while its grace runs.
    #[inline]
    fn is_stuck(self) -> bool {
        let word = self.0 & (COMPLETE | CANCELLED | DROP | STUCK | WAKES | OWNS | FOREIGNS);
        word == CANCELLED | OWN
    }
    #[inline]
    pub(crate) fn has_join_handle(self) -> bool {
        self.0 & JOIN_HANDLE != 0
    }
    /// Somebody may ask whether it is complete.
    #[inline]
    pub(crate) fn is_watched(self) -> bool {
        self.0 & (JOIN_HANDLE | REFS) != 0
    }
    /// The joiner slot is filled, and was when the task completed if it has.
    #[inline]
    pub(crate) fn has_joiner(self) -> bool {
        self.0 & JOINER != 0
    }
    /// Entries and registrations need not match; see `ASTRAY`.
    pub(crate) fn is_astray(self) -> bool {
        self.0 & (ASTRAY | STUCK) != 0
    }
    /// Complete, and neither handle nor reference nor waker is left.
    #[inline]
    fn is_free(self) -> bool {
        self.0 & COMPLETE != 0 && self.is_alone()
    }
    /// With a registration more, for the next poll. Where counts are void they are left as they are.
    #[inline]
    fn with_spare(self) -> u64 {
        if self.0 & STUCK == 0 { self.0 + OWN } else { self.0 }
    }
    #[inline]
    fn is_alone(self) -> bool {
        self.0 & (JOIN_HANDLE | STUCK | REFS | OWNS | FOREIGNS) == 0
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<&str> = [
            (COMPLETE, "complete"),
            (CANCELLED, "cancelled"),
            (DROP, "drop"),
            (JOIN_HANDLE, "join handle"),
            (JOINER, "joiner"),
            (STUCK, "stuck"),
            (ASTRAY, "astray"),
            (REJOINED, "rejoined"),
        ]
        .into_iter()
        .filter_map(|(bit, name)| (self.0 & bit != 0).then_some(name))
        .collect();
        f.debug_struct("Bits")
            .field("wakes", &(self.0 / WAKE))
            .field("foreign", &self.foreign())
            .field("own", &self.own())
            .field("refs", &((self.0 & REFS) / REF))
            .field("flags", &flags)
            .finish()
    }
}

/// The state word; see the table in the [module](self).
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

impl State {
    /// A task that is scheduled and has a join handle.
    #[inline]
    pub(crate) fn new() -> State {
        State(AtomicU64::new(WAKE | OWN | JOIN_HANDLE))
    }

    /// Acquire: pairs with the release of whoever made the state that is seen.
    #[inline]
    pub(crate) fn load(&self) -> Bits {
        Bits(self.0.load(Acquire))
    }

    /// What a transition begins with that must look before it writes.
    #[inline]
    fn look(&self) -> u64 {
        #[cfg(not(loom))]
        return self.0.load(Acquire);
        // See `loom::own_load`: a load here would hide those of snapshots from the exchange that follows.
        #[cfg(loom)]
        return self.0.fetch_or(0, Acquire);
    }

    /// One loop for every such transition.
    #[inline]
    fn update<T>(&self, mut next: impl FnMut(u64) -> (T, Option<u64>)) -> T {
        let mut bits = self.look();
        loop {
            let (out, new) = next(bits);
            let Some(new) = new else { return out };
            match self.change(bits, new) {
                Ok(()) => return out,
                Err(now) => bits = now,
            }
        }
    }

    /// One step of such a loop. Transitions that every task goes through write the loop out: with an `Option` in a closure's answer
    /// the compiler keeps it in memory.
    #[inline]
    fn change(&self, bits: u64, new: u64) -> Result<(), u64> {
        let changed = self.0.compare_exchange_weak(bits, new, AcqRel, Acquire);
        #[cfg(loom)]
        if changed.is_err() {
            crate::loom::thread::yield_now();
        }
        changed.map(|_| ())
    }

    // ---- the runner -------------------------------------------------------------------------

    /// The runner begins. A load, no write: it owns the `Runnable` already.
    ///
    /// Acquire: pairs with the release in every wake that it counts, so that the poll sees what the
    /// wakers wrote.
    #[inline]
    pub(crate) fn start_poll(&self) -> PollStart {
        let mut bits = self.0.load(Acquire);
        if bits >= WAKES_HALF {
            bits = self.take_wakes_down();
        }
        PollStart(bits)
    }

    #[cold]
    #[inline(never)]
    fn take_wakes_down(&self) -> u64 {
        self.update(|bits| {
            let new = (bits & !WAKES) | WAKE;
            (new, Some(new))
        })
    }

    /// A poll that began with `start` ended `Pending`. `registered`: it used up the registration that was counted for it.
    ///
    /// Release: the next runner, who acquires in `start_poll`, sees what this poll wrote.
    pub(crate) fn end_poll(&self, start: PollStart, registered: bool) -> OnPollEnd {
        let mut seen = self.0.load(Acquire);
        loop {
            let bits = if registered { Bits(seen).with_spare() } else { seen };
            let new = bits - start.wakes();
            let (out, new) = if new & WAKES != 0 {
                (OnPollEnd::Reschedule, new)
            } else if new & (OWNS | FOREIGNS) != OWN {
                // Something can wake it, as nearly always: neither of the next two.
                (OnPollEnd::Idle, new)
            } else if Bits(new).is_unwakeable() {
                (OnPollEnd::Unwakeable, new + WAKE)
            } else if Bits(new).is_stuck() {
                (OnPollEnd::Stuck, new + WAKE)
            } else {
                (OnPollEnd::Idle, new)
            };
            match self.change(seen, new) {
                Ok(()) => return out,
                Err(now) => seen = now,
            }
        }
    }

    /// The same in one attempt, if the task goes idle as nearly always: no wake is left, counts are not void, and something can wake it besides
    /// the next poll's registration. If not nothing has changed, and [`end_poll`](State::end_poll) comes next.
    #[must_use]
    #[inline]
    pub(crate) fn end_poll_idle(&self, start: PollStart, registered: bool) -> bool {
        let seen = self.look();
        let new = seen.wrapping_add(u64::from(registered) * OWN).wrapping_sub(start.wakes());
        seen & STUCK == 0 && (2..WAKE / OWN).contains(&(new / OWN)) && self.change(seen, new).is_ok()
    }

    /// As the end of a poll does that `registered`, for one after which the runner keeps the `Runnable`.
    #[cold]
    pub(crate) fn count_spare(&self) {
        self.update(|bits| ((), Some(Bits(bits).with_spare())));
    }

    /// Gives back the wake that an `Unwakeable` edge kept. True if the task was cancelled meanwhile: the
    /// caller then owns the `Runnable` and must enqueue it.
    #[must_use]
    pub(crate) fn end_record(&self) -> bool {
        let prev = self.0.fetch_sub(WAKE, AcqRel);
        prev & WAKES != WAKE
    }

    /// The output is stored (or there is none to take); see [`OnComplete`]. `registered`: as in `end_poll`. `see_joiner` is
    /// called to look into the joiner slot, and has seen the joiner if the answer is `WakeSeen`.
    ///
    /// The slot is looked into before the word is told, for the handle may free the task as soon as it is. The handle may
    /// take the joiner back meanwhile, and even leave another; but then the word is never again what it was.
    #[inline]
    pub(crate) fn complete(
        &self,
        has_output: bool,
        registered: bool,
        mut see_joiner: impl FnMut(),
    ) -> OnComplete {
        let mut seen = self.0.load(Acquire);
        loop {
            if seen & JOIN_HANDLE == 0 && has_output {
                return OnComplete::DropOutput;
            }
            let bits = if registered || seen & STUCK != 0 { seen } else { seen - OWN };
            // Said of the handle again, that who knows of it need not ask.
            if seen & JOIN_HANDLE == 0 && Bits(bits).is_alone() {
                // Unlinked, unowned, without wakers: nobody else can reach the word any more.
                return OnComplete::Free;
            }
            let new = bits | COMPLETE;
            // An exchange for each answer: else that waits in a register to be looked at behind one for all.
            let changed = if bits & JOINER == 0 {
                self.change(seen, new).map(|()| OnComplete::Complete)
            } else if bits & REJOINED == 0 {
                see_joiner();
                self.change(seen, new).map(|()| OnComplete::WakeSeen)
            } else {
                self.change(seen, new + REF).map(|()| OnComplete::WakeJoiner)
            };
            match changed {
                Ok(out) => return out,
                Err(now) => seen = now,
            }
        }
    }

    // ---- wakers -----------------------------------------------------------------------------

    /// Wakes by value: schedules and gives up the waker's count in one addition.
    #[inline]
    pub(crate) fn wake(&self, count: Count) -> OnWake {
        self.wake_idle(count).unwrap_or_else(|seen| self.wake_other(seen, count))
    }

    /// The same, of a task that is idle as a rule. If it is not, what [`wake_other`](State::wake_other) is to be told next.
    #[inline]
    pub(crate) fn wake_idle(&self, count: Count) -> Result<OnWake, u64> {
        // AcqRel even when the task is scheduled already: its runner must see what the waker wrote.
        let prev = self.0.fetch_add(WAKE.wrapping_sub(count.unit()), AcqRel);
        if prev & (WAKES | STUCK) == 0 { Ok(OnWake::Enqueue) } else { Err(prev) }
    }

    #[cold]
    pub(crate) fn wake_other(&self, prev: u64, count: Count) -> OnWake {
        let unit = count.unit();
        if prev & STUCK != 0 {
            // Such a task is never freed.
            self.0.fetch_add(unit, AcqRel);
            self.undo_high_wake(prev);
        }
        let new = prev.wrapping_add(WAKE).wrapping_sub(unit);
        if prev & WAKES == 0 {
            OnWake::Enqueue
        } else if Bits(new).is_free() {
            // Acquired by the addition above; the releases of all former owners are in its chain.
            OnWake::Free
        } else {
            // However many wakes there are: the count is given up, and the task may be gone.
            OnWake::Nothing
        }
    }

    /// Wakes by reference.
    #[inline]
    pub(crate) fn wake_by_ref(&self) -> OnWake {
        let prev = self.0.fetch_add(WAKE, AcqRel);
        if prev & WAKES == 0 {
            return OnWake::Enqueue;
        }
        self.undo_high_wake(prev);
        OnWake::Nothing
    }

    /// Keeps *wakes* from wrapping; the caller holds a count, or borrows one. A runner counts fewer than half of what is high, so a
    /// high count that loses one still leaves the runner wakes to answer: nothing is lost.
    fn undo_high_wake(&self, seen: u64) {
        if seen >= WAKES_HIGH {
            self.update(|bits| ((), (bits >= WAKES_HIGH).then(|| bits - WAKE)));
        }
    }

    /// A waker was cloned, or a registration is made, by someone who holds or borrows one.
    #[inline]
    pub(crate) fn clone_waker(&self, count: Count) {
        // Relaxed: a new count is made from one that exists, which keeps the task alive (as in `Arc`).
        let seen = self.add(
            count.unit(),
            match count {
                Count::Own => OWNS,
                Count::Foreign => FOREIGNS,
            },
        );
        // For the wake that this count may become.
        self.undo_high_wake(seen);
    }

    /// A waker was dropped. `elsewhere`: not by the task's own poll.
    ///
    /// Release: whoever frees the task acquires it. Acquire: if this frees.
    #[inline]
    pub(crate) fn drop_waker(&self, count: Count, elsewhere: bool) -> OnWakerDrop {
        let astray = if count == Count::Own && elsewhere { ASTRAY } else { 0 };
        self.update(|bits| {
            if bits & STUCK != 0 {
                return (OnWakerDrop::Nothing, None);
            }
            let new = (bits - count.unit()) | astray;
            if Bits(new).is_unwakeable() {
                (OnWakerDrop::Unwakeable, Some(new + WAKE))
            } else if Bits(new).is_stuck() {
                (OnWakerDrop::Stuck, Some(new + WAKE))
            } else if Bits(new).is_free() {
                (OnWakerDrop::Free, None)
            } else {
                (OnWakerDrop::Nothing, Some(new))
            }
        })
    }

    // ---- references -------------------------------------------------------------------------

    /// Takes a reference, from one that exists or under a lock that keeps the task linked.
    #[inline]
    pub(crate) fn ref_inc(&self) {
        self.add(REF, REFS);
    }

    /// Gives a reference up. True if the caller must free the task.
    #[must_use]
    #[inline]
    pub(crate) fn ref_dec(&self) -> bool {
        self.update(|bits| {
            if bits & STUCK != 0 {
                return (false, None);
            }
            // The last one leaves the word as it is: nobody else can reach it any more.
            let free = Bits(bits - REF).is_free();
            (free, (!free).then(|| bits - REF))
        })
    }

    /// The word before.
    #[inline]
    fn add(&self, unit: u64, field: u64) -> u64 {
        let prev = self.0.fetch_add(unit, Relaxed);
        if prev & STUCK != 0 {
            self.0.fetch_sub(unit, Relaxed);
        } else if prev & field >= HALVES & field {
            self.update(|bits| {
                let new = (bits & !(REFS | OWNS | FOREIGNS)) | HALVES | STUCK;
                ((), (bits & STUCK == 0).then_some(new))
            });
        }
        prev
    }

    // ---- cancellation -----------------------------------------------------------------------

    /// Asks for cancellation (`drop`: the grace is over, too) and wakes the task so that it takes notice.
    pub(crate) fn cancel(&self, drop: bool) -> OnWake {
        let flags = if drop { CANCELLED | DROP } else { CANCELLED };
        let mut bits = self.look();
        while bits & COMPLETE == 0 && bits & flags != flags {
            let wake = if bits >= WAKES_HIGH { 0 } else { WAKE };
            match self.change(bits, (bits | flags) + wake) {
                Ok(()) if bits & WAKES == 0 => return OnWake::Enqueue,
                Ok(()) => break,
                Err(now) => bits = now,
            }
        }
        OnWake::Nothing
    }

    /// Wakes a task without holding a waker. Only for what is a cancellation in itself (a scope's body that ends because a
    /// child failed), and to have a join looked at again whose task has become an ancestor.
    pub(crate) fn nudge(&self) -> OnWake {
        self.update(|bits| {
            if bits & COMPLETE != 0 || bits >= WAKES_HIGH {
                (OnWake::Nothing, None)
            } else if bits & WAKES == 0 {
                (OnWake::Enqueue, Some(bits + WAKE))
            } else {
                (OnWake::Nothing, Some(bits + WAKE))
            }
        })
    }

    // ---- the join handle --------------------------------------------------------------------

    /// The handle has filled the joiner slot and hands it over. False if the task is complete by now: the
    /// slot stays the handle's.
    #[must_use]
    #[inline]
    pub(crate) fn set_joiner(&self) -> bool {
        let mut bits = self.0.load(Acquire);
        loop {
            assert_clear(bits, JOINER);
            if bits & COMPLETE != 0 {
                return false;
            }
            match self.change(bits, bits | JOINER) {
                Ok(()) => return true,
                Err(now) => bits = now,
            }
        }
    }

    /// What [`set_first_joiner`](State::set_first_joiner) is told, if the joiner slot is empty and the task is not complete: then it is the
    /// handle's to fill.
    #[inline]
    pub(crate) fn without_joiner(&self) -> Option<Bits> {
        let bits = self.look();
        (bits & (COMPLETE | JOINER) == 0).then_some(Bits(bits))
    }

    /// As [`set_joiner`](State::set_joiner), in one attempt. If the word is not what it was the slot stays the handle's.
    #[must_use]
    #[inline]
    pub(crate) fn set_first_joiner(&self, seen: Bits) -> bool {
        self.change(seen.0, seen.0 | JOINER).is_ok()
    }

    /// The handle takes the joiner slot back, if it is filled and the task is not complete.
    #[must_use]
    #[inline]
    pub(crate) fn take_joiner(&self) -> bool {
        self.update(|bits| {
            if bits & COMPLETE != 0 || bits & JOINER == 0 {
                (false, None)
            } else {
                (true, Some((bits & !JOINER) | REJOINED))
            }
        })
    }

    /// Whether the task is complete and the handle, which has no output to drop, is all that keeps it: then the caller must free it.
    ///
    /// Acquire: for all that was done by those who are gone.
    #[must_use]
    #[inline]
    pub(crate) fn is_handles_alone(&self) -> bool {
        Bits(self.0.load(Acquire) & !JOIN_HANDLE).is_free()
    }

    /// The handle is dropped of a task that goes on and has left no joiner, as nearly always that of one which nobody awaits. False if there
    /// is more to it: then nothing has changed.
    #[inline]
    pub(crate) fn detach(&self) -> bool {
        let bits = self.look();
        bits & (COMPLETE | JOINER) == 0 && self.change(bits, bits & !JOIN_HANDLE).is_ok()
    }

    /// The handle is dropped; `has_output` says that it has not taken the output yet.
    #[inline]
    pub(crate) fn drop_handle(&self, has_output: bool) -> OnHandleDrop {
        let mut bits = self.0.load(Acquire);
        loop {
            if bits & COMPLETE != 0 && has_output {
                return OnHandleDrop::DropOutput;
            }
            let new = bits & !JOIN_HANDLE;
            if Bits(new).is_free() {
                // Nobody else can reach the word any more: it need not be told.
                return OnHandleDrop::Free;
            }
            let (out, new) = if bits & (COMPLETE | JOINER) == JOINER {
                (OnHandleDrop::DropJoiner, (new & !JOINER) + REF)
            } else {
                (OnHandleDrop::Nothing, new)
            };
            match self.change(bits, new) {
                Ok(()) => return out,
                Err(now) => bits = now,
            }
        }
    }
}

fn assert_clear(bits: u64, flag: u64) {
    debug_assert!(bits & flag == 0, "{:?}", Bits(bits));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wake_by_value_is_one_addition_that_moves_the_count() {
        let state = State::new();
        let start = state.start_poll();
        state.clone_waker(Count::Foreign);
        assert_eq!(state.end_poll(start, false), OnPollEnd::Idle);
        assert_eq!(state.load().foreign(), 1);
        assert_eq!(state.wake(Count::Foreign), OnWake::Enqueue);
        assert_eq!(state.load().foreign(), 0);
        assert!(!state.load().is_idle());
    }

    #[test]
    fn a_poll_that_registers_nothing_is_unwakeable_at_once() {
        let state = State::new();
        let start = state.start_poll();
        assert_eq!(state.end_poll(start, false), OnPollEnd::Unwakeable);
        assert!(!state.end_record());
        assert!(state.load().is_unwakeable());
        assert_eq!(state.cancel(true), OnWake::Enqueue);
        assert!(!state.load().is_unwakeable());
    }

    #[test]
    fn a_task_in_its_grace_that_nothing_can_wake_is_stuck_at_either_edge() {
        let state = State::new();
        let start = state.start_poll();
        assert_eq!(state.cancel(false), OnWake::Nothing);
        state.clone_waker(Count::Foreign);
        assert_eq!(state.end_poll(start, false), OnPollEnd::Reschedule, "the cancel is a wake");
        let start = state.start_poll();
        assert_eq!(state.end_poll(start, false), OnPollEnd::Idle);
        assert_eq!(state.drop_waker(Count::Foreign, true), OnWakerDrop::Stuck);
        assert_eq!(state.cancel(true), OnWake::Nothing, "the edge kept a wake");
        let start = state.start_poll();
        assert!(start.drops());
        assert_eq!(state.end_poll(start, false), OnPollEnd::Idle, "said once: the grace is over");
    }

    #[test]
    fn wakes_never_wrap_and_the_runner_still_answers_them() {
        let state = State::new();
        state.clone_waker(Count::Foreign);
        let start = state.start_poll();
        for _ in 0..100_000 {
            assert_eq!(state.wake_by_ref(), OnWake::Nothing);
        }
        assert_eq!(state.load().foreign(), 1);
        assert_eq!(state.end_poll(start, false), OnPollEnd::Reschedule);
        let start = state.start_poll();
        assert_eq!(state.end_poll(start, false), OnPollEnd::Idle);
    }

    #[test]
    fn a_wake_by_value_never_comes_back_to_the_word_and_none_wraps_either() {
        let state = State::new();
        let start = state.start_poll();
        let wakes = || state.load().0 / WAKE;
        for round in 0..5 {
            for _ in 0..30_000 {
                state.clone_waker(Count::Foreign);
            }
            for _ in 0..30_000 {
                let before = wakes();
                assert_eq!(state.wake(Count::Foreign), OnWake::Nothing);
                assert_eq!(
                    wakes(),
                    before + 1,
                    "round {round}: once its count is given up the task may be gone"
                );
            }
        }
        for _ in 0..100_000 {
            state.clone_waker(Count::Own);
            assert_eq!(state.wake(Count::Own), OnWake::Nothing);
        }
        assert_eq!((state.load().own(), state.load().foreign()), (0, 0));
        assert_eq!(state.end_poll(start, false), OnPollEnd::Reschedule);
        let start = state.start_poll();
        assert_eq!(state.end_poll(start, false), OnPollEnd::Unwakeable, "all of them are answered");
    }

    #[test]
    fn a_saturated_count_sticks_and_is_never_proven() {
        let state = State::new();
        for _ in 0..100_000 {
            state.clone_waker(Count::Foreign);
        }
        let start = state.start_poll();
        assert_eq!(state.end_poll(start, false), OnPollEnd::Idle);
        for _ in 0..200_000 {
            assert_eq!(state.drop_waker(Count::Foreign, true), OnWakerDrop::Nothing);
        }
        assert!(state.load().is_idle());
        assert!(!state.load().is_unwakeable());
        assert_eq!(state.wake(Count::Foreign), OnWake::Enqueue);
        assert_eq!(state.wake(Count::Foreign), OnWake::Nothing);
    }
}
