//! smolscale.

use std::future::Future;
use std::thread::available_parallelism;

use crate::measure::{Part, Stopwatch};

pub(crate) use super::smol_parts::*;

#[path = "../workloads/mod.rs"]
pub(crate) mod workloads;

/// It has one worker, or one for each core.
pub(crate) fn start(workers: usize) -> Option<Runtime> {
    if workers == 1 {
        smolscale::permanently_single_threaded();
    } else if available_parallelism().map_or(0, usize::from) != workers {
        return None;
    }
    Some(Runtime)
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    smolscale::spawn(future)
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
