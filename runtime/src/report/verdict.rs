//! From a snapshot to verdicts: a pure function, no runtime and no clock.
//!
//! | verdict | said when | on which occasion |
//! |---|---|---|
//! | PROVEN unwakeable | one load of the task's word said that no waker exists | all |
//! | PROVEN stuck | it waits only for itself, or for tasks that can make no progress: joins and scope ends; see `report/proof.rs` | all |
//! | DEADLOCKED | the same with locks on the way, held as recorded | all |
//! | HELD OPEN | its scope's body has ended and the scope waits for it | at an end |
//! | OUTLIVED | it is alive when main's body has returned or the test has ended | at an end |
//! | UNRESPONSIVE | it was cancelled, the grace is over, and it is still there | after an end |
//! | SUSPECT | nothing can run any more; or it is parked far longer than its spawn site's tasks are; or, for a while, on a channel whose known users can make no progress | before an end |
//!
//! A live look accuses nobody but those it can prove; suspects are named, and not counted as leaked.
//!
//! *Proven* is not said of a task that something without a waker may still move: one under an armed deadline, its own or
//! one further out, and one in whose body a scope is open that ends the body when a child fails. Daemons and cleanups, and
//! what is below them, are not leaks at an end: their scopes see to them.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::proof::{self, Proof, Stuck, Trust};
use super::snapshot::{
    Incident, IncidentKind, LastWaker, Phase, ScopeInfo, ScopeKind, Site, SiteParks, Snapshot, TaskInfo,
    TaskKind, WaitObject, WaitReason,
};
use super::suspect::{self, Suspicion};

/// When a snapshot is judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Occasion {
    /// While the runtime runs.
    Live,
    /// After main's body has returned.
    Shutdown,
    /// After a test's body has returned.
    TestEnd,
    /// When nothing has been able to run for a while: see [`Snapshot::is_quiescent`].
    Quiescent,
}

impl Occasion {
    /// What is alive by now is a leak.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Occasion::Shutdown | Occasion::TestEnd)
    }
}

/// What a report says of a task; the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// No waker exists: only cancellation can end it.
    ProvenUnwakeable,
    /// It waits only for tasks that can make no progress either, and every wait on the way is exact: joins and scope ends.
    ProvenStuck,
    /// The same with locks on the way, held as recorded: true unless a guard or a permit was moved to another task or thread,
    /// or somebody adds permits to a semaphore.
    Deadlocked,
    /// A scope's end waits for it.
    HeldOpen,
    /// It is alive although its bound has ended.
    Outlived,
    /// It was cancelled and has not ended.
    Unresponsive,
    /// Something speaks against it, and it is no proof: see [`Finding::suspicion`].
    Suspect,
}

impl Verdict {
    /// The verdict as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::ProvenUnwakeable => "PROVEN unwakeable",
            Verdict::ProvenStuck => "PROVEN stuck",
            Verdict::Deadlocked => "DEADLOCKED",
            Verdict::HeldOpen => "HELD OPEN",
            Verdict::Outlived => "OUTLIVED",
            Verdict::Unresponsive => "UNRESPONSIVE",
            Verdict::Suspect => "SUSPECT",
        }
    }
}

/// One scope on the way up from a task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathScope {
    /// The scope's id.
    pub id: u64,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was opened; `None` for the root.
    pub opened_at: Option<Site>,
    /// The task that it lives in.
    pub owner: Option<u64>,
}

/// Tasks alike: same spawn site, name, waits and verdict.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The verdict on each of them.
    pub verdict: Verdict,
    /// The one that lived longest stands for all.
    pub task: TaskInfo,
    /// The scopes around it, innermost first; the root is last. Long paths are cut in the middle: see `path_cut`.
    pub path: Vec<PathScope>,
    /// How many scopes were left out of the path, behind its third.
    pub path_cut: usize,
    /// All their ids, in order.
    pub ids: Vec<u64>,
    /// Their allocations together, in bytes.
    pub bytes: usize,
    /// The same for the same leak in every run: a hash over spawn site, wait sites and verdict.
    pub leak_id: String,
    /// Time until a deadline cancels it, its scope's or one further out.
    pub deadline: Option<Duration>,
    /// If they are knots: the other tasks of the first of them, each with its path as above.
    pub knot: Vec<Member>,
    /// How many knots alike; 0 if these are no knots.
    pub knots: usize,
    /// For a task that waits for stuck ones and is in no knot: the way to the one that is to blame, that one last.
    pub waits_for: Vec<u64>,
    /// Why it is suspected, if that is the verdict; or what else speaks against it.
    pub suspicion: Option<Suspicion>,
}

/// A task in a knot.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// The task.
    pub task: TaskInfo,
    /// The scopes around it, as in [`Finding::path`].
    pub path: Vec<PathScope>,
    /// As [`Finding::path_cut`].
    pub path_cut: usize,
}

/// What is left at an end, or proven in between. Plain data; [`Display`](std::fmt::Display) gives the text, [`to_json`](Report::to_json)
/// the JSON.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// When the snapshot was taken.
    pub occasion: Occasion,
    /// The findings, the strongest verdict first.
    pub findings: Vec<Finding>,
    /// Tasks that ended since the start.
    pub finished: u64,
    /// Tasks that were spawned and had never parked: still in a run queue, or polled by a worker.
    pub newborn: u64,
    /// Time since the runtime's start.
    pub uptime: Duration,
    /// Parked tasks whose wait set was complete, and parked tasks.
    pub coverage: (u64, u64),
    /// What went wrong on the way; see [`Incident`].
    pub incidents: Vec<Incident>,
    /// What was judged.
    pub snapshot: Snapshot,
}

impl Report {
    /// How many tasks are leaked: each counts once, those that have never parked included. Suspects
    /// are not counted.
    pub fn leaked(&self) -> u64 {
        let leaks = self.findings.iter().filter(|finding| finding.verdict != Verdict::Suspect);
        let mut ids: Vec<u64> = leaks.flat_map(|finding| finding.ids.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        let newborn = if self.occasion.is_end() { self.newborn } else { 0 };
        ids.len() as u64 + newborn
    }

    /// How many tasks are suspected.
    pub fn suspects(&self) -> u64 {
        let suspects = self.findings.iter().filter(|finding| finding.verdict == Verdict::Suspect);
        suspects.map(|finding| finding.ids.len() as u64).sum()
    }

    /// Nothing leaked, and no scope was forgotten.
    pub fn is_clean(&self) -> bool {
        self.leaked() == 0
            && !self.incidents.iter().any(|incident| incident.kind == IncidentKind::ScopeForgotten)
    }

    /// Nothing leaked, and nothing went wrong on the way.
    pub fn is_empty(&self) -> bool {
        self.leaked() == 0 && self.incidents.is_empty()
    }

    /// Adds who is still there after cancellation and grace.
    pub(crate) fn add_unresponsive(&mut self, after: &Snapshot) {
        let scopes = Scopes::new(after);
        let unresponsive: Vec<_> = after.tasks.iter().map(|task| (Verdict::Unresponsive, task)).collect();
        self.findings.extend(fold(&unresponsive, &scopes, &Proof::new()));
        self.newborn = self.newborn.min(after.newborn);
        self.incidents.clone_from(&after.incidents);
    }
}

/// Whether a parked task's wait set is complete: every waker of it belongs to a wait that was recorded.
pub(crate) fn is_complete(task: &TaskInfo) -> bool {
    let own_waits = task.waits.iter().filter(|wait| wait.own).count();
    !task.astray && task.foreign_wakers == 0 && task.own_wakers as usize == own_waits
}

/// Judges a snapshot.
pub fn judge(mut snapshot: Snapshot, occasion: Occasion) -> Report {
    // They are searched by id. One that was put together by hand may not be in order, or go round in circles.
    if !snapshot.tasks.is_sorted_by_key(|task| task.id) {
        snapshot.tasks.sort_unstable_by_key(|task| task.id);
    }
    snapshot.cut_circles();
    let scopes = Scopes::new(&snapshot);
    let proof = proof::prove(&snapshot);
    let verdicts: Vec<(Verdict, &TaskInfo)> = snapshot
        .tasks
        .iter()
        .filter_map(|task| Some((judge_task(task, occasion, &scopes, proof.get(&task.id))?, task)))
        .collect();
    let mut findings = fold(&verdicts, &scopes, &proof);
    findings.extend(suspects(&snapshot, occasion, &verdicts, &scopes, &proof));
    for finding in &mut findings {
        // Also of one that is alive past its end.
        if finding.suspicion.is_none() && finding.verdict >= Verdict::HeldOpen {
            finding.suspicion = suspect::channel_users(&finding.task, &snapshot, &proof);
        }
    }
    let parked = snapshot.tasks.iter().filter(|task| task.phase == Phase::Parked);
    let coverage = (parked.clone().filter(|task| is_complete(task)).count() as u64, parked.count() as u64);
    Report {
        occasion,
        findings,
        finished: snapshot.finished,
        newborn: snapshot.newborn,
        uptime: snapshot.uptime,
        coverage,
        incidents: snapshot.incidents.clone(),
        snapshot,
    }
}

/// What speaks against tasks that have no verdict: ranked, the longest park first.
fn suspects(
    snapshot: &Snapshot,
    occasion: Occasion,
    judged: &[(Verdict, &TaskInfo)],
    scopes: &Scopes<'_>,
    proof: &Proof,
) -> Vec<Finding> {
    if occasion.is_end() {
        return Vec::new();
    }
    let judged: HashSet<u64> = judged.iter().map(|(_, task)| task.id).collect();
    let sites: HashMap<Site, &SiteParks> =
        snapshot.sites.iter().map(|site| (site.spawned_at, site)).collect();
    let suspicion = |task: &TaskInfo| {
        let is_long = occasion != Occasion::Live
            || task.parked.is_some_and(|parked| parked >= suspect::CHANNEL_PARKED_MIN);
        let users = suspect::channel_users(task, snapshot, proof).filter(|_| is_long);
        users.or_else(|| match occasion {
            Occasion::Quiescent => Some(Suspicion::Quiescent),
            _ => suspect::long_park(task, &sites),
        })
    };
    let suspects: Vec<(Verdict, &TaskInfo)> = snapshot
        .tasks
        .iter()
        .filter(|task| !judged.contains(&task.id) && suspicion(task).is_some())
        .map(|task| (Verdict::Suspect, task))
        .collect();
    let mut findings = fold(&suspects, scopes, proof);
    for finding in &mut findings {
        finding.suspicion = suspicion(&finding.task);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.task.parked));
    findings
}

fn judge_task(
    task: &TaskInfo,
    occasion: Occasion,
    scopes: &Scopes<'_>,
    stuck: Option<&Stuck>,
) -> Option<Verdict> {
    let scope = scopes.get(task.scope);
    if occasion.is_end() && scopes.excused.contains(&task.scope) {
        return None;
    }
    // The flag alone would do; an entry that contradicts it is not believed.
    let parked = task.phase == Phase::Parked && task.own_wakers == 0 && task.foreign_wakers == 0;
    let may_go_on =
        scope.is_some_and(|scope| scope.deadline.is_some()) || scopes.may_end_body.contains(&task.id);
    if task.unwakeable && parked && !may_go_on {
        return Some(Verdict::ProvenUnwakeable);
    }
    match stuck.map(|stuck| stuck.trust) {
        Some(Trust::Exact) => return Some(Verdict::ProvenStuck),
        Some(Trust::Locks) => return Some(Verdict::Deadlocked),
        Some(Trust::Channels) | None => {}
    }
    if !occasion.is_end() || task.kind == TaskKind::Main {
        return None;
    }
    // The root scope closes with the runtime; that is what OUTLIVED says.
    let held = scope.is_some_and(|scope| scope.closing && scope.opened_at.is_some());
    Some(if held { Verdict::HeldOpen } else { Verdict::Outlived })
}

/// Scopes of a path that are kept at each end.
const PATH_ENDS: usize = 3;

/// The scopes of a snapshot, and how deep each lies: a path is cut without walking it.
struct Scopes<'a> {
    by_id: HashMap<u64, &'a ScopeInfo>,
    /// Scopes from the root down to each, and the outermost [`PATH_ENDS`] of them.
    depths: HashMap<u64, (usize, [u64; PATH_ENDS])>,
    /// Scopes of daemons and cleanups, and those below them.
    excused: HashSet<u64>,
    /// Tasks that have a scope open that may end its body without any waker.
    may_end_body: HashSet<u64>,
}

/// Whether a scope may come to drop its body although nothing wakes the body's task: when a child fails. If it has none, whoever has a
/// handle of it may spawn one.
pub(super) fn may_end_body(scope: &ScopeInfo) -> bool {
    !scope.closing && matches!(scope.kind, ScopeKind::Plain | ScopeKind::Try)
}

impl<'a> Scopes<'a> {
    fn new(snapshot: &'a Snapshot) -> Scopes<'a> {
        let by_id: HashMap<u64, &ScopeInfo> = snapshot.scopes.iter().map(|scope| (scope.id, scope)).collect();
        let mut depths: HashMap<u64, (usize, [u64; PATH_ENDS])> = HashMap::new();
        let mut excused = HashSet::new();
        let mut way = Vec::new();
        for scope in &snapshot.scopes {
            // Up to the first scope that is known already, then down again.
            let mut next = Some(scope.id);
            while let Some(id) = next.filter(|id| !depths.contains_key(id) && by_id.contains_key(id)) {
                way.push(id);
                next = by_id[&id].parent;
            }
            let (mut depth, mut outer) =
                next.and_then(|id| depths.get(&id).copied()).unwrap_or((0, [0; PATH_ENDS]));
            let mut is_excused = next.is_some_and(|id| excused.contains(&id));
            while let Some(id) = way.pop() {
                is_excused |= matches!(by_id[&id].kind, ScopeKind::Daemons | ScopeKind::Cleanups);
                if is_excused {
                    excused.insert(id);
                }
                if depth < PATH_ENDS {
                    outer[depth] = id;
                }
                depth += 1;
                depths.insert(id, (depth, outer));
            }
        }
        let may_end_body = by_id.values().filter(|scope| may_end_body(scope)).filter_map(|scope| scope.owner);
        let may_end_body = may_end_body.collect();
        Scopes { by_id, depths, excused, may_end_body }
    }

    fn get(&self, id: u64) -> Option<&'a ScopeInfo> {
        self.by_id.get(&id).copied()
    }

    /// The path up from a scope, and how many were cut out of its middle.
    fn path(&self, id: u64) -> (Vec<PathScope>, usize) {
        let (depth, outer) = self.depths.get(&id).copied().unwrap_or((0, [0; PATH_ENDS]));
        let cut = depth.saturating_sub(2 * PATH_ENDS);
        let mut ids = Vec::new();
        let mut next = Some(id);
        while let Some(scope) = next.and_then(|id| self.get(id)) {
            if cut > 0 && ids.len() == PATH_ENDS {
                ids.extend(outer.iter().rev());
                break;
            }
            ids.push(scope.id);
            next = scope.parent;
        }
        let path = ids.iter().filter_map(|&id| self.get(id)).map(|scope| PathScope {
            id: scope.id,
            name: scope.name.clone(),
            opened_at: scope.opened_at,
            owner: scope.owner,
        });
        (path.collect(), cut)
    }
}

/// What makes tasks alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    verdict: Verdict,
    spawned_at: Site,
    kind: TaskKind,
    name: Option<Box<str>>,
    waits: Vec<(WaitReason, Option<Site>, Site)>,
    last: Option<(u8, Option<Site>, Option<Site>)>,
    running: bool,
    shields: Vec<Site>,
    path: Vec<Option<Site>>,
}

fn alike(verdict: Verdict, task: &TaskInfo, path: &[PathScope]) -> Alike {
    Alike {
        verdict,
        spawned_at: task.spawned_at,
        kind: task.kind,
        name: task.name.clone(),
        waits: task
            .waits
            .iter()
            .map(|wait| {
                let created = match &wait.object {
                    WaitObject::Created(site) => Some(*site),
                    WaitObject::Lock(lock) => Some(lock.created),
                    WaitObject::Channel(channel) => Some(channel.created),
                    _ => None,
                };
                (wait.reason, created, wait.site)
            })
            .collect(),
        last: task.last_waker.as_deref().map(|last| match *last {
            LastWaker::NeverRegistered => (0, None, None),
            LastWaker::DroppedByTask { spawned_at, last_wait, .. } => (1, Some(spawned_at), last_wait),
            LastWaker::DroppedByThread => (2, None, None),
        }),
        running: task.phase == Phase::Running,
        shields: task.shields.iter().map(|shield| shield.site).collect(),
        path: path.iter().map(|scope| scope.opened_at).collect(),
    }
}

/// Tasks of a knot that a finding names; the others are counted.
const KNOT_MAX: usize = 16;
/// Tasks that the way to the one to blame names.
const WAY_MAX: usize = 8;

fn fold(verdicts: &[(Verdict, &TaskInfo)], scopes: &Scopes<'_>, proof: &Proof) -> Vec<Finding> {
    let mut findings: BTreeMap<Vec<Alike>, Finding> = BTreeMap::new();
    let mut knots: BTreeMap<u64, Vec<(Verdict, &TaskInfo)>> = BTreeMap::new();
    for &(verdict, task) in verdicts {
        let stuck = proof
            .get(&task.id)
            .filter(|_| matches!(verdict, Verdict::ProvenStuck | Verdict::Deadlocked | Verdict::Suspect));
        if let Some(knot) = stuck.and_then(|stuck| stuck.knot) {
            knots.entry(knot).or_default().push((verdict, task));
            continue;
        }
        let way = stuck.map(|stuck| way(stuck, proof)).unwrap_or_default();
        add(&mut findings, vec![(verdict, task)], scopes, 0, way);
    }
    for (_, tasks) in knots {
        add(&mut findings, tasks, scopes, 1, Vec::new());
    }
    // The strongest verdict first, and what is to blame before who waits for it.
    let mut findings: Vec<Finding> = findings.into_values().collect();
    findings.sort_by_key(|finding| (finding.verdict, !finding.waits_for.is_empty()));
    findings
}

/// From a victim to a knot, or to a task that nothing can wake.
fn way(from: &Stuck, proof: &Proof) -> Vec<u64> {
    let mut way = Vec::new();
    let mut next = from.waits_for.first();
    while let Some(id) = next.filter(|_| way.len() < WAY_MAX) {
        way.push(*id);
        next = proof.get(id).filter(|stuck| stuck.knot.is_none()).and_then(|stuck| stuck.waits_for.first());
    }
    way
}

/// Adds one task, or the tasks of one knot, to the finding of their like.
fn add(
    findings: &mut BTreeMap<Vec<Alike>, Finding>,
    tasks: Vec<(Verdict, &TaskInfo)>,
    scopes: &Scopes<'_>,
    knots: usize,
    waits_for: Vec<u64>,
) {
    let mut members: Vec<(Alike, Member)> = tasks
        .into_iter()
        .map(|(verdict, task)| {
            let (path, path_cut) = scopes.path(task.scope);
            (alike(verdict, task, &path), Member { task: task.clone(), path, path_cut })
        })
        .collect();
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    let ids: Vec<u64> = members.iter().map(|(_, member)| member.task.id).collect();
    let bytes: usize = members.iter().map(|(_, member)| member.task.bytes).sum();
    let (alike, mut members): (Vec<Alike>, Vec<Member>) = members.into_iter().unzip();
    if let Some(finding) = findings.get_mut(&alike) {
        finding.ids.extend(ids);
        finding.bytes += bytes;
        finding.knots += knots;
        if knots == 0 && members[0].task.lived > finding.task.lived {
            let Member { task, path, path_cut } = members.swap_remove(0);
            finding.deadline = scopes.get(task.scope).and_then(|scope| scope.deadline);
            (finding.task, finding.path, finding.path_cut) = (task, path, path_cut);
            finding.waits_for = waits_for;
        }
        return;
    }
    let leak_id = leak_id(&alike);
    let verdict = alike[0].verdict;
    let first = members.remove(0);
    members.truncate(KNOT_MAX - 1);
    let deadline = scopes.get(first.task.scope).and_then(|scope| scope.deadline);
    findings.insert(
        alike,
        Finding {
            verdict,
            task: first.task,
            path: first.path,
            path_cut: first.path_cut,
            ids,
            bytes,
            leak_id,
            deadline,
            knot: members,
            knots,
            waits_for,
            suspicion: None,
        },
    );
}

/// The sites of spawn and waits, and the verdict's name.
fn leak_id(alike: &[Alike]) -> String {
    let mut id = LeakId::new();
    for task in alike {
        id.add(task.verdict.name());
        id.add(&task.spawned_at.to_string());
        for (reason, _, site) in &task.waits {
            id.add(reason.name());
            id.add(&site.to_string());
        }
    }
    id.text()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; <http://www.isthe.com/chongo/tech/comp/fnv/>), over texts.
pub(super) struct LeakId(u64);

impl LeakId {
    pub(super) fn new() -> LeakId {
        LeakId(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}
