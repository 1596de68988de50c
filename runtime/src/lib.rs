//! An async runtime in which a leaked or stuck task cannot hide.
//!
//! The scheduler itself records, for every task, where it was spawned, what it is parked on and how long it has
//! lived. [`scope()`] bounds each task's life to a block and cancels as a tree. When the program or a test
//! ends, a report names every task that outlived its bounds, and, where it can, *proves* that nothing could
//! ever have woken it.
//!
//! # A first program
//!
//! ```
//! #[leakfree::main]
//! async fn main() {
//!     let sum = leakfree::scope(async |s| {
//!         let a = s.spawn(async { 1 });
//!         let b = s.spawn(async { 2 });
//!         a.await.unwrap() + b.await.unwrap()
//!     })
//!     .await; // both tasks are gone here, whatever happened
//!     assert_eq!(sum, 3);
//! }
//! ```
//!
//! # What a leak looks like
//!
//! A task that is still alive when main returns is a leak, and the report on standard error says which
//! one, spawned where, parked on what, and why it did not end. A task that no waker exists for is *proven* unwakeable at that
//! very moment, not only at the end; see [`runtime::Builder::on_unwakeable`] and [`runtime::Handle::report`].
//!
//! ```
//! let runtime = leakfree::runtime::Builder::new().grace(std::time::Duration::ZERO).build()?;
//! runtime.block_on(async {
//!     leakfree::spawn(std::future::pending::<()>());
//! });
//! let report = runtime.shutdown();
//! assert_eq!(report.leaked(), 1);
//! assert!(report.to_string().contains("PROVEN unwakeable"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # In tests
//!
//! `#[leakfree::test]` gives each test a runtime of its own, and fails it with the report if a task of it leaked.
//! With `#[leakfree::test(paused)]` sleeps of hours end at once: see [`start_paused`](runtime::Builder::start_paused). With
//! `#[leakfree::test(schedules = 1000)]` (feature `test-util`) it runs in a thousand orders, each of which can be had again.
//!
//! # Where to find what
//!
//! - [`spawn`], [`scope()`], [`JoinHandle`], [`cancelled`]: tasks and their bounds; [`task`]: sets of them, their budget, their values
//! - [`select!`], [`join!`], [`try_join!`]: several futures in one task
//! - [`join_scope`], [`scope_with`], [`Runtime::scope_blocking`](runtime::Runtime::scope_blocking): scopes whose children may borrow
//! - [`sync`], [`time`], [`net`], [`io`], [`fs`], [`process`], [`signal`]: what tasks wait for; every wait there records itself
//! - [`runtime`]: builder, handle, shutdown
//! - [`report`]: snapshots, verdicts, and how they are printed
//! - behind features: deterministic simulation (`test-util`), `http::serve` (`http`), hyper's traits (`hyper`), tokio's I/O traits (`tokio-io`), libraries that need
//!   tokio's runtime (`tokio-compat`), tasks as spans (`tracing`)

mod blocking;
mod builder;
mod driver;
pub mod fs;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod io;
mod lookout;
mod loom;
mod macros;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
pub mod net;
pub mod process;
pub mod report;
pub mod runtime;
mod scheduler;
pub mod scope;
pub mod signal;
pub mod sync;
pub mod task;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod time;
mod util;
mod waiting;

#[cfg(feature = "macros")]
pub use leakfree_macros::{main, test};

pub use scope::join_scope::{
    JoinScope, JoinScopeFuture, JoinScopeHandle, JoinScopeSend, LocalChild, SendChild, join_scope,
    join_scope_send,
};
pub use scope::scope_blocking::{BlockingScope, ScopedJoinHandle};
pub use scope::scope_with::{DataJoinHandle, DataScope, scope_with};
pub use scope::{
    CancelToken, Scope, ScopeError, ScopeFailure, TryHandle, cancelled, defer_async, is_cancelled, on_cancel,
    scope, shield, shield_for, spawn, spawn_blocking, supervisor_scope, try_scope,
};
pub use task::{AbortHandle, CancelKind, CancelReason, JoinError, JoinHandle, TaskId, YieldNow, yield_now};
pub use waiting::{Waiting, waiting};

/// What the macros expand to calls of. Not for others.
#[doc(hidden)]
pub mod __private {
    use std::future::Future;
    use std::process::Termination;

    pub use crate::macros::{first_branch, poll_arm, result, turn};
    use crate::runtime::Builder;
    #[cfg(feature = "macros")]
    pub use leakfree_macros::{join, select, try_join};

    #[track_caller]
    pub fn run_main<F>(builder: Builder, body: F) -> F::Output
    where
        F: Future,
        F::Output: Termination,
    {
        crate::runtime::run_main(builder, body)
    }

    #[track_caller]
    pub fn run_test<F>(name: &str, builder: Builder, body: F) -> F::Output
    where
        F: Future,
        F::Output: Termination,
    {
        crate::runtime::run_test(name, builder.or_test_defaults(), body, |_| ())
    }

    #[cfg(feature = "test-util")]
    pub use crate::testing::{TestOutcome, run_simulated_test};
}
