//! Eight tasks that want the same lock.

use std::future::Future;
use std::sync::Arc;

use super::{join_all, rt};

pub(super) const TASKS: usize = 8;
pub(super) const LOCKS: usize = 1_000;

/// So many tasks, each made by `task`.
async fn contend<F>(mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let handles = (0..TASKS).map(|_| rt::spawn(task())).collect();
    join_all(handles).await;
}

pub(super) async fn mutex() {
    let total = Arc::new(rt::Mutex::new(0));
    let task = |total: Arc<rt::Mutex<usize>>| async move {
        for _ in 0..LOCKS {
            *total.lock().await += 1;
        }
    };
    contend(|| task(total.clone())).await;
    assert_eq!(*total.lock().await, TASKS * LOCKS);
}

pub(super) async fn mutex_held() {
    let total = Arc::new(rt::Mutex::new(0));
    let task = |total: Arc<rt::Mutex<usize>>| async move {
        for _ in 0..LOCKS {
            let mut total = total.lock().await;
            rt::yield_now().await;
            *total += 1;
        }
    };
    contend(|| task(total.clone())).await;
    assert_eq!(*total.lock().await, TASKS * LOCKS);
}

pub(super) async fn rwlock() {
    let total = Arc::new(rt::RwLock::new(0));
    let task = |total: Arc<rt::RwLock<usize>>| async move {
        for n in 0..LOCKS {
            if n % 8 == 0 {
                let mut total = total.write().await;
                rt::yield_now().await;
                *total += 1;
            } else {
                let total = total.read().await;
                rt::yield_now().await;
                std::hint::black_box(*total);
            }
        }
    };
    contend(|| task(total.clone())).await;
    assert_eq!(*total.read().await, TASKS * LOCKS / 8);
}

pub(super) async fn semaphore() {
    let permits = Arc::new(rt::Semaphore::new(4));
    let task = |permits: Arc<rt::Semaphore>| async move {
        for _ in 0..LOCKS {
            let _permit = rt::acquire(&permits).await;
            rt::yield_now().await;
        }
    };
    contend(|| task(permits.clone())).await;
}
