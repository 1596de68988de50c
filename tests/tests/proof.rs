//! Who can never go on, and why: knots of locks and joins, their victims, and those that only look like it.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leakfree::report::snapshot::{HolderInfo, WaitObject};
use leakfree::report::verdict::{Finding, Report, Verdict};
use leakfree::runtime::Handle;
use leakfree::sync::{Mutex, mpsc, oneshot};
use leakfree::{JoinHandle, Scope, scope, time};
use leakfree_tests::{parked, runtime};

fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    leakfree::scope::current().task().name(name).spawn(future)
}

/// A live report, once all of `names` are parked.
async fn report(names: &[&str]) -> Report {
    for name in names {
        parked(name).await;
    }
    Handle::current().report()
}

/// Names in a finding, knot included, in order.
fn names(finding: &Finding) -> Vec<&str> {
    let tasks = [&finding.task].into_iter().chain(finding.knot.iter().map(|member| &member.task));
    let mut names: Vec<&str> = tasks.map(|task| task.name.as_deref().unwrap_or("-")).collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn find<'a>(report: &'a Report, name: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| names(finding).contains(&name));
    found.unwrap_or_else(|| panic!("{name} is not in the report:\n{report}"))
}

/// Two locks, taken in opposite order by two tasks, with a meeting in between.
async fn a_b_b_a() -> (JoinHandle<()>, JoinHandle<()>, [u32; 4]) {
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    let (to_second, from_first) = oneshot::channel();
    let (to_first, from_second) = oneshot::channel();
    let base = line!();
    let first = spawn("first", async move {
        let _a = a.lock().await;
        to_second.send(()).unwrap();
        from_second.await.unwrap();
        let _b = b.lock().await;
    });
    let second = spawn("second", async move {
        let _b = b2.lock().await;
        to_first.send(()).unwrap();
        from_first.await.unwrap();
        let _a = a2.lock().await;
    });
    (first, second, [base + 2, base + 5, base + 8, base + 11])
}

#[test]
fn a_lock_order_is_a_knot_of_two_with_holders_and_places() {
    let runtime = runtime(2);
    let (report, [a1, b1, b2, a2]) = runtime.block_on(async {
        let (first, second, lines) = a_b_b_a().await;
        let report = report(&["first", "second"]).await;
        first.abort();
        let _ = first.await;
        // The knot is undone: the other one goes on.
        second.await.unwrap();
        (report, lines)
    });
    assert_eq!(report.findings.len(), 1, "{report}");
    let finding = &report.findings[0];
    assert_eq!((finding.verdict, finding.knots), (Verdict::Deadlocked, 1));
    assert_eq!(names(finding), ["first", "second"]);
    let tasks = [&finding.task, &finding.knot[0].task];
    for task in tasks {
        let other = tasks.iter().find(|other| other.id != task.id).unwrap();
        let [wait] = task.waits.as_slice() else { panic!("{:?}", task.waits) };
        let WaitObject::Lock(lock) = &wait.object else { panic!("{wait:?}") };
        assert_eq!((lock.waiters, lock.shared), (1, false));
        let [HolderInfo::Task { id, site }] = lock.holders[..] else { panic!("{lock:?}") };
        let lines = if task.name.as_deref() == Some("first") { [b1, b2] } else { [a2, a1] };
        assert_eq!((id, [wait.site.line, site.line]), (other.id, lines));
    }
    let text = report.to_string();
    assert!(text.contains("DEADLOCKED, knot of 2"), "{text}");
    assert!(
        text.contains(&format!("held by task {} (locked {}:{a1}:", tasks[0].id, file!()))
            || text.contains(&format!("held by task {} (locked {}:{a1}:", tasks[1].id, file!())),
        "{text}"
    );
    assert!(text.contains("Assumes that no guard was moved to another task or thread."), "{text}");
    assert!(runtime.shutdown().is_clean(), "both have ended");
}

#[test]
fn a_lock_taken_twice_is_a_knot_of_one() {
    let runtime = runtime(1);
    let report = runtime.block_on(async {
        spawn("twice", async {
            let lock = Mutex::new(());
            let _once = lock.lock().await;
            let _twice = lock.lock().await;
        });
        report(&["twice"]).await
    });
    let finding = find(&report, "twice");
    assert_eq!((finding.verdict, finding.knots, finding.ids.len()), (Verdict::Deadlocked, 1, 1));
    assert!(report.to_string().contains("it waits for what only itself could do"), "{report}");
}

/// A task that was given its turn in a future that it does not poll any more (oxide RFD 609).
#[test]
fn a_futurelock_is_a_knot_of_one() {
    let runtime = runtime(1);
    let report = runtime.block_on(async {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock().await;
        let theirs = Arc::clone(&lock);
        spawn("futurelock", async move {
            let mut first = pin!(theirs.lock());
            assert!(futures::poll!(&mut first).is_pending());
            // In line behind itself: when its turn comes it is not looking.
            drop(theirs.lock().await);
            drop(first.await);
        });
        parked("futurelock").await;
        drop(guard);
        for _ in 0..10 {
            leakfree::yield_now().await;
        }
        report(&["futurelock"]).await
    });
    let finding = find(&report, "futurelock");
    assert_eq!((finding.verdict, finding.knots), (Verdict::Deadlocked, 1), "{report}");
}

#[test]
fn tasks_that_join_each_other_are_proven_and_whoever_waits_for_them_is_told() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        let (give_a, get_a) = oneshot::channel::<JoinHandle<()>>();
        let (give_b, get_b) = oneshot::channel::<JoinHandle<()>>();
        let a = spawn("a", async move { get_b.await.unwrap().await.unwrap() });
        let b = spawn("b", async move { get_a.await.unwrap().await.unwrap() });
        // Somebody outside of the knot waits for a task that waits for it.
        let (give_c, get_c) = oneshot::channel::<JoinHandle<()>>();
        let c = spawn("c", async move { get_c.await.unwrap().await.unwrap() });
        let lock = Arc::new(Mutex::new(()));
        let held = Arc::clone(&lock);
        let holder = spawn("holder", async move {
            let _guard = held.lock().await;
            c.await.unwrap();
        });
        parked("holder").await;
        spawn("locks", async move { drop(lock.lock().await) });
        give_a.send(a).unwrap();
        give_b.send(b).unwrap();
        let d = spawn("d", pending::<()>());
        give_c.send(d).unwrap();
        drop(holder);
        report(&["a", "b", "c", "d", "holder", "locks"]).await
    });
    let knot = find(&report, "a");
    assert_eq!((knot.verdict, names(knot)), (Verdict::ProvenStuck, vec!["a", "b"]));
    let d = find(&report, "d");
    assert_eq!(d.verdict, Verdict::ProvenUnwakeable);
    let c = find(&report, "c");
    assert_eq!((c.verdict, c.waits_for.as_slice()), (Verdict::ProvenStuck, &[d.task.id][..]));
    let holder = find(&report, "holder");
    assert_eq!(holder.verdict, Verdict::ProvenStuck);
    assert_eq!(holder.waits_for, [c.task.id, d.task.id]);
    let locks = find(&report, "locks");
    assert_eq!(locks.verdict, Verdict::Deadlocked, "a lock is on the way");
    assert_eq!(locks.waits_for, [holder.task.id, c.task.id, d.task.id]);
}

#[test]
fn a_scope_that_waits_for_a_stuck_child_is_stuck() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        spawn(
            "owner",
            scope(async |s| {
                s.task().name("child").spawn(pending::<()>());
            }),
        );
        report(&["owner", "child"]).await
    });
    assert_eq!(find(&report, "child").verdict, Verdict::ProvenUnwakeable);
    let owner = find(&report, "owner");
    assert_eq!(owner.verdict, Verdict::ProvenStuck);
    assert_eq!(owner.waits_for, [find(&report, "child").task.id]);
}

/// Each of these is parked behind something that can still happen.
#[test]
fn whoever_can_still_be_woken_is_not_called_stuck() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        let mut all = Vec::new();
        // The holder sleeps.
        let lock = Arc::new(Mutex::new(()));
        let held = Arc::clone(&lock);
        spawn("sleeps", async move {
            let _guard = held.lock().await;
            time::sleep(Duration::from_secs(3600)).await;
        });
        parked("sleeps").await;
        let theirs = Arc::clone(&lock);
        spawn("behind a sleeper", async move { drop(theirs.lock().await) });
        all.extend(["sleeps", "behind a sleeper"]);

        // A deadlock with a deadline: of the wait, of the scope around, of the scope in the task.
        let (twice, again) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        spawn("a timeout", async move {
            let _once = twice.lock().await;
            let _ = time::timeout(Duration::from_secs(3600), twice.lock()).await;
        });
        spawn("the owner of a deadline", async move {
            let _once = again.lock().await;
            let _ = Scope::builder()
                .timeout(Duration::from_secs(3600))
                .try_scope(async |_: Scope<()>| {
                    drop(again.lock().await);
                    Ok(())
                })
                .await;
        });
        spawn(
            "around a deadline",
            Scope::builder().timeout(Duration::from_secs(3600)).scope(async |s| {
                s.task().name("under a deadline").spawn(async {
                    let lock = Mutex::new(());
                    let _once = lock.lock().await;
                    drop(lock.lock().await);
                });
            }),
        );
        all.extend(["a timeout", "the owner of a deadline", "around a deadline", "under a deadline"]);

        // A guard that a thread outside holds, and one that no task took.
        let outside = Arc::new(Mutex::new(()));
        let (theirs, taken) = (Arc::clone(&outside), std::sync::Barrier::new(2));
        let (let_go, hold) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|threads| {
            let taken = &taken;
            threads.spawn(move || {
                let guard = theirs.try_lock().unwrap();
                taken.wait();
                std::mem::forget(guard);
            });
            taken.wait();
        });
        drop((let_go, hold));
        spawn("behind a thread", async move { drop(outside.lock().await) });
        all.push("behind a thread");

        // One arm of a select is a channel.
        let (kept, mut rx) = mpsc::channel::<()>(1);
        let stuck = spawn("stuck", pending::<()>());
        spawn("two arms", async move {
            futures::future::select(pin!(rx.recv()), stuck).await;
        });
        all.push("two arms");

        // Joins of somebody who waits for a foreign waker.
        let (foreign, get) = futures::channel::oneshot::channel::<()>();
        let waits = spawn("foreign", async move {
            let _ = get.await;
        });
        spawn("joins it", async move { waits.await.unwrap() });
        all.extend(["foreign", "joins it"]);

        // A scope with a stuck child and one that may still fail.
        spawn(
            "mixed",
            scope(async |s| {
                s.task().name("a stuck one").spawn(pending::<()>());
                s.spawn(time::sleep(Duration::from_secs(3600)));
            }),
        );
        all.push("mixed");

        // The two that are stuck, too, or they may not be there yet.
        all.extend(["stuck", "a stuck one"]);
        let report = report(&all).await;
        drop((kept, foreign));
        report
    });
    let mut told: Vec<&str> = report.findings.iter().flat_map(names).collect();
    told.sort_unstable();
    assert_eq!(told, ["a stuck one", "stuck"], "{report}");
}

/// A leaf that is polled here and dropped there leaves its entry behind: nothing is concluded from it.
#[test]
fn a_leaf_that_was_dropped_elsewhere_proves_nothing() {
    let runtime = runtime(1);
    runtime.block_on(async {
        let stuck = spawn("stuck", pending::<()>());
        let shared = Arc::new(std::sync::Mutex::new(Some(Box::pin(stuck))));
        let theirs = Arc::clone(&shared);
        let (kept, rx) = oneshot::channel::<()>();
        let task = spawn("lends", async move {
            let mut rx = pin!(rx);
            std::future::poll_fn(|cx| {
                if let Some(join) = &mut *theirs.lock().unwrap() {
                    assert!(join.as_mut().poll(cx).is_pending());
                }
                rx.as_mut().poll(cx)
            })
            .await
            .unwrap();
        });
        let before = parked("lends").await;
        assert_eq!((before.own_wakers, before.waits.len(), before.astray), (2, 2, false));
        drop(shared.lock().unwrap().take());
        let after = parked("lends").await;
        assert_eq!((after.own_wakers, after.waits.len(), after.astray), (1, 2, true));
        // It may still go on, and does.
        kept.send(()).unwrap();
        task.await.unwrap();
    });
    assert_eq!(runtime.shutdown().leaked(), 1, "the stuck one");
}
