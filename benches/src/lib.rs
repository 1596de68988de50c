//! What the benches share: the statistics of repetitions, and who used the machine meanwhile.

pub mod machine;
pub mod stats;
