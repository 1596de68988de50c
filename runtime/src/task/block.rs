//! Memory for tasks: free lists of each thread by size class, and a depot where threads exchange chains.
//!
//! With ten thousand tasks live, malloc and free of a task cost about 100 ns, a list push and pop 4. A block that is freed on another thread than it was made on
//! simply joins that thread's list; a list that grows past two chains gives one to the depot, an empty one
//! takes one from there. So a producer and a consumer on two threads meet at the depot once in
//! [`CHAIN`] tasks. Blocks are aligned to 16 bytes, never more: glibc is slow beyond that.

use std::alloc::Layout;
use std::ptr::NonNull;

const CLASS_BYTES: usize = 16;
/// What a block has beyond a multiple of that: glibc's have 8 bytes more than a multiple of 16, and a task with a future of 24 bytes, 136
/// in all, fills one to the brim.
const BRIM: usize = 8;
const CLASSES: usize = 128;
const ALIGN: usize = 16;

/// The class of a layout, if we keep blocks for it.
#[inline]
fn class(layout: Layout) -> Option<usize> {
    let class = layout.size().saturating_sub(BRIM).div_ceil(CLASS_BYTES);
    let ours = class < CLASSES && layout.align() <= ALIGN && !cfg!(any(loom, miri));
    ours.then_some(class)
}

/// Memory for `layout`, whose size must not be zero. Aborts if there is none, as `Box` does.
#[inline]
pub(crate) fn alloc(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    match class(layout) {
        Some(class) => lists::pop(class).unwrap_or_else(|| system_alloc(class_layout(class))),
        None => system_alloc(layout),
    }
}

/// Gives memory back.
///
/// # Safety
/// It came from [`alloc`] with the same layout and is not used any more.
#[inline]
pub(crate) unsafe fn dealloc(block: NonNull<u8>, layout: Layout) {
    match class(layout) {
        // SAFETY: the caller's word; blocks of a class are alike.
        Some(class) => unsafe { lists::push(class, block) },
        // SAFETY: the caller's word.
        None => unsafe { std::alloc::dealloc(block.as_ptr(), layout) },
    }
}

fn class_layout(class: usize) -> Layout {
    Layout::from_size_align(class * CLASS_BYTES + BRIM, ALIGN).expect("a small size and a power of two")
}

fn system_alloc(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { std::alloc::alloc(layout) })
        .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

mod lists {
    use super::*;
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    /// Blocks in a chain.
    const CHAIN: usize = 64;
    /// Chains that the depot keeps of a class; what comes beyond goes back to the system.
    const DEPOT_CHAINS: usize = 512;

    /// A free block's first word: the next one.
    struct Free {
        next: Option<NonNull<Free>>,
    }

    /// A linked list of free blocks of one class, and its length.
    #[derive(Clone, Copy)]
    struct List {
        head: Option<NonNull<Free>>,
        len: usize,
    }

    const EMPTY: List = List { head: None, len: 0 };

    // SAFETY: the blocks of a list belong to the list alone.
    unsafe impl Send for List {}

    impl List {
        fn pop(&mut self) -> Option<NonNull<u8>> {
            let block = self.head?;
            // SAFETY: blocks on a list are ours and hold a `Free`.
            self.head = unsafe { block.as_ref() }.next;
            self.len -= 1;
            Some(block.cast())
        }

        /// # Safety
        /// `block` is a free block of this list's class.
        unsafe fn push(&mut self, block: NonNull<u8>) {
            let block = block.cast::<Free>();
            // SAFETY: free, large enough and aligned: every class has at least 8 bytes.
            unsafe { block.write(Free { next: self.head }) };
            self.head = Some(block);
            self.len += 1;
        }
    }

    /// Two chains: `full` is exchanged as a whole, `open` is pushed to and popped from.
    struct Class {
        open: Cell<List>,
        full: Cell<List>,
    }

    struct Cache([Class; CLASSES]);

    impl Drop for Cache {
        fn drop(&mut self) {
            for (class, lists) in self.0.iter().enumerate() {
                give(class, lists.open.get());
                give(class, lists.full.get());
            }
        }
    }

    thread_local! {
        static CACHE: Cache = const {
            Cache([const { Class { open: Cell::new(EMPTY), full: Cell::new(EMPTY) } }; CLASSES])
        };
    }

    static DEPOT: [Mutex<Vec<List>>; CLASSES] = [const { Mutex::new(Vec::new()) }; CLASSES];

    pub(super) fn pop(class: usize) -> Option<NonNull<u8>> {
        CACHE
            .try_with(|cache| {
                let lists = &cache.0[class];
                let mut open = lists.open.get();
                if open.len == 0 {
                    open = lists.full.replace(EMPTY);
                    if open.len == 0 {
                        open = take(class)?;
                    }
                }
                let block = open.pop();
                lists.open.set(open);
                block
            })
            .ok()
            .flatten()
    }

    /// # Safety
    /// `block` is a free block of that class.
    pub(super) unsafe fn push(class: usize, block: NonNull<u8>) {
        let kept = CACHE.try_with(|cache| {
            let lists = &cache.0[class];
            let mut open = lists.open.get();
            if open.len == CHAIN {
                give(class, lists.full.replace(open));
                open = EMPTY;
            }
            // SAFETY: the caller's word.
            unsafe { open.push(block) };
            lists.open.set(open);
        });
        if kept.is_err() {
            // The thread is ending and its lists are gone.
            let mut list = EMPTY;
            // SAFETY: the caller's word.
            unsafe { list.push(block) };
            give(class, list);
        }
    }

    /// Chains in the depot, as its lock's last holder left them: a hint, so that an empty depot is not locked for each block.
    static STOCK: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

    #[cold]
    fn take(class: usize) -> Option<List> {
        if STOCK[class].load(Relaxed) == 0 {
            return None;
        }
        let mut depot = DEPOT[class].lock().unwrap_or_else(|e| e.into_inner());
        let list = depot.pop();
        STOCK[class].store(depot.len(), Relaxed);
        list
    }

    #[cold]
    fn give(class: usize, mut list: List) {
        if list.len == 0 {
            return;
        }
        if list.len >= CHAIN / 2 {
            let mut depot = DEPOT[class].lock().unwrap_or_else(|e| e.into_inner());
            if depot.len() < DEPOT_CHAINS {
                depot.push(list);
                STOCK[class].store(depot.len(), Relaxed);
                return;
            }
        }
        while let Some(block) = list.pop() {
            // SAFETY: every block of a class came from `system_alloc` with this layout.
            unsafe { std::alloc::dealloc(block.as_ptr(), class_layout(class)) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_do_not_overlap() {
        let layout = Layout::from_size_align(200, 8).unwrap();
        let mut live = Vec::new();
        for round in 0..5 {
            for i in 0..1000u64 {
                let block = alloc(layout);
                // SAFETY: fresh memory of 200 bytes.
                unsafe { block.cast::<u64>().write(i + round) };
                live.push((block, i + round));
            }
            for (block, stamp) in live.drain(..) {
                // SAFETY: ours until it is given back, once.
                unsafe {
                    assert_eq!(block.cast::<u64>().read(), stamp);
                    dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn blocks_wander_between_threads() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        for _ in 0..4 {
            let blocks: Vec<usize> = (0..500).map(|_| alloc(layout).as_ptr().expose_provenance()).collect();
            std::thread::spawn(move || {
                for block in blocks {
                    let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
                    // SAFETY: handed over by the other thread, given back once.
                    unsafe { dealloc(block, layout) };
                }
            })
            .join()
            .unwrap();
        }
    }
}
