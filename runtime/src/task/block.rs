//! Memory for tasks: each thread has a magazine of free blocks for each size class, and a depot of slabs is behind them.
//!
//! With ten thousand tasks live, malloc and free of a task cost about 100 ns, a push to a magazine and a pop 4. A magazine is an array of
//! addresses, so that who takes a block does not wait for that block's memory. A block that is freed on another thread than it was made
//! on simply joins that thread's magazine. A full one gives half to the depot, an empty one takes as many from there: threads meet once in
//! [`BATCH`] tasks.
//!
//! The depot keeps the blocks by [slab](lists::Slab), a piece of memory of 32 KiB, and hands out those of one slab in the order of their
//! addresses. Tasks end in another order than they were spawned in: one list for all would be shuffled by that, and a hundred thousand
//! tasks would lie all over their memory in the end. That costs 300 ns a task, measured on a tree of tasks.

use std::alloc::Layout;
use std::ptr::NonNull;

/// Sizes are rounded up to this.
const GRAIN: usize = 8;
/// The smallest size that we keep blocks for, and the largest. No task is as small.
const SIZES: std::ops::RangeInclusive<usize> = 48..=2048;
const CLASSES: usize = *SIZES.end() / GRAIN + 1;
const ALIGN_MAX: usize = 16;

/// The class of a layout, if we keep blocks for it: its blocks' size in grains. Where the alignment is more than a grain it is a multiple
/// of that, too.
#[inline]
fn class(layout: Layout) -> Option<usize> {
    let align = layout.align().max(GRAIN);
    let class = layout.size().div_ceil(align) * (align / GRAIN);
    let ours = SIZES.contains(&layout.size()) && align <= ALIGN_MAX && !cfg!(any(loom, miri));
    ours.then_some(class)
}

/// Memory for `layout`, whose size must not be zero. Aborts if there is none, as `Box` does.
#[inline]
pub(crate) fn alloc(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    match class(layout) {
        Some(class) => lists::pop(class),
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

fn system_alloc(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { std::alloc::alloc(layout) })
        .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

mod lists {
    use super::*;
    use std::cell::Cell;
    use std::ptr;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Mutex, MutexGuard};

    type Block = NonNull<u8>;

    /// Blocks that a thread takes from the depot at once, or gives to it.
    const BATCH: usize = 64;
    const MAGAZINE: usize = 2 * BATCH;

    // ---- a thread's blocks ----------------------------------------------------------------------

    /// A class's magazine: blocks from `base` up to `top`, places up to `end`. All null before its first use.
    struct Class {
        base: Cell<*mut Block>,
        top: Cell<*mut Block>,
        end: Cell<*mut Block>,
    }

    thread_local! {
        /// Nothing is dropped here, so that a use need not ask whether it is there still.
        static CACHE: [Class; CLASSES] = const { [const { Class::new() }; CLASSES] };
        static GIVES_BACK: GivesBack = const { GivesBack };
    }

    /// Gives a thread's magazines back when it ends. It has none from there on.
    struct GivesBack;

    impl Class {
        const fn new() -> Class {
            Class {
                base: Cell::new(ptr::null_mut()),
                top: Cell::new(ptr::null_mut()),
                end: Cell::new(ptr::null_mut()),
            }
        }

        fn is_loaded(&self) -> bool {
            !self.base.get().is_null()
        }

        /// Its own memory, at first use. False if the thread is ending.
        fn load(&self) -> bool {
            if !self.is_loaded() && GIVES_BACK.try_with(|_| ()).is_ok() {
                self.set(Box::into_raw(Box::new([Block::dangling(); MAGAZINE])).cast::<Block>(), MAGAZINE);
            }
            self.is_loaded()
        }

        /// That memory, with nothing in it.
        fn set(&self, base: *mut Block, places: usize) {
            self.base.set(base);
            self.top.set(base);
            self.end.set(base.wrapping_add(places));
        }

        /// It does not unwind, and whoever calls it need not keep in memory what would be dropped then.
        #[cold]
        #[inline(never)]
        extern "C" fn refill(&self, class: usize) -> Block {
            if !self.load() {
                let mut block = Block::dangling();
                take(class, std::slice::from_mut(&mut block));
                return block;
            }
            let base = self.base.get();
            // SAFETY: the magazine is empty, and nobody else has it (it is the thread's own, and `take` runs no code but this module's
            // and the allocator's); its places hold addresses from the beginning.
            let taken = take(class, unsafe { std::slice::from_raw_parts_mut(base, BATCH) });
            self.top.set(base.wrapping_add(taken - 1));
            // SAFETY: `take` has written that place.
            unsafe { self.top.get().read() }
        }

        /// Makes place, and takes the block.
        ///
        /// # Safety
        /// It is a free block of that class.
        #[cold]
        #[inline(never)]
        unsafe fn spill(&self, class: usize, block: Block) {
            let is_new = !self.is_loaded();
            if !self.load() {
                // SAFETY: the caller's word.
                return unsafe { give(class, &[block]) };
            }
            let base = self.base.get();
            if !is_new {
                // The oldest go, the others move down.
                // SAFETY: the magazine is full, all its places are written; nobody else has it (it is the thread's own, and `give` runs
                // no code but this module's and the allocator's).
                unsafe {
                    give(class, std::slice::from_raw_parts(base, BATCH));
                    ptr::copy_nonoverlapping(base.add(BATCH), base, MAGAZINE - BATCH);
                }
                self.top.set(base.wrapping_add(MAGAZINE - BATCH));
            }
            // SAFETY: there is place.
            unsafe { self.top.get().write(block) };
            self.top.set(self.top.get().wrapping_add(1));
        }
    }

    impl Drop for GivesBack {
        fn drop(&mut self) {
            CACHE.with(|cache| {
                for (class, magazine) in cache.iter().enumerate().filter(|(_, magazine)| magazine.is_loaded())
                {
                    let (base, top) = (magazine.base.get(), magazine.top.get());
                    magazine.set(ptr::null_mut(), 0);
                    // SAFETY: places from `base` up to `top` are written; the box came from `load`, and nobody uses it from here on.
                    unsafe {
                        give(class, std::slice::from_raw_parts(base, top.offset_from(base) as usize));
                        drop(Box::from_raw(base.cast::<[Block; MAGAZINE]>()));
                    }
                }
            });
        }
    }

    #[inline]
    pub(super) fn pop(class: usize) -> Block {
        CACHE.with(|cache| {
            let magazine = &cache[class];
            let top = magazine.top.get();
            if top == magazine.base.get() {
                return magazine.refill(class);
            }
            let top = top.wrapping_sub(1);
            magazine.top.set(top);
            // SAFETY: places from `base` up to the former `top` are written.
            unsafe { top.read() }
        })
    }

    /// # Safety
    /// `block` is a free block of that class, from `pop`.
    #[inline]
    pub(super) unsafe fn push(class: usize, block: Block) {
        CACHE.with(|cache| {
            let magazine = &cache[class];
            let top = magazine.top.get();
            if top == magazine.end.get() {
                // SAFETY: the caller's word.
                return unsafe { magazine.spill(class, block) };
            }
            // SAFETY: below `end` there is place.
            unsafe { top.write(block) };
            magazine.top.set(top.wrapping_add(1));
        });
    }

    // ---- the depot ------------------------------------------------------------------------------

    /// Slabs are aligned to this, so that a block's address tells its slab.
    const SLAB: usize = 32 * 1024;
    /// glibc has 16 bytes of its own before each piece: with these left out it can lay one slab right behind the other.
    const SLAB_BYTES: usize = SLAB - 64;
    const WORDS: usize = (SLAB / *SIZES.start()).div_ceil(64);
    /// Where the first block is.
    const FIRST: usize = size_of::<Slab>().next_multiple_of(ALIGN_MAX);
    /// What the depot keeps of slabs that are free as a whole, of all classes together; what comes beyond goes back to the system.
    const KEPT: usize = 16 << 20;

    /// The front of a slab.
    pub(super) struct Slab {
        /// Its neighbours in the depot, while it is `listed` there.
        before: Option<NonNull<Slab>>,
        after: Option<NonNull<Slab>>,
        listed: bool,
        /// How many blocks of it are in the depot, and at which number something is to be done.
        free: u16,
        mark: u16,
        /// Which: a bit for each.
        map: [u64; WORDS],
    }

    /// The slabs of a class from which blocks can be taken: those that were given enough back since they were emptied.
    struct Depot {
        first: Option<NonNull<Slab>>,
        last: Option<NonNull<Slab>>,
    }

    // SAFETY: a slab's front is touched under its depot's lock only, but for that of one which is in no depot.
    unsafe impl Send for Depot {}

    static DEPOTS: [Mutex<Depot>; CLASSES] =
        [const { Mutex::new(Depot { first: None, last: None }) }; CLASSES];

    /// Bytes of slabs that are free as a whole. Relaxed, and a little off at times: it is a bound on waste.
    static WHOLE: AtomicUsize = AtomicUsize::new(0);

    fn depot(class: usize) -> MutexGuard<'static, Depot> {
        DEPOTS[class].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Blocks in a slab of that class.
    const fn capacity(class: usize) -> u16 {
        ((SLAB_BYTES - FIRST) / (class * GRAIN)) as u16
    }

    /// A slab is in its depot when it was given so many blocks back since it was emptied. Not before: a few blocks of each of many slabs
    /// are what slabs are to prevent.
    fn threshold(class: usize) -> u16 {
        capacity(class).div_ceil(8)
    }

    /// What an offset is to be multiplied by, to get the number of a block above `INVERSE_BITS`. Exact for multiples of the size: what is
    /// too much is less than one for each byte of the offset, and those are fewer than there are parts of one.
    const INVERSES: [u32; CLASSES] = {
        let mut inverses = [0; CLASSES];
        let mut class = 1;
        while class < CLASSES {
            inverses[class] = (1u32 << INVERSE_BITS).div_ceil((class * GRAIN) as u32);
            class += 1;
        }
        inverses
    };
    const INVERSE_BITS: u32 = 31;

    /// The lowest so many bits, 64 at the most, but not none.
    fn ones(bits: usize) -> u64 {
        u64::MAX >> (64 - bits)
    }

    impl Slab {
        /// Sets the bits of so many blocks, from `at` on.
        #[inline]
        fn mark_free(&mut self, at: usize, blocks: usize) {
            let (mut word, mut bit, mut left) = (at / 64, at % 64, blocks);
            while left > 0 {
                let here = left.min(64 - bit);
                let bits = ones(here) << bit;
                debug_assert!(self.map[word] & bits == 0, "given back twice");
                self.map[word] |= bits;
                (word, bit, left) = (word + 1, 0, left - here);
            }
        }
    }

    fn slab_layout() -> Layout {
        Layout::from_size_align(SLAB_BYTES, SLAB).expect("a small size and a power of two")
    }

    /// A slab with all its blocks, in no depot yet.
    #[cold]
    fn new_slab(class: usize) -> NonNull<Slab> {
        let slab = system_alloc(slab_layout()).cast::<Slab>();
        let free = capacity(class);
        let map = std::array::from_fn(|word| match usize::from(free).saturating_sub(word * 64) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        });
        WHOLE.fetch_add(SLAB, Relaxed);
        // SAFETY: fresh memory, large enough and aligned.
        unsafe { slab.write(Slab { before: None, after: None, listed: false, free, mark: free, map }) };
        slab
    }

    impl Depot {
        /// # Safety
        /// The slab is of this depot's class, and not listed.
        unsafe fn list(&mut self, class: usize, slab: NonNull<Slab>, last: bool) {
            // SAFETY: passed on; listed slabs are alive.
            unsafe {
                let (before, after) = if last { (self.last, None) } else { (None, self.first) };
                let place = &mut *slab.as_ptr();
                (place.before, place.after, place.listed) = (before, after, true);
                place.mark = capacity(class);
                self.join(before, Some(slab));
                self.join(Some(slab), after);
            }
        }

        /// # Safety
        /// The slab is listed here.
        unsafe fn unlist(&mut self, slab: NonNull<Slab>) {
            // SAFETY: passed on; its neighbours are listed, hence alive.
            unsafe {
                let place = &mut *slab.as_ptr();
                let (before, after) = (place.before, place.after);
                place.listed = false;
                self.join(before, after);
            }
        }

        /// Makes two the neighbours of each other, or one the first or the last.
        ///
        /// # Safety
        /// They are listed here.
        unsafe fn join(&mut self, before: Option<NonNull<Slab>>, after: Option<NonNull<Slab>>) {
            // SAFETY: passed on.
            unsafe {
                match before {
                    Some(slab) => (*slab.as_ptr()).after = after,
                    None => self.first = after,
                }
                match after {
                    Some(slab) => (*slab.as_ptr()).before = before,
                    None => self.last = before,
                }
            }
        }

        /// Takes as many as there are, up to the length of `to`, in the order of their addresses, the last one first in `to`. Returns how
        /// many.
        fn take(&mut self, class: usize, to: &mut [Block]) -> usize {
            // Filled from its end.
            let mut left = to.len();
            while let (Some(slab), true) = (self.first, left > 0) {
                // SAFETY: listed, hence alive, and touched under the lock that `self` is behind.
                let front = unsafe { &mut *slab.as_ptr() };
                if front.free == capacity(class) {
                    WHOLE.fetch_sub(SLAB, Relaxed);
                }
                let before = left;
                for (word, map) in front.map.iter_mut().enumerate() {
                    while *map != 0 && left > 0 {
                        // Neighbours together: there are seldom few.
                        let at = map.trailing_zeros();
                        let run = ((*map >> at).trailing_ones() as usize).min(left);
                        *map &= !(ones(run) << at);
                        // SAFETY: in bounds: only bits of the slab's blocks are ever set.
                        let lowest = unsafe {
                            slab.cast::<u8>().add(FIRST + (word * 64 + at as usize) * class * GRAIN)
                        };
                        for (n, place) in to[left - run..left].iter_mut().rev().enumerate() {
                            // SAFETY: as above.
                            *place = unsafe { lowest.add(n * class * GRAIN) };
                        }
                        left -= run;
                    }
                }
                front.free -= (before - left) as u16;
                if front.free == 0 {
                    front.mark = threshold(class);
                    // SAFETY: it is the first.
                    unsafe { self.unlist(slab) };
                }
            }
            let taken = to.len() - left;
            if left > 0 {
                to.copy_within(left.., 0);
            }
            taken
        }

        /// Takes blocks back. Slabs that are to go back to the system are returned, one `after` the other.
        ///
        /// # Safety
        /// They are free blocks of this class, and in no magazine.
        unsafe fn give(&mut self, class: usize, blocks: &[Block]) -> Option<NonNull<Slab>> {
            let mut gone = None;
            let mut rest = blocks;
            while let Some(&block) = rest.first() {
                // SAFETY: a block is not at the beginning of its slab, and has its provenance from there.
                let slab = unsafe { block.byte_sub(block.addr().get() % SLAB) }.cast::<Slab>();
                // SAFETY: a slab with blocks outside the depot is alive, and touched under the lock that `self` is behind.
                let front = unsafe { &mut *slab.as_ptr() };
                // Those of one slab together: their number is written once.
                let mut given = 0;
                while let Some(&block) = rest.first() {
                    let offset = block.addr().get().wrapping_sub(slab.addr().get());
                    if offset >= SLAB {
                        break;
                    }
                    let scaled = (offset - FIRST) as u64 * u64::from(INVERSES[class]);
                    let at = (scaled >> INVERSE_BITS) as usize;
                    debug_assert!(FIRST + at * class * GRAIN == offset);
                    // With the neighbours behind it that come next, as those of tasks that end in the order in which they were spawned. Behind
                    // a slab's last block is none: there its neighbour's front is.
                    let mut run = 1;
                    while rest
                        .get(run)
                        .is_some_and(|next| next.addr().get() == block.addr().get() + run * class * GRAIN)
                    {
                        run += 1;
                    }
                    rest = &rest[run..];
                    given += run;
                    front.mark_free(at, run);
                }
                front.free += given as u16;
                if front.free >= front.mark {
                    // SAFETY: as said above.
                    unsafe { self.mark(class, slab, &mut gone) };
                }
            }
            gone
        }

        /// So many blocks of it are there that the slab is to be listed, or is free as a whole.
        ///
        /// # Safety
        /// The slab is of this depot.
        #[inline(never)]
        unsafe fn mark(&mut self, class: usize, slab: NonNull<Slab>, gone: &mut Option<NonNull<Slab>>) {
            // SAFETY: it is listed, or not, as it says, and of this depot. One that goes is in no list, and all its blocks are here.
            unsafe {
                let front = &mut *slab.as_ptr();
                if front.free < capacity(class) {
                    return self.list(class, slab, false);
                }
                debug_assert!(front.free == capacity(class), "given back twice");
                if front.listed {
                    self.unlist(slab);
                }
                // One stays in any case, else a few tasks more and less would mean a slab from the system and back each time.
                if WHOLE.load(Relaxed) >= KEPT && self.first.is_some() {
                    (*slab.as_ptr()).after = gone.replace(slab);
                } else {
                    WHOLE.fetch_add(SLAB, Relaxed);
                    // Last: while others have blocks to give this one may go back.
                    self.list(class, slab, true);
                }
            }
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn whole() -> usize {
        WHOLE.load(Relaxed)
    }

    /// Fills `to` as far as the depot does, at least one, the one to be used first at the end. Returns how many.
    #[cold]
    fn take(class: usize, to: &mut [Block]) -> usize {
        let mut taken = depot(class).take(class, to);
        if taken == 0 {
            // The allocator is not ours: it is not called under the lock.
            let slab = new_slab(class);
            let mut depot = depot(class);
            // SAFETY: nobody knows of it yet.
            unsafe { depot.list(class, slab, false) };
            taken = depot.take(class, to);
        }
        taken
    }

    /// # Safety
    /// They are free blocks of that class, and in no magazine any more.
    #[cold]
    unsafe fn give(class: usize, blocks: &[Block]) {
        // SAFETY: passed on.
        let mut gone = unsafe { depot(class).give(class, blocks) };
        while let Some(slab) = gone {
            // SAFETY: nobody has a block of it, and it is in no list: it is ours.
            unsafe {
                gone = slab.as_ref().after;
                std::alloc::dealloc(slab.as_ptr().cast(), slab_layout());
            }
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

    // Miri has the blocks of the system.
    #[cfg(not(miri))]
    #[test]
    fn what_is_freed_in_any_order_is_handed_out_slab_by_slab() {
        let layout = Layout::from_size_align(1000, 8).unwrap();
        let blocks = |n: usize| (0..n).map(|_| alloc(layout)).collect::<Vec<_>>();
        let mut live = blocks(4000);
        for round in 0..3 {
            // 1,999 has no divisor in common with 4,000: each once, far from the one before.
            for i in 0..live.len() {
                // SAFETY: ours, given back once.
                unsafe { dealloc(live[i * 1999 % live.len()], layout) };
            }
            live = blocks(4000);
            let slab = |block: &NonNull<u8>| block.addr().get() / (32 * 1024);
            let moves = live.windows(2).filter(|pair| slab(&pair[0]) != slab(&pair[1])).count();
            assert!(moves < 600, "round {round}: {moves} times from slab to slab, of at least 130");
            let mut addresses: Vec<_> = live.iter().map(|block| block.addr().get()).collect();
            addresses.sort_unstable();
            assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "they overlap");
        }
        for block in live {
            // SAFETY: as above.
            unsafe { dealloc(block, layout) };
        }
    }

    // Miri has the blocks of the system.
    #[cfg(not(miri))]
    #[test]
    fn alignment_is_kept_and_what_nobody_needs_goes_back() {
        for (size, align) in [(48, 16), (104, 8), (136, 16), (137, 1), (2040, 8), (2048, 16), (4096, 64)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            let live: Vec<_> = (0..40_000_000 / size / 4).map(|_| alloc(layout)).collect();
            assert!(live.iter().all(|block| block.addr().get() % align == 0), "{layout:?}");
            for block in live {
                // SAFETY: ours, given back once.
                unsafe { dealloc(block, layout) };
            }
        }
        let whole = lists::whole();
        assert!(whole <= (16 << 20) + 8 * 32 * 1024, "{whole} bytes are kept");
    }
}
