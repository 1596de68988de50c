//! One thread at a time is behind a lock for short sections, and finds what the one before left.

#![cfg(loom)]

use std::sync::Arc;

use leakfree::model::Lock;
use loom::thread;

#[test]
fn who_comes_next_finds_what_the_one_before_left() {
    loom::model(|| {
        let lock = Arc::new(Lock::default());
        let theirs = Arc::clone(&lock);
        let other = thread::spawn(move || theirs.add());
        // Checks by itself that each is ordered after the one before.
        let mut seen = [lock.add(), other.join().unwrap()];
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}
