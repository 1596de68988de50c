//! Sleeps, timeouts and intervals on a paused clock: when they are over, how they are reset, and what they record.

use std::future::{pending, poll_fn};
use std::pin::pin;

use leakfree::report::snapshot::WaitReason;
use leakfree::scope;
use leakfree::time::{
    self, Duration, Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout,
    timeout_at,
};
use leakfree_tests::{parked, runtime};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[leakfree::test(paused)]
async fn a_sleep_knows_its_deadline_and_can_be_reset_before_and_after() {
    let start = Instant::now();
    let mut sleep = pin!(sleep(10 * SECOND));
    assert_eq!(sleep.deadline(), start + 10 * SECOND);
    assert!(!sleep.is_elapsed());
    sleep.as_mut().reset(start + SECOND);
    sleep.as_mut().await;
    assert!(sleep.is_elapsed());
    assert_eq!(start.elapsed(), SECOND);
    sleep.as_mut().reset(start + 3 * SECOND);
    assert!(!sleep.is_elapsed());
    sleep.await;
    assert_eq!(start.elapsed(), 3 * SECOND);
}

#[leakfree::test(paused)]
async fn who_waits_is_woken_at_the_new_deadline_without_another_poll() {
    for (first, second) in [(10 * SECOND, SECOND), (SECOND, 10 * SECOND)] {
        let start = Instant::now();
        let mut sleep = pin!(sleep(first));
        let mut polls = 0;
        leakfree::join!(
            poll_fn(|cx| {
                polls += 1;
                let polled = sleep.as_mut().poll(cx);
                if polls == 1 {
                    sleep.as_mut().reset(start + second);
                }
                polled
            }),
            pending_once(),
        );
        assert_eq!((start.elapsed(), polls), (second, 2));
    }
}

/// Ready at its first poll: a neighbour in a `join!`.
async fn pending_once() {}

#[leakfree::test(paused, workers = 2)]
async fn a_reset_keeps_the_wait_set_whole() {
    let task = scope::current().task().name("sleeper").spawn(async {
        let mut sleep = pin!(sleep(10 * SECOND));
        poll_fn(|cx| {
            let polled = sleep.as_mut().poll(cx);
            if polled.is_pending() {
                sleep.as_mut().reset(Instant::now() + 60 * SECOND);
            }
            polled
        })
        .await;
    });
    let info = parked("sleeper").await;
    assert_eq!((info.waits.len(), info.own_wakers, info.foreign_wakers), (1, 1, 0), "{info:?}");
    task.abort();
}

#[leakfree::test(paused)]
async fn for_ever_is_for_ever_and_never_a_panic() {
    let start = Instant::now();
    let mut never = pin!(sleep(Duration::MAX));
    assert!(never.deadline() > start + 100 * 365 * 86400 * SECOND);
    assert!(timeout(SECOND, never.as_mut()).await.is_err());
    let far = never.deadline();
    never.as_mut().reset(far);
    assert!(timeout_at(start + 2 * SECOND, &mut never).await.is_err());
    assert_eq!(timeout(Duration::MAX, async { 1 }).await, Ok(1));
    let mut interval = interval(Duration::MAX);
    assert_eq!(interval.period(), Duration::MAX);
    for behavior in [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
        interval.set_missed_tick_behavior(behavior);
        interval.reset_immediately();
        sleep(SECOND).await;
        interval.tick().await;
        assert!(timeout(SECOND, interval.tick()).await.is_err());
        interval.reset();
        interval.reset_after(Duration::MAX);
        interval.reset_at(far);
        assert!(timeout(SECOND, interval.tick()).await.is_err());
    }
    assert_eq!(start.elapsed(), 11 * SECOND);
    drop(interval_at(far, Duration::MAX));
    leakfree::scope(async |s| {
        let handle = s.spawn(time::sleep(Duration::MAX));
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
    })
    .await;
}

#[leakfree::test(paused)]
async fn a_timeout_at_is_over_at_that_moment_and_gives_its_future_back() {
    let start = Instant::now();
    assert!(timeout_at(start + SECOND, pending::<()>()).await.is_err());
    assert_eq!(start.elapsed(), SECOND);
    // Too late, and ready at once: the future comes first.
    assert_eq!(timeout_at(start, async { 7 }).await, Ok(7));
    let mut timeout = timeout(SECOND, std::future::ready(1));
    *timeout.get_mut() = std::future::ready(2);
    assert_eq!(timeout.into_inner().await, 2);
}

#[leakfree::test(paused)]
async fn missed_ticks_burst_are_delayed_or_skipped() {
    // A period of 100 ms; the second tick is taken 250 ms late. When are the next three?
    for (behavior, next) in [
        (MissedTickBehavior::Burst, [350, 350, 400]),
        (MissedTickBehavior::Delay, [450, 550, 650]),
        (MissedTickBehavior::Skip, [400, 500, 600]),
    ] {
        let start = Instant::now();
        let mut interval = interval(100 * MS);
        interval.set_missed_tick_behavior(behavior);
        assert_eq!(interval.missed_tick_behavior(), behavior);
        assert_eq!(interval.tick().await, start);
        sleep_until(start + 350 * MS).await;
        assert_eq!(interval.tick().await, start + 100 * MS, "the moment at which it was due");
        for at in next {
            interval.tick().await;
            assert_eq!(start.elapsed(), at * MS, "{behavior:?}");
        }
    }
}

#[leakfree::test(paused)]
async fn a_tick_that_is_a_little_late_leaves_the_rhythm_alone_and_a_late_one_delays() {
    for (late, second) in [(5, 200), (6, 206)] {
        let start = Instant::now();
        let mut interval = interval_at(start + 100 * MS, 100 * MS);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sleep((100 + late) * MS).await;
        interval.tick().await;
        interval.tick().await;
        assert_eq!(start.elapsed(), second * MS);
    }
}

#[leakfree::test(paused)]
async fn an_interval_is_reset_to_any_moment() {
    let start = Instant::now();
    let mut interval = interval_at(start + SECOND, SECOND);
    interval.reset_after(5 * SECOND);
    interval.tick().await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    interval.reset_immediately();
    interval.tick().await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    interval.reset_at(start + 9 * SECOND);
    interval.tick().await;
    assert_eq!(start.elapsed(), 9 * SECOND);
    sleep(SECOND / 2).await;
    interval.reset();
    interval.tick().await;
    assert_eq!(start.elapsed(), 10 * SECOND + SECOND / 2);
    assert_eq!(poll_fn(|cx| interval.poll_tick(cx)).await, start + 11 * SECOND + SECOND / 2);
}

#[leakfree::test(workers = 2)]
async fn a_polled_tick_is_recorded_where_it_is_polled_and_a_dropped_one_goes() {
    let line = line!() + 5;
    let task = scope::current().task().name("ticks").spawn(async {
        let (mut a, mut b) = (interval_at(Instant::now() + 3600 * SECOND, SECOND), interval(3600 * SECOND));
        b.tick().await;
        poll_fn(|cx| {
            let a = a.poll_tick(cx);
            let b = b.poll_tick(cx);
            if a.is_ready() { a } else { b }
        })
        .await;
    });
    let info = parked("ticks").await;
    let waits: Vec<_> = info.waits.iter().map(|wait| (wait.reason, wait.site.file, wait.site.line)).collect();
    let at = |line| (WaitReason::Interval, file!(), line);
    assert_eq!(waits, [at(line), at(line + 1)]);
    assert_eq!((info.own_wakers, info.foreign_wakers), (2, 0));
    task.abort();

    let task = scope::current().task().name("dropped").spawn(async {
        let mut ticks = interval_at(Instant::now() + 3600 * SECOND, SECOND);
        leakfree::select! {
            biased;
            _ = ticks.tick() => {}
            _ = leakfree::yield_now() => {}
        }
        pending::<()>().await;
    });
    let info = parked("dropped").await;
    assert_eq!((info.waits.len(), info.own_wakers), (0, 0), "{info:?}");
    task.abort();
}

#[leakfree::test(paused, workers = 2)]
async fn advance_moves_the_clock_and_timers_on_the_way_fire() {
    let start = Instant::now();
    let task = leakfree::spawn(async move {
        sleep(SECOND).await;
        start.elapsed()
    });
    time::advance(5 * SECOND).await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert!(task.is_finished());
    assert_eq!(task.await.unwrap(), SECOND);
    time::advance(Duration::ZERO).await;
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[test]
#[should_panic(expected = "moves a paused clock only")]
fn advance_needs_a_paused_clock() {
    runtime(1).block_on(async { time::advance(SECOND).await });
}

#[leakfree::test(paused)]
async fn moments_are_added_and_taken_from_each_other_and_never_below_zero() {
    let start = Instant::now();
    let mut later = start;
    later += 3 * SECOND;
    assert_eq!((later - start, start - later), (3 * SECOND, Duration::ZERO));
    assert_eq!(later.saturating_duration_since(start), 3 * SECOND);
    assert_eq!(later.checked_duration_since(start), Some(3 * SECOND));
    assert_eq!(start.checked_duration_since(later), None);
    later -= SECOND;
    assert_eq!(later, start + 2 * SECOND);
    assert_eq!(later.checked_sub(2 * SECOND), Some(start));
    assert_eq!(start.checked_add(Duration::MAX), None);
    let theirs: std::time::Instant = later.into();
    assert_eq!((Instant::from(theirs), Instant::from_std(theirs), later.into_std()), (later, later, theirs));
}

#[leakfree::test(paused)]
async fn a_timeout_gives_its_future_back() {
    let mut timeout = timeout(SECOND, Box::pin(async { 7 }));
    assert!(std::ptr::eq(timeout.get_ref(), &*timeout.get_mut()));
    assert_eq!(timeout.into_inner().await, 7);
}
