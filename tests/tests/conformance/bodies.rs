//! A scope's body and its children's ends: what is waited for, when results are dropped, and what main leaves behind.

use super::*;

pub(super) const NORMAL: &[Row] = &[
    Row {
        name: "a scope waits for its child",
        source: "Trio, nurseries: the block is left only when every child has exited",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    s.spawn(t.work("child", 2));
                    t.log("body ends");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["0s body ends", "2s child done", "2s after"],
        ..ROW
    },
    Row {
        name: "a scope without children ends with its body",
        source: "Kotlin, coroutineScope: returns as soon as the block and all children are completed",
        body: |t| {
            Box::pin(async move {
                scope(async |_s| sleep(secs(1)).await).await;
                t.log("after");
            })
        },
        expected: &["1s after"],
        ..ROW
    },
    Row {
        name: "a scope waits for grandchildren",
        source: "Trio, nurseries: a child has not exited before its own nurseries are left",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn(async move {
                        scope(async |s| {
                            s.spawn(u.work("grandchild", 3));
                        })
                        .await;
                        u.log("child done");
                    });
                    t.log("body ends");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["0s body ends", "3s grandchild done", "3s child done", "3s after"],
        ..ROW
    },
    Row {
        name: "a child spawns a sibling when the body has ended",
        source: "Trio, nurseries: a nursery stays open, for those inside too, until its last child has exited",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let (sibling, u) = (s.clone(), t.clone());
                    s.spawn(async move {
                        sleep(secs(1)).await;
                        sibling.spawn(u.work("late", 2));
                        u.log("child done");
                    });
                    t.log("body ends");
                })
                .await;
                t.log("after");
            })
        },
        expected: &["0s body ends", "1s child done", "3s late done", "3s after"],
        ..ROW
    },
    Row {
        name: "values come out of handles and of the scope",
        source: "Kotlin, coroutineScope and async: the block's result is returned; await gives the child's",
        body: |t| {
            Box::pin(async move {
                let sum = scope(async |s| {
                    let a = s.spawn(async {
                        sleep(secs(2)).await;
                        1
                    });
                    let b = s.spawn(async { 2 });
                    a.await.unwrap() + b.await.unwrap()
                })
                .await;
                t.log(sum);
            })
        },
        expected: &["2s 3"],
        ..ROW
    },
    Row {
        name: "the body's value comes when the children have ended",
        source: "Kotlin, coroutineScope: the block's result is returned after the children",
        body: |t| {
            Box::pin(async move {
                let value = scope(async |s| {
                    s.spawn(t.work("child", 2));
                    7
                })
                .await;
                t.log(value);
            })
        },
        expected: &["2s child done", "2s 7"],
        ..ROW
    },
    Row {
        name: "the body may borrow from its surroundings",
        source: "leakfree DESIGN 6: the body may borrow",
        body: |t| {
            Box::pin(async move {
                let mut local = std::rc::Rc::new(1);
                scope(async |s| {
                    *std::rc::Rc::get_mut(&mut local).unwrap() += s.spawn(async { 2 }).await.unwrap();
                })
                .await;
                t.log(local);
            })
        },
        expected: &["0s 3"],
        ..ROW
    },
    Row {
        name: "a dropped handle neither cancels nor detaches",
        source: "leakfree DESIGN 6: dropping a handle neither cancels nor detaches",
        body: |t| {
            Box::pin(async move {
                scope(async |s| drop(s.spawn(t.work("child", 2)))).await;
                t.log("after");
            })
        },
        expected: &["2s child done", "2s after"],
        ..ROW
    },
    Row {
        name: "a handle gives a result that came earlier",
        source: "Kotlin, Deferred: await on a completed one returns at once",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let child = s.spawn(t.work("child", 1));
                    sleep(secs(3)).await;
                    t.log(format!("finished {}", child.is_finished()));
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["1s child done", "3s finished true", "3s Ok(())"],
        ..ROW
    },
    Row {
        name: "an inner scope of the same task ends first",
        source: "Trio, nurseries: nested blocks are left from the inside",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    outer.spawn(t.work("outer's child", 2));
                    scope(async |inner| {
                        inner.spawn(t.work("inner's child", 1));
                    })
                    .await;
                    t.log("inner over");
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &["1s inner's child done", "1s inner over", "2s outer's child done", "2s outer over"],
        ..ROW
    },
    Row {
        name: "a child of the outer scope is not waited for by the inner one",
        source: "Trio, nurseries: a task belongs to the nursery it is started in, not to where the call stands",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    scope(async |_inner| {
                        outer.spawn(t.work("child", 2));
                    })
                    .await;
                    t.log("inner over");
                })
                .await;
                t.log("outer over");
            })
        },
        expected: &["0s inner over", "2s child done", "2s outer over"],
        ..ROW
    },
    Row {
        name: "the current scope is the innermost one",
        source: "leakfree docs, scope::current: whose body it is, or who bounds the task",
        body: |t| {
            Box::pin(async move {
                scope(async |outer| {
                    scope(async |inner| {
                        t.log(format!("body in inner: {}", leakfree::scope::current().id() == inner.id()));
                    })
                    .await;
                    t.log(format!("body in outer: {}", leakfree::scope::current().id() == outer.id()));
                    let id = outer.id();
                    let child = outer.spawn(async move { leakfree::scope::current().id() == id });
                    t.log(format!("child in outer: {}", child.await.unwrap()));
                })
                .await;
            })
        },
        expected: &["0s body in inner: true", "0s body in outer: true", "0s child in outer: true"],
        ..ROW
    },
    Row {
        name: "a blocking call is waited for",
        source: "leakfree docs, spawn_blocking: the scope does not end before the closure",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let u = t.clone();
                    s.spawn_blocking(move || {
                        thread::sleep(ms(5));
                        u.log("call done");
                    });
                })
                .await;
                t.log("after");
            })
        },
        expected: &["0s call done", "0s after"],
        ..ROW
    },
];

pub(super) const OUTPUTS: &[Row] = &[
    Row {
        name: "a result that nobody can await is freed when it comes",
        source: "leakfree DESIGN 6: freed at once; Swift SE-0381, DiscardingTaskGroup: children are freed as they end",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let result = t.on_drop("result freed");
                    drop(s.spawn(async move {
                        sleep(secs(1)).await;
                        result
                    }));
                    s.spawn(t.work("sibling", 2));
                })
                .await;
                t.log("after");
            })
        },
        expected: &["1s result freed", "2s sibling done", "2s after"],
        ..ROW
    },
    Row {
        name: "a result is freed with the last handle that could await it",
        source: "leakfree docs, JoinHandle: a result that nobody can await any more is freed at once",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let result = t.on_drop("result freed");
                    let child = s.spawn(async move { result });
                    s.spawn(t.work("sibling", 2));
                    sleep(secs(1)).await;
                    drop(child);
                    t.log("handle dropped");
                })
                .await;
            })
        },
        expected: &["1s result freed", "1s handle dropped", "2s sibling done"],
        ..ROW
    },
    Row {
        name: "a result outlives its scope with its handle",
        source: "leakfree docs, JoinHandle: owns a task's result",
        body: |t| {
            Box::pin(async move {
                let child = scope(async |s| s.spawn(async { 7 })).await;
                sleep(secs(1)).await;
                t.log(got(child.await));
            })
        },
        expected: &["1s Ok(7)"],
        ..ROW
    },
    Row {
        name: "a child's future is freed before its joiner goes on",
        source: "Trio, nurseries: what a child held is released when it has exited",
        body: |t| {
            Box::pin(async move {
                scope(async |s| {
                    let held = t.on_drop("local freed");
                    let child = s.spawn(async move {
                        let _held = held;
                        sleep(secs(1)).await;
                        7
                    });
                    t.log(got(child.await));
                })
                .await;
            })
        },
        expected: &["1s local freed", "1s Ok(7)"],
        ..ROW
    },
];

pub(super) const ROOT: &[Row] = &[
    Row {
        name: "leakfree::spawn is bound by no scope of ours",
        source: "leakfree DESIGN 6: a child of the root scope; Kotlin, GlobalScope; Swift, detached tasks",
        body: |t| {
            Box::pin(async move {
                let mut task = None;
                scope(async |s| {
                    task = Some(leakfree::spawn(t.work("root task", 2)));
                    s.cancel("does not reach it");
                })
                .await;
                t.log("scope over");
                t.log(got(task.unwrap().await));
            })
        },
        expected: &["0s scope over", "2s root task done", "2s Ok(())"],
        ..ROW
    },
    Row {
        name: "a root task's panic stays in its handle",
        source: "leakfree docs, spawn: its panics stay in its handle",
        body: |t| {
            Box::pin(async move {
                let task = leakfree::spawn(t.panic(1, "row: alone"));
                let sibling = leakfree::spawn(t.work("sibling", 2));
                t.log(got(task.await));
                sibling.await.unwrap();
            })
        },
        expected: &["1s panicked: row: alone", "2s sibling done"],
        ..ROW
    },
    Row {
        name: "a root task alive at the end is reported and dropped",
        source: "leakfree DESIGN 6: who is alive when main's body returns, daemons excepted, is a leak",
        body: |t| {
            Box::pin(async move {
                let (hold, held) = oneshot::channel::<()>();
                t.keep(hold);
                let u = t.clone();
                leakfree::scope::current().task().name("left over").spawn(async move {
                    let _dropped = u.on_drop("task dropped");
                    held.await.unwrap();
                });
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["1s main ends", "1s task dropped"],
        report: &["Outlived left over"],
        ..ROW
    },
    Row {
        name: "a root task that nothing can wake is proven so",
        source: "leakfree DESIGN 4: PROVEN unwakeable, no waker exists",
        body: |t| {
            Box::pin(async move {
                leakfree::scope::current().task().name("lost").spawn(t.lazy("task"));
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["0s task polled", "1s main ends", "1s task freed"],
        report: &["ProvenUnwakeable lost"],
        ..ROW
    },
    Row {
        name: "a child of a scope that outlives main holds it open",
        source: "leakfree DESIGN 4: HELD OPEN and OUTLIVED",
        body: |t| {
            Box::pin(async move {
                let (hold, held) = oneshot::channel::<()>();
                t.keep(hold);
                let u = t.clone();
                leakfree::scope::current().task().name("owner").spawn(async move {
                    let _dropped = u.on_drop("owner dropped");
                    scope(async |s| {
                        let dropped = u.on_drop("holder dropped");
                        s.task().name("holder").spawn(async move {
                            let _dropped = dropped;
                            held.await.unwrap();
                        });
                    })
                    .await;
                });
                sleep(secs(1)).await;
                t.log("main ends");
            })
        },
        expected: &["1s main ends", "1s holder dropped", "1s owner dropped"],
        report: &["HeldOpen holder", "Outlived owner"],
        ..ROW
    },
];
