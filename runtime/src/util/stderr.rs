//! Standard error, where nobody may be reading any more: `program 2>&1 | head`. `eprint!` would panic then.

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Says something at the end of a program: in one piece, for standard error is not buffered, and others may write to the same pipe.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(text.to_string().as_bytes());
}

/// The same from a drop, which may be in a test: the harness keeps what `eprint!` says for that test's own output.
pub(crate) fn say_captured(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    let _ = catch_unwind(AssertUnwindSafe(|| eprint!("{text}")));
}
