//! Runs a role until a signal or `sennit down` ends it: watches the network, sets up the system, answers questions, and
//! tells the data path what to do.

mod client;
mod client_system;
mod clients;
mod dns;
mod knock;
mod mappings;
mod meter;
mod port_requests;
mod probe;
mod resolve;
mod server;
mod server_system;
mod servers;
mod signals;
mod status;
mod wans;

use std::path::Path;

use sennit_engine::wire::frame::CloseReason;
use tracing::info;

use crate::config::{Common, LogLevel};
use crate::data::Clock;
use crate::system::Undo;
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
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// Reads the configuration of this role and forgets it: is it right?
    pub fn check(self, file: Option<&Path>) -> Result<()> {
        match self {
            Self::Client => crate::config::read::<crate::config::ClientConfig>(file).map(|_| ()),
            Self::Server => crate::config::read::<crate::config::ServerConfig>(file).map(|_| ()),
        }
    }
}

/// Runs until SIGTERM, SIGINT or a request to go down; SIGHUP reads `file` again, a bad one is refused and changes
/// nothing. `apply_log_level` is called with each level that takes effect.
pub async fn run(role: Role, file: Option<&Path>, apply_log_level: impl Fn(LogLevel)) -> Result<()> {
    // First of all, so that a signal that comes early is neither lost nor deadly.
    let signals = signals::Signals::install()?;
    match role {
        Role::Client => client::run(signals, file, apply_log_level).await,
        Role::Server => server::run(signals, file, apply_log_level).await,
    }
}

/// How a role ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By a signal: what was set in the system stays.
    Signal,
    /// By `sennit down`: what was set in the system goes.
    Down,
}

impl End {
    /// What the other ends are told. What ended by a signal mostly is back at once: a restart, an upgrade.
    fn reason(self) -> CloseReason {
        match self {
            Self::Signal => CloseReason::Restarts,
            Self::Down => CloseReason::Ends,
        }
    }
}

/// The answer to the request that ends the process: written before it ends.
async fn answer_last(answer: tokio::sync::oneshot::Sender<crate::control::Answer>, outcome: Result<()>) {
    let _ = answer.send(outcome.map(|()| serde_json::Value::Null));
    // The connection's task has nothing to wait for but this thread.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

/// Makes or takes over the interface, which `down` removes.
fn open_tunnel(undo: &mut Undo, common: &Common) -> Result<Tun> {
    undo.remember_interface(&common.interface)?;
    Tun::create(&common.interface)
}

fn announce(role: Role, tun: &Tun) {
    info!(role = role.name(), interface = %tun.name(), mtu = MTU, version = env!("CARGO_PKG_VERSION"), "running");
}

fn interface_lost(common: &Common, error: &std::io::Error) -> Error {
    Error::environment(
        format!("the tunnel interface {} is gone: {error}", common.interface),
        "something removed it (ip link del?); start sennit again",
    )
}

/// Unpredictable bytes for an engine.
fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    crate::key::random(&mut seed)?;
    Ok(seed)
}

/// Whether this processor has instructions for AES: then AES-GCM is the faster cipher.
fn aes_is_fast() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Seconds since this value was made.
#[derive(Clone, Copy, Debug)]
struct Uptime(Clock);

impl Uptime {
    fn seconds(self) -> u64 {
        // The clock begins at one second.
        (self.0.now().as_nanos() / 1_000_000_000).saturating_sub(1)
    }
}
