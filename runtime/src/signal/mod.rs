//! Signals from the operating system.

pub mod unix;

use std::future::Future;
use std::io;
use std::panic::Location;

/// Waits for the next Ctrl-C (`SIGINT`) from the call on. From the first call on, and for the rest of the process, Ctrl-C no longer ends it by
/// itself.
///
/// ```no_run
/// # async fn serve() {}
/// #[leakfree::main]
/// async fn main() -> std::io::Result<()> {
///     leakfree::spawn(serve());
///     leakfree::signal::ctrl_c().await
/// }
/// ```
///
/// # Errors
/// What the operating system says when it is asked for the signal; that the runtime in which this was called is gone.
///
/// # Panics
/// Outside a leakfree runtime.
///
/// # Cancel safety
/// Cancel safe, but a signal that comes between two calls is seen by neither: keep one [`unix::Signal`] for several.
#[track_caller]
pub fn ctrl_c() -> impl Future<Output = io::Result<()>> + Send {
    let site = Location::caller();
    let listening = unix::listen("leakfree::signal::ctrl_c", unix::SignalKind::interrupt(), site);
    async move {
        let mut listening = listening?;
        listening.recv_at(site).await
    }
}
