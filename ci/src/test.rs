//! `ci test`: formatting, lints, and every test, with all that they need made first.

use std::process::Command;
use std::time::Instant;

use crate::host::{project, say, step};
use crate::{Result, builder, miniature, setup, workflow};

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
    let mut tests = cargo("test --release --workspace --locked --no-fail-fast");
    if arguments.quick {
        tests.args(["--lib", "--bins"]);
    } else {
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
    say(&format!(
        "all checks passed in {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}
