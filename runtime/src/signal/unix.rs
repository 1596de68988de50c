//! Unix signals, each listener with a pipe of its own.
//!
//! The handler writes one byte to each listener's pipe, and a listener reads all there is: signals that come before it looks are one. A full pipe
//! has enough in it, so a byte that does not fit is no loss.

use std::future::Future;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::task::{Context, Poll};

use mio::unix::pipe::{self, Receiver};
use rustix::process::Signal as Raw;
use signal_hook_registry::SigId;

use crate::net::registration::Registration;
use crate::scheduler::context;
use crate::task::wait::WaitReason;

/// Which signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SignalKind(i32);

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $raw:ident;)+) => {
        $($(#[$doc])+
        pub const fn $name() -> SignalKind {
            SignalKind(Raw::$raw.as_raw())
        })+
    };
}

impl SignalKind {
    /// The signal of that number.
    pub const fn from_raw(signum: i32) -> SignalKind {
        SignalKind(signum)
    }

    /// The signal's number.
    pub const fn as_raw_value(&self) -> i32 {
        self.0
    }

    kinds! {
        /// `SIGALRM`: a timer of the process has run out.
        alarm = ALARM;
        /// `SIGCHLD`: a child process has ended or stopped.
        child = CHILD;
        /// `SIGHUP`: the terminal is gone; services read their configuration again.
        hangup = HUP;
        /// `SIGINT`: Ctrl-C.
        interrupt = INT;
        /// `SIGIO`: a descriptor is ready.
        io = IO;
        /// `SIGPIPE`: nobody reads a pipe that was written to.
        pipe = PIPE;
        /// `SIGQUIT`: Ctrl-\.
        quit = QUIT;
        /// `SIGTERM`: please end.
        terminate = TERM;
        /// `SIGUSR1`.
        user_defined1 = USR1;
        /// `SIGUSR2`.
        user_defined2 = USR2;
        /// `SIGWINCH`: the terminal has another size.
        window_change = WINCH;
    }
}

impl From<i32> for SignalKind {
    fn from(signum: i32) -> SignalKind {
        SignalKind(signum)
    }
}

impl From<SignalKind> for i32 {
    fn from(kind: SignalKind) -> i32 {
        kind.0
    }
}

/// Listens for a signal from now on. What the signal did by default it does no longer, for the rest of the process, even when the listener is gone.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::signal::unix::{SignalKind, signal};
///
/// let mut hangup = signal(SignalKind::hangup())?;
/// leakfree::spawn(async move {
///     while hangup.recv().await.is_some() {
///         // read the configuration again
///     }
/// });
/// # leakfree::scope::current().cancel("the example ends");
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// `InvalidInput` for a signal that cannot be listened for (`SIGKILL`, `SIGSTOP`, `SIGSEGV`, `SIGILL`, `SIGFPE`); else what the operating
/// system says.
///
/// # Panics
/// Outside a leakfree runtime.
#[track_caller]
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    listen("leakfree::signal::unix::signal", kind, Location::caller())
}

#[track_caller]
pub(super) fn listen(
    what: &str,
    kind: SignalKind,
    created: &'static Location<'static>,
) -> io::Result<Signal> {
    let driver = context::driver(what);
    if signal_hook_registry::FORBIDDEN.contains(&kind.0) || kind.0 <= 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal {} cannot be listened for", kind.0),
        ));
    }
    let (sender, receiver) = pipe::new()?;
    let pipe = Registration::new(receiver, driver, created)?;
    let sender = OwnedFd::from(sender);
    let action = move || {
        let _ = rustix::io::write(&sender, &[1]);
    };
    // SAFETY: the action may run within a signal handler. All it does is one `write` to a descriptor that it owns: it takes no
    // lock, allocates nothing and does not panic.
    let id = unsafe { signal_hook_registry::register(kind.0, action) }?;
    Ok(Signal { pipe, id })
}

/// A listener for a signal; see [`signal`].
#[derive(Debug)]
pub struct Signal {
    pipe: Registration<Receiver>,
    id: SigId,
}

impl Signal {
    /// Waits until the signal has come since this was last asked. Several that came meanwhile are one. It is `None` when the runtime that
    /// it was made in is gone, else never.
    ///
    /// # Cancel safety
    /// Cancel safe: a signal that was not returned is returned next.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Option<()>> + Send + '_ {
        let come = self.recv_at(Location::caller());
        async move { come.await.ok() }
    }

    pub(super) fn recv_at(
        &mut self,
        site: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<()>> + Send + '_ {
        self.pipe.operation_at(WaitReason::Signal, site, take_all)
    }

    /// [`recv`](Signal::recv) as a poll function. The wait it leaves stands until the next poll.
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.pipe.poll_shared(cx, WaitReason::Signal, take_all).map(Result::ok)
    }
}

/// Takes all bytes out of the pipe; `WouldBlock` if there are none.
fn take_all(mut pipe: &Receiver) -> io::Result<()> {
    let mut buf = [0; 64];
    let _: usize = pipe.read(&mut buf)?;
    while matches!(pipe.read(&mut buf), Ok(n) if n > 0) {}
    Ok(())
}

impl Drop for Signal {
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.id);
    }
}
