//! `ci test`: formatting, lints, and every test, with all that they need made first.

use std::process::Command;
use std::time::Instant;

use crate::host::{project, say, step};
use crate::{Failure, Result, builder, cloud, miniature, setup, workflow};

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
        cloud::run_if_possible()?;
        builder::compile()?;
        step(
            "images of all devices",
            &mut builder::command(&["build", "--all", "--source", "miniature"]),
        )?;
    }
    // Some seconds of damaged inputs for each parser and for the engine.
    step("tests", tests.env("SENNIT_FUZZ_RUNS", "100000"))?;
    if !arguments.quick {
        as_root(&mut cargo(TESTS))?;
    }
    say(&format!(
        "all checks passed in {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// What needs network namespaces: the tests that skipped themselves if this user is not root, and the lab's reduced
/// scenarios, whose goals hold on slow machines too.
fn as_root(tests: &mut Command) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && !setup::may_become_root() {
        say("not tested without root: the daemon and the lab in network namespaces");
        return Ok(());
    }
    if !is_root {
        tests.args(["--config", "target.'cfg(unix)'.runner = ['sudo', '-n']"]);
        for folder in ["daemon/sennit/tests", "daemon/lab/tests"] {
            for name in names(folder, "rs")? {
                tests.args(["--test", &name]);
            }
        }
        tests.args(["--test", "bond_boot"]);
        step("network tests, as root", tests)?;
    }
    let program = project().join("target/release/sennit-lab");
    let mut lab = if is_root {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(program);
        sudo
    };
    let mut scenarios = names("daemon/lab/scenarios", "toml")?;
    scenarios.retain(|name| name == "quick" || name.starts_with("reduced-"));
    // The runs are short, and what disturbs a rented machine passes.
    lab.args(["run", "--again", "12"]).args(scenarios);
    step("the lab, reduced", &mut lab)
}

/// Files of a folder with this extension, without it; sorted.
fn names(folder: &str, extension: &str) -> Result<Vec<String>> {
    let failed = |error| Failure::environment(format!("failed to list {folder}: {error}"));
    let mut names = Vec::new();
    for entry in project().join(folder).read_dir_utf8().map_err(failed)? {
        let path = entry.map_err(failed)?.into_path();
        if let (true, Some(name)) = (path.extension() == Some(extension), path.file_stem()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
