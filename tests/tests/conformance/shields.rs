//! What a shield holds off, and for how long.

use super::*;

pub(super) const SHIELDS: &[Row] = &[
    Row {
        name: "a shield holds the drop off, and it is made up for",
        source: "leakfree DESIGN 6; Trio, shielding: inside nothing is cancelled from outside; at the next checkpoint after it \
                 is",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        let _child = u.on_drop("child dropped");
                        shield(sleep(secs(3))).await;
                        u.log("shield over");
                        sleep(secs(1)).await;
                        u.log("never");
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["3s shield over", "3s child dropped", "3s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a task that returns right after its shield keeps its value",
        source: "leakfree DESIGN 6: the drop is at the next suspension; a value that was delivered is never lost",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(async {
                        shield(sleep(secs(3))).await;
                        7
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["3s Ok(7)"],
        ..ROW
    },
    Row {
        name: "shield_for lapses",
        source: "leakfree docs, shield_for: at most for so long from when the drop is due",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(shield_for(secs(2), t.work("child", 9)));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["3s child dropped", "3s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "shield_for of what ends in time",
        source: "leakfree docs, shield_for: as shield, but bounded",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let _child = u.on_drop("child dropped");
                        // Before the cancel its time does not count.
                        shield_for(secs(2), u.work("shielded", 4)).await;
                        pending::<()>().await;
                    });
                    sleep(secs(3)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["4s shielded done", "4s child dropped", "4s after"],
        ..ROW
    },
    Row {
        name: "a shield_for in a body lapses with the scope's cancel",
        source: "leakfree docs, shield_for; DESIGN 6: a try_scope's body is dropped when its shields are over",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s| {
                    drop(s.spawn_try(t.fail(1, "boom")));
                    shield_for(secs(2), t.work("body", 9)).await;
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["3s body dropped", "3s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "shield_for lapses for an aborted task, too",
        source: "leakfree docs, shield_for: at most for so long from when the drop is due, whatever brought it",
        body: |t| {
            Box::pin(async move {
                let child = leakfree::spawn(shield_for(secs(2), t.work("child", 9)));
                sleep(secs(1)).await;
                child.abort();
                t.log(got(child.await));
            })
        },
        expected: &["3s child dropped", "3s Aborted"],
        ..ROW
    },
    Row {
        name: "shield_for lapses in a set of futures that polls by need",
        source: "leakfree docs, shield_for: at most for so long from when the drop is due",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let mut set = futures::stream::FuturesUnordered::new();
                        set.push(shield_for(secs(2), u.work("child", 9)));
                        set.next().await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
            })
        },
        expected: &["3s child dropped"],
        ..ROW
    },
    Row {
        name: "shield_for of an aborted task lapses in a set, too",
        source: "leakfree docs, shield_for: at most for so long from when the drop is due, whatever brought it",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    let mut set = futures::stream::FuturesUnordered::new();
                    set.push(shield_for(secs(2), u.work("child", 9)));
                    set.next().await;
                });
                sleep(secs(1)).await;
                task.abort();
                t.log(got(task.await));
            })
        },
        expected: &["3s child dropped", "3s Aborted"],
        ..ROW
    },
    Row {
        name: "shield_for does not count where nothing is to be dropped",
        source: "leakfree docs, shield_for: from when the drop is due; Scope::cancel: a plain scope's body goes on",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    scope(async |s| {
                        s.token().cancel("enough");
                        shield_for(secs(2), u.work("body", 9)).await;
                    })
                    .await;
                });
                sleep(secs(4)).await;
                task.abort();
                t.log(got(task.await));
            })
        },
        expected: &["6s body dropped", "6s Aborted"],
        ..ROW
    },
    Row {
        name: "shield_for counts from the end of the grace",
        source: "leakfree docs, shield_for: from when the drop is due; ScopeBuilder::grace: then they are dropped",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(2))
                    .scope(async |s| {
                        s.spawn(shield_for(secs(2), t.work("child", 9)));
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["5s child dropped", "5s after"],
        ..ROW
    },
    Row {
        name: "shield_for in a set counts from the end of the grace",
        source: "leakfree docs, shield_for: from when the drop is due; ScopeBuilder::grace: then they are dropped",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .grace(secs(2))
                    .scope(async |s| {
                        let u = t.clone();
                        s.spawn(async move {
                            let mut set = futures::stream::FuturesUnordered::new();
                            set.push(shield_for(secs(2), u.work("child", 9)));
                            set.next().await;
                        });
                        sleep(secs(1)).await;
                        s.cancel("enough");
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &["5s child dropped", "5s after"],
        ..ROW
    },
    Row {
        name: "one shielded arm of a join is enough",
        source: "leakfree DESIGN 6: shields are counted per task, so one shielded arm of a join is enough",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        futures::join!(shield(u.work("shielded", 3)), u.work("short", 2), u.work("long", 5));
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["2s short done", "3s shielded done", "3s long dropped", "3s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "the last of two shields counts",
        source: "leakfree DESIGN 6: counted per task",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        futures::join!(shield(u.work("a", 2)), shield(u.work("b", 4)), u.work("c", 9));
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["2s a done", "4s b done", "4s c dropped", "4s after"],
        ..ROW
    },
    Row {
        name: "a scope inside a shield is fresh",
        source: "leakfree DESIGN 6; Swift SE-0504, cancellation shields: children created inside do not see the cancellation",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        shield(scope(async |inner| {
                            let grandchild = inner.spawn(u.work("grandchild", 3));
                            u.log(got(grandchild.await));
                            u.log(format!("inner cancelled {}", inner.is_cancelled()));
                            inner.spawn(u.work("late", 1));
                        }))
                        .await;
                        u.log("shield over");
                        pending::<()>().await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &[
            "3s grandchild done",
            "3s Ok(())",
            "3s inner cancelled false",
            "4s late done",
            "4s shield over",
            "4s Explicit (enough)",
        ],
        ..ROW
    },
    Row {
        name: "a scope inside a shield can be cancelled itself",
        source: "Swift SE-0504: a group inside a shield may still be cancelled explicitly",
        body: |t| {
            Box::pin(async move {
                shield(scope(async |s| {
                    s.spawn(t.work("child", 9));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                }))
                .await;
                t.log("after");
            })
        },
        expected: &["1s child dropped", "1s after"],
        ..ROW
    },
    Row {
        name: "the request is visible inside a shield",
        source: "leakfree docs, shield: is_cancelled tells it inside, too (Swift hides it, SE-0504)",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        shield(async {
                            sleep(secs(2)).await;
                            u.log(format!("asked {}", leakfree::is_cancelled()));
                        })
                        .await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
            })
        },
        expected: &["2s asked true"],
        ..ROW
    },
    Row {
        name: "an abort is visible inside a shield",
        source: "leakfree docs, is_cancelled: whether the current task has been asked to end",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    shield(async {
                        u.log(format!("asked {}", leakfree::is_cancelled()));
                        sleep(secs(2)).await;
                        u.log(format!("asked {}", leakfree::is_cancelled()));
                    })
                    .await;
                    pending::<()>().await;
                });
                sleep(secs(1)).await;
                task.abort();
                t.log(got(task.await));
            })
        },
        expected: &["0s asked false", "2s asked true", "2s Aborted"],
        ..ROW
    },
    Row {
        name: "a shield holds a failed try_scope's body",
        source: "leakfree docs, shield: holds off the drop of its task, or of the body of a try_scope that it is in",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s| {
                    let _body = t.on_drop("body dropped");
                    s.spawn(t.work("sibling", 9));
                    drop(s.spawn_try(t.fail(1, "boom")));
                    shield(sleep(secs(3))).await;
                    t.log("shield over");
                    sleep(secs(1)).await;
                    t.log("never");
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s sibling dropped", "3s shield over", "3s body dropped", "3s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "a shield in an inner body holds the outer one, too",
        source: "leakfree DESIGN 6: shields are counted per task",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |outer| {
                    let _outer = t.on_drop("outer body dropped");
                    drop(outer.spawn_try(t.fail(1, "boom")));
                    let inner: Result<(), ScopeError<&str>> = try_scope(async |_inner| {
                        let _inner = t.on_drop("inner body dropped");
                        shield(t.work("shielded", 3)).await;
                        pending().await
                    })
                    .await;
                    t.log(ended(inner));
                    pending().await
                })
                .await;
                t.log(ended(result));
            })
        },
        // The inner scope's end is no suspension of the outer body.
        expected: &[
            "3s shielded done",
            "3s inner body dropped",
            "3s cancelled: ParentCancelled by SiblingFailed",
            "3s outer body dropped",
            "3s Err(boom) then []",
        ],
        ..ROW
    },
    Row {
        name: "a shield that was over before the cancel does nothing",
        source: "Trio, shielding: only while inside",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        shield(sleep(secs(1))).await;
                        u.work("child", 9).await;
                    });
                    sleep(secs(2)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["2s child dropped", "2s after"],
        ..ROW
    },
    Row {
        name: "a timeout drops a shielded future",
        source: "leakfree docs, shield: dropped by other code than a cancellation, the future is dropped with it",
        body: |t| {
            Box::pin(async move {
                let late = timeout(secs(1), shield(t.work("shielded", 9))).await;
                t.log(format!("late {}", late.is_err()));
            })
        },
        expected: &["1s shielded dropped", "1s late true"],
        ..ROW
    },
    Row {
        name: "a shield that never ends is unresponsive at shutdown",
        source: "leakfree DESIGN 6: a task that is still there is UNRESPONSIVE: shielded",
        body: |t| {
            Box::pin(async move {
                leakfree::scope::current().task().name("stuck").spawn(shield(pending::<()>()));
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["1s main ends"],
        report: &["ProvenUnwakeable stuck", "Unresponsive stuck"],
        ..ROW
    },
];
