//! What other threads see of one that polls tasks: which task, and where it was spawned if that is in no list.
//!
//! The words lie in the thread's own [`frame`], where the task is written at any rate. Others look at them through a [`Window`], which
//! the thread has open while it is a worker.
//!
//! - **V1** The words in a window are those of a thread that has it [`Open`]: it closes the window, under its lock, before its locals go.

use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::frame;
use super::meta::{Record, TaskId, TaskWord};

/// An atomic word. That of a frame is std's under loom, too: every poll writes to it, and all models would try its orders.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn fence(order: Ordering);
}

/// Written by the thread alone.
#[derive(Debug)]
pub(crate) struct Words<W = AtomicU64> {
    /// A [`TaskWord`]: the task that it polls.
    task: W,
    /// Where it was spawned, if it is in no list; else where another one was. The address, or 0.
    spawned_at: W,
}

impl Words {
    pub(super) const fn new() -> Words {
        Words { task: AtomicU64::new(TaskWord::NONE.0), spawned_at: AtomicU64::new(0) }
    }
}

impl<W: Word> Words<W> {
    /// Of no frame, for a model.
    #[cfg(loom)]
    pub(crate) fn of(task: W, spawned_at: W) -> Words<W> {
        Words { task, spawned_at }
    }

    #[inline]
    pub(super) fn task(&self) -> TaskWord {
        TaskWord(self.task.load(Relaxed))
    }

    /// The thread polls that task from now on, and polled none before. If it is in no list, its place is set.
    #[inline]
    pub(super) fn begin(&self, record: &Record) {
        self.set_task(record.task());
    }

    /// Where the next task was spawned. None is polled.
    #[inline]
    pub(crate) fn set_place(&self, spawned_at: &'static Location<'static>) {
        debug_assert_eq!(self.task(), TaskWord::NONE);
        // Pairs with the acquire fence in `read`: whoever sees the place of this task sees that the one before is not polled any more.
        W::fence(Release);
        self.spawned_at.store(ptr::from_ref(spawned_at).expose_provenance() as u64, Relaxed);
    }

    #[inline]
    pub(crate) fn set_task(&self, task: TaskWord) {
        debug_assert_eq!(self.task(), TaskWord::NONE);
        // Release: pairs with the acquire in `read`, so that the place is no older than the task.
        self.task.store(task.0, Release);
    }

    /// It polls none.
    #[inline]
    pub(crate) fn end(&self) {
        self.task.store(TaskWord::NONE.0, Relaxed);
    }

    /// The task, if there is one, and where it was spawned, if that is in no list. (Should that one yield, another such be polled, and it again,
    /// all while the caller reads, the place may be the other's.)
    pub(crate) fn read(&self) -> Option<(TaskWord, Option<&'static Location<'static>>)> {
        let task = self.task.load(Acquire);
        let spawned_at = self.spawned_at.load(Relaxed);
        // Pairs with the release fence in `set_place`.
        W::fence(Acquire);
        if task == TaskWord::NONE.0 || self.task.load(Relaxed) != task {
            return None;
        }
        let task = TaskWord(task);
        // SAFETY: only ever null or a `&'static Location`, exposed by `set_place`.
        let spawned_at =
            unsafe { ptr::with_exposed_provenance::<Location<'static>>(spawned_at as usize).as_ref() };
        Some((task, spawned_at.filter(|_| task.is_newborn())))
    }
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
}

#[cfg(loom)]
impl Word for crate::loom::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        Self::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        Self::store(self, value, order);
    }

    fn fence(order: Ordering) {
        crate::loom::sync::atomic::fence(order);
    }
}

/// Where others look at the words of a thread; closed at first.
#[derive(Debug)]
pub(crate) struct Window(Mutex<*const Words>);

// SAFETY: what the pointer leads to is read under the lock only, and (V1) is there then; it is all atomics.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

/// The thread has the window open until this is dropped, or another one opens it.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    window: &'a Window,
    words: *const Words,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window(Mutex::new(ptr::null()))
    }

    fn lock(&self) -> MutexGuard<'_, *const Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others see the calling thread from now on.
    #[must_use]
    pub(crate) fn open(&self) -> Open<'_> {
        let words = frame::words();
        *self.lock() = words;
        Open { window: self, words }
    }

    /// The task that is polled there, and where it was spawned, if it has not parked yet.
    pub(crate) fn look(&self) -> Option<(TaskId, Option<&'static Location<'static>>)> {
        let words = self.lock();
        // SAFETY: (V1) there, while the lock is held.
        unsafe { words.as_ref() }?.read().map(|(task, first)| (TaskId(task.id()), first))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut words = self.window.lock();
        if ptr::eq(*words, self.words) {
            *words = ptr::null();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn task_and_place_are_of_one_poll() {
        let places = [Location::caller(), Location::caller()];
        let words = Words::new();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for id in 1..100_000 {
                    let task = TaskWord::of(id);
                    if id % 3 == 0 {
                        words.set_task(task);
                    } else {
                        words.set_place(places[(id % 2) as usize]);
                        words.set_task(task.newborn());
                    }
                    words.end();
                }
                words.set_task(TaskWord::of(100_000));
            });
            let mut last = 0;
            while last < 100_000 {
                let Some((task, first)) = words.read() else { continue };
                let id = task.id();
                assert!(id >= last);
                assert_eq!(first.is_none(), id % 3 == 0 || id == 100_000);
                assert!(first.is_none_or(|first| ptr::eq(first, places[(id % 2) as usize])));
                last = id;
            }
        });
    }

    #[test]
    fn a_window_that_another_thread_opens_stays_open() {
        let window = Window::new();
        assert_eq!(window.look(), None);
        let open = window.open();
        frame::words_of_this_thread(|words| words.set_task(TaskWord::of(7)));
        assert_eq!(
            std::thread::scope(|threads| threads.spawn(|| window.look()).join().unwrap()),
            Some((TaskId(7), None))
        );
        std::thread::scope(|threads| {
            threads
                .spawn(|| {
                    let _theirs = window.open();
                    frame::words_of_this_thread(|words| words.set_task(TaskWord::of(8)));
                    assert_eq!(window.look(), Some((TaskId(8), None)));
                    frame::words_of_this_thread(Words::end);
                    assert_eq!(window.look(), None);
                })
                .join()
                .unwrap();
        });
        assert_eq!(window.look(), None, "theirs is gone");
        let again = window.open();
        drop(open);
        frame::words_of_this_thread(Words::end);
        drop(again);
        assert!(window.lock().is_null());
    }
}
