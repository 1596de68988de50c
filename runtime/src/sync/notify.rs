//! A wake without a value.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{Place, Waiters, Wakes};
use crate::util::lock::{Guard, Lock};

/// Wakes tasks, one or all. A `notify_one` that finds nobody waiting is kept for the next who waits; more than one are as
/// one.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let notify = std::sync::Arc::new(leakfree::sync::Notify::new());
/// let theirs = std::sync::Arc::clone(&notify);
/// let waits = leakfree::spawn(async move { theirs.notified().await });
/// notify.notify_one();
/// waits.await.unwrap();
/// # });
/// ```
pub struct Notify {
    state: Lock<State>,
    created: &'static Location<'static>,
}

struct State {
    /// A `notify_one` that nobody has had yet.
    kept: bool,
    /// How often everybody was notified.
    rounds: u64,
    waiters: Waiters<Told>,
}

/// How a waiter was notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    NotYet,
    /// As the first in line: if it goes without having looked, the next one is.
    First,
    /// As the last in line.
    Last,
    /// With everybody.
    All,
}

impl State {
    /// Notifies one, or keeps the notification.
    fn notify(&mut self, told: Told) -> Wakes {
        let mut wakes = Wakes::default();
        let woken = match told {
            Told::Last => self.waiters.grant_last_with(|tag| *tag = told),
            _ => self.waiters.grant_with(|tag| *tag = told),
        };
        match woken {
            Some(woken) => wakes.push(woken),
            None => self.kept = true,
        }
        wakes
    }
}

impl Notify {
    /// Nobody waits, and no notification is kept.
    #[track_caller]
    pub const fn new() -> Notify {
        let state = State { kept: false, rounds: 0, waiters: Waiters::new() };
        Notify { state: Lock::new(state), created: Location::caller() }
    }

    /// As [`new`](Notify::new), which can be called in a `static`, too.
    #[track_caller]
    pub const fn const_new() -> Notify {
        Notify::new()
    }

    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Waits for a notification. It is in line from its first poll, or from [`enable`](Notified::enable); a `notify_waiters`
    /// reaches it from this call on.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue is lost. A notification by `notify_one` or `notify_last` that was meant for it
    /// goes to another.
    #[track_caller]
    pub fn notified(&self) -> Notified<'_> {
        Notified { wait: Waiting::new(self), notify: self }
    }

    /// As [`notified`](Notify::notified), with a future that borrows nothing.
    ///
    /// # Cancel safety
    /// As there.
    #[track_caller]
    pub fn notified_owned(self: Arc<Self>) -> OwnedNotified {
        OwnedNotified { wait: Waiting::new(&self), notify: self }
    }

    /// Notifies who has waited longest. If nobody waits, the notification is kept for the next who does.
    pub fn notify_one(&self) {
        let wakes = self.state().notify(Told::First);
        drop(wakes);
    }

    /// Notifies who came last. If nobody waits, the notification is kept for the next who does.
    pub fn notify_last(&self) {
        let wakes = self.state().notify(Told::Last);
        drop(wakes);
    }

    /// Notifies everybody who waits now, and every `notified` that was made before. Nothing is kept.
    pub fn notify_waiters(&self) {
        let wakes = {
            let mut state = self.state();
            state.rounds += 1;
            let mut wakes = Wakes::default();
            while let Some(woken) = state.waiters.grant_with(|tag| *tag = Told::All) {
                wakes.push(woken);
            }
            wakes
        };
        drop(wakes);
    }
}

/// The wait for a notification.
#[derive(Debug)]
struct Waiting {
    /// The rounds when it began.
    rounds: u64,
    place: Option<Place>,
    notified: bool,
    leaf: Leaf,
}

impl Waiting {
    #[track_caller]
    fn new(notify: &Notify) -> Waiting {
        let leaf = Leaf::new(WaitReason::Notified, Object::Created(notify.created));
        Waiting { rounds: notify.state().rounds, place: None, notified: false, leaf }
    }

    /// Whether it is notified; if not, it is in line, and `cx` is woken.
    fn poll(&mut self, notify: &Notify, cx: &Context<'_>) -> bool {
        if self.notified {
            return true;
        }
        let mut state = notify.state();
        let mut old = None;
        match self.place {
            None if state.kept => {
                state.kept = false;
                self.notified = true;
            }
            None if state.rounds != self.rounds => self.notified = true,
            None => self.place = Some(state.waiters.join(cx, Told::NotYet)),
            Some(place) => match state.waiters.poll(place, cx, Told::NotYet) {
                Ok(()) => {
                    state.waiters.leave(place);
                    self.place = None;
                    self.notified = true;
                }
                Err(replaced) => old = replaced,
            },
        }
        drop(state);
        drop(old);
        self.notified
    }

    fn poll_leaf(&mut self, notify: &Notify, cx: &Context<'_>) -> Poll<()> {
        ready!(self.leaf.proceed(cx));
        if self.poll(notify, cx) {
            self.leaf.ready();
            return Poll::Ready(());
        }
        self.leaf.pending(cx);
        Poll::Pending
    }

    fn enable(&mut self, notify: &Notify) -> bool {
        if let Some(place) = self.place {
            // In line with the waker of its last poll, which stays.
            let mut state = notify.state();
            if state.waiters.tag(place) != Told::NotYet {
                state.waiters.leave(place);
                self.place = None;
                self.notified = true;
            }
            return self.notified;
        }
        self.poll(notify, &Context::from_waker(Waker::noop()))
    }

    fn leave(&mut self, notify: &Notify) {
        let Some(place) = self.place.take() else { return };
        let (waker, wakes) = {
            let mut state = notify.state();
            let told = state.waiters.tag(place);
            let waker = state.waiters.leave(place);
            let wakes = match told {
                Told::First | Told::Last => state.notify(told),
                Told::NotYet | Told::All => Wakes::default(),
            };
            (waker, wakes)
        };
        drop((waker, wakes));
    }
}

macro_rules! notified {
    ($notified:ty) => {
        impl $notified {
            /// Takes its place in line without a poll, so that a `notify_one` from now on can be for it. Returns whether it is
            /// notified already.
            pub fn enable(mut self: Pin<&mut Self>) -> bool {
                let this = &mut *self;
                this.wait.enable(&this.notify)
            }
        }

        impl Future for $notified {
            type Output = ();

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                let this = &mut *self;
                this.wait.poll_leaf(&this.notify, cx)
            }
        }

        impl Drop for $notified {
            fn drop(&mut self) {
                self.wait.leave(&self.notify);
            }
        }
    };
}

/// The future of [`Notify::notified`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    wait: Waiting,
}

notified!(Notified<'_>);

/// The future of [`Notify::notified_owned`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct OwnedNotified {
    notify: Arc<Notify>,
    wait: Waiting,
}

notified!(OwnedNotified);

impl Default for Notify {
    #[track_caller]
    fn default() -> Notify {
        Notify::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("waiters", &self.state().waiters.len()).finish_non_exhaustive()
    }
}
