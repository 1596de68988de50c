//! Scopes whose children may borrow: `join_scope`, `Runtime::scope_blocking`, `scope_with`.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use leakfree::runtime::{Handle, Runtime};
use leakfree::sync::oneshot;
use leakfree::time::sleep;
use leakfree::{JoinScope, JoinScopeHandle, join_scope, join_scope_send, scope_with, yield_now};
use leakfree_tests::{Drops, Holding, runtime, until};

// ---- join_scope ---------------------------------------------------------------------------------

#[leakfree::test]
async fn children_of_a_join_scope_borrow_take_turns_and_are_not_send() {
    let log = RefCell::new(Vec::new());
    let shared = Rc::new(1);
    let sum = join_scope(async |j| {
        let one = j.spawn(async {
            log.borrow_mut().push("one");
            yield_now().await;
            log.borrow_mut().push("one again");
            *shared
        });
        let two = j.spawn(async {
            log.borrow_mut().push("two");
            2
        });
        log.borrow_mut().push("body");
        one.await + two.await
    })
    .await;
    assert_eq!(sum, 3);
    assert_eq!(log.into_inner(), ["body", "one", "two", "one again"]);
}

#[leakfree::test]
async fn a_child_of_a_join_scope_may_have_the_only_borrow() {
    let (mut left, mut right) = (1, 2);
    let (l, r) = (&mut left, &mut right);
    join_scope(async move |j| {
        j.spawn(async move { *l += 1 }).await;
        drop(j.spawn(async move { *r += 1 }));
    })
    .await;
    assert_eq!((left, right), (2, 3));
}

#[leakfree::test]
async fn a_join_scope_ends_after_siblings_that_children_spawned_when_the_body_was_gone() {
    fn chain<'env>(j: JoinScope<'env>, left: usize, ends: &'env Cell<usize>) -> JoinScopeHandle<()> {
        let sibling = j.clone();
        j.spawn(async move {
            yield_now().await;
            if left > 0 {
                drop(chain(sibling, left - 1, ends));
            }
            ends.set(ends.get() + 1);
        })
    }
    let ends = Cell::new(0);
    let body = join_scope(async |j| {
        drop(chain(j, 100, &ends));
        "body"
    });
    assert_eq!(body.await, "body");
    assert_eq!(ends.get(), 101);
}

#[leakfree::test]
async fn many_children_of_a_join_scope_are_polled_when_woken() {
    const MANY: usize = 1000;
    let polls = Cell::new(0);
    let sum = Cell::new(0);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..MANY).map(|_| oneshot::channel::<usize>()).unzip();
    join_scope(async |j| {
        for mut receiver in receivers {
            let (polls, sum) = (&polls, &sum);
            drop(j.spawn(async move {
                let got = std::future::poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    Pin::new(&mut receiver).poll(cx)
                });
                let value = got.await.unwrap();
                sum.set(sum.get() + value);
            }));
        }
        yield_now().await;
        for (value, sender) in senders.into_iter().enumerate() {
            sender.send(value).unwrap();
            yield_now().await;
        }
    })
    .await;
    assert_eq!(sum.get(), MANY * (MANY - 1) / 2);
    // Each once at first and once when woken; the last ones, when they are few, at every wake.
    assert!(polls.get() < 3 * MANY, "{}", polls.get());
}

#[test]
fn children_of_a_join_scope_are_woken_from_other_threads() {
    const MANY: usize = 100;
    let runtime = runtime(4);
    let count = runtime.block_on(async {
        let text = "borrowed".to_string();
        let count = Cell::new(0);
        join_scope(async |j| {
            for i in 0..MANY {
                let (text, count) = (&text, &count);
                drop(j.spawn(async move {
                    let len = text.len();
                    for _ in 0..10 {
                        let there = leakfree::spawn(async move { i }).await.unwrap();
                        sleep(Duration::from_micros(there as u64 % 7)).await;
                    }
                    count.set(count.get() + len);
                }));
            }
        })
        .await;
        count.get()
    });
    assert_eq!(count, 8 * MANY);
    assert!(runtime.shutdown().is_clean());
}

#[leakfree::test]
async fn a_panic_in_a_join_scope_is_resumed_after_all_else_was_dropped() {
    for many in [1, 100] {
        let drops = Drops::new();
        let seen = drops.clone();
        let child = AssertUnwindSafe(join_scope(async |j| {
            let _body = drops.guard();
            for _ in 0..many {
                drop(j.spawn(Holding(drops.guard())));
            }
            drop(j.spawn(async {
                yield_now().await;
                panic!("the child's own words")
            }));
            pending::<()>().await;
        }));
        let mut child = Box::pin(child.catch_unwind());
        let payload = child.as_mut().await.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"the child's own words"));
        assert_eq!(seen.count(), many + 1, "before the future itself is dropped");

        let body = AssertUnwindSafe(join_scope(async |j| {
            drop(j.spawn(Holding(drops.guard())));
            yield_now().await;
            panic!("the body's")
        }));
        assert!(body.catch_unwind().await.is_err());
        assert_eq!(seen.count(), many + 2);
    }
}

#[leakfree::test]
async fn a_join_scope_dropped_half_way_drops_all_and_breaks_the_cycles() {
    let drops = Drops::new();
    let escaped = RefCell::new(None);
    let mut future = Box::pin(join_scope(async |j| {
        let guard = drops.guard();
        // The child holds the scope, which holds the child.
        let own = j.clone();
        *escaped.borrow_mut() = Some((
            j.clone(),
            j.spawn(async move {
                let _held = (own, guard);
                pending::<u8>().await
            }),
        ));
        pending::<()>().await;
    }));
    assert!(futures::poll!(&mut future).is_pending());
    assert_eq!(drops.count(), 0);
    drop(future);
    assert_eq!(drops.count(), 1);

    // What escaped is harmless: nothing is run any more.
    let (j, handle) = escaped.take().unwrap();
    assert!(handle.is_finished());
    let late = j.spawn(Holding(drops.guard()));
    assert_eq!(drops.count(), 2);
    assert!(AssertUnwindSafe(late).catch_unwind().await.is_err());
    assert!(AssertUnwindSafe(handle).catch_unwind().await.is_err());
}

#[leakfree::test]
async fn an_output_may_be_taken_after_the_join_scope_has_ended() {
    let handle = join_scope(async |j| j.spawn(async { 5 })).await;
    assert_eq!(handle.await, 5);
}

#[leakfree::test]
async fn a_forgotten_join_scope_runs_no_more() {
    let ran = Cell::new(0);
    let (tx, rx) = oneshot::channel::<()>();
    let mut future = Box::pin(join_scope(async |j| {
        drop(j.spawn(async {
            let _ = rx.await;
            ran.set(ran.get() + 1);
        }));
    }));
    assert!(futures::poll!(&mut future).is_pending());
    std::mem::forget(future);
    let _ = tx.send(());
    yield_now().await;
    assert_eq!(ran.get(), 0);
}

#[leakfree::test]
async fn spawning_into_a_join_scope_from_outside_is_told() {
    let outside = RefCell::new(None);
    let mut future = Box::pin(join_scope(async |j| {
        *outside.borrow_mut() = Some(j);
        pending::<()>().await;
    }));
    assert!(futures::poll!(&mut future).is_pending());
    let j = outside.take().unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| drop(j.spawn(async {}))));
    assert!(caught.unwrap_err().downcast_ref::<&str>().unwrap().contains("from outside"));
}

#[leakfree::test(workers = 2)]
async fn join_scopes_nest_and_hold_scopes() {
    let base = 1;
    let sum = join_scope(async |outer| {
        let inner = outer.spawn(async {
            let local = 10;
            join_scope(async |inner| inner.spawn(async { base + local }).await).await
        });
        let parallel = outer.spawn(async { leakfree::scope(async |s| s.spawn(async { 100 }).await).await });
        inner.await + parallel.await.unwrap()
    })
    .await;
    assert_eq!(sum, 111);
}

#[leakfree::test(workers = 2)]
async fn a_join_scope_of_send_children_is_send() {
    let task = leakfree::spawn(async {
        let words = ["a".to_string(), "bc".to_string()];
        join_scope_send(async |j| {
            let mut sum = 0;
            let handles: Vec<_> = words
                .iter()
                .map(|word| {
                    j.spawn(async move {
                        sleep(Duration::from_millis(1)).await;
                        word.len()
                    })
                })
                .collect();
            for handle in handles {
                sum += handle.await;
            }
            sum
        })
        .await
    });
    assert_eq!(task.await.unwrap(), 3);
}

#[test]
fn a_stuck_join_scope_is_proven_unwakeable() {
    for many in [1, 100] {
        let runtime = runtime(1);
        runtime.block_on(async {
            leakfree::spawn(async move {
                join_scope_send(async |j| {
                    for _ in 0..many {
                        drop(j.spawn(pending::<()>()));
                    }
                    pending::<()>().await;
                })
                .await;
            });
            until(|| Handle::current().unwakeable_total() == 1).await;
        });
        let report = runtime.shutdown();
        assert_eq!(report.leaked(), 1);
    }
}

// ---- scope_blocking -----------------------------------------------------------------------------

#[test]
fn children_of_a_blocking_scope_borrow_and_run_on_the_workers() {
    let runtime = runtime(4);
    let mut numbers: Vec<u64> = (0..1000).collect();
    let offset = 1;
    let total: u64 = runtime.scope_blocking(|s| {
        let handles: Vec<_> = numbers
            .chunks_mut(10)
            .map(|chunk| {
                s.spawn(async {
                    for number in chunk.iter_mut() {
                        *number += offset;
                        yield_now().await;
                    }
                    chunk.iter().sum::<u64>()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    assert_eq!(total, 1000 * 1001 / 2);
    assert_eq!(numbers[999], 1000);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_blocking_scope_waits_for_children_that_spawn_siblings_and_await_them() {
    let runtime = runtime(2);
    let count = AtomicUsize::new(0);
    runtime.scope_blocking(|s| {
        let count = &count;
        s.spawn(async move {
            sleep(Duration::from_millis(5)).await;
            let sibling = s.spawn(async move {
                sleep(Duration::from_millis(5)).await;
                count.fetch_add(1, SeqCst)
            });
            s.spawn(async move {
                sleep(Duration::from_millis(10)).await;
                count.fetch_add(1, SeqCst);
            });
            assert!(sibling.await.unwrap() < 2);
        });
    });
    assert_eq!(count.load(SeqCst), 2);
    assert!(runtime.shutdown().is_clean());
}

/// Writes into what it borrows when it is dropped.
struct WriteOnDrop<'a>(&'a AtomicUsize);

impl Drop for WriteOnDrop<'_> {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_micros(200));
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn outputs_that_borrow_are_gone_when_a_blocking_scope_returns() {
    let runtime = runtime(4);
    for _ in 0..50 {
        let dropped = AtomicUsize::new(0);
        runtime.scope_blocking(|s| {
            // Unawaited; awaited by a sibling; held by a sibling that ends without awaiting it.
            s.spawn(async { WriteOnDrop(&dropped) });
            let awaited = s.spawn(async { WriteOnDrop(&dropped) });
            s.spawn(async move { awaited.await.unwrap() });
            let held = s.spawn(async { WriteOnDrop(&dropped) });
            s.spawn(async move {
                yield_now().await;
                let _held = held;
            });
        });
        assert_eq!(dropped.load(SeqCst), 3);
    }
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_childs_panic_is_resumed_from_a_blocking_scope() {
    let runtime = runtime(2);
    let dropped = AtomicUsize::new(0);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        runtime.scope_blocking(|s| {
            let sibling = s.spawn(Holding(WriteOnDrop(&dropped)));
            let failed = s.spawn(async { panic!("the child's own words") });
            assert_eq!(
                failed.join().map(|(): ()| ()).unwrap_err().to_string(),
                "task panicked: the child's own words"
            );
            assert!(sibling.join().unwrap_err().is_cancelled());
            assert!(s.spawn(async {}).join().unwrap_err().is_cancelled());
            panic!("later");
        })
    }));
    let payload = caught.map(|(): ()| ()).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"the child's own words"));
    assert_eq!(dropped.load(SeqCst), 1);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_panic_of_the_closure_waits_for_the_children() {
    let runtime = runtime(2);
    let dropped = AtomicUsize::new(0);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        runtime.scope_blocking(|s| {
            s.spawn(Holding(WriteOnDrop(&dropped)));
            std::mem::forget(s.spawn(async { WriteOnDrop(&dropped) }).join());
            panic!("the closure's");
        })
    }));
    let payload = caught.map(|(): ()| ()).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"the closure's"));
    assert_eq!(dropped.load(SeqCst), 1, "what was forgotten is not dropped");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_forgotten_scoped_handle_is_harmless_and_wakers_may_outlive_their_task() {
    let runtime = runtime(2);
    let wakers = Mutex::new(Vec::new());
    let handle = runtime.handle();
    let snapshot = {
        let text = "borrowed".to_string();
        runtime.scope_blocking(|s| {
            std::mem::forget(s.spawn(async { &text }));
            for _ in 0..10 {
                s.spawn_named("parked", async {
                    let mut first = true;
                    std::future::poll_fn(|cx| {
                        wakers.lock().unwrap().push(cx.waker().clone());
                        if std::mem::take(&mut first) {
                            cx.waker().wake_by_ref()
                        } else {
                            return std::task::Poll::Ready(());
                        }
                        std::task::Poll::Pending
                    })
                    .await;
                    assert_eq!(text.len(), 8);
                });
            }
            handle.snapshot()
        })
    };
    for waker in wakers.into_inner().unwrap() {
        waker.wake_by_ref();
        waker.wake();
    }
    assert!(snapshot.tasks.iter().any(|task| task.name.as_deref() == Some("scope_blocking")));
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn blocking_scopes_nest_and_run_on_the_blocking_pool() {
    let runtime = Arc::new(runtime(2));
    let (a, b) = (1, 2);
    let sum = runtime.scope_blocking(|outer| {
        let first = outer.spawn(async { a });
        let second = runtime.scope_blocking(|inner| inner.spawn(async { a + b }).join().unwrap());
        first.join().unwrap() + second
    });
    assert_eq!(sum, 4);
    let theirs = Arc::clone(&runtime);
    let sum = runtime.block_on(async {
        leakfree::spawn_blocking(move || {
            let local = 5;
            theirs.scope_blocking(|s| s.spawn(async { local }).join().unwrap())
        })
        .await
        .unwrap()
    });
    assert_eq!(sum, 5);
}

#[test]
fn blocking_inside_a_future_is_told() {
    let (one, other) = (runtime(1), runtime(1));
    let caught = one.block_on(async { catch_unwind(AssertUnwindSafe(|| other.scope_blocking(|_| ()))) });
    let message = caught.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("from within a future"), "{message}");
    let caught = one.scope_blocking(|s| {
        let handle = s.spawn(async {});
        s.spawn(async move { catch_unwind(AssertUnwindSafe(|| handle.join().unwrap())).is_err() })
            .join()
            .unwrap()
    });
    assert!(caught);
    assert!(one.shutdown().is_clean());
    assert!(other.shutdown().is_clean());
}

#[test]
fn a_blocking_scope_cancels_and_aborts() {
    let runtime = runtime(2);
    let dropped = AtomicUsize::new(0);
    runtime.scope_blocking(|s| {
        let aborted = s.spawn(Holding(WriteOnDrop(&dropped)));
        aborted.abort();
        assert!(aborted.join().unwrap_err().is_cancelled());
        s.spawn(Holding(WriteOnDrop(&dropped)));
        s.cancel("enough");
    });
    assert_eq!(dropped.load(SeqCst), 2);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_blocking_scope_may_be_opened_by_a_drop_during_a_panic() {
    struct OnDrop<'a>(&'a Runtime, &'a AtomicUsize);
    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            let one = self.0.scope_blocking(|s| s.spawn(async { 1 }).join().unwrap());
            self.1.fetch_add(one, SeqCst);
        }
    }
    let runtime = runtime(1);
    let count = AtomicUsize::new(0);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _opens = OnDrop(&runtime, &count);
        panic!("unwinding");
    }));
    assert!(caught.map(|(): ()| ()).is_err());
    assert_eq!(count.load(SeqCst), 1);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_blocking_scope_is_cancelled_with_the_root_and_refused_after() {
    let runtime = runtime(2);
    let local = AtomicUsize::new(0);
    runtime.scope_blocking(|s| {
        let child = s.spawn(Holding(WriteOnDrop(&local)));
        s.spawn(async { drop(leakfree::spawn(async { leakfree::scope::current().cancel("enough") })) });
        assert!(child.join().unwrap_err().is_cancelled());
        while !s.is_cancelled() {
            std::thread::yield_now();
        }
        assert!(s.spawn(async {}).join().unwrap_err().is_cancelled());
    });
    assert_eq!(local.load(SeqCst), 1);
    let caught = catch_unwind(AssertUnwindSafe(|| runtime.scope_blocking(|_| ())));
    assert!(caught.unwrap_err().downcast_ref::<&str>().unwrap().contains("root scope has been cancelled"));
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn blocking_scopes_under_load_leave_nothing_behind() {
    let runtime = runtime(4);
    for round in 0..200 {
        let counts: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
        runtime.scope_blocking(|s| {
            for (at, count) in counts.iter().enumerate() {
                s.spawn(async move {
                    let output = s.spawn(async move { WriteNow(count) });
                    if (at + round) % 3 == 0 {
                        yield_now().await;
                    }
                    if (at + round) % 2 == 0 { output.await.map(drop).unwrap() } else { drop(output) }
                });
            }
        });
        assert!(counts.iter().all(|count| count.load(SeqCst) == 1));
    }
    assert!(runtime.shutdown().is_clean());
}

/// As [`WriteOnDrop`], at once.
struct WriteNow<'a>(&'a AtomicUsize);

impl Drop for WriteNow<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

// ---- scope_with ---------------------------------------------------------------------------------

#[leakfree::test(workers = 4)]
async fn children_of_a_scope_with_data_have_disjoint_parts_in_parallel() {
    let note = "the body borrows".to_string();
    let (len, numbers) = scope_with(vec![0u64; 1000], async |s, numbers| {
        let handles: Vec<_> = numbers
            .chunks_mut(10)
            .enumerate()
            .map(|(at, chunk)| {
                s.spawn(async move {
                    yield_now().await;
                    chunk.fill(at as u64);
                    chunk
                })
            })
            .collect();
        for handle in handles {
            // The part comes back as the output.
            handle.await.unwrap()[0] += 1;
        }
        note.len()
    })
    .await;
    assert_eq!(len, 16);
    assert_eq!(numbers.iter().sum::<u64>(), 10 * (99 * 100 / 2) + 100);
}

#[leakfree::test(workers = 2)]
async fn a_scope_with_data_is_send_and_its_children_spawn_siblings() {
    let task = leakfree::spawn(async {
        let base = 1;
        scope_with((1, 2), async |s, data| {
            let (a, b) = data;
            let siblings = s.clone();
            s.spawn(async move {
                sleep(Duration::from_millis(1)).await;
                *a += 10;
                siblings.spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    *b += *a;
                });
            });
            base
        })
        .await
    });
    assert_eq!(task.await.unwrap(), (1, (11, 13)));
}

/// Says when it is dropped, and how much its value then is.
struct Watched(u32, Arc<Mutex<Vec<u32>>>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// Adds to what it borrows when it is dropped.
struct AddOnDrop<'a>(&'a mut u32);

impl Drop for AddOnDrop<'_> {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(2));
        *self.0 += 1;
    }
}

#[leakfree::test(workers = 2)]
async fn a_scope_with_data_dropped_half_way_keeps_the_data_for_its_children() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let data = Watched(1, Arc::clone(&dropped));
    leakfree::scope(async |_| {
        let mut future = Box::pin(scope_with(data, async |s, data| {
            s.spawn_named("holds", Holding(AddOnDrop(&mut data.0)));
            pending::<()>().await;
        }));
        assert!(futures::poll!(&mut future).is_pending());
        leakfree_tests::parked("holds").await;
        drop(future);
    })
    .await;
    assert_eq!(*dropped.lock().unwrap(), [2], "after the child had written into it");
}

// Forgetting a scope fails a test: this one does it on purpose.
#[leakfree::test(workers = 2, on_leak = report)]
async fn a_forgotten_scope_with_data_leaks_the_data() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let data = Watched(1, Arc::clone(&dropped));
    let children = Drops::new();
    let guard = children.guard();
    leakfree::spawn(async move {
        let mut future = Box::pin(scope_with(data, async |s, data| {
            s.spawn(Holding((guard, AddOnDrop(&mut data.0))));
            pending::<()>().await;
        }));
        assert!(futures::poll!(&mut future).is_pending());
        std::mem::forget(future);
    })
    .await
    .unwrap();
    assert_eq!(children.count(), 1, "the task's end cancels what is below");
    assert!(dropped.lock().unwrap().is_empty());
}

#[leakfree::test(workers = 2)]
async fn panics_in_a_scope_with_data_drop_the_data_last() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    for in_child in [true, false] {
        let data = Watched(1, Arc::clone(&dropped));
        let future = scope_with(data, async |s, data| {
            s.spawn(Holding(AddOnDrop(&mut data.0)));
            if in_child {
                s.spawn(async { panic!("told") });
                pending::<()>().await;
            }
            panic!("told")
        });
        let payload = AssertUnwindSafe(future).catch_unwind().await.map(|((), _)| ()).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"told"));
    }
    assert_eq!(*dropped.lock().unwrap(), [2, 2]);
}

#[leakfree::test(workers = 2)]
async fn outputs_of_a_scope_with_data_are_dropped_before_it_or_leaked() {
    for _ in 0..50 {
        let (_, data) = scope_with(vec![0; 4], async |s, data| {
            let mut parts = data.iter_mut();
            let mut next = || parts.next().unwrap();
            let (a, b, c, d) = (next(), next(), next(), next());
            s.spawn(async move { AddOnDrop(a) });
            let awaited = s.spawn(async move { AddOnDrop(b) });
            s.spawn(async move { awaited.await.unwrap() });
            let held = s.spawn(async move { AddOnDrop(c) });
            s.spawn(async move { drop(held) });
            std::mem::forget(s.spawn(async move { AddOnDrop(d) }));
        })
        .await;
        assert_eq!(data, [1, 1, 1, 0]);
    }
}

#[leakfree::test(workers = 2)]
async fn scopes_with_data_nest_cancel_and_refuse() {
    let (sum, outer) = scope_with([1, 2], async |s, outer| {
        let [a, b] = outer;
        let child = s.spawn(async move {
            let (_, inner) = scope_with([10], async |s, inner| {
                s.spawn(async move { inner[0] += 1 }).await.unwrap();
            })
            .await;
            *a += inner[0];
            *a
        });
        let sum = child.await.unwrap();
        s.cancel("enough");
        assert!(s.is_cancelled());
        assert!(s.spawn(async move { *b += 1 }).await.unwrap_err().is_cancelled());
        sum
    })
    .await;
    assert_eq!((sum, outer), (12, [12, 2]));
}

#[test]
fn scopes_with_data_are_dropped_by_a_shutdown() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..20 {
        let data = Watched(1, Arc::clone(&dropped));
        let runtime = runtime(4);
        runtime.block_on(async {
            leakfree::spawn(async move {
                scope_with(data, async |s, data| {
                    s.spawn_named("holds", Holding(AddOnDrop(&mut data.0)));
                    pending::<()>().await;
                })
                .await;
            });
            leakfree_tests::parked("holds").await;
        });
        runtime.shutdown();
    }
    assert_eq!(*dropped.lock().unwrap(), [2; 20]);
}

// ---- handles ------------------------------------------------------------------------------------

#[leakfree::test(workers = 2)]
async fn handles_of_children_that_borrow_say_whether_they_have_ended_and_abort() {
    let (counted, data) = scope_with(1, async |s, data| {
        let waits = s.spawn(pending::<()>());
        let counts = s.spawn(async move { *data += 1 });
        assert!(format!("{s:?}").contains("Scope") && format!("{waits:?}").contains("JoinHandle"));
        until(|| counts.is_finished()).await;
        assert!(!waits.is_finished());
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        counts.await
    })
    .await;
    counted.unwrap();
    assert_eq!(data, 2);

    let text = String::from("borrowed");
    let length = join_scope(async |j| {
        assert!(format!("{j:?}").starts_with("JoinScope"));
        let child = j.spawn(async { text.len() });
        assert!(format!("{child:?}").starts_with("JoinScopeHandle"));
        assert!(!child.is_finished());
        while !child.is_finished() {
            yield_now().await;
        }
        child.await
    });
    assert!(format!("{length:?}").starts_with("JoinScopeFuture"));
    assert_eq!(length.await, 8);
    let both = join_scope_send(async |j| {
        let again = j.clone();
        assert!(format!("{again:?}").starts_with("JoinScopeSend"));
        j.spawn(async { text.len() }).await + again.spawn(async { text.len() }).await
    });
    assert_eq!(both.await, 16);
}

/// Panics when it is dropped, unless a panic is on its way.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("out of ink");
        }
    }
}

#[test]
fn a_childs_panic_is_told_even_if_the_closures_output_panics_when_it_is_dropped() {
    let runtime = runtime(2);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        runtime.scope_blocking(|s| {
            assert!(format!("{s:?}").contains("Scope"));
            let child = s.spawn(async { panic!("out of paper") });
            assert!(format!("{child:?}").contains("JoinHandle"));
            while !child.is_finished() {
                std::thread::yield_now();
            }
            PanicsWhenDropped
        })
    }));
    let payload = caught.err().expect("it panicked");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"out of paper"));
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_join_scope_that_is_dropped_on_the_way_hands_a_drops_panic_on() {
    let mut half = Box::pin(join_scope(async |j| {
        let _child = j.spawn(async {
            let _bad = PanicsWhenDropped;
            pending::<()>().await
        });
        pending::<()>().await
    }));
    for _ in 0..2 {
        assert!(half.as_mut().now_or_never().is_none());
    }
    let caught = catch_unwind(AssertUnwindSafe(|| drop(half)));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"out of ink"));
}
