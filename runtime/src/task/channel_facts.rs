//! What is known of a channel that tasks wait for: how many handles each end has, and who used each end last, where.
//!
//! A channel lies in memory of the user's types, which a snapshot must not read. So from the first time that somebody parks
//! on it, it has a [`Slot`]: a few words in memory that is never freed, only used again, which the channel keeps up to date
//! under its own lock, and which snapshots find by its id. A slot costs a push and a pop of a free list.
//!
//! - **C1** A slot's words are written by one at a time: its channel, under the channel's lock, or whoever took it from
//!   the free list. A site word is null or a `&'static Location`.
//! - **C2** While a task waits on the channel, the slot says who used the other end last: all is told when it parks, and from then on each use
//!   that does not wake it under the same lock. So a use that nobody waits for, or that wakes who does, is written down in the channel alone.

use std::panic::Location;
use std::ptr;

use super::facts::{Hand, HandWords};
use super::seq::Seq;
use super::wait::Object;
use crate::loom::sync::atomic::Ordering::Relaxed;
use crate::loom::sync::atomic::{AtomicPtr, AtomicU64};

/// Who used an end of a channel, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct User {
    /// The task's id; 0 outside a task.
    pub(crate) task: u64,
    pub(crate) site: &'static Location<'static>,
}

/// The two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Sender = 0,
    Receiver = 1,
}

/// What a channel keeps of itself, under its own lock.
#[derive(Debug)]
pub(crate) struct ChannelRecord {
    users: [Hand; 2],
    /// Taken when somebody first parks.
    slot: Option<&'static Slot>,
}

impl ChannelRecord {
    pub(crate) const fn new() -> ChannelRecord {
        ChannelRecord { users: [Hand::NOBODY; 2], slot: None }
    }

    /// An end is used, and (C2) nobody waits for that whom the caller does not wake under this same lock.
    #[inline]
    pub(crate) fn used_unwatched(&mut self, end: End, user: Hand) {
        // Two stores: comparing them with what is there takes longer.
        if !cfg!(leakfree_norecord) {
            self.users[end as usize] = user;
        }
    }

    /// An end is used.
    #[inline]
    pub(crate) fn used(&mut self, end: End, user: Hand) {
        // Who uses it again and again is told once.
        if !self.users[end as usize].is_alike(user) {
            self.used_anew(end, user);
        }
    }

    // Out of the way of those who use it again.
    #[inline(never)]
    fn used_anew(&mut self, end: End, user: Hand) {
        self.users[end as usize] = user;
        if let Some(slot) = self.slot {
            slot.tell(end, user);
        }
    }

    /// An end has that many handles now.
    #[inline]
    pub(crate) fn set_handles(&mut self, end: End, handles: usize) {
        if let Some(slot) = self.slot {
            slot.write(|| slot.handles[end as usize].store(handles as u64, Relaxed));
        }
    }

    /// Snapshots can see this channel.
    pub(crate) fn is_published(&self) -> bool {
        self.slot.is_some()
    }

    /// The object of a wait; known by its creation point until somebody has parked.
    pub(crate) fn object(&self, created: &'static Location<'static>) -> Object {
        match self.slot {
            Some(slot) => Object::Channel(slot.id.load(Relaxed)),
            None => Object::Created(created),
        }
    }

    /// Somebody parks: the object of the wait. `handles` are the senders and the receivers.
    #[inline]
    pub(crate) fn parked(&mut self, created: &'static Location<'static>, handles: [usize; 2]) -> Object {
        if cfg!(leakfree_norecord) {
            return Object::Created(created);
        }
        match self.slot {
            Some(slot) => {
                slot.tell(End::Sender, self.users[End::Sender as usize]);
                slot.tell(End::Receiver, self.users[End::Receiver as usize]);
            }
            None => self.publish(created, handles),
        }
        self.object(created)
    }

    #[inline(never)]
    fn publish(&mut self, created: &'static Location<'static>, handles: [usize; 2]) {
        self.slot = slots::take();
        if let Some(slot) = self.slot {
            slot.write(|| {
                slot.id.store(slot.id.load(Relaxed).wrapping_add(GENERATION), Relaxed);
                slot.created.store(ptr::from_ref(created).cast_mut(), Relaxed);
                for end in [End::Sender as usize, End::Receiver as usize] {
                    slot.handles[end].store(handles[end] as u64, Relaxed);
                    slot.users[end].set(self.users[end]);
                }
            });
        }
    }
}

impl Drop for ChannelRecord {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.write(|| slot.created.store(ptr::null_mut(), Relaxed));
            slots::give_back(slot);
        }
    }
}

/// A copy for a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChannelCopy {
    pub(crate) created: &'static Location<'static>,
    pub(crate) senders: u64,
    pub(crate) receivers: u64,
    pub(crate) last_sender: Option<User>,
    pub(crate) last_receiver: Option<User>,
    /// Counts the changes.
    pub(crate) version: u64,
}

/// The facts of that channel; `None` if it is gone, or does not come to rest.
pub(crate) fn copy(id: u64) -> Option<ChannelCopy> {
    let slot = slots::find(id as u32)?;
    let ((copy, found), version) = slot.seq.read(|| (slot.read(), slot.id.load(Relaxed)))?;
    copy.filter(|_| found == id).map(|copy| ChannelCopy { version, ..copy })
}

/// One channel's facts, read by snapshots at any time.
#[derive(Debug, Default)]
struct Slot {
    seq: Seq,
    /// `[generation: 32 | index: 32]`.
    id: AtomicU64,
    /// Null while the slot is free.
    created: AtomicPtr<Location<'static>>,
    handles: [AtomicU64; 2],
    users: [HandWords; 2],
}

const GENERATION: u64 = 1 << 32;

impl Slot {
    #[inline]
    fn write(&self, stores: impl FnOnce()) {
        // (C1) One writer.
        self.seq.write(stores);
    }

    /// Who used an end last. What is said already is no change, and makes no new version.
    fn tell(&self, end: End, user: Hand) {
        let words = &self.users[end as usize];
        if !words.get().is_alike(user) {
            self.write(|| words.set(user));
        }
    }

    fn user(&self, end: End) -> Option<User> {
        self.users[end as usize].get().id_and_site().map(|(task, site)| User { task, site })
    }

    fn read(&self) -> Option<ChannelCopy> {
        // SAFETY: (C1) null or a `&'static Location`.
        let created = unsafe { self.created.load(Relaxed).as_ref() }?;
        Some(ChannelCopy {
            created,
            senders: self.handles[End::Sender as usize].load(Relaxed),
            receivers: self.handles[End::Receiver as usize].load(Relaxed),
            last_sender: self.user(End::Sender),
            last_receiver: self.user(End::Receiver),
            version: 0,
        })
    }
}

// ---- where slots come from ----------------------------------------------------------------------

#[cfg(not(loom))]
mod slots {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

    use super::*;

    /// Slots in the first chunk; each further chunk has twice as many as the one before.
    pub(super) const FIRST_CHUNK: usize = 64;

    static CHUNKS: [OnceLock<Box<[Slot]>>; 25] = [const { OnceLock::new() }; 25];

    /// Free slots, but for those that threads keep for themselves.
    static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

    /// So many go to a thread or come from it at once, and twice as many it keeps at the most.
    const BATCH: usize = 64;

    /// A thread's own free slots.
    struct Own(RefCell<Vec<&'static Slot>>);

    impl Drop for Own {
        fn drop(&mut self) {
            free().append(self.0.get_mut());
        }
    }

    thread_local! {
        static OWN: Own = const { Own(RefCell::new(Vec::new())) };
    }

    fn free() -> MutexGuard<'static, Vec<&'static Slot>> {
        FREE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk of an index, and the place in it.
    pub(super) fn locate(index: u32) -> (usize, usize) {
        let chunk = (index as usize / FIRST_CHUNK + 1).ilog2() as usize;
        (chunk, index as usize - FIRST_CHUNK * ((1 << chunk) - 1))
    }

    pub(super) fn find(index: u32) -> Option<&'static Slot> {
        let (chunk, at) = locate(index);
        CHUNKS.get(chunk)?.get()?.get(at)
    }

    /// A slot that belongs to the caller; `None` beyond two thousand million.
    #[inline]
    pub(super) fn take() -> Option<&'static Slot> {
        OWN.try_with(|own| own.0.borrow_mut().pop()).ok().flatten().or_else(fetch)
    }

    #[cold]
    fn fetch() -> Option<&'static Slot> {
        let mut batch = {
            let mut free = free();
            let left = free.len().saturating_sub(BATCH);
            free.split_off(left)
        };
        let slot = batch.pop().or_else(grow);
        // A thread that ends gives what it has back at the end of its locals.
        if OWN.try_with(|own| own.0.borrow_mut().append(&mut batch)).is_err() {
            free().append(&mut batch);
        }
        slot
    }

    #[cold]
    fn grow() -> Option<&'static Slot> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let index = NEXT.fetch_update(Relaxed, Relaxed, |index| index.checked_add(1)).ok()?;
        let (chunk, at) = locate(index);
        let slots = CHUNKS.get(chunk)?.get_or_init(|| {
            let start = index as usize - at;
            let slot = |at: usize| Slot { id: AtomicU64::new((start + at) as u64), ..Slot::default() };
            (0..FIRST_CHUNK << chunk).map(slot).collect()
        });
        slots.get(at)
    }

    /// The slot belongs to nobody any more.
    #[inline]
    pub(super) fn give_back(slot: &'static Slot) {
        let kept = OWN.try_with(|own| {
            let mut own = own.0.borrow_mut();
            own.push(slot);
            own.len()
        });
        match kept {
            Ok(kept) if kept < 2 * BATCH => {}
            Ok(_) => spill(),
            Err(_) => free().push(slot),
        }
    }

    #[cold]
    fn spill() {
        let _ = OWN.try_with(|own| {
            let mut own = own.0.borrow_mut();
            free().extend(own.drain(..BATCH));
        });
    }
}

/// loom's atomics live no longer than an execution: each channel has a slot of its own.
#[cfg(loom)]
mod slots {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        // One thread of the system's runs all threads of a model.
        static SLOTS: RefCell<Vec<&'static Slot>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn find(index: u32) -> Option<&'static Slot> {
        SLOTS.with_borrow(|slots| slots.get(index as usize).copied())
    }

    pub(super) fn take() -> Option<&'static Slot> {
        SLOTS.with_borrow_mut(|slots| {
            let slot = Slot { id: AtomicU64::new(slots.len() as u64), ..Slot::default() };
            slots.push(Box::leak(Box::new(slot)));
            slots.last().copied()
        })
    }

    pub(super) fn give_back(_: &'static Slot) {}
}

#[cfg(all(test, not(loom), not(leakfree_norecord)))]
mod tests {
    use super::slots::{FIRST_CHUNK, locate};
    use super::*;

    #[test]
    fn every_index_has_its_place() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(locate(index), expected);
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn a_channel_is_seen_from_its_first_park_to_its_end_and_its_slot_is_used_again() {
        let here = Location::caller();
        let mut record = ChannelRecord::new();
        record.used(End::Sender, Hand::polled(here));
        assert_eq!(record.object(here), Object::Created(here));
        let Object::Channel(id) = record.parked(here, [2, 1]) else { panic!("published") };
        let first = copy(id).unwrap();
        assert_eq!((first.created, first.senders, first.receivers), (here, 2, 1));
        assert_eq!((first.last_sender, first.last_receiver), (Some(User { task: 0, site: here }), None));
        record.used(End::Receiver, Hand::polled(here));
        record.set_handles(End::Sender, 3);
        let second = copy(id).unwrap();
        assert_eq!((second.senders, second.last_receiver), (3, first.last_sender));
        assert_ne!(second.version, first.version);
        drop(record);
        assert_eq!(copy(id), None);
        let again: Vec<ChannelRecord> = (0..100)
            .map(|_| {
                let mut record = ChannelRecord::new();
                assert_ne!(record.parked(here, [1, 1]), Object::Channel(id), "ids are not used again");
                record
            })
            .collect();
        drop(again);
        assert_eq!(copy(id), None);
    }
}
