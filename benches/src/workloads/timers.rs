//! Timers that never fire, and timers that do.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{in_task, join_all, rt};
use crate::measure::{Latencies, Measured, Plan, measure_after};

const TASKS: usize = 8;
const ALIVE: usize = 1_000;
pub(super) const DROPPED: usize = TASKS * ALIVE;

const SLEEPERS: usize = 100;
const SLEEPS: usize = 4;

/// Each timer is polled once, and dropped long before its time.
pub(super) async fn dropped() {
    let handles = (0..TASKS)
        .map(|task| {
            rt::spawn(async move {
                let mut timers = Vec::with_capacity(ALIVE);
                for n in 0..ALIVE {
                    let far = Duration::from_millis(1_000 + (task * ALIVE + n) as u64 * 7_919 % 60_000);
                    let mut timer = Box::pin(rt::sleep(far));
                    std::future::poll_fn(|cx| {
                        assert!(timer.as_mut().poll(cx).is_pending(), "it is not due");
                        Poll::Ready(())
                    })
                    .await;
                    timers.push(timer);
                }
                drop(timers);
            })
        })
        .collect();
    join_all(handles).await;
}

/// How late tasks are woken that sleep for odd times, and what that costs.
pub(super) fn fired(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    let late = Arc::new(Latencies::new());
    let sleeper = |n: usize| {
        let late = late.clone();
        async move {
            let mut seen = [Duration::ZERO; SLEEPS];
            for (round, seen) in seen.iter_mut().enumerate() {
                let time = Duration::from_micros(1_000 + (n * SLEEPS + round) as u64 * 7_919 % 9_000);
                let due = Instant::now() + time;
                rt::sleep(time).await;
                *seen = due.elapsed();
            }
            late.add(&seen);
        }
    };
    let step = || {
        let sleepers: Vec<_> = (0..SLEEPERS).map(sleeper).collect();
        in_task(runtime, async { join_all(sleepers.into_iter().map(rt::spawn).collect()).await });
    };
    let measured = measure_after(plan, SLEEPERS * SLEEPS, step, || late.reset());
    measured.without("wall").with(late.quantiles())
}
