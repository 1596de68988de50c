//! `TcpStream`, and its halves.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::Location;
use std::pin::Pin;
use std::time::Duration;

use super::addr::{Resolve, ToSocketAddrs, with_addr};
use super::stream::stream;
use crate::scheduler::context;
use crate::task::wait::Leaf;

type Mio = mio::net::TcpStream;

/// A TCP connection.
///
/// Reading and writing need only `&self`: two tasks may share a stream in an `Arc`, or take a half each
/// ([`into_split`](TcpStream::into_split)). Dropping it closes the connection.
#[derive(Debug)]
pub struct TcpStream {
    registration: Registration<Mio>,
}

stream!(TcpStream, Mio, TcpRead, TcpWrite);

impl TcpStream {
    /// Connects to `addr`; of several addresses, to the first that answers. A host name is looked up on the blocking pool.
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
    pub fn connect<A: ToSocketAddrs>(addr: A) -> impl Future<Output = io::Result<TcpStream>> + Send {
        let driver = context::driver("leakfree::net::TcpStream::connect");
        let resolve = Some(Resolve::new(&addr));
        Connect {
            resolve,
            addrs: Vec::new().into_iter(),
            current: None,
            error: None,
            driver,
            created: Location::caller(),
        }
    }

    /// Goes on with a socket whose connection is under way.
    pub(super) fn connecting(
        socket: std::net::TcpStream,
        addr: SocketAddr,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<Connect> {
        let mut connect = Connect {
            resolve: None,
            addrs: Vec::new().into_iter(),
            current: None,
            error: None,
            driver,
            created,
        };
        connect.current = Some(connect.watch(Mio::from_std(socket), addr)?);
        Ok(connect)
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

    /// A stream of the standard library on the same connection. It is non-blocking still.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        let socket = self.registration.source().as_fd().try_clone_to_owned()?;
        Ok(std::net::TcpStream::from(socket))
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

    /// Waits until something can be read, and copies up to `buf.len()` bytes of it: they can be read again. Returns their number; 0
    /// is the end of the stream.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn peek<'a>(&'a self, buf: &'a mut [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
        self.registration.operation(WaitReason::TcpRead, |socket| socket.peek(buf))
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

    /// How many routers a packet may pass.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.registration.source().set_ttl(ttl)
    }

    /// How many routers a packet may pass.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.registration.source().ttl()
    }

    /// How long the kernel tries to send what is left when the socket is closed; `None` is as long as it sees fit, in the background;
    /// zero resets the connection. Any other duration can make the *drop* of the stream block its thread.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(self.registration.source(), linger)?)
    }

    /// See [`set_linger`](TcpStream::set_linger).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(rustix::net::sockopt::socket_linger(self.registration.source())?)
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    #[track_caller]
    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(stream)
    }
}

/// A connection on its way.
pub(super) struct Connect {
    resolve: Option<Resolve>,
    addrs: std::vec::IntoIter<SocketAddr>,
    current: Option<Connecting>,
    error: Option<io::Error>,
    driver: Arc<Driver>,
    created: &'static Location<'static>,
}

struct Connecting {
    stream: TcpStream,
    addr: SocketAddr,
    leaf: Leaf,
}

impl Connect {
    fn watch(&self, socket: Mio, addr: SocketAddr) -> io::Result<Connecting> {
        let stream = TcpStream::register(socket, self.driver.clone(), self.created)?;
        let object = stream.registration.object();
        let leaf = Leaf::at(WaitReason::TcpConnect, object, self.created);
        Ok(Connecting { stream, addr, leaf })
    }
}

impl Connecting {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.registration.poll_write_ready(cx, |socket| {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            // Writable before the handshake is over: not connected yet.
            match socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                connected => connected.map(|_| ()),
            }
        });
        match polled {
            Poll::Pending => self.leaf.pending(cx),
            Poll::Ready(_) => self.leaf.ready(),
        }
        polled
    }
}

impl Future for Connect {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let this = &mut *self;
        if let Some(resolve) = &mut this.resolve {
            let addrs = std::task::ready!(resolve.poll(cx));
            this.resolve = None;
            this.addrs = addrs?.into_iter();
        }
        loop {
            if let Some(mut connecting) = this.current.take() {
                match connecting.poll(cx) {
                    Poll::Pending => {
                        this.current = Some(connecting);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(connecting.stream)),
                    Poll::Ready(Err(error)) => {
                        this.error = Some(with_addr("could not connect to", connecting.addr, &error));
                    }
                }
            }
            let Some(addr) = this.addrs.next() else {
                let error = this.error.take();
                return Poll::Ready(Err(error.expect("`TcpStream::connect` was polled after it was ready")));
            };
            match Mio::connect(addr).and_then(|socket| this.watch(socket, addr)) {
                Ok(connecting) => this.current = Some(connecting),
                Err(error) => this.error = Some(with_addr("could not connect to", addr, &error)),
            }
        }
    }
}
