//! UDP and Unix domain sockets.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use leakfree::io::unix::AsyncFd;
use leakfree::net::{Interest, TcpListener, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use leakfree_tests::{TempDir, parked, polled_once, runtime};

#[leakfree::test(workers = 2)]
async fn udp_sends_and_receives() {
    let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let b = UdpSocket::bind("localhost:0").await.unwrap();
    let (a_addr, b_addr) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    let mut buf = [0; 16];
    assert!(polled_once(b.recv_from(&mut buf)).await.is_pending());
    assert_eq!(a.send_to(b"first", b_addr).await.unwrap(), 5);
    assert_eq!(b.peek_from(&mut buf).await.unwrap(), (5, a_addr));
    assert_eq!(b.recv_from(&mut buf).await.unwrap(), (5, a_addr));
    assert_eq!(b.try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    // What does not fit is lost, and the next datagram begins at its own start.
    a.connect(b_addr).await.unwrap();
    assert_eq!(a.peer_addr().unwrap(), b_addr);
    a.send(b"long one").await.unwrap();
    a.send(b"next").await.unwrap();
    assert_eq!(b.recv(&mut buf[..4]).await.unwrap(), 4);
    assert_eq!(b.recv(&mut buf).await.unwrap(), 4);
    assert_eq!(&buf[..4], b"next");
    // An empty datagram is one.
    a.send(b"").await.unwrap();
    assert_eq!(b.recv(&mut buf).await.unwrap(), 0);
    assert_eq!(a.try_send(b"now").unwrap(), 3);
    b.readable().await.unwrap();
    assert_eq!(b.try_recv(&mut buf).unwrap(), 3);
}

#[leakfree::test(workers = 2)]
async fn udp_hears_that_nobody_listens() {
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gone).await.unwrap();
    socket.send(b"anybody?").await.unwrap();
    let error = socket.recv(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = UdpSocket::bind(socket.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("could not bind to 127.0.0.1:"), "{error}");
}

#[leakfree::test(workers = 2)]
async fn an_error_is_no_end_of_a_datagram_socket() {
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gone).await.unwrap();
    let mut buf = [0; 8];
    assert_eq!(socket.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    for _ in 0..2 {
        socket.send(b"anybody?").await.unwrap();
        assert_eq!(socket.recv(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // It is told once, and then there is nothing to receive. An event may have been on its way.
        assert!(polled_once(socket.recv(&mut buf)).await.is_pending());
        while polled_once(socket.ready(Interest::READABLE)).await.is_ready() {
            assert_eq!(socket.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }
    let back = UdpSocket::bind(gone).await.unwrap();
    leakfree::join!(async { assert_eq!(socket.recv(&mut buf).await.unwrap(), 4) }, async {
        assert_eq!(back.send_to(b"back", socket.local_addr().unwrap()).await.unwrap(), 4)
    },);
}

/// The kernel says that there is an end, and that a read would block.
#[leakfree::test(workers = 2)]
async fn a_datagram_socket_that_is_shut_down_holds_nobody_up() {
    let (a, b) = UnixDatagram::pair().unwrap();
    let mut buf = [0; 8];
    assert_eq!(a.try_recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    a.shutdown(Shutdown::Read).unwrap();
    assert!(a.ready(Interest::READABLE).await.unwrap().is_read_closed());
    assert!(polled_once(a.recv(&mut buf)).await.is_pending());
    assert_eq!(b.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_socket_whose_runtime_is_gone_fails_where_it_would_wait() {
    let (first, second) = (runtime(1), runtime(1));
    let ((a, b), fd, ctrl_c) = first.block_on(async {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        (UnixStream::pair().unwrap(), AsyncFd::new(ours).unwrap(), leakfree::signal::ctrl_c())
    });
    assert!(first.shutdown().is_clean());
    second.block_on(async {
        ctrl_c.await.unwrap_err();
        let mut buf = [0; 8];
        a.write_all(b"ping").await.unwrap();
        assert_eq!(b.read(&mut buf).await.unwrap(), 4, "what is there can be read");
        let error = b.read(&mut buf).await.unwrap_err();
        assert!(error.to_string().contains("has been shut down"), "{error}");
        let error = a.write_all(&vec![0; 10_000_000]).await.unwrap_err();
        assert!(error.to_string().contains("has been shut down"), "{error}");
        b.readable().await.unwrap();
        while b.try_read(&mut [0; 4096]).is_ok() {}
        let error = b.try_read(&mut buf).unwrap_err();
        assert!(error.to_string().contains("has been shut down"), "{error}");
        let error = fd.async_io(Interest::READABLE, |_| Err::<(), _>(ErrorKind::WouldBlock.into())).await;
        assert!(error.unwrap_err().to_string().contains("has been shut down"));
    });
    assert!(second.shutdown().is_clean());
}

#[test]
fn who_is_no_task_hears_of_the_runtimes_end() {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }
    let runtime = runtime(1);
    let (stream, _other) = runtime.block_on(async { UnixStream::pair().unwrap() });
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut buf = [0; 1];
    let mut read = pin!(stream.read(&mut buf));
    assert!(read.as_mut().poll(&mut cx).is_pending());
    assert!(runtime.shutdown().is_clean());
    assert!(woken.0.load(SeqCst));
    assert!(matches!(read.poll(&mut cx), Poll::Ready(Err(_))));
}

#[cfg(target_os = "linux")]
#[leakfree::test(workers = 1)]
async fn who_cannot_be_seen_has_no_process() {
    use rustix::net::{AddressFamily, SocketType, socket};
    // The kernel's answer for a peer in another namespace of processes, and for none at all.
    let alone = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let alone = UnixStream::from_std(std::os::unix::net::UnixStream::from(alone)).unwrap();
    assert_eq!(alone.peer_cred().unwrap().pid(), None);
}

#[leakfree::test(workers = 2)]
async fn udp_takes_options() {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_ttl(9).unwrap();
    socket.set_multicast_loop_v4(true).unwrap();
    socket.set_multicast_ttl_v4(3).unwrap();
    assert!(socket.broadcast().unwrap() && socket.multicast_loop_v4().unwrap());
    assert_eq!((socket.ttl().unwrap(), socket.multicast_ttl_v4().unwrap()), (9, 3));
    let group = Ipv4Addr::new(239, 255, 1, 2);
    socket.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
    socket.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
}

#[leakfree::test(workers = 2)]
async fn unix_streams_connect_through_a_path() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let error = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("socket"), "{error}");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
    let client = UnixStream::connect(&path).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let cred = server.peer_cred().unwrap();
    assert_eq!(cred.pid(), Some(std::process::id() as i32));
    let (mut read, write) = client.into_split();
    server.write_all(b"hello").await.unwrap();
    let mut buf = [0; 8];
    read.read_exact(&mut buf[..5]).await.unwrap();
    drop(write);
    assert_eq!(server.read(&mut buf).await.unwrap(), 0);
    drop(read);
    assert_eq!(server.write_all(&[0; 1]).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(listener);
    assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[leakfree::test(workers = 2)]
async fn who_connects_to_a_full_listener_gets_through_when_there_is_room() {
    use rustix::net;
    let dir = TempDir::new();
    let path = dir.path().join("full");
    let socket = net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None).unwrap();
    net::bind(&socket, &net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    net::listen(&socket, 0).unwrap();
    let listener = UnixListener::from_std(socket.into()).unwrap();
    let _first = UnixStream::connect(&path).await.unwrap();
    let scope = leakfree::scope::current();
    let second = scope.task().name("second").spawn(async move { UnixStream::connect(path).await });
    parked("second").await;
    listener.accept().await.unwrap();
    second.await.unwrap().unwrap();
}

#[leakfree::test(workers = 2)]
async fn unix_datagrams_wait_for_room() {
    let dir = TempDir::new();
    let (path, from) = (dir.path().join("to"), dir.path().join("from"));
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::bind(&from).unwrap();
    let error = sender.connect(dir.path().join("nobody")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nobody"), "{error}");
    // Filled by another, so that the kernel tells this sender nothing of the room.
    let other = UnixDatagram::unbound().unwrap();
    let mut sent = 0;
    while other.try_send_to(b"fill", &path).is_ok() {
        sent += 1;
    }
    let scope = leakfree::scope::current();
    let sending = scope.task().name("sender").spawn(async move { sender.send_to(b"last", path).await });
    let polls = parked("sender").await.polls;
    assert!(polls < 20, "it tries again after pauses, not at once: {polls} polls");
    let mut buf = [0; 8];
    for _ in 0..sent {
        assert_eq!(receiver.recv(&mut buf).await.unwrap(), 4);
    }
    assert_eq!(sending.await.unwrap().unwrap(), 4);
    let (n, peer) = receiver.recv_from(&mut buf).await.unwrap();
    assert_eq!((&buf[..n], peer.as_pathname()), (&b"last"[..], Some(&*from)));
}

#[leakfree::test(workers = 2)]
async fn sockets_of_the_standard_library_are_taken_over() {
    let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::try_from(std).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(addr).unwrap();
    let (server, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(listener.into_std().unwrap().local_addr().unwrap(), addr);
    let udp = UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert!(polled_once(udp.recv(&mut [0; 1])).await.is_pending());
    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    let a = UnixStream::from_std(a).unwrap();
    assert!(polled_once(a.read(&mut [0; 1])).await.is_pending());
}

#[leakfree::test(workers = 2)]
async fn sockets_know_their_names_and_are_given_back() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
    let cred = client.peer_cred().unwrap();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    assert_eq!((cred.uid(), cred.gid()), (uid, gid));
    // As the standard library's they share what is sent and received.
    let (client, server) = (client.into_std().unwrap(), server.into_std().unwrap());
    let (client, server) = (UnixStream::try_from(client).unwrap(), UnixStream::try_from(server).unwrap());
    client.write_all(b"still").await.unwrap();
    let mut buf = [0; 16];
    server.read_exact(&mut buf[..5]).await.unwrap();
    let std = listener.into_std().unwrap();
    assert_eq!(std.local_addr().unwrap().as_pathname(), Some(&*path));

    let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let (a, b) = (UnixDatagram::from_std(a).unwrap(), UnixDatagram::from_std(b).unwrap());
    assert!(a.local_addr().unwrap().is_unnamed() && a.peer_addr().unwrap().is_unnamed());
    assert!(a.take_error().unwrap().is_none());
    a.send(b"last").await.unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!(a.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(b.recv(&mut buf).await.unwrap(), 4);
    let named = UnixDatagram::bind(dir.path().join("datagram")).unwrap();
    assert_eq!(named.local_addr().unwrap().as_pathname(), Some(&*dir.path().join("datagram")));
}

#[leakfree::test(workers = 2)]
async fn udp_tries_without_waiting_and_needs_an_address() {
    let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let b = UdpSocket::try_from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let mut buf = [0; 8];
    assert_eq!(b.try_peek_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(a.try_send_to(b"one", b.local_addr().unwrap()).unwrap(), 3);
    b.readable().await.unwrap();
    assert_eq!(b.try_peek_from(&mut buf).unwrap(), (3, a.local_addr().unwrap()));
    assert_eq!(b.try_recv_from(&mut buf).unwrap(), (3, a.local_addr().unwrap()));
    let nowhere = a.send_to(b"x", &[][..] as &[std::net::SocketAddr]).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::InvalidInput);
    assert!(a.take_error().unwrap().is_none());
    if let Ok(six) = UdpSocket::bind("[::]:0").await {
        let group = "ff02::1:2".parse().unwrap();
        // Whether there is an interface for it is the machine's affair; to leave goes as to join went.
        assert_eq!(six.join_multicast_v6(&group, 0).is_ok(), six.leave_multicast_v6(&group, 0).is_ok());
    }
}
