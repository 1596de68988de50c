//! The methods of readers and writers: `futures-util`'s, with the caller's line.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
use futures_util::io as util;

use crate::task::frame;

/// A future of another crate that calls poll functions of ours: what they wait for is recorded where this was made.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct On<F> {
    future: F,
    site: &'static Location<'static>,
}

impl<F> On<F> {
    #[track_caller]
    pub(super) fn here(future: F) -> On<F> {
        On::at(Location::caller(), future)
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn at(site: &'static Location<'static>, future: F) -> On<F> {
        On { future, site }
    }
}

impl<F: Future + Unpin> Future for On<F> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let site = self.site;
        frame::polling_for(site, || Pin::new(&mut self.future).poll(cx))
    }
}

/// Methods of everything that can be read.
pub trait AsyncReadExt: AsyncRead {
    /// Waits until something can be read, and reads up to `buf.len()` bytes. Returns their number; 0 is the end (or an empty `buf`).
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Cancel safety
    /// Cancel safe for the types of this crate: dropped before it is ready, nothing is lost.
    #[track_caller]
    fn read<'a>(&'a mut self, buf: &'a mut [u8]) -> On<util::Read<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncReadExt::read(self, buf))
    }

    /// As [`read`](AsyncReadExt::read), into one buffer after the other.
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    fn read_vectored<'a>(&'a mut self, bufs: &'a mut [IoSliceMut<'a>]) -> On<util::ReadVectored<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncReadExt::read_vectored(self, bufs))
    }

    /// Reads as many bytes as `buf` holds.
    ///
    /// # Errors
    /// `UnexpectedEof` if the reader ends first; else the reader's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, what it has read is lost.
    #[track_caller]
    fn read_exact<'a>(&'a mut self, buf: &'a mut [u8]) -> On<util::ReadExact<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncReadExt::read_exact(self, buf))
    }

    /// Reads to the end, and appends it to `buf`. Returns how many bytes that were.
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, a part has been read into `buf`.
    #[track_caller]
    fn read_to_end<'a>(&'a mut self, buf: &'a mut Vec<u8>) -> On<util::ReadToEnd<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncReadExt::read_to_end(self, buf))
    }

    /// Reads to the end, which must be UTF-8, and appends it to `buf`. Returns how many bytes that were.
    ///
    /// # Errors
    /// `InvalidData` if it is no UTF-8; else the reader's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, what it has read is lost.
    #[track_caller]
    fn read_to_string<'a>(&'a mut self, buf: &'a mut String) -> On<util::ReadToString<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncReadExt::read_to_string(self, buf))
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end; else the reader's.
    ///
    /// # Cancel safety
    /// As [`read`](AsyncReadExt::read).
    #[track_caller]
    fn read_u8(&mut self) -> impl Future<Output = io::Result<u8>>
    where
        Self: Unpin,
    {
        let site = Location::caller();
        std::future::poll_fn(move |cx| {
            let mut byte = [0];
            frame::polling_for(site, || Pin::new(&mut *self).poll_read(cx, &mut byte)).map(|read| match read?
            {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(byte[0]),
            })
        })
    }

    /// A reader that ends after `limit` bytes.
    fn take(self, limit: u64) -> util::Take<Self>
    where
        Self: Sized,
    {
        util::AsyncReadExt::take(self, limit)
    }

    /// A reader that goes on with `next` at the end of this one.
    fn chain<R: AsyncRead>(self, next: R) -> util::Chain<Self, R>
    where
        Self: Sized,
    {
        util::AsyncReadExt::chain(self, next)
    }
}

impl<R: AsyncRead + ?Sized> AsyncReadExt for R {}

/// Methods of everything that can be written to.
pub trait AsyncWriteExt: AsyncWrite {
    /// Waits until something can be written, and writes up to `buf.len()` bytes. Returns their number.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Cancel safety
    /// Cancel safe for the types of this crate: dropped before it is ready, it has written nothing.
    #[track_caller]
    fn write<'a>(&'a mut self, buf: &'a [u8]) -> On<util::Write<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncWriteExt::write(self, buf))
    }

    /// As [`write`](AsyncWriteExt::write), from one buffer after the other.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    fn write_vectored<'a>(&'a mut self, bufs: &'a [IoSlice<'a>]) -> On<util::WriteVectored<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncWriteExt::write_vectored(self, bufs))
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// `WriteZero` if the writer takes no more; else the writer's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, a part may have been written.
    #[track_caller]
    fn write_all<'a>(&'a mut self, buf: &'a [u8]) -> On<util::WriteAll<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncWriteExt::write_all(self, buf))
    }

    /// Waits until what the writer has kept back has gone where it should.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Cancel safety
    /// Cancel safe: flush again.
    #[track_caller]
    fn flush(&mut self) -> On<util::Flush<'_, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncWriteExt::flush(self))
    }

    /// Flushes, and tells the other end that this was all.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Cancel safety
    /// Cancel safe: shut down again.
    #[track_caller]
    fn shutdown(&mut self) -> On<util::Close<'_, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncWriteExt::close(self))
    }
}

impl<W: AsyncWrite + ?Sized> AsyncWriteExt for W {}

/// Methods of readers that have a buffer, such as [`BufReader`](super::BufReader).
pub trait AsyncBufReadExt: AsyncBufRead {
    /// Waits for something in the buffer, and shows it; empty is the end. Say with [`consume`](AsyncBufReadExt::consume) how much of
    /// it is used up.
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    fn fill_buf(&mut self) -> On<util::FillBuf<'_, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncBufReadExt::fill_buf(self))
    }

    /// So many bytes of the buffer are used up.
    fn consume(&mut self, amount: usize)
    where
        Self: Unpin,
    {
        AsyncBufRead::consume(Pin::new(self), amount);
    }

    /// Reads up to and with the next `byte`, or to the end, and appends it to `buf`. Returns how many bytes that were; 0 is the end.
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe on its own: dropped before it is ready, a part is in `buf`. Read again into the same `buf`.
    #[track_caller]
    fn read_until<'a>(&'a mut self, byte: u8, buf: &'a mut Vec<u8>) -> On<util::ReadUntil<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncBufReadExt::read_until(self, byte, buf))
    }

    /// Reads a line with its end, and appends it to `buf`. Returns how many bytes that were; 0 is the end.
    ///
    /// # Errors
    /// `InvalidData` if it is no UTF-8; else the reader's.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, what it has read of the line is lost. [`lines`](AsyncBufReadExt::lines) is.
    #[track_caller]
    fn read_line<'a>(&'a mut self, buf: &'a mut String) -> On<util::ReadLine<'a, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncBufReadExt::read_line(self, buf))
    }

    /// The lines one after the other, without their ends.
    fn lines(self) -> Lines<Self>
    where
        Self: Sized + Unpin,
    {
        Lines(util::AsyncBufReadExt::lines(self))
    }
}

impl<R: AsyncBufRead + ?Sized> AsyncBufReadExt for R {}

/// The lines of a reader; see [`AsyncBufReadExt::lines`]. It is a `Stream`, too.
#[derive(Debug)]
pub struct Lines<R>(util::Lines<R>);

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The next line without its end; `None` when there are no more.
    ///
    /// # Errors
    /// `InvalidData` if it is no UTF-8; else the reader's.
    ///
    /// # Cancel safety
    /// Cancel safe: what has been read of a line is kept for the next call.
    #[track_caller]
    pub fn next_line(&mut self) -> On<NextLine<'_, R>> {
        On::here(NextLine(&mut self.0))
    }
}

impl<R: AsyncBufRead + Unpin> Stream for Lines<R> {
    type Item = io::Result<String>;

    #[track_caller]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<String>>> {
        frame::polling_for(frame::poll_site(), || Pin::new(&mut self.0).poll_next(cx))
    }
}

/// The future of [`Lines::next_line`].
#[derive(Debug)]
pub struct NextLine<'a, R>(&'a mut util::Lines<R>);

impl<R: AsyncBufRead + Unpin> Future for NextLine<'_, R> {
    type Output = io::Result<Option<String>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx).map(Option::transpose)
    }
}

/// Methods of what has a position.
pub trait AsyncSeekExt: AsyncSeek {
    /// Moves to a position, and returns it as counted from the start.
    ///
    /// # Errors
    /// `InvalidInput` if it is before the start; else the type's.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it may have moved or not.
    #[track_caller]
    fn seek(&mut self, to: SeekFrom) -> On<util::Seek<'_, Self>>
    where
        Self: Unpin,
    {
        On::here(util::AsyncSeekExt::seek(self, to))
    }

    /// Moves to the start.
    ///
    /// # Errors
    /// The type's.
    ///
    /// # Cancel safety
    /// As [`seek`](AsyncSeekExt::seek).
    #[track_caller]
    fn rewind(&mut self) -> On<util::Seek<'_, Self>>
    where
        Self: Unpin,
    {
        self.seek(SeekFrom::Start(0))
    }

    /// The position, as counted from the start.
    ///
    /// # Errors
    /// The type's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    fn stream_position(&mut self) -> On<util::Seek<'_, Self>>
    where
        Self: Unpin,
    {
        self.seek(SeekFrom::Current(0))
    }
}

impl<S: AsyncSeek + ?Sized> AsyncSeekExt for S {}

/// Splits anything that can be read and written into halves that two tasks can own. Our sockets have halves of their own, which share no
/// lock; dropping one of these shuts nothing down.
pub fn split<T: AsyncRead + AsyncWrite>(stream: T) -> (util::ReadHalf<T>, util::WriteHalf<T>) {
    util::AsyncReadExt::split(stream)
}
