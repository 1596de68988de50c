//! What a reader takes out of the words of a sequence counter is what one write put there.

#![cfg(loom)]

use std::sync::Arc;

use leakfree::model::Seq;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

struct Words {
    seq: Seq,
    a: AtomicU64,
    b: AtomicU64,
}

impl Words {
    fn new() -> Arc<Words> {
        Arc::new(Words { seq: Seq::default(), a: AtomicU64::new(0), b: AtomicU64::new(0) })
    }

    fn write(&self, n: u64) {
        self.seq.write(|| {
            self.a.store(n, Relaxed);
            self.b.store(n, Relaxed);
        });
    }

    fn read(&self) -> Option<((u64, u64), u64)> {
        self.seq.read(|| (self.a.load(Relaxed), self.b.load(Relaxed)))
    }
}

#[test]
fn a_reader_never_mixes_two_writes() {
    loom::model(|| {
        let words = Words::new();
        let writing = Arc::clone(&words);
        let writer = thread::spawn(move || {
            writing.write(1);
            writing.write(2);
        });
        if let Some(((a, b), version)) = words.read() {
            assert_eq!((a, b), (version / 2, version / 2));
        }
        writer.join().unwrap();
        assert_eq!(words.read(), Some(((2, 2), 4)));
    });
}

/// Writers take turns under a lock of their own, which the counter knows nothing of.
#[test]
fn writers_that_take_turns_are_seen_in_order() {
    loom::model(|| {
        let words = Words::new();
        let turns = Arc::new(loom::sync::Mutex::new(0));
        let (theirs, their_turns) = (Arc::clone(&words), Arc::clone(&turns));
        let write = |words: &Words, turns: &loom::sync::Mutex<u64>| {
            let mut turn = turns.lock().unwrap();
            *turn += 1;
            words.write(*turn);
        };
        let writer = thread::spawn(move || write(&theirs, &their_turns));
        write(&words, &turns);
        let seen = words.read();
        if let Some(((a, b), version)) = seen {
            assert_eq!((a, version), (b, 2 * a));
            assert!(a >= 1, "its own write is behind it");
        }
        writer.join().unwrap();
        assert_eq!(words.read(), Some(((2, 2), 4)));
    });
}
