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

mod bodies;
mod cancels;
mod children;
mod cleanups;
mod deadlines;
mod failures;
mod owners;
mod shields;

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
    bodies::NORMAL,
    failures::TRY,
    failures::SUPERVISOR,
    failures::PANICS,
    cancels::CANCEL,
    cancels::REFUSED,
    deadlines::DEADLINES,
    deadlines::GRACES,
    shields::SHIELDS,
    cleanups::CLEANUPS,
    cleanups::DAEMONS,
    children::LIMITS,
    children::CHILDREN,
    owners::HALF_WAY,
    owners::MOVED,
    owners::DEADLOCKS,
    cancels::TOKENS,
    bodies::OUTPUTS,
    bodies::ROOT,
];
