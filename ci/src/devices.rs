//! `ci devices`: the devices as a matrix for the workflow.

use std::io::Write;

use crate::host::say;
use crate::{Failure, Result, builder};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Prints `["bpi-r3", …]`; where `GITHUB_OUTPUT` names a file, adds `devices=…` to it.
pub(crate) fn run(_: &Arguments) -> Result<()> {
    builder::compile()?;
    let list = serde_json::Value::from(builder::devices()?).to_string();
    if let Some(path) = std::env::var_os("GITHUB_OUTPUT") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "devices={list}"))
            .map_err(|error| {
                Failure::environment(format!("failed to write {}: {error}", path.to_string_lossy()))
            })?;
    }
    say(&list);
    Ok(())
}
