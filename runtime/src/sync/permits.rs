//! Permits that are given out in the order in which they were asked for: what [`Semaphore`](super::Semaphore) and
//! [`RwLock`](super::RwLock) are made of.
//!
//! Who asks for more than is free holds up who comes after, so nobody starves. Permits that are given back go to the first
//! in line, never past it.
//!
//! - **P1** The permits of all [`Hold`]s, of grants not taken up, and those that are free add up to what was put in. A
//!   `Hold` is made by whoever took its permits off, or was granted them.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::semaphore::{AcquireError, TryAcquireError};
use crate::task::facts::{Hand, Held, SharedRecord};
use crate::task::frame;
use crate::task::meta::TaskWord;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters, Wakes};
use crate::task::waker::{Asker, Woken};
use crate::util::lock::{Guard, Lock};

#[derive(Debug)]
pub(super) struct Permits {
    state: Lock<State>,
    created: &'static Location<'static>,
}

#[derive(Debug)]
struct State {
    /// While somebody waits these are fewer than the first in line needs.
    free: usize,
    closed: bool,
    waiters: Waiters<Ask>,
    record: SharedRecord,
}

/// What a waiter wants, and what it was given.
#[derive(Clone, Copy, Debug)]
struct Ask {
    need: usize,
    holder: Hand,
    /// `None` until it was given its permits. A close wakes without giving any.
    given: Option<Held>,
}

impl State {
    fn available(&self) -> usize {
        if self.waiters.is_empty() { self.free } else { 0 }
    }

    fn take(&mut self, n: usize, holder: Hand) -> Held {
        self.free -= n;
        if n == 0 { Held::NOTHING } else { self.record.edit(|holders| holders.enter(holder)) }
    }

    /// Gives what is free to those who are first in line; then `leaving` is no holder any more.
    #[inline]
    fn serve(&mut self, mut leaving: Held, wakes: &mut Wakes) {
        let State { free, closed, waiters, record } = self;
        let first = |waiters: &Waiters<Ask>, free: usize| {
            waiters.front().filter(|ask| ask.need <= free && !*closed).map(|ask| (ask.need, ask.holder))
        };
        let mut next = first(waiters, *free);
        if next.is_none() && leaving == Held::NOTHING {
            return;
        }
        // In one edit, which nobody can look into. A waiter that were named as the holder before it is woken would look as if it
        // were parked behind itself; were it named after that, then until then those behind it would wait for nobody.
        record.edit(|holders| {
            let served = next.is_some();
            while let Some((need, holder)) = next {
                *free -= need;
                // Who is given something takes the place of who leaves.
                let held = match (need, std::mem::replace(&mut leaving, Held::NOTHING)) {
                    (0, left) => {
                        leaving = left;
                        Held::NOTHING
                    }
                    (_, Held::NOTHING) => holders.enter(holder),
                    (_, left) => {
                        holders.rename(left, holder);
                        left
                    }
                };
                if let Some(woken) = waiters.grant_with(|ask| ask.given = Some(held)) {
                    wakes.push(woken);
                }
                next = first(waiters, *free);
            }
            if served {
                holders.set_waiters(waiters.len());
            }
            holders.exit(leaving);
        });
    }

    /// As [`serve`](State::serve), where what comes free goes to the first in line, who takes the place of who leaves, and to nobody else: as
    /// nearly always. `None`, and nothing is changed, if it is not so.
    #[inline]
    fn hand_on(&mut self, leaving: Held) -> Option<Woken> {
        let State { free, closed, waiters, record } = self;
        let (Ask { need, holder, .. }, next) = waiters.first_two()?;
        let left = free.checked_sub(need)?;
        if *closed || need == 0 || leaving == Held::NOTHING || next.is_some_and(|next| next.need <= left) {
            return None;
        }
        *free = left;
        // In one edit, as there.
        record.edit(|holders| {
            holders.rename(leaving, holder);
            let woken = waiters.grant_with(|ask| ask.given = Some(leaving));
            holders.set_waiters(waiters.len());
            woken
        })
    }

    fn note_waiters(&mut self) {
        let waiters = self.waiters.len();
        self.record.edit(|holders| holders.set_waiters(waiters));
    }
}

/// As [`State::serve`]; the wakes land when the lock is free again.
#[inline(never)]
fn serve_all(state: Guard<'_, State>, leaving: Held) {
    // Dropped where it stands, after the guard.
    let mut wakes = Wakes::default();
    let mut state = state;
    state.serve(leaving, &mut wakes);
}

impl Permits {
    pub(super) const fn new(free: usize, created: &'static Location<'static>) -> Permits {
        let state = State { free, closed: false, waiters: Waiters::new(), record: SharedRecord::new() };
        Permits { state: Lock::new(state), created }
    }

    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Takes permits if they are free and nobody waits before.
    pub(super) fn try_take(&self, n: usize, holder: Hand) -> Result<Held, TryAcquireError> {
        let mut state = self.state();
        if state.closed {
            return Err(TryAcquireError::Closed);
        }
        if state.available() < n {
            return Err(TryAcquireError::NoPermits);
        }
        Ok(state.take(n, holder))
    }

    #[inline(never)]
    fn give_back(&self, n: usize, held: Held) {
        let mut state = self.state();
        state.free += n;
        match state.hand_on(held) {
            Some(woken) => {
                drop(state);
                drop(woken);
            }
            None => serve_all(state, held),
        }
    }

    /// Puts permits in from nowhere; `false` if there would be more than `most`.
    pub(super) fn add(&self, n: usize, most: usize) -> bool {
        let mut state = self.state();
        if state.free.checked_add(n).is_none_or(|free| free > most) {
            return false;
        }
        state.record.edit(|holders| holders.doubt());
        state.free += n;
        serve_all(state, Held::NOTHING);
        true
    }

    /// Takes up to `n` free permits out for good; how many.
    pub(super) fn remove(&self, n: usize) -> usize {
        let mut state = self.state();
        let n = n.min(state.available());
        state.record.edit(|holders| holders.doubt());
        state.free -= n;
        n
    }

    pub(super) fn close(&self) {
        let wakes = {
            let mut state = self.state();
            state.closed = true;
            state.record.edit(|holders| holders.doubt());
            let wakes = state.waiters.grant_all();
            state.note_waiters();
            wakes
        };
        drop(wakes);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub(super) fn available(&self) -> usize {
        self.state().available()
    }
}

/// What leads to permits, and keeps them alive.
pub(super) trait Source {
    /// Guards by it borrow nothing and are made to be handed on: taken in a loop that accepts, given to the task that serves. A borrowed one seldom
    /// leaves its task.
    const OWNED: bool;

    fn permits(&self) -> &Permits;
}

impl Source for &Permits {
    const OWNED: bool = false;

    fn permits(&self) -> &Permits {
        self
    }
}

/// Permits that are held; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Hold<S: Source> {
    /// `None` only while it is taken apart.
    source: Option<S>,
    n: usize,
    held: Held,
}

impl<S: Source> Hold<S> {
    /// For whoever has taken the permits.
    pub(super) fn new(source: S, n: usize, held: Held) -> Hold<S> {
        Hold { source: Some(source), n, held }
    }

    pub(super) fn count(&self) -> usize {
        self.n
    }

    pub(super) fn source(&self) -> &S {
        self.source.as_ref().expect("present until the hold is taken apart")
    }

    fn permits(&self) -> &Permits {
        self.source().permits()
    }

    /// Gives all but one permit back.
    pub(super) fn reduce_to_one(&mut self) {
        let spare = std::mem::replace(&mut self.n, 1) - 1;
        self.permits().give_back(spare, Held::NOTHING);
    }

    /// The permits are not given back, ever.
    pub(super) fn forget(mut self) {
        let (n, held) = (std::mem::take(&mut self.n), std::mem::replace(&mut self.held, Held::NOTHING));
        if n > 0 {
            self.permits().state().record.edit(|holders| {
                holders.exit(held);
                holders.doubt();
            });
        }
    }

    /// Takes the permits of another hold over. The caller has seen that both are of the same source.
    pub(super) fn merge(&mut self, mut other: Hold<S>) {
        let (n, held) = (std::mem::take(&mut other.n), std::mem::replace(&mut other.held, Held::NOTHING));
        self.n += n;
        if self.held == Held::NOTHING {
            self.held = held;
        } else if held != Held::NOTHING {
            self.permits().state().record.edit(|holders| holders.exit(held));
        }
    }

    /// Splits `n` permits off, if there are that many.
    pub(super) fn split(&mut self, n: usize) -> Option<Hold<S>>
    where
        S: Clone,
    {
        let left = self.n.checked_sub(n)?;
        let source = self.source().clone();
        let held = match (n, left) {
            (0, _) => Held::NOTHING,
            (_, 0) => std::mem::replace(&mut self.held, Held::NOTHING),
            _ => self.permits().state().record.edit(|holders| holders.split(self.held)),
        };
        self.n = left;
        Some(Hold::new(source, n, held))
    }
}

impl<S: Source> Drop for Hold<S> {
    #[inline]
    fn drop(&mut self) {
        if self.n > 0 || self.held != Held::NOTHING {
            self.permits().give_back(self.n, self.held);
        }
    }
}

/// Waits for permits. Dropped before it is ready, what it was given goes to the next in line.
#[derive(Debug)]
pub(super) struct Claim<S: Source> {
    /// Gone once it is ready.
    source: Option<S>,
    need: usize,
    place: Option<Place>,
    leaf: Leaf,
}

impl<S: Source> Unpin for Claim<S> {}

impl<S: Source> Claim<S> {
    #[track_caller]
    pub(super) fn new(source: S, need: usize, reason: WaitReason) -> Claim<S> {
        let leaf = Leaf::new(reason, Object::Created(source.permits().created));
        Claim { source: Some(source), need, place: None, leaf }
    }

    fn holder(task: TaskWord, site: &'static Location<'static>) -> Hand {
        let holder = Hand::by(task, site);
        if S::OWNED { holder.owned() } else { holder }
    }

    /// Who holds the permits from when they are granted.
    fn waiter(asker: Asker<'_>, site: &'static Location<'static>) -> Hand {
        let holder = Hand::asks(asker, site);
        if S::OWNED { holder.owned() } else { holder }
    }

    /// As part of a call that the user wrote there.
    #[cfg(feature = "http")]
    pub(crate) fn for_call_at(mut self, place: &'static Location<'static>) -> Self {
        self.leaf.set_call(place);
        self
    }

    /// Apart, for its answer fits into registers; what is made of it is put where it is wanted by whoever polls.
    #[inline(never)]
    fn poll_permits(&mut self, cx: &Context<'_>) -> Poll<Result<Held, AcquireError>> {
        let task = frame::task();
        ready!(self.leaf.proceed(cx));
        let permits = self.source.as_ref().expect("polled after it was ready").permits();
        let site = self.leaf.location();
        let mut state = permits.state();
        let Some(place) = self.place else {
            if state.closed {
                return Poll::Ready(Err(AcquireError(())));
            }
            if state.available() >= self.need {
                return Poll::Ready(Ok(state.take(self.need, Self::holder(task, site))));
            }
            let asker = Asker::of(cx);
            let ask = Ask { need: self.need, holder: Self::waiter(asker, site), given: None };
            self.place = Some(state.waiters.join_as(asker, ask));
            let waiters = state.waiters.len();
            let id = state.record.contended(permits.created, waiters);
            self.leaf.set_object(Object::Lock(id));
            drop(state);
            self.leaf.pending_as(asker);
            return Poll::Pending;
        };
        let Some(ask) = state.waiters.leave_granted(place) else {
            let ask = Ask { need: self.need, holder: Self::waiter(Asker::of(cx), site), given: None };
            let old = state.waiters.poll(place, cx, ask).err().flatten();
            drop(state);
            drop(old);
            self.leaf.pending(cx);
            return Poll::Pending;
        };
        self.place = None;
        if state.closed {
            // Nobody is served any more: it is only put back.
            let mut wakes = Wakes::default();
            if let Some(held) = ask.given {
                state.free += self.need;
                state.serve(held, &mut wakes);
            }
            drop(state);
            drop(wakes);
            self.leaf.ready();
            return Poll::Ready(Err(AcquireError(())));
        }
        let held = ask.given.expect("woken with permits unless closed");
        let holder = Self::holder(task, site);
        if held != Held::NOTHING && !holder.is_same_task(ask.holder) {
            state.record.edit(|holders| holders.rename(held, holder));
        }
        drop(state);
        self.leaf.ready();
        Poll::Ready(Ok(held))
    }

    #[cold]
    fn leave(&mut self) {
        let (Some(source), Some(place)) = (&self.source, self.place.take()) else { return };
        let permits = source.permits();
        let mut state = permits.state();
        let given = state.waiters.tag(place).given;
        let waker = state.waiters.leave(place);
        let wakes = match given {
            Some(held) => {
                drop(state);
                permits.give_back(self.need, held);
                None
            }
            // Who stood first may have wanted more than who comes next.
            None => {
                let mut wakes = Wakes::default();
                state.serve(Held::NOTHING, &mut wakes);
                // After that, as in `give_back`: while their number is not what it was, nobody is stuck here.
                state.note_waiters();
                drop(state);
                Some(wakes)
            }
        };
        drop((waker, wakes));
    }
}

impl<S: Source> Future for Claim<S> {
    type Output = Result<Hold<S>, AcquireError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.poll_permits(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                this.source = None;
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(held)) => {
                let source = this.source.take().expect("looked at above");
                Poll::Ready(Ok(Hold::new(source, this.need, held)))
            }
        }
    }
}

impl<S: Source> Drop for Claim<S> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_some() {
            self.leave();
        }
    }
}
