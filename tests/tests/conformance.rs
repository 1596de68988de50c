//! What scopes and cancellation promise, as a table: a situation, and the exact trace of events that the rules give.
//!
//! Each row names the rule it comes from: one of Trio's, Kotlin's or Swift's where leakfree does as they do, or leakfree's
//! own. The traces were worked out from the rules, by hand. Each row runs on runtimes of its own, with one worker and with
//! two, under a paused clock, so that every event has an exact time: what happens at one time has settled before the next.
//!
//! `LEAKFREE_CONFORMANCE_ROW` runs the rows whose name contains it, `LEAKFREE_CONFORMANCE_ROUNDS` runs each so many times.

use std::any::Any;
use std::fmt::{Debug, Display, Write};
use std::future::{Future, pending};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use futures::{FutureExt, StreamExt};
use leakfree::runtime::{Builder, Handle};
use leakfree::scope::deadline;
use leakfree::sync::oneshot;
use leakfree::time::{Duration, Instant, sleep, timeout};
use leakfree::{
    CancelReason, JoinError, JoinHandle, Scope, ScopeError, ScopeFailure, defer_async, on_cancel, scope,
    shield, shield_for, supervisor_scope, try_scope,
};

// ---- the table's form -----------------------------------------------------------------------------

type Body = Pin<Box<dyn Future<Output = ()>>>;

struct Row {
    name: &'static str,
    /// The rule it comes from.
    source: &'static str,
    /// The situation: main's body.
    body: fn(Trace) -> Body,
    /// The events in their order. Events that have none among themselves stand in one string, with ` || ` between.
    expected: &'static [&'static str],
    /// What the shutdown's report says: nothing, unless the row says otherwise.
    report: &'static [&'static str],
    /// Why it is run with one worker only, if it is.
    one_worker: Option<&'static str>,
    /// Why leakfree does not do so yet, if it does not: the row must fail until then.
    known: Option<&'static str>,
}

const ROW: Row = Row {
    name: "",
    source: "",
    body: |_| Box::pin(async {}),
    expected: &[],
    report: &[],
    one_worker: None,
    known: None,
};

// ---- what the rows use ----------------------------------------------------------------------------

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Events with their times.
#[derive(Clone, Default)]
struct Trace(Arc<Inner>);

#[derive(Default)]
struct Inner {
    start: OnceLock<Instant>,
    events: Mutex<Vec<String>>,
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Trace {
    fn log(&self, event: impl Display) {
        let time = self.0.start.get().map(Instant::elapsed).unwrap_or_default();
        let time = if time.is_zero() { "0s".to_owned() } else { format!("{time:?}") };
        self.0.events.lock().unwrap().push(format!("{time} {event}"));
    }

    /// Logs when it is dropped.
    fn on_drop(&self, event: impl Display) -> OnDrop {
        OnDrop { trace: self.clone(), event: event.to_string(), armed: true }
    }

    /// Works for so many seconds, and tells whether it came to its end.
    fn work(&self, name: &'static str, for_secs: u64) -> impl Future<Output = ()> + Send + use<> {
        self.work_ms(name, for_secs * 1000)
    }

    fn work_ms(&self, name: &'static str, for_ms: u64) -> impl Future<Output = ()> + Send + use<> {
        let trace = self.clone();
        async move {
            let mut dropped = trace.on_drop(format!("{name} dropped"));
            sleep(ms(for_ms)).await;
            dropped.armed = false;
            trace.log(format!("{name} done"));
        }
    }

    /// Fails after so many seconds.
    fn fail(
        &self,
        after_secs: u64,
        error: &'static str,
    ) -> impl Future<Output = Result<(), &'static str>> + Send + use<> {
        async move {
            sleep(secs(after_secs)).await;
            Err(error)
        }
    }

    /// Fails after so many seconds, cancelled or not.
    fn fail_shielded(
        &self,
        after_secs: u64,
        error: &'static str,
    ) -> impl Future<Output = Result<(), &'static str>> + Send + use<> {
        async move {
            shield(sleep(secs(after_secs))).await;
            Err(error)
        }
    }

    /// Panics after so many seconds.
    fn panic(&self, after_secs: u64, message: &'static str) -> impl Future<Output = ()> + Send + use<> {
        async move {
            sleep(secs(after_secs)).await;
            panic!("{message}");
        }
    }

    /// Tells if it is ever polled, and when it is dropped.
    fn lazy(&self, name: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let (trace, freed) = (self.clone(), self.on_drop(format!("{name} freed")));
        async move {
            let _freed = freed;
            trace.log(format!("{name} polled"));
            pending::<()>().await;
        }
    }

    /// Keeps a value until the runtime is gone.
    fn keep(&self, value: impl Any + Send) {
        self.0.kept.lock().unwrap().push(Box::new(value));
    }
}

struct OnDrop {
    trace: Trace,
    event: String,
    armed: bool,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.trace.log(&self.event);
        }
    }
}

/// A reason in short: its kind, what began it if that was further out, its message.
fn why(reason: &CancelReason) -> String {
    let mut text = format!("{:?}", reason.kind());
    if reason.cause() != reason.kind() {
        write!(text, " by {:?}", reason.cause()).unwrap();
    }
    if let Some(message) = reason.message() {
        write!(text, " ({message})").unwrap();
    }
    text
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no string".to_owned())
}

/// What a handle gave.
fn got<T: Debug>(result: Result<T, JoinError>) -> String {
    match result {
        Ok(value) => format!("Ok({value:?})"),
        Err(error) if error.is_would_deadlock() => "would deadlock".to_owned(),
        Err(error) => match error.cancel_reason() {
            Some(reason) => why(&reason),
            None => format!("panicked: {}", message(&*error.into_panic())),
        },
    }
}

/// What a `try_scope` gave.
fn ended<T: Debug>(result: Result<T, ScopeError<&'static str>>) -> String {
    match result {
        Ok(value) => format!("Ok({value:?})"),
        Err(ScopeError { first: ScopeFailure::Error(first), rest }) => format!("Err({first}) then {rest:?}"),
        Err(ScopeError { first: ScopeFailure::Cancelled(reason), rest }) => {
            assert!(rest.is_empty());
            format!("cancelled: {}", why(&reason))
        }
    }
}

/// Awaits, and gives a panic as its message.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| message(&*payload))
}

/// Time until the deadline of the code that runs.
fn left() -> Option<Duration> {
    deadline().map(|deadline| deadline.duration_since(Instant::now()))
}

// ---- the runner -----------------------------------------------------------------------------------

/// Real time that a row may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Aborts the process, with a look at the runtime, if the row does not end.
fn watch(row: &'static Row, workers: usize, handle: Handle, trace: Trace) -> std::sync::mpsc::Sender<()> {
    let (done, wait) = channel();
    thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("row {:?} hangs with {workers} workers", row.name);
            eprintln!("events so far: {:#?}", trace.0.events.lock().unwrap());
            eprintln!("{:#?}", handle.snapshot());
            std::process::abort();
        }
    });
    done
}

/// Runs a row; returns its events and what the report says.
fn run(row: &'static Row, workers: usize) -> (Vec<String>, Vec<String>) {
    let runtime = Builder::new().workers(workers).grace(Duration::ZERO).start_paused(true).build().unwrap();
    let trace = Trace::default();
    let done = watch(row, workers, runtime.handle(), trace.clone());
    let theirs = trace.clone();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async move {
            theirs.0.start.set(Instant::now()).unwrap();
            (row.body)(theirs).await;
        });
    }));
    if let Err(payload) = result {
        trace.0.events.lock().unwrap().push(format!("main panicked: {}", message(&*payload)));
    }
    let report = runtime.shutdown();
    drop(done);
    let findings = report.findings.iter().map(|finding| {
        let name = finding.task.name.as_deref().unwrap_or("(no name)");
        format!("{:?} {name}", finding.verdict)
    });
    let incidents =
        report.incidents.iter().map(|incident| format!("{:?}: {}", incident.kind, incident.message));
    let mut told: Vec<String> = findings.chain(incidents).collect();
    if report.newborn > 0 {
        told.push(format!("{} newborn", report.newborn));
    }
    told.sort_unstable();
    let events = trace.0.events.lock().unwrap().clone();
    (events, told)
}

/// Puts events that have no order among themselves in the order of the table.
fn in_order(events: &[String], expected: &[&str]) -> Vec<String> {
    let mut left = events.iter();
    let mut ordered = Vec::new();
    for group in expected {
        let mut theirs: Vec<&str> = group.split(" || ").collect();
        let mut ours: Vec<String> = left.by_ref().take(theirs.len()).cloned().collect();
        let (mut sorted, table) = (ours.clone(), theirs.clone());
        sorted.sort_unstable();
        theirs.sort_unstable();
        if sorted == theirs {
            ours = table.into_iter().map(str::to_owned).collect();
        }
        ordered.extend(ours);
    }
    ordered.extend(left.cloned());
    ordered
}

/// Both lists side by side, the lines that differ marked; `None` if they are the same.
fn diff(what: &str, expected: &[&str], seen: &[String]) -> Option<String> {
    if expected == seen {
        return None;
    }
    let mut text = format!("  {what}: expected | seen\n");
    for at in 0..expected.len().max(seen.len()) {
        let (theirs, ours) = (expected.get(at), seen.get(at));
        let mark = if theirs.copied() == ours.map(String::as_str) { ' ' } else { '!' };
        let (theirs, ours) = (theirs.unwrap_or(&"-"), ours.map_or("-", String::as_str));
        writeln!(text, "  {mark} {theirs:<45} | {ours}").unwrap();
    }
    Some(text)
}

/// Runs a row so many times with each number of workers; tells the first difference.
fn check(row: &'static Row, rounds: usize) -> Option<String> {
    let workers = if row.one_worker.is_some() { 1..=1 } else { 1..=2 };
    for workers in workers.flat_map(|workers| std::iter::repeat_n(workers, rounds)) {
        let (events, report) = run(row, workers);
        let expected: Vec<&str> = row.expected.iter().flat_map(|group| group.split(" || ")).collect();
        let events = diff("events", &expected, &in_order(&events, row.expected));
        let report = diff("report", row.report, &report);
        if events.is_some() || report.is_some() {
            let (name, source) = (row.name, row.source);
            let (events, report) = (events.unwrap_or_default(), report.unwrap_or_default());
            return Some(format!("{name} ({workers} workers)\n  {source}\n{events}{report}"));
        }
    }
    None
}

#[test]
fn every_row() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // Panics that a row wants.
        if !message(info.payload()).starts_with("row: ") {
            before(info);
        }
    }));
    let only = std::env::var("LEAKFREE_CONFORMANCE_ROW").unwrap_or_default();
    let rounds = std::env::var("LEAKFREE_CONFORMANCE_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let rows: Vec<&'static Row> = TABLE.iter().copied().flatten().collect();
    let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "names are unique");

    let mut failures = Vec::new();
    for row in rows.iter().filter(|row| row.name.contains(&only)) {
        let failure = check(row, rounds);
        match (failure, row.known) {
            (None, None) => {}
            (Some(failure), None) => failures.push(failure),
            (Some(failure), Some(why)) => eprintln!("known: {why}\n{failure}"),
            (None, Some(_)) => failures.push(format!("{}: holds now; it is no longer `known`\n", row.name)),
        }
    }
    drop(panic::take_hook());
    let (failed, all) = (failures.len(), rows.len());
    assert!(failures.is_empty(), "{failed} failures in {all} rows:\n\n{}", failures.join("\n"));
}

// ---- the table ------------------------------------------------------------------------------------

const TABLE: &[&[Row]] = &[
    NORMAL, TRY, SUPERVISOR, PANICS, CANCEL, REFUSED, DEADLINES, GRACES, SHIELDS, CLEANUPS, DAEMONS, LIMITS,
    CHILDREN, HALF_WAY, MOVED, DEADLOCKS, TOKENS, OUTPUTS, ROOT,
];

const NORMAL: &[Row] = &[
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

const TRY: &[Row] = &[
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

const SUPERVISOR: &[Row] = &[
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

const PANICS: &[Row] = &[
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

const CANCEL: &[Row] = &[
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

const REFUSED: &[Row] = &[
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

const DEADLINES: &[Row] = &[
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

const GRACES: &[Row] = &[
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

const SHIELDS: &[Row] = &[
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

const CLEANUPS: &[Row] = &[
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

const DAEMONS: &[Row] = &[
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

const LIMITS: &[Row] = &[
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

const CHILDREN: &[Row] = &[
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

const HALF_WAY: &[Row] = &[
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

const MOVED: &[Row] = &[
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

const DEADLOCKS: &[Row] = &[
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

const TOKENS: &[Row] = &[
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

const OUTPUTS: &[Row] = &[
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

const ROOT: &[Row] = &[
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
