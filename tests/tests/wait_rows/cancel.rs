//! What `# Cancel safety` says, for those methods that no other file tests it of: dropped at each point at which it waits, nothing is
//! lost and nothing comes twice.

use std::future::{Future, IntoFuture, pending};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use leakfree::fs::{self, DirBuilder, File, OpenOptions};
use leakfree::io::unix::AsyncFd;
use leakfree::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, BufWriter};
use leakfree::net::{
    Interest, TcpListener, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};
use leakfree::process::{Command, Stdio};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree::task::JoinSet;
use leakfree::time::{self, Instant};
use leakfree::{Scope, yield_now};
use leakfree_tests::{ByHand, Drops, TempDir, dropped_after, polled_once, ready, until};

const LONG: Duration = Duration::from_secs(3600);

/// Drops a wait after its first, second and third poll: it has nothing but its place in line to lose.
macro_rules! give_up {
    ($wait:expr) => {
        for polls in 1..=3 {
            let mut wait = ByHand::new($wait);
            (0..polls).for_each(|_| assert!(wait.poll().is_pending()));
            drop(wait);
        }
    };
}

/// Drops a wait that was woken and not polled again: what it was woken for goes to `$next`.
macro_rules! give_up_woken {
    ($wait:expr, $end:expr, $next:expr) => {{
        give_up!($wait);
        let wait = ByHand::pending($wait);
        let next = ByHand::pending($next);
        $end;
        assert_eq!((wait.wakes(), next.wakes()), (1, 0), "the first in line is woken");
        drop(wait);
        next.woken()
    }};
}

#[test]
fn locks() {
    let lock = Arc::new(Mutex::new(()));
    let held = ready(lock.lock());
    drop(give_up_woken!(lock.lock(), drop(held), lock.lock()));
    let held = ready(lock.lock());
    drop(give_up_woken!(lock.clone().lock_owned(), drop(held), lock.clone().lock_owned()));
    assert!(lock.try_lock().is_ok(), "nobody holds it");

    let lock = Arc::new(RwLock::new(()));
    let held = ready(lock.write());
    drop(give_up_woken!(lock.write(), drop(held), lock.write()));
    let held = ready(lock.write());
    drop(give_up_woken!(lock.clone().write_owned(), drop(held), lock.clone().write_owned()));
    // Readers come in together.
    let held = ready(lock.write());
    give_up!(lock.read());
    give_up!(lock.clone().read_owned());
    let (read, owned) = (ByHand::pending(lock.read()), ByHand::pending(lock.clone().read_owned()));
    drop(held);
    assert_eq!((read.wakes(), owned.wakes()), (1, 1));
    drop((read, owned));
    assert!(lock.try_write().is_ok(), "nobody holds it");

    let semaphore = Arc::new(Semaphore::new(2));
    let all = || ready(semaphore.acquire_many(2)).unwrap();
    let held = all();
    drop(give_up_woken!(semaphore.acquire_many(2), drop(held), semaphore.acquire_many(2)));
    let held = all();
    let next = semaphore.clone().acquire_many_owned(2);
    drop(give_up_woken!(semaphore.clone().acquire_many_owned(2), drop(held), next));
    let held = (all(), semaphore.add_permits(0)).0;
    give_up!(semaphore.acquire());
    give_up!(semaphore.clone().acquire_owned());
    let (one, two) =
        (ByHand::pending(semaphore.acquire()), ByHand::pending(semaphore.clone().acquire_owned()));
    drop(held);
    assert_eq!((one.wakes(), two.wakes()), (1, 1));
    drop((one, two));
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn receivers() {
    let (tx, mut rx) = mpsc::channel(4);
    give_up!(rx.recv());
    let mut none = Vec::new();
    give_up!(rx.recv_many(&mut none, 2));
    let wait = ByHand::pending(rx.recv());
    tx.try_send(1).unwrap();
    assert_eq!(wait.wakes(), 1);
    drop(wait);
    assert_eq!(ready(rx.recv()), Some(1));
    let mut all = Vec::new();
    let wait = ByHand::pending(rx.recv_many(&mut all, 4));
    tx.try_send(2).unwrap();
    tx.try_send(3).unwrap();
    drop(wait);
    assert!(all.is_empty(), "what it did not return is not in the buffer");
    assert_eq!((ready(rx.recv_many(&mut all, 4)), &all[..]), (2, &[2, 3][..]));

    let (tx, mut rx) = mpsc::unbounded_channel();
    give_up!(rx.recv());
    let mut none = Vec::new();
    give_up!(rx.recv_many(&mut none, 2));
    let wait = ByHand::pending(rx.recv());
    tx.send(1).unwrap();
    drop(wait);
    assert_eq!(ready(rx.recv()), Some(1));
    assert!(ByHand::new(rx.recv()).poll().is_pending(), "it came once");
    give_up!(tx.closed());
    drop(rx);
    ready(tx.closed());

    let (tx, mut rx) = oneshot::channel();
    give_up!(&mut rx);
    let wait = ByHand::pending(&mut rx);
    tx.send(1).unwrap();
    drop(wait);
    assert_eq!(ready(rx), Ok(1));
    let (mut tx, rx) = oneshot::channel::<()>();
    give_up!(tx.closed());
    drop(rx);
    ready(tx.closed());

    let (tx, mut rx) = watch::channel(0);
    give_up!(rx.changed());
    give_up!(rx.wait_for(|n| *n > 0));
    give_up!(tx.closed());
    let wait = ByHand::pending(rx.changed());
    tx.send(1).unwrap();
    assert_eq!(wait.wakes(), 1);
    drop(wait);
    ready(rx.changed()).unwrap();
    let wait = ByHand::pending(rx.wait_for(|n| *n > 1));
    tx.send(2).unwrap();
    drop(wait);
    assert_eq!(*ready(rx.wait_for(|n| *n > 1)).unwrap(), 2);
    drop(rx);
    ready(tx.closed());

    let (tx, mut rx) = broadcast::channel(2);
    give_up!(rx.recv());
    give_up!(tx.closed());
    let wait = ByHand::pending(rx.recv());
    tx.send(1).unwrap();
    drop(wait);
    assert_eq!(ready(rx.recv()), Ok(1));
    drop(rx);
    ready(tx.closed());
}

#[test]
fn senders() {
    let drops = Drops::new();
    let (tx, mut rx) = mpsc::channel(1);
    tx.try_send(drops.guard()).unwrap();
    give_up!(tx.send(drops.guard()));
    assert_eq!(drops.count(), 3, "what was not sent is dropped");
    give_up!(tx.reserve());
    give_up!(tx.reserve_many(1));
    give_up!(tx.clone().reserve_owned());
    give_up!(tx.closed());
    // Room that one was given and did not use goes to the next.
    give_up_woken!(tx.reserve(), drop(ready(rx.recv())), tx.reserve()).unwrap().send(drops.guard());
    give_up_woken!(tx.reserve_many(1), drop(ready(rx.recv())), tx.reserve()).unwrap().send(drops.guard());
    let next = tx.clone().reserve_owned();
    drop(
        give_up_woken!(tx.clone().reserve_owned(), drop(ready(rx.recv())), next).unwrap().send(drops.guard()),
    );
    let sent = ByHand::pending(tx.send(drops.guard()));
    let next = ByHand::pending(tx.send(drops.guard()));
    let before = drops.count();
    drop(ready(rx.recv()));
    drop(sent);
    assert_eq!(drops.count(), before + 2, "the one that was received, and the one that was given up");
    next.woken().unwrap();
    assert!(rx.try_recv().is_ok() && rx.try_recv().is_err(), "one came, the other never");
    drop(rx);
    ready(tx.closed());
}

#[leakfree::test(paused)]
async fn a_send_with_a_time() {
    let (tx, mut rx) = mpsc::channel(1);
    tx.try_send(1).unwrap();
    assert!(polled_once(tx.send_timeout(2, LONG)).await.is_pending());
    assert_eq!(rx.recv().await, Some(1));
    assert!(rx.try_recv().is_err(), "it has sent nothing");
    tx.send_timeout(3, LONG).await.unwrap();
}

#[test]
fn events() {
    let notify = Arc::new(Notify::new());
    give_up_woken!(notify.notified(), notify.notify_one(), notify.notified());
    give_up_woken!(notify.clone().notified_owned(), notify.notify_one(), notify.clone().notified_owned());
    assert!(ByHand::new(notify.notified()).poll().is_pending(), "one notification came once");

    let barrier = Barrier::new(2);
    drop(ByHand::pending(barrier.wait()));
    ready(barrier.wait());
    assert!(ByHand::new(barrier.wait()).poll().is_pending(), "the next round");

    let cell = OnceCell::new();
    give_up!(cell.get_or_init(pending::<u8>));
    give_up!(cell.get_or_try_init(pending::<Result<u8, ()>>));
    let makes = ByHand::pending(cell.get_or_init(pending::<u8>));
    give_up!(cell.get_or_init(async || 1));
    let mut waits = ByHand::pending(cell.get_or_try_init(async || Ok::<u8, ()>(2)));
    drop(makes);
    assert_eq!(waits.wakes(), 1, "the next makes it");
    assert_eq!(waits.poll().map(|made| *made.unwrap()), std::task::Poll::Ready(2));

    let once = SetOnce::new();
    give_up!(once.wait());
    once.set(1).unwrap();
    assert_eq!(*ready(once.wait()), 1);
}

#[leakfree::test(paused)]
async fn timers() {
    let begun = Instant::now();
    assert!(polled_once(time::sleep(LONG)).await.is_pending());
    assert!(polled_once(time::sleep_until(begun + LONG)).await.is_pending());
    assert!(polled_once(time::timeout(LONG, pending::<()>())).await.is_pending());
    assert!(polled_once(time::timeout_at(begun + LONG, pending::<()>())).await.is_pending());
    let mut interval = time::interval(LONG);
    interval.tick().await;
    for _ in 0..3 {
        assert!(polled_once(interval.tick()).await.is_pending());
    }
    assert_eq!(interval.tick().await, begun + LONG, "the same tick");
    // The future inside a timeout can be waited for again.
    let (tx, mut rx) = oneshot::channel();
    assert!(polled_once(time::timeout(LONG, &mut rx)).await.is_pending());
    tx.send(1).unwrap();
    assert_eq!(time::timeout(LONG, rx).await, Ok(Ok(1)));
    let now = Instant::now();
    drop(time::advance(LONG));
    assert_eq!(Instant::now(), now);
    time::advance(LONG).await;
    assert_eq!(Instant::now(), now + LONG);
}

#[leakfree::test]
async fn what_is_around_a_future() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    leakfree::task_local! { static KEY: u8; }
    assert!(polled_once(leakfree::waiting("label", rx.recv())).await.is_pending());
    assert!(polled_once(leakfree::task::unconstrained(rx.recv())).await.is_pending());
    assert!(polled_once(KEY.scope(1, rx.recv())).await.is_pending());
    assert!(polled_once(leakfree::shield(rx.recv())).await.is_pending());
    assert!(polled_once(leakfree::shield_for(LONG, rx.recv())).await.is_pending());
    assert!(polled_once(yield_now()).await.is_pending());
    assert!(polled_once(leakfree::task::consume_budget()).await.is_ready());
    tx.send(1).unwrap();
    assert_eq!(leakfree::waiting("label", rx.recv()).await, Some(1));
}

#[leakfree::test(workers = 2)]
async fn joins() {
    let (tx, rx) = oneshot::channel::<u8>();
    let mut handle = leakfree::spawn(rx);
    for _ in 0..3 {
        assert!(polled_once(&mut handle).await.is_pending());
    }
    tx.send(1).unwrap();
    assert_eq!(handle.await.unwrap(), Ok(1));
    let sum = leakfree::try_scope(async |s: Scope<()>| {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut handle = s.spawn_try(async { rx.await.map_err(drop) });
        assert!(polled_once(&mut handle).await.is_pending());
        tx.send(2).unwrap();
        Ok(handle.await)
    });
    assert_eq!(sum.await.unwrap(), 2);
    let sum = leakfree::join_scope(async |j| {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut handle = j.spawn(rx);
        assert!(polled_once(&mut handle).await.is_pending());
        tx.send(3).unwrap();
        handle.await
    });
    assert_eq!(sum.await, Ok(3));
    let sum = leakfree::scope_with((), async |s: leakfree::DataScope<'_>, _: &mut ()| {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut handle = s.spawn(rx);
        assert!(polled_once(&mut handle).await.is_pending());
        tx.send(4).unwrap();
        handle.await.unwrap()
    });
    assert_eq!(sum.await.0, Ok(4));
}

#[test]
fn joins_in_a_blocking_scope() {
    let runtime = leakfree_tests::runtime(1);
    let value = runtime.scope_blocking(|s| {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut child = s.spawn(rx);
        s.spawn(async move {
            assert!(polled_once(&mut child).await.is_pending());
            tx.send(5).unwrap();
            child.await.unwrap()
        })
        .join()
    });
    assert_eq!(value.unwrap(), Ok(5));
    assert!(runtime.shutdown().is_clean());
}

#[leakfree::test(workers = 2)]
async fn sets() {
    let (tx, rx) = oneshot::channel::<u8>();
    let mut set = JoinSet::new();
    set.spawn(rx);
    assert!(polled_once(set.join_next()).await.is_pending());
    assert!(polled_once(set.join_next_with_id()).await.is_pending());
    tx.send(1).unwrap();
    assert_eq!(set.join_next_with_id().await.unwrap().unwrap().1, Ok(1));
    assert!(set.join_next().await.is_none(), "it came once");
    let (go, come) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = std::sync::mpsc::channel();
    set.spawn_blocking(move || {
        begin.send(()).unwrap();
        let _ = come.recv();
        Ok(2)
    });
    until(|| begun.try_recv().is_ok()).await;
    assert!(polled_once(set.shutdown()).await.is_pending());
    assert_eq!(set.len(), 1, "it has not ended");
    go.send(()).unwrap();
    set.shutdown().await;
    assert!(set.is_empty());
    // The tasks are aborted, and the outputs lost.
    let drops = Drops::new();
    let guard = drops.guard();
    let mut set = JoinSet::new();
    set.spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    assert!(polled_once(set.join_all()).await.is_pending());
    until(|| drops.count() == 1).await;

    leakfree::scope(async |s| {
        let (tx, rx) = oneshot::channel::<u8>();
        let mut children = s.children();
        children.spawn(rx);
        assert!(polled_once(children.join_next()).await.is_pending());
        tx.send(1).unwrap();
        assert_eq!(children.join_next().await.unwrap().1.unwrap(), Ok(1));
        assert!(children.join_next().await.is_none());
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn cancellations() {
    leakfree::scope(async |s| {
        let token = s.token();
        assert!(polled_once(s.cancelled()).await.is_pending());
        assert!(polled_once(token.cancelled()).await.is_pending());
        assert!(polled_once(leakfree::cancelled()).await.is_pending());
        s.cancel("enough");
        s.cancelled().await;
        token.cancelled().await;
    })
    .await;
    assert!(!leakfree::is_cancelled());
}

/// A body whose child never ends, and counts its end.
fn endless<E: Send + Sync + 'static>(drops: &Drops) -> impl AsyncFnOnce(Scope<E>) + use<E> {
    let guard = drops.guard();
    async move |s| {
        drop(s.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        }));
        pending::<()>().await;
    }
}

/// Dropped before its end, a scope cancels its children, and the next one out waits for them.
#[leakfree::test(workers = 2)]
async fn scopes() {
    let drops = Drops::new();
    leakfree::scope(async |_| {
        assert!(polled_once(leakfree::scope(async |s| endless(&drops)(s).await)).await.is_pending());
        assert!(
            polled_once(leakfree::supervisor_scope(async |s| endless(&drops)(s).await)).await.is_pending()
        );
        let fails = async |s: Scope<()>| {
            endless(&drops)(s).await;
            Ok::<(), ()>(())
        };
        assert!(polled_once(leakfree::try_scope(fails)).await.is_pending());
        let builder = Scope::builder;
        assert!(polled_once(builder().scope(async |s| endless(&drops)(s).await)).await.is_pending());
        assert!(
            polled_once(builder().supervisor_scope(async |s| endless(&drops)(s).await)).await.is_pending()
        );
        assert!(polled_once(builder().try_scope(fails)).await.is_pending());
    })
    .await;
    assert_eq!(drops.count(), 6);
    leakfree::scope(async |_| {
        let guard = drops.guard();
        let body = async |s: leakfree::DataScope<'_>, _: &mut ()| {
            drop(s.spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
            pending::<()>().await;
        };
        assert!(polled_once(leakfree::scope_with((), body)).await.is_pending());
    })
    .await;
    assert_eq!(drops.count(), 7);
    // Those of a `join_scope` are gone at once.
    let guard = drops.guard();
    let body = leakfree::join_scope(async |j| {
        let _child = j.spawn(async move { drop((pending::<()>().await, guard)) });
        pending::<()>().await;
    });
    assert!(polled_once(body).await.is_pending());
    assert_eq!(drops.count(), 8);
    let guard = drops.guard();
    let body = leakfree::join_scope_send(async |j| {
        let _child = j.spawn(async move { drop((pending::<()>().await, guard)) });
        pending::<()>().await;
    });
    assert!(polled_once(body).await.is_pending());
    assert_eq!(drops.count(), 9);
}

#[leakfree::test(workers = 2)]
async fn places() {
    let drops = Drops::new();
    let (tx, rx) = oneshot::channel::<()>();
    let scope = Scope::builder().max_concurrent(1).scope(async |s| {
        drop(s.spawn(rx));
        let (theirs, guard) = (s.clone(), drops.guard());
        let asked = leakfree::spawn(async move {
            let child = async move { drop(guard) };
            assert!(polled_once(theirs.spawn_when_free(child)).await.is_pending());
        });
        asked.await.unwrap();
        assert_eq!(drops.count(), 1, "it has spawned nothing");
        tx.send(()).unwrap();
    });
    scope.await;
}

#[leakfree::test(workers = 2)]
async fn readers() {
    let (mut a, mut b) = io::duplex(16);
    for wait in 0..2 {
        match wait {
            0 => assert!(polled_once(a.read(&mut [0; 2])).await.is_pending()),
            _ => assert!(polled_once(a.read_vectored(&mut [IoSliceMut::new(&mut [0])])).await.is_pending()),
        }
        assert!(polled_once(a.read_u8()).await.is_pending());
        b.write_all(b"x").await.unwrap();
        assert_eq!(a.read_u8().await.unwrap(), b'x', "nothing is lost");
    }
    // Not cancel safe: what they have read is lost, or in the buffer, and the rest comes next.
    b.write_all(b"ab").await.unwrap();
    assert!(polled_once(a.read_exact(&mut [0; 3])).await.is_pending());
    b.write_all(b"c").await.unwrap();
    assert_eq!(a.read_u8().await.unwrap(), b'c');
    b.write_all(b"ab").await.unwrap();
    let mut all = Vec::new();
    assert!(polled_once(a.read_to_end(&mut all)).await.is_pending());
    assert_eq!(all, b"ab");
    b.write_all(b"ab").await.unwrap();
    let mut text = String::new();
    assert!(polled_once(a.read_to_string(&mut text)).await.is_pending());
    assert_eq!(text, "");

    let mut a = BufReader::new(a);
    assert!(polled_once(a.fill_buf()).await.is_pending());
    b.write_all(b"one").await.unwrap();
    assert_eq!(a.fill_buf().await.unwrap(), b"one");
    let mut part = Vec::new();
    assert!(polled_once(a.read_until(b';', &mut part)).await.is_pending());
    b.write_all(b"two;").await.unwrap();
    a.read_until(b';', &mut part).await.unwrap();
    assert_eq!(part, b"onetwo;", "a part is in the buffer, and the rest comes next");
    b.write_all(b"one").await.unwrap();
    let mut line = String::new();
    assert!(polled_once(a.read_line(&mut line)).await.is_pending());
    b.write_all(b"two\n").await.unwrap();
    a.read_line(&mut line).await.unwrap();
    assert_eq!(line, "two\n", "what it has read of the line is lost");
    let mut lines = a.lines();
    b.write_all(b"one").await.unwrap();
    assert!(polled_once(lines.next_line()).await.is_pending());
    b.write_all(b"two\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "onetwo");
}

#[leakfree::test(workers = 2)]
async fn writers() {
    let (mut a, mut b) = io::duplex(2);
    a.write_all(b"12").await.unwrap();
    for _ in 0..3 {
        assert!(polled_once(a.write(b"x")).await.is_pending());
        assert!(polled_once(a.write_vectored(&[IoSlice::new(b"x")])).await.is_pending());
        assert!(polled_once(a.write_all(b"x")).await.is_pending());
    }
    let mut buf = [0; 2];
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"12");
    assert!(polled_once(a.write_all(b"3456")).await.is_pending());
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"34", "a part may have been written");
    let mut a = BufWriter::new(a);
    a.write_all(b"56789").await.unwrap();
    assert!(polled_once(a.flush()).await.is_pending());
    assert!(polled_once(a.shutdown()).await.is_pending());
    let mut rest = Vec::new();
    let (done, read) = leakfree::join!(
        async {
            a.flush().await?;
            a.shutdown().await
        },
        b.read_to_end(&mut rest)
    );
    done.unwrap();
    read.unwrap();
    assert_eq!(rest, b"56789", "flushed again, nothing came twice");
}

#[leakfree::test(workers = 2)]
async fn copies() {
    let (mut a, mut b) = io::duplex(2);
    let mut from = &b"123456"[..];
    assert!(polled_once(io::copy_buf(&mut from, &mut a)).await.is_pending());
    assert_eq!(from, b"3456", "what was not written is there still");
    let mut buf = [0; 2];
    b.read_exact(&mut buf).await.unwrap();
    // Not cancel safe: what was read and not written is lost.
    assert!(polled_once(io::copy(&mut from, &mut a)).await.is_pending());
    assert_eq!(from, b"");
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"34");
    let (mut c, mut d) = io::duplex(2);
    assert!(polled_once(io::copy_bidirectional(&mut b, &mut c)).await.is_pending());
    d.write_all(b"x").await.unwrap();
    assert_eq!(c.read_u8().await.unwrap(), b'x', "both still work");
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (stream, listener.accept().await.unwrap().0)
}

async fn unix_pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A stream and its halves: what was given up has read and written nothing, and what fills or empties a whole buffer has got part of the way.
macro_rules! streams {
    ($pair:ident) => {{
        let (mut a, b) = $pair().await;
        let full = vec![0; 1 << 20];
        for _ in 0..3 {
            assert!(polled_once(a.read(&mut [0])).await.is_pending());
            assert!(polled_once(a.read_vectored(&mut [IoSliceMut::new(&mut [0])])).await.is_pending());
            assert!(polled_once(a.readable()).await.is_pending());
            assert!(polled_once(a.ready(Interest::READABLE)).await.is_pending());
            assert!(polled_once(a.split().0.read(&mut [0])).await.is_pending());
            assert!(polled_once(a.split().0.readable()).await.is_pending());
        }
        b.write_all(b"ab").await.unwrap();
        let mut buf = [0; 2];
        a.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ab");
        b.write_all(b"ab").await.unwrap();
        a.readable().await.unwrap();
        assert!(polled_once(a.read_exact(&mut [0; 3])).await.is_pending());
        assert!(polled_once(a.split().0.read_exact(&mut [0; 3])).await.is_pending());
        b.write_all(b"c").await.unwrap();
        assert_eq!(a.read(&mut buf).await.unwrap(), 1, "the rest comes next");
        assert_eq!(buf[0], b'c');
        let mut sent = 0;
        while let Ok(n) = a.try_write(&full) {
            sent += n;
        }
        for _ in 0..3 {
            assert!(polled_once(a.write(b"x")).await.is_pending());
            assert!(polled_once(a.write_vectored(&[IoSlice::new(b"x")])).await.is_pending());
            assert!(polled_once(a.writable()).await.is_pending());
            assert!(polled_once(a.write_all(b"x")).await.is_pending());
            assert!(polled_once(a.split().1.write(b"x")).await.is_pending());
            assert!(polled_once(a.split().1.write_all(b"x")).await.is_pending());
            assert!(polled_once(a.split().1.writable()).await.is_pending());
        }
        let (mut read, mut write) = a.into_split();
        assert!(polled_once(read.read(&mut [0])).await.is_pending());
        assert!(polled_once(read.read_exact(&mut [0])).await.is_pending());
        assert!(polled_once(read.readable()).await.is_pending());
        assert!(polled_once(write.write(b"x")).await.is_pending());
        assert!(polled_once(write.write_all(b"x")).await.is_pending());
        assert!(polled_once(write.writable()).await.is_pending());
        let mut came = 0;
        let mut into = vec![1; 1 << 20];
        while came < sent {
            let n = b.read(&mut into).await.unwrap();
            assert!(into[..n].iter().all(|byte| *byte == 0));
            came += n;
        }
        write.write_all(b"y").await.unwrap();
        assert_eq!(b.read(&mut into).await.unwrap(), 1, "nothing came that was given up");
        assert_eq!(into[0], b'y');
    }};
}

#[leakfree::test(workers = 2)]
async fn tcp_streams() {
    streams!(tcp_pair);
    let (a, b) = tcp_pair().await;
    assert!(polled_once(a.peek(&mut [0])).await.is_pending());
    b.write_all(b"x").await.unwrap();
    assert_eq!(a.peek(&mut [0]).await.unwrap(), 1);
    assert_eq!(a.read(&mut [0]).await.unwrap(), 1);
}

#[leakfree::test(workers = 2)]
async fn unix_streams() {
    streams!(unix_pair);
}

#[leakfree::test(workers = 2)]
async fn connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    assert!(polled_once(listener.accept()).await.is_pending());
    // At each point that a connect waits at, until it does not.
    let mut connected = None;
    for times in 1.. {
        connected = dropped_after(times, TcpStream::connect(addr)).await;
        let socket = TcpSocket::new_v4().unwrap();
        if connected.is_some() && dropped_after(times, socket.connect(addr)).await.is_some() {
            break;
        }
    }
    connected.unwrap().unwrap();
    listener.accept().await.unwrap();
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(polled_once(listener.accept()).await.is_pending());
    let mut connected = None;
    for times in 1..10 {
        connected = connected.or(dropped_after(times, UnixStream::connect(&path)).await);
    }
    connected.unwrap().unwrap();
    listener.accept().await.unwrap();
}

#[leakfree::test(workers = 2)]
async fn names() {
    // What is given up goes on, and the scope waits for it.
    leakfree::scope(async |_| {
        for times in 1..4 {
            leakfree::scope(async |_| {
                drop(dropped_after(times, leakfree::net::lookup_host("localhost:1")).await);
                drop(dropped_after(times, TcpListener::bind("localhost:0")).await);
                drop(dropped_after(times, UdpSocket::bind("localhost:0")).await);
            })
            .await;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The look-up may be quick: then there was nothing to give up.
        if dropped_after(1, socket.connect("localhost:1")).await.is_none() {
            assert_eq!(
                socket.peer_addr().unwrap_err().kind(),
                ErrorKind::NotConnected,
                "it has changed nothing"
            );
        }
        drop(dropped_after(1, socket.send_to(b"x", "localhost:1")).await);
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn udp_sockets() {
    let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let b = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    for _ in 0..3 {
        assert!(polled_once(a.recv(&mut [0])).await.is_pending());
        assert!(polled_once(a.recv_from(&mut [0])).await.is_pending());
        assert!(polled_once(a.peek(&mut [0])).await.is_pending());
        assert!(polled_once(a.peek_from(&mut [0])).await.is_pending());
        assert!(polled_once(a.readable()).await.is_pending());
        assert!(polled_once(a.ready(Interest::READABLE)).await.is_pending());
    }
    // Nothing that was not polled is sent.
    drop(b.send(b"never"));
    b.writable().await.unwrap();
    b.send(b"once").await.unwrap();
    let mut buf = [0; 8];
    assert_eq!(a.recv(&mut buf).await.unwrap(), 4);
    assert!(polled_once(a.recv(&mut buf)).await.is_pending());
}

#[leakfree::test(workers = 2)]
async fn descriptors_of_others() {
    let (mut other, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut fd = AsyncFd::new(ours).unwrap();
    let mut buf = [0; 8];
    for _ in 0..3 {
        assert!(polled_once(fd.readable()).await.is_pending());
        assert!(polled_once(fd.readable_mut()).await.is_pending());
        assert!(polled_once(fd.ready(Interest::READABLE)).await.is_pending());
        assert!(polled_once(fd.ready_mut(Interest::READABLE)).await.is_pending());
        let read = fd.async_io(Interest::READABLE, |mut fd| fd.read(&mut buf));
        assert!(polled_once(read).await.is_pending());
        let read = fd.async_io_mut(Interest::READABLE, |fd| fd.read(&mut buf));
        assert!(polled_once(read).await.is_pending());
        drop(fd.writable().await.unwrap());
        drop(fd.writable_mut().await.unwrap());
    }
    other.write_all(b"once").unwrap();
    // Guards that are dropped leave it ready; what was not read is there still.
    drop(fd.readable().await.unwrap());
    drop(fd.readable_mut().await.unwrap());
    assert_eq!(fd.async_io(Interest::READABLE, |mut fd| fd.read(&mut buf)).await.unwrap(), 4);
    assert_eq!(&buf[..4], b"once");
    let read = fd.async_io(Interest::READABLE, |mut fd| fd.read(&mut buf));
    assert!(polled_once(read).await.is_pending());
}

#[leakfree::test(workers = 2)]
async fn unix_datagrams() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let to = UnixDatagram::bind(&path).unwrap();
    let (a, b) = UnixDatagram::pair().unwrap();
    for _ in 0..3 {
        assert!(polled_once(a.recv(&mut [0])).await.is_pending());
        assert!(polled_once(a.recv_from(&mut [0])).await.is_pending());
        assert!(polled_once(a.readable()).await.is_pending());
        assert!(polled_once(a.ready(Interest::READABLE)).await.is_pending());
    }
    let mut sent = 0;
    while b.try_send(b"x").is_ok() {
        sent += 1;
    }
    for _ in 0..3 {
        assert!(polled_once(b.send(b"never")).await.is_pending());
        assert!(polled_once(b.writable()).await.is_pending());
    }
    let mut buf = [0; 8];
    for _ in 0..sent {
        assert_eq!(a.recv(&mut buf).await.unwrap(), 1);
    }
    assert!(polled_once(a.recv(&mut buf)).await.is_pending());
    let (mut sent, from) = (0, UnixDatagram::unbound().unwrap());
    while from.try_send_to(b"x", &path).is_ok() {
        sent += 1;
    }
    for times in 1..4 {
        assert!(dropped_after(times, from.send_to(b"never", &path)).await.is_none());
    }
    for _ in 0..sent {
        assert_eq!(to.recv(&mut buf).await.unwrap(), 1);
    }
    assert!(polled_once(to.recv(&mut buf)).await.is_pending());
}

/// Makes a call at each point: dropped before its first poll it is not made, and later it is made to its end, which the scope waits
/// for.
async fn call<F: Future>(make: impl Fn() -> F, is_made: impl Fn() -> bool) {
    drop(make());
    assert!(!is_made(), "what was never polled is not done");
    leakfree::scope(async |_| drop(dropped_after(1, make()).await)).await;
    assert!(is_made());
}

#[leakfree::test(workers = 2)]
async fn calls_of_paths() {
    // What is given up goes on, and the scope waits for it.
    leakfree::scope(async |_| {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        call(|| fs::write(at("a"), "x"), || at("a").exists()).await;
        call(|| fs::copy(at("a"), at("b")), || at("b").exists()).await;
        call(|| fs::create_dir(at("c")), || at("c").exists()).await;
        call(|| fs::create_dir_all(at("d/e")), || at("d/e").exists()).await;
        call(|| DirBuilder::new().create(at("f")), || at("f").exists()).await;
        call(|| fs::hard_link(at("a"), at("g")), || at("g").exists()).await;
        call(|| fs::symlink(at("a"), at("h")), || at("h").exists()).await;
        call(|| fs::remove_dir(at("c")), || !at("c").exists()).await;
        call(|| fs::remove_dir_all(at("d")), || !at("d").exists()).await;
        call(|| fs::remove_file(at("g")), || !at("g").exists()).await;
        call(|| fs::rename(at("b"), at("i")), || at("i").exists()).await;
        let mut read_only = std::fs::metadata(at("a")).unwrap().permissions();
        read_only.set_readonly(true);
        let is = || std::fs::metadata(at("a")).unwrap().permissions().readonly();
        call(|| fs::set_permissions(at("a"), read_only.clone()), is).await;
        call(|| File::create(at("j")), || at("j").exists()).await;
        call(|| File::create_new(at("k")), || at("k").exists()).await;
        call(|| OpenOptions::new().write(true).create(true).open(at("l")), || at("l").exists()).await;
        // What only looks has nothing to lose.
        for times in 1..3 {
            drop(dropped_after(times, fs::canonicalize(at("a"))).await);
            drop(dropped_after(times, fs::metadata(at("a"))).await);
            drop(dropped_after(times, fs::symlink_metadata(at("h"))).await);
            drop(dropped_after(times, fs::read(at("a"))).await);
            drop(dropped_after(times, fs::read_to_string(at("a"))).await);
            drop(dropped_after(times, fs::read_link(at("h"))).await);
            drop(dropped_after(times, fs::try_exists(at("a"))).await);
            drop(dropped_after(times, fs::read_dir(at("."))).await);
            drop(dropped_after(times, File::open(at("a"))).await);
        }
        assert_eq!(fs::read_to_string(at("a")).await.unwrap(), "x");
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn calls_of_open_files() {
    // What is given up goes on, and the scope waits for it.
    leakfree::scope(async |_| {
        let dir = TempDir::new();
        (0..100).for_each(|n| std::fs::write(dir.path().join(n.to_string()), "content").unwrap());
        let mut entries = fs::read_dir(dir.path()).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for times in (1..).map(|n| n % 3) {
            match dropped_after(times, entries.next_entry()).await {
                Some(entry) => {
                    let Some(entry) = entry.unwrap() else { break };
                    drop(dropped_after(1, entry.metadata()).await);
                    drop(dropped_after(1, entry.file_type()).await);
                    assert!(seen.insert(entry.file_name()), "it came once");
                }
                None => yield_now().await,
            }
        }
        assert_eq!(seen.len(), 100);

        let path = dir.path().join("0");
        let len = || std::fs::metadata(&path).unwrap().len();
        let mut file = OpenOptions::new().read(true).write(true).open(&path).await.unwrap();
        drop(dropped_after(1, file.set_len(3)).await);
        file.sync_all().await.unwrap();
        assert_eq!(len(), 3);
        for times in 1..3 {
            drop(dropped_after(times, file.sync_all()).await);
            drop(dropped_after(times, file.sync_data()).await);
            drop(dropped_after(times, file.metadata()).await);
            drop(dropped_after(times, file.try_clone()).await);
            drop(dropped_after(times, file.rewind()).await);
            drop(dropped_after(times, file.stream_position()).await);
            drop(dropped_after(times, file.seek(SeekFrom::Start(1))).await);
            drop(
                dropped_after(times, file.set_permissions(std::fs::metadata(&path).unwrap().permissions()))
                    .await,
            );
            file.rewind().await.unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).await.unwrap();
            assert_eq!(content, b"con");
        }
        // The file is closed, whatever was on its way.
        file.write_all(b"!").await.unwrap();
        leakfree::scope(async |_| drop(dropped_after(1, file.into_std()).await)).await;
        until(|| len() == 4).await;
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn processes() {
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("1000").kill_on_drop(true);
        command
    };
    let mut child = sleep().spawn().unwrap();
    for _ in 0..3 {
        assert!(polled_once(child.wait()).await.is_pending());
    }
    assert!(dropped_after(1, child.kill()).await.is_none());
    assert!(!child.wait().await.unwrap().success(), "it is killed all the same");
    assert!(polled_once(sleep().status()).await.is_pending());
    assert!(polled_once(sleep().output()).await.is_pending());
    let child = sleep().stdout(Stdio::piped()).spawn().unwrap();
    let alive = std::path::PathBuf::from(format!("/proc/{}", child.id().unwrap()));
    assert!(polled_once(child.wait_with_output()).await.is_pending());
    until(|| !alive.exists()).await;
}

#[leakfree::test(workers = 2)]
async fn ctrl_c() {
    for _ in 0..3 {
        assert!(polled_once(leakfree::signal::ctrl_c()).await.is_pending());
    }
}

/// Given up while it runs, a cleanup goes on at the side of its scope, which waits for it.
#[leakfree::test(workers = 2)]
async fn cleanups() {
    let drops = Drops::new();
    let guard = drops.guard();
    let (tx, rx) = oneshot::channel::<()>();
    leakfree::scope(async |_| {
        let cleanup = leakfree::defer_async(async move {
            rx.await.unwrap();
            drop(guard);
        });
        assert!(polled_once(cleanup.into_future()).await.is_pending());
        assert_eq!(drops.count(), 0);
        tx.send(()).unwrap();
    })
    .await;
    assert_eq!(drops.count(), 1);
}
