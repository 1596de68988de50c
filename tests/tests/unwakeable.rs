//! Eager detection: proven the moment it is true, and never of a task that something can wake.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use leakfree::report::snapshot::LastWaker;
use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle};
use leakfree_tests::{parked, runtime, until};

#[test]
fn a_pending_future_is_proven_at_its_first_park_without_any_shutdown() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let runtime = Builder::new()
        .workers(2)
        .grace(std::time::Duration::ZERO)
        .on_unwakeable(move |task| hook.lock().unwrap().push(task.clone()))
        .build()
        .unwrap();
    let line = line!() + 2;
    let id = runtime.block_on(async {
        let id = leakfree::spawn(pending::<()>()).id();
        until(|| !told.lock().unwrap().is_empty()).await;
        let report = Handle::current().report();
        assert_eq!(report.findings.len(), 1);
        assert_eq!(report.findings[0].verdict, Verdict::ProvenUnwakeable);
        assert_eq!(report.findings[0].task.last_waker.as_deref().copied(), Some(LastWaker::NeverRegistered));
        id
    });
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].id, id);
    assert_eq!(told[0].spawned_at.file, file!());
    assert_eq!(told[0].spawned_at.line, line);
    assert_eq!(runtime.handle().unwakeable_total(), 1);
}

#[test]
fn a_task_with_a_live_foreign_sender_outlives_but_is_never_proven() {
    let runtime = runtime(2);
    let (tx, rx) = futures::channel::oneshot::channel::<()>();
    runtime.block_on(async {
        leakfree::scope::current().task().name("waits").spawn(async move {
            let _ = rx.await;
        });
        let task = parked("waits").await;
        assert_eq!((task.own_wakers, task.foreign_wakers), (0, 1));
        assert!(Handle::current().report().is_clean(), "a live look accuses nobody");
    });
    assert_eq!(runtime.handle().unwakeable_total(), 0);
    let report = runtime.shutdown();
    let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Outlived]);
    drop(tx);
}

#[test]
fn a_proven_task_is_not_polled_when_its_scope_moves_to_another_task() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let (give, given) = leakfree::sync::oneshot::channel();
        let second = leakfree::spawn(async move {
            let moved: Pin<Box<dyn Future<Output = ()> + Send>> = given.await.unwrap();
            moved.await;
        });
        let first = leakfree::spawn(async move {
            let mut moved: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(leakfree::scope(async |s: leakfree::Scope| {
                    s.task().name("dead").spawn(pending::<()>());
                }));
            assert!(futures::poll!(&mut moved).is_pending());
            parked("dead").await;
            let _ = give.send(moved);
            second.await
        });
        let owner_is_second = || {
            let snapshot = Handle::current().snapshot();
            let dead = snapshot.tasks.iter().find(|task| task.name.as_deref() == Some("dead"));
            let scope = dead.and_then(|dead| snapshot.scopes.iter().find(|scope| scope.id == dead.scope));
            let waits = |id| snapshot.tasks.iter().any(|task| task.id == id && task.parked.is_some());
            let joins = |id| id != first.id().get() && waits(id);
            scope.and_then(|scope| scope.owner).is_some_and(joins)
        };
        until(owner_is_second).await;
        for _ in 0..100 {
            leakfree::yield_now().await;
        }
        assert_eq!(parked("dead").await.polls, 1);
    });
    let report = runtime.shutdown();
    assert!(report.findings.iter().any(|finding| finding.verdict == Verdict::ProvenUnwakeable), "{report}");
}

#[test]
fn the_task_that_dropped_the_last_waker_is_named() {
    let runtime = runtime(2);
    let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
    let theirs = Arc::clone(&slot);
    let dropper = runtime.block_on(async {
        leakfree::scope::current().task().name("victim").spawn(poll_fn(move |cx| {
            *theirs.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        parked("victim").await;
        assert_eq!(Handle::current().unwakeable_total(), 0);
        let dropper = leakfree::spawn(async move {
            let waker = slot.lock().unwrap().take();
            drop(waker);
        });
        let id = dropper.id();
        dropper.await.unwrap();
        assert_eq!(Handle::current().unwakeable_total(), 1, "said when it became true");
        id
    });
    let report = runtime.shutdown();
    let task = &report.findings[0].task;
    assert_eq!(report.findings[0].verdict, Verdict::ProvenUnwakeable);
    match task.last_waker.as_deref().copied() {
        Some(LastWaker::DroppedByTask { id, .. }) => assert_eq!(id.to_string(), dropper.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn waits_of_our_own_are_no_leak_while_they_last() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let scope = leakfree::scope::current();
        let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
        scope.task().name("oneshot").spawn(rx);
        scope.task().name("cancelled").spawn(leakfree::cancelled());
        scope.task().name("sleep").spawn(leakfree::time::sleep(std::time::Duration::from_secs(3600)));
        for name in ["oneshot", "cancelled", "sleep"] {
            let task = parked(name).await;
            assert_eq!((task.own_wakers, task.foreign_wakers), (1, 0), "{name}");
            assert!(!task.unwakeable, "{name}");
        }
        drop(tx);
    });
    assert_eq!(runtime.handle().unwakeable_total(), 0);
    assert_eq!(runtime.shutdown().leaked(), 2, "they outlived main; the oneshot's task ended");
}

#[test]
fn a_cancelled_task_is_not_called_unwakeable() {
    let runtime = runtime(1);
    runtime.block_on(async {
        let handle = leakfree::spawn(pending::<()>());
        until(|| Handle::current().unwakeable_total() == 1).await;
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
        assert!(Handle::current().report().is_clean());
    });
    assert!(runtime.shutdown().is_clean());
}
