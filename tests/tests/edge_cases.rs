//! What is easy to get wrong in a primitive: wakers that change, panic, or come back in; ends in either order; values that panic when
//! they are dropped; the largest bounds.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use leakfree::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use leakfree::net::{TcpListener, TcpStream, UnixStream};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree::time::{self, Instant};
use leakfree::{join, scope};
use leakfree_tests::{ByHand, Drops, panic_message, polled_once, ready};

/// A waker that does something when it is woken.
struct OnWake<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A waker that does something when its last clone is dropped.
struct OnDrop<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for OnDrop<F> {
    fn wake(self: Arc<Self>) {}
}

impl<F: Fn() + Send + Sync> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Arc::new(OnWake(f)).into()
}

fn on_drop(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Arc::new(OnDrop(f)).into()
}

/// Counts wakes.
fn counting() -> (Waker, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&wakes);
    (on_wake(move || _ = count.fetch_add(1, Ordering::SeqCst)), wakes)
}

fn poll_with<F: Future>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

/// Panics when it is dropped, once.
struct Bomb<'a>(&'a AtomicUsize, bool);

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(!std::mem::take(&mut self.1), "boom");
    }
}

// ---- wakers -------------------------------------------------------------------------------------

/// Polls `wait` with one waker, then with another: only the last one is woken by `end`, and the first is let go of at once.
macro_rules! changes_its_waker {
    ($wait:expr, $end:expr) => {{
        let mut wait = Box::pin($wait);
        let (first, woken_first) = counting();
        let (last, woken_last) = counting();
        assert!(poll_with(&mut wait, &first).is_pending());
        assert!(poll_with(&mut wait, &last).is_pending());
        drop(first);
        assert_eq!(Arc::strong_count(&woken_first), 1, "the first waker is gone");
        $end;
        assert_eq!((woken_first.load(Ordering::SeqCst), woken_last.load(Ordering::SeqCst)), (0, 1));
        assert!(poll_with(&mut wait, &last).is_ready());
        drop(last);
        assert_eq!(Arc::strong_count(&woken_last), 1, "and so is the last, after the end");
    }};
}

#[test]
fn a_wait_that_moves_to_another_task_wakes_that_one_only() {
    let (tx, rx) = oneshot::channel();
    changes_its_waker!(rx, tx.send(1).unwrap());
    let (mut tx, rx) = oneshot::channel::<u8>();
    changes_its_waker!(tx.closed(), drop(rx));
    let (tx, mut rx) = mpsc::channel(1);
    changes_its_waker!(rx.recv(), tx.try_send(1).unwrap());
    tx.try_send(2).unwrap();
    changes_its_waker!(tx.send(3), rx.try_recv().unwrap());
    changes_its_waker!(tx.reserve(), rx.try_recv().unwrap());
    changes_its_waker!(tx.closed(), rx.close());
    let (tx, mut rx) = watch::channel(0);
    changes_its_waker!(rx.changed(), tx.send(1).unwrap());
    changes_its_waker!(rx.wait_for(|n| *n == 2), tx.send(2).unwrap());
    changes_its_waker!(tx.closed(), drop(rx));
    let (tx, mut rx) = broadcast::channel(1);
    changes_its_waker!(rx.recv(), tx.send(1).unwrap());
    changes_its_waker!(tx.closed(), drop(rx));
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    changes_its_waker!(mutex.lock(), drop(guard));
    let lock = RwLock::new(());
    let guard = lock.try_write().unwrap();
    changes_its_waker!(lock.read(), drop(guard));
    let guard = lock.try_read().unwrap();
    changes_its_waker!(lock.write(), drop(guard));
    let semaphore = Semaphore::new(0);
    changes_its_waker!(semaphore.acquire(), semaphore.add_permits(1));
    let notify = Notify::new();
    changes_its_waker!(notify.notified(), notify.notify_one());
    changes_its_waker!(notify.notified(), notify.notify_waiters());
    let set = SetOnce::new();
    changes_its_waker!(set.wait(), set.set(1).unwrap());
    let barrier = Barrier::new(2);
    changes_its_waker!(barrier.wait(), assert!(ready(barrier.wait()).is_leader()));
}

#[test]
fn who_is_woken_while_another_waker_panics_is_woken_all_the_same() {
    let notify = Notify::new();
    let bad = on_wake(|| std::panic::resume_unwind(Box::new("on purpose")));
    let mut waits: Vec<_> = (0..100).map(|_| Box::pin(notify.notified())).collect();
    let (good, woken) = counting();
    for (i, wait) in waits.iter_mut().enumerate() {
        assert!(poll_with(wait, if i == 40 { &bad } else { &good }).is_pending());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| notify.notify_waiters()));
    assert_eq!(woken.load(Ordering::SeqCst), 99);
    assert!(waits.iter_mut().all(|wait| poll_with(wait, &good).is_ready()));

    let semaphore = Semaphore::new(0);
    let mut waits: Vec<_> = (0..100).map(|_| Box::pin(semaphore.acquire())).collect();
    for (i, wait) in waits.iter_mut().enumerate() {
        assert!(poll_with(wait, if i == 40 { &bad } else { &good }).is_pending());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| semaphore.add_permits(100)));
    assert_eq!(woken.load(Ordering::SeqCst), 198);
    assert!(waits.iter_mut().all(|wait| poll_with(wait, &good).is_ready()));
    drop(waits);
    assert_eq!(semaphore.available_permits(), 100, "none is lost");

    let (tx, rx) = watch::channel(0);
    let mut receivers: Vec<_> = (0..100).map(|_| rx.clone()).collect();
    let mut waits: Vec<_> = receivers.iter_mut().map(|rx| Box::pin(rx.changed())).collect();
    for (i, wait) in waits.iter_mut().enumerate() {
        assert!(poll_with(wait, if i == 40 { &bad } else { &good }).is_pending());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| tx.send(1)));
    assert_eq!(woken.load(Ordering::SeqCst), 297);

    let (tx, rx) = broadcast::channel(1);
    let mut receivers: Vec<_> = (0..100).map(|_| rx.resubscribe()).collect();
    let mut waits: Vec<_> = receivers.iter_mut().map(|rx| Box::pin(rx.recv())).collect();
    for (i, wait) in waits.iter_mut().enumerate() {
        assert!(poll_with(wait, if i == 40 { &bad } else { &good }).is_pending());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| tx.send(1)));
    assert_eq!(woken.load(Ordering::SeqCst), 396);
    assert!(waits.iter_mut().all(|wait| poll_with(wait, &good).is_ready()));
}

/// A waker's drop, or a wake, that uses the same object: no lock of ours is held meanwhile.
#[test]
fn wakers_may_come_back_in() {
    let notify = Arc::new(Notify::new());
    let mut wait = Box::pin(Arc::clone(&notify).notified_owned());
    let again = Arc::clone(&notify);
    assert!(poll_with(&mut wait, &on_drop(move || again.notify_waiters())).is_pending());
    assert!(poll_with(&mut wait, &on_drop(|| ())).is_pending(), "the first waker was dropped in here");
    let again = Arc::clone(&notify);
    let mut other = Box::pin(Arc::clone(&notify).notified_owned());
    assert!(poll_with(&mut other, &on_wake(move || again.notify_one())).is_pending());
    notify.notify_waiters();
    assert!(
        poll_with(&mut wait, Waker::noop()).is_ready() && poll_with(&mut other, Waker::noop()).is_ready()
    );
    ready(notify.notified());

    let (tx, mut rx) = broadcast::channel(4);
    let mut recv = Box::pin(rx.recv());
    let again = tx.clone();
    assert!(poll_with(&mut recv, &on_drop(move || _ = again.send(7))).is_pending());
    tx.send(1).unwrap();
    assert_eq!(poll_with(&mut recv, Waker::noop()), Poll::Ready(Ok(1)));
    drop(recv);
    assert_eq!(rx.try_recv(), Ok(7), "sent from within the wake");

    let (tx, mut rx) = mpsc::channel(4);
    let mut recv = Box::pin(rx.recv());
    let again = tx.clone();
    assert!(poll_with(&mut recv, &on_wake(move || again.try_send(2).unwrap())).is_pending());
    tx.try_send(1).unwrap();
    drop(recv);
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(1), Ok(2)));

    let semaphore = Arc::new(Semaphore::new(0));
    let mut wait = Box::pin(Arc::clone(&semaphore).acquire_owned());
    let again = Arc::clone(&semaphore);
    assert!(poll_with(&mut wait, &on_drop(move || again.add_permits(1))).is_pending());
    drop(wait);
    assert_eq!(semaphore.available_permits(), 1, "given from within the drop of a wait");

    let (tx, rx) = watch::channel(0);
    let tx = Arc::new(tx);
    let mut changes = rx.clone();
    let mut changed = Box::pin(async move { changes.changed().await });
    let again = Arc::clone(&tx);
    assert!(poll_with(&mut changed, &on_wake(move || again.send_modify(|n| *n += 10))).is_pending());
    tx.send(1).unwrap();
    assert_eq!(*rx.borrow(), 11);
}

/// Has each waker of a wait use the same object again, whenever one is woken or dropped: when another takes its place, when the wait is given
/// up, and when it ends. If a lock of ours were held there, that would be for ever.
macro_rules! comes_back_in {
    ($made:expr, |$object:ident| $wait:expr, $touch:expr, $end:expr) => {{
        let (done, over) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let object = Arc::new($made);
            let touched = Arc::new(AtomicUsize::new(0));
            let waker = || {
                let (object, touched) = (Arc::clone(&object), Arc::clone(&touched));
                on_drop(move || {
                    let $object = &*object;
                    let _ = $touch;
                    touched.fetch_add(1, Ordering::SeqCst);
                })
            };
            let $object = &*object;
            for give_up in [true, false] {
                let mut wait = Box::pin($wait);
                assert!(poll_with(&mut wait, &waker()).is_pending());
                // Another takes its place.
                assert!(poll_with(&mut wait, &waker()).is_pending());
                if give_up {
                    drop(wait);
                } else {
                    let _ = $end;
                    let _ = poll_with(&mut wait, Waker::noop());
                }
            }
            assert_eq!(touched.load(Ordering::SeqCst), 4);
            done.send(()).unwrap();
        });
        let over = over.recv_timeout(Duration::from_secs(20));
        assert!(over.is_ok(), "{}: user code ran under a lock, or failed", stringify!($wait));
    }};
}

#[test]
fn every_waker_may_come_back_in() {
    type Channel<S, R> = (S, std::sync::Mutex<R>);
    fn with<S, R>((sender, receiver): (S, R)) -> Channel<S, R> {
        (sender, std::sync::Mutex::new(receiver))
    }
    /// A receiver that a wait borrows for ever: each round has its own wait, one after the other.
    fn lent<R>(receiver: &std::sync::Mutex<R>) -> std::sync::MutexGuard<'_, R> {
        receiver.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn locked() -> (Arc<Mutex<()>>, std::sync::Mutex<Option<leakfree::sync::OwnedMutexGuard<()>>>) {
        let mutex = Arc::new(Mutex::new(()));
        let guard = Arc::clone(&mutex).try_lock_owned().unwrap();
        (mutex, std::sync::Mutex::new(Some(guard)))
    }
    comes_back_in!(locked(), |o| o.0.lock(), o.0.try_lock().is_ok(), o.1.lock().unwrap().take());
    comes_back_in!(
        locked(),
        |o| Arc::clone(&o.0).lock_owned(),
        o.0.try_lock().is_ok(),
        o.1.lock().unwrap().take()
    );
    fn written() -> (Arc<RwLock<()>>, std::sync::Mutex<Option<leakfree::sync::OwnedRwLockWriteGuard<()>>>) {
        let lock = Arc::new(RwLock::new(()));
        let guard = Arc::clone(&lock).try_write_owned().unwrap();
        (lock, std::sync::Mutex::new(Some(guard)))
    }
    comes_back_in!(written(), |o| o.0.read(), o.0.try_read().is_ok(), o.1.lock().unwrap().take());
    comes_back_in!(written(), |o| o.0.write(), o.0.try_read().is_ok(), o.1.lock().unwrap().take());
    comes_back_in!(Semaphore::new(0), |o| o.acquire(), o.available_permits(), o.add_permits(1));
    comes_back_in!(Semaphore::new(0), |o| o.acquire_many(2), o.add_permits(0), o.close());
    comes_back_in!(Notify::new(), |o| o.notified(), o.notify_waiters(), o.notify_one());
    comes_back_in!(Notify::new(), |o| o.notified(), o.notify_waiters(), o.notify_waiters());
    comes_back_in!(SetOnce::new(), |o| o.wait(), polled(o.wait()), o.set(1).unwrap());
    // Who was dropped counts: the wait and two more, twice over.
    comes_back_in!(Barrier::new(6), |o| o.wait(), polled(o.wait()), assert!(polled(o.wait())));
    comes_back_in!(
        with(mpsc::channel::<u8>(4)),
        |o| poll_fn(|cx| lent(&o.1).poll_recv(cx)),
        (o.0.capacity(), o.0.downgrade().upgrade().is_some()),
        o.0.try_send(2)
    );
    comes_back_in!(
        {
            let (tx, rx) = mpsc::channel::<u8>(1);
            tx.try_send(1).unwrap();
            with((tx, rx))
        },
        |o| o.0.send(2),
        o.0.try_send(3),
        lent(&o.1).try_recv()
    );
    comes_back_in!(with(mpsc::channel::<u8>(1)), |o| o.0.closed(), o.0.try_send(1), lent(&o.1).close());
    comes_back_in!(
        with(mpsc::unbounded_channel::<u8>()),
        |o| poll_fn(|cx| lent(&o.1).poll_recv(cx)),
        o.0.downgrade().upgrade().is_some(),
        o.0.send(2)
    );
    comes_back_in!(with(watch::channel(0)), |o| o.0.closed(), o.0.receiver_count(), {
        let _ = std::mem::replace(&mut *lent(&o.1), watch::channel(0).1);
    });
    comes_back_in!(
        {
            let (tx, rx) = broadcast::channel::<u8>(1);
            with((tx, Some(rx)))
        },
        |o| o.0.closed(),
        o.0.receiver_count(),
        lent(&o.1).take()
    );
    comes_back_in!(
        {
            let (tx, rx) = oneshot::channel::<u8>();
            (std::sync::Mutex::new(Some(tx)), std::sync::Mutex::new(rx))
        },
        |o| poll_fn(|cx| Pin::new(&mut *lent(&o.1)).poll(cx)),
        lent(&o.0).as_ref().map(oneshot::Sender::is_closed),
        {
            let tx = lent(&o.0).take().unwrap();
            tx.send(1).unwrap()
        }
    );
}

/// The same of what the driver and the scheduler keep wakers for.
#[test]
fn wakers_of_timers_sockets_and_joins_may_come_back_in() {
    /// A runtime, and something of it.
    fn within<T>(make: impl FnOnce() -> T) -> (leakfree::runtime::Runtime, T) {
        let runtime = leakfree_tests::runtime(1);
        let made = {
            let _entered = runtime.enter();
            make()
        };
        (runtime, made)
    }
    let hour = Duration::from_secs(3600);
    comes_back_in!(
        within(|| ()),
        |o| {
            let _entered = o.0.enter();
            time::sleep(hour)
        },
        {
            let _entered = o.0.enter();
            polled(time::sleep(hour))
        },
        ()
    );
    comes_back_in!(
        within(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        }),
        |o| o.1.accept(),
        polled(o.1.accept()),
        ()
    );
    comes_back_in!(
        within(|| {
            let pair = UnixStream::pair().unwrap();
            pair.0.try_read(&mut [0]).unwrap_err();
            pair
        }),
        |o| o.1.0.readable(),
        (polled(o.1.0.readable()), o.1.0.try_write(b"x")),
        o.1.1.try_write(b"x")
    );
    comes_back_in!(
        within(|| std::sync::Mutex::new(io::duplex(8))),
        |o| poll_fn(|cx| Pin::new(&mut o.1.lock().unwrap().0).poll_read(cx, &mut [0])),
        format!("{:?}", o.1.try_lock().is_ok()),
        ()
    );
    comes_back_in!(
        within(|| std::sync::Mutex::new(io::duplex(8))),
        |o| poll_fn(|cx| Pin::new(&mut o.1.lock().unwrap().0).poll_read(cx, &mut [0])),
        o.0.handle().snapshot(),
        ()
    );
    comes_back_in!(
        within(|| std::sync::Mutex::new(leakfree::spawn(pending::<()>()))),
        |o| poll_fn(|cx| Pin::new(&mut *o.1.lock().unwrap()).poll(cx)),
        o.0.handle().snapshot(),
        ()
    );
    comes_back_in!(
        within(|| {
            let mut set = leakfree::task::JoinSet::new();
            set.spawn(pending::<()>());
            std::sync::Mutex::new(set)
        }),
        |o| poll_fn(|cx| o.1.lock().unwrap().poll_join_next(cx)),
        o.0.handle().snapshot(),
        ()
    );
    comes_back_in!(
        within(|| leakfree::runtime::Handle::current()),
        |o| {
            let _entered = o.0.enter();
            o.1.block_on(async { leakfree::scope::current().token() }).cancelled()
        },
        o.0.handle().snapshot(),
        ()
    );
}

/// One poll, with nobody to wake.
fn polled<F: Future>(future: F) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn the_last_waker_goes_with_the_other_end() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = |dropped: &Arc<AtomicUsize>| {
        let dropped = Arc::clone(dropped);
        on_drop(move || _ = dropped.fetch_add(1, Ordering::SeqCst))
    };
    let (tx, rx) = oneshot::channel::<u8>();
    let mut rx = Box::pin(rx);
    assert!(poll_with(&mut rx, &count(&dropped)).is_pending());
    drop(tx);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert!(poll_with(&mut rx, Waker::noop()).is_ready());
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let mut recv = Box::pin(rx.recv());
    assert!(poll_with(&mut recv, &count(&dropped)).is_pending());
    drop(tx);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    drop(recv);
}

// ---- channels -----------------------------------------------------------------------------------

#[test]
fn a_oneshot_is_closed_by_its_receiver_and_keeps_what_was_sent_before() {
    let (tx, mut rx) = oneshot::channel();
    tx.send(1).unwrap();
    rx.close();
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(rx.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    let (mut tx, mut rx) = oneshot::channel();
    let closed = ByHand::pending(tx.closed());
    rx.close();
    closed.woken();
    assert!(tx.is_closed());
    assert_eq!(tx.send(2), Err(2), "given back");
    assert!(ready(rx).is_err());
    // Sent between the close and the look: a value is never left behind in between.
    let (tx, rx) = oneshot::channel();
    let waits = ByHand::pending(rx);
    tx.send(3).unwrap();
    assert_eq!(waits.woken(), Ok(3));
    let drops = Drops::new();
    let (tx, rx) = oneshot::channel();
    assert!(tx.send(drops.guard()).is_ok());
    drop(rx);
    assert_eq!(drops.count(), 1, "dropped with the receiver");
}

#[test]
fn a_receiver_that_closes_gets_the_rest_and_then_none() {
    let (tx, mut rx) = mpsc::channel(3);
    tx.try_send(1).unwrap();
    tx.try_send(2).unwrap();
    let late = ByHand::pending(tx.reserve_many(2));
    rx.close();
    assert!(late.woken().is_err());
    assert_eq!(tx.try_send(3), Err(mpsc::error::TrySendError::Closed(3)));
    assert_eq!((ready(rx.recv()), ready(rx.recv()), ready(rx.recv())), (Some(1), Some(2), None));
    rx.close();
    assert_eq!(rx.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    let (tx, mut rx) = mpsc::unbounded_channel();
    tx.send(1).unwrap();
    let closed = ByHand::pending(tx.closed());
    rx.close();
    closed.woken();
    assert_eq!(tx.send(2).unwrap_err().0, 2);
    assert_eq!((rx.try_recv(), ready(rx.recv())), (Ok(1), None));
}

#[test]
fn a_send_that_waits_when_the_receiver_goes_has_its_value_back() {
    let (tx, rx) = mpsc::channel(1);
    tx.try_send("first").unwrap();
    let (one, two) = (ByHand::pending(tx.send("second")), ByHand::pending(tx.reserve()));
    drop(rx);
    assert_eq!(one.woken().unwrap_err().0, "second");
    assert!(two.woken().is_err());
}

#[test]
fn a_granted_room_that_was_not_looked_at_is_no_use_after_a_close() {
    let (tx, mut rx) = mpsc::channel(1);
    tx.try_send(1).unwrap();
    let granted = ByHand::pending(tx.send(2));
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(granted.wakes(), 1);
    rx.close();
    // It may have gone through before the close, or not: but not both, and not neither.
    let sent = granted.woken();
    let got = rx.try_recv();
    assert!(sent.is_ok() == got.is_ok(), "{sent:?} {got:?}");
    assert_eq!(ready(rx.recv()), None);
}

#[test]
fn values_that_panic_when_dropped_take_no_others_along() {
    let drops = AtomicUsize::new(0);
    let (tx, rx) = mpsc::unbounded_channel();
    for i in 0..10 {
        tx.send(Bomb(&drops, i == 3)).ok().unwrap();
    }
    assert_eq!(panic_message(|| drop(rx)), "boom");
    assert_eq!(drops.swap(0, Ordering::SeqCst), 10, "all are dropped");
    assert!(tx.is_closed());
    let (tx, rx) = mpsc::channel(10);
    for i in 0..10 {
        tx.try_send(Bomb(&drops, i == 3)).ok().unwrap();
    }
    assert_eq!(panic_message(|| drop(rx)), "boom");
    assert_eq!(drops.swap(0, Ordering::SeqCst), 10);
    let (tx, rx) = watch::channel(Bomb(&drops, true));
    let message = panic_message(|| drop(tx.send_replace(Bomb(&drops, false))));
    assert_eq!(message, "boom");
    drop((tx, rx));
    assert_eq!(drops.swap(0, Ordering::SeqCst), 2);
    let (tx, rx) = broadcast::channel(4);
    for i in 0..4 {
        tx.send(Arc::new(Bomb(&drops, i == 1))).ok().unwrap();
    }
    assert_eq!(panic_message(|| drop(rx)), "boom");
    drop(tx);
    assert_eq!(drops.swap(0, Ordering::SeqCst), 4);
    let (tx, rx) = oneshot::channel();
    tx.send(Bomb(&drops, true)).ok().unwrap();
    assert_eq!(panic_message(|| drop(rx)), "boom");
}

#[test]
fn the_largest_bounds_take_no_memory_until_they_are_used() {
    let (tx, mut rx) = mpsc::channel(usize::MAX >> 3);
    tx.try_send(1).unwrap();
    assert_eq!((tx.max_capacity(), tx.capacity()), (usize::MAX >> 3, (usize::MAX >> 3) - 1));
    assert_eq!(rx.try_recv(), Ok(1));
    let (tx, mut rx) = broadcast::channel(1 << 40);
    tx.send(1).unwrap();
    assert_eq!(rx.try_recv(), Ok(1));
    assert!(panic_message(|| drop(broadcast::channel::<u8>(usize::MAX))).contains("usize::MAX / 2"));
    let semaphore = Semaphore::new(Semaphore::MAX_PERMITS);
    assert!(panic_message(|| semaphore.add_permits(1)).contains("permits"));
    assert_eq!(semaphore.available_permits(), Semaphore::MAX_PERMITS);
    assert!(panic_message(|| drop(Semaphore::new(Semaphore::MAX_PERMITS + 1))).contains("MAX_PERMITS"));
}

#[test]
fn no_permits_are_to_be_had_at_once_by_who_wants_none() {
    let semaphore = Semaphore::new(0);
    assert_eq!(ready(semaphore.acquire_many(0)).unwrap().num_permits(), 0);
    assert_eq!(semaphore.try_acquire_many(0).unwrap().num_permits(), 0);
    let (tx, rx) = mpsc::channel::<u8>(1);
    tx.try_send(1).unwrap();
    assert_eq!(ready(tx.reserve_many(0)).unwrap().len(), 0);
    drop(rx);
    assert!(ready(tx.reserve_many(0)).is_err(), "closed is closed");
    semaphore.close();
    assert!(ready(semaphore.acquire_many(0)).is_err());
}

#[test]
fn a_watch_without_receivers_opens_again() {
    let (tx, rx) = watch::channel(0);
    drop(rx);
    assert!(tx.is_closed());
    ready(tx.closed());
    let rx = tx.subscribe();
    assert!(!tx.is_closed());
    let mut closed = ByHand::pending(tx.closed());
    let other = rx.clone();
    drop(rx);
    closed.waits();
    drop(other);
    closed.woken();
    let (tx, rx) = broadcast::channel::<u8>(1);
    let mut closed = ByHand::pending(tx.closed());
    drop(rx);
    // Subscribed again before it looked: the channel is open.
    let rx = tx.subscribe();
    assert!(closed.poll().is_pending());
    drop(rx);
    assert!(closed.wakes() == 2 && closed.poll().is_ready());
    let (tx, rx) = watch::channel(0);
    let mut closed = ByHand::pending(tx.closed());
    drop(rx);
    let rx = tx.subscribe();
    assert!(closed.poll().is_pending());
    drop(rx);
    assert!(closed.wakes() == 2 && closed.poll().is_ready());
}

#[test]
fn a_panic_in_a_condition_or_a_change_says_nothing_and_breaks_nothing() {
    let (tx, mut rx) = watch::channel(0);
    assert_eq!(panic_message(|| _ = tx.send_if_modified(|_| panic!("half-way"))), "half-way");
    assert_eq!(rx.has_changed(), Ok(false));
    let waits = ByHand::pending(rx.changed());
    tx.send(1).unwrap();
    waits.woken().unwrap();
}

#[test]
fn who_subscribes_to_a_broadcast_again_begins_at_its_end() {
    let (tx, mut slow) = broadcast::channel(2);
    for n in 0..5 {
        tx.send(n).unwrap();
    }
    let mut again = slow.resubscribe();
    assert_eq!(again.try_recv(), Err(broadcast::TryRecvError::Empty));
    tx.send(5).unwrap();
    assert_eq!(again.try_recv(), Ok(5));
    drop(tx);
    let mut late = slow.resubscribe();
    assert_eq!(ready(late.recv()), Err(broadcast::RecvError::Closed));
    assert!(matches!(slow.try_recv(), Err(broadcast::TryRecvError::Lagged(_))));
    assert_eq!(ready(slow.recv()), Ok(4));
}

// ---- locks and events ---------------------------------------------------------------------------

#[test]
fn locks_are_printed_without_waiting_for_them() {
    let mutex = Mutex::new(7);
    assert!(format!("{mutex:?}").contains('7'));
    let guard = mutex.try_lock().unwrap();
    assert!(format!("{mutex:?}").contains("<locked>"));
    assert_eq!((format!("{guard:?}"), format!("{guard}")), ("7".to_owned(), "7".to_owned()));
    drop(guard);
    let lock = RwLock::new(7);
    let reads = lock.try_read().unwrap();
    assert!(format!("{lock:?}").contains('7'), "a reader is no hindrance");
    drop(reads);
    let _writes = lock.try_write().unwrap();
    assert!(format!("{lock:?}").contains("<locked>"));
    let mut whole = Mutex::from(1);
    *whole.get_mut() += 1;
    assert_eq!((whole.into_inner(), Mutex::<u8>::default().into_inner()), (2, 0));
}

/// A writer that waits goes before readers that come after; when it gives up they go.
#[test]
fn a_task_that_reads_twice_with_a_writer_in_between_waits() {
    let lock = RwLock::new(());
    let first = lock.try_read().unwrap();
    let write = ByHand::pending(lock.write());
    let second = ByHand::pending(lock.read());
    assert!(lock.try_read().is_err(), "nobody overtakes the writer");
    drop(write);
    drop(second.woken());
    drop(first);
    assert!(lock.try_write().is_ok());
}

#[test]
fn an_enabled_notification_takes_what_is_kept_and_others_wait() {
    let notify = Notify::new();
    notify.notify_one();
    let mut first = pin!(notify.notified());
    assert!(first.as_mut().enable(), "it takes the one that is kept");
    let mut second = pin!(notify.notified());
    assert!(!second.as_mut().enable());
    assert!(!second.as_mut().enable(), "asked again it is in line once");
    let mut third = ByHand::pending(notify.notified());
    notify.notify_one();
    third.waits();
    assert!(second.as_mut().enable());
    // Never polled, and dropped: what it was given goes on.
    let mut given = Box::pin(notify.notified());
    drop(third);
    assert!(!given.as_mut().enable());
    notify.notify_one();
    drop(given);
    ready(notify.notified());
}

#[test]
fn all_who_were_made_before_are_notified_and_nobody_else() {
    let notify = Notify::new();
    let made = notify.notified();
    notify.notify_waiters();
    let mut late = ByHand::pending(notify.notified());
    ready(made);
    late.waits();
    notify.notify_one();
    notify.notify_waiters();
    late.woken_any();
    assert!(ByHand::new(notify.notified()).poll().is_pending(), "for all is kept for nobody");
}

trait WokenAny {
    fn woken_any(self);
}

impl<F: Future> WokenAny for ByHand<F> {
    fn woken_any(mut self) {
        assert!(self.wakes() >= 1 && self.poll().is_ready());
    }
}

#[test]
fn a_barrier_for_nobody_or_for_one_holds_nobody() {
    for n in [0, 1] {
        let barrier = Barrier::new(n);
        for _ in 0..3 {
            assert!(ready(barrier.wait()).is_leader());
        }
    }
}

#[test]
fn a_cell_survives_the_panic_of_who_makes_its_value() {
    let drops = Drops::new();
    let cell = OnceCell::new();
    let waits = ByHand::pending(cell.get_or_init(async || pending().await));
    assert!(cell.set(drops.guard()).unwrap_err().is_initializing_err(), "somebody is at it");
    drop(waits);
    let mut fails = ByHand::new(cell.get_or_init(async || panic!("on purpose")));
    panic_message(|| _ = fails.poll());
    drop(fails);
    assert!(!cell.initialized() && cell.get().is_none());
    assert!(ready(cell.get_or_try_init(async || Err::<_, u8>(1))).is_err());
    ready(cell.get_or_init(async || drops.guard()));
    assert!(cell.set(drops.guard()).unwrap_err().is_already_init_err());
    ready(cell.get_or_init(async || panic!("it is there")));
    drop(cell.into_inner().unwrap());
    assert_eq!(drops.count(), 3);
    let mut cell = OnceCell::from(1);
    *cell.get_mut().unwrap() += 1;
    assert_eq!((cell.take(), cell.take(), cell.get()), (Some(2), None, None));
    let set = SetOnce::new();
    set.set(1).unwrap();
    assert_eq!(set.set(2).unwrap_err().0, 2);
    assert_eq!((ready(set.wait()), set.get()), (&1, Some(&1)));
}

// ---- time ---------------------------------------------------------------------------------------

#[leakfree::test(paused)]
async fn a_timeout_is_over_though_its_future_never_waits() {
    // It is ready again and again, until its budget is used up: the deadline is looked at all the same.
    let mut never_waits = Box::pin(async {
        loop {
            leakfree::task::consume_budget().await;
        }
    });
    let begun = std::time::Instant::now();
    let never_waits = poll_fn(|cx| -> Poll<()> {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was never looked at");
        never_waits.as_mut().poll(cx)
    });
    assert!(time::timeout(Duration::ZERO, never_waits).await.is_err());
}

#[leakfree::test(paused)]
async fn who_is_ready_at_the_deadline_is_in_time() {
    let second = Duration::from_secs(1);
    assert!(time::timeout(second, time::sleep(second)).await.is_ok(), "the future is looked at first");
    assert_eq!(time::timeout(Duration::ZERO, async { 1 }).await, Ok(1));
    assert!(time::timeout(Duration::ZERO, pending::<()>()).await.is_err());
    assert!(time::timeout_at(Instant::now(), pending::<()>()).await.is_err());
    let before = Instant::now();
    time::sleep(Duration::ZERO).await;
    time::sleep_until(before - second.min(before.elapsed())).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "what is past is over at once");
}

#[test]
fn an_interval_of_nothing_is_refused() {
    let runtime = leakfree_tests::runtime(1);
    runtime.block_on(async {
        assert!(panic_message(|| drop(time::interval(Duration::ZERO))).contains("interval"));
    });
}

/// A timer's waker that panics stops neither the other timers nor the worker.
#[leakfree::test(workers = 1)]
async fn a_timer_whose_waker_panics_leaves_the_others_be() {
    let mut bad = Box::pin(time::sleep(Duration::from_millis(1)));
    let waker = on_wake(|| std::panic::resume_unwind(Box::new("on purpose")));
    assert!(poll_with(&mut bad, &waker).is_pending());
    time::sleep(Duration::from_millis(5)).await;
    assert!(bad.is_elapsed());
    scope(async |s| {
        s.spawn(time::sleep(Duration::from_millis(1)));
    })
    .await;
}

// ---- streams ------------------------------------------------------------------------------------

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (a, b) = join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (a.unwrap(), b.unwrap().0)
}

#[leakfree::test(workers = 2)]
async fn a_dropped_write_half_ends_its_direction_and_a_forgotten_one_does_not() {
    let (a, b) = tcp_pair().await;
    let (mut read, write) = a.into_split();
    drop(write);
    assert_eq!(b.read(&mut [0]).await.unwrap(), 0, "the end, at once");
    b.write_all(b"still").await.unwrap();
    let mut buf = [0; 5];
    read.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"still");

    let (a, b) = tcp_pair().await;
    let (read, write) = a.into_split();
    write.forget();
    assert!(polled_once(b.read(&mut [0])).await.is_pending(), "no end");
    drop(read);
    assert_eq!(b.read(&mut [0]).await.unwrap(), 0, "with the last half the connection goes");
}

#[leakfree::test(workers = 2)]
async fn halves_of_two_streams_do_not_fit() {
    let ((a, _x), (b, _y)) = (tcp_pair().await, tcp_pair().await);
    let ((a_read, a_write), (b_read, b_write)) = (a.into_split(), b.into_split());
    let error = a_read.reunite(b_write).unwrap_err();
    let (a_read, b_write) = (error.0, error.1);
    a_read.reunite(a_write).unwrap();
    b_read.reunite(b_write).unwrap();
}

/// Written to, it says how much and how often it was flushed.
#[derive(Default)]
struct Flushed {
    written: Vec<u8>,
    flushed_up_to: usize,
}

impl AsyncWrite for Flushed {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed_up_to = self.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A proxy: what has been read is on its way before it waits for more.
#[leakfree::test(workers = 2)]
async fn a_copy_flushes_before_it_waits() {
    let (mut tx, mut rx) = io::duplex(64);
    let mut sink = Flushed::default();
    tx.write_all(b"hello").await.unwrap();
    let mut copy = Box::pin(io::copy(&mut rx, &mut sink));
    assert!(futures::poll!(&mut copy).is_pending());
    drop(copy);
    assert_eq!((&sink.written[..], sink.flushed_up_to), (&b"hello"[..], 5));
}

/// Ready for ever: copying it must let others run.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
}

#[leakfree::test(workers = 1)]
async fn a_copy_of_what_is_always_ready_lets_others_run() {
    scope(async |s| {
        let copy = s.spawn(async { io::copy(&mut Endless, &mut io::sink()).await });
        s.spawn(async {}).await.unwrap();
        copy.abort();
        assert!(copy.await.unwrap_err().is_cancelled());
    })
    .await;
}

/// One direction of a proxy is stuck: the other goes on.
#[leakfree::test(workers = 2)]
async fn one_direction_of_a_proxy_that_is_stuck_leaves_the_other_be() {
    let (mut client, mut left) = io::duplex(8);
    let (mut right, mut server) = io::duplex(8);
    scope(async |s| {
        s.spawn_daemon(async move { io::copy_bidirectional(&mut left, &mut right).await });
        // Nobody reads what the client has to say.
        let mut full = Box::pin(client.write_all(&[1; 64]));
        for _ in 0..10 {
            if futures::poll!(&mut full).is_ready() {
                panic!("there is no room for so much");
            }
            leakfree::yield_now().await;
        }
        drop(full);
        for _ in 0..4 {
            server.write_all(b"answer").await.unwrap();
            let mut buf = [0; 6];
            client.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"answer");
        }
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_proxy_hands_each_end_on_and_counts() {
    let (client, left) = tcp_pair().await;
    let (right, server) = tcp_pair().await;
    scope(async |s| {
        let (mut left, mut right) = (left, right);
        let proxy = s.spawn(async move { io::copy_bidirectional(&mut left, &mut right).await });
        client.write_all(b"request").await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        let mut server = server;
        AsyncReadExt::read_to_end(&mut server, &mut all).await.unwrap();
        assert_eq!(all, b"request", "and its end");
        server.write_all(b"late answer").await.unwrap();
        drop(server);
        let mut all = Vec::new();
        let mut client = client;
        AsyncReadExt::read_to_end(&mut client, &mut all).await.unwrap();
        assert_eq!(all, b"late answer");
        assert_eq!(proxy.await.unwrap().unwrap(), (7, 11));
    })
    .await;
}

// ---- macros -------------------------------------------------------------------------------------

/// As many branches as anybody writes.
#[leakfree::test]
async fn a_select_may_have_many_branches() {
    let n = leakfree::select! {
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n,
        n = pending::<u8>() => n, n = pending::<u8>() => n, n = pending::<u8>() => n, n = async { 64 } => n,
    };
    assert_eq!(n, 64);
}

/// A loser that is not used up goes on in the next round.
#[leakfree::test]
async fn a_future_outlives_the_selects_that_it_loses() {
    let (tx, rx) = oneshot::channel();
    let mut rx = pin!(rx);
    let (tick, mut ticks) = mpsc::unbounded_channel();
    (0..3).for_each(|n| tick.send(n).unwrap());
    let mut tx = Some(tx);
    let mut seen = Vec::new();
    let got = loop {
        leakfree::select! {
            biased;
            Some(n) = ticks.recv() => {
                seen.push(n);
                if n == 2 {
                    tx.take().unwrap().send("late").unwrap();
                }
            }
            got = &mut rx => break got.unwrap(),
        }
    };
    assert_eq!((seen, got), (vec![0, 1, 2], "late"));
}

// ---- joins by other wakers ----------------------------------------------------------------------

/// A join may be polled with a clone of its task's waker, as a combinator does that keeps one: it wakes the task all the same.
#[leakfree::test(workers = 2)]
async fn a_join_that_was_polled_with_a_clone_of_the_waker_wakes_its_task() {
    for drops_it in [false, true] {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut join = leakfree::spawn(rx);
        let mut tx = Some(tx);
        let (mut clone, mut polls) = (None, 0);
        let joined = poll_fn(|cx| {
            polls += 1;
            let clone = clone.get_or_insert_with(|| cx.waker().clone());
            let polled = Pin::new(&mut join).poll(&mut Context::from_waker(clone));
            if polls == 1 {
                assert!(polled.is_pending());
                if drops_it {
                    // The registration goes with the handle, and the clone can still wake.
                    join = leakfree::spawn(async { Ok(9) });
                    clone.wake_by_ref();
                }
                let _ = tx.take().map(|tx| tx.send(7));
            }
            polled
        })
        .await;
        assert_eq!(joined.unwrap().unwrap(), if drops_it { 9 } else { 7 });
    }
}

/// A shield or a scope outside of any task of ours is no more than its future.
#[test]
fn a_shield_outside_of_tasks_is_its_future() {
    assert_eq!(ready(leakfree::shield(async { 7 })), 7);
    drop(ByHand::pending(leakfree::shield(pending::<()>())));
}

#[leakfree::test(workers = 2)]
async fn a_cleanup_that_panics_is_broken_and_is_not_begun_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&times);
    let guard = leakfree::defer_async(async move {
        counts.fetch_add(1, Ordering::SeqCst);
        panic!("out of paper");
    });
    assert!(format!("{guard:?}").starts_with("DeferAsync"));
    let run = std::future::IntoFuture::into_future(guard);
    assert!(format!("{run:?}").starts_with("RunCleanup"));
    let caught = futures::FutureExt::catch_unwind(AssertUnwindSafe(run)).await;
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"out of paper"));
    leakfree::yield_now().await;
    assert_eq!(times.load(Ordering::SeqCst), 1);
    let undo = leakfree::on_cancel(|| unreachable!("it is disarmed"));
    assert_eq!(format!("{undo:?}"), "OnCancel { armed: true }");
    undo.disarm();
}

/// A panic's payload need not be a string.
#[leakfree::test(workers = 2)]
async fn a_panic_with_any_payload_comes_back_from_its_join() {
    let error = leakfree::spawn(async { std::panic::panic_any(7_u8) }).await.unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("no string"), "{error}");
    assert_eq!(error.into_panic().downcast_ref::<u8>(), Some(&7));
}

/// A join that is polled with the waker of another task wakes that one, and lets go of it when it is dropped.
#[leakfree::test(workers = 2)]
async fn a_join_that_is_polled_for_another_task_wakes_that_one() {
    let (give, waker) = oneshot::channel();
    let done = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&done);
    let mut give = Some(give);
    let other = leakfree::spawn(poll_fn(move |cx| {
        if let Some(give) = give.take() {
            give.send(cx.waker().clone()).unwrap();
        }
        if asks.load(Ordering::SeqCst) == 1 { Poll::Ready(7) } else { Poll::Pending }
    }));
    let waker = waker.await.unwrap();
    let mut theirs = Context::from_waker(&waker);
    let mut dropped = leakfree::spawn(pending::<()>());
    assert!(Pin::new(&mut dropped).poll(&mut theirs).is_pending());
    dropped.abort();
    drop(dropped);
    let (tx, rx) = oneshot::channel::<()>();
    let mut join = leakfree::spawn(rx);
    assert!(Pin::new(&mut join).poll(&mut theirs).is_pending());
    done.store(1, Ordering::SeqCst);
    tx.send(()).unwrap();
    // Nobody else wakes it: this waker is not used.
    assert_eq!(other.await.unwrap(), 7);
    join.await.unwrap().unwrap();
}

/// A cleanup whose owner is dropped beside all tasks goes to the runtime that the thread has entered.
#[test]
fn a_cleanup_in_an_entered_runtime_runs_there() {
    let runtime = leakfree_tests::runtime(1);
    let (tx, rx) = std::sync::mpsc::channel();
    {
        let handle = runtime.handle();
        let _entered = handle.enter();
        drop(leakfree::defer_async(async move { tx.send(7).unwrap() }));
    }
    assert!(runtime.shutdown().is_clean());
    assert_eq!(rx.recv(), Ok(7));
}
