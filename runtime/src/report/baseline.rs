//! A baseline: exactly these leaks are known. A new one fails, and so does one of more tasks than are known, or one that is gone, so that the
//! list only gets shorter.
//!
//! A file of lines, one for each known leak: the name of the test (or `main`), the leak's id as reports print it, how many tasks it may be (one, if
//! that is left out), and a remark. Empty lines and lines that begin with `#` are skipped.
//!
//! ```text
//! tests::a_reply_arrives 5143e68f4561959a 2x HELD OPEN spawned src/conn.rs:90:9
//! ```
//!
//! A scope that was forgotten counts as a leak here, too, and so does it, once, if there are tasks that have never parked. Fewer tasks than are known pass, for
//! how many there are is often a matter of time.
//!
//! A leak's id is made from the places of its spawn and of its waits and from its verdict: the same in each run, another one when the code
//! moves. `LEAKFREE_BASELINE=update` writes the file anew, for the tests that run.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::snapshot::{Incident, IncidentKind};
use super::verdict::{LeakId, Report, Verdict};

/// The variable that has baselines written anew.
const VARIABLE: &str = "LEAKFREE_BASELINE";

/// Known leaks, by the name of the test that leaks them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Baseline {
    known: BTreeMap<String, BTreeMap<String, Leak>>,
}

/// What is known of a leak but its id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Leak {
    /// How many tasks, or scopes, it is.
    count: usize,
    remark: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x {}", self.count, self.remark)
    }
}

/// How a report differs from its baseline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Differences {
    /// Leaks that are not in the baseline, or of more tasks than there, each with how many there are of what.
    pub new: Vec<(String, String)>,
    /// Leaks in the baseline that are gone, each with how many are known, and its remark.
    pub gone: Vec<(String, String)>,
}

impl Differences {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty()
    }
}

/// What of a report a baseline knows, that is all that keeps it from being clean, by id.
fn leaks(report: &Report) -> BTreeMap<String, Leak> {
    let found = report.findings.iter().filter(|finding| finding.verdict != Verdict::Suspect);
    let found = found.map(|finding| {
        let what = format!("{} spawned {}", finding.verdict.name(), finding.task.spawned_at);
        (finding.leak_id.clone(), what, finding.ids.len())
    });
    let is_forgotten = |incident: &&Incident| incident.kind == IncidentKind::ScopeForgotten;
    let forgotten = report.incidents.iter().filter(is_forgotten).map(|incident| {
        let site = incident.site.map_or_else(String::new, |site| site.to_string());
        named("FORGOTTEN SCOPE opened", &site)
    });
    // Where they were spawned is known of few.
    let newborn = report.occasion.is_end() && report.newborn > 0;
    let newborn = newborn.then(|| named("spawned and never parked", ""));
    let mut leaks: BTreeMap<String, Leak> = BTreeMap::new();
    for (id, what, count) in found.chain(forgotten).chain(newborn) {
        let leak = leaks.entry(id).or_default();
        leak.count += count;
        // A path may have anything in it, and a remark is the rest of one line.
        leak.remark = what.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    leaks
}

/// Id, remark and count of what has no finding.
fn named(what: &str, site: &str) -> (String, String, usize) {
    let mut id = LeakId::new();
    id.add(what);
    id.add(site);
    (id.text(), format!("{what} {site}"), 1)
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// Says the first line that has no name and id.
    pub fn parse(text: &str) -> Result<Baseline, String> {
        let mut baseline = Baseline::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace);
            let (Some(name), Some(id)) = (words.next(), words.next()) else {
                return Err(format!(
                    "line {}: expected a test's name and a leak's id, found {line:?}",
                    number + 1
                ));
            };
            if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!(
                    "line {}: {id:?} is no leak's id, which has 16 hexadecimal digits",
                    number + 1
                ));
            }
            let rest = words.next().unwrap_or_default().trim();
            let (first, others) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let count = first.strip_suffix('x').and_then(|count| count.parse().ok());
            let (count, remark) = count.map_or((1, rest), |count| (count, others.trim()));
            let leak = Leak { count, remark: remark.to_owned() };
            baseline.known.entry(name.to_owned()).or_default().insert(id.to_owned(), leak);
        }
        Ok(baseline)
    }

    /// Compares a report with what is known of `name`.
    pub fn compare(&self, name: &str, report: &Report) -> Differences {
        let found = leaks(report);
        let none = BTreeMap::new();
        let known = self.known.get(name).unwrap_or(&none);
        let mut differences = Differences::default();
        for (id, leak) in &found {
            match known.get(id) {
                None => differences.new.push((id.clone(), leak.to_string())),
                Some(known) if leak.count > known.count => {
                    differences.new.push((id.clone(), format!("{leak} ({}x known)", known.count)));
                }
                Some(_) => {}
            }
        }
        let gone = known.iter().filter(|(id, _)| !found.contains_key(*id));
        differences.gone = gone.map(|(id, leak)| (id.clone(), leak.to_string())).collect();
        differences
    }

    /// What the report says is what is known of `name`, from now on.
    pub fn update(&mut self, name: &str, report: &Report) {
        let found = leaks(report);
        if found.is_empty() {
            self.known.remove(name);
        } else {
            self.known.insert(name.to_owned(), found);
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Known leaks: test, id, how many, what. LEAKFREE_BASELINE=update writes this file anew.\n",
        );
        for (name, leaks) in &self.known {
            for (id, leak) in leaks {
                let _ = writeln!(text, "{name} {id} {leak}");
            }
        }
        text
    }
}

/// A baseline's file. Tests that run at once share it: one of them has it at a time, in whichever process.
struct Locked(File);

impl Locked {
    fn open(path: &Path, update: bool) -> io::Result<Locked> {
        let file = OpenOptions::new().read(true).write(update).create(update).truncate(false).open(path)?;
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd;
            // Where there are no such locks it goes on without.
            // SAFETY: the descriptor is open.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
        }
        Ok(Locked(file))
    }

    fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        Ok(text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes())
    }
}

/// Compares a report with a baseline file, or writes that anew if the variable says so. What differs, in words; `None` if nothing
/// does.
pub(crate) fn check(path: &Path, name: &str, report: &Report) -> Option<String> {
    // Tests of one binary.
    static FILE: Mutex<()> = Mutex::new(());
    let _file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = path.display();
    let update = std::env::var(VARIABLE).is_ok_and(|value| value == "update");
    let read = Locked::open(path, update).and_then(|mut file| Ok((file.read()?, Some(file))));
    let (text, file) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !update => (String::new(), None),
        Err(error) => return Some(format!("the baseline {shown} could not be read: {error}")),
    };
    let mut baseline = match Baseline::parse(&text) {
        Ok(baseline) => baseline,
        Err(error) => return Some(format!("the baseline {shown} is no baseline: {error}")),
    };
    if let Some(mut file) = file.filter(|_| update) {
        baseline.update(name, report);
        let written = file.write(&baseline.to_text());
        return written.err().map(|error| format!("the baseline {shown} could not be written: {error}"));
    }
    let differences = baseline.compare(name, report);
    if differences.is_empty() {
        return None;
    }
    let mut words = format!("differs from the baseline {shown}:\n");
    for (id, what) in &differences.new {
        let _ = writeln!(words, "  new:  {id} {what}");
    }
    for (id, what) in &differences.gone {
        let _ = writeln!(words, "  gone: {id} {what}");
    }
    let _ = writeln!(words, "If that is right, run it with {VARIABLE}=update and look at what it wrote.");
    Some(words)
}
