//! A child registers while its scope is cancelled; a snapshot looks while tasks come and go.

#![cfg(loom)]

use leakfree::model::Bed;
use leakfree_loom_tests::{Script, Scripted};
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

#[test]
fn a_child_that_links_while_the_scope_is_cancelled_is_dropped() {
    loom::model(|| {
        let bed = Bed::new();
        // It would wait for ever: its waker is kept.
        let script = Script::new(&[1]);
        let handle = bed.spawn(Scripted(script.clone()));
        let runner = thread::spawn(move || bed.run_all());
        bed.cancel();
        runner.join().unwrap();
        bed.run_all();
        assert!(handle.is_finished(), "found by the walk, or by the flag");
        assert_eq!(script.drops.load(SeqCst), 1);
        assert_eq!(bed.left(), 1);
        drop(script.take());
    });
}

#[test]
fn a_snapshot_holds_what_it_looks_at_while_that_completes() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1]);
        drop(bed.spawn(Scripted(script.clone())));
        bed.run_one();
        script.take().unwrap().wake();
        let runner = thread::spawn(move || bed.run_all());
        // The task completes and is given up by everybody else: the reference that a look holds is what keeps it.
        assert!(bed.look().iter().all(|&unwakeable| !unwakeable));
        runner.join().unwrap();
        assert!(bed.look().is_empty());
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
    });
}
