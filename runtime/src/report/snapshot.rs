//! Plain values copied out of a runtime. They hold no reference into it and may be a little racy: each
//! task's entry is consistent in itself, two entries may be of slightly different moments.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use crate::task::backtrace::Stack;
pub use crate::task::wait::{EndedBy, WaitReason};

/// A place in the source: file, line and column. One word; the same place is kept once, for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(&'static Position);

/// What a [`Site`] stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The file as the compiler was given it.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Site {
    /// The site of a position that is kept elsewhere.
    pub const fn new(position: &'static Position) -> Site {
        Site(position)
    }
}

impl Deref for Site {
    type Target = Position;

    fn deref(&self) -> &Position {
        self.0
    }
}

impl From<&'static Location<'static>> for Site {
    fn from(location: &'static Location<'static>) -> Site {
        /// Positions by the address of the location that they are of.
        type Positions = HashMap<usize, &'static Position>;
        static POSITIONS: Mutex<Option<Positions>> = Mutex::new(None);
        thread_local! {
            // A look at a million tasks asks for the same few places over and over.
            static SEEN: RefCell<Positions> = RefCell::default();
        }
        let address = std::ptr::from_ref(location).addr();
        SEEN.with_borrow_mut(|seen| {
            Site(seen.entry(address).or_insert_with(|| {
                let mut positions = POSITIONS.lock().unwrap_or_else(PoisonError::into_inner);
                positions.get_or_insert_default().entry(address).or_insert_with(|| {
                    Box::leak(Box::new(Position {
                        file: location.file(),
                        line: location.line(),
                        column: location.column(),
                    }))
                })
            }))
        })
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The object of a wait, as far as it was recorded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum WaitObject {
    /// Nothing recorded.
    None,
    /// An object that was created there (a channel, a lock, a socket).
    Created(Site),
    /// The task with this id.
    Task(u64),
    /// The scope with this id.
    Scope(u64),
    /// A user's label.
    Label(&'static str),
    /// A lock for which tasks have waited.
    Lock(Box<LockInfo>),
    /// A channel on which tasks have waited.
    Channel(Box<ChannelInfo>),
}

/// A lock, as it was recorded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LockInfo {
    /// Its id, unique in the process.
    pub id: u64,
    /// Where it was created.
    pub created: Site,
    /// Who had it; of many the first, and [`HolderInfo::Unknown`] for the others. Empty if it was free.
    pub holders: Vec<HolderInfo>,
    /// How many were queued for it, whoever they are.
    pub waiters: u64,
    /// It may have several holders, and who is queued may hold up who comes after: `RwLock`, `Semaphore`.
    pub shared: bool,
}

/// A channel, as it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelInfo {
    /// Its id, unique in the process among the channels that are alive. (A oneshot may have two: one in the receiver's wait, and one in
    /// that of a sender in `closed`.)
    pub id: u64,
    /// Where it was created.
    pub created: Site,
    /// How many senders there were.
    pub senders: u32,
    /// How many receivers there were.
    pub receivers: u32,
    /// Who sent last, and where.
    pub last_sender: Option<UserInfo>,
    /// Who received last, or tried to, and where.
    pub last_receiver: Option<UserInfo>,
}

/// Who used an end of a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserInfo {
    /// The task's id; `None` for code outside a task.
    pub task: Option<NonZeroU64>,
    /// Where.
    pub site: Site,
}

/// Who has a lock, as far as it was recorded: a borrowed guard that was moved to another task or thread is still told
/// as where it was taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HolderInfo {
    /// Code outside a task, or who could not be told.
    Unknown,
    /// This task: it took the lock at that place, or waited there, was given its turn, and has not taken it up.
    Task {
        /// The task's id.
        id: u64,
        /// Where it took the lock, or waited for it.
        site: Site,
    },
    /// Whoever has the guard by now: this task took the lock there, by an owned guard, which is made to be handed on.
    /// No proof rests on it.
    Owned {
        /// The task's id.
        id: u64,
        /// Where it took the lock, or waited for it.
        site: Site,
    },
}

/// One thing that a parked task waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitInfo {
    /// What kind of wait.
    pub reason: WaitReason,
    /// On what.
    pub object: WaitObject,
    /// The caller's place.
    pub site: Site,
    /// It was polled with the waker of the task itself: its registration is one of the task's own wakers.
    pub own: bool,
}

/// What kind of task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum TaskKind {
    /// A future on the workers.
    Async,
    /// A future given to `block_on`, or the body of `main` or of a test.
    Main,
    /// A closure on the blocking pool.
    Blocking,
}

/// Where a task was in its life when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// In a run queue.
    Scheduled,
    /// Being polled (or, for a blocking call, running).
    Running,
    /// Waiting for a wake.
    Parked,
    /// Its future has ended; it waits for tasks below it that it left behind.
    Ending,
}

/// Who dropped the last waker of an unwakeable task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LastWaker {
    /// Its last poll ended without any waker registered.
    NeverRegistered,
    /// This task dropped it while it was polled.
    DroppedByTask {
        /// That task's id.
        id: u64,
        /// Where that task was spawned.
        spawned_at: Site,
        /// Where that task had last waited before it dropped the waker, if it ever had.
        last_wait: Option<Site>,
    },
    /// A thread dropped it that was polling no task.
    DroppedByThread,
}

/// A cancellation that has been asked of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelInfo {
    /// The reason in words, for instance `shutdown`.
    pub reason: String,
    /// Where it was asked for, if in code.
    pub site: Option<Site>,
    /// How long ago.
    pub since: Duration,
}

/// One live task.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskInfo {
    /// Its id, unique in the process.
    pub id: u64,
    /// Its name, if it was given one.
    pub name: Option<Box<str>>,
    /// What kind of task.
    pub kind: TaskKind,
    /// Where it was spawned.
    pub spawned_at: Site,
    /// The id of the scope that bounds it.
    pub scope: u64,
    /// Where it was in its life.
    pub phase: Phase,
    /// Time since it was spawned.
    pub lived: Duration,
    /// Time since its last poll ended, if it is parked.
    pub parked: Option<Duration>,
    /// How often it was polled.
    pub polls: u64,
    /// What it waits for: every leaf of ours that its last poll left pending.
    pub waits: Vec<WaitInfo>,
    /// Registrations in our own wait queues.
    pub own_wakers: u32,
    /// Every other clone of its waker.
    pub foreign_wakers: u32,
    /// A registration of it was given up by other code than the task's: its waits and its wakers need not match.
    pub astray: bool,
    /// It was found parked in both passes of the snapshot, in the same park, with the locks it waits for in the same hands:
    /// so there was a moment at which all that are settled were as they stand here.
    pub settled: bool,
    /// One load of its word said: parked, not cancelled, and no waker exists.
    pub unwakeable: bool,
    /// Who dropped its last waker, if it is unwakeable and that is known.
    pub last_waker: Option<Box<LastWaker>>,
    /// The cancellation asked of it, if any.
    pub cancelled: Option<Box<CancelInfo>>,
    /// Shields that are pending in it: they hold off its drop.
    pub shields: Box<[ShieldInfo]>,
    /// The worker that is polling it now, if one is.
    pub running: Option<Box<RunningInfo>>,
    /// Where it left wakers behind, if `LEAKFREE_BACKTRACE` is set: in the last poll that registered one, the first four.
    pub stacks: Box<[Stack]>,
    /// Size of its allocation in bytes.
    pub bytes: usize,
}

/// What kind of scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ScopeKind {
    /// The runtime's own, around everything.
    Root,
    /// Opened by `scope`: a child's panic ends it.
    Plain,
    /// Opened by `try_scope`: a child's panic or error ends it.
    Try,
    /// Opened by `supervisor_scope`: its children fail alone.
    Supervisor,
    /// The daemons of the scope around it.
    Daemons,
    /// The cleanups (`defer_async`) that the scope around it waits for.
    Cleanups,
}

/// Who polls a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunningInfo {
    /// The worker's index.
    pub worker: usize,
    /// Time since the worker's turn began: at most as long before the poll as 60 polls take.
    pub since: Duration,
}

/// A worker that polls a newborn task, which has never parked: in its first poll, or in a later one if it has only yielded so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewbornPoll {
    /// The worker's index.
    pub worker: usize,
    /// The task's id.
    pub task: u64,
    /// Where the task was spawned.
    pub spawned_at: Site,
    /// Time since the worker's turn began: at most as long before the poll as 60 polls take.
    pub since: Duration,
}

/// A shield that is pending in a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShieldInfo {
    /// Where it was made.
    pub site: Site,
    /// How long it has been pending.
    pub since: Duration,
}

/// What kind of incident.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum IncidentKind {
    /// A panic that nobody was handed, because another one came first, or because its scope's future was dropped.
    SparePanic,
    /// A task ended while the future of a scope in it was neither finished nor dropped. The scope was cancelled.
    ScopeForgotten,
    /// A cleanup (`defer_async`) did not end within its budget and was dropped.
    CleanupCut,
}

/// Something that went wrong on the way and that no task's state shows afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incident {
    /// What kind.
    pub kind: IncidentKind,
    /// Where: the spawn of the task that panicked, the opening of the scope, the `defer_async`. `None` if unknown.
    pub site: Option<Site>,
    /// The panic's message, or what was lost.
    pub message: String,
}

/// One open scope.
#[derive(Clone, PartialEq, Debug)]
pub struct ScopeInfo {
    /// Its id, unique in the process.
    pub id: u64,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was opened; `None` for the root scope.
    pub opened_at: Option<Site>,
    /// The scope around it; `None` for the root scope.
    pub parent: Option<u64>,
    /// What kind of scope.
    pub kind: ScopeKind,
    /// The task that it lives in; `None` for the root scope.
    pub owner: Option<u64>,
    /// Children that have not left, itself not parked ones included.
    pub children: u64,
    /// Children that wait, unpolled, for a place: see `ScopeBuilder::max_concurrent`.
    pub held_back: u64,
    /// Time until its deadline cancels it, or that of a scope around it.
    pub deadline: Option<Duration>,
    /// It has been cancelled.
    pub cancelled: bool,
    /// Its body has ended and it waits for its children.
    pub closing: bool,
}

/// How long the tasks of a spawn site are usually parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SiteParks {
    /// Where they were spawned.
    pub spawned_at: Site,
    /// How many parks that have ended were looked at: one in some hundred on a busy worker, one in four on an idle one.
    pub samples: u64,
    /// 99 of 100 took at most this long, rounded up to a power of two of milliseconds.
    pub p99: Duration,
    /// All of them took at most this long, rounded up likewise.
    pub longest: Duration,
}

/// What a runtime looked like.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Time since the runtime was started.
    pub uptime: Duration,
    /// Every live task that has parked at least once, and every blocking call that has begun; by id, in order.
    pub tasks: Vec<TaskInfo>,
    /// Every open scope.
    pub scopes: Vec<ScopeInfo>,
    /// Tasks that were spawned and have never parked: they are in a run queue, or a worker polls them.
    pub newborn: u64,
    /// Those of them that a worker polls, at the beginning of the snapshot and at its end.
    pub newborn_polls: Vec<NewbornPoll>,
    /// Tasks that have ended since the start.
    pub finished: u64,
    /// How often a task became unwakeable since the start.
    pub unwakeable_total: u64,
    /// What went wrong since the start, in order; of very many only the first.
    pub incidents: Vec<Incident>,
    /// Armed timers.
    pub timers: u64,
    /// Tasks that are alive in the tokio runtime which feature `tokio-compat` keeps; nothing else is known of them.
    pub tokio_tasks: u64,
    /// How long tasks of each spawn site are usually parked, from samples.
    pub sites: Vec<SiteParks>,
}

impl Snapshot {
    /// Scopes that move while they are looked at may seem to be in a circle, and whoever goes up from one of them would never come to the
    /// root. The circle is cut, and as the snapshot is not of one moment then, no task counts as settled.
    pub(crate) fn cut_circles(&mut self) {
        // Mostly a scope is younger than the one around it.
        if self.scopes.iter().all(|scope| scope.parent.is_none_or(|parent| parent < scope.id)) {
            return;
        }
        let index: HashMap<u64, usize> =
            self.scopes.iter().enumerate().map(|(at, scope)| (scope.id, at)).collect();
        let (mut seen_from, mut circles) = (vec![usize::MAX; self.scopes.len()], Vec::new());
        for from in 0..self.scopes.len() {
            let mut at = from;
            // Up to a scope that was seen before; if that was on this way, the last step went round.
            while seen_from[at] == usize::MAX {
                seen_from[at] = from;
                let parent = self.scopes[at].parent.and_then(|parent| index.get(&parent));
                let Some(&around) = parent else { break };
                if seen_from[around] == from {
                    circles.push(at);
                }
                at = around;
            }
        }
        for at in &circles {
            self.scopes[*at].parent = None;
        }
        if !circles.is_empty() {
            self.tasks.iter_mut().for_each(|task| task.settled = false);
        }
    }
}
