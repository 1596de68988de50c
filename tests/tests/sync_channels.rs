//! `mpsc` with its permits, `oneshot`, `watch` and `broadcast`: what arrives, in which order, and that nothing is lost or doubled
//! by a future that is dropped at any point.

use std::sync::Arc;
use std::time::Duration;

use leakfree::sync::mpsc::error::{SendError, SendTimeoutError, TryRecvError, TrySendError};
use leakfree::sync::{broadcast, mpsc, oneshot, watch};
use leakfree_tests::{ByHand, Drops, panic_message, ready};

// ---- mpsc ---------------------------------------------------------------------------------------

#[test]
fn a_permit_keeps_its_room() {
    let (tx, mut rx) = mpsc::channel(2);
    let one = ready(tx.reserve()).unwrap();
    let two = tx.try_reserve().unwrap();
    assert_eq!((tx.capacity(), tx.max_capacity(), rx.len()), (0, 2, 0));
    assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
    assert!(matches!(tx.try_reserve(), Err(TrySendError::Full(()))));
    let waits = ByHand::pending(tx.send(3));
    one.send(1);
    assert_eq!(waits.wakes(), 0);
    drop(two);
    assert_eq!(waits.woken(), Ok(()));
    assert_eq!((ready(rx.recv()), ready(rx.recv())), (Some(1), Some(3)));
    assert_eq!((tx.capacity(), rx.capacity(), rx.max_capacity()), (2, 2, 2));
}

#[test]
fn room_for_many_is_waited_for_in_line() {
    let (tx, mut rx) = mpsc::channel(3);
    tx.try_send(0).unwrap();
    tx.try_send(1).unwrap();
    let many = ByHand::pending(tx.reserve_many(3));
    let one = ByHand::pending(tx.reserve());
    assert_eq!(tx.capacity(), 0, "what is free is the first waiter's");
    assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
    assert_eq!(rx.try_recv(), Ok(0));
    assert_eq!((many.wakes(), one.wakes()), (0, 0));
    assert_eq!(rx.try_recv(), Ok(1));
    let mut permits = many.woken().unwrap();
    assert_eq!(permits.len(), 3);
    permits.next().unwrap().send(2);
    assert_eq!(one.wakes(), 0);
    drop(permits);
    one.woken().unwrap().send(3);
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(2), Ok(3)));
    assert!(ready(tx.reserve_many(4)).is_err(), "it never holds so many");
    assert!(matches!(tx.try_reserve_many(4), Err(TrySendError::Full(()))));
    assert_eq!(tx.try_reserve_many(3).unwrap().count(), 3);
    assert_eq!(tx.capacity(), 3);
}

#[test]
fn a_sender_that_gives_up_passes_its_room_on() {
    let (tx, mut rx) = mpsc::channel(2);
    tx.try_send(0).unwrap();
    let many = ByHand::pending(tx.reserve_many(2));
    let one = ByHand::pending(tx.send(1));
    let two = ByHand::pending(tx.reserve());
    drop(many);
    assert_eq!(one.woken(), Ok(()));
    assert_eq!(two.wakes(), 0);
    assert_eq!(rx.try_recv(), Ok(0));
    // Granted, and dropped before it looked.
    assert_eq!(two.wakes(), 1);
    drop(two);
    assert_eq!((tx.capacity(), rx.try_recv()), (1, Ok(1)));
}

#[test]
fn an_owned_permit_is_the_sender() {
    let (tx, mut rx) = mpsc::channel(1);
    let other = tx.clone();
    let permit = ready(tx.reserve_owned()).unwrap();
    assert!(permit.same_channel_as_sender(&other));
    let other = match other.try_reserve_owned() {
        Err(TrySendError::Full(sender)) => sender,
        result => panic!("{result:?}"),
    };
    let waits = ByHand::pending(other.reserve_owned());
    let tx = permit.send(1);
    assert_eq!(rx.try_recv(), Ok(1));
    let permit = waits.woken().unwrap();
    assert_eq!(tx.strong_count(), 2);
    let other = permit.release();
    assert_eq!(tx.capacity(), 1);
    drop((tx.try_reserve_owned().unwrap(), other));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_closed_channel_waits_for_its_permits() {
    let (tx, mut rx) = mpsc::channel(4);
    let (one, two) = (tx.try_reserve().unwrap(), tx.try_reserve().unwrap());
    let waits = ByHand::pending(tx.reserve_many(3));
    tx.try_send(0).unwrap_err();
    rx.close();
    assert!(rx.is_closed() && tx.is_closed());
    assert!(waits.woken().is_err());
    assert!(ready(tx.reserve()).is_err());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let recv = ByHand::pending(rx.recv());
    one.send(1);
    assert_eq!(recv.woken(), Some(1));
    let recv = ByHand::pending(rx.recv());
    drop(two);
    assert_eq!(recv.woken(), None);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn what_a_permit_sends_to_nobody_is_dropped() {
    let drops = Drops::new();
    let (tx, rx) = mpsc::channel(1);
    let permit = tx.try_reserve().unwrap();
    drop(rx);
    permit.send(drops.guard());
    assert_eq!(drops.count(), 1);
    assert!(ready(tx.send(drops.guard())).is_err());
    assert_eq!(drops.count(), 2);
}

#[test]
fn several_values_are_received_at_once() {
    let (tx, mut rx) = mpsc::channel(3);
    let mut buffer = vec![0];
    assert_eq!(ready(rx.recv_many(&mut buffer, 0)), 0);
    let mut none = Vec::new();
    let waits = ByHand::pending(rx.recv_many(&mut none, 5));
    tx.try_send(1).unwrap();
    assert_eq!(waits.woken(), 1);
    for n in 2..=4 {
        tx.try_send(n).unwrap();
    }
    let (a, b) = (ByHand::pending(tx.send(5)), ByHand::pending(tx.send(6)));
    assert_eq!(ready(rx.recv_many(&mut buffer, 2)), 2);
    assert_eq!((a.woken(), b.woken()), (Ok(()), Ok(())), "both slots were given on");
    assert_eq!(ready(rx.recv_many(&mut buffer, 9)), 3);
    assert_eq!((buffer, none), (vec![0, 2, 3, 4, 5, 6], vec![1]));
    let mut rest = Vec::new();
    let dropped = ByHand::pending(rx.recv_many(&mut rest, 9));
    drop(dropped);
    tx.try_send(7).unwrap();
    assert_eq!(ready(rx.recv()), Some(7), "the dropped one took nothing");
    drop(tx);
    assert_eq!(ready(rx.recv_many(&mut rest, 9)), 0);
}

#[test]
fn weak_senders_do_not_keep_a_channel_open() {
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let weak = tx.downgrade();
    let again = weak.upgrade().unwrap();
    assert!(again.same_channel(&tx));
    assert_eq!((tx.strong_count(), tx.weak_count(), rx.sender_strong_count()), (2, 1, 2));
    let recv = ByHand::pending(rx.recv());
    // The channel is published to snapshots now; counts go on being right.
    drop(again);
    drop(tx);
    assert_eq!(recv.woken(), None);
    assert!(weak.upgrade().is_none());
    assert_eq!((rx.sender_strong_count(), rx.sender_weak_count()), (0, 1));
    let (tx, rx) = mpsc::unbounded_channel::<u8>();
    let weak = tx.downgrade().clone();
    assert!(weak.upgrade().unwrap().same_channel(&tx));
    assert_eq!((weak.strong_count(), rx.sender_weak_count()), (1, 1));
    drop(tx);
    assert!(weak.upgrade().is_none() && rx.is_closed());
}

#[leakfree::test(paused)]
async fn a_send_has_its_time() {
    let (tx, mut rx) = mpsc::channel(1);
    let second = Duration::from_secs(1);
    assert_eq!(tx.send_timeout(1, second).await, Ok(()));
    assert_eq!(tx.send_timeout(2, second).await, Err(SendTimeoutError::Timeout(2)));
    assert_eq!(rx.recv().await, Some(1));
    assert_eq!(tx.capacity(), 1, "the one that gave up left no room taken");
    drop(rx);
    assert_eq!(tx.send_timeout(3, second).await, Err(SendTimeoutError::Closed(3)));
    assert_eq!(tx.send(4).await, Err(SendError(4)));
}

#[leakfree::test(workers = 2)]
async fn every_value_arrives_once_whatever_is_dropped_half_way() {
    let (tx, mut rx) = mpsc::channel(2);
    let received = leakfree::spawn(async move {
        let mut all = Vec::new();
        loop {
            // A receive that is given up now and then loses nothing.
            let mut recv = Box::pin(rx.recv());
            match futures::poll!(&mut recv) {
                std::task::Poll::Ready(None) => return all,
                std::task::Poll::Ready(Some(n)) => all.push(n),
                std::task::Poll::Pending => {
                    drop(recv);
                    leakfree::yield_now().await;
                }
            }
        }
    });
    leakfree::scope(async |s| {
        for sender in 0..4_u32 {
            let tx = tx.clone();
            s.spawn(async move {
                for n in 0..100 {
                    loop {
                        // Two looks, and it gives up: granted or not, nothing is lost.
                        let mut reserve = Box::pin(tx.reserve());
                        if futures::poll!(&mut reserve).is_pending() {
                            leakfree::yield_now().await;
                        } else {
                            // Ready and dropped: the room is given back.
                            reserve = Box::pin(tx.reserve());
                        }
                        if let std::task::Poll::Ready(permit) = futures::poll!(&mut reserve) {
                            permit.unwrap().send(sender * 100 + n);
                            break;
                        }
                    }
                }
            });
        }
    })
    .await;
    drop(tx);
    let mut all = received.await.unwrap();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..400));
}

#[test]
fn no_room_is_refused_in_words() {
    let message = panic_message(|| drop(mpsc::channel::<u8>(0)));
    assert_eq!(message, "an mpsc channel must hold at least one value: its capacity was 0");
    let message = panic_message(|| drop(broadcast::channel::<u8>(0)));
    assert_eq!(message, "a broadcast channel must hold at least one value: its capacity was 0");
}

// ---- oneshot ------------------------------------------------------------------------------------

#[test]
fn a_oneshot_says_how_it_stands() {
    let (tx, mut rx) = oneshot::channel();
    assert!(rx.is_empty() && !rx.is_terminated());
    tx.send(1).unwrap();
    assert!(!rx.is_empty() && !rx.is_terminated());
    assert_eq!(ready(&mut rx), Ok(1));
    assert!(rx.is_empty() && rx.is_terminated());
    let (tx, mut rx) = oneshot::channel::<u8>();
    drop(tx);
    assert_eq!(rx.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(rx.is_terminated());
    let (mut tx, rx) = oneshot::channel::<u8>();
    let mut closed = ByHand::pending(std::future::poll_fn(|cx| tx.poll_closed(cx)));
    closed.waits();
    drop(rx);
    closed.woken();
}

// ---- watch --------------------------------------------------------------------------------------

#[test]
fn a_receiver_sees_the_last_value_once() {
    let (tx, mut rx) = watch::channel(0);
    assert_eq!(rx.has_changed(), Ok(false));
    let waits = ByHand::pending(rx.changed());
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    assert_eq!(waits.woken(), Ok(()));
    assert_eq!(*rx.borrow(), 2);
    drop(ByHand::pending(rx.changed()));
    tx.send(3).unwrap();
    // Dropped half-way, it is still news.
    assert_eq!(rx.has_changed(), Ok(true));
    assert!(rx.borrow().has_changed());
    assert!(rx.borrow_and_update().has_changed());
    assert!(!rx.borrow_and_update().has_changed());
    rx.mark_changed();
    assert_eq!(ready(rx.changed()), Ok(()));
    tx.send(4).unwrap();
    rx.mark_unchanged();
    assert_eq!(rx.has_changed(), Ok(false));
    // A clone has seen what it was cloned from has seen; a new subscriber what is there.
    tx.send(5).unwrap();
    let (clone, new) = (rx.clone(), tx.subscribe());
    assert_eq!((clone.has_changed(), new.has_changed()), (Ok(true), Ok(false)));
    assert!(clone.same_channel(&new));
    assert_eq!(tx.receiver_count(), 3);
}

#[test]
fn the_end_of_the_senders_comes_after_the_last_value() {
    let (tx, mut rx) = watch::channel(0);
    let other = tx.clone();
    assert!(tx.same_channel(&other) && tx.sender_count() == 2);
    drop(tx);
    other.send(1).unwrap();
    drop(other);
    assert!(rx.has_changed().is_err());
    assert_eq!(ready(rx.changed()), Ok(()));
    assert!(ready(rx.changed()).is_err());
    assert_eq!(*rx.borrow(), 1);
    let (tx, mut rx) = watch::channel(0);
    let waits = ByHand::pending(rx.changed());
    drop(tx);
    assert!(waits.woken().is_err());
}

#[test]
fn a_sender_without_receivers_keeps_the_value() {
    let (tx, rx) = watch::channel(0);
    let closed = ByHand::pending(tx.closed());
    drop(rx);
    closed.woken();
    assert!(tx.is_closed());
    assert_eq!(tx.send(1), Err(watch::error::SendError(1)));
    assert_eq!(*tx.borrow(), 0);
    assert_eq!(tx.send_replace(2), 0);
    tx.send_modify(|value| *value += 1);
    let mut rx = tx.subscribe();
    assert_eq!(*rx.borrow(), 3);
    assert!(!tx.send_if_modified(|_| false));
    assert_eq!(rx.has_changed(), Ok(false));
    assert!(tx.send_if_modified(|value| {
        *value = 9;
        true
    }));
    assert_eq!(*rx.borrow_and_update(), 9);
    ready(watch::Sender::<u8>::default().closed());
}

#[test]
fn a_panic_in_a_change_leaves_the_channel_in_order() {
    let (tx, mut rx) = watch::channel(0);
    panic_message(|| {
        tx.send_modify(|value| {
            *value = 1;
            panic!("half-way");
        });
    });
    assert_eq!(rx.has_changed(), Ok(false), "nobody was told");
    assert_eq!(*rx.borrow(), 1);
    panic_message(|| drop(ready(rx.wait_for(|_| panic!("no")))));
    tx.send(2).unwrap();
    assert_eq!(ready(rx.changed()), Ok(()));
    assert_eq!(*rx.borrow(), 2);
}

#[test]
fn a_condition_is_waited_for() {
    let (tx, mut rx) = watch::channel(0);
    assert_eq!(ready(rx.wait_for(|n| *n == 0)).map(|value| *value), Ok(0), "the value that is there counts");
    let mut waits = ByHand::pending(rx.wait_for(|n| *n > 1));
    tx.send(1).unwrap();
    assert!(waits.poll().is_pending());
    tx.send(2).unwrap();
    assert_eq!(waits.wakes(), 2);
    let std::task::Poll::Ready(value) = waits.poll() else { panic!("it holds") };
    let value = value.unwrap();
    assert!(value.has_changed());
    assert_eq!(*value, 2);
    drop(value);
    drop(waits);
    assert_eq!(rx.has_changed(), Ok(false), "it has seen it");
    // The last value is looked at after the end.
    tx.send(7).unwrap();
    drop(tx);
    assert_eq!(ready(rx.wait_for(|n| *n == 7)).map(|value| *value), Ok(7));
    assert!(ready(rx.wait_for(|n| *n == 8)).is_err());
}

// ---- broadcast ----------------------------------------------------------------------------------

#[test]
fn every_receiver_has_every_value() {
    let (tx, mut a) = broadcast::channel(4);
    let mut b = tx.subscribe();
    let mut wait_a = ByHand::pending(a.recv());
    assert_eq!(tx.send(1), Ok(2));
    assert_eq!(wait_a.wakes(), 1);
    assert_eq!(wait_a.poll(), std::task::Poll::Ready(Ok(1)));
    drop(wait_a);
    let mut late = tx.subscribe();
    assert_eq!(late.try_recv(), Err(broadcast::TryRecvError::Empty));
    assert_eq!((tx.len(), b.len(), late.len()), (1, 1, 0));
    assert_eq!(tx.send(2), Ok(3));
    assert_eq!((ready(b.recv()), ready(b.recv())), (Ok(1), Ok(2)));
    assert_eq!((ready(a.recv()), late.try_recv()), (Ok(2), Ok(2)));
    assert!(tx.is_empty() && a.is_empty());
    // A receive that was dropped half-way took nothing.
    drop(ByHand::pending(a.recv()));
    tx.send(3).unwrap();
    assert_eq!(a.try_recv(), Ok(3));
    assert_eq!(tx.receiver_count(), 3);
}

#[test]
fn who_is_too_slow_is_told_by_how_much() {
    let (tx, mut slow) = broadcast::channel(2);
    let mut quick = tx.subscribe();
    for n in 0..5 {
        tx.send(n).unwrap();
        assert_eq!(quick.try_recv(), Ok(n));
    }
    assert_eq!((slow.len(), tx.len()), (5, 2));
    assert_eq!(ready(slow.recv()), Err(broadcast::RecvError::Lagged(3)));
    assert_eq!((ready(slow.recv()), slow.try_recv()), (Ok(3), Ok(4)));
    for n in 5..8 {
        tx.send(n).unwrap();
    }
    assert_eq!(slow.try_recv(), Err(broadcast::TryRecvError::Lagged(1)));
    drop(tx);
    assert!(slow.is_closed());
    assert_eq!((slow.try_recv(), ready(slow.recv())), (Ok(6), Ok(7)), "what is left first");
    assert_eq!(ready(slow.recv()), Err(broadcast::RecvError::Closed));
    assert_eq!(slow.try_recv(), Err(broadcast::TryRecvError::Closed));
    assert_eq!(broadcast::RecvError::Lagged(3).to_string(), "channel lagged by 3");
}

#[test]
fn values_go_with_their_last_reader() {
    let drops = Drops::new();
    let (tx, mut a) = broadcast::channel(8);
    let b = tx.subscribe();
    for _ in 0..3 {
        tx.send(Arc::new(drops.guard())).unwrap();
    }
    drop(a.try_recv().unwrap());
    assert_eq!((drops.count(), tx.len()), (0, 3));
    drop(b);
    assert_eq!((drops.count(), tx.len(), a.len()), (1, 2, 2), "only the first had no other reader");
    let c = a.resubscribe();
    assert!(c.is_empty() && c.same_channel(&a));
    drop(a);
    assert_eq!((drops.count(), tx.len()), (3, 0));
    drop(c);
    let value = Arc::new(drops.guard());
    assert!(Arc::ptr_eq(&tx.send(Arc::clone(&value)).unwrap_err().0, &value), "given back");
}

#[test]
fn a_clone_is_made_only_if_somebody_else_needs_the_value() {
    #[derive(Debug)]
    struct Counts(u32);
    impl Clone for Counts {
        fn clone(&self) -> Counts {
            Counts(self.0 + 1)
        }
    }
    let (tx, mut a) = broadcast::channel(1);
    let mut b = tx.subscribe();
    tx.send(Counts(0)).unwrap();
    assert_eq!((a.try_recv().unwrap().0, b.try_recv().unwrap().0), (1, 0));
}

#[test]
fn a_panic_in_a_clone_costs_its_receiver_the_value_and_nobody_else() {
    #[derive(Debug)]
    struct Bomb(bool);
    impl Clone for Bomb {
        fn clone(&self) -> Bomb {
            assert!(!self.0, "boom");
            Bomb(false)
        }
    }
    let (tx, mut a) = broadcast::channel(2);
    let mut b = tx.subscribe();
    tx.send(Bomb(true)).unwrap();
    tx.send(Bomb(false)).unwrap();
    assert_eq!(panic_message(|| drop(a.try_recv())), "boom");
    assert!(!a.try_recv().unwrap().0);
    assert!(b.try_recv().unwrap().0, "moved out, not cloned");
    assert!(!b.try_recv().unwrap().0);
}

#[test]
fn a_broadcast_ends_from_both_sides() {
    let (tx, rx) = broadcast::channel::<u8>(1);
    let weak = tx.downgrade();
    assert_eq!((tx.strong_count(), tx.weak_count(), rx.sender_weak_count()), (1, 1, 1));
    assert!(weak.upgrade().unwrap().same_channel(&tx));
    let mut closed = ByHand::pending(tx.closed());
    closed.waits();
    drop(rx);
    closed.woken();
    ready(tx.closed());
    let mut rx = tx.subscribe();
    let recv = ByHand::pending(rx.recv());
    drop(tx);
    assert_eq!(recv.woken(), Err(broadcast::RecvError::Closed));
    assert!(weak.upgrade().is_none());
    assert_eq!((rx.sender_strong_count(), weak.weak_count()), (0, 1));
}

/// A future that is dropped takes out the waker that it left, not one that a poll function left before it.
#[leakfree::test(workers = 1)]
async fn a_receive_that_is_given_up_leaves_the_waker_of_a_poll_function() {
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let receives =
        leakfree::scope::current().task().name("receives").spawn(std::future::poll_fn(move |cx| {
            let polled = rx.poll_recv(cx);
            if polled.is_pending() {
                assert!(std::pin::pin!(rx.recv()).poll(cx).is_pending());
            }
            polled
        }));
    leakfree_tests::parked("receives").await;
    tx.send(1).await.unwrap();
    assert_eq!(receives.await.unwrap(), Some(1));
}

#[test]
fn handles_and_messages_are_counted_on_every_end() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let weak = tx.downgrade();
    assert_eq!(
        (weak.strong_count(), weak.weak_count(), rx.sender_strong_count(), rx.sender_weak_count()),
        (1, 1, 1, 1)
    );
    let (second, other) = (tx.clone(), weak.clone());
    assert_eq!((weak.strong_count(), weak.weak_count(), rx.sender_strong_count()), (2, 2, 2));
    assert!(rx.is_empty());
    tx.send(1).unwrap();
    assert_eq!((rx.len(), rx.is_empty()), (1, false));
    assert_eq!(ready(rx.recv()), Some(1));
    drop((tx, second));
    assert!(weak.upgrade().is_none() && other.upgrade().is_none());
    assert_eq!((weak.strong_count(), ready(rx.recv())), (0, None));

    let (tx, mut rx) = mpsc::channel(4);
    let weak = tx.downgrade();
    assert_eq!((weak.weak_count(), rx.is_empty()), (1, true));
    let (a, b) = (tx.clone().try_reserve_owned().unwrap(), tx.clone().try_reserve_owned().unwrap());
    let strange = mpsc::channel::<u8>(1).0.try_reserve_owned().unwrap();
    assert!(a.same_channel(&b) && a.same_channel_as_sender(&tx) && !a.same_channel(&strange));
    a.send(1);
    b.send(2);
    assert_eq!((rx.len(), rx.is_empty()), (2, false));
    // Nothing is asked for, so nothing is waited for, and nothing is taken.
    let mut buffer = Vec::new();
    let mut none = ByHand::new(std::future::poll_fn(|cx| rx.poll_recv_many(cx, &mut buffer, 0)));
    assert_eq!(none.poll(), std::task::Poll::Ready(0));
    drop(none);
    drop(tx);
    assert_eq!(ready(std::future::poll_fn(|cx| rx.poll_recv_many(cx, &mut buffer, 9))), 2);
    assert_eq!(ready(std::future::poll_fn(|cx| rx.poll_recv_many(cx, &mut buffer, 9))), 0, "it is over");
    assert_eq!(ready(std::future::poll_fn(|cx| rx.poll_recv(cx))), None);
    assert_eq!(buffer, [1, 2]);

    let (tx, rx) = broadcast::channel::<u8>(1);
    let weak = tx.downgrade();
    let other = weak.clone();
    assert_eq!(
        (weak.strong_count(), weak.weak_count(), tx.strong_count(), rx.sender_weak_count()),
        (1, 2, 1, 2)
    );
    drop(tx);
    assert!(other.upgrade().is_none());
    assert_eq!((weak.strong_count(), rx.is_closed()), (0, true));
}
