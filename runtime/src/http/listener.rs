//! Where connections come from.

use std::fmt;
use std::future::Future;
use std::io;

use hyper::rt::{Read, Write};

use crate::net::{self, TcpListener, TcpStream, UnixListener, UnixStream};
use crate::task::frame;

/// What [`serve`](super::serve) takes connections from. Sockets of ours are; a listener with TLS can be made one.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: Read + Write + Unpin + Send + 'static;
    /// Who is at its other end. Its `Debug` form names the connection in reports.
    type Addr: Clone + fmt::Debug + Send + Sync + 'static;

    /// The next connection.
    ///
    /// # Cancel safety
    /// To be so: the future may be dropped before it is ready, and must not lose a connection then.
    #[track_caller]
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Self::Addr)>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    #[track_caller]
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, std::net::SocketAddr)>> + Send {
        let accept = self.accept_for(frame::poll_site());
        async move {
            let (stream, peer) = accept.await?;
            // hyper writes a response in as few pieces as it can; waiting for more only delays them. It may be gone already.
            let _ = stream.set_nodelay(true);
            Ok((stream, peer))
        }
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;
    type Addr = net::unix::SocketAddr;

    #[track_caller]
    fn accept(&mut self) -> impl Future<Output = io::Result<(UnixStream, net::unix::SocketAddr)>> + Send {
        self.accept_for(frame::poll_site())
    }
}
