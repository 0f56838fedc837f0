//! `ci image`: one device's images, with a daemon that was compiled before.

use camino::Utf8PathBuf;

use crate::host::step;
use crate::{Failure, Result, builder, daemon, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The device
    #[arg(long)]
    device: String,
    /// Folder that `ci daemon` wrote; without it the daemon is compiled
    #[arg(long, value_name = "DIR")]
    daemon: Option<Utf8PathBuf>,
    /// The source, as for `builder build`
    #[arg(long)]
    source: Option<String>,
}

/// Builds into `images/`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    builder::compile()?;
    let mut build = builder::command(&["build", "--device", &arguments.device]);
    if let Some(source) = &arguments.source {
        build.args(["--source", source]);
    }
    if let Some(folder) = &arguments.daemon {
        let name = daemon::file_name(&rust_target(&arguments.device)?);
        let file = folder
            .canonicalize_utf8()
            .map_err(|error| Failure::environment(format!("failed to open {folder}: {error}")))?
            .join(&name);
        build.args([
            "--daemon",
            file.as_str(),
            "--daemon-sha256",
            &daemon::listed(folder, &name)?,
        ]);
    }
    step(&format!("images of {}", arguments.device), &mut build)
}

fn rust_target(device: &str) -> Result<String> {
    builder::events(&["show", device])?
        .iter()
        .find_map(|event| Some(event["profile"]["rust_target"].as_str()?.to_owned()))
        .ok_or_else(|| Failure::environment(format!("`builder show {device} --json` names no rust_target")))
}
