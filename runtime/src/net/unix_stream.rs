//! `UnixStream`, and its halves.

use std::os::fd::AsFd;
use std::os::unix::net::SocketAddr;
use std::panic::Location;
use std::path::{Path, PathBuf};

use super::accept::Backoff;
use super::addr::{shown, unix_addr, with_addr};
use super::stream::stream;
use crate::scheduler::context;
use crate::task::wait::{Leaf, Object};

type Mio = mio::net::UnixStream;

/// A connection over a Unix domain socket.
///
/// Reading and writing need only `&self`: two tasks may share a stream in an `Arc`, or take a half each
/// ([`into_split`](UnixStream::into_split)). Dropping it closes the connection.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let (a, b) = leakfree::net::UnixStream::pair()?;
/// a.write_all(b"ping").await?;
/// let mut buf = [0; 4];
/// b.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"ping");
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixStream {
    registration: Registration<Mio>,
}

stream!(UnixStream, Mio, UnixRead, UnixWrite);

impl UnixStream {
    /// Connects to the socket at `path`, which may be an [abstract name](super::UnixListener::bind). While the listener's queue is full, it tries
    /// again after short pauses.
    ///
    /// # Errors
    /// What the operating system says, with the path; for instance `NotFound`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, the attempt is given up.
    #[track_caller]
    pub fn connect<P: AsRef<Path>>(path: P) -> impl Future<Output = io::Result<UnixStream>> + Send {
        let driver = context::driver("leakfree::net::UnixStream::connect");
        let created = Location::caller();
        Connect {
            path: path.as_ref().to_owned(),
            current: None,
            backoff: Backoff::new(),
            leaf: Leaf::new(WaitReason::UnixConnect, Object::Created(created)),
            driver,
            created,
        }
    }

    /// Two streams that are connected with each other.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let driver = context::driver("leakfree::net::UnixStream::pair");
        let created = Location::caller();
        let (a, b) = Mio::pair()?;
        Ok((
            UnixStream::register(a, Arc::clone(&driver), created)?,
            UnixStream::register(b, driver, created)?,
        ))
    }

    /// Takes over a stream of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        let driver = context::driver("leakfree::net::UnixStream::from_std");
        stream.set_nonblocking(true)?;
        UnixStream::register(Mio::from_std(stream), driver, Location::caller())
    }

    /// A stream of the standard library on the same connection. It is non-blocking still.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        Ok(self.registration.source().as_fd().try_clone_to_owned()?.into())
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

    /// Who is at the other end, as the kernel knew it when the connection was made.
    ///
    /// # Errors
    /// What the operating system says.
    #[cfg(target_os = "linux")]
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let socket = std::os::fd::AsRawFd::as_raw_fd(self.registration.source());
        let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = size_of_val(&cred) as libc::socklen_t;
        // Not by `rustix`, for which there is no process 0.
        // SAFETY: the descriptor is the socket's; `cred`, of that length, and `len` are the kernel's to write for the length of the call.
        let failed = unsafe {
            let cred = (&raw mut cred).cast();
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, cred, &raw mut len)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(UCred { uid: cred.uid, gid: cred.gid, pid: cred.pid })
    }
}

impl TryFrom<std::os::unix::net::UnixStream> for UnixStream {
    type Error = io::Error;

    #[track_caller]
    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        UnixStream::from_std(stream)
    }
}

/// Who is at the other end of a [`UnixStream`].
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UCred {
    uid: u32,
    gid: u32,
    pid: i32,
}

#[cfg(target_os = "linux")]
impl UCred {
    /// The user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The process; `None` if it cannot be seen from here, as one outside of the container cannot.
    pub fn pid(&self) -> Option<i32> {
        (self.pid != 0).then_some(self.pid)
    }
}

/// A connection on its way.
struct Connect {
    path: PathBuf,
    current: Option<UnixStream>,
    backoff: Backoff,
    leaf: Leaf,
    driver: Arc<Driver>,
    created: &'static Location<'static>,
}

impl Connect {
    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        loop {
            if let Some(stream) = &self.current {
                let polled =
                    stream.registration.poll_write_ready(cx, |socket| match socket.take_error()? {
                        Some(error) => Err(error),
                        None => Ok(()),
                    });
                return match polled {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(self.current.take().expect("checked above"))),
                };
            }
            if !self.backoff.is_over(cx) {
                return Poll::Pending;
            }
            match unix_addr(&self.path).and_then(|addr| Mio::connect_addr(&addr)) {
                Ok(socket) => {
                    self.current =
                        Some(UnixStream::register(socket, Arc::clone(&self.driver), self.created)?);
                }
                // The listener's queue is full, and the kernel does not tell when that ends.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.backoff.begin(&self.driver),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Future for Connect {
    type Output = io::Result<UnixStream>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        let polled = self.poll_connect(cx);
        match &polled {
            Poll::Pending => self.leaf.pending(cx),
            Poll::Ready(_) => self.leaf.ready(),
        }
        polled.map_err(|error| with_addr("could not connect to", shown(&self.path), &error))
    }
}
