//! One look at the kernel, and what it reported.
//!
//! mio registers sources and wakes the poller. It counts timeouts in milliseconds, which is too coarse for timers and for the
//! scheduler's watcher; on Linux the wait itself is therefore `epoll_pwait2` on mio's own descriptor (5.11 and
//! later; before, and elsewhere, the wait is mio's).

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

use super::readiness::{READ_CLOSED, READABLE, WRITABLE, WRITE_CLOSED};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 256;

/// What the kernel says of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) token: Token,
    /// Readiness bits.
    pub(super) bits: u64,
}

/// Ends the wait of whoever is in the poller, or the next one.
pub(super) type Waker = mio::Waker;

/// The poller and its events.
#[derive(Debug)]
pub(super) struct Poll {
    poll: mio::Poll,
    events: mio::Events,
    #[cfg(target_os = "linux")]
    fine: linux::Fine,
}

impl Poll {
    pub(super) fn new() -> io::Result<Poll> {
        Ok(Poll {
            poll: mio::Poll::new()?,
            events: mio::Events::with_capacity(EVENTS_MAX),
            #[cfg(target_os = "linux")]
            fine: linux::Fine::new(),
        })
    }

    pub(super) fn waker(&self, token: Token) -> io::Result<Waker> {
        mio::Waker::new(self.poll.registry(), token)
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events: at most for `timeout`, `None` for as long as it takes.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        #[cfg(target_os = "linux")]
        if let Some(waited) = self.fine.wait(&self.poll, timeout) {
            return waited;
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// The events of the last wait.
    pub(super) fn for_each(&self, mut visit: impl FnMut(Event)) {
        #[cfg(target_os = "linux")]
        self.fine.for_each(&mut visit);
        for event in &self.events {
            let mut bits = 0;
            let mut add = |is: bool, bit: u64| bits |= if is { bit } else { 0 };
            add(event.is_readable() || event.is_error(), READABLE);
            add(event.is_writable() || event.is_error(), WRITABLE);
            add(event.is_read_closed(), READABLE | READ_CLOSED);
            // mio takes an error alone for an end.
            let is_end = event.is_read_closed() || !event.is_error();
            add(event.is_write_closed() && is_end, WRITABLE | WRITE_CLOSED);
            visit(Event { token: event.token(), bits });
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use rustix::event::{Timespec, epoll};
    use rustix::io::Errno;

    use super::*;

    #[derive(Debug)]
    pub(super) struct Fine {
        events: Vec<Event>,
        unsupported: bool,
    }

    impl Fine {
        pub(super) fn new() -> Fine {
            // Miri does not know the call, and says so by ending.
            Fine { events: Vec::with_capacity(EVENTS_MAX), unsupported: cfg!(miri) }
        }

        /// As on a kernel that does not know the call.
        #[cfg(test)]
        pub(super) fn give_up(&mut self) {
            self.unsupported = true;
        }

        /// `None` if the kernel does not know the call.
        pub(super) fn wait(&mut self, poll: &mio::Poll, timeout: Option<Duration>) -> Option<io::Result<()>> {
            self.events.clear();
            if self.unsupported {
                return None;
            }
            // SAFETY: the descriptor is the poll's, which is borrowed for longer than this block.
            let fd = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
            let timeout = timeout.map(|timeout| Timespec {
                tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            });
            let mut raw = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
            match epoll::wait(fd, &mut raw, timeout.as_ref()) {
                Ok((reported, _)) => self.events.extend(reported.iter().map(convert)),
                Err(Errno::INTR) => {}
                // Some sandboxes have this word for what they do not know.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.unsupported = true;
                    return None;
                }
                Err(error) => return Some(Err(error.into())),
            }
            Some(Ok(()))
        }

        pub(super) fn for_each(&self, visit: &mut impl FnMut(Event)) {
            self.events.iter().copied().for_each(visit);
        }
    }

    fn convert(event: &epoll::Event) -> Event {
        use epoll::EventFlags as E;
        let (flags, data) = (event.flags, event.data);
        let mut bits = 0;
        let mut add = |any: E, bit: u64| bits |= if flags.intersects(any) { bit } else { 0 };
        // An error is told by the next operation, and is no end: a datagram that nobody wanted.
        add(E::IN.union(E::PRI).union(E::ERR), READABLE);
        add(E::OUT.union(E::ERR), WRITABLE);
        add(E::HUP.union(E::RDHUP), READABLE | READ_CLOSED);
        add(E::HUP, WRITABLE | WRITE_CLOSED);
        Event { token: Token(data.u64() as usize), bits }
    }
}

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;

    use mio::Interest;
    use mio::net::UnixStream;

    use super::*;

    /// What becomes of the other end.
    type Happens = fn(UnixStream) -> Option<UnixStream>;

    /// On a kernel without `epoll_pwait2` mio waits, and the same is said of each source.
    #[test]
    fn both_ways_to_wait_say_the_same() {
        let said = |fine: bool, happens: Happens| {
            let mut poll = Poll::new().unwrap();
            if !fine {
                poll.fine.give_up();
            }
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut ours, Token(7), interest).unwrap();
            let _theirs = happens(theirs);
            poll.wait(Some(Duration::from_secs(60))).unwrap();
            let mut events = Vec::new();
            poll.for_each(|event| events.push((event.token, event.bits)));
            let waker = poll.waker(Token(9)).unwrap();
            waker.wake().unwrap();
            poll.wait(None).unwrap();
            poll.for_each(|event| events.extend((event.token == Token(9)).then_some((event.token, 0))));
            // Nothing happens: the time is over, and that is no error.
            poll.registry().deregister(&mut ours).unwrap();
            poll.wait(Some(Duration::from_micros(1))).unwrap();
            events
        };
        let all = READABLE | READ_CLOSED | WRITABLE | WRITE_CLOSED;
        let cases: [(u64, Happens); 4] = [
            (WRITABLE, Some),
            (READABLE | WRITABLE, |mut theirs| {
                theirs.write_all(b"x").unwrap();
                Some(theirs)
            }),
            (READABLE | READ_CLOSED | WRITABLE, |theirs| {
                theirs.shutdown(Shutdown::Write).unwrap();
                Some(theirs)
            }),
            (all, |theirs| {
                drop(theirs);
                None
            }),
        ];
        for (bits, happens) in cases {
            let expected = [(Token(7), bits), (Token(9), 0)];
            assert_eq!(said(true, happens), expected);
            assert_eq!(said(false, happens), expected, "as mio says it");
        }
    }
}
