//! Many producers, one consumer.

use super::{join_all, rt};

pub(super) const MESSAGES: usize = 8_000;

pub(super) async fn bounded(producers: usize) {
    let (tx, mut rx) = rt::bounded(100);
    let handles = (0..producers)
        .map(|_| {
            let tx = tx.clone();
            rt::spawn(async move {
                for n in 0..MESSAGES / producers {
                    tx.send(n).await.expect("the receiver is there");
                }
            })
        })
        .collect();
    drop(tx);
    let mut received = 0;
    while rt::recv(&mut rx).await.is_some() {
        received += 1;
    }
    assert_eq!(received, MESSAGES);
    join_all(handles).await;
}

/// Producers yield now and then, else all would be sent before anything is received.
pub(super) async fn unbounded(producers: usize) {
    let (tx, mut rx) = rt::unbounded();
    let handles = (0..producers)
        .map(|_| {
            let tx = tx.clone();
            rt::spawn(async move {
                for n in 0..MESSAGES / producers {
                    rt::send_now(&tx, n);
                    if n % 100 == 99 {
                        rt::yield_now().await;
                    }
                }
            })
        })
        .collect();
    drop(tx);
    let mut received = 0;
    while rt::recv_unbounded(&mut rx).await.is_some() {
        received += 1;
    }
    assert_eq!(received, MESSAGES);
    join_all(handles).await;
}
