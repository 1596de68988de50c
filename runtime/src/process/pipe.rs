//! A child process's standard streams.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::Location;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use mio::unix::pipe::{Receiver, Sender};

use crate::driver::Driver;
use crate::io::traits::{PollRead, PollWrite, impl_async_read, impl_async_write};
use crate::net::registration::Registration;
use crate::task::wait::WaitReason;

/// A child's standard input. Dropping it or shutting it down ends the input.
#[derive(Debug)]
pub struct ChildStdin {
    /// `None` once it is shut down.
    pipe: Option<Registration<Sender>>,
}

impl ChildStdin {
    pub(super) fn new(
        pipe: std::process::ChildStdin,
        driver: &Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<ChildStdin> {
        let pipe = Sender::from(pipe);
        pipe.set_nonblocking(true)?;
        Ok(ChildStdin { pipe: Some(Registration::new(pipe, Arc::clone(driver), created)?) })
    }

    /// The pipe itself, which blocks again.
    ///
    /// # Errors
    /// `BrokenPipe` if it was shut down; else what the operating system says.
    pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
        let pipe = self.open()?.source();
        pipe.set_nonblocking(false)?;
        pipe.as_fd().try_clone_to_owned()
    }

    fn open(&self) -> io::Result<&Registration<Sender>> {
        self.pipe.as_ref().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl PollWrite for ChildStdin {
    const VECTORED: bool = true;

    #[track_caller]
    fn poll_write_slice(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?.poll_shared(cx, WaitReason::PipeWrite, |mut pipe| pipe.write(buf))
    }

    #[track_caller]
    fn poll_write_slices(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.open()?.poll_shared(cx, WaitReason::PipeWrite, |mut pipe| pipe.write_vectored(bufs))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}

impl_async_write!(ChildStdin);

impl TryFrom<ChildStdin> for Stdio {
    type Error = io::Error;

    fn try_from(pipe: ChildStdin) -> io::Result<Stdio> {
        Ok(pipe.into_owned_fd()?.into())
    }
}

macro_rules! output {
    ($(#[$doc:meta])+ $type:ident) => {
        $(#[$doc])+
        #[derive(Debug)]
        pub struct $type {
            pipe: Registration<Receiver>,
        }

        impl $type {
            pub(super) fn new(
                pipe: std::process::$type,
                driver: &Arc<Driver>,
                created: &'static Location<'static>,
            ) -> io::Result<$type> {
                let pipe = Receiver::from(pipe);
                pipe.set_nonblocking(true)?;
                Ok($type { pipe: Registration::new(pipe, Arc::clone(driver), created)? })
            }

            /// The pipe itself, which blocks again.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                self.pipe.source().set_nonblocking(false)?;
                self.pipe.source().as_fd().try_clone_to_owned()
            }
        }

        impl PollRead for $type {
            #[track_caller]
            fn poll_read_slice(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                self.pipe.poll_shared(cx, WaitReason::PipeRead, |mut pipe| pipe.read(buf))
            }

            #[track_caller]
            fn poll_read_slices(
                &mut self,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                self.pipe.poll_shared(cx, WaitReason::PipeRead, |mut pipe| pipe.read_vectored(bufs))
            }
        }

        impl_async_read!($type);

        /// So that the output of one process can be the input of another.
        impl TryFrom<$type> for Stdio {
            type Error = io::Error;

            fn try_from(pipe: $type) -> io::Result<Stdio> {
                Ok(pipe.into_owned_fd()?.into())
            }
        }
    };
}

output! {
    /// A child's standard output.
    ChildStdout
}

output! {
    /// A child's standard error.
    ChildStderr
}
