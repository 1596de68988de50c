//! Readiness of a source: an edge that the kernel reports, against an operation that would block, a waiter that registers and one
//! that leaves. A lost edge is a reader that waits for ever, which loom calls a deadlock.

#![cfg(loom)]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Waker};

use leakfree::model::{Source, SourcePlace};
use leakfree_loom_tests::{big, model};
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::sync::Mutex;
use loom::thread;

/// A source with the bytes that lie in the kernel.
struct Socket {
    source: Source,
    bytes: Mutex<usize>,
}

impl Socket {
    fn new(source: Source) -> Arc<Socket> {
        Arc::new(Socket { source, bytes: Mutex::new(0) })
    }

    /// A byte comes, and the kernel reports it.
    fn arrive(&self) {
        *self.bytes.lock().unwrap() += 1;
        self.source.readable();
    }

    fn take(&self) -> Option<()> {
        let mut bytes = self.bytes.lock().unwrap();
        *bytes = bytes.checked_sub(1)?;
        Some(())
    }

    fn read(&self) {
        let mut place = SourcePlace::default();
        let operation = || self.take().ok_or_else(|| ErrorKind::WouldBlock.into());
        block_on(poll_fn(|cx| self.source.poll_read(cx, &mut place, operation))).unwrap();
    }
}

#[test]
fn an_edge_between_the_operation_and_the_clear_is_not_lost() {
    model(|| {
        let socket = Socket::new(Source::untried());
        let kernel = socket.clone();
        let kernel = thread::spawn(move || kernel.arrive());
        socket.read();
        kernel.join().unwrap();
    });
}

#[test]
fn an_edge_against_a_waiter_that_registers_wakes_it() {
    model(|| {
        let socket = Socket::new(Source::not_ready());
        let kernel = socket.clone();
        let kernel = thread::spawn(move || {
            kernel.arrive();
            kernel.arrive();
        });
        socket.read();
        socket.read();
        kernel.join().unwrap();
    });
}

/// A read that has taken all there was does not ask again: what comes after it is told by an edge.
#[test]
fn an_edge_behind_a_short_read_is_not_lost() {
    model(|| {
        let socket = Socket::new(Source::untried());
        let kernel = socket.clone();
        let kernel = thread::spawn(move || {
            kernel.arrive();
            kernel.arrive();
        });
        let mut place = SourcePlace::default();
        let mut got = 0;
        block_on(poll_fn(|cx| {
            while got < 2 {
                let operation = |drained: &mut bool| {
                    let mut bytes = socket.bytes.lock().unwrap();
                    *drained = *bytes > 0;
                    if *bytes == 0 {
                        Err(ErrorKind::WouldBlock.into())
                    } else {
                        Ok(std::mem::take(&mut *bytes))
                    }
                };
                match socket.source.poll_draining(cx, &mut place, operation) {
                    std::task::Poll::Ready(n) => got += n.unwrap(),
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                }
            }
            std::task::Poll::Ready(())
        }));
        kernel.join().unwrap();
    });
}

/// An end that blocks is none, and is not tried until there is an edge.
#[test]
fn an_edge_against_an_end_that_blocks_is_not_lost() {
    model(|| {
        let socket = Socket::new(Source::not_ready());
        socket.source.closed();
        let kernel = socket.clone();
        let kernel = thread::spawn(move || kernel.arrive());
        socket.read();
        kernel.join().unwrap();
    });
}

#[test]
fn an_edge_against_a_try_from_elsewhere_is_not_lost() {
    big(|| {
        let socket = Socket::new(Source::untried());
        let (kernel, tries) = (socket.clone(), socket.clone());
        let kernel = thread::spawn(move || {
            kernel.arrive();
            kernel.arrive();
        });
        let tries = thread::spawn(move || tries.source.try_read(|| tries.take()).is_some());
        socket.read();
        if !tries.join().unwrap() {
            socket.read();
        }
        kernel.join().unwrap();
    });
}

#[test]
fn two_readers_have_a_byte_each() {
    big(|| {
        let socket = Socket::new(Source::not_ready());
        // An edge for nothing has taken this one's place away, and the other may be in it when this one looks again.
        let mut place = SourcePlace::default();
        let mut cx = Context::from_waker(Waker::noop());
        let operation = || socket.take().ok_or_else(|| ErrorKind::WouldBlock.into());
        assert!(socket.source.poll_read(&mut cx, &mut place, operation).is_pending());
        socket.source.readable();
        let (kernel, other) = (socket.clone(), socket.clone());
        let kernel = thread::spawn(move || {
            kernel.arrive();
            kernel.arrive();
        });
        let other = thread::spawn(move || other.read());
        block_on(poll_fn(|cx| socket.source.poll_read(cx, &mut place, operation))).unwrap();
        other.join().unwrap();
        kernel.join().unwrap();
    });
}

#[test]
fn a_reader_that_leaves_takes_nobody_elses_place() {
    model(|| {
        let socket = Socket::new(Source::not_ready());
        let mut place = SourcePlace::default();
        let mut cx = Context::from_waker(Waker::noop());
        let polled = socket.source.poll_read::<()>(&mut cx, &mut place, || Err(ErrorKind::WouldBlock.into()));
        assert!(polled.is_pending());
        let (kernel, reads) = (socket.clone(), socket.clone());
        let reads = thread::spawn(move || reads.read());
        let kernel = thread::spawn(move || {
            // For nothing: it drains who waits, and whoever comes next is in the same place.
            kernel.source.readable();
            kernel.arrive();
        });
        socket.source.release(&mut place);
        reads.join().unwrap();
        kernel.join().unwrap();
    });
}

#[test]
fn who_is_ready_sees_what_was_done_before_the_report() {
    model(|| {
        let socket = Socket::new(Source::not_ready());
        let cell = Arc::new(UnsafeCell::new(0));
        let (kernel, writes) = (socket.clone(), cell.clone());
        let kernel = thread::spawn(move || {
            // SAFETY: loom checks that the readiness orders this before the read.
            writes.with_mut(|cell| unsafe { *cell = 1 });
            kernel.source.readable();
        });
        let mut place = SourcePlace::default();
        let mut cx = Context::from_waker(Waker::noop());
        // SAFETY: as above.
        let read = || Ok(cell.with(|cell| unsafe { *cell }));
        if let std::task::Poll::Ready(seen) = socket.source.poll_read(&mut cx, &mut place, read) {
            assert_eq!(seen.unwrap(), 1);
        }
        kernel.join().unwrap();
    });
}

#[test]
fn the_shutdown_reaches_a_waiter_that_registers() {
    model(|| {
        let socket = Socket::new(Source::untried());
        let ends = socket.clone();
        let ends = thread::spawn(move || ends.source.gone());
        let mut place = SourcePlace::default();
        // Whoever would wait is told that it would be in vain.
        let operation = || Err::<(), _>(ErrorKind::WouldBlock.into());
        block_on(poll_fn(|cx| socket.source.poll_read(cx, &mut place, operation))).unwrap_err();
        ends.join().unwrap();
    });
}
