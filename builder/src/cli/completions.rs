//! `builder completions SHELL`: prints a completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Result;
use crate::cli::{self, Context};
use crate::error::Exit;

/// Arguments of `builder completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For which shell
    shell: Shell,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut cli::Arguments::command(),
        "builder",
        &mut script,
    );
    context.report.data(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Ok)
}
