//! Programs that leak or deadlock as real ones do, each with its repair: what the report says of them, exactly.
//!
//! A program is one function; `p.leaks` says in which of its two versions it runs, so what differs is the repair. It brings its
//! tasks where they never come away from, by handshakes and never by sleeps, and returns. A row of the table says what the report
//! must find then, while the runtime lives and at its end: verdict, tasks, reasons of the waits, and words of the text. Lines are
//! marked in the source, `// spawn NAME` and `// wait NAME`, and compared with those that the report gives. Repaired, it leaves nobody.
//!
//! `leak_corpus.recall.md` is what the engine says of each pattern; `LEAKFREE_CORPUS_WRITE=1` writes it anew.
//! `LEAKFREE_CORPUS_ROUNDS` says how often each program runs, `LEAKFREE_CORPUS_ONLY` which.
//!
//! In simulation each runs under many schedules, `LEAKFREE_SCHEDULES` of them:
//! `LEAKFREE_SCHEDULES=10000 cargo test --release -p leakfree-tests --test leak_corpus simulation -- --nocapture`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::select;
use leakfree::net::{TcpListener, TcpStream};
use leakfree::report::snapshot::{Phase, Snapshot, TaskInfo};
use leakfree::report::verdict::{Finding, Report, Verdict};
use leakfree::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, SetOnce, broadcast, mpsc, oneshot, watch,
};
use leakfree::testing::run_until_stalled;
use leakfree::time::{interval, sleep};
use leakfree::{JoinHandle, Scope, scope};
use leakfree_tests::corpus::{
    self, Body, Keep, Source, WORKERS, comes_to_rest, is_wanted, rounds, seeds, simulation, spawn, under_seed,
};
use leakfree_tests::until;

const SOURCE: Source = Source { file: file!(), text: include_str!("leak_corpus.rs") };

const HOUR: Duration = Duration::from_secs(3600);

/// What a program is given.
#[derive(Clone, Debug)]
struct Plot {
    /// The version that leaks; else the repaired one.
    leaks: bool,
    keep: Keep,
}

impl Plot {
    /// In the version that leaks something is kept for ever; in the repaired one it is dropped here.
    fn forget(&self, value: impl std::any::Any + Send) {
        if self.leaks {
            self.keep.keep(value);
        }
    }
}

/// One row of the table.
struct Program {
    /// Its function's name.
    name: &'static str,
    /// What goes wrong, for the table.
    pattern: &'static str,
    run: Box<dyn Fn(Plot) -> Body>,
    expected: Vec<Expected>,
    /// Tasks that were never polled: their scope has no room for them.
    held_back: u64,
}

/// One finding of the report at the end.
struct Expected {
    verdict: Verdict,
    /// `NAME [xN][: REASON [+ REASON]]`; several for a knot.
    tasks: &'static [&'static str],
    /// What its text must contain.
    words: &'static [&'static str],
    /// What a live look says.
    live: Option<Verdict>,
}

macro_rules! program {
    ($function:ident, $pattern:literal) => {
        Program {
            name: stringify!($function),
            pattern: $pattern,
            run: Box::new(|plot| Box::pin($function(plot))),
            expected: Vec::new(),
            held_back: 0,
        }
    };
}

impl Program {
    fn expect(
        mut self,
        verdict: Verdict,
        tasks: &'static [&'static str],
        words: &'static [&'static str],
    ) -> Program {
        let live = Some(verdict).filter(|verdict| *verdict <= Verdict::Deadlocked);
        self.expected.push(Expected { verdict, tasks, words, live });
        self
    }

    fn unwakeable(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::ProvenUnwakeable, task, words)
    }

    fn stuck(self, tasks: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::ProvenStuck, tasks, words)
    }

    fn deadlocked(self, tasks: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Deadlocked, tasks, words)
    }

    fn held_open(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::HeldOpen, task, words)
    }

    fn outlived(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Outlived, task, words)
    }

    fn unresponsive(self, task: &'static [&'static str], words: &'static [&'static str]) -> Program {
        self.expect(Verdict::Unresponsive, task, words)
    }

    /// A live look suspects the last one.
    fn suspected(mut self) -> Program {
        self.expected.last_mut().unwrap().live = Some(Verdict::Suspect);
        self
    }

    /// And so many are held back.
    fn held_back(mut self, tasks: u64) -> Program {
        self.held_back = tasks;
        self
    }

    /// Every task that is there at the end; who is unresponsive later is one of them.
    fn tasks(&self) -> Vec<Who> {
        let findings = self.expected.iter().filter(|expected| expected.verdict != Verdict::Unresponsive);
        findings.flat_map(|expected| expected.tasks).map(|text| Who::read(self.name, text)).collect()
    }
}

fn programs() -> Vec<Program> {
    vec![
        // ---- locks
        program!(ab_ba, "two locks, taken in opposite order").deadlocked(
            &["first: Mutex::lock", "second: Mutex::lock"],
            &["knot of 2", "held by task", "no guard was moved"],
        ),
        program!(philosophers, "a ring of locks, each holder waits for the next").deadlocked(
            &["a: Mutex::lock", "b: Mutex::lock", "c: Mutex::lock"],
            &["knot of 3", "held by task"],
        ),
        program!(double_lock, "a lock taken twice through a helper")
            .deadlocked(&["twice: Mutex::lock"], &["knot of 1", "it waits for what only itself could do"]),
        program!(double_lock_in_scope, "the same in the open body of a scope").deadlocked(
            &["handler: Mutex::lock"],
            &["knot of 1", "nobody spawns a child that fails into a scope that is open there"],
        ),
        program!(guard_in_condition, "a guard that lives to the end of a `match`")
            .deadlocked(&["cache: Mutex::lock"], &["knot of 1", "it waits for what only itself could do"]),
        program!(read_read_write, "a second read behind a queued writer")
            .deadlocked(&["reader: RwLock::read", "writer: RwLock::write"], &["knot of 2", "locked "]),
        program!(upgrade, "a write lock asked for under a read lock")
            .deadlocked(&["upgrade: RwLock::write"], &["knot of 1", "held by task"]),
        program!(upgrade_duel, "two readers that both want to write")
            .deadlocked(&["left: RwLock::write", "right: RwLock::write"], &["knot of 2", "held by task"]),
        program!(lock_over_join, "a lock held over a join of a task that needs it")
            .deadlocked(&["holder: JoinHandle", "worker: Mutex::lock"], &["knot of 2", "held by task"]),
        program!(lock_over_scope, "a lock held over the end of a scope whose child needs it")
            .deadlocked(&["holder: scope end", "child: Mutex::lock"], &["knot of 2", "held by task"]),
        program!(lock_over_channel, "a lock held over a receive from who needs it")
            .outlived(
                &["holder: mpsc::Receiver::recv"],
                &["the last to use the other end", "can make no progress either"],
            )
            .suspected()
            .outlived(&["sender: Mutex::lock"], &["held by task"])
            .suspected(),
        program!(futurelock, "a lock's turn in a future that its task no longer polls").deadlocked(
            &["futurelock: Mutex::lock"],
            &["knot of 1", "it waits for what only itself could do"],
        ),
        program!(lock_of_the_dead, "a lock whose holder nobody can wake")
            .unwakeable(&["holder"], &["left none behind"])
            .deadlocked(
                &["waiter x2: Mutex::lock"],
                &["2 tasks alike", "it waits for task", "which can never go on"],
            ),
        program!(pool_and_lock, "a permit and a lock, taken in opposite order").deadlocked(
            &["query: Mutex::lock", "flush: Semaphore::acquire"],
            &["knot of 2", "nobody adds permits"],
        ),
        // ---- tasks and scopes
        program!(join_cycle, "tasks that join each other")
            .stuck(&["a: JoinHandle", "b: JoinHandle"], &["knot of 2", "only tasks of the knot"]),
        program!(join_of_the_dead, "a join of a task that nobody can wake")
            .unwakeable(&["dead"], &["left none behind"])
            .stuck(&["joins: JoinHandle"], &["it waits for task", "which can never go on"]),
        program!(scope_and_uncle, "a child that joins who waits for its parent")
            .stuck(&["parent: scope end", "child: JoinHandle", "uncle: JoinHandle"], &["knot of 3"]),
        program!(pool_starves_itself, "a child that waits for a sibling for which there is no room")
            .held_open(
                &["child: JoinHandle"],
                &["the body of its scope", "It waits for the task named above"],
            )
            .outlived(&["owner: scope end"], &["It waits for the children of its scope"])
            .held_back(1),
        // ---- channels
        program!(early_return, "an error path that leaves the reply's sender in the map of requests")
            .outlived(&["ask: oneshot::Receiver"], &["Its sender has neither sent nor been dropped"]),
        program!(idle_sender, "a sender kept for later and never used").outlived(
            &["consumer: mpsc::Receiver::recv"],
            &["1 sender", "At least one sender has not been dropped"],
        ),
        program!(forgotten_sender, "a sender forgotten after its producers have ended")
            .outlived(
                &["consumer: mpsc::Receiver::recv"],
                &["the last to use the other end", ", has ended", "1 sender"],
            )
            .suspected(),
        program!(own_sender, "a task that waits for its own sender to be dropped")
            .outlived(
                &["drain: mpsc::Receiver::recv"],
                &["the last to use the other end", "can make no progress either"],
            )
            .suspected(),
        program!(double_send, "a second send on a channel whose receiver took one")
            .outlived(
                &["producer: mpsc::Sender::send"],
                &["The channel is full", "the last to use the other end", ", has ended"],
            )
            .suspected(),
        program!(first_answer_wins, "answers that nobody receives once the first one has won")
            .outlived(
                &["ask x2: mpsc::Sender::send"],
                &["2 tasks alike", "the last to use the other end", ", has ended"],
            )
            .suspected(),
        program!(both_receive_first, "two peers, each of which waits for the other to speak")
            .outlived(
                &["left: mpsc::Receiver::recv"],
                &["the last to use the other end", "can make no progress either"],
            )
            .suspected()
            .outlived(
                &["right: mpsc::Receiver::recv"],
                &["the last to use the other end", "can make no progress either"],
            )
            .suspected(),
        program!(missing_close, "a pipeline whose scope waits for a stage while it holds the stage's sender")
            .held_open(
                &["stage: mpsc::Receiver::recv"],
                &["the body of its scope", "the last to use the other end"],
            )
            .suspected()
            .outlived(&["owner: scope end"], &["It waits for the children of its scope"])
            .suspected(),
        program!(body_not_drained, "a body whose reader neither reads nor drops it").outlived(
            &["producer: mpsc::Sender::send"],
            &["The channel is full, and its receiver does not receive"],
        ),
        program!(permit_not_used, "a send behind the task's own reserved slot")
            .outlived(&["writer: mpsc::Sender::send"], &["The channel is full"]),
        program!(closed_never_comes, "a producer that waits for a receiver in a registry to go away")
            .outlived(
                &["producer: mpsc::Sender::closed"],
                &["The receiver has neither been closed nor been dropped"],
            ),
        program!(watch_never_closed, "a watch whose sender is kept")
            .outlived(&["watcher: watch::Receiver::changed"], &["At least one sender has not been dropped"]),
        program!(broadcast_never_closed, "subscribers of a broadcast that nobody closes").outlived(
            &["listener x2: broadcast::Receiver::recv"],
            &["2 tasks alike", "At least one sender has not been dropped"],
        ),
        program!(actor_asks_itself, "an actor that asks itself and waits for the answer")
            .outlived(&["actor: oneshot::Receiver"], &["Its sender has neither sent nor been dropped"]),
        program!(actors_ask_each_other, "two actors that ask each other at once")
            .outlived(&["left: oneshot::Receiver"], &["Its sender has neither sent nor been dropped"])
            .outlived(&["right: oneshot::Receiver"], &["Its sender has neither sent nor been dropped"]),
        // ---- conditions, counts and cells
        program!(notify_before_wait, "a notification that comes before anybody waits")
            .outlived(&["waiter: Notify::notified"], &["Nobody has notified it"]),
        program!(condition_without_notify, "a condition that is set without a notification")
            .outlived(&["waiter: Notify::notified"], &["Nobody has notified it"]),
        program!(barrier_off_by_one, "a barrier for one more than there are").outlived(
            &["party x2: Barrier::wait"],
            &["2 tasks alike", "Fewer tasks have come to the barrier"],
        ),
        program!(wait_group, "a count of done that misses the one who returned early")
            .outlived(&["waits: Semaphore::acquire"], &["Too few permits have been given back or added"]),
        program!(permit_forgotten, "a permit that is forgotten in place of given back")
            .outlived(&["next: Semaphore::acquire"], &["Too few permits have been given back or added"]),
        program!(more_than_there_are, "more permits asked for than the semaphore has")
            .outlived(&["greedy: Semaphore::acquire"], &["nobody holds permits", "Too few permits"]),
        program!(permit_twice, "the only permit, taken twice in one request").deadlocked(
            &["request: Semaphore::acquire"],
            &["knot of 1", "it waits for what only itself could do", "nobody adds permits"],
        ),
        program!(nested_permits, "parents that hold every permit and join children that need one")
            .deadlocked(
                &["parent x2: JoinHandle", "child x2: Semaphore::acquire"],
                &["knot of 4", "nobody adds permits"],
            ),
        program!(cell_needs_itself, "a cell whose value needs the cell").deadlocked(
            &["init: OnceCell::get_or_init"],
            &["knot of 1", "it waits for what only itself could do"],
        ),
        program!(cells_need_each_other, "two cells whose values need each other")
            .deadlocked(&["a: OnceCell::get_or_init", "b: OnceCell::get_or_init"], &["knot of 2"]),
        program!(set_once_never_set, "a value that the failed start never sets")
            .outlived(&["reader x3: SetOnce::wait"], &["3 tasks alike", "Nobody has set the value"]),
        // ---- timers, sockets, cancellation
        program!(ticker, "a ticker that nobody stops")
            .outlived(&["ticker: Interval::tick"], &["A ticker goes on until its loop ends"]),
        program!(retry_ignores_stop, "a retry loop that looks at its stop flag after the pause only")
            .outlived(&["retry: sleep"], &["The outside world can still end this wait"]),
        program!(select_without_exit, "a select that goes on when its channel has closed")
            .outlived(&["loop: Interval::tick"], &["nothing ends this loop"]),
        program!(cancel_not_passed_on, "work spawned outside of the scope that is cancelled")
            .outlived(&["inner: cancelled"], &["It waits to be cancelled"]),
        program!(response_never_read, "a response that the peer does not read")
            .outlived(&["server: TcpStream write"], &["does not read"]),
        program!(silent_peer, "a connection that is open and silent, without a timeout")
            .outlived(&["server: TcpStream read"], &["The peer keeps the connection open and sends nothing"]),
        program!(accepts_for_ever, "a listener that nobody stops").outlived(
            &["server: TcpListener::accept"],
            &["A listener waits for connections until its task is ended"],
        ),
        program!(blocking_for_ever, "a blocking call that does not return")
            .outlived(&["job: running"], &["It is still working"])
            .unresponsive(&["job: running"], &["a blocking call cannot be stopped"]),
        program!(shielded_for_ever, "a shield around something that never ends")
            .unwakeable(&["shielded"], &["left none behind"])
            .unresponsive(&["shielded"], &["use `shield_for`"]),
        // ---- wakers
        program!(no_waker, "a hand-written future that registers no waker")
            .unwakeable(&["job"], &["its last poll returned Pending and left none behind"]),
        program!(waker_dropped, "a waker that another task drops in place of waking")
            .unwakeable(&["job"], &["the last one was dropped by task"]),
        program!(waker_dropped_by_thread, "a waker that a thread drops as it ends")
            .unwakeable(&["job"], &["the last one was dropped by a thread"]),
        program!(stale_waker, "a future that keeps its first waker when it moves to another task")
            .unwakeable(&["moved"], &["left none behind"]),
        program!(foreign_channel, "another crate's channel whose sender is kept")
            .outlived(&["job"], &["1 waker held outside leakfree's own queues"]),
        program!(next_child, "a set of children, one of which nobody can wake")
            .unwakeable(&["unnamed"], &["left none behind"])
            .outlived(&["parent: Children::join_next"], &["It waits for a child of its scope to end"]),
    ]
}

// ---- locks --------------------------------------------------------------------------------------

async fn ab_ba(p: Plot) {
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    let (has_a, a_taken) = oneshot::channel();
    let (has_b, b_taken) = oneshot::channel();
    let first = async move {
        let _a = a.lock().await;
        has_a.send(()).unwrap();
        if p.leaks {
            b_taken.await.unwrap();
        }
        let _b = b.lock().await; // wait first
    };
    let second = async move {
        a_taken.await.unwrap();
        if p.leaks {
            let _b = b2.lock().await;
            has_b.send(()).unwrap();
            let _a = a2.lock().await; // wait second
        } else {
            let _a = a2.lock().await;
            let _b = b2.lock().await;
        }
    };
    spawn("first", first); // spawn first
    spawn("second", second); // spawn second
}

async fn philosophers(p: Plot) {
    let forks: [_; 3] = std::array::from_fn(|_| Arc::new(Mutex::new(())));
    let seated = Arc::new(Barrier::new(3));
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        let (mut one, mut other) = (place, (place + 1) % 3);
        if !p.leaks && other < one {
            (one, other) = (other, one);
        }
        let (one, other) = (Arc::clone(&forks[one]), Arc::clone(&forks[other]));
        let seated = Arc::clone(&seated);
        let eat = async move {
            let _one = one.lock().await;
            if p.leaks {
                seated.wait().await;
            }
            let _other = other.lock().await; // wait a // wait b // wait c
        };
        spawn(name, eat); // spawn a // spawn b // spawn c
    }
}

async fn double_lock(p: Plot) {
    async fn add(sum: &Mutex<u64>, n: u64) {
        *sum.lock().await += n;
    }
    let twice = async move {
        let sum = Mutex::new(1);
        let before = sum.lock().await;
        let n = *before;
        if p.leaks {
            let mut again = pin!(sum.lock()); // wait twice
            *(&mut again).await += n;
        }
        drop(before);
        add(&sum, n).await;
    };
    spawn("twice", twice); // spawn twice
}

async fn double_lock_in_scope(p: Plot) {
    let handler = scope(async move |_| {
        let sum = Mutex::new(1);
        let before = sum.lock().await;
        if !p.leaks {
            drop(before);
        }
        drop(sum.lock().await); // wait handler
    });
    spawn("handler", handler); // spawn handler
}

async fn guard_in_condition(p: Plot) {
    let cache = Arc::new(Mutex::new(BTreeMap::<u32, u32>::new()));
    let look_up = async move {
        if p.leaks {
            // The guard of the condition lives on in the body.
            match cache.lock().await.get(&1) {
                Some(_) => {}
                None => drop(cache.lock().await.insert(1, 1)), // wait cache
            }
        } else {
            let found = cache.lock().await.get(&1).copied();
            if found.is_none() {
                cache.lock().await.insert(1, 1);
            }
        }
    };
    spawn("cache", look_up); // spawn cache
}

async fn read_read_write(p: Plot) {
    let lock = Arc::new(RwLock::new(0));
    let theirs = Arc::clone(&lock);
    let (has_read, first_read) = oneshot::channel();
    let (queued, is_queued) = oneshot::channel();
    let reader = async move {
        let once = lock.read().await;
        has_read.send(()).unwrap();
        is_queued.await.unwrap();
        if !p.leaks {
            drop(once);
        }
        let _twice = lock.read().await; // wait reader
    };
    let writer = async move {
        first_read.await.unwrap();
        let mut write = pin!(theirs.write()); // wait writer
        assert!(futures::poll!(&mut write).is_pending());
        queued.send(()).unwrap();
        *write.await += 1;
    };
    spawn("reader", reader); // spawn reader
    spawn("writer", writer); // spawn writer
}

async fn upgrade(p: Plot) {
    let upgrade = async move {
        let lock = RwLock::new(0);
        let read = lock.read().await;
        let next = *read + 1;
        if !p.leaks {
            drop(read);
        }
        *lock.write().await = next; // wait upgrade
    };
    spawn("upgrade", upgrade); // spawn upgrade
}

async fn upgrade_duel(p: Plot) {
    let lock = Arc::new(RwLock::new(0));
    let both = Arc::new(Barrier::new(2));
    for name in ["left", "right"] {
        let (lock, both) = (Arc::clone(&lock), Arc::clone(&both));
        let duel = async move {
            let read = lock.read().await;
            let next = *read + 1;
            both.wait().await;
            if !p.leaks {
                drop(read);
            }
            *lock.write().await = next; // wait left // wait right
        };
        spawn(name, duel); // spawn left // spawn right
    }
}

async fn lock_over_join(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let holder = async move {
        let guard = lock.lock().await;
        let theirs = Arc::clone(&lock);
        let work = async move { drop(theirs.lock().await) }; // wait worker
        let worker = spawn("worker", work); // spawn worker
        if !p.leaks {
            drop(guard);
        }
        let _ = worker.await; // wait holder
    };
    spawn("holder", holder); // spawn holder
}

async fn lock_over_scope(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let holder = async move {
        let mut guard = Some(lock.lock().await);
        let theirs = Arc::clone(&lock);
        let body = async |s: Scope| {
            let work = async move { drop(theirs.lock().await) }; // wait child
            s.task().name("child").spawn(work); // spawn child
            if !p.leaks {
                guard = None;
            }
        };
        scope(body).await; // wait holder
    };
    spawn("holder", holder); // spawn holder
}

async fn lock_over_channel(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (tx, mut rx) = mpsc::channel(8);
    let (go, gone) = oneshot::channel();
    let holder = async move {
        // One message is there before the lock is taken: the channel knows its sender.
        rx.recv().await.unwrap();
        let guard = lock.lock().await;
        go.send(()).unwrap();
        if !p.leaks {
            drop(guard);
        }
        let _ = rx.recv().await; // wait holder
    };
    let sender = async move {
        tx.send(1).await.unwrap();
        gone.await.unwrap();
        let _guard = theirs.lock().await; // wait sender
        let _ = tx.send(2).await;
    };
    spawn("holder", holder); // spawn holder
    spawn("sender", sender); // spawn sender
}

async fn futurelock(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let guard = lock.lock().await;
    let theirs = Arc::clone(&lock);
    let (queued, is_queued) = oneshot::channel();
    let task = async move {
        let mut first = Some(Box::pin(theirs.lock()));
        assert!(futures::poll!(first.as_mut().unwrap()).is_pending());
        queued.send(()).unwrap();
        if !p.leaks {
            first = None;
        }
        // In line behind itself: when its turn comes it does not look.
        drop(theirs.lock().await); // wait futurelock
        drop(first);
    };
    spawn("futurelock", task); // spawn futurelock
    is_queued.await.unwrap();
    drop(guard);
}

async fn lock_of_the_dead(p: Plot) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    let (has, taken) = oneshot::channel();
    let holder = async move {
        let _guard = theirs.lock().await;
        has.send(()).unwrap();
        if p.leaks {
            pending::<()>().await;
        }
    };
    spawn("holder", holder); // spawn holder
    taken.await.unwrap();
    for _ in 0..2 {
        let lock = Arc::clone(&lock);
        let wait = async move { drop(lock.lock().await) }; // wait waiter
        spawn("waiter", wait); // spawn waiter
    }
}

async fn pool_and_lock(p: Plot) {
    let pool = Arc::new(Semaphore::new(1));
    let lock = Arc::new(Mutex::new(()));
    let (pool2, lock2) = (Arc::clone(&pool), Arc::clone(&lock));
    let both = Arc::new(Barrier::new(2));
    let both2 = Arc::clone(&both);
    let query = async move {
        let _connection = pool.acquire().await.unwrap();
        if p.leaks {
            both.wait().await;
        }
        let _lock = lock.lock().await; // wait query
    };
    let flush = async move {
        if p.leaks {
            let _lock = lock2.lock().await;
            both2.wait().await;
            let _connection = pool2.acquire().await.unwrap(); // wait flush
        } else {
            let _connection = pool2.acquire().await.unwrap();
            let _lock = lock2.lock().await;
        }
    };
    spawn("query", query); // spawn query
    spawn("flush", flush); // spawn flush
}

// ---- tasks and scopes ---------------------------------------------------------------------------

async fn join_cycle(p: Plot) {
    let (give_a, get_a) = oneshot::channel::<JoinHandle<()>>();
    let (give_b, get_b) = oneshot::channel::<JoinHandle<()>>();
    let join_b = async move {
        let b = get_b.await.unwrap();
        let _ = b.await; // wait a
    };
    let join_a = async move {
        let a = get_a.await.unwrap();
        if p.leaks {
            let _ = a.await; // wait b
        }
    };
    let a = spawn("a", join_b); // spawn a
    let b = spawn("b", join_a); // spawn b
    give_a.send(a).unwrap();
    give_b.send(b).unwrap();
}

async fn join_of_the_dead(p: Plot) {
    let dead = async move {
        if p.leaks {
            pending::<()>().await;
        }
    };
    let dead = spawn("dead", dead); // spawn dead
    let joins = async move { drop(dead.await) }; // wait joins
    spawn("joins", joins); // spawn joins
}

async fn scope_and_uncle(p: Plot) {
    let (give_uncle, get_uncle) = oneshot::channel::<JoinHandle<()>>();
    let (give_parent, get_parent) = oneshot::channel::<JoinHandle<()>>();
    let parent = async move {
        let body = async |s: Scope| {
            let child = async move {
                let uncle = get_uncle.await.unwrap();
                if p.leaks {
                    let _ = uncle.await; // wait child
                }
            };
            s.task().name("child").spawn(child); // spawn child
        };
        scope(body).await; // wait parent
    };
    let parent = spawn("parent", parent); // spawn parent
    let uncle = async move {
        let parent = get_parent.await.unwrap();
        let _ = parent.await; // wait uncle
    };
    let uncle = spawn("uncle", uncle); // spawn uncle
    give_uncle.send(uncle).unwrap();
    give_parent.send(parent).unwrap();
}

async fn pool_starves_itself(p: Plot) {
    let owner = async move {
        let body = async |s: Scope| {
            let pool = s.clone();
            let child = async move {
                let sibling = pool.spawn(async {});
                if p.leaks {
                    let _ = sibling.await; // wait child
                }
            };
            s.task().name("child").spawn(child); // spawn child
        };
        Scope::builder().max_concurrent(1).scope(body).await; // wait owner
    };
    spawn("owner", owner); // spawn owner
}

// ---- channels -----------------------------------------------------------------------------------

async fn early_return(p: Plot) {
    let mut requests = BTreeMap::new();
    let (reply, answer) = oneshot::channel::<u32>();
    requests.insert(7, reply);
    let ask = async move { answer.await.is_ok() }; // wait ask
    spawn("ask", ask); // spawn ask
    // The request has failed; repaired, its entry goes, too.
    p.forget(requests);
}

async fn idle_sender(p: Plot) {
    let (tx, mut rx) = mpsc::channel::<u32>(8);
    let consume = async move { while rx.recv().await.is_some() {} }; // wait consumer
    spawn("consumer", consume); // spawn consumer
    p.forget(tx);
}

async fn forgotten_sender(p: Plot) {
    let (tx, mut rx) = mpsc::channel::<u32>(8);
    let consume = async move { while rx.recv().await.is_some() {} }; // wait consumer
    spawn("consumer", consume); // spawn consumer
    let theirs = tx.clone();
    spawn("producer", async move { theirs.send(1).await.unwrap() }).await.unwrap();
    p.forget(tx);
}

async fn own_sender(p: Plot) {
    let (tx, mut rx) = mpsc::unbounded_channel::<u32>();
    let drain = async move {
        let mut tx = Some(tx);
        tx.as_ref().unwrap().send(1).unwrap();
        if !p.leaks {
            tx = None;
        }
        while rx.recv().await.is_some() {} // wait drain
        drop(tx);
    };
    spawn("drain", drain); // spawn drain
}

async fn double_send(p: Plot) {
    let (tx, mut rx) = mpsc::channel::<u32>(1);
    let (done, is_done) = oneshot::channel();
    let produce = async move {
        tx.send(1).await.unwrap();
        is_done.await.unwrap();
        let _ = tx.send(2).await;
        let _ = tx.send(3).await; // wait producer
    };
    spawn("producer", produce); // spawn producer
    let consume = async move {
        rx.recv().await.unwrap();
        p.forget(rx);
        done.send(()).unwrap();
    };
    spawn("consumer", consume).await.unwrap();
}

async fn first_answer_wins(p: Plot) {
    let (tx, mut rx) = mpsc::channel::<u32>(1);
    for n in 0..4 {
        let tx = tx.clone();
        let ask = async move { tx.send(n).await.is_ok() }; // wait ask
        spawn("ask", ask); // spawn ask
    }
    rx.recv().await.unwrap();
    p.forget(rx);
}

async fn both_receive_first(p: Plot) {
    let (to_left, mut left_rx) = mpsc::channel::<u32>(1);
    let (to_right, mut right_rx) = mpsc::channel::<u32>(1);
    let left = async move {
        to_right.send(0).await.unwrap();
        left_rx.recv().await.unwrap();
        if !p.leaks {
            to_right.send(1).await.unwrap();
        }
        let _ = left_rx.recv().await; // wait left
        drop(to_right);
    };
    let right = async move {
        to_left.send(0).await.unwrap();
        right_rx.recv().await.unwrap();
        let _ = right_rx.recv().await; // wait right
        let _ = to_left.send(1).await;
    };
    spawn("left", left); // spawn left
    spawn("right", right); // spawn right
}

async fn missing_close(p: Plot) {
    let owner = async move {
        let (tx, mut rx) = mpsc::channel::<u32>(8);
        let mut tx = Some(tx);
        let body = async |s: Scope| {
            let stage = async move { while rx.recv().await.is_some() {} }; // wait stage
            s.task().name("stage").spawn(stage); // spawn stage
            tx.as_ref().unwrap().send(1).await.unwrap();
            if !p.leaks {
                tx = None;
            }
        };
        scope(body).await; // wait owner
        drop(tx);
    };
    spawn("owner", owner); // spawn owner
}

async fn body_not_drained(p: Plot) {
    let (tx, rx) = mpsc::channel::<u32>(1);
    let produce = async move {
        for chunk in 0..9 {
            let sent = tx.send(chunk).await; // wait producer
            if sent.is_err() {
                break;
            }
        }
    };
    spawn("producer", produce); // spawn producer
    p.forget(rx);
}

async fn permit_not_used(p: Plot) {
    let (tx, rx) = mpsc::channel::<u32>(1);
    let write = async move {
        let permit = tx.reserve().await.unwrap();
        if p.leaks {
            let _ = tx.send(1).await; // wait writer
            drop(permit);
        } else {
            permit.send(1);
        }
        drop(rx);
    };
    spawn("writer", write); // spawn writer
}

async fn closed_never_comes(p: Plot) {
    let (tx, rx) = mpsc::channel::<u32>(1);
    let produce = async move { tx.closed().await }; // wait producer
    spawn("producer", produce); // spawn producer
    p.forget(rx);
}

async fn watch_never_closed(p: Plot) {
    let (tx, mut rx) = watch::channel(0);
    let watch = async move { while rx.changed().await.is_ok() {} }; // wait watcher
    spawn("watcher", watch); // spawn watcher
    tx.send(1).unwrap();
    p.forget(tx);
}

async fn broadcast_never_closed(p: Plot) {
    let (tx, _) = broadcast::channel(8);
    for _ in 0..2 {
        let mut rx = tx.subscribe();
        let listen = async move { while rx.recv().await.is_ok() {} }; // wait listener
        spawn("listener", listen); // spawn listener
    }
    tx.send(1).unwrap();
    p.forget(tx);
}

type Mailbox = mpsc::Sender<oneshot::Sender<u32>>;

/// Asks the owner of a mailbox. Inlined: the wait's place is in the program.
macro_rules! ask {
    ($mailbox:expr) => {{
        let (reply, answer) = oneshot::channel();
        $mailbox.send(reply).await.unwrap();
        answer
    }};
}

async fn actor_asks_itself(p: Plot) {
    let (itself, mut rx): (Mailbox, _) = mpsc::channel(8);
    let client = itself.clone();
    let actor = async move {
        let first = rx.recv().await.unwrap();
        if p.leaks {
            let answer = ask!(itself);
            let _ = answer.await; // wait actor
        }
        let _ = first.send(1);
    };
    spawn("actor", actor); // spawn actor
    let (reply, answer) = oneshot::channel();
    client.send(reply).await.unwrap();
    if !p.leaks {
        answer.await.unwrap();
    }
}

async fn actors_ask_each_other(p: Plot) {
    let (to_left, mut left_rx): (Mailbox, _) = mpsc::channel(8);
    let (to_right, mut right_rx): (Mailbox, _) = mpsc::channel(8);
    let left = async move {
        let answer = ask!(to_right);
        let _ = answer.await; // wait left
        let _ = left_rx.recv().await.unwrap().send(1);
    };
    let right = async move {
        if !p.leaks {
            let _ = right_rx.recv().await.unwrap().send(1);
        }
        let answer = ask!(to_left);
        let _ = answer.await; // wait right
        drop(right_rx);
    };
    spawn("left", left); // spawn left
    spawn("right", right); // spawn right
}

// ---- conditions, counts and cells ---------------------------------------------------------------

async fn notify_before_wait(p: Plot) {
    let ready = Arc::new(Notify::new());
    let theirs = Arc::clone(&ready);
    let (told, is_told) = oneshot::channel();
    let wait = async move {
        is_told.await.unwrap();
        theirs.notified().await; // wait waiter
    };
    spawn("waiter", wait); // spawn waiter
    if p.leaks {
        // It wakes who waits now, and nobody does.
        ready.notify_waiters();
    } else {
        ready.notify_one();
    }
    told.send(()).unwrap();
    p.forget(ready);
}

async fn condition_without_notify(p: Plot) {
    let state = Arc::new((Notify::new(), std::sync::Mutex::new(false)));
    let theirs = Arc::clone(&state);
    let (looked, has_looked) = oneshot::channel();
    let wait = async move {
        let mut looked = Some(looked);
        loop {
            let notified = theirs.0.notified(); // wait waiter
            if *theirs.1.lock().unwrap() {
                break;
            }
            looked.take().unwrap().send(()).unwrap();
            notified.await;
        }
    };
    spawn("waiter", wait); // spawn waiter
    has_looked.await.unwrap();
    *state.1.lock().unwrap() = true;
    if !p.leaks {
        state.0.notify_waiters();
    }
}

async fn barrier_off_by_one(p: Plot) {
    let barrier = Arc::new(Barrier::new(if p.leaks { 3 } else { 2 }));
    for _ in 0..2 {
        let barrier = Arc::clone(&barrier);
        let party = async move { barrier.wait().await.is_leader() }; // wait party
        spawn("party", party); // spawn party
    }
}

async fn wait_group(p: Plot) {
    let done = Arc::new(Semaphore::new(0));
    for n in 0..3 {
        let done = Arc::clone(&done);
        let work = async move {
            if n == 1 && p.leaks {
                return;
            }
            done.add_permits(1);
        };
        spawn("worker", work);
    }
    let wait = async move { done.acquire_many(3).await.unwrap().forget() }; // wait waits
    spawn("waits", wait); // spawn waits
}

async fn permit_forgotten(p: Plot) {
    let pool = Arc::new(Semaphore::new(1));
    let permit = pool.acquire().await.unwrap();
    if p.leaks {
        permit.forget();
    } else {
        drop(permit);
    }
    let next = async move { drop(pool.acquire().await) }; // wait next
    spawn("next", next); // spawn next
}

async fn more_than_there_are(p: Plot) {
    let pool = Semaphore::new(2);
    let most = if p.leaks { 3 } else { 2 };
    let greedy = async move { drop(pool.acquire_many(most).await) }; // wait greedy
    spawn("greedy", greedy); // spawn greedy
}

async fn permit_twice(p: Plot) {
    let pool = Semaphore::new(1);
    let request = async move {
        let outer = pool.acquire().await.unwrap();
        if !p.leaks {
            drop(outer);
        }
        drop(pool.acquire().await); // wait request
    };
    spawn("request", request); // spawn request
}

async fn nested_permits(p: Plot) {
    let pool = Arc::new(Semaphore::new(2));
    let both = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let (pool, both) = (Arc::clone(&pool), Arc::clone(&both));
        let parent = async move {
            let permit = pool.acquire().await.unwrap();
            both.wait().await;
            let theirs = Arc::clone(&pool);
            let child = async move { drop(theirs.acquire().await) }; // wait child
            let child = spawn("child", child); // spawn child
            if !p.leaks {
                drop(permit);
            }
            let _ = child.await; // wait parent
        };
        spawn("parent", parent); // spawn parent
    }
}

async fn cell_needs_itself(p: Plot) {
    let cell = OnceCell::new();
    let init = async move {
        let value = async || {
            if p.leaks {
                let again = cell.get_or_init(async || 1); // wait init
                return *again.await + 1;
            }
            1
        };
        cell.get_or_init(value).await;
    };
    spawn("init", init); // spawn init
}

async fn cells_need_each_other(p: Plot) {
    let cells = Arc::new((OnceCell::<u32>::new(), OnceCell::<u32>::new()));
    let theirs = Arc::clone(&cells);
    let both = Arc::new(Barrier::new(2));
    let both2 = Arc::clone(&both);
    let a = async move {
        let value = async || {
            both.wait().await;
            let other = cells.1.get_or_init(async || 1); // wait a
            *other.await
        };
        cells.0.get_or_init(value).await;
    };
    let b = async move {
        if p.leaks {
            let value = async || {
                both2.wait().await;
                let other = theirs.0.get_or_init(async || 1); // wait b
                *other.await
            };
            theirs.1.get_or_init(value).await;
        } else {
            both2.wait().await;
            theirs.0.get_or_init(async || 1).await;
        }
    };
    spawn("a", a); // spawn a
    spawn("b", b); // spawn b
}

async fn set_once_never_set(p: Plot) {
    let config = Arc::new(SetOnce::new());
    for _ in 0..3 {
        let config = Arc::clone(&config);
        let read = async move { *config.wait().await }; // wait reader
        spawn("reader", read); // spawn reader
    }
    if !p.leaks {
        config.set(1).unwrap();
    }
}

// ---- timers, sockets, cancellation --------------------------------------------------------------

async fn ticker(p: Plot) {
    let (stop, mut stopped) = oneshot::channel::<()>();
    let ticks = async move {
        let mut every = interval(HOUR);
        every.tick().await;
        if p.leaks {
            every.tick().await; // wait ticker
        } else {
            select(pin!(every.tick()), &mut stopped).await;
        }
    };
    spawn("ticker", ticks); // spawn ticker
    drop(stop);
}

async fn retry_ignores_stop(p: Plot) {
    let (stop, mut stopped) = oneshot::channel::<()>();
    let retry = async move {
        while stopped.try_recv().is_err() {
            if p.leaks {
                sleep(HOUR).await; // wait retry
            } else {
                select(pin!(sleep(HOUR)), pin!(&mut stopped)).await;
                break;
            }
        }
    };
    let (started, is_started) = oneshot::channel();
    let retry = async move {
        started.send(()).unwrap();
        retry.await;
    };
    spawn("retry", retry); // spawn retry
    is_started.await.unwrap();
    if p.leaks {
        // It is asleep when it is told.
        until(|| leakfree::runtime::Handle::current().snapshot().timers > 0).await;
    }
    let _ = stop.send(());
}

async fn select_without_exit(p: Plot) {
    let (tx, mut rx) = mpsc::channel::<u32>(1);
    let work = async move {
        let mut every = interval(HOUR);
        every.tick().await;
        let mut open = true;
        while open {
            match select(pin!(every.tick()), pin!(rx.recv())).await {
                futures::future::Either::Right((None, _)) => open = false,
                _ => continue,
            }
        }
        if p.leaks {
            loop {
                every.tick().await; // wait loop
            }
        }
    };
    spawn("loop", work); // spawn loop
    tx.send(1).await.unwrap();
}

async fn cancel_not_passed_on(p: Plot) {
    let root = leakfree::scope::current();
    scope(async |s: Scope| {
        let into = if p.leaks { root } else { s.clone() };
        let (begun, has_begun) = oneshot::channel();
        let inner = async move {
            begun.send(()).unwrap();
            leakfree::cancelled().await; // wait inner
        };
        into.task().name("inner").spawn(inner); // spawn inner
        has_begun.await.unwrap();
        s.cancel("the request has gone");
    })
    .await;
}

/// Two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn response_never_read(p: Plot) {
    let (server, client) = connection().await;
    let serve = async move {
        let body = vec![b'x'; 64 << 20];
        let _ = server.write_all(&body).await; // wait server
    };
    spawn("server", serve); // spawn server
    p.forget(client);
}

async fn silent_peer(p: Plot) {
    let (server, client) = connection().await;
    let serve = async move {
        let _ = server.read(&mut [0; 16]).await; // wait server
    };
    spawn("server", serve); // spawn server
    p.forget(client);
}

async fn accepts_for_ever(p: Plot) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = async move {
        let accept = listener.accept(); // wait server
        if p.leaks {
            drop((accept.await, stopped));
        } else {
            select(pin!(accept), stopped).await;
        }
    };
    spawn("server", serve); // spawn server
    drop(stop);
}

async fn blocking_for_ever(p: Plot) {
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let job = move || rx.recv().is_ok();
    leakfree::scope::current().task().name("job").spawn_blocking(job); // spawn job
    p.forget(tx);
}

async fn shielded_for_ever(p: Plot) {
    let work = async move {
        if p.leaks {
            pending::<()>().await;
        }
    };
    let shielded = async move { leakfree::shield(work).await };
    spawn("shielded", shielded); // spawn shielded
}

// ---- wakers -------------------------------------------------------------------------------------

async fn no_waker(p: Plot) {
    let mut polls = 0;
    let job = poll_fn(move |cx| {
        polls += 1;
        if polls > 1 {
            return Poll::Ready(());
        }
        if !p.leaks {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    });
    spawn("job", job); // spawn job
}

/// Hands its waker out at its first poll, and is ready at its second.
fn hands_out(waker: oneshot::Sender<Waker>) -> impl Future<Output = ()> + Send {
    let mut waker = Some(waker);
    poll_fn(move |cx: &mut Context<'_>| match waker.take() {
        Some(waker) => {
            let _ = waker.send(cx.waker().clone());
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
}

async fn waker_dropped(p: Plot) {
    let (give, get) = oneshot::channel();
    spawn("job", hands_out(give)); // spawn job
    let careless = async move {
        let waker = get.await.unwrap();
        until_parked("job").await;
        if !p.leaks {
            waker.wake_by_ref();
        }
        drop(waker);
    };
    spawn("careless", careless).await.unwrap();
}

async fn waker_dropped_by_thread(p: Plot) {
    let (give, get) = oneshot::channel();
    spawn("job", hands_out(give)); // spawn job
    let waker = get.await.unwrap();
    until_parked("job").await;
    let thread = std::thread::spawn(move || {
        if !p.leaks {
            waker.wake_by_ref();
        }
        drop(waker);
    });
    thread.join().unwrap();
}

/// Whether it has been set, and who is to be woken then.
type Flag = Arc<std::sync::Mutex<(bool, Option<Waker>)>>;

/// Ready when its flag is set. With `first_only` it registers the waker of its first poll and no other.
struct WhenSet {
    flag: Flag,
    first_only: bool,
}

impl Future for WhenSet {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut flag = self.flag.lock().unwrap();
        if flag.0 {
            return Poll::Ready(());
        }
        if !self.first_only || flag.1.is_none() {
            flag.1 = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

async fn stale_waker(p: Plot) {
    let flag = Flag::default();
    let mut moved = Box::pin(WhenSet { flag: Arc::clone(&flag), first_only: p.leaks });
    assert!(futures::poll!(&mut moved).is_pending());
    spawn("moved", moved); // spawn moved
    until_parked("moved").await;
    let mut flag = flag.lock().unwrap();
    flag.0 = true;
    flag.1.take().unwrap().wake();
}

async fn foreign_channel(p: Plot) {
    let (tx, rx) = futures::channel::oneshot::channel::<()>();
    let job = async move { rx.await.is_ok() };
    spawn("job", job); // spawn job
    p.forget(tx);
}

async fn next_child(p: Plot) {
    let parent = async move {
        scope(async |s: Scope| {
            let mut children = s.children();
            let child = async move {
                if p.leaks {
                    pending::<()>().await;
                }
            };
            children.spawn(child); // spawn unnamed
            let _ = children.join_next().await; // wait parent
        })
        .await;
    };
    spawn("parent", parent); // spawn parent
}

/// Waits until the task of that name is parked.
async fn until_parked(name: &str) {
    leakfree_tests::parked(name).await;
}

// ---- the harness --------------------------------------------------------------------------------

/// A task that a row names, and what a report must say of it.
#[derive(Clone, PartialEq, Debug)]
struct Who {
    name: &'static str,
    count: usize,
    /// It is not parked.
    running: bool,
    spawned: u32,
    /// Reasons and lines, in order.
    waits: Vec<(String, u32)>,
}

impl Who {
    /// `NAME [xN][: REASON [+ REASON]]`
    fn read(function: &str, text: &'static str) -> Who {
        let (head, reasons) = text.split_once(": ").map_or((text, None), |(head, rest)| (head, Some(rest)));
        let (name, count) = head.split_once(" x").map_or((head, 1), |(name, n)| (name, n.parse().unwrap()));
        let lines = |mark: &str| {
            let all = SOURCE.lines(function, &format!("{mark} {name}"));
            assert!(!all.is_empty(), "{function}: no line is marked `// {mark} {name}`");
            all
        };
        let running = reasons == Some("running");
        let reasons: Vec<&str> =
            reasons.filter(|_| !running).map(|text| text.split(" + ").collect()).unwrap_or_default();
        let mut waits: Vec<(String, u32)> = Vec::new();
        if !reasons.is_empty() {
            let lines = lines("wait");
            assert_eq!(lines.len(), reasons.len(), "{function}: a mark for each wait of {name}");
            waits = reasons.iter().map(|reason| (*reason).to_owned()).zip(lines).collect();
        }
        waits.sort();
        let [spawned] = lines("spawn")[..] else { panic!("{function}: {name} is spawned in one place") };
        Who { name, count, running, spawned, waits }
    }

    /// Whether a live look would suspect it by now, if anything speaks against it.
    fn is_long_parked(task: &TaskInfo) -> bool {
        task.parked.is_some_and(|parked| parked >= Duration::from_millis(100))
    }

    /// Whether a task is this one, where it should be.
    fn is(&self, task: &TaskInfo) -> bool {
        let mut waits: Vec<(String, u32)> = Vec::new();
        for wait in &task.waits {
            waits.push((wait.reason.name().to_owned(), wait.site.line));
        }
        waits.sort();
        let ours = task.waits.iter().all(|wait| wait.site.file == SOURCE.file);
        task.name.as_deref().unwrap_or("unnamed") == self.name
            && (task.spawned_at.file, task.spawned_at.line) == (SOURCE.file, self.spawned)
            && (task.phase == if self.running { Phase::Running } else { Phase::Parked })
            && ours
            && waits == self.waits
    }
}

/// Whether everybody is where the program wants them, and nobody else is there.
fn rests(snapshot: &Snapshot, tasks: &[Who], held_back: u64) -> bool {
    let all: usize = tasks.iter().map(|who| who.count).sum();
    let waiting: u64 = snapshot.scopes.iter().map(|scope| scope.held_back).sum();
    (snapshot.newborn, waiting) == (held_back, held_back)
        && snapshot.tasks.len() == all
        && tasks.iter().all(|who| snapshot.tasks.iter().filter(|task| who.is(task)).count() == who.count)
}

/// Whether a finding is about exactly these, with that verdict.
fn is_about(finding: &Finding, verdict: Verdict, tasks: &[Who]) -> bool {
    let named: Vec<&TaskInfo> =
        [&finding.task].into_iter().chain(finding.knot.iter().map(|member| &member.task)).collect();
    let all: usize = tasks.iter().map(|who| who.count).sum();
    // Of tasks alike one is named, of a knot all are.
    let is_named = |who: &Who| {
        let found = named.iter().filter(|task| who.is(task)).count();
        found == if finding.knots > 0 { who.count } else { 1 }
    };
    finding.verdict == verdict
        && finding.ids.len() == all
        && (finding.knots == 1 || tasks.len() == 1)
        && tasks.iter().all(is_named)
}

/// The text of each finding of a report.
fn texts(report: &Report) -> Vec<String> {
    let text = report.to_string();
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(&format!("{}. ", texts.len() + 1)) {
            texts.push(String::new());
        }
        if let Some(text) = texts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    texts
}

/// Compares a report with what the row expects of it: all of that, and nothing else.
fn check(
    program: &Program,
    report: &Report,
    verdict: impl Fn(&Expected) -> Option<Verdict>,
    words: bool,
) -> Result<(), String> {
    let texts = texts(report);
    let mut left: Vec<usize> = (0..report.findings.len()).collect();
    for expected in &program.expected {
        let Some(verdict) = verdict(expected) else { continue };
        let tasks: Vec<Who> = expected.tasks.iter().map(|text| Who::read(program.name, text)).collect();
        let place = left.iter().position(|&at| is_about(&report.findings[at], verdict, &tasks));
        let Some(place) = place else {
            return Err(format!("{} of {tasks:?} is missing", verdict.name()));
        };
        let text = &texts[left.remove(place)];
        for word in expected.words.iter().filter(|_| words) {
            if !text.contains(word) {
                return Err(format!("{word:?} is not in the text of {:?}", expected.tasks));
            }
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("findings that nobody expected: {left:?}")),
    }
}

/// The strongest verdict on a live look, and at the end.
type Said = (Option<Verdict>, Option<Verdict>);

fn strongest(report: &Report) -> Option<Verdict> {
    report.findings.iter().map(|finding| finding.verdict).min()
}

fn run_leaking(program: &Program, workers: usize) -> Said {
    let (name, keep) = (program.name, Keep::default());
    let runtime = corpus::runtime(workers, false);
    runtime.block_on((program.run)(Plot { leaks: true, keep: keep.clone() }));
    let tasks = program.tasks();
    let suspected = program.expected.iter().any(|expected| expected.live == Some(Verdict::Suspect));
    let at_rest = |snapshot: &Snapshot| {
        let is_due = !suspected || snapshot.tasks.iter().all(Who::is_long_parked);
        is_due && rests(snapshot, &tasks, program.held_back)
    };
    if !comes_to_rest(&runtime.handle(), at_rest) {
        let report = runtime.handle().report();
        let there = &report.snapshot.tasks;
        panic!(
            "{name} on {workers} workers does not come where it should:\n{there:?}\nexpected {tasks:?}\n{report}"
        );
    }
    let live = runtime.handle().report();
    let end = runtime.shutdown();
    drop(keep);
    if let Err(wrong) = check(program, &live, |expected| expected.live, false) {
        panic!("{name} on {workers} workers, live: {wrong}\n{live}");
    }
    if let Err(wrong) = check(program, &end, |expected| Some(expected.verdict), true) {
        panic!("{name} on {workers} workers, at the end: {wrong}\n{end}");
    }
    let leaked: usize = tasks.iter().map(|who| who.count).sum();
    assert_eq!(end.leaked(), leaked as u64 + program.held_back, "{name}: {end}");
    let in_line = "held back by the bound on its scope's children: nothing makes room";
    assert_eq!(end.to_string().contains(in_line), program.held_back > 0, "{name}: {end}");
    (strongest(&live), strongest(&end))
}

fn run_repaired(program: &Program, workers: usize) {
    let (name, keep) = (program.name, Keep::default());
    let runtime = corpus::runtime(workers, false);
    runtime.block_on((program.run)(Plot { leaks: false, keep: keep.clone() }));
    let gone = |snapshot: &Snapshot| snapshot.newborn == 0 && snapshot.tasks.is_empty();
    if !comes_to_rest(&runtime.handle(), gone) {
        panic!("{name}, repaired, on {workers} workers leaves\n{}", runtime.shutdown());
    }
    let live = runtime.handle().report();
    let end = runtime.shutdown();
    for report in [live, end] {
        assert!(report.is_empty() && report.findings.is_empty(), "{name}, repaired, on {workers}:\n{report}");
    }
}

fn run(program: &Program) -> Said {
    let mut said = None;
    for _ in 0..rounds(2) {
        for workers in WORKERS {
            let now = run_leaking(program, workers);
            assert_eq!(*said.get_or_insert(now), now, "{}: not always the same", program.name);
            run_repaired(program, workers);
        }
    }
    said.expect("one round or more")
}

// ---- the tests ----------------------------------------------------------------------------------

/// Runs them all; the first failure ends it.
fn said_of(programs: &[Program]) -> &'static [Said] {
    static SAID: OnceLock<Vec<Said>> = OnceLock::new();
    SAID.get_or_init(|| programs.iter().map(run).collect())
}

#[test]
fn each_leak_is_found_and_each_repair_is_clean() {
    let mut programs = programs();
    assert!(programs.len() >= 40);
    if std::env::var_os("LEAKFREE_CORPUS_ONLY").is_some() {
        programs.retain(|program| is_wanted(program.name));
        programs.iter().for_each(|program| println!("{}: {:?}", program.name, run(program)));
        return;
    }
    println!("{}", recall(&programs, said_of(&programs)));
}

/// What the engine says of which pattern, in Markdown.
fn recall(programs: &[Program], said: &[Said]) -> String {
    const TIERS: [Verdict; 6] = [
        Verdict::ProvenUnwakeable,
        Verdict::ProvenStuck,
        Verdict::Deadlocked,
        Verdict::Suspect,
        Verdict::HeldOpen,
        Verdict::Outlived,
    ];
    let name = |verdict: Option<Verdict>| verdict.map_or("-", Verdict::name);
    let mut text = String::new();
    let n = programs.len();
    writeln!(text, "The strongest verdict on each of {n} programs that leak or deadlock, while they live and at their end.\n").unwrap();
    writeln!(text, "| strongest verdict | live | at the end |\n|---|---:|---:|").unwrap();
    for tier in TIERS.map(Some).into_iter().chain([None]) {
        let live = said.iter().filter(|(live, _)| *live == tier).count();
        let end = said.iter().filter(|(_, end)| *end == tier).count();
        let tier = tier.map_or("nothing", Verdict::name);
        writeln!(text, "| {tier} | {live} | {end} |").unwrap();
    }
    writeln!(text, "\n| pattern | program | live | at the end |\n|---|---|---|---|").unwrap();
    let mut rows: Vec<(&Program, Said)> = programs.iter().zip(said.iter().copied()).collect();
    // By what is said at the end; of one tier in the table's order.
    rows.sort_by_key(|(_, (live, end))| (*end, live.is_none(), *live));
    for (program, (live, end)) in rows {
        writeln!(text, "| {} | `{}` | {} | {} |", program.pattern, program.name, name(live), name(end))
            .unwrap();
    }
    text
}

#[test]
fn the_recall_table_is_what_the_programs_say() {
    if std::env::var_os("LEAKFREE_CORPUS_ONLY").is_some() {
        return;
    }
    let programs = programs();
    let found = recall(&programs, said_of(&programs));
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    // The first table has a number of programs in each row.
    for row in
        found.lines().filter(|line| line.starts_with('|') && line.contains(|c: char| c.is_ascii_digit()))
    {
        if !row.contains('`') {
            assert!(readme.contains(row), "README.md says something else than {row:?}");
        }
    }
    if std::env::var_os("LEAKFREE_CORPUS_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/leak_corpus.recall.md");
        std::fs::write(path, &found).unwrap();
        return;
    }
    let written = include_str!("leak_corpus.recall.md");
    assert!(found == written, "`LEAKFREE_CORPUS_WRITE=1` writes it anew; it should be\n{found}");
}

// ---- in simulation ------------------------------------------------------------------------------

/// What cannot be simulated.
const OUTSIDE: [(&str, &str); 4] = [
    ("response_never_read", "its sockets are the operating system's"),
    ("silent_peer", "its sockets are the operating system's"),
    ("accepts_for_ever", "its socket is the operating system's"),
    ("blocking_for_ever", "its blocking call never returns, and the one thread would never come back"),
];

/// Its task is never dropped, which is what it shows, and keeps its runtime's memory and descriptors. So many a process can have.
const LEFT_BEHIND: &str = "shielded_for_ever";
const LEFT_BEHIND_MAX: usize = 1000;

/// More than any of these programs takes.
const STEPS: u64 = 100_000;

/// One schedule of both versions; what was said is what the row says.
fn run_simulated(program: &Program, tasks: &[Who], seed: u64) -> Said {
    let (name, keep) = (program.name, Keep::default());
    let runtime = simulation(seed).build().unwrap();
    runtime.block_on((program.run)(Plot { leaks: true, keep: keep.clone() }));
    assert!(run_until_stalled(&runtime, STEPS), "{name} does not come to rest");
    if program.expected.iter().any(|expected| expected.live == Some(Verdict::Suspect)) {
        runtime.block_on(async { sleep(Duration::from_millis(100)).await });
    }
    let live = runtime.handle().report();
    assert!(
        rests(&live.snapshot, tasks, program.held_back),
        "{name} is not where it should be:\n{:?}\nexpected {tasks:?}",
        live.snapshot.tasks
    );
    let end = runtime.shutdown();
    drop(keep);
    if let Err(wrong) = check(program, &live, |expected| expected.live, false) {
        panic!("{name}, live: {wrong}\n{live}");
    }
    if let Err(wrong) = check(program, &end, |expected| Some(expected.verdict), true) {
        panic!("{name}, at the end: {wrong}\n{end}");
    }

    let keep = Keep::default();
    let runtime = simulation(seed).build().unwrap();
    runtime.block_on((program.run)(Plot { leaks: false, keep: keep.clone() }));
    assert!(run_until_stalled(&runtime, STEPS), "{name}, repaired, does not come to rest");
    let (is_empty, repaired) = (runtime.handle().snapshot().tasks.is_empty(), runtime.shutdown());
    assert!(is_empty && repaired.is_empty() && repaired.findings.is_empty(), "{name}, repaired:\n{repaired}");
    (strongest(&live), strongest(&end))
}

#[test]
fn in_simulation_every_schedule_says_the_same() {
    let programs = programs();
    for (outside, why) in OUTSIDE {
        assert!(programs.iter().any(|program| program.name == outside), "no program {outside}");
        println!("LEFT OUT of the simulation: {outside}, for {why}");
    }
    let seeds = seeds(20);
    if seeds.clone().count() > LEFT_BEHIND_MAX {
        println!(
            "FEWER schedules, {LEFT_BEHIND_MAX}, of {LEFT_BEHIND}: each leaves its runtime's descriptors behind"
        );
    }
    let (mut runs, mut simulated) = (0, 0);
    let started = std::time::Instant::now();
    for program in &programs {
        if OUTSIDE.iter().any(|(outside, _)| *outside == program.name) || !is_wanted(program.name) {
            continue;
        }
        let (mut said, tasks) = (None, program.tasks());
        let most = if program.name == LEFT_BEHIND { LEFT_BEHIND_MAX } else { usize::MAX };
        for seed in seeds.clone().take(most) {
            let now = under_seed("leak_corpus", program.name, seed, || {
                let now = run_simulated(program, &tasks, seed);
                assert_eq!(*said.get_or_insert(now), now, "{}: not always the same", program.name);
                now
            });
            runs += 2 * usize::from(now.1.is_some());
        }
        simulated += 1;
    }
    println!("{simulated} programs of {}, {runs} runs in {:?}", programs.len(), started.elapsed());
}

/// A row that says something else than the report fails.
#[test]
fn a_wrong_row_is_noticed() {
    let runtime = corpus::runtime(2, false);
    runtime.block_on(ab_ba(Plot { leaks: true, keep: Keep::default() }));
    let right =
        || program!(ab_ba, "").deadlocked(&["first: Mutex::lock", "second: Mutex::lock"], &["knot of 2"]);
    let tasks = right().tasks();
    assert!(comes_to_rest(&runtime.handle(), |snapshot| rests(snapshot, &tasks, 0)));
    let report = runtime.shutdown();
    let compare =
        |program: &Program, report: &Report| check(program, report, |expected| Some(expected.verdict), true);
    let check = |program: &Program| compare(program, &report);
    assert_eq!(check(&right()), Ok(()));

    let mut one_more = right();
    one_more = one_more.outlived(&["first: Mutex::lock"], &[]);
    assert!(check(&one_more).is_err());
    assert!(check(&program!(ab_ba, "")).is_err());
    for tasks in [
        &["first: Mutex::lock"][..],
        &["first x2: Mutex::lock", "second: Mutex::lock"],
        &["first: RwLock::read", "second: Mutex::lock"],
    ] {
        assert!(check(&program!(ab_ba, "").deadlocked(tasks, &[])).is_err(), "{tasks:?}");
    }
    let both = &["first: Mutex::lock", "second: Mutex::lock"];
    assert!(check(&program!(ab_ba, "").stuck(both, &[])).is_err());
    assert!(check(&program!(ab_ba, "").deadlocked(both, &["knot of 3"])).is_err());

    // And so does another line.
    let mut elsewhere = report.clone();
    let site = &mut elsewhere.findings[0].knot[0].task.waits[0].site;
    let position = leakfree::report::snapshot::Position { line: site.line + 1, ..**site };
    *site = leakfree::report::snapshot::Site::new(Box::leak(Box::new(position)));
    assert!(compare(&right(), &elsewhere).is_err());
}
