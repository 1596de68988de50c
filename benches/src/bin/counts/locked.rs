//! Locked instructions per operation, and where they are: each takes its cache line for itself, so they are what many cores contend for.
//!
//! Callgrind says how often each address was executed, objdump which addresses are locked (an exchange with memory is, too).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use leakfree_benches::child::Child;
use leakfree_benches::measure::{Extent, Plan};

use crate::deterministic;
use crate::instructions::{STEPS, parse, valgrind};

/// Sites told of each workload, the most frequent first.
const TOLD: usize = 12;

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (subjects, only) = parse(args)?;
    if !valgrind() {
        return Err("NOT COUNTED: there is no valgrind on this machine".to_string());
    }
    println!("Locked instructions per operation, 1 worker, and the functions that they were compiled into.");
    for subject in subjects {
        let locked = locked_in(&subject.program)?;
        for workload in
            deterministic().filter(|workload| only.is_empty() || only.iter().any(|n| n == workload.name))
        {
            let (short, long) = (
                executed(&subject.program, subject.peer, workload.name, STEPS.0)?,
                executed(&subject.program, subject.peer, workload.name, STEPS.1)?,
            );
            let ops = long.ops - short.ops;
            let mut by_function: BTreeMap<&str, f64> = BTreeMap::new();
            for (address, function) in &locked {
                let of = |run: &Run| run.counts.get(address).copied().unwrap_or(0) as f64;
                *by_function.entry(function).or_default() += (of(&long) - of(&short)) / ops;
            }
            let total: f64 = by_function.values().sum();
            println!("\n{} on {}: {total:.2}", workload.name, subject.name);
            let mut sites: Vec<_> = by_function.into_iter().filter(|(_, n)| *n >= 0.01).collect();
            sites.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (function, n) in sites.into_iter().take(TOLD) {
                println!("  {n:6.2}  {function}");
            }
        }
    }
    Ok(())
}

/// The addresses of locked instructions, with the function they are in.
fn locked_in(program: &Path) -> Result<HashMap<u64, String>, String> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", "-C"])
        .arg(program)
        .output()
        .map_err(|error| format!("NOT COUNTED: objdump: {error}"))?;
    Ok(parse_assembly(&String::from_utf8_lossy(&output.stdout)))
}

/// `0000000000001000 <function>:`, and below it `    1004: lock xadd %rax,(%rdi)`.
fn parse_assembly(text: &str) -> HashMap<u64, String> {
    let mut locked = HashMap::new();
    let mut function = "";
    for line in text.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            function = name;
        } else if let Some((address, instruction)) = line.trim_start().split_once(':') {
            let instruction = instruction.trim();
            let exchanges = instruction.starts_with("xchg") && instruction.contains('(');
            if !(exchanges || instruction.starts_with("lock ") || instruction.starts_with("mfence")) {
                continue;
            }
            if let Ok(address) = u64::from_str_radix(address, 16) {
                locked.insert(address, function.to_string());
            }
        }
    }
    locked
}

/// How often each address was executed in a run.
struct Run {
    counts: HashMap<u64, u64>,
    ops: f64,
}

fn executed(program: &Path, peer: &str, workload: &str, steps: u64) -> Result<Run, String> {
    let file = std::env::temp_dir().join(format!("leakfree-callgrind-{}", std::process::id()));
    let plan = Plan { workers: 1, extent: Extent::Steps(steps) };
    let child = Child { program: program.to_path_buf(), peer, workload, plan };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(child.args())
        .output()
        .map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(&file);
    let said = String::from_utf8_lossy(&output.stdout);
    let ops = said.split_whitespace().find_map(|word| word.strip_prefix("ops=")?.parse().ok());
    let ops = ops.ok_or(format!("{workload} on {peer} did not say how much it did: {said}"))?;
    Ok(Run { counts: parse_callgrind(&text, program), ops })
}

/// The format is that of callgrind's manual: lines of address, source line and count below `ob=` lines, addresses and names
/// abbreviated; the line after `calls=` counts what was called, and not the caller.
fn parse_callgrind(text: &str, program: &Path) -> HashMap<u64, u64> {
    let mut objects: HashMap<&str, bool> = HashMap::new();
    let (mut ours, mut address, mut called) = (false, 0_u64, false);
    let mut counts = HashMap::new();
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            let (id, name) = object.split_once(' ').unwrap_or((object, ""));
            let is_ours = *objects.entry(id).or_insert_with(|| Path::new(name) == program);
            if line.starts_with("ob=") {
                ours = is_ours;
            }
        } else if line.starts_with("calls=") {
            called = true;
        } else if let [at, _, count] = line.split(' ').collect::<Vec<_>>()[..] {
            let (Some(at), Ok(count)) = (absolute(at, address), count.parse::<u64>()) else { continue };
            address = at;
            if !std::mem::take(&mut called) && ours {
                *counts.entry(at).or_default() += count;
            }
        }
    }
    counts
}

/// `0x12` is itself, `+3` and `-3` are relative to the line before, `*` is the same.
fn absolute(text: &str, last: u64) -> Option<u64> {
    if text == "*" {
        return Some(last);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    let more: i64 = text.parse().ok()?;
    text.starts_with(['+', '-']).then(|| last.wrapping_add_signed(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objdump_s_words() {
        let text = "\n0000000000001000 <a::b>:\n    1000:\tmov %eax,%ebx\n    1004:\tlock xadd %rax,(%rdi)\n\n\
                    0000000000002000 <c<d>::e>:\n    2000:\txchg %rax,(%rdi)\n    2008:\txchg %ax,%ax\n";
        let locked = parse_assembly(text);
        assert_eq!(locked.len(), 2);
        assert_eq!(locked[&0x1004], "a::b");
        assert_eq!(locked[&0x2000], "c<d>::e");
    }

    #[test]
    fn callgrind_s_words() {
        let text = "positions: instr line\nevents: Ir\n\nob=(1) /x/program\nfn=(1) f\n0x1000 5 7\n+4 6 2\n\
                    cob=(2) /lib/c\ncfn=(2) g\ncalls=3 0x90 0\n+4 6 1000\n* 6 3\n\nob=(2)\nfn=(2)\n0x1000 0 50\n";
        let counts = parse_callgrind(text, Path::new("/x/program"));
        assert_eq!(counts, HashMap::from([(0x1000, 7), (0x1004, 2), (0x1008, 3)]));
    }
}
