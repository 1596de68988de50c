//! The attribute macros of leakfree. Use them through the `leakfree` crate, as `#[leakfree::main]` and
//! `#[leakfree::test]`; and what is behind `select!`, `join!` and `try_join!`.

use proc_macro::TokenStream;

mod arms;
mod entry;
mod join;
mod options;
mod select;

/// Runs an `async fn` as the body of a program: starts a runtime, runs the function as the root of its task tree, shuts
/// the runtime down when the body returns, and prints a report of every task that is alive at that moment.
///
/// The function is `async`, takes no arguments and has no generic parameters; it may return anything that
/// `fn main` may return. It need not be called `main`.
///
/// ```ignore
/// #[leakfree::main(workers = 2, grace = "500ms")]
/// async fn main() -> Result<(), std::io::Error> {
///     let listener = leakfree::net::TcpListener::bind("127.0.0.1:0").await?;
///     println!("{}", listener.local_addr()?);
///     Ok(())
/// }
/// ```
///
/// # Options
///
/// All are optional; what is left out keeps the default of `leakfree::runtime::Builder`.
///
/// | option    | value                           | what it sets                                                        |
/// |-----------|---------------------------------|---------------------------------------------------------------------|
/// | `workers` | a whole number, at least 1      | how many worker threads run tasks                                   |
/// | `name`    | a string                        | the runtime's name, which its threads bear                          |
/// | `grace`   | a duration, such as `"5s"`      | how long tasks may run on after the cancel at shutdown              |
/// | `settle`  | a duration, such as `"100ms"`   | how long what is about to finish may take before leaks are judged   |
/// | `on_leak` | `report` or `fail`              | whether a leak is only reported, or makes the process fail as well  |
/// | `quiescence` | a duration, or `off` (default) | after how long without anything that can run the report is printed and the process exits |
/// | `baseline` | a file, such as `"leaks.txt"`  | known leaks: exactly these are let pass, see `leakfree::report::baseline` |
/// | `crate`   | a path, by default `::leakfree` | where to find leakfree, if it was renamed or is re-exported         |
///
/// A duration is a whole number and a unit (`ns`, `us`, `ms`, `s` or `min`), and is read when the program is compiled.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Flavor::Main, options.into(), item.into()).into()
}

/// Runs an `async fn` as a test on a runtime of its own, which fails when it leaves a task behind.
///
/// The function is `async`, takes no arguments and has no generic parameters; it may return `()` or a `Result`.
/// `#[test]` is added by the macro. `#[ignore]`, `#[should_panic]` and `#[cfg(...)]` work as they do on any test.
///
/// ```ignore
/// #[leakfree::test]
/// async fn a_reply_arrives() {
///     let (tx, rx) = leakfree::sync::oneshot::channel();
///     let handle = leakfree::spawn(async move { tx.send(1) });
///     assert_eq!(rx.await, Ok(1));
///     handle.await;
/// }
/// ```
///
/// # Options
///
/// All are optional; what is left out keeps the default that tests have.
///
/// | option    | value                           | what it sets                                                        |
/// |-----------|---------------------------------|---------------------------------------------------------------------|
/// | `workers` | a whole number, at least 1      | how many worker threads run tasks                                   |
/// | `name`    | a string                        | the runtime's name, which its threads bear                          |
/// | `grace`   | a duration, such as `"5s"`      | how long tasks may run on after the cancel at the test's end        |
/// | `settle`  | a duration, such as `"100ms"`   | how long what is about to finish may take before leaks are judged   |
/// | `on_leak` | `report` or `fail`              | whether a leak is only reported, or fails the test                  |
/// | `paused`  | nothing, `true` or `false`      | whether time stands still while anything can run, and then jumps    |
/// | `schedules` | a whole number, at least 1    | makes it a simulation: so many runs, each in an order of its own    |
/// | `seed`    | a whole number                  | makes it a simulation: the seed of the first run, else 0            |
/// | `quiescence` | a duration (`"1s"`), or `off` | after how long without anything that can run the test fails, in place of hanging |
/// | `baseline` | a file, such as `"leaks.txt"`  | known leaks: exactly these are let pass, see `leakfree::report::baseline` |
/// | `crate`   | a path, by default `::leakfree` | where to find leakfree, if it was renamed or is re-exported         |
///
/// A duration is a whole number and a unit (`ns`, `us`, `ms`, `s` or `min`), and is read when the test is compiled.
///
/// # Simulations
///
/// With `schedules` or `seed` (and the feature `test-util`) one thread plays all workers, three unless `workers` says otherwise, in an order that the
/// seed chooses, and time is virtual: see `leakfree::runtime::Builder::seed`. The body runs once for each of the seeds, each time on a
/// runtime of its own and with its leak report. The first failure ends the test and says how to have it again:
///
/// ```text
/// leakfree: test orders::arrive failed with seed 711, run 712 of 1000; to replay it:
///     LEAKFREE_SEED=711 cargo test orders::arrive
/// ```
///
/// With `LEAKFREE_SEED` in the environment that one schedule is run; with `LEAKFREE_TRACE=1` each step of it is printed. A test that hangs fails
/// at once, for a simulation knows when no step is left.
///
/// ```ignore
/// #[leakfree::test(schedules = 1000)]
/// async fn orders_arrive() {
///     // ...
/// }
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Flavor::Test, options.into(), item.into()).into()
}

/// Behind `leakfree::select!`, where it is documented: that one puts the path of the crate first, in parentheses.
#[doc(hidden)]
#[proc_macro]
pub fn select(input: TokenStream) -> TokenStream {
    select::expand(input.into()).into()
}

/// Behind `leakfree::join!`, as [`select`].
#[doc(hidden)]
#[proc_macro]
pub fn join(input: TokenStream) -> TokenStream {
    join::expand(join::Flavor::Join, input.into()).into()
}

/// Behind `leakfree::try_join!`, as [`select`].
#[doc(hidden)]
#[proc_macro]
pub fn try_join(input: TokenStream) -> TokenStream {
    join::expand(join::Flavor::TryJoin, input.into()).into()
}
