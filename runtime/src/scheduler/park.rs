//! Blocks a worker, on a condvar or in the driver, until somebody unparks it.
//!
//! | state    | meaning                         | `unpark` then wakes |
//! |----------|---------------------------------|---------------------|
//! | EMPTY    | running                         | nothing             |
//! | PARKED   | on the condvar, or about to be  | the condvar         |
//! | DRIVER   | in the driver, or about to be   | the driver          |
//! | NOTIFIED | a token is there                | nothing             |

use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use crate::loom::sync::atomic::AtomicUsize;
use crate::loom::sync::{Condvar, Mutex};

const EMPTY: usize = 0;
const PARKED: usize = 1;
const DRIVER: usize = 2;
const NOTIFIED: usize = 3;

#[derive(Debug)]
pub(crate) struct Parker {
    state: AtomicUsize,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { state: AtomicUsize::new(EMPTY), lock: Mutex::new(()), condvar: Condvar::new() }
    }

    /// Blocks until `unpark`, at most for `timeout`. Returns at once if a token is there. Takes the token, and
    /// says whether there was one.
    pub(crate) fn park(&self, timeout: Option<Duration>) -> bool {
        let mut guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        // Acquire: pairs with the release in `unpark`, so that we see what was done before it.
        if self.state.compare_exchange(EMPTY, PARKED, AcqRel, Acquire).is_ok() {
            // `unpark` takes the lock before it notifies: it cannot fall between the exchange and the wait.
            loop {
                match timeout {
                    None => guard = self.condvar.wait(guard).unwrap_or_else(|e| e.into_inner()),
                    Some(timeout) => {
                        guard =
                            self.condvar.wait_timeout(guard, timeout).unwrap_or_else(|e| e.into_inner()).0;
                        break;
                    }
                }
                if self.state.load(Acquire) == NOTIFIED {
                    break;
                }
            }
        }
        drop(guard);
        self.state.swap(EMPTY, AcqRel) == NOTIFIED
    }

    /// Runs `wait`, which blocks in the driver, unless a token is there. Takes the token, and says whether there
    /// was one.
    pub(crate) fn park_in(&self, wait: impl FnOnce()) -> bool {
        if self.state.compare_exchange(EMPTY, DRIVER, AcqRel, Acquire).is_ok() {
            wait();
        }
        self.state.swap(EMPTY, AcqRel) == NOTIFIED
    }

    /// The first half of `park`, for a simulation, where nobody blocks. False if a token is there, which stays.
    #[cfg(feature = "test-util")]
    pub(crate) fn lie_down(&self) -> bool {
        self.state.compare_exchange(EMPTY, PARKED, AcqRel, Acquire).is_ok()
    }

    /// The second half. Takes the token, and says whether there was one.
    #[cfg(feature = "test-util")]
    pub(crate) fn get_up(&self) -> bool {
        self.state.swap(EMPTY, AcqRel) == NOTIFIED
    }

    /// Whether a token is there.
    #[cfg(feature = "test-util")]
    pub(crate) fn is_notified(&self) -> bool {
        self.state.load(Acquire) == NOTIFIED
    }

    /// Wakes the parked thread, or leaves one token. `driver` wakes who is blocked in the driver, and is
    /// not lost if that one is only about to block.
    pub(crate) fn unpark(&self, driver: impl FnOnce()) {
        // Release: pairs with the acquire in `park` and `park_in`.
        match self.state.swap(NOTIFIED, AcqRel) {
            PARKED => {
                drop(self.lock.lock().unwrap_or_else(|e| e.into_inner()));
                self.condvar.notify_one();
            }
            DRIVER => driver(),
            _ => {}
        }
    }
}
