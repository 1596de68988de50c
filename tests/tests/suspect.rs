//! What is suspected on a live look: parks out of the ordinary, and populations that keep growing.

use std::sync::mpsc;
use std::time::Duration;

use leakfree::report::snapshot::{Position, Site, SiteParks, Snapshot, TaskInfo};
use leakfree::report::suspect::{Change, Growth, Place, Suspicion};
use leakfree::report::verdict::{Occasion, Verdict, judge};
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::oneshot;
use leakfree::time::sleep;
use leakfree_tests::snapshots;

const A: Site = Site::new(&Position { file: "a.rs", line: 1, column: 1 });
const B: Site = Site::new(&Position { file: "b.rs", line: 2, column: 2 });

fn parked(id: u64, spawned_at: Site, parked: Duration) -> TaskInfo {
    TaskInfo { own_wakers: 1, ..snapshots::task(id, spawned_at, parked) }
}

fn snapshot(tasks: Vec<TaskInfo>, sites: Vec<SiteParks>) -> Snapshot {
    Snapshot { sites, ..snapshots::snapshot(tasks) }
}

/// A population of so many at A and at B.
fn population(a: usize, b: usize) -> Snapshot {
    let tasks = (0..a).map(|id| (id, A)).chain((a..a + b).map(|id| (id, B)));
    snapshot(tasks.map(|(id, site)| parked(id as u64, site, Duration::ZERO)).collect(), Vec::new())
}

#[test]
fn a_park_is_suspect_only_when_it_is_far_beyond_its_sites_own() {
    const MS: Duration = Duration::from_millis(1);
    let usual =
        |samples, p99, longest| SiteParks { spawned_at: A, samples, p99: p99 * MS, longest: longest * MS };
    // samples, p99, longest, parked: suspect?
    for (samples, p99, longest, ms, expected) in [
        (64, 64, 64, 1024, true),
        (63, 64, 64, 1024, false), // too few samples
        (64, 64, 64, 1023, false), // 16 times the usual is 1,024
        (64, 1, 1, 999, false),    // under a second nothing is said
        (64, 1, 1, 1000, true),
        (64, 64, 2048, 2048, false), // it has taken that long before
        (64, 64, 2048, 2049, true),
    ] {
        let usual = usual(samples, p99, longest);
        let snapshot = snapshot(vec![parked(7, A, ms * MS), parked(8, B, ms * MS)], vec![usual]);
        let report = judge(snapshot.clone(), Occasion::Live);
        let case = (samples, p99, longest, ms);
        let found: Vec<_> = report.findings.iter().map(|f| (f.verdict, f.ids.clone(), f.suspicion)).collect();
        if expected {
            let suspicion = Some(Suspicion::LongPark { usual });
            assert_eq!(found, [(Verdict::Suspect, vec![7], suspicion)], "{case:?}");
        } else {
            assert_eq!(found, [], "{case:?}");
        }
        assert!(report.is_clean(), "a suspect is no leak");
        assert_eq!(judge(snapshot, Occasion::Shutdown).findings[0].verdict, Verdict::Outlived);
    }
}

#[test]
fn the_odd_one_out_is_suspected_in_a_live_runtime() {
    let runtime = Builder::new().workers(1).start_paused(true).build().unwrap();
    let (never, rx) = oneshot::channel::<()>();
    let report = runtime.block_on(async {
        let mut rx = Some(rx);
        let mut odd = None;
        for n in 0..8 {
            let rx = if n == 3 { rx.take() } else { None };
            let task = leakfree::spawn(async move {
                if let Some(rx) = rx {
                    let _ = rx.await;
                }
                for _ in 0..2000 {
                    sleep(Duration::from_millis(3)).await;
                }
            });
            if n == 3 {
                odd = Some(task.id());
            }
        }
        sleep(Duration::from_secs(30)).await;
        (Handle::current().report(), odd.unwrap())
    });
    let (report, odd) = report;
    let [finding] = report.findings.as_slice() else { panic!("{report}") };
    assert_eq!((finding.verdict, finding.ids.as_slice()), (Verdict::Suspect, &[odd.get()][..]), "{report}");
    let text = report.to_string();
    // 3 ms, rounded up to a power of two.
    assert!(text.contains("99 in 100 took at most 4 ms"), "{text}");
    assert!(text.contains("parked 30 s"), "{text}");
    drop(never);
}

#[test]
fn a_difference_names_spawn_and_wait() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let (before, now, senders) = runtime.block_on(async {
        let before = Handle::current().snapshot();
        let mut senders = Vec::new();
        for _ in 0..3 {
            let (tx, rx) = oneshot::channel::<()>();
            leakfree::spawn(async move {
                let _ = rx.await;
            });
            senders.push(tx);
        }
        leakfree::yield_now().await;
        while Handle::current().snapshot().tasks.len() < before.tasks.len() + 3 {
            leakfree::yield_now().await;
        }
        (before, Handle::current().snapshot(), senders)
    });
    let changes = now.diff(&before);
    let largest = changes[0].to_string();
    assert!(largest.starts_with("+3 tasks (0 -> 3) spawned tests/tests/suspect.rs:"), "{largest}");
    assert!(largest.contains(", in oneshot::Receiver at tests/tests/suspect.rs:"), "{largest}");
    assert_eq!(before.diff(&now).last().map(|change| (change.before, change.now)), Some((3, 0)));
    assert_eq!(now.diff(&now), []);
    drop(senders);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn growth_is_never_falling_and_rising_half_of_the_time() {
    // Populations of A, one a snapshot; found over the last 4 intervals.
    for (row, expected) in [
        (&[1, 2, 3, 4, 5][..], Some((1, 5))),
        (&[1, 1, 2, 2, 3][..], Some((1, 3))),    // rises twice in four
        (&[1, 1, 1, 1, 9][..], None),            // rises once
        (&[1, 2, 3, 2, 5][..], None),            // falls once
        (&[5, 5, 5, 5, 5][..], None),            // stands
        (&[1, 2, 3, 4][..], None),               // too few yet
        (&[0, 0, 0, 1, 2][..], Some((0, 2))),    // new
        (&[9, 1, 2, 3, 4, 5][..], Some((1, 5))), // only the last count
    ] {
        let mut growth = Growth::new(4);
        let mut found = Vec::new();
        for &n in row {
            found = growth.add(&population(n, 7));
        }
        let place = Place { spawned_at: A, wait: None };
        let expected: Vec<_> =
            expected.map(|(before, now)| Change { place, before, now }).into_iter().collect();
        assert_eq!(found, expected, "{row:?}");
    }
}

#[test]
#[should_panic(expected = "growth is seen over 2 intervals or more: `rounds` was 1")]
fn one_interval_is_no_trend() {
    let _ = Growth::new(1);
}

#[test]
fn a_watch_tells_and_ends_when_it_is_dropped() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let handle = runtime.handle();
    let (told, tells) = mpsc::channel();
    let spawner = handle.clone();
    // Each look finds one more than the one before: the next is spawned by the telling thread itself.
    for _ in 0..2 {
        handle.spawn(std::future::pending::<()>());
    }
    let grow = std::thread::spawn({
        move || {
            let watch = handle.watch_growth(Duration::from_millis(1), 2, move |growing| {
                let _ = told.send(growing[0]);
            });
            let watch = watch.unwrap();
            while tells.try_recv().is_err() {
                spawner.spawn(std::future::pending::<()>());
                std::thread::yield_now();
            }
            drop(watch);
            // Its thread is gone, and the closure with it: whatever was told is here, and nothing comes after.
            while tells.try_recv().is_ok() {}
            assert_eq!(tells.recv(), Err(mpsc::RecvError));
        }
    });
    grow.join().unwrap();
    assert!(!runtime.shutdown().is_clean(), "what grew is still there");
}
