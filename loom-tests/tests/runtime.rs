//! The scheduler, the scopes and the driver, all real, with tasks in flight and a shutdown.

#![cfg(loom)]

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use leakfree::model::Engine;
use leakfree_loom_tests::{Script, Scripted, big, both_queues, model};
use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

/// `act` on a thread of its own.
fn on_thread<T: Send + 'static>(
    engine: &Arc<Engine>,
    act: impl FnOnce(&Engine) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let engine = engine.clone();
    thread::spawn(move || act(&engine))
}

#[test]
fn a_task_from_outside_is_run_by_a_worker_that_goes_to_sleep() {
    both_queues(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[]);
        let worker = on_thread(&engine, |engine| engine.work(0));
        let handle = engine.root().spawn(Scripted(script.clone()));
        engine.stop();
        worker.join().unwrap();
        assert!(handle.is_finished());
        drop(handle);
        script.assert_over(1, 1);
        engine.check();
    });
}

/// The close of the root has every worker take notice: nothing of that may be what wakes it here.
#[test]
fn a_task_from_outside_is_run_though_nothing_else_wakes_the_worker() {
    both_queues(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[]);
        let worker = on_thread(&engine, |engine| engine.work(0));
        let handle = engine.root().spawn(Scripted(script.clone()));
        drop(loom::future::block_on(handle).unwrap());
        engine.stop();
        worker.join().unwrap();
        script.assert_over(1, 1);
        engine.check();
    });
}

#[test]
fn the_hook_is_told_of_an_edge_from_outside_though_nothing_else_wakes_the_worker() {
    big(|| {
        let told = Arc::new(Notify::new());
        let theirs = told.clone();
        let engine = Engine::with_hook(1, move || theirs.notify());
        let script = Script::new(&[1]);
        let worker = on_thread(&engine, |engine| engine.work(0));
        let handle = engine.root().spawn(Scripted(script.clone()));
        let last = loop {
            match script.take() {
                Some(waker) => break waker,
                None => thread::yield_now(),
            }
        };
        drop(last);
        told.wait();
        engine.shut_down();
        worker.join().unwrap();
        assert!(handle.is_finished());
        drop(handle);
        engine.check();
    });
}

/// Another worker sleeps, and whoever does `act` may rely on one that searches, which finds something else: that one wakes the sleeper then.
fn the_sleeper_is_woken(engine: &Arc<Engine>, act: impl FnOnce(&Engine)) {
    engine.lie_down(1);
    let search = engine.search();
    let searcher = on_thread(engine, move |engine| engine.end_search(search));
    act(engine);
    searcher.join().unwrap();
    assert!(!engine.others_sleep(), "nobody comes for it");
    engine.get_up(1);
    engine.stop_workers();
    (0..2).for_each(|index| engine.work(index));
    engine.stop();
}

#[test]
fn a_task_that_came_while_the_last_searcher_found_another_has_a_sleeper_woken() {
    model(|| {
        let engine = Engine::new(2);
        let script = Script::new(&[]);
        let mut handle = None;
        the_sleeper_is_woken(&engine, |engine| handle = Some(engine.root().spawn(Scripted(script.clone()))));
        assert!(handle.is_some_and(|handle| handle.is_finished()));
        script.assert_over(1, 1);
        engine.check();
    });
}

#[test]
fn an_edge_that_came_while_the_last_searcher_found_a_task_has_a_sleeper_woken() {
    model(|| {
        let engine = Engine::with_hook(2, || {});
        let script = Script::new(&[]);
        let handle = engine.root().spawn(Scripted(script.clone()));
        engine.run_injected();
        the_sleeper_is_woken(&engine, |engine| engine.note_unwakeable(&handle));
        drop(handle);
        script.assert_over(1, 1);
        engine.check();
    });
}

#[test]
fn two_workers_share_what_one_of_them_spawned_and_both_hear_of_the_end() {
    both_queues(|| {
        let engine = Engine::new(2);
        let script = Script::new(&[]);
        let (theirs, of_task) = (script.clone(), engine.clone());
        let first = engine.root().spawn(async move {
            let child = of_task.root().spawn(Scripted(theirs));
            drop(child.await);
            of_task.stop_workers();
        });
        let second = on_thread(&engine, |engine| engine.work(1));
        engine.work(0);
        second.join().unwrap();
        assert!(first.is_finished());
        script.assert_over(1, 1);
        engine.stop();
        engine.check();
    });
}

#[test]
fn a_spawn_against_the_shutdown_is_run_or_comes_back_cancelled() {
    both_queues(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let stops = on_thread(&engine, Engine::shut_down);
        let handle = engine.root().spawn(Scripted(script.clone()));
        engine.work(0);
        stops.join().unwrap();
        assert!(handle.is_finished());
        drop(handle);
        drop(script.take());
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

#[test]
fn a_wake_against_the_shutdown_touches_nothing_that_is_gone() {
    big(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1, 0]);
        let handle = engine.root().spawn(Scripted(script.clone()));
        let stops = on_thread(&engine, Engine::shut_down);
        let theirs = script.clone();
        let wakes = thread::spawn(move || {
            if let Some(waker) = theirs.take() {
                waker.wake();
            }
        });
        engine.work(0);
        wakes.join().unwrap();
        stops.join().unwrap();
        drop(script.take());
        assert!(handle.is_finished());
        drop(handle);
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

#[test]
fn a_task_that_leaves_while_the_walk_cancels_is_dropped_once() {
    model(|| {
        let engine = Engine::new(1);
        // Linked at its first park, unlinked at its end.
        let script = Script::new(&[1]);
        let theirs = script.clone();
        let wakes_itself = std::future::poll_fn(move |cx| {
            let polled = Pin::new(&mut Scripted(theirs.clone())).poll(cx);
            if let Some(waker) = theirs.take() {
                waker.wake();
            }
            polled
        });
        let handle = engine.root().spawn(wakes_itself);
        let stops = on_thread(&engine, Engine::shut_down);
        engine.work(0);
        stops.join().unwrap();
        assert!(handle.is_finished());
        drop(handle);
        engine.check();
    });
}

#[test]
fn who_is_not_seen_of_those_that_are_dropped_together_has_been_dropped() {
    model(|| {
        let engine = Engine::new(1);
        let scripts = [Script::new(&[1]), Script::new(&[1])];
        for script in &scripts {
            drop(engine.root().spawn(Scripted(script.clone())));
            engine.run_injected();
        }
        engine.cancel("both");
        let worker = on_thread(&engine, |engine| engine.work(0));
        let seen = engine.look();
        // Not a load, which may be of before.
        let dropped: usize = scripts.iter().map(|script| script.drops.fetch_add(0, SeqCst)).sum();
        assert!(seen + dropped >= 2, "{seen} are seen, {dropped} dropped");
        engine.stop();
        worker.join().unwrap();
        for script in &scripts {
            script.assert_over(1, 0);
            drop(script.take());
        }
        engine.check();
    });
}

#[test]
fn a_cancel_goes_down_two_levels() {
    big(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let child = Scripted(script.clone());
        let handle = engine.root().spawn(async move {
            leakfree::scope(async |scope| {
                drop(scope.spawn(child));
            })
            .await;
        });
        let stops = on_thread(&engine, Engine::shut_down);
        engine.work(0);
        stops.join().unwrap();
        assert!(handle.is_finished());
        drop((handle, script.take()));
        assert!(script.drops.load(SeqCst) == 1);
        engine.check();
    });
}

#[test]
fn of_two_cancels_the_first_reason_wins_for_all() {
    model(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let handle = engine.root().spawn(Scripted(script.clone()));
        let other = on_thread(&engine, |engine| {
            engine.cancel("one");
            engine.cancelled_for()
        });
        engine.cancel("two");
        let ours = engine.cancelled_for();
        let theirs = other.join().unwrap();
        assert_eq!(ours, theirs);
        let worker = on_thread(&engine, |engine| engine.work(0));
        engine.stop();
        worker.join().unwrap();
        let error = loom::future::block_on(handle).err().expect("cancelled");
        assert!(error.to_string().contains(&ours), "{error} for {ours}");
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

#[test]
fn a_scope_dropped_half_way_is_adopted_and_ends_with_its_child() {
    both_queues(|| {
        let engine = Engine::new(2);
        let script = Script::new(&[]);
        let (theirs, of_task) = (script.clone(), engine.clone());
        let first = engine.root().spawn(async move {
            let parent = of_task.root().spawn(async move {
                let mut scoped = Box::pin(leakfree::scope(async |scope| {
                    drop(scope.spawn(Scripted(theirs)));
                    std::future::pending::<()>().await;
                }));
                let once = std::future::poll_fn(|cx| {
                    assert!(scoped.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                });
                once.await;
                drop(scoped);
            });
            drop(parent.await);
            of_task.stop_workers();
        });
        let second = on_thread(&engine, |engine| engine.work(1));
        engine.work(0);
        second.join().unwrap();
        assert!(first.is_finished());
        assert_eq!(script.drops.load(SeqCst), 1, "before its parent was over");
        engine.stop();
        engine.check();
    });
}

#[test]
fn a_scope_dropped_elsewhere_while_its_child_ends_is_not_waited_for() {
    big(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let (child, of_task) = (Scripted(script.clone()), engine.clone());
        let dropper = Arc::new(std::sync::Mutex::new(None));
        let started = dropper.clone();
        let handle = engine.root().spawn(async move {
            leakfree::scope(async |_| {
                let mut scoped = Box::pin(leakfree::scope(async move |scope| {
                    drop(scope.spawn(child));
                    std::future::pending::<()>().await;
                }));
                let once = std::future::poll_fn(|cx| {
                    assert!(scoped.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                });
                once.await;
                let (tx, rx) = leakfree::sync::oneshot::channel();
                // Its child is cancelled and ends on the worker, while the one around adopts it.
                *started.lock().unwrap() = Some(thread::spawn(move || {
                    drop(scoped);
                    tx.send(()).unwrap();
                }));
                rx.await.unwrap();
            })
            .await;
            of_task.stop_workers();
        });
        engine.work(0);
        engine.stop();
        let dropper = dropper.lock().unwrap().take().unwrap();
        dropper.join().unwrap();
        assert!(handle.is_finished());
        drop((handle, script.take()));
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

#[test]
fn a_scope_opened_while_the_one_around_it_is_cancelled_is_cancelled_with_it() {
    big(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let (child, of_task) = (Scripted(script.clone()), engine.clone());
        let canceller = Arc::new(std::sync::Mutex::new(None));
        let started = canceller.clone();
        let handle = engine.root().spawn(async move {
            leakfree::scope(async |outer: leakfree::Scope| {
                *started.lock().unwrap() = Some(thread::spawn(move || outer.cancel("the model")));
                leakfree::scope(async |inner| drop(inner.spawn(child))).await;
            })
            .await;
            of_task.stop_workers();
        });
        engine.work(0);
        engine.stop();
        let canceller = canceller.lock().unwrap().take().unwrap();
        canceller.join().unwrap();
        assert!(handle.is_finished());
        drop((handle, script.take()));
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

/// A future that goes from task to task.
type Moving = Arc<std::sync::Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

#[test]
fn a_scope_that_moves_to_another_task_is_cancelled_with_it() {
    big(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[1]);
        let child = Scripted(script.clone());
        let scoped: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(leakfree::scope(async move |scope| {
                drop(scope.spawn(child));
                std::future::pending::<()>().await;
            }));
        let moving: Moving = Arc::new(std::sync::Mutex::new(Some(scoped)));
        let takes = |moving: Moving, gives: bool| async move {
            let Some(mut scoped) = moving.lock().unwrap().take() else { return };
            let once = std::future::poll_fn(|cx| {
                assert!(scoped.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            });
            once.await;
            if gives {
                *moving.lock().unwrap() = Some(scoped);
            } else {
                scoped.await;
            }
        };
        let handles = [
            engine.root().spawn(takes(moving.clone(), true)),
            engine.root().spawn(takes(moving.clone(), false)),
        ];
        let stops = on_thread(&engine, Engine::shut_down);
        engine.work(0);
        stops.join().unwrap();
        assert!(handles.iter().all(|handle| handle.is_finished()));
        drop((handles, script.take(), moving));
        assert!(script.drops.load(SeqCst) == 1);
        engine.check();
    });
}

#[test]
fn a_shield_holds_off_the_drop_to_its_end() {
    model(|| {
        let engine = Engine::new(1);
        let ended = Arc::new(AtomicUsize::new(0));
        let theirs = ended.clone();
        let handle = engine.root().spawn(async move {
            leakfree::shield(async {
                theirs.fetch_add(1, SeqCst);
                leakfree::yield_now().await;
                theirs.fetch_add(1, SeqCst);
            })
            .await;
        });
        let stops = on_thread(&engine, Engine::shut_down);
        engine.work(0);
        stops.join().unwrap();
        assert!(handle.is_finished());
        assert!(ended.load(SeqCst) != 1, "begun and not ended");
        drop(handle);
        engine.check();
    });
}

#[test]
fn a_worker_that_blocks_in_place_hands_its_role_over() {
    big(|| {
        let engine = Engine::new(1);
        let turns = Arc::new((loom::sync::Mutex::new(false), loom::sync::Condvar::new()));
        let (waits, tells) = (turns.clone(), turns.clone());
        let of_task = engine.clone();
        let blocked = engine.root().spawn(async move {
            leakfree::task::block_in_place(|| {
                let mut told = waits.0.lock().unwrap();
                while !*told {
                    told = waits.1.wait(told).unwrap();
                }
            });
        });
        let teller = engine.root().spawn(async move {
            *tells.0.lock().unwrap() = true;
            tells.1.notify_one();
            drop(blocked.await);
            of_task.stop_workers();
        });
        engine.work(0);
        engine.stop();
        assert!(teller.is_finished());
        drop(teller);
        engine.check();
    });
}

#[test]
fn a_blocking_call_against_the_shutdown_is_run_or_cancelled() {
    model(|| {
        let engine = Engine::new(1);
        let script = Script::new(&[]);
        let called = Scripted(script.clone());
        engine.nobody_works();
        let stops = on_thread(&engine, Engine::shut_down);
        let handle = engine.root().spawn_blocking(move || drop(called));
        stops.join().unwrap();
        assert!(handle.is_finished());
        drop(handle);
        assert_eq!(script.drops.load(SeqCst), 1);
        engine.check();
    });
}

#[test]
fn the_lifo_slot_starves_nobody() {
    model(|| {
        let engine = Engine::new(1);
        let third_at = Arc::new(AtomicUsize::new(usize::MAX));
        let polls = Arc::new(AtomicUsize::new(0));
        let wakers: Arc<std::sync::Mutex<[Option<std::task::Waker>; 2]>> = Arc::default();
        let (count, at) = (polls.clone(), third_at.clone());
        let plays = move |me: usize| {
            let (polls, third_at, wakers) = (count.clone(), at.clone(), wakers.clone());
            std::future::poll_fn(move |cx| {
                let polled = polls.fetch_add(1, SeqCst);
                assert!(polled < 20, "the third was not polled");
                let mut wakers = wakers.lock().unwrap();
                wakers[me] = Some(cx.waker().clone());
                if let Some(other) = wakers[1 - me].take() {
                    other.wake();
                }
                if third_at.load(SeqCst) == usize::MAX { Poll::Pending } else { Poll::Ready(()) }
            })
        };
        let of_task = engine.clone();
        let first = engine.root().spawn(async move {
            let (a, b) = (of_task.root().spawn(plays(0)), of_task.root().spawn(plays(1)));
            let third = of_task.root().spawn(async move { third_at.store(polls.load(SeqCst), SeqCst) });
            drop(third.await);
            a.abort();
            b.abort();
            drop((a.await, b.await));
            of_task.stop_workers();
        });
        engine.work(0);
        assert!(first.is_finished());
        drop(first);
        engine.stop();
        engine.check();
    });
}

#[test]
fn a_runtime_dropped_by_its_own_task_ends_elsewhere() {
    // Three threads, and a whole runtime that starts, is judged and ends.
    big(|| {
        let builder = leakfree::runtime::Builder::new().workers(1);
        let runtime = builder.grace(Duration::ZERO).settle(Duration::ZERO).build().unwrap();
        let script = Script::new(&[]);
        let (dropped, in_task) = (Scripted(script.clone()), runtime.handle());
        let handle = in_task.spawn(async move {
            drop(runtime);
            drop(dropped);
        });
        drop((handle, in_task));
        // The model ends when all threads have.
    });
}
