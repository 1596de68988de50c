//! `LEAKFREE_BACKTRACE=1`: the stack at which a poll leaves a waker behind.
//!
//! A pending future registers a waker, and at that moment the thread's stack leads from the task through every future around to the
//! one that waits, ours or not. It is taken there, by nobody's extra poll. Without the variable the price is one load in the clone of a
//! waker.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::frame;
use super::header::Header;

/// The variable that turns it on.
const VARIABLE: &str = "LEAKFREE_BACKTRACE";

/// Stacks kept of one poll.
const STACKS_MAX: usize = 4;

/// Whether stacks are taken.
static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);
const OFF: u8 = 0;
const UNKNOWN: u8 = 1;
const ON: u8 = 2;

/// That they are not taken is known already.
#[inline]
pub(super) fn is_off() -> bool {
    // A model must go the same way each time.
    if cfg!(loom) { !is_on() } else { MODE.load(Relaxed) == OFF }
}

#[inline]
fn is_on() -> bool {
    MODE.load(Relaxed) != OFF && find_out()
}

#[cold]
fn find_out() -> bool {
    if MODE.load(Relaxed) == UNKNOWN {
        let on = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
        MODE.store(if on { ON } else { OFF }, Relaxed);
    }
    MODE.load(Relaxed) == ON
}

/// The stacks of the last poll that registered a waker.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    poll: u64,
    stacks: Vec<Stack>,
}

/// A waker of the task is made.
#[inline]
pub(crate) fn waker_made(header: &Header) {
    if is_on() {
        take(header);
    }
}

#[cold]
fn take(header: &Header) {
    // Made elsewhere than in the task's poll, the stack says nothing of what it waits for.
    if !std::ptr::eq(header, frame::header()) {
        return;
    }
    let stack = Stack(Arc::new(Backtrace::force_capture()));
    let poll = header.record.polls();
    let mut extra = header.extra();
    let Stacks { poll: of, stacks } = extra.stacks.get_or_insert_default().as_mut();
    if *of != poll {
        *of = poll;
        stacks.clear();
    }
    if stacks.len() < STACKS_MAX {
        stacks.push(stack);
    }
}

impl Stacks {
    pub(crate) fn copy(&self) -> Vec<Stack> {
        self.stacks.clone()
    }
}

/// The stack at which a poll left a waker behind: from the future that waits outwards to the task's own. Names are looked up when it is
/// displayed, which takes time.
#[derive(Clone)]
pub struct Stack(Arc<Backtrace>);

impl Stack {
    /// Its lines, the innermost first: `function at file:line:column`. Frames of the standard library, and of this runtime below the
    /// task, are left out.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.0.to_string())
    }
}

/// Reads what a backtrace displays: a numbered line with a name for each frame, and one with its place if that is known.
fn lines(backtrace: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in backtrace.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(frame) = frames.last_mut() {
                frame.push_str(" at ");
                frame.push_str(place);
            }
        } else if let Some((_, name)) = line.split_once(": ") {
            frames.push(name.to_owned());
        }
    }
    let ours = |frame: &String| {
        let name = frame.trim_start_matches(['<', '&']);
        ["leakfree::task::cell::", "leakfree::task::runnable::"].iter().any(|of| name.starts_with(of))
    };
    let end = frames.iter().position(ours).unwrap_or(frames.len());
    let start =
        frames.iter().rposition(|frame| frame.contains("leakfree::task::waker::")).map_or(0, |at| at + 1);
    let between = frames.get(start..end).unwrap_or_default();
    let library = |frame: &&String| {
        let name = frame.trim_start_matches(['<', '&']);
        !["core::", "std::", "alloc::"].iter().any(|of| name.starts_with(of))
    };
    between.iter().filter(library).cloned().collect()
}

impl PartialEq for Stack {
    fn eq(&self, other: &Stack) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_stack_begins_behind_the_waker_and_ends_before_the_task() {
        let backtrace = "   0: std::backtrace_rs::trace\n             at /rustc/1/a.rs:1:1\n   \
             1: leakfree::task::backtrace::take\n   2: leakfree::task::waker::clone\n   \
             3: <core::task::wake::Waker as core::clone::Clone>::clone\n   \
             4: <lib::Wait as core::future::future::Future>::poll\n             at ./lib.rs:3:4\n   \
             5: user::inner::{{closure}}\n             at ./src/user.rs:7:9\n   \
             6: core::panic::unwind_safe::call_once\n   7: leakfree::task::cell::run::{{closure}}\n   \
             8: leakfree::task::runnable::Runnable::run\n   9: user::main\n";
        assert_eq!(
            lines(backtrace),
            [
                "<lib::Wait as core::future::future::Future>::poll at ./lib.rs:3:4",
                "user::inner::{{closure}} at ./src/user.rs:7:9"
            ]
        );
        assert_eq!(lines(""), [""; 0]);
    }
}
