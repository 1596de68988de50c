//! Deadlines, and the time that a cancelled scope is given.

use super::*;

pub(super) const DEADLINES: &[Row] = &[
    Row {
        name: "without a deadline there is none",
        source: "leakfree docs, scope::deadline: None if there is none",
        body: |t| {
            Box::pin(async move {
                scope(async |_s| t.log(format!("{:?}", left()))).await;
            })
        },
        expected: &["0s None"],
        ..ROW
    },
    Row {
        name: "the least of the ancestors' deadlines counts",
        source: "leakfree DESIGN 6: a child has the least of its ancestors'; Trio: nested timeouts, the nearest one wins",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(2))
                    .scope(async |outer| {
                        let u = t.clone();
                        let child = outer.spawn(async move {
                            Scope::builder()
                                .timeout(secs(5))
                                .scope(async |_s| u.log(format!("longer inside: {:?}", left())))
                                .await;
                            Scope::builder()
                                .timeout(secs(1))
                                .scope(async |_s| u.log(format!("shorter inside: {:?}", left())))
                                .await;
                        });
                        child.await.unwrap();
                        t.log(format!("own: {:?}", left()));
                    })
                    .await;
            })
        },
        expected: &["0s longer inside: Some(2s)", "0s shorter inside: Some(1s)", "0s own: Some(2s)"],
        ..ROW
    },
    Row {
        name: "a shorter deadline inside ends only the inner scope",
        source: "Trio, move_on_after: nested timeouts are independent",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(5))
                    .scope(async |outer| {
                        outer.spawn(t.work("outer's child", 3));
                        Scope::builder()
                            .timeout(secs(1))
                            .scope(async |inner| {
                                let child = inner.spawn(t.work("inner's child", 3));
                                t.log(got(child.await));
                            })
                            .await;
                        t.log("inner over");
                    })
                    .await;
                t.log("outer over");
            })
        },
        expected: &[
            "1s inner's child dropped",
            "1s Deadline",
            "1s inner over",
            "3s outer's child done",
            "3s outer over",
        ],
        ..ROW
    },
    Row {
        name: "a longer deadline inside does not outlast the outer one",
        source: "Trio, move_on_after: an outer timeout that expires first cancels what is inside",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(2))
                    .scope(async |_outer| {
                        let result: Result<(), _> = Scope::builder()
                            .timeout(secs(5))
                            .try_scope(async |inner| {
                                inner.spawn(t.work("child", 9));
                                pending().await
                            })
                            .await;
                        t.log(ended(result));
                    })
                    .await;
            })
        },
        expected: &["2s child dropped", "2s cancelled: ParentCancelled by Deadline"],
        ..ROW
    },
    Row {
        name: "a deadline that lies in the past cancels at once",
        source: "Trio, deadlines: one that has passed cancels from the start",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(Duration::ZERO)
                    .scope(async |s| {
                        t.log(format!("body runs, cancelled: {}", s.is_cancelled()));
                        t.log(got(s.spawn(t.lazy("child")).await));
                    })
                    .await;
                let past = Instant::now();
                sleep(secs(2)).await;
                let result: Result<(), ScopeError<&str>> =
                    Scope::builder().deadline(past).try_scope(async |_s| pending().await).await;
                t.log(ended(result));
            })
        },
        expected: &[
            "0s body runs, cancelled: true",
            "0s child freed",
            "0s Deadline",
            "2s cancelled: Deadline",
        ],
        ..ROW
    },
    Row {
        name: "a plain scope's body outlives the deadline and sees it",
        source: "leakfree docs, ScopeBuilder::deadline: another scope's body goes on, and sees it",
        body: |t| {
            Box::pin(async move {
                let value = Scope::builder()
                    .timeout(secs(1))
                    .scope(async |s| {
                        let child = s.spawn(t.work("child", 5));
                        t.log(got(child.await));
                        t.log(format!("cancelled {}", s.is_cancelled()));
                        t.work("body", 1).await;
                        7
                    })
                    .await;
                t.log(value);
            })
        },
        expected: &["1s child dropped", "1s Deadline", "1s cancelled true", "2s body done", "2s 7"],
        ..ROW
    },
    Row {
        name: "a timeout counts from the opening",
        source: "Trio 0.27, move_on_after: relative to when the block is entered",
        body: |t| {
            Box::pin(async move {
                let scoped =
                    Scope::builder().timeout(secs(2)).scope(async |s| s.spawn(t.work("child", 9)).await);
                sleep(secs(1)).await;
                t.log(got(scoped.await));
            })
        },
        expected: &["3s child dropped", "3s Deadline"],
        ..ROW
    },
    Row {
        name: "of deadline and timeout the last one counts",
        source: "leakfree docs, ScopeBuilder::deadline",
        body: |t| {
            Box::pin(async move {
                let at = Instant::now() + secs(4);
                Scope::builder()
                    .timeout(secs(2))
                    .deadline(at)
                    .scope(async |_s| t.log(format!("{:?}", left())))
                    .await;
                Scope::builder()
                    .deadline(at)
                    .timeout(secs(2))
                    .scope(async |_s| t.log(format!("{:?}", left())))
                    .await;
            })
        },
        expected: &["0s Some(4s)", "0s Some(2s)"],
        ..ROW
    },
    Row {
        name: "a deadline after the end does nothing",
        source: "Trio, cancel scopes: a timeout has no effect once its block is left",
        body: |t| {
            Box::pin(async move {
                let token = Scope::builder()
                    .timeout(secs(2))
                    .scope(async |s| {
                        s.spawn(t.work("child", 1));
                        s.token()
                    })
                    .await;
                sleep(secs(3)).await;
                t.log(format!("cancelled {}", token.is_cancelled()));
            })
        },
        expected: &["1s child done", "4s cancelled false"],
        ..ROW
    },
    Row {
        name: "the deadline is that of the scope spawned into",
        source: "leakfree DESIGN 6: deadlines come from the scope spawned into; Trio: a child has its nursery's, not those \
                 around the start_soon",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    Scope::builder()
                        .timeout(secs(1))
                        .scope(async |inner| {
                            outer.spawn(t.work("outer's child", 3));
                            inner.spawn(t.work("inner's child", 3));
                        })
                        .await;
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s inner's child dropped", "3s outer's child done", "3s after"],
        ..ROW
    },
    Row {
        name: "a deadline outside a shield does not count inside",
        source: "leakfree DESIGN 6: up to the nearest shield; Trio: shielded code is not bound by timeouts from outside",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(2))
                    .scope(async |_outer| {
                        shield(async {
                            scope(async |s| {
                                t.log(format!("fresh: {:?}", left()));
                                s.spawn(t.work("child", 3));
                            })
                            .await;
                            Scope::builder()
                                .timeout(secs(5))
                                .scope(async |s| {
                                    t.log(format!("own: {:?}", left()));
                                    s.spawn(t.work("late child", 9));
                                })
                                .await;
                        })
                        .await;
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &[
            "0s fresh: None",
            "3s child done",
            "3s own: Some(5s)",
            "8s late child dropped",
            "8s after",
        ],
        ..ROW
    },
];

pub(super) const GRACES: &[Row] = &[
    Row {
        name: "without a grace a cancel drops at once",
        source: "leakfree DESIGN 6: grace is zero unless asked for",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.spawn(t.work("child", 9));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child dropped", "1s after"],
        ..ROW
    },
    Row {
        name: "a grace lets tasks run on for that long",
        source: "leakfree DESIGN 6: tasks run on for that long; then they are dropped",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(3))
                    .scope(async |s| {
                        s.spawn(t.work("long", 9));
                        s.spawn(t.work("short", 2));
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["2s short done", "4s long dropped", "4s after"],
        ..ROW
    },
    Row {
        name: "a grace ends early when all have ended",
        source: "leakfree DESIGN 6: tasks end by themselves; cancelled() observes the request",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(9))
                    .scope(async |s| {
                        let u = t.clone();
                        s.spawn(async move {
                            u.log(format!("asked {}", leakfree::is_cancelled()));
                            let reason = leakfree::cancelled().await;
                            u.log(format!("{}, asked {}", why(&reason), leakfree::is_cancelled()));
                            u.work("good-bye", 2).await;
                        });
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["0s asked false", "1s Explicit (enough), asked true", "3s good-bye done", "3s after"],
        ..ROW
    },
    Row {
        name: "a grace ends at once for a task that nothing can wake",
        source: "leakfree DESIGN 6: it ends early for tasks that are proven stuck",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(9))
                    .scope(async |s| {
                        let u = t.clone();
                        s.spawn(async move {
                            let _stuck = u.on_drop("stuck dropped");
                            pending::<()>().await;
                        });
                        s.spawn(t.work("sibling", 3));
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s stuck dropped", "3s sibling done", "3s after"],
        ..ROW
    },
    Row {
        name: "a task that gets stuck in the grace is dropped then",
        source: "leakfree DESIGN 6: the grace ends early for tasks that are proven stuck",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(9))
                    .scope(async |s| {
                        let u = t.clone();
                        s.spawn(async move {
                            let _stuck = u.on_drop("stuck dropped");
                            sleep(secs(3)).await;
                            pending::<()>().await;
                        });
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["3s stuck dropped", "3s after"],
        ..ROW
    },
    Row {
        name: "a shorter grace outside bounds a longer one inside",
        source: "leakfree docs, ScopeBuilder::grace: unless one further out on the way has a shorter one",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(2))
                    .scope(async |outer| {
                        let u = t.clone();
                        outer.spawn(async move {
                            let _child = u.on_drop("child dropped");
                            Scope::builder()
                                .grace(secs(5))
                                .scope(async |inner| {
                                    inner.spawn(u.work("grandchild", 9));
                                })
                                .await;
                        });
                        sleep(secs(1)).await;
                        outer.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["3s grandchild dropped", "3s child dropped", "3s after"],
        ..ROW
    },
    Row {
        name: "a shorter grace inside is kept under a longer one outside",
        source: "leakfree docs, ScopeBuilder::grace: when something further out is cancelled, the scope keeps its grace",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(5))
                    .scope(async |outer| {
                        outer.spawn(t.work("outer's child", 9));
                        let u = t.clone();
                        outer.spawn(async move {
                            Scope::builder()
                                .grace(secs(2))
                                .scope(async |inner| {
                                    inner.spawn(u.work("grandchild", 9));
                                })
                                .await;
                            u.log("inner over");
                        });
                        sleep(secs(1)).await;
                        outer.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["3s grandchild dropped", "3s inner over", "6s outer's child dropped", "6s after"],
        ..ROW
    },
    Row {
        name: "an inner grace is kept when an outer scope without one is cancelled",
        source: "leakfree docs, ScopeBuilder::grace: the scope keeps its grace; DESIGN 6: children before parents",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    outer.spawn(t.work("sibling", 9));
                    let u = t.clone();
                    outer.spawn(async move {
                        let _child = u.on_drop("child dropped");
                        Scope::builder()
                            .grace(secs(2))
                            .scope(async |inner| {
                                inner.spawn(u.work("grandchild", 9));
                            })
                            .await;
                    });
                    sleep(secs(1)).await;
                    outer.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s sibling dropped", "3s grandchild dropped", "3s child dropped", "3s after"],
        ..ROW
    },
    Row {
        name: "a deadline's cancel has the grace, too",
        source: "leakfree docs, ScopeBuilder: after a cancel, tasks run on for the grace; in a try_scope the body, too",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = Scope::builder()
                    .timeout(secs(2))
                    .grace(secs(1))
                    .try_scope(async |s| {
                        s.spawn(t.work("child", 9));
                        t.work("body", 9).await;
                        Ok(())
                    })
                    .await;
                t.log(ended(result));
            })
        },
        expected: &["3s body dropped || 3s child dropped", "3s cancelled: Deadline"],
        ..ROW
    },
    Row {
        name: "a sibling's failure leaves the grace to the others",
        source: "leakfree docs, ScopeBuilder::grace: after a cancel, whatever brought it",
        body: |t| {
            Box::pin(async move {
                let result = Scope::builder()
                    .grace(secs(2))
                    .try_scope(async |s| {
                        s.spawn(t.work("long", 9));
                        s.spawn(t.work("short", 2));
                        drop(s.spawn_try(t.fail(1, "boom")));
                        Ok(())
                    })
                    .await;
                t.log(ended(result));
            })
        },
        expected: &["2s short done", "3s long dropped", "3s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "an aborted task has no grace",
        source: "leakfree docs, JoinHandle::abort: it has no grace",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(5))
                    .scope(async |s| {
                        let child = s.spawn(t.work("child", 9));
                        sleep(secs(1)).await;
                        child.abort();
                        t.log(got(child.await));
                    })
                    .await;
            })
        },
        expected: &["1s child dropped", "1s Aborted"],
        ..ROW
    },
    Row {
        name: "nothing is spawned in the grace",
        source: "leakfree DESIGN 6: a spawn after a cancel gives a handle that is already cancelled",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(5))
                    .scope(async |s| {
                        s.spawn(t.work("child", 2));
                        sleep(secs(1)).await;
                        s.cancel("enough");
                        t.log(got(s.spawn(t.lazy("late")).await));
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["1s late freed", "1s Explicit (enough)", "2s child done", "2s after"],
        ..ROW
    },
    Row {
        name: "a body that returns its value in the grace keeps it",
        source: "Trio, cancelled_caught: a block that ends by itself was not cancelled; leakfree DESIGN 6: a value that was \
                 delivered is never lost",
        body: |t| {
            Box::pin(async move {
                let result = Scope::builder()
                    .timeout(secs(2))
                    .grace(secs(5))
                    .try_scope(async |_s| {
                        t.work("body", 3).await;
                        Ok::<_, &'static str>(7)
                    })
                    .await;
                t.log(ended(result));
            })
        },
        expected: &["3s body done", "3s Ok(7)"],
        ..ROW
    },
];
