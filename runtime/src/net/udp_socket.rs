//! `UdpSocket`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::Location;

use super::addr::{Resolved, ToSocketAddrs, first_of};
use super::datagram::datagram;
use crate::scheduler::context;

type Mio = mio::net::UdpSocket;

/// A UDP socket: sends and receives datagrams. All needs only `&self`; tasks may share it in an `Arc`.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// use leakfree::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"ping", server.local_addr()?).await?;
/// let mut buf = [0; 16];
/// let (n, from) = server.recv_from(&mut buf).await?;
/// assert_eq!((&buf[..n], from), (&b"ping"[..], client.local_addr()?));
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    registration: Registration<Mio>,
}

datagram!(UdpSocket, SocketAddr, UdpRecv, UdpSend);

/// An option of the socket, to set and to ask for.
macro_rules! option {
    ($(#[$doc:meta])+ $set:ident, $get:ident: $type:ty) => {
        $(#[$doc])+
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $set(&self, value: $type) -> io::Result<()> {
            self.registration.source().$set(value)
        }

        #[doc = concat!("See [`", stringify!($set), "`](UdpSocket::", stringify!($set), ").")]
        ///
        /// # Errors
        /// What the operating system says.
        pub fn $get(&self) -> io::Result<$type> {
            self.registration.source().$get()
        }
    };
}

impl UdpSocket {
    /// A socket with the address `addr`; port 0 has the system choose one. A host name is looked up on the blocking pool.
    ///
    /// # Errors
    /// What the operating system says of the last address tried, with that address.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, nothing is bound.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> impl Future<Output = io::Result<UdpSocket>> + Send {
        let driver = context::driver("leakfree::net::UdpSocket::bind");
        let created = Location::caller();
        Resolved::new(&addr, move |addrs| {
            first_of(addrs, "could not bind to", |addr| {
                Ok(UdpSocket { registration: Registration::new(Mio::bind(addr)?, driver.clone(), created)? })
            })
        })
    }

    /// Takes over a socket of the standard library; it is made non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// Outside a leakfree runtime.
    #[track_caller]
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        let driver = context::driver("leakfree::net::UdpSocket::from_std");
        socket.set_nonblocking(true)?;
        Ok(UdpSocket { registration: Registration::new(Mio::from_std(socket), driver, Location::caller())? })
    }

    /// Sends to and receives from `addr` only, from now on.
    ///
    /// # Errors
    /// What the operating system says of the last address tried, with that address.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, it has changed nothing.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> impl Future<Output = io::Result<()>> + Send {
        Resolved::new(&addr, |addrs| {
            first_of(addrs, "could not connect to", |addr| self.registration.source().connect(addr))
        })
    }

    /// Sends a datagram to `target`; of several addresses, to the first. Returns how many bytes of it were sent.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, it has sent nothing.
    #[track_caller]
    pub fn send_to<'a, A: ToSocketAddrs>(
        &'a self,
        buf: &'a [u8],
        target: A,
    ) -> impl Future<Output = io::Result<usize>> + Send {
        let mut resolve = Resolved::new(&target, |addrs: Vec<SocketAddr>| Ok(addrs[0]));
        let mut waiting = self.registration.wait(WaitReason::UdpSend);
        let mut to = None;
        std::future::poll_fn(move |cx| {
            let addr = match to {
                Some(addr) => addr,
                None => *to.insert(std::task::ready!(std::pin::Pin::new(&mut resolve).poll(cx))?),
            };
            waiting.poll(cx, |socket| socket.send_to(buf, addr))
        })
    }

    /// [`send_to`](UdpSocket::send_to) without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be sent now; else what the operating system says.
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.registration.try_io(WaitReason::UdpSend, |socket| socket.send_to(buf, target))
    }

    /// [`send_to`](UdpSocket::send_to) as a poll function. The wait it leaves stands until the next poll.
    ///
    /// # Errors
    /// What the operating system says.
    #[track_caller]
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.registration.poll_shared(cx, WaitReason::UdpSend, |socket| socket.send_to(buf, target))
    }

    /// Waits for a datagram and copies it: it can be received again. Returns its length, as far as it fits into `buf`.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn peek<'a>(&'a self, buf: &'a mut [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
        self.registration.operation(WaitReason::UdpRecv, |socket| socket.peek(buf))
    }

    /// As [`peek`](UdpSocket::peek), with who sent it.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Cancel safety
    /// Cancel safe: it takes nothing.
    #[track_caller]
    pub fn peek_from<'a>(
        &'a self,
        buf: &'a mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'a {
        self.registration.operation(WaitReason::UdpRecv, |socket| socket.peek_from(buf))
    }

    /// [`peek_from`](UdpSocket::peek_from) without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; else what the operating system says.
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.registration.try_io(WaitReason::UdpRecv, |socket| socket.peek_from(buf))
    }

    /// Our address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().local_addr()
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    /// `NotConnected`, or what the operating system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.registration.source().peer_addr()
    }

    option! {
        /// Allows sending to a broadcast address.
        set_broadcast, broadcast: bool
    }

    option! {
        /// How many routers a datagram may pass.
        set_ttl, ttl: u32
    }

    option! {
        /// Whether IPv4 multicast datagrams of ours come back to this machine.
        set_multicast_loop_v4, multicast_loop_v4: bool
    }

    option! {
        /// How many routers an IPv4 multicast datagram may pass.
        set_multicast_ttl_v4, multicast_ttl_v4: u32
    }

    option! {
        /// Whether IPv6 multicast datagrams of ours come back to this machine.
        set_multicast_loop_v6, multicast_loop_v6: bool
    }

    /// Joins a multicast group on the interface with that address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.registration.source().join_multicast_v4(&group, &interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.registration.source().leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group on the interface of that index; 0 is any.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.registration.source().join_multicast_v6(group, interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.registration.source().leave_multicast_v6(group, interface)
    }
}

impl TryFrom<std::net::UdpSocket> for UdpSocket {
    type Error = io::Error;

    #[track_caller]
    fn try_from(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::from_std(socket)
    }
}
