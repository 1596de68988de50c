//! Which parked tasks can make no progress: the wait-for fixpoint.
//!
//! Pure: from a snapshot to a [`Proof`]. A task is *live* if it may be polled again by anything but a cancellation. All
//! tasks are taken for live but those that are
//!
//! - parked, not cancelled, and settled (found in the same park in both passes, so there was one moment at which all of them
//!   stood so together),
//! - with a complete wait set: no foreign waker, and a recorded wait for each of our own registrations,
//! - waiting only for what a task must end: a join (that task), a scope's end (its children), a lock (its recorded holders);
//!   and no task at all, if no waker of them exists.
//!
//! Such a task is live if any one of its waits can be ended by a live one, or by something that is not in the snapshot. A scope's
//! end is ended by any live child, and so is the open *body* of a scope that a child's failure drops. Under an armed deadline, its own or
//! one further out, a task is live. What remains when nothing changes any more is *stuck*.
//!
//! A task that is joined may also be cancelled, and that ends the wait. A code that says so is left out, as a cancel of the waiting task itself is.
//! But a scope around the one and not around the other ends by itself: by a child that fails, by its owner, who may drop it half-way, and
//! for a daemon by the end of the others; and who waits behind a shield goes on when a
//! scope around both is cancelled. So whoever could do that counts as one who can end the join. That a lock's holder is not cancelled so is
//! assumed, and said.
//!
//! A lock that may have several holders (`RwLock`, `Semaphore`) is a node of its own: it is live if nobody holds it, if any
//! holder cannot be told, or if somebody is queued whose wait is not in the snapshot; else if any holder is live, or any
//! task that waits for it, for who is queued before may hold up who comes after by more than the holders do.
//!
//! Joins and scope ends are exact. A lock's holder is as recorded: true unless the guard was moved to another task or thread, or
//! permits are added to a semaphore. An open body stays, unless somebody has a handle of the scope and spawns a child that fails. Who used
//! the other end of a channel last is no more than a hint, for any code may hold that end; and of a channel that is empty and full at once,
//! somebody else has the slots. So the fixpoint is taken three times: with locks, open bodies and channels taken for live, what remains is
//! **proven**; with locks and bodies as recorded, the rest of what remains is **deadlocked**; with a channel's other end in the hands of its
//! last user, the rest is **suspect**.
//!
//! Strongly connected components of the stuck tasks are *knots* (R. E. Tarjan, "Depth-first search and linear graph
//! algorithms", SIAM J. Comput. 1(2), 1972); the others are *victims*: they wait for a knot, or for a task that no waker exists
//! for.

use std::collections::{HashMap, HashSet};

use super::snapshot::{
    ChannelInfo, HolderInfo, LockInfo, Phase, ScopeInfo, ScopeKind, Snapshot, TaskInfo, UserInfo, WaitObject,
    WaitReason,
};
use super::verdict::{is_complete, may_end_body};

/// What a fixpoint goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Trust {
    /// Joins and scope ends.
    Exact,
    /// And who holds a lock, and that nobody spawns a child that fails.
    Locks,
    /// And who used a channel's end last.
    Channels,
}

/// What is known of one stuck task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// What had to be believed for it.
    pub(crate) trust: Trust,
    /// The knot that it is in, by the lowest id in it.
    pub(crate) knot: Option<u64>,
    /// The stuck tasks that it waits for.
    pub(crate) waits_for: Vec<u64>,
}

/// All stuck tasks, by id.
pub(crate) type Proof = HashMap<u64, Stuck>;

/// Who can end one wait of a candidate.
enum Source {
    Task(usize),
    /// The same, as a lock's record says.
    Holder(usize),
    /// Somebody who waits for the same lock.
    Ahead(usize),
    /// A lock that may have several holders.
    Lock(usize),
    /// The last user of a channel's other end; `None` if that task has ended.
    User(Option<usize>),
    /// Every child of this scope, for its end.
    End(u64),
    /// Every child of this scope, for its body, which a child's failure drops.
    Body(u64),
    /// Whoever may have the task that is joined cancelled, which ends the wait. Not to blame for it.
    Canceller(Box<Source>),
}

/// The sources of a candidate, or of a lock; `None` for what is live to begin with.
type Node = Option<Vec<Source>>;

pub(crate) fn prove(snapshot: &Snapshot) -> Proof {
    let (graph, candidates) = Graph::new(snapshot);
    if candidates.is_empty() {
        return Proof::new();
    }
    let exact = graph.stuck(Trust::Exact);
    let locks = graph.stuck(Trust::Locks);
    let all = graph.stuck(Trust::Channels);
    // Knots of what is proven or deadlocked are of no other tasks.
    let knots = graph.knots(&locks);
    let id = |node: usize| snapshot.tasks[candidates[node]].id;
    let trust = |task: usize| match (exact[task], locks[task]) {
        (true, _) => Trust::Exact,
        (_, true) => Trust::Locks,
        _ => Trust::Channels,
    };
    (0..candidates.len())
        .filter(|&task| all[task])
        .map(|task| {
            let mut waits_for: Vec<u64> = Vec::new();
            graph.for_each_to_blame(task, |target| {
                if all[target] {
                    waits_for.push(id(target));
                }
            });
            waits_for.sort_unstable();
            waits_for.dedup();
            (id(task), Stuck { trust: trust(task), knot: knots[task].map(id), waits_for })
        })
        .collect()
}

/// Of the channel's end that a wait is for, how many handles live and who used one last; `None` if no user can end the wait.
pub(super) fn other_end(reason: WaitReason, channel: &ChannelInfo) -> Option<(u32, Option<UserInfo>)> {
    match reason {
        WaitReason::MpscRecv | WaitReason::OneshotRecv => Some((channel.senders, channel.last_sender)),
        WaitReason::MpscSend
        | WaitReason::MpscReserve
        | WaitReason::MpscClosed
        | WaitReason::OneshotClosed => Some((channel.receivers, channel.last_receiver)),
        _ => None,
    }
}

/// Channels on which somebody waits for a message and somebody else for a free slot. They are empty and full at once: each
/// slot was given to a sender that has not used it yet, and nobody has recorded who that is.
fn given_slots(snapshot: &Snapshot) -> HashSet<u64> {
    let waiting = |is_one: fn(WaitReason) -> bool| -> HashSet<u64> {
        let waits = snapshot.tasks.iter().flat_map(|task| &task.waits).filter(|wait| is_one(wait.reason));
        waits
            .filter_map(|wait| match &wait.object {
                WaitObject::Channel(channel) => Some(channel.id),
                _ => None,
            })
            .collect()
    };
    let for_messages = waiting(|reason| reason == WaitReason::MpscRecv);
    let for_slots = waiting(|reason| matches!(reason, WaitReason::MpscSend | WaitReason::MpscReserve));
    for_messages.intersection(&for_slots).copied().collect()
}

/// The tasks that hold a lock; `None` if it is free, or if one of them is live or not known, as whoever has an owned guard is.
fn holders(lock: &LockInfo, candidate: &impl Fn(u64) -> Option<usize>) -> Node {
    let holder = |holder: &HolderInfo| match holder {
        HolderInfo::Task { id, .. } => Some(Source::Holder(candidate(*id)?)),
        HolderInfo::Owned { .. } | HolderInfo::Unknown => None,
    };
    if lock.holders.is_empty() { None } else { lock.holders.iter().map(holder).collect() }
}

/// The shared locks of a snapshot, by id.
struct SharedLocks<'a>(HashMap<u64, SharedLock<'a>>);

struct SharedLock<'a> {
    /// In the order of their nodes.
    place: usize,
    info: &'a LockInfo,
    /// A candidate for each wait; one that waits several times stands here as often.
    waiting: Vec<usize>,
    /// Somebody who is live waits for it, or its tasks saw it differently.
    is_live: bool,
}

impl<'a> SharedLocks<'a> {
    fn new(snapshot: &'a Snapshot, candidates: &[usize]) -> SharedLocks<'a> {
        let mut locks: HashMap<u64, SharedLock<'a>> = HashMap::new();
        for (at, task) in snapshot.tasks.iter().enumerate() {
            for wait in task.waits.iter().filter(|wait| wait.own) {
                let WaitObject::Lock(info) = &wait.object else { continue };
                if info.shared {
                    let place = locks.len();
                    let new = SharedLock { place, info, waiting: Vec::new(), is_live: false };
                    let lock = locks.entry(info.id).or_insert(new);
                    lock.is_live |= *lock.info != **info;
                    match candidates.binary_search(&at) {
                        Ok(node) => lock.waiting.push(node),
                        Err(_) => lock.is_live = true,
                    }
                }
            }
        }
        SharedLocks(locks)
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.0.get(&id).map(|lock| lock.place)
    }

    fn nodes(&self, candidate: &impl Fn(u64) -> Option<usize>) -> Vec<Node> {
        let node = |lock: &SharedLock<'_>| -> Node {
            if lock.is_live || lock.waiting.len() as u64 != lock.info.waiters {
                return None;
            }
            let mut sources = holders(lock.info, candidate)?;
            sources.extend(lock.waiting.iter().map(|&task| Source::Ahead(task)));
            Some(sources)
        };
        let mut locks: Vec<&SharedLock<'_>> = self.0.values().collect();
        locks.sort_unstable_by_key(|lock| lock.place);
        locks.into_iter().map(node).collect()
    }
}

/// A scope, and the one at whose side it is: its children are children of both.
fn with_side(scope: u64, sides: &HashMap<u64, u64>) -> impl Iterator<Item = u64> {
    [Some(scope), sides.get(&scope).copied()].into_iter().flatten()
}

/// Whether a task may be stuck, as far as it can be told from itself: parked, at rest, and with a complete wait set.
fn is_candidate(task: &TaskInfo) -> bool {
    task.phase == Phase::Parked
        && task.settled
        && task.cancelled.is_none()
        && is_complete(task)
        && (task.own_wakers > 0 || task.unwakeable)
}

/// Whether all that a task waits for is something that a task known by name may end.
fn waits_for_tasks(task: &TaskInfo) -> bool {
    task.waits.iter().filter(|wait| wait.own).all(|wait| match (wait.reason, &wait.object) {
        (WaitReason::Join, WaitObject::Task(_)) | (WaitReason::ScopeEnd, WaitObject::Scope(_)) => true,
        (_, WaitObject::Lock(_)) => true,
        (reason, WaitObject::Channel(channel)) => {
            other_end(reason, channel).is_some_and(|(_, user)| user.is_some_and(|user| user.task.is_some()))
        }
        _ => false,
    })
}

/// What the candidates and the shared locks wait for. Everybody else is live and has no node: of a million tasks few are
/// candidates.
struct Graph {
    /// The candidates, in the order of the snapshot, and then its shared locks.
    nodes: Vec<Node>,
    /// The scope of each candidate.
    scope_of: Vec<u64>,
    /// Candidates in each scope and in those at its side.
    children: HashMap<u64, Vec<usize>>,
    /// Scopes with a candidate among their own children, not only among those at their side.
    has_own: HashSet<u64>,
    /// Scopes with a child that is live: no candidate, or not in the snapshot, for it is newborn, held back, or an adopted scope.
    has_live: HashSet<u64>,
    /// The scope at whose side another is.
    sides: HashMap<u64, u64>,
}

/// Where a task is among the nodes.
enum Index {
    Candidate(usize),
    /// In the snapshot, and live.
    Live,
    /// It has ended.
    Gone,
}

impl Graph {
    /// The graph, and the snapshot's places of the candidates.
    fn new(snapshot: &Snapshot) -> (Graph, Vec<usize>) {
        let deadlined: HashSet<u64> =
            snapshot.scopes.iter().filter(|scope| scope.deadline.is_some()).map(|scope| scope.id).collect();
        let may_be_stuck = |task: &TaskInfo| is_candidate(task) && !deadlined.contains(&task.scope);
        let candidates: Vec<usize> = snapshot
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| may_be_stuck(task) && waits_for_tasks(task))
            .map(|(at, _)| at)
            .collect();
        let index = |id: u64| match snapshot.tasks.binary_search_by_key(&id, |task| task.id) {
            Err(_) => Index::Gone,
            Ok(at) => candidates.binary_search(&at).map_or(Index::Live, Index::Candidate),
        };

        let sides: HashMap<u64, u64> = snapshot
            .scopes
            .iter()
            .filter(|scope| matches!(scope.kind, ScopeKind::Daemons | ScopeKind::Cleanups))
            .filter_map(|scope| Some((scope.id, scope.parent?)))
            .collect();
        let mut seen: HashMap<u64, u64> = HashMap::new();
        for task in &snapshot.tasks {
            for scope in with_side(task.scope, &sides) {
                *seen.entry(scope).or_default() += 1;
            }
        }
        let mut children: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut scope_of = Vec::with_capacity(candidates.len());
        for (node, &at) in candidates.iter().enumerate() {
            let scope = snapshot.tasks[at].scope;
            with_side(scope, &sides).for_each(|scope| children.entry(scope).or_default().push(node));
            scope_of.push(scope);
        }
        let has_own = scope_of.iter().copied().collect();
        let count = |scope: u64| seen.get(&scope).copied().unwrap_or(0);
        let stuck_at_most = |scope: u64| children.get(&scope).map_or(0, |nodes| nodes.len() as u64);
        let is_live = |scope: &&ScopeInfo| {
            scope.children > count(scope.id)
                || scope.held_back > 0
                || count(scope.id) > stuck_at_most(scope.id)
        };
        let has_live = snapshot.scopes.iter().filter(is_live).map(|scope| scope.id).collect();

        // The open scopes of each task whose body a child's failure drops; `None` if it may come without one.
        let mut bodies: HashMap<u64, Option<Vec<u64>>> = HashMap::new();
        for scope in snapshot.scopes.iter().filter(|scope| may_end_body(scope)) {
            let Some(owner) = scope.owner else { continue };
            let body = bodies.entry(owner).or_insert_with(|| Some(Vec::new()));
            if scope.kind == ScopeKind::Try && (scope.cancelled || scope.deadline.is_some()) {
                *body = None;
            } else if let Some(scopes) = body {
                scopes.push(scope.id);
            }
        }
        // Tasks with any scope.
        let owners: HashSet<u64> = snapshot.scopes.iter().filter_map(|scope| scope.owner).collect();
        let by_id: HashMap<u64, &ScopeInfo> = snapshot.scopes.iter().map(|scope| (scope.id, scope)).collect();
        // Whether a task in that scope is below another task, or may come to be: that one has a scope, into which it was moved or can be. Its
        // wait for that task's end is over then, for it would be for ever; what moves is looked at before who waits in it has been polled.
        let may_be_below = |scope: u64, task: u64| {
            let mut above = std::iter::successors(by_id.get(&scope), |scope| by_id.get(&scope.parent?));
            owners.contains(&task) && above.any(|scope| scope.kind != ScopeKind::Root)
        };

        let candidate = |id: u64| match index(id) {
            Index::Candidate(node) => Some(node),
            Index::Live | Index::Gone => None,
        };
        // A task that is joined may be cancelled without the one that waits, by whom a scope around it, and not around both, is ended: its
        // owner may drop it, a child in it fail, and daemons end with it.
        let around = |scope: u64| {
            std::iter::successors(by_id.get(&scope).copied(), |scope| by_id.get(&scope.parent?).copied())
        };
        let cancellers = |task: &TaskInfo, other: usize| -> Node {
            let scope = scope_of[other];
            // A cancel from outside a shield does not reach into it: what is further out is not around both.
            let is_sealed = !task.shields.is_empty();
            if scope == task.scope && !is_sealed {
                return Some(Vec::new());
            }
            let may_be_sealed = |scope: &ScopeInfo| {
                let owner = scope.owner.map(|owner| snapshot.task(owner));
                owner.is_some_and(|owner| owner.is_none_or(|owner| !owner.shields.is_empty()))
            };
            let mut own = HashSet::new();
            for scope in around(task.scope).take_while(|_| !is_sealed) {
                own.insert(scope.id);
                if may_be_sealed(scope) {
                    break;
                }
            }
            let mut sources = Vec::new();
            let mut is_common = false;
            for scope in around(scope) {
                is_common = own.contains(&scope.id) || scope.kind == ScopeKind::Root;
                if is_common {
                    break;
                }
                match (scope.kind, scope.parent) {
                    (ScopeKind::Daemons, around) => sources.push(Source::End(around?)),
                    (ScopeKind::Plain | ScopeKind::Try, _) if scope.closing => {
                        sources.push(Source::End(scope.id));
                    }
                    (ScopeKind::Plain | ScopeKind::Try, _) => sources.push(Source::Body(scope.id)),
                    _ => {}
                }
                if let Some(owner) = scope.owner.filter(|&owner| owner != task.id) {
                    sources.push(Source::Task(candidate(owner)?));
                }
            }
            // They meet in the root at last, unless the snapshot has missed a scope.
            is_common.then(|| sources.into_iter().map(|source| Source::Canceller(Box::new(source))).collect())
        };

        let locks = SharedLocks::new(snapshot, &candidates);
        let given = given_slots(snapshot);
        // Who has not parked yet is not in the snapshot, and may have used a channel in its first poll. Who is held back was
        // never polled.
        let held_back: u64 = snapshot.scopes.iter().map(|scope| scope.held_back).sum();
        let has_newborn = snapshot.newborn > held_back;
        let node = |&at: &usize| -> Node {
            let task = &snapshot.tasks[at];
            let bodies = match bodies.get(&task.id) {
                None => Vec::new(),
                // A body that waits for nothing may wait for a child to fail.
                Some(_) if task.waits.is_empty() => return None,
                Some(scopes) => scopes.clone()?,
            };
            let mut sources: Vec<Source> = bodies.into_iter().map(Source::Body).collect();
            // A leaf that was polled with another waker cannot wake this task.
            for wait in task.waits.iter().filter(|wait| wait.own) {
                match (wait.reason, &wait.object) {
                    (WaitReason::Join, WaitObject::Task(id)) if may_be_below(task.scope, *id) => {
                        return None;
                    }
                    (WaitReason::Join, WaitObject::Task(id)) => {
                        let joined = candidate(*id)?;
                        sources.push(Source::Task(joined));
                        sources.extend(cancellers(task, joined)?);
                    }
                    (WaitReason::ScopeEnd, WaitObject::Scope(id)) => sources.push(Source::End(*id)),
                    (_, WaitObject::Lock(lock)) if lock.shared => {
                        sources.push(Source::Lock(candidates.len() + locks.place(lock.id)?));
                    }
                    (_, WaitObject::Lock(lock)) => sources.extend(holders(lock, &candidate)?),
                    (reason, WaitObject::Channel(channel)) => {
                        let (handles, user) = other_end(reason, channel)?;
                        // Without handles the wait is over: a wake on its way. A slot that was given to somebody is a message on
                        // its way.
                        let user = user.filter(|_| handles > 0 && !given.contains(&channel.id))?.task?;
                        sources.push(match index(user.get()) {
                            Index::Candidate(node) => Source::User(Some(node)),
                            Index::Gone if !has_newborn => Source::User(None),
                            Index::Gone | Index::Live => return None,
                        });
                    }
                    _ => return None,
                }
            }
            Some(sources)
        };
        let nodes = candidates.iter().map(node).chain(locks.nodes(&candidate)).collect();
        (Graph { nodes, scope_of, children, has_own, has_live, sides }, candidates)
    }

    /// The stuck ones, by what is to be believed.
    fn stuck(&self, trust: Trust) -> Vec<bool> {
        let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut scope_waiters: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut stuck = vec![true; self.nodes.len()];
        let mut live = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let mut is_live = node.is_none();
            for source in node.iter().flatten() {
                let source = if let Source::Canceller(source) = source { &**source } else { source };
                match source {
                    Source::Canceller(_) => unreachable!("one stands for no other"),
                    Source::Holder(_) | Source::Ahead(_) | Source::Lock(_) | Source::Body(_)
                        if trust < Trust::Locks =>
                    {
                        is_live = true;
                    }
                    Source::User(_) if trust < Trust::Channels => is_live = true,
                    Source::User(None) => {}
                    Source::Task(target)
                    | Source::Holder(target)
                    | Source::Ahead(target)
                    | Source::User(Some(target))
                    | Source::Lock(target) => waiters[*target].push(at),
                    Source::End(scope) | Source::Body(scope) => {
                        // An end without children is due: a wake on its way. So it is with no others than daemons, for they are
                        // cancelled then, and with cleanups, which have a time.
                        let due = matches!(source, Source::End(_)) && !self.has_own.contains(scope);
                        is_live |= due || self.has_live.contains(scope);
                        scope_waiters.entry(*scope).or_default().push(at);
                    }
                }
            }
            if is_live {
                stuck[at] = false;
                live.push(at);
            }
        }
        while let Some(at) = live.pop() {
            // A lock is nobody's child.
            let scopes = self.scope_of.get(at).into_iter().flat_map(|&scope| with_side(scope, &self.sides));
            let of_scopes = scopes.filter_map(|scope| scope_waiters.get(&scope)).flatten();
            for &waiter in waiters[at].iter().chain(of_scopes) {
                if std::mem::replace(&mut stuck[waiter], false) {
                    live.push(waiter);
                }
            }
        }
        stuck
    }

    fn for_each_target(&self, node: usize, mut f: impl FnMut(usize)) {
        self.for_each_cause(node, &mut f);
        for source in self.nodes[node].iter().flatten() {
            if let Source::Ahead(target) | Source::Lock(target) = source {
                f(*target);
            }
        }
    }

    /// The tasks that a task, or a shared lock, waits for, but for those that are queued for the same lock.
    fn for_each_cause(&self, node: usize, mut f: impl FnMut(usize)) {
        for source in self.nodes[node].iter().flatten() {
            match source {
                Source::Task(target) | Source::Holder(target) | Source::User(Some(target)) => f(*target),
                Source::Ahead(_) | Source::Lock(_) | Source::User(None) | Source::Canceller(_) => {}
                Source::End(scope) | Source::Body(scope) => {
                    self.children.get(scope).into_iter().flatten().for_each(|&child| f(child));
                }
            }
        }
    }

    /// The tasks that a task waits for: of a shared lock its holders.
    fn for_each_to_blame(&self, task: usize, mut f: impl FnMut(usize)) {
        self.for_each_cause(task, &mut f);
        for source in self.nodes[task].iter().flatten() {
            let Source::Lock(lock) = source else { continue };
            // They stand before those who wait, of whom there may be as many as there are tasks like this one.
            for holder in self.nodes[*lock].iter().flatten() {
                let Source::Holder(target) = holder else { break };
                f(*target);
            }
        }
    }

    /// For each stuck task in a knot, the first task of the knot: Tarjan's components, without recursion.
    fn knots(&self, stuck: &[bool]) -> Vec<Option<usize>> {
        const NEW: usize = usize::MAX;
        let n = self.nodes.len();
        let (mut number, mut low) = (vec![NEW; n], vec![NEW; n]);
        let (mut on_stack, mut stack, mut next) = (vec![false; n], Vec::new(), 0);
        let mut knots = vec![None; n];
        let mut component_of = vec![NEW; n];
        for start in (0..n).filter(|&at| stuck[at]) {
            if number[start] != NEW {
                continue;
            }
            // A task, its targets, and how many of them have been looked at.
            let mut path: Vec<(usize, Vec<usize>, usize)> = Vec::new();
            let mut enter = Some(start);
            loop {
                if let Some(at) = enter.take() {
                    number[at] = next;
                    low[at] = next;
                    next += 1;
                    stack.push(at);
                    on_stack[at] = true;
                    let mut targets = Vec::new();
                    self.for_each_target(at, |target| targets.push(target));
                    targets.retain(|&target| stuck[target]);
                    path.push((at, targets, 0));
                }
                let Some((at, targets, seen)) = path.last_mut() else { break };
                let at = *at;
                if let Some(&target) = targets.get(*seen) {
                    *seen += 1;
                    if number[target] == NEW {
                        enter = Some(target);
                    } else if on_stack[target] {
                        low[at] = low[at].min(number[target]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, ..)) = path.last() {
                    low[*parent] = low[*parent].min(low[at]);
                }
                if low[at] == number[at] {
                    let from =
                        stack.iter().rposition(|&task| task == at).expect("pushed when it was entered");
                    let component = stack.split_off(from);
                    let first = component.iter().copied().min();
                    for &node in &component {
                        on_stack[node] = false;
                        component_of[node] = at;
                    }
                    // Who only stand in one queue are no knot.
                    let is_knot = component.iter().any(|&node| {
                        let mut within = false;
                        self.for_each_cause(node, |target| within |= component_of[target] == at);
                        within
                    });
                    if is_knot {
                        component.iter().for_each(|&node| knots[node] = first);
                    }
                }
            }
        }
        knots
    }
}
