//! Going idle and waking up, with two workers, tasks in flight and a shutdown; and the parker alone.

#![cfg(loom)]

use leakfree::model::{Parker, Workers};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
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

#[test]
fn two_workers_run_all_that_is_pushed_and_both_hear_of_the_shutdown() {
    loom::model(|| {
        let workers = Arc::new(Workers::new(2));
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let workers = workers.clone();
                thread::spawn(move || workers.work(index))
            })
            .collect();
        workers.push();
        workers.push();
        while workers.ran() < 2 {
            thread::yield_now();
        }
        workers.shut_down();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(workers.ran(), 2);
    });
}
