//! Nothing public waits without a row: each function that returns a future or a `Poll`, and each handle that can be awaited, stands in
//! `table.txt` with the test that parks a task on it and looks at the record, and with the test of its `# Cancel safety`.

mod cancel;
mod rows;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TABLE: &str = include_str!("table.txt");

/// Types that are awaited themselves. A function that returns one of these does not wait.
const HANDLES: &[&str] =
    &["JoinHandle", "Receiver", "TryHandle", "JoinScopeHandle", "ScopedJoinHandle", "DataJoinHandle"];

/// Reasons that no test parks a task on.
const NEVER: &[(&str, &str)] = &[];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read() -> scan::Crate {
    scan::read_crate(&here().join("../runtime/src"), HANDLES)
}

/// Key, row, test of the cancel safety.
fn table() -> Vec<(&'static str, &'static str, &'static str)> {
    let line = |line: &'static str| {
        let mut columns = line.split('|').map(str::trim);
        let mut next = || columns.next().unwrap_or_else(|| panic!("table.txt: three columns, not `{line}`"));
        (next(), next(), next())
    };
    TABLE.lines().map(line).collect()
}

/// The text of a test named as `file::function`, and of the macros of that file that it uses.
fn test_text(name: &str) -> Option<String> {
    let (file, function) = name.split_once("::")?;
    let tests = here().join("tests");
    let paths = [tests.join("wait_rows").join(file), tests.join(file)].map(|path| path.with_extension("rs"));
    let source = paths.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    let item = |begin: &str| {
        let at = source.find(begin)?;
        let text = &source[at..];
        Some(text[..text.find("\n}\n").unwrap_or(text.len())].to_owned())
    };
    let mut text = item(&format!("\nasync fn {function}(")).or_else(|| item(&format!("\nfn {function}(")))?;
    let macros = source
        .match_indices("\nmacro_rules! ")
        .filter_map(|(at, begin)| source[at + begin.len()..].split_once(' '));
    for (name, _) in macros {
        if text.contains(&format!("{name}!(")) {
            text.push_str(&item(&format!("\nmacro_rules! {name} "))?);
        }
    }
    Some(text)
}

/// Whether `text` calls `name`, or passes it on.
fn uses(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let after = text[at + name.len()..].trim_start_matches([':', '<']);
        !text[..at].ends_with(word) && !after.starts_with(word) || text[at + name.len()..].starts_with("::<")
    })
}

/// What is wrong with a test that the table names.
fn problem(key: &str, test: &str) -> Option<String> {
    let Some(text) = test_text(test) else {
        return Some(format!("`{key}`: there is no test `{test}`; correct its name in table.txt"));
    };
    let name = key.rsplit("::").next().unwrap();
    let by_name = !HANDLES.contains(&name) && !name.contains(' ');
    (by_name && !uses(&text, name))
        .then(|| format!("`{key}`: `{test}` does not call `{name}`; add a row to it"))
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// What is written like this in the crate is found.
#[test]
fn the_scan_finds_every_shape_of_wait() {
    let dir = leakfree_tests::TempDir::new();
    for sub in ["task", "sync"] {
        std::fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let wait = "macro_rules! reasons {\n    () => {};\n}\n\nreasons! {\n    /// Doc.\n    Join = \"JoinHandle\", Task;\n}\n";
    std::fs::write(dir.path().join("task/wait.rs"), wait).unwrap();
    let source = "
macro_rules! made {
    ($of:ident, $name:ident) => {
        impl<T> $of<T> {
            pub fn $name(&self) -> Named<'_, T> {
            }
        }
    };
}

made!(Lock, in_a_macro);

impl<T> Future for Named<'_, T> {
    type Output = ();
}

impl<T> Lock<T> {
    /// Says it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[track_caller]
    pub fn named(&self) -> Named<'_, T> {
    }

    pub async fn is_async(&self) {
    }

    pub fn opaque<F: FnOnce() -> u8>(
        self: Arc<Self>,
        f: F,
    ) -> impl Future<Output = T>
    where
        T: Clone,
    {
    }

    pub fn poll_it(&mut self, cx: &mut Context<'_>) -> Poll<T> {
    }

    pub(crate) fn hidden(&self) -> Named<'_, T> {
    }

    pub fn does_not_wait(&self) -> T {
    }
}

pub trait Ext {
    fn of_a_trait(&mut self) -> impl Future<Output = u8> {
    }
}

pub fn free() -> Named<'static, ()> {
}
";
    std::fs::write(dir.path().join("sync/new.rs"), source).unwrap();
    let found = scan::read_crate(dir.path(), HANDLES);
    let keys: Vec<_> = found.items.keys().map(|key| key.strip_prefix("sync::new::").unwrap()).collect();
    let expected = [
        "Ext::of_a_trait",
        "Lock::in_a_macro",
        "Lock::is_async",
        "Lock::named",
        "Lock::opaque",
        "Lock::poll_it",
        "free",
    ];
    assert_eq!(keys, expected);
    let named = &found.items["sync::new::Lock::named"];
    assert!(named.docs.contains("# Cancel safety\n") && !named.polls && named.place.contains("new.rs"));
    assert!(!found.items["sync::new::Lock::opaque"].docs.contains("Cancel"));
    assert!(found.items["sync::new::Lock::poll_it"].polls);
    assert_eq!(found.reasons.into_iter().collect::<Vec<_>>(), ["Join"]);
}

#[test]
fn every_public_wait_has_a_row_and_every_row_a_wait() {
    let found = read();
    assert!(found.items.len() > 200, "the sources are read: {}", found.items.len());
    let table = table();
    let known: BTreeMap<_, _> = table.iter().map(|(key, row, _)| (*key, *row)).collect();
    let mut problems = Vec::new();
    if known.len() < table.len() || !table.is_sorted() {
        problems.push("table.txt: sort it, and let no line stand twice".to_owned());
    }
    for (key, item) in &found.items {
        if !known.contains_key(key.as_str()) {
            problems.push(format!(
                "`{key}` ({}) has no row: park a task on it in a test, see rows.rs, and add a line for it to \
                 tests/tests/wait_rows/table.txt: `{key} | file::test | file::test of its cancel safety`; or \
                 `never: ...` in the place of the first if it cannot wait",
                item.place
            ));
        }
    }
    for (key, row) in known {
        if !found.items.contains_key(key) {
            problems.push(format!("`{key}` is no public wait any more: take its line out of table.txt"));
        } else if !row.starts_with("never: ") {
            problems.extend(problem(key, row));
        }
    }
    none(problems);
}

#[test]
fn every_public_future_says_what_a_drop_does_and_has_a_test_of_it() {
    let found = read();
    let mut problems = Vec::new();
    for (key, _, test) in table() {
        let Some(item) = found.items.get(key) else { continue };
        if item.polls {
            if test != "-" {
                problems.push(format!("`{key}` is no future that could be dropped: `-` in table.txt"));
            }
            continue;
        }
        if !item.docs.contains("# Cancel safety\n") {
            problems.push(format!("`{key}` ({}): its docs have no section `# Cancel safety`", item.place));
        }
        problems.extend(problem(key, test));
    }
    none(problems);
}

#[test]
fn every_reason_is_that_of_some_row() {
    let mut seen = String::new();
    for path in scan::files(&here().join("tests")) {
        seen.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let never: BTreeSet<_> = NEVER.iter().map(|(reason, _)| *reason).collect();
    let mut problems = Vec::new();
    for reason in read().reasons {
        let has = ["R", "WaitReason"].iter().any(|of| uses(&seen, &format!("{of}::{reason}")));
        // What the macros of rows.rs are given.
        let has = has || uses(&seen, &format!(", {reason})")) || uses(&seen, &format!("_pair, {reason}"));
        if has == never.contains(reason.as_str()) {
            problems.push(if has {
                format!("`{reason}` has a row: take it out of NEVER")
            } else {
                format!("no test parks a task on `WaitReason::{reason}`: add a row to rows.rs")
            });
        }
    }
    none(problems);
}
