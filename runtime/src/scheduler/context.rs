//! (stub) The thread's runtime.
use std::sync::Arc;
use crate::driver::Driver;
thread_local! { static STUB: Arc<Driver> = Arc::new(Driver::new().unwrap()); }
/// The driver of the runtime this thread belongs to.
///
/// # Panics
/// Outside a runtime, with a message that names `what` and says what to do.
#[track_caller]
pub(crate) fn driver(_what: &str) -> Arc<Driver> { STUB.with(Arc::clone) }
