//! What the tests share.

pub mod corpus;
pub mod protobuf;
pub mod snapshots;

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use leakfree::report::snapshot::TaskInfo;
use leakfree::runtime::{Builder, Handle, Runtime};

/// A runtime whose shutdown does not wait for leaks.
pub fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).grace(Duration::ZERO).build().expect("a runtime starts")
}

/// Prints past the test harness, which keeps what is printed until the test ends, and ends all tests: this one does not.
pub fn give_up(text: &str) -> ! {
    say(text);
    std::process::exit(101);
}

/// Prints past the test harness.
pub fn say(text: &str) {
    // There is nobody to be told that it did not work.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Polls `condition` from within a task until it holds. Each look is a yield apart; a test that hangs here is
/// ended by the harness's own patience.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        leakfree::yield_now().await;
        // Workers of other kinds (the blocking pool, plain threads) need the core, too.
        std::thread::yield_now();
    }
}

/// The parked task of that name in a live runtime, as soon as it is parked.
pub async fn parked(name: &str) -> TaskInfo {
    let mut found = None;
    until(|| {
        let tasks = Handle::current().snapshot().tasks;
        found = tasks.into_iter().find(|task| task.name.as_deref() == Some(name) && task.parked.is_some());
        found.is_some()
    })
    .await;
    found.expect("until found it")
}

/// Parks a task on an expression, and returns what a snapshot says of it and the line that it was on. Then the task is aborted, and
/// what it held is free again.
#[macro_export]
macro_rules! park {
    ($future:expr) => {{
        let line = line!();
        let handle = leakfree::scope::current().task().name(concat!("line ", line!())).spawn(async move {
            let _ = $future.await;
        });
        let task = $crate::parked(concat!("line ", line!())).await;
        handle.abort();
        let _ = handle.await;
        (task, line)
    }};
}

/// Counts how often it was made and dropped.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    /// None yet.
    pub fn new() -> Drops {
        Drops::default()
    }

    /// A value whose drop is counted.
    pub fn guard(&self) -> DropGuard {
        DropGuard(Arc::clone(&self.0))
    }

    /// Drops so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// See [`Drops`].
#[derive(Debug)]
pub struct DropGuard(Arc<AtomicUsize>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never ready, registers nothing, and holds a value until it is dropped.
#[derive(Debug)]
pub struct Holding<T>(pub T);

impl<T> Future for Holding<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A future that is polled by hand, outside a runtime, and whose wakes are counted.
#[derive(Debug)]
pub struct ByHand<F> {
    future: Pin<Box<F>>,
    wakes: Arc<Wakes>,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future> ByHand<F> {
    /// Not polled yet.
    pub fn new(future: F) -> ByHand<F> {
        ByHand { future: Box::pin(future), wakes: Arc::default() }
    }

    /// Polled once already, and pending.
    #[track_caller]
    pub fn pending(future: F) -> ByHand<F> {
        let mut by_hand = ByHand::new(future);
        assert!(by_hand.poll().is_pending(), "it did not have to wait");
        by_hand
    }

    /// One poll.
    pub fn poll(&mut self) -> Poll<F::Output> {
        let waker = Arc::clone(&self.wakes).into();
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Wakes so far.
    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// The output of a future that was woken just once and is ready now.
    #[track_caller]
    pub fn woken(mut self) -> F::Output {
        assert_eq!(self.wakes(), 1, "woken once");
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("woken and not ready"),
        }
    }

    /// Asserts that it still waits, and was not woken.
    #[track_caller]
    pub fn waits(&mut self) {
        assert_eq!(self.wakes(), 0, "nobody woke it");
        assert!(self.poll().is_pending());
    }

    /// The future, to be polled or dropped elsewhere.
    pub fn into_inner(self) -> Pin<Box<F>> {
        self.future
    }
}

/// The output of a future that is ready at once.
#[track_caller]
pub fn ready<F: Future>(future: F) -> F::Output {
    match ByHand::new(future).poll() {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it had to wait"),
    }
}

/// The message of the panic that `f` ends in.
#[track_caller]
pub fn panic_message(f: impl FnOnce()) -> String {
    let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("it should panic");
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast::<&str>().map_or_else(|_| String::new(), |text| (*text).to_owned()),
    }
}

/// A directory of its own for a test, removed at its end.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> TempDir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("leakfree-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a temporary directory can be made");
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A named pipe in it: opening one blocks until somebody opens the other end.
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success(), "a named pipe can be made");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Polls a future once, with the waker of the task that asks, and drops it.
pub async fn polled_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// For a test that needs a process of its own: runs the test `name` of this program again, in a new process, and fails if it fails there.
/// Whether this is that process.
#[track_caller]
pub fn again(name: &str) -> bool {
    const AGAIN: &str = "LEAKFREE_TEST_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let mut command = std::process::Command::new(program);
    let output =
        command.args(["--exact", name, "--nocapture"]).env(AGAIN, "1").output().expect("it runs again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Polls a future until it has waited `times` times, letting others run in between, and drops it there. Its output if it had no need to
/// wait so often.
pub async fn dropped_after<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        if let Poll::Ready(output) = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
        leakfree::yield_now().await;
    }
    None
}
