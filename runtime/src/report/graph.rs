//! The tree and the wait-for graph in the forms that other tools read: folded stacks, DOT, and (in [`pprof`](super::pprof)) profiles.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use super::snapshot::{HolderInfo, ScopeInfo, Snapshot, TaskInfo, TaskKind, WaitInfo, WaitObject};
use super::verdict::{Report, Verdict};

/// Nodes of a drawing; what has more is not looked at, but searched.
const NODES_MAX: usize = 1000;

/// Frames of a stack that are kept at each end: of deep ones there are as many as they are deep.
const FRAMES_ENDS: usize = 64;

/// The verdicts of a report, by task.
pub(super) fn verdicts(report: &Report) -> HashMap<u64, Verdict> {
    let of = |finding: &super::verdict::Finding| {
        let verdict = finding.verdict;
        finding.ids.iter().map(move |&id| (id, verdict)).collect::<Vec<_>>()
    };
    // The strongest stands: findings are in that order.
    report.findings.iter().rev().flat_map(of).collect()
}

/// From each task to the root.
pub(super) struct Stacks<'a> {
    snapshot: &'a Snapshot,
    scopes: HashMap<u64, &'a ScopeInfo>,
}

impl<'a> Stacks<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Stacks<'a> {
        Stacks { snapshot, scopes: snapshot.scopes.iter().map(|scope| (scope.id, scope)).collect() }
    }

    /// What a task is parked in, its spawn, its scope, the task that this lives in, and so on: the innermost first.
    pub(super) fn frames(&self, task: &TaskInfo) -> Vec<Frame> {
        let mut levels = vec![Level::Task(task)];
        let mut next = self.scopes.get(&task.scope).copied();
        // A task is followed once: one scope of it may seem to be around another one's task.
        let mut seen = BTreeSet::from([task.id]);
        while let Some(scope) = next {
            if scope.opened_at.is_some() {
                levels.push(Level::Scope(scope));
            }
            let owner = scope.owner.filter(|owner| seen.insert(*owner));
            let parent = scope.parent.and_then(|parent| self.scopes.get(&parent).copied());
            if let Some(owner) = owner.and_then(|owner| self.snapshot.task(owner)) {
                // Scopes of one task lie in each other; the task comes after its outermost.
                if parent.is_none_or(|parent| parent.owner != scope.owner) {
                    levels.push(Level::Task(owner));
                }
            }
            next = parent;
        }
        let mut frames: Vec<Frame> = task.waits.first().map(Frame::wait).into_iter().collect();
        let cut = levels.len().saturating_sub(2 * FRAMES_ENDS);
        if cut > 0 {
            frames.extend(levels[..FRAMES_ENDS].iter().map(Level::frame));
            frames.push(Frame { name: "...".to_owned(), site: None });
            levels.drain(..FRAMES_ENDS + cut);
        }
        frames.extend(levels.iter().map(Level::frame));
        frames
    }
}

/// What a frame is made of.
enum Level<'a> {
    Task(&'a TaskInfo),
    Scope(&'a ScopeInfo),
}

impl Level<'_> {
    fn frame(&self) -> Frame {
        match self {
            Level::Task(task) => Frame::spawn(task),
            Level::Scope(scope) => {
                let name = scope.name.as_deref().map_or("scope".to_owned(), |name| format!("scope {name:?}"));
                Frame { name, site: scope.opened_at }
            }
        }
    }
}

/// One line of a stack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Frame {
    pub(super) name: String,
    pub(super) site: Option<super::snapshot::Site>,
}

impl Frame {
    fn wait(wait: &WaitInfo) -> Frame {
        let name = match wait.object {
            WaitObject::Label(label) => format!("waiting {label:?}"),
            _ => wait.reason.name().to_owned(),
        };
        Frame { name, site: Some(wait.site) }
    }

    fn spawn(task: &TaskInfo) -> Frame {
        let kind = match task.kind {
            TaskKind::Main => "main",
            TaskKind::Async => "task",
            TaskKind::Blocking => "blocking call",
        };
        let name = task.name.as_deref().map_or(kind.to_owned(), |name| format!("{kind} {name:?}"));
        Frame { name, site: Some(task.spawned_at) }
    }

    /// Name and place, in one line.
    pub(super) fn text(&self) -> String {
        let site = self.site.map(|site| format!(" {site}")).unwrap_or_default();
        format!("{}{site}", self.name)
    }
}

impl Report {
    /// Every live task as a folded stack, for flame graph tools: the outermost scope first, then task by task, the wait on top; and how many
    /// tasks are there.
    ///
    /// ```text
    /// main src/main.rs:3:1;scope "db" src/main.rs:19:5;task src/db.rs:44:7;Mutex::lock src/db.rs:61:24 12
    /// ```
    pub fn to_folded(&self) -> String {
        let stacks = Stacks::new(&self.snapshot);
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for task in &self.snapshot.tasks {
            let frames = stacks.frames(task);
            // The two characters that mean something in the format.
            let lines = frames.iter().rev().map(|frame| frame.text().replace(';', ",").replace('\n', " "));
            *counts.entry(lines.collect::<Vec<_>>().join(";")).or_default() += 1;
        }
        counts.into_iter().fold(String::new(), |mut text, (stack, n)| {
            let _ = writeln!(text, "{stack} {n}");
            text
        })
    }

    /// Who waits for whom, as a graph in the DOT language of Graphviz: tasks that wait for other tasks, and those that they wait for. Of more than
    /// a thousand, those with the strongest verdicts are drawn, and a note says how many are not.
    pub fn to_dot(&self) -> String {
        let mut children: HashMap<u64, Vec<u64>> = HashMap::new();
        for task in &self.snapshot.tasks {
            children.entry(task.scope).or_default().push(task.id);
        }
        let mut edges = Vec::new();
        for task in &self.snapshot.tasks {
            for wait in &task.waits {
                let label = format!("{}\n{}", wait.reason.name(), wait.site);
                match &wait.object {
                    WaitObject::Task(id) => edges.push((task.id, *id, label)),
                    WaitObject::Scope(id) => {
                        let children = children.get(id).into_iter().flatten();
                        edges.extend(children.map(|&child| (task.id, child, label.clone())));
                    }
                    WaitObject::Lock(lock) => {
                        edges.extend(lock.holders.iter().filter_map(|holder| match holder {
                            HolderInfo::Task { id, site } | HolderInfo::Owned { id, site } => {
                                Some((task.id, *id, format!("{label}\nlocked {site}")))
                            }
                            HolderInfo::Unknown => None,
                        }));
                    }
                    _ => {}
                }
            }
        }
        let verdicts = verdicts(self);
        let ids: BTreeSet<u64> = edges.iter().flat_map(|&(from, to, _)| [from, to]).collect();
        let mut nodes: Vec<&TaskInfo> = ids.iter().filter_map(|&id| self.snapshot.task(id)).collect();
        let left_out = nodes.len().saturating_sub(NODES_MAX);
        nodes.sort_by_key(|task| (verdicts.get(&task.id).copied().unwrap_or(Verdict::Suspect), task.id));
        nodes.truncate(NODES_MAX);
        let drawn: BTreeSet<u64> = nodes.iter().map(|task| task.id).collect();

        let mut dot = String::from("digraph leakfree {\n  node [shape=box fontname=monospace];\n");
        for task in nodes {
            let mut label = format!("{} {}", Frame::spawn(task).name, task.id);
            let _ = write!(label, "\n{}", task.spawned_at);
            let color = match verdicts.get(&task.id) {
                None => "",
                Some(verdict) => {
                    let _ = write!(label, "\n{}", verdict.name());
                    match verdict {
                        Verdict::ProvenUnwakeable | Verdict::ProvenStuck | Verdict::Deadlocked => {
                            " color=red"
                        }
                        _ => " color=orange",
                    }
                }
            };
            let _ = writeln!(dot, "  t{} [label={}{color}];", task.id, quoted(&label));
        }
        for (from, to, label) in
            edges.iter().filter(|(from, to, _)| drawn.contains(from) && drawn.contains(to))
        {
            let _ = writeln!(dot, "  t{from} -> t{to} [label={}];", quoted(label));
        }
        if left_out > 0 {
            let _ = writeln!(dot, "  note [shape=note label=\"{left_out} more tasks are not drawn\"];");
        }
        dot.push_str("}\n");
        dot
    }
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}
