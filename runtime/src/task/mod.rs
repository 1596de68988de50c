//! (stub while the parts are being written)
pub(crate) mod wait;
pub(crate) mod waker;
pub(crate) mod meta {
    /// Identifies a task for the life of its process; never reused.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct TaskId(pub(crate) u64);
}
