//! `leakfree::http::serve`: axum over HTTP/1 and HTTP/2, clients that misbehave, and the end of a server.

use std::convert::Infallible;
use std::future::{Future, IntoFuture, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use leakfree::http::{Listener, Peer, Serve, serve};
use leakfree::hyper::HyperTimer;
use leakfree::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use leakfree::report::snapshot::{TaskInfo, WaitObject, WaitReason};
use leakfree::sync::{Notify, mpsc, oneshot};
use leakfree::{Scope, scope};
use leakfree_tests::{Drops, Holding, TempDir, until};
use serde::{Deserialize, Serialize};

/// What ends in seconds on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A server of the app on loopback for as long as the body runs; then it drains.
async fn serving<T>(
    app: Router,
    options: impl FnOnce(Serve<TcpListener, Router>) -> Serve<TcpListener, Router>,
    body: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { _ = stopped.await };
        let server = s.spawn(options(serve(listener, app).with_graceful_shutdown(stopped)).into_future());
        let output = body(addr).await;
        drop(stop);
        server.await.unwrap().unwrap();
        output
    })
    .await
}

/// A client's end of a connection, in one of the two protocols.
enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Its connection is a daemon of the scope: it ends with it.
    async fn connect(s: &Scope, version: Version, addr: SocketAddr) -> Client {
        let io = TcpStream::connect(addr).await.unwrap();
        if version == Version::HTTP_2 {
            let (client, connection) =
                http2::Builder::new(s.clone()).timer(HyperTimer).handshake(io).await.unwrap();
            s.spawn_daemon(connection);
            Client::Two(client)
        } else {
            let (client, connection) = http1::handshake(io).await.unwrap();
            s.spawn_daemon(connection);
            Client::One(client)
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::One(client) => {
                client.ready().await?;
                client.send_request(request).await
            }
            Client::Two(client) => client.send_request(request).await,
        }
    }

    async fn get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let uri = format!("http://localhost{path}");
        self.send(Request::get(uri).header("host", "localhost").body(Full::default()).unwrap()).await
    }

    async fn status(&mut self, path: &str) -> StatusCode {
        let response = self.get(path).await.unwrap();
        let status = response.status();
        // The next request has to wait for the body's end.
        text(response).await;
        status
    }

    async fn text(&mut self, path: &str) -> String {
        text(self.get(path).await.unwrap()).await
    }
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Runs the body once per protocol, with a scope for its clients.
async fn both(addr: SocketAddr, body: impl AsyncFn(Scope, Version, SocketAddr)) {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        scope(async |s| body(s, version, addr).await).await;
    }
}

/// Everything that comes until the other end closes or resets.
async fn read_all(stream: &TcpStream) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut buf).await {
        all.extend_from_slice(&buf[..n]);
    }
    all
}

#[derive(Deserialize)]
struct Range {
    first: u32,
    last: u32,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Sum {
    of: Vec<u32>,
    total: u32,
}

#[leakfree::test(workers = 2)]
async fn axum_with_extractors_json_state_and_middleware() {
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route("/users/{id}", get(async |Path(id): Path<u32>| format!("user {id}")))
        .route(
            "/sum",
            get(async |Query(range): Query<Range>| (range.first..=range.last).sum::<u32>().to_string()),
        )
        .route(
            "/sum",
            post(async |Json(of): Json<Vec<u32>>| {
                let total = of.iter().sum();
                Json(Sum { of, total })
            }),
        )
        .route("/peer", get(async |Extension(Peer(addr)): Extension<Peer<SocketAddr>>| addr.to_string()))
        .route(
            "/asked",
            get(async |State(asked): State<Arc<AtomicUsize>>| asked.load(Ordering::SeqCst).to_string()),
        )
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&asked),
            async |State(asked): State<Arc<AtomicUsize>>, request, next: axum::middleware::Next| {
                asked.fetch_add(1, Ordering::SeqCst);
                leakfree::yield_now().await;
                let mut response = next.run(request).await;
                response.headers_mut().insert("x-served-by", HeaderValue::from_static("leakfree"));
                response
            },
        ))
        .with_state(Arc::clone(&asked));
    serving(
        app,
        |server| server,
        async |addr| {
            both(addr, async |s, version, addr| {
                asked.store(0, Ordering::SeqCst);
                let mut client = Client::connect(&s, version, addr).await;
                let response = client.get("/users/7").await.unwrap();
                assert_eq!(response.version(), version);
                assert_eq!(response.headers()["x-served-by"], "leakfree");
                assert_eq!(text(response).await, "user 7");
                assert_eq!(client.text("/sum?first=1&last=10").await, "55");
                let request =
                    Request::post("http://localhost/sum").header("content-type", "application/json");
                let request = request.header("host", "localhost").body(Full::from("[1, 2, 3]")).unwrap();
                let sum: Sum =
                    serde_json::from_str(&text(client.send(request).await.unwrap()).await).unwrap();
                assert_eq!(sum, Sum { of: vec![1, 2, 3], total: 6 });
                assert!(client.text("/peer").await.starts_with("127.0.0.1:"));
                assert_eq!(client.status("/users/seven").await, StatusCode::BAD_REQUEST);
                assert_eq!(client.status("/nobody").await, StatusCode::NOT_FOUND);
                // All but the one without a route of its own went through the middleware, this one included.
                let asked: usize = client.text("/asked").await.parse().unwrap();
                assert!(asked >= 6, "{asked}");
            })
            .await;
        },
    )
    .await;
}

/// A body that a child of the request feeds, of `n` chunks.
async fn fed(Path(n): Path<usize>, State(drops): State<Drops>) -> Body {
    let (tx, rx) = mpsc::channel(1);
    let guard = drops.guard();
    leakfree::scope::current().spawn(async move {
        let _guard = guard;
        for i in 0..n {
            if tx.send(format!("{i} ")).await.is_err() {
                return;
            }
        }
    });
    Body::from_stream(stream::unfold(rx, async |mut rx| {
        let chunk = rx.recv().await?;
        Some((Ok::<_, Infallible>(chunk), rx))
    }))
}

#[leakfree::test(workers = 2)]
async fn a_streaming_body_is_fed_by_a_child_of_its_request() {
    let drops = Drops::new();
    let app = Router::new().route("/{n}", get(fed)).with_state(drops.clone());
    serving(
        app,
        |server| server,
        async |addr| {
            both(addr, async |s, version, addr| {
                let before = drops.count();
                let mut client = Client::connect(&s, version, addr).await;
                let expected: String = (0..200).map(|i| format!("{i} ")).collect();
                assert_eq!(client.text("/200").await, expected);
                assert_eq!(drops.count(), before + 1, "the body ends after the child that fed it");
            })
            .await;
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_slow_reader_holds_the_body_back_and_its_going_away_cancels_it() {
    let drops = Drops::new();
    let app = Router::new().route("/{n}", get(fed)).with_state(drops.clone());
    serving(
        app,
        |server| server,
        async |addr| {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let before = drops.count();
                scope(async |s| {
                    let mut client = Client::connect(&s, version, addr).await;
                    let mut body = client.get("/100000000").await.unwrap().into_body();
                    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
                    assert!(first.starts_with(b"0 "));
                    assert_eq!(drops.count(), before, "it goes on");
                })
                .await;
                // The connection is gone with the scope's daemons.
                until(|| drops.count() == before + 1).await;
            }
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_response_of_known_size_comes_after_what_the_handler_spawned() {
    let drops = Drops::new();
    let spawning = async |State(drops): State<Drops>| {
        let guard = drops.guard();
        leakfree::scope::current().spawn(async move {
            let _guard = guard;
            for _ in 0..10 {
                leakfree::yield_now().await;
            }
        });
        "done"
    };
    let app = Router::new().route("/", get(spawning)).with_state(drops.clone());
    serving(
        app,
        |server| server,
        async |addr| {
            both(addr, async |s, version, addr| {
                let before = drops.count();
                let mut client = Client::connect(&s, version, addr).await;
                assert_eq!(client.text("/").await, "done");
                assert_eq!(drops.count(), before + 1);
            })
            .await;
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_handler_is_named_in_reports_by_its_request_and_peer() {
    let names = async || {
        let scopes = leakfree::runtime::Handle::current().snapshot().scopes;
        scopes.into_iter().filter_map(|scope| scope.name).collect::<Vec<_>>().join(", ")
    };
    let app = Router::new().fallback(names);
    serving(
        app,
        |server| server,
        async |addr| {
            both(addr, async |s, version, addr| {
                let mut client = Client::connect(&s, version, addr).await;
                let names = client.text("/tree?token=secret").await;
                assert!(names.contains("connection 127.0.0.1:"), "{names}");
                assert!(names.contains("request GET /tree") && !names.contains("secret"), "{names}");
                // A long path is cut, and a character stays whole.
                let long = client.text(&format!("/{}\u{e9}{}", "a".repeat(62), "b".repeat(100))).await;
                assert!(long.contains(&format!("request GET /{}...", "a".repeat(62))), "{long}");
                assert!(!long.contains('b'), "{long}");
            })
            .await;
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_handlers_panic_ends_its_connection_or_its_stream_only() {
    let app = Router::new().route("/", get(async || "fine")).route("/panic", get(panicking));
    async fn panicking() -> &'static str {
        std::panic::resume_unwind(Box::new("on purpose"))
    }
    serving(
        app,
        |server| server,
        async |addr| {
            both(addr, async |s, version, addr| {
                let mut other = Client::connect(&s, version, addr).await;
                assert_eq!(other.text("/").await, "fine");
                let mut client = Client::connect(&s, version, addr).await;
                client.get("/panic").await.unwrap_err();
                assert_eq!(other.text("/").await, "fine");
                if version == Version::HTTP_2 {
                    assert_eq!(client.text("/").await, "fine", "the other streams of the connection live on");
                }
            })
            .await;
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn malformed_requests_end_their_connection_only() {
    let app = Router::new().route("/", get(async || "fine"));
    serving(
        app,
        |server| server,
        async |addr| {
            let h2_then_noise = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
            let long_header = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 600_000], b"\r\n\r\n"].concat();
            let malformed: [(&[u8], &str); 8] = [
                (b"\0\x01\x02\x03 garbage\r\n\r\n", "HTTP/1.1 400"),
                (b"GET\r\n\r\n", "HTTP/1.1 400"),
                (b"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
                (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400"),
                (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 400"),
                (b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", ""),
                (&h2_then_noise, ""),
                (&long_header, ""),
            ];
            for (bytes, answer) in malformed {
                let stream = TcpStream::connect(addr).await.unwrap();
                // It may be refused before all of it is written.
                let _ = stream.write_all(bytes).await;
                let got = leakfree::time::timeout(LONG, read_all(&stream)).await.expect("the server closes");
                let got = String::from_utf8_lossy(&got);
                assert!(got.starts_with(answer), "{:?}: {got}", String::from_utf8_lossy(bytes));
            }
            scope(async |s| {
                assert_eq!(Client::connect(&s, Version::HTTP_11, addr).await.text("/").await, "fine");
            })
            .await;
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_client_that_is_slow_with_its_head_is_cut_off() {
    let app = Router::new().route("/", get(async || "fine"));
    let timeout = Duration::from_millis(30);
    serving(
        app,
        |server| server.header_read_timeout(timeout),
        async |addr| {
            for bytes in [
                "",
                "P",
                "PRI * HTTP/2.0\r\n",
                "GET / HTTP/1.1\r\nho",
                "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT",
            ] {
                let stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(bytes.as_bytes()).await.unwrap();
                let got = leakfree::time::timeout(LONG, read_all(&stream)).await.expect("the server closes");
                assert_eq!(got.ends_with(b"fine"), bytes.contains("host"), "{bytes:?}");
            }
        },
    )
    .await;
}

/// A client's end that can stop to read, and never says that it did.
struct StopsReading {
    io: TcpStream,
    stopped: Arc<AtomicBool>,
}

impl hyper::rt::Read for StopsReading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.stopped.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        hyper::rt::Read::poll_read(Pin::new(&mut self.io), cx, buf)
    }
}

impl hyper::rt::Write for StopsReading {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        hyper::rt::Write::poll_write(Pin::new(&mut self.io), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        hyper::rt::Write::poll_flush(Pin::new(&mut self.io), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        hyper::rt::Write::poll_shutdown(Pin::new(&mut self.io), cx)
    }
}

/// An endless body in large pieces; its end is counted.
async fn endless(State(drops): State<Drops>) -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    Body::from_stream(stream::unfold((piece, drops.guard()), async |state| {
        Some((Ok::<_, Infallible>(state.0.clone()), state))
    }))
}

#[leakfree::test(workers = 2)]
async fn a_client_that_stops_reading_is_cut_off_and_a_slow_one_is_not() {
    let drops = Drops::new();
    let app = Router::new().route("/", get(endless)).with_state(drops.clone());
    let most = Duration::from_millis(300);
    serving(
        app,
        |server| server.write_timeout(most),
        async |addr| {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let before = drops.count();
                scope(async |s| {
                    let stopped = Arc::new(AtomicBool::new(false));
                    let io = StopsReading {
                        io: TcpStream::connect(addr).await.unwrap(),
                        stopped: Arc::clone(&stopped),
                    };
                    let mut client = if version == Version::HTTP_2 {
                        // With no window that could hold the server up before the connection does.
                        let (client, connection) = http2::Builder::new(s.clone())
                            .timer(HyperTimer)
                            .initial_stream_window_size(1 << 30)
                            .initial_connection_window_size(1 << 30)
                            .handshake(io)
                            .await
                            .unwrap();
                        s.spawn_daemon(connection);
                        Client::Two(client)
                    } else {
                        let (client, connection) = http1::handshake(io).await.unwrap();
                        s.spawn_daemon(connection);
                        Client::One(client)
                    };
                    let mut body = client.get("/").await.unwrap().into_body();
                    // Slow, but it gets on, for longer than the server's patience.
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < 2 * most {
                        body.frame().await.unwrap().unwrap();
                    }
                    assert_eq!(drops.count(), before, "it goes on");
                    stopped.store(true, Ordering::SeqCst);
                    until(|| drops.count() == before + 1).await;
                })
                .await;
            }
        },
    )
    .await;
}

/// One frame of HTTP/2: type, flags and content.
async fn frame(stream: &TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut content = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut content).await.ok()?;
    Some((head[3], head[4], content))
}

#[leakfree::test(workers = 2)]
async fn an_http2_client_that_answers_no_ping_any_more_is_cut_off() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let short = Duration::from_millis(50);
    serving(
        Router::new(),
        |server| server.http2_keep_alive_interval(short).http2_keep_alive_timeout(4 * short),
        async |addr| {
            let stream = TcpStream::connect(addr).await.unwrap();
            // The preface, and settings that say nothing.
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            let mut pings = 0;
            let closed = async {
                while let Some((kind, flags, content)) = frame(&stream).await {
                    if kind != PING || flags & ACK != 0 {
                        continue;
                    }
                    pings += 1;
                    if pings <= 5 {
                        let answer = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &content[..]].concat();
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            };
            leakfree::time::timeout(LONG, closed).await.expect("the server closes");
            assert_eq!(pings, 6, "it was borne with as long as it answered");
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn the_longest_times_are_for_ever() {
    let app = Router::new().route("/", get(async || "fine"));
    let forever = |server: Serve<TcpListener, Router>| {
        server
            .header_read_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
            .http2_keep_alive_interval(Duration::MAX)
            .http2_keep_alive_timeout(Duration::MAX)
            .grace(Duration::MAX)
    };
    serving(app, forever, async |addr| {
        both(addr, async |s, version, addr| {
            let mut client = Client::connect(&s, version, addr).await;
            assert_eq!(client.text("/").await, "fine");
            assert_eq!(client.text("/").await, "fine");
        })
        .await;
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_request_whose_body_is_cut_short_is_an_error_for_its_handler() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = async move |body: Body| {
        let read = body.collect().await;
        tell.send(read.is_err()).unwrap();
        StatusCode::OK
    };
    let app = Router::new().route("/", post(handler));
    serving(
        app,
        |server| server,
        async |addr| {
            const HALF: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345";
            for reset in [false, true] {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(HALF).await.unwrap();
                if reset {
                    stream.set_linger(Some(Duration::ZERO)).unwrap();
                    drop(stream);
                } else {
                    // Its other direction stays open.
                    futures::AsyncWriteExt::close(&mut stream).await.unwrap();
                    read_all(&stream).await;
                }
                assert_eq!(told.recv().await, Some(true), "the handler was told, reset: {reset}");
            }
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_client_that_goes_away_cancels_its_request() {
    let drops = Drops::new();
    let (entered, app) = holding(&drops);
    serving(
        app,
        |server| server,
        async |addr| {
            for (round, reset) in [(1, false), (2, true)] {
                let stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                entered.notified().await;
                if reset {
                    stream.set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop(stream);
                until(|| drops.count() == round).await;
            }
        },
    )
    .await;
}

/// An app whose handler says that it was entered, and never returns.
fn holding(drops: &Drops) -> (Arc<Notify>, Router) {
    let entered = Arc::new(Notify::new());
    let (drops, notify) = (drops.clone(), Arc::clone(&entered));
    let app = Router::new().route(
        "/",
        get(async move || {
            let guard = drops.guard();
            notify.notify_one();
            leakfree::waiting("for ever", Holding(guard)).await;
            // A foreign waker is left behind, so that it is not taken for proven.
            pending::<&'static str>().await
        }),
    );
    (entered, app)
}

#[leakfree::test(workers = 2)]
async fn a_drain_closes_idle_connections_and_lets_requests_in_flight_end() {
    let entered = Arc::new(Notify::new());
    let go_on = Arc::new(Notify::new());
    let app = {
        let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
        let slow = async move || {
            entered.notify_one();
            go_on.notified().await;
            "slow"
        };
        Router::new().route("/slow", get(slow)).route("/", get(async || "fast"))
    };
    for version in [Version::HTTP_11, Version::HTTP_2] {
        scope(async |s| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (tell, told) = oneshot::channel();
            let app = app.clone();
            let server = s.spawn(async move {
                // The scope around the server is what is cancelled, and whose grace counts.
                Scope::builder()
                    .grace(LONG)
                    .scope(async |inner| {
                        tell.send(inner.token()).unwrap();
                        serve(listener, app).await
                    })
                    .await
            });
            let token = told.await.unwrap();
            let mut idle = Client::connect(&s, version, addr).await;
            assert_eq!(idle.text("/").await, "fast");
            let silent = TcpStream::connect(addr).await.unwrap();
            let mut busy = Client::connect(&s, version, addr).await;
            let answer = s.spawn(async move { busy.text("/slow").await });
            entered.notified().await;
            token.cancel("the test");
            assert_eq!(read_all(&silent).await, b"", "closed");
            until(|| match &idle {
                Client::One(client) => client.is_closed(),
                Client::Two(client) => client.is_closed(),
            })
            .await;
            // The accepting task hears of it in its own time.
            while TcpStream::connect(addr).await.is_ok() {
                leakfree::yield_now().await;
            }
            assert!(!server.is_finished() && !answer.is_finished());
            go_on.notify_one();
            assert_eq!(answer.await.unwrap(), "slow");
            server.await.unwrap().unwrap();
        })
        .await;
    }
}

#[leakfree::test(workers = 2)]
async fn what_is_in_flight_after_the_grace_is_dropped() {
    let drops = Drops::new();
    let (entered, app) = holding(&drops);
    scope(async |s| {
        // Once after a grace of the server's own, once without any.
        for grace in [Some(Duration::from_millis(20)), None] {
            let before = drops.count();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = Client::connect(&s, Version::HTTP_11, listener.local_addr().unwrap()).await;
            let app = app.clone();
            let (tell, told) = oneshot::channel();
            let server = s.spawn(scope(async move |inner: Scope| {
                let server = serve(listener, app);
                tell.send(inner.token()).unwrap();
                let server = grace.into_iter().fold(server, Serve::grace);
                server.await
            }));
            let token = told.await.unwrap();
            let answer = s.spawn(async move { client.get("/").await.map(drop) });
            entered.notified().await;
            token.cancel("the test");
            server.await.unwrap().unwrap();
            assert_eq!(drops.count(), before + 1);
            answer.await.unwrap().unwrap_err();
        }
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_server_that_is_dropped_takes_its_connections_with_it() {
    let drops = Drops::new();
    let (entered, app) = holding(&drops);
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::connect(&s, Version::HTTP_11, listener.local_addr().unwrap()).await;
        let answer = s.spawn(async move { client.get("/").await.map(drop) });
        leakfree::select! {
            _ = serve(listener, app).into_future() => unreachable!("nobody told it to end"),
            () = entered.notified() => {}
        }
        answer.await.unwrap().unwrap_err();
    })
    .await;
    assert_eq!(drops.count(), 1);
}

#[leakfree::test(workers = 2)]
async fn connections_beyond_the_bound_wait_to_be_accepted() {
    let app = Router::new().route("/", get(async || "fine"));
    serving(
        app,
        |server| server.max_connections(1),
        async |addr| {
            const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            let first = TcpStream::connect(addr).await.unwrap();
            first.write_all(GET).await.unwrap();
            let mut buf = [0; 1024];
            let n = first.read(&mut buf).await.unwrap();
            assert!(buf[..n].ends_with(b"fine"));
            let second = TcpStream::connect(addr).await.unwrap();
            second.write_all(GET).await.unwrap();
            let connections = || {
                let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
                tasks
                    .iter()
                    .filter(|task| task.name.as_ref().is_some_and(|name| name.starts_with("connection")))
                    .count()
            };
            // The first may ask again, and again, while the second waits.
            for _ in 0..20 {
                first.write_all(GET).await.unwrap();
                let n = first.read(&mut buf).await.unwrap();
                assert!(buf[..n].ends_with(b"fine"));
                assert_eq!(connections(), 1);
            }
            drop(first);
            let n = second.read(&mut buf).await.unwrap();
            assert!(buf[..n].ends_with(b"fine"));
        },
    )
    .await;
}

/// Up to four bytes.
async fn read_some(io: &mut (impl hyper::rt::Read + Unpin)) -> Vec<u8> {
    let mut bytes = [0; 4];
    let mut buf = hyper::rt::ReadBuf::new(&mut bytes);
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await.unwrap();
    buf.filled().to_vec()
}

async fn write(io: &mut (impl hyper::rt::Write + Unpin), bytes: &[u8]) {
    assert_eq!(poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await.unwrap(), bytes.len());
}

/// Says once back what is said when the connection is the handler's own.
fn echo(request: &mut Request<Body>) {
    let upgrading = hyper::upgrade::on(request);
    leakfree::scope::current().spawn(async move {
        let mut io = upgrading.await.unwrap();
        let said = read_some(&mut io).await;
        write(&mut io, &said).await;
        // The other end may have gone when it has read that.
        let _ = poll_fn(|cx| hyper::rt::Write::poll_shutdown(Pin::new(&mut io), cx)).await;
    });
}

/// A handler that switches to the echo.
async fn switch(mut request: Request<Body>) -> Response<Body> {
    echo(&mut request);
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header("connection", "upgrade").header("upgrade", "echo").body(Body::empty()).unwrap()
}

/// A connection that was switched to the echo.
async fn switched(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut buf = [0; 1024];
    let n = stream.read(&mut buf).await.unwrap();
    assert!(buf[..n].starts_with(b"HTTP/1.1 101"));
    stream
}

#[leakfree::test(workers = 2)]
async fn upgrades_hand_the_connection_over() {
    let app = Router::new().route("/", get(switch));
    serving(
        app,
        |server| server,
        async |addr| {
            let stream = switched(addr).await;
            stream.write_all(b"ping").await.unwrap();
            assert_eq!(read_all(&stream).await, b"ping");
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_connection_that_was_upgraded_counts_until_its_end() {
    let app = Router::new().route("/", get(switch));
    serving(
        app,
        |server| server.max_connections(1),
        async |addr| {
            let first = switched(addr).await;
            let second = switched(addr);
            let mut second = std::pin::pin!(second);
            let early = leakfree::time::timeout(Duration::from_millis(200), second.as_mut()).await;
            assert!(early.is_err(), "there is room for one");
            first.write_all(b"ping").await.unwrap();
            assert_eq!(read_all(&first).await, b"ping");
            let second = second.await;
            second.write_all(b"pong").await.unwrap();
            assert_eq!(read_all(&second).await, b"pong");
        },
    )
    .await;
}

#[leakfree::test(workers = 2)]
async fn a_tunnel_is_an_upgrade() {
    let app = Router::new().fallback(async |mut request: Request<Body>| {
        echo(&mut request);
        StatusCode::OK
    });
    let tunnels = serving(
        app,
        |server| server,
        async |addr| {
            let stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n").await.unwrap();
            let mut buf = [0; 1024];
            let n = stream.read(&mut buf).await.unwrap();
            assert!(buf[..n].starts_with(b"HTTP/1.1 200"));
            stream.write_all(b"ping").await.unwrap();
            assert_eq!(read_all(&stream).await, b"ping");
            scope(async |s| {
                let mut client = Client::connect(&s, Version::HTTP_2, addr).await;
                let request = Request::connect("x:1").body(Full::default()).unwrap();
                let response = client.send(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                let mut io = hyper::upgrade::on(response).await.unwrap();
                write(&mut io, b"pong").await;
                assert_eq!(read_some(&mut io).await, b"pong");
            })
            .await;
        },
    );
    leakfree::time::timeout(LONG, tunnels).await.expect("a tunnel's answer waits for nobody");
}

#[leakfree::test(workers = 2)]
async fn a_unix_socket_serves_as_well() {
    let dir = TempDir::new();
    let path = dir.path().join("http");
    scope(async |s| {
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().route("/", get(async || "fine"));
        let server = serve(listener, app).with_graceful_shutdown(async move { _ = stopped.await });
        s.spawn(server.into_future());
        let (mut client, connection) =
            http1::handshake(UnixStream::connect(&path).await.unwrap()).await.unwrap();
        s.spawn_daemon(connection);
        let request = Request::get("/").header("host", "x").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(text(client.send_request(request).await.unwrap()).await, "fine");
        drop(stop);
    })
    .await;
}

#[leakfree::test(workers = 2)]
async fn curl_understands_it() {
    let Ok(version) = std::process::Command::new("curl").arg("--version").output() else {
        eprintln!("SKIPPED: there is no curl on this machine");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let app = Router::new().route("/", get(async || "fine")).route("/{n}", get(fed)).with_state(Drops::new());
    serving(
        app,
        |server| server,
        async |addr| {
            let protocols = [("HTTP/1", "--http1.1"), ("HTTP2", "--http2-prior-knowledge")];
            for (name, option) in protocols {
                if name == "HTTP2" && !version.contains(name) {
                    eprintln!("SKIPPED: this curl does not speak HTTP/2");
                    continue;
                }
                let curl = async |path: &str| {
                    let url = format!("http://{addr}{path}");
                    let mut command = leakfree::process::Command::new("curl");
                    command.args([
                        "--silent",
                        "--show-error",
                        "--max-time",
                        "20",
                        "--noproxy",
                        "*",
                        option,
                        &url,
                    ]);
                    let output = command.output().await.unwrap();
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    String::from_utf8(output.stdout).unwrap()
                };
                assert_eq!(curl("/").await, "fine");
                assert_eq!(curl("/3").await, "0 1 2 ");
            }
        },
    )
    .await;
}

/// A listener that fails in the given ways first.
struct Failing(Vec<rustix::io::Errno>, TcpListener);

impl leakfree::http::Listener for Failing {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> std::io::Result<(TcpStream, SocketAddr)> {
        match self.0.pop() {
            Some(errno) => Err(errno.into()),
            None => self.1.accept().await,
        }
    }
}

#[leakfree::test(workers = 2)]
async fn accepts_that_fail_are_tried_again_unless_the_listener_is_broken() {
    use rustix::io::Errno;
    let app = Router::new().route("/", get(async || "fine"));
    scope(async |s| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let failing =
            Failing(vec![Errno::MFILE, Errno::CONNABORTED, Errno::PROTO, Errno::OPNOTSUPP], listener);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(failing, app.clone()).with_graceful_shutdown(async move { _ = stopped.await });
        let server = s.spawn(server.into_future());
        let mut client = Client::connect(&s, Version::HTTP_11, addr).await;
        assert_eq!(client.text("/").await, "fine");
        drop(stop);
        server.await.unwrap().unwrap();
    })
    .await;
    let broken = Failing(vec![Errno::BADF], TcpListener::bind("127.0.0.1:0").await.unwrap());
    let error = serve(broken, app).await.unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
}

#[test]
fn a_bound_of_zero_connections_is_refused() {
    let message = leakfree_tests::panic_message(|| {
        let runtime = leakfree_tests::runtime(1);
        let listener = runtime.block_on(async { TcpListener::bind("127.0.0.1:0").await }).unwrap();
        let _ = serve(listener, Router::<()>::new()).max_connections(0);
    });
    assert!(message.contains("max_connections"), "{message}");
}

/// The server's future can be spawned and moved like any other.
fn _is_send(
    server: Serve<TcpListener, Router>,
) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
    server.into_future()
}

/// A server at rest, and a listener of it, wait for connections: the record says on which listener. An accept that is dropped
/// half-way has lost no connection.
#[leakfree::test(workers = 2)]
async fn a_server_at_rest_waits_for_connections() {
    let bind = async || {
        let (line, listener) = (line!(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        (line, listener)
    };
    let of_listener = |task: &TaskInfo, line: u32| {
        let wait = task.waits.iter().find(|wait| wait.reason == WaitReason::TcpAccept);
        let wait = wait.unwrap_or_else(|| panic!("{:?}", task.waits));
        let WaitObject::Created(site) = wait.object else { panic!("{wait:?}") };
        assert_eq!((site.file, site.line), (file!(), line));
    };

    // Nothing of what a server waits for is on a line of ours: all is where `serve` was called.
    let called_here = |task: &TaskInfo, line: u32, reasons: &[WaitReason]| {
        let waits: Vec<_> =
            task.waits.iter().map(|wait| (wait.reason, wait.site.file, wait.site.line)).collect();
        let expected: Vec<_> = reasons.iter().map(|reason| (*reason, file!(), line)).collect();
        assert_eq!(waits, expected);
    };

    let (line, listener) = bind().await;
    let (task, here) = leakfree_tests::park!(serve(listener, Router::new()).into_future());
    of_listener(&task, line);
    called_here(&task, here, &[WaitReason::Cancelled, WaitReason::TcpAccept]);

    let (line, mut listener) = bind().await;
    let (task, here) = leakfree_tests::park!(async move { Listener::accept(&mut listener).await });
    of_listener(&task, line);
    called_here(&task, here, &[WaitReason::TcpAccept]);

    let dir = TempDir::new();
    let listener = UnixListener::bind(dir.path().join("http")).unwrap();
    let (task, here) = leakfree_tests::park!(serve(listener, Router::new()).into_future());
    called_here(&task, here, &[WaitReason::Cancelled, WaitReason::UnixAccept]);

    // Short of places for connections, and after an accept that failed.
    scope(async |s| {
        let (_, listener) = bind().await;
        let addr = listener.local_addr().unwrap();
        let server = serve(listener, Router::new()).max_connections(1).into_future();
        let here = line!() - 1;
        s.task().name("full").spawn(server);
        let _connections = [TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap()];
        let mut full = None;
        until(|| {
            let tasks = leakfree::runtime::Handle::current().snapshot().tasks;
            let is_full = |task: &TaskInfo| {
                task.waits.iter().any(|wait| wait.reason == WaitReason::SemaphoreAcquire)
                    || task.name.as_deref().is_some_and(|name| name.starts_with("connection"))
                        && task.parked.is_some()
            };
            full = Some(tasks.into_iter().filter(is_full).collect::<Vec<_>>());
            full.as_ref().is_some_and(|full| full.len() == 2)
        })
        .await;
        for task in full.unwrap() {
            if task.name.as_deref() == Some("full") {
                called_here(&task, here, &[WaitReason::Cancelled, WaitReason::SemaphoreAcquire]);
            } else {
                // It has said nothing yet.
                let reasons = [WaitReason::Cancelled, WaitReason::TcpRead, WaitReason::Timeout];
                called_here(&task, here, &reasons);
            }
        }
        s.cancel("seen");
    })
    .await;
    let (_, listener) = bind().await;
    let failing = Failing(vec![rustix::io::Errno::MFILE; 1_000_000], listener);
    let (task, here) = leakfree_tests::park!(serve(failing, Router::new()).into_future());
    called_here(&task, here, &[WaitReason::Cancelled, WaitReason::Sleep]);

    let (_, mut listener) = bind().await;
    assert!(leakfree_tests::polled_once(Listener::accept(&mut listener)).await.is_pending());
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_, peer) = Listener::accept(&mut listener).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}
