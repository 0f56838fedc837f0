//! Command line: what the user typed, the one printer, and exit codes.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::bench::Told;
use crate::contestant::{Kind, Tools, find_program};
use crate::link::cellular::CELLS;
use crate::scenario::Scenario;
use crate::series::{ScenarioReport, Wishes, series};
use crate::verdict::Standing;
use crate::{Error, Exit, Result, bench, interrupt, live, namespace, plot, report, shovel, verify};

/// A network lab: emulated links, scenarios and measurements for the bonding daemon sennit.
#[derive(Parser)]
#[command(
    name = "sennit-lab",
    version,
    after_help = "Exit codes: 0 done and all goals reached, 1 wrong argument or scenario, 2 the machine is at fault, \
                  3 a goal was missed, 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The scenarios, one a line.
    List,
    /// Run scenarios, by name or as TOML files of your own.
    Run {
        /// Names as `list` shows them, or files.
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Run all scenarios of the benchmark, and write one report: table, JSON, Markdown and plots.
    Bench {
        #[command(flatten)]
        options: BenchOptions,
    },
    /// A download over three emulated WANs, of which one is killed on the way, as a live view with a verdict.
    Live {
        /// Length in seconds.
        #[arg(long, value_parser = seconds, default_value_t = 20.0)]
        seconds: f64,
        /// Who carries it: direct, mptcp, wireguard-go, wireguard-go-current,
        /// shovel, sennit.
        #[arg(long, default_value = "sennit", value_parser = contestant)]
        contestant: Kind,
        /// The sennit program; without this option the one beside this program.
        #[arg(long, value_name = "FILE", env = "SENNIT")]
        sennit: Option<PathBuf>,
    },
    /// Is an emulated link what was asked for: rate, delay, loss, order.
    Verify {
        /// Seconds of full load for each link.
        #[arg(long, value_parser = seconds, default_value_t = 5.0)]
        seconds: f64,
    },
    /// The shipped packet-delivery traces and their statistics.
    Traces {
        /// Make them anew from their seeds, into this folder.
        #[arg(long, value_name = "FOLDER")]
        write: Option<PathBuf>,
    },
    /// One end of the bare shovel; the lab starts it by itself.
    #[command(hide = true)]
    Shovel {
        #[arg(long)]
        interface: String,
        #[arg(long)]
        local: SocketAddr,
        #[arg(long)]
        peer: Option<SocketAddr>,
    },
    /// Remove what interrupted runs left behind.
    Clean {
        /// Also what a run that is still going on has made.
        #[arg(long)]
        all: bool,
    },
}

/// How runs differ from what their scenarios say, and whose programs take part.
#[derive(Args)]
struct RunOptions {
    /// Length of each run in seconds, instead of the scenario's.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Runs of each contestant, instead of the scenario's.
    #[arg(long)]
    repeat: Option<u32>,
    /// Who takes part, separated by commas: direct, mptcp, aggligator, wireguard-go,
    /// wireguard-go-current, shovel, sennit.
    #[arg(long, value_delimiter = ',', value_parser = contestant)]
    contestants: Option<Vec<Kind>>,
    /// Chance of the links: the same seed loses the same frames of the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Times that a run is done again if it was not valid because the machine was disturbed.
    #[arg(long, default_value_t = 2)]
    again: u32,
    /// The sennit program; without this option the one beside this program.
    #[arg(long, value_name = "FILE", env = "SENNIT")]
    sennit: Option<PathBuf>,
    /// A current build of wireguard-go, for the contestant wireguard-go-current.
    #[arg(long, value_name = "FILE", env = "WIREGUARD_GO")]
    wireguard_go: Option<PathBuf>,
}

impl RunOptions {
    fn resolved(self) -> Result<(Wishes, Tools)> {
        let tools = Tools {
            sennit: find_program(self.sennit)?,
            wireguard_go: self.wireguard_go,
        };
        let wishes = Wishes {
            seconds: self.seconds,
            repeat: self.repeat,
            contestants: self.contestants,
            seed: self.seed,
            again: self.again,
        };
        Ok((wishes, tools))
    }
}

#[derive(Args)]
struct Options {
    #[command(flatten)]
    runs: RunOptions,
    /// Write all figures as JSON; `-` is stdout, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write plots (SVG) into this folder.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// Also print the conditions of each run.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Args)]
struct BenchOptions {
    /// Only these scenarios, or items by their number, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ITEM|SCENARIO")]
    only: Vec<String>,
    /// Short runs, once each, with one congestion control: a first look. The report says so.
    #[arg(long)]
    quick: bool,
    /// Scenarios at once, each in namespaces of its own. Those that the machine limits, or that look at its processor or
    /// memory, run alone after the others. Links of up to 150 Mbit/s take a sixth of a machine of two processors: 3 there.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Go on with what the folder has; results of another program or of other settings are made anew.
    #[arg(long)]
    resume: bool,
    /// A goal that was missed is a failure, too (exit code 3).
    #[arg(long)]
    strict: bool,
    /// Where the report is written: report.md, report.json, plots, and a file for each scenario.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    folder: PathBuf,
    /// Also put the report into this Markdown file, between the lines `<!-- report: begin -->` and
    /// `<!-- report: end -->`.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    runs: RunOptions,
}

fn contestant(name: &str) -> Result<Kind, String> {
    Kind::parse(name).ok_or_else(|| format!("known are {}", Kind::names()))
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.5..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("not within 0.5 to 86400".into())
    }
}

/// Data on stdout, talk on stderr. A closed pipe is not an error of ours.
struct Printer;

impl Printer {
    fn data(&self, text: &str) {
        let _ = write!(std::io::stdout(), "{text}");
    }

    fn talk(&self, line: &str) {
        self.wipe();
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// On a terminal a line whose place the next one takes.
    fn progress(&self, line: &str) {
        if std::io::stderr().is_terminal() {
            self.wipe();
            let _ = write!(std::io::stderr(), "{line}");
        } else {
            self.talk(line);
        }
    }

    /// Data after progress.
    fn table(&self, text: &str) {
        self.wipe();
        self.data(text);
    }

    fn wipe(&self) {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // clap says 2 for usage errors, which here means that the machine is at fault.
            return if error.use_stderr() { Exit::User } else { Exit::Ok };
        }
    };
    match interrupt::listen().and_then(|()| execute(arguments.command)) {
        Ok(exit) => exit,
        Err(error) => {
            Printer.talk(&format!("error: {error}"));
            if !error.hint().is_empty() {
                Printer.talk(&format!("hint: {}", error.hint()));
            }
            error.exit()
        }
    }
}

fn execute(command: Command) -> Result<Exit> {
    match command {
        Command::List => {
            for scenario in Scenario::all()? {
                Printer.data(&format!("{:<22} {}\n", scenario.name, scenario.title));
            }
            Ok(Exit::Ok)
        }
        Command::Run { scenarios, options } => {
            let found: Result<Vec<_>> = scenarios.iter().map(|name| Scenario::find(name)).collect();
            run(found?, options)
        }
        Command::Bench { options } => bench(options),
        Command::Live {
            seconds,
            contestant,
            sennit,
        } => live(seconds, contestant, sennit),
        Command::Verify { seconds } => verify(seconds),
        Command::Traces { write } => traces(write.as_deref()),
        Command::Shovel {
            interface,
            local,
            peer,
        } => shovel::run(&interface, local, peer).map(|()| Exit::Ok),
        Command::Clean { all } => {
            for name in namespace::clean(all) {
                Printer.data(&format!("removed {name}\n"));
            }
            Ok(Exit::Ok)
        }
    }
}

fn live(seconds: f64, contestant: Kind, sennit: Option<PathBuf>) -> Result<Exit> {
    namespace::clean(false);
    let tools = Tools {
        sennit: find_program(sennit)?,
        ..Tools::default()
    };
    let live = live::scenario(seconds, contestant)?;
    let mut view = live::View::new(&live, std::io::stdout().is_terminal());
    Printer.data(&live::introduction(&live, contestant));
    let wishes = Wishes {
        seed: 1,
        again: 2,
        ..Wishes::default()
    };
    let done = series(live, &wishes, &tools, &mut |_| {}, &mut |moment| {
        Printer.data(&view.draw(moment))
    });
    if let Some(why) = done.stopped {
        return Err(why);
    }
    Printer.data(&live::verdict(&done));
    if let Some((name, why)) = done.absent.first() {
        Printer.talk(&format!("{name} did not start"));
        return Err(why.clone());
    }
    Ok(exit(&[done]))
}

fn verify(seconds: f64) -> Result<Exit> {
    namespace::clean(false);
    let checks = verify::verify(&verify::LINKS, seconds, &mut |line| Printer.talk(line))?;
    for check in &checks {
        Printer.data(&format!(
            "{:<8} {:<42} asked {:>9.4}, measured {:>9.4} {} (± {:.4})\n",
            if check.holds() { "holds" } else { "DIFFERS" },
            check.name,
            check.asked,
            check.measured,
            check.unit,
            check.tolerance
        ));
    }
    Ok(if checks.iter().all(verify::Check::holds) {
        Exit::Ok
    } else {
        Exit::Missed
    })
}

fn traces(folder: Option<&Path>) -> Result<Exit> {
    for cell in CELLS {
        let trace = cell
            .trace()
            .map_err(|error| Error::user(format!("trace {}: {error}", cell.name), ""))?;
        if let Some(folder) = folder {
            let file = folder.join(format!("{}.trace", cell.name));
            std::fs::write(&file, trace.to_text()).map_err(|error| {
                Error::user(
                    format!("failed to write {}: {error}", file.display()),
                    "name a folder that exists",
                )
            })?;
        }
        Printer.data(&format!("{:<8} {}\n", cell.name, trace.describe()));
    }
    Ok(Exit::Ok)
}

fn run(scenarios: Vec<Scenario>, options: Options) -> Result<Exit> {
    namespace::clean(false);
    let (wishes, tools) = options.runs.resolved()?;
    let json_on_stdout = options.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let mut reports: Vec<ScenarioReport> = Vec::new();
    for scenario in scenarios {
        let done = series(
            wishes.applied(scenario),
            &wishes,
            &tools,
            &mut |step| Printer.talk(&step.to_string()),
            &mut |_| {},
        );
        if !json_on_stdout {
            Printer.data(&report::table(&done));
        }
        if options.verbose {
            report::conditions(&done)
                .iter()
                .for_each(|line| Printer.talk(line));
        }
        if let Some(folder) = &options.plot {
            let files = plot::write(&done, folder, plot::Which::All)?;
            Printer.talk(&format!("{} plots in {}", files.len(), folder.display()));
        }
        let stopped = done.stopped.clone();
        reports.push(done);
        // After each scenario: what is interrupted keeps what it has.
        if let Some(path) = &options.json {
            write_json(path, &reports, json_on_stdout)?;
        }
        if let Some(why) = stopped {
            return Err(why);
        }
    }
    if json_on_stdout {
        Printer.data(&format!("{:#}\n", report::json(&reports)));
    }
    Ok(exit(&reports))
}

fn bench(options: BenchOptions) -> Result<Exit> {
    namespace::clean(false);
    let (wishes, tools) = options.runs.resolved()?;
    let plan = bench::Plan {
        scenarios: bench::scenarios(&options.only)?,
        wishes,
        quick: options.quick,
        jobs: usize::from(options.jobs),
        resume: options.resume,
        folder: options.folder,
        markdown: options.markdown,
    };
    let done = bench::bench(&plan, &tools, &mut |told| match told {
        Told::Progress(line) => Printer.progress(&line),
        Told::Line(line) => Printer.talk(&line),
        Told::Table(text) => Printer.table(&text),
    })?;
    Ok(done.exit(options.strict))
}

fn write_json(path: &Path, reports: &[ScenarioReport], on_stdout: bool) -> Result<()> {
    if on_stdout {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, format!("{:#}\n", report::json(reports)))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|error| {
            Error::user(
                format!("failed to write {}: {error}", path.display()),
                "name a file that you may write",
            )
        })
}

/// A missed goal is worse than a run that could not be judged.
fn exit(reports: &[ScenarioReport]) -> Exit {
    let verdicts = || reports.iter().flat_map(|report| &report.verdicts);
    if verdicts().any(|verdict| verdict.standing == Standing::Missed) {
        return Exit::Missed;
    }
    let unjudged = verdicts().any(|verdict| verdict.standing == Standing::Unknown);
    let void = reports
        .iter()
        .flat_map(|report| &report.entries)
        .any(|entry| entry.runs == 0);
    if unjudged || void {
        Exit::Environment
    } else {
        Exit::Ok
    }
}
