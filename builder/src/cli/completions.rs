//! `builder completions SHELL`: prints a completion script, with the names of the project's devices in it.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::{self, Context};
use crate::error::Exit;
use crate::{Result, profile};

/// Arguments of `builder completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For which shell
    shell: Shell,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    // Outside a project, or in one with a broken profile, the script still completes commands and options.
    let devices = context
        .project()
        .and_then(|project| profile::list(&project))
        .unwrap_or_default();
    let names = devices.into_iter().map(|device| device.name).collect();
    let mut command = with_devices(cli::Arguments::command(), names);
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "builder", &mut script);
    context.report.data(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Ok)
}

/// Every argument that is called DEVICE takes one of `names`.
fn with_devices(command: Command, names: Vec<String>) -> Command {
    // clap keeps names for the whole program, and this program ends with the script.
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let is_device = |arg: &Arg| {
        arg.get_value_names()
            .is_some_and(|names| names.iter().any(|name| name == "DEVICE"))
    };
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| match is_device(&arg) && !names.is_empty() {
            true => arg.value_parser(PossibleValuesParser::new(&names)),
            false => arg,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_completed_where_a_device_is_meant() {
        let names = vec!["pc".to_owned(), "slate-ax".to_owned()];
        let command = with_devices(cli::Arguments::command(), names);
        for subcommand in ["show", "check"] {
            let subcommand = command.find_subcommand(subcommand).unwrap();
            let device = subcommand.get_positionals().next().unwrap();
            let offered: Vec<String> = device
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect();
            assert_eq!(offered, ["pc", "slate-ax"]);
        }
    }
}
