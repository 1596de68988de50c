//! Pipes in memory: what one end writes, the other reads.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use super::traits::{PollRead, PollWrite, impl_async_read, impl_async_write};
use crate::task::wait::{self, Leaf, Object, WaitReason};
use crate::task::{frame, waker};

/// Two ends of a pipe that goes both ways, in memory. Each way holds up to `max_buf_size` bytes; a writer waits while it is full.
///
/// # Panics
/// If `max_buf_size` is zero: nothing could ever be written.
#[track_caller]
pub fn duplex(max_buf_size: usize) -> (DuplexStream, DuplexStream) {
    assert!(max_buf_size > 0, "a duplex pipe must hold at least one byte: its size was 0");
    let created = Location::caller();
    let (there, back) = (Pipe::new(max_buf_size, created), Pipe::new(max_buf_size, created));
    let a = DuplexStream { read: Arc::clone(&back), write: Arc::clone(&there) };
    (a, DuplexStream { read: there, write: back })
}

/// One end of a pipe made by [`duplex`]. When it is dropped, the other end reads what is left and then the end, and writing there
/// fails with `BrokenPipe`.
pub struct DuplexStream {
    read: Arc<Pipe>,
    write: Arc<Pipe>,
}

/// One way.
struct Pipe {
    state: Mutex<State>,
    capacity: usize,
    created: &'static Location<'static>,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Nothing more is written.
    ended: bool,
    /// Nothing more is read.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize, created: &'static Location<'static>) -> Arc<Pipe> {
        Arc::new(Pipe { state: Mutex::default(), capacity, created })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self) -> Object {
        Object::Created(self.created)
    }

    /// Waits in `slot`. What is returned is dropped outside the lock.
    fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
        match slot {
            Some(waker) if waker::will_wake(waker, cx) => None,
            slot => slot.replace(waker::register(cx)),
        }
    }

    #[track_caller]
    fn note<T>(&self, cx: &Context<'_>, reason: WaitReason, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Pending => {
                frame::give_back();
                Leaf::at(reason, self.object(), frame::poll_site()).pending_detached(cx);
            }
            Poll::Ready(_) => frame::take_back_once(reason, self.object()),
        }
        polled
    }

    #[track_caller]
    fn poll_read(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(wait::proceed_detached(cx));
        let mut state = self.lock();
        let (mut woken, mut old) = (None, None);
        let polled = if buf.is_empty() {
            Poll::Ready(Ok(0))
        } else if !state.bytes.is_empty() {
            let n = state.bytes.read(buf);
            woken = state.writer.take().map(waker::fire);
            Poll::Ready(n)
        } else if state.ended {
            Poll::Ready(Ok(0))
        } else {
            old = Pipe::register(&mut state.reader, cx);
            Poll::Pending
        };
        drop(state);
        drop((woken, old));
        self.note(cx, WaitReason::DuplexRead, polled)
    }

    #[track_caller]
    fn poll_write(&self, cx: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(wait::proceed_detached(cx));
        let mut state = self.lock();
        let (mut woken, mut old) = (None, None);
        let n = buf.len().min(self.capacity - state.bytes.len());
        let polled = if state.closed || state.ended {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        } else if n > 0 || buf.is_empty() {
            state.bytes.extend(&buf[..n]);
            woken = state.reader.take().map(waker::fire);
            Poll::Ready(Ok(n))
        } else {
            old = Pipe::register(&mut state.writer, cx);
            Poll::Pending
        };
        drop(state);
        drop((woken, old));
        self.note(cx, WaitReason::DuplexWrite, polled)
    }

    /// The writer's end: nothing more comes. Its own registration goes as well.
    fn end(&self) {
        let gone = {
            let mut state = self.lock();
            state.ended = true;
            (state.reader.take().map(waker::fire), state.writer.take())
        };
        drop(gone);
    }

    /// The reader's end: nothing is taken any more.
    fn close(&self) {
        let gone = {
            let mut state = self.lock();
            state.closed = true;
            (state.writer.take().map(waker::fire), state.reader.take(), std::mem::take(&mut state.bytes))
        };
        drop(gone);
    }
}

impl PollRead for DuplexStream {
    #[track_caller]
    fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.read.poll_read(cx, buf)
    }
}

impl PollWrite for DuplexStream {
    #[track_caller]
    fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write.poll_write(cx, buf)
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.end();
        Poll::Ready(Ok(()))
    }
}

impl_async_read!(DuplexStream);
impl_async_write!(DuplexStream);

impl Drop for DuplexStream {
    fn drop(&mut self) {
        self.write.end();
        self.read.close();
    }
}

impl fmt::Debug for DuplexStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DuplexStream")
            .field("readable", &self.read.lock().bytes.len())
            .field("unread", &self.write.lock().bytes.len())
            .finish_non_exhaustive()
    }
}
