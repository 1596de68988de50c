//! A source (a socket, a pipe) as the driver knows it, and a wait on one.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use mio::Token;
use mio::event::Source;

use crate::driver::Driver;
use crate::driver::io::{Place, ScheduledIo, shut_down};
use crate::driver::readiness::{Direction, Readiness, Seen};
use crate::task::wait::{self, Leaf, Object, WaitReason};
use crate::task::{frame, waker};

/// A registered source. Dropping it deregisters it.
pub(crate) struct Registration<S: Source> {
    source: S,
    token: Token,
    io: Arc<ScheduledIo>,
    driver: Arc<Driver>,
    pub(crate) created: &'static Location<'static>,
    /// The places of who polls without a future of its own: `poll_read` and the like, one each way, for the halves of a stream share no lock.
    polled: [Mutex<Place>; 2],
}

impl<S: Source> Registration<S> {
    pub(crate) fn new(
        mut source: S,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<Registration<S>> {
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let (token, io) = driver.sources().register(&mut source, both, Readiness::untried())?;
        Ok(Registration { source, token, io, driver, created, polled: Default::default() })
    }

    /// A source that is operated on by others: it is ready when the kernel says so, and not before.
    pub(crate) fn new_unready(
        mut source: S,
        interest: mio::Interest,
        driver: Arc<Driver>,
        created: &'static Location<'static>,
    ) -> io::Result<Registration<S>> {
        let (token, io) = driver.sources().register(&mut source, interest, Readiness::none())?;
        Ok(Registration { source, token, io, driver, created, polled: Default::default() })
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    pub(crate) fn object(&self) -> Object {
        Object::Created(self.created)
    }

    fn polled(&self, direction: Direction) -> MutexGuard<'_, Place> {
        let place = &self.polled[usize::from(direction == Direction::Write)];
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll<T>(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        place: &mut Place,
        operation: impl FnMut(&mut bool) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.io.poll(cx, direction, place, waker::register, waker::will_wake, operation)
    }

    /// For poll methods: the wait is noted for this poll, and stands until the next one.
    #[track_caller]
    pub(crate) fn poll_shared<T>(
        &self,
        cx: &Context<'_>,
        reason: WaitReason,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_draining(cx, reason, |source, _| operation(source))
    }

    /// The same; the operation may say that it has drained the source.
    #[track_caller]
    pub(crate) fn poll_draining<T>(
        &self,
        cx: &Context<'_>,
        reason: WaitReason,
        mut operation: impl FnMut(&S, &mut bool) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        ready!(wait::proceed_detached(cx));
        let direction = direction(reason);
        let mut place = self.polled(direction);
        let polled = self.poll(cx, direction, &mut place, |drained| operation(&self.source, drained));
        drop(place);
        match polled {
            Poll::Pending => {
                frame::give_back();
                Leaf::at(reason, self.object(), frame::poll_site()).pending_detached(cx);
            }
            Poll::Ready(_) => frame::take_back_once(reason, self.object()),
        }
        polled
    }

    /// Waits for the source to become writable, as part of a future that notes its own wait.
    pub(crate) fn poll_write_ready<T>(
        &self,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut place = self.polled(Direction::Write);
        self.poll(cx, Direction::Write, &mut place, |_| operation(&self.source))
    }

    /// Tries `operation` once, without waiting. If it would block, who waits for readiness next waits for news of it.
    pub(crate) fn try_io<T>(
        &self,
        reason: WaitReason,
        operation: impl FnOnce(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        let seen = self.io.readiness();
        let done = operation(&self.source);
        if matches!(&done, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            if seen.is_gone() {
                return Err(shut_down());
            }
            self.io.clear(seen, direction(reason));
        }
        done
    }

    /// What is known of the source's readiness.
    pub(crate) fn readiness(&self) -> Seen {
        self.io.readiness()
    }

    /// An operation by others met `WouldBlock` after `seen` had been seen.
    pub(crate) fn clear(&self, seen: Seen, direction: Direction) {
        self.io.clear(seen, direction);
    }

    /// A wait of its own on this source, at the caller's location.
    #[track_caller]
    pub(crate) fn wait(&self, reason: WaitReason) -> Waiting<'_, S> {
        self.wait_at(reason, Location::caller())
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn wait_at(&self, reason: WaitReason, site: &'static Location<'static>) -> Waiting<'_, S> {
        Waiting { registration: self, place: Place::default(), leaf: Leaf::at(reason, self.object(), site) }
    }

    /// A future that tries `operation` until it does not block, at the caller's location.
    #[track_caller]
    pub(crate) fn operation<T, F>(
        &self,
        reason: WaitReason,
        operation: F,
    ) -> Operation<'_, S, impl FnMut(&S, &mut bool) -> io::Result<T> + use<T, S, F>>
    where
        F: FnMut(&S) -> io::Result<T>,
    {
        self.operation_at(reason, Location::caller(), operation)
    }

    /// The same; the operation may say that it has drained the source.
    #[track_caller]
    pub(crate) fn draining<T, F>(&self, reason: WaitReason, operation: F) -> Operation<'_, S, F>
    where
        F: FnMut(&S, &mut bool) -> io::Result<T>,
    {
        Operation { waiting: self.wait(reason), operation }
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn operation_at<T, F>(
        &self,
        reason: WaitReason,
        site: &'static Location<'static>,
        mut operation: F,
    ) -> Operation<'_, S, impl FnMut(&S, &mut bool) -> io::Result<T> + use<T, S, F>>
    where
        F: FnMut(&S) -> io::Result<T>,
    {
        Operation {
            waiting: self.wait_at(reason, site),
            operation: move |source: &S, _: &mut bool| operation(source),
        }
    }
}

impl<S: Source> Drop for Registration<S> {
    fn drop(&mut self) {
        self.driver.sources().deregister(&mut self.source, self.token);
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Registration<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

fn direction(reason: WaitReason) -> Direction {
    match reason {
        WaitReason::TcpConnect
        | WaitReason::TcpWrite
        | WaitReason::UnixConnect
        | WaitReason::UnixWrite
        | WaitReason::UdpSend
        | WaitReason::UnixDatagramSend
        | WaitReason::PipeWrite
        | WaitReason::FdWrite => Direction::Write,
        _ => Direction::Read,
    }
}

/// One wait on a source: what all futures on sources have in common.
pub(crate) struct Waiting<'a, S: Source> {
    registration: &'a Registration<S>,
    place: Place,
    leaf: Leaf,
}

impl<'a, S: Source> Waiting<'a, S> {
    pub(crate) fn registration(&self) -> &'a Registration<S> {
        self.registration
    }

    /// Tries `operation`; waits if it would block.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_draining(cx, |source, _| operation(source))
    }

    /// The same; the operation may say that it has drained the source.
    fn poll_draining<T>(
        &mut self,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S, &mut bool) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        ready!(self.leaf.proceed(cx));
        let direction = direction(self.leaf.reason());
        let source = &self.registration.source;
        let polled =
            self.registration.poll(cx, direction, &mut self.place, |drained| operation(source, drained));
        match polled {
            Poll::Ready(_) => self.leaf.ready(),
            Poll::Pending => self.leaf.pending(cx),
        }
        polled
    }
}

impl<S: Source> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        self.registration.io.release(direction(self.leaf.reason()), &mut self.place);
    }
}

impl<S: Source> fmt::Debug for Waiting<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt(f)
    }
}

/// An operation on a source, tried until it does not block. What it has done so far is in the closure.
pub(crate) struct Operation<'a, S: Source, F> {
    waiting: Waiting<'a, S>,
    operation: F,
}

impl<S: Source, F> Unpin for Operation<'_, S, F> {}

impl<T, S: Source, F: FnMut(&S, &mut bool) -> io::Result<T>> Future for Operation<'_, S, F> {
    type Output = io::Result<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Operation { waiting, operation } = &mut *self;
        waiting.poll_draining(cx, operation)
    }
}
