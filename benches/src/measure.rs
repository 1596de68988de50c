//! One measurement, in the child process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::counting::allocated;
use crate::machine::{self, process_cpu};

/// How a workload is to be run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// Worker threads of the runtime.
    pub workers: usize,
    /// How much.
    pub extent: Extent,
}

/// How much of a workload is run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Extent {
    /// Steps until so much time has passed, first to warm up, then to measure.
    Time {
        /// Not measured.
        warm_up: Duration,
        /// At least.
        measure: Duration,
    },
    /// So many steps, after [`WARM_STEPS`].
    Steps(u64),
}

/// Steps before those that are counted.
pub const WARM_STEPS: u64 = 3;

/// What is measured, with its heading. `wall`, `cpu`, `allocs` and `bytes` are per operation; `ops` has no
/// heading: how many there were.
pub const FIGURES: &[(&str, &str)] = &[
    ("wall", "Wall time, ns per operation"),
    ("cpu", "CPU time of all threads, ns per operation"),
    ("p50", "Latency, median, ns"),
    ("p99", "Latency, 99th percentile, ns"),
    ("heap", "Heap bytes in use per task"),
    ("resident", "Resident bytes per task"),
    ("retained", "Heap bytes still in use per task that has ended"),
    ("allocs", "Allocations per operation"),
    ("bytes", "Bytes allocated per operation"),
    ("switches", "Times a thread went to sleep, per 1,000 operations"),
];

/// What a child has measured: figures by name, see [`FIGURES`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured(BTreeMap<String, f64>);

/// Runs `step`, which is `ops` operations, as `plan` says.
pub fn measure(plan: &Plan, ops: usize, step: impl FnMut()) -> Measured {
    measure_after(plan, ops, step, || {})
}

/// The same, and between warm-up and measurement calls `warm`.
pub fn measure_after(plan: &Plan, ops: usize, mut step: impl FnMut(), warm: impl FnOnce()) -> Measured {
    let enough = |steps: u64, start: Instant, extent: Extent, warm: bool| match extent {
        Extent::Time { warm_up, measure } => start.elapsed() >= if warm { warm_up } else { measure },
        Extent::Steps(measured) => steps >= if warm { WARM_STEPS } else { measured },
    };
    let (mut steps, start) = (0, Instant::now());
    while !enough(steps, start, plan.extent, true) {
        step();
        steps += 1;
    }
    warm();
    let (memory, sleeps, cpu, start) = (allocated(), machine::sleeps(), process_cpu(), Instant::now());
    let mut steps = 0;
    while steps == 0 || !enough(steps, start, plan.extent, false) {
        step();
        steps += 1;
    }
    let (wall, cpu, later) = (start.elapsed(), process_cpu().saturating_sub(cpu), allocated());
    let slept = machine::sleeps().saturating_sub(sleeps);
    let ops = (steps * ops as u64) as f64;
    let mut measured = Measured::default();
    measured.set("wall", wall.as_nanos() as f64 / ops);
    measured.set("cpu", cpu.as_nanos() as f64 / ops);
    measured.set("switches", slept as f64 * 1_000.0 / ops);
    measured.set("ops", ops);
    if later.calls > 0 {
        measured.set("allocs", (later.calls - memory.calls) as f64 / ops);
        measured.set("bytes", (later.bytes - memory.bytes) as f64 / ops);
    }
    measured
}

/// Runs `step`, which sets up and times `ops` operations by itself, and returns wall and CPU time of these.
pub fn measure_parts(plan: &Plan, ops: usize, mut step: impl FnMut() -> Part) -> Measured {
    let total = Mutex::new((Part::default(), 0));
    let lock = || total.lock().unwrap_or_else(PoisonError::into_inner);
    let timed = || {
        let part = step();
        let mut total = lock();
        total.0.wall += part.wall;
        total.0.cpu += part.cpu;
        total.1 += ops;
    };
    measure_after(plan, ops, timed, || *lock() = Default::default());
    let (part, ops) = *lock();
    let mut measured = Measured::default();
    measured.set("wall", part.wall.as_nanos() as f64 / ops as f64);
    measured.set("cpu", part.cpu.as_nanos() as f64 / ops as f64);
    measured
}

/// Times of a part of a step.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Part {
    /// By the clock.
    pub wall: Duration,
    /// Of all threads of the process.
    pub cpu: Duration,
}

/// Times a [`Part`].
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant, Duration);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Stopwatch {
        let cpu = process_cpu();
        Stopwatch(Instant::now(), cpu)
    }

    /// The times since.
    pub fn stop(self) -> Part {
        let wall = self.0.elapsed();
        Part { wall, cpu: process_cpu().saturating_sub(self.1) }
    }
}

/// Latencies of a workload, up to ten seconds, three digits.
#[derive(Debug)]
pub struct Latencies(Mutex<Histogram<u64>>);

impl Latencies {
    /// None yet.
    pub fn new() -> Latencies {
        Latencies(Mutex::new(Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("sound bounds")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a task or thread has seen.
    pub fn add(&self, seen: &[Duration]) {
        let mut histogram = self.lock();
        for latency in seen {
            histogram.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Forgets the warm-up.
    pub fn reset(&self) {
        self.lock().reset();
    }

    /// Median and 99th percentile, in nanoseconds.
    pub fn quantiles(&self) -> (f64, f64) {
        let histogram = self.lock();
        (histogram.value_at_quantile(0.5) as f64, histogram.value_at_quantile(0.99) as f64)
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies::new()
    }
}

impl Measured {
    /// The figure of that name.
    pub fn get(&self, figure: &str) -> Option<f64> {
        self.0.get(figure).copied()
    }

    /// Adds a figure.
    pub fn set(&mut self, figure: &str, value: f64) {
        self.0.insert(figure.to_string(), value);
    }

    /// Where waiting is part of the work its length says nothing.
    pub fn without(mut self, figure: &str) -> Measured {
        self.0.remove(figure);
        self
    }

    /// With median and 99th percentile.
    pub fn with(mut self, (p50, p99): (f64, f64)) -> Measured {
        self.set("p50", p50);
        self.set("p99", p99);
        self
    }

    /// The line that a child prints.
    pub fn to_line(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(figure, value)| format!("{figure}={value}")).collect();
        words.join(" ")
    }

    /// Reads that line; `None` if it is no such line, or an empty one.
    pub fn from_line(line: &str) -> Option<Measured> {
        let mut measured = Measured::default();
        for word in line.split_whitespace() {
            let (figure, value) = word.split_once('=')?;
            measured.set(figure, value.parse().ok()?);
        }
        (!measured.0.is_empty()).then_some(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut measured = Measured::default();
        measured.set("wall", 12.5);
        measured.set("cpu", 3.0);
        assert_eq!(measured.to_line(), "cpu=3 wall=12.5");
        assert_eq!(Measured::from_line(&measured.to_line()), Some(measured));
        assert_eq!(Measured::from_line(""), None);
        assert_eq!(Measured::from_line("thread panicked"), None);
    }

    #[test]
    fn steps() {
        let mut steps = 0;
        let plan = Plan { workers: 1, extent: Extent::Steps(4) };
        measure(&plan, 10, || steps += 1);
        assert_eq!(steps, WARM_STEPS + 4);
    }

    #[test]
    fn the_warm_up_is_left_out_of_the_parts() {
        let mut n = 0;
        let measured = measure_parts(&Plan { workers: 1, extent: Extent::Steps(2) }, 10, || {
            n += 1;
            let wall = Duration::from_nanos(if n > WARM_STEPS { 100 } else { 9_999 });
            Part { wall, cpu: Duration::ZERO }
        });
        assert_eq!(measured.get("wall"), Some(10.0));
    }
}
