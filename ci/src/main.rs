//! Everything CI does, as commands that run by hand too. Each `run:` step of the workflow is one of these.

mod bench;
mod builder;
mod cloud;
mod compare;
mod daemon;
mod demo;
mod devices;
mod failure;
mod gather;
mod host;
mod image;
mod inputs;
mod miniature;
mod publish;
mod setup;
mod test;
mod toolchain;
mod workflow;

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
    /// Make target/cloud: Debian as clouds rent it out, for the tests of a new server
    Cloud(cloud::Arguments),
    /// List what this machine lacks, and install it (as root or with passwordless sudo)
    Setup(setup::Arguments),
    /// Build the Raspberry Pi image from the miniature, boot it, and show `sennit` running in it
    Demo(demo::Arguments),
    /// Format, lint and test everything
    Test(test::Arguments),
    /// Time the builder beside a shell script that does the same steps
    Bench(bench::Arguments),
    /// Lint the workflow file
    Lint(workflow::Arguments),
    /// List the devices as a matrix for the workflow
    Devices(devices::Arguments),
    /// Compile `sennit` for every router target
    Daemon(daemon::Arguments),
    /// Build one device's images
    Image(image::Arguments),
    /// Collect every locked file of one device
    Inputs(inputs::Arguments),
    /// Compare two builds byte by byte
    Compare(compare::Arguments),
    /// Put the files of a release into one folder, with checksums
    Gather(gather::Arguments),
    /// Publish a release
    Publish(publish::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Miniature(arguments) => miniature::run(&arguments),
        Command::Cloud(arguments) => cloud::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Lint(arguments) => workflow::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Daemon(arguments) => daemon::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Inputs(arguments) => inputs::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Gather(arguments) => gather::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            host::say(&format!("error: {failure}"));
            ExitCode::from(failure.exit())
        }
    }
}
