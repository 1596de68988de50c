//! Random structured programs against a model.
//!
//! A program is a tree of scopes and tasks that yield, sleep, wait for each other, cancel, fail, and lose scopes
//! in every way. What it does is noted in a record with one order for all events; when it is over, a model that
//! knows nothing of timing says what the record must not show: a task that ends twice or never, that outlives its
//! bound, that was cancelled though nobody asked for it, a lost value, a cleanup that did not run.
//!
//! `LEAKFREE_PROGRAMS=n` runs n programs; `LEAKFREE_SEED=s` runs the one of that seed, as often as
//! `LEAKFREE_PROGRAMS` says (1000 times).
//!
//! In simulation a seed is a program and its schedule: what fails fails again, in the same steps, with `LEAKFREE_SEED=s cargo test
//! -p leakfree-tests --test programs simulation`.
//!
//! A program that fails is shrunk to one that is small and still fails.

use std::fmt::Write as _;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, select};
use leakfree::report::snapshot::{IncidentKind, ScopeInfo, ScopeKind};
use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle, Runtime};
use leakfree::sync::oneshot;
use leakfree::testing::{Event, Trace, run_until_stalled};
use leakfree::time::Instant;
use leakfree::{JoinHandle, Scope, ScopeFailure, TryHandle};

const PROGRAMS: u64 = 10_000;
/// The same, in simulation.
const SIMULATED: u64 = 3_000;
const WORKERS: [usize; 3] = [1, 2, 8];
/// Programs that share a runtime.
const BATCH: u64 = 250;
/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const CHANNELS: usize = 3;
/// In simulation: more time, and more steps, than any program takes.
const DAY: Duration = Duration::from_secs(24 * 3600);
const STEPS_MAX: u64 = 1_000_000;

// ---- programs -----------------------------------------------------------------------------------

type Id = usize;
type Block = Vec<Step>;

#[derive(Clone, Debug)]
enum Step {
    Yield(u8),
    /// Milliseconds of a paused clock; elsewhere so many yields.
    Sleep(u8),
    /// `up`: into which of the scopes whose handles the code has, counted from the innermost.
    Spawn {
        id: Id,
        kind: SpawnKind,
        up: usize,
        body: Block,
    },
    Await(Id),
    /// Nobody else gets at the handle meanwhile.
    AwaitAlone(Id),
    DropHandle(Id),
    Abort(Id),
    Cancel {
        up: usize,
    },
    Panic,
    Error,
    Scope {
        id: Id,
        kind: Kind,
        options: Options,
        how: How,
        body: Block,
    },
    Shield(Block),
    Defer {
        id: Id,
        yields: u8,
        end: GuardEnd,
        body: Block,
    },
    OnCancel {
        id: Id,
        end: GuardEnd,
        body: Block,
    },
    Send(Id),
    Receive(Id),
    /// For ever: on a oneshot whose sender is kept, or on nothing at all.
    Park {
        kept: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum SpawnKind {
    Plain,
    Try,
    Daemon,
    Root,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Plain,
    Try,
    Supervisor,
}

#[derive(Clone, Copy, Default, Debug)]
struct Options {
    grace_ms: Option<u64>,
    deadline_ms: Option<u64>,
    most: Option<usize>,
}

/// What becomes of a scope's future.
#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Await,
    /// Polled so often, a yield apart, then dropped.
    Drop {
        polls: u8,
    },
    Timeout {
        ms: u64,
    },
    /// Polled once, then neither polled nor dropped.
    Forget,
    /// Polled once, then moved into a new task.
    Move {
        task: Id,
        up: usize,
        root: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum GuardEnd {
    /// A cleanup is awaited, an `on_cancel` runs.
    Run,
    Disarm,
    Drop,
}

#[derive(Clone, Debug)]
struct Program {
    seed: u64,
    /// Ends by itself: nobody cancels it from outside.
    finite: bool,
    /// The outermost cancel comes after so many yields; `None`: when nothing moves any more.
    patience: Option<u8>,
    tasks: usize,
    scopes: usize,
    guards: usize,
    body: Block,
}

// ---- generator ----------------------------------------------------------------------------------

/// Steele, Lea and Flood's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn some<T>(&mut self, one_in: usize, f: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.one_in(one_in).then(|| f(self))
    }
}

struct Generator {
    random: Random,
    tasks: usize,
    scopes: usize,
    guards: usize,
    most_tasks: usize,
    steps: usize,
}

/// Where a block is.
#[derive(Clone, Copy)]
struct At {
    depth: usize,
    /// Must end by itself: it is behind a shield, where no cancel comes.
    finite: bool,
    /// It is the body of a scope, which may wait for its children.
    body: bool,
    /// In the body of a scope that is forgotten. A shield that is forgotten with it is pending for ever, and holds
    /// off the drop of its task for ever: such a task is UNRESPONSIVE by right.
    forgotten: bool,
}

impl Generator {
    fn program(seed: u64) -> Program {
        let mut random = Random(seed);
        let finite = random.one_in(3);
        let patience = random.some(3, |r| r.below(40) as u8);
        let most_tasks = 1 + random.below(25);
        // Task 0 is the whole program, scope 0 the one around it.
        let mut this = Generator { random, tasks: 1, scopes: 1, guards: 0, most_tasks, steps: 120 };
        let body = this.block(At { depth: 0, finite, body: false, forgotten: false });
        let Generator { tasks, scopes, guards, .. } = this;
        Program { seed, finite, patience, tasks, scopes, guards, body }
    }

    fn block(&mut self, at: At) -> Block {
        let least = if at.depth < 2 { 2 } else { 0 };
        let length = least + self.random.below(5);
        let mut own = Vec::new();
        let mut block = Vec::new();
        for _ in 0..length {
            if self.steps == 0 {
                break;
            }
            self.steps -= 1;
            let step = self.step(at, &mut own);
            let last = matches!(step, Step::Panic | Step::Error | Step::Park { .. });
            block.push(step);
            if last {
                break;
            }
        }
        block
    }

    fn step(&mut self, at: At, own: &mut Vec<Id>) -> Step {
        let inner = At { depth: at.depth + 1, ..at };
        let deep = at.depth > 6;
        loop {
            return match self.random.below(40) {
                0..=3 => Step::Yield(1 + self.random.below(4) as u8),
                4 | 5 => Step::Sleep(self.random.below(8) as u8),
                6..=14 if !deep && self.tasks < self.most_tasks => {
                    let id = self.task();
                    let kind = match self.random.below(10) {
                        0..=4 => SpawnKind::Plain,
                        5..=7 => SpawnKind::Try,
                        8 => SpawnKind::Daemon,
                        _ => SpawnKind::Root,
                    };
                    let up = self.up(at);
                    if kind != SpawnKind::Root && up == 0 {
                        own.push(id);
                    }
                    Step::Spawn {
                        id,
                        kind,
                        up,
                        body: self.block(At { body: false, forgotten: false, ..inner }),
                    }
                }
                15..=17 => match self.other(at, own) {
                    Some(id) if at.finite && at.body => Step::AwaitAlone(id),
                    Some(id) if !at.finite => Step::Await(id),
                    _ => continue,
                },
                18 => match self.other(at, own) {
                    Some(id) => Step::DropHandle(id),
                    None => continue,
                },
                19 => Step::Abort(self.random.below(self.tasks)),
                20 => Step::Cancel { up: self.random.below(4) },
                21 if self.random.one_in(2) => Step::Panic,
                22 if self.random.one_in(2) => Step::Error,
                23..=28 if !deep => self.scope(at, inner),
                29 if !at.forgotten => Step::Shield(self.block(At { finite: true, body: false, ..inner })),
                30 | 31 => Step::Defer {
                    id: self.guard(),
                    yields: self.random.below(4) as u8,
                    end: self.guard_end(),
                    body: self.block(inner),
                },
                32 => Step::OnCancel { id: self.guard(), end: self.guard_end(), body: self.block(inner) },
                33 | 34 => Step::Send(self.random.below(CHANNELS)),
                35 | 36 if !at.finite => Step::Receive(self.random.below(CHANNELS)),
                37 | 38 if !at.finite => Step::Park { kept: self.random.one_in(2) },
                _ => continue,
            };
        }
    }

    fn scope(&mut self, at: At, inner: At) -> Step {
        let id = self.scopes;
        self.scopes += 1;
        let kind = match self.random.below(5) {
            0 | 1 => Kind::Plain,
            2 | 3 => Kind::Try,
            _ => Kind::Supervisor,
        };
        let options = Options {
            grace_ms: self.random.some(5, |r| r.below(4) as u64),
            deadline_ms: self.random.some(7, |r| r.below(6) as u64),
            most: self.random.some(5, |r| 1 + r.below(3)),
        };
        let how = match self.random.below(12) {
            0 => How::Drop { polls: 1 + self.random.below(3) as u8 },
            1 => How::Timeout { ms: self.random.below(4) as u64 },
            2 => How::Forget,
            3 if !at.finite => {
                How::Move { task: self.task(), up: self.random.below(3), root: self.random.one_in(3) }
            }
            _ => How::Await,
        };
        Step::Scope {
            id,
            kind,
            options,
            how,
            body: self.block(At { body: true, forgotten: at.forgotten || how == How::Forget, ..inner }),
        }
    }

    fn task(&mut self) -> Id {
        self.tasks += 1;
        self.tasks - 1
    }

    fn guard(&mut self) -> Id {
        self.guards += 1;
        self.guards - 1
    }

    fn guard_end(&mut self) -> GuardEnd {
        [GuardEnd::Run, GuardEnd::Disarm, GuardEnd::Drop][self.random.below(3)]
    }

    fn up(&mut self, at: At) -> usize {
        // What must end by itself does not spawn what need not.
        if at.finite || !self.random.one_in(4) { 0 } else { self.random.below(4) }
    }

    /// Whose handle to use: anybody's, but only its own where it must not hang.
    fn other(&mut self, at: At, own: &[Id]) -> Option<Id> {
        if (at.finite || self.random.one_in(2)) && !own.is_empty() {
            Some(own[self.random.below(own.len())])
        } else if at.finite {
            None
        } else {
            Some(self.random.below(self.tasks))
        }
    }
}

// ---- the record ---------------------------------------------------------------------------------

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that is counted while it lives.
struct Token(Arc<AtomicI64>);

impl Token {
    fn new(live: &Arc<AtomicI64>) -> Token {
        live.fetch_add(1, SeqCst);
        Token(Arc::clone(live))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// An event's number. All events of a program have one order.
type Seq = u64;

/// The life of a future of ours: a task, a scope's body, a cleanup.
#[derive(Default, Debug)]
struct Life {
    polls: u64,
    /// It was ready; with an error, or not.
    ready: Option<(Seq, bool)>,
    /// It panicked; in whose words.
    panicked: Option<(Seq, String)>,
    /// Its drop has begun.
    dropping: Option<(Seq, Instant)>,
    /// Its drop is over.
    end: Option<Seq>,
    drops: u32,
}

impl Life {
    /// Dropped before it had ended by itself.
    fn is_cut(&self) -> bool {
        self.dropping.is_some() && self.ready.is_none() && self.panicked.is_none()
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Joined {
    Value,
    Cancelled,
    Panicked,
}

#[derive(Default, Debug)]
struct TaskRecord {
    life: Life,
    spawned: Option<Seq>,
    spawn_returned: Option<Seq>,
    /// The scope that it was spawned into; `None`: the root.
    scope: Option<Id>,
    daemon: bool,
    /// Its error ends the scope.
    is_try: bool,
    aborted: Option<Seq>,
    joined: Vec<(Seq, Joined)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum ScopeEnd {
    Value,
    Errors(usize),
    Cancelled,
    Panicked,
}

#[derive(Default, Debug)]
struct ScopeRecord {
    body: Life,
    kind: Option<Kind>,
    deadline_ms: Option<u64>,
    how: Option<How>,
    /// The future's first poll is about to come.
    opened: Option<(Seq, Instant)>,
    /// The timeout around it is about to be made: its time begins before the scope's.
    timed: Option<Instant>,
    /// The tasks that polled it, one after the other, and the scope of the same task around it.
    hosts: Vec<Id>,
    around: Option<Id>,
    /// Opened behind a shield.
    sealed: bool,
    cancelled: Option<Seq>,
    /// The future was dropped before its end; noted before it was.
    dropped: Option<(Seq, Instant)>,
    /// The future was ready, or panicked.
    end: Option<(Seq, ScopeEnd)>,
}

#[derive(Default, Debug)]
struct GuardRecord {
    made: bool,
    /// In a body that is forgotten, it need not run.
    forgotten: bool,
    disarmed: bool,
    begun: u32,
    ran: u32,
    /// A cleanup's future.
    life: Life,
    /// The scope, or else the task, that made it.
    around: Option<Id>,
    task: Id,
}

#[derive(Default)]
struct Channel {
    sender: Mutex<Option<oneshot::Sender<Token>>>,
    receiver: Mutex<Option<oneshot::Receiver<Token>>>,
    delivered: AtomicU64,
    received: AtomicU64,
}

enum AnyHandle {
    Join(JoinHandle<Token>),
    Try(TryHandle<Token>),
}

type Forgotten = Arc<Mutex<Vec<Pin<Box<ScopeRun>>>>>;

struct World {
    seq: AtomicU64,
    paused: bool,
    /// Values that live: results, and what was sent.
    live: Arc<AtomicI64>,
    errors: Arc<AtomicI64>,
    tasks: Vec<Mutex<TaskRecord>>,
    handles: Vec<Mutex<Option<AnyHandle>>>,
    /// Handles that somebody waits for alone.
    claimed: Vec<AtomicBool>,
    scopes: Vec<Mutex<ScopeRecord>>,
    guards: Vec<Mutex<GuardRecord>>,
    channels: Vec<Channel>,
    /// `None`: they are forgotten for good.
    forgotten: Option<Forgotten>,
    wrong: Mutex<Vec<String>>,
}

impl World {
    fn new(program: &Program, paused: bool, forgotten: Option<Forgotten>) -> Arc<World> {
        let channel = |_| {
            let (sender, receiver) = oneshot::channel();
            Channel {
                sender: Mutex::new(Some(sender)),
                receiver: Mutex::new(Some(receiver)),
                ..Channel::default()
            }
        };
        Arc::new(World {
            seq: AtomicU64::new(1),
            paused,
            live: Arc::default(),
            errors: Arc::default(),
            tasks: (0..program.tasks).map(|_| Mutex::default()).collect(),
            handles: (0..program.tasks).map(|_| Mutex::default()).collect(),
            claimed: (0..program.tasks).map(|_| AtomicBool::default()).collect(),
            scopes: (0..program.scopes).map(|_| Mutex::default()).collect(),
            guards: (0..program.guards).map(|_| Mutex::default()).collect(),
            channels: (0..CHANNELS).map(channel).collect(),
            forgotten,
            wrong: Mutex::default(),
        })
    }

    fn now(&self) -> Seq {
        self.seq.fetch_add(1, SeqCst)
    }

    fn wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    fn task(&self, id: Id) -> MutexGuard<'_, TaskRecord> {
        lock(&self.tasks[id])
    }

    fn scope(&self, id: Id) -> MutexGuard<'_, ScopeRecord> {
        lock(&self.scopes[id])
    }

    fn life<T>(&self, who: Who, f: impl FnOnce(&mut Life) -> T) -> T {
        match who {
            Who::Task(id) => f(&mut self.task(id).life),
            Who::Body(id) => f(&mut self.scope(id).body),
            Who::Cleanup(id) => f(&mut lock(&self.guards[id]).life),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Who {
    Task(Id),
    Body(Id),
    Cleanup(Id),
}

// ---- the futures --------------------------------------------------------------------------------

type Run = Pin<Box<dyn Future<Output = Result<(), Token>> + Send>>;

/// Notes a future's life.
struct Tracked<T> {
    world: Arc<World>,
    who: Who,
    run: Option<Run>,
    map: fn(&World, Result<(), Token>) -> T,
}

impl<T> Unpin for Tracked<T> {}

impl<T> Future for Tracked<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let fit = this.world.life(this.who, |life| {
            life.polls += 1;
            life.ready.is_none() && life.panicked.is_none() && life.dropping.is_none()
        });
        if !fit {
            this.world.wrong(format!("{:?} was polled after its end", this.who));
        }
        let run = this.run.as_mut().expect("there until the drop");
        match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => {
                let seq = this.world.now();
                this.world.life(this.who, |life| life.ready = Some((seq, result.is_err())));
                Poll::Ready((this.map)(&this.world, result))
            }
            Err(payload) => {
                let words = payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "no String".into());
                let seq = this.world.now();
                this.world.life(this.who, |life| life.panicked = Some((seq, words)));
                resume_unwind(payload)
            }
        }
    }
}

impl<T> Drop for Tracked<T> {
    fn drop(&mut self) {
        let now = (self.world.now(), Instant::now());
        self.world.life(self.who, |life| {
            life.dropping.get_or_insert(now);
        });
        self.run = None;
        let now = self.world.now();
        self.world.life(self.who, |life| {
            life.end.get_or_insert(now);
            life.drops += 1;
        });
    }
}

/// The task that a block runs in. It changes for the body of a scope that is moved, and for what is in it.
type Host = Arc<AtomicUsize>;

/// A scope's future, and notes of its end.
struct ScopeRun {
    world: Arc<World>,
    id: Id,
    host: Host,
    future: Option<Pin<Box<dyn Future<Output = ScopeEnd> + Send>>>,
}

impl Future for ScopeRun {
    type Output = ScopeEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ScopeEnd> {
        let this = &mut *self;
        {
            let now = (this.world.now(), Instant::now());
            let mut record = this.world.scope(this.id);
            record.opened.get_or_insert(now);
            let host = this.host.load(SeqCst);
            if record.hosts.last() != Some(&host) {
                record.hosts.push(host);
            }
        }
        let future = this.future.as_mut().expect("polled to its end once");
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let end = match &polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(end)) => *end,
            Err(_) => ScopeEnd::Panicked,
        };
        this.world.scope(this.id).end = Some((this.world.now(), end));
        this.future = None;
        match polled {
            Ok(_) => Poll::Ready(end),
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl Drop for ScopeRun {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let now = (self.world.now(), Instant::now());
            self.world.scope(self.id).dropped.get_or_insert(now);
            drop(future);
        }
    }
}

// ---- the interpreter ----------------------------------------------------------------------------

#[derive(Clone)]
enum AnyScope {
    Plain(Scope),
    Try(Scope<Token>),
}

impl AnyScope {
    fn cancel(&self) {
        match self {
            AnyScope::Plain(scope) => scope.cancel("a step of the program"),
            AnyScope::Try(scope) => scope.cancel("a step of the program"),
        }
    }
}

/// What a block knows about where it is.
#[derive(Clone)]
struct Env {
    world: Arc<World>,
    host: Host,
    /// The innermost scope of this task around the block.
    around: Option<Id>,
    shielded: bool,
    forgotten: bool,
    /// Handles, the innermost last.
    scopes: Vec<(Id, AnyScope)>,
}

fn tracked<T>(world: Arc<World>, who: Who, run: Run, map: fn(&World, Result<(), Token>) -> T) -> Tracked<T> {
    Tracked { world, who, run: Some(run), map }
}

fn value(world: &World, _: Result<(), Token>) -> Token {
    Token::new(&world.live)
}

fn try_value(world: &World, result: Result<(), Token>) -> Result<Token, Token> {
    result.map(|()| Token::new(&world.live))
}

impl Env {
    fn scope_up(&self, up: usize) -> &(Id, AnyScope) {
        &self.scopes[self.scopes.len().saturating_sub(1 + up)]
    }

    /// Spawns, and leaves the handle in the table.
    fn spawn(&self, id: Id, kind: SpawnKind, up: usize, run: Run) {
        let world = &self.world;
        let (scope_id, scope) = self.scope_up(up);
        {
            let mut record = world.task(id);
            record.scope = (kind != SpawnKind::Root).then_some(*scope_id);
            record.daemon = kind == SpawnKind::Daemon;
            record.spawned = Some(world.now());
        }
        let (theirs, who) = (Arc::clone(world), Who::Task(id));
        let handle = match (kind, scope) {
            (SpawnKind::Root, _) => AnyHandle::Join(leakfree::spawn(tracked(theirs, who, run, value))),
            (SpawnKind::Try, AnyScope::Try(scope)) => {
                world.task(id).is_try = true;
                AnyHandle::Try(scope.spawn_try(tracked(theirs, who, run, try_value)))
            }
            (SpawnKind::Daemon, AnyScope::Plain(scope)) => {
                AnyHandle::Join(scope.spawn_daemon(tracked(theirs, who, run, value)))
            }
            (SpawnKind::Daemon, AnyScope::Try(scope)) => {
                AnyHandle::Join(scope.spawn_daemon(tracked(theirs, who, run, value)))
            }
            (_, AnyScope::Plain(scope)) => AnyHandle::Join(scope.spawn(tracked(theirs, who, run, value))),
            (_, AnyScope::Try(scope)) => AnyHandle::Join(scope.spawn(tracked(theirs, who, run, value))),
        };
        world.task(id).spawn_returned = Some(world.now());
        *lock(&world.handles[id]) = Some(handle);
    }

    /// A block that runs as another task.
    fn in_task(&self, id: Id, kind: SpawnKind, up: usize) -> Env {
        let host = Arc::new(AtomicUsize::new(id));
        let mut env = Env { host, around: None, shielded: false, forgotten: false, ..self.clone() };
        // The innermost scope is the one that bounds the task. One in the root has the handles of its spawner.
        if kind != SpawnKind::Root {
            env.scopes.truncate(self.scopes.len().saturating_sub(up).max(1));
        }
        env
    }
}

async fn yields(n: u8) {
    for _ in 0..n {
        leakfree::yield_now().await;
    }
}

/// Waits for a task by the handle in the table, which stays there until it is ready. A handle wakes only the one who asked
/// last: others may wait for ever, but not one who waits alone.
async fn join(world: &World, id: Id, alone: bool) {
    struct Claim<'a>(Option<&'a AtomicBool>);
    impl Drop for Claim<'_> {
        fn drop(&mut self) {
            self.0.inspect(|claimed| claimed.store(false, SeqCst));
        }
    }
    let claimed = &world.claimed[id];
    let mut claim = Claim(None);
    poll_fn(|cx| {
        let mut slot = lock(&world.handles[id]);
        if alone && claim.0.is_none() {
            claim.0 = (!claimed.swap(true, SeqCst)).then_some(claimed);
        }
        if claim.0.is_none() && claimed.load(SeqCst) {
            return Poll::Ready(());
        }
        let joined = match slot.as_mut() {
            None => return Poll::Ready(()),
            Some(AnyHandle::Join(handle)) => match Pin::new(handle).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_token)) => Joined::Value,
                Poll::Ready(Err(error)) if error.is_would_deadlock() => return Poll::Ready(()),
                Poll::Ready(Err(error)) if error.is_panic() => Joined::Panicked,
                Poll::Ready(Err(_)) => Joined::Cancelled,
            },
            Some(AnyHandle::Try(handle)) => match Pin::new(handle).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_token) => Joined::Value,
            },
        };
        let handle = slot.take();
        drop(slot);
        drop(handle);
        world.task(id).joined.push((world.now(), joined));
        Poll::Ready(())
    })
    .await;
}

fn run(env: Env, steps: Block) -> Run {
    Box::pin(async move {
        for step in steps {
            run_step(&env, step).await?;
        }
        Ok(())
    })
}

async fn run_step(env: &Env, step: Step) -> Result<(), Token> {
    let world = &env.world;
    match step {
        Step::Yield(n) => yields(n).await,
        Step::Sleep(ms) if world.paused => leakfree::time::sleep(Duration::from_millis(ms.into())).await,
        Step::Sleep(n) => yields(n).await,
        Step::Spawn { id, kind, up, body } => {
            let run = run(env.in_task(id, kind, up), body);
            env.spawn(id, kind, up, run);
        }
        Step::Await(id) => join(world, id, false).await,
        Step::AwaitAlone(id) => join(world, id, true).await,
        Step::DropHandle(id) => {
            // The runner needs the handles of tasks that no scope ends.
            if world.task(id).scope.is_some() {
                let mut slot = lock(&world.handles[id]);
                let handle = if world.claimed[id].load(SeqCst) { None } else { slot.take() };
                drop(slot);
                drop(handle);
            }
        }
        Step::Abort(id) => abort(world, id),
        Step::Cancel { up } => {
            let (id, scope) = env.scope_up(up);
            let now = world.now();
            world.scope(*id).cancelled.get_or_insert(now);
            scope.cancel();
        }
        // No hook: nothing is printed.
        Step::Panic => {
            let words = match env.around {
                Some(scope) => format!("planned in scope {scope}"),
                None => format!("planned in task {}", env.host.load(SeqCst)),
            };
            resume_unwind(Box::new(words));
        }
        Step::Error => return Err(Token::new(&world.errors)),
        Step::Scope { id, kind, options, how, body } => run_scope(env, id, kind, options, how, body).await,
        Step::Shield(body) => {
            leakfree::shield(run(Env { shielded: true, ..env.clone() }, body)).await?;
        }
        Step::Defer { id, yields: n, end, body } => {
            note_guard(env, id);
            let theirs = Arc::clone(world);
            let cleanup: Run = Box::pin(async move {
                lock(&theirs.guards[id]).begun += 1;
                yields(n).await;
                lock(&theirs.guards[id]).ran += 1;
                Ok(())
            });
            let (world, who) = (Arc::clone(world), Who::Cleanup(id));
            let guard = leakfree::defer_async(tracked(world, who, cleanup, |_, _| ()));
            run(env.clone(), body).await?;
            match end {
                GuardEnd::Run => guard.await,
                GuardEnd::Disarm => {
                    lock(&env.world.guards[id]).disarmed = true;
                    guard.disarm();
                }
                GuardEnd::Drop => drop(guard),
            }
        }
        Step::OnCancel { id, end, body } => {
            note_guard(env, id);
            let theirs = Arc::clone(world);
            let guard = leakfree::on_cancel(move || {
                let mut record = lock(&theirs.guards[id]);
                record.begun += 1;
                record.ran += 1;
            });
            run(env.clone(), body).await?;
            if end == GuardEnd::Disarm {
                lock(&world.guards[id]).disarmed = true;
                guard.disarm();
            }
        }
        Step::Send(id) => {
            let sender = lock(&world.channels[id].sender).take();
            if let Some(sender) = sender {
                let delivered = sender.send(Token::new(&world.live)).is_ok();
                world.channels[id].delivered.fetch_add(delivered.into(), SeqCst);
            }
        }
        Step::Receive(id) => {
            // Many may wait for the one value: the last one that asked is woken.
            let token = poll_fn(|cx| {
                let mut slot = lock(&world.channels[id].receiver);
                let Some(receiver) = slot.as_mut() else { return Poll::Ready(None) };
                Pin::new(receiver).poll(cx).map(|token| (slot.take(), token.ok()).1)
            })
            .await;
            world.channels[id].received.fetch_add(token.is_some().into(), SeqCst);
        }
        Step::Park { kept: true } => {
            let (_kept, receiver) = oneshot::channel::<()>();
            let _ = receiver.await;
        }
        Step::Park { kept: false } => pending().await,
    }
    Ok(())
}

fn abort(world: &World, id: Id) {
    let slot = lock(&world.handles[id]);
    if let Some(AnyHandle::Join(handle)) = slot.as_ref() {
        let now = world.now();
        world.task(id).aborted.get_or_insert(now);
        handle.abort();
    }
}

fn note_guard(env: &Env, id: Id) {
    let mut record = lock(&env.world.guards[id]);
    record.made = true;
    record.forgotten = env.forgotten;
    record.around = env.around;
    record.task = env.host.load(SeqCst);
}

async fn run_scope(env: &Env, id: Id, kind: Kind, options: Options, how: How, body: Block) {
    let world = &env.world;
    {
        let mut record = world.scope(id);
        record.kind = Some(kind);
        record.deadline_ms = options.deadline_ms;
        record.how = Some(how);
        record.around = env.around;
        record.sealed = env.shielded;
    }
    let mut builder = Scope::builder();
    if let Some(ms) = options.grace_ms {
        builder = builder.grace(Duration::from_millis(ms));
    }
    if let Some(ms) = options.deadline_ms {
        builder = builder.timeout(Duration::from_millis(ms));
    }
    if let Some(most) = options.most {
        builder = builder.max_concurrent(most);
    }
    let mut inner = Env { around: Some(id), shielded: false, ..env.clone() };
    inner.forgotten |= how == How::Forget;
    if let How::Move { .. } = how {
        inner.host = Arc::new(AtomicUsize::new(env.host.load(SeqCst)));
    }
    let host = Arc::clone(&inner.host);
    let theirs = Arc::clone(world);
    let who = Who::Body(id);
    let start = move |scope: AnyScope| {
        inner.scopes.push((id, scope));
        run(inner, body)
    };
    let future: Pin<Box<dyn Future<Output = ScopeEnd> + Send>> = match kind {
        Kind::Plain => Box::pin(async move {
            builder.scope(|s| tracked(theirs, who, start(AnyScope::Plain(s)), |_, _| ())).await;
            ScopeEnd::Value
        }),
        Kind::Supervisor => Box::pin(async move {
            builder.supervisor_scope(|s| tracked(theirs, who, start(AnyScope::Plain(s)), |_, _| ())).await;
            ScopeEnd::Value
        }),
        Kind::Try => Box::pin(async move {
            let body = |s| tracked(theirs, who, start(AnyScope::Try(s)), |_, result| result);
            match builder.try_scope(body).await {
                Ok(()) => ScopeEnd::Value,
                Err(error) => match error.first {
                    ScopeFailure::Error(_) => ScopeEnd::Errors(1 + error.rest.len()),
                    ScopeFailure::Cancelled(_) => ScopeEnd::Cancelled,
                },
            }
        }),
    };
    let mut future =
        Box::pin(ScopeRun { world: Arc::clone(world), id, host: Arc::clone(&host), future: Some(future) });
    match how {
        How::Await => drop(future.await),
        How::Timeout { ms } => {
            world.scope(id).timed = Some(Instant::now());
            let _ = leakfree::time::timeout(Duration::from_millis(ms), future).await;
        }
        How::Drop { polls } => {
            for n in 0..polls {
                if n > 0 {
                    leakfree::yield_now().await;
                }
                if poll_once(&mut future).await {
                    break;
                }
            }
            drop(future);
        }
        How::Forget => {
            if !poll_once(&mut future).await {
                match &world.forgotten {
                    Some(forgotten) => lock(forgotten).push(future),
                    None => std::mem::forget(future),
                }
            }
        }
        How::Move { task, up, root } => {
            if !poll_once(&mut future).await {
                let kind = if root { SpawnKind::Root } else { SpawnKind::Plain };
                let moved: Run = Box::pin(async move {
                    host.store(task, SeqCst);
                    future.await;
                    Ok(())
                });
                env.spawn(task, kind, up, moved);
            }
        }
    }
}

/// Polls once. True if it was ready.
async fn poll_once(future: &mut Pin<Box<ScopeRun>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

// ---- one run ------------------------------------------------------------------------------------

/// Runs a program in a live runtime, and says what went wrong.
fn run_program(
    runtime: &Runtime,
    program: &Program,
    paused: bool,
    forgotten: Option<Forgotten>,
) -> (Vec<String>, Arc<World>) {
    let simulated = runtime.handle().trace().is_some();
    let world = runtime.block_on(async {
        let world = World::new(program, paused, forgotten);
        if simulated {
            // What hangs has its time pass.
            let day = pin!(leakfree::time::sleep(DAY));
            if let Either::Right(_) = select(pin!(conduct(&world, program)), day).await {
                let handle = Handle::current();
                world.wrong(format!("it hangs: {}\n{:#?}", handle.report(), handle.snapshot().scopes));
            }
        } else {
            conduct(&world, program).await;
        }
        world
    });
    if simulated {
        assert!(run_until_stalled(runtime, STEPS_MAX), "seed {}: it goes on for ever", program.seed);
    }
    for slot in &world.handles {
        let handle = lock(slot).take();
        drop(handle);
    }
    for channel in &world.channels {
        let ends = (lock(&channel.sender).take(), lock(&channel.receiver).take());
        drop(ends);
    }
    // The root's cleanups may still run.
    let left = left_over(&runtime.handle());
    let mut wrong = std::mem::take(&mut *lock(&world.wrong));
    Model::new(&world).check(&mut wrong);
    let live = world.live.load(SeqCst);
    if live != 0 {
        wrong.push(format!("{live} values are left"));
    }
    // An error that a dropped scope kept lives as long as a handle to the scope, and one may be forgotten.
    let forgets = world.scopes.iter().any(|scope| lock(scope).how == Some(How::Forget));
    // A worker that has just walked past the scope, or its timer that has just fired, may still hold it.
    let patient = std::time::Instant::now() + PATIENCE;
    while world.errors.load(SeqCst) != 0 && !forgets && !simulated && std::time::Instant::now() < patient {
        std::thread::yield_now();
    }
    let errors = world.errors.load(SeqCst);
    if errors != 0 && !forgets {
        wrong.push(format!("{errors} errors are left"));
    }
    wrong.extend(left);
    (wrong, world)
}

/// What is alive when a program has ended. A task's last moments may come after its end was told.
fn left_over(handle: &Handle) -> Option<String> {
    let started = std::time::Instant::now();
    loop {
        let snapshot = handle.snapshot();
        let (tasks, newborn) = (snapshot.tasks.len(), snapshot.newborn);
        // The root keeps the scope at its side for cleanups.
        let ours = |scope: &&ScopeInfo| !matches!(scope.kind, ScopeKind::Root | ScopeKind::Cleanups);
        let children: u64 = snapshot.scopes.iter().map(|scope| scope.children).sum();
        if tasks == 0 && newborn == 0 && children == 0 && !snapshot.scopes.iter().any(|scope| ours(&scope)) {
            return None;
        }
        let simulated = handle.trace().is_some();
        if simulated || started.elapsed() > Duration::from_secs(1) {
            return Some(format!(
                "left over: {tasks} tasks, {newborn} newborn, scopes: {:#?}",
                snapshot.scopes
            ));
        }
        std::thread::yield_now();
    }
}

/// The outermost scope, and the tasks outside of it.
async fn conduct(world: &Arc<World>, program: &Program) {
    {
        let mut record = world.scope(0);
        record.kind = Some(Kind::Supervisor);
        record.opened = Some((world.now(), Instant::now()));
    }
    leakfree::supervisor_scope(async |s| {
        let host = Arc::new(AtomicUsize::new(0));
        let env = Env {
            world: Arc::clone(world),
            host,
            around: None,
            shielded: false,
            forgotten: false,
            scopes: vec![(0, AnyScope::Plain(s.clone()))],
        };
        env.spawn(0, SpawnKind::Plain, 0, run(env.in_task(0, SpawnKind::Plain, 0), program.body.clone()));
        let end_body = || {
            let now = world.now();
            world.scope(0).body.end = Some(now);
        };
        if program.finite {
            return end_body();
        }
        let idle = idle(world, || world.task(0).life.end.is_some());
        match program.patience {
            Some(n) => yields(n).await,
            None => idle.await,
        }
        let now = world.now();
        world.scope(0).cancelled.get_or_insert(now);
        s.cancel("the outermost");
        end_body();
    })
    .await;
    {
        let mut record = world.scope(0);
        let now = world.now();
        record.end = Some((now, ScopeEnd::Value));
    }
    // Outside tasks may spawn others.
    let outside = |id: &Id| world.task(*id).scope.is_none() && lock(&world.handles[*id]).is_some();
    while let Some(id) = (0..program.tasks).find(outside) {
        if !program.finite {
            idle(world, || world.task(id).life.end.is_some()).await;
            abort(world, id);
        }
        join(world, id, true).await;
    }
}

/// Waits until nothing moves any more.
async fn idle(world: &World, ended: impl Fn() -> bool) {
    if world.paused {
        // Time passes when nothing else does.
        for _ in 0..10 {
            if !ended() {
                leakfree::time::sleep(Duration::from_millis(100)).await;
            }
        }
        return;
    }
    let (mut before, mut still) = (0, 0);
    while still < 3 && !ended() {
        // This thread is no worker.
        std::thread::sleep(Duration::from_micros(50));
        leakfree::yield_now().await;
        let now = world.seq.load(SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
}

// ---- the model ----------------------------------------------------------------------------------

struct Model<'a> {
    world: &'a World,
    tasks: Vec<MutexGuard<'a, TaskRecord>>,
    scopes: Vec<MutexGuard<'a, ScopeRecord>>,
    children: Vec<Vec<Id>>,
}

fn before(event: Option<Seq>, at: Seq) -> bool {
    event.is_some_and(|seq| seq < at)
}

/// When something happened.
type When = (Seq, Instant);

impl<'a> Model<'a> {
    fn new(world: &'a World) -> Model<'a> {
        let tasks: Vec<_> = world.tasks.iter().map(lock).collect();
        let scopes: Vec<_> = world.scopes.iter().map(lock).collect();
        let mut children = vec![Vec::new(); scopes.len()];
        for (id, task) in tasks.iter().enumerate().filter(|(_, task)| task.spawned.is_some()) {
            if let Some(scope) = task.scope {
                children[scope].push(id);
            }
        }
        Model { world, tasks, scopes, children }
    }

    fn check(&self, wrong: &mut Vec<String>) {
        for (id, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.spawned.is_some()) {
            self.check_task(id, task, wrong);
        }
        for (id, scope) in self.scopes.iter().enumerate().skip(1).filter(|(_, scope)| scope.opened.is_some())
        {
            self.check_scope(id, scope, wrong);
        }
        for (id, guard) in self.world.guards.iter().enumerate() {
            self.check_guard(id, &lock(guard), wrong);
        }
        for (id, channel) in self.world.channels.iter().enumerate() {
            let (delivered, received) = (channel.delivered.load(SeqCst), channel.received.load(SeqCst));
            if received > delivered {
                wrong.push(format!("channel {id}: {delivered} values delivered, {received} received"));
            }
        }
    }

    // ---- what the record must show ------------------------------------------------------------

    fn check_task(&self, id: Id, task: &TaskRecord, wrong: &mut Vec<String>) {
        let life = &task.life;
        let (Some(end), Some(dropping), 1) = (life.end, life.dropping, life.drops) else {
            wrong.push(format!("task {id} was dropped {} times: {task:?}", life.drops));
            return;
        };
        if task.joined.len() > 1 {
            wrong.push(format!("task {id} was joined twice: {task:?}"));
        }
        let is = if life.panicked.is_some() {
            Joined::Panicked
        } else if life.ready.is_some() {
            Joined::Value
        } else {
            Joined::Cancelled
        };
        if let Some(&(seq, joined)) = task.joined.first() {
            if joined != is || seq < end {
                wrong.push(format!("task {id} ended as {is:?} and was joined as {joined:?}: {task:?}"));
            }
        }
        if is == Joined::Cancelled && !self.task_cancelled(id, dropping) {
            wrong.push(format!("nobody cancelled task {id}: {task:?}"));
        }
        if let Some((_, words)) = &life.panicked {
            let by = |prefix| words.strip_prefix(prefix).and_then(|by| by.parse().ok());
            let fit = by("planned in task ").is_some_and(|by| self.panic_reaches(by, id))
                || by("planned in scope ").is_some_and(|by| self.body_panic_reaches(by, id));
            // A `TryHandle` has no error to give: its value never comes, or it was awaited by the task itself or below.
            let no_value = words.starts_with("the value of task ") || words.starts_with("waiting for task ");
            if !fit && !no_value {
                wrong.push(format!("task {id} panicked with {words:?}: {task:?}"));
            }
        }
        if self.is_refused(id) {
            return;
        }
        if let Some(scope) = task.scope {
            self.check_bounds(scope, end, &format!("task {id}"), wrong);
        }
        // On a cancel from above children are dropped before parents.
        if life.is_cut() {
            for scope in (1..self.scopes.len()).filter(|&scope| self.home(scope) == Some(id)) {
                for &child in self.children[scope].iter().filter(|&&child| !self.is_refused(child)) {
                    if self.tasks[child].life.end.is_none_or(|end| end > dropping.0) {
                        wrong
                            .push(format!("task {id} was dropped before its child {child} in scope {scope}"));
                    }
                }
            }
        }
    }

    fn check_scope(&self, id: Id, scope: &ScopeRecord, wrong: &mut Vec<String>) {
        let Some(kind) = scope.kind else { return };
        let body = &scope.body;
        if let Some(when) = scope.dropped {
            let how = match scope.how {
                Some(How::Drop { .. }) => true,
                Some(How::Timeout { ms }) => {
                    scope.timed.is_some_and(|from| when.1.duration_since(from) >= Duration::from_millis(ms))
                }
                _ => false,
            };
            if !how && !self.containers(id).iter().any(|life| life.is_cut() || life.panicked.is_some()) {
                wrong.push(format!("nobody dropped scope {id}: {scope:?}"));
            }
        }
        if let (true, Some(when)) = (body.is_cut(), body.dropping) {
            let fit = scope.dropped.is_some()
                || self.failed(id, Seq::MAX)
                || kind == Kind::Try && self.scope_cancelled(id, when);
            if !fit {
                wrong.push(format!("nobody cut the body of scope {id}: {scope:?}"));
            }
        }
        let Some((seq, end)) = scope.end else { return };
        if body.drops != 1 || body.end.is_none_or(|end| end > seq) {
            wrong.push(format!("the body of scope {id} was not dropped once before its end: {scope:?}"));
        }
        let children = || self.children[id].iter().map(|&child| &self.tasks[child]);
        let panics = body.panicked.is_some()
            || kind != Kind::Supervisor && children().any(|child| child.life.panicked.is_some());
        let is_error = |life: &Life| life.ready.is_some_and(|(_, error)| error);
        let errors = children().filter(|child| child.is_try && is_error(&child.life)).count()
            + usize::from(kind == Kind::Try && is_error(body));
        let fit = match end {
            ScopeEnd::Panicked => panics,
            _ if panics => false,
            ScopeEnd::Value => errors == 0 && body.ready.is_some(),
            ScopeEnd::Errors(n) => errors == n,
            ScopeEnd::Cancelled => {
                errors == 0
                    && body.is_cut()
                    && body.dropping.is_some_and(|when| self.scope_cancelled(id, when))
            }
        };
        if !fit {
            wrong.push(format!(
                "scope {id} ended as {end:?}, with {errors} errors, panics: {panics}: {scope:?}"
            ));
        }
    }

    fn check_guard(&self, id: Id, guard: &GuardRecord, wrong: &mut Vec<String>) {
        if !guard.made {
            return;
        }
        let runs = if guard.disarmed { 0 } else { 1 };
        let fit = if guard.forgotten { guard.ran <= runs } else { guard.ran == runs };
        if !fit || guard.begun > runs || guard.ran != guard.begun && !guard.forgotten {
            wrong.push(format!("cleanup {id} ran {} times: {guard:?}", guard.ran));
        }
        // Of one whose scope moved about, the nearest scope that has not ended may be any further out.
        // When a task is cancelled its scopes have ended before it is dropped: the nearest is the one that bounds it.
        let task = &self.tasks[guard.task];
        let around = guard.around.filter(|_| !task.life.is_cut()).or(task.scope);
        if let (Some(end), Some(scope), false) = (guard.life.end, around, guard.disarmed) {
            if guard.around.is_none_or(|around| self.wanders(around).is_none()) {
                self.check_bounds(scope, end, &format!("cleanup {id}"), wrong);
            }
        }
    }

    /// Nothing ends after the scope that bounds it, nor after a task or a scope further out.
    fn check_bounds(&self, mut id: Id, end: Seq, what: &str, wrong: &mut Vec<String>) {
        loop {
            let scope = &self.scopes[id];
            if scope.end.is_some_and(|(seq, _)| seq < end) {
                wrong.push(format!("{what} ended at {end}, after scope {id}: {scope:?}"));
            }
            let lost = matches!(scope.how, Some(How::Forget | How::Move { .. }));
            if let (Some(around), false) = (scope.around, lost) {
                id = around;
                continue;
            }
            let Some(host) = self.home(id) else { return };
            let task = &self.tasks[host];
            if task.joined.first().is_some_and(|&(seq, _)| seq < end) {
                wrong.push(format!(
                    "{what} ended at {end}, after task {host}, where scope {id} was: {task:?}"
                ));
            }
            match task.scope {
                Some(scope) => id = scope,
                None => return,
            }
        }
    }

    // ---- who may have cancelled it ------------------------------------------------------------

    fn task_cancelled(&self, id: Id, when: When) -> bool {
        let task = &self.tasks[id];
        let at = when.0;
        let by_scope = |scope| {
            // A daemon ends with the others; a spawn after them is refused.
            self.scope_cancelled(scope, when)
                || (task.daemon || task.life.polls == 0) && self.others_ended(scope, id, at)
        };
        before(task.aborted, at) || task.scope.is_some_and(by_scope)
    }

    /// Whether the body of the scope and its children had ended, daemons and `but` left out.
    fn others_ended(&self, scope: Id, but: Id, at: Seq) -> bool {
        let children = self.children[scope].iter().filter(|&&child| child != but && !self.is_refused(child));
        before(self.scopes[scope].body.end, at)
            && children
                .map(|&child| &self.tasks[child])
                .all(|child| child.daemon || before(child.life.end, at))
    }

    fn scope_cancelled(&self, id: Id, when: When) -> bool {
        let scope = &self.scopes[id];
        let at = when.0;
        let lost = self.wanders(id).is_some();
        let host_ended = |life: &Life| {
            before(life.ready.map(|ready| ready.0), at) || before(life.dropping.map(|when| when.0), at)
        };
        before(scope.cancelled, at)
            || before(scope.dropped.map(|when| when.0), at)
            || self.failed(id, at)
            || scope.deadline_ms.is_some_and(|ms| self.passed(scope, ms, when.1))
            || (!scope.sealed || lost)
                && scope.around.is_some_and(|around| self.scope_cancelled(around, when))
            // Through the scope around it, which may be behind a shield.
            || (!scope.sealed && scope.around.is_none() || lost)
                && scope.hosts.iter().any(|&host| self.task_cancelled(host, when))
            || lost && scope.hosts.iter().any(|&host| host_ended(&self.tasks[host].life))
    }

    fn passed(&self, scope: &ScopeRecord, ms: u64, time: Instant) -> bool {
        scope.opened.is_some_and(|(_, opened)| time.duration_since(opened) >= Duration::from_millis(ms))
    }

    /// A panic or an error ends the scope.
    fn failed(&self, id: Id, at: Seq) -> bool {
        let scope = &self.scopes[id];
        let erred = |life: &Life| life.ready.is_some_and(|(seq, error)| error && seq < at);
        let panicked = |life: &Life| before(life.panicked.as_ref().map(|panic| panic.0), at);
        panicked(&scope.body)
            || scope.kind == Some(Kind::Try) && erred(&scope.body)
            || self.children[id].iter().map(|&child| &self.tasks[child]).any(|child| {
                child.is_try && erred(&child.life)
                    || scope.kind != Some(Kind::Supervisor) && panicked(&child.life)
            })
    }

    /// Whether a panic of task `by` may arrive in task `id`.
    fn panic_reaches(&self, by: Id, id: Id) -> bool {
        let up = |scope: Id| {
            self.scopes[scope].kind != Some(Kind::Supervisor) && self.body_panic_reaches(scope, id)
        };
        by == id || self.tasks[by].scope.is_some_and(up)
    }

    fn body_panic_reaches(&self, scope: Id, id: Id) -> bool {
        let scope = &self.scopes[scope];
        scope.around.is_some_and(|around| self.body_panic_reaches(around, id))
            || scope.hosts.iter().any(|&host| self.panic_reaches(host, id))
    }

    /// The nearest scope around, or itself, whose future is forgotten or moved.
    fn wanders(&self, id: Id) -> Option<Id> {
        let lost = |scope: &ScopeRecord| matches!(scope.how, Some(How::Forget | How::Move { .. }));
        std::iter::successors(Some(id), |&id| self.scopes[id].around).find(|&id| lost(&self.scopes[id]))
    }

    /// The task that a scope is in at last: who polled it, or where a scope around it took it. A scope that moves takes
    /// with it all that is in its body, also what it does not poll again: a body that is cut there, a scope that was
    /// forgotten. What bounds these is the task that they came to, and no longer the one that they were opened in, which may
    /// end before them.
    fn home(&self, id: Id) -> Option<Id> {
        let scope = &self.scopes[id];
        let last = scope.hosts.last().copied();
        match (scope.how, scope.around) {
            (Some(How::Move { task, .. }), _) if last == Some(task) => last,
            (_, Some(around)) => last.and_then(|_| self.home(around)),
            _ => last,
        }
    }

    /// The futures that hold a scope's future.
    fn containers(&self, id: Id) -> Vec<&Life> {
        let scope = &self.scopes[id];
        let around = scope.around.map(|around| &self.scopes[around].body);
        let hosts = scope.hosts.iter().map(|&host| &self.tasks[host].life);
        let moved = match scope.how {
            Some(How::Move { task, .. }) => Some(&self.tasks[task].life),
            _ => None,
        };
        match around {
            Some(around) => [around].into_iter().chain(moved).collect(),
            None => hosts.chain(moved).collect(),
        }
    }

    /// Spawned after the scope's end, or after a cancel: dropped unpolled by the spawn itself.
    fn is_refused(&self, id: Id) -> bool {
        let task = &self.tasks[id];
        task.life.polls == 0 && task.spawn_returned.is_none_or(|seq| before(task.life.end, seq))
    }
}

// ---- the harness --------------------------------------------------------------------------------

/// A runtime on a thread of its own, which is left behind when a program hangs.
struct Bench {
    workers: usize,
    jobs: mpsc::Sender<Program>,
    answers: mpsc::Receiver<Vec<String>>,
    handle: Handle,
    runner: std::thread::JoinHandle<Vec<String>>,
}

impl Bench {
    fn start(workers: usize, really_forget: bool) -> Bench {
        let paused = workers == 1;
        let mut builder = Builder::new().workers(workers).grace(Duration::ZERO);
        if paused {
            builder = builder.start_paused(true);
        }
        let runtime = builder.build().expect("a runtime starts");
        let handle = runtime.handle();
        let (jobs, todo) = mpsc::channel::<Program>();
        let (done, answers) = mpsc::channel();
        let runner = std::thread::spawn(move || {
            let forgotten = (!really_forget).then(Forgotten::default);
            for program in todo {
                if done.send(run_program(&runtime, &program, paused, forgotten.clone()).0).is_err() {
                    break;
                }
            }
            let wrong = check_report(&runtime.shutdown());
            // A forgotten scope that is found again when its runtime is no more.
            find_again(forgotten);
            wrong
        });
        Bench { workers, jobs, answers, handle, runner }
    }

    /// What went wrong; an error if it hangs.
    fn run(&self, program: &Program, patience: Duration) -> Result<Vec<String>, String> {
        self.jobs.send(program.clone()).expect("the runner is there");
        self.answers.recv_timeout(patience).map_err(|_| {
            let handle = self.handle.clone();
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                tell.send(format!("{}\n{:#?}", handle.report(), handle.snapshot().scopes))
            });
            told.recv_timeout(Duration::from_secs(2)).unwrap_or_else(|_| "not even a snapshot".into())
        })
    }

    fn finish(self) -> Vec<String> {
        drop(self.jobs);
        self.runner.join().expect("the runner does not panic")
    }
}

/// Drops scopes that were put away. They keep the worlds that keep them, so it is not enough to drop the list.
fn find_again(forgotten: Option<Forgotten>) {
    if let Some(forgotten) = forgotten {
        let found = std::mem::take(&mut *lock(&forgotten));
        drop(found);
    }
}

fn check_report(report: &leakfree::report::verdict::Report) -> Vec<String> {
    let mut wrong = Vec::new();
    let unresponsive = report.findings.iter().any(|finding| finding.verdict == Verdict::Unresponsive);
    if report.leaked() > 0 || unresponsive {
        wrong.push(format!("the final report is not clean: {report}"));
    }
    if let Some(cut) = report.incidents.iter().find(|incident| incident.kind == IncidentKind::CleanupCut) {
        wrong.push(format!("a cleanup was cut off: {cut:?}"));
    }
    wrong
}

/// Runs it so often on a runtime of its own; the first thing that goes wrong.
fn fails(program: &Program, workers: usize, times: usize, patience: Duration) -> Option<String> {
    let bench = Bench::start(workers, false);
    for _ in 0..times {
        match bench.run(program, patience) {
            Err(text) => return Some(format!("it hangs:\n{text}")),
            Ok(wrong) if !wrong.is_empty() => return Some(wrong.join("\n")),
            Ok(_) => {}
        }
    }
    bench.finish().pop()
}

/// Every block of a program.
fn blocks<'a>(block: &'a mut Block, visit: &mut dyn FnMut(&mut Block) -> bool) -> bool {
    if visit(block) {
        return true;
    }
    block.iter_mut().any(|step| match step {
        Step::Spawn { body, .. }
        | Step::Scope { body, .. }
        | Step::Shield(body)
        | Step::Defer { body, .. }
        | Step::OnCancel { body, .. } => blocks(body, visit),
        _ => false,
    })
}

/// The program made smaller in its `n`th way: half of a block or a step left out, a step replaced by what is in it, or made simpler.
fn smaller(program: &Program, n: usize) -> Option<Program> {
    let mut program = program.clone();
    let mut left = n;
    let changed = blocks(&mut program.body, &mut |block| {
        let halves = if block.len() >= 4 { 2 } else { 0 };
        let ways = halves + 4 * block.len();
        if left >= ways {
            left -= ways;
            return false;
        }
        if left < halves {
            let half = block.len() / 2;
            let kept = if left == 0 { half..block.len() } else { 0..half };
            *block = block[kept].to_vec();
            return true;
        }
        left -= halves;
        let at = left / 4;
        match (left % 4, &mut block[at]) {
            (0, _) => drop(block.remove(at)),
            (1, Step::Scope { options, .. }) => *options = Options::default(),
            (1, Step::Spawn { kind, up, .. }) => (*kind, *up) = (SpawnKind::Plain, 0),
            (1, Step::Yield(n) | Step::Sleep(n)) => *n /= 2,
            (2, Step::Scope { how, .. }) => *how = How::Await,
            (2, Step::Shield(body) | Step::Defer { body, .. } | Step::OnCancel { body, .. }) => {
                let body = std::mem::take(body);
                block.splice(at..=at, body);
            }
            (3, Step::Spawn { body, .. } | Step::Scope { body, .. }) => {
                let body = std::mem::take(body);
                block.splice(at..=at, body);
            }
            _ => {}
        }
        true
    });
    changed.then_some(program)
}

/// Whether two failures are of one kind: outside of its scope, say, a step may hang by right.
fn is_alike(one: &str, other: &str) -> bool {
    let kind = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).take(12).collect::<String>();
    kind(one) == kind(other)
}

/// Steps in a program, at all depths.
fn size(program: &Program) -> usize {
    let mut steps = 0;
    blocks(&mut program.body.clone(), &mut |block| {
        steps += block.len();
        false
    });
    steps
}

/// The smallest program that can be come to and fails still, and how it fails. It is the same each time if `fails` is, and time suffices.
fn shrink(
    program: &Program,
    patience: Duration,
    mut fails: impl FnMut(&Program) -> Option<String>,
) -> (Program, String) {
    let started = std::time::Instant::now();
    let (mut least, mut text) = (program.clone(), "it did not fail again".to_owned());
    let (mut n, mut progress) = (0, false);
    while started.elapsed() < patience {
        let Some(next) = smaller(&least, n) else {
            if !std::mem::take(&mut progress) {
                break;
            }
            n = 0;
            continue;
        };
        if format!("{next:?}") == format!("{least:?}") {
            n += 1;
            continue;
        }
        match fails(&next) {
            Some(what) => (least, text, progress) = (next, what, true),
            None => n += 1,
        }
    }
    (least, text)
}

/// How long a program that failed is shrunk.
const SHRINK: Duration = Duration::from_secs(40);

fn give_up(program: &Program, workers: usize, what: &str) -> ! {
    let mut text = format!("seed {} on {workers} workers: {what}\n", program.seed);
    let _ = writeln!(text, "the program: {program:#?}");
    leakfree_tests::say(&text);
    let (least, what) = shrink(program, SHRINK, |next| {
        fails(next, workers, 60, Duration::from_secs(2)).filter(|failure| is_alike(failure, what))
    });
    // Threads may hang.
    leakfree_tests::give_up(&format!(
        "seed {} on {workers} workers, shrunk: {what}\n{least:#?}\n",
        program.seed
    ));
}

#[test]
fn random_programs_keep_to_the_model() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (count, seed) = (number("LEAKFREE_PROGRAMS"), number("LEAKFREE_SEED"));
    let count = count.unwrap_or(if seed.is_some() { 1000 } else { PROGRAMS });
    let base = number("LEAKFREE_BASE").unwrap_or(0x1eaf);
    let started = std::time::Instant::now();
    let mut done = 0;
    while done < count {
        let batch = BATCH.min(count - done);
        // Memory that is forgotten for good keeps a runtime's memory.
        let benches = WORKERS.map(|workers| Bench::start(workers, (done / BATCH) % 16 == 1));
        let mut programs = Vec::new();
        for n in done..done + batch {
            let program = Generator::program(seed.unwrap_or_else(|| Random(base.wrapping_add(n)).next()));
            for bench in &benches {
                match bench.run(&program, PATIENCE) {
                    Err(text) => give_up(&program, bench.workers, &format!("it hangs:\n{text}")),
                    Ok(wrong) if !wrong.is_empty() => give_up(&program, bench.workers, &wrong.join("\n")),
                    Ok(_) => {}
                }
            }
            programs.push(program);
        }
        for bench in benches {
            let workers = bench.workers;
            if let Some(what) = bench.finish().into_iter().next() {
                let culprit = programs.iter().find(|program| fails(program, workers, 1, PATIENCE).is_some());
                give_up(culprit.unwrap_or(&programs[0]), workers, &format!("in the batch: {what}"));
            }
        }
        done += batch;
    }
    println!("{done} programs in {:?}", started.elapsed());
}

// ---- in simulation ------------------------------------------------------------------------------

/// Runs a program under one schedule, and says what went wrong. A law of the caller's may find fault, too.
fn simulate(
    program: &Program,
    schedule: u64,
    law: impl Fn(&World) -> Option<String>,
) -> (Vec<String>, Trace) {
    let seed = program.seed;
    let runtime = Builder::new()
        .workers([1, 2, 3, 8][schedule as usize % 4])
        .seed(schedule)
        .grace(Duration::ZERO)
        .on_step(move |step| {
            if step.number > STEPS_MAX || step.event == Event::Wait {
                leakfree_tests::give_up(&format!(
                    "seed {seed}, schedule {schedule}: {step}: it goes on for ever, or waits for the world\n"
                ));
            }
        })
        .build()
        .expect("a runtime starts");
    // Memory that is forgotten for good keeps a runtime's descriptors.
    let forgotten = (seed % 64 != 0).then(Forgotten::default);
    let (mut wrong, world) = run_program(&runtime, program, true, forgotten.clone());
    let trace = runtime.handle().trace().expect("it has a seed");
    wrong.extend(check_report(&runtime.shutdown()));
    wrong.extend(law(&world));
    // A forgotten scope that is found again when its runtime is no more.
    find_again(forgotten);
    (wrong, trace)
}

fn no_law(_: &World) -> Option<String> {
    None
}

/// Tries a program under a few schedules, its own first.
fn fails_in_simulation(program: &Program, law: impl Fn(&World) -> Option<String>) -> Option<(u64, String)> {
    (0..8).find_map(|n| {
        let schedule = program.seed.wrapping_add(n);
        let (wrong, _) = simulate(program, schedule, &law);
        (!wrong.is_empty()).then(|| (schedule, wrong.join("\n")))
    })
}

#[test]
fn random_programs_keep_to_the_model_in_simulation() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (count, seed) = (number("LEAKFREE_PROGRAMS"), number("LEAKFREE_SEED"));
    let count = if seed.is_some() { 1 } else { count.unwrap_or(SIMULATED) };
    let base = number("LEAKFREE_BASE").unwrap_or(0x51ed);
    let (started, mut steps, mut descriptors) = (std::time::Instant::now(), 0, Vec::new());
    for n in 0..count {
        let seed = seed.unwrap_or_else(|| Random(base.wrapping_add(n)).next());
        let program = Generator::program(seed);
        let (wrong, trace) = simulate(&program, seed, no_law);
        steps += trace.length;
        if n % 64 == 0 {
            descriptors.push(std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count));
        }
        if !wrong.is_empty() {
            eprintln!("{}\n{program:#?}", wrong.join("\n"));
            let first = wrong.join("\n");
            let (least, what) = shrink(&program, SHRINK, |next| {
                let (_, what) = fails_in_simulation(next, no_law)?;
                Some(what).filter(|what| is_alike(what, &first))
            });
            panic!(
                "seed {seed} fails; LEAKFREE_SEED={seed} cargo test -p leakfree-tests --test programs simulation\nshrunk: \
                 {what}\n{least:#?}"
            );
        }
    }
    println!(
        "{count} programs, {steps} steps in {:?}, descriptors {:?}",
        started.elapsed(),
        descriptors.iter().max()
    );
}

#[test]
fn in_simulation_a_seed_gives_the_same_program_and_the_same_steps() {
    for n in 0..50 {
        let seed = Random(n).next();
        let (program, again) = (Generator::program(seed), Generator::program(seed));
        assert_eq!(format!("{program:?}"), format!("{again:?}"));
        let (_, trace) = simulate(&program, seed, no_law);
        assert_eq!(simulate(&again, seed, no_law).1, trace, "seed {seed}");
        assert_eq!(simulate(&again, seed, no_law).1, trace, "seed {seed}");
        assert_ne!(simulate(&again, seed + 1, no_law).1, trace);
    }
}

/// What a program is, not what it does.
#[test]
fn the_shrinker_finds_the_two_steps_that_matter() {
    fn has_both(program: &Program) -> bool {
        fn holds_defer(block: &Block) -> bool {
            block.iter().any(|step| matches!(step, Step::Defer { .. }))
        }
        blocks(&mut program.body.clone(), &mut |block| {
            block.iter().any(|step| matches!(step, Step::Shield(body) if holds_defer(body)))
        })
    }
    let programs = (0..).map(|n| Generator::program(Random(n).next()));
    for program in programs.filter(|program| has_both(program) && size(program) > 20).take(20) {
        let fails = |next: &Program| has_both(next).then(|| "both are there".to_owned());
        let (least, what) = shrink(&program, SHRINK, fails);
        assert_eq!(what, "both are there");
        assert!(size(&least) == 2 && has_both(&least), "{least:#?}");
    }
}

/// A law that does not hold: nobody is ever cut off. The smallest program that breaks it is replayed from its seed.
#[test]
fn the_shrinker_finds_a_small_program_that_breaks_a_law() {
    let law = |world: &World| {
        let cut = world.tasks.iter().position(|task| {
            let life = &lock(task).life;
            life.polls > 0 && life.is_cut()
        });
        cut.map(|task| format!("task {task} was cut off"))
    };
    let programs = (0..).map(|n| Generator::program(Random(n).next()));
    let breaks = |program: &Program| fails_in_simulation(program, law);
    let mut sizes = Vec::new();
    for program in programs.filter(|program| size(program) > 15 && breaks(program).is_some()).take(10) {
        let (least, what) = shrink(&program, SHRINK, |next| breaks(next).map(|found| found.1));
        assert!(what.contains("was cut off"), "{what}");
        let (schedule, what) = breaks(&least).expect("it fails still");
        let (wrong, trace) = simulate(&least, schedule, law);
        assert_eq!(wrong.join("\n"), what);
        let again = simulate(&least, schedule, law);
        assert_eq!((again.0, again.1), (wrong, trace), "the same steps");
        sizes.push((size(&program), size(&least)));
        assert!(size(&least) <= 5, "from {} to {}: {least:#?}", size(&program), size(&least));
    }
    println!("sizes, before and after: {sizes:?}");
}

// ---- what was found, as tests of its own ----------------------------------------------------------

/// Seed 10773891035968303284.
#[leakfree::test(workers = 2)]
async fn a_scope_in_the_body_of_one_that_moves_moves_with_it() {
    let (release, hold) = mpsc::channel::<()>();
    let (running, is_running) = oneshot::channel::<()>();
    let (given, token) = oneshot::channel::<Scope<()>>();
    let held = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&held);
    let mut moving = Box::pin(leakfree::try_scope(async move |s: Scope<()>| {
        let _ = given.send(s);
        leakfree::scope(async move |s| {
            s.spawn_blocking(move || {
                running.send(()).unwrap();
                hold.recv().unwrap();
                theirs.store(1, SeqCst);
            });
            pending::<()>().await;
        })
        .await;
        Ok(())
    }));
    assert!(futures::poll!(&mut moving).is_pending());
    is_running.await.unwrap();
    // Its body is dropped at its next poll, in the task that it moves to.
    token.await.unwrap().cancel("enough");
    let held_at_end = leakfree::spawn(async move {
        assert!(moving.await.is_err());
        held.load(SeqCst)
    });
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        release.send(()).unwrap();
    });
    assert_eq!(held_at_end.await.unwrap(), 1, "the scope ended after all that was in it");
}

#[leakfree::test(workers = 2)]
async fn a_shield_in_a_body_that_moves_is_taken_down_once() {
    let mut moving = Box::pin(leakfree::try_scope(async move |s: Scope<&str>| {
        leakfree::shield(leakfree::yield_now()).await;
        let _failed = s.spawn_try(async { Err::<(), _>("the child's") });
        pending::<()>().await;
        Ok(())
    }));
    assert!(futures::poll!(&mut moving).is_pending());
    let moved = leakfree::spawn(async move { moving.await.unwrap_err().into_error() });
    let ended = leakfree::time::timeout(Duration::from_secs(10), moved).await;
    assert_eq!(ended.expect("the body is dropped").unwrap(), Some("the child's"));
}

/// Its task ends before it does, and closes it as forgotten: hence a runtime of its own, for a test would fail of that.
#[test]
fn a_scope_that_goes_on_after_its_first_task_is_in_the_second() {
    struct Slow(Arc<AtomicUsize>);
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(50));
            self.0.store(1, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let slow = Slow(Arc::clone(&dropped));
    let runtime = Builder::new().workers(2).build().expect("a runtime starts");
    runtime.block_on(async {
        let first = leakfree::spawn(async move {
            let mut moving: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(leakfree::scope(async move |_| {
                    // A cancelled scope's children would be refused.
                    leakfree::shield(async {
                        leakfree::yield_now().await;
                        let mut lost = Box::pin(leakfree::scope(async move |s| {
                            s.spawn(async move {
                                let _slow = slow;
                                pending::<()>().await;
                            });
                            pending::<()>().await;
                        }));
                        assert!(futures::poll!(&mut lost).is_pending());
                        drop(lost);
                    })
                    .await;
                }));
            assert!(futures::poll!(&mut moving).is_pending());
            Some(moving)
        });
        first.await.unwrap().expect("it was polled once").await;
        assert_eq!(dropped.load(SeqCst), 1, "the scope waited for what was dropped in its body");
    });
    // A scope that moved away counts as forgotten.
    assert_eq!(runtime.shutdown().leaked(), 0);
}

#[leakfree::test(workers = 2)]
async fn what_is_in_a_scope_behind_a_shield_is_behind_it_too() {
    for late in [false, true] {
        let (go, wait) = oneshot::channel::<()>();
        let (running, is_running) = oneshot::channel::<()>();
        let (shielded, is_shielded) = oneshot::channel::<()>();
        let (cancelled, is_cancelled) = oneshot::channel::<()>();
        let (value, told) = oneshot::channel();
        let around = leakfree::spawn(leakfree::scope(async move |s: Scope| {
            s.spawn(leakfree::shield(leakfree::scope(async move |_| {
                let inner = async move |s: Scope| {
                    let child = s.spawn(async move {
                        let _ = running.send(());
                        wait.await.is_ok()
                    });
                    let _ = value.send(child.await.ok());
                };
                if late {
                    let _ = shielded.send(());
                    is_cancelled.await.unwrap();
                }
                leakfree::scope(inner).await;
            })));
            if late {
                is_shielded.await.unwrap();
                s.cancel("before");
                cancelled.send(()).unwrap();
                let _ = is_running.await;
            } else {
                let _ = is_running.await;
                s.cancel("after");
            }
            let _ = go.send(());
        }));
        around.await.unwrap();
        assert_eq!(told.await, Ok(Some(true)), "opened after the cancel: {late}");
    }
}

#[leakfree::test(workers = 2)]
async fn a_scope_in_the_body_of_one_with_a_grace_has_that_grace() {
    let (running, is_running) = oneshot::channel::<()>();
    let (value, told) = oneshot::channel();
    let task = leakfree::spawn(Scope::builder().grace(Duration::from_secs(10)).scope(async move |_| {
        leakfree::scope(async move |s| {
            s.spawn(async move {
                let _ = running.send(());
                leakfree::cancelled().await;
                leakfree::yield_now().await;
                let _ = value.send("said good-bye");
            });
            pending::<()>().await;
        })
        .await;
    }));
    is_running.await.unwrap();
    task.abort();
    assert_eq!(told.await, Ok("said good-bye"));
    assert!(task.await.is_err());
}

#[leakfree::test(workers = 2)]
async fn who_is_above_is_known_below_a_scope_that_has_moved() {
    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;
    fn chain(depth: usize, last: Boxed, give: Option<oneshot::Sender<JoinHandle<()>>>) -> Boxed {
        Box::pin(async move {
            if depth == 0 {
                return last.await;
            }
            leakfree::scope(async move |s| match give {
                Some(give) if depth == 3 => {
                    let _ = give.send(s.spawn(chain(depth - 1, last, None)));
                }
                give => drop(s.spawn(chain(depth - 1, last, give))),
            })
            .await;
        })
    }
    for asks_before in [false, true] {
        let (give, given) = oneshot::channel::<JoinHandle<()>>();
        let (value, told) = oneshot::channel();
        let (go, wait) = oneshot::channel::<()>();
        let mut moving = Box::pin(leakfree::scope(async move |s| {
            // In a scope below a task below the scope that moves.
            s.spawn(leakfree::scope(async move |s| {
                s.spawn(async move {
                    let above = given.await.unwrap();
                    if !asks_before {
                        wait.await.unwrap();
                    }
                    let _ = value.send(above.await.is_err_and(|error| error.is_would_deadlock()));
                });
            }));
        }));
        assert!(futures::poll!(&mut moving).is_pending());
        leakfree::time::sleep(Duration::from_millis(10)).await;
        let (let_on, hold) = oneshot::channel::<()>();
        let last = Box::pin(async move {
            hold.await.unwrap();
            moving.await;
        });
        let top = leakfree::spawn(chain(5, last, Some(give)));
        leakfree::time::sleep(Duration::from_millis(10)).await;
        let_on.send(()).unwrap();
        leakfree::time::sleep(Duration::from_millis(10)).await;
        let _ = go.send(());
        let told = leakfree::time::timeout(Duration::from_secs(2), told).await;
        top.abort();
        assert_eq!(
            told.map(Result::ok).ok().flatten(),
            Some(true),
            "it asked before the move: {asks_before}"
        );
    }
}

/// Seed 8563684167324373950.
#[test]
fn the_grace_of_what_is_forgotten_in_a_body_ends_though_the_scope_has_ended() {
    let runtime = Builder::new().workers(2).build().expect("a runtime starts");
    for grace_ms in [None, Some(1000)] {
        runtime.block_on(async {
            let (kept, waits) = oneshot::channel::<()>();
            let task = leakfree::spawn(async move {
                let around = Scope::builder().grace(Duration::from_millis(20)).scope(async |s: Scope| {
                    let mut inner = Scope::builder();
                    if let Some(ms) = grace_ms {
                        inner = inner.grace(Duration::from_millis(ms));
                    }
                    let mut lost = Box::pin(inner.scope(async move |s| {
                        s.spawn(waits);
                        pending::<()>().await;
                    }));
                    assert!(futures::poll!(&mut lost).is_pending());
                    std::mem::forget(lost);
                    s.cancel("it is in its grace, and ends before that does");
                });
                around.await;
            });
            let ended = leakfree::time::timeout(Duration::from_millis(500), task).await;
            assert!(ended.is_ok(), "with a grace of its own of {grace_ms:?} ms");
            drop(kept);
        });
    }
}

#[test]
fn a_scope_that_is_awaited_below_itself_says_so() {
    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;
    let runtime = Builder::new().workers(2).grace(Duration::ZERO).build().expect("a runtime starts");
    let ended = runtime.block_on(async {
        let (give, given) = oneshot::channel::<Boxed>();
        let (told, hears) = std::sync::mpsc::channel();
        let mut moving: Boxed = Box::pin(leakfree::scope(async move |s| {
            s.spawn(async move {
                let waits = AssertUnwindSafe(given.await.unwrap());
                let panicked = futures::FutureExt::catch_unwind(waits).await;
                told.send(panicked.unwrap_err().downcast::<String>().ok()).unwrap();
            });
            leakfree::yield_now().await;
        }));
        assert!(futures::poll!(&mut moving).is_pending());
        assert!(give.send(moving).is_ok());
        leakfree::spawn_blocking(move || hears.recv_timeout(Duration::from_secs(5))).await.unwrap()
    });
    assert!(ended.unwrap().unwrap().starts_with("waiting for this scope would never end"));
    assert!(runtime.shutdown().is_clean());
}
