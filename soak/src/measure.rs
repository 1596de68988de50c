//! What the process has: memory, threads, descriptors.

use std::fmt;

/// Memory over a run, looked at from time to time: what is in use of the heap, and what is resident, which goes in the allocator's
/// steps.
pub(crate) struct Memory {
    heap: Vec<u64>,
    resident: Vec<u64>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory { heap: Vec::new(), resident: Vec::new() }
    }

    pub(crate) fn look(&mut self) {
        self.heap.extend(heap_kb());
        self.resident.extend(status("VmRSS:"));
    }

    /// By how many percent it grew: what is in use of the heap where that can be told, else what is resident. Zero if there were
    /// too few looks, or none could be taken.
    pub(crate) fn drift(&self) -> f64 {
        means(&self.heap).or_else(|| means(&self.resident)).map_or(0.0, growth)
    }
}

/// Means of the second quarter of the run and of its last. The first quarter is the warm-up.
fn means(looks: &[u64]) -> Option<(f64, f64)> {
    let quarter = looks.len() / 4;
    let mean = |looks: &[u64]| looks.iter().sum::<u64>() as f64 / looks.len() as f64;
    (quarter > 0).then(|| (mean(&looks[quarter..2 * quarter]), mean(&looks[looks.len() - quarter..])))
}

fn growth((before, after): (f64, f64)) -> f64 {
    (after / before - 1.0) * 100.0
}

/// What is in use of the heap, as the allocator says; `None` where it does not, as under a sanitizer. What its threads' caches hold
/// counts as in use, unless `GLIBC_TUNABLES=glibc.malloc.tcache_count=0`.
fn heap_kb() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes nothing, and may be called at any time from any thread (mallinfo(3)).
        let info = unsafe { libc::mallinfo2() };
        let used = (info.uordblks + info.hblkhd) as u64 / 1024;
        (used > 0).then_some(used)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, looks) in [("heap in use", &self.heap), ("resident", &self.resident)] {
            match means(looks) {
                Some((before, after)) => {
                    let growth = growth((before, after));
                    write!(f, "{what} {before:.0} kB to {after:.0} kB ({growth:+.2} %); ")?;
                }
                None => write!(f, "{what} not looked at often enough; ")?,
            }
        }
        Ok(())
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
