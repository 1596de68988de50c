//! Deterministic simulation, and what is built on it (feature `test-util`).
//!
//! - [`Builder::seed`](crate::runtime::Builder::seed): a runtime whose every step a seed chooses; `#[leakfree::test(schedules = 1000)]` runs a test's body under
//!   a thousand of them.
//! - [`Handle::trace`](crate::runtime::Handle::trace): which steps there were; [`Builder::on_step`](crate::runtime::Builder::on_step): a look between any two.
//! - [`cancel_everywhere`], [`fault_everywhere`]: a future cancelled, delayed or failed at each place where it waits.

pub use self::everywhere::{
    Everywhere, Failure, Faults, Injected, MayFail, Place, Probe, What, cancel_everywhere, fault_everywhere,
};
pub use crate::scheduler::sim::{Actor, Event, Step, Trace};

mod everywhere;

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Termination;

use crate::runtime::{Builder, Runtime, run_test};

pub(crate) use crate::scheduler::sim::play_until;

/// Takes steps of a [simulation](crate::runtime::Builder::seed) until none is left, with the clock standing still. False if it was given up after
/// `most` steps.
///
/// # Panics
/// If it is called from within a future of a runtime.
pub fn run_until_stalled(runtime: &Runtime, most: u64) -> bool {
    runtime.handle().play(most)
}

// ---- #[leakfree::test(schedules = ..)] ------------------------------------------------------------

/// What a test may return.
#[doc(hidden)]
pub trait TestOutcome: Termination {
    fn is_failure(&self) -> bool;
}

impl TestOutcome for () {
    fn is_failure(&self) -> bool {
        false
    }
}

impl<T: Termination, E: fmt::Debug> TestOutcome for Result<T, E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, and not {text:?}")))
}

/// Runs a test's body under so many schedules; `#[leakfree::test]` with a seed expands to a call of this.
#[doc(hidden)]
#[track_caller]
pub fn run_simulated_test<F>(
    name: &str,
    builder: impl Fn() -> Builder,
    seed: u64,
    schedules: u64,
    body: impl Fn() -> F,
) -> F::Output
where
    F: Future,
    F::Output: TestOutcome,
{
    let replayed = number("LEAKFREE_SEED");
    let (first, schedules) = replayed.map_or((seed, schedules), |seed| (seed, 1));
    let with_trace = std::env::var_os("LEAKFREE_TRACE").is_some();
    // The harness knows a test by its path in the crate.
    let test = name.split_once("::").map_or(name, |(_, path)| path);
    let mut run = 0;
    loop {
        let seed = first.wrapping_add(run);
        run += 1;
        let told = |failed: bool| {
            if failed && replayed.is_none() {
                eprintln!(
                    "leakfree: test {test} failed with seed {seed}, run {run} of {schedules}; to replay it:\n    \
                     LEAKFREE_SEED={seed} cargo test {test}"
                );
            }
        };
        let builder = builder().seed(seed).keep_trace(with_trace).or_test_defaults();
        let print = |runtime: &Runtime| {
            if with_trace {
                eprint!("{}", runtime.handle().trace().expect("it has a seed"));
            }
        };
        match catch_unwind(AssertUnwindSafe(|| run_test(name, builder, body(), print))) {
            Ok(output) if output.is_failure() || run == schedules => {
                told(output.is_failure());
                return output;
            }
            Ok(_) => {}
            Err(payload) => {
                told(true);
                resume_unwind(payload);
            }
        }
    }
}
