//! Errors and panics: who is cancelled for them, and what comes back.

use super::*;

pub(super) const TRY: &[Row] = &[
    Row {
        name: "try_scope gives the body's value",
        source: "leakfree DESIGN 6: handles of spawn_try give the values themselves",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s: Scope<&'static str>| {
                    let a = s.spawn_try(async {
                        sleep(secs(1)).await;
                        Ok(1)
                    });
                    let b = s.spawn_try(async { Ok(2) });
                    Ok(a.await + b.await)
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s Ok(3)"],
        ..ROW
    },
    Row {
        name: "the first error cancels siblings and drops the body",
        source: "leakfree DESIGN 6: fails fast; the body is dropped at its next suspension and sees no cancellation. Kotlin, \
                 coroutineScope: a child's failure cancels the scope",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s| {
                    let _body = t.on_drop("body dropped");
                    let u = t.clone();
                    let sibling = s.spawn_try(async move {
                        u.work("sibling", 5).await;
                        Ok(())
                    });
                    drop(s.spawn_try(t.fail(1, "boom")));
                    sibling.await;
                    t.log("the body saw a cancellation");
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s body dropped || 1s sibling dropped", "1s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "the body that awaits the failing child does not go on",
        source: "leakfree docs, TryHandle: there is no error to look at",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s| {
                    let _body = t.on_drop("body dropped");
                    let child = s.spawn_try(t.fail(1, "boom"));
                    child.await;
                    t.log("went on");
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s body dropped", "1s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "errors come in the order in which they were returned",
        source: "leakfree docs, ScopeError: the first, and those that came after it; cancelled siblings are left out",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    drop(s.spawn_try(t.fail_shielded(3, "third")));
                    drop(s.spawn_try(t.fail_shielded(2, "second")));
                    drop(s.spawn_try(t.fail(1, "first")));
                    drop(s.spawn_try(t.fail(9, "never")));
                    pending().await
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["3s Err(first) then [\"second\", \"third\"]"],
        ..ROW
    },
    Row {
        name: "the body's own error cancels the children",
        source: "Kotlin, coroutineScope: an exception of the block cancels the children and is rethrown",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    s.spawn(t.work("child", 5));
                    sleep(secs(1)).await;
                    Err("the body's")
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s child dropped", "1s Err(the body's) then []"],
        ..ROW
    },
    Row {
        name: "a child's error after the body's is in the rest",
        source: "leakfree docs, ScopeError: errors that children returned after the first",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    drop(s.spawn_try(t.fail_shielded(2, "the child's")));
                    sleep(secs(1)).await;
                    Err("the body's")
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["2s Err(the body's) then [\"the child's\"]"],
        ..ROW
    },
    Row {
        name: "a child's error after the body's value fails the scope",
        source: "Kotlin, coroutineScope: fails when any child does, its block completed or not",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s| {
                    s.spawn(t.work("sibling", 5));
                    drop(s.spawn_try(t.fail(1, "boom")));
                    Ok(7)
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s sibling dropped", "1s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "the deadline ends a try_scope as cancelled",
        source: "leakfree docs, ScopeBuilder::deadline: the body is dropped too, and the error says so",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = Scope::builder()
                    .timeout(secs(2))
                    .try_scope(async |s| {
                        s.spawn(t.work("child", 5));
                        t.work("body", 5).await;
                        Ok(())
                    })
                    .await;
                t.log(ended(result));
            })
        },
        expected: &["2s body dropped || 2s child dropped", "2s cancelled: Deadline"],
        ..ROW
    },
    Row {
        name: "a value returned before the cancel is kept",
        source: "leakfree docs, try_scope: a body that has returned its value before a cancel keeps it",
        body: |t| {
            Box::pin(async move {
                let result = Scope::builder()
                    .timeout(secs(2))
                    .try_scope(async |s| {
                        s.spawn(t.work("child", 5));
                        Ok(7)
                    })
                    .await;
                t.log(ended(result));
            })
        },
        expected: &["2s child dropped", "2s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a panic wins over errors",
        source: "leakfree docs, try_scope: panics as scope does",
        body: |t| {
            Box::pin(async move {
                let result = caught(try_scope(async |s| {
                    s.spawn(async {
                        shield(sleep(secs(2))).await;
                        panic!("row: later");
                    });
                    drop(s.spawn_try(t.fail(1, "first")));
                    Ok(())
                }));
                t.log(result.await.map_or_else(|panic| panic, ended));
            })
        },
        expected: &["2s row: later"],
        ..ROW
    },
    Row {
        name: "an explicit cancel drops a try_scope's body",
        source: "leakfree docs, Scope::cancel: the body of a try_scope is dropped, too; ScopeFailure::Cancelled",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    let at = s.clone();
                    s.spawn(async move {
                        sleep(secs(1)).await;
                        at.cancel("enough");
                    });
                    t.work("body", 5).await;
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s body dropped", "1s cancelled: Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a body that cancels its own try_scope runs to its next suspension",
        source: "leakfree DESIGN 6: dropped at the next suspension point. Trio: a cancel is delivered at the next checkpoint",
        body: |t| {
            Box::pin(async move {
                let result: Result<(), _> = try_scope(async |s| {
                    let _body = t.on_drop("body dropped");
                    s.cancel("enough");
                    t.log("still running");
                    sleep(secs(1)).await;
                    t.log("never");
                    Ok(())
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["0s still running", "0s body dropped", "0s cancelled: Explicit (enough)"],
        ..ROW
    },
    Row {
        name: "a try_scope in a set of futures fails fast",
        source: "leakfree DESIGN 6: at the first error the body is dropped; what is parked is dropped at once",
        body: |t| {
            Box::pin(async move {
                let mut set = futures::stream::FuturesUnordered::new();
                set.push(try_scope(async |s| {
                    drop(s.spawn_try(t.fail(1, "boom")));
                    t.work("body", 9).await;
                    Ok(())
                }));
                t.log(ended(set.next().await.unwrap()));
            })
        },
        expected: &["1s body dropped", "1s Err(boom) then []"],
        ..ROW
    },
    Row {
        name: "a try_scope's deadline ends its body in a set of futures, too",
        source: "leakfree docs, ScopeBuilder::deadline: the body is dropped then",
        body: |t| {
            Box::pin(async move {
                let mut set = futures::stream::FuturesUnordered::new();
                let scoped = Scope::builder().timeout(secs(1)).try_scope(async |_s| {
                    t.work("body", 9).await;
                    Ok(())
                });
                set.push(scoped);
                t.log(ended(set.next().await.unwrap()));
            })
        },
        expected: &["1s body dropped", "1s cancelled: Deadline"],
        ..ROW
    },
    Row {
        name: "an error of a plain child is a value",
        source: "leakfree DESIGN 6: spawn_try's errors end the scope; those of spawn are in the handle",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |s: Scope<&'static str>| {
                    let child = s.spawn(t.fail(1, "mine"));
                    t.log(got(child.await));
                    Ok(7)
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s Ok(Err(\"mine\"))", "1s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a try_scope in a child fails alone",
        source: "Kotlin, coroutineScope: who catches the inner scope's failure keeps it from the outer one",
        body: |t| {
            Box::pin(async move {
                let result = try_scope(async |outer: Scope<&'static str>| {
                    outer.spawn(t.work("sibling", 3));
                    let inner: Result<(), _> = try_scope(async |s| {
                        drop(s.spawn_try(t.fail(1, "inner")));
                        pending().await
                    })
                    .await;
                    t.log(ended(inner));
                    Ok(7)
                })
                .await;
                t.log(ended(result));
            })
        },
        expected: &["1s Err(inner) then []", "3s sibling done", "3s Ok(7)"],
        ..ROW
    },
];

pub(super) const SUPERVISOR: &[Row] = &[
    Row {
        name: "a supervisor's child panics alone",
        source: "Kotlin, supervisorScope: a child's failure affects neither the scope nor its other children",
        body: |t| {
            Box::pin(async move {
                supervisor_scope(async |s| {
                    s.spawn(t.work("sibling", 2));
                    let child = s.spawn(t.panic(1, "row: boom"));
                    t.log(got(child.await));
                    t.work("body", 2).await;
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s panicked: row: boom", "2s sibling done", "3s body done", "3s after"],
        ..ROW
    },
    Row {
        name: "a supervisor's body that panics cancels the children",
        source: "Kotlin, supervisorScope: a failure of the block itself fails the scope with all its children",
        body: |t| {
            Box::pin(async move {
                let result = caught(supervisor_scope(async |s| {
                    s.spawn(t.work("child", 5));
                    t.panic(1, "row: the body's").await;
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s child dropped", "1s row: the body's"],
        ..ROW
    },
    Row {
        name: "a cancel reaches a supervisor's children",
        source: "Kotlin, SupervisorJob: cancelling it cancels all its children",
        body: |t| {
            Box::pin(async move {
                supervisor_scope(async |s| {
                    let child = s.spawn(t.work("child", 5));
                    sleep(secs(1)).await;
                    s.cancel("enough");
                    t.log(got(child.await));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s child dropped", "1s Explicit (enough)", "1s after"],
        ..ROW
    },
    Row {
        name: "a panic below a supervisor's child stays in that child",
        source: "Kotlin, supervision: each child is the root of its own failures",
        body: |t| {
            Box::pin(async move {
                supervisor_scope(async |s| {
                    let u = t.clone();
                    let child = s.spawn(async move {
                        scope(async |s| {
                            s.spawn(u.work("grandchild", 5));
                            s.spawn(u.panic(1, "row: deep"));
                        })
                        .await;
                    });
                    s.spawn(t.work("sibling", 2));
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["1s grandchild dropped", "1s panicked: row: deep", "2s sibling done"],
        ..ROW
    },
];

pub(super) const PANICS: &[Row] = &[
    Row {
        name: "a child's panic cancels siblings and body and is resumed once",
        source: "Trio docs, nurseries: if one child raises, the others and the body are cancelled, and it is reraised",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(t.work("sibling", 5));
                    s.spawn(t.panic(1, "row: boom"));
                    t.work("body", 5).await;
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s body dropped || 1s sibling dropped", "1s row: boom"],
        ..ROW
    },
    Row {
        name: "of two panics one is resumed and one reported",
        source: "leakfree DESIGN 6 and IncidentKind::SparePanic; Kotlin: the first exception wins, others are attached",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(async {
                        shield(sleep(secs(2))).await;
                        panic!("row: second");
                    });
                    s.spawn(t.panic(1, "row: first"));
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["2s row: first"],
        report: &["SparePanic: row: second"],
        ..ROW
    },
    Row {
        name: "a body's panic waits for the children",
        source: "Trio, nurseries: an exception of the block cancels the children, and goes on when they have exited",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(shield(t.work("shielded", 3)));
                    s.spawn(t.work("child", 9));
                    t.panic(1, "row: the body's").await;
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s child dropped", "3s shielded done", "3s row: the body's"],
        ..ROW
    },
    Row {
        name: "a panic after the body's end is resumed, too",
        source: "Trio, nurseries: while the block's end waits, a child that raises cancels the rest",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(t.work("sibling", 5));
                    s.spawn(t.panic(1, "row: boom"));
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s sibling dropped", "1s row: boom"],
        ..ROW
    },
    Row {
        name: "a grandchild's panic goes all the way up, once",
        source: "Kotlin, coroutine exceptions: a failure propagates to the parent, and so on up",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(t.work("sibling", 5));
                    let u = t.clone();
                    s.spawn(async move {
                        scope(async |s| {
                            s.spawn(u.panic(1, "row: deep"));
                        })
                        .await;
                        u.log("never");
                    });
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s sibling dropped", "1s row: deep"],
        ..ROW
    },
    Row {
        name: "a child's panic ends a body in a set of futures, too",
        source: "Trio, nurseries: if one child raises, the body is cancelled",
        body: |t| {
            Box::pin(async move {
                let mut set = futures::stream::FuturesUnordered::new();
                set.push(caught(scope(async |s| {
                    s.spawn(t.panic(1, "row: boom"));
                    t.work("body", 9).await;
                })));
                t.log(set.next().await.unwrap().unwrap_err());
            })
        },
        expected: &["1s body dropped", "1s row: boom"],
        ..ROW
    },
    Row {
        name: "siblings of a panic are told so",
        source: "leakfree docs, CancelKind::SiblingFailed, with the panic's message",
        body: |t| {
            Box::pin(async move {
                let mut sibling = None;
                let result = caught(scope(async |s| {
                    sibling = Some(s.spawn(t.work("sibling", 5)));
                    s.spawn(t.panic(1, "row: boom"));
                }));
                t.log(result.await.unwrap_err());
                t.log(got(sibling.unwrap().await));
            })
        },
        expected: &["1s sibling dropped", "1s row: boom", "1s SiblingFailed (row: boom)"],
        ..ROW
    },
    Row {
        name: "a blocking call's panic is a child's panic",
        source: "leakfree DESIGN 6: a child's panic cancels its siblings and is resumed in the parent",
        body: |t| {
            Box::pin(async move {
                let result = caught(scope(async |s| {
                    s.spawn(t.work("sibling", 5));
                    sleep(secs(1)).await;
                    s.spawn_blocking(|| panic!("row: blocking"));
                    pending::<()>().await;
                }));
                t.log(result.await.unwrap_err());
            })
        },
        expected: &["1s sibling dropped", "1s row: blocking"],
        ..ROW
    },
];
