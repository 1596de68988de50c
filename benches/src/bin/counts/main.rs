//! What a workload costs, counted and not timed: allocations, and with valgrind instructions. One worker, a fixed number of steps,
//! so that a busy machine changes nothing.
//!
//! - `counts gate`: compares leakfree with `gate.txt`, and fails if it costs more than is said there. `counts gate --bless` writes it.
//! - `counts instructions [--peers A,B] [--only WORKLOAD]... [--against PROGRAM]`: a table of instructions per operation; `PROGRAM` is
//!   this program, built in another way.
//! - `counts locked`, with the same options: locked instructions per operation, and where they are.
//!
//! `cargo run --release -p leakfree-benches --bin counts -- gate`

mod gate;
mod instructions;
mod locked;

use std::process::ExitCode;

use leakfree_benches::catalogue::{Kind, WORKLOADS, Workload};
use leakfree_benches::child;
use leakfree_benches::counting::Counting;

/// The few instructions that counting takes are part of what valgrind sees.
#[global_allocator]
static ALLOCATOR: Counting<leakfree_benches::Allocator> = Counting(leakfree_benches::ALLOCATOR);

fn main() -> ExitCode {
    if let Some(code) = child::ran() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((mode, rest)) if mode == "gate" => gate::run(rest),
        Some((mode, rest)) if mode == "instructions" => instructions::run(rest),
        Some((mode, rest)) if mode == "locked" => locked::run(rest),
        _ => Err("counts gate [--bless], counts instructions [OPTIONS], counts locked [OPTIONS]; see src/bin/counts"
            .to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// What a single worker does in the same way each time: no outside thread, no other process takes part, and the clock none.
fn deterministic() -> impl Iterator<Item = &'static Workload> {
    let outside = ["spawn-outside", "tcp-echo"];
    WORKLOADS.iter().filter(move |workload| workload.kind == Kind::Steps && !outside.contains(&workload.name))
}
