//! Many tasks on few objects, and waits that are given up at every point: nothing is lost, and snapshots taken meanwhile agree.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use leakfree::report::snapshot::WaitObject;
use leakfree::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use leakfree_tests::runtime;

/// Polls `future` until it is ready, at most `looks` times, with a yield in between.
async fn look<F: Future>(future: F, looks: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..looks {
        if let std::task::Poll::Ready(output) = futures::poll!(&mut future) {
            return Some(output);
        }
        leakfree::yield_now().await;
    }
    None
}

#[test]
fn waits_that_are_given_up_leave_locks_as_they_were() {
    let runtime = runtime(2);
    let semaphore = Arc::new(Semaphore::new(3));
    let (lock, mutex) = (Arc::new(RwLock::new(0_u64)), Arc::new(Mutex::new(0_u64)));
    let wrote = runtime.block_on(leakfree::scope(async |s| {
        let tasks: Vec<_> = (0..12_u32)
            .map(|n| {
                let (semaphore, lock, mutex) =
                    (Arc::clone(&semaphore), Arc::clone(&lock), Arc::clone(&mutex));
                s.spawn(async move {
                    let mut wrote = (0, 0);
                    for round in 0..100 {
                        let looks = 1 + (n + round) % 4;
                        let _permit = look(semaphore.acquire_many(1 + n % 3), looks).await;
                        if n % 3 == 0 {
                            if let Some(mut guard) = look(lock.write(), looks).await {
                                wrote.0 += 1;
                                *guard += 1;
                                leakfree::yield_now().await;
                                let _read = guard.downgrade();
                                leakfree::yield_now().await;
                            }
                        } else if let Some(guard) = look(Arc::clone(&lock).read_owned(), looks).await {
                            let before = *guard;
                            leakfree::yield_now().await;
                            assert_eq!(*guard, before);
                        }
                        if let Some(mut guard) = look(Arc::clone(&mutex).lock_owned(), looks).await {
                            wrote.1 += 1;
                            *guard += 1;
                        }
                    }
                    wrote
                })
            })
            .collect();
        let mut sum = (0, 0);
        for task in tasks {
            let wrote = task.await.unwrap();
            sum = (sum.0 + wrote.0, sum.1 + wrote.1);
        }
        sum
    }));
    assert!(wrote.0 > 0 && wrote.1 > 0);
    assert_eq!(semaphore.available_permits(), 3);
    assert_eq!((*lock.try_write().unwrap(), *mutex.try_lock().unwrap()), wrote);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn aborted_tasks_leave_nothing_behind() {
    let runtime = runtime(2);
    let (semaphore, lock, notify) =
        (Arc::new(Semaphore::new(1)), Arc::new(RwLock::new(())), Arc::new(Notify::new()));
    let (tx, mut rx) = mpsc::channel(1);
    runtime.block_on(async {
        for round in 0..50 {
            let tasks: Vec<_> = (0..8)
                .map(|n| {
                    let (semaphore, lock, notify) =
                        (Arc::clone(&semaphore), Arc::clone(&lock), Arc::clone(&notify));
                    let tx = tx.clone();
                    leakfree::spawn(async move {
                        let _permit = semaphore.acquire().await.unwrap();
                        let _guard = lock.write().await;
                        notify.notify_one();
                        tx.send(n).await.unwrap();
                        notify.notified().await;
                    })
                })
                .collect();
            for _ in 0..round % 7 {
                leakfree::yield_now().await;
            }
            for task in tasks {
                task.abort();
                let _ = task.await;
            }
            while rx.try_recv().is_ok() {}
            assert_eq!((semaphore.available_permits(), tx.capacity()), (1, 1));
            assert!(lock.try_write().is_ok());
        }
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn snapshots_of_busy_objects_are_in_themselves_right() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let done = AtomicBool::new(false);
    let mut seen = [0_u32; 2];
    std::thread::scope(|threads| {
        let watcher = threads.spawn(|| {
            while !done.load(SeqCst) {
                let snapshot = handle.snapshot();
                assert!(
                    leakfree::report::verdict::judge(
                        snapshot.clone(),
                        leakfree::report::verdict::Occasion::Live
                    )
                    .is_clean()
                );
                for wait in snapshot.tasks.iter().flat_map(|task| &task.waits) {
                    match &wait.object {
                        WaitObject::Channel(channel) => {
                            seen[0] += 1;
                            let sites = [channel.last_sender, channel.last_receiver].into_iter().flatten();
                            let files = sites.map(|user| user.site.file).chain([channel.created.file]);
                            files.for_each(|file| assert_eq!(file, file!()));
                            assert!(channel.senders <= 3 && channel.receivers <= 2, "{channel:?}");
                        }
                        WaitObject::Lock(lock) => {
                            seen[1] += 1;
                            // While it changes hands, who lets go and who comes next may both be there.
                            assert!(lock.holders.len() <= 3, "{lock:?}");
                        }
                        _ => {}
                    }
                }
            }
        });
        runtime.block_on(leakfree::scope(async |s| {
            let semaphore = Arc::new(Semaphore::new(2));
            for _ in 0..4 {
                let semaphore = Arc::clone(&semaphore);
                s.spawn(async move {
                    for round in 0..300_u32 {
                        let (give, get) = oneshot::channel();
                        let (tx, mut rx) = mpsc::channel(1);
                        let (say, mut hear) = watch::channel(0);
                        let (call, mut all) = broadcast::channel(1);
                        let semaphore = Arc::clone(&semaphore);
                        let other = leakfree::spawn(async move {
                            let _permit = semaphore.acquire().await.unwrap();
                            leakfree::yield_now().await;
                            give.send(round).unwrap();
                            let second = tx.clone();
                            for n in 0..3 {
                                second.send(n).await.unwrap();
                            }
                            say.send(1).unwrap();
                            leakfree::yield_now().await;
                            call.send(2).unwrap();
                            drop(tx);
                        });
                        assert_eq!(get.await, Ok(round));
                        while rx.recv().await.is_some() {}
                        hear.changed().await.unwrap();
                        assert_eq!(all.recv().await, Ok(2));
                        other.await.unwrap();
                    }
                });
            }
        }));
        done.store(true, SeqCst);
        watcher.join().unwrap();
    });
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    assert!(runtime.shutdown().is_clean());
}
