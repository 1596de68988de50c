//! `select!`, `join!` and `try_join!`: several futures in one task, polled with the task's own waker.
//!
//! The macros are expanded by `runtime-macros`; here are their fronts, which know the crate's path, and what expansions call.

use std::cell::Cell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::frame;

/// Waits for several futures at once, and runs the handler of the one that is ready first; the others are dropped.
///
/// ```text
/// select! {
///     biased;                                     // optional
///     pattern = future, if condition => handler,  // the condition is optional
///     ...
///     else => handler,                            // optional
/// }
/// ```
///
/// All conditions are looked at, then all futures are made, those of disabled branches as well. A branch is disabled if its
/// condition is false, or if its future was ready with something that the pattern does not fit. If all are disabled, `else`
/// runs. The handler runs when the futures are gone, so it may use what they had borrowed, and it may await, `break` or `return`.
/// The value of the whole is the handler's.
///
/// Each poll begins with a branch picked at random, so that none is starved by one that is always ready. With `biased;` it
/// begins with the first one.
///
/// The branches are part of the current task, and each wait of theirs is in its record, with its own line. A scope
/// that a dropped branch leaves behind is cancelled, and the next scope out waits for it.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::{sync::mpsc, time};
///
/// let (tx, mut rx) = mpsc::channel(4);
/// tx.send(7).await.unwrap();
/// let got = leakfree::select! {
///     Some(number) = rx.recv() => number,
///     () = time::sleep(time::Duration::from_secs(60)) => panic!("nothing came"),
///     else => 0, // the channel was closed
/// };
/// assert_eq!(got, 7);
/// # });
/// ```
///
/// # Panics
/// If all branches are disabled and there is no `else`.
///
/// # Cancel safety
/// Branches that are not first are dropped: in a loop, use futures that say that they are cancel safe, or make them outside of
/// the loop and put `&mut future` in the branch.
#[cfg(feature = "macros")]
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => {
        $crate::__private::select! { ($crate) $($tokens)* }
    };
}

/// Waits for all of several futures in the current task, and returns their outputs as a tuple. They run concurrently, not in
/// parallel: for that, spawn them.
///
/// Each future is dropped as soon as it is ready. Each poll begins with another one; with `biased;` in front always
/// with the first.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (a, b) = leakfree::join!(async { 1 }, async { "two" });
/// assert_eq!((a, b), (1, "two"));
/// # });
/// ```
///
/// # Cancel safety
/// As all of the futures.
#[cfg(feature = "macros")]
#[macro_export]
macro_rules! join {
    ($($tokens:tt)*) => {
        $crate::__private::join! { ($crate) $($tokens)* }
    };
}

/// Waits for all of several futures in the current task until one of them is ready with an error: `Ok` with the outputs as a
/// tuple, or the first error. The futures that were not ready by then are dropped. Otherwise as [`join!`](crate::join).
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let both: Result<(i32, i32), _> = leakfree::try_join!(async { "1".parse() }, async { "two".parse() });
/// assert_eq!(both.unwrap_err().to_string(), "invalid digit found in string");
/// # });
/// ```
///
/// # Cancel safety
/// As all of the futures.
#[cfg(feature = "macros")]
#[macro_export]
macro_rules! try_join {
    ($($tokens:tt)*) => {
        $crate::__private::try_join! { ($crate) $($tokens)* }
    };
}

/// Polls one arm of a macro. A wait that takes its place from who polls it gets the caller's, and so does one behind a
/// reference, where the standard library is the caller.
#[track_caller]
#[inline]
pub fn poll_arm<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let before = frame::replace_arm(Some(Location::caller()));
    let polled = future.poll(cx);
    frame::replace_arm(before);
    polled
}

/// Asks for a `Result` where the arm of a `try_join!` stands.
#[inline]
pub fn result<T, E>(result: Result<T, E>) -> Result<T, E> {
    result
}

/// The arm whose turn it is, after the last one the first again. `at` is below twice `arms`. (Spelled out in the expansion it would
/// be linted where there is one arm.)
#[inline]
pub fn turn(at: usize, arms: usize) -> usize {
    if at >= arms { at - arms } else { at }
}

/// The branch that a `select!` looks at first.
#[inline]
pub fn first_branch(branches: usize) -> usize {
    thread_local! {
        static RANDOM: Cell<u32> = const { Cell::new(0) };
    }
    #[cfg(feature = "test-util")]
    if let Some(random) = crate::scheduler::context::try_with_shared(|shared| shared.sim.random()).flatten() {
        return ((u64::from(random) * branches as u64) >> 32) as usize;
    }
    let random = RANDOM.try_with(|random| {
        // Marsaglia's xorshift, as in the scheduler; its state is never zero once it has begun.
        let mut x = random.get();
        if x == 0 {
            x = seed();
        }
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        random.set(x);
        x
    });
    // The high half of a product: as even as a remainder, and no division.
    ((u64::from(random.unwrap_or(0)) * branches as u64) >> 32) as usize
}

#[cold]
fn seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32 | 1
}
