//! `ci daemon`: sennit for every router target, compiled once, with its hashes: what a release's images all carry.
//!
//! In a release it is compiled twice. The first ones are for servers. The second ones, for routers, know where those lie
//! and their SHA-256, for `sennit cloud-init`; no program could know its own.

use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest;

use crate::host::{say, step};
use crate::{Failure, Result, builder, setup, toolchain};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder for `sennit-TARGET` and SHA256SUMS
    #[arg(long, value_name = "DIR", default_value = "dist/daemon")]
    to: Utf8PathBuf,
    /// Where the release's files will be [default: the page of the tag that GitHub runs this for]
    #[arg(long, value_name = "URL")]
    release: Option<String>,
}

/// How the names of programs for servers begin.
pub(crate) const SERVER: &str = "sennit-server-";

/// Name of a target's binary in the folder.
pub(crate) fn file_name(target: &str) -> String {
    format!("sennit-{target}")
}

/// Name of what servers of a release download.
fn server_name(target: &str) -> String {
    format!("{SERVER}{target}")
}

/// Where the files of a tag are, if GitHub runs this for one.
fn page() -> Option<String> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if said("GITHUB_REF_TYPE")? != "tag" {
        return None;
    }
    let (site, repository) = (said("GITHUB_SERVER_URL")?, said("GITHUB_REPOSITORY")?);
    Some(format!(
        "{site}/{repository}/releases/download/{}",
        said("GITHUB_REF_NAME")?
    ))
}

/// Compiles for each target.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    builder::compile()?;
    std::fs::create_dir_all(&arguments.to)
        .map_err(|error| Failure::environment(format!("failed to make {}: {error}", arguments.to)))?;
    let mut sums = String::new();
    let mut release = Vec::new();
    if let Some(page) = arguments.release.clone().or_else(page) {
        for target in toolchain::TARGETS {
            let name = server_name(target);
            let sum = compile(target, &arguments.to.join(&name), &[])?;
            let variable = match target.split('-').next() {
                Some("x86_64") => "SENNIT_RELEASE_AMD64",
                _ => "SENNIT_RELEASE_ARM64",
            };
            release.push((variable, format!("{page}/{name} {sum}")));
            sums.push_str(&format!("{sum} *{name}\n"));
        }
    }
    for target in toolchain::TARGETS {
        let name = file_name(target);
        let sum = compile(target, &arguments.to.join(&name), &release)?;
        sums.push_str(&format!("{sum} *{name}\n"));
    }
    let list = arguments.to.join("SHA256SUMS");
    std::fs::write(&list, &sums)
        .map_err(|error| Failure::environment(format!("failed to write {list}: {error}")))?;
    say(sums.trim_end());
    Ok(())
}

/// Compiles for a target; its hash.
fn compile(target: &str, file: &Utf8Path, release: &[(&str, String)]) -> Result<String> {
    let mut command = builder::command(&["daemon", "--target", target, "--to", file.as_str()]);
    let variables = release.iter().map(|(name, value)| (*name, value.as_str()));
    step(file.file_name().unwrap_or(target), command.envs(variables))?;
    sha256(file)
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
