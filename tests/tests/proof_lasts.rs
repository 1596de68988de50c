//! Who is PROVEN is never polled again: random programs that hand joins, receivers and wakers to and fro, between tasks and to threads, in every
//! way that keeps the record and the counts apart.
//!
//! `LEAKFREE_PROOFS` says how many, `LEAKFREE_SEED` the first.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use leakfree::JoinHandle;
use leakfree::report::verdict::{Report, Verdict};
use leakfree::runtime::Handle;
use leakfree::sync::oneshot;
use leakfree_tests::runtime;

/// Tasks, and channels, of one program.
const TASKS: usize = 2;
const CHANNELS: usize = TASKS;
/// Steps of one program.
const STEPS: usize = 30;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// What all have in common, and take from one another.
#[derive(Default)]
struct Common {
    joins: [Mutex<Option<JoinHandle<()>>>; TASKS],
    receivers: [Mutex<Option<oneshot::Receiver<()>>>; CHANNELS],
    senders: Mutex<Vec<oneshot::Sender<()>>>,
    wakers: Mutex<Vec<Waker>>,
}

/// Somebody else's waker around the task's.
struct Around(Waker);

impl Wake for Around {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

fn poll<F: Future + Unpin>(slot: &mut Option<F>, waker: &Waker) {
    let polled = slot.as_mut().map(|future| Pin::new(future).poll(&mut Context::from_waker(waker)));
    if polled.is_some_and(|polled| polled.is_ready()) {
        *slot = None;
    }
}

/// Does something with what lies in a slot, if nobody else does so just now.
fn use_slot<F: Future + Unpin + Send>(slot: &Mutex<Option<F>>, way: usize, waker: &Waker) {
    let Ok(mut slot) = slot.try_lock() else { return };
    let slot = &mut *slot;
    let in_a_thread = |f: &mut (dyn FnMut() + Send)| thread::scope(|threads| _ = threads.spawn(f));
    match way {
        0..=19 => poll(slot, waker),
        20..=33 => in_a_thread(&mut || poll(slot, waker)),
        34..=35 => poll(slot, &Waker::from(Arc::new(Around(waker.clone())))),
        36..=37 => poll(slot, Waker::noop()),
        38 => *slot = None,
        _ => in_a_thread(&mut || *slot = None),
    }
}

impl Common {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap()
    }

    /// What a task does in a poll: mostly something with one thing, several times.
    fn act(&self, me: usize, random: &mut Random, waker: &Waker) {
        for _ in 0..1 + random.below(2) {
            let what = random.below(12);
            for _ in 0..1 + random.below(4) {
                let way = random.below(40);
                match what {
                    0..=5 => use_slot(&self.joins[(me + 1) % TASKS], way, waker),
                    6..=9 => use_slot(&self.receivers[me], way, waker),
                    10 if way < 4 => self.wakers().push(waker.clone()),
                    10 => drop(self.wakers().pop()),
                    _ => waker.wake_by_ref(),
                }
            }
        }
    }
}

/// Who was PROVEN, and after how many polls.
#[derive(Default)]
struct Proven(HashMap<u64, u64>);

impl Proven {
    fn check(&mut self, report: &Report) {
        let polls_of = |id| report.snapshot.tasks.iter().find(|task| task.id == id).map(|task| task.polls);
        for (id, polls) in &self.0 {
            assert_eq!(polls_of(*id), Some(*polls), "task {id} was PROVEN, and went on:\n{report}");
        }
        let proven = |verdict| matches!(verdict, Verdict::ProvenUnwakeable | Verdict::ProvenStuck);
        for finding in report.findings.iter().filter(|finding| proven(finding.verdict)) {
            self.0.extend(finding.ids.iter().map(|id| (*id, polls_of(*id).unwrap())));
        }
    }
}

/// Runs one program, and says how many were proven.
fn run(seed: u64) -> usize {
    let runtime = runtime(2);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let common = Arc::new(Common::default());
    let proven = runtime.block_on(async {
        for slot in &common.receivers {
            let (sender, receiver) = oneshot::channel();
            common.senders.lock().unwrap().push(sender);
            *slot.lock().unwrap() = Some(receiver);
        }
        for task in 0..TASKS {
            let (common, mut random) = (Arc::clone(&common), Random(random.0 ^ (task as u64 + 1) << 40));
            let theirs = Arc::clone(&common);
            let handle = leakfree::spawn(poll_fn(move |cx| {
                theirs.act(task, &mut random, cx.waker());
                if random.below(3) > 0 {
                    cx.waker().wake_by_ref();
                }
                if random.below(40) == 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
            *common.joins[task].lock().unwrap() = Some(handle);
        }
        let mut proven = Proven::default();
        for _ in 0..STEPS {
            match random.below(8) {
                0 if random.below(4) == 0 => drop(common.senders.lock().unwrap().pop()),
                0 => use_slot(&common.joins[random.below(TASKS)], 38, Waker::noop()),
                1 => _ = common.wakers().pop().map(Waker::wake),
                2 => drop(common.wakers().pop()),
                3..=5 => proven.check(&Handle::current().report()),
                _ => {}
            }
            for _ in 0..random.below(8) {
                leakfree::yield_now().await;
            }
        }
        // Whatever can still wake somebody does.
        let senders = std::mem::take(&mut *common.senders.lock().unwrap());
        senders.into_iter().for_each(|sender| _ = sender.send(()));
        for _ in 0..8 {
            let wakers = std::mem::take(&mut *common.wakers());
            wakers.into_iter().for_each(Waker::wake);
            leakfree::yield_now().await;
            proven.check(&Handle::current().report());
        }
        proven.0.len()
    });
    let end = runtime.shutdown();
    assert!(end.incidents.is_empty(), "{end}");
    proven
}

#[test]
fn whoever_is_proven_is_never_polled_again() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (first, programs) = (number("LEAKFREE_SEED", 1), number("LEAKFREE_PROOFS", 500));
    let proven: usize = (first..first + programs)
        .map(|seed| {
            let ran = std::panic::catch_unwind(|| run(seed));
            ran.unwrap_or_else(|_| panic!("failed with LEAKFREE_SEED={seed} LEAKFREE_PROOFS=1"))
        })
        .sum();
    println!("{programs} programs, {proven} tasks were proven");
    assert!(proven > 0, "nobody was proven");
}
