//! Deterministic simulation, and what is built on it (feature `test-util`).

pub use crate::scheduler::sim::{Actor, Event, Step, Trace};

use crate::runtime::Runtime;

pub(crate) use crate::scheduler::sim::play_until;

/// Takes steps of a [simulation](crate::runtime::Builder::seed) until none is left, with the clock standing still. False if it was given up after
/// `most` steps.
///
/// # Panics
/// If it is called from within a future of a runtime.
pub fn run_until_stalled(runtime: &Runtime, most: u64) -> bool {
    runtime.handle().play(most)
}
