//! Cancellation: whom it reaches in which order, what is refused after it, and who can look.

use super::*;

pub(super) const CANCEL: &[Row] = &[
    Row {
        name: "a cancel says why, where and by whom",
        source: "leakfree DESIGN 6: a request has a reason (kind, who, where, when)",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(t.work("child", 9));
                    let at = s.clone();
                    let canceller = leakfree::spawn(async move {
                        sleep(secs(1)).await;
                        let line = line!() + 1;
                        at.cancel("enough");
                        line
                    });
                    let by = canceller.id();
                    let line = canceller.await.unwrap();
                    let reason = child.await.unwrap_err().cancel_reason().unwrap();
                    t.log(why(&reason));
                    t.log(format!("line {}", reason.location().unwrap().line() == line));
                    t.log(format!("by {}", reason.by() == Some(by)));
                })
                .await;
            })
        },
        expected: &["1s child dropped", "1s Explicit (enough)", "1s line true", "1s by true"],
        ..ROW
    },
    Row {
        name: "the first reason stands",
        source: "leakfree DESIGN 6: the first reason wins",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.cancel("one");
                    sleep(secs(1)).await;
                    s.cancel("two");
                    t.log(why(&s.cancel_reason().unwrap()));
                })
                .await;
            })
        },
        expected: &["1s Explicit (one)"],
        ..ROW
    },
    Row {
        name: "a plain scope's body goes on after a cancel",
        source: "leakfree docs, Scope::cancel: the body of a try_scope is dropped; any other goes on",
        body: |t| {
            Box::pin(async move {
                let value = scope(async |s| {
                    s.spawn(t.work("child", 5));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.work("body", 1).await;
                    7
                })
                .await;
                t.log(value);
            })
        },
        expected: &["1s child dropped", "2s body done", "2s 7"],
        ..ROW
    },
    Row {
        name: "scopes below see that their parent was cancelled, and by what",
        source: "leakfree docs, CancelKind::ParentCancelled and CancelReason::cause; Trio: a cancel scope reaches all inside",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel();
                scope(async |outer| {
                    let u = t.clone();
                    let child = outer.spawn(async move {
                        scope(async |inner| {
                            let grandchild = inner.spawn(u.work("grandchild", 9));
                            give.send((inner.clone(), grandchild)).unwrap();
                        })
                        .await;
                    });
                    let (inner, grandchild) = take.await.unwrap();
                    sleep(secs(1)).await;
                    outer.cancel("enough");
                    t.log(format!("child: {}", got(child.await)));
                    t.log(format!("inner: {}", why(&inner.cancel_reason().unwrap())));
                    t.log(format!("grandchild: {}", got(grandchild.await)));
                })
                .await;
            })
        },
        expected: &[
            "1s grandchild dropped",
            "1s child: Explicit (enough)",
            "1s inner: ParentCancelled by Explicit (enough)",
            "1s grandchild: ParentCancelled by Explicit (enough)",
        ],
        ..ROW
    },
    Row {
        name: "a cancel does not go up",
        source: "Trio, cancel scopes: only what is inside is cancelled",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    outer.spawn(t.work("outer's child", 3));
                    scope(async |inner| {
                        inner.spawn(t.work("inner's child", 3));
                        sleep(secs(1)).await;
                        inner.cancel("enough");
                    })
                    .await;
                    t.log(format!("outer cancelled: {}", outer.is_cancelled()));
                })
                .await;
            })
        },
        expected: &["1s inner's child dropped", "1s outer cancelled: false", "3s outer's child done"],
        ..ROW
    },
    Row {
        name: "a scope opened in a cancelled one is cancelled from the start",
        source: "Trio, cancel scopes: a cancelled scope stays so for all that is entered inside",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    outer.cancel("enough");
                    scope(async |inner| {
                        t.log(why(&inner.cancel_reason().unwrap()));
                    })
                    .await;
                })
                .await;
            })
        },
        expected: &["0s ParentCancelled by Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "abort ends one child",
        source: "leakfree docs, JoinHandle::abort; Kotlin, Job.cancel of a child leaves parent and siblings alone",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(t.work("child", 5));
                    s.spawn(t.work("sibling", 2));
                    sleep(secs(1)).await;
                    child.abort();
                    t.log(got(child.await));
                    t.log(format!("scope cancelled: {}", s.is_cancelled()));
                })
                .await;
            })
        },
        expected: &["1s child dropped", "1s Aborted", "1s scope cancelled: false", "2s sibling done"],
        ..ROW
    },
    Row {
        name: "abort reaches everything below, children before parents",
        source: "leakfree DESIGN 6: on a cancel from above children are dropped before parents",
        body: |t| {
            Box::pin(async move {
                let (give, take) = oneshot::channel();
                let u = t.clone();
                let parent = leakfree::spawn(async move {
                    let _parent = u.on_drop("parent dropped");
                    scope(async |s| {
                        let u = u.clone();
                        s.spawn(async move {
                            let _child = u.on_drop("child dropped");
                            scope(async |s| {
                                give.send(s.token()).unwrap();
                                s.spawn(u.work("grandchild", 9)).await.unwrap();
                            })
                            .await;
                        });
                    })
                    .await;
                });
                let token = take.await.unwrap();
                sleep(secs(1)).await;
                parent.abort();
                t.log(got(parent.await));
                t.log(why(&token.reason().unwrap()));
            })
        },
        expected: &[
            "1s grandchild dropped",
            "1s child dropped",
            "1s parent dropped",
            "1s Aborted",
            "1s ParentCancelled by Aborted",
        ],
        ..ROW
    },
    Row {
        name: "an inner scope's body goes after the children, from the inside",
        source: "leakfree DESIGN 6: children before parents",
        body: |t| {
            Box::pin(async move {
                let u = t.clone();
                let task = leakfree::spawn(async move {
                    scope(async |outer| {
                        let _outer = u.on_drop("outer body dropped");
                        outer.spawn(shield(u.work("outer's shielded child", 2)));
                        scope(async |inner| {
                            let _inner = u.on_drop("inner body dropped");
                            inner.spawn(u.work("inner's child", 9));
                            pending::<()>().await;
                        })
                        .await;
                    })
                    .await;
                });
                sleep(secs(1)).await;
                task.abort();
                t.log(got(task.await));
            })
        },
        expected: &[
            "1s inner's child dropped",
            "2s outer's shielded child done",
            "2s inner body dropped",
            "2s outer body dropped",
            "2s Aborted",
        ],
        ..ROW
    },
    Row {
        name: "aborting a task that has ended does nothing",
        source: "leakfree docs, JoinHandle::abort: a task that completes first is not disturbed",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(async { 7 });
                    sleep(secs(1)).await;
                    child.abort();
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["1s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a task that was never run is aborted unpolled",
        source: "leakfree DESIGN 6: what is parked or waits is dropped by a worker like a completed one",
        body: |t| {
            Box::pin(async move {
                let (u, v) = (t.clone(), t.clone());
                leakfree::spawn(async move {
                    scope(async |s| {
                        // One worker: the child is queued while we run.
                        let child = s.spawn(u.lazy("child"));
                        child.abort();
                        u.log("aborted");
                        u.log(got(child.await));
                    })
                    .await;
                })
                .await
                .unwrap();
                v.log("after");
            })
        },
        expected: &["0s aborted", "0s child freed", "0s Aborted", "0s after"],
        one_worker: Some("another worker could run the child before the abort"),
        ..ROW
    },
    Row {
        name: "a child that cancels its own scope runs to its next suspension",
        source: "Trio, cancel scopes: a task may cancel the scope it is in, and goes on to the next checkpoint",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let (at, u) = (s.clone(), t.clone());
                    let child = s.spawn(async move {
                        let _child = u.on_drop("child dropped");
                        at.cancel("enough");
                        u.log("still running");
                        leakfree::yield_now().await;
                        u.log("never");
                    });
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["0s still running", "0s child dropped", "0s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a child that returns before its next suspension keeps its value",
        source: "leakfree DESIGN 6: a value that was delivered is never lost",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let at = s.clone();
                    let child = s.spawn(async move {
                        at.cancel("enough");
                        7
                    });
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["0s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a child that never parks is dropped at its next suspension",
        source: "leakfree DESIGN 6: at its next suspension point. Trio: a checkpoint is where a cancel is delivered",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let (begun, has_begun) = oneshot::channel();
                    let u = t.clone();
                    let child = s.spawn(async move {
                        let _child = u.on_drop("child dropped");
                        begun.send(()).unwrap();
                        loop {
                            leakfree::yield_now().await;
                        }
                    });
                    has_begun.await.unwrap();
                    s.cancel("enough");
                    t.log(got::<()>(child.await));
                })
                .await;
            })
        },
        expected: &["0s child dropped", "0s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a running blocking call is not stopped",
        source: "leakfree docs, spawn_blocking: a closure cannot be stopped once it runs",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let (begun, has_begun) = oneshot::channel();
                    let u = t.clone();
                    let call = s.spawn_blocking(move || {
                        begun.send(()).unwrap();
                        thread::sleep(ms(20));
                        u.log("call done");
                        7
                    });
                    has_begun.await.unwrap();
                    s.cancel("enough");
                    t.log(got(call.await));
                })
                .await;
            })
        },
        expected: &["0s call done", "0s Ok(7)"],
        ..ROW
    },
];

pub(super) const REFUSED: &[Row] = &[
    Row {
        name: "a scope that has ended takes no child",
        source: "leakfree DESIGN 6: a spawn after the close gives a cancelled handle, its future dropped unpolled; Trio: a \
                 closed nursery refuses, too",
        body: |t| {
            Box::pin(async move {
                let ended = scope(async |s| s.clone()).await;
                let child = ended.spawn(t.lazy("child"));
                t.log(format!("finished {}", child.is_finished()));
                t.log(got(child.await));
            })
        },
        expected: &["0s child freed", "0s finished true", "0s ScopeClosed"],
        ..ROW
    },
    Row {
        name: "a cancelled scope takes no child",
        source: "leakfree DESIGN 6; Swift SE-0304: addTaskUnlessCancelled adds none to a cancelled group",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.cancel("enough");
                    let child = s.spawn(t.lazy("child"));
                    t.log(format!("finished {}", child.is_finished()));
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["0s child freed", "0s finished true", "0s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a cancelled scope runs no blocking call",
        source: "leakfree docs, spawn_blocking: before it runs, a closure can be stopped",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.cancel("enough");
                    let (u, freed) = (t.clone(), t.on_drop("closure freed"));
                    let call = s.spawn_blocking(move || {
                        let _freed = freed;
                        u.log("ran");
                    });
                    t.log(got(call.await));
                })
                .await;
            })
        },
        expected: &["0s closure freed", "0s Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a scope that has ended takes no daemon",
        source: "leakfree DESIGN 6: a scope closes when its body and its children that are no daemons are done",
        body: |t| {
            Box::pin(async move {
                let ended = scope(async |s| s.clone()).await;
                let daemon = ended.spawn_daemon(t.lazy("daemon"));
                t.log(got(daemon.await));
            })
        },
        expected: &["0s daemon freed", "0s ScopeClosed"],
        ..ROW
    },
    Row {
        name: "a daemon finds the scope closed to new children",
        source: "leakfree DESIGN 6: closed when the body and the other children are done",
        body: |t| {
            Box::pin(async move {
                let mut late = None;
                scope(async |s| {
                    let (give, take) = oneshot::channel();
                    late = Some(take);
                    let (at, u) = (s.clone(), t.clone());
                    s.spawn_daemon(async move {
                        shield(sleep(secs(2))).await;
                        let child = at.spawn(u.lazy("child"));
                        give.send(got(child.await)).unwrap();
                    });
                    s.spawn(t.work("child", 1));
                })
                .await;
                t.log(late.unwrap().await.unwrap());
            })
        },
        expected: &["1s child done", "2s child freed", "2s ScopeClosed"],
        ..ROW
    },
];

pub(super) const TOKENS: &[Row] = &[
    Row {
        name: "a token asks for the cancel",
        source: "leakfree docs, CancelToken::cancel: as Scope::cancel",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let token = s.token();
                    leakfree::spawn(async move {
                        sleep(secs(1)).await;
                        token.cancel("by token");
                    });
                    let child = s.spawn(t.work("child", 9));
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["1s child dropped", "1s Explicit (by token)"],
        ..ROW
    },
    Row {
        name: "a token sees the cancel from outside",
        source: "leakfree DESIGN 6: cancelled, is_cancelled and the CancelToken view observe the request",
        body: |t| {
            Box::pin(async move {
                let mut watcher = None;
                scope(async |s| {
                    let (token, u) = (s.token(), t.clone());
                    t.log(format!("cancelled {}", token.is_cancelled()));
                    watcher = Some(leakfree::spawn(async move {
                        u.log(format!("watcher: {}", why(&token.cancelled().await)));
                    }));
                    sleep(secs(1)).await;
                    let token = s.token();
                    s.cancel("enough");
                    t.log(format!("cancelled {}", token.is_cancelled()));
                })
                .await;
                watcher.unwrap().await.unwrap();
            })
        },
        expected: &["0s cancelled false", "1s cancelled true || 1s watcher: Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a body waits for its own scope's cancel",
        source: "leakfree docs, Scope::cancelled: ends with the reason; cancel safe",
        body: |t| {
            Box::pin(async move {
                Scope::builder()
                    .timeout(secs(2))
                    .scope(async |s| {
                        let late = timeout(secs(1), s.cancelled()).await;
                        t.log(format!("late {}", late.is_err()));
                        t.log(why(&s.cancelled().await));
                        t.log(why(&leakfree::cancelled().await));
                    })
                    .await;
            })
        },
        expected: &["1s late true", "2s Deadline", "2s Deadline"],
        ..ROW
    },
    Row {
        name: "is_cancelled sees the innermost scope",
        source: "leakfree docs, cancelled: the innermost scope around",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    scope(async |inner| {
                        inner.cancel("enough");
                        t.log(format!("inside {}", leakfree::is_cancelled()));
                    })
                    .await;
                    t.log(format!("outside {}, {}", leakfree::is_cancelled(), outer.is_cancelled()));
                })
                .await;
            })
        },
        expected: &["0s inside true", "0s outside false, false"],
        ..ROW
    },
];
