//! hyper's traits on our types: `Read` and `Write` for streams, `Executor` for scopes, [`HyperTimer`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Sleep as HyperSleep, Timer, Write};

use crate::net::TcpStream;
use crate::scope::Scope;
use crate::time::{self, Sleep};

/// Bytes read at a time: what a socket gives, without touching memory that hyper has not initialised.
const READ_MAX: usize = 16 * 1024;

impl Read for TcpStream {
    #[track_caller]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buf.remaining().min(READ_MAX);
        // SAFETY: the cursor's contract is that no uninitialised byte is written to it; zeros are written here
        // before a slice of initialised bytes is made.
        let slice = unsafe {
            let free = &mut buf.as_mut()[..most];
            std::ptr::write_bytes(free.as_mut_ptr(), 0, free.len());
            std::slice::from_raw_parts_mut(free.as_mut_ptr().cast::<u8>(), free.len())
        };
        let polled = self.poll_read_slice(cx, slice);
        polled.map_ok(|n| {
            // SAFETY: `n` bytes of the slice were filled, and all of it is initialised.
            unsafe { buf.advance(n) };
        })
    }
}

impl Write for TcpStream {
    #[track_caller]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_slice(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.close_write())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[track_caller]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, bufs)
    }
}

/// A scope spawns what hyper asks it to.
impl<F> hyper::rt::Executor<F> for Scope
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        drop(self.spawn(future));
    }
}

/// The runtime's timers, for hyper.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl Timer for HyperTimer {
    #[track_caller]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn HyperSleep>> {
        Box::pin(time::sleep(duration))
    }

    #[track_caller]
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn HyperSleep>> {
        Box::pin(time::sleep_until(time::Instant::from_std(deadline)))
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn HyperSleep>>, deadline: Instant) {
        if let Some(sleep) = sleep.as_mut().downcast_mut_pin::<Sleep>() {
            sleep.get_mut().reset(time::Instant::from_std(deadline));
        } else {
            *sleep = self.sleep_until(deadline);
        }
    }
}

impl HyperSleep for Sleep {}
