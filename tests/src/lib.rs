//! What the tests share.

pub mod corpus;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use leakfree::report::snapshot::TaskInfo;
use leakfree::runtime::{Builder, Handle, Runtime};

/// A runtime whose shutdown does not wait for leaks.
pub fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).grace(Duration::ZERO).build().expect("a runtime starts")
}

/// Polls `condition` from within a task until it holds. Each look is a yield apart; a test that hangs here is
/// ended by the harness's own patience.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        leakfree::yield_now().await;
        // Workers of other kinds (the blocking pool, plain threads) need the core, too.
        std::thread::yield_now();
    }
}

/// The parked task of that name in a live runtime, as soon as it is parked.
pub async fn parked(name: &str) -> TaskInfo {
    let mut found = None;
    until(|| {
        let tasks = Handle::current().snapshot().tasks;
        found = tasks.into_iter().find(|task| task.name.as_deref() == Some(name) && task.parked.is_some());
        found.is_some()
    })
    .await;
    found.expect("until found it")
}

/// Counts how often it was made and dropped.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    /// None yet.
    pub fn new() -> Drops {
        Drops::default()
    }

    /// A value whose drop is counted.
    pub fn guard(&self) -> DropGuard {
        DropGuard(Arc::clone(&self.0))
    }

    /// Drops so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// See [`Drops`].
#[derive(Debug)]
pub struct DropGuard(Arc<AtomicUsize>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never ready, registers nothing, and holds a value until it is dropped.
#[derive(Debug)]
pub struct Holding<T>(pub T);

impl<T> Future for Holding<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
