//! `sennit down`: asks a running daemon to undo everything and end; what is left (or all, if none runs) is undone here.

use super::Daemon;
use super::printer::say;
use super::run::start_log;
use crate::config::LogLevel;
use crate::control::{Caller, Request};
use crate::{Result, system};

pub(super) fn run(daemon: &Daemon) -> Result<()> {
    let common = daemon.common()?;
    start_log(LogLevel::Warn);
    if let Ok(mut caller) = Caller::connect(&common.control) {
        caller.ask(&Request::Down {})?;
    }
    system::down(&common)?;
    say("down: interface, routes, rules, firewall and settings are as they were before sennit");
    Ok(())
}
