//! The gate of CI: no more allocations and instructions than `gate.txt` says.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use leakfree_benches::child::Child;
use leakfree_benches::measure::{Extent, Plan};

use crate::deterministic;
use crate::instructions::{per_step, valgrind};

/// What is a change and no noise: so much more than the baseline.
const INSTRUCTIONS: f64 = 1.03;
/// The same of workloads that take more or less, as the free blocks of a slab happen to lie: those of thousands of tasks come back in runs or one
/// by one. Seen of spawn-many in 8 runs: -11 to +4 % of their median; of skynet in 3: -2 to +4 %. So they are counted so many times, and the
/// median is taken.
const INSTRUCTIONS_OF_SLABS: f64 = 1.08;
const COUNTS_OF_SLABS: usize = 3;
const OF_SLABS: [&str; 3] = ["spawn-many", "skynet", "fork-join"];
const ALLOCATIONS: f64 = 1.10;
/// Queues and tables grow at times that are not always the same.
const FEW_ALLOCATIONS: f64 = 0.01;

#[derive(Clone, PartialEq, Debug)]
struct Line {
    workload: String,
    allocations: f64,
    /// Per step; zero where there was no valgrind.
    instructions: f64,
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let bless = match args {
        [] => false,
        [bless] if bless == "--bless" => true,
        _ => return Err("counts gate [--bless]".to_string()),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("gate.txt");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let with_valgrind = valgrind();
    if !with_valgrind {
        eprintln!("NO INSTRUCTIONS COUNTED: there is no valgrind on this machine; allocations only");
    }
    let same_compiler = text.lines().next() == Some(&first_line());
    if with_valgrind && !bless && !same_compiler {
        eprintln!("NO INSTRUCTIONS COUNTED: gate.txt is by another rustc than {}; allocations only", rustc());
    }
    let lines = count(with_valgrind && (bless || same_compiler))?;
    if bless {
        return std::fs::write(&file, render(&lines)).map_err(|error| error.to_string());
    }
    let worse = compare(&parse(&text), &lines);
    print!("{}", render(&lines));
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{worse}If that has to be: cargo run --release -p leakfree-benches --bin counts -- gate --bless"
    ))
}

/// Two at a time: counts do not care.
fn count(instructions: bool) -> Result<Vec<Line>, String> {
    let program = &std::env::current_exe().map_err(|error| error.to_string())?;
    let names: Vec<&str> = deterministic().map(|workload| workload.name).collect();
    let half = |parity: usize| -> Result<Vec<Line>, String> {
        let own = names.iter().skip(parity).step_by(2);
        own.map(|name| measure(program, name, instructions)).collect()
    };
    let (even, odd) = std::thread::scope(|s| {
        let odd = s.spawn(|| half(1));
        (half(0), odd.join().unwrap_or_else(|_| Err("the counting thread panicked".to_string())))
    });
    let mut lines = [even?, odd?].concat();
    lines.sort_by_key(|line| names.iter().position(|name| *name == line.workload));
    Ok(lines)
}

fn measure(program: &Path, workload: &str, instructions: bool) -> Result<Line, String> {
    let plan = Plan { workers: 1, extent: Extent::Steps(5) };
    let child = Child { program: program.to_path_buf(), peer: "leakfree", workload, plan };
    let measured = child.run()?.measured.ok_or(format!("leakfree has no {workload}"))?;
    let allocations = measured.get("allocs").ok_or("nothing was counted")?;
    let instructions = if instructions { instructions_of(program, workload)? } else { 0.0 };
    Ok(Line { workload: workload.to_string(), allocations, instructions })
}

fn instructions_of(program: &Path, workload: &str) -> Result<f64, String> {
    let counts = if OF_SLABS.contains(&workload) { COUNTS_OF_SLABS } else { 1 };
    let mut counted = Vec::new();
    for _ in 0..counts {
        counted.push(per_step(program, "leakfree", workload)?);
    }
    counted.sort_by(f64::total_cmp);
    Ok(counted[counts / 2])
}

/// What got worse, a line each.
fn compare(baseline: &[Line], lines: &[Line]) -> String {
    let mut worse = String::new();
    for line in lines {
        let name = &line.workload;
        let Some(before) = baseline.iter().find(|before| before.workload == *name) else {
            let _ = writeln!(worse, "{name}: not in gate.txt");
            continue;
        };
        if line.allocations > before.allocations * ALLOCATIONS + FEW_ALLOCATIONS {
            let (then, now) = (before.allocations, line.allocations);
            let _ = writeln!(worse, "{name}: {now:.4} allocations per operation, {then:.4} in gate.txt");
        }
        let most = if OF_SLABS.contains(&name.as_str()) { INSTRUCTIONS_OF_SLABS } else { INSTRUCTIONS };
        if before.instructions > 0.0 && line.instructions > before.instructions * most {
            let (then, now) = (before.instructions, line.instructions);
            let ratio = now / then;
            let _ =
                writeln!(worse, "{name}: {now:.0} instructions per step, {then:.0} in gate.txt: {ratio:.3}");
        }
    }
    worse
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
}

fn first_line() -> String {
    format!("# {} {}", rustc(), std::env::consts::ARCH)
}

fn render(lines: &[Line]) -> String {
    let mut text =
        format!("{}\n# workload, allocations per operation, instructions per step; 1 worker\n", first_line());
    for Line { workload, allocations, instructions } in lines {
        let _ = writeln!(text, "{workload:<18} {allocations:>8.4} {instructions:>12.0}");
    }
    text
}

fn parse(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (workload, allocations, instructions) = (words.next()?, words.next()?, words.next()?);
        let (allocations, instructions) = (allocations.parse().ok()?, instructions.parse().ok()?);
        Some(Line { workload: workload.to_string(), allocations, instructions })
    };
    text.lines().filter(|text| !text.starts_with('#')).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(workload: &str, allocations: f64, instructions: f64) -> Line {
        Line { workload: workload.to_string(), allocations, instructions }
    }

    #[test]
    fn what_is_written_is_read() {
        let lines = [line("spawn-many", 0.0125, 4_000_000.0), line("yield", 0.0, 77.0)];
        assert_eq!(parse(&render(&lines)), lines);
    }

    #[test]
    fn more_is_worse_and_less_is_not() {
        let baseline = [line("a", 1.0, 1_000.0), line("b", 0.0, 0.0)];
        assert_eq!(compare(&baseline, &[line("a", 1.05, 1_020.0), line("b", 0.0, 99.0)]), "");
        assert_eq!(compare(&baseline, &[line("a", 0.0, 1.0)]), "");
        assert!(compare(&baseline, &[line("a", 1.2, 1.0)]).contains("1.2000 allocations"));
        assert!(compare(&baseline, &[line("a", 1.0, 1_100.0)]).contains("1100 instructions"));
        assert!(compare(&baseline, &[line("c", 1.0, 1.0)]).contains("not in gate.txt"));
    }
}
