//! One request: its scope, from the call of the service to the end of the response's body.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response, StatusCode, Version};
use tower_service::Service;

use crate::report::snapshot::TaskKind;
use crate::scope::Scope;
use crate::sync::oneshot;

/// As much of a path as a name has room for, and of a method, which may be any word.
const PATH_MAX: usize = 64;
const METHOD_MAX: usize = 16;

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
        let upgrade = Upgrade::of(&request);
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
            upgrade,
            moving: None,
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
    let method = request.method().as_str();
    format!("request {} {}{more}", method.get(..METHOD_MAX).unwrap_or(method), &path[..end]).into()
}

/// With which answer the handler takes what the request came in by for its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Upgrade {
    Never,
    /// The connection, by a switch of protocols. HTTP/2 has none.
    Switch,
    /// The connection, in HTTP/2 the stream, as a tunnel.
    Connect,
}

impl Upgrade {
    fn of(request: &Request<Incoming>) -> Upgrade {
        match request.version() {
            _ if request.method() == Method::CONNECT => Upgrade::Connect,
            version if version < Version::HTTP_2 => Upgrade::Switch,
            _ => Upgrade::Never,
        }
    }

    fn is_by<B>(self, response: &Response<B>) -> bool {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self {
            Upgrade::Never => false,
            Upgrade::Switch => switches,
            Upgrade::Connect => switches || response.status().is_success(),
        }
    }
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
    upgrade: Upgrade,
    /// An upgrade: the scope is on its way to a task of its own. Over when that has it.
    moving: Option<oneshot::Receiver<()>>,
    connection: Scope,
    place: &'static Location<'static>,
}

impl<B, E> Answer<B, E> {
    fn answered(&self) -> MutexGuard<'_, Option<Result<Response<B>, E>>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_upgrade(&self) -> bool {
        matches!(&*self.answered(), Some(Ok(response)) if self.upgrade.is_by(response))
    }

    /// What waits for the upgrade goes on, up to the end of the connection's scope. The task that we are in may be over with the answer, and
    /// would take along what nobody else has polled.
    fn move_on(&mut self, mut scope: ScopeEnd) {
        let (taken, moving) = oneshot::channel();
        let mut taken = Some(taken);
        let scope = poll_fn(move |cx| {
            let polled = scope.as_mut().poll(cx);
            drop(taken.take());
            polled
        });
        drop(self.connection.spawn_task(TaskKind::Async, self.place, None, scope));
        self.moving = Some(moving);
    }
}

impl<B: Body, E> Future for Answer<B, E> {
    type Output = Result<Response<InScope<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut ended = true;
        if this.moving.is_none() {
            let mut scope = this.scope.take().expect("an answer was polled after it was ready");
            ended = scope.as_mut().poll(cx).is_ready();
            match !ended && this.is_upgrade() {
                true => this.move_on(scope),
                false => this.scope = Some(scope),
            }
        }
        if let Some(moving) = &mut this.moving {
            let _ = ready!(Pin::new(moving).poll(cx));
        }
        let wait = |answer: &mut Result<Response<B>, E>| match answer {
            // A body whose size is known beforehand is let go of when it has been sent, not at its end: it has to wait here.
            Ok(response) => !ended && response.body().size_hint().exact().is_some(),
            Err(_) => !ended,
        };
        let answer = this.answered().take_if(|answer| !wait(answer));
        debug_assert!(!ended || answer.is_some(), "a scope that ended without a panic has its body's output");
        let Some(answer) = answer else { return Poll::Pending };
        let scope = this.scope.take().filter(|_| !ended);
        Poll::Ready(answer.map(|response| response.map(|body| InScope { body, ended: false, scope })))
    }
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
