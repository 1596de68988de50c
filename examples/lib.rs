//! The example is `leaky.rs`.
