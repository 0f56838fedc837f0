//! The command line: one file a command, each with its arguments and its `run`.

mod boot;
mod build;
mod check;
mod completions;
mod daemon;
mod doctor;
mod list;
mod lock;
mod new_profile;
mod show;
mod signals;
mod source_options;

use camino::Utf8PathBuf;
use clap::{ArgAction, Parser, Subcommand};

use crate::error::Exit;
use crate::project::Project;
use crate::report::{Report, Verbosity};
use crate::{Error, Result};

/// Makes flashable OpenWrt images with Sennit inside, from one TOML profile per device.
#[derive(Debug, Parser)]
#[command(name = "builder", version, propagate_version = true)]
pub struct Arguments {
    /// The project's folder [default: found upwards from here]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<Utf8PathBuf>,
    /// Say only errors and warnings; twice: nothing
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
    /// One JSON object a line on stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build flashable images of one or several devices into images/DEVICE/
    Build(build::Arguments),
    /// List the devices that can be built
    List,
    /// Show which downloads are pinned, or pin them anew
    Lock(lock::Arguments),
    /// Show a device's profile, resolved, and where each value was written
    Show(show::Arguments),
    Boot(boot::Arguments),
    Check(check::Arguments),
    NewProfile(new_profile::Arguments),
    /// Compile only the binary of `sennit` that images carry
    Daemon(daemon::Arguments),
    /// List what this machine lacks, each with the command that installs it
    Doctor,
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// What every command gets.
pub struct Context {
    /// Prints.
    pub report: Report,
    explicit_project: Option<Utf8PathBuf>,
}

impl Context {
    /// The project that this run works in.
    pub fn project(&self) -> Result<Project> {
        let here = std::env::current_dir().map_err(|error| Error::io("open", ".", error))?;
        let here = Utf8PathBuf::from_path_buf(here)
            .map_err(|path| Error::user(format!("{} is not UTF-8", path.display())))?;
        Project::find(self.explicit_project.as_deref(), &here)
    }
}

/// Runs the program with the process's own arguments.
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // clap says 2 for usage errors; ours is 1 (docs/STYLE.md): 2 means the machine is at fault.
            return if error.use_stderr() { Exit::User } else { Exit::Ok };
        }
    };
    let verbosity = match arguments.quiet {
        0 => Verbosity::Normal,
        1 => Verbosity::Quiet,
        _ => Verbosity::Silent,
    };
    let context = Context {
        report: Report::new(verbosity, arguments.json),
        explicit_project: arguments.project,
    };
    match run(&context, arguments.command) {
        Ok(exit) => exit,
        Err(error) => {
            context.report.error(&error);
            error.exit()
        }
    }
}

fn run(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Build(arguments) => build::run(context, arguments),
        Command::List => list::run(context),
        Command::Lock(arguments) => lock::run(context, &arguments),
        Command::Show(arguments) => show::run(context, &arguments),
        Command::Boot(arguments) => boot::run(context, arguments),
        Command::Check(arguments) => check::run(context, &arguments),
        Command::NewProfile(arguments) => new_profile::run(context, &arguments),
        Command::Daemon(arguments) => daemon::run(context, &arguments),
        Command::Doctor => doctor::run(context),
        Command::Completions(arguments) => completions::run(context, &arguments),
    }
}

/// Runs what waits for networks and processes; Ctrl-C ends it. Dropping it kills what it started and removes what is
/// unfinished.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::environment("failed to start threads").because(error))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = future => ended,
            error = signals::interrupted() => Err(error),
        }
    });
    // What still unpacks or copies in the background would keep an interrupted run waiting; it dies with the process.
    runtime.shutdown_background();
    ended
}
