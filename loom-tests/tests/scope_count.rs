//! The last child leaves while the scope's owner waits.

#![cfg(loom)]

use leakfree::model::Count;
use loom::sync::Arc;
use loom::thread;

#[test]
fn exactly_one_is_told_of_the_end() {
    loom::model(|| {
        let count = Arc::new(Count::new(None));
        assert!(count.enter(None) && count.enter(None));
        let (a, b) = (count.clone(), count.clone());
        let a = thread::spawn(move || a.leave(None, 1));
        let b = thread::spawn(move || b.leave(None, 1));
        let told = [count.close(), a.join().unwrap(), b.join().unwrap()];
        assert_eq!(told.into_iter().filter(|&told| told).count(), 1);
        assert!(count.is_zero());
        assert!(!count.enter(None));
    });
}

#[test]
fn shards_are_carried_over_whoever_leaves_where() {
    loom::model(|| {
        let count = Arc::new(Count::new(Some(2)));
        // Spawned by worker 0 and from outside, finished by worker 1: shards of both signs.
        assert!(count.enter(Some(0)) && count.enter(None));
        let (a, b) = (count.clone(), count.clone());
        let a = thread::spawn(move || a.leave(Some(1), 1));
        let b = thread::spawn(move || b.leave(Some(1), 1));
        let told = [count.close(), a.join().unwrap(), b.join().unwrap()];
        assert_eq!(told.into_iter().filter(|&told| told).count(), 1);
        assert!(count.is_zero());
    });
}

#[test]
fn those_that_leave_together_are_counted_out_at_once() {
    loom::model(|| {
        let count = Arc::new(Count::new(Some(2)));
        assert!(count.enter(Some(0)) && count.enter(Some(0)) && count.enter(None));
        let (a, b) = (count.clone(), count.clone());
        let a = thread::spawn(move || a.leave(Some(1), 2));
        let b = thread::spawn(move || b.leave(Some(0), 1));
        let told = [count.close(), a.join().unwrap(), b.join().unwrap()];
        assert_eq!(told.into_iter().filter(|&told| told).count(), 1);
        assert!(count.is_zero() && count.live() == 0);
    });
}

#[test]
fn a_child_that_spawns_a_sibling_keeps_the_scope_open() {
    loom::model(|| {
        let count = Arc::new(Count::new(Some(1)));
        assert!(count.enter(Some(0)));
        let child = count.clone();
        let child = thread::spawn(move || {
            assert!(child.enter(Some(0)), "the child itself counts");
            [child.leave(Some(0), 1), child.leave(None, 1)]
        });
        let closed = count.close();
        let [first, second] = child.join().unwrap();
        assert!(!first, "one was left");
        assert!(closed ^ second);
    });
}

#[test]
fn an_outsider_gets_in_or_is_refused_but_does_not_revive_the_count() {
    loom::model(|| {
        let count = Arc::new(Count::new(None));
        let outsider = count.clone();
        let outsider = thread::spawn(move || {
            let entered = outsider.enter(Some(0));
            (entered, entered && outsider.leave(Some(0), 1))
        });
        let grower = count.clone();
        let grower = thread::spawn(move || grower.inflate(1));
        let closed = count.close();
        let (entered, last) = outsider.join().unwrap();
        grower.join().unwrap();
        assert!(closed ^ last, "entered: {entered}");
        assert!(count.is_zero());
    });
}

#[test]
fn the_root_ends_once_when_all_workers_have_retired() {
    loom::model(|| {
        let count = Arc::new(Count::with_own(2));
        assert!(count.enter(None));
        let (a, b) = (count.clone(), count.clone());
        // One spawns a child that ends after it has retired; the other ends the one from outside.
        let a = thread::spawn(move || {
            assert!(a.enter(Some(0)));
            [a.retire(0), a.leave(Some(0), 1)]
        });
        let b = thread::spawn(move || [b.leave(Some(1), 1), b.retire(1)]);
        let told = [[count.close(), false], a.join().unwrap(), b.join().unwrap()];
        assert_eq!(told.into_iter().flatten().filter(|&told| told).count(), 1);
        assert!(count.is_zero() && count.live() == 0);
        assert!(!count.enter(None));
    });
}

#[test]
fn the_count_of_the_root_is_never_too_low() {
    loom::model(|| {
        let count = Arc::new(Count::with_own(1));
        assert!(count.enter(None));
        let worker = count.clone();
        // A child spawns another one, and ends.
        let worker = thread::spawn(move || {
            assert!(worker.enter(Some(0)));
            worker.leave(Some(0), 1) || worker.retire(0)
        });
        assert!(count.live() >= 1);
        assert!(!worker.join().unwrap());
        assert_eq!(count.live(), 1);
        assert!(!count.leave(None, 1) && count.close());
    });
}

#[test]
fn a_count_in_shards_is_never_too_low() {
    loom::model(|| {
        let count = Arc::new(Count::new(Some(2)));
        assert!(count.enter(Some(0)));
        let child = count.clone();
        // It spawns one where the look has been, and ends where the look will come.
        let child = thread::spawn(move || {
            assert!(child.enter(Some(0)));
            child.leave(Some(1), 1)
        });
        assert!(count.live() >= 1);
        assert!(!child.join().unwrap());
        assert_eq!(count.live(), 1);
        assert!(!count.close() && count.leave(Some(0), 1));
    });
}

#[test]
fn a_count_that_is_carried_over_is_never_too_low() {
    loom::model(|| {
        let count = Arc::new(Count::new(Some(2)));
        assert!(count.enter(Some(0)) && count.enter(None));
        let (owner, child) = (count.clone(), count.clone());
        let owner = thread::spawn(move || owner.close());
        let child = thread::spawn(move || child.leave(Some(1), 1));
        assert!(count.live() >= 1);
        assert!(!owner.join().unwrap() && !child.join().unwrap());
        assert_eq!(count.live(), 1);
        assert!(count.leave(Some(0), 1));
    });
}
