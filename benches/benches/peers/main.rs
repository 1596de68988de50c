//! How fast is leakfree beside its peers, on the same work, in the same minute?
//!
//! `cargo bench -p leakfree-benches --bench peers [-- OPTIONS]`, with the options in `options.rs`.
//!
//! Each repetition is a process of its own, so that neither allocator nor threads nor ports carry
//! over, and repetitions are interleaved (A B C, C B A, ...), so that a slow minute of the machine meets
//! all contenders alike. Allocations are counted apart, by the program `counts`.

mod options;
mod output;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use leakfree_benches::catalogue::{Kind, WORKLOADS, Workload};
use leakfree_benches::child::{self, Child};
use leakfree_benches::machine::{Usage, process_cpu};
use leakfree_benches::measure::{Extent, Measured, Plan};

use crate::options::Options;
use crate::output::{Machine, Row};

#[global_allocator]
static ALLOCATOR: leakfree_benches::Allocator = leakfree_benches::ALLOCATOR;

/// A peer in a program.
pub(crate) struct Contender {
    pub(crate) name: String,
    peer: &'static str,
    timed: PathBuf,
    /// The one that counts; `None` for a foreign build.
    counts: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = child::ran() {
        return code;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        // The test harness's own options (`--test-threads`, filters) are none of ours.
        Err(_) if !std::env::args().any(|arg| arg == "--bench") => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if !options.bench {
        println!("not measured: run with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let contenders = match contenders(&options) {
        Ok(contenders) => contenders,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    run(&options, &contenders)
}

fn contenders(options: &Options) -> std::io::Result<Vec<Contender>> {
    let timed = std::env::current_exe()?;
    let counts = PathBuf::from(env!("CARGO_BIN_EXE_counts"));
    let mut all: Vec<Contender> = options
        .peers()
        .map(|peer| Contender {
            name: peer.name.to_string(),
            peer: peer.name,
            timed: timed.clone(),
            counts: Some(counts.clone()),
        })
        .collect();
    if let Some(program) = &options.norecord {
        let name = "norecord".to_string();
        all.insert(1, Contender { name, peer: "leakfree", timed: program.into(), counts: None });
    }
    Ok(all)
}

fn run(options: &Options, contenders: &[Contender]) -> ExitCode {
    let names: Vec<&str> = contenders.iter().map(|contender| &*contender.name).collect();
    let mut machine = Machine::default();
    let mut rows = Vec::new();
    for workload in WORKLOADS.iter().filter(|workload| options.chosen(workload.name)) {
        let mut row = Row::new(workload, contenders.len());
        for rep in 0..options.reps() {
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if rep % 2 == 1 {
                order.reverse();
            }
            for n in order {
                repetition(options, &contenders[n], workload, rep, &mut row.results[n], &mut machine);
            }
        }
        eprintln!("{}", row.progress(&names));
        rows.push(row);
    }
    let report = output::Report { options, names: &names, rows: &rows, machine: &machine };
    print!("{}", report.markdown());
    if let Some(Err(error)) = options.json.as_ref().map(|path| std::fs::write(path, report.json())) {
        eprintln!("cannot write the JSON: {error}");
        return ExitCode::FAILURE;
    }
    if rows.iter().any(|row| row.failed()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One child process, and with the first one another that counts allocations.
fn repetition(
    options: &Options,
    contender: &Contender,
    workload: &Workload,
    rep: usize,
    results: &mut output::Results,
    machine: &mut Machine,
) {
    let run = |program: &PathBuf, extent, machine: &mut Machine| {
        let plan = Plan { workers: options.workers, extent };
        let child = Child { program: program.clone(), peer: contender.peer, workload: workload.name, plan };
        let (start, own, before) = (Instant::now(), process_cpu(), Usage::now());
        let outcome = child.run();
        if let (Ok(outcome), Some(before), Some(after)) = (&outcome, before, Usage::now()) {
            let own = outcome.cpu + process_cpu().saturating_sub(own);
            machine.add(after.since(before), own, start.elapsed());
        }
        match outcome {
            Ok(outcome) => outcome.measured.map(Ok),
            Err(message) => {
                eprintln!("{} on {}: {message}", workload.name, contender.name);
                Some(Err(()))
            }
        }
    };
    if workload.kind != Kind::Memory {
        let timed: Option<Result<Measured, ()>> = run(&contender.timed, options.extent(), machine);
        results.timed.push(timed);
    }
    let counted = match (&contender.counts, workload.kind) {
        (Some(counts), Kind::Steps) if rep == 0 => Some((counts, Extent::Steps(5))),
        (Some(counts), Kind::Memory) if rep == 0 => Some((counts, Extent::Steps(1))),
        _ => None,
    };
    if let Some((counts, extent)) = counted {
        results.counted = run(counts, extent, machine);
    }
}

/// How long a child runs.
pub(crate) fn extent(quick: bool) -> Extent {
    let (warm_up, measure) = if quick { (10, 40) } else { (60, 200) };
    Extent::Time { warm_up: Duration::from_millis(warm_up), measure: Duration::from_millis(measure) }
}
