//! `sennit mode` and `sennit wan`: show, or change while running.

use super::printer::show;
use super::{Daemon, not_understood, table};
use crate::Result;
use crate::config::{Mode, Priority};
use crate::control::Request;

pub(super) fn mode(daemon: &Daemon, mode: Option<Mode>) -> Result<()> {
    let mut caller = daemon.call()?;
    match mode {
        Some(mode) => caller.ask(&Request::Mode { mode }).map(|_| ()),
        None => {
            let status = caller.ask(&Request::Status {})?;
            let mode = status["mode"].as_str().ok_or_else(not_understood)?;
            show(mode);
            Ok(())
        }
    }
}

pub(super) fn wan(daemon: &Daemon, name: Option<String>, priority: Option<Priority>) -> Result<()> {
    let mut caller = daemon.call()?;
    match (name, priority) {
        (Some(name), Some(priority)) => caller.ask(&Request::Wan { name, priority }).map(|_| ()),
        (name, _) => {
            let status = caller.ask(&Request::Status {})?;
            show(table::wans(&status, name.as_deref())?.trim_end());
            Ok(())
        }
    }
}
