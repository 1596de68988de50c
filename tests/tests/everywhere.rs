//! `cancel_everywhere` and `fault_everywhere` find what they are for, and accuse nobody else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use leakfree::runtime::Handle;
use leakfree::scope;
use leakfree::sync::{Mutex, Notify, mpsc, oneshot};
use leakfree::testing::{Faults, Injected, Place, Probe, What, cancel_everywhere, fault_everywhere};
use leakfree::time::{Duration, sleep, timeout};
use leakfree_tests::{panic_message, until};

#[test]
fn each_suspension_point_is_cancelled_parked_and_woken() {
    let ends = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&ends);
    let found = cancel_everywhere(move || {
        struct Note(Rc<RefCell<Vec<usize>>>, Rc<Cell<usize>>);
        impl Drop for Note {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1.get());
            }
        }
        let reached = Rc::new(Cell::new(0));
        let note = Note(Rc::clone(&notes), Rc::clone(&reached));
        async move {
            let _note = note;
            for n in 1..=3 {
                sleep(Duration::from_secs(1)).await;
                reached.set(n);
            }
        }
    });
    found.assert_clean();
    assert_eq!((found.points, found.runs), (3, 7));
    // The run without a cancel; then each place, parked and woken.
    assert_eq!(*ends.borrow(), [3, 0, 0, 1, 1, 2, 2]);
}

#[test]
fn a_task_left_behind_by_a_cancel_is_found_where_it_happens() {
    let found = cancel_everywhere(|| async {
        let notify = Arc::new(Notify::new());
        let theirs = Arc::clone(&notify);
        leakfree::yield_now().await;
        let task = leakfree::spawn(async move { theirs.notified().await });
        sleep(Duration::from_secs(1)).await;
        notify.notify_one();
        task.await.unwrap();
    });
    let places: Vec<Place> = found.failures.iter().map(|failure| failure.place).collect();
    assert_eq!(places, [Place::Parked(2), Place::Woken(2)]);
    assert!(found.failures.iter().all(|failure| matches!(failure.what, What::Leak(_))), "{found}");
    let message = panic_message(|| found.assert_clean());
    assert!(message.starts_with("2 of 7 runs failed (3 suspension points)"), "{message}");
    assert!(message.contains("cancelled at suspension point 2, parked, seed 0: it leaked:"), "{message}");
    assert!(message.contains("Notify::notified"), "{message}");
}

/// The value that was taken out and is held over an await is gone when the future is.
#[test]
fn a_lost_value_is_found_by_the_check() {
    let probe = Probe::new().schedules(5);
    let run = |careful: bool| {
        probe.cancel_everywhere_then(move || {
            let (tx, rx) = mpsc::channel(1);
            let queue = Rc::new(Mutex::new(rx));
            let total = Rc::new(Cell::new(0));
            let sends = leakfree::spawn(async move {
                for n in [1, 10, 100] {
                    tx.send(n).await.unwrap();
                }
            });
            let (theirs, sum) = (Rc::clone(&queue), Rc::clone(&total));
            let future = async move {
                loop {
                    let got = theirs.lock().await.recv().await;
                    let Some(n) = got else { break };
                    if careful {
                        sum.set(sum.get() + n);
                        leakfree::yield_now().await;
                    } else {
                        leakfree::yield_now().await;
                        sum.set(sum.get() + n);
                    }
                }
            };
            let then = async move |_ended: Option<()>| {
                let mut queue = queue.lock().await;
                while let Some(n) = queue.recv().await {
                    total.set(total.get() + n);
                }
                sends.await.unwrap();
                assert_eq!(total.get(), 111, "nothing is lost");
            };
            (future, then)
        })
    };
    run(true).assert_clean();
    let found = run(false);
    assert!(found.failures.len() >= 15, "three values in each of five schedules: {found}");
    assert!(
        found
            .failures
            .iter()
            .all(|failure| matches!(&failure.what, What::Check(said) if said.contains("nothing is lost")))
    );
}

#[test]
fn panics_and_hangs_are_found() {
    // A drop that panics unless the end was reached.
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0, "cut in the middle");
        }
    }
    let found = cancel_everywhere(|| async {
        let mut bomb = Bomb(false);
        leakfree::yield_now().await;
        bomb.0 = true;
    });
    assert_eq!(found.failures.len(), 2);
    assert!(found.to_string().contains("it panicked: cut in the middle"), "{found}");

    // The other side waits for an answer that the cancelled one was to give.
    let found = Probe::new().cancel_everywhere_then(|| {
        let (tx, rx) = oneshot::channel::<()>();
        let kept = Rc::new(RefCell::new(Some(tx)));
        let theirs = Rc::clone(&kept);
        let future = async move {
            leakfree::yield_now().await;
            theirs.borrow_mut().take().unwrap().send(()).unwrap();
        };
        (future, async move |_: Option<()>| {
            rx.await.unwrap();
            drop(kept);
        })
    });
    assert_eq!(found.failures.len(), 2);
    assert!(found.failures.iter().all(|failure| matches!(failure.what, What::Hang(_))), "{found}");
    assert!(found.to_string().contains("oneshot::Receiver"), "{found}");
}

#[test]
fn what_fails_without_a_fault_is_told_and_ends_it() {
    let found = cancel_everywhere(|| async {
        leakfree::yield_now().await;
        drop(leakfree::spawn(std::future::pending::<()>()));
    });
    assert_eq!(found.runs, 1);
    assert_eq!(found.failures[0].place, Place::Nowhere);
}

#[test]
fn a_delay_at_each_place_lets_timeouts_fire() {
    let run = |generous: bool| {
        fault_everywhere(move |_| async move {
            let worker = leakfree::spawn(sleep(Duration::from_secs(1)));
            // Two suspension points: a delay at the first makes the answer late.
            leakfree::yield_now().await;
            let limit = if generous { None } else { Some(Duration::from_secs(60)) };
            let lock = Arc::new(Mutex::new(()));
            let late = Arc::clone(&lock);
            let holder = leakfree::spawn(async move {
                let _guard = late.lock().await;
                sleep(Duration::from_secs(30)).await;
            });
            let waits = async {
                worker.await.unwrap();
                sleep(Duration::from_secs(10)).await;
                holder.await.unwrap();
                leakfree::yield_now().await;
                leakfree::time::Instant::now()
            };
            match limit {
                None => drop(waits.await),
                Some(limit) => drop(timeout(limit, waits).await.expect("in time")),
            }
        })
    };
    let found = run(true);
    found.assert_clean();
    assert!(found.points >= 4 && found.runs == found.points + 1);
    let found = run(false);
    assert!(!found.is_clean() && found.to_string().contains("delayed at suspension point"), "{found}");
}

#[derive(PartialEq, Debug)]
enum Failed {
    Injected,
    Own,
}

impl From<Injected> for Failed {
    fn from(_: Injected) -> Failed {
        Failed::Injected
    }
}

/// Money moves between two accounts: an error between the steps must not lose any.
#[test]
fn an_error_at_each_operation_shows_what_is_not_undone() {
    async fn step(account: &Cell<i32>, by: i32) -> Result<(), Failed> {
        leakfree::yield_now().await;
        account.set(account.get() + by);
        if account.get() < 0 { Err(Failed::Own) } else { Ok(()) }
    }
    let run = |undoes: bool| {
        Probe::new().fault_everywhere_then(move |faults: Faults| {
            let accounts = Rc::new((Cell::new(10), Cell::new(0)));
            let theirs = Rc::clone(&accounts);
            let future = async move {
                let (from, to) = (&theirs.0, &theirs.1);
                let before = (from.get(), to.get());
                let moved: Result<(), Failed> = async {
                    faults.may_fail(step(from, -5)).await?;
                    faults.may_fail(step(to, 5)).await
                }
                .await;
                if moved.is_err() && undoes {
                    from.set(before.0);
                    to.set(before.1);
                }
                moved
            };
            let then = async move |moved: Option<Result<(), Failed>>| {
                let moved = moved.expect("it is not cancelled");
                assert_ne!(moved, Err(Failed::Own));
                assert_eq!(accounts.0.get() + accounts.1.get(), 10, "money is kept");
            };
            (future, then)
        })
    };
    let found = run(true);
    found.assert_clean();
    assert_eq!((found.points, found.operations, found.runs), (2, 2, 1 + 2 + 4));
    let places: Vec<Place> = run(false).failures.iter().map(|failure| failure.place).collect();
    // Failing before the first step nothing has moved, after the second all has.
    assert_eq!(places, [Place::FailedAfter(1), Place::FailedBefore(2)]);
}

#[test]
fn an_operation_that_may_fail_waits_as_it_does_by_itself_and_loses_nothing() {
    let found = fault_everywhere(|faults| async move {
        let (tx, rx) = oneshot::channel();
        let line = line!() + 1;
        let receives = async move { rx.await.map_err(|_| Failed::Own) };
        let looks = leakfree::spawn(async move {
            until(|| {
                let snapshot = Handle::current().snapshot();
                let mut waits = snapshot.tasks.iter().flat_map(|task| &task.waits);
                waits.any(|wait| wait.reason.name() == "oneshot::Receiver" && wait.site.line == line)
                    || tx.is_closed()
            })
            .await;
            let _ = tx.send(7);
        });
        let got = faults.may_fail(receives).await;
        assert!(got == Ok(7) || got == Err(Failed::Injected), "{got:?}");
        looks.await.unwrap();

        let (tx, mut rx) = mpsc::channel(1);
        let mut receives = Box::pin(faults.may_fail(async { rx.recv().await.ok_or(Failed::Own) }));
        let was_begun = futures::poll!(&mut receives).is_pending();
        tx.send(5).await.unwrap();
        drop(receives);
        assert_eq!(rx.recv().await, Some(5), "it was begun: {was_begun}");
    });
    found.assert_clean();
    assert_eq!(found.operations, 2);
}

/// Our own: scopes clean up wherever they are cut.
#[test]
fn a_scope_is_clean_wherever_it_is_cancelled() {
    let found = Probe::new().schedules(20).workers(3).cancel_everywhere(|| {
        scope(async |s| {
            let (tx, mut rx) = mpsc::channel(2);
            let lock = Arc::new(Mutex::new(0));
            for n in 0..3 {
                let (tx, lock) = (tx.clone(), Arc::clone(&lock));
                s.spawn(async move {
                    *lock.lock().await += 1;
                    leakfree::yield_now().await;
                    let _ = tx.send(n).await;
                });
            }
            drop(tx);
            while rx.recv().await.is_some() {}
        })
    });
    found.assert_clean();
    assert!(found.points > 40 && found.runs == 20 + 2 * found.points);
}

#[test]
fn a_probe_says_where_and_under_which_seed_what_went_wrong() {
    let probe = Probe::default().seed(40).delay(Duration::from_secs(7)).workers(1);
    let found = probe.fault_everywhere(|faults: Faults| async move {
        let save = faults.may_fail(async {
            leakfree::yield_now().await;
            Ok::<(), std::io::Error>(())
        });
        assert!(format!("{save:?}").starts_with("MayFail"), "{save:?}");
        save.await.unwrap_or_else(|error| panic!("{error}"));
    });
    let text = found.to_string();
    for words in [
        ", 1 operations that may fail)",
        "operation 1 failed before it began, seed 40: it panicked: ",
        "operation 1 failed after its end, seed 40: it panicked: ",
        "an error injected by `fault_everywhere`",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    let checked = probe.cancel_everywhere_then(|| (async {}, async |_| panic!("it is gone")));
    let text = checked.to_string();
    assert!(text.contains("without any fault, seed 40: the check says: it is gone"), "{text}");
}

/// A future is late by as much as the probe says, and no more.
#[test]
fn a_delay_is_as_long_as_the_probe_says() {
    let delayed = |delay| {
        let probe = Probe::new().delay(Duration::from_secs(delay));
        probe.fault_everywhere(|_| async {
            let start = leakfree::time::Instant::now();
            sleep(Duration::from_secs(1)).await;
            assert!(start.elapsed() < Duration::from_secs(60), "late");
        })
    };
    assert!(delayed(30).is_clean());
    assert!(delayed(90).to_string().contains("delayed at suspension point 1, seed 0: it panicked: late"));
}
