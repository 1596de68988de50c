//! What a pending task waits on: the closed list of reasons, and the recording half of a leaf.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::ptr;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use super::frame::{self, Stamp};
use super::meta::TaskWord;
use super::waker::{self, Asker};

/// The closed list: one entry each, with the name that reports print and who can end it.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $reason:ident = $name:literal, $ended_by:ident;)+) => {
        /// What a parked task waits for. A closed list: every wait future of this crate has its reason here.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum WaitReason {
            $($(#[$doc])+ $reason,)+
        }

        #[cfg_attr(leakfree_norecord, allow(dead_code))]
        impl WaitReason {
            /// Every reason, in the order of their numbers.
            const ALL: &[WaitReason] = &[$(WaitReason::$reason),+];

            /// The operation's name as a report prints it, for instance `Mutex::lock`.
            pub fn name(self) -> &'static str {
                match self {
                    $(WaitReason::$reason => $name,)+
                }
            }

            /// The one predicate that classifies a wait: can the outside world end it, can only a task?
            pub fn ended_by(self) -> EndedBy {
                match self {
                    $(WaitReason::$reason => EndedBy::$ended_by,)+
                }
            }
        }
    };
}

reasons! {
    /// `JoinHandle`: another task's completion.
    Join = "JoinHandle", Task;
    /// The end of a scope: its children.
    ScopeEnd = "scope end", Task;
    /// `cancelled()`: the task's own cancellation, or a scope's.
    Cancelled = "cancelled", Cancellation;
    /// `time::sleep` and `time::sleep_until`.
    Sleep = "sleep", World;
    /// The deadline of `time::timeout`.
    Timeout = "timeout", World;
    /// `time::Interval::tick`.
    Interval = "Interval::tick", World;
    /// `net::TcpListener::accept`.
    TcpAccept = "TcpListener::accept", World;
    /// `net::TcpStream::connect`.
    TcpConnect = "TcpStream::connect", World;
    /// A read of a `net::TcpStream` or of one of its halves.
    TcpRead = "TcpStream read", World;
    /// A write to a `net::TcpStream` or to one of its halves.
    TcpWrite = "TcpStream write", World;
    /// `net::lookup_host`, and names given to `connect` and `bind`.
    LookupHost = "lookup_host", World;
    /// Receiving on a `net::UdpSocket`.
    UdpRecv = "UdpSocket receive", World;
    /// Sending on a `net::UdpSocket`.
    UdpSend = "UdpSocket send", World;
    /// `net::UnixListener::accept`.
    UnixAccept = "UnixListener::accept", World;
    /// `net::UnixStream::connect`.
    UnixConnect = "UnixStream::connect", World;
    /// A read of a `net::UnixStream` or of one of its halves.
    UnixRead = "UnixStream read", World;
    /// A write to a `net::UnixStream` or to one of its halves.
    UnixWrite = "UnixStream write", World;
    /// Receiving on a `net::UnixDatagram`.
    UnixDatagramRecv = "UnixDatagram receive", World;
    /// Sending on a `net::UnixDatagram`.
    UnixDatagramSend = "UnixDatagram send", World;
    /// A read of a child process's output.
    PipeRead = "child process pipe read", World;
    /// A write to a child process's input.
    PipeWrite = "child process pipe write", World;
    /// Waiting until an `io::unix::AsyncFd` can be read.
    FdRead = "AsyncFd readable", World;
    /// Waiting until an `io::unix::AsyncFd` can be written.
    FdWrite = "AsyncFd writable", World;
    /// `process::Child::wait`.
    ChildWait = "Child::wait", World;
    /// `signal::unix::Signal::recv` and `signal::ctrl_c`.
    Signal = "Signal::recv", World;
    /// A read of `io::stdin`.
    StdinRead = "stdin read", World;
    /// A read of one end of an `io::duplex` pipe.
    DuplexRead = "DuplexStream read", Task;
    /// A write to one end of an `io::duplex` pipe.
    DuplexWrite = "DuplexStream write", Task;
    /// Receiving from a `sync::oneshot` channel.
    OneshotRecv = "oneshot::Receiver", Task;
    /// `sync::oneshot::Sender::closed`.
    OneshotClosed = "oneshot::Sender::closed", Task;
    /// `sync::mpsc` receivers: a message, or the last sender's end.
    MpscRecv = "mpsc::Receiver::recv", Task;
    /// `sync::mpsc::Sender::send`: a free slot.
    MpscSend = "mpsc::Sender::send", Task;
    /// `sync::mpsc` senders' `closed`.
    MpscClosed = "mpsc::Sender::closed", Task;
    /// `sync::mpsc::Sender::reserve` and `reserve_many`, on a borrowed or an owned sender: free slots.
    MpscReserve = "mpsc::Sender::reserve", Task;
    /// `sync::watch::Receiver::changed`: a value not seen yet, or the last sender's end.
    WatchChanged = "watch::Receiver::changed", Task;
    /// `sync::watch::Receiver::wait_for`: a value that the condition holds for.
    WatchWaitFor = "watch::Receiver::wait_for", Task;
    /// `sync::watch::Sender::closed`: the last receiver's end.
    WatchClosed = "watch::Sender::closed", Task;
    /// `sync::broadcast::Receiver::recv`: a value, or the last sender's end.
    BroadcastRecv = "broadcast::Receiver::recv", Task;
    /// `sync::broadcast::Sender::closed`: the last receiver's end.
    BroadcastClosed = "broadcast::Sender::closed", Task;
    /// `sync::Mutex::lock` and `lock_owned`.
    MutexLock = "Mutex::lock", Task;
    /// `sync::RwLock::read` and `read_owned`.
    RwLockRead = "RwLock::read", Task;
    /// `sync::RwLock::write` and `write_owned`.
    RwLockWrite = "RwLock::write", Task;
    /// `sync::Semaphore::acquire`, `acquire_many` and the owned ones.
    SemaphoreAcquire = "Semaphore::acquire", Task;
    /// `sync::Notify::notified`.
    Notified = "Notify::notified", Task;
    /// `sync::Barrier::wait`: the others.
    BarrierWait = "Barrier::wait", Task;
    /// `sync::OnceCell::get_or_init`: another task's initialisation.
    OnceCellInit = "OnceCell::get_or_init", Task;
    /// `sync::SetOnce::wait`: the value.
    SetOnceWait = "SetOnce::wait", Task;
    /// A system call that is made on the blocking pool: files, standard output.
    BlockingCall = "blocking call", World;
    /// A future of another crate, named by `waiting`.
    Labelled = "waiting", World;
    /// `Scope::spawn_when_free`: a free place among the children.
    SpawnWhenFree = "Scope::spawn_when_free", Task;
    /// `Children::join_next`: any child's end.
    NextChild = "Children::join_next", Task;
    /// The task has used its budget up and lets others run; see [`task::coop`](crate::task::coop).
    CoopYield = "coop yield", World;
    /// `task::block_in_place`: the task is running, but its thread may be blocked.
    BlockInPlace = "block_in_place", World;
    /// `task::JoinSet::join_next`: the end of any task in the set.
    JoinSetNext = "JoinSet::join_next", Task;
}

#[cfg_attr(leakfree_norecord, allow(dead_code))]
impl WaitReason {
    /// As a record keeps it: from 1, for 0 is none.
    pub(crate) fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The reason with that number; 0 is none.
    pub(crate) fn from_number(number: u8) -> Option<WaitReason> {
        let reason = *WaitReason::ALL.get(usize::from(number).checked_sub(1)?)?;
        debug_assert_eq!(reason.number(), number);
        Some(reason)
    }
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

/// The object a wait is about: plain data that outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Object {
    /// Nothing worth naming (a sleep).
    None,
    /// An object known by its creation point (a channel, a lock, a socket).
    Created(&'static Location<'static>),
    /// A task, for joins.
    Task(TaskWord),
    /// A scope, by id.
    Scope(u64),
    /// A label given by the user.
    Label(&'static &'static str),
    /// A lock that is or was contended, by the id of its facts; see [`facts`](super::facts).
    Lock(u64),
    /// A channel that somebody has parked on, by the id of its facts; see [`channel_facts`](super::channel_facts).
    Channel(u64),
}

impl Object {
    /// Which kind it is, in seven bits, and its identity.
    #[inline]
    fn pack(self) -> (u32, u64) {
        match self {
            Object::None => (0, 0),
            Object::Created(location) => (1, ptr::from_ref(location).expose_provenance() as u64),
            Object::Task(task) => (2, task.0),
            Object::Scope(id) => (3, id),
            Object::Label(label) => (4, ptr::from_ref(label).expose_provenance() as u64),
            Object::Lock(id) => (5, id),
            Object::Channel(id) => (6, id),
        }
    }

    /// # Safety
    /// Both came from one `pack`.
    unsafe fn unpack(tag: u32, word: u64) -> Object {
        match tag {
            // SAFETY: with this tag the word is a `&'static Location`, exposed by `pack`.
            1 => Object::Created(unsafe { &*ptr::with_exposed_provenance(word as usize) }),
            2 => Object::Task(TaskWord(word)),
            3 => Object::Scope(word),
            // SAFETY: with this tag the word is a `&'static &'static str`, exposed by `pack`.
            4 => Object::Label(unsafe { &*ptr::with_exposed_provenance(word as usize) }),
            5 => Object::Lock(word),
            6 => Object::Channel(word),
            _ => Object::None,
        }
    }
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

/// A wait as a leaf has it ready and a record keeps it: to note one takes three stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// `[1, for it is one wait: 8 | own: 1 | object's tag: 7 | reason: 8]`
    pub(crate) head: u32,
    /// Identity of the object: what it is says the tag.
    pub(crate) object: u64,
    pub(crate) location: &'static Location<'static>,
}

/// One wait.
pub(super) const ONE: u32 = 1 << 16;
/// What tells one from another.
pub(super) const HEAD: u32 = ONE - 1;
const OWN: u32 = 1 << 15;

impl Entry {
    #[inline]
    pub(crate) fn new(reason: WaitReason, object: Object, location: &'static Location<'static>) -> Entry {
        let (tag, object) = object.pack();
        Entry { head: ONE | tag << 8 | u32::from(reason.number()), object, location }
    }

    #[inline]
    fn set_object(&mut self, object: Object) {
        let (tag, object) = object.pack();
        (self.head, self.object) = (ONE | tag << 8 | self.head & 0xff, object);
    }

    /// The same wait, polled with the waker of the task itself or with another.
    #[inline]
    pub(super) fn polled_by(self, asker: Asker<'_>) -> Entry {
        Entry { head: self.head | u32::from(asker.is_own()) << OWN.trailing_zeros(), ..self }
    }

    /// For the same reason on the same object. Objects that are places are compared by address: a `false` may err.
    pub(crate) fn is_alike(self, other: Entry) -> bool {
        self.head & !OWN == other.head & !OWN && self.object == other.object
    }

    /// # Safety
    /// All three are of one entry, which was made by [`Entry::new`].
    pub(crate) unsafe fn unpack(self) -> Option<Wait> {
        let reason = WaitReason::from_number(self.head as u8)?;
        // SAFETY: passed on.
        let object = unsafe { Object::unpack((self.head & HEAD & !OWN) >> 8, self.object) };
        Some(Wait { reason, object, location: self.location, own: self.head & OWN != 0 })
    }
}

/// The recording half of a leaf future: embed one, call [`pending`](Leaf::pending) each time before
/// returning `Pending`. Dropping the leaf (or [`ready`](Leaf::ready)) takes the entry of this poll back.
#[derive(Debug)]
pub(crate) struct Leaf {
    entry: Entry,
    stamp: Option<Stamp>,
    /// It took an operation off the poll's budget, and has not been pending since.
    spent: bool,
}

impl Leaf {
    /// A leaf that waits for `reason` on `object`, at the caller's location.
    #[track_caller]
    pub(crate) fn new(reason: WaitReason, object: Object) -> Leaf {
        Leaf::at(reason, object, Location::caller())
    }

    /// The same, at a location found elsewhere.
    pub(crate) fn at(reason: WaitReason, object: Object, location: &'static Location<'static>) -> Leaf {
        Leaf { entry: Entry::new(reason, object, location), stamp: None, spent: false }
    }

    /// A leaf that is made anew for each poll, from what [`suspend`](Leaf::suspend) gave in the last one. `made`: where the user did.
    #[inline]
    pub(crate) fn resume(
        reason: WaitReason,
        object: Object,
        made: &'static Location<'static>,
        stamp: Option<Stamp>,
    ) -> Leaf {
        Leaf { entry: Entry::new(reason, object, made), stamp, spent: false }
    }

    /// The stamp of this poll's entry, which stands.
    #[inline]
    pub(crate) fn suspend(mut self) -> Option<Stamp> {
        self.stamp.take()
    }

    pub(crate) fn reason(&self) -> WaitReason {
        WaitReason::from_number(self.entry.head as u8).expect("made from one")
    }

    #[inline]
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.entry.location
    }

    /// The wait is one inside a call of ours: the user wrote that call there. Before the first poll.
    #[cfg(feature = "http")]
    pub(crate) fn set_call(&mut self, location: &'static Location<'static>) {
        debug_assert!(self.stamp.is_none() && !self.spent, "it has been polled");
        self.entry.location = location;
    }

    /// Says what the wait is about, when that is known at the wait only.
    #[inline]
    pub(crate) fn set_object(&mut self, object: Object) {
        self.entry.set_object(object);
    }

    /// Corrects the location, for leaves whose caller is only known at the poll. A leaf that was spawned as it is has
    /// no caller but the runtime: then the spawn is where the user wrote it. One behind a reference has none but the
    /// standard library: then it is the arm of the `select!` or `join!` around it, or where the leaf was made.
    #[inline]
    pub(crate) fn set_location(&mut self, location: &'static Location<'static>) {
        self.entry.location = place(location, self.entry.location);
    }

    /// Takes one operation off the poll's budget; call it first in a poll: `ready!(leaf.proceed(cx))`. When nothing is left the
    /// task is to be polled again at once, behind the others. What turns out to be pending costs nothing.
    #[inline]
    pub(crate) fn proceed(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.spent = frame::spend();
        if self.spent { Poll::Ready(()) } else { self.out_of_budget(cx) }
    }

    /// The same, for leaves whose caller is only known at the poll.
    #[inline]
    pub(crate) fn proceed_at(&mut self, cx: &Context<'_>, location: &'static Location<'static>) -> Poll<()> {
        self.spent = frame::spend();
        if self.spent {
            return Poll::Ready(());
        }
        self.set_location(location);
        self.out_of_budget(cx)
    }

    #[cold]
    fn out_of_budget(&mut self, cx: &Context<'_>) -> Poll<()> {
        let entry = Entry::new(WaitReason::CoopYield, Object::None, self.entry.location);
        self.stamp = frame::note(entry.polled_by(Asker::of(cx)), self.stamp);
        coop_yield(cx);
        Poll::Pending
    }

    /// Records that the task being polled now waits here. Call each time before returning `Pending`.
    #[inline]
    pub(crate) fn pending(&mut self, cx: &Context<'_>) {
        if frame::is_next_note_first() {
            self.pending_as(Asker::of(cx));
        } else {
            self.pending_further(cx);
        }
    }

    /// One of several waits, or of very many, of which no more can be noted.
    #[inline(never)]
    fn pending_further(&mut self, cx: &Context<'_>) {
        if self.stamp.is_none() && !frame::has_place() {
            if std::mem::take(&mut self.spent) {
                frame::give_back();
            }
        } else {
            self.pending_as(Asker::of(cx));
        }
    }

    /// The same.
    #[inline]
    pub(crate) fn pending_as(&mut self, asker: Asker<'_>) {
        if std::mem::take(&mut self.spent) {
            frame::give_back();
        }
        self.stamp = frame::note(self.entry.polled_by(asker), self.stamp);
    }

    /// For poll functions without a future of their own: the entry stands until the next poll.
    #[inline]
    pub(crate) fn pending_detached(self, cx: &Context<'_>) {
        frame::note_once(self.entry.polled_by(Asker::of(cx)));
    }

    /// Its last poll was pending, perhaps.
    #[inline]
    pub(crate) fn has_waited(&self) -> bool {
        self.stamp.is_some()
    }

    /// The wait is over: takes the entry of this poll back.
    #[inline]
    pub(crate) fn ready(&mut self) {
        if let Some(stamp) = self.stamp.take() {
            frame::take_back(stamp);
        }
    }
}

/// As [`Leaf::proceed`], for poll functions without a future of their own. They [`frame::give_back`] what they took if they
/// are pending.
#[inline]
#[track_caller]
pub(crate) fn proceed_detached(cx: &Context<'_>) -> Poll<()> {
    if frame::spend() {
        return Poll::Ready(());
    }
    Leaf::at(WaitReason::CoopYield, Object::None, frame::poll_site()).pending_detached(cx);
    coop_yield(cx);
    Poll::Pending
}

/// Has the polled task polled again behind the others.
///
/// A waker that is not the task's own belongs to a combinator, which may poll again within this poll and go on for as long as
/// it is told to: so its budget begins anew.
#[cold]
fn coop_yield(cx: &Context<'_>) {
    if waker::is_polled_task(cx) {
        frame::set_yielded();
    } else {
        frame::refill();
        cx.waker().wake_by_ref();
    }
}

/// See [`Leaf::set_location`].
#[inline]
pub(super) fn place(
    location: &'static Location<'static>,
    made: &'static Location<'static>,
) -> &'static Location<'static> {
    if frame::is_users(location) { location } else { resolve(location, made) }
}

#[cold]
fn resolve(
    location: &'static Location<'static>,
    made: &'static Location<'static>,
) -> &'static Location<'static> {
    let file = location.file();
    if file == super::cell::FILE {
        frame::spawned_at().unwrap_or(location)
    } else if forwards(file) {
        frame::arm().unwrap_or(made)
    } else {
        frame::set_users(location);
        location
    }
}

/// Whether that file of the standard library polls futures on behalf of others: `&mut F`, `Pin<P>`, `Box<F>`.
fn forwards(file: &str) -> bool {
    static FILES: OnceLock<[&str; 2]> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let mut cx = Context::from_waker(Waker::noop());
        [Pin::new(&mut &mut Probe).poll(&mut cx), Pin::new(&mut Box::new(Probe)).poll(&mut cx)].map(
            |polled| match polled {
                Poll::Ready(file) => file,
                Poll::Pending => "",
            },
        )
    });
    files.contains(&file)
}

/// Says which file polls it.
struct Probe;

impl Future for Probe {
    type Output = &'static str;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<&'static str> {
        Poll::Ready(Location::caller().file())
    }
}

impl Drop for Leaf {
    #[inline]
    fn drop(&mut self) {
        self.ready();
    }
}
