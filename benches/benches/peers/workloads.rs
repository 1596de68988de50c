//! The work, in terms of `super`: the runtime that this copy is compiled for.
#![allow(clippy::duplicate_mod, reason = "compiled once for each peer on purpose")]

use std::future::Future;
use std::sync::Arc;

use super as rt;
use crate::Plan;
use crate::measure::{Measured, measure};

const SPAWNS: usize = 10_000;
const JOINS: usize = 1_000;
const CHAIN: usize = 1_000;
const YIELDERS: usize = 200;
const YIELDS: usize = 1_000;
const PAIRS: usize = 1_000;
const MESSAGES: usize = 8_000;
const LOCKERS: usize = 8;
const LOCKS: usize = 1_000;
const CONNECTIONS: usize = 64;
const ROUND_TRIPS: usize = 50;
const BYTES: usize = 64;

/// Runs the workload named `workload` as often as `plan` says; one of [`crate::WORKLOADS`].
pub(crate) fn run(workload: &str, plan: &Plan) -> Option<Measured> {
    let runtime = rt::start();
    match workload {
        // The thread that blocks is no worker: what it spawns goes through the injector.
        "spawn-outside" => Some(measure(plan, SPAWNS, || rt::block_on(&runtime, spawn_many()))),
        "spawn-many" => inside(&runtime, plan, SPAWNS, spawn_many),
        "spawn-join" => inside(&runtime, plan, JOINS, spawn_join),
        "chain" => inside(&runtime, plan, CHAIN, chained_spawn),
        "yield" => inside(&runtime, plan, YIELDERS * YIELDS, yield_many),
        "ping-pong" => inside(&runtime, plan, PAIRS, ping_pong),
        "ping-pong-futures" => inside(&runtime, plan, PAIRS, ping_pong_futures),
        "mpsc-1" => inside(&runtime, plan, MESSAGES, || mpsc(1)),
        "mpsc-8" => inside(&runtime, plan, MESSAGES, || mpsc(8)),
        "mutex" => inside(&runtime, plan, LOCKERS * LOCKS, mutex),
        "tcp-echo" => Some(tcp_echo(&runtime, plan)),
        _ => None,
    }
}

/// Runs each step in a task, as most code of a program does.
fn inside<F>(runtime: &rt::Runtime, plan: &Plan, ops: usize, step: impl Fn() -> F) -> Option<Measured>
where
    F: Future<Output = ()> + Send + 'static,
{
    Some(measure(plan, ops, || in_task(runtime, step())))
}

fn in_task<F>(runtime: &rt::Runtime, future: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    rt::block_on(runtime, async { rt::join(rt::spawn(future)).await })
}

async fn join_all<T>(handles: Vec<rt::JoinHandle<T>>) {
    for handle in handles {
        rt::join(handle).await;
    }
}

async fn spawn_many() {
    let handles = (0..SPAWNS).map(|n| rt::spawn(async move { std::hint::black_box(n) })).collect();
    join_all(handles).await;
}

async fn spawn_join() {
    for n in 0..JOINS {
        rt::join(rt::spawn(async move { std::hint::black_box(n) })).await;
    }
}

async fn chained_spawn() {
    fn link(left: usize, end: rt::oneshot::Sender<()>) {
        rt::spawn(async move {
            if left == 0 {
                let _ = end.send(());
            } else {
                link(left - 1, end);
            }
        });
    }
    let (end, ended) = rt::oneshot::channel();
    link(CHAIN, end);
    ended.await.expect("the chain has an end");
}

async fn yield_many() {
    let handles = (0..YIELDERS)
        .map(|_| {
            rt::spawn(async {
                for _ in 0..YIELDS {
                    rt::yield_now().await;
                }
            })
        })
        .collect();
    join_all(handles).await;
}

/// All pairs at once: each asks its partner, a task of its own, and waits for the answer.
macro_rules! ping_pong {
    ($channel:path) => {
        join_all(
            (0..PAIRS)
                .map(|_| {
                    rt::spawn(async {
                        let (ping, pinged) = $channel();
                        let (pong, ponged) = $channel();
                        rt::spawn(async move {
                            let () = pinged.await.expect("a ping");
                            let _ = pong.send(());
                        });
                        let _ = ping.send(());
                        let () = ponged.await.expect("a pong");
                    })
                })
                .collect(),
        )
        .await
    };
}

async fn ping_pong() {
    ping_pong!(rt::oneshot::channel);
}

/// The same channel for every runtime: what is left is the scheduler, and how it meets foreign wakers.
async fn ping_pong_futures() {
    ping_pong!(futures::channel::oneshot::channel);
}

async fn mpsc(producers: usize) {
    let (tx, mut rx) = rt::mpsc::channel(100);
    let handles = (0..producers)
        .map(|_| {
            let tx = tx.clone();
            rt::spawn(async move {
                for n in 0..MESSAGES / producers {
                    tx.send(n).await.expect("the receiver is there");
                }
            })
        })
        .collect();
    drop(tx);
    let mut received = 0;
    while rx.recv().await.is_some() {
        received += 1;
    }
    assert_eq!(received, MESSAGES);
    join_all(handles).await;
}

async fn mutex() {
    let total = Arc::new(rt::Mutex::new(0));
    let handles = (0..LOCKERS)
        .map(|_| {
            let total = total.clone();
            rt::spawn(async move {
                for _ in 0..LOCKS {
                    *total.lock().await += 1;
                }
            })
        })
        .collect();
    join_all(handles).await;
    assert_eq!(*total.lock().await, LOCKERS * LOCKS);
}

/// The connections are made once; a step sends [`ROUND_TRIPS`] messages over each of them.
fn tcp_echo(runtime: &rt::Runtime, plan: &Plan) -> Measured {
    async fn echo(mut stream: rt::TcpStream) {
        let mut buffer = [0; BYTES];
        while rt::read_exact(&mut stream, &mut buffer).await.is_ok() {
            if rt::write_all(&mut stream, &buffer).await.is_err() {
                break;
            }
        }
    }
    async fn talk(mut stream: rt::TcpStream) -> rt::TcpStream {
        let message = [7; BYTES];
        let mut answer = [0; BYTES];
        for _ in 0..ROUND_TRIPS {
            rt::write_all(&mut stream, &message).await.expect("the server is there");
            rt::read_exact(&mut stream, &mut answer).await.expect("an answer");
        }
        stream
    }
    let clients = in_task(runtime, async {
        let (listener, address) = rt::listen().await;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            // The backlog takes the connection before it is accepted.
            clients.push(rt::connect(address).await);
            rt::spawn(echo(rt::accept(&listener).await));
        }
        clients
    });
    let mut clients = Some(clients);
    measure(plan, CONNECTIONS * ROUND_TRIPS, || {
        let streams = clients.take().unwrap_or_default();
        clients = Some(in_task(runtime, async {
            let handles: Vec<_> = streams.into_iter().map(|stream| rt::spawn(talk(stream))).collect();
            let mut streams = Vec::new();
            for handle in handles {
                streams.push(rt::join(handle).await);
            }
            streams
        }));
    })
}
