//! Room in a bounded channel that is kept free for whoever has the permit.

use std::future::Future;
use std::iter::FusedIterator;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::SendError;
use super::sender::Sender;
use super::shared::{Shared, SlotWait};
use crate::task::channel_facts::ChannelRecord;
use crate::task::wait::WaitReason;

/// Room for one value; dropping it gives the room back.
#[must_use = "the room is given back at once if the permit is not kept"]
pub struct Permit<'a, T> {
    shared: &'a Shared<T>,
}

impl<'a, T> Permit<'a, T> {
    /// For whoever has reserved a slot.
    pub(super) fn new(shared: &'a Shared<T>) -> Permit<'a, T> {
        Permit { shared }
    }

    /// Sends the value. Does not wait, and does not fail: if the receiver is gone the value is dropped.
    #[track_caller]
    pub fn send(self, value: T) {
        let shared = self.shared;
        mem::forget(self);
        shared.end_permit(Some(value), Some(Location::caller()));
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.shared.end_permit(None, None);
    }
}

/// Room for one value, and the sender that will send it; dropping it gives the room back and drops the sender.
#[must_use = "the room is given back at once if the permit is not kept"]
pub struct OwnedPermit<T> {
    /// `None` once it was used.
    sender: Option<Sender<T>>,
}

impl<T> OwnedPermit<T> {
    /// For whoever has reserved a slot.
    pub(super) fn new(sender: Sender<T>) -> OwnedPermit<T> {
        OwnedPermit { sender: Some(sender) }
    }

    /// Sends the value, and gives the sender back. Does not wait, and does not fail: if the receiver is gone the value is
    /// dropped.
    #[track_caller]
    pub fn send(mut self, value: T) -> Sender<T> {
        let sender = self.sender.take().expect("present until it is used");
        sender.shared.end_permit(Some(value), Some(Location::caller()));
        sender
    }

    /// Gives the room back, and the sender.
    pub fn release(mut self) -> Sender<T> {
        let sender = self.sender.take().expect("present until it is used");
        sender.shared.end_permit(None, None);
        sender
    }

    fn sender(&self) -> &Sender<T> {
        self.sender.as_ref().expect("present until it is used")
    }

    /// Whether both are of the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        self.sender().same_channel(other.sender())
    }

    /// Whether both are of the same channel.
    pub fn same_channel_as_sender(&self, sender: &Sender<T>) -> bool {
        self.sender().same_channel(sender)
    }
}

impl<T> Drop for OwnedPermit<T> {
    fn drop(&mut self) {
        if let Some(sender) = &self.sender {
            sender.shared.end_permit(None, None);
        }
    }
}

/// Room for several values; dropping it gives the rest back.
#[must_use = "the room is given back at once if the permits are not kept"]
pub struct PermitIterator<'a, T> {
    shared: &'a Shared<T>,
    n: usize,
}

impl<'a, T> PermitIterator<'a, T> {
    /// For whoever has reserved `n` slots.
    pub(super) fn new(shared: &'a Shared<T>, n: usize) -> PermitIterator<'a, T> {
        PermitIterator { shared, n }
    }
}

impl<'a, T> Iterator for PermitIterator<'a, T> {
    type Item = Permit<'a, T>;

    fn next(&mut self) -> Option<Permit<'a, T>> {
        self.n = self.n.checked_sub(1)?;
        Some(Permit { shared: self.shared })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.n, Some(self.n))
    }
}

impl<T> ExactSizeIterator for PermitIterator<'_, T> {}
impl<T> FusedIterator for PermitIterator<'_, T> {}

impl<T> Drop for PermitIterator<'_, T> {
    fn drop(&mut self) {
        if self.n > 0 {
            self.shared.release_permits(self.n);
        }
    }
}

/// The future of [`Sender::reserve_many`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct ReserveMany<'a, T> {
    shared: &'a Shared<T>,
    n: usize,
    wait: SlotWait,
}

impl<'a, T> ReserveMany<'a, T> {
    #[track_caller]
    pub(super) fn new(shared: &'a Shared<T>, n: usize) -> ReserveMany<'a, T> {
        ReserveMany { shared, n, wait: SlotWait::new(shared, n, WaitReason::MpscReserve) }
    }

    fn poll_slots(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError<()>>> {
        if self.n > self.shared.capacity {
            return Poll::Ready(Err(SendError(())));
        }
        self.wait.poll(self.shared, cx, ChannelRecord::used).map(|slots| match slots {
            Ok(mut state) => {
                state.reserved += self.n;
                Ok(())
            }
            Err(()) => Err(SendError(())),
        })
    }
}

impl<'a, T> Future for ReserveMany<'a, T> {
    type Output = Result<PermitIterator<'a, T>, SendError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_slots(cx).map_ok(|()| PermitIterator::new(self.shared, self.n))
    }
}

impl<T> Drop for ReserveMany<'_, T> {
    fn drop(&mut self) {
        self.wait.leave(self.shared);
    }
}

/// The future of [`Sender::reserve`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Reserve<'a, T>(pub(super) ReserveMany<'a, T>);

impl<'a, T> Future for Reserve<'a, T> {
    type Output = Result<Permit<'a, T>, SendError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_slots(cx).map_ok(|()| Permit::new(self.0.shared))
    }
}

/// The future of [`Sender::reserve_owned`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct ReserveOwned<T> {
    /// Gone once it is ready.
    sender: Option<Sender<T>>,
    wait: SlotWait,
}

impl<T> ReserveOwned<T> {
    #[track_caller]
    pub(super) fn new(sender: Sender<T>) -> ReserveOwned<T> {
        let wait = SlotWait::new(&sender.shared, 1, WaitReason::MpscReserve);
        ReserveOwned { sender: Some(sender), wait }
    }
}

impl<T> Future for ReserveOwned<T> {
    type Output = Result<OwnedPermit<T>, SendError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let sender = this.sender.as_ref().expect("`reserve_owned` was polled after it was ready");
        let reserved = match this.wait.poll(&sender.shared, cx, ChannelRecord::used) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(mut state)) => {
                state.reserved += 1;
                true
            }
            Poll::Ready(Err(())) => false,
        };
        let sender = this.sender.take().expect("looked at above");
        Poll::Ready(if reserved { Ok(OwnedPermit::new(sender)) } else { Err(SendError(())) })
    }
}

impl<T> Drop for ReserveOwned<T> {
    fn drop(&mut self) {
        if let Some(sender) = &self.sender {
            self.wait.leave(&sender.shared);
        }
    }
}

opaque! {
    [T] Permit<'_, T>, "Permit";
    [T] OwnedPermit<T>, "OwnedPermit";
    [T] PermitIterator<'_, T>, "PermitIterator";
    [T] ReserveMany<'_, T>, "ReserveMany";
    [T] Reserve<'_, T>, "Reserve";
    [T] ReserveOwned<T>, "ReserveOwned";
}
