//! tokio, multi-threaded.

use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) use tokio::net::{TcpListener, TcpStream};
pub(crate) use tokio::runtime::Runtime;
pub(crate) use tokio::sync::{Mutex, mpsc, oneshot};
pub(crate) use tokio::task::{JoinHandle, yield_now};

#[path = "../workloads.rs"]
pub(crate) mod workloads;

pub(crate) fn start() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(super::WORKERS)
        .enable_all()
        .build()
        .expect("the runtime starts")
}

pub(crate) fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(future)
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(future)
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
    stream.read_exact(buffer).await.map(drop)
}

pub(crate) async fn write_all(stream: &mut TcpStream, buffer: &[u8]) -> std::io::Result<()> {
    stream.write_all(buffer).await
}
