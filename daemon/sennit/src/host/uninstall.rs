//! `sennit server uninstall`: takes back what is on the list, the last change first.

use std::path::Path;

use super::{Change, Installed, Work, remove_file, run};
use crate::config::{Common, DEFAULT_PATH};
use crate::control::{Caller, Request};
use crate::{Error, Result, system};

/// Takes back what was installed. `purge`: settings, key and state go as well.
pub fn uninstall(common: &Common, purge: bool, work: &mut Work<'_>) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::environment(
            "a server is removed by root only",
            "sudo sennit server uninstall",
        ));
    }
    let mut installed = Installed::open(&common.state_dir)?;
    let changes: Vec<Change> = installed.changes().iter().rev().cloned().collect();
    // A supervisor would start again what is stopped below it.
    for change in &changes {
        if let Change::Service { supervisor } = change {
            work.step("stops the service for good", || {
                supervisor.disable()?;
                installed.forget(change)
            })?;
        }
    }
    work.step(
        "removes the tunnel interface, the firewall and kernel settings",
        || {
            if let Ok(mut caller) = Caller::connect(&common.control) {
                caller.ask(&Request::Down {})?;
            }
            system::down(common)
        },
    )?;
    for change in &changes {
        match change {
            Change::Service { .. } => {}
            Change::Setting { .. } if !purge => {}
            Change::Setting { path } | Change::File { path } => {
                work.step(&format!("removes {}", path.display()), || {
                    remove_file(path)?;
                    installed.forget(change)
                })?;
            }
            Change::Command { what, undo } => {
                work.step(&format!("takes back: {what}"), || {
                    let words: Vec<&str> = undo.iter().map(String::as_str).collect();
                    // What somebody else has removed already needs no removing.
                    if let Err(error) = run(&words) {
                        tracing::warn!("{error}");
                    }
                    installed.forget(change)
                })?;
            }
        }
    }
    for change in &changes {
        if let Change::Service { supervisor } = change {
            supervisor.forget();
        }
    }
    if purge {
        work.step(
            &format!("removes {} with all clients", common.state_dir.display()),
            || match std::fs::remove_dir_all(&common.state_dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::environment(
                    format!("failed to remove {}: {error}", common.state_dir.display()),
                    "run this command as root",
                )),
                _ => Ok(()),
            },
        )?;
        // Only if nothing of the user's is left in it.
        if let Some(folder) = Path::new(DEFAULT_PATH).parent().filter(|_| !work.dry) {
            let _ = std::fs::remove_dir(folder);
        }
    }
    Ok(())
}
