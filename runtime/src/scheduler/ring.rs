//! A worker's own queue: a ring that its owner pushes to at one end, and that owner and thieves take from at the other, oldest first.
//!
//! ```text
//!            head           tail
//!             |              |
//!    . . . . [a][b][c][d][e] . . . .      places are numbered for ever; each lies in the slot of its number modulo the size
//!             ^              ^
//!   taken by a compare       written and moved by the
//!   and exchange, by the     owner alone: two stores
//!   owner one at a time, by
//!   thieves half of what is there
//! ```
//!
//! | who | does | what makes it right |
//! |-----|------|---------------------|
//! | owner, push | fills the slot of `tail`, then `tail + 1` | nobody reads from `tail` on, and the slot's last place is before a `head` that the owner has seen |
//! | owner, pop  | `head + 1` by exchange, then reads the slot | nobody else writes slots, and whose exchange it was has the place |
//! | thief       | reads the slots of `head..head + n`, then `head + n` by exchange | if `head` is still what it was, none of the places was taken, so none of the slots filled anew |
//! | owner, full | copies `head..tail` to a ring twice the size, then has `buffer` point to it | the old one stays as it is, for thieves that look into it |
//! | owner, empty and before its sleep | has `buffer` point to a small ring | a thief that finds no place of before in it finds `head` moved: there are none left |
//!
//! **Q1** A buffer that was replaced hangs behind the one that came in its place, and all of them together are less than twice the last: up to the end
//! of the queue, or until a small one comes. Then they are [`Outgrown`], and freed when nobody is in `steal` who began before. Whoever is in there is
//! counted as searching ([`Searching`]), so [`Idle`](super::idle::Idle) knows when that is: thieves pay nothing for it.
//!
//! **Q2** A slot is written by the owner only, and only where its place before this one, a lap ago, is below a `head` that the owner has acquired.
//! So a thief that read a slot too late finds `head` moved.
//!
//! What lies in it is a word that is not null, and nothing here knows what it points to. The queue is not bounded, but by the number of tasks; a
//! worker that sleeps keeps [`KEPT`] slots at most. One that never sleeps again keeps what it once needed.

use std::cell::Cell;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::idle::Searching;
use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::sync::atomic::{AtomicPtr, AtomicU64};

/// What is queued.
pub(crate) type Item = NonNull<()>;

/// Slots of the first buffer; a power of two, as all are.
const SLOTS: u64 = if cfg!(loom) { 2 } else { 256 };
/// A larger buffer is not kept over a sleep: 8 KiB, with what it has outgrown not quite 16.
const KEPT: u64 = if cfg!(any(loom, miri)) { SLOTS } else { 1024 };
/// Places that one thief takes at most: the more the deeper the queue is, for two workers that take from one meet at its head each time.
const BATCH: std::ops::RangeInclusive<u64> = 32..=128;

/// What a thief finds.
#[derive(Debug)]
pub(crate) enum Steal<T> {
    /// The oldest; more may have come to the thief's own queue.
    Success(T),
    Empty,
    /// Somebody else was faster.
    Retry,
}

struct Ring {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    /// The one that is in use.
    buffer: AtomicPtr<Buffer>,
}

/// Its slots are as many as a power of two.
struct Buffer {
    slots: NonNull<[AtomicPtr<()>]>,
    /// The one that this has taken the place of, or null.
    outgrown: *mut Buffer,
    /// Read by who looks into the slots, written by who frees them: loom sees whether the two meet.
    #[cfg(loom)]
    freed: loom::cell::UnsafeCell<bool>,
}

impl Buffer {
    /// A box, as a pointer: others look into it while it goes from hand to hand.
    fn new(slots: u64, outgrown: *mut Buffer) -> NonNull<Buffer> {
        let slots: Box<[_]> = (0..slots).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        NonNull::from(Box::leak(Box::new(Buffer {
            slots: NonNull::from(Box::leak(slots)),
            outgrown,
            #[cfg(loom)]
            freed: loom::cell::UnsafeCell::new(false),
        })))
    }

    #[inline]
    fn slot(&self, place: u64) -> &AtomicPtr<()> {
        // SAFETY: loom checks it.
        #[cfg(loom)]
        self.freed.with(|freed| assert!(!unsafe { *freed }, "a buffer that was freed is looked into"));
        // SAFETY: of a box, which lives as long as the buffer.
        let slots = unsafe { self.slots.as_ref() };
        &slots[place as usize & (slots.len() - 1)]
    }
}

/// A buffer, and those behind it, that are of no queue any more. Who drops it frees them.
#[derive(Debug)]
pub(crate) struct Outgrown(*mut Buffer);

// SAFETY: boxes that nobody else frees.
unsafe impl Send for Outgrown {}

impl Drop for Outgrown {
    fn drop(&mut self) {
        // SAFETY: (Q1) the word of who made this.
        #[cfg(not(loom))]
        unsafe {
            free(self.0);
        }
        // A model looks whether that is so, and keeps the memory: a little in each of its runs.
        #[cfg(loom)]
        while !self.0.is_null() {
            // SAFETY: it is not freed, and loom checks the cell.
            unsafe {
                (*self.0).freed.with_mut(|freed| *freed = true);
                self.0 = (*self.0).outgrown;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: (Q1) nobody uses the queue any more.
        unsafe { free(self.buffer.load(Relaxed)) };
    }
}

/// Frees a buffer and those behind it.
///
/// # Safety
/// (Q1) Nobody looks into them any more.
unsafe fn free(mut buffer: *mut Buffer) {
    while !buffer.is_null() {
        // SAFETY: both are from boxes.
        unsafe {
            let Buffer { slots, outgrown, .. } = *Box::from_raw(buffer);
            drop(Box::from_raw(slots.as_ptr()));
            buffer = outgrown;
        }
    }
}

/// The owner's end.
pub(crate) struct Owner {
    ring: Arc<Ring>,
    /// As in the ring, which the owner alone writes.
    tail: Cell<u64>,
    /// The slots of the ring's buffer, and one less than there are.
    slots: Cell<NonNull<AtomicPtr<()>>>,
    mask: Cell<u64>,
    /// Up to here, not included, there is room.
    room: Cell<u64>,
}

// SAFETY: what is in the cells is used by who has the `Owner`, one thread at a time; the slots are shared by design.
unsafe impl Send for Owner {}

impl Owner {
    pub(crate) fn new() -> Owner {
        let buffer = Buffer::new(SLOTS, ptr::null_mut());
        let ring = Ring {
            head: CachePadded::new(AtomicU64::new(0)),
            tail: CachePadded::new(AtomicU64::new(0)),
            buffer: AtomicPtr::new(buffer.as_ptr()),
        };
        Owner {
            ring: Arc::new(ring),
            tail: Cell::new(0),
            // SAFETY: fresh.
            slots: Cell::new(unsafe { buffer.as_ref() }.slots.cast()),
            mask: Cell::new(SLOTS - 1),
            room: Cell::new(SLOTS),
        }
    }

    pub(crate) fn thief(&self) -> Thief {
        Thief(Arc::clone(&self.ring))
    }

    /// As [`Buffer::slot`], which must look twice.
    #[inline]
    fn slot(&self, place: u64) -> &AtomicPtr<()> {
        // SAFETY: (Q1) the buffer is one of the ring's, and the mask one less than its slots.
        unsafe { self.slots.get().add((place & self.mask.get()) as usize).as_ref() }
    }

    /// Whether a push need not look how far thieves have come.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.tail.get() != self.room.get()
    }

    #[inline]
    pub(crate) fn push(&self, item: Item) {
        if !self.has_room() {
            self.make_room(1);
        }
        let tail = self.tail.get();
        self.write(tail, item.as_ptr());
        self.publish(tail + 1);
    }

    /// Fills a place that nobody knows of yet, for which there is room (Q2).
    #[inline]
    fn write(&self, place: u64, item: *mut ()) {
        self.slot(place).store(item, Relaxed);
    }

    #[inline]
    fn publish(&self, tail: u64) {
        self.tail.set(tail);
        // Release: pairs with the acquire in `steal`, so that a thief that finds the place finds what is in it, in the buffer that has it.
        self.ring.tail.store(tail, Release);
    }

    /// Sees to it that so many places can be filled.
    #[cold]
    fn make_room(&self, places: u64) {
        let tail = self.tail.get();
        // Acquire: (Q2) pairs with the release in whatever moved it, so that a thief has read its slots before they are filled again.
        let head = self.ring.head.load(Acquire);
        let mut slots = self.mask.get() + 1;
        if tail + places > head + slots {
            while tail + places > head + slots {
                slots *= 2;
            }
            self.replace(head, Buffer::new(slots, self.ring.buffer.load(Relaxed)));
        }
        self.room.set(head + slots);
    }

    /// Moves on to another buffer. Thieves go on reading the old one, which stays as it is.
    fn replace(&self, head: u64, new: NonNull<Buffer>) {
        // SAFETY: (Q1)
        let buffer = unsafe { new.as_ref() };
        for place in head..self.tail.get() {
            buffer.slot(place).store(self.slot(place).load(Relaxed), Relaxed);
        }
        self.slots.set(buffer.slots.cast());
        self.mask.set(buffer.slots.len() as u64 - 1);
        // Release: pairs with the acquire in `steal`: the buffer, and what was copied, is seen there.
        self.ring.buffer.store(new.as_ptr(), Release);
    }

    /// Leaves a large buffer for a small one, if the queue is empty.
    ///
    /// # Safety
    /// (Q1) The answer is dropped when nobody is inside [`Thief::steal`] who began there before this.
    #[cold]
    pub(crate) unsafe fn shrink(&self) -> Option<Outgrown> {
        if self.mask.get() < KEPT || !self.is_empty() {
            return None;
        }
        let tail = self.tail.get();
        let outgrown = Outgrown(self.ring.buffer.load(Relaxed));
        self.replace(tail, Buffer::new(SLOTS, ptr::null_mut()));
        self.room.set(tail + SLOTS);
        Some(outgrown)
    }

    /// The oldest.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Item> {
        let ring = &*self.ring;
        let tail = self.tail.get();
        let mut head = ring.head.load(Relaxed);
        while head != tail {
            // Acquire and release: as for a thief's exchange, which this one may come after, or before.
            match ring.head.compare_exchange_weak(head, head + 1, AcqRel, Relaxed) {
                Ok(_) => {
                    let item = self.slot(head).load(Relaxed);
                    debug_assert!(!item.is_null(), "place {head} was filled before {tail} was published");
                    // SAFETY: (Q2) this place was filled by `write`, with an item, before the tail that is beyond it was set; and nobody has
                    // filled its slot anew, for that is us.
                    return Some(unsafe { NonNull::new_unchecked(item) });
                }
                Err(now) => head = now,
            }
        }
        None
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.head.load(Relaxed) == self.tail.get()
    }

    /// How many it holds, or held before a thief came.
    #[inline]
    #[cfg_attr(loom, allow(dead_code))]
    pub(crate) fn len(&self) -> u64 {
        self.tail.get() - self.ring.head.load(Relaxed)
    }
}

/// Where a thief looks into somebody's queue.
pub(crate) struct Thief(Arc<Ring>);

impl Thief {
    /// The places that can be stolen from. A moment's truth.
    #[inline]
    #[cfg_attr(loom, allow(dead_code))]
    pub(crate) fn held(&self) -> Range<u64> {
        let head = self.0.head.load(Relaxed);
        head..self.0.tail.load(Relaxed)
    }

    /// Takes half of what is there: the oldest as the answer, the others into another queue, behind what that holds.
    /// The caller is counted as searching up to its end, in the [`Idle`](super::idle::Idle) to which the owner hands what it has outgrown (Q1).
    pub(crate) fn steal(&self, into: &Owner, _: &Searching) -> Steal<Item> {
        // Acquire: pairs with the release in the exchange that made it, whose thread knew a tail that is no less.
        let head = self.0.head.load(Acquire);
        // Acquire: pairs with `publish`.
        let tail = self.0.tail.load(Acquire);
        let there = tail - head;
        if there == 0 {
            return Steal::Empty;
        }
        let taken = there.div_ceil(2).min((there / 16).clamp(*BATCH.start(), *BATCH.end()));
        // Acquire: pairs with `replace`. It is no older than the tail that was seen, so it has all places before that; or it is one that came when all
        // of them had been taken, and then `head` has moved.
        let buffer = self.0.buffer.load(Acquire);
        // SAFETY: (Q1) we keep the ring, and are counted as searching.
        let buffer = unsafe { &*buffer };
        let own = into.tail.get();
        if own + taken > into.room.get() + 1 {
            into.make_room(taken - 1);
        }
        let oldest = buffer.slot(head).load(Relaxed);
        for place in 1..taken {
            into.write(own + place - 1, buffer.slot(head + place).load(Relaxed));
        }
        // Release: (Q2) the slots are read before the owner, who acquires `head`, fills them again. Acquire: see above, where it is read next.
        if self.0.head.compare_exchange(head, head + taken, AcqRel, Relaxed).is_err() {
            return Steal::Retry;
        }
        if taken > 1 {
            into.publish(own + taken - 1);
        }
        debug_assert!(!oldest.is_null(), "place {head} was filled before {tail} was published");
        NonNull::new(oldest).map_or(Steal::Retry, Steal::Success)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::scheduler::idle::Idle;

    /// Of a worker whose siblings free nothing.
    fn searching() -> Searching {
        Idle::new(2).try_search().expect("nobody else searches")
    }

    fn item(n: usize) -> Item {
        NonNull::new(ptr::without_provenance_mut(n)).expect("from 1")
    }

    fn number(item: Item) -> usize {
        item.addr().get()
    }

    #[test]
    fn the_oldest_comes_first_however_often_it_grows_and_goes_round() {
        let own = Owner::new();
        let (mut pushed, mut popped) = (0, 0);
        for round in 1..if cfg!(miri) { 8 } else { 100 } {
            for _ in 0..round * 13 % 700 {
                pushed += 1;
                own.push(item(pushed));
            }
            for _ in 0..round * 7 % 600 {
                if let Some(item) = own.pop() {
                    popped += 1;
                    assert_eq!(number(item), popped);
                }
            }
        }
        while own.pop().is_some() {
            popped += 1;
        }
        assert_eq!(popped, pushed);
        assert!(own.is_empty() && own.thief().held().is_empty());
    }

    #[test]
    fn a_thief_takes_the_older_half_and_keeps_its_order() {
        let (own, theirs) = (Owner::new(), Owner::new());
        for n in 1..=9 {
            own.push(item(n));
        }
        theirs.push(item(100));
        let Steal::Success(first) = own.thief().steal(&theirs, &searching()) else {
            panic!("nobody else is there")
        };
        assert_eq!(number(first), 1);
        let rest = |owner: &Owner| std::iter::from_fn(|| owner.pop().map(number)).collect::<Vec<_>>();
        assert_eq!(rest(&theirs), [100, 2, 3, 4, 5]);
        assert_eq!(rest(&own), [6, 7, 8, 9]);
        assert!(matches!(own.thief().steal(&theirs, &searching()), Steal::Empty));
    }

    #[test]
    fn what_is_stolen_finds_room_however_full_the_queue_is_that_it_comes_to() {
        for held in (0..=2 * SLOTS as usize).step_by(if cfg!(miri) { 85 } else { 1 }) {
            let (own, theirs) = (Owner::new(), Owner::new());
            // They begin somewhere in the ring, and know of less room than there is.
            for n in 1..=100 {
                theirs.push(item(n));
            }
            assert_eq!(std::iter::from_fn(|| theirs.pop()).count(), 100);
            (1..=held).for_each(|n| theirs.push(item(1000 + n)));
            (1..=100).for_each(|n| own.push(item(n)));
            let mut firsts = Vec::new();
            while let Steal::Success(first) = own.thief().steal(&theirs, &searching()) {
                firsts.push(number(first));
            }
            let all: Vec<_> = std::iter::from_fn(|| theirs.pop().map(number)).collect();
            assert!(all[..held].iter().copied().eq(1001..=1000 + held), "{held}: {all:?}");
            assert!(all[held..].is_sorted() && firsts.is_sorted());
            let mut stolen = [firsts, all[held..].to_vec()].concat();
            stolen.sort_unstable();
            assert!(stolen.into_iter().eq(1..=100), "{held}");
        }
    }

    #[test]
    fn who_steals_from_one_another_while_they_hold_something_lose_nothing() {
        let (threads, each) = if cfg!(miri) { (3, 200) } else { (4, 100_000) };
        let owners: Vec<_> = (0..threads).map(|_| Owner::new()).collect();
        let thieves: Vec<_> = owners.iter().map(Owner::thief).collect();
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let all: Vec<usize> = thread::scope(|scope| {
            let (thieves, all_taken) = (&thieves, &taken);
            let run = |(me, own): (usize, Owner)| {
                scope.spawn(move || {
                    let (mut pushed, mut taken, mut random) = (0, Vec::new(), me as u32 + 1);
                    while all_taken.load(Relaxed) < threads * each {
                        random ^= random << 13;
                        random ^= random >> 17;
                        random ^= random << 5;
                        for _ in 0..(random as usize % 300).min(each - pushed) {
                            pushed += 1;
                            own.push(item(me * each + pushed));
                        }
                        let before = taken.len();
                        // Whatever it holds.
                        for _ in 0..random >> 8 & 3 {
                            let victim = (me + 1 + (random as usize >> 16) % (threads - 1)) % threads;
                            if let Steal::Success(item) = thieves[victim].steal(&own, &searching()) {
                                taken.push(number(item));
                            }
                        }
                        for _ in 0..(random as usize >> 20) % 300 {
                            taken.extend(own.pop().map(number));
                        }
                        all_taken.fetch_add(taken.len() - before, Relaxed);
                    }
                    taken
                })
            };
            let running: Vec<_> = owners.into_iter().enumerate().map(run).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let mut times = vec![0_u8; threads * each + 1];
        all.iter().for_each(|&n| times[n] += 1);
        assert!(times[1..].iter().all(|&n| n == 1), "each once");
    }

    #[test]
    fn an_empty_queue_leaves_a_large_buffer_for_a_small_one() {
        let own = Owner::new();
        let numbers = || std::iter::from_fn(|| own.pop().map(number));
        for burst in [2 * KEPT as usize, KEPT as usize / 2, 5 * KEPT as usize] {
            (1..=burst).for_each(|n| own.push(item(n)));
            // SAFETY: (Q1) nobody steals.
            assert!(unsafe { own.shrink() }.is_none(), "there is something in it");
            assert!(numbers().eq(1..=burst));
            // SAFETY: (Q1) nobody steals.
            assert_eq!(unsafe { own.shrink() }.is_some(), burst > KEPT as usize);
            assert!(own.mask.get() < KEPT);
            (1..=SLOTS as usize).for_each(|n| own.push(item(n)));
            assert!(numbers().eq(1..=SLOTS as usize));
        }
    }

    #[test]
    fn whatever_owner_and_thieves_do_each_is_taken_once() {
        let items = if cfg!(miri) { 2_000 } else { 1_000_000 };
        let own = Owner::new();
        // All of the thieves may search at once.
        let idle = Idle::new(8);
        let over = AtomicBool::new(false);
        let taken: Vec<usize> = thread::scope(|threads| {
            let thieves: Vec<_> = (0..3)
                .map(|_| {
                    let (thief, theirs, over, idle) = (own.thief(), Owner::new(), &over, &idle);
                    threads.spawn(move || {
                        let mut taken = Vec::new();
                        loop {
                            let searching = idle.try_search().expect("no more than half of the workers");
                            let stolen = thief.steal(&theirs, &searching);
                            let _ = idle.end_search(searching);
                            match stolen {
                                Steal::Success(item) => {
                                    taken.push(number(item));
                                    let ours = std::iter::from_fn(|| theirs.pop().map(number));
                                    taken.extend(ours);
                                }
                                Steal::Empty if over.load(Acquire) => return taken,
                                Steal::Empty => thread::yield_now(),
                                Steal::Retry => {}
                            }
                        }
                    })
                })
                .collect();
            let mut taken = Vec::new();
            // Bursts of all lengths, so that it is nearly empty at times, and grows at others.
            let mut random = 1_u32;
            let mut pushed = 0;
            while pushed < items {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                for _ in 0..(random % (1 << (random >> 28))).min((items - pushed) as u32) {
                    pushed += 1;
                    own.push(item(pushed));
                }
                for _ in 0..(random >> 8) % (1 << (random >> 28)) {
                    taken.extend(own.pop().map(number));
                }
                if own.is_empty() {
                    // SAFETY: (Q1) the thieves are counted.
                    let _ = idle.sleep(0, None, unsafe { own.shrink() });
                    let _ = idle.end_search(idle.awake(0));
                }
            }
            taken.extend(std::iter::from_fn(|| own.pop().map(number)));
            over.store(true, Release);
            taken.extend(thieves.into_iter().flat_map(|thief| thief.join().expect("it does not panic")));
            taken
        });
        let mut times = vec![0_u8; items + 1];
        taken.iter().for_each(|&n| times[n] += 1);
        assert!(times[1..].iter().all(|&n| n == 1), "each once");
    }
}
