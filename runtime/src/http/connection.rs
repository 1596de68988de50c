//! One connection: which protocol it speaks, and serving it until its end or the server's.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response};
use tower_service::Service;

use super::request::Requests;
use super::transport::{Transport, read_preface};
use super::{BoxError, Options};
use crate::hyper::HyperTimer;
use crate::scope::{Cancelled, Scope};
use crate::time::timeout;

/// The body of a connection's scope. Errors end the connection; they are the client's, or it has gone.
pub(super) async fn run<I, A, S, B>(mut io: I, peer: A, service: S, options: Options, scope: Scope)
where
    I: Read + Write + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut cancelled = pin!(scope.cancelled().for_call_at(options.place));
    let read = read_preface(&mut io, cancelled.as_mut(), options.place);
    let beginning = match options.header_read_timeout {
        None => read.await,
        Some(most) => {
            let read = timeout(most, read).for_call_at(options.place);
            read.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    };
    let Ok(beginning) = beginning else { return };
    let is_http2 = beginning.is_http2();
    let io = Transport::new(beginning, io, options.write_timeout, options.place);
    let requests = Requests { service, peer, connection: scope.clone(), place: options.place };
    if is_http2 {
        let mut builder = http2::Builder::new(scope.clone());
        builder
            .timer(HyperTimer)
            .keep_alive_interval(options.http2_keep_alive_interval)
            .keep_alive_timeout(options.http2_keep_alive_timeout);
        let connection = builder.serve_connection(io, requests);
        let _ = until_end(connection, http2::Connection::graceful_shutdown, cancelled).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(HyperTimer).header_read_timeout(options.header_read_timeout);
        let connection = builder.serve_connection(io, requests).with_upgrades();
        let _ = until_end(connection, http1::UpgradeableConnection::graceful_shutdown, cancelled).await;
    }
}

/// Drives a connection to its end; when it is cancelled, tells it to end with the requests that are in flight.
async fn until_end<C: Future>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    mut cancelled: Pin<&mut Cancelled>,
) -> C::Output {
    let mut connection = pin!(connection);
    let mut shut_down = Some(shut_down);
    poll_fn(|cx| {
        if shut_down.is_some() && cancelled.as_mut().poll(cx).is_ready() {
            if let Some(shut_down) = shut_down.take() {
                shut_down(connection.as_mut());
            }
        }
        connection.as_mut().poll(cx)
    })
    .await
}
