//! What does one transition cost: a spawn, a wake, a poll that parks, a completion, an uncontended lock?
//!
//! `cargo bench -p leakfree-benches --features micro --bench micro`
//!
//! Everything happens in one task on one worker. Where a transition has another as its wake, batches are made ready outside the
//! clock, so that a row holds what its name says and nothing else.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use leakfree::runtime::{Builder, Runtime};
use leakfree::sync::{self, mpsc, oneshot};
use leakfree::{JoinHandle, scope, spawn, yield_now};

const BATCH: u64 = 1_000;

/// Runs `body` in a task: it gets the number of iterations, and returns how long they took.
fn row<F>(c: &mut Criterion, runtime: &Runtime, name: &str, body: impl Fn(u64) -> F)
where
    F: Future<Output = Duration> + Send + 'static,
{
    c.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let task = runtime.handle().spawn(body(iterations));
            runtime.block_on(task).expect("no body panics")
        });
    });
}

/// Times the second of three parts of a batch, and takes as many batches as there are iterations.
async fn batches<T, U>(
    iterations: u64,
    mut before: impl AsyncFnMut() -> T,
    mut timed: impl AsyncFnMut(T) -> U,
    mut after: impl AsyncFnMut(U),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations.div_ceil(BATCH) {
        let ready = before().await;
        let start = Instant::now();
        let left = timed(ready).await;
        total += start.elapsed();
        after(left).await;
    }
    scaled(total, iterations)
}

/// Of the batches, as much as there are iterations.
fn scaled(total: Duration, iterations: u64) -> Duration {
    total.mul_f64(iterations as f64 / (iterations.div_ceil(BATCH) * BATCH) as f64)
}

fn spawn_batch() -> Vec<JoinHandle<()>> {
    (0..BATCH).map(|_| spawn(async {})).collect()
}

async fn join_batch(handles: Vec<JoinHandle<()>>) {
    for handle in handles {
        handle.await.expect("it returns");
    }
}

/// Returns when everything that was ready has been polled.
async fn settle<T>(left: T) -> T {
    yield_now().await;
    yield_now().await;
    left
}

/// Parked tasks, and what wakes them.
#[derive(Clone)]
struct Sleepers(Arc<Mutex<Vec<Waker>>>);

impl Sleepers {
    /// A batch of tasks that give away a waker each time they are polled.
    async fn new() -> Sleepers {
        let sleepers = Sleepers(Arc::default());
        for _ in 0..BATCH {
            let sleepers = sleepers.clone();
            drop(spawn(poll_fn(move |cx| {
                sleepers.0.lock().expect("nobody panics").push(cx.waker().clone());
                Poll::<()>::Pending
            })));
        }
        settle(sleepers).await
    }

    fn wakers(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics"))
    }
}

/// What [`wakes`] times.
#[derive(Clone, Copy, PartialEq)]
enum Timed {
    Wakes,
    Polls,
}

/// Wakes a batch of parked tasks, which then park again, over and over.
async fn wakes(iterations: u64, wake: fn(&mut Vec<Waker>), timed: Timed) -> Duration {
    let sleepers = Sleepers::new().await;
    let mut total = Duration::ZERO;
    for _ in 0..iterations.div_ceil(BATCH) {
        let mut wakers = sleepers.wakers();
        let start = Instant::now();
        wake(&mut wakers);
        let woken = Instant::now();
        settle(()).await;
        total += if timed == Timed::Wakes { woken - start } else { woken.elapsed() };
    }
    scaled(total, iterations)
}

fn tasks(c: &mut Criterion) {
    let runtime = &Builder::new().workers(1).build().expect("a runtime starts");
    row(c, runtime, "spawn", |n| batches(n, async || (), async |()| spawn_batch(), join_batch));
    row(c, runtime, "poll and complete, handle held", |n| {
        batches(n, async || spawn_batch(), settle, join_batch)
    });
    row(c, runtime, "join of a finished task", |n| {
        batches(n, async || settle(spawn_batch()).await, join_batch, async |()| {})
    });
    row(c, runtime, "yield", |n| async move {
        let start = Instant::now();
        for _ in 0..n {
            yield_now().await;
        }
        start.elapsed()
    });
    row(c, runtime, "scope, opened and closed", |n| async move {
        let start = Instant::now();
        for _ in 0..n {
            scope(async |_| {}).await;
        }
        start.elapsed()
    });
}

fn wakers(c: &mut Criterion) {
    let runtime = &Builder::new().workers(1).build().expect("a runtime starts");
    row(c, runtime, "waker, cloned and dropped", |n| {
        poll_fn(move |cx| {
            let start = Instant::now();
            for _ in 0..n {
                drop(black_box(cx.waker().clone()));
            }
            Poll::Ready(start.elapsed())
        })
    });
    let by_value = |wakers: &mut Vec<Waker>| wakers.drain(..).for_each(Waker::wake);
    let by_reference = |wakers: &mut Vec<Waker>| wakers.iter().for_each(Waker::wake_by_ref);
    row(c, runtime, "wake by value", |n| wakes(n, by_value, Timed::Wakes));
    row(c, runtime, "wake by reference", |n| wakes(n, by_reference, Timed::Wakes));
    row(c, runtime, "poll and park, a waker cloned", |n| wakes(n, by_value, Timed::Polls));
}

fn primitives(c: &mut Criterion) {
    let runtime = &Builder::new().workers(1).build().expect("a runtime starts");
    row(c, runtime, "Mutex, uncontended", |n| async move {
        let mutex = sync::Mutex::new(0);
        let start = Instant::now();
        for _ in 0..n {
            *mutex.lock().await += 1;
        }
        start.elapsed()
    });
    row(c, runtime, "Semaphore, uncontended", |n| async move {
        let semaphore = sync::Semaphore::new(1);
        let start = Instant::now();
        for _ in 0..n {
            drop(semaphore.acquire().await);
        }
        start.elapsed()
    });
    row(c, runtime, "mpsc, sent and received", |n| async move {
        let (tx, mut rx) = mpsc::channel(16);
        let start = Instant::now();
        for message in 0..n {
            tx.send(message).await.expect("the receiver is there");
            black_box(rx.recv().await);
        }
        start.elapsed()
    });
    row(c, runtime, "oneshot, made, sent and received", |n| async move {
        let start = Instant::now();
        for message in 0..n {
            let (tx, rx) = oneshot::channel();
            let _ = tx.send(message);
            let _ = black_box(rx.await);
        }
        start.elapsed()
    });
    row(c, runtime, "sleep, armed and dropped", |n| {
        poll_fn(move |cx| {
            let start = Instant::now();
            for _ in 0..n {
                let mut sleep = pin!(leakfree::time::sleep(Duration::from_secs(60)));
                assert!(sleep.as_mut().poll(cx).is_pending(), "it is not due");
            }
            Poll::Ready(start.elapsed())
        })
    });
}

criterion_group! {
    name = micro;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = tasks, wakers, primitives
}
criterion_main!(micro);
