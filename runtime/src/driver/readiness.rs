//! The readiness word of one I/O source.
//!
//! ```text
//!  [ tick: 59 | gone | write closed | read closed | writable | readable ]
//! ```
//!
//! | event                         | bits            | tick |
//! |-------------------------------|-----------------|------|
//! | the kernel reports readiness  | those reported are set | + 1 |
//! | an operation met `WouldBlock`, or took the last there was | its own is cleared, if the tick is the one it read before the operation | same |
//! | two in a row met `WouldBlock` at a closed end | that is cleared, too: it was no end, or is none any more | same |
//!
//! Registration is edge-triggered: an edge that comes between the operation and the clearing must not be
//! cleared away, and the tick tells. A closed bit stays, for the kernel tells of an end once: but for who has asked the kernel twice, else an end
//! that blocks, as that of a terminal that was opened again, would be tried for ever. Nobody comes back from being gone.

use crate::loom::sync::atomic::AtomicU64;
use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire};

pub(crate) const READABLE: u64 = 1;
pub(crate) const WRITABLE: u64 = 2;
pub(crate) const READ_CLOSED: u64 = 4;
pub(crate) const WRITE_CLOSED: u64 = 8;
/// The driver was shut down: no more events come.
pub(crate) const GONE: u64 = 16;
const TICK: u64 = 32;

/// Which direction an operation is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    fn mask(self) -> u64 {
        match self {
            Direction::Read => READABLE | READ_CLOSED,
            Direction::Write => WRITABLE | WRITE_CLOSED,
        }
    }

    fn clearable(self) -> u64 {
        match self {
            Direction::Read => READABLE,
            Direction::Write => WRITABLE,
        }
    }
}

/// What an operation saw before it tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(u64);

impl Seen {
    pub(crate) fn is_ready(self, direction: Direction) -> bool {
        self.0 & direction.mask() != 0
    }

    /// Whether that direction is at its end.
    pub(crate) fn is_closed(self, direction: Direction) -> bool {
        self.0 & direction.mask() & !direction.clearable() != 0
    }

    pub(crate) fn is_gone(self) -> bool {
        self.0 & GONE != 0
    }
}

#[derive(Debug)]
pub(crate) struct Readiness(AtomicU64);

impl Readiness {
    /// Ready in both directions: the first operation finds out.
    pub(crate) fn untried() -> Readiness {
        Readiness(AtomicU64::new(READABLE | WRITABLE))
    }

    /// Not ready: the kernel tells, of what is ready when it is registered, too.
    pub(crate) fn none() -> Readiness {
        Readiness(AtomicU64::new(0))
    }

    pub(crate) fn load(&self) -> Seen {
        Seen(self.0.load(Acquire))
    }

    /// The kernel reports readiness. AcqRel: pairs with the load, so that who sees the bits may act on what
    /// the reporting thread saw.
    pub(crate) fn set(&self, bits: u64) {
        let _ = self.0.fetch_update(AcqRel, Acquire, |word| Some((word | bits).wrapping_add(TICK)));
    }

    /// The operation met `WouldBlock`, or took the last there was, after it had seen `seen`.
    pub(crate) fn clear(&self, seen: Seen, direction: Direction) {
        self.clear_bits(seen, direction.clearable());
    }

    /// Two operations in a row met `WouldBlock` in a direction that was closed, the second after it had seen `seen`.
    pub(crate) fn reopen(&self, seen: Seen, direction: Direction) {
        self.clear_bits(seen, direction.mask());
    }

    fn clear_bits(&self, seen: Seen, bits: u64) {
        let _ = self
            .0
            .fetch_update(AcqRel, Acquire, |word| (word / TICK == seen.0 / TICK).then_some(word & !bits));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_edge_between_operation_and_clearing_is_kept() {
        let word = Readiness::untried();
        let seen = word.load();
        word.set(READABLE);
        word.clear(seen, Direction::Read);
        assert!(word.load().is_ready(Direction::Read));
        word.clear(word.load(), Direction::Read);
        assert!(!word.load().is_ready(Direction::Read));
        assert!(word.load().is_ready(Direction::Write));
        word.set(READ_CLOSED);
        word.clear(word.load(), Direction::Read);
        assert!(word.load().is_ready(Direction::Read), "the end of a stream stays");
        let seen = word.load();
        word.set(READ_CLOSED);
        word.reopen(seen, Direction::Read);
        assert!(word.load().is_closed(Direction::Read), "an edge between is kept here, too");
        word.reopen(word.load(), Direction::Read);
        assert!(!word.load().is_ready(Direction::Read) && word.load().is_ready(Direction::Write));
    }
}
