//! A bound on how many children of a scope run at once.
//!
//! A child is *running* from the moment it is handed to the scheduler until it has left; the others are *held back*: they
//! have a task, count as scheduled, and lie here until a running one leaves. `spawn_when_free` waits for a free place
//! without making a task. Who was held back first goes first, those who wait in `spawn_when_free` after all of them.
//!
//! The limit is a branch of each task that it holds back, so that an abort of that task reaches it.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::tree::{ScopeInner, lock};
use crate::loom::sync::Mutex;
use crate::task::hooks::{Branch, Cause};
use crate::task::reason::CancelReason;
use crate::task::runnable::Runnable;
use crate::task::wait::{Leaf, Object, WaitReason};
use crate::task::waiters::{self, Waiters};
use crate::task::waker::Woken;

pub(crate) struct Limit {
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// Running children, and places granted in `waiting` that are not used yet. More than the bound while children that
    /// were held back are being dropped.
    running: usize,
    held: VecDeque<Runnable>,
    waiting: Waiters,
}

impl Limit {
    pub(crate) fn new(most: usize) -> Limit {
        Limit {
            most,
            state: Mutex::new(State { running: 0, held: VecDeque::new(), waiting: Waiters::new() }),
        }
    }

    /// Schedules the child, or holds it back. `granted`: its place was granted before.
    pub(super) fn admit(self: &Arc<Limit>, task: Runnable, granted: bool) {
        let mut state = lock(&self.state);
        if !granted {
            if state.running >= self.most {
                task.header().extra().branches.push(Arc::clone(self) as Arc<dyn Branch>);
                state.held.push_back(task);
                return;
            }
            state.running += 1;
        }
        drop(state);
        task.schedule(Cause::Spawned);
    }

    /// A child has left, or a granted place is given back: the next one has it.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        if state.running > self.most {
            // It was held back when it was dropped: it had no place to pass on.
            state.running -= 1;
            return;
        }
        if let Some(next) = state.held.pop_front() {
            drop(state);
            self.let_go(&next);
            next.schedule(Cause::Spawned);
            return;
        }
        let woken = state.waiting.grant();
        if woken.is_none() {
            state.running -= 1;
        }
        drop(state);
        drop(woken);
    }

    /// The scope is cancelled: what is held back is dropped unpolled, and nobody waits any more.
    pub(super) fn drop_held(&self) {
        let (held, woken): (_, Vec<Woken>) = {
            let mut state = lock(&self.state);
            // They leave like the others.
            state.running += state.held.len();
            let woken = state.waiting.grant_all();
            state.running += woken.len();
            (std::mem::take(&mut state.held), woken)
        };
        for task in held {
            // We hold its wake: the answer is never `Enqueue`.
            let _ = task.header().state.cancel(true);
            self.let_go(&task);
            task.schedule(Cause::Spawned);
        }
        drop(woken);
    }

    /// Schedules those that were aborted while they were held back: they are dropped unpolled, and leave like the others.
    fn drop_aborted(&self) {
        let mut aborted = Vec::new();
        {
            let mut state = lock(&self.state);
            let held = std::mem::take(&mut state.held);
            for task in held {
                if task.header().state.load().is_dropping() {
                    aborted.push(task);
                } else {
                    state.held.push_back(task);
                }
            }
            state.running += aborted.len();
        }
        for task in aborted {
            self.let_go(&task);
            task.schedule(Cause::Spawned);
        }
    }

    /// The task is held back no longer.
    fn let_go(&self, task: &Runnable) {
        let this: *const Limit = self;
        if let Some(mut extra) = task.header().existing_extra() {
            extra.branches.retain(|branch| !std::ptr::eq(Arc::as_ptr(branch).cast(), this));
        }
    }

    pub(crate) fn held_back(&self) -> usize {
        lock(&self.state).held.len()
    }
}

impl Branch for Limit {
    fn close_branch(self: Arc<Self>, _cx: &Context<'_>, _reason: CancelReason) -> bool {
        true
    }

    fn cancel_branch(self: Arc<Self>, _reason: CancelReason) {
        self.drop_aborted();
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Waits for a free place: the first half of [`Scope::spawn_when_free`](super::Scope::spawn_when_free).
pub(super) struct Free {
    scope: Arc<ScopeInner>,
    place: Option<waiters::Place>,
    leaf: Leaf,
}

impl Free {
    pub(super) fn new(scope: Arc<ScopeInner>, leaf: Leaf) -> Free {
        Free { scope, place: None, leaf }
    }

    pub(super) fn scope(&self) -> &Arc<ScopeInner> {
        &self.scope
    }

    #[track_caller]
    pub(super) fn leaf(scope: &ScopeInner) -> Leaf {
        Leaf::new(WaitReason::SpawnWhenFree, Object::Scope(scope.id))
    }
}

impl Future for Free {
    /// Whether the place is to be given back: false without a bound, and for a cancelled scope.
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let Some(limit) = &this.scope.options.limit else { return Poll::Ready(false) };
        let mut state = lock(&limit.state);
        let old = match this.place {
            Some(place) => match state.waiting.poll(place, cx, ()) {
                Ok(()) => {
                    state.waiting.leave(place);
                    this.place = None;
                    drop(state);
                    this.leaf.ready();
                    return Poll::Ready(true);
                }
                Err(old) => old,
            },
            // Whoever came before is served before.
            None if state.running < limit.most && state.held.is_empty() && state.waiting.is_empty() => {
                state.running += 1;
                return Poll::Ready(true);
            }
            None => {
                this.place = Some(state.waiting.join(cx, ()));
                None
            }
        };
        drop(state);
        drop(old);
        // Looked at after joining: a cancel that came before has granted nobody.
        if this.scope.bound() != crate::task::hooks::Bound::Open {
            this.give_up();
            this.leaf.ready();
            return Poll::Ready(false);
        }
        this.leaf.pending(cx);
        Poll::Pending
    }
}

impl Free {
    fn give_up(&mut self) {
        let (Some(place), Some(limit)) = (self.place.take(), &self.scope.options.limit) else { return };
        let waker = lock(&limit.state).waiting.leave(place);
        if waker.is_none() {
            // Granted and not used.
            limit.leave();
        }
        drop(waker);
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        self.give_up();
    }
}
