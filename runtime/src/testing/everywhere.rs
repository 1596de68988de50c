//! A future cancelled, delayed or failed at each place where it waits.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::report::verdict::{Occasion, Report};
use crate::runtime::{Builder, run_body_seeded};
use crate::task::join::panic_message;
use crate::time::{Sleep, sleep};

/// Runs a future to its end, counts how often it had to wait, and then runs a fresh one for each of these suspension points, cancelled there:
/// once where it has just parked, and once where it has been woken, in place of the next poll, so that what was delivered to it
/// meanwhile must not get lost. Each run has a [simulation](Builder::seed) of its own with the same seed, so that all go the same way up to
/// the cancel.
///
/// `make` is called in the runtime and may spawn what the future needs. What is found: panics; tasks that are alive when the future has ended or
/// was cancelled; and runs that hang. Whether values were lost only the caller can say: see [`Probe::cancel_everywhere_then`].
///
/// ```
/// use leakfree::testing::cancel_everywhere;
///
/// let found = cancel_everywhere(|| leakfree::scope(async |s| {
///     let (tx, mut rx) = leakfree::sync::mpsc::channel(1);
///     s.spawn(async move {
///         for n in 0..3 {
///             let _ = tx.send(n).await;
///         }
///     });
///     while rx.recv().await.is_some() {}
/// }));
/// assert!(found.points > 0);
/// found.assert_clean();
///
/// // Cancelled where it yields, this one leaves its task behind.
/// let found = cancel_everywhere(|| async {
///     let notify = std::sync::Arc::new(leakfree::sync::Notify::new());
///     let theirs = notify.clone();
///     let task = leakfree::spawn(async move { theirs.notified().await });
///     leakfree::yield_now().await;
///     notify.notify_one();
///     task.await.unwrap();
/// });
/// assert!(!found.is_clean());
/// ```
#[track_caller]
pub fn cancel_everywhere<Fut: Future>(make: impl FnMut() -> Fut) -> Everywhere {
    Probe::new().cancel_everywhere(make)
}

/// Runs a future as [`cancel_everywhere`] does, with a fault for each place in place of a cancel: at each suspension point a delay (an
/// hour of virtual time between the wake and the next poll), and for each [`Faults::may_fail`] that the future comes to an error, in place of
/// the operation, and after it.
///
/// ```
/// use leakfree::testing::{fault_everywhere, Injected};
///
/// async fn store(value: u32) -> Result<(), std::io::Error> {
///     leakfree::yield_now().await;
///     Ok(drop(value))
/// }
///
/// let found = fault_everywhere(|faults| async move {
///     for n in 0..3 {
///         // Must cope with an error of each.
///         let _ = faults.may_fail(store(n)).await;
///     }
/// });
/// found.assert_clean();
/// assert_eq!((found.points, found.operations), (3, 3));
///
/// let found = fault_everywhere(|faults| async move {
///     faults.may_fail(store(1)).await.unwrap();
/// });
/// assert_eq!(found.failures.len(), 2); // an error before, and one after
/// ```
#[track_caller]
pub fn fault_everywhere<Fut: Future>(make: impl FnMut(Faults) -> Fut) -> Everywhere {
    Probe::new().fault_everywhere(make)
}

/// Options of [`cancel_everywhere`] and [`fault_everywhere`].
#[derive(Clone, Debug)]
pub struct Probe {
    seed: u64,
    schedules: u64,
    workers: usize,
    delay: Duration,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe::new()
    }
}

impl Probe {
    /// One schedule, of seed 0, with two workers.
    pub fn new() -> Probe {
        Probe { seed: 0, schedules: 1, workers: 2, delay: Duration::from_secs(3600) }
    }

    /// The first seed. Default: 0.
    pub fn seed(mut self, seed: u64) -> Probe {
        self.seed = seed;
        self
    }

    /// Under how many schedules everything is done, each with its own places. Default: 1.
    pub fn schedules(mut self, schedules: u64) -> Probe {
        self.schedules = schedules;
        self
    }

    /// The number of workers. Default: 2.
    ///
    /// # Panics
    /// If it is zero, when the probe runs.
    pub fn workers(mut self, workers: usize) -> Probe {
        self.workers = workers;
        self
    }

    /// How long a delay is, in virtual time. Default: an hour.
    pub fn delay(mut self, delay: Duration) -> Probe {
        self.delay = delay;
        self
    }

    /// As [`cancel_everywhere`].
    #[track_caller]
    pub fn cancel_everywhere<Fut: Future>(&self, mut make: impl FnMut() -> Fut) -> Everywhere {
        self.cancel_everywhere_then(|| (make(), async |_| ()))
    }

    /// As [`cancel_everywhere`], with a check: `make` returns a future and what looks at the state afterwards, an async closure that is given
    /// the future's output, or `None` if it was cancelled. What it panics with is in the findings, as are the tasks that are alive when it
    /// has returned.
    ///
    /// ```
    /// use leakfree::sync::{Mutex, mpsc};
    /// use leakfree::testing::Probe;
    ///
    /// // Receiving is cancel safe: what was not received is still there.
    /// let found = Probe::new().schedules(10).cancel_everywhere_then(|| {
    ///     let (tx, rx) = mpsc::channel(1);
    ///     let sender = leakfree::spawn(async move { tx.send("a value").await });
    ///     let rx = std::rc::Rc::new(Mutex::new(rx));
    ///     let theirs = rx.clone();
    ///     let receives = async move { theirs.lock().await.recv().await };
    ///     let then = async move |received: Option<Option<&'static str>>| {
    ///         let value = match received {
    ///             Some(value) => value,
    ///             None => rx.lock().await.recv().await,
    ///         };
    ///         assert_eq!(value, Some("a value"));
    ///         sender.await.unwrap().unwrap();
    ///     };
    ///     (receives, then)
    /// });
    /// found.assert_clean();
    /// ```
    #[track_caller]
    pub fn cancel_everywhere_then<Fut, Then>(&self, mut make: impl FnMut() -> (Fut, Then)) -> Everywhere
    where
        Fut: Future,
        Then: AsyncFnOnce(Option<Fut::Output>),
    {
        let site = Location::caller();
        let mut found = Everywhere::default();
        for seed in self.seeds() {
            let Some(faults) = self.first(seed, site, &mut found, &mut |_| make()) else { continue };
            for point in 1..=faults.points.get() {
                for place in [Place::Parked(point), Place::Woken(point)] {
                    self.run(seed, site, place, &mut found, &mut |_| make());
                }
            }
        }
        found
    }

    /// As [`fault_everywhere`].
    #[track_caller]
    pub fn fault_everywhere<Fut: Future>(&self, mut make: impl FnMut(Faults) -> Fut) -> Everywhere {
        self.fault_everywhere_then(|faults| (make(faults), async |_| ()))
    }

    /// As [`fault_everywhere`], with a check as in [`cancel_everywhere_then`](Probe::cancel_everywhere_then). The future always has an output.
    #[track_caller]
    pub fn fault_everywhere_then<Fut, Then>(&self, mut make: impl FnMut(Faults) -> (Fut, Then)) -> Everywhere
    where
        Fut: Future,
        Then: AsyncFnOnce(Option<Fut::Output>),
    {
        let site = Location::caller();
        let mut found = Everywhere::default();
        for seed in self.seeds() {
            let Some(faults) = self.first(seed, site, &mut found, &mut make) else { continue };
            for point in 1..=faults.points.get() {
                self.run(seed, site, Place::Delayed(point), &mut found, &mut make);
            }
            for operation in 1..=faults.operations.get() {
                for place in [Place::FailedBefore(operation), Place::FailedAfter(operation)] {
                    self.run(seed, site, place, &mut found, &mut make);
                }
            }
        }
        found
    }

    fn seeds(&self) -> impl Iterator<Item = u64> {
        let first = self.seed;
        (0..self.schedules).map(move |n| first.wrapping_add(n))
    }

    /// The run without a fault, which counts. `None` if it fails already.
    fn first<Fut, Then>(
        &self,
        seed: u64,
        site: &'static Location<'static>,
        found: &mut Everywhere,
        make: &mut impl FnMut(Faults) -> (Fut, Then),
    ) -> Option<Rc<Counts>>
    where
        Fut: Future,
        Then: AsyncFnOnce(Option<Fut::Output>),
    {
        let failures = found.failures.len();
        let counts = self.run(seed, site, Place::Nowhere, found, make);
        found.points += counts.points.get();
        found.operations += counts.operations.get();
        (failures == found.failures.len()).then_some(counts)
    }

    fn run<Fut, Then>(
        &self,
        seed: u64,
        site: &'static Location<'static>,
        place: Place,
        found: &mut Everywhere,
        make: &mut impl FnMut(Faults) -> (Fut, Then),
    ) -> Rc<Counts>
    where
        Fut: Future,
        Then: AsyncFnOnce(Option<Fut::Output>),
    {
        let builder = Builder::new().workers(self.workers).seed(seed).grace(Duration::ZERO);
        let runtime = builder.build().expect("the runtime of a probe starts");
        let counts = Rc::new(Counts { place, ..Counts::default() });
        let (theirs, delay) = (Rc::clone(&counts), self.delay);
        let body = async {
            let (future, then) = make(Faults(Rc::clone(&theirs)));
            let cut =
                Cut { future: Some(Box::pin(future)), counts: Rc::clone(&theirs), delay, delayed: None };
            let output = cut.await;
            theirs.checks.set(true);
            then(output).await;
        };
        let (output, given_up) = run_body_seeded(&runtime, true, true, site, body);
        let report = runtime.shutdown_as(Occasion::TestEnd);
        let what = match (output, given_up) {
            (_, Some(given_up)) => Some(What::Hang(Box::new(given_up.report))),
            (Err(payload), None) if counts.checks.get() => {
                Some(What::Check(panic_message(&*payload).to_owned()))
            }
            (Err(payload), None) => Some(What::Panic(panic_message(&*payload).to_owned())),
            (Ok(()), None) if !report.is_clean() => Some(What::Leak(Box::new(report))),
            (Ok(()), None) => None,
        };
        found.runs += 1;
        found.failures.extend(what.map(|what| Failure { place, seed, what }));
        counts
    }
}

/// What [`cancel_everywhere`] or [`fault_everywhere`] has found.
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Everywhere {
    /// How often the future had to wait, added up over the schedules.
    pub points: usize,
    /// How many [`Faults::may_fail`] it came to, added up over the schedules.
    pub operations: usize,
    /// How many runs there were.
    pub runs: usize,
    /// What went wrong; at most one for each run.
    pub failures: Vec<Failure>,
}

impl Everywhere {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Asserts that nothing went wrong.
    ///
    /// # Panics
    /// With all failures, if there are any.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for Everywhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Everywhere { points, operations, runs, failures } = self;
        write!(f, "{} of {runs} runs failed ({points} suspension points", failures.len())?;
        if *operations > 0 {
            write!(f, ", {operations} operations that may fail")?;
        }
        f.write_str(")")?;
        failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}

/// A run that went wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Where the future was cancelled, delayed or failed.
    pub place: Place,
    /// The seed of the schedule.
    pub seed: u64,
    /// What went wrong.
    pub what: What,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, seed {}: {}", self.place, self.seed, self.what)
    }
}

/// Where a future is cancelled, delayed or failed. Suspension points and operations are counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Place {
    /// The run without a fault.
    #[default]
    Nowhere,
    /// Cancelled where it has just parked.
    Parked(usize),
    /// Cancelled when it has been woken from there, in place of the next poll.
    Woken(usize),
    /// Polled late after it was woken from there.
    Delayed(usize),
    /// An operation fails and is never begun.
    FailedBefore(usize),
    /// An operation succeeds, and says that it failed.
    FailedAfter(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Nowhere => f.write_str("without any fault"),
            Place::Parked(point) => write!(f, "cancelled at suspension point {point}, parked"),
            Place::Woken(point) => write!(f, "cancelled at suspension point {point}, woken"),
            Place::Delayed(point) => write!(f, "delayed at suspension point {point}"),
            Place::FailedBefore(operation) => write!(f, "operation {operation} failed before it began"),
            Place::FailedAfter(operation) => write!(f, "operation {operation} failed after its end"),
        }
    }
}

/// What went wrong in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// Tasks were left.
    Leak(Box<Report>),
    /// The future, or its drop, panicked.
    Panic(String),
    /// The check that followed it panicked: something was lost, say.
    Check(String),
    /// Nothing could run any more, or it went on for ever.
    Hang(Box<Report>),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Leak(report) => write!(f, "it leaked:\n{report}"),
            What::Panic(message) => write!(f, "it panicked: {message}"),
            What::Check(message) => write!(f, "the check says: {message}"),
            What::Hang(report) => write!(f, "it hangs:\n{report}"),
        }
    }
}

// ---- the future under test ------------------------------------------------------------------------

/// What a run counts.
#[derive(Default, Debug)]
struct Counts {
    place: Place,
    points: Cell<usize>,
    operations: Cell<usize>,
    checks: Cell<bool>,
}

/// Counts a future's suspension points, and cancels or delays it at one of them.
struct Cut<F> {
    /// `None` when it has ended or was cancelled.
    future: Option<Pin<Box<F>>>,
    counts: Rc<Counts>,
    delay: Duration,
    delayed: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let points = this.counts.points.get();
        match this.counts.place {
            Place::Woken(point) if point == points => {
                this.future = None;
                return Poll::Ready(None);
            }
            Place::Delayed(point) if point == points => {
                let delay = this.delay;
                ready!(this.delayed.get_or_insert_with(|| Box::pin(sleep(delay))).as_mut().poll(cx));
            }
            _ => {}
        }
        let future = this.future.as_mut().expect("it is not polled after its end");
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            this.future = None;
            return Poll::Ready(Some(output));
        }
        this.counts.points.set(points + 1);
        if this.counts.place == Place::Parked(points + 1) {
            this.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// Says which operations of a future may fail; see [`fault_everywhere`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Faults(Rc<Counts>);

impl Faults {
    /// An operation that may fail: in one run in place of being begun, in one after its end, in all others as it does by itself. Operations are
    /// numbered by their first polls.
    ///
    /// # Cancel safety
    /// That of the operation.
    pub fn may_fail<F, T, E>(&self, operation: F) -> MayFail<F>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Injected>,
    {
        MayFail { operation: Box::pin(operation), faults: self.clone(), number: None }
    }
}

/// The future of [`Faults::may_fail`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct MayFail<F> {
    operation: Pin<Box<F>>,
    faults: Faults,
    number: Option<usize>,
}

impl<F, T, E> Future for MayFail<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Injected>,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = &mut *self;
        let counts = &*this.faults.0;
        let number = *this.number.get_or_insert_with(|| {
            counts.operations.set(counts.operations.get() + 1);
            counts.operations.get()
        });
        if counts.place == Place::FailedBefore(number) {
            return Poll::Ready(Err(Injected(()).into()));
        }
        let result = ready!(this.operation.as_mut().poll(cx));
        Poll::Ready(match result {
            Ok(_) if counts.place == Place::FailedAfter(number) => Err(Injected(()).into()),
            result => result,
        })
    }
}

impl<F> fmt::Debug for MayFail<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MayFail").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The error that [`fault_everywhere`] injects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected(());

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error injected by `fault_everywhere`")
    }
}

impl Error for Injected {}

impl From<Injected> for io::Error {
    fn from(injected: Injected) -> io::Error {
        io::Error::other(injected)
    }
}
