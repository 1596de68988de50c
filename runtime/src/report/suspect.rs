//! Suspicion: what a snapshot speaks for without proving it, ranked, with the reason.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::proof::{Proof, Trust, other_end};
use super::snapshot::{
    EndedBy, Phase, Site, SiteParks, Snapshot, TaskInfo, TaskKind, UserInfo, WaitObject, WaitReason,
};
use super::verdict::is_complete;

/// Parks that must have been sampled before a site has a distribution worth the name.
const SAMPLES_MIN: u64 = 64;
/// A park is far longer than usual from this many times the 99th percentile, ...
const FAR: u32 = 16;
/// ... and not before this.
const PARKED_MIN: Duration = Duration::from_secs(1);

/// On a live look, who waits on a channel is suspected from this on. For a moment it looks so in any program that is well: the last
/// who sent has just ended, and another one, which has not sent lately, is about to.
pub(super) const CHANNEL_PARKED_MIN: Duration = Duration::from_millis(100);

/// Why a task is suspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Suspicion {
    /// Nothing in the runtime can run: see [`Snapshot::is_quiescent`].
    Quiescent,
    /// It is parked far longer than other tasks that were spawned there.
    LongPark {
        /// How long those usually are.
        usual: SiteParks,
    },
    /// It waits for the other end of a channel, and who is known to have used that last can make no progress either, or has ended. Anybody may
    /// hold that end.
    ChannelUser {
        /// How many handles of the other end live.
        handles: u64,
        /// Who used one last, and where.
        user: UserInfo,
        /// That task has ended.
        ended: bool,
    },
    /// It waits for tasks that are suspected for that: see [`Finding::waits_for`](super::verdict::Finding::waits_for).
    Behind,
}

/// Whether everybody known to have used the other ends of its channels can make no progress, or has ended.
pub(super) fn channel_users(task: &TaskInfo, snapshot: &Snapshot, proof: &Proof) -> Option<Suspicion> {
    proof.get(&task.id).filter(|stuck| stuck.trust == Trust::Channels)?;
    let users = task.waits.iter().find_map(|wait| {
        let WaitObject::Channel(channel) = &wait.object else { return None };
        let (handles, user) = other_end(wait.reason, channel)?;
        let user = user?;
        let ended = user.task.is_none_or(|id| snapshot.task(id.get()).is_none());
        Some(Suspicion::ChannelUser { handles: handles.into(), user, ended })
    });
    Some(users.unwrap_or(Suspicion::Behind))
}

/// Whether a task is parked far longer than its like.
pub(super) fn long_park(task: &TaskInfo, sites: &HashMap<Site, &SiteParks>) -> Option<Suspicion> {
    let usual = **sites.get(&task.spawned_at)?;
    let parked = task.parked.filter(|_| task.phase == Phase::Parked && task.kind == TaskKind::Async)?;
    let far = parked >= PARKED_MIN
        && parked >= usual.p99.saturating_mul(FAR)
        && parked > usual.longest
        && usual.samples >= SAMPLES_MIN;
    far.then_some(Suspicion::LongPark { usual })
}

impl Snapshot {
    /// Nothing can run: every task is parked with a complete wait set, and waits for other tasks only; no timer is armed, and
    /// no I/O, blocking call or foreign waker is left, nor a task in the tokio runtime of `tokio-compat`. Only a thread outside, which may hold the other end of something, could get it
    /// going again. So this is no proof.
    ///
    /// A moment without a runnable task is nothing: say it of two snapshots some time apart whose tasks have not been polled in between.
    pub fn is_quiescent(&self) -> bool {
        let rests = |task: &TaskInfo| match task.phase {
            Phase::Parked => {
                is_complete(task) && task.waits.iter().all(|wait| wait.reason.ended_by() != EndedBy::World)
            }
            // It waits for the tasks below it.
            Phase::Ending => true,
            Phase::Scheduled | Phase::Running => false,
        };
        self.timers == 0
            && self.newborn == 0
            && self.tokio_tasks == 0
            && !self.tasks.is_empty()
            && self.tasks.iter().all(rests)
    }

    /// How the numbers of tasks have changed since an earlier snapshot of the same runtime, by where the tasks were spawned and what
    /// they wait for. The largest growth first; sites without a change are left out.
    ///
    /// ```
    /// # use leakfree::runtime::Runtime;
    /// # let runtime = Runtime::new()?;
    /// let earlier = runtime.handle().snapshot();
    /// // ... some load later
    /// for change in runtime.handle().snapshot().diff(&earlier) {
    ///     println!("{change}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn diff(&self, earlier: &Snapshot) -> Vec<Change> {
        let mut counts: BTreeMap<Place, (u64, u64)> = BTreeMap::new();
        for (place, n) in earlier.population() {
            counts.entry(place).or_default().0 = n;
        }
        for (place, n) in self.population() {
            counts.entry(place).or_default().1 = n;
        }
        let changes = counts.into_iter().filter(|(_, (before, now))| before != now);
        let mut changes: Vec<Change> =
            changes.map(|(place, (before, now))| Change { place, before, now }).collect();
        changes.sort_by_key(|change| std::cmp::Reverse(change.now as i64 - change.before as i64));
        changes
    }

    /// The task with that id, if it was there.
    pub fn task(&self, id: u64) -> Option<&TaskInfo> {
        let place = self.tasks.binary_search_by_key(&id, |task| task.id).ok()?;
        Some(&self.tasks[place])
    }

    /// How many tasks there are at each place.
    fn population(&self) -> BTreeMap<Place, u64> {
        let mut population = BTreeMap::new();
        for task in &self.tasks {
            *population.entry(Place::of(task)).or_default() += 1;
        }
        population
    }
}

/// Where tasks were spawned, and where they wait: what a population is counted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Where they were spawned.
    pub spawned_at: Site,
    /// What they wait for first, and where; `None` for tasks that are not parked in a wait of ours.
    pub wait: Option<(WaitReason, Site)>,
}

impl Place {
    fn of(task: &TaskInfo) -> Place {
        let wait = task.waits.first().map(|wait| (wait.reason, wait.site));
        Place { spawned_at: task.spawned_at, wait }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spawned {}", self.spawned_at)?;
        match self.wait {
            Some((reason, site)) => write!(f, ", in {} at {site}", reason.name()),
            None => f.write_str(", in no wait of leakfree's own"),
        }
    }
}

/// How the number of tasks at one place has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which tasks.
    pub place: Place,
    /// How many there were.
    pub before: u64,
    /// How many there are.
    pub now: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { place, before, now } = self;
        write!(f, "{:+} tasks ({before} -> {now}) {place}", *now as i64 - *before as i64)
    }
}

/// Finds places whose population keeps growing, over a row of snapshots. Pure: it is handed the snapshots.
///
/// A place *keeps growing* when its population has never fallen over the last `rounds` intervals and has risen in at least half of
/// them.
#[derive(Clone, Debug)]
pub struct Growth {
    rounds: usize,
    taken: u64,
    history: HashMap<Place, VecDeque<u64>>,
}

impl Growth {
    /// Looks at `rounds` intervals, that is `rounds + 1` snapshots.
    ///
    /// # Panics
    /// If `rounds` is less than 2: one rise is no trend.
    pub fn new(rounds: usize) -> Growth {
        assert!(rounds >= 2, "growth is seen over 2 intervals or more: `rounds` was {rounds}");
        Growth { rounds, taken: 0, history: HashMap::new() }
    }

    /// Takes one more snapshot in, and returns the places that keep growing, with their population at the beginning and at the end of the
    /// intervals; the largest growth first.
    pub fn add(&mut self, snapshot: &Snapshot) -> Vec<Change> {
        let population = snapshot.population();
        let known = (self.taken as usize).min(self.rounds);
        self.taken += 1;
        for place in population.keys() {
            // Before it was first seen there was nobody.
            self.history.entry(*place).or_insert_with(|| vec![0; known].into());
        }
        let mut growing = Vec::new();
        self.history.retain(|place, counts| {
            counts.push_back(population.get(place).copied().unwrap_or(0));
            if counts.len() > self.rounds + 1 {
                counts.pop_front();
            }
            let pairs = || counts.iter().zip(counts.iter().skip(1));
            let rises = pairs().filter(|(a, b)| b > a).count();
            if counts.len() == self.rounds + 1 && pairs().all(|(a, b)| b >= a) && rises * 2 >= self.rounds {
                growing.push(Change { place: *place, before: counts[0], now: counts[self.rounds] });
            }
            counts.iter().any(|&count| count > 0)
        });
        growing.sort_by_key(|change| (std::cmp::Reverse(change.now - change.before), change.place));
        growing
    }
}
