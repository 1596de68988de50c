//! Who is PROVEN is never polled again: random programs of scopes in simulation, whose children fail, are dropped half-way, daemons and joined from
//! anywhere. A look after each step.
//!
//! `LEAKFREE_PROOFS` says how many, `LEAKFREE_SEED` the first.

use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle};
use leakfree::time::{sleep, timeout};
use leakfree::{JoinHandle, Scope};

/// Tasks of one program, the main one left out.
const TASKS: u64 = 24;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What the tasks of a program have in common.
struct World {
    seed: u64,
    spawned: AtomicU64,
    handles: Mutex<Vec<JoinHandle<()>>>,
    locks: [leakfree::sync::Mutex<()>; 2],
    proven: Mutex<HashSet<u64>>,
    /// Those of them that were polled.
    polled: Mutex<Vec<u64>>,
}

impl World {
    /// A task, unless there are enough.
    fn task(self: &Arc<Self>) -> Option<Task> {
        let number = self.spawned.fetch_add(1, Ordering::SeqCst);
        let mut random = Random((self.seed << 8 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let world = Arc::clone(self);
        let does: Task = Box::pin(async move {
            for _ in 0..1 + random.below(3) {
                world.step(&mut random).await;
            }
        });
        (number < TASKS).then(|| self.watched(does))
    }

    /// Has each poll looked at.
    fn watched(self: &Arc<Self>, mut does: Task) -> Task {
        let world = Arc::clone(self);
        Box::pin(poll_fn(move |cx| {
            let id = leakfree::task::id().get();
            if world.proven.lock().unwrap().contains(&id) && !leakfree::is_cancelled() {
                world.polled.lock().unwrap().push(id);
            }
            does.as_mut().poll(cx)
        }))
    }

    fn keep(&self, handle: JoinHandle<()>) {
        self.handles.lock().unwrap().push(handle);
    }

    fn any_handle(&self, random: &mut Random) -> Option<JoinHandle<()>> {
        let mut handles = self.handles.lock().unwrap();
        let n = handles.len() as u64;
        (n > 0).then(|| handles.swap_remove(random.below(n) as usize))
    }

    fn step<'a>(
        self: &'a Arc<Self>,
        random: &'a mut Random,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            match random.below(23) {
                20 => leakfree::shield(self.step(random)).await,
                21 => self.tries(random).await,
                0..=2 => sleep(Duration::from_millis(random.below(40))).await,
                3..=7 => {
                    if let Some(handle) = self.any_handle(random) {
                        let _ = handle.await;
                    }
                }
                8 => {
                    if let (Some(a), Some(b)) = (self.any_handle(random), self.any_handle(random)) {
                        leakfree::select! { _ = a => {}, _ = b => {} }
                    }
                }
                9..=10 => {
                    if let Some(task) = self.task() {
                        self.keep(leakfree::spawn(task));
                    }
                }
                11..=12 => pending().await,
                13 => panic!("a task of the program panics"),
                14 => {
                    let _guard = self.locks[random.below(2) as usize].lock().await;
                    self.step(random).await;
                }
                _ => self.scope(random).await,
            }
        })
    }

    /// A `try_scope` with a child that may fail.
    async fn tries(self: &Arc<Self>, random: &mut Random) {
        let after = Duration::from_millis(random.below(80));
        let fails = random.below(2) == 0;
        let most = 1 + random.below(3) as usize;
        let builder =
            Scope::builder().max_concurrent(most).grace(Duration::from_millis(random.below(2) * 20));
        let _ = builder
            .try_scope(async |s: Scope<()>| {
                for _ in 0..2 {
                    if let Some(task) = self.task() {
                        self.keep(s.spawn(task));
                    }
                }
                drop(s.spawn_try(async move {
                    sleep(after).await;
                    if fails { Err(()) } else { Ok(()) }
                }));
                if random.below(2) == 0 {
                    self.step(random).await;
                }
                Ok(())
            })
            .await;
    }

    async fn scope(self: &Arc<Self>, random: &mut Random) {
        let (kind, most) = (random.below(4), Duration::from_millis(1 + random.below(60)));
        let limit = random.below(3) == 0;
        let mut body = async |s: &Scope| {
            for _ in 0..1 + random.below(3) {
                let Some(task) = self.task() else { break };
                let handle = match random.below(4) {
                    0 => s.spawn_daemon(task),
                    _ => s.spawn(task),
                };
                if random.below(4) > 0 {
                    self.keep(handle);
                }
            }
            if random.below(2) == 0 {
                self.step(random).await;
            }
        };
        let scoped: Pin<Box<dyn Future<Output = ()> + Send + '_>> = match kind {
            0 => Box::pin(leakfree::supervisor_scope(async move |s: Scope| body(&s).await)),
            _ => Box::pin(leakfree::scope(async move |s: Scope| body(&s).await)),
        };
        match limit {
            true => _ = timeout(most, scoped).await,
            false => scoped.await,
        }
    }
}

/// Runs one program, and says how many were proven.
fn run(seed: u64) -> usize {
    let world = Arc::new(World {
        seed,
        spawned: AtomicU64::new(0),
        handles: Mutex::default(),
        locks: Default::default(),
        proven: Mutex::default(),
        polled: Mutex::default(),
    });
    let handle: Arc<OnceLock<Handle>> = Arc::default();
    let (looks, theirs) = (Arc::clone(&handle), Arc::clone(&world));
    let builder = Builder::new().workers(2).seed(seed).grace(Duration::ZERO).steps_max(20_000);
    let builder = builder.on_step(move |_| {
        let Some(handle) = looks.get() else { return };
        let report = handle.report();
        let is_proven = |verdict| matches!(verdict, Verdict::ProvenUnwakeable | Verdict::ProvenStuck);
        let proven = report.findings.iter().filter(|finding| is_proven(finding.verdict));
        theirs.proven.lock().unwrap().extend(proven.flat_map(|finding| finding.ids.iter().copied()));
    });
    let runtime = builder.build().unwrap();
    assert!(handle.set(runtime.handle()).is_ok());
    runtime.block_on(async {
        for _ in 0..4 {
            let task = world.task().expect("the first");
            world.keep(leakfree::spawn(task));
        }
        sleep(Duration::from_millis(500)).await;
    });
    let polled = world.polled.lock().unwrap().clone();
    // It cancels all but who is behind a shield: by code, which is no proof's affair.
    let report = runtime.shutdown();
    assert!(
        polled.is_empty(),
        "seed {seed}: {polled:?} were PROVEN, and polled\n{report}\nleaked {}",
        report.leaked()
    );
    world.handles.lock().unwrap().clear();
    world.proven.lock().unwrap().len()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn who_is_proven_is_never_polled_again_whatever_becomes_of_its_scopes() {
    // Panics are what the programs are made of.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("a task of the program panics") {
            eprintln!("{info}");
        }
    }));
    let (first, programs) = (number("LEAKFREE_SEED", 1), number("LEAKFREE_PROOFS", 60));
    let proven: usize = (first..first + programs).map(run).sum();
    assert!(proven as u64 > programs, "{proven} were proven in {programs} programs: nothing was tried");
}
