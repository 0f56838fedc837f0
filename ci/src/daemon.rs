//! `ci daemon`: sennit for every router target, compiled once, with its hashes: what a release's images all carry.

use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest;

use crate::host::{say, step};
use crate::{Failure, Result, builder, setup, toolchain};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder for `sennit-TARGET` and SHA256SUMS
    #[arg(long, value_name = "DIR", default_value = "dist/daemon")]
    to: Utf8PathBuf,
}

/// Name of a target's binary in the folder.
pub(crate) fn file_name(target: &str) -> String {
    format!("sennit-{target}")
}

/// Compiles for each target.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    builder::compile()?;
    std::fs::create_dir_all(&arguments.to)
        .map_err(|error| Failure::environment(format!("failed to make {}: {error}", arguments.to)))?;
    let mut sums = String::new();
    for target in toolchain::TARGETS {
        let file = arguments.to.join(file_name(target));
        step(
            &format!("sennit for {target}"),
            &mut builder::command(&["daemon", "--target", target, "--to", file.as_str()]),
        )?;
        sums.push_str(&format!("{} *{}\n", sha256(&file)?, file_name(target)));
    }
    let list = arguments.to.join("SHA256SUMS");
    std::fs::write(&list, &sums)
        .map_err(|error| Failure::environment(format!("failed to write {list}: {error}")))?;
    say(sums.trim_end());
    Ok(())
}

/// Hash of a file, as lowercase hex digits.
pub(crate) fn sha256(path: &Utf8Path) -> Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::environment(format!("failed to read {path}: {error}")))?;
    Ok(sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The hash that a folder's SHA256SUMS lists for a file.
pub(crate) fn listed(folder: &Utf8Path, name: &str) -> Result<String> {
    let list = folder.join("SHA256SUMS");
    let text = std::fs::read_to_string(&list)
        .map_err(|error| Failure::environment(format!("failed to read {list}: {error}")))?;
    text.lines()
        .find_map(|line| {
            Some(
                line.split_once(" *")
                    .filter(|(_, file)| *file == name)?
                    .0
                    .to_owned(),
            )
        })
        .ok_or_else(|| Failure::user(format!("{list} does not list {name}")))
}
