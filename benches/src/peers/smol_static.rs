//! smol's `StaticExecutor`, run by as many threads as there are workers.

use std::future::{Future, pending};

use async_executor::StaticExecutor;

use crate::measure::{Part, Stopwatch};

pub(crate) use super::smol_parts::*;

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

static EXECUTOR: StaticExecutor = StaticExecutor::new();

pub(crate) fn start(workers: usize) -> Option<Runtime> {
    Some(start_workers(workers, || EXECUTOR.run(pending::<()>())))
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    EXECUTOR.spawn(future)
}

pub(crate) async fn cancel_all<F>(
    children: Vec<F>,
    parked: impl Future<Output = Stopwatch>,
    gone: impl Fn() -> bool,
) -> Part
where
    F: Future<Output = ()> + Send + 'static,
{
    cancel_tasks(children.into_iter().map(spawn).collect(), parked, gone).await
}
