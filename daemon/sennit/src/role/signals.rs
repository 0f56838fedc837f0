//! The signals that a supervisor or a person sends.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Result};

/// The signals that mean something to a role.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// End, for the signal of this name.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

impl Signals {
    pub(super) fn install() -> Result<Self> {
        let install = |kind| {
            signal(kind).map_err(|error| {
                Error::environment(
                    format!("failed to install a signal handler: {error}"),
                    "raise the limit of open files (ulimit -n)",
                )
            })
        };
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hang_up: install(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Cancelling loses none.
    pub(super) async fn next(&mut self) -> Reason {
        tokio::select! {
            _ = self.terminate.recv() => Reason::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Reason::Stop("SIGINT"),
            _ = self.hang_up.recv() => Reason::Reload,
        }
    }
}
