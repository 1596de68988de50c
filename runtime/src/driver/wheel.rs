//! A hierarchical timer wheel as plain data: no clock, no threads.
//!
//! Time is counted in ticks of 2^16 ns (65.5 us). Level `l` has 64 slots of 64^l ticks. A timer lies in the level
//! of the highest bit in which its deadline differs from now, in the slot that the deadline's six bits of
//! that level name; when time reaches a slot of a higher level its timers are put in again, further down. (G.
//! Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels", 1987.) Eight levels reach 2^48 ticks, over
//! 500 years; a deadline beyond that waits in the last slot and is put in again.
//!
//! A timer never fires before its deadline, and at most one tick after it is asked to `advance` that far.

use std::num::NonZeroU64;
use std::task::Waker;

/// Nanoseconds per tick, as a shift.
const TICK_SHIFT: u32 = 16;
const LEVELS: usize = 8;
const SLOTS: usize = 64;
const REACH: u64 = 1 << (6 * LEVELS);

/// The first tick that does not begin before `ns`: at that tick the deadline has passed.
pub(crate) fn tick_after(ns: u64) -> u64 {
    ns.div_ceil(1 << TICK_SHIFT)
}

/// The tick that `ns` is in.
pub(crate) fn tick_of(ns: u64) -> u64 {
    ns >> TICK_SHIFT
}

/// The beginning of a tick in nanoseconds.
pub(crate) fn tick_start(tick: u64) -> u64 {
    tick.saturating_mul(1 << TICK_SHIFT)
}

/// A timer in the wheel. Good until it fires or is removed; after that it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    /// The node's index, or in an `Exact` the deadline.
    pub(super) place: u64,
    pub(super) generation: NonZeroU64,
}

/// Places that an empty wheel keeps, of 48 bytes each.
const KEPT: usize = 1 << 16;

/// No node.
const NIL: u32 = u32::MAX;

/// A timer, or a place where none is.
#[derive(Debug)]
struct Node {
    deadline: u64,
    generation: NonZeroU64,
    waker: Option<Waker>,
    prev: u32,
    /// Also from one free place to the next.
    next: u32,
    level: u8,
    slot: u8,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Which slots hold timers.
    occupied: u64,
    heads: [u32; SLOTS],
}

#[derive(Debug)]
pub(crate) struct Wheel {
    nodes: Vec<Node>,
    /// The first free place among them.
    free: u32,
    len: usize,
    /// None before the first timer: a wheel that is not used takes no memory.
    levels: Vec<Level>,
    /// Every timer up to here has fired.
    now: u64,
    generation: NonZeroU64,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            nodes: Vec::new(),
            free: NIL,
            len: 0,
            levels: Vec::new(),
            now: 0,
            generation: NonZeroU64::MIN,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Moves an empty wheel on to `now`: nothing is to fire on the way. What a burst of timers took is given back.
    #[inline]
    pub(crate) fn catch_up(&mut self, now: u64) {
        if self.len == 0 {
            self.now = self.now.max(now);
            if self.nodes.len() > KEPT {
                (self.nodes, self.free) = (Vec::new(), NIL);
            }
        }
    }

    /// Arms a timer. One whose deadline has passed fires at the next `advance`.
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> Key {
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        if self.free == NIL {
            self.add_place();
        }
        let index = self.free;
        let node = &mut self.nodes[index as usize];
        self.free = node.next;
        self.len += 1;
        (node.deadline, node.generation, node.waker) = (deadline, generation, Some(waker));
        self.link(index);
        Key { place: index.into(), generation }
    }

    #[cold]
    fn add_place(&mut self) {
        self.levels.resize(LEVELS, Level { occupied: 0, heads: [NIL; SLOTS] });
        let index = u32::try_from(self.nodes.len()).ok().filter(|index| *index != NIL);
        self.free = index.expect("so many timers do not fit into memory");
        let generation = self.generation;
        self.nodes.push(Node {
            deadline: 0,
            generation,
            waker: None,
            prev: NIL,
            next: NIL,
            level: 0,
            slot: 0,
        });
    }

    /// The timer's waker, to replace it; `None` if it has fired.
    pub(crate) fn waker_mut(&mut self, key: Key) -> Option<&mut Waker> {
        let node = self.nodes.get_mut(key.place as usize).filter(|node| node.generation == key.generation)?;
        node.waker.as_mut()
    }

    /// Disarms a timer and gives its waker back; `None` if it has fired.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waker> {
        let index = key.place as u32;
        let node = self.nodes.get_mut(index as usize).filter(|node| node.generation == key.generation)?;
        let waker = node.waker.take()?;
        let (prev, next) = (node.prev, std::mem::replace(&mut node.next, self.free));
        let (level, slot) = (usize::from(node.level), usize::from(node.slot));
        if prev != NIL {
            self.nodes[prev as usize].next = next;
        } else {
            let Level { occupied, heads } = &mut self.levels[level];
            heads[slot] = next;
            if next == NIL {
                *occupied &= !(1 << slot);
            }
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        self.free = index;
        self.len -= 1;
        Some(waker)
    }

    /// Disarms all timers.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let Wheel { nodes, now, generation, .. } = std::mem::replace(self, Wheel::new());
        (self.now, self.generation) = (now, generation);
        nodes.into_iter().filter_map(|node| node.waker).collect()
    }

    /// Puts a timer into its slot.
    #[inline]
    fn link(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let deadline = node.deadline.max(self.now + 1);
        let differs = deadline ^ self.now;
        let (level, slot) = if differs < REACH {
            let level = differs.ilog2() / 6;
            (level as usize, (deadline >> (6 * level)) as usize % SLOTS)
        } else {
            // Beyond the last level's turn: its last slot before now comes around latest.
            (LEVELS - 1, ((self.now >> (6 * (LEVELS - 1))) as usize + SLOTS - 1) % SLOTS)
        };
        let Level { occupied, heads } = &mut self.levels[level];
        *occupied |= 1 << slot;
        let head = std::mem::replace(&mut heads[slot], index);
        (node.level, node.slot, node.prev, node.next) = (level as u8, slot as u8, NIL, head);
        if head != NIL {
            self.nodes[head as usize].prev = index;
        }
    }

    /// The first tick at which `advance` may have something to do: never later than the earliest deadline.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        (0..self.levels.len()).find_map(|level| self.next_in(level).map(|(tick, _)| tick))
    }

    /// The next occupied slot of a level, and when it begins.
    fn next_in(&self, level: usize) -> Option<(u64, usize)> {
        let occupied = self.levels[level].occupied;
        if occupied == 0 {
            return None;
        }
        let here = self.now >> (6 * level);
        let place = here as usize % SLOTS;
        // Slots after ours, in the order in which time reaches them; our own comes last.
        let ahead = occupied.rotate_right((place as u32 + 1) % 64).trailing_zeros() as u64 + 1;
        Some(((here + ahead) << (6 * level), (place + ahead as usize) % SLOTS))
    }

    /// Moves on to `now` and takes out every timer whose deadline is not after it.
    pub(crate) fn advance(&mut self, now: u64, fired: &mut Vec<Waker>) {
        loop {
            // A slot of a lower level always comes before the next turn of a higher one.
            let next = (0..self.levels.len()).find_map(|level| Some((level, self.next_in(level)?)));
            let Some((level, (tick, slot))) = next.filter(|(_, (tick, _))| *tick <= now) else { break };
            self.now = tick;
            let Level { occupied, heads } = &mut self.levels[level];
            *occupied &= !(1 << slot);
            let mut head = std::mem::replace(&mut heads[slot], NIL);
            while head != NIL {
                let index = head;
                let node = &mut self.nodes[index as usize];
                head = node.next;
                if node.deadline <= tick {
                    fired.extend(node.waker.take());
                    node.next = self.free;
                    self.free = index;
                    self.len -= 1;
                } else {
                    self.link(index);
                }
            }
        }
        self.now = self.now.max(now);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::task::Wake;

    struct Stamp(AtomicU64);

    impl Wake for Stamp {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn what_a_burst_took_is_given_back_and_its_keys_name_nothing() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = (0..=KEPT).map(|_| wheel.insert(5, Waker::noop().clone())).collect();
        assert!(keys.iter().all(|key| wheel.remove(*key).is_some()));
        assert!(wheel.nodes.capacity() > KEPT);
        wheel.catch_up(7);
        assert_eq!(wheel.nodes.capacity(), 0);
        let late = wheel.insert(9, Waker::noop().clone());
        assert!(keys.iter().all(|key| wheel.remove(*key).is_none()));
        assert_eq!(wheel.next_tick(), Some(9));
        assert!(wheel.remove(late).is_some());
    }

    /// Against a sorted map: fires exactly what is due, at every step, over near and far deadlines.
    #[test]
    fn the_wheel_fires_what_a_sorted_map_would() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for round in 0..200 {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, u64), (Key, Arc<Stamp>)> = BTreeMap::new();
            let mut now = 0;
            for step in 0..200u64 {
                match random(&mut state) % 4 {
                    0 | 1 => {
                        let far = 1 << (random(&mut state) % (if round % 2 == 0 { 14 } else { 50 }));
                        let deadline = now + 1 + random(&mut state) % far;
                        let stamp = Arc::new(Stamp(AtomicU64::new(0)));
                        let key = wheel.insert(deadline, Waker::from(Arc::clone(&stamp)));
                        model.insert((deadline, step), (key, stamp));
                    }
                    2 => {
                        let pick = random(&mut state) as usize % (model.len() + 1);
                        if let Some(&at) = model.keys().nth(pick) {
                            let (key, _) = model.remove(&at).unwrap();
                            assert!(wheel.remove(key).is_some());
                            assert!(wheel.remove(key).is_none());
                        }
                    }
                    _ => {
                        if let Some(next) = wheel.next_tick() {
                            let first = model.keys().next().unwrap().0;
                            assert!(next <= first.max(now + 1), "{next} {first} {now}");
                        }
                        now += random(&mut state) % (1 << (random(&mut state) % 20));
                        let mut fired = Vec::new();
                        wheel.advance(now, &mut fired);
                        fired.drain(..).for_each(Waker::wake);
                        let rest = model.split_off(&(now + 1, 0));
                        for (at, (_, stamp)) in std::mem::replace(&mut model, rest) {
                            assert_eq!(stamp.0.load(Relaxed), 1, "due at {at:?}, now {now}");
                        }
                        assert!(model.values().all(|(_, stamp)| stamp.0.load(Relaxed) == 0));
                        assert_eq!(wheel.len(), model.len());
                    }
                }
            }
        }
    }

    /// A timer that fired early would be polled again and again until its time has come.
    #[test]
    fn no_tick_begins_before_a_deadline_that_it_fires() {
        const TICK: u64 = 1 << TICK_SHIFT;
        for (ns, after, of) in [(0, 0, 0), (1, 1, 0), (TICK - 1, 1, 0), (TICK, 1, 1), (TICK + 1, 2, 1)] {
            assert_eq!((tick_after(ns), tick_of(ns)), (after, of), "{ns} ns");
        }
    }

    #[test]
    fn a_deadline_that_has_passed_fires_at_the_next_tick() {
        let mut wheel = Wheel::new();
        let mut fired = Vec::new();
        wheel.advance(1000, &mut fired);
        wheel.insert(3, Waker::noop().clone());
        assert_eq!(wheel.next_tick(), Some(1001));
        wheel.advance(1001, &mut fired);
        assert_eq!(fired.len(), 1);
    }

    #[test]
    fn the_far_future_is_armed_and_does_not_fire() {
        let mut wheel = Wheel::new();
        wheel.insert(u64::MAX, Waker::noop().clone());
        let mut fired = Vec::new();
        wheel.advance(1 << 40, &mut fired);
        assert!(fired.is_empty());
        assert_eq!(wheel.len(), 1);
    }
}
