//! Child processes.
//!
//! A [`Command`] is the standard library's, and starts a [`Child`] whose end and whose pipes are awaited. A child that is dropped goes on, unless
//! [`kill_on_drop`](Command::kill_on_drop) says otherwise; in either case it is reaped when it ends, so it leaves no zombie.

mod child;
mod exit;
mod pipe;

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::path::Path;

pub use std::process::{ExitStatus, Output, Stdio};

pub use self::child::Child;
pub use self::pipe::{ChildStderr, ChildStdin, ChildStdout};

/// A process to be started.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::process::Command;
///
/// let output = Command::new("echo").arg("hello").output().await?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct Command {
    std: std::process::Command,
    kill_on_drop: bool,
}

impl Command {
    /// The program of that name or path, without arguments, with this process's environment, directory and standard streams.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command::from(std::process::Command::new(program))
    }

    /// The standard library's command.
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// The standard library's command, for what this type has no method for.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }

    /// The standard library's command itself.
    pub fn into_std(self) -> std::process::Command {
        self.std
    }

    /// One more argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.std.env(key, value);
        self
    }

    /// Sets several.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Empties the environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// The directory that the process starts in.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Where its standard input comes from.
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(from);
        self
    }

    /// Where its standard output goes.
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Command {
        self.std.stdout(to);
        self
    }

    /// Where its standard error goes.
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Command {
        self.std.stderr(to);
        self
    }

    /// The user that the process runs as.
    pub fn uid(&mut self, id: u32) -> &mut Command {
        std::os::unix::process::CommandExt::uid(&mut self.std, id);
        self
    }

    /// The group that the process runs as.
    pub fn gid(&mut self, id: u32) -> &mut Command {
        std::os::unix::process::CommandExt::gid(&mut self.std, id);
        self
    }

    /// The process group that it belongs to; 0 is one of its own.
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        std::os::unix::process::CommandExt::process_group(&mut self.std, group);
        self
    }

    /// Whether the process is killed when its [`Child`] is dropped. Without, it goes on.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    /// What the operating system says, for instance `NotFound`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn spawn(&mut self) -> io::Result<Child> {
        Child::start(&mut self.std, self.kill_on_drop, Location::caller())
    }

    /// Starts the process, and waits for its end.
    ///
    /// # Errors
    /// What the operating system says, for instance `NotFound`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// The process has started when the call returns. Dropped before it is ready, it is as if the [`Child`] was.
    #[track_caller]
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send + use<> {
        let site = Location::caller();
        let child = self.spawn();
        async move {
            let mut child = child?;
            // Nobody reads or writes these.
            (child.stdin, child.stdout, child.stderr) = (None, None, None);
            child.wait_at(site).await
        }
    }

    /// Starts the process with pipes for its output, and waits for its end and for all that it writes. Its standard input is this
    /// process's, unless it was set.
    ///
    /// # Errors
    /// What the operating system says, for instance `NotFound`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// As [`status`](Command::status).
    #[track_caller]
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + Send + use<> {
        let site = Location::caller();
        self.std.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn();
        async move { child?.wait_with_output_at(site).await }
    }
}

impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command { std, kill_on_drop: false }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
