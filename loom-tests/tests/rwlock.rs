//! `RwLock`: who writes is alone, readers come in together, and nobody is left outside by one who leaves.

#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use leakfree::sync::RwLock;
use leakfree_loom_tests::model;
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::thread;

/// A value whose every access loom checks.
struct Value(UnsafeCell<u32>);

// SAFETY: loom checks each access: the lock orders them.
unsafe impl Sync for Value {}

impl Value {
    fn locked() -> Arc<RwLock<Value>> {
        Arc::new(RwLock::with_max_readers(Value(UnsafeCell::new(0)), 2))
    }
    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
    fn add(&mut self) {
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

#[test]
fn who_writes_is_alone_and_is_seen_by_the_next() {
    model(|| {
        let lock = Value::locked();
        let (writes, reads) = (lock.clone(), lock.clone());
        let writes = thread::spawn(move || block_on(writes.write()).add());
        let reads = thread::spawn(move || block_on(reads.read()).get());
        block_on(lock.write()).add();
        writes.join().unwrap();
        assert!(reads.join().unwrap() <= 2);
        assert_eq!(lock.try_read().unwrap().get(), 2);
    });
}

#[test]
fn a_writer_that_leaves_lets_the_readers_behind_it_in() {
    model(|| {
        let lock = Value::locked();
        let read = lock.clone().try_read_owned().unwrap();
        let mut writer = Box::pin(lock.clone().write_owned());
        assert!(writer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let reads = lock.clone();
        let reads = thread::spawn(move || block_on(reads.read()).get());
        drop(writer);
        assert_eq!(reads.join().unwrap(), 0);
        drop(read);
        assert!(lock.try_write().is_ok());
    });
}

/// What one gives back is enough for two: it does not all go to the first in line.
#[test]
fn a_writer_that_has_written_lets_both_readers_behind_it_in() {
    model(|| {
        let lock = Value::locked();
        let write = lock.clone().try_write_owned().unwrap();
        let mut first = Box::pin(lock.clone().read_owned());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let reads = lock.clone();
        let reads = thread::spawn(move || block_on(reads.read()).get());
        drop(write);
        assert_eq!(reads.join().unwrap(), 0);
        drop(first);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_writer_that_reads_on_lets_the_readers_in_and_no_writer() {
    model(|| {
        let lock = Value::locked();
        let mut write = lock.clone().try_write_owned().unwrap();
        let (reads, writes) = (lock.clone(), lock.clone());
        let reads = thread::spawn(move || block_on(reads.read()).get());
        let writes = thread::spawn(move || {
            let mut write = pin!(writes.write());
            // One look, and it leaves.
            let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|mut value| value.add());
        });
        write.add();
        let read = write.downgrade();
        assert_eq!(read.get(), 1);
        let theirs = reads.join().unwrap();
        assert!(theirs == 1 || theirs == 2);
        drop(read);
        writes.join().unwrap();
        assert!(lock.try_write().is_ok());
    });
}
