//! A snapshot of anything is judged, and what is written of it is read back: JSON by serde_json, pprof by a reader of protocol buffers, a
//! baseline by our parser. And a doubt never accuses: with one more foreign waker nothing is proven that was not proven before.

#![no_main]

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use leakfree::report::baseline::Baseline;
use leakfree::report::snapshot::{
    CancelInfo, ChannelInfo, HolderInfo, Incident, IncidentKind, LastWaker, LockInfo, NewbornPoll, Phase,
    Position, RunningInfo, ScopeInfo, ScopeKind, ShieldInfo, Site, SiteParks, Snapshot, TaskInfo, TaskKind,
    UserInfo, WaitInfo, WaitObject, WaitReason,
};
use leakfree::report::verdict::{Occasion, Report, Verdict, judge};
use libfuzzer_sys::fuzz_target;

use protobuf::{Field, fields};

#[allow(dead_code, reason = "numbers are read over")]
#[path = "../../tests/src/protobuf.rs"]
mod protobuf;

/// Choices, out of the fuzzer's bytes; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn is(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Few, so that they meet.
    fn id(&mut self) -> u64 {
        self.below(10) as u64
    }

    fn maybe<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.is().then(|| f(self))
    }

    fn many<T>(&mut self, most: usize, mut f: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| f(self)).collect()
    }

    fn text(&mut self) -> String {
        let length = self.below(9).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn time(&mut self) -> Duration {
        const TIMES: [Duration; 5] = [
            Duration::ZERO,
            Duration::from_millis(3),
            Duration::from_secs(90),
            Duration::from_secs(1 << 40),
            Duration::MAX,
        ];
        self.of(&TIMES)
    }

    fn site(&mut self) -> Site {
        static SITES: [Position; 5] = [
            Position { file: "src/a.rs", line: 1, column: 1 },
            Position { file: "src/a.rs", line: 2, column: 9 },
            Position { file: "", line: 0, column: 0 },
            Position {
                file: "a \"name\" with\n\t\u{1}\u{10ffff}\\ what JSON minds",
                line: u32::MAX,
                column: u32::MAX,
            },
            Position {
                file: "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/hyper-1.0.0/src/x.rs",
                line: 5,
                column: 5,
            },
        ];
        Site::new(&SITES[self.below(SITES.len())])
    }

    fn wait(&mut self) -> WaitInfo {
        const REASONS: [WaitReason; 12] = [
            WaitReason::Join,
            WaitReason::ScopeEnd,
            WaitReason::Cancelled,
            WaitReason::Sleep,
            WaitReason::TcpRead,
            WaitReason::MutexLock,
            WaitReason::RwLockRead,
            WaitReason::SemaphoreAcquire,
            WaitReason::OneshotRecv,
            WaitReason::MpscRecv,
            WaitReason::MpscSend,
            WaitReason::Notified,
        ];
        let reason = self.of(&REASONS);
        let object = match self.below(7) {
            0 => WaitObject::None,
            1 => WaitObject::Created(self.site()),
            2 => WaitObject::Task(self.id()),
            3 => WaitObject::Scope(self.id()),
            4 => WaitObject::Label("a \"label\""),
            5 => {
                let holder = |c: &mut Self| match c.below(3) {
                    0 => HolderInfo::Unknown,
                    1 => HolderInfo::Task { id: c.id(), site: c.site() },
                    _ => HolderInfo::Owned { id: c.id(), site: c.site() },
                };
                let (id, created, holders) = (self.id(), self.site(), self.many(3, holder));
                let (waiters, shared) = (self.id(), self.is());
                WaitObject::Lock(Box::new(LockInfo { id, created, holders, waiters, shared }))
            }
            _ => {
                let user = |c: &mut Self| UserInfo { task: NonZeroU64::new(c.id()), site: c.site() };
                let (id, created) = (self.id(), self.site());
                let (senders, receivers) = (self.below(3) as u32, self.below(3) as u32);
                let (last_sender, last_receiver) = (self.maybe(user), self.maybe(user));
                let channel = ChannelInfo { id, created, senders, receivers, last_sender, last_receiver };
                WaitObject::Channel(Box::new(channel))
            }
        };
        WaitInfo { reason, object, site: self.site(), own: self.byte() < 192 }
    }

    fn task(&mut self, id: u64) -> TaskInfo {
        let waits = self.many(3, Self::wait);
        let own = waits.iter().filter(|wait| wait.own).count() as u32;
        // Most of them without a doubt, or nothing would ever be proven.
        let odd = self.byte();
        TaskInfo {
            id,
            name: self.maybe(|c| c.text().into()),
            kind: self.of(&[TaskKind::Async, TaskKind::Async, TaskKind::Main, TaskKind::Blocking]),
            spawned_at: self.site(),
            scope: self.id(),
            phase: self.of(&[
                Phase::Parked,
                Phase::Parked,
                Phase::Parked,
                Phase::Scheduled,
                Phase::Running,
                Phase::Ending,
            ]),
            lived: self.time(),
            parked: self.maybe(Self::time),
            polls: u64::from(self.byte()),
            own_wakers: if odd & 1 == 0 { own } else { self.below(4) as u32 },
            waits,
            foreign_wakers: if odd & 6 == 6 { 1 } else { 0 },
            astray: odd & 24 == 24,
            settled: odd & 96 != 96,
            unwakeable: odd & 128 == 128,
            last_waker: self.maybe(|c| {
                Box::new(match c.below(3) {
                    0 => LastWaker::NeverRegistered,
                    1 => LastWaker::DroppedByTask {
                        id: c.id(),
                        spawned_at: c.site(),
                        last_wait: c.maybe(Self::site),
                    },
                    _ => LastWaker::DroppedByThread,
                })
            }),
            cancelled: (self.byte() > 224).then(|| {
                Box::new(CancelInfo { reason: self.text(), site: self.maybe(Self::site), since: self.time() })
            }),
            shields: self.many(1, |c| ShieldInfo { site: c.site(), since: c.time() }).into(),
            running: self.maybe(|c| Box::new(RunningInfo { worker: c.below(3), since: c.time() })),
            stacks: Box::default(),
            bytes: usize::from(self.byte()),
        }
    }

    fn scope(&mut self, id: u64) -> ScopeInfo {
        const KINDS: [ScopeKind; 6] = [
            ScopeKind::Root,
            ScopeKind::Plain,
            ScopeKind::Try,
            ScopeKind::Supervisor,
            ScopeKind::Daemons,
            ScopeKind::Cleanups,
        ];
        ScopeInfo {
            id,
            name: self.maybe(Self::text),
            opened_at: self.maybe(Self::site),
            parent: self.maybe(Self::id),
            kind: self.of(&KINDS),
            owner: self.maybe(Self::id),
            children: self.id(),
            held_back: (self.below(4) / 3) as u64,
            deadline: (self.byte() > 192).then(|| self.time()),
            cancelled: self.byte() > 192,
            closing: self.is(),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut ids = 0..10;
        let tasks = self.many(8, |c| ids.next().map(|id| c.task(id))).into_iter().flatten().collect();
        let mut ids = 0..10;
        let scopes = self.many(6, |c| ids.next().map(|id| c.scope(id))).into_iter().flatten().collect();
        Snapshot {
            uptime: self.time(),
            tasks,
            scopes,
            newborn: self.id(),
            newborn_polls: self.many(2, |c| NewbornPoll {
                worker: c.byte().into(),
                task: c.id(),
                spawned_at: c.site(),
                since: c.time(),
            }),
            finished: self.id(),
            unwakeable_total: self.id(),
            incidents: self.many(2, |c| Incident {
                kind: c.of(&[
                    IncidentKind::SparePanic,
                    IncidentKind::ScopeForgotten,
                    IncidentKind::CleanupCut,
                ]),
                site: c.maybe(Self::site),
                message: c.text(),
            }),
            timers: self.id() / 5,
            tokio_tasks: self.id() / 5,
            sites: self.many(2, |c| SiteParks {
                spawned_at: c.site(),
                samples: u64::from(c.byte()) * 100,
                p99: c.time(),
                longest: c.time(),
            }),
        }
    }
}

/// The fields of a message that are messages or texts.
fn inner(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    fields(bytes).into_iter().filter_map(|field| match field {
        Field::Bytes(number, bytes) => Some((number, bytes)),
        Field::Number(..) => None,
    })
}

/// The tasks of which that is said, or something stronger.
fn said(report: &Report, at_least: Verdict) -> BTreeSet<u64> {
    let findings = report.findings.iter().filter(|finding| finding.verdict <= at_least);
    findings.flat_map(|finding| finding.ids.iter().copied()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let occasion = choices.of(&[Occasion::Live, Occasion::Shutdown, Occasion::TestEnd]);
    let doubt = usize::from(choices.byte());
    let snapshot = choices.snapshot();
    let mut doubted = snapshot.clone();
    let report = judge(snapshot, occasion);

    let text = report.to_json();
    let json: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(json["leaked"], report.leaked());
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(report.findings.len()));

    let pprof = report.to_pprof();
    for (field, bytes) in inner(&pprof) {
        match field {
            6 => _ = std::str::from_utf8(bytes).expect("UTF-8"),
            1 | 4 | 5 => _ = fields(bytes),
            2 => inner(bytes).filter(|(field, _)| *field == 3).for_each(|(_, label)| _ = fields(label)),
            _ => {}
        }
    }
    let _ = (report.to_string(), report.to_folded(), report.to_dot());

    let mut baseline = Baseline::default();
    baseline.update("tests::one", &report);
    assert_eq!(Baseline::parse(&baseline.to_text()).as_ref(), Ok(&baseline), "{}", baseline.to_text());
    assert!(baseline.compare("tests::one", &report).is_empty());

    if !doubted.tasks.is_empty() {
        let doubt = doubt % doubted.tasks.len();
        doubted.tasks[doubt].foreign_wakers += 1;
        let less = judge(doubted, occasion);
        for verdict in [Verdict::ProvenStuck, Verdict::Deadlocked] {
            let (less, more) = (said(&less, verdict), said(&report, verdict));
            assert!(less.is_subset(&more), "{verdict:?}: {less:?} of {more:?}, with a doubt about {doubt}");
        }
    }
});
