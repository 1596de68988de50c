//! Waiting for readiness apart from the operation: `Interest`, `Ready`, and the future behind `ready`.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::BitOr;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use mio::event::Source;

use super::registration::{Registration, Waiting};
use crate::driver::readiness::{Direction, Seen};
use crate::task::wait::WaitReason;

/// What to wait for: `Interest::READABLE | Interest::WRITABLE` is either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Something can be read, or the end of what can be read.
    pub const READABLE: Interest = Interest(1);
    /// Something can be written, or writing fails at once.
    pub const WRITABLE: Interest = Interest(2);

    /// Whether this includes reading.
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether this includes writing.
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Both.
    #[must_use]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_readable(), self.is_writable()) {
            (true, true) => "READABLE | WRITABLE",
            (true, false) => "READABLE",
            _ => "WRITABLE",
        })
    }
}

/// What a source was found ready for. It may be out of date: a `try_` operation can still say `WouldBlock`, and the next wait
/// is then for news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    readable: bool,
    writable: bool,
    read_closed: bool,
    write_closed: bool,
}

impl Ready {
    /// Nothing.
    pub const EMPTY: Ready =
        Ready { readable: false, writable: false, read_closed: false, write_closed: false };
    /// Something can be read.
    pub const READABLE: Ready = Ready { readable: true, ..Ready::EMPTY };
    /// Something can be written.
    pub const WRITABLE: Ready = Ready { writable: true, ..Ready::EMPTY };

    pub(super) fn of(seen: Seen, interest: Interest) -> Ready {
        let (read, write) = (interest.is_readable(), interest.is_writable());
        Ready {
            readable: read && seen.is_ready(Direction::Read),
            writable: write && seen.is_ready(Direction::Write),
            read_closed: read && seen.is_closed(Direction::Read),
            write_closed: write && seen.is_closed(Direction::Write),
        }
    }

    /// Something can be read, or its end.
    pub fn is_readable(self) -> bool {
        self.readable
    }

    /// Something can be written, or writing fails at once.
    pub fn is_writable(self) -> bool {
        self.writable
    }

    /// The other end will write no more.
    pub fn is_read_closed(self) -> bool {
        self.read_closed
    }

    /// The other end will read no more.
    pub fn is_write_closed(self) -> bool {
        self.write_closed
    }

    /// None of these.
    pub fn is_empty(self) -> bool {
        !self.readable && !self.writable
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready {
            readable: self.readable | other.readable,
            writable: self.writable | other.writable,
            read_closed: self.read_closed | other.read_closed,
            write_closed: self.write_closed | other.write_closed,
        }
    }
}

/// Waits until the source is ready for something of interest.
pub(super) struct WaitReady<'a, S: Source> {
    registration: &'a Registration<S>,
    interest: Interest,
    read: Option<Waiting<'a, S>>,
    write: Option<Waiting<'a, S>>,
}

impl<'a, S: Source> WaitReady<'a, S> {
    #[track_caller]
    pub(super) fn new(
        registration: &'a Registration<S>,
        interest: Interest,
        read: WaitReason,
        write: WaitReason,
    ) -> WaitReady<'a, S> {
        WaitReady::at(registration, interest, read, write, Location::caller())
    }

    /// The same, at a location found elsewhere.
    pub(super) fn at(
        registration: &'a Registration<S>,
        interest: Interest,
        read: WaitReason,
        write: WaitReason,
        site: &'static Location<'static>,
    ) -> WaitReady<'a, S> {
        let read = interest.is_readable().then(|| registration.wait_at(read, site));
        let write = interest.is_writable().then(|| registration.wait_at(write, site));
        WaitReady { registration, interest, read, write }
    }
}

impl<S: Source> Future for WaitReady<'_, S> {
    type Output = io::Result<Ready>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let this = &mut *self;
        let mut is_ready = false;
        for waiting in [&mut this.read, &mut this.write].into_iter().flatten() {
            is_ready |= waiting.poll(cx, |_| Ok(())).is_ready();
        }
        if !is_ready {
            return Poll::Pending;
        }
        Poll::Ready(Ok(Ready::of(this.registration.readiness(), this.interest)))
    }
}

/// The methods of a socket that can be waited for without an operation.
macro_rules! ready_methods {
    ($read:ident, $write:ident) => {
        /// Waits until the socket is ready for something of `interest`. Use it with the `try_` methods.
        ///
        /// # Errors
        /// None so far.
        ///
        /// # Cancel safety
        /// Cancel safe: it takes nothing.
        #[track_caller]
        pub fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send + '_ {
            $crate::net::ready::WaitReady::new(
                &self.registration,
                interest,
                WaitReason::$read,
                WaitReason::$write,
            )
        }

        /// Waits until something can be read, or the end of it. It may say so once too often, as of an event of the
        /// connect that came late: try, and wait again.
        ///
        /// # Errors
        /// None so far.
        ///
        /// # Cancel safety
        /// Cancel safe: it takes nothing.
        #[track_caller]
        pub fn readable(&self) -> impl Future<Output = io::Result<()>> + Send + '_ {
            self.registration.operation(WaitReason::$read, |_| Ok(()))
        }

        /// Waits until something can be written, or writing fails at once. It may say so once too often, as of an event of the
        /// connect that came late: try, and wait again.
        ///
        /// # Errors
        /// None so far.
        ///
        /// # Cancel safety
        /// Cancel safe: it takes nothing.
        #[track_caller]
        pub fn writable(&self) -> impl Future<Output = io::Result<()>> + Send + '_ {
            self.registration.operation(WaitReason::$write, |_| Ok(()))
        }

        /// Does something with the socket that does not wait, by other means than this type's, for instance a system call. If it says
        /// `WouldBlock`, the next wait for `interest` is for news.
        ///
        /// # Errors
        /// As `operation`.
        pub fn try_io<R>(
            &self,
            interest: Interest,
            operation: impl FnOnce() -> io::Result<R>,
        ) -> io::Result<R> {
            let reason = if interest.is_readable() { WaitReason::$read } else { WaitReason::$write };
            self.registration.try_io(reason, |_| operation())
        }
    };
}

pub(super) use ready_methods;
