//! What a burst of tasks took in the queues is given back when the workers rest.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leakfree_tests::{runtime, until};

/// Counts what is in use in large pieces: of the runtime's own only queues take any. (Tasks lie in slabs, which are smaller, and are kept for the next ones.)
struct Counts;

const LARGE: usize = 64 << 10;
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counts = Counts;

// SAFETY: the system's allocator.
unsafe impl GlobalAlloc for Counts {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            MOST.fetch_max(IN_USE.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            IN_USE.fetch_sub(layout.size(), SeqCst);
        }
        // SAFETY: passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

const TASKS: u64 = 1_000_000;

/// For a worker to go to sleep.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tests count what the process has.
static ALONE: Mutex<()> = Mutex::new(());

fn burst_and_rest(workers: usize) {
    let _alone = ALONE.lock();
    let runtime = runtime(workers);
    let ended = Arc::new(AtomicU64::new(0));
    let before = IN_USE.load(SeqCst);
    for round in 1..=3 {
        MOST.store(0, SeqCst);
        let count = Arc::clone(&ended);
        let bursts = async move {
            for _ in 0..TASKS {
                let count = Arc::clone(&count);
                drop(leakfree::spawn(async move { _ = count.fetch_add(1, SeqCst) }));
            }
        };
        runtime.block_on(async {
            leakfree::spawn(bursts).await.expect("it spawns");
            until(|| ended.load(SeqCst) == round * TASKS).await;
        });
        if workers == 1 {
            assert!(MOST.load(SeqCst) >= 8 * TASKS as usize, "all of them were queued at once");
        }
        let start = Instant::now();
        while IN_USE.load(SeqCst) > before {
            assert!(start.elapsed() < PATIENCE, "{} bytes are kept", IN_USE.load(SeqCst) - before);
            std::thread::yield_now();
        }
    }
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_queue_gives_its_memory_back_when_its_worker_rests() {
    burst_and_rest(1);
}

#[test]
fn so_do_the_queues_of_workers_that_steal_from_one_another() {
    burst_and_rest(4);
}
