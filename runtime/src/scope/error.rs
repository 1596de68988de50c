//! The one error type of a `try_scope`, and the handle of its children.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::tree::{ScopeInner, innermost_of};
use crate::task::frame;
use crate::task::join::{JoinError, JoinHandle};
use crate::task::meta::TaskId;
use crate::task::raw::TaskRef;
use crate::task::reason::CancelReason;

/// A `try_scope` did not come to its value: always this type, whatever happened.
///
/// Siblings that were cancelled because of the first failure are left out.
#[derive(Debug)]
pub struct ScopeError<E> {
    /// What ended the scope.
    pub first: ScopeFailure<E>,
    /// Errors that children returned after that, in their order.
    pub rest: Vec<E>,
}

/// What ended a `try_scope`.
#[derive(Debug)]
pub enum ScopeFailure<E> {
    /// A child or the body returned this error.
    Error(E),
    /// The scope was cancelled before its body had ended: its deadline passed, or `cancel` was called.
    Cancelled(CancelReason),
}

impl<E> ScopeError<E> {
    /// The error that a child or the body returned first; `None` if the scope was cancelled.
    pub fn into_error(self) -> Option<E> {
        match self.first {
            ScopeFailure::Error(error) => Some(error),
            ScopeFailure::Cancelled(_) => None,
        }
    }

    /// Why the scope was cancelled, if no error ended it.
    pub fn cancel_reason(&self) -> Option<&CancelReason> {
        match &self.first {
            ScopeFailure::Error(_) => None,
            ScopeFailure::Cancelled(reason) => Some(reason),
        }
    }
}

impl<E: fmt::Display> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            ScopeFailure::Error(error) => error.fmt(f)?,
            ScopeFailure::Cancelled(reason) => write!(f, "the scope was cancelled: {reason}")?,
        }
        match self.rest.len() {
            0 => Ok(()),
            1 => write!(f, " (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl<E: Error + 'static> Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.first {
            ScopeFailure::Error(error) => Some(error),
            ScopeFailure::Cancelled(_) => None,
        }
    }
}

/// Runs a child of a try scope: an error goes to the scope, the value to the handle.
pub(super) struct TryChild<F> {
    pub(super) future: F,
    pub(super) scope: Arc<ScopeInner>,
}

impl<F, T, E> Future for TryChild<F>
where
    F: Future<Output = Result<T, E>>,
    E: Send + 'static,
{
    type Output = Option<T>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // SAFETY: `future` is the only field that is pinned.
        let (future, scope) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &this.scope)
        };
        future.poll(cx).map(|result| match result {
            Ok(value) => Some(value),
            Err(error) => {
                scope.keep_error(Box::new(error));
                None
            }
        })
    }
}

/// The value of a child of a [`try_scope`](super::try_scope): await it to get the value itself.
///
/// There is no error to look at. If the child fails, the whole scope ends with its error, and whoever awaits inside of the
/// scope is dropped where it waits.
///
/// # Cancel safety
/// Awaiting `&mut handle` is cancel safe: a value that was not returned is still there.
#[must_use = "the child runs all the same; await the handle for its value"]
pub struct TryHandle<T> {
    pub(super) handle: JoinHandle<Option<T>>,
    pub(super) scope: Arc<ScopeInner>,
    pub(super) failed: bool,
}

impl<T> TryHandle<T> {
    /// The child's id, as reports show it.
    pub fn id(&self) -> TaskId {
        self.handle.id()
    }

    /// Whether the child has completed, and everything below it. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Whether the code that is running will be dropped with the scope.
    fn ends_with_scope(&self) -> bool {
        let Some(task) = TaskRef::polled() else { return false };
        let Some(owner) = task.owner_if_polled() else { return false };
        let mut shielded = frame::is_shielded();
        let mut next = Some(innermost_of(owner));
        while let Some(scope) = next.filter(|_| !shielded) {
            if Arc::ptr_eq(&scope, &self.scope) {
                return true;
            }
            shielded = scope.is_sealed();
            next = scope.enclosing();
        }
        false
    }

    #[track_caller]
    fn no_value(&self, error: Option<&JoinError>) -> Poll<T> {
        let deadlock = error.is_some_and(JoinError::is_would_deadlock);
        if !deadlock && self.ends_with_scope() {
            // Whoever awaits here is dropped next.
            return Poll::Pending;
        }
        let id = self.id();
        if let Some(error) = error.filter(|_| deadlock) {
            panic!("{error}");
        }
        let why = error.map_or("it returned an error".to_owned(), ToString::to_string);
        panic!(
            "the value of task {id} never comes ({why}), and the code that awaits it does not end with its `try_scope`: \
             it is outside of it, or behind a shield. Await it inside, or use `spawn` and look at the result"
        )
    }
}

impl<T> Future for TryHandle<T> {
    type Output = T;

    /// # Panics
    /// If the child failed and the code that awaits does not end with the scope. When polled again after it was ready.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.failed {
            return self.no_value(None);
        }
        match Pin::new(&mut self.handle).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(value))) => Poll::Ready(value),
            Poll::Ready(result) => {
                self.failed = true;
                self.no_value(result.err().as_ref())
            }
        }
    }
}

impl<T> fmt::Debug for TryHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
