//! leakfree.

use std::future::Future;
use std::net::SocketAddr;

pub(crate) use leakfree::net::{TcpListener, TcpStream};
pub(crate) use leakfree::runtime::Runtime;
pub(crate) use leakfree::sync::{Mutex, mpsc, oneshot};
pub(crate) use leakfree::{JoinHandle, yield_now};

#[path = "../workloads.rs"]
pub(crate) mod workloads;

pub(crate) fn start() -> Runtime {
    leakfree::runtime::Builder::new().workers(super::WORKERS).build().expect("the runtime starts")
}

pub(crate) fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(future)
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    leakfree::spawn(future)
}

pub(crate) async fn join<T>(handle: JoinHandle<T>) -> T {
    handle.await.expect("no task panics")
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.expect("a connection");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

pub(crate) async fn read_exact(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    stream.read_exact(buffer).await
}

pub(crate) async fn write_all(stream: &mut TcpStream, buffer: &[u8]) -> std::io::Result<()> {
    stream.write_all(buffer).await
}
