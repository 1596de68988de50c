//! `Notify`, `Barrier`, `OnceCell` and `SetOnce`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use leakfree::sync::{Barrier, Notify, OnceCell, SetError, SetOnce, SetOnceError};
use leakfree_tests::{ByHand, panic_message, ready};

// ---- Notify -------------------------------------------------------------------------------------

#[test]
fn one_notification_is_kept_and_no_more() {
    let notify = Notify::new();
    notify.notify_one();
    notify.notify_one();
    ready(notify.notified());
    let mut second = ByHand::pending(notify.notified());
    second.waits();
    notify.notify_waiters();
    second.woken();
    // Nothing of that is kept.
    ByHand::pending(notify.notified()).waits();
    notify.notify_last();
    ready(notify.notified());
}

#[test]
fn one_wakes_the_first_and_last_the_last() {
    let notify = Notify::new();
    let mut waiters: Vec<_> = (0..4).map(|_| ByHand::pending(notify.notified())).collect();
    notify.notify_one();
    waiters.remove(0).woken();
    notify.notify_last();
    waiters.pop().unwrap().woken();
    waiters.iter_mut().for_each(ByHand::waits);
    notify.notify_waiters();
    waiters.into_iter().for_each(ByHand::woken);
}

#[test]
fn all_reaches_those_that_were_made_before() {
    let notify = Arc::new(Notify::new());
    let (borrowed, owned) = (notify.notified(), Arc::clone(&notify).notified_owned());
    notify.notify_waiters();
    let mut later = ByHand::new(notify.notified());
    ready(borrowed);
    ready(owned);
    assert!(later.poll().is_pending());
    // One does not: it is for who is in line.
    let (first, mut in_line) = (notify.notified(), later);
    notify.notify_one();
    assert_eq!(in_line.wakes(), 1);
    assert!(in_line.poll().is_ready());
    assert!(ByHand::new(first).poll().is_pending());
}

#[test]
fn enabled_is_in_line_without_a_poll() {
    let notify = Notify::new();
    let (mut first, mut second) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
    assert!(!first.as_mut().enable());
    assert!(!second.as_mut().enable());
    assert!(!first.as_mut().enable(), "twice is as once");
    notify.notify_one();
    ready(first);
    let mut second = ByHand::new(second);
    second.waits();
    notify.notify_one();
    second.woken();
    notify.notify_one();
    let mut third = Box::pin(notify.notified());
    assert!(third.as_mut().enable(), "the kept one is its");
    drop(third);
    ByHand::pending(notify.notified()).waits();
    // Told by `enable` that it is notified, it has had it: nothing is passed on.
    let (mut fourth, mut fifth) = (Box::pin(notify.notified()), ByHand::new(notify.notified()));
    assert!(!fourth.as_mut().enable());
    assert!(fifth.poll().is_pending());
    notify.notify_one();
    assert!(fourth.as_mut().enable());
    drop(fourth);
    fifth.waits();
}

#[test]
fn a_notification_that_was_not_looked_at_goes_to_another() {
    let notify = Notify::new();
    let (a, b, c) = (
        ByHand::pending(notify.notified()),
        ByHand::pending(notify.notified()),
        ByHand::pending(notify.notified()),
    );
    notify.notify_one();
    drop(a);
    b.woken();
    notify.notify_last();
    drop(c);
    ready(notify.notified());
    // One of a `notify_waiters` does not.
    let d = ByHand::pending(notify.notified());
    notify.notify_waiters();
    drop(d);
    ByHand::pending(notify.notified()).waits();
}

// ---- Barrier ------------------------------------------------------------------------------------

#[test]
fn the_last_to_come_leads_and_the_next_round_begins() {
    let barrier = Barrier::new(3);
    for _ in 0..2 {
        let (a, b) = (ByHand::pending(barrier.wait()), ByHand::pending(barrier.wait()));
        assert!(ready(barrier.wait()).is_leader());
        assert!(!a.woken().is_leader());
        assert!(!b.woken().is_leader());
    }
    assert!(ready(Barrier::new(0).wait()).is_leader());
    // Who has come counts, although it is dropped.
    drop(ByHand::pending(barrier.wait()));
    drop(barrier.wait());
    let c = ByHand::pending(barrier.wait());
    assert!(ready(barrier.wait()).is_leader());
    assert!(!c.woken().is_leader());
}

#[leakfree::test(workers = 2)]
async fn rounds_do_not_mix() {
    let (barrier, come) = (Arc::new(Barrier::new(8)), Arc::new(AtomicUsize::new(0)));
    let leaders = Arc::new(AtomicUsize::new(0));
    leakfree::scope(async |s| {
        for _ in 0..8 {
            let (barrier, come, leaders) = (Arc::clone(&barrier), Arc::clone(&come), Arc::clone(&leaders));
            s.spawn(async move {
                for round in 0..20 {
                    come.fetch_add(1, SeqCst);
                    if barrier.wait().await.is_leader() {
                        leaders.fetch_add(1, SeqCst);
                    }
                    assert!(come.load(SeqCst) >= 8 * (round + 1));
                }
            });
        }
    })
    .await;
    assert_eq!(leaders.load(SeqCst), 20);
}

// ---- OnceCell -----------------------------------------------------------------------------------

#[test]
fn who_comes_first_makes_the_value_and_the_others_wait() {
    let cell = OnceCell::new();
    let (give, get) = leakfree::sync::oneshot::channel();
    let mut first = ByHand::pending(cell.get_or_init(|| async { get.await.unwrap() }));
    let second = ByHand::pending(cell.get_or_init(|| async { 2 }));
    let third = ByHand::pending(cell.get_or_try_init(|| async { Err(3) }));
    assert_eq!((cell.get(), cell.initialized()), (None, false));
    assert_eq!(cell.set(9), Err(SetError::InitializingError(9)));
    give.send(1).unwrap();
    assert_eq!(first.poll(), std::task::Poll::Ready(&1));
    assert_eq!((second.woken(), third.woken()), (&1, Ok(&1)));
    assert_eq!(cell.set(9), Err(SetError::AlreadyInitializedError(9)));
    drop(first);
    let mut cell = cell;
    assert_eq!((cell.get_mut().copied(), cell.take(), cell.get()), (Some(1), Some(1), None));
    cell.set(4).unwrap();
    assert_eq!(cell.clone(), OnceCell::from(4));
    assert_eq!(cell.into_inner(), Some(4));
}

#[test]
fn who_fails_lets_the_next_try() {
    let cell = OnceCell::new();
    let mut hangs = ByHand::new(cell.get_or_init(std::future::pending));
    assert!(hangs.poll().is_pending());
    let mut fails = ByHand::pending(cell.get_or_try_init(|| async { Err::<u8, _>("no") }));
    let panics = ByHand::pending(cell.get_or_init(|| async { panic!("no") }));
    let makes = ByHand::pending(cell.get_or_init(|| async { 4 }));
    drop(hangs);
    assert_eq!(fails.wakes(), 1);
    assert_eq!(fails.poll(), std::task::Poll::Ready(Err("no")));
    drop(fails);
    assert_eq!(panic_message(|| _ = panics.woken()), "no");
    assert_eq!(makes.woken(), &4);
}

#[leakfree::test(workers = 2)]
async fn many_tasks_make_it_once() {
    static CELL: OnceCell<usize> = OnceCell::const_new();
    let made = Arc::new(AtomicUsize::new(0));
    leakfree::scope(async |s| {
        for _ in 0..32 {
            let made = Arc::clone(&made);
            s.spawn(async move {
                let value = CELL
                    .get_or_init(|| async {
                        leakfree::yield_now().await;
                        made.fetch_add(1, SeqCst)
                    })
                    .await;
                assert_eq!(*value, 0);
            });
        }
    })
    .await;
    assert_eq!(made.load(SeqCst), 1);
}

// ---- SetOnce ------------------------------------------------------------------------------------

#[test]
fn all_who_wait_for_a_value_have_it() {
    let cell = SetOnce::new();
    let waiters: Vec<_> = (0..3).map(|_| ByHand::pending(cell.wait())).collect();
    drop(ByHand::pending(cell.wait()));
    assert!(!cell.initialized());
    cell.set("a").unwrap();
    assert_eq!(cell.set("b"), Err(SetOnceError("b")));
    for waiter in waiters {
        assert_eq!(waiter.woken(), &"a");
    }
    assert_eq!((ready(cell.wait()), cell.get()), (&"a", Some(&"a")));
    assert_eq!(cell.into_inner(), Some("a"));
    assert_eq!(SetOnce::from(1).get(), Some(&1));
}

#[test]
fn cells_can_be_statics_and_say_whether_they_are_full() {
    static ONCE: SetOnce<u8> = SetOnce::const_new();
    static CELL: OnceCell<u8> = OnceCell::const_new();
    let waits = ByHand::pending(ONCE.wait());
    ONCE.set(1).unwrap();
    assert_eq!(waits.woken(), &1);
    assert_eq!(*ready(CELL.get_or_init(async || 2)), 2);
    assert_eq!(ready(CELL.get_or_try_init(async || Err::<u8, _>("not asked"))), Ok(&2));
    assert!(CELL.set(3).unwrap_err().is_already_init_err());
    assert_eq!((ONCE.get(), CELL.get()), (Some(&1), Some(&2)));
    assert!(!SetOnce::<u8>::default().initialized());
}
