//! `UnixListener`.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::accept::Accept;
use super::addr::{shown, unix_addr, with_addr};
use super::registration::Registration;
use super::unix_stream::UnixStream;
use crate::scheduler::context;
use crate::task::wait::WaitReason;

type Mio = mio::net::UnixListener;

/// A Unix domain socket that accepts connections. Its file stays when it is dropped.
#[derive(Debug)]
pub struct UnixListener {
    registration: Registration<Mio>,
}

impl UnixListener {
    /// Listens at `path`, which must not exist. Does not wait. On Linux, a path that begins with a zero byte is an abstract name: no file, and gone with
    /// the socket.
    ///
    /// # Errors
    /// What the operating system says, with the path; for instance `AddrInUse`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        let driver = context::driver("leakfree::net::UnixListener::bind");
        let path = path.as_ref();
        let socket = unix_addr(path).and_then(|addr| Mio::bind_addr(&addr));
        let socket = socket.map_err(|error| with_addr("could not listen on", shown(path), &error))?;
        Ok(UnixListener { registration: Registration::new(socket, driver, Location::caller())? })
    }

    /// Takes over a listener of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        let driver = context::driver("leakfree::net::UnixListener::from_std");
        listener.set_nonblocking(true)?;
        Ok(UnixListener {
            registration: Registration::new(Mio::from_std(listener), driver, Location::caller())?,
        })
    }

    /// A listener of the standard library on the same socket. It is non-blocking still.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixListener> {
        Ok(self.registration.source().as_fd().try_clone_to_owned()?.into())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
    }

    /// Waits for a connection, and returns it with the peer's address. Short of descriptors or memory, it does as
    /// [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that was not returned stays in the queue.
    #[track_caller]
    pub fn accept(&self) -> impl Future<Output = io::Result<(UnixStream, SocketAddr)>> + Send + '_ {
        self.accept_for(Location::caller())
    }

    /// [`accept`](UnixListener::accept) on behalf of that place.
    pub(crate) fn accept_for(
        &self,
        place: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<(UnixStream, SocketAddr)>> + Send + '_ {
        Accept::new(&self.registration, WaitReason::UnixAccept, place, self.accept_now(place))
    }

    /// [`accept`](UnixListener::accept) as a poll function. A shortage of descriptors is an error here: ask again after a pause.
    /// The wait it leaves stands until the next poll.
    ///
    /// # Errors
    /// What the operating system says.
    #[track_caller]
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        self.registration.poll_shared(cx, WaitReason::UnixAccept, self.accept_now(Location::caller()))
    }

    fn accept_now(
        &self,
        created: &'static Location<'static>,
    ) -> impl FnMut(&Mio) -> io::Result<(UnixStream, SocketAddr)> + Send + '_ {
        move |listener| {
            let (stream, peer) = listener.accept()?;
            Ok((UnixStream::register(stream, Arc::clone(self.registration.driver()), created)?, peer))
        }
    }
}
