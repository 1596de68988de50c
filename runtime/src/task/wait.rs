//! What a pending task waits on: the closed list of reasons, and the recording half of a leaf.

use std::panic::Location;
use std::task::Context;

use super::frame::{self, Stamp};
use super::meta::TaskId;
use super::waker;

/// What a parked task waits for. A closed list: every wait future of this crate has its reason here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum WaitReason {
    /// `JoinHandle`: another task's completion.
    Join = 1,
    /// The end of a scope: its children.
    ScopeEnd,
    /// `cancelled()`: the task's own cancellation, or a scope's.
    Cancelled,
    /// `time::sleep` and `time::sleep_until`.
    Sleep,
    /// The deadline of `time::timeout`.
    Timeout,
    /// `time::Interval::tick`.
    Interval,
    /// `net::TcpListener::accept`.
    TcpAccept,
    /// `net::TcpStream::connect`.
    TcpConnect,
    /// A read of a `net::TcpStream` or of one of its halves.
    TcpRead,
    /// A write to a `net::TcpStream` or to one of its halves.
    TcpWrite,
    /// Receiving from a `sync::oneshot` channel.
    OneshotRecv,
    /// `sync::oneshot::Sender::closed`.
    OneshotClosed,
    /// `sync::mpsc` receivers: a message, or the last sender's end.
    MpscRecv,
    /// `sync::mpsc::Sender::send`: a free slot.
    MpscSend,
    /// `sync::mpsc` senders' `closed`.
    MpscClosed,
    /// `sync::Mutex::lock`.
    MutexLock,
    /// A closure that runs on the blocking pool.
    BlockingCall,
    /// A future of another crate, named by `waiting`.
    Labelled,
    /// `Scope::spawn_when_free`: a free place among the children.
    SpawnWhenFree,
    /// `Children::join_next`: any child's end.
    NextChild,
}

/// Who can end a wait; see [`WaitReason::ended_by`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EndedBy {
    /// The outside world: a clock, the kernel, another thread, code we did not write.
    World,
    /// Only a task (or code that holds the other end).
    Task,
    /// Only a cancellation.
    Cancellation,
}

#[cfg_attr(leakfree_norecord, allow(dead_code))]
impl WaitReason {
    /// Every reason, in the order of their numbers.
    const ALL: [WaitReason; 20] = [
        WaitReason::Join,
        WaitReason::ScopeEnd,
        WaitReason::Cancelled,
        WaitReason::Sleep,
        WaitReason::Timeout,
        WaitReason::Interval,
        WaitReason::TcpAccept,
        WaitReason::TcpConnect,
        WaitReason::TcpRead,
        WaitReason::TcpWrite,
        WaitReason::OneshotRecv,
        WaitReason::OneshotClosed,
        WaitReason::MpscRecv,
        WaitReason::MpscSend,
        WaitReason::MpscClosed,
        WaitReason::MutexLock,
        WaitReason::BlockingCall,
        WaitReason::Labelled,
        WaitReason::SpawnWhenFree,
        WaitReason::NextChild,
    ];

    /// The reason with that number; 0 is none.
    pub(crate) fn from_u8(number: u8) -> Option<WaitReason> {
        let reason = *WaitReason::ALL.get(usize::from(number).checked_sub(1)?)?;
        debug_assert_eq!(reason as u8, number);
        Some(reason)
    }

    /// The operation's name as a report prints it, for instance `Mutex::lock`.
    pub fn name(self) -> &'static str {
        match self {
            WaitReason::Join => "JoinHandle",
            WaitReason::ScopeEnd => "scope end",
            WaitReason::Cancelled => "cancelled",
            WaitReason::Sleep => "sleep",
            WaitReason::Timeout => "timeout",
            WaitReason::Interval => "Interval::tick",
            WaitReason::TcpAccept => "TcpListener::accept",
            WaitReason::TcpConnect => "TcpStream::connect",
            WaitReason::TcpRead => "TcpStream read",
            WaitReason::TcpWrite => "TcpStream write",
            WaitReason::OneshotRecv => "oneshot::Receiver",
            WaitReason::OneshotClosed => "oneshot::Sender::closed",
            WaitReason::MpscRecv => "mpsc::Receiver::recv",
            WaitReason::MpscSend => "mpsc::Sender::send",
            WaitReason::MpscClosed => "mpsc::Sender::closed",
            WaitReason::MutexLock => "Mutex::lock",
            WaitReason::BlockingCall => "blocking call",
            WaitReason::Labelled => "waiting",
            WaitReason::SpawnWhenFree => "Scope::spawn_when_free",
            WaitReason::NextChild => "Children::join_next",
        }
    }

    /// The one predicate that classifies a wait: can the outside world end it, can only a task?
    pub fn ended_by(self) -> EndedBy {
        match self {
            WaitReason::Sleep
            | WaitReason::Timeout
            | WaitReason::Interval
            | WaitReason::TcpAccept
            | WaitReason::TcpConnect
            | WaitReason::TcpRead
            | WaitReason::TcpWrite
            | WaitReason::BlockingCall
            | WaitReason::Labelled => EndedBy::World,
            WaitReason::Join
            | WaitReason::ScopeEnd
            | WaitReason::OneshotRecv
            | WaitReason::OneshotClosed
            | WaitReason::MpscRecv
            | WaitReason::MpscSend
            | WaitReason::MpscClosed
            | WaitReason::MutexLock
            | WaitReason::SpawnWhenFree
            | WaitReason::NextChild => EndedBy::Task,
            WaitReason::Cancelled => EndedBy::Cancellation,
        }
    }
}

/// The object a wait is about: plain data that outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Object {
    /// Nothing worth naming (a sleep).
    None,
    /// An object known by its creation point (a channel, a lock, a socket).
    Created(&'static Location<'static>),
    /// A task, for joins.
    Task(TaskId),
    /// A scope, by id.
    Scope(u64),
    /// A label given by the user.
    Label(&'static &'static str),
    /// A lock that is or was contended, by the id of its facts; see [`facts`](super::facts).
    Lock(u64),
}

/// One wait: reason, object and the caller's location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) reason: WaitReason,
    pub(crate) object: Object,
    pub(crate) location: &'static Location<'static>,
    /// The leaf was polled with the waker of the task itself: its registration is counted as own.
    pub(crate) own: bool,
}

/// The recording half of a leaf future: embed one, call [`pending`](Leaf::pending) each time before
/// returning `Pending`. Dropping the leaf (or [`ready`](Leaf::ready)) takes the entry of this poll back.
#[derive(Debug)]
pub(crate) struct Leaf {
    wait: Wait,
    stamp: Option<Stamp>,
}

impl Leaf {
    /// A leaf that waits for `reason` on `object`, at the caller's location.
    #[track_caller]
    pub(crate) fn new(reason: WaitReason, object: Object) -> Leaf {
        Leaf::at(reason, object, Location::caller())
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn at(reason: WaitReason, object: Object, location: &'static Location<'static>) -> Leaf {
        Leaf { wait: Wait { reason, object, location, own: false }, stamp: None }
    }

    pub(crate) fn reason(&self) -> WaitReason {
        self.wait.reason
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.wait.location
    }

    /// Says what the wait is about, when that is known at the wait only.
    pub(crate) fn set_object(&mut self, object: Object) {
        self.wait.object = object;
    }

    /// Corrects the location, for leaves whose caller is only known at the poll. A leaf that was spawned as it is has
    /// no caller but the runtime: then the spawn is where the user wrote it.
    #[inline]
    pub(crate) fn set_location(&mut self, location: &'static Location<'static>) {
        let by_us = location.file() == super::cell::FILE;
        self.wait.location = if by_us { frame::spawned_at().unwrap_or(location) } else { location };
    }

    /// Records that the task being polled now waits here. Call each time before returning `Pending`.
    #[inline]
    pub(crate) fn pending(&mut self, cx: &Context<'_>) {
        self.wait.own = waker::is_polled_task(cx);
        self.stamp = frame::note(self.wait, self.stamp);
    }

    /// For poll functions without a future of their own: the entry stands until the next poll.
    #[inline]
    pub(crate) fn pending_detached(self, cx: &Context<'_>) {
        frame::note_once(Wait { own: waker::is_polled_task(cx), ..self.wait });
    }

    /// The wait is over: takes the entry of this poll back.
    #[inline]
    pub(crate) fn ready(&mut self) {
        if let Some(stamp) = self.stamp.take() {
            frame::take_back(stamp);
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.ready();
    }
}
