//! Snapshots that no runtime was looked at for.

use std::time::Duration;

use leakfree::report::snapshot::{Phase, Site, Snapshot, TaskInfo, TaskKind};

/// A task that is parked, and of which nothing more is known.
pub fn task(id: u64, spawned_at: Site, parked: Duration) -> TaskInfo {
    TaskInfo {
        id,
        name: None,
        kind: TaskKind::Async,
        spawned_at,
        scope: 1,
        phase: Phase::Parked,
        lived: parked,
        parked: Some(parked),
        polls: 1,
        waits: Vec::new(),
        own_wakers: 0,
        foreign_wakers: 0,
        unwakeable: false,
        last_waker: None,
        cancelled: None,
        shields: Box::default(),
        astray: false,
        settled: true,
        running: None,
        stacks: Box::default(),
        bytes: 0,
    }
}

/// Of a runtime in which nothing else is.
pub fn snapshot(tasks: Vec<TaskInfo>) -> Snapshot {
    Snapshot {
        uptime: Duration::from_secs(100),
        tasks,
        scopes: Vec::new(),
        newborn: 0,
        newborn_polls: Vec::new(),
        finished: 0,
        unwakeable_total: 0,
        incidents: Vec::new(),
        timers: 0,
        tokio_tasks: 0,
        sites: Vec::new(),
    }
}
