//! leakfree.

use std::future::Future;
use std::net::SocketAddr;

use leakfree::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};

use crate::measure::{Part, Stopwatch};

pub(crate) use leakfree::net::{TcpListener, TcpStream};
pub(crate) use leakfree::runtime::Runtime;
pub(crate) use leakfree::sync::mpsc::{channel as bounded, unbounded_channel as unbounded};
pub(crate) use leakfree::sync::{Mutex, RwLock, Semaphore, oneshot};
pub(crate) use leakfree::time::sleep;
pub(crate) use leakfree::{JoinHandle, yield_now};

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

pub(crate) fn start(workers: usize) -> Option<Runtime> {
    Some(leakfree::runtime::Builder::new().workers(workers).build().expect("the runtime starts"))
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

pub(crate) fn detach<T>(handle: JoinHandle<T>) {
    drop(handle);
}

pub(crate) async fn acquire(semaphore: &Semaphore) -> leakfree::sync::SemaphorePermit<'_> {
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
    stream.read_exact(buffer).await
}

pub(crate) async fn write_all(stream: &mut TcpStream, buffer: &[u8]) -> std::io::Result<()> {
    stream.write_all(buffer).await
}

pub(crate) fn hyper_io(stream: TcpStream) -> TcpStream {
    stream
}

/// Cancels children together once they are `parked`, and waits until all are gone: a scope.
pub(crate) async fn cancel_all<F>(
    children: Vec<F>,
    parked: impl Future<Output = Stopwatch> + Send,
    _gone: impl Fn() -> bool,
) -> Part
where
    F: Future<Output = ()> + Send + 'static,
{
    let watch = leakfree::scope(async |s| {
        for child in children {
            s.spawn(child);
        }
        let watch = parked.await;
        s.cancel("measured");
        watch
    })
    .await;
    watch.stop()
}

/// How many tasks a snapshot shows.
pub(crate) fn snapshot(runtime: &Runtime) -> Option<usize> {
    Some(runtime.handle().snapshot().tasks.len())
}
