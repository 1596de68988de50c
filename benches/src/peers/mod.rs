//! One file per runtime, each with the same functions. Each file takes in `workloads/`, so every
//! runtime compiles the same source: like is compared with like.
//!
//! To add a peer: copy `tokio.rs`, and add a line to [`ALL`].

use crate::measure::{Measured, Plan};

#[cfg(feature = "instruments")]
mod await_tree;
#[cfg(feature = "leakfree")]
mod leakfree;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "smol")]
mod smol_parts;
#[cfg(feature = "smol")]
mod smol_static;
#[cfg(feature = "smol")]
mod smolscale;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "instruments")]
mod tokio_metrics;

/// A runtime under test.
#[derive(Debug)]
pub struct Peer {
    /// As `--peers` takes it.
    pub name: &'static str,
    /// What the reader of a figure must know.
    pub note: &'static str,
    /// Whether it runs without being named.
    pub default: bool,
    /// Whether a task that a worker makes runnable can bring a sleeping sibling to its help.
    pub distributes: bool,
    /// Runs a workload; `None` if this peer has no such one.
    pub run: fn(workload: &str, plan: &Plan) -> Option<Measured>,
}

/// The first is the one that the others are compared with.
pub const ALL: &[Peer] = &[
    #[cfg(feature = "leakfree")]
    Peer {
        name: "leakfree",
        note: "everything recorded",
        default: true,
        distributes: true,
        run: leakfree::workloads::run,
    },
    #[cfg(feature = "tokio")]
    Peer {
        name: "tokio",
        note: "multi-thread",
        default: true,
        distributes: true,
        run: tokio::workloads::run,
    },
    #[cfg(feature = "smol")]
    Peer {
        name: "smol",
        note: "async_executor::Executor, run by threads in async_io::block_on; async-net, async-channel, async-lock; \
               oneshot of futures",
        default: true,
        distributes: true,
        run: smol::workloads::run,
    },
    #[cfg(feature = "smol")]
    Peer {
        name: "smol-static",
        note: "async_executor::StaticExecutor, else as smol; keeps no registry of tasks",
        default: true,
        distributes: true,
        run: smol_static::workloads::run,
    },
    #[cfg(feature = "smol")]
    Peer {
        name: "smolscale",
        note: "has no channels, locks, timers or sockets of its own: those of smol; a push does not wake a sibling worker; \
               no registry; one worker per core",
        default: true,
        distributes: false,
        run: smolscale::workloads::run,
    },
    #[cfg(feature = "instruments")]
    Peer {
        name: "tokio-metrics",
        note: "tokio, each task under a TaskMonitor",
        default: false,
        distributes: true,
        run: tokio_metrics::workloads::run,
    },
    #[cfg(feature = "instruments")]
    Peer {
        name: "await-tree",
        note: "tokio, each task a registered tree, a span around each join and yield",
        default: false,
        distributes: true,
        run: await_tree::workloads::run,
    },
];

/// The one of that name.
pub fn find(name: &str) -> Option<&'static Peer> {
    ALL.iter().find(|peer| peer.name == name)
}
