//! Spawning, joining, yielding, and two tasks that talk.

use super::{join_all, rt};

pub(super) const SPAWNS: usize = 10_000;
pub(super) const JOINS: usize = 1_000;
pub(super) const CHAIN: usize = 1_000;
pub(super) const YIELDERS: usize = 200;
pub(super) const YIELDS: usize = 1_000;
pub(super) const PAIRS: usize = 1_000;

pub(super) async fn spawn_many() {
    let handles = (0..SPAWNS).map(|n| rt::spawn(async move { std::hint::black_box(n) })).collect();
    join_all(handles).await;
}

pub(super) async fn spawn_join() {
    for n in 0..JOINS {
        rt::join(rt::spawn(async move { std::hint::black_box(n) })).await;
    }
}

pub(super) async fn chained_spawn() {
    fn link(left: usize, end: rt::oneshot::Sender<()>) {
        rt::detach(rt::spawn(async move {
            if left == 0 {
                let _ = end.send(());
            } else {
                link(left - 1, end);
            }
        }));
    }
    let (end, ended) = rt::oneshot::channel();
    link(CHAIN, end);
    ended.await.expect("the chain has an end");
}

pub(super) async fn yield_many() {
    let handles = (0..YIELDERS)
        .map(|_| {
            rt::spawn(async {
                for _ in 0..YIELDS {
                    rt::yield_now().await;
                }
            })
        })
        .collect();
    join_all(handles).await;
}

/// All pairs at once: each asks its partner, a task of its own, and waits for the answer.
macro_rules! ping_pong {
    ($channel:path) => {
        join_all(
            (0..PAIRS)
                .map(|_| {
                    rt::spawn(async {
                        let (ping, pinged) = $channel();
                        let (pong, ponged) = $channel();
                        rt::detach(rt::spawn(async move {
                            let () = pinged.await.expect("a ping");
                            let _ = pong.send(());
                        }));
                        let _ = ping.send(());
                        let () = ponged.await.expect("a pong");
                    })
                })
                .collect(),
        )
        .await
    };
}

pub(super) async fn ping_pong() {
    ping_pong!(rt::oneshot::channel);
}

/// The same channel for every runtime: what is left is the scheduler, and how it meets foreign wakers.
pub(super) async fn ping_pong_futures() {
    ping_pong!(futures::channel::oneshot::channel);
}
