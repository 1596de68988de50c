//! A small HTTP service that leaks in seven ways, a client that drives it, and the report that tells.
//!
//! - `leaky`: serve, drive, stop, report.
//! - `leaky --json`: the same, with the report as JSON.
//! - `leaky --serve ADDR`: serve until ctrl-c, then report. Try `curl http://ADDR/`, and `/leak/...` below.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use leakfree::hyper::HyperTimer;
use leakfree::net::{TcpListener, TcpStream};
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::{mpsc, oneshot};
use leakfree::{Scope, signal, time};

/// Requests of the clean part.
const CLEAN_REQUESTS: usize = 4_000;
const CLEAN_CONNECTIONS: usize = 8;
/// More than the socket buffers of both ends hold.
const LARGE_BODY: usize = 64 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (json, serve) = match args.as_slice() {
        [] => (false, None),
        ["--json"] => (true, None),
        ["--serve", addr] => match addr.parse::<SocketAddr>() {
            Ok(addr) => (false, Some(addr)),
            Err(error) => {
                eprintln!("leaky: {addr:?} is no address to serve on ({error}); try 127.0.0.1:8080");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!("usage: leaky [--json | --serve ADDR]");
            return ExitCode::FAILURE;
        }
    };
    // What `#[leakfree::main]` does, spelled out, so that `--json` can have the report itself.
    let runtime = match Builder::new().workers(2).grace(Duration::from_millis(200)).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("leaky: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match serve {
            Some(addr) => serve_until_ctrl_c(addr).await,
            None => demonstrate().await,
        }
    });
    let report = runtime.shutdown();
    // A thread that ignores its cancel is left behind; let this one go on before the process ends.
    release_blocking_call();
    if json {
        print!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leaky: {error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves until ctrl-c.
async fn serve_until_ctrl_c(addr: SocketAddr) -> Result<(), Error> {
    let listener = TcpListener::bind(addr).await?;
    println!("serving on http://{}; ctrl-c ends it", listener.local_addr()?);
    leakfree::Scope::builder()
        .name("server")
        .scope(async |s| {
            leakfree::select! {
                () = accept(&s, &listener) => {}
                _ = signal::ctrl_c() => {}
            }
            // Whoever is still connected is dropped.
            s.cancel("enough");
        })
        .await;
    Ok(())
}

/// Serves, plants the leaks, runs the clean part, and stops the server. What is left is leaked.
async fn demonstrate() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = leakfree::spawn(serve(listener, stopped));

    for leak in ["kept-sender", "no-waker", "dropped-waker", "ticker", "blocking"] {
        let status = get(addr, &format!("/leak/{leak}")).await?;
        assert_eq!(status, StatusCode::ACCEPTED, "{leak}");
    }
    unread_body(addr).await?;
    clean_part(addr).await?;

    // A graceful stop: no new connections, and the server ends when the last one has. It would have to be awaited
    // here. But one connection never ends, as the report will say.
    let _ = stop.send(());
    drop(server);
    Ok(())
}

/// Serves until it is told to stop, and then waits for the connections that are open.
async fn serve(listener: TcpListener, stopped: oneshot::Receiver<()>) {
    leakfree::Scope::builder()
        .name("server")
        .scope(async |s| {
            leakfree::select! {
                () = accept(&s, &listener) => {}
                _ = stopped => {}
            }
        })
        .await;
}

/// Accepts connections, each in a task of its own.
async fn accept(s: &Scope, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(s.task().name("connection").spawn(serve_connection(stream))),
            Err(error) => {
                eprintln!("leaky: accept: {error}");
                time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(HyperTimer)
        .serve_connection(stream, service_fn(handle))
        .await;
    if let Err(error) = served {
        if !error.is_incomplete_message() {
            eprintln!("leaky: connection: {error}");
        }
    }
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let respond = |status, body: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = status;
        response
    };
    match request.uri().path() {
        "/" => return Ok(respond(StatusCode::OK, "hello\n")),
        "/large" => return Ok(Response::new(Full::new(Bytes::from(vec![b'x'; LARGE_BODY])))),
        "/leak/kept-sender" => leak_kept_sender(),
        "/leak/no-waker" => leak_no_waker(),
        "/leak/dropped-waker" => leak_dropped_waker().await,
        "/leak/ticker" => leak_ticker(),
        "/leak/blocking" => leak_blocking(),
        _ => return Ok(respond(StatusCode::NOT_FOUND, "no such page\n")),
    }
    Ok(respond(StatusCode::ACCEPTED, "planted\n"))
}

// ---- the leaks ----------------------------------------------------------------------------------

/// Senders that somebody keeps "for later" and never uses.
static KEPT: Mutex<Vec<mpsc::Sender<u64>>> = Mutex::new(Vec::new());

/// A job that waits for messages on a channel whose sender is kept and never used.
fn leak_kept_sender() {
    let (tx, mut rx) = mpsc::channel::<u64>(16);
    KEPT.lock().unwrap().push(tx);
    leakfree::spawn(async move { while rx.recv().await.is_some() {} });
}

/// A future that returns `Pending` and registers no waker.
fn leak_no_waker() {
    leakfree::spawn(pending::<()>());
}

/// A task whose only waker another task takes, and drops in place of waking it.
async fn leak_dropped_waker() {
    let (waker_tx, waker_rx) = oneshot::channel::<Waker>();
    let (parked_tx, parked_rx) = oneshot::channel::<()>();
    let mut senders = Some((waker_tx, parked_tx));
    leakfree::spawn(poll_fn(move |cx| {
        if let Some((waker_tx, parked_tx)) = senders.take() {
            let _ = waker_tx.send(cx.waker().clone());
            let _ = parked_tx.send(());
        }
        Poll::<()>::Pending
    }));
    let careless = leakfree::spawn(async move {
        let waker = waker_rx.await;
        let _ = parked_rx.await;
        time::sleep(Duration::from_millis(1)).await;
        drop(waker);
    });
    let _ = careless.await;
}

/// A ticker that nobody stops.
fn leak_ticker() {
    leakfree::spawn(async {
        let mut interval = time::interval(Duration::from_secs(3600));
        loop {
            interval.tick().await;
        }
    });
}

static RELEASE: OnceLock<std::sync::mpsc::Sender<()>> = OnceLock::new();

/// A blocking call that is still running when the program ends.
fn leak_blocking() {
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let _ = RELEASE.set(tx);
    leakfree::spawn_blocking(move || rx.recv());
}

fn release_blocking_call() {
    if let Some(tx) = RELEASE.get() {
        let _ = tx.send(());
    }
}

/// A client that asks for a large page and never reads it. The server's connection task stays in its write, and the
/// client's own connection task in its read.
async fn unread_body(addr: SocketAddr) -> Result<(), Error> {
    static UNREAD: Mutex<Option<Response<Incoming>>> = Mutex::new(None);
    let response = request(addr, "/large").await?;
    // Parked in the write is what we want to show: wait until the server has filled the buffers.
    until_parked("connection").await;
    *UNREAD.lock().unwrap() = Some(response);
    Ok(())
}

/// Waits until the live runtime shows a task of that name parked in a write.
async fn until_parked(name: &str) {
    use leakfree::report::snapshot::WaitReason;
    let is_writing = || {
        Handle::current().snapshot().tasks.iter().any(|task| {
            task.name.as_deref() == Some(name)
                && task.waits.iter().any(|wait| wait.reason == WaitReason::TcpWrite)
        })
    };
    while !is_writing() {
        time::sleep(Duration::from_millis(5)).await;
    }
}

// ---- the clean part -----------------------------------------------------------------------------

/// Thousands of requests over a few connections, every task in a scope: nothing of it may be in the report.
async fn clean_part(addr: SocketAddr) -> Result<(), Error> {
    leakfree::Scope::builder()
        .name("clean")
        .scope(async |s| {
            let clients: Vec<_> = (0..CLEAN_CONNECTIONS)
                .map(|_| s.spawn(client(addr, CLEAN_REQUESTS / CLEAN_CONNECTIONS)))
                .collect();
            for client in clients {
                client.await??;
            }
            Ok(())
        })
        .await
}

/// One connection, and a number of requests over it. The connection's driver ends with the scope.
async fn client(addr: SocketAddr, requests: usize) -> Result<(), Error> {
    leakfree::scope(async |s| {
        let stream = TcpStream::connect(addr).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        s.spawn(connection);
        for _ in 0..requests {
            let request = Request::get("/").header("host", "leaky").body(Empty::<Bytes>::new())?;
            let response = sender.send_request(request).await?;
            let body = response.into_body().collect().await?.to_bytes();
            assert_eq!(&body[..], b"hello\n");
        }
        Ok(())
    })
    .await
}

// ---- small change -------------------------------------------------------------------------------

/// One request over a connection of its own; the connection's driver is a task of the root scope.
async fn request(addr: SocketAddr, path: &str) -> Result<Response<Incoming>, Error> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    leakfree::spawn(connection);
    let request = Request::get(path).header("host", "leaky").body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

async fn get(addr: SocketAddr, path: &str) -> Result<StatusCode, Error> {
    let response = request(addr, path).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}
