//! An intrusive doubly linked list that can be walked in batches.
//!
//! The list owns nothing: who puts a node in keeps it alive until it is taken out. A walker that must let go of
//! the list's lock between batches leaves a [`Cursor`] in it, a node that is no element: elements come and
//! go on both sides of it.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;

/// The place of a node in a list. All zero while it is in none.
pub(crate) struct Links(UnsafeCell<Ends>);

#[derive(Clone, Copy)]
struct Ends {
    prev: Option<NonNull<Links>>,
    next: Option<NonNull<Links>>,
}

// SAFETY: only the list's methods touch the pointers, and those need `&mut List` of the one list the node
// is in.
unsafe impl Sync for Links {}
// SAFETY: as above.
unsafe impl Send for Links {}

impl Links {
    pub(crate) const fn new() -> Links {
        Links(UnsafeCell::new(Ends { prev: None, next: None }))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

/// A list of nodes; what a node is a part of, the user of the list knows.
#[derive(Debug, Default)]
pub(crate) struct List {
    head: Option<NonNull<Links>>,
    len: usize,
    /// Cursors that are in the list now: seldom more than one.
    cursors: Vec<NonNull<Links>>,
}

// SAFETY: nodes are reached through the list only, under whatever guards the list.
unsafe impl Send for List {}

/// # Safety
/// `node` is alive, and the caller has the list that it is in to itself (or it is in none).
unsafe fn ends<'a>(node: NonNull<Links>) -> &'a mut Ends {
    // SAFETY: the caller's word; the reference is used up within one statement of the list.
    unsafe { &mut *(*node.as_ptr()).0.get() }
}

impl List {
    /// The number of elements, cursors left out.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts a node in front.
    ///
    /// # Safety
    /// It is in no list, and lives, in place, until it has been removed.
    pub(crate) unsafe fn push_front(&mut self, node: NonNull<Links>) {
        // SAFETY: passed on.
        unsafe { self.link_front(node) };
        self.len += 1;
    }

    unsafe fn link_front(&mut self, node: NonNull<Links>) {
        // SAFETY: passed on; `head` is in the list, hence alive.
        unsafe {
            *ends(node) = Ends { prev: None, next: self.head };
            if let Some(head) = self.head {
                ends(head).prev = Some(node);
            }
        }
        self.head = Some(node);
    }

    /// Takes a node out.
    ///
    /// # Safety
    /// It is in this list.
    pub(crate) unsafe fn remove(&mut self, node: NonNull<Links>) {
        // SAFETY: passed on.
        unsafe { self.unlink(node) };
        self.len -= 1;
    }

    unsafe fn unlink(&mut self, node: NonNull<Links>) {
        // SAFETY: passed on; neighbours are in the list, hence alive.
        unsafe {
            let Ends { prev, next } = std::mem::replace(ends(node), Ends { prev: None, next: None });
            match prev {
                Some(prev) => ends(prev).next = next,
                None => self.head = next,
            }
            if let Some(next) = next {
                ends(next).prev = prev;
            }
        }
    }

    /// Calls `visit` with up to `most` elements, beginning at the cursor (which is put into the list by
    /// the first call), and moves the cursor behind them. False at the end; the cursor is then out.
    ///
    /// An element that is in the list during the whole walk is visited once. New ones go in front, so a
    /// walk ends.
    ///
    /// # Safety
    /// The cursor stays in place until the walk has ended, and all calls are on the same list.
    pub(crate) unsafe fn walk(
        &mut self,
        cursor: &mut Cursor,
        most: usize,
        mut visit: impl FnMut(NonNull<Links>),
    ) -> bool {
        let place = NonNull::from(&cursor.links);
        let mut next = self.head;
        if cursor.linked {
            // SAFETY: a linked cursor is in this list.
            unsafe {
                next = ends(place).next;
                self.unlink(place);
            }
            self.cursors.retain(|&other| other != place);
            cursor.linked = false;
        }
        // As nearly always, for ours was taken out.
        let alone = self.cursors.is_empty();
        let mut last = None;
        let mut seen = 0;
        while let Some(node) = next {
            if seen == most {
                break;
            }
            if alone || !self.cursors.contains(&node) {
                visit(node);
                seen += 1;
            }
            last = Some(node);
            // SAFETY: in the list, hence alive.
            next = unsafe { ends(node).next };
        }
        let (Some(_), Some(last)) = (next, last) else { return false };
        // SAFETY: `last` and `next` are in the list; the cursor stays in place by the caller's word.
        unsafe {
            *ends(place) = Ends { prev: Some(last), next };
            ends(last).next = Some(place);
            if let Some(next) = next {
                ends(next).prev = Some(place);
            }
        }
        self.cursors.push(place);
        cursor.linked = true;
        true
    }
}

/// A walker's place in a list. Box it, or otherwise keep it in place while a walk is on.
#[derive(Debug)]
pub(crate) struct Cursor {
    links: Links,
    linked: bool,
}

impl Cursor {
    pub(crate) fn new() -> Cursor {
        Cursor { links: Links::new(), linked: false }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[repr(C)]
    struct Node {
        links: Links,
        value: u32,
    }

    fn node(value: u32) -> NonNull<Links> {
        NonNull::from(Box::leak(Box::new(Node { links: Links::new(), value }))).cast()
    }

    fn value(node: NonNull<Links>) -> u32 {
        // SAFETY: the tests' nodes are leaked boxes of `Node`.
        unsafe { node.cast::<Node>().as_ref() }.value
    }

    #[test]
    fn a_walk_in_batches_sees_each_element_that_stays_once() {
        let mut list = List::default();
        let nodes: Vec<_> = (0..10).map(node).collect();
        // SAFETY: leaked nodes live until they are freed at the end; removed ones are in the list.
        unsafe {
            for &n in &nodes {
                list.push_front(n);
            }
            let (mut a, mut b) = (Cursor::new(), Cursor::new());
            let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
            assert!(list.walk(&mut a, 3, |n| seen_a.push(value(n))));
            assert!(list.walk(&mut b, 4, |n| seen_b.push(value(n))));
            assert_eq!(seen_a, [9, 8, 7]);
            list.remove(nodes[8]);
            list.remove(nodes[5]);
            let late = node(99);
            list.push_front(late);
            while list.walk(&mut a, 2, |n| seen_a.push(value(n))) {}
            while list.walk(&mut b, 1, |n| seen_b.push(value(n))) {}
            assert_eq!(seen_a, [9, 8, 7, 6, 4, 3, 2, 1, 0]);
            assert_eq!(seen_b, [9, 8, 7, 6, 4, 3, 2, 1, 0]);
            assert_eq!(list.len(), 9);
            drop(list);
            for node in nodes.into_iter().chain([late]) {
                drop(Box::from_raw(node.cast::<Node>().as_ptr()));
            }
        }
    }
}
