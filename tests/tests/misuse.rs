//! Bad input: a clear error that says what to do; nothing lost, nothing hung.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use leakfree::net::{TcpListener, TcpStream};
use leakfree::runtime::{Builder, Handle};
use leakfree_tests::{Drops, Holding, parked, runtime, until};

/// The message `f` panics with.
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it should have panicked"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => (*payload.downcast::<&str>().expect("a message")).to_owned(),
        },
    }
}

#[test]
fn zero_workers_are_refused() {
    let error = Builder::new().workers(0).build().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("at least one worker"), "{error}");
    let error = Builder::new().blocking_threads_max(0).build().unwrap_err();
    assert!(error.to_string().contains("at least one thread"), "{error}");
    let error = Builder::new().workers(1 << 20).build().unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
    let error = Builder::new().name("a\0b").build().unwrap_err();
    assert!(error.to_string().contains("a zero byte in it"), "{error}");
}

#[test]
fn growth_over_no_time_is_refused() {
    let runtime = runtime(1);
    let message = panic_of(|| runtime.handle().watch_growth(Duration::ZERO, 2, |_| ()));
    assert_eq!(message, "growth is seen over time: `interval` was zero");
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_nested_block_on_panics_and_says_what_to_do() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let again = handle.clone();
    let message = panic_of(|| runtime.block_on(async { again.block_on(async {}) }));
    assert!(message.contains("spawn_blocking"), "{message}");
    let error = runtime.block_on(async { leakfree::spawn(async move { handle.block_on(async {}) }).await });
    assert!(error.unwrap_err().to_string().contains("spawn_blocking"));
    // On the blocking pool it is allowed.
    let handle = runtime.handle();
    let three =
        runtime.block_on(async move { leakfree::spawn_blocking(move || handle.block_on(async { 3 })).await });
    assert_eq!(three.unwrap(), 3);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn outside_a_runtime_everything_says_so() {
    let said = [
        ("leakfree::spawn", panic_of(|| leakfree::spawn(async {}))),
        ("leakfree::spawn_blocking", panic_of(|| leakfree::spawn_blocking(|| {}))),
        ("leakfree::time::sleep", panic_of(|| leakfree::time::sleep(Duration::ZERO))),
        ("leakfree::time::timeout", panic_of(|| leakfree::time::timeout(Duration::ZERO, async {}))),
        ("leakfree::time::interval", panic_of(|| leakfree::time::interval(Duration::from_secs(1)))),
        ("TcpListener::bind", panic_of(|| TcpListener::bind("127.0.0.1:0"))),
        ("TcpStream::connect", panic_of(|| TcpStream::connect("127.0.0.1:1"))),
        ("Handle::current", panic_of(Handle::current)),
        ("leakfree::scope", panic_of(|| futures::executor::block_on(leakfree::scope(async |_| ())))),
        ("leakfree::cancelled", panic_of(leakfree::cancelled)),
    ];
    for (what, message) in said {
        assert!(message.contains(what) || message.contains("outside a task"), "{what}: {message}");
        assert!(message.contains("runtime") || message.contains("task"), "{what}: {message}");
    }
    let message = panic_of(|| leakfree::sync::mpsc::channel::<()>(0));
    assert!(message.contains("capacity was 0"), "{message}");
}

#[leakfree::test]
async fn a_port_in_use_is_named() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = first.local_addr().unwrap();
    let error = TcpListener::bind(addr).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    drop(first);
    let error = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

#[leakfree::test(workers = 2)]
async fn panics_stay_with_their_task() {
    // In a poll.
    assert!(leakfree::spawn(async { panic!("in a poll") }).await.unwrap_err().is_panic());
    // In the drop of a future that has returned: its output is not handed out.
    let mut held = Some(PanicsInDrop);
    let fut = poll_fn(move |_| {
        let _ = &mut held;
        Poll::Ready(())
    });
    assert!(leakfree::spawn(fut).await.unwrap_err().is_panic());
    // In the drop of a cancelled future.
    let handle = leakfree::spawn(Holding(PanicsInDrop));
    handle.abort();
    assert!(handle.await.unwrap_err().is_panic());
    // In the drop of an output that nobody takes.
    drop(leakfree::spawn(async { PanicsInDrop }));
    let finished = leakfree::spawn(async { PanicsInDrop });
    until(|| finished.is_finished()).await;
    drop(finished);
    // In a blocking call.
    assert!(leakfree::spawn_blocking(|| panic!("blocking")).await.unwrap_err().is_panic());
    // Others go on, on every worker.
    for _ in 0..100 {
        assert_eq!(leakfree::spawn(async { 1 }).await.unwrap(), 1);
    }
    until(|| Handle::current().snapshot().tasks.len() == 1).await;
}

/// A waker whose clones panic when they are dropped.
fn panicking_waker() -> Waker {
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &VTABLE),
        |_| panic!("in a waker's wake"),
        |_| {},
        |_| panic!("in a waker's drop"),
    );
    // SAFETY: the functions use no data.
    unsafe { Waker::new(std::ptr::null(), &VTABLE) }
}

#[leakfree::test(workers = 2)]
async fn a_joiners_waker_that_panics_does_no_harm() {
    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
    let mut handle = Box::pin(leakfree::spawn(rx));
    let waker = std::mem::ManuallyDrop::new(panicking_waker());
    assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    tx.send(()).unwrap();
    until(|| handle.is_finished()).await;
    assert!(handle.await.is_ok());
    assert_eq!(leakfree::spawn(async { 2 }).await.unwrap(), 2);
}

#[leakfree::test(workers = 2)]
async fn a_waker_that_panics_in_its_drop_panics_in_who_drops_it_and_nowhere_else() {
    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
    let dropper = leakfree::spawn(async move {
        let mut rx = Box::pin(rx);
        let waker = std::mem::ManuallyDrop::new(panicking_waker());
        assert!(rx.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(rx);
    });
    assert!(dropper.await.unwrap_err().is_panic());
    assert!(tx.is_closed(), "the receiver is gone all the same");
    // The same in a task's own future, whose drop the worker makes.
    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
    let handle = leakfree::spawn(Holding(PollOnce::new(rx)));
    handle.abort();
    assert!(handle.await.unwrap_err().is_panic());
    drop(tx);
    assert_eq!(leakfree::spawn(async { 3 }).await.unwrap(), 3);
}

/// A future that was polled once with a waker that panics when it is dropped.
struct PollOnce(#[allow(dead_code)] Pin<Box<leakfree::sync::oneshot::Receiver<()>>>);

impl PollOnce {
    fn new(rx: leakfree::sync::oneshot::Receiver<()>) -> PollOnce {
        let mut rx = Box::pin(rx);
        let waker = std::mem::ManuallyDrop::new(panicking_waker());
        assert!(rx.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        PollOnce(rx)
    }
}

#[test]
fn a_runtime_dropped_inside_an_async_context_shuts_down_elsewhere() {
    let outer = runtime(2);
    let drops = Drops::new();
    let guard = drops.guard();
    outer.block_on(async {
        let inner = Builder::new().workers(1).grace(Duration::ZERO).build().unwrap();
        let handle = inner.handle();
        handle.spawn(Holding(guard));
        drop(inner);
        until(|| drops.count() == 1).await;
        let error = handle.spawn(async {}).await.unwrap_err();
        assert!(error.is_cancelled(), "nothing runs there any more");
    });
    assert!(outer.shutdown().is_clean());
}

#[test]
fn a_waker_used_after_the_runtime_is_gone_does_nothing() {
    let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let theirs = Arc::clone(&kept);
    let runtime = runtime(2);
    runtime.block_on(async {
        leakfree::scope::current().task().name("kept").spawn(poll_fn(move |cx| {
            theirs.lock().unwrap().push(cx.waker().clone());
            Poll::<()>::Pending
        }));
        parked("kept").await;
    });
    drop(runtime.shutdown());
    let wakers = std::mem::take(&mut *kept.lock().unwrap());
    assert!(!wakers.is_empty());
    for waker in wakers {
        waker.wake_by_ref();
        drop(waker.clone());
        std::thread::spawn(move || waker.wake()).join().unwrap();
    }
}

#[test]
fn sockets_and_sleeps_that_outlive_their_runtime_are_harmless() {
    let runtime = runtime(1);
    let (listener, sleep) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sleep = Box::pin(leakfree::time::sleep(Duration::from_secs(3600)));
        assert!(futures::poll!(&mut sleep).is_pending());
        (listener, sleep)
    });
    assert!(runtime.shutdown().is_clean());
    assert!(listener.local_addr().is_ok());
    drop((listener, sleep));
}

/// Nothing would ever wake who waits for them, and no report would say so.
#[test]
fn a_sleep_that_is_awaited_after_its_runtimes_end_says_so() {
    let first = runtime(1);
    let entered = first.enter();
    let [mut waited_for, later, within] =
        [(); 3].map(|()| Box::pin(leakfree::time::sleep(Duration::from_secs(3600))));
    drop(entered);
    let (begin, begun) = std::sync::mpsc::channel();
    let waits = std::thread::spawn(move || {
        panic_of(|| {
            futures::executor::block_on(async {
                assert!(futures::poll!(&mut waited_for).is_pending());
                begin.send(()).unwrap();
                waited_for.await;
            })
        })
    });
    begun.recv().unwrap();
    assert!(first.shutdown().is_clean());
    let second = runtime(1);
    for message in [
        waits.join().unwrap(),
        panic_of(|| futures::executor::block_on(later)),
        panic_of(|| second.block_on(within)),
    ] {
        assert!(message.contains("was polled after that runtime's end"), "{message}");
    }
    assert!(second.shutdown().is_clean());
}

#[test]
fn a_shutdown_may_settle_and_grant_for_ever() {
    let runtime = Builder::new().workers(1).settle(Duration::MAX).grace(Duration::MAX).build().unwrap();
    runtime.spawn(async { leakfree::cancelled().await });
    runtime.block_on(leakfree::yield_now());
    assert_eq!(runtime.shutdown().leaked(), 1, "it is told, and ends when it is asked to");
}

/// Counts polls, for spurious wakes.
struct CountPolls(Arc<Mutex<usize>>, Arc<Mutex<Option<Waker>>>);

impl Future for CountPolls {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.0.lock().unwrap() += 1;
        *self.1.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[leakfree::test(workers = 2)]
async fn a_hundred_thousand_spurious_wakes_cost_at_most_a_poll_each() {
    let (polls, waker) = (Arc::default(), Arc::default());
    let handle = leakfree::spawn(CountPolls(Arc::clone(&polls), Arc::clone(&waker)));
    until(|| waker.lock().unwrap().is_some()).await;
    let waker = waker.lock().unwrap().clone().unwrap();
    for _ in 0..100_000 {
        waker.wake_by_ref();
    }
    handle.abort();
    assert!(handle.await.unwrap_err().is_cancelled());
    let seen = *polls.lock().unwrap();
    assert!(seen <= 100_001, "{seen}");
    waker.wake();
    leakfree::yield_now().await;
    assert_eq!(*polls.lock().unwrap(), seen, "none after its end");
}

#[test]
fn a_task_that_does_not_respond_is_reported_and_left() {
    let runtime = Builder::new().workers(2).grace(Duration::ZERO).settle(Duration::ZERO).build().unwrap();
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (running, is_running) = leakfree::sync::oneshot::channel::<()>();
    runtime.block_on(async {
        leakfree::spawn(async move {
            let _ = running.send(());
            // It blocks its worker.
            let _ = hold.recv();
            pending::<()>().await;
        });
        is_running.await.unwrap();
    });
    let report = runtime.shutdown();
    assert_eq!(report.leaked(), 1);
    drop(release);
}
