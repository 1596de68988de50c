//! A first-in, first-out queue of waiting tasks, from which a waiter that gives up leaves in O(1).

use std::collections::VecDeque;
use std::task::{Context, Waker};

use slab::Slab;

use crate::task::waker::{self, Woken};

/// A waiter's place in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    index: usize,
    ticket: u64,
}

#[derive(Debug)]
struct Waiter<T> {
    ticket: u64,
    tag: T,
    /// `None` once the waiter has been given what it waits for, and has not taken it.
    waker: Option<Waker>,
}

/// Several wakes that have been decided under a lock; see [`Woken`]. One takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Woken>,
    more: Vec<Woken>,
}

impl Wakes {
    pub(crate) fn push(&mut self, woken: Woken) {
        match self.first {
            None => self.first = Some(woken),
            Some(_) => self.more.push(woken),
        }
    }
}

/// Waiters in the order of their arrival. The queue lies under its primitive's lock.
///
/// A waiter is **queued** until it is **granted**, and leaves by [`leave`](Waiters::leave) in either case, which says
/// which it was: a grant that was not used is the leaver's to pass on.
///
/// `T` is what the primitive knows of each waiter.
#[derive(Debug)]
pub(crate) struct Waiters<T = ()> {
    waiters: Slab<Waiter<T>>,
    /// In order; those who left before their turn are skipped when they come up.
    order: VecDeque<Place>,
    queued: usize,
    tickets: u64,
}

impl<T: Copy> Waiters<T> {
    pub(crate) const fn new() -> Waiters<T> {
        Waiters { waiters: Slab::new(), order: VecDeque::new(), queued: 0, tickets: 0 }
    }

    /// How many wait who have not been granted.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queued
    }

    /// Nobody waits who has not been granted.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Queues the polled task.
    pub(crate) fn join(&mut self, cx: &Context<'_>, tag: T) -> Place {
        self.tickets += 1;
        let ticket = self.tickets;
        let index = self.waiters.insert(Waiter { ticket, tag, waker: Some(waker::register(cx)) });
        let place = Place { index, ticket };
        self.order.push_back(place);
        self.queued += 1;
        place
    }

    /// Whether the waiter has been granted; if not, it is the polled task that is woken, and the waker
    /// that was replaced for it is for the caller to drop outside the lock.
    pub(crate) fn poll(&mut self, place: Place, cx: &Context<'_>, tag: T) -> Result<(), Option<Waker>> {
        let waiter = &mut self.waiters[place.index];
        match &mut waiter.waker {
            None => Ok(()),
            Some(waker) if waker::will_wake(waker, cx) => Err(None),
            Some(waker) => {
                waiter.tag = tag;
                Err(Some(std::mem::replace(waker, waker::register(cx))))
            }
        }
    }

    /// What is known of a waiter, queued or granted.
    pub(crate) fn tag(&self, place: Place) -> T {
        self.waiters[place.index].tag
    }

    /// The longest waiting.
    pub(crate) fn front(&mut self) -> Option<T> {
        while let Some(place) = self.order.front() {
            match self.waiters.get(place.index).filter(|waiter| waiter.ticket == place.ticket) {
                Some(waiter) if waiter.waker.is_some() => return Some(waiter.tag),
                _ => self.order.pop_front(),
            };
        }
        None
    }

    /// Grants the longest waiting; `None` if nobody waits.
    #[inline]
    pub(crate) fn grant(&mut self) -> Option<(Woken, T)> {
        while let Some(place) = self.order.pop_front() {
            if let Some(granted) = self.grant_at(place, |_| {}) {
                return Some(granted);
            }
        }
        None
    }

    /// The same, and changes what is known of it.
    pub(crate) fn grant_with(&mut self, f: impl FnOnce(&mut T)) -> Option<Woken> {
        self.front()?;
        let place = self.order.pop_front()?;
        self.grant_at(place, f).map(|(woken, _)| woken)
    }

    /// Grants who came last.
    pub(crate) fn grant_last_with(&mut self, f: impl FnOnce(&mut T)) -> Option<Woken> {
        let mut f = Some(f);
        while let Some(place) = self.order.pop_back() {
            let granted = self.grant_at(place, |tag| {
                if let Some(f) = f.take() {
                    f(tag);
                }
            });
            if let Some((woken, _)) = granted {
                return Some(woken);
            }
        }
        None
    }

    /// Grants the waiter that took this place in the order, if it still waits.
    fn grant_at(&mut self, place: Place, f: impl FnOnce(&mut T)) -> Option<(Woken, T)> {
        let waiter = self.waiters.get_mut(place.index).filter(|waiter| waiter.ticket == place.ticket)?;
        let waker = waiter.waker.take()?;
        f(&mut waiter.tag);
        self.queued -= 1;
        Some((waker::fire(waker), waiter.tag))
    }

    /// Grants everybody.
    pub(crate) fn grant_all(&mut self) -> Vec<Woken> {
        std::iter::from_fn(|| self.grant().map(|(woken, _)| woken)).collect()
    }

    /// A waiter goes. Its waker, if it was still queued, is for the caller to drop outside the lock; `None`
    /// means that it had been granted.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        let waker = self.waiters.remove(place.index).waker;
        if waker.is_some() {
            self.queued -= 1;
            // What left before its turn must not pile up.
            if self.order.len() > 32 && self.order.len() > 2 * self.queued {
                let waiters = &self.waiters;
                self.order.retain(|place| {
                    waiters.get(place.index).is_some_and(|waiter| waiter.ticket == place.ticket)
                });
            }
        }
        waker
    }
}
