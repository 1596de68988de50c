//! Nothing here knows a task.

pub(crate) mod linked_list;
pub(crate) mod stderr;
