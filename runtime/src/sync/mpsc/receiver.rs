//! The receiving end.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::error::TryRecvError;
use super::shared::{Shared, Taken};
use crate::sync::blocking;
use crate::task::channel_facts::End;
use crate::task::facts::Hand;
use crate::task::frame;
use crate::task::meta::TaskWord;
use crate::task::wait::{self, Leaf, Object, WaitReason};

/// Room for so many values is kept for the next ones, of the two that senders and receiver fill and empty in turn.
const KEPT: usize = 4096;

/// Receives from a bounded channel; see [`channel`](super::channel).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    batch: Batch<T>,
}

/// What the receiver of an unbounded channel took out all at once, and has not given to anybody yet: it comes before what is in the
/// channel. (In a bounded one a value keeps its slot until it is received.)
struct Batch<T> {
    /// Locked by `len` only, so that a receiver can be shared whatever its values are.
    values: Mutex<VecDeque<T>>,
    /// The task that received last, as the channel's record knows. The place there is that of its last look at the channel itself.
    user: TaskWord,
}

impl<T> Batch<T> {
    #[inline]
    fn values(&mut self) -> &mut VecDeque<T> {
        self.values.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// That task is who received last.
    #[inline]
    fn is_of(&self, task: TaskWord) -> bool {
        cfg!(leakfree_norecord) || self.user == task
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Receiver<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Receiver<T> {
        Receiver { shared, batch: Batch { values: Mutex::new(VecDeque::new()), user: TaskWord::NONE } }
    }

    /// The next value, of the batch or of the channel. Without any it registers `cx`, if there is one.
    #[inline]
    fn take_one(&mut self, user: Hand, cx: Option<&Context<'_>>) -> Taken<T> {
        if !self.shared.unbounded {
            return self.shared.take_values(user, cx, |values| values.pop_front().expect("there is one"));
        }
        if self.has_batch(user) {
            return Taken::Some(self.batch.values().pop_front().expect("there is one"));
        }
        self.batch.user = user.task();
        let batch = self.batch.values();
        if batch.capacity() > KEPT {
            *batch = VecDeque::new();
        }
        self.shared.take_values(user, cx, |values| {
            mem::swap(values, batch);
            batch.pop_front().expect("there is one")
        })
    }

    /// Puts up to `limit` of the next values into the buffer, as [`take_one`](Receiver::take_one) takes them.
    fn take_many(&mut self, buffer: &mut Vec<T>, limit: usize, user: Hand, cx: &Context<'_>) -> Taken<usize> {
        let mut taken = 0;
        if self.has_batch(user) {
            let batch = self.batch.values();
            taken = limit.min(batch.len());
            buffer.extend(batch.drain(..taken));
            if taken == limit {
                return Taken::Some(taken);
            }
        }
        self.batch.user = user.task();
        let more = self.shared.take_values(user, Some(cx).filter(|_| taken == 0), |values| {
            let more = values.len().min(limit - taken);
            buffer.extend(values.drain(..more));
            more
        });
        match more {
            Taken::Some(more) => Taken::Some(taken + more),
            Taken::Nothing { .. } | Taken::Over if taken > 0 => Taken::Some(taken),
            nothing => nothing,
        }
    }

    /// Whether there are values in the batch, for that task to take.
    #[inline]
    fn has_batch(&mut self, user: Hand) -> bool {
        if self.batch.values().is_empty() {
            return false;
        }
        if !self.batch.is_of(user.task()) {
            self.changes_hands(user);
        }
        true
    }

    #[cold]
    fn changes_hands(&mut self, user: Hand) {
        self.batch.user = user.task();
        self.shared.lock().record.used(End::Receiver, user);
    }

    #[track_caller]
    fn leaf(&self) -> Leaf {
        Leaf::new(WaitReason::MpscRecv, Object::Created(self.shared.created))
    }

    /// Waits for the next value; `None` when every sender is gone, or the channel closed, and nothing is
    /// left in it.
    ///
    /// # Cancel safety
    /// Cancel safe: a value that was not returned is still there.
    #[track_caller]
    pub fn recv(&mut self) -> Recv<'_, T> {
        Recv { leaf: self.leaf(), receiver: self, waits: false }
    }

    /// Waits until there is a value, puts up to `limit` of those that are there at the end of `buffer`, and returns how
    /// many. 0 when `limit` is 0, or when every sender is gone, or the channel closed, and nothing is left in it.
    ///
    /// # Cancel safety
    /// Cancel safe: what is not in the buffer is still there.
    #[track_caller]
    pub fn recv_many<'a>(&'a mut self, buffer: &'a mut Vec<T>, limit: usize) -> RecvMany<'a, T> {
        RecvMany { leaf: self.leaf(), receiver: self, buffer, limit, waits: false }
    }

    /// The next value, if there is one. Does not wait.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none now, [`TryRecvError::Disconnected`] if there never will be.
    #[track_caller]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.take_one(Hand::polled(Location::caller()), None) {
            Taken::Some(value) => Ok(value),
            Taken::Over => Err(TryRecvError::Disconnected),
            Taken::Nothing { .. } => Err(TryRecvError::Empty),
        }
    }

    /// Blocks the thread until there is a value, as [`recv`](Receiver::recv) waits: for code outside of tasks, and for blocking
    /// calls.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_recv(&mut self) -> Option<T> {
        blocking::wait("mpsc::Receiver::blocking_recv", "recv", self.recv())
    }

    /// Blocks the thread until there is a value, as [`recv_many`](Receiver::recv_many) waits.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_recv_many(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        blocking::wait("mpsc::Receiver::blocking_recv_many", "recv_many", self.recv_many(buffer, limit))
    }

    /// [`recv`](Receiver::recv) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        ready!(wait::proceed_detached(cx));
        let taken = self.take_one(Hand::polled(Location::caller()), Some(cx));
        self.detached(taken, cx, None, Some)
    }

    /// [`recv_many`](Receiver::recv_many) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_recv_many(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<T>, limit: usize) -> Poll<usize> {
        if limit == 0 {
            return Poll::Ready(0);
        }
        ready!(wait::proceed_detached(cx));
        let taken = self.take_many(buffer, limit, Hand::polled(Location::caller()), cx);
        self.detached(taken, cx, 0, |n| n)
    }

    /// What a poll function found, with its wait noted or taken back.
    #[track_caller]
    fn detached<R, O>(
        &self,
        taken: Taken<R>,
        cx: &Context<'_>,
        over: O,
        some: impl FnOnce(R) -> O,
    ) -> Poll<O> {
        let output = match taken {
            Taken::Nothing { object, .. } => {
                frame::give_back();
                Leaf::new(WaitReason::MpscRecv, object).pending_detached(cx);
                return Poll::Pending;
            }
            Taken::Some(taken) => some(taken),
            Taken::Over => over,
        };
        if frame::has_notes() {
            let object = self.shared.lock().record.object(self.shared.created);
            frame::take_back_once(WaitReason::MpscRecv, object);
        }
        Poll::Ready(output)
    }

    /// Lets nothing be sent any more. What has been sent can still be received, and what permits that are out send.
    pub fn close(&mut self) {
        self.shared.close();
    }

    /// Whether it was closed, or every sender is gone. Values may be left.
    pub fn is_closed(&self) -> bool {
        let state = self.shared.lock();
        state.closed || state.ended
    }

    /// How many values wait to be received.
    pub fn len(&self) -> usize {
        let batch = self.batch.locked().len();
        batch + self.shared.lock().values.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values can be sent now without waiting.
    pub fn capacity(&self) -> usize {
        self.shared.lock().available(self.shared.capacity)
    }

    /// How many values the channel holds.
    pub fn max_capacity(&self) -> usize {
        self.shared.capacity
    }

    /// How many senders there are.
    pub fn sender_strong_count(&self) -> usize {
        self.shared.strong_count()
    }

    /// How many weak senders there are.
    pub fn sender_weak_count(&self) -> usize {
        self.shared.weak_count()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let batch = mem::take(self.batch.values());
        self.shared.drop_receiver(batch);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Receives from an unbounded channel; see [`unbounded_channel`](super::unbounded_channel).
pub struct UnboundedReceiver<T> {
    receiver: Receiver<T>,
}

impl<T> UnboundedReceiver<T> {
    pub(super) fn new(receiver: Receiver<T>) -> UnboundedReceiver<T> {
        UnboundedReceiver { receiver }
    }

    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: a value that was not returned is still there.
    #[track_caller]
    pub fn recv(&mut self) -> Recv<'_, T> {
        self.receiver.recv()
    }

    /// As [`Receiver::recv_many`].
    ///
    /// # Cancel safety
    /// Cancel safe: what is not in the buffer is still there.
    #[track_caller]
    pub fn recv_many<'a>(&'a mut self, buffer: &'a mut Vec<T>, limit: usize) -> RecvMany<'a, T> {
        self.receiver.recv_many(buffer, limit)
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::blocking_recv`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn blocking_recv(&mut self) -> Option<T> {
        blocking::wait("mpsc::UnboundedReceiver::blocking_recv", "recv", self.recv())
    }

    /// As [`Receiver::blocking_recv_many`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn blocking_recv_many(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        blocking::wait(
            "mpsc::UnboundedReceiver::blocking_recv_many",
            "recv_many",
            self.recv_many(buffer, limit),
        )
    }

    /// As [`Receiver::poll_recv`].
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_recv(cx)
    }

    /// As [`Receiver::poll_recv_many`].
    #[track_caller]
    pub fn poll_recv_many(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<T>, limit: usize) -> Poll<usize> {
        self.receiver.poll_recv_many(cx, buffer, limit)
    }

    /// As [`Receiver::close`].
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// As [`Receiver::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// As [`Receiver::len`].
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// As [`Receiver::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// As [`Receiver::sender_strong_count`].
    pub fn sender_strong_count(&self) -> usize {
        self.receiver.sender_strong_count()
    }

    /// As [`Receiver::sender_weak_count`].
    pub fn sender_weak_count(&self) -> usize {
        self.receiver.sender_weak_count()
    }
}

impl<T> fmt::Debug for UnboundedReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundedReceiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The future of [`Receiver::recv`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Recv<'a, T> {
    receiver: &'a mut Receiver<T>,
    /// Its last poll was pending, and a waker that it left is in the channel.
    waits: bool,
    leaf: Leaf,
}

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        let task = frame::task();
        ready!(this.leaf.proceed(cx));
        // Nothing to take back, nothing to write down: what most values of an unbounded channel take.
        let batch = &mut this.receiver.batch;
        if !this.leaf.has_waited() && batch.is_of(task) {
            if let Some(value) = batch.values().pop_front() {
                this.waits = false;
                return Poll::Ready(Some(value));
            }
        }
        this.poll_channel(cx, task)
    }
}

impl<T> Recv<'_, T> {
    #[inline(never)]
    fn poll_channel(&mut self, cx: &Context<'_>, task: TaskWord) -> Poll<Option<T>> {
        let taken = self.receiver.take_one(Hand::by(task, self.leaf.location()), Some(cx));
        poll_taken(&mut self.leaf, &mut self.waits, taken, cx)
    }
}

impl<T> Drop for Recv<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.waits {
            self.receiver.shared.forget_receivers_waker();
        }
    }
}

/// The future of [`Receiver::recv_many`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct RecvMany<'a, T> {
    receiver: &'a mut Receiver<T>,
    buffer: &'a mut Vec<T>,
    limit: usize,
    /// As in [`Recv`].
    waits: bool,
    leaf: Leaf,
}

impl<T> Future for RecvMany<'_, T> {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let this = &mut *self;
        if this.limit == 0 {
            return Poll::Ready(0);
        }
        ready!(this.leaf.proceed(cx));
        let user = Hand::polled(this.leaf.location());
        let taken = this.receiver.take_many(this.buffer, this.limit, user, cx);
        poll_taken(&mut this.leaf, &mut this.waits, taken, cx).map(|n| n.unwrap_or(0))
    }
}

impl<T> Drop for RecvMany<'_, T> {
    fn drop(&mut self) {
        if self.waits {
            self.receiver.shared.forget_receivers_waker();
        }
    }
}

/// `waits`: whether a future, which did or did not before, has a waker of its own in the channel. One that a poll function left is not its
/// to take out.
#[inline]
fn poll_taken<R>(leaf: &mut Leaf, waits: &mut bool, taken: Taken<R>, cx: &Context<'_>) -> Poll<Option<R>> {
    match taken {
        Taken::Nothing { object, registered } => {
            *waits |= registered;
            leaf.set_object(object);
            leaf.pending(cx);
            Poll::Pending
        }
        Taken::Some(taken) => {
            *waits = false;
            leaf.ready();
            Poll::Ready(Some(taken))
        }
        Taken::Over => {
            *waits = false;
            leaf.ready();
            Poll::Ready(None)
        }
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for RecvMany<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvMany").finish_non_exhaustive()
    }
}
