//! What can be given as an address, and looking names up without blocking a worker.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as unix;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::SocketAddrUnix;

use crate::blocking::BlockingIo;
use crate::task::wait::WaitReason;

/// What `connect`, `bind` and the like take: socket addresses, pairs of an address or a host name and a port, and strings such as
/// `"example.org:443"`. Host names are looked up on the blocking pool. It has no methods of its own to call.
pub trait ToSocketAddrs: sealed::Sealed {}

impl<T: sealed::Sealed + ?Sized> ToSocketAddrs for T {}

mod sealed {
    pub trait Sealed {
        #[doc(hidden)]
        fn given(&self) -> super::Given;
    }
}

/// An address as it was given.
#[doc(hidden)]
#[derive(Debug)]
pub enum Given {
    Addrs(Vec<SocketAddr>),
    /// A host name, and its port.
    Name(String, u16),
    /// No address: why.
    Bad(io::Error),
}

fn parse(given: &str) -> Given {
    if let Ok(addr) = given.parse::<SocketAddr>() {
        return Given::Addrs(vec![addr]);
    }
    match given.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) if !host.is_empty() => parse_host(host, port),
        _ => Given::Bad(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{given}` is no socket address: it should be a host, a colon and a port"),
        )),
    }
}

fn parse_host(host: &str, port: u16) -> Given {
    match host.parse::<IpAddr>() {
        Ok(ip) => Given::Addrs(vec![SocketAddr::new(ip, port)]),
        Err(_) => Given::Name(host.to_owned(), port),
    }
}

macro_rules! given {
    ($($type:ty: |$self:ident| $given:expr;)+) => {
        $(impl sealed::Sealed for $type {
            fn given(&self) -> Given {
                let $self = self;
                $given
            }
        })+
    };
}

given! {
    SocketAddr: |addr| Given::Addrs(vec![*addr]);
    SocketAddrV4: |addr| Given::Addrs(vec![(*addr).into()]);
    SocketAddrV6: |addr| Given::Addrs(vec![(*addr).into()]);
    (IpAddr, u16): |addr| Given::Addrs(vec![(*addr).into()]);
    (Ipv4Addr, u16): |addr| Given::Addrs(vec![(*addr).into()]);
    (Ipv6Addr, u16): |addr| Given::Addrs(vec![(*addr).into()]);
    [SocketAddr]: |addrs| Given::Addrs(addrs.to_vec());
    Vec<SocketAddr>: |addrs| Given::Addrs(addrs.clone());
    str: |given| parse(given);
    String: |given| parse(given);
    (&str, u16): |pair| parse_host(pair.0, pair.1);
    (String, u16): |pair| parse_host(&pair.0, pair.1);
}

impl<const N: usize> sealed::Sealed for [SocketAddr; N] {
    fn given(&self) -> Given {
        Given::Addrs(self.to_vec())
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    fn given(&self) -> Given {
        (**self).given()
    }
}

/// Looks a name up. It ends with the addresses, as the system orders them.
///
/// ```
/// # leakfree::runtime::Runtime::new().unwrap().block_on(async {
/// for addr in leakfree::net::lookup_host("localhost:80").await? {
///     println!("{addr}");
/// }
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// `InvalidInput` if it is no address and no name; else what the system's resolver says, with the name.
///
/// # Cancel safety
/// Cancel safe: nothing is kept. A look-up that has begun goes on, and its scope waits for it.
#[track_caller]
pub fn lookup_host<T: ToSocketAddrs>(
    host: T,
) -> impl Future<Output = io::Result<impl Iterator<Item = SocketAddr> + Send>> + Send {
    Lookup(Resolve::new(&host))
}

struct Lookup(Resolve);

impl Future for Lookup {
    type Output = io::Result<std::vec::IntoIter<SocketAddr>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx).map_ok(Vec::into_iter)
    }
}

/// Addresses on their way.
#[derive(Debug)]
pub(super) enum Resolve {
    Given(Option<io::Result<Vec<SocketAddr>>>),
    Looking(BlockingIo<Vec<SocketAddr>>),
}

impl Resolve {
    #[track_caller]
    pub(super) fn new(addr: &impl ToSocketAddrs) -> Resolve {
        match addr.given() {
            Given::Addrs(addrs) => Resolve::Given(Some(Ok(addrs))),
            Given::Bad(error) => Resolve::Given(Some(Err(error))),
            Given::Name(host, port) => Resolve::Looking(BlockingIo::new(WaitReason::LookupHost, move || {
                match std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)) {
                    Ok(addrs) => Ok(addrs.collect()),
                    Err(error) => {
                        Err(io::Error::new(error.kind(), format!("could not look `{host}` up: {error}")))
                    }
                }
            })),
        }
    }

    /// The addresses; an error if there are none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<SocketAddr>>> {
        let addrs = match self {
            Resolve::Given(addrs) => addrs.take().expect("an address was asked for after it was given"),
            Resolve::Looking(looking) => std::task::ready!(Pin::new(looking).poll(cx)),
        };
        Poll::Ready(addrs.and_then(|addrs| if addrs.is_empty() { Err(no_address()) } else { Ok(addrs) }))
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the address names no socket address")
}

/// Tries one address after the other until one succeeds. The error is the last one's, which `what` begins.
pub(super) fn first_of<T>(
    addrs: Vec<SocketAddr>,
    what: &str,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = no_address();
    for addr in addrs {
        match attempt(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = with_addr(what, addr, &error),
        }
    }
    Err(last)
}

/// The error, with what was tried and where.
pub(super) fn with_addr(what: &str, addr: impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {addr}: {error}"))
}

/// Something made from the addresses, at once when they are known.
pub(super) struct Resolved<F> {
    resolve: Resolve,
    make: F,
}

impl<F> Resolved<F> {
    #[track_caller]
    pub(super) fn new(addr: &impl ToSocketAddrs, make: F) -> Resolved<F> {
        Resolved { resolve: Resolve::new(addr), make }
    }
}

impl<F> Unpin for Resolved<F> {}

impl<T, F: FnMut(Vec<SocketAddr>) -> io::Result<T>> Future for Resolved<F> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let addrs = std::task::ready!(self.resolve.poll(cx));
        Poll::Ready(addrs.and_then(&mut self.make))
    }
}

/// The abstract name that a path stands for: what comes after a zero byte at its beginning.
fn abstract_name(path: &Path) -> Option<&[u8]> {
    let name = path.as_os_str().as_bytes().strip_prefix(b"\0");
    name.filter(|_| cfg!(target_os = "linux"))
}

/// The address of a Unix domain socket.
///
/// # Errors
/// If the path is too long, or has a zero byte in it.
pub(super) fn unix_addr(path: &Path) -> io::Result<unix::SocketAddr> {
    match abstract_name(path) {
        #[cfg(target_os = "linux")]
        Some(name) => <unix::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => unix::SocketAddr::from_pathname(path),
    }
}

/// The address of an abstract name, for calls that the standard library has for paths only.
pub(super) fn abstract_addr(path: &Path) -> Option<io::Result<SocketAddrUnix>> {
    #[cfg(target_os = "linux")]
    return abstract_name(path).map(|name| Ok(SocketAddrUnix::new_abstract_name(name)?));
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// A path as messages have it, an abstract name with the usual `@`.
pub(super) fn shown(path: &Path) -> impl fmt::Display {
    match abstract_name(path) {
        Some(name) => format!("@{}", String::from_utf8_lossy(name)),
        None => path.display().to_string(),
    }
}
