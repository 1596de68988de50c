//! `Child`: a process that was started.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::process::{ExitStatus, Output};

use futures_util::future::join3;

use super::exit::{self, Process};
use super::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::io::On;
use crate::runtime::Handle;
use crate::scheduler::context;

/// A process that was started by [`Command::spawn`](super::Command::spawn). See there for what becomes of it when this is dropped.
#[derive(Debug)]
pub struct Child {
    /// Its standard input, if that was [piped](super::Stdio::piped). Take it out to write; drop or shut it down to end it.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that was piped.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, if that was piped.
    pub stderr: Option<ChildStderr>,
    /// Taken by the drop.
    process: Option<Process>,
    kill_on_drop: bool,
    handle: Handle,
    created: &'static Location<'static>,
}

impl Child {
    #[track_caller]
    pub(super) fn start(
        command: &mut std::process::Command,
        kill_on_drop: bool,
        created: &'static Location<'static>,
    ) -> io::Result<Child> {
        let driver = context::driver("leakfree::process::Command::spawn");
        let handle = Handle::current();
        exit::sweep();
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on an error must not leave the process behind: it is dropped as any `Child` is.
        let process = Some(Process::new(child, driver.clone(), created));
        let mut child =
            Child { stdin: None, stdout: None, stderr: None, process, kill_on_drop, handle, created };
        child.stdin = stdin.map(|pipe| ChildStdin::new(pipe, &driver, created)).transpose()?;
        child.stdout = stdout.map(|pipe| ChildStdout::new(pipe, &driver, created)).transpose()?;
        child.stderr = stderr.map(|pipe| ChildStderr::new(pipe, &driver, created)).transpose()?;
        Ok(child)
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("taken by the drop only")
    }

    /// The process's id; `None` once it is known to have ended, for then the id may be another's.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Process::id)
    }

    /// Waits for the process's end. Its standard input is closed first, so that a process that reads to the end is not waited for in
    /// vain.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: wait again. (The standard input stays closed.)
    #[track_caller]
    pub fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send + '_ {
        self.wait_at(Location::caller())
    }

    pub(super) fn wait_at(
        &mut self,
        site: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<ExitStatus>> + Send + '_ {
        self.stdin = None;
        self.process().wait_at(site)
    }

    /// How the process has ended, if it has. Does not wait.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process().try_wait()
    }

    /// Waits for the process's end, and for all that it writes to those pipes that have not been taken out.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// **Not** cancel safe: the child is dropped, and what was read is lost.
    #[track_caller]
    pub fn wait_with_output(self) -> impl Future<Output = io::Result<Output>> + Send {
        self.wait_with_output_at(Location::caller())
    }

    pub(super) fn wait_with_output_at(
        mut self,
        site: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<Output>> + Send {
        let (mut stdout, mut stderr) = (self.stdout.take(), self.stderr.take());
        let waiting = async move {
            let (status, stdout, stderr) =
                join3(self.wait_at(site), read_all(&mut stdout), read_all(&mut stderr)).await;
            Ok(Output { status: status?, stdout: stdout?, stderr: stderr? })
        };
        On::at(site, Box::pin(waiting))
    }

    /// Kills the process, and does not wait for its end. One that has ended by itself meanwhile is left alone.
    ///
    /// # Errors
    /// `InvalidInput` if it is known to have ended: a wait has said so. Else what the operating system says.
    pub fn start_kill(&mut self) -> io::Result<()> {
        self.process().kill()
    }

    /// Kills the process, and waits for its end.
    ///
    /// # Errors
    /// As [`start_kill`](Child::start_kill).
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the process is killed.
    #[track_caller]
    pub fn kill(&mut self) -> impl Future<Output = io::Result<()>> + Send + '_ {
        let site = Location::caller();
        async move {
            self.start_kill()?;
            self.wait_at(site).await?;
            Ok(())
        }
    }
}

async fn read_all(pipe: &mut Option<impl futures_io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // The recorded place is the caller's: this is polled for it.
        futures_util::io::AsyncReadExt::read_to_end(pipe, &mut bytes).await?;
    }
    Ok(bytes)
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if self.kill_on_drop && matches!(process.try_wait(), Ok(None)) {
            let _ = process.kill();
        }
        if let Some(reaper) = process.into_reaper(self.created) {
            self.handle.reap(self.created, reaper.run());
        }
    }
}
