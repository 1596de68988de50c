//! From a live runtime to a [`Snapshot`]: the one place that reads headers for a report.
//!
//! It walks the tree in bounded batches and holds no lock across them; a task that is looked at is held by
//! a reference. Nothing is polled or woken, no worker stops.

use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{
    CancelInfo, LastWaker, Phase, RunningInfo, ScopeInfo, ShieldInfo, Snapshot, TaskInfo, WaitInfo,
    WaitObject,
};
use crate::scheduler::shared::{Shared, now_ms};
use crate::scope::tree::{ScopeInner, scopes_of};
use crate::task::header::{self, Stage};
use crate::task::hooks::Bound;
use crate::task::meta::TaskId;
use crate::task::raw::TaskRef;
use crate::task::wait::{Object, Wait};

/// How often a task that keeps moving is read again before it is reported without its waits.
const READS_MAX: usize = 8;

pub(crate) fn snapshot(shared: &Shared, root: &Arc<ScopeInner>) -> Snapshot {
    let now = now_ms(&shared.driver);
    let now_ns = shared.driver.clock().now_ns();
    let mut tasks = Vec::new();
    let mut scopes = Vec::new();
    let mut newborn = 0;
    let running = shared.running();
    // Each scope with the least deadline above it: a long way up is not walked for each.
    let mut todo = vec![(Arc::clone(root), None)];
    while let Some((scope, above)) = todo.pop() {
        let above = if scope.is_sealed() { None } else { above };
        let deadline = [above, scope.options.deadline_ns].into_iter().flatten().min();
        let linked = scope.linked();
        newborn += scope.count.live().saturating_sub(linked);
        scopes.push(scope_info(&scope, deadline.map(|at| Duration::from_nanos(at.saturating_sub(now_ns)))));
        todo.extend(scope.sides().into_iter().map(|side| (side, deadline)));
        scope.for_each_child(|task| {
            let branches = scopes_of(task);
            if let Some(info) = task_info(task, &scope, now, &running) {
                tasks.push(info);
            }
            todo.extend(branches.into_iter().map(|branch| (branch, deadline)));
        });
    }
    tasks.sort_by_key(|task| task.id);
    scopes.sort_by_key(|scope| scope.id);
    Snapshot {
        uptime: Duration::from_millis(now),
        tasks,
        scopes,
        newborn,
        finished: shared.finished(),
        unwakeable_total: shared.unwakeable_total(),
        incidents: shared.incidents.copy(),
    }
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
    running: &[(usize, TaskId, u64)],
) -> Option<TaskInfo> {
    let header = task.header();
    let record = &header.record;
    let mut bits = header.state.load();
    let mut extra_waits = Vec::new();
    let mut copy = None;
    for _ in 0..READS_MAX {
        bits = header.state.load();
        // The several waits of one poll lie out of line; read between the two looks at the word, they are of
        // the same park.
        copy = record.read(|| {
            let idle = header.state.load().is_idle();
            if idle {
                extra_waits = header.existing_extra().map(|e| e.waits.clone()).unwrap_or_default();
            }
            idle
        });
        if copy.is_some() || !bits.is_idle() {
            break;
        }
    }
    if bits.is_complete() {
        return None;
    }
    let phase = match (&copy, header.stage()) {
        (_, Stage::Ending) => Phase::Ending,
        (Some(_), Stage::Future) => Phase::Parked,
        (None, Stage::Future) if header.kind() == super::snapshot::TaskKind::Blocking => Phase::Running,
        (None, Stage::Future) => Phase::Running,
    };
    let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
    let (mut waits, mut parked, mut polls) = (Vec::new(), None, record.polls());
    if let Some(copy) = &copy {
        polls = copy.polls;
        parked = Some(since(copy.parked_ms));
        waits = match (copy.waits, copy.first) {
            (0, _) | (_, None) => Vec::new(),
            (1, Some(first)) => vec![wait_info(&first)],
            _ => extra_waits.iter().map(wait_info).collect(),
        };
    }
    let extra = header.existing_extra();
    let extra = extra.as_deref();
    let unwakeable = copy.is_some() && bits.is_unwakeable();
    let reason = extra
        .and_then(|extra| extra.cancel.clone())
        .or_else(|| (scope.bound() != Bound::Open).then(|| scope.cancel_reason()));
    Some(TaskInfo {
        id: record.id().0,
        name: extra.and_then(|extra| extra.name.as_deref().map(str::to_owned)),
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
        unwakeable,
        last_waker: extra.filter(|_| unwakeable).and_then(|extra| extra.last_waker).map(last_waker),
        cancelled: reason.filter(|_| bits.is_cancelled()).map(|reason| CancelInfo {
            reason: reason.to_string(),
            site: reason.location().map(Into::into),
            since: since(reason.at_ms()),
        }),
        shields: extra
            .into_iter()
            .flat_map(|extra| &extra.shields)
            .map(|note| ShieldInfo { site: note.site.into(), since: since(note.since_ms) })
            .collect(),
        running: running
            .iter()
            .find(|(_, id, _)| *id == record.id() && phase == Phase::Running)
            .map(|(worker, _, turn_ms)| RunningInfo { worker: *worker, since: since(*turn_ms) }),
        bytes: header.vtable.bytes,
    })
}

fn wait_info(wait: &Wait) -> WaitInfo {
    WaitInfo {
        reason: wait.reason,
        object: match wait.object {
            Object::None => WaitObject::None,
            Object::Created(location) => WaitObject::Created(location.into()),
            Object::Task(id) => WaitObject::Task(id.0),
            Object::Scope(id) => WaitObject::Scope(id),
            Object::Label(label) => WaitObject::Label(label),
        },
        site: wait.location.into(),
    }
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
