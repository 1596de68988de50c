//! Channels with many senders and one receiver, bounded and unbounded.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::task::wait::{self, Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::task::{frame, waker};

/// Makes a channel that holds up to `capacity` values; senders wait while it is full, and are served in
/// the order of their arrival.
///
/// # Panics
/// If `capacity` is zero.
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "an mpsc channel must hold at least one value: its capacity was 0");
    let shared = Shared::new(capacity, Location::caller());
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// Makes a channel that holds any number of values: sending never waits. Memory is its bound.
#[track_caller]
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    let shared = Shared::new(usize::MAX, Location::caller());
    let receiver = Receiver { shared: Arc::clone(&shared) };
    (UnboundedSender { shared }, UnboundedReceiver { receiver })
}

struct Shared<T> {
    state: Mutex<State<T>>,
    senders: AtomicUsize,
    capacity: usize,
    created: &'static Location<'static>,
}

struct State<T> {
    values: VecDeque<T>,
    /// Slots that were granted to a waiting sender and not used yet.
    granted: usize,
    /// Waiting senders.
    full: Waiters,
    receiver: Option<Waker>,
    /// Who waits in `closed`.
    closed_waiters: Waiters,
    /// The receiver is gone or has closed.
    closed: bool,
    /// Every sender is gone.
    ended: bool,
}

impl<T> State<T> {
    fn free(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.values.len()).saturating_sub(self.granted)
    }
}

impl<T> Shared<T> {
    fn new(capacity: usize, created: &'static Location<'static>) -> Arc<Shared<T>> {
        Arc::new(Shared {
            state: Mutex::new(State {
                values: VecDeque::new(),
                granted: 0,
                full: Waiters::new(),
                receiver: None,
                closed_waiters: Waiters::new(),
                closed: false,
                ended: false,
            }),
            senders: AtomicUsize::new(1),
            capacity,
            created,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self) -> Object {
        Object::Created(self.created)
    }

    fn add_sender(self: &Arc<Self>) -> Arc<Self> {
        // Relaxed: made from a sender that exists, as in `Arc`.
        self.senders.fetch_add(1, Relaxed);
        Arc::clone(self)
    }

    fn drop_sender(&self) {
        // AcqRel: the last one's lock sees what the others sent; the lock alone would do, this names it.
        if self.senders.fetch_sub(1, AcqRel) == 1 {
            let woken = {
                let mut state = self.lock();
                state.ended = true;
                state.receiver.take().map(waker::fire)
            };
            drop(woken);
        }
    }

    /// Sends if there is room for one more, and nobody waits for it.
    fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let woken = {
            let mut state = self.lock();
            if state.closed {
                return Err(TrySendError::Closed(value));
            }
            if state.free(self.capacity) == 0 {
                return Err(TrySendError::Full(value));
            }
            state.values.push_back(value);
            state.receiver.take().map(waker::fire)
        };
        drop(woken);
        Ok(())
    }

    #[track_caller]
    fn closed(&self) -> Closed<'_, T> {
        Closed { shared: self, place: None, leaf: Leaf::new(WaitReason::MpscClosed, self.object()) }
    }
}

macro_rules! sender {
    ($sender:ident) => {
        impl<T> $sender<T> {
            /// Waits until the receiver is gone or closes the channel.
            ///
            /// # Cancel safety
            /// Cancel safe: it holds no value.
            #[track_caller]
            pub fn closed(&self) -> Closed<'_, T> {
                self.shared.closed()
            }

            /// Whether the receiver is gone or has closed the channel. Does not wait.
            pub fn is_closed(&self) -> bool {
                self.shared.lock().closed
            }

            /// Whether both send into the same channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.shared, &other.shared)
            }
        }

        impl<T> Clone for $sender<T> {
            fn clone(&self) -> Self {
                $sender { shared: self.shared.add_sender() }
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
    };
}

/// Sends into a bounded channel; see [`channel`].
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

sender!(Sender);

impl<T> Sender<T> {
    /// Waits for room, and sends the value.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value is dropped and was not sent; the place in the queue is lost.
    #[track_caller]
    pub fn send(&self, value: T) -> Send<'_, T> {
        Send {
            shared: &self.shared,
            value: Some(value),
            place: None,
            leaf: Leaf::new(WaitReason::MpscSend, self.shared.object()),
        }
    }

    /// Sends the value, if there is room for it. Does not wait.
    ///
    /// # Errors
    /// The value, if there is no room now, or nobody will receive it.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.shared.try_send(value)
    }

    /// How many values can be sent now without waiting.
    pub fn capacity(&self) -> usize {
        self.shared.lock().free(self.shared.capacity)
    }

    /// How many values the channel holds.
    pub fn max_capacity(&self) -> usize {
        self.shared.capacity
    }
}

/// Sends into an unbounded channel; see [`unbounded_channel`].
pub struct UnboundedSender<T> {
    shared: Arc<Shared<T>>,
}

sender!(UnboundedSender);

impl<T> UnboundedSender<T> {
    /// Sends the value. Does not wait.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.shared.try_send(value).map_err(|error| SendError(error.into_inner()))
    }
}

/// The future of [`Sender::send`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Send<'a, T> {
    shared: &'a Shared<T>,
    value: Option<T>,
    place: Option<Place>,
    leaf: Leaf,
}

impl<T> Unpin for Send<'_, T> {}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let take = |value: &mut Option<T>| value.take().expect("`send` was polled after it was ready");
        let mut state = this.shared.lock();
        let may_send = match this.place {
            None => {
                if state.closed {
                    drop(state);
                    return Poll::Ready(Err(SendError(take(&mut this.value))));
                }
                // A free slot is only there when nobody waits: slots that come free go to the first in line.
                state.free(this.shared.capacity) > 0
            }
            Some(place) => match state.full.poll(place, cx, ()) {
                Ok(()) => {
                    state.full.leave(place);
                    this.place = None;
                    if state.closed {
                        drop(state);
                        this.leaf.ready();
                        return Poll::Ready(Err(SendError(take(&mut this.value))));
                    }
                    state.granted -= 1;
                    true
                }
                Err(old) => {
                    drop(state);
                    drop(old);
                    this.leaf.pending(cx);
                    return Poll::Pending;
                }
            },
        };
        if !may_send {
            this.place = Some(state.full.join(cx, ()));
            drop(state);
            this.leaf.pending(cx);
            return Poll::Pending;
        }
        state.values.push_back(take(&mut this.value));
        let woken = state.receiver.take().map(waker::fire);
        drop(state);
        drop(woken);
        this.leaf.ready();
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.shared.lock();
        let waker = state.full.leave(place);
        let mut woken = None;
        if waker.is_none() && !state.closed {
            // Granted and not used: the next in line has it.
            woken = state.full.grant();
            if woken.is_none() {
                state.granted -= 1;
            }
        }
        drop(state);
        drop((waker, woken));
    }
}

/// Receives from a bounded channel; see [`channel`].
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Waits for the next value; `None` when every sender is gone, or the channel closed, and nothing is
    /// left in it.
    ///
    /// # Cancel safety
    /// Cancel safe: a value that was not returned is still there.
    #[track_caller]
    pub fn recv(&mut self) -> Recv<'_, T> {
        let leaf = Leaf::new(WaitReason::MpscRecv, self.shared.object());
        Recv { shared: &self.shared, leaf }
    }

    /// The next value, if there is one. Does not wait.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none now, [`TryRecvError::Disconnected`] if there never will be.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.shared.take_value(None) {
            Poll::Ready(Some(value)) => Ok(value),
            Poll::Ready(None) => Err(TryRecvError::Disconnected),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// [`recv`](Receiver::recv) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        std::task::ready!(wait::proceed_detached(cx));
        let polled = self.shared.take_value(Some(cx));
        match polled {
            Poll::Pending => {
                frame::give_back();
                Leaf::new(WaitReason::MpscRecv, self.shared.object()).pending_detached(cx);
            }
            Poll::Ready(_) => frame::take_back_once(WaitReason::MpscRecv, self.shared.object()),
        }
        polled
    }

    /// Lets nothing be sent any more. What has been sent can still be received.
    pub fn close(&mut self) {
        self.shared.close();
    }

    /// How many values wait to be received.
    pub fn len(&self) -> usize {
        self.shared.lock().values.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Shared<T> {
    /// Takes the next value, and gives its slot to the first in line. Without a value it registers `cx`, if there is
    /// one.
    fn take_value(&self, cx: Option<&Context<'_>>) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(value) = state.values.pop_front() {
            let mut woken = None;
            if !state.full.is_empty() && !state.closed {
                woken = state.full.grant();
                state.granted += 1;
            }
            drop(state);
            drop(woken);
            return Poll::Ready(Some(value));
        }
        if state.ended || state.closed {
            return Poll::Ready(None);
        }
        let mut old = None;
        if let Some(cx) = cx {
            match &state.receiver {
                Some(waker) if waker::will_wake(waker, cx) => {}
                _ => old = state.receiver.replace(waker::register(cx)),
            }
        }
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn close(&self) {
        let woken = {
            let mut state = self.lock();
            state.closed = true;
            state.granted = 0;
            let mut woken = state.full.grant_all();
            woken.extend(state.closed_waiters.grant_all());
            woken
        };
        drop(woken);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        let (values, waker) = {
            let mut state = self.shared.lock();
            (std::mem::take(&mut state.values), state.receiver.take())
        };
        drop((values, waker));
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Receives from an unbounded channel; see [`unbounded_channel`].
#[derive(Debug)]
pub struct UnboundedReceiver<T> {
    receiver: Receiver<T>,
}

impl<T> UnboundedReceiver<T> {
    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: a value that was not returned is still there.
    #[track_caller]
    pub fn recv(&mut self) -> Recv<'_, T> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::poll_recv`].
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_recv(cx)
    }

    /// As [`Receiver::close`].
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// As [`Receiver::len`].
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// As [`Receiver::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

/// The future of [`Receiver::recv`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Recv<'a, T> {
    shared: &'a Shared<T>,
    leaf: Leaf,
}

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        std::task::ready!(self.leaf.proceed(cx));
        let polled = self.shared.take_value(Some(cx));
        match polled {
            Poll::Ready(_) => self.leaf.ready(),
            Poll::Pending => self.leaf.pending(cx),
        }
        polled
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        let old = self.shared.lock().receiver.take();
        drop(old);
    }
}

/// The future of `closed`.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Closed<'a, T> {
    shared: &'a Shared<T>,
    place: Option<Place>,
    leaf: Leaf,
}

impl<T> Future for Closed<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        if state.closed {
            drop(state);
            this.leaf.ready();
            return Poll::Ready(());
        }
        let old = match this.place {
            Some(place) => state.closed_waiters.poll(place, cx, ()).err().flatten(),
            None => {
                this.place = Some(state.closed_waiters.join(cx, ()));
                None
            }
        };
        drop(state);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T> Drop for Closed<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let old = self.shared.lock().closed_waiters.leave(place);
            drop(old);
        }
    }
}

impl<T> fmt::Debug for Send<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}

/// The value could not be sent: nobody will receive it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("channel closed")
    }
}

impl<T> std::error::Error for SendError<T> {}

/// The value was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// Nobody will receive it.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Closed(value) => value,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "no available capacity",
            TrySendError::Closed(_) => "channel closed",
        })
    }
}

impl<T> std::error::Error for TrySendError<T> {}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// Nothing will ever be there.
    Disconnected,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "receiving on an empty channel",
            TryRecvError::Disconnected => "receiving on a closed channel",
        })
    }
}

impl std::error::Error for TryRecvError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::pin::pin;

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
