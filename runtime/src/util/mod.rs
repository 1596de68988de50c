//! Nothing here knows a task.

pub(crate) mod linked_list;
pub(crate) mod lock;
pub(crate) mod stderr;
