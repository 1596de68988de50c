//! Where a scope is in the tree: the task that it lives in, the scope around it, and what moves with it when another task polls its future. See
//! S2 and S3 in `tree.rs`.

use std::sync::Arc;

use super::tree::{ScopeInner, as_scope, innermost_of, lock, scopes_of};
use crate::loom::sync::atomic::Ordering::Release;
use crate::loom::sync::{Mutex, MutexGuard};
use crate::report::snapshot::ScopeKind;
use crate::task::frame;
use crate::task::header::Header;
use crate::task::hooks::{Bound, Branch};
use crate::task::raw::TaskRef;
use crate::task::wait::WaitReason;

/// Where a scope is in the tree. It changes when the scope's future moves to another task.
#[derive(Default)]
pub(super) struct Place {
    /// The task that the scope lives in; `None` for the root and for a scope at another's side.
    pub(super) owner: Option<TaskRef>,
    /// The scope around it, in the same task or the one that bounds that task; `None` for the root.
    pub(super) enclosing: Option<Arc<ScopeInner>>,
    /// It is in the body of that one, in the same task.
    pub(super) inside: bool,
    pub(super) depth: u32,
}

impl Place {
    pub(super) fn is_in(&self, task: *const Header) -> bool {
        self.owner.as_ref().is_some_and(|owner| std::ptr::eq(owner.as_ptr().as_ptr(), task))
    }

    pub(super) fn parts(&self) -> (Option<TaskRef>, Option<Arc<ScopeInner>>, bool) {
        (self.owner.clone(), self.enclosing.clone(), self.inside)
    }
}

/// (S3) One scope at a time moves to another task: what is in its body may be moving to a third one.
fn moving() -> MutexGuard<'static, ()> {
    #[cfg(not(loom))]
    static MOVING: Mutex<()> = Mutex::new(());
    #[cfg(loom)]
    ::loom::lazy_static! {
        static ref MOVING: Mutex<()> = Mutex::new(());
    }
    lock(&MOVING)
}

impl ScopeInner {
    /// Makes the polled task the scope's owner.
    pub(super) fn settle_in(self: &Arc<ScopeInner>, task: TaskRef) {
        let owner = task.owner_if_polled().expect("the task is the one being polled");
        let enclosing = innermost_of(owner);
        let inside = !frame::scope().is_null();
        // In the tree from now on, so that a cancellation finds what will be below it.
        if !task.header().is_linked() {
            let bound = owner.link(task.as_ptr());
            if bound != Bound::Open {
                let _ = task.header().state.cancel(bound >= Bound::Dropping);
            }
        }
        enclosing.encloses.store(true, Release);
        let depth = lock(&enclosing.place).depth + 1;
        let place =
            Place { owner: Some(task.clone()), enclosing: Some(Arc::clone(&enclosing)), inside, depth };
        let old = std::mem::replace(&mut *lock(&self.place), place);
        // Dropped outside the lock.
        drop(old);
        task.header().extra().branches.push(Arc::clone(self) as Arc<dyn Branch>);
        // (S2) Again: the one around may be on the move, and who counts below it may have missed us.
        self.count_depth();
        if self.is_sealed() {
            return;
        }
        // (S2) Branch first, flags after. What cancels the task reaches us through the scope that we are in the body of.
        if enclosing.bound() != Bound::Open {
            self.cancel_all(enclosing.cancel_reason().inherited(), enclosing.bound() == Bound::Forced);
        } else if !inside && task.header().state.load().is_cancelled() {
            let own = task.header().existing_extra().and_then(|extra| extra.cancel.clone());
            self.cancel_all(own.unwrap_or_else(|| enclosing.cancel_reason()).inherited(), false);
        }
    }

    /// The scope's future is polled by another task than before: that one is its owner from now on.
    pub(super) fn follow(self: &Arc<ScopeInner>, task: TaskRef) {
        let moving = moving();
        // (S3) We are the new owner's first.
        let from = lock(&self.place).owner.replace(task.clone());
        // Scopes in our body move with it, whether they are polled this time or not.
        let carried = from.as_ref().map(|from| self.carry(from, &task)).unwrap_or_default();
        let taken = from.as_ref().and_then(|from| self.take_from(from));
        drop(moving);
        // Dropped outside the locks.
        drop((from, taken));
        // Adopted ones, whose end looked for them where they were before.
        carried.iter().filter(|scope| scope.is_over()).for_each(|scope| scope.unbranch());
        self.settle_in(task);
        // The owner before may be waiting for our end, for its own body has ended: it need not any more.
        self.wake_waiting();
        carried.iter().for_each(|scope| scope.wake_waiting());
        carried.iter().for_each(ScopeInner::heed);
        self.look_below();
    }

    /// Whether the polled task is below us: with us in it the two would hang on each other, out of anybody's reach.
    pub(super) fn is_above(self: &Arc<ScopeInner>, task: &TaskRef) -> bool {
        let around = task.owner_if_polled().map(innermost_of);
        std::iter::successors(around, |scope| scope.enclosing()).any(|scope| Arc::ptr_eq(&scope, self))
    }

    /// Moves the scopes in our body from one task to another, and returns them. The caller holds `moving`.
    fn carry(self: &Arc<ScopeInner>, from: &TaskRef, to: &TaskRef) -> Vec<Arc<ScopeInner>> {
        let mut rest = scopes_of(from);
        let mut carried: Vec<Arc<ScopeInner>> = Vec::new();
        // Each is looked at once for each that is around it. One that is over is carried, too: its end may not have handed
        // on yet what it encloses.
        let mut around = Arc::as_ptr(self);
        let mut at = 0;
        loop {
            let (inside, others) = rest.into_iter().partition(|scope| {
                scope.enclosing().is_some_and(|scope| std::ptr::eq(Arc::as_ptr(&scope), around))
            });
            rest = others;
            carried.extend::<Vec<_>>(inside);
            let Some(next) = carried.get(at) else { break };
            around = Arc::as_ptr(next);
            at += 1;
        }
        // What is in a scope comes after it (S3).
        for scope in &carried {
            lock(&scope.place).owner = Some(to.clone());
            drop(scope.take_from(from));
            to.header().extra().branches.push(Arc::clone(scope) as Arc<dyn Branch>);
        }
        carried
    }

    /// (S2) A walk may have missed us between two places; it has flagged the scope around us, or our task, before.
    pub(super) fn heed(self: &Arc<ScopeInner>) {
        let (owner, enclosing, inside) = lock(&self.place).parts();
        let (Some(owner), Some(enclosing), false) = (owner, enclosing, self.is_sealed()) else { return };
        let (bound, is_open) = (enclosing.bound(), self.bound() == Bound::Open);
        if bound == Bound::Forced || bound != Bound::Open && is_open {
            self.cancel_all(enclosing.cancel_reason().inherited(), bound == Bound::Forced);
        } else if !inside && is_open && owner.header().state.load().is_cancelled() {
            let own = owner.header().existing_extra().and_then(|extra| extra.cancel.clone());
            self.cancel_all(own.unwrap_or_else(|| enclosing.cancel_reason()).inherited(), false);
        }
    }

    /// With the scope's place its ancestors have changed, and those of all below: counts their depths again, and has every
    /// task polled that may wait for another's end, for that one may be its ancestor now.
    fn look_below(self: &Arc<ScopeInner>) {
        let mut below = vec![Arc::clone(self)];
        let mut at = 0;
        while let Some(scope) = below.get(at).cloned() {
            at += 1;
            below.extend(scope.inner_scopes());
            scope.for_each_child(|task| {
                below.extend(scopes_of(task).into_iter().filter(|scope| !lock(&scope.place).inside));
            });
        }
        // Each after the one that encloses it; in turn with whoever counts some of them for another move.
        let moving = moving();
        below.iter().for_each(|scope| scope.count_depth());
        drop(moving);
        for scope in below {
            scope.for_each_child(|task| {
                if may_wait_for_a_task(task) {
                    task.nudge();
                }
            });
        }
    }

    fn count_depth(&self) {
        let mut place = lock(&self.place);
        let depth = place.enclosing.as_ref().map(|enclosing| lock(&enclosing.place).depth + 1);
        place.depth = depth.unwrap_or(0);
    }

    /// The task that the scope lives in; of a scope at another's side, the one that the other lives in.
    pub(crate) fn owner(&self) -> Option<TaskRef> {
        let place = lock(&self.place);
        if place.owner.is_some() || !self.is_side() {
            return place.owner.clone();
        }
        let around = place.enclosing.clone()?;
        drop(place);
        around.owner()
    }

    /// The scope around this one.
    pub(crate) fn enclosing(&self) -> Option<Arc<ScopeInner>> {
        lock(&self.place).enclosing.clone()
    }

    pub(super) fn is_side(&self) -> bool {
        matches!(self.kind, ScopeKind::Daemons | ScopeKind::Cleanups)
    }

    /// Whether the task is the one that the scope lives in.
    pub(super) fn lives_in(&self, task: *const Header) -> bool {
        lock(&self.place).is_in(task)
    }

    /// Whether a task that this scope bounds is below `other`.
    pub(crate) fn is_below(&self, other: &Header, branches: &[Arc<dyn Branch>]) -> bool {
        let depth_of =
            |branch: &Arc<dyn Branch>| as_scope(Arc::clone(branch)).map(|scope| lock(&scope.place).depth);
        let Some(least) = branches.iter().filter_map(depth_of).min() else { return false };
        let mut depth = lock(&self.place).depth;
        let mut next = (depth >= least).then(|| (self.owner(), self.enclosing()));
        while let Some((owner, enclosing)) = next {
            if owner.is_some_and(|owner| std::ptr::eq(owner.as_ptr().as_ptr(), other)) {
                return true;
            }
            next = enclosing.filter(|_| depth > least).map(|scope| {
                depth = lock(&scope.place).depth;
                (scope.owner(), scope.enclosing())
            });
        }
        false
    }
}

/// Whether a task may be parked on the end of another one: not if it has recorded one wait, for something else; nor if nothing can wake it,
/// which was said of it perhaps.
fn may_wait_for_a_task(task: &TaskRef) -> bool {
    let header = task.header();
    if header.state.load().is_unwakeable() {
        return false;
    }
    let Some(copy) = header.record.read(|| header.state.load().is_idle()) else { return true };
    copy.waits != 1 || copy.first.is_none_or(|wait| wait.reason == WaitReason::Join)
}
