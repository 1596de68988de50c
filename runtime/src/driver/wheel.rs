//! A hierarchical timer wheel as plain data: no clock, no threads.
//!
//! Time is counted in ticks of 2^16 ns (65.5 us). Level `l` has 64 slots of 64^l ticks. A timer lies in the level
//! of the highest bit in which its deadline differs from now, in the slot that the deadline's six bits of
//! that level name; when time reaches a slot of a higher level its timers are put in again, further down. (G.
//! Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels", 1987.) Eight levels reach 2^48 ticks, over
//! 500 years; a deadline beyond that waits in the last slot and is put in again.
//!
//! A timer never fires before its deadline, and at most one tick after it is asked to `advance` that far.

use std::task::Waker;

use slab::Slab;

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
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Node {
    deadline: u64,
    generation: u64,
    waker: Waker,
    level: u8,
    slot: u8,
    prev: Option<usize>,
    next: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Which slots hold timers.
    occupied: u64,
    heads: [Option<usize>; SLOTS],
}

#[derive(Debug)]
pub(crate) struct Wheel {
    nodes: Slab<Node>,
    levels: Box<[Level; LEVELS]>,
    /// Every timer up to here has fired.
    now: u64,
    generation: u64,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            nodes: Slab::new(),
            levels: Box::new([Level { occupied: 0, heads: [None; SLOTS] }; LEVELS]),
            now: 0,
            generation: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Arms a timer. One whose deadline has passed fires at the next `advance`.
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> Key {
        self.generation += 1;
        let generation = self.generation;
        let index = self.nodes.insert(Node {
            deadline,
            generation,
            waker,
            level: 0,
            slot: 0,
            prev: None,
            next: None,
        });
        self.link(index);
        Key { place: index as u64, generation }
    }

    /// The timer's waker, to replace it; `None` if it has fired.
    pub(crate) fn waker_mut(&mut self, key: Key) -> Option<&mut Waker> {
        let node = self.nodes.get_mut(key.place as usize)?;
        (node.generation == key.generation).then_some(&mut node.waker)
    }

    /// Disarms a timer and gives its waker back; `None` if it has fired.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waker> {
        let index = key.place as usize;
        self.nodes.get(index).filter(|node| node.generation == key.generation)?;
        self.unlink(index);
        Some(self.nodes.remove(index).waker)
    }

    /// Disarms all timers.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        for level in self.levels.iter_mut() {
            *level = Level { occupied: 0, heads: [None; SLOTS] };
        }
        self.nodes.drain().map(|node| node.waker).collect()
    }

    fn link(&mut self, index: usize) {
        let deadline = self.nodes[index].deadline.max(self.now + 1).min(self.now + REACH - 1);
        let differs = deadline ^ self.now;
        let mut level = (63 - differs.leading_zeros() as usize) / 6;
        let mut slot = (deadline >> (6 * level.min(LEVELS - 1))) as usize % SLOTS;
        if level >= LEVELS {
            // Beyond the last level's turn: its last slot before now comes around latest.
            level = LEVELS - 1;
            slot = ((self.now >> (6 * level)) as usize + SLOTS - 1) % SLOTS;
        }
        let head = self.levels[level].heads[slot].replace(index);
        self.levels[level].occupied |= 1 << slot;
        if let Some(head) = head {
            self.nodes[head].prev = Some(index);
        }
        let node = &mut self.nodes[index];
        (node.level, node.slot, node.prev, node.next) = (level as u8, slot as u8, None, head);
    }

    fn unlink(&mut self, index: usize) {
        let Node { level, slot, prev, next, .. } = self.nodes[index];
        let (level, slot) = (usize::from(level), usize::from(slot));
        match prev {
            Some(prev) => self.nodes[prev].next = next,
            None => {
                self.levels[level].heads[slot] = next;
                if next.is_none() {
                    self.levels[level].occupied &= !(1 << slot);
                }
            }
        }
        if let Some(next) = next {
            self.nodes[next].prev = prev;
        }
    }

    /// The first tick at which `advance` may have something to do: never later than the earliest deadline.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        (0..LEVELS).find_map(|level| self.next_in(level).map(|(tick, _)| tick))
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
            let next = (0..LEVELS).find_map(|level| Some((level, self.next_in(level)?)));
            let Some((level, (tick, slot))) = next.filter(|(_, (tick, _))| *tick <= now) else { break };
            self.now = tick;
            self.levels[level].occupied &= !(1 << slot);
            let mut head = self.levels[level].heads[slot].take();
            while let Some(index) = head {
                head = self.nodes[index].next;
                if self.nodes[index].deadline <= tick {
                    fired.push(self.nodes.remove(index).waker);
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
