//! One request: its scope, from the call of the service to the end of the response's body.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, StatusCode, Version};
use tower_service::Service;

use crate::report::snapshot::TaskKind;
use crate::scope::Scope;

/// As much of a path as a name has room for.
const PATH_MAX: usize = 64;

/// Who is at the other end of the connection that a request came in by, in each request's extensions. With axum:
/// `Extension(Peer(addr)): Extension<Peer<SocketAddr>>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer<A>(pub A);

/// The service that hyper calls, one per connection.
#[derive(Debug)]
pub(super) struct Requests<S, A> {
    pub(super) service: S,
    pub(super) peer: A,
    /// The connection's scope.
    pub(super) connection: Scope,
    pub(super) place: &'static Location<'static>,
}

impl<S, A, B> hyper::service::Service<Request<Incoming>> for Requests<S, A>
where
    A: Clone + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
{
    type Response = Response<InScope<B>>;
    type Error = S::Error;
    type Future = Answer<B, S::Error>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<B, S::Error> {
        request.extensions_mut().insert(Peer(self.peer.clone()));
        let name = name(&request);
        let can_upgrade = request.version() < Version::HTTP_2;
        let mut service = self.service.clone();
        let answered = Arc::new(Mutex::new(None));
        let scope = {
            let answered = Arc::clone(&answered);
            Scope::builder()
                .name(name)
                .scope(move |_| async move {
                    let answer = match poll_fn(|cx| service.poll_ready(cx)).await {
                        Ok(()) => service.call(request).await,
                        Err(error) => Err(error),
                    };
                    *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                })
                .opened_for(self.place)
        };
        Answer {
            scope: Some(Box::pin(scope)),
            answered,
            can_upgrade,
            connection: self.connection.clone(),
            place: self.place,
        }
    }
}

/// `request GET /users/7`. What comes after the path may be secret.
fn name(request: &Request<Incoming>) -> Arc<str> {
    let path = request.uri().path();
    let (mut end, mut more) = (path.len(), "");
    if end > PATH_MAX {
        (end, more) = (PATH_MAX, "...");
        while !path.is_char_boundary(end) {
            end -= 1;
        }
    }
    format!("request {} {}{more}", request.method(), &path[..end]).into()
}

/// What the service said, as soon as it has.
type Answered<B, E> = Arc<Mutex<Option<Result<Response<B>, E>>>>;
/// The request's scope, as a future that ends with it.
type ScopeEnd = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The answer to a request: ready when the service has answered, and what it has left behind lets the answer go.
pub(super) struct Answer<B, E> {
    /// `None` once it was handed on.
    scope: Option<ScopeEnd>,
    answered: Answered<B, E>,
    /// HTTP/2 has no upgrades of whole connections.
    can_upgrade: bool,
    connection: Scope,
    place: &'static Location<'static>,
}

impl<B: Body, E> Future for Answer<B, E> {
    type Output = Result<Response<InScope<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut scope = this.scope.take().expect("an answer was polled after it was ready");
        let ended = scope.as_mut().poll(cx).is_ready();
        let mut answered = this.answered.lock().unwrap_or_else(PoisonError::into_inner);
        // A body whose size is known beforehand is let go of when it has been sent, not at its end: it has to wait here.
        let can_upgrade = this.can_upgrade;
        let wait = |answer: &mut Result<Response<B>, E>| match answer {
            Ok(response) if can_upgrade && is_upgrade(response) => false,
            Ok(response) => !ended && response.body().size_hint().exact().is_some(),
            Err(_) => !ended,
        };
        match answered.take_if(|answer| !wait(answer)) {
            Some(answer) => {
                drop(answered);
                let mut scope = (!ended).then_some(scope);
                if can_upgrade && answer.as_ref().is_ok_and(is_upgrade) {
                    // What waits for the upgrade goes on, up to the end of the connection's scope. The task that we are in
                    // does not end before that, so the scope is never left to nobody.
                    if let Some(scope) = scope.take() {
                        drop(self.connection.spawn_task(TaskKind::Async, self.place, None, scope));
                    }
                }
                Poll::Ready(answer.map(|response| response.map(|body| InScope { body, ended: false, scope })))
            }
            None => {
                debug_assert!(!ended, "a scope that ended without a panic has its body's output");
                this.scope = Some(scope);
                Poll::Pending
            }
        }
    }
}

/// Whether the connection is the handler's own from here on.
fn is_upgrade<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// A response's body, and what is left of the request's scope: the body does not end before it.
pub(super) struct InScope<B> {
    body: B,
    ended: bool,
    scope: Option<ScopeEnd>,
}

impl<B: Body> Body for InScope<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        // SAFETY: the body is not moved out of here, has no other way in than this, and is dropped where it is;
        // the scope is pinned by its box.
        let (body, ended, scope) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.body), &mut this.ended, &mut this.scope)
        };
        if scope.as_mut().is_some_and(|scope| scope.as_mut().poll(cx).is_ready()) {
            *scope = None;
        }
        let frame = if *ended { None } else { ready!(body.poll_frame(cx)) };
        *ended = frame.is_none();
        if frame.is_none() && scope.is_some() { Poll::Pending } else { Poll::Ready(frame) }
    }

    fn is_end_stream(&self) -> bool {
        self.scope.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, E> fmt::Debug for Answer<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for InScope<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InScope").field("over", &self.scope.is_none()).finish_non_exhaustive()
    }
}
