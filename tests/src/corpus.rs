//! What the leak corpus and the healthy corpus share.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use leakfree::JoinHandle;
use leakfree::report::snapshot::Snapshot;
use leakfree::runtime::{Builder, Handle, Runtime};

/// Every program runs on so many workers.
pub const WORKERS: [usize; 3] = [1, 2, 8];

/// A program that has not come where it should by then never will.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// [`PATIENCE`] that is looked at all the time: time in which nobody looked, since the machine stood, does not count.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    /// All of it is left.
    #[expect(clippy::new_without_default, reason = "it begins with the call")]
    pub fn new() -> Patience {
        Patience { left: PATIENCE, looked: Instant::now() }
    }

    /// Nothing is left.
    pub fn is_over(&mut self) -> bool {
        let passed = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        self.left = self.left.saturating_sub(passed.min(Duration::from_millis(100)));
        self.left.is_zero()
    }
}

/// How often each program runs on each number of workers: `LEAKFREE_CORPUS_ROUNDS`.
pub fn rounds(default: usize) -> usize {
    let said = std::env::var("LEAKFREE_CORPUS_ROUNDS").ok();
    said.map_or(default, |text| text.parse().expect("LEAKFREE_CORPUS_ROUNDS is a number"))
}

/// Only programs whose name contains this: `LEAKFREE_CORPUS_ONLY`.
pub fn is_wanted(name: &str) -> bool {
    std::env::var("LEAKFREE_CORPUS_ONLY").map_or(true, |only| name.contains(&only))
}

/// A runtime that gives busy machines the time to settle, and leaks none.
pub fn runtime(workers: usize, paused: bool) -> Runtime {
    Builder::new()
        .workers(workers)
        .grace(Duration::ZERO)
        .settle(PATIENCE)
        .start_paused(paused)
        .build()
        .expect("a runtime starts")
}

/// The seeds that each program runs under in simulation: `LEAKFREE_SCHEDULES` many, or the one of `LEAKFREE_SEED`.
pub fn seeds(default: u64) -> Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    match number("LEAKFREE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LEAKFREE_SCHEDULES").unwrap_or(default),
    }
}

/// A simulation; the seed chooses the number of workers, too.
pub fn simulation(seed: u64) -> Builder {
    Builder::new().workers([1, 2, 3, 8][seed as usize % 4]).seed(seed).grace(Duration::ZERO)
}

/// Runs a program under one schedule, and says under which, and how to have it again, if it panics.
pub fn under_seed<T>(test: &str, program: &str, seed: u64, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        eprintln!(
            "{program} failed with seed {seed}; to replay it:\n    LEAKFREE_SEED={seed} LEAKFREE_CORPUS_ONLY={program} cargo test \
             -p leakfree-tests --test {test} simulation"
        );
        std::panic::resume_unwind(payload)
    })
}

/// A task with a name, in the scope that the caller runs in.
#[track_caller]
pub fn spawn<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    leakfree::scope::current().task().name(name).spawn(future)
}

/// What a program keeps for longer than it runs: a global, a cache, a registry. Dropped when the runtime is gone.
#[derive(Clone, Default)]
pub struct Keep(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Keep {
    /// Puts something away.
    pub fn keep(&self, value: impl Any + Send) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(value));
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}

/// The future of a program.
pub type Body = Pin<Box<dyn Future<Output = ()>>>;

/// Looks from outside until a snapshot satisfies `rests`. False when patience is at its end.
pub fn comes_to_rest(handle: &Handle, rests: impl Fn(&Snapshot) -> bool) -> bool {
    let mut patience = Patience::new();
    while !rests(&handle.snapshot()) {
        if patience.is_over() {
            return false;
        }
        // The workers need the cores.
        thread::sleep(Duration::from_micros(100));
    }
    true
}

/// The source of a corpus, in which comments mark lines: `// spawn NAME` and `// wait NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its path as the compiler was given it: `file!()`.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Source {
    /// The lines in a function that have that comment at their end; others may stand beside it.
    ///
    /// # Panics
    /// If there is no such function.
    pub fn lines(&self, function: &str, mark: &str) -> Vec<u32> {
        let head = format!("async fn {function}(");
        let lines = || self.text.lines().zip(1_u32..);
        let start = lines().find(|(line, _)| line.starts_with(&head)).map(|(_, at)| at);
        let start = start.unwrap_or_else(|| panic!("no function {function} in {}", self.file));
        let body = lines().skip(start as usize).take_while(|(line, _)| *line != "}");

        let is_marked = |line: &str| line.split(" // ").skip(1).any(|comment| comment == mark);
        body.filter(|(line, _)| is_marked(line)).map(|(_, at)| at).collect()
    }
}
