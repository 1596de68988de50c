//! A sequence counter: words that one thread at a time writes and any may read, all of one piece. Modelled in
//! `loom-tests/tests/seq.rs`.

use crate::loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::sync::atomic::{AtomicU64, fence};

/// How often words that are being written are read again. A model need not wait for them.
const READS_MAX: usize = if cfg!(loom) { 2 } else { 64 };

/// Words are being written, up to its end.
#[must_use]
pub(crate) struct Writing<'a> {
    seq: &'a Seq,
    version: u64,
}

impl Writing<'_> {
    #[inline]
    pub(crate) fn end(self) {
        // Pairs with the acquire in `read`.
        self.seq.0.store(self.version.wrapping_add(2), Release);
    }
}

/// Odd while the words are written.
#[derive(Debug, Default)]
pub(crate) struct Seq(AtomicU64);

impl Seq {
    /// Runs `stores`, which are `Relaxed`. One writer at a time: the caller holds the lock that says so.
    #[inline]
    pub(crate) fn write(&self, stores: impl FnOnce()) {
        let writing = self.begin();
        stores();
        writing.end();
    }

    /// The same, for stores that are not to be in a closure: what it captures is copied into it.
    #[inline]
    pub(crate) fn begin(&self) -> Writing<'_> {
        // One writer: a load and a store are enough.
        let version = self.0.load(Relaxed);
        self.0.store(version.wrapping_add(1), Relaxed);
        // Pairs with the acquire fence in `read`.
        fence(Release);
        Writing { seq: self, version }
    }

    /// The version; `None` while words are being written.
    pub(crate) fn version(&self) -> Option<u64> {
        // Acquire: pairs with the release at the end of `write`. Words that are read next are of this version or a later one.
        Some(self.0.load(Acquire)).filter(|version| version % 2 == 0)
    }

    /// What `loads`, which are `Relaxed`, found between two writes, and the version; `None` if the words do not come to rest.
    pub(crate) fn read<T>(&self, mut loads: impl FnMut() -> T) -> Option<(T, u64)> {
        for _ in 0..READS_MAX {
            // Acquire: pairs with the release at the end of `write`.
            let version = self.0.load(Acquire);
            let found = loads();
            // Pairs with the release fence in `write`: whoever saw a word of a later write sees its version, too.
            fence(Acquire);
            if version % 2 == 0 && self.0.load(Relaxed) == version {
                return Some((found, version));
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn readers_find_the_words_of_one_write() {
        let (seq, a, b) = (Seq::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 1..100_000 {
                    seq.write(|| {
                        a.store(n, Relaxed);
                        b.store(n, Relaxed);
                    });
                }
            });
            let mut last = 0;
            while last < 99_999 {
                let Some(((a, b), version)) = seq.read(|| (a.load(Relaxed), b.load(Relaxed))) else {
                    continue;
                };
                assert_eq!((a, version), (b, 2 * a));
                assert!(a >= last);
                last = a;
            }
        });
    }

    #[test]
    fn what_is_being_written_is_given_up_after_a_while() {
        let seq = Seq::default();
        seq.write(|| assert_eq!(seq.read(|| ()), None));
        assert_eq!(seq.read(|| ()), Some(((), 2)));
    }
}
