//! One thread plays all workers, in an order that the seed chooses: what a user of `Builder::seed` relies on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, OnceLock};

use leakfree::io::AsyncReadExt as _;
use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle, Runtime};
use leakfree::scope;
use leakfree::sync::{Mutex, mpsc, oneshot};
use leakfree::testing::{Actor, Event, Trace, run_until_stalled};
use leakfree::time::{Duration, Instant, sleep};

const HOUR: Duration = Duration::from_secs(3600);

fn simulation(workers: usize, seed: u64) -> Runtime {
    Builder::new()
        .workers(workers)
        .seed(seed)
        .keep_trace(true)
        .grace(Duration::ZERO)
        .build()
        .expect("a runtime starts")
}

/// A bit of everything; what was seen, in order.
async fn program() -> Vec<u32> {
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let lock = Arc::new(Mutex::new(0));
    scope(async |s| {
        let (tx, mut rx) = mpsc::channel(2);
        for n in 0..6 {
            let (seen, lock, tx) = (Arc::clone(&seen), Arc::clone(&lock), tx.clone());
            s.spawn(async move {
                for round in 0..3 {
                    *lock.lock().await += 1;
                    seen.lock().unwrap().push(n * 10 + round);
                    leakfree::yield_now().await;
                }
                sleep(HOUR).await;
                let _ = tx.send(n).await;
            });
        }
        drop(tx);
        for n in 100..103 {
            let seen = Arc::clone(&seen);
            drop(s.spawn_blocking(move || seen.lock().unwrap().push(n)));
        }
        while let Some(n) = rx.recv().await {
            leakfree::select! {
                () = leakfree::yield_now() => seen.lock().unwrap().push(200 + n),
                () = leakfree::yield_now() => seen.lock().unwrap().push(300 + n),
            }
        }
    })
    .await;
    assert_eq!(*lock.lock().await, 18);
    std::mem::take(&mut *seen.lock().unwrap())
}

fn run(workers: usize, seed: u64) -> (Vec<u32>, Trace) {
    let runtime = simulation(workers, seed);
    let seen = runtime.block_on(program());
    let handle = runtime.handle();
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
    (seen, handle.trace().expect("it has a seed"))
}

#[test]
fn the_same_seed_gives_the_same_steps_and_another_one_others() {
    for workers in [1, 2, 5] {
        let (mut orders, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..50 {
            let (seen, trace) = run(workers, seed);
            for _ in 0..2 {
                let again = run(workers, seed);
                assert_eq!((&again.0, &again.1), (&seen, &trace));
                assert_eq!(again.1.to_string(), trace.to_string());
            }
            assert_eq!(trace.length, trace.steps.len() as u64);
            assert!(!trace.steps.iter().any(|step| step.event == Event::Wait), "nothing outside");
            orders.insert(seen);
            hashes.insert(trace.hash);
        }
        assert_eq!(hashes.len(), 50, "each seed has steps of its own");
        assert!(orders.len() > 40, "{} orders of 50, on {workers} workers", orders.len());
    }
}

#[test]
fn everybody_takes_part() {
    let (_, trace) = run(3, 1);
    for actor in
        [Actor::Main, Actor::Worker(0), Actor::Worker(1), Actor::Worker(2), Actor::Pool, Actor::Clock]
    {
        assert!(trace.steps.iter().any(|step| step.actor == actor), "{actor:?}\n{trace}");
    }
    for event in [Event::Poll, Event::Find, Event::Park, Event::GetUp, Event::Call] {
        assert!(trace.steps.iter().any(|step| step.event == event), "{event:?}\n{trace}");
    }
}

#[test]
fn time_jumps_when_no_step_is_left_and_not_before() {
    for seed in 0..50 {
        let runtime = simulation(2, seed);
        let real = std::time::Instant::now();
        runtime.block_on(async {
            let start = Instant::now();
            let busy = leakfree::spawn(async move {
                for _ in 0..50 {
                    leakfree::yield_now().await;
                    assert_eq!(start.elapsed(), Duration::ZERO);
                }
            });
            let (a, b) = (leakfree::spawn(sleep(HOUR)), leakfree::spawn(sleep(HOUR * 2)));
            a.await.unwrap();
            assert_eq!(start.elapsed(), HOUR);
            b.await.unwrap();
            assert_eq!(start.elapsed(), HOUR * 2);
            busy.await.unwrap();
        });
        // Between two `block_on`s nothing runs, and the clock stands.
        let slept = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&slept);
        drop(runtime.spawn(async move {
            theirs.fetch_add(1, SeqCst);
            sleep(HOUR).await;
            theirs.fetch_add(1, SeqCst);
        }));
        assert_eq!(slept.load(SeqCst), 0);
        assert!(run_until_stalled(&runtime, 1000));
        assert_eq!(slept.load(SeqCst), 1);
        let report = runtime.shutdown();
        assert_eq!(report.leaked(), 1, "{report}");
        assert!(real.elapsed() < HOUR);
    }
}

#[test]
fn timers_of_one_moment_are_told_in_any_order() {
    let order = |seed| {
        let runtime = simulation(1, seed);
        let order = Arc::new(StdMutex::new(Vec::new()));
        runtime.block_on(scope(async |s| {
            for n in 0..4 {
                let order = Arc::clone(&order);
                s.spawn(async move {
                    sleep(HOUR).await;
                    order.lock().unwrap().push(n);
                });
            }
        }));
        order.lock().unwrap().clone()
    };
    let orders: BTreeSet<Vec<u32>> = (0..500).map(order).collect();
    assert_eq!(orders.len(), 24, "{orders:?}");
}

#[test]
fn a_shutdown_judges_and_drops_in_the_simulation_too() {
    for seed in 0..30 {
        let runtime = simulation(2, seed);
        let (dropped, theirs) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (keep, never) = oneshot::channel::<()>();
        runtime.block_on(async {
            for _ in 0..3 {
                let theirs = Arc::clone(&theirs);
                leakfree::spawn(async move {
                    let _theirs = theirs;
                    std::future::pending::<()>().await;
                });
            }
            let (theirs, dropped) = (Arc::clone(&theirs), Arc::clone(&dropped));
            leakfree::spawn(async move {
                let _theirs = theirs;
                let _cleans_up = leakfree::defer_async(async move {
                    sleep(Duration::from_millis(10)).await;
                    dropped.fetch_add(1, SeqCst);
                });
                let _ = never.await;
            });
        });
        let report = runtime.shutdown();
        assert_eq!(report.leaked(), 4, "{report}");
        assert_eq!(
            report.findings.iter().filter(|found| found.verdict == Verdict::ProvenUnwakeable).count(),
            1
        );
        assert!(!report.findings.iter().any(|found| found.verdict == Verdict::Unresponsive), "{report}");
        assert_eq!(dropped.load(SeqCst), 1, "the cleanup had its time");
        assert_eq!(Arc::strong_count(&theirs), 1, "everything was dropped");
        drop(keep);
    }
}

#[test]
fn who_blocks_has_the_others_go_on() {
    for seed in 0..100 {
        let runtime = simulation(2, seed);
        let sum = runtime.block_on(async {
            let (tx, mut rx) = mpsc::channel(1);
            let sends = leakfree::spawn(async move {
                leakfree::yield_now().await;
                tx.send(1).await.unwrap();
                tx.send(10).await.unwrap();
            });
            let receives =
                leakfree::spawn_blocking(move || rx.blocking_recv().unwrap() + rx.blocking_recv().unwrap());
            let handle = Handle::current();
            let runs = leakfree::spawn_blocking(move || {
                handle
                    .block_on(async { leakfree::spawn(leakfree::yield_now()).await.map(|()| 1000).unwrap() })
            });
            let in_place = leakfree::spawn(async {
                let handle = Handle::current();
                let (tx, rx) = oneshot::channel();
                // In this worker's LIFO slot, or its queue.
                leakfree::spawn(async move { tx.send(100).unwrap() });
                let got = leakfree::task::block_in_place(|| handle.block_on(rx).unwrap());
                leakfree::yield_now().await;
                got
            });
            sends.await.unwrap();
            receives.await.unwrap() + in_place.await.unwrap() + runs.await.unwrap()
        });
        assert_eq!(sum, 1111);
        let report = runtime.shutdown();
        assert!(report.is_empty(), "{report}");
    }
}

#[test]
fn what_comes_from_outside_is_waited_for() {
    let runtime = simulation(2, 3);
    let got = runtime.block_on(async {
        let (tx, rx) = oneshot::channel();
        let (began, begun) = std::sync::mpsc::channel::<()>();
        let outside = std::thread::spawn(move || {
            begun.recv().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            tx.send(7).unwrap();
        });
        let task = leakfree::spawn(async move {
            began.send(()).unwrap();
            rx.await.unwrap()
        });
        let got = task.await.unwrap();
        outside.join().unwrap();
        got
    });
    assert_eq!(got, 7);
    let trace = runtime.handle().trace().unwrap();
    assert!(trace.steps.iter().any(|step| step.event == Event::Wait), "and the trace says so");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_socket_works_in_a_simulation() {
    let runtime = simulation(2, 5);
    let said = runtime.block_on(async {
        let listener = leakfree::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = leakfree::spawn(async move {
            let stream = leakfree::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        client.await.unwrap();
        said
    });
    assert_eq!(said, "hello");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_hook_looks_between_any_two_steps() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    let handle: Arc<OnceLock<Handle>> = Arc::default();
    let looks = Arc::clone(&handle);
    let runtime = Builder::new()
        .workers(2)
        .seed(1)
        .on_step(move |_| {
            if let Some(handle) = looks.get() {
                assert!(handle.report().findings.is_empty());
                LOOKS.fetch_add(1, SeqCst);
            }
        })
        .build()
        .unwrap();
    assert!(handle.set(runtime.handle()).is_ok());
    runtime.block_on(program());
    assert_eq!(LOOKS.load(SeqCst) as u64, runtime.handle().trace().unwrap().length);
}

#[test]
fn many_players_do_not_hurt_each_other() {
    let runtime = simulation(2, 9);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                runtime.block_on(async {
                    for _ in 0..20 {
                        let tasks: Vec<_> = (0..5)
                            .map(|n| {
                                leakfree::spawn(async move {
                                    leakfree::yield_now().await;
                                    n
                                })
                            })
                            .collect();
                        for task in tasks {
                            task.await.unwrap();
                        }
                        sleep(HOUR).await;
                    }
                });
            });
        }
    });
    assert!(runtime.shutdown().is_empty());
}

// ---- #[leakfree::test(schedules = ..)] ------------------------------------------------------------

#[leakfree::test(schedules = 50)]
async fn a_test_runs_under_many_schedules() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    assert!(Handle::current().trace().is_some_and(|trace| trace.seed == RUNS.load(SeqCst) as u64));
    RUNS.fetch_add(1, SeqCst);
    program().await;
}

#[leakfree::test(seed = 7, schedules = 3, workers = 2, paused)]
async fn a_test_may_be_a_simulation_and_return_a_result() -> Result<(), std::num::ParseIntError> {
    sleep(HOUR).await;
    assert!((7..10).contains(&Handle::current().trace().unwrap().seed));
    "7".parse::<u8>().map(drop)
}

/// The two wait for each other in one order of the first steps only.
async fn a_race() {
    let (a, b) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    scope(async move |s| {
        s.spawn(async move {
            let _a = a.lock().await;
            leakfree::yield_now().await;
            let _b = b.lock().await;
        });
        s.spawn(async move {
            let _b = b2.lock().await;
            leakfree::yield_now().await;
            let _a = a2.lock().await;
        });
    })
    .await;
}

/// Run by the test below, in a process of its own.
#[test]
fn deadlocks_in_some_schedules() {
    if std::env::var_os("LEAKFREE_TEST_AGAIN").is_some() {
        leakfree::__private::run_simulated_test(
            "simulation::deadlocks_in_some_schedules",
            Builder::new,
            0,
            200,
            a_race,
        );
    }
}

fn in_a_process(seed: Option<u64>) -> (bool, String) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "deadlocks_in_some_schedules", "--nocapture"]);
    command.env("LEAKFREE_TEST_AGAIN", "1").env_remove("LEAKFREE_SEED");
    if let Some(seed) = seed {
        command.env("LEAKFREE_SEED", seed.to_string()).env("LEAKFREE_TRACE", "1");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[test]
fn a_seed_that_failed_fails_again_step_for_step() {
    let (passed, said) = in_a_process(None);
    assert!(!passed, "{said}");
    let (_, after) = said.split_once("LEAKFREE_SEED=").expect("it says how to replay");
    let (seed, command) = after.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!(command, "cargo test deadlocks_in_some_schedules");
    assert!(said.contains("hangs: nothing can run") && said.contains("DEADLOCKED"), "{said}");
    let seed: u64 = seed.parse().unwrap();

    let trace = |said: &str| {
        let lines = said.lines().skip_while(|line| !line.starts_with(&format!("seed {seed}, ")));
        lines.take_while(|line| !line.is_empty()).take(1000).map(str::to_owned).collect::<Vec<_>>()
    };
    let (passed, first) = in_a_process(Some(seed));
    assert!(!passed, "{first}");
    assert!(trace(&first).len() > 10, "{first}");
    for _ in 0..2 {
        let (passed, again) = in_a_process(Some(seed));
        assert!(!passed);
        let steps = |said: &str| {
            let trace = trace(said);
            let more = trace.iter().position(|line| line.contains("panicked")).unwrap_or(trace.len());
            trace[..more].to_vec()
        };
        assert_eq!(steps(&again), steps(&first), "the same steps");
    }
    // Another one takes others.
    let (_, other) = in_a_process(Some(seed + 1));
    assert!(!other.contains(&trace(&first)[0]));
}

#[test]
fn a_test_without_an_end_fails_after_so_many_steps() {
    let message = leakfree_tests::panic_message(|| {
        leakfree::__private::run_simulated_test(
            "x::y",
            || Builder::new().steps_max(10_000),
            0,
            1,
            async || {
                while Handle::try_current().is_ok() {
                    leakfree::yield_now().await;
                }
            },
        );
    });
    assert!(message.contains("does not end: 10000 steps were taken"), "{message}");
}
