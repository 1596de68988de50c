//! 10,000 connections at once to `leakfree::http::serve`. The clients are another process, this program run again: a connection takes a
//! descriptor at either end, and a process may have 20,000 of them on many machines.

use std::future::IntoFuture;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use leakfree::http::serve;
use leakfree::io::{AsyncBufReadExt, BufReader};
use leakfree::net::{TcpSocket, TcpStream};
use leakfree::process::Command;
use leakfree::runtime::{Builder, Handle};
use leakfree::scope;
use leakfree::sync::{Barrier, Semaphore, oneshot, watch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `LEAKFREE_HTTP_CONNECTIONS` says another number.
const CONNECTIONS: usize = 10_000;
/// What a process needs beside its connections.
const OTHER_DESCRIPTORS: u64 = 200;
/// To the process of the clients: where the server is, and how many it is to be.
const CLIENTS: &str = "LEAKFREE_TEST_CLIENTS";
/// So many connect at a time: the listener's queue is no longer than that.
const CONNECTING: usize = 256;

/// Lets this process have that many descriptors, or as many as it may; so many are there now.
fn raise_descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let current = limit.current.unwrap_or(u64::MAX);
    if current < wanted {
        let raised = Rlimit { current: Some(wanted.min(most)), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
    current.max(wanted.min(most))
}

#[leakfree::test(workers = 2, grace = "60s")]
async fn ten_thousand_connections_are_served_and_drained() {
    let wanted = std::env::var("LEAKFREE_HTTP_CONNECTIONS").map_or(CONNECTIONS, |n| n.parse().unwrap());
    let descriptors = raise_descriptors(wanted as u64 + OTHER_DESCRIPTORS);
    let connections = wanted.min(descriptors.saturating_sub(OTHER_DESCRIPTORS) as usize);
    if connections < wanted {
        // Not by `eprintln!`, which a test that passes keeps to itself.
        let less = format!(
            "LESS TESTED: {connections} connections, not {wanted}: this machine allows a process {descriptors} descriptors"
        );
        writeln!(std::io::stderr(), "{less}").unwrap();
    }

    let held = Arc::new(AtomicUsize::new(0));
    let (release, released) = watch::channel(false);
    let app = {
        let held = Arc::clone(&held);
        let hold = async move || {
            held.fetch_add(1, Ordering::SeqCst);
            released.clone().wait_for(|released| *released).await.unwrap();
            "held"
        };
        Router::new().route("/", get(async || "at once")).route("/held", get(hold))
    };
    scope(async |s| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(4 * CONNECTING as u32).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, app).with_graceful_shutdown(async move { _ = stopped.await });
        let server = s.spawn(server.grace(leakfree::time::Duration::from_secs(60)).into_future());

        let mut clients = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_of_the_clients", "--nocapture"])
            .env(CLIENTS, format!("{addr} {connections}"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(clients.stdout.take().unwrap()).lines();
        let mut until_said = async |wanted: &str| {
            while let Some(line) = said.next_line().await.unwrap() {
                if line == wanted {
                    return;
                }
            }
            panic!("the clients ended before they had said `{wanted}`");
        };

        until_said("all served once").await;
        let tasks = Handle::current().snapshot().tasks;
        let is_connection = |name: &&str| name.starts_with("connection 127.0.0.1");
        let alive = tasks.iter().filter_map(|task| task.name.as_deref()).filter(is_connection).count();
        assert_eq!(alive, connections, "each is there, with a name of its own");

        leakfree_tests::until(|| held.load(Ordering::SeqCst) == connections).await;
        // The end comes while each has a request in flight.
        drop(stop);
        leakfree_tests::until(|| std::net::TcpStream::connect(addr).is_err()).await;
        assert!(!server.is_finished());
        release.send(true).unwrap();
        until_said("all answered, all closed").await;
        server.await.unwrap().unwrap();
        assert!(clients.wait().await.unwrap().success());
    })
    .await;
}

/// Nothing but the clients of the test above, when that runs it.
#[test]
fn the_process_of_the_clients() {
    let Ok(task) = std::env::var(CLIENTS) else { return };
    let (addr, connections) = task.split_once(' ').unwrap();
    let (addr, connections): (SocketAddr, usize) = (addr.parse().unwrap(), connections.parse().unwrap());
    raise_descriptors(connections as u64 + OTHER_DESCRIPTORS);
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.block_on(scope(async |s| {
        let served = Arc::new(Barrier::new(connections + 1));
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                let (served, connecting) = (Arc::clone(&served), Arc::clone(&connecting));
                s.spawn(async move {
                    let permit = connecting.acquire().await.unwrap();
                    let stream = TcpStream::connect(addr).await.unwrap();
                    ask(&stream, "/", "at once").await;
                    drop(permit);
                    served.wait().await;
                    ask(&stream, "/held", "held").await;
                    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "closed in order");
                })
            })
            .collect();
        served.wait().await;
        say("all served once");
        for client in clients {
            client.await.unwrap();
        }
        say("all answered, all closed");
    }));
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report}");
}

/// One request, and the whole of the answer.
async fn ask(stream: &TcpStream, path: &str, answer: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut got, mut buf) = (Vec::new(), [0; 512]);
    while !got.ends_with(answer.as_bytes()) {
        let n = stream.read(&mut buf).await.unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buf[..n]);
    }
    assert!(got.starts_with(b"HTTP/1.1 200"));
}

/// A line of its own, at once.
fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}
