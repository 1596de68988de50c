//! Who has the lock, and where that was taken, in two words: taken and let go in one exchange each while nobody waits.
//!
//! ```text
//!            1 try_take                  3 queue
//!   free ---------------> held by X ---------------> queued
//!    ^  <---------------                               |
//!    |       2 try_free                                |  (4 handed on from waiter to waiter)
//!    +-------------------------------------------------+
//!                            5 free
//! ```
//!
//! From 3 to 5 the word does not change, and the queue's record says who has the lock. 3 and 5 are done under the queue's mutex, 1 and 2
//! by anybody.
//!
//! The word says which task took it, a second one beside it where. That is written after step 1 and wiped before step 2, so who finds the
//! lock held in step 3 finds the place of this very hold, or none yet and looks again: its holder is between two instructions.
//!
//! **M2** A place is [`NOWHERE`], [`LEAVING`] or the address of a `&'static Location`, exposed.

use std::panic::Location;
use std::ptr;

use crate::loom::spin_loop;
use crate::loom::sync::StaticAtomicU64;
use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::task::facts::Hand;
use crate::task::meta::TaskWord;
use crate::util::lock::NAP;

const FREE: u64 = 0;
/// The queue's record says who has the lock.
const QUEUED: u64 = 1 << 63;
/// The lock is free, or has just been taken, or is just let go.
const NOWHERE: u64 = 0;
/// Its holder is about to ask the queue, to whom it goes.
const LEAVING: u64 = 1;

/// How often a lock that is held is looked at before its future queues, and how many pauses lie between: a microsecond or so, as long as
/// parking and waking take.
#[cfg(not(loom))]
const LOOKS: u32 = 10;
#[cfg(not(loom))]
const PAUSES: u32 = 4;

/// How often a place that is not there yet is looked for, and how many naps come between two looks after that: some 10 ms, then nobody knows.
const PLACE_LOOKS: u32 = if cfg!(loom) { u32::MAX } else { 100 };
const PLACE_NAPS: u32 = 100;

/// What was found by whoever wants to queue.
#[must_use]
pub(crate) enum OnQueue {
    /// The lock was free, and is the caller's now: put it on record.
    Taken,
    /// It is held by that one: put it on record.
    HeldBy(Hand),
    /// The record says who has it.
    OnRecord,
}

pub(crate) struct Word {
    word: StaticAtomicU64,
    /// Where it was taken, while nobody is queued.
    place: StaticAtomicU64,
}

impl Word {
    pub(crate) const fn new() -> Word {
        Word { word: StaticAtomicU64::new(FREE), place: StaticAtomicU64::new(NOWHERE) }
    }

    #[inline]
    fn set_place(&self, place: u64) {
        if !cfg!(leakfree_norecord) {
            self.place.store(place, Relaxed);
        }
    }

    /// Step 1. Takes the lock, if it is free.
    #[inline]
    pub(crate) fn try_take(&self, hand: Hand) -> bool {
        // Acquire: pairs with the release in `try_free` and `free`. What was written under the lock is seen.
        let taken = self.word.compare_exchange(FREE, hand.task().0, Acquire, Relaxed).is_ok();
        if taken {
            self.set_place(hand.address().expose_provenance() as u64);
        }
        taken
    }

    /// Step 1, for a lock that was found held. Its holder may be about to let it go on another worker: that is sooner than to be parked and
    /// woken, and once somebody is queued, all who come after must be, too. False as soon as somebody is.
    #[cfg(not(loom))]
    pub(super) fn try_take_soon(&self, hand: Hand) -> bool {
        for _ in 0..LOOKS {
            // A load: an attempt takes the line away from the holder.
            match self.word.load(Relaxed) {
                FREE if self.try_take(hand) => return true,
                word if word & QUEUED != 0 => return false,
                _ => (0..PAUSES).for_each(|_| std::hint::spin_loop()),
            }
        }
        false
    }

    /// Step 2. Lets the lock go, which is the caller's. False if its queue must be asked.
    #[inline]
    pub(crate) fn try_free(&self) -> bool {
        let held = self.word.load(Relaxed);
        if held & QUEUED != 0 {
            return false;
        }
        self.set_place(NOWHERE);
        // Release: pairs with the acquire of who takes it, and of who queues behind that one: it does not see our place any more.
        let freed = self.word.compare_exchange(held, FREE, Release, Relaxed).is_ok();
        if !freed {
            self.set_place(LEAVING);
        }
        freed
    }

    /// Step 3. From here on whoever has the lock asks the queue when it lets go: it cannot take the queue's mutex before the caller, who
    /// has it, is in the queue.
    #[inline]
    pub(crate) fn queue(&self) -> OnQueue {
        loop {
            let word = self.word.load(Relaxed);
            if word & QUEUED != 0 {
                return OnQueue::OnRecord;
            }
            // Acquire: as in `try_take`, if it was free.
            if self.word.compare_exchange(word, word | QUEUED, Acquire, Relaxed).is_ok() {
                return if word == FREE { OnQueue::Taken } else { OnQueue::HeldBy(self.holder(word)) };
            }
        }
    }

    /// Who has it by that word, to which [`QUEUED`] has just been added.
    #[cold]
    fn holder(&self, word: u64) -> Hand {
        let mut looks = 0;
        while !cfg!(leakfree_norecord) {
            // M2 (the place) is of this hold: see above.
            match self.place.load(Relaxed) {
                // Its thread is in `try_take` or in `try_free`, and needs no lock to get on.
                NOWHERE if looks < PLACE_LOOKS => {
                    looks += 1;
                    spin_loop();
                }
                // It may have been preempted, perhaps by us.
                NOWHERE if looks < PLACE_LOOKS.saturating_add(PLACE_NAPS) => {
                    looks += 1;
                    std::thread::sleep(NAP);
                }
                NOWHERE | LEAVING => break,
                place => {
                    // SAFETY: (M2) it is neither of the two others.
                    let site = unsafe { &*ptr::with_exposed_provenance::<Location<'static>>(place as usize) };
                    return Hand::by(TaskWord(word), site);
                }
            }
        }
        Hand::UNKNOWN
    }

    /// Step 5. Nobody waits and nobody holds it: the caller has the queue's mutex.
    pub(crate) fn free(&self) {
        self.set_place(NOWHERE);
        // Release: pairs with the acquire of who takes it, and of who queues behind that one.
        self.word.store(FREE, Release);
    }
}

#[cfg(all(test, not(loom), not(leakfree_norecord)))]
mod tests {
    use super::*;
    use crate::task::facts::Holder;
    use crate::task::meta::TaskId;

    #[test]
    fn who_queues_is_told_the_holder() {
        let here = Location::caller();
        for owned in [false, true] {
            for id in [1, 77, u64::MAX >> 4] {
                let holder = Holder::Task { id: TaskId(id), site: here, owned };
                let word = Word::new();
                assert!(word.try_take(holder.into()));
                assert!(matches!(word.queue(), OnQueue::HeldBy(found) if found.holder() == Some(holder)));
            }
        }
        let word = Word::new();
        assert!(word.try_take(Hand::UNKNOWN));
        assert!(matches!(word.queue(), OnQueue::HeldBy(found) if found.holder() == Some(Holder::Unknown)));
    }

    #[test]
    fn the_word_goes_round() {
        let word = Word::new();
        let here = Location::caller();
        let hand = Hand::from(Holder::Task { id: TaskId(5), site: here, owned: false });
        assert!(word.try_take(hand) && !word.try_take(hand));
        assert!(word.try_free());
        assert!(matches!(word.queue(), OnQueue::Taken));
        assert!(!word.try_take(hand) && !word.try_free());
        assert!(matches!(word.queue(), OnQueue::OnRecord));
        word.free();
        assert!(word.try_take(hand));
        assert!(matches!(word.queue(), OnQueue::HeldBy(found) if found.is_alike(hand)));
        assert!(!word.try_free());
        word.free();
        assert!(word.try_take(Hand::UNKNOWN));
    }
}
