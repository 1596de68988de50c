//! `TcpListener`.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::registration::{Registration, Waiting};
use super::stream::TcpStream;
use crate::scheduler::context;
use crate::task::wait::WaitReason;

/// A socket that accepts TCP connections.
#[derive(Debug)]
pub struct TcpListener {
    registration: Registration<mio::net::TcpListener>,
}

impl TcpListener {
    /// Listens on `addr`; port 0 has the system choose one. Ready at once: it is a future only so that code
    /// written for other runtimes reads the same. A host name is looked up on this thread and may block it:
    /// give an address, or look the name up in `spawn_blocking`.
    ///
    /// # Errors
    /// What the operating system says, with the address; for instance `AddrInUse`.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, nothing listens.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> Bind {
        Bind(Some(Self::bind_now(addr, Location::caller())))
    }

    #[track_caller]
    fn bind_now<A: ToSocketAddrs>(addr: A, created: &'static Location<'static>) -> io::Result<TcpListener> {
        let driver = context::driver("leakfree::net::TcpListener::bind");
        let mut last = None;
        for addr in addr.to_socket_addrs()? {
            match mio::net::TcpListener::bind(addr) {
                Ok(listener) => {
                    let registration = Registration::new(listener, driver, created)?;
                    return Ok(TcpListener { registration });
                }
                Err(error) => {
                    let message = format!("could not listen on {addr}: {error}");
                    last = Some(io::Error::new(error.kind(), message));
                }
            }
        }
        Err(last.unwrap_or_else(super::no_address))
    }

    /// Takes over a listener of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        let driver = context::driver("leakfree::net::TcpListener::from_std");
        listener.set_nonblocking(true)?;
        let listener = mio::net::TcpListener::from_std(listener);
        Ok(TcpListener { registration: Registration::new(listener, driver, Location::caller())? })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
    }

    /// Waits for a connection, and returns it with the peer's address.
    ///
    /// # Errors
    /// What the operating system says. Errors of one connection (`ConnectionAborted`), or of a shortage of
    /// descriptors, do not harm the listener: accept again, after a short sleep for the latter.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that was not returned stays in the queue.
    #[track_caller]
    pub fn accept(&self) -> Accept<'_> {
        Accept { waiting: self.registration.wait(WaitReason::TcpAccept), created: Location::caller() }
    }
}

/// The future of [`TcpListener::bind`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Bind(Option<io::Result<TcpListener>>);

impl Future for Bind {
    type Output = io::Result<TcpListener>;

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<TcpListener>> {
        Poll::Ready(self.0.take().expect("`TcpListener::bind` was polled after it was ready"))
    }
}

/// The future of [`TcpListener::accept`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Accept<'a> {
    waiting: Waiting<'a, mio::net::TcpListener>,
    created: &'static Location<'static>,
}

impl Future for Accept<'_> {
    type Output = io::Result<(TcpStream, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let accepted = std::task::ready!(self.waiting.poll(cx, mio::net::TcpListener::accept));
        Poll::Ready(accepted.and_then(|(stream, peer)| {
            let driver = self.waiting.registration().driver().clone();
            Ok((TcpStream::register(stream, driver, self.created)?, peer))
        }))
    }
}
