//! `builder daemon`: only the binary that images carry.

use camino::Utf8PathBuf;

use crate::cli::Context;
use crate::cross::{Network, Toolchain};
use crate::error::Exit;
use crate::{Error, Result, atomic};

/// Compile `sennit` for a router target, with the flags of `builder build`
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// `aarch64-unknown-linux-musl` or `x86_64-unknown-linux-musl`
    #[arg(long)]
    target: String,
    /// Where the binary goes
    #[arg(long, value_name = "FILE")]
    to: Utf8PathBuf,
    /// Take crates from cargo's cache only
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let project = context.project()?;
    let toolchain = Toolchain::detect(&project, &arguments.target)?;
    let network = if arguments.offline {
        Network::Offline
    } else {
        Network::Allowed
    };
    let binary = toolchain.build(&project, network, &context.report)?;
    let bytes = std::fs::read(&binary).map_err(|error| Error::io("read", &binary, error))?;
    atomic::write(&arguments.to, &bytes, 0o755)?;
    context
        .report
        .done(format!("Wrote {} ({})", arguments.to, toolchain.describe()));
    Ok(Exit::Ok)
}
