//! `broadcast`: every receiver has every value once, whoever waits, comes or goes; nothing is left behind.

#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use leakfree::sync::broadcast::{self, error::RecvError};
use leakfree_loom_tests::model;
use loom::future::block_on;
use loom::thread;

#[test]
fn every_receiver_has_every_value_and_then_the_end() {
    model(|| {
        let (tx, one) = broadcast::channel(2);
        let two = tx.subscribe();
        let receives = [one, two].map(|mut rx| {
            thread::spawn(move || {
                assert_eq!(block_on(rx.recv()), Ok(1));
                assert_eq!(block_on(rx.recv()), Err(RecvError::Closed));
            })
        });
        assert_eq!(tx.send(1).ok(), Some(2));
        drop(tx);
        receives.into_iter().for_each(|receives| receives.join().unwrap());
    });
}

#[test]
fn a_receiver_that_gives_up_has_lost_nothing() {
    model(|| {
        let (tx, mut rx) = broadcast::channel(2);
        let sends = thread::spawn(move || {
            tx.send(1).unwrap();
            tx.send(2).unwrap();
            tx
        });
        let polled = {
            let mut recv = pin!(rx.recv());
            recv.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match polled {
            Poll::Ready(value) => assert_eq!(value, Ok(1)),
            Poll::Pending => assert_eq!(block_on(rx.recv()), Ok(1)),
        }
        assert_eq!(block_on(rx.recv()), Ok(2));
        drop(sends.join().unwrap());
    });
}

#[test]
fn who_lags_is_told_how_many_it_lost() {
    model(|| {
        let (tx, mut rx) = broadcast::channel(1);
        let sends = thread::spawn(move || {
            tx.send(1).unwrap();
            tx.send(2).unwrap();
        });
        let mut had = Vec::new();
        let mut lost = 0;
        loop {
            match block_on(rx.recv()) {
                Ok(value) => had.push(value),
                Err(RecvError::Lagged(missed)) => lost += missed,
                Err(RecvError::Closed) => break,
            }
        }
        sends.join().unwrap();
        assert_eq!(had.len() as u64 + lost, 2);
        assert_eq!(had.last(), Some(&2), "the last one stays");
    });
}

#[test]
fn a_receiver_that_goes_while_a_value_comes_leaves_nothing_behind() {
    model(|| {
        let (tx, rx) = broadcast::channel(2);
        let mut stays = tx.subscribe();
        let value = Arc::new(());
        let goes = thread::spawn(move || drop(rx));
        tx.send(value.clone()).unwrap();
        goes.join().unwrap();
        assert!(block_on(stays.recv()).is_ok());
        assert!(tx.is_empty(), "everybody who is there has had it");
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn a_sender_hears_of_the_last_receivers_end() {
    model(|| {
        let (tx, rx) = broadcast::channel::<()>(1);
        let other = tx.subscribe();
        let drops = [rx, other].map(|rx| thread::spawn(move || drop(rx)));
        block_on(tx.closed());
        assert!(tx.send(()).is_err());
        drops.into_iter().for_each(|drops| drops.join().unwrap());
    });
}
