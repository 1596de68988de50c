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
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as CountOfAll;

use slab::Slab;

use super::frame;
use super::meta::{TaskId, TaskWord};
use super::seq::Seq;
use super::waker::Asker;
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

/// Who takes a lock, or is given it, or that nobody has it, in the two words that records keep: quickly made, compared and stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hand {
    /// The task, or none if it is not known; its spare bit: by an owned guard.
    task: TaskWord,
    /// Where it was taken. None if nobody has it.
    site: Option<&'static Location<'static>>,
}

const OWNED: u64 = 2;

impl Hand {
    /// Nobody has it.
    pub(crate) const NOBODY: Hand = Hand { task: TaskWord::NONE, site: None };
    /// Somebody outside a task, or who could not be told.
    pub(crate) const UNKNOWN: Hand = Hand { task: TaskWord::NONE, site: Some(Location::caller()) };

    /// The task that this thread is polling.
    #[inline]
    pub(crate) fn polled(site: &'static Location<'static>) -> Hand {
        Hand::by(frame::task(), site)
    }

    /// That task, at that place.
    #[inline]
    pub(crate) fn by(task: TaskWord, site: &'static Location<'static>) -> Hand {
        if cfg!(leakfree_norecord) { Hand::UNKNOWN } else { Hand { task, site: Some(site) } }
    }

    /// Who, in the lower 63 bits; not 0.
    #[inline]
    pub(crate) fn task(self) -> TaskWord {
        self.task
    }

    /// The task that this thread is polling, if it is who asks.
    #[inline]
    pub(crate) fn asks(asker: Asker<'_>, site: &'static Location<'static>) -> Hand {
        let hand = Hand::polled(site);
        if asker.is_own() { hand } else { Hand { task: TaskWord::NONE, ..hand } }
    }

    /// Of one task and one place, compared by address: a `false` may err.
    #[inline]
    pub(crate) fn is_alike(self, other: Hand) -> bool {
        cfg!(leakfree_norecord) || self.task == other.task && self.address() == other.address()
    }

    /// Of one task, and by the same kind of guard.
    #[inline]
    pub(crate) fn is_same_task(self, other: Hand) -> bool {
        cfg!(leakfree_norecord) || self.task == other.task
    }

    /// By an owned guard.
    #[inline]
    pub(crate) fn owned(self) -> Hand {
        if cfg!(leakfree_norecord) { self } else { Hand { task: TaskWord(self.task.0 | OWNED), ..self } }
    }

    /// Where; null if nobody has it.
    #[inline]
    pub(crate) fn address(self) -> *const Location<'static> {
        self.site.map_or(ptr::null(), ptr::from_ref)
    }

    /// The task's id, 0 for none, and where; `None` if nobody has it.
    pub(crate) fn id_and_site(self) -> Option<(u64, &'static Location<'static>)> {
        self.site.map(|site| (self.task.id(), site))
    }

    /// In words that say more; `None` if nobody has it.
    pub(crate) fn holder(self) -> Option<Holder> {
        let site = self.site?;
        Some(match self.task.id() {
            0 => Holder::Unknown,
            id => Holder::Task { id: TaskId(id), site, owned: self.task.0 & OWNED != 0 },
        })
    }
}

impl From<Holder> for Hand {
    fn from(holder: Holder) -> Hand {
        match holder {
            Holder::Unknown => Hand::UNKNOWN,
            Holder::Task { id, site, owned } => {
                let hand = Hand { task: TaskWord::of(id.0), site: Some(site) };
                if owned { hand.owned() } else { hand }
            }
        }
    }
}

/// What a lock with one holder at a time keeps of itself, under its own mutex.
#[derive(Debug)]
pub(crate) struct LockRecord {
    holder: Hand,
    /// Made when somebody first waits.
    facts: Option<Arc<Facts<OneHolder>>>,
}

impl LockRecord {
    pub(crate) const fn new() -> LockRecord {
        LockRecord { holder: Hand::NOBODY, facts: None }
    }

    /// The lock changes hands. `waiters` are queued.
    #[inline]
    pub(crate) fn set(&mut self, holder: Hand, waiters: usize) {
        self.holder = holder;
        if let Some(facts) = &self.facts {
            facts.state.set(holder, waiters);
        }
    }

    /// Somebody joined the queue: the id under which snapshots find the facts.
    #[inline]
    pub(crate) fn contended(&mut self, created: &'static Location<'static>, waiters: usize) -> u64 {
        match &self.facts {
            Some(facts) => {
                facts.state.set_waiters(waiters);
                facts.id
            }
            None => self.publish(created, waiters),
        }
    }

    #[cold]
    fn publish(&mut self, created: &'static Location<'static>, waiters: usize) -> u64 {
        let one = OneHolder::default();
        one.set(self.holder, waiters);
        self.facts.insert(Facts::publish(created, one, Published::One)).id
    }

    /// Somebody left the queue. The lock is in the same hands, so this is no new version: whoever waits for one
    /// holder alone is not concerned.
    pub(crate) fn set_waiters(&mut self, waiters: usize) {
        if let Some(facts) = &self.facts {
            facts.state.set_waiters(waiters);
        }
    }
}

/// Who has a lock, in words: a [`Hand`].
#[derive(Debug, Default)]
pub(super) struct HandWords {
    task: AtomicU64,
    /// (F1) Null or a `&'static Location`.
    site: AtomicPtr<Location<'static>>,
}

impl HandWords {
    #[inline]
    pub(super) fn set(&self, hand: Hand) {
        self.task.store(hand.task.0, Relaxed);
        self.site.store(hand.address().cast_mut(), Relaxed);
    }

    pub(super) fn get(&self) -> Hand {
        // SAFETY: (F1, and C1 for those of channels) null or a `&'static Location`.
        let site = unsafe { self.site.load(Relaxed).as_ref() };
        Hand { task: TaskWord(self.task.load(Relaxed)), site }
    }
}

/// The one holder of a lock, in words that its lock writes under its own mutex (F1) and a snapshot reads at any time.
#[derive(Debug, Default)]
struct OneHolder {
    /// A new version each time that it changes hands.
    seq: Seq,
    holder: HandWords,
    waiters: AtomicU64,
}

impl OneHolder {
    #[inline]
    fn set(&self, hand: Hand, waiters: usize) {
        self.seq.write(|| {
            self.holder.set(hand);
            self.waiters.store(waiters as u64, Relaxed);
        });
    }

    /// It stays in the same hands, so this one word may change at any time.
    #[inline]
    fn set_waiters(&self, waiters: usize) {
        self.waiters.store(waiters as u64, Relaxed);
    }

    /// Holder, if any, and waiters; `None` if it does not come to rest.
    fn read(&self) -> Option<(Option<Holder>, u64)> {
        let ((hand, waiters), _) = self.seq.read(|| (self.holder.get(), self.waiters.load(Relaxed)))?;
        Some((hand.holder(), waiters))
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
    known: Slab<Hand>,
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
    holders: [HandWords; HOLDERS_MAX],
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
            many.holders[at].set(*holder);
        }
        many.known.store(known, Relaxed);
        many
    }

    /// Holders and waiters; `None` if it does not come to rest.
    fn read(&self) -> Option<(Vec<Holder>, u64)> {
        let loads = || {
            let words: [Hand; HOLDERS_MAX] = std::array::from_fn(|at| self.holders[at].get());
            (words, self.known.load(Relaxed), self.waiters.load(Relaxed))
        };
        let ((words, known, waiters), _) = self.seq.read(loads)?;
        let held = words.into_iter().enumerate().filter(|(at, _)| known & (1 << at) != 0);
        let mut holders: Vec<Holder> = held.filter_map(|(_, hand)| hand.holder()).collect();
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
#[derive(Debug)]
pub(crate) struct AllWords(ManyHolders);

impl Holders<'_> {
    #[inline]
    pub(crate) fn enter(&mut self, holder: Hand) -> Held {
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
                many.holders[free as usize].set(holder);
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
    pub(crate) fn rename(&mut self, held: Held, holder: Hand) {
        let at = held.0 as usize;
        match self {
            Holders::Few(few) => {
                if let Some(known) = few.known.get_mut(at) {
                    *known = holder;
                }
            }
            Holders::Many(AllWords(many)) => {
                if let Some(words) = many.holders.get(at) {
                    words.set(holder);
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
            Holders::Many(AllWords(many)) => many.holders.get(at).map(HandWords::get),
        };
        self.enter(holder.unwrap_or(Hand::UNKNOWN))
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
    Public(Arc<Facts<AllWords>>),
}

impl SharedRecord {
    pub(crate) const fn new() -> SharedRecord {
        SharedRecord::Private(FewHolders { known: Slab::new(), beyond: 0, doubted: false })
    }

    /// Changes what is recorded. A snapshot sees all of it or nothing, and none while it lasts: then it takes the holders for
    /// not known.
    #[inline]
    pub(crate) fn edit<T>(&mut self, f: impl FnOnce(&mut Holders<'_>) -> T) -> T {
        // One call for both: in two it would stand out of line, and what it captures be copied on its way.
        let (mut holders, writing) = match self {
            SharedRecord::Private(holders) => (Holders::Few(holders), None),
            SharedRecord::Public(facts) => {
                let words = &facts.state;
                (Holders::Many(words), Some(words.0.seq.begin()))
            }
        };
        let out = f(&mut holders);
        if let Some(writing) = writing {
            writing.end();
        }
        out
    }

    /// Somebody joined the queue: the id under which snapshots find the facts.
    #[inline]
    pub(crate) fn contended(&mut self, created: &'static Location<'static>, waiters: usize) -> u64 {
        if let SharedRecord::Private(few) = self {
            let many = AllWords(ManyHolders::new(few));
            *self = SharedRecord::Public(Facts::publish(created, many, Published::Many));
        }
        self.edit(|holders| holders.set_waiters(waiters));
        match self {
            SharedRecord::Public(facts) => facts.id,
            SharedRecord::Private(_) => unreachable!("published above"),
        }
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
#[derive(Debug)]
pub(crate) struct Facts<S> {
    id: u64,
    created: &'static Location<'static>,
    state: S,
}

#[derive(Clone, Debug)]
enum Published {
    One(Arc<Facts<OneHolder>>),
    Many(Arc<Facts<AllWords>>),
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

type Shard = std::sync::Mutex<BTreeMap<u64, Published>>;

/// Contended locks by id, in shards.
static TABLE: [Shard; 16] = [const { Shard::new(BTreeMap::new()) }; 16];

fn shard(id: u64) -> std::sync::MutexGuard<'static, BTreeMap<u64, Published>> {
    // Nothing panics under these locks.
    TABLE[id as usize % TABLE.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Facts<S> {
    #[cold]
    fn publish(
        created: &'static Location<'static>,
        state: S,
        published: fn(Arc<Facts<S>>) -> Published,
    ) -> Arc<Facts<S>> {
        static NEXT: CountOfAll = CountOfAll::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let facts = Arc::new(Facts { id, created, state });
        shard(id).insert(id, published(Arc::clone(&facts)));
        facts
    }

    #[cold]
    fn retract(&self) {
        let out = shard(self.id).remove(&self.id);
        drop(out);
    }
}

fn find(id: u64) -> Option<Published> {
    shard(id).get(&id).cloned()
}

/// The facts of that lock; `None` if it is gone.
pub(crate) fn copy(id: u64) -> Option<FactsCopy> {
    // One that changes hands all the time is in somebody's.
    let unknown = || (vec![Holder::Unknown], 0);
    let (created, (holders, waiters), shared) = match find(id)? {
        Published::One(facts) => {
            let read = facts.state.read().map(|(holder, waiters)| (holder.into_iter().collect(), waiters));
            (facts.created, read.unwrap_or_else(unknown), false)
        }
        Published::Many(facts) => (facts.created, facts.state.0.read().unwrap_or_else(unknown), true),
    };
    Some(FactsCopy { created, holders, waiters, shared })
}

/// Counts how often the lock has changed hands, and, if it is shared, its queue; `None` if it is gone.
pub(crate) fn version(id: u64) -> Option<u64> {
    find(id).map(|facts| {
        let version = match facts {
            // Two for each write.
            Published::One(facts) => facts.state.seq.version().map(|version| version / 2),
            Published::Many(facts) => facts.state.0.seq.version(),
        };
        // No version twice: the lock is in motion.
        version.unwrap_or_else(unsettled)
    })
}

/// From here on versions are of looks that found the words being written. (Snapshots compare the lower half.)
pub(crate) const UNSETTLED: u64 = 1 << 31;

/// A number that no other look at a lock finds.
fn unsettled() -> u64 {
    static NEXT: CountOfAll = CountOfAll::new(UNSETTLED);
    NEXT.fetch_add(1, Relaxed)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_in_the_table_from_its_first_contention_to_its_end() {
        let here = Location::caller();
        let mut record = LockRecord::new();
        record.set(Hand::UNKNOWN, 0);
        let id = record.contended(here, 1);
        assert_eq!(record.contended(here, 2), id);
        let first = copy(id).unwrap();
        assert_eq!((&first.holders[..], first.created), (&[Holder::Unknown][..], here));
        assert_eq!((first.waiters, first.shared), (2, false));
        let before = version(id).unwrap();
        let holder = Holder::Task { id: TaskId(7), site: here, owned: false };
        record.set(Hand::from(holder).owned(), 1);
        assert_eq!(copy(id).unwrap().holders, [Holder::Task { id: TaskId(7), site: here, owned: true }]);
        record.set(holder.into(), 1);
        assert_eq!(copy(id).unwrap().holders, [holder]);
        assert_eq!(version(id), Some(before + 2));
        record.set_waiters(0);
        assert_eq!((copy(id).unwrap().waiters, version(id)), (0, Some(before + 2)), "the same hands");
        record.set(Hand::NOBODY, 0);
        assert_eq!(copy(id).unwrap().holders, []);
        drop(record);
        assert_eq!((copy(id), version(id)), (None, None));
    }

    #[test]
    fn a_shared_lock_tells_its_holders_apart_up_to_a_bound() {
        let here = Location::caller();
        let task = |id| Holder::Task { id: TaskId(id), site: here, owned: false };
        let mut record = SharedRecord::new();
        let first = record.edit(|holders| holders.enter(task(1).into()));
        let id = record.contended(here, 1);
        let split = record.edit(|holders| holders.split(first));
        assert_eq!(copy(id).unwrap().holders, [task(1), task(1)]);
        record.edit(|holders| holders.exit(first));
        record.edit(|holders| holders.rename(split, task(2).into()));
        assert_eq!(copy(id).unwrap().holders, [task(2)]);
        let many: Vec<Held> = (0..20).map(|_| record.edit(|holders| holders.enter(task(3).into()))).collect();
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
