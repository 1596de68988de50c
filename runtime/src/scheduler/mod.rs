//! Who runs what, in which order, and why.
//!
//! - A worker's own wakes and spawns go to its **LIFO slot**: the message just sent is in the cache. The task
//!   that was there goes to the back of the worker's queue. One in [`worker::QUEUE_FIRST`] polls is of the
//!   queue's first task at any rate, so that a pair that plays ping-pong starves nobody.
//! - A task that yields, or is woken during its own poll, goes to the back of the queue.
//! - What comes from outside goes to the **injector**; a worker looks there when its queue is empty and
//!   once per turn.
//! - A worker without work **searches**: it steals half of a sibling's queue. At most half of the workers
//!   search at a time.
//! - Then it **sleeps**: in the driver if nobody is there, else on its condvar. See `PROTOCOL.md` for how no
//!   wake is lost.
//! - Once per **turn** ([`worker::TURN`] polls) a worker reads the clock and looks into the injector, and into the driver, too, if its last look
//!   is some time ago or events come in numbers.

pub(crate) mod blocking;
pub(crate) mod compat;
pub(crate) mod context;
pub(crate) mod idle;
pub(crate) mod injector;
pub(crate) mod park;
pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod shared;
pub(crate) mod sim;
pub(crate) mod sites;
pub(crate) mod worker;
