//! `#[leakfree::main]`: what a program prints at its end, where to, and how it exits. Each program is this test binary in a process of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use leakfree_tests::TempDir;

const CHILD: &str = "LEAKFREE_TEST_MAIN_CHILD";

#[leakfree::main(workers = 1, grace = "0ms")]
async fn leaks() {
    leakfree::spawn(std::future::pending::<()>());
    leakfree::yield_now().await;
}

#[leakfree::main(workers = 1, grace = "0ms", on_leak = fail)]
async fn leaks_and_fails() {
    leakfree::spawn(std::future::pending::<()>());
    leakfree::yield_now().await;
}

#[leakfree::main(workers = 1, grace = "0ms", baseline = "leaks.txt")]
async fn leaks_as_known() {
    leakfree::spawn(std::future::pending::<()>());
    leakfree::yield_now().await;
}

#[leakfree::main(workers = 1)]
async fn is_well() -> Result<(), String> {
    Ok(())
}

#[leakfree::main(workers = 1, grace = "0ms", on_leak = fail)]
async fn leaks_and_errs() -> Result<(), String> {
    leakfree::spawn(std::future::pending::<()>());
    leakfree::yield_now().await;
    Err("out of ink".to_owned())
}

#[leakfree::test]
async fn test_leaks_and_errs() -> Result<(), String> {
    let program = std::env::var(CHILD).unwrap_or_default();
    if program == "test_leaks_and_errs" {
        leakfree::spawn(std::future::pending::<()>());
        leakfree::yield_now().await;
        return Err("out of ink".to_owned());
    }
    Ok(())
}

/// A thread may still send: nothing is proven.
#[leakfree::main(workers = 1, quiescence = "50ms")]
async fn hangs() {
    let (keeps, never) = leakfree::sync::oneshot::channel::<()>();
    let _keeps = std::mem::ManuallyDrop::new(keeps);
    let _ = never.await;
}

#[leakfree::main(workers = 1, grace = "0ms", baseline = "leaks.txt")]
async fn forgets() {
    let mut scope = Box::pin(leakfree::scope(async |s: leakfree::Scope| {
        s.spawn(std::future::pending::<()>());
        std::future::pending::<()>().await;
    }));
    assert!(leakfree_tests::polled_once(scope.as_mut()).await.is_pending());
    std::mem::forget(scope);
}

#[leakfree::main(workers = 1)]
async fn panics() {
    leakfree::yield_now().await;
    panic!("out of paper");
}

/// A runtime that is dropped, and a cleanup that is skipped: both are told in a drop.
fn drops() {
    let cleanup = leakfree::defer_async(async {});
    let runtime = leakfree::runtime::Builder::new().workers(1).grace(Duration::ZERO).build().unwrap();
    let _entered = runtime.handle().spawn(std::future::pending::<()>());
    runtime.block_on(leakfree::yield_now());
    drop(runtime);
    drop(cleanup);
}

/// Two runtimes that leak, and a main that does not.
#[leakfree::main(workers = 1)]
async fn drops_two() {
    let dropped = leakfree::spawn_blocking(|| {
        drops();
        drops();
    });
    dropped.await.unwrap();
}

/// Not a test: the program that the variable names.
#[test]
fn child() {
    match std::env::var(CHILD).as_deref() {
        Ok("leaks") => leaks(),
        Ok("leaks_and_fails") => leaks_and_fails(),
        Ok("leaks_as_known") => leaks_as_known(),
        Ok("is_well") => is_well().unwrap(),
        Ok("leaks_and_errs") => leaks_and_errs().unwrap(),
        Ok("hangs") => hangs(),
        Ok("forgets") => forgets(),
        Ok("panics") => panics(),
        Ok("drops") => drops(),
        Ok("drops_two") => drops_two(),
        _ => {}
    }
}

fn run(program: &str, report: Option<&str>, dir: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, program).current_dir(dir);
    command.env_remove("LEAKFREE_REPORT").env_remove("LEAKFREE_BASELINE");
    if let Some(value) = report {
        command.env("LEAKFREE_REPORT", value);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_report_goes_where_the_variable_says() {
    let dir = TempDir::new();
    let here = dir.path();
    let text = "1 leaked task at shutdown";
    for value in [None, Some("text"), Some("")] {
        let output = run("leaks", value, here);
        assert!(stderr(&output).contains(text), "{value:?}: {}", stderr(&output));
        assert!(output.status.success(), "told, and no failure");
    }
    assert!(!stderr(&run("leaks", Some("off"), here)).contains("leakfree"));
    let json = stderr(&run("leaks", Some("json"), here));
    let line = json.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{json}"));
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((json["leaked"].as_u64(), json["occasion"].as_str()), (Some(1), Some("shutdown")));
    // What the variable cannot mean is said, and the report not lost.
    let refused = stderr(&run("leaks", Some("jsn"), here));
    assert!(refused.contains("is none of off, text, json, or a path") && refused.contains(text), "{refused}");

    for (name, begin) in
        [("r.txt", "leakfree: "), ("r.json", "{"), ("r.folded", "task "), ("r.dot", "digraph leakfree {")]
    {
        let output = run("leaks", Some(name), here);
        assert!(!stderr(&output).contains(text), "only in the file");
        let file = fs::read_to_string(here.join(name)).unwrap();
        assert!(file.starts_with(begin), "{name}: {file}");
    }
    for name in ["r.pprof", "r.pb"] {
        run("leaks", Some(name), here);
        assert!(!fs::read(here.join(name)).unwrap().is_empty(), "{name}");
    }
    let lost = stderr(&run("leaks", Some("no/such/directory/r.txt"), here));
    assert!(
        lost.contains("could not be written to no/such/directory/r.txt") && lost.contains(text),
        "{lost}"
    );
}

#[test]
fn a_program_that_is_well_says_nothing_unless_asked() {
    let dir = TempDir::new();
    let quiet = run("is_well", None, dir.path());
    assert!(quiet.status.success() && !stderr(&quiet).contains("leakfree"), "{}", stderr(&quiet));
    let asked = stderr(&run("is_well", Some("text"), dir.path()));
    assert!(asked.contains("leakfree: no leaked tasks at shutdown"), "{asked}");
}

#[test]
fn what_drops_have_to_say_is_told() {
    let said = stderr(&run("drops", None, TempDir::new().path()));
    assert!(said.contains("1 leaked task at shutdown") && said.contains("cleanup deferred at"), "{said}");
}

#[test]
fn no_report_of_a_program_takes_the_place_of_another() {
    for (name, kept) in [("r.json", ["r.1.json", "r.2.json"]), ("reports/r", ["reports/r.1", "reports/r.2"])]
    {
        let dir = TempDir::new();
        fs::create_dir(dir.path().join("reports")).unwrap();
        let output = run("drops_two", Some(name), dir.path());
        assert!(output.status.success(), "{}", stderr(&output));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(
            read(name).contains(if name == "r.json" { "\"leaked\":0" } else { "no leaked tasks" }),
            "main's"
        );
        for name in kept {
            assert!(
                read(name).to_lowercase().contains("proven"),
                "a runtime's that was dropped: {}",
                read(name)
            );
        }
    }
}

#[test]
fn a_leak_fails_the_program_if_it_says_so_and_a_panic_goes_on() {
    let dir = TempDir::new();
    let output = run("leaks_and_fails", None, dir.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 leaked task at shutdown"), "{}", stderr(&output));
    let output = run("panics", None, dir.path());
    assert!(!output.status.success() && stderr(&output).contains("out of paper"), "{}", stderr(&output));
}

#[test]
fn an_error_is_told_although_a_leak_fails_the_program_or_the_test() {
    let output = run("leaks_and_errs", None, TempDir::new().path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for words in ["1 leaked task at shutdown", "Error: \"out of ink\""] {
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "test_leaks_and_errs", "--nocapture"]).env(CHILD, "test_leaks_and_errs");
    let output = test.output().unwrap();
    assert!(!output.status.success());
    for words in ["test_leaks_and_errs leaked:", "Error: \"out of ink\""] {
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn a_program_that_is_given_up_says_why_whatever_the_report_has_to_say() {
    let dir = TempDir::new();
    for (report, told) in [(None, true), (Some("off"), false)] {
        let output = run("hangs", report, dir.path());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("leakfree: main hangs: nothing could run for 50ms"), "{said}");
        assert_eq!(said.contains("1 suspect where nothing can run any more"), told, "{said}");
    }
}

#[test]
fn a_baseline_lets_no_forgotten_scope_pass() {
    let output = run("forgets", None, TempDir::new().path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("FORGOTTEN SCOPE opened tests/tests/main_attribute.rs"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_baseline_lets_known_leaks_pass_and_no_others() {
    let dir = TempDir::new();
    let file = dir.path().join("leaks.txt");
    let fails = |words: &str| {
        let output = run("leaks_as_known", None, dir.path());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    };
    fails("new:  ");
    fs::write(&file, "no baseline").unwrap();
    fails("is no baseline");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fails("could not be read");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "").unwrap();
    let mut update = Command::new(std::env::current_exe().unwrap());
    update.args(["--exact", "child"]).env(CHILD, "leaks_as_known").current_dir(dir.path());
    assert!(update.env("LEAKFREE_BASELINE", "update").status().unwrap().success());
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written.lines().filter(|line| line.starts_with("main ")).count(), 1, "{written}");
    assert!(run("leaks_as_known", None, dir.path()).status.success(), "it is known");
    fs::write(&file, format!("{written}main 0123456789abcdef mended\n")).unwrap();
    fails("gone: 0123456789abcdef 1x mended");
}

/// As with `program 2>&1 | head`: who reads the report has gone, and the program ends as it would have.
#[test]
fn a_report_that_nobody_reads_changes_nothing() {
    let dir = TempDir::new();
    for (program, report, code) in [
        ("leaks", "text", 0),
        ("leaks", "json", 0),
        ("leaks", "jsn", 0),
        ("leaks", "no/such/directory/r.txt", 0),
        ("drops", "text", 0),
        ("leaks_and_fails", "text", 1),
        ("leaks_as_known", "text", 1),
    ] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD, program).current_dir(dir.path());
        command.env("LEAKFREE_REPORT", report).env_remove("LEAKFREE_BASELINE").stderr(write);
        assert_eq!(command.output().unwrap().status.code(), Some(code), "{program} {report}");
    }
}
