//! `builder build`: images of one, several or all devices.

use camino::Utf8PathBuf;
use clap::Args;

use super::Context;
use super::source_options::SourceOptions;
use crate::build::{self, Daemon, InputsFrom, Options};
use crate::digest::Sha256;
use crate::error::Exit;
use crate::imagebuilder::Network;
use crate::{Result, profile};

/// Build flashable images of one or several devices into images/DEVICE/
///
/// Downloads are checked against the lock, `sennit` is compiled and packed, and OpenWrt's own ImageBuilder makes the
/// images, without network. A second identical build does nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  builder build --device rpi4\n  builder build --device pc --device flint2 --jobs 2\n  builder build --all --source miniature\n  builder build --device pc --imagebuilder ~/openwrt-imagebuilder-24.10.8-x86-64"
)]
pub(super) struct Arguments {
    /// Device to build, by name or alias; several are built in parallel
    #[arg(
        short,
        long = "device",
        value_name = "DEVICE",
        required_unless_present = "all"
    )]
    devices: Vec<String>,
    /// Build all devices
    #[arg(long, conflicts_with = "devices")]
    all: bool,
    #[command(flatten)]
    source: SourceOptions,
    /// Use this ImageBuilder with the packages inside it; nothing is looked up in a lock
    #[arg(long, value_name = "DIR|TARBALL", conflicts_with_all = ["source", "mirror"])]
    imagebuilder: Option<Utf8PathBuf>,
    /// Let the ImageBuilder use the network, where user namespaces are forbidden
    #[arg(long)]
    allow_network: bool,
    /// Take this static binary of sennit instead of compiling it
    #[arg(long, value_name = "FILE", requires = "daemon_sha256")]
    daemon: Option<Utf8PathBuf>,
    /// SHA-256 that the binary given by --daemon must have
    #[arg(long, value_name = "HEX", requires = "daemon")]
    daemon_sha256: Option<Sha256>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Exit> {
    let project = context.project()?;
    let devices = if arguments.all {
        profile::list(&project)?
            .into_iter()
            .map(|summary| summary.name)
            .collect()
    } else {
        arguments.devices
    };
    let daemon = match (arguments.daemon, arguments.daemon_sha256) {
        (Some(file), Some(sha256)) => Daemon::Given { file, sha256 },
        _ => Daemon::Compile,
    };
    super::block_on(async {
        let inputs = match arguments.imagebuilder {
            Some(path) => InputsFrom::ImageBuilder(path),
            None => {
                let (source, fetcher) = arguments.source.open(&project, &context.report).await?;
                InputsFrom::Source {
                    source: Box::new(source),
                    fetcher,
                }
            }
        };
        let options = Options {
            devices,
            inputs,
            daemon,
            offline: arguments.source.is_offline(),
            jobs: arguments.source.jobs(),
            network: if arguments.allow_network {
                Network::Host
            } else {
                Network::None
            },
        };
        build::run(&project, options, &context.report).await
    })?;
    Ok(Exit::Ok)
}
