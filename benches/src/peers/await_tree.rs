//! tokio, with every task in await-tree's registry, and a span around each join and yield.

use std::future::Future;
use std::sync::LazyLock;

use await_tree::{Config, InstrumentAwait, Registry};

pub(crate) use super::tokio::*;

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(Config::default()));

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(REGISTRY.register_anonymous("task").instrument(future))
}

pub(crate) async fn join<T>(handle: JoinHandle<T>) -> T {
    handle.instrument_await("join").await.expect("no task panics")
}

pub(crate) async fn yield_now() {
    tokio::task::yield_now().instrument_await("yield").await;
}
