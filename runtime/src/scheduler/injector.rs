//! The queue of what comes from outside: tasks that are spawned or woken on a thread that is no worker.
//!
//! A list of blocks with a lock at each end, so that who pushes and who takes meet only where the queue is empty. A push is one locked instruction:
//!
//! ```text
//!   head: Lock<End> --> [x x x t t t t] --> [t t t t t t t] --> [t t . . . . .] <-- tail: Lock<End>
//!                            ^ taken                                 ^ pushed
//!
//!   push   in the tail's section: fill the slot, a new block after a full one, then pushed + 1 (Release)
//!   take   in the head's section: pushed (Acquire) says what is filled and linked; take a batch, then taken + n
//! ```
//!
//! The tail's section is an order as well. Who pushes reads in [`Idle`](super::idle::Idle) *after* it whether somebody is to be woken, and who goes
//! to sleep looks in there *after* he has said so. Whoever comes second sees what the first one did, without a fence: see `PROTOCOL.md`, "No wake
//! from outside is lost".

use std::fmt;
use std::ptr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;

use super::queue::Worker;
use crate::loom::sync::atomic::{AtomicPtr, AtomicUsize};
use crate::task::header::Header;
use crate::task::runnable::Runnable;
use crate::util::lock::Lock;

/// With the rest of a block, some 512 bytes.
const SLOTS: usize = if cfg!(loom) { 2 } else { 60 };
/// The most that a worker takes at once.
const BATCH: usize = 32;

struct Block {
    slots: [AtomicPtr<Header>; SLOTS],
    /// Set in the tail's section before the first task of the next block is counted.
    next: Lock<Option<Arc<Block>>>,
}

impl Block {
    fn new() -> Arc<Block> {
        Arc::new(Block {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            next: Lock::new(None),
        })
    }
}

/// The next slot to fill, or to take from. At the end of a block the next block is not there, or not looked for, yet.
struct End {
    block: Arc<Block>,
    at: usize,
}

pub(crate) struct Injector {
    tail: CachePadded<Lock<End>>,
    head: CachePadded<Lock<End>>,
    /// Tasks that were ever pushed; written in the tail's section.
    pushed: CachePadded<AtomicUsize>,
    /// Those that were taken; written in the head's section.
    taken: CachePadded<AtomicUsize>,
}

impl Default for Injector {
    fn default() -> Injector {
        let block = Block::new();
        Injector {
            tail: CachePadded::new(Lock::new(End { block: Arc::clone(&block), at: 0 })),
            head: CachePadded::new(Lock::new(End { block, at: 0 })),
            pushed: CachePadded::default(),
            taken: CachePadded::default(),
        }
    }
}

impl Injector {
    pub(crate) fn push(&self, task: Runnable) {
        let mut tail = self.tail.lock();
        if tail.at == SLOTS {
            let block = Block::new();
            *tail.block.next.lock() = Some(Arc::clone(&block));
            *tail = End { block, at: 0 };
        }
        tail.block.slots[tail.at].store(task.into_raw().as_ptr(), Relaxed);
        tail.at += 1;
        // Release: pairs with the acquire in `take`: what is counted is filled, and its block linked.
        self.pushed.store(self.pushed.load(Relaxed).wrapping_add(1), Release);
    }

    /// A moment's truth, and of a moment that may have passed: for whoever looks again later, or is woken.
    #[inline]
    pub(crate) fn seems_empty(&self) -> bool {
        self.pushed.load(Relaxed) == self.taken.load(Relaxed)
    }

    /// Looks in the tail's section: if all has been taken, whoever pushes later sees what was done before this.
    pub(crate) fn is_empty(&self) -> bool {
        let tail = self.tail.lock();
        let pushed = self.pushed.load(Relaxed);
        drop(tail);
        pushed == self.taken.load(Relaxed)
    }

    /// Goes through the tail's section, as a push does that brings nothing.
    pub(crate) fn pass(&self) {
        drop(self.tail.lock());
    }

    /// Takes the first task, and moves more into `to`, up to half of what was there: others find some, too.
    pub(crate) fn take(&self, to: &Worker) -> Option<Runnable> {
        if self.seems_empty() {
            return None;
        }
        let mut head = self.head.lock();
        let taken = self.taken.load(Relaxed);
        // Acquire: pairs with the release in `push`.
        let len = self.pushed.load(Acquire).wrapping_sub(taken);
        if len == 0 {
            return None;
        }
        let first = head.take();
        let more = (len / 2).min(BATCH - 1);
        for _ in 0..more {
            to.push(head.take());
        }
        self.taken.store(taken.wrapping_add(1 + more), Relaxed);
        Some(first)
    }
}

impl End {
    /// Takes what is known to be there.
    fn take(&mut self) -> Runnable {
        if self.at == SLOTS {
            let next = self.block.next.lock().take().expect("linked before it is counted");
            *self = End { block: next, at: 0 };
        }
        let task = self.block.slots[self.at].load(Relaxed);
        self.at += 1;
        let task = NonNull::new(task).expect("filled before it is counted");
        // SAFETY: (I2) it came from a `Runnable`, and each slot is taken from once, in the head's section.
        unsafe { Runnable::from_raw(task) }
    }
}

impl Drop for Injector {
    /// Block by block: each drops the next, and a long list would need a deep stack.
    fn drop(&mut self) {
        let mut next = self.head.lock().block.next.lock().take();
        while let Some(block) = next {
            next = block.next.lock().take();
        }
    }
}

impl fmt::Debug for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pushed, taken) = (self.pushed.load(Relaxed), self.taken.load(Relaxed));
        f.debug_struct("Injector").field("pushed", &pushed).field("taken", &taken).finish()
    }
}
