//! `AsyncFd`: waiting for a descriptor that this crate knows nothing of.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::Location;
use std::task::{Context, Poll};

use mio::unix::SourceFd;
use mio::{Registry, Token};

use super::ready::{Interest, Ready, WaitReady};
use super::registration::Registration;
use crate::driver::io::shut_down;
use crate::driver::readiness::{Direction, Seen};
use crate::scheduler::context;
use crate::task::wait::WaitReason;

/// A descriptor of the user's: a device, an `eventfd`, a socket of a C library. It says when the descriptor is ready; reading and writing are up to
/// the user, who says in turn when that would block.
///
/// The descriptor must be non-blocking, and stay what it was: one that is closed or exchanged behind its back is not waited for any more.
/// Files on a disk are never waited for, and the kernel refuses them.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use leakfree::io::unix::AsyncFd;
///
/// let (mut other, ours) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let ours = AsyncFd::new(ours)?;
/// other.write_all(b"ping")?;
///
/// let mut buf = [0; 16];
/// let n = loop {
///     let mut guard = ours.readable().await?;
///     // When it would block after all, the guard takes that down, and we wait for news.
///     if let Ok(read) = guard.try_io(|fd| fd.get_ref().read(&mut buf)) {
///         break read?;
///     }
/// };
/// assert_eq!(&buf[..n], b"ping");
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct AsyncFd<T: AsRawFd> {
    registration: Registration<Fd<T>>,
}

/// The descriptor as the driver registers it.
struct Fd<T> {
    raw: RawFd,
    /// `None` once it was taken back.
    inner: Option<T>,
}

impl<T> Fd<T> {
    fn inner(&self) -> &T {
        self.inner.as_ref().expect("it is there until it is taken, with all of us")
    }
}

impl<T> mio::event::Source for Fd<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: mio::Interest) -> io::Result<()> {
        SourceFd(&self.raw).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: mio::Interest) -> io::Result<()> {
        SourceFd(&self.raw).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.raw).deregister(registry)
    }
}

/// The bits of `seen` that are of interest, said to be over.
fn clear<T>(registration: &Registration<Fd<T>>, seen: Seen, ready: Ready) {
    if ready.is_readable() {
        registration.clear(seen, Direction::Read);
    }
    if ready.is_writable() {
        registration.clear(seen, Direction::Write);
    }
}

impl<T: AsRawFd> AsyncFd<T> {
    /// Waits for `inner` from now on, for both directions. Does not wait itself.
    ///
    /// # Errors
    /// What the operating system says: for instance that it is a file, or that it is waited for already. `inner` is dropped then.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn new(inner: T) -> io::Result<AsyncFd<T>> {
        AsyncFd::with_interest(inner, Interest::READABLE | Interest::WRITABLE)
    }

    /// The same for the directions of `interest` only: it never becomes ready for another.
    ///
    /// # Errors
    /// As [`new`](AsyncFd::new).
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn with_interest(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
        let driver = context::driver("leakfree::io::unix::AsyncFd::new");
        let fd = Fd { raw: inner.as_raw_fd(), inner: Some(inner) };
        let wanted = match (interest.is_readable(), interest.is_writable()) {
            (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
            (true, false) => mio::Interest::READABLE,
            _ => mio::Interest::WRITABLE,
        };
        Ok(AsyncFd { registration: Registration::new_unready(fd, wanted, driver, Location::caller())? })
    }

    /// What it was made of.
    pub fn get_ref(&self) -> &T {
        self.registration.source().inner()
    }

    /// What it was made of. Its descriptor must stay the same.
    pub fn get_mut(&mut self) -> &mut T {
        let fd = self.registration.source_mut();
        fd.inner.as_mut().expect("it is there until it is taken, with all of us")
    }

    /// What it was made of, not waited for any more. It is non-blocking still.
    pub fn into_inner(mut self) -> T {
        let inner = self.registration.source_mut().inner.take();
        inner.expect("it is there until it is taken, with all of us")
    }

    fn guard(&self, interest: Interest) -> AsyncFdReadyGuard<'_, T> {
        AsyncFdReadyGuard { fd: self, seen: self.registration.readiness(), interest }
    }

    fn guard_mut(&mut self, interest: Interest) -> AsyncFdReadyMutGuard<'_, T> {
        let seen = self.registration.readiness();
        AsyncFdReadyMutGuard { fd: self, seen, interest }
    }

    #[track_caller]
    fn wait(&self, interest: Interest) -> WaitReady<'_, Fd<T>> {
        self.wait_at(interest, Location::caller())
    }

    fn wait_at(&self, interest: Interest, site: &'static Location<'static>) -> WaitReady<'_, Fd<T>> {
        WaitReady::at(&self.registration, interest, WaitReason::FdRead, WaitReason::FdWrite, site)
    }

    /// Waits until the descriptor is ready for something of `interest`.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn ready(
        &self,
        interest: Interest,
    ) -> impl Future<Output = io::Result<AsyncFdReadyGuard<'_, T>>> + '_ {
        let wait = self.wait(interest);
        async move { wait.await.map(|_| self.guard(interest)) }
    }

    /// [`ready`](AsyncFd::ready) with a guard that lends what it was made of mutably.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn ready_mut(
        &mut self,
        interest: Interest,
    ) -> impl Future<Output = io::Result<AsyncFdReadyMutGuard<'_, T>>> + '_ {
        let site = Location::caller();
        async move {
            self.wait_at(interest, site).await?;
            Ok(self.guard_mut(interest))
        }
    }

    /// Waits until the descriptor can be read, or is at its end.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn readable(&self) -> impl Future<Output = io::Result<AsyncFdReadyGuard<'_, T>>> + '_ {
        self.ready(Interest::READABLE)
    }

    /// [`readable`](AsyncFd::readable) with a guard that lends what it was made of mutably.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn readable_mut(&mut self) -> impl Future<Output = io::Result<AsyncFdReadyMutGuard<'_, T>>> + '_ {
        self.ready_mut(Interest::READABLE)
    }

    /// Waits until the descriptor can be written, or writing fails at once.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn writable(&self) -> impl Future<Output = io::Result<AsyncFdReadyGuard<'_, T>>> + '_ {
        self.ready(Interest::WRITABLE)
    }

    /// [`writable`](AsyncFd::writable) with a guard that lends what it was made of mutably.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn writable_mut(&mut self) -> impl Future<Output = io::Result<AsyncFdReadyMutGuard<'_, T>>> + '_ {
        self.ready_mut(Interest::WRITABLE)
    }

    /// Tries `operation` whenever the descriptor is ready for something of `interest`, until it says something else than `WouldBlock`.
    ///
    /// # Errors
    /// As `operation`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, no `operation` has succeeded.
    #[track_caller]
    pub fn async_io<'a, R>(
        &'a self,
        interest: Interest,
        mut operation: impl FnMut(&T) -> io::Result<R> + 'a,
    ) -> impl Future<Output = io::Result<R>> + 'a {
        let site = Location::caller();
        async move {
            loop {
                self.wait_at(interest, site).await?;
                if let Ok(done) = self.guard(interest).try_io(|fd| operation(fd.get_ref())) {
                    return done;
                }
            }
        }
    }

    /// [`async_io`](AsyncFd::async_io) with an operation that needs what it was made of mutably.
    ///
    /// # Errors
    /// As `operation`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, no `operation` has succeeded.
    #[track_caller]
    pub fn async_io_mut<'a, R>(
        &'a mut self,
        interest: Interest,
        mut operation: impl FnMut(&mut T) -> io::Result<R> + 'a,
    ) -> impl Future<Output = io::Result<R>> + 'a {
        let site = Location::caller();
        async move {
            loop {
                self.wait_at(interest, site).await?;
                if let Ok(done) = self.guard_mut(interest).try_io(|fd| operation(fd.get_mut())) {
                    return done;
                }
            }
        }
    }

    /// Tries `operation` once, if the descriptor is ready for something of `interest`. If it would block, the next wait is for news.
    ///
    /// # Errors
    /// `WouldBlock` if it is not ready; else as `operation`.
    pub fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut guard = self.guard(interest);
        if !guard.seen_any() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        guard.try_io(|fd| operation(fd.get_ref())).unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// [`try_io`](AsyncFd::try_io) with an operation that needs what it was made of mutably.
    ///
    /// # Errors
    /// `WouldBlock` if it is not ready; else as `operation`.
    pub fn try_io_mut<R>(
        &mut self,
        interest: Interest,
        operation: impl FnOnce(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        if !self.guard(interest).seen_any() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut guard = self.guard_mut(interest);
        guard.try_io(|fd| operation(fd.get_mut())).unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// [`readable`](AsyncFd::readable) as a poll function: the last one to poll is woken. The wait it leaves stands until the next poll.
    ///
    /// # Errors
    /// None so far.
    #[track_caller]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncFdReadyGuard<'_, T>>> {
        let polled = self.registration.poll_shared(cx, WaitReason::FdRead, |_| Ok(()));
        polled.map_ok(|()| self.guard(Interest::READABLE))
    }

    /// [`readable_mut`](AsyncFd::readable_mut) as a poll function, as [`poll_read_ready`](AsyncFd::poll_read_ready).
    ///
    /// # Errors
    /// None so far.
    #[track_caller]
    pub fn poll_read_ready_mut(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyMutGuard<'_, T>>> {
        let polled = self.registration.poll_shared(cx, WaitReason::FdRead, |_| Ok(()));
        polled.map_ok(|()| self.guard_mut(Interest::READABLE))
    }

    /// [`writable`](AsyncFd::writable) as a poll function: the last one to poll is woken. The wait it leaves stands until the next poll.
    ///
    /// # Errors
    /// None so far.
    #[track_caller]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncFdReadyGuard<'_, T>>> {
        let polled = self.registration.poll_shared(cx, WaitReason::FdWrite, |_| Ok(()));
        polled.map_ok(|()| self.guard(Interest::WRITABLE))
    }

    /// [`writable_mut`](AsyncFd::writable_mut) as a poll function, as [`poll_write_ready`](AsyncFd::poll_write_ready).
    ///
    /// # Errors
    /// None so far.
    #[track_caller]
    pub fn poll_write_ready_mut(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyMutGuard<'_, T>>> {
        let polled = self.registration.poll_shared(cx, WaitReason::FdWrite, |_| Ok(()));
        polled.map_ok(|()| self.guard_mut(Interest::WRITABLE))
    }
}

impl<T: AsRawFd> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.get_ref().as_raw_fd()
    }
}

impl<T: AsRawFd + AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsRawFd + fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFd").field("inner", self.get_ref()).finish()
    }
}

/// An operation met `WouldBlock`: its descriptor is not ready any more, and that has been taken down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TryIoError(());

impl fmt::Display for TryIoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operation would block")
    }
}

impl std::error::Error for TryIoError {}

macro_rules! guard {
    ($(#[$doc:meta])+ $guard:ident, $fd:ty, $lent:ty) => {
        $(#[$doc])+
        #[must_use = "unless `WouldBlock` is taken down, the next wait is over at once"]
        pub struct $guard<'a, T: AsRawFd> {
            fd: $fd,
            /// Before the operation: what comes after is not cleared away.
            seen: Seen,
            interest: Interest,
        }

        impl<'a, T: AsRawFd> $guard<'a, T> {
            /// What the descriptor was found ready for.
            pub fn ready(&self) -> Ready {
                Ready::of(self.seen, self.interest)
            }

            /// Says that the descriptor is not ready any more, as an operation has met `WouldBlock`. The next wait is for news; what came since the guard
            /// was made is news.
            pub fn clear_ready(&mut self) {
                clear(&self.fd.registration, self.seen, self.ready());
            }

            /// The same for one of two directions.
            pub fn clear_ready_matching(&mut self, ready: Ready) {
                clear(&self.fd.registration, self.seen, ready);
            }

            /// Leaves the descriptor ready, as does dropping the guard.
            pub fn retain_ready(&mut self) {}

            /// Tries `operation` once. If it would block, the descriptor is [not ready](Self::clear_ready) any more.
            ///
            /// # Errors
            /// [`TryIoError`] if it would block; what else it says is inside.
            pub fn try_io<R>(
                &mut self,
                operation: impl FnOnce($lent) -> io::Result<R>,
            ) -> Result<io::Result<R>, TryIoError> {
                match operation(self.fd) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.seen.is_gone() => {
                        Ok(Err(shut_down()))
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.clear_ready();
                        Err(TryIoError(()))
                    }
                    done => Ok(done),
                }
            }
        }

        impl<T: AsRawFd + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($guard)).field("ready", &self.ready()).finish_non_exhaustive()
            }
        }
    };
}

guard! {
    /// A descriptor that is ready.
    AsyncFdReadyGuard, &'a AsyncFd<T>, &AsyncFd<T>
}

guard! {
    /// A descriptor that is ready, lent mutably.
    AsyncFdReadyMutGuard, &'a mut AsyncFd<T>, &mut AsyncFd<T>
}

impl<'a, T: AsRawFd> AsyncFdReadyGuard<'a, T> {
    /// Of the descriptor's, something of interest was seen.
    fn seen_any(&self) -> bool {
        !self.ready().is_empty()
    }

    /// The descriptor.
    pub fn get_ref(&self) -> &'a AsyncFd<T> {
        self.fd
    }

    /// What it was made of.
    pub fn get_inner(&self) -> &'a T {
        self.fd.get_ref()
    }
}

impl<T: AsRawFd> AsyncFdReadyMutGuard<'_, T> {
    /// The descriptor.
    pub fn get_ref(&self) -> &AsyncFd<T> {
        self.fd
    }

    /// The descriptor.
    pub fn get_mut(&mut self) -> &mut AsyncFd<T> {
        self.fd
    }

    /// What it was made of.
    pub fn get_inner(&self) -> &T {
        self.fd.get_ref()
    }

    /// What it was made of. Its descriptor must stay the same.
    pub fn get_inner_mut(&mut self) -> &mut T {
        self.fd.get_mut()
    }
}
