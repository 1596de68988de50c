//! Scopes that are dropped half-way or move to another task, and waits for one's own ancestors.

use super::*;

pub(super) const HALF_WAY: &[Row] = &[
    Row {
        name: "a timeout around a scope cancels its children, and the next scope out waits",
        source: "leakfree DESIGN 6: what is dropped half-way is cancelled at once and adopted",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let late = timeout(
                        secs(1),
                        scope(async |inner| {
                            let _body = t.on_drop("inner body dropped");
                            inner.spawn(t.work("child", 9));
                            inner.spawn(shield(t.work("shielded", 3)));
                            pending::<()>().await;
                        }),
                    )
                    .await;
                    sleep(ms(500)).await;
                    t.log(format!("late {}", late.is_err()));
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &[
            "1s child dropped || 1s inner body dropped",
            "1.5s late true",
            "3s shielded done",
            "3s outer over",
        ],
        ..ROW
    },
    Row {
        name: "children of a dropped scope are told so",
        source: "leakfree docs, CancelKind::ScopeDropped",
        body: |t| {
            Box::pin(async move {
                let mut child = None;
                let _late = timeout(
                    secs(1),
                    scope(async |s| {
                        child = Some(s.spawn(t.work("child", 9)));
                    }),
                )
                .await;
                t.log(got(child.unwrap().await));
            })
        },
        expected: &["1s child dropped", "1s ScopeDropped"],
        ..ROW
    },
    Row {
        name: "the loser of a select is cancelled and adopted",
        source: "leakfree DESIGN 6: select keeps its semantics; what it leaves behind is adopted",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let loser = Box::pin(scope(async |inner| {
                        inner.spawn(shield(t.work("shielded", 3)));
                    }));
                    let winner = Box::pin(t.work("winner", 1));
                    drop(futures::future::select(winner, loser).await);
                    t.log("body ends");
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &["1s winner done", "1s body ends", "3s shielded done", "3s outer over"],
        ..ROW
    },
    Row {
        name: "what is adopted holds no inner scope that came later",
        source: "leakfree DESIGN 6: adopted by the nearest enclosing live scope",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let lost = scope(async |s| {
                        s.spawn(shield(t.work("shielded", 3)));
                    });
                    let _ = timeout(secs(1), lost).await;
                    scope(async |_later| {}).await;
                    t.log("later over");
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &["1s later over", "3s shielded done", "3s outer over"],
        ..ROW
    },
    Row {
        name: "a task is complete only when what it left behind is",
        source: "leakfree DESIGN 6: a task is complete only when everything below it is",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    let lost = scope(async |s| {
                        s.spawn(shield(u.work("shielded", 3)));
                    });
                    let _ = timeout(secs(1), lost).await;
                    u.log("task's body ends");
                    7
                });
                sleep(secs(2)).await;
                t.log(format!("finished {}", task.is_finished()));
                t.log(got(task.await));
            })
        },
        expected: &["1s task's body ends", "2s finished false", "3s shielded done", "3s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a timeout on a pinned scope can be tried again",
        source: "leakfree DESIGN 6: only a future that is dropped is cancelled; Tokio, timeout on a pinned future",
        body: |t| {
            Box::pin(async move {
                let mut scoped = Box::pin(scope(async |s| {
                    s.spawn(t.work_ms("child", 2500));
                    7
                }));
                let value = loop {
                    match timeout(secs(1), &mut scoped).await {
                        Ok(value) => break value,
                        Err(_) => t.log("not yet"),
                    }
                };
                t.log(value);
            })
        },
        expected: &["1s not yet", "2s not yet", "2.5s child done", "2.5s 7"],
        ..ROW
    },
    Row {
        name: "a scope that was never polled is nothing",
        source: "leakfree docs, ScopeFuture: it does nothing unless it is awaited",
        body: |t| {
            Box::pin(async move {
                let never = scope(async |s| {
                    s.spawn(t.work("child", 1));
                });
                sleep(secs(2)).await;
                drop(never);
                t.log("after");
            })
        },
        expected: &["2s after"],
        ..ROW
    },
    Row {
        name: "a dropped scope's panic below is not lost",
        source: "leakfree DESIGN 6 and IncidentKind::SparePanic: a panic that nobody is handed is told in the report",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let lost = scope(async |s| {
                        s.spawn(async {
                            shield(sleep(secs(2))).await;
                            panic!("row: late");
                        });
                    });
                    let _ = timeout(secs(1), lost).await;
                })
                .await;
                t.log("after");
            })
        },
        expected: &["2s after"],
        report: &["SparePanic: row: late"],
        ..ROW
    },
    Row {
        name: "a panic that came before the scope was dropped is not lost",
        source: "leakfree DESIGN 6 and IncidentKind::SparePanic: a panic that nobody is handed is told in the report",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let lost = scope(async |s| {
                        s.spawn(t.panic(1, "row: early"));
                        s.spawn(shield(t.work("shielded", 3)));
                    });
                    let _ = timeout(secs(2), lost).await;
                })
                .await;
                t.log("after");
            })
        },
        expected: &["3s shielded done", "3s after"],
        report: &["SparePanic: row: early"],
        ..ROW
    },
];

pub(super) const MOVED: &[Row] = &[
    Row {
        name: "a scope belongs to the task that polls it",
        source: "leakfree DESIGN 6: one that moves to another task is re-parented at its next poll",
        body: |t| {
            Box::pin(async move {
                let (u, v) = (t.clone(), t.clone());
                let mut moved = Box::pin(scope(async move |s: Scope| {
                    let _body = u.on_drop("body dropped");
                    s.spawn(u.work("child", 9));
                    pending::<()>().await;
                }));
                assert!(futures::poll!(&mut moved).is_pending());
                let owner = leakfree::spawn(async move {
                    moved.await;
                    v.log("never");
                });
                sleep(secs(1)).await;
                owner.abort();
                t.log(got(owner.await));
            })
        },
        expected: &["1s child dropped", "1s body dropped", "1s Aborted"],
        ..ROW
    },
    Row {
        name: "the owner before has no hold on a scope that moved",
        source: "leakfree DESIGN 6: the owner of a scope is whoever polls it",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel();
                let u = t.clone();
                let before = leakfree::spawn(async move {
                    let mut moved = Box::pin(scope(async move |s: Scope| {
                        s.spawn(u.work("child", 3));
                    }));
                    assert!(futures::poll!(&mut moved).is_pending());
                    give.send(moved).ok();
                    sleep(secs(9)).await;
                });
                let after = leakfree::spawn(async move { take.await.unwrap().await });
                sleep(secs(1)).await;
                before.abort();
                t.log(format!("before: {}", got(before.await)));
                t.log(format!("after: {}", got(after.await)));
            })
        },
        expected: &["1s before: Aborted", "3s child done", "3s after: Ok(())"],
        ..ROW
    },
    Row {
        name: "a scope that moved has the deadline of where it is now",
        source: "leakfree DESIGN 6: re-parented at its next poll; a child has the least of its ancestors' deadlines",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let mut moved = Box::pin(scope(async move |s: Scope| {
                    s.spawn(u.work("child", 9));
                }));
                assert!(futures::poll!(&mut moved).is_pending());
                Scope::builder()
                    .timeout(secs(2))
                    .scope(async |s| {
                        let owner = s.spawn(moved);
                        t.log(got(owner.await));
                    })
                    .await;
            })
        },
        expected: &["2s child dropped", "2s Deadline"],
        ..ROW
    },
    Row {
        name: "a scope that is kept unpolled is not waited for further in",
        source: "leakfree DESIGN 6: alive but not polled, it passes up, neither waited for nor cancelled, until it is polled \
                 or dropped",
        body: |t| {
            Box::pin(async move {
                let t = &t;
                let mut kept = None;
                scope(async |_outer| {
                    let mut inner = Box::pin(scope(async move |s| {
                        s.spawn(t.work("child", 3));
                        7
                    }));
                    assert!(futures::poll!(&mut inner).is_pending());
                    kept = Some(inner);
                })
                .await;
                t.log("outer over");
                let value = kept.unwrap().await;
                t.log(value);
            })
        },
        expected: &["0s outer over", "3s child done", "3s 7"],
        ..ROW
    },
    Row {
        name: "a scope that is kept unpolled is cancelled with what is around it",
        source: "leakfree DESIGN 6: a request goes down the subtree at once",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    let mut inner = Box::pin(scope(async |s| s.spawn(t.work("child", 3)).await));
                    assert!(futures::poll!(&mut inner).is_pending());
                    sleep(secs(1)).await;
                    outer.cancel("enough");
                    sleep(secs(1)).await;
                    t.log(got(inner.await));
                })
                .await;
            })
        },
        expected: &["1s child dropped", "2s ParentCancelled by Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a forgotten scope is cancelled when its task ends",
        source: "leakfree DESIGN 6: cancelled and reported when its task's body ends",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel();
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    let v = u.clone();
                    let mut forgotten = Box::pin(scope(async move |s: Scope| {
                        give.send(s.token()).unwrap();
                        s.spawn(v.work("child", 9));
                    }));
                    assert!(futures::poll!(&mut forgotten).is_pending());
                    std::mem::forget(forgotten);
                    sleep(secs(1)).await;
                    u.log("task's body ends");
                });
                t.log(got(task.await));
                t.log(why(&take.await.unwrap().reason().unwrap()));
            })
        },
        expected: &["1s task's body ends", "1s child dropped", "1s Ok(())", "1s ScopeForgotten"],
        report: &["ScopeForgotten: 1 live child"],
        ..ROW
    },
];

pub(super) const DEADLOCKS: &[Row] = &[
    Row {
        name: "waiting for oneself",
        source: "leakfree docs, JoinError::is_would_deadlock: the asker itself",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel::<JoinHandle<()>>();
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    let myself = take.await.unwrap();
                    u.log(got(myself.await));
                });
                give.send(task).unwrap();
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["0s would deadlock", "1s main ends"],
        ..ROW
    },
    Row {
        name: "waiting for an ancestor",
        source: "leakfree DESIGN 6: waiting for one's own ancestor gives WouldDeadlock; the handle is as good as before",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel::<JoinHandle<i32>>();
                let (back, returned) = oneshot::channel();
                let u = t.clone();
                let parent = leakfree::spawn(async move {
                    scope(async |s| {
                        s.spawn(async move {
                            scope(async |s| {
                                s.spawn(async move {
                                    let mut grandparent = take.await.unwrap();
                                    u.log(got((&mut grandparent).await));
                                    back.send(grandparent).unwrap();
                                });
                            })
                            .await;
                        });
                    })
                    .await;
                    7
                });
                give.send(parent).unwrap();
                t.log(got(returned.await.unwrap().await));
            })
        },
        expected: &["0s would deadlock", "0s Ok(7)"],
        ..ROW
    },
    Row {
        name: "waiting for a sibling is fine",
        source: "leakfree DESIGN 6: only ancestors wait for what is below them; Kotlin: siblings may join each other",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let first = s.spawn(t.work("first", 2));
                    let u = t.clone();
                    s.spawn(async move { u.log(got(first.await)) });
                })
                .await;
                t.log("after");
            })
        },
        expected: &["2s first done", "2s Ok(())", "2s after"],
        ..ROW
    },
    Row {
        name: "a scope that moves below the awaited task is looked at again",
        source: "leakfree DESIGN 6: WouldDeadlock is checked again when a scope is re-parented",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel::<JoinHandle<()>>();
                let u = t.clone();
                // A child that waits for the task which comes to own its scope.
                let mut moved = Box::pin(scope(async move |s: Scope| {
                    s.spawn(async move {
                        let owner = take.await.unwrap();
                        u.log(got(owner.await));
                    });
                }));
                assert!(futures::poll!(&mut moved).is_pending());
                let owner = leakfree::spawn(async move {
                    sleep(secs(1)).await;
                    moved.await;
                });
                give.send(owner).unwrap();
                sleep(secs(2)).await;
                t.log("main ends");
            })
        },
        expected: &["1s would deadlock", "2s main ends"],
        ..ROW
    },
];
