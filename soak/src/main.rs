//! Soak: random work of every kind on one runtime, for as long as is asked, with a watchdog beside it.
//!
//! `cargo run --release -p leakfree-soak -- --seconds 60`, or `ci/soak`
//!
//! | option | what | default |
//! |---|---|---|
//! | `--seconds n`, `--spawns n` | when to end: after so long, or so many spawns; with both, at the first | 10 s |
//! | `--workers n` | of the runtime: more than there are cores, so that they are preempted anywhere | 4 |
//! | `--lives n` | lives that go on side by side, each a loop of random work | 16 |
//! | `--seed n` | of the random numbers; the schedule is the machine's | 1 |
//! | `--patience n` | seconds without a step of one life, until the watchdog says that it hangs | 30 |
//! | `--drift-max n` | percent that memory may grow after the warm-up | 5 |
//! | `--hang` | one life waits for a wake that never comes: the watchdog has to tell | |
//!
//! It fails, with status 1, if a value is not dropped, a task or a thread or a descriptor is left, a result is wrong, or memory grows; with
//! status 101 if something hangs: then the watchdog prints the runtime's own report and what every thread does.

mod measure;
mod watchdog;
mod work;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use leakfree::runtime::{Builder, Handle};

use crate::measure::{Memory, descriptors, threads};
use crate::work::{Random, World};

/// What was asked for.
#[derive(Clone, Debug)]
struct Options {
    seconds: u64,
    spawns: u64,
    workers: usize,
    lives: usize,
    seed: u64,
    patience: u64,
    drift_max: f64,
    hang: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut seconds, mut spawns) = (None, None);
        let mut options = Options {
            seconds: 10,
            spawns: u64::MAX,
            workers: 4,
            lives: 16,
            seed: 1,
            patience: 30,
            drift_max: 5.0,
            hang: false,
        };
        while let Some(arg) = args.next() {
            if arg == "--hang" {
                options.hang = true;
                continue;
            }
            let value: u64 = args
                .next()
                .and_then(|value| value.parse().ok())
                .ok_or(format!("{arg}: a number should follow; see the head of soak/src/main.rs"))?;
            match arg.as_str() {
                "--seconds" => seconds = Some(value),
                "--spawns" => spawns = Some(value),
                "--workers" => options.workers = value.max(1) as usize,
                "--lives" => options.lives = value.max(1) as usize,
                "--seed" => options.seed = value,
                "--patience" => options.patience = value.max(1),
                "--drift-max" => options.drift_max = value as f64,
                _ => return Err(format!("{arg} is no option; see the head of soak/src/main.rs")),
            }
        }
        options.seconds = seconds.unwrap_or(if spawns.is_some() { u64::MAX } else { options.seconds });
        options.spawns = spawns.unwrap_or(u64::MAX);
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    // Work panics on purpose.
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        if text != work::ON_PURPOSE {
            eprintln!("{info}");
        }
    }));
    match soak(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("soak: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn soak(options: &Options) -> Result<(), String> {
    let (threads_before, descriptors_before) = (threads(), descriptors());
    let start = Instant::now();
    let world = World::new(options.lives);
    let runtime = Builder::new()
        .workers(options.workers)
        .blocking_threads_max(4)
        .grace(Duration::ZERO)
        .build()
        .map_err(|error| error.to_string())?;
    let watchdog =
        watchdog::start(Arc::clone(&world), runtime.handle(), Duration::from_secs(options.patience));
    let outside = work::outside(&world, &runtime.handle(), options.seed);

    let memory = runtime.block_on(async {
        let mut seeds = Random(options.seed);
        work::peak(&world, &mut seeds).await;
        let lives: Vec<_> = (0..options.lives)
            .map(|life| {
                let (world, seed) = (Arc::clone(&world), seeds.next());
                let hangs = options.hang && life == 0;
                leakfree::scope::current()
                    .task()
                    .name(format!("life {life}"))
                    .spawn(work::live(world, life, seed, hangs))
            })
            .collect();
        let memory = until_over(options, &world, start).await;
        world.stop.store(true, Relaxed);
        for life in lives {
            life.await.map_err(|error| format!("a life ended badly: {error}"))?;
        }
        Ok::<_, String>(memory)
    })?;
    for thread in outside {
        thread.join().map_err(|_| "an outside thread panicked")?;
    }
    let finished = Instant::now();
    let report = runtime.shutdown();
    watchdog.stop();
    let shutdown = finished.elapsed();

    let (spawned, took) = (world.spawned.load(Relaxed), start.elapsed());
    let (made, dropped) = (world.made.load(Relaxed), world.dropped.load(Relaxed));
    println!(
        "{spawned} spawns in {:.1} s ({:.0} ns each, {} workers, {} lives), {} runtimes started and stopped, {} snapshots; \
         {made} values made, {dropped} dropped; {memory}shutdown {shutdown:?}",
        took.as_secs_f64(),
        took.as_nanos() as f64 / spawned.max(1) as f64,
        options.workers,
        options.lives,
        world.cycles.load(Relaxed),
        world.snapshots.load(Relaxed),
    );
    let counts: Vec<String> = work::KINDS
        .iter()
        .zip(&world.kinds)
        .map(|((name, _), count)| format!("{name} {}", count.load(Relaxed)))
        .collect();
    println!("work: {}", counts.join(", "));
    if !report.is_empty() {
        return Err(format!("the report at the end is not empty:\n{report}"));
    }
    // What a runtime gave up at its shutdown, and said so, may or may not be dropped later.
    let given_up = world.given_up.load(Relaxed);
    if given_up > 0 {
        println!("{given_up} tasks did not end in time when their runtime shut down, and were reported");
    }
    if made - dropped > given_up {
        return Err(format!("{made} values were made, {dropped} dropped, {given_up} given up"));
    }
    // A thread that was joined may still be on its way out of the process.
    let patience = Instant::now() + Duration::from_secs(5);
    while (threads() > threads_before || descriptors() > descriptors_before) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (threads_after, descriptors_after) = (threads(), descriptors());
    if threads_after > threads_before || descriptors_after > descriptors_before {
        return Err(format!(
            "left behind: threads {threads_before} before, {threads_after} after; descriptors {descriptors_before} before, \
             {descriptors_after} after; {}",
            measure::whose()
        ));
    }
    if memory.drift() > options.drift_max {
        return Err(format!("memory grew by more than {} %: {memory}", options.drift_max));
    }
    Ok(())
}

/// Looks four times a second whether it is time, and at memory.
async fn until_over(options: &Options, world: &World, start: Instant) -> Memory {
    let mut memory = Memory::new();
    loop {
        leakfree::time::sleep(Duration::from_millis(250)).await;
        memory.look();
        world.snapshots.fetch_add(1, Relaxed);
        let snapshot = Handle::current().report();
        assert!(snapshot.leaked() == 0 || options.hang, "a false accusation:\n{snapshot}");
        let spawned = world.spawned.load(Relaxed);
        if start.elapsed().as_secs() >= options.seconds || spawned >= options.spawns {
            return memory;
        }
    }
}
