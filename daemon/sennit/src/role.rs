//! Runs a role until a signal ends it: owns the tunnel interface and takes every packet out of it.
//!
//! No peer can be joined yet, so that every packet is counted and dropped: the interface's queue never fills,
//! and applications get silence instead of a misleading answer.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, trace, warn};

use crate::config::{Config, LogLevel};
use crate::tun::{MTU, Tun};
use crate::{Error, Result};

/// Which end of the tunnel this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The router: has the WANs.
    Client,
    /// The machine with the public address.
    Server,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What went through the tunnel interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    packets: u64,
    bytes: u64,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again by `read_config`, a bad one is refused
/// and changes nothing. `apply_log_level` is called with each level that takes effect.
pub async fn run(
    role: Role,
    read_config: impl Fn() -> Result<Config>,
    apply_log_level: impl Fn(LogLevel),
) -> Result<()> {
    // First of all, so that a signal that comes early is neither lost nor deadly.
    let mut signals = Signals::install()?;
    let mut config = read_config()?;
    apply_log_level(config.log_level);
    let mut tun = Tun::create(&config.interface)?;
    announce(role, &tun);
    warn!(
        "no server is joined: packets that enter the tunnel are counted and dropped \
         (this version cannot join one yet; traffic keeps flowing outside the tunnel)"
    );

    let mut dropped = Dropped::default();
    let mut packet = [0; MTU as usize];
    loop {
        tokio::select! {
            received = tun.receive(&mut packet) => {
                let length = received.map_err(|error| interface_lost(&tun, &error))?;
                trace!(length, "packet dropped");
                dropped.packets += 1;
                dropped.bytes += length as u64;
            }
            reason = signals.next() => match reason {
                Reason::Stop(signal) => {
                    info!(
                        signal, interface = %tun.name(), packets = dropped.packets, bytes = dropped.bytes,
                        "stopping; packets dropped so far"
                    );
                    return Ok(());
                }
                Reason::Reload => match reload(&config, &mut tun, &read_config) {
                    Ok(new) => {
                        apply_log_level(new.log_level);
                        if new.interface != config.interface {
                            announce(role, &tun);
                        }
                        info!(changed = new != config, "configuration read again");
                        config = new;
                    }
                    Err(refusal) => error!(
                        "the new configuration is refused, the old one stays: {refusal} (hint: {})",
                        refusal.hint()
                    ),
                }
            }
        }
    }
}

fn announce(role: Role, tun: &Tun) {
    info!(role = role.name(), interface = %tun.name(), mtu = MTU, version = env!("CARGO_PKG_VERSION"), "running");
}

/// Reads the configuration and makes what it changes; on any failure nothing has changed.
fn reload(old: &Config, tun: &mut Tun, read_config: &impl Fn() -> Result<Config>) -> Result<Config> {
    let new = read_config()?;
    if new.interface != old.interface {
        debug!(old = %old.interface, new = %new.interface, "replacing the tunnel interface");
        *tun = Tun::create(&new.interface)?;
    }
    Ok(new)
}

fn interface_lost(tun: &Tun, error: &io::Error) -> Error {
    Error::environment(
        format!("the tunnel interface {} is gone: {error}", tun.name()),
        "something removed it (ip link del?); start sennit again",
    )
}

/// The signals that a supervisor or a person sends.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
enum Reason {
    Stop(&'static str),
    Reload,
}

impl Signals {
    fn install() -> Result<Self> {
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

    async fn next(&mut self) -> Reason {
        tokio::select! {
            _ = self.terminate.recv() => Reason::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Reason::Stop("SIGINT"),
            _ = self.hang_up.recv() => Reason::Reload,
        }
    }
}
