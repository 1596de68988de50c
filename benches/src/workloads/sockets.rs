//! An echo over TCP, and an HTTP service.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

use super::{in_task, rt};
use crate::load::Generator;
use crate::measure::{Latencies, Measured, Plan, measure_after};

const CONNECTIONS: usize = 64;
const ROUND_TRIPS: usize = 50;
const BYTES: usize = 64;

const HTTP_CONNECTIONS: usize = 32;
const REQUESTS: usize = 1_000;

async fn echo(mut stream: rt::TcpStream) {
    let mut buffer = [0; BYTES];
    while rt::read_exact(&mut stream, &mut buffer).await.is_ok() {
        if rt::write_all(&mut stream, &buffer).await.is_err() {
            break;
        }
    }
}

/// The connections are made once; a step sends [`ROUND_TRIPS`] messages over each of them.
pub(super) fn tcp_echo(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    async fn talk(mut stream: rt::TcpStream, latencies: Arc<Latencies>) -> rt::TcpStream {
        let message = [7; BYTES];
        let mut answer = [0; BYTES];
        let mut seen = [Duration::ZERO; ROUND_TRIPS];
        for seen in &mut seen {
            let start = Instant::now();
            rt::write_all(&mut stream, &message).await.expect("the server is there");
            rt::read_exact(&mut stream, &mut answer).await.expect("an answer");
            *seen = start.elapsed();
        }
        latencies.add(&seen);
        stream
    }
    let clients = in_task(runtime, async {
        let (listener, address) = rt::listen().await;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            // The backlog takes the connection before it is accepted.
            clients.push(rt::connect(address).await);
            rt::detach(rt::spawn(echo(rt::accept(&listener).await)));
        }
        clients
    });
    let mut clients = Some(clients);
    let latencies = Arc::new(Latencies::new());
    let step = || {
        let (streams, latencies) = (clients.take().unwrap_or_default(), latencies.clone());
        clients = Some(in_task(runtime, async move {
            let talks = streams.into_iter().map(|stream| rt::spawn(talk(stream, latencies.clone())));
            let handles: Vec<_> = talks.collect();
            let mut streams = Vec::new();
            for handle in handles {
                streams.push(rt::join(handle).await);
            }
            streams
        }));
    };
    let measured = measure_after(plan, CONNECTIONS * ROUND_TRIPS, step, || latencies.reset());
    measured.with(latencies.quantiles())
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"Hello, world!"))))
}

/// hyper on the runtime, under the load generator; the CPU time is the server's alone.
pub(super) fn http(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    let address = in_task(runtime, async {
        let (listener, address) = rt::listen().await;
        rt::detach(rt::spawn(async move {
            loop {
                let stream = rt::accept(&listener).await;
                rt::detach(rt::spawn(async move {
                    let service = hyper::service::service_fn(hello);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(rt::hyper_io(stream), service).await;
                }));
            }
        }));
        address
    });
    let load = Generator::start(address, HTTP_CONNECTIONS).expect("the load generator starts");
    let load = Mutex::new(load);
    let lock = || load.lock().expect("nobody panics with it");
    let step = || lock().requests(REQUESTS).expect("the server answers");
    let measured =
        measure_after(plan, REQUESTS, step, || lock().reset().expect("the load generator is there"));
    let load = load.into_inner().expect("nobody panics with it");
    measured.with(load.end().expect("the load generator is there"))
}
