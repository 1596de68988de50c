//! Why a task or a scope was cancelled.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::frame;
use super::meta::TaskId;

/// What kind of event cancelled a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CancelKind {
    /// `Scope::cancel`, or a `CancelToken`'s.
    Explicit,
    /// `JoinHandle::abort`.
    Aborted,
    /// The deadline of its scope passed.
    Deadline,
    /// A sibling, or the scope's body, failed with an error or a panic.
    SiblingFailed,
    /// Something further out was cancelled; [`CancelReason::cause`] says by what kind of event.
    ParentCancelled,
    /// The scope's future was dropped before it had ended.
    ScopeDropped,
    /// The task in which the scope was opened ended while the scope's future was neither finished nor dropped: it was
    /// forgotten, or moved elsewhere and not polled since.
    ScopeForgotten,
    /// It was a daemon, and the scope's body and its other children had ended.
    DaemonsEnd,
    /// Nothing could wake it any more, and its scope was opened with `OnStuck::DropChild` or `OnStuck::CancelScope`.
    Stuck,
    /// Nothing in the runtime could run any more: see `Builder::quiescence`.
    Quiescent,
    /// The scope had ended before the task was spawned into it.
    ScopeClosed,
    /// The runtime shut down.
    Shutdown,
}

impl CancelKind {
    fn text(self) -> &'static str {
        match self {
            CancelKind::Explicit => "cancelled",
            CancelKind::Aborted => "aborted",
            CancelKind::Deadline => "its deadline passed",
            CancelKind::SiblingFailed => "a sibling failed",
            CancelKind::ParentCancelled => "its parent was cancelled",
            CancelKind::ScopeDropped => "its scope was dropped",
            CancelKind::ScopeForgotten => "its scope was forgotten",
            CancelKind::DaemonsEnd => "a daemon whose scope had ended",
            CancelKind::Stuck => "nothing could ever wake it",
            CancelKind::Quiescent => "nothing could run any more",
            CancelKind::ScopeClosed => "spawned into a scope that had ended",
            CancelKind::Shutdown => "shutdown",
        }
    }
}

/// Why a task was cancelled: what, where, by whom, when, and in whose words. The first reason given wins.
#[derive(Clone, Debug)]
pub struct CancelReason {
    kind: CancelKind,
    inherited: bool,
    site: Option<&'static Location<'static>>,
    by: Option<TaskId>,
    at_ms: u64,
    message: Option<Arc<str>>,
}

impl CancelReason {
    /// A reason that names the caller and the task being polled.
    #[track_caller]
    pub(crate) fn here(kind: CancelKind) -> CancelReason {
        CancelReason { site: Some(Location::caller()), ..CancelReason::of(kind) }
    }

    pub(crate) fn of(kind: CancelKind) -> CancelReason {
        let header = frame::header();
        // SAFETY: (I1) a task that is being polled is alive.
        let by = unsafe { header.as_ref() }.map(|header| header.record.id());
        CancelReason { kind, inherited: false, site: None, by, at_ms: frame::now_ms(), message: None }
    }

    pub(crate) fn site(mut self, site: Option<&'static Location<'static>>) -> CancelReason {
        self.site = site;
        self
    }

    pub(crate) fn because(mut self, message: impl Into<Arc<str>>) -> CancelReason {
        let message = message.into();
        self.message = (!message.is_empty()).then_some(message);
        self
    }

    pub(crate) fn at(mut self, now_ms: u64) -> CancelReason {
        self.at_ms = now_ms;
        self
    }

    /// The same reason as it shows further down the tree.
    pub(crate) fn inherited(mut self) -> CancelReason {
        self.inherited = true;
        self
    }

    /// What kind of event it was. [`CancelKind::ParentCancelled`] if the event was further out.
    pub fn kind(&self) -> CancelKind {
        if self.inherited { CancelKind::ParentCancelled } else { self.kind }
    }

    /// What kind of event began it, however far out.
    pub fn cause(&self) -> CancelKind {
        self.kind
    }

    /// Where in the code: the call that cancelled, the scope whose deadline passed, the spawn of the sibling that
    /// failed. `None` if no code asked for it, as at shutdown.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// The task that asked for it, or that failed, if it was one.
    pub fn by(&self) -> Option<TaskId> {
        self.by
    }

    /// The words given to `cancel`, or the error or panic of the sibling.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// When, in milliseconds on the runtime's clock.
    pub(crate) fn at_ms(&self) -> u64 {
        self.at_ms
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inherited {
            f.write_str("its parent was cancelled: ")?;
        }
        f.write_str(self.kind.text())?;
        if let Some(message) = &self.message {
            write!(f, " ({message})")?;
        }
        match self.site {
            Some(site) => write!(f, " at {site}"),
            None => Ok(()),
        }
    }
}
