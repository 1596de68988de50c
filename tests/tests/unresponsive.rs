//! Who does not go when asked is named, with its class, its cause and how long; the shutdown ends all the same.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leakfree::report::snapshot::{Phase, TaskInfo, TaskKind};
use leakfree::report::verdict::{Finding, Report, Verdict};
use leakfree::runtime::{Handle, Runtime};
use leakfree::sync::Notify;
use leakfree::time::sleep;
use leakfree::{scope, shield, shield_for};
use leakfree_tests::{Drops, Holding, parked, runtime, until};

/// Children that wait for this and are cancelled are dropped together; those that nothing can wake have a turn each.
const HOUR: Duration = Duration::from_secs(3600);

/// The task of that name in the report, as unresponsive.
#[track_caller]
fn unresponsive<'a>(report: &'a Report, name: &str) -> &'a Finding {
    let named = |finding: &&Finding| {
        finding.verdict == Verdict::Unresponsive && finding.task.name.as_deref() == Some(name)
    };
    report.findings.iter().find(named).unwrap_or_else(|| panic!("{name} is not in the report:\n{report}"))
}

/// Shuts down, and checks that it was quick: no grace, no cleanups, 100 ms for who does not respond; the rest is
/// for a machine under load.
fn shut_down(runtime: Runtime) -> Report {
    let start = Instant::now();
    let report = runtime.shutdown();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    report
}

async fn all_parked(tasks: usize) {
    let parked = |task: &&TaskInfo| task.phase == Phase::Parked;
    until(|| Handle::current().snapshot().tasks.iter().filter(parked).count() >= tasks).await;
}

#[test]
fn a_loop_without_an_await_is_running_on_a_worker() {
    let runtime = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let (looping, theirs) = (Arc::new(AtomicBool::new(false)), Arc::clone(&stop));
    let inside = Arc::clone(&looping);
    runtime.block_on(async {
        leakfree::scope::current().task().name("loop").spawn(async move {
            // Parked once, so that it is known by name.
            leakfree::time::sleep(Duration::from_millis(1)).await;
            inside.store(true, Ordering::SeqCst);
            while !theirs.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
        });
        until(|| looping.load(Ordering::SeqCst)).await;
    });
    let report = shut_down(runtime);
    let finding = unresponsive(&report, "loop");
    assert_eq!(finding.task.phase, Phase::Running);
    let running = finding.task.running.as_ref().expect("a worker polls it");
    assert!(running.worker < 2);
    let text = report.to_string();
    assert!(text.contains(&format!("running on worker {} for ", running.worker)), "{text}");
    assert!(text.contains("it blocks its worker or loops without an await"), "{text}");
    assert!(text.contains("cancelled ") && text.contains("ago: shutdown"), "{text}");
    stop.store(true, Ordering::SeqCst);
}

#[test]
fn a_thread_in_block_on_is_named_too() {
    let runtime = runtime(1);
    let (handle, stop) = (runtime.handle(), Arc::new(AtomicBool::new(false)));
    let (looping, theirs) = (Arc::new(AtomicBool::new(false)), Arc::clone(&stop));
    let inside = Arc::clone(&looping);
    let line = line!() + 2;
    let thread = std::thread::spawn(move || {
        handle.block_on(async {
            sleep(Duration::from_millis(1)).await;
            inside.store(true, Ordering::SeqCst);
            while !theirs.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        });
    });
    runtime.block_on(until(|| looping.load(Ordering::SeqCst)));
    let report = shut_down(runtime);
    let [finding] = &*report.findings else { panic!("one is alive:\n{report}") };
    assert_eq!((finding.verdict, finding.task.kind), (Verdict::Unresponsive, TaskKind::Main));
    assert_eq!(finding.task.spawned_at.line, line);
    let text = report.to_string();
    assert!(text.contains("it blocks the thread that called `block_on`"), "{text}");
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}

#[test]
fn who_was_dropped_before_a_drop_that_never_ends_is_not_named() {
    struct Dropped(Arc<AtomicUsize>, Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            if self.0.fetch_add(1, Ordering::SeqCst) == 4 {
                while !self.1.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
        }
    }
    let runtime = runtime(1);
    let (dropped, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    runtime.block_on(async {
        for _ in 0..20 {
            let held = Dropped(Arc::clone(&dropped), Arc::clone(&stop));
            leakfree::spawn(async move {
                let _held = held;
                sleep(HOUR).await;
            });
        }
        until(|| {
            Handle::current().snapshot().tasks.iter().filter(|task| task.phase == Phase::Parked).count() >= 20
        })
        .await;
    });
    let report = shut_down(runtime);
    assert_eq!(dropped.load(Ordering::SeqCst), 5, "the fifth holds the only worker");
    let text = report.to_string();
    assert!(text.contains("it blocks its worker or loops without an await"), "{text}");
    assert!(text.contains("UNRESPONSIVE, 15 tasks alike"), "those that it is in the way of:\n{text}");
    assert!(text.contains("in a run queue") && text.contains("no worker has come to it"), "{text}");
    stop.store(true, Ordering::SeqCst);
}

#[test]
fn a_shield_that_never_ends_is_named_with_its_place() {
    let runtime = runtime(1);
    let line = line!() + 3;
    runtime.block_on(async {
        leakfree::scope::current().task().name("shielded").spawn(async {
            shield(pending::<()>()).await;
        });
        parked("shielded").await;
    });
    let report = shut_down(runtime);
    let finding = unresponsive(&report, "shielded");
    let [shield] = &*finding.task.shields else { panic!("{:?}", finding.task.shields) };
    assert_eq!((shield.site.file, shield.site.line), (file!(), line));
    let text = report.to_string();
    assert!(text.contains(&format!("at {}:{line}:", file!())), "{text}");
    assert!(text.contains("the shield holds its drop off"), "{text}");
}

#[test]
fn a_scope_inside_a_shield_is_seen_with_what_is_below_it() {
    let runtime = runtime(1);
    runtime.block_on(async {
        leakfree::scope::current().task().name("outer").spawn(async {
            shield(scope(async |s| {
                s.task().name("inner").spawn(pending::<()>());
            }))
            .await;
        });
        parked("inner").await;
        parked("outer").await;
    });
    let report = shut_down(runtime);
    unresponsive(&report, "outer");
    // Fresh in its shield: never cancelled, and still there.
    let inner = unresponsive(&report, "inner");
    assert_eq!(inner.task.cancelled, None);
}

#[test]
fn a_blocking_call_is_left_on_its_thread() {
    let runtime = runtime(1);
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = std::sync::mpsc::channel();
    runtime.block_on(async {
        leakfree::scope::current().task().name("blocking").spawn_blocking(move || {
            begun.send(()).unwrap();
            let _ = rx.recv();
        });
    });
    has_begun.recv().unwrap();
    let report = shut_down(runtime);
    let finding = unresponsive(&report, "blocking");
    assert_eq!(finding.task.kind, TaskKind::Blocking);
    assert!(report.to_string().contains("a blocking call cannot be stopped from outside"), "{report}");
    drop(tx);
}

#[test]
fn one_parked_in_a_foreign_future_is_simply_dropped() {
    let runtime = runtime(2);
    let drops = Drops::new();
    let (guard, other) = (drops.guard(), drops.guard());
    let (kept, foreign) = futures::channel::oneshot::channel::<()>();
    runtime.block_on(async {
        leakfree::scope::current().task().name("foreign").spawn(async move {
            let _guard = guard;
            let _ = foreign.await;
        });
        leakfree::scope::current().task().name("holding").spawn(Holding(other));
        parked("foreign").await;
        parked("holding").await;
    });
    let report = shut_down(runtime);
    assert_eq!(drops.count(), 2);
    assert!(report.findings.iter().all(|finding| finding.verdict != Verdict::Unresponsive), "{report}");
    drop(kept);
}

#[test]
fn a_bounded_shield_lapses_and_its_task_is_gone() {
    let runtime = runtime(1);
    let drops = Drops::new();
    let guard = drops.guard();
    runtime.block_on(async {
        leakfree::scope::current().task().name("bounded").spawn(async move {
            let _guard = guard;
            shield_for(Duration::from_millis(5), pending::<()>()).await;
        });
        parked("bounded").await;
    });
    let report = shut_down(runtime);
    assert_eq!(drops.count(), 1);
    assert_eq!(report.findings.len(), 1, "outlived main, and no more: {report}");
}

/// A task that yields for ever behind a shield is not waited for: only ends count as getting on.
#[test]
fn a_shielded_task_that_goes_round_and_round_does_not_hold_the_shutdown_up() {
    let runtime = runtime(1);
    runtime.block_on(async {
        leakfree::scope::current().task().name("round").spawn(shield(async {
            leakfree::time::sleep(Duration::from_millis(1)).await;
            loop {
                leakfree::yield_now().await;
            }
        }));
        // Parked for a moment only, which a busy machine may miss; but known by name since then.
        let known = |task: &TaskInfo| task.name.as_deref() == Some("round");
        until(|| Handle::current().snapshot().tasks.iter().any(known)).await;
    });
    let report = shut_down(runtime);
    unresponsive(&report, "round");
}

/// Each end counts as getting on, however many tasks are dropped in one turn.
#[test]
fn slow_drops_are_waited_for_as_long_as_one_follows_another() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(12));
        }
    }
    let runtime = runtime(1);
    runtime.block_on(async {
        for _ in 0..40 {
            let held = Slow;
            leakfree::spawn(async move {
                let _held = held;
                sleep(HOUR).await;
            });
        }
        all_parked(40).await;
    });
    let report = shut_down(runtime);
    assert!(report.findings.iter().all(|finding| finding.verdict != Verdict::Unresponsive), "{report}");
}

/// A worker that gets time only after the shutdown, and has two tasks that wake one another for ever.
#[test]
fn who_goes_round_and_round_after_the_shutdown_is_in_nobodys_way() {
    let runtime = runtime(1);
    let drops = Drops::new();
    runtime.block_on(async {
        let [a, b] = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        for (mine, other) in [(Arc::clone(&a), Arc::clone(&b)), (Arc::clone(&b), Arc::clone(&a))] {
            leakfree::spawn(shield(async move {
                loop {
                    mine.notified().await;
                    other.notify_one();
                }
            }));
        }
        for _ in 0..20 {
            leakfree::spawn(Holding(drops.guard()));
        }
        all_parked(22).await;
        a.notify_one();
        let held = Arc::new(AtomicBool::new(false));
        let holds = Arc::clone(&held);
        leakfree::spawn(async move {
            holds.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(700));
        });
        until(|| held.load(Ordering::SeqCst)).await;
    });
    drop(shut_down(runtime));
    let until = Instant::now() + Duration::from_secs(5);
    while drops.count() < 20 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(drops.count(), 20);
}
