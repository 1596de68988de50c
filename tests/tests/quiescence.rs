//! A test in which nothing can run any more fails with the report, in place of hanging; one that waits for something outside
//! goes on.

#![allow(unnameable_test_items)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use leakfree::sync::{Mutex, oneshot};

/// The message that a test panicked with.
fn failure(test: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(test)).expect_err("it fails");
    payload.downcast_ref::<String>().expect("a formatted message").clone()
}

#[test]
fn a_test_that_waits_for_ever_fails_and_says_for_what() {
    #[leakfree::test(quiescence = "50ms")]
    async fn forgotten() {
        let (tx, rx) = oneshot::channel::<()>();
        std::mem::forget(tx);
        let _ = rx.await;
    }
    let line = line!() - 2;
    let message = failure(forgotten);
    assert!(
        message.starts_with("test quiescence::forgotten hangs: nothing could run for 50ms\n"),
        "{message}"
    );
    assert!(
        message.contains("no leaked tasks, 1 suspect where nothing can run any more"),
        "no proof, no count: {message}"
    );
    assert!(message.contains("1. SUSPECT"), "{message}");
    assert!(
        message.contains(&format!("oneshot::Receiver at tests/tests/quiescence.rs:{line}:")),
        "{message}"
    );
    assert!(message.contains("Unless a thread outside the runtime holds the other end"), "{message}");
}

#[test]
fn a_test_that_deadlocks_fails_with_the_knot() {
    #[leakfree::test(quiescence = "50ms")]
    async fn deadlock() {
        let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let (a2, b2) = (a.clone(), b.clone());
        let (has_a, a_taken) = oneshot::channel();
        let (has_b, b_taken) = oneshot::channel();
        let first = leakfree::spawn(async move {
            let _a = a.lock().await;
            has_a.send(()).unwrap();
            b_taken.await.unwrap();
            let _b = b.lock().await;
        });
        let second = leakfree::spawn(async move {
            let _b = b2.lock().await;
            has_b.send(()).unwrap();
            a_taken.await.unwrap();
            let _a = a2.lock().await;
        });
        let _ = (first.await, second.await);
    }
    let message = failure(deadlock);
    assert!(message.contains("1. DEADLOCKED, knot of 2"), "{message}");
    assert!(
        message.contains("3 leaked tasks where nothing can run any more"),
        "the body waits, too: {message}"
    );
}

#[test]
fn under_a_paused_clock_too_and_only_when_no_timer_is_left() {
    #[leakfree::test(paused, quiescence = "50ms")]
    async fn hangs_in_the_end() {
        leakfree::time::sleep(Duration::from_secs(3600)).await;
        std::future::pending::<()>().await;
    }
    let message = failure(hangs_in_the_end);
    assert!(message.contains("PROVEN unwakeable"), "{message}");
}

#[leakfree::test(quiescence = "10ms")]
async fn a_timer_is_waited_for() {
    leakfree::time::sleep(Duration::from_millis(60)).await;
}

#[leakfree::test(quiescence = "10ms")]
async fn a_blocking_call_is_waited_for() {
    let (tx, rx) = oneshot::channel();
    leakfree::spawn_blocking(|| thread::sleep(Duration::from_millis(60))).await.unwrap();
    tx.send(()).unwrap();
    rx.await.unwrap();
}

#[leakfree::test(quiescence = "10ms")]
async fn the_network_is_waited_for() {
    let listener = leakfree::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        std::net::TcpStream::connect(address).unwrap()
    });
    listener.accept().await.unwrap();
    drop(client.join().unwrap());
}

#[leakfree::test(quiescence = "10ms")]
async fn a_waker_outside_is_waited_for() {
    let (tx, rx) = futures::channel::oneshot::channel();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        tx.send(5).unwrap();
    });
    assert_eq!(rx.await, Ok(5));
    sender.join().unwrap();
}

#[leakfree::test(quiescence = off)]
async fn a_thread_that_holds_a_sender_of_ours_needs_it_off() {
    let (tx, rx) = oneshot::channel();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        tx.send(5).unwrap();
    });
    assert_eq!(rx.await, Ok(5));
    sender.join().unwrap();
}

/// The child prints the report, and its exit status says that it failed.
#[test]
fn a_program_can_opt_in() {
    const CHILD: &str = "LEAKFREE_TEST_QUIESCENCE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        #[leakfree::main(quiescence = "50ms")]
        async fn program() {
            std::future::pending::<()>().await;
        }
        program();
        unreachable!("it never ends by itself");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_program_can_opt_in", "--nocapture"])
        .env(CHILD, "1")
        .env("LEAKFREE_REPORT", "text")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("1 leaked task where nothing can run any more"), "{report}");
}

/// Two children that wait for each other, each for the other's end.
async fn tie(s: &leakfree::Scope) {
    let (give, handle) = oneshot::channel::<leakfree::JoinHandle<()>>();
    let (give_back, back) = oneshot::channel();
    let first = s.spawn(async move {
        let other: leakfree::JoinHandle<()> = handle.await.unwrap();
        let _ = other.await;
    });
    let second = s.spawn(async move {
        let first: leakfree::JoinHandle<()> = back.await.unwrap();
        let _ = first.await;
    });
    give.send(second).unwrap();
    give_back.send(first).unwrap();
}

#[leakfree::test]
async fn a_scope_that_acts_on_proofs_ends_a_knot() {
    let error = leakfree::Scope::builder()
        .on_stuck(leakfree::scope::OnStuck::CancelScope)
        .try_scope(async |s: leakfree::Scope<()>| {
            s.spawn(async {
                leakfree::scope(async |s| tie(&s).await).await;
            });
            leakfree::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.cancel_reason().unwrap().kind(), leakfree::CancelKind::Stuck);
}

#[test]
fn a_scope_may_have_the_test_fail_at_once() {
    #[leakfree::test(quiescence = off)]
    async fn fails() {
        leakfree::Scope::builder()
            .on_stuck(leakfree::scope::OnStuck::FailTest)
            .scope(async |s: leakfree::Scope| {
                s.spawn(std::future::pending::<()>());
                // It would go on for long.
                leakfree::time::sleep(Duration::from_secs(3600)).await;
            })
            .await;
    }
    let message = failure(fails);
    assert!(message.contains("a child is stuck whose scope says `OnStuck::FailTest`"), "{message}");
    assert!(message.contains("1. PROVEN unwakeable"), "{message}");
}
