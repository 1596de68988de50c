//! Reports.
pub mod snapshot;
