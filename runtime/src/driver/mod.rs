//! (temporary)
pub(crate) mod clock;
use std::sync::{Condvar, Mutex};
use std::task::Waker;
use std::time::Duration;
#[derive(Debug)]
pub(crate) struct Driver { clock: clock::Clock, turn: Mutex<()>, token: Mutex<bool>, c: Condvar }
pub(crate) struct Turn;
impl Driver {
    pub(crate) fn new(clock: clock::Clock) -> std::io::Result<Driver> { Ok(Driver{clock, turn: Mutex::new(()), token: Mutex::new(false), c: Condvar::new()}) }
    pub(crate) fn clock(&self) -> &clock::Clock { &self.clock }
    pub(crate) fn try_turn(&self, timeout: Option<Duration>, _woken: &mut Vec<Waker>) -> Option<Turn> {
        let _g = self.turn.try_lock().ok()?;
        if timeout == Some(Duration::ZERO) { return Some(Turn); }
        let mut t = self.token.lock().unwrap();
        while !*t {
            match timeout { None => t = self.c.wait(t).unwrap(), Some(d) => { t = self.c.wait_timeout(t, d).unwrap().0; break } }
        }
        *t = false;
        Some(Turn)
    }
    pub(crate) fn unpark(&self) { *self.token.lock().unwrap() = true; self.c.notify_all(); }
    pub(crate) fn shutdown(&self) -> Vec<Waker> { Vec::new() }
}
