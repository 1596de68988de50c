//! What comes from outside is taken once, in order, and no sleeper overlooks it.

#![cfg(loom)]

use std::sync::Arc;

use leakfree::model::Injector;
use leakfree_loom_tests::model;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

/// Two threads push two each, which is more than a block holds, while a third takes.
#[test]
fn what_two_threads_push_is_taken_once_and_in_the_order_of_each() {
    model(|| {
        let injector = Arc::new(Injector::default());
        let pushers = [[1, 2], [3, 4]].map(|tasks| {
            let injector = Arc::clone(&injector);
            thread::spawn(move || tasks.map(|task| injector.push(task)))
        });
        let mut taken = injector.take();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        while !injector.is_empty() {
            taken.extend(injector.take());
        }
        let place = |task| taken.iter().position(|&taken| taken == task).expect("was pushed");
        assert!(place(1) < place(2) && place(3) < place(4), "{taken:?}");
        assert_eq!(taken.len(), 4);
    });
}

#[test]
fn two_that_take_at_once_get_what_is_there_once() {
    model(|| {
        let injector = Arc::new(Injector::default());
        let takers = [(); 2].map(|()| {
            let injector = Arc::clone(&injector);
            thread::spawn(move || injector.take())
        });
        (1..=3).for_each(|task| injector.push(task));
        let mut taken: Vec<_> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        while !injector.is_empty() {
            taken.extend(injector.take());
        }
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
    });
}

/// The order on which the idle protocol rests, without any of its fences.
#[test]
fn who_looks_sees_what_was_pushed_or_is_seen_by_who_pushes() {
    model(|| {
        let injector = Arc::new(Injector::default());
        let sleeps = Arc::new(AtomicBool::new(false));
        let (theirs, asleep) = (Arc::clone(&injector), Arc::clone(&sleeps));
        let sleeper = thread::spawn(move || {
            asleep.store(true, Relaxed);
            theirs.is_empty()
        });
        injector.push(1);
        let is_seen = sleeps.load(Relaxed);
        let finds_nothing = sleeper.join().unwrap();
        assert!(is_seen || !finds_nothing, "nobody runs the task");
    });
}
