//! Every wait of `sync`: its reason, its object with the creation point, and the caller's own line. A row each.

use std::sync::Arc;
use std::time::Duration;

use leakfree::report::snapshot::{HolderInfo, TaskInfo, WaitObject, WaitReason};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree_tests::{park, parked};

/// What kind of object a row expects.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Created,
    Lock,
    Channel,
}

#[track_caller]
fn check((task, line): (TaskInfo, u32), reason: WaitReason, name: &str, kind: Kind, created: u32) {
    let [wait] = &task.waits[..] else { panic!("{task:?}") };
    assert_eq!((wait.reason, wait.reason.name()), (reason, name));
    assert_eq!((wait.site.file, wait.site.line), (file!(), line));
    assert!(wait.site.column > 1);
    let (found, site) = match &wait.object {
        WaitObject::Created(site) => (Kind::Created, *site),
        WaitObject::Lock(lock) => {
            assert_eq!(lock.waiters, 1);
            (Kind::Lock, lock.created)
        }
        WaitObject::Channel(channel) => {
            assert!(channel.senders > 0 && channel.receivers > 0, "{channel:?}");
            (Kind::Channel, channel.created)
        }
        object => panic!("{object:?}"),
    };
    assert_eq!((found, site.file, site.line), (kind, file!(), created));
    assert_eq!((task.own_wakers, task.foreign_wakers), (1, 0), "the wait set is complete");
}

#[leakfree::test(workers = 2)]
async fn locks() {
    use Kind::Lock;
    use WaitReason as R;
    let lock = Arc::new(Mutex::new(()));
    let made = line!() - 1;
    let guard = lock.lock().await;
    let theirs = Arc::clone(&lock);
    check(park!(theirs.lock()), R::MutexLock, "Mutex::lock", Lock, made);
    let theirs = Arc::clone(&lock);
    check(park!(theirs.lock_owned()), R::MutexLock, "Mutex::lock", Lock, made);
    drop(guard);

    let lock = Arc::new(RwLock::new(()));
    let made = line!() - 1;
    let guard = lock.write().await;
    let theirs = Arc::clone(&lock);
    check(park!(theirs.read()), R::RwLockRead, "RwLock::read", Lock, made);
    let theirs = Arc::clone(&lock);
    check(park!(theirs.read_owned()), R::RwLockRead, "RwLock::read", Lock, made);
    let theirs = Arc::clone(&lock);
    check(park!(theirs.write()), R::RwLockWrite, "RwLock::write", Lock, made);
    let theirs = Arc::clone(&lock);
    check(park!(theirs.write_owned()), R::RwLockWrite, "RwLock::write", Lock, made);
    drop(guard);

    let semaphore = Arc::new(Semaphore::new(1));
    let made = line!() - 1;
    let theirs = Arc::clone(&semaphore);
    check(park!(theirs.acquire_many(2)), R::SemaphoreAcquire, "Semaphore::acquire", Lock, made);
    let permit = semaphore.acquire().await.unwrap();
    let theirs = Arc::clone(&semaphore);
    check(park!(theirs.acquire()), R::SemaphoreAcquire, "Semaphore::acquire", Lock, made);
    let theirs = Arc::clone(&semaphore);
    check(park!(theirs.acquire_owned()), R::SemaphoreAcquire, "Semaphore::acquire", Lock, made);
    let theirs = Arc::clone(&semaphore);
    check(park!(theirs.acquire_many_owned(1)), R::SemaphoreAcquire, "Semaphore::acquire", Lock, made);
    drop(permit);

    static CELL: OnceCell<()> = OnceCell::const_new();
    let made = line!() - 1;
    let never = || std::future::pending::<()>();
    let making = leakfree::scope::current().task().name("makes").spawn(CELL.get_or_init(never));
    parked("makes").await;
    check(park!(CELL.get_or_init(never)), R::OnceCellInit, "OnceCell::get_or_init", Lock, made);
    let fails = || std::future::pending::<Result<(), ()>>();
    check(park!(CELL.get_or_try_init(fails)), R::OnceCellInit, "OnceCell::get_or_init", Lock, made);
    making.abort();
    let _ = making.await;
    CELL.set(()).unwrap();
}

#[leakfree::test(workers = 2)]
async fn events() {
    use Kind::Created;
    use WaitReason as R;
    let notify = Arc::new(Notify::new());
    let made = line!() - 1;
    let theirs = Arc::clone(&notify);
    check(park!(theirs.notified()), R::Notified, "Notify::notified", Created, made);
    check(park!(notify.notified_owned()), R::Notified, "Notify::notified", Created, made);

    let barrier = Barrier::new(2);
    let made = line!() - 1;
    check(park!(barrier.wait()), R::BarrierWait, "Barrier::wait", Created, made);

    let cell = SetOnce::<u8>::new();
    let made = line!() - 1;
    check(park!(cell.wait()), R::SetOnceWait, "SetOnce::wait", Created, made);
}

#[leakfree::test(workers = 2)]
async fn channels() {
    use Kind::Channel;
    use WaitReason as R;
    let (mut tx, rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    check(park!(tx.closed()), R::OneshotClosed, "oneshot::Sender::closed", Channel, made);
    let (mut tx, rx2) = oneshot::channel::<()>();
    let made = line!() - 1;
    let closed = park!(std::future::poll_fn(|cx| tx.poll_closed(cx)));
    check(closed, R::OneshotClosed, "oneshot::Sender::closed", Channel, made);
    drop((rx, rx2));
    let (tx, rx) = oneshot::channel::<()>();
    let made = line!() - 1;
    check(park!(rx), R::OneshotRecv, "oneshot::Receiver", Channel, made);
    drop(tx);

    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    check(park!(rx.recv()), R::MpscRecv, "mpsc::Receiver::recv", Channel, made);
    drop(tx);
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    let mut all = Vec::new();
    check(park!(rx.recv_many(&mut all, 2)), R::MpscRecv, "mpsc::Receiver::recv", Channel, made);
    drop(tx);
    let (tx, mut rx) = mpsc::unbounded_channel::<u8>();
    let made = line!() - 1;
    let polled = park!(std::future::poll_fn(|cx| rx.poll_recv(cx)));
    check(polled, R::MpscRecv, "mpsc::Receiver::recv", Channel, made);
    drop(tx);
    let (tx, rx) = mpsc::channel::<u8>(1);
    let made = line!() - 1;
    let theirs = tx.clone();
    check(park!(theirs.closed()), R::MpscClosed, "mpsc::Sender::closed", Channel, made);
    tx.try_send(1).unwrap();
    let theirs = tx.clone();
    check(park!(theirs.send(2)), R::MpscSend, "mpsc::Sender::send", Channel, made);
    let theirs = tx.clone();
    check(park!(theirs.reserve()), R::MpscReserve, "mpsc::Sender::reserve", Channel, made);
    let theirs = tx.clone();
    check(park!(theirs.reserve_many(1)), R::MpscReserve, "mpsc::Sender::reserve", Channel, made);
    check(park!(tx.reserve_owned()), R::MpscReserve, "mpsc::Sender::reserve", Channel, made);
    drop(rx);

    let (tx, rx) = watch::channel(0_u8);
    let made = line!() - 1;
    let mut theirs = rx.clone();
    check(park!(theirs.changed()), R::WatchChanged, "watch::Receiver::changed", Channel, made);
    let mut theirs = rx.clone();
    check(park!(theirs.wait_for(|n| *n > 0)), R::WatchWaitFor, "watch::Receiver::wait_for", Channel, made);
    check(park!(tx.closed()), R::WatchClosed, "watch::Sender::closed", Channel, made);
    drop(rx);

    let (tx, mut rx) = broadcast::channel::<u8>(1);
    let made = line!() - 1;
    check(park!(rx.recv()), R::BroadcastRecv, "broadcast::Receiver::recv", Channel, made);
    let rx = tx.subscribe();
    check(park!(tx.closed()), R::BroadcastClosed, "broadcast::Sender::closed", Channel, made);
    drop(rx);
}

/// A timeout has two waits: the room, and the time.
#[leakfree::test(workers = 2)]
async fn a_send_with_a_timeout() {
    let (tx, rx) = mpsc::channel::<u8>(1);
    tx.try_send(1).unwrap();
    let (task, line) = park!(tx.send_timeout(2, Duration::from_secs(3600)));
    let waits: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.file, wait.site.line)).collect();
    assert_eq!(waits, [(WaitReason::MpscReserve, file!(), line), (WaitReason::Timeout, file!(), line)]);
    drop(rx);
}

/// Who holds, who waits, and from where.
#[leakfree::test(workers = 2)]
async fn the_holders_of_a_shared_lock_are_told() {
    let semaphore = Arc::new(Semaphore::new(3));
    let theirs = Arc::clone(&semaphore);
    let acquired = line!() + 2;
    let holds = leakfree::scope::current().task().name("holds").spawn(async move {
        let _two = theirs.acquire_many(2).await;
        std::future::pending::<()>().await;
    });
    let holder = parked("holds").await;
    let mine = Arc::clone(&semaphore).acquire_owned().await.unwrap();
    let acquired_here = line!() - 1;
    let theirs = Arc::clone(&semaphore);
    let holders = |task: &TaskInfo| match &task.waits[0].object {
        WaitObject::Lock(lock) => {
            let told = lock.holders.iter().map(|holder| match holder {
                HolderInfo::Unknown => (0, 0, false),
                HolderInfo::Task { id, site } => (*id, site.line, false),
                HolderInfo::Owned { id, site } => (*id, site.line, true),
            });
            let mut told: Vec<_> = told.collect();
            told.sort_unstable();
            (told, lock.waiters, lock.shared)
        }
        object => panic!("{object:?}"),
    };
    let task = leakfree::scope::current().task().name("waits").spawn(async move {
        drop(theirs.acquire_many(3).await);
    });
    let found = holders(&parked("waits").await);
    // The other is this body.
    let mut told: Vec<_> = found.0.iter().map(|&(_, line, owned)| (line, owned)).collect();
    told.sort_unstable();
    assert_eq!(told, [(acquired, false), (acquired_here, true)]);
    assert!(found.0.contains(&(holder.id, acquired, false)));
    assert!(found.0[0].0 != found.0[1].0 && found.0.iter().all(|&(id, ..)| id != 0));
    assert_eq!((found.1, found.2), (1, true));
    drop(mine);
    assert_eq!(holders(&parked("waits").await), (vec![(holder.id, acquired, false)], 1, true));
    // From now on nobody can tell who lets others in.
    semaphore.add_permits(0);
    assert_eq!(holders(&parked("waits").await), (vec![(0, 0, false), (holder.id, acquired, false)], 1, true));
    holds.abort();
    let _ = holds.await;
    task.await.unwrap();
}

/// Who used the other end last.
#[leakfree::test(workers = 2)]
async fn the_last_users_of_a_channel_are_told() {
    let (tx, mut rx) = mpsc::channel::<u8>(4);
    let second = tx.clone();
    let task = leakfree::scope::current()
        .task()
        .name("receives")
        .spawn(async move { while rx.recv().await.is_some() {} });
    let channel = |task: &TaskInfo| match &task.waits[0].object {
        WaitObject::Channel(channel) => **channel,
        ref object => panic!("{object:?}"),
    };
    let found = parked("receives").await;
    let before = channel(&found);
    assert_eq!((before.senders, before.receivers, before.last_sender), (2, 1, None));
    let user = before.last_receiver.unwrap();
    assert_eq!((user.task, user.site), (std::num::NonZeroU64::new(found.id), found.waits[0].site));
    second.send(1).await.unwrap();
    let line = line!() - 1;
    drop(second);
    leakfree_tests::until(|| {
        let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
        tasks.iter().any(|task| task.name.as_deref() == Some("receives") && task.polls == 2)
    })
    .await;
    let after = channel(&parked("receives").await);
    assert_eq!((after.id, after.senders), (before.id, 1));
    let user = after.last_sender.unwrap();
    assert_eq!(user.site.line, line);
    assert!(user.task.is_some_and(|task| task.get() != found.id), "this body");
    drop(tx);
    task.await.unwrap();
}

/// Uses that do not wake who waits are told while it waits.
#[leakfree::test(workers = 2)]
async fn who_uses_a_channel_without_waking_who_waits_is_told() {
    let channel = |task: &TaskInfo| match &task.waits[0].object {
        WaitObject::Channel(channel) => **channel,
        ref object => panic!("{object:?}"),
    };
    // A slot is reserved while the receiver waits.
    let (tx, mut rx) = mpsc::channel::<u8>(4);
    let receives = leakfree::scope::current().task().name("receives").spawn(async move { rx.recv().await });
    assert_eq!(channel(&parked("receives").await).last_sender, None);
    let permit = tx.try_reserve().unwrap();
    let line = line!() - 1;
    let user = channel(&parked("receives").await).last_sender.unwrap();
    assert_eq!(user.site.line, line);
    permit.send(1);
    assert_eq!(receives.await.unwrap(), Some(1));

    // Receivers take values while a sender waits for the end, out of what one of them has taken over, too.
    for unbounded in [false, true] {
        let (tx, mut rx) = mpsc::channel::<u8>(8);
        let (tx2, mut rx2) = mpsc::unbounded_channel::<u8>();
        for n in 0..4 {
            tx.try_send(n).unwrap();
            tx2.send(n).unwrap();
        }
        let name = if unbounded { "unbounded" } else { "bounded" };
        let closed = leakfree::scope::current()
            .task()
            .name(name)
            .spawn(async move { if unbounded { tx2.closed().await } else { tx.closed().await } });
        assert_eq!(channel(&parked(name).await).last_receiver, None);
        let (first, second) = (rx.recv().await, rx2.recv().await);
        assert_eq!((first, second), (Some(0), Some(0)));
        let here = leakfree::task::id().get();
        let user = channel(&parked(name).await).last_receiver.unwrap();
        assert_eq!(user.task.map(u64::from), Some(here));
        let elsewhere = leakfree::spawn(async move {
            assert_eq!((rx.recv().await, rx2.recv().await), (Some(1), Some(1)));
            (rx, rx2, leakfree::task::id().get())
        });
        let (rx, rx2, there) = elsewhere.await.unwrap();
        let user = channel(&parked(name).await).last_receiver.unwrap();
        assert_eq!(user.task.map(u64::from), Some(there));
        drop((rx, rx2));
        closed.await.unwrap();
    }
}
