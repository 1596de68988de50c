//! Verdicts and their rendering, a line a case.

use std::time::Duration;

use super::snapshot::*;
use super::verdict::{Occasion, Verdict, judge};
use super::{Output, output};

const SPAWN: Site = Site { file: "src/conn.rs", line: 90, column: 9 };
const WAIT: Site = Site { file: "src/conn.rs", line: 97, column: 22 };
const MADE: Site = Site { file: "src/conn.rs", line: 80, column: 5 };
const SCOPE: Site = Site { file: "src/main.rs", line: 19, column: 5 };

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
        shields: Vec::new(),
        astray: false,
        settled: true,
        running: None,
        stacks: Vec::new(),
        bytes: 160,
    }
}

fn waits(reason: WaitReason) -> TaskInfo {
    let wait = WaitInfo { reason, object: WaitObject::Created(MADE), site: WAIT, own: true };
    TaskInfo { waits: vec![wait], own_wakers: 1, ..task(7) }
}

fn unwakeable(last_waker: Option<LastWaker>) -> TaskInfo {
    TaskInfo { unwakeable: true, last_waker, ..task(7) }
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
