//! The same work for every runtime: peers, workloads (`src/workloads/`, compiled once in each peer), and how a run of one on
//! another is measured.
//!
//! `benches/peers` runs them against the clock, `src/bin/counts` counts allocations and instructions.

pub mod catalogue;
pub mod child;
pub mod counting;
pub mod load;
pub mod machine;
pub mod measure;
pub mod peers;
pub mod stats;

/// The allocator below everything that is measured.
#[cfg(feature = "mimalloc")]
pub type Allocator = mimalloc::MiMalloc;
/// The allocator below everything that is measured.
#[cfg(not(feature = "mimalloc"))]
pub type Allocator = std::alloc::System;

/// Such a one.
#[cfg(feature = "mimalloc")]
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;
/// Such a one.
#[cfg(not(feature = "mimalloc"))]
pub const ALLOCATOR: Allocator = std::alloc::System;

/// Its name.
pub const ALLOCATOR_NAME: &str =
    if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's allocator" };
