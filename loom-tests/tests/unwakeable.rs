//! Unwakeable is said only of a task that nothing can wake, and when it becomes true.

#![cfg(loom)]

use std::future::poll_fn;
use std::task::Poll;

use leakfree::model::{Bed, fire, register};
use leakfree_loom_tests::{Script, Scripted};
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::{Arc, Mutex};
use loom::thread;

#[test]
fn the_last_of_two_wakers_dropped_says_it_once() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[2]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        assert_eq!(bed.unwakeable(), 0);
        let (a, b) = (script.take().unwrap(), script.take().unwrap());
        let one = thread::spawn(move || drop(a));
        drop(b);
        one.join().unwrap();
        assert_eq!(bed.unwakeable(), 1);
        assert_eq!(bed.look(), [true]);
        handle.abort();
        bed.run_all();
        assert_eq!(script.polls.load(SeqCst), 1);
    });
}

#[test]
fn a_waker_dropped_during_the_poll_is_said_at_one_edge_or_the_other() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1]);
        let handle = bed.spawn(Scripted(script.clone()));
        let theirs = script.clone();
        let dropper = thread::spawn(move || {
            while theirs.take().is_none() {
                thread::yield_now();
            }
        });
        bed.run_one();
        dropper.join().unwrap();
        assert_eq!(bed.unwakeable(), 1, "at the poll's end or at the drop, once");
        handle.abort();
        bed.run_all();
        assert_eq!(script.drops.load(SeqCst), 1);
    });
}

#[test]
fn a_task_that_somebody_still_wakes_is_never_called_so() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[2]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let (a, b) = (script.take().unwrap(), script.take().unwrap());
        // One is cloned and dropped, the other wakes by value: at no moment is there none and no wake.
        let cloner = thread::spawn(move || drop(b.clone()));
        let looks = thread::spawn(move || bed.look());
        a.wake();
        assert!(looks.join().unwrap().iter().all(|&unwakeable| !unwakeable));
        cloner.join().unwrap();
        bed.run_all();
        assert_eq!(bed.unwakeable(), 0);
        assert_eq!(script.polls.load(SeqCst), 2);
        drop(handle);
    });
}

#[test]
fn an_own_registration_that_fires_is_never_a_gap() {
    loom::model(|| {
        let bed = Bed::new();
        let queue = Arc::new(Mutex::new(None));
        let theirs = queue.clone();
        let mut polls = 0;
        let handle = bed.spawn(poll_fn(move |cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            *theirs.lock().unwrap() = Some(register(cx));
            Poll::Pending
        }));
        bed.run_one();
        let looks = thread::spawn(move || bed.look());
        let waker = queue.lock().unwrap().take();
        fire(waker.unwrap());
        assert!(looks.join().unwrap().iter().all(|&unwakeable| !unwakeable));
        bed.run_all();
        assert_eq!(bed.unwakeable(), 0);
        assert!(handle.is_finished());
    });
}

#[test]
fn a_registration_of_a_poll_that_was_woken_meanwhile_counts_on() {
    loom::model(|| {
        let bed = Bed::new();
        let queue = Arc::new(Mutex::new(None));
        let theirs = queue.clone();
        let mut polls = 0;
        let handle = bed.spawn(poll_fn(move |cx| {
            polls += 1;
            match polls {
                1 => {
                    *theirs.lock().unwrap() = Some(register(cx));
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                2 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
        bed.run_all();
        assert_eq!(bed.unwakeable(), 0, "it has left its registration where it was");
        let waker = queue.lock().unwrap().take();
        fire(waker.unwrap());
        bed.run_all();
        assert!(handle.is_finished());
    });
}

#[test]
fn a_cancel_at_the_edge_still_ends_the_task() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let waker = script.take().unwrap();
        let dropper = thread::spawn(move || drop(waker));
        handle.abort();
        dropper.join().unwrap();
        bed.run_all();
        assert!(bed.unwakeable() <= 1);
        assert!(handle.is_finished(), "the recorder hands on the wake that came meanwhile");
        assert_eq!((script.polls.load(SeqCst), script.drops.load(SeqCst)), (1, 1));
    });
}
