//! Bounds on how many run at once, and children in the order of their ends.

use super::*;

pub(super) const LIMITS: &[Row] = &[
    Row {
        name: "children that are held back run in their order",
        source: "leakfree docs, max_concurrent: the others run in their order as places come free; Trio, CapacityLimiter: fair",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(t.work("a", 1));
                        s.spawn(t.work("b", 1));
                        s.spawn(t.work("c", 1));
                        t.log("body ends");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["0s body ends", "1s a done", "2s b done", "3s c done", "3s after"],
        ..ROW
    },
    Row {
        name: "as many run at once as the bound says",
        source: "leakfree docs, max_concurrent: at most so many children run at once",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(2)
                    .scope(async |s| {
                        s.spawn(t.work("a", 1));
                        s.spawn(t.work("b", 4));
                        s.spawn(t.work("c", 2));
                        s.spawn(t.work("d", 2));
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s a done", "3s c done", "4s b done", "5s d done", "5s after"],
        ..ROW
    },
    Row {
        name: "a cancel drops those held back unpolled",
        source: "leakfree DESIGN 6: what has not run is dropped; Kotlin, CoroutineStart.DEFAULT: cancelled before it starts, a \
                 coroutine does not run",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(t.work("a", 9));
                        let held = s.spawn(t.lazy("b"));
                        s.spawn(t.lazy("c"));
                        sleep(secs(1)).await;
                        s.cancel("enough");
                        t.log(got(held.await));
                    })
                    .await;
                t.log("after");
            })
        },
        // The body's own line comes after b, and has no order with the others.
        expected: &["1s a dropped || 1s b freed || 1s c freed || 1s Explicit (enough)", "1s after"],
        ..ROW
    },
    Row {
        name: "one that is held back can be aborted",
        source: "leakfree docs, JoinHandle::abort: a cancelled task is dropped; max_concurrent: the next one has the place",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(t.work("a", 3));
                        let held = s.spawn(t.lazy("b"));
                        s.spawn(t.work("c", 1));
                        sleep(secs(1)).await;
                        held.abort();
                        held.await.unwrap_err();
                        t.log("b ended");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s b freed", "1s b ended", "3s a done", "4s c done", "4s after"],
        ..ROW
    },
    Row {
        name: "an abort of one that is held back gives no place away",
        source: "leakfree docs, max_concurrent: at most so many children run at once",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(t.work("a", 3));
                        let held = [s.spawn(t.lazy("b")), s.spawn(t.lazy("c"))];
                        sleep(secs(1)).await;
                        held.iter().for_each(JoinHandle::abort);
                        sleep(secs(1)).await;
                        s.spawn_when_free(t.work("d", 1)).await;
                        t.log("d spawned");
                        s.spawn(t.work("e", 1));
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &[
            "1s b freed || 1s c freed",
            "3s a done",
            "3s d spawned",
            "4s d done",
            "5s e done",
            "5s after",
        ],
        ..ROW
    },
    Row {
        name: "spawn_when_free waits for a place",
        source: "leakfree DESIGN 6: spawn queues, spawn_when_free waits",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn_when_free(t.work("a", 2)).await;
                        t.log("a spawned");
                        s.spawn_when_free(t.work("b", 1)).await;
                        t.log("b spawned");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["0s a spawned", "2s a done", "2s b spawned", "3s b done", "3s after"],
        ..ROW
    },
    Row {
        name: "spawn_when_free is cancel safe",
        source: "leakfree docs, spawn_when_free: dropped before it is ready, it has spawned nothing, and the place is lost",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(t.work("a", 2));
                        let late = timeout(secs(1), s.spawn_when_free(t.lazy("b"))).await;
                        t.log(format!("late {}", late.is_err()));
                        s.spawn_when_free(t.work("c", 1)).await;
                        t.log("c spawned");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s b freed", "1s late true", "2s a done", "2s c spawned", "3s c done", "3s after"],
        ..ROW
    },
    Row {
        name: "spawn_when_free ends with a cancel",
        source: "leakfree docs, spawn_when_free: after a cancel it does not wait",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .max_concurrent(1)
                    .scope(async |s| {
                        s.spawn(shield(t.work("a", 5)));
                        let at = s.clone();
                        let canceller = leakfree::spawn(async move {
                            sleep(secs(1)).await;
                            at.cancel("enough");
                        });
                        let child = s.spawn_when_free(t.lazy("b")).await;
                        t.log(got(child.await));
                        canceller.await.unwrap();
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s b freed", "1s Explicit (enough)", "5s a done", "5s after"],
        ..ROW
    },
    Row {
        name: "without a bound spawn_when_free does not wait",
        source: "leakfree docs, spawn_when_free",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.spawn(t.work("a", 2));
                    s.spawn_when_free(t.work("b", 1)).await;
                    t.log("b spawned");
                })
                .await;
            })
        },
        expected: &["0s b spawned", "1s b done", "2s a done"],
        ..ROW
    },
];

pub(super) const CHILDREN: &[Row] = &[
    Row {
        name: "results come in the order of the ends",
        source: "Swift SE-0304, task groups: next() gives results in the order of completion, nil when there are none",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let mut children = s.children();
                    for n in [3, 1, 2] {
                        children.spawn(async move {
                            sleep(secs(n)).await;
                            n
                        });
                    }
                    while let Some((_id, result)) = children.join_next().await {
                        t.log(got(result));
                    }
                    t.log(format!("left {}", children.len()));
                })
                .await;
            })
        },
        expected: &["1s Ok(1)", "2s Ok(2)", "3s Ok(3)", "3s left 0"],
        ..ROW
    },
    Row {
        name: "join_next is cancel safe",
        source: "leakfree docs, Children::join_next: a result that was not returned is still there",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let mut children = s.children();
                    children.spawn(t.work("child", 2));
                    let late = timeout(secs(1), children.join_next()).await;
                    t.log(format!("late {}", late.is_err()));
                    sleep(secs(2)).await;
                    t.log(format!("left {}", children.len()));
                    t.log(got(children.join_next().await.unwrap().1));
                })
                .await;
            })
        },
        expected: &["1s late true", "2s child done", "3s left 1", "3s Ok(())"],
        ..ROW
    },
    Row {
        name: "aborted children come out, too",
        source: "leakfree docs, Children::abort_all; Swift SE-0304: cancelAll leaves the results to be collected",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let mut children = s.children();
                    children.spawn(async { 7 });
                    let slow = children.spawn(async {
                        sleep(secs(9)).await;
                        8
                    });
                    sleep(secs(1)).await;
                    children.abort_all();
                    t.log(got(children.join_next().await.unwrap().1));
                    let (id, result) = children.join_next().await.unwrap();
                    t.log(format!("the slow one {}: {}", id == slow, got(result)));
                    t.log(format!("none left {}", children.join_next().await.is_none()));
                })
                .await;
            })
        },
        expected: &["1s Ok(7)", "1s the slow one true: Aborted", "1s none left true"],
        ..ROW
    },
    Row {
        name: "a set that is dropped lets its children run",
        source: "leakfree docs, Children: dropping the set lets them run on in their scope",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let mut children = s.children();
                    children.spawn(t.work("child", 2));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["2s child done", "2s after"],
        ..ROW
    },
    Row {
        name: "under a supervisor a panic comes out of the set",
        source: "leakfree DESIGN 6: failures arrive at the handle; Kotlin, supervisorScope and async: await rethrows",
        body: |t| {
            Box::pin(async move {
                supervisor_scope(async |s| {
                    let mut children = s.children();
                    children.spawn(t.panic(1, "row: boom"));
                    children.spawn(t.work("sibling", 2));
                    while let Some((_id, result)) = children.join_next().await {
                        t.log(got(result));
                    }
                })
                .await;
            })
        },
        expected: &["1s panicked: row: boom", "2s sibling done", "2s Ok(())"],
        ..ROW
    },
];
