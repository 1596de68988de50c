//! One connection: which protocol it speaks, and serving it until its end or the server's.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response};
use tower_service::Service;

use super::request::Requests;
use super::{BoxError, Options};
use crate::hyper::HyperTimer;
use crate::scope::{Cancelled, Scope};
use crate::time::timeout;

/// What a client that speaks HTTP/2 begins with.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    let mut cancelled = pin!(scope.cancelled());
    let read = read_preface(&mut io, cancelled.as_mut());
    let beginning = match options.header_read_timeout {
        None => read.await,
        Some(most) => timeout(most, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    };
    let Ok(beginning) = beginning else { return };
    let is_http2 = beginning.bytes == PREFACE;
    let io = Rewound { beginning, io };
    let requests = Requests { service, peer, connection: scope.clone(), place: options.place };
    if is_http2 {
        let mut builder = http2::Builder::new(scope.clone());
        builder.timer(HyperTimer);
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

/// The first bytes of a connection.
#[derive(Debug)]
struct Beginning {
    bytes: [u8; PREFACE.len()],
    filled: usize,
    /// So many of them were read again.
    taken: usize,
}

/// Reads until it is clear whether that is the preface of HTTP/2: the whole of it, or something else.
///
/// # Errors
/// If reading fails, if the client closes before it has said anything, or if a cancel comes before it has.
async fn read_preface<I: Read + Unpin>(
    io: &mut I,
    mut cancelled: Pin<&mut Cancelled>,
) -> io::Result<Beginning> {
    let mut beginning = Beginning { bytes: [0; PREFACE.len()], filled: 0, taken: 0 };
    let mut open = true;
    while open
        && beginning.filled < PREFACE.len()
        && PREFACE.starts_with(&beginning.bytes[..beginning.filled])
    {
        let filled = beginning.filled;
        let mut buf = ReadBuf::new(&mut beginning.bytes[filled..]);
        poll_fn(|cx| {
            if filled == 0 && cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            Pin::new(&mut *io).poll_read(cx, buf.unfilled())
        })
        .await?;
        let n = buf.filled().len();
        beginning.filled += n;
        open = n > 0;
    }
    if beginning.filled == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(beginning)
}

/// A connection whose first bytes are read once more.
#[derive(Debug)]
struct Rewound<I> {
    beginning: Beginning,
    io: I,
}

impl<I: Read + Unpin> Read for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Beginning { bytes, filled, taken } = &mut self.beginning;
        let left = &bytes[*taken..*filled];
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = left.len().min(buf.remaining());
        buf.put_slice(&left[..n]);
        *taken += n;
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> Write for Rewound<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
