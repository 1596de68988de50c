//! The untyped front of every task.

use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use super::backtrace::Stacks;
use super::frame;
use super::hooks::Branch;
use super::local::Locals;
use super::meta::{Record, Time};
use super::raw::{TaskRef, Vtable};
use super::reason::CancelReason;
use super::state::State;
use super::wait::Wait;
use super::waker;
use crate::loom::sync::atomic::AtomicPtr;
use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire};
use crate::loom::sync::{Mutex, MutexGuard};
use crate::report::snapshot::TaskKind;
use crate::util::linked_list::Links;

/// What only a few tasks have, out of line: 8 bytes in the header.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Arc<str>>,
    /// All waits of the last poll, if it left several.
    pub(crate) waits: Vec<Wait>,
    /// The scopes that live in this task.
    pub(crate) branches: Vec<Arc<dyn Branch>>,
    /// Set on the unwakeable edge.
    pub(crate) last_waker: Option<LastWaker>,
    /// The reason of an abort of this very task; else its scope's reason counts.
    pub(crate) cancel: Option<CancelReason>,
    /// Shields that are pending in this task: they hold off its drop.
    pub(crate) shields: Vec<ShieldNote>,
    /// It is inside `block_in_place`: where, and since when.
    pub(crate) in_place: Option<(&'static Location<'static>, u64)>,
    /// Task-local values that it inherited; taken when it ends.
    pub(crate) locals: Option<Arc<Locals>>,
    /// What polls bounded shields by need, by the shield's id: woken when the drop is due.
    pub(crate) reminders: Vec<(u64, Waker)>,
    /// The id of its span, if it has one of its own: see `trace`.
    #[cfg(feature = "tracing")]
    pub(crate) span: Option<std::num::NonZeroU64>,
    /// Stacks at which it registered wakers, if they are taken.
    pub(crate) stacks: Option<Box<Stacks>>,
}

/// A pending shield, for the runner and for reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShieldNote {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) site: &'static Location<'static>,
    pub(crate) since_ms: u64,
}

/// Who dropped the last waker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastWaker {
    NeverRegistered,
    Task { id: u64, spawned_at: &'static Location<'static>, last_wait: Option<&'static Location<'static>> },
    Thread,
}

/// The runner's own note on where the task is in its life, packed with its kind and list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The future is there.
    Future,
    /// The future is gone and the output stored, if somebody may take it; the task, or those below it, have not left yet.
    Ending,
}

const KIND: u32 = 0b11;
const ENDING: u32 = 1 << 2;
const LINKED: u32 = 1 << 3;
const HAS_LOCALS: u32 = 1 << 4;
const LIST: u32 = 8;

/// The runner's note in a task's record, read once: `[list: 16 | 3 | has locals: 1 | linked: 1 | ending: 1 | kind: 2]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Note(u32);

impl Note {
    #[inline]
    pub(crate) fn stage(self) -> Stage {
        if self.0 & ENDING == 0 { Stage::Future } else { Stage::Ending }
    }

    /// Any of what few tasks are: at the end, or with task-local values.
    #[inline]
    pub(crate) fn is_seldom(self) -> bool {
        self.0 & (ENDING | HAS_LOCALS) != 0
    }

    /// The list that it is in.
    #[inline]
    pub(crate) fn list(self) -> u16 {
        (self.0 >> LIST) as u16
    }

    /// It inherited task-local values; see `local`.
    #[inline]
    pub(crate) fn has_locals(self) -> bool {
        self.0 & HAS_LOCALS != 0
    }

    #[inline]
    pub(crate) fn is_linked(self) -> bool {
        self.0 & LINKED != 0
    }
}

#[repr(C)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) vtable: &'static Vtable,
    /// Place in the scope's list of children, under the list's lock.
    pub(crate) links: Links,
    /// A packed waker, or null. Owned as `state`'s `JOINER` flag says; written by the join handle alone.
    pub(crate) joiner: AtomicPtr<u8>,
    extra: AtomicPtr<Mutex<Extra>>,
    /// The record, and the runner's [`Note`] in it. Last, so that its counter of polls lies before the future.
    pub(crate) record: Record,
}

impl Header {
    /// In line at any rate: it is written to its place word by word, and not copied there from the stack. So it is complete before
    /// anybody borrows it; name and locals come after, with `dress`.
    #[inline(always)]
    pub(crate) fn new(
        vtable: &'static Vtable,
        kind: TaskKind,
        spawned_at: &'static Location<'static>,
        now: Time,
    ) -> Header {
        Header {
            state: State::new(),
            vtable,
            links: Links::new(),
            joiner: AtomicPtr::new(ptr::null_mut()),
            extra: AtomicPtr::new(ptr::null_mut()),
            record: Record::new(spawned_at, now, kind as u32),
        }
    }

    /// The name and the task-local values of a new task.
    #[cold]
    pub(super) fn dress(&self, name: Option<Arc<str>>, locals: Option<Arc<Locals>>) {
        if locals.is_some() {
            self.record.add_note(HAS_LOCALS);
        }
        let mut extra = self.extra();
        (extra.name, extra.locals) = (name, locals);
    }

    #[inline]
    pub(crate) fn kind(&self) -> TaskKind {
        match self.record.note() & KIND {
            0 => TaskKind::Async,
            1 => TaskKind::Main,
            _ => TaskKind::Blocking,
        }
    }

    #[inline]
    pub(crate) fn note(&self) -> Note {
        Note(self.record.note())
    }

    #[inline]
    pub(crate) fn set_ending(&self) {
        self.record.add_note(ENDING);
    }

    /// The future is gone, nothing is below, and nobody waits for the output: the task has only its place in the tree to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.note().stage() == Stage::Ending && !self.has_extra() && !self.state.load().has_join_handle()
    }

    #[inline]
    pub(crate) fn has_locals(&self) -> bool {
        self.note().has_locals()
    }

    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.note().is_linked()
    }

    /// Notes the list that the task is linked in. Runner only.
    pub(crate) fn set_linked(&self, list: u16) {
        self.record.add_note(LINKED | u32::from(list) << LIST);
        self.record.set_linked();
    }

    /// Whether the task that this thread is polling is this one or below it.
    #[inline]
    pub(crate) fn is_at_or_above_polled(&self) -> bool {
        // A task without branches has nothing below it: the common case ends here.
        ptr::eq(frame::header(), self) || (!self.extra.load(Acquire).is_null() && self.is_above_polled())
    }

    fn is_above_polled(&self) -> bool {
        let branches = match self.existing_extra() {
            Some(extra) if !extra.branches.is_empty() => extra.branches.clone(),
            _ => return false,
        };
        let Some(polled) = TaskRef::polled() else { return false };
        polled.owner_if_polled().is_some_and(|owner| owner.is_below(self, &branches))
    }

    /// There is an out-of-line part.
    #[inline]
    pub(crate) fn has_extra(&self) -> bool {
        !self.extra.load(Acquire).is_null()
    }

    /// The out-of-line part, if there is one.
    #[inline]
    pub(crate) fn existing_extra(&self) -> Option<MutexGuard<'_, Extra>> {
        // Acquire: pairs with the release that published the box in `extra`.
        let extra = self.extra.load(Acquire);
        // SAFETY: (I5) once set, the box lives as long as the header.
        unsafe { extra.as_ref() }.map(lock)
    }

    /// A drop is due and held off: has bounded shields polled, so that their time begins.
    pub(crate) fn remind_shields(&self) {
        let reminders = match self.existing_extra() {
            Some(mut extra) if !extra.reminders.is_empty() => std::mem::take(&mut extra.reminders),
            _ => return,
        };
        reminders.into_iter().for_each(|(_, waker)| waker::wake_foreign(waker));
    }

    /// The out-of-line part, made at first use.
    pub(crate) fn extra(&self) -> MutexGuard<'_, Extra> {
        let mut extra = self.extra.load(Acquire);
        if extra.is_null() {
            let new = Box::into_raw(Box::new(Mutex::new(Extra::default())));
            match self.extra.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire) {
                Ok(_) => extra = new,
                Err(theirs) => {
                    // SAFETY: `new` came from a box and was not published.
                    drop(unsafe { Box::from_raw(new) });
                    extra = theirs;
                }
            }
        }
        // SAFETY: (I5) once set, the box lives as long as the header.
        lock(unsafe { &*extra })
    }
}

fn lock(extra: &Mutex<Extra>) -> MutexGuard<'_, Extra> {
    // Nothing panics under this lock; a poisoned one is as good.
    extra.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Drop for Header {
    fn drop(&mut self) {
        // Acquire: pairs with the release that published the box in `extra`.
        let extra = self.extra.load(Acquire);
        if !extra.is_null() {
            // SAFETY: (I5) published once, from a box; the header is going, so nobody reads it any more.
            drop(unsafe { Box::from_raw(extra) });
        }
    }
}
