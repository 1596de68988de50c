//! The `blocking_` methods: they wait on plain threads and in blocking calls, and refuse to in a task.

use std::sync::Arc;

use leakfree::sync::{Mutex, RwLock, broadcast, mpsc, oneshot};
use leakfree_tests::panic_message;

#[test]
fn a_thread_and_a_task_hand_values_to_each_other() {
    let runtime = leakfree_tests::runtime(2);
    let (to_thread, mut from_task) = mpsc::channel::<u32>(1);
    let (to_task, mut from_thread) = mpsc::channel::<u32>(1);
    let (done, is_done) = oneshot::channel();
    let (tell, mut told) = broadcast::channel(4);
    let thread = std::thread::spawn(move || {
        let mut sum = 0;
        while let Some(n) = from_task.blocking_recv() {
            to_task.blocking_send(n * 2).unwrap();
            sum += n;
        }
        drop(to_task);
        assert_eq!(told.blocking_recv(), Ok("end"));
        assert_eq!(told.blocking_recv(), Err(broadcast::RecvError::Closed));
        (sum, is_done.blocking_recv())
    });
    runtime.block_on(async {
        leakfree::scope(async |s| {
            s.spawn(async move {
                for n in 0..100 {
                    to_thread.send(n).await.unwrap();
                }
            });
            for n in 0..100 {
                assert_eq!(from_thread.recv().await, Some(n * 2));
            }
            assert_eq!(from_thread.recv().await, None);
        })
        .await;
        tell.send("end").unwrap();
        drop(tell);
        done.send("over").unwrap();
    });
    assert_eq!(thread.join().unwrap(), (4950, Ok("over")));
    assert!(runtime.shutdown().is_clean());
}

#[leakfree::test(workers = 2)]
async fn a_blocking_call_may_wait_for_a_lock() {
    let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
    let (guard, read) = (mutex.lock().await, lock.read().await);
    let (theirs, its) = (Arc::clone(&mutex), Arc::clone(&lock));
    let call = leakfree::spawn_blocking(move || {
        *theirs.blocking_lock() += 1;
        *Arc::clone(&theirs).blocking_lock_owned() += 1;
        *its.blocking_write() += 1;
        *its.blocking_read()
    });
    leakfree::yield_now().await;
    drop((guard, read));
    assert_eq!(call.await.unwrap(), 1);
    assert_eq!(*mutex.lock().await, 2);
}

#[leakfree::test(workers = 2)]
async fn a_thread_receives_what_is_there_in_one_go() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let thread = std::thread::spawn(move || {
        let mut all = Vec::new();
        assert_eq!(rx.blocking_recv_many(&mut all, 0), 0);
        while rx.blocking_recv_many(&mut all, 3) > 0 {}
        all
    });
    for n in 0..10 {
        tx.send(n).unwrap();
        leakfree::yield_now().await;
    }
    drop(tx);
    assert_eq!(leakfree::spawn_blocking(|| thread.join().unwrap()).await.unwrap(), Vec::from_iter(0..10));
}

#[leakfree::test(workers = 2)]
async fn within_a_task_each_refuses_and_names_itself() {
    let (mutex, lock) = (Arc::new(Mutex::new(())), RwLock::new(()));
    let (tx, mut rx) = mpsc::channel::<u8>(1);
    let (utx, mut urx) = mpsc::unbounded_channel::<u8>();
    let (btx, mut brx) = broadcast::channel::<u8>(1);
    let (otx, orx) = oneshot::channel::<u8>();
    let check = |what: &str, f: &mut dyn FnMut()| {
        let message = panic_message(f);
        assert!(message.contains(&format!("`{what}` was called within a task")), "{message}");
        assert!(message.contains("spawn_blocking"), "{message}");
    };
    check("Mutex::blocking_lock", &mut || drop(mutex.blocking_lock()));
    check("Mutex::blocking_lock_owned", &mut || drop(Arc::clone(&mutex).blocking_lock_owned()));
    check("RwLock::blocking_read", &mut || drop(lock.blocking_read()));
    check("RwLock::blocking_write", &mut || drop(lock.blocking_write()));
    check("mpsc::Sender::blocking_send", &mut || _ = tx.blocking_send(1));
    check("mpsc::Receiver::blocking_recv", &mut || _ = rx.blocking_recv());
    check("mpsc::Receiver::blocking_recv_many", &mut || _ = rx.blocking_recv_many(&mut Vec::new(), 1));
    check("mpsc::UnboundedReceiver::blocking_recv", &mut || _ = urx.blocking_recv());
    check("broadcast::Receiver::blocking_recv", &mut || _ = brx.blocking_recv());
    let mut orx = Some(orx);
    check("oneshot::Receiver::blocking_recv", &mut || _ = orx.take().unwrap().blocking_recv());
    // The locks are as free as before.
    drop((mutex.try_lock().unwrap(), lock.try_write().unwrap()));
    drop((tx, utx, btx, otx));
}
