//! What is known of a lock that tasks wait for: who holds it, taken where, and how many wait.
//!
//! A lock lies in the user's memory, which a snapshot must not read. So from its first contention on it has [`Facts`]: a
//! counted object of ours with an id, which the lock keeps up to date under its own mutex, and which snapshots find by that id
//! in a table. A wait entry names the id.
//!
//! A [`LockRecord`] has one holder, a [`SharedRecord`] several. A holder is *recorded*, not proven: a guard can be moved to
//! another task or thread without a trace. Whoever is not plainly the polled task is recorded as unknown.
//!
//! - **F1** The words of a [`OneHolder`] and of [`ManyHolders`] are written by their lock only, under the lock's own mutex; a
//!   site word is null or a `&'static Location`.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as CountOfAll;
use std::task::Context;

use slab::Slab;

use super::frame;
use super::meta::TaskId;
use super::seq::Seq;
use super::waker;
use crate::loom::sync::PoisonError;
use crate::loom::sync::atomic::Ordering::Relaxed;
use crate::loom::sync::atomic::{AtomicPtr, AtomicU64};

/// How many holders of one lock are told apart.
const HOLDERS_MAX: usize = if cfg!(loom) { 2 } else { 16 };

/// Who has a lock, as far as it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Somebody outside a task, or who could not be told.
    Unknown,
    /// This task took it there; or it waited there, has been given its turn, and has not taken it up. `owned`: by a guard that borrows nothing,
    /// which is made to be handed on, so nobody can tell where it is now.
    Task { id: TaskId, site: &'static Location<'static>, owned: bool },
}

impl Holder {
    /// The task that this thread is polling.
    pub(crate) fn polled(site: &'static Location<'static>) -> Holder {
        // SAFETY: (I1) a task that is being polled is alive.
        match unsafe { frame::header().as_ref() } {
            Some(header) if !cfg!(leakfree_norecord) => {
                Holder::Task { id: header.record.id(), site, owned: false }
            }
            _ => Holder::Unknown,
        }
    }

    /// The task that `cx` wakes, if it is the polled one.
    pub(crate) fn woken_by(cx: &Context<'_>, site: &'static Location<'static>) -> Holder {
        if waker::is_polled_task(cx) { Holder::polled(site) } else { Holder::Unknown }
    }

    /// Of one task and one place, compared by address: a `false` may err.
    #[inline]
    pub(crate) fn is_alike(self, other: Holder) -> bool {
        match (self, other) {
            (Holder::Unknown, Holder::Unknown) => true,
            (Holder::Task { id, site, owned }, Holder::Task { id: its_id, site: its_site, owned: its }) => {
                (id, owned) == (its_id, its) && std::ptr::eq(site, its_site)
            }
            _ => false,
        }
    }

    /// By an owned guard.
    pub(crate) fn owned(self) -> Holder {
        match self {
            Holder::Unknown => Holder::Unknown,
            Holder::Task { id, site, .. } => Holder::Task { id, site, owned: true },
        }
    }
}

/// What a lock with one holder at a time keeps of itself, under its own mutex.
#[derive(Debug)]
pub(crate) struct LockRecord {
    holder: Option<Holder>,
    /// Made when somebody first waits.
    facts: Option<Arc<Facts>>,
}

impl LockRecord {
    pub(crate) const fn new() -> LockRecord {
        LockRecord { holder: None, facts: None }
    }

    /// The lock changes hands; `None` says that it is free. `waiters` are queued.
    #[inline]
    pub(crate) fn set(&mut self, holder: Option<Holder>, waiters: usize) {
        self.holder = holder;
        if let Some(facts) = &self.facts {
            facts.one().set(holder, waiters);
        }
    }

    /// Somebody joined the queue: the id under which snapshots find the facts.
    pub(crate) fn contended(&mut self, created: &'static Location<'static>, waiters: usize) -> u64 {
        let holder = self.holder;
        let facts = self.facts.get_or_insert_with(|| {
            let one = OneHolder::default();
            one.set(holder, waiters);
            Facts::publish(created, State::One(one))
        });
        facts.one().set_waiters(waiters);
        facts.id
    }

    /// Somebody left the queue. The lock is in the same hands, so this is no new version: whoever waits for one
    /// holder alone is not concerned.
    pub(crate) fn set_waiters(&mut self, waiters: usize) {
        if let Some(facts) = &self.facts {
            facts.one().set_waiters(waiters);
        }
    }
}

/// Who has a lock, in words.
#[derive(Debug, Default)]
struct HolderWords {
    /// [`FREE`], [`UNKNOWN`], or the id of the task that took it, with [`OWNED`] if by an owned guard.
    task: AtomicU64,
    /// (F1) Null or a `&'static Location`: where that task took it.
    site: AtomicPtr<Location<'static>>,
}

const FREE: u64 = 0;
const UNKNOWN: u64 = u64::MAX;
const OWNED: u64 = 1 << 63;

/// The two words of [`HolderWords`], as they were found.
type FoundWords = (u64, *mut Location<'static>);

impl HolderWords {
    #[inline]
    fn set(&self, holder: Option<Holder>) {
        let (task, site) = match holder {
            None => (FREE, ptr::null_mut()),
            Some(Holder::Unknown) => (UNKNOWN, ptr::null_mut()),
            Some(Holder::Task { id, site, owned }) => {
                (id.0 | if owned { OWNED } else { 0 }, ptr::from_ref(site).cast_mut())
            }
        };
        self.task.store(task, Relaxed);
        self.site.store(site, Relaxed);
    }

    fn get(&self) -> FoundWords {
        (self.task.load(Relaxed), self.site.load(Relaxed))
    }

    /// What words say that were of one moment.
    fn holder((task, site): FoundWords) -> Option<Holder> {
        // SAFETY: (F1) null or a `&'static Location`.
        let site = unsafe { site.as_ref() };
        match (task, site) {
            (FREE, _) => None,
            (UNKNOWN, _) | (_, None) => Some(Holder::Unknown),
            (id, Some(site)) => Some(Holder::Task { id: TaskId(id & !OWNED), site, owned: id & OWNED != 0 }),
        }
    }
}

/// The one holder of a lock, in words that its lock writes under its own mutex (F1) and a snapshot reads at any time.
#[derive(Debug, Default)]
struct OneHolder {
    seq: Seq,
    holder: HolderWords,
    waiters: AtomicU64,
    /// How often it has changed hands.
    hands: AtomicU64,
}

impl OneHolder {
    #[inline]
    fn set(&self, holder: Option<Holder>, waiters: usize) {
        self.seq.write(|| {
            self.holder.set(holder);
            self.waiters.store(waiters as u64, Relaxed);
            self.hands.store(self.hands.load(Relaxed) + 1, Relaxed);
        });
    }

    fn set_waiters(&self, waiters: usize) {
        self.seq.write(|| self.waiters.store(waiters as u64, Relaxed));
    }

    /// Holder, if any, waiters, and how often it has changed hands; `None` if it does not come to rest.
    fn read(&self) -> Option<(Option<Holder>, u64, u64)> {
        let loads = || (self.holder.get(), self.waiters.load(Relaxed), self.hands.load(Relaxed));
        let ((words, waiters, hands), _) = self.seq.read(loads)?;
        Some((HolderWords::holder(words), waiters, hands))
    }
}

impl Drop for LockRecord {
    fn drop(&mut self) {
        if let Some(facts) = self.facts.take() {
            facts.retract();
        }
    }
}

/// Where a holder is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held(u32);

impl Held {
    /// Nothing is held.
    pub(crate) const NOTHING: Held = Held(u32::MAX);
    const BEYOND: Held = Held(u32::MAX - 1);
}

/// The holders of a lock that may have several, before anybody has waited: nobody looks at them.
#[derive(Debug)]
pub(crate) struct FewHolders {
    known: Slab<Holder>,
    /// Holders beyond those that are told apart.
    beyond: u64,
    /// Something happened after which nobody can tell who may let others in.
    doubted: bool,
}

/// The same, and how many wait, in words that the lock writes under its own mutex (F1) and a snapshot reads at any time. Each
/// change is a new version.
#[derive(Debug, Default)]
struct ManyHolders {
    seq: Seq,
    waiters: AtomicU64,
    /// A bit for each of those below that is somebody's, [`DOUBTED`], and above that the holders beyond.
    known: AtomicU64,
    holders: [HolderWords; HOLDERS_MAX],
}

const DOUBTED: u64 = 1 << HOLDERS_MAX;
const BEYOND: u64 = 2 * DOUBTED;
/// The bits of those that are told apart.
const TOLD_APART: u64 = DOUBTED - 1;

impl ManyHolders {
    fn new(few: &FewHolders) -> ManyHolders {
        let many = ManyHolders::default();
        let mut known = few.beyond * BEYOND + if few.doubted { DOUBTED } else { 0 };
        for (at, holder) in &few.known {
            known |= 1 << at;
            many.holders[at].set(Some(*holder));
        }
        many.known.store(known, Relaxed);
        many
    }

    /// Holders and waiters; `None` if it does not come to rest.
    fn read(&self) -> Option<(Vec<Holder>, u64)> {
        let loads = || {
            let words: [FoundWords; HOLDERS_MAX] = std::array::from_fn(|at| self.holders[at].get());
            (words, self.known.load(Relaxed), self.waiters.load(Relaxed))
        };
        let ((words, known, waiters), _) = self.seq.read(loads)?;
        let held = words.into_iter().enumerate().filter(|(at, _)| known & (1 << at) != 0);
        let mut holders: Vec<Holder> = held.filter_map(|(_, words)| HolderWords::holder(words)).collect();
        if known > TOLD_APART {
            holders.push(Holder::Unknown);
        }
        Some((holders, waiters))
    }
}

/// The holders of a lock that may have several, while they are changed.
pub(crate) enum Holders<'a> {
    Few(&'a mut FewHolders),
    Many(&'a AllWords),
}

/// The words of [`ManyHolders`], which are being written.
pub(crate) struct AllWords(ManyHolders);

impl Holders<'_> {
    #[inline]
    pub(crate) fn enter(&mut self, holder: Holder) -> Held {
        match self {
            Holders::Few(few) if few.known.len() == HOLDERS_MAX => {
                few.beyond += 1;
                Held::BEYOND
            }
            Holders::Few(few) => Held(few.known.insert(holder) as u32),
            Holders::Many(AllWords(many)) => {
                let known = many.known.load(Relaxed);
                let free = (!known & TOLD_APART).trailing_zeros();
                if free == u64::BITS {
                    many.known.store(known + BEYOND, Relaxed);
                    return Held::BEYOND;
                }
                many.holders[free as usize].set(Some(holder));
                many.known.store(known | 1 << free, Relaxed);
                Held(free)
            }
        }
    }

    #[inline]
    pub(crate) fn exit(&mut self, held: Held) {
        match (self, held) {
            (_, Held::NOTHING) => {}
            (Holders::Few(few), Held::BEYOND) => few.beyond -= 1,
            (Holders::Few(few), Held(key)) => drop(few.known.remove(key as usize)),
            (Holders::Many(AllWords(many)), held) => {
                let known = many.known.load(Relaxed);
                debug_assert!(held == Held::BEYOND || known & (1 << held.0) != 0, "{held:?} is a holder's");
                let known = if held == Held::BEYOND { known - BEYOND } else { known & !(1 << held.0) };
                many.known.store(known, Relaxed);
            }
        }
    }

    /// The same hold, in other hands.
    #[inline]
    pub(crate) fn rename(&mut self, held: Held, holder: Holder) {
        let at = held.0 as usize;
        match self {
            Holders::Few(few) => {
                if let Some(known) = few.known.get_mut(at) {
                    *known = holder;
                }
            }
            Holders::Many(AllWords(many)) => {
                if let Some(words) = many.holders.get(at) {
                    words.set(Some(holder));
                }
            }
        }
    }

    /// One hold becomes two in the same hands.
    pub(crate) fn split(&mut self, held: Held) -> Held {
        let at = held.0 as usize;
        let holder = match self {
            _ if held == Held::NOTHING => return held,
            Holders::Few(few) => few.known.get(at).copied(),
            Holders::Many(AllWords(many)) => {
                many.holders.get(at).and_then(|words| HolderWords::holder(words.get()))
            }
        };
        self.enter(holder.unwrap_or(Holder::Unknown))
    }

    /// From now on nobody can tell who may let others in.
    pub(crate) fn doubt(&mut self) {
        match self {
            Holders::Few(few) => few.doubted = true,
            Holders::Many(AllWords(many)) => many.known.store(many.known.load(Relaxed) | DOUBTED, Relaxed),
        }
    }

    /// So many wait. Before anybody has waited nobody asks.
    #[inline]
    pub(crate) fn set_waiters(&mut self, waiters: usize) {
        if let Holders::Many(AllWords(many)) = self {
            many.waiters.store(waiters as u64, Relaxed);
        }
    }
}

/// What a lock with several holders keeps of itself, under its own mutex.
#[derive(Debug)]
pub(crate) enum SharedRecord {
    /// Nobody has ever waited.
    Private(FewHolders),
    Public(Arc<Facts>),
}

impl SharedRecord {
    pub(crate) const fn new() -> SharedRecord {
        SharedRecord::Private(FewHolders { known: Slab::new(), beyond: 0, doubted: false })
    }

    /// Changes what is recorded. A snapshot sees all of it or nothing, and none while it lasts: then it takes the holders for
    /// not known.
    #[inline]
    pub(crate) fn edit<T>(&mut self, f: impl FnOnce(&mut Holders<'_>) -> T) -> T {
        match self {
            SharedRecord::Private(holders) => f(&mut Holders::Few(holders)),
            SharedRecord::Public(facts) => facts.many().edit(f),
        }
    }

    /// Somebody joined the queue: the id under which snapshots find the facts.
    #[inline]
    pub(crate) fn contended(&mut self, created: &'static Location<'static>, waiters: usize) -> u64 {
        if let SharedRecord::Private(few) = self {
            let many = Box::new(AllWords(ManyHolders::new(few)));
            *self = SharedRecord::Public(Facts::publish(created, State::Many(many)));
        }
        self.edit(|holders| holders.set_waiters(waiters));
        match self {
            SharedRecord::Public(facts) => facts.id,
            SharedRecord::Private(_) => unreachable!("published above"),
        }
    }
}

impl AllWords {
    #[inline]
    fn edit<T>(&self, f: impl FnOnce(&mut Holders<'_>) -> T) -> T {
        let mut out = None;
        self.0.seq.write(|| out = Some(f(&mut Holders::Many(self))));
        out.expect("written above")
    }
}

impl Drop for SharedRecord {
    fn drop(&mut self) {
        if let SharedRecord::Public(facts) = self {
            facts.retract();
        }
    }
}

/// One contended lock's facts.
pub(crate) struct Facts {
    id: u64,
    created: &'static Location<'static>,
    state: State,
}

enum State {
    One(OneHolder),
    Many(Box<AllWords>),
}

/// A copy for a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FactsCopy {
    pub(crate) created: &'static Location<'static>,
    /// Nobody has it if this is empty.
    pub(crate) holders: Vec<Holder>,
    /// How many are queued.
    pub(crate) waiters: u64,
    /// It may have several holders, and who is queued may hold up who comes after.
    pub(crate) shared: bool,
}

type Shard = std::sync::Mutex<BTreeMap<u64, Arc<Facts>>>;

/// Contended locks by id, in shards.
static TABLE: [Shard; 16] = [const { Shard::new(BTreeMap::new()) }; 16];

fn shard(id: u64) -> std::sync::MutexGuard<'static, BTreeMap<u64, Arc<Facts>>> {
    // Nothing panics under these locks.
    TABLE[id as usize % TABLE.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

impl Facts {
    #[cold]
    fn publish(created: &'static Location<'static>, state: State) -> Arc<Facts> {
        static NEXT: CountOfAll = CountOfAll::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let facts = Arc::new(Facts { id, created, state });
        shard(id).insert(id, Arc::clone(&facts));
        facts
    }

    #[cold]
    fn retract(&self) {
        let out = shard(self.id).remove(&self.id);
        drop(out);
    }

    #[inline]
    fn one(&self) -> &OneHolder {
        match &self.state {
            State::One(one) => one,
            State::Many(_) => unreachable!("published by a lock with one holder"),
        }
    }

    #[inline]
    fn many(&self) -> &AllWords {
        match &self.state {
            State::Many(many) => many,
            State::One(_) => unreachable!("published by a lock with several holders"),
        }
    }
}

fn find(id: u64) -> Option<Arc<Facts>> {
    shard(id).get(&id).cloned()
}

/// The facts of that lock; `None` if it is gone.
pub(crate) fn copy(id: u64) -> Option<FactsCopy> {
    let facts = find(id)?;
    // One that changes hands all the time is in somebody's.
    let unknown = || (vec![Holder::Unknown], 0);
    let ((holders, waiters), shared) = match &facts.state {
        State::One(one) => {
            let read = one.read().map(|(holder, waiters, _)| (holder.into_iter().collect(), waiters));
            (read.unwrap_or_else(unknown), false)
        }
        State::Many(many) => (many.0.read().unwrap_or_else(unknown), true),
    };
    Some(FactsCopy { created: facts.created, holders, waiters, shared })
}

/// Counts how often the lock has changed hands, and, if it is shared, its queue; `None` if it is gone.
pub(crate) fn version(id: u64) -> Option<u64> {
    find(id).map(|facts| match &facts.state {
        // No version twice: the lock is in motion.
        State::One(one) => one.read().map_or_else(unsettled, |(_, _, hands)| hands),
        State::Many(many) => many.0.seq.version().unwrap_or_else(unsettled),
    })
}

/// From here on versions are of looks that found the words being written. (Snapshots compare the lower half.)
pub(crate) const UNSETTLED: u64 = 1 << 31;

/// A number that no other look at a lock finds.
fn unsettled() -> u64 {
    static NEXT: CountOfAll = CountOfAll::new(UNSETTLED);
    NEXT.fetch_add(1, Relaxed)
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
        record.set(Some(Holder::Unknown), 0);
        let id = record.contended(here, 1);
        assert_eq!(record.contended(here, 2), id);
        let first = copy(id).unwrap();
        assert_eq!((&first.holders[..], first.created), (&[Holder::Unknown][..], here));
        assert_eq!((first.waiters, first.shared), (2, false));
        let before = version(id).unwrap();
        let holder = Holder::Task { id: TaskId(7), site: here, owned: false };
        record.set(Some(holder.owned()), 1);
        assert_eq!(copy(id).unwrap().holders, [Holder::Task { id: TaskId(7), site: here, owned: true }]);
        record.set(Some(holder), 1);
        assert_eq!(copy(id).unwrap().holders, [holder]);
        assert_eq!(version(id), Some(before + 2));
        record.set_waiters(0);
        assert_eq!((copy(id).unwrap().waiters, version(id)), (0, Some(before + 2)), "the same hands");
        record.set(None, 0);
        assert_eq!(copy(id).unwrap().holders, []);
        drop(record);
        assert_eq!((copy(id), version(id)), (None, None));
    }

    #[test]
    fn a_shared_lock_tells_its_holders_apart_up_to_a_bound() {
        let here = Location::caller();
        let task = |id| Holder::Task { id: TaskId(id), site: here, owned: false };
        let mut record = SharedRecord::new();
        let first = record.edit(|holders| holders.enter(task(1)));
        let id = record.contended(here, 1);
        let split = record.edit(|holders| holders.split(first));
        assert_eq!(copy(id).unwrap().holders, [task(1), task(1)]);
        record.edit(|holders| holders.exit(first));
        record.edit(|holders| holders.rename(split, task(2)));
        assert_eq!(copy(id).unwrap().holders, [task(2)]);
        let many: Vec<Held> = (0..20).map(|_| record.edit(|holders| holders.enter(task(3)))).collect();
        let copied = copy(id).unwrap();
        assert_eq!((copied.holders.len(), copied.holders[HOLDERS_MAX]), (HOLDERS_MAX + 1, Holder::Unknown));
        assert_eq!(record.edit(|holders| holders.split(Held::NOTHING)), Held::NOTHING);
        many.into_iter().for_each(|held| record.edit(|holders| holders.exit(held)));
        assert_eq!(copy(id).unwrap().holders, [task(2)]);
        let before = version(id).unwrap();
        record.edit(|holders| holders.set_waiters(0));
        let after = version(id).unwrap();
        assert_ne!(after, before, "who waits matters");
        record.edit(|holders| {
            holders.doubt();
            assert_eq!(copy(id).unwrap().holders, [Holder::Unknown], "nothing is known meanwhile");
            assert!(version(id).unwrap() >= UNSETTLED);
        });
        assert_eq!(copy(id).unwrap().holders, [task(2), Holder::Unknown]);
        drop(record);
        assert_eq!(copy(id), None);
    }
}
