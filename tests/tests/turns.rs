//! Who runs next on a worker: a task that waits for others is neither run in vain nor kept waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use leakfree::runtime::{Builder, Runtime};

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
