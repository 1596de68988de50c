//! A task that was asked to end, and that nothing can wake any more, is dropped: at whichever edge that becomes true, once.

#![cfg(loom)]

use leakfree::model::Bed;
use leakfree_loom_tests::{Script, Scripted};
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

#[test]
fn the_last_waker_dropped_during_the_grace_ends_it() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1, 0]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let waker = script.take().unwrap();
        let dropper = thread::spawn(move || drop(waker));
        bed.ask();
        bed.run_all();
        dropper.join().unwrap();
        // The edge may have come with the drop, and then what it enqueued is still there.
        bed.run_all();
        assert!(handle.is_finished(), "nothing could have woken it: the grace is over");
        assert_eq!(script.drops.load(SeqCst), 1);
        assert_eq!(bed.left(), 1);
    });
}

#[test]
fn a_wake_during_the_grace_is_a_poll_or_comes_too_late_to_matter() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1, 0]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let waker = script.take().unwrap();
        let theirs = script.clone();
        let waking = thread::spawn(move || {
            waker.wake();
            drop(theirs);
        });
        bed.ask();
        bed.run_all();
        waking.join().unwrap();
        bed.run_all();
        // Woken behind the poll that answered the cancel, it was ready at its third poll; before, it was stuck.
        assert!(handle.is_finished());
        assert!((2..=3).contains(&script.polls.load(SeqCst)));
        assert_eq!((script.drops.load(SeqCst), bed.left()), (1, 1));
    });
}

#[test]
fn the_drop_and_the_end_of_the_grace_at_once_drop_once() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1, 0]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let waker = script.take().unwrap();
        bed.ask();
        let forcing = thread::spawn(move || bed.cancel());
        drop(waker);
        bed.run_all();
        forcing.join().unwrap();
        bed.run_all();
        assert!(handle.is_finished());
        assert_eq!((script.drops.load(SeqCst), bed.left()), (1, 1));
    });
}
