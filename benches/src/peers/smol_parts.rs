//! What smol and smolscale share: all but the executor.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Task;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use smol_hyper::rt::FuturesIo;

use crate::measure::{Part, Stopwatch};

pub(crate) use async_channel::{bounded, unbounded};
pub(crate) use async_executor::Task as JoinHandle;
pub(crate) use async_lock::{Mutex, RwLock, Semaphore};
pub(crate) use async_net::{TcpListener, TcpStream};
pub(crate) use futures::channel::oneshot;
pub(crate) use futures_lite::future::yield_now;

/// The executors are statics: there is nothing to hold.
pub(crate) struct Runtime;

/// Starts the threads that run an executor, each in `run`. They drive the I/O, too.
pub(crate) fn start_workers<F: Future<Output = ()> + 'static>(workers: usize, run: fn() -> F) -> Runtime {
    for _ in 0..workers {
        std::thread::spawn(move || async_io::block_on(run()));
    }
    Runtime
}

/// The thread that blocks is no worker and no driver, as with the other runtimes.
pub(crate) fn block_on<F: Future>(_: &Runtime, future: F) -> F::Output {
    futures_lite::future::block_on(future)
}

pub(crate) async fn join<T>(task: Task<T>) -> T {
    task.await
}

pub(crate) fn detach<T>(task: Task<T>) {
    task.detach();
}

pub(crate) async fn acquire(semaphore: &Semaphore) -> async_lock::SemaphoreGuard<'_> {
    semaphore.acquire().await
}

pub(crate) fn send_now<T>(tx: &Sender<T>, message: T) {
    assert!(tx.try_send(message).is_ok(), "the receiver is there");
}

pub(crate) async fn recv<T>(rx: &mut Receiver<T>) -> Option<T> {
    rx.recv().await.ok()
}

pub(crate) async fn recv_unbounded<T>(rx: &mut Receiver<T>) -> Option<T> {
    rx.recv().await.ok()
}

pub(crate) fn sleep(duration: Duration) -> async_io::Timer {
    async_io::Timer::after(duration)
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

pub(crate) fn hyper_io(stream: TcpStream) -> FuturesIo<TcpStream> {
    FuturesIo::new(stream)
}

/// Cancels tasks once they are `parked`, and waits until all are gone. There are no sets of tasks: each is dropped,
/// which cancels it, and the last one's future, when it is dropped, is seen by `gone`.
pub(crate) async fn cancel_tasks(
    tasks: Vec<Task<()>>,
    parked: impl Future<Output = Stopwatch>,
    gone: impl Fn() -> bool,
) -> Part {
    let watch = parked.await;
    drop(tasks);
    while !gone() {
        yield_now().await;
    }
    watch.stop()
}

/// How many tasks a snapshot shows; there is none.
pub(crate) fn snapshot(_: &Runtime) -> Option<usize> {
    None
}
