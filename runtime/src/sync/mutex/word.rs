//! Who has the lock, in one word: taken and let go in one exchange each while nobody waits.
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
//! **M2** A word that is held says who took the lock, and where, unless that is unknown: the place is a `&'static Location`, as its
//! distance from one of ours.

use std::panic::Location;
use std::ptr;

use crate::loom::sync::StaticAtomicU64;
use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::task::facts::Holder;
use crate::task::meta::TaskId;

const FREE: u64 = 0;
/// The queue's record says who has the lock.
const QUEUED: u64 = 1 << 63;
/// By an owned guard.
const OWNED: u64 = 1 << 62;
/// The distance takes so many bits, the task's id what is below: it is good for a million million tasks.
const SITE_BITS: u32 = 22;
const ID_BITS: u32 = 62 - SITE_BITS;
const ID: u64 = (1 << ID_BITS) - 1;
/// In the place of an id: nobody knows. Ids begin at 1, so that it is not free without one.
const UNKNOWN: u64 = ID;

/// How often a lock that is held is looked at before its future queues, and how many pauses lie between. It is a microsecond or less, as long as
/// parking and waking take.
#[cfg(not(loom))]
const LOOKS: u32 = 10;
#[cfg(not(loom))]
const PAUSES: u32 = 4;

/// From here distances are measured.
static ORIGIN: &Location<'static> = Location::caller();

/// What a location's address is a multiple of.
const STEP: isize = align_of::<Location<'static>>() as isize;

/// Says who has the lock in a word; `None` if there is no room for it.
#[inline]
fn pack(holder: Holder) -> Option<u64> {
    let Holder::Task { id, site, owned } = holder else { return Some(UNKNOWN) };
    let (site, origin) = (ptr::from_ref(site).expose_provenance(), ptr::from_ref(ORIGIN).addr());
    let steps = (site as isize).wrapping_sub(origin as isize) / STEP;
    let shifted = steps.wrapping_add(1 << (SITE_BITS - 1));
    if shifted as usize >= 1 << SITE_BITS || id.0 >= UNKNOWN {
        return None;
    }
    Some(if owned { OWNED } else { 0 } | (shifted as u64) << ID_BITS | id.0)
}

fn unpack(word: u64) -> Holder {
    let id = word & ID;
    if id == UNKNOWN {
        return Holder::Unknown;
    }
    let shifted = (word & !(OWNED | QUEUED)) >> ID_BITS;
    let steps = shifted as isize - (1 << (SITE_BITS - 1));
    let site = ptr::from_ref(ORIGIN).addr().wrapping_add_signed(steps * STEP);
    // SAFETY: (M2) `pack` was given a `&'static Location` at that distance, and exposed it.
    let site = unsafe { &*ptr::with_exposed_provenance::<Location<'static>>(site) };
    Holder::Task { id: TaskId(id), site, owned: word & OWNED != 0 }
}

/// What was found by whoever wants to queue.
#[must_use]
pub(super) enum OnQueue {
    /// The lock was free, and is the caller's now: put it on record.
    Taken,
    /// It is held by that one: put it on record.
    HeldBy(Holder),
    /// The record says who has it.
    OnRecord,
}

pub(super) struct Word(StaticAtomicU64);

impl Word {
    pub(super) const fn new() -> Word {
        Word(StaticAtomicU64::new(FREE))
    }

    /// Step 1. Takes the lock, if it is free and the word has room to say who does.
    #[inline]
    pub(super) fn try_take(&self, holder: Holder) -> bool {
        let Some(held) = pack(holder) else { return false };
        // Acquire: pairs with the release in `try_free` and `free`. What was written under the lock is seen.
        self.0.compare_exchange(FREE, held, Acquire, Relaxed).is_ok()
    }

    /// Step 1, for a lock that was found held. Its holder may be about to let it go on another worker: that is sooner than to be parked and
    /// woken, and once somebody is queued, all who come after must be, too. False as soon as somebody is.
    #[cfg(not(loom))]
    pub(super) fn try_take_soon(&self, holder: Holder) -> bool {
        for _ in 0..LOOKS {
            if self.try_take(holder) {
                return true;
            }
            if self.0.load(Relaxed) & QUEUED != 0 {
                return false;
            }
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Whether nobody has it now.
    pub(super) fn is_free(&self) -> bool {
        self.0.load(Relaxed) == FREE
    }

    /// Step 2. Lets the lock go, which is the caller's. False if its queue must be asked.
    #[inline]
    pub(super) fn try_free(&self) -> bool {
        let held = self.0.load(Relaxed);
        // Release: pairs with the acquire of who takes it.
        held & QUEUED == 0 && self.0.compare_exchange(held, FREE, Release, Relaxed).is_ok()
    }

    /// Step 3. From here on whoever has the lock asks the queue when it lets go: it cannot take the queue's mutex before the caller, who
    /// has it, is in the queue.
    pub(super) fn queue(&self) -> OnQueue {
        loop {
            let word = self.0.load(Relaxed);
            if word & QUEUED != 0 {
                return OnQueue::OnRecord;
            }
            // Acquire: as in `try_take`, if it was free.
            if self.0.compare_exchange(word, word | QUEUED, Acquire, Relaxed).is_ok() {
                return if word == FREE { OnQueue::Taken } else { OnQueue::HeldBy(unpack(word)) };
            }
        }
    }

    /// Step 5. Nobody waits and nobody holds it: the caller has the queue's mutex.
    pub(super) fn free(&self) {
        // Release: pairs with the acquire of who takes it.
        self.0.store(FREE, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    #[test]
    fn a_holder_fits_into_a_word_with_its_place_or_does_not() {
        let here = Location::caller();
        for owned in [false, true] {
            for id in [1, 77, UNKNOWN - 1] {
                let holder = Holder::Task { id: TaskId(id), site: here, owned };
                let word = pack(holder).expect("near enough");
                assert!(word != FREE && word & QUEUED == 0);
                assert!(unpack(word).is_alike(holder) && unpack(word | QUEUED).is_alike(holder));
            }
            assert_eq!(pack(Holder::Task { id: TaskId(UNKNOWN), site: here, owned }), None);
        }
        assert_eq!(pack(Holder::Unknown).map(unpack), Some(Holder::Unknown));
        static FAR: OnceLock<Box<Location<'static>>> = OnceLock::new();
        let far: &Location<'_> = FAR.get_or_init(|| Box::new(*here));
        let holder = Holder::Task { id: TaskId(1), site: far, owned: false };
        assert!(pack(holder).is_none_or(|word| unpack(word).is_alike(holder)));
    }

    #[test]
    fn the_word_goes_round() {
        let word = Word::new();
        let here = Location::caller();
        let holder = Holder::Task { id: TaskId(5), site: here, owned: false };
        assert!(word.try_take(holder) && !word.try_take(holder));
        assert!(word.try_free());
        assert!(matches!(word.queue(), OnQueue::Taken));
        assert!(!word.try_take(holder) && !word.try_free());
        assert!(matches!(word.queue(), OnQueue::OnRecord));
        word.free();
        assert!(word.try_take(holder));
        assert!(matches!(word.queue(), OnQueue::HeldBy(found) if found.is_alike(holder)));
        assert!(!word.try_free());
        word.free();
        assert!(word.try_take(Holder::Unknown));
    }
}
