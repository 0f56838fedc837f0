//! The builder, as the other commands of this crate call it: compiled in release mode, run as a program.

use std::process::{Command, Stdio};

use crate::host::{project, step};
use crate::{Failure, Result};

/// Compiles it; quick when nothing changed.
pub(crate) fn compile() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "--package", "builder"])
        .current_dir(project());
    step("compiling the builder", &mut cargo)
}

/// A command of the compiled builder.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(project().join("target/release/builder"));
    command.args(words).current_dir(project());
    command
}

/// Runs a command with `--json` and answers its events.
pub(crate) fn events(words: &[&str]) -> Result<Vec<serde_json::Value>> {
    let output = command(words)
        .arg("--json")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::environment(format!("failed to start the builder: {error}")))?;
    if !output.status.success() {
        return Err(Failure::environment(format!(
            "builder {} ended with {}: {}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout)
        )));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str(line)
                .map_err(|error| Failure::environment(format!("builder printed no JSON: {error}: {line}")))
        })
        .collect()
}

/// Names of all devices, sorted.
pub(crate) fn devices() -> Result<Vec<String>> {
    let mut names: Vec<String> = events(&["list"])?
        .iter()
        .filter(|event| event["event"] == "device")
        .filter_map(|event| Some(event["name"].as_str()?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(Failure::environment("`builder list --json` names no device"));
    }
    Ok(names)
}
