//! Serving HTTP: [`serve`] runs a tower service, such as an axum router, on hyper.
//!
//! Each connection and each request has a scope of its own, in the scope of the server: what a handler spawns in
//! [`scope::current`](crate::scope::current) does not outlive its request, nor a request its connection.

mod connection;
mod listener;
mod request;
mod transport;

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use rustix::io::Errno;
use tower_service::Service;

pub use self::listener::Listener;
pub use self::request::Peer;
use crate::report::snapshot::TaskKind;
use crate::scope::{Cancelled, Scope};
use crate::sync::{OwnedSemaphorePermit, Semaphore};
use crate::task::frame;
use crate::time::sleep;

/// How long a client may take for a request's head, if nothing else was said.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What requests in flight are given after the signal to shut down, if nothing else was said. As the runtime's own grace.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may take nothing of a response, if nothing else was said.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// When a client that speaks HTTP/2 is asked whether it is there, and what it is given for the answer, if nothing else was said.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// As good as for ever: hyper adds what it is given to the present, which must not overflow.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
/// The pause after an accept that failed for a reason that may pass.
const PAUSE: Duration = Duration::from_millis(50);

/// What [`serve`] needs to know of an error.
type BoxError = Box<dyn Error + Send + Sync>;

/// Serves the connections of a listener with a service: an `axum::Router`, or any other tower service that takes hyper's requests
/// and is cheap to clone. HTTP/1 and HTTP/2 are told apart by a connection's first bytes.
///
/// It serves until the innermost scope around it is [cancelled](crate::cancelled), or a [signal](Serve::with_graceful_shutdown) comes. Then it accepts no
/// more, connections that are idle are closed, and those with requests in flight when these have been answered. For that they have
/// the scope's [grace](crate::scope::ScopeBuilder::grace) or the server's [own](Serve::grace), the shorter of the two; what is left after it is dropped.
/// Without any it is dropped at once.
///
/// Each connection is a task, and a scope "connection" with the peer's address; each request a scope "request" with method and path. What a handler spawns
/// in its request's scope ends before the response does: a body of known size is sent after it, another one's last
/// frame is. When the client goes away before, it is cancelled. After an upgrade it may live as long as the connection's scope. A
/// handler's panic ends its connection, in HTTP/2 its request only.
///
/// ```
/// use std::convert::Infallible;
/// # use std::pin::Pin;
/// # use std::task::{Context, Poll};
/// # use hyper::{Request, Response, body::Incoming};
///
/// #[derive(Clone)]
/// struct Hello; // an `axum::Router` goes here
/// # impl tower_service::Service<Request<Incoming>> for Hello {
/// #     type Response = Response<String>;
/// #     type Error = Infallible;
/// #     type Future = std::future::Ready<Result<Response<String>, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
/// #         Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: Request<Incoming>) -> Self::Future {
/// #         std::future::ready(Ok(Response::new("hello".into())))
/// #     }
/// # }
///
/// # leakfree::runtime::Runtime::new()?.block_on(async {
/// let listener = leakfree::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let ctrl_c = async {};
/// leakfree::http::serve(listener, Hello).with_graceful_shutdown(ctrl_c).await
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Cancel safety
/// Dropped, it takes its listener and all connections with it, with the requests in flight. To end in order, use `with_graceful_shutdown`, or cancel the scope around it.
#[track_caller]
pub fn serve<L, S, B>(listener: L, service: S) -> Serve<L, S>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    Serve {
        listener,
        service,
        signal: None,
        options: Options {
            header_read_timeout: Some(HEADER_READ_TIMEOUT),
            write_timeout: Some(WRITE_TIMEOUT),
            http2_keep_alive_interval: Some(KEEP_ALIVE_INTERVAL),
            http2_keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            max_connections: None,
            grace: None,
            place: Location::caller(),
        },
    }
}

#[derive(Clone, Copy, Debug)]
struct Options {
    header_read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    http2_keep_alive_interval: Option<Duration>,
    http2_keep_alive_timeout: Duration,
    max_connections: Option<usize>,
    grace: Option<Duration>,
    /// Where the server was asked for.
    place: &'static Location<'static>,
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server, made by [`serve`]. It serves when it is awaited.
#[must_use = "a server serves nothing unless it is awaited"]
pub struct Serve<L, S> {
    listener: L,
    service: S,
    signal: Option<Signal>,
    options: Options,
}

impl<L, S> Serve<L, S> {
    /// Shuts the server down when the future is ready, as a cancel of the scope around it would.
    pub fn with_graceful_shutdown<F>(mut self, signal: F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.signal = Some(Box::pin(signal));
        self
    }

    /// How long requests in flight have at the server's end. Default: what the scopes around it say; after a
    /// [signal](Serve::with_graceful_shutdown) 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = Some(grace);
        self
    }

    /// How long a client may take for the head of a request, counted from the moment from which one can come. A connection that exceeds it is
    /// closed; so is one that has been idle for as long. HTTP/2 has it for its first bytes only. Default: 30 s. `None`: no limit.
    ///
    /// A handler that reads a request's body waits for it as long as it likes: put a [`timeout`](crate::time::timeout) around it.
    pub fn header_read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.header_read_timeout = timeout.into().map(|timeout| timeout.min(FOREVER));
        self
    }

    /// How long a client may take nothing of what is to be written. A connection that exceeds it is closed, and the requests on it are cancelled;
    /// a client that is slow, but gets on, is borne with. Default: 60 s. `None`: no limit.
    ///
    /// It is about the connection. A client that reads, but leaves the window of one HTTP/2 stream shut, holds that stream up, and no other.
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.write_timeout = timeout.into();
        self
    }

    /// How often a client that speaks HTTP/2 is asked whether it is still there (a ping). One that does not
    /// [answer](Serve::http2_keep_alive_timeout) has gone without a word: its connection is closed. Default: 60 s. `None`: never.
    ///
    /// In HTTP/1 an idle connection is closed after the [`header_read_timeout`](Serve::header_read_timeout). To find out about one that has
    /// gone with a request in flight, have the kernel ask: [`TcpSocket::set_keepalive`](crate::net::TcpSocket::set_keepalive) before `listen`
    /// holds for all connections of the listener.
    pub fn http2_keep_alive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.http2_keep_alive_interval = interval.into().map(|interval| interval.min(FOREVER));
        self
    }

    /// What a client is given to answer a [ping](Serve::http2_keep_alive_interval). Default: 20 s.
    pub fn http2_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.options.http2_keep_alive_timeout = timeout.min(FOREVER);
        self
    }

    /// How many connections there may be at a time. With so many, no further one is accepted before one has ended: it waits in the listener's queue.
    /// Default: no limit.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server must take one connection at least: `max_connections` was 0");
        self.options.max_connections = Some(connections);
        self
    }
}

impl<L, S, B> IntoFuture for Serve<L, S>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    /// The server as a future.
    ///
    /// # Errors
    /// If the listener is unusable. An accept that fails for another reason is tried again.
    ///
    /// # Cancel safety
    /// Dropped, it cancels the connections; the next scope out waits for them.
    fn into_future(self) -> ServeFuture {
        let Serve { listener, service, signal, options } = self;
        let mut builder = Scope::builder().name("http");
        if let Some(grace) = options.grace.or(signal.as_ref().map(|_| GRACE)) {
            builder = builder.grace(grace);
        }
        let body = move |scope: Scope| run(listener, service, signal, options, scope);
        ServeFuture { future: Box::pin(builder.supervisor_scope(body).opened_for(options.place)) }
    }
}

/// The future of [`serve`]: ends when the server is shut down and its connections are gone.
#[must_use = "a server serves nothing unless it is awaited"]
pub struct ServeFuture {
    future: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl Future for ServeFuture {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.future.as_mut().poll(cx)
    }
}

/// The end of a server: its scope's cancel, which a signal turns into.
struct Stop {
    scope: Scope,
    signal: Option<Signal>,
    cancelled: Pin<Box<Cancelled>>,
}

impl Stop {
    /// `None` if the server is to stop before the future is ready.
    async fn or<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.signal.as_mut().is_some_and(|signal| signal.as_mut().poll(cx).is_ready()) {
                self.signal = None;
                self.scope.cancel("the server was told to shut down");
            }
            match self.cancelled.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => future.as_mut().poll(cx).map(Some),
            }
        })
        .await
    }
}

/// The body of the server's scope: accepts.
async fn run<L, S, B>(
    mut listener: L,
    service: S,
    signal: Option<Signal>,
    options: Options,
    scope: Scope,
) -> io::Result<()>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slots =
        options.max_connections.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
    // Its waits are those of the call of `serve`: no other line is the user's.
    let cancelled = Box::pin(scope.cancelled().for_call_at(options.place));
    let mut stop = Stop { cancelled, scope: scope.clone(), signal };
    loop {
        let slot: Option<OwnedSemaphorePermit> = match &slots {
            None => None,
            Some(slots) => {
                match stop.or(Arc::clone(slots).acquire_owned().for_call_at(options.place)).await {
                    None => return Ok(()),
                    Some(slot) => Some(slot.expect("nobody closes the server's semaphore")),
                }
            }
        };
        let accept = frame::polling_for(options.place, || listener.accept());
        let (io, peer) = match stop.or(accept).await {
            None => return Ok(()),
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) if is_final(&error) => return Err(error),
            Some(Err(_)) => {
                // That connection's misfortune, or a shortage: the next one may do better.
                if stop.or(sleep(PAUSE).for_call_at(options.place)).await.is_none() {
                    return Ok(());
                }
                continue;
            }
        };
        let name: Arc<str> = format!("connection {peer:?}").into();
        let service = service.clone();
        let connection = {
            let name = Arc::clone(&name);
            Scope::builder()
                .name(name)
                .supervisor_scope(move |scope| connection::run(io, peer, service, options, scope))
                .opened_for(options.place)
        };
        let connection = async move {
            connection.await;
            // Not before: what was upgraded is in the scope.
            drop(slot);
        };
        drop(scope.spawn_task(TaskKind::Async, options.place, Some(name), connection));
    }
}

/// Whether no later accept on that listener can do better. (Not `EOPNOTSUPP`: Linux says so of a connection, too; accept(2).)
fn is_final(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT))
}

impl<L: fmt::Debug, S> fmt::Debug for Serve<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFuture").finish_non_exhaustive()
    }
}
