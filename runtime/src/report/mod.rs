//! (temporary)
pub(crate) mod collect;
pub mod snapshot;
pub mod verdict;
pub(crate) fn emit_if_leaked(r: &verdict::Report) { eprintln!("{r}"); }
pub(crate) fn emit_final(r: &verdict::Report) { eprintln!("{r}"); }
