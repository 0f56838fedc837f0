//! `ci inputs`: every locked file of one device in a flat folder, so that the build works when OpenWrt no longer has them.

use camino::Utf8PathBuf;

use crate::host::step;
use crate::{Result, builder};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The device
    #[arg(long)]
    device: String,
    /// The source, as for `builder lock`
    #[arg(long)]
    source: Option<String>,
    /// Folder for the files, each called by its SHA-256
    #[arg(long, value_name = "DIR", default_value = "dist/inputs")]
    to: Utf8PathBuf,
}

/// Takes them from the cache that the build filled.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    builder::compile()?;
    let mut export = builder::command(&["lock", "--export", arguments.to.as_str(), &arguments.device]);
    if let Some(source) = &arguments.source {
        export.args(["--source", source]);
    }
    step(&format!("locked files of {}", arguments.device), &mut export)
}
