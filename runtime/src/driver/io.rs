//! I/O sources: registered once, edge-triggered, waited for by direction.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mio::event::Source;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::events::Event;
use super::readiness::{Direction, GONE, READ_CLOSED, READABLE, Readiness, Seen, WRITABLE, WRITE_CLOSED};
use crate::loom::sync::{Mutex, MutexGuard, PoisonError};

/// The token of the driver's own waker.
pub(super) const WAKE: Token = Token(usize::MAX);

/// One source as the driver knows it.
#[derive(Debug)]
pub(crate) struct ScheduledIo {
    readiness: Readiness,
    waiters: Mutex<Waiters>,
}

/// Who waits. Mostly one reader and one writer; the slabs take more.
#[derive(Debug, Default)]
struct Waiters {
    readers: Slab<(u64, Waker)>,
    writers: Slab<(u64, Waker)>,
    stamp: u64,
}

impl Waiters {
    fn of(&mut self, direction: Direction) -> &mut Slab<(u64, Waker)> {
        match direction {
            Direction::Read => &mut self.readers,
            Direction::Write => &mut self.writers,
        }
    }
}

/// A waiter's place, with a stamp: places are used again, and a waiter that was woken has lost its own.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<(usize, u64)>);

/// What would have to wait for a driver that is gone.
pub(crate) fn shut_down() -> io::Error {
    io::Error::other("the leakfree runtime has been shut down")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScheduledIo {
    pub(crate) fn new(readiness: Readiness) -> ScheduledIo {
        ScheduledIo { readiness, waiters: Mutex::default() }
    }

    /// Takes note of what the kernel reports, and who waited for it.
    pub(crate) fn set(&self, bits: u64, woken: &mut Vec<Waker>) {
        // Readiness first, waiters after; a waiter registers first and looks at the readiness after.
        self.readiness.set(bits);
        let mut waiters = lock(&self.waiters);
        if bits & (READABLE | READ_CLOSED) != 0 {
            woken.extend(waiters.readers.drain().map(|(_, waker)| waker));
        }
        if bits & (WRITABLE | WRITE_CLOSED) != 0 {
            woken.extend(waiters.writers.drain().map(|(_, waker)| waker));
        }
    }

    /// Tries `operation`; if it would block, registers the waker that `register` makes, unless the source became
    /// ready meanwhile. An operation that is done may say that it has drained the source: that nothing is left in that direction until
    /// the kernel reports more.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        place: &mut Place,
        register: fn(&Context<'_>) -> Waker,
        will_wake: fn(&Waker, &Context<'_>) -> bool,
        mut operation: impl FnMut(&mut bool) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut blocked_at_end = false;
        loop {
            let seen = self.readiness.load();
            if seen.is_ready(direction) {
                let mut drained = false;
                match operation(&mut drained) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && seen.is_gone() => {
                        self.release(direction, place);
                        return Poll::Ready(Err(shut_down()));
                    }
                    // Once may be no word of the kernel's: who needs more than it has read says so, too.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && blocked_at_end => {
                        self.readiness.reopen(seen, direction);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.readiness.clear(seen, direction);
                        blocked_at_end = seen.is_closed(direction);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => {
                        if drained {
                            self.readiness.clear(seen, direction);
                        }
                        self.release(direction, place);
                        return Poll::Ready(done);
                    }
                }
                continue;
            }
            let mut waiters = lock(&self.waiters);
            waiters.stamp += 1;
            let new_stamp = waiters.stamp;
            let waiting = waiters.of(direction);
            let ours = place.0.and_then(|(key, stamp)| waiting.get_mut(key).filter(|at| at.0 == stamp));
            let old = match ours {
                Some((_, waker)) if will_wake(waker, cx) => None,
                Some((_, waker)) => Some(std::mem::replace(waker, register(cx))),
                None => {
                    place.0 = Some((waiting.insert((new_stamp, register(cx))), new_stamp));
                    None
                }
            };
            drop(waiters);
            drop(old);
            if !self.readiness.load().is_ready(direction) {
                return Poll::Pending;
            }
        }
    }

    /// What is known of the source's readiness.
    pub(crate) fn readiness(&self) -> Seen {
        self.readiness.load()
    }

    /// An operation met `WouldBlock` after it had seen `seen`.
    pub(crate) fn clear(&self, seen: Seen, direction: Direction) {
        self.readiness.clear(seen, direction);
    }

    /// Gives a place up, if the waiter still has it.
    pub(crate) fn release(&self, direction: Direction, place: &mut Place) {
        let Some((key, stamp)) = place.0.take() else { return };
        let waker = {
            let mut waiters = lock(&self.waiters);
            let waiting = waiters.of(direction);
            match waiting.get(key) {
                Some((at, _)) if *at == stamp => Some(waiting.remove(key)),
                _ => None,
            }
        };
        drop(waker);
    }
}

/// All sources of a driver.
#[derive(Debug)]
pub(crate) struct Sources {
    registry: Registry,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sources: Slab<(u32, Arc<ScheduledIo>)>,
    generation: u32,
    shut_down: bool,
}

/// A source's place in the table, with a generation, so that an event that comes late finds nobody.
fn token(index: usize, generation: u32) -> Token {
    Token(index | (generation as usize & 0xff_ffff) << 32)
}

impl Sources {
    pub(super) fn new(registry: Registry) -> Sources {
        Sources { registry, table: Mutex::default() }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.table).sources.len()
    }

    /// Registers a source for the directions of `interest`.
    ///
    /// # Errors
    /// What the operating system says, or that the runtime has been shut down.
    pub(crate) fn register(
        &self,
        source: &mut impl Source,
        interest: Interest,
        readiness: Readiness,
    ) -> io::Result<(Token, Arc<ScheduledIo>)> {
        let io = Arc::new(ScheduledIo::new(readiness));
        let token = {
            let mut table = lock(&self.table);
            if table.shut_down {
                return Err(shut_down());
            }
            table.generation = table.generation.wrapping_add(1) & 0xff_ffff;
            let generation = table.generation;
            token(table.sources.insert((generation, Arc::clone(&io))), generation)
        };
        if let Err(error) = self.registry.register(source, token, interest) {
            self.forget(token);
            return Err(error);
        }
        Ok((token, io))
    }

    /// Deregisters a source.
    pub(crate) fn deregister(&self, source: &mut impl Source, token: Token) {
        // It may fail only if the descriptor is gone already, and then there is nothing to do.
        let _ = self.registry.deregister(source);
        self.forget(token);
    }

    fn forget(&self, token: Token) {
        let source = {
            let mut table = lock(&self.table);
            let index = token.0 & 0xffff_ffff;
            match table.sources.get(index) {
                Some((generation, _)) if token == self::token(index, *generation) => {
                    Some(table.sources.remove(index))
                }
                _ => None,
            }
        };
        drop(source);
    }

    /// Hands what the kernel reports to its source.
    pub(super) fn dispatch(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.token == WAKE {
            return;
        }
        let index = event.token.0 & 0xffff_ffff;
        let source = match lock(&self.table).sources.get(index) {
            Some((generation, io)) if event.token == token(index, *generation) => Arc::clone(io),
            _ => return,
        };
        source.set(event.bits, woken);
    }

    /// Takes all waiters out, and lets nobody in any more: what would block from now on fails.
    pub(super) fn shut_down(&self) -> Vec<Waker> {
        let sources: Vec<_> = {
            let mut table = lock(&self.table);
            table.shut_down = true;
            table.sources.iter().map(|(_, (_, io))| Arc::clone(io)).collect()
        };
        let mut woken = Vec::new();
        for source in sources {
            source.set(GONE | READ_CLOSED | WRITE_CLOSED, &mut woken);
        }
        woken
    }
}
