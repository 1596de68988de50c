//! Small programs for Miri, which runs some sixteen spawns a second: one of each kind of thing that `unsafe` code is behind.

use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use leakfree::runtime::{Builder, Runtime};
use leakfree::sync::{mpsc, oneshot};
use leakfree::{scope, yield_now};

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).grace(Duration::ZERO).build().expect("a runtime starts")
}

#[test]
fn tasks_end_are_aborted_panic_and_are_let_go() {
    let runtime = runtime(2);
    runtime.block_on(async {
        assert_eq!(leakfree::spawn(async { Box::new(7) }).await.map(|n| *n).ok(), Some(7));
        drop(leakfree::spawn(async { Box::new(8) }));
        let aborted = leakfree::spawn(pending::<()>());
        aborted.abort();
        assert!(aborted.await.is_err_and(|error| error.is_cancelled()));
        assert!(leakfree::spawn(async { panic!("on purpose") }).await.is_err_and(|error| error.is_panic()));
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_scope_lends_to_its_children_and_cancels_them() {
    let runtime = runtime(2);
    runtime.block_on(scope(async |s| {
        let (tx, mut rx) = mpsc::channel(1);
        for i in 0..3 {
            let tx = tx.clone();
            s.spawn(async move { tx.send(Box::new(i)).await.is_ok() });
        }
        drop(tx);
        let mut sum = 0;
        while let Some(i) = rx.recv().await {
            sum += *i;
        }
        assert_eq!(sum, 3);
        s.spawn(scope(async |s| _ = s.spawn(pending::<()>())));
        yield_now().await;
        s.cancel("enough");
    }));
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn wakers_outlive_their_task_and_their_runtime() {
    let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let theirs = Arc::clone(&kept);
    let runtime = runtime(1);
    runtime.block_on(async {
        let mut polls = 0;
        leakfree::spawn(poll_fn(move |cx| {
            theirs.lock().unwrap().push(cx.waker().clone());
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        }))
        .await
        .unwrap();
    });
    assert!(runtime.shutdown().is_clean());
    let wakers = std::mem::take(&mut *kept.lock().unwrap());
    assert_eq!(wakers.len(), 3);
    let thread = std::thread::spawn(move || {
        for waker in wakers {
            waker.wake_by_ref();
            drop(waker.clone());
            waker.wake();
        }
    });
    thread.join().unwrap();
}

#[test]
fn what_is_left_is_reported_and_dropped() {
    let runtime = runtime(1);
    let (tx, rx) = oneshot::channel::<Box<i32>>();
    runtime.block_on(async {
        leakfree::scope::current().task().name("left").spawn(async move { rx.await.map(|n| *n) });
        yield_now().await;
    });
    let report = runtime.shutdown();
    assert_eq!(report.leaked(), 1, "{report}");
    assert!(report.to_string().contains("left"), "{report}");
    assert!(tx.send(Box::new(1)).is_err(), "its future was dropped");
}
