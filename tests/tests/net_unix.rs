//! Unix domain sockets by abstract names.
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;

use leakfree::net::{UnixDatagram, UnixListener, UnixStream};
use leakfree::scope;

/// A name of this test's own.
fn name(of: &str) -> String {
    format!("\0leakfree test {} {of}", std::process::id())
}

#[leakfree::test(workers = 2)]
async fn streams_meet_at_an_abstract_name_that_goes_with_the_listener() {
    let name = name("stream");
    let listener = UnixListener::bind(&name).unwrap();
    let addr = listener.local_addr().unwrap();
    assert_eq!(addr.as_abstract_name(), Some(&name.as_bytes()[1..]));
    assert_eq!(addr.as_pathname(), None);
    let taken = UnixListener::bind(&name).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    assert!(taken.to_string().contains("@leakfree test"), "{taken}");
    scope(async |s| {
        let theirs = name.clone();
        s.spawn(async move {
            let client = UnixStream::connect(theirs).await.unwrap();
            assert!(client.peer_addr().unwrap().as_abstract_name().is_some());
            client.write_all(b"ping").await.unwrap();
        });
        let (server, _) = listener.accept().await.unwrap();
        let mut buf = [0; 4];
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ping");
    })
    .await;
    drop(listener);
    let gone = UnixStream::connect(&name).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
    drop(UnixListener::bind(&name).unwrap());
}

#[leakfree::test(workers = 2)]
async fn datagrams_are_sent_to_an_abstract_name() {
    let (name, other) = (name("datagram"), name("other datagram"));
    let to = UnixDatagram::bind(&name).unwrap();
    let from = UnixDatagram::bind(&other).unwrap();
    assert_eq!(from.send_to(b"one", &name).await.unwrap(), 3);
    assert_eq!(from.try_send_to(b"two", &name).unwrap(), 3);
    from.connect(&name).unwrap();
    assert_eq!(from.send(b"three").await.unwrap(), 5);
    let mut buf = [0; 8];
    for expected in ["one", "two", "three"] {
        let (n, by) = to.recv_from(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], expected.as_bytes());
        assert_eq!(by.as_abstract_name(), Some(&other.as_bytes()[1..]));
    }
    drop(to);
    assert_eq!(from.send_to(b"late", &name).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// A name that is too long, or has a zero byte further on, is refused and not cut.
#[leakfree::test(workers = 2)]
async fn names_that_cannot_be_are_refused() {
    let long = format!("\0{}", "x".repeat(200));
    for bad in [&long[..], &long[1..], "in\0between"] {
        assert_eq!(UnixListener::bind(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        assert_eq!(UnixStream::connect(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixDatagram::bind(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        let unbound = UnixDatagram::unbound().unwrap();
        assert!(unbound.connect(bad).is_err() && unbound.try_send_to(b"x", bad).is_err());
    }
}
