//! Sockets: TCP, UDP and Unix domain sockets, and looking names up.
//!
//! | what | of what it is made |
//! |---|---|
//! | `registration` | a source as the driver knows it, and a wait on one: every read, write, accept and datagram is an operation there |
//! | `ready` | waits for readiness alone |
//! | `async_fd` | descriptors of others, which are `io::unix` to users |
//! | `stream`, `datagram` | what the sockets of each kind have in common |
//! | `accept` | accepting, with pauses while descriptors are short |
//! | `addr` | addresses, and names looked up on the blocking pool |

mod accept;
mod addr;
pub(crate) mod async_fd;
mod datagram;
mod ready;
pub(crate) mod registration;
mod stream;
mod tcp_listener;
mod tcp_socket;
mod tcp_stream;
mod udp_socket;
mod unix_datagram;
mod unix_listener;
mod unix_stream;

pub use addr::{ToSocketAddrs, lookup_host};
pub use ready::{Interest, Ready};
pub use tcp_listener::TcpListener;
pub use tcp_socket::TcpSocket;
pub use tcp_stream::TcpStream;
pub use udp_socket::UdpSocket;
pub use unix_datagram::UnixDatagram;
pub use unix_listener::UnixListener;
pub use unix_stream::UnixStream;

/// The halves of a [`TcpStream`].
pub mod tcp {
    pub use super::tcp_stream::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
}

/// The halves of a [`UnixStream`], and who is at its other end.
pub mod unix {
    #[cfg(target_os = "linux")]
    pub use super::unix_stream::UCred;
    pub use super::unix_stream::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
    pub use std::os::unix::net::SocketAddr;
}
