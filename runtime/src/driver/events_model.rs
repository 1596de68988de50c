//! What stands for the kernel in a model: one flag, which a waker raises and a wait takes down. As with the kernel's, a wake
//! is kept, and belongs to whichever wait comes first.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mio::{Registry, Token};

use crate::loom::sync::{Condvar, Mutex};

/// Sources want one; nothing is ever reported of them.
static KERNEL: LazyLock<mio::Poll> = LazyLock::new(|| mio::Poll::new().expect("a descriptor"));

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) token: Token,
    pub(super) bits: u64,
}

#[derive(Debug)]
struct Flag {
    raised: Mutex<bool>,
    condvar: Condvar,
}

#[derive(Debug)]
pub(super) struct Waker(Arc<Flag>);

impl Waker {
    pub(super) fn wake(&self) -> io::Result<()> {
        *self.0.raised.lock().unwrap() = true;
        self.0.condvar.notify_all();
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Poll {
    flag: Arc<Flag>,
    event: Option<Event>,
}

impl Poll {
    pub(super) fn new() -> io::Result<Poll> {
        let flag = Arc::new(Flag { raised: Mutex::new(false), condvar: Condvar::new() });
        Ok(Poll { flag, event: None })
    }

    pub(super) fn waker(&self, _: Token) -> io::Result<Waker> {
        Ok(Waker(Arc::clone(&self.flag)))
    }

    pub(super) fn registry(&self) -> &'static Registry {
        KERNEL.registry()
    }

    /// A timer's time comes at once; that of the scheduler's watcher, which is a millisecond at most, never.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut raised = self.flag.raised.lock().unwrap();
        let waits = timeout.is_none_or(|timeout| !timeout.is_zero() && timeout <= Duration::from_millis(1));
        while !*raised && waits {
            raised = self.flag.condvar.wait(raised).unwrap();
        }
        let event = Event { token: super::io::WAKE, bits: 0 };
        self.event = std::mem::take(&mut *raised).then_some(event);
        Ok(())
    }

    pub(super) fn for_each(&self, visit: impl FnMut(Event)) {
        self.event.into_iter().for_each(visit);
    }
}
