//! `UnixDatagram`.

use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use rustix::net::SendFlags;

use super::accept::Backoff;
use super::addr::{abstract_addr, shown, unix_addr, with_addr};
use super::datagram::datagram;
use crate::scheduler::context;
use crate::task::wait::Leaf;

type Mio = mio::net::UnixDatagram;

/// The longest pause between attempts to send to a socket whose queue is full: a receiver may make room any moment.
const SEND_PAUSE_MAX: Duration = Duration::from_millis(16);

/// A Unix domain socket for datagrams. A receiver that is slow makes senders wait: nothing is lost on the way.
#[derive(Debug)]
pub struct UnixDatagram {
    registration: Registration<Mio>,
}

datagram!(UnixDatagram, SocketAddr, UnixDatagramRecv, UnixDatagramSend);

impl UnixDatagram {
    #[track_caller]
    fn register(what: &str, socket: io::Result<Mio>) -> io::Result<UnixDatagram> {
        let driver = context::driver(what);
        Ok(UnixDatagram { registration: Registration::new(socket?, driver, Location::caller())? })
    }

    /// A socket at `path`, which must not exist; the file stays when the socket is dropped. Does not wait. Here and below, a path may be an
    /// [abstract name](super::UnixListener::bind).
    ///
    /// # Errors
    /// What the operating system says, with the path; for instance `AddrInUse`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        let path = path.as_ref();
        let socket = unix_addr(path).and_then(|addr| Mio::bind_addr(&addr));
        let socket = socket.map_err(|error| with_addr("could not bind to", shown(path), &error));
        UnixDatagram::register("leakfree::net::UnixDatagram::bind", socket)
    }

    /// A socket without an address: nobody can answer it.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::register("leakfree::net::UnixDatagram::unbound", Mio::unbound())
    }

    /// Two sockets that are connected with each other.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let driver = context::driver("leakfree::net::UnixDatagram::pair");
        let created = Location::caller();
        let (a, b) = Mio::pair()?;
        let a = UnixDatagram { registration: Registration::new(a, Arc::clone(&driver), created)? };
        let b = UnixDatagram { registration: Registration::new(b, driver, created)? };
        Ok((a, b))
    }

    /// Takes over a socket of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        socket.set_nonblocking(true)?;
        UnixDatagram::register("leakfree::net::UnixDatagram::from_std", Ok(Mio::from_std(socket)))
    }

    /// Sends to and receives from the socket at `path` only, from now on. Does not wait.
    ///
    /// # Errors
    /// What the operating system says, with the path; for instance `NotFound`.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let path = path.as_ref();
        let socket = self.registration.source();
        let connected = match abstract_addr(path) {
            Some(addr) => addr.and_then(|addr| Ok(rustix::net::connect(socket, &addr)?)),
            None => socket.connect(path),
        };
        connected.map_err(|error| with_addr("could not connect to", shown(path), &error))
    }

    /// Sends a datagram to the socket at `target`. Returns how many bytes of it were sent. While that socket's queue is full, it
    /// tries again after short pauses: the kernel does not tell when that ends.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, it has sent nothing.
    #[track_caller]
    pub fn send_to<'a, P: AsRef<Path> + Send + 'a>(
        &'a self,
        buf: &'a [u8],
        target: P,
    ) -> impl Future<Output = io::Result<usize>> + Send + 'a {
        let path = target.as_ref().to_owned();
        let mut leaf = Leaf::new(WaitReason::UnixDatagramSend, self.registration.object());
        let mut backoff = Backoff::up_to(SEND_PAUSE_MAX);
        // Not by readiness: the kernel calls the socket writable whenever a datagram of it is freed, and that of an attempt that
        // failed is. So each attempt would call for the next at once.
        std::future::poll_fn(move |cx| {
            loop {
                if !backoff.is_over(cx) {
                    leaf.pending(cx);
                    return Poll::Pending;
                }
                ready!(leaf.proceed(cx));
                match self.try_send_to(buf, &path) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        backoff.begin(self.registration.driver());
                    }
                    sent => {
                        leaf.ready();
                        return Poll::Ready(sent);
                    }
                }
            }
        })
    }

    /// [`send_to`](UnixDatagram::send_to) without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be sent now; else what the operating system says.
    pub fn try_send_to<P: AsRef<Path>>(&self, buf: &[u8], target: P) -> io::Result<usize> {
        let target = target.as_ref();
        self.registration.try_io(WaitReason::UnixDatagramSend, |socket| match abstract_addr(target) {
            Some(addr) => Ok(rustix::net::sendto(socket, buf, SendFlags::NOSIGNAL, &addr?)?),
            None => socket.send_to(buf, target),
        })
    }

    /// Our address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
    }

    /// The address of the socket it is connected to.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().peer_addr()
    }

    /// Shuts one direction down, or both. Does not wait.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.registration.source().shutdown(how)
    }
}
