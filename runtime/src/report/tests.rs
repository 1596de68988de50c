//! Verdicts and their rendering, a line a case.

use std::sync::OnceLock;
use std::time::Duration;

use super::baseline::Baseline;
use super::snapshot::*;
use super::verdict::{Occasion, Verdict, judge};
use super::{Output, output};

const SPAWN: Site = Site::new(&Position { file: "src/conn.rs", line: 90, column: 9 });
const WAIT: Site = Site::new(&Position { file: "src/conn.rs", line: 97, column: 22 });
const MADE: Site = Site::new(&Position { file: "src/conn.rs", line: 80, column: 5 });
const SCOPE: Site = Site::new(&Position { file: "src/main.rs", line: 19, column: 5 });

/// A task parked in the root scope.
fn task(id: u64) -> TaskInfo {
    TaskInfo {
        id,
        name: None,
        kind: TaskKind::Async,
        spawned_at: SPAWN,
        scope: 1,
        phase: Phase::Parked,
        lived: Duration::from_millis(3100),
        parked: Some(Duration::from_millis(2900)),
        polls: 5,
        waits: Vec::new(),
        own_wakers: 0,
        foreign_wakers: 0,
        unwakeable: false,
        last_waker: None,
        cancelled: None,
        shields: Box::default(),
        astray: false,
        settled: true,
        running: None,
        stacks: Box::default(),
        bytes: 160,
    }
}

fn waits(reason: WaitReason) -> TaskInfo {
    let wait = WaitInfo { reason, object: WaitObject::Created(MADE), site: WAIT, own: true };
    TaskInfo { waits: vec![wait], own_wakers: 1, ..task(7) }
}

fn unwakeable(last_waker: Option<LastWaker>) -> TaskInfo {
    TaskInfo { unwakeable: true, last_waker: last_waker.map(Box::new), ..task(7) }
}

fn scope(id: u64, closing: bool) -> ScopeInfo {
    let inner = id > 1;
    ScopeInfo {
        id,
        name: (id == 2).then(|| "db".to_owned()),
        opened_at: inner.then_some(SCOPE),
        parent: inner.then(|| id - 1),
        owner: inner.then_some(3),
        closing,
        kind: if inner { ScopeKind::Plain } else { ScopeKind::Root },
        children: 1,
        held_back: 0,
        deadline: None,
        cancelled: false,
    }
}

fn snapshot(tasks: Vec<TaskInfo>) -> Snapshot {
    Snapshot {
        uptime: Duration::from_millis(12_400),
        tasks,
        scopes: vec![scope(1, false), scope(2, true)],
        newborn: 0,
        newborn_polls: Vec::new(),
        finished: 41_204,
        unwakeable_total: 0,
        incidents: Vec::new(),
        timers: 0,
        tokio_tasks: 0,
        sites: Vec::new(),
    }
}

#[track_caller]
fn check(occasion: Occasion, task: TaskInfo, expected: Option<Verdict>) {
    let report = judge(snapshot(vec![task]), occasion);
    assert_eq!(report.findings.first().map(|finding| finding.verdict), expected);
    assert_eq!(report.is_clean(), expected.is_none());
}

#[test]
fn a_live_look_accuses_only_who_is_proven() {
    use Occasion::Live;
    check(Live, unwakeable(None), Some(Verdict::ProvenUnwakeable));
    // A flag that the counts contradict is not believed.
    check(Live, TaskInfo { own_wakers: 1, ..unwakeable(None) }, None);
    check(Live, TaskInfo { phase: Phase::Running, ..unwakeable(None) }, None);
    check(Live, task(1), None);
    for reason in [WaitReason::Join, WaitReason::OneshotRecv, WaitReason::MutexLock, WaitReason::Sleep] {
        check(Live, waits(reason), None);
    }
    check(Live, TaskInfo { scope: 2, ..task(1) }, None);
    check(Live, TaskInfo { foreign_wakers: 1, ..task(1) }, None);
    check(Live, TaskInfo { kind: TaskKind::Blocking, phase: Phase::Running, ..task(1) }, None);
}

#[test]
fn who_is_alive_at_an_end_is_a_leak() {
    for end in [Occasion::Shutdown, Occasion::TestEnd] {
        check(end, unwakeable(None), Some(Verdict::ProvenUnwakeable));
        check(end, TaskInfo { scope: 2, ..unwakeable(None) }, Some(Verdict::ProvenUnwakeable));
        check(end, task(1), Some(Verdict::Outlived));
        check(end, waits(WaitReason::Sleep), Some(Verdict::Outlived));
        check(end, waits(WaitReason::TcpAccept), Some(Verdict::Outlived));
        check(end, TaskInfo { scope: 2, ..task(1) }, Some(Verdict::HeldOpen));
        check(end, TaskInfo { phase: Phase::Running, parked: None, ..task(1) }, Some(Verdict::Outlived));
        check(end, TaskInfo { kind: TaskKind::Blocking, ..task(1) }, Some(Verdict::Outlived));
        check(end, TaskInfo { kind: TaskKind::Main, ..task(1) }, None);
    }
}

#[test]
fn a_task_that_was_never_polled_is_a_leak_too() {
    let newborn = Snapshot { newborn: 2, ..snapshot(vec![]) };
    assert_eq!(judge(newborn.clone(), Occasion::Shutdown).leaked(), 2);
    assert!(judge(newborn, Occasion::Live).is_clean());
}

#[test]
fn tasks_alike_are_one_finding() {
    let mut tasks: Vec<_> = (1..=37).map(task).collect();
    tasks[20].lived = Duration::from_secs(41);
    let mut report = judge(snapshot(tasks.clone()), Occasion::Shutdown);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].ids.len(), 37);
    assert_eq!(report.findings[0].bytes, 37 * 160);
    assert_eq!(report.findings[0].task.lived, Duration::from_secs(41));
    // What is told with it is its own.
    let mut scopes = vec![scope(1, false), scope(2, true), ScopeInfo { parent: Some(1), ..scope(3, true) }];
    scopes[2].owner = Some(30);
    scopes[2].deadline = Some(Duration::from_secs(9));
    let [young, old] = [(2, 2), (3, 41)].map(|(scope, lived)| TaskInfo {
        scope,
        lived: Duration::from_secs(lived),
        ..task(scope)
    });
    let held = judge(Snapshot { scopes, ..snapshot(vec![young, old]) }, Occasion::Shutdown);
    assert_eq!((held.findings.len(), held.findings[0].task.id), (1, 3));
    assert_eq!((held.findings[0].path[0].id, held.findings[0].path[0].owner), (3, Some(30)));
    assert_eq!(held.findings[0].deadline, Some(Duration::from_secs(9)));
    let equal = judge(snapshot((1..=3).map(task).collect()), Occasion::Shutdown);
    assert_eq!(equal.findings[0].task.id, 1, "of those that lived as long the first stands for all");
    tasks[0].name = Some("other".into());
    tasks[1].scope = 2;
    tasks[2].spawned_at = WAIT;
    tasks[3] = TaskInfo { id: 4, ..waits(WaitReason::OneshotRecv) };
    report = judge(snapshot(tasks), Occasion::Shutdown);
    assert_eq!(report.findings.len(), 5, "name, scope, spawn site and wait each tell apart");
    assert_eq!(report.leaked(), 37);
}

#[test]
fn leak_ids_depend_on_sites_and_verdict_alone() {
    let id = |task| judge(snapshot(vec![task]), Occasion::Shutdown).findings[0].leak_id.clone();
    let a = id(waits(WaitReason::OneshotRecv));
    let mut later = waits(WaitReason::OneshotRecv);
    (later.id, later.polls, later.lived) = (99, 1, Duration::from_secs(9));
    assert_eq!(a, id(later));
    assert_ne!(a, id(waits(WaitReason::MpscRecv)));
    assert_ne!(a, id(TaskInfo { unwakeable: true, own_wakers: 0, ..waits(WaitReason::OneshotRecv) }));
    assert_eq!(a.len(), 16);
}

#[test]
fn coverage_counts_complete_wait_sets() {
    let tasks = vec![
        waits(WaitReason::Join),
        task(8),
        TaskInfo { foreign_wakers: 1, ..task(9) },
        TaskInfo { own_wakers: 2, ..waits(WaitReason::Join) },
        TaskInfo { phase: Phase::Running, parked: None, ..task(10) },
    ];
    assert_eq!(judge(snapshot(tasks), Occasion::Shutdown).coverage, (2, 4));
}

#[test]
fn an_unresponsive_task_counts_once_and_keeps_its_first_verdict() {
    let blocking = TaskInfo { kind: TaskKind::Blocking, phase: Phase::Running, parked: None, ..task(4) };
    let mut report = judge(snapshot(vec![blocking.clone(), task(5)]), Occasion::Shutdown);
    report.add_unresponsive(&snapshot(vec![blocking]));
    let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Outlived, Verdict::Outlived, Verdict::Unresponsive]);
    assert_eq!(report.leaked(), 2);
}

#[track_caller]
fn check_text(task: TaskInfo, expected: &str) {
    let text = judge(snapshot(vec![task]), Occasion::Shutdown).to_string();
    // The leak id is tested on its own.
    let lines: Vec<&str> = text.lines().skip(2).map(|line| line.split("   [").next().unwrap()).collect();
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn the_text_says_who_where_since_when_and_why() {
    check_text(
        TaskInfo { name: Some("flush".into()), scope: 2, ..waits(WaitReason::OneshotRecv) },
        "\
1. HELD OPEN
   task 7 \"flush\"   spawned src/conn.rs:90:9   in scope \"db\" src/main.rs:19:5 < main
     parked 2.9 s in oneshot::Receiver at src/conn.rs:97:22   channel created src/conn.rs:80:5
     lived 3.1 s, 5 polls
   why: the body of its scope, opened src/main.rs:19:5, has ended, and task 3 waits there until this one ends. \
Its sender has neither sent nor been dropped: somebody keeps it.",
    );
    let by = LastWaker::DroppedByTask { id: 5, spawned_at: MADE, last_wait: Some(WAIT) };
    check_text(
        unwakeable(Some(by)),
        "\
1. PROVEN unwakeable
   task 7   spawned src/conn.rs:90:9   in main
     parked 2.9 s outside leakfree's own waits
     lived 3.1 s, 5 polls
   why: no waker exists; the last one was dropped by task 5, spawned src/conn.rs:80:5, whose last wait began at \
src/conn.rs:97:22. Only cancellation can end it.",
    );
}

#[test]
fn the_header_counts() {
    let header = |report: super::verdict::Report| report.to_string().lines().next().unwrap().to_owned();
    assert_eq!(
        header(judge(snapshot(vec![task(1)]), Occasion::Shutdown)),
        "leakfree: 1 leaked task at shutdown (41,204 finished, 12 s, coverage 1/1)"
    );
    assert_eq!(
        header(judge(snapshot(vec![]), Occasion::TestEnd)),
        "leakfree: no leaked tasks at the test's end (41,204 finished, 12 s)"
    );
}

#[test]
fn a_long_scope_path_is_cut_in_the_middle() {
    let depth = if cfg!(miri) { 1_000 } else { 100_000 };
    let mut deep = snapshot(vec![TaskInfo { scope: depth, ..task(1) }]);
    deep.scopes = (1..=depth).map(|id| scope(id, false)).collect();
    let report = judge(deep, Occasion::Shutdown);
    assert_eq!(report.findings[0].path.len(), 6);
    assert_eq!(report.findings[0].path_cut as u64, depth - 6);
    let cut = if cfg!(miri) { "... 994 more ..." } else { "... 99,994 more ..." };
    assert!(report.to_string().contains(cut), "{report}");
}

/// Scopes that moved between two looks: the way up from one leads back to it.
#[test]
fn a_circle_of_scopes_is_cut_and_proves_nothing() {
    for circle in [vec![2], vec![3, 4, 2]] {
        let join =
            WaitInfo { object: WaitObject::Task(1), own: true, ..waits(WaitReason::Join).waits[0].clone() };
        let stuck = TaskInfo { waits: vec![join], own_wakers: 1, settled: true, scope: 2, ..task(1) };
        let mut look = snapshot(vec![stuck]);
        look.scopes = (1..=4).map(|id| scope(id, false)).collect();
        let without = judge(look.clone(), Occasion::Live);
        assert_eq!(without.findings[0].verdict, Verdict::ProvenStuck, "it joins itself");
        for (at, scope) in circle.iter().enumerate() {
            look.scopes[*scope as usize - 1].parent = Some(circle[(at + 1) % circle.len()]);
        }
        let report = judge(look, Occasion::Live);
        assert!(report.findings.is_empty(), "{report}");
        let _ =
            (report.to_string(), report.to_json(), report.to_pprof(), report.to_folded(), report.to_dot());
    }
}

#[test]
fn a_baseline_is_read_back_whatever_a_path_has_in_it() {
    const ODD: Site =
        Site::new(&Position { file: "a path  with\nlines\r and\ttabs\u{85}.rs", line: 1, column: 1 });
    let report = judge(snapshot(vec![TaskInfo { spawned_at: ODD, ..task(1) }]), Occasion::Shutdown);
    let mut baseline = Baseline::default();
    baseline.update("tests::one", &report);
    assert_eq!(Baseline::parse(&baseline.to_text()).as_ref(), Ok(&baseline), "{}", baseline.to_text());
    assert!(baseline.compare("tests::one", &report).is_empty());
}

#[test]
fn a_baseline_knows_all_that_is_not_clean() {
    let clean = judge(snapshot(vec![]), Occasion::Shutdown);
    let incident = |kind, site| Incident { kind, site: Some(site), message: "1 live child".into() };
    let forgotten = |site| {
        let incidents = vec![incident(IncidentKind::ScopeForgotten, site)];
        judge(Snapshot { incidents, ..snapshot(vec![]) }, Occasion::Shutdown)
    };
    let newborn = |n| judge(Snapshot { newborn: n, ..snapshot(vec![]) }, Occasion::Shutdown);
    let baseline = Baseline::default();
    for report in [forgotten(SCOPE), newborn(1)] {
        assert!(!report.is_clean());
        assert_eq!(baseline.compare("main", &report).new.len(), 1, "{report}");
        let mut known = baseline.clone();
        known.update("main", &report);
        assert_eq!(Baseline::parse(&known.to_text()).as_ref(), Ok(&known));
        assert!(known.compare("main", &report).is_empty());
        assert_eq!(known.compare("main", &clean).gone.len(), 1);
        assert!(!known.compare("main", &forgotten(MADE)).is_empty(), "another one");
    }
    let mut known = baseline.clone();
    known.update("main", &newborn(1));
    assert!(known.compare("main", &newborn(2)).is_empty(), "how many have not parked yet is not for ever");
    let told = vec![incident(IncidentKind::SparePanic, SPAWN), incident(IncidentKind::CleanupCut, SPAWN)];
    let told = judge(Snapshot { incidents: told, ..snapshot(vec![]) }, Occasion::Shutdown);
    assert!(told.is_clean() && baseline.compare("main", &told).is_empty());
}

#[test]
fn the_json_is_json_and_says_the_same() {
    let named = TaskInfo { name: Some("a \"quoted\"\n\u{1} name \\".into()), ..waits(WaitReason::MpscRecv) };
    let report =
        judge(snapshot(vec![named, unwakeable(Some(LastWaker::NeverRegistered))]), Occasion::Shutdown);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["schema"], "leakfree-report/1");
    assert_eq!(json["leaked"], 1, "both have the id 7");
    assert_eq!(json["findings"][0]["verdict"], "proven_unwakeable");
    assert_eq!(json["findings"][0]["last_waker"]["how"], "never_registered");
    assert_eq!(json["findings"][1]["name"], "a \"quoted\"\n\u{1} name \\");
    assert_eq!(json["findings"][1]["waits"][0]["reason"], "mpsc::Receiver::recv");
    assert_eq!(json["findings"][1]["waits"][0]["created_at"], "src/conn.rs:80:5");
    assert_eq!(json["findings"][1]["cancelled"], serde_json::Value::Null);
    assert_eq!(json["coverage"]["parked"], 2);
}

#[test]
fn the_variable_is_understood_or_refused() {
    let of = |value: &str| output(Some(value.as_ref()));
    assert_eq!(output(None), Ok(Output::Text));
    assert_eq!(of("off"), Ok(Output::Off));
    assert_eq!(of("json"), Ok(Output::Json));
    assert_eq!(of("out/leaks.json"), Ok(Output::File("out/leaks.json".into())));
    assert!(of("jsn").unwrap_err().contains("off, text, json, or a path"));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(b"caf\xe9");
        assert_eq!(output(Some(path)), Ok(Output::File(path.into())));
    }
}

// ---- shared locks -------------------------------------------------------------------------------

/// A task that waits for a lock that may have several holders.
fn waits_shared(id: u64, holders: &[u64], waiters: u64) -> TaskInfo {
    let holder = |&id: &u64| match id {
        0 => HolderInfo::Unknown,
        id => HolderInfo::Task { id, site: WAIT },
    };
    let holders = holders.iter().map(holder).collect();
    let lock = LockInfo { id: 1, created: MADE, holders, waiters, shared: true };
    let wait = WaitInfo {
        reason: WaitReason::RwLockWrite,
        object: WaitObject::Lock(Box::new(lock)),
        site: WAIT,
        own: true,
    };
    TaskInfo { id, waits: vec![wait], own_wakers: 1, ..task(id) }
}

/// The stuck tasks, those in a knot marked.
#[track_caller]
fn check_stuck(tasks: Vec<TaskInfo>, expected: &[(u64, bool)]) {
    let report = judge(snapshot(tasks), Occasion::Live);
    let mut found: Vec<(u64, bool)> = report
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Deadlocked)
        .flat_map(|finding| finding.ids.iter().map(|id| (*id, finding.knots > 0)))
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_shared_lock_is_stuck_only_if_all_who_hold_it_and_all_who_are_queued_are() {
    let w = waits_shared;
    check_stuck(vec![w(1, &[1], 1)], &[(1, true)]);
    check_stuck(vec![w(1, &[1], 2), w(2, &[1], 2)], &[(1, true), (2, true)]);
    // Nobody holds it; somebody who cannot be told; a task that is gone; one that lives.
    check_stuck(vec![w(1, &[], 1)], &[]);
    check_stuck(vec![w(1, &[1, 0], 1)], &[]);
    check_stuck(vec![w(1, &[1, 9], 1)], &[]);
    check_stuck(vec![w(1, &[1, 2], 1), waits(WaitReason::Sleep), TaskInfo { id: 2, ..task(2) }], &[]);
    // More are queued than the snapshot has, or fewer.
    check_stuck(vec![w(1, &[1], 2)], &[]);
    check_stuck(vec![w(1, &[1], 0)], &[]);
    // Who is queued, too, may go on, or be dropped.
    let deadline = TaskInfo { cancelled: None, foreign_wakers: 1, ..w(2, &[1], 2) };
    check_stuck(vec![w(1, &[1], 2), deadline], &[]);
    check_stuck(vec![w(1, &[1], 2), TaskInfo { settled: false, ..w(2, &[1], 2) }], &[]);
    // Two tasks that saw the lock differently.
    check_stuck(vec![w(1, &[1], 2), w(2, &[1, 2], 2)], &[]);
    // A wait that was polled with another waker is not counted, so somebody is missing.
    let mut foreign = w(2, &[1], 2);
    foreign.waits[0].own = false;
    check_stuck(vec![w(1, &[1], 2), foreign], &[]);
    // Victims of a holder that nothing can wake: no knot, however many are queued.
    let dead = TaskInfo { id: 3, unwakeable: true, ..task(3) };
    check_stuck(vec![w(1, &[3], 2), w(2, &[3], 2), dead.clone()], &[(1, false), (2, false)]);
    // Many at once, in a time that is not their square.
    let many: Vec<_> = (10..50_010).map(|id| w(id, &[3], 50_000)).chain([dead]).collect();
    let report = judge(snapshot(many), Occasion::Live);
    assert_eq!(report.findings.iter().map(|finding| finding.ids.len()).max(), Some(50_000));
}

#[test]
fn locks_and_channels_are_told_in_text_and_json() {
    let many = waits_shared(7, &[3, 4, 5, 6, 0], 1);
    check_text(
        TaskInfo { foreign_wakers: 1, ..many.clone() },
        "\
1. OUTLIVED main
   task 7   spawned src/conn.rs:90:9   in main
     parked 2.9 s in RwLock::write at src/conn.rs:97:22   lock created src/conn.rs:80:5, held by task 3 (locked \
src/conn.rs:97:22), task 4 (locked src/conn.rs:97:22), task 5 (locked src/conn.rs:97:22) and 2 more
     lived 3.1 s, 5 polls
   why: alive when main's body had returned. 1 waker held outside leakfree's own queues: whoever holds one can still wake it.",
    );
    let channel = ChannelInfo {
        id: 1,
        created: MADE,
        senders: 2,
        receivers: 1,
        last_sender: Some(UserInfo { task: std::num::NonZeroU64::new(5), site: SPAWN }),
        last_receiver: None,
    };
    let mut receives = waits(WaitReason::MpscRecv);
    receives.waits[0].object = WaitObject::Channel(Box::new(channel));
    check_text(
        receives.clone(),
        "\
1. OUTLIVED main
   task 7   spawned src/conn.rs:90:9   in main
     parked 2.9 s in mpsc::Receiver::recv at src/conn.rs:97:22   channel created src/conn.rs:80:5, 2 senders, last sent by \
task 5 at src/conn.rs:90:9
     lived 3.1 s, 5 polls
   why: alive when main's body had returned. At least one sender has not been dropped, so the channel stays open, and nothing \
is sent. And the last to use the other end, task 5, has ended.",
    );
    let json = |task| -> serde_json::Value {
        let report = judge(snapshot(vec![task]), Occasion::Shutdown);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        json["findings"][0]["waits"][0].clone()
    };
    let lock = json(many);
    assert_eq!((lock["holders"][1]["task"].as_u64(), lock["waiters"].as_u64()), (Some(4), Some(1)));
    assert!(lock["holders"][4]["task"].is_null() && lock["held_by"].is_null() && lock["channel"].is_null());
    let one = json(waits_shared(7, &[3], 2));
    assert_eq!((one["held_by"]["task"].as_u64(), &one["created_at"]), (Some(3), &"src/conn.rs:80:5".into()));
    let channel = json(receives);
    assert_eq!(channel["channel"]["senders"], 2);
    assert_eq!(channel["channel"]["last_sender"]["site"], "src/conn.rs:90:9");
    assert!(channel["channel"]["last_receiver"].is_null() && channel["holders"].is_null());
}

/// A look at a million tasks is to stay under 300 MB.
#[test]
fn what_a_look_keeps_of_a_task_is_small() {
    let one = size_of::<TaskInfo>() + size_of::<WaitInfo>() + size_of::<ChannelInfo>();
    assert!(one <= 284, "{one} bytes, and 16 for the first pass");
}

// ---- every shape ---------------------------------------------------------------------------------

/// A report of one finding, and its JSON.
fn told(snapshot: Snapshot, occasion: Occasion) -> (String, serde_json::Value) {
    let report = judge(snapshot, occasion);
    (report.to_string(), serde_json::from_str(&report.to_json()).unwrap())
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[test]
fn each_phase_and_kind_is_told() {
    let running = |worker| Some(Box::new(RunningInfo { worker, since: Duration::from_millis(40) }));
    let one = |task: TaskInfo| told(snapshot(vec![task]), Occasion::TestEnd);
    let at_rest = TaskInfo { parked: None, ..task(4) };
    for (task, kind, phase, words) in [
        (
            TaskInfo { phase: Phase::Running, running: running(3), ..at_rest.clone() },
            "async",
            "running",
            "running on worker 3 for 40 ms at most",
        ),
        (
            TaskInfo { phase: Phase::Running, ..at_rest.clone() },
            "async",
            "running",
            "running, or about to run",
        ),
        (TaskInfo { phase: Phase::Scheduled, ..at_rest.clone() }, "async", "scheduled", "in a run queue"),
        (
            TaskInfo { phase: Phase::Ending, ..at_rest.clone() },
            "async",
            "ending",
            "ended; it waits for the tasks below it",
        ),
        (
            TaskInfo { phase: Phase::Ending, ..task(4) },
            "async",
            "ending",
            "ended 2.9 s ago; it waits for the tasks below it",
        ),
        (
            TaskInfo { kind: TaskKind::Blocking, phase: Phase::Running, ..at_rest.clone() },
            "blocking",
            "running",
            "running on a thread of the blocking pool",
        ),
    ] {
        let (text, json) = one(task);
        has(&text, &[words, "OUTLIVED the test", "alive when the test's body had returned."]);
        let finding = &json["findings"][0];
        assert_eq!((finding["kind"].as_str(), finding["phase"].as_str()), (Some(kind), Some(phase)));
        assert_eq!(json["occasion"], "test_end");
        assert_eq!(finding["running"]["worker"].as_u64(), text.contains("worker 3").then_some(3));
    }
    let (text, json) =
        told(snapshot(vec![TaskInfo { kind: TaskKind::Main, ..unwakeable(None) }]), Occasion::Live);
    has(&text, &["main task 7", " now (", "who dropped the last one was not recorded"]);
    assert_eq!(
        (json["findings"][0]["kind"].as_str(), json["occasion"].as_str()),
        (Some("main"), Some("live"))
    );
}

#[test]
fn who_dropped_the_last_waker_is_told() {
    let by_task = |last_wait| LastWaker::DroppedByTask { id: 5, spawned_at: MADE, last_wait };
    for (last, how, words) in [
        (LastWaker::NeverRegistered, "never_registered", "left none behind"),
        (LastWaker::DroppedByThread, "dropped_by_thread", "dropped by a thread outside any task"),
        (by_task(None), "dropped_by_task", "dropped by task 5, spawned src/conn.rs:80:5. Only"),
        (by_task(Some(WAIT)), "dropped_by_task", "whose last wait began at src/conn.rs:97:22"),
    ] {
        let (text, json) = told(snapshot(vec![unwakeable(Some(last))]), Occasion::Live);
        has(&text, &[words]);
        let last = &json["findings"][0]["last_waker"];
        assert_eq!(last["how"], how);
        if how == "dropped_by_task" {
            assert_eq!(
                (last["task"].as_u64(), last["spawned_at"].as_str()),
                (Some(5), Some("src/conn.rs:80:5"))
            );
            assert_eq!(last["last_wait"].is_null(), !text.contains("whose last wait began at"));
        }
    }
}

#[test]
fn cancels_shields_and_what_does_not_respond_are_told() {
    let cancelled = Some(Box::new(CancelInfo {
        reason: "shutdown".to_owned(),
        site: Some(SCOPE),
        since: Duration::from_millis(300),
    }));
    let shields = vec![ShieldInfo { site: MADE, since: Duration::from_millis(200) }].into_boxed_slice();
    let shielded = TaskInfo { cancelled: cancelled.clone(), shields, ..task(1) };
    let mut in_place = TaskInfo { phase: Phase::Running, ..waits(WaitReason::BlockInPlace) };
    in_place.id = 2;
    let blocking = TaskInfo { kind: TaskKind::Blocking, phase: Phase::Running, parked: None, ..task(3) };
    let running = TaskInfo { phase: Phase::Running, parked: None, ..task(4) };
    let below = TaskInfo { cancelled, ..task(5) };
    let mut report = judge(snapshot(vec![]), Occasion::Shutdown);
    report.add_unresponsive(&snapshot(vec![shielded, in_place, blocking, running, below]));
    assert_eq!((report.leaked(), report.findings.len()), (5, 5));
    let text = report.to_string();
    has(
        &text,
        &[
            "cancelled 300 ms ago: shutdown",
            "shielded for 200 ms at src/conn.rs:80:5",
            "the shield holds its drop off as long as it is pending",
            "the task goes no further before it ends",
            "a blocking call cannot be stopped from outside; its thread was left behind",
            "it has been inside one poll since before the cancel",
            "it was cancelled, and something below it has not ended.",
        ],
    );
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] == "unresponsive"));
    let shielded = findings.iter().find(|finding| finding["ids"][0] == 1).unwrap();
    assert_eq!(
        (&shielded["shields"][0]["since_ms"], &shielded["shields"][0]["site"]),
        (&200.into(), &"src/conn.rs:80:5".into())
    );
    let cancel = &shielded["cancelled"];
    assert_eq!((&cancel["reason"], &cancel["site"]), (&"shutdown".into(), &"src/main.rs:19:5".into()));
    assert_eq!(cancel["since_ms"], 300);
}

#[test]
fn incidents_and_who_never_parked_are_told() {
    let incident =
        |kind, site: Option<Site>, message: &str| Incident { kind, site, message: message.to_owned() };
    let mut many = snapshot(vec![]);
    many.newborn = 5;
    many.tokio_tasks = 2;
    many.scopes[1].held_back = 3;
    many.incidents = vec![
        incident(IncidentKind::SparePanic, Some(SPAWN), "out of paper"),
        incident(IncidentKind::ScopeForgotten, Some(SCOPE), "2 children"),
        incident(IncidentKind::CleanupCut, None, "it had 1 s"),
    ];
    let (text, json) = told(many.clone(), Occasion::Shutdown);
    has(
        &text,
        &[
            "5 leaked tasks",
            "2 tasks were spawned and never parked",
            "3 tasks are held back by the bound on its scope's children",
            "2 tasks are alive in the tokio runtime",
            "SECOND PANIC in a task spawned src/conn.rs:90:9: out of paper",
            "FORGOTTEN SCOPE opened src/main.rs:19:5, with 2 children",
            "CLEANUP CUT OFF, deferred an unknown place: it had 1 s",
        ],
    );
    let kinds: Vec<_> =
        json["incidents"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["spare_panic", "scope_forgotten", "cleanup_cut"]);
    assert_eq!(
        (&json["incidents"][0]["site"], &json["incidents"][2]["site"]),
        (&"src/conn.rs:90:9".into(), &serde_json::Value::Null)
    );
    assert_eq!((json["newborn"].as_u64(), json["tokio_tasks"].as_u64()), (Some(5), Some(2)));

    // A forgotten scope is a leak without a task; a panic that had to stand back is none.
    let only =
        |at: usize| Snapshot { newborn: 0, incidents: vec![many.incidents[at].clone()], ..many.clone() };
    for (at, is_clean) in [(0, true), (1, false), (2, true)] {
        let report = judge(only(at), Occasion::Shutdown);
        assert_eq!((report.is_clean(), report.is_empty(), report.leaked()), (is_clean, false, 0));
    }
    assert!(judge(snapshot(vec![]), Occasion::Shutdown).is_empty());
    let one = judge(snapshot(vec![task(1)]), Occasion::Shutdown);
    assert!(!one.is_empty() && !one.is_clean());
}

#[test]
fn suspicions_are_told_and_are_no_leaks() {
    let usual = SiteParks {
        spawned_at: SPAWN,
        samples: 1000,
        p99: Duration::from_millis(4),
        longest: Duration::from_millis(8),
    };
    let mut long = snapshot(vec![TaskInfo { foreign_wakers: 1, ..task(1) }]);
    long.sites = vec![usual];
    let (text, json) = told(long, Occasion::Live);
    has(
        &text,
        &[
            "no leaked tasks, 1 suspect",
            "of 1,000 sampled parks",
            "99 in 100 took at most 4 ms, and none more than 8 ms",
        ],
    );
    let why = &json["findings"][0]["suspicion"];
    assert_eq!(
        (&why["why"], &why["samples"], &why["usual_longest_ms"]),
        (&"long_park".into(), &1000.into(), &8.into())
    );
    assert_eq!((json["leaked"].as_u64(), json["suspects"].as_u64()), (Some(0), Some(1)));

    let (text, json) = told(snapshot(vec![waits(WaitReason::OneshotRecv)]), Occasion::Quiescent);
    has(&text, &["where nothing can run any more", "no task can run, no timer is armed"]);
    let finding = &json["findings"][0];
    assert_eq!((&finding["verdict"], &finding["suspicion"]["why"]), (&"suspect".into(), &"quiescent".into()));
    assert_eq!(json["occasion"], "quiescent");

    // One waits for a message of a task that has ended, another for the first to end.
    let channel = ChannelInfo {
        id: 1,
        created: MADE,
        senders: 1,
        receivers: 1,
        last_sender: Some(UserInfo { task: std::num::NonZeroU64::new(50), site: SPAWN }),
        last_receiver: None,
    };
    let mut receives = waits(WaitReason::MpscRecv);
    receives.waits[0].object = WaitObject::Channel(Box::new(channel));
    let mut joins = TaskInfo { id: 8, ..waits(WaitReason::Join) };
    joins.waits[0].object = WaitObject::Task(7);
    let (text, json) = told(snapshot(vec![receives, joins]), Occasion::Live);
    has(
        &text,
        &[
            "the last to use the other end, task 50, has ended. Anybody who holds that end can still use it.",
            "it waits for task 7, which is suspected, too",
            "task 7 spawned src/conn.rs:90:9",
        ],
    );
    let whys: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["suspicion"]["why"].as_str().unwrap())
        .collect();
    assert!(whys.contains(&"behind") && whys.contains(&"channel_user"), "{whys:?}");
}

#[test]
fn what_is_waited_for_is_told() {
    let one = |reason, object: WaitObject| {
        let mut task = waits(reason);
        task.waits[0].object = object;
        let (text, json) = told(snapshot(vec![task]), Occasion::Shutdown);
        (text, json["findings"][0]["waits"][0].clone())
    };
    let (text, wait) = one(WaitReason::Labelled, WaitObject::Label("a reply"));
    has(&text, &["\"a reply\" at src/conn.rs:97:22"]);
    assert_eq!(wait["label"], "a reply");
    let (_, wait) = one(WaitReason::Join, WaitObject::Task(9));
    assert_eq!(wait["task"], 9);
    let (_, wait) = one(WaitReason::ScopeEnd, WaitObject::Scope(2));
    assert_eq!(wait["scope"], 2);
    let (_, wait) = one(WaitReason::Sleep, WaitObject::None);
    assert!(wait["created_at"].is_null() && wait["task"].is_null() && wait["scope"].is_null());
    let lock = |holders| {
        WaitObject::Lock(Box::new(LockInfo { id: 1, created: MADE, holders, waiters: 1, shared: true }))
    };
    let (text, wait) = one(WaitReason::RwLockRead, lock(vec![HolderInfo::Owned { id: 3, site: SPAWN }]));
    has(&text, &["an owned guard (locked by task 3, src/conn.rs:90:9; wherever it is now)"]);
    assert_eq!(wait["holders"].as_array().unwrap().len(), 1);
    let (text, _) = one(WaitReason::SemaphoreAcquire, lock(vec![]));
    has(&text, &["nobody holds permits"]);
    let (text, _) = one(WaitReason::MutexLock, lock(vec![]));
    has(&text, &["mutex created src/conn.rs:80:5, free"]);
    let outside = |reason| {
        let user = Some(UserInfo { task: None, site: SPAWN });
        let channel = ChannelInfo {
            id: 1,
            created: MADE,
            senders: 1,
            receivers: 2,
            last_sender: None,
            last_receiver: user,
        };
        one(reason, WaitObject::Channel(Box::new(channel))).0
    };
    has(&outside(WaitReason::MpscSend), &["2 receivers, last received outside a task at src/conn.rs:90:9"]);
    // Of each wait it is said what would end it.
    for reason in (0..=u8::MAX).filter_map(WaitReason::from_number) {
        let (text, wait) = one(reason, WaitObject::Created(MADE));
        let why = text.lines().find(|line| line.starts_with("   why: ")).unwrap();
        assert!(why.ends_with('.') && why.matches(". ").count() == 1, "{}: {why}", reason.name());
        assert_eq!(wait["reason"], reason.name());
    }
}

#[test]
fn knots_are_told_member_by_member_up_to_a_number() {
    let ring = |from: u64, n: u64| {
        (0..n).map(move |at| {
            let mut joins = TaskInfo { id: from + at, ..waits(WaitReason::Join) };
            joins.waits[0].object = WaitObject::Task(from + (at + 1) % n);
            joins
        })
    };
    let (text, json) = told(snapshot(ring(1, 20).collect()), Occasion::Live);
    has(
        &text,
        &[
            "20 leaked tasks",
            "PROVEN stuck, knot of 20",
            "and 4 more in the knot",
            "only tasks of the knot could end them",
        ],
    );
    let finding = &json["findings"][0];
    assert_eq!((&finding["verdict"], &finding["count"]), (&"proven_stuck".into(), &20.into()));
    assert_eq!(finding["knot"].as_array().unwrap().len(), 15, "16 with the one that stands for it");
    assert_eq!(finding["knot"][0]["waits"][0]["reason"], "JoinHandle");
    let (text, json) = told(snapshot(ring(1, 2).chain(ring(3, 2)).collect()), Occasion::Live);
    has(&text, &["PROVEN stuck, 2 knots alike of 2"]);
    assert_eq!((&json["findings"][0]["knots"], &json["findings"][0]["count"]), (&2.into(), &4.into()));
}

#[test]
fn the_graph_draws_who_waits_for_whom() {
    let with = |id, reason, object| {
        let mut task = TaskInfo { id, ..waits(reason) };
        task.waits[0].object = object;
        task
    };
    let holders = vec![HolderInfo::Owned { id: 5, site: SPAWN }, HolderInfo::Unknown];
    let lock = LockInfo { id: 1, created: MADE, holders, waiters: 1, shared: true };
    let tasks = vec![
        with(1, WaitReason::ScopeEnd, WaitObject::Scope(2)),
        with(2, WaitReason::Join, WaitObject::Task(3)),
        TaskInfo { scope: 2, ..unwakeable(None) },
        TaskInfo { id: 3, unwakeable: true, own_wakers: 0, waits: Vec::new(), ..task(3) },
        TaskInfo { id: 5, foreign_wakers: 1, kind: TaskKind::Blocking, ..task(5) },
        with(6, WaitReason::RwLockRead, WaitObject::Lock(Box::new(lock))),
        with(9, WaitReason::Sleep, WaitObject::None),
    ];
    let dot = judge(snapshot(tasks), Occasion::Live).to_dot();
    has(
        &dot,
        &["t1 -> t7", "t2 -> t3", "t6 -> t5", "blocking call 5", "locked src/conn.rs:90:9", "color=red"],
    );
    assert!(!dot.contains("t9"), "it waits for nobody: {dot}");
    let many =
        (1..=1500).map(|id| with(id, WaitReason::Join, WaitObject::Task(2000))).chain([task(2000)]).collect();
    let dot = judge(snapshot(many), Occasion::Shutdown).to_dot();
    has(&dot, &["501 more tasks are not drawn", "color=orange"]);
    let folded =
        judge(snapshot(vec![with(1, WaitReason::Labelled, WaitObject::Label("a;b"))]), Occasion::Live)
            .to_folded();
    has(&folded, &["waiting \"a,b\""]);
}

// ---- bounds --------------------------------------------------------------------------------------

#[test]
fn who_is_in_a_scope_that_is_open_has_outlived_it_and_does_not_hold_it() {
    let mut open = snapshot(vec![TaskInfo { scope: 2, ..task(1) }]);
    open.scopes[1].closing = false;
    assert_eq!(judge(open, Occasion::Shutdown).findings[0].verdict, Verdict::Outlived);
    // The root closes with the runtime.
    let mut root = snapshot(vec![task(1)]);
    root.scopes[0].closing = true;
    assert_eq!(judge(root, Occasion::Shutdown).findings[0].verdict, Verdict::Outlived);
    // Daemons and cleanups, and who is below them, are not the end's affair.
    for kind in [ScopeKind::Daemons, ScopeKind::Cleanups] {
        let mut aside = snapshot(vec![TaskInfo { scope: 3, ..task(1) }, TaskInfo { scope: 2, ..task(2) }]);
        aside.scopes[1].kind = kind;
        aside.scopes.push(scope(3, false));
        assert!(judge(aside.clone(), Occasion::Shutdown).is_empty());
        aside.tasks[0] = TaskInfo { scope: 3, unwakeable: true, ..task(1) };
        assert_eq!(
            judge(aside.clone(), Occasion::Live).leaked(),
            1,
            "on a live look they are judged like all"
        );
    }
}

#[test]
fn a_path_is_cut_when_it_is_longer_than_both_ends() {
    for (depth, ids, cut) in
        [(6, vec![6, 5, 4, 3, 2, 1], 0), (7, vec![7, 6, 5, 3, 2, 1], 1), (9, vec![9, 8, 7, 3, 2, 1], 3)]
    {
        let mut deep = snapshot(vec![TaskInfo { scope: depth, ..task(1) }]);
        deep.scopes = (1..=depth).map(|id| scope(id, false)).collect();
        let finding = &judge(deep, Occasion::Shutdown).findings[0];
        let path: Vec<u64> = finding.path.iter().map(|scope| scope.id).collect();
        assert_eq!((path, finding.path_cut), (ids, cut));
    }
    // A scope that is not in the snapshot has no path.
    let lost = snapshot(vec![TaskInfo { scope: 77, ..task(1) }]);
    let finding = &judge(lost, Occasion::Shutdown).findings[0];
    assert_eq!((finding.path.len(), finding.path_cut), (0, 0));
}

#[test]
fn a_stack_is_cut_when_it_is_longer_than_both_ends() {
    // The root has no frame, a task parked in nothing of ours has one.
    for (depth, frames) in [(1, 1), (128, 128), (129, 129), (130, 129), (1000, 129)] {
        let mut deep = snapshot(vec![TaskInfo { scope: depth, ..task(1) }]);
        deep.scopes = (1..=depth).map(|id| ScopeInfo { owner: None, ..scope(id, false) }).collect();
        let folded = judge(deep, Occasion::Shutdown).to_folded();
        assert_eq!(folded.split(';').count(), frames, "{depth}");
        assert_eq!(folded.contains(";...;"), depth > 128, "{depth}: {folded}");
        assert!(folded.ends_with("task src/conn.rs:90:9 1\n"), "{folded}");
    }
}

#[test]
fn the_way_to_who_is_to_blame_is_told_up_to_a_number() {
    static PLACES: OnceLock<Vec<Position>> = OnceLock::new();
    let places = PLACES.get_or_init(|| (0..100).map(|line| Position { line, ..*SPAWN }).collect());
    let joins = |id: u64, of: u64| {
        let mut task =
            TaskInfo { id, spawned_at: Site::new(&places[id as usize]), ..waits(WaitReason::Join) };
        task.waits[0].object = WaitObject::Task(of);
        task
    };
    let chain: Vec<_> =
        (1..20).map(|id| joins(id, id + 1)).chain([TaskInfo { unwakeable: true, ..task(20) }]).collect();
    let report = judge(snapshot(chain), Occasion::Live);
    let way = |id: u64| &report.findings.iter().find(|finding| finding.ids == [id]).unwrap().waits_for;
    assert!(way(20).is_empty());
    assert_eq!(way(19), &[20]);
    assert_eq!(way(15), &[16, 17, 18, 19, 20]);
    assert_eq!(way(1), &[2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(report.findings[0].ids, [20], "what is to blame comes first");
}

/// Baselines keep leak ids: they must not change from one version to the next.
#[test]
fn a_leak_id_is_for_ever() {
    let id = |task, occasion| judge(snapshot(vec![task]), occasion).findings[0].leak_id.clone();
    assert_eq!(id(waits(WaitReason::OneshotRecv), Occasion::Shutdown), "9846bb14cb77e042");
    assert_eq!(id(unwakeable(None), Occasion::Live), "228acf4ddbe39730");
}

#[test]
fn quiescent_is_a_runtime_in_which_nothing_is_left_to_happen() {
    let waits_for_another = || TaskInfo { id: 1, ..waits(WaitReason::OneshotRecv) };
    let rests = snapshot(vec![waits_for_another()]);
    assert!(rests.is_quiescent());
    let ending = TaskInfo { phase: Phase::Ending, ..task(2) };
    assert!(snapshot(vec![waits_for_another(), ending]).is_quiescent(), "it waits for the tasks below it");
    assert!(!snapshot(vec![]).is_quiescent(), "nobody is there");
    for (what, moves) in [
        ("a timer", Snapshot { timers: 1, ..rests.clone() }),
        ("a newborn", Snapshot { newborn: 1, ..rests.clone() }),
        ("a tokio task", Snapshot { tokio_tasks: 1, ..rests.clone() }),
    ] {
        assert!(!moves.is_quiescent(), "{what}");
    }
    for other in [
        TaskInfo { phase: Phase::Running, ..waits_for_another() },
        TaskInfo { phase: Phase::Scheduled, ..waits_for_another() },
        TaskInfo { foreign_wakers: 1, ..waits_for_another() },
        TaskInfo { astray: true, ..waits_for_another() },
        TaskInfo { own_wakers: 2, ..waits_for_another() },
        TaskInfo { id: 1, ..waits(WaitReason::TcpRead) },
    ] {
        assert!(!snapshot(vec![other, TaskInfo { id: 2, ..waits_for_another() }]).is_quiescent());
    }
}

/// A long park is told of tasks alone, while they are parked.
#[test]
fn only_a_parked_task_is_suspected_for_its_long_park() {
    let usual = SiteParks {
        spawned_at: SPAWN,
        samples: 100,
        p99: Duration::from_millis(1),
        longest: Duration::from_millis(1),
    };
    let suspects = |task| {
        let snapshot =
            Snapshot { sites: vec![usual], ..snapshot(vec![TaskInfo { foreign_wakers: 1, ..task }]) };
        judge(snapshot, Occasion::Live).suspects()
    };
    assert_eq!(suspects(task(1)), 1);
    assert_eq!(suspects(TaskInfo { spawned_at: WAIT, ..task(1) }), 0);
    assert_eq!(suspects(TaskInfo { phase: Phase::Ending, ..task(1) }), 0);
    assert_eq!(suspects(TaskInfo { kind: TaskKind::Main, ..task(1) }), 0);
    assert_eq!(suspects(TaskInfo { parked: None, ..task(1) }), 0);
}

/// A snapshot put together by hand need not be in order.
#[test]
fn a_snapshot_in_any_order_is_judged_alike() {
    let joins = |id: u64, of: u64| {
        let mut task = TaskInfo { id, ..waits(WaitReason::Join) };
        task.waits[0].object = WaitObject::Task(of);
        task
    };
    let report = judge(snapshot(vec![joins(9, 2), task(5), joins(2, 9)]), Occasion::Live);
    assert_eq!((report.leaked(), report.findings[0].verdict), (2, Verdict::ProvenStuck));
    assert_eq!(report.findings[0].ids, [2, 9]);
}

/// Two locks are two leaks, although they are locked in one place.
#[test]
fn what_waits_for_objects_of_other_makes_is_not_alike() {
    let lock = |created| {
        let lock = LockInfo { id: 1, created, holders: Vec::new(), waiters: 1, shared: false };
        WaitObject::Lock(Box::new(lock))
    };
    let channel = |created| {
        let ends = (None, None);
        WaitObject::Channel(Box::new(ChannelInfo {
            id: 1,
            created,
            senders: 1,
            receivers: 1,
            last_sender: ends.0,
            last_receiver: ends.1,
        }))
    };
    let objects: [&dyn Fn(Site) -> WaitObject; 3] = [&lock, &channel, &WaitObject::Created];
    for object in objects {
        let task = |id, created| {
            let mut task = TaskInfo { id, ..waits(WaitReason::MutexLock) };
            task.waits[0].object = object(created);
            task
        };
        let findings =
            |other| judge(snapshot(vec![task(1, MADE), task(2, other)]), Occasion::Shutdown).findings.len();
        assert_eq!((findings(MADE), findings(SCOPE)), (1, 2));
    }
}
