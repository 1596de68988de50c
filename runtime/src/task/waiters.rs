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

    /// Nobody waits who has not been granted.
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

    /// Grants the longest waiting; `None` if nobody waits.
    pub(crate) fn grant(&mut self) -> Option<(Woken, T)> {
        while let Some(place) = self.order.pop_front() {
            let Some(waiter) = self.waiters.get_mut(place.index).filter(|w| w.ticket == place.ticket) else {
                continue;
            };
            if let Some(waker) = waiter.waker.take() {
                self.queued -= 1;
                return Some((waker::fire(waker), waiter.tag));
            }
        }
        None
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
