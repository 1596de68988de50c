//! How many children a scope has: sharded while it is open, one number while it closes.
//!
//! ```text
//!            open                                  closing                      closed
//!  central = OPEN + c0                     central = live children           central = 0
//!  shard i: entered - left = ci --close--> both words CLOSED  -- last leave -->  no child enters
//!  live children = c0 + sum of ci
//!
//!  the root's
//!  central = OPEN + W * KEEPER + c0                  central = live children
//!  worker i: entered - left = ci   --- close(), and retire() of all W workers --->
//! ```
//!
//! A child *enters* once and *leaves* once, alone or with others, each time at whatever counter its thread finds: a shard of its
//! worker's, or the central one. A single `ci` may be negative; the sum is what counts. Those that entered and those that left are two
//! numbers, so that who reads them one after the other, those that left first, finds no child less than there was.
//!
//! - While `OPEN` is in the central count it cannot reach zero, so nobody takes a passing zero for the end.
//! - `close` flags one shard after the other and carries what it counted over to the centre. An operation on
//!   a shard that finds `CLOSED` goes to the centre in its place, so nothing is counted twice or not at all; what it added to the shard
//!   is read by nobody.
//! - Then `OPEN` is taken off. From here the central count is exact, and whoever brings it to zero, `close`
//!   itself or the last child, is told so: exactly one.
//! - A count that has reached zero stays there: `enter` refuses. (A child that spawns a sibling holds the
//!   count above zero itself.)
//!
//! A scope begins without shards and gets them when it has seen [`INFLATE_AT`] children at once.
//!
//! The root scope is closed once in the life of its runtime, and can wait for that until each worker has taken notice. So its shards are
//! written by their workers alone, with plain stores, and a spawn and its end cost no locked instruction. When the scope closes each worker
//! retires: it carries what it counted over, takes one `KEEPER` off in the same operation, and counts at the centre from then on. Whoever
//! brings the centre to zero, `close`, a worker or a child, is told so, as above.
//!
//! The loom model is `scope_count`.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;

use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::AtomicU64;

const OPEN: u64 = 1 << 62;
/// A worker that counts for itself.
const KEEPER: u64 = 1 << 40;
const CLOSED: u64 = 1 << 63;

/// A shard, or a worker's own counter of the root's: children, and `CLOSED` when they have been carried over (a worker's own has it in
/// `entered` alone).
#[derive(Debug, Default)]
struct Counter {
    entered: AtomicU64,
    left: AtomicU64,
}

/// Live children from which on a scope is worth shards.
pub(crate) const INFLATE_AT: u64 = if cfg!(loom) { 1 } else { 64 };

type Shards = Box<[CachePadded<Counter>]>;

fn make(shards: usize) -> Shards {
    (0..shards).map(|_| CachePadded::default()).collect()
}

/// What keeps the count open, and the children that the centre counts, which may be fewer than none.
fn split(central: u64) -> (u64, i64) {
    let spare = KEEPER.leading_zeros() + 1;
    let children = (central << spare) as i64 >> spare;
    (central.wrapping_sub(children as u64), children)
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

/// On a line of its own: threads outside count here, and workers read what lies around.
#[derive(Debug)]
#[repr(align(64))]
struct Centre(AtomicU64);

impl std::ops::Deref for Centre {
    type Target = AtomicU64;
    #[inline]
    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct ChildCount {
    central: Centre,
    /// The root's; others have none.
    own: Box<[CachePadded<Counter>]>,
    shards: OnceShards,
    /// Whether `close` has begun; guards `shards` against being made behind its back.
    closing: Mutex<bool>,
}

impl ChildCount {
    pub(crate) fn new() -> ChildCount {
        ChildCount::with_own(0)
    }

    /// A count that so many workers keep a part of: each [retires](ChildCount::retire) when the scope closes.
    pub(crate) fn with_own(workers: usize) -> ChildCount {
        ChildCount {
            central: Centre(AtomicU64::new(OPEN + KEEPER * workers as u64)),
            own: (0..workers).map(|_| CachePadded::default()).collect(),
            shards: OnceShards::new(),
            closing: Mutex::new(false),
        }
    }

    /// Makes the shards, unless the scope closes already.
    #[cold]
    pub(crate) fn inflate(&self, shards: usize) {
        let closing = self.closing.lock().unwrap_or_else(|e| e.into_inner());
        if !*closing && self.own.is_empty() {
            self.shards.publish(shards);
        }
    }

    #[inline]
    fn shard(&self, worker: Option<usize>) -> Option<&Counter> {
        self.shards.get()?.get(worker?).map(|shard| &**shard)
    }

    /// This worker's own counter, as long as it counts there. The caller has the worker's role.
    #[inline]
    fn own(&self, worker: Option<usize>) -> Option<&Counter> {
        let own = self.own.get(worker?)?;
        (own.entered.load(Relaxed) & CLOSED == 0).then_some(own)
    }

    /// A child comes in. `None` if the count has reached zero for good; else whether shards would pay. `worker` is one whose role the
    /// caller has.
    #[inline]
    pub(crate) fn enter(&self, worker: Option<usize>) -> Option<bool> {
        if let Some(own) = self.own(worker) {
            // One writer: a load and a store are enough. Release: pairs with the acquire in `live`.
            own.entered.store(own.entered.load(Relaxed) + 1, Release);
            return Some(false);
        }
        if let Some(shard) = self.shard(worker) {
            // AcqRel: a later `close`, and `live`, acquire what was done before. The child itself is published by the queue it goes to.
            if shard.entered.fetch_add(1, AcqRel) & CLOSED == 0 {
                return Some(false);
            }
        }
        let mut central = self.central.load(Acquire);
        loop {
            if central == 0 {
                return None;
            }
            match self.central.compare_exchange_weak(central, central + 1, AcqRel, Acquire) {
                Ok(_) => {
                    let pays = central >= OPEN + INFLATE_AT && self.own.is_empty();
                    return Some(pays && self.shards.get().is_none());
                }
                Err(now) => central = now,
            }
            #[cfg(loom)]
            crate::loom::thread::yield_now();
        }
    }

    /// So many children leave. True if they are the last of a closing scope.
    ///
    /// Release: the owner, told of the end, sees what the child did. Acquire: the last one passes on what
    /// the others released.
    #[must_use]
    #[inline]
    pub(crate) fn leave(&self, worker: Option<usize>, children: u64) -> bool {
        if let Some(own) = self.own(worker) {
            // As in `enter`. Who is told of the end acquires it from `retire`.
            own.left.store(own.left.load(Relaxed) + children, Release);
            return false;
        }
        // A shard that is closed stays so: the children of a scope that ends need not try.
        if let Some(shard) = self.shard(worker).filter(|shard| shard.left.load(Acquire) & CLOSED == 0) {
            if shard.left.fetch_add(children, AcqRel) & CLOSED == 0 {
                return false;
            }
        }
        self.central.fetch_sub(children, AcqRel) == children
    }

    /// The owner wants to know of the end. Called once. True if no child is left.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        *self.closing.lock().unwrap_or_else(|e| e.into_inner()) = true;
        let mut carried = OPEN;
        if let Some(shards) = self.shards.get() {
            for shard in shards {
                // In this order, for `live`: where somebody could not leave, nobody can enter.
                let entered = shard.entered.fetch_or(CLOSED, AcqRel);
                let left = shard.left.fetch_or(CLOSED, AcqRel);
                carried = carried.wrapping_sub(entered.wrapping_sub(left));
            }
        }
        // One operation carries all shards over and takes `OPEN` off: in between the centre would be wrong.
        self.central.fetch_sub(carried, AcqRel) == carried
    }

    /// The scope closes, and this worker, whose role the caller has, counts at the centre from now on. Called once for each.
    /// True if the scope was to close, and no child is left.
    ///
    /// AcqRel: as in `leave`, for all that left here.
    #[must_use]
    pub(crate) fn retire(&self, worker: usize) -> bool {
        let own = &self.own[worker];
        let (entered, left) = (own.entered.load(Relaxed), own.left.load(Relaxed));
        // First: another may be the last one as soon as the centre is told, and the scope gone.
        own.entered.store(entered | CLOSED, Release);
        let carried = KEEPER.wrapping_sub(entered.wrapping_sub(left));
        self.central.fetch_sub(carried, AcqRel) == carried
    }

    /// Whether the count has reached zero for good.
    #[cfg(any(loom, test))]
    pub(crate) fn is_zero(&self) -> bool {
        self.central.load(Acquire) == 0
    }

    /// Live children, a moment's truth: up to the end no fewer than those that lived when the look began.
    pub(crate) fn live(&self) -> u64 {
        loop {
            if let Some(live) = self.look() {
                return live;
            }
            crate::loom::thread::yield_now();
        }
    }

    /// None if some are being carried over meanwhile.
    fn look(&self) -> Option<u64> {
        let shards = self.shards.get();
        let counters = || self.own.iter().chain(shards.into_iter().flatten());
        // Who left first, then the centre, then who entered: of each that is seen to leave it is seen where it entered, for the one happened
        // before the other, and what is acquired here says so.
        let left = counters().fold(0, |sum: u64, counter| sum.wrapping_add(counter.left.load(Acquire)));
        let central = self.central.load(Acquire);
        let (open, mut live) = split(central);
        if open == 0 {
            return Some(central);
        }
        live = live.wrapping_sub(left as i64);
        let mut keepers = self.own.len() as u64;
        for counter in counters() {
            let entered = counter.entered.load(Acquire);
            if entered & CLOSED == 0 {
                live = live.wrapping_add(entered as i64);
            } else if self.own.is_empty() {
                return None;
            } else {
                // The centre counts its children.
                live = live.wrapping_add(counter.left.load(Acquire) as i64);
                keepers -= 1;
            }
        }
        let is_of_one_time = open % OPEN == keepers * KEEPER
            && split(self.central.load(Acquire)).0 % OPEN == open % OPEN
            && self.shards.get().is_some() == shards.is_some();
        is_of_one_time.then(|| live.max(0) as u64)
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
        assert!(!count.leave(None, 1));
        assert!(!count.close());
        assert!(count.leave(None, 1));
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
        assert!(!count.leave(Some(1), 1));
        assert!(!count.leave(Some(1), 1));
        assert_eq!(count.live(), 2);
        assert!(!count.close());
        assert_eq!(count.live(), 2);
        assert_eq!(count.enter(Some(0)), Some(false));
        assert!(!count.leave(Some(1), 1));
        assert!(!count.leave(Some(0), 1));
        assert!(count.leave(Some(1), 1));
    }

    #[test]
    fn an_empty_scope_ends_at_close() {
        let count = ChildCount::new();
        assert!(count.close());
        assert_eq!(count.enter(None), None);
    }
}
