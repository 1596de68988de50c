//! The loop of one worker: find, run, search, sleep.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::context;
use super::idle::{Searching, Sleep};
use super::queue::{Steal, Stealer, Worker as Queue};
use super::shared::{self, Remote, Seen, Shared};
use crate::driver::Seat;
use crate::loom::thread;
use crate::task::frame::{self, AtRest};
use crate::task::header::Header;
use crate::task::hooks::Cause;
use crate::task::runnable::Runnable;

/// Polls between two looks at the clock and the injector, and at the driver if it is time.
pub(crate) const TURN: u32 = if cfg!(loom) { 4 } else { 61 };
/// A turn may be over in a microsecond, and a look into the driver costs a third of one: not more often than this, while it brings little. (Timers
/// are sleepers' business: their ticks are longer.)
const LOOK_NS: u64 = if cfg!(loom) { 0 } else { 10_000 };
/// One in so many turns begins with a look at how long its first task was parked.
const SAMPLED: u32 = 4;
/// How long a worker goes on after the shutdown with what that has given up.
const REST: Duration = Duration::from_secs(1);
/// One poll in so many is of the queue's first task, though there is one in the LIFO slot. A power of two.
pub(crate) const QUEUE_FIRST: u32 = 4;
/// The watcher's first and longest sleep.
const WATCH_MIN: Duration = Duration::from_micros(50);
const WATCH_MAX: Duration = Duration::from_millis(1);
/// Rounds of stealing before a worker gives up and sleeps.
const SEARCH_ROUNDS: usize = if cfg!(loom) { 1 } else { 3 };
/// Looks at a driver where another worker fetches events: some 30 us, half of what a sleep and a wake-up take.
const FETCH_TRIES: usize = 400;
/// How long a searcher looks on before it goes to sleep, and in what time it sees a queue of few tasks come further if these are left to its worker.
const LINGER: Duration = if cfg!(loom) { Duration::ZERO } else { Duration::from_micros(10) };
const LONG_POLL: Duration = Duration::from_micros(5);
/// The time of a poll from which on a task that ends with it is worth being taken, be there ever so few.
const WHOLE: Duration = Duration::from_micros(2);

/// A worker. Its memory lives as long as any thread is inside [`run`](Worker::run).
///
/// **W1** One thread at a time has the worker's *role*, and only that one touches what is in here but for `shared` and `index`,
/// which never change. The role begins with the thread that runs it first, and goes on with [`hand_over`](Worker::hand_over).
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    queue: Queue,
    seen: Arc<CachePadded<Seen>>,
    /// The task made runnable last, as a `Runnable` was given up for it; its owner's alone.
    lifo: Cell<Option<NonNull<Header>>>,
    /// Who was woken last by the end of a task that it waits for: its word. By its address, that of another one later, it would be the
    /// allocator that chooses, and no simulation could be played again.
    joined: Cell<u64>,
    /// Polls left in this turn, with the one that the next begins with.
    turn: Cell<u32>,
    /// Turns, and sleeps, that have begun.
    turns: Cell<u32>,
    /// The next poll is the first after a sleep.
    slept: Cell<bool>,
    /// When this worker last looked into the driver at the end of a turn.
    looked_ns: Cell<u64>,
    /// It counts no children of the root any more.
    retired: Cell<bool>,
    woken: RefCell<Vec<Waker>>,
    /// How far each worker's queue had come, if it held something, and when that was.
    places: RefCell<Box<[Option<u64>]>>,
    noted: Cell<Instant>,
    /// From whose queue the next search takes, be there ever so few.
    victim: Cell<Option<usize>>,
    /// When it last found work, how many polls it had done by then, and how many tasks had ended in them.
    found: Cell<(Instant, u64, u64)>,
    /// The search that goes on takes few tasks, too, from anybody.
    takes_few: Cell<bool>,
    random: Cell<u32>,
    /// (W1) Touched with the rest: loom sees two threads in the role.
    #[cfg(loom)]
    role: loom::cell::UnsafeCell<()>,
}

// SAFETY: all its fields are, what lies in the LIFO slot as the `Runnable` that it was.
unsafe impl Send for Worker {}
// SAFETY: (W1) what is not shared by design is used by one thread at a time, and its role is handed from thread to thread by
// a spawn, which orders the one's use before the other's.
unsafe impl Sync for Worker {}

/// What a look everywhere has found.
enum Look {
    Work,
    Nothing,
    ShutDown,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, queue: Queue) -> Worker {
        Worker {
            seen: Arc::clone(&shared.remotes[index].seen),
            places: RefCell::new(vec![None; shared.remotes.len()].into()),
            noted: Cell::new(Instant::now()),
            victim: Cell::new(None),
            found: Cell::new((Instant::now(), 0, 0)),
            takes_few: Cell::new(false),
            shared,
            index,
            queue,
            lifo: Cell::new(None),
            joined: Cell::new(0),
            turn: Cell::new(1),
            turns: Cell::new(0),
            slept: Cell::new(true),
            looked_ns: Cell::new(0),
            retired: Cell::new(false),
            woken: RefCell::new(Vec::new()),
            random: Cell::new(index as u32 + 1),
            #[cfg(loom)]
            role: loom::cell::UnsafeCell::new(()),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(super) fn is_of(&self, shared: *const Shared) -> bool {
        ptr::eq(Arc::as_ptr(&self.shared), shared)
    }

    /// What it says of itself.
    #[inline]
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Gives the role to a new thread, for this one is about to block inside a task. When the task's turn is over this thread
    /// leaves [`run`](Worker::run).
    ///
    /// # Errors
    /// If no thread can be started; then nothing has changed.
    ///
    /// # Safety
    /// (W1) The caller has the role, inside a task that `run` runs, and touches the worker no more: the thread's context must
    /// forget it before anything else happens.
    pub(crate) unsafe fn hand_over(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        if shared.sim.hand_over(self) {
            shared.driver.hold();
            return Ok(());
        }
        // The one in the role holds a paused clock; the hold of this thread is its own from here on.
        shared.driver.hold();
        let worker = Arc::clone(self);
        let name = format!("{}-{}", shared.blocking.name(), self.index);
        match thread::Builder::new().name(name).spawn(move || worker.run()) {
            Ok(thread) => {
                shared.add_spare(thread);
                Ok(())
            }
            Err(error) => {
                shared.driver.let_go();
                Err(error)
            }
        }
    }

    /// Runs until the scheduler is shut down, or this thread has handed the worker's role over.
    pub(crate) fn run(self: &Arc<Self>) {
        let _entered = context::enter(&self.shared, Some(self), true);
        let _seen = self.shared.remotes[self.index].window.open();
        let rest = frame::rest();
        debug_assert!(rest.is_outermost(), "a worker's thread is its own");
        self.read_clock();
        loop {
            if let Some(task) = self.next() {
                if !self.count_poll(&task) {
                    self.queue.push(task);
                    break;
                }
                if !self.poll(task, &rest) {
                    // (W1) Not ours any more.
                    return self.shared.driver.let_go();
                }
            } else if !self.find_work() {
                break;
            }
        }
        self.run_rest(&rest);
    }

    /// What is queued after the shutdown is what it has given up, for this thread got no time: cancelled by force, and reported. It ends
    /// now, for left in its queue it would keep all that is its runtime's. What goes round and round behind a shield never ends, and is left
    /// there after [`REST`].
    #[cold]
    fn run_rest(&self, rest: &AtRest) {
        let start = Instant::now();
        while start.elapsed() < REST {
            let Some(task) = self.next().or_else(|| self.steal_injected()) else { return };
            // Who goes round and round is in nobody's way.
            if !self.count_poll(&task) {
                self.steal_injected().into_iter().for_each(|other| self.queue.push(other));
            }
            if !self.poll(task, rest) {
                return self.shared.driver.let_go();
            }
        }
    }

    /// The task's poll is next. False if the scheduler is shut down.
    #[inline]
    fn count_poll(&self, task: &Runnable) -> bool {
        let left = self.turn.get() - 1;
        self.turn.set(left);
        left > 0 || self.begin_turn(task)
    }

    /// False if this thread has handed the role over meanwhile.
    #[inline]
    fn poll(&self, task: Runnable, rest: &AtRest) -> bool {
        let again = task.poll(rest);
        if context::has_handed_over() {
            // (W1) The queue is not ours any more.
            again.into_iter().for_each(|task| task.schedule(Cause::Yielded));
            return false;
        }
        if let Some(task) = again {
            self.push_last_here(task);
        }
        true
    }

    /// Takes a task that was spawned on this thread.
    #[inline]
    pub(crate) fn push_spawned(&self, task: Runnable) {
        self.joined.set(0);
        self.push_first(task);
    }

    /// Takes a task that became runnable on this thread.
    #[inline]
    pub(crate) fn push(&self, task: Runnable, cause: Cause) {
        let to_queue = match cause {
            Cause::Joined => self.joins_again(&task) && !self.queue.is_empty(),
            Cause::Woken => false,
            Cause::Spawned | Cause::Yielded => return self.push_other(task, cause),
        };
        if to_queue { self.push_last(task) } else { self.push_first(task) }
    }

    /// Apart: most that are spawned or yield come another way.
    #[cold]
    #[inline(never)]
    fn push_other(&self, task: Runnable, cause: Cause) {
        if cause == Cause::Spawned { self.push_spawned(task) } else { self.push_last(task) }
    }

    /// Takes tasks of any kind that became runnable together.
    pub(crate) fn push_woken(&self, tasks: impl Iterator<Item = Runnable>) {
        for task in tasks {
            if !task.header().vtable.on_workers {
                task.schedule(Cause::Woken);
            } else if let Some(last) = self.displace(task) {
                self.queue.push(last);
            }
        }
        if !self.queue.is_empty() && self.wants_help() {
            self.wake_another();
        }
    }

    /// To be run next, unless another one comes.
    #[inline]
    fn push_first(&self, task: Runnable) {
        if let Some(last) = self.displace(task) {
            self.push_last(last);
        }
    }

    /// Takes the LIFO slot for a task, and returns the one that was there.
    #[inline]
    fn displace(&self, task: Runnable) -> Option<Runnable> {
        if self.shared.sim.skips_lifo() {
            return Some(task);
        }
        let last = self.take_last();
        self.lifo.set(Some(task.into_raw()));
        last
    }

    /// Empties the LIFO slot.
    #[inline]
    fn take_last(&self) -> Option<Runnable> {
        let last = self.lifo.get()?;
        self.lifo.set(None);
        // SAFETY: (I2) `displace` and `next_if` alone fill the slot, with a `Runnable` that was given up there; it is taken once.
        Some(unsafe { Runnable::from_raw(last) })
    }

    #[inline(never)]
    fn push_last(&self, task: Runnable) {
        self.push_last_here(task);
    }

    /// In line.
    #[inline(always)]
    fn push_last_here(&self, task: Runnable) {
        if !self.queue.has_room() {
            return self.push_and_grow(task);
        }
        self.queue.push(task);
        if self.wants_help() {
            self.wake_another();
        }
    }

    #[cold]
    #[inline(never)]
    fn push_and_grow(&self, task: Runnable) {
        self.queue.push(task);
        if self.wants_help() {
            self.wake_another();
        }
    }

    /// Whether the task was woken by the last join that ended here, too, and nobody has spawned since: it collects the results of many
    /// tasks. Run at each of them, ahead of those that it waits for, it would park again every time. Who waits for one child, then spawns
    /// the next, is not to go behind all others for each.
    #[inline]
    fn joins_again(&self, task: &Runnable) -> bool {
        let header = task.header();
        // Without records there are no ids.
        let who = if cfg!(leakfree_norecord) {
            std::ptr::from_ref(header).addr() as u64
        } else {
            header.record.task().0
        };
        self.joined.replace(who) == who
    }

    #[inline]
    fn wants_help(&self) -> bool {
        self.shared.idle.wants_help(|| self.queue.holds_more_than(shared::FEW))
    }

    #[cold]
    fn wake_another(&self) {
        self.shared.wake_another();
    }

    #[inline]
    fn next(&self) -> Option<Runnable> {
        #[cfg(loom)]
        self.role.with_mut(|_| ());
        if self.lifo.get().is_none() {
            return self.queue.pop();
        }
        if self.turn.get() % QUEUE_FIRST != 0 && !self.shared.sim.skips_lifo() {
            return self.take_last();
        }
        self.queue.pop().or_else(|| self.take_last())
    }

    /// What this worker would run next, if it `fits`; it counts as a poll of the turn. The caller is a task's turn, which is not over.
    #[inline]
    pub(crate) fn next_if(&self, fits: impl FnOnce(&Runnable) -> bool) -> Option<Runnable> {
        // Who was woken meanwhile comes first; and a step of a simulation is a turn of one task.
        if self.turn.get() <= 1 || self.lifo.get().is_some() || self.shared.sim.is_on() {
            return None;
        }
        let task = self.queue.pop()?;
        if !fits(&task) {
            // Before the others all the same.
            self.lifo.set(Some(task.into_raw()));
            return None;
        }
        self.turn.set(self.turn.get() - 1);
        Some(task)
    }

    fn read_clock(&self) {
        self.set_clock(shared::now_ms(&self.shared.driver));
    }

    fn set_clock(&self, now_ms: u64) {
        frame::set_now_ms(now_ms);
        self.seen.set_turn(now_ms);
    }

    /// The first poll of a turn, or of the time after a sleep, is that of this task: of some of them the park is sampled. False if the scheduler
    /// is shut down.
    #[cold]
    #[inline(never)]
    fn begin_turn(&self, task: &Runnable) -> bool {
        self.turn.set(TURN);
        // After a sleep everything was looked at just now.
        if !self.slept.replace(false) && !self.look_around() {
            return false;
        }
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        if turns % SAMPLED == 0 {
            self.shared.sites.sample(task.header(), frame::now_ms());
        }
        true
    }

    /// Once per turn: clock, injector, and the driver if it is time. False if the scheduler is shut down.
    fn look_around(&self) -> bool {
        if !self.goes_on() {
            return false;
        }
        if self.shared.has_unwakeable() {
            self.shared.tell_unwakeable();
        }
        self.look_into_driver();
        if let Some(task) = self.steal_injected() {
            self.queue.push(task);
        }
        true
    }

    /// False if the scheduler is shut down. If the root scope closes this worker retires.
    #[inline]
    fn goes_on(&self) -> bool {
        let phase = self.shared.phase();
        if phase.is_running() {
            return true;
        }
        self.retire();
        !phase.is_shut_down()
    }

    #[cold]
    fn retire(&self) {
        if !self.retired.replace(true) {
            // SAFETY: (W1) this thread has the role.
            unsafe { self.shared.retire(self.index) };
        }
    }

    /// A paused clock stands still while there is work: then each turn looks.
    fn look_into_driver(&self) {
        let driver = &self.shared.driver;
        let now_ns = driver.clock().now_ns();
        if now_ns.wrapping_sub(self.looked_ns.get()) < LOOK_NS
            && !driver.is_lively()
            && !driver.clock().is_paused()
        {
            return self.set_clock(now_ns / 1_000_000);
        }
        let looked_ns = self.looked_ns.replace(now_ns);
        self.turn_driver(driver.try_enter());
        if looked_ns / 1_000_000 != now_ns / 1_000_000 {
            self.help_stalled();
        }
    }

    /// A worker that never runs out of tasks takes some, too, from a queue that stands still.
    #[cold]
    fn help_stalled(&self) {
        if self.finds_left_behind() {
            let mut searching = None;
            let taken = self.search(&mut searching);
            if let Some(searching) = searching {
                self.shared.end_search(searching);
            }
            taken.into_iter().for_each(|task| self.queue.push(task));
        }
    }

    /// Looks for events without waiting for any, and queues whom they wake.
    pub(crate) fn turn_driver(&self, seat: Option<Seat<'_>>) {
        let mut woken = self.woken.take();
        if let Some(seat) = seat {
            seat.turn(Some(Duration::ZERO), &mut woken);
        }
        self.read_clock();
        shared::wake_all(&mut woken);
        self.woken.replace(woken);
    }

    /// Under a load of I/O the next events are there already. Where nobody has plenty queued, fetching them comes before a search that would
    /// end in sleep while the sibling fetches for both. What is queued comes first: its worker may be in a long poll, or its thread be preempted.
    fn fetch_events(&self) {
        for _ in 0..FETCH_TRIES {
            let is_lively = self.shared.driver.is_lively();
            if !is_lively || !self.shared.injector.seems_empty() || self.shared.has_plenty() {
                return;
            }
            if let Some(seat) = self.shared.driver.try_enter() {
                return self.turn_driver(Some(seat));
            }
            // Somebody is inside, and will be out with a batch in less time than a sleep takes.
            for _ in 0..4 {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether tasks wait in a queue that stands still: its worker is in a long poll, or its thread preempted.
    fn finds_left_behind(&self) -> bool {
        !self.shared.offers_all() && self.shared.has_stealable() && self.finds_stalled(LINGER, Instant::now())
    }

    fn steal_injected(&self) -> Option<Runnable> {
        self.shared.injector.take(&self.queue)
    }

    /// The own queue is empty: look at the injector, search, sleep, until there is something to run. False
    /// if the scheduler is shut down.
    #[cold]
    #[inline(never)]
    fn find_work(&self) -> bool {
        let mut searching = None;
        let mut lingered = false;
        self.takes_few.set(self.ran_whole_tasks());
        loop {
            match self.look(&mut searching) {
                Look::Work => {
                    self.found.set((Instant::now(), self.polls(), self.seen.finished()));
                    return true;
                }
                Look::ShutDown => return false,
                Look::Nothing if !lingered && searching.is_some() && self.linger() => lingered = true,
                Look::Nothing => searching = Some(self.sleep(searching.take())),
            }
        }
    }

    /// Polls of this worker, from any one on.
    fn polls(&self) -> u64 {
        u64::from(self.turns.get()) * u64::from(TURN) + u64::from(TURN - self.turn.get())
    }

    /// Whether what this worker has run since it last found work was worth a wake-up, and ended, for the most part: then tasks are not
    /// waiting for one another here.
    fn ran_whole_tasks(&self) -> bool {
        let (found, polls, finished) = self.found.get();
        let (polls, finished) = (self.polls().wrapping_sub(polls), self.seen.finished() - finished);
        finished * 2 > polls && found.elapsed() >= WHOLE * polls.min(1000) as u32
    }

    /// While somebody else is awake, waits a moment for what he may push, and says whether to look again: bursts of work follow one another, and
    /// from its sleep this worker would come too late for the next.
    fn linger(&self) -> bool {
        // Who comes out of the driver counts as asleep, and has something queued.
        self.watch(LONG_POLL, || self.shared.has_backlog() || !self.shared.idle.others_sleep())
    }

    /// Whether there is something for a thief: it is there, or comes, or a queue stands still for so long.
    fn watch(&self, still: Duration, goes_on: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        self.note_places(start);
        loop {
            let now = Instant::now();
            if self.finds_stalled(still, now) {
                return true;
            }
            if now.duration_since(start) >= LINGER || !goes_on() {
                return false;
            }
            if !self.shared.injector.seems_empty()
                || self.shared.remotes.iter().any(|remote| self.offers(&remote.stealer))
            {
                return true;
            }
            for _ in 0..4 {
                std::hint::spin_loop();
            }
        }
    }

    /// Notes how far the others' queues have come.
    fn note_places(&self, now: Instant) {
        self.noted.set(now);
        let mut places = self.places.borrow_mut();
        for (place, remote) in places.iter_mut().zip(&self.shared.remotes) {
            *place = remote.stealer.place();
        }
        places[self.index] = None;
    }

    /// Whether one has come no further since they were noted, if that is so long ago; if none has, they are noted anew.
    fn finds_stalled(&self, still: Duration, now: Instant) -> bool {
        if now.duration_since(self.noted.get()) < still {
            return false;
        }
        let place = |(place, remote): (&Option<u64>, &CachePadded<Remote>)| {
            place.is_some() && *place == remote.stealer.place()
        };
        let stalled = self.places.borrow().iter().zip(&self.shared.remotes).position(place);
        if stalled.is_none() {
            self.note_places(now);
        }
        self.picks(stalled)
    }

    /// Whether one held something.
    fn finds_any(&self) -> bool {
        self.picks(self.places.borrow().iter().position(Option::is_some))
    }

    fn picks(&self, victim: Option<usize>) -> bool {
        self.victim.set(victim);
        victim.is_some()
    }

    /// Looks everywhere once.
    fn look(&self, searching: &mut Option<Searching>) -> Look {
        if !self.goes_on() {
            return Look::ShutDown;
        }
        if self.shared.has_unwakeable() {
            self.shared.tell_unwakeable();
        }
        // First, for who always finds events, or what comes from outside, would never come to a search.
        let left_behind = searching.is_none() && self.finds_left_behind();
        if searching.is_none() && !left_behind {
            self.fetch_events();
        }
        let has_own = self.has_own();
        let injected = || if left_behind { None } else { self.steal_injected() };
        let taken = if has_own { None } else { injected().or_else(|| self.search(searching)) };
        if !has_own && taken.is_none() {
            return Look::Nothing;
        }
        if let Some(searching) = searching.take() {
            // What is in our hands is no backlog: we run it next.
            self.shared.end_search(searching);
        }
        if let Some(task) = taken {
            self.queue.push(task);
        }
        Look::Work
    }

    fn has_own(&self) -> bool {
        self.lifo.get().is_some() || !self.queue.is_empty()
    }

    /// Steals half of a sibling's queue, if it holds plenty, or has not moved on: see `PROTOCOL.md`.
    fn search(&self, searching: &mut Option<Searching>) -> Option<Runnable> {
        let workers = self.shared.remotes.len();
        if workers == 1 {
            return None;
        }
        if searching.is_none() {
            *searching = Some(self.shared.idle.try_search()?);
        }
        let searches = searching.as_ref()?;
        let picked = self.victim.take();
        for _ in 0..SEARCH_ROUNDS {
            let first = self.next_random() as usize % workers;
            let mut retry = false;
            for victim in (first..workers).chain(0..first) {
                let stealer = &self.shared.remotes[victim].stealer;
                if victim == self.index || picked != Some(victim) && !self.offers(stealer) {
                    continue;
                }
                match stealer.steal_batch_and_pop(&self.queue, searches) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => {}
                    Steal::Retry => retry = true,
                }
            }
            if let Some(task) = self.steal_injected() {
                return Some(task);
            }
            if !retry {
                return None;
            }
        }
        None
    }

    /// Whether this worker takes from that queue, be it that it comes on.
    fn offers(&self, stealer: &Stealer) -> bool {
        self.shared.offers(stealer) || self.takes_few.get() && !stealer.is_empty()
    }

    /// Sleeps until there may be work, and comes back as a searcher.
    fn sleep(&self, searching: Option<Searching>) -> Searching {
        self.takes_few.set(false);
        let mut watch = self.lie_down(searching);
        while !self.must_stay_up() {
            let notified = self.park(watch);
            if !self.sleeps_on(&mut watch, notified) {
                break;
            }
        }
        self.get_up()
    }

    /// Says that this worker sleeps. It watches, if it is to wake up after that long.
    fn lie_down(&self, searching: Option<Searching>) -> Option<Duration> {
        // SAFETY: (Q1) `Idle` drops it when nobody searches.
        let outgrown = unsafe { self.queue.shrink() };
        match self.shared.idle.sleep(self.index, searching, outgrown) {
            Sleep::Watch => Some(WATCH_MIN),
            Sleep::Deep => None,
        }
    }

    /// The look before each park, which pairs with that of who pushes, or notes an edge: the injector's section comes first.
    fn must_stay_up(&self) -> bool {
        !self.shared.injector.is_empty() || self.must_heed_phase() || self.shared.has_unwakeable()
    }

    fn must_heed_phase(&self) -> bool {
        let phase = self.shared.phase();
        phase.is_shut_down() || !phase.is_running() && !self.retired.get()
    }

    /// Whether there is nothing to get up for after a park.
    fn sleeps_on(&self, watch: &mut Option<Duration>, notified: bool) -> bool {
        if notified || self.has_own() {
            return false;
        }
        if let Some(timeout) = *watch {
            if self.shared.has_backlog()
                && (self.shared.offers_all()
                    // It comes late in any case, and had better be sure.
                    || self.watch(LINGER, || true)
                    || timeout == WATCH_MAX && self.finds_any())
            {
                return false;
            }
            let stops = self.shared.idle.stop_watch(self.index);
            *watch = if stops { None } else { Some((timeout * 2).min(WATCH_MAX)) };
        }
        true
    }

    fn get_up(&self) -> Searching {
        self.turn.set(1);
        self.slept.set(true);
        self.shared.idle.awake(self.index)
    }

    /// Blocks in the driver if nobody is there, else on the condvar. What the driver woke is in our queue
    /// then. True if somebody unparked us. A worker holds a paused clock everywhere but here.
    pub(crate) fn park(&self, timeout: Option<Duration>) -> bool {
        let parker = &self.shared.remotes[self.index].parker;
        let driver = &self.shared.driver;
        let mut woken = self.woken.take();
        // A bug that the models must catch: see `loom-tests/canaries`.
        #[cfg(leakfree_canary = "driver_seat")]
        return parker.park_in(|| match driver.try_enter() {
            Some(seat) => seat.turn(timeout, &mut woken),
            None => crate::loom::spin_loop(),
        });
        // The seat first, the parker's word after: an unpark that finds us in the driver must not be taken by
        // somebody else's turn.
        let notified = match driver.try_enter() {
            Some(seat) if driver.clock().is_paused() => {
                let can_run = || self.shared.has_work_outside();
                parker.park_in(|| seat.turn_paused(timeout, &mut woken, can_run))
            }
            Some(seat) => parker.park_in(|| seat.turn(timeout, &mut woken)),
            None => {
                driver.let_go();
                let notified = parker.park(timeout);
                driver.hold();
                notified
            }
        };
        self.read_clock();
        shared::wake_all(&mut woken);
        self.woken.replace(woken);
        notified
    }

    fn next_random(&self) -> u32 {
        if let Some(random) = self.shared.sim.random() {
            return random;
        }
        // Marsaglia's xorshift with the triple (13, 17, 5); "Xorshift RNGs", 2003.
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }
}

/// A worker between two steps of a simulation: [`Worker::run`], cut where others may come between.
#[cfg(feature = "test-util")]
#[derive(Debug)]
pub(super) enum Place {
    Awake,
    /// Its own queue is empty.
    Looking(Option<Searching>),
    /// It has said that it sleeps, and has not parked.
    LyingDown(Option<Duration>),
    /// Parked; with a duration it watches, and may wake up at any time.
    Asleep(Option<Duration>),
    Stopped,
}

#[cfg(feature = "test-util")]
impl Worker {
    /// Goes on to the next place. In brackets what the trace says, and the task that was polled. `None`: the role was handed over
    /// meanwhile.
    pub(super) fn step(
        self: &Arc<Self>,
        place: Place,
        ends_turn: bool,
    ) -> (Option<Place>, super::sim::Event, Option<u64>) {
        use super::sim::Event;
        let _entered = context::enter(&self.shared, Some(self), true);
        let _seen = self.shared.remotes[self.index].window.open();
        let parker = &self.shared.remotes[self.index].parker;
        match place {
            Place::Awake => {
                frame::set_now_ms(shared::now_ms(&self.shared.driver));
                if ends_turn {
                    self.turn.set(1);
                    self.slept.set(false);
                }
                let Some(task) = self.next() else {
                    return (Some(Place::Looking(None)), Event::RunDry, None);
                };
                if !self.count_poll(&task) {
                    self.queue.push(task);
                    return (Some(Place::Stopped), Event::Stop, None);
                }
                let id = task.header().record.id().0;
                let before = context::replace_handed_over(false);
                self.poll(task, &frame::rest());
                let place = if context::replace_handed_over(before) {
                    self.shared.driver.let_go();
                    None
                } else {
                    Some(Place::Awake)
                };
                (place, Event::Poll, Some(id))
            }
            Place::Looking(mut searching) => match self.look(&mut searching) {
                Look::Work => (Some(Place::Awake), Event::Find, None),
                Look::ShutDown => (Some(Place::Stopped), Event::Stop, None),
                Look::Nothing => (Some(Place::LyingDown(self.lie_down(searching))), Event::LieDown, None),
            },
            Place::LyingDown(watch) => {
                let stays_up = self.must_stay_up();
                if !stays_up && parker.lie_down() {
                    return (Some(Place::Asleep(watch)), Event::Park, None);
                }
                // As in `park`: a token is taken there, and only there.
                let _ = !stays_up && parker.get_up();
                (Some(Place::Looking(Some(self.get_up()))), Event::StayUp, None)
            }
            Place::Asleep(mut watch) => {
                let notified = parker.get_up();
                self.read_clock();
                if self.sleeps_on(&mut watch, notified) {
                    return (Some(Place::LyingDown(watch)), Event::Watch, None);
                }
                (Some(Place::Looking(Some(self.get_up()))), Event::GetUp, None)
            }
            Place::Stopped => (Some(Place::Stopped), Event::Stop, None),
        }
    }

    /// Its sleep is ended by timers: wakes whom they are for, as the worker in the driver does.
    pub(super) fn wake_due(self: &Arc<Self>, woken: &mut Vec<Waker>) {
        let _entered = context::enter(&self.shared, Some(self), true);
        self.read_clock();
        shared::wake_all(woken);
    }

    /// Whether a step may change anything.
    pub(super) fn can_step(&self, place: &Place) -> bool {
        match place {
            Place::Asleep(None) => self.shared.remotes[self.index].parker.is_notified() || self.has_own(),
            Place::Stopped => false,
            _ => true,
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}
