//! A seed's steps are the same wherever the allocator puts the tasks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use leakfree::runtime::Builder;
use leakfree::testing::Trace;

/// While it keeps, no address is given out twice.
struct Keeper;

static KEEPS: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Keeper = Keeper;

// SAFETY: the system's allocator, but for what is never given back.
unsafe impl GlobalAlloc for Keeper {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !KEEPS.load(SeqCst) {
            // SAFETY: passed on.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

/// Tasks too large for the runtime's own lists of free blocks; each is woken by a child's end, and is gone before the next one is made.
fn run(seed: u64) -> Trace {
    let runtime = Builder::new().workers(1).seed(seed).build().expect("a runtime starts");
    runtime.block_on(async {
        leakfree::scope(async |s| {
            for _ in 0..4 {
                s.spawn(async {
                    for _ in 0..100 {
                        leakfree::yield_now().await;
                    }
                });
            }
            for _ in 0..20 {
                let child = s.spawn(leakfree::yield_now());
                let joins = s.spawn(async {
                    let large = [1u8; 4096];
                    child.await.unwrap();
                    std::hint::black_box(&large);
                });
                joins.await.unwrap();
            }
        })
        .await;
    });
    let handle = runtime.handle();
    assert!(runtime.shutdown().is_clean());
    handle.trace().expect("it has a seed")
}

#[test]
fn a_seed_gives_the_same_steps_wherever_its_tasks_lie() {
    for seed in 0..20 {
        let reused = run(seed);
        KEEPS.store(true, SeqCst);
        let fresh = run(seed);
        KEEPS.store(false, SeqCst);
        assert_eq!(reused, fresh);
    }
}
