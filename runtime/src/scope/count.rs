//! How many children a scope has: sharded while it is open, one number while it closes.
//!
//! ```text
//!            open                                  closing                      closed
//!  central = OPEN + c0                    central = live children           central = 0
//!  shard i = BIAS + ci   --- close() -->  shard i = CLOSED  --- last leave ---->  no child enters
//!  live children = c0 + sum of ci
//! ```
//!
//! A child *enters* once and *leaves* once, each time at whatever counter its thread finds: a shard of its
//! worker's, or the central one. A single `ci` may be negative; the sum is what counts.
//!
//! - While `OPEN` is in the central count it cannot reach zero, so nobody takes a passing zero for the end.
//! - `close` flags one shard after the other and carries what it counted over to the centre. An operation on
//!   a shard that finds `CLOSED` goes to the centre in its place, so nothing is counted twice or not at all.
//! - Then `OPEN` is taken off. From here the central count is exact, and whoever brings it to zero, `close`
//!   itself or the last child, is told so: exactly one.
//! - A count that has reached zero stays there: `enter` refuses. (A child that spawns a sibling holds the
//!   count above zero itself.)
//!
//! A scope begins without shards and gets them when it has seen [`INFLATE_AT`] children at once. The loom model is
//! `scope_count`.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crossbeam_utils::CachePadded;

use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::AtomicU64;

const OPEN: u64 = 1 << 48;
const BIAS: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;

/// Live children from which on a scope is worth shards.
pub(crate) const INFLATE_AT: u64 = if cfg!(loom) { 1 } else { 64 };

type Shards = Box<[CachePadded<AtomicU64>]>;

fn make(shards: usize) -> Shards {
    (0..shards).map(|_| CachePadded::new(AtomicU64::new(BIAS))).collect()
}

/// Shards that are published once.
#[cfg(not(loom))]
#[derive(Debug)]
struct OnceShards(std::sync::OnceLock<Shards>);

#[cfg(not(loom))]
impl OnceShards {
    fn new() -> OnceShards {
        OnceShards(std::sync::OnceLock::new())
    }
    fn publish(&self, shards: usize) {
        self.0.get_or_init(|| make(shards));
    }
    fn get(&self) -> Option<&Shards> {
        self.0.get()
    }
}

/// loom cannot see through a `OnceLock`: here the shards are there from the beginning, and a flag of loom's says
/// whether they are published.
#[cfg(loom)]
#[derive(Debug)]
struct OnceShards(Shards, crate::loom::sync::atomic::AtomicBool);

#[cfg(loom)]
impl OnceShards {
    fn new() -> OnceShards {
        OnceShards(make(2), crate::loom::sync::atomic::AtomicBool::new(false))
    }
    fn publish(&self, _shards: usize) {
        self.1.store(true, std::sync::atomic::Ordering::Release);
    }
    fn get(&self) -> Option<&Shards> {
        self.1.load(Acquire).then_some(&self.0)
    }
}

#[derive(Debug)]
pub(crate) struct ChildCount {
    central: AtomicU64,
    shards: OnceShards,
    /// Whether `close` has begun; guards `shards` against being made behind its back.
    closing: Mutex<bool>,
}

impl ChildCount {
    pub(crate) fn new() -> ChildCount {
        ChildCount { central: AtomicU64::new(OPEN), shards: OnceShards::new(), closing: Mutex::new(false) }
    }

    /// Makes the shards, unless the scope closes already.
    #[cold]
    pub(crate) fn inflate(&self, shards: usize) {
        let closing = self.closing.lock().unwrap_or_else(|e| e.into_inner());
        if !*closing {
            self.shards.publish(shards);
        }
    }

    #[inline]
    fn shard(&self, worker: Option<usize>) -> Option<&AtomicU64> {
        self.shards.get()?.get(worker?).map(|shard| &**shard)
    }

    /// A child comes in. `None` if the count has reached zero for good; else whether shards would pay.
    #[inline]
    pub(crate) fn enter(&self, worker: Option<usize>) -> Option<bool> {
        if let Some(shard) = self.shard(worker) {
            // AcqRel: a later `close` acquires what was done before. The child itself is published by the
            // queue it goes to.
            if shard.fetch_add(1, AcqRel) & CLOSED == 0 {
                return Some(false);
            }
            shard.fetch_sub(1, AcqRel);
        }
        let mut central = self.central.load(Acquire);
        loop {
            if central == 0 {
                return None;
            }
            match self.central.compare_exchange_weak(central, central + 1, AcqRel, Acquire) {
                Ok(_) => {
                    let pays = central - OPEN.min(central) >= INFLATE_AT && central >= OPEN;
                    return Some(pays && self.shards.get().is_none());
                }
                Err(now) => central = now,
            }
            #[cfg(loom)]
            crate::loom::thread::yield_now();
        }
    }

    /// A child leaves. True for the last one of a closing scope.
    ///
    /// Release: the owner, told of the end, sees what the child did. Acquire: the last one passes on what
    /// the others released.
    #[must_use]
    #[inline]
    pub(crate) fn leave(&self, worker: Option<usize>) -> bool {
        // A shard that is closed stays so: the children of a scope that ends need not try.
        if let Some(shard) = self.shard(worker).filter(|shard| shard.load(Acquire) & CLOSED == 0) {
            if shard.fetch_sub(1, AcqRel) & CLOSED == 0 {
                return false;
            }
            shard.fetch_add(1, AcqRel);
        }
        self.central.fetch_sub(1, AcqRel) == 1
    }

    /// The owner wants to know of the end. Called once. True if no child is left.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        *self.closing.lock().unwrap_or_else(|e| e.into_inner()) = true;
        let mut carried = OPEN;
        if let Some(shards) = self.shards.get() {
            for shard in shards {
                let counted = shard.fetch_or(CLOSED, AcqRel).wrapping_sub(BIAS);
                carried = carried.wrapping_sub(counted);
            }
        }
        // One operation carries all shards over and takes `OPEN` off: in between the centre would be wrong.
        self.central.fetch_sub(carried, AcqRel) == carried
    }

    /// Whether the count has reached zero for good.
    #[cfg(any(loom, test))]
    pub(crate) fn is_zero(&self) -> bool {
        self.central.load(Acquire) == 0
    }

    /// Live children, a moment's truth.
    pub(crate) fn live(&self) -> u64 {
        let central = self.central.load(Acquire);
        if central < OPEN / 2 {
            return central;
        }
        let shards: u64 = self.shards.get().map_or(0, |shards| {
            shards
                .iter()
                .map(|shard| shard.load(Acquire))
                .filter(|count| count & CLOSED == 0)
                .fold(0, |sum, count| sum.wrapping_add(count.wrapping_sub(BIAS)))
        });
        let live = central.wrapping_sub(OPEN).wrapping_add(shards);
        // Torn reads may come out a little below zero.
        if live > OPEN { 0 } else { live }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_out_is_told_once() {
        let count = ChildCount::new();
        assert_eq!(count.enter(None), Some(false));
        assert_eq!(count.enter(None), Some(false));
        assert!(!count.leave(None));
        assert!(!count.close());
        assert!(count.leave(None));
        assert!(count.is_zero());
        assert_eq!(count.enter(None), None, "the count does not revive");
    }

    #[test]
    fn shards_may_be_negative_and_are_carried_over() {
        let count = ChildCount::new();
        count.inflate(2);
        for _ in 0..3 {
            let _ = count.enter(Some(0));
        }
        let _ = count.enter(None);
        assert!(!count.leave(Some(1)));
        assert!(!count.leave(Some(1)));
        assert_eq!(count.live(), 2);
        assert!(!count.close());
        assert_eq!(count.live(), 2);
        assert_eq!(count.enter(Some(0)), Some(false));
        assert!(!count.leave(Some(1)));
        assert!(!count.leave(Some(0)));
        assert!(count.leave(Some(1)));
    }

    #[test]
    fn an_empty_scope_ends_at_close() {
        let count = ChildCount::new();
        assert!(count.close());
        assert_eq!(count.enter(None), None);
    }
}
