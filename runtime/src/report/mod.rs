//! Reports: plain data in ([`snapshot`]), pure judgement ([`verdict`]), text and JSON out, and what other tools read.
//!
//! `LEAKFREE_REPORT` says where the report of `#[leakfree::main]` goes: `text` (the default) or `json` to standard
//! error, `off`, or a path. By its ending the file gets
//!
//! | ending | what | for |
//! |---|---|---|
//! | `.json` | [`Report::to_json`] | scripts |
//! | `.folded` | [`Report::to_folded`] | flame graphs |
//! | `.pprof`, `.pb` | [`Report::to_pprof`] | `go tool pprof` |
//! | `.dot` | [`Report::to_dot`] | Graphviz |
//! | any other | the text | people |
//!
//! So does that of a runtime that is dropped, if something leaked. Of several the last one has the path, and those before it have a number before the
//! ending: `leaks.1.json`.

pub mod baseline;
pub(crate) mod collect;
mod graph;
pub mod json;
pub mod pprof;
mod proof;
pub mod snapshot;
pub mod suspect;
mod text;
pub mod verdict;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use self::verdict::Report;
use crate::util::stderr;

/// The variable that steers reports.
const VARIABLE: &str = "LEAKFREE_REPORT";

/// Where a report goes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Output {
    Off,
    Text,
    Json,
    File(PathBuf),
}

/// Reads the variable's value.
fn output(value: Option<&OsStr>) -> Result<Output, String> {
    let Some(value) = value else { return Ok(Output::Text) };
    match value.to_str() {
        Some("" | "text") => Ok(Output::Text),
        Some("off") => Ok(Output::Off),
        Some("json") => Ok(Output::Json),
        Some(other) if !other.contains(['/', '.', '\\']) => Err(format!(
            "leakfree: {VARIABLE}={other:?} is none of off, text, json, or a path (with a `/` or a `.` in it); \
             the report follows as text"
        )),
        // What is no UTF-8 can only be a path.
        _ => Ok(Output::File(value.into())),
    }
}

/// The report at the end of main.
pub(crate) fn emit_final(report: &Report) {
    emit(report, stderr::say);
}

/// The report of a runtime that was dropped without a `shutdown`.
pub(crate) fn emit_if_leaked(report: &Report) {
    if !report.is_empty() {
        emit(report, stderr::say_captured);
    }
}

fn emit(report: &Report, say: fn(fmt::Arguments<'_>)) {
    let value = std::env::var_os(VARIABLE);
    let output = output(value.as_deref()).unwrap_or_else(|message| {
        say(format_args!("{message}\n"));
        Output::Text
    });
    match output {
        Output::Off => {}
        Output::Text if report.is_empty() && report.suspects() == 0 && value.is_none() => {}
        Output::Text => say(format_args!("{report}")),
        Output::Json => say(format_args!("{}", report.to_json())),
        Output::File(path) => {
            let bytes = match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => report.to_json().into_bytes(),
                Some("folded") => report.to_folded().into_bytes(),
                Some("dot") => report.to_dot().into_bytes(),
                Some("pprof" | "pb") => report.to_pprof(),
                _ => report.to_string().into_bytes(),
            };
            keep_written(&path);
            if let Err(error) = std::fs::write(&path, bytes) {
                let shown = path.display();
                say(format_args!("leakfree: the report could not be written to {shown}: {error}\n{report}"));
            }
        }
    }
}

/// Moves the report that this process wrote there before out of the way.
fn keep_written(path: &Path) {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let before = WRITTEN.fetch_add(1, Relaxed);
    if before > 0 {
        let mut number = OsString::from(before.to_string());
        if let Some(ending) = path.extension() {
            number.push(".");
            number.push(ending);
        }
        let _ = std::fs::rename(path, path.with_extension(number));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
