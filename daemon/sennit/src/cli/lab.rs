//! `sennit lab`: becomes the program `sennit-lab` that lies beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::Error;

const PROGRAM: &str = "sennit-lab";

/// Returns only if it fails.
pub(super) fn run(arguments: &[OsString]) -> Error {
    let beside = std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name(PROGRAM));
    let Some(program) = beside.filter(|program| program.is_file()) else {
        return Error::environment(
            format!("the program {PROGRAM} does not lie beside this one"),
            "build it: cargo build --release -p sennit-lab -p sennit",
        );
    };
    let live = [OsString::from("live")];
    let arguments = if arguments.is_empty() {
        &live[..]
    } else {
        arguments
    };
    let error = Command::new(&program).args(arguments).exec();
    Error::environment(
        format!("failed to start {}: {error}", program.display()),
        "build it again: cargo build --release -p sennit-lab",
    )
}
