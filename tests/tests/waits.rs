//! Every wait records what it is and where the caller stood: one row for each.

use std::time::Duration;

use leakfree::io::{AsyncReadExt, AsyncWriteExt};
use leakfree::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use leakfree::report::snapshot::{TaskInfo, WaitObject, WaitReason};
use leakfree::sync::{Mutex, mpsc, oneshot};
use leakfree_tests::{TempDir, park, parked};

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

    // Behind a reference the standard library is the caller: its place is where it was made.
    let (tx, mut rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    let scope = leakfree::scope::current();
    let waits = scope.task().name("behind").spawn(async move {
        let behind = &mut rx;
        behind.await
    });
    check((parked("behind").await, made), WaitReason::OneshotRecv, Some(made));
    let (line, mut child) = (line!(), leakfree::spawn(waits));
    let waits = scope.task().name("behind, too").spawn(async move {
        let behind = &mut child;
        behind.await
    });
    check((parked("behind, too").await, line), WaitReason::Join, None);
    drop(tx);
    let _ = waits.await;

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
async fn readiness_of_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let made = line!() - 1;
    let (peer, _) = listener.accept().await.unwrap();
    let stream = std::sync::Arc::new(stream);
    let (a, b, c) = (stream.clone(), stream.clone(), stream.clone());
    let mut buf = [0; 1];
    assert_eq!(stream.try_read(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // An event of the connect may come this late, and says that both ways are worth a try.
    let tries = |stream: &TcpStream| stream.try_read(&mut [0; 1]).is_err();
    let wait = park!(async move { while a.readable().await.is_ok() && tries(&a) {} });
    check(wait, WaitReason::TcpRead, Some(made));
    check(park!(b.peek(&mut buf)), WaitReason::TcpRead, Some(made));
    let full = vec![0; 1 << 20];
    while stream.try_write(&full).is_ok() {}
    check(park!(c.writable()), WaitReason::TcpWrite, Some(made));
    // Either way: two waits of one poll.
    let (task, line) =
        park!(stream.ready(leakfree::net::Interest::READABLE | leakfree::net::Interest::WRITABLE));
    let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
    assert_eq!(waits, [(WaitReason::TcpRead, line), (WaitReason::TcpWrite, line)]);
    assert_eq!(task.own_wakers, 2);
    drop(peer);
}

#[leakfree::test(workers = 2)]
async fn halves_and_poll_functions() {
    let (a, b) = UnixStream::pair().unwrap();
    let made = line!() - 1;
    let (mut read, mut write) = a.into_split();
    let mut buf = [0; 1];
    // By the half's own method, by the trait's, and through another crate's combinator.
    check(park!(read.read_exact(&mut buf)), WaitReason::UnixRead, Some(made));
    let (mut read2, write2) = b.into_split();
    check(park!(AsyncReadExt::read(&mut read2, &mut buf)), WaitReason::UnixRead, Some(made));
    let large = vec![0; 64 << 20];
    check(park!(AsyncWriteExt::write_all(&mut write, &large)), WaitReason::UnixWrite, Some(made));
    drop(write2);
}

#[leakfree::test(workers = 2)]
async fn datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let made = line!() - 1;
    let socket = std::sync::Arc::new(socket);
    let (a, b, c, d) = (socket.clone(), socket.clone(), socket.clone(), socket.clone());
    let mut buf = [0; 1];
    check(park!(a.recv(&mut buf)), WaitReason::UdpRecv, Some(made));
    check(park!(b.recv_from(&mut buf)), WaitReason::UdpRecv, Some(made));
    check(park!(c.peek_from(&mut buf)), WaitReason::UdpRecv, Some(made));
    check(park!(d.readable()), WaitReason::UdpRecv, Some(made));
    let (a, b) = UnixDatagram::pair().unwrap();
    let made = line!() - 1;
    check(park!(b.recv(&mut buf)), WaitReason::UnixDatagramRecv, Some(made));
    let (a, b) = {
        drop(a);
        UnixDatagram::pair().unwrap()
    };
    let made = line!() - 2;
    while a.try_send(b"x").is_ok() {}
    check(park!(a.send(b"x")), WaitReason::UnixDatagramSend, Some(made));
    drop(b);
}

#[leakfree::test(workers = 2)]
async fn unix_sockets() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let made = line!() - 1;
    check(park!(listener.accept()), WaitReason::UnixAccept, Some(made));

    let (a, b) = UnixStream::pair().unwrap();
    let made = line!() - 1;
    let a = std::sync::Arc::new(a);
    let reader = a.clone();
    let mut buf = [0; 1];
    check(park!(reader.read(&mut buf)), WaitReason::UnixRead, Some(made));
    let large = vec![0; 64 << 20];
    check(park!(b.write_all(&large)), WaitReason::UnixWrite, Some(made));

    // A listener whose queue is full makes who connects wait.
    use rustix::net;
    let socket = net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None).unwrap();
    let full = dir.path().join("full");
    net::bind(&socket, &net::SocketAddrUnix::new(&full).unwrap()).unwrap();
    net::listen(&socket, 0).unwrap();
    let first = std::os::unix::net::UnixStream::connect(&full).unwrap();
    let path = full.clone();
    let (task, line) = park!(UnixStream::connect(path));
    check((task, line), WaitReason::UnixConnect, Some(line));
    drop(first);
}

#[leakfree::test(workers = 2)]
async fn pipes_in_memory() {
    let (mut a, b) = leakfree::io::duplex(1);
    let made = line!() - 1;
    let mut buf = [0; 2];
    check(park!(a.read(&mut buf)), WaitReason::DuplexRead, Some(made));
    drop(b);
    let (mut a, b) = leakfree::io::duplex(1);
    let made = line!() - 1;
    check(park!(a.write_all(b"xx")), WaitReason::DuplexWrite, Some(made));
    drop(b);
    let (a, b) = leakfree::io::duplex(1);
    let made = line!() - 1;
    let mut lines = leakfree::io::AsyncBufReadExt::lines(leakfree::io::BufReader::new(a));
    check(park!(lines.next_line()), WaitReason::DuplexRead, Some(made));
    drop(b);
}

#[leakfree::test(workers = 2)]
async fn files() {
    let dir = TempDir::new();
    let fifo = dir.fifo("fifo");
    let path = fifo.clone();
    let (task, line) = park!(leakfree::fs::read(path));
    assert_eq!(task.waits.len(), 1, "{task:?}");
    let WaitObject::Task(call) = task.waits[0].object else { panic!("{task:?}") };
    assert!(call > 0);
    check((task, line), WaitReason::BlockingCall, None);
    // Nobody waits any more, and yet the call is seen, with the line that asked for it.
    let mut seen = None;
    leakfree_tests::until(|| {
        let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
        seen = tasks.into_iter().find(|task| task.id == call);
        seen.is_some()
    })
    .await;
    let seen = seen.expect("until found it");
    assert_eq!((seen.spawned_at.file, seen.spawned_at.line), (file!(), line));
    // What it waits for comes, and it ends: the test would not end before.
    std::fs::write(&fifo, b"").unwrap();
}

#[test]
fn look_ups() {
    let runtime = leakfree::runtime::Builder::new().workers(1).blocking_threads_max(1).build().unwrap();
    runtime.block_on(async {
        // The pool's only thread is busy, so that the look-up waits.
        let (go, come) = std::sync::mpsc::channel::<()>();
        let busy = leakfree::spawn_blocking(move || come.recv());
        check(park!(leakfree::net::lookup_host("localhost:1")), WaitReason::LookupHost, None);
        check(park!(TcpStream::connect("localhost:1")), WaitReason::LookupHost, None);
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
    });
    assert!(runtime.shutdown().is_clean());
}

#[leakfree::test(workers = 2)]
async fn child_processes() {
    use leakfree::process::{Command, Stdio};
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let made = line!() - 1;
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut buf = [0; 1];
    check(park!(stdout.read(&mut buf)), WaitReason::PipeRead, Some(made));
    let mut idle =
        Command::new("sleep").arg("1000").stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let made = line!() - 1;
    let mut idle_stdin = idle.stdin.take().unwrap();
    let large = vec![0; 1 << 20];
    check(park!(idle_stdin.write_all(&large)), WaitReason::PipeWrite, Some(made));
    check(park!(idle.wait()), WaitReason::ChildWait, Some(made));
    stdin.shutdown().await.unwrap();
    assert!(child.wait().await.unwrap().success());
}

#[leakfree::test(workers = 2)]
async fn signals() {
    use leakfree::signal::unix::{SignalKind, signal};
    let mut winch = signal(SignalKind::window_change()).unwrap();
    let made = line!() - 1;
    check(park!(winch.recv()), WaitReason::Signal, Some(made));
    let (task, line) = park!(leakfree::signal::ctrl_c());
    check((task, line), WaitReason::Signal, Some(line));
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
