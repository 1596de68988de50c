//! `watch`: a value or the end is heard of, whoever waits or comes; the last value is there; what is seen is of one version.

#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use leakfree::sync::watch;
use leakfree_loom_tests::model;
use loom::future::block_on;
use loom::thread;

#[test]
fn a_receiver_that_waits_hears_of_the_value_and_of_the_end() {
    model(|| {
        let (tx, mut rx) = watch::channel(0);
        let sends = thread::spawn(move || tx.send(1).unwrap());
        assert!(block_on(rx.changed()).is_ok());
        assert_eq!(*rx.borrow(), 1);
        assert!(block_on(rx.changed()).is_err(), "the sender is gone, and no value with it");
        sends.join().unwrap();
    });
}

#[test]
fn two_receivers_hear_of_one_value() {
    model(|| {
        let (tx, rx) = watch::channel(0);
        let hears = [rx.clone(), rx].map(|mut rx| {
            thread::spawn(move || {
                block_on(rx.changed()).unwrap();
                assert_eq!(*rx.borrow(), 1);
            })
        });
        tx.send_replace(1);
        hears.into_iter().for_each(|hears| hears.join().unwrap());
    });
}

#[test]
fn the_last_value_before_the_end_is_found() {
    model(|| {
        let (tx, mut rx) = watch::channel(0);
        let sends = thread::spawn(move || {
            tx.send(1).unwrap();
            tx.send(2).unwrap();
        });
        assert_eq!(block_on(rx.wait_for(|value| *value == 2)).map(|value| *value), Ok(2));
        sends.join().unwrap();
    });
}

#[test]
fn what_is_seen_is_of_one_version() {
    model(|| {
        let (tx, mut rx) = watch::channel(0);
        let sends = thread::spawn(move || {
            tx.send(1).unwrap();
            tx
        });
        let first = *rx.borrow_and_update();
        let news = rx.has_changed().unwrap();
        if news {
            assert_eq!(first, 0);
            assert_eq!(*rx.borrow_and_update(), 1);
        }
        let tx = sends.join().unwrap();
        // Either the value was seen, or there is news.
        assert_eq!((*rx.borrow(), rx.has_changed().unwrap()), (1, first == 0 && !news));
        drop(tx);
    });
}

#[test]
fn a_receiver_that_gives_up_has_seen_nothing() {
    model(|| {
        let (tx, mut rx) = watch::channel(0);
        let sends = thread::spawn(move || tx.send(1).unwrap());
        let seen = {
            let mut changed = pin!(rx.changed());
            changed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        if !seen {
            assert!(block_on(rx.changed()).is_ok());
        }
        sends.join().unwrap();
        assert_eq!(*rx.borrow(), 1);
    });
}

#[test]
fn a_sender_hears_of_the_last_receivers_end() {
    model(|| {
        let (tx, rx) = watch::channel(0);
        let other = rx.clone();
        let drops = [rx, other].map(|rx| thread::spawn(move || drop(rx)));
        block_on(tx.closed());
        assert!(tx.send(1).is_err());
        drops.into_iter().for_each(|drops| drops.join().unwrap());
    });
}
