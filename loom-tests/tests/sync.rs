//! Channels, locks, semaphores and notifications: nothing given out is lost, whoever leaves and whenever.

#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use leakfree::sync::{Mutex, Notify, Semaphore, mpsc, oneshot};
use leakfree_loom_tests::model;
use loom::future::block_on;
use loom::thread;

/// Polls once, as a task does that is then dropped.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A lock that has been used: loom's atomic in it is made now, before other threads see it.
fn used<T>(lock: Mutex<T>) -> Mutex<T> {
    assert!(lock.try_lock().is_ok());
    lock
}

#[test]
fn a_waiter_that_leaves_hands_its_permit_on() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.clone().try_acquire_owned().unwrap();
        let (first, second) = (semaphore.clone(), semaphore.clone());
        let gives_up = thread::spawn(move || {
            let mut acquire = pin!(first.acquire());
            poll_once(acquire.as_mut()).is_ready()
        });
        let waits = thread::spawn(move || drop(block_on(second.acquire()).unwrap()));
        drop(held);
        gives_up.join().unwrap();
        waits.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn who_wants_many_permits_and_leaves_lets_the_next_one_by() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let many = semaphore.clone();
        let mut wants_two = Box::pin(async move { drop(many.acquire_many(2).await) });
        assert!(poll_once(wants_two.as_mut()).is_pending());
        let one = semaphore.clone();
        let waits = thread::spawn(move || drop(block_on(one.acquire()).unwrap()));
        drop(wants_two);
        waits.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn a_semaphore_closed_while_permits_are_given_back_leaves_nobody_waiting() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.clone().try_acquire_owned().unwrap();
        let (waits, closes) = (semaphore.clone(), semaphore.clone());
        let waits = thread::spawn(move || block_on(waits.acquire()).is_ok());
        let closes = thread::spawn(move || closes.close());
        drop(held);
        let _ = waits.join().unwrap();
        closes.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
        assert!(semaphore.is_closed());
    });
}

#[test]
fn a_lock_is_handed_on_by_a_waiter_that_leaves() {
    model(|| {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.clone().try_lock_owned().unwrap();
        let (first, second) = (lock.clone(), lock.clone());
        let gives_up = thread::spawn(move || {
            let mut locks = pin!(first.lock());
            let _ = poll_once(locks.as_mut()).map(|mut guard| *guard += 1);
        });
        let waits = thread::spawn(move || *block_on(second.lock()) += 1);
        drop(held);
        gives_up.join().unwrap();
        waits.join().unwrap();
        assert!(*lock.try_lock().unwrap() >= 1);
    });
}

#[test]
fn what_is_written_under_a_lock_is_seen_by_the_next() {
    model(|| {
        let lock = Arc::new(used(Mutex::new(loom::cell::UnsafeCell::new(0))));
        let theirs = lock.clone();
        let add = |lock: &Mutex<loom::cell::UnsafeCell<u32>>| {
            let guard = block_on(lock.lock());
            // SAFETY: loom checks that the lock orders the two.
            guard.with_mut(|cell| unsafe { *cell += 1 });
        };
        let other = thread::spawn(move || add(&theirs));
        add(&lock);
        other.join().unwrap();
        // SAFETY: as above.
        assert_eq!(lock.try_lock().unwrap().with(|cell| unsafe { *cell }), 2);
    });
}

#[test]
fn what_is_written_under_a_lock_is_seen_by_the_next_whether_it_queued_or_not() {
    model(|| {
        let lock = Arc::new(used(Mutex::new(loom::cell::UnsafeCell::new(0))));
        let (one, two) = (lock.clone(), lock.clone());
        let add = |guard: leakfree::sync::MutexGuard<'_, loom::cell::UnsafeCell<u32>>| {
            // SAFETY: loom checks that the lock orders those who have it.
            guard.with_mut(|cell| unsafe { *cell += 1 });
        };
        let waits = thread::spawn(move || add(block_on(one.lock())));
        let tries = thread::spawn(move || two.try_lock().map(add).is_ok());
        lock.try_lock().map(add).unwrap_or(());
        let tried = tries.join().unwrap();
        waits.join().unwrap();
        // SAFETY: as above.
        let sum = lock.try_lock().expect("nobody has it").with(|cell| unsafe { *cell });
        assert!(sum > u32::from(tried));
    });
}

#[test]
fn a_notification_that_was_meant_for_who_leaves_goes_to_another() {
    model(|| {
        let notify = Arc::new(Notify::new());
        let (first, second) = (notify.clone(), notify.clone());
        let gives_up = thread::spawn(move || {
            let mut notified = pin!(first.notified());
            poll_once(notified.as_mut()).is_ready()
        });
        let waits = thread::spawn(move || block_on(second.notified()));
        notify.notify_one();
        if gives_up.join().unwrap() {
            notify.notify_one();
        }
        waits.join().unwrap();
    });
}

#[test]
fn everybody_is_notified_who_asked_before() {
    model(|| {
        let notify = Arc::new(Notify::new());
        let waits = notify.clone().notified_owned();
        let waits = thread::spawn(move || block_on(waits));
        notify.notify_waiters();
        waits.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_gets_the_slot_that_a_receiver_frees() {
    model(|| {
        let (tx, mut rx) = mpsc::channel(1);
        tx.try_send(0).unwrap();
        let other = tx.clone();
        let sends = thread::spawn(move || block_on(other.send(1)).unwrap());
        let gives_up = thread::spawn(move || {
            let mut reserve = pin!(tx.reserve());
            drop(poll_once(reserve.as_mut()));
        });
        assert_eq!(block_on(rx.recv()), Some(0));
        assert_eq!(block_on(rx.recv()), Some(1));
        sends.join().unwrap();
        gives_up.join().unwrap();
        assert_eq!(block_on(rx.recv()), None, "both senders are gone");
    });
}

#[test]
fn close_receive_and_send_at_once_lose_nothing() {
    model(|| {
        let (tx, mut rx) = mpsc::channel(1);
        let value = Arc::new(());
        let sent = value.clone();
        let sends = thread::spawn(move || block_on(tx.send(sent)).is_ok());
        rx.close();
        let received = block_on(rx.recv()).is_some();
        assert_eq!(sends.join().unwrap(), received);
        drop(rx);
        assert_eq!(Arc::strong_count(&value), 1, "nothing is left behind");
    });
}

#[test]
fn the_receiver_of_a_closed_channel_waits_for_its_permits() {
    model(|| {
        let (tx, mut rx) = mpsc::channel(1);
        let permit = tx.clone().try_reserve_owned().unwrap();
        let uses = thread::spawn(move || drop(permit.send(1)));
        let gives_up = thread::spawn(move || drop(tx));
        rx.close();
        assert_eq!(block_on(rx.recv()), Some(1));
        assert_eq!(block_on(rx.recv()), None);
        uses.join().unwrap();
        gives_up.join().unwrap();
    });
}

#[test]
fn a_value_wakes_the_receiver_that_waits() {
    model(|| {
        let (tx, mut rx) = mpsc::channel(1);
        let other = tx.clone();
        let sends = thread::spawn(move || other.try_send(1).unwrap());
        assert_eq!(block_on(rx.recv()), Some(1));
        sends.join().unwrap();
        drop(tx);
    });
}

#[test]
fn an_unbounded_channel_gives_out_all_that_was_sent_in_order() {
    model(|| {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let other = tx.clone();
        let two = thread::spawn(move || (1..3).for_each(|n| tx.send(n).unwrap()));
        let one = thread::spawn(move || other.send(10).unwrap());
        let mut received = Vec::new();
        while let Some(n) = block_on(rx.recv()) {
            received.push(n);
        }
        assert_eq!(received.iter().sum::<i32>(), 13, "{received:?}");
        assert!(received.iter().filter(|&&n| n < 10).is_sorted(), "{received:?}");
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn an_unbounded_receiver_that_goes_drops_what_it_took_over_and_what_is_sent_meanwhile() {
    model(|| {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let (value, _kept) = (Arc::new(()), tx.clone());
        let sent = value.clone();
        (0..2).for_each(|_| tx.send(value.clone()).unwrap());
        let sends = thread::spawn(move || tx.send(sent).is_ok());
        assert!(block_on(rx.recv()).is_some());
        drop(rx);
        sends.join().unwrap();
        assert_eq!(Arc::strong_count(&value), 1, "nothing is left behind");
    });
}

#[test]
fn the_last_sender_that_goes_ends_the_receiver() {
    model(|| {
        let (tx, mut rx) = mpsc::channel::<()>(1);
        let other = tx.clone();
        let one = thread::spawn(move || drop(tx));
        let two = thread::spawn(move || drop(other));
        assert_eq!(block_on(rx.recv()), None);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn what_the_loser_of_a_select_was_to_receive_is_still_there() {
    model(|| {
        let (tx, mut rx) = mpsc::channel(1);
        let sends = thread::spawn(move || block_on(tx.send(7)).unwrap());
        let received = {
            // The other branch is ready at once, so this one is polled at most once, and dropped.
            let mut recv = pin!(rx.recv());
            match poll_once(recv.as_mut()) {
                Poll::Ready(value) => value,
                Poll::Pending => None,
            }
        };
        sends.join().unwrap();
        let later = block_on(rx.recv());
        assert_eq!(received.or(later), Some(7));
    });
}

#[test]
fn a_oneshot_value_arrives_or_comes_back() {
    model(|| {
        let (tx, rx) = oneshot::channel();
        let receives = thread::spawn(move || {
            let mut rx = Box::pin(rx);
            matches!(poll_once(rx.as_mut()), Poll::Ready(Ok(_)))
        });
        let value = Arc::new(());
        let came_back = tx.send(value.clone()).is_err();
        let received = receives.join().unwrap();
        assert!(!(came_back && received));
        assert_eq!(Arc::strong_count(&value), 1, "taken, given back, or dropped with the receiver");
    });
}

#[test]
fn a_oneshot_receiver_hears_of_the_value_or_of_the_end() {
    model(|| {
        let (tx, rx) = oneshot::channel();
        let (gone, dropped) = oneshot::channel::<()>();
        let sends = thread::spawn(move || tx.send(1).unwrap());
        let drops = thread::spawn(move || drop(gone));
        assert_eq!(block_on(rx), Ok(1));
        assert!(block_on(dropped).is_err());
        sends.join().unwrap();
        drops.join().unwrap();
    });
}
