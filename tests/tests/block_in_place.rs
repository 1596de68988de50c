//! `block_in_place`: the worker's other tasks go on, and the call is in the report. And threads that enter a runtime.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};

use leakfree::report::snapshot::{Phase, WaitReason};
use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle};
use leakfree::scope;
use leakfree::sync::{self, Mutex};
use leakfree::task::block_in_place;
use leakfree::time::{Duration, Instant, sleep};
use leakfree_tests::{parked, runtime, until};

#[leakfree::test(workers = 1)]
async fn the_tasks_of_the_only_worker_go_on() {
    let total = leakfree::spawn(async {
        let (tx, rx) = mpsc::channel();
        // In the worker's queue and in its LIFO slot.
        let tasks: Vec<_> = (0..10u32)
            .map(|n| {
                let tx = tx.clone();
                leakfree::spawn(async move {
                    leakfree::yield_now().await;
                    tx.send(n).unwrap();
                })
            })
            .collect();
        let first: u32 = block_in_place(|| (0..10).map(|_| rx.recv().unwrap()).sum());
        for task in tasks {
            task.await.unwrap();
        }
        // The rest of the turn, and later turns, are as ever.
        sleep(Duration::from_millis(1)).await;
        tx.send(5).unwrap();
        first + block_in_place(|| rx.recv().unwrap())
    });
    assert_eq!(total.await.unwrap(), 50);
}

#[leakfree::test(workers = 2)]
async fn many_tasks_may_block_at_once_and_again() {
    let (tx, rx) = mpsc::channel::<()>();
    let rx = Arc::new(std::sync::Mutex::new(rx));
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let rx = Arc::clone(&rx);
            leakfree::spawn(async move {
                for _ in 0..3 {
                    block_in_place(|| rx.lock().unwrap().recv().unwrap());
                    block_in_place(|| block_in_place(std::thread::yield_now));
                    leakfree::yield_now().await;
                }
                n
            })
        })
        .collect();
    for _ in 0..60 {
        tx.send(()).unwrap();
        leakfree::yield_now().await;
    }
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), n);
    }
}

#[leakfree::test(workers = 1)]
async fn a_panic_inside_is_the_tasks_and_the_worker_is_well() {
    let error = leakfree::spawn(async { block_in_place(|| panic!("in place")) }).await.unwrap_err();
    assert_eq!(error.to_string(), "task panicked: in place");
    assert_eq!(leakfree::spawn(async { 1 }).await.unwrap(), 1);
}

#[leakfree::test(workers = 1)]
async fn a_runtime_may_be_blocked_on_inside() {
    let handle = Handle::current();
    let task = leakfree::spawn(async move {
        let inner = handle.clone();
        let got = block_in_place(move || {
            inner.block_on(async {
                sleep(Duration::from_millis(1)).await;
                leakfree::spawn(async { 7 }).await.unwrap()
            })
        });
        // And not outside of it.
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.block_on(async {})));
        assert!(refused.is_err());
        got
    });
    assert_eq!(task.await.unwrap(), 7);
}

#[leakfree::test(workers = 1)]
async fn locks_and_channels_may_be_waited_for_inside() {
    let (tx, mut rx) = sync::mpsc::channel(1);
    let lock = Arc::new(Mutex::new(0));
    let (guard, theirs) = (lock.lock().await, Arc::clone(&lock));
    let task = leakfree::spawn(async move {
        block_in_place(|| {
            *theirs.blocking_lock() += 1;
            rx.blocking_recv()
        })
    });
    // The worker goes on.
    leakfree::spawn(async {}).await.unwrap();
    drop(guard);
    tx.send(7).await.unwrap();
    assert_eq!(task.await.unwrap(), Some(7));
    assert_eq!(*lock.lock().await, 1);
}

#[leakfree::test(paused)]
async fn a_paused_clock_stands_still_meanwhile_and_goes_on_after() {
    let task = leakfree::spawn(async {
        let start = Instant::now();
        let handle = Handle::current();
        let inside = block_in_place(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let still = start.elapsed();
            handle.block_on(sleep(Duration::from_secs(1)));
            (still, start.elapsed())
        });
        sleep(Duration::from_secs(1)).await;
        (inside, start.elapsed())
    });
    let (_, other) = leakfree::join!(sleep(Duration::from_secs(3600)), task);
    let second = Duration::from_secs(1);
    assert_eq!(other.unwrap(), ((Duration::ZERO, second), 2 * second));
}

#[leakfree::test(workers = 1)]
async fn where_no_worker_is_it_just_calls() {
    assert_eq!(block_in_place(|| 1), 1, "the body of a test has a thread of its own");
    assert_eq!(leakfree::spawn_blocking(|| block_in_place(|| 2)).await.unwrap(), 2);
    let outside = std::thread::spawn(|| block_in_place(|| 3));
    assert_eq!(outside.join().unwrap(), 3);
}

#[test]
fn a_hook_on_a_worker_may_not() {
    let (tx, rx) = mpsc::channel();
    let tx = std::sync::Mutex::new(tx);
    let builder = Builder::new().workers(1).grace(Duration::ZERO).on_unwakeable(move |_| {
        let caught = std::panic::catch_unwind(|| block_in_place(|| ()));
        let message = caught.unwrap_err().downcast::<String>().unwrap();
        tx.lock().unwrap().send(message).unwrap();
    });
    let runtime = builder.build().unwrap();
    let task = runtime.spawn(std::future::pending::<()>());
    let message = rx.recv().unwrap();
    assert!(message.contains("was called on a worker thread, but not by a task"), "{message}");
    task.abort();
}

#[leakfree::test(workers = 2)]
async fn a_snapshot_shows_where_it_blocks_and_since_when() {
    let (tx, rx) = mpsc::channel::<()>();
    let line = line!() + 2;
    let task = scope::current().task().name("blocked").spawn(async move {
        block_in_place(|| rx.recv().unwrap());
        leakfree::cancelled().await;
    });
    let info = parked("blocked").await;
    assert_eq!(info.phase, Phase::Running);
    assert_eq!(info.waits.len(), 1, "{info:?}");
    assert_eq!(info.waits[0].reason, WaitReason::BlockInPlace);
    assert_eq!((info.waits[0].site.file, info.waits[0].site.line), (file!(), line));
    tx.send(()).unwrap();
    until(|| {
        let tasks = Handle::current().snapshot().tasks;
        tasks.iter().any(|task| task.waits.iter().any(|wait| wait.reason == WaitReason::Cancelled))
    })
    .await;
    assert_eq!(parked("blocked").await.waits.len(), 1, "the call is over");
    task.abort();
}

#[test]
fn a_call_that_does_not_end_is_unresponsive_and_named() {
    let runtime = runtime(1);
    let (tx, rx) = mpsc::channel::<()>();
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    let line = line!() + 3;
    runtime.block_on(async {
        scope::current().task().name("blocked").spawn(async move {
            block_in_place(|| rx.recv().unwrap_err());
            ends.store(true, SeqCst);
        });
        parked("blocked").await;
    });
    let report = runtime.shutdown();
    let finding = report.findings.iter().find(|finding| finding.verdict == Verdict::Unresponsive).unwrap();
    assert_eq!(finding.task.name.as_deref(), Some("blocked"));
    let text = report.to_string();
    assert!(text.contains(&format!("in block_in_place at {}:{line}:", file!())), "{text}");
    assert!(text.contains("a blocking call cannot be stopped from outside, and the task"), "{text}");
    drop(tx);
    while !ended.load(SeqCst) {
        std::thread::yield_now();
    }
}

// ---- threads that enter a runtime --------------------------------------------------------------------

#[test]
fn a_thread_that_entered_a_runtime_finds_it_and_guards_nest() {
    assert!(Handle::try_current().is_err());
    let (a, b) = (runtime(1), runtime(1));
    let (first, second) = (a.handle(), b.handle());
    let outer = first.enter();
    let task = leakfree::spawn(async { 1 });
    {
        let _inner = second.enter();
        drop(sleep(Duration::from_secs(1)));
        assert!(Handle::try_current().is_ok());
        // The thread may block.
        assert_eq!(b.block_on(async { 2 }), 2);
    }
    assert_eq!(a.block_on(task).unwrap(), 1);
    drop(outer);
    assert_eq!(Handle::try_current().unwrap_err().to_string(), "this thread is in no leakfree runtime");
    assert!(a.shutdown().is_clean() && b.shutdown().is_clean());
}

#[test]
fn guards_in_the_wrong_order_panic_and_point_at_nothing_that_is_gone() {
    let (a, b) = (runtime(1), runtime(1));
    let (first, second) = (a.handle(), b.handle());
    let outer = first.enter();
    let inner = second.enter();
    let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(outer)));
    assert!(wrong.unwrap_err().downcast::<&str>().unwrap().contains("in the opposite order"));
    drop(first);
    assert!(a.shutdown().is_clean());
    drop(inner);
    // Back in the first runtime, which has been shut down: what is spawned is refused.
    assert!(futures::executor::block_on(leakfree::spawn(async { 1 })).unwrap_err().is_cancelled());
}

#[test]
fn a_guard_that_outlives_the_block_on_it_was_made_in_changes_nothing() {
    let b = runtime(1);
    let handle = b.handle();
    let a = runtime(1);
    let guard = a.block_on(async { handle.enter() });
    assert!(a.shutdown().is_clean());
    assert!(Handle::try_current().is_err());
    let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(guard)));
    assert!(late.is_err() && Handle::try_current().is_err());
}
