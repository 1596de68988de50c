//! `Barrier`: everybody of a round goes on, one of them leads, and what they did before is seen after.

#![cfg(loom)]

use std::sync::Arc;

use leakfree::sync::Barrier;
use leakfree_loom_tests::model;
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::thread;

struct Cells([UnsafeCell<u32>; 2]);

// SAFETY: loom checks each access: the barrier orders them.
unsafe impl Sync for Cells {}
// SAFETY: as above.
unsafe impl Send for Cells {}

#[test]
fn one_of_each_round_leads_and_all_go_on() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let cells = Arc::new(Cells([UnsafeCell::new(0), UnsafeCell::new(0)]));
        let rounds = |barrier: &Barrier, cells: &Cells, ours: usize| {
            let mut led = 0;
            for round in 1..3 {
                // SAFETY: loom checks that the barrier orders this before the other's read.
                cells.0[ours].with_mut(|cell| unsafe { *cell = round });
                led += u32::from(block_on(barrier.wait()).is_leader());
                // SAFETY: as above.
                assert_eq!(cells.0[1 - ours].with(|cell| unsafe { *cell }), round);
                led += 10 * u32::from(block_on(barrier.wait()).is_leader());
            }
            led
        };
        let (theirs, seen) = (barrier.clone(), cells.clone());
        let other = thread::spawn(move || rounds(&theirs, &seen, 1));
        let led = rounds(&barrier, &cells, 0);
        assert_eq!(led + other.join().unwrap(), 22, "one leader in each of four rounds");
    });
}

#[test]
fn three_meet() {
    model(|| {
        let barrier = Arc::new(Barrier::new(3));
        let others = [(), ()].map(|()| {
            let barrier = barrier.clone();
            thread::spawn(move || block_on(barrier.wait()).is_leader())
        });
        let led = usize::from(block_on(barrier.wait()).is_leader());
        let others: usize = others.into_iter().map(|other| usize::from(other.join().unwrap())).sum();
        assert_eq!(led + others, 1);
    });
}
