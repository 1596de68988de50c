//! A channel in which every receiver has every value.
//!
//! Values lie in a queue with positions that count from the start of the channel; a receiver knows the position of its next
//! one. A value goes when its last receiver has had it, or when the queue is full: who has not had it then lags behind.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex as ValueLock};
use std::task::{Context, Poll, ready};

use super::blocking;
use super::closed::ClosedWait;
use crate::loom::sync::PoisonError;
use crate::task::channel_facts::{ChannelRecord, End};
use crate::task::facts::Hand;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::task::waker;
use crate::util::lock::{Guard, Lock};

/// The errors of this channel.
pub mod error {
    pub use super::{RecvError, SendError, TryRecvError};
}

/// Makes a channel that holds up to `capacity` values for the receiver that is furthest behind.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (tx, mut one) = leakfree::sync::broadcast::channel(16);
/// let mut two = tx.subscribe();
/// tx.send(7).unwrap();
/// assert_eq!(one.recv().await, Ok(7));
/// assert_eq!(two.recv().await, Ok(7));
/// # });
/// ```
///
/// # Panics
/// If `capacity` is zero, or more than `usize::MAX / 2`.
#[track_caller]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let tx = Sender::new(capacity);
    let rx = tx.subscribe();
    (tx, rx)
}

struct Shared<T> {
    state: Lock<State<T>>,
    capacity: usize,
    created: &'static Location<'static>,
}

struct State<T> {
    values: VecDeque<Slot<T>>,
    /// The position of the first value.
    head: u64,
    senders: usize,
    weak_senders: usize,
    receivers: usize,
    /// Who waits for a value.
    waiting: Waiters,
    /// Who waits for the last receiver's end.
    closed: Waiters,
    record: ChannelRecord,
}

struct Slot<T> {
    /// The lock is for cloning it: a value need not be `Sync`.
    value: Arc<ValueLock<T>>,
    /// How many receivers have not had it. Not less than of the value before.
    unread: usize,
}

/// What a receiver found.
enum Taken<T> {
    Value(Arc<ValueLock<T>>),
    Lagged(u64),
    Empty,
    Closed,
}

impl<T> State<T> {
    fn tail(&self) -> u64 {
        self.head + self.values.len() as u64
    }

    /// The value at a receiver's position, and moves it on.
    fn take(&mut self, next: &mut u64) -> Taken<T> {
        if *next < self.head {
            let missed = self.head - *next;
            *next = self.head;
            return Taken::Lagged(missed);
        }
        let index = (*next - self.head) as usize;
        let Some(slot) = self.values.get_mut(index) else {
            return if self.senders == 0 { Taken::Closed } else { Taken::Empty };
        };
        *next += 1;
        slot.unread -= 1;
        if slot.unread > 0 {
            return Taken::Value(Arc::clone(&slot.value));
        }
        // Who has not had an earlier one has not had this one: it is the first.
        debug_assert_eq!(index, 0, "a value has no unread one before it");
        self.head += 1;
        let slot = self.values.pop_front().expect("looked at above");
        Taken::Value(slot.value)
    }

    fn parked(&mut self, created: &'static Location<'static>) -> Object {
        self.record.parked(created, [self.senders, self.receivers])
    }
}

impl<T> Shared<T> {
    fn state(&self) -> Guard<'_, State<T>> {
        self.state.lock()
    }

    fn subscribe(self: &Arc<Self>) -> Receiver<T> {
        let next = {
            let mut state = self.state();
            state.receivers += 1;
            let receivers = state.receivers;
            state.record.set_handles(End::Receiver, receivers);
            state.tail()
        };
        Receiver { shared: Arc::clone(self), next }
    }

    /// One more sender: made from another one, or from a weak one if there is another one.
    fn add_sender(self: &Arc<Self>) -> Option<Sender<T>> {
        let mut state = self.state();
        if state.senders == 0 {
            return None;
        }
        state.senders += 1;
        let senders = state.senders;
        state.record.set_handles(End::Sender, senders);
        drop(state);
        Some(Sender { shared: Arc::clone(self) })
    }
}

/// A value for the user: a clone, or the value itself if nobody else needs it.
fn unwrap<T: Clone>(value: Arc<ValueLock<T>>) -> T {
    match Arc::try_unwrap(value) {
        Ok(value) => value.into_inner().unwrap_or_else(PoisonError::into_inner),
        Err(shared) => shared.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

/// Sends values to all receivers; see [`channel`].
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// A channel without receivers.
    ///
    /// # Panics
    /// If `capacity` is zero, or more than `usize::MAX / 2`.
    #[track_caller]
    pub fn new(capacity: usize) -> Sender<T> {
        assert!(capacity > 0, "a broadcast channel must hold at least one value: its capacity was 0");
        assert!(capacity <= usize::MAX / 2, "a broadcast channel can hold usize::MAX / 2 values at most");
        let state = State {
            values: VecDeque::new(),
            head: 0,
            senders: 1,
            weak_senders: 0,
            receivers: 0,
            waiting: Waiters::new(),
            closed: Waiters::new(),
            record: ChannelRecord::new(),
        };
        Sender { shared: Arc::new(Shared { state: Lock::new(state), capacity, created: Location::caller() }) }
    }

    /// Sends a value to all receivers that there are now, and returns how many. Does not wait: if the channel is full its oldest
    /// value goes.
    ///
    /// # Errors
    /// The value, if there is no receiver.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let site = Location::caller();
        let (receivers, gone, woken) = {
            let mut state = self.shared.state();
            state.record.used(End::Sender, Hand::polled(site));
            if state.receivers == 0 {
                return Err(SendError(value));
            }
            let receivers = state.receivers;
            let gone = if state.values.len() == self.shared.capacity {
                state.head += 1;
                state.values.pop_front()
            } else {
                None
            };
            state.values.push_back(Slot { value: Arc::new(ValueLock::new(value)), unread: receivers });
            (receivers, gone, state.waiting.grant_all())
        };
        drop(woken);
        drop(gone);
        Ok(receivers)
    }

    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.subscribe()
    }

    /// How many values there are that some receiver has not had.
    pub fn len(&self) -> usize {
        self.shared.state().values.len()
    }

    /// Whether every receiver has had every value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.state().receivers
    }

    /// Waits until there is no receiver.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn closed(&self) -> Closed<'_, T> {
        let wait = ClosedWait::new(WaitReason::BroadcastClosed, self.shared.created);
        Closed { shared: &self.shared, wait }
    }

    /// Whether both are of the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A handle that does not keep the channel open.
    pub fn downgrade(&self) -> WeakSender<T> {
        self.shared.state().weak_senders += 1;
        WeakSender { shared: Arc::clone(&self.shared) }
    }

    /// How many senders there are.
    pub fn strong_count(&self) -> usize {
        self.shared.state().senders
    }

    /// How many weak senders there are.
    pub fn weak_count(&self) -> usize {
        self.shared.state().weak_senders
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.add_sender().expect("there is this one")
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let woken = {
            let mut state = self.shared.state();
            state.senders -= 1;
            let senders = state.senders;
            state.record.set_handles(End::Sender, senders);
            if senders == 0 { state.waiting.grant_all() } else { Vec::new() }
        };
        drop(woken);
    }
}

/// A sender that does not keep the channel open; see [`Sender::downgrade`].
pub struct WeakSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> WeakSender<T> {
    /// A sender, if there is still one.
    pub fn upgrade(&self) -> Option<Sender<T>> {
        self.shared.add_sender()
    }

    /// How many senders there are.
    pub fn strong_count(&self) -> usize {
        self.shared.state().senders
    }

    /// How many weak senders there are.
    pub fn weak_count(&self) -> usize {
        self.shared.state().weak_senders
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> WeakSender<T> {
        self.shared.state().weak_senders += 1;
        WeakSender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for WeakSender<T> {
    fn drop(&mut self) {
        self.shared.state().weak_senders -= 1;
    }
}

/// Receives every value that is sent while it exists; see [`channel`].
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The position of its next value.
    next: u64,
}

impl<T> Receiver<T> {
    /// How many values this receiver has not had, those that it has lost included.
    pub fn len(&self) -> usize {
        (self.shared.state().tail() - self.next) as usize
    }

    /// Whether it has had all of them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every sender is gone. Values may be left.
    pub fn is_closed(&self) -> bool {
        self.shared.state().senders == 0
    }

    /// Whether both are of the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// How many senders there are.
    pub fn sender_strong_count(&self) -> usize {
        self.shared.state().senders
    }

    /// How many weak senders there are.
    pub fn sender_weak_count(&self) -> usize {
        self.shared.state().weak_senders
    }

    /// Another receiver, of what is sent from now on.
    pub fn resubscribe(&self) -> Receiver<T> {
        self.shared.subscribe()
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// [`RecvError::Closed`] if every sender is gone and it has had all values. [`RecvError::Lagged`] if values went that it had
    /// not had; the next call returns the oldest that is left.
    ///
    /// # Cancel safety
    /// Cancel safe: a value that was not returned is still there.
    #[track_caller]
    pub fn recv(&mut self) -> Recv<'_, T> {
        let leaf = Leaf::new(WaitReason::BroadcastRecv, Object::Created(self.shared.created));
        Recv { shared: &self.shared, next: &mut self.next, place: None, leaf }
    }

    /// The next value, if there is one. Does not wait.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv), and [`TryRecvError::Empty`] if there is none now.
    #[track_caller]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let site = Location::caller();
        let taken = {
            let mut state = self.shared.state();
            state.record.used(End::Receiver, Hand::polled(site));
            state.take(&mut self.next)
        };
        match taken {
            Taken::Value(value) => Ok(unwrap(value)),
            Taken::Lagged(missed) => Err(TryRecvError::Lagged(missed)),
            Taken::Empty => Err(TryRecvError::Empty),
            Taken::Closed => Err(TryRecvError::Closed),
        }
    }

    /// Blocks the thread until there is a value, as [`recv`](Receiver::recv) waits: for code outside of tasks, and for blocking
    /// calls.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Within a task, whose thread it would block, unless it is in [`block_in_place`](crate::task::block_in_place).
    #[track_caller]
    pub fn blocking_recv(&mut self) -> Result<T, RecvError> {
        blocking::wait("broadcast::Receiver::blocking_recv", "recv", self.recv())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (gone, woken) = {
            let mut state = self.shared.state();
            state.receivers -= 1;
            let receivers = state.receivers;
            state.record.set_handles(End::Receiver, receivers);
            let from = self.next.saturating_sub(state.head) as usize;
            for slot in state.values.iter_mut().skip(from) {
                slot.unread -= 1;
            }
            let n = state.values.iter().take_while(|slot| slot.unread == 0).count();
            state.head += n as u64;
            let gone: Vec<Slot<T>> = state.values.drain(..n).collect();
            (gone, if receivers == 0 { state.closed.grant_all() } else { Vec::new() })
        };
        drop(woken);
        drop(gone);
    }
}

/// The future of [`Receiver::recv`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Recv<'a, T> {
    shared: &'a Shared<T>,
    next: &'a mut u64,
    place: Option<Place>,
    leaf: Leaf,
}

impl<T: Clone> Future for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let user = Hand::polled(this.leaf.location());
        ready!(this.leaf.proceed(cx));
        let mut state = this.shared.state();
        state.record.used(End::Receiver, user);
        let taken = state.take(this.next);
        let mut old = None;
        if let Taken::Empty = taken {
            if let Some(place) = this.place {
                match state.waiting.poll(place, cx, ()) {
                    // Woken for a value that it has had by another call.
                    Ok(()) => {
                        state.waiting.leave(place);
                        this.place = None;
                    }
                    Err(replaced) => old = replaced,
                }
            }
            if this.place.is_none() {
                this.place = Some(state.waiting.join(cx, ()));
                this.leaf.set_object(state.parked(this.shared.created));
            }
        } else if let Some(place) = this.place.take() {
            old = state.waiting.leave(place);
        }
        drop(state);
        waker::discard(old);
        let output = match taken {
            Taken::Empty => {
                this.leaf.pending(cx);
                return Poll::Pending;
            }
            Taken::Value(value) => Ok(unwrap(value)),
            Taken::Lagged(missed) => Err(RecvError::Lagged(missed)),
            Taken::Closed => Err(RecvError::Closed),
        };
        this.leaf.ready();
        Poll::Ready(output)
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.shared.state().waiting.leave(place);
            waker::discard(waker);
        }
    }
}

/// The future of [`Sender::closed`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Closed<'a, T> {
    shared: &'a Shared<T>,
    wait: ClosedWait,
}

impl<T> Future for Closed<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared;
        let state = shared.state();
        let is_closed = state.receivers == 0;
        self.wait.poll(state, is_closed, |state| &mut state.closed, |state| state.parked(shared.created), cx)
    }
}

impl<T> Drop for Closed<'_, T> {
    fn drop(&mut self) {
        let shared = self.shared;
        self.wait.leave(|| shared.state(), |state| &mut state.closed);
    }
}

opaque! {
    [T] Sender<T>, "Sender";
    [T] WeakSender<T>, "WeakSender";
    [T] Receiver<T>, "Receiver";
    [T] Recv<'_, T>, "Recv";
    [T] Closed<'_, T>, "Closed";
}

/// The value was not sent: there is no receiver.
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

/// Why a receiver has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvError {
    /// Every sender is gone, and it has had all values.
    Closed,
    /// It was too slow: so many values are lost for it.
    Lagged(u64),
}

/// Why a receiver has no value now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// Every sender is gone, and it has had all values.
    Closed,
    /// It was too slow: so many values are lost for it.
    Lagged(u64),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Closed => f.write_str("channel closed"),
            RecvError::Lagged(missed) => write!(f, "channel lagged by {missed}"),
        }
    }
}

impl std::error::Error for RecvError {}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("channel empty"),
            TryRecvError::Closed => f.write_str("channel closed"),
            TryRecvError::Lagged(missed) => write!(f, "channel lagged by {missed}"),
        }
    }
}

impl std::error::Error for TryRecvError {}
