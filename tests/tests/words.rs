//! What errors say, and what `{:?}` shows: each type by its name, also while it is locked, and never what it carries for others.

use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use leakfree::io::AsyncWriteExt;
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetError, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree::task::JoinSet;
use leakfree::time::timeout;
use leakfree_tests::{panic_message, ready, runtime};

/// No more than its name: an error must be printable whatever it carries.
struct Opaque;

#[track_caller]
fn says<E: Error>(error: E, words: &str) {
    assert_eq!(error.to_string(), words);
}

#[test]
fn errors_of_channels_say_what_happened() {
    use mpsc::error::{SendTimeoutError, TryRecvError, TrySendError};

    let (tx, rx) = mpsc::channel::<Opaque>(1);
    tx.try_send(Opaque).ok().unwrap();
    let full = tx.try_send(Opaque).unwrap_err();
    assert_eq!(format!("{full:?}"), "Full(..)");
    says(full, "no available capacity");
    drop(rx);
    let closed = tx.try_send(Opaque).unwrap_err();
    assert_eq!(format!("{closed:?}"), "Closed(..)");
    says(closed, "channel closed");
    let closed = ready(tx.send(Opaque)).unwrap_err();
    assert_eq!(format!("{closed:?}"), "SendError(..)");
    says(closed, "channel closed");
    assert!(matches!(ready(tx.reserve()), Err(mpsc::error::SendError(()))));
    assert!(matches!(tx.try_reserve_many(1), Err(TrySendError::Closed(()))));
    let tx = match tx.try_reserve_owned() {
        Err(TrySendError::Closed(tx)) => tx,
        other => panic!("{other:?}"),
    };
    assert!(ready(tx.reserve_owned()).is_err());

    says(TryRecvError::Empty, "receiving on an empty channel");
    says(TryRecvError::Disconnected, "receiving on a closed channel");
    for (error, words, debug) in [
        (SendTimeoutError::Timeout(7), "timed out waiting for room in the channel", "Timeout(..)"),
        (SendTimeoutError::Closed(7), "channel closed", "Closed(..)"),
    ] {
        assert_eq!(format!("{error:?}"), debug);
        says(error, words);
        assert_eq!(error.into_inner(), 7, "the value comes back");
    }

    let (tx, mut rx) = oneshot::channel::<u8>();
    says(rx.try_recv().unwrap_err(), "channel empty");
    drop(tx);
    says(rx.try_recv().unwrap_err(), "channel closed");
    says(ready(rx).unwrap_err(), "channel closed");

    let (tx, rx) = watch::channel(Opaque);
    drop(rx);
    let error = tx.send(Opaque).unwrap_err();
    assert_eq!(format!("{error:?}"), "SendError(..)");
    says(error, "channel closed");
    let mut rx = tx.subscribe();
    drop(tx);
    says(ready(rx.changed()).unwrap_err(), "channel closed");

    let (tx, mut rx) = broadcast::channel(1);
    says(rx.try_recv().unwrap_err(), "channel empty");
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    says(rx.try_recv().unwrap_err(), "channel lagged by 1");
    tx.send(3).unwrap();
    says(ready(rx.recv()).unwrap_err(), "channel lagged by 1");
    drop(rx);
    let error = tx.send(4).unwrap_err();
    assert_eq!(format!("{error:?}"), "SendError(..)");
    says(error, "channel closed");
    let mut rx = tx.subscribe();
    drop(tx);
    says(rx.try_recv().unwrap_err(), "channel closed");
    says(ready(rx.recv()).unwrap_err(), "channel closed");
}

#[test]
fn errors_of_locks_and_cells_say_what_happened() {
    let lock = Mutex::new(());
    let _guard = lock.try_lock().unwrap();
    says(lock.try_lock().unwrap_err(), "the lock is held");
    let semaphore = Semaphore::new(0);
    says(semaphore.try_acquire().unwrap_err(), "no permits are free");
    semaphore.close();
    says(semaphore.try_acquire().unwrap_err(), "the semaphore is closed");
    says(ready(semaphore.acquire()).unwrap_err(), "the semaphore is closed");
    let cell = SetOnce::new_with(Some(1));
    says(cell.set(2).unwrap_err(), "the cell has a value already");
    says(SetError::AlreadyInitializedError(1), "the cell has a value already");
    says(SetError::InitializingError(1), "the cell's value is being made");
}

#[leakfree::test(paused)]
async fn an_elapsed_timeout_is_an_io_error_of_its_kind() {
    let elapsed = timeout(Duration::from_secs(1), pending::<()>()).await.unwrap_err();
    says(elapsed, "deadline has elapsed");
    let error = io::Error::from(elapsed);
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::TimedOut, "deadline has elapsed".into()));
}

#[leakfree::test]
async fn a_failed_scope_says_the_first_error_and_how_many_more() {
    for (n, words) in
        [(1, "out of paper"), (2, "out of paper (and 1 more error)"), (3, "out of paper (and 2 more errors)")]
    {
        let all = Arc::new(Barrier::new(n));
        let failed = leakfree::try_scope(async |s| -> Result<(), io::Error> {
            for _ in 0..n {
                let all = Arc::clone(&all);
                // In a shield: nobody is dropped before it has failed, too.
                drop(s.spawn_try(leakfree::shield(async move {
                    all.wait().await;
                    Err::<(), _>(io::Error::other("out of paper"))
                })));
            }
            Ok(())
        });
        let error = failed.await.unwrap_err();
        assert_eq!((error.to_string(), error.rest.len()), (words.to_owned(), n - 1));
        assert!(error.cancel_reason().is_none());
        assert_eq!(error.source().unwrap().to_string(), "out of paper");
        assert!(error.into_error().is_some());
    }
    let cancelled = leakfree::try_scope(async |s| -> Result<(), io::Error> {
        s.cancel("no ink");
        pending().await
    });
    let error = cancelled.await.unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("the scope was cancelled: ") && words.contains("no ink"), "{words}");
    assert!(error.cancel_reason().is_some() && error.source().is_none() && error.into_error().is_none());
}

/// Its name first; then whatever.
#[track_caller]
fn shows(value: &dyn fmt::Debug, name: &str) {
    let shown = format!("{value:?}");
    let rest = shown.strip_prefix(name).unwrap_or_else(|| panic!("{name}: {shown}"));
    assert!(!rest.starts_with(char::is_alphanumeric), "{name}: {shown}");
}

#[test]
fn channels_are_shown_by_name_whatever_they_carry() {
    let (tx, mut rx) = mpsc::channel::<Opaque>(2);
    shows(&tx, "Sender");
    shows(&tx.downgrade(), "WeakSender");
    shows(&tx.send(Opaque), "Send");
    shows(&tx.closed(), "Closed");
    shows(&tx.reserve(), "Reserve");
    shows(&tx.reserve_many(2), "ReserveMany");
    shows(&tx.clone().reserve_owned(), "ReserveOwned");
    shows(&tx.try_reserve().unwrap(), "Permit");
    shows(&tx.try_reserve_many(2).unwrap(), "PermitIterator");
    shows(&tx.clone().try_reserve_owned().unwrap(), "OwnedPermit");
    shows(&rx, "Receiver");
    shows(&rx.recv(), "Recv");
    shows(&rx.recv_many(&mut Vec::new(), 1), "RecvMany");
    let (tx, rx) = mpsc::unbounded_channel::<Opaque>();
    shows(&tx, "UnboundedSender");
    shows(&tx.downgrade(), "WeakUnboundedSender");
    shows(&rx, "UnboundedReceiver");
    let (mut tx, rx) = oneshot::channel::<Opaque>();
    shows(&tx.closed(), "Closed");
    shows(&tx, "Sender");
    shows(&rx, "Receiver");
    let (tx, mut rx) = watch::channel(7);
    shows(&tx, "Sender");
    shows(&tx.closed(), "Closed");
    shows(&rx, "Receiver");
    assert_eq!(format!("{:?}", rx.borrow()), "7");
    shows(&rx.changed(), "Changed");
    let (tx, mut rx) = broadcast::channel::<u8>(1);
    shows(&tx, "Sender");
    shows(&tx.downgrade(), "WeakSender");
    shows(&tx.closed(), "Closed");
    shows(&rx.recv(), "Recv");
    shows(&rx, "Receiver");
}

#[test]
fn locks_are_shown_also_while_they_are_held() {
    let mutex = Arc::new(Mutex::new(1));
    shows(&mutex.lock(), "Lock");
    shows(&Arc::clone(&mutex).lock_owned(), "LockOwned");
    assert_eq!(format!("{mutex:?}"), "Mutex { value: 1 }");
    let guard = mutex.try_lock().unwrap();
    assert_eq!(format!("{guard:?} {guard}"), "1 1");
    assert!(format!("{mutex:?}").contains("<locked>"), "{mutex:?}");

    let lock = Arc::new(RwLock::new(1));
    shows(&lock.read(), "Read");
    shows(&lock.write(), "Write");
    shows(&Arc::clone(&lock).read_owned(), "ReadOwned");
    shows(&Arc::clone(&lock).write_owned(), "WriteOwned");
    let guard = lock.try_write().unwrap();
    assert_eq!(format!("{guard:?} {guard}"), "1 1");
    assert!(format!("{lock:?}").contains("<locked>"), "{lock:?}");

    let semaphore = Arc::new(Semaphore::const_new(3));
    shows(&semaphore.acquire(), "Acquire");
    shows(&Arc::clone(&semaphore).acquire_owned(), "AcquireOwned");
    let permit = semaphore.try_acquire_many(2).unwrap();
    assert_eq!(format!("{permit:?}"), "SemaphorePermit { permits: 2, .. }");
    assert!(std::ptr::eq(permit.semaphore(), &*semaphore));
    let owned = Arc::clone(&semaphore).try_acquire_owned().unwrap();
    assert_eq!(format!("{owned:?}"), "OwnedSemaphorePermit { permits: 1, .. }");
    assert!(Arc::ptr_eq(owned.semaphore(), &semaphore));
    shows(&semaphore, "Semaphore");

    shows(&Notify::const_new(), "Notify");
    shows(&Notify::default().notified(), "Notified");
    shows(&Barrier::new(2), "Barrier");
    assert_eq!(format!("{:?}", OnceCell::new_with(Some(5))), "OnceCell { value: Some(5), .. }");
    let cell = SetOnce::new_with(Some(5));
    shows(&cell, "SetOnce");
    shows(&cell.wait(), "SetOnceWait");
}

#[test]
fn what_runs_is_shown_without_being_run() {
    shows(&Builder::default().name("shown"), "Builder");
    shows(&leakfree::scope(async |_| ()), "ScopeFuture");
    shows(&leakfree::try_scope(async |_| Ok::<(), io::Error>(())), "TryScopeFuture");
    shows(&leakfree::shield(async {}), "Shield");
    let runtime = runtime(1);
    shows(&runtime, "Runtime");
    shows(&runtime.handle(), "Handle");
    shows(&runtime.handle().enter(), "EnterGuard");
    let watch = runtime.handle().watch_growth(Duration::from_secs(9), 2, |_| ()).unwrap();
    shows(&watch, "GrowthWatch");
    drop(watch);
    runtime.block_on(async {
        leakfree::scope(async |s| {
            shows(&s, "Scope");
            let token = s.token();
            shows(&token, "CancelToken");
            let task = s.spawn(pending::<()>());
            shows(&task, "JoinHandle");
            shows(&task.abort_handle(), "AbortHandle");
            let mut set = JoinSet::default();
            set.spawn(pending::<()>());
            shows(&set, "JoinSet");
            shows(&set.join_next(), "JoinNext");
            shows(&set.join_next_with_id(), "JoinNextWithId");
            shows(&set.shutdown(), "Shutdown");
            shows(&set.join_all(), "JoinAll");
            task.abort();
            let _ = task.await;
        })
        .await;
        let (mut near, _far) = leakfree::io::duplex(16);
        shows(&near, "DuplexStream");
        near.write_all(b"x").await.unwrap();
        shows(&Handle::current(), "Handle");
    });
    let handle = runtime.handle();
    assert!(runtime.shutdown().is_clean());
    let message = panic_message(|| handle.block_on(async {}));
    assert!(message.contains("the runtime was shut down"), "{message}");
}

/// An error of a server or of a child that was refused is an error like all others.
#[test]
fn tasks_after_the_end_say_that_the_runtime_was_shut_down() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    assert!(runtime.shutdown().is_clean());
    let task = handle.spawn(async { 7 });
    let error = ready(task).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let reason = error.to_string();
    assert!(reason.contains("shut"), "{reason}");
}
