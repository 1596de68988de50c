//! Children and bodies that fail: who is cancelled for it, and what is kept for whom.

use std::any::Any;
use std::sync::Arc;
use std::task::Context;

use super::tree::{Panic, ScopeInner, lock};
use crate::loom::sync::atomic::Ordering::Release;
use crate::report::snapshot::{IncidentKind, ScopeKind};
use crate::task::frame;
use crate::task::join::panic_message;
use crate::task::reason::{CancelKind, CancelReason};
use crate::task::waker;

impl ScopeInner {
    /// A child panicked. A supervising scope leaves the payload to the handle; any other keeps the first, cancels
    /// what it bounds, and has its owner polled so that the body ends.
    pub(crate) fn child_panicked(
        self: &Arc<ScopeInner>,
        payload: Box<dyn Any + Send>,
    ) -> Box<dyn Any + Send> {
        match self.kind {
            ScopeKind::Root | ScopeKind::Supervisor => payload,
            ScopeKind::Daemons | ScopeKind::Cleanups => match self.enclosing() {
                Some(scope) => scope.child_panicked(payload),
                None => payload,
            },
            ScopeKind::Plain | ScopeKind::Try => {
                let message = panic_message(&*payload).to_owned();
                self.keep_panic(payload);
                Box::new(message)
            }
        }
    }

    /// Keeps the first panic for the scope's caller, and fails the scope.
    pub(crate) fn keep_panic(self: &Arc<ScopeInner>, payload: Box<dyn Any + Send>) {
        let message = panic_message(&*payload).to_owned();
        let spare = {
            let mut end = lock(&self.end);
            match end.panic {
                Some(_) => Some(payload),
                None => {
                    end.panic = Some((payload, frame::spawned_at()));
                    None
                }
            }
        };
        if let Some(spare) = spare {
            self.spare_panic(&message);
            // A payload's own drop may panic; the first panic is the one that is told.
            waker::forgive(|| drop(spare));
        }
        self.fail(&message);
    }

    /// A child or the body of a try scope returned an error.
    pub(crate) fn keep_error(self: &Arc<ScopeInner>, error: Box<dyn Any + Send>) {
        lock(&self.end).errors.push(error);
        self.fail("");
    }

    /// Cancels what the scope bounds, and has its body dropped at its next suspension.
    fn fail(self: &Arc<ScopeInner>, message: &str) {
        // Release: pairs with the acquire where the body is polled.
        self.failed.store(true, Release);
        let reason = CancelReason::of(CancelKind::SiblingFailed).site(frame::spawned_at());
        self.cancel_all(reason.because(message), false);
        self.nudge_owner();
    }

    /// Notes what polls the body, for `nudge_owner`. The task itself needs no note, and has none, so that it can be proven
    /// unwakeable.
    pub(super) fn note_body(&self, cx: &Context<'_>) {
        if waker::is_polled_task(cx) {
            return;
        }
        let old = {
            let mut end = lock(&self.end);
            match &end.body_waker {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                _ => end.body_waker.replace(cx.waker().clone()),
            }
        };
        drop(old);
    }

    /// The body is gone.
    pub(super) fn forget_body(&self) {
        let old = lock(&self.end).body_waker.take();
        drop(old);
    }

    pub(super) fn nudge_owner(&self) {
        let body = {
            let mut end = lock(&self.end);
            // There is no body any more, and its task, which may have been proven unwakeable since, is left alone.
            if end.unwanted {
                return;
            }
            end.body_waker.take()
        };
        if let Some(body) = body {
            waker::wake_foreign(body);
        }
        let owner = lock(&self.place).owner.clone();
        if let Some(owner) = owner {
            owner.nudge();
        }
    }

    /// A panic that nobody is handed goes to the report.
    pub(crate) fn spare_panic(&self, message: &str) {
        self.shared.incidents.note(IncidentKind::SparePanic, frame::spawned_at(), message);
    }

    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.end).panic.take().map(|(payload, _)| payload)
    }

    /// The scope's future was dropped: if the end has come nobody takes its panic, if not the end sees to it.
    pub(super) fn abandon(&self) {
        // Release: pairs with the acquire where a branch is closed. The end looks under its lock.
        self.abandoned.store(true, Release);
        let lost = {
            let mut end = lock(&self.end);
            end.unwanted = true;
            if self.is_over() { end.panic.take() } else { None }
        };
        self.tell_lost(lost);
    }

    pub(super) fn tell_lost(&self, lost: Option<Panic>) {
        let Some((payload, site)) = lost else { return };
        self.shared.incidents.note(IncidentKind::SparePanic, site, panic_message(&*payload));
        // A payload's own drop may panic.
        waker::forgive(|| drop(payload));
    }

    pub(super) fn take_errors(&self) -> Vec<Box<dyn Any + Send>> {
        std::mem::take(&mut lock(&self.end).errors)
    }
}
