//! A first-in, first-out queue of waiting tasks, from which a waiter that gives up leaves in O(1).

use std::task::{Context, Waker};

use crate::task::waker::{self, Asker, Woken};

/// A waiter's place in the queue: its node, which is its own until it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

/// No node.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node<T> {
    /// The neighbours in the queue; of a node that nobody has, `next` is the next such one.
    before: u32,
    next: u32,
    tag: T,
    /// `None` once the waiter has been given what it waits for, and has not taken it. Then it is in the queue no more.
    waker: Option<Waker>,
}

/// Several wakes that have been decided under a lock; see [`Woken`]. One takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Woken>,
    /// Out of line, for they are few, and whoever wakes one is to be quick.
    #[allow(clippy::box_collection)]
    more: Option<Box<Vec<Woken>>>,
}

impl Wakes {
    #[inline]
    pub(crate) fn push(&mut self, woken: Woken) {
        match self.first {
            None => self.first = Some(woken),
            Some(_) => self.more.get_or_insert_default().push(woken),
        }
    }
}

/// Waiters in the order of their arrival. The queue lies under its primitive's lock.
///
/// A waiter is **queued** until it is **granted**, and leaves by [`leave`](Waiters::leave) in either case, which says
/// which it was: a grant that was not used is the leaver's to pass on.
///
/// `T` is what the primitive knows of each waiter. All that is known of one lies in one node, and the nodes in one block: who
/// comes or goes touches the queue and a node or two, for the next worker has to fetch each of them.
#[derive(Debug)]
pub(crate) struct Waiters<T = ()> {
    nodes: Vec<Node<T>>,
    first: u32,
    last: u32,
    /// The first node that nobody has.
    spare: u32,
    queued: u32,
}

impl<T: Copy> Waiters<T> {
    pub(crate) const fn new() -> Waiters<T> {
        Waiters { nodes: Vec::new(), first: NIL, last: NIL, spare: NIL, queued: 0 }
    }

    /// How many wait who have not been granted.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queued as usize
    }

    /// Nobody waits who has not been granted.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    fn node(&mut self, at: u32) -> &mut Node<T> {
        &mut self.nodes[at as usize]
    }

    /// Queues the polled task.
    pub(crate) fn join(&mut self, cx: &Context<'_>, tag: T) -> Place {
        self.join_as(Asker::of(cx), tag)
    }

    /// The same. In line, so that the node is written where it is, word by word.
    #[inline(always)]
    pub(crate) fn join_as(&mut self, asker: Asker<'_>, tag: T) -> Place {
        let node = Node { before: self.last, next: NIL, tag, waker: Some(asker.register()) };
        let at = match self.spare {
            NIL => {
                let at = u32::try_from(self.nodes.len()).ok().filter(|&at| at != NIL);
                let at = at.expect("fewer wait for one thing than four thousand million");
                self.nodes.push(node);
                at
            }
            at => {
                self.spare = std::mem::replace(self.node(at), node).next;
                at
            }
        };
        match self.last {
            NIL => self.first = at,
            last => self.node(last).next = at,
        }
        self.last = at;
        self.queued += 1;
        Place(at)
    }

    /// Whether the waiter has been granted; if not, it is the polled task that is woken, and the waker
    /// that was replaced for it is for the caller to drop outside the lock.
    pub(crate) fn poll(&mut self, place: Place, cx: &Context<'_>, tag: T) -> Result<(), Option<Waker>> {
        let node = self.node(place.0);
        match &mut node.waker {
            None => Ok(()),
            Some(waker) if waker::will_wake(waker, cx) => Err(None),
            Some(waker) => {
                node.tag = tag;
                Err(Some(std::mem::replace(waker, waker::register(cx))))
            }
        }
    }

    /// A waiter that has been granted goes; what is known of it. `None`, and nothing changes, if it is still queued.
    #[inline]
    pub(crate) fn leave_granted(&mut self, place: Place) -> Option<T> {
        let spare = self.spare;
        let node = self.node(place.0);
        if node.waker.is_some() {
            return None;
        }
        node.next = spare;
        let tag = node.tag;
        self.spare = place.0;
        Some(tag)
    }

    /// What is known of a waiter, queued or granted.
    pub(crate) fn tag(&self, place: Place) -> T {
        self.nodes[place.0 as usize].tag
    }

    /// The longest waiting.
    #[inline]
    pub(crate) fn front(&self) -> Option<T> {
        self.nodes.get(self.first as usize).map(|node| node.tag)
    }

    /// The longest waiting, and who comes next.
    #[inline]
    pub(crate) fn first_two(&self) -> Option<(T, Option<T>)> {
        let first = self.nodes.get(self.first as usize)?;
        Some((first.tag, self.nodes.get(first.next as usize).map(|node| node.tag)))
    }

    /// Grants the longest waiting; `None` if nobody waits.
    #[inline]
    pub(crate) fn grant(&mut self) -> Option<(Woken, T)> {
        self.grant_at(self.first, |_| {})
    }

    /// The same, and changes what is known of it.
    #[inline]
    pub(crate) fn grant_with(&mut self, f: impl FnOnce(&mut T)) -> Option<Woken> {
        self.grant_at(self.first, f).map(|(woken, _)| woken)
    }

    /// Grants who came last.
    pub(crate) fn grant_last_with(&mut self, f: impl FnOnce(&mut T)) -> Option<Woken> {
        self.grant_at(self.last, f).map(|(woken, _)| woken)
    }

    /// Grants that one, which is queued.
    #[inline]
    fn grant_at(&mut self, at: u32, f: impl FnOnce(&mut T)) -> Option<(Woken, T)> {
        let node = self.nodes.get_mut(at as usize)?;
        let waker = node.waker.take()?;
        f(&mut node.tag);
        let tag = node.tag;
        self.unlink(at);
        Some((waker::fire(waker), tag))
    }

    /// Takes a node out of the queue.
    #[inline]
    fn unlink(&mut self, at: u32) {
        let &mut Node { before, next, .. } = self.node(at);
        match before {
            NIL => self.first = next,
            before => self.node(before).next = next,
        }
        match next {
            NIL => self.last = before,
            next => self.node(next).before = before,
        }
        self.queued -= 1;
    }

    /// Grants everybody.
    pub(crate) fn grant_all(&mut self) -> Vec<Woken> {
        std::iter::from_fn(|| self.grant().map(|(woken, _)| woken)).collect()
    }

    /// A waiter goes. Its waker, if it was still queued, is for the caller to drop outside the lock; `None`
    /// means that it had been granted.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        let waker = self.node(place.0).waker.take();
        if waker.is_some() {
            self.unlink(place.0);
        }
        let spare = self.spare;
        self.node(place.0).next = spare;
        self.spare = place.0;
        waker
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn they_are_granted_in_order_whoever_leaves_between() {
        let cx = &Context::from_waker(Waker::noop());
        let mut waiters = Waiters::new();
        let places: Vec<Place> = (0..6).map(|n| waiters.join(cx, n)).collect();
        assert!(waiters.leave(places[0]).is_some(), "the first");
        assert!(waiters.leave(places[3]).is_some(), "one between");
        assert!(waiters.leave(places[5]).is_some(), "the last");
        assert_eq!((waiters.len(), waiters.front()), (3, Some(1)));
        assert_eq!(waiters.leave_granted(places[1]), None, "queued");
        assert!(waiters.grant_with(|tag| *tag += 10).is_some());
        assert_eq!(waiters.leave_granted(places[1]), Some(11));
        let again = [waiters.join(cx, 6), waiters.join(cx, 7)];
        let order: Vec<i32> = std::iter::from_fn(|| waiters.grant().map(|(_, tag)| tag)).collect();
        assert_eq!((order, waiters.len(), waiters.front()), (vec![2, 4, 6, 7], 0, None));
        assert!(waiters.leave(again[0]).is_none(), "granted");
        let last = waiters.join(cx, 8);
        let later = waiters.join(cx, 9);
        assert!(waiters.grant_last_with(|_| {}).is_some());
        assert_eq!(
            (waiters.tag(later), waiters.leave_granted(later), waiters.front()),
            (9, Some(9), Some(8))
        );
        assert!(waiters.leave(last).is_some());
        assert!(waiters.is_empty() && waiters.nodes.len() == 6, "nodes are used again");
    }
}
