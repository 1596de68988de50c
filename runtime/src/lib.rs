//! An async runtime in which a leaked or stuck task cannot hide.

mod builder;
mod driver;
#[cfg(feature = "hyper")]
pub mod hyper;
mod loom;
pub mod net;
pub mod report;
pub mod runtime;
mod scheduler;
pub mod scope;
pub mod sync;
pub mod task;
pub mod time;
mod util;

pub use scope::{Scope, cancelled, is_cancelled, scope, scope_named, spawn, spawn_blocking};
pub use task::join::{CancelKind, CancelReason, JoinError, JoinHandle};
pub use task::yield_now::yield_now;
