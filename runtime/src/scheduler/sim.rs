//! Deterministic simulation: one thread plays all workers, in an order that a seed chooses (feature `test-util`).
//!
//! There is no second scheduler. The workers are those of `worker.rs`, with their queues, their idle protocol and their parkers;
//! [`Worker::step`](super::worker::Worker::step) is their loop, cut where others may come between. No thread runs it: whoever is in `block_on`, or
//! shuts the runtime down, *plays*, which is to take one step after another, each of an actor drawn at random: a worker, the
//! pool of blocking calls, or the player's own task. A step is over before the next one begins, so what happens depends on the
//! seed, on the program, and on what comes from outside.
//!
//! What is drawn: who takes the next step; whom a thief tries first; whether the LIFO slot is used, at a push and at a pop; where a turn
//! ends; which queued call the pool runs; in which order timers of one moment are told; when a watcher looks; the branch that a `select!`
//! looks at first. Every draw gives what the real scheduler may do, too.
//!
//! Time is a paused clock's: it jumps when no step is left. When no timer is left either, nothing can run until something outside
//! wakes a task: the player waits for that in the driver, unless it is told to give up ([`Seeded::on_quiet`]).
//!
//! Without the feature [`Sim`] is empty and every question to it has a constant for an answer.

#[cfg(feature = "test-util")]
pub use self::seeded::{Actor, Event, Step, Trace};
#[cfg(feature = "test-util")]
pub(crate) use self::seeded::{OnStep, Sim, Waits, next, play_until, play_while, stop};
#[cfg(not(feature = "test-util"))]
pub(crate) use self::without::Sim;

#[cfg(feature = "test-util")]
mod seeded {
    use std::collections::HashMap;
    use std::fmt;
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::Waker;
    use std::time::Duration;

    use crate::driver::Driver;
    use crate::scheduler::blocking;
    use crate::scheduler::context;
    use crate::scheduler::shared::{Shared, wake_all};
    use crate::scheduler::worker::{Place, Worker};

    /// One in so many polls ends its worker's turn.
    const TURN: u64 = 16;
    /// How long a player sleeps at most before it looks again at what is outside.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);

    /// Who takes a step.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[non_exhaustive]
    pub enum Actor {
        /// The thread in `block_on`, with its own task.
        Main,
        /// A worker.
        Worker(usize),
        /// The pool of blocking calls.
        Pool,
        /// Nothing could run: the clock.
        Clock,
    }

    /// What happens in a step.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[non_exhaustive]
    pub enum Event {
        /// A task is polled, or dropped if it was cancelled.
        Poll,
        /// A worker has nothing left in its own queue.
        RunDry,
        /// It has found work elsewhere.
        Find,
        /// It has found none and says that it sleeps.
        LieDown,
        /// It parks.
        Park,
        /// It does not park after all.
        StayUp,
        /// It has been woken up.
        GetUp,
        /// It woke up by itself, as the one that watches, and sleeps on.
        Watch,
        /// It has ended.
        Stop,
        /// A blocking call is run.
        Call,
        /// The clock jumps to so many nanoseconds after the runtime's start.
        Jump(u64),
        /// The thread waits for something outside: from here on the seed alone does not say what happens.
        Wait,
    }

    /// A step of a simulation.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[non_exhaustive]
    pub struct Step {
        /// Steps before it.
        pub number: u64,
        /// Whose it is.
        pub actor: Actor,
        /// The task that was polled or called; tasks are numbered from 1, by their first polls.
        pub task: Option<u64>,
        /// What happened.
        pub event: Event,
    }

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:>6} ", self.number)?;
            match self.actor {
                Actor::Main => f.write_str("main    ")?,
                Actor::Worker(index) => write!(f, "worker {index}")?,
                Actor::Pool => f.write_str("pool    ")?,
                Actor::Clock => f.write_str("clock   ")?,
            }
            match (self.event, self.task) {
                (Event::Jump(to_ns), _) => write!(f, " jumps to {:?}", Duration::from_nanos(to_ns)),
                (event, Some(task)) => write!(f, " {event:?} task {task}"),
                (event, None) => write!(f, " {event:?}"),
            }
        }
    }

    /// What a simulation did up to now: two traces that are equal are of the same steps.
    #[derive(Clone)]
    #[non_exhaustive]
    pub struct Trace {
        /// The seed.
        pub seed: u64,
        /// How many steps there were.
        pub length: u64,
        /// A hash of all of them.
        pub hash: u64,
        /// The steps, if [`Builder::keep_trace`](crate::runtime::Builder::keep_trace) asked for them; else none.
        pub steps: Vec<Step>,
    }

    impl PartialEq for Trace {
        fn eq(&self, other: &Trace) -> bool {
            (self.seed, self.length, self.hash) == (other.seed, other.length, other.hash)
        }
    }

    impl Eq for Trace {}

    impl fmt::Debug for Trace {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Trace")
                .field("seed", &self.seed)
                .field("length", &self.length)
                .field("hash", &format_args!("{:016x}", self.hash))
                .finish_non_exhaustive()
        }
    }

    /// The steps as text, a line each.
    impl fmt::Display for Trace {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "seed {}, {} steps, hash {:016x}", self.seed, self.length, self.hash)?;
            self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
        }
    }

    /// Told when no step is left: `true` if the clock is about to jump. It says whether it has woken anybody.
    type OnQuiet = Box<dyn FnMut(Waits) -> bool + Send>;
    pub(crate) type OnStep = Box<dyn Fn(&Step) + Send + Sync>;

    /// Why a simulation asks whether to go on.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Waits {
        /// For a timer.
        Timer,
        /// For something outside.
        Outside,
        /// It does not; it has gone on for so many steps.
        Endless(u64),
    }

    /// A runtime's simulation, if it has one.
    #[derive(Default)]
    pub(crate) struct Sim(Option<Box<Seeded>>);

    struct Seeded {
        seed: u64,
        random: AtomicU64,
        /// One step in so many is drawn among all; the others are their predecessor's, if it can take another.
        restless: u64,
        play: Mutex<Play>,
        log: Mutex<Log>,
        keep: bool,
        on_step: Option<OnStep>,
        on_quiet: Mutex<Option<OnQuiet>>,
        /// Players that sleep, or are about to.
        waiting: AtomicUsize,
        steps_max: u64,
    }

    /// A worker that a step is taken with.
    type Role = (Arc<Worker>, Place);

    struct Play {
        /// `None`: somebody takes a step with it.
        workers: Vec<(Arc<Worker>, Option<Place>)>,
        last: Option<Actor>,
        able: Vec<Actor>,
    }

    struct Log {
        length: u64,
        hash: u64,
        steps: Vec<Step>,
        tasks: HashMap<u64, u64>,
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last part of Steele, Lea and Flood's splitmix64.
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    impl Seeded {
        fn next(&self) -> u64 {
            // No order is needed: one thread plays.
            mix(self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15))
        }

        fn below(&self, n: u64) -> u64 {
            // The high half of a product, as in `macros`.
            ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
        }

        fn log(&self, actor: Actor, event: Event, task: Option<u64>) {
            let mut log = lock(&self.log);
            let fresh = log.tasks.len() as u64 + 1;
            let task = task.map(|id| *log.tasks.entry(id).or_insert(fresh));
            let step = Step { number: log.length, actor, task, event };
            let actor = match actor {
                Actor::Main => 1,
                Actor::Pool => 2,
                Actor::Clock => 3,
                Actor::Worker(index) => 4 + index as u64,
            };
            let (event, time) = match event {
                Event::Poll => (1, 0),
                Event::RunDry => (2, 0),
                Event::Find => (3, 0),
                Event::LieDown => (4, 0),
                Event::Park => (5, 0),
                Event::StayUp => (6, 0),
                Event::GetUp => (7, 0),
                Event::Watch => (8, 0),
                Event::Stop => (9, 0),
                Event::Call => (10, 0),
                Event::Jump(to_ns) => (11, to_ns),
                Event::Wait => (12, 0),
            };
            for part in [actor, event, time, task.unwrap_or(0)] {
                log.hash = mix(log.hash ^ part).wrapping_add(part);
            }
            log.length += 1;
            if self.keep {
                log.steps.push(step);
            }
            drop(log);
            if let Some(on_step) = &self.on_step {
                // It may be called within `block_on`, which must not unwind; its message has been printed.
                crate::task::waker::forgive(|| on_step(&step));
            }
        }

        /// Draws who is next. `main`: the player's own task can run.
        fn choose(&self, shared: &Shared, main: bool) -> Option<(Actor, Option<Role>)> {
            let mut play = lock(&self.play);
            let Play { workers, last, able, .. } = &mut *play;
            able.clear();
            for (index, (worker, place)) in workers.iter().enumerate() {
                if place.as_ref().is_some_and(|place| worker.can_step(place)) {
                    able.push(Actor::Worker(index));
                }
            }
            if shared.blocking.has_queued() {
                able.push(Actor::Pool);
            }
            if main {
                able.push(Actor::Main);
            }
            if able.is_empty() {
                return None;
            }
            let again = last.filter(|last| able.contains(last) && self.below(self.restless) > 0);
            let actor = again.unwrap_or_else(|| able[self.below(able.len() as u64) as usize]);
            *last = Some(actor);
            let taken = match actor {
                Actor::Worker(index) => {
                    let (worker, place) = &mut workers[index];
                    place.take().map(|place| (Arc::clone(worker), place))
                }
                _ => None,
            };
            Some((actor, taken))
        }

        fn put_back(&self, worker: usize, place: Place) {
            if let Some((_, slot)) = lock(&self.play).workers.get_mut(worker) {
                *slot = Some(place);
            }
        }

        /// Has the clock jump, if it may, on behalf of a worker that sleeps.
        fn jump(&self, shared: &Arc<Shared>) -> bool {
            let mut woken = Vec::new();
            let driver = &shared.driver;
            if !driver.jump(&mut woken, || shared.has_work_outside()) {
                return false;
            }
            for n in (1..woken.len()).rev() {
                woken.swap(n, self.below(n as u64 + 1) as usize);
            }
            self.log(Actor::Clock, Event::Jump(driver.clock().now_ns()), None);
            let mut asleep = Vec::new();
            for (worker, place) in &lock(&self.play).workers {
                if let Some(Place::Asleep(_)) = place {
                    asleep.push(Arc::clone(worker));
                }
            }
            match asleep.len() as u64 {
                0 => wake_all(&mut woken),
                // Its queue is not empty then: it gets up.
                n => asleep[self.below(n) as usize].wake_due(&mut woken),
            }
            // The jump took a hold. Whoever may jump next looks anyway.
            let _ = driver.clock().let_go();
            true
        }
    }

    impl Sim {
        pub(crate) fn new(seed: u64, steps_max: u64, keep: bool, on_step: Option<OnStep>) -> Sim {
            let seeded = Seeded {
                seed,
                random: AtomicU64::new(mix(seed)),
                restless: 0,
                play: Mutex::new(Play { workers: Vec::new(), last: None, able: Vec::new() }),
                log: Mutex::new(Log { length: 0, hash: mix(seed), steps: Vec::new(), tasks: HashMap::new() }),
                keep,
                on_step,
                on_quiet: Mutex::new(None),
                waiting: AtomicUsize::new(0),
                steps_max,
            };
            // Some schedules change hands at every step, in others somebody runs on for long.
            let restless = [1, 1, 3, 12][seeded.below(4) as usize];
            Sim(Some(Box::new(Seeded { restless, ..seeded })))
        }

        /// Before anything runs.
        pub(crate) fn install(&self, workers: Vec<Arc<Worker>>) {
            if let Some(seeded) = &self.0 {
                lock(&seeded.play).workers =
                    workers.into_iter().map(|worker| (worker, Some(Place::Awake))).collect();
            }
        }

        #[inline]
        pub(crate) fn is_on(&self) -> bool {
            self.0.is_some()
        }

        /// Whether a task that could go into the LIFO slot, or be taken from it, is not.
        #[inline]
        pub(crate) fn skips_lifo(&self) -> bool {
            match &self.0 {
                None => false,
                Some(seeded) => seeded.below(4) == 0,
            }
        }

        #[inline]
        pub(crate) fn random(&self) -> Option<u32> {
            self.0.as_ref().map(|seeded| seeded.next() as u32)
        }

        /// A worker's thread is about to block: the player may take further steps with the worker. Its own role is over.
        #[inline]
        pub(crate) fn hand_over(&self, worker: &Worker) -> bool {
            match &self.0 {
                None => false,
                Some(seeded) => {
                    seeded.put_back(worker.index(), Place::Awake);
                    true
                }
            }
        }

        /// There is a step to take: wakes a player that waits for something outside.
        #[inline]
        pub(crate) fn nudge(&self, driver: &Driver) {
            if let Some(seeded) = &self.0 {
                // Pairs with the increment in `wait_outside`: either we see it, or the player sees what there is to do.
                if seeded.waiting.load(SeqCst) > 0 {
                    driver.unpark();
                }
            }
        }

        /// What is asked when no step is left; see [`Waits`].
        pub(crate) fn set_on_quiet(&self, on_quiet: Option<OnQuiet>) {
            if let Some(seeded) = &self.0 {
                *lock(&seeded.on_quiet) = on_quiet;
            }
        }

        pub(crate) fn trace(&self) -> Option<Trace> {
            let seeded = self.0.as_ref()?;
            let log = lock(&seeded.log);
            let (length, hash, steps) = (log.length, log.hash, log.steps.clone());
            Some(Trace { seed: seeded.seed, length, hash, steps })
        }
    }

    /// What a player does next.
    enum Turn {
        /// Its own task.
        Own,
        /// A step has been taken.
        Step,
        /// No step is left.
        Nothing,
    }

    /// Takes a step, if there is one. `main`: the player's own task can run, and may be drawn.
    fn step(shared: &Arc<Shared>, seeded: &Seeded, main: bool) -> Turn {
        let Some((actor, taken)) = seeded.choose(shared, main) else { return Turn::Nothing };
        match (actor, taken) {
            (Actor::Worker(index), Some((worker, place))) => {
                // Another thread that plays must not have the clock jump meanwhile.
                shared.driver.clock().hold();
                let (place, event, task) = worker.step(place, seeded.below(TURN) == 0);
                let _ = shared.driver.clock().let_go();
                if let Some(place) = place {
                    seeded.put_back(index, place);
                }
                seeded.log(actor, event, task);
                Turn::Step
            }
            (Actor::Pool, _) => {
                if let Some(task) = blocking::call_one(shared, |calls| seeded.below(calls as u64) as usize) {
                    seeded.log(actor, Event::Call, Some(task));
                }
                Turn::Step
            }
            _ => Turn::Own,
        }
    }

    /// No step is left: the operating system's events, else a jump. True if there may be steps again.
    fn pass_time(shared: &Arc<Shared>, seeded: &Seeded) -> bool {
        if shared.driver.io_len() > 0 && look_outside(shared, Duration::ZERO) {
            return true;
        }
        ask(seeded, Waits::Timer) || seeded.jump(shared)
    }

    fn ask(seeded: &Seeded, waits: Waits) -> bool {
        // Out of its place while it is called: it may take a snapshot, and call what plays.
        let Some(mut on_quiet) = lock(&seeded.on_quiet).take() else { return false };
        let woke = on_quiet(waits);
        lock(&seeded.on_quiet).get_or_insert(on_quiet);
        woke
    }

    /// True if somebody was woken.
    fn look_outside(shared: &Arc<Shared>, timeout: Duration) -> bool {
        let mut woken: Vec<Waker> = Vec::new();
        match shared.driver.try_enter() {
            Some(seat) => seat.turn(Some(timeout), &mut woken),
            // Another thread plays, too.
            None => std::thread::sleep(timeout.min(Duration::from_millis(1))),
        }
        let any = !woken.is_empty();
        wake_all(&mut woken);
        any
    }

    /// Sleeps until something comes from outside, or for a while.
    fn wait_outside(shared: &Arc<Shared>, seeded: &Seeded, is_due: impl Fn() -> bool) {
        // Pairs with the load in `nudge`.
        seeded.waiting.fetch_add(1, SeqCst);
        let able = is_due() || {
            let play = lock(&seeded.play);
            let mut able = play.workers.iter().filter_map(|(worker, place)| Some((worker, place.as_ref()?)));
            able.any(|(worker, place)| worker.can_step(place)) || shared.blocking.has_queued()
        };
        if !able {
            seeded.log(Actor::Clock, Event::Wait, None);
            look_outside(shared, LOOK_AGAIN);
        }
        seeded.waiting.fetch_sub(1, SeqCst);
    }

    /// Plays until the task of the player can run and its turn has come: the body of `block_on`'s wait.
    pub(crate) fn next(shared: &Arc<Shared>, is_ready: impl Fn() -> bool) {
        let Some(seeded) = &shared.sim.0 else { return };
        loop {
            let length = lock(&seeded.log).length;
            if length >= seeded.steps_max && length % seeded.steps_max == 0 {
                ask(seeded, Waits::Endless(length));
            }
            match step(shared, seeded, is_ready()) {
                Turn::Own => {
                    seeded.log(Actor::Main, Event::Poll, None);
                    return;
                }
                Turn::Step => {}
                Turn::Nothing if pass_time(shared, seeded) => {}
                Turn::Nothing => {
                    if !ask(seeded, Waits::Outside) {
                        wait_outside(shared, seeded, &is_ready);
                    }
                }
            }
        }
    }

    /// Plays while `goes_on`, at most for `steps`, and says whether steps were left at its end. `jumps`: the clock may jump.
    pub(crate) fn play_while(
        shared: &Arc<Shared>,
        jumps: bool,
        steps: u64,
        mut goes_on: impl FnMut() -> bool,
    ) -> bool {
        let Some(seeded) = &shared.sim.0 else { return false };
        let _entered = context::enter(shared, None, true);
        for _ in 0..steps {
            if !goes_on() {
                return true;
            }
            let some = match step(shared, seeded, false) {
                Turn::Step => true,
                Turn::Own | Turn::Nothing => jumps && pass_time(shared, seeded),
            };
            if !some {
                return false;
            }
        }
        true
    }

    /// Plays on a thread that would block, until `is_due`. False if the thread's runtime is no simulation.
    pub(crate) fn play_until(is_due: impl Fn() -> bool) -> bool {
        let Some(shared) = context::try_shared().filter(|shared| shared.sim.is_on()) else { return false };
        let Some(seeded) = &shared.sim.0 else { return false };
        while !is_due() {
            match step(&shared, seeded, false) {
                Turn::Step => {}
                Turn::Own | Turn::Nothing => {
                    // The call that waits holds the clock, so it does not jump.
                    if !ask(seeded, Waits::Outside) {
                        wait_outside(&shared, seeded, &is_due);
                    }
                }
            }
        }
        true
    }

    /// The workers end. Called once, after the scheduler was shut down.
    pub(crate) fn stop(shared: &Arc<Shared>) {
        let Some(seeded) = &shared.sim.0 else { return };
        play_while(shared, false, seeded.steps_max, || true);
        // They keep `shared`.
        let workers = std::mem::take(&mut lock(&seeded.play).workers);
        drop(workers);
    }

    impl fmt::Debug for Sim {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Sim")
                .field("seed", &self.0.as_ref().map(|seeded| seeded.seed))
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "test-util"))]
mod without {
    use crate::driver::Driver;
    use crate::scheduler::worker::Worker;

    #[derive(Debug, Default)]
    pub(crate) struct Sim {}

    impl Sim {
        #[inline(always)]
        pub(crate) fn is_on(&self) -> bool {
            false
        }

        #[inline(always)]
        pub(crate) fn skips_lifo(&self) -> bool {
            false
        }

        #[inline(always)]
        pub(crate) fn random(&self) -> Option<u32> {
            None
        }

        #[inline(always)]
        pub(crate) fn hand_over(&self, _worker: &Worker) -> bool {
            false
        }

        #[inline(always)]
        pub(crate) fn nudge(&self, _driver: &Driver) {}
    }
}
