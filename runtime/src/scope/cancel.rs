//! Cancellation: request, grace, drop.
//!
//! | bound | children | who brings it about |
//! |---|---|---|
//! | `Open` | run | |
//! | `Cancelled` | were asked to end; none is admitted any more | a cancel where there is a grace |
//! | `Dropping` | are dropped at their next suspension | a cancel without a grace |
//! | `Forced` | the same, and so is everything below | the end of a grace; the shutdown |
//!
//! A scope only ever goes down this table. A cancel gives what is below it the least of the graces on the way from the scope
//! that was cancelled down; none on the way is zero. The scope whose grace is the least has the timer, and each scope in
//! another's body has one: when it fires, all below is forced. So a scope with a grace of its own keeps it when something
//! further out is cancelled, but never has more than a scope around it that is cancelled with it.
//!
//! What was opened inside a shield is not reached from outside it, and so is not what is in the body of such a scope.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::tree::{ScopeInner, as_scope, lock};
use crate::driver::clock::saturating_ns;
use crate::loom::sync::atomic::Ordering::{AcqRel, Acquire};
use crate::report::snapshot::ScopeKind;
use crate::task::hooks::Bound;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::waker;

/// Which of a scope's two timers.
#[derive(Clone, Copy)]
enum Timer {
    Deadline = 0,
    Grace = 1,
}

/// A timer of a scope, as the waker that the driver wakes.
struct Fired {
    scope: Arc<ScopeInner>,
    timer: Timer,
}

impl Wake for Fired {
    fn wake(self: Arc<Self>) {
        match self.timer {
            Timer::Deadline => {
                let now_ms = crate::scheduler::shared::now_ms(&self.scope.shared.driver);
                let reason = CancelReason::of(CancelKind::Deadline).site(self.scope.opened_at).at(now_ms);
                self.scope.cancel_all(reason, false);
            }
            Timer::Grace => self.scope.cancel_all(self.scope.cancel_reason(), true),
        }
    }
}

impl ScopeInner {
    pub(crate) fn bound(&self) -> Bound {
        // Acquire: pairs with the release in `flag`, for the reason.
        match self.bound.load(Acquire) {
            0 => Bound::Open,
            1 => Bound::Cancelled,
            2 => Bound::Dropping,
            _ => Bound::Forced,
        }
    }

    pub(crate) fn cancel_reason(&self) -> CancelReason {
        self.reason.get().cloned().unwrap_or_else(|| CancelReason::of(CancelKind::ScopeClosed))
    }

    /// Flags the scope. False if it was flagged as far before.
    fn flag(&self, reason: &CancelReason, bound: Bound) -> bool {
        let _ = self.reason.set(reason.clone());
        if self.bound.fetch_max(bound as u8, AcqRel) >= bound as u8 {
            return false;
        }
        let wakers = {
            let mut waiters = lock(&self.cancel_waiters);
            waiters.cancelled = true;
            let wakers: Vec<_> = waiters.wakers.drain().map(waker::fire).collect();
            wakers
        };
        drop(wakers);
        // Before the children: what never ran is not to begin now.
        if let Some(limit) = &self.options.limit {
            limit.drop_held();
        }
        true
    }

    /// Cancels everything below: flags first, then the walk (S2). `force`: without any grace. Does not recurse.
    pub(crate) fn cancel_all(self: &Arc<ScopeInner>, reason: CancelReason, force: bool) {
        let below = reason.clone().inherited();
        let mut todo = vec![(Arc::clone(self), None)];
        while let Some((scope, above)) = todo.pop() {
            let own = scope.options.grace;
            let grace = match (above, own) {
                _ if force => None,
                (Some(a), Some(b)) => Some(std::cmp::min::<Duration>(a, b)),
                (above, own) => above.or(own),
            };
            let bound = match grace {
                _ if force => Bound::Forced,
                Some(grace) if !grace.is_zero() => Bound::Cancelled,
                _ => Bound::Dropping,
            };
            let itself = Arc::ptr_eq(&scope, self) || scope.kind == ScopeKind::Daemons;
            if !scope.flag(if itself { &reason } else { &below }, bound) {
                continue;
            }
            // One that is forgotten in the body of the scope that has the timer may outlive it: a timer for each of these.
            let has_timer = own == grace || scope.around().is_some();
            if let (Bound::Cancelled, true, Some(grace)) = (bound, has_timer, grace) {
                let now_ns = scope.shared.driver.clock().now_ns();
                scope.arm(Timer::Grace, now_ns, now_ns.saturating_add(saturating_ns(grace)));
            }
            if bound >= Bound::Dropping && scope.kind == ScopeKind::Try {
                scope.nudge_owner();
            }
            let inner = scope.inner_scopes().into_iter().filter(|scope| !scope.is_sealed());
            todo.extend(inner.map(|inner| (inner, grace)));
            scope.flag_children(bound >= Bound::Dropping, |branches| {
                let scopes =
                    branches.into_iter().filter_map(as_scope).filter(|scope| scope.is_reached_first());
                todo.extend(scopes.map(|scope| (scope, grace)));
            });
        }
    }

    // ---- timers -----------------------------------------------------------------------------

    /// Arms the scope's deadline, if it has one.
    pub(super) fn arm_deadline(self: &Arc<ScopeInner>) {
        let Some(deadline) = self.options.deadline_ns else { return };
        let now_ns = self.shared.driver.clock().now_ns();
        if now_ns >= deadline {
            let reason = CancelReason::of(CancelKind::Deadline).site(self.opened_at);
            self.cancel_all(reason, false);
        } else {
            self.arm(Timer::Deadline, now_ns, deadline);
        }
    }

    fn arm(self: &Arc<ScopeInner>, timer: Timer, now_ns: u64, deadline_ns: u64) {
        let waker = Waker::from(Arc::new(Fired { scope: Arc::clone(self), timer }));
        let Some(key) = self.shared.local().arm(now_ns, deadline_ns, waker) else { return };
        let old = {
            let mut end = lock(&self.end);
            if self.is_over() { Some(key) } else { end.timers[timer as usize].replace(key) }
        };
        if let Some(old) = old {
            self.shared.driver.disarm(old);
        }
    }

    /// When the scope is cancelled unless it ends before: its own deadline or one further out, in nanoseconds on the
    /// runtime's clock.
    pub(crate) fn deadline_ns(self: &Arc<ScopeInner>) -> Option<u64> {
        let mut least = None;
        let mut next = Some(Arc::clone(self));
        while let Some(scope) = next {
            least = [least, scope.options.deadline_ns].into_iter().flatten().min();
            next = if scope.is_sealed() { None } else { scope.enclosing() };
        }
        least
    }

    /// The same, where that of the scope that bounds its task is known: for who goes over a deep tree from above.
    pub(crate) fn deadline_ns_under(self: &Arc<ScopeInner>, bounding: Option<u64>) -> Option<u64> {
        let mut scope = Arc::clone(self);
        let mut least = scope.options.deadline_ns;
        while !scope.is_sealed() {
            let Some(around) = scope.around() else { return [least, bounding].into_iter().flatten().min() };
            least = [least, around.options.deadline_ns].into_iter().flatten().min();
            scope = around;
        }
        least
    }

    // ---- who waits for it -------------------------------------------------------------------

    /// Registers a waiter for the cancellation. `None` if it has come.
    pub(crate) fn register_cancelled(&self, cx: &Context<'_>, key: Option<usize>) -> Option<usize> {
        let mut waiters = lock(&self.cancel_waiters);
        if waiters.cancelled {
            return None;
        }
        let old;
        let key = match key {
            Some(key) => {
                old = if waker::will_wake(&waiters.wakers[key], cx) {
                    None
                } else {
                    Some(std::mem::replace(&mut waiters.wakers[key], waker::register(cx)))
                };
                key
            }
            None => {
                old = None;
                waiters.wakers.insert(waker::register(cx))
            }
        };
        drop(waiters);
        drop(old);
        Some(key)
    }

    pub(crate) fn deregister_cancelled(&self, key: usize) {
        let old = {
            let mut waiters = lock(&self.cancel_waiters);
            if waiters.cancelled { None } else { waiters.wakers.try_remove(key) }
        };
        drop(old);
    }
}
