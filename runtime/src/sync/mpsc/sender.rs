//! The sending end.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::error::{SendError, SendTimeoutError, TrySendError};
use super::permit::{OwnedPermit, Permit, PermitIterator, Reserve, ReserveMany, ReserveOwned};
use super::shared::{NoSlots, Shared, SlotWait};
use crate::sync::blocking;
use crate::sync::closed::ClosedWait;
use crate::task::channel_facts::{ChannelRecord, End};
use crate::task::facts::Hand;
use crate::task::wait::WaitReason;

impl<T> Shared<T> {
    /// Sends into an unbounded channel.
    #[inline]
    fn send_now(&self, value: T, site: &'static Location<'static>) -> Result<(), SendError<T>> {
        debug_assert!(self.unbounded);
        let woken = {
            let mut state = self.lock();
            if state.closed {
                return Err(SendError(value));
            }
            state.record.used_unwatched(End::Sender, Hand::polled(site));
            state.push(value).map_err(SendError)?
        };
        drop(woken);
        Ok(())
    }

    /// Sends if there is room for one more, and nobody waits for it.
    fn try_send(&self, value: T, site: &'static Location<'static>) -> Result<(), TrySendError<T>> {
        let woken = match self.try_slots(1) {
            Ok(mut state) => {
                state.record.used_unwatched(End::Sender, Hand::polled(site));
                state.push(value).map_err(TrySendError::Closed)?
            }
            Err(NoSlots::Full) => return Err(TrySendError::Full(value)),
            Err(NoSlots::Closed) => return Err(TrySendError::Closed(value)),
        };
        drop(woken);
        Ok(())
    }
}

macro_rules! sender {
    ($sender:ident, $weak:ident) => {
        impl<T> $sender<T> {
            pub(super) fn new(shared: Arc<Shared<T>>) -> $sender<T> {
                $sender { shared }
            }

            /// Waits until the receiver is gone or closes the channel.
            ///
            /// # Cancel safety
            /// Cancel safe: it holds no value.
            #[track_caller]
            pub fn closed(&self) -> Closed<'_, T> {
                let wait = ClosedWait::new(WaitReason::MpscClosed, self.shared.created);
                Closed { shared: &self.shared, wait }
            }

            /// Whether the receiver is gone or has closed the channel. Does not wait.
            pub fn is_closed(&self) -> bool {
                self.shared.lock().closed
            }

            /// Whether both send into the same channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.shared, &other.shared)
            }

            /// A handle that does not keep the channel open.
            pub fn downgrade(&self) -> $weak<T> {
                self.shared.add_weak_sender();
                $weak { shared: Arc::clone(&self.shared) }
            }

            /// How many senders there are.
            pub fn strong_count(&self) -> usize {
                self.shared.strong_count()
            }

            /// How many weak senders there are.
            pub fn weak_count(&self) -> usize {
                self.shared.weak_count()
            }
        }

        impl<T> Clone for $sender<T> {
            fn clone(&self) -> Self {
                self.shared.add_sender();
                $sender { shared: Arc::clone(&self.shared) }
            }
        }

        impl<T> Drop for $sender<T> {
            fn drop(&mut self) {
                self.shared.drop_sender();
            }
        }

        impl<T> fmt::Debug for $sender<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($sender)).finish_non_exhaustive()
            }
        }

        impl<T> $weak<T> {
            /// A sender, if there is still one.
            pub fn upgrade(&self) -> Option<$sender<T>> {
                self.shared.add_sender_if_any().then(|| $sender { shared: Arc::clone(&self.shared) })
            }

            /// How many senders there are.
            pub fn strong_count(&self) -> usize {
                self.shared.strong_count()
            }

            /// How many weak senders there are.
            pub fn weak_count(&self) -> usize {
                self.shared.weak_count()
            }
        }

        impl<T> Clone for $weak<T> {
            fn clone(&self) -> Self {
                self.shared.add_weak_sender();
                $weak { shared: Arc::clone(&self.shared) }
            }
        }

        impl<T> Drop for $weak<T> {
            fn drop(&mut self) {
                self.shared.drop_weak_sender();
            }
        }

        impl<T> fmt::Debug for $weak<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($weak)).finish_non_exhaustive()
            }
        }
    };
}

/// Sends into a bounded channel; see [`channel`](super::channel).
pub struct Sender<T> {
    pub(super) shared: Arc<Shared<T>>,
}

/// A sender that does not keep the channel open; see [`Sender::downgrade`].
pub struct WeakSender<T> {
    shared: Arc<Shared<T>>,
}

sender!(Sender, WeakSender);

impl<T> Sender<T> {
    /// Waits for room, and sends the value.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value is dropped and was not sent; the place in the queue is lost. To keep the value,
    /// [`reserve`](Sender::reserve) first.
    #[track_caller]
    pub fn send(&self, value: T) -> Send<'_, T> {
        Send {
            shared: &self.shared,
            value: Some(value),
            wait: SlotWait::new(&self.shared, 1, WaitReason::MpscSend),
        }
    }

    /// Sends the value, if there is room for it. Does not wait.
    ///
    /// # Errors
    /// The value, if there is no room now, or nobody will receive it.
    #[track_caller]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.shared.try_send(value, Location::caller())
    }

    /// Waits for room at most for `timeout`, and sends the value.
    ///
    /// # Errors
    /// The value, if the time was up first, or nobody will receive it.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// As [`send`](Sender::send).
    #[track_caller]
    pub fn send_timeout(
        &self,
        value: T,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), SendTimeoutError<T>>> + use<'_, T> {
        let reserved = crate::time::timeout(timeout, self.reserve());
        async move {
            match reserved.await {
                Ok(Ok(permit)) => {
                    permit.send(value);
                    Ok(())
                }
                Ok(Err(_)) => Err(SendTimeoutError::Closed(value)),
                Err(_) => Err(SendTimeoutError::Timeout(value)),
            }
        }
    }

    /// Blocks the thread until there is room, and sends the value: for code outside of tasks, and for blocking calls.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_send(&self, value: T) -> Result<(), SendError<T>> {
        blocking::wait("mpsc::Sender::blocking_send", "send", self.send(value))
    }

    /// Waits for room for one value, and keeps it free for the permit.
    ///
    /// # Errors
    /// If the receiver is gone or has closed the channel.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost.
    #[track_caller]
    pub fn reserve(&self) -> Reserve<'_, T> {
        Reserve(ReserveMany::new(&self.shared, 1))
    }

    /// Waits for room for `n` values, and keeps it free for the permits.
    ///
    /// # Errors
    /// If the receiver is gone or has closed the channel, or if the channel holds fewer than `n` values at most.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost.
    #[track_caller]
    pub fn reserve_many(&self, n: usize) -> ReserveMany<'_, T> {
        ReserveMany::new(&self.shared, n)
    }

    /// As [`reserve`](Sender::reserve), with a permit that is the sender.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the sender is dropped. The place in the queue is lost.
    #[track_caller]
    pub fn reserve_owned(self) -> ReserveOwned<T> {
        ReserveOwned::new(self)
    }

    /// A permit, if there is room for one value. Does not wait.
    ///
    /// # Errors
    /// If there is no room now, or nobody will receive it.
    #[track_caller]
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        self.try_reserve_at(1, Location::caller())?;
        Ok(Permit::new(&self.shared))
    }

    /// Permits, if there is room for `n` values. Does not wait.
    ///
    /// # Errors
    /// If there is no room now, or nobody will receive them.
    #[track_caller]
    pub fn try_reserve_many(&self, n: usize) -> Result<PermitIterator<'_, T>, TrySendError<()>> {
        self.try_reserve_at(n, Location::caller())?;
        Ok(PermitIterator::new(&self.shared, n))
    }

    /// As [`try_reserve`](Sender::try_reserve), with a permit that is the sender.
    ///
    /// # Errors
    /// The sender, for the same reasons.
    #[track_caller]
    pub fn try_reserve_owned(self) -> Result<OwnedPermit<T>, TrySendError<Self>> {
        match self.try_reserve_at(1, Location::caller()) {
            Ok(()) => Ok(OwnedPermit::new(self)),
            Err(TrySendError::Full(())) => Err(TrySendError::Full(self)),
            Err(TrySendError::Closed(())) => Err(TrySendError::Closed(self)),
        }
    }

    fn try_reserve_at(&self, n: usize, site: &'static Location<'static>) -> Result<(), TrySendError<()>> {
        match self.shared.try_slots(n) {
            Ok(mut state) => {
                state.record.used(End::Sender, Hand::polled(site));
                state.reserved += n;
                Ok(())
            }
            Err(NoSlots::Full) => Err(TrySendError::Full(())),
            Err(NoSlots::Closed) => Err(TrySendError::Closed(())),
        }
    }

    /// How many values can be sent now without waiting.
    pub fn capacity(&self) -> usize {
        self.shared.lock().available(self.shared.capacity)
    }

    /// How many values the channel holds.
    pub fn max_capacity(&self) -> usize {
        self.shared.capacity
    }
}

/// Sends into an unbounded channel; see [`unbounded_channel`](super::unbounded_channel).
pub struct UnboundedSender<T> {
    pub(super) shared: Arc<Shared<T>>,
}

/// A sender that does not keep the channel open; see [`UnboundedSender::downgrade`].
pub struct WeakUnboundedSender<T> {
    shared: Arc<Shared<T>>,
}

sender!(UnboundedSender, WeakUnboundedSender);

impl<T> UnboundedSender<T> {
    /// Sends the value. Does not wait.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.shared.send_now(value, Location::caller())
    }
}

/// The future of [`Sender::send`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Send<'a, T> {
    shared: &'a Shared<T>,
    value: Option<T>,
    wait: SlotWait,
}

impl<T> Unpin for Send<'_, T> {}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        assert!(this.value.is_some(), "`send` was polled after it was ready");
        let slot = match this.wait.poll(this.shared, cx, ChannelRecord::used_unwatched) {
            Poll::Ready(slot) => slot,
            Poll::Pending => return Poll::Pending,
        };
        let value = this.value.take().expect("looked at above");
        let sent = match slot {
            Ok(mut state) => state.push(value),
            Err(()) => Err(value),
        };
        Poll::Ready(sent.map(drop).map_err(SendError))
    }
}

impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        self.wait.leave(self.shared);
    }
}

/// The future of `closed`.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Closed<'a, T> {
    shared: &'a Shared<T>,
    wait: ClosedWait,
}

impl<T> Future for Closed<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared;
        let state = shared.lock();
        let is_closed = state.closed;
        self.wait.poll(state, is_closed, |state| &mut state.closed_waiters, |state| shared.parked(state), cx)
    }
}

impl<T> Drop for Closed<'_, T> {
    fn drop(&mut self) {
        let shared = self.shared;
        self.wait.leave(|| shared.lock(), |state| &mut state.closed_waiters);
    }
}

impl<T> fmt::Debug for Send<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}
