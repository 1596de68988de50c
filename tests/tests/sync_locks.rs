//! `Mutex`, `RwLock` and `Semaphore`: who is let in, in which order, and what a drop gives back.

use std::sync::Arc;

use leakfree::sync::{
    AcquireError, MappedMutexGuard, MutexGuard, OnceCell, OwnedMutexGuard, OwnedRwLockMappedWriteGuard,
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockMappedWriteGuard, RwLockReadGuard,
    RwLockWriteGuard,
};
use leakfree::sync::{Mutex, Semaphore, TryAcquireError};
use leakfree_tests::{ByHand, panic_message, ready};

// ---- Semaphore ----------------------------------------------------------------------------------

#[test]
fn permits_are_given_in_order_and_nobody_overtakes() {
    let semaphore = Semaphore::new(3);
    let held = ready(semaphore.acquire_many(2)).unwrap();
    let mut many = ByHand::pending(semaphore.acquire_many(3));
    let mut one = ByHand::pending(semaphore.acquire());
    // One is free, but it is the first waiter's.
    assert_eq!(semaphore.available_permits(), 0);
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    one.waits();
    many.waits();
    drop(held);
    one.waits();
    let many = many.woken().unwrap();
    assert_eq!(many.num_permits(), 3);
    drop(many);
    assert_eq!(semaphore.available_permits(), 2, "one is granted");
    drop(one.woken().unwrap());
    assert_eq!(semaphore.available_permits(), 3);
}

#[test]
fn a_waiter_that_goes_lets_the_next_through() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.try_acquire().unwrap();
    let many = ByHand::pending(semaphore.acquire_many(2));
    let one = ByHand::pending(semaphore.acquire());
    let two = ByHand::pending(semaphore.acquire());
    drop(many);
    let one = one.woken().unwrap();
    drop(held);
    // Granted, and dropped before it was taken.
    assert_eq!(two.wakes(), 1);
    drop(two);
    assert_eq!(semaphore.available_permits(), 1);
    drop(one);
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn an_acquire_that_was_never_polled_is_not_in_line() {
    let semaphore = Semaphore::new(1);
    let late = semaphore.acquire();
    let first = ready(semaphore.acquire()).unwrap();
    let waits = ByHand::pending(semaphore.acquire());
    drop(late);
    drop(first);
    drop(waits.woken().unwrap());
}

#[test]
fn one_release_lets_several_in() {
    let semaphore = Semaphore::new(4);
    let all = semaphore.try_acquire_many(4).unwrap();
    let waiters: Vec<_> = (0..4).map(|_| ByHand::pending(semaphore.acquire())).collect();
    drop(all);
    let permits: Vec<_> = waiters.into_iter().map(|waiter| waiter.woken().unwrap()).collect();
    assert_eq!((permits.len(), semaphore.available_permits()), (4, 0));
}

#[test]
fn a_closed_semaphore_gives_nothing_out_and_takes_back() {
    let semaphore = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&semaphore).try_acquire_owned().unwrap();
    let waits = ByHand::pending(semaphore.acquire());
    let owned = ByHand::pending(Arc::clone(&semaphore).acquire_owned());
    semaphore.close();
    assert!(semaphore.is_closed());
    assert!(matches!(waits.woken(), Err(AcquireError { .. })));
    assert!(owned.woken().is_err());
    assert!(ready(semaphore.acquire()).is_err());
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
    drop(held);
    assert_eq!(semaphore.available_permits(), 1);
    // A grant that was not taken up before the close is an error, too, and is given back.
    let semaphore = Semaphore::new(0);
    let granted = ByHand::pending(semaphore.acquire());
    semaphore.add_permits(1);
    semaphore.close();
    assert!(granted.woken().is_err());
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn permits_are_added_forgotten_split_and_merged() {
    let semaphore = Semaphore::new(0);
    let waits = ByHand::pending(semaphore.acquire_many(2));
    semaphore.add_permits(1);
    assert_eq!(waits.wakes(), 0);
    assert_eq!(semaphore.forget_permits(1), 0, "it is the waiter's already");
    semaphore.add_permits(4);
    let mut two = waits.woken().unwrap();
    assert_eq!(semaphore.available_permits(), 3);
    assert_eq!(semaphore.forget_permits(1), 1);
    assert_eq!(semaphore.forget_permits(9), 2);
    let one = two.split(1).unwrap();
    assert_eq!((one.num_permits(), two.num_permits()), (1, 1));
    assert!(two.split(2).is_none());
    drop(one);
    assert_eq!(semaphore.available_permits(), 1);
    two.merge(semaphore.try_acquire().unwrap());
    assert_eq!(two.num_permits(), 2);
    let all = two.split(2).unwrap();
    assert_eq!(two.num_permits(), 0);
    drop(two);
    assert_eq!(semaphore.available_permits(), 0);
    all.forget();
    assert_eq!(semaphore.available_permits(), 0, "gone for good");
}

#[test]
fn misuse_of_a_semaphore_is_told() {
    let (one, other) = (Semaphore::new(1), Semaphore::new(1));
    let mut permit = one.try_acquire().unwrap();
    let message = panic_message(|| permit.merge(other.try_acquire().unwrap()));
    assert_eq!(message, "permits of two different semaphores were merged");
    assert_eq!(other.available_permits(), 1, "given back");
    assert_eq!(permit.num_permits(), 1);
    drop(permit);
    let message = panic_message(|| one.add_permits(Semaphore::MAX_PERMITS));
    assert!(message.contains("was given") && message.contains("MAX_PERMITS"), "{message}");
    assert_eq!(one.available_permits(), 1, "as before");
    let message = panic_message(|| drop(Semaphore::new(Semaphore::MAX_PERMITS + 1)));
    assert!(message.contains("MAX_PERMITS"), "{message}");
    // Nothing is nothing, whoever waits.
    let empty = Semaphore::new(0);
    let _waits = ByHand::pending(empty.acquire());
    assert_eq!(ready(empty.acquire_many(0)).unwrap().num_permits(), 0);
}

#[leakfree::test(workers = 2)]
async fn as_many_as_there_are_permits_run_at_once() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let semaphore = Arc::new(Semaphore::new(3));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    leakfree::scope(async |s| {
        for _ in 0..50 {
            let (semaphore, now, most) = (Arc::clone(&semaphore), Arc::clone(&now), Arc::clone(&most));
            s.spawn(async move {
                for _ in 0..20 {
                    let _permit = semaphore.acquire().await.unwrap();
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    leakfree::yield_now().await;
                    now.fetch_sub(1, SeqCst);
                }
            });
        }
    })
    .await;
    assert_eq!(most.load(SeqCst), 3);
    assert_eq!(semaphore.available_permits(), 3);
}

// ---- RwLock -------------------------------------------------------------------------------------

#[test]
fn readers_share_and_a_waiting_writer_holds_up_who_comes_after() {
    let lock = RwLock::new(1);
    let (a, b) = (ready(lock.read()), ready(lock.read()));
    assert_eq!(*a + *b, 2);
    assert!(lock.try_write().is_err());
    let mut writer = ByHand::pending(lock.write());
    let mut reader = ByHand::pending(lock.read());
    assert!(lock.try_read().is_err(), "behind the writer");
    drop(a);
    writer.waits();
    reader.waits();
    drop(b);
    let mut guard = writer.woken();
    *guard += 1;
    reader.waits();
    drop(guard);
    assert_eq!(*reader.woken(), 2);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    let lock = RwLock::new(());
    let read = lock.try_read().unwrap();
    let writer = ByHand::pending(lock.write());
    let readers: Vec<_> = (0..3).map(|_| ByHand::pending(lock.read())).collect();
    drop(writer);
    for reader in readers {
        drop(reader.woken());
    }
    drop(read);
    // The same when it was granted and did not look.
    let write = lock.try_write().unwrap();
    let writer = ByHand::pending(lock.write());
    let reader = ByHand::pending(lock.read());
    drop(write);
    assert_eq!((writer.wakes(), reader.wakes()), (1, 0));
    drop(writer);
    drop(reader.woken());
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    let lock = Arc::new(RwLock::new(1));
    let mut write = lock.try_write().unwrap();
    let reader = ByHand::pending(lock.read());
    let mut writer = ByHand::pending(lock.write());
    *write = 2;
    let read = write.downgrade();
    assert_eq!((*read, *reader.woken()), (2, 2));
    writer.waits();
    drop(read);
    drop(writer.woken());
    let owned = Arc::clone(&lock).try_write_owned().unwrap().downgrade();
    assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    assert!(Arc::ptr_eq(OwnedRwLockReadGuard::rwlock(&owned), &lock));
    drop(owned);
    assert!(lock.try_write().is_ok());
}

#[test]
fn guards_of_parts_hold_the_whole() {
    let lock = Arc::new(RwLock::new((1, "b".to_owned())));
    let part = RwLockReadGuard::map(lock.try_read().unwrap(), |pair| &pair.1);
    let part = RwLockReadGuard::map(part, |text| text.as_str());
    assert_eq!(&*part, "b");
    assert!(lock.try_write().is_err());
    let part = RwLockReadGuard::try_map(part, |text| text.get(5..)).unwrap_err();
    assert_eq!(part.to_string(), "b");
    drop(part);

    let mut part = RwLockWriteGuard::map(lock.try_write().unwrap(), |pair| &mut pair.0);
    *part += 1;
    assert!(lock.try_read().is_err());
    drop(part);
    let whole = RwLockWriteGuard::try_map(lock.try_write().unwrap(), |_| None::<&mut u8>).unwrap_err();
    let read = RwLockWriteGuard::downgrade_map(whole, |pair| &pair.0);
    assert_eq!((*read, lock.try_read().is_ok()), (2, true));
    drop(read);
    let whole = lock.try_write().unwrap();
    let whole = RwLockWriteGuard::try_downgrade_map(whole, |_| None::<&u8>).unwrap_err();
    assert!(lock.try_read().is_err(), "it writes still");
    drop(RwLockWriteGuard::into_mapped(whole));

    let owned = Arc::clone(&lock).try_write_owned().unwrap();
    let mut owned = OwnedRwLockWriteGuard::map(owned, |pair| &mut pair.1);
    owned.push('c');
    drop(owned);
    let owned = OwnedRwLockReadGuard::map(Arc::clone(&lock).try_read_owned().unwrap(), |pair| &pair.1);
    let weak = Arc::downgrade(&lock);
    drop(lock);
    assert_eq!(*owned, "bc", "it keeps the lock alive");
    drop(owned);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn a_lock_for_few_readers_counts_them() {
    let lock = RwLock::with_max_readers(0, 2);
    let _readers = (lock.try_read().unwrap(), lock.try_read().unwrap());
    assert!(lock.try_read().is_err());
    assert!(panic_message(|| drop(RwLock::with_max_readers(0, 0))).contains("readers"));
    let mut lock = RwLock::from(3);
    *lock.get_mut() += 1;
    assert_eq!(format!("{lock:?}"), "RwLock { value: 4 }");
    assert_eq!(lock.into_inner(), 4);
    static LOCK: RwLock<u8> = RwLock::const_new(5);
    assert_eq!(*LOCK.try_read().unwrap(), 5);
}

#[leakfree::test(workers = 2)]
async fn writers_are_alone_and_owned_guards_wait_in_the_same_line() {
    let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
    leakfree::scope(async |s| {
        for n in 0..16 {
            let lock = Arc::clone(&lock);
            s.spawn(async move {
                for _ in 0..50 {
                    if n % 4 == 0 {
                        let mut pair = Arc::clone(&lock).write_owned().await;
                        pair.0 += 1;
                        leakfree::yield_now().await;
                        pair.1 += 1;
                    } else {
                        let pair = Arc::clone(&lock).read_owned().await;
                        assert_eq!(pair.0, pair.1, "nobody sees half a write");
                        leakfree::yield_now().await;
                    }
                }
            });
        }
    })
    .await;
    assert_eq!(*lock.try_read().unwrap(), (200, 200));
}

// ---- Mutex --------------------------------------------------------------------------------------

#[test]
fn owned_guards_wait_in_the_same_line() {
    let lock = Arc::new(Mutex::new(0));
    let guard = lock.try_lock().unwrap();
    let owned = ByHand::pending(Arc::clone(&lock).lock_owned());
    let borrowed = ByHand::pending(lock.lock());
    assert!(Arc::clone(&lock).try_lock_owned().is_err());
    drop(guard);
    let mut owned = owned.woken();
    *owned += 1;
    assert!(Arc::ptr_eq(OwnedMutexGuard::mutex(&owned), &lock));
    assert_eq!(borrowed.wakes(), 0);
    drop(owned);
    let borrowed = borrowed.woken();
    assert_eq!(*borrowed, 1);
    assert!(std::ptr::eq(MutexGuard::mutex(&borrowed), &*lock));
    // Granted and dropped: the lock is free, and nobody keeps it alive.
    let waits = ByHand::pending(Arc::clone(&lock).lock_owned());
    drop(borrowed);
    drop(waits);
    assert!(lock.try_lock().is_ok());
    assert_eq!(Arc::strong_count(&lock), 1);
}

#[test]
fn guards_of_parts_of_a_mutex_hold_it() {
    let lock = Arc::new(Mutex::new((1, [2, 3])));
    let part = MutexGuard::map(lock.try_lock().unwrap(), |pair| &mut pair.1);
    let mut part = MappedMutexGuard::map(part, |array| &mut array[1]);
    *part += 1;
    assert!(lock.try_lock().is_err());
    let part = MappedMutexGuard::try_map(part, |_| None::<&mut u8>).unwrap_err();
    drop(part);
    let guard = MutexGuard::try_map(lock.try_lock().unwrap(), |_| None::<&mut u8>).unwrap_err();
    assert_eq!(*guard, (1, [2, 4]));
    drop(guard);
    let owned = Arc::clone(&lock).try_lock_owned().unwrap();
    let owned = OwnedMutexGuard::try_map(owned, |_| None::<&mut u8>).unwrap_err();
    let mut owned = OwnedMutexGuard::map(owned, |pair| &mut pair.0);
    *owned = 9;
    assert!(lock.try_lock().is_err());
    drop(owned);
    assert_eq!(lock.try_lock().unwrap().0, 9);
    assert_eq!(Arc::strong_count(&lock), 1);
}

#[test]
fn a_panic_in_a_closure_or_under_a_guard_lets_go() {
    let mutex = Mutex::new(1);
    panic_message(|| drop(MutexGuard::map(mutex.try_lock().unwrap(), |_| -> &mut i32 { panic!("no") })));
    panic_message(|| {
        let _guard = mutex.try_lock().unwrap();
        panic!("no");
    });
    assert_eq!(*mutex.try_lock().unwrap(), 1);
    let lock = RwLock::new(1);
    panic_message(|| {
        drop(RwLockWriteGuard::map(lock.try_write().unwrap(), |_| -> &mut i32 { panic!("no") }))
    });
    panic_message(|| drop(RwLockReadGuard::map(lock.try_read().unwrap(), |_| -> &i32 { panic!("no") })));
    panic_message(|| {
        drop(RwLockWriteGuard::downgrade_map(lock.try_write().unwrap(), |_| -> &i32 { panic!("no") }));
    });
    assert_eq!(*lock.try_write().unwrap(), 1);
}

#[test]
fn a_forgotten_guard_holds_for_ever() {
    let (mutex, lock, semaphore) = (Mutex::new(()), RwLock::new(()), Semaphore::new(2));
    std::mem::forget(mutex.try_lock().unwrap());
    std::mem::forget(lock.try_read().unwrap());
    std::mem::forget(semaphore.try_acquire().unwrap());
    assert!(mutex.try_lock().is_err());
    assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    assert_eq!(semaphore.available_permits(), 1);
    // So does a future that was granted and then forgotten.
    let cell = OnceCell::<u8>::new();
    let mut making = ByHand::pending(cell.get_or_init(std::future::pending));
    assert!(making.poll().is_pending());
    std::mem::forget(making);
    let _ = ByHand::pending(cell.get_or_init(|| async { 1 }));
}

/// What is mapped is mapped on, or comes back; each guard of a part holds the whole lock until it is gone.
#[test]
fn guards_of_parts_of_parts_hold_the_whole_and_can_tell_their_lock() {
    let lock = Arc::new(RwLock::const_with_max_readers((1, [2, 3]), 3));
    let is_free = || lock.try_write().is_ok();

    let read = RwLockReadGuard::try_map(lock.try_read().unwrap(), |pair| pair.1.first()).unwrap();
    assert_eq!((*read, is_free()), (2, false));
    drop(read);
    let write = RwLockWriteGuard::try_map(lock.try_write().unwrap(), |pair| Some(&mut pair.1)).unwrap();
    let write = RwLockMappedWriteGuard::try_map(write, |_| None::<&mut u8>).unwrap_err();
    let write = RwLockMappedWriteGuard::try_map(write, |array| array.last_mut()).unwrap();
    let mut write = RwLockMappedWriteGuard::map(write, |last| last);
    *write += 1;
    assert!(lock.try_read().is_err());
    assert_eq!(format!("{write} {write:?}"), "4 4");
    drop(write);
    let read = RwLockWriteGuard::try_downgrade_map(lock.try_write().unwrap(), |pair| pair.1.last()).unwrap();
    assert_eq!((*read, lock.try_read().is_ok(), is_free()), (4, true, false));
    drop(read);
    assert!(is_free());

    let (read, write) = (|| Arc::clone(&lock).try_read_owned(), || Arc::clone(&lock).try_write_owned());
    let part = OwnedRwLockReadGuard::try_map(read().unwrap(), |pair| pair.1.get(7)).unwrap_err();
    let part = OwnedRwLockReadGuard::try_map(part, |pair| pair.1.first()).unwrap();
    assert_eq!((*part, is_free()), (2, false));
    assert!(Arc::ptr_eq(OwnedRwLockReadGuard::rwlock(&part), &lock));
    drop(part);
    let whole = OwnedRwLockWriteGuard::try_map(write().unwrap(), |_| None::<&mut u8>).unwrap_err();
    assert!(Arc::ptr_eq(OwnedRwLockWriteGuard::rwlock(&whole), &lock));
    let part = OwnedRwLockWriteGuard::try_map(whole, |pair| Some(&mut pair.1)).unwrap();
    assert!(Arc::ptr_eq(OwnedRwLockMappedWriteGuard::rwlock(&part), &lock));
    let part = OwnedRwLockMappedWriteGuard::try_map(part, |_| None::<&mut u8>).unwrap_err();
    let part = OwnedRwLockMappedWriteGuard::try_map(part, |array| array.first_mut()).unwrap();
    let mut part = OwnedRwLockMappedWriteGuard::map(part, |first| first);
    *part *= 10;
    assert!(lock.try_read().is_err());
    drop(part);
    let mut mapped = OwnedRwLockWriteGuard::into_mapped(write().unwrap());
    mapped.0 += 1;
    drop(mapped);
    let whole = OwnedRwLockWriteGuard::try_downgrade_map(write().unwrap(), |_| None::<&u8>).unwrap_err();
    assert!(lock.try_read().is_err(), "it writes still");
    let read = OwnedRwLockWriteGuard::try_downgrade_map(whole, |pair| Some(&pair.1)).unwrap();
    assert_eq!((*read, lock.try_read().is_ok(), is_free()), ([20, 4], true, false));
    drop(read);
    assert_eq!(Arc::into_inner(lock).unwrap().into_inner(), (2, [20, 4]));
    assert_eq!(RwLock::<u8>::default().into_inner(), 0);

    let mutex = Arc::new(Mutex::const_new((1, Some(2))));
    let part = MutexGuard::try_map(mutex.try_lock().unwrap(), |pair| Some(&mut pair.1)).unwrap();
    assert_eq!(*part, Some(2));
    let mut part = MappedMutexGuard::try_map(part, Option::as_mut).unwrap();
    *part += 1;
    assert!(mutex.try_lock().is_err());
    drop(part);
    let owned = Arc::clone(&mutex).try_lock_owned().unwrap();
    assert_eq!(*owned, (1, Some(3)));
    let owned = OwnedMutexGuard::try_map(owned, |pair| pair.1.as_mut()).unwrap();
    assert_eq!((*owned, mutex.try_lock().is_err()), (3, true));
    drop(owned);
    assert!(mutex.try_lock().is_ok());
}

#[test]
fn permits_that_are_all_given_away_leave_an_empty_guard() {
    let semaphore = Arc::new(Semaphore::new(4));
    let mut a = semaphore.try_acquire_many(3).unwrap();
    assert!(a.split(4).is_none());
    let none = a.split(0).unwrap();
    let mut all = a.split(3).unwrap();
    assert_eq!((a.num_permits(), none.num_permits(), all.num_permits()), (0, 0, 3));
    drop((a, none));
    assert_eq!(semaphore.available_permits(), 1, "the three are held still");
    let mut empty = semaphore.try_acquire_many(0).unwrap();
    empty.merge(all.split(1).unwrap());
    assert_eq!((empty.num_permits(), all.num_permits()), (1, 2));
    all.merge(empty);
    assert_eq!(all.num_permits(), 3);
    drop(all);
    assert_eq!(semaphore.available_permits(), 4);
    semaphore.try_acquire_many(0).unwrap().forget();
    semaphore.try_acquire().unwrap().forget();
    assert_eq!(semaphore.available_permits(), 3);
}
