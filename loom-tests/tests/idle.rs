//! Going idle and waking up, with two workers, tasks in flight and a shutdown; and the parker alone.

#![cfg(loom)]

use leakfree::model::{Engine, Idle, Parker, Workers};
use leakfree_loom_tests::{big, model};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

#[test]
fn a_token_is_not_lost_and_at_most_one_is_kept() {
    loom::model(|| {
        let parker = Arc::new(Parker::new());
        let flag = Arc::new(AtomicUsize::new(0));
        let unparkers: Vec<_> = (0..2)
            .map(|_| {
                let (parker, flag) = (parker.clone(), flag.clone());
                thread::spawn(move || {
                    flag.fetch_add(1, SeqCst);
                    parker.unpark();
                })
            })
            .collect();
        // Two unparks end one park at least, and no more than two.
        while flag.load(SeqCst) < 1 {
            parker.park();
        }
        for unparker in unparkers {
            unparker.join().unwrap();
        }
        assert_eq!(flag.load(SeqCst), 2);
    });
}

#[test]
fn one_worker_runs_what_is_pushed_while_it_goes_to_sleep() {
    loom::model(|| {
        let workers = Arc::new(Workers::new(1));
        let worker = workers.clone();
        let worker = thread::spawn(move || worker.work(0));
        workers.push();
        while workers.ran() < 1 {
            thread::yield_now();
        }
        workers.shut_down();
        worker.join().unwrap();
    });
}

/// Two workers run two tasks that are pushed meanwhile, and end.
fn run_two_tasks(workers: &Arc<Workers>) {
    let threads: Vec<_> = (0..2)
        .map(|index| {
            let workers = workers.clone();
            thread::spawn(move || workers.work(index))
        })
        .collect();
    workers.push();
    workers.push();
    workers.wait_for(2);
    workers.shut_down();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn two_workers_run_all_that_is_pushed_and_both_hear_of_the_shutdown() {
    big(|| {
        let workers = Arc::new(Workers::new(2));
        run_two_tasks(&workers);
        assert_eq!(workers.ran(), 2);
    });
}

#[test]
fn the_word_and_the_list_change_together() {
    model(|| {
        let idle = Arc::new(Idle::new(2));
        let naps: Vec<_> = (0..2)
            .map(|worker| {
                let idle = idle.clone();
                thread::spawn(move || idle.nap(worker))
            })
            .collect();
        // Whoever it takes off the list is counted as searching, and is awake soon: its nap takes that over.
        let _ = idle.to_wake();
        for nap in naps {
            nap.join().unwrap();
        }
        assert!(idle.is_consistent(0), "nobody sleeps, and nobody searches");
    });
}

#[test]
fn the_last_searcher_that_finds_work_wakes_another() {
    big(|| {
        let workers = Arc::new(Workers::new(2));
        // The first task of two blocks its worker until the second is run by the other.
        workers.block_until(2);
        run_two_tasks(&workers);
    });
}

#[test]
fn an_unpark_reaches_who_goes_into_the_driver_whoever_looks_into_it_meanwhile() {
    model(|| {
        let engine = Engine::new(2);
        let (parks, looks) = (engine.clone(), engine.clone());
        let parks = thread::spawn(move || while !parks.park(0) {});
        let looks = thread::spawn(move || looks.look_into_driver(1));
        engine.unpark(0);
        parks.join().unwrap();
        looks.join().unwrap();
        engine.nobody_works();
        engine.stop();
        engine.check();
    });
}

#[test]
fn of_two_that_park_one_is_in_the_driver_and_both_are_unparked() {
    model(|| {
        let engine = Engine::new(2);
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let engine = engine.clone();
                thread::spawn(move || while !engine.park(index) {})
            })
            .collect();
        engine.unpark(0);
        engine.unpark(1);
        for thread in threads {
            thread.join().unwrap();
        }
        engine.nobody_works();
        engine.stop();
        engine.check();
    });
}

#[test]
fn what_was_done_before_an_unpark_is_seen_after_the_park() {
    model(|| {
        let parker = Arc::new(Parker::new());
        let cell = Arc::new(loom::cell::UnsafeCell::new(0));
        let (theirs, written) = (parker.clone(), cell.clone());
        let unparks = thread::spawn(move || {
            // SAFETY: loom checks that the token orders this before the read.
            written.with_mut(|cell| unsafe { *cell = 1 });
            theirs.unpark();
        });
        while !parker.park() {}
        // SAFETY: as above.
        assert_eq!(cell.with(|cell| unsafe { *cell }), 1);
        unparks.join().unwrap();
    });
}

#[test]
fn what_two_did_before_their_unparks_is_seen_after_the_parks() {
    model(|| {
        let parker = Arc::new(Parker::new());
        let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let unparkers = [0, 1].map(|index| {
            let (parker, flags) = (parker.clone(), flags.clone());
            thread::spawn(move || {
                flags[index].store(1, Relaxed);
                parker.unpark();
            })
        });
        // One park may use up the tokens of both, and has then seen what both did: nothing else orders the flags.
        while flags.iter().any(|flag| flag.load(Relaxed) == 0) {
            parker.park();
        }
        for unparker in unparkers {
            unparker.join().unwrap();
        }
    });
}
