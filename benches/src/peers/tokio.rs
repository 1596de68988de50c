//! tokio, multi-threaded.

use std::future::Future;
use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use crate::measure::{Part, Stopwatch};

pub(crate) use tokio::net::{TcpListener, TcpStream};
pub(crate) use tokio::runtime::Runtime;
pub(crate) use tokio::sync::mpsc::{channel as bounded, unbounded_channel as unbounded};
pub(crate) use tokio::sync::{Mutex, RwLock, Semaphore, oneshot};
pub(crate) use tokio::task::{JoinHandle, yield_now};
pub(crate) use tokio::time::sleep;

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

pub(crate) fn start(workers: usize) -> Option<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Some(builder.worker_threads(workers).enable_all().build().expect("the runtime starts"))
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

pub(crate) fn detach<T>(handle: JoinHandle<T>) {
    drop(handle);
}

pub(crate) async fn acquire(semaphore: &Semaphore) -> tokio::sync::SemaphorePermit<'_> {
    semaphore.acquire().await.expect("it is open")
}

pub(crate) fn send_now<T>(tx: &UnboundedSender<T>, message: T) {
    assert!(tx.send(message).is_ok(), "the receiver is there");
}

pub(crate) async fn recv<T>(rx: &mut Receiver<T>) -> Option<T> {
    rx.recv().await
}

pub(crate) async fn recv_unbounded<T>(rx: &mut UnboundedReceiver<T>) -> Option<T> {
    rx.recv().await
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

pub(crate) fn hyper_io(stream: TcpStream) -> TokioIo<TcpStream> {
    TokioIo::new(stream)
}

/// Cancels children together once they are `parked`, and waits until all are gone: a `JoinSet`.
pub(crate) async fn cancel_all<F>(
    children: Vec<F>,
    parked: impl Future<Output = Stopwatch>,
    _gone: impl Fn() -> bool,
) -> Part
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut set = JoinSet::new();
    for child in children {
        set.spawn(child);
    }
    let watch = parked.await;
    set.abort_all();
    while set.join_next().await.is_some() {}
    watch.stop()
}

/// How many tasks a snapshot shows; stable tokio has none.
pub(crate) fn snapshot(_: &Runtime) -> Option<usize> {
    None
}
