//! The workloads by name, and what one operation of each is.

/// One line of every table.
#[derive(Debug)]
pub struct Workload {
    /// As `--only` takes it.
    pub name: &'static str,
    /// What one operation is.
    pub op: &'static str,
    /// What it needs of its process.
    pub kind: Kind,
}

/// What a workload needs of its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The same steps each time: the clock, allocations and instructions can all be told.
    Steps,
    /// Time passes in it or other processes take part: the clock only.
    Clock,
    /// Memory is what it is about: needs the counting allocator.
    Memory,
}

const fn workload(name: &'static str, kind: Kind, op: &'static str) -> Workload {
    Workload { name, op, kind }
}

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    workload("spawn-many", Kind::Steps, "spawn from a task, of 10,000; join all"),
    workload("spawn-outside", Kind::Steps, "the same from an outside thread"),
    workload("spawn-join", Kind::Steps, "spawn and join, one at a time"),
    workload("chain", Kind::Steps, "spawn by the task spawned before, 1,000 deep"),
    workload("yield", Kind::Steps, "yield, of 200 tasks x 1,000"),
    workload("ping-pong", Kind::Steps, "ask and answer over own oneshots, 1,000 pairs at once"),
    workload("ping-pong-futures", Kind::Steps, "the same over futures::channel::oneshot"),
    workload("mpsc-1", Kind::Steps, "message, capacity 100, 1 producer"),
    workload("mpsc-8", Kind::Steps, "message, capacity 100, 8 producers"),
    workload("unbounded-1", Kind::Steps, "message, unbounded, 1 producer that yields every 100"),
    workload("unbounded-8", Kind::Steps, "message, unbounded, 8 producers that yield every 100"),
    workload("mutex", Kind::Steps, "lock and unlock, 8 tasks on one lock"),
    workload("mutex-held", Kind::Steps, "the same, held across a yield"),
    workload("rwlock", Kind::Steps, "lock held across a yield, 8 tasks, every 8th lock a write"),
    workload("semaphore", Kind::Steps, "permit held across a yield, 4 permits, 8 tasks"),
    workload("skynet", Kind::Steps, "leaf, of 100,000; each inner task spawns and joins 10"),
    workload("fork-join", Kind::Steps, "task of a binary tree, 8,191 tasks"),
    workload("burst", Kind::Steps, "burst: 16 tasks of some 5 us of compute; join all"),
    workload(
        "timers-dropped",
        Kind::Steps,
        "timer armed and dropped, 1,000 alive at once in each of 8 tasks",
    ),
    workload("timers-fired", Kind::Clock, "timer of 1 to 10 ms that fires, 100 tasks"),
    workload("tcp-echo", Kind::Steps, "round trip of 64 bytes, 64 connections"),
    workload("http", Kind::Clock, "HTTP/1.1 request, keep-alive, 32 connections from another process"),
    workload("wake-outside", Kind::Clock, "wake-up of an idle runtime by an outside thread"),
    workload("cancel", Kind::Clock, "parked child cancelled and gone, 10,000 in one scope or set"),
    workload("snapshot", Kind::Clock, "task in a snapshot of 10,000"),
    workload("parked", Kind::Memory, "parked task of 16 bytes, of 100,000"),
];

/// The one of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}
