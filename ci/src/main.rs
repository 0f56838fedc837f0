//! Everything CI does, as commands that run by hand too. Each `run:` step of the workflow is one of these.

mod demo;
mod failure;
mod host;
mod miniature;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use failure::{Failure, Result};

/// Everything CI does, as commands that run by hand too.
#[derive(Debug, Parser)]
#[command(name = "ci", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make sources/miniature: a small copy of OpenWrt's download site, of Debian's packages
    Miniature(miniature::Arguments),
    /// List what this machine lacks, and install it (as root or with passwordless sudo)
    Setup(setup::Arguments),
    /// Build the Raspberry Pi image from the miniature, boot it, and show `sennit` running in it
    Demo(demo::Arguments),
    /// Format, lint and test everything
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Miniature(arguments) => miniature::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            host::say(&format!("error: {failure}"));
            ExitCode::from(failure.exit())
        }
    }
}
