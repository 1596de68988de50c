//! `io::unix::AsyncFd`: readiness of descriptors that the crate knows nothing of.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use leakfree::io::unix::{AsyncFd, TryIoError};
use leakfree::net::{Interest, Ready};
use leakfree::scope;
use leakfree_tests::{TempDir, parked, polled_once};
use rustix::event::{EventfdFlags, eventfd};

/// One end as a descriptor of nobody's, and the other.
fn pair() -> (AsyncFd<UnixStream>, UnixStream) {
    let (ours, other) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (AsyncFd::new(ours).unwrap(), other)
}

#[leakfree::test(workers = 2)]
async fn it_is_ready_when_the_kernel_says_so_until_somebody_says_otherwise() {
    let (fd, mut other) = pair();
    assert!(polled_once(fd.readable()).await.is_pending(), "nobody has written");
    other.write_all(b"a").unwrap();
    let guard = fd.readable().await.unwrap();
    assert!(guard.ready().is_readable() && !guard.ready().is_writable() && !guard.ready().is_read_closed());
    drop(guard);
    let mut guard = fd.readable().await.unwrap();
    guard.retain_ready();
    // It says so whether that is true or not: the byte is there still.
    fd.readable().await.unwrap().clear_ready();
    assert!(polled_once(fd.readable()).await.is_pending());
    other.write_all(b"b").unwrap();
    let mut guard = fd.readable().await.unwrap();
    let mut buf = [0; 8];
    assert_eq!(guard.try_io(|fd| fd.get_ref().read(&mut buf)).unwrap().unwrap(), 2);
    assert_eq!(
        guard.try_io(|fd| fd.get_ref().read(&mut buf)).unwrap_err().to_string(),
        "the operation would block"
    );
    assert!(polled_once(fd.readable()).await.is_pending(), "the guard has taken it down");
    assert!(fd.writable().await.unwrap().ready().is_writable(), "the other direction is untouched");
}

#[leakfree::test(workers = 2)]
async fn one_of_two_directions_is_cleared_alone() {
    let both = Interest::READABLE | Interest::WRITABLE;
    let (fd, mut other) = pair();
    let guard = fd.ready(both).await.unwrap();
    assert_eq!(guard.ready(), Ready::WRITABLE);
    other.write_all(b"a").unwrap();
    drop(fd.readable().await.unwrap());
    let mut guard = fd.ready(both).await.unwrap();
    assert_eq!(guard.ready(), Ready::READABLE | Ready::WRITABLE);
    guard.clear_ready_matching(Ready::READABLE);
    assert_eq!(fd.ready(both).await.unwrap().ready(), Ready::WRITABLE);
    fd.ready(both).await.unwrap().clear_ready();
    assert!(polled_once(fd.ready(both)).await.is_pending());
}

#[leakfree::test(workers = 2)]
async fn what_is_not_ready_is_not_tried() {
    let (mut fd, mut other) = pair();
    let untried = |_: &UnixStream| -> std::io::Result<()> { panic!("it is not ready") };
    assert_eq!(fd.try_io(Interest::READABLE, untried).unwrap_err().kind(), ErrorKind::WouldBlock);
    let untried = |_: &mut UnixStream| -> std::io::Result<()> { panic!("it is not ready") };
    assert_eq!(fd.try_io_mut(Interest::READABLE, untried).unwrap_err().kind(), ErrorKind::WouldBlock);
    other.write_all(b"abc").unwrap();
    drop(fd.readable().await.unwrap());
    let mut buf = [0; 2];
    assert_eq!(fd.try_io(Interest::READABLE, |mut fd| fd.read(&mut buf)).unwrap(), 2);
    assert_eq!(fd.try_io_mut(Interest::READABLE, |fd| fd.read(&mut buf)).unwrap(), 1);
    let empty = fd.try_io(Interest::READABLE, |mut fd| fd.read(&mut buf));
    assert_eq!(empty.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(polled_once(fd.readable()).await.is_pending(), "that it would block is taken down");
    let odd = fd.try_io(Interest::WRITABLE, |_| Err::<(), _>(ErrorKind::InvalidData.into()));
    assert_eq!(odd.unwrap_err().kind(), ErrorKind::InvalidData, "other errors are the operation's");
    drop(fd.writable().await.unwrap());
}

#[leakfree::test(workers = 2)]
async fn all_who_wait_are_woken() {
    let (fd, mut other) = pair();
    let fd = std::sync::Arc::new(fd);
    scope(async |s| {
        for name in ["one", "two", "three"] {
            let fd = fd.clone();
            s.task().name(name).spawn(async move { drop(fd.readable().await.unwrap()) });
        }
        for name in ["one", "two", "three"] {
            parked(name).await;
        }
        other.write_all(b"a").unwrap();
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn the_end_of_the_other_side_is_seen_and_stays() {
    let (fd, other) = pair();
    drop(other);
    for _ in 0..2 {
        let mut guard = fd.readable().await.unwrap();
        // What the kernel reports in two pieces may come in two.
        guard.clear_ready();
    }
    leakfree_tests::until(|| fd.try_io(Interest::READABLE, |mut fd| fd.read(&mut [0])).is_ok_and(|n| n == 0))
        .await;
    assert!(fd.readable().await.unwrap().ready().is_read_closed());
}

#[leakfree::test(workers = 2)]
async fn it_is_given_back_and_can_be_taken_again() {
    let (fd, mut other) = pair();
    let raw = fd.as_raw_fd();
    let again = AsyncFd::new(raw).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "it is waited for once");
    let inner = fd.into_inner();
    assert_eq!(inner.as_raw_fd(), raw);
    let fd = AsyncFd::new(inner).unwrap();
    other.write_all(b"a").unwrap();
    assert_eq!(fd.async_io(Interest::READABLE, |mut fd| fd.read(&mut [0])).await.unwrap(), 1);
    drop(fd);
    assert_eq!(other.read(&mut [0]).unwrap(), 0, "closed with it");
}

#[leakfree::test(workers = 2)]
async fn a_file_is_refused() {
    let dir = TempDir::new();
    let file = std::fs::File::create(dir.path().join("file")).unwrap();
    assert_eq!(AsyncFd::new(file).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[leakfree::test(workers = 2)]
async fn of_one_direction_the_other_is_never_ready() {
    let (a, mut other) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let mut fd = AsyncFd::with_interest(a, Interest::READABLE).unwrap();
    other.write_all(b"a").unwrap();
    drop(fd.readable().await.unwrap());
    assert!(polled_once(fd.writable()).await.is_pending());
    let mut guard = fd.readable_mut().await.unwrap();
    assert_eq!(guard.try_io(|fd| fd.get_mut().read(&mut [0; 8])).unwrap().unwrap(), 1);
    let _: TryIoError = guard.try_io(|fd| fd.get_mut().read(&mut [0; 8])).unwrap_err();
    guard.get_inner_mut().write_all(b"x").unwrap();
    assert_eq!(other.read(&mut [0; 8]).unwrap(), 1);
}

#[leakfree::test(workers = 2)]
async fn an_eventfd_counts_across_tasks() {
    let counter: OwnedFd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let fd = AsyncFd::new(counter).unwrap();
    scope(async |s| {
        let writer = fd.get_ref().try_clone().unwrap();
        s.spawn_blocking(move || {
            for _ in 0..1000 {
                rustix::io::write(&writer, &1_u64.to_ne_bytes()).unwrap();
            }
        });
        let mut total = 0;
        while total < 1000 {
            let mut bytes = [0; 8];
            let read = fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut bytes)?));
            assert_eq!(read.await.unwrap(), 8);
            total += u64::from_ne_bytes(bytes);
        }
        assert_eq!(total, 1000);
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn guards_lead_to_their_descriptor_and_an_operation_may_change_it() {
    let (mut fd, mut other) = pair();
    let raw = fd.as_raw_fd();
    assert_eq!(fd.as_fd().as_raw_fd(), raw);
    assert!(format!("{fd:?}").starts_with("AsyncFd"), "{fd:?}");
    other.write_all(b"ab").unwrap();
    let guard = fd.readable().await.unwrap();
    assert_eq!((guard.get_ref().as_raw_fd(), guard.get_inner().as_raw_fd()), (raw, raw));
    assert!(format!("{guard:?}").contains("ready"), "{guard:?}");
    drop(guard);
    let mut guard = fd.readable_mut().await.unwrap();
    assert_eq!((guard.get_ref().as_raw_fd(), guard.get_inner().as_raw_fd()), (raw, raw));
    assert_eq!((guard.get_mut().as_raw_fd(), guard.get_inner_mut().as_raw_fd()), (raw, raw));
    drop(guard);
    // It says "not yet" once, although there is something: it is tried again when more has come.
    let mut times = 0;
    let read = fd.async_io_mut(Interest::READABLE, |fd| {
        times += 1;
        let mut buf = [0; 8];
        if times == 1 { Err(ErrorKind::WouldBlock.into()) } else { fd.read(&mut buf) }
    });
    let more = async { other.write_all(b"c").unwrap() };
    assert_eq!(leakfree::join!(biased; read, more).0.unwrap(), 3);
    assert_eq!(times, 2);
    drop(fd);

    let (ours, _other) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let fd = AsyncFd::with_interest(ours, Interest::WRITABLE).unwrap();
    assert!(fd.writable().await.unwrap().ready().is_writable());
    let ready = fd.writable().await.unwrap().ready();
    assert!(!ready.is_write_closed() && !ready.is_empty());
}
