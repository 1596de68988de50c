//! The channel itself: values, slots, and who waits.
//!
//! A bounded channel has as many slots as it may hold values. A slot is free, or has a value in it, or was *granted* to a
//! sender that waited and has not come for it yet, or is *reserved* by a permit. Slots that come free go to the first in
//! line, which may want several: nobody is overtaken.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::loom::sync::atomic::{AtomicBool, AtomicUsize};
use crate::task::channel_facts::{ChannelRecord, End};
use crate::task::facts::Hand;
use crate::task::frame;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters, Wakes};
use crate::task::waker::{self, Woken};
use crate::util::lock::{Guard, Lock};

/// In this order: what each send touches comes first, in as few cache lines as can be.
#[repr(C)]
pub(super) struct Shared<T> {
    state: Lock<State<T>>,
    senders: AtomicUsize,
    weak_senders: AtomicUsize,
    /// Snapshots see the channel: the number of senders is to be told.
    published: AtomicBool,
    pub(super) capacity: usize,
    /// Sending never waits, for no value needs a slot. `capacity` is as much as there can be.
    pub(super) unbounded: bool,
    pub(super) created: &'static Location<'static>,
}

#[repr(C)]
pub(super) struct State<T> {
    pub(super) values: VecDeque<T>,
    receiver: Option<Waker>,
    /// The receiver is gone or has closed.
    pub(super) closed: bool,
    /// The receiver is gone.
    gone: bool,
    /// Every sender is gone.
    pub(super) ended: bool,
    pub(super) record: ChannelRecord,
    /// Slots that were granted to a waiting sender and not taken up yet. None once the channel is closed.
    granted: usize,
    /// Slots of permits.
    pub(super) reserved: usize,
    /// Waiting senders, and how many slots each wants.
    pub(super) full: Waiters<usize>,
    /// Who waits in `closed`.
    pub(super) closed_waiters: Waiters,
}

impl<T> State<T> {
    fn free(&self, capacity: usize) -> usize {
        let taken = self.values.len().saturating_add(self.granted).saturating_add(self.reserved);
        capacity.saturating_sub(taken)
    }

    /// How many slots can be had without waiting: none while somebody waits.
    pub(super) fn available(&self, capacity: usize) -> usize {
        if self.full.is_empty() { self.free(capacity) } else { 0 }
    }

    /// Whether somebody waits at the senders' end.
    #[inline]
    fn sender_waits(&self) -> bool {
        !self.full.is_empty() || !self.closed_waiters.is_empty()
    }

    /// Grants free slots to those who are first in line.
    fn serve(&mut self, capacity: usize) -> Wakes {
        let mut wakes = Wakes::default();
        while let Some(need) = self.full.front().filter(|need| *need <= self.free(capacity) && !self.closed) {
            if let Some(woken) = self.full.grant_with(|_| {}) {
                self.granted += need;
                wakes.push(woken);
            }
        }
        wakes
    }

    /// Puts a value into a slot that is the caller's; gives it back if the receiver is gone.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> Result<Option<Woken>, T> {
        if self.gone {
            return Err(value);
        }
        self.values.push_back(value);
        Ok(self.receiver.take().map(waker::fire))
    }

    /// Nothing is left, and nothing will come.
    pub(super) fn is_over(&self) -> bool {
        self.values.is_empty() && (self.ended || (self.closed && self.reserved == 0))
    }
}

impl<T> Shared<T> {
    /// A channel of that capacity; unbounded without any.
    pub(super) fn new(capacity: Option<usize>, created: &'static Location<'static>) -> Arc<Shared<T>> {
        Arc::new(Shared {
            state: Lock::new(State {
                values: VecDeque::new(),
                granted: 0,
                reserved: 0,
                full: Waiters::new(),
                receiver: None,
                closed_waiters: Waiters::new(),
                closed: false,
                gone: false,
                ended: false,
                record: ChannelRecord::new(),
            }),
            senders: AtomicUsize::new(1),
            weak_senders: AtomicUsize::new(0),
            published: AtomicBool::new(false),
            capacity: capacity.unwrap_or(usize::MAX),
            unbounded: capacity.is_none(),
            created,
        })
    }

    pub(super) fn lock(&self) -> Guard<'_, State<T>> {
        self.state.lock()
    }

    // ---- handles --------------------------------------------------------------------------------

    pub(super) fn strong_count(&self) -> usize {
        self.senders.load(SeqCst)
    }

    pub(super) fn weak_count(&self) -> usize {
        self.weak_senders.load(Relaxed)
    }

    pub(super) fn add_sender(&self) {
        self.senders.fetch_add(1, SeqCst);
        self.tell_senders();
    }

    /// One more sender, unless the last is gone.
    pub(super) fn add_sender_if_any(&self) -> bool {
        let added =
            self.senders.fetch_update(SeqCst, SeqCst, |n| if n == 0 { None } else { Some(n + 1) }).is_ok();
        if added {
            self.tell_senders();
        }
        added
    }

    pub(super) fn drop_sender(&self) {
        if self.senders.fetch_sub(1, SeqCst) == 1 {
            let woken = {
                let mut state = self.lock();
                state.ended = true;
                state.record.set_handles(End::Sender, 0);
                state.receiver.take().map(waker::fire)
            };
            drop(woken);
        } else {
            self.tell_senders();
        }
    }

    pub(super) fn add_weak_sender(&self) {
        self.weak_senders.fetch_add(1, Relaxed);
    }

    pub(super) fn drop_weak_sender(&self) {
        self.weak_senders.fetch_sub(1, Relaxed);
    }

    /// Tells snapshots how many senders there are.
    fn tell_senders(&self) {
        // SeqCst: pairs with the store in `parked`. Either that one sees our change of the count, or we see that the channel is
        // published. Whoever comes to the lock last tells the last count.
        if self.published.load(SeqCst) {
            let mut state = self.lock();
            let senders = self.strong_count();
            state.record.set_handles(End::Sender, senders);
        }
    }

    /// Somebody parks: the object of the wait.
    pub(super) fn parked(&self, state: &mut State<T>) -> Object {
        if !state.record.is_published() {
            // SeqCst: pairs with the load in `tell_senders`.
            self.published.store(true, SeqCst);
        }
        let handles = [self.strong_count(), usize::from(!state.gone)];
        state.record.parked(self.created, handles)
    }

    // ---- senders --------------------------------------------------------------------------------

    /// Takes `need` slots at once, if they can be had without waiting. The caller uses them before it lets go of the lock, and says who it is.
    pub(super) fn try_slots(&self, need: usize) -> Result<Guard<'_, State<T>>, NoSlots> {
        let state = self.lock();
        if state.closed {
            return Err(NoSlots::Closed);
        }
        if state.available(self.capacity) < need {
            return Err(NoSlots::Full);
        }
        Ok(state)
    }

    /// A permit is used, or given up.
    pub(super) fn end_permit(&self, value: Option<T>, site: Option<&'static Location<'static>>) {
        let (wakes, woken, value) = {
            let mut state = self.lock();
            state.reserved -= 1;
            if let Some(site) = site {
                state.record.used(End::Sender, Hand::polled(site));
            }
            let (mut woken, mut left) = (None, None);
            match value.map(|value| state.push(value)) {
                Some(Ok(wake)) => woken = wake,
                Some(Err(value)) => left = Some(value),
                // The receiver of a closed channel waits for the permits.
                None if state.is_over() => woken = state.receiver.take().map(waker::fire),
                None => {}
            }
            (state.serve(self.capacity), woken, left)
        };
        drop((wakes, woken, value));
    }

    /// Gives up permits that were not used.
    pub(super) fn release_permits(&self, n: usize) {
        let (wakes, woken) = {
            let mut state = self.lock();
            state.reserved -= n;
            let woken = if state.is_over() { state.receiver.take().map(waker::fire) } else { None };
            (state.serve(self.capacity), woken)
        };
        drop((wakes, woken));
    }

    // ---- the receiver ---------------------------------------------------------------------------

    /// Takes values out with `take`, and gives their slots to the first in line. Without any it registers `cx`, if there
    /// is one, and returns the object of the wait.
    #[inline]
    pub(super) fn take_values<R>(
        &self,
        user: Hand,
        cx: Option<&Context<'_>>,
        take: impl FnOnce(&mut VecDeque<T>) -> R,
    ) -> Taken<R> {
        let mut state = self.lock();
        if state.values.is_empty() || state.sender_waits() {
            return self.take_slowly(state, user, cx, take);
        }
        state.record.used_unwatched(End::Receiver, user);
        Taken::Some(take(&mut state.values))
    }

    /// Apart, so that most values take no registers for it.
    #[inline(never)]
    fn take_slowly<R>(
        &self,
        mut state: Guard<'_, State<T>>,
        user: Hand,
        cx: Option<&Context<'_>>,
        take: impl FnOnce(&mut VecDeque<T>) -> R,
    ) -> Taken<R> {
        if state.sender_waits() {
            state.record.used(End::Receiver, user);
        } else {
            state.record.used_unwatched(End::Receiver, user);
        }
        if !state.values.is_empty() {
            let taken = take(&mut state.values);
            let wakes = state.serve(self.capacity);
            drop(state);
            drop(wakes);
            return Taken::Some(taken);
        }
        if state.is_over() {
            return Taken::Over;
        }
        let Some(cx) = cx else { return Taken::Nothing { object: Object::None, registered: false } };
        let object = self.parked(&mut state);
        let registered = !state.receiver.as_ref().is_some_and(|waker| waker::will_wake(waker, cx));
        let old = if registered { state.receiver.replace(waker::register(cx)) } else { None };
        drop(state);
        drop(old);
        Taken::Nothing { object, registered }
    }

    #[inline(never)]
    pub(super) fn forget_receivers_waker(&self) {
        let old = self.lock().receiver.take();
        waker::discard(old);
    }

    pub(super) fn close(&self) {
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

    /// The receiver goes, and what it has not received goes with it: first what it had taken out.
    pub(super) fn drop_receiver(&self, batch: VecDeque<T>) {
        self.close();
        let (values, waker) = {
            let mut state = self.lock();
            state.gone = true;
            state.record.set_handles(End::Receiver, 0);
            (std::mem::take(&mut state.values), state.receiver.take())
        };
        drop((batch, values, waker));
    }
}

/// What the receiver found.
pub(super) enum Taken<R> {
    Some(R),
    /// Nothing now. `registered`: a waker that was not there before.
    Nothing {
        object: Object,
        registered: bool,
    },
    /// Nothing, ever.
    Over,
}

/// Why there were no slots.
pub(super) enum NoSlots {
    Full,
    Closed,
}

/// Waits for slots. It belongs to a future, which calls [`leave`](SlotWait::leave) when it is dropped.
#[derive(Debug)]
pub(super) struct SlotWait {
    need: usize,
    place: Option<Place>,
    leaf: Leaf,
}

impl SlotWait {
    #[track_caller]
    pub(super) fn new<T>(shared: &Shared<T>, need: usize, reason: WaitReason) -> SlotWait {
        SlotWait { need, place: None, leaf: Leaf::new(reason, Object::Created(shared.created)) }
    }

    /// The slots, for the caller to use before it lets go of the lock; `Err` if the channel is closed. `used`: how to say that it does.
    #[inline]
    pub(super) fn poll<'s, T>(
        &mut self,
        shared: &'s Shared<T>,
        cx: &Context<'_>,
        used: impl FnOnce(&mut ChannelRecord, End, Hand),
    ) -> Poll<Result<Guard<'s, State<T>>, ()>> {
        let task = frame::task();
        ready!(self.leaf.proceed(cx));
        let mut state = shared.lock();
        if self.place.is_some() || state.closed || state.available(shared.capacity) < self.need {
            match ready!(self.poll_queue(shared, state, cx)) {
                Ok(granted) => state = granted,
                Err(()) => return Poll::Ready(Err(())),
            }
        }
        used(&mut state.record, End::Sender, Hand::by(task, self.leaf.location()));
        Poll::Ready(Ok(state))
    }

    /// Apart, so that who need not wait takes no registers for it.
    #[inline(never)]
    fn poll_queue<'s, T>(
        &mut self,
        shared: &'s Shared<T>,
        mut state: Guard<'s, State<T>>,
        cx: &Context<'_>,
    ) -> Poll<Result<Guard<'s, State<T>>, ()>> {
        match self.place {
            None if state.closed => return Poll::Ready(Err(())),
            None => {
                self.place = Some(state.full.join(cx, self.need));
                let object = shared.parked(&mut state);
                drop(state);
                self.leaf.set_object(object);
                self.leaf.pending(cx);
                return Poll::Pending;
            }
            Some(place) => match state.full.poll(place, cx, self.need) {
                Ok(()) => {
                    state.full.leave(place);
                    self.place = None;
                    self.leaf.ready();
                    if state.closed {
                        return Poll::Ready(Err(()));
                    }
                    state.granted -= self.need;
                }
                Err(old) => {
                    drop(state);
                    drop(old);
                    self.leaf.pending(cx);
                    return Poll::Pending;
                }
            },
        }
        Poll::Ready(Ok(state))
    }

    pub(super) fn leave<T>(&mut self, shared: &Shared<T>) {
        let Some(place) = self.place.take() else { return };
        let mut state = shared.lock();
        let waker = state.full.leave(place);
        if waker.is_none() && !state.closed {
            state.granted -= self.need;
        }
        // Granted and not used, or first in line and wanting more than the next: the next may have it.
        let wakes = state.serve(shared.capacity);
        drop(state);
        drop((waker, wakes));
    }
}
