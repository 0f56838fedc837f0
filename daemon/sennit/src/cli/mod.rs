//! Command line: what the user typed, exit codes, and where the log goes. One file a command.

mod check;
mod check_server;
mod clients;
mod cloud_init;
mod down;
mod invite;
mod join;
mod keys;
mod knock;
mod lab;
mod log;
mod printer;
mod run;
mod server;
mod servers;
mod settings;
mod setup;
mod status;
mod table;
mod top;

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Common, Mode, Priority};
use crate::control::Caller;
use crate::error::Exit;
use crate::role::Role;
use crate::{Error, Result};
use printer::{say, show};

/// Several internet links become one.
#[derive(Parser)]
#[command(
    name = "sennit",
    version,
    after_help = "Exit codes: 0 done, 1 wrong argument or configuration, 2 the machine is at fault, 3 `check` found something."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a private key, and print the public key that belongs to it.
    Keygen {
        /// Where the private key goes.
        #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_KEY_PATH)]
        out: PathBuf,
        /// Replace a key that exists: the other end must then be told the new public key.
        #[arg(long)]
        force: bool,
        /// Print {"public_key": …, "file": …}.
        #[arg(long)]
        json: bool,
    },
    /// Print the public key of a private key file.
    Pubkey {
        /// The private key.
        #[arg(default_value = crate::config::DEFAULT_KEY_PATH)]
        file: PathBuf,
    },
    /// Write a configuration.
    Setup {
        #[command(subcommand)]
        role: setup::Setup,
    },
    /// Make this machine a server, or take that back.
    Server {
        #[command(subcommand)]
        command: server::Server,
    },
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
    /// Show the state of the running daemon.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show the state of the running daemon, again every second.
    Top {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show or change how packets are spread over WANs; a change is kept.
    Mode {
        /// The new mode.
        mode: Option<Mode>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show WANs, or change when one carries traffic; a change is kept.
    Wan {
        /// Its interface.
        name: Option<String>,
        /// Its new priority.
        #[arg(requires = "name")]
        priority: Option<Priority>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what happened.
    Log {
        /// Go on with what happens.
        #[arg(long, short)]
        follow: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// On a client: its servers and how far they are; which one to use.
    Servers(servers::Servers),
    /// Print user-data that makes a server of an empty cloud machine at its first boot.
    CloudInit(cloud_init::CloudInit),
    /// Join a server by the code that it gave out.
    Join(join::Join),
    /// On a server: make a code by which one client joins.
    Invite(invite::Invite),
    /// On a server: who may use it, and how much.
    Clients {
        #[command(subcommand)]
        command: clients::Clients,
    },
    /// Find out what keeps this machine from working as a role.
    Check {
        /// The role; without it, that of the running daemon, or client.
        role: Option<Role>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Stop the daemon and remove everything that it set in the system: interface, routes, rules, firewall, settings.
    Down {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// See it work with emulated WANs: starts the program sennit-lab that lies beside this one.
    #[command(disable_help_flag = true)]
    Lab {
        /// Handed on; nothing stands for `live`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Which running daemon is meant.
#[derive(Default, clap::Args)]
struct Daemon {
    /// The configuration file that the daemon was started with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's control socket.
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    control: Option<PathBuf>,
}

impl Daemon {
    fn common(&self) -> Result<Common> {
        let mut common = match self.control {
            Some(_) => Common::default(),
            None => Common::read(self.config.as_deref())?,
        };
        if let Some(control) = &self.control {
            common.control.clone_from(control);
        }
        Ok(common)
    }

    fn call(&self) -> Result<Caller> {
        Caller::connect(&self.common()?.control)
    }

    fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
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
    match dispatch(arguments.command) {
        Ok(exit) => exit,
        Err(error) => {
            say(&format!("error: {error}\nhint: {}", error.hint()));
            error.exit()
        }
    }
}

fn dispatch(command: Command) -> Result<Exit> {
    match command {
        Command::Keygen { out, force, json } => keys::generate(&out, force, json)?,
        Command::Pubkey { file } => keys::public(&file)?,
        Command::Setup { role } => setup::run(&role)?,
        Command::Server { command } => return server::run(&command),
        Command::Run {
            role,
            config,
            check: true,
        } => {
            role.check(config.as_deref())?;
            let file = config.unwrap_or_else(|| crate::config::DEFAULT_PATH.into());
            show(&format!("{}: ok", file.display()));
        }
        Command::Run {
            role,
            config,
            check: false,
        } => run::run(role, config.as_deref())?,
        Command::Status { json, daemon } => status::run(&daemon, json)?,
        Command::Top { daemon } => top::run(&daemon)?,
        Command::Mode { mode, daemon } => settings::mode(&daemon, mode)?,
        Command::Wan {
            name,
            priority,
            daemon,
        } => settings::wan(&daemon, name, priority)?,
        Command::Log { follow, json, daemon } => log::run(&daemon, follow, json)?,
        Command::Servers(servers) => servers::run(&servers)?,
        Command::CloudInit(arguments) => cloud_init::run(&arguments)?,
        Command::Join(join) => join::run(&join)?,
        Command::Invite(invite) => invite::run(invite)?,
        Command::Clients { command } => clients::run(command)?,
        Command::Check { role, daemon } => return check::run(&daemon, role),
        Command::Down { daemon } => down::run(&daemon)?,
        Command::Lab { arguments } => return Err(lab::run(&arguments)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sennit", &mut std::io::stdout());
        }
    }
    Ok(Exit::Ok)
}

/// A bug of the daemon or an answer of another version.
fn not_understood() -> Error {
    Error::environment(
        "the daemon's answer is not understood",
        "use the sennit command that belongs to the running daemon",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Words of a line as a shell takes them, quotes included.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for character in line.chars() {
            match character {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(character),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_command_of_the_server_guide_is_one() {
        let guide = include_str!("../../../../docs/server.md").replace('\n', " ");
        let mut commands: Vec<&str> = guide
            .split('`')
            .filter(|part| part.starts_with("sennit "))
            .collect();
        commands.sort_unstable();
        commands.dedup();
        assert!(commands.len() > 20, "{commands:?}");
        for command in commands {
            let Err(error) = Arguments::try_parse_from(words(command)) else {
                continue;
            };
            // The text may name a command without what it takes.
            let named = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
            assert!(named, "docs/server.md: `{command}`: {error}");
        }
    }
}
