//! A contestant's process: its log, its processor time, its end.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::machine;
use crate::scenario::Side;
use crate::{Error, Result};

/// A process of a contestant, killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    /// Which end it is.
    pub side: Side,
    command: Command,
    log: PathBuf,
    child: Option<Child>,
    /// Processor time of those that ran before it under the same command.
    spent: f64,
}

impl Process {
    /// Starts `command`; what it writes goes to the file `log`.
    pub fn start(side: Side, command: Command, log: PathBuf) -> Result<Self> {
        let mut made = Self {
            side,
            command,
            log,
            child: None,
            spent: 0.0,
        };
        made.restart()?;
        Ok(made)
    }

    /// Starts it again, if it is not running.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            Error::environment(format!("failed to start the {}: {error}", self.side), "")
        };
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed)?;
        self.command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        self.child = Some(self.command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.spent = self.cpu();
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Fails if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let Ok(Some(status)) = child.try_wait() else {
            return Ok(());
        };
        self.child = None;
        Err(Error::environment(
            format!("the {} ended by itself ({status}): {}", self.side, self.log_end()),
            "its log above says why",
        ))
    }

    /// Its process id, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> f64 {
        let now = self
            .child
            .as_ref()
            .and_then(|child| machine::process(child.id()))
            .map_or(0.0, |(cpu, _)| cpu);
        self.spent + now
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        self.child
            .as_ref()
            .and_then(|child| machine::process(child.id()))
            .map_or(0, |(_, memory)| memory)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
