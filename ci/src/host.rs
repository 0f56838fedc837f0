//! The machine this runs on: talk on stderr, programs, the project's folder.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use camino::Utf8PathBuf;

use crate::{Failure, Result};

/// One line on stderr.
pub(crate) fn say(line: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The folder of the workspace that this program was built in.
pub(crate) fn project() -> Utf8PathBuf {
    let manifest = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), ToOwned::to_owned)
}

/// True if `program` is in `PATH` (or in the folders of system programs, which a user's `PATH` may lack).
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}

/// Runs a step with its output shown, and says how long it took.
pub(crate) fn step(title: &str, command: &mut Command) -> Result<()> {
    say(&format!("==> {title}"));
    let start = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::environment(format!("failed to start {program}: {error}")))?;
    if !status.success() {
        return Err(Failure::user(format!("{title}: {program} ended with {status}")));
    }
    say(&format!("    {title}: {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}
