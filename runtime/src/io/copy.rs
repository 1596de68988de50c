//! Copying from a reader to a writer, one way or both.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::task::{frame, wait};

/// Bytes on their way in one direction.
const BUF: usize = 8 * 1024;

/// Copies all that `reader` has to `writer`, and flushes that. Returns how many bytes that were. While nothing more comes, what came is
/// flushed; a reader and a writer that are always ready let other tasks run now and then.
///
/// # Errors
/// Of either.
///
/// # Cancel safety
/// **Not** cancel safe: dropped before it is ready, what was read and not written is lost.
#[track_caller]
pub fn copy<'a, R, W>(reader: &'a mut R, writer: &'a mut W) -> Copy<'a, R, W>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    Copy { reader, writer, way: Way::new(End::Flush), site: Location::caller() }
}

/// The future of [`copy`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Copy<'a, R: ?Sized, W: ?Sized> {
    reader: &'a mut R,
    writer: &'a mut W,
    way: Way,
    site: &'static Location<'static>,
}

impl<R, W> Future for Copy<'_, R, W>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Copy { reader, writer, way, site } = &mut *self;
        frame::polling_for(site, || way.poll(cx, *reader, *writer))
    }
}

/// As [`copy`], from a reader that has a buffer.
///
/// # Errors
/// Of either.
///
/// # Cancel safety
/// Cancel safe: what was not written is in the reader still. How many bytes have been copied is not known then.
#[track_caller]
pub fn copy_buf<'a, R, W>(reader: &'a mut R, writer: &'a mut W) -> CopyBuf<'a, R, W>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    CopyBuf { reader, writer, copied: 0, unflushed: false, site: Location::caller() }
}

/// The future of [`copy_buf`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct CopyBuf<'a, R: ?Sized, W: ?Sized> {
    reader: &'a mut R,
    writer: &'a mut W,
    copied: u64,
    unflushed: bool,
    site: &'static Location<'static>,
}

impl<R, W> CopyBuf<'_, R, W>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        loop {
            ready!(wait::proceed_detached(cx));
            let Poll::Ready(bytes) = Pin::new(&mut *self.reader).poll_fill_buf(cx) else {
                frame::give_back();
                if self.unflushed {
                    ready!(Pin::new(&mut *self.writer).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            };
            let bytes = bytes?;
            if bytes.is_empty() {
                ready!(Pin::new(&mut *self.writer).poll_flush(cx))?;
                return Poll::Ready(Ok(self.copied));
            }
            let Poll::Ready(written) = Pin::new(&mut *self.writer).poll_write(cx, bytes) else {
                frame::give_back();
                return Poll::Pending;
            };
            let n = written?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            Pin::new(&mut *self.reader).consume(n);
            self.copied += n as u64;
            self.unflushed = true;
        }
    }
}

impl<R, W> Future for CopyBuf<'_, R, W>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let site = self.site;
        frame::polling_for(site, || self.poll_copy(cx))
    }
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
    CopyBidirectional {
        a,
        b,
        there: Way::new(End::Close),
        back: Way::new(End::Close),
        site: Location::caller(),
    }
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
    end: End,
    /// Something was written that may be kept back.
    unflushed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Copying,
    Ending,
    Over,
}

/// What becomes of the writer when the reader has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Flush,
    Close,
}

impl Way {
    fn new(end: End) -> Way {
        Way { buf: vec![0; BUF], from: 0, to: 0, copied: 0, phase: Phase::Copying, end, unflushed: false }
    }

    /// Copies, and returns how much when all is over.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Poll<io::Result<u64>> {
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
            ready!(wait::proceed_detached(cx));
            match Pin::new(&mut *reader).poll_read(cx, &mut self.buf) {
                Poll::Pending => {
                    frame::give_back();
                    // Nothing more comes for now: what came should arrive.
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => self.phase = Phase::Ending,
                Poll::Ready(Ok(n)) => (self.from, self.to) = (0, n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if self.phase == Phase::Ending {
            let writer = Pin::new(&mut *writer);
            ready!(match self.end {
                End::Flush => writer.poll_flush(cx),
                End::Close => writer.poll_close(cx),
            })?;
            self.phase = Phase::Over;
        }
        Poll::Ready(Ok(self.copied))
    }
}
