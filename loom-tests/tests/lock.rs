//! One thread at a time is behind a lock for short sections, and finds what the one before left.

#![cfg(loom)]

use std::sync::Arc;

use leakfree::model::Lock;
use loom::thread;

#[test]
fn who_comes_next_finds_what_the_one_before_left() {
    loom::model(|| {
        let lock = Arc::new(Lock::default());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || lock.add())
            })
            .collect();
        // Checks by itself that each is ordered after the one before.
        let mut seen = vec![lock.add()];
        seen.extend(others.into_iter().map(|other| other.join().unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}
