//! What a snapshot reads of a task, a lock or a channel while it is written is of one piece.

#![cfg(loom)]

use std::future::poll_fn;
use std::task::Poll;

use leakfree::model::{Bed, ChannelRecords, LockRecords, LockWord, LoneRecord, PolledWords, note_wait};
use leakfree_loom_tests::model;
use loom::sync::Arc;
use loom::thread;

#[test]
fn reason_object_and_location_are_of_the_last_park() {
    model(|| {
        let bed = Bed::new();
        let mut polls = 0;
        let handle = bed.spawn(poll_fn(move |cx| {
            if polls == 3 {
                return Poll::Ready(());
            }
            note_wait(polls);
            polls += 1;
            if polls < 3 {
                cx.waker().wake_by_ref();
            } else {
                // Kept by nobody: unwakeable.
            }
            Poll::Pending
        }));
        bed.run_one();
        let runner = thread::spawn(move || bed.run_all());
        if let Some((polls, n)) = bed.read_record() {
            assert_eq!(n, Some(polls as usize - 1), "not of an earlier park");
        }
        runner.join().unwrap();
        assert_eq!(bed.read_record(), Some((3, Some(2))));
        handle.abort();
        bed.run_all();
        assert_eq!(bed.left(), 1);
    });
}

#[test]
fn a_record_is_read_while_its_task_is_woken_and_parks_again() {
    model(|| {
        let bed = Bed::new();
        let kept = Arc::new(loom::sync::Mutex::new(None));
        let keeps = kept.clone();
        let mut polls = 0;
        let handle = bed.spawn(poll_fn(move |cx| {
            note_wait(polls);
            polls += 1;
            *keeps.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        bed.run_one();
        let waker = kept.lock().unwrap().take().unwrap();
        let runner = thread::spawn(move || {
            waker.wake();
            bed.run_all();
        });
        if let Some((polls, n)) = bed.read_record() {
            assert_eq!(n, Some(polls as usize - 1), "not of an earlier park");
        }
        runner.join().unwrap();
        handle.abort();
        bed.run_all();
        drop(kept.lock().unwrap().take());
        assert_eq!(bed.left(), 1);
    });
}

#[test]
fn the_poll_counter_alone_tells_two_parks_apart() {
    model(|| {
        let record = Arc::new(LoneRecord::parked());
        let theirs = record.clone();
        let polls = thread::spawn(move || theirs.poll(1));
        if let Some((polls, n)) = record.read() {
            assert_eq!(n as u64, polls - 1, "not of an earlier park");
        }
        polls.join().unwrap();
        assert_eq!(record.read(), Some((2, 1)));
    });
}

#[test]
fn a_polled_task_is_shown_with_its_own_place() {
    model(|| {
        let words = Arc::new(PolledWords::new());
        words.poll(0, false);
        let theirs = words.clone();
        let polls = thread::spawn(move || {
            theirs.poll(1, false);
            theirs.poll(7, true);
            theirs.poll(2, false);
        });
        if let Some((task, place)) = words.read() {
            assert!(task == 7 && place.is_none() || place == Some(task), "{task} at {place:?}");
        }
        polls.join().unwrap();
        assert_eq!(words.read(), None);
    });
}

#[test]
fn holder_site_and_waiters_of_a_lock_are_of_one_moment() {
    model(|| {
        let records = Arc::new(LockRecords::new());
        records.take(1);
        let theirs = records.clone();
        let locks = thread::spawn(move || theirs.take(2));
        let seen = records.read();
        assert!(seen.is_none_or(|holder| holder == 1 || holder == 2));
        locks.join().unwrap();
        assert_eq!(records.read(), Some(2));
    });
}

#[test]
fn a_shared_lock_shows_the_holders_of_its_version() {
    model(|| {
        let records = Arc::new(LockRecords::new());
        let theirs = records.clone();
        let shares = thread::spawn(move || theirs.share(0, 1));
        if let Some((holders, [before, after])) = records.read_shared() {
            let expected = match before {
                4 => vec![0],
                6 => vec![1],
                _ => vec![],
            };
            assert!(before <= after && (before != after || holders == expected), "{holders:?} at {before}");
        }
        shares.join().unwrap();
        assert_eq!(records.read_shared(), Some((vec![], [8, 8])));
    });
}

#[test]
fn a_permit_that_is_handed_on_is_seen_with_the_one_or_the_other() {
    model(|| {
        let records = std::sync::Arc::new(LockRecords::new());
        let hands_on = thread::spawn(records.clone().hand_on(1, 2));
        if let Some((holders, [before, after])) = records.read_shared() {
            let expected = if before == 4 { 1 } else { 2 };
            assert!(before != after || holders == [expected], "{holders:?} at {before}");
        }
        hands_on.join().unwrap();
        assert_eq!(records.read_shared(), Some((vec![2], [6, 6])));
    });
}

#[test]
fn the_handles_of_a_channel_are_read_with_their_version() {
    model(|| {
        let records = Arc::new(ChannelRecords::new());
        let (_, first) = records.read().unwrap();
        let theirs = records.clone();
        let sets = thread::spawn(move || {
            theirs.set(1);
            theirs.set(2);
        });
        if let Some((senders, version)) = records.read() {
            assert_eq!(senders, (version - first) / 2);
        }
        sets.join().unwrap();
        assert_eq!(records.read(), Some((2, first + 4)));
    });
}

#[test]
fn who_queues_for_a_mutex_is_told_the_place_of_the_hold_that_is() {
    model(|| {
        let word = Arc::new(LockWord::new());
        let theirs = word.clone();
        let holds = thread::spawn(move || (0..3).filter(|&n| theirs.hold(n)).count());
        let told = word.queue();
        let held = holds.join().unwrap();
        assert!(told.is_none_or(|told| held > told), "it took the lock that often");
    });
}
