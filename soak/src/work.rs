//! The work: each kind is a small program whose result is known, and that leaves nothing behind.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc as outside_mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle as Thread;
use std::time::Duration;

use leakfree::report::verdict::Verdict;
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use leakfree::time::{sleep, timeout};
use leakfree::{scope, yield_now};

/// What work says when it panics because it was told to.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// Marsaglia's xorshift64, started from any number.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 8) % n
    }
}

type Ask = (Waker, Arc<AtomicBool>);

/// What all share.
pub(crate) struct World {
    pub(crate) stop: AtomicBool,
    pub(crate) steps: Vec<AtomicU64>,
    pub(crate) spawned: AtomicU64,
    pub(crate) made: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) cycles: AtomicU64,
    /// Tasks that a shutdown reported as unresponsive: on a busy machine a thread may get no time for a tenth of a second.
    pub(crate) given_up: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) kinds: Vec<AtomicU64>,
    asks: std::sync::Mutex<Option<outside_mpsc::Sender<Ask>>>,
}

impl World {
    pub(crate) fn new(lives: usize) -> Arc<World> {
        Arc::new(World {
            stop: AtomicBool::new(false),
            steps: (0..lives).map(|_| AtomicU64::new(0)).collect(),
            spawned: AtomicU64::new(0),
            made: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            cycles: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            kinds: KINDS.iter().map(|_| AtomicU64::new(0)).collect(),
            asks: std::sync::Mutex::new(None),
        })
    }

    fn value(self: &Arc<Self>) -> Value {
        self.made.fetch_add(1, Relaxed);
        Value(Arc::clone(self))
    }

    fn count(&self, spawns: u64) {
        self.spawned.fetch_add(spawns, Relaxed);
    }
}

/// Counted when it is made and when it is dropped.
struct Value(Arc<World>);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

type Work = for<'a> fn(&'a Arc<World>, &'a mut Random) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(crate) const KINDS: [(&str, Work); 9] = [
    ("bursts", |w, r| Box::pin(burst(w, r))),
    ("joins", |w, r| Box::pin(joins(w, r))),
    ("trees", |w, r| Box::pin(tree(w, r))),
    ("pipes", |w, r| Box::pin(pipe(w, r))),
    ("locks", |w, r| Box::pin(locks(w, r))),
    ("timers", |w, r| Box::pin(timers(w, r))),
    ("foreign", |w, r| Box::pin(foreign(w, r))),
    ("blocking", |w, r| Box::pin(blocking(w, r))),
    ("news", |w, r| Box::pin(news(w, r))),
];

/// Much more of everything at once than comes together later: the memory that is kept for the next task is as much as was ever needed at once.
pub(crate) async fn peak(world: &Arc<World>, random: &mut Random) {
    const EACH: usize = 128;
    let works = (0..EACH * KINDS.len()).map(|n| {
        let (world, mut random) = (Arc::clone(world), Random(random.next()));
        leakfree::spawn(async move { KINDS[n % KINDS.len()].1(&world, &mut random).await })
    });
    for work in works.collect::<Vec<_>>() {
        work.await.expect("it ends well");
    }
}

/// A loop of random work, until it is told to stop.
pub(crate) async fn live(world: Arc<World>, life: usize, seed: u64, hangs: bool) {
    let mut random = Random(seed);
    while !world.stop.load(Relaxed) {
        let kind = match random.below(16) {
            // Most of the spawns come from these two.
            0..4 => 0,
            4..8 => 1,
            n => n as usize - 8 + 1,
        } % KINDS.len();
        KINDS[kind].1(&world, &mut random).await;
        world.kinds[kind].fetch_add(1, Relaxed);
        world.steps[life].fetch_add(1, Relaxed);
        if hangs {
            // The waker is kept, and never used: a lost wake-up, as seen from here.
            let mut kept = None;
            poll_fn(|cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            })
            .await;
            drop(kept);
        }
    }
    // The last step: from here on the watchdog waits for others.
    world.steps[life].fetch_add(1, Relaxed);
}

/// Many tasks, joined, let go or aborted; some panic.
async fn burst(world: &Arc<World>, random: &mut Random) {
    let n = 1 + random.below(500);
    world.count(n);
    let done = Arc::new(AtomicU64::new(0));
    scope(async |s| {
        let mut handles = Vec::new();
        for i in 0..n {
            let (value, done, yields) = (world.value(), Arc::clone(&done), random.below(3));
            let handle = s.spawn(async move {
                let _value = value;
                for _ in 0..yields {
                    yield_now().await;
                }
                done.fetch_add(1, Relaxed);
                i
            });
            match random.below(8) {
                0 => handle.abort(),
                1..4 => drop(handle),
                _ => handles.push((i, handle)),
            }
        }
        for (i, handle) in handles {
            assert_eq!(handle.await.ok(), Some(i), "a task that nobody aborted gives its value");
        }
    })
    .await;
    assert!(done.load(Relaxed) <= n);
}

/// One after the other.
async fn joins(world: &Arc<World>, random: &mut Random) {
    let n = 1 + random.below(200);
    world.count(n);
    for i in 0..n {
        let (value, panics) = (world.value(), random.below(64) == 0);
        let handle = leakfree::spawn(async move {
            let _value = value;
            if panics {
                std::panic::panic_any(ON_PURPOSE);
            }
            i
        });
        match handle.await {
            Ok(out) => assert!(out == i && !panics),
            Err(error) => assert!(error.is_panic() && panics, "{error}"),
        }
    }
}

/// Scopes in scopes; some are cancelled, some are dropped half-way.
async fn tree(world: &Arc<World>, random: &mut Random) {
    fn grow(world: Arc<World>, mut random: Random, depth: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _value = world.value();
            if depth == 0 {
                return match random.below(3) {
                    0 => yield_now().await,
                    1 => sleep(Duration::from_micros(random.below(300))).await,
                    _ => {}
                };
            }
            let (cancels, patience) = (random.below(4) == 0, random.below(4) == 0);
            let patience = patience.then(|| Duration::from_micros(random.below(200)));
            let inner = scope(async |s| {
                let n = 1 + random.below(4);
                world.count(n);
                for _ in 0..n {
                    let seed = Random(random.next());
                    s.spawn(grow(Arc::clone(&world), seed, depth - 1));
                }
                if cancels {
                    yield_now().await;
                    s.cancel("at random");
                }
            });
            match patience {
                Some(patience) => _ = timeout(patience, inner).await,
                None => inner.await,
            }
        })
    }
    world.count(1);
    let handle = leakfree::spawn(grow(Arc::clone(world), Random(random.next()), 4));
    if random.below(4) == 0 {
        yield_now().await;
        handle.abort();
    }
    let _ = handle.await;
}

/// Producers, a narrow channel and a consumer: nothing is lost, nothing comes twice.
async fn pipe(world: &Arc<World>, random: &mut Random) {
    let (tx, mut rx) = mpsc::channel(1 + random.below(8) as usize);
    let (producers, each) = (1 + random.below(4), random.below(100));
    world.count(producers);
    scope(async |s| {
        for _ in 0..producers {
            let (tx, world) = (tx.clone(), Arc::clone(world));
            s.spawn(async move {
                for i in 0..each {
                    assert!(tx.send((i, world.value())).await.is_ok(), "the receiver is there");
                }
            });
        }
        drop(tx);
        let (mut sum, mut got) = (0, 0);
        while let Some((i, _value)) = rx.recv().await {
            sum += i;
            got += 1;
        }
        assert_eq!((got, sum), (producers * each, producers * (each * each.saturating_sub(1) / 2)));
    })
    .await;
}

/// Locks and permits that are waited for, held over a yield, and given up.
async fn locks(world: &Arc<World>, random: &mut Random) {
    let (mutex, lock) = (Mutex::new(0_u64), RwLock::new(0_u64));
    let (mutex, lock) = (Arc::new(mutex), Arc::new(lock));
    let (permits, notify) = (Arc::new(Semaphore::new(2)), Arc::new(Notify::new()));
    let n = 2 + random.below(6);
    world.count(n);
    let gave_up = Arc::new(AtomicU64::new(0));
    scope(async |s| {
        for i in 0..n {
            let (mutex, lock, permits) = (Arc::clone(&mutex), Arc::clone(&lock), Arc::clone(&permits));
            let (notify, value, gave_up) = (Arc::clone(&notify), world.value(), Arc::clone(&gave_up));
            let patience = Duration::from_micros(50 + random.below(500));
            s.spawn(async move {
                let _value = value;
                let _permit = permits.acquire().await.expect("never closed");
                match timeout(patience, mutex.lock()).await {
                    Ok(mut guard) => {
                        yield_now().await;
                        *guard += 1;
                    }
                    Err(_) => _ = gave_up.fetch_add(1, Relaxed),
                }
                if i % 2 == 0 {
                    *lock.write().await += 1;
                } else {
                    let before = *lock.read().await;
                    assert!(before <= n);
                }
                notify.notify_one();
            });
        }
        notify.notified().await;
    })
    .await;
    assert_eq!(*mutex.lock().await + gave_up.load(Relaxed), n);
    assert_eq!(*lock.read().await, n.div_ceil(2));
    assert_eq!(permits.available_permits(), 2, "all permits came back");
}

/// Timers that fire, and ones that are dropped before.
async fn timers(world: &Arc<World>, random: &mut Random) {
    let n = 1 + random.below(50);
    world.count(n);
    scope(async |s| {
        for _ in 0..n {
            let (value, time) = (world.value(), Duration::from_micros(random.below(2000)));
            let short = time / (1 + random.below(3) as u32);
            s.spawn(async move {
                let _value = value;
                let _ = timeout(short, sleep(time)).await;
            });
        }
    })
    .await;
}

/// Waits for a thread outside to wake it.
struct Outside(Arc<AtomicBool>, Option<outside_mpsc::Sender<Ask>>);

impl Future for Outside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.load(std::sync::atomic::Ordering::Acquire) {
            return Poll::Ready(());
        }
        if let Some(asks) = &self.1 {
            let _ = asks.send((cx.waker().clone(), Arc::clone(&self.0)));
        }
        // Woken for nothing it need not ask again: the waker stays the same task's.
        self.1 = None;
        Poll::Pending
    }
}

async fn foreign(world: &Arc<World>, random: &mut Random) {
    for _ in 0..1 + random.below(20) {
        let asks = world.asks.lock().expect("nobody panics in there").clone();
        if asks.is_none() {
            return;
        }
        Outside(Arc::default(), asks).await;
    }
}

/// Calls on the blocking pool, some of which panic.
async fn blocking(world: &Arc<World>, random: &mut Random) {
    let n = 1 + random.below(4);
    world.count(n);
    for i in 0..n {
        let (value, panics) = (world.value(), random.below(16) == 0);
        let call = leakfree::spawn_blocking(move || {
            let _value = value;
            if panics {
                std::panic::panic_any(ON_PURPOSE);
            }
            i
        });
        assert_eq!(call.await.ok(), (!panics).then_some(i));
    }
}

/// Oneshots, watches and broadcasts.
async fn news(world: &Arc<World>, random: &mut Random) {
    let (tell, told) = oneshot::channel();
    let (set, mut seen) = watch::channel(0);
    let (shout, mut heard) = broadcast::channel(64);
    world.count(3);
    let n = random.below(60);
    scope(async |s| {
        let value = world.value();
        s.spawn(async move { _ = tell.send(value) });
        s.spawn(async move {
            for i in 1..=n {
                _ = shout.send(i);
                _ = set.send(i);
                if i % 8 == 0 {
                    yield_now().await;
                }
            }
        });
        s.spawn(async move {
            let mut last = 0;
            while let Ok(i) = heard.recv().await {
                assert_eq!(i, last + 1, "in order, and none is lost");
                last = i;
            }
            assert_eq!(last, n);
        });
        while seen.changed().await.is_ok() {}
        assert_eq!(*seen.borrow(), n, "the last value is seen");
        let mut told = pin!(told);
        assert!((&mut told).await.is_ok());
    })
    .await;
}

/// Threads outside: one wakes who asks for it, one spawns from there, one starts and stops runtimes.
pub(crate) fn outside(world: &Arc<World>, handle: &Handle, seed: u64) -> Vec<Thread<()>> {
    let (asks, asked) = outside_mpsc::channel::<Ask>();
    *world.asks.lock().expect("nobody panics in there") = Some(asks);
    let mut random = Random(seed ^ 0xabcd);
    let waking = Arc::clone(world);
    let waker = move || {
        loop {
            match asked.recv_timeout(Duration::from_millis(20)) {
                Ok((waker, ready)) => {
                    // Wakes for nothing, copies that are kept and dropped elsewhere.
                    let copy = waker.clone();
                    for _ in 0..random.below(3) {
                        copy.wake_by_ref();
                    }
                    ready.store(true, std::sync::atomic::Ordering::Release);
                    match random.below(3) {
                        0 => waker.wake(),
                        1 => waker.wake_by_ref(),
                        _ => drop((waker, copy.wake())),
                    }
                }
                Err(outside_mpsc::RecvTimeoutError::Timeout) if waking.stop.load(Relaxed) => {
                    // No more asks: who holds the sender drops it.
                    *waking.asks.lock().expect("nobody panics in there") = None;
                }
                Err(outside_mpsc::RecvTimeoutError::Timeout) => {}
                Err(outside_mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    let (spawning, into) = (Arc::clone(world), handle.clone());
    let spawner = move || {
        while !spawning.stop.load(Relaxed) {
            let handles: Vec<_> = (0..50)
                .map(|i| {
                    let value = spawning.value();
                    into.spawn(async move {
                        let _value = value;
                        i
                    })
                })
                .collect();
            spawning.count(handles.len() as u64);
            into.block_on(async {
                for (i, handle) in handles.into_iter().enumerate() {
                    assert_eq!(handle.await.ok(), Some(i));
                }
            });
        }
    };
    let cycling = Arc::clone(world);
    let cycler = move || {
        while !cycling.stop.load(Relaxed) {
            let runtime = Builder::new().workers(2).grace(Duration::ZERO).build().expect("a runtime starts");
            let held = runtime.spawn({
                let value = cycling.value();
                async move {
                    let _value = value;
                    std::future::pending::<()>().await;
                }
            });
            runtime.block_on(async { leakfree::spawn(yield_now()).await }).expect("it ends");
            cycling.count(2);
            drop(held);
            let report = runtime.shutdown();
            let unresponsive = report.findings.iter().filter(|found| found.verdict == Verdict::Unresponsive);
            cycling.given_up.fetch_add(unresponsive.count() as u64, Relaxed);
            cycling.cycles.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.into()).spawn(run).expect("a thread starts")
    };
    vec![
        start("outside-waker", Box::new(waker)),
        start("outside-spawner", Box::new(spawner)),
        start("outside-cycler", Box::new(cycler)),
    ]
}
