//! A system call that blocks, made on the pool on behalf of a future: files, name look-ups, standard output.
//!
//! The call is a task at the side of the scope it is made in, where cleanups are: no cancel reaches it, so a task under a shield and a
//! cleanup can still use files, and the scope does not end before the call has returned, whoever has lost interest in it.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::scope::cleanup;
use crate::task::join::JoinHandle;
use crate::task::meta::TaskWord;
use crate::task::wait::{Leaf, Object, WaitReason};

type Call<T> = Box<dyn FnOnce() -> io::Result<T> + Send>;

/// A call on the blocking pool. Dropped before its first poll it is not made; dropped later, it is made to its end, and the scope
/// that it was begun in waits for that.
#[must_use = "futures do nothing unless they are awaited"]
pub struct BlockingIo<T> {
    call: Option<Call<T>>,
    running: Option<JoinHandle<io::Result<T>>>,
    leaf: Leaf,
}

impl<T: Send + 'static> BlockingIo<T> {
    /// Makes `call` from the first poll on; at the caller's location.
    #[track_caller]
    pub(crate) fn new<F>(reason: WaitReason, call: F) -> BlockingIo<T>
    where
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        BlockingIo::at(reason, Location::caller(), call)
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn at<F>(reason: WaitReason, site: &'static Location<'static>, call: F) -> BlockingIo<T>
    where
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        BlockingIo { call: Some(Box::new(call)), running: None, leaf: Leaf::at(reason, Object::None, site) }
    }

    /// Makes the call now, whoever waits for it later.
    pub(crate) fn start(&mut self) {
        let Some(call) = self.call.take() else { return };
        if let Some(handle) = cleanup::call_aside(self.leaf.location(), call) {
            self.leaf.set_object(Object::Task(TaskWord::of(handle.id().0)));
            self.running = Some(handle);
        }
    }

    /// Who waits for it now is elsewhere than who began it.
    pub(crate) fn set_location(&mut self, site: &'static Location<'static>) {
        self.leaf.set_location(site);
    }
}

impl<T> Unpin for BlockingIo<T> {}

impl<T: Send + 'static> Future for BlockingIo<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let this = &mut *self;
        this.start();
        let Some(handle) = &mut this.running else {
            return Poll::Ready(Err(io::Error::other(
                "a blocking call was asked for outside a running leakfree runtime, or for a second time",
            )));
        };
        if !handle.tell_end(cx) {
            this.leaf.pending(cx);
            return Poll::Pending;
        }
        this.leaf.ready();
        let done = handle.take_output();
        this.running = None;
        Poll::Ready(done.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

impl<T> fmt::Debug for BlockingIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingIo").field("running", &self.running).finish_non_exhaustive()
    }
}
