//! Verdicts and their rendering, a line a case.

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
   why: no waker exists; the last one was dropped by task 5, spawned src/conn.rs:80:5, which had waited at \
src/conn.rs:97:22 before. Only cancellation can end it.",
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
    let mut deep = snapshot(vec![TaskInfo { scope: 100_000, ..task(1) }]);
    deep.scopes = (1..=100_000).map(|id| scope(id, false)).collect();
    let report = judge(deep, Occasion::Shutdown);
    assert_eq!(report.findings[0].path.len(), 6);
    assert_eq!(report.findings[0].path_cut, 99_994);
    assert!(report.to_string().contains("... 99,994 more ..."), "{report}");
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
    assert_eq!(output(None), Ok(Output::Text));
    assert_eq!(output(Some("off")), Ok(Output::Off));
    assert_eq!(output(Some("json")), Ok(Output::Json));
    assert_eq!(output(Some("out/leaks.json")), Ok(Output::File("out/leaks.json".into())));
    assert!(output(Some("jsn")).unwrap_err().contains("off, text, json, or a path"));
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
    let many: Vec<_> = (10..20_010).map(|id| w(id, &[3], 20_000)).chain([dead]).collect();
    let report = judge(snapshot(many), Occasion::Live);
    assert_eq!(report.findings.iter().map(|finding| finding.ids.len()).max(), Some(20_000));
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
