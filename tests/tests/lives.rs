//! Ten thousand random task lives: wakers cloned, moved to threads, dropped, woken by value and by
//! reference. A model keeps count of the wakers that exist; eager detection must say what it says.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use leakfree::runtime::{Builder, Handle};
use leakfree_tests::until;

const LIVES: u64 = 10_000;
/// Lives that go on side by side.
const AT_ONCE: u64 = 50;

fn random(state: &mut u64) -> u64 {
    // Marsaglia's xorshift64.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// What the task and the test share of one life.
#[derive(Default)]
struct Life {
    wakers: Mutex<Vec<Waker>>,
    polls: AtomicU64,
    /// Wakers that the next poll leaves behind; `u64::MAX` makes it ready.
    leave: AtomicU64,
}

struct Living(Arc<Life>);

impl Future for Living {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let leave = self.0.leave.load(SeqCst);
        if leave == u64::MAX {
            return Poll::Ready(());
        }
        let mut wakers = self.0.wakers.lock().unwrap();
        for _ in 0..leave {
            wakers.push(cx.waker().clone());
        }
        drop(wakers);
        self.0.polls.fetch_add(1, SeqCst);
        Poll::Pending
    }
}

#[test]
fn detection_agrees_with_a_model_over_ten_thousand_lives() {
    let told = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let hook = Arc::clone(&told);
    let runtime = Builder::new()
        .workers(2)
        .grace(std::time::Duration::ZERO)
        .on_unwakeable(move |task| {
            assert!(hook.lock().unwrap().insert(task.id), "said once");
        })
        .build()
        .unwrap();
    let seed = 0x5eed_1ea4_f4ee_0001;
    let (mut proven, mut finished) = (0, 0);
    runtime.block_on(async {
        let mut seeds = seed;
        for _ in 0..LIVES / AT_ONCE {
            let lives: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    let seed = random(&mut seeds);
                    (seed, leakfree::spawn(live(seed, Arc::clone(&told))))
                })
                .collect();
            for (seed, life) in lives {
                match life.await.unwrap_or_else(|error| panic!("seed {seed:#x}: {error}")) {
                    true => proven += 1,
                    false => finished += 1,
                }
            }
        }
    });
    assert_eq!(proven + finished, LIVES);
    assert!(proven > 1000 && finished > 1000, "{proven} proven, {finished} finished");
    assert_eq!(runtime.handle().unwakeable_total(), proven);
    assert!(runtime.shutdown().is_clean());
}

/// One life. True if it ended unwakeable.
async fn live(seed: u64, told: Arc<Mutex<std::collections::HashSet<leakfree::TaskId>>>) -> bool {
    let mut state = seed | 1;
    let life = Arc::new(Life::default());
    life.leave.store(random(&mut state) % 4, SeqCst);
    let handle = leakfree::spawn(Living(Arc::clone(&life)));
    let id = handle.id();
    let mut polls = 1;
    until(|| life.polls.load(SeqCst) == polls).await;

    loop {
        // Between two steps the task is parked, and the wakers in `life` are all that exist.
        let is_told = |told: &Mutex<std::collections::HashSet<_>>| told.lock().unwrap().contains(&id);
        let wakers = life.wakers.lock().unwrap().len();
        if wakers == 0 {
            until(|| is_told(&told)).await;
            // Nothing but this can end it; and nothing had to be woken for it.
            handle.abort();
            assert!(handle.await.unwrap_err().is_cancelled());
            assert_eq!(life.polls.load(SeqCst), polls, "seed {seed:#x}: polled after it was proven");
            return true;
        }
        assert!(!is_told(&told), "seed {seed:#x}: {wakers} wakers exist, and it was called unwakeable");

        let take = |state: &mut u64| {
            let mut wakers = life.wakers.lock().unwrap();
            let at = random(state) as usize % wakers.len();
            wakers.swap_remove(at)
        };
        let leave = random(&mut state) % 3;
        match random(&mut state) % 8 {
            // Cloned.
            0 => {
                let waker = take(&mut state);
                life.wakers.lock().unwrap().extend([waker.clone(), waker]);
            }
            // Dropped here, or on a thread, one or all.
            1 => drop(take(&mut state)),
            2 => {
                let waker = take(&mut state);
                std::thread::spawn(move || drop(waker)).join().unwrap();
            }
            3 => {
                let all = std::mem::take(&mut *life.wakers.lock().unwrap());
                drop(all);
            }
            // Woken by value, by reference, from a thread.
            way @ 4..=6 => {
                life.leave.store(leave, SeqCst);
                let waker = take(&mut state);
                match way {
                    4 => waker.wake(),
                    5 => {
                        waker.wake_by_ref();
                        life.wakers.lock().unwrap().push(waker);
                    }
                    _ => std::thread::spawn(move || waker.wake()).join().unwrap(),
                }
                polls += 1;
                until(|| life.polls.load(SeqCst) == polls).await;
            }
            // Woken for the last time.
            _ => {
                life.leave.store(u64::MAX, SeqCst);
                take(&mut state).wake();
                handle.await.unwrap();
                // The wakers that are left wake nobody.
                for waker in life.wakers.lock().unwrap().drain(..) {
                    waker.wake();
                }
                assert!(!is_told(&told), "seed {seed:#x}: finished, and it was called unwakeable");
                let _ = Handle::current();
                return false;
            }
        }
    }
}
