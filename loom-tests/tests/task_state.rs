//! Wake, poll, complete, cancel, and the join handle, on the state word.

#![cfg(loom)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake, Waker};

use leakfree::model::{Bed, fire, register};
use leakfree_loom_tests::{Script, Scripted};
use loom::future::block_on;
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::{Arc, Mutex};
use loom::thread;

#[test]
fn a_wake_by_value_brings_one_further_poll() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1]);
        let handle = bed.spawn(Scripted(script.clone()));
        let theirs = script.clone();
        let waker = thread::spawn(move || {
            while theirs.take().map(|waker| waker.wake()).is_none() {
                thread::yield_now();
            }
        });
        bed.run_one();
        waker.join().unwrap();
        bed.run_all();
        assert_eq!(script.polls.load(SeqCst), 2);
        assert_eq!(script.drops.load(SeqCst), 1);
        assert!(handle.is_finished());
        drop(handle);
        assert_eq!(script.outputs.load(SeqCst), 1);
    });
}

#[test]
fn two_wakes_at_once_are_one_queue_entry_and_none_is_lost() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[2]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let (a, b) = (script.take().unwrap(), script.take().unwrap());
        let one = thread::spawn(move || a.wake());
        let two = thread::spawn(move || {
            b.wake_by_ref();
            drop(b);
        });
        // `run_one` asserts that there is one entry at the most.
        bed.run_one();
        one.join().unwrap();
        two.join().unwrap();
        bed.run_all();
        assert_eq!(script.polls.load(SeqCst), 2, "a wake after completion schedules nothing");
        drop(handle);
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
    });
}

#[test]
fn polls_on_two_threads_are_ordered() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1, 0]);
        let handle = bed.spawn(Scripted(script.clone()));
        bed.run_one();
        let waker = script.take().unwrap();
        waker.wake_by_ref();
        // The script's loom cell is written by both polls.
        let other = thread::spawn(move || bed.run_all());
        waker.wake();
        bed.run_all();
        other.join().unwrap();
        bed.run_all();
        assert!(script.polls.load(SeqCst) >= 2);
        handle.abort();
        bed.run_all();
        assert_eq!(script.drops.load(SeqCst), 1);
    });
}

#[test]
fn the_joiner_is_woken_or_finds_the_output() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[]);
        let handle = bed.spawn(Scripted(script.clone()));
        let runner = thread::spawn(move || bed.run_all());
        drop(block_on(handle).unwrap());
        script.look();
        runner.join().unwrap();
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
        assert_eq!(bed.left(), 1);
    });
}

/// What a thread that waits does not: it registers as the task that is polled, and goes on to wait for something else.
#[test]
fn a_task_that_joins_is_woken_or_finds_the_output() {
    loom::model(|| {
        let (children, joiners) = (Bed::new(), Bed::new());
        let script = Script::new(&[]);
        let child = children.spawn(Scripted(script.clone()));
        let queue = Arc::new(Mutex::new(None));
        let theirs = queue.clone();
        let joiner = joiners.spawn(async move {
            drop(child.await.unwrap());
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls == 2 {
                    return Poll::Ready(());
                }
                *theirs.lock().unwrap() = Some(register(cx));
                Poll::Pending
            })
            .await;
        });
        let runner = thread::spawn(move || children.run_all());
        joiners.run_all();
        runner.join().unwrap();
        joiners.run_all();
        let waker = queue.lock().unwrap().take();
        fire(waker.expect("it has the output, and waits for us"));
        joiners.run_all();
        assert!(joiner.is_finished());
        assert_eq!(joiners.unwakeable(), 0);
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
    });
}

#[test]
fn a_joiner_that_is_replaced_at_completion_is_never_fired_twice() {
    struct Counts(AtomicUsize);
    impl Wake for Counts {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[]);
        let mut handle = bed.spawn(Scripted(script.clone()));
        let runner = thread::spawn(move || bed.run_all());
        let wakers = [(); 3].map(|()| std::sync::Arc::new(Counts(AtomicUsize::new(0))));
        let pending = wakers.iter().all(|counts| {
            let waker = Waker::from(counts.clone());
            Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending()
        });
        runner.join().unwrap();
        if pending {
            assert_eq!(wakers.each_ref().map(|counts| counts.0.load(SeqCst)), [0, 0, 1]);
            assert!(block_on(handle).is_ok());
        }
        assert!(wakers.iter().all(|counts| std::sync::Arc::strong_count(counts) == 1), "dropped once");
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
    });
}

#[test]
fn a_handle_dropped_at_completion_leaves_the_output_dropped_once() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[]);
        let handle = bed.spawn(Scripted(script.clone()));
        let runner = thread::spawn(move || bed.run_all());
        drop(handle);
        runner.join().unwrap();
        assert_eq!((script.drops.load(SeqCst), script.outputs.load(SeqCst)), (1, 1));
    });
}

#[test]
fn an_abort_against_a_poll_drops_the_future_once_and_all_agree() {
    loom::model(|| {
        let bed = Bed::new();
        let script = Script::new(&[1]);
        let handle = bed.spawn(Scripted(script.clone()));
        let theirs = script.clone();
        let runner = thread::spawn(move || {
            bed.run_one();
            if let Some(waker) = theirs.take() {
                waker.wake();
            }
            bed.run_all();
        });
        handle.abort();
        bed.run_all();
        runner.join().unwrap();
        bed.run_all();
        assert!(handle.is_finished());
        let result = block_on(handle);
        let returned = result.is_ok();
        drop(result);
        assert_eq!(script.drops.load(SeqCst), 1);
        assert_eq!(script.outputs.load(SeqCst), usize::from(returned));
    });
}

#[test]
fn what_was_done_before_a_wake_is_seen_by_a_poll_that_answers_it() {
    wakes_while_it_is_scheduled(Waker::wake);
}

#[test]
fn what_was_done_before_a_wake_by_reference_is_seen_too() {
    wakes_while_it_is_scheduled(|waker| waker.wake_by_ref());
}

fn wakes_while_it_is_scheduled(wake: fn(Waker)) {
    loom::model(move || {
        let bed = Bed::new();
        let done = loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let wakers = loom::sync::Arc::new(loom::sync::Mutex::new(Vec::new()));
        let (seen, kept) = (done.clone(), wakers.clone());
        let handle = bed.spawn(std::future::poll_fn(move |cx| {
            if seen.load(loom::sync::atomic::Ordering::Relaxed) == 1 {
                return std::task::Poll::Ready(());
            }
            let mut kept = kept.lock().unwrap();
            if kept.is_empty() {
                kept.extend([cx.waker().clone(), cx.waker().clone(), cx.waker().clone()]);
            }
            std::task::Poll::Pending
        }));
        bed.run_one();
        let mut left = wakers.lock().unwrap().split_off(0);
        wakers.lock().unwrap().push(left.pop().unwrap());
        let (first, second) = (left.pop().unwrap(), left.pop().unwrap());
        first.wake();
        let other = thread::spawn(move || {
            done.store(1, loom::sync::atomic::Ordering::Relaxed);
            wake(second);
        });
        bed.run_all();
        other.join().unwrap();
        bed.run_all();
        assert!(handle.is_finished(), "the wake was answered by a poll that did not see why");
        drop(wakers.lock().unwrap().pop());
    });
}
