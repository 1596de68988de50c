//! A mutual exclusion lock that waits without blocking its thread. Fair: first come, first served, as soon as anybody is queued.
//!
//! While nobody waits, all there is of it is a [`Word`]; who finds it held goes to the [`Queue`].
//!
//! **M1** The value is touched only through a guard, and there is one while the word is not free: a guard is made by whoever took it,
//! or was granted it, and frees it or grants it on.

mod guards;
pub(crate) mod word;

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

pub use self::guards::{MappedMutexGuard, MutexGuard, OwnedMappedMutexGuard, OwnedMutexGuard};
use self::word::{OnQueue, Word};
use super::blocking;
use crate::task::facts::{Hand, LockRecord};
use crate::task::frame;
use crate::task::meta::TaskWord;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::task::waker::Asker;
use crate::util::lock;

/// An asynchronous lock around a value.
///
/// It may be held across an await. It has no poisoning: a panic releases it. A lock that comes free goes to
/// the task that has waited longest.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let lock = std::sync::Arc::new(leakfree::sync::Mutex::new(1));
/// let theirs = std::sync::Arc::clone(&lock);
/// leakfree::spawn(async move { *theirs.lock().await += 1 }).await.unwrap();
/// assert_eq!(*lock.lock().await, 2);
/// # });
/// ```
pub struct Mutex<T: ?Sized> {
    raw: Raw,
    value: UnsafeCell<T>,
}

/// The lock without its value.
struct Raw {
    word: Word,
    queue: lock::Lock<Queue>,
    created: &'static Location<'static>,
}

/// Who waits for the lock, and, from when somebody does until it comes free, who has it.
struct Queue {
    waiters: Waiters<Hand>,
    record: LockRecord,
}

// SAFETY: (M1) the value is moved between threads, never shared by two at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: (M1) as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            raw: Raw {
                word: Word::new(),
                queue: lock::Lock::new(Queue { waiters: Waiters::new(), record: LockRecord::new() }),
                created: Location::caller(),
            },
            value: UnsafeCell::new(value),
        }
    }

    /// As [`new`](Mutex::new), which can be called in a `static`, too.
    #[track_caller]
    pub const fn const_new(value: T) -> Mutex<T> {
        Mutex::new(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock, and returns the guard that holds it.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost. A lock that was granted to it goes to the next in
    /// line.
    #[track_caller]
    pub fn lock(&self) -> Lock<'_, T> {
        Lock { mutex: self, turn: Turn::new(&self.raw) }
    }

    /// As [`lock`](Mutex::lock), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn lock_owned(self: Arc<Self>) -> LockOwned<T> {
        LockOwned { turn: Turn::new(&self.raw), mutex: Some(self) }
    }

    /// The guard, if the lock is free and nobody waits for it. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError`] if it is not free.
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        self.raw.try_lock(Hand::polled(Location::caller()))?;
        Ok(MutexGuard::new(self))
    }

    /// As [`try_lock`](Mutex::try_lock), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_lock_owned(self: Arc<Self>) -> Result<OwnedMutexGuard<T>, TryLockError> {
        self.raw.try_lock(Hand::polled(Location::caller()).owned())?;
        Ok(OwnedMutexGuard::new(self))
    }

    /// Blocks the thread until it has the lock: for code outside of tasks, and for blocking calls.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_lock(&self) -> MutexGuard<'_, T> {
        blocking::wait("Mutex::blocking_lock", "lock", self.lock())
    }

    /// As [`blocking_lock`](Mutex::blocking_lock), with a guard that keeps the lock alive and borrows nothing.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn blocking_lock_owned(self: Arc<Self>) -> OwnedMutexGuard<T> {
        blocking::wait("Mutex::blocking_lock_owned", "lock_owned", self.lock_owned())
    }

    /// The value; the borrow proves that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl Raw {
    fn queue(&self) -> lock::Guard<'_, Queue> {
        self.queue.lock()
    }

    fn try_lock(&self, holder: Hand) -> Result<(), TryLockError> {
        if self.word.try_take(holder) { Ok(()) } else { Err(TryLockError(())) }
    }

    /// Takes the lock if it is free. If it is not, the record says who has it, and whoever that is comes to the queue to let go.
    #[inline]
    fn take_from(&self, queue: &mut Queue, holder: Hand) -> bool {
        match self.word.queue() {
            OnQueue::Taken => {
                queue.record.set(holder, queue.waiters.len());
                true
            }
            OnQueue::HeldBy(other) => {
                queue.record.set(other, queue.waiters.len());
                false
            }
            OnQueue::OnRecord => false,
        }
    }

    #[inline]
    fn unlock(&self) {
        if !self.word.try_free() {
            self.hand_on();
        }
    }

    /// Gives the lock, which is the caller's, to the first in line.
    fn hand_on(&self) {
        let woken = {
            let mut queue = self.queue();
            let granted = queue.waiters.grant();
            let waiters = queue.waiters.len();
            queue.record.set(granted.as_ref().map_or(Hand::NOBODY, |(_, holder)| *holder), waiters);
            if granted.is_none() {
                self.word.free();
            }
            granted
        };
        drop(woken);
    }
}

/// The wait for a lock; `OWNED` if for an owned guard.
struct Turn<const OWNED: bool> {
    place: Option<Place>,
    leaf: Leaf,
}

impl<const OWNED: bool> Turn<OWNED> {
    #[track_caller]
    fn new(raw: &Raw) -> Self {
        Turn { place: None, leaf: Leaf::new(WaitReason::MutexLock, Object::Created(raw.created)) }
    }

    /// Who takes the lock.
    #[inline]
    fn holder(&self, task: TaskWord) -> Hand {
        let holder = Hand::by(task, self.leaf.location());
        if OWNED { holder.owned() } else { holder }
    }

    /// Who has it from when it is granted: whoever is woken then.
    #[inline]
    fn waiter(&self, asker: Asker<'_>) -> Hand {
        let waiter = Hand::asks(asker, self.leaf.location());
        if OWNED { waiter.owned() } else { waiter }
    }

    #[inline]
    fn poll(&mut self, raw: &Raw, cx: &Context<'_>) -> Poll<()> {
        let task = frame::task();
        let holder = self.holder(task);
        ready!(self.leaf.proceed(cx));
        if self.place.is_none() && raw.word.try_take(holder) {
            return Poll::Ready(());
        }
        self.poll_queue(raw, cx, task)
    }

    #[inline(never)]
    fn poll_queue(&mut self, raw: &Raw, cx: &Context<'_>, task: TaskWord) -> Poll<()> {
        #[cfg(not(loom))]
        if self.place.is_none() && raw.word.try_take_soon(self.holder(task)) {
            return Poll::Ready(());
        }
        let mut queue = raw.queue();
        let old = match self.place {
            None if raw.take_from(&mut queue, self.holder(task)) => return Poll::Ready(()),
            None => {
                let asker = Asker::of(cx);
                if asker.is_own() {
                    self.join_queue(raw, queue, asker);
                } else {
                    self.join_queue_for_others(raw, queue, asker);
                }
                return Poll::Pending;
            }
            Some(place) => match queue.waiters.leave_granted(place) {
                Some(named) => {
                    let holder = self.holder(task);
                    // At the same place: that of the leaf.
                    if !named.is_same_task(holder) {
                        let waiters = queue.waiters.len();
                        queue.record.set(holder, waiters);
                    }
                    drop(queue);
                    self.place = None;
                    self.leaf.ready();
                    return Poll::Ready(());
                }
                None => {
                    let waiter = self.waiter(Asker::of(cx));
                    queue.waiters.poll(place, cx, waiter).err().flatten()
                }
            },
        };
        drop(queue);
        drop(old);
        self.leaf.pending(cx);
        Poll::Pending
    }

    /// In line, where it is known who asks.
    #[inline(always)]
    fn join_queue(&mut self, raw: &Raw, mut queue: lock::Guard<'_, Queue>, asker: Asker<'_>) {
        self.place = Some(queue.waiters.join_as(asker, self.waiter(asker)));
        let waiters = queue.waiters.len();
        let id = queue.record.contended(raw.created, waiters);
        self.leaf.set_object(Object::Lock(id));
        drop(queue);
        self.leaf.pending_as(asker);
    }

    /// The same, by a waker that is not the polled task's.
    #[cold]
    #[inline(never)]
    fn join_queue_for_others(&mut self, raw: &Raw, queue: lock::Guard<'_, Queue>, asker: Asker<'_>) {
        self.join_queue(raw, queue, asker);
    }

    #[inline]
    fn leave(&mut self, raw: &Raw) {
        if let Some(place) = self.place.take() {
            leave_place(place, raw);
        }
    }
}

#[inline(never)]
fn leave_place(place: Place, raw: &Raw) {
    let mut queue = raw.queue();
    let waker = queue.waiters.leave(place);
    if waker.is_some() {
        let waiters = queue.waiters.len();
        queue.record.set_waiters(waiters);
        drop(queue);
    } else {
        drop(queue);
        // Granted and not taken: the lock is ours to give on.
        raw.hand_on();
    }
    drop(waker);
}

/// The future of [`Mutex::lock`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Lock<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    turn: Turn<false>,
}

impl<'a, T: ?Sized> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MutexGuard<'a, T>> {
        let this = &mut *self;
        this.turn.poll(&this.mutex.raw, cx).map(|()| MutexGuard::new(this.mutex))
    }
}

impl<T: ?Sized> Drop for Lock<'_, T> {
    fn drop(&mut self) {
        self.turn.leave(&self.mutex.raw);
    }
}

/// The future of [`Mutex::lock_owned`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct LockOwned<T: ?Sized> {
    /// Gone once it is ready.
    mutex: Option<Arc<Mutex<T>>>,
    turn: Turn<true>,
}

impl<T: ?Sized> Future for LockOwned<T> {
    type Output = OwnedMutexGuard<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OwnedMutexGuard<T>> {
        let this = &mut *self;
        let mutex = this.mutex.as_ref().expect("`lock_owned` was polled after it was ready");
        match this.turn.poll(&mutex.raw, cx) {
            Poll::Ready(()) => Poll::Ready(OwnedMutexGuard::new(this.mutex.take().expect("looked at above"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: ?Sized> Drop for LockOwned<T> {
    fn drop(&mut self) {
        if let Some(mutex) = &self.mutex {
            self.turn.leave(&mutex.raw);
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("value", &&*guard).finish(),
            Err(_) => debug.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T: ?Sized> fmt::Debug for LockOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockOwned").finish_non_exhaustive()
    }
}

impl<T> From<T> for Mutex<T> {
    #[track_caller]
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

/// The lock is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TryLockError(pub(super) ());

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is held")
    }
}

impl std::error::Error for TryLockError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn the_lock_goes_to_who_waited_longest() {
        let mutex = Mutex::new(0);
        let guard = mutex.try_lock().unwrap();
        let (mut a, mut b) = (pin!(mutex.lock()), pin!(mutex.lock()));
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        drop(guard);
        assert!(mutex.try_lock().is_err(), "handed over, not free");
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        let Poll::Ready(mut guard) = a.as_mut().poll(&mut cx()) else { panic!("granted") };
        *guard += 1;
        drop(guard);
        let Poll::Ready(guard) = b.as_mut().poll(&mut cx()) else { panic!("granted") };
        assert_eq!(*guard, 1);
        drop(guard);
        assert!(mutex.try_lock().is_ok());
    }

    #[test]
    fn a_granted_waiter_that_is_dropped_hands_the_lock_on() {
        let mutex = Mutex::new(());
        let guard = mutex.try_lock().unwrap();
        let mut a = Box::pin(mutex.lock());
        let mut b = pin!(mutex.lock());
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        drop(guard);
        drop(a);
        assert!(b.as_mut().poll(&mut cx()).is_ready());
        assert!(mutex.try_lock().is_ok(), "b's guard was dropped");
    }

    #[test]
    fn a_static_lock_is_possible() {
        static LOCK: Mutex<u32> = Mutex::new(7);
        assert_eq!(*LOCK.try_lock().unwrap(), 7);
    }
}
