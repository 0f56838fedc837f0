//! Turns a machine into a server and back: files, service, other packet filters, all on a list of what was changed.

mod address;
mod init;
mod installed;
mod keeper;
mod service;
mod uninstall;

pub use address::PublicAddresses;
pub use init::{Awaited, Outcome, Wish, init, kept_ports};
pub use installed::{Change, Installed};
pub use keeper::missing;
pub use service::Supervisor;
pub use uninstall::uninstall;

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// Whether things are done or only told, and who hears of them.
pub struct Work<'a> {
    /// Only tell what would be done.
    pub dry: bool,
    /// Hears each step, as "writes /etc/sennit/sennit.toml".
    pub tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    /// Tells what is done, and does it unless this is a rehearsal.
    fn step(&mut self, what: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
        (self.tell)(what);
        if self.dry { Ok(()) } else { action() }
    }
}

/// Runs a program to its end; what it wrote, if it succeeded.
fn run(command: &[&str]) -> Result<String> {
    let line = command.join(" ");
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Error::environment("no program", "this is a bug of sennit: please report it"))?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::environment(format!("failed to run {line}: {error}"), "run sennit as root")
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given")
        .trim()
        .to_owned();
    Err(Error::environment(
        format!("{line} failed: {reason}"),
        format!("run it by hand to see more: {line}"),
    ))
}

/// Whether a program of this name is in the `PATH`.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Removes a file; one that is not there is no error.
fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::environment(
            format!("failed to remove {}: {error}", path.display()),
            "run this command as root",
        )),
        _ => Ok(()),
    }
}
