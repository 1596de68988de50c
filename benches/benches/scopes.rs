//! What scopes cost: cancelling one with many children, and spawning beside many siblings or deep in the tree.
//!
//! `cargo bench -p leakfree-benches --bench scopes [-- --quick]`
//!
//! Each row is the median of several repetitions, the rows of a table taken in turn so that a drift of the machine meets
//! all of them. What is claimed is a ratio within one table: the cost per child, or per spawn, stays flat.

use std::future::pending;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use leakfree::runtime::{Builder, Handle, Runtime};
use leakfree::{Scope, scope};

const WORKERS: usize = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --benches` only wants to know that it starts.
        return ExitCode::SUCCESS;
    }
    let repetitions = if args.iter().any(|arg| arg == "--quick") { 3 } else { 9 };

    println!("{WORKERS} workers, medians of {repetitions}\n");
    println!("cancel a scope with N parked children, until all are gone and the scope has ended");
    table("N", &[1_000, 10_000, 100_000], repetitions, "child", cancel);
    println!("spawn and join one child, beside N parked siblings");
    table("N", &[0, 100, 10_000, 100_000], repetitions, "spawn", spawn_beside);
    println!("spawn and join one child, N scopes deep");
    table("N", &[1, 10, 100, 1_000], repetitions, "spawn", spawn_deep);
    println!("a child that could be a parent and is none, against one that opens a scope");
    table("scopes", &[0, 1], repetitions, "child", possible_parent);
    ExitCode::SUCCESS
}

/// Takes `measure(n)`, which says how long how many operations took, for each `n` in turn, and prints the medians.
fn table(
    label: &str,
    sizes: &[usize],
    repetitions: usize,
    unit: &str,
    measure: fn(usize) -> (Duration, usize),
) {
    let mut taken = vec![Vec::new(); sizes.len()];
    for repetition in 0..repetitions {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for row in order {
            let (time, ops) = measure(sizes[row]);
            taken[row].push(time.as_nanos() as f64 / ops as f64);
        }
    }
    let medians: Vec<f64> = taken.iter_mut().map(|times| median(times)).collect();
    println!("{label:>10} {:>14} {:>14} {:>10}", format!("ns per {unit}"), "min .. max", "to first");
    for (row, &size) in sizes.iter().enumerate() {
        let spread = format!("{:.0} .. {:.0}", taken[row][0], taken[row][taken[row].len() - 1]);
        println!("{size:>10} {:>14.1} {spread:>14} {:>10.2}", medians[row], medians[row] / medians[0]);
    }
    println!();
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn runtime() -> Runtime {
    Builder::new().workers(WORKERS).build().expect("a runtime starts")
}

/// Spawns `n` children that never end, and waits until all of them are parked.
async fn park(s: &Scope, n: usize) {
    for _ in 0..n {
        s.spawn(pending::<()>());
    }
    while Handle::current().unwakeable_total() < n as u64 {
        leakfree::yield_now().await;
    }
}

fn cancel(children: usize) -> (Duration, usize) {
    let runtime = runtime();
    let task = runtime.handle().spawn(async move {
        let mut start = Instant::now();
        scope(async |s| {
            park(&s, children).await;
            start = Instant::now();
            s.cancel("measured");
        })
        .await;
        start.elapsed()
    });
    (runtime.block_on(task).expect("it returns"), children)
}

const SPAWNS: usize = 20_000;

async fn spawn_and_join(s: &Scope) -> Duration {
    for _ in 0..SPAWNS / 10 {
        s.spawn(async {}).await.expect("it returns");
    }
    let start = Instant::now();
    for _ in 0..SPAWNS {
        s.spawn(async {}).await.expect("it returns");
    }
    start.elapsed()
}

fn spawn_beside(siblings: usize) -> (Duration, usize) {
    let runtime = runtime();
    let task = runtime.handle().spawn(scope(async move |s| {
        park(&s, siblings).await;
        let time = spawn_and_join(&s).await;
        s.cancel("measured");
        time
    }));
    (runtime.block_on(task).expect("it returns"), SPAWNS)
}

/// A scope in a task in a scope, `depth` times.
fn deeper(depth: usize) -> futures::future::BoxFuture<'static, Duration> {
    Box::pin(scope(async move |s| {
        if depth == 1 {
            spawn_and_join(&s).await
        } else {
            s.spawn(deeper(depth - 1)).await.expect("it returns")
        }
    }))
}

fn spawn_deep(depth: usize) -> (Duration, usize) {
    let runtime = runtime();
    let task = runtime.handle().spawn(deeper(depth));
    (runtime.block_on(task).expect("it returns"), SPAWNS)
}

fn possible_parent(scopes: usize) -> (Duration, usize) {
    let runtime = runtime();
    let task = runtime.handle().spawn(scope(async move |s| {
        let start = Instant::now();
        for _ in 0..SPAWNS {
            let child = if scopes == 0 { s.spawn(async {}) } else { s.spawn(scope(async |_| {})) };
            child.await.expect("it returns");
        }
        start.elapsed()
    }));
    (runtime.block_on(task).expect("it returns"), SPAWNS)
}
