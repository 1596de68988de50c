//! Shields: while one is pending, the drop of its task is held off.
//!
//! A shield is noted in its task (`Extra::shields`), where the runner looks before it drops the task, and counted in each
//! scope of that task whose body it is in, where the scope's future looks before it drops its body. What is opened inside is
//! *sealed*: the cancel walk does not go from outside into it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use super::tree::{ScopeInner, innermost_of};
use crate::report::snapshot::ScopeKind;
use crate::scheduler::context;
use crate::task::frame;
use crate::task::header::ShieldNote;
use crate::task::hooks::Bound;
use crate::task::raw::TaskRef;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waker;
use crate::time::Instant;
use crate::time::sleep::Timer;

/// Runs `future` to its end even if its task, or the body of a `try_scope` that it is in, is to be dropped meanwhile:
/// the drop is held off while the shield is pending, then made up for. One shielded arm of a `join!` is enough.
///
/// The request itself is not hidden: [`is_cancelled`](crate::is_cancelled) tells it inside, too. A scope opened inside is
/// fresh: neither a cancel nor a deadline from outside the shield reaches it, its own deadline does. A task that stays
/// behind a shield is reported as unresponsive, with the shield's place.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// let task = leakfree::spawn(async {
///     leakfree::shield(async {
///         // Begin and commit: a cancel between the two waits.
///         leakfree::yield_now().await;
///     })
///     .await;
///     std::future::pending::<()>().await;
/// });
/// task.abort();
/// assert!(task.await.unwrap_err().is_cancelled());
/// # });
/// ```
///
/// # Cancel safety
/// Dropped by other code than a cancellation (a `select!`, a `timeout`), `future` is dropped with it.
#[track_caller]
pub fn shield<F: IntoFuture>(future: F) -> Shield<F::IntoFuture> {
    Shield { future: future.into_future(), most: None, guard: None, made_at: Location::caller() }
}

/// As [`shield`], but holds a drop off for at most `most` from when it is due: then the shield is as good as gone, and
/// `future` is dropped with its task.
///
/// # Panics
/// Outside a leakfree runtime.
///
/// # Cancel safety
/// As [`shield`].
#[track_caller]
pub fn shield_for<F: IntoFuture>(most: Duration, future: F) -> Shield<F::IntoFuture> {
    Shield { future: future.into_future(), most: Some(most), guard: None, made_at: Location::caller() }
}

/// The future of [`shield`] and [`shield_for`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Shield<F> {
    future: F,
    most: Option<Duration>,
    guard: Option<Guard>,
    made_at: &'static Location<'static>,
}

/// A shield's notes in its task and in the scopes around it there.
struct Guard {
    task: TaskRef,
    id: u64,
    /// The scopes of this task whose bodies the shield is in. Kept, for one that moves is another task's by the time that the
    /// guard is taken down.
    bodies: Vec<Arc<ScopeInner>>,
    /// For a shield with a bound: wakes it when a drop becomes due, and when the bound is up.
    bound: Option<Bounded>,
    up: bool,
}

struct Bounded {
    most: Duration,
    /// The scope whose cancellation wakes the shield.
    around: Arc<ScopeInner>,
    key: Option<usize>,
    timer: Option<Timer>,
    leaf: Leaf,
}

impl Guard {
    fn new(task: TaskRef, site: &'static Location<'static>, most: Option<Duration>) -> Guard {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Relaxed);
        let note = ShieldNote { id, site, since_ms: frame::now_ms() };
        let around = innermost_of(task.owner_if_polled().expect("the task is the one being polled"));
        task.header().extra().shields.push(note);
        let mut bodies = Vec::new();
        let mut next = Some(Arc::clone(&around));
        while let Some(scope) = next.filter(|scope| scope.lives_in(task.as_ptr().as_ptr())) {
            scope.shields.fetch_add(1, AcqRel);
            next = scope.enclosing();
            bodies.push(scope);
        }
        let bound = most.map(|most| Bounded {
            most,
            around,
            key: None,
            timer: None,
            leaf: Leaf::at(WaitReason::Timeout, Object::None, site),
        });
        Guard { task, id, bodies, bound, up: true }
    }

    /// Whether the task, or a body that the shield is in, is to be dropped.
    fn is_drop_due(&self) -> bool {
        let mut due = self.task.header().state.load().is_dropping();
        for scope in &self.bodies {
            let ends_when_cancelled = scope.kind == ScopeKind::Try;
            due |= scope.failed.load(Acquire) || ends_when_cancelled && scope.bound() >= Bound::Dropping;
        }
        due
    }

    /// Whether the bound is up; if not, the task is woken when it is.
    fn is_bound_up(&mut self, cx: &Context<'_>) -> bool {
        let due = self.bound.is_some() && self.is_drop_due();
        let Some(bounded) = &mut self.bound else { return false };
        if !due {
            bounded.key = bounded.around.register_cancelled(cx, bounded.key);
            bounded.leaf.pending(cx);
            if !waker::is_polled_task(cx) {
                let reminder = (self.id, cx.waker().clone());
                let old = {
                    let mut extra = self.task.header().extra();
                    let place = extra.reminders.iter().position(|(id, _)| *id == self.id);
                    let old = place.map(|place| extra.reminders.swap_remove(place));
                    extra.reminders.push(reminder);
                    old
                };
                drop(old);
            }
            return false;
        }
        let most = bounded.most;
        let up = bounded.timer.get_or_insert_with(|| Timer::after("leakfree::shield_for", most)).poll(cx);
        if up {
            bounded.leaf.ready();
        } else {
            bounded.leaf.pending(cx);
        }
        up
    }

    fn take_down(&mut self) {
        if !std::mem::replace(&mut self.up, false) {
            return;
        }
        for scope in &self.bodies {
            scope.shields.fetch_sub(1, AcqRel);
        }
        let (left, reminder) = {
            let mut extra = self.task.header().extra();
            extra.shields.retain(|note| note.id != self.id);
            let place = extra.reminders.iter().position(|(id, _)| *id == self.id);
            (extra.shields.len(), place.map(|place| extra.reminders.swap_remove(place)))
        };
        drop(reminder);
        // Given up elsewhere than in the task's own poll: the drop that was held off is made up for.
        let elsewhere = !std::ptr::eq(frame::header(), self.task.as_ptr().as_ptr());
        if elsewhere && left == 0 && self.is_drop_due() {
            self.task.nudge();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.take_down();
        if let Some(Bounded { around, key: Some(key), .. }) = &self.bound {
            around.deregister_cancelled(*key);
        }
    }
}

impl<F: Future> Future for Shield<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is the only field that is pinned.
        let (future, guard, most, made_at) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.guard, this.most, this.made_at)
        };
        let Some(task) = TaskRef::polled() else {
            // No task of ours: nobody drops it but its owner.
            return future.poll(cx);
        };
        let moved = guard.as_ref().is_some_and(|guard| guard.task.as_ptr() != task.as_ptr());
        if guard.is_none() || moved {
            // The new one first: a task whose shield only moves is never without.
            let old = guard.replace(Guard::new(task, made_at, most));
            drop(old);
        }
        let before = frame::replace_shielded(true);
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll(cx)));
        frame::replace_shielded(before);
        let shield = guard.as_mut().expect("set above");
        match polled {
            Ok(Poll::Pending) => {
                if shield.up && shield.is_bound_up(cx) {
                    shield.take_down();
                }
                Poll::Pending
            }
            Ok(ready) => {
                *guard = None;
                ready
            }
            Err(payload) => {
                *guard = None;
                std::panic::resume_unwind(payload)
            }
        }
    }
}

impl<F> fmt::Debug for Shield<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield")
            .field("made_at", &self.made_at)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// When the innermost scope around the code that is running is cancelled unless it ends before: the least of its deadline
/// and those further out, up to the nearest shield. `None` if there is none.
///
/// # Panics
/// Outside a task of a leakfree runtime.
#[track_caller]
pub fn deadline() -> Option<Instant> {
    let scope = super::current();
    let ns = scope.inner.deadline_ns()?;
    let start = context::with_shared("leakfree::scope::deadline", |shared| shared.driver.clock().start());
    Instant::from_std(start).checked_add(Duration::from_nanos(ns))
}
