//! Rows of the waits that no other file has: a task is parked on each, and the record has the reason, the object, and the line here.

use std::future::{Future, pending, poll_fn};
use std::io::{IoSlice, IoSliceMut, Read, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use leakfree::fs::{self, DirBuilder, File, OpenOptions};
use leakfree::io::unix::AsyncFd;
use leakfree::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, BufWriter};
use leakfree::net::{
    Interest, TcpListener, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};
use leakfree::process::Command;
use leakfree::report::snapshot::{TaskInfo, WaitObject, WaitReason as R};
use leakfree::runtime::{Builder, Runtime};
use leakfree::sync::mpsc;
use leakfree::task::JoinSet;
use leakfree::{Scope, time};
use leakfree_tests::{TempDir, park, parked};

const LONG: Duration = Duration::from_secs(3600);

#[track_caller]
fn check((task, line): (TaskInfo, u32), reason: R, created: Option<u32>) {
    let [wait] = &task.waits[..] else { panic!("{task:?}") };
    assert_eq!((wait.reason, wait.site.file, wait.site.line), (reason, file!(), line));
    assert!(wait.site.column > 1);
    let found = match &wait.object {
        WaitObject::Created(site) => Some((site.file, site.line)),
        WaitObject::Lock(lock) => Some((lock.created.file, lock.created.line)),
        WaitObject::Channel(channel) => Some((channel.created.file, channel.created.line)),
        _ => None,
    };
    assert_eq!(found, created.map(|line| (file!(), line)), "{wait:?}");
    assert_eq!((task.own_wakers, task.foreign_wakers), (1, 0), "the wait set is complete");
}

/// A runtime whose pool has one thread.
fn one_blocking_thread() -> Runtime {
    Builder::new().workers(2).blocking_threads_max(1).build().unwrap()
}

/// Runs `rows` while the pool's thread is busy, so that every call waits.
async fn while_the_pool_is_busy(rows: impl Future<Output = ()>) {
    let (go, come) = std::sync::mpsc::channel::<()>();
    let busy = leakfree::spawn_blocking(move || come.recv());
    rows.await;
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    // Behind all that nobody waits for any more.
    leakfree::spawn_blocking(|| ()).await.unwrap();
}

#[test]
fn calls_of_paths() {
    let runtime = one_blocking_thread();
    runtime.block_on(async {
        let dir = TempDir::new();
        let here = dir.path().to_owned();
        let path = move || here.join("a");
        let rows = async {
            let p = path();
            check(park!(fs::canonicalize(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::copy(&p, &p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::create_dir(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::create_dir_all(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::hard_link(&p, &p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::metadata(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::read(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::read_link(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::read_to_string(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::remove_dir(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::remove_dir_all(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::remove_file(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::rename(&p, &p)), R::BlockingCall, None);
            let p = path();
            let permissions = std::fs::metadata("/tmp").unwrap().permissions();
            check(park!(fs::set_permissions(p, permissions)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::symlink(&p, &p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::symlink_metadata(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::try_exists(p)), R::BlockingCall, None);
            let p = path();
            check(park!(fs::write(p, "x")), R::BlockingCall, None);
            let p = path();
            check(park!(fs::read_dir(p)), R::BlockingCall, None);
            let p = path();
            check(park!(DirBuilder::new().create(p)), R::BlockingCall, None);
            let p = path();
            check(park!(File::open(p)), R::BlockingCall, None);
            let p = path();
            check(park!(File::create(p)), R::BlockingCall, None);
            let p = path();
            check(park!(File::create_new(p)), R::BlockingCall, None);
            let p = path();
            check(park!(OpenOptions::new().read(true).open(p)), R::BlockingCall, None);
        };
        while_the_pool_is_busy(rows).await;
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn calls_of_open_files() {
    let runtime = one_blocking_thread();
    runtime.block_on(async {
        let dir = TempDir::new();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let mut entries = fs::read_dir(dir.path()).await.unwrap();
        std::fs::create_dir(dir.path().join("large")).unwrap();
        (0..1000).for_each(|n| std::fs::write(dir.path().join(format!("large/{n}")), "").unwrap());
        let mut large = fs::read_dir(dir.path().join("large")).await.unwrap();
        large.next_entry().await.unwrap();
        let entry = entries.next_entry().await.unwrap().unwrap();
        let open = || File::from_std(std::fs::File::options().read(true).write(true).open(&path).unwrap());
        let permissions = std::fs::metadata(&path).unwrap().permissions();
        let entry = Arc::new(entry);
        let rows = async {
            let mut file = open();
            check(park!(file.seek(SeekFrom::Start(1))), R::BlockingCall, None);
            let mut file = open();
            check(park!(file.rewind()), R::BlockingCall, None);
            let mut file = open();
            check(park!(file.stream_position()), R::BlockingCall, None);
            let mut file = open();
            check(park!(file.read(&mut [0])), R::BlockingCall, None);
            let file = open();
            check(park!(file.metadata()), R::BlockingCall, None);
            let file = open();
            check(park!(file.set_len(1)), R::BlockingCall, None);
            let file = open();
            check(park!(file.set_permissions(permissions)), R::BlockingCall, None);
            let file = open();
            check(park!(file.sync_all()), R::BlockingCall, None);
            let file = open();
            check(park!(file.sync_data()), R::BlockingCall, None);
            let file = open();
            check(park!(file.try_clone()), R::BlockingCall, None);
            // What was written is on its way.
            let mut file = open();
            file.write_all(b"x").await.unwrap();
            check(park!(file.flush()), R::BlockingCall, None);
            let mut file = open();
            file.write_all(b"x").await.unwrap();
            check(park!(file.into_std()), R::BlockingCall, None);
            let theirs = Arc::clone(&entry);
            check(park!(theirs.metadata()), R::BlockingCall, None);
            let theirs = Arc::clone(&entry);
            check(park!(theirs.file_type()), R::BlockingCall, None);
            check(
                park!(async { while large.next_entry().await.unwrap().is_some() {} }),
                R::BlockingCall,
                None,
            );
        };
        while_the_pool_is_busy(rows).await;
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn names_given_to_sockets() {
    let runtime = one_blocking_thread();
    runtime.block_on(async {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (a, b) = (Arc::clone(&socket), Arc::clone(&socket));
        let rows = async {
            check(park!(TcpListener::bind("localhost:0")), R::LookupHost, None);
            check(park!(UdpSocket::bind("localhost:0")), R::LookupHost, None);
            check(park!(a.connect("localhost:1")), R::LookupHost, None);
            check(park!(b.send_to(b"x", "localhost:1")), R::LookupHost, None);
        };
        while_the_pool_is_busy(rows).await;
    });
    assert!(runtime.shutdown().is_clean());
}

#[leakfree::test(workers = 2)]
async fn methods_of_readers() {
    let pipe = || io::duplex(1);
    let made = line!() - 1;
    let (mut a, _b) = pipe();
    check(park!(a.read(&mut [0])), R::DuplexRead, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.read_vectored(&mut [IoSliceMut::new(&mut [0])])), R::DuplexRead, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.read_exact(&mut [0])), R::DuplexRead, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.read_to_end(&mut Vec::new())), R::DuplexRead, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.read_to_string(&mut String::new())), R::DuplexRead, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.read_u8()), R::DuplexRead, Some(made));
    let (a, _b) = pipe();
    let mut buffered = BufReader::new(a);
    check(park!(buffered.fill_buf()), R::DuplexRead, Some(made));
    let (a, _b) = pipe();
    let mut buffered = BufReader::new(a);
    check(park!(buffered.read_until(b'x', &mut Vec::new())), R::DuplexRead, Some(made));
    let (a, _b) = pipe();
    let mut buffered = BufReader::new(a);
    check(park!(buffered.read_line(&mut String::new())), R::DuplexRead, Some(made));
    let (a, _b) = pipe();
    let mut lines = BufReader::new(a).lines();
    check(park!(lines.next_line()), R::DuplexRead, Some(made));
    let (a, _b) = pipe();
    let mut lines = BufReader::new(a).lines();
    check(
        park!(poll_fn(|cx| futures::Stream::poll_next(std::pin::Pin::new(&mut lines), cx))),
        R::DuplexRead,
        Some(made),
    );
}

#[leakfree::test(workers = 2)]
async fn methods_of_writers() {
    let pipe = || io::duplex(1);
    let made = line!() - 1;
    let (mut a, _b) = pipe();
    a.write_all(b"x").await.unwrap();
    check(park!(a.write(b"x")), R::DuplexWrite, Some(made));
    let (mut a, _b) = pipe();
    a.write_all(b"x").await.unwrap();
    check(park!(a.write_vectored(&[IoSlice::new(b"x")])), R::DuplexWrite, Some(made));
    let (mut a, _b) = pipe();
    check(park!(a.write_all(b"xx")), R::DuplexWrite, Some(made));
    let (a, _b) = pipe();
    let mut buffered = BufWriter::new(a);
    buffered.write_all(b"xx").await.unwrap();
    check(park!(buffered.flush()), R::DuplexWrite, Some(made));
    let (a, _b) = pipe();
    let mut buffered = BufWriter::new(a);
    buffered.write_all(b"xx").await.unwrap();
    check(park!(buffered.shutdown()), R::DuplexWrite, Some(made));
}

#[leakfree::test(workers = 2)]
async fn copies() {
    let pipe = || io::duplex(1);
    let made = line!() - 1;
    let (mut from, _b) = pipe();
    check(park!(io::copy(&mut from, &mut io::sink())), R::DuplexRead, Some(made));
    let (mut to, _b) = pipe();
    check(park!(io::copy_buf(&mut &b"xx"[..], &mut to)), R::DuplexWrite, Some(made));
    let (mut a, _b) = pipe();
    let (mut c, _d) = io::duplex(1);
    let (task, line) = park!(io::copy_bidirectional(&mut a, &mut c));
    let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
    assert_eq!(waits, [(R::DuplexRead, line), (R::DuplexRead, line)], "one way and the other");
}

/// A connected pair, and the line that the first was made on.
async fn tcp_pair() -> (TcpStream, TcpStream, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let made = line!() - 1;
    (stream, listener.accept().await.unwrap().0, made)
}

async fn unix_pair() -> (UnixStream, UnixStream, u32) {
    let (a, b) = UnixStream::pair().unwrap();
    let made = line!() - 1;
    (a, b, made)
}

/// The rows of a stream and of its halves. All are on the line that this is used on.
macro_rules! stream_rows {
    ($pair:ident, $read:ident, $write:ident) => {{
        let full: &[u8] = vec![0; 1 << 20].leak();
        let (a, _peer, made) = $pair().await;
        check(park!(a.read(&mut [0])), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        check(park!(a.read_exact(&mut [0])), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        check(park!(a.read_vectored(&mut [IoSliceMut::new(&mut [0])])), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        a.try_read(&mut [0]).unwrap_err();
        check(park!(a.readable()), R::$read, Some(made));
        let (a, _peer, _) = $pair().await;
        a.try_read(&mut [0]).unwrap_err();
        while a.try_write(full).is_ok() {}
        let (task, line) = park!(a.ready(Interest::READABLE | Interest::WRITABLE));
        let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
        assert_eq!(waits, [(R::$read, line), (R::$write, line)]);
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.write(full)), R::$write, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.write_all(full)), R::$write, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.write_vectored(&[IoSlice::new(full)])), R::$write, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.writable()), R::$write, Some(made));

        // Halves that are owned, and halves that borrow.
        let (a, _peer, made) = $pair().await;
        let (mut half, _other) = a.into_split();
        check(park!(half.read(&mut [0])), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        let (mut half, _other) = a.into_split();
        check(park!(half.read_exact(&mut [0])), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        a.try_read(&mut [0]).unwrap_err();
        let (half, _other) = a.into_split();
        check(park!(half.readable()), R::$read, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        let (_other, mut half) = a.into_split();
        check(park!(half.write(full)), R::$write, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        let (_other, mut half) = a.into_split();
        check(park!(half.write_all(full)), R::$write, Some(made));
        let (a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        let (_other, half) = a.into_split();
        check(park!(half.writable()), R::$write, Some(made));
        let (mut a, _peer, made) = $pair().await;
        check(park!(a.split().0.read(&mut [0])), R::$read, Some(made));
        let (mut a, _peer, made) = $pair().await;
        check(park!(a.split().0.read_exact(&mut [0])), R::$read, Some(made));
        let (mut a, _peer, made) = $pair().await;
        a.try_read(&mut [0]).unwrap_err();
        check(park!(a.split().0.readable()), R::$read, Some(made));
        let (mut a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.split().1.write(full)), R::$write, Some(made));
        let (mut a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.split().1.write_all(full)), R::$write, Some(made));
        let (mut a, _peer, made) = $pair().await;
        while a.try_write(full).is_ok() {}
        check(park!(a.split().1.writable()), R::$write, Some(made));
    }};
}

#[leakfree::test(workers = 2)]
async fn tcp_streams() {
    stream_rows!(tcp_pair, TcpRead, TcpWrite);
    let (a, _peer, made) = tcp_pair().await;
    check(park!(a.peek(&mut [0])), R::TcpRead, Some(made));
}

#[leakfree::test(workers = 2)]
async fn unix_streams() {
    stream_rows!(unix_pair, UnixRead, UnixWrite);
}

/// The kernel answers nobody who wants to connect to a listener whose queue is full.
#[leakfree::test(workers = 2)]
async fn connecting() {
    use rustix::net;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let full = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&full, &any).unwrap();
    net::listen(&full, 0).unwrap();
    let addr = std::net::TcpListener::from(full.try_clone().unwrap()).local_addr().unwrap();
    let _first = std::net::TcpStream::connect(addr).unwrap();
    let (task, line) = park!(TcpStream::connect(addr));
    check((task, line), R::TcpConnect, Some(line));
    let (task, line) = park!(TcpSocket::new_v4().unwrap().connect(addr));
    check((task, line), R::TcpConnect, Some(line));
}

#[leakfree::test(workers = 2)]
async fn accepting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let made = line!() - 1;
    let listener = Arc::new(listener);
    let theirs = Arc::clone(&listener);
    check(park!(theirs.accept()), R::TcpAccept, Some(made));
    check(park!(poll_fn(|cx| listener.poll_accept(cx))), R::TcpAccept, Some(made));
    let dir = TempDir::new();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let made = line!() - 1;
    let listener = Arc::new(listener);
    let theirs = Arc::clone(&listener);
    check(park!(theirs.accept()), R::UnixAccept, Some(made));
    check(park!(poll_fn(|cx| listener.poll_accept(cx))), R::UnixAccept, Some(made));
}

#[leakfree::test(workers = 2)]
async fn udp_sockets() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let made = line!() - 1;
    let socket = Arc::new(socket);
    let a = Arc::clone(&socket);
    check(park!(a.recv(&mut [0])), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.recv_from(&mut [0])), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.peek(&mut [0])), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.peek_from(&mut [0])), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.readable()), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.ready(Interest::READABLE)), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(poll_fn(|cx| a.poll_recv(cx, &mut [0]))), R::UdpRecv, Some(made));
    let a = Arc::clone(&socket);
    check(park!(poll_fn(|cx| a.poll_recv_from(cx, &mut [0]))), R::UdpRecv, Some(made));
    // Between two sockets of one machine there is always room. So it is said that there was none, and no news comes.
    let addr = socket.local_addr().unwrap();
    socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into())).unwrap_err();
    let a = Arc::clone(&socket);
    check(park!(a.send(&[0])), R::UdpSend, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.send_to(&[0], addr)), R::UdpSend, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.writable()), R::UdpSend, Some(made));
    let a = Arc::clone(&socket);
    check(park!(a.ready(Interest::WRITABLE)), R::UdpSend, Some(made));
    let a = Arc::clone(&socket);
    check(park!(poll_fn(|cx| a.poll_send(cx, &[0]))), R::UdpSend, Some(made));
    check(park!(poll_fn(|cx| socket.poll_send_to(cx, &[0], addr))), R::UdpSend, Some(made));
}

#[leakfree::test(workers = 2)]
async fn descriptors_of_others() {
    let pair = || {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        (AsyncFd::new(a).unwrap(), b)
    };
    let made = line!() - 2;
    // Room for nothing more.
    let full = async || {
        let (fd, b) = pair();
        while fd.writable().await.unwrap().try_io(|fd| fd.get_ref().write(&[0; 4096])).is_ok() {}
        (fd, b)
    };
    let (fd, _other) = pair();
    check(park!(fd.readable()), R::FdRead, Some(made));
    let (fd, _other) = pair();
    check(park!(fd.ready(Interest::READABLE)), R::FdRead, Some(made));
    let (mut fd, _other) = pair();
    check(park!(fd.readable_mut()), R::FdRead, Some(made));
    let (mut fd, _other) = pair();
    check(park!(fd.ready_mut(Interest::READABLE)), R::FdRead, Some(made));
    let (fd, _other) = pair();
    check(park!(poll_fn(|cx| fd.poll_read_ready(cx).map(drop))), R::FdRead, Some(made));
    let (mut fd, _other) = pair();
    check(park!(poll_fn(|cx| fd.poll_read_ready_mut(cx).map(drop))), R::FdRead, Some(made));
    let (fd, _other) = pair();
    check(park!(fd.async_io(Interest::READABLE, |mut fd| fd.read(&mut [0]))), R::FdRead, Some(made));
    let (mut fd, _other) = pair();
    check(park!(fd.async_io_mut(Interest::READABLE, |fd| fd.read(&mut [0]))), R::FdRead, Some(made));
    let (fd, _other) = full().await;
    check(park!(fd.writable()), R::FdWrite, Some(made));
    let (mut fd, _other) = full().await;
    check(park!(fd.writable_mut()), R::FdWrite, Some(made));
    let (fd, _other) = full().await;
    check(park!(poll_fn(|cx| fd.poll_write_ready(cx).map(drop))), R::FdWrite, Some(made));
    let (mut fd, _other) = full().await;
    check(park!(poll_fn(|cx| fd.poll_write_ready_mut(cx).map(drop))), R::FdWrite, Some(made));
    let (fd, _other) = full().await;
    check(park!(fd.async_io(Interest::WRITABLE, |mut fd| fd.write(&[0]))), R::FdWrite, Some(made));
    let (fd, _other) = full().await;
    let both = Interest::READABLE | Interest::WRITABLE;
    let (task, line) = park!(fd.ready(both));
    let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
    assert_eq!(waits, [(R::FdRead, line), (R::FdWrite, line)]);
}

#[leakfree::test(workers = 2)]
async fn unix_datagrams() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let bound = UnixDatagram::bind(&path).unwrap();
    let (a, b) = UnixDatagram::pair().unwrap();
    let made = line!() - 1;
    let (a, b) = (Arc::new(a), Arc::new(b));
    let theirs = Arc::clone(&a);
    check(park!(theirs.recv(&mut [0])), R::UnixDatagramRecv, Some(made));
    let theirs = Arc::clone(&a);
    check(park!(theirs.recv_from(&mut [0])), R::UnixDatagramRecv, Some(made));
    let theirs = Arc::clone(&a);
    check(park!(theirs.readable()), R::UnixDatagramRecv, Some(made));
    let theirs = Arc::clone(&a);
    check(park!(theirs.ready(Interest::READABLE)), R::UnixDatagramRecv, Some(made));
    let theirs = Arc::clone(&a);
    check(park!(poll_fn(|cx| theirs.poll_recv(cx, &mut [0]))), R::UnixDatagramRecv, Some(made));
    let theirs = Arc::clone(&a);
    check(park!(poll_fn(|cx| theirs.poll_recv_from(cx, &mut [0]))), R::UnixDatagramRecv, Some(made));
    while b.try_send(&[0; 1000]).is_ok() {}
    let theirs = Arc::clone(&b);
    check(park!(theirs.send(&[0; 1000])), R::UnixDatagramSend, Some(made));
    let theirs = Arc::clone(&b);
    check(park!(poll_fn(|cx| theirs.poll_send(cx, &[0; 1000]))), R::UnixDatagramSend, Some(made));
    let theirs = Arc::clone(&b);
    check(park!(theirs.writable()), R::UnixDatagramSend, Some(made));
    let fills = UnixDatagram::unbound().unwrap();
    let made = line!() - 1;
    while fills.try_send_to(&[0; 1000], &path).is_ok() {}
    let row = park!(fills.send_to(&[0; 1000], &path));
    assert!(row.0.polls < 20, "it tries again after pauses, not at once: {row:?}");
    check(row, R::UnixDatagramSend, Some(made));
    drop(bound);
}

#[leakfree::test(workers = 2)]
async fn processes() {
    let (task, line) = park!(Command::new("sleep").arg("1000").kill_on_drop(true).status());
    check((task, line), R::ChildWait, Some(line));
    let mut child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
    let made = line!() - 1;
    check(park!(child.wait()), R::ChildWait, Some(made));
    let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
    let made = line!() - 1;
    check(park!(child.wait_with_output()), R::ChildWait, Some(made));
    // The end, and what it says until then.
    let (task, line) = park!(Command::new("sleep").arg("1000").kill_on_drop(true).output());
    let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
    assert_eq!(waits, [(R::ChildWait, line), (R::PipeRead, line)]);
}

#[leakfree::test(workers = 2)]
async fn signals() {
    use leakfree::signal::unix::{SignalKind, signal};
    let mut winch = signal(SignalKind::window_change()).unwrap();
    let made = line!() - 1;
    check(park!(poll_fn(|cx| winch.poll_recv(cx))), R::Signal, Some(made));
}

/// A scope whose child never ends.
async fn endless(scope: Scope) {
    drop(scope.spawn(pending::<()>()));
}

#[leakfree::test(workers = 2)]
async fn ends_of_scopes() {
    check(park!(leakfree::scope(endless)), R::ScopeEnd, None);
    check(park!(leakfree::supervisor_scope(endless)), R::ScopeEnd, None);
    check(park!(Scope::builder().scope(endless)), R::ScopeEnd, None);
    check(park!(Scope::builder().supervisor_scope(endless)), R::ScopeEnd, None);
    let fails = async |s: Scope<()>| {
        drop(s.spawn(pending::<()>()));
        Ok::<_, ()>(())
    };
    check(park!(leakfree::try_scope(fails)), R::ScopeEnd, None);
    check(park!(Scope::builder().try_scope(fails)), R::ScopeEnd, None);
    let body = async |s: leakfree::DataScope<'_>, _: &mut ()| drop(s.spawn(pending::<()>()));
    check(park!(leakfree::scope_with((), body)), R::ScopeEnd, None);
}

#[leakfree::test(workers = 2)]
async fn cancellations() {
    check(park!(leakfree::cancelled()), R::Cancelled, None);
    let scope = leakfree::scope::current();
    check(park!(scope.cancelled()), R::Cancelled, None);
    let token = leakfree::scope::current().token();
    check(park!(token.cancelled()), R::Cancelled, None);
}

#[leakfree::test(workers = 2)]
async fn joins() {
    leakfree::scope(async |s| {
        let handle = s.spawn(pending::<()>());
        check(park!(handle), R::Join, None);
        s.cancel("enough");
    })
    .await;
    let done = leakfree::try_scope(async |s: Scope<()>| {
        let handle = s.spawn_try(pending::<Result<(), ()>>());
        check(park!(handle), R::Join, None);
        s.cancel("enough");
        Ok(())
    });
    let _ = done.await;
    // In one task: the join, and the sibling that never ends.
    let (task, line) = park!(leakfree::join_scope_send(async |j| j.spawn(pending::<()>()).await));
    assert_eq!(
        task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect::<Vec<_>>(),
        [(R::Join, line)]
    );
    let local = async {
        leakfree::join_scope(async |j| j.spawn(pending::<()>()).await).await;
    };
    assert!(leakfree_tests::polled_once(local).await.is_pending());
    let body = async |s: leakfree::DataScope<'_>, _: &mut ()| s.spawn(pending::<()>()).await.unwrap();
    let (task, _) = park!(leakfree::scope_with((), body));
    let [wait] = &task.waits[..] else { panic!("{task:?}") };
    assert_eq!((wait.reason, wait.site.file, wait.site.line), (R::Join, file!(), line!() - 3));
}

#[leakfree::test(workers = 2)]
async fn sets() {
    let scope = leakfree::scope::current();
    let mut children = scope.children();
    children.spawn(pending::<()>());
    check(park!(children.join_next()), R::NextChild, None);
    let set = || {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        set
    };
    let made = line!() - 4;
    let mut all = set();
    check(park!(all.join_next()), R::JoinSetNext, Some(made));
    let mut all = set();
    check(park!(all.join_next_with_id()), R::JoinSetNext, Some(made));
    let mut all = set();
    check(park!(poll_fn(|cx| all.poll_join_next(cx))), R::JoinSetNext, Some(made));
    let mut all = set();
    check(park!(poll_fn(|cx| all.poll_join_next_with_id(cx))), R::JoinSetNext, Some(made));
    check(park!(set().join_all()), R::JoinSetNext, Some(made));
    // What it aborts goes on until it gets to an `await`, here none.
    leakfree::scope(async |_| {
        let (go, come) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        let mut all = JoinSet::new();
        let made = line!() - 1;
        all.spawn_blocking(move || {
            begin.send(()).unwrap();
            come.recv()
        });
        leakfree_tests::until(|| begun.try_recv().is_ok()).await;
        check(park!(all.shutdown()), R::JoinSetNext, Some(made));
        go.send(()).unwrap();
    })
    .await;
    scope.cancel("enough");
}

#[leakfree::test(workers = 2)]
async fn places() {
    let scope = Scope::builder().max_concurrent(1).scope(async |s| {
        drop(s.spawn(pending::<()>()));
        let theirs = s.clone();
        let outside = leakfree::spawn(async move {
            drop(theirs.spawn_when_free(async {}).await);
        });
        let line = line!() - 2;
        let mut found = None;
        leakfree_tests::until(|| {
            let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
            let waits = tasks.into_iter().flat_map(|task| task.waits);
            found = waits.into_iter().find(|wait| wait.reason == R::SpawnWhenFree);
            found.is_some()
        })
        .await;
        assert_eq!(found.map(|wait| (wait.site.file, wait.site.line)), Some((file!(), line)));
        outside.abort();
        let _ = outside.await;
        s.cancel("enough");
    });
    scope.await;
}

#[leakfree::test(workers = 2)]
async fn around_a_wait() {
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(leakfree::task::unconstrained(rx.recv())), R::MpscRecv, Some(made));
    leakfree::task_local! { static KEY: u8; }
    let (tx2, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(KEY.scope(1, rx.recv())), R::MpscRecv, Some(made));
    drop((tx, tx2));
    let (task, line) = park!(leakfree::waiting("label", pending::<()>()));
    let [wait] = &task.waits[..] else { panic!("{task:?}") };
    assert_eq!((wait.reason, &wait.object), (R::Labelled, &WaitObject::Label("label")));
    assert_eq!((wait.site.file, wait.site.line), (file!(), line));
    check(park!(time::timeout_at(time::Instant::now() + LONG, pending::<()>())), R::Timeout, None);
    check(park!(time::timeout(LONG, pending::<()>())), R::Timeout, None);
}

/// An abort does not end these: what they wait for has to.
#[leakfree::test(workers = 2)]
async fn shields() {
    let scope = leakfree::scope::current();
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    let waits = async move { leakfree::shield(rx.recv()).await };
    let line = line!() - 1;
    let task = scope.task().name("shield").spawn(waits);
    check((parked("shield").await, line), R::MpscRecv, Some(made));
    drop(tx);
    task.await.unwrap();
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let waits = async move { leakfree::shield_for(LONG, rx.recv()).await };
    let line = line!() - 1;
    let task = scope.task().name("for a time").spawn(waits);
    let waits = parked("for a time").await.waits;
    assert!(waits.iter().any(|wait| (wait.reason, wait.site.line) == (R::MpscRecv, line)), "{waits:?}");
    drop(tx);
    task.await.unwrap();
}

#[leakfree::test(workers = 2)]
async fn unbounded_channels() {
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(rx.recv()), R::MpscRecv, Some(made));
    drop(tx);
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(rx.recv_many(&mut Vec::new(), 2)), R::MpscRecv, Some(made));
    drop(tx);
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(poll_fn(|cx| rx.poll_recv(cx))), R::MpscRecv, Some(made));
    drop(tx);
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(poll_fn(|cx| rx.poll_recv_many(cx, &mut Vec::new(), 2))), R::MpscRecv, Some(made));
    drop(tx);
    let (tx, _rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    check(park!(tx.closed()), R::MpscClosed, Some(made));
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    check(park!(poll_fn(|cx| rx.poll_recv(cx))), R::MpscRecv, Some(made));
    drop(tx);
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    check(park!(poll_fn(|cx| rx.poll_recv_many(cx, &mut Vec::new(), 2))), R::MpscRecv, Some(made));
    drop(tx);
}

#[test]
fn joins_in_a_blocking_scope() {
    let runtime = leakfree_tests::runtime(2);
    runtime.scope_blocking(|s| {
        let child = s.spawn(pending::<()>());
        let line = line!() + 1;
        let waits = s.spawn(async { drop(child.await) });
        let found = loop {
            let tasks = runtime.handle().snapshot().tasks;
            let mut waits = tasks.into_iter().flat_map(|task| task.waits);
            match waits.find(|wait| wait.reason == R::Join) {
                Some(wait) => break wait,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!((found.site.file, found.site.line), (file!(), line));
        s.cancel("enough");
        drop(waits);
    });
    assert!(runtime.shutdown().is_clean());
}
