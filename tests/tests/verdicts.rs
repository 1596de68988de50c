//! What a snapshot proves, as a table: a line a case.
//!
//! A case is a snapshot in words and the verdicts that it must give. Tasks are small letters, scopes capital letters, locks and
//! channels words that begin with `l` and `c` and have a number. A clause says one thing:
//!
//! | clause | the snapshot |
//! |---|---|
//! | `a joins b` | `a` is parked in a join of task `b` |
//! | `a ends S` | `a` has ended its body of scope `S`, and waits for its children |
//! | `a locks l1`, `a recvs c1`, `a sends c1`, `a reserves c1` | `a` is parked there |
//! | `a sleeps`, `a reads`, `a notified` | `a` is parked in a wait that the world ends, or anybody |
//! | `a runs`, `a ready`, `a ending` | phases other than parked |
//! | `a dead` | no waker of `a` exists |
//! | `a foreign`, `a astray`, `a unsettled`, `a cancelled`, `a unowned` | a foreign waker; a registration given up elsewhere; moved between the passes; asked to end; a registration of unknown wait |
//! | `a borrowed` | its last wait was polled with another task's waker |
//! | `a main` | it is a body of `block_on` |
//! | `a in S` | `a` is a child of scope `S` |
//! | `S of a` | scope `S` is open in task `a`; followed by `plain`, `try`, `super`, `daemons T` (at the side of `T`), `deadline`, `hidden` (a child that is not in the snapshot), `heldback` |
//! | `l1 held a b`, `l1 shared a`, `l1 unknown`, `l1 free` | who holds a lock, `~a` by an owned guard; `shared` is an `RwLock` or semaphore; `queued n`: so many wait |
//! | `c1 from a`, `c1 to a` | the last sender, the last receiver; `nobody`; `0 senders` |
//!
//! Verdicts: `U` proven unwakeable, `P` proven stuck, `D` deadlocked, `S` suspect; who is not named has none. Brackets are the knots.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use leakfree::report::snapshot::{
    CancelInfo, ChannelInfo, HolderInfo, LockInfo, Phase, Position, ScopeInfo, ScopeKind, Site, Snapshot,
    TaskInfo, TaskKind, UserInfo, WaitInfo, WaitObject, WaitReason,
};
use leakfree::report::verdict::{Occasion, Verdict, judge};
use leakfree_tests::snapshots;

/// The table.
const CASES: &[(&str, &str)] = &[
    // ---- nobody is accused who may go on
    ("a sleeps", ""),
    ("a reads", ""),
    ("a runs", ""),
    ("a ready", ""),
    ("a notified", ""),
    ("a joins b; b sleeps", ""),
    ("a joins b; b runs", ""),
    ("a joins b; b ready", ""),
    ("a joins b; b ending", ""),
    ("a joins b; b joins c; c sleeps", ""),
    ("a joins z", ""), // not in the snapshot: it has ended, a wake is on its way
    ("a joins b; a sleeps; b joins a", ""), // a timeout around the join
    ("a joins b; b joins a; a reads", ""),
    ("a joins b; b joins a; a notified", ""),
    // ---- knots of joins
    ("a joins a", "a=P [a]"),
    ("a joins b; b joins a", "a=P b=P [a b]"),
    ("a joins b; b joins c; c joins a", "a=P b=P c=P [a b c]"),
    ("a joins b; b joins a; c joins d; d joins c", "a=P b=P c=P d=P [a b] [c d]"),
    ("a joins b; a joins c; b joins a; c joins a", "a=P b=P c=P [a b c]"), // either could end it, neither can
    ("a joins b; a joins c; b joins a; c sleeps", ""),
    // ---- victims
    ("a joins b; b joins b", "a=P b=P [b]"),
    ("a joins b; b joins c; c joins b", "a=P b=P c=P [b c]"),
    ("a joins b; b dead", "a=P b=U"),
    ("a joins b; b joins c; c dead", "a=P b=P c=U"),
    ("a joins b; a joins c; b dead; c dead", "a=P b=U c=U"),
    ("a joins b; a joins c; b dead; c sleeps", "b=U"),
    // ---- one doubt is enough
    ("a joins b; b joins a; a foreign", ""),
    ("a joins b; b joins a; b astray", ""),
    ("a joins b; b joins a; b unsettled", ""),
    ("a joins b; b joins a; a cancelled", ""),
    ("a joins b; b joins a; a unowned", ""), // an own waker that no wait accounts for
    ("a joins b; b joins a; b borrowed", ""), // its waits do not account for its wakers
    ("a joins b; b dead; b foreign", ""),    // the flag is contradicted by a count
    ("a joins b; b dead; b cancelled", "b=U"), // the flag says that it was not: the word is believed
    ("a joins b; b joins c; c joins b; c foreign", ""),
    ("a dead", "a=U"),
    ("a dead; a main", "a=U"),
    ("a joins b; b joins a; a main", "a=P b=P [a b]"),
    // ---- scope ends
    ("S of a; a ends S; b in S; b sleeps", ""),
    ("S of a; a ends S; b in S; b dead", "a=P b=U"),
    ("S of a; a ends S; b in S; b joins c; c joins a", "a=P b=P c=P [a b c]"),
    ("S of a; a ends S; b in S; b joins a", ""), // b is below a: it is told so at its next poll
    ("S of a; a ends S; b in S; c in S; b dead; c dead", "a=P b=U c=U"),
    // all children must end; none of the live ones is the last: it waits for the dead one in any case, but a live one may
    // spawn, cancel, fail: so nothing is said
    ("S of a; a ends S; b in S; c in S; b dead; c sleeps", "b=U"),
    ("S of a; a ends S", ""), // no child: the end is due
    ("S of a hidden; a ends S; b in S; b joins c; c joins a", ""), // a child that has never parked
    ("S of a heldback; a ends S; b in S; b joins c; c joins a", ""),
    ("S of a; a ends S; T of b; b in S; b ends T; c in T; c joins d; d joins a", "a=P b=P c=P d=P [a b c d]"),
    ("S of a; a ends S; T of b; b in S; b ends T; c in T; c sleeps", ""),
    ("a ends S; b joins a", ""), // a scope that is not in the snapshot
    // ---- daemons count for the end of the scope at whose side they are
    ("S of a; D of a daemons S; a ends S; b in D; b sleeps", ""),
    ("S of a; D of a daemons S; a ends S; b in D; b joins d; d joins a", ""), // no other child: the daemon is about to be cancelled
    (
        "S of a; D of a daemons S; a ends S; b in D; b joins d; d joins a; c in S; c dead",
        "a=P b=P c=U d=P [a b d]",
    ),
    // ---- who is waited for may be cancelled without who waits
    ("S of x; x ends S; b in S; b dead; c in S; c sleeps; a joins b", "b=U"), // c may fail
    ("S of x; x ends S; b in S; b dead; c in S; c sleeps; a joins b; a in S", "a=P b=U"), // and a would be cancelled, too
    ("S of x super; x ends S; b in S; b dead; c in S; c sleeps; a joins b", "b=U"), // x may drop S, when c has ended
    ("S of x; x sleeps; b in S; b dead; a joins b", "b=U"),                         // x may drop S
    ("S of x; x ends S; b in S; b dead; a joins b", "a=P b=U x=P"),                 // x waits for b
    ("S of x; x joins b; b in S; b dead; a joins b", "a=D b=U x=D"), // unless somebody spawns a child that fails into S
    ("S of x; x joins b; b in S; b dead; a joins b; c in S; c sleeps", "b=U"),
    ("S of x super; x joins b; b in S; b dead; a joins b; c in S; c sleeps", "a=P b=U x=P"),
    ("S of x; x ends S; T of y; y in S; y ends T; b in T; b dead; c in S; c sleeps; a joins b", "b=U y=P"),
    (
        "S of x; x ends S; T of y; y in S; y ends T; b in T; b dead; c in S; c sleeps; a joins b; a in S",
        "a=P b=U y=P",
    ),
    ("S of x; D of x daemons S; x ends S; b in D; b dead; c in S; c sleeps; a joins b", "b=U"), // b ends with c
    ("S of x; D of x daemons S; x ends S; b in D; b dead; c in S; c dead; a joins b", "a=P b=U c=U x=P"),
    // that a holder is not is assumed
    ("S of x; x ends S; b in S; b dead; l1 held b; c in S; c sleeps; a locks l1", "a=D b=U"),
    // ---- a body that something else may drop
    ("S of a; a joins b; b joins a", "a=D b=D [a b]"), // unless somebody spawns a child that fails into S
    ("S of a super; a joins b; b joins a", "a=P b=P [a b]"), // the root, b's scope, stays where it is
    ("S of a; a joins b; b joins a; c in S; c sleeps", ""), // c may fail and end the body
    ("S of a super; a joins b; b joins a; c in S; c sleeps", "a=P b=P [a b]"), // a supervisor's children fail alone
    ("S of a try; a joins b; b joins a", "a=D b=D [a b]"),
    ("S of a try; a joins b; b joins a; c in S; c reads", ""),
    ("S of a try deadline; a joins b; b joins a", ""),
    ("S of a try cancelled; a joins b; b joins a", ""),
    ("S of a hidden; a joins b; b joins a", ""),
    ("S of a; a dead; c in S; c sleeps", ""), // unwakeable, but c's failure ends its body
    ("S of a super; a dead; c in S; c sleeps", "a=U"),
    ("S of a; a dead", ""), // it may wait for a child to fail, that is not there yet
    ("S of a super; a dead", "a=U"),
    ("S of a try; a dead", ""),
    ("S of a; a dead; b joins a", ""),
    ("S of a; a locks l1; l1 held b; b locks l2; l2 held a", "a=D b=D [a b]"),
    ("S of a; a locks l1; l1 held b; b locks l2; l2 held a; c in S; c sleeps", ""), // c may fail and end the body
    ("S of a try; a dead; c in S; c sleeps", ""),
    ("S of a try cancelled; a dead", ""), // its body is dropped by a cancel, and so by a deadline
    ("S of a try deadline; a dead", ""),
    ("S of a super cancelled; a dead", "a=U"), // a supervisor's goes on
    ("S of a try; a ends S; a dead; c in S; c sleeps", ""), // its flag is contradicted by a waker
    // ---- a join is over when its task comes to be below the other
    ("S of a super; T of c; c sleeps; b in T; a joins b; b joins a", ""), // T's future may move below a
    ("T of c; c ends T; b in T; a joins b; b joins a", "a=P b=P c=P [a b]"), // nothing is below a
    ("T of c; c sleeps; b in T; a joins b; b joins a", ""),               // c may drop T, and b with it
    // ---- deadlines further out
    ("S of r deadline; r sleeps; a in S; b in S; a joins b; b joins a", ""),
    ("S of r deadline; r sleeps; a in S; a dead", ""),
    ("S of r; r sleeps; a in S; b in S; a joins b; b joins a", "a=P b=P [a b]"),
    // ---- locks
    ("a locks l1; l1 held b; b sleeps", ""),
    ("a locks l1; l1 held a", "a=D [a]"), // locked twice
    ("a locks l1; l1 held b; b dead", "a=D b=U"),
    ("a locks l1; l1 held b; b joins a", "a=D b=D [a b]"), // held over a join
    ("a locks l1; b locks l2; l1 held b; l2 held a", "a=D b=D [a b]"),
    ("a locks l1; b locks l2; c locks l3; l1 held b; l2 held c; l3 held a", "a=D b=D c=D [a b c]"),
    ("a locks l1; l1 free", ""), // a wake on its way
    ("a locks l1; l1 unknown", ""),
    ("a locks l1; l1 held z", ""), // the holder has ended: the guard was moved
    ("a locks l1; b locks l2; l1 held b; l2 unknown", ""),
    ("a locks l1; l1 held ~a", ""), // an owned guard may be anywhere
    ("a locks l1; b locks l2; l1 held b; l2 held ~a", ""),
    ("a locks l1; l1 shared a ~b; l1 queued 1; b joins a", ""),
    ("a locks l1; b locks l2; l1 held b; l2 held a; b foreign", ""),
    ("a locks l1; b locks l2; l1 held b; l2 held a; a sleeps", ""), // a timeout around the lock
    ("a locks l1; b locks l1; l1 held c; c sleeps", ""),
    ("a locks l1; b locks l1; l1 held c; c dead", "a=D b=D c=U"),
    ("a joins b; b locks l1; l1 held b", "a=D b=D [b]"),
    ("S of a; a ends S; b in S; b locks l1; l1 held a", "a=D b=D [a b]"), // held over a scope's end
    ("a joins b; b joins a; c locks l1; l1 held a", "a=P b=P c=D [a b]"),
    ("a locks l1; a joins b; l1 held a; b sleeps", ""),
    ("a locks l1; a joins b; l1 held a; b dead", "a=D b=U [a]"),
    // ---- locks with several holders
    ("a locks l1; l1 shared a; l1 queued 1", "a=D [a]"), // read, then write
    ("a locks l1; l1 shared b c; b dead; c dead; l1 queued 1", "a=D b=U c=U"),
    ("a locks l1; l1 shared b c; b dead; c sleeps; l1 queued 1", "b=U"), // one may be enough for a semaphore
    ("a locks l1; b locks l1; l1 shared a; l1 queued 2", "a=D b=D [a b]"), // read, write queued, read again
    ("a locks l1; b locks l1; b sleeps; l1 shared a; l1 queued 2", ""),  // who is ahead may give up
    ("a locks l1; l1 shared a; l1 queued 2", ""), // somebody waits who is not in the snapshot
    ("a locks l1; l1 shared a unknown; l1 queued 1", ""),
    ("a locks l1; l1 shared; l1 queued 1", ""), // free permits, or a signal: anybody may add one
    ("a locks l1; b locks l2; l1 shared b; l2 shared a; l1 queued 1; l2 queued 1", "a=D b=D [a b]"),
    ("a locks l1; b locks l2; l1 shared b; l2 held a; l1 queued 1", "a=D b=D [a b]"),
    // ---- channels: never more than a suspicion
    ("a recvs c1; c1 from b; b sleeps", ""),
    ("a recvs c1; c1 from b; b recvs c2; c2 from a", "a=S b=S"),
    ("a recvs c1; c1 from a", "a=S"), // it holds its own sender
    ("a recvs c1; c1 from b; b dead", "a=S b=U"),
    ("a recvs c1; c1 from z", "a=S"), // the last who sent has ended
    ("a recvs c1; c1 from z; r sleeps; S of r hidden", ""), // or has never parked: who is newborn is in no snapshot
    ("a recvs c1; c1 from nobody", ""),
    ("a recvs c1; c1 from b 0 senders; b dead", "b=U"), // closed: a wake on its way
    ("a sends c1; c1 to b; b dead", "a=S b=U"),
    ("a sends c1; c1 to b; b sends c2; c2 to a", "a=S b=S"),
    ("a sends c1; c1 to b; b reads", ""),
    ("a sends c1; c1 to nobody", ""),
    ("a locks l1; l1 held b; b recvs c1; c1 from a", "a=S b=S"), // a lock held while waiting on a channel
    ("a joins b; b recvs c1; c1 from a", "a=S b=S"),
    ("a reserves c1; c1 to b; b dead", "a=S b=U"),
    ("a recvs c1; b sends c1; c1 from b", ""), // empty and full at once: somebody was given the slots
    ("a recvs c1; b sends c1; c1 from b; c1 to a", ""),
    ("a recvs c1; b reserves c1; c1 from b; c1 to a", ""),
    ("a recvs c1; b sends c2; c1 from b; c2 to a", "a=S b=S"),
    ("a recvs c1; a sleeps; c1 from z", ""),
    ("a recvs c1; a foreign; c1 from z", ""),
    ("a recvs c1; c1 from z; a cancelled", ""),
    ("a joins b; b joins a; c recvs c1; c1 from a", "a=P b=P c=S [a b]"),
    ("a joins b; b recvs c1; c1 from d; d sleeps", ""),
    ("a locks l1; l1 held b; b recvs c1; c1 from z", "a=S b=S"), // behind one that is suspected
    ("a locks l1; b locks l1; l1 shared c; c recvs c1; c1 from z; l1 queued 2", "a=S b=S c=S"),
    ("a recvs c1; c1 from z; b sends c1; c1 to a", ""),
];

const SITE: Site = Site::new(&Position { file: "t.rs", line: 1, column: 1 });

struct Reader {
    tasks: BTreeMap<String, TaskInfo>,
    scopes: BTreeMap<String, ScopeInfo>,
    locks: BTreeMap<String, LockInfo>,
    channels: BTreeMap<String, ChannelInfo>,
    hidden: u64,
}

/// Tasks and scopes are numbered by their letter, locks and channels by their digit.
fn id(name: &str) -> u64 {
    u64::from(name.bytes().last().unwrap())
}

const ROOT: u64 = 1;

impl Reader {
    fn task(&mut self, name: &str) -> &mut TaskInfo {
        // Of its own, so that no two are alike.
        let site = || Site::new(Box::leak(Box::new(Position { line: id(name) as u32, ..*SITE })));
        self.tasks.entry(name.to_owned()).or_insert_with(|| TaskInfo {
            name: Some(name.into()),
            scope: ROOT,
            ..snapshots::task(id(name), site(), Duration::from_secs(1))
        })
    }

    fn wait(&mut self, task: &str, reason: WaitReason, object: WaitObject) {
        let task = self.task(task);
        task.waits.push(WaitInfo { reason, object, site: SITE, own: true });
        task.own_wakers += 1;
    }

    fn lock(&mut self, name: &str) -> &mut LockInfo {
        self.locks.entry(name.to_owned()).or_insert_with(|| LockInfo {
            id: id(name),
            created: SITE,
            holders: Vec::new(),
            waiters: 0,
            shared: false,
        })
    }

    fn channel(&mut self, name: &str) -> &mut ChannelInfo {
        self.channels.entry(name.to_owned()).or_insert_with(|| ChannelInfo {
            id: id(name),
            created: SITE,
            senders: 1,
            receivers: 1,
            last_sender: None,
            last_receiver: None,
        })
    }

    fn clause(&mut self, words: &[&str]) {
        let [subject, verb, rest @ ..] = words else { panic!("{words:?}") };
        let subject = *subject;
        let holder = |name: &&str| match *name {
            "unknown" => HolderInfo::Unknown,
            name if name.starts_with('~') => HolderInfo::Owned { id: id(&name[1..]), site: SITE },
            name => HolderInfo::Task { id: id(name), site: SITE },
        };
        let user = |name: &str| match name {
            "nobody" => None,
            name => Some(UserInfo { task: NonZeroU64::new(id(name)), site: SITE }),
        };
        match (*verb, rest) {
            ("joins", [other]) => self.wait(subject, WaitReason::Join, WaitObject::Task(id(other))),
            ("ends", [scope]) => {
                if let Some(scope) = self.scopes.get_mut(*scope) {
                    scope.closing = true;
                }
                self.wait(subject, WaitReason::ScopeEnd, WaitObject::Scope(id(scope)));
            }
            // What they are is filled in at the end.
            ("locks", [lock]) => {
                let info = Box::new(self.lock(lock).clone());
                self.wait(subject, WaitReason::MutexLock, WaitObject::Lock(info));
            }
            ("recvs", [channel]) => {
                let info = Box::new(*self.channel(channel));
                self.wait(subject, WaitReason::MpscRecv, WaitObject::Channel(info));
            }
            ("sends", [channel]) => {
                let info = Box::new(*self.channel(channel));
                self.wait(subject, WaitReason::MpscSend, WaitObject::Channel(info));
            }
            ("reserves", [channel]) => {
                let info = *self.channel(channel);
                self.wait(subject, WaitReason::MpscReserve, WaitObject::Channel(Box::new(info)));
            }
            ("sleeps", []) => self.wait(subject, WaitReason::Sleep, WaitObject::None),
            ("reads", []) => self.wait(subject, WaitReason::TcpRead, WaitObject::Created(SITE)),
            ("notified", []) => self.wait(subject, WaitReason::Cancelled, WaitObject::None),
            ("runs", []) => self.task(subject).phase = Phase::Running,
            ("ready", []) => self.task(subject).phase = Phase::Scheduled,
            ("ending", []) => self.task(subject).phase = Phase::Ending,
            ("dead", []) => self.task(subject).unwakeable = true,
            ("foreign", []) => self.task(subject).foreign_wakers = 1,
            ("astray", []) => self.task(subject).astray = true,
            ("unsettled", []) => self.task(subject).settled = false,
            ("unowned", []) => self.task(subject).own_wakers += 1,
            ("borrowed", []) => self.task(subject).waits.last_mut().unwrap().own = false,
            ("main", []) => self.task(subject).kind = TaskKind::Main,
            ("cancelled", []) => {
                let reason = CancelInfo { reason: "cancelled".into(), site: None, since: Duration::ZERO };
                self.task(subject).cancelled = Some(Box::new(reason));
            }
            ("in", [scope]) => self.task(subject).scope = id(scope),
            ("of", [owner, options @ ..]) => self.open(subject, owner, options),
            ("held", holders) => self.lock(subject).holders = holders.iter().map(holder).collect(),
            ("shared", holders) => {
                let lock = self.lock(subject);
                lock.shared = true;
                lock.holders = holders.iter().map(holder).collect();
            }
            ("unknown", []) => self.lock(subject).holders = vec![HolderInfo::Unknown],
            ("free", []) => self.lock(subject).holders = Vec::new(),
            ("queued", [n]) => self.lock(subject).waiters = n.parse().unwrap(),
            ("from", [name, rest @ ..]) => {
                let channel = self.channel(subject);
                channel.last_sender = user(name);
                if *rest == ["0", "senders"] {
                    channel.senders = 0;
                }
            }
            ("to", [name]) => self.channel(subject).last_receiver = user(name),
            _ => panic!("{words:?}"),
        }
    }

    fn open(&mut self, name: &str, owner: &str, options: &[&str]) {
        let mut scope = ScopeInfo {
            id: id(name),
            name: Some(name.to_owned()),
            opened_at: Some(SITE),
            parent: Some(ROOT),
            kind: ScopeKind::Plain,
            owner: Some(id(owner)),
            children: 0,
            held_back: 0,
            deadline: None,
            cancelled: false,
            closing: false,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "plain" => {}
                "try" => scope.kind = ScopeKind::Try,
                "super" => scope.kind = ScopeKind::Supervisor,
                "deadline" => scope.deadline = Some(Duration::from_secs(9)),
                "cancelled" => scope.cancelled = true,
                "hidden" => scope.children += 1,
                "heldback" => scope.held_back = 1,
                "daemons" => {
                    scope.kind = ScopeKind::Daemons;
                    scope.parent = Some(id(options.next().unwrap()));
                    scope.owner = None;
                }
                option => panic!("{option}"),
            }
        }
        self.scopes.insert(name.to_owned(), scope);
    }

    fn finish(mut self) -> Snapshot {
        let counts: Vec<u64> = self.tasks.values().map(|task| task.scope).collect();
        for scope in self.scopes.values_mut() {
            if let Some(owner) = self.tasks.values().find(|task| Some(task.id) == scope.owner) {
                scope.parent = Some(owner.scope);
            }
            self.hidden += scope.children;
            scope.children += counts.iter().filter(|&&of| of == scope.id).count() as u64;
        }
        for wait in self.tasks.values_mut().flat_map(|task| &mut task.waits) {
            match &mut wait.object {
                WaitObject::Lock(lock) => {
                    **lock = self.locks.values().find(|known| known.id == lock.id).unwrap().clone();
                }
                WaitObject::Channel(channel) => {
                    **channel = *self.channels.values().find(|known| known.id == channel.id).unwrap();
                }
                _ => {}
            }
        }
        let root = ScopeInfo {
            id: ROOT,
            name: None,
            opened_at: None,
            parent: None,
            kind: ScopeKind::Root,
            owner: None,
            children: counts.iter().filter(|&&of| of == ROOT).count() as u64,
            held_back: 0,
            deadline: None,
            cancelled: false,
            closing: false,
        };
        Snapshot {
            uptime: Duration::from_secs(2),
            scopes: [root].into_iter().chain(self.scopes.into_values()).collect(),
            newborn: self.hidden,
            ..snapshots::snapshot(self.tasks.into_values().collect())
        }
    }
}

fn read(case: &str) -> Snapshot {
    let mut reader = Reader {
        tasks: BTreeMap::new(),
        scopes: BTreeMap::new(),
        locks: BTreeMap::new(),
        channels: BTreeMap::new(),
        hidden: 0,
    };
    let clauses: Vec<Vec<&str>> = case.split(';').map(|clause| clause.split_whitespace().collect()).collect();
    // Scopes first, whatever the order in which they are told.
    let (scopes, others): (Vec<_>, Vec<_>) =
        clauses.into_iter().partition(|words| words.get(1) == Some(&"of"));
    for words in scopes.iter().chain(&others) {
        reader.clause(words);
    }
    reader.finish()
}

/// The verdicts of a live look, in the table's words.
fn verdicts(snapshot: Snapshot) -> String {
    let report = judge(snapshot, Occasion::Live);
    let letter = |id: &u64| char::from(*id as u8);
    let mut words = BTreeMap::new();
    let mut knots = Vec::new();
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::ProvenUnwakeable => 'U',
            Verdict::ProvenStuck => 'P',
            Verdict::Deadlocked => 'D',
            Verdict::Suspect => 'S',
            other => panic!("{other:?} on a live look"),
        };
        for id in &finding.ids {
            assert_eq!(words.insert(letter(id), verdict), None, "two verdicts on one task");
        }
        if finding.knots > 0 {
            let members = finding.ids.iter().map(letter).map(String::from).collect::<Vec<_>>();
            knots.push(format!("[{}]", members.join(" ")));
        }
    }
    knots.sort();
    let words = words.into_iter().map(|(task, verdict)| format!("{task}={verdict}"));
    words.chain(knots).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_case_gives_its_verdicts_and_no_other() {
    assert!(CASES.len() >= 100, "{}", CASES.len());
    let wrong: Vec<String> = CASES
        .iter()
        .map(|&(case, expected)| (case, expected, verdicts(read(case))))
        .filter(|(_, expected, found)| expected != found)
        .map(|(case, expected, found)| format!("{case}\n  expected {expected:?}\n  found    {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn a_channels_users_make_nobody_suspect_who_has_only_just_parked() {
    for (ms, expected) in [(99, ""), (100, "a=S")] {
        let mut snapshot = read("a recvs c1; c1 from z");
        snapshot.tasks[0].parked = Some(Duration::from_millis(ms));
        assert_eq!(verdicts(snapshot), expected, "{ms} ms");
    }
}

/// What one more doubt takes away it must never add to: a live task more, a waker more, and nobody is newly accused.
#[test]
fn a_doubt_never_adds_an_accusation() {
    for &(case, _) in CASES {
        let before = verdicts(read(case));
        let accused = |words: &str| -> Vec<String> {
            words.split_whitespace().filter(|word| word.contains('=')).map(str::to_owned).collect()
        };
        let snapshot = read(case);
        for place in 0..snapshot.tasks.len() {
            for doubt in [
                (|task| task.foreign_wakers += 1) as fn(&mut TaskInfo),
                |task| task.phase = Phase::Running,
                |task| task.settled = false,
            ] {
                let mut doubted = snapshot.clone();
                doubt(&mut doubted.tasks[place]);
                let after = verdicts(doubted);
                for word in accused(&after) {
                    let task = word.split('=').next().unwrap();
                    let was = accused(&before).into_iter().any(|word| word.split('=').next() == Some(task));
                    assert!(was, "{case}: a doubt about {place} accuses {word}");
                }
            }
        }
    }
}
