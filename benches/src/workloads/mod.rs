//! The work, in terms of `super`: the runtime that this copy is compiled for.
#![allow(clippy::duplicate_mod, reason = "compiled once for each peer on purpose")]

use std::future::Future;
use std::mem::ManuallyDrop;

use super as rt;
use crate::measure::{Measured, Plan, measure};

mod channels;
mod compute;
mod lives;
mod locks;
mod sockets;
mod tasks;
mod timers;

/// Runs the workload named `workload` as `plan` says; `None` if the runtime cannot, or there is no such one.
pub(crate) fn run(workload: &str, plan: &Plan) -> Option<Measured> {
    // Its end is none of the measurement.
    let runtime = &ManuallyDrop::new(rt::start(plan.workers)?);
    match workload {
        // The thread that blocks is no worker: what it spawns goes through the injector.
        "spawn-outside" => Some(measure(plan, tasks::SPAWNS, || rt::block_on(runtime, tasks::spawn_many()))),
        "spawn-many" => inside(runtime, plan, tasks::SPAWNS, tasks::spawn_many),
        "spawn-join" => inside(runtime, plan, tasks::JOINS, tasks::spawn_join),
        "chain" => inside(runtime, plan, tasks::CHAIN, tasks::chained_spawn),
        "yield" => inside(runtime, plan, tasks::YIELDERS * tasks::YIELDS, tasks::yield_many),
        "ping-pong" => inside(runtime, plan, tasks::PAIRS, tasks::ping_pong),
        "ping-pong-futures" => inside(runtime, plan, tasks::PAIRS, tasks::ping_pong_futures),
        "mpsc-1" => inside(runtime, plan, channels::MESSAGES, || channels::bounded(1)),
        "mpsc-8" => inside(runtime, plan, channels::MESSAGES, || channels::bounded(8)),
        "unbounded-1" => inside(runtime, plan, channels::MESSAGES, || channels::unbounded(1)),
        "unbounded-8" => inside(runtime, plan, channels::MESSAGES, || channels::unbounded(8)),
        "mutex" => inside(runtime, plan, locks::TASKS * locks::LOCKS, locks::mutex),
        "mutex-held" => inside(runtime, plan, locks::TASKS * locks::LOCKS, locks::mutex_held),
        "rwlock" => inside(runtime, plan, locks::TASKS * locks::LOCKS, locks::rwlock),
        "semaphore" => inside(runtime, plan, locks::TASKS * locks::LOCKS, locks::semaphore),
        "skynet" => inside(runtime, plan, compute::LEAVES, compute::skynet),
        "fork-join" => inside(runtime, plan, compute::NODES, compute::fork_join),
        "burst" => inside(runtime, plan, 1, compute::burst),
        "timers-dropped" => inside(runtime, plan, timers::DROPPED, timers::dropped),
        "timers-fired" => Some(timers::fired(runtime, plan)),
        "tcp-echo" => Some(sockets::tcp_echo(runtime, plan)),
        "http" => Some(sockets::http(runtime, plan)),
        "wake-outside" => Some(lives::wake_outside(runtime, plan)),
        "cancel" => Some(lives::cancel(runtime, plan)),
        "snapshot" => lives::snapshot(runtime, plan),
        "parked" => Some(lives::parked(runtime)),
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
