//! Who can never go on, and why: knots of locks and joins, their victims, and those that only look like it.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leakfree::report::snapshot::{HolderInfo, WaitObject};
use leakfree::report::verdict::{Finding, Report, Verdict};
use leakfree::runtime::Handle;
use leakfree::sync::{Mutex, OnceCell, RwLock, Semaphore, mpsc, oneshot};
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

/// Both are cancelled by their scope, and who waits goes on behind its shield.
#[test]
fn who_waits_behind_a_shield_for_a_sibling_is_not_proven() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let fail = Arc::new(leakfree::sync::Notify::new());
        let failing = Arc::clone(&fail);
        let owner = spawn("owner", async move {
            let ended = leakfree::try_scope(async |s| {
                let child = s.task().name("child").spawn(pending::<()>());
                s.task().name("shielded").spawn(async move {
                    assert!(leakfree::shield(child).await.unwrap_err().is_cancelled());
                });
                drop(s.spawn_try(async move {
                    failing.notified().await;
                    Err::<(), _>("it fails")
                }));
                Ok(())
            });
            assert_eq!(ended.await.unwrap_err().into_error(), Some("it fails"));
        });
        parked("shielded").await;
        let report = report(&["owner", "child", "shielded"]).await;
        assert_eq!(find(&report, "child").verdict, Verdict::ProvenUnwakeable, "only a cancel can end it");
        assert_eq!(report.leaked(), 1, "{report}");
        fail.notify_one();
        owner.await.unwrap();
    });
    assert!(runtime.shutdown().is_clean());
}

/// Nobody cancels who waits, and yet it goes on.
#[test]
fn who_waits_for_a_task_that_may_be_cancelled_alone_is_not_proven() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let fail = Arc::new(leakfree::sync::Notify::new());
        let (failing, lock) = (Arc::clone(&fail), Arc::new(Mutex::new(())));
        let locked = Arc::clone(&lock);
        let (give, given) = oneshot::channel();
        let owner = spawn("owner", async move {
            let ended = leakfree::try_scope(async |s| {
                let child = s.task().name("child").spawn(async move {
                    let _guard = locked.lock().await;
                    pending::<()>().await;
                });
                let daemon = s.task().name("daemon").spawn_daemon(pending::<()>());
                let _ = give.send((child, daemon));
                drop(s.spawn_try(async move {
                    failing.notified().await;
                    Err::<(), _>("it fails")
                }));
                Ok(())
            });
            assert_eq!(ended.await.unwrap_err().into_error(), Some("it fails"));
        });
        let (child, daemon) = given.await.unwrap();
        parked("child").await;
        let joins = spawn("joins", async move { assert!(child.await.unwrap_err().is_cancelled()) });
        let joins_daemon =
            spawn("joins a daemon", async move { assert!(daemon.await.unwrap_err().is_cancelled()) });
        let locks = spawn("locks", async move { drop(lock.lock().await) });
        let report = report(&["owner", "daemon", "joins", "joins a daemon", "locks"]).await;
        assert!(report.findings.iter().all(|finding| finding.verdict != Verdict::ProvenStuck), "{report}");
        for accused in ["child", "daemon"] {
            assert_eq!(find(&report, accused).verdict, Verdict::ProvenUnwakeable, "only a cancel can end it");
        }
        // Of a lock that is assumed, and said.
        assert_eq!(find(&report, "locks").verdict, Verdict::Deadlocked);
        let assumed = "that nobody is cancelled with a scope that is not around all of them";
        assert!(report.leaked() == 3 && report.to_string().contains(assumed), "{report}");
        fail.notify_one();
        for task in [joins, joins_daemon, locks, owner] {
            task.await.unwrap();
        }
    });
    assert!(runtime.shutdown().is_clean());
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

/// A reads, B waits to write, A reads again: behind B, who waits for A.
#[test]
fn a_second_read_behind_a_writer_is_a_knot() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        let lock = Arc::new(RwLock::new(()));
        let (theirs, its) = (Arc::clone(&lock), Arc::clone(&lock));
        let (go, may_go) = oneshot::channel::<()>();
        let reader = spawn("reader", async move {
            let _once = lock.read().await;
            may_go.await.unwrap();
            let _twice = lock.read().await;
        });
        parked("reader").await;
        let writer = spawn("writer", async move { drop(theirs.write().await) });
        parked("writer").await;
        assert!(Handle::current().report().findings.is_empty(), "the reader waits for a message");
        go.send(()).unwrap();
        leakfree_tests::until(|| !Handle::current().report().findings.is_empty()).await;
        // Whoever comes later is in the same line.
        spawn("late", async move { drop(its.read().await) });
        let report = report(&["reader", "writer", "late"]).await;
        writer.abort();
        let _ = writer.await;
        reader.await.unwrap();
        report
    });
    let knot = find(&report, "reader");
    assert_eq!((knot.verdict, knot.knots), (Verdict::Deadlocked, 1), "{report}");
    assert!(names(knot).contains(&"writer"), "{report}");
    assert_eq!(report.leaked(), 3, "{report}");
    assert!(report.to_string().contains("in RwLock::write at"), "{report}");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn two_semaphores_in_opposite_order_are_a_knot() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        let (a, b) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(2)));
        let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
        let (to_second, from_first) = oneshot::channel();
        let (to_first, from_second) = oneshot::channel();
        let first = spawn("first", async move {
            let _a = a.acquire().await.unwrap();
            to_second.send(()).unwrap();
            from_second.await.unwrap();
            let _b = b.acquire_many(2).await.unwrap();
        });
        let second = spawn("second", async move {
            let _b = b2.acquire().await.unwrap();
            to_first.send(()).unwrap();
            from_first.await.unwrap();
            let _a = a2.acquire().await.unwrap();
        });
        leakfree_tests::until(|| !Handle::current().report().findings.is_empty()).await;
        let report = report(&["first", "second"]).await;
        first.abort();
        let _ = first.await;
        second.await.unwrap();
        report
    });
    let knot = find(&report, "first");
    assert_eq!((knot.verdict, knot.knots, names(knot)), (Verdict::Deadlocked, 1, vec!["first", "second"]));
    let text = report.to_string();
    assert!(text.contains("(acquired tests/tests/proof.rs:"), "{text}");
    assert!(text.contains("nor a permit, and that nobody adds permits."), "{text}");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_permit_that_is_awaited_by_its_holder_is_a_knot_of_one_and_who_waits_behind_a_victim() {
    let runtime = runtime(1);
    let report = runtime.block_on(async {
        let semaphore = Arc::new(Semaphore::new(2));
        let theirs = Arc::clone(&semaphore);
        spawn("all", async move {
            let _one = semaphore.acquire().await.unwrap();
            drop(semaphore.acquire_many(2).await);
        });
        let (cell, again) = (Arc::new(OnceCell::<u8>::new()), Arc::new(Mutex::new(())));
        let other = Arc::clone(&cell);
        let stuck = spawn("stuck", pending::<()>());
        spawn("makes", async move {
            cell.get_or_init(|| async {
                stuck.await.unwrap();
                1
            })
            .await;
        });
        parked("makes").await;
        // Two behind the same cell, and behind each other in its queue: victims, and no knot.
        for name in ["needs it", "needs it, too"] {
            let other = Arc::clone(&other);
            spawn(name, async move { assert_eq!(*other.get_or_init(|| async { 2 }).await, 2) });
        }
        drop((theirs, again));
        report(&["all", "stuck", "makes", "needs it", "needs it, too"]).await
    });
    let all = find(&report, "all");
    assert_eq!((all.verdict, all.knots, all.ids.len()), (Verdict::Deadlocked, 1, 1), "{report}");
    assert_eq!(find(&report, "makes").verdict, Verdict::ProvenStuck);
    for name in ["needs it", "needs it, too"] {
        let needs = find(&report, name);
        assert_eq!((needs.verdict, needs.knots), (Verdict::Deadlocked, 0), "{report}");
        assert_eq!(needs.waits_for, [find(&report, "makes").task.id, find(&report, "stuck").task.id]);
    }
}

/// Each of these waits for a lock that somebody may still let it have.
#[test]
fn a_shared_lock_that_anybody_may_open_proves_nothing() {
    let runtime = runtime(2);
    let report = runtime.block_on(async {
        let mut all = Vec::new();
        // Nobody holds a permit: who waits, waits for one that is added.
        let none = Arc::new(Semaphore::new(0));
        let theirs = Arc::clone(&none);
        spawn("a signal", async move { drop(theirs.acquire().await) });
        all.push("a signal");

        // Permits have been added, or forgotten, before: nobody knows what comes.
        for (name, op) in [("added", 0), ("forgotten", 1), ("forgotten, too", 2)] {
            let semaphore = Semaphore::new(2);
            match op {
                0 => semaphore.add_permits(1),
                1 => semaphore.try_acquire().unwrap().forget(),
                _ => assert_eq!(semaphore.forget_permits(1), 1),
            }
            spawn(name, async move {
                let _one = semaphore.acquire().await.unwrap();
                drop(semaphore.acquire_many(3).await);
            });
            all.push(name);
        }

        // A thread outside has one of two permits.
        let shared = Arc::new(Semaphore::new(2));
        let theirs = Arc::clone(&shared);
        let outside = std::thread::spawn(move || theirs.try_acquire_owned().unwrap()).join().unwrap();
        spawn("a thread's", async move {
            let _one = shared.acquire().await.unwrap();
            drop(shared.acquire().await);
        });
        all.push("a thread's");

        // Somebody is queued who is not in the snapshot, as a task of its own: he may go, and let the reader in.
        let lock = Arc::new(RwLock::new(()));
        let theirs = Arc::clone(&lock);
        let mut queued = Box::pin(Arc::clone(&lock).write_owned());
        spawn("reads", async move {
            let _once = theirs.read().await;
            leakfree_tests::until(|| theirs.try_read().is_err()).await;
            let _twice = theirs.read().await;
        });
        leakfree_tests::until(|| lock.try_write().is_err()).await;
        assert!(leakfree_tests::ByHand::new(&mut queued).poll().is_pending());
        all.push("reads");

        // One of several readers sleeps.
        let lock = Arc::new(RwLock::new(()));
        let theirs = Arc::clone(&lock);
        spawn("sleeps", async move {
            let _guard = theirs.read().await;
            time::sleep(Duration::from_secs(3600)).await;
        });
        parked("sleeps").await;
        spawn("writes", async move {
            let _read = lock.read().await;
            drop(lock.write().await);
        });
        all.extend(["sleeps", "writes"]);

        // The writer who is queued before has a deadline.
        let lock = Arc::new(RwLock::new(()));
        let theirs = Arc::clone(&lock);
        let (go, may_go) = oneshot::channel::<()>();
        spawn("reads twice", async move {
            let _once = theirs.read().await;
            may_go.await.unwrap();
            drop(theirs.read().await);
        });
        parked("reads twice").await;
        spawn("gives up", async move {
            let _ = time::timeout(Duration::from_secs(3600), lock.write()).await;
        });
        parked("gives up").await;
        go.send(()).unwrap();
        all.extend(["gives up", "reads twice"]);

        // More holders than are told apart, and one of them is a sleeper.
        let many = Arc::new(Semaphore::new(20));
        let theirs = Arc::clone(&many);
        let permits: Vec<_> = (0..19).map(|_| Arc::clone(&many).try_acquire_owned().unwrap()).collect();
        spawn("behind many", async move {
            let _one = theirs.acquire().await.unwrap();
            drop(theirs.acquire().await);
        });
        all.push("behind many");

        for _ in 0..100 {
            leakfree::yield_now().await;
        }
        let report = report(&all).await;
        drop((none, outside, queued, permits, many));
        report
    });
    assert!(report.findings.is_empty(), "{report}");
}
