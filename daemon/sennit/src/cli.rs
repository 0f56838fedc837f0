//! Command line: what the user typed, exit codes, and where the log goes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, DEFAULT_PATH, LogLevel};
use crate::error::Exit;
use crate::role::{self, Role};
use crate::{Error, Result};

/// Several internet links become one.
#[derive(Parser)]
#[command(
    name = "sennit",
    version,
    after_help = "Exit codes: 0 done, 1 wrong argument or configuration, 2 the machine is at fault."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a role in the foreground until SIGTERM or SIGINT; SIGHUP reads the configuration again.
    Run {
        /// Which end of the tunnel this machine is.
        role: Role,
        /// Configuration file (TOML). Without this option /etc/sennit/sennit.toml is read if it exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Only check the configuration.
        #[arg(long)]
        check: bool,
    },
}

/// Runs the command line of this process.
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is not an error of ours.
            let _ = error.print();
            // clap says 2 for usage errors, which here means that the machine is at fault.
            return if error.use_stderr() { Exit::User } else { Exit::Ok };
        }
    };
    let Command::Run { role, config, check } = arguments.command;
    let read_config = || config.as_deref().map_or_else(Config::read_default, Config::read);
    let outcome = if check {
        read_config().map(|_| {
            let file = config
                .as_ref()
                .map_or(DEFAULT_PATH.into(), |path| path.display().to_string());
            let _ = writeln!(std::io::stdout(), "{file}: ok");
        })
    } else {
        run(role, read_config)
    };
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}\nhint: {}", error.hint());
            error.exit()
        }
    }
}

fn run(role: Role, read_config: impl Fn() -> Result<Config>) -> Result<()> {
    let log = start_log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| {
            Error::environment(
                format!("failed to start the event loop: {error}"),
                "raise the limit of open files (ulimit -n)",
            )
        })?;
    let apply_log_level = |level: LogLevel| {
        // Fails only if the subscriber were gone, and it lives as long as the process.
        let _ = log.modify(|filter| *filter = level.into());
    };
    runtime.block_on(role::run(role, read_config, apply_log_level))
}

/// Logs to stderr. A supervisor (procd, systemd) stamps each line itself, so that only a terminal gets times.
fn start_log() -> Handle<LevelFilter, Registry> {
    let (filter, handle) = reload::Layer::new(LevelFilter::from(LogLevel::default()));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    if std::io::stderr().is_terminal() {
        registry.with(lines).init();
    } else {
        registry.with(lines.without_time().with_ansi(false)).init();
    }
    handle
}
