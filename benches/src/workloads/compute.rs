//! Trees of tasks, and tasks that compute.

use super::{join_all, rt};

pub(super) const LEAVES: usize = 100_000;
const DEPTH: usize = 13;
pub(super) const NODES: usize = (1 << DEPTH) - 1;
const BURST: usize = 16;

/// Ten children for each inner task, down to 100,000 leaves; sums of the leaves' numbers go up.
pub(super) async fn skynet() {
    fn node(first: usize, leaves: usize) -> rt::JoinHandle<usize> {
        rt::spawn(async move {
            if leaves == 1 {
                return first;
            }
            let size = leaves / 10;
            let children: Vec<_> = (0..10).map(|n| node(first + n * size, size)).collect();
            let mut sum = 0;
            for child in children {
                sum += rt::join(child).await;
            }
            sum
        })
    }
    assert_eq!(rt::join(node(0, LEAVES)).await, LEAVES * (LEAVES - 1) / 2);
}

/// A binary tree of tasks, each of which joins its two children.
pub(super) async fn fork_join() {
    fn node(depth: usize) -> rt::JoinHandle<usize> {
        rt::spawn(async move {
            if depth == 1 {
                return 1;
            }
            let (left, right) = (node(depth - 1), node(depth - 1));
            1 + rt::join(left).await + rt::join(right).await
        })
    }
    assert_eq!(rt::join(node(DEPTH)).await, NODES);
}

/// More than one worker is needed to be quick at this.
pub(super) async fn burst() {
    let handles = (0..BURST)
        .map(|n| {
            rt::spawn(async move {
                let mut x = n as u64;
                for _ in 0..4_000 {
                    x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
                x
            })
        })
        .collect();
    join_all(handles).await;
}
