//! One file per runtime, each with the same functions. Each file takes in `workloads.rs`, so every
//! runtime compiles the same source: like is compared with like.
//!
//! To add a peer: copy `tokio.rs`, and add a line to [`ALL`].

use crate::Plan;
use crate::measure::Measured;

#[cfg(feature = "leakfree")]
mod leakfree;
mod tokio;

/// A runtime under test.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Runs a workload; `None` if there is no such one.
    pub(crate) run: fn(workload: &str, plan: &Plan) -> Option<Measured>,
}

/// The first is the one that the others are compared with.
pub(crate) const ALL: &[Peer] = &[
    #[cfg(feature = "leakfree")]
    Peer { name: "leakfree", run: leakfree::workloads::run },
    Peer { name: "tokio", run: tokio::workloads::run },
];

/// Worker threads of each runtime.
pub(crate) const WORKERS: usize = 2;
