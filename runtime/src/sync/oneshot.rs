//! A channel for one value.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::blocking;
use crate::task::channel_facts::{ChannelRecord, End};
use crate::task::facts::Hand;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker::{Asker, Woken};
use crate::task::{frame, waker};
use crate::util::lock::{Guard, Lock};

/// The errors of this channel.
pub mod error {
    pub use super::{RecvError, TryRecvError};
}

/// Makes a channel for one value.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (tx, rx) = leakfree::sync::oneshot::channel();
/// leakfree::spawn(async move { tx.send(3).unwrap() });
/// assert_eq!(rx.await, Ok(3));
/// # });
/// ```
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let created = Location::caller();
    let shared = Arc::new(Shared { state: Lock::new(State::new()), created });
    let leaf = Leaf::new(WaitReason::OneshotRecv, Object::Created(created));
    (Sender { shared: Some(Arc::clone(&shared)) }, Receiver { shared, leaf, done: false, taken: false })
}

struct Shared<T> {
    state: Lock<State<T>>,
    created: &'static Location<'static>,
}

struct State<T> {
    value: Option<T>,
    /// The sender has sent or is gone.
    sent: bool,
    /// The receiver is gone or has closed.
    closed: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    record: ChannelRecord,
}

impl<T> State<T> {
    fn new() -> State<T> {
        State {
            value: None,
            sent: false,
            closed: false,
            receiver: None,
            sender: None,
            record: ChannelRecord::new(),
        }
    }

    /// The sender has done what it could. Whoever waits for that is woken by it, so snapshots need not be told.
    fn end_sender(&mut self) -> Option<Woken> {
        self.sent = true;
        self.receiver.take().map(waker::fire)
    }
}

impl<T> Shared<T> {
    fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let old = {
            let mut state = self.lock();
            if state.closed {
                return Poll::Ready(());
            }
            state.record.parked(self.created, [1, 1]);
            register(&mut state.sender, cx, Asker::of(cx))
        };
        drop(old);
        Poll::Pending
    }

    fn lock(&self) -> Guard<'_, State<T>> {
        self.state.lock()
    }
}

/// Replaces a registration if it is another task's; what is returned is dropped outside the lock.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>, asker: Asker<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker::will_wake(waker, cx) => None,
        slot => slot.replace(asker.register()),
    }
}

/// Sends one value; see [`channel`].
pub struct Sender<T> {
    shared: Option<Arc<Shared<T>>>,
}

impl<T> Sender<T> {
    /// Sends the value. Does not wait.
    ///
    /// # Errors
    /// The value, if the receiver is gone or has closed the channel.
    pub fn send(mut self, value: T) -> Result<(), T> {
        let shared = self.shared.take().expect("present until it is sent or dropped");
        let woken = {
            let mut state = shared.lock();
            if state.closed {
                state.sent = true;
                return Err(value);
            }
            state.value = Some(value);
            state.end_sender()
        };
        drop(woken);
        Ok(())
    }

    /// Whether the receiver is gone or has closed the channel. Does not wait.
    pub fn is_closed(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.lock().closed)
    }

    fn shared(&self) -> &Shared<T> {
        self.shared.as_deref().expect("present until it is sent or dropped")
    }

    /// Waits until the receiver is gone or closes the channel.
    ///
    /// # Cancel safety
    /// Cancel safe: it holds no value.
    #[track_caller]
    pub fn closed(&mut self) -> Closed<'_, T> {
        let shared = self.shared();
        let leaf = Leaf::new(WaitReason::OneshotClosed, Object::Created(shared.created));
        Closed { shared, leaf }
    }

    /// [`closed`](Sender::closed) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared();
        match shared.poll_closed(cx) {
            Poll::Pending => {
                let object = shared.lock().record.object(shared.created);
                Leaf::new(WaitReason::OneshotClosed, object).pending_detached(cx);
                Poll::Pending
            }
            Poll::Ready(()) => {
                let object = shared.lock().record.object(shared.created);
                frame::take_back_once(WaitReason::OneshotClosed, object);
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        let woken = shared.lock().end_sender();
        drop(woken);
    }
}

/// The future of [`Sender::closed`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Closed<'a, T> {
    shared: &'a Shared<T>,
    leaf: Leaf,
}

impl<T> Future for Closed<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let polled = this.shared.poll_closed(cx);
        match polled {
            Poll::Ready(()) => this.leaf.ready(),
            Poll::Pending => {
                this.leaf.set_object(this.shared.lock().record.object(this.shared.created));
                this.leaf.pending(cx);
            }
        }
        polled
    }
}

impl<T> Drop for Closed<'_, T> {
    fn drop(&mut self) {
        let old = self.shared.lock().sender.take();
        drop(old);
    }
}

/// Receives one value: await it. See [`channel`].
///
/// # Cancel safety
/// Awaiting `&mut receiver` is cancel safe: a value that was not returned is still there.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    leaf: Leaf,
    /// It was awaited to its end.
    done: bool,
    /// `try_recv` has given the value out, or said that there will be none.
    taken: bool,
}

impl<T> Receiver<T> {
    /// The value, if it has been sent. Does not wait.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if it has not been sent yet, [`TryRecvError::Closed`] if it never will be or has been
    /// taken.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = self.shared.lock();
        match state.value.take() {
            Some(value) => {
                state.closed = true;
                self.taken = true;
                Ok(value)
            }
            None if state.sent || state.closed => {
                self.taken = true;
                Err(TryRecvError::Closed)
            }
            None => Err(TryRecvError::Empty),
        }
    }

    /// Blocks the thread until the value is there: for code outside of tasks, and for blocking calls.
    ///
    /// # Errors
    /// [`RecvError`] if the sender was dropped without sending.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_recv(self) -> Result<T, RecvError> {
        blocking::wait("oneshot::Receiver::blocking_recv", "receiver", self)
    }

    /// Whether the value, or the news that there will be none, has been given out.
    pub fn is_terminated(&self) -> bool {
        self.done || self.taken
    }

    /// Whether no value is there now.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().value.is_none()
    }

    /// Lets nothing be sent any more. A value that has been sent can still be received.
    pub fn close(&mut self) {
        drop(self.shut(false));
    }

    /// Closes, and takes out what was sent if `take`. It is dropped by the caller, outside the lock.
    fn shut(&mut self, take: bool) -> Option<T> {
        let (woken, receiver, value) = {
            let mut state = self.shared.lock();
            state.closed = true;
            let value = if take { state.value.take() } else { None };
            (state.sender.take().map(waker::fire), state.receiver.take(), value)
        };
        drop((woken, receiver));
        value
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    /// # Panics
    /// When polled again after it was ready.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        let this = &mut *self;
        assert!(!this.done, "a oneshot::Receiver was polled after it was ready");
        ready!(this.leaf.proceed_at(cx, Location::caller()));
        let (old, asker) = {
            let mut state = this.shared.lock();
            if let Some(value) = state.value.take() {
                this.done = true;
                this.leaf.ready();
                return Poll::Ready(Ok(value));
            }
            if state.sent || state.closed {
                this.done = true;
                this.leaf.ready();
                return Poll::Ready(Err(RecvError(())));
            }
            this.leaf.set_location(Location::caller());
            let user = Hand::polled(this.leaf.location());
            if state.record.is_published() {
                state.record.used(End::Receiver, user);
                this.leaf.set_object(state.record.object(this.shared.created));
            } else {
                // There is nothing to tell of it: one sender, which has not been used, for it is used once and then wakes us.
                state.record.used_unwatched(End::Receiver, user);
            }
            let asker = Asker::of(cx);
            (register(&mut state.receiver, cx, asker), asker)
        };
        drop(old);
        this.leaf.pending_as(asker);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.shut(true));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}

/// The sender was dropped without sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvError(());

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("channel closed")
    }
}

impl std::error::Error for RecvError {}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// Nothing has been sent yet.
    Empty,
    /// Nothing will be sent any more, or it has been taken.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "channel empty",
            TryRecvError::Closed => "channel closed",
        })
    }
}

impl std::error::Error for TryRecvError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::pin::pin;

    #[test]
    fn a_value_sent_is_received_or_given_back() {
        let (tx, rx) = channel();
        tx.send(1).unwrap();
        assert_eq!(block_on(rx), Ok(1));
        let (tx, rx) = channel();
        drop(rx);
        assert_eq!(tx.send(2), Err(2));
        let (tx, rx) = channel::<i32>();
        drop(tx);
        assert_eq!(block_on(rx), Err(RecvError(())));
    }

    #[test]
    fn a_closed_channel_still_holds_what_was_sent() {
        let (tx, mut rx) = channel();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.send("kept").unwrap();
        rx.close();
        assert_eq!(rx.try_recv(), Ok("kept"));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn the_value_is_dropped_once_with_the_receiver() {
        let value = Arc::new(());
        let (tx, rx) = channel();
        tx.send(Arc::clone(&value)).unwrap();
        drop(rx);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn the_sender_hears_of_the_receivers_end() {
        let (mut tx, rx) = channel::<()>();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut closed = pin!(tx.closed());
            assert!(closed.as_mut().poll(&mut cx).is_pending());
            drop(rx);
            assert!(closed.as_mut().poll(&mut cx).is_ready());
        }
        assert!(tx.is_closed());
    }
}
