//! Channels with many senders and one receiver, bounded and unbounded.

pub mod error;
mod permit;
mod receiver;
mod sender;
mod shared;

use std::panic::Location;
use std::sync::Arc;

pub use self::error::{SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use self::permit::{OwnedPermit, Permit, PermitIterator, Reserve, ReserveMany, ReserveOwned};
pub use self::receiver::{Receiver, Recv, RecvMany, UnboundedReceiver};
pub use self::sender::{Closed, Send, Sender, UnboundedSender, WeakSender, WeakUnboundedSender};
use self::shared::Shared;

/// Makes a channel that holds up to `capacity` values; senders wait while it is full, and are served in
/// the order of their arrival.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (tx, mut rx) = leakfree::sync::mpsc::channel(1);
/// leakfree::spawn(async move {
///     for n in 0..3 {
///         tx.send(n).await.unwrap();
///     }
/// });
/// assert_eq!(rx.recv().await, Some(0));
/// assert_eq!(rx.recv().await, Some(1));
/// assert_eq!(rx.recv().await, Some(2));
/// assert_eq!(rx.recv().await, None);
/// # });
/// ```
///
/// # Panics
/// If `capacity` is zero.
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "an mpsc channel must hold at least one value: its capacity was 0");
    let shared = Shared::new(Some(capacity), Location::caller());
    (Sender::new(Arc::clone(&shared)), Receiver::new(shared))
}

/// Makes a channel that holds any number of values: sending never waits. Memory is its bound.
#[track_caller]
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    let shared = Shared::new(None, Location::caller());
    (UnboundedSender::new(Arc::clone(&shared)), UnboundedReceiver::new(Receiver::new(shared)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn senders_are_served_in_order_and_none_overtakes() {
        let (tx, mut rx) = channel(1);
        tx.try_send(0).unwrap();
        let (mut a, mut b) = (pin!(tx.send(1)), pin!(tx.send(2)));
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        assert_eq!(rx.try_recv(), Ok(0));
        assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)), "the slot is the first waiter's");
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        assert!(a.as_mut().poll(&mut cx()).is_ready());
        assert_eq!(rx.try_recv(), Ok(1));
        assert!(b.as_mut().poll(&mut cx()).is_ready());
        assert_eq!(rx.try_recv(), Ok(2));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_granted_sender_that_is_dropped_hands_its_slot_on() {
        let (tx, mut rx) = channel(1);
        tx.try_send(0).unwrap();
        let mut a = Box::pin(tx.send(1));
        let mut b = pin!(tx.send(2));
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        assert!(b.as_mut().poll(&mut cx()).is_pending());
        assert_eq!(rx.try_recv(), Ok(0));
        drop(a);
        assert!(b.as_mut().poll(&mut cx()).is_ready());
        assert_eq!(rx.try_recv(), Ok(2));
        assert_eq!(tx.capacity(), 1);
    }

    #[test]
    fn closing_gives_values_back_to_senders_and_keeps_those_sent() {
        let (tx, mut rx) = channel(1);
        tx.try_send(0).unwrap();
        let mut a = pin!(tx.send(1));
        assert!(a.as_mut().poll(&mut cx()).is_pending());
        rx.close();
        assert_eq!(block_on(a), Err(SendError(1)));
        assert_eq!(block_on(rx.recv()), Some(0));
        assert_eq!(block_on(rx.recv()), None);
        assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
    }

    #[test]
    fn the_last_senders_end_is_the_receivers() {
        let (tx, mut rx) = unbounded_channel();
        let tx2 = tx.clone();
        tx.send(1).unwrap();
        drop(tx);
        assert_eq!(block_on(rx.recv()), Some(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        drop(tx2);
        assert_eq!(block_on(rx.recv()), None);
    }

    #[test]
    fn what_an_unbounded_receiver_has_taken_over_is_still_in_the_channel() {
        struct Tells(u8, std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.1.lock().unwrap().push(self.0);
            }
        }
        let dropped = Arc::default();
        let (tx, mut rx) = unbounded_channel();
        let send = |n| assert!(tx.send(Tells(n, Arc::clone(&dropped))).is_ok());
        (0..4).for_each(send);
        assert_eq!((block_on(rx.recv()).map(|tells| tells.0), rx.len()), (Some(0), 3));
        (4..8).for_each(send);
        assert_eq!((rx.len(), rx.is_empty()), (7, false));
        let mut buffer = Vec::new();
        assert_eq!(block_on(rx.recv_many(&mut buffer, 1)), 1);
        assert_eq!(block_on(rx.recv_many(&mut buffer, 4)), 4, "of those taken over, and of those sent since");
        assert_eq!(buffer.iter().map(|tells| tells.0).collect::<Vec<u8>>(), [1, 2, 3, 4, 5]);
        buffer.clear();
        (8..10).for_each(send);
        assert_eq!(rx.try_recv().map(|tells| tells.0).ok(), Some(6));
        (10..12).for_each(send);
        rx.close();
        assert!(tx.send(Tells(12, Arc::default())).is_err());
        assert_eq!((rx.len(), block_on(rx.recv()).map(|tells| tells.0)), (5, Some(7)));
        drop(rx);
        assert_eq!(*dropped.lock().unwrap(), (0..12).collect::<Vec<u8>>(), "in the order they were sent");
    }

    #[test]
    fn a_receiver_can_be_shared_whatever_its_values_are() {
        fn is_sync<T: Sync>(_: &T) {}
        let (tx, rx) = unbounded_channel::<std::cell::Cell<u8>>();
        is_sync(&rx);
        is_sync(&tx);
    }

    #[test]
    fn room_for_a_burst_is_given_back() {
        let burst = if cfg!(miri) { 1_000 } else { 100_000 };
        let (tx, mut rx) = unbounded_channel();
        (0..burst).for_each(|n| tx.send(n).unwrap());
        let all: Vec<i32> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(all.len(), burst as usize);
        tx.send(0).unwrap();
        assert!(rx.try_recv().is_ok());
        assert!(rx.try_recv().is_err());
        assert!(tx.shared.lock().values.capacity() < 100);
    }

    #[test]
    fn values_left_are_dropped_with_the_receiver() {
        let value = Arc::new(());
        let (tx, rx) = unbounded_channel();
        tx.send(Arc::clone(&value)).unwrap();
        drop(rx);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(tx.send(value).is_err());
        assert!(tx.is_closed());
        block_on(tx.closed());
    }
}
