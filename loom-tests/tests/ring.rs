//! A worker's own queue: whatever its owner and thieves do, each task is taken once, the oldest first.

#![cfg(loom)]

use leakfree::model::{Idle, Ring, RingThief};
use leakfree_loom_tests::model;
use loom::sync::Arc;
use loom::thread;

/// All that is left in a queue, in its order.
fn rest(ring: &Ring) -> Vec<usize> {
    std::iter::from_fn(|| ring.pop()).collect()
}

/// A thread that steals once, and takes what it got.
fn steals(theirs: Ring, from: RingThief) -> thread::JoinHandle<Vec<usize>> {
    thread::spawn(move || theirs.steal(&from).into_iter().chain(rest(&theirs)).collect())
}

/// Each of the numbers up to `n` is there once.
fn assert_all(mut taken: Vec<usize>, n: usize) {
    taken.sort_unstable();
    assert_eq!(taken, (1..=n).collect::<Vec<_>>());
}

fn assert_in_order(taken: &[usize]) {
    assert!(taken.is_sorted(), "the oldest first: {taken:?}");
}

#[test]
fn the_owner_takes_what_a_thief_does_not() {
    model(|| {
        let [own, theirs] = Ring::several(2, 2).try_into().ok().unwrap();
        let other = steals(theirs, own.thief());
        own.push(1);
        own.push(2);
        let taken = rest(&own);
        let stolen = other.join().unwrap();
        assert_in_order(&taken);
        assert_in_order(&stolen);
        assert_all([taken, stolen].concat(), 2);
    });
}

#[test]
fn a_queue_that_grows_is_stolen_from_meanwhile() {
    model(|| {
        let [own, theirs] = Ring::several(2, 4).try_into().ok().unwrap();
        own.push(1);
        own.push(2);
        let other = steals(theirs, own.thief());
        // There is room for two.
        own.push(3);
        own.push(4);
        let taken = rest(&own);
        let stolen = other.join().unwrap();
        assert_in_order(&taken);
        assert_in_order(&stolen);
        assert_all([taken, stolen].concat(), 4);
    });
}

#[test]
fn a_slot_that_is_filled_anew_is_not_taken_for_what_was_in_it() {
    model(|| {
        let [own, theirs] = Ring::several(2, 4).try_into().ok().unwrap();
        own.push(1);
        own.push(2);
        let thief = own.thief();
        let other = thread::spawn(move || {
            let first = theirs.steal(&thief);
            first.into_iter().chain(theirs.steal(&thief)).chain(rest(&theirs)).collect::<Vec<_>>()
        });
        let mut taken: Vec<_> = own.pop().into_iter().collect();
        own.push(3);
        taken.extend(own.pop());
        own.push(4);
        taken.extend(rest(&own));
        let stolen = other.join().unwrap();
        assert_in_order(&taken);
        assert_in_order(&stolen);
        assert_all([taken, stolen].concat(), 4);
    });
}

#[test]
fn two_thieves_and_the_owner_take_each_once() {
    model(|| {
        let [own, one, two] = Ring::several(3, 3).try_into().ok().unwrap();
        let others = [one, two].map(|theirs| steals(theirs, own.thief()));
        own.push(1);
        own.push(2);
        own.push(3);
        let mut taken = rest(&own);
        for other in others {
            taken.extend(other.join().unwrap());
        }
        assert_all(taken, 3);
    });
}

#[test]
fn what_was_stolen_is_stolen_on() {
    model(|| {
        let [own, one, two] = Ring::several(3, 4).try_into().ok().unwrap();
        for n in 1..=4 {
            own.push(n);
        }
        let from_own = own.thief();
        let second = steals(two, one.thief());
        let first = thread::spawn(move || {
            let mut taken: Vec<_> = one.steal(&from_own).into_iter().collect();
            assert_eq!(taken, [1]);
            taken.extend(one.pop());
            taken
        });
        let mut taken = first.join().unwrap();
        taken.extend(second.join().unwrap());
        assert_all(taken, 2);
        assert_eq!(rest(&own), [3, 4]);
    });
}

/// The thief's queue has no room left, and is stolen from itself.
#[test]
fn a_full_queue_makes_room_for_what_is_stolen_into_it() {
    model(|| {
        let [own, theirs, third] = Ring::several(3, 6).try_into().ok().unwrap();
        for n in 1..=4 {
            own.push(n);
        }
        theirs.push(5);
        theirs.push(6);
        let other = steals(third, theirs.thief());
        assert_eq!(theirs.steal(&own.thief()), Some(1));
        let mut taken = vec![1];
        taken.extend(rest(&theirs));
        assert_eq!(rest(&own), [3, 4]);
        taken.extend([3, 4]);
        taken.extend(other.join().unwrap());
        assert_all(taken, 6);
    });
}

/// The queue grows, is emptied, goes back to its small buffer, and is filled again.
#[test]
fn what_a_queue_has_outgrown_is_freed_when_no_thief_looks_into_it() {
    model(|| {
        let [own, theirs] = Ring::several(2, 4).try_into().ok().unwrap();
        let idle = Arc::new(Idle::new(4));
        own.push(1);
        own.push(2);
        own.push(3);
        let (thief, counts) = (own.thief(), Arc::clone(&idle));
        let other = thread::spawn(move || {
            theirs.steal_counted(&thief, &counts).into_iter().chain(rest(&theirs)).collect::<Vec<_>>()
        });
        let mut taken = rest(&own);
        own.sleep(0, &idle);
        idle.awake(0);
        own.push(4);
        taken.extend(rest(&own));
        let stolen = other.join().unwrap();
        assert_in_order(&taken);
        assert_in_order(&stolen);
        assert_all([taken, stolen].concat(), 4);
    });
}

/// Another one goes to sleep last, and frees it.
#[test]
fn what_one_worker_left_behind_another_frees() {
    model(|| {
        let [own, theirs] = Ring::several(2, 3).try_into().ok().unwrap();
        let idle = Arc::new(Idle::new(4));
        own.push(1);
        own.push(2);
        own.push(3);
        let (thief, counts) = (own.thief(), Arc::clone(&idle));
        let other = thread::spawn(move || {
            let taken: Vec<_> =
                theirs.steal_counted(&thief, &counts).into_iter().chain(rest(&theirs)).collect();
            theirs.sleep(1, &counts);
            taken
        });
        let mut taken = rest(&own);
        own.sleep(0, &idle);
        taken.extend(other.join().unwrap());
        assert_all(taken, 3);
        assert!(idle.keeps_nothing(), "at rest nothing is left");
    });
}
