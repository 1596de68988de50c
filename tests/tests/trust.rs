//! What the suite promises of itself: no test builds a runtime and looks away from its report, and what `docs/TRUST.md` and
//! `CONTRIBUTING.md` name exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources below a directory.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Name and text of every function that begins at the margin; the text ends with the brace at the margin.
fn functions(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let signature =
            ["pub ", "async "].iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
        if let Some(name) = signature.strip_prefix("fn ") {
            let name = name.split(['(', '<']).next().expect("a name");
            let rest = &text[at..];
            found.push((name, &rest[..rest.find("\n}\n").map_or(rest.len(), |end| end + 2)]));
        }
        at += line.len();
    }
    found
}

/// Functions that build a runtime and do not look at its report, each with the reason why that is right.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("backtrace", "child", "prints its report, and the test reads it there"),
    (
        "block_in_place",
        "a_hook_on_a_worker_may_not",
        "its hook holds the worker's channel until the runtime is dropped",
    ),
    (
        "borrowing",
        "scopes_with_data_are_dropped_by_a_shutdown",
        "leaves twenty tasks to the shutdown, and counts their drops",
    ),
    ("main_attribute", "drops", "prints its report, and a test reads it there"),
    ("misuse", "zero_workers_are_refused", "no runtime starts"),
    (
        "outputs",
        "a_test_with_a_baseline_passes_with_exactly_its_leaks",
        "`run_test` compares the report with the baseline",
    ),
    (
        "paused",
        "tasks_in_the_grace_may_sleep",
        "its task outlives main, and ends in the grace: that is what it is about",
    ),
    (
        "programs",
        "the_grace_of_what_is_forgotten_in_a_body_ends_though_the_scope_has_ended",
        "forgets scopes for good, with what they hold",
    ),
    (
        "simulation",
        "timers_of_one_moment_are_told_in_any_order",
        "500 schedules of one scope, which has ended",
    ),
    ("simulation", "a_test_without_an_end_fails_after_so_many_steps", "`run_test` looks"),
    ("time", "advance_needs_a_paused_clock", "a panic is expected"),
    ("tokio_compat", "a_test_that_hangs_is_still_found_out_when_tokio_is_idle", "`run_test` looks"),
];

/// `#[leakfree::test]` fails a test that leaks; who builds a runtime by hand has to look for himself.
#[test]
fn whoever_builds_a_runtime_looks_at_its_report() {
    const BUILDS: [&str; 5] = ["Builder::new()", " runtime(", "=runtime(", "Runtime::new()", " simulation("];
    const LOOKS: [&str; 10] = [
        ".is_clean()",
        ".is_empty()",
        ".leaked()",
        ".findings",
        "finding(",
        "report.to_string()",
        "shut_down(",
        "find(&report",
        "check_report(",
        "-> Runtime",
    ];
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> =
        EXCEPTIONS.iter().map(|(file, name, _)| (*file, *name)).collect();
    let mut builders = 0;
    for path in sources("tests/tests") {
        let file = path.strip_prefix(root().join("tests/tests")).expect("below").with_extension("");
        let file = file.to_str().expect("ASCII");
        if file == "trust" {
            continue;
        }
        let text = read(&path);
        for (name, body) in functions(&text) {
            // Other crates have builders, too.
            let body = &body.replace("1::Builder::new()", "").replace("DirBuilder::new()", "");
            if !BUILDS.iter().any(|word| body.contains(word)) {
                continue;
            }
            builders += 1;
            let excepted = EXCEPTIONS.iter().any(|(in_file, of, _)| *in_file == file && *of == name);
            let looks = LOOKS.iter().any(|word| body.contains(word));
            if excepted {
                unused.retain(|exception| *exception != (file, name));
            }
            if looks == excepted {
                wrong.push(format!(
                    "{file}::{name}: {}",
                    if looks { "is no exception" } else { "looks at no report" }
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(builders > 100, "{builders}");
    assert!(unused.is_empty(), "exceptions that are none: {unused:?}");
}

/// Everything between backticks, and the lines of code blocks.
fn named(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.push(line.trim_start_matches("$ ").to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// What of `name` does not exist; `None` if all does, or if it is no name of ours.
fn missing(name: &str, all_sources: &str) -> Option<String> {
    let root = root();
    let is_name = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    // A test by its file and name.
    if let Some((file, test)) = name.split_once("::") {
        if is_name(file) && is_name(test) {
            let dirs = ["tests/tests", "loom-tests/tests", "soak/tests"];
            // A file of that name, or all in a directory of that name.
            let is_of = |path: &PathBuf| {
                path.components().any(|part| Path::new(&part).with_extension("") == Path::new(file))
            };
            let text: String =
                dirs.iter().flat_map(|dir| sources(dir)).filter(is_of).map(|path| read(&path)).collect();
            return (!text.contains(&format!("fn {test}("))).then(|| format!("there is no test {name}"));
        }
    }
    let words: Vec<&str> = name.split_whitespace().collect();
    let is_path = |word: &str| {
        ["ci/", ".ci/", "loom-tests/", "docs/", "tests/", "soak/", "benches/"]
            .iter()
            .any(|dir| word.starts_with(dir))
    };
    for word in &words {
        if is_path(word) && !word.contains("::") && !root.join(word).exists() {
            return Some(format!("there is no file {word}, in {name}"));
        }
        let variable = word.split('=').next().expect("at least one part");
        if variable.starts_with("LEAKFREE_") && !all_sources.contains(variable) {
            return Some(format!("nothing reads {variable}, in {name}"));
        }
    }
    for pair in words.windows(2) {
        let exists = |dirs: &[&str]| {
            let paths = |dir: &&str| [format!("{dir}/{}.rs", pair[1]), format!("{dir}/{}/main.rs", pair[1])];
            dirs.iter().flat_map(paths).any(|path| root.join(path).exists())
        };
        let there = match pair[0] {
            "--test" => exists(&["tests/tests", "soak/tests", "loom-tests/tests"]),
            "--bench" => exists(&["benches/benches"]),
            "-p" => {
                ["leakfree", "leakfree-tests", "leakfree-soak", "leakfree-benches", "leakfree-loom-tests"]
                    .contains(&pair[1])
            }
            _ => true,
        };
        if !there {
            return Some(format!("there is no {} {}, in {name}", pair[0], pair[1]));
        }
    }
    None
}

#[test]
fn what_the_documents_name_exists() {
    let all_sources: String = ["tests", "soak", "runtime/src", "loom-tests", "benches"]
        .iter()
        .flat_map(|dir| sources(dir))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
        .filter(|path| !path.ends_with("tests/trust.rs"))
        .map(|path| read(&path))
        .collect();
    for document in ["docs/TRUST.md", "CONTRIBUTING.md"] {
        let names = named(&read(&root().join(document)));
        assert!(names.len() > 20, "{document} names {} things", names.len());
        let wrong: Vec<String> = names.iter().filter_map(|name| missing(name, &all_sources)).collect();
        assert!(wrong.is_empty(), "{document}:\n{}", wrong.join("\n"));
    }
    // And it finds out.
    for wrong in [
        "faults::there_is_no_such_test",
        "ci/nothing 3",
        "LEAKFREE_NOTHING=1 cargo test",
        "cargo test --test nothing",
    ] {
        assert!(missing(wrong, &all_sources).is_some(), "{wrong}");
    }
}

/// Every promise of the table has a figure, a command and a date.
#[test]
fn every_row_of_trust_has_a_figure_a_command_and_a_date() {
    let text = read(&root().join("docs/TRUST.md"));
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")).collect();
    assert!(rows.len() >= 15, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, promised, measured, command, date] = cells[..] else { panic!("five cells: {row}") };
        assert!(
            !promised.is_empty() && measured.bytes().any(|byte| byte.is_ascii_digit()),
            "no figure: {row}"
        );
        assert!(command.contains('`'), "no command: {row}");
        let is_date = date.len() == 10 && date.split('-').count() == 3;
        assert!(is_date || date == "not run", "no date: {row}");
    }
}
