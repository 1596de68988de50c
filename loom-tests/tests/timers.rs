//! A timer fires or is cancelled, one of the two; a sleeper in the driver hears of a timer that is armed meanwhile.

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Wake, Waker};

use leakfree::model::Timers;
use leakfree_loom_tests::model;
use loom::thread;

/// Counts its wakes and its drops.
#[derive(Default)]
struct Counts {
    wakes: AtomicUsize,
    drops: AtomicUsize,
}

struct Counting(Arc<Counts>);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.wakes.fetch_add(1, SeqCst);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, SeqCst);
    }
}

fn waker() -> (Arc<Counts>, Waker) {
    let counts = Arc::new(Counts::default());
    (counts.clone(), Arc::new(Counting(counts)).into())
}

#[test]
fn a_timer_that_is_cancelled_while_it_fires_is_gone_either_way() {
    model(|| {
        let timers = Arc::new(Timers::paused());
        let (counts, waker) = waker();
        let key = timers.arm(waker).unwrap();
        let fires = timers.clone();
        let fires = thread::spawn(move || fires.jump().into_iter().for_each(Waker::wake));
        timers.disarm(key);
        fires.join().unwrap();
        assert_eq!(timers.len(), 0);
        assert_eq!(counts.drops.load(SeqCst), 1);
        assert!(counts.wakes.load(SeqCst) <= 1);
    });
}

#[test]
fn a_timer_fires_once_with_the_waker_it_has_then() {
    model(|| {
        let timers = Arc::new(Timers::paused());
        let (old, first) = waker();
        let (new, second) = waker();
        let key = timers.arm(first).unwrap();
        let fires = timers.clone();
        let fires = thread::spawn(move || fires.jump().into_iter().for_each(Waker::wake));
        let changed = timers.rearm(key, second);
        fires.join().unwrap();
        timers.jump().into_iter().for_each(Waker::wake);
        assert_eq!(new.wakes.load(SeqCst), usize::from(changed));
        assert_eq!(old.wakes.load(SeqCst), usize::from(!changed));
        assert_eq!((old.drops.load(SeqCst), new.drops.load(SeqCst)), (1, 1));
    });
}

#[test]
fn a_timer_armed_while_somebody_goes_to_sleep_ends_that_sleep() {
    model(|| {
        let timers = Arc::new(Timers::running());
        let sleeps = timers.clone();
        let sleeps = thread::spawn(move || sleeps.sleep());
        let (counts, waker) = waker();
        let key = timers.arm(waker).unwrap();
        sleeps.join().unwrap();
        timers.disarm(key);
        assert_eq!((timers.len(), counts.drops.load(SeqCst)), (0, 1));
    });
}

#[test]
fn the_earlier_of_two_timers_that_two_workers_arm_is_when_a_sleep_ends() {
    model(|| {
        let timers = Arc::new(Timers::running());
        let (later, earlier) = (waker().1, waker().1);
        let sleeps = timers.clone();
        let sleeps = thread::spawn(move || sleeps.sleep());
        let arms = timers.clone();
        let arms = thread::spawn(move || arms.arm_on(0, 60, later).unwrap());
        let key = timers.arm_on(1, 50, earlier).unwrap();
        sleeps.join().unwrap();
        let keys = [key, arms.join().unwrap()];
        assert_eq!(timers.first(), Some(50));
        keys.into_iter().for_each(|key| timers.disarm(key));
        assert_eq!(timers.len(), 0);
    });
}

#[test]
fn a_timer_armed_while_others_fire_is_not_slept_through() {
    model(|| {
        let timers = Arc::new(Timers::running());
        let (due, waker) = (waker().1, waker().1);
        timers.arm_on(0, 10, due).unwrap();
        let fires = timers.clone();
        let fires = thread::spawn(move || fires.fire(20).len());
        let key = timers.arm_on(1, 50, waker).unwrap();
        assert_eq!(fires.join().unwrap(), 1);
        assert!(matches!(timers.first(), Some(20..=50)), "{:?}", timers.first());
        timers.disarm(key);
        // Whoever fires next finds out that nobody is due any more.
        assert!(timers.fire(55).is_empty());
        assert_eq!(timers.first(), None);
    });
}

#[test]
fn a_timer_armed_against_the_shutdown_is_refused_or_handed_out() {
    model(|| {
        let timers = Arc::new(Timers::running());
        let (counts, waker) = waker();
        let ends = timers.clone();
        let ends = thread::spawn(move || ends.shut_down().len());
        let armed = timers.arm(waker).is_some();
        assert_eq!(ends.join().unwrap(), usize::from(armed));
        assert_eq!((timers.len(), counts.drops.load(SeqCst)), (0, 1));
    });
}
