//! Accepting, for every kind of listener.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mio::event::Source;
use rustix::io::Errno;

use super::registration::{Registration, Waiting};
use crate::driver::{Driver, Local};
use crate::task::wait::{Leaf, WaitReason};
use crate::time::sleep::Timer;

/// The first pause of a [`Backoff`], and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Pauses between attempts, each twice as long as the one before.
#[derive(Debug)]
pub(super) struct Backoff {
    timer: Option<Timer>,
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff::up_to(PAUSE_MAX)
    }

    /// No pause is longer than that.
    pub(super) fn up_to(longest: Duration) -> Backoff {
        Backoff { timer: None, next: PAUSE_MIN, longest }
    }

    /// Begins the next pause.
    pub(super) fn begin(&mut self, driver: &Arc<Driver>) {
        self.timer = Some(Timer::on(Local::new(driver, 0), self.next));
        self.next = (self.next * 2).min(self.longest);
    }

    /// Whether the pause, if there is one, is over.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.timer.as_mut().is_none_or(|timer| timer.poll(cx));
        if over {
            self.timer = None;
        }
        over
    }
}

/// The system is short of something that accepting needs, and may have it again later.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// The future of `accept`. While the system is short of descriptors or memory it tries again after a pause; the connections stay
/// in the listener's queue.
pub(super) struct Accept<'a, S: Source, F> {
    waiting: Waiting<'a, S>,
    backoff: Backoff,
    /// The wait of a pause, which is for the same.
    pause: Leaf,
    accept: F,
}

impl<'a, S: Source, F> Accept<'a, S, F> {
    pub(super) fn new(
        registration: &'a Registration<S>,
        reason: WaitReason,
        place: &'static Location<'static>,
        accept: F,
    ) -> Accept<'a, S, F> {
        let pause = Leaf::at(reason, registration.object(), place);
        Accept { waiting: registration.wait_at(reason, place), backoff: Backoff::new(), pause, accept }
    }
}

impl<S: Source, F> Unpin for Accept<'_, S, F> {}

impl<T, S: Source, F: FnMut(&S) -> io::Result<T>> Future for Accept<'_, S, F> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let this = &mut *self;
        loop {
            if !this.backoff.is_over(cx) {
                this.pause.pending(cx);
                return Poll::Pending;
            }
            this.pause.ready();
            match this.waiting.poll(cx, &mut this.accept) {
                Poll::Ready(Err(error)) if is_shortage(&error) => {
                    this.backoff.begin(this.waiting.registration().driver());
                }
                polled => return polled,
            }
        }
    }
}

impl<S: Source, F> fmt::Debug for Accept<'_, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
