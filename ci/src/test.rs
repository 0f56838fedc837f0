//! `ci test`: formatting, lints, and every test, with all that they need made first.

use std::process::Command;
use std::time::Instant;

use crate::host::{project, say, step};
use crate::{Failure, Result, builder, miniature, setup, workflow};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only what needs no image and no miniature: formatting, lints, unit tests
    #[arg(long)]
    quick: bool,
}

/// Stops at the first step that fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    setup::ensure()?;
    let cargo = |words: &str| {
        let mut command = Command::new("cargo");
        command.args(words.split_whitespace()).current_dir(project());
        command
    };
    step("formatting", &mut cargo("fmt --all --check"))?;
    step(
        "lints",
        &mut cargo("clippy --release --workspace --all-targets --locked -- -D warnings"),
    )?;
    const TESTS: &str = "test --release --workspace --locked --no-fail-fast";
    let mut tests = cargo(TESTS);
    if arguments.quick {
        tests.args(["--lib", "--bins"]);
    } else {
        step(
            "fuzz targets compile",
            &mut cargo("check --manifest-path daemon/fuzz/Cargo.toml --target-dir target/fuzz --locked"),
        )?;
        workflow::run(&workflow::Arguments {})?;
        say("==> making the miniature of OpenWrt's site from Debian's packages");
        miniature::run(&miniature::Arguments::default())?;
        builder::compile()?;
        step(
            "images of all devices",
            &mut builder::command(&["build", "--all", "--source", "miniature"]),
        )?;
    }
    step("tests", &mut tests)?;
    if !arguments.quick && !rustix::process::geteuid().is_root() {
        if setup::may_become_root() {
            let mut network = cargo(TESTS);
            network.args(["--config", "target.'cfg(unix)'.runner = ['sudo', '-n']"]);
            network.args(network_tests()?);
            step("network tests, as root", &mut network)?;
        } else {
            say("not tested without root: the daemon and the lab in network namespaces");
        }
    }
    say(&format!(
        "all checks passed in {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Options that choose the tests in `tests/` of the daemon and of the lab: without root, those in network namespaces skip
/// themselves.
fn network_tests() -> Result<Vec<String>> {
    let mut options = Vec::new();
    for folder in ["daemon/sennit/tests", "daemon/lab/tests"] {
        let failed = |error| Failure::environment(format!("failed to list {folder}: {error}"));
        for entry in project().join(folder).read_dir_utf8().map_err(failed)? {
            let path = entry.map_err(failed)?.into_path();
            if let (Some("rs"), Some(name)) = (path.extension(), path.file_stem()) {
                options.extend(["--test".to_owned(), name.to_owned()]);
            }
        }
    }
    Ok(options)
}
