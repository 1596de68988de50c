//! The run queues: each worker's own, which siblings steal from: the ring of `ring.rs`, with tasks in it.
//!
//! That has models of its own. Those of the runtime have two stand-ins for it, which take fewer steps, and are no stronger than what is relied on
//! here: one of plain atomics, whose emptiness may be stale; and one with a lock, which answers `Retry` while another thread is inside.

pub(crate) use super::ring::Steal;

#[cfg(not(loom))]
pub(crate) use self::real::{Stealer, Worker};

#[cfg(loom)]
pub(crate) use self::stand_in::{Stealer, WITH_LOCK, Worker};

#[cfg(not(loom))]
mod real {
    use super::Steal;
    use crate::scheduler::idle::Searching;
    use crate::scheduler::ring::{Item, Outgrown, Owner, Thief};
    use crate::task::runnable::Runnable;

    /// # Safety
    /// (I2) The queue has just given the item to the caller alone.
    #[inline]
    unsafe fn runnable(item: Item) -> Runnable {
        // SAFETY: `Worker::push` alone puts items in, each a `Runnable` that was given up there; `steal` moves them on.
        unsafe { Runnable::from_raw(item.cast()) }
    }

    /// A worker's own queue.
    pub(crate) struct Worker(Owner);

    impl Worker {
        pub(crate) fn new_fifo() -> Worker {
            Worker(Owner::new())
        }

        pub(crate) fn stealer(&self) -> Stealer {
            Stealer(self.0.thief())
        }

        /// Whether a push need not make room first.
        #[inline]
        pub(crate) fn has_room(&self) -> bool {
            self.0.has_room()
        }

        #[inline]
        pub(crate) fn push(&self, task: Runnable) {
            self.0.push(task.into_raw().cast());
        }

        #[inline]
        pub(crate) fn pop(&self) -> Option<Runnable> {
            // SAFETY: (I2) as said by the answer.
            self.0.pop().map(|item| unsafe { runnable(item) })
        }

        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        #[inline]
        pub(crate) fn holds_more_than(&self, few: u64) -> bool {
            self.0.len() > few
        }

        /// What an empty queue has no use for.
        ///
        /// # Safety
        /// (Q1) The answer is dropped when nobody steals who began to search before this.
        pub(crate) unsafe fn shrink(&self) -> Option<Outgrown> {
            // SAFETY: passed on: who steals is counted as searching.
            unsafe { self.0.shrink() }
        }
    }

    /// A worker's queue as its siblings see it.
    pub(crate) struct Stealer(Thief);

    impl Stealer {
        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.held().is_empty()
        }

        pub(crate) fn holds_more_than(&self, few: u64) -> bool {
            let held = self.0.held();
            held.end.saturating_sub(held.start) > few
        }

        /// That of its first task: another one when that is taken.
        pub(crate) fn place(&self) -> Option<u64> {
            let held = self.0.held();
            Some(held.start).filter(|_| !held.is_empty())
        }

        pub(crate) fn steal_batch_and_pop(&self, to: &Worker, searching: &Searching) -> Steal<Runnable> {
            match self.0.steal(&to.0, searching) {
                // SAFETY: (I2) as said by the answer.
                Steal::Success(item) => Steal::Success(unsafe { runnable(item) }),
                Steal::Empty => Steal::Empty,
                Steal::Retry => Steal::Retry,
            }
        }
    }
}

#[cfg(loom)]
mod stand_in {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::mem::ManuallyDrop;
    use std::sync::Arc;

    use super::Steal;
    use crate::loom::sync::atomic::AtomicUsize;
    use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
    use crate::loom::sync::{TryMutex, TryMutexGuard};
    use crate::scheduler::idle::Searching;
    use crate::scheduler::ring::Outgrown;
    use crate::task::runnable::Runnable;

    thread_local! {
        /// Which of the two a model's queues are. One thread of the system's runs all threads of a model.
        pub(crate) static WITH_LOCK: Cell<bool> = const { Cell::new(false) };
    }

    /// Slots of a queue of atomics. A model's queue never has more pushes in its life.
    const SLOTS: usize = 8;

    enum Queue {
        Lock(TryMutex<VecDeque<Runnable>>),
        Atomics {
            /// The next to take; who moves it has what was there.
            head: AtomicUsize,
            /// The next to fill.
            tail: AtomicUsize,
            /// Each is filled once: 0, or a task's address.
            slots: [AtomicUsize; SLOTS],
        },
    }

    fn lock<T>(mutex: &TryMutex<T>) -> TryMutexGuard<'_, T> {
        loop {
            match mutex.try_lock() {
                Ok(guard) => return guard,
                Err(_) => crate::loom::spin_loop(),
            }
        }
    }

    impl Queue {
        fn new() -> Arc<Queue> {
            Arc::new(match WITH_LOCK.get() {
                true => Queue::Lock(TryMutex::new(VecDeque::new())),
                false => Queue::Atomics {
                    head: AtomicUsize::new(0),
                    tail: AtomicUsize::new(0),
                    slots: std::array::from_fn(|_| AtomicUsize::new(0)),
                },
            })
        }

        fn push(&self, task: Runnable) {
            match self {
                Queue::Lock(tasks) => lock(tasks).push_back(task),
                Queue::Atomics { tail, slots, .. } => {
                    let at = tail.fetch_add(1, Relaxed);
                    assert!(at < SLOTS, "a model pushes less");
                    // Release: whoever takes it acquires it in `take`.
                    slots[at].store(task.into_address(), Release);
                }
            }
        }

        fn take(&self) -> Steal<Runnable> {
            match self {
                Queue::Lock(tasks) => match tasks.try_lock() {
                    Ok(mut tasks) => tasks.pop_front().map_or(Steal::Empty, Steal::Success),
                    Err(_) => Steal::Retry,
                },
                Queue::Atomics { head, slots, .. } => {
                    let at = head.load(Relaxed);
                    let address = slots.get(at).map_or(0, |slot| slot.load(Acquire));
                    if address == 0 {
                        return Steal::Empty;
                    }
                    match head.compare_exchange(at, at + 1, AcqRel, Relaxed) {
                        // SAFETY: (I2) the address came from a `Runnable`, and the exchange gave it to us alone.
                        Ok(_) => Steal::Success(unsafe { Runnable::from_address(address) }),
                        Err(_) => Steal::Retry,
                    }
                }
            }
        }

        fn is_empty(&self) -> bool {
            match self {
                Queue::Lock(tasks) => lock(tasks).is_empty(),
                Queue::Atomics { head, slots, .. } => {
                    let at = head.load(Relaxed);
                    slots.get(at).is_none_or(|slot| slot.load(Acquire) == 0)
                }
            }
        }
    }

    pub(crate) struct Worker(Arc<Queue>);

    impl Worker {
        pub(crate) fn new_fifo() -> Worker {
            Worker(Queue::new())
        }
        pub(crate) fn stealer(&self) -> Stealer {
            Stealer(Arc::clone(&self.0))
        }
        pub(crate) fn has_room(&self) -> bool {
            true
        }
        pub(crate) fn push(&self, task: Runnable) {
            self.0.push(task);
        }
        pub(crate) fn pop(&self) -> Option<Runnable> {
            // The owner's pop is never spuriously empty.
            loop {
                match self.0.take() {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => return None,
                    Steal::Retry => crate::loom::spin_loop(),
                }
            }
        }
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
        /// Its watcher sees all of it.
        pub(crate) fn holds_more_than(&self, _few: u64) -> bool {
            false
        }
        pub(crate) unsafe fn shrink(&self) -> Option<Outgrown> {
            None
        }
    }

    pub(crate) struct Stealer(Arc<Queue>);

    impl Stealer {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
        pub(crate) fn holds_more_than(&self, _few: u64) -> bool {
            !self.is_empty()
        }
        /// Nothing stalls where nothing is left.
        pub(crate) fn place(&self) -> Option<u64> {
            None
        }
        pub(crate) fn steal_batch_and_pop(&self, _to: &Worker, _: &Searching) -> Steal<Runnable> {
            self.0.take()
        }
    }

    impl Runnable {
        fn into_address(self) -> usize {
            let task = ManuallyDrop::new(self);
            std::ptr::from_ref(task.header()).expose_provenance()
        }

        /// # Safety
        /// (I2) The address came from `into_address`, and nobody else makes it a `Runnable` again.
        unsafe fn from_address(address: usize) -> Runnable {
            let header = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: passed on; a header's address is not null.
            unsafe { Runnable::from_raw(std::ptr::NonNull::new_unchecked(header)) }
        }
    }
}
