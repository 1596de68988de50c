//! A task's budget: what is always ready lets others run, and a task that does is runnable, never parked.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use leakfree::report::snapshot::{Phase, WaitReason};
use leakfree::runtime::Handle;
use leakfree::sync::{Mutex, mpsc, oneshot};
use leakfree::{scope, task, time};
use leakfree_tests::parked;

/// Operations in one poll.
const BUDGET: u64 = 128;

/// Runs a future as a task of its own, and returns how often it was polled.
async fn polls<F: Future + Send + 'static>(future: F) -> u64
where
    F::Output: Send,
{
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let mut future = Box::pin(future);
    let counting = poll_fn(move |cx| {
        count.fetch_add(1, SeqCst);
        future.as_mut().poll(cx).map(drop)
    });
    leakfree::spawn(counting).await.unwrap();
    counted.load(SeqCst)
}

fn full_channel(values: u64) -> mpsc::UnboundedReceiver<u64> {
    let (tx, rx) = mpsc::unbounded_channel();
    (0..values).for_each(|n| tx.send(n).unwrap());
    rx
}

#[leakfree::test(workers = 1)]
async fn a_task_that_is_always_ready_lets_others_run() {
    let read = Arc::new(AtomicU64::new(0));
    let reading = Arc::clone(&read);
    // Spawned from a worker, so that both are in one queue.
    let at = leakfree::spawn(async move {
        let mut rx = full_channel(10_000);
        let reader = leakfree::spawn(async move {
            while rx.recv().await.is_some() {
                reading.fetch_add(1, SeqCst);
            }
        });
        while read.load(SeqCst) == 0 {
            leakfree::yield_now().await;
        }
        let at = read.load(SeqCst);
        reader.await.unwrap();
        at
    });
    assert_eq!(at.await.unwrap(), BUDGET);
}

#[leakfree::test(workers = 1)]
async fn every_kind_of_operation_is_bounded() {
    let yields = 3;
    let n = yields * BUDGET;
    let expected = yields + 1;
    let mut rx = full_channel(n);
    assert_eq!(
        polls(async move {
            for _ in 0..n {
                rx.recv().await;
            }
        })
        .await,
        yields,
        "the budget is used up, and nothing is left to do"
    );
    let mut rx = full_channel(n + 1);
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                rx.recv().await;
            }
        })
        .await,
        expected,
        "recv"
    );
    let mut rx = full_channel(n + 1);
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                poll_fn(|cx| rx.poll_recv(cx)).await;
            }
        })
        .await,
        expected,
        "poll_recv"
    );
    let receivers: Vec<_> = (0..=n)
        .map(|n| {
            let (tx, rx) = oneshot::channel();
            tx.send(n).unwrap();
            rx
        })
        .collect();
    assert_eq!(
        polls(async move {
            for rx in receivers {
                rx.await.unwrap();
            }
        })
        .await,
        expected,
        "oneshot"
    );
    let lock = Mutex::new(0);
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                *lock.lock().await += 1;
            }
        })
        .await,
        expected,
        "lock"
    );
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                time::sleep(Duration::ZERO).await;
            }
        })
        .await,
        expected,
        "sleep"
    );
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                task::consume_budget().await;
            }
        })
        .await,
        expected,
        "consume"
    );
    let mut ticks = time::interval(Duration::from_nanos(1));
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(
        polls(async move {
            for _ in 0..=n {
                ticks.tick().await;
            }
        })
        .await,
        expected,
        "tick"
    );
    let handles: Vec<_> = (0..=n).map(|_| leakfree::spawn(async {})).collect();
    leakfree_tests::until(|| handles.iter().all(leakfree::JoinHandle::is_finished)).await;
    assert_eq!(
        polls(async move {
            for handle in handles {
                handle.await.unwrap();
            }
        })
        .await,
        expected,
        "join"
    );
}

#[leakfree::test(workers = 1)]
async fn sockets_are_bounded() {
    let listener = leakfree::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    std::io::Write::write_all(&mut stream, &[7; 1000]).unwrap();
    let peer = Arc::new(peer);
    let reader = Arc::clone(&peer);
    let read = async move {
        for _ in 0..=2 * BUDGET {
            reader.read_exact(&mut [0]).await.unwrap();
        }
    };
    assert!(polls(read).await >= 3);
    let written = async move {
        for _ in 0..=2 * BUDGET {
            peer.write(&[0]).await.unwrap();
        }
    };
    assert!(polls(written).await >= 3);
}

#[leakfree::test(workers = 1)]
async fn what_is_pending_costs_nothing() {
    let all = async {
        let (_tx, mut rx) = mpsc::unbounded_channel::<()>();
        for _ in 0..10 * BUDGET {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(pin!(rx.recv()).poll(&mut cx).is_pending());
            assert!(rx.poll_recv(&mut cx).is_pending());
        }
        assert!(task::coop::has_budget_remaining());
        for _ in 0..BUDGET {
            assert!(task::coop::has_budget_remaining());
            task::consume_budget().await;
        }
        assert!(!task::coop::has_budget_remaining());
    };
    assert_eq!(polls(all).await, 1);
    assert!(task::coop::has_budget_remaining(), "each poll has its own");
}

#[leakfree::test(workers = 1)]
async fn unconstrained_is_not_bounded_and_leaves_the_budget_around_it_alone() {
    let all = async {
        let mut rx = full_channel(10 * BUDGET);
        task::consume_budget().await;
        task::unconstrained(async {
            for _ in 0..10 * BUDGET {
                rx.recv().await.unwrap();
            }
        })
        .await;
        for _ in 1..BUDGET {
            task::consume_budget().await;
        }
        assert!(!task::coop::has_budget_remaining());
    };
    assert_eq!(polls(all).await, 1);
    let panicking = leakfree::spawn(async {
        let unwind = std::panic::AssertUnwindSafe(task::unconstrained(async { panic!("in it") }));
        futures::FutureExt::catch_unwind(unwind).await.unwrap_err();
        for _ in 0..BUDGET {
            task::consume_budget().await;
        }
        assert!(!task::coop::has_budget_remaining(), "the bound is back after a panic");
    });
    panicking.await.unwrap();
}

#[leakfree::test(workers = 1)]
async fn combinators_with_wakers_of_their_own_are_told_and_executors_inside_go_on() {
    let all: FuturesUnordered<_> = (0..10)
        .map(|_| async {
            let mut rx = full_channel(10 * BUDGET);
            for _ in 0..10 * BUDGET {
                rx.recv().await.unwrap();
            }
        })
        .collect();
    let task = leakfree::spawn(async move { all.count().await });
    assert_eq!(task.await.unwrap(), 10);
    let task = leakfree::spawn(async {
        let mut rx = full_channel(10 * BUDGET);
        futures::executor::block_on(async {
            let mut sum = 0;
            for _ in 0..10 * BUDGET {
                sum += rx.recv().await.unwrap();
            }
            sum
        })
    });
    assert_eq!(task.await.unwrap(), (0..10 * BUDGET).sum());
}

#[leakfree::test(workers = 2)]
async fn a_yield_is_never_taken_for_a_wait() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let hog = scope::current().task().name("hog").spawn(async move {
        let (tx, rx) = oneshot::channel::<()>();
        let work = async {
            while !stopped.load(SeqCst) {
                task::consume_budget().await;
            }
            drop(tx);
        };
        leakfree::join!(work, rx).1.unwrap_err();
    });
    let handle = Handle::current();
    for _ in 0..1000 {
        let snapshot = handle.snapshot();
        let hog = snapshot.tasks.iter().find(|task| task.name.as_deref() == Some("hog"));
        assert!(hog.is_none_or(|task| task.phase == Phase::Running && !task.unwakeable), "{hog:?}");
        assert!(handle.report().findings.is_empty());
    }
    stop.store(true, SeqCst);
    hog.await.unwrap();
    assert_eq!(handle.unwakeable_total(), 0);
}

/// Polls with a waker that leads nowhere.
struct Elsewhere<F>(F);

impl<F: Future + Unpin> Future for Elsewhere<F> {
    type Output = F::Output;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.0).poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[leakfree::test(workers = 2)]
async fn a_yield_whose_wake_went_elsewhere_is_in_the_record() {
    let (recv, once) = (line!() + 6, line!() + 14);
    for (name, line) in [("recv", recv), ("oneshot", once)] {
        let task = scope::current().task().name(name).spawn(async move {
            let mut rx = full_channel(BUDGET + 1);
            if name == "recv" {
                for _ in 0..=BUDGET {
                    Elsewhere(rx.recv()).await;
                }
            } else {
                for _ in 0..BUDGET {
                    rx.recv().await;
                }
                let (tx, rx) = oneshot::channel();
                tx.send(()).unwrap();
                Elsewhere(rx).await.unwrap();
            }
        });
        let info = parked(name).await;
        assert_eq!(info.waits.len(), 1, "{info:?}");
        assert_eq!(info.waits[0].reason, WaitReason::CoopYield);
        assert_eq!((info.waits[0].site.file, info.waits[0].site.line), (file!(), line));
        assert_eq!((info.own_wakers, info.foreign_wakers), (0, 0));
        task.abort();
        task.await.unwrap_err();
    }
}
