//! `TcpListener`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::accept::Accept;
use super::addr::{Resolved, ToSocketAddrs, first_of};
use super::registration::Registration;
use super::tcp_stream::TcpStream;
use crate::driver::Driver;
use crate::scheduler::context;
use crate::task::wait::WaitReason;

type Mio = mio::net::TcpListener;

/// A socket that accepts TCP connections.
#[derive(Debug)]
pub struct TcpListener {
    registration: Registration<Mio>,
}

impl TcpListener {
    pub(super) fn register(
        socket: std::net::TcpListener,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<TcpListener> {
        socket.set_nonblocking(true)?;
        Ok(TcpListener { registration: Registration::new(Mio::from_std(socket), driver, created)? })
    }

    /// Listens on `addr`; port 0 has the system choose one. A host name is looked up on the blocking pool; an address is
    /// taken at the first poll.
    ///
    /// # Errors
    /// What the operating system says, with the address; for instance `AddrInUse`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, nothing listens.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> impl Future<Output = io::Result<TcpListener>> + Send {
        let driver = context::driver("leakfree::net::TcpListener::bind");
        let created = Location::caller();
        Resolved::new(&addr, move |addrs| {
            first_of(addrs, "could not listen on", |addr| {
                let registration = Registration::new(Mio::bind(addr)?, driver.clone(), created)?;
                Ok(TcpListener { registration })
            })
        })
    }

    /// Takes over a listener of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        let driver = context::driver("leakfree::net::TcpListener::from_std");
        TcpListener::register(listener, driver, Location::caller())
    }

    /// A listener of the standard library on the same socket. It is non-blocking still.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        Ok(self.registration.source().as_fd().try_clone_to_owned()?.into())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
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

    /// Waits for a connection, and returns it with the peer's address. While the process or the system is out of descriptors or
    /// memory, it tries again after pauses (1 ms, then twice as long up to 500 ms): connections wait in the queue meanwhile.
    ///
    /// # Errors
    /// What the operating system says. Errors of one connection (`ConnectionAborted`) do not harm the listener: accept again.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that was not returned stays in the queue.
    #[track_caller]
    pub fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + '_ {
        self.accept_for(Location::caller())
    }

    /// [`accept`](TcpListener::accept) on behalf of that place.
    pub(crate) fn accept_for(
        &self,
        place: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + '_ {
        Accept::new(&self.registration, WaitReason::TcpAccept, place, self.accept_now(place))
    }

    /// [`accept`](TcpListener::accept) as a poll function. A shortage of descriptors is an error here: ask again after a pause. The
    /// wait it leaves stands until the next poll.
    ///
    /// # Errors
    /// What the operating system says.
    #[track_caller]
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.registration.poll_shared(cx, WaitReason::TcpAccept, self.accept_now(Location::caller()))
    }

    fn accept_now(
        &self,
        created: &'static Location<'static>,
    ) -> impl FnMut(&Mio) -> io::Result<(TcpStream, SocketAddr)> + Send + '_ {
        move |listener| {
            let (stream, peer) = listener.accept()?;
            Ok((TcpStream::register(stream, Arc::clone(self.registration.driver()), created)?, peer))
        }
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    #[track_caller]
    fn try_from(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::from_std(listener)
    }
}
