//! The standard streams of the process.
//!
//! Output goes through the blocking pool, one write at a time. Input is read by one thread of its own, which is started at the first read and
//! lives as long as the process: a read of standard input cannot be stopped, and must hold up neither a scope's end nor a shutdown.
//! What it has read for a reader that is gone is kept for the next one.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use super::traits::{PollRead, PollWrite, impl_async_read, impl_async_write};
use crate::blocking::BlockingIo;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::{frame, waker};

/// Bytes read or written at a time.
const BUF_MAX: usize = 64 * 1024;

// ---- output -------------------------------------------------------------------------------------

/// A stream that is written to on the blocking pool. A write takes the bytes at once; the next operation waits until they are written.
#[derive(Debug)]
struct Output {
    busy: Option<BlockingIo<()>>,
    /// What the call works on: made anew for each.
    write: fn(&[u8]) -> io::Result<()>,
}

impl Output {
    #[track_caller]
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(busy) = &mut self.busy else { return Poll::Ready(Ok(())) };
        busy.set_location(frame::poll_site());
        let written = ready!(Pin::new(busy).poll(cx));
        self.busy = None;
        Poll::Ready(written)
    }

    #[track_caller]
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(cx))?;
        let bytes = buf[..buf.len().min(BUF_MAX)].to_vec();
        let (n, write) = (bytes.len(), self.write);
        let mut busy = BlockingIo::at(WaitReason::BlockingCall, frame::poll_site(), move || write(&bytes));
        busy.start();
        self.busy = Some(busy);
        Poll::Ready(Ok(n))
    }
}

macro_rules! output {
    ($(#[$doc:meta])+ $type:ident, $(#[$fn_doc:meta])+ $function:ident) => {
        $(#[$doc])+
        ///
        /// A write is over when the bytes have been taken; `flush` waits until they are written, and tells the error if they
        /// could not be. If the value is dropped, they are still written.
        #[derive(Debug)]
        pub struct $type(Output);

        $(#[$fn_doc])+
        pub fn $function() -> $type {
            $type(Output {
                busy: None,
                write: |bytes| {
                    let mut stream = io::$function().lock();
                    stream.write_all(bytes)?;
                    stream.flush()
                },
            })
        }

        impl PollWrite for $type {
            #[track_caller]
            fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, buf)
            }

            #[track_caller]
            fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.poll_idle(cx)
            }
        }

        impl_async_write!($type);
    };
}

output! {
    /// The process's standard output.
    Stdout,
    /// The process's standard output. Each value keeps its own writes in order.
    stdout
}

output! {
    /// The process's standard error.
    Stderr,
    /// The process's standard error. Each value keeps its own writes in order.
    stderr
}

// ---- input --------------------------------------------------------------------------------------

/// The process's standard input. There is one, whatever number of these: what one reads, the others do not.
#[derive(Debug)]
pub struct Stdin(());

/// The process's standard input.
pub fn stdin() -> Stdin {
    Stdin(())
}

/// What the thread and the readers share.
struct Input {
    state: Mutex<InputState>,
    wanted: Condvar,
}

struct InputState {
    bytes: Vec<u8>,
    at: usize,
    /// The end, or an error, that nobody was told of.
    over: Option<io::Result<()>>,
    /// The thread is to read.
    wanted: bool,
    waiting: Vec<Waker>,
}

static INPUT: Input = Input {
    state: Mutex::new(InputState {
        bytes: Vec::new(),
        at: 0,
        over: None,
        wanted: false,
        waiting: Vec::new(),
    }),
    wanted: Condvar::new(),
};

impl Input {
    fn lock(&self) -> MutexGuard<'_, InputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self) {
        let mut buf = vec![0; BUF_MAX];
        loop {
            let mut state = self.lock();
            while !state.wanted {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            let read = io::stdin().read(&mut buf);
            if matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
                continue;
            }
            let mut state = self.lock();
            state.wanted = false;
            match read {
                Ok(n) if n > 0 => {
                    state.bytes = buf[..n].to_vec();
                    state.at = 0;
                }
                over => state.over = Some(over.map(drop)),
            }
            let woken: Vec<_> = state.waiting.drain(..).map(waker::fire).collect();
            drop(state);
            drop(woken);
        }
    }

    fn poll_read(&'static self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if state.at < state.bytes.len() {
            let n = buf.len().min(state.bytes.len() - state.at);
            buf[..n].copy_from_slice(&state.bytes[state.at..state.at + n]);
            state.at += n;
            return Poll::Ready(Ok(n));
        }
        if let Some(over) = state.over.take() {
            return Poll::Ready(over.map(|()| 0));
        }
        if !state.waiting.iter().any(|waker| waker::will_wake(waker, cx)) {
            let waker = waker::register(cx);
            state.waiting.push(waker);
        }
        state.wanted = true;
        drop(state);
        static STARTED: Once = Once::new();
        let mut failed = None;
        STARTED.call_once(|| {
            let thread = std::thread::Builder::new().name("leakfree-stdin".into());
            failed = thread.spawn(|| INPUT.run()).err();
        });
        self.wanted.notify_one();
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl PollRead for Stdin {
    #[track_caller]
    fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = INPUT.poll_read(cx, buf);
        match &polled {
            Poll::Pending => {
                Leaf::at(WaitReason::StdinRead, Object::None, frame::poll_site()).pending_detached(cx);
            }
            Poll::Ready(_) => frame::take_back_once(WaitReason::StdinRead, Object::None),
        }
        polled
    }
}

impl_async_read!(Stdin);
