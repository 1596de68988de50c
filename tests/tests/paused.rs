//! A paused clock stands still while anything can run, and then jumps: exact times, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use leakfree::net::{TcpListener, TcpStream};
use leakfree::runtime::{Builder, Runtime};
use leakfree::sync::{mpsc, oneshot};
use leakfree::time::{Duration, Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

fn paused(workers: usize) -> Runtime {
    Builder::new()
        .workers(workers)
        .grace(Duration::ZERO)
        .start_paused(true)
        .build()
        .expect("a runtime starts")
}

#[leakfree::test(paused)]
async fn sleeps_of_hours_end_in_order_and_at_the_exact_times() {
    let start = Instant::now();
    let (tx, mut rx) = mpsc::channel(8);
    for hours in [3, 1, 2] {
        let tx = tx.clone();
        leakfree::scope::current().spawn(async move {
            sleep(HOUR * hours).await;
            let _ = tx.send((hours, start.elapsed())).await;
        });
    }
    drop(tx);
    for hours in [1, 2, 3] {
        assert_eq!(rx.recv().await, Some((hours, HOUR * hours)));
    }
    assert_eq!(rx.recv().await, None);
    // A thousand years are beyond the clock.
    let forever = timeout(HOUR * 24 * 365 * 100, sleep(Duration::MAX)).await;
    assert!(forever.is_err());
    assert_eq!(start.elapsed(), HOUR * 3 + HOUR * 24 * 365 * 100);
}

#[leakfree::test(paused)]
async fn the_body_sleeps_to_the_nanosecond() {
    let real = std::time::Instant::now();
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(start.elapsed(), Duration::ZERO, "time stands still");
        leakfree::yield_now().await;
    }
    for n in 1..50 {
        sleep(NS * n).await;
        assert_eq!(start.elapsed(), NS * n * (n + 1) / 2);
    }
    let until = start + HOUR * 48;
    sleep_until(until).await;
    assert_eq!(Instant::now(), until);
    assert!(real.elapsed() < HOUR);
}

#[leakfree::test(paused, workers = 2)]
async fn a_timeout_and_a_sleep_are_one_nanosecond_apart() {
    for _ in 0..100 {
        // The future is polled first.
        assert!(timeout(HOUR, sleep(HOUR)).await.is_ok());
        assert!(timeout(HOUR, sleep(HOUR - NS)).await.is_ok());
        assert!(timeout(HOUR, sleep(HOUR + NS)).await.is_err());
        assert!(timeout(HOUR + NS, sleep(HOUR)).await.is_ok());
        let joined = timeout(HOUR, leakfree::spawn(sleep(HOUR + NS))).await;
        assert!(joined.is_err(), "still to run");
        sleep(NS).await;
    }
}

#[leakfree::test(paused = true)]
async fn an_interval_ticks_at_its_times() {
    let start = Instant::now();
    let mut ticks = interval(HOUR);
    for n in 0..5 {
        assert_eq!(ticks.tick().await, start + HOUR * n);
        assert_eq!(start.elapsed(), HOUR * n);
    }
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    sleep(HOUR * 5 / 2).await;
    assert_eq!(ticks.tick().await, start + HOUR * 5);
    assert_eq!(start.elapsed(), HOUR * 13 / 2);
    assert_eq!(ticks.tick().await, start + HOUR * 7);
}

#[leakfree::test(paused = false)]
async fn a_clock_that_is_not_paused_runs() {
    let start = Instant::now();
    std::thread::sleep(MS);
    assert!(start.elapsed() >= MS);
}

#[leakfree::test(paused, workers = 2)]
async fn a_blocking_call_holds_the_clock() {
    let start = Instant::now();
    for _ in 0..5 {
        let call = leakfree::spawn_blocking(move || {
            std::thread::sleep(MS * 20);
            start.elapsed()
        });
        let within = timeout(NS, call).await;
        assert_eq!(within.expect("no jump while it runs").unwrap(), Duration::ZERO);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[test]
fn queued_blocking_calls_hold_the_clock() {
    let runtime = Builder::new().workers(1).blocking_threads_max(1).start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let calls: Vec<_> =
            (0..10).map(|_| leakfree::spawn_blocking(move || std::thread::sleep(MS * 2))).collect();
        for call in calls {
            assert!(timeout(MS, call).await.is_ok());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
    assert!(runtime.shutdown().is_clean());
}

/// A blocking call that waits in a `block_on` of its own lets the clock jump, and holds it again afterwards.
#[test]
fn a_block_on_within_a_blocking_call_waits_like_a_task() {
    for workers in [1, 2] {
        let runtime = paused(workers);
        let handle = runtime.handle();
        let elapsed = runtime.block_on(async {
            let start = Instant::now();
            let call = leakfree::spawn_blocking(move || {
                handle.block_on(sleep(HOUR));
                std::thread::sleep(MS * 5);
                start.elapsed()
            });
            let elapsed = timeout(HOUR + NS, call).await.expect("held after the inner sleep").unwrap();
            assert_eq!(start.elapsed(), HOUR);
            elapsed
        });
        assert_eq!(elapsed, HOUR);
        assert!(runtime.shutdown().is_clean());
    }
}

/// The clock stands between two `block_on`s, and when the shutdown looks for leaks.
#[test]
fn outside_block_on_the_clock_stands() {
    let runtime = paused(2);
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    runtime.handle().spawn(async move {
        loop {
            sleep(HOUR).await;
            count.fetch_add(1, SeqCst);
        }
    });
    std::thread::sleep(MS * 5);
    assert_eq!(ended.load(SeqCst), 0);
    let start = runtime.block_on(async { Instant::now() });
    runtime.block_on(async { sleep(HOUR * 5 / 2).await });
    std::thread::sleep(MS * 5);
    runtime.block_on(async {
        assert_eq!(start.elapsed(), HOUR * 5 / 2);
        assert_eq!(ended.load(SeqCst), 2);
    });
    let report = runtime.shutdown();
    assert!(!report.is_clean(), "asleep for another half an hour");
    assert_eq!(ended.load(SeqCst), 2);
}

#[test]
fn tasks_in_the_grace_may_sleep() {
    let runtime = Builder::new().workers(2).grace(HOUR * 2).start_paused(true).build().unwrap();
    let (tx, rx) = oneshot::channel();
    runtime.handle().spawn(async move {
        let start = Instant::now();
        leakfree::cancelled().await;
        sleep(HOUR).await;
        let _ = tx.send(start.elapsed());
    });
    runtime.block_on(leakfree::yield_now());
    let real = std::time::Instant::now();
    drop(runtime.shutdown());
    assert!(real.elapsed() < Duration::from_secs(50));
    assert_eq!(futures::executor::block_on(rx), Ok(HOUR));
}

/// Two threads in `block_on`: the clock waits for both.
#[test]
fn each_thread_in_block_on_holds_the_clock() {
    let runtime = paused(1);
    let (handle, start) = (runtime.handle(), runtime.block_on(async { Instant::now() }));
    let (tx, rx) = oneshot::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            handle.block_on(async move {
                let _ = tx.send(());
                std::thread::sleep(MS * 20);
                assert_eq!(start.elapsed(), Duration::ZERO);
                sleep(HOUR).await;
                assert_eq!(start.elapsed(), HOUR);
            });
        });
        runtime.block_on(async {
            let _ = rx.await;
            sleep(MS).await;
            assert_eq!(start.elapsed(), MS);
            sleep(HOUR).await;
        });
    });
    assert!(runtime.shutdown().is_clean());
}

/// No timer is armed during an exchange, for the kernel may take its time to deliver even on the same machine.
#[leakfree::test(paused, workers = 2)]
async fn io_works_between_jumps() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = leakfree::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4];
        for _ in 0..50 {
            stream.read_exact(&mut buffer).await.unwrap();
            stream.write_all(&buffer).await.unwrap();
        }
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let start = Instant::now();
    let mut buffer = [0; 4];
    for n in 1..=50 {
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        sleep(HOUR).await;
        assert_eq!(start.elapsed(), HOUR * n);
    }
    server.await.unwrap();
}

#[leakfree::test(paused, workers = 2)]
async fn the_record_is_stamped_by_the_paused_clock() {
    sleep(HOUR).await;
    let task = leakfree::scope::current().task().name("sleeper").spawn(async {
        sleep(HOUR).await;
        sleep(HOUR * 3).await;
    });
    sleep(HOUR * 2).await;
    let seen = leakfree_tests::parked("sleeper").await;
    assert_eq!(seen.parked, Some(HOUR), "{seen:?}");
    task.await.unwrap();
}

/// Pipelines of tasks on two workers, with blocking calls and channels between the sleeps: each time is what it is on
/// paper, every time.
#[test]
fn a_thousand_runs_give_the_same_times() {
    for workers in [2, 3] {
        let runtime = paused(workers);
        for _ in 0..500 {
            runtime.block_on(async {
                let start = Instant::now();
                let (tx, mut rx) = mpsc::channel(2);
                leakfree::scope(async |s| {
                    for n in 1..=4u32 {
                        let tx = tx.clone();
                        s.spawn(async move {
                            let (there, back) = oneshot::channel();
                            let inner = leakfree::spawn(async move {
                                sleep(MS * n).await;
                                let _ = there.send(start.elapsed());
                                sleep(MS * 10).await;
                                start.elapsed()
                            });
                            assert_eq!(back.await, Ok(MS * n));
                            assert_eq!(start.elapsed(), MS * n);
                            let call = leakfree::spawn_blocking(move || start.elapsed());
                            assert_eq!(call.await.unwrap(), MS * n);
                            tx.send((n, start.elapsed())).await.unwrap();
                            leakfree::yield_now().await;
                            assert!(timeout(MS * 10 - NS, inner).await.is_err());
                            assert_eq!(start.elapsed(), MS * (n + 10) - NS);
                        });
                    }
                    drop(tx);
                    for n in 1..=4 {
                        assert_eq!(rx.recv().await, Some((n, MS * n)));
                        assert_eq!(start.elapsed(), MS * n);
                    }
                    assert_eq!(rx.recv().await, None);
                })
                .await;
                assert_eq!(start.elapsed(), MS * 14 - NS);
            });
        }
        drop(runtime);
    }
}

/// A thread outside does not hold the clock, but its wakes arrive.
#[test]
fn wakes_from_outside_are_not_lost() {
    for workers in [1, 2] {
        let runtime = paused(workers);
        let handle = runtime.handle();
        let (tx, mut rx) = mpsc::channel(1);
        let outside = std::thread::spawn(move || {
            for n in 0..3000 {
                let task = handle.spawn(async move { n });
                assert_eq!(futures::executor::block_on(task).unwrap(), n);
                futures::executor::block_on(tx.send(n)).unwrap();
            }
        });
        runtime.block_on(async {
            for n in 0..3000 {
                assert_eq!(rx.recv().await, Some(n));
            }
        });
        outside.join().unwrap();
        assert!(runtime.shutdown().is_clean());
    }
}

/// A sleep that is polled by an executor outside makes the clock jump, too.
#[test]
fn a_timer_armed_outside_is_seen() {
    let runtime = paused(2);
    let (tx, rx) = std::sync::mpsc::channel();
    let (done, wait) = oneshot::channel();
    let outside = std::thread::spawn(move || {
        while let Ok(sleep) = rx.recv() {
            futures::executor::block_on::<leakfree::time::Sleep>(sleep);
        }
        let _ = done.send(());
    });
    runtime.block_on(async {
        for hours in 1..100 {
            tx.send(sleep(HOUR * hours)).unwrap();
        }
        drop(tx);
        let _ = wait.await;
    });
    outside.join().unwrap();
}

/// Wakes from tasks to the thread in `block_on`, to workers and to the pool, with a timer armed at each moment that
/// would fire at once if the clock jumped in between.
#[test]
fn no_jump_while_a_wake_is_under_way() {
    let runtime = paused(2);
    runtime.block_on(async {
        let start = Instant::now();
        let (to_worker, mut at_worker) = mpsc::channel::<u32>(1);
        let (to_main, mut at_main) = mpsc::channel(1);
        let echo = leakfree::spawn(async move {
            while let Some(n) = at_worker.recv().await {
                let n = leakfree::spawn_blocking(move || n).await.unwrap();
                let n = leakfree::spawn(async move { n }).await.unwrap();
                to_main.send(n).await.unwrap();
            }
        });
        for n in 0..2000 {
            to_worker.send(n).await.unwrap();
            assert_eq!(timeout(NS, at_main.recv()).await, Ok(Some(n)));
        }
        drop(to_worker);
        echo.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
    assert!(runtime.shutdown().is_clean());
}
