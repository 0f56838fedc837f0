//! `sennit run`: the log, the event loop, and the role in it.

use std::io::IsTerminal;
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogLevel;
use crate::role::{self, Role};
use crate::{Error, Result};

pub(super) fn run(role: Role, config: Option<&Path>) -> Result<()> {
    let log = start_log(LogLevel::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
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
    let outcome = runtime.block_on(role::run(role, config, apply_log_level));
    // A name that is just being looked up need not be waited for.
    runtime.shutdown_background();
    outcome
}

/// Logs to stderr. A supervisor (procd, systemd) stamps each line itself, so that only a terminal gets times.
pub(super) fn start_log(level: LogLevel) -> Handle<LevelFilter, Registry> {
    let (filter, handle) = reload::Layer::new(LevelFilter::from(level));
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
