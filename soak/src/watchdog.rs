//! A thread outside the runtime that ends the process when one life makes no step any more, and says what it saw.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leakfree::runtime::Handle;

use crate::work::World;

const INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    pub(crate) fn stop(self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.join();
    }
}

/// Each life has to make a step within the patience; when the last has ended, what is left to do has to be over by then, too.
pub(crate) fn start(world: Arc<World>, handle: Handle, patience: Duration) -> Watchdog {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watch = move || {
        let mut seen: Vec<(u64, Instant)> = vec![(u64::MAX, Instant::now()); world.steps.len()];
        while !stopped.load(Relaxed) {
            for (life, (last, since)) in seen.iter_mut().enumerate() {
                let now = world.steps[life].load(Relaxed);
                if now != *last {
                    (*last, *since) = (now, Instant::now());
                } else if since.elapsed() > patience {
                    bark(&handle, life, *last, patience);
                }
            }
            std::thread::sleep(INTERVAL);
        }
    };
    let thread =
        std::thread::Builder::new().name("watchdog".into()).spawn(watch).expect("a watchdog is needed");
    Watchdog { stop, thread }
}

fn bark(handle: &Handle, life: usize, steps: u64, patience: Duration) -> ! {
    eprintln!("soak: life {life} hangs: no step after its {steps}th for {patience:?}");
    // The stacks first: the report takes locks of the runtime, which may be what hangs.
    native_stacks();
    eprintln!("--- the runtime's own report\n{}", handle.report());
    eprintln!("--- every parked task");
    for task in handle.snapshot().tasks {
        eprintln!("{task:?}");
    }
    std::process::exit(101);
}

/// What every thread does: by gdb, else what the kernel tells of where each waits.
fn native_stacks() {
    let pid = std::process::id().to_string();
    eprintln!("--- native stacks");
    // Straight to standard error: this process is stopped meanwhile, and could not empty a pipe.
    let gdb = Command::new("gdb")
        .args(["-p", &pid, "-batch", "-nx", "-ex", "thread apply all backtrace 40"])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::null())
        .status();
    match gdb {
        Ok(status) if status.success() => return,
        Ok(status) => eprintln!("!!! SKIPPED: native stacks by gdb, which ended with {status}"),
        Err(error) => eprintln!("!!! SKIPPED: native stacks by gdb: {error}"),
    }
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return eprintln!("!!! SKIPPED: native stacks: there is no /proc");
    };
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        eprintln!("thread {} {}: {}", task.file_name().to_string_lossy(), read("comm").trim(), read("wchan"));
        eprint!("{}", read("stack"));
    }
}
