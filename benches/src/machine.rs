//! Who used the machine: `/proc/stat`, and the clocks.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// The CPU time of all threads of this process so far.
///
/// The kernel's process clock counts nanoseconds, where `getrusage` may count ticks.
pub fn process_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How often a thread of this process has gone to sleep so far: for want of work, or for a lock that another one had.
pub fn sleeps() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| u64::try_from(usage.voluntary_context_switches()).unwrap_or(0))
}

/// Bytes of this process in memory; 0 where there is no `/proc`.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * system(SysconfVar::PAGE_SIZE)
}

fn system(variable: SysconfVar) -> u64 {
    sysconf(variable).ok().flatten().map_or(0, i64::unsigned_abs)
}

/// The load averages of 1, 5 and 15 minutes, as the kernel prints them.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// CPU time of the whole machine since it was started.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    /// Time spent working, by anybody.
    pub busy: Duration,
    /// Time that the hypervisor gave to others.
    pub stolen: Duration,
}

impl Usage {
    /// As of now; `None` where there is no `/proc/stat`.
    pub fn now() -> Option<Usage> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        Usage::parse(&text, system(SysconfVar::CLK_TCK))
    }

    /// Reads the first line of `/proc/stat`, whose columns are ticks: user, nice, system, idle,
    /// iowait, irq, softirq, steal; the guests' that follow are part of user and nice.
    pub fn parse(text: &str, ticks_per_second: u64) -> Option<Usage> {
        let mut words = text.lines().next()?.split_whitespace();
        if words.next()? != "cpu" || ticks_per_second == 0 {
            return None;
        }
        let columns: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let column = |n: usize| columns.get(n).copied().unwrap_or(0);
        if columns.len() < 4 {
            return None;
        }
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64);
        let busy = [0, 1, 2, 5, 6].into_iter().map(column).sum();
        Some(Usage { busy: time(busy), stolen: time(column(7)) })
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            busy: self.busy.saturating_sub(earlier.busy),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat() {
        let text = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3 4\n";
        let usage = Usage::parse(text, 100).unwrap();
        assert_eq!(usage.busy, Duration::from_millis(1630));
        assert_eq!(usage.stolen, Duration::from_millis(80));
        let later = Usage { busy: Duration::from_secs(2), ..usage };
        assert_eq!(later.since(usage).busy, Duration::from_millis(370));
        assert_eq!(usage.since(later).busy, Duration::ZERO);
        assert_eq!(Usage::parse("cpu 1 2\n", 100), None);
        assert_eq!(Usage::parse("", 100), None);
    }

    #[test]
    fn the_process_clock_runs() {
        let before = process_cpu();
        let mut n = 0_u64;
        while process_cpu() == before {
            n = std::hint::black_box(n + 1);
        }
        assert!(process_cpu() > before);
    }
}
