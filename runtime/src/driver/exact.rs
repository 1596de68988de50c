//! The timers of a paused clock: exact to the nanosecond, and those of one moment in the order in which they were armed.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::task::Waker;

use super::wheel::Key;

#[derive(Debug)]
pub(crate) struct Exact {
    timers: BTreeMap<(u64, NonZeroU64), Waker>,
    generation: NonZeroU64,
}

impl Exact {
    pub(crate) fn new() -> Exact {
        Exact { timers: BTreeMap::new(), generation: NonZeroU64::MIN }
    }

    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn insert(&mut self, deadline_ns: u64, waker: Waker) -> Key {
        self.generation = self.generation.saturating_add(1);
        self.timers.insert((deadline_ns, self.generation), waker);
        Key { place: deadline_ns, generation: self.generation }
    }

    pub(crate) fn waker_mut(&mut self, key: Key) -> Option<&mut Waker> {
        self.timers.get_mut(&(key.place, key.generation))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Waker> {
        self.timers.remove(&(key.place, key.generation))
    }

    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.timers).into_values().collect()
    }

    /// When the next timer is due; `None` if there is none but those that wait for ever.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let (&(deadline_ns, _), _) = self.timers.first_key_value()?;
        (deadline_ns < u64::MAX).then_some(deadline_ns)
    }

    /// Takes out every timer whose deadline is not after `now_ns`.
    pub(crate) fn advance(&mut self, now_ns: u64, fired: &mut Vec<Waker>) {
        while self.next_ns().is_some_and(|next| next <= now_ns) {
            fired.extend(self.timers.pop_first().map(|(_, waker)| waker));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_at_their_nanosecond_and_for_ever_is_for_ever() {
        let mut exact = Exact::new();
        let mut fired = Vec::new();
        let never = exact.insert(u64::MAX, Waker::noop().clone());
        assert_eq!(exact.next_ns(), None);
        let second = exact.insert(8, Waker::noop().clone());
        let first = exact.insert(7, Waker::noop().clone());
        assert_eq!(exact.next_ns(), Some(7));
        exact.advance(7, &mut fired);
        assert_eq!((fired.len(), exact.next_ns()), (1, Some(8)));
        assert!(exact.waker_mut(first).is_none());
        assert!(exact.remove(second).is_some() && exact.remove(second).is_none());
        exact.advance(u64::MAX, &mut fired);
        assert_eq!((fired.len(), exact.len()), (1, 1));
        assert!(exact.waker_mut(never).is_some());
        assert_eq!(exact.clear().len(), 1);
    }
}
