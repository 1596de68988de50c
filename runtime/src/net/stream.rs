//! What `TcpStream` and `UnixStream` have in common: reading and writing, waiting for either, and the halves.
//!
//! The types are apart, so that each reads plainly in the documentation; [`stream`](macro@stream) is the one place that says what they do.

use std::io::{self, Read, Write};

/// A socket that can be read.
pub(super) trait Socket {
    /// Whether a read that fills only a part of its buffer has taken all there was, so that asking for more would be a system call for
    /// nothing (epoll(7), "Questions and answers", 9). Not so of a Unix socket: a read ends where descriptors were sent along.
    const SHORT_DRAINS: bool;
}

impl Socket for mio::net::TcpStream {
    const SHORT_DRAINS: bool = true;
}

impl Socket for mio::net::UnixStream {
    const SHORT_DRAINS: bool = false;
}

/// One read, into room for so many bytes.
pub(super) fn read_once<S: Socket>(
    socket: &S,
    room: usize,
    drained: &mut bool,
    read: impl FnOnce(&S) -> io::Result<usize>,
) -> io::Result<usize> {
    let n = read(socket)?;
    *drained = S::SHORT_DRAINS && 0 < n && n < room;
    Ok(n)
}

/// Reads until the buffer is full; what has been read is counted in `filled`.
pub(super) fn read_full<S: Socket>(socket: &S, buf: &mut [u8], filled: &mut usize) -> io::Result<()>
where
    for<'a> &'a S: Read,
{
    while *filled < buf.len() {
        let rest = &mut buf[*filled..];
        let (room, mut drained) = (rest.len(), false);
        match read_once(socket, room, &mut drained, |mut socket| socket.read(rest))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => *filled += n,
        }
        if drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    Ok(())
}

/// Writes all; what has been written is counted in `written`.
pub(super) fn write_full(mut to: impl Write, buf: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < buf.len() {
        match to.write(&buf[*written..])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => *written += n,
        }
    }
    Ok(())
}

/// The methods of a stream, named `$stream`, of the socket `$socket`, with its reasons, and its halves.
macro_rules! stream {
    ($stream:ident, $socket:ty, $read:ident, $write:ident) => {
        use std::future::Future;
        use std::io::{self, IoSlice, IoSliceMut, Read, Write};
        #[cfg(any(feature = "hyper", feature = "tokio-io"))]
        use std::mem::MaybeUninit;
        use std::net::Shutdown;
        use std::sync::Arc;
        use std::task::{Context, Poll};

        #[cfg(any(feature = "hyper", feature = "tokio-io"))]
        use rustix::net::RecvFlags;

        use crate::driver::Driver;
        #[cfg(any(feature = "hyper", feature = "tokio-io"))]
        use crate::io::traits::written;
        use crate::io::traits::{PollRead, PollWrite, impl_async_read, impl_async_write};
        use crate::net::ready::{Interest, Ready, ready_methods};
        use crate::net::registration::Registration;
        use crate::net::stream::{read_full, read_once, write_full};
        use crate::task::wait::WaitReason;

        impl $stream {
            pub(super) fn register(
                socket: $socket,
                driver: Arc<Driver>,
                created: &'static std::panic::Location<'static>,
            ) -> io::Result<$stream> {
                Ok($stream { registration: Registration::new(socket, driver, created)? })
            }

            /// Shuts one direction down, or both. Does not wait.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.registration.source().shutdown(how)
            }

            /// The error that the socket has met and nobody was told, if there is one. It is told once.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.registration.source().take_error()
            }

            ready_methods!($read, $write);

            /// Waits until something can be read, and reads up to `buf.len()` bytes. Returns their number; 0 is the
            /// end of the stream (or an empty `buf`).
            ///
            /// # Errors
            /// What the operating system says, for instance `ConnectionReset`.
            ///
            /// # Cancel safety
            /// Cancel safe: dropped before it is ready, it has read nothing.
            #[track_caller]
            pub fn read<'a>(&'a self, buf: &'a mut [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.draining(WaitReason::$read, |socket, drained| {
                    read_once(socket, buf.len(), drained, |mut socket| socket.read(buf))
                })
            }

            /// As [`read`](Self::read), into one buffer after the other.
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn read_vectored<'a>(
                &'a self,
                bufs: &'a mut [IoSliceMut<'a>],
            ) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.draining(WaitReason::$read, |socket, drained| {
                    let room = bufs.iter().map(|buf| buf.len()).sum();
                    read_once(socket, room, drained, |mut socket| socket.read_vectored(bufs))
                })
            }

            /// Reads as many bytes as `buf` holds.
            ///
            /// # Errors
            /// `UnexpectedEof` if the stream ends first; else what the operating system says.
            ///
            /// # Cancel safety
            /// **Not** cancel safe: dropped before it is ready, what it has read is lost.
            #[track_caller]
            pub fn read_exact<'a>(&'a self, buf: &'a mut [u8]) -> impl Future<Output = io::Result<()>> + Send + 'a {
                let mut filled = 0;
                self.registration.operation(WaitReason::$read, move |socket| read_full(socket, buf, &mut filled))
            }

            /// Waits until something can be written, and writes up to `buf.len()` bytes. Returns their number.
            ///
            /// # Errors
            /// What the operating system says, for instance `BrokenPipe`.
            ///
            /// # Cancel safety
            /// Cancel safe: dropped before it is ready, it has written nothing.
            #[track_caller]
            pub fn write<'a>(&'a self, buf: &'a [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.operation(WaitReason::$write, |mut socket| socket.write(buf))
            }

            /// As [`write`](Self::write), from one buffer after the other.
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn write_vectored<'a>(
                &'a self,
                bufs: &'a [IoSlice<'a>],
            ) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.operation(WaitReason::$write, |mut socket| socket.write_vectored(bufs))
            }

            /// Writes all of `buf`.
            ///
            /// # Errors
            /// `WriteZero` if the connection takes no more; else what the operating system says.
            ///
            /// # Cancel safety
            /// **Not** cancel safe: dropped before it is ready, a part may have been written.
            #[track_caller]
            pub fn write_all<'a>(&'a self, buf: &'a [u8]) -> impl Future<Output = io::Result<()>> + Send + 'a {
                let mut written = 0;
                self.registration.operation(WaitReason::$write, move |socket| write_full(socket, buf, &mut written))
            }

            /// Reads without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if there is nothing to read now; else what the operating system says.
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$read, |mut socket| socket.read(buf))
            }

            /// Reads into one buffer after the other without waiting.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$read, |mut socket| socket.read_vectored(bufs))
            }

            /// Writes without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if nothing can be written now; else what the operating system says.
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$write, |mut socket| socket.write(buf))
            }

            /// Writes one buffer after the other without waiting.
            ///
            /// # Errors
            /// As [`try_write`](Self::try_write).
            pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$write, |mut socket| socket.write_vectored(bufs))
            }

            /// Splits the stream into halves that two tasks can own. Dropping the write half shuts the connection's
            /// write direction down.
            pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
                let stream = Arc::new(self);
                (OwnedReadHalf(Arc::clone(&stream)), OwnedWriteHalf { stream, shuts: true })
            }

            /// Splits the stream into borrowed halves.
            pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
                (ReadHalf(self), WriteHalf(self))
            }

            #[track_caller]
            fn poll_read_one(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                self.registration.poll_draining(cx, WaitReason::$read, |socket, drained| {
                    read_once(socket, buf.len(), drained, |mut socket| socket.read(buf))
                })
            }

            #[cfg(any(feature = "hyper", feature = "tokio-io"))]
            #[track_caller]
            fn poll_recv<'a>(
                &self,
                cx: &mut Context<'_>,
                buf: &'a mut [MaybeUninit<u8>],
            ) -> Poll<io::Result<&'a mut [u8]>> {
                let polled = self.registration.poll_draining(cx, WaitReason::$read, |socket, drained| {
                    read_once(socket, buf.len(), drained, |socket| {
                        let (_, n) = rustix::net::recv(socket, &mut *buf, RecvFlags::empty())?;
                        Ok(n)
                    })
                });
                // SAFETY: the system says that it has written so many.
                polled.map_ok(|n| unsafe { written(buf, n) })
            }

            #[track_caller]
            fn poll_read_many(
                &self,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                self.registration.poll_draining(cx, WaitReason::$read, |socket, drained| {
                    let room = bufs.iter().map(|buf| buf.len()).sum();
                    read_once(socket, room, drained, |mut socket| socket.read_vectored(bufs))
                })
            }

            #[track_caller]
            fn poll_write_one(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.registration.poll_shared(cx, WaitReason::$write, |mut socket| socket.write(buf))
            }

            #[track_caller]
            fn poll_write_many(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                self.registration.poll_shared(cx, WaitReason::$write, |mut socket| socket.write_vectored(bufs))
            }

            fn close_write(&self) -> io::Result<()> {
                match self.shutdown(Shutdown::Write) {
                    // The peer has gone already: there is nothing left to tell it.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    done => done,
                }
            }
        }

        impl AsRef<$stream> for $stream {
            fn as_ref(&self) -> &$stream {
                self
            }
        }

        /// The read half of `into_split`.
        #[derive(Debug)]
        pub struct OwnedReadHalf(Arc<$stream>);

        /// The write half of `into_split`. Dropping it shuts the write direction down.
        #[derive(Debug)]
        pub struct OwnedWriteHalf {
            stream: Arc<$stream>,
            shuts: bool,
        }

        /// The read half of `split`.
        #[derive(Debug)]
        pub struct ReadHalf<'a>(&'a $stream);

        /// The write half of `split`.
        #[derive(Debug)]
        pub struct WriteHalf<'a>(&'a $stream);

        impl AsRef<$stream> for OwnedReadHalf {
            fn as_ref(&self) -> &$stream {
                &self.0
            }
        }

        impl AsRef<$stream> for OwnedWriteHalf {
            fn as_ref(&self) -> &$stream {
                &self.stream
            }
        }

        impl AsRef<$stream> for ReadHalf<'_> {
            fn as_ref(&self) -> &$stream {
                self.0
            }
        }

        impl AsRef<$stream> for WriteHalf<'_> {
            fn as_ref(&self) -> &$stream {
                self.0
            }
        }

        impl Drop for OwnedWriteHalf {
            fn drop(&mut self) {
                if self.shuts {
                    let _ = self.stream.close_write();
                }
            }
        }

        impl OwnedReadHalf {
            /// The whole stream again.
            ///
            /// # Errors
            /// Both halves, if they are not of one stream.
            pub fn reunite(self, write: OwnedWriteHalf) -> Result<$stream, ReuniteError> {
                if !Arc::ptr_eq(&self.0, &write.stream) {
                    return Err(ReuniteError(self, write));
                }
                write.forget();
                Ok(Arc::into_inner(self.0).expect("a stream has two halves, and the other is gone"))
            }
        }

        impl OwnedWriteHalf {
            /// The whole stream again.
            ///
            /// # Errors
            /// Both halves, if they are not of one stream.
            pub fn reunite(self, read: OwnedReadHalf) -> Result<$stream, ReuniteError> {
                read.reunite(self)
            }

            /// Drops the half without shutting the write direction down.
            pub fn forget(mut self) {
                self.shuts = false;
            }
        }

        /// Two halves that are not of one stream.
        #[derive(Debug)]
        pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

        impl std::fmt::Display for ReuniteError {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the halves are not of one stream")
            }
        }

        impl std::error::Error for ReuniteError {}

        $crate::net::stream::stream!(@ read $stream);
        $crate::net::stream::stream!(@ read OwnedReadHalf);
        $crate::net::stream::stream!(@ read ReadHalf<'_>);
        $crate::net::stream::stream!(@ write $stream);
        $crate::net::stream::stream!(@ write OwnedWriteHalf);
        $crate::net::stream::stream!(@ write WriteHalf<'_>);
        $crate::net::stream::stream!(@ read half $stream, OwnedReadHalf);
        $crate::net::stream::stream!(@ read half $stream, ReadHalf<'_>);
        $crate::net::stream::stream!(@ write half $stream, OwnedWriteHalf);
        $crate::net::stream::stream!(@ write half $stream, WriteHalf<'_>);
    };

    (@ read half $stream:ident, $half:ty) => {
        impl $half {
            #[doc = concat!("As [`", stringify!($stream), "::read`].")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn read<'a>(&'a mut self, buf: &'a mut [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                let stream: &'a $stream = (*self).as_ref();
                stream.read(buf)
            }

            #[doc = concat!("As [`", stringify!($stream), "::read_exact`].")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// **Not** cancel safe.
            #[track_caller]
            pub fn read_exact<'a>(
                &'a mut self,
                buf: &'a mut [u8],
            ) -> impl Future<Output = io::Result<()>> + Send + 'a {
                let stream: &'a $stream = (*self).as_ref();
                stream.read_exact(buf)
            }

            #[doc = concat!("As [`", stringify!($stream), "::readable`].")]
            ///
            /// # Errors
            /// None so far.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn readable(&self) -> impl Future<Output = io::Result<()>> + Send + '_ {
                (*self).as_ref().readable()
            }

            #[doc = concat!("As [`", stringify!($stream), "::try_read`].")]
            ///
            /// # Errors
            /// As there.
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                (*self).as_ref().try_read(buf)
            }
        }
    };

    (@ write half $stream:ident, $half:ty) => {
        impl $half {
            #[doc = concat!("As [`", stringify!($stream), "::write`].")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn write<'a>(&'a mut self, buf: &'a [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                let stream: &'a $stream = (*self).as_ref();
                stream.write(buf)
            }

            #[doc = concat!("As [`", stringify!($stream), "::write_all`].")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// **Not** cancel safe.
            #[track_caller]
            pub fn write_all<'a>(&'a mut self, buf: &'a [u8]) -> impl Future<Output = io::Result<()>> + Send + 'a {
                let stream: &'a $stream = (*self).as_ref();
                stream.write_all(buf)
            }

            #[doc = concat!("As [`", stringify!($stream), "::writable`].")]
            ///
            /// # Errors
            /// None so far.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn writable(&self) -> impl Future<Output = io::Result<()>> + Send + '_ {
                (*self).as_ref().writable()
            }

            #[doc = concat!("As [`", stringify!($stream), "::try_write`].")]
            ///
            /// # Errors
            /// As there.
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                (*self).as_ref().try_write(buf)
            }

            /// Shuts the write direction down: the peer reads the end of the stream. Does not wait.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn shutdown(&mut self) -> io::Result<()> {
                (*self).as_ref().close_write()
            }
        }
    };

    (@ read $type:ty) => {
        impl PollRead for $type {
            #[cfg(any(feature = "hyper", feature = "tokio-io"))]
            const READS_UNINIT: bool = true;

            #[track_caller]
            fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_read_one(cx, buf)
            }

            #[track_caller]
            fn poll_read_slices(
                &mut self,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_read_many(cx, bufs)
            }

            #[cfg(any(feature = "hyper", feature = "tokio-io"))]
            #[track_caller]
            fn poll_read_uninit<'a>(
                &mut self,
                cx: &mut Context<'_>,
                buf: &'a mut [MaybeUninit<u8>],
            ) -> Poll<io::Result<&'a mut [u8]>> {
                (*self).as_ref().poll_recv(cx, buf)
            }
        }

        impl_async_read!($type);
    };

    (@ write $type:ty) => {
        impl PollWrite for $type {
            const VECTORED: bool = true;

            #[track_caller]
            fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_one(cx, buf)
            }

            #[track_caller]
            fn poll_write_slices(
                &mut self,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_many(cx, bufs)
            }

            fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready((*self).as_ref().close_write())
            }
        }

        impl_async_write!($type);
    };
}

pub(super) use stream;
