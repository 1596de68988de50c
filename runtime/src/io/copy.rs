//! Copying from a reader to a writer, one way or both.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use futures_util::io as util;

use super::ext::On;
use crate::task::frame;

/// Bytes on their way in one direction.
const BUF: usize = 8 * 1024;

/// Copies all that `reader` has to `writer`, and flushes that. Returns how many bytes that were.
///
/// # Errors
/// Of either.
///
/// # Cancel safety
/// **Not** cancel safe: dropped before it is ready, what was read and not written is lost.
#[track_caller]
pub fn copy<'a, R, W>(reader: &'a mut R, writer: &'a mut W) -> On<util::Copy<'a, &'a mut R, W>>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    On::here(util::copy(reader, writer))
}

/// As [`copy`], from a reader that has a buffer.
///
/// # Errors
/// Of either.
///
/// # Cancel safety
/// Cancel safe: what was not written is in the reader still. How many bytes have been copied is not known then.
#[track_caller]
pub fn copy_buf<'a, R, W>(reader: &'a mut R, writer: &'a mut W) -> On<util::CopyBuf<'a, &'a mut R, W>>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    On::here(util::copy_buf(reader, writer))
}

/// Copies what each has to the other. The end of one is handed on as a shutdown of the other, while the other way goes on. Ends when
/// both ways have ended, with how many bytes went from `a` to `b` and from `b` to `a`.
///
/// # Errors
/// The first of either; the other way is given up then.
///
/// # Cancel safety
/// **Not** cancel safe: dropped before it is ready, what was read and not written is lost.
#[track_caller]
pub fn copy_bidirectional<'a, A, B>(a: &'a mut A, b: &'a mut B) -> CopyBidirectional<'a, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    CopyBidirectional { a, b, there: Way::new(), back: Way::new(), site: Location::caller() }
}

/// The future of [`copy_bidirectional`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct CopyBidirectional<'a, A: ?Sized, B: ?Sized> {
    a: &'a mut A,
    b: &'a mut B,
    there: Way,
    back: Way,
    site: &'static Location<'static>,
}

impl<A, B> Future for CopyBidirectional<'_, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    type Output = io::Result<(u64, u64)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        frame::polling_for(this.site, || {
            let there = this.there.poll(cx, this.a, this.b)?;
            let back = this.back.poll(cx, this.b, this.a)?;
            match (there, back) {
                (Poll::Ready(there), Poll::Ready(back)) => Poll::Ready(Ok((there, back))),
                _ => Poll::Pending,
            }
        })
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    buf: Vec<u8>,
    from: usize,
    to: usize,
    copied: u64,
    phase: Phase,
    /// Something was written that may be kept back.
    unflushed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Copying,
    ShuttingDown,
    Over,
}

impl Way {
    fn new() -> Way {
        Way { buf: vec![0; BUF], from: 0, to: 0, copied: 0, phase: Phase::Copying, unflushed: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Result<Poll<u64>, io::Error> {
        match self.poll_copy(cx, reader, writer) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(self.copied)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Poll<io::Result<()>> {
        while self.phase == Phase::Copying {
            if self.from < self.to {
                let n = ready!(Pin::new(&mut *writer).poll_write(cx, &self.buf[self.from..self.to]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.from += n;
                self.copied += n as u64;
                self.unflushed = true;
                continue;
            }
            match Pin::new(&mut *reader).poll_read(cx, &mut self.buf) {
                Poll::Pending => {
                    // Nothing more comes for now: what came should arrive.
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => self.phase = Phase::ShuttingDown,
                Poll::Ready(Ok(n)) => (self.from, self.to) = (0, n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if self.phase == Phase::ShuttingDown {
            ready!(Pin::new(&mut *writer).poll_close(cx))?;
            self.phase = Phase::Over;
        }
        Poll::Ready(Ok(()))
    }
}
