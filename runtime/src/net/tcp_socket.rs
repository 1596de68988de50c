//! `TcpSocket`: options first, then connect or listen.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::addr::with_addr;
use super::tcp_listener::TcpListener;
use super::tcp_stream::TcpStream;
use crate::scheduler::context;

/// A TCP socket that is neither connected nor listening yet.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::net::TcpSocket;
///
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(128)?;
/// # drop(listener);
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct TcpSocket(OwnedFd);

/// An option of the socket, to set and to ask for.
macro_rules! option {
    ($(#[$doc:meta])+ $set:ident, $get:ident: $type:ty, $sys_set:path, $sys_get:path, |$value:ident| $convert:expr) => {
        $(#[$doc])+
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $set(&self, $value: $type) -> io::Result<()> {
            Ok($sys_set(&self.0, $convert)?)
        }

        #[doc = concat!("See [`", stringify!($set), "`](TcpSocket::", stringify!($set), ").")]
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $get(&self) -> io::Result<$type> {
            Ok($sys_get(&self.0)?.try_into().unwrap_or(<$type>::MAX))
        }
    };
    ($(#[$doc:meta])+ $set:ident, $get:ident: $type:ty, $sys_set:path, $sys_get:path) => {
        $(#[$doc])+
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $set(&self, value: $type) -> io::Result<()> {
            Ok($sys_set(&self.0, value)?)
        }

        #[doc = concat!("See [`", stringify!($set), "`](TcpSocket::", stringify!($set), ").")]
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $get(&self) -> io::Result<$type> {
            Ok($sys_get(&self.0)?)
        }
    };
}

impl TcpSocket {
    /// A socket for IPv4.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(AddressFamily::INET)
    }

    /// A socket for IPv6.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(AddressFamily::INET6)
    }

    fn new(family: AddressFamily) -> io::Result<TcpSocket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(TcpSocket(net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?))
    }

    /// Takes over a socket of the standard library's making, connected or not; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std_stream(stream: std::net::TcpStream) -> io::Result<TcpSocket> {
        stream.set_nonblocking(true)?;
        Ok(TcpSocket(stream.into()))
    }

    option! {
        /// Lets it bind to an address whose last user has just gone.
        set_reuseaddr, reuseaddr: bool, sockopt::set_socket_reuseaddr, sockopt::socket_reuseaddr
    }

    option! {
        /// Lets several sockets bind to one address, which share its connections.
        set_reuseport, reuseport: bool, sockopt::set_socket_reuseport, sockopt::socket_reuseport
    }

    option! {
        /// Asks a silent peer now and then whether it is still there.
        set_keepalive, keepalive: bool, sockopt::set_socket_keepalive, sockopt::socket_keepalive
    }

    option! {
        /// After how much silence the peer is asked for the first time.
        set_keepalive_time, keepalive_time: Duration, sockopt::set_tcp_keepidle, sockopt::tcp_keepidle
    }

    option! {
        /// How long the kernel waits between two such questions.
        set_keepalive_interval, keepalive_interval: Duration, sockopt::set_tcp_keepintvl, sockopt::tcp_keepintvl
    }

    option! {
        /// How many such questions go unanswered before the connection counts as broken.
        set_keepalive_retries, keepalive_retries: u32, sockopt::set_tcp_keepcnt, sockopt::tcp_keepcnt
    }

    option! {
        /// Sends small segments at once.
        set_nodelay, nodelay: bool, sockopt::set_tcp_nodelay, sockopt::tcp_nodelay
    }

    option! {
        /// See [`TcpStream::set_linger`].
        set_linger, linger: Option<Duration>, sockopt::set_socket_linger, sockopt::socket_linger
    }

    option! {
        /// The size of the kernel's send buffer in bytes, as a hint: Linux doubles it.
        set_send_buffer_size, send_buffer_size: u32,
        sockopt::set_socket_send_buffer_size, sockopt::socket_send_buffer_size, |size| size as usize
    }

    option! {
        /// The size of the kernel's receive buffer in bytes, as a hint: Linux doubles it.
        set_recv_buffer_size, recv_buffer_size: u32,
        sockopt::set_socket_recv_buffer_size, sockopt::socket_recv_buffer_size, |size| size as usize
    }

    /// Our address, if it is bound.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = net::getsockname(&self.0)?;
        addr.try_into().map_err(|_| io::Error::other("the socket's address is none of the internet's"))
    }

    /// The error that the socket has met and nobody was told, if there is one. It is told once.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(&self.0)?.err().map(io::Error::from))
    }

    /// Gives the socket an address of ours.
    ///
    /// # Errors
    /// What the operating system says, with the address.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        net::bind(&self.0, &addr).map_err(|error| with_addr("could not bind to", addr, &error.into()))
    }

    /// Connects to `addr`.
    ///
    /// # Errors
    /// What the operating system says, with the address.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, the attempt is given up.
    #[track_caller]
    pub fn connect(self, addr: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send {
        let driver = context::driver("leakfree::net::TcpSocket::connect");
        let created = Location::caller();
        let mut given = Some((self.0, driver));
        let mut connect = None;
        std::future::poll_fn(move |cx| {
            if let Some((socket, driver)) = given.take() {
                if let Err(error) = net::connect(&socket, &addr) {
                    if error != Errno::INPROGRESS {
                        return std::task::Poll::Ready(Err(with_addr(
                            "could not connect to",
                            addr,
                            &error.into(),
                        )));
                    }
                }
                connect = Some(TcpStream::connecting(socket.into(), addr, driver, created)?);
            }
            let connect = connect.as_mut().expect("`TcpSocket::connect` was polled after it was ready");
            std::pin::Pin::new(connect).poll(cx)
        })
    }

    /// Listens, with up to `backlog` connections that nobody has accepted yet.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let driver = context::driver("leakfree::net::TcpSocket::listen");
        net::listen(&self.0, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::register(self.0.into(), driver, Location::caller())
    }
}
