//! Writes to the standard streams: data to stdout, talk to stderr. A closed pipe is no error of ours.

use std::io::Write;

/// Data.
pub(super) fn show(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Talk.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
