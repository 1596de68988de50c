//! One measurement, in the child process.

use std::time::{Duration, Instant};

use leakfree_benches::machine::process_cpu;

use crate::Plan;

/// What a child has measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Measured {
    pub(crate) ops: u64,
    pub(crate) wall: Duration,
    /// Of all threads of the child, while the clock ran.
    pub(crate) cpu: Duration,
}

/// Runs `step`, which is `ops` operations, until the warm-up is over, and then until the
/// measurement has lasted long enough.
pub(crate) fn measure(plan: &Plan, ops: usize, mut step: impl FnMut()) -> Measured {
    let warm_up = Instant::now();
    while warm_up.elapsed() < plan.warm_up {
        step();
    }
    let (start, cpu) = (Instant::now(), process_cpu());
    let mut done = 0;
    loop {
        step();
        done += ops as u64;
        let wall = start.elapsed();
        if wall >= plan.measure {
            return Measured { ops: done, wall, cpu: process_cpu().saturating_sub(cpu) };
        }
    }
}

impl Measured {
    pub(crate) fn wall_per_op(&self) -> f64 {
        self.wall.as_nanos() as f64 / self.ops as f64
    }

    pub(crate) fn cpu_per_op(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.ops as f64
    }

    /// The line that a child prints, with all the CPU time that it has used.
    pub(crate) fn to_line(self, total_cpu: Duration) -> String {
        let Measured { ops, wall, cpu } = self;
        format!("{ops} {} {} {}", wall.as_nanos(), cpu.as_nanos(), total_cpu.as_nanos())
    }

    /// Reads that line.
    pub(crate) fn from_line(line: &str) -> Option<(Measured, Duration)> {
        let words: Option<Vec<u64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        match *words? {
            [ops, wall, cpu, total] if ops > 0 => {
                let time = Duration::from_nanos;
                Some((Measured { ops, wall: time(wall), cpu: time(cpu) }, time(total)))
            }
            _ => None,
        }
    }
}
