//! `ci publish`: a release's files onto the project's release page, through GitHub's own command line.

use std::process::Command;

use camino::Utf8PathBuf;

use crate::host::{has, project, say, step};
use crate::{Failure, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The tag, which must be the version in Cargo.toml: v0.1.0 [default: $GITHUB_REF_NAME]
    #[arg(long)]
    tag: Option<String>,
    /// Folder that `ci gather` wrote
    #[arg(long, value_name = "DIR", default_value = "dist/release")]
    from: Utf8PathBuf,
    /// Only say what would be published
    #[arg(long)]
    dry_run: bool,
}

/// Refuses a tag that is not the version, and a folder without checksums.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let tag = arguments
        .tag
        .clone()
        .or_else(|| std::env::var("GITHUB_REF_NAME").ok());
    if tag.as_deref() != Some(version) {
        return Err(Failure::user(format!(
            "the tag is {}, the version in Cargo.toml makes it {version}: give --tag {version} for what it stands for",
            tag.as_deref().unwrap_or("not given")
        )));
    }
    let list = arguments.from.join("SHA256SUMS");
    let sums = std::fs::read_to_string(&list)
        .map_err(|error| Failure::user(format!("failed to read {list}: {error}: run `ci gather` first")))?;
    let mut files = vec![list];
    files.extend(
        sums.lines()
            .filter_map(|line| Some(arguments.from.join(line.split_once(" *")?.1))),
    );
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        return Err(Failure::user(format!("{missing} is listed but not there")));
    }
    if arguments.dry_run {
        say(&format!("would publish {version} with {} files", files.len()));
        return Ok(());
    }
    if !has("gh") {
        return Err(Failure::environment(
            "GitHub's command line `gh` is not installed",
        ));
    }
    let mut gh = Command::new("gh");
    gh.args([
        "release",
        "create",
        version,
        "--verify-tag",
        "--title",
        version,
        "--notes-file",
        "CHANGELOG.md",
    ])
    .args(&files)
    .current_dir(project());
    step(&format!("publishing {version}"), &mut gh)
}
