//! tokio, with every task under tokio-metrics.

use std::future::Future;
use std::sync::LazyLock;

use tokio_metrics::TaskMonitor;

pub(crate) use super::tokio::*;

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

static MONITOR: LazyLock<TaskMonitor> = LazyLock::new(TaskMonitor::new);

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(MONITOR.instrument(future))
}
