//! Tasks: spawn, join and abort them, bound how long they run in one go, and give them values of their own.
//!
//! The names are those that the crate root has, and what belongs to them; [`JoinSet`], [`LocalKey`] and [`coop`] are here.

// A task: one allocation that holds a header, its owner and a future, later its output.
//
// ```text
//  TaskRef, JoinHandle, Runnable, Waker
//        |
//        v
//  +-----------------------------------------+-------+-----------------+
//  | Header: state, vtable, links, joiner,   | owner | future | output |
//  |         extra, record                   |       |                 |
//  +-----------------------------------------+-------+-----------------+
// ```
//
// 112 bytes stand in front of the future on a 64-bit machine.
//
// # Kinds of reference
//
// | reference | counted in the state word as | may |
// |---|---|---|
// | `Runnable` | wakes > 0 | poll, drop the future, complete |
// | `Waker`, registered in a queue of ours | own, which has a spare one for the next poll | wake |
// | `Waker`, any other | foreign | wake |
// | `JoinHandle` | `JOIN_HANDLE` | take the output, abort |
// | `TaskRef` | refs | look, cancel |
// | place in the tree | nothing: unlinked before completion | be found |
//
// # Invariants, cited by number in `SAFETY` comments
//
// - **I1** A task's memory lives until the state word answers `Free`, and it answers that only when the task is complete and
//   neither a join handle, a reference nor a waker is left. Whoever holds one of those may read the header.
// - **I2** There is at most one `Runnable` of a task. It is made by whoever raised *wakes* from zero, and
//   given up by `end_poll`, `end_record` or `complete`. Its holder alone touches future and owner.
// - **I3** Once the task is complete, the stored output belongs to the join handle; if there is none, the runner dropped it
//   before.
// - **I4** `Free` is answered once.
// - **I5** `extra` is set at most once and lives as long as the header.
// - **I6** The words of a record are written by the runner only, and a location word is null or a
//   `&'static Location`.
// - **I7** The joiner slot is written by the join handle, and only while `JOINER` is clear. What it holds belongs to the handle
//   while `JOINER` is clear or after a `take_joiner` that said yes, and to the runner that completes the task while it is set.
//
// The task module knows no scheduler, scope or driver; it calls up through `hooks.rs`.

pub(crate) mod backtrace;
pub(crate) mod block;
pub(crate) mod cell;
pub(crate) mod channel_facts;
pub mod coop;
pub(crate) mod facts;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod hooks;
pub(crate) mod join;
pub(crate) mod local;
pub(crate) mod meta;
pub(crate) mod raw;
pub(crate) mod reason;
pub(crate) mod runnable;
pub(crate) mod seq;
pub(crate) mod state;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod waiters;
pub(crate) mod waker;
pub(crate) mod watched;
pub(crate) mod yield_now;

pub use self::coop::{ConsumeBudget, Unconstrained, consume_budget, unconstrained};
pub use self::join::{AbortHandle, JoinError, JoinHandle, id, try_id};
pub use self::local::{AccessError, LocalKey, TaskLocalFuture};
pub use self::meta::{TaskId, TaskId as Id};
pub use self::reason::{CancelKind, CancelReason};
pub use self::yield_now::{YieldNow, yield_now};
// For users, who look for them here; nothing in this module uses what bounds a task.
pub use crate::scope::{
    JoinAll, JoinNext, JoinNextWithId, JoinSet, Shutdown, block_in_place, spawn, spawn_blocking,
};
