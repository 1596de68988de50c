//! What is known of a lock that tasks wait for: who holds it, taken where.
//!
//! A lock lies in the user's memory, which a snapshot must not read. So from its first contention on it has [`Facts`]: a
//! counted object of ours with an id, which the lock keeps up to date under its own mutex, and which snapshots find by that id
//! in a table. A wait entry names the id.
//!
//! The holder is *recorded*, not proven: a guard can be moved to another task or thread without a trace. Whoever is not plainly
//! the polled task is recorded as unknown.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use super::frame;
use super::meta::TaskId;
use super::waker;

/// Who has a lock, as far as it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Nobody.
    Free,
    /// Somebody outside a task, or who could not be told.
    Unknown,
    /// This task took it there; or it waited there, has been given its turn, and has not taken it up.
    Task { id: TaskId, site: &'static Location<'static> },
}

impl Holder {
    /// The task that this thread is polling.
    pub(crate) fn polled(site: &'static Location<'static>) -> Holder {
        // SAFETY: (I1) a task that is being polled is alive.
        match unsafe { frame::header().as_ref() } {
            Some(header) if !cfg!(leakfree_norecord) => Holder::Task { id: header.record.id(), site },
            _ => Holder::Unknown,
        }
    }

    /// The task that `cx` wakes, if it is the polled one.
    pub(crate) fn woken_by(cx: &Context<'_>, site: &'static Location<'static>) -> Holder {
        if waker::is_polled_task(cx) { Holder::polled(site) } else { Holder::Unknown }
    }
}

/// What a lock keeps of itself, under its own mutex.
#[derive(Debug)]
pub(crate) struct LockRecord {
    holder: Holder,
    /// Made when somebody first waits.
    facts: Option<Arc<Facts>>,
}

impl LockRecord {
    pub(crate) const fn new() -> LockRecord {
        LockRecord { holder: Holder::Free, facts: None }
    }

    /// The lock changes hands.
    #[inline]
    pub(crate) fn set(&mut self, holder: Holder) {
        self.holder = holder;
        if let Some(facts) = &self.facts {
            facts.set(holder);
        }
    }

    /// Somebody waits: the id under which snapshots find the facts.
    pub(crate) fn contended(&mut self, created: &'static Location<'static>) -> u64 {
        let holder = self.holder;
        self.facts.get_or_insert_with(|| Facts::publish(created, holder)).id
    }
}

impl Drop for LockRecord {
    fn drop(&mut self) {
        if let Some(facts) = self.facts.take() {
            let out = lock(shard(facts.id)).remove(&facts.id);
            drop(out);
        }
    }
}

/// One contended lock's facts.
pub(crate) struct Facts {
    id: u64,
    created: &'static Location<'static>,
    state: Mutex<(Holder, u64)>,
}

/// A copy for a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FactsCopy {
    pub(crate) created: &'static Location<'static>,
    pub(crate) holder: Holder,
    /// Counts how often the lock has changed hands.
    pub(crate) version: u64,
}

type Shard = Mutex<BTreeMap<u64, Arc<Facts>>>;

/// Contended locks by id, in shards.
static TABLE: [Shard; 16] = [const { Mutex::new(BTreeMap::new()) }; 16];

fn shard(id: u64) -> &'static Shard {
    &TABLE[id as usize % TABLE.len()]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Facts {
    #[cold]
    fn publish(created: &'static Location<'static>, holder: Holder) -> Arc<Facts> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let facts = Arc::new(Facts { id, created, state: Mutex::new((holder, 0)) });
        lock(shard(id)).insert(id, Arc::clone(&facts));
        facts
    }

    fn set(&self, holder: Holder) {
        let mut state = lock(&self.state);
        *state = (holder, state.1 + 1);
    }
}

/// The facts of that lock; `None` if it is gone.
pub(crate) fn copy(id: u64) -> Option<FactsCopy> {
    let facts = lock(shard(id)).get(&id).cloned()?;
    let (holder, version) = *lock(&facts.state);
    Some(FactsCopy { created: facts.created, holder, version })
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("id", &self.id).field("created", &self.created).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_in_the_table_from_its_first_contention_to_its_end() {
        let here = Location::caller();
        let mut record = LockRecord::new();
        record.set(Holder::Unknown);
        let id = record.contended(here);
        assert_eq!(record.contended(here), id);
        let first = copy(id).unwrap();
        assert_eq!((first.holder, first.created), (Holder::Unknown, here));
        let holder = Holder::Task { id: TaskId(7), site: here };
        record.set(holder);
        let second = copy(id).unwrap();
        assert_eq!((second.holder, second.version), (holder, first.version + 1));
        drop(record);
        assert_eq!(copy(id), None);
    }
}
