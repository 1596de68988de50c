//! A report as text: what somebody on call reads.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::snapshot::{
    ChannelInfo, EndedBy, HolderInfo, Incident, IncidentKind, LastWaker, LockInfo, Phase, ScopeInfo,
    TaskInfo, TaskKind, UserInfo, WaitInfo, WaitObject, WaitReason,
};
use super::suspect::Suspicion;
use super::verdict::{Finding, Occasion, PathScope, Report, Verdict, may_end_body};

/// A poll of a task that has never parked is told in a live report from here on.
const LONG_POLL: Duration = Duration::from_millis(20);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaked = self.leaked();
        let at = match self.occasion {
            Occasion::Live => "now",
            Occasion::Shutdown => "at shutdown",
            Occasion::TestEnd => "at the test's end",
            Occasion::Quiescent => "where nothing can run any more",
        };
        let tasks = match leaked {
            0 => "no leaked tasks".to_owned(),
            1 => "1 leaked task".to_owned(),
            n => format!("{} leaked tasks", thousands(n)),
        };
        let suspects = self.suspects();
        let suspects = match suspects {
            0 => String::new(),
            n => format!(", {}", count(n, "suspect", "suspects")),
        };
        write!(
            f,
            "leakfree: {tasks}{suspects} {at} ({} finished, {}",
            thousands(self.finished),
            duration(self.uptime)
        )?;
        let (complete, parked) = self.coverage;
        if parked > 0 {
            write!(f, ", coverage {}/{}", thousands(complete), thousands(parked))?;
        }
        writeln!(f, ")")?;
        for (number, finding) in self.findings.iter().enumerate() {
            write!(f, "\n{}. ", number + 1)?;
            self.finding(f, finding)?;
        }
        if self.occasion.is_end() {
            // Who is held back was never polled, and is counted among the newborn.
            let waiting: u64 = self.snapshot.scopes.iter().map(|scope| scope.held_back).sum();
            let waiting = waiting.min(self.newborn);
            let others = self.newborn - waiting;
            if others > 0 {
                writeln!(
                    f,
                    "\n{} spawned and never parked: in a run queue, or in a first poll that has not ended",
                    count(others, "task was", "tasks were")
                )?;
            }
            self.newborn_polls(f, Duration::ZERO)?;
            if waiting > 0 {
                writeln!(
                    f,
                    "\n{} held back by the bound on its scope's children: nothing makes room",
                    count(waiting, "task is", "tasks are")
                )?;
            }
        } else {
            self.newborn_polls(f, LONG_POLL)?;
        }
        if self.snapshot.tokio_tasks > 0 {
            let tasks = count(self.snapshot.tokio_tasks, "task is", "tasks are");
            writeln!(
                f,
                "\n{tasks} alive in the tokio runtime of `tokio-compat`, outside all scopes and not judged"
            )?;
        }
        for incident in &self.incidents {
            self.incident(f, incident)?;
        }
        Ok(())
    }
}

impl Report {
    /// Whom a worker polls, for longer than that, of those who have never parked.
    fn newborn_polls(&self, f: &mut fmt::Formatter<'_>, longer_than: Duration) -> fmt::Result {
        for poll in self.snapshot.newborn_polls.iter().filter(|poll| poll.since >= longer_than) {
            writeln!(
                f,
                "\nworker {} polls task {}, which has never parked, for {} at most: spawned {}",
                poll.worker,
                poll.task,
                duration(poll.since),
                poll.spawned_at
            )?;
        }
        Ok(())
    }

    fn incident(&self, f: &mut fmt::Formatter<'_>, incident: &Incident) -> fmt::Result {
        let message = plain(&incident.message);
        let site = incident.site.map_or("an unknown place".to_owned(), |site| site.to_string());
        match incident.kind {
            IncidentKind::SparePanic => {
                writeln!(f, "\nSECOND PANIC in a task spawned {site}: {message}")?;
                writeln!(f, "   why told here: another panic came first and was the one that went on.")
            }
            IncidentKind::ScopeForgotten => {
                writeln!(f, "\nFORGOTTEN SCOPE opened {site}, with {message}")?;
                writeln!(
                    f,
                    "   why: its task ended, and the scope's future had neither ended nor been dropped: `mem::forget`, a leaked \
                     box, or moved away and not polled since. Its children were cancelled."
                )
            }
            IncidentKind::CleanupCut => {
                writeln!(
                    f,
                    "\nCLEANUP CUT OFF, deferred {site}: {message}, did not end by then, and was dropped."
                )
            }
        }
    }

    fn finding(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        let task = &finding.task;
        let alike = finding.ids.len();
        write!(f, "{}", finding.verdict.name())?;
        if finding.verdict == Verdict::Outlived {
            write!(f, " {}", self.root_name())?;
        }
        let in_knot = 1 + finding.knot.len();
        match finding.knots {
            0 if alike > 1 => write!(f, ", {} tasks alike", thousands(alike as u64))?,
            0 => {}
            1 => write!(f, ", knot of {}", thousands(alike as u64))?,
            knots => write!(
                f,
                ", {} knots alike of {}",
                thousands(knots as u64),
                thousands((alike / knots) as u64)
            )?,
        }
        writeln!(f, "   [{}]", finding.leak_id)?;

        let many = finding.knots == 0 && alike > 1;
        self.task(f, task, &finding.path, finding.path_cut, many.then_some(finding.bytes))?;
        if let Some(deadline) = finding.deadline {
            writeln!(f, "     under a deadline that cancels it in {}", duration(deadline))?;
        }
        for member in &finding.knot {
            self.task(f, &member.task, &member.path, member.path_cut, None)?;
        }
        if finding.knots == 1 && alike > in_knot {
            writeln!(f, "   and {} more in the knot", thousands((alike - in_knot) as u64))?;
        }
        write!(f, "   why: ")?;
        self.why(f, finding)
    }

    /// One task; `bytes` if it stands for many.
    fn task(
        &self,
        f: &mut fmt::Formatter<'_>,
        task: &TaskInfo,
        path: &[PathScope],
        path_cut: usize,
        alike_bytes: Option<usize>,
    ) -> fmt::Result {
        write!(f, "   {}", kind(task.kind))?;
        if alike_bytes.is_none() {
            write!(f, " {}", task.id)?;
        }
        if let Some(name) = &task.name {
            write!(f, " {name:?}")?;
        }
        write!(f, "   spawned {}   ", task.spawned_at)?;
        self.path(f, path, path_cut)?;
        if let Some(alike) = alike_bytes {
            write!(f, "   {}", bytes(alike))?;
        }
        writeln!(f)?;

        self.whereabouts(f, task)?;
        let oldest = if alike_bytes.is_some() { "the oldest lived" } else { "lived" };
        let polls = count(task.polls, "poll", "polls");
        writeln!(f, "     {oldest} {}, {polls}", duration(task.lived))?;
        for stack in &task.stacks {
            writeln!(f, "     left a waker behind in")?;
            for line in stack.lines() {
                writeln!(f, "       {line}")?;
            }
        }
        for shield in &task.shields {
            writeln!(f, "     shielded for {} at {}", duration(shield.since), shield.site)?;
        }
        if let Some(cancel) = &task.cancelled {
            writeln!(f, "     cancelled {} ago: {}", duration(cancel.since), plain(&cancel.reason))?;
        }
        Ok(())
    }

    fn root_name(&self) -> &'static str {
        match self.occasion {
            Occasion::Live => "the runtime",
            Occasion::Shutdown => "main",
            Occasion::TestEnd => "the test",
            Occasion::Quiescent => "the runtime",
        }
    }

    fn path(&self, f: &mut fmt::Formatter<'_>, path: &[PathScope], path_cut: usize) -> fmt::Result {
        f.write_str("in ")?;
        for (depth, scope) in path.iter().enumerate() {
            if depth == 3 && path_cut > 0 {
                write!(f, "... {} more ... < ", thousands(path_cut as u64))?;
            }
            match scope.opened_at {
                None => f.write_str(self.root_name())?,
                Some(site) => {
                    if depth == 0 {
                        f.write_str("scope ")?;
                    }
                    if let Some(name) = &scope.name {
                        write!(f, "{name:?} ")?;
                    }
                    write!(f, "{site}")?;
                }
            }
            if depth + 1 < path.len() {
                f.write_str(" < ")?;
            }
        }
        Ok(())
    }

    fn whereabouts(&self, f: &mut fmt::Formatter<'_>, task: &TaskInfo) -> fmt::Result {
        let Some(parked) = task.parked else {
            return match (task.kind, task.phase) {
                (TaskKind::Blocking, Phase::Running) => {
                    writeln!(f, "     running on a thread of the blocking pool")
                }
                (_, Phase::Running) => match &task.running {
                    Some(running) => writeln!(
                        f,
                        "     running on worker {} for {} at most",
                        running.worker,
                        duration(running.since)
                    ),
                    None => writeln!(f, "     running, or about to run"),
                },
                (_, Phase::Scheduled) => writeln!(f, "     in a run queue"),
                _ => writeln!(f, "     ended; it waits for the tasks below it"),
            };
        };
        let parked = duration(parked);
        match task.waits.as_slice() {
            [] if task.phase == Phase::Ending => {
                writeln!(f, "     ended {parked} ago; it waits for the tasks below it")
            }
            [] => writeln!(f, "     parked {parked} outside leakfree's own waits"),
            [wait] => {
                write!(f, "     parked {parked} in ")?;
                self.wait(f, wait)
            }
            waits => {
                writeln!(f, "     parked {parked} in the first of:")?;
                for wait in waits {
                    write!(f, "       - ")?;
                    self.wait(f, wait)?;
                }
                Ok(())
            }
        }
    }

    fn wait(&self, f: &mut fmt::Formatter<'_>, wait: &WaitInfo) -> fmt::Result {
        if let WaitObject::Label(label) = wait.object {
            return writeln!(f, "{label:?} at {}", wait.site);
        }
        match library(wait.site.file) {
            Some(library) => write!(f, "{} inside {library}", wait.reason.name())?,
            None => write!(f, "{} at {}", wait.reason.name(), wait.site)?,
        }
        match &wait.object {
            WaitObject::Created(site) => {
                write!(f, "   {} created {site}", object_name(wait))?;
            }
            WaitObject::Lock(lock) => {
                write!(f, "   {} created {}", object_name(wait), lock.created)?;
                holders(f, wait.reason, lock)?;
            }
            WaitObject::Channel(channel) => {
                write!(f, "   {} created {}", object_name(wait), channel.created)?;
                other_end(f, wait.reason, channel)?;
            }
            WaitObject::Task(id) => {
                write!(f, "   task {id}")?;
                if let Some(joined) = self.snapshot.task(*id) {
                    write!(f, " spawned {}", joined.spawned_at)?;
                }
            }
            _ => {}
        }
        writeln!(f)
    }

    fn why(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        let task = &finding.task;
        match finding.verdict {
            Verdict::ProvenUnwakeable => {
                f.write_str("no waker exists; ")?;
                match task.last_waker.as_deref().copied() {
                    None => f.write_str("who dropped the last one was not recorded")?,
                    Some(LastWaker::NeverRegistered) => {
                        f.write_str("its last poll returned Pending and left none behind")?;
                    }
                    Some(LastWaker::DroppedByThread) => {
                        f.write_str("the last one was dropped by a thread outside any task")?;
                    }
                    Some(LastWaker::DroppedByTask { id, spawned_at, last_wait }) => {
                        write!(f, "the last one was dropped by task {id}, spawned {spawned_at}")?;
                        if let Some(site) = last_wait {
                            write!(f, ", whose last wait began at {site}")?;
                        }
                    }
                }
                writeln!(f, ". Only cancellation can end it.")
            }
            Verdict::ProvenStuck | Verdict::Deadlocked => self.why_stuck(f, finding),
            Verdict::HeldOpen => {
                let scope = finding.path.first();
                write!(f, "the body of its scope")?;
                if let Some(site) = scope.and_then(|scope| scope.opened_at) {
                    write!(f, ", opened {site},")?;
                }
                f.write_str(" has ended")?;
                if let Some(owner) = scope.and_then(|scope| scope.owner) {
                    write!(f, ", and task {owner} waits there until this one ends")?;
                }
                f.write_str(". ")?;
                self.who_can_end(f, finding)
            }
            Verdict::Outlived => {
                match self.occasion {
                    Occasion::TestEnd => f.write_str("alive when the test's body had returned. ")?,
                    _ => f.write_str("alive when main's body had returned. ")?,
                }
                self.who_can_end(f, finding)
            }
            Verdict::Unresponsive => match (task.kind, task.phase) {
                (TaskKind::Blocking, _) => writeln!(
                    f,
                    "a blocking call cannot be stopped from outside; its thread was left behind. Have the \
                     closure check a flag, or bound what it waits for."
                ),
                _ if task.waits.iter().any(|wait| wait.reason == WaitReason::BlockInPlace) => writeln!(
                    f,
                    "a blocking call cannot be stopped from outside, and the task goes no further before it ends; its \
                     thread was left behind. Have the closure check a flag, or bound what it waits for."
                ),
                _ if !task.shields.is_empty() => writeln!(
                    f,
                    "the shield holds its drop off as long as it is pending. Bound what is inside, or use `shield_for`."
                ),
                (TaskKind::Main, Phase::Running) => writeln!(
                    f,
                    "it has been inside one poll since before the cancel: it blocks the thread that called `block_on`, or loops \
                     without an await."
                ),
                (_, Phase::Running) => writeln!(
                    f,
                    "it has been inside one poll since before the cancel: it blocks its worker or loops without \
                     an await. The worker was left behind."
                ),
                (_, Phase::Scheduled) => writeln!(
                    f,
                    "it was cancelled, and no worker has come to it: those that there are do not let go of others."
                ),
                _ => writeln!(f, "it was cancelled, and something below it has not ended."),
            },
            Verdict::Suspect => match finding.suspicion {
                Some(Suspicion::LongPark { usual }) => writeln!(
                    f,
                    "of {} sampled parks of tasks spawned there, 99 in 100 took at most {}, and none more than {}.",
                    thousands(usual.samples),
                    duration(usual.p99),
                    duration(usual.longest)
                ),
                Some(Suspicion::Behind) => {
                    way(f, &finding.waits_for)?;
                    writeln!(f, ", which is suspected, too: see there.")
                }
                Some(suspicion @ Suspicion::ChannelUser { .. }) => {
                    let user = channel_user(suspicion).unwrap_or_default();
                    writeln!(f, "{user}. Anybody who holds that end can still use it.")
                }
                _ => writeln!(
                    f,
                    "no task can run, no timer is armed, no I/O, blocking call or foreign waker is left. Unless a thread \
                     outside the runtime holds the other end, it waits for ever."
                ),
            },
        }
    }

    fn why_stuck(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        match finding.waits_for.as_slice() {
            [] if finding.ids.len() == finding.knots => {
                f.write_str("it waits for what only itself could do")?;
            }
            [] => f.write_str("every wait is complete, and only tasks of the knot could end them")?,
            ids => {
                way(f, ids)?;
                f.write_str(", which can never go on: see there")?;
            }
        }
        f.write_str("; no timer, I/O or foreign waker is left. ")?;
        match finding.verdict {
            Verdict::Deadlocked => {
                let tasks = [&finding.task].into_iter().chain(finding.knot.iter().map(|member| &member.task));
                let owners: Vec<u64> = tasks.clone().map(|task| task.id).collect();
                let waited_for = finding.waits_for.iter().filter_map(|id| self.snapshot.task(*id));
                let all: Vec<&TaskInfo> = tasks.clone().chain(waited_for).collect();
                let mut waits = tasks.flat_map(|task| &task.waits);
                f.write_str("Assumes that no guard was moved to another task or thread")?;
                if waits.any(|wait| wait.reason == WaitReason::SemaphoreAcquire) {
                    f.write_str(", nor a permit, and that nobody adds permits")?;
                }
                // Scopes around some of them, and not around all.
                let parents: HashMap<u64, Option<u64>> =
                    self.snapshot.scopes.iter().map(|scope| (scope.id, scope.parent)).collect();
                let mut around: HashMap<u64, usize> = HashMap::new();
                for task in &all {
                    let mut next = Some(task.scope);
                    while let Some(scope) = next {
                        *around.entry(scope).or_default() += 1;
                        next = parents.get(&scope).copied().flatten();
                    }
                }
                if around.values().any(|&tasks| tasks < all.len()) {
                    f.write_str("; that nobody is cancelled with a scope that is not around all of them")?;
                }
                let is_theirs = |scope: &ScopeInfo| scope.owner.is_some_and(|owner| owners.contains(&owner));
                if self.snapshot.scopes.iter().any(|scope| is_theirs(scope) && may_end_body(scope)) {
                    f.write_str(
                        "; and that nobody spawns a child that fails into a scope that is open there",
                    )?;
                }
                writeln!(f, ".")
            }
            _ => writeln!(f, "Only cancellation can end it."),
        }
    }

    fn who_can_end(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        let task = &finding.task;
        match task.phase {
            Phase::Running => return writeln!(f, "It is still working."),
            Phase::Scheduled => return writeln!(f, "It is about to go on: no worker has come to it yet."),
            Phase::Parked | Phase::Ending => {}
        }
        if task.foreign_wakers > 0 {
            let wakers = count(u64::from(task.foreign_wakers), "waker", "wakers");
            return writeln!(
                f,
                "{wakers} held outside leakfree's own queues: whoever holds one can still wake it."
            );
        }
        match task.waits.as_slice() {
            [] => f.write_str("It waits for the tasks below it.")?,
            [wait] => f.write_str(advice(wait))?,
            _ => f.write_str("Any one of these waits can end it.")?,
        }
        match finding.suspicion.and_then(channel_user) {
            Some(user) => writeln!(f, " And {user}."),
            None => writeln!(f),
        }
    }
}

/// The way to the task that is to blame.
fn way(f: &mut fmt::Formatter<'_>, ids: &[u64]) -> fmt::Result {
    f.write_str("it waits for ")?;
    for (step, id) in ids.iter().enumerate() {
        let before = if step == 0 { "" } else { ", which waits for " };
        write!(f, "{before}task {id}")?;
    }
    Ok(())
}

/// What has become of who used the other end of a channel last; the wait's own line says how many handles there are.
fn channel_user(suspicion: Suspicion) -> Option<String> {
    let Suspicion::ChannelUser { user, ended, .. } = suspicion else { return None };
    let task = user.task.map_or("code outside a task".to_owned(), |id| format!("task {id}"));
    let fate = if ended { "has ended" } else { "can make no progress either" };
    Some(format!("the last to use the other end, {task}, {fate}"))
}

/// Holders that are named; the others are counted.
const HOLDERS_NAMED: usize = 3;

fn holders(f: &mut fmt::Formatter<'_>, reason: WaitReason, lock: &LockInfo) -> fmt::Result {
    let taken = if reason == WaitReason::SemaphoreAcquire { "acquired" } else { "locked" };
    for (place, holder) in lock.holders.iter().take(HOLDERS_NAMED).enumerate() {
        f.write_str(if place == 0 { ", held by " } else { ", " })?;
        match holder {
            HolderInfo::Task { id, site } => write!(f, "task {id} ({taken} {site})")?,
            HolderInfo::Owned { id, site } => {
                write!(f, "an owned guard ({taken} by task {id}, {site}; wherever it is now)")?
            }
            HolderInfo::Unknown => f.write_str("code outside a task")?,
        }
    }
    match lock.holders.len() {
        0 if reason == WaitReason::SemaphoreAcquire => f.write_str(", nobody holds permits"),
        0 => f.write_str(", free"),
        n if n > HOLDERS_NAMED => write!(f, " and {} more", n - HOLDERS_NAMED),
        _ => Ok(()),
    }
}

/// How many could end a wait on a channel, and who of them did something last.
fn other_end(f: &mut fmt::Formatter<'_>, reason: WaitReason, channel: &ChannelInfo) -> fmt::Result {
    use WaitReason as R;
    let (handles, one, many, did, last) = match reason {
        R::OneshotRecv | R::MpscRecv | R::WatchChanged | R::WatchWaitFor | R::BroadcastRecv => {
            (channel.senders, "sender", "senders", "last sent", channel.last_sender)
        }
        _ => (channel.receivers, "receiver", "receivers", "last received", channel.last_receiver),
    };
    write!(f, ", {}", count(handles.into(), one, many))?;
    match last {
        None => Ok(()),
        Some(UserInfo { task: Some(task), site }) => write!(f, ", {did} by task {task} at {site}"),
        Some(UserInfo { task: None, site }) => write!(f, ", {did} outside a task at {site}"),
    }
}

/// What would end a wait, in words.
fn advice(wait: &WaitInfo) -> &'static str {
    use super::snapshot::WaitReason as R;
    match wait.reason {
        R::OneshotRecv => "Its sender has neither sent nor been dropped: somebody keeps it.",
        R::MpscRecv => {
            "At least one sender has not been dropped, so the channel stays open, and nothing is sent."
        }
        R::MpscSend | R::MpscReserve => "The channel is full, and its receiver does not receive.",
        R::OneshotClosed | R::MpscClosed => "The receiver has neither been closed nor been dropped.",
        R::WatchChanged | R::WatchWaitFor | R::BroadcastRecv => {
            "At least one sender has not been dropped, so the channel stays open, and nothing new is sent."
        }
        R::WatchClosed | R::BroadcastClosed => "At least one receiver has not been dropped.",
        R::MutexLock | R::RwLockWrite => "Whoever holds the lock has not let go of it.",
        R::RwLockRead => "Whoever writes, or waits before it to write, has not let go of the lock.",
        R::SemaphoreAcquire => "Too few permits have been given back or added.",
        R::Notified => "Nobody has notified it.",
        R::BarrierWait => "Fewer tasks have come to the barrier than it waits for.",
        R::OnceCellInit => "Another task has begun to make the value and has not ended.",
        R::SetOnceWait => "Nobody has set the value.",
        R::Join => "It waits for the task named above, which has not ended.",
        R::ScopeEnd => "It waits for the children of its scope.",
        R::Cancelled => "It waits to be cancelled.",
        R::SpawnWhenFree => "No child of that scope has made room.",
        R::NextChild => "It waits for a child of its scope to end.",
        R::JoinSetNext => "No task of that set has ended.",
        R::Interval => "A ticker goes on until its loop ends: nothing ends this loop.",
        R::TcpRead => "The peer keeps the connection open and sends nothing.",
        R::TcpWrite => "The peer keeps the connection open and does not read.",
        R::TcpAccept => "A listener waits for connections until its task is ended.",
        _ => match wait.reason.ended_by() {
            EndedBy::World => "The outside world can still end this wait.",
            EndedBy::Task => "Only another task can end this wait.",
            EndedBy::Cancellation => "Only a cancellation can end this wait.",
        },
    }
}

fn kind(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Async => "task",
        TaskKind::Main => "main task",
        TaskKind::Blocking => "blocking call",
    }
}

fn object_name(wait: &WaitInfo) -> &'static str {
    use super::snapshot::WaitReason as R;
    match wait.reason {
        R::OneshotRecv | R::OneshotClosed | R::MpscRecv | R::MpscSend | R::MpscReserve | R::MpscClosed => {
            "channel"
        }
        R::WatchChanged | R::WatchWaitFor | R::WatchClosed | R::BroadcastRecv | R::BroadcastClosed => {
            "channel"
        }
        R::MutexLock => "mutex",
        R::RwLockRead | R::RwLockWrite => "lock",
        R::SemaphoreAcquire => "semaphore",
        R::Notified => "notify",
        R::BarrierWait => "barrier",
        R::OnceCellInit | R::SetOnceWait => "cell",
        R::JoinSetNext => "set",
        R::TcpAccept => "listener",
        R::TcpConnect | R::TcpRead | R::TcpWrite => "stream",
        _ => "object",
    }
}

/// A message of the program's own, which may have anything in it: its lines are set in, so that none looks like one of the report's, and what
/// a terminal would obey is spelled out.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\n       "),
            '\t' => plain.push(c),
            c if c.is_control() => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    plain
}

/// The crate a source file belongs to, if it lies in cargo's registry: `.../registry/src/INDEX/hyper-1.12.0/src/lib.rs`.
fn library(file: &str) -> Option<&str> {
    let rest = file.split_once("/registry/src/")?.1;
    let folder = rest.split('/').nth(1)?;
    Some(folder.rsplit_once('-').map_or(folder, |(name, _version)| name))
}

/// `1 poll`, `2 polls`.
fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {many}", thousands(n)) }
}

/// `41,204`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `41 s`, `2.9 s`, `310 ms`.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 10.0 {
        format!("{} s", thousands(seconds.round() as u64))
    } else if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} ms", duration.as_millis())
    }
}

/// `512 B`, `1.2 MiB`.
fn bytes(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(41_204), "41,204");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(duration(Duration::from_millis(310)), "310 ms");
        assert_eq!(duration(Duration::from_millis(2_940)), "2.9 s");
        assert_eq!(duration(Duration::from_millis(41_300)), "41 s");
        assert_eq!(bytes(1_258_291), "1.2 MiB");
    }

    #[test]
    fn messages_stay_within_their_entry() {
        assert_eq!(plain("left: 1\n\tright: \"2\" é"), "left: 1\n       \tright: \"2\" é");
        assert_eq!(plain("\u{1b}[2J\r\0\u{85}"), "\\u{1b}[2J\\r\\u{0}\\u{85}");
    }

    #[test]
    fn a_library_is_known_by_its_place_in_the_registry() {
        let file = "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/hyper-1.12.0/src/x.rs";
        assert_eq!(library(file), Some("hyper"));
        assert_eq!(library("src/main.rs"), None);
    }
}
