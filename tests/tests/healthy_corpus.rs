//! Programs that are well and look as if they were stuck: nobody may be called so.
//!
//! Each comes to rest where it tempts a proof, is looked at while it rests, from within and from a thread outside, among tasks that
//! come and go, and then goes on to its end. Whatever the moment, nobody is PROVEN anything. A row says so if it breaks on purpose
//! what DEADLOCKED assumes (a guard is moved to another task), or if it must be SUSPECT; then it must be seen, too.
//!
//! `LEAKFREE_CORPUS_ROUNDS` says how often each program runs, `LEAKFREE_CORPUS_ONLY` which.
//!
//! In simulation each runs under many schedules, `LEAKFREE_SCHEDULES` of them, and is looked at between steps:
//! `LEAKFREE_SCHEDULES=10000 cargo test --release -p leakfree-tests --test healthy_corpus simulation -- --nocapture`.

use std::collections::BTreeSet;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, mpsc as std_mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::select;
use futures::stream::FuturesUnordered;
use leakfree::net::{TcpListener, TcpStream};
use leakfree::report::snapshot::TaskInfo;
use leakfree::report::verdict::{Occasion, Report, Verdict, judge};
use leakfree::runtime::Handle;
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, OwnedMutexGuard, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot,
    watch,
};
use leakfree::testing::run_until_stalled;
use leakfree::time::{interval, sleep, timeout};
use leakfree::{JoinHandle, Scope, scope};
use leakfree_tests::corpus::{
    self, Body, WORKERS, comes_to_rest, is_wanted, rounds, seeds, simulation, spawn, under_seed,
};
use leakfree_tests::until;

const HOUR: Duration = Duration::from_secs(3600);

/// One row of the table.
struct Program {
    name: &'static str,
    run: Box<dyn Fn(Stage) -> Body>,
    /// Under a paused clock; it stands while a program holds it.
    paused: bool,
    /// What is said of it all the same, and must be.
    said: Option<Verdict>,
}

macro_rules! program {
    ($function:ident) => {
        Program {
            name: stringify!($function),
            run: Box::new(|stage| Box::pin($function(stage))),
            paused: false,
            said: None,
        }
    };
}

impl Program {
    fn paused(mut self) -> Program {
        self.paused = true;
        self
    }

    /// A guard is moved to another task or thread: what DEADLOCKED assumes does not hold.
    fn deadlocked_for_a_guard_was_moved(mut self) -> Program {
        self.said = Some(Verdict::Deadlocked);
        self
    }

    /// Who used the other end of a channel last is stuck or has ended; somebody else holds one, too.
    fn suspected(mut self) -> Program {
        self.said = Some(Verdict::Suspect);
        self
    }
}

fn programs() -> Vec<Program> {
    vec![
        // ---- the world outside
        program!(idle_server),
        program!(keep_alive),
        program!(lock_over_a_read),
        program!(foreign_oneshot),
        program!(foreign_channel_in_a_thread),
        program!(sender_in_a_thread),
        program!(receiver_in_a_thread),
        program!(ctrl_c),
        program!(waker_in_a_thread),
        program!(waker_in_a_global),
        program!(labelled_wait),
        program!(blocking_call_in_flight),
        program!(long_timer).paused(),
        program!(ticker_that_is_stopped),
        program!(join_polled_by_a_thread),
        // ---- locks
        program!(holder_is_a_thread),
        program!(holder_is_a_foreign_executor),
        program!(holder_is_a_blocking_call),
        program!(holder_sleeps).paused(),
        program!(holder_waits_for_a_foreign_waker),
        program!(holder_is_the_main_body),
        program!(guard_from_a_thread),
        program!(guard_left_behind_by_who_has_ended),
        program!(owned_guard_in_another_task),
        program!(guard_sent_away),
        program!(static_guard_sent_away).deadlocked_for_a_guard_was_moved(),
        program!(boxed_guard_dropped_elsewhere).deadlocked_for_a_guard_was_moved(),
        program!(permit_sent_away),
        program!(accept_loop_with_owned_permits),
        program!(timeout_in_a_lock_cycle).paused(),
        program!(deadline_around_a_holder).paused(),
        program!(readers_behind_a_writer),
        program!(semaphore_as_a_signal),
        program!(permits_from_nowhere),
        program!(cell_in_the_making),
        program!(lock_storm),
        program!(rwlock_storm),
        program!(semaphore_storm),
        // ---- tasks and scopes
        program!(timeout_in_a_join_cycle).paused(),
        program!(deadline_around_a_join_cycle).paused(),
        program!(one_arm_can_be_woken),
        program!(joins_in_a_set),
        program!(leaf_moves_to_another_task),
        program!(leaf_under_a_borrowed_waker),
        program!(leaf_dropped_elsewhere),
        program!(stale_leaf_beside_a_join),
        program!(leaf_polled_twice_beside_a_stale_one),
        program!(leaf_dropped_by_a_thread_within_the_poll),
        program!(leaf_polled_by_a_thread_within_the_poll),
        program!(leaf_polled_by_a_thread_before_the_poll),
        program!(place_in_a_queue_beside_a_join),
        program!(scope_moves_to_another_task),
        program!(task_waits_for_what_it_left),
        program!(body_that_a_siblings_failure_ends),
        program!(body_that_a_deadline_ends).paused(),
        program!(body_that_a_late_child_ends),
        program!(body_that_a_late_panic_ends),
        program!(children_under_a_deadline_of_a_body_around).paused(),
        program!(join_that_a_move_ends),
        program!(shielded_in_a_cancelled_scope),
        program!(daemon_at_rest),
        program!(held_back_child),
        program!(scope_waits_for_a_thread),
        program!(children_in_one_task),
        program!(next_child_is_on_its_way),
        program!(cancel_on_its_way),
        program!(join_storm),
        program!(scope_storm),
        // ---- channels and conditions
        program!(sender_in_a_live_task),
        program!(sender_in_a_global),
        program!(weak_sender),
        program!(full_channel_with_a_live_reader),
        program!(last_sender_has_ended).suspected(),
        program!(last_sender_is_stuck).suspected(),
        program!(watch_with_a_live_sender),
        program!(broadcast_with_a_live_sender),
        program!(notify_to_come),
        program!(barrier_to_fill),
        program!(set_once_to_come),
        program!(ping_pong),
    ]
}

// ---- the world outside --------------------------------------------------------------------------

async fn idle_server(stage: Stage) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = spawn("server", async move {
        select(pin!(listener.accept()), stopped).await;
    });
    stage.look(&["server: TcpListener::accept"]).await;
    drop(stop);
    server.await.unwrap();
}

/// Two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn keep_alive(stage: Stage) {
    let (server, client) = connection().await;
    let server = spawn("server", async move { server.read(&mut [0; 8]).await.unwrap() });
    let joins = spawn("joins", async move { server.await.unwrap() });
    stage.look(&["server: TcpStream read", "joins: JoinHandle"]).await;
    drop(client);
    assert_eq!(joins.await.unwrap(), 0);
}

async fn lock_over_a_read(stage: Stage) {
    let (server, client) = connection().await;
    let lock = Arc::new(Mutex::new(()));
    let (has, taken) = oneshot::channel();
    let theirs = Arc::clone(&lock);
    spawn("holder", async move {
        let _guard = theirs.lock().await;
        has.send(()).unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 2);
    });
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["holder: TcpStream read", "waiter: Mutex::lock"]).await;
    client.write_all(b"hi").await.unwrap();
    waiter.await.unwrap();
}

async fn foreign_oneshot(stage: Stage) {
    let (tx, rx) = futures::channel::oneshot::channel();
    let job = spawn("job", async move { rx.await.unwrap() });
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job", "joins: JoinHandle"]).await;
    tx.send(5).unwrap();
    assert_eq!(joins.await.unwrap(), 5);
}

async fn foreign_channel_in_a_thread(stage: Stage) {
    let (tx, mut rx) = futures::channel::mpsc::unbounded();
    let (go, gate) = std_mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        let _ = gate.recv();
        tx.unbounded_send(5).unwrap();
    });
    let job = spawn("job", async move { assert_eq!((rx.next().await, rx.next().await), (Some(5), None)) });
    stage.look(&["job"]).await;
    drop(go);
    sender.join().unwrap();
    job.await.unwrap();
}

async fn sender_in_a_thread(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let (go, gate) = std_mpsc::channel::<()>();
    let (has_sent, sent) = std_mpsc::channel();
    let sender = thread::spawn(move || {
        tx.blocking_send(1).unwrap();
        has_sent.send(()).unwrap();
        let _ = gate.recv();
        tx.blocking_send(2).unwrap();
    });
    sent.recv().unwrap();
    let (got, first) = oneshot::channel();
    let job = spawn("job", async move {
        assert_eq!(rx.recv().await, Some(1));
        got.send(()).unwrap();
        assert_eq!((rx.recv().await, rx.recv().await), (Some(2), None));
    });
    first.await.unwrap();
    stage.look(&["job: mpsc::Receiver::recv"]).await;
    drop(go);
    sender.join().unwrap();
    job.await.unwrap();
}

async fn receiver_in_a_thread(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let (go, gate) = std_mpsc::channel::<()>();
    let receiver = thread::spawn(move || {
        assert_eq!(rx.blocking_recv(), Some(1));
        let _ = gate.recv();
        assert_eq!((rx.blocking_recv(), rx.blocking_recv(), rx.blocking_recv()), (Some(2), Some(3), None));
    });
    let job = spawn("job", async move {
        for n in 1..4 {
            tx.send(n).await.unwrap();
        }
    });
    stage.look(&["job: mpsc::Sender::send"]).await;
    drop(go);
    job.await.unwrap();
    receiver.join().unwrap();
}

/// A handler of signals runs on a thread of its own.
async fn ctrl_c(stage: Stage) {
    let (pressed, presses) = std_mpsc::channel::<()>();
    let (tx, rx) = oneshot::channel();
    let handler = thread::spawn(move || {
        let _ = presses.recv();
        tx.send(()).unwrap();
    });
    let body = spawn("body", async move { rx.await.unwrap() });
    let joins = spawn("joins", async move { body.await.unwrap() });
    stage.look(&["body: oneshot::Receiver", "joins: JoinHandle"]).await;
    drop(pressed);
    joins.await.unwrap();
    handler.join().unwrap();
}

/// Hands its waker out at its first poll, and is ready at its second.
fn hands_out(give: impl FnOnce(Waker) + Send) -> impl Future<Output = ()> + Send {
    let mut give = Some(give);
    poll_fn(move |cx| match give.take() {
        Some(give) => {
            give(cx.waker().clone());
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
}

async fn waker_in_a_thread(stage: Stage) {
    let (give, wakers) = std_mpsc::channel::<Waker>();
    let (go, gate) = std_mpsc::channel::<()>();
    let holds = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        let _ = gate.recv();
        waker.wake();
    });
    let job = spawn("job", hands_out(move |waker| give.send(waker).unwrap()));
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job", "joins: JoinHandle"]).await;
    drop(go);
    holds.join().unwrap();
    joins.await.unwrap();
}

async fn waker_in_a_global(stage: Stage) {
    let global = Arc::new(StdMutex::new(None));
    let theirs = Arc::clone(&global);
    let job = spawn("job", hands_out(move |waker| *theirs.lock().unwrap() = Some(waker)));
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    let holder = spawn("holder", async move {
        let _guard = theirs.lock().await;
        has.send(()).unwrap();
        job.await.unwrap();
    });
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["job", "holder: JoinHandle", "waiter: Mutex::lock"]).await;
    let waker = global.lock().unwrap().take().unwrap();
    waker.wake();
    holder.await.unwrap();
    waiter.await.unwrap();
}

async fn labelled_wait(stage: Stage) {
    let (tx, rx) = futures::channel::oneshot::channel();
    let job = spawn("job", async move { leakfree::waiting("redis.get", rx).await.unwrap() });
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job: waiting", "joins: JoinHandle"]).await;
    tx.send(5).unwrap();
    assert_eq!(joins.await.unwrap(), 5);
}

async fn blocking_call_in_flight(stage: Stage) {
    let (go, gate) = std_mpsc::channel::<()>();
    let call = leakfree::spawn_blocking(move || gate.recv().is_err());
    let job = spawn("job", async move { assert!(call.await.unwrap()) });
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job: JoinHandle", "joins: JoinHandle"]).await;
    drop(go);
    joins.await.unwrap();
}

async fn long_timer(stage: Stage) {
    let clock = stage.hold_clock().await;
    let job = spawn("job", sleep(HOUR));
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job: sleep", "joins: JoinHandle"]).await;
    drop(clock);
    joins.await.unwrap();
}

async fn ticker_that_is_stopped(stage: Stage) {
    let (stop, stopped) = oneshot::channel::<()>();
    let ticker = spawn("ticker", async move {
        let mut every = interval(HOUR);
        let ticks = async {
            loop {
                every.tick().await;
            }
        };
        select(pin!(ticks), stopped).await;
    });
    stage.look(&["ticker: Interval::tick"]).await;
    drop(stop);
    ticker.await.unwrap();
}

async fn join_polled_by_a_thread(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let job = spawn("job", async move { rx.await.unwrap() });
    let joins = thread::spawn(move || futures::executor::block_on(job).unwrap());
    stage.look(&["job: oneshot::Receiver"]).await;
    tx.send(()).unwrap();
    until(|| joins.is_finished()).await;
    joins.join().unwrap();
}

// ---- locks --------------------------------------------------------------------------------------

async fn holder_is_a_thread(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let (has, taken) = std_mpsc::channel();
    let (go, gate) = std_mpsc::channel::<()>();
    let theirs = Arc::clone(&lock);
    let holder = thread::spawn(move || {
        let _guard = theirs.blocking_lock();
        has.send(()).unwrap();
        let _ = gate.recv();
    });
    taken.recv().unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    let joins = spawn("joins", async move { waiter.await.unwrap() });
    stage.look(&["waiter: Mutex::lock", "joins: JoinHandle"]).await;
    drop(go);
    holder.join().unwrap();
    joins.await.unwrap();
}

async fn holder_is_a_foreign_executor(stage: Stage) {
    let lock = Arc::new(RwLock::new(()));
    let (has, taken) = std_mpsc::channel();
    let (go, gate) = futures::channel::oneshot::channel::<()>();
    let theirs = Arc::clone(&lock);
    let holder = thread::spawn(move || {
        futures::executor::block_on(async {
            let _guard = theirs.write().await;
            has.send(()).unwrap();
            let _ = gate.await;
        });
    });
    taken.recv().unwrap();
    let waiter = spawn("waiter", async move { drop(lock.read().await) });
    stage.look(&["waiter: RwLock::read"]).await;
    drop(go);
    holder.join().unwrap();
    waiter.await.unwrap();
}

async fn holder_is_a_blocking_call(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let (has, taken) = oneshot::channel();
    let (go, gate) = std_mpsc::channel::<()>();
    let theirs = Arc::clone(&lock);
    let call = leakfree::spawn_blocking(move || {
        let _guard = theirs.blocking_lock();
        has.send(()).unwrap();
        let _ = gate.recv();
    });
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    let joins = spawn("joins", async move { (call.await.unwrap(), waiter.await.unwrap()) });
    stage.look(&["waiter: Mutex::lock", "joins: JoinHandle"]).await;
    drop(go);
    joins.await.unwrap();
}

async fn holder_sleeps(stage: Stage) {
    let clock = stage.hold_clock().await;
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    spawn("holder", async move {
        let _guard = theirs.lock().await;
        sleep(HOUR).await;
    });
    stage.rest(&["holder: sleep"]).await;
    let theirs = Arc::clone(&lock);
    let waiter = spawn("waiter", async move { drop(theirs.lock().await) });
    let second = spawn("second", async move { drop(lock.lock().await) });
    stage.look(&["holder: sleep", "waiter: Mutex::lock", "second: Mutex::lock"]).await;
    drop(clock);
    waiter.await.unwrap();
    second.await.unwrap();
}

async fn holder_waits_for_a_foreign_waker(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let (tx, rx) = futures::channel::oneshot::channel::<()>();
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    let holder = spawn("holder", async move {
        let _guard = theirs.lock().await;
        has.send(()).unwrap();
        let _ = rx.await;
    });
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["holder", "waiter: Mutex::lock"]).await;
    drop(tx);
    holder.await.unwrap();
    waiter.await.unwrap();
}

async fn holder_is_the_main_body(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let guard = lock.lock().await;
    let theirs = Arc::clone(&lock);
    let waiter = spawn("waiter", async move { drop(theirs.lock().await) });
    stage.look(&["waiter: Mutex::lock"]).await;
    drop(guard);
    waiter.await.unwrap();
}

async fn guard_from_a_thread(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let guard = thread::spawn(move || theirs.try_lock_owned().unwrap()).join().unwrap();
    let (tx, rx) = oneshot::channel::<()>();
    let holder = spawn("holder", async move {
        rx.await.unwrap();
        drop(guard);
    });
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["holder: oneshot::Receiver", "waiter: Mutex::lock"]).await;
    tx.send(()).unwrap();
    holder.await.unwrap();
    waiter.await.unwrap();
}

async fn guard_left_behind_by_who_has_ended(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let global: Arc<StdMutex<Option<OwnedMutexGuard<()>>>> = Arc::default();
    let (theirs, shelf) = (Arc::clone(&lock), Arc::clone(&global));
    let took = spawn("took", async move {
        let guard = theirs.lock_owned().await;
        *shelf.lock().unwrap() = Some(guard);
    });
    took.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["waiter: Mutex::lock"]).await;
    drop(global.lock().unwrap().take());
    waiter.await.unwrap();
}

/// The one who took it waits for something else.
async fn owned_guard_in_another_task(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (tx, rx) = oneshot::channel::<()>();
    let (give, guard) = oneshot::channel();
    let took = spawn("took", async move {
        let guard = theirs.lock_owned().await;
        let holds = spawn("holds", async move {
            rx.await.unwrap();
            drop(guard);
        });
        give.send(()).unwrap();
        holds.await.unwrap();
    });
    guard.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["took: JoinHandle", "holds: oneshot::Receiver", "waiter: Mutex::lock"]).await;
    tx.send(()).unwrap();
    took.await.unwrap();
    waiter.await.unwrap();
}

/// Who took it joins who waits for it: that would be a deadlock, if the guard were still there.
async fn guard_sent_away(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let (give, guard) = oneshot::channel();
    let took = spawn("took", async move {
        let guard = Arc::clone(&lock).lock_owned().await;
        give.send(guard).unwrap();
        let waiter = spawn("waiter", async move { drop(lock.lock().await) });
        waiter.await.unwrap();
    });
    let guard = guard.await.unwrap();
    stage.look(&["took: JoinHandle", "waiter: Mutex::lock"]).await;
    drop(guard);
    took.await.unwrap();
}

async fn static_guard_sent_away(stage: Stage) {
    // Tests run at once, programs too: a lock for each.
    let lock: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(())));
    let (give, guard) = oneshot::channel();
    let (tx, rx) = oneshot::channel::<()>();
    let holds = spawn("holds", async move {
        let guard = guard.await.unwrap();
        rx.await.unwrap();
        drop::<leakfree::sync::MutexGuard<'static, ()>>(guard);
    });
    let took = spawn("took", async move {
        let _ = give.send(lock.lock().await);
        drop(lock.lock().await);
    });
    stage.look(&["took: Mutex::lock", "holds: oneshot::Receiver"]).await;
    tx.send(()).unwrap();
    took.await.unwrap();
    holds.await.unwrap();
}

async fn boxed_guard_dropped_elsewhere(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let (theirs, (give, given)) = (Arc::clone(&lock), oneshot::channel());
    let took = spawn("took", async move {
        let inside = Arc::clone(&theirs);
        let mut boxed = Box::pin(async move {
            let _guard = inside.lock().await;
            pending::<()>().await;
        });
        assert!(futures::poll!(&mut boxed).is_pending());
        let _ = give.send(boxed);
        drop(theirs.lock().await);
    });
    let boxed = given.await.unwrap();
    stage.look(&["took: Mutex::lock"]).await;
    drop(boxed);
    took.await.unwrap();
}

async fn permit_sent_away(stage: Stage) {
    let pool = Arc::new(Semaphore::new(1));
    let (give, given) = oneshot::channel();
    let took = spawn("took", async move {
        let _ = give.send(Arc::clone(&pool).acquire_owned().await.unwrap());
        drop(pool.acquire().await.unwrap());
    });
    let permit = given.await.unwrap();
    stage.look(&["took: Semaphore::acquire"]).await;
    drop(permit);
    took.await.unwrap();
}

/// The loop takes the permit and the handler has it: by who took it, the loop waits for itself.
async fn accept_loop_with_owned_permits(stage: Stage) {
    let pool = Arc::new(Semaphore::new(1));
    let (drained, drain) = oneshot::channel::<()>();
    let accept = spawn("accept", async move {
        let mut drain = Some(drain);
        for _ in 0..2 {
            let permit = Arc::clone(&pool).acquire_owned().await.unwrap();
            let drain = drain.take();
            drop(spawn("handler", async move {
                if let Some(drain) = drain {
                    drain.await.unwrap();
                }
                drop(permit);
            }));
        }
    });
    stage.look(&["accept: Semaphore::acquire", "handler: oneshot::Receiver"]).await;
    drained.send(()).unwrap();
    accept.await.unwrap();
}

async fn timeout_in_a_lock_cycle(stage: Stage) {
    let clock = stage.hold_clock().await;
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    let both = Arc::new(Barrier::new(2));
    let both2 = Arc::clone(&both);
    let first = spawn("first", async move {
        let _a = a.lock().await;
        both.wait().await;
        assert!(timeout(HOUR, b.lock()).await.is_err());
    });
    let second = spawn("second", async move {
        let _b = b2.lock().await;
        both2.wait().await;
        let _a = a2.lock().await;
    });
    stage.look(&["first: Mutex::lock", "second: Mutex::lock"]).await;
    drop(clock);
    first.await.unwrap();
    second.await.unwrap();
}

async fn deadline_around_a_holder(stage: Stage) {
    let clock = stage.hold_clock().await;
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    let owner = spawn(
        "owner",
        Scope::builder().timeout(HOUR).scope(async |s| {
            s.task().name("holder").spawn(async move {
                let _guard = theirs.lock().await;
                has.send(()).unwrap();
                pending::<()>().await;
            });
        }),
    );
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["owner: scope end", "holder", "waiter: Mutex::lock"]).await;
    drop(clock);
    waiter.await.unwrap();
    owner.await.unwrap();
}

async fn readers_behind_a_writer(stage: Stage) {
    let lock = Arc::new(RwLock::new(0));
    let (tx, rx) = oneshot::channel::<()>();
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    spawn("reader", async move {
        let _read = theirs.read().await;
        has.send(()).unwrap();
        rx.await.unwrap();
    });
    taken.await.unwrap();
    let theirs = Arc::clone(&lock);
    let writer = spawn("writer", async move { *theirs.write().await += 1 });
    stage.rest(&["writer: RwLock::write"]).await;
    let behind = spawn("behind", async move { assert_eq!(*lock.read().await, 1) });
    stage.look(&["reader: oneshot::Receiver", "writer: RwLock::write", "behind: RwLock::read"]).await;
    tx.send(()).unwrap();
    writer.await.unwrap();
    behind.await.unwrap();
}

async fn semaphore_as_a_signal(stage: Stage) {
    let signal = Arc::new(Semaphore::new(0));
    let theirs = Arc::clone(&signal);
    let waiter = spawn("waiter", async move { theirs.acquire().await.unwrap().forget() });
    let joins = spawn("joins", async move { waiter.await.unwrap() });
    stage.look(&["waiter: Semaphore::acquire", "joins: JoinHandle"]).await;
    signal.add_permits(1);
    joins.await.unwrap();
}

/// The only permit is held by who waits for a second one, and somebody adds it: the semaphore has seen that before.
async fn permits_from_nowhere(stage: Stage) {
    let pool = Arc::new(Semaphore::new(0));
    pool.add_permits(1);
    let theirs = Arc::clone(&pool);
    let waiter = spawn("waiter", async move {
        let _first = theirs.acquire().await.unwrap();
        let _second = theirs.acquire().await.unwrap();
    });
    stage.look(&["waiter: Semaphore::acquire"]).await;
    pool.add_permits(1);
    waiter.await.unwrap();
}

async fn cell_in_the_making(stage: Stage) {
    let cell = Arc::new(OnceCell::new());
    let (tx, rx) = oneshot::channel();
    let theirs = Arc::clone(&cell);
    let makes = spawn("makes", async move { *theirs.get_or_init(async || rx.await.unwrap()).await });
    stage.rest(&["makes: oneshot::Receiver"]).await;
    let waits = spawn("waits", async move { *cell.get_or_init(async || 0).await });
    stage.look(&["makes: oneshot::Receiver", "waits: OnceCell::get_or_init"]).await;
    tx.send(5).unwrap();
    assert_eq!((makes.await.unwrap(), waits.await.unwrap()), (5, 5));
}

/// Tasks that are never long where they are.
async fn storm<F>(stage: Stage, task: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..8).map(|n| spawn("storm", task(n))).collect();
    stage.look(&[]).await;
    for task in tasks {
        task.await.unwrap();
    }
}

const GUSTS: usize = 60;

async fn lock_storm(stage: Stage) {
    let locks: [_; 3] = std::array::from_fn(|_| Arc::new(Mutex::new(0)));
    storm(stage, |n| {
        let locks = locks.clone();
        async move {
            for turn in 0..GUSTS {
                let (low, high) = [(0, 1), (0, 2), (1, 2)][(n + turn) % 3];
                let low = locks[low].lock().await;
                leakfree::yield_now().await;
                let mut high = locks[high].lock().await;
                *high += *low;
                leakfree::yield_now().await;
            }
        }
    })
    .await;
}

async fn rwlock_storm(stage: Stage) {
    let lock = Arc::new(RwLock::new(0));
    storm(stage, |n| {
        let lock = Arc::clone(&lock);
        async move {
            for turn in 0..GUSTS {
                if (n + turn) % 4 == 0 {
                    *lock.write().await += 1;
                } else {
                    let read = lock.read().await;
                    leakfree::yield_now().await;
                    drop(read);
                }
            }
        }
    })
    .await;
}

async fn semaphore_storm(stage: Stage) {
    let pool = Arc::new(Semaphore::new(3));
    storm(stage, |n| {
        let pool = Arc::clone(&pool);
        async move {
            for turn in 0..GUSTS {
                let need = 1 + (n + turn) % 3;
                let permit = pool.acquire_many(need as u32).await.unwrap();
                leakfree::yield_now().await;
                drop(permit);
            }
        }
    })
    .await;
}

// ---- tasks and scopes ---------------------------------------------------------------------------

/// Two tasks that join each other; the first does so by what is made of the join.
async fn join_each_other<F>(first: impl FnOnce(JoinHandle<()>) -> F + Send + 'static) -> oneshot::Receiver<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (give_a, get_a) = oneshot::channel::<JoinHandle<()>>();
    let (give_b, get_b) = oneshot::channel::<JoinHandle<()>>();
    let (ended, end) = oneshot::channel();
    let a = spawn("a", async move { first(get_b.await.unwrap()).await });
    let b = spawn("b", async move {
        let _ = get_a.await.unwrap().await;
        let _ = ended.send(());
    });
    give_a.send(a).unwrap();
    give_b.send(b).unwrap();
    end
}

async fn timeout_in_a_join_cycle(stage: Stage) {
    let clock = stage.hold_clock().await;
    let end = join_each_other(async |b| drop(timeout(HOUR, b).await)).await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    drop(clock);
    end.await.unwrap();
}

async fn deadline_around_a_join_cycle(stage: Stage) {
    let clock = stage.hold_clock().await;
    let owner = spawn(
        "owner",
        Scope::builder().timeout(HOUR).scope(async |_| {
            let _ = join_each_other(async |b| drop(b.await)).await.await;
        }),
    );
    stage.look(&["owner: oneshot::Receiver", "a: JoinHandle", "b: JoinHandle"]).await;
    drop(clock);
    owner.await.unwrap();
}

async fn one_arm_can_be_woken(stage: Stage) {
    let (tx, mut rx) = mpsc::channel::<()>(1);
    let end = join_each_other(async move |b| {
        select(pin!(rx.recv()), b).await;
    })
    .await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).await.unwrap();
    end.await.unwrap();
}

/// Its joins are polled with wakers of the set's own.
async fn joins_in_a_set(stage: Stage) {
    let (tx, _) = broadcast::channel::<()>(1);
    let waits = |mut rx: broadcast::Receiver<()>| async move { rx.recv().await.is_err() };
    let jobs: Vec<_> = (0..3).map(|_| spawn("job", waits(tx.subscribe()))).collect();
    let set = spawn("set", async move {
        let mut set: FuturesUnordered<_> = jobs.into_iter().collect();
        while set.next().await.is_some() {}
    });
    let joins = spawn("joins", async move { set.await.unwrap() });
    stage.look(&["job: broadcast::Receiver::recv", "set", "joins: JoinHandle"]).await;
    drop(tx);
    joins.await.unwrap();
}

async fn leaf_moves_to_another_task(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let job = spawn("job", async move { rx.await.unwrap() });
    let (give, given) = oneshot::channel();
    let (more, rest) = oneshot::channel::<()>();
    let first = spawn("first", async move {
        let mut job = Box::pin(job);
        assert!(futures::poll!(&mut job).is_pending());
        let _ = give.send(job);
        rest.await.unwrap();
    });
    let second = spawn("second", async move { given.await.unwrap().await.unwrap() });
    stage.look(&["job: oneshot::Receiver", "first: oneshot::Receiver", "second: JoinHandle"]).await;
    more.send(()).unwrap();
    first.await.unwrap();
    tx.send(()).unwrap();
    second.await.unwrap();
}

/// A task whose waker another one polls a receiver with.
async fn leaf_under_a_borrowed_waker(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let (give, given) = oneshot::channel();
    let job = spawn("job", hands_out(move |waker| give.send(waker).unwrap()));
    let lender = spawn("lender", async move {
        let waker = given.await.unwrap();
        let mut rx = Box::pin(rx);
        assert!(rx.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        Some(rx)
    });
    let rx = lender.await.unwrap();
    let joins = spawn("joins", async move { job.await.unwrap() });
    stage.look(&["job", "joins: JoinHandle"]).await;
    tx.send(()).unwrap();
    joins.await.unwrap();
    drop(rx);
}

/// One of its two leaves is dropped by another task; the other one wakes it.
async fn leaf_dropped_elsewhere(stage: Stage) {
    let (done, is_done) = oneshot::channel::<()>();
    let never = spawn("never", async move { is_done.await.is_err() });
    let shared = Arc::new(StdMutex::new(Some(Box::pin(never))));
    let theirs = Arc::clone(&shared);
    let (tx, rx) = oneshot::channel::<()>();
    let lends = spawn("lends", async move {
        let mut rx = pin!(rx);
        poll_fn(|cx| {
            if let Some(join) = &mut *theirs.lock().unwrap() {
                assert!(join.as_mut().poll(cx).is_pending());
            }
            rx.as_mut().poll(cx)
        })
        .await
        .unwrap();
    });
    stage.look(&["lends: JoinHandle"]).await;
    drop(shared.lock().unwrap().take());
    stage.look(&["lends: oneshot::Receiver"]).await;
    tx.send(()).unwrap();
    lends.await.unwrap();
    drop(done);
}

/// A receiver that was polled once and is kept, and a join that is polled each time: the receiver can still wake it, and end the
/// cycle.
async fn stale_leaf_beside_a_join(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let (nudge, nudged) = oneshot::channel::<()>();
    let end = join_each_other(async move |mut b| {
        let (mut rx, mut nudged) = (pin!(rx), pin!(nudged));
        assert!(futures::poll!(&mut rx).is_pending());
        select(&mut nudged, &mut b).await;
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            assert!(Pin::new(&mut b).poll(cx).is_pending());
            if turns > 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    })
    .await;
    stage.rest(&["a: oneshot::Receiver", "b: JoinHandle"]).await;
    nudge.send(()).unwrap();
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).unwrap();
    end.await.unwrap();
}

/// The same, and the join is polled twice in one poll: two polls are not two waits.
async fn leaf_polled_twice_beside_a_stale_one(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let end = join_each_other(async move |mut b| {
        let mut rx = pin!(rx);
        assert!(futures::poll!(&mut rx).is_pending());
        leakfree::yield_now().await;
        twice_and_back(move |cx| {
            assert!(Pin::new(&mut b).poll(cx).is_pending());
            assert!(Pin::new(&mut b).poll(cx).is_pending());
        })
        .await;
    })
    .await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).unwrap();
    end.await.unwrap();
}

/// The join is lent to a thread that drops it before the poll is over; what is left is the receiver, which was not polled.
async fn leaf_dropped_by_a_thread_within_the_poll(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let end = join_each_other(async move |b| {
        let mut rx = pin!(rx);
        assert!(futures::poll!(&mut rx).is_pending());
        leakfree::yield_now().await;
        let mut b = Some(b);
        twice_and_back(move |cx| {
            if let Some(mut b) = b.take() {
                assert!(Pin::new(&mut b).poll(cx).is_pending());
                thread::spawn(move || drop(b)).join().unwrap();
            }
        })
        .await;
    })
    .await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).unwrap();
    end.await.unwrap();
}

/// The join is lent to a thread between two polls, which polls it with the task's waker: three polls are not two waits.
async fn leaf_polled_by_a_thread_within_the_poll(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let end = join_each_other(async move |b| {
        let mut rx = pin!(rx);
        assert!(futures::poll!(&mut rx).is_pending());
        leakfree::yield_now().await;
        let mut b = Some(b);
        twice_and_back(move |cx| {
            let mut lent = b.take().unwrap();
            assert!(Pin::new(&mut lent).poll(cx).is_pending());
            lent = poll_in_a_thread(lent, cx.waker().clone());
            assert!(Pin::new(&mut lent).poll(cx).is_pending());
            b = Some(lent);
        })
        .await;
    })
    .await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).unwrap();
    end.await.unwrap();
}

/// A thread polls the join with the task's waker first, then the task does, and then another thread drops it.
async fn leaf_polled_by_a_thread_before_the_poll(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let lent = Arc::new(StdMutex::new(None));
    let theirs = Arc::clone(&lent);
    let end = join_each_other(async move |b| {
        let mut rx = pin!(rx);
        assert!(futures::poll!(&mut rx).is_pending());
        leakfree::yield_now().await;
        let mut b = Some(b);
        twice_and_back(move |cx| {
            let mut b = poll_in_a_thread(b.take().unwrap(), cx.waker().clone());
            assert!(Pin::new(&mut b).poll(cx).is_pending());
            *theirs.lock().unwrap() = Some(b);
        })
        .await;
    })
    .await;
    stage.rest(&["a: JoinHandle", "b: JoinHandle"]).await;
    thread::spawn(move || drop(lent.lock().unwrap().take())).join().unwrap();
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    tx.send(()).unwrap();
    end.await.unwrap();
}

fn poll_in_a_thread(mut b: JoinHandle<()>, waker: Waker) -> JoinHandle<()> {
    let polls = move || {
        assert!(Pin::new(&mut b).poll(&mut Context::from_waker(&waker)).is_pending());
        b
    };
    thread::spawn(polls).join().unwrap()
}

/// Ready at its second poll; polls what it is given at the first.
fn twice_and_back(mut f: impl FnMut(&mut Context<'_>) + Send) -> impl Future<Output = ()> + Send {
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        f(cx);
        Poll::Pending
    })
}

/// A place in a lock's queue that was taken in an earlier poll: its turn wakes the task, whatever it polls now.
async fn place_in_a_queue_beside_a_join(stage: Stage) {
    let lock = Arc::new(Mutex::new(()));
    let guard = lock.lock().await;
    let theirs = Arc::clone(&lock);
    let end = join_each_other(async move |mut b| {
        let mut turn = pin!(theirs.lock());
        assert!(futures::poll!(&mut turn).is_pending());
        leakfree::yield_now().await;
        twice_and_back(move |cx| assert!(Pin::new(&mut b).poll(cx).is_pending())).await;
        drop(turn.await);
    })
    .await;
    stage.look(&["a: JoinHandle", "b: JoinHandle"]).await;
    drop(guard);
    end.await.unwrap();
}

async fn scope_moves_to_another_task(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let (give, given) = oneshot::channel();
    let second = spawn("second", async move {
        let moved: Pin<Box<dyn Future<Output = ()> + Send>> = given.await.unwrap();
        moved.await;
    });
    let first = spawn("first", async move {
        let mut moved: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(scope(async move |s: Scope| {
            s.task().name("child").spawn(async move { rx.await.unwrap() });
        }));
        assert!(futures::poll!(&mut moved).is_pending());
        let _ = give.send(moved);
        second.await.unwrap();
    });
    stage.look(&["child: oneshot::Receiver", "first: JoinHandle", "second: scope end"]).await;
    tx.send(()).unwrap();
    first.await.unwrap();
}

/// It has ended, and what it dropped half-way has not.
async fn task_waits_for_what_it_left(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let leaves = spawn("leaves", async move {
        let (has, begun) = oneshot::channel();
        let half_way = scope(async move |s: Scope| {
            s.task().name("commit").spawn(async move {
                leakfree::shield(async {
                    has.send(()).unwrap();
                    rx.await.unwrap();
                })
                .await;
            });
        });
        select(pin!(half_way), begun).await;
    });
    let joins = spawn("joins", async move { leaves.await.unwrap() });
    stage.look(&["commit: oneshot::Receiver", "joins: JoinHandle"]).await;
    tx.send(()).unwrap();
    joins.await.unwrap();
}

async fn body_that_a_siblings_failure_ends(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let owner = spawn("owner", async move {
        let ended = leakfree::try_scope(async |s: Scope<&'static str>| {
            drop(s.task().name("fails").spawn_try(async move {
                rx.await.unwrap();
                Err::<(), _>("enough")
            }));
            pending::<()>().await;
            Ok(())
        })
        .await;
        assert_eq!(ended.unwrap_err().into_error(), Some("enough"));
    });
    let joins = spawn("joins", async move { owner.await.unwrap() });
    stage.look(&["owner", "fails: oneshot::Receiver", "joins: JoinHandle"]).await;
    tx.send(()).unwrap();
    joins.await.unwrap();
}

async fn body_that_a_deadline_ends(stage: Stage) {
    let clock = stage.hold_clock().await;
    let owner = spawn("owner", async move {
        let body = async |_: Scope<()>| {
            pending::<()>().await;
            Ok(())
        };
        assert!(Scope::builder().timeout(HOUR).try_scope(body).await.is_err());
    });
    let joins = spawn("joins", async move { owner.await.unwrap() });
    stage.look(&["owner", "joins: JoinHandle"]).await;
    drop(clock);
    joins.await.unwrap();
}

/// It has no child yet whose failure could end it; somebody else has the scope's handle.
async fn body_that_a_late_child_ends(stage: Stage) {
    let (give, given) = oneshot::channel();
    let owner = spawn("owner", async move {
        let ended = leakfree::try_scope(async |s: Scope<&'static str>| {
            let _ = give.send(s);
            pending::<()>().await;
            Ok(())
        })
        .await;
        assert_eq!(ended.unwrap_err().into_error(), Some("enough"));
    });
    let scope = given.await.unwrap();
    let joins = spawn("joins", async move { owner.await.unwrap() });
    stage.look(&["owner", "joins: JoinHandle"]).await;
    drop(scope.spawn_try(async { Err::<(), _>("enough") }));
    joins.await.unwrap();
}

/// The same of a plain scope, whose handle a thread has, and whose body waits for a stuck child.
async fn body_that_a_late_panic_ends(stage: Stage) {
    let (give, given) = oneshot::channel();
    let (go, gate) = std_mpsc::channel::<()>();
    let owner = spawn("owner", async move {
        let scoped = scope(async move |s: Scope| {
            let _ = give.send(s);
            pending::<()>().await;
        });
        let ended = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(scoped)).await;
        assert!(ended.is_err());
    });
    let scope: Scope = given.await.unwrap();
    let joins = spawn("joins", async move { owner.await.unwrap() });
    let thread = thread::spawn(move || {
        gate.recv().unwrap();
        drop(scope.spawn(async { std::panic::resume_unwind(Box::new("enough")) }));
    });
    stage.look(&["owner", "joins: JoinHandle"]).await;
    go.send(()).unwrap();
    joins.await.unwrap();
    thread.join().unwrap();
}

/// The deadline is that of a scope in whose body theirs is, in the same task.
async fn children_under_a_deadline_of_a_body_around(stage: Stage) {
    let clock = stage.hold_clock().await;
    let owner = spawn("owner", async move {
        let body = async |_: Scope| {
            scope(async |s: Scope| {
                s.task().name("child").spawn(pending::<()>());
            })
            .await;
        };
        Scope::builder().timeout(HOUR).scope(body).await;
    });
    stage.look(&["owner: scope end", "child"]).await;
    drop(clock);
    owner.await.unwrap();
}

/// The scope of a task that waits for another one moves below that one: then the wait is over, for it would never end.
async fn join_that_a_move_ends(stage: Stage) {
    let (give_first, first) = oneshot::channel::<JoinHandle<()>>();
    let (give_second, second) = oneshot::channel::<JoinHandle<()>>();
    let (give_moved, moved) = oneshot::channel::<Pin<Box<dyn Future<Output = ()> + Send>>>();
    let (go, gone) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let first_task = spawn("first", async move {
        leakfree::supervisor_scope(async move |s: Scope| {
            s.task().name("mover").spawn(async move {
                let moved = moved.await.unwrap();
                gone.await.unwrap();
                moved.await;
                end.send(()).unwrap();
            });
            second.await.unwrap().await.unwrap();
        })
        .await;
    });
    let before = spawn("before", async move {
        let mut moved: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(scope(async move |s: Scope| {
            let second = s.task().name("second").spawn(async move {
                assert!(first.await.unwrap().await.unwrap_err().is_would_deadlock());
            });
            let _ = give_second.send(second);
        }));
        assert!(futures::poll!(&mut moved).is_pending());
        let _ = give_moved.send(moved);
        ended.await.unwrap();
    });
    let _ = give_first.send(first_task);
    stage.look(&["first: JoinHandle", "second: JoinHandle", "mover: oneshot::Receiver"]).await;
    go.send(()).unwrap();
    before.await.unwrap();
}

async fn shielded_in_a_cancelled_scope(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let (has, begun) = oneshot::channel();
    let owner = spawn(
        "owner",
        scope(async move |s: Scope| {
            s.task().name("commit").spawn(async move {
                leakfree::shield(async {
                    has.send(()).unwrap();
                    rx.await.unwrap();
                })
                .await;
            });
            begun.await.unwrap();
            s.cancel("the request has gone");
        }),
    );
    stage.look(&["commit: oneshot::Receiver", "owner: scope end"]).await;
    tx.send(()).unwrap();
    owner.await.unwrap();
}

async fn daemon_at_rest(stage: Stage) {
    let (tx, mut rx) = mpsc::channel::<()>(1);
    let (go, gate) = oneshot::channel::<()>();
    let owner = spawn(
        "owner",
        scope(async move |s: Scope| {
            s.task().name("daemon").spawn_daemon(async move { while rx.recv().await.is_some() {} });
            gate.await.unwrap();
        }),
    );
    stage.look(&["daemon: mpsc::Receiver::recv", "owner: oneshot::Receiver"]).await;
    go.send(()).unwrap();
    owner.await.unwrap();
    assert!(tx.is_closed());
}

async fn held_back_child(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let owner = spawn("owner", async move {
        let body = async |s: Scope| {
            s.task().name("runs").spawn(async move { rx.await.unwrap() });
            let waits = s.task().name("waits").spawn(async {});
            waits.await.unwrap();
        };
        Scope::builder().max_concurrent(1).scope(body).await;
    });
    stage.look(&["runs: oneshot::Receiver", "owner: JoinHandle"]).await;
    tx.send(()).unwrap();
    owner.await.unwrap();
}

async fn scope_waits_for_a_thread(stage: Stage) {
    let (tx, rx) = oneshot::channel::<()>();
    let (go, gate) = std_mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        let _ = gate.recv();
        tx.send(()).unwrap();
    });
    let owner = spawn(
        "owner",
        scope(async move |s: Scope| {
            let waits = s.task().name("waits").spawn(async move { rx.await.unwrap() });
            s.task().name("joins").spawn(async move { waits.await.unwrap() });
        }),
    );
    stage.look(&["waits: oneshot::Receiver", "joins: JoinHandle", "owner: scope end"]).await;
    drop(go);
    sender.join().unwrap();
    owner.await.unwrap();
}

/// Children of one task wait for each other: it is woken by itself.
async fn children_in_one_task(stage: Stage) {
    let (tx, rx) = oneshot::channel::<u32>();
    let (go, gate) = oneshot::channel::<()>();
    let one = spawn(
        "one",
        leakfree::join_scope_send(async move |s| {
            let waits = s.spawn(async move { rx.await.unwrap() });
            drop(s.spawn(async move {
                gate.await.unwrap();
                tx.send(5).unwrap();
            }));
            assert_eq!(waits.await, 5);
        }),
    );
    stage.look(&["one"]).await;
    go.send(()).unwrap();
    one.await.unwrap();
}

async fn next_child_is_on_its_way(stage: Stage) {
    let (tx, rx) = oneshot::channel::<u32>();
    let owner = spawn(
        "owner",
        scope(async move |s: Scope| {
            let mut children = s.children();
            children.spawn(async move { rx.await.unwrap() });
            assert!(children.join_next().await.is_some());
        }),
    );
    stage.look(&["owner: Children::join_next"]).await;
    tx.send(5).unwrap();
    owner.await.unwrap();
}

async fn cancel_on_its_way(stage: Stage) {
    let (give, given) = oneshot::channel();
    let owner = spawn(
        "owner",
        scope(async move |s: Scope| {
            give.send(s.token()).unwrap();
            let waits = s.cancelled();
            waits.await;
        }),
    );
    let token = given.await.unwrap();
    stage.look(&["owner: cancelled"]).await;
    token.cancel("enough");
    owner.await.unwrap();
}

async fn join_storm(stage: Stage) {
    storm(stage, |_| async {
        for _ in 0..GUSTS {
            let mut last = spawn("link", leakfree::yield_now());
            for _ in 0..4 {
                let next = last;
                last = spawn("link", async move { next.await.unwrap() });
            }
            last.await.unwrap();
        }
    })
    .await;
}

async fn scope_storm(stage: Stage) {
    storm(stage, |n| async move {
        for turn in 0..GUSTS {
            let ended = leakfree::try_scope(async |s: Scope<()>| {
                s.spawn(scope(async |s: Scope| {
                    s.spawn(leakfree::yield_now());
                    s.spawn(leakfree::yield_now());
                }));
                drop(s.spawn_try(async move {
                    leakfree::yield_now().await;
                    if (n + turn) % 2 == 0 { Err(()) } else { Ok(()) }
                }));
                if (n + turn) % 2 == 0 {
                    // Only the sibling's error ends this.
                    pending::<()>().await;
                }
                Ok(())
            })
            .await;
            assert_eq!(ended.is_err(), (n + turn) % 2 == 0);
        }
    })
    .await;
}

// ---- channels and conditions --------------------------------------------------------------------

async fn sender_in_a_live_task(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let (go, gate) = oneshot::channel::<()>();
    let sender = spawn("sender", async move {
        tx.send(1).await.unwrap();
        gate.await.unwrap();
        tx.send(2).await.unwrap();
    });
    let receiver = spawn("receiver", async move { while rx.recv().await.is_some() {} });
    stage.look(&["receiver: mpsc::Receiver::recv", "sender: oneshot::Receiver"]).await;
    go.send(()).unwrap();
    sender.await.unwrap();
    receiver.await.unwrap();
}

async fn sender_in_a_global(stage: Stage) {
    let (tx, rx) = oneshot::channel();
    let global = Arc::new(StdMutex::new(Some(tx)));
    let receiver = spawn("receiver", async move { rx.await.unwrap() });
    let joins = spawn("joins", async move { receiver.await.unwrap() });
    stage.look(&["receiver: oneshot::Receiver", "joins: JoinHandle"]).await;
    let tx = global.lock().unwrap().take().unwrap();
    tx.send(5).unwrap();
    assert_eq!(joins.await.unwrap(), 5);
}

/// Nobody in sight holds a sender; a weak one is made strong and sends.
async fn weak_sender(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let weak = tx.downgrade();
    let (go, gate) = oneshot::channel::<()>();
    let sender = spawn("sender", async move {
        gate.await.unwrap();
        weak.upgrade().unwrap().send(5).await.unwrap();
    });
    let receiver =
        spawn("receiver", async move { assert_eq!((rx.recv().await, rx.recv().await), (Some(5), None)) });
    stage.look(&["receiver: mpsc::Receiver::recv", "sender: oneshot::Receiver"]).await;
    go.send(()).unwrap();
    sender.await.unwrap();
    drop(tx);
    receiver.await.unwrap();
}

async fn full_channel_with_a_live_reader(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let (go, gate) = oneshot::channel::<()>();
    let reader = spawn("reader", async move {
        assert_eq!(rx.recv().await, Some(1));
        gate.await.unwrap();
        while rx.recv().await.is_some() {}
    });
    let writer = spawn("writer", async move {
        for n in 1..5 {
            tx.send(n).await.unwrap();
        }
    });
    stage.look(&["reader: oneshot::Receiver", "writer: mpsc::Sender::send"]).await;
    go.send(()).unwrap();
    writer.await.unwrap();
    reader.await.unwrap();
}

/// The producer has ended, and a global holds a sender that is used later: nobody can see that.
async fn last_sender_has_ended(stage: Stage) {
    let (tx, mut rx) = mpsc::channel(1);
    let theirs = tx.clone();
    let producer = spawn("producer", async move { theirs.send(1).await.unwrap() });
    let receiver = spawn("receiver", async move { while rx.recv().await.is_some() {} });
    producer.await.unwrap();
    stage.look(&["receiver: mpsc::Receiver::recv"]).await;
    tx.send(2).await.unwrap();
    drop(tx);
    receiver.await.unwrap();
}

/// Two peers wait for each other to speak, and a third one speaks.
async fn last_sender_is_stuck(stage: Stage) {
    let (to_left, mut left_rx) = mpsc::channel(1);
    let (to_right, mut right_rx) = mpsc::channel(1);
    let third = to_right.clone();
    let left = spawn("left", async move {
        to_right.send(0).await.unwrap();
        assert_eq!((left_rx.recv().await, left_rx.recv().await), (Some(0), Some(1)));
    });
    let right = spawn("right", async move {
        to_left.send(0).await.unwrap();
        assert_eq!((right_rx.recv().await, right_rx.recv().await), (Some(0), Some(1)));
        to_left.send(1).await.unwrap();
    });
    stage.look(&["left: mpsc::Receiver::recv", "right: mpsc::Receiver::recv"]).await;
    third.send(1).await.unwrap();
    left.await.unwrap();
    right.await.unwrap();
}

async fn watch_with_a_live_sender(stage: Stage) {
    let (tx, mut rx) = watch::channel(0);
    let mut second = tx.subscribe();
    let waiter = spawn("waiter", async move { rx.changed().await.unwrap() });
    let wait_for = spawn("wait_for", async move { drop(second.wait_for(|n| *n == 1).await.unwrap()) });
    stage.look(&["waiter: watch::Receiver::changed", "wait_for: watch::Receiver::wait_for"]).await;
    tx.send(1).unwrap();
    waiter.await.unwrap();
    wait_for.await.unwrap();
}

async fn broadcast_with_a_live_sender(stage: Stage) {
    let (tx, mut rx) = broadcast::channel(1);
    let waiter = spawn("waiter", async move { rx.recv().await.unwrap() });
    let joins = spawn("joins", async move { waiter.await.unwrap() });
    stage.look(&["waiter: broadcast::Receiver::recv", "joins: JoinHandle"]).await;
    tx.send(5).unwrap();
    assert_eq!(joins.await.unwrap(), 5);
}

async fn notify_to_come(stage: Stage) {
    let notify = Arc::new(Notify::new());
    let lock = Arc::new(Mutex::new(()));
    let (theirs, held) = (Arc::clone(&notify), Arc::clone(&lock));
    let (has, taken) = oneshot::channel();
    spawn("holder", async move {
        let _guard = held.lock().await;
        has.send(()).unwrap();
        theirs.notified().await;
    });
    taken.await.unwrap();
    let waiter = spawn("waiter", async move { drop(lock.lock().await) });
    stage.look(&["holder: Notify::notified", "waiter: Mutex::lock"]).await;
    notify.notify_one();
    waiter.await.unwrap();
}

async fn barrier_to_fill(stage: Stage) {
    let barrier = Arc::new(Barrier::new(3));
    let parties: Vec<_> = (0..2)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            spawn("party", async move { barrier.wait().await.is_leader() })
        })
        .collect();
    until(|| barrier_waits() == 2).await;
    stage.look(&["party: Barrier::wait"]).await;
    barrier.wait().await;
    for party in parties {
        party.await.unwrap();
    }
}

fn barrier_waits() -> usize {
    let is_there = |task: &&TaskInfo| task.waits.iter().any(|wait| wait.reason.name() == "Barrier::wait");
    Handle::current().snapshot().tasks.iter().filter(is_there).count()
}

async fn set_once_to_come(stage: Stage) {
    let value = Arc::new(SetOnce::new());
    let theirs = Arc::clone(&value);
    let waiter = spawn("waiter", async move { *theirs.wait().await });
    let joins = spawn("joins", async move { waiter.await.unwrap() });
    stage.look(&["waiter: SetOnce::wait", "joins: JoinHandle"]).await;
    value.set(5).unwrap();
    assert_eq!(joins.await.unwrap(), 5);
}

/// One of the two is always about to go on, and whoever looks at one and then at the other must not miss it.
async fn ping_pong(stage: Stage) {
    let (to_left, mut left_rx) = mpsc::channel::<u32>(1);
    let (to_right, mut right_rx) = mpsc::channel::<u32>(1);
    let left = spawn("left", async move {
        while let Some(n) = left_rx.recv().await {
            if n == 0 || to_right.send(n - 1).await.is_err() {
                break;
            }
        }
    });
    let first = to_left.clone();
    let right = spawn("right", async move {
        while let Some(n) = right_rx.recv().await {
            if n == 0 || to_left.send(n - 1).await.is_err() {
                break;
            }
        }
    });
    first.send(500).await.unwrap();
    drop(first);
    left.await.unwrap();
    right.await.unwrap();
    stage.look(&[]).await;
}

// ---- the harness --------------------------------------------------------------------------------

/// Looks in a row at rest, from within.
const LOOKS: usize = 2;

/// What a program is given.
#[derive(Clone)]
struct Stage(Arc<Watch>);

struct Watch {
    name: &'static str,
    said: Option<Verdict>,
    /// Nobody looks from outside, but between the steps.
    simulated: bool,
    over: AtomicBool,
    looks: AtomicUsize,
    wrong: StdMutex<Option<String>>,
    seen: StdMutex<BTreeSet<Verdict>>,
    /// Who waits for two more looks from outside.
    waiting: StdMutex<Vec<(usize, oneshot::Sender<()>)>>,
}

impl Watch {
    /// Checks a report: nobody is accused, but where the row says so.
    fn check(&self, report: &Report) {
        for finding in &report.findings {
            let held = matches!(finding.verdict, Verdict::HeldOpen | Verdict::Outlived);
            if report.occasion != Occasion::Live && held {
                continue; // What is alive at an end is; this was none.
            }
            self.seen.lock().unwrap().insert(finding.verdict);
            if Some(finding.verdict) != self.said {
                self.wrong.lock().unwrap().get_or_insert_with(|| report.to_string());
            }
        }
        self.looks.fetch_add(1, SeqCst);
    }

    fn look(&self, handle: &Handle) {
        let report = handle.report();
        self.check(&report);
        // The same moment, judged as if it were the end.
        self.check(&judge(report.snapshot, Occasion::Shutdown));
    }

    /// The thread outside: looks all the time.
    fn watch(&self, handle: &Handle) {
        let mut patience = corpus::Patience::new();
        while !self.over.load(SeqCst) {
            if patience.is_over() {
                // The test's own thread is inside the program: nobody else can say so.
                let (name, tasks) = (self.name, handle.snapshot().tasks);
                leakfree_tests::give_up(&format!("{name} hangs:\n{tasks:?}\n{}\n", handle.report()));
            }
            self.look(handle);
            let mut due = Vec::new();
            self.waiting.lock().unwrap().retain_mut(|(more, tell)| {
                *more -= 1;
                if *more == 0 {
                    due.push(std::mem::replace(tell, oneshot::channel().0));
                }
                *more > 0
            });
            for tell in due {
                let _ = tell.send(());
            }
            thread::yield_now();
        }
    }
}

impl Stage {
    /// Waits until tasks are parked where they should be: `NAME[: REASON]`.
    async fn rest(&self, tasks: &[&str]) {
        let handle = Handle::current();
        if self.0.simulated && self.0.said == Some(Verdict::Suspect) {
            sleep(Duration::from_millis(100)).await;
        }
        until(|| {
            let snapshot = handle.snapshot();
            tasks.iter().all(|text| {
                let (name, reason) = text.split_once(": ").map_or((*text, None), |(a, b)| (a, Some(b)));
                let is_due = |task: &TaskInfo| {
                    let parked = task.parked.unwrap_or_default();
                    self.0.said != Some(Verdict::Suspect) || parked >= Duration::from_millis(100)
                };
                let is_there = |task: &TaskInfo| match reason {
                    _ if !is_due(task) => false,
                    Some(reason) => task.waits.iter().any(|wait| wait.reason.name() == reason),
                    None => true,
                };
                snapshot
                    .tasks
                    .iter()
                    .any(|task| task.name.as_deref() == Some(name) && task.parked.is_some() && is_there(task))
            })
        })
        .await;
    }

    /// Waits until they rest there, and looks, while other tasks come and go.
    async fn look(&self, tasks: &[&str]) {
        self.rest(tasks).await;
        let handle = Handle::current();
        for _ in 0..LOOKS {
            let lock = Arc::new(Mutex::new(0));
            let stress: Vec<_> = (0..3)
                .map(|_| {
                    let lock = Arc::clone(&lock);
                    leakfree::spawn(async move {
                        for _ in 0..5 {
                            let mut count = lock.lock().await;
                            leakfree::spawn(leakfree::yield_now()).await.unwrap();
                            *count += 1;
                        }
                    })
                })
                .collect();
            self.0.look(&handle);
            for task in stress {
                task.await.unwrap();
            }
            self.0.look(&handle);
        }
        if self.0.simulated {
            return;
        }
        // And from outside, while this body is parked, too.
        let (tell, told) = oneshot::channel();
        self.0.waiting.lock().unwrap().push((2, tell));
        told.await.unwrap();
    }

    /// A blocking call, until it is dropped: a paused clock stands that long.
    async fn hold_clock(&self) -> std_mpsc::Sender<()> {
        let (go, gate) = std_mpsc::channel::<()>();
        if self.0.simulated {
            // It stands as long as this body goes on looking.
            return go;
        }
        let (has, begun) = oneshot::channel();
        drop(leakfree::spawn_blocking(move || {
            let _ = has.send(());
            let _ = gate.recv();
        }));
        begun.await.unwrap();
        go
    }
}

fn run(program: &Program, workers: usize) -> usize {
    let name = program.name;
    let watch = Arc::new(Watch {
        name,
        said: program.said,
        simulated: false,
        over: AtomicBool::new(false),
        looks: AtomicUsize::new(0),
        wrong: StdMutex::default(),
        seen: StdMutex::default(),
        waiting: StdMutex::default(),
    });
    let runtime = corpus::runtime(workers, program.paused);
    let (handle, watches) = (runtime.handle(), Arc::clone(&watch));
    let outside = thread::Builder::new()
        .name(format!("watches {}", watch.name))
        .spawn(move || watches.watch(&handle))
        .unwrap();
    runtime.block_on((program.run)(Stage(Arc::clone(&watch))));
    let gone =
        comes_to_rest(&runtime.handle(), |snapshot| snapshot.newborn == 0 && snapshot.tasks.is_empty());
    watch.over.store(true, SeqCst);
    outside.join().unwrap();
    let end = runtime.shutdown();
    assert!(gone, "{name} on {workers} workers does not end:\n{end}");
    if let Some(wrong) = watch.wrong.lock().unwrap().take() {
        panic!("{name} on {workers} workers is accused:\n{wrong}");
    }
    let seen: Vec<Verdict> = watch.seen.lock().unwrap().iter().copied().collect();
    assert_eq!(seen, Vec::from_iter(program.said), "{name} on {workers} workers: what the row says is seen");
    assert!(end.is_empty() && end.findings.is_empty(), "{name} on {workers} workers:\n{end}");
    watch.looks.load(SeqCst)
}

#[test]
fn nobody_who_is_well_is_accused() {
    let programs = programs();
    assert!(programs.len() >= 40);
    let (mut runs, mut looks) = (0, 0);
    for program in programs.iter().filter(|program| is_wanted(program.name)) {
        for _ in 0..rounds(2) {
            for workers in WORKERS {
                looks += run(program, workers);
                runs += 1;
            }
        }
    }
    println!("{} programs, {runs} runs, {looks} reports", programs.len());
}

// ---- in simulation ------------------------------------------------------------------------------

/// What cannot be simulated. (A thread of its own can, if the body waits for what it does, without an await: so it is done in one step, at a place
/// that the seed chooses.)
const OUTSIDE: [(&str, &str); 8] = [
    ("idle_server", "its socket is the operating system's"),
    ("keep_alive", "its sockets are the operating system's"),
    ("lock_over_a_read", "its sockets are the operating system's"),
    ("receiver_in_a_thread", "it has a thread of its own, which waits for tasks"),
    ("ctrl_c", "a signal comes from outside"),
    ("blocking_call_in_flight", "its blocking call waits for the body by a channel of the standard library"),
    ("join_polled_by_a_thread", "it has a thread of its own, which waits for a task"),
    (
        "holder_is_a_blocking_call",
        "its blocking call waits for the body by a channel of the standard library",
    ),
];

/// One step in so many is followed by a look, on average; so a program is looked at everywhere in some schedules.
const LOOK_AFTER: u64 = 16;

fn run_simulated(program: &Program, seed: u64) -> usize {
    let name = program.name;
    let watch = Arc::new(Watch {
        name,
        said: program.said,
        simulated: true,
        over: AtomicBool::new(false),
        looks: AtomicUsize::new(0),
        wrong: StdMutex::default(),
        seen: StdMutex::default(),
        waiting: StdMutex::default(),
    });
    let watches = Arc::clone(&watch);
    let runtime = simulation(seed)
        .on_step(move |step| {
            let random =
                (seed.wrapping_mul(1_000_003) + step.number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            if random % LOOK_AFTER == 0 && !watches.over.load(SeqCst) {
                watches.look(&Handle::current());
            }
        })
        .build()
        .unwrap();
    runtime.block_on((program.run)(Stage(Arc::clone(&watch))));
    let rests = run_until_stalled(&runtime, 1_000_000);
    watch.over.store(true, SeqCst);
    let gone = rests && runtime.handle().snapshot().tasks.is_empty();
    let end = runtime.shutdown();
    if let Some(wrong) = watch.wrong.lock().unwrap().take() {
        panic!("{name} is accused:\n{wrong}");
    }
    assert!(gone, "{name} does not end:\n{end}");
    let seen: Vec<Verdict> = watch.seen.lock().unwrap().iter().copied().collect();
    assert_eq!(seen, Vec::from_iter(program.said), "{name}: what the row says is seen");
    assert!(end.is_empty() && end.findings.is_empty(), "{name}:\n{end}");
    watch.looks.load(SeqCst)
}

#[test]
fn in_simulation_nobody_who_is_well_is_accused() {
    let programs = programs();
    for (outside, why) in OUTSIDE {
        assert!(programs.iter().any(|program| program.name == outside), "no program {outside}");
        println!("LEFT OUT of the simulation: {outside}, for {why}");
    }
    let (mut runs, mut looks, mut simulated) = (0, 0, 0);
    let started = Instant::now();
    for program in &programs {
        if OUTSIDE.iter().any(|(outside, _)| *outside == program.name) || !is_wanted(program.name) {
            continue;
        }
        for seed in seeds(8) {
            looks += under_seed("healthy_corpus", program.name, seed, || run_simulated(program, seed));
            runs += 1;
        }
        simulated += 1;
    }
    println!(
        "{simulated} programs of {}, {runs} runs, {looks} reports in {:?}",
        programs.len(),
        started.elapsed()
    );
}
