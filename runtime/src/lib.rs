//! An async runtime in which a leaked or stuck task cannot hide.

mod driver;
mod loom;
mod report;
mod scheduler;
pub mod net;
pub mod sync;
mod task;
pub mod time;
