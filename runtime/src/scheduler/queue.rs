//! The run queues: each worker's own, which siblings steal from.
//!
//! crossbeam's, behind three names. Its queues cannot run under loom, so models have two stand-ins, which are no stronger than
//! what is relied on here: one of plain atomics, whose emptiness may be stale; and one with a lock, which answers `Retry`
//! while another thread is inside.

#[cfg(not(loom))]
pub(crate) use crossbeam_deque::{Steal, Stealer, Worker};

#[cfg(loom)]
pub(crate) use self::stand_in::{Steal, Stealer, WITH_LOCK, Worker};

#[cfg(loom)]
mod stand_in {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::mem::ManuallyDrop;
    use std::sync::Arc;

    use crate::loom::sync::atomic::AtomicUsize;
    use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
    use crate::loom::sync::{TryMutex, TryMutexGuard};
    use crate::task::runnable::Runnable;

    thread_local! {
        /// Which of the two a model's queues are. One thread of the system's runs all threads of a model.
        pub(crate) static WITH_LOCK: Cell<bool> = const { Cell::new(false) };
    }

    /// Slots of a queue of atomics. A model's queue never has more pushes in its life.
    const SLOTS: usize = 8;

    pub(crate) enum Steal<T> {
        Success(T),
        Empty,
        Retry,
    }

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

    pub(crate) struct Worker<T>(Arc<Queue>, std::marker::PhantomData<fn(T)>);

    impl Worker<Runnable> {
        pub(crate) fn new_fifo() -> Worker<Runnable> {
            Worker(Queue::new(), std::marker::PhantomData)
        }
        pub(crate) fn stealer(&self) -> Stealer<Runnable> {
            Stealer(Arc::clone(&self.0), std::marker::PhantomData)
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
    }

    pub(crate) struct Stealer<T>(Arc<Queue>, std::marker::PhantomData<fn(T)>);

    impl Stealer<Runnable> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
        pub(crate) fn steal_batch_and_pop(&self, _to: &Worker<Runnable>) -> Steal<Runnable> {
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
