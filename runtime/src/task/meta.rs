//! The record of a task: what a report will want to know, in words that the scheduler writes anyway.
//!
//! `--cfg leakfree_norecord` removes it, so that the price of recording, footprint included, can be measured; with it go the notes
//! of waits (`frame`), the holders of locks (`facts`) and the users of channels (`channel_facts`). Only benchmarks set it.
//!
//! **Who writes.** The runner alone, with plain stores. `spawned_at` never changes, nor do the id in `task` and the time in `born`. **Who reads.** A snapshot, at any time: [`Record::read`] is the reader's half of a seqlock whose
//! version is the poll counter (see there).

use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::frame;
use super::wait::{Entry, Wait};

/// Identifies a task for the life of its process; ids are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The number, as snapshots and reports have it.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task, or none, in the word that tells it to whoever keeps record of holders and users: `[id: 61 | it is in no list: 1 | a bit for
/// them: 1 | 1]`. It is never 0, so a lock's word can be made of it. Whoever compares two may be told that one and the same task differs, once: when
/// it has come into a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskWord(pub(crate) u64);

impl TaskWord {
    pub(crate) const NONE: TaskWord = TaskWord(1);
    const NEWBORN: u64 = 4;

    #[inline]
    pub(crate) const fn of(id: u64) -> TaskWord {
        TaskWord(id << 3 | 1)
    }

    /// 0 is none.
    #[inline]
    pub(crate) const fn id(self) -> u64 {
        self.0 >> 3
    }

    /// The same, before it is in a list.
    #[cfg_attr(leakfree_norecord, allow(dead_code))]
    pub(crate) const fn newborn(self) -> TaskWord {
        TaskWord(self.0 | TaskWord::NEWBORN)
    }

    pub(crate) const fn is_newborn(self) -> bool {
        self.0 & TaskWord::NEWBORN != 0
    }
}

/// Ids are handed to threads in blocks, so that a spawn costs a local increment.
const ID_BLOCK: u64 = 1024;

/// A new task, in no list.
#[inline]
#[cfg_attr(leakfree_norecord, allow(dead_code))]
fn next_task() -> TaskWord {
    /// From one word to the next.
    const STEP: u64 = TaskWord::of(1).0 - TaskWord::of(0).0;
    frame::with_last_id(|last| {
        let mut task = last.get();
        if task & ((ID_BLOCK - 1) * STEP) == 0 {
            task = new_block();
        }
        last.set(task + STEP);
        TaskWord(task + STEP)
    })
    .unwrap_or_else(|| TaskWord(new_block() + STEP))
}

/// The word before the first one of a new block.
#[cold]
#[cfg_attr(leakfree_norecord, allow(dead_code))]
fn new_block() -> u64 {
    static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
    TaskWord::of(NEXT_BLOCK.fetch_add(ID_BLOCK, Relaxed)).newborn().0
}

/// A time on the runtime's clock as records have it: `[ms: 40 | room for what goes with it: 24]`, good for 34 years.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(u64);

impl Time {
    #[inline]
    pub(crate) const fn new(ms: u64) -> Time {
        Time(ms << 24)
    }

    #[inline]
    pub(crate) const fn ms(self) -> u64 {
        self.0 >> 24
    }
}

/// The runner's note goes with the time of the spawn.
#[cfg_attr(leakfree_norecord, allow(dead_code))]
const NOTE: u32 = (1 << 24) - 1;

/// What a snapshot reads of a record.
#[derive(Clone, Debug)]
pub(crate) struct RecordCopy {
    pub(crate) parked_ms: u64,
    pub(crate) polls: u64,
    pub(crate) first: Option<Wait>,
    pub(crate) waits: usize,
}

#[cfg(leakfree_norecord)]
pub(crate) use off::Record;
#[cfg(not(leakfree_norecord))]
pub(crate) use on::Record;

#[cfg(not(leakfree_norecord))]
mod on {
    use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use crate::loom::sync::atomic::{AtomicPtr, AtomicU64, fence};

    use super::super::wait::{HEAD, ONE};
    use super::*;

    /// The recorded words: 56 bytes.
    #[derive(Debug)]
    #[repr(C)]
    pub(crate) struct Record {
        /// A [`TaskWord`].
        task: AtomicU64,
        spawned_at: &'static Location<'static>,
        /// The [`Time`] of the spawn, and the runner's note.
        born: AtomicU64,
        /// The [`Time`] of the last park, with `[waits: 8 | own: 1 | object's tag: 7 | reason: 8]`.
        parked: AtomicU64,
        /// As in the [`Entry`] whose head `parked` ends with.
        object: AtomicU64,
        location: AtomicPtr<Location<'static>>,
        /// The last, for every poll writes to it and to the future, which comes next: mostly one line of the cache, which moves with the
        /// task from worker to worker.
        polls: AtomicU64,
    }

    impl Record {
        #[inline]
        pub(crate) fn new(spawned_at: &'static Location<'static>, now: Time, note: u32) -> Record {
            Record {
                task: AtomicU64::new(next_task().0),
                spawned_at,
                born: AtomicU64::new(now.0 | u64::from(note)),
                polls: AtomicU64::new(0),
                parked: AtomicU64::new(0),
                object: AtomicU64::new(0),
                location: AtomicPtr::new(std::ptr::null_mut()),
            }
        }

        /// The runner's note; see `Header`.
        #[inline]
        pub(crate) fn note(&self) -> u32 {
            self.born.load(Relaxed) as u32 & NOTE
        }

        /// Adds to the note; what is in it stays. Runner only.
        #[inline]
        pub(crate) fn add_note(&self, note: u32) {
            debug_assert_eq!(note & !NOTE, 0);
            self.born.store(self.born.load(Relaxed) | u64::from(note), Relaxed);
        }

        #[inline]
        pub(crate) fn id(&self) -> TaskId {
            TaskId(self.task().id())
        }

        /// The same in a word.
        #[inline]
        pub(crate) fn task(&self) -> TaskWord {
            TaskWord(self.task.load(Relaxed))
        }

        /// The task is in a list now. Runner only.
        #[inline]
        pub(crate) fn set_linked(&self) {
            self.task.store(self.task.load(Relaxed) & !TaskWord::NEWBORN, Relaxed);
        }

        #[inline]
        pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
            self.spawned_at
        }

        pub(crate) fn born_ms(&self) -> u64 {
            Time(self.born.load(Relaxed)).ms()
        }

        #[inline]
        pub(crate) fn polls(&self) -> u64 {
            self.polls.load(Relaxed)
        }

        /// A poll begins, or a turn that will end in `park` without one. Runner only.
        #[inline]
        pub(crate) fn start_poll(&self) {
            // One writer: a load and a store are enough. Release: pairs with the acquire in `read`.
            // SAFETY: the runner alone stores to it, and each runner is ordered after the one before.
            let polls = unsafe { crate::loom::own_load(&self.polls) };
            self.polls.store(polls + 1, Release);
            // Pairs with the acquire fence in `read`: whoever sees an entry of this poll sees the
            // counter, too, and throws its copy away.
            fence(Release);
        }

        /// The current poll waits: if it leaves no other wait than this, the park is written down with it. Runner only.
        #[inline]
        pub(crate) fn park(&self, now: Time, wait: Entry) {
            self.store(now.0 | u64::from(wait.head), wait);
        }

        /// A poll ended `Pending` without a wait that is known. Runner only.
        #[inline]
        pub(crate) fn park_unknown(&self, now: Time) {
            self.parked.store(now.0, Relaxed);
        }

        /// A poll ended `Pending` with so many waits, of which this is the first. Runner only.
        pub(crate) fn park_in_several(&self, now: Time, first: Entry, waits: usize) {
            let n = waits.min(255) as u32;
            self.store(now.0 | u64::from((n * ONE) | (first.head & HEAD)), first);
        }

        #[inline]
        fn store(&self, parked: u64, first: Entry) {
            self.object.store(first.object, Relaxed);
            self.location.store(std::ptr::from_ref(first.location).cast_mut(), Relaxed);
            self.parked.store(parked, Relaxed);
        }

        /// What the current poll has noted here. Runner only.
        pub(crate) fn noted(&self) -> Option<Entry> {
            let head = self.parked.load(Relaxed) as u32 & HEAD;
            let object = self.object.load(Relaxed);
            // SAFETY: (I6) null or a `&'static Location`; one writer, and it is us.
            let location = unsafe { self.location.load(Relaxed).as_ref() }?;
            (head != 0).then_some(Entry { head: ONE | head, object, location })
        }

        /// The words of the last park, in one piece, or `None` if a poll began meanwhile. `idle` is asked
        /// before and after; it must load the state word with Acquire.
        ///
        /// The counter comes first. Acquire: pairs with the release in `start_poll`, so what `idle` is asked is no older than
        /// the wake that this poll answers. If it says idle, it acquires the end of this poll, or a later one, and so all its
        /// stores. The last load of the counter says that there was no later one, for in between a new poll stores its
        /// counter before its entries, with a release fence: if we read any of them, the fence here makes the counter
        /// visible and the copy is dropped. (Were the counter read after `idle`, it could be that of a new poll, and the
        /// entries of two.)
        pub(crate) fn read(&self, mut idle: impl FnMut() -> bool) -> Option<RecordCopy> {
            let polls = self.polls.load(Acquire);
            if !idle() {
                return None;
            }
            let word = self.parked.load(Relaxed);
            let object = self.object.load(Relaxed);
            let location = self.location.load(Relaxed);
            fence(Acquire);
            if !idle() || self.polls.load(Relaxed) != polls {
                return None;
            }
            // SAFETY: (I6) null or a `&'static Location`.
            let first = unsafe { location.as_ref() }.and_then(|location| {
                // SAFETY: (I6) the three were stored from one entry: the check above says that they are of one and the same park.
                unsafe { Entry { head: word as u32, object, location }.unpack() }
            });
            Some(RecordCopy {
                parked_ms: Time(word).ms(),
                polls,
                first,
                waits: (word as u32 / ONE) as usize & 0xff,
            })
        }

        /// When the task last began to wait, if it has. Runner only.
        pub(crate) fn last_parked_ms(&self) -> Option<u64> {
            Some(self.parked.load(Relaxed)).filter(|parked| *parked != 0).map(|parked| Time(parked).ms())
        }

        /// Where the task last began to wait, in this poll or before, for the report on another task. Runner only.
        pub(crate) fn last_wait(&self) -> Option<&'static Location<'static>> {
            let location = self.location.load(Relaxed);
            // SAFETY: (I6) only ever null or a `&'static Location`; one writer, and it is us.
            unsafe { location.as_ref() }
        }
    }
}

#[cfg(leakfree_norecord)]
mod off {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Nothing is recorded; the runner's note stays.
    #[derive(Debug)]
    pub(crate) struct Record(AtomicU32);

    impl Record {
        #[inline]
        pub(crate) fn new(_: &'static Location<'static>, _: Time, note: u32) -> Record {
            Record(AtomicU32::new(note))
        }
        /// The runner's note; see `Header`.
        #[inline]
        pub(crate) fn note(&self) -> u32 {
            self.0.load(Relaxed)
        }

        /// Adds to the note; what is in it stays. Runner only.
        #[inline]
        pub(crate) fn add_note(&self, note: u32) {
            self.0.store(self.note() | note, Relaxed);
        }

        #[inline]
        pub(crate) fn id(&self) -> TaskId {
            TaskId(0)
        }
        #[inline]
        pub(crate) fn task(&self) -> TaskWord {
            TaskWord::NONE
        }
        pub(crate) fn set_linked(&self) {}
        #[inline]
        pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
            Location::caller()
        }
        pub(crate) fn born_ms(&self) -> u64 {
            0
        }
        #[inline]
        pub(crate) fn polls(&self) -> u64 {
            0
        }
        pub(crate) fn start_poll(&self) {}
        pub(crate) fn park(&self, _: Time, _: Entry) {}
        pub(crate) fn noted(&self) -> Option<Entry> {
            None
        }
        pub(crate) fn park_unknown(&self, _: Time) {}
        pub(crate) fn park_in_several(&self, _: Time, _: Entry, _: usize) {}
        pub(crate) fn read(&self, mut idle: impl FnMut() -> bool) -> Option<RecordCopy> {
            idle().then_some(RecordCopy { parked_ms: 0, polls: 0, first: None, waits: 0 })
        }
        pub(crate) fn last_parked_ms(&self) -> Option<u64> {
            None
        }
        pub(crate) fn last_wait(&self) -> Option<&'static Location<'static>> {
            None
        }
    }
}
