//! Tasks that are parked: waking, cancelling, looking at them, and what they weigh.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;

use super::{in_task, rt};
use crate::counting::allocated;
use crate::machine::resident;
use crate::measure::{Latencies, Measured, Part, Plan, Stopwatch, measure, measure_after, measure_parts};

const WAKES: usize = 20;
const CANCELLED: usize = 10_000;
const SEEN: usize = 10_000;
const PARKED: usize = 100_000;

/// Places where tasks can wait, made beforehand: none of a runtime's own, and nothing is allocated to wait.
#[derive(Clone)]
struct Places(Arc<Common>);

struct Common {
    wakers: Vec<AtomicWaker>,
    parked: AtomicUsize,
    gone: AtomicUsize,
    open: AtomicUsize,
}

/// Counts a future that is dropped.
struct Gone(Places);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.0.gone.fetch_add(1, SeqCst);
    }
}

impl Places {
    fn new(n: usize) -> Places {
        let zero = || AtomicUsize::new(0);
        let wakers = (0..n).map(|_| AtomicWaker::new()).collect();
        Places(Arc::new(Common { wakers, parked: zero(), gone: zero(), open: zero() }))
    }

    /// Waits at a place; 16 bytes and a byte of state.
    fn wait(&self, place: usize) -> impl Future<Output = ()> + Send + 'static {
        let gone = Gone(self.clone());
        let mut parked = false;
        poll_fn(move |cx| {
            let common = &*gone.0.0;
            if common.open.load(SeqCst) == 1 {
                return Poll::Ready(());
            }
            common.wakers[place].register(cx.waker());
            if !parked {
                parked = true;
                common.parked.fetch_add(1, SeqCst);
            }
            Poll::Pending
        })
    }

    fn all_parked(&self) -> bool {
        self.0.parked.load(SeqCst) == self.0.wakers.len()
    }

    fn all_gone(&self) -> bool {
        self.0.gone.load(SeqCst) == self.0.wakers.len()
    }

    /// Parks detached tasks at all places, and returns when all are.
    fn fill(&self, runtime: &rt::Runtime) {
        let places = self.clone();
        in_task(runtime, async move {
            for place in 0..places.0.wakers.len() {
                rt::detach(rt::spawn(places.wait(place)));
                if place % 1_000 == 999 {
                    rt::yield_now().await;
                }
            }
            while !places.all_parked() {
                rt::yield_now().await;
            }
        });
    }

    /// Ends all that wait, and returns when they are gone.
    fn open(&self) {
        self.0.open.store(1, SeqCst);
        for waker in &self.0.wakers {
            waker.wake();
        }
        while !self.all_gone() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// From the call of an outside thread to the first line of the woken task, all workers being asleep.
pub(super) fn wake_outside(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    let (tx, mut rx) = rt::unbounded::<Instant>();
    let (heard, hears) = mpsc::channel();
    in_task(runtime, async move {
        rt::detach(rt::spawn(async move {
            while let Some(sent) = rt::recv_unbounded(&mut rx).await {
                let _ = heard.send(sent.elapsed());
            }
        }));
    });
    let latencies = Latencies::new();
    let step = || {
        for _ in 0..WAKES {
            // Long enough for every runtime to go to sleep.
            std::thread::sleep(Duration::from_micros(300));
            rt::send_now(&tx, Instant::now());
            latencies.add(&[hears.recv().expect("the task is there")]);
        }
    };
    let measured = measure_after(plan, WAKES, step, || latencies.reset());
    measured.without("wall").with(latencies.quantiles())
}

/// Timed from the cancel until all futures are dropped and the scope or set has ended.
pub(super) fn cancel(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    async fn once() -> Part {
        let places = Places::new(CANCELLED);
        let children = (0..CANCELLED).map(|place| places.wait(place)).collect();
        let (waiting, gone) = (places.clone(), places.clone());
        let parked = async move {
            while !waiting.all_parked() {
                rt::yield_now().await;
            }
            Stopwatch::start()
        };
        rt::cancel_all(children, parked, move || gone.all_gone()).await
    }
    measure_parts(plan, CANCELLED, || in_task(runtime, once()))
}

/// `None` where there is nothing like it.
pub(super) fn snapshot(runtime: &rt::Runtime, plan: &Plan) -> Option<Measured> {
    rt::snapshot(runtime)?;
    let places = Places::new(SEEN);
    places.fill(runtime);
    Some(measure(plan, SEEN, || assert!(rt::snapshot(runtime) >= Some(SEEN), "it shows all of them")))
}

/// What a parked task takes, and what is left of it in the runtime when it has ended.
pub(super) fn parked(runtime: &rt::Runtime) -> Measured {
    let small = Places::new(1_000);
    small.fill(runtime);
    small.open();
    let places = Places::new(PARKED);
    let (before, resident_before) = (allocated(), resident());
    places.fill(runtime);
    let (during, resident_during) = (allocated(), resident());
    places.open();
    let after = allocated();
    let per_task = |bytes: u64| bytes as f64 / PARKED as f64;
    let mut measured = Measured::default();
    measured.set("heap", per_task(during.live.saturating_sub(before.live)));
    measured.set("resident", per_task(resident_during.saturating_sub(resident_before)));
    measured.set("retained", per_task(after.live.saturating_sub(before.live)));
    measured.set("allocs", per_task(during.calls - before.calls));
    measured
}
