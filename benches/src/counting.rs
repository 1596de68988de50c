//! An allocator that counts. Only `counts` has it, so that what is timed pays nothing for it.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts what is asked of the allocator below.
#[derive(Debug)]
pub struct Counting<A>(pub A);

static CALLS: AtomicU64 = AtomicU64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// What was allocated so far; all zero in a process without [`Counting`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocated {
    /// Calls that return memory, reallocations included.
    pub calls: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// Bytes asked for and not given back.
    pub live: u64,
}

/// As of now.
pub fn allocated() -> Allocated {
    let (bytes, freed) = (ASKED.load(Relaxed), FREED.load(Relaxed));
    Allocated { calls: CALLS.load(Relaxed), bytes, live: bytes.saturating_sub(freed) }
}

fn count(size: usize) {
    CALLS.fetch_add(1, Relaxed);
    ASKED.fetch_add(size as u64, Relaxed);
}

// SAFETY: every call goes to the allocator below, with the arguments as they are.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        FREED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { self.0.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { self.0.dealloc(ptr, layout) }
    }
}
