//! What may go wrong around a runtime: panics in every place, wakes for nothing, a system that gives no thread and no descriptor, signals,
//! a process that is stopped, small stacks, and being started and stopped over and over.
//!
//! `LEAKFREE_CYCLES=n` starts and stops n runtimes (1000), `LEAKFREE_WAKES=n` wakes one task n times for nothing (1,000,000).

// A wake by value of a clone is another path than one by reference.
#![allow(clippy::waker_clone_wake)]

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::{Duration, Instant};

use leakfree::net::{TcpListener, TcpStream};
use leakfree::report::snapshot::Phase;
use leakfree::report::verdict::{Occasion, Verdict, judge};
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::oneshot;
use leakfree::time::{sleep, timeout};
use leakfree::{JoinHandle, scope, supervisor_scope, yield_now};
use leakfree_tests::{Drops, again, panic_message, parked, ready, runtime, until};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

// ---- panics -------------------------------------------------------------------------------------

/// Where one task panics.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Where {
    Nowhere,
    Poll,
    FutureDrop,
    OutputDrop,
    PollAndFutureDrop,
    FutureAndOutputDrop,
    /// In a child that it waits for in a scope.
    Child,
    ScopeBody,
}

const EVERYWHERE: [Where; 8] = [
    Where::Nowhere,
    Where::Poll,
    Where::FutureDrop,
    Where::OutputDrop,
    Where::PollAndFutureDrop,
    Where::FutureAndOutputDrop,
    Where::Child,
    Where::ScopeBody,
];

/// At which of its polls it ends or panics.
#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    First,
    Second,
    /// Never by itself: only a cancel ends it.
    Parked,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Keeps {
    Awaited,
    /// Until the task has ended, and then dropped.
    Late,
    DroppedAtOnce,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Cancelled {
    Not,
    AtOnce,
    OnceItRan,
}

/// Counted, and panics in its drop if it is told to.
struct Bomb {
    armed: Cell<bool>,
    alive: Arc<AtomicUsize>,
}

impl Bomb {
    fn new(armed: bool, alive: &Arc<AtomicUsize>) -> Bomb {
        alive.fetch_add(1, SeqCst);
        Bomb { armed: Cell::new(armed), alive: Arc::clone(alive) }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        // While another panic unwinds, a second one would abort: that is the language's rule, and no runtime's.
        if self.armed.replace(false) && !std::thread::panicking() {
            panic!("on purpose: a drop");
        }
    }
}

struct Subject {
    place: Where,
    when: When,
    polls: u32,
    ran: Arc<AtomicBool>,
    alive: Arc<AtomicUsize>,
    inner: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _bomb: Bomb,
}

impl Future for Subject {
    type Output = Bomb;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Bomb> {
        self.ran.store(true, SeqCst);
        self.polls += 1;
        if self.when == When::Second && self.polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.when == When::Parked {
            return Poll::Pending;
        }
        if matches!(self.place, Where::Poll | Where::PollAndFutureDrop) {
            panic!("on purpose: a poll");
        }
        if matches!(self.place, Where::Child | Where::ScopeBody) {
            let (place, bomb) = (self.place, Bomb::new(false, &self.alive));
            let inner = self.inner.get_or_insert_with(|| {
                Box::pin(scope(async move |s| {
                    s.spawn(async move {
                        let _bomb = bomb;
                        yield_now().await;
                        assert!(place != Where::Child, "on purpose: a child");
                        pending::<()>().await;
                    });
                    yield_now().await;
                    assert!(place != Where::ScopeBody, "on purpose: a scope's body");
                }))
            });
            std::task::ready!(inner.as_mut().poll(cx));
        }
        let armed = matches!(self.place, Where::OutputDrop | Where::FutureAndOutputDrop);
        Poll::Ready(Bomb::new(armed, &self.alive))
    }
}

/// Every place x when x handle x cancel, on so many workers: nothing aborts, nothing is left, and others go on.
fn panics(workers: usize) -> usize {
    let runtime = runtime(workers);
    let alive = Arc::new(AtomicUsize::new(0));
    let mut cases = 0;
    runtime.block_on(async {
        for place in EVERYWHERE {
            for when in [When::First, When::Second, When::Parked] {
                for keeps in [Keeps::Awaited, Keeps::Late, Keeps::DroppedAtOnce] {
                    for cancelled in [Cancelled::Not, Cancelled::AtOnce, Cancelled::OnceItRan] {
                        if when == When::Parked && cancelled == Cancelled::Not {
                            continue;
                        }
                        cases += 1;
                        let case =
                            format!("{place:?}, {when:?}, {keeps:?}, {cancelled:?} on {workers} workers");
                        one_panic(place, when, keeps, cancelled, &alive, &case).await;
                        assert_eq!(alive.load(SeqCst), 0, "{case}: something was not dropped");
                        assert_eq!(leakfree::spawn(async { 5 }).await.ok(), Some(5), "{case}: others go on");
                    }
                }
            }
        }
    });
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
    cases
}

async fn one_panic(
    place: Where,
    when: When,
    keeps: Keeps,
    cancelled: Cancelled,
    alive: &Arc<AtomicUsize>,
    case: &str,
) {
    let ran = Arc::new(AtomicBool::new(false));
    let armed = matches!(place, Where::FutureDrop | Where::PollAndFutureDrop | Where::FutureAndOutputDrop);
    let subject = Subject {
        place,
        when,
        polls: 0,
        ran: Arc::clone(&ran),
        alive: Arc::clone(alive),
        inner: None,
        _bomb: Bomb::new(armed, alive),
    };
    let mut handle: Option<JoinHandle<Bomb>> = Some(leakfree::spawn(subject));
    let abort = handle.as_ref().map(JoinHandle::abort_handle).expect("just spawned");
    if keeps == Keeps::DroppedAtOnce {
        // What a task gives that nobody takes is dropped by the runner, whose panic stays there.
        drop(handle.take());
    }
    match cancelled {
        Cancelled::Not => {}
        Cancelled::AtOnce => abort.abort(),
        Cancelled::OnceItRan => {
            until(|| ran.load(SeqCst)).await;
            abort.abort();
        }
    }
    until(|| abort.is_finished()).await;
    match (keeps, handle) {
        (Keeps::Awaited, Some(handle)) => match handle.await {
            // The output is ours: so is the panic of its drop.
            Ok(output) => _ = catch_unwind(AssertUnwindSafe(|| drop(output))),
            Err(error) => {
                let may_be_cancelled = cancelled != Cancelled::Not;
                assert!(error.is_panic() || may_be_cancelled && error.is_cancelled(), "{case}: {error}");
                assert!(!error.is_panic() || place != Where::Nowhere, "{case}: {error}");
            }
        },
        // A dropped handle drops the output, and its panic must not come out of there but as the panic of that drop.
        (_, handle) => _ = catch_unwind(AssertUnwindSafe(|| drop(handle))),
    }
    until(|| alive.load(SeqCst) == 0).await;
}

/// Panics when it is dropped, with a payload that does so, too.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("a payload's drop");
            }
        }
        std::panic::panic_any(Payload);
    }
}

struct WakesWorse;

impl Wake for WakesWorse {
    fn wake(self: Arc<Self>) {
        drop(Worse);
    }
}

#[test]
fn a_payload_that_panics_takes_no_worker_along() {
    let hooked = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&hooked);
    let runtime = Builder::new().workers(1).grace(Duration::ZERO).on_unwakeable(move |_| {
        theirs.store(true, SeqCst);
        drop(Worse);
    });
    let runtime = runtime.build().unwrap();
    runtime.block_on(async {
        let goes_on = async || assert_eq!(leakfree::spawn(async { 1 }).await.unwrap(), 1);
        // An output that nobody takes.
        drop(leakfree::spawn(async { Worse }));
        goes_on().await;
        // Children that are cancelled together.
        supervisor_scope(async |s| {
            for _ in 0..5 {
                let worse = Worse;
                s.spawn(async move {
                    let _worse = worse;
                    sleep(Duration::from_secs(3600)).await;
                });
            }
            until(|| Handle::current().snapshot().tasks.len() >= 5).await;
            s.cancel("all");
        })
        .await;
        goes_on().await;
        // A waker of others.
        let (tx, rx) = oneshot::channel::<()>();
        let mut child = leakfree::spawn(async { rx.await.unwrap() });
        let waker = Waker::from(Arc::new(WakesWorse));
        assert!(Pin::new(&mut child).poll(&mut Context::from_waker(&waker)).is_pending());
        tx.send(()).unwrap();
        child.await.unwrap();
        goes_on().await;
        // A hook.
        leakfree::spawn(pending::<()>());
        until(|| hooked.load(SeqCst)).await;
        goes_on().await;
    });
    let report = runtime.shutdown();
    assert_eq!(report.leaked(), 1, "the one that the hook was called with\n{report}");
}

#[test]
fn a_panic_anywhere_stays_where_it_is() {
    let cases = panics(1) + panics(2);
    assert_eq!(cases, 2 * 8 * 3 * (3 + 3 + 2));
}

/// A waker whose wake, or whose drop, panics.
fn panicking_waker(in_drop: bool) -> Waker {
    const WAKE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &WAKE),
        |_| panic!("on purpose: a wake"),
        |_| panic!("on purpose: a wake by reference"),
        |_| {},
    );
    const DROP: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &DROP),
        |_| {},
        |_| {},
        |_| panic!("on purpose: a drop"),
    );
    let vtable = if in_drop { &DROP } else { &WAKE };
    // SAFETY: the functions use no data.
    unsafe { Waker::new(std::ptr::null(), vtable) }
}

/// A join polled with a bad waker, and then the task ends in each way.
#[test]
fn a_joiners_bad_waker_harms_nobody_however_the_task_ends() {
    for workers in [1, 2] {
        let runtime = runtime(workers);
        runtime.block_on(async {
            for in_drop in [false, true] {
                for end in 0..4 {
                    let (tx, rx) = leakfree::sync::oneshot::channel::<bool>();
                    let mut handle = Box::pin(leakfree::spawn(async move {
                        let panics = rx.await.unwrap_or(false);
                        assert!(!panics, "on purpose: a poll");
                    }));
                    let waker = std::mem::ManuallyDrop::new(panicking_waker(in_drop));
                    assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    match end {
                        0 => _ = tx.send(false),
                        1 => _ = tx.send(true),
                        2 => drop(tx),
                        _ => handle.abort(),
                    }
                    until(|| handle.is_finished()).await;
                    let outcome = handle.await;
                    assert_eq!(outcome.is_err_and(|error| error.is_panic()), end == 1);
                    assert_eq!(leakfree::spawn(async { 6 }).await.ok(), Some(6));
                }
            }
        });
        assert!(runtime.shutdown().is_clean());
    }
}

/// Polled once with a waker that panics when it is woken; the future waits.
fn with_bad_waker<F: Future + Unpin>(mut future: F) -> F {
    let waker = std::mem::ManuallyDrop::new(panicking_waker(false));
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
    future
}

#[test]
fn bad_wakers_of_others_lose_no_value_of_a_channel() {
    use leakfree::sync::{broadcast, mpsc, oneshot, watch};

    // Two at once: were the first panic to unwind, the second would abort.
    let (tx, mut rx) = mpsc::channel(2);
    tx.try_send(0).unwrap();
    tx.try_send(1).unwrap();
    let (two, three) = (with_bad_waker(Box::pin(tx.send(2))), with_bad_waker(Box::pin(tx.send(3))));
    let mut got = Vec::new();
    assert_eq!(ready(rx.recv_many(&mut got, 8)), 2);
    assert_eq!((ready(two), ready(three)), (Ok(()), Ok(())));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(2), Ok(3)));
    let mut recv = with_bad_waker(Box::pin(rx.recv()));
    tx.try_send(4).unwrap();
    assert_eq!(ready(recv.as_mut()), Some(4));
    drop(recv);
    let permits = ready(tx.reserve_many(2)).unwrap();
    let waits = with_bad_waker(Box::pin(tx.reserve()));
    drop(permits);
    ready(waits).unwrap().send(5);
    // A receiver's waker whose drop panics: what was received meanwhile is the caller's.
    assert_eq!(rx.try_recv(), Ok(5));
    {
        let waker = std::mem::ManuallyDrop::new(panicking_waker(true));
        let mut recv = Box::pin(rx.recv());
        assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let waits = [with_bad_waker(Box::pin(tx.closed())), with_bad_waker(Box::pin(tx.closed()))];
    drop(rx);
    waits.into_iter().for_each(ready);

    let (tx, rx) = oneshot::channel();
    let rx = with_bad_waker(rx);
    tx.send("kept").unwrap();
    assert_eq!(ready(rx), Ok("kept"));

    let (tx, mut one) = watch::channel(0);
    let mut two = tx.subscribe();
    {
        let waits = [with_bad_waker(Box::pin(one.changed())), with_bad_waker(Box::pin(two.changed()))];
        assert_eq!(tx.send_replace(1), 0, "the old value is the caller's");
        assert_eq!(waits.map(ready), [Ok(()), Ok(())]);
    }
    assert_eq!((*one.borrow(), *two.borrow()), (1, 1));

    let (tx, mut one) = broadcast::channel(1);
    let mut two = tx.subscribe();
    let waits = (with_bad_waker(Box::pin(one.recv())), with_bad_waker(Box::pin(two.recv())));
    assert_eq!(tx.send(6), Ok(2));
    assert_eq!((ready(waits.0), ready(waits.1)), (Ok(6), Ok(6)));
}

#[test]
fn bad_wakers_of_others_lose_no_lock_and_no_permit() {
    use leakfree::sync::{Barrier, Mutex, Notify, RwLock, Semaphore};

    let semaphore = Semaphore::new(2);
    let both = semaphore.try_acquire_many(2).unwrap();
    let waits =
        [with_bad_waker(Box::pin(semaphore.acquire())), with_bad_waker(Box::pin(semaphore.acquire()))];
    drop(both);
    let given = waits.map(|wait| ready(wait).unwrap());
    assert_eq!(semaphore.available_permits(), 0);
    // Given, and dropped without a look at it: it goes on to the next with a bad waker.
    let waits =
        [with_bad_waker(Box::pin(semaphore.acquire())), with_bad_waker(Box::pin(semaphore.acquire()))];
    drop(given);
    let last = with_bad_waker(Box::pin(semaphore.acquire_many(2)));
    drop(waits);
    assert_eq!(ready(last).unwrap().num_permits(), 2);
    assert_eq!(semaphore.available_permits(), 2);

    let lock = RwLock::new(0);
    let write = lock.try_write().unwrap();
    let waits = [with_bad_waker(Box::pin(lock.read())), with_bad_waker(Box::pin(lock.read()))];
    drop(write);
    assert_eq!(waits.map(|wait| *ready(wait)), [0, 0]);
    assert!(lock.try_write().is_ok());

    let lock = Mutex::new(1);
    let guard = lock.try_lock().unwrap();
    let wait = with_bad_waker(Box::pin(lock.lock()));
    drop(guard);
    assert_eq!(*ready(wait), 1);
    assert!(lock.try_lock().is_ok());

    let notify = Notify::new();
    let waits = [with_bad_waker(Box::pin(notify.notified())), with_bad_waker(Box::pin(notify.notified()))];
    notify.notify_waiters();
    waits.into_iter().for_each(ready);

    let barrier = Barrier::new(3);
    let waits = [with_bad_waker(Box::pin(barrier.wait())), with_bad_waker(Box::pin(barrier.wait()))];
    assert!(ready(barrier.wait()).is_leader());
    waits.into_iter().for_each(|wait| assert!(!ready(wait).is_leader()));
}

/// Who waits for a scope, for a place under its bound, or for the next child to end, with a waker that panics on the worker that wakes it.
#[test]
fn bad_wakers_of_others_keep_no_scope_open() {
    for workers in [1, 2] {
        let runtime = runtime(workers);
        runtime.block_on(async {
            let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
            let mut waits = Box::pin(scope(async |s| {
                s.spawn(rx);
            }));
            // Not `pending` at once: the body is over after its first poll, and the child waits.
            waits = with_bad_waker(waits);
            tx.send(()).unwrap();
            waits.await;

            leakfree::Scope::builder()
                .max_concurrent(1)
                .scope(async |s: leakfree::Scope| {
                    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
                    s.spawn(rx);
                    let next = with_bad_waker(Box::pin(s.spawn_when_free(async { 7 })));
                    tx.send(()).unwrap();
                    assert_eq!(next.await.await.unwrap(), 7);

                    let mut children = s.children();
                    let (tx, rx) = leakfree::sync::oneshot::channel::<()>();
                    children.spawn(rx);
                    let next = with_bad_waker(Box::pin(children.join_next()));
                    tx.send(()).unwrap();
                    assert!(next.await.is_some());
                })
                .await;
        });
        assert!(runtime.shutdown().is_clean());
    }
}

// ---- wakes for nothing, and wakers that outlive everything -----------------------------------------

/// Leaves a scope half-way that has an error already, and a child yet behind a shield: the error stays with the scope.
async fn leave_an_error_behind<E: Send + 'static>(error: E) {
    let body = async move |s: leakfree::Scope<E>| {
        drop(s.spawn(leakfree::shield(sleep(Duration::from_millis(100)))));
        drop(s.spawn_try(async move {
            sleep(Duration::from_millis(5)).await;
            Err::<(), _>(error)
        }));
        pending::<Result<(), E>>().await
    };
    assert!(timeout(Duration::from_millis(30), leakfree::try_scope(body)).await.is_err());
}

/// Calls a function when it is dropped.
struct OnDrop(fn());

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[leakfree::test(paused)]
async fn an_error_that_nobody_came_for_is_dropped_under_no_lock() {
    leakfree::task_local! {
        static REQUEST: u64;
    }
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let error = OnDrop(|| {
        // That looks into what the task has inherited.
        let _ = REQUEST.try_get();
        DROPS.fetch_add(1, SeqCst);
    });
    REQUEST.sync_scope(7, || leakfree::spawn(leave_an_error_behind(error))).await.unwrap();
    assert_eq!(DROPS.load(SeqCst), 1);
}

#[leakfree::test(paused)]
async fn an_error_that_nobody_came_for_may_panic_as_it_is_dropped() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let error = OnDrop(|| {
        DROPS.fetch_add(1, SeqCst);
        panic!("in the drop of an error");
    });
    leakfree::scope(async |_| leave_an_error_behind(error).await).await;
    // The worker that had it in its hands goes on.
    leakfree::spawn(async {}).await.unwrap();
    assert_eq!(DROPS.load(SeqCst), 1);
}

#[leakfree::test(workers = 2)]
async fn a_million_wakes_for_nothing_cost_at_most_a_poll_each() {
    let wakes = number("LEAKFREE_WAKES", 1_000_000);
    let (polls, kept) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None::<Waker>)));
    let (counted, keeps) = (Arc::clone(&polls), Arc::clone(&kept));
    let handle = leakfree::spawn(poll_fn(move |cx| {
        counted.fetch_add(1, SeqCst);
        keeps.lock().unwrap().get_or_insert_with(|| cx.waker().clone());
        Poll::<()>::Pending
    }));
    until(|| kept.lock().unwrap().is_some()).await;
    let waker = kept.lock().unwrap().take().unwrap();
    // From two threads outside and from here; by reference and by value.
    let outside: Vec<_> = (0..2)
        .map(|_| {
            let waker = waker.clone();
            std::thread::spawn(move || {
                for n in 0..wakes / 3 {
                    if n % 2 == 0 { waker.wake_by_ref() } else { waker.clone().wake() }
                }
            })
        })
        .collect();
    for n in 0..wakes / 3 {
        waker.wake_by_ref();
        if n % 1024 == 0 {
            yield_now().await;
        }
    }
    outside.into_iter().for_each(|thread| thread.join().unwrap());
    handle.abort();
    assert!(handle.await.unwrap_err().is_cancelled());
    let seen = polls.load(SeqCst);
    assert!(seen <= 1 + wakes, "{seen} polls for {wakes} wakes");
    for _ in 0..1000 {
        waker.wake_by_ref();
    }
    yield_now().await;
    assert_eq!(polls.load(SeqCst), seen, "none after its end");
}

#[test]
fn wakers_kept_past_everything_do_nothing_on_any_thread() {
    let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let drops = Drops::new();
    let runtime = runtime(2);
    runtime.block_on(async {
        for n in 0..64 {
            let (theirs, guard) = (Arc::clone(&kept), drops.guard());
            let keep = poll_fn(move |cx| {
                let _guard = &guard;
                theirs.lock().unwrap().extend([cx.waker().clone(), cx.waker().clone()]);
                // Finished, panicked, aborted or left to the shutdown.
                match n % 4 {
                    0 => Poll::Ready(()),
                    1 => panic!("on purpose: a poll"),
                    _ => Poll::Pending,
                }
            });
            let handle = leakfree::spawn(keep);
            if n % 4 < 2 {
                let _ = handle.await;
            } else if n % 4 == 2 {
                handle.abort();
                let _ = handle.await;
            }
        }
        // But for those that were aborted before they ran.
        until(|| kept.lock().unwrap().len() >= 96).await;
        // Past their tasks' end, while the runtime runs.
        for waker in kept.lock().unwrap().iter() {
            waker.wake_by_ref();
        }
    });
    assert_eq!(runtime.shutdown().leaked(), 16, "those that were left to it");
    assert_eq!(drops.count(), 64);
    let wakers = std::mem::take(&mut *kept.lock().unwrap());
    std::thread::scope(|s| {
        for waker in wakers {
            s.spawn(move || {
                waker.wake_by_ref();
                waker.clone().wake();
                drop(waker);
            });
        }
    });
}

// ---- no threads ------------------------------------------------------------------------------------

/// Lets this process have no thread beyond `more`. False, and loudly so, if that cannot be done here: a user without
/// any thread is needed, and who may become one.
fn allow_threads(more: u64) -> bool {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // A user that nobody is, so that no other process counts.
    let nobody = 3_000_000_000 + std::process::id();
    // The limit binds only who is not root.
    let become_nobody = rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(nobody));
    let limit = Some(1 + more);
    if become_nobody.is_err()
        || setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit }).is_err()
    {
        eprintln!("!!! SKIPPED: no thread can be had: needs root, to become a user that has none");
        return false;
    }
    true
}

#[test]
fn without_threads_a_runtime_says_so_and_does_not_start() {
    if !again("without_threads_a_runtime_says_so_and_does_not_start") || !allow_threads(2) {
        return;
    }
    let error = Builder::new().workers(4).build().expect_err("two threads are not four");
    assert!(error.to_string().contains("could not start worker 2 of 4"), "{error}");
    assert!(error.to_string().contains("Raise the limit of threads"), "{error}");
    // Those that had started have ended: there is room for two again.
    let runtime = runtime(1);
    runtime.block_on(async {
        // One is left for blocking calls: those beyond wait their turn.
        let calls: Vec<_> = (0..8).map(|n| leakfree::spawn_blocking(move || n)).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.ok(), Some(n));
        }
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_blocking_call_without_a_thread_panics_clearly_and_leaves_nothing() {
    if !again("a_blocking_call_without_a_thread_panics_clearly_and_leaves_nothing") || !allow_threads(1) {
        return;
    }
    let runtime = runtime(1);
    let drops = Drops::new();
    runtime.block_on(async {
        let guard = drops.guard();
        let message = panic_message(|| drop(leakfree::spawn_blocking(move || drop(guard))));
        assert!(message.contains("could not start a thread for a blocking call"), "{message}");
        // In a task of its own the panic is that task's.
        let error = leakfree::spawn(async { leakfree::spawn_blocking(|| ()).await }).await.unwrap_err();
        assert!(error.is_panic());
        // What runs inside a worker's thread needs none.
        assert_eq!(leakfree::spawn(async { 4 }).await.ok(), Some(4));
    });
    let began = Instant::now();
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(drops.count(), 1, "the call that could not be made was dropped");
}

#[test]
fn a_runtime_dropped_in_async_context_without_threads_says_so() {
    if !again("a_runtime_dropped_in_async_context_without_threads_says_so") || !allow_threads(2) {
        return;
    }
    let outer = runtime(1);
    let inner = runtime(1);
    // Its shutdown would need a third.
    outer.block_on(async move { drop(inner) });
    assert!(outer.shutdown().is_clean());
}

// ---- no descriptors --------------------------------------------------------------------------------

/// What this process has used of a CPU; from its open `stat`.
fn cpu(stat: &std::fs::File) -> Duration {
    // utime and stime, in ticks of 10 ms; the second field may have spaces in it.
    let mut text = [0; 1024];
    let read = std::os::unix::fs::FileExt::read_at(stat, &mut text, 0).expect("it is open");
    let text = String::from_utf8_lossy(&text[..read]);
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

#[test]
fn a_listener_without_descriptors_waits_and_is_back_within_a_second() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !again("a_listener_without_descriptors_waits_and_is_back_within_a_second") {
        return;
    }
    let runtime = runtime(2);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // Both ends of the client's sockets are ours: they are opened before there is none left.
        let clients: Vec<_> = (0..3).map(|_| leakfree::net::TcpSocket::new_v4().unwrap()).collect();
        // Opened once, so that what looking at the clock of this process needs is there.
        let stat = std::fs::File::open("/proc/self/stat").expect("Linux");
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
        assert!(std::fs::File::open("/dev/null").is_err(), "there is none left");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        let server = leakfree::spawn(async move {
            let mut streams: Vec<TcpStream> = Vec::new();
            while streams.len() < 3 {
                let (stream, _) = listener.accept().await.expect("a shortage is waited for");
                counted.fetch_add(1, SeqCst);
                streams.push(stream);
            }
        });
        let mut connected = Vec::new();
        for client in clients {
            connected.push(client.connect(addr).await.expect("the kernel accepts for us"));
        }
        let (wall, spent) = (Instant::now(), cpu(&stat));
        leakfree::time::sleep(Duration::from_millis(1500)).await;
        let used = (cpu(&stat) - spent).as_secs_f64() / wall.elapsed().as_secs_f64();
        assert_eq!(accepted.load(SeqCst), 0);
        assert!(used < 0.10, "{:.1} % of a CPU while there was no descriptor", used * 100.0);
        setrlimit(Resource::Nofile, before).unwrap();
        let again = Instant::now();
        server.await.unwrap();
        let took = again.elapsed();
        println!("{:.1} % CPU without descriptors, back after {took:?}", used * 100.0);
        assert!(took < Duration::from_secs(1), "{took:?}");
        drop(connected);
    });
    assert!(runtime.shutdown().is_clean());
}

// ---- signals, stop and continue, clocks ---------------------------------------------------------------

#[test]
fn a_process_that_was_stopped_fires_each_timer_once() {
    const CHILD: &str = "LEAKFREE_TEST_STOPPED";
    if std::env::var_os(CHILD).is_some() {
        let runtime = runtime(2);
        runtime.block_on(async {
            let start = Instant::now();
            println!("ready");
            let fired: Vec<_> = (0..100_u64)
                .map(|n| {
                    leakfree::spawn(async move {
                        leakfree::time::sleep(Duration::from_millis(50 + 5 * n)).await;
                        start.elapsed() >= Duration::from_millis(50 + 5 * n)
                    })
                })
                .collect();
            let mut ticks = leakfree::time::interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(leakfree::time::MissedTickBehavior::Skip);
            let mut seen = 0;
            while start.elapsed() < Duration::from_millis(1500) {
                ticks.tick().await;
                seen += 1;
            }
            let mut in_time = 0;
            for handle in fired {
                in_time += usize::from(handle.await.expect("each fires, and once"));
            }
            println!("fired {in_time} ticks {seen}");
        });
        assert!(runtime.shutdown().is_clean());
        return;
    }
    use std::io::{BufRead, BufReader};
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_was_stopped_fires_each_timer_once", "--nocapture"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let kill = |signal| rustix::process::kill_process(pid, signal).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("ready")));
    // Stopped over most of its deadlines, and hit by signals that nobody listens to.
    std::thread::sleep(Duration::from_millis(100));
    kill(rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_millis(900));
    for _ in 0..100 {
        kill(rustix::process::Signal::WINCH);
        kill(rustix::process::Signal::CHILD);
    }
    kill(rustix::process::Signal::CONT);
    let said: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    let line = said.iter().find_map(|line| line.split_once("fired ")).expect("it ended").1;
    let (fired, ticks) = line.split_once(" ticks ").unwrap();
    assert_eq!(fired, "100");
    // 16 without the stop; what was missed is skipped.
    let ticks: u32 = ticks.parse().unwrap();
    assert!((3..=16).contains(&ticks), "{ticks}");
}

/// The wall clock may jump, for nothing reads it: what is measured is measured by the monotonic one.
#[test]
fn the_wall_clock_is_read_nowhere() {
    fn look(dir: &std::path::Path, files: &mut usize) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                *files += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                for word in ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime", "gettimeofday"] {
                    assert!(!text.contains(word), "{} reads the wall clock: {word}", path.display());
                }
            }
        }
    }
    let mut files = 0;
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/src"), &mut files);
    assert!(files > 100, "{files}");
}

// ---- who never yields, and the end -----------------------------------------------------------------------

#[test]
fn a_task_that_never_yields_is_seen_with_its_spawn_site_while_it_runs() {
    let runtime = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, running) = (Arc::clone(&stop), Arc::new(AtomicBool::new(false)));
    let runs = Arc::clone(&running);
    runtime.block_on(async {
        let line = line!() + 1;
        let handle = leakfree::scope::current().task().name("spins").spawn(async move {
            // Parked once: until then a task is counted as newborn, and not known by name.
            leakfree::time::sleep(Duration::from_millis(1)).await;
            runs.store(true, SeqCst);
            while !theirs.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        until(|| running.load(SeqCst)).await;
        let mut found = None;
        until(|| {
            found = Handle::current().snapshot().tasks.into_iter().find(|task| {
                task.name.as_deref() == Some("spins")
                    && task.running.as_ref().is_some_and(|running| running.since > Duration::from_millis(20))
            });
            found.is_some()
        })
        .await;
        let task = found.expect("found");
        assert_eq!(task.phase, Phase::Running);
        assert_eq!((task.spawned_at.file, task.spawned_at.line), (file!(), line));
        stop.store(true, SeqCst);
        handle.await.unwrap();
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_task_that_never_leaves_its_first_poll_is_named_with_its_spawn_site() {
    let runtime = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let line = line!() + 1;
    let handle = runtime.handle().spawn(async move {
        while !theirs.load(SeqCst) {
            std::hint::spin_loop();
        }
    });
    let id = handle.id().get();
    let long = Duration::from_millis(30);
    let found = loop {
        let snapshot = runtime.handle().snapshot();
        let poll = snapshot.newborn_polls.iter().find(|poll| poll.task == id && poll.since > long);
        if let Some(poll) = poll {
            assert_eq!((poll.spawned_at.file, poll.spawned_at.line), (file!(), line));
            assert!(snapshot.newborn == 1 && snapshot.tasks.is_empty());
            break snapshot;
        }
        std::thread::yield_now();
    };
    let text = judge(found, Occasion::Live).to_string();
    assert!(text.contains(&format!("polls task {id}, which has never parked")), "{text}");
    assert!(text.contains(&format!("spawned {}:{line}:", file!())), "{text}");
    stop.store(true, SeqCst);
    runtime.block_on(handle).unwrap();
    let gone = |snapshot: &leakfree::report::snapshot::Snapshot| snapshot.newborn_polls.is_empty();
    while !gone(&runtime.handle().snapshot()) {
        std::thread::yield_now();
    }
    assert!(runtime.shutdown().is_clean());
}

/// A worker that gets no time, as on a machine that is too busy: what stood in its queue is given up, and reported. It goes all the same when
/// the worker gets on, with all that the runtime has.
#[test]
fn what_a_shutdown_gave_up_goes_when_its_worker_gets_on() {
    struct Tells(mpsc::Sender<()>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (dropped, drops) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let runtime = Builder::new().workers(1).grace(Duration::ZERO).settle(Duration::ZERO).build().unwrap();
    let tells = Tells(dropped.clone());
    let parked = runtime.block_on(async move {
        let parked = leakfree::spawn(async move {
            let _tells = tells;
            pending::<()>().await;
        });
        until(|| Handle::current().snapshot().tasks.iter().any(|task| task.id == parked.id().get())).await;
        let (running, is_running) = oneshot::channel();
        let tells = Tells(dropped);
        drop(leakfree::spawn(async move {
            let _tells = tells;
            let _ = running.send(());
            let _ = wait.recv();
            yield_now().await;
        }));
        is_running.await.unwrap();
        parked.id().get()
    });
    let report = runtime.shutdown();
    let mut unresponsive = report
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Unresponsive)
        .flat_map(|f| &f.ids);
    assert!(unresponsive.any(|&id| id == parked), "{report}");
    assert!(drops.try_recv().is_err(), "they are still there");
    go.send(()).unwrap();
    for _ in 0..2 {
        drops.recv_timeout(Duration::from_secs(60)).expect("both are dropped when the worker gets on");
    }
}

/// A second after it, at the most, no code of a task runs any more, not even of one that goes round and round behind a shield.
#[test]
fn what_never_ends_behind_a_shield_stops_after_the_shutdown() {
    let runtime = Builder::new().workers(1).grace(Duration::ZERO).settle(Duration::ZERO).build().unwrap();
    let turns = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&turns);
    let runs = Arc::clone(&turns);
    runtime.block_on(async move {
        drop(leakfree::spawn(leakfree::shield(async move {
            loop {
                theirs.fetch_add(1, SeqCst);
                yield_now().await;
            }
        })));
        until(|| runs.load(SeqCst) > 0).await;
    });
    let report = runtime.shutdown();
    assert!(!report.is_clean(), "{report}");
    let patience = Instant::now() + Duration::from_secs(60);
    let (mut before, mut now) = (u64::MAX, turns.load(SeqCst));
    while before != now && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(200));
        (before, now) = (now, turns.load(SeqCst));
    }
    assert_eq!(before, now, "it still runs");
}

#[test]
fn a_shutdown_ends_in_time_whatever_the_tasks_do() {
    const GRACE: Duration = Duration::from_millis(50);
    let mut worst = Duration::ZERO;
    // Nobody; who waits; who spins; who blocks its worker; who yields for ever; who never lets go behind a shield; who panics; a blocking
    // call.
    for kind in 0..8 {
        let runtime = Builder::new().workers(2).grace(GRACE).settle(Duration::ZERO).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let running = Arc::new(AtomicBool::new(false));
        let (theirs, runs) = (Arc::clone(&stop), Arc::clone(&running));
        runtime.block_on(async {
            let shout = move || runs.store(true, SeqCst);
            match kind {
                0 => shout(),
                1 => drop(leakfree::spawn(async move {
                    shout();
                    pending::<()>().await;
                })),
                2 => drop(leakfree::spawn(async move {
                    shout();
                    while !theirs.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                })),
                3 => drop(leakfree::spawn(async move {
                    shout();
                    while !theirs.load(SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                })),
                4 => drop(leakfree::spawn(async move {
                    shout();
                    loop {
                        yield_now().await;
                    }
                })),
                5 => drop(leakfree::spawn(leakfree::shield(async move {
                    shout();
                    pending::<()>().await;
                }))),
                6 => drop(leakfree::spawn(async move {
                    struct Panics;
                    impl Drop for Panics {
                        fn drop(&mut self) {
                            panic!("on purpose: a drop");
                        }
                    }
                    let _panics = Panics;
                    shout();
                    pending::<()>().await;
                })),
                _ => drop(leakfree::spawn_blocking(move || {
                    shout();
                    while !theirs.load(SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                })),
            }
            until(|| running.load(SeqCst)).await;
        });
        let start = Instant::now();
        let report = runtime.shutdown();
        let took = start.elapsed();
        assert_eq!(report.is_clean(), kind == 0, "{report}");
        stop.store(true, SeqCst);
        println!("kind {kind}: {took:?}");
        worst = worst.max(took);
    }
    println!("grace {GRACE:?}, the longest shutdown {worst:?}");
    // The promise is grace + 100 ms; the rest is for machines under load.
    assert!(worst < GRACE + Duration::from_millis(1000), "{worst:?}");
}

fn threads_and_descriptors() -> (usize, usize) {
    let count = |dir: &str| std::fs::read_dir(dir).expect("Linux").count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
fn starting_and_stopping_leaves_no_thread_and_no_descriptor() {
    if !again("starting_and_stopping_leaves_no_thread_and_no_descriptor") {
        return;
    }
    let before = threads_and_descriptors();
    let cycles = number("LEAKFREE_CYCLES", 1000);
    for n in 0..cycles {
        let runtime = runtime(1 + (n % 3) as usize);
        match n % 4 {
            0 => {}
            1 => runtime.block_on(async { leakfree::spawn(yield_now()).await.unwrap() }),
            2 => drop(runtime.spawn(pending::<()>())),
            _ => assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 3)).ok(), Some(3)),
        }
        assert_eq!(runtime.shutdown().leaked(), u64::from(n % 4 == 2));
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while threads_and_descriptors() != before && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = threads_and_descriptors();
    assert_eq!(after, before, "threads and descriptors, after {cycles} cycles and before");
}

// ---- small stacks ------------------------------------------------------------------------------------------

/// The standard library reads the size of new threads' stacks from this variable, in bytes.
#[test]
fn deep_trees_need_little_stack() {
    const STACK: &str = "RUST_MIN_STACK";
    if std::env::var_os(STACK).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deep_trees_need_little_stack", "--nocapture"])
            .env(STACK, (256 << 10).to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        return assert!(output.status.success(), "{said}");
    }
    let depth = number("LEAKFREE_DEPTH", 100_000);
    // A task below a task below a task; the bottom reports, and the top is cancelled.
    fn nest(depth: u64, bottom: Arc<AtomicBool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if depth == 0 {
                bottom.store(true, SeqCst);
                return pending().await;
            }
            scope(async |s| _ = s.spawn(nest(depth - 1, bottom))).await;
        })
    }
    let run = move || {
        let runtime = runtime(2);
        let drops = Drops::new();
        let guard = drops.guard();
        runtime.block_on(async {
            let bottom = Arc::new(AtomicBool::new(false));
            let handle = leakfree::scope::current().task().name("top").spawn({
                let bottom = Arc::clone(&bottom);
                async move {
                    let _guard = guard;
                    nest(depth, bottom).await;
                }
            });
            until(|| bottom.load(SeqCst)).await;
            parked("top").await;
            let start = Instant::now();
            handle.abort();
            assert!(handle.await.unwrap_err().is_cancelled());
            println!("a tree {depth} deep, cancelled in {:?}", start.elapsed());
        });
        assert_eq!(drops.count(), 1);
        assert!(runtime.shutdown().is_clean());
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

// ---- many at once ------------------------------------------------------------------------------------------

#[test]
fn a_hundred_thousand_children_are_cancelled_while_others_go_on() {
    const CHILDREN: usize = 100_000;
    let runtime = runtime(2);
    let drops = Drops::new();
    runtime.block_on(async {
        let (cancel, cancelled) = leakfree::sync::oneshot::channel::<()>();
        let (parked, all) = (Arc::new(AtomicUsize::new(0)), drops.clone());
        let arrived = Arc::clone(&parked);
        let crowd = leakfree::spawn(scope(async move |s| {
            for _ in 0..CHILDREN {
                let (guard, arrived) = (all.guard(), Arc::clone(&arrived));
                s.spawn(async move {
                    let _guard = guard;
                    arrived.fetch_add(1, SeqCst);
                    pending::<()>().await;
                });
            }
            let _ = cancelled.await;
            s.cancel("enough");
        }));
        until(|| parked.load(SeqCst) == CHILDREN).await;
        // Another, which the cancel has nothing to do with: how long it waits for its turns.
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let other = leakfree::spawn(async move {
            let mut waits = Vec::new();
            while !stopped.load(SeqCst) {
                let start = Instant::now();
                yield_now().await;
                waits.push(start.elapsed());
            }
            waits
        });
        let start = Instant::now();
        cancel.send(()).unwrap();
        crowd.await.unwrap();
        let took = start.elapsed();
        stop.store(true, SeqCst);
        let mut waits = other.await.unwrap();
        waits.sort_unstable();
        let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
        let worst = waits.last().copied().unwrap_or_default();
        println!(
            "{CHILDREN} children cancelled in {took:?}; another's {} turns: p99 {p99:?}, longest {worst:?}",
            waits.len()
        );
        assert_eq!(drops.count(), CHILDREN);
        // The promise is 100 ms and 1 ms; the rest is for debug builds and machines under load.
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    assert!(runtime.shutdown().is_clean());
}
