//! How the end of a process is awaited, and who reaps it.
//!
//! Where the kernel has descriptors of processes (Linux 5.3 and later), one is registered with the driver like a socket. Elsewhere a call on the
//! blocking pool waits for the end without reaping. The status itself is always the standard library's to fetch.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::Location;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::process::{self, Pid, WaitId, WaitIdOptions};

use crate::blocking::BlockingIo;
use crate::driver::Driver;
use crate::net::registration::Registration;
use crate::task::wait::WaitReason;

/// A process's descriptor: readable when the process has ended.
#[derive(Debug)]
pub(super) struct PidFd(OwnedFd);

impl Source for PidFd {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// A process that has not been reaped, or its status.
#[derive(Debug)]
pub(super) struct Process {
    child: std::process::Child,
    status: Option<ExitStatus>,
    pidfd: Option<Registration<PidFd>>,
    /// Waits for the end, where there is no `pidfd`.
    waiting: Option<BlockingIo<()>>,
}

impl Process {
    pub(super) fn new(
        child: std::process::Child,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> Process {
        let pidfd = open(&child).and_then(|fd| Registration::new(PidFd(fd), driver, created).ok());
        Process { child, status: None, pidfd, waiting: None }
    }

    /// A process without a descriptor, as on kernels that have none.
    #[cfg(all(test, not(loom)))]
    pub(super) fn without_pidfd(child: std::process::Child) -> Process {
        Process { child, status: None, pidfd: None, waiting: None }
    }

    /// Its id, until it is known to have ended: then the id may be another's.
    pub(super) fn id(&self) -> Option<u32> {
        self.status.is_none().then(|| self.child.id())
    }

    /// The status, if it has ended; then it is reaped.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        match self.status {
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "the process is known to have ended")),
            // Its id is its own until it is reaped: if it has ended meanwhile, nothing happens.
            None => self.child.kill(),
        }
    }

    /// Waits for the end, and reaps.
    pub(super) fn wait_at(
        &mut self,
        site: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<ExitStatus>> + Send + '_ {
        let Process { child, status, pidfd, waiting } = self;
        let id = child.id();
        let mut reap = move || {
            if status.is_none() {
                *status = child.try_wait()?;
            }
            status.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        let mut operation = None;
        let mut by_call = None;
        match pidfd {
            Some(pidfd) => {
                operation = Some(pidfd.operation_at(WaitReason::ChildWait, site, move |_| reap()));
            }
            None => by_call = Some((waiting, reap)),
        }
        std::future::poll_fn(move |cx| match (&mut operation, &mut by_call) {
            (Some(operation), _) => Pin::new(operation).poll(cx),
            (None, Some((waiting, reap))) => poll_by_call(cx, id, site, waiting, reap),
            (None, None) => unreachable!("one of the two was set above"),
        })
    }
}

fn open(child: &std::process::Child) -> Option<OwnedFd> {
    let pid = pid(child.id())?;
    process::pidfd_open(pid, process::PidfdFlags::NONBLOCK)
        .or_else(|_| process::pidfd_open(pid, process::PidfdFlags::empty()))
        .ok()
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn poll_by_call(
    cx: &mut Context<'_>,
    id: u32,
    site: &'static Location<'static>,
    waiting: &mut Option<BlockingIo<()>>,
    reap: &mut impl FnMut() -> io::Result<ExitStatus>,
) -> Poll<io::Result<ExitStatus>> {
    loop {
        match reap() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        let call = waiting.get_or_insert_with(|| {
            BlockingIo::at(WaitReason::ChildWait, site, move || {
                let Some(pid) = pid(id) else { return Err(io::ErrorKind::InvalidInput.into()) };
                // It does not reap, so the id stays the process's until the status is fetched.
                process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
                Ok(())
            })
        });
        call.set_location(site);
        let ended = ready!(Pin::new(call).poll(cx));
        *waiting = None;
        ended?;
    }
}

/// Processes that were dropped before they had ended, and that no task looks after: looked at when the next one comes.
static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

/// A process that nobody waits for any more. When it is dropped it is reaped, now or later.
#[derive(Debug)]
pub(super) struct Orphan(Option<std::process::Child>);

impl Orphan {
    fn is_reaped(&mut self) -> bool {
        let over = self.0.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if over {
            self.0 = None;
        }
        over
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if !self.is_reaped() {
            keep(Orphan(self.0.take()));
        }
    }
}

fn keep(orphan: Orphan) {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
}

/// Reaps what has ended meanwhile.
pub(super) fn sweep() {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|orphan| !orphan.is_reaped());
}

/// Looks after a process whose `Child` is gone, until it has ended.
pub(super) struct Reaper {
    orphan: Orphan,
    pidfd: Registration<PidFd>,
    site: &'static Location<'static>,
}

impl Process {
    /// What reaps the process if it has not ended; `None` if that is done, or left for the next [`sweep`].
    pub(super) fn into_reaper(mut self, site: &'static Location<'static>) -> Option<Reaper> {
        if !matches!(self.try_wait(), Ok(None)) {
            return None;
        }
        let orphan = Orphan(Some(self.child));
        // Without a descriptor nobody tells when it ends.
        Some(Reaper { orphan, pidfd: self.pidfd?, site })
    }
}

impl Reaper {
    pub(super) async fn run(mut self) {
        let orphan = &mut self.orphan;
        let reaped = self.pidfd.operation_at(WaitReason::ChildWait, self.site, |_| {
            if orphan.is_reaped() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        let _ = reaped.await;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn without_a_descriptor_of_the_process_a_call_waits_for_its_end() {
        let runtime = crate::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "read line; exit 3"]).stdin(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            let stdin = child.stdin.take();
            let mut process = Process::without_pidfd(child);
            let here = Location::caller();
            {
                // Given up half-way, it goes on with the same call.
                let mut waiting = Box::pin(process.wait_at(here));
                std::future::poll_fn(|cx| {
                    assert!(waiting.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            assert!(process.try_wait().unwrap().is_none());
            drop(stdin);
            assert_eq!(process.wait_at(here).await.unwrap().code(), Some(3));
            assert_eq!(process.id(), None);
            assert_eq!(process.wait_at(here).await.unwrap().code(), Some(3), "told again");
        });
        assert!(runtime.shutdown().is_clean());
    }

    #[test]
    fn an_orphan_without_a_descriptor_is_reaped_when_the_next_one_comes() {
        let child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (stdin, id) = (child.stdin.take(), child.id());
        assert!(Process::without_pidfd(child).into_reaper(Location::caller()).is_none());
        let status = format!("/proc/{id}/status");
        assert!(std::fs::read_to_string(&status).is_ok());
        drop(stdin);
        while std::fs::read_to_string(&status).is_ok() {
            sweep();
            std::thread::yield_now();
        }
    }
}
