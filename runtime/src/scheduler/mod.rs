//! (stub)
pub(crate) mod context;
