//! Feature `tokio-compat`: what is written for tokio runs in our tasks. Needs the feature of the same name.

use std::time::{Duration, Instant};

use leakfree::runtime::{Builder, Handle, Runtime};
use leakfree::{Scope, scope, sync::oneshot};
use leakfree_tests::{Drops, panic_message, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[leakfree::test(workers = 2)]
async fn timers_and_tasks_of_tokio_work_in_main_in_tasks_and_in_blocking_calls() {
    let wait = async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let late = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert!(late.is_err());
        let there = tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            3
        });
        let blocking = tokio::task::spawn_blocking(|| 4);
        assert_eq!((there.await.unwrap(), blocking.await.unwrap()), (3, 4));
    };
    wait().await;
    scope(async |s| {
        for _ in 0..20 {
            s.spawn(wait());
        }
        let called = s.spawn_blocking(|| {
            let task = tokio::spawn(async { 5 });
            Handle::current().block_on(task).unwrap()
        });
        assert_eq!(called.await.unwrap(), 5);
        let in_place = s.spawn(async {
            leakfree::task::block_in_place(|| drop(tokio::spawn(async {})));
            // The turn goes on, on a thread that is no worker any more, and later on another.
            tokio::time::sleep(Duration::from_millis(1)).await;
        });
        in_place.await.unwrap();
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn sockets_of_tokio_work() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    scope(async |s| {
        s.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buf = Vec::new();
            socket.read_to_end(&mut buf).await.unwrap();
            socket.write_all(&buf).await.unwrap();
        });
        let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        socket.write_all(b"echo").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut buf = Vec::new();
        socket.read_to_end(&mut buf).await.unwrap();
        assert_eq!(buf, b"echo");
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_cancel_drops_what_waits_for_tokio() {
    let drops = Drops::new();
    scope(async |s: Scope| {
        let guard = drops.guard();
        s.task().name("sleeper").spawn(async move {
            let _guard = guard;
            tokio::time::sleep(Duration::from_secs(1000)).await;
        });
        leakfree_tests::parked("sleeper").await;
        s.cancel("the test");
    })
    .await;
    assert_eq!(drops.count(), 1);
}

/// For longer than the tests' patience nothing of ours can run, but a task of tokio's holds the other end, or a thread of its does.
#[leakfree::test(workers = 2, quiescence = "100ms")]
async fn nothing_is_called_quiescent_while_tokio_has_tasks() {
    let (tx, rx) = oneshot::channel();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        tx.send(1).unwrap();
    });
    assert_eq!(rx.await.unwrap(), 1);
    let (tx, rx) = oneshot::channel();
    let (go_on, waits) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || {
        waits.recv().unwrap();
        tx.send(2).unwrap();
    });
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        go_on.send(()).unwrap();
    });
    assert_eq!(rx.await.unwrap(), 2);
}

#[test]
fn a_test_that_hangs_is_still_found_out_when_tokio_is_idle() {
    let body = async {
        tokio::spawn(async {}).await.unwrap();
        let (_tx, rx) = oneshot::channel::<()>();
        rx.await.unwrap();
    };
    let builder = Builder::new().quiescence(Duration::from_millis(50));
    let message = panic_message(|| leakfree::__private::run_test("hanging", builder, body));
    assert!(message.contains("hangs"), "{message}");
}

#[test]
fn what_was_spawned_in_tokio_has_its_line_in_the_report_and_ends_with_the_runtime() {
    let drops = Drops::new();
    let runtime = Builder::new().workers(1).grace(Duration::ZERO).build().unwrap();
    runtime.block_on(async {
        for _ in 0..2 {
            let guard = drops.guard();
            tokio::spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
        }
        assert_eq!(Handle::current().snapshot().tokio_tasks, 2);
    });
    let report = runtime.shutdown();
    assert!(report.is_clean(), "it is no leak of ours");
    let text = report.to_string();
    assert!(text.contains("\n2 tasks are alive in the tokio runtime of `tokio-compat`"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((&json["tokio_tasks"], &json["leaked"]), (&2.into(), &0.into()));
    // A shutdown does not wait for ever for tokio's thread, which may have got no processor yet.
    let until = Instant::now() + Duration::from_secs(5);
    while drops.count() < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(drops.count(), 2);
}

#[test]
fn without_the_option_there_is_no_tokio() {
    let runtime = Builder::new().workers(1).tokio_compat(false).build().unwrap();
    runtime.block_on(async { assert!(tokio::runtime::Handle::try_current().is_err()) });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_runtime_can_live_within_a_tokio_task_and_end_there() {
    let outer = tokio::runtime::Builder::new_current_thread().build().unwrap();
    outer.block_on(async {
        let before = tokio::runtime::Handle::current().id();
        let runtime = Runtime::new().unwrap();
        {
            let inside = runtime.block_on(async { tokio::runtime::Handle::current().id() });
            assert_ne!(inside, before);
        }
        assert_eq!(tokio::runtime::Handle::current().id(), before);
        assert!(runtime.shutdown().is_clean());
        drop(Runtime::new().unwrap());
    });
}

#[leakfree::test(workers = 2)]
async fn many_wakes_cross_both_ways() {
    let (to_there, mut there) = tokio::sync::mpsc::channel::<u32>(4);
    let (to_here, mut here) = leakfree::sync::mpsc::channel::<u32>(4);
    let echo = tokio::spawn(async move {
        while let Some(n) = there.recv().await {
            to_here.send(n).await.unwrap();
        }
    });
    scope(async |s| {
        s.spawn(async move {
            for n in 0..10_000 {
                to_there.send(n).await.unwrap();
            }
        });
        for n in 0..10_000 {
            assert_eq!(here.recv().await, Some(n));
        }
    })
    .await;
    echo.await.unwrap();
    until(|| Handle::current().snapshot().tokio_tasks == 0).await;
}
