//! Who sleeps, who searches, whom to wake. See `PROTOCOL.md`.

use std::mem;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::ring::Outgrown;
use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::AtomicUsize;

const SLEEPING: usize = 1;
const SEARCHING: usize = 1 << 16;
const WATCHED: usize = 1 << 32;
const FIELD: usize = (1 << 16) - 1;

#[derive(Clone, Copy)]
struct Word(usize);

impl Word {
    fn searching(self) -> usize {
        (self.0 / SEARCHING) & FIELD
    }
    fn sleeping(self) -> usize {
        (self.0 / SLEEPING) & FIELD
    }
    #[cfg(loom)]
    fn watched(self) -> bool {
        self.0 & WATCHED != 0
    }
}

/// Proof that this worker is counted as searching; only [`Idle`] makes one, and takes it back.
#[must_use]
#[derive(Debug)]
pub(crate) struct Searching(());

/// What a worker that goes to sleep is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    /// Others are awake and nobody else watches: wake up now and then and look at their queues.
    Watch,
    /// Until somebody unparks us.
    Deep,
}

#[derive(Debug)]
pub(crate) struct Idle {
    word: AtomicUsize,
    sleepers: Mutex<Sleepers>,
    workers: usize,
}

#[derive(Debug)]
struct Sleepers {
    list: Vec<usize>,
    watcher: Option<usize>,
    /// (Q1) What queues have outgrown, up to when nobody searches.
    outgrown: Vec<Outgrown>,
}

impl Idle {
    pub(crate) fn new(workers: usize) -> Idle {
        assert!(workers <= FIELD, "at most {FIELD} workers");
        Idle {
            word: AtomicUsize::new(0),
            sleepers: Mutex::new(Sleepers {
                list: Vec::with_capacity(workers),
                watcher: None,
                outgrown: Vec::new(),
            }),
            workers,
        }
    }

    fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// Whether a push to a local queue should wake somebody: it is watched for few tasks. One relaxed load.
    #[inline]
    pub(crate) fn wants_help(&self, has_plenty: impl FnOnce() -> bool) -> bool {
        let word = self.word();
        // Nobody sleeps; or sleepers, and nothing else.
        word.0 != 0 && (word.0 <= FIELD || word.searching() == 0 && has_plenty())
    }

    /// Whether to wake a sleeper after a push that nobody else need ever see. The section in the injector that the caller comes from orders
    /// its push, and this look, against those of sleepers and searchers.
    #[inline]
    pub(crate) fn needs_waking(&self) -> bool {
        let word = self.word();
        word.sleeping() > 0 && word.searching() == 0
    }

    /// Takes a sleeper off the list and counts it as searching: the caller is to unpark it. None if somebody searches.
    pub(crate) fn take_sleeper(&self) -> Option<usize> {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
        if self.word().searching() > 0 {
            return None;
        }
        // The watcher is awake soonest and is asked first.
        let worker = match sleepers.watcher.take() {
            Some(watcher) => {
                sleepers.list.retain(|&sleeper| sleeper != watcher);
                self.word.fetch_sub(WATCHED, SeqCst);
                watcher
            }
            None => sleepers.list.pop()?,
        };
        self.word.fetch_add(SEARCHING - SLEEPING, SeqCst);
        Some(worker)
    }

    /// A worker without work asks to search. At most half of them do.
    pub(crate) fn try_search(&self) -> Option<Searching> {
        if 2 * self.word().searching() >= self.workers {
            return None;
        }
        self.word.fetch_add(SEARCHING, SeqCst);
        Some(Searching(()))
    }

    /// The search found work. True if it was the last one: if there is a backlog, wake another. It must look into the injector's section for
    /// that: a pusher that still saw us search has its task seen by the look that follows.
    #[must_use]
    pub(crate) fn end_search(&self, searching: Searching) -> bool {
        let Searching(()) = searching;
        Word(self.word.fetch_sub(SEARCHING, SeqCst)).searching() == 1
    }

    /// Puts the worker on the list. It must look into the injector's section once more before it parks, and call
    /// [`awake`](Idle::awake) in the end, whatever ends its sleep. What its queue has outgrown is freed now, or with the next one that goes to sleep.
    pub(crate) fn sleep(
        &self,
        worker: usize,
        searching: Option<Searching>,
        outgrown: Option<Outgrown>,
    ) -> Sleep {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
        sleepers.list.push(worker);
        sleepers.outgrown.extend(outgrown);
        let mut add = SLEEPING;
        let watch = sleepers.watcher.is_none() && sleepers.list.len() < self.workers;
        if watch {
            sleepers.watcher = Some(worker);
            add += WATCHED;
        }
        let sub = if searching.is_some() { SEARCHING } else { 0 };
        let change = add.wrapping_sub(sub);
        let word = Word(self.word.fetch_add(change, SeqCst).wrapping_add(change));
        // (Q1) Whoever searched before this word has acquired all of it, and is seen to have ended; who searches after it acquires it, and with it
        // that the queues have other buffers. The last one to go to sleep finds nobody, so at rest nothing is kept.
        let free = if word.searching() == 0 { mem::take(&mut sleepers.outgrown) } else { Vec::new() };
        drop(sleepers);
        drop(free);
        if watch { Sleep::Watch } else { Sleep::Deep }
    }

    /// Whether the watcher may sleep on without a timeout: nobody is awake whom it could watch. It gives
    /// the watch up then.
    pub(crate) fn stop_watch(&self, worker: usize) -> bool {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
        if sleepers.list.len() < self.workers || sleepers.watcher != Some(worker) {
            return false;
        }
        sleepers.watcher = None;
        self.word.fetch_sub(WATCHED, SeqCst);
        true
    }

    /// The worker's sleep has ended. It is counted as searching, by whoever took it off the list or now.
    pub(crate) fn awake(&self, worker: usize) -> Searching {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
        let mut sub: usize = 0;
        if sleepers.watcher == Some(worker) {
            sleepers.watcher = None;
            sub += WATCHED;
        }
        if let Some(at) = sleepers.list.iter().position(|&sleeper| sleeper == worker) {
            // The canaries are bugs that the models must catch: see `loom-tests/canaries`.
            if !cfg!(leakfree_canary = "stale_token") {
                sleepers.list.swap_remove(at);
            }
            if !cfg!(any(leakfree_canary = "stale_token", leakfree_canary = "idle_count")) {
                sub = sub.wrapping_sub(SEARCHING - SLEEPING);
            }
        }
        if sub != 0 {
            self.word.fetch_sub(sub, SeqCst);
        }
        Searching(())
    }

    /// Whether the word says what the list does: so many sleepers, so many others that search, watched or not.
    #[cfg(loom)]
    pub(crate) fn is_consistent(&self, searching: usize) -> bool {
        let sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
        let word = self.word();
        (word.sleeping(), word.searching(), word.watched())
            == (sleepers.list.len(), searching, sleepers.watcher.is_some())
            && sleepers.watcher.is_none_or(|watcher| sleepers.list.contains(&watcher))
    }

    #[cfg(loom)]
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.sleepers.lock().unwrap_or_else(|e| e.into_inner()).outgrown.is_empty()
    }

    /// Whether every worker but the caller sleeps. A moment's truth.
    pub(crate) fn others_sleep(&self) -> bool {
        self.word().sleeping() + 1 >= self.workers
    }

    /// Whether every worker sleeps. A moment's truth.
    pub(crate) fn all_asleep(&self) -> bool {
        Word(self.word.load(SeqCst)).sleeping() == self.workers
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_word_and_the_list_change_together() {
        let idle = Idle::new(2);
        assert_eq!(idle.sleep(0, None, None), Sleep::Watch);
        assert!(!idle.wants_help(|| false), "watched");
        assert_eq!(idle.sleep(1, None, None), Sleep::Deep);
        assert!(idle.all_asleep());
        assert!(idle.stop_watch(0));
        assert!(idle.needs_waking());
        assert_eq!(idle.take_sleeper(), Some(1));
        assert!(!idle.needs_waking(), "one searches already");
        assert_eq!(idle.take_sleeper(), None);
        let searching = idle.awake(1);
        assert!(!idle.all_asleep());
        assert!(idle.end_search(searching), "the last one");
        assert!(idle.wants_help(|| false));
    }

    #[test]
    fn an_early_return_takes_the_worker_off_the_list() {
        let idle = Idle::new(1);
        let searching = idle.try_search();
        let _ = idle.sleep(0, searching, None);
        let searching = idle.awake(0);
        assert!(!idle.all_asleep());
        assert!(!idle.needs_waking());
        assert!(idle.end_search(searching));
    }
}
