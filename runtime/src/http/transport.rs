//! What hyper reads and writes: a connection whose first bytes are read once more, and whose writes have to get on.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::scope::Cancelled;
use crate::task::frame;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::time::sleep::Timer;

/// What a client that speaks HTTP/2 begins with.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection.
#[derive(Debug)]
pub(super) struct Beginning {
    bytes: [u8; PREFACE.len()],
    filled: usize,
    /// So many of them were read again.
    taken: usize,
}

impl Beginning {
    pub(super) fn is_http2(&self) -> bool {
        self.bytes == PREFACE
    }
}

/// Reads until it is clear whether that is the preface of HTTP/2: the whole of it, or something else. It waits on behalf of `place`.
///
/// # Errors
/// If reading fails, if the client closes before it has said anything, or if a cancel comes before it has.
pub(super) async fn read_preface<I: Read + Unpin>(
    io: &mut I,
    mut cancelled: Pin<&mut Cancelled>,
    place: &'static Location<'static>,
) -> io::Result<Beginning> {
    let mut beginning = Beginning { bytes: [0; PREFACE.len()], filled: 0, taken: 0 };
    let mut open = true;
    while open
        && beginning.filled < PREFACE.len()
        && PREFACE.starts_with(&beginning.bytes[..beginning.filled])
    {
        let filled = beginning.filled;
        let mut buf = ReadBuf::new(&mut beginning.bytes[filled..]);
        poll_fn(|cx| {
            if filled == 0 && cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            frame::polling_for(place, || Pin::new(&mut *io).poll_read(cx, buf.unfilled()))
        })
        .await?;
        let n = buf.filled().len();
        beginning.filled += n;
        open = n > 0;
    }
    if beginning.filled == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(beginning)
}

/// A connection as hyper has it.
#[derive(Debug)]
pub(super) struct Transport<I> {
    beginning: Beginning,
    io: I,
    stall: Stall,
}

impl<I> Transport<I> {
    pub(super) fn new(
        beginning: Beginning,
        io: I,
        write_timeout: Option<Duration>,
        place: &'static Location<'static>,
    ) -> Transport<I> {
        let leaf = Leaf::at(WaitReason::Timeout, Object::None, place);
        Transport { beginning, io, stall: Stall { most: write_timeout, timer: None, leaf } }
    }
}

/// Ends writes that the other end takes nothing of.
#[derive(Debug)]
struct Stall {
    most: Option<Duration>,
    /// Since the first write that could take nothing.
    timer: Option<Timer>,
    leaf: Leaf,
}

impl Stall {
    /// What has become of a write.
    fn bound<T>(&mut self, cx: &Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let over = match (&written, self.most) {
            (Poll::Pending, Some(most)) => {
                self.timer.get_or_insert_with(|| Timer::after("leakfree::http::serve", most)).poll(cx)
            }
            (Poll::Pending, None) => return written,
            (Poll::Ready(_), _) => {
                if self.timer.take().is_some() {
                    self.leaf.ready();
                }
                return written;
            }
        };
        if !over {
            self.leaf.pending(cx);
            return Poll::Pending;
        }
        self.timer = None;
        self.leaf.ready();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of the response")))
    }
}

impl<I: Read + Unpin> Read for Transport<I> {
    #[track_caller]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Beginning { bytes, filled, taken } = &mut self.beginning;
        let left = &bytes[*taken..*filled];
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = left.len().min(buf.remaining());
        buf.put_slice(&left[..n]);
        *taken += n;
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> Write for Transport<I> {
    #[track_caller]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.stall.bound(cx, written)
    }

    #[track_caller]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.stall.bound(cx, flushed)
    }

    #[track_caller]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(cx);
        self.stall.bound(cx, shut_down)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    #[track_caller]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.stall.bound(cx, written)
    }
}
