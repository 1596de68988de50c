//! Every wait records what it is and where the caller stood: one row for each.

use std::time::Duration;

use leakfree::net::{TcpListener, TcpStream};
use leakfree::report::snapshot::{TaskInfo, WaitObject, WaitReason};
use leakfree::sync::{Mutex, mpsc, oneshot};
use leakfree_tests::parked;

/// Parks a task on an expression, and returns what a snapshot says of it and the line that it was on.
macro_rules! park {
    ($future:expr) => {{
        let line = line!();
        let handle = leakfree::scope::current().task().name(concat!("line ", line!())).spawn(async move {
            let _ = $future.await;
        });
        let task = parked(concat!("line ", line!())).await;
        handle.abort();
        let _ = handle.await;
        (task, line)
    }};
}

#[track_caller]
fn check((task, line): (TaskInfo, u32), reason: WaitReason, created: Option<u32>) {
    assert_eq!(task.waits.len(), 1, "{task:?}");
    let wait = &task.waits[0];
    assert_eq!(wait.reason, reason);
    assert_eq!((wait.site.file, wait.site.line), (file!(), line));
    assert!(wait.site.column > 1);
    match (&wait.object, created) {
        (WaitObject::Created(site), Some(line)) => assert_eq!((site.file, site.line), (file!(), line)),
        (WaitObject::Lock(lock), Some(line)) => {
            assert_eq!((lock.created.file, lock.created.line), (file!(), line));
            assert_eq!(lock.waiters, 1);
        }
        (WaitObject::Channel(channel), Some(line)) => {
            assert_eq!((channel.created.file, channel.created.line), (file!(), line));
            assert!(channel.senders > 0 && channel.receivers > 0, "{channel:?}");
        }
        (WaitObject::Created(_), None) => panic!("{wait:?}"),
        (_, Some(_)) => panic!("{wait:?}"),
        _ => {}
    }
    assert_eq!((task.own_wakers, task.foreign_wakers), (1, 0), "the wait set is complete");
    assert_eq!(task.spawned_at.file, file!());
}

const LONG: Duration = Duration::from_secs(3600);

#[leakfree::test(workers = 2)]
async fn timers() {
    check(park!(leakfree::time::sleep(LONG)), WaitReason::Sleep, None);
    let later = leakfree::time::Instant::now() + LONG;
    check(park!(leakfree::time::sleep_until(later)), WaitReason::Sleep, None);
    let mut interval = leakfree::time::interval(LONG);
    interval.tick().await;
    check(park!(interval.tick()), WaitReason::Interval, None);
    check(park!(leakfree::time::timeout(LONG, std::future::pending::<()>())), WaitReason::Timeout, None);
    // For ever, and no overflow.
    check(park!(leakfree::time::sleep(Duration::MAX)), WaitReason::Sleep, None);
}

#[leakfree::test(workers = 2)]
async fn channels_and_locks() {
    let (mut tx, rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    check(park!(tx.closed()), WaitReason::OneshotClosed, Some(made));
    drop(rx);
    let (tx, rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    check(park!(rx), WaitReason::OneshotRecv, Some(made));
    drop(tx);

    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    let sender = tx.clone();
    check(park!(rx.recv()), WaitReason::MpscRecv, Some(made));
    drop((tx, sender));
    let (tx, rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    let sender = tx.clone();
    check(park!(sender.closed()), WaitReason::MpscClosed, Some(made));
    tx.try_send(1).unwrap();
    check(park!(tx.send(2)), WaitReason::MpscSend, Some(made));
    drop(rx);

    // Spawned as it is, a receiver is awaited by nobody: its place is the spawn.
    let (tx, rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    let (line, spawned) = (line!(), leakfree::scope::current().task().name("bare").spawn(rx));
    check((parked("bare").await, line), WaitReason::OneshotRecv, Some(made));
    drop(tx);
    let _ = spawned.await;

    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(rx.recv()), WaitReason::MpscRecv, Some(made));
    drop(tx);

    static LOCK: Mutex<()> = Mutex::new(());
    let made = line!() - 1;
    let guard = LOCK.lock().await;
    check(park!(LOCK.lock()), WaitReason::MutexLock, Some(made));
    drop(guard);
}

#[leakfree::test(workers = 2)]
async fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let made = line!() - 1;
    let addr = listener.local_addr().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let connected = line!() - 1;
    let (peer, _) = listener.accept().await.unwrap();
    check(park!(listener.accept()), WaitReason::TcpAccept, Some(made));
    let stream = std::sync::Arc::new(stream);
    let reader = std::sync::Arc::clone(&stream);
    let mut buf = [0; 1];
    check(park!(reader.read(&mut buf)), WaitReason::TcpRead, Some(connected));
    let reader = std::sync::Arc::clone(&stream);
    check(park!(reader.read_exact(&mut buf)), WaitReason::TcpRead, Some(connected));
    let large = vec![0; 64 << 20];
    let writer = std::sync::Arc::clone(&stream);
    check(park!(writer.write_all(&large)), WaitReason::TcpWrite, Some(connected));
    let full = vec![0; 1 << 20];
    while stream.try_write(&full).is_ok() {}
    check(park!(stream.write(&full)), WaitReason::TcpWrite, Some(connected));
    drop(peer);
}

#[leakfree::test(workers = 2)]
async fn tasks_and_scopes() {
    let joined = leakfree::spawn(std::future::pending::<()>());
    let id = joined.id();
    let (task, line) = park!(joined);
    assert_eq!(task.waits[0].object, WaitObject::Task(id.to_string().parse().unwrap()));
    check((task, line), WaitReason::Join, None);
    check(park!(leakfree::cancelled()), WaitReason::Cancelled, None);
    let scope = leakfree::scope::current();
    check(park!(scope.cancelled()), WaitReason::Cancelled, None);
    let body = async |s: leakfree::Scope| drop(s.spawn(std::future::pending::<()>()));
    check(park!(leakfree::scope(body)), WaitReason::ScopeEnd, None);
    // The task that was joined is the root's, and its handle went with the joiner: cancel what is left.
    assert_eq!(leakfree::runtime::Handle::current().report().leaked(), 1);
    leakfree::scope::current().cancel("enough");
}

#[leakfree::test(workers = 2)]
async fn labels_and_blocking_calls() {
    let (task, line) = park!(leakfree::waiting("redis.get", std::future::pending::<()>()));
    assert_eq!(task.waits[0].reason, WaitReason::Labelled);
    assert_eq!(task.waits[0].object, WaitObject::Label("redis.get"));
    assert_eq!(task.waits[0].site.line, line);
}

#[leakfree::test(workers = 2)]
async fn several_waits_of_one_poll_are_all_recorded_and_a_dropped_arm_goes() {
    let (tx, rx) = oneshot::channel::<()>();
    let (tx2, rx2) = oneshot::channel::<()>();
    let scope = leakfree::scope::current();
    let handle = scope.task().name("select").spawn(async move {
        let sleep = Box::pin(leakfree::time::sleep(LONG));
        drop(futures::future::select(rx, sleep).await);
        rx2.await
    });
    let task = parked("select").await;
    let reasons: Vec<_> = task.waits.iter().map(|wait| wait.reason).collect();
    assert_eq!(reasons, [WaitReason::OneshotRecv, WaitReason::Sleep]);
    assert_eq!(task.own_wakers, 2);
    tx.send(()).unwrap();
    leakfree_tests::until(|| {
        let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
        tasks
            .iter()
            .any(|task| task.name.as_deref() == Some("select") && task.polls == 2 && task.waits.len() == 1)
    })
    .await;
    let task = parked("select").await;
    assert_eq!(task.own_wakers, 1, "both arms are gone: {task:?}");
    tx2.send(()).unwrap();
    handle.await.unwrap().unwrap();
}
