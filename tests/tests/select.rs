//! `select!`, `join!` and `try_join!`: whose turn it is, what is recorded, and what the losers leave behind.

use std::cell::Cell;
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use leakfree::report::snapshot::{TaskInfo, WaitReason};
use leakfree::sync::{mpsc, oneshot};
use leakfree::time::sleep;
use leakfree::{JoinHandle, scope};
use leakfree_tests::{Drops, parked};

const LONG: Duration = Duration::from_secs(3600);

fn spawn<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    scope::current().task().name(name).spawn(future)
}

/// Its waits are these, each on its line, each an own registration.
#[track_caller]
fn check(task: &TaskInfo, expected: &[(WaitReason, u32)]) {
    let found: Vec<_> = task.waits.iter().map(|wait| (wait.reason, wait.site.line)).collect();
    assert_eq!(found, expected);
    assert!(task.waits.iter().all(|wait| wait.site.file == file!() && wait.own), "{task:?}");
    assert_eq!(
        (task.own_wakers as usize, task.foreign_wakers),
        (expected.len(), 0),
        "the wait set is complete"
    );
}

// ---- whose turn it is -----------------------------------------------------------------------------

#[leakfree::test]
async fn the_first_that_is_ready_has_its_handler_run_and_the_value_is_the_handlers() {
    let got = leakfree::select! {
        _ = pending::<()>() => 1,
        number = ready(2) => { number * 10 }
        _ = sleep(LONG) => 3,
    };
    assert_eq!(got, 20);
}

#[leakfree::test]
async fn without_biased_every_branch_comes_first_at_times_and_with_it_only_the_first() {
    let mut first = [0; 3];
    for _ in 0..300 {
        leakfree::select! {
            _ = ready(()) => first[0] += 1,
            _ = ready(()) => first[1] += 1,
            _ = ready(()) => first[2] += 1,
        }
    }
    assert!(first.iter().all(|&times| times > 30), "{first:?}");
    for _ in 0..100 {
        leakfree::select! {
            biased;
            _ = ready(()) => {}
            _ = ready(()) => unreachable!("the first is always ready"),
        }
    }
}

#[leakfree::test]
async fn a_pattern_that_does_not_fit_disables_its_branch() {
    let got = leakfree::select! {
        biased;
        Some(1) = ready(Some(2)) => "one",
        None = ready(Some(2)) => "none",
        Ok::<u8, u8>(_) = ready(Err(1)) => "ok",
        (mut a, Some(b)) = async { (1, Some(2)) } => { a += b; if a == 3 { "sum" } else { "?" } }
    };
    assert_eq!(got, "sum");
    let got = leakfree::select! {
        Some(_) = ready(None::<u8>) => "some",
        false = ready(true) => "false",
        else => "else",
    };
    assert_eq!(got, "else");
}

#[leakfree::test]
async fn patterns_of_every_shape_bind_what_they_bind_in_a_match() {
    struct Point {
        x: u32,
        y: u32,
    }
    let text = String::from("text");
    let got = leakfree::select! {
        Point { mut x, y: 0..=5 } = async { Point { x: 1, y: 2 } } => { x += 1; x }
        else => 0,
    };
    assert_eq!(got, 2);
    let got = leakfree::select! { ref a @ Some(ref b) = ready(Some(String::from("b"))) => (a.is_some(), b.len()), else => (false, 0) };
    assert_eq!(got, (true, 1));
    let got = leakfree::select! { Some(&byte) = ready(text.as_bytes().first()) => byte, else => 0 };
    assert_eq!(got, b't');
    let got = leakfree::select! { Ok(n) | Err(n) = ready(Err::<u8, u8>(4)) => n };
    assert_eq!(got, 4);
    let got = leakfree::select! { [first, .., last] = ready([1, 2, 3]) => first + last };
    assert_eq!(got, 4);
    // The output is moved into the binding.
    let Point { x, y } = leakfree::select! { point = async { Point { x: 1, y: 2 } } => point };
    assert_eq!((x, y), (1, 2));
}

#[leakfree::test]
async fn a_condition_disables_its_branch_but_its_future_is_made() {
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        ready(())
    };
    let got = leakfree::select! {
        _ = make(), if made.get() > 0 => "disabled",
        _ = make(), if true => "enabled",
    };
    assert_eq!((got, made.get()), ("enabled", 2));
}

#[leakfree::test]
#[should_panic(expected = "every branch of a `select!` is disabled")]
async fn nothing_enabled_and_no_else_is_a_panic() {
    leakfree::select! {
        _ = ready(()), if false => {}
    }
}

#[leakfree::test]
async fn a_handler_may_use_what_the_futures_borrowed_and_await_and_break() {
    let (tx, mut rx) = mpsc::channel(1);
    spawn("sender", async move {
        for n in 0..5 {
            tx.send(n).await.unwrap();
        }
    });
    let mut got = Vec::new();
    loop {
        leakfree::select! {
            Some(n) = rx.recv() => {
                got.push(n);
                if n == 2 {
                    got.extend(rx.recv().await);
                }
            }
            else => break,
        }
    }
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

/// Returns through the macro, and takes names that its expansion might use.
async fn early(selected: u32, cx: Option<u32>) -> Result<u32, std::num::ParseIntError> {
    let (start, pending, output) = (1, 2, 3);
    let number = leakfree::select! {
        biased;
        Some(future0) = ready(cx) => return Ok(future0 + selected + start + pending + output),
        number = async { "x".parse::<u32>() } => number?,
    };
    Ok(number + selected)
}

#[leakfree::test]
async fn names_do_not_clash_and_a_question_mark_leaves_the_function() {
    assert_eq!(early(10, Some(1)).await, Ok(17));
    assert!(early(10, None).await.is_err());
}

#[leakfree::test(workers = 2)]
async fn an_output_that_is_not_send_does_not_make_the_task_so() {
    // Compiles: outputs of branches are not kept over an await.
    let handle = spawn("send", async {
        leakfree::select! {
            rc = async { Rc::new(7) } => *rc,
            _ = sleep(LONG) => 0,
        }
    });
    assert_eq!(handle.await.unwrap(), 7);
}

// ---- what is recorded -----------------------------------------------------------------------------

#[leakfree::test(workers = 2)]
async fn each_arm_of_a_select_is_recorded_with_its_own_line_and_goes_with_the_arm() {
    let (tx, mut rx) = oneshot::channel::<()>();
    let (tx2, rx2) = oneshot::channel::<()>();
    let (tx3, mut rx3) = mpsc::channel::<u8>(1);
    let mut joined = spawn("joined", pending::<()>());
    let abort = joined.abort_handle();
    let line = line!() + 3;
    let handle = spawn("select", async move {
        leakfree::select! { biased;
            _ = &mut rx => {}
            _ = sleep(LONG) => unreachable!(),
            _ = rx3.recv() => unreachable!(),
            _ = &mut joined => unreachable!(),
            _ = async {
                pending::<()>().await;
            } => unreachable!(),
        }
        drop((rx3, joined));
        rx2.await
    });
    let task = parked("select").await;
    check(
        &task,
        &[
            (WaitReason::OneshotRecv, line),
            (WaitReason::Sleep, line + 1),
            (WaitReason::MpscRecv, line + 2),
            (WaitReason::Join, line + 3),
        ],
    );
    tx.send(()).unwrap();
    tx3.closed().await;
    leakfree_tests::until(|| {
        let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
        tasks
            .iter()
            .any(|task| task.name.as_deref() == Some("select") && task.polls == 2 && task.parked.is_some())
    })
    .await;
    check(&parked("select").await, &[(WaitReason::OneshotRecv, line + 9)]);
    tx2.send(()).unwrap();
    handle.await.unwrap().unwrap();
    abort.abort();
}

#[leakfree::test(workers = 2)]
async fn a_join_is_recorded_arm_by_arm_and_shrinks_as_they_end() {
    let (tx, rx) = oneshot::channel::<()>();
    let (tx2, rx2) = oneshot::channel::<()>();
    let line = line!() + 3;
    let handle = spawn("join", async move {
        leakfree::join!(biased;
            rx,
            sleep(LONG),
            async {
                rx2.await.is_ok()
            }
        )
    });
    check(
        &parked("join").await,
        &[
            (WaitReason::OneshotRecv, line),
            (WaitReason::Sleep, line + 1),
            (WaitReason::OneshotRecv, line + 3),
        ],
    );
    tx.send(()).unwrap();
    leakfree_tests::until(|| {
        let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
        tasks
            .iter()
            .any(|task| task.name.as_deref() == Some("join") && task.polls == 2 && task.parked.is_some())
    })
    .await;
    check(&parked("join").await, &[(WaitReason::Sleep, line + 1), (WaitReason::OneshotRecv, line + 3)]);
    handle.abort();
    drop(tx2);
}

#[leakfree::test(workers = 2)]
async fn two_tasks_that_join_each_other_in_selects_are_proven_stuck() {
    // The wait sets of both are complete, so the fixpoint sees through the macros.
    let (give, take) = oneshot::channel::<JoinHandle<()>>();
    let first = spawn("first", async move {
        let mut second = take.await.unwrap();
        leakfree::select! {
            _ = &mut second => {}
        }
    });
    let aborts = [first.abort_handle()];
    let second = spawn("second", async move {
        let _ = leakfree::join!(first).0;
    });
    let last = second.abort_handle();
    assert!(give.send(second).is_ok());
    for name in ["first", "second"] {
        leakfree_tests::until(|| {
            let report = leakfree::runtime::Handle::current().report().to_string();
            report.contains(name) && report.contains("PROVEN stuck")
        })
        .await;
    }
    aborts[0].abort();
    last.abort();
    leakfree_tests::until(|| aborts[0].is_finished() && last.is_finished()).await;
}

// ---- what losers leave behind ---------------------------------------------------------------------

#[leakfree::test]
async fn a_scope_that_a_loser_left_open_is_cancelled_and_the_next_scope_out_waits_for_it() {
    let drops = Drops::new();
    let guard = drops.guard();
    let (inside, entered) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    leakfree::scope(async |_| {
        leakfree::select! {
            biased;
            () = leakfree::scope(async move |inner| {
                inner.spawn(async move {
                    let _guard = guard;
                    leakfree::shield(async {
                        inside.send(()).unwrap();
                        released.await.unwrap();
                    })
                    .await;
                });
                pending::<()>().await;
            }) => unreachable!(),
            _ = entered => {}
        }
        assert_eq!(drops.count(), 0, "the child has a shield: it is still there when the select is over");
        release.send(()).unwrap();
    })
    .await;
    assert_eq!(drops.count(), 1, "and gone when the scope around is");
}

// ---- join ------------------------------------------------------------------------------------------

#[leakfree::test(paused)]
async fn join_waits_for_all_and_drops_each_as_soon_as_it_is_ready() {
    let drops = Drops::new();
    let guard = drops.guard();
    let (a, b, c) = leakfree::join!(
        async {
            let _guard = guard;
            1
        },
        async {
            sleep(LONG).await;
            drops.count()
        },
        ready("c"),
    );
    assert_eq!((a, b, c), (1, 1, "c"));
    assert_eq!(leakfree::join!(), ());
}

#[leakfree::test(paused)]
async fn try_join_ends_with_the_first_error_and_drops_the_rest() {
    let drops = Drops::new();
    let guard = drops.guard();
    let failed: Result<((), ()), &str> = leakfree::try_join!(
        async {
            let _guard = guard;
            pending().await
        },
        async {
            sleep(LONG).await;
            Err("late")
        },
    );
    assert_eq!((failed, drops.count()), (Err("late"), 1));
    let all: Result<_, ()> = leakfree::try_join!(biased; ready(Ok(1)), ready(Ok("two")));
    assert_eq!(all, Ok((1, "two")));
    let none: Result<(), ()> = leakfree::try_join!();
    assert_eq!(none, Ok(()));
}

#[leakfree::test]
async fn a_join_begins_with_another_future_each_time_unless_it_is_biased() {
    let order = Cell::new(0);
    let look = |at: u32, polls: &'static str| {
        let (order, mut seen) = (&order, String::new());
        std::future::poll_fn(move |cx| {
            seen.push(char::from_digit(order.get() % 2, 10).unwrap());
            order.set(order.get() + 1);
            if seen.len() == polls.len() {
                assert_eq!(seen, polls, "future {at}");
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
    };
    leakfree::join!(look(0, "0101"), look(1, "1010"));
    leakfree::join!(biased; look(0, "0000"), look(1, "1111"));
}
