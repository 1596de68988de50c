//! How fast is leakfree beside its peers, on the same work, in the same minute?
//!
//! `cargo bench -p leakfree-benches [-- OPTIONS]`
//!
//! - `--reps N`: repetitions of each workload on each peer (7)
//! - `--only WORKLOAD`: may be repeated; see [`WORKLOADS`]
//! - `--quick`: 3 short repetitions, to see that everything runs
//! - `--json PATH`: every single measurement, for machines
//!
//! Each repetition is a process of its own, so that neither allocator nor threads nor ports carry
//! over, and repetitions are interleaved (A B, B A, ...), so that a slow minute of the machine meets
//! all peers alike.

mod measure;
mod output;
mod peers;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use leakfree_benches::machine::{Usage, process_cpu};

use crate::measure::Measured;
use crate::output::{Machine, Row};
use crate::peers::Peer;

/// Names of the workloads, and what one operation is.
const WORKLOADS: &[(&str, &str)] = &[
    ("spawn-many", "spawn from a task, of 10,000; join all"),
    ("spawn-outside", "the same from an outside thread"),
    ("spawn-join", "spawn and join, one at a time"),
    ("chain", "spawn by the task spawned before, 1,000 deep"),
    ("yield", "yield, of 200 tasks x 1,000"),
    ("ping-pong", "ask and answer over own oneshots, 1,000 pairs at once"),
    ("ping-pong-futures", "the same over futures::channel::oneshot"),
    ("mpsc-1", "message, capacity 100, 1 producer"),
    ("mpsc-8", "message, capacity 100, 8 producers"),
    ("mutex", "lock and unlock, 8 tasks on one lock"),
    ("tcp-echo", "round trip of 64 bytes, 64 connections"),
];

/// No child takes nearly as long; one that does hangs.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a child runs.
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

impl Plan {
    fn new(quick: bool) -> Plan {
        let (warm_up, measure) = if quick { (10, 40) } else { (60, 200) };
        Plan { warm_up: Duration::from_millis(warm_up), measure: Duration::from_millis(measure) }
    }
}

#[derive(Default)]
struct Options {
    reps: Option<usize>,
    only: Vec<String>,
    quick: bool,
    json: Option<String>,
    child: Option<(String, String)>,
    /// `cargo bench` says `--bench`, `cargo test --benches` does not.
    bench: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match &*arg {
            "--bench" => options.bench = true,
            "--quick" => options.quick = true,
            "--reps" => {
                let reps = value()?.parse().ok().filter(|reps| *reps > 0);
                options.reps = Some(reps.ok_or("--reps needs a number above 0")?);
            }
            "--only" => {
                let name = value()?;
                if !WORKLOADS.iter().any(|(workload, _)| *workload == name) {
                    let names: Vec<_> = WORKLOADS.iter().map(|(workload, _)| *workload).collect();
                    return Err(format!("no workload {name}; there are {}", names.join(", ")));
                }
                options.only.push(name);
            }
            "--json" => options.json = Some(value()?),
            "--child" => options.child = Some((value()?, value()?)),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        // The test harness's own options (`--test-threads`, filters) are none of ours.
        Err(_) if !std::env::args().any(|arg| arg == "--bench") => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if let Some((peer, workload)) = &options.child {
        return child(peer, workload, &Plan::new(options.quick));
    }
    if !options.bench {
        println!("not measured: run with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    parent(&options)
}

fn child(peer: &str, workload: &str, plan: &Plan) -> ExitCode {
    let measured = peers::ALL.iter().find(|p| p.name == peer).and_then(|p| (p.run)(workload, plan));
    match measured {
        Some(measured) => {
            println!("{}", measured.to_line(process_cpu()));
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

fn parent(options: &Options) -> ExitCode {
    let reps = options.reps.unwrap_or(if options.quick { 3 } else { 7 });
    let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut machine = Machine::default();
    let mut rows = Vec::new();
    println!("{}", output::header(reps));
    for &(workload, what) in WORKLOADS.iter().filter(|(name, _)| chosen(name)) {
        let mut row = Row::new(workload, what);
        for rep in 0..reps {
            let mut order: Vec<usize> = (0..peers::ALL.len()).collect();
            if rep % 2 == 1 {
                order.reverse();
            }
            for n in order {
                let peer = &peers::ALL[n];
                let measured = repetition(peer, workload, options.quick, &mut machine);
                if let Err(message) = &measured {
                    eprintln!("{workload} on {}: {message}", peer.name);
                }
                row.results[n].push(measured.ok());
            }
        }
        print!("{}", row.text());
        rows.push(row);
    }
    println!("{}", machine.text());
    let json = options.json.as_ref();
    if let Some(Err(error)) = json.map(|path| std::fs::write(path, output::json(&rows, &machine))) {
        eprintln!("cannot write the JSON: {error}");
        return ExitCode::FAILURE;
    }
    let failed = rows.iter().any(|row| row.results.iter().flatten().any(Option::is_none));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One child process.
fn repetition(peer: &Peer, workload: &str, quick: bool, machine: &mut Machine) -> Result<Measured, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (start, own, before) = (Instant::now(), process_cpu(), Usage::now());
    let mut command = Command::new(program);
    command.args(["--child", peer.name, workload]).stdin(Stdio::null()).stdout(Stdio::piped());
    if quick {
        command.arg("--quick");
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // The line that it prints fits into the pipe, so it can end before it is read.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if start.elapsed() > CHILD_TIMEOUT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("still running after {CHILD_TIMEOUT:?}, killed"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut line = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        use std::io::Read;
        stdout.read_to_string(&mut line).map_err(|error| error.to_string())?;
    }
    let Some((measured, total)) = Measured::from_line(&line).filter(|_| status.success()) else {
        return Err(format!("{status}, printed {line:?}"));
    };
    if let (Some(before), Some(after)) = (before, Usage::now()) {
        machine.add(after.since(before), total + process_cpu().saturating_sub(own), start.elapsed());
    }
    Ok(measured)
}
