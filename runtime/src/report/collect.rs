//! From a live runtime to a [`Snapshot`]: the one place that reads headers for a report.
//!
//! It walks the tree in bounded batches and holds no lock across them; a task that is looked at is held by
//! a reference. Nothing is polled or woken, no worker stops.

use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{
    CancelInfo, ChannelInfo, HolderInfo, LastWaker, LockInfo, NewbornPoll, Phase, RunningInfo, ScopeInfo,
    ShieldInfo, SiteParks, Snapshot, TaskInfo, TaskKind, UserInfo, WaitInfo, WaitObject,
};
use crate::scheduler::shared::{Polled, Shared, now_ms};
use crate::scope::tree::{ScopeInner, scopes_of};
use crate::task::channel_facts::{self, User};
use crate::task::facts::{self, Holder};
use crate::task::header::{self, Stage};
use crate::task::hooks::Bound;
use crate::task::meta::{RecordCopy, TaskId};
use crate::task::raw::TaskRef;
use crate::task::state::Bits;
use crate::task::wait::{Object, Wait, WaitReason};

/// How often a task that keeps moving is read again before it is reported without its waits.
const READS_MAX: usize = 8;

/// What a parked task looked like in the first pass.
struct Before {
    id: TaskId,
    /// The lower half of the count: it does not wrap between two passes. 0 if it was not parked.
    polls: u32,
    /// Versions of the locks and channels that it waits for, added up; the lower half, too.
    objects: u32,
}

pub(crate) fn snapshot(shared: &Shared, root: &Arc<ScopeInner>) -> Snapshot {
    // The first pass ends before the second begins. What is the same in both was so at every moment in between.
    let mut before: Vec<Before> = Vec::new();
    walk(
        root,
        |_, _| (),
        |task, _| {
            let id = task.header().record.id();
            let (polls, objects) = parked(task)
                .map_or((0, 0), |(_, copy, waits)| (copy.polls as u32, object_versions(&waits) as u32));
            before.push(Before { id, polls, objects });
            scopes_of(task)
        },
    );
    before.sort_unstable_by_key(|before| before.id);
    let find = |id: TaskId| {
        let place = before.binary_search_by_key(&id, |before| before.id).ok()?;
        Some(&before[place])
    };

    let now = now_ms(&shared.driver);
    let now_ns = shared.driver.clock().now_ns();
    let running = shared.running();
    let (mut tasks, mut scopes, mut newborn) = (Vec::with_capacity(before.len()), Vec::new(), 0);
    let mut owners = Vec::new();
    walk(
        root,
        |scope, deadline_ns| {
            newborn += scope.count.live().saturating_sub(scope.linked());
            let until = |at: u64| Duration::from_nanos(at.saturating_sub(now_ns));
            scopes.push(scope_info(scope, deadline_ns.map(until)));
        },
        |task, scope| {
            let info = task_info(task, scope, now, &running, find(task.header().record.id()));
            let branches = scopes_of(task);
            if let Some(mut info) = info {
                // Its scopes are those of this park, or nothing is concluded from it.
                confirm(&mut info, task);
                if !branches.is_empty() && (info.settled || info.unwakeable) {
                    owners.push((info.id, task.clone()));
                }
                tasks.push(info);
            }
            branches
        },
    );
    // In place: another half of them would not be small.
    tasks.sort_unstable_by_key(|task| task.id);
    scopes.sort_by_key(|scope| scope.id);
    // A scope that moves to another task meanwhile is found twice, or not at all. Counted twice, its tasks would hide one that has never
    // parked.
    tasks.dedup_by_key(|task| task.id);
    scopes.dedup_by_key(|scope| scope.id);
    // A child that fails has its scope's owner nudged before it leaves. So whose scopes were found without such a child, and who is in
    // the same park after that, was not about to be nudged.
    for (id, task) in owners {
        if let Ok(place) = tasks.binary_search_by_key(&id, |task| task.id) {
            doubt_missed(&mut tasks[place], &task, &scopes);
            confirm(&mut tasks[place], &task);
        }
    }
    doubt_who_has_just_ended(&mut tasks, |id| find(TaskId(id)).is_some());
    let after = shared.running();
    find_queued(&mut tasks, &after);
    let newborn_polls = newborn_polls(&running, &after, &tasks, now);
    let mut snapshot = Snapshot {
        uptime: Duration::from_millis(now),
        tasks,
        scopes,
        newborn,
        newborn_polls,
        finished: shared.finished(),
        unwakeable_total: shared.unwakeable_total(),
        incidents: shared.incidents.copy(),
        timers: shared.driver.timers_len() as u64,
        tokio_tasks: shared.compat.tasks(),
        sites: sites(shared),
    };
    snapshot.cut_circles();
    snapshot
}

/// Who was found in motion, and whom no worker polled, neither before the walk nor after it, is in a queue, and not to blame.
fn find_queued(tasks: &mut [TaskInfo], after: &[Polled]) {
    for task in tasks {
        let is_polled = task.running.is_some()
            // In place, on a thread that is no worker now.
            || !task.waits.is_empty()
            || after.iter().any(|polled| polled.id.0 == task.id);
        if task.phase == Phase::Running && task.kind == TaskKind::Async && !is_polled {
            task.phase = Phase::Scheduled;
        }
    }
}

/// Whom a worker polled before the walk and still does after it, and who has never parked, so that it was counted as newborn meanwhile.
fn newborn_polls(before: &[Polled], after: &[Polled], tasks: &[TaskInfo], now: u64) -> Vec<NewbornPoll> {
    let is_known = |id: TaskId| tasks.binary_search_by_key(&id.0, |task| task.id).is_ok();
    let still = |polled: &&Polled| {
        before.iter().any(|before| (before.worker, before.id) == (polled.worker, polled.id))
            && !is_known(polled.id)
    };
    let newborn_poll = |polled: &Polled| {
        let spawned_at = polled.newborn?.into();
        let since = Duration::from_millis(now.saturating_sub(polled.turn_ms));
        Some(NewbornPoll { worker: polled.worker, task: polled.id.0, spawned_at, since })
    };
    after.iter().filter(still).filter_map(newborn_poll).collect()
}

/// Looks again: what was said of a task's park stands only if it is still in it.
fn confirm(info: &mut TaskInfo, task: &TaskRef) {
    if !(info.settled || info.unwakeable) {
        return;
    }
    let same = parked(task).is_some_and(|(bits, copy, _)| {
        copy.polls == info.polls
            && bits.is_unwakeable() == info.unwakeable
            && bits.is_cancelled() == info.cancelled.is_some()
    });
    info.settled &= same;
    info.unwakeable &= same;
}

/// Nothing is concluded about the owner of a scope that was not found.
fn doubt_missed(info: &mut TaskInfo, task: &TaskRef, scopes: &[ScopeInfo]) {
    let is_found = |id: u64| scopes.binary_search_by_key(&id, |info| info.id).is_ok();
    info.settled &= scopes_of(task).iter().all(|scope| is_found(scope.id));
}

/// Who was there in the first pass and is not in the snapshot has ended meanwhile, maybe after a channel was looked at that it
/// had used: there it is not one that had ended.
fn doubt_who_has_just_ended(tasks: &mut [TaskInfo], was_there: impl Fn(u64) -> bool) {
    let has_just_ended = |id: u64| was_there(id) && tasks.binary_search_by_key(&id, |task| task.id).is_err();
    let used_by = |wait: &WaitInfo| match &wait.object {
        WaitObject::Channel(channel) => [channel.last_sender, channel.last_receiver],
        _ => [None, None],
    };
    let doubted: Vec<usize> = tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| {
            let mut users = task.waits.iter().flat_map(used_by).flatten().filter_map(|user| user.task);
            task.settled && users.any(|id| has_just_ended(id.get()))
        })
        .map(|(place, _)| place)
        .collect();
    doubted.into_iter().for_each(|place| tasks[place].settled = false);
}

fn sites(shared: &Shared) -> Vec<SiteParks> {
    let sites = shared.sites.copy().into_iter().map(|(site, parks)| SiteParks {
        spawned_at: site.into(),
        samples: parks.samples(),
        p99: parks.p99(),
        longest: parks.longest(),
    });
    let mut sites: Vec<_> = sites.collect();
    sites.sort_by_key(|site| site.spawned_at);
    sites
}

/// Goes over every task that has parked, with its scope.
pub(crate) fn for_each_task(root: &Arc<ScopeInner>, mut on_task: impl FnMut(&TaskRef, &Arc<ScopeInner>)) {
    walk(
        root,
        |_, _| (),
        |task, scope| {
            let branches = scopes_of(task);
            on_task(task, scope);
            branches
        },
    );
}

/// Goes over the tree: each scope, with the least deadline on the way to it, before its tasks; `on_task` says which scopes are open
/// in a task.
fn walk(
    root: &Arc<ScopeInner>,
    mut on_scope: impl FnMut(&Arc<ScopeInner>, Option<u64>),
    mut on_task: impl FnMut(&TaskRef, &Arc<ScopeInner>) -> Vec<Arc<ScopeInner>>,
) {
    let mut todo = vec![(Arc::clone(root), None)];
    while let Some((scope, above)) = todo.pop() {
        // Of the scopes of one task, one may be in the body of another.
        let deadline = scope.deadline_ns_under(above);
        on_scope(&scope, deadline);
        todo.extend(scope.sides().into_iter().map(|side| (side, deadline)));
        scope.for_each_child(|task| {
            let branches = on_task(task, &scope);
            todo.extend(branches.into_iter().map(|branch| (branch, deadline)));
        });
    }
}

/// The word, the record and all waits of a task's last park, of one piece; `None` if it is not parked, or does not come to
/// rest.
fn parked(task: &TaskRef) -> Option<(Bits, RecordCopy, Vec<Wait>)> {
    let header = task.header();
    for _ in 0..READS_MAX {
        let (mut bits, mut several) = (header.state.load(), Vec::new());
        // The several waits of one poll lie out of line; read between the two looks at the word, they are of
        // the same park.
        let copy = header.record.read(|| {
            bits = header.state.load();
            let idle = bits.is_idle();
            if idle {
                several = header.existing_extra().map(|extra| extra.waits.clone()).unwrap_or_default();
            }
            idle
        });
        if let Some(copy) = copy {
            let waits = match (copy.waits, copy.first) {
                (0, _) | (_, None) => Vec::new(),
                (1, Some(first)) => vec![first],
                _ => several,
            };
            return Some((bits, copy, waits));
        }
        if !bits.is_idle() {
            return None;
        }
    }
    None
}

fn object_versions(waits: &[Wait]) -> u64 {
    // What is gone has nobody to wait for either.
    const GONE: u64 = u64::MAX / 2;
    let version = |wait: &Wait| match wait.object {
        Object::Lock(id) => facts::version(id).unwrap_or(GONE),
        Object::Channel(id) => channel_facts::copy(id).map_or(GONE, |facts| facts.version),
        _ => 0,
    };
    waits.iter().map(version).fold(0, u64::wrapping_add)
}

fn scope_info(scope: &Arc<ScopeInner>, deadline: Option<Duration>) -> ScopeInfo {
    ScopeInfo {
        id: scope.id,
        name: scope.options.name.as_deref().map(str::to_owned),
        opened_at: scope.opened_at.map(Into::into),
        parent: scope.enclosing().map(|around| around.id),
        kind: scope.kind,
        owner: scope.owner().map(|task| task.header().record.id().0),
        children: scope.live(),
        held_back: scope.options.limit.as_ref().map_or(0, |limit| limit.held_back() as u64),
        deadline,
        cancelled: scope.bound() != Bound::Open,
        closing: scope.closing.load(std::sync::atomic::Ordering::Acquire),
    }
}

/// `None` if the task has completed by now.
fn task_info(
    task: &TaskRef,
    scope: &ScopeInner,
    now: u64,
    running: &[Polled],
    before: Option<&Before>,
) -> Option<TaskInfo> {
    let header = task.header();
    let record = &header.record;
    let found = parked(task);
    let bits = found.as_ref().map_or_else(|| header.state.load(), |(bits, ..)| *bits);
    if bits.is_complete() {
        return None;
    }
    let phase = match (&found, header.note().stage()) {
        (_, Stage::Ending) => Phase::Ending,
        (Some(_), Stage::Future) => Phase::Parked,
        (None, Stage::Future) => Phase::Running,
    };
    let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
    let (mut waits, mut parked, mut polls, mut settled) = (Vec::new(), None, record.polls(), false);
    if let Some((_, copy, found)) = &found {
        polls = copy.polls;
        parked = Some(since(copy.parked_ms));
        waits = found.iter().enumerate().map(|(place, wait)| wait_info(wait, record.id(), place)).collect();
        settled = before.is_some_and(|before| {
            before.polls != 0
                && before.polls == copy.polls as u32
                && before.objects == object_versions(found) as u32
        });
    }
    let extra = header.existing_extra();
    let extra = extra.as_deref();
    if let Some((site, since_ms)) = extra.and_then(|extra| extra.in_place).filter(|_| phase == Phase::Running)
    {
        parked = Some(since(since_ms));
        waits.push(WaitInfo {
            reason: WaitReason::BlockInPlace,
            object: WaitObject::None,
            site: site.into(),
            own: false,
        });
    }
    let unwakeable = found.is_some() && bits.is_unwakeable();
    let reason = extra
        .and_then(|extra| extra.cancel.clone())
        .or_else(|| (scope.bound() != Bound::Open).then(|| scope.cancel_reason()));
    Some(TaskInfo {
        id: record.id().0,
        name: extra.and_then(|extra| extra.name.as_deref().map(Box::from)),
        kind: header.kind(),
        spawned_at: record.spawned_at().into(),
        scope: scope.id,
        phase,
        lived: since(record.born_ms()).max(parked.unwrap_or_default()),
        parked,
        polls,
        waits,
        own_wakers: bits.own(),
        foreign_wakers: bits.foreign(),
        astray: bits.is_astray(),
        settled,
        unwakeable,
        last_waker: extra
            .filter(|_| unwakeable)
            .and_then(|extra| extra.last_waker)
            .map(|last| Box::new(last_waker(last))),
        cancelled: reason.filter(|_| bits.is_cancelled()).map(|reason| {
            Box::new(CancelInfo {
                reason: reason.to_string(),
                site: reason.location().map(Into::into),
                since: since(reason.at_ms()),
            })
        }),
        shields: extra
            .into_iter()
            .flat_map(|extra| &extra.shields)
            .map(|note| ShieldInfo { site: note.site.into(), since: since(note.since_ms) })
            .collect(),
        running: running
            .iter()
            .find(|polled| polled.id == record.id() && phase == Phase::Running)
            .map(|polled| Box::new(RunningInfo { worker: polled.worker, since: since(polled.turn_ms) })),
        stacks: extra
            .and_then(|extra| extra.stacks.as_ref())
            .map(|stacks| stacks.copy().into())
            .unwrap_or_default(),
        bytes: header.vtable.bytes,
    })
}

/// A oneshot on which its receiver alone waits: nothing is kept of it, for all that there is to know follows from the wait. Its sender
/// has not been used, for it is used once, and then the wait is over.
fn lone_oneshot(created: &'static Location<'static>, wait: &Wait, task: TaskId, place: usize) -> ChannelInfo {
    // No channel's id, and no other wait's.
    let id = 1 << 63 | task.0 << 8 | place as u64;
    let receiver = UserInfo { task: NonZeroU64::new(task.0), site: wait.location.into() };
    let (created, last_receiver) = (created.into(), Some(receiver));
    ChannelInfo { id, created, senders: 1, receivers: 1, last_sender: None, last_receiver }
}

fn wait_info(wait: &Wait, task: TaskId, place: usize) -> WaitInfo {
    WaitInfo {
        reason: wait.reason,
        object: match wait.object {
            Object::None => WaitObject::None,
            Object::Created(location) if wait.reason == WaitReason::OneshotRecv => {
                WaitObject::Channel(Box::new(lone_oneshot(location, wait, task, place)))
            }
            Object::Created(location) => WaitObject::Created(location.into()),
            Object::Task(task) => WaitObject::Task(task.id()),
            Object::Scope(id) => WaitObject::Scope(id),
            Object::Label(label) => WaitObject::Label(label),
            Object::Lock(id) => match facts::copy(id) {
                None => WaitObject::None,
                Some(facts) => WaitObject::Lock(Box::new(LockInfo {
                    id,
                    created: facts.created.into(),
                    holders: facts.holders.into_iter().map(holder_info).collect(),
                    waiters: facts.waiters,
                    shared: facts.shared,
                })),
            },
            Object::Channel(id) => match channel_facts::copy(id) {
                None => WaitObject::None,
                Some(facts) => WaitObject::Channel(Box::new(ChannelInfo {
                    id,
                    created: facts.created.into(),
                    senders: facts.senders.try_into().unwrap_or(u32::MAX),
                    receivers: facts.receivers.try_into().unwrap_or(u32::MAX),
                    last_sender: facts.last_sender.map(user_info),
                    last_receiver: facts.last_receiver.map(user_info),
                })),
            },
        },
        site: wait.location.into(),
        own: wait.own,
    }
}

fn holder_info(holder: Holder) -> HolderInfo {
    match holder {
        Holder::Unknown => HolderInfo::Unknown,
        Holder::Task { id, site, owned: false } => HolderInfo::Task { id: id.0, site: site.into() },
        Holder::Task { id, site, owned: true } => HolderInfo::Owned { id: id.0, site: site.into() },
    }
}

fn user_info(user: User) -> UserInfo {
    UserInfo { task: NonZeroU64::new(user.task), site: user.site.into() }
}

fn last_waker(last: header::LastWaker) -> LastWaker {
    match last {
        header::LastWaker::NeverRegistered => LastWaker::NeverRegistered,
        header::LastWaker::Task { id, spawned_at, last_wait } => LastWaker::DroppedByTask {
            id,
            spawned_at: spawned_at.into(),
            last_wait: last_wait.map(Into::into),
        },
        header::LastWaker::Thread => LastWaker::DroppedByThread,
    }
}
