//! A million parked tasks, looked at while others run.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use leakfree::runtime::Handle;
use leakfree_tests::{runtime, until};

const TASKS: u64 = 1_000_000;

#[test]
fn a_snapshot_of_a_million_parked_tasks_completes_while_others_run() {
    let runtime = runtime(2);
    let rounds = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        for _ in 0..TASKS {
            leakfree::spawn(pending::<()>());
        }
        until(|| Handle::current().unwakeable_total() == TASKS).await;
        let (counted, stopped) = (Arc::clone(&rounds), Arc::clone(&stop));
        leakfree::spawn(async move {
            while !stopped.load(SeqCst) {
                counted.fetch_add(1, SeqCst);
                leakfree::yield_now().await;
            }
        });
        until(|| rounds.load(SeqCst) > 0).await;
    });
    let before = rounds.load(SeqCst);
    let snapshot = runtime.handle().snapshot();
    let after = rounds.load(SeqCst);
    assert!(snapshot.tasks.len() as u64 >= TASKS);
    assert!(snapshot.tasks.iter().filter(|task| task.unwakeable).count() as u64 == TASKS);
    assert!(after - before > 100, "the other task made {} rounds meanwhile", after - before);
    drop(snapshot);
    stop.store(true, SeqCst);
    let report = runtime.shutdown();
    assert_eq!(report.findings[0].ids.len() as u64, TASKS, "one entry with a count");
}
