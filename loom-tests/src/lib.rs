//! Models of the protocols of leakfree, one file each in `tests/`, named after the source file. They run the real
//! code under loom, which tries every interleaving up to a number of preemptions:
//!
//! ```console
//! $ RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom cargo test -p leakfree-loom-tests --profile loom
//! ```
//!
//! House rule: a model's future writes a loom cell as the last act of each poll, so that a missing release or
//! acquire shows.

#![cfg(loom)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What a model's future does in its polls, and what has become of it.
pub struct Script {
    /// Wakers that polls left; the model takes them out.
    pub wakers: loom::sync::Mutex<Vec<Waker>>,
    /// Polls so far.
    pub polls: AtomicUsize,
    /// Drops of the future.
    pub drops: AtomicUsize,
    /// Drops of outputs.
    pub outputs: Arc<AtomicUsize>,
    /// Wakers to leave in each poll; after the last the future is ready.
    plan: Mutex<Vec<usize>>,
    last_act: UnsafeCell<usize>,
}

// SAFETY: `last_act` is written by polls and the drop, which the task orders; loom checks that it does.
unsafe impl Sync for Script {}
// SAFETY: as above.
unsafe impl Send for Script {}

impl Script {
    /// A future that leaves `plan[i]` wakers in its i-th poll, and is then ready.
    pub fn new(plan: &[usize]) -> Arc<Script> {
        Arc::new(Script {
            wakers: loom::sync::Mutex::new(Vec::new()),
            polls: AtomicUsize::new(0),
            drops: AtomicUsize::new(0),
            outputs: Arc::new(AtomicUsize::new(0)),
            plan: Mutex::new(plan.iter().rev().copied().collect()),
            last_act: UnsafeCell::new(0),
        })
    }

    /// After the end: all that the future did was done before.
    pub fn look(&self) {
        // SAFETY: loom checks that the polls and the drop come first.
        self.last_act.with(|last| unsafe { assert!(*last > 0) });
    }

    /// One of the wakers that are left.
    pub fn take(&self) -> Option<Waker> {
        self.wakers.lock().unwrap().pop()
    }
}

/// The future of a [`Script`].
pub struct Scripted(pub Arc<Script>);

/// The output of a [`Scripted`].
pub struct Output(Arc<AtomicUsize>);

impl Drop for Output {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Future for Scripted {
    type Output = Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let script = &self.0;
        script.polls.fetch_add(1, SeqCst);
        let planned = script.plan.lock().unwrap().pop();
        if let Some(wakers) = planned {
            for _ in 0..wakers {
                script.wakers.lock().unwrap().push(cx.waker().clone());
            }
        }
        // SAFETY: loom checks that no two polls write at once.
        script.last_act.with_mut(|last| unsafe { *last += 1 });
        match planned {
            Some(_) => Poll::Pending,
            None => Poll::Ready(Output(Arc::clone(&script.outputs))),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, SeqCst);
        // SAFETY: as in `poll`: the drop comes after the last poll.
        self.0.last_act.with_mut(|last| unsafe { *last += 1 });
    }
}

impl Script {
    /// The future is gone, after so many polls, and so are its outputs.
    pub fn assert_over(&self, polls: usize, outputs: usize) {
        assert_eq!(self.polls.load(SeqCst), polls);
        assert_eq!(self.drops.load(SeqCst), 1);
        assert_eq!(self.outputs.load(SeqCst), outputs);
    }
}

/// Runs a model, and says what it took.
pub fn model(f: impl Fn() + Send + Sync + 'static) {
    bounded(usize::MAX, f);
}

/// The same for a model that takes minutes at three preemptions: two at the most, unless `LEAKFREE_MODELS=full` is set.
pub fn big(f: impl Fn() + Send + Sync + 'static) {
    let full = std::env::var("LEAKFREE_MODELS").is_ok_and(|models| models == "full");
    bounded(if full { usize::MAX } else { 2 }, f);
}

fn bounded(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    let begin = std::time::Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 5_000;
    builder.preemption_bound = builder.preemption_bound.map(|bound| bound.min(preemptions));
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let named = name.clone();
    builder.check(move || {
        let n = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if n.is_multiple_of(1_000_000) {
            eprintln!("{named}: {n} executions so far, {:.0} s", begin.elapsed().as_secs_f32());
        }
        f();
    });
    let count = count.load(std::sync::atomic::Ordering::Relaxed);
    eprintln!("{name}: {count} executions in {:.1} s", begin.elapsed().as_secs_f32());
}

/// Runs a model with either stand-in for the queues: see `scheduler/queue.rs`.
pub fn both_queues(f: impl Fn() + Send + Sync + Clone + 'static) {
    for with_lock in [false, true] {
        leakfree::model::set_queues_with_lock(with_lock);
        model(f.clone());
    }
}
