//! Programs that leak or deadlock as real ones do, each with its repair: what the report says of them, exactly.
//!
//! A program is one function; `p.leaks` says in which of its two versions it runs, so what differs is the repair. It brings its
//! tasks where they never come away from, by handshakes and never by sleeps, and returns. A row of the table says what the report
//! must find then, while the runtime lives and at its end: verdict, tasks, reasons of the waits, and words of the text. Lines are
//! marked in the source, `// spawn NAME` and `// wait NAME`, and compared with those that the report gives. Repaired, it leaves nobody.
//!
//! `leak_corpus.recall.md` is what the engine says of each pattern; `LEAKFREE_CORPUS_WRITE=1` writes it anew.
//! `LEAKFREE_CORPUS_ROUNDS` says how often each program runs, `LEAKFREE_CORPUS_ONLY` which.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::select;
use leakfree::net::{TcpListener, TcpStream};
use leakfree::report::snapshot::{Phase, Snapshot, TaskInfo};
use leakfree::report::verdict::{Finding, Report, Verdict};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree::time::{interval, sleep};
use leakfree::{JoinHandle, Scope, scope};
use leakfree_tests::corpus::{self, Body, Keep, Source, WORKERS, is_wanted, rounds, spawn, until_rest};
use leakfree_tests::until;

const SOURCE: Source = Source { file: file!(), text: include_str!("leak_corpus.rs") };

const HOUR: Duration = Duration::from_secs(3600);

/// What a program is given.
#[derive(Clone, Debug)]
struct Plot {
    /// The version that leaks; else the repaired one.
    leaks: bool,
    keep: Keep,
}

impl Plot {
    /// In the version that leaks something is kept for ever; in the repaired one it is dropped here.
    fn forget(&self, value: impl std::any::Any + Send) {
        if self.leaks {
            self.keep.keep(value);
        }
    }
}

/// One row of the table.
struct Program {
    /// Its function's name.
    name: &'static str,
    /// What goes wrong, for the table.
    pattern: &'static str,
    run: Box<dyn Fn(Plot) -> Body>,
    expected: Vec<Expected>,
}

/// One finding of the report at the end.
struct Expected {
    verdict: Verdict,
    /// `NAME [xN][: REASON [+ REASON]]`; several for a knot.
    tasks: &'static [&'static str],
    /// What its text must contain.
    words: &'static [&'static str],
    /// What a live look says.
    live: Option<Verdict>,
}

macro_rules! program {
    ($function:ident, $pattern:literal) => {
        Program {
            name: stringify!($function),
            pattern: $pattern,
            run: Box::new(|plot| Box::pin($function(plot))),
            expected: Vec::new(),
        }
    };
}

impl Program {
    fn expect(mut self, verdict: Verdict, tasks: &'static [&'static str], words: &'static [&'static str]) -> Program {
        let live = Some(verdict).filter(|verdict| *verdict <= Verdict::Deadlocked);
        self.expected.push(Expected { verdict, tasks, words, live });
        self
    }

    fn unwakeable(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::ProvenUnwakeable, task, words)
    }

    fn stuck(self, tasks: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::ProvenStuck, tasks, words)
    }

    fn deadlocked(self, tasks: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Deadlocked, tasks, words)
    }

    fn held_open(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::HeldOpen, task, words)
    }

    fn outlived(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Outlived, task, words)
    }

    fn unresponsive(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Unresponsive, task, words)
    }

    /// A live look suspects the last one.
    fn suspected(mut self) -> Program {
        self.expected.last_mut().unwrap().live = Some(Verdict::Suspect);
        self
    }

    /// Every task that is there at the end; who is unresponsive later is one of them.
    fn tasks(&self) -> Vec<Who> {
        let findings = self.expected.iter().filter(|expected| expected.verdict != Verdict::Unresponsive);
        findings.flat_map(|expected| expected.tasks).map(|text| Who::read(self.name, text)).collect()
    }
}

fn programs() -> Vec<Program> {
    vec![
        // ---- locks
        program!(ab_ba, "two locks, taken in opposite order")
            .deadlocked(&["first: Mutex::lock", "second: Mutex::lock"], &["knot of 2", "held by task", "no guard was moved"]),
        program!(philosophers, "a ring of locks, each holder waits for the next")
            .deadlocked(&["a: Mutex::lock", "b: Mutex::lock", "c: Mutex::lock"], &["knot of 3", "held by task"]),
        program!(double_lock, "a lock taken twice through a helper")
            .deadlocked(&["twice: Mutex::lock"], &["knot of 1", "it waits for what only itself could do"]),
        program!(guard_in_condition, "a guard that lives to the end of a `match`")
            .deadlocked(&["cache: Mutex::lock"], &["knot of 1", "it waits for what only itself could do"]),
        program!(read_read_write, "a second read behind a queued writer")
            .deadlocked(&["reader: RwLock::read", "writer: RwLock::write"], &["knot of 2", "locked "]),
        program!(upgrade, "a write lock asked for under a read lock")
            .deadlocked(&["upgrade: RwLock::write"], &["knot of 1", "held by task"]),
        program!(upgrade_duel, "two readers that both want to write")
            .deadlocked(&["left: RwLock::write", "right: RwLock::write"], &["knot of 2", "held by task"]),
        program!(lock_over_join, "a lock held over a join of a task that needs it")
            .deadlocked(&["holder: JoinHandle", "worker: Mutex::lock"], &["knot of 2", "held by task"]),
        program!(lock_over_scope, "a lock held over the end of a scope whose child needs it")
            .deadlocked(&["holder: scope end", "child: Mutex::lock"], &["knot of 2", "held by task"]),
        program!(lock_over_channel, "a lock held over a receive from who needs it")
            .outlived(&["holder: mpsc::Receiver::recv"], &["used last at", "which can make no progress either"])
            .suspected()
            .outlived(&["sender: Mutex::lock"], &["held by task"])
            .suspected(),
        program!(futurelock, "a lock's turn in a future that its task no longer polls")
            .deadlocked(&["futurelock: Mutex::lock"], &["knot of 1", "it waits for what only itself could do"]),
        program!(lock_of_the_dead, "a lock whose holder nobody can wake")
            .unwakeable(&["holder"], &["left none behind"])
            .deadlocked(&["waiter x2: Mutex::lock"], &["2 tasks alike", "it waits for task", "which can never go on"]),
        program!(pool_and_lock, "a permit and a lock, taken in opposite order")
            .deadlocked(&["query: Mutex::lock", "flush: Semaphore::acquire"], &["knot of 2", "nobody adds permits"]),
        // ---- tasks and scopes
        program!(join_cycle, "tasks that join each other")
            .stuck(&["a: JoinHandle", "b: JoinHandle"], &["knot of 2", "only tasks of the knot"]),
        program!(join_of_the_dead, "a join of a task that nobody can wake")
            .unwakeable(&["dead"], &["left none behind"])
            .stuck(&["joins: JoinHandle"], &["it waits for task", "which can never go on"]),
        program!(scope_and_uncle, "a child that joins who waits for its parent")
            .stuck(&["parent: scope end", "child: JoinHandle", "uncle: JoinHandle"], &["knot of 3"]),
    ]
}

// ---- locks --------------------------------------------------------------------------------------

async fn ab_ba(p: Plot) {
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    let (has_a, a_taken) = oneshot::channel();
    let (has_b, b_taken) = oneshot::channel();
    let first = async move {
        let _a = a.lock().await;
        has_a.send(()).unwrap();
        if p.leaks {
            b_taken.await.unwrap();
        }
        let _b = b.lock().await; // wait first
    };
    let second = async move {
        a_taken.await.unwrap();
        if p.leaks {
            let _b = b2.lock().await;
            has_b.send(()).unwrap();
            let _a = a2.lock().await; // wait second
        } else {
            let _a = a2.lock().await;
            let _b = b2.lock().await;
        }
    };
    spawn("first", first); // spawn first
    spawn("second", second); // spawn second
}

async fn philosophers(p: Plot) {
    let forks: [_; 3] = std::array::from_fn(|_| Arc::new(Mutex::new(())));
    let seated = Arc::new(Barrier::new(3));
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        let (mut one, mut other) = (place, (place + 1) % 3);
        if !p.leaks && other < one {
            (one, other) = (other, one);
        }
        let (one, other) = (Arc::clone(&forks[one]), Arc::clone(&forks[other]));
        let seated = Arc::clone(&seated);
        let eat = async move {
            let _one = one.lock().await;
            if p.leaks {
                seated.wait().await;
            }
            let _other = other.lock().await; // wait a // wait b // wait c
        };
        spawn(name, eat); // spawn a // spawn b // spawn c
    }
}

async fn double_lock(p: Plot) {
    async fn add(sum: &Mutex<u64>, n: u64) {
        *sum.lock().await += n;
    }
    let twice = async move {
        let sum = Mutex::new(1);
        let before = sum.lock().await;
        let n = *before;
        if p.leaks {
            let mut again = pin!(sum.lock()); // wait twice
            *(&mut again).await += n;
        }
        drop(before);
        add(&sum, n).await;
    };
    spawn("twice", twice); // spawn twice
}

async fn guard_in_condition(p: Plot) {
    let cache = Arc::new(Mutex::new(BTreeMap::<u32, u32>::new()));
    let look_up = async move {
        if p.leaks {
            // The guard of the condition lives on in the body.
            match cache.lock().await.get(&1) {
                Some(_) => {}
                None => drop(cache.lock().await.insert(1, 1)), // wait cache
            }
        } else {
            let found = cache.lock().await.get(&1).copied();
            if found.is_none() {
                cache.lock().await.insert(1, 1);
            }
        }
    };
    spawn("cache", look_up); // spawn cache
}

async fn read_read_write(p: Plot) {
    let lock = Arc::new(RwLock::new(0));
    let theirs = Arc::clone(&lock);
    let (has_read, first_read) = oneshot::channel();
    let (queued, is_queued) = oneshot::channel();
    let reader = async move {
        let once = lock.read().await;
        has_read.send(()).unwrap();
        is_queued.await.unwrap();
        if !p.leaks {
            drop(once);
        }
        let _twice = lock.read().await; // wait reader
    };
    let writer = async move {
        first_read.await.unwrap();
        let mut write = pin!(theirs.write()); // wait writer
        assert!(futures::poll!(&mut write).is_pending());
        queued.send(()).unwrap();
        *write.await += 1;
    };
    spawn("reader", reader); // spawn reader
    spawn("writer", writer); // spawn writer
}

async fn upgrade(p: Plot) {
    let upgrade = async move {
        let lock = RwLock::new(0);
        let read = lock.read().await;
        let next = *read + 1;
        if !p.leaks {
            drop(read);
        }
        *lock.write().await = next; // wait upgrade
    };
    spawn("upgrade", upgrade); // spawn upgrade
}

async fn upgrade_duel(p: Plot) {
    let lock = Arc::new(RwLock::new(0));
    let both = Arc::new(Barrier::new(2));
    for name in ["left", "right"] {
        let (lock, both) = (Arc::clone(&lock), Arc::clone(&both));
        let duel = async move {
            let read = lock.read().await;
            let next = *read + 1;
            both.wait().await;
            if !p.leaks {
                drop(read);
            }
            *lock.write().await = next; // wait left // wait right
        };
        spawn(name, duel); // spawn left // spawn right
    }
}

async fn lock_over_join(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let holder = async move {
        let guard = lock.lock().await;
        let theirs = Arc::clone(&lock);
        let work = async move { drop(theirs.lock().await) }; // wait worker
        let worker = spawn("worker", work); // spawn worker
        if !p.leaks {
            drop(guard);
        }
        let _ = worker.await; // wait holder
    };
    spawn("holder", holder); // spawn holder
}

async fn lock_over_scope(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let holder = async move {
        let mut guard = Some(lock.lock().await);
        let theirs = Arc::clone(&lock);
        let body = async |s: Scope| {
            let work = async move { drop(theirs.lock().await) }; // wait child
            s.task().name("child").spawn(work); // spawn child
            if !p.leaks {
                guard = None;
            }
        };
        scope(body).await; // wait holder
    };
    spawn("holder", holder); // spawn holder
}

async fn lock_over_channel(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (tx, mut rx) = mpsc::channel(8);
    let (go, gone) = oneshot::channel();
    let holder = async move {
        // One message is there before the lock is taken: the channel knows its sender.
        rx.recv().await.unwrap();
        let guard = lock.lock().await;
        go.send(()).unwrap();
        if !p.leaks {
            drop(guard);
        }
        rx.recv().await.unwrap(); // wait holder
    };
    let sender = async move {
        tx.send(1).await.unwrap();
        gone.await.unwrap();
        let _guard = theirs.lock().await; // wait sender
        tx.send(2).await.unwrap();
    };
    spawn("holder", holder); // spawn holder
    spawn("sender", sender); // spawn sender
}

async fn futurelock(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let guard = lock.lock().await;
    let theirs = Arc::clone(&lock);
    let (queued, is_queued) = oneshot::channel();
    let task = async move {
        let mut first = Some(Box::pin(theirs.lock()));
        assert!(futures::poll!(first.as_mut().unwrap()).is_pending());
        queued.send(()).unwrap();
        if !p.leaks {
            first = None;
        }
        // In line behind itself: when its turn comes it does not look.
        drop(theirs.lock().await); // wait futurelock
        drop(first);
    };
    spawn("futurelock", task); // spawn futurelock
    is_queued.await.unwrap();
    drop(guard);
}

async fn lock_of_the_dead(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    let holder = async move {
        let _guard = theirs.lock().await;
        has.send(()).unwrap();
        if p.leaks {
            pending::<()>().await;
        }
    };
    spawn("holder", holder); // spawn holder
    taken.await.unwrap();
    for _ in 0..2 {
        let lock = Arc::clone(&lock);
        let wait = async move { drop(lock.lock().await) }; // wait waiter
        spawn("waiter", wait); // spawn waiter
    }
}

async fn pool_and_lock(p: Plot) {
    let pool = Arc::new(Semaphore::new(1));
    let lock = Arc::new(Mutex::new(()));
    let (pool2, lock2) = (Arc::clone(&pool), Arc::clone(&lock));
    let both = Arc::new(Barrier::new(2));
    let both2 = Arc::clone(&both);
    let query = async move {
        let _connection = pool.acquire().await.unwrap();
        if p.leaks {
            both.wait().await;
        }
        let _lock = lock.lock().await; // wait query
    };
    let flush = async move {
        if p.leaks {
            let _lock = lock2.lock().await;
            both2.wait().await;
            let _connection = pool2.acquire().await.unwrap(); // wait flush
        } else {
            let _connection = pool2.acquire().await.unwrap();
            let _lock = lock2.lock().await;
        }
    };
    spawn("query", query); // spawn query
    spawn("flush", flush); // spawn flush
}

// ---- tasks and scopes ---------------------------------------------------------------------------

async fn join_cycle(p: Plot) {
    let (give_a, get_a) = oneshot::channel::<JoinHandle<()>>();
    let (give_b, get_b) = oneshot::channel::<JoinHandle<()>>();
    let join_b = async move {
        let b = get_b.await.unwrap();
        let _ = b.await; // wait a
    };
    let join_a = async move {
        let a = get_a.await.unwrap();
        if p.leaks {
            let _ = a.await; // wait b
        }
    };
    let a = spawn("a", join_b); // spawn a
    let b = spawn("b", join_a); // spawn b
    give_a.send(a).unwrap();
    give_b.send(b).unwrap();
}

async fn join_of_the_dead(p: Plot) {
    let dead = async move {
        if p.leaks {
            pending::<()>().await;
        }
    };
    let dead = spawn("dead", dead); // spawn dead
    let joins = async move { drop(dead.await) }; // wait joins
    spawn("joins", joins); // spawn joins
}

async fn scope_and_uncle(p: Plot) {
    let (give_uncle, get_uncle) = oneshot::channel::<JoinHandle<()>>();
    let (give_parent, get_parent) = oneshot::channel::<JoinHandle<()>>();
    let parent = async move {
        let body = async |s: Scope| {
            let child = async move {
                let uncle = get_uncle.await.unwrap();
                if p.leaks {
                    let _ = uncle.await; // wait child
                }
            };
            s.task().name("child").spawn(child); // spawn child
        };
        scope(body).await; // wait parent
    };
    let parent = spawn("parent", parent); // spawn parent
    let uncle = async move {
        let parent = get_parent.await.unwrap();
        let _ = parent.await; // wait uncle
    };
    let uncle = spawn("uncle", uncle); // spawn uncle
    give_uncle.send(uncle).unwrap();
    give_parent.send(parent).unwrap();
}

// ---- the harness --------------------------------------------------------------------------------

/// A task that a row names, and what a report must say of it.
#[derive(Clone, PartialEq, Debug)]
struct Who {
    name: &'static str,
    count: usize,
    /// It is not parked.
    running: bool,
    spawned: u32,
    /// Reasons and lines, in order.
    waits: Vec<(String, u32)>,
}

impl Who {
    /// `NAME [xN][: REASON [+ REASON]]`
    fn read(function: &str, text: &'static str) -> Who {
        let (head, reasons) = text.split_once(": ").map_or((text, None), |(head, rest)| (head, Some(rest)));
        let (name, count) = head.split_once(" x").map_or((head, 1), |(name, n)| (name, n.parse().unwrap()));
        let lines = |mark: &str| {
            let all = SOURCE.lines(function, &format!("{mark} {name}"));
            assert!(!all.is_empty(), "{function}: no line is marked `// {mark} {name}`");
            all
        };
        let running = reasons == Some("running");
        let reasons: Vec<&str> =
            reasons.filter(|_| !running).map(|text| text.split(" + ").collect()).unwrap_or_default();
        let mut waits: Vec<(String, u32)> = Vec::new();
        if !reasons.is_empty() {
            let lines = lines("wait");
            assert_eq!(lines.len(), reasons.len(), "{function}: a mark for each wait of {name}");
            waits = reasons.iter().map(|reason| (*reason).to_owned()).zip(lines).collect();
        }
        waits.sort();
        let [spawned] = lines("spawn")[..] else { panic!("{function}: {name} is spawned in one place") };
        Who { name, count, running, spawned, waits }
    }

    /// Whether a task is this one, where it should be.
    fn is(&self, task: &TaskInfo) -> bool {
        let mut waits: Vec<(String, u32)> = Vec::new();
        for wait in &task.waits {
            waits.push((wait.reason.name().to_owned(), wait.site.line));
        }
        waits.sort();
        let ours = task.waits.iter().all(|wait| wait.site.file == SOURCE.file);
        task.name.as_deref() == Some(self.name)
            && (task.spawned_at.file, task.spawned_at.line) == (SOURCE.file, self.spawned)
            && (task.phase == if self.running { Phase::Running } else { Phase::Parked })
            && ours
            && waits == self.waits
    }
}

/// Whether everybody is where the program wants them, and nobody else is there.
fn rests(snapshot: &Snapshot, tasks: &[Who]) -> bool {
    let all: usize = tasks.iter().map(|who| who.count).sum();
    snapshot.newborn == 0
        && snapshot.tasks.len() == all
        && tasks.iter().all(|who| snapshot.tasks.iter().filter(|task| who.is(task)).count() == who.count)
}

/// Whether a finding is about exactly these, with that verdict.
fn is_about(finding: &Finding, verdict: Verdict, tasks: &[Who]) -> bool {
    let named: Vec<&TaskInfo> =
        [&finding.task].into_iter().chain(finding.knot.iter().map(|member| &member.task)).collect();
    let all: usize = tasks.iter().map(|who| who.count).sum();
    let in_knot = verdict != Verdict::Suspect && tasks.len() > 1;
    finding.verdict == verdict
        && finding.ids.len() == all
        && named.len() == tasks.len()
        && (finding.knots > 0 || !in_knot)
        && tasks.iter().all(|who| named.iter().any(|task| who.is(task)))
}

/// The text of each finding of a report.
fn texts(report: &Report) -> Vec<String> {
    let text = report.to_string();
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(&format!("{}. ", texts.len() + 1)) {
            texts.push(String::new());
        }
        if let Some(text) = texts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    texts
}

/// Compares a report with what the row expects of it: all of that, and nothing else.
fn check(program: &Program, report: &Report, verdict: impl Fn(&Expected) -> Option<Verdict>, words: bool) -> Result<(), String> {
    let texts = texts(report);
    let mut left: Vec<usize> = (0..report.findings.len()).collect();
    for expected in &program.expected {
        let Some(verdict) = verdict(expected) else { continue };
        let tasks: Vec<Who> = expected.tasks.iter().map(|text| Who::read(program.name, text)).collect();
        let place = left.iter().position(|&at| is_about(&report.findings[at], verdict, &tasks));
        let Some(place) = place else {
            return Err(format!("{} of {tasks:?} is missing", verdict.name()));
        };
        let text = &texts[left.remove(place)];
        for word in expected.words.iter().filter(|_| words) {
            if !text.contains(word) {
                return Err(format!("{word:?} is not in the text of {:?}", expected.tasks));
            }
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("findings that nobody expected: {left:?}")),
    }
}

/// The strongest verdict on a live look, and at the end.
type Said = (Option<Verdict>, Option<Verdict>);

fn strongest(report: &Report) -> Option<Verdict> {
    report.findings.iter().map(|finding| finding.verdict).min()
}

fn run_leaking(program: &Program, workers: usize) -> Said {
    let (name, keep) = (program.name, Keep::default());
    let runtime = corpus::runtime(workers, false);
    runtime.block_on((program.run)(Plot { leaks: true, keep: keep.clone() }));
    let tasks = program.tasks();
    if let Err(snapshot) = until_rest(&runtime.handle(), |snapshot| rests(snapshot, &tasks)) {
        let handle = runtime.handle();
        panic!(
            "{name} on {workers} workers does not come where it should:\n{:#?}\nexpected {tasks:#?}\n{}",
            snapshot.tasks,
            handle.report()
        );
    }
    let live = runtime.handle().report();
    let end = runtime.shutdown();
    drop(keep);
    if let Err(wrong) = check(program, &live, |expected| expected.live, false) {
        panic!("{name} on {workers} workers, live: {wrong}\n{live}");
    }
    if let Err(wrong) = check(program, &end, |expected| Some(expected.verdict), true) {
        panic!("{name} on {workers} workers, at the end: {wrong}\n{end}");
    }
    let leaked: usize = tasks.iter().map(|who| who.count).sum();
    assert_eq!(end.leaked(), leaked as u64, "{name}: {end}");
    (strongest(&live), strongest(&end))
}

fn run_repaired(program: &Program, workers: usize) {
    let (name, keep) = (program.name, Keep::default());
    let runtime = corpus::runtime(workers, false);
    runtime.block_on((program.run)(Plot { leaks: false, keep: keep.clone() }));
    let gone = |snapshot: &Snapshot| snapshot.newborn == 0 && snapshot.tasks.is_empty();
    if until_rest(&runtime.handle(), gone).is_err() {
        panic!("{name}, repaired, on {workers} workers leaves\n{}", runtime.shutdown());
    }
    let live = runtime.handle().report();
    let end = runtime.shutdown();
    for report in [live, end] {
        assert!(report.is_empty() && report.findings.is_empty(), "{name}, repaired, on {workers}:\n{report}");
    }
}

fn run(program: &Program) -> Said {
    let mut said = None;
    for _ in 0..rounds(1) {
        for workers in WORKERS {
            let now = run_leaking(program, workers);
            assert_eq!(*said.get_or_insert(now), now, "{}: not always the same", program.name);
            run_repaired(program, workers);
        }
    }
    said.expect("one round or more")
}

#[test]
fn each_leak_is_found_and_each_repair_is_clean() {
    for program in programs().iter().filter(|program| is_wanted(program.name)) {
        let said = run(program);
        println!("{}: {said:?}", program.name);
    }
}
