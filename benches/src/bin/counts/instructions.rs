//! Instructions per operation, as valgrind counts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use leakfree_benches::child::Child;
use leakfree_benches::measure::{Extent, Plan};
use leakfree_benches::peers;

use crate::deterministic;

/// Steps of the shorter and of the longer run; what start and end take is in both.
pub(crate) const STEPS: (u64, u64) = (1, 3);

/// Operations in a step are told by the ratio of the figures: a step's wall time is none of ours.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) peer: &'static str,
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (subjects, only) = parse(args)?;
    if !valgrind() {
        return Err("NOT COUNTED: there is no valgrind on this machine".to_string());
    }
    let names: Vec<&str> = subjects.iter().map(|subject| &*subject.name).collect();
    println!("Instructions in user space per step, 1 worker, as cachegrind counts them.\n");
    println!("| workload | {} | {} / best other |", names.join(" | "), names[0]);
    println!("|---|{}---|", "---|".repeat(names.len()));
    let mut ratios = Vec::new();
    for workload in
        deterministic().filter(|workload| only.is_empty() || only.iter().any(|n| n == workload.name))
    {
        let mut counts = Vec::new();
        for subject in &subjects {
            counts.push(per_step(&subject.program, subject.peer, workload.name)?);
        }
        let best = counts[1..].iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = counts[0] / best;
        if ratio.is_finite() && ratio > 0.0 {
            ratios.push(ratio.ln());
        }
        let cells: Vec<String> = counts.iter().map(|count| format!("{count:.0}")).collect();
        println!("| {} | {} | {ratio:.3} |", workload.name, cells.join(" | "));
    }
    let mean = (ratios.iter().sum::<f64>() / ratios.len().max(1) as f64).exp();
    println!("\nGeometric mean of the ratios: {mean:.3}");
    Ok(())
}

pub(crate) fn parse(args: &[String]) -> Result<(Vec<Subject>, Vec<String>), String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let (mut names, mut only, mut against) = (vec!["leakfree".to_string()], Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match &**arg {
            "--peers" => names = value.split(',').map(String::from).collect(),
            "--only" => only.push(value.clone()),
            "--against" => against = Some(PathBuf::from(value)),
            _ => return Err(format!("{arg}?")),
        }
    }
    let mut subjects = Vec::new();
    for name in names {
        let peer = peers::find(&name).ok_or(format!("no peer {name} in this build"))?.name;
        subjects.push(Subject { name, program: this.clone(), peer });
    }
    if let Some(program) = against {
        subjects.insert(1, Subject { name: "norecord".to_string(), program, peer: "leakfree" });
    }
    Ok((subjects, only))
}

/// Whether there is one.
pub(crate) fn valgrind() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What one more step takes.
pub(crate) fn per_step(program: &Path, peer: &str, workload: &str) -> Result<f64, String> {
    let count = |steps| {
        let plan = Plan { workers: 1, extent: Extent::Steps(steps) };
        let child = Child { program: program.to_path_buf(), peer, workload, plan };
        let output = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(program)
            .args(child.args())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        parse_count(&text).filter(|_| output.status.success()).ok_or(format!("{workload} on {peer}: {text}"))
    };
    let (short, long) = STEPS;
    Ok((count(long)? - count(short)?) / (long - short) as f64)
}

/// `==1== I   refs:      1,234`
fn parse_count(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" refs:") && line.contains(" I "))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cachegrind_s_words() {
        assert_eq!(parse_count("==7== \n==7== I   refs:      12,345,678\n"), Some(12_345_678.0));
        assert_eq!(parse_count("valgrind: no such file"), None);
    }
}
