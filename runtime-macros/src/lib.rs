//! The attribute macros of leakfree.
