//! A channel that keeps the last value only.
//!
//! The value lies under a lock of its own, which borrowers hold; what else there is lies under a second one, which is taken
//! inside the first or alone, never the other way round. A version counts the values: a receiver knows the one that it
//! has seen.

use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::closed::ClosedWait;
use crate::loom::sync::{PoisonError, RwLock, RwLockReadGuard};
use crate::task::channel_facts::{ChannelRecord, End};
use crate::task::facts::Hand;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters};
use crate::task::waker::Woken;
use crate::util::lock::{Guard, Lock};

/// The errors of this channel.
pub mod error {
    pub use super::{RecvError, SendError};
}

/// Makes a channel that holds `init`. The receiver has seen it.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (tx, mut rx) = leakfree::sync::watch::channel("first");
/// leakfree::spawn(async move { tx.send("second").unwrap() });
/// rx.changed().await.unwrap();
/// assert_eq!(*rx.borrow(), "second");
/// assert!(rx.changed().await.is_err(), "the sender is gone");
/// # });
/// ```
#[track_caller]
pub fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let tx = Sender::new(init);
    let rx = tx.subscribe();
    (tx, rx)
}

struct Shared<T> {
    value: RwLock<T>,
    state: Lock<State>,
    created: &'static Location<'static>,
}

struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    /// Who waits for a value.
    changed: Waiters,
    /// Who waits for the last receiver's end.
    closed: Waiters,
    record: ChannelRecord,
}

impl State {
    fn parked(&mut self, created: &'static Location<'static>) -> Object {
        self.record.parked(created, [self.senders, self.receivers])
    }
}

impl<T> Shared<T> {
    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value under its lock. `modify` says with its second result whether it did.
    fn modify<R>(
        &self,
        site: &'static Location<'static>,
        modify: impl FnOnce(&mut T) -> (R, bool),
    ) -> (R, bool) {
        let mut value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        // If this panics, nobody is told.
        let (result, modified) = modify(&mut value);
        let mut woken: Vec<Woken> = Vec::new();
        if modified {
            let mut state = self.state();
            state.version += 1;
            state.record.used(End::Sender, Hand::polled(site));
            woken = state.changed.grant_all();
        }
        drop(value);
        drop(woken);
        (result, modified)
    }

    fn subscribe(self: &Arc<Self>) -> Receiver<T> {
        let seen = {
            let mut state = self.state();
            state.receivers += 1;
            let receivers = state.receivers;
            state.record.set_handles(End::Receiver, receivers);
            state.version
        };
        Receiver { shared: Arc::clone(self), seen }
    }
}

/// Sends values; see [`channel`]. The channel lives as long as one of its senders does.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// A channel without receivers.
    #[track_caller]
    pub fn new(init: T) -> Sender<T> {
        let state = State {
            version: 0,
            senders: 1,
            receivers: 0,
            changed: Waiters::new(),
            closed: Waiters::new(),
            record: ChannelRecord::new(),
        };
        let created = Location::caller();
        Sender { shared: Arc::new(Shared { value: RwLock::new(init), state: Lock::new(state), created }) }
    }

    /// Replaces the value, and wakes the receivers. Does not wait, but for borrowers.
    ///
    /// # Errors
    /// The value, if there is no receiver. The channel keeps the old one.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.is_closed() {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Replaces the value, and wakes the receivers, if there are any. Returns the old value.
    #[track_caller]
    pub fn send_replace(&self, mut value: T) -> T {
        self.shared.modify(Location::caller(), |old| (mem::swap(old, &mut value), true));
        value
    }

    /// Changes the value in place, and wakes the receivers, if there are any. If `modify` panics the value stays as it is then,
    /// and nobody is woken.
    ///
    /// `modify` runs under the value's lock: it must not borrow the value through a handle of the channel.
    #[track_caller]
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.shared.modify(Location::caller(), |value| (modify(value), true));
    }

    /// The same, and wakes the receivers only if `modify` returns true, which it returns.
    #[track_caller]
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        self.shared.modify(Location::caller(), |value| ((), modify(value))).1
    }

    /// The value. Whoever sends blocks while it is borrowed: keep it short, and not across an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        // For a sender no value is news.
        Ref { value: self.shared.read(), has_changed: false }
    }

    /// A receiver that has seen the value there is now.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.subscribe()
    }

    /// Waits until there is no receiver.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn closed(&self) -> Closed<'_, T> {
        let wait = ClosedWait::new(WaitReason::WatchClosed, self.shared.created);
        Closed { shared: &self.shared, wait }
    }

    /// Whether there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.state().receivers
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        self.shared.state().senders
    }

    /// Whether both are of the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        let mut state = self.shared.state();
        state.senders += 1;
        let senders = state.senders;
        state.record.set_handles(End::Sender, senders);
        drop(state);
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let woken = {
            let mut state = self.shared.state();
            state.senders -= 1;
            let senders = state.senders;
            state.record.set_handles(End::Sender, senders);
            if senders == 0 { state.changed.grant_all() } else { Vec::new() }
        };
        drop(woken);
    }
}

impl<T: Default> Default for Sender<T> {
    #[track_caller]
    fn default() -> Sender<T> {
        Sender::new(T::default())
    }
}

/// Sees values; see [`channel`]. Each receiver sees each value at most once; of those that come quickly only the last.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that it has seen.
    seen: u64,
}

impl<T> Receiver<T> {
    /// The value; seen or not, that stays as it is. Whoever sends blocks while it is borrowed: keep it short, and not across
    /// an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        let value = self.shared.read();
        let has_changed = self.shared.state().version != self.seen;
        Ref { value, has_changed }
    }

    /// The value, which counts as seen from now on. As for the rest, see [`borrow`](Receiver::borrow).
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        let version = self.shared.state().version;
        let has_changed = mem::replace(&mut self.seen, version) != version;
        Ref { value, has_changed }
    }

    /// Whether there is a value that this receiver has not seen. Does not wait.
    ///
    /// # Errors
    /// [`RecvError`] if every sender is gone.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        let state = self.shared.state();
        if state.senders == 0 { Err(RecvError(())) } else { Ok(state.version != self.seen) }
    }

    /// The value that there is counts as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.shared.state().version.wrapping_sub(1);
    }

    /// The value that there is counts as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.state().version;
    }

    /// Waits for a value that this receiver has not seen, which counts as seen then.
    ///
    /// # Errors
    /// [`RecvError`] if there is none and every sender is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: a value for which it did not return is still not seen.
    #[track_caller]
    pub fn changed(&mut self) -> Changed<'_, T> {
        Changed::at(&self.shared, &mut self.seen, WaitReason::WatchChanged, Location::caller())
    }

    /// Waits for a value for which `condition` holds, the one that there is included, and returns it. It counts as seen, as do
    /// those that were looked at before.
    ///
    /// `condition` runs while the value is borrowed: it must not send.
    ///
    /// # Errors
    /// [`RecvError`] if every sender is gone, and it does not hold for the last value.
    ///
    /// # Cancel safety
    /// Cancel safe: the last value is still there.
    #[track_caller]
    pub fn wait_for(
        &mut self,
        mut condition: impl FnMut(&T) -> bool,
    ) -> impl Future<Output = Result<Ref<'_, T>, RecvError>> {
        let site = Location::caller();
        let Receiver { shared, seen } = self;
        let shared = &**shared;
        async move {
            let (mut news, mut closed) = (false, false);
            loop {
                {
                    let value = shared.read();
                    let version = shared.state().version;
                    let has_changed = mem::replace(seen, version) != version || news;
                    if condition(&value) {
                        return Ok(Ref { value, has_changed });
                    }
                }
                if closed {
                    return Err(RecvError(()));
                }
                // Once more after the end: the last value may have come just before.
                news = Changed::at(shared, seen, WaitReason::WatchWaitFor, site).await.is_ok();
                closed = !news;
            }
        }
    }

    /// Whether both are of the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Receiver<T> {
    /// Another receiver that has seen what this one has.
    fn clone(&self) -> Receiver<T> {
        let mut other = self.shared.subscribe();
        other.seen = self.seen;
        other
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let woken = {
            let mut state = self.shared.state();
            state.receivers -= 1;
            let receivers = state.receivers;
            state.record.set_handles(End::Receiver, receivers);
            if receivers == 0 { state.closed.grant_all() } else { Vec::new() }
        };
        drop(woken);
    }
}

/// The value, borrowed.
pub struct Ref<'a, T> {
    value: RwLockReadGuard<'a, T>,
    has_changed: bool,
}

impl<T> Ref<'_, T> {
    /// Whether the receiver had not seen the value when it borrowed it.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The future of [`Receiver::changed`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Changed<'a, T> {
    shared: &'a Shared<T>,
    seen: &'a mut u64,
    place: Option<Place>,
    leaf: Leaf,
}

impl<'a, T> Changed<'a, T> {
    fn at(
        shared: &'a Shared<T>,
        seen: &'a mut u64,
        reason: WaitReason,
        site: &'static Location<'static>,
    ) -> Changed<'a, T> {
        let leaf = Leaf::at(reason, Object::Created(shared.created), site);
        Changed { shared, seen, place: None, leaf }
    }
}

impl<T> Future for Changed<'_, T> {
    type Output = Result<(), RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let user = Hand::polled(this.leaf.location());
        ready!(this.leaf.proceed(cx));
        let mut state = this.shared.state();
        state.record.used(End::Receiver, user);
        let changed = state.version != *this.seen;
        if changed || state.senders == 0 {
            *this.seen = state.version;
            drop(state);
            this.leaf.ready();
            return Poll::Ready(if changed { Ok(()) } else { Err(RecvError(())) });
        }
        let old = match this.place {
            // Woken only when one of the above holds.
            Some(place) => state.changed.poll(place, cx, ()).err().flatten(),
            None => {
                this.place = Some(state.changed.join(cx, ()));
                this.leaf.set_object(state.parked(this.shared.created));
                None
            }
        };
        drop(state);
        drop(old);
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.shared.state().changed.leave(place);
            drop(waker);
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
    [T] Receiver<T>, "Receiver";
    [T] Changed<'_, T>, "Changed";
    [T] Closed<'_, T>, "Closed";
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value was not sent: there is no receiver.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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

/// No value will come any more: every sender is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvError(());

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("channel closed")
    }
}

impl std::error::Error for RecvError {}
