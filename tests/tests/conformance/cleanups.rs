//! What stands at a scope's side: cleanups and daemons.

use super::*;

pub(super) const CLEANUPS: &[Row] = &[
    Row {
        name: "a deferred cleanup that is awaited runs there",
        source: "leakfree DESIGN 6: run on normal exit by its owner; Swift SE-0493: a defer may await",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        let cleanup = defer_async(u.work("cleanup", 3));
                        u.work("child", 1).await;
                        cleanup.await;
                        u.log("child ends");
                    });
                    t.log(got(child.await));
                })
                .await;
            })
        },
        // Not bound by the budget: that is for cleanups without their owner.
        expected: &["1s child done", "4s cleanup done", "4s child ends", "4s Ok(())"],
        ..ROW
    },
    Row {
        name: "a deferred cleanup runs when its owner is cancelled",
        source: "leakfree DESIGN 6: when its owner is dropped, as a shielded child of the nearest scope that has not closed, \
                 cancelled or not",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        let cleanup = defer_async(u.work_ms("cleanup", 500));
                        u.work("child", 9).await;
                        cleanup.await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child dropped", "1s Explicit (enough)", "1.5s cleanup done", "1.5s after"],
        ..ROW
    },
    Row {
        name: "a deferred cleanup runs on an early return",
        source: "leakfree docs, defer_async: an early return, a cancel, a panic",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        let _cleanup = defer_async(u.work_ms("cleanup", 500));
                        sleep(secs(1)).await;
                        7
                    });
                    t.log(got(child.await));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s Ok(7)", "1.5s cleanup done", "1.5s after"],
        ..ROW
    },
    Row {
        name: "a deferred cleanup runs on a panic",
        source: "leakfree docs, defer_async: an early return, a cancel, a panic",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let _cleanup = defer_async(u.work_ms("cleanup", 500));
                        u.panic(1, "row: boom").await;
                    });
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1.5s cleanup done", "1.5s row: boom"],
        ..ROW
    },
    Row {
        name: "a cleanup over its budget is cut",
        source: "leakfree DESIGN 6: within a cleanup budget of its own (1 s)",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let _cleanup = defer_async(u.work("cleanup", 5));
                        u.work("child", 1).await;
                    });
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child done", "2s cleanup dropped", "2s after"],
        report: &["CleanupCut: it had 1s"],
        ..ROW
    },
    Row {
        name: "a body's cleanup is waited for by its own scope",
        source: "leakfree docs, defer_async: the nearest scope that has not ended does not end before it",
        body: |t| {
            Box::pin(async move {
                let value = scope(async |_s| {
                    let _cleanup = defer_async(t.work_ms("cleanup", 500));
                    t.log("body ends");
                    7
                })
                .await;
                t.log(value);
            })
        },
        expected: &["0s body ends", "500ms cleanup done", "500ms 7"],
        ..ROW
    },
    Row {
        name: "a failed body's cleanup is waited for, too",
        source: "leakfree DESIGN 6: cancelled or not",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    let _cleanup = defer_async(t.work_ms("cleanup", 500));
                    drop(s.spawn_try(t.fail(1, "boom")));
                    pending().await
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1.5s cleanup done", "1.5s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "a cleanup given up does not run",
        source: "leakfree docs, DeferAsync::disarm",
        body: |t| {
            Box::pin(async move {
                scope(async |_s| {
                    let cleanup = defer_async(t.lazy("cleanup"));
                    sleep(secs(1)).await;
                    cleanup.disarm();
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s cleanup freed", "1s after"],
        ..ROW
    },
    Row {
        name: "a cleanup cut off on the way goes on elsewhere",
        source: "leakfree docs, RunCleanup: dropped on the way, the rest of it is handed over",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        defer_async(u.work_ms("cleanup", 1500)).await;
                        u.log("never");
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s Explicit (enough)", "1.5s cleanup done", "1.5s after"],
        ..ROW
    },
    Row {
        name: "cleanups come after the daemons have been cancelled or at their side",
        source: "leakfree DESIGN 6: cleanups are waited for; daemons are cancelled when body and other children are done",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn_daemon(async move {
                        let _cleanup = defer_async(u.work_ms("daemon's cleanup", 500));
                        u.work("daemon", 9).await;
                    });
                    s.spawn(t.work("child", 1));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child done", "1s daemon dropped", "1.5s daemon's cleanup done", "1.5s after"],
        ..ROW
    },
    Row {
        name: "no deadline reaches a cleanup",
        source: "leakfree docs, defer_async: no cancel reaches it there; Trio, cleanup in a shielded scope with its own timeout",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(1))
                    .scope(async |s| {
                        let u = t.clone();
                        s.spawn(async move {
                            let v = u.clone();
                            let _cleanup = defer_async(async move {
                                scope(async |s| {
                                    v.log(format!("deadline {:?}, cancelled {}", left(), s.is_cancelled()));
                                    s.spawn(v.work_ms("cleanup's child", 500));
                                })
                                .await;
                            });
                            u.work("child", 9).await;
                        });
                    })
                    .await;
                t.log("after");
            })
        },
        expected: &[
            "1s child dropped",
            "1s deadline None, cancelled false",
            "1.5s cleanup's child done",
            "1.5s after",
        ],
        ..ROW
    },
    Row {
        name: "a cleanup may defer another one",
        source: "leakfree docs, defer_async: the nearest scope that has not ended, cancelled or not",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let v = u.clone();
                        let _cleanup = defer_async(async move {
                            let _second = defer_async(v.work_ms("second cleanup", 700));
                            v.work_ms("first cleanup", 700).await;
                        });
                        u.work("child", 9).await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        // Each has a second of its own.
        expected: &["1s child dropped", "1.7s first cleanup done", "2.4s second cleanup done", "2.4s after"],
        ..ROW
    },
    Row {
        name: "the cleanup of a body that is dropped half-way is waited for further out",
        source: "leakfree DESIGN 6: a child of the nearest scope that has not closed; what is dropped half-way is adopted",
        body: |t| {
            Box::pin(async move {
                scope(async |_outer| {
                    let lost = scope(async |_inner| {
                        let _cleanup = defer_async(t.work_ms("cleanup", 500));
                        pending::<()>().await;
                    });
                    let _ = timeout(secs(1), lost).await;
                    t.log("body ends");
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &["1s body ends", "1.5s cleanup done", "1.5s outer over"],
        ..ROW
    },
    Row {
        name: "on_cancel runs when its owner is dropped",
        source: "leakfree DESIGN 6: on_cancel is the synchronous sister; Swift, withTaskCancellationHandler",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        let _undo = on_cancel(|| u.log("undone"));
                        pending::<()>().await;
                    });
                    sleep(secs(1)).await;
                    s.cancel("enough");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s undone", "1s after"],
        ..ROW
    },
    Row {
        name: "on_cancel given up does not run",
        source: "leakfree docs, OnCancel::disarm",
        body: |t| {
            Box::pin(async move {
                let undo = on_cancel(|| t.log("undone"));
                sleep(secs(1)).await;
                undo.disarm();
                t.log("after");
            })
        },
        expected: &["1s after"],
        ..ROW
    },
    Row {
        name: "on_cancel runs on an early return",
        source: "leakfree docs, on_cancel: on a cancel, an early return, a panic",
        body: |t| {
            Box::pin(async move {
                let early = async {
                    let _undo = on_cancel(|| t.log("undone"));
                    sleep(secs(1)).await;
                };
                early.await;
                t.log("after");
            })
        },
        expected: &["1s undone", "1s after"],
        ..ROW
    },
];

pub(super) const DAEMONS: &[Row] = &[
    Row {
        name: "a daemon is cancelled when the others are done",
        source: "leakfree DESIGN 6: cancelled when body and other children are done; Kotlin: a background job is cancelled \
                 with its scope's end",
        body: |t| {
            Box::pin(async move {
                let mut daemon = None;
                scope(async |s| {
                    daemon = Some(s.spawn_daemon(t.work("daemon", 9)));
                    s.spawn(t.work("child", 2));
                    t.work("body", 1).await;
                })
                .await;
                t.log("after");
                t.log(got(daemon.unwrap().await));
            })
        },
        expected: &["1s body done", "2s child done", "2s daemon dropped", "2s after", "2s DaemonsEnd"],
        ..ROW
    },
    Row {
        name: "a daemon is waited for",
        source: "leakfree docs, spawn_daemon: the scope ends when it is gone",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.spawn_daemon(shield(t.work("daemon", 3)));
                    s.spawn(t.work("child", 1));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child done", "3s daemon done", "3s after"],
        ..ROW
    },
    Row {
        name: "a daemon may end by itself",
        source: "leakfree DESIGN 6: a daemon is a child",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let daemon = s.spawn_daemon(async { 7 });
                    s.spawn(t.work("child", 1));
                    t.log(got(daemon.await));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["0s Ok(7)", "1s child done", "1s after"],
        ..ROW
    },
    Row {
        name: "a cancel reaches the daemons",
        source: "leakfree docs, Scope::cancel: every child and everything below",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let daemon = s.spawn_daemon(t.work("daemon", 9));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(daemon.await));
                })
                .await;
            })
        },
        expected: &["1s daemon dropped", "1s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a daemon's panic is a child's",
        source: "leakfree DESIGN 6: a child's panic cancels its siblings and is resumed in the parent",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn_daemon(t.panic(1, "row: daemon"));
                    s.spawn(t.work("child", 9));
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s child dropped", "1s row: daemon"],
        ..ROW
    },
    Row {
        name: "tasks below a daemon are told that their parent was cancelled",
        source: "leakfree docs, CancelReason::cause: what began it, however far out",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel();
                scope(async |s| {
                    let u = t.clone();
                    s.spawn_daemon(async move {
                        scope(async |inner| {
                            give.send(inner.token()).unwrap();
                            inner.spawn(u.work("below", 9));
                        })
                        .await;
                    });
                    s.spawn(t.work("child", 1));
                })
                .await;
                t.log(why(&take.await.unwrap().reason().unwrap()));
            })
        },
        expected: &["1s child done", "1s below dropped", "1s ParentCancelled by DaemonsEnd"],
        ..ROW
    },
    Row {
        name: "a daemon alive at shutdown is no leak",
        source: "leakfree docs, spawn_daemon: a daemon that is alive at shutdown is no leak",
        body: |t| {
            Box::pin(async move {
                leakfree::scope::current().spawn_daemon(t.lazy("daemon"));
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["0s daemon polled", "1s main ends", "1s daemon freed"],
        ..ROW
    },
];
