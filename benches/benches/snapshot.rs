//! What a look at a million parked tasks costs: time, memory, and how much a worker feels of it.
//!
//! `cargo bench -p leakfree-benches --bench snapshot [-- --tasks N]`
//!
//! The tasks wait for a reply each, in the root scope. The latency probe is a task on the one worker that yields over and over; what
//! is compared is the 99th percentile of the time between two of its polls, alone and while another thread takes snapshots.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use leakfree::report::verdict::{Occasion, judge};
use leakfree::runtime::{Builder, Runtime};
use leakfree::sync::oneshot;

/// Counts what is allocated, and the most that ever was.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator, with the arguments as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --benches` only wants to know that it starts.
        return ExitCode::SUCCESS;
    }
    let tasks = match args.iter().position(|arg| arg == "--tasks").map(|at| args.get(at + 1)) {
        None => 1_000_000,
        Some(n) => match n.and_then(|n| n.parse().ok()) {
            Some(n) => n,
            None => {
                eprintln!("--tasks needs a number");
                return ExitCode::FAILURE;
            }
        },
    };
    let runtime = Builder::new().workers(1).build().expect("a runtime");
    let parked = park(&runtime, tasks);
    println!("{tasks} parked tasks, 1 worker\n");

    let handle = runtime.handle();
    for round in 0..3 {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let start = Instant::now();
        let snapshot = handle.snapshot();
        let looked = start.elapsed();
        let report = judge(snapshot, Occasion::Live);
        let judged = start.elapsed();
        let peak = PEAK.load(Relaxed) - before;
        println!(
            "round {round}: snapshot {:.0} ms, with verdicts {:.0} ms, at most {:.0} MB extra ({:.0} bytes a task), {} leaked",
            millis(looked),
            millis(judged),
            peak as f64 / 1e6,
            peak as f64 / tasks as f64,
            report.leaked()
        );
    }

    let probe = |meanwhile: bool| {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let gaps = runtime.handle().spawn(async move {
            let mut gaps = Vec::with_capacity(1 << 22);
            let mut last = Instant::now();
            while !told.load(Relaxed) && gaps.len() < gaps.capacity() {
                leakfree::yield_now().await;
                let now = Instant::now();
                gaps.push((now - last).as_nanos() as u32);
                last = now;
            }
            gaps
        });
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if meanwhile {
                drop(handle.report());
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        stop.store(true, SeqCst);
        let mut gaps = runtime.block_on(gaps).expect("the probe ends");
        gaps.sort_unstable();
        let at = |permille: usize| gaps[(gaps.len() - 1) * permille / 1000];
        (at(500), at(990), at(999), gaps[gaps.len() - 1])
    };
    println!("\nlatency probe, ns between two polls {:>8} {:>8} {:>8} {:>10}", "p50", "p99", "p99.9", "max");
    for _ in 0..3 {
        for (name, meanwhile) in [("alone", false), ("while snapshots are taken", true)] {
            let (p50, p99, p999, max) = probe(meanwhile);
            println!("{name:>35} {p50:>8} {p99:>8} {p999:>8} {max:>10}");
        }
    }
    drop(parked);
    let _ = runtime.shutdown();
    ExitCode::SUCCESS
}

/// Spawns so many tasks that wait for a reply each, and returns who could send them.
fn park(runtime: &Runtime, tasks: usize) -> Vec<oneshot::Sender<()>> {
    let senders = runtime.block_on(async {
        let mut senders = Vec::with_capacity(tasks);
        for n in 0..tasks {
            let (tx, rx) = oneshot::channel::<()>();
            leakfree::spawn(async move {
                let _ = rx.await;
            });
            senders.push(tx);
            if n % 1000 == 0 {
                leakfree::yield_now().await;
            }
        }
        senders
    });
    while runtime.handle().snapshot().tasks.len() < tasks {
        std::thread::sleep(Duration::from_millis(10));
    }
    senders
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
