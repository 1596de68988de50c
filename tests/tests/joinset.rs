//! `JoinSet`: results in the order in which tasks end, what bounds them, and what goes when the set goes.

use std::future::{pending, poll_fn};

use leakfree::report::snapshot::{WaitObject, WaitReason};
use leakfree::scope;
use leakfree::sync::oneshot;
use leakfree::task::JoinSet;
use leakfree::time::{Duration, sleep};
use leakfree_tests::{Drops, parked, runtime, until};

const MS: Duration = Duration::from_millis(1);

#[leakfree::test(paused)]
async fn results_come_in_the_order_of_the_ends_with_ids_and_none_when_empty() {
    let mut set = JoinSet::new();
    assert!(set.join_next().await.is_none() && set.try_join_next().is_none());
    let mut ids = Vec::new();
    for n in [3, 1, 2] {
        let spawned = set.spawn(async move {
            sleep(n * MS).await;
            n
        });
        ids.push((n, spawned.id()));
    }
    assert_eq!(set.len(), 3);
    assert!(set.try_join_next().is_none());
    for expected in 1..=2 {
        let (id, n) = set.join_next_with_id().await.unwrap().unwrap();
        assert_eq!(n, expected);
        assert!(ids.contains(&(n, id)));
    }
    assert_eq!(poll_fn(|cx| set.poll_join_next(cx)).await.unwrap().unwrap(), 3);
    assert!(set.is_empty());
    set.spawn(async { 4 });
    sleep(MS).await;
    assert_eq!(set.try_join_next().unwrap().unwrap(), 4);
}

#[leakfree::test(paused)]
async fn join_all_gives_every_output_and_sets_are_collected() {
    let set: JoinSet<u32> = (1..=3)
        .map(|n| async move {
            sleep((10 - n) * MS).await;
            n
        })
        .collect();
    assert_eq!(set.join_all().await, [3, 2, 1]);
    let mut set = JoinSet::new();
    set.extend([std::future::ready(5)]);
    set.spawn_blocking(|| 6);
    let mut all = set.join_all().await;
    all.sort_unstable();
    assert_eq!(all, [5, 6]);
}

#[leakfree::test]
async fn a_panic_stays_in_the_set_whatever_the_scope_is() {
    // In a plain scope a child's panic would cancel the body.
    leakfree::scope(async |s| {
        let sibling = s.spawn(pending::<()>());
        let mut set = JoinSet::new();
        let panics = set.spawn(async { panic!("in the set") });
        let error = set.join_next().await.unwrap().unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.id(), panics.id());
        assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "in the set");
        set.spawn_blocking(|| panic!("on the pool"));
        let error = set.join_next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "task panicked: on the pool");
        // The panic of a destructor, too.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a drop");
            }
        }
        let bomb = Bomb;
        set.spawn(async move {
            let _bomb = bomb;
        });
        assert!(set.join_next().await.unwrap().unwrap_err().is_panic());
        assert!(!sibling.is_finished() && !s.is_cancelled());
        sibling.abort();
    })
    .await;
}

#[leakfree::test]
#[should_panic(expected = "the first")]
async fn join_all_resumes_a_panic_and_aborts_the_rest() {
    let mut set = JoinSet::new();
    set.spawn(pending::<()>());
    set.spawn(async { panic!("the first") });
    set.join_all().await;
}

#[leakfree::test]
#[should_panic(expected = "gave no output: task was cancelled")]
async fn join_all_panics_for_a_cancelled_task() {
    let mut set = JoinSet::new();
    set.spawn(pending::<()>()).abort();
    set.join_all().await;
}

#[leakfree::test]
async fn a_dropped_set_aborts_its_tasks_and_the_scope_waits_for_them() {
    let drops = Drops::new();
    let guard = drops.guard();
    leakfree::scope(async |_| {
        let mut set = JoinSet::new();
        let (inside, entered) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        set.spawn(async move {
            let _guard = guard;
            leakfree::shield(async {
                inside.send(()).unwrap();
                released.await.unwrap();
            })
            .await;
            pending::<()>().await;
        });
        entered.await.unwrap();
        drop(set);
        assert_eq!(drops.count(), 0, "its shield holds the drop off");
        release.send(()).unwrap();
    })
    .await;
    assert_eq!(drops.count(), 1);
}

#[leakfree::test]
async fn the_nearest_scope_bounds_the_tasks_and_its_cancel_ends_them() {
    let mut outer = JoinSet::new();
    let task = leakfree::scope(async |s| {
        let task = outer.spawn(pending::<()>());
        s.cancel("enough");
        task
    })
    .await;
    assert!(task.is_finished(), "the scope is over");
    let error = outer.join_next().await.unwrap().unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.cancel_reason().unwrap().message(), Some("enough"));
}

#[test]
fn outside_of_a_task_the_root_scope_bounds_the_tasks() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    let entered = handle.enter();
    let mut set = JoinSet::new();
    set.spawn(async { 1 });
    drop(entered);
    assert_eq!(runtime.block_on(set.join_next()).unwrap().unwrap(), 1);
    let task = runtime.block_on(async move { set.spawn(pending()) });
    assert!(runtime.shutdown().is_clean(), "the set was dropped with the future, and its task with it");
    assert!(task.is_finished());
}

#[leakfree::test]
async fn abort_all_shutdown_and_detach() {
    let drops = Drops::new();
    let mut set = JoinSet::new();
    for _ in 0..3 {
        let guard = drops.guard();
        set.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
    }
    set.abort_all();
    for _ in 0..3 {
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
    assert_eq!((drops.count(), set.len()), (3, 0));

    let guard = drops.guard();
    set.spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    set.shutdown().await;
    assert_eq!((drops.count(), set.len()), (4, 0));

    let (tx, rx) = oneshot::channel::<()>();
    let (done, ended) = oneshot::channel();
    let detached = set.spawn(async move {
        rx.await.unwrap();
        done.send(()).unwrap();
    });
    set.detach_all();
    assert!(set.is_empty() && set.join_next().await.is_none());
    // The set can be used again, and what was detached does not come back.
    set.spawn(pending());
    tx.send(()).unwrap();
    ended.await.unwrap();
    until(|| detached.is_finished()).await;
    assert!(set.try_join_next().is_none());
    assert_eq!(set.len(), 1);
}

#[leakfree::test]
async fn abort_all_says_where_it_was_called() {
    let mut set = JoinSet::new();
    set.spawn(pending::<()>());
    set.abort_all();
    let line = line!() - 1;
    let reason = set.join_next().await.unwrap().unwrap_err().cancel_reason().unwrap();
    assert_eq!(reason.location().unwrap().line(), line);
}

#[leakfree::test]
async fn a_join_error_tells_of_a_task_and_an_abort_handle_outlives_it() {
    let handle = leakfree::spawn(pending::<()>());
    let abort = handle.abort_handle();
    assert_eq!(abort.id(), handle.id());
    let own = leakfree::spawn(async { leakfree::task::id() });
    assert_eq!(own.id(), own.await.unwrap());
    assert!(std::thread::spawn(leakfree::task::try_id).join().unwrap().is_none());
    assert!(!abort.is_finished() && !handle.is_finished());
    abort.clone().abort();
    let line = line!() - 1;
    let id = handle.id();
    let error = handle.await.unwrap_err();
    assert!(error.is_cancelled() && !error.is_panic());
    assert_eq!(error.id(), id);
    assert_eq!(error.cancel_reason().unwrap().location().unwrap().line(), line);
    assert!(error.try_into_panic().unwrap_err().is_cancelled());
    assert!(abort.is_finished());
    abort.abort();
    let error = leakfree::spawn(async { panic!("{}", 1) }).await.unwrap_err();
    assert_eq!(*error.try_into_panic().unwrap().downcast::<String>().unwrap(), "1");
}

#[leakfree::test(workers = 2)]
async fn its_waits_are_recorded_where_the_user_stands() {
    let scope = scope::current();
    let spawn = |name: &'static str| scope.task().name(name);
    let made = line!() + 2;
    let task = spawn("next").spawn(async {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        set.join_next().await;
    });
    let polled = spawn("polled").spawn(async {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        poll_fn(|cx| set.poll_join_next(cx)).await;
    });
    let all = spawn("all").spawn(async {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        set.join_all().await;
    });
    for (name, created) in [("next", made), ("polled", made + 5), ("all", made + 10)] {
        let info = parked(name).await;
        assert_eq!(info.waits.len(), 1, "{info:?}");
        let wait = info.waits[0].clone();
        assert_eq!(
            (wait.reason, wait.site.file, wait.site.line),
            (WaitReason::JoinSetNext, file!(), created + 2)
        );
        assert!(
            matches!(wait.object, WaitObject::Created(site) if (site.file, site.line) == (file!(), created))
        );
        assert_eq!((info.own_wakers, info.foreign_wakers), (1, 0), "the wait set is complete");
    }
    for task in [task, polled, all] {
        task.abort();
        task.await.unwrap_err();
    }
}

#[leakfree::test(workers = 2)]
async fn a_dropped_join_next_takes_its_registration_along() {
    let task = scope::current().task().name("gave up").spawn(async {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        leakfree::select! {
            biased;
            _ = set.join_next() => {}
            _ = leakfree::yield_now() => {}
        }
        pending::<()>().await;
    });
    let info = parked("gave up").await;
    assert_eq!((info.waits.len(), info.own_wakers), (0, 0), "{info:?}");
    assert!(info.unwakeable);
    task.abort();
}
