//! `TcpStream`, and its halves.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::registration::{Registration, Waiting};
use crate::driver::Driver;
use crate::scheduler::context;
use crate::task::wait::{Leaf, WaitReason};

type Mio = mio::net::TcpStream;

/// A TCP connection.
///
/// Reading and writing need only `&self`: two tasks may share a stream in an `Arc`, or take a half each
/// ([`into_split`](TcpStream::into_split)). Dropping it closes the connection.
#[derive(Debug)]
pub struct TcpStream {
    registration: Registration<Mio>,
}

impl TcpStream {
    pub(super) fn register(
        stream: Mio,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<TcpStream> {
        Ok(TcpStream { registration: Registration::new(stream, driver, created)? })
    }

    /// Connects to `addr`; of several addresses, to the first that answers. A host name is looked up on this thread and
    /// may block it: give an address, or look the name up in `spawn_blocking`.
    ///
    /// # Errors
    /// What the operating system says of the last address tried, with that address.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, the attempt is given up.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(addr: A) -> Connect {
        let driver = context::driver("leakfree::net::TcpStream::connect");
        let created = Location::caller();
        let (addrs, error) = match addr.to_socket_addrs() {
            Ok(addrs) => (addrs.collect::<Vec<_>>().into_iter(), super::no_address()),
            Err(error) => (Vec::new().into_iter(), error),
        };
        Connect { addrs, current: None, error: Some(error), driver, created }
    }

    /// Takes over a stream of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        let driver = context::driver("leakfree::net::TcpStream::from_std");
        stream.set_nonblocking(true)?;
        TcpStream::register(Mio::from_std(stream), driver, Location::caller())
    }

    /// Our address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// What the operating system says, for instance that the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().peer_addr()
    }

    /// Sends small segments at once (`true`) or lets the kernel collect them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.registration.source().set_nodelay(nodelay)
    }

    /// Whether small segments are sent at once.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.registration.source().nodelay()
    }

    /// Shuts one direction down, or both. Does not wait.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.registration.source().shutdown(how)
    }

    /// Waits until something can be read, and reads up to `buf.len()` bytes. Returns their number; 0 is the
    /// end of the stream (or an empty `buf`).
    ///
    /// # Errors
    /// What the operating system says, for instance `ConnectionReset`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, it has read nothing.
    #[track_caller]
    pub fn read<'a>(&'a self, buf: &'a mut [u8]) -> ReadSome<'a> {
        ReadSome { waiting: self.registration.wait(WaitReason::TcpRead), buf }
    }

    /// Reads as many bytes as `buf` holds.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends first; else what the operating system says.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, what it has read is lost.
    #[track_caller]
    pub fn read_exact<'a>(&'a self, buf: &'a mut [u8]) -> ReadExact<'a> {
        ReadExact { waiting: self.registration.wait(WaitReason::TcpRead), buf, filled: 0 }
    }

    /// Waits until something can be written, and writes up to `buf.len()` bytes. Returns their number.
    ///
    /// # Errors
    /// What the operating system says, for instance `BrokenPipe`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, it has written nothing.
    #[track_caller]
    pub fn write<'a>(&'a self, buf: &'a [u8]) -> WriteSome<'a> {
        WriteSome { waiting: self.registration.wait(WaitReason::TcpWrite), buf }
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// `WriteZero` if the connection takes no more; else what the operating system says.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: dropped before it is ready, a part may have been written.
    #[track_caller]
    pub fn write_all<'a>(&'a self, buf: &'a [u8]) -> WriteAll<'a> {
        WriteAll { waiting: self.registration.wait(WaitReason::TcpWrite), buf }
    }

    /// Reads without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read now; else what the operating system says.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.registration.source();
        stream.read(buf)
    }

    /// Writes without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be written now; else what the operating system says.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut stream = self.registration.source();
        stream.write(buf)
    }

    /// Splits the stream into halves that two tasks can own. Dropping the write half shuts the connection's
    /// write direction down.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        (OwnedReadHalf(Arc::clone(&stream)), OwnedWriteHalf(stream))
    }

    /// Splits the stream into borrowed halves.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    #[track_caller]
    pub(crate) fn poll_read_slice(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.registration.poll_shared(cx, WaitReason::TcpRead, |mut stream| stream.read(buf))
    }

    #[track_caller]
    pub(crate) fn poll_write_slice(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.registration.poll_shared(cx, WaitReason::TcpWrite, |mut stream| stream.write(buf))
    }

    #[track_caller]
    pub(crate) fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.registration.poll_shared(cx, WaitReason::TcpWrite, |mut stream| stream.write_vectored(bufs))
    }

    #[track_caller]
    fn poll_read_slices(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.registration.poll_shared(cx, WaitReason::TcpRead, |mut stream| stream.read_vectored(bufs))
    }

    pub(crate) fn close_write(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            // The peer has gone already: there is nothing left to tell it.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}

/// The future of [`TcpStream::connect`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Connect {
    addrs: std::vec::IntoIter<SocketAddr>,
    current: Option<Connecting>,
    error: Option<io::Error>,
    driver: Arc<Driver>,
    created: &'static Location<'static>,
}

#[derive(Debug)]
struct Connecting {
    stream: TcpStream,
    addr: SocketAddr,
    leaf: Leaf,
}

impl Connect {
    fn start(&self, addr: SocketAddr) -> io::Result<Connecting> {
        let stream = TcpStream::register(Mio::connect(addr)?, self.driver.clone(), self.created)?;
        let object = stream.registration.object();
        let leaf = Leaf::at(WaitReason::TcpConnect, object, self.created);
        Ok(Connecting { stream, addr, leaf })
    }
}

impl Future for Connect {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        loop {
            if let Some(connecting) = &mut self.current {
                let addr = connecting.addr;
                let mut polled = connecting.stream.registration.poll_write_ready(cx, |stream| {
                    if let Some(error) = stream.take_error()? {
                        return Err(error);
                    }
                    // Writable before the handshake is over: not connected yet.
                    match stream.peer_addr() {
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                        connected => connected.map(|_| ()),
                    }
                });
                if polled.is_pending() {
                    connecting.leaf.pending(cx);
                    return Poll::Pending;
                }
                connecting.leaf.ready();
                if let Poll::Ready(Err(error)) = &mut polled {
                    let message = format!("could not connect to {addr}: {error}");
                    self.error = Some(io::Error::new(error.kind(), message));
                    self.current = None;
                    continue;
                }
                let connected = self.current.take().expect("checked above");
                return Poll::Ready(Ok(connected.stream));
            }
            let Some(addr) = self.addrs.next() else {
                let error = self.error.take();
                return Poll::Ready(Err(error.expect("`TcpStream::connect` was polled after it was ready")));
            };
            match self.start(addr) {
                Ok(connecting) => self.current = Some(connecting),
                Err(error) => {
                    let message = format!("could not connect to {addr}: {error}");
                    self.error = Some(io::Error::new(error.kind(), message));
                }
            }
        }
    }
}

/// The future of [`TcpStream::read`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ReadSome<'a> {
    waiting: Waiting<'a, Mio>,
    buf: &'a mut [u8],
}

impl Future for ReadSome<'_> {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let ReadSome { waiting, buf } = &mut *self;
        waiting.poll(cx, |mut stream| stream.read(buf))
    }
}

/// The future of [`TcpStream::read_exact`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ReadExact<'a> {
    waiting: Waiting<'a, Mio>,
    buf: &'a mut [u8],
    filled: usize,
}

impl Future for ReadExact<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ReadExact { waiting, buf, filled } = &mut *self;
        while *filled < buf.len() {
            match ready!(waiting.poll(cx, |mut stream| stream.read(&mut buf[*filled..])))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                n => *filled += n,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The future of [`TcpStream::write`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct WriteSome<'a> {
    waiting: Waiting<'a, Mio>,
    buf: &'a [u8],
}

impl Future for WriteSome<'_> {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buf = self.buf;
        self.waiting.poll(cx, |mut stream| stream.write(buf))
    }
}

/// The future of [`TcpStream::write_all`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct WriteAll<'a> {
    waiting: Waiting<'a, Mio>,
    buf: &'a [u8],
}

impl Future for WriteAll<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let WriteAll { waiting, buf } = &mut *self;
        while !buf.is_empty() {
            match ready!(waiting.poll(cx, |mut stream| stream.write(buf)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *buf = &buf[n..],
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The read half of [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf(Arc<TcpStream>);

/// The write half of [`TcpStream::into_split`]. Dropping it shuts the write direction down.
#[derive(Debug)]
pub struct OwnedWriteHalf(Arc<TcpStream>);

/// The read half of [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a TcpStream);

/// The write half of [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a TcpStream);

impl AsRef<TcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsRef<TcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsRef<TcpStream> for ReadHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}

impl AsRef<TcpStream> for WriteHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}

impl AsRef<TcpStream> for TcpStream {
    fn as_ref(&self) -> &TcpStream {
        self
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        let _ = self.0.close_write();
    }
}

/// What both read halves offer.
macro_rules! read_half {
    ($half:ty) => {
        impl $half {
            /// As [`TcpStream::read`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn read<'a>(&'a mut self, buf: &'a mut [u8]) -> ReadSome<'a> {
                let stream: &'a TcpStream = &self.0;
                stream.read(buf)
            }

            /// As [`TcpStream::read_exact`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// **Not** cancel safe.
            #[track_caller]
            pub fn read_exact<'a>(&'a mut self, buf: &'a mut [u8]) -> ReadExact<'a> {
                let stream: &'a TcpStream = &self.0;
                stream.read_exact(buf)
            }
        }
    };
}

/// What both write halves offer.
macro_rules! write_half {
    ($half:ty) => {
        impl $half {
            /// As [`TcpStream::write`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Cancel safe.
            #[track_caller]
            pub fn write<'a>(&'a mut self, buf: &'a [u8]) -> WriteSome<'a> {
                let stream: &'a TcpStream = &self.0;
                stream.write(buf)
            }

            /// As [`TcpStream::write_all`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// **Not** cancel safe.
            #[track_caller]
            pub fn write_all<'a>(&'a mut self, buf: &'a [u8]) -> WriteAll<'a> {
                let stream: &'a TcpStream = &self.0;
                stream.write_all(buf)
            }

            /// Shuts the write direction down: the peer reads the end of the stream. Does not wait.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn shutdown(&mut self) -> io::Result<()> {
                self.as_ref().close_write()
            }
        }
    };
}

read_half!(OwnedReadHalf);
read_half!(ReadHalf<'_>);
write_half!(OwnedWriteHalf);
write_half!(WriteHalf<'_>);

macro_rules! futures_read {
    ($half:ty) => {
        impl futures_io::AsyncRead for $half {
            #[track_caller]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_read_slice(cx, buf)
            }

            #[track_caller]
            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_read_slices(cx, bufs)
            }
        }
    };
}

macro_rules! futures_write {
    ($half:ty) => {
        impl futures_io::AsyncWrite for $half {
            #[track_caller]
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_slice(cx, buf)
            }

            #[track_caller]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                (*self).as_ref().poll_write_slices(cx, bufs)
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                // A socket keeps nothing back.
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready((*self).as_ref().close_write())
            }
        }
    };
}

futures_read!(TcpStream);
futures_write!(TcpStream);
futures_read!(OwnedReadHalf);
futures_write!(OwnedWriteHalf);
futures_read!(ReadHalf<'_>);
futures_write!(WriteHalf<'_>);
