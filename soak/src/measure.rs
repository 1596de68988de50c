//! What the process has: memory, threads, descriptors.

use std::fmt;

/// Resident memory over a run, looked at from time to time.
pub(crate) struct Memory {
    looks: Vec<u64>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory { looks: Vec::new() }
    }

    pub(crate) fn look(&mut self) {
        self.looks.extend(status("VmRSS:"));
    }

    /// Means of the second quarter of the run and of its last, in kB. The first quarter is the warm-up.
    fn means(&self) -> Option<(f64, f64)> {
        let quarter = self.looks.len() / 4;
        let mean = |looks: &[u64]| looks.iter().sum::<u64>() as f64 / looks.len() as f64;
        (quarter > 0).then(|| {
            (mean(&self.looks[quarter..2 * quarter]), mean(&self.looks[self.looks.len() - quarter..]))
        })
    }

    /// By how many percent it grew; zero if there were too few looks, or none could be taken.
    pub(crate) fn drift(&self) -> f64 {
        self.means().map_or(0.0, |(before, after)| (after / before - 1.0) * 100.0)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.means() {
            Some((before, after)) => write!(f, "{before:.0} kB to {after:.0} kB ({:+.2} %)", self.drift()),
            None => f.write_str("not looked at often enough"),
        }
    }
}

/// A number of `/proc/self/status`; `None` where there is no such file.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Threads beside the main one, whose name is the program's; a sanitizer's own have that, too.
pub(crate) fn threads() -> u64 {
    let main = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    names().filter(|name| *name != main).count() as u64
}

/// Descriptors that a runtime could have opened: sockets, and what has no name.
pub(crate) fn descriptors() -> u64 {
    links().filter(|link| link.starts_with("socket:") || link.starts_with("anon_inode:")).count() as u64
}

fn names() -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
}

fn links() -> impl Iterator<Item = String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    descriptors.filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.display().to_string()))
}

/// The names of the threads, and what the descriptors are.
pub(crate) fn whose() -> String {
    format!("{:?} {:?}", names().collect::<Vec<_>>(), links().collect::<Vec<_>>())
}
