//! TCP, and what streams of all kinds do alike: cancel safety, ends and resets, slow readers, addresses.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::time::Duration;

use leakfree::net::{Interest, TcpListener, TcpSocket, TcpStream, UnixStream, lookup_host};
use leakfree_tests::{again, parked, polled_once, until};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (b, from) = listener.accept().await.unwrap();
    assert_eq!(from, a.local_addr().unwrap());
    (a, b)
}

#[leakfree::test(workers = 2)]
async fn a_read_that_is_dropped_has_lost_nothing() {
    let (a, b) = pair().await;
    let mut buf = [0; 8];
    assert!(polled_once(a.read(&mut buf)).await.is_pending());
    b.write_all(b"kept").await.unwrap();
    let n = a.read(&mut buf).await.unwrap();
    assert_eq!(&buf[..n], b"kept");
    // Peeking takes nothing, either.
    b.write_all(b"again").await.unwrap();
    assert_eq!(a.peek(&mut buf).await.unwrap(), 5);
    assert_eq!(a.read(&mut buf).await.unwrap(), 5);
}

#[leakfree::test(workers = 2)]
async fn an_accept_that_is_dropped_leaves_the_connection_in_the_queue() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    assert!(polled_once(listener.accept()).await.is_pending());
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
}

#[leakfree::test(workers = 2)]
async fn a_half_open_connection_still_works_the_other_way() {
    let (a, b) = pair().await;
    let (mut read, mut write) = a.into_split();
    write.write_all(b"question").await.unwrap();
    drop(write);
    let mut buf = [0; 16];
    assert_eq!(b.read(&mut buf).await.unwrap(), 8);
    assert_eq!(b.read(&mut buf).await.unwrap(), 0, "the end");
    b.write_all(b"answer").await.unwrap();
    read.read_exact(&mut buf[..6]).await.unwrap();
    assert_eq!(&buf[..6], b"answer");
    drop(b);
    let error = read.read_exact(&mut buf).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

/// A read that fills a part of its buffer has taken all there was, and the next one waits without asking: neither what comes meanwhile
/// nor the end may be missed.
#[leakfree::test(workers = 2)]
async fn after_a_short_read_nothing_is_missed() {
    leakfree::scope(async |s| {
        for connection in 0..64_usize {
            let (a, b) = pair().await;
            let sizes = (0..200).map(move |n| 1 + (n * 37 + connection * 101) % 1500);
            let total: usize = sizes.clone().sum();
            s.spawn(async move {
                for (n, size) in sizes.enumerate() {
                    b.write_all(&vec![n as u8; size]).await.unwrap();
                    if (n + connection) % 3 == 0 {
                        leakfree::task::yield_now().await;
                    }
                }
                // The end comes together with the last bytes, or right behind them.
            });
            s.spawn(async move {
                let mut room = vec![0; 4096];
                let mut got = 0;
                loop {
                    // Now this way, now that; the whole buffer is never there at once.
                    let n = match got % 3 {
                        0 => a.read(&mut room).await.unwrap(),
                        1 => a.read_vectored(&mut [IoSliceMut::new(&mut room)]).await.unwrap(),
                        _ if total - got >= 100 => {
                            a.read_exact(&mut room[..100]).await.unwrap();
                            100
                        }
                        _ => a.read(&mut room).await.unwrap(),
                    };
                    if n == 0 {
                        break;
                    }
                    got += n;
                }
                assert_eq!(got, total);
            });
        }
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_reset_is_an_error_for_who_reads_and_who_writes() {
    let (a, b) = pair().await;
    b.set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(b.linger().unwrap(), Some(Duration::ZERO));
    drop(b);
    let error = a.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = loop {
        if let Err(error) = a.write(b"x").await {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

#[leakfree::test(workers = 2)]
async fn a_reader_that_is_slow_makes_the_writer_wait_and_gets_everything() {
    let (a, b) = pair().await;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|i| i as u8).collect();
    let expected = sent.clone();
    let writer = leakfree::scope::current()
        .task()
        .name("writer")
        .spawn(async move { a.write_all(&sent).await.map(|()| drop(a)) });
    parked("writer").await;
    let (mut got, mut buf) = (Vec::new(), vec![0; 60_000]);
    loop {
        match b.read(&mut buf).await.unwrap() {
            0 => break,
            n => got.extend_from_slice(&buf[..n]),
        }
    }
    assert!(got == expected);
    writer.await.unwrap().unwrap();
}

#[leakfree::test(workers = 2)]
async fn readiness_and_try_operations_go_together() {
    let (a, b) = pair().await;
    let mut buf = [0; 4];
    assert_eq!(a.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(polled_once(a.readable()).await.is_pending(), "the news is that there is nothing");
    b.write_all(b"12345678").await.unwrap();
    a.readable().await.unwrap();
    assert_eq!(a.try_read(&mut buf).unwrap(), 4);
    let mut halves = [[0; 2]; 2];
    let [first, second] = &mut halves;
    let n = a.try_read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]).unwrap();
    assert_eq!((n, halves), (4, [*b"56", *b"78"]));
    assert_eq!(a.try_write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"bc")]).unwrap(), 3);
    b.read_exact(&mut buf[..3]).await.unwrap();
    assert_eq!(&buf[..3], b"abc");
    assert_eq!(a.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    let ready = a.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
    assert!(ready.is_writable() && !ready.is_readable(), "{ready:?}");
    drop(b);
    a.readable().await.unwrap();
    let ready = a.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable() && ready.is_read_closed(), "{ready:?}");
    assert!(a.take_error().unwrap().is_none());
}

#[leakfree::test(workers = 2)]
async fn two_tasks_wait_on_one_stream_in_the_same_direction() {
    let (a, b) = pair().await;
    let a = std::sync::Arc::new(a);
    let readers: Vec<_> = ["first", "second"]
        .map(|name| {
            let a = a.clone();
            leakfree::scope::current().task().name(name).spawn(async move { a.read(&mut [0; 1]).await })
        })
        .into();
    parked("first").await;
    parked("second").await;
    b.write_all(b"xy").await.unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), 1);
    }
}

#[leakfree::test(workers = 2)]
async fn halves_are_put_together_again() {
    let (a, b) = pair().await;
    let (c, _d) = pair().await;
    let ((read, write), (other, _)) = (a.into_split(), c.into_split());
    let error = other.reunite(write).unwrap_err();
    assert_eq!(error.to_string(), "the halves are not of one stream");
    let a = read.reunite(error.1).unwrap();
    a.write_all(b"whole").await.unwrap();
    let mut buf = [0; 5];
    b.read_exact(&mut buf).await.unwrap();
    // Through the standard library and back: the connection stays.
    let a = TcpStream::from_std(a.into_std().unwrap()).unwrap();
    b.write_all(b"x").await.unwrap();
    assert_eq!(a.read(&mut buf).await.unwrap(), 1);
}

#[leakfree::test(workers = 2)]
async fn addresses_that_are_none_give_clear_errors() {
    let error = TcpStream::connect("no port").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`no port` is no socket address"), "{error}");
    let error = TcpListener::bind("127.0.0.1:99999").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = TcpStream::connect("host.invalid:80").await.unwrap_err();
    assert!(error.to_string().contains("could not look `host.invalid` up"), "{error}");
    let none: &[std::net::SocketAddr] = &[];
    assert_eq!(TcpStream::connect(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let error = TcpListener::bind(addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    drop(listener);
    let error = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    // The first that answers is taken.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addrs = [addr, listener.local_addr().unwrap()];
    assert_eq!(TcpStream::connect(&addrs[..]).await.unwrap().peer_addr().unwrap(), addrs[1]);
}

#[leakfree::test(workers = 2)]
async fn names_are_looked_up() {
    let addrs: Vec<_> = lookup_host("localhost:7").await.unwrap().collect();
    assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7), "{addrs:?}");
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((String::from("localhost"), port)).await.unwrap();
    assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(lookup_host("[::1]:1").await.unwrap().count(), 1);
}

#[leakfree::test(workers = 2)]
async fn a_socket_takes_its_options_before_it_connects_or_listens() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.set_keepalive(true).unwrap();
    socket.set_keepalive_time(Duration::from_secs(33)).unwrap();
    socket.set_recv_buffer_size(70_000).unwrap();
    socket.set_nodelay(true).unwrap();
    assert!(socket.reuseaddr().unwrap() && socket.reuseport().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.keepalive_time().unwrap(), Duration::from_secs(33));
    assert!(socket.recv_buffer_size().unwrap() >= 70_000);
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let listener = socket.listen(8).unwrap();
    // Two on one port.
    let second = TcpSocket::new_v4().unwrap();
    second.set_reuseport(true).unwrap();
    second.bind(addr).unwrap();
    drop(second);
    let client = TcpSocket::new_v4().unwrap();
    client.set_nodelay(true).unwrap();
    let client = client.connect(addr).await.unwrap();
    assert!(client.nodelay().unwrap());
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    server.set_ttl(7).unwrap();
    assert_eq!(server.ttl().unwrap(), 7);
    drop(listener);
    let error = TcpSocket::new_v4().unwrap().connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&addr.to_string()));
    let error = TcpSocket::new_v6().unwrap().bind(addr).unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[leakfree::test(workers = 2)]
async fn vectored_reads_and_writes_use_every_buffer() {
    let (a, b) = UnixStream::pair().unwrap();
    assert_eq!(a.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde")]).await.unwrap(), 5);
    let (mut x, mut y) = ([0; 3], [0; 3]);
    let n = b.read_vectored(&mut [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)]).await.unwrap();
    assert_eq!((n, &x, &y[..2]), (5, b"abc", &b"de"[..]));
}

#[test]
fn accept_outlives_a_shortage_of_descriptors() {
    // The limit is the process's, so it is lowered in one of its own.
    if !again("accept_outlives_a_shortage_of_descriptors") {
        return;
    }
    leakfree_tests::runtime(2).block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = Some(64);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let mut all = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            all.push(file);
        }
        let accept = leakfree::scope::current()
            .task()
            .name("accept")
            .spawn(async move { (listener.accept().await.map(|(stream, _)| stream), listener) });
        let task = parked("accept").await;
        assert_eq!(task.waits[0].reason.name(), "TcpListener::accept");
        until(|| {
            let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
            tasks.iter().any(|task| task.name.as_deref() == Some("accept") && task.polls > 3)
        })
        .await;
        assert!(!accept.is_finished(), "it tries again, and says nothing");
        drop(all);
        let (accepted, listener) = accept.await.unwrap();
        assert_eq!(accepted.unwrap().peer_addr().unwrap(), client.local_addr().unwrap());
        let _second = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
    });
}

#[leakfree::test(workers = 2)]
async fn sockets_of_the_standard_library_and_addresses_that_refuse() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_ttl(17).unwrap();
    assert_eq!(listener.ttl().unwrap(), 17);
    let std = std::net::TcpStream::connect(addr).unwrap();
    let client = TcpStream::try_from(std).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    let std = std::net::TcpStream::connect(addr).unwrap();
    let socket = TcpSocket::from_std_stream(std).unwrap();
    assert!(socket.take_error().unwrap().is_none());
    // Connected already: the kernel refuses to do it again, and the error says where to.
    let error = socket.connect(addr).await.unwrap_err();
    assert!(error.to_string().contains(&format!("could not connect to {addr}")), "{error}");
    // Of several addresses the next is tried.
    drop(listener);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let both = [addr, other.local_addr().unwrap()];
    assert_eq!(TcpStream::connect(both).await.unwrap().peer_addr().unwrap(), both[1]);
    let refused = TcpStream::connect([addr]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[leakfree::test(workers = 2)]
async fn owned_halves_try_without_waiting_shut_down_and_are_put_together_from_either() {
    let (a, b) = pair().await;
    let (mut read, mut write) = a.into_split();
    let mut buf = [0; 8];
    assert_eq!(read.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    write.writable().await.unwrap();
    assert_eq!(write.try_write(b"ab").unwrap(), 2);
    b.read_exact(&mut buf[..2]).await.unwrap();
    b.write_all(b"abc").await.unwrap();
    read.readable().await.unwrap();
    let (mut one, mut two) = ([0; 1], [0; 4]);
    let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    let n = leakfree::io::AsyncReadExt::read_vectored(&mut read, &mut bufs).await.unwrap();
    assert_eq!((n, &one, &two[..2]), (3, b"a", &b"bc"[..]));
    write.shutdown().unwrap();
    assert_eq!(b.read(&mut buf).await.unwrap(), 0, "this way has ended");
    let (other, _far) = pair().await;
    let (_, strange) = other.into_split();
    let error = read.reunite(strange).unwrap_err();
    assert!(error.to_string().contains("halves"), "{error}");
    let leakfree::net::tcp::ReuniteError(read, _) = error;
    let whole = write.reunite(read).unwrap();
    b.write_all(b"d").await.unwrap();
    whole.read_exact(&mut buf[..1]).await.unwrap();
}
