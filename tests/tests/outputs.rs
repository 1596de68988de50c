//! A report in the forms that other tools read, and the baseline of known leaks.

#![allow(unnameable_test_items)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use leakfree::report::baseline::Baseline;
use leakfree::report::verdict::Report;
use leakfree::runtime::{Builder, Handle};
use leakfree::sync::{Mutex, oneshot};
use leakfree_tests::runtime;

/// Where things stand in `tangle`; lines and columns are counted by hand.
const FILE: &str = "tests/tests/outputs.rs";

struct Places {
    main: String,
    scope: String,
    stuck: String,
    joiner: String,
    join: String,
    lock: String,
    locked: String,
}

/// Two tasks of a scope "db" that wait for each other, and a victim that waits for one of them by a join.
fn tangle() -> (Report, Places) {
    let runtime = Builder::new().workers(1).build().unwrap();
    let at = |line: u32, column: u32| format!("{FILE}:{line}:{column}");
    let first = line!();
    let report = runtime.block_on(async {
        let scope = leakfree::Scope::builder().name("db").scope(async |s: leakfree::Scope| {
            let locks = [Arc::new(Mutex::new(())), Arc::new(Mutex::new(()))];
            let ((ready_a, a), (ready_b, b)) = (oneshot::channel(), oneshot::channel());
            let mut meet = [(Some(ready_a), Some(b)), (Some(ready_b), Some(a))];
            let tasks = [0, 1].map(|n| {
                let (mine, other) = (locks[n].clone(), locks[1 - n].clone());
                let (ready, met) = (meet[n].0.take().unwrap(), meet[n].1.take().unwrap());
                s.spawn(async move {
                    let _mine = mine.lock().await;
                    let _ = ready.send(());
                    met.await.unwrap();
                    let _other = other.lock().await;
                })
            });
            let [one, _two] = tasks;
            s.task().name("victim").spawn(async move { drop(one.await) });
            loop {
                let report = Handle::current().report();
                if report.leaked() == 3 {
                    s.cancel("seen enough");
                    return report;
                }
                leakfree::yield_now().await;
            }
        });
        scope.await
    });
    assert!(runtime.shutdown().is_clean());
    let places = Places {
        main: at(first + 1, 26),
        scope: at(first + 2, 59),
        stuck: at(first + 9, 19),
        locked: at(first + 10, 38),
        lock: at(first + 13, 40),
        joiner: at(first + 17, 37),
        join: at(first + 17, 65),
    };
    (report, places)
}

#[test]
fn folded_stacks_go_from_the_root_to_the_wait() {
    let (report, at) = tangle();
    let Places { main, scope, stuck, joiner, join, lock, .. } = &at;
    // The body itself runs: it is in no wait.
    assert_eq!(
        report.to_folded().lines().collect::<Vec<_>>(),
        [
            format!("main {main} 1"),
            format!("main {main};scope \"db\" {scope};task \"victim\" {joiner};JoinHandle {join} 1"),
            format!("main {main};scope \"db\" {scope};task {stuck};Mutex::lock {lock} 2"),
        ]
    );
}

#[test]
fn the_drawing_has_the_knot_and_its_victim() {
    let (report, at) = tangle();
    let dot = report.to_dot();
    let ids: Vec<u64> = report.findings.iter().flat_map(|finding| finding.ids.clone()).collect();
    let [a, b, victim] = ids.as_slice() else { panic!("{report}") };
    let Places { stuck, joiner, join, lock, locked, .. } = &at;
    for line in [
        format!(r#"  t{a} [label="task {a}\n{stuck}\nDEADLOCKED" color=red];"#),
        format!(r#"  t{victim} [label="task \"victim\" {victim}\n{joiner}\nDEADLOCKED" color=red];"#),
        format!(r#"  t{a} -> t{b} [label="Mutex::lock\n{lock}\nlocked {locked}"];"#),
        format!(r#"  t{b} -> t{a} [label="Mutex::lock\n{lock}\nlocked {locked}"];"#),
    ] {
        assert!(dot.lines().any(|found| found == line), "{line}\nis not in\n{dot}");
    }
    assert!(dot.contains(&format!(r#" [label="JoinHandle\n{join}"];"#)), "{dot}");
    assert!(dot.starts_with("digraph leakfree {\n") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 3, "{dot}");
}

// ---- pprof ----------------------------------------------------------------------------------------

/// One field of a protocol buffer message.
#[derive(Clone, PartialEq, Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Reads a message, by the encoding's description: field numbers and values in their order.
fn decode(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return n;
            }
        }
        panic!("a number of more than 64 bits");
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(value.to_vec())
            }
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn all(message: &[(u64, Field)], number: u64) -> Vec<Field> {
    message.iter().filter(|(n, _)| *n == number).map(|(_, field)| field.clone()).collect()
}

fn messages(message: &[(u64, Field)], number: u64) -> Vec<Vec<(u64, Field)>> {
    let decode_bytes = |field| match field {
        Field::Bytes(bytes) => decode(&bytes),
        Field::Number(n) => panic!("{n} is no message"),
    };
    all(message, number).into_iter().map(decode_bytes).collect()
}

fn number(message: &[(u64, Field)], of: u64) -> u64 {
    match all(message, of).as_slice() {
        [] => 0,
        [Field::Number(n)] => *n,
        other => panic!("{other:?}"),
    }
}

fn packed(message: &[(u64, Field)], of: u64) -> Vec<u64> {
    let [Field::Bytes(bytes)] = &all(message, of)[..] else { panic!("one packed field") };
    // A packed row of numbers reads as numbers behind a key each.
    let mut numbers = Vec::new();
    let mut n = (0u64, 0);
    for byte in bytes {
        n.0 |= u64::from(byte & 0x7f) << n.1;
        n.1 += 7;
        if *byte < 0x80 {
            numbers.push(n.0);
            n = (0, 0);
        }
    }
    numbers
}

#[test]
fn the_profile_decodes_to_stacks_values_and_labels() {
    let (report, at) = tangle();
    let profile = decode(&report.to_pprof());
    let strings: Vec<String> = all(&profile, 6)
        .into_iter()
        .map(|field| match field {
            Field::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            Field::Number(n) => panic!("{n} is no text"),
        })
        .collect();
    let text = |index: u64| strings[index as usize].as_str();
    assert_eq!(strings[0], "");
    let types: Vec<_> = messages(&profile, 1)
        .iter()
        .map(|of| (text(number(of, 1)).to_owned(), text(number(of, 2)).to_owned()))
        .collect();
    assert_eq!(types, [("tasks".into(), "count".into()), ("age".into(), "nanoseconds".into())]);
    assert_eq!(text(number(&profile, 14)), "tasks");

    let functions: HashMap<u64, (String, String, u64)> = messages(&profile, 5)
        .iter()
        .map(|f| (number(f, 1), (text(number(f, 2)).to_owned(), text(number(f, 4)).to_owned(), number(f, 5))))
        .collect();
    let locations: HashMap<u64, u64> = messages(&profile, 4)
        .iter()
        .map(|location| (number(location, 1), number(&messages(location, 4)[0], 1)))
        .collect();
    let mut found = Vec::new();
    for sample in messages(&profile, 2) {
        let stack: Vec<String> =
            packed(&sample, 1).iter().map(|location| functions[&locations[location]].0.clone()).collect();
        let labels: Vec<String> = messages(&sample, 3)
            .iter()
            .map(|label| format!("{}={}", text(number(label, 1)), text(number(label, 2))))
            .collect();
        let values = packed(&sample, 2);
        assert_eq!(values.len(), 2);
        found.push((stack, labels, values[0]));
    }
    found.sort();
    let Places { main, scope, stuck, joiner, join, lock, .. } = &at;
    let below = |frames: [String; 2]| {
        frames
            .into_iter()
            .chain([format!("scope \"db\" {scope}"), format!("main {main}")])
            .collect::<Vec<_>>()
    };
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            (
                below([format!("JoinHandle {join}"), format!("task \"victim\" {joiner}")]),
                texts(&["verdict=DEADLOCKED", "scope=db", "name=victim"]),
                1
            ),
            (
                below([format!("Mutex::lock {lock}"), format!("task {stuck}")]),
                texts(&["verdict=DEADLOCKED", "scope=db"]),
                2
            ),
            (vec![format!("main {main}")], vec![], 1),
        ]
    );
    let spawn = functions.values().find(|(name, ..)| name == &format!("task {stuck}")).unwrap();
    assert_eq!(format!("{}:{}", spawn.1, spawn.2), stuck.rsplit_once(':').unwrap().0);
}

// ---- baseline -------------------------------------------------------------------------------------

/// A file of this test's own.
fn file(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.txt", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

#[test]
fn a_baseline_tells_new_leaks_from_those_that_are_gone() {
    let (report, _) = tangle();
    let mut baseline = Baseline::default();
    let all_new = baseline.compare("db", &report);
    assert_eq!((all_new.new.len(), all_new.gone.len()), (2, 0), "knot and victim are an entry each");
    baseline.update("db", &report);
    assert!(baseline.compare("db", &report).is_empty());
    let read = Baseline::parse(&baseline.to_text()).unwrap();
    assert_eq!(read, baseline);
    let (id, what) = all_new.new[0].clone();
    let shorter: String = baseline
        .to_text()
        .lines()
        .filter(|line| !line.contains(&id))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(Baseline::parse(&shorter).unwrap().compare("db", &report).new, [(id, what)]);
    let longer = baseline.to_text() + "\n# a remark\n db 0123456789abcdef  HELD OPEN, mended last week \n";
    let gone = Baseline::parse(&longer).unwrap().compare("db", &report);
    assert_eq!(gone.gone, [("0123456789abcdef".into(), "1x HELD OPEN, mended last week".into())]);
    assert_eq!(gone.new, []);
}

#[test]
fn a_known_leak_that_grows_is_new_and_one_of_fewer_tasks_is_known() {
    let leaking = |tasks: usize| {
        let runtime = runtime(1);
        runtime.block_on(async {
            for _ in 0..tasks {
                leakfree::spawn(std::future::pending::<()>());
            }
        });
        runtime.shutdown()
    };
    let mut baseline = Baseline::default();
    baseline.update("grows", &leaking(2));
    let text = baseline.to_text();
    assert!(text.contains(" 2x PROVEN unwakeable spawned tests/tests/outputs.rs:"), "{text}");
    for fewer in [1, 2] {
        assert!(baseline.compare("grows", &leaking(fewer)).is_empty(), "{fewer}");
    }
    let grown = baseline.compare("grows", &leaking(3));
    let [(_, what)] = &grown.new[..] else { panic!("{grown:?}") };
    assert!(what.starts_with("3x PROVEN unwakeable") && what.ends_with(" (2x known)"), "{what}");
    assert!(grown.gone.is_empty());
    // Written by hand, without a number, it is one.
    let one = Baseline::parse(&text.replace(" 2x ", " ")).unwrap();
    assert!(one.compare("grows", &leaking(1)).is_empty());
    assert_eq!(one.compare("grows", &leaking(2)).new.len(), 1);
}

#[test]
fn what_is_no_baseline_is_refused_with_its_line() {
    for (text, expected) in [
        ("db", "line 1: expected a test's name and a leak's id, found \"db\""),
        ("# fine\n\ndb 12", "line 3: \"12\" is no leak's id, which has 16 hexadecimal digits"),
        (
            "db 0123456789abcdeg what",
            "line 1: \"0123456789abcdeg\" is no leak's id, which has 16 hexadecimal digits",
        ),
    ] {
        assert_eq!(Baseline::parse(text), Err(expected.to_owned()));
    }
}

/// Runs this test binary's `name` in a process of its own, which sees the baseline in a variable.
fn child(name: &str, baseline: &PathBuf, update: bool) -> (bool, String) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env("LEAKFREE_TEST_CHILD", baseline);
    command.env_remove("LEAKFREE_BASELINE");
    if update {
        command.env("LEAKFREE_BASELINE", "update");
    }
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_test_with_a_baseline_passes_with_exactly_its_leaks() {
    const NAME: &str = "a_test_with_a_baseline_passes_with_exactly_its_leaks";
    if let Some(baseline) = std::env::var_os("LEAKFREE_TEST_CHILD") {
        let runtime = Builder::new().baseline(PathBuf::from(baseline)).workers(1);
        let name = std::env::var("LEAKFREE_TEST_NAME").unwrap_or("leaks".to_owned());
        leakfree::__private::run_test(&name, runtime, async {
            leakfree::spawn(std::future::pending::<()>());
        });
        return;
    }
    let file = file("leaks");
    let (passed, said) = child(NAME, &file, false);
    assert!(!passed && said.contains("test leaks differs from the baseline"), "{said}");
    assert!(
        said.contains("  new:  ") && said.contains("PROVEN unwakeable spawned tests/tests/outputs.rs:"),
        "{said}"
    );
    assert!(said.contains("LEAKFREE_BASELINE=update"), "{said}");
    let (passed, said) = child(NAME, &file, true);
    assert!(passed, "{said}");
    assert_eq!(child(NAME, &file, false), (true, String::new()), "known now, and nothing is said");
    let known = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, known + "leaks ffffffffffffffff OUTLIVED spawned gone.rs:1:1\n").unwrap();
    let (passed, said) = child(NAME, &file, false);
    assert!(!passed && said.contains("  gone: ffffffffffffffff 1x OUTLIVED spawned gone.rs:1:1"), "{said}");
    std::fs::write(&file, "leaks nonsense\n").unwrap();
    let (passed, said) = child(NAME, &file, false);
    assert!(!passed && said.contains("is no baseline: line 1:"), "{said}");
    std::fs::remove_file(&file).unwrap();
}

/// As with runners that give each test a process of its own.
#[test]
fn processes_that_write_one_baseline_at_once_lose_nothing() {
    let file = file("at-once");
    let program = std::env::current_exe().unwrap();
    let begin = |name: usize| {
        let mut command = std::process::Command::new(&program);
        command.args(["--exact", "a_test_with_a_baseline_passes_with_exactly_its_leaks"]);
        command.env("LEAKFREE_TEST_CHILD", &file).env("LEAKFREE_TEST_NAME", name.to_string());
        command.env("LEAKFREE_BASELINE", "update").stdout(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..32).map(begin).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let known = std::fs::read_to_string(&file).unwrap();
    assert_eq!(known.lines().filter(|line| !line.starts_with('#')).count(), 32, "{known}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_attribute_takes_a_baseline() {
    #[leakfree::test(baseline = "tests/no-such-baseline.txt")]
    async fn clean() {}
    clean();
    #[leakfree::test(baseline = "tests/no-such-baseline.txt")]
    async fn leaks() {
        leakfree::spawn(std::future::pending::<()>());
    }
    let failed = catch_unwind(AssertUnwindSafe(leaks)).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.contains("differs from the baseline tests/no-such-baseline.txt"), "{message}");
}
