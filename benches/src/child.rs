//! A run of one workload on one peer, in a process of its own.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::machine::process_cpu;
use crate::measure::{Extent, Measured, Plan};
use crate::{load, peers};

/// No child takes nearly as long; one that does hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a child prints where the peer has no such workload.
const NOTHING: &str = "nothing";

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Child<'a> {
    /// The program; it must call [`ran`].
    pub program: PathBuf,
    /// As in [`peers::ALL`].
    pub peer: &'a str,
    /// As in [`crate::catalogue::WORKLOADS`].
    pub workload: &'a str,
    /// How.
    pub plan: Plan,
}

/// What came of a child.
#[derive(Debug)]
pub struct Outcome {
    /// `None` where the peer has no such workload.
    pub measured: Option<Measured>,
    /// All the CPU time that the child and its threads took.
    pub cpu: Duration,
}

/// Runs as a child, or as load generator, if this process was started as one.
pub fn ran() -> Option<ExitCode> {
    if load::ran() {
        return Some(ExitCode::SUCCESS);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [child, peer, workload, workers, extent] = &args[..] else { return None };
    if child != "--child" {
        return None;
    }
    let (Some(peer), Ok(workers), Some(extent)) = (peers::find(peer), workers.parse(), parse_extent(extent))
    else {
        return Some(ExitCode::FAILURE);
    };
    let measured = (peer.run)(workload, &Plan { workers, extent });
    let line = measured.map_or_else(|| NOTHING.to_string(), |measured| measured.to_line());
    println!("{} {line}", process_cpu().as_nanos());
    // Threads of runtimes may still be there, and their end is nobody's business.
    std::process::exit(0)
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Time { warm_up, measure } => write!(f, "{}+{}", warm_up.as_millis(), measure.as_millis()),
            Extent::Steps(steps) => write!(f, "{steps}"),
        }
    }
}

fn parse_extent(text: &str) -> Option<Extent> {
    Some(match text.split_once('+') {
        Some((warm_up, measure)) => Extent::Time {
            warm_up: Duration::from_millis(warm_up.parse().ok()?),
            measure: Duration::from_millis(measure.parse().ok()?),
        },
        None => Extent::Steps(text.parse().ok()?),
    })
}

impl Child<'_> {
    /// The arguments that make the program a child.
    pub fn args(&self) -> [String; 5] {
        let Plan { workers, extent } = self.plan;
        ["--child", self.peer, self.workload, &workers.to_string(), &extent.to_string()].map(String::from)
    }

    /// Runs it.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn run(&self) -> Result<Outcome, String> {
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(self.args()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        // The line that it prints fits into the pipe, so it can end before it is read.
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if start.elapsed() > TIMEOUT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("still running after {TIMEOUT:?}, killed"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut line = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut line).map_err(|error| error.to_string())?;
        }
        parse(&line).filter(|_| status.success()).ok_or(format!("{status}, printed {line:?}"))
    }
}

fn parse(line: &str) -> Option<Outcome> {
    let (cpu, measured) = line.trim().split_once(' ')?;
    let cpu = Duration::from_nanos(cpu.parse().ok()?);
    if measured == NOTHING {
        return Some(Outcome { measured: None, cpu });
    }
    Some(Outcome { measured: Some(Measured::from_line(measured)?), cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents() {
        let time = Extent::Time { warm_up: Duration::from_millis(10), measure: Duration::from_millis(40) };
        for extent in [time, Extent::Steps(7)] {
            assert_eq!(parse_extent(&extent.to_string()), Some(extent));
        }
        assert_eq!(parse_extent("+"), None);
    }

    #[test]
    fn lines() {
        let outcome = parse("1500 cpu=3 wall=4.5\n").unwrap();
        assert_eq!(outcome.cpu, Duration::from_nanos(1500));
        assert_eq!(outcome.measured.unwrap().get("wall"), Some(4.5));
        assert!(parse("20 nothing\n").unwrap().measured.is_none());
        assert!(parse("20\n").is_none());
        assert!(parse("20 cpu=x\n").is_none());
    }
}
