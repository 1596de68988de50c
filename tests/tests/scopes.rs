//! Scopes: nothing outlives its bounds, and cancellation goes down the tree.

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use leakfree::report::snapshot::IncidentKind;
use leakfree::report::verdict::Verdict;
use leakfree::runtime::Handle;
use leakfree::scope::OnStuck;
use leakfree::sync::oneshot;
use leakfree::time::sleep;
use leakfree::{CancelKind, Scope, scope};
use leakfree_tests::{Drops, Holding, parked, runtime, until};

/// Children that wait for this and are cancelled are dropped together; those that nothing can wake have a turn each.
const HOUR: Duration = Duration::from_secs(3600);

/// Events in the order in which they happened.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<&'static str>>>);

impl Trace {
    fn log(&self, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }
    fn events(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
    /// Logs when it is dropped.
    fn on_drop(&self, event: &'static str) -> impl Sized + Send + use<> {
        struct OnDrop(Trace, &'static str);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.log(self.1);
            }
        }
        OnDrop(self.clone(), event)
    }
}

#[leakfree::test(workers = 2)]
async fn a_scope_ends_after_its_body_and_every_child() {
    let trace = Trace::default();
    let (go, gone) = oneshot::channel::<()>();
    let theirs = trace.clone();
    let mut scoped = pin!(scope(async |s| {
        let sibling = s.clone();
        s.spawn(async move {
            gone.await.unwrap();
            let trace = theirs.clone();
            // A child may spawn a sibling even when the body has ended.
            sibling.spawn(async move { trace.log("grandchild") });
            theirs.log("child");
        });
        trace.log("body");
        7
    }));
    assert_eq!(scoped.as_mut().now_or_never(), None);
    assert_eq!(trace.events(), ["body"]);
    go.send(()).unwrap();
    assert_eq!(scoped.await, 7);
    let mut events = trace.events();
    events.sort_unstable();
    assert_eq!(events, ["body", "child", "grandchild"]);
}

#[leakfree::test]
async fn a_body_may_borrow_and_is_not_send() {
    let mut local = std::rc::Rc::new(1);
    scope(async |s| {
        *std::rc::Rc::get_mut(&mut local).unwrap() += s.spawn(async { 2 }).await.unwrap();
    })
    .await;
    assert_eq!(*local, 3);
}

#[leakfree::test(workers = 2)]
async fn cancel_goes_down_the_tree_with_its_reason() {
    let drops = Drops::new();
    let line = Arc::new(Mutex::new(0));
    let their_line = Arc::clone(&line);
    let (outer, guards) = (Arc::new(Mutex::new(None)), drops.clone());
    let shared = Arc::clone(&outer);
    scope(async move |s| {
        let child = s.spawn(async move {
            let _guard = guards.guard();
            scope(async |inner| {
                *shared.lock().unwrap() = Some(inner.clone());
                inner.spawn(Holding(guards.guard()));
                inner.task().name("deepest").spawn(Holding(guards.guard()));
                pending::<()>().await;
            })
            .await;
        });
        parked("deepest").await;
        *their_line.lock().unwrap() = line!() + 1;
        s.cancel("enough");
        let error = child.await.unwrap_err();
        let reason = error.cancel_reason().expect("it was cancelled");
        assert_eq!(reason.kind(), CancelKind::Explicit);
        assert_eq!(reason.location().unwrap().line(), *their_line.lock().unwrap());
        assert!(s.is_cancelled());
    })
    .await;
    assert_eq!(drops.count(), 3);
    let inner = outer.lock().unwrap().take().unwrap();
    assert!(inner.is_cancelled());
    let reason = inner.cancel_reason().unwrap();
    assert_eq!((reason.kind(), reason.cause()), (CancelKind::ParentCancelled, CancelKind::Explicit));
    assert_eq!(reason.message(), Some("enough"));
}

#[leakfree::test(workers = 2)]
async fn on_a_cancel_from_above_children_are_dropped_before_parents() {
    let trace = Trace::default();
    let theirs = trace.clone();
    let parent = leakfree::spawn(async move {
        let _parent = theirs.on_drop("parent");
        scope(async |s| {
            let child = theirs.on_drop("child");
            let deeper = theirs.on_drop("grandchild");
            s.task().name("child").spawn(async move {
                let _child = child;
                scope(async |s| {
                    s.task().name("grandchild").spawn(Holding(deeper));
                    pending::<()>().await;
                })
                .await;
            });
            pending::<()>().await;
        })
        .await;
    });
    parked("grandchild").await;
    parked("child").await;
    parent.abort();
    assert!(parent.await.unwrap_err().is_cancelled());
    assert_eq!(trace.events(), ["grandchild", "child", "parent"]);
}

#[leakfree::test(workers = 2)]
async fn a_scope_dropped_half_way_cancels_its_children_and_the_next_one_out_waits() {
    let drops = Drops::new();
    let guard = drops.guard();
    let (entered, hold) = std::sync::mpsc::channel::<()>();
    let (running, is_running) = oneshot::channel::<()>();
    let mut running = Some(running);
    scope(async |_outer| {
        let mut inner = Box::pin(scope(async |s| {
            s.spawn(Holding(guard));
            // A child that does not end at once when it is cancelled.
            let running = running.take();
            s.spawn_blocking(move || {
                running.unwrap().send(()).unwrap();
                hold.recv().unwrap();
            });
            pending::<()>().await;
        }));
        assert!(futures::poll!(&mut inner).is_pending());
        is_running.await.unwrap();
        drop(inner);
        // The outer scope's body ends now; it must wait for the blocking call.
        std::thread::spawn(move || entered.send(()).unwrap());
    })
    .await;
    assert_eq!(drops.count(), 1);
    let tasks = Handle::current().snapshot().tasks;
    assert_eq!(tasks.len(), 1, "only this test's own task is left: {tasks:?}");
}

#[leakfree::test(workers = 2)]
async fn a_task_is_complete_only_when_everything_below_it_is() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (running, is_running) = oneshot::channel::<()>();
    let task = leakfree::spawn(async move {
        let mut inner = Box::pin(scope(async |s| {
            s.spawn_blocking(move || {
                running.send(()).unwrap();
                hold.recv().unwrap();
            });
            pending::<()>().await;
        }));
        assert!(futures::poll!(&mut inner).is_pending());
        is_running.await.unwrap();
        // No scope of this task is around it: the task itself must wait.
        drop(inner);
        "output"
    });
    until(|| {
        use leakfree::report::snapshot::Phase;
        Handle::current().snapshot().tasks.iter().any(|task| task.phase == Phase::Ending)
    })
    .await;
    assert!(!task.is_finished());
    release.send(()).unwrap();
    assert_eq!(task.await.unwrap(), "output");
}

#[leakfree::test(workers = 2)]
async fn a_childs_panic_cancels_its_siblings_and_the_body_and_is_resumed_in_the_parent() {
    let drops = Drops::new();
    let (sibling, body) = (drops.guard(), drops.guard());
    let parent = leakfree::spawn(async move {
        scope(async |s| {
            let _body = body;
            s.spawn(Holding(sibling));
            s.spawn(async { panic!("the child's own words") });
            pending::<()>().await;
        })
        .await;
    });
    let payload = parent.await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"the child's own words"));
    assert_eq!(drops.count(), 2);
}

/// Children that are cancelled together, of which some panic as they are dropped, or open a scope that outlives the drop.
#[leakfree::test(workers = 2)]
async fn what_happens_in_a_drop_is_of_that_child_however_many_are_dropped() {
    struct Dropped(usize, Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let Dropped(child, drops) = self;
            match *child % 50 {
                7 => panic!("child {child}"),
                20 => {
                    let below = Dropped(0, Arc::clone(drops));
                    let opened = pin!(scope(async |s| {
                        s.spawn(async move {
                            let _below = below;
                            pending::<()>().await;
                        });
                        pending::<()>().await;
                    }));
                    assert!(opened.now_or_never().is_none());
                }
                _ => {}
            }
            drops.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&drops);
    let parent = leakfree::spawn(async move {
        scope(async |s| {
            for child in 1..=200 {
                let held = Dropped(child, Arc::clone(&theirs));
                s.spawn(async move {
                    let _held = held;
                    sleep(HOUR).await;
                });
            }
            until(|| Handle::current().snapshot().tasks.len() >= 200).await;
            s.cancel("all");
        })
        .await;
    });
    let payload = parent.await.unwrap_err().into_panic();
    assert!(payload.downcast_ref::<String>().is_some_and(|message| message.starts_with("child ")));
    assert_eq!(
        drops.load(Ordering::SeqCst),
        200 - 4 + 4,
        "without those that panic, with those opened below"
    );
}

/// Whoever can ask whether a task is finished gets the answer, however many are dropped in one turn.
#[leakfree::test(workers = 1)]
async fn a_drop_may_wait_for_a_sibling_that_was_dropped_before() {
    #[derive(Default)]
    struct Siblings(Mutex<(Vec<leakfree::task::AbortHandle>, usize)>);
    struct Waits(usize, Arc<Siblings>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let mut siblings = self.1.0.lock().unwrap();
            let last = std::mem::replace(&mut siblings.1, self.0);
            let until = Instant::now() + Duration::from_secs(2);
            while siblings.0.get(last).is_some_and(|sibling| !sibling.is_finished()) {
                assert!(Instant::now() < until, "{last} was dropped before {}", self.0);
                std::thread::yield_now();
            }
        }
    }
    let siblings = Arc::new(Siblings::default());
    siblings.0.lock().unwrap().1 = usize::MAX;
    let theirs = Arc::clone(&siblings);
    leakfree::supervisor_scope(async |s| {
        for child in 0..6 {
            let waits = Waits(child, Arc::clone(&theirs));
            let child = s.spawn(async move {
                let _waits = waits;
                sleep(HOUR).await;
            });
            theirs.0.lock().unwrap().0.push(child.abort_handle());
        }
        until(|| Handle::current().snapshot().tasks.len() >= 6).await;
        s.cancel("all");
    })
    .await;
    assert!(siblings.0.lock().is_ok(), "nobody has waited in vain");
}

#[leakfree::test(workers = 2)]
async fn a_panic_in_the_body_waits_for_the_children() {
    let drops = Drops::new();
    let guard = drops.guard();
    let parent = leakfree::spawn(async move {
        scope(async |s| {
            s.spawn(Holding(guard));
            panic!("the body's");
        })
        .await;
    });
    assert!(parent.await.unwrap_err().is_panic());
    assert_eq!(drops.count(), 1);
}

#[leakfree::test]
async fn a_root_tasks_panic_stays_in_its_handle() {
    let error = leakfree::spawn(async { panic!("kept") }).await.unwrap_err();
    assert_eq!(error.to_string(), "task panicked: kept");
    assert_eq!(leakfree::spawn(async { 1 }).await.unwrap(), 1);
}

#[leakfree::test]
async fn spawning_after_the_end_gives_a_cancelled_handle_and_drops_the_future_unpolled() {
    let drops = Drops::new();
    let kept = scope(async |s| s.clone()).await;
    let handle = kept.spawn(Holding(drops.guard()));
    assert!(handle.is_finished());
    assert_eq!(drops.count(), 1);
    let reason = handle.await.unwrap_err().cancel_reason().unwrap();
    assert_eq!(reason.kind(), CancelKind::ScopeClosed);

    scope(async |s| {
        s.cancel("enough");
        let reason = s.spawn(async {}).await.unwrap_err().cancel_reason().unwrap();
        assert_eq!(reason.kind(), CancelKind::Explicit);
    })
    .await;
}

#[test]
fn a_forgotten_scope_is_cancelled_when_its_task_ends_and_told() {
    let runtime = runtime(1);
    let drops = Drops::new();
    let guard = drops.guard();
    let line = line!() + 3;
    runtime.block_on(async move {
        let task = leakfree::spawn(async move {
            let mut forgotten = Box::pin(scope(async |s| {
                s.spawn(Holding(guard));
                pending::<()>().await;
            }));
            assert!(futures::poll!(&mut forgotten).is_pending());
            std::mem::forget(forgotten);
        });
        task.await.unwrap();
    });
    assert_eq!(drops.count(), 1);
    let report = runtime.shutdown();
    assert_eq!(report.leaked(), 0);
    assert!(!report.is_clean(), "a test that forgets a scope fails");
    let [incident] = report.incidents.as_slice() else { panic!("{report}") };
    assert_eq!(incident.kind, IncidentKind::ScopeForgotten);
    assert_eq!(incident.site.unwrap().line, line);
    assert!(report.to_string().contains(&format!("FORGOTTEN SCOPE opened {}:{line}:", file!())), "{report}");
}

#[leakfree::test]
async fn a_timeout_on_a_pinned_scope_can_be_tried_again() {
    let (tx, rx) = oneshot::channel::<u32>();
    let mut tx = Some(tx);
    let mut scoped = pin!(scope(async |s| s.spawn(rx).await.unwrap().unwrap()));
    let value = loop {
        match leakfree::time::timeout(Duration::from_millis(1), scoped.as_mut()).await {
            Ok(value) => break value,
            Err(_) => drop(tx.take().map(|tx| tx.send(5))),
        }
    };
    assert_eq!(value, 5);
}

#[test]
fn cancelled_lets_a_task_end_by_itself_within_the_grace() {
    let grace = Duration::from_secs(60);
    let runtime = leakfree::runtime::Builder::new().workers(2).grace(grace).build().unwrap();
    let drops = Drops::new();
    let guard = drops.guard();
    let trace = Trace::default();
    let theirs = trace.clone();
    runtime.block_on(async {
        leakfree::scope::current().task().name("polite").spawn(async move {
            let reason = leakfree::cancelled().await;
            assert_eq!(reason.kind(), CancelKind::Shutdown);
            assert!(leakfree::is_cancelled());
            theirs.log("asked");
            drop(guard);
        });
        parked("polite").await;
    });
    let started = std::time::Instant::now();
    let report = runtime.shutdown();
    assert!(started.elapsed() < grace, "the grace ends early when all have ended");
    assert_eq!(trace.events(), ["asked"]);
    assert_eq!(drops.count(), 1);
    assert_eq!(report.leaked(), 1, "alive when main returned: {report}");
}

#[test]
fn who_holds_a_scope_open_is_told() {
    let runtime = runtime(2);
    let (tx, rx) = oneshot::channel::<()>();
    runtime.block_on(async {
        leakfree::scope::current().task().name("owner").spawn(async move {
            leakfree::Scope::builder()
                .name("inner")
                .scope(async |s| {
                    s.task().name("holder").spawn(rx);
                })
                .await;
        });
        parked("holder").await;
        parked("owner").await;
    });
    let report = runtime.shutdown();
    let verdict = |name: &str| {
        let named =
            |finding: &&leakfree::report::verdict::Finding| finding.task.name.as_deref() == Some(name);
        report.findings.iter().find(named).map(|finding| finding.verdict)
    };
    assert_eq!(verdict("holder"), Some(Verdict::HeldOpen));
    assert_eq!(verdict("owner"), Some(Verdict::Outlived));
    assert!(report.to_string().contains("in scope \"inner\" tests/tests/scopes.rs:"), "{report}");
    drop(tx);
}

/// Depth of the deep tree.
const DEEP: usize = 100_000;

fn nest(depth: usize, bottom: oneshot::Sender<()>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            let _ = bottom.send(());
            return pending::<()>().await;
        }
        scope(async |s| {
            s.spawn(nest(depth - 1, bottom));
        })
        .await;
    })
}

#[test]
fn a_tree_a_hundred_thousand_deep_is_reported_and_cancelled() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let (bottom, reached) = oneshot::channel();
        leakfree::spawn(nest(DEEP, bottom));
        reached.await.unwrap();
        until(|| Handle::current().unwakeable_total() == 1).await;
    });
    let handle = runtime.handle();
    let report = runtime.shutdown();
    assert_eq!(report.leaked(), DEEP as u64 + 1);
    let text = report.to_string();
    assert!(text.contains("PROVEN unwakeable"), "the one at the bottom");
    assert!(text.contains(" more ... <"), "a path that long is cut");
    assert!(!text.contains("UNRESPONSIVE"), "all were cancelled");
    assert!(handle.snapshot().tasks.is_empty());
}

#[test]
fn a_panic_in_main_is_resumed_in_the_caller() {
    let runtime = runtime(1);
    let caught = catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { panic!("main's") })));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"main's"));
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_childs_panic_goes_on_though_the_bodys_output_panics_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the output's");
        }
    }
    let runtime = runtime(1);
    let body = async |s: Scope| {
        s.spawn(async {
            leakfree::yield_now().await;
            panic!("the child's");
        });
        Bomb
    };
    let caught = catch_unwind(AssertUnwindSafe(|| drop(runtime.block_on(scope(body)))));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"the child's"));
    let report = runtime.shutdown();
    assert!(report.is_clean());
    let told: Vec<_> = report.incidents.iter().map(|told| (told.kind, &*told.message)).collect();
    assert_eq!(told, [(IncidentKind::SparePanic, "the output's")]);
}

#[leakfree::test(workers = 2)]
async fn a_stuck_child_is_dropped_or_ends_its_scope_if_the_scope_says_so() {
    let reason = Scope::builder()
        .on_stuck(OnStuck::DropChild)
        .scope(async |s| {
            let bystander = s.spawn(async { 7 });
            let reason = s.spawn(pending::<()>()).await.unwrap_err().cancel_reason().unwrap();
            assert_eq!(bystander.await.unwrap(), 7);
            assert!(!s.is_cancelled());
            reason
        })
        .await;
    assert_eq!(reason.kind(), CancelKind::Stuck);

    let error = Scope::builder()
        .on_stuck(OnStuck::CancelScope)
        .try_scope(async |s: Scope<()>| {
            s.spawn(pending::<()>());
            leakfree::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.cancel_reason().unwrap().kind(), CancelKind::Stuck);
}

/// A scope's future goes to a task that one of its children waits for: from then on that wait would never end.
#[leakfree::test(workers = 2)]
async fn a_join_is_looked_at_again_when_its_task_becomes_an_ancestor() {
    let (give, get) = oneshot::channel::<std::pin::Pin<Box<dyn Future<Output = bool> + Send>>>();
    let new_owner = leakfree::spawn(async move { get.await.unwrap().await });
    let scope = leakfree::scope::current();
    let mut scoped: std::pin::Pin<Box<dyn Future<Output = bool> + Send>> =
        Box::pin(leakfree::scope(async move |s| {
            let child = s.task().name("joins").spawn(async move { new_owner.await.unwrap_err() });
            child.await.unwrap().is_would_deadlock()
        }));
    assert_eq!(scoped.as_mut().now_or_never(), None);
    parked("joins").await;
    assert!(give.send(scoped).is_ok());
    // The new owner polls the scope, its child's wait turns into an error, and all of it ends.
    until(|| Handle::current().snapshot().tasks.iter().all(|task| task.name.as_deref() != Some("joins")))
        .await;
    drop(scope);
}

/// Polls with a waker that is made anew each time, as some combinators do, and counts.
struct NewWakers<F>(std::pin::Pin<Box<F>>, Arc<std::sync::atomic::AtomicUsize>);

impl<F: Future> Future for NewWakers<F> {
    type Output = F::Output;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<F::Output> {
        struct Passed(std::task::Waker);
        impl std::task::Wake for Passed {
            fn wake(self: Arc<Self>) {
                self.0.wake_by_ref();
            }
        }
        let this = self.get_mut();
        this.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let waker = Arc::new(Passed(cx.waker().clone())).into();
        this.0.as_mut().poll(&mut std::task::Context::from_waker(&waker))
    }
}

#[leakfree::test]
async fn a_scope_that_waits_does_not_wake_itself() {
    let (go, gone) = oneshot::channel::<()>();
    let polls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let waits = leakfree::spawn(async {
        let scoped = scope(async |s| {
            s.spawn(gone.map(drop));
        });
        // The other branch has it polled a second time.
        futures::join!(NewWakers(Box::pin(scoped), count), leakfree::yield_now())
    });
    // Each has the one worker go through its queue.
    for _ in 0..20 {
        leakfree::spawn(async {}).await.unwrap();
    }
    let polls = polls.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=3).contains(&polls), "{polls} polls");
    go.send(()).unwrap();
    waits.await.unwrap();
}
