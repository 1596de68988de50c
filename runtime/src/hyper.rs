//! hyper's traits on our types: `Read` and `Write` for streams and their halves, `Executor` for scopes, [`HyperTimer`].

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use hyper::rt::{ReadBufCursor, Sleep as HyperSleep, Timer};

use crate::io::traits::READ_MAX;
use crate::scope::Scope;
use crate::time::{self, Sleep};

/// The free part of a cursor, as far as is read at a time, with zeros in it.
pub(crate) fn initialized<'a>(buf: &'a mut ReadBufCursor<'_>) -> &'a mut [u8] {
    let most = buf.remaining().min(READ_MAX);
    // SAFETY: the cursor's contract is that no uninitialised byte is written to it; zeros are written here
    // before a slice of initialised bytes is made.
    unsafe {
        let free = &mut buf.as_mut()[..most];
        std::ptr::write_bytes(free.as_mut_ptr(), 0, free.len());
        std::slice::from_raw_parts_mut(free.as_mut_ptr().cast::<u8>(), free.len())
    }
}

/// The first `n` bytes of what [`initialized`] gave are filled.
///
/// # Panics
/// If it did not give that many.
pub(crate) fn advance(buf: &mut ReadBufCursor<'_>, n: usize) {
    assert!(n <= buf.remaining().min(READ_MAX), "a read returned more than it was asked for: {n}");
    // SAFETY: `initialized` has initialised that many, just before.
    unsafe { buf.advance(n) };
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
