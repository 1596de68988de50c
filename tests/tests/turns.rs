//! Who runs next on a worker: a task that waits for others is neither run in vain nor kept waiting.

use std::collections::HashSet;
use std::hint;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use leakfree::net::UnixStream;
use leakfree::runtime::{Builder, Runtime};
use leakfree_tests::runtime;

fn one_worker() -> Runtime {
    Builder::new().workers(1).build().expect("a runtime starts")
}

/// Counts its polls.
struct Counted<F>(Pin<Box<F>>, Arc<AtomicUsize>);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, SeqCst);
        self.0.as_mut().poll(cx)
    }
}

#[test]
fn who_collects_the_ends_of_many_is_not_polled_at_each_of_them() {
    let polls = Arc::new(AtomicUsize::new(0));
    let collects = Counted(
        Box::pin(async {
            let children: Vec<_> = (0..100).map(|_| leakfree::spawn(async {})).collect();
            for child in children {
                child.await.unwrap();
            }
        }),
        Arc::clone(&polls),
    );
    one_worker().block_on(async { leakfree::spawn(collects).await.unwrap() });
    assert!(polls.load(SeqCst) <= 4, "{} polls", polls.load(SeqCst));
}

#[test]
fn who_waits_for_one_child_after_the_other_does_not_go_behind_all_others_each_time() {
    const OTHERS: usize = 100;
    const CHILDREN: usize = 30;
    let others = Arc::new(AtomicUsize::new(0));
    one_worker().block_on(async {
        leakfree::scope(async |s| {
            for _ in 0..OTHERS {
                let others = Arc::clone(&others);
                s.spawn_daemon(async move {
                    loop {
                        others.fetch_add(1, SeqCst);
                        leakfree::yield_now().await;
                    }
                });
            }
            let theirs = Arc::clone(&others);
            let between = leakfree::spawn(async move {
                // All others are queued by now.
                leakfree::yield_now().await;
                let before = theirs.load(SeqCst);
                for _ in 0..CHILDREN {
                    leakfree::spawn(async {}).await.unwrap();
                }
                theirs.load(SeqCst) - before
            });
            let between = between.await.unwrap();
            assert!(between < CHILDREN * OTHERS / 10, "{between} polls of others for {CHILDREN} children");
        })
        .await;
    });
}

/// Keeps the thread until that is so.
fn block_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        thread::yield_now();
    }
}

/// Blocks a worker until so many tasks that it has queued have run elsewhere.
async fn leave_behind(few: usize) {
    let blocks = leakfree::spawn(async move {
        let left = Arc::new(AtomicUsize::new(few));
        for _ in 0..few {
            let left = Arc::clone(&left);
            drop(leakfree::spawn(async move { _ = left.fetch_sub(1, SeqCst) }));
        }
        // What was spawned last is this worker's next.
        drop(leakfree::spawn(async {}));
        block_until("run elsewhere", || left.load(SeqCst) == 0);
    });
    blocks.await.unwrap();
}

#[test]
fn however_few_wait_behind_a_poll_that_does_not_end_another_worker_runs_them() {
    for few in 1..=16 {
        let runtime = runtime(2);
        runtime.block_on(leave_behind(few));
        assert!(runtime.shutdown().is_clean());
    }
}

#[test]
fn a_few_tasks_that_moved_on_by_themselves_are_run_elsewhere_when_one_of_them_blocks() {
    const OTHERS: usize = 5;
    // In some of the rounds the other worker sleeps by then, and watches.
    for rounds in [0, 1, 10, 100, 1_000, 10_000, 100_000] {
        let runtime = runtime(2);
        runtime.block_on(async {
            let left = Arc::new(AtomicUsize::new(OTHERS));
            let blocked = Arc::new(AtomicBool::new(false));
            leakfree::scope(async |s| {
                for _ in 0..OTHERS {
                    let (left, blocked) = (Arc::clone(&left), Arc::clone(&blocked));
                    s.spawn(async move {
                        while !blocked.load(SeqCst) {
                            leakfree::yield_now().await;
                        }
                        left.fetch_sub(1, SeqCst);
                    });
                }
                s.spawn(async move {
                    for _ in 0..rounds {
                        leakfree::yield_now().await;
                    }
                    blocked.store(true, SeqCst);
                    block_until("they went on elsewhere", || left.load(SeqCst) == 0);
                });
            })
            .await;
        });
        assert!(runtime.shutdown().is_clean());
    }
}

#[test]
fn what_waits_behind_a_poll_that_does_not_end_is_run_elsewhere_however_busy_sockets_keep_the_other_worker() {
    const PAIRS: usize = 32;
    let runtime = runtime(2);
    runtime.block_on(async {
        leakfree::scope(async |s| {
            let trips = Arc::new(AtomicUsize::new(0));
            for _ in 0..PAIRS {
                let (here, there) = UnixStream::pair().unwrap();
                s.spawn_daemon(async move {
                    let mut byte = [0];
                    while there.read_exact(&mut byte).await.is_ok() && there.write_all(&byte).await.is_ok() {}
                });
                let trips = Arc::clone(&trips);
                s.spawn_daemon(async move {
                    let mut byte = [0];
                    while here.write_all(&byte).await.is_ok() && here.read_exact(&mut byte).await.is_ok() {
                        trips.fetch_add(1, SeqCst);
                    }
                });
            }
            for _ in 0..10 {
                let before = trips.load(SeqCst);
                leakfree_tests::until(|| trips.load(SeqCst) > before + 10 * PAIRS).await;
                leave_behind(4).await;
            }
        })
        .await;
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn what_waits_behind_a_poll_that_does_not_end_is_run_elsewhere_however_much_comes_from_outside() {
    let runtime = runtime(2);
    let (handle, ended, goes_on) = (runtime.handle().clone(), Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let outside = {
        let (ended, goes_on) = (Arc::clone(&ended), Arc::downgrade(&goes_on));
        thread::spawn(move || {
            let mut spawned = 0;
            while goes_on.strong_count() > 0 {
                // More than a worker takes at once, and no more than the memory holds.
                if spawned < ended.load(SeqCst) + 10_000 {
                    let ended = Arc::clone(&ended);
                    drop(handle.spawn(async move {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_micros(2) {
                            hint::spin_loop();
                        }
                        ended.fetch_add(1, SeqCst);
                    }));
                    spawned += 1;
                }
            }
        })
    };
    runtime.block_on(async {
        for _ in 0..10 {
            let before = ended.load(SeqCst);
            leakfree_tests::until(|| ended.load(SeqCst) > before + 1_000).await;
            leave_behind(4).await;
        }
    });
    drop(goes_on);
    outside.join().unwrap();
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn what_waits_behind_a_poll_that_does_not_end_is_run_elsewhere_though_the_other_worker_never_runs_dry() {
    let runtime = runtime(2);
    runtime.block_on(async {
        leakfree::scope(async |s| {
            for _ in 0..16 {
                s.spawn_daemon(async {
                    loop {
                        leakfree::yield_now().await;
                    }
                });
            }
            for _ in 0..10 {
                leave_behind(4).await;
            }
        })
        .await;
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_few_tasks_that_do_not_wait_for_one_another_are_shared_by_two_workers_be_their_polls_long_or_short() {
    for poll in [Duration::ZERO, Duration::from_micros(100)] {
        let runtime = runtime(2);
        runtime.block_on(async {
            let workers = Arc::new(Mutex::new(HashSet::new()));
            let together = Arc::new(AtomicBool::new(false));
            leakfree::scope(async |s| {
                let (held, there) = (Arc::new(AtomicBool::new(false)), Arc::clone(&together));
                let holds = Arc::clone(&held);
                // They begin on one worker, for the other one is held.
                s.spawn(async move {
                    holds.store(true, SeqCst);
                    block_until("all are on one worker", || there.load(SeqCst));
                });
                leakfree_tests::until(|| held.load(SeqCst)).await;
                for _ in 0..4 {
                    let (workers, together) = (Arc::clone(&workers), Arc::clone(&together));
                    s.spawn(async move {
                        for _ in 0..1_000 {
                            leakfree::yield_now().await;
                        }
                        together.store(true, SeqCst);
                        let start = Instant::now();
                        while workers.lock().unwrap().len() < 2 {
                            assert!(start.elapsed() < Duration::from_secs(10), "shared");
                            let begun = Instant::now();
                            while begun.elapsed() < poll {
                                hint::spin_loop();
                            }
                            workers.lock().unwrap().insert(thread::current().id());
                            leakfree::yield_now().await;
                        }
                    });
                }
            })
            .await;
        });
        assert!(runtime.shutdown().is_clean());
    }
}
