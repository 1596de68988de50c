//! Reading and writing as our types do it, and the traits of other crates on top of it.

use std::io::{self, IoSlice, IoSliceMut};
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

/// Something to read from.
pub(crate) trait PollRead {
    /// Whether `poll_read_uninit` writes nothing but what it has read.
    #[cfg(any(feature = "hyper", feature = "tokio-io"))]
    #[cfg_attr(not(feature = "tokio-io"), allow(dead_code))]
    const READS_UNINIT: bool = false;

    #[track_caller]
    fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Into the first buffer that is not empty, unless the type knows better.
    #[track_caller]
    fn poll_read_slices(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs.iter_mut().find(|buf| !buf.is_empty()) {
            Some(buf) => self.poll_read_slice(cx, buf),
            None => self.poll_read_slice(cx, &mut []),
        }
    }

    /// Into memory that may hold nothing yet, from its beginning on. Returns what has been read.
    ///
    /// It is filled with zeros first, unless the type knows better.
    #[cfg(any(feature = "hyper", feature = "tokio-io"))]
    #[track_caller]
    fn poll_read_uninit<'a>(
        &mut self,
        cx: &mut Context<'_>,
        buf: &'a mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<&'a mut [u8]>> {
        let most = buf.len().min(READ_MAX);
        buf[..most].fill(MaybeUninit::new(0));
        // SAFETY: so many have just been written.
        let buf = unsafe { written(buf, most) };
        let polled = self.poll_read_slice(cx, buf);
        polled.map_ok(|n| &mut buf[..n])
    }
}

/// The first `n` bytes.
///
/// # Safety
/// They have been written.
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
pub(crate) unsafe fn written(buf: &mut [MaybeUninit<u8>], n: usize) -> &mut [u8] {
    let buf = &mut buf[..n];
    // SAFETY: the same memory; the caller's word that it is written.
    unsafe { std::slice::from_raw_parts_mut(buf.as_mut_ptr().cast(), n) }
}

/// How many bytes at the beginning of `start`, a buffer's, have been read into, and so hold something.
///
/// # Panics
/// If those are other bytes.
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
pub(crate) fn count_read(start: *const MaybeUninit<u8>, read: &[u8]) -> usize {
    assert!(read.is_empty() || read.as_ptr() == start.cast(), "read into other memory than was given");
    read.len()
}

/// Something to write to.
pub(crate) trait PollWrite {
    /// Whether `poll_write_slices` writes more than the first buffer.
    #[cfg_attr(not(any(feature = "hyper", feature = "tokio-io")), allow(dead_code))]
    const VECTORED: bool = false;

    #[track_caller]
    fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// The first buffer that is not empty, unless the type knows better.
    #[track_caller]
    fn poll_write_slices(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_write_slice(cx, bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |buf| buf))
    }

    /// Nothing to do for a type that keeps nothing back.
    #[track_caller]
    fn poll_flush_all(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Flushes, and says to the other end that this was all.
    #[track_caller]
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_all(cx)
    }
}

/// The `AsyncRead`s of futures-io and, as features ask, of tokio and hyper, on a type that is `PollRead`.
macro_rules! impl_async_read {
    ($type:ty $(, $bound:ident)?) => {
        impl $(<S: $bound>)? futures_io::AsyncRead for $type {
            #[track_caller]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $crate::io::traits::PollRead::poll_read_slice(self.get_mut(), cx, buf)
            }

            #[track_caller]
            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $crate::io::traits::PollRead::poll_read_slices(self.get_mut(), cx, bufs)
            }
        }

        #[cfg(feature = "tokio-io")]
        impl $(<S: $bound>)? tokio::io::AsyncRead for $type {
            #[track_caller]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                if !<Self as $crate::io::traits::PollRead>::READS_UNINIT {
                    // It knows how much has been filled with zeros before.
                    let most = buf.remaining().min($crate::io::traits::READ_MAX);
                    let free = buf.initialize_unfilled_to(most);
                    let polled = $crate::io::traits::PollRead::poll_read_slice(self.get_mut(), cx, free);
                    return polled.map_ok(|n| buf.advance(n));
                }
                // SAFETY: nothing that is not initialised is written there.
                let free = unsafe { buf.unfilled_mut() };
                let start = free.as_ptr();
                let polled = $crate::io::traits::PollRead::poll_read_uninit(self.get_mut(), cx, free);
                polled.map_ok(|read| $crate::io::traits::count_read(start, read)).map_ok(|n| {
                    // SAFETY: so many bytes from `start` on hold something.
                    unsafe { buf.assume_init(n) };
                    buf.advance(n);
                })
            }
        }

        #[cfg(feature = "hyper")]
        impl $(<S: $bound>)? hyper::rt::Read for $type {
            #[track_caller]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                mut buf: hyper::rt::ReadBufCursor<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                // SAFETY: nothing that is not initialised is written there.
                let free = unsafe { buf.as_mut() };
                let start = free.as_ptr();
                let polled = $crate::io::traits::PollRead::poll_read_uninit(self.get_mut(), cx, free);
                polled.map_ok(|read| $crate::io::traits::count_read(start, read)).map_ok(|n| {
                    // SAFETY: so many bytes from `start` on hold something.
                    unsafe { buf.advance(n) };
                })
            }
        }
    };
}

/// The `AsyncWrite`s likewise, on a type that is `PollWrite`.
macro_rules! impl_async_write {
    ($type:ty $(, $bound:ident)?) => {
        impl $(<S: $bound>)? futures_io::AsyncWrite for $type {
            $crate::io::traits::impl_async_write!(@ writes);

            #[track_caller]
            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                $crate::io::traits::PollWrite::poll_finish(self.get_mut(), cx)
            }
        }

        #[cfg(feature = "tokio-io")]
        impl $(<S: $bound>)? tokio::io::AsyncWrite for $type {
            $crate::io::traits::impl_async_write!(@ writes);
            $crate::io::traits::impl_async_write!(@ shutdown);
        }

        #[cfg(feature = "hyper")]
        impl $(<S: $bound>)? hyper::rt::Write for $type {
            $crate::io::traits::impl_async_write!(@ writes);
            $crate::io::traits::impl_async_write!(@ shutdown);
        }
    };
    (@ writes) => {
        #[track_caller]
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            $crate::io::traits::PollWrite::poll_write_slice(self.get_mut(), cx, buf)
        }

        #[track_caller]
        fn poll_write_vectored(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bufs: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            $crate::io::traits::PollWrite::poll_write_slices(self.get_mut(), cx, bufs)
        }

        #[track_caller]
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            $crate::io::traits::PollWrite::poll_flush_all(self.get_mut(), cx)
        }
    };
    (@ shutdown) => {
        #[track_caller]
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            $crate::io::traits::PollWrite::poll_finish(self.get_mut(), cx)
        }

        fn is_write_vectored(&self) -> bool {
            <Self as $crate::io::traits::PollWrite>::VECTORED
        }
    };
}

/// Bytes read at a time into memory that has to be zeroed first: what a socket gives.
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
pub(crate) const READ_MAX: usize = 16 * 1024;

pub(crate) use impl_async_read;
pub(crate) use impl_async_write;
